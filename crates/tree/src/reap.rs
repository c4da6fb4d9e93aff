//! Which containers and nodes with a time to live are due.
//!
//! Only names candidates: their deletion is a transaction like any other, prepared and checked again by the leader.
//!
//! Counterpart in the original: `ContainerManager.getCandidates`.

use std::ops::Bound::{Excluded, Unbounded};

use rookeeper_proto::{NodeKind, StatPersisted};

use crate::owned::Mark;
use crate::tree::Tree;

impl Tree {
    /// Looks at up to `limit` containers and nodes with a time to live, the first ones or those behind `mark`, and names those that are
    /// due. The mark is where to go on, `None` where nothing is left.
    ///
    /// A container is due once its last child is gone, or, where `never_used_ms` is not 0, if it never had one for longer than that; a
    /// node with a time to live once that has passed since its data changed, unless it has children. `now_ms` is wall-clock time.
    pub fn reap_candidates(
        &self,
        now_ms: i64,
        never_used_ms: i64,
        mark: Option<Mark>,
        limit: usize,
    ) -> (Vec<String>, Option<Mark>) {
        let begin = mark.map_or(Unbounded, |mark| Excluded(mark.0));
        let (mut due, mut looked_at, mut last) = (Vec::new(), 0, None);
        for id in self.reapable.range((begin, Unbounded)).take(limit) {
            let node = &self.nodes[*id];
            if node.children().is_none() && self.is_due(&node.stat, now_ms, never_used_ms) {
                due.push(node.path.to_string());
            }
            (looked_at, last) = (looked_at + 1, Some(Mark(*id)));
        }
        (due, last.filter(|_| looked_at == limit))
    }

    /// Whether a node without children is to go by itself.
    pub fn is_due(&self, stat: &StatPersisted, now_ms: i64, never_used_ms: i64) -> bool {
        let idle_ms = now_ms.saturating_sub(stat.mtime_ms);
        match stat.kind(self.ttl_encoding) {
            NodeKind::Container if stat.cversion > 0 => true,
            NodeKind::Container => never_used_ms > 0 && idle_ms > never_used_ms,
            NodeKind::Ttl { ttl_ms } => ttl_ms > 0 && idle_ms > ttl_ms,
            NodeKind::Persistent | NodeKind::Ephemeral(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use rookeeper_proto::txn::{CreateKind, CreateTxn};
    use rookeeper_proto::{SessionId, TtlEncoding, Txn, TxnHeader, Zxid};

    use super::*;
    use crate::TreeBuilder;

    fn apply(tree: &mut Tree, time_ms: i64, txn: Txn) {
        let zxid = Zxid(tree.last_zxid().0 + 1);
        tree.apply(&TxnHeader { session: SessionId(1), cxid: 0, zxid, time_ms }, txn, &mut Vec::new());
    }

    fn create(path: &str, kind: CreateKind) -> Txn {
        Txn::Create(CreateTxn { path: path.to_owned(), data: None, acl: None, kind, parent_cversion: -1 })
    }

    fn due(tree: &Tree, now_ms: i64, never_used_ms: i64) -> Vec<String> {
        let (mut due, mut mark) = tree.reap_candidates(now_ms, never_used_ms, None, 1);
        while mark.is_some() {
            let (mut more, next) = tree.reap_candidates(now_ms, never_used_ms, mark, 1);
            due.append(&mut more);
            mark = next;
        }
        due.sort();
        due
    }

    #[test]
    fn a_container_is_due_when_its_last_child_is_gone() {
        let plain = CreateKind::Node { ephemeral: false, with_stat: false };
        let mut tree = Tree::new();
        apply(&mut tree, 1000, create("/used", CreateKind::Container));
        apply(&mut tree, 1000, create("/unused", CreateKind::Container));
        apply(&mut tree, 1000, create("/used/child", plain));
        assert_eq!(due(&tree, 9000, 0), [""; 0]);
        apply(&mut tree, 2000, Txn::Delete { path: "/used/child".into() });
        assert_eq!(due(&tree, 9000, 0), ["/used"]);
        assert_eq!(due(&tree, 1500, 500), ["/used"]);
        assert_eq!(due(&tree, 1501, 500), ["/unused", "/used"]);
        assert_eq!(tree.reap_candidates(1501, 500, None, 1).0.len(), 1);
        apply(&mut tree, 2000, Txn::DeleteContainer { path: "/used".into() });
        assert_eq!(due(&tree, 9000, 0), [""; 0]);
    }

    #[test]
    fn a_time_to_live_of_3_5_3_ends_where_owners_are_read_so() {
        let owner = |owner: u64| StatPersisted::created(Zxid(1), 1000, owner as i64);
        let restored = |encoding| {
            let mut builder = TreeBuilder::new().reading(encoding);
            builder.add_node("", None, -1, StatPersisted::default()).unwrap();
            builder.add_node("/old", None, -1, owner(0x8000_0000_0000_0064)).unwrap();
            builder.add_node("/new", None, -1, owner(0xff00_0000_0000_0064)).unwrap();
            builder.add_node("/stays", None, -1, owner(0x8000_0100_0000_0000)).unwrap();
            let mut tree = builder.finish(Zxid(1)).unwrap();
            tree.finish_replay();
            tree
        };
        let tree = restored(TtlEncoding::Also353);
        assert_eq!((due(&tree, 1100, 0), tree.ephemeral_count()), (vec![], 0));
        assert_eq!(due(&tree, 1101, 0), ["/new", "/old"]);
        assert_eq!(due(&tree, i64::MAX, 0), ["/new", "/old"]);
        assert_eq!(tree.node("/old").unwrap().stat().ephemeral_owner, 0, "clients see no owner");
        // Without the setting they are ephemeral nodes of sessions that are not there.
        let tree = restored(TtlEncoding::Current);
        assert_eq!((due(&tree, 1101, 0), tree.node("/old").is_none()), (vec!["/new".to_owned()], true));
    }

    #[test]
    fn a_time_to_live_runs_from_the_last_change_of_data_and_waits_for_children() {
        let plain = CreateKind::Node { ephemeral: false, with_stat: false };
        let mut tree = Tree::new();
        apply(&mut tree, 1000, create("/ttl", CreateKind::Ttl { ttl_ms: 50 }));
        assert_eq!(due(&tree, 1050, 0), [""; 0]);
        assert_eq!(due(&tree, 1051, 0), ["/ttl"]);
        apply(&mut tree, 1040, Txn::SetData { path: "/ttl".into(), data: None, version: 1 });
        assert_eq!(due(&tree, 1051, 0), [""; 0]);
        apply(&mut tree, 1080, create("/ttl/child", plain));
        assert_eq!(due(&tree, 2000, 0), [""; 0]);
        apply(&mut tree, 1090, Txn::Delete { path: "/ttl/child".into() });
        assert_eq!(due(&tree, 1091, 0), ["/ttl"]);
    }
}
