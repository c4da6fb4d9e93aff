//! Containers and TTL nodes go when nobody needs them any more.
//!
//! Candidates are collected once per interval and then handed out one by one, spaced so that a large clean-up does not push
//! clients' requests aside. Each is checked again when its turn comes.
//!
//! Counterpart in the original: `ContainerManager`.

use std::collections::VecDeque;
use std::ops::Deref;

use rookeeper_tree::Tree;

use crate::settings::Reaping;
use crate::time::Time;

/// Candidates collected at once; those beyond wait for the next interval.
const CANDIDATES: usize = 10_000;

#[derive(Debug)]
pub(crate) struct Reaper {
    reaping: Reaping,
    candidates: VecDeque<String>,
    next_ms: i64,
    collect_ms: i64,
}

impl Reaper {
    /// The first round comes one interval after the start.
    pub fn new(reaping: Reaping, now_ms: i64) -> Reaper {
        let collect_ms = now_ms + reaping.interval_ms.max(1);
        Reaper { reaping, candidates: VecDeque::new(), next_ms: collect_ms, collect_ms }
    }

    pub fn deadline_ms(&self) -> i64 {
        self.next_ms
    }

    /// The next node to remove, if one is due now.
    pub fn next<T: Deref<Target = Tree>>(&mut self, now: Time, tree: impl Fn() -> T) -> Option<String> {
        if now.monotonic_ms < self.next_ms {
            return None;
        }
        if self.candidates.is_empty() && now.monotonic_ms >= self.collect_ms {
            self.collect_ms = now.monotonic_ms + self.reaping.interval_ms.max(1);
            self.candidates = tree().reap_candidates(now.wall_ms, self.reaping.max_never_used_ms, CANDIDATES).into();
        }
        let next = self.candidates.pop_front();
        self.next_ms = match next {
            Some(_) if !self.candidates.is_empty() => now.monotonic_ms + 60_000 / self.reaping.max_per_minute.max(1),
            _ => self.collect_ms,
        };
        next
    }
}
