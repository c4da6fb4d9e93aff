//! Which instance of a service gets the next request, without IO and without a clock: times are nanoseconds of any clock that never goes back.
//!
//! What always holds: only an instance that is enabled, and is not down by what was reported of it, is chosen; if there is one, one is chosen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rookeeper_discovery::Instance;

/// How an instance is chosen where no key says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// One after the other.
    #[default]
    RoundRobin,
    Random,
    /// One of those with the fewest requests of ours under way.
    LeastLoaded,
}

/// When reported failures take an instance out, and for how long: Curator's `DownInstancePolicy`, with its values as the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DownPolicy {
    /// So many failures take it out.
    pub failures: u32,
    /// From the first failure on; then all is forgotten.
    pub window: Duration,
}

impl Default for DownPolicy {
    fn default() -> DownPolicy {
        DownPolicy { failures: 2, window: Duration::from_secs(30) }
    }
}

/// An instance that comes again under the same id has another time of registration, and a clean record.
type Key = (String, i64);

#[derive(Debug)]
pub(crate) struct Balancer {
    strategy: Strategy,
    is_sticky: bool,
    policy: DownPolicy,
    /// Of the last choice, for the strategy that keeps it.
    kept: Option<Key>,
    turn: u64,
    random: u64,
    under_way: BTreeMap<Key, u64>,
    failures: BTreeMap<Key, Failures>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    since_ns: u64,
    count: u32,
}

pub(crate) fn key_of(instance: &Instance) -> Key {
    (instance.id.clone(), instance.registration_time_utc)
}

impl Balancer {
    pub(crate) fn new(strategy: Strategy, is_sticky: bool, policy: DownPolicy, seed: u64) -> Balancer {
        Balancer {
            strategy,
            is_sticky,
            policy,
            kept: None,
            // Many clients that start at once do not all begin with the same instance.
            turn: seed >> 1,
            random: seed,
            under_way: BTreeMap::new(),
            failures: BTreeMap::new(),
        }
    }

    /// The instance for the next request, which is under way until [`done`](Balancer::done) is told.
    pub(crate) fn pick(&mut self, now_ns: u64, instances: &[Arc<Instance>]) -> Option<Arc<Instance>> {
        let usable = self.usable(now_ns, instances);
        let kept = self.kept.as_ref().filter(|_| self.is_sticky);
        let chosen = match kept.and_then(|kept| usable.iter().find(|instance| key_of(instance) == *kept)) {
            Some(kept) => Arc::clone(kept),
            None => self.choose(&usable)?,
        };
        self.kept = Some(key_of(&chosen));
        *self.under_way.entry(key_of(&chosen)).or_default() += 1;
        Some(chosen)
    }

    /// The instance for requests about this key: the same one while it is usable, for every client. Where an instance goes, its keys go to the others, and no
    /// other key moves; where one comes, it gets its share from all. The highest score wins (rendezvous hashing).
    pub(crate) fn pick_for(&mut self, now_ns: u64, instances: &[Arc<Instance>], key: &[u8]) -> Option<Arc<Instance>> {
        let usable = self.usable(now_ns, instances);
        let chosen = usable.into_iter().max_by_key(|instance| (score(key, &instance.id), instance.id.clone()))?;
        *self.under_way.entry(key_of(&chosen)).or_default() += 1;
        Some(chosen)
    }

    /// A request has ended.
    pub(crate) fn done(&mut self, key: &Key) {
        if let Some(count) = self.under_way.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.under_way.remove(key);
            }
        }
    }

    /// A request has failed by the fault of the instance.
    pub(crate) fn failed(&mut self, now_ns: u64, key: Key) {
        self.forget(now_ns);
        self.failures.entry(key).or_insert(Failures { since_ns: now_ns, count: 0 }).count += 1;
    }

    fn usable(&mut self, now_ns: u64, instances: &[Arc<Instance>]) -> Vec<Arc<Instance>> {
        self.forget(now_ns);
        let is_up = |instance: &Instance| {
            self.failures.get(&key_of(instance)).is_none_or(|failures| failures.count < self.policy.failures)
        };
        instances.iter().filter(|instance| instance.enabled && is_up(instance)).cloned().collect()
    }

    fn forget(&mut self, now_ns: u64) {
        let window_ns = u64::try_from(self.policy.window.as_nanos()).unwrap_or(u64::MAX);
        self.failures.retain(|_, failures| now_ns.saturating_sub(failures.since_ns) < window_ns);
    }

    fn choose(&mut self, usable: &[Arc<Instance>]) -> Option<Arc<Instance>> {
        let load = |instance: &Instance| self.under_way.get(&key_of(instance)).copied().unwrap_or(0);
        let candidates: Vec<&Arc<Instance>> = match self.strategy {
            Strategy::RoundRobin | Strategy::Random => usable.iter().collect(),
            Strategy::LeastLoaded => {
                let least = usable.iter().map(|instance| load(instance)).min()?;
                usable.iter().filter(|instance| load(instance) == least).collect()
            }
        };
        if candidates.is_empty() {
            return None;
        }
        let at = match self.strategy {
            Strategy::RoundRobin | Strategy::LeastLoaded => {
                self.turn = self.turn.wrapping_add(1);
                self.turn
            }
            Strategy::Random => {
                self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
                mix(self.random)
            }
        };
        Some(Arc::clone(candidates[(at % candidates.len() as u64) as usize]))
    }
}

/// The same in every process and every version: FNV-1a of 64 bits over the key, a byte that is in no text, and the id; then mixed.
fn score(key: &[u8], id: &str) -> u64 {
    let bytes = key.iter().chain(&[0xff]).chain(id.as_bytes());
    mix(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// The last step of SplitMix64: each bit of the input changes half of the output.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instances(count: usize) -> Vec<Arc<Instance>> {
        (0..count).map(|at| Arc::new(Instance::new("web", "10.0.0.1", 80).with_id(&format!("i{at}")))).collect()
    }

    fn balancer(strategy: Strategy) -> Balancer {
        Balancer::new(strategy, false, DownPolicy::default(), 7)
    }

    fn ids(balancer: &mut Balancer, instances: &[Arc<Instance>], count: usize) -> Vec<String> {
        (0..count).map(|_| balancer.pick(0, instances).unwrap().id.clone()).collect()
    }

    fn counts(ids: &[String]) -> BTreeMap<&str, usize> {
        ids.iter().fold(BTreeMap::new(), |mut counts, id| {
            *counts.entry(id.as_str()).or_default() += 1;
            counts
        })
    }

    #[test]
    fn one_after_the_other() {
        let chosen = ids(&mut balancer(Strategy::RoundRobin), &instances(3), 6);
        assert_eq!(chosen[..3], chosen[3..]);
        assert_eq!(counts(&chosen).into_values().collect::<Vec<_>>(), [2, 2, 2]);
        assert!(balancer(Strategy::RoundRobin).pick(0, &[]).is_none());
    }

    #[test]
    fn at_random_all_have_a_share() {
        let chosen = ids(&mut balancer(Strategy::Random), &instances(4), 4_000);
        assert!(counts(&chosen).into_values().all(|count| (850..1_150).contains(&count)), "{:?}", counts(&chosen));
        assert_ne!(chosen[..100], chosen[100..200]);
    }

    #[test]
    fn the_least_loaded_are_chosen_in_turn() {
        let instances = instances(3);
        let mut balancer = balancer(Strategy::LeastLoaded);
        let first = ids(&mut balancer, &instances, 3);
        assert_eq!(counts(&first).len(), 3, "each has one under way");
        ids(&mut balancer, &instances, 3);
        balancer.done(&key_of(&instances[1]));
        balancer.done(&key_of(&instances[1]));
        assert_eq!(ids(&mut balancer, &instances, 2), ["i1", "i1"]);
    }

    #[test]
    fn a_key_has_the_same_instance_and_moves_only_with_it() {
        let all = instances(10);
        let owners = |instances: &[Arc<Instance>]| -> Vec<String> {
            let mut balancer = balancer(Strategy::RoundRobin);
            (0..5_000)
                .map(|key| balancer.pick_for(0, instances, format!("key {key}").as_bytes()).unwrap().id.clone())
                .collect()
        };
        let before = owners(&all);
        assert!(counts(&before).into_values().all(|count| (400..600).contains(&count)), "{:?}", counts(&before));
        let mut others = all.clone();
        others.remove(3);
        others.reverse();
        for (before, after) in before.iter().zip(owners(&others)) {
            assert!(before == "i3" || *before == after);
        }
        // Other programs and later versions have to come to the same.
        assert_eq!(score(b"key", "i1"), 0x5cfc_96ea_dccd_b748);
    }

    #[test]
    fn a_sticky_choice_stays_while_it_can() {
        let mut all = instances(3);
        let mut balancer = Balancer::new(Strategy::RoundRobin, true, DownPolicy::default(), 7);
        let kept = ids(&mut balancer, &all, 5);
        assert_eq!(counts(&kept).len(), 1);
        all.retain(|instance| instance.id != kept[0]);
        let other = ids(&mut balancer, &all, 5);
        assert_eq!(counts(&other).len(), 1);
        assert_ne!(kept[0], other[0]);
    }

    #[test]
    fn who_is_disabled_or_down_is_not_chosen() {
        let mut all = instances(3);
        all[0] = Arc::new(Instance { enabled: false, ..Instance::clone(&all[0]) });
        let mut balancer = balancer(Strategy::RoundRobin);
        let down = key_of(&all[1]);
        balancer.failed(0, down.clone());
        assert_eq!(counts(&ids(&mut balancer, &all, 4)).len(), 2, "one failure is none");
        balancer.failed(1, down);
        assert_eq!(counts(&ids(&mut balancer, &all, 4)).keys().copied().collect::<Vec<_>>(), ["i2"]);
        assert_eq!(balancer.pick_for(0, &all[..2], b"key"), None);
        // It comes again under the same id, or the window ends.
        let again = Arc::new(Instance { registration_time_utc: 9, ..Instance::clone(&all[1]) });
        assert!(balancer.pick(0, &[again]).is_some());
        assert!(balancer.pick(DownPolicy::default().window.as_nanos() as u64 - 1, &all[1..2]).is_none());
        assert!(balancer.pick(DownPolicy::default().window.as_nanos() as u64, &all[1..2]).is_some());
    }
}
