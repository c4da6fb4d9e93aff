//! From whole trees to changes of single nodes, without IO.
//!
//! What always holds: what is told next is the newest of its node, so a reader that is slow misses what was in between and never the last; and no node
//! waits for ever behind another that changes all the time.

use std::ops::Bound;

use rookeeper_recipes::{Node, Tree};

/// What became of a node since it was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It was there when the watch began.
    Exists,
    Created,
    Changed,
    Deleted,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Exists => "exists",
            Kind::Created => "created",
            Kind::Changed => "changed",
            Kind::Deleted => "deleted",
        }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub kind: Kind,
    /// Below the root of the tree.
    pub path: String,
    /// The node as it is now, or as it was when it was told last where it is deleted.
    pub node: Node,
}

/// What was told, and what is.
#[derive(Debug, Default)]
pub struct Changes {
    told: Tree,
    now: Tree,
    /// Paths of the first tree that were not told yet.
    first: Option<Tree>,
    /// The path that was told last: the others come first.
    last: String,
}

impl Changes {
    /// The tree as it is now. Of the first one nodes that have not changed after this zxid count as told.
    pub fn take(&mut self, tree: &Tree, after: Option<i64>) {
        if self.first.is_none() {
            self.first = Some(tree.clone());
            let is_known = |node: &Node| after.is_some_and(|zxid| node.changed <= zxid);
            self.told = tree
                .iter()
                .filter(|(_, node)| is_known(node))
                .map(|(path, node)| (path.clone(), node.clone()))
                .collect();
        }
        self.now = tree.clone();
    }

    /// What is to be told next, and counts as told now.
    pub fn tell(&mut self) -> Option<Change> {
        let behind = (Bound::Excluded(self.last.clone()), Bound::Unbounded);
        let paths = |tree: &Tree| -> Option<String> {
            let differs = |path: &&String| self.told.get(*path) != self.now.get(*path);
            let mut later = tree.range(behind.clone()).map(|(path, _)| path);
            later.find(differs).or_else(|| tree.keys().find(differs)).cloned()
        };
        // Of both the nearest behind the last.
        let found = [paths(&self.told), paths(&self.now)].into_iter().flatten();
        let path = found.min_by_key(|path| (*path <= self.last, path.clone()))?;
        self.last.clone_from(&path);
        let change = match (self.told.remove(&path), self.now.get(&path)) {
            (Some(old), None) => Change { kind: Kind::Deleted, path, node: old },
            (old, Some(node)) => {
                let kind = match old {
                    Some(old) if old.created == node.created => Kind::Changed,
                    Some(_) => Kind::Created,
                    None if self
                        .first
                        .as_ref()
                        .is_some_and(|first| first.get(&path).is_some_and(|was| was.created == node.created)) =>
                    {
                        Kind::Exists
                    }
                    None => Kind::Created,
                };
                self.told.insert(path.clone(), node.clone());
                Change { kind, path, node: node.clone() }
            }
            (None, None) => return None,
        };
        Some(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(nodes: &[(&str, i64, i64)]) -> Tree {
        let node = |created, changed| Node { data: Vec::new(), version: 0, created, changed };
        nodes.iter().map(|(path, created, changed)| ((*path).to_owned(), node(*created, *changed))).collect()
    }

    fn told(changes: &mut Changes) -> Vec<(Kind, String)> {
        std::iter::from_fn(|| changes.tell()).map(|change| (change.kind, change.path)).collect()
    }

    #[test]
    fn each_node_is_told_as_what_became_of_it() {
        let mut changes = Changes::default();
        changes.take(&tree(&[("", 1, 1), ("a", 2, 2)]), None);
        assert_eq!(told(&mut changes), [(Kind::Exists, "a".to_owned()), (Kind::Exists, String::new())]);
        changes.take(&tree(&[("", 1, 5), ("a", 6, 6), ("b", 7, 7)]), None);
        let expected =
            [(Kind::Created, "a".to_owned()), (Kind::Created, "b".to_owned()), (Kind::Changed, String::new())];
        let mut found = told(&mut changes);
        found.sort_by_key(|(kind, path)| (*kind == Kind::Changed, path.clone()));
        assert_eq!(found, expected);
        changes.take(&tree(&[("", 1, 5), ("b", 7, 7)]), None);
        assert_eq!(told(&mut changes), [(Kind::Deleted, "a".to_owned())]);
    }

    #[test]
    fn what_is_known_already_is_not_told() {
        let mut changes = Changes::default();
        changes.take(&tree(&[("", 1, 9), ("a", 2, 2)]), Some(8));
        assert_eq!(told(&mut changes), [(Kind::Changed, String::new())].map(|_| (Kind::Exists, String::new())));
        changes.take(&tree(&[("", 1, 9), ("a", 2, 10)]), Some(8));
        assert_eq!(told(&mut changes), [(Kind::Changed, "a".to_owned())]);
    }

    #[test]
    fn the_newest_is_told_and_nobody_waits_for_ever() {
        let mut changes = Changes::default();
        changes.take(&Tree::new(), None);
        let mut order = Vec::new();
        for zxid in 1..=4 {
            changes.take(&tree(&[("hot", 1, zxid), ("other", 1, 1)]), None);
            let change = changes.tell().unwrap();
            assert!(change.path == "other" || change.node.changed == zxid, "the newest");
            order.push(change.path);
        }
        assert_eq!(order, ["hot", "other", "hot", "hot"]);
    }
}
