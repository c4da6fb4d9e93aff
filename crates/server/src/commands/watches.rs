//! `wchs`, `wchc` and `wchp`: the watches on data, existence and, persistent ones, on all of a node. As in the original, watches on
//! children are not among them; `mntr` counts both.
//!
//! The table of watches is locked for a portion at a time, so changes never wait for an answer, however much is watched. What is watched
//! all the time is in the answer; what comes or goes meanwhile may be.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use rookeeper_proto::SessionId;
use rookeeper_tree::WatcherId;

use crate::context::Context;

/// Paths copied under one lock of the table.
const PATHS_AT_ONCE: usize = 1000;

pub(super) fn wchs(context: &Context) -> String {
    let (connections, paths, watches) = {
        let tables = context.shared.watches();
        (tables.connection_count(), tables.path_count(), tables.data_watch_count())
    };
    format!("{connections} connections watching {paths} paths\nTotal watches:{watches}\n")
}

/// Watches by session.
pub(super) fn wchc(context: &Context) -> String {
    let mut by_session: BTreeMap<SessionId, Vec<Arc<str>>> = BTreeMap::new();
    for (session, paths) in watched(context) {
        by_session.entry(session).or_default().extend(paths);
    }
    let mut text = String::new();
    for (session, mut paths) in by_session {
        paths.sort_unstable();
        paths.dedup();
        let _ = writeln!(text, "{session}");
        for path in paths {
            let _ = writeln!(text, "\t{path}");
        }
    }
    text.push('\n');
    text
}

/// Watches by path.
pub(super) fn wchp(context: &Context) -> String {
    let watched = watched(context).into_iter();
    let mut watches: Vec<(Arc<str>, SessionId)> =
        watched.flat_map(|(session, paths)| paths.into_iter().map(move |path| (path, session))).collect();
    watches.sort_unstable();
    watches.dedup();
    let mut text = String::new();
    let mut last: Option<&str> = None;
    for (path, session) in &watches {
        if last != Some(path) {
            let _ = writeln!(text, "{path}");
            last = Some(path);
        }
        let _ = writeln!(text, "\t{session}");
    }
    text.push('\n');
    text
}

/// The paths that each session's connection watches, some of them more than once.
fn watched(context: &Context) -> Vec<(SessionId, Vec<Arc<str>>)> {
    let sessions = sessions(context);
    let watchers = context.shared.watches().watchers();
    let mut watched = Vec::with_capacity(watchers.len());
    for watcher in watchers {
        let Some(session) = sessions.get(&watcher) else { continue };
        let (mut paths, mut end) = (Vec::new(), usize::MAX);
        while end > 0 {
            end = context.shared.watches().look_through(watcher, end, PATHS_AT_ONCE, |path| paths.push(path.clone()));
        }
        watched.push((*session, paths));
    }
    watched
}

/// The sessions of the connections that are still there.
fn sessions(context: &Context) -> HashMap<WatcherId, SessionId> {
    context.shared.connections().iter().map(|connection| (connection.id, connection.session())).collect()
}
