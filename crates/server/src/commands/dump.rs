//! `dump`: sessions by the time at which they would expire, the ephemerals of each, and connections by the time at which they
//! would be given up.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rookeeper_proto::SessionId;
use rookeeper_replica::{Connection, Serving, Time};

use super::{Page, View};
use crate::context::Context;

/// Paths, sessions or owners copied under one lock.
const AT_ONCE: usize = 1000;

/// What a line takes before it is written, about.
const COPIED_BYTES: usize = 64;

pub(super) fn dump(page: &mut Page<'_>, context: &Context, view: &View) -> fmt::Result {
    dump_at(page, context, view, context.clock.now(), &TimeZone::system())
}

/// `now` links the monotonic times of sessions and connections to dates, which are shown in `zone`.
pub(super) fn dump_at(page: &mut Page<'_>, context: &Context, view: &View, now: Time, zone: &TimeZone) -> fmt::Result {
    page.write_str("SessionTracker dump:\n")?;
    write_sessions(page, context, view, now, zone)?;
    page.write_str("ephemeral nodes dump:\n")?;
    write_ephemerals(page, context)?;
    page.write_str("Connections dump:\nConnections ")?;
    write_buckets(page, &connection_buckets(context), now, zone)
}

/// What is told of a session.
struct Line {
    session: SessionId,
    local: bool,
    timeout_ms: i32,
    due_ms: i64,
}

/// Who decides about a session knows when it expires; a learner knows only the timeouts of those that all servers share.
fn write_sessions(page: &mut Page<'_>, context: &Context, view: &View, now: Time, zone: &TimeZone) -> fmt::Result {
    let sessions = sessions(page, context)?;
    let buckets = |is_shown: &dyn Fn(&Line) -> bool| {
        let mut buckets: BTreeMap<i64, Vec<SessionId>> = BTreeMap::new();
        for line in sessions.iter().filter(|line| is_shown(line)) {
            buckets.entry(line.due_ms).or_default().push(line.session);
        }
        buckets
    };
    let tells_local = view.has_local_sessions(context);
    if tells_local {
        page.write_str("Local Session ")?;
        write_buckets(page, &buckets(&|line| line.local), now, zone)?;
        if view.serving == Serving::Deciding {
            page.write_str("Global ")?;
        }
    }
    if view.serving == Serving::Deciding {
        page.write_str("Session ")?;
        return write_buckets(page, &buckets(&|line| !(line.local && tells_local)), now, zone);
    }
    writeln!(page, "Global Sessions({}):", sessions.iter().filter(|line| !line.local).count())?;
    let mut global = sessions.iter().filter(|line| !line.local);
    global.try_for_each(|line| writeln!(page, "{}\t{}ms", line.session, line.timeout_ms))
}

/// All sessions in the order of their ids.
fn sessions(page: &mut Page<'_>, context: &Context) -> Result<Vec<Line>, fmt::Error> {
    let mut lines: Vec<Line> = Vec::new();
    loop {
        let before = lines.len();
        {
            let sessions = context.shared.sessions();
            let behind = sessions.behind(lines.last().map(|line| line.session)).take(AT_ONCE);
            lines.extend(behind.map(|(session, known)| Line {
                session,
                local: known.local,
                timeout_ms: known.timeout_ms,
                due_ms: sessions.due_ms(known),
            }));
        }
        page.note_copied(lines.capacity() * size_of::<Line>());
        if !page.is_wanted() {
            return Err(fmt::Error);
        }
        if lines.len() - before < AT_ONCE {
            return Ok(lines);
        }
    }
}

/// Connections by when they would be closed if nothing more came from them, in steps as wide as the time that a connection without
/// a session has.
fn connection_buckets(context: &Context) -> BTreeMap<i64, Vec<ConnectionLine>> {
    let sessionless_ms = i64::from(context.config.client.sessionless_connection_timeout_ms.max(1));
    let mut buckets: BTreeMap<i64, Vec<ConnectionLine>> = BTreeMap::new();
    for connection in context.shared.connections() {
        let timeout_ms = match connection.is_established() {
            true => i64::from(connection.timeout_ms()),
            false => sessionless_ms,
        };
        let due_ms = ((connection.last_heard_ms() + timeout_ms) / sessionless_ms + 1) * sessionless_ms;
        buckets.entry(due_ms).or_default().push(ConnectionLine(connection));
    }
    buckets
}

struct ConnectionLine(Arc<Connection>);

impl Display for ConnectionLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ip: /{} sessionId: {}", self.0.peer, self.0.session())
    }
}

fn write_buckets<T: Display>(
    page: &mut Page<'_>,
    buckets: &BTreeMap<i64, Vec<T>>,
    now: Time,
    zone: &TimeZone,
) -> fmt::Result {
    let count: usize = buckets.values().map(Vec::len).sum();
    writeln!(page, "Sets ({})/({count}):", buckets.len())?;
    for (due_ms, members) in buckets {
        let due = date(now.wall_ms.saturating_add(due_ms.saturating_sub(now.monotonic_ms)), zone);
        writeln!(page, "{} expire at {due}:", members.len())?;
        members.iter().try_for_each(|member| writeln!(page, "\t{member}"))?;
    }
    Ok(())
}

/// `Mon Nov 23 01:59:10 UTC 2026`, the form of Java's `Date`.
fn date(wall_ms: i64, zone: &TimeZone) -> String {
    match Timestamp::from_millisecond(wall_ms) {
        Ok(timestamp) => timestamp.to_zoned(zone.clone()).strftime("%a %b %d %H:%M:%S %Z %Y").to_string(),
        // A session timeout of centuries; the number is all there is to say.
        Err(_) => format!("{wall_ms} ms"),
    }
}

fn write_ephemerals(page: &mut Page<'_>, context: &Context) -> fmt::Result {
    let mut owners: Vec<SessionId> = Vec::new();
    loop {
        let before = owners.len();
        owners.extend(context.shared.tree().owners_behind(owners.last().copied()).take(AT_ONCE));
        if owners.len() - before < AT_ONCE {
            break;
        }
    }
    writeln!(page, "Sessions with Ephemerals ({}):", owners.len())?;
    for session in owners {
        let mut owned = owned(page, context, session)?;
        owned.sort_unstable();
        writeln!(page, "{session}:")?;
        owned.iter().try_for_each(|path| writeln!(page, "\t{path}"))?;
    }
    Ok(())
}

fn owned(page: &mut Page<'_>, context: &Context, session: SessionId) -> Result<Vec<String>, fmt::Error> {
    let (mut owned, mut mark, mut bytes) = (Vec::new(), None, 0);
    loop {
        let before = owned.len();
        for (at, path) in context.shared.tree().ephemerals_behind(session, mark).take(AT_ONCE) {
            mark = Some(at);
            bytes += COPIED_BYTES + path.len();
            owned.push(path.to_owned());
        }
        page.note_copied(bytes);
        if !page.is_wanted() {
            return Err(fmt::Error);
        }
        if owned.len() - before < AT_ONCE {
            return Ok(owned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_java_writes_them() {
        assert_eq!(date(1_795_399_150_999, &TimeZone::UTC), "Mon Nov 23 01:59:10 UTC 2026");
        assert_eq!(date(951_782_400_000, &TimeZone::UTC), "Tue Feb 29 00:00:00 UTC 2000");
        assert_eq!(date(i64::MAX, &TimeZone::UTC), "9223372036854775807 ms");
    }
}
