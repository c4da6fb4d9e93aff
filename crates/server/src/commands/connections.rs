//! `cons` and `crst`: who is connected, and how it fares.

use std::fmt::{self, Write as _};

use rookeeper_proto::OpCode;

use super::{Page, Question};
use crate::observe::connections::{self, ClientConnection, ClientSession};

/// How much a line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Without the session, for `stat`.
    Brief,
    Full,
}

pub(super) fn cons(page: &mut Page<'_>, question: &Question<'_>) -> fmt::Result {
    write_all(page, question, Detail::Full)?;
    writeln!(page)
}

/// A line for each connection, the oldest first.
pub(super) fn write_all(page: &mut Page<'_>, question: &Question<'_>, detail: Detail) -> fmt::Result {
    question.context.shared.connections().iter().try_for_each(|connection| {
        let is_asking = **connection == *question.asking;
        write_line(page, &ClientConnection::of(connection), is_asking, detail)
    })
}

fn write_line(page: &mut Page<'_>, connection: &ClientConnection, is_asking: bool, detail: Detail) -> fmt::Result {
    // The original shows what its selector waits for: 1 is bytes to read, and from whom it answers right now it reads no more.
    let interest = if is_asking { 0 } else { 1 };
    let ClientConnection { peer, queued, received, sent, session } = connection;
    write!(page, " /{peer}[{interest}](queued={queued},recved={received},sent={sent}")?;
    if let Some(session) = session
        && detail == Detail::Full
    {
        write_session(page, session)?;
    }
    page.write_str(")\n")
}

fn write_session(page: &mut Page<'_>, session: &ClientSession) -> fmt::Result {
    let last_op = session.last_op.map_or("NA", OpCode::four_letters);
    write!(page, ",sid={},lop={last_op},est={},to={}", session.id, session.established_ms.0, session.timeout_ms)?;
    if let Some(last_cxid) = session.last_cxid {
        write!(page, ",lcxid=0x{last_cxid:x}")?;
    }
    write!(
        page,
        ",lzxid=0x{:x},lresp={},llat={},minlat={},avglat={},maxlat={}",
        session.last_zxid.0,
        session.last_response_ms,
        session.last_latency_ms,
        session.min_latency_ms,
        session.average_latency_ms,
        session.max_latency_ms,
    )
}

pub(super) fn crst(page: &mut Page<'_>, question: &Question<'_>) -> fmt::Result {
    connections::reset(question.context);
    page.write_str("Connection stats reset.\n")
}
