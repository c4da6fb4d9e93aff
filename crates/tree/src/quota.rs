//! Quotas: which paths have one, and what is used of it.
//!
//! A quota on `/p` is two ordinary nodes, `/zookeeper/quota/p/zookeeper_limits` and `…/zookeeper_stats`. What always holds: a path
//! is armed exactly while its limits node exists; a node counts for the nearest armed ancestor-or-self only, so what is used of a quota
//! follows from the nodes alone, and a server that has loaded a snapshot counts as one that never stopped; a quota on the root is
//! ignored; writing statistics touches no stat field but the data length and fires nothing. The statistics node of an armed path shows
//! what was counted, whatever a client writes there. Text that clients wrote into these nodes can be anything, and is never trusted to
//! parse.
//!
//! Counterpart in the original: `StatsTrack`, `PathTrie` and the quota parts of `DataTree`. There an outer quota counts an inner one's
//! nodes too from a restart on, until they change.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use rookeeper_proto::path;

use crate::nodes::{Node, NodeId};
use crate::path_trie::PathTrie;
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

/// The nodes that count for a quota, and the bytes of their data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Usage {
    count: i64,
    bytes: i64,
}

impl Usage {
    fn of(node: &Node) -> Usage {
        Usage { count: 1, bytes: counted_bytes(&node.path, node.data_length()) }
    }

    fn add(&mut self, other: Usage) {
        self.count += other.count;
        self.bytes += other.bytes;
    }

    fn subtract(&mut self, other: Usage) {
        self.count -= other.count;
        self.bytes -= other.bytes;
    }

    fn to_text(self) -> Box<[u8]> {
        format!("count={},bytes={}", self.count, self.bytes).into_bytes().into_boxed_slice()
    }
}

/// The paths that have a limits node, and what is used of each.
#[derive(Debug)]
pub(crate) struct ArmedQuotas {
    usage: PathTrie<Usage>,
    paths: BTreeSet<Box<str>>,
}

impl ArmedQuotas {
    pub(crate) fn new(seed: u64) -> ArmedQuotas {
        ArmedQuotas { usage: PathTrie::new(seed), paths: BTreeSet::new() }
    }

    /// The longest armed path that is `node_path` or an ancestor of it.
    fn nearest<'a>(&self, node_path: &'a str) -> Option<(&'a str, &Usage)> {
        self.usage.nearest(node_path)
    }

    fn arm(&mut self, limited: &str, used: Usage) {
        if let Some(usage) = self.usage.get_or_insert_with(limited, Usage::default) {
            *usage = used;
            self.paths.insert(limited.into());
        }
    }

    /// What the armed paths below this one use together.
    fn used_below(&self, limited: &str) -> Usage {
        let below = format!("{limited}/");
        let inner = self.paths.range::<str, _>((Bound::Included(below.as_str()), Bound::Unbounded));
        inner.take_while(|path| path.starts_with(&below)).filter_map(|path| self.usage.get(path)).fold(
            Usage::default(),
            |mut sum, usage| {
                sum.add(*usage);
                sum
            },
        )
    }
}

/// What the data of a node adds to the bytes of a quota. That of statistics adds nothing: it follows from the count.
fn counted_bytes(node_path: &str, data_length: usize) -> i64 {
    if limited_path(node_path, path::QUOTA_STATS).is_some() { 0 } else { data_length as i64 }
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
        let Some((limited, used)) = self.quotas.nearest(path) else { return QuotaVerdict::Ok };
        let Some(limits) = self.node(&limits_node(limited)) else { return QuotaVerdict::Ok };
        let Some(limits) = Figures::parse(limits.data()) else { return QuotaVerdict::Unreadable };
        if self.node(&stats_node(limited)).is_none() {
            return QuotaVerdict::Ok;
        }
        let checks = [
            (count_delta, used.count, "countHardLimit", "count"), // First the count, as in the original.
            (bytes_delta, used.bytes, "byteHardLimit", "bytes"),
        ];
        let mut verdict = QuotaVerdict::Ok;
        for (delta, used, hard, soft) in checks {
            let (limit, exceeded) = match limits.value(hard) {
                limit if limit > -1 => (limit, QuotaVerdict::HardExceeded),
                _ => (limits.value(soft), QuotaVerdict::SoftExceeded),
            };
            if delta != 0 && limit > -1 && used.saturating_add(delta) > limit {
                verdict = exceeded;
                if exceeded == QuotaVerdict::HardExceeded {
                    break;
                }
            }
        }
        verdict
    }

    /// What a created node means for quotas: it uses some of the nearest, and it may be one of their nodes.
    pub(crate) fn quota_node_created(&mut self, id: NodeId) {
        let node = &self.nodes[id];
        let (node_path, used) = (node.path.clone(), Usage::of(node));
        self.quota_use(&node_path, |usage| usage.add(used));
        if let Some(limited) = limited_path(&node_path, path::QUOTA_LIMITS) {
            self.arm_quota(limited);
        } else if let Some(limited) = limited_path(&node_path, path::QUOTA_STATS) {
            self.show_usage(limited);
        }
    }

    /// The node is out of the tree.
    pub(crate) fn quota_node_deleted(&mut self, node: &Node) {
        let used = Usage::of(node);
        self.quota_use(&node.path, |usage| usage.subtract(used));
        if let Some(limited) = limited_path(&node.path, path::QUOTA_LIMITS) {
            self.quotas.paths.remove(limited);
            // What it counted is from now on the next outer one's.
            if let Some(used) = self.quotas.usage.remove(limited) {
                self.quota_use(limited, |usage| usage.add(used));
            }
        }
    }

    pub(crate) fn quota_data_changed(&mut self, node_path: &str, grown: i64) {
        match limited_path(node_path, path::QUOTA_STATS) {
            Some(limited) => self.show_usage(limited),
            None => self.quota_use(node_path, |usage| usage.bytes += grown),
        }
    }

    /// Changes what is used of the nearest quota, and shows it.
    fn quota_use(&mut self, node_path: &str, change: impl FnOnce(&mut Usage)) {
        if let Some((limited, usage)) = self.quotas.usage.nearest_mut(node_path) {
            change(usage);
            self.show_usage(limited);
        }
    }

    /// Writes what is used of an armed path into its statistics node, if it has one.
    fn show_usage(&mut self, limited: &str) {
        if let Some(usage) = self.quotas.usage.get(limited)
            && let Some(stats) = self.nodes.find(&stats_node(limited))
        {
            let text = usage.to_text();
            self.replace_data(stats, Some(text), |_| {});
        }
    }

    /// Counts what is below a path, except what inner quotas count. The next outer one counts that no longer. Takes time in proportion to
    /// the number of nodes.
    fn arm_quota(&mut self, limited: &str) {
        let mut used = Usage::default();
        if let Some(top) = self.nodes.find(limited) {
            self.walk_subtree(top, |id| used.add(Usage::of(&self.nodes[id])));
        }
        used.subtract(self.quotas.used_below(limited));
        self.quota_use(limited, |usage| usage.subtract(used));
        self.quotas.arm(limited, used);
        self.show_usage(limited);
    }

    /// Arms the quotas of all limits nodes that are there, without counting.
    pub(crate) fn arm_quotas(&mut self) {
        let Some(top) = self.nodes.find(path::QUOTA) else { return };
        let mut limits = Vec::new();
        self.walk_subtree(top, |id| {
            limits.extend(limited_path(&self.nodes[id].path, path::QUOTA_LIMITS).map(Box::<str>::from));
        });
        for limited in limits {
            self.quotas.arm(&limited, Usage::default());
        }
    }

    /// Counts the use of every quota anew. Returns how many there are.
    pub(crate) fn recount_quotas(&mut self) -> usize {
        let armed: Vec<_> = self.quotas.paths.iter().cloned().collect();
        if armed.is_empty() {
            return 0;
        }
        for limited in &armed {
            self.quotas.arm(limited, Usage::default());
        }
        for node in self.nodes.iter() {
            if let Some((_, usage)) = self.quotas.usage.nearest_mut(&node.path) {
                usage.add(Usage::of(node));
            }
        }
        for limited in &armed {
            self.show_usage(limited);
        }
        armed.len()
    }

    /// What the quotas behind a path in the order of paths say, at most `limit` of them: those whose limits can be read.
    pub fn quotas_behind(&self, path: Option<&str>, limit: usize) -> Vec<NamespaceQuota> {
        let from = path.map_or(Bound::Unbounded, Bound::Excluded);
        let quotas = self.quotas.paths.range::<str, _>((from, Bound::Unbounded)).take(limit);
        let told = quotas.map(|limited| {
            let limits = self.node(&limits_node(limited)).and_then(|limits| Figures::parse(limits.data()));
            let shown = self.node(&stats_node(limited)).is_some();
            let used = self.quotas.usage.get(limited).copied().filter(|_| shown);
            let limit_of = |hard, soft| {
                let limits = limits.as_ref()?;
                Some(if limits.value(hard) > -1 { limits.value(hard) } else { limits.value(soft) })
            };
            NamespaceQuota {
                path: limited.to_string(),
                count_limit: limit_of("countHardLimit", "count"),
                bytes_limit: limit_of("byteHardLimit", "bytes"),
                count_used: used.map(|used| used.count),
                bytes_used: used.map(|used| used.bytes),
            }
        });
        told.collect()
    }
}

/// A quota, for whoever watches over them. -1 is no limit; `None` where the node that would say is missing or does not parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceQuota {
    pub path: String,
    /// The hard limit where there is one, else the soft one.
    pub count_limit: Option<i64>,
    pub bytes_limit: Option<i64>,
    pub count_used: Option<i64>,
    pub bytes_used: Option<i64>,
}

impl NamespaceQuota {
    /// The first component of the path.
    pub fn namespace(&self) -> &str {
        self.path[1..].split('/').next().unwrap_or_default()
    }
}

/// The text of limits: `count=N,bytes=N`, then `=;key=N…` for other keys in sorted order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Figures {
    values: BTreeMap<String, i64>,
}

/// All known keys with their longest values take 130 bytes. More text is damage, which keeps every write below a quota cheap whatever a
/// client wrote there.
const MAX_TEXT_BYTES: usize = 512;

impl Figures {
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
    fn limits_are_read_in_every_form() {
        let limits = Figures::parse(Some(b"count=1,bytes=2=;byteHardLimit=3;countHardLimit=4")).unwrap();
        let values = ["count", "bytes", "byteHardLimit", "countHardLimit", "other"].map(|key| limits.value(key));
        assert_eq!(values, [1, 2, 3, 4, -1]);
        assert_eq!(Figures::parse(Some(b"count=,bytes=7")).unwrap().value("count"), -1);
        assert_eq!(Figures::parse(Some(b"")).unwrap().value("bytes"), -1);
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
