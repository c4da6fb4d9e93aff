//! A learner's clients: their writes and syncs go to the leader, and come back in its order.
//!
//! Counterpart in the original: `FollowerRequestProcessor`, `LearnerZooKeeperServer`.

use std::collections::BTreeMap;
use std::sync::Arc;

use rookeeper_proto::connect::ConnectRequest;
use rookeeper_proto::quorum::{ForwardedRequest, QuorumPacket};
use rookeeper_proto::{ErrorCode, Id, OpCode, SessionId, Zxid};

use crate::clients::connection::Connection;
use crate::clients::handshake::Wish;
use crate::clients::read::ReadFrame;
use crate::clients::requests::{ClientInput, Sorted, Write};
use crate::clients::session::Owner;
use crate::core::{Core, Reply};
use crate::member::Member;
use crate::state::learning::Learning;
use crate::state::learning::forwarded::{Asked, Synced};
use crate::time::Time;
use rookeeper_zab::{LeaveReason, LinkId};

/// With this zxid a leader of this kind takes a packet for no answer to a ping; the original looks at the sessions only.
pub(super) const NO_ANSWER: Zxid = Zxid::ZERO;

/// Who wants to resume a session, in the order in which the leader was asked, until it says whether the session lives.
pub(crate) type Resuming = BTreeMap<SessionId, Vec<Resumer>>;

#[derive(Debug)]
pub(crate) enum Resumer {
    Client(Arc<Connection>, ConnectRequest),
    /// A client of an observer that this server feeds.
    Observer(LinkId),
}

impl Learning {
    /// A client wants a session, which the leader has to create, or has one, which the leader has to know.
    pub fn connect(
        &mut self,
        core: &mut Core,
        member: &Member,
        now: Time,
        connection: Arc<Connection>,
        request: ConnectRequest,
    ) {
        let newest = core.last_zxid().max(member.epoch_begins());
        match core.greet(&connection, &request, newest) {
            None => {}
            Some(Wish::NewSession) if core.rules.local_sessions => core.open_local_session(now, &connection, &request),
            Some(Wish::NewSession) => {
                let (session, timeout_ms, reply) = core.new_session(now, connection, &request, true);
                self.create_session(session, timeout_ms, Some(reply));
            }
            Some(Wish::Resume { is_local: true }) => core.resume_unless_closing(now, &connection, &request),
            Some(Wish::Resume { is_local: false }) => self.revalidate(core, connection, request),
        }
    }

    /// What a client of this server asks for.
    pub fn take_client_input(&mut self, core: &mut Core, now: Time, input: ClientInput) {
        match input {
            ClientInput::Write(write) => self.write(core, now, write),
            ClientInput::Read { connection, read } => self.read(core, now, connection, read),
            ClientInput::Disconnected { connection } => {
                self.heard_sessions.note_departure(&connection);
                core.detach(&connection);
            }
        }
    }

    fn write(&mut self, core: &mut Core, now: Time, write: Write) {
        let reply = write.reply(now);
        let session = reply.connection.session();
        let sorted = core.sort(now.monotonic_ms, &write);
        // Its end waits in this server only, so the leader can't tell that this comes behind it.
        let is_behind_end = core.is_local(session) && core.shared.sessions().is_closing(session);
        let code = match sorted {
            Sorted::Left => return,
            Sorted::ClosesLocal(read) => return self.read(core, now, write.connection, read),
            _ if write.request.is_none() => ErrorCode::MarshallingError,
            _ if is_behind_end => ErrorCode::SessionExpired,
            Sorted::Refused(code) => code,
            Sorted::Goes => return self.forward_write(&write, reply),
            Sorted::GoesBehindUpgrade { timeout_ms } => {
                core.shared.sessions().globalize(session);
                self.create_session(session, timeout_ms, None);
                return self.forward_write(&write, reply);
            }
        };
        self.forwarded.push(Asked::Refused { code, reply });
        self.answer_refused(core, now);
    }

    /// Asks the leader to make a session. Nobody waits for it where its client has a local session already.
    fn create_session(&mut self, session: SessionId, timeout_ms: i32, reply: Option<Reply>) {
        self.forward((session, 0), OpCode::CreateSession, &timeout_ms.to_be_bytes(), None, reply);
    }

    fn forward_write(&mut self, write: &Write, reply: Reply) {
        let request = (reply.connection.session(), write.xid);
        self.forward(request, write.op, &write.body, Some(write.identities.to_vec()), Some(reply));
    }

    fn forward(
        &mut self,
        (session, cxid): (SessionId, i32),
        op: OpCode,
        body: &[u8],
        identities: Option<Vec<Id>>,
        reply: Option<Reply>,
    ) {
        self.forwarded.push(Asked::Write { session, cxid, reply });
        let request = ForwardedRequest { session, cxid, op: op.number(), body, identities };
        self.learner.send(&QuorumPacket::Request(request));
    }

    /// A sync comes back behind everything the leader had proposed.
    fn read(&mut self, core: &mut Core, now: Time, connection: Arc<Connection>, read: ReadFrame) {
        if connection.is_cut() {
            core.leave_read(&connection, &read);
        } else if read.op == OpCode::Sync {
            self.forward_sync(now, connection, read);
        } else if let Some(read) = self.forwarded.wait(&connection, read) {
            core.answer_read_now(now, &connection, &read);
        }
    }

    fn forward_sync(&mut self, now: Time, connection: Arc<Connection>, read: ReadFrame) {
        let session = connection.session();
        let identities = Some(read.identities.to_vec());
        let (xid, op) = (read.xid, OpCode::Sync);
        let request = ForwardedRequest { session, cxid: xid, op: op.number(), body: &read.body, identities };
        self.learner.send(&QuorumPacket::Request(request));
        let reply = Reply::of_read(connection, &read, now);
        self.forwarded.push(Asked::Sync { read, reply });
    }

    /// The oldest sync is answered.
    pub(super) fn sync_done(&mut self, core: &mut Core, now: Time) {
        let (read, reply, behind) = match self.forwarded.take_sync() {
            Some(Synced::Client { read, reply, behind }) => (read, reply, behind),
            Some(Synced::Observer(link)) => {
                self.answer_relayed_sync(link);
                return self.answer_refused(core, now);
            }
            None => return self.learner.leave(LeaveReason::SyncOutOfOrder),
        };
        let shared = core.shared.clone();
        let tree = shared.tree();
        for read in std::iter::once(&read).chain(&behind) {
            core.answer_read(now, &tree, &reply.connection, read);
        }
        drop(tree);
        self.answer_refused(core, now);
    }

    /// Answers what stands at the head of the queue and needs no leader.
    pub(super) fn answer_refused(&mut self, core: &mut Core, now: Time) {
        while let Some((code, reply, behind)) = self.forwarded.take_refused() {
            core.refuse(now, code, &reply, &behind);
        }
    }

    /// Asks the leader whether a session lives that a client wants to resume here.
    fn revalidate(&mut self, core: &mut Core, connection: Arc<Connection>, request: ConnectRequest) {
        let session = request.session;
        // From here on the leader takes what this server sends for what the new connection asks.
        let before = core.shared.sessions().get(session).and_then(|known| known.connection.clone());
        if let Some(before) = before {
            core.hang_up(&before);
        }
        // And nothing that an observer still sends for that session.
        core.shared.sessions().claim(session, Owner::Client(connection.id));
        let timeout_ms = core.negotiate(&request);
        self.learner.send(&QuorumPacket::Revalidate { session, timeout_ms });
        self.resuming.entry(session).or_default().push(Resumer::Client(connection, request));
    }

    pub(super) fn revalidated(&mut self, core: &mut Core, now: Time, session: SessionId, valid: bool) {
        let Some(waiting) = self.resuming.get_mut(&session) else { return };
        let resumer = waiting.remove(0);
        if waiting.is_empty() {
            self.resuming.remove(&session);
        }
        let (connection, request) = match resumer {
            Resumer::Client(connection, request) => (connection, request),
            Resumer::Observer(link) => return self.answer_relayed_revalidation(link, session, valid),
        };
        if valid {
            core.resume(now, &connection, &request);
        } else {
            core.refuse_session(&connection, &request);
        }
    }

    /// Answers a ping with sessions heard of since the last one. Where there are many, the others are told of by [`Learning::look_on`].
    pub(super) fn pong(&mut self, core: &mut Core, now: Time, zxid: Zxid) {
        self.heard_sessions.begin_look(now.monotonic_ms);
        self.tell_of_sessions(core, now, Some(zxid));
    }

    /// Tells the leader of another portion of the sessions, if there is one.
    pub(super) fn look_on(&mut self, core: &mut Core, now: Time) {
        if self.heard_sessions.is_looking() {
            self.tell_of_sessions(core, now, None);
        }
    }

    /// Sends a portion of what there is to tell, with the answer to a ping where there is one to answer; and ends connections whose
    /// clients have left.
    fn tell_of_sessions(&mut self, core: &mut Core, now: Time, answer: Option<Zxid>) {
        let (touches, abandoned) = self.heard_sessions.next_portion(core, now);
        for connection in abandoned {
            core.hang_up(&connection);
        }
        if answer.is_some() || !touches.is_empty() {
            self.learner.pong(answer.unwrap_or(NO_ANSWER), touches);
        }
    }
}
