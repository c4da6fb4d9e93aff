//! What must hold of one registry, reckoned from what was done to it and not from what it says of itself.
//!
//! - A lease stands for one duration after a registration, for two after a heartbeat.
//! - Self-preservation counts each instance that is there and was heard of, and each heartbeat, in minutes from the opening on.
//! - An instance that was cancelled here does not come back from another server while its lease would have lasted.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use rookeeper_registry::{Now, Registry, Settings};

use super::peers::{LEASE_MS, RENEWAL_MS};

const MINUTE_MS: u64 = 60_000;

/// Kept beside a registry, in the time of the simulation.
#[derive(Debug, Default)]
pub struct Expectations {
    /// Application and id of all instances that there ever are.
    all: Rc<Vec<(String, String)>>,
    /// Not before this moment may the lease of an instance be over.
    leases: BTreeMap<String, u64>,
    /// Until when those that were cancelled here must not be here, in this version or an older one.
    cancelled: BTreeMap<String, (u64, i64)>,
    clients: u64,
    minute_begins_ms: u64,
    renewals: u64,
    renewals_before: u64,
    /// The heartbeats that the registry has counted since its start.
    counted: u64,
    /// Of what the registry showed when it was last looked at.
    version: u64,
    /// Those that are there and not only remembered.
    present: BTreeSet<String>,
}

impl Expectations {
    /// Of a registry that has just started.
    pub fn new(all: Rc<Vec<(String, String)>>, settings: &Settings, now_ms: u64) -> Expectations {
        Expectations { all, clients: settings.clients_at_start, minute_begins_ms: now_ms, ..Expectations::default() }
    }

    pub fn registered(&mut self, id: &str, now_ms: u64) {
        self.leases.insert(id.to_owned(), now_ms + LEASE_MS);
    }

    pub fn renewed(&mut self, id: &str, now_ms: u64) {
        self.leases.insert(id.to_owned(), now_ms + 2 * LEASE_MS);
    }

    /// Its client will not register it again. `dirty_ms`: the version that was here.
    pub fn cancelled(&mut self, id: &str, dirty_ms: i64, now_ms: u64) {
        self.leases.remove(id);
        self.cancelled.insert(id.to_owned(), (now_ms + LEASE_MS, dirty_ms));
    }

    /// Whether an instance was heard here within its lease, so that it must be here.
    pub fn must_have(&self, id: &str, now_ms: u64) -> bool {
        self.leases.get(id).is_some_and(|ends_ms| now_ms <= *ends_ms)
    }

    /// All of those.
    pub fn musts(&self, now_ms: u64) -> impl Iterator<Item = &String> {
        self.leases.iter().filter(move |(_, ends_ms)| now_ms <= **ends_ms).map(|(id, _)| id)
    }

    /// The registry opened with so many instances that were copied.
    pub fn opened(&mut self, copied: u64, registry: &Registry, settings: &Settings, now_ms: u64) {
        self.clients = if copied == 0 { settings.clients_when_empty } else { copied };
        (self.minute_begins_ms, self.renewals, self.renewals_before) = (now_ms, 0, 0);
        (self.counted, self.present) = (counted(registry), self.present_in(registry));
    }

    /// Something was done to the registry.
    pub fn look(&mut self, registry: &mut Registry, now: Now, now_ms: u64) {
        while now_ms >= self.minute_begins_ms + MINUTE_MS {
            (self.renewals_before, self.renewals) = (std::mem::take(&mut self.renewals), 0);
            self.minute_begins_ms += MINUTE_MS;
        }
        self.renewals += counted(registry) - std::mem::replace(&mut self.counted, counted(registry));
        if std::mem::replace(&mut self.version, registry.mark().number()) == registry.mark().number() {
            return;
        }
        let present = self.present_in(registry);
        let before = std::mem::replace(&mut self.present, present);
        let joined = self.present.difference(&before).count() as u64;
        let left = before.difference(&self.present).count() as u64;
        if joined > 0 && left >= self.clients {
            // A count that was 0 in between stays so, and a batch does not tell in which order all of it happened.
            self.clients = registry.preservation(now).clients;
        } else if self.clients > 0 {
            self.clients = (self.clients + joined).saturating_sub(left);
        }
        for (app, id) in self.all.iter() {
            let Some((until_ms, cancelled_ms)) = self.cancelled.get(id).filter(|(until_ms, _)| now_ms < *until_ms)
            else {
                continue;
            };
            let back_ms = registry.record(app, id).map(|record| record.instance.dirty_ms);
            assert!(back_ms.is_none_or(|back_ms| back_ms > *cancelled_ms), "{id} is back, cancelled until {until_ms}");
        }
    }

    /// Whether leases may end, by the documented formula: then the registry says the same.
    pub fn evicts(&self, registry: &mut Registry, settings: &Settings, now: Now) -> bool {
        let threshold =
            (self.clients as f64 * (MINUTE_MS as f64 / RENEWAL_MS as f64) * settings.renewal_percent) as u64;
        let evicts = !settings.self_preservation || (threshold > 0 && self.renewals_before > threshold);
        let seen = registry.preservation(now);
        assert_eq!(
            (seen.clients, seen.renewals, seen.threshold, seen.evicts),
            (self.clients, self.renewals_before, threshold, evicts)
        );
        evicts
    }

    /// The registry ended leases in a run that came so late. `size`: how many were there.
    pub fn ended(
        &mut self,
        evicted: &[String],
        evicts: bool,
        size: usize,
        late_ms: u64,
        settings: &Settings,
        now_ms: u64,
    ) {
        assert!(evicts || evicted.is_empty(), "{evicted:?} were evicted while self-preservation holds");
        let limit = size - (size as f64 * settings.renewal_percent) as usize;
        assert!(evicted.len() <= limit, "{} of {size} were evicted at once", evicted.len());
        for id in evicted {
            if let Some(ends_ms) = self.leases.remove(id) {
                assert!(
                    now_ms > ends_ms + late_ms,
                    "{id} was evicted, and its lease lasted until {ends_ms}, {late_ms} more"
                );
            }
        }
    }
}

impl Expectations {
    fn present_in(&self, registry: &Registry) -> BTreeSet<String> {
        let is_there =
            |(app, id): &&(String, String)| registry.record(app, id).is_some() && !registry.is_unconfirmed(app, id);
        self.all.iter().filter(is_there).map(|(_, id)| id.clone()).collect()
    }
}

fn counted(registry: &Registry) -> u64 {
    let renewed = registry.tally().renewed;
    renewed.clients + renewed.replicas
}
