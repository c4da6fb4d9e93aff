//! The two clocks of a server, as types that cannot be mixed up.
//!
//! What always holds: a monotonic and a wall time have no common operation, so a sum, a difference or a comparison of the two does not compile:
//!
//! ```compile_fail
//! use rookeeper_proto::{MonotonicMs, WallMs};
//! let _ = MonotonicMs(1) < WallMs(2);
//! ```
//!
//! Durations are plain `i64` milliseconds. All arithmetic saturates: a deadline beyond the end of time never comes.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A moment of the monotonic clock: milliseconds since a moment that each process chooses for itself. Deadlines and the ages of connections
/// and sessions are counted in it; no other process can make anything of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonotonicMs(pub i64);

impl MonotonicMs {
    /// The moment from which the process counts.
    pub const ZERO: MonotonicMs = MonotonicMs(0);
}

/// So many milliseconds later.
impl Add<i64> for MonotonicMs {
    type Output = MonotonicMs;

    fn add(self, ms: i64) -> MonotonicMs {
        MonotonicMs(self.0.saturating_add(ms))
    }
}

impl AddAssign<i64> for MonotonicMs {
    fn add_assign(&mut self, ms: i64) {
        *self = *self + ms;
    }
}

/// So many milliseconds earlier.
impl Sub<i64> for MonotonicMs {
    type Output = MonotonicMs;

    fn sub(self, ms: i64) -> MonotonicMs {
        MonotonicMs(self.0.saturating_sub(ms))
    }
}

/// Milliseconds from the one to the other, negative where the other is later.
impl Sub for MonotonicMs {
    type Output = i64;

    fn sub(self, earlier: MonotonicMs) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for MonotonicMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A moment of the wall clock: milliseconds since 1970, as transactions and nodes hold it. Clocks of two servers differ, and an operator may
/// set any of them back, so that nothing is decided by it but what the original decides by it, the ages of container and TTL nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallMs(pub i64);

/// Milliseconds from the one to the other. Negative where another server wrote down the earlier one and its clock is ahead.
impl Sub for WallMs {
    type Output = i64;

    fn sub(self, earlier: WallMs) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_durations_add_up_and_never_wrap() {
        assert_eq!((MonotonicMs(7) + 3, MonotonicMs(7) - 3), (MonotonicMs(10), MonotonicMs(4)));
        assert_eq!((MonotonicMs(7) - MonotonicMs(10), WallMs(7) - WallMs(4)), (-3, 3));
        assert_eq!(
            (MonotonicMs(7) + i64::MAX, MonotonicMs(-7) - i64::MAX),
            (MonotonicMs(i64::MAX), MonotonicMs(i64::MIN))
        );
        assert_eq!(WallMs(i64::MAX) - WallMs(-1), i64::MAX);
    }
}
