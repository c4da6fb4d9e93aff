//! Which sessions live, and which ephemeral nodes are theirs.

use rookeeper_proto::{MonotonicMs, SessionId};

use super::{Gathered, NotWanted};
use crate::context::Context;

/// Paths, sessions or owners copied under one lock.
const AT_ONCE: usize = 1000;

/// Bytes that a path takes besides its own, about.
const COPIED_BYTES: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session {
    pub id: SessionId,
    /// No other server knows of it.
    pub is_local: bool,
    pub timeout_ms: i32,
    /// The monotonic millisecond at which it expires if nothing more is heard of it. Only who decides about a session knows that.
    pub due_ms: MonotonicMs,
}

/// All sessions in the order of their ids.
pub(crate) fn all(context: &Context, gathered: Gathered<'_>) -> Result<Vec<Session>, NotWanted> {
    let mut all: Vec<Session> = Vec::new();
    loop {
        let before = all.len();
        {
            let sessions = context.shared.sessions();
            let behind = sessions.behind(all.last().map(|session| session.id)).take(AT_ONCE);
            all.extend(behind.map(|(id, known)| Session {
                id,
                is_local: known.local,
                timeout_ms: known.timeout_ms,
                due_ms: sessions.due_ms(known),
            }));
        }
        gathered(all.capacity() * size_of::<Session>())?;
        if all.len() - before < AT_ONCE {
            return Ok(all);
        }
    }
}

/// The sessions that own ephemeral nodes.
pub(crate) fn owners(context: &Context) -> Vec<SessionId> {
    let mut owners: Vec<SessionId> = Vec::new();
    loop {
        let before = owners.len();
        owners.extend(context.shared.tree().owners_behind(owners.last().copied()).take(AT_ONCE));
        if owners.len() - before < AT_ONCE {
            return owners;
        }
    }
}

/// The ephemeral nodes of a session, sorted.
pub(crate) fn ephemerals(
    context: &Context,
    session: SessionId,
    gathered: Gathered<'_>,
) -> Result<Vec<String>, NotWanted> {
    let (mut owned, mut mark, mut bytes) = (Vec::new(), None, 0);
    loop {
        let before = owned.len();
        for (at, path) in context.shared.tree().ephemerals_behind(session, mark).take(AT_ONCE) {
            mark = Some(at);
            bytes += COPIED_BYTES + path.len();
            owned.push(path.to_owned());
        }
        gathered(bytes)?;
        if owned.len() - before < AT_ONCE {
            owned.sort_unstable();
            return Ok(owned);
        }
    }
}
