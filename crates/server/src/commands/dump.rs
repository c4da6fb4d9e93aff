//! `dump`: sessions by the time at which they would expire, the ephemerals of each, and connections by the time at which they
//! would be given up.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rookeeper_proto::{MonotonicMs, SessionId};
use rookeeper_replica::{Connection, Serving, Time};

use super::{Page, Question};
use crate::observe::connections;
use crate::observe::sessions::{self, Session};

pub(super) fn dump(page: &mut Page<'_>, question: &Question<'_>) -> fmt::Result {
    dump_at(page, question, question.context.clock.now(), &TimeZone::system())
}

/// `now` links the monotonic times of sessions and connections to dates, which are shown in `zone`.
pub(super) fn dump_at(page: &mut Page<'_>, question: &Question<'_>, now: Time, zone: &TimeZone) -> fmt::Result {
    page.write_str("SessionTracker dump:\n")?;
    write_sessions(page, question, now, zone)?;
    page.write_str("ephemeral nodes dump:\n")?;
    write_ephemerals(page, question)?;
    page.write_str("Connections dump:\nConnections ")?;
    write_by_due(page, &connections::by_due_ms(question.context), write_connection, now, zone)
}

/// A server that decides about sessions knows when they expire; a learner knows only the timeouts of those that all servers share.
fn write_sessions(page: &mut Page<'_>, question: &Question<'_>, now: Time, zone: &TimeZone) -> fmt::Result {
    let sessions = sessions::all(question.context, &mut |bytes| page.gathered(bytes))?;
    let by_due = |is_shown: &dyn Fn(&Session) -> bool| {
        let mut by_due: BTreeMap<MonotonicMs, Vec<SessionId>> = BTreeMap::new();
        for session in sessions.iter().filter(|session| is_shown(session)) {
            by_due.entry(session.due_ms).or_default().push(session.id);
        }
        by_due
    };
    let decides = question.view.serving == Serving::Deciding;
    let tells_local = question.view.has_local_sessions(question.context);
    if tells_local {
        page.write_str("Local Session ")?;
        write_by_due(page, &by_due(&|session| session.is_local), write_shown, now, zone)?;
        if decides {
            page.write_str("Global ")?;
        }
    }
    if decides {
        page.write_str("Session ")?;
        let is_shown = |session: &Session| !(session.is_local && tells_local);
        return write_by_due(page, &by_due(&is_shown), write_shown, now, zone);
    }
    let global = || sessions.iter().filter(|session| !session.is_local);
    writeln!(page, "Global Sessions({}):", global().count())?;
    global().try_for_each(|session| writeln!(page, "{}\t{}ms", session.id, session.timeout_ms))
}

fn write_shown(page: &mut Page<'_>, shown: &impl Display) -> fmt::Result {
    write!(page, "{shown}")
}

fn write_connection(page: &mut Page<'_>, connection: &Arc<Connection>) -> fmt::Result {
    write!(page, "ip: /{} sessionId: {}", connection.peer, connection.session())
}

fn write_by_due<T>(
    page: &mut Page<'_>,
    by_due: &BTreeMap<MonotonicMs, Vec<T>>,
    write: fn(&mut Page<'_>, &T) -> fmt::Result,
    now: Time,
    zone: &TimeZone,
) -> fmt::Result {
    let count: usize = by_due.values().map(Vec::len).sum();
    writeln!(page, "Sets ({})/({count}):", by_due.len())?;
    for (due_ms, members) in by_due {
        let due = date(now.wall_ms.0.saturating_add(*due_ms - now.monotonic_ms), zone);
        writeln!(page, "{} expire at {due}:", members.len())?;
        for member in members {
            page.write_str("\t")?;
            write(page, member)?;
            page.write_str("\n")?;
        }
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

fn write_ephemerals(page: &mut Page<'_>, question: &Question<'_>) -> fmt::Result {
    let owners = sessions::owners(question.context);
    writeln!(page, "Sessions with Ephemerals ({}):", owners.len())?;
    for session in owners {
        let owned = sessions::ephemerals(question.context, session, &mut |bytes| page.gathered(bytes))?;
        writeln!(page, "{session}:")?;
        owned.iter().try_for_each(|path| writeln!(page, "\t{path}"))?;
    }
    Ok(())
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
