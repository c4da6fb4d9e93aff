//! One server: takes requests and the disk's answers in, gives out what to write and whom to wake.
//!
//! What always holds here:
//! - a transaction is applied and answered only after it is committed, and committed only after a quorum has it on disk;
//! - a connection's answers go into its outbox in the order of its requests;
//! - a read behind a write runs right after that write is applied and before the session's next one;
//! - nothing here waits, reads a clock or does IO: effects leave through [`Replica::poll`].
//!
//! The life of a write: [`Replica::handle`] prepares it, gives it a zxid and keeps it in `in_flight` (`state/leading/propose.rs`); [`Output::Append`] asks
//! for it to be made durable; [`Input::Synced`] commits it; `write/apply.rs` applies and answers it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::connect::ConnectResponse;
use rookeeper_proto::request::WriteRequest;
use rookeeper_proto::{ErrorCode, OpCode, SessionId, Txn, TxnHeader, Zxid};
use rookeeper_tree::Tree;
use rookeeper_zab::leader::Leader;
use rookeeper_zab::learner::Learner;
use rookeeper_zab::{History, Membership};

use crate::clients::arrivals::Arrivals;
use crate::clients::connection::{Connection, Identities};
use crate::clients::local::Upgrade;
use crate::clients::read::{self, ReadFrame};
use crate::clients::session::Owner;
use crate::clients::shared::Shared;
use crate::contract::{Input, Output};
use crate::member::Member;
use crate::state::leading::ended::EndedSessions;
use crate::state::leading::propose::ProposalBytes;
use crate::state::leading::reaper::Reaper;
use crate::state::leading::requests::Syncs;
use crate::state::learning::forwarded::Forwarded;
use crate::status::Serving;
use crate::time::Time;
use crate::write::pending::{Pending, Touched};

/// A prepared transaction on its way to being committed.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub header: TxnHeader,
    pub txn: Txn,
    pub digest: Option<i64>,
    pub touched: Touched,
    pub reply: Option<Reply>,
    /// Reads of the same connection that came after it, and before its next write.
    pub reads: Vec<ReadFrame>,
}

/// Who waits for a transaction, and in what form.
#[derive(Debug)]
pub(crate) struct Reply {
    pub connection: Arc<Connection>,
    pub xid: i32,
    pub op: OpCode,
    pub received_ms: i64,
    /// The answer to a handshake is a record of its own.
    pub handshake: Option<ConnectResponse>,
}

/// Who decides.
#[derive(Debug)]
pub(crate) enum Role {
    /// Nobody that is known.
    Looking,
    /// This server. A standalone one leads alone.
    Leading(Box<Leader>),
    /// Another one.
    Learning(Box<Learner>),
}

#[derive(Debug)]
pub struct Replica {
    pub(crate) shared: Arc<Shared>,
    pub(crate) role: Role,
    /// None for a standalone server.
    pub(crate) member: Option<Box<Member>>,
    pub(crate) history: History,
    /// What the leader that this server is has prepared and not applied.
    pub(crate) pending: Pending,
    /// Logged or about to be, and not applied: what the history holds above its committed end, decoded.
    pub(crate) in_flight: VecDeque<InFlight>,
    /// What this server's clients wait for from its leader.
    pub(crate) forwarded: Forwarded,
    /// Of the sessions that this leader has seen end.
    pub(crate) ended: EndedSessions,
    /// Syncs that wait until it is confirmed that this server leads.
    pub(crate) syncs: Syncs,
    /// Sizes of this leader's proposals.
    pub(crate) proposal_bytes: ProposalBytes,
    /// The membership that the last reconfiguration applied has made, until it is put into force.
    pub(crate) reconfigured: Option<Membership>,
    /// Off while a tree that came as a snapshot is behind what it shows.
    pub(crate) compare_digests: bool,
    /// A digest differed, and has not been equal since.
    pub(crate) digest_differs: bool,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) to_wake: Vec<Arc<Connection>>,
    pub(crate) reaper: Reaper,
    pub(crate) arrivals: Arrivals,
}

/// Deferred events delivered per call, so that no call takes long.
const DEFERRED_PER_CALL: usize = 2000;

impl Replica {
    /// A standalone server, which leads alone. Takes over a recovered tree, whose sessions all have their full timeout ahead of them.
    pub fn new(shared: Arc<Shared>, now: Time) -> Replica {
        let last = shared.tree().last_zxid();
        let leader = Leader::standalone(shared.settings.server, last);
        let sessions: Vec<_> = shared.tree().sessions().collect();
        shared.sessions().restart(true, sessions.into_iter(), now.monotonic_ms);
        // Nobody will ever ask for what is committed.
        Replica::with_role(shared, Role::Leading(Box::new(leader)), History::new(last, 0), now)
    }

    pub(crate) fn with_role(shared: Arc<Shared>, role: Role, history: History, now: Time) -> Replica {
        let pending = Pending::new(&shared.tree());
        Replica {
            pending,
            role,
            member: None,
            history,
            in_flight: VecDeque::new(),
            forwarded: Forwarded::default(),
            ended: EndedSessions::default(),
            syncs: Syncs::default(),
            proposal_bytes: ProposalBytes::default(),
            reconfigured: None,
            compare_digests: true,
            digest_differs: false,
            outputs: VecDeque::new(),
            to_wake: Vec::new(),
            reaper: Reaper::new(shared.settings.reaping, now.monotonic_ms),
            arrivals: Arrivals::default(),
            shared,
        }
    }

    /// Takes one event in. Never blocks.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Connect { .. } | Input::Write { .. } | Input::Read { .. } | Input::Disconnected { .. } => {
                if let Some(input) = self.syncs.hold(input) {
                    self.take_client_input(now, input);
                }
            }
            Input::Synced { zxid } => {
                self.note_durable(now, zxid);
                self.history.synced(zxid);
                match &mut self.role {
                    Role::Leading(leader) => leader.synced(now.monotonic_ms, zxid),
                    Role::Learning(learner) => learner.synced(zxid),
                    Role::Looking => {}
                }
            }
            Input::Tick => {}
            input => self.take_member_input(now, input),
        }
        self.pump(now);
        self.pass_time(now);
        self.admit_arrivals(now);
        self.pump(now);
        self.publish_standing();
        if self.shared.has_deferred() {
            self.shared.deliver_deferred(DEFERRED_PER_CALL, &mut self.to_wake);
        }
    }

    pub(crate) fn take_client_input(&mut self, now: Time, input: Input) {
        match input {
            Input::Connect { connection, request } => self.connect(now, connection, request),
            Input::Write { connection, xid, op, request, body, identities } => {
                self.write(now, connection, (xid, op), request, &body, &identities);
            }
            Input::Read { connection, read } => self.read(now, connection, read),
            Input::Disconnected { connection } => {
                if matches!(self.role, Role::Learning(_)) {
                    self.note_departure(&connection);
                }
                self.shared.sessions().detach(connection.session(), &connection);
            }
            _ => unreachable!("only clients' inputs come here"),
        }
    }

    /// The next effect. Drain after every [`Replica::handle`].
    pub fn poll(&mut self) -> Option<Output> {
        // Wakes go last: who hears of a commit here and asks another server right away should find it there.
        self.outputs.pop_front().or_else(|| self.to_wake.pop().map(Output::Wake))
    }

    /// When to call [`Replica::handle`] with [`Input::Tick`] if nothing else happens, in monotonic milliseconds.
    pub fn deadline_ms(&self) -> Option<i64> {
        if self.shared.has_deferred() {
            return Some(i64::MIN);
        }
        let reaper = self.decides().then(|| self.reaper.deadline_ms());
        let arrivals = self.arrivals_deadline_ms();
        [self.session_deadline_ms(), reaper, self.member_deadline_ms(), arrivals].into_iter().flatten().min()
    }

    /// Nothing expires while nobody is served: sessions have their full timeout ahead of them when that begins again, and a leader
    /// that does not decide yet must not propose.
    fn session_deadline_ms(&self) -> Option<i64> {
        if self.shared.bulletin.serving() == Serving::Nobody {
            return None;
        }
        self.shared.sessions().deadline_ms()
    }

    /// The process stood still, see [`crate::pulse`]. Call before anything else is handed in.
    pub fn stood_still(&mut self, from_ms: i64, to_ms: i64) {
        self.shared.sessions().stood_still(from_ms, to_ms);
    }

    pub fn tick_time_ms(&self) -> i64 {
        self.shared.settings.tick_time_ms
    }

    /// Transactions on their way, and requests that wait for a leader.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len() + self.forwarded.len()
    }

    /// Events that still have to reach some of their watchers. With many of them, no further requests should be handed in.
    pub fn deferred_events(&self) -> usize {
        self.shared.deferred_events()
    }

    /// Whether this server decides about writes.
    fn decides(&self) -> bool {
        matches!(self.role, Role::Leading(_)) && self.shared.bulletin.serving() == Serving::Deciding
    }

    fn write(
        &mut self,
        now: Time,
        connection: Arc<Connection>,
        (xid, op): (i32, OpCode),
        request: Option<WriteRequest>,
        body: &[u8],
        identities: &Identities,
    ) {
        if connection.is_cut() {
            self.shared.settle(&connection);
            return;
        }
        let (session, owner) = (connection.session(), Owner::Client(connection.id));
        let reply = Reply { connection, xid, op, received_ms: now.monotonic_ms, handshake: None };
        if op == OpCode::CloseSession && self.is_local(session) {
            self.close_local(now, reply.connection, xid, identities);
            return;
        }
        let refused = request.as_ref().and_then(|request| self.eagerly_refused(request, identities));
        if refused.is_none()
            && let Some(request) = &request
            && let Upgrade::Needed { timeout_ms } = self.upgrade_for(session, owner, request)
        {
            self.upgrade(now, session, timeout_ms);
        }
        match self.shared.bulletin.serving() {
            Serving::ReadOnly => {
                self.refuse_read_only(now, reply);
                return;
            }
            Serving::Forwarding if request.is_none() => {
                self.refuse_in_turn(now, ErrorCode::MarshallingError, reply);
                return;
            }
            // Its end waits in this server only, so the leader can't tell that this comes behind it.
            Serving::Forwarding if self.is_local(session) && self.shared.sessions().is_closing(session) => {
                self.refuse_in_turn(now, ErrorCode::SessionExpired, reply);
                return;
            }
            Serving::Forwarding => {
                match refused {
                    Some(code) => self.refuse_in_turn(now, code, reply),
                    None => self.forward_write(body, identities, reply),
                }
                return;
            }
            Serving::Deciding if let Some(code) = refused => {
                self.refuse_behind(now, code, reply, identities);
                return;
            }
            Serving::Deciding | Serving::Nobody => {}
        }
        let txn = match request {
            Some(request) => match self.check_session(session, owner, &request) {
                Ok(()) => self.prepare_write(now, session, identities, request),
                Err(ErrorCode::SessionMoved) => {
                    // The client has left this connection, and nobody waits for an answer.
                    self.shared.settle(&reply.connection);
                    return;
                }
                Err(code) => Txn::Error { code: code.number() },
            },
            None if self.shared.sessions().is_closing(session) => {
                Txn::Error { code: ErrorCode::SessionExpired.number() }
            }
            None => Txn::Error { code: ErrorCode::MarshallingError.number() },
        };
        self.propose(now, session, xid, txn, Some(reply));
    }

    /// A read behind a request of its connection waits with it. Where that was answered in the meantime, it runs now. A sync asks whoever
    /// leads.
    pub(crate) fn read(&mut self, now: Time, connection: Arc<Connection>, read: ReadFrame) {
        if connection.is_cut() {
            self.shared.settle(&connection);
            return;
        }
        let serving = self.shared.bulletin.serving();
        let is_sync = read.op == OpCode::Sync;
        let read = match serving {
            Serving::Forwarding if is_sync => return self.forward_sync(now, connection, read),
            Serving::ReadOnly if is_sync => {
                let (xid, op) = (read.xid, read.op);
                let reply = Reply { connection, xid, op, received_ms: now.monotonic_ms, handshake: None };
                return self.refuse_read_only(now, reply);
            }
            Serving::Forwarding => self.wait_with_forwarded(&connection, read),
            Serving::Deciding if is_sync && self.member.is_some() => {
                return self.take_client_sync(now, connection, read);
            }
            _ => match self.in_flight.binary_search_by_key(&connection.last_write(), |write| write.header.zxid) {
                Ok(index) => {
                    self.in_flight[index].reads.push(read);
                    None
                }
                Err(_) => Some(read),
            },
        };
        if let Some(read) = read {
            let shared = self.shared.clone();
            let tree = shared.tree();
            self.answer_read(now, &tree, &connection, &read);
        }
    }

    pub(crate) fn answer_read(&mut self, now: Time, tree: &Tree, connection: &Arc<Connection>, read: &ReadFrame) {
        let shared = &self.shared;
        shared.serve_deferred_to(connection);
        if read.op == OpCode::CloseSession {
            return self.answer_close_local(now, tree.last_zxid(), connection, read);
        }
        if read.op.is_write() {
            return self.answer_refused_behind(now, tree, connection, read);
        }
        let mut answer = Vec::with_capacity(128);
        let request = (read.xid, read.op, read.body.as_slice());
        let frames = read::answer(shared, tree, connection, &read.identities, request, &mut answer);
        connection.outbox.append_frames(frames, |output| output.append(&mut answer));
        let latency_ms = (now.monotonic_ms - read.received_ms).max(0);
        shared.statistics.read_latency_ms.record(latency_ms as u64);
        self.note_answer(now, connection, (read.op, read.xid), tree.last_zxid(), latency_ms);
    }

    pub(crate) fn note_answer(
        &mut self,
        now: Time,
        connection: &Arc<Connection>,
        (op, xid): (OpCode, i32),
        zxid: Zxid,
        latency_ms: i64,
    ) {
        self.shared.statistics.request_latency_ms.record(latency_ms as u64);
        connection.statistics.answered(1, (op, xid), zxid, now.monotonic_ms, latency_ms);
        self.shared.settle(connection);
        // Always: a task that holds back waits for its requests to be settled, not only for bytes.
        if self.to_wake.last() != Some(connection) {
            self.to_wake.push(connection.clone());
        }
    }

    fn pass_time(&mut self, now: Time) {
        self.pass_member_time(now);
        if self.session_deadline_ms().is_some_and(|due| due <= now.monotonic_ms) {
            let expired = self.shared.sessions().expired(now.monotonic_ms);
            for expired in expired {
                self.expire(now, expired);
            }
        }
        if self.decides() {
            let shared = self.shared.clone();
            while let Some(path) = self.reaper.next(now, || shared.tree()) {
                self.prepare_internal(now, SessionId::NONE, |prepare| prepare.reap(path));
            }
        }
    }

    fn expire(&mut self, now: Time, (session, timeout_ms): (SessionId, i32)) {
        self.shared.statistics.sessions_expired.fetch_add(1, Relaxed);
        self.outputs.push_back(Output::SessionExpired { session, timeout_ms });
        if !self.is_local(session) {
            self.prepare_internal(now, session, |prepare| Ok(prepare.close_session()));
            return;
        }
        let ended = self.shared.sessions().remove(session);
        if let Some(connection) = ended.and_then(|session| session.connection) {
            self.hang_up(&connection);
        }
    }
}
