//! Sessions that all servers knew and that are over: with local sessions a leader must tell them from those that one learner knows.
//!
//! A request of a session that has ended may still be on its way from a learner that had not heard of the end. What always holds here: an
//! ended session is remembered for as long as such a request can come, and memory is bounded. A learner that hears nothing for syncLimit
//! leaves, and is left when it is silent for as long; so nothing comes later than twice that. Time counts in the leader's own ticks,
//! because one that stood still has not read what came.
//!
//! The original believes a learner in any session that it does not know.

use std::collections::HashSet;

use rookeeper_proto::SessionId;

/// Beyond this the oldest are forgotten early: some megabytes.
const MAX_REMEMBERED: usize = 200_000;

#[derive(Debug, Default)]
pub(crate) struct EndedSessions {
    recent: HashSet<SessionId>,
    older: HashSet<SessionId>,
    ticks: u32,
}

impl EndedSessions {
    /// A session has ended.
    pub fn note(&mut self, session: SessionId) {
        self.recent.insert(session);
        if self.recent.len() >= MAX_REMEMBERED / 2 {
            self.age();
        }
    }

    /// Whether a session has ended a short time ago.
    pub fn contains(&self, session: SessionId) -> bool {
        self.recent.contains(&session) || self.older.contains(&session)
    }

    /// The leader has looked at its learners once more. It does so this often while a request may still come.
    pub fn tick(&mut self, ticks_to_remember: u32) {
        self.ticks += 1;
        if self.ticks >= ticks_to_remember {
            self.age();
        }
    }

    fn age(&mut self) {
        self.older = std::mem::take(&mut self.recent);
        self.ticks = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_session_is_remembered_for_a_time_and_not_for_ever() {
        let mut ended = EndedSessions::default();
        (0..9).for_each(|_| ended.tick(10));
        ended.note(SessionId(1));
        (0..10).for_each(|_| ended.tick(10));
        assert!(ended.contains(SessionId(1)));
        ended.tick(10);
        assert!(!ended.contains(SessionId(1)));
    }

    #[test]
    fn no_more_than_so_many_are_remembered() {
        let mut ended = EndedSessions::default();
        (0..3 * MAX_REMEMBERED as i64).for_each(|id| ended.note(SessionId(id)));
        assert!(ended.recent.len() + ended.older.len() <= MAX_REMEMBERED);
        assert!(ended.contains(SessionId(3 * MAX_REMEMBERED as i64 - 1)));
    }
}
