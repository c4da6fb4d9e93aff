//! Values at paths, looked up by all of a path's ancestors at once.
//!
//! A radix tree over the components of paths. What always holds: a look-up reads each byte of the path about once, whatever is stored and
//! however deep the path is; every node but the top has a value or at least two children, so there are at most twice as many nodes as
//! values; nothing here recurses, for paths come from clients and may have hundreds of thousands of components.
//!
//! Counterpart in the original: `PathTrie` and `PathParentIterator`.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use crate::segmented_table::SegmentedTable;

type TrieId = u32;

const TOP: TrieId = 0;

#[derive(Debug)]
struct TrieNode<T> {
    /// One or more components below the parent, without the slashes at both ends. Empty at the top only.
    label: Box<str>,
    parent: TrieId,
    children: u32,
    /// The ids of all children combined by exclusive or: with one child it is that child's.
    combined: TrieId,
    value: Option<T>,
}

impl<T> TrieNode<T> {
    fn below(parent: TrieId, label: &str) -> TrieNode<T> {
        TrieNode { label: label.into(), parent, children: 0, combined: 0, value: None }
    }
}

/// See the module's documentation.
pub(crate) struct PathTrie<T> {
    nodes: Vec<TrieNode<T>>,
    free: Vec<TrieId>,
    /// Nodes by their parent and the first component of their label.
    edges: SegmentedTable<TrieId>,
    hasher: FixedState,
    values: usize,
    /// Length of the paths that have a value.
    path_bytes: usize,
}

/// What a value takes besides its path, at most: there are up to two nodes for it, with their places in the index.
const VALUE_BYTES: usize = 2 * 96;

impl<T> std::fmt::Debug for PathTrie<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PathTrie").field("values", &self.values).finish_non_exhaustive()
    }
}

/// Where a walk down a path ends.
struct Walk<'p> {
    /// The last node that is reached with its whole label.
    node: TrieId,
    /// What of the path lies below it.
    rest: &'p str,
}

fn first_component(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// What is left of `path` behind the components of `label`, if it begins with them.
fn strip<'p>(path: &'p str, label: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(label)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
}

/// The path as its components, if it could be a node's: absolute, and not ending with a slash.
fn components(path: &str) -> Option<&str> {
    path.strip_prefix('/').filter(|components| !components.ends_with('/'))
}

impl<T> PathTrie<T> {
    pub(crate) fn new(seed: u64) -> PathTrie<T> {
        let (free, edges) = (Vec::new(), SegmentedTable::new());
        PathTrie {
            nodes: vec![TrieNode::below(TOP, "")],
            free,
            edges,
            hasher: FixedState::with_seed(seed),
            values: 0,
            path_bytes: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values == 0
    }

    /// What all of it takes, at most: labels are parts of paths, and what several have in common is there once.
    pub(crate) fn bytes(&self) -> usize {
        self.path_bytes + self.values * VALUE_BYTES
    }

    /// The part of [`PathTrie::bytes`] that the value at this path is.
    pub(crate) fn bytes_of(path: &str) -> usize {
        path.len() + VALUE_BYTES
    }

    fn hash(&self, parent: TrieId, component: &str) -> u64 {
        self.hasher.hash_one((parent, component))
    }

    fn child(&self, parent: TrieId, component: &str) -> Option<TrieId> {
        let is_it = |id: &TrieId| {
            let node = &self.nodes[*id as usize];
            node.parent == parent && first_component(&node.label) == component
        };
        self.edges.find(self.hash(parent, component), is_it).copied()
    }

    /// Goes down as far as whole labels match; `visit` sees each node on the way.
    fn walk<'p>(&self, components: &'p str, mut visit: impl FnMut(TrieId)) -> Walk<'p> {
        let mut walk = Walk { node: TOP, rest: components };
        visit(TOP);
        while !walk.rest.is_empty() {
            let Some(child) = self.child(walk.node, first_component(walk.rest)) else { break };
            let Some(rest) = strip(walk.rest, &self.nodes[child as usize].label) else { break };
            walk = Walk { node: child, rest };
            visit(child);
        }
        walk
    }

    /// The values at the path itself and at its ancestors, from the root down. Text that is no node's path has none.
    pub(crate) fn for_each_at_or_above<'a>(&'a self, path: &str, mut visit: impl FnMut(&'a T)) {
        let Some(components) = components(path).filter(|_| !self.is_empty()) else { return };
        self.walk(components, |id| {
            if let Some(value) = &self.nodes[id as usize].value {
                visit(value);
            }
        });
    }

    /// The value at the path or at its nearest ancestor that has one, and where that is.
    pub(crate) fn nearest<'p>(&self, path: &'p str) -> Option<(&'p str, &T)> {
        let (id, length) = self.nearest_id(path)?;
        Some((&path[..length], self.nodes[id as usize].value.as_ref()?))
    }

    pub(crate) fn nearest_mut<'p>(&mut self, path: &'p str) -> Option<(&'p str, &mut T)> {
        let (id, length) = self.nearest_id(path)?;
        Some((&path[..length], self.nodes[id as usize].value.as_mut()?))
    }

    fn nearest_id(&self, path: &str) -> Option<(TrieId, usize)> {
        let components = components(path).filter(|_| !self.is_empty())?;
        let (mut nearest, mut length) = (None, 0);
        self.walk(components, |id| {
            let node = &self.nodes[id as usize];
            // Each label comes with the slash in front of it; that of the root is all of its path.
            length += if id == TOP { 0 } else { 1 + node.label.len() };
            if node.value.is_some() {
                nearest = Some((id, length.max(1)));
            }
        });
        nearest
    }

    /// The value at exactly this path.
    pub(crate) fn get(&self, path: &str) -> Option<&T> {
        let walk = self.walk(components(path)?, |_| {});
        self.nodes[walk.node as usize].value.as_ref().filter(|_| walk.rest.is_empty())
    }

    pub(crate) fn get_mut(&mut self, path: &str) -> Option<&mut T> {
        let walk = self.walk(components(path)?, |_| {});
        self.nodes[walk.node as usize].value.as_mut().filter(|_| walk.rest.is_empty())
    }

    /// The value at exactly this path, made where there is none. `None` for text that is no node's path: no path is ever below it.
    pub(crate) fn get_or_insert_with(&mut self, path: &str, make: impl FnOnce() -> T) -> Option<&mut T> {
        let walk = self.walk(components(path)?, |_| {});
        let id = if walk.rest.is_empty() { walk.node } else { self.branch(walk) };
        let value = &mut self.nodes[id as usize].value;
        if value.is_none() {
            self.values += 1;
            self.path_bytes += path.len();
        }
        Some(value.get_or_insert_with(make))
    }

    /// Makes the node for what the walk left over, by splitting the label that it left in part.
    fn branch(&mut self, Walk { node, rest }: Walk<'_>) -> TrieId {
        let Some(below) = self.child(node, first_component(rest)) else { return self.add(node, rest) };
        let label = std::mem::take(&mut self.nodes[below as usize].label);
        let shared = shared_components(&label, rest);
        self.unlink(below, &label);
        let middle = self.add(node, &label[..shared]);
        self.nodes[below as usize].label = label[shared + 1..].into();
        self.link(below, middle);
        match strip(rest, &label[..shared]) {
            Some("") | None => middle,
            Some(rest) => self.add(middle, rest),
        }
    }

    fn add(&mut self, parent: TrieId, label: &str) -> TrieId {
        let node = TrieNode::below(TOP, label);
        let id = match self.free.pop() {
            Some(id) => {
                self.nodes[id as usize] = node;
                id
            }
            None => {
                self.nodes.push(node);
                TrieId::try_from(self.nodes.len() - 1).expect("four billion paths do not fit into memory")
            }
        };
        self.link(id, parent);
        id
    }

    /// Makes a node a child of another.
    fn link(&mut self, id: TrieId, parent: TrieId) {
        self.nodes[id as usize].parent = parent;
        let above = &mut self.nodes[parent as usize];
        above.children += 1;
        above.combined ^= id;
        let hash = self.hash(parent, first_component(&self.nodes[id as usize].label));
        self.edges.find_or_insert_with(hash, |_| false, || id);
    }

    /// Takes a node, whose label was this one, from its parent.
    fn unlink(&mut self, id: TrieId, label: &str) {
        let parent = self.nodes[id as usize].parent;
        let above = &mut self.nodes[parent as usize];
        above.children -= 1;
        above.combined ^= id;
        let hash = self.hash(parent, first_component(label));
        let removed = self.edges.remove(hash, |other| *other == id);
        assert!(removed.is_some(), "every node but the top is in the index");
    }

    /// Takes the value at exactly this path away.
    pub(crate) fn remove(&mut self, path: &str) -> Option<T> {
        let walk = self.walk(components(path)?, |_| {});
        if !walk.rest.is_empty() {
            return None;
        }
        let value = self.nodes[walk.node as usize].value.take()?;
        self.values -= 1;
        self.path_bytes -= path.len();
        self.tidy(walk.node);
        if self.values == 0 {
            // What many values needed must not be kept for ever.
            (self.nodes, self.free) = (vec![TrieNode::below(TOP, "")], Vec::new());
        }
        Some(value)
    }

    /// Drops a node that has lost its value, and joins what then has one child and no value with that child.
    fn tidy(&mut self, id: TrieId) {
        let TrieNode { parent, children, .. } = &self.nodes[id as usize];
        let (parent, children) = (*parent, *children);
        if id != TOP && children == 0 {
            self.drop_node(id);
            self.join_with_only_child(parent);
        } else {
            self.join_with_only_child(id);
        }
    }

    fn join_with_only_child(&mut self, id: TrieId) {
        let node = &self.nodes[id as usize];
        if id == TOP || node.value.is_some() || node.children != 1 {
            return;
        }
        let (parent, only) = (node.parent, node.combined);
        let label = std::mem::take(&mut self.nodes[only as usize].label);
        self.unlink(only, &label);
        let joined = format!("{}/{label}", self.nodes[id as usize].label);
        self.drop_node(id);
        self.nodes[only as usize].label = joined.into();
        self.link(only, parent);
    }

    fn drop_node(&mut self, id: TrieId) {
        let label = std::mem::take(&mut self.nodes[id as usize].label);
        self.unlink(id, &label);
        self.free.push(id);
    }
}

/// Bytes of the components with which both begin. They have the first one in common, and `label` is no beginning of `path`.
fn shared_components(label: &str, path: &str) -> usize {
    let mut shared = 0;
    for (one, other) in label.split('/').zip(path.split('/')) {
        if one != other {
            break;
        }
        shared += one.len() + 1;
    }
    shared - 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn any_path() -> impl Strategy<Value = String> {
        let names = prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "c", ""]), 0..6);
        prop_oneof![
            8 => names.prop_map(|names| format!("/{}", names.join("/"))),
            1 => prop::sample::select(vec!["", "a", "a/b", "//"]).prop_map(str::to_owned),
        ]
    }

    fn is_at_or_above(above: &str, path: &str) -> bool {
        above == path || above == "/" || (path.starts_with(above) && path[above.len()..].starts_with('/'))
    }

    proptest! {
        /// Against a map of paths, whose values are found by comparing each.
        #[test]
        fn finds_what_a_look_at_every_path_finds(
            operations in prop::collection::vec((any_path(), 0_u8..3), 0..60),
            looked_up in prop::collection::vec(any_path(), 1..10),
        ) {
            let (mut trie, mut model) = (PathTrie::new(5), BTreeMap::new());
            for (number, (path, operation)) in operations.into_iter().enumerate() {
                let could_be_a_node = components(&path).is_some();
                if operation == 0 {
                    prop_assert_eq!(trie.remove(&path), model.remove(&path));
                } else if trie.get_or_insert_with(&path, || number).is_some() {
                    prop_assert!(could_be_a_node);
                    model.entry(path).or_insert(number);
                } else {
                    prop_assert!(!could_be_a_node);
                }
                prop_assert_eq!(trie.values, model.len());
                let labels: usize = trie.nodes.iter().map(|node| node.label.len()).sum();
                prop_assert!(labels <= trie.path_bytes);
                let bytes: usize = model.keys().map(|path| PathTrie::<usize>::bytes_of(path)).sum();
                prop_assert_eq!(trie.bytes(), bytes);
                let nodes = trie.nodes.len() - trie.free.len();
                prop_assert!(nodes <= 2 * model.len() + 1, "{} nodes for {} values", nodes, model.len());
                prop_assert_eq!(trie.edges.len(), nodes - 1);
            }
            for path in looked_up.iter().filter(|path| components(path).is_some()) {
                let mut expected: Vec<_> = model.iter().filter(|(above, _)| is_at_or_above(above, path)).collect();
                expected.sort_by_key(|(above, _)| above.len());
                let mut found = Vec::new();
                trie.for_each_at_or_above(path, |value| found.push(*value));
                prop_assert_eq!(found, expected.iter().map(|(_, value)| **value).collect::<Vec<_>>());
                let nearest = expected.last().map(|(above, value)| (above.as_str(), **value));
                prop_assert_eq!(trie.nearest(path).map(|(path, value)| (path, *value)), nearest);
                prop_assert_eq!(trie.get(path), model.get(path));
            }
        }
    }

    #[test]
    fn a_path_of_half_a_million_components_costs_one_node() {
        let deep = "/a".repeat(500_000);
        let mut trie = PathTrie::new(0);
        trie.get_or_insert_with(&deep, || 1);
        trie.get_or_insert_with("/a/a", || 2);
        assert_eq!(trie.nodes.len(), 3);
        assert_eq!(trie.nearest(&format!("{deep}/b")), Some((deep.as_str(), &1)));
        assert_eq!(trie.nearest(&deep[..999_998]), Some(("/a/a", &2)));
        assert_eq!((trie.remove(&deep), trie.remove("/a/a"), trie.edges.len()), (Some(1), Some(2), 0));
    }

    #[test]
    fn what_is_emptied_is_small_again() {
        let mut trie = PathTrie::new(0);
        (0..10_000).for_each(|number| _ = trie.get_or_insert_with(&format!("/a/{number}"), || number));
        (0..10_000).for_each(|number| assert_eq!(trie.remove(&format!("/a/{number}")), Some(number)));
        assert!(trie.nodes.capacity() + trie.free.capacity() < 10 && trie.edges.capacity() < 10_000);
    }
}
