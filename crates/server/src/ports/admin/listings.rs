//! Answers that grow with the clients, with what they watch and with what they own.

use std::collections::BTreeMap;

use rookeeper_proto::{MonotonicMs, OpCode, SessionId};
use rookeeper_replica::Serving;

use super::commands::{Answer, Failed, Question};
use super::json::Object;
use super::overview::write_overview;
use crate::observe::connections::{ClientConnection, ClientSession};
use crate::observe::directories::DirectorySizes;
use crate::observe::overview::Overview;
use crate::observe::sessions;
use crate::observe::watches::{self, WatchTotals};

/// How much is told of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Without the session, for `stats`.
    Brief,
    Full,
}

pub(super) fn connections(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    write_connections(answer, question, Detail::Full)
}

pub(super) fn stats(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    let overview = Overview::gather(question.context, question.view);
    write_overview(answer, &overview, DirectorySizes::gather(question.context))?;
    write_connections(answer, question, Detail::Brief)
}

/// Those of the plain port, and those with TLS, the oldest first.
fn write_connections(answer: &mut Object<'_>, question: &Question<'_>, detail: Detail) -> Answer {
    let all = question.context.shared.connections();
    for (name, is_secure) in [("connections", false), ("secure_connections", true)] {
        answer.list(name, |list| {
            all.iter().filter(|connection| connection.is_secure() == is_secure).try_for_each(|connection| {
                list.object(|entry| write_connection(entry, &ClientConnection::of(connection), detail))
            })
        })?;
    }
    Ok(())
}

fn write_connection(entry: &mut Object<'_>, connection: &ClientConnection, detail: Detail) -> Answer {
    let ClientConnection { peer, queued, received, sent, session } = connection;
    entry.scalar("remote_socket_address", peer.to_string().as_str());
    // What the original's selector waits for: bytes to read.
    entry.scalar("interest_ops", 1);
    entry.scalar("outstanding_requests", *queued);
    entry.scalar("packets_received", *received);
    entry.scalar("packets_sent", *sent);
    if detail == Detail::Full {
        write_session(entry, session.as_ref());
    }
    Ok(())
}

/// A connection without a session has none of it.
fn write_session(entry: &mut Object<'_>, session: Option<&ClientSession>) {
    let last_op = session.and_then(|session| session.last_op).map_or("NA", OpCode::four_letters);
    entry.scalar("session_id", session.map_or(0, |session| session.id.0));
    entry.scalar("last_operation", last_op);
    entry.scalar("established", session.map_or(0, |session| session.established_ms.0));
    entry.scalar("session_timeout", session.map_or(0, |session| session.timeout_ms));
    entry.scalar("last_cxid", session.and_then(|session| session.last_cxid).unwrap_or(-1));
    entry.scalar("last_zxid", session.map_or(-1, |session| session.last_zxid.0));
    entry.scalar("last_response_time", session.map_or(0, |session| session.last_response_ms));
    entry.scalar("last_latency", session.map_or(0, |session| session.last_latency_ms));
    entry.scalar("min_latency", session.map_or(0, |session| session.min_latency_ms));
    entry.scalar("avg_latency", session.map_or(0, |session| session.average_latency_ms));
    entry.scalar("max_latency", session.map_or(0, |session| session.max_latency_ms));
}

/// Sessions by the monotonic millisecond at which each would expire, which only whoever decides knows; and what each owns.
pub(super) fn dump(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    let mut by_due: BTreeMap<MonotonicMs, Vec<SessionId>> = BTreeMap::new();
    if question.view.serving == Serving::Deciding {
        for session in sessions::all(question.context, &mut |bytes| question.gathered(bytes))? {
            by_due.entry(session.due_ms).or_default().push(session.id);
        }
    }
    answer.object("expiry_time_to_session_ids", |times| {
        for (due_ms, ids) in &by_due {
            times.scalars(&due_ms.0.to_string(), ids.iter().map(|id| id.0));
        }
        Ok::<(), Failed>(())
    })?;
    answer.object("session_id_to_ephemeral_paths", |owners| {
        sessions::owners(question.context).into_iter().try_for_each(|owner| {
            let owned = sessions::ephemerals(question.context, owner, &mut |bytes| question.gathered(bytes))?;
            owners.scalars(&owner.0.to_string(), owned.iter().map(String::as_str));
            Ok(())
        })
    })
}

pub(super) fn watches(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    let by_session = watches::by_session(question.context, &mut |bytes| question.gathered(bytes))?;
    answer.object("session_id_to_watched_paths", |sessions| {
        for (session, paths) in &by_session {
            sessions.scalars(&session.0.to_string(), paths.iter().map(|path| &**path));
        }
        Ok(())
    })
}

pub(super) fn watches_by_path(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    let watches = watches::by_path(question.context, &mut |bytes| question.gathered(bytes))?;
    answer.object("path_to_session_ids", |paths| {
        for of_one in watches.chunk_by(|one, other| one.0 == other.0) {
            paths.scalars(&of_one[0].0, of_one.iter().map(|(_, session)| session.0));
        }
        Ok(())
    })
}

pub(super) fn watch_summary(answer: &mut Object<'_>, question: &Question<'_>) -> Answer {
    let WatchTotals { connections, paths, watches } = WatchTotals::gather(question.context);
    answer.scalar("num_connections", connections);
    answer.scalar("num_paths", paths);
    answer.scalar("num_total_watches", watches);
    Ok(())
}
