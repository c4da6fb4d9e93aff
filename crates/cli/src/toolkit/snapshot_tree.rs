//! The nodes of a snapshot as a tree, each node's children in the order in which the original's tools walk them.
//!
//! What always holds: every node but the root has a parent; the walks use no stack of their own depth, so a deep tree is no danger.
//!
//! Counterpart in the original: `DataTree.deserialize`, and `DataNode`, whose children are a hash table with room for eight.

use std::collections::HashMap;
use std::path::Path;

use rookeeper_proto::snapshot::SessionEntry;
use rookeeper_store::{ListedNode, MAX_RECORD_BYTES, RealDisk, StoreError, snapshot_reader};

use crate::java;

/// Room for the children of a node, and for sessions, before anything is in there.
const CHILDREN: usize = 8;
const SESSIONS: usize = 16;

/// What a snapshot holds.
#[derive(Debug)]
pub struct SnapshotTree {
    /// In the order in which the original prints them.
    pub sessions: Vec<SessionEntry>,
    /// Parents first; the first one is the root.
    pub nodes: Vec<ListedNode>,
    /// Of each node, as places in `nodes`.
    pub children: Vec<Vec<usize>>,
    by_path: HashMap<String, usize>,
}

/// A step of a walk over a node and everything below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// In front of the node's children, with the depth below the start.
    Enter { node: usize, depth: usize },
    /// Behind them.
    Leave { node: usize, depth: usize },
}

impl SnapshotTree {
    /// Reads a snapshot. Where all nodes are there and only a seal is wrong, the error comes beside the tree.
    pub fn read(path: &Path) -> Result<(SnapshotTree, Option<StoreError>), String> {
        let (listed, unsealed) =
            snapshot_reader::list(&RealDisk, path, MAX_RECORD_BYTES).map_err(|error| error.to_string())?;
        let tree = SnapshotTree::new(listed.nodes, listed.sessions)
            .map_err(|problem| format!("{}: {problem}", path.display()))?;
        Ok((tree, unsealed))
    }

    fn new(nodes: Vec<ListedNode>, mut sessions: Vec<SessionEntry>) -> Result<SnapshotTree, String> {
        if nodes.first().is_none_or(|root| !root.path.is_empty()) {
            return Err("its nodes don't begin with the root".to_owned());
        }
        let mut by_path: HashMap<String, usize> = HashMap::with_capacity(nodes.len());
        let mut children = vec![Vec::new(); nodes.len()];
        for (place, node) in nodes.iter().enumerate() {
            if let Some((parent, _)) = node.path.rsplit_once('/') {
                let parent = *by_path.get(parent).ok_or_else(|| format!("{} has no parent", node.path))?;
                children[parent].push(place);
            } else if place > 0 {
                return Err(format!("{:?} is no path", node.path));
            }
            if by_path.insert(node.path.clone(), place).is_some() {
                return Err(format!("{} is there twice", node.path));
            }
        }
        for list in &mut children {
            java::sort_as_hash_table(list, CHILDREN, |place| java::hash_of_text(name(&nodes[*place].path)));
        }
        java::sort_as_hash_table(&mut sessions, SESSIONS, |entry| java::hash_of_long(entry.session.0));
        Ok(SnapshotTree { sessions, nodes, children, by_path })
    }

    /// The place of a node; the root is `/` or the empty path.
    pub fn find(&self, path: &str) -> Option<usize> {
        self.by_path.get(if path == "/" { "" } else { path }).copied()
    }

    /// The length of a node's data, in bytes.
    pub fn data_length(&self, node: usize) -> usize {
        self.nodes[node].data.as_ref().map_or(0, Vec::len)
    }

    /// A node with everything below.
    pub fn walk(&self, start: usize) -> impl Iterator<Item = Step> {
        let mut pending = vec![Step::Enter { node: start, depth: 0 }];
        std::iter::from_fn(move || {
            let step = pending.pop()?;
            if let Step::Enter { node, depth } = step {
                pending.push(Step::Leave { node, depth });
                let children = self.children[node].iter().rev();
                pending.extend(children.map(|child| Step::Enter { node: *child, depth: depth + 1 }));
            }
            Some(step)
        })
    }
}

/// The last part of a path.
pub fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use rookeeper_proto::stat::StatPersisted;

    use super::*;

    fn tree(paths: &[&str]) -> Result<SnapshotTree, String> {
        let node = |path: &&str| ListedNode { path: (*path).to_owned(), data: None, stat: StatPersisted::default() };
        SnapshotTree::new(paths.iter().map(node).collect(), Vec::new())
    }

    #[test]
    fn a_walk_enters_and_leaves_every_node_once() {
        let tree = tree(&["", "/a", "/a/b", "/c"]).unwrap();
        let (enter, leave) = (|node, depth| Step::Enter { node, depth }, |node, depth| Step::Leave { node, depth });
        let steps: Vec<Step> = tree.walk(0).collect();
        let a = [enter(1, 1), enter(2, 2), leave(2, 2), leave(1, 1)];
        let expected: Vec<Step> =
            [enter(0, 0)].into_iter().chain(a).chain([enter(3, 1), leave(3, 1), leave(0, 0)]).collect();
        assert_eq!(steps, expected);
        assert_eq!(
            (tree.find("/"), tree.find(""), tree.find("/a/b"), tree.find("/b")),
            (Some(0), Some(0), Some(2), None)
        );
    }

    #[test]
    fn trees_that_are_none() {
        assert_eq!(tree(&[]).unwrap_err(), "its nodes don't begin with the root");
        assert_eq!(tree(&["", "/a/b"]).unwrap_err(), "/a/b has no parent");
        assert_eq!(tree(&["", "a"]).unwrap_err(), "\"a\" is no path");
        assert_eq!(tree(&["", "/a", "/a"]).unwrap_err(), "/a is there twice");
    }
}
