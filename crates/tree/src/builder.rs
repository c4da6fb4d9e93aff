//! From a snapshot to a tree.
//!
//! What always holds: a builder that met an error is dropped with all it has read, so nothing survives of a failed attempt; what
//! [`TreeBuilder::finish`] returns has a root, and no list that no node uses.
//!
//! Counterpart in the original: `DataTree.deserialize` and the cleaning up in `ZooKeeperServer.loadData`.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use rookeeper_proto::snapshot::OPEN_ACL_ID;
use rookeeper_proto::{Acl, SessionId, StatPersisted, TtlEncoding, Zxid, path};

use crate::acl_table::{AclRef, AclTable};
use crate::snapshot_walk::nobody;
use crate::tree::{ROOT_ID, Tree};

/// Why a snapshot does not hold a tree, although its checksums may be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    #[error("node {path:?} comes before its parent, or has none")]
    NoParent { path: String },
    #[error("node {path:?} is there twice")]
    DuplicateNode { path: String },
    #[error("the root is missing")]
    NoRoot,
    #[error("access control list {acl_id} is there twice")]
    DuplicateAcl { acl_id: i64 },
}

/// A tree that is being filled from a snapshot: sessions and lists first, then nodes, parents before children.
#[derive(Debug)]
pub struct TreeBuilder {
    tree: Tree,
    /// The lists by the ids of the snapshot. Each holds a reference until the end.
    acls: HashMap<i64, AclRef, FixedState>,
}

impl Default for TreeBuilder {
    fn default() -> Self {
        TreeBuilder::new()
    }
}

impl TreeBuilder {
    /// For tests and tools, whose paths nobody chooses to collide.
    pub fn new() -> TreeBuilder {
        TreeBuilder::with_seed(0)
    }

    /// See [`Tree::with_seed`].
    pub fn with_seed(seed: u64) -> TreeBuilder {
        TreeBuilder { tree: Tree::empty(seed), acls: HashMap::default() }
    }

    /// See [`Tree::reading`].
    pub fn reading(self, ttl_encoding: TtlEncoding) -> TreeBuilder {
        TreeBuilder { tree: self.tree.reading(ttl_encoding), ..self }
    }

    /// The last timeout of a repeated session counts.
    pub fn add_session(&mut self, session: SessionId, timeout_ms: i32) {
        self.tree.sessions.insert(session, timeout_ms);
    }

    /// An id that is there twice is an error.
    pub fn add_acl(&mut self, acl_id: i64, list: Vec<Acl>) -> Result<(), RestoreError> {
        // The id of the open list needs no entry; one that is there all the same says nothing.
        if acl_id == OPEN_ACL_ID {
            return Ok(());
        }
        let reference = self.tree.acls.retain(Some(list));
        match self.acls.insert(acl_id, reference) {
            None => Ok(()),
            Some(_) => Err(RestoreError::DuplicateAcl { acl_id }),
        }
    }

    /// The root has the empty path. An ACL id without a list is no error yet: a fuzzy snapshot of the original contains nodes
    /// that are younger than its table, whose list the log brings (ZOOKEEPER-3306). Until then nobody may use them. What
    /// the log does not bring is damage, see [`ReplayCleanup::unknown_acls`].
    pub fn add_node(
        &mut self,
        node_path: &str,
        data: Option<&[u8]>,
        acl_id: i64,
        stat: StatPersisted,
    ) -> Result<(), RestoreError> {
        let is_root = node_path.is_empty();
        let tree_path = if is_root { path::ROOT } else { node_path };
        if self.tree.nodes.find(tree_path).is_some() {
            return Err(RestoreError::DuplicateNode { path: node_path.to_owned() });
        }
        let parent = path::parent(tree_path).and_then(|parent| self.tree.nodes.find(parent));
        if parent.is_none() && !is_root {
            return Err(RestoreError::NoParent { path: node_path.to_owned() });
        }
        let acl = match self.acls.get(&acl_id) {
            _ if acl_id == OPEN_ACL_ID => AclTable::OPEN,
            Some(reference) => self.tree.acls.retain_again(*reference),
            None => {
                self.tree.unknown_acls.push(tree_path.to_owned());
                self.tree.acls.retain(Some(nobody()))
            }
        };
        let data = data.map(Box::from);
        match parent {
            Some(parent) => {
                self.tree.add_child(parent, tree_path.into(), data, acl, stat);
            }
            None => {
                let root = self.tree.insert_node(tree_path.into(), data, acl, stat);
                debug_assert_eq!(root, ROOT_ID);
            }
        }
        Ok(())
    }

    /// The tree, as of the zxid in the snapshot's name. The log above it is applied next, then [`Tree::finish_replay`] called.
    pub fn finish(mut self, last_zxid: Zxid) -> Result<Tree, RestoreError> {
        if self.tree.nodes.len() == 0 {
            return Err(RestoreError::NoRoot);
        }
        for reference in self.acls.into_values() {
            self.tree.acls.release(reference);
        }
        self.tree.arm_quotas();
        self.tree.set_last_zxid(last_zxid);
        Ok(self.tree)
    }
}

/// What the end of a replay had to put right.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplayCleanup {
    /// Ephemeral nodes of sessions that are not known: removed here, without a transaction.
    pub removed_ephemerals: Vec<(SessionId, String)>,
    pub recounted_quotas: usize,
    /// Nodes whose list neither the snapshot nor the log had: one of them is damaged. Only the superuser may use these nodes.
    pub unknown_acls: Vec<String>,
}

impl Tree {
    /// Call once after the snapshot and the log are in, before the tree is used.
    pub fn finish_replay(&mut self) -> ReplayCleanup {
        let mut dead: Vec<_> =
            self.ephemerals.keys().filter(|session| !self.sessions.contains_key(*session)).copied().collect();
        dead.sort_unstable();
        let mut removed_ephemerals = Vec::new();
        for session in dead {
            let paths = self.delete_ephemerals(session, self.last_zxid(), &mut Vec::new());
            removed_ephemerals.extend(paths.into_iter().map(|path| (session, path)));
        }
        let mut unknown_acls = std::mem::take(&mut self.unknown_acls);
        unknown_acls.retain(|path| self.node(path).is_some_and(|node| ***node.acl() == *nobody()));
        ReplayCleanup { removed_ephemerals, recounted_quotas: self.recount_quotas(), unknown_acls }
    }
}

impl Tree {
    /// Ends every session, with its ephemeral nodes and without a transaction: for a tree from elsewhere, whose sessions nobody has here. Call in place
    /// of [`Tree::finish_replay`].
    pub fn finish_without_sessions(&mut self) -> ReplayCleanup {
        self.sessions.clear();
        self.finish_replay()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> TreeBuilder {
        let mut builder = TreeBuilder::new();
        builder.add_acl(7, Acl::read_only()).unwrap();
        builder.add_node("", Some(b""), -1, StatPersisted::default()).unwrap();
        builder
    }

    #[test]
    fn what_does_not_make_a_tree_is_refused() {
        let stat = StatPersisted::default();
        let mut orphan = TreeBuilder::new();
        let no_parent = |path: &str| Err(RestoreError::NoParent { path: path.to_owned() });
        assert_eq!(orphan.add_node("/a", None, -1, stat), no_parent("/a"));
        assert_eq!(orphan.finish(Zxid(1)).err(), Some(RestoreError::NoRoot));
        assert_eq!(builder().add_node("/a/b", None, -1, stat), no_parent("/a/b"));
        assert_eq!(builder().add_node("a", None, -1, stat), no_parent("a"));
        let twice = |path: &str| Err(RestoreError::DuplicateNode { path: path.to_owned() });
        assert_eq!(builder().add_node("", None, -1, stat), twice(""));
        assert_eq!(builder().add_node("/", None, -1, stat), twice("/"));
        assert_eq!(builder().add_acl(7, Acl::open()), Err(RestoreError::DuplicateAcl { acl_id: 7 }));
    }

    #[test]
    fn lists_without_nodes_are_dropped_and_no_nodes_added() {
        let mut full = builder();
        full.add_acl(8, vec![]).unwrap();
        full.add_acl(-1, vec![]).unwrap();
        full.add_node("/a", Some(b"x"), 7, StatPersisted::default()).unwrap();
        let tree = full.finish(Zxid(9)).unwrap();
        assert_eq!((tree.acl_count(), tree.last_zxid(), tree.node_count()), (1, Zxid(9), 2));
        assert_eq!(tree.node("/a").unwrap().acl().to_vec(), Acl::read_only());
    }

    #[test]
    fn a_node_with_an_unknown_list_is_closed_to_everybody() {
        let mut builder = builder();
        builder.add_node("/a", None, 99, StatPersisted::default()).unwrap();
        let mut tree = builder.finish(Zxid(1)).unwrap();
        assert_eq!(tree.node("/a").unwrap().acl().to_vec(), nobody());
        assert_eq!(tree.finish_replay().unknown_acls, ["/a"]);
    }

    #[test]
    fn ephemerals_without_a_session_go_when_the_replay_ends() {
        let mut builder = builder();
        builder.add_session(SessionId(1), 4000);
        for (path, owner) in [("/kept", 1), ("/dead", 2)] {
            let stat = StatPersisted { ephemeral_owner: owner, ..StatPersisted::default() };
            builder.add_node(path, None, -1, stat).unwrap();
        }
        let mut tree = builder.finish(Zxid(5)).unwrap();
        assert_eq!(tree.ephemeral_count(), 2);
        let cleanup = tree.finish_replay();
        assert_eq!(cleanup.removed_ephemerals, [(SessionId(2), "/dead".to_owned())]);
        assert_eq!((tree.node("/dead").is_none(), tree.ephemeral_count()), (true, 1));
        assert_eq!(tree.node("/").unwrap().stat().pzxid, Zxid(5));
        tree.finish_without_sessions();
        assert_eq!((tree.node("/kept").is_none(), tree.ephemeral_count(), tree.session_count()), (true, 0, 0));
    }
}
