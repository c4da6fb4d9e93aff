//! `wchs`, `wchc` and `wchp`: the watches on data, existence and, persistent ones, on all of a node. As in the original, watches on
//! children are not among them; `mntr` counts both.
//!
//! The table of watches is locked for a portion at a time, so changes never wait for an answer, however much is watched. What is watched
//! all the time is in the answer; what comes or goes meanwhile may be.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};
use std::sync::Arc;

use rookeeper_proto::SessionId;
use rookeeper_tree::WatcherId;

use super::Page;
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
pub(super) fn wchc(page: &mut Page<'_>, context: &Context) -> fmt::Result {
    let mut by_session: BTreeMap<SessionId, Vec<Arc<str>>> = BTreeMap::new();
    for (path, session) in watched(page, context)? {
        by_session.entry(session).or_default().push(path);
    }
    for (session, mut paths) in by_session {
        paths.sort_unstable();
        paths.dedup();
        writeln!(page, "{session}")?;
        paths.iter().try_for_each(|path| writeln!(page, "\t{path}"))?;
    }
    writeln!(page)
}

/// Watches by path.
pub(super) fn wchp(page: &mut Page<'_>, context: &Context) -> fmt::Result {
    let mut watches = watched(page, context)?;
    watches.sort_unstable();
    watches.dedup();
    let mut last: Option<&str> = None;
    for (path, session) in &watches {
        if last != Some(path) {
            writeln!(page, "{path}")?;
            last = Some(path);
        }
        writeln!(page, "\t{session}")?;
    }
    writeln!(page)
}

/// The paths that are watched, with the session of each connection that watches, some of them more than once.
fn watched(page: &mut Page<'_>, context: &Context) -> Result<Vec<(Arc<str>, SessionId)>, fmt::Error> {
    let sessions = sessions(context);
    let watchers = context.shared.watches().watchers();
    let mut watched = Vec::new();
    for watcher in watchers {
        let Some(session) = sessions.get(&watcher) else { continue };
        let mut end = usize::MAX;
        while end > 0 {
            let mut met = |path: &Arc<str>| watched.push((path.clone(), *session));
            end = context.shared.watches().look_through(watcher, end, PATHS_AT_ONCE, &mut met);
            page.note_copied(watched.capacity() * size_of::<(Arc<str>, SessionId)>());
            if !page.is_wanted() {
                return Err(fmt::Error);
            }
        }
    }
    Ok(watched)
}

/// The sessions of the connections that are still there.
fn sessions(context: &Context) -> HashMap<WatcherId, SessionId> {
    context.shared.connections().iter().map(|connection| (connection.id, connection.session())).collect()
}
