//! What a server knew before a restart: served as unconfirmed until somebody hears of the instance again.
//!
//! What always holds here: an instance is unconfirmed exactly while it has the mark in its metadata, which only servers give; whoever hears of the
//! instance itself (a registration or a heartbeat, also through another server) takes the mark away; an unconfirmed one is not counted among the clients
//! of self-preservation, and replaces nothing that was heard of.

use std::ops::Bound;

use crate::Now;
use crate::application::Record;
use crate::encoding::{Cancelled, Remembered, SnapshotText};
use crate::holdings::{Entry, Key};
use crate::instance::{ActionType, Instance};
use crate::lease::Lease;
use crate::registry::{Override, Registry};

/// The key of the mark in the metadata.
pub const UNCONFIRMED: &str = "rookeeper.unconfirmed";

/// Instances that are taken, or restored, while the registry is held.
const SLICE: usize = 2000;

/// How far a snapshot has come.
#[derive(Debug)]
pub struct Snapshot {
    text: SnapshotText,
    /// Taken and not written yet.
    taken: Vec<(Record, Override)>,
    last: Option<Key>,
    is_whole: bool,
}

impl Instance {
    /// Whether a server only remembers the instance from before a restart.
    pub fn is_unconfirmed(&self) -> bool {
        self.metadata.iter().any(|(key, _)| &**key == UNCONFIRMED)
    }

    /// Gives or takes the mark.
    pub(crate) fn set_unconfirmed(&mut self, is: bool) {
        self.metadata.retain(|(key, _)| &**key != UNCONFIRMED);
        if is {
            self.metadata.push((UNCONFIRMED.into(), "true".into()));
        }
    }
}

impl Snapshot {
    pub fn new(now: Now) -> Snapshot {
        Snapshot { text: SnapshotText::new(now), taken: Vec::new(), last: None, is_whole: false }
    }

    /// Writes what was taken last.
    pub fn write(&mut self) {
        for (record, set) in self.taken.drain(..) {
            self.text.instance(&record, set);
        }
    }

    /// The text, once it is whole.
    pub fn finish(mut self) -> Vec<u8> {
        self.write();
        self.text.finish()
    }

    pub fn len(&self) -> usize {
        self.text.len()
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

impl Registry {
    /// Takes a part of what is known, to be written with [`Snapshot::write`] when the registry is held no more. True once it was the last part. Others may
    /// change the registry between the parts.
    pub fn snapshot(&self, snapshot: &mut Snapshot, now: Now) -> bool {
        if snapshot.is_whole {
            return true;
        }
        let from = snapshot.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let (mut written, mut last) = (0, None);
        for entry in self.holdings.entries_from(from).take(SLICE) {
            // The coordination tree remembers its own.
            if !entry.is_of_tree {
                snapshot.taken.push((entry.record(), Override { to: entry.set, at_ms: entry.set_at_ms }));
            }
            last = Some(entry.key());
            written += 1;
        }
        snapshot.last = last;
        if written == SLICE {
            return false;
        }
        self.tombstones.all(now.steady_ms).for_each(|((app, id), dirty_ms, lasts_ms)| {
            snapshot.text.cancelled(&Cancelled { app, id, dirty_ms, lasts_ms });
        });
        snapshot.is_whole = true;
        true
    }

    /// Remembers again what was cancelled.
    pub fn restore_cancelled(&mut self, remembered: &Remembered, now: Now) {
        if !self.settings.remembers_cancelled {
            return;
        }
        for Cancelled { app, id, dirty_ms, lasts_ms } in &remembered.cancelled {
            self.tombstones.add((app.clone(), id.clone()), *dirty_ms, *lasts_ms, now.steady_ms);
        }
    }

    /// Shows again, as unconfirmed, some of the instances that nobody has told of meanwhile, and takes them from those that are left. Returns how many.
    pub fn restore(&mut self, remembered: &mut Remembered, now: Now) -> usize {
        let mut restored = 0;
        let rest = remembered.instances.len().saturating_sub(SLICE);
        for (mut instance, set) in remembered.instances.drain(rest..) {
            let key = (instance.app.clone(), instance.id.clone());
            let is_gone = self.tombstones.refuses(&key, instance.dirty_ms, now.steady_ms);
            if is_gone
                || self.is_claimed(&key.0)
                || self.holdings.entry(&key.0, &key.1).is_some()
                || self.bytes() > self.settings.max_bytes
            {
                continue;
            }
            instance.set_unconfirmed(true);
            self.holdings.put(Entry {
                lease: Lease::new(instance.duration_s, 0, now),
                instance: instance.into(),
                set: set.to,
                set_at_ms: set.at_ms,
                updated_ms: now.wall_ms,
                action: ActionType::Added,
                is_of_tree: false,
            });
            restored += 1;
        }
        restored
    }

    /// Whether an instance is only remembered.
    pub fn is_unconfirmed(&self, app: &str, id: &str) -> bool {
        self.holdings.entry(app, id).is_some_and(|entry| entry.instance.is_unconfirmed())
    }

    /// How many instances are only remembered. It looks at all of them.
    pub fn unconfirmed(&self) -> usize {
        self.holdings.entries_from(Bound::Unbounded).filter(|entry| entry.instance.is_unconfirmed()).count()
    }

    /// The instance was heard of.
    pub(crate) fn confirm(&mut self, app: &str, id: &str, now: Now) {
        if !self.is_unconfirmed(app, id) {
            return;
        }
        self.holdings.change(app, id, |entry, instance| {
            instance.set_unconfirmed(false);
            entry.action = ActionType::Modified;
            entry.updated_ms = now.wall_ms;
        });
        self.counter.joined();
        if let Some(record) = self.record(app, id) {
            self.note(record, now);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::encoding::{Format, read_instance};
    use crate::{Caller, Settings};

    fn instance(dirty_ms: i64, is_remembered: bool) -> Instance {
        let text = format!(
            r#"{{"instance":{{"instanceId":"i","hostName":"h","app":"A","ipAddr":"1.2.3.4","lastDirtyTimestamp":{dirty_ms},
            "dataCenterInfo":{{"@class":"com.netflix.appinfo.MyDataCenterInfo","name":"MyOwn"}}}}}}"#
        );
        let mut instance = read_instance(Format::Json, text.as_bytes(), "A", Now::default()).unwrap();
        instance.set_unconfirmed(is_remembered);
        instance
    }

    /// Whether the instance is only remembered, and the clients that are counted.
    fn state(registry: &mut Registry) -> (bool, u64) {
        (registry.is_unconfirmed("A", "i"), registry.preservation(Now::default()).clients)
    }

    #[test]
    fn only_who_hears_of_an_instance_confirms_it_and_counts_it() {
        let now = Now::default();
        let mut registry = Registry::new(Settings::default(), now);
        registry.open(0, now);
        registry.register(instance(5, true), Caller::Replica, now);
        assert_eq!(state(&mut registry), (true, 1), "another server only remembers it");
        registry.register(instance(5, true), Caller::Replica, now);
        assert_eq!(state(&mut registry), (true, 1));
        registry.register(instance(5, false), Caller::Replica, now);
        assert_eq!(state(&mut registry), (false, 2), "another server heard of it");
        registry.register(instance(9, true), Caller::Replica, now);
        assert_eq!(state(&mut registry), (false, 2), "it was heard of here");
        registry.cancel("A", "i", now);
        registry.register(instance(5, true), Caller::Replica, now);
        assert_eq!(state(&mut registry), (true, 1));
        registry.cancel("A", "i", now);
        assert_eq!(registry.preservation(now).clients, 1, "it was never counted");
        registry.register(instance(5, true), Caller::Client, now);
        assert_eq!(state(&mut registry), (false, 2), "no client gives the mark");
        assert_eq!(registry.bytes(), crate::holdings::size(&instance(5, false)));
    }

    #[test]
    fn a_heartbeat_confirms_also_where_it_brings_an_older_version() {
        let now = Now::default();
        let mut registry = Registry::new(Settings::default(), now);
        registry.open(0, now);
        let mut remembered =
            Remembered { instances: vec![(instance(5, false), Override::default())], ..Remembered::default() };
        assert_eq!(registry.restore(&mut remembered, now), 1);
        assert_eq!(state(&mut registry), (true, 1));
        registry.renew("A", "i", Some(3), None, Caller::Client, now);
        assert_eq!(state(&mut registry), (false, 2));
        assert_eq!(registry.bytes(), crate::holdings::size(&instance(5, false)));
    }
}
