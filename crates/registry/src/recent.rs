//! What changed lately: the delta, and what came after a moment that a client names. Each instance is there once, as it stood after its newest change;
//! a heartbeat is no change.
//!
//! What always holds here: changes are numbered in their order; whoever has heard all changes below a number and asks for the rest misses none, or is
//! told that some are forgotten.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::application::Record;
use crate::holdings::size;

/// More changes than this in the time of the retention push the oldest out. Whoever misses such a change sees another hash than that of the own
/// copy, and fetches everything.
const MAX_CHANGES: usize = 100_000;

/// The same for the bytes of the instances, about.
const MAX_BYTES: usize = 256 << 20;

/// More changes than this, or more bytes, are not told at once: fetching everything, which is encoded once for all, costs less.
const MAX_TOLD: usize = 1000;
const MAX_TOLD_BYTES: usize = 1 << 20;

#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// By number, oldest first.
    changes: BTreeMap<u64, Changed>,
    /// The number of the change that an instance has in `changes`.
    numbers: HashMap<(Arc<str>, Arc<str>), u64>,
    next: u64,
    bytes: usize,
    /// A change that no longer stands there had at most the number before this.
    forgotten: u64,
}

#[derive(Debug)]
struct Changed {
    /// In steady time.
    at_ms: u64,
    record: Record,
    /// The original does not count it as a change, so the delta does not show it.
    is_quiet: bool,
}

/// What came after a moment.
#[derive(Debug)]
pub(crate) enum Since<'a> {
    Nothing,
    /// Too much, or some of it is forgotten.
    Unknown,
    Changes(Vec<&'a Record>),
}

impl Recent {
    pub fn add(&mut self, record: Record, now_ms: u64) {
        self.put(record, now_ms, false);
    }

    /// A change that the original makes without telling of it. An instance that is in the delta is shown there as it stands now.
    pub fn add_quiet(&mut self, record: Record, now_ms: u64) {
        self.put(record, now_ms, true);
    }

    fn put(&mut self, record: Record, now_ms: u64, is_quiet: bool) {
        let key = (record.instance.app.clone(), record.instance.id.clone());
        let mut changed = Changed { at_ms: now_ms, record, is_quiet };
        if let Some(older) = self.numbers.insert(key, self.next)
            && let Some(older) = self.changes.remove(&older)
        {
            self.bytes -= size(&older.record.instance);
            if is_quiet && !older.is_quiet {
                changed = Changed { at_ms: older.at_ms, is_quiet: false, ..changed };
            }
        }
        self.bytes += size(&changed.record.instance);
        self.changes.insert(self.next, changed);
        self.next += 1;
        while self.changes.len() > MAX_CHANGES || (self.bytes > MAX_BYTES && self.changes.len() > 1) {
            self.forget_oldest();
        }
    }

    /// Whether something older than the retention was there.
    pub fn prune(&mut self, retention_ms: u64, now_ms: u64) -> bool {
        let before = self.changes.len();
        while let Some((_, changed)) = self.changes.first_key_value()
            && now_ms.saturating_sub(changed.at_ms) > retention_ms
        {
            self.forget_oldest();
        }
        self.changes.len() != before
    }

    pub fn records(&self) -> impl Iterator<Item = Record> {
        self.changes.values().filter(|changed| !changed.is_quiet).map(|changed| changed.record.clone())
    }

    /// The number that the next change will have.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// What changed from this number on.
    pub fn since(&self, number: u64) -> Since<'_> {
        if number > self.next || number < self.forgotten {
            return Since::Unknown;
        }
        let (mut records, mut bytes) = (Vec::new(), 0);
        for changed in self.changes.range(number..).map(|(_, changed)| changed) {
            bytes += size(&changed.record.instance);
            records.push(&changed.record);
            if records.len() > MAX_TOLD || bytes > MAX_TOLD_BYTES {
                return Since::Unknown;
            }
        }
        if records.is_empty() { Since::Nothing } else { Since::Changes(records) }
    }

    fn forget_oldest(&mut self) {
        if let Some((number, Changed { record, .. })) = self.changes.pop_first() {
            self.forgotten = number + 1;
            self.bytes -= size(&record.instance);
            self.numbers.remove(&(record.instance.app.clone(), record.instance.id.clone()));
        }
    }
}
