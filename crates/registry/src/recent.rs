//! What changed lately: the delta. Each instance is there once, as it stood after its newest change; a heartbeat is no change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::application::Record;

/// More changes than this in the time of the retention push the oldest out. Whoever misses such a change sees another hash than that of the own
/// copy, and fetches everything.
const MAX_CHANGES: usize = 100_000;

#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// By number, oldest first; the time is steady.
    changes: BTreeMap<u64, (u64, Record)>,
    /// The number of the change that an instance has in `changes`.
    numbers: HashMap<(Arc<str>, Arc<str>), u64>,
    next: u64,
}

impl Recent {
    pub fn add(&mut self, record: Record, now_ms: u64) {
        let key = (record.instance.app.clone(), record.instance.id.clone());
        if let Some(older) = self.numbers.insert(key, self.next) {
            self.changes.remove(&older);
        }
        self.changes.insert(self.next, (now_ms, record));
        self.next += 1;
        if self.changes.len() > MAX_CHANGES {
            self.forget_oldest();
        }
    }

    /// Whether something older than the retention was there.
    pub fn prune(&mut self, retention_ms: u64, now_ms: u64) -> bool {
        let before = self.changes.len();
        while let Some((_, (changed_ms, _))) = self.changes.first_key_value()
            && now_ms.saturating_sub(*changed_ms) > retention_ms
        {
            self.forget_oldest();
        }
        self.changes.len() != before
    }

    pub fn records(&self) -> impl Iterator<Item = Record> {
        self.changes.values().map(|(_, record)| record.clone())
    }

    fn forget_oldest(&mut self) {
        if let Some((_, (_, record))) = self.changes.pop_first() {
            self.numbers.remove(&(record.instance.app.clone(), record.instance.id.clone()));
        }
    }
}
