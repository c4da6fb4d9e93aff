//! The two clocks the replica is fed with.

use rookeeper_proto::{MonotonicMs, WallMs};
use std::time::{SystemTime, UNIX_EPOCH};

use rookeeper_replica::{Stamp, Time};
use tokio::time::Instant;

/// Reads time for the whole process, so that everybody means the same by a monotonic millisecond.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Begins to count now: monotonic millisecond 0.
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Both clocks at once.
    pub fn now(&self) -> Time {
        let stamp = self.stamp();
        Time { monotonic_ms: stamp.monotonic_ms(), wall_ms: wall_ms(), stamp }
    }

    /// Nanoseconds since the start of the process, for what is measured.
    pub fn stamp(&self) -> Stamp {
        Stamp(self.start.elapsed().as_nanos() as u64)
    }

    /// Milliseconds since the start of the process.
    pub fn monotonic_ms(&self) -> MonotonicMs {
        self.stamp().monotonic_ms()
    }

    /// Milliseconds since the start of the process, for what is told to operators.
    pub fn uptime_ms(&self) -> i64 {
        self.monotonic_ms() - MonotonicMs::ZERO
    }

    /// The instant of a monotonic millisecond; one in the past is now.
    pub fn instant(&self, monotonic_ms: MonotonicMs) -> Instant {
        let since_start = std::time::Duration::from_millis(u64::try_from(monotonic_ms.0).unwrap_or(0));
        self.start.checked_add(since_start).unwrap_or_else(Instant::now)
    }
}

/// Milliseconds since 1970, UTC.
pub fn wall_ms() -> WallMs {
    WallMs(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64))
}
