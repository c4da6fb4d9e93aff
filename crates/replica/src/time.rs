//! Time as an argument.

use rookeeper_proto::{MonotonicMs, WallMs};

/// What both clocks say. Only the first decides anything; the second is written into nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    pub monotonic_ms: MonotonicMs,
    pub wall_ms: WallMs,
    /// The first one again, finer.
    pub stamp: Stamp,
}

/// A moment for measuring how long something takes, in nanoseconds of the monotonic clock. Nothing is decided by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Stamp(pub u64);

impl Stamp {
    /// Nanoseconds from an earlier moment; 0 where that is later.
    pub fn ns_since(self, earlier: Stamp) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The millisecond that it is in.
    pub fn monotonic_ms(self) -> MonotonicMs {
        MonotonicMs((self.0 / 1_000_000) as i64)
    }
}

impl Time {
    /// Where only milliseconds are known.
    pub fn of_ms(monotonic_ms: MonotonicMs, wall_ms: WallMs) -> Time {
        let stamp = Stamp(u64::try_from(monotonic_ms.0).unwrap_or(0).saturating_mul(1_000_000));
        Time { monotonic_ms, wall_ms, stamp }
    }
}

/// When the next [`Input::Tick`](crate::Input::Tick) is needed if nothing else happens. The earlier of two is the smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deadline {
    /// Now, without any wait: long work is done in portions, and more of them are left.
    Now,
    /// When the monotonic clock says this. That may be in the past.
    At(MonotonicMs),
    /// Only what happens matters.
    Never,
}

impl Deadline {
    /// For a caller that wakes at `latest_ms` in any case: when to wake, at once where that is `None`.
    pub fn at_latest(self, latest_ms: MonotonicMs) -> Option<MonotonicMs> {
        match self {
            Deadline::Now => None,
            Deadline::At(due_ms) => Some(due_ms.min(latest_ms)),
            Deadline::Never => Some(latest_ms),
        }
    }

    /// Whether it has come.
    pub fn is_due(self, now_ms: MonotonicMs) -> bool {
        match self {
            Deadline::Now => true,
            Deadline::At(due_ms) => due_ms <= now_ms,
            Deadline::Never => false,
        }
    }
}

impl From<Option<MonotonicMs>> for Deadline {
    fn from(due_ms: Option<MonotonicMs>) -> Deadline {
        due_ms.map_or(Deadline::Never, Deadline::At)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_deadline_is_the_smaller_one() {
        let at = |ms| Deadline::At(MonotonicMs(ms));
        assert!(Deadline::Now < at(i64::MIN) && at(i64::MIN) < at(7) && at(i64::MAX) < Deadline::Never);
        let due = |deadline: Deadline| deadline.is_due(MonotonicMs(7));
        assert_eq!([Deadline::Now, at(7), at(8), Deadline::Never].map(due), [true, true, false, false]);
        let woken = |deadline: Deadline| deadline.at_latest(MonotonicMs(7));
        assert_eq!(
            [Deadline::Now, at(6), at(8), Deadline::Never].map(woken),
            [None, Some(MonotonicMs(6)), Some(MonotonicMs(7)), Some(MonotonicMs(7))]
        );
        assert_eq!([Deadline::from(None), Deadline::from(Some(MonotonicMs(7)))], [Deadline::Never, at(7)]);
    }
}
