//! Why a recipe failed, sorted by what the caller can do next.
//!
//! A lost connection is no error here: every recipe asks again until the session is over, because only then the answer is known.

use zookeeper_client::SessionState;

/// How a session ended. All of its ephemeral nodes are gone, or go within a session timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionEnd {
    /// The servers heard nothing of the client for longer than the session timeout.
    #[error("the session has expired")]
    Expired,
    /// All clones of the client were dropped.
    #[error("the client was closed")]
    Closed,
    /// The servers did not accept the client's credentials.
    #[error("the servers refused the client's credentials")]
    AuthFailed,
}

impl SessionEnd {
    /// The end that a state of a session means, where the state is an end.
    pub fn of(state: SessionState) -> Option<SessionEnd> {
        match state {
            SessionState::Expired => Some(SessionEnd::Expired),
            SessionState::Closed => Some(SessionEnd::Closed),
            SessionState::AuthFailed => Some(SessionEnd::AuthFailed),
            _ => None,
        }
    }
}

/// Why a recipe gave up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing can be done with this client any more: connect again and begin anew.
    #[error(transparent)]
    SessionEnded(#[from] SessionEnd),
    /// The servers said no: the path, the permissions or a quota have to change first.
    #[error("{path}: {error}")]
    Refused {
        /// The node that the request was about.
        path: String,
        /// What the servers said.
        error: zookeeper_client::Error,
    },
    /// Another program uses the node for something else, or another [`Layout`](crate::Layout) is meant.
    #[error("{path}: {what} is no count")]
    NoCount {
        /// The node.
        path: String,
        /// What it holds.
        what: String,
    },
    /// The last number was given out.
    #[error("{path}: the last number was given out")]
    Exhausted {
        /// The node that counts.
        path: String,
    },
    /// What was held is not held any more, by another's hand: its node was deleted.
    #[error("{path} is not held any more: somebody deleted its node")]
    NotHeld {
        /// What was held.
        path: String,
    },
    /// This can't be done with this layout of nodes, or not with these values.
    #[error("{0}")]
    Unsupported(String),
}
