//! `cons` and `crst`: who is connected, and how it fares.

use std::fmt::{self, Write as _};
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::{OpCode, SessionId};
use rookeeper_replica::Connection;

use super::Page;
use crate::context::Context;

/// How much a line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Without the session, for `stat`.
    Brief,
    Full,
}

pub(super) fn cons(page: &mut Page<'_>, context: &Context, asking: &Connection) -> fmt::Result {
    write_all(page, context, asking, Detail::Full)?;
    writeln!(page)
}

/// A line for each connection, the oldest first.
pub(super) fn write_all(page: &mut Page<'_>, context: &Context, asking: &Connection, detail: Detail) -> fmt::Result {
    let connections = context.shared.connections();
    connections.iter().try_for_each(|connection| write_line(page, connection, **connection == *asking, detail))
}

fn write_line(page: &mut Page<'_>, connection: &Connection, is_asking: bool, detail: Detail) -> fmt::Result {
    let statistics = &connection.statistics;
    // The original shows what its selector waits for: 1 is bytes to read, and from whom it answers right now it reads no more.
    let interest = if is_asking { 0 } else { 1 };
    let (received, sent) = (statistics.received.load(Relaxed), statistics.sent.load(Relaxed));
    let queued = connection.in_flight();
    write!(page, " /{}[{interest}](queued={queued},recved={received},sent={sent}", connection.peer)?;
    if detail == Detail::Full && connection.session() != SessionId::NONE {
        write_session(page, connection)?;
    }
    page.write_str(")\n")
}

fn write_session(page: &mut Page<'_>, connection: &Connection) -> fmt::Result {
    let statistics = &connection.statistics;
    let last_op = OpCode::from_i32(statistics.last_op.load(Relaxed)).map_or("NA", OpCode::four_letters);
    let (session, established_ms) = (connection.session(), statistics.established_ms);
    write!(page, ",sid={session},lop={last_op},est={established_ms},to={}", connection.timeout_ms())?;
    let last_cxid = statistics.last_cxid.load(Relaxed);
    if last_cxid >= 0 {
        write!(page, ",lcxid=0x{last_cxid:x}")?;
    }
    let min_latency_ms = match statistics.min_latency_ms.load(Relaxed) {
        i64::MAX => 0,
        min => min,
    };
    let answered = i64::try_from(statistics.answered.load(Relaxed)).unwrap_or(i64::MAX);
    let average_ms = statistics.total_latency_ms.load(Relaxed).checked_div(answered).unwrap_or(0);
    write!(
        page,
        ",lzxid=0x{:x},lresp={},llat={},minlat={min_latency_ms},avglat={average_ms},maxlat={}",
        statistics.last_zxid.load(Relaxed),
        statistics.last_response_ms.load(Relaxed),
        statistics.last_latency_ms.load(Relaxed),
        statistics.max_latency_ms.load(Relaxed),
    )
}

pub(super) fn crst(context: &Context) -> String {
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
    "Connection stats reset.\n".to_owned()
}
