//! Which sessions the leader is told to be alive: those that this server has heard of since it told the last time.
//!
//! What always holds here: sessions are looked at in portions, between which everything else goes on; a session that was heard of is told of
//! before the next look begins, also where its connection has ended.
//!
//! Counterpart in the original: `LearnerSessionTracker`.

use std::sync::Arc;

use rookeeper_proto::quorum::Touch;
use rookeeper_proto::{MonotonicMs, SessionId};

use crate::clients::connection::Connection;
use crate::core::Core;
use crate::time::Time;

/// Sessions looked at under one lock, and told of in one packet.
const SESSIONS_AT_ONCE: usize = 1000;

#[derive(Debug)]
pub(crate) struct HeardSessions {
    /// Sessions whose connection ended since the last ping, and that were heard of after it.
    departed: Vec<Touch>,
    look: Option<Look>,
    /// When the last look through the sessions began.
    last_look_ms: MonotonicMs,
}

/// A look through all sessions for those that were heard of.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// When the look before it began: whoever was heard of since has not been told of, or not of that.
    since_ms: MonotonicMs,
    behind: Option<SessionId>,
}

impl HeardSessions {
    /// Under a leader that has heard of no session yet. What was heard of before, under another, is none of its business: it gives every
    /// session its full timeout.
    pub fn new(now_ms: MonotonicMs) -> HeardSessions {
        HeardSessions { departed: Vec::new(), look: None, last_look_ms: now_ms }
    }

    /// A connection ended: the leader is told with the next ping that its session was heard of since the last.
    pub fn note_departure(&mut self, connection: &Connection) {
        // A look that is under way may not have come to it.
        let since_ms = self.look.map_or(self.last_look_ms, |look| look.since_ms);
        if connection.is_established() && connection.last_heard_ms() >= since_ms {
            let (session, timeout_ms) = (connection.session(), connection.timeout_ms());
            self.departed.push(Touch { session, timeout_ms });
        }
    }

    /// Begins a look, where none is under way.
    pub fn begin_look(&mut self, now_ms: MonotonicMs) {
        if self.look.is_none() {
            let since_ms = std::mem::replace(&mut self.last_look_ms, now_ms);
            self.look = Some(Look { since_ms, behind: None });
        }
    }

    /// Whether there is more to be told.
    pub fn is_looking(&self) -> bool {
        self.look.is_some()
    }

    /// A portion of what there is to tell, and connections whose clients have left.
    pub fn next_portion(&mut self, core: &Core, now: Time) -> (Vec<Touch>, Vec<Arc<Connection>>) {
        let departed = &mut self.departed;
        let mut touches = departed.split_off(departed.len().saturating_sub(SESSIONS_AT_ONCE));
        let mut abandoned = Vec::new();
        if let Some(Look { since_ms, behind }) = self.look.take() {
            let sessions = core.shared.sessions();
            let (mut left, mut last) = (SESSIONS_AT_ONCE, behind);
            for (id, session) in sessions.behind(behind).take(SESSIONS_AT_ONCE) {
                (left, last) = (left - 1, Some(id));
                let Some(connection) = &session.connection else { continue };
                // Where it is this server that does not listen, silence says nothing.
                let heard = connection.last_heard_ms() >= since_ms || connection.is_held_back();
                if heard && !session.local {
                    touches.push(Touch { session: id, timeout_ms: connection.timeout_ms() });
                }
                if sessions.is_abandoned(session, now.monotonic_ms) {
                    abandoned.push(connection.clone());
                }
            }
            let more = left == 0 || !self.departed.is_empty();
            self.look = more.then_some(Look { since_ms, behind: last });
        }
        abandoned.sort_unstable_by_key(|connection| connection.id);
        (touches, abandoned)
    }
}
