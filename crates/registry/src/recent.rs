//! What changed lately: the delta, and what came after a moment that a client names. Each instance is there once, as it stood after its newest change;
//! a heartbeat is no change.
//!
//! What always holds here: changes are numbered in their order; whoever has heard all changes below a number and asks for the rest misses none, or is
//! told that some are forgotten; of the delta, only the applications are put together and encoded anew in which something changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::application::{Application, Record};
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
    /// What the delta shows of each application.
    apps: BTreeMap<Arc<str>, Shown>,
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

#[derive(Debug, Default)]
struct Shown {
    /// The changes, oldest first.
    numbers: BTreeSet<u64>,
    /// As last told.
    told: Option<Arc<Application>>,
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
            && let Some(standing) = self.changes.remove(&older)
        {
            self.drop_shown(older, &standing);
            self.bytes -= size(&standing.record.instance);
            if is_quiet && !standing.is_quiet {
                changed = Changed { at_ms: standing.at_ms, is_quiet: false, ..changed };
            }
        }
        self.bytes += size(&changed.record.instance);
        if !changed.is_quiet {
            let shown = self.apps.entry(changed.record.instance.app.clone()).or_default();
            shown.numbers.insert(self.next);
            shown.told = None;
        }
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

    /// What the delta shows.
    pub fn applications(&mut self) -> Vec<Arc<Application>> {
        let Recent { apps, changes, .. } = self;
        let tell = |(name, shown): (&Arc<str>, &mut Shown)| {
            let Shown { numbers, told } = shown;
            let records =
                || numbers.iter().filter_map(|number| changes.get(number)).map(|changed| changed.record.clone());
            told.get_or_insert_with(|| Arc::new(Application::new(name.clone(), records().collect()))).clone()
        };
        apps.iter_mut().map(tell).collect()
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
        if let Some((number, changed)) = self.changes.pop_first() {
            self.drop_shown(number, &changed);
            let instance = &changed.record.instance;
            self.forgotten = number + 1;
            self.bytes -= size(instance);
            self.numbers.remove(&(instance.app.clone(), instance.id.clone()));
        }
    }

    /// The delta shows a change no more.
    fn drop_shown(&mut self, number: u64, changed: &Changed) {
        let app = &changed.record.instance.app;
        if let Some(shown) = self.apps.get_mut(app).filter(|_| !changed.is_quiet) {
            shown.numbers.remove(&number);
            shown.told = None;
            if shown.numbers.is_empty() {
                self.apps.remove(app);
            }
        }
    }
}
