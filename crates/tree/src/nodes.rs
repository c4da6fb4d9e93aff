//! Where nodes live: a slab of fixed chunks and an index by path.
//!
//! What always holds: growing never moves a node and never touches more than one index segment at a time, so that no single
//! insertion stalls the server however large the tree is. A node id is valid from [`Nodes::insert`] to [`Nodes::remove`], then it
//! may name another node.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use rookeeper_proto::{StatPersisted, path};

use crate::acl_table::AclRef;
use crate::children::Children;
use crate::digest;

/// Names a node within its tree.
pub(crate) type NodeId = u32;

/// A node as it is kept in memory.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) path: Box<str>,
    pub(crate) data: Option<Box<[u8]>>,
    pub(crate) stat: StatPersisted,
    /// See [`crate::digest::content_crc`].
    pub(crate) content_crc: u32,
    /// What this node adds to the tree's digest; kept, so that a change computes one digest and not two.
    pub(crate) digest: u32,
    pub(crate) acl: AclRef,
    /// The root is its own parent.
    pub(crate) parent: NodeId,
    /// Most nodes have none, and pay for a pointer.
    children: Option<Box<Children>>,
}

impl Node {
    pub(crate) fn new(
        path: Box<str>,
        data: Option<Box<[u8]>>,
        content_crc: u32,
        acl: AclRef,
        stat: StatPersisted,
    ) -> Node {
        let digest = digest::of_node(&path, content_crc, &stat);
        Node { path, data, stat, content_crc, digest, acl, parent: 0, children: None }
    }

    /// To be called after a change of the stat or of the data. Returns what it changes in the tree's digest.
    pub(crate) fn renew_digest(&mut self) -> u64 {
        let before = std::mem::replace(&mut self.digest, digest::of_node(&self.path, self.content_crc, &self.stat));
        u64::from(self.digest).wrapping_sub(u64::from(before))
    }

    pub(crate) fn name(&self) -> &str {
        path::name(&self.path)
    }

    pub(crate) fn data_length(&self) -> usize {
        self.data.as_ref().map_or(0, |data| data.len())
    }

    /// `None` where there are none.
    pub(crate) fn children(&self) -> Option<&Children> {
        self.children.as_deref()
    }

    pub(crate) fn child_count(&self) -> usize {
        self.children.as_ref().map_or(0, |children| children.len())
    }
}

const CHUNK_BITS: u32 = 10;
const CHUNK_NODES: usize = 1 << CHUNK_BITS;
const SEGMENT_BITS: u32 = 6;

/// All nodes of a tree.
pub(crate) struct Nodes {
    chunks: Vec<Vec<Option<Node>>>,
    free: Vec<NodeId>,
    /// Part of the path's hash and the node's id. Holding the hash, a segment grows without a look at the nodes.
    index: Vec<HashTable<(u32, NodeId)>>,
    hasher: FixedState,
    count: usize,
}

impl std::fmt::Debug for Nodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nodes").field("count", &self.count).finish_non_exhaustive()
    }
}

/// A table wants 64 bits and looks at both ends of them.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Nodes {
    pub(crate) fn new(seed: u64) -> Nodes {
        Nodes {
            chunks: Vec::new(),
            free: Vec::new(),
            index: (0..1 << SEGMENT_BITS).map(|_| HashTable::new()).collect(),
            hasher: FixedState::with_seed(seed),
            count: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The segment of the index and the hash within it.
    fn hash(&self, path: &str) -> (usize, u32) {
        let hash = self.hasher.hash_one(path);
        ((hash >> (64 - SEGMENT_BITS)) as usize, hash as u32)
    }

    pub(crate) fn find(&self, path: &str) -> Option<NodeId> {
        let (segment, hash) = self.hash(path);
        let found = self.index[segment].find(spread(hash), |(other, id)| *other == hash && &*self[*id].path == path);
        found.map(|(_, id)| *id)
    }

    /// The node with this id, if it names one at all.
    pub(crate) fn get(&self, id: NodeId) -> Option<&Node> {
        self.chunks.get(id as usize >> CHUNK_BITS)?.get(id as usize % CHUNK_NODES)?.as_ref()
    }

    /// Adds a node with a path that no other node has, without connecting it to a parent.
    pub(crate) fn insert(&mut self, node: Node) -> NodeId {
        let (segment, hash) = self.hash(&node.path);
        let id = match self.free.pop() {
            Some(id) => {
                self.chunks[id as usize >> CHUNK_BITS][id as usize % CHUNK_NODES] = Some(node);
                id
            }
            None => {
                let full = self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK_NODES);
                if full {
                    self.chunks.push(Vec::with_capacity(CHUNK_NODES));
                }
                let chunk_index = self.chunks.len() - 1;
                let chunk = &mut self.chunks[chunk_index];
                let id = NodeId::try_from((chunk_index << CHUNK_BITS) + chunk.len())
                    .expect("four billion nodes do not fit into memory");
                chunk.push(Some(node));
                id
            }
        };
        self.index[segment].insert_unique(spread(hash), (hash, id), |(hash, _)| spread(*hash));
        self.count += 1;
        id
    }

    /// Takes a node out. It is no longer anybody's child and has no children.
    pub(crate) fn remove(&mut self, id: NodeId) -> Node {
        let node = self.chunks[id as usize >> CHUNK_BITS][id as usize % CHUNK_NODES]
            .take()
            .expect("only nodes that exist are removed");
        let (segment, hash) = self.hash(&node.path);
        match self.index[segment].find_entry(spread(hash), |(_, other)| *other == id) {
            Ok(entry) => {
                entry.remove();
            }
            Err(_) => unreachable!("every node is in the index"),
        }
        self.free.push(id);
        self.count -= 1;
        node
    }

    pub(crate) fn connect(&mut self, parent: NodeId, child: NodeId) {
        let mut children = self[parent].children.take().unwrap_or_default();
        children.insert(self[child].name(), child);
        self[parent].children = Some(children);
        self[child].parent = parent;
    }

    pub(crate) fn disconnect(&mut self, child: NodeId) {
        let parent = self[child].parent;
        let mut children = self[parent].children.take().expect("a parent has children");
        children.remove(self[child].name());
        self[parent].children = Some(children).filter(|children| !children.is_empty());
    }

    /// Every node, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.chunks.iter().flatten().flatten()
    }
}

impl std::ops::Index<NodeId> for Nodes {
    type Output = Node;

    fn index(&self, id: NodeId) -> &Node {
        self.get(id).expect("ids inside the tree name nodes that exist")
    }
}

impl std::ops::IndexMut<NodeId> for Nodes {
    fn index_mut(&mut self, id: NodeId) -> &mut Node {
        self.chunks[id as usize >> CHUNK_BITS][id as usize % CHUNK_NODES]
            .as_mut()
            .expect("ids inside the tree name nodes that exist")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl_table::AclTable;

    fn node(path: &str) -> Node {
        Node::new(path.into(), None, 0, AclTable::OPEN, StatPersisted::default())
    }

    #[test]
    fn a_node_takes_at_most_120_bytes() {
        assert!(size_of::<Option<Node>>() <= 120, "{}", size_of::<Option<Node>>());
    }

    #[test]
    fn removed_children_leave_the_others_in_place() {
        let mut nodes = Nodes::new(1);
        let root = nodes.insert(node("/"));
        let ids: Vec<_> = (0..3000)
            .map(|number| {
                let id = nodes.insert(node(&format!("/{number}")));
                nodes.connect(root, id);
                id
            })
            .collect();
        for id in ids.iter().step_by(3) {
            nodes.disconnect(*id);
            nodes.remove(*id);
        }
        for (number, id) in ids.iter().enumerate() {
            let expected = (number % 3 != 0).then_some(*id);
            assert_eq!(nodes.find(&format!("/{number}")), expected);
        }
        assert_eq!((nodes.len(), nodes[root].child_count(), nodes.iter().count()), (2001, 2000, 2001));
        let listed: Vec<_> = nodes[root].children().unwrap().iter().map(|(_, name)| name.to_owned()).collect();
        assert!(listed.is_sorted() && listed.len() == 2000);
    }

    #[test]
    fn ids_are_used_again() {
        let mut nodes = Nodes::new(1);
        let first = nodes.insert(node("/a"));
        nodes.remove(first);
        assert_eq!((nodes.insert(node("/b")), nodes.find("/a")), (first, None));
    }
}
