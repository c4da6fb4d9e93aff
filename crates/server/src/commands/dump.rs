//! `dump`: sessions by the time at which they would expire, the ephemerals of each, and connections by the time at which they
//! would be given up.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rookeeper_proto::SessionId;
use rookeeper_replica::{Serving, Time};

use super::{View, connections};
use crate::context::Context;

/// Paths copied under one lock of the tree.
const PATHS_AT_ONCE: usize = 1000;

pub(super) fn dump(context: &Context, view: &View) -> String {
    dump_at(context, view, context.clock.now(), &TimeZone::system())
}

/// `now` links the monotonic times of sessions and connections to dates, which are shown in `zone`.
pub(super) fn dump_at(context: &Context, view: &View, now: Time, zone: &TimeZone) -> String {
    let mut text = String::from("SessionTracker dump:\n");
    write_sessions(&mut text, context, view, now, zone);
    text.push_str("ephemeral nodes dump:\n");
    write_ephemerals(&mut text, context);
    text.push_str("Connections dump:\nConnections ");
    write_buckets(&mut text, &connection_buckets(context), now, zone);
    text
}

/// Who decides about a session knows when it expires; a learner knows only the timeouts of those that all servers share.
fn write_sessions(text: &mut String, context: &Context, view: &View, now: Time, zone: &TimeZone) {
    let (mut by_time, others) = {
        let sessions = context.shared.sessions();
        let others: BTreeMap<SessionId, (bool, i32)> =
            sessions.iter().map(|(id, session)| (id, (session.local, session.timeout_ms))).collect();
        (sessions.buckets(), others)
    };
    let is_local = |session: &SessionId| others.get(session).is_some_and(|(local, _)| *local);
    if view.has_local_sessions(context) {
        let mut local = by_time.clone();
        local.values_mut().for_each(|sessions| sessions.retain(is_local));
        local.retain(|_, sessions| !sessions.is_empty());
        by_time.values_mut().for_each(|sessions| sessions.retain(|session| !is_local(session)));
        by_time.retain(|_, sessions| !sessions.is_empty());
        text.push_str("Local Session ");
        write_buckets(text, &local, now, zone);
        if view.serving == Serving::Deciding {
            text.push_str("Global ");
        }
    }
    if view.serving == Serving::Deciding {
        text.push_str("Session ");
        write_buckets(text, &by_time, now, zone);
    } else {
        let global: Vec<_> = others.iter().filter(|(_, (local, _))| !local).collect();
        let _ = writeln!(text, "Global Sessions({}):", global.len());
        for (session, (_, timeout_ms)) in global {
            let _ = writeln!(text, "{session}\t{timeout_ms}ms");
        }
    }
}

/// Connections by when they would be closed if nothing more came from them, in steps as wide as the time that a connection without
/// a session has.
fn connection_buckets(context: &Context) -> BTreeMap<i64, Vec<String>> {
    let sessionless_ms = i64::from(context.config.client.sessionless_connection_timeout_ms.max(1));
    let mut buckets: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for connection in connections::in_order(context) {
        let timeout_ms = match connection.is_established() {
            true => i64::from(connection.timeout_ms()),
            false => sessionless_ms,
        };
        let due_ms = ((connection.last_heard_ms() + timeout_ms) / sessionless_ms + 1) * sessionless_ms;
        let line = format!("ip: /{} sessionId: {}", connection.peer, connection.session());
        buckets.entry(due_ms).or_default().push(line);
    }
    buckets
}

fn write_buckets<T: Display>(text: &mut String, buckets: &BTreeMap<i64, Vec<T>>, now: Time, zone: &TimeZone) {
    let count: usize = buckets.values().map(Vec::len).sum();
    let _ = writeln!(text, "Sets ({})/({count}):", buckets.len());
    for (due_ms, members) in buckets {
        let due = date(now.wall_ms.saturating_add(due_ms.saturating_sub(now.monotonic_ms)), zone);
        let _ = writeln!(text, "{} expire at {due}:", members.len());
        for member in members {
            let _ = writeln!(text, "\t{member}");
        }
    }
}

/// `Mon Nov 23 01:59:10 UTC 2026`, the form of Java's `Date`.
fn date(wall_ms: i64, zone: &TimeZone) -> String {
    match Timestamp::from_millisecond(wall_ms) {
        Ok(timestamp) => timestamp.to_zoned(zone.clone()).strftime("%a %b %d %H:%M:%S %Z %Y").to_string(),
        // A session timeout of centuries; the number is all there is to say.
        Err(_) => format!("{wall_ms} ms"),
    }
}

fn write_ephemerals(text: &mut String, context: &Context) {
    let mut sessions: Vec<SessionId> = context.shared.tree().sessions_with_ephemerals().collect();
    sessions.sort_unstable();
    let _ = writeln!(text, "Sessions with Ephemerals ({}):", sessions.len());
    let mut copied: Vec<(SessionId, Vec<String>)> = Vec::new();
    let mut rest = sessions.into_iter().peekable();
    while rest.peek().is_some() {
        let mut paths = 0;
        {
            let tree = context.shared.tree();
            while paths < PATHS_AT_ONCE
                && let Some(session) = rest.next()
            {
                let owned: Vec<String> = tree.ephemerals(session).map(str::to_owned).collect();
                paths += owned.len().max(1);
                copied.push((session, owned));
            }
        }
        for (session, mut owned) in copied.drain(..) {
            owned.sort_unstable();
            let _ = writeln!(text, "{session}:");
            for path in owned {
                let _ = writeln!(text, "\t{path}");
            }
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
