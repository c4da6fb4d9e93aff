//! The tree: what can be read from it, and the few primitives through which all changes go.
//!
//! What always holds: the digest, the counts, the sizes and the sets by session and kind are those of the nodes that are there;
//! every node but the root is a child of the node that its path says; the root exists.
//!
//! Counterpart in the original: `DataTree`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use rookeeper_proto::{Acl, NodeKind, SessionId, Stat, StatPersisted, TtlEncoding, Zxid, path};

use crate::access_list::AccessList;
use crate::acl_table::{AclRef, AclTable};
use crate::children::{ChildNames, Children};
use crate::digest;
use crate::nodes::{Node, NodeId, Nodes};
use crate::quota::ArmedQuotas;

pub(crate) const ROOT_ID: NodeId = 0;

/// The replicated state: nodes and sessions. Changed by transactions only, see [`Tree::apply`].
#[derive(Debug)]
pub struct Tree {
    pub(crate) nodes: Nodes,
    pub(crate) acls: AclTable,
    pub(crate) quotas: ArmedQuotas,
    /// Sorted, as are the next ones, so that they can be looked through in portions, and one more never moves the others.
    pub(crate) sessions: BTreeMap<SessionId, i32>,
    pub(crate) ephemerals: BTreeMap<SessionId, BTreeSet<NodeId>>,
    /// Containers and nodes with a time to live.
    pub(crate) reapable: BTreeSet<NodeId>,
    /// How the owners of nodes are read, from the first node on.
    pub(crate) ttl_encoding: TtlEncoding,
    ephemeral_count: usize,
    digest: u64,
    data_size: usize,
    last_zxid: Zxid,
    /// A part of the transaction behind the last zxid is applied.
    pub(crate) between_zxids: bool,
    incarnation: u64,
    /// Nodes that came from a snapshot without their list, until the replay is finished.
    pub(crate) unknown_acls: Vec<String>,
}

impl Default for Tree {
    fn default() -> Self {
        Tree::new()
    }
}

impl Tree {
    /// The tree of a server that has never run: the root and the system nodes.
    pub fn new() -> Tree {
        Tree::with_seed(0)
    }

    /// Paths come from clients: a seed they do not know keeps them from choosing paths that collide in the index. The same seed
    /// and the same transactions give the same behaviour.
    pub fn with_seed(seed: u64) -> Tree {
        let mut tree = Tree::empty(seed);
        let root = tree.insert_node(path::ROOT.into(), Some(Box::default()), AclTable::OPEN, StatPersisted::default());
        debug_assert_eq!(root, ROOT_ID);
        tree.add_system_nodes();
        tree
    }

    /// The same tree, which reads owners in another encoding. For one that has never run: nodes that are there are not read again.
    pub fn reading(self, ttl_encoding: TtlEncoding) -> Tree {
        debug_assert!(self.ephemerals.is_empty() && self.reapable.is_empty());
        Tree { ttl_encoding, ..self }
    }

    /// How the owners of nodes are read.
    pub fn ttl_encoding(&self) -> TtlEncoding {
        self.ttl_encoding
    }

    /// Not a valid tree until the root is inserted.
    pub(crate) fn empty(seed: u64) -> Tree {
        Tree {
            nodes: Nodes::new(seed),
            acls: AclTable::new(seed),
            quotas: ArmedQuotas::new(seed),
            sessions: BTreeMap::new(),
            ephemerals: BTreeMap::new(),
            reapable: BTreeSet::new(),
            ttl_encoding: TtlEncoding::Current,
            ephemeral_count: 0,
            digest: 0,
            data_size: 0,
            last_zxid: Zxid::ZERO,
            between_zxids: false,
            incarnation: 0,
            unknown_acls: Vec::new(),
        }
    }

    /// Adds the nodes a new tree begins with. A restored one has those it was stored with, as in the original.
    fn add_system_nodes(&mut self) {
        for system in [path::SYSTEM, path::QUOTA, path::CONFIG] {
            let mut stat = StatPersisted::default();
            let mut acl = AclTable::OPEN;
            if system == path::CONFIG {
                stat.aversion = -1;
                acl = self.acls.retain(Some(Acl::read_only()));
            }
            let parent = path::parent(system).and_then(|parent| self.nodes.find(parent)).expect("parents come first");
            self.add_child(parent, system.into(), Some(Box::default()), acl, stat);
        }
    }

    /// The node with exactly this path; the root is `/`.
    pub fn node(&self, path: &str) -> Option<NodeRef<'_>> {
        self.nodes.find(path).map(|id| self.node_ref(id))
    }

    pub(crate) fn node_ref(&self, id: NodeId) -> NodeRef<'_> {
        NodeRef { tree: self, node: &self.nodes[id] }
    }

    /// Every node, in no particular order.
    pub fn nodes(&self) -> impl Iterator<Item = NodeRef<'_>> {
        self.nodes.iter().map(|node| NodeRef { tree: self, node })
    }

    /// The zxid of the last transaction that was applied.
    pub fn last_zxid(&self) -> Zxid {
        self.last_zxid
    }

    /// For a tree whose end is known from elsewhere than a transaction applied to it. Nothing else of the tree changes.
    pub fn set_last_zxid(&mut self, zxid: Zxid) {
        self.last_zxid = zxid;
    }

    /// Whether a part of the transaction behind the last zxid is applied, see [`Tree::close_some`]: the digest is that of no zxid then.
    pub fn is_between_zxids(&self) -> bool {
        self.between_zxids
    }

    /// How many trees have stood in this one's place before. Who reads a tree in portions tells by it that another one has taken its place.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Another tree takes the place of this one.
    pub fn replace(&mut self, tree: Tree) {
        let incarnation = self.incarnation + 1;
        *self = Tree { incarnation, ..tree };
    }

    /// The digest as transactions and snapshots carry it.
    pub fn digest(&self) -> i64 {
        self.digest as i64
    }

    /// All nodes, the system nodes included. The original's metric counts the root twice.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Ephemeral nodes of all sessions.
    pub fn ephemeral_count(&self) -> usize {
        self.ephemeral_count
    }

    /// Path lengths in UTF-16 units plus data lengths in bytes, over all nodes.
    pub fn approximate_data_size(&self) -> usize {
        self.data_size
    }

    /// The access control list with these entries: the one that nodes share, if any has it.
    pub fn access_list(&self, entries: &[Acl]) -> Arc<AccessList> {
        self.acls.shared(entries)
    }

    /// Distinct access control lists besides the open one.
    pub fn acl_count(&self) -> usize {
        self.acls.len()
    }

    /// Visits a node and all below it, parents first.
    pub(crate) fn walk_subtree(&self, id: NodeId, mut visit: impl FnMut(NodeId)) {
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            visit(id);
            pending.extend(self.nodes[id].children().into_iter().flat_map(Children::iter).map(|(id, _)| id));
        }
    }

    /// Sessions and their timeouts in milliseconds.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, i32)> {
        self.sessions_behind(None)
    }

    /// The same in the order of their ids: all, or those behind one.
    pub fn sessions_behind(&self, session: Option<SessionId>) -> impl Iterator<Item = (SessionId, i32)> {
        let begin = session.map_or(Unbounded, Excluded);
        self.sessions.range((begin, Unbounded)).map(|(session, timeout_ms)| (*session, *timeout_ms))
    }

    /// The timeout of a session; none of one that is not known.
    pub fn session_timeout_ms(&self, session: SessionId) -> Option<i32> {
        self.sessions.get(&session).copied()
    }

    /// Sessions that all servers know, so without local ones.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }
}

/// The primitives of change. They keep the sums and sets; what a change means is for [`crate::apply`].
impl Tree {
    /// Puts a node under its parent. The path must be free.
    pub(crate) fn add_child(
        &mut self,
        parent: NodeId,
        path: Box<str>,
        data: Option<Box<[u8]>>,
        acl: AclRef,
        stat: StatPersisted,
    ) -> NodeId {
        let id = self.insert_node(path, data, acl, stat);
        self.nodes.connect(parent, id);
        id
    }

    pub(crate) fn insert_node(
        &mut self,
        path: Box<str>,
        data: Option<Box<[u8]>>,
        acl: AclRef,
        stat: StatPersisted,
    ) -> NodeId {
        let content_crc = digest::content_crc(&path, data.as_deref());
        let node = Node::new(path, data, content_crc, acl, stat);
        self.digest = self.digest.wrapping_add(u64::from(node.digest));
        self.data_size += size_of_node(&node);
        let id = self.nodes.insert(node);
        match stat.kind(self.ttl_encoding) {
            NodeKind::Persistent => {}
            NodeKind::Ephemeral(session) => {
                self.ephemerals.entry(session).or_default().insert(id);
                self.ephemeral_count += 1;
            }
            NodeKind::Container | NodeKind::Ttl { .. } => {
                self.reapable.insert(id);
            }
        }
        id
    }

    /// Takes out a node that has no children.
    pub(crate) fn remove_leaf(&mut self, id: NodeId) -> Node {
        assert!(id != ROOT_ID, "the root stays");
        self.nodes.disconnect(id);
        let node = self.nodes.remove(id);
        debug_assert!(node.children().is_none());
        self.digest = self.digest.wrapping_sub(u64::from(node.digest));
        self.data_size -= size_of_node(&node);
        match node.stat.kind(self.ttl_encoding) {
            NodeKind::Persistent => {}
            NodeKind::Ephemeral(session) => {
                if let Some(owned) = self.ephemerals.get_mut(&session)
                    && owned.remove(&id)
                {
                    self.ephemeral_count -= 1;
                    if owned.is_empty() {
                        self.ephemerals.remove(&session);
                    }
                }
            }
            NodeKind::Container | NodeKind::Ttl { .. } => {
                self.reapable.remove(&id);
            }
        }
        node
    }

    /// Changes a node's stat. The owner must stay.
    pub(crate) fn update_stat(&mut self, id: NodeId, change: impl FnOnce(&mut StatPersisted)) {
        let node = &mut self.nodes[id];
        change(&mut node.stat);
        self.digest = self.digest.wrapping_add(node.renew_digest());
    }

    /// Replaces a node's data, and its stat as `change` says. Returns how many bytes the data has grown.
    pub(crate) fn replace_data(
        &mut self,
        id: NodeId,
        data: Option<Box<[u8]>>,
        change: impl FnOnce(&mut StatPersisted),
    ) -> i64 {
        let node = &mut self.nodes[id];
        self.data_size -= node.data_length();
        let grown = -(node.data_length() as i64);
        node.content_crc = digest::content_crc(&node.path, data.as_deref());
        node.data = data;
        change(&mut node.stat);
        self.data_size += node.data_length();
        self.digest = self.digest.wrapping_add(node.renew_digest());
        grown + node.data_length() as i64
    }

    /// Gives a node another list, of which `acl` is a counted reference.
    pub(crate) fn replace_acl(&mut self, id: NodeId, acl: AclRef) {
        let old = std::mem::replace(&mut self.nodes[id].acl, acl);
        self.acls.release(old);
    }
}

fn size_of_node(node: &Node) -> usize {
    let path_length = if node.path.is_ascii() { node.path.len() } else { node.path.encode_utf16().count() };
    path_length + node.data_length()
}

/// A look at one node.
#[derive(Debug, Clone, Copy)]
pub struct NodeRef<'a> {
    tree: &'a Tree,
    node: &'a Node,
}

impl<'a> NodeRef<'a> {
    /// Its full path; `/` for the root.
    pub fn path(self) -> &'a str {
        &self.node.path
    }

    /// Null and empty data are two things.
    pub fn data(self) -> Option<&'a [u8]> {
        self.node.data.as_deref()
    }

    /// As clients see it.
    pub fn stat(self) -> Stat {
        self.node.stat.visible(self.node.data_length(), self.child_count(), self.tree.ttl_encoding)
    }

    /// As snapshots hold it.
    pub fn persisted(self) -> StatPersisted {
        self.node.stat
    }

    /// The list that nodes with the same entries share.
    pub fn acl(self) -> &'a Arc<AccessList> {
        self.tree.acls.list(self.node.acl)
    }

    /// Direct children.
    pub fn child_count(self) -> usize {
        self.node.child_count()
    }

    /// The names, in the order of their bytes.
    pub fn children(self) -> impl Iterator<Item = &'a str> {
        self.node.children().into_iter().flat_map(Children::iter).map(|(_, name)| name)
    }

    /// Appends the names, each behind its length.
    pub fn append_child_names(self, output: &mut Vec<u8>) {
        if let Some(children) = self.node.children() {
            children.append_names(output);
        }
    }

    /// The names as they are now, to be copied when the tree is not locked any more.
    pub fn shared_child_names(self) -> ChildNames {
        self.node.children().map(Children::shared).unwrap_or_default()
    }

    /// What [`NodeRef::append_child_names`] appends.
    pub fn child_names_bytes(self) -> usize {
        self.node.children().map_or(0, Children::encoded_bytes)
    }

    /// Persistent, ephemeral, container, or with a time to live.
    pub fn kind(self) -> NodeKind {
        self.node.stat.kind(self.tree.ttl_encoding)
    }

    /// See [`digest::content_crc`].
    pub fn content_crc(self) -> u32 {
        self.node.content_crc
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_tree_is_the_originals() {
        let tree = Tree::new();
        assert_eq!(tree.digest(), 1_371_985_504);
        assert_eq!((tree.node_count(), tree.approximate_data_size(), tree.ephemeral_count()), (4, 44, 0));
        let root = tree.node("/").unwrap();
        assert_eq!((root.data(), root.stat().cversion, root.stat().num_children), (Some(&[][..]), -1, 1));
        assert_eq!(tree.node("/zookeeper").unwrap().stat().cversion, -2);
        let config = tree.node("/zookeeper/config").unwrap();
        assert_eq!((config.acl().to_vec(), config.stat().aversion), (Acl::read_only(), -1));
        assert_eq!(tree.node("/zookeeper/quota").unwrap().acl().to_vec(), Acl::open());
        assert!(tree.node("").is_none());
    }
}
