//! What the threads besides the network workers are doing, for an operator who asks why nothing goes on.
//!
//! A thread says when it begins something that may take long and when it waits for work again. That costs it one store without order, so it
//! may be done on the way of every request.

use rookeeper_proto::MonotonicMs;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::Relaxed;

use crate::clock::Clock;

/// Waiting for something to do.
const IDLE: i64 = -1;

#[derive(Debug)]
pub(crate) struct Activity {
    /// The monotonic millisecond at which the work at hand began.
    since_ms: AtomicI64,
}

impl Activity {
    fn new() -> Activity {
        Activity { since_ms: AtomicI64::new(IDLE) }
    }

    /// The thread takes up work at this time.
    pub fn begin(&self, now_ms: MonotonicMs) {
        self.since_ms.store(now_ms.0, Relaxed);
    }

    /// The thread is done with its work, and waits.
    pub fn end(&self) {
        self.since_ms.store(IDLE, Relaxed);
    }

    /// What the thread does, for the report to operators.
    pub fn told(&self, now_ms: MonotonicMs) -> String {
        match self.since_ms.load(Relaxed) {
            IDLE => "waits for something to do".to_owned(),
            since_ms => format!("is busy with one thing for {} ms", now_ms - MonotonicMs(since_ms)),
        }
    }
}

/// The activity of each thread.
#[derive(Debug)]
pub(crate) struct Activities {
    pub clock: Clock,
    pub replica: Activity,
    pub storage: Activity,
    pub snapshot: Activity,
}

impl Activities {
    /// All threads wait.
    pub fn new(clock: Clock) -> Activities {
        Activities { clock, replica: Activity::new(), storage: Activity::new(), snapshot: Activity::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_busy_from_begin_to_end() {
        let activity = Activity::new();
        assert_eq!(activity.told(MonotonicMs(5)), "waits for something to do");
        activity.begin(MonotonicMs(5));
        assert_eq!(activity.told(MonotonicMs(12)), "is busy with one thing for 7 ms");
        activity.end();
        assert_eq!(activity.told(MonotonicMs(20)), "waits for something to do");
    }
}
