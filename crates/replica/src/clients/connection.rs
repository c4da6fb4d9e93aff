//! One client connection as the replica sees it: who it is, what it may do, how far it is.
//!
//! Shared between the connection's task, which reads requests and answers reads, and the replica, which answers everything else.
//! Each field says who writes it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use parking_lot::RwLock;
use rookeeper_proto::{Id, MonotonicMs, OpCode, SessionId, WallMs, Zxid};
use rookeeper_tree::WatcherId;

use crate::clients::budget::{Account, Budget};
use crate::clients::outbox::Outbox;
use crate::time::{Stamp, Time};

/// Each check of an access control list looks each of them up, so there must not be many.
pub(crate) const MAX_IDENTITIES: usize = 200;

/// And each is kept as long as the connection, and copied into lists.
pub(crate) const MAX_IDENTITY_BYTES: usize = 64 << 10;

/// The identities of a connection. A request carries the ones that were there when it arrived.
pub type Identities = Arc<[Id]>;

/// One client connection, for its task and for the replica. Two are equal where their ids are.
#[derive(Debug)]
pub struct Connection {
    pub id: WatcherId,
    pub peer: SocketAddr,
    pub outbox: Outbox,
    pub statistics: Statistics,
    /// Written by the task, when an auth packet is accepted.
    identities: RwLock<Identities>,
    /// Written by the task, once, before the first frame: TLS is spoken on it.
    secure: AtomicBool,
    /// Written by the replica, once, before the ConnectResponse.
    session: AtomicI64,
    /// Written by the replica, once: the negotiated session timeout.
    timeout_ms: AtomicI32,
    /// Set by the replica when the handshake is answered.
    established: AtomicBool,
    /// Set once, with the watch tables locked, when the connection's watches are removed: none may follow.
    gone: AtomicBool,
    /// Written by the replica when it hangs up: it takes nothing more from this connection.
    cut: AtomicBool,
    /// Raised by the task, lowered by the replica after the reply is in the outbox. At 0 the task may answer a read itself.
    in_flight: AtomicUsize,
    /// Written by the task: nothing is read because the server has too much to do, so silence says nothing about the client.
    held_back: AtomicBool,
    /// The newest deferred event that was looked at for this connection. Written with the deferred events locked.
    seen_deferred: AtomicU64,
    /// Written by the replica, where this server decides about writes: the zxid of the last write from this connection.
    last_write_zxid: AtomicI64,
    /// Written by the replica, where a leader decides: the place of the last request from this connection in the queue of those that were
    /// forwarded, counted from the first that this queue ever held.
    last_forwarded: AtomicU64,
    /// Written by the replica: when it had put the last answers to writes into the outbox, in nanoseconds, and how many. The second is lowered by
    /// the task when it has taken them. Only measured.
    answered_ns: AtomicU64,
    answered: AtomicU64,
    /// Monotonic milliseconds. Written by the task when bytes arrived; the session tracker looks when a session seems due.
    last_heard_ms: AtomicI64,
}

/// What `cons` and `stat` tell of a connection. Latencies are in milliseconds.
#[derive(Debug)]
pub struct Statistics {
    /// Wall-clock milliseconds.
    pub established_ms: WallMs,
    pub received: AtomicU64,
    pub last_op: AtomicI32,
    pub last_cxid: AtomicI32,
    pub last_zxid: AtomicI64,
    /// Monotonic milliseconds of the server.
    pub last_response_ms: AtomicI64,
    pub last_latency_ms: AtomicI64,
    pub min_latency_ms: AtomicI64,
    pub max_latency_ms: AtomicI64,
    pub total_latency_ms: AtomicI64,
    pub answered: AtomicU64,
    /// Frames the task has taken for sending.
    pub sent: AtomicU64,
}

impl Statistics {
    fn new(established_ms: WallMs) -> Statistics {
        Statistics {
            established_ms,
            received: AtomicU64::new(0),
            last_op: AtomicI32::new(i32::MIN),
            last_cxid: AtomicI32::new(-1),
            last_zxid: AtomicI64::new(-1),
            last_response_ms: AtomicI64::new(0),
            last_latency_ms: AtomicI64::new(0),
            min_latency_ms: AtomicI64::new(i64::MAX),
            max_latency_ms: AtomicI64::new(0),
            total_latency_ms: AtomicI64::new(0),
            answered: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        }
    }

    /// Notes `count` answered requests, of which the last is named.
    pub fn answered(&self, count: u64, (op, xid): (OpCode, i32), zxid: Zxid, now_ms: MonotonicMs, latency_ms: i64) {
        const RELAXED: Ordering = Ordering::Relaxed;
        self.last_op.store(op.number(), RELAXED);
        // Pings and other internal requests have no number of their own.
        if xid >= 0 {
            self.last_cxid.store(xid, RELAXED);
        }
        self.last_zxid.store(zxid.0, RELAXED);
        self.last_response_ms.store(now_ms.0, RELAXED);
        self.last_latency_ms.store(latency_ms, RELAXED);
        // One writer at a time in practice; a lost update here costs a figure in a status line, not an answer.
        if latency_ms < self.min_latency_ms.load(RELAXED) {
            self.min_latency_ms.store(latency_ms, RELAXED);
        }
        if latency_ms > self.max_latency_ms.load(RELAXED) {
            self.max_latency_ms.store(latency_ms, RELAXED);
        }
        // Most are 0 ms, and an addition that others may see is dear.
        if latency_ms != 0 {
            self.total_latency_ms.fetch_add(latency_ms, RELAXED);
        }
        self.answered.fetch_add(count, RELAXED);
    }
}

impl Connection {
    /// A connection that was just accepted, and whose client has the server's memory for itself.
    pub fn new(id: WatcherId, peer: SocketAddr, now: Time) -> Connection {
        Connection::within(Arc::new(Budget::unlimited()), id, peer, now)
    }

    /// A connection that was just accepted. It starts with the one identity that comes from its address.
    pub fn within(budget: Arc<Budget>, id: WatcherId, peer: SocketAddr, now: Time) -> Connection {
        let address = Id::new("ip", peer.ip().to_canonical().to_string());
        Connection {
            id,
            peer,
            outbox: Outbox::within(budget),
            statistics: Statistics::new(now.wall_ms),
            identities: RwLock::new(Arc::new([address])),
            secure: AtomicBool::new(false),
            session: AtomicI64::new(0),
            timeout_ms: AtomicI32::new(0),
            established: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            held_back: AtomicBool::new(false),
            seen_deferred: AtomicU64::new(0),
            last_write_zxid: AtomicI64::new(0),
            last_forwarded: AtomicU64::new(0),
            answered_ns: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            last_heard_ms: AtomicI64::new(now.monotonic_ms.0),
        }
    }

    /// What this connection makes the server hold, watches aside.
    pub fn account(&self) -> &Account {
        self.outbox.account()
    }

    /// What all clients of this server make it hold.
    pub fn budget(&self) -> &Budget {
        self.account().budget()
    }

    /// The identities that the client has proved so far, that of its address included.
    pub fn identities(&self) -> Identities {
        self.identities.read().clone()
    }

    /// Adds identities that an authentication brought; those already there are not repeated. `false` where the connection would
    /// have more than [`MAX_IDENTITIES`], or more than [`MAX_IDENTITY_BYTES`] of them: then nothing is added.
    #[must_use]
    pub fn add_identities(&self, new: impl IntoIterator<Item = Id>) -> bool {
        let mut identities = self.identities.write();
        let mut all = identities.to_vec();
        for id in new {
            if !all.contains(&id) {
                all.push(id);
            }
        }
        let bytes: usize = all.iter().map(|id| id.scheme.len() + id.id.len()).sum();
        let fits = all.len() <= MAX_IDENTITIES && bytes <= MAX_IDENTITY_BYTES;
        if fits {
            *identities = all.into();
        }
        fits
    }

    /// The session of this connection; [`SessionId::NONE`] until the handshake is answered.
    pub fn session(&self) -> SessionId {
        SessionId(self.session.load(Ordering::Relaxed))
    }

    /// The session timeout that was negotiated, in milliseconds; 0 until the handshake is answered.
    pub fn timeout_ms(&self) -> i32 {
        self.timeout_ms.load(Ordering::Relaxed)
    }

    /// From here on the task may read requests.
    pub(crate) fn establish(&self, session: SessionId, timeout_ms: i32) {
        self.session.store(session.0, Ordering::Relaxed);
        self.timeout_ms.store(timeout_ms, Ordering::Relaxed);
        self.established.store(true, Ordering::Release);
    }

    /// From now on it counts as one on which TLS is spoken.
    pub fn note_secure(&self) {
        self.secure.store(true, Ordering::Relaxed);
    }

    /// Whether TLS is spoken on it.
    pub fn is_secure(&self) -> bool {
        self.secure.load(Ordering::Relaxed)
    }

    /// Whether the handshake is answered.
    pub fn is_established(&self) -> bool {
        self.established.load(Ordering::Acquire)
    }

    /// Call with the watch tables locked.
    pub(crate) fn mark_gone(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// Exact only with the watch tables locked.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// Notes that all deferred events up to `newest` are looked at for it. Returns up to which they were.
    pub(crate) fn see_deferred(&self, newest: u64) -> u64 {
        self.seen_deferred.swap(newest, Ordering::Relaxed)
    }

    /// Notes the zxid that this server gave to a write of the connection. Reads that come next may have to wait for it.
    pub(crate) fn set_last_write_zxid(&self, zxid: Zxid) {
        self.last_write_zxid.store(zxid.0, Ordering::Relaxed);
    }

    /// The zxid of the connection's last write that this server decided about; zero where there was none.
    pub(crate) fn last_write_zxid(&self) -> Zxid {
        Zxid(self.last_write_zxid.load(Ordering::Relaxed))
    }

    /// Notes the place that a request of the connection has among those forwarded to the leader. Reads that come next may have to wait for it.
    pub(crate) fn set_last_forwarded(&self, place: u64) {
        self.last_forwarded.store(place, Ordering::Relaxed);
    }

    /// The place of the connection's last forwarded request. Zero is also what a connection has that forwarded none, so whoever looks there
    /// must compare whose request it is.
    pub(crate) fn last_forwarded(&self) -> u64 {
        self.last_forwarded.load(Ordering::Relaxed)
    }

    /// The task stops or resumes reading for the server's sake.
    pub fn hold_back(&self, held_back: bool) {
        self.held_back.store(held_back, Ordering::Relaxed);
    }

    /// Whether nothing is read from the client for the server's sake. Then the client's silence says nothing.
    pub fn is_held_back(&self) -> bool {
        self.held_back.load(Ordering::Relaxed)
    }

    /// Bytes arrived from the client. Nothing else is a sign of its life.
    pub fn heard(&self, now_ms: MonotonicMs) {
        self.last_heard_ms.store(now_ms.0, Ordering::Relaxed);
    }

    /// When bytes arrived from the client last; when it connected where none have.
    pub fn last_heard_ms(&self) -> MonotonicMs {
        MonotonicMs(self.last_heard_ms.load(Ordering::Relaxed))
    }

    /// Requests handed to the replica whose answer is not in the outbox yet. At 0 everything answered before is visible here.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// An answer to a write is in the outbox.
    pub(crate) fn note_answered(&self, at: Stamp) {
        self.answered_ns.store(at.0, Ordering::Relaxed);
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// The answers that are in the outbox could be taken since then.
    pub fn note_woken(&self, at: Stamp) {
        self.answered_ns.store(at.0, Ordering::Relaxed);
    }

    /// How many answers to writes were put into the outbox since this was asked last, and when the last were; none where there were none.
    pub fn take_answered(&self) -> Option<(Stamp, u64)> {
        if self.answered.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let count = self.answered.swap(0, Ordering::Relaxed);
        Some((Stamp(self.answered_ns.load(Ordering::Relaxed)), count))
    }

    /// The task hands a request to the replica.
    pub fn submit(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// The replica has put the answer into the outbox.
    pub(crate) fn settle(&self) {
        let before = self.in_flight.fetch_sub(1, Ordering::Release);
        debug_assert!(before > 0, "a request was answered that was never submitted");
    }
}

impl PartialEq for Connection {
    fn eq(&self, other: &Connection) -> bool {
        self.id == other.id
    }
}

impl Eq for Connection {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_not_repeated_and_not_endless() {
        let connection = Connection::new(WatcherId(1), "127.0.0.1:1".parse().unwrap(), Time::default());
        let user = |number: usize| Id::new("digest", format!("user{number}:hash"));
        for _ in 0..3 {
            assert!(connection.add_identities([user(1)]));
        }
        assert_eq!(connection.identities().as_ref(), [Id::new("ip", "127.0.0.1"), user(1)]);
        assert!(connection.add_identities((1..MAX_IDENTITIES).map(user)));
        assert!(!connection.add_identities([user(MAX_IDENTITIES)]));
        assert_eq!(connection.identities().len(), MAX_IDENTITIES);
        let other = Connection::new(WatcherId(2), "127.0.0.1:1".parse().unwrap(), Time::default());
        assert!(!other.add_identities([Id::new("digest", "x".repeat(MAX_IDENTITY_BYTES))]));
        assert_eq!(other.identities().len(), 1);
    }
}
