//! The connections of clients, and how each fares.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::{MonotonicMs, OpCode, SessionId, WallMs, Zxid};
use rookeeper_replica::Connection;

use crate::context::Context;

/// A connection of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientConnection {
    pub peer: SocketAddr,
    /// Requests without an answer yet.
    pub queued: usize,
    /// Packets.
    pub received: u64,
    pub sent: u64,
    /// None before there is one, and for who only asks.
    pub session: Option<ClientSession>,
}

/// The session of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientSession {
    pub id: SessionId,
    pub timeout_ms: i32,
    /// Milliseconds since 1970.
    pub established_ms: WallMs,
    /// None before the first request that was answered.
    pub last_op: Option<OpCode>,
    pub last_cxid: Option<i32>,
    /// -1 before the first answer.
    pub last_zxid: Zxid,
    /// Milliseconds since 1970; 0 before the first answer.
    pub last_response_ms: i64,
    pub last_latency_ms: i64,
    pub min_latency_ms: i64,
    pub average_latency_ms: i64,
    pub max_latency_ms: i64,
}

impl ClientConnection {
    /// What the connection's own statistics say at this moment.
    pub fn of(connection: &Connection) -> ClientConnection {
        let statistics = &connection.statistics;
        ClientConnection {
            peer: connection.peer,
            queued: connection.in_flight(),
            received: statistics.received.load(Relaxed),
            sent: statistics.sent.load(Relaxed),
            session: (connection.session() != SessionId::NONE).then(|| ClientSession::of(connection)),
        }
    }
}

impl ClientSession {
    fn of(connection: &Connection) -> ClientSession {
        let statistics = &connection.statistics;
        let answered = i64::try_from(statistics.answered.load(Relaxed)).unwrap_or(i64::MAX);
        ClientSession {
            id: connection.session(),
            timeout_ms: connection.timeout_ms(),
            established_ms: statistics.established_ms,
            last_op: OpCode::from_i32(statistics.last_op.load(Relaxed)),
            last_cxid: Some(statistics.last_cxid.load(Relaxed)).filter(|cxid| *cxid >= 0),
            last_zxid: Zxid(statistics.last_zxid.load(Relaxed)),
            last_response_ms: statistics.last_response_ms.load(Relaxed),
            last_latency_ms: statistics.last_latency_ms.load(Relaxed),
            min_latency_ms: match statistics.min_latency_ms.load(Relaxed) {
                i64::MAX => 0,
                min => min,
            },
            average_latency_ms: statistics.total_latency_ms.load(Relaxed).checked_div(answered).unwrap_or(0),
            max_latency_ms: statistics.max_latency_ms.load(Relaxed),
        }
    }
}

/// Connections by the monotonic millisecond at which they would be closed if nothing more came from them, in steps as wide as the time that
/// a connection without a session has.
pub(crate) fn by_due_ms(context: &Context) -> BTreeMap<MonotonicMs, Vec<Arc<Connection>>> {
    let sessionless_ms = i64::from(context.config.client.sessionless_connection_timeout_ms.max(1));
    let mut due: BTreeMap<MonotonicMs, Vec<Arc<Connection>>> = BTreeMap::new();
    for connection in context.shared.connections() {
        let timeout_ms = match connection.is_established() {
            true => i64::from(connection.timeout_ms()),
            false => sessionless_ms,
        };
        let MonotonicMs(over_ms) = connection.last_heard_ms() + timeout_ms;
        let due_ms = (over_ms / sessionless_ms + 1) * sessionless_ms;
        due.entry(MonotonicMs(due_ms)).or_default().push(connection);
    }
    due
}

/// Lets the counts of all connections begin anew.
pub(crate) fn reset(context: &Context) {
    for connection in context.shared.connections() {
        let statistics = &connection.statistics;
        statistics.received.store(0, Relaxed);
        statistics.sent.store(0, Relaxed);
        statistics.last_op.store(i32::MIN, Relaxed);
        statistics.last_cxid.store(-1, Relaxed);
        statistics.last_zxid.store(-1, Relaxed);
        statistics.last_response_ms.store(0, Relaxed);
        statistics.last_latency_ms.store(0, Relaxed);
        statistics.min_latency_ms.store(i64::MAX, Relaxed);
        statistics.max_latency_ms.store(0, Relaxed);
        statistics.total_latency_ms.store(0, Relaxed);
        statistics.answered.store(0, Relaxed);
    }
}
