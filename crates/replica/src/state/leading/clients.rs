//! What a leader's own clients ask for.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::connect::ConnectRequest;
use rookeeper_proto::request::WriteRequest;
use rookeeper_proto::{Id, OpCode, SessionId, Txn};

use crate::clients::connection::Connection;
use crate::clients::eager;
use crate::clients::handshake::Wish;
use crate::clients::read::ReadFrame;
use crate::clients::requests::{ClientInput, Sorted, Write};
use crate::core::{Core, Reply};
use crate::member::Member;
use crate::state::leading::Leading;
use crate::time::Time;
use crate::write::proposer::{judged, reconfigured};

impl Leading {
    /// A client wants a session, or has one.
    pub fn connect(
        &mut self,
        core: &mut Core,
        member: &mut Member,
        now: Time,
        connection: Arc<Connection>,
        request: &ConnectRequest,
    ) {
        if !member.settings.leader_serves {
            core.hang_up(&connection);
            return;
        }
        let newest = core.last_zxid().max(member.epoch_begins());
        match core.greet(&connection, request, newest) {
            None => {}
            Some(Wish::NewSession) if core.rules.local_sessions => core.open_local_session(now, &connection, request),
            Some(Wish::NewSession) => {
                let (session, timeout_ms, reply) = core.new_session(now, connection, request, false);
                self.propose(core, member, now, (session, 0), Txn::CreateSession { timeout_ms }, Some(reply));
            }
            Some(Wish::Resume { .. }) => core.resume_unless_closing(now, &connection, request),
        }
    }

    /// What a client of this server asks for.
    pub fn take_client_input(&mut self, core: &mut Core, member: &mut Member, now: Time, input: ClientInput) {
        match self.syncs.hold(input) {
            None => {}
            Some(ClientInput::Write(write)) => self.write(core, member, now, write),
            Some(ClientInput::Read { connection, read }) => self.read(core, now, connection, read),
            Some(ClientInput::Disconnected { connection }) => core.detach(&connection),
        }
    }

    fn write(&mut self, core: &mut Core, member: &mut Member, now: Time, write: Write) {
        let session = write.connection.session();
        match core.sort(now.monotonic_ms, &write) {
            Sorted::Left => return,
            Sorted::ClosesLocal(read) => return self.read(core, now, write.connection, read),
            Sorted::Refused(code) => {
                let (connection, read) = eager::refused_behind(now, code, write);
                return self.read(core, now, connection, read);
            }
            Sorted::Goes => {}
            Sorted::GoesBehindUpgrade { timeout_ms } => {
                core.shared.sessions().globalize(session);
                self.propose(core, member, now, (session, 0), Txn::CreateSession { timeout_ms }, None);
            }
        }
        let (reply, identities) = (write.reply(now), write.identities);
        let Some(request) = judged(core, &reply, write.request) else { return };
        let txn = match request {
            Ok(request) => self.prepare_write(core, member, now, session, &identities, request),
            Err(code) => Txn::Error { code: code.number() },
        };
        self.propose(core, member, now, (session, reply.xid), txn, Some(reply));
    }

    /// A sync asks the others whether this server still leads.
    fn read(&mut self, core: &mut Core, now: Time, connection: Arc<Connection>, read: ReadFrame) {
        if connection.is_cut() {
            core.leave_read(&connection, &read);
        } else if read.op == OpCode::Sync {
            self.take_client_sync(now, connection, read);
        } else if let Some(read) = core.wait_with_write(&connection, read) {
            core.answer_read_now(now, &connection, &read);
        }
    }

    /// Checks a request against the tree as it will be.
    pub(super) fn prepare_write(
        &mut self,
        core: &Core,
        member: &Member,
        now: Time,
        session: SessionId,
        identities: &[Id],
        request: WriteRequest,
    ) -> Txn {
        match request {
            WriteRequest::Reconfig(request) => {
                let membership = self.check_reconfig(core, member, &request);
                self.proposer.prepare(core, now, session, identities, |prepare| prepare.reconfig(membership?))
            }
            request => self.proposer.prepare(core, now, session, identities, |prepare| prepare.write(request)),
        }
    }

    /// Gives a prepared transaction its place in the order and sends it to the log and to the learners.
    pub(super) fn propose(
        &mut self,
        core: &mut Core,
        member: &mut Member,
        now: Time,
        request: (SessionId, i32),
        txn: Txn,
        reply: Option<Reply>,
    ) {
        let sealed = self.proposer.seal(core, now, request, txn, reply);
        core.shared.statistics.member.proposals.fetch_add(1, Relaxed);
        match reconfigured(&sealed.next.txn, member.settings.multi_address) {
            Some(membership) => {
                // Should this server lose the lead before it is committed, it must not lead again without asking the new members too.
                member.see_membership(core, membership.clone());
                self.proposer.propose_reconfig(core, now, sealed, membership);
            }
            None => self.proposer.propose(core, now, sealed),
        }
    }
}
