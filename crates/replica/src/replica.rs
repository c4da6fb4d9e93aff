//! One server: takes requests and the disk's answers in, gives out what to write and whom to wake.
//!
//! What always holds here:
//! - a transaction is applied and answered only after it is committed, and committed only after a quorum has it on disk;
//! - a connection's answers go into its outbox in the order of its requests;
//! - a read behind a write runs right after that write is applied and before the session's next one;
//! - nothing here waits, reads a clock or does IO: effects leave through [`Replica::poll`].
//!
//! The life of a write: [`Replica::handle`] prepares it (`prepare.rs`), gives it a zxid and keeps it in `in_flight`;
//! [`Output::Append`] asks for it to be made durable; [`Input::Synced`] commits it; `commit.rs` applies and answers it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::connect::{ConnectRequest, ConnectResponse};
use rookeeper_proto::election::Notification;
use rookeeper_proto::frame;
use rookeeper_proto::request::WriteRequest;
use rookeeper_proto::{Digest, ErrorCode, Id, OpCode, ServerId, SessionId, Txn, TxnHeader, TxnRecord, Zxid};
use rookeeper_tree::Tree;
use rookeeper_zab::{Broadcast, HostPort, LinkId, Memberships, Quorum, Record, SyncPlan};

use crate::connection::{Connection, Identities};
use crate::ensemble::{EnsembleSettings, Epochs, Level, Store, Stored};
use crate::pending::{Pending, Touched};
use crate::prepare::Prepare;
use crate::read::{self, ReadFrame};
use crate::reaper::Reaper;
use crate::shared::Shared;
use crate::time::Time;

#[derive(Debug)]
pub enum Input {
    /// A connection sent its ConnectRequest.
    Connect {
        connection: Arc<Connection>,
        request: ConnectRequest,
    },
    /// A request for a change. `request` is `None` where it could not be decoded.
    /// `body` is the record as the client sent it, which only a server that forwards needs ([`Shared::forwards`]); empty elsewhere.
    Write {
        connection: Arc<Connection>,
        xid: i32,
        op: OpCode,
        request: Option<WriteRequest>,
        body: Vec<u8>,
        identities: Identities,
    },
    /// A read that stands behind a write of its connection.
    Read {
        connection: Arc<Connection>,
        read: ReadFrame,
    },
    /// The connection is gone; its session lives on.
    Disconnected {
        connection: Arc<Connection>,
    },
    /// This server has every transaction up to `zxid` on disk.
    Synced {
        zxid: Zxid,
    },
    /// The storage did what [`Output::Store`] asked for.
    Stored(Stored),
    /// Another member's vote.
    Notified {
        from: ServerId,
        notification: Notification,
    },
    /// A connection for elections stands, new or in place of another, and nothing was sent on it yet.
    ElectionLinkUp {
        server: ServerId,
    },
    /// There is no connection for elections any more: it ended, or an attempt to make one was refused.
    ElectionLinkDown {
        server: ServerId,
    },
    /// A server connected to the quorum port. `peer` is its address, for the log.
    LearnerConnected {
        link: LinkId,
        peer: String,
    },
    /// One or more whole packets.
    FromLearner {
        link: LinkId,
        packets: Vec<u8>,
    },
    LearnerGone {
        link: LinkId,
        why: String,
    },
    /// Answers [`Output::PlanSync`].
    SyncPlanned {
        link: LinkId,
        plan: SyncPlan,
    },
    /// What [`Output::Dial`] asked for succeeded.
    LeaderConnected {
        link: LinkId,
    },
    /// One or more whole packets, the one of type SNAP always the last of its input.
    FromLeader {
        link: LinkId,
        packets: Vec<u8>,
    },
    /// The stream that followed a SNAP packet is complete; this is what was in it. The tree's last zxid is that of the packet.
    SnapshotReceived {
        link: LinkId,
        tree: Box<Tree>,
        bytes: u64,
    },
    /// The connection ended, or could not be made.
    LeaderGone {
        link: LinkId,
        why: String,
    },
    /// Nothing but time passed.
    Tick,
}

#[derive(Debug)]
pub enum Output {
    /// Make this transaction durable, after all earlier ones. Answered by [`Input::Synced`].
    Append(Record),
    /// Answered by [`Input::Stored`] where its variant says so.
    Store(Store),
    /// Send a vote. One that was not sent yet is replaced, and never sent again on another connection. Makes a connection where
    /// there is none.
    Notify {
        to: ServerId,
        notification: Notification,
    },
    /// The members with whom to hold elections, at the start and whenever they change.
    Members(Arc<Memberships>),
    /// Connect to a server's quorum port, once, at any of these addresses.
    Dial {
        link: LinkId,
        server: ServerId,
        addresses: Vec<HostPort>,
    },
    /// End the connection to the leader, or the attempt. Nothing more is expected from it.
    Hangup {
        link: LinkId,
    },
    ToLeader {
        link: LinkId,
        bytes: Vec<u8>,
    },
    /// This and the two streams go out in the order in which they are polled.
    ToLearner {
        link: LinkId,
        bytes: Arc<[u8]>,
    },
    /// What can the log on disk do for a learner whose history ends at `after`? The leader has everything from `before` on in memory.
    PlanSync {
        link: LinkId,
        after: Zxid,
        before: Zxid,
    },
    /// Send PROPOSAL and COMMIT for every record of the log between the two, both excluded.
    StreamLog {
        link: LinkId,
        after: Zxid,
        before: Zxid,
    },
    /// Send SNAP with the last zxid of the shared tree, read when the stream begins, and the tree.
    StreamSnapshot {
        link: LinkId,
    },
    /// End the connection to a learner, after what was polled before has been sent where that is possible at once.
    DropLearner {
        link: LinkId,
        why: String,
    },
    /// A line for the log.
    Log {
        level: Level,
        text: String,
    },
    /// The connection's outbox has something for its task.
    Wake(Arc<Connection>),
    /// For the log of events.
    SessionOpened {
        session: SessionId,
        timeout_ms: i32,
        connection: Arc<Connection>,
    },
    SessionExpired {
        session: SessionId,
        timeout_ms: i32,
    },
    SessionClosed {
        session: SessionId,
    },
    /// This server computed another digest than it predicted for the same transaction: its state can't be trusted any more.
    DigestMismatch {
        zxid: Zxid,
        expected: i64,
        actual: i64,
    },
}

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

#[derive(Debug)]
pub struct Replica {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pending: Pending,
    pub(crate) in_flight: VecDeque<InFlight>,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) to_wake: Vec<Arc<Connection>>,
    broadcast: Broadcast,
    reaper: Reaper,
}

/// Deferred events delivered per call, so that no call takes long.
const DEFERRED_PER_CALL: usize = 2000;

impl Replica {
    /// A member of an ensemble, which begins by looking for a leader.
    pub fn member(shared: Arc<Shared>, settings: EnsembleSettings, epochs: Epochs, now: Time) -> Replica {
        let _ = (settings, epochs);
        Replica::new(shared, now)
    }

    /// A standalone server. Takes over a recovered tree, whose sessions all have their full timeout ahead of them.
    pub fn new(shared: Arc<Shared>, now: Time) -> Replica {
        let settings = &shared.settings;
        let (pending, last_zxid) = {
            let tree = shared.tree();
            let mut sessions = shared.sessions();
            for (session, timeout_ms) in tree.sessions() {
                sessions.add(session, timeout_ms, None, now.monotonic_ms);
            }
            (Pending::new(&tree), tree.last_zxid())
        };
        let broadcast = Broadcast::new(Quorum::majority([settings.server]), last_zxid);
        let reaper = Reaper::new(settings.reaping, now.monotonic_ms);
        Replica {
            pending,
            in_flight: VecDeque::new(),
            outputs: VecDeque::new(),
            to_wake: Vec::new(),
            broadcast,
            reaper,
            shared,
        }
    }

    /// Takes one event in. Never blocks.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Connect { connection, request } => self.connect(now, connection, request),
            Input::Write { connection, xid, op, request, body: _, identities } => {
                self.write(now, connection, xid, op, request, identities);
            }
            Input::Read { connection, read } => self.read(now, connection, read),
            Input::Disconnected { connection } => self.shared.sessions().detach(connection.session(), &connection),
            Input::Synced { zxid } => {
                if let Some(committed) = self.broadcast.acknowledge(self.shared.settings.server, zxid) {
                    self.commit(now, committed);
                }
            }
            Input::Stored(_)
            | Input::Notified { .. }
            | Input::ElectionLinkUp { .. }
            | Input::ElectionLinkDown { .. }
            | Input::LearnerConnected { .. }
            | Input::FromLearner { .. }
            | Input::LearnerGone { .. }
            | Input::SyncPlanned { .. }
            | Input::LeaderConnected { .. }
            | Input::FromLeader { .. }
            | Input::SnapshotReceived { .. }
            | Input::LeaderGone { .. }
            | Input::Tick => {}
        }
        self.pass_time(now);
        if self.shared.has_deferred() {
            self.shared.deliver_deferred(DEFERRED_PER_CALL, &mut self.to_wake);
        }
    }

    /// The next effect. Drain after every [`Replica::handle`].
    pub fn poll(&mut self) -> Option<Output> {
        // Wakes go first: answers should not wait for the log to take the next transactions.
        self.to_wake.pop().map(Output::Wake).or_else(|| self.outputs.pop_front())
    }

    /// When to call [`Replica::handle`] with [`Input::Tick`] if nothing else happens, in monotonic milliseconds.
    pub fn deadline_ms(&self) -> Option<i64> {
        if self.shared.has_deferred() {
            return Some(i64::MIN);
        }
        [self.shared.sessions().deadline_ms(), Some(self.reaper.deadline_ms())].into_iter().flatten().min()
    }

    /// Transactions prepared and not applied.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn connect(&mut self, now: Time, connection: Arc<Connection>, request: ConnectRequest) {
        let settings = &self.shared.settings;
        if request.last_zxid_seen > self.shared.tree().last_zxid() {
            // This client has seen a later state than this server has. It must not go back in time: let it go elsewhere.
            self.hang_up(&connection);
            return;
        }
        let timeout_ms = request.timeout_ms.clamp(settings.min_session_timeout_ms, settings.max_session_timeout_ms);
        let session = request.session;
        let response = |session: SessionId| ConnectResponse {
            timeout_ms,
            session,
            password: session.password(),
            read_only: request.read_only.map(|_| false),
        };
        if session == SessionId::NONE {
            let session = self.shared.sessions().new_id();
            self.shared.sessions().add(session, timeout_ms, Some(connection.clone()), now.monotonic_ms);
            let handshake = Some(response(session));
            let op = OpCode::CreateSession;
            let reply = Reply { connection, xid: 0, op, received_ms: now.monotonic_ms, handshake };
            self.shared.submit(&reply.connection);
            self.propose(now, session, 0, Txn::CreateSession { timeout_ms }, Some(reply));
            return;
        }
        // The password first: whoever does not know it must not be able to cut the connection of someone else's session.
        if request.password != session.password() || self.shared.sessions().is_closing(session) {
            let refusal = ConnectResponse::refused(request.read_only.map(|_| false));
            connection.outbox.append(|output| frame::append(output, |output| refusal.append(output)));
            connection.outbox.finish();
            self.to_wake.push(connection);
            return;
        }
        let before = self.shared.sessions().attach(session, connection.clone(), timeout_ms, now.monotonic_ms);
        if let Some(before) = before.filter(|before| *before != connection) {
            self.hang_up(&before);
        }
        self.establish(now, &connection, &response(session));
    }

    /// Answers a handshake; from here on requests are read.
    pub(crate) fn establish(&mut self, now: Time, connection: &Arc<Connection>, response: &ConnectResponse) {
        connection.heard(now.monotonic_ms);
        connection.establish(response.session, response.timeout_ms);
        connection.outbox.append(|output| frame::append(output, |output| response.append(output)));
        self.to_wake.push(connection.clone());
        let (session, timeout_ms) = (response.session, response.timeout_ms);
        self.outputs.push_back(Output::SessionOpened { session, timeout_ms, connection: connection.clone() });
    }

    /// Closes a connection without a word.
    pub(crate) fn hang_up(&mut self, connection: &Arc<Connection>) {
        connection.outbox.close();
        self.to_wake.push(connection.clone());
    }

    fn write(
        &mut self,
        now: Time,
        connection: Arc<Connection>,
        xid: i32,
        op: OpCode,
        request: Option<WriteRequest>,
        identities: Identities,
    ) {
        let session = connection.session();
        let reply = Reply { connection, xid, op, received_ms: now.monotonic_ms, handshake: None };
        let closing = self.shared.sessions().is_closing(session);
        let Some(request) = request.filter(|_| !closing) else {
            let code = if closing { ErrorCode::SessionExpired } else { ErrorCode::MarshallingError };
            self.propose(now, session, xid, Txn::Error { code: code.number() }, Some(reply));
            return;
        };
        if request == WriteRequest::CloseSession {
            self.shared.sessions().close(session);
        }
        let txn = self.prepare(now, session, &identities, |prepare| prepare.write(request));
        self.propose(now, session, xid, txn, Some(reply));
    }

    /// Gives a prepared transaction its place in the order and sends it to the log.
    fn propose(&mut self, now: Time, session: SessionId, cxid: i32, txn: Txn, reply: Option<Reply>) {
        let zxid = self.broadcast.propose();
        let header = TxnHeader { session, cxid, zxid, time_ms: now.wall_ms };
        let touched = self.pending.keep();
        let digest = (self.shared.settings.digests && !matches!(txn, Txn::Error { .. })).then(|| self.pending.digest());
        let record = TxnRecord { header, txn, digest: digest.map(Digest::new) };
        if let Some(reply) = &reply {
            reply.connection.set_last_write(zxid);
        }
        let mut body = Vec::with_capacity(128);
        record.append(&mut body);
        self.outputs.push_back(Output::Append(Record::new(zxid, &body)));
        self.in_flight.push_back(InFlight { header, txn: record.txn, digest, touched, reply, reads: Vec::new() });
    }

    /// A read behind a write waits with it. Where the write was answered in the meantime, it runs now.
    fn read(&mut self, now: Time, connection: Arc<Connection>, read: ReadFrame) {
        let position = self.in_flight.binary_search_by_key(&connection.last_write(), |write| write.header.zxid);
        match position {
            Ok(index) => self.in_flight[index].reads.push(read),
            Err(_) => {
                let shared = self.shared.clone();
                let tree = shared.tree();
                self.answer_read(now, &tree, &connection, &read);
            }
        }
    }

    pub(crate) fn answer_read(&mut self, now: Time, tree: &Tree, connection: &Arc<Connection>, read: &ReadFrame) {
        let shared = &self.shared;
        shared.serve_deferred_to(connection);
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
        if self.shared.sessions().deadline_ms().is_some_and(|due| due <= now.monotonic_ms) {
            let expired = self.shared.sessions().expired(now.monotonic_ms);
            for (session, timeout_ms) in expired {
                self.shared.statistics.sessions_expired.fetch_add(1, Relaxed);
                self.outputs.push_back(Output::SessionExpired { session, timeout_ms });
                self.prepare_internal(now, session, |prepare| Ok(prepare.close_session()));
            }
        }
        let shared = self.shared.clone();
        while let Some(path) = self.reaper.next(now, || shared.tree()) {
            self.prepare_internal(now, SessionId::NONE, |prepare| prepare.reap(path));
        }
    }

    /// Checks a change against the tree as it will be; one that fails becomes an error transaction.
    fn prepare(
        &mut self,
        now: Time,
        session: SessionId,
        identities: &[Id],
        change: impl FnOnce(&mut Prepare<'_>) -> Result<Txn, ErrorCode>,
    ) -> Txn {
        let tree = self.shared.tree();
        let mut prepare = Prepare {
            settings: &self.shared.settings,
            tree: &tree,
            pending: &mut self.pending,
            session,
            identities,
            zxid: self.broadcast.next(),
            wall_ms: now.wall_ms,
        };
        change(&mut prepare).unwrap_or_else(|code| Txn::Error { code: code.number() })
    }

    /// A change that no client asked for.
    fn prepare_internal(
        &mut self,
        now: Time,
        session: SessionId,
        change: impl FnOnce(&mut Prepare<'_>) -> Result<Txn, ErrorCode>,
    ) {
        let txn = self.prepare(now, session, &[], change);
        self.propose(now, session, 0, txn, None);
    }
}
