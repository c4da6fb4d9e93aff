//! What a server is in every role: the state that its connections share, the history, what is on its way, the effects to be carried out.
//!
//! What always holds here:
//! - a transaction is applied and answered only after it is committed, and committed only after a quorum has it on disk;
//! - a connection's answers go into its outbox in the order of its requests;
//! - a read behind a write runs right after that write is applied and before the session's next one;
//! - nothing here knows which role the server is in. A role that has to do with a transaction when it is applied says so as a
//!   [`Committer`](crate::write::apply::Committer).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::connect::ConnectResponse;
use rookeeper_proto::frame::{self, ReplyHeader};
use rookeeper_proto::{ErrorCode, MonotonicMs, OpCode, SessionId, Txn, TxnHeader, TxnRecord, WallMs, Zxid};
use rookeeper_tree::Tree;
use rookeeper_zab::{History, Membership, Record};

use crate::audit::{Audited, Fate};
use crate::check::{Broken, must};
use crate::clients::connection::Connection;
use crate::clients::read::{self, ReadFrame};
use crate::clients::shared::Shared;
use crate::contract::{Output, SlowOperation};
use crate::reasons::Event;
use crate::room::Room;
use crate::statistics::Summary;
use crate::status::Serving;
use crate::tally::Tallies;
use crate::time::{Stamp, Time};
use crate::top::{self, Sample};

/// A prepared transaction on its way to being committed.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub header: TxnHeader,
    pub txn: Txn,
    pub digest: Option<i64>,
    /// When it was handed to the log and to other servers; none before.
    pub handed_over: Option<Stamp>,
    /// What a reconfiguration makes of the members; none in everything else, and in a standalone server.
    pub membership: Option<Box<Membership>>,
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
    pub received_ms: MonotonicMs,
    /// When the request arrived at this server, and at the replica.
    pub arrived: Stamp,
    pub taken: Stamp,
    /// Where it is one of those that are looked at.
    pub sampled: Option<Box<Sample>>,
    /// The answer to a handshake is a record of its own. Boxed, for few have one and every write moves this.
    pub handshake: Option<Box<Handshake>>,
    /// For the audit log, where there is one.
    pub audited: Option<Arc<Audited>>,
}

impl Reply {
    /// The answer to a read that is not simply read from the tree.
    pub fn of_read(connection: Arc<Connection>, read: &ReadFrame, now: Time) -> Reply {
        Reply {
            connection,
            xid: read.xid,
            op: read.op,
            received_ms: now.monotonic_ms,
            arrived: read.arrived,
            taken: now.stamp,
            sampled: None,
            handshake: None,
            audited: None,
        }
    }
}

/// The answer to a handshake that waits for the transaction of its session.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub response: ConnectResponse,
    /// Whether the session appears here only with its transaction, and gets its connection then.
    pub attach: bool,
}

/// Who waits for an answer, and the reads that wait behind it.
pub(crate) type Waiting = (Option<Reply>, Vec<ReadFrame>);

/// A client that waits for nothing any more, with what the audit log is to hear of its request.
pub(crate) type Abandoned = (Arc<Connection>, Option<Arc<Audited>>);

/// What a member of an ensemble does for its clients; a standalone server does nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ClientRules {
    /// Sessions are known to this server only, until they need an ephemeral node.
    pub local_sessions: bool,
    pub upgrades_local_sessions: bool,
    /// Requests that the own tree's lists do not allow are refused where they arrive.
    pub eager_acl_check: bool,
}

#[derive(Debug)]
pub(crate) struct Core {
    pub shared: Arc<Shared>,
    pub history: History,
    /// Logged or about to be, and not applied: what the history holds above its committed end, decoded.
    pub in_flight: VecDeque<InFlight>,
    pub outputs: VecDeque<Output>,
    pub to_wake: Vec<Arc<Connection>>,
    pub rules: ClientRules,
    /// Off while the tree may show effects of transactions that come after its zxid: it came as a snapshot, or from a disk where one may lie.
    /// Digests can't be compared then.
    pub tree_is_exact: bool,
    /// A digest differed, and has not been equal since.
    pub digest_differs: bool,
    pub room: Room,
    pub tallies: Tallies,
    /// Not yet told to whoever measures.
    pub done: Done,
}

/// What a replica has done, for whoever measures how long that took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Done {
    /// Transactions that it made.
    pub prepared: u64,
    /// Writes of own clients that were answered with their transaction.
    pub answered: u64,
}

/// Deferred events delivered per call, so that no call takes long.
const DEFERRED_PER_CALL: usize = 2000;

impl Core {
    /// Takes over a recovered tree. `keep` committed transactions stay in memory for learners.
    pub fn new(shared: Arc<Shared>, rules: ClientRules, tree_is_exact: bool, keep: usize) -> Core {
        let last = shared.tree().last_zxid();
        let room = Room::new(shared.settings.room);
        Core {
            room,
            shared,
            history: History::new(last, keep),
            in_flight: VecDeque::new(),
            outputs: VecDeque::new(),
            to_wake: Vec::new(),
            rules,
            tree_is_exact,
            digest_differs: false,
            tallies: Tallies::default(),
            done: Done::default(),
        }
    }

    /// The next effect; `None` where everything is handed out.
    pub fn poll(&mut self) -> Option<Output> {
        // Wakes go last: who hears of a commit here and asks another server right away should find it there.
        self.outputs.pop_front().or_else(|| self.to_wake.pop().map(Output::Wake))
    }

    /// Asks for an effect.
    pub fn put(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// Asks for a line in the log.
    pub fn log(&mut self, event: Event) {
        self.put(Output::Log(event));
    }

    /// Who is served at the moment.
    pub fn serving(&self) -> Serving {
        self.shared.status_board.serving()
    }

    /// Up to where the tree shows what happened.
    pub fn last_zxid(&self) -> Zxid {
        self.shared.tree().last_zxid()
    }

    /// Events that were too many to send at once go on.
    pub fn deliver_deferred(&mut self) {
        if self.shared.has_deferred() {
            self.shared.deliver_deferred(DEFERRED_PER_CALL, &mut self.to_wake);
        }
    }

    /// What must hold after each event, see [`Replica::check`](crate::Replica::check).
    pub fn check(&self) -> Result<(), Broken> {
        let history = &self.history;
        must(history.durable() <= history.last(), "what is durable is history")?;
        must(history.committed() <= history.last(), "what is committed is history")?;
        let on_its_way = self.in_flight.iter().map(|next| next.header.zxid);
        let not_committed = history.after(history.committed()).map(|record| record.zxid);
        must(on_its_way.eq(not_committed), "what is on its way is the history above its committed end")?;
        must(
            !self.tree_is_exact || self.last_zxid() <= history.committed(),
            "the tree shows nothing that is not committed",
        )
    }

    /// Asks for a transaction of the history to be made durable, and keeps it until it is committed.
    pub fn keep_until_committed(&mut self, record: Record, next: InFlight) {
        let zxid = next.header.zxid;
        assert!(self.in_flight.back().is_none_or(|last| last.header.zxid < zxid), "{zxid} follows what is on its way");
        self.note_logged(record.body().len());
        self.put(Output::Append(record));
        self.in_flight.push_back(next);
    }

    /// The log and the other servers have everything that is on its way.
    pub fn note_handed_over(&mut self, stamp: Stamp) {
        for next in self.in_flight.iter_mut().rev().take_while(|next| next.handed_over.is_none()) {
            next.handed_over = Some(stamp);
        }
    }

    /// A tree from elsewhere, which ends at the end of what is on disk.
    pub fn replace_tree(&mut self, tree: Tree) {
        let last = tree.last_zxid();
        self.shared.tree_mut().replace(tree);
        self.history.reset(last);
        self.in_flight.clear();
        self.tree_is_exact = false;
    }

    /// Another tree than the history led to is served from here on. Its contents are what a start would find, as of `zxid`, and nothing is on its way.
    pub fn begin_with(&mut self, zxid: Zxid, tree: Tree) {
        assert!(self.in_flight.is_empty() && zxid > self.history.last(), "the history goes on behind its end");
        assert_eq!(tree.last_zxid(), zxid, "the tree is the one that was stored");
        self.shared.tree_mut().replace(tree);
        self.history.reset(zxid);
    }

    /// Nothing is in the tree any more that comes after its zxid.
    pub fn note_tree_is_exact(&mut self) {
        if !std::mem::replace(&mut self.tree_is_exact, true) {
            self.shared.tree_mut().finish_replay();
        }
    }

    /// Sessions have their full timeout ahead of them, and clients may come.
    pub fn begin_serving(&mut self, now: Time, serving: Serving) {
        assert!(self.tree_is_exact, "clients see nothing that comes after the zxid of the tree");
        let decides = serving == Serving::Deciding;
        let tree = self.shared.tree();
        self.shared.sessions().restart(decides, tree.sessions(), now.monotonic_ms);
        drop(tree);
        self.shared.status_board.serve(serving);
    }

    /// Cuts the clients, and forgets what they wait for: `waiting`, and what is on its way. Those who have not got further than a handshake
    /// that can be answered later, or to a four-letter word, are left alone.
    pub fn stop_serving(&mut self, mut waiting: Vec<Waiting>, held: Vec<Abandoned>) {
        // Before anything of theirs is settled: a connection's own task answers a read itself when nothing is on its way any more, and would put
        // that answer where the one to an earlier request is due.
        for connection in self.shared.connections().into_iter().filter(|connection| connection.is_established()) {
            self.hang_up(&connection);
        }
        for next in &mut self.in_flight {
            waiting.push((next.reply.take(), std::mem::take(&mut next.reads)));
        }
        for (reply, reads) in waiting {
            let Some(reply) = reply else { continue };
            // The session may have been created, or may still be.
            if reply.handshake.is_some() {
                self.hang_up(&reply.connection);
            }
            self.audit(reply.audited.as_ref(), Fate::Unknown);
            self.shared.settle(&reply.connection);
            for read in &reads {
                self.leave_read(&reply.connection, read);
            }
        }
        for (connection, audited) in held {
            self.audit(audited.as_ref(), Fate::Failed);
            self.shared.settle(&connection);
        }
    }

    /// Closes a connection without a word. Nothing more is taken from it, whatever of it still waits here.
    pub fn hang_up(&mut self, connection: &Arc<Connection>) {
        connection.cut();
        connection.outbox.close();
        self.to_wake.push(connection.clone());
    }

    /// The connection is gone; its session lives on.
    pub fn detach(&mut self, connection: &Connection) {
        self.shared.sessions().detach(connection.session(), connection);
    }

    /// Nothing is done for what was sorted among the reads: its client has left, or nobody is served.
    pub fn leave_read(&mut self, connection: &Connection, read: &ReadFrame) {
        self.audit(read.audited.as_ref(), Fate::Failed);
        self.shared.settle(connection);
    }

    /// A read behind a write of its connection waits with it. Given back where that was answered in the meantime.
    pub fn wait_with_write(&mut self, connection: &Connection, read: ReadFrame) -> Option<ReadFrame> {
        match self.in_flight.binary_search_by_key(&connection.last_write_zxid(), |write| write.header.zxid) {
            Ok(index) => {
                self.in_flight[index].reads.push(read);
                None
            }
            Err(_) => Some(read),
        }
    }

    /// Answers a read whose turn has come.
    pub fn answer_read_now(&mut self, now: Time, connection: &Arc<Connection>, read: &ReadFrame) {
        let shared = self.shared.clone();
        self.answer_read(now, &shared.tree(), connection, read);
    }

    /// Answers a read, or what was sorted among the reads because its turn came with theirs.
    pub fn answer_read(&mut self, now: Time, tree: &Tree, connection: &Arc<Connection>, read: &ReadFrame) {
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
        shared.statistics.stages.read_queue.record(read.arrived, now.stamp);
        if now.stamp.ns_since(read.arrived) >= shared.settings.slow_read_ns {
            self.outputs.push_back(Output::Slow(Box::new(SlowOperation {
                op: read.op,
                path: top::path_of(read.op, &read.body).map(Box::from),
                peer: connection.peer,
                session: connection.session(),
                zxid: None,
                arrived: read.arrived,
                taken: now.stamp,
                handed_over: None,
                done: now.stamp,
            })));
        }
        self.note_answer(now, connection, (read.op, read.xid), tree.last_zxid(), latency_ms);
    }

    /// Answers a request whose turn has come with an error, and the reads that wait behind it.
    pub fn refuse(&mut self, now: Time, code: ErrorCode, reply: &Reply, reads: &[ReadFrame]) {
        let shared = self.shared.clone();
        let tree = shared.tree();
        shared.serve_deferred_to(&reply.connection);
        self.audit(reply.audited.as_ref(), Fate::Failed);
        let header = ReplyHeader { xid: reply.xid, zxid: tree.last_zxid(), err: code.number() };
        reply.connection.outbox.append(|output| frame::append_reply::<()>(output, header, None));
        let latency_ms = (now.monotonic_ms - reply.received_ms).max(0);
        self.note_answer(now, &reply.connection, (reply.op, reply.xid), tree.last_zxid(), latency_ms);
        for read in reads {
            self.answer_read(now, &tree, &reply.connection, read);
        }
    }

    /// Counts an answer that is in the outbox, and wakes the connection's task.
    pub fn note_answer(
        &mut self,
        now: Time,
        connection: &Arc<Connection>,
        (op, xid): (OpCode, i32),
        zxid: Zxid,
        latency_ms: i64,
    ) {
        self.tallies.request_ms(&self.shared.statistics, latency_ms as u64);
        connection.statistics.answered(1, (op, xid), zxid, now.monotonic_ms, latency_ms);
        let hung_up = !connection.outbox.is_open();
        if self.shared.settings.staleness.holds(op, hung_up, latency_ms, connection.timeout_ms()) {
            self.shared.statistics.stale_answers.fetch_add(1, Relaxed);
        }
        self.shared.settle(connection);
        // Always: a task that holds back waits for its requests to be settled, not only for bytes.
        if self.to_wake.last() != Some(connection) {
            self.to_wake.push(connection.clone());
        }
    }

    /// Nothing expires while nobody is served: sessions have their full timeout ahead of them when that begins again, and a leader
    /// that does not decide yet must not propose.
    pub fn session_deadline_ms(&self) -> Option<MonotonicMs> {
        if self.serving() == Serving::Nobody {
            return None;
        }
        self.shared.sessions().deadline_ms()
    }

    /// Sessions that have expired, with their timeouts; [`Core::expire`] is to follow for each.
    pub fn expired_sessions(&mut self, now: Time) -> Vec<(SessionId, i32)> {
        match self.session_deadline_ms() {
            Some(due_ms) if due_ms <= now.monotonic_ms => self.shared.sessions().expired(now.monotonic_ms),
            _ => Vec::new(),
        }
    }

    /// Tells of a session that has expired, and ends it where no other server knows it. Says whether others do: its end is a transaction.
    pub fn expire(&mut self, (session, timeout_ms): (SessionId, i32)) -> bool {
        self.shared.statistics.sessions_expired.fetch_add(1, Relaxed);
        self.put(Output::SessionExpired { session, timeout_ms });
        if !self.is_local(session) {
            return true;
        }
        let ended = self.shared.sessions().remove(session);
        if let Some(connection) = ended.and_then(|session| session.connection) {
            self.hang_up(&connection);
        }
        false
    }

    /// Before the history knows: everything up to `zxid` is on this server's disk, and acknowledged by that.
    pub fn note_acknowledged(&self, now: Time, zxid: Zxid) {
        let summary = &self.shared.statistics.member.acknowledgement_latency_ms;
        for record in self.history.after(self.history.durable()).take_while(|record| record.zxid <= zxid) {
            if let Ok(header) = TxnRecord::decode_header(record.body()) {
                summary.record_unless_negative(now.wall_ms - WallMs(header.time_ms));
            }
        }
    }

    /// Before they are applied: these are committed, as the leader decided or said.
    pub fn note_committed(&self, now: Time, committed: Zxid, counter: &AtomicU64, latency_ms: &Summary) {
        let mut count = 0;
        for next in self.in_flight.iter().take_while(|next| next.header.zxid <= committed) {
            if !matches!(next.txn, Txn::Reconfig { .. }) {
                latency_ms.record_unless_negative(now.wall_ms - WallMs(next.header.time_ms));
                count += 1;
            }
        }
        counter.fetch_add(count, Relaxed);
    }
}
