//! The leases of instances that a registry keeps in the tree, in the order in which they end.
//!
//! What always holds here: each lease stands once in both, under its key and under its end.

use std::collections::{BTreeSet, HashMap};

use crate::Now;
use crate::instance::Instance;
use crate::lease::DEFAULT_DURATION_S;

/// An application and an id.
type Key = (String, String);

/// Leases by when they end. Times are steady, in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Leases {
    ends: HashMap<Key, u64>,
    order: BTreeSet<(u64, Key)>,
}

impl Leases {
    /// A lease begins, or begins anew.
    pub fn begin(&mut self, key: Key, instance: &Instance, now: Now) {
        let seconds = if instance.duration_s > 0 { instance.duration_s } else { DEFAULT_DURATION_S };
        let ends_ms = now.steady_ms.saturating_add(u64::from(seconds.unsigned_abs()) * 1000);
        self.remove(&key);
        self.order.insert((ends_ms, key.clone()));
        self.ends.insert(key, ends_ms);
    }

    pub fn remove(&mut self, key: &Key) {
        if let Some((key, ends_ms)) = self.ends.remove_entry(key) {
            self.order.remove(&(ends_ms, key));
        }
    }

    pub fn clear(&mut self) {
        *self = Leases::default();
    }

    pub fn is_over(&self, key: &Key, now: Now) -> bool {
        self.ends.get(key).is_some_and(|ends_ms| *ends_ms < now.steady_ms)
    }

    /// Leases that are over, the first that ended first.
    pub fn over(&self, now: Now) -> impl Iterator<Item = &Key> {
        self.order.iter().take_while(move |(ends_ms, _)| *ends_ms < now.steady_ms).map(|(_, key)| key)
    }

    /// When the first lease ends.
    pub fn next_ms(&self) -> Option<u64> {
        self.order.first().map(|(ends_ms, _)| *ends_ms)
    }
}
