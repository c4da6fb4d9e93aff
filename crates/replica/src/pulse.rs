//! Notices that the whole process stood still: it was stopped, or its machine was.
//!
//! Whoever runs the replica wakes at least once per beat; a much longer time between two wakes is one in which this server read nothing,
//! so that the silence of its clients says nothing about them ([`crate::clients::session::Sessions::stood_still`]).

use rookeeper_proto::MonotonicMs;

/// When whoever runs the replica woke last, and how often it means to.
#[derive(Debug)]
pub struct Pulse {
    beat_ms: i64,
    woken_ms: MonotonicMs,
}

impl Pulse {
    /// No session is shorter than two ticks, so a stand-still of half a tick does not yet end one whose client speaks as it should.
    pub fn new(tick_ms: i64, now_ms: MonotonicMs) -> Pulse {
        Pulse { beat_ms: (tick_ms / 4).max(1), woken_ms: now_ms }
    }

    /// When to wake although nothing happened.
    pub fn due_ms(&self) -> MonotonicMs {
        self.woken_ms + self.beat_ms
    }

    /// Call at every wake, before anything else. From when to when the process stood still, if it did.
    pub fn woken(&mut self, now_ms: MonotonicMs) -> Option<(MonotonicMs, MonotonicMs)> {
        let before_ms = std::mem::replace(&mut self.woken_ms, now_ms);
        (now_ms - before_ms > 2 * self.beat_ms).then_some((before_ms, now_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_wake_is_a_stand_still_and_a_regular_one_is_none() {
        let at = MonotonicMs;
        let mut pulse = Pulse::new(1000, at(0));
        assert_eq!(pulse.due_ms(), at(250));
        assert_eq!([250, 600, 601].map(|ms| pulse.woken(at(ms))), [None; 3]);
        assert_eq!(pulse.woken(at(5601)), Some((at(601), at(5601))));
        assert_eq!((pulse.due_ms(), pulse.woken(at(5851))), (at(5851), None));
    }
}
