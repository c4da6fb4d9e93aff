//! The memory of cancelled instances. Without it a registration that was under way to this server while the instance was cancelled elsewhere brings
//! the dead instance back until its lease ends.
//!
//! A tombstone refuses registrations from replicas with the cancelled version or an older one. It lasts as long as the cancelled lease would have,
//! and a client's own registration, whatever its version, removes it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// More than this at once push the oldest out.
const MAX_TOMBSTONES: usize = 100_000;

type Key = (Arc<str>, Arc<str>);

#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    cancelled: HashMap<Key, Tombstone>,
    /// By the end and a number that makes the ends different.
    ends: BTreeMap<(u64, u64), Key>,
    next: u64,
}

#[derive(Debug, Clone, Copy)]
struct Tombstone {
    dirty_ms: i64,
    end: (u64, u64),
}

impl Tombstones {
    /// `lasts_ms`: from now on.
    pub fn add(&mut self, key: Key, dirty_ms: i64, lasts_ms: u64, now_ms: u64) {
        self.remove(&key);
        let end = (now_ms.saturating_add(lasts_ms), self.next);
        self.next += 1;
        self.ends.insert(end, key.clone());
        self.cancelled.insert(key, Tombstone { dirty_ms, end });
        if self.cancelled.len() > MAX_TOMBSTONES
            && let Some((_, oldest)) = self.ends.pop_first()
        {
            self.cancelled.remove(&oldest);
        }
    }

    /// Whether a registration of this version is that of an instance which was cancelled.
    pub fn refuses(&self, key: &Key, dirty_ms: i64, now_ms: u64) -> bool {
        self.cancelled.get(key).is_some_and(|stone| dirty_ms <= stone.dirty_ms && now_ms < stone.end.0)
    }

    pub fn remove(&mut self, key: &Key) {
        if let Some(stone) = self.cancelled.remove(key) {
            self.ends.remove(&stone.end);
        }
    }

    /// Each with its version, and for how long it lasts from now on.
    pub fn all(&self, now_ms: u64) -> impl Iterator<Item = (Key, i64, u64)> {
        let last = self.cancelled.iter().filter(move |(_, stone)| stone.end.0 > now_ms);
        last.map(move |(key, stone)| (key.clone(), stone.dirty_ms, stone.end.0 - now_ms))
    }

    pub fn prune(&mut self, now_ms: u64) {
        while let Some(first) = self.ends.first_entry()
            && first.key().0 <= now_ms
        {
            let key = first.remove();
            self.cancelled.remove(&key);
        }
    }
}
