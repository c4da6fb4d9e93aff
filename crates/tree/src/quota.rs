//! Quotas: which paths have one, and what is used of it.
//!
//! A quota on `/p` is two ordinary nodes, `/zookeeper/quota/p/zookeeper_limits` and `…/zookeeper_stats`. What always holds: a path
//! is armed exactly while its limits node exists; a change counts for the nearest armed ancestor-or-self only; a quota on the root
//! is ignored; writing statistics touches no stat field but the data length and fires nothing. Text that clients wrote into these
//! nodes can be anything, and is never trusted to parse.
//!
//! Counterpart in the original: `StatsTrack`, `PathTrie` and the quota parts of `DataTree`.

use std::collections::BTreeMap;
use std::fmt::Write;

use foldhash::fast::FixedState;
use hashbrown::HashSet;
use rookeeper_proto::path;

use crate::tree::Tree;

/// Whether a change fits into the nearest quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaVerdict {
    Ok,
    /// Above a soft limit, which is only worth a warning.
    SoftExceeded,
    HardExceeded,
    /// The limits do not parse.
    Unreadable,
}

/// The paths that have a limits node.
#[derive(Debug)]
pub(crate) struct ArmedQuotas {
    paths: HashSet<Box<str>, FixedState>,
}

impl ArmedQuotas {
    pub(crate) fn new(seed: u64) -> ArmedQuotas {
        ArmedQuotas { paths: HashSet::with_hasher(FixedState::with_seed(seed)) }
    }

    /// The longest armed path that is `node_path` or an ancestor of it.
    fn nearest<'a>(&self, node_path: &'a str) -> Option<&'a str> {
        if self.paths.is_empty() {
            return None;
        }
        std::iter::successors(Some(node_path), |below| path::parent(below)).find(|path| self.paths.contains(*path))
    }
}

/// If `node_path` is the quota node called `name` of some path, that path. The root has none.
fn limited_path<'a>(node_path: &'a str, name: &str) -> Option<&'a str> {
    let path = node_path.strip_prefix(path::QUOTA)?.strip_suffix(name)?.strip_suffix('/')?;
    (path.len() > 1).then_some(path)
}

fn limits_node(path: &str) -> String {
    format!("{}{path}/{}", path::QUOTA, path::QUOTA_LIMITS)
}

fn stats_node(path: &str) -> String {
    format!("{}{path}/{}", path::QUOTA, path::QUOTA_STATS)
}

impl Tree {
    /// For enforced quotas: whether a create or setData at `path` fits into the nearest quota.
    pub fn check_quota(&self, path: &str, bytes_delta: i64, count_delta: i64) -> QuotaVerdict {
        let Some(limited) = self.quotas.nearest(path) else { return QuotaVerdict::Ok };
        let Some(limits) = self.node(&limits_node(limited)) else { return QuotaVerdict::Ok };
        let Some(limits) = Figures::parse(limits.data()) else { return QuotaVerdict::Unreadable };
        let Some(stats) = self.node(&stats_node(limited)) else { return QuotaVerdict::Ok };
        let used = Figures::parse(stats.data()).unwrap_or_else(Figures::zero);
        let checks = [
            (count_delta, "countHardLimit", "count"), // First the count, as in the original.
            (bytes_delta, "byteHardLimit", "bytes"),
        ];
        let mut verdict = QuotaVerdict::Ok;
        for (delta, hard, soft) in checks {
            let (limit, exceeded) = match limits.value(hard) {
                limit if limit > -1 => (limit, QuotaVerdict::HardExceeded),
                _ => (limits.value(soft), QuotaVerdict::SoftExceeded),
            };
            if delta != 0 && limit > -1 && used.value(soft).saturating_add(delta) > limit {
                verdict = exceeded;
                if exceeded == QuotaVerdict::HardExceeded {
                    break;
                }
            }
        }
        verdict
    }

    /// What a created node means for quotas: it may be one of their nodes, and it uses some of the nearest.
    pub(crate) fn quota_node_created(&mut self, node_path: &str, data_length: usize) {
        if let Some(limited) = limited_path(node_path, path::QUOTA_LIMITS) {
            self.quotas.paths.insert(limited.into());
        } else if let Some(limited) = limited_path(node_path, path::QUOTA_STATS) {
            self.recount_quota(limited);
        }
        self.quota_adjust(node_path, data_length as i64, 1);
    }

    pub(crate) fn quota_node_deleted(&mut self, node_path: &str, data_length: usize) {
        if let Some(limited) = limited_path(node_path, path::QUOTA_LIMITS) {
            self.quotas.paths.remove(limited);
        }
        self.quota_adjust(node_path, -(data_length as i64), -1);
    }

    /// Adds to what is used of the nearest quota.
    pub(crate) fn quota_adjust(&mut self, node_path: &str, bytes_delta: i64, count_delta: i64) {
        let Some(limited) = self.quotas.nearest(node_path) else { return };
        let Some(id) = self.nodes.find(&stats_node(limited)) else { return };
        let mut figures = Figures::parse(self.nodes[id].data.as_deref()).unwrap_or_else(Figures::zero);
        figures.add("count", count_delta);
        figures.add("bytes", bytes_delta);
        self.replace_data(id, Some(figures.to_text()), |_| {});
    }

    /// Counts what is used below a path anew, if it has a statistics node.
    fn recount_quota(&mut self, limited: &str) {
        let Some(stats) = self.nodes.find(&stats_node(limited)) else { return };
        let (mut count, mut bytes) = (0, 0);
        if let Some(top) = self.nodes.find(limited) {
            self.walk_subtree(top, |id| {
                count += 1;
                bytes += self.nodes[id].data_length() as i64;
            });
        }
        let mut figures = Figures::zero();
        figures.add("count", count);
        figures.add("bytes", bytes);
        self.replace_data(stats, Some(figures.to_text()), |_| {});
    }

    /// Arms the quotas of all limits nodes that are there.
    pub(crate) fn arm_quotas(&mut self) {
        let Some(top) = self.nodes.find(path::QUOTA) else { return };
        let mut limits = Vec::new();
        self.walk_subtree(top, |id| {
            limits.extend(limited_path(&self.nodes[id].path, path::QUOTA_LIMITS).map(Box::<str>::from));
        });
        self.quotas.paths.extend(limits);
    }

    /// Counts the use of every quota anew. Returns how many there are.
    pub(crate) fn recount_quotas(&mut self) -> usize {
        let armed: Vec<_> = self.quotas.paths.iter().cloned().collect();
        for limited in &armed {
            self.recount_quota(limited);
        }
        armed.len()
    }
}

/// The text of limits and statistics: `count=N,bytes=N`, then `=;key=N…` for other keys in sorted order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Figures {
    values: BTreeMap<String, i64>,
}

/// All known keys with their longest values take 130 bytes. Unknown keys are kept as long as they fit; more text is damage, which
/// keeps every write below a quota cheap whatever a client wrote there.
const MAX_TEXT_BYTES: usize = 512;

impl Figures {
    fn zero() -> Figures {
        Figures { values: BTreeMap::from([("count".to_owned(), 0), ("bytes".to_owned(), 0)]) }
    }

    /// `None` where the text is damaged. Null data is; empty data says nothing is set.
    fn parse(data: Option<&[u8]>) -> Option<Figures> {
        let data = data.filter(|data| data.len() <= MAX_TEXT_BYTES)?;
        let text = std::str::from_utf8(data).ok()?;
        let mut values = BTreeMap::new();
        for pair in text.split([',', ';']).filter(|pair| !pair.is_empty()) {
            // The stray `=` behind the second value ends a pair that older parsers can read.
            let mut parts = pair.split('=');
            let (key, value) = (parts.next()?, parts.next()?);
            let value = if value.is_empty() { -1 } else { value.parse().ok()? };
            values.insert(key.to_owned(), value);
        }
        Some(Figures { values })
    }

    /// -1 where it is not set.
    fn value(&self, key: &str) -> i64 {
        self.values.get(key).copied().unwrap_or(-1)
    }

    fn add(&mut self, key: &str, delta: i64) {
        let value = self.value(key).wrapping_add(delta);
        self.values.insert(key.to_owned(), value);
    }

    fn to_text(&self) -> Box<[u8]> {
        let mut text = format!("count={},bytes={}", self.value("count"), self.value("bytes"));
        let mut others = self.values.iter().filter(|(key, _)| *key != "count" && *key != "bytes").peekable();
        if others.peek().is_some() {
            text.push('=');
        }
        for (key, value) in others {
            write!(text, ";{key}={value}").expect("a String takes all text");
        }
        text.into_bytes().into_boxed_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quota_nodes_are_told_by_place_and_name() {
        let limited = |path| limited_path(path, path::QUOTA_LIMITS);
        assert_eq!(limited("/zookeeper/quota/a/b/zookeeper_limits"), Some("/a/b"));
        assert_eq!(limited("/zookeeper/quota/zookeeper_limits"), None);
        assert_eq!(limited("/zookeeper/quota/a/zookeeper_stats"), None);
        assert_eq!(limited("/zookeeper/quota/a/my_zookeeper_limits"), None);
        assert_eq!(limited("/a/zookeeper_limits"), None);
    }

    #[test]
    fn text_round_trips_in_the_order_that_old_parsers_need() {
        for text in ["count=5,bytes=-1", "count=1,bytes=2=;byteHardLimit=3;countHardLimit=4"] {
            assert_eq!(*Figures::parse(Some(text.as_bytes())).unwrap().to_text(), *text.as_bytes());
        }
        assert_eq!(Figures::parse(Some(b"count=,bytes=7")).unwrap().value("count"), -1);
        assert_eq!(*Figures::parse(Some(b"")).unwrap().to_text(), *b"count=-1,bytes=-1");
    }

    #[test]
    fn damaged_text_is_recognised() {
        let many: String = (0..200).map(|key| format!("k{key}=1,")).collect();
        for text in ["count", "count=x", "count=99999999999999999999", "garbage,bytes=1", many.as_str()] {
            assert_eq!(Figures::parse(Some(text.as_bytes())), None, "{text}");
        }
        assert_eq!((Figures::parse(None), Figures::parse(Some(&[0xff]))), (None, None));
    }
}
