//! How long an instance lives without a heartbeat.
//!
//! A lease that was never renewed ends one duration after its registration. A renewed one ends **two** durations after the last renewal, because a
//! renewal adds the duration once and the check adds it again: an old defect of the original that clients rely on, so it is kept.

use crate::Now;

/// What a client is taken to mean that names no interval, in seconds.
pub const DEFAULT_RENEWAL_S: i32 = 30;
/// The same for the duration of a lease, in seconds.
pub const DEFAULT_DURATION_S: i32 = 90;

/// The times of a lease as they are told, in milliseconds since the Unix epoch; 0 for what has not happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeaseTimes {
    pub registered_ms: i64,
    /// After the first renewal this lies one duration in the future.
    pub renewed_ms: i64,
    pub evicted_ms: i64,
    pub service_up_ms: i64,
}

/// A lease that stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    pub times: LeaseTimes,
    /// In steady time. One duration after this the lease ends.
    renewed_steady_ms: u64,
    duration_ms: u64,
}

impl Lease {
    /// A missing, zero or negative duration means the usual one.
    pub fn new(duration_s: i32, service_up_ms: i64, now: Now) -> Lease {
        let seconds = if duration_s > 0 { duration_s } else { DEFAULT_DURATION_S };
        Lease {
            times: LeaseTimes { registered_ms: now.wall_ms, renewed_ms: now.wall_ms, evicted_ms: 0, service_up_ms },
            renewed_steady_ms: now.steady_ms,
            duration_ms: u64::from(seconds.unsigned_abs()) * 1000,
        }
    }

    pub fn renew(&mut self, now: Now) {
        self.renewed_steady_ms = now.steady_ms + self.duration_ms;
        self.times.renewed_ms = now.wall_ms.saturating_add_unsigned(self.duration_ms);
    }

    /// Only the first time counts.
    pub fn service_up(&mut self, now: Now) {
        if self.times.service_up_ms == 0 {
            self.times.service_up_ms = now.wall_ms;
        }
    }

    pub fn end(&mut self, now: Now) {
        if self.times.evicted_ms == 0 {
            self.times.evicted_ms = now.wall_ms;
        }
    }

    /// `grace_ms`: how late the check comes.
    pub fn is_over(&self, grace_ms: u64, now: Now) -> bool {
        now.steady_ms > self.ends_steady_ms().saturating_add(grace_ms)
    }

    /// In steady time.
    pub fn ends_steady_ms(&self) -> u64 {
        self.renewed_steady_ms.saturating_add(self.duration_ms)
    }

    pub fn duration_ms(&self) -> u64 {
        self.duration_ms
    }
}
