//! The end of leases: at each run those that are over are removed, at most a fixed part of the registry at once, picked at random so that no
//! application loses all its instances first.
//!
//! A run goes in slices, so that nobody waits for a large one: first all leases are looked at, then some of those that are over are removed, unless
//! they were renewed meanwhile. What always holds here: a slice is bounded; until a run is over the next one does not begin.

use std::ops::Bound;

use crate::Now;
use crate::holdings::Key;
use crate::registry::Registry;

/// Leases that are looked at in a slice, and instances that are removed in one.
const LOOKED_AT: usize = 10_000;
const REMOVED: usize = 500;

/// When the next run is due.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    pub due_steady_ms: u64,
    pub run: Option<Run>,
}

/// A run that is under way.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// How late the run came. Each lease has so much more time: after a pause of the process the clients were not heard.
    late_ms: u64,
    /// The moment at which leases must be over.
    began: Now,
    over: Vec<Key>,
    step: Step,
}

#[derive(Debug, Clone)]
enum Step {
    /// Up to this lease all were looked at.
    Look(Option<Key>),
    Remove,
}

impl Registry {
    /// What time brings: leases end, deltas forget. Returns which instances were evicted, as application and id. To be called at least at
    /// [`Registry::next_eviction_ms`]; calls in between cost little.
    pub fn advance(&mut self, now: Now) -> Vec<Key> {
        if self.recent.prune(self.settings.delta_retention_ms, now.steady_ms) {
            self.delta = None;
        }
        self.tombstones.prune(now.steady_ms);
        let interval_ms = self.settings.eviction_interval_ms.max(1);
        let Some(schedule) = &mut self.eviction else { return Vec::new() };
        let mut run = match schedule.run.take() {
            Some(run) => run,
            None if now.steady_ms < schedule.due_steady_ms => return Vec::new(),
            None => {
                let late_ms = now.steady_ms - schedule.due_steady_ms;
                schedule.due_steady_ms = now.steady_ms + interval_ms;
                if !self.preservation(now).evicts {
                    return Vec::new();
                }
                Run { late_ms, began: now, over: Vec::new(), step: Step::Look(None) }
            }
        };
        let mut evicted = Vec::new();
        let is_over = self.slice(&mut run, &mut evicted, now);
        if let Some(schedule) = self.eviction.as_mut().filter(|_| !is_over) {
            schedule.run = Some(run);
        }
        evicted
    }

    /// In steady time; none before the registry is open. At once while a run is under way.
    pub fn next_eviction_ms(&self) -> Option<u64> {
        self.eviction.as_ref().map(|schedule| if schedule.run.is_some() { 0 } else { schedule.due_steady_ms })
    }

    /// A part of a run. True once the run is over.
    fn slice(&mut self, run: &mut Run, evicted: &mut Vec<Key>, now: Now) -> bool {
        if let Step::Look(from) = &run.step {
            let from = from.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let (mut last, mut looked_at) = (None, 0);
            for entry in self.holdings.entries_from(from).take(LOOKED_AT) {
                if !entry.is_of_tree && entry.lease.is_over(run.late_ms, run.began) {
                    run.over.push(entry.key());
                }
                last = Some(entry);
                looked_at += 1;
            }
            if looked_at == LOOKED_AT {
                run.step = Step::Look(last.map(crate::holdings::Entry::key));
                return false;
            }
            self.pick(&mut run.over);
            run.step = Step::Remove;
        }
        for _ in 0..REMOVED {
            let Some((app, id)) = run.over.pop() else { return true };
            let still = self.holdings.entry(&app, &id);
            let still = still.is_some_and(|entry| !entry.is_of_tree && entry.lease.is_over(run.late_ms, run.began));
            if still && self.remove(&app, &id, now).is_some() {
                self.tally.evicted += 1;
                evicted.push((app, id));
            }
        }
        run.over.is_empty()
    }

    /// Leaves as many as may go at once.
    fn pick(&mut self, over: &mut Vec<Key>) {
        let size = self.len();
        let limit = size - (size as f64 * self.settings.renewal_percent) as usize;
        let take = over.len().min(limit);
        for place in 0..take {
            let other = place + self.random.below(over.len() - place);
            over.swap(place, other);
        }
        over.truncate(take);
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::encoding::{Format, read_instance};
    use crate::registry::Caller;
    use crate::settings::Settings;

    const MANY: usize = 25_000;

    fn at(ms: u64) -> Now {
        Now { wall_ms: ms as i64, steady_ms: ms }
    }

    /// Many instances whose leases all end after 90 s.
    fn full() -> Registry {
        let settings = Settings { self_preservation: false, renewal_percent: 0.0, ..Settings::default() };
        let mut registry = Registry::new(settings, at(0));
        registry.open(0, at(0));
        for number in 0..MANY {
            let app = format!("APP{}", number % 7);
            let text = format!(
                "{{\"instance\":{{\"instanceId\":\"i{number}\",\"hostName\":\"h\",\"app\":\"{app}\",\"ipAddr\":\"1.2.3.4\",\
                 \"dataCenterInfo\":{{\"@class\":\"com.netflix.appinfo.MyDataCenterInfo\",\"name\":\"MyOwn\"}}}}}}"
            );
            let instance = read_instance(Format::Json, text.as_bytes(), &app, at(0)).unwrap();
            registry.register(instance, Caller::Client, at(0));
        }
        registry
    }

    #[test]
    fn a_large_run_goes_in_slices_and_is_over_at_last() {
        let mut registry = full();
        let (mut slices, mut evicted) = (0, 0);
        while registry.next_eviction_ms().unwrap() <= 100_000 {
            let before = registry.len();
            let gone = registry.advance(at(100_000)).len();
            assert!(gone <= REMOVED, "{gone}");
            assert_eq!(registry.len(), before - gone);
            evicted += gone;
            slices += 1;
        }
        // The run began 40 s late, so that each lease has 40 s more.
        assert_eq!((evicted, slices), (0, MANY / LOOKED_AT + 1));
        slices = 0;
        while registry.next_eviction_ms().unwrap() <= 160_000 {
            evicted += registry.advance(at(160_000)).len();
            slices += 1;
        }
        // The last look is followed by the first removals.
        assert_eq!((evicted, slices), (MANY, MANY / LOOKED_AT + MANY / REMOVED));
        assert_eq!(registry.next_eviction_ms(), Some(220_000));
    }

    #[test]
    fn what_is_renewed_between_two_slices_stays() {
        let mut registry = full();
        registry.advance(at(60_000));
        let mut evicted = 0;
        while evicted == 0 {
            evicted = registry.advance(at(120_000)).len();
        }
        let stands = registry.holdings.entries_from(Bound::Unbounded).next().unwrap().key();
        registry.renew(&stands.0, &stands.1, None, None, Caller::Client, at(120_000));
        while registry.next_eviction_ms().unwrap() <= 120_000 {
            let gone = registry.advance(at(120_000));
            assert!(!gone.contains(&stands));
        }
        assert_eq!(registry.len(), 1);
    }
}
