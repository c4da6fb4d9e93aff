//! The end of leases: at each run those that are over are removed, at most a fixed part of the registry at once, picked at random so that no
//! application loses all its instances first.

use crate::Now;
use crate::holdings::Key;
use crate::registry::Registry;

/// When the next run is due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    pub due_steady_ms: u64,
}

impl Registry {
    /// What time brings: leases end, deltas forget. Returns which instances were evicted, as application and id. To be called at least at
    /// [`Registry::next_eviction_ms`]; calls in between cost little.
    pub fn advance(&mut self, now: Now) -> Vec<Key> {
        if self.recent.prune(self.settings.delta_retention_ms, now.steady_ms) {
            self.delta = None;
        }
        self.tombstones.prune(now.steady_ms);
        let Some(schedule) = self.eviction else { return Vec::new() };
        if now.steady_ms < schedule.due_steady_ms {
            return Vec::new();
        }
        // A run that comes late, after a pause of the process, gives each lease as much time as the clients were not heard.
        let late_ms = now.steady_ms - schedule.due_steady_ms;
        self.eviction = Some(Schedule { due_steady_ms: now.steady_ms + self.settings.eviction_interval_ms.max(1) });
        self.evict(late_ms, now)
    }

    /// In steady time; none before the registry is open.
    pub fn next_eviction_ms(&self) -> Option<u64> {
        self.eviction.map(|schedule| schedule.due_steady_ms)
    }

    fn evict(&mut self, late_ms: u64, now: Now) -> Vec<Key> {
        if !self.preservation(now).evicts {
            return Vec::new();
        }
        let mut over = self.leases_over(late_ms, now);
        let size = self.len();
        let limit = size - (size as f64 * self.settings.renewal_percent) as usize;
        let take = over.len().min(limit);
        for place in 0..take {
            let other = place + self.random.below(over.len() - place);
            over.swap(place, other);
        }
        over.truncate(take);
        for (app, id) in &over {
            self.remove(app, id, now);
        }
        over
    }
}

/// A small generator for picks that need no secrecy: SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub u64);

impl Random {
    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}
