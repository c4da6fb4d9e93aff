//! Series by the first component of a path. They are found and read without a lock.
//!
//! What always holds here: there are never more than [`MAX_NAMESPACES`], and the name of none is longer than [`MAX_NAME_BYTES`]: clients choose
//! the names. What has no place is left out. A namespace keeps its place when its nodes are gone.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use crate::statistics::Summary;

/// Namespaces that are counted.
pub(crate) const MAX_NAMESPACES: usize = 1000;

pub(crate) const MAX_NAME_BYTES: usize = 256;

/// A power of two, twice as many as are used.
const SLOTS: usize = 2048;

/// Places looked at for one name.
const PROBES: usize = 32;

/// The first component of a path; none of the root.
pub(crate) fn namespace(path: &str) -> Option<&str> {
    let behind_root = path.get(1..)?;
    let end = behind_root.bytes().take(MAX_NAME_BYTES + 1).position(|byte| byte == b'/').unwrap_or(behind_root.len());
    (1..=MAX_NAME_BYTES).contains(&end).then(|| &behind_root[..end])
}

#[derive(Debug)]
struct Series {
    namespace: Box<str>,
    summary: Summary,
}

/// A summary for each namespace.
#[derive(Debug)]
pub struct SummaryPerNamespace {
    slots: Box<[OnceLock<Box<Series>>]>,
    used: AtomicUsize,
}

impl Default for SummaryPerNamespace {
    fn default() -> SummaryPerNamespace {
        SummaryPerNamespace { slots: (0..SLOTS).map(|_| OnceLock::new()).collect(), used: AtomicUsize::new(0) }
    }
}

/// The place of a namespace, which keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slot(usize);

impl SummaryPerNamespace {
    /// Adds a value `count` times.
    pub fn record(&self, slot: Slot, value: u64, count: u64) {
        if let Some(series) = self.slots[slot.0].get() {
            series.summary.record_many(value, count);
        }
    }

    /// The namespace of a path and its place. The root belongs to none, and one that comes when all places are taken has none.
    pub fn slot<'p>(&self, path: &'p str) -> Option<(&'p str, Slot)> {
        let namespace = namespace(path)?;
        let first = hash(namespace);
        for probe in 0..PROBES {
            let index = first.wrapping_add(probe) % SLOTS;
            let slot = &self.slots[index];
            let series = match slot.get() {
                Some(series) => series,
                None if self.used.load(Relaxed) >= MAX_NAMESPACES => return None,
                // Another thread may be faster, with this name or another one.
                None => slot.get_or_init(|| {
                    self.used.fetch_add(1, Relaxed);
                    Box::new(Series { namespace: namespace.into(), summary: Summary::default() })
                }),
            };
            if *series.namespace == *namespace {
                return Some((namespace, Slot(index)));
            }
        }
        None
    }

    /// Those that have any values.
    pub fn summaries(&self) -> BTreeMap<&str, &Summary> {
        let all = self.slots.iter().filter_map(OnceLock::get);
        all.filter(|series| series.summary.count() > 0).map(|series| (&*series.namespace, &series.summary)).collect()
    }

    pub(crate) fn reset(&self) {
        self.slots.iter().filter_map(OnceLock::get).for_each(|series| series.summary.reset());
    }
}

/// FNV-1a. Clients that choose names which fall together only lose their own figures.
fn hash(name: &str) -> usize {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = name.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, step);
    (hash ^ (hash >> 32)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(all: &SummaryPerNamespace, path: &str, value: u64) {
        if let Some((_, slot)) = all.slot(path) {
            all.record(slot, value, 1);
        }
    }

    #[test]
    fn values_are_kept_apart_by_the_first_component() {
        let all = SummaryPerNamespace::default();
        for (path, value) in [("/a", 1), ("/a/b/c", 5), ("/b", 7), ("/", 9), ("/a", 3)] {
            record(&all, path, value);
        }
        let told: Vec<(&str, u64, u64)> =
            all.summaries().into_iter().map(|(name, summary)| (name, summary.count(), summary.sum())).collect();
        assert_eq!(told, [("a", 3, 9), ("b", 1, 7)]);
        all.reset();
        assert!(all.summaries().is_empty());
    }

    #[test]
    fn names_without_end_take_no_room_without_end() {
        let all = SummaryPerNamespace::default();
        record(&all, &format!("/{}", "x".repeat(MAX_NAME_BYTES + 1)), 1);
        assert!(all.summaries().is_empty());
        for name in 0..5 * MAX_NAMESPACES {
            record(&all, &format!("/n{name}"), 1);
        }
        let kept = all.summaries().len();
        assert!((MAX_NAMESPACES * 9 / 10..=MAX_NAMESPACES).contains(&kept), "{kept}");
        record(&all, "/n0/below", 1);
        assert_eq!(all.summaries()["n0"].count(), 2);
    }
}
