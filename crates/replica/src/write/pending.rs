//! The tree as it will be: what is applied plus the transactions that are still on their way.
//!
//! A transaction is prepared long before it is applied, and the next one must see its effects: versions, sequence numbers, children,
//! the digest. Only what checks and digests need is kept per node, and only until the last transaction that touched it is applied.
//!
//! Counterpart in the original: `outstandingChanges` of `PrepRequestProcessor`.

use std::sync::Arc;

use hashbrown::HashMap;
use rookeeper_proto::path::NodePath;
use rookeeper_proto::{NodeKind, SessionId, StatPersisted, TtlEncoding, Zxid};
use rookeeper_tree::{AccessList, Tree, digest};

/// A node as it will be.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub stat: StatPersisted,
    pub acl: Arc<AccessList>,
    pub child_count: usize,
    pub data_length: usize,
    /// CRC over path and data, the part of the node's digest that only new data changes.
    pub content_crc: u32,
}

impl Node {
    /// What the node adds to the digest of the tree.
    pub fn digest(&self) -> u64 {
        digest::node(self.content_crc, &self.stat)
    }
}

#[derive(Debug)]
struct Entry {
    /// `None`: the node will be gone.
    node: Option<Node>,
    /// The last transaction on its way that touches the node.
    zxid: Zxid,
}

#[derive(Debug)]
pub(crate) struct Pending {
    entries: HashMap<Box<str>, Entry>,
    /// Entries that are ephemeral nodes, by owner, to find a closing session's without a search where it has none.
    ephemerals: HashMap<SessionId, usize>,
    /// The digest after the last prepared transaction.
    digest: i64,
    /// What the transaction in preparation changed, for taking it back.
    undo: Vec<(Box<str>, Option<Entry>)>,
    undo_digest: i64,
    ttl_encoding: TtlEncoding,
}

/// The paths a transaction touched; given back to [`Pending::applied`].
pub(crate) type Touched = Vec<Box<str>>;

impl Pending {
    /// Nothing is on its way.
    pub fn new(tree: &Tree) -> Pending {
        let digest = tree.digest();
        Pending {
            entries: HashMap::new(),
            ephemerals: HashMap::new(),
            digest,
            undo: Vec::new(),
            undo_digest: digest,
            ttl_encoding: tree.ttl_encoding(),
        }
    }

    /// The digest of the tree after the last prepared transaction.
    pub fn digest(&self) -> i64 {
        self.digest
    }

    /// Whether all that was prepared stands, or was taken back.
    pub fn is_settled(&self) -> bool {
        self.undo.is_empty() && self.digest == self.undo_digest
    }

    /// Whether every node that is about to change was touched by one of these transactions, in ascending order.
    pub fn belongs_to(&self, zxids: &[Zxid]) -> bool {
        self.entries.values().all(|entry| zxids.binary_search(&entry.zxid).is_ok())
    }

    /// A node as it will be; `None` where there will be none.
    pub fn node(&self, tree: &Tree, path: &str) -> Option<Node> {
        match self.entries.get(path) {
            Some(entry) => entry.node.clone(),
            None => tree.node(path).map(|node| Node {
                stat: node.persisted(),
                acl: node.acl().clone(),
                child_count: node.child_count(),
                data_length: node.data().map_or(0, <[u8]>::len),
                content_crc: node.content_crc(),
            }),
        }
    }

    /// Whether there will be a node.
    pub fn exists(&self, tree: &Tree, path: &str) -> bool {
        match self.entries.get(path) {
            Some(entry) => entry.node.is_some(),
            None => tree.node(path).is_some(),
        }
    }

    /// Adds a node in the transaction under preparation. Only this makes a name appear, so the name must keep the rules.
    pub fn create(&mut self, path: &NodePath, node: Node, zxid: Zxid) {
        self.set(path, 0, Some(node), zxid);
    }

    /// Replaces (or removes) a node that is there, in the transaction under preparation. `before` is the digest it had.
    pub fn change(&mut self, path: &str, before: u64, node: Option<Node>, zxid: Zxid) {
        self.set(path, before, node, zxid);
    }

    fn set(&mut self, path: &str, before: u64, node: Option<Node>, zxid: Zxid) {
        if digest::counts(path) {
            let after = node.as_ref().map_or(0, Node::digest);
            self.digest = self.digest.wrapping_add(after.wrapping_sub(before) as i64);
        }
        let entry = Entry { node, zxid };
        self.count_ephemeral(&entry, 1);
        let before = self.entries.insert(path.into(), entry);
        if let Some(before) = &before {
            self.count_ephemeral(before, -1);
        }
        self.undo.push((path.into(), before));
    }

    /// The transaction in preparation stands. Returns what it touched.
    pub fn keep(&mut self) -> Touched {
        self.undo_digest = self.digest;
        self.undo.drain(..).map(|(path, _)| path).collect()
    }

    /// The transaction in preparation failed: nothing of it remains.
    pub fn take_back(&mut self) {
        while let Some((path, before)) = self.undo.pop() {
            let after = match before {
                Some(before) => {
                    self.count_ephemeral(&before, 1);
                    self.entries.insert(path, before)
                }
                None => self.entries.remove(&path),
            };
            if let Some(after) = after {
                self.count_ephemeral(&after, -1);
            }
        }
        self.digest = self.undo_digest;
    }

    /// A transaction is in the tree now; what nothing later touches is read from there again.
    pub fn applied(&mut self, zxid: Zxid, touched: impl Iterator<Item = Box<str>>) {
        for path in touched {
            if self.entries.get(&path).is_some_and(|entry| entry.zxid == zxid)
                && let Some(entry) = self.entries.remove(&path)
            {
                self.count_ephemeral(&entry, -1);
            }
        }
    }

    /// All ephemeral nodes a session will own, sorted.
    pub fn ephemerals(&self, tree: &Tree, session: SessionId) -> Vec<String> {
        let applied = tree.ephemerals(session).filter(|path| !self.entries.contains_key(*path)).map(str::to_owned);
        let mut paths: Vec<String> = applied.collect();
        if self.ephemerals.contains_key(&session) {
            let coming = self.entries.iter().filter(|(_, entry)| owner(entry, self.ttl_encoding) == Some(session));
            paths.extend(coming.map(|(path, _)| path.to_string()));
        }
        paths.sort_unstable();
        paths
    }

    fn count_ephemeral(&mut self, entry: &Entry, change: isize) {
        let Some(session) = owner(entry, self.ttl_encoding) else { return };
        let count = self.ephemerals.entry(session).or_default();
        *count = count.checked_add_signed(change).expect("an entry is counted once and uncounted once");
        if *count == 0 {
            self.ephemerals.remove(&session);
        }
    }
}

fn owner(entry: &Entry, encoding: TtlEncoding) -> Option<SessionId> {
    match entry.node.as_ref()?.stat.kind(encoding) {
        NodeKind::Ephemeral(session) => Some(session),
        _ => None,
    }
}
