//! The watches of all clients: on data, on existence and, persistent ones, on all of a node. As in the original, watches on children are
//! not among them; the metric `watch_count` counts both.
//!
//! The table of watches is locked for a portion at a time, so changes never wait for an answer, however much is watched. What is watched
//! all the time is gathered; what comes or goes meanwhile may be.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rookeeper_proto::SessionId;
use rookeeper_tree::WatcherId;

use super::{Gathered, NotWanted};
use crate::context::Context;

/// Paths copied under one lock of the table.
const PATHS_AT_ONCE: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WatchTotals {
    /// Connections that watch anything.
    pub connections: usize,
    pub paths: usize,
    pub watches: usize,
}

impl WatchTotals {
    /// Counts under one lock of the watch tables.
    pub fn gather(context: &Context) -> WatchTotals {
        let tables = context.shared.watches();
        WatchTotals {
            connections: tables.connection_count(),
            paths: tables.path_count(),
            watches: tables.data_watch_count(),
        }
    }
}

/// The paths that each session watches, sorted.
pub(crate) fn by_session(
    context: &Context,
    gathered: Gathered<'_>,
) -> Result<BTreeMap<SessionId, Vec<Arc<str>>>, NotWanted> {
    let mut by_session: BTreeMap<SessionId, Vec<Arc<str>>> = BTreeMap::new();
    for (path, session) in watched(context, gathered)? {
        by_session.entry(session).or_default().push(path);
    }
    for paths in by_session.values_mut() {
        paths.sort_unstable();
        paths.dedup();
    }
    Ok(by_session)
}

/// The paths that are watched, each with one of the sessions that watch it, sorted by both.
pub(crate) fn by_path(context: &Context, gathered: Gathered<'_>) -> Result<Vec<(Arc<str>, SessionId)>, NotWanted> {
    let mut watches = watched(context, gathered)?;
    watches.sort_unstable();
    watches.dedup();
    Ok(watches)
}

/// The paths that are watched, with the session of each connection that watches, some of them more than once.
fn watched(context: &Context, gathered: Gathered<'_>) -> Result<Vec<(Arc<str>, SessionId)>, NotWanted> {
    let sessions = sessions(context);
    let watchers = context.shared.watches().watchers();
    let mut watched = Vec::new();
    for watcher in watchers {
        let Some(session) = sessions.get(&watcher) else { continue };
        let mut end = usize::MAX;
        while end > 0 {
            let mut met = |path: &Arc<str>| watched.push((path.clone(), *session));
            end = context.shared.watches().look_through(watcher, end, PATHS_AT_ONCE, &mut met);
            gathered(watched.capacity() * size_of::<(Arc<str>, SessionId)>())?;
        }
    }
    Ok(watched)
}

/// The sessions of the connections that are still there.
fn sessions(context: &Context) -> HashMap<WatcherId, SessionId> {
    context.shared.connections().iter().map(|connection| (connection.id, connection.session())).collect()
}
