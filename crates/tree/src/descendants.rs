//! How many nodes are below one, counted in portions.
//!
//! What always holds: where nothing below the node changes while it is counted, the count is exact; else it is that of the nodes that were
//! there from its beginning until they were met.
//!
//! Counterpart in the original: `DataTree.getAllChildrenNumber`, which is as exact.

use crate::subtree_walk::{Step, SubtreeWalk};
use crate::tree::{ROOT_ID, Tree};

/// A count under way.
#[derive(Debug)]
pub struct DescendantCount {
    state: State,
}

#[derive(Debug)]
enum State {
    Counting { walk: SubtreeWalk, met: usize },
    Counted(usize),
}

impl Tree {
    /// Begins to count what is below a node, at any depth. The root has all the others, which needs no count.
    pub fn count_descendants(&self, path: &str) -> Option<DescendantCount> {
        let id = self.nodes.find(path)?;
        let state = match id {
            ROOT_ID => State::Counted(self.node_count() - 1),
            // The node itself is met too.
            id => State::Counting { walk: SubtreeWalk::new(id, self.last_zxid()), met: 0 },
        };
        Some(DescendantCount { state })
    }
}

impl DescendantCount {
    /// Goes on over at most this many nodes. The count, once it is complete.
    pub fn go_on(&mut self, tree: &Tree, limit: usize) -> Option<usize> {
        if let State::Counting { walk, met } = &mut self.state {
            for _ in 0..limit {
                match walk.step(tree) {
                    Step::Node(_) => *met += 1,
                    Step::Skipped => {}
                    Step::End => {
                        self.state = State::Counted(met.saturating_sub(1));
                        break;
                    }
                }
            }
        }
        match self.state {
            State::Counted(count) => Some(count),
            State::Counting { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use rookeeper_proto::txn::{CreateKind, CreateTxn};
    use rookeeper_proto::{SessionId, Txn, TxnHeader, Zxid};

    use super::*;

    fn apply(tree: &mut Tree, txn: Txn) {
        let zxid = Zxid(tree.last_zxid().0 + 1);
        tree.apply(&TxnHeader { session: SessionId(1), cxid: 0, zxid, time_ms: 0 }, txn, &mut Vec::new());
    }

    fn create(tree: &mut Tree, path: String) {
        let kind = CreateKind::Node { ephemeral: false, with_stat: false };
        apply(tree, Txn::Create(CreateTxn { path, data: None, acl: None, kind, parent_cversion: -1 }));
    }

    #[test]
    fn a_fresh_tree_has_its_system_nodes() {
        let tree = Tree::new();
        let count = |path| tree.count_descendants(path).and_then(|mut count| count.go_on(&tree, usize::MAX));
        assert_eq!(["/", "/zookeeper", "/zookeeper/config", "/missing"].map(count), [Some(3), Some(2), Some(0), None]);
    }

    #[test]
    fn what_comes_and_goes_meanwhile_does_not_count_and_the_rest_does() {
        let mut tree = Tree::new();
        create(&mut tree, "/p".into());
        (0..1000).for_each(|number| create(&mut tree, format!("/p/{number:04}")));
        let mut count = tree.count_descendants("/p").unwrap();
        assert_eq!(count.go_on(&tree, 101), None);
        for number in (500..1000).step_by(2) {
            apply(&mut tree, Txn::Delete { path: format!("/p/{number:04}") });
            create(&mut tree, format!("/p/{number:04}-new"));
        }
        let mut rounds = 0;
        let total = loop {
            rounds += 1;
            if let Some(total) = count.go_on(&tree, 100) {
                break total;
            }
        };
        assert_eq!((total, rounds > 8), (750, true));
        // A node that is gone has none, also where another has taken its id.
        let mut count = tree.count_descendants("/p/0001").unwrap();
        apply(&mut tree, Txn::Delete { path: "/p/0001".into() });
        create(&mut tree, "/q".into());
        assert_eq!(count.go_on(&tree, 10), Some(0));
    }
}
