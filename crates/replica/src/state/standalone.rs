//! A server alone: it decides without asking anybody, with its own disk as the quorum. Its requests go the same way as those of a leader's
//! own clients, through the same [`Proposer`].
//!
//! Counterpart in the original: `ZooKeeperServer`.

use std::sync::Arc;

use rookeeper_proto::connect::ConnectRequest;
use rookeeper_proto::{OpCode, SessionId, Txn, Zxid};
use rookeeper_tree::Tree;
use rookeeper_zab::leader::{Leader, LeaderOutput};

use crate::check::{Broken, must};
use crate::clients::connection::Connection;
use crate::clients::handshake::Wish;
use crate::clients::requests::{ClientInput, Write};
use crate::contract::{NotRestored, Output, Stored};
use crate::core::{Core, Reply};
use crate::inputs::Sorted;
use crate::reasons::Event;
use crate::state::restoring::Restoring;
use crate::state::syncs::{Asked, Asker, Held, Syncs};
use crate::status::Serving;
use crate::time::{Deadline, Time};
use crate::write::apply::Committer;
use crate::write::proposer::{Proposer, judged};

#[derive(Debug)]
pub(crate) struct Standalone {
    proposer: Proposer,
    syncs: Syncs,
    /// What an operator wants to be served from now on.
    restoring: Option<Restoring>,
}

impl Committer for Standalone {
    fn applied(&mut self, zxid: Zxid, limit: usize) -> usize {
        self.proposer.applied(zxid, limit)
    }
}

impl Standalone {
    /// Sessions of the recovered tree all have their full timeout ahead of them.
    pub fn new(core: &Core, now: Time) -> Standalone {
        let tree = core.shared.tree();
        core.shared.sessions().restart(true, tree.sessions(), now.monotonic_ms);
        drop(tree);
        Standalone { proposer: proposer(core, now), syncs: Syncs::default(), restoring: None }
    }

    /// Takes one event in, and does what there is to do by now.
    pub fn handle(&mut self, core: &mut Core, now: Time, input: Sorted) {
        self.take(core, now, input);
        self.pump(core, now);
        if let Some(restoring) = &mut self.restoring {
            // What time brings are transactions.
            return restoring.try_to_store(core);
        }
        self.pass_time(core, now);
        self.pump(core, now);
    }

    fn take(&mut self, core: &mut Core, now: Time, input: Sorted) {
        match (input, &mut self.restoring) {
            (input @ (Sorted::Connect(..) | Sorted::Client(_)), Some(restoring)) => restoring.hold(input),
            (input, _) => self.take_now(core, now, input),
        }
    }

    fn take_now(&mut self, core: &mut Core, now: Time, input: Sorted) {
        match input {
            Sorted::Connect(connection, request) => self.connect(core, now, connection, &request),
            Sorted::Client(input) => self.take_client_input(core, now, input),
            Sorted::Synced(zxid) => {
                core.history.synced(zxid);
                self.proposer.leader.synced(now.monotonic_ms, zxid);
            }
            Sorted::Restore(_) if self.restoring.is_some() => core.put(Output::Restored(Err(NotRestored::Busy))),
            Sorted::Restore(tree) => self.restoring = Some(Restoring::new(tree, now)),
            Sorted::Stored(Stored::Restored { zxid, tree }) => {
                self.begin_anew(core, now, zxid, *tree);
                self.end_restoring(core, now, Ok(zxid));
            }
            Sorted::Stored(Stored::NotRestored { why }) => {
                self.end_restoring(core, now, Err(NotRestored::NotWritten(why)));
            }
            // There are no others, and nothing else to store.
            Sorted::Stored(_)
            | Sorted::Election(_)
            | Sorted::Learner(..)
            | Sorted::Leader(..)
            | Sorted::Oracle { .. }
            | Sorted::Tick => {}
        }
    }

    fn take_client_input(&mut self, core: &mut Core, now: Time, input: ClientInput) {
        match self.syncs.hold(input) {
            None => {}
            Some(ClientInput::Write(write)) => self.write(core, now, write),
            Some(ClientInput::Disconnected { connection }) => core.detach(&connection),
            Some(ClientInput::Read { connection, read }) => {
                if connection.is_cut() {
                    core.shared.settle(&connection);
                } else if read.op == OpCode::Sync {
                    // Nobody has to be asked whether this server decides.
                    self.syncs.push(self.proposer.leader.proposed(), 0, Asked::Client(connection, read));
                } else if let Some(read) = core.wait_with_write(&connection, read) {
                    core.answer_read_now(now, &connection, &read);
                }
            }
        }
    }

    /// Answers a sync before which nothing is on its way any more, and takes what came behind it: not even a restore holds that back, for it came
    /// later. False where no sync is to be answered.
    fn answer_sync(&mut self, core: &mut Core, now: Time) -> bool {
        let Some(Asked::Client(connection, read)) = self.syncs.pop_due(core.history.committed()) else { return false };
        if connection.is_cut() {
            core.leave_read(&connection, &read);
        } else {
            core.answer_read_now(now, &connection, &read);
        }
        for held in self.syncs.release(Asker::Client(connection.id.0)) {
            // A server alone has no learners.
            if let Held::Client(input) = held {
                self.take_client_input(core, now, input);
            }
        }
        true
    }

    /// Another tree is served from now on. Every session is over, because what its client knows of the data is no longer so.
    fn begin_anew(&mut self, core: &mut Core, now: Time, zxid: Zxid, tree: Tree) {
        // Nobody may see a part of the new tree on a connection on which watches of the old one were set.
        core.stop_serving(Vec::new(), std::mem::take(&mut self.syncs).abandon());
        core.begin_with(zxid, tree);
        core.shared.sessions().restart(true, std::iter::empty(), now.monotonic_ms);
        self.proposer = proposer(core, now);
    }

    fn end_restoring(&mut self, core: &mut Core, now: Time, restored: Result<Zxid, NotRestored>) {
        core.put(Output::Restored(restored));
        let held = self.restoring.take().map(|restoring| restoring.end(core, now));
        for input in held.into_iter().flatten() {
            self.take(core, now, input);
        }
    }

    /// Whether clients' requests are held back.
    pub fn is_restoring(&self) -> bool {
        self.restoring.is_some()
    }

    fn connect(&mut self, core: &mut Core, now: Time, connection: Arc<Connection>, request: &ConnectRequest) {
        if !connection.outbox.is_open() {
            // The client did not wait.
            return;
        }
        let newest = core.last_zxid().max(Zxid::ZERO);
        match core.greet(&connection, request, newest) {
            None => {}
            Some(Wish::NewSession) => {
                let (session, timeout_ms, reply) = core.new_session(now, connection, request, false);
                self.propose(core, now, (session, 0), Txn::CreateSession { timeout_ms }, Some(reply));
            }
            Some(Wish::Resume { .. }) => core.resume_unless_closing(now, &connection, request),
        }
    }

    fn write(&mut self, core: &mut Core, now: Time, write: Write) {
        if write.connection.is_cut() {
            core.leave(&write);
            return;
        }
        let (reply, session) = (write.reply(now), write.connection.session());
        let Some(request) = judged(core, &reply, write.request) else { return };
        let txn = match request {
            Ok(request) => {
                self.proposer.prepare(core, now, session, &write.identities, |prepare| prepare.write(request))
            }
            Err(code) => Txn::Error { code: code.number() },
        };
        self.propose(core, now, (session, reply.xid), txn, Some(reply));
    }

    fn propose(&mut self, core: &mut Core, now: Time, request: (SessionId, i32), txn: Txn, reply: Option<Reply>) {
        let sealed = self.proposer.seal(core, now, request, txn, reply);
        self.proposer.propose(core, now, sealed);
    }

    fn pass_time(&mut self, core: &mut Core, now: Time) {
        for expired in core.expired_sessions(now) {
            if core.expire(expired) {
                let session = expired.0;
                let txn = self.proposer.prepare(core, now, session, &[], |prepare| Ok(prepare.close_session()));
                self.propose(core, now, (session, 0), txn, None);
            }
        }
        while let Some(path) = self.proposer.next_to_reap(core, now) {
            let txn = self.proposer.prepare(core, now, SessionId::NONE, &[], |prepare| prepare.reap(path));
            self.propose(core, now, (SessionId::NONE, 0), txn, None);
        }
    }

    /// What must hold after each event, see [`Replica::check`](crate::Replica::check).
    pub fn check(&self, core: &Core) -> Result<(), Broken> {
        must(core.serving() == Serving::Deciding, "a server alone decides")?;
        self.proposer.check(core)
    }

    /// When there is something to do although nothing happens.
    pub fn deadline(&self, core: &Core) -> Deadline {
        if self.is_restoring() {
            return Deadline::Never;
        }
        let reaper = Deadline::At(self.proposer.reaper_deadline_ms());
        reaper.min(core.session_deadline_ms().into()).min(self.proposer.leader.deadline_ms().into())
    }

    /// Carries out what the leader asks for, until it asks for nothing more.
    fn pump(&mut self, core: &mut Core, now: Time) {
        loop {
            match self.proposer.leader.poll() {
                Some(LeaderOutput::Committed(zxid)) => {
                    core.commit(now, zxid, self);
                }
                Some(LeaderOutput::Log(event)) => core.log(Event::Leader(event)),
                Some(other) => debug_assert!(false, "a leader without an ensemble asks for {other:?}"),
                None if self.answer_sync(core, now) => {}
                None => return,
            }
        }
    }
}

/// For a server alone, behind the end of its history.
fn proposer(core: &Core, now: Time) -> Proposer {
    let leader = Leader::standalone(core.shared.settings.server, core.history.last());
    Proposer::new(core, leader, now)
}
