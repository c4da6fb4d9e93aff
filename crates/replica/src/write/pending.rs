//! The tree as it will be: what is applied plus the transactions that are still on their way.
//!
//! A transaction is prepared long before it is applied, and the next one must see its effects: versions, sequence numbers, children,
//! the digest. Only what checks and digests need is kept per node, and only until the last transaction that touched it is applied.
//!
//! Counterpart in the original: `outstandingChanges` of `PrepRequestProcessor`.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry as Slot;
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
    entries: HashMap<Arc<str>, Entry>,
    /// Entries that are ephemeral nodes, by owner, to find a closing session's without a search where it has none.
    ephemerals: HashMap<SessionId, usize>,
    /// The digest after the last prepared transaction.
    digest: i64,
    /// What the transaction in preparation changed, for taking it back.
    undo: Vec<(Arc<str>, Option<Entry>)>,
    undo_digest: i64,
    ttl_encoding: TtlEncoding,
    /// What the transactions on their way touch, in their order.
    touched: VecDeque<(Zxid, Arc<str>)>,
}

/// Room for paths that is kept when nothing is on its way.
const KEPT_PATHS: usize = 4096;

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
            touched: VecDeque::new(),
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
        let path: Arc<str> = path.into();
        let before = self.entries.insert(path.clone(), entry);
        if let Some(before) = &before {
            self.count_ephemeral(before, -1);
        }
        self.undo.push((path, before));
    }

    /// The transaction in preparation stands, and is this one. Returns how many nodes it touches, one that it touches twice counted twice.
    pub fn keep(&mut self, zxid: Zxid) -> usize {
        self.undo_digest = self.digest;
        let count = self.undo.len();
        self.touched.extend(self.undo.drain(..).map(|(path, _)| (zxid, path)));
        count
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

    /// Everything up to a transaction is in the tree now; what nothing later touches is read from there again. Forgets `limit` of what it touched
    /// at most. Returns how many that were: with fewer than the limit nothing is left.
    pub fn applied(&mut self, zxid: Zxid, limit: usize) -> usize {
        for count in 0..limit {
            let Some((touched_by, path)) = self.touched.pop_front_if(|(touched_by, _)| *touched_by <= zxid) else {
                if self.touched.is_empty() {
                    self.touched.shrink_to(KEPT_PATHS);
                }
                return count;
            };
            if let Slot::Occupied(slot) = self.entries.entry(path)
                && slot.get().zxid == touched_by
            {
                let entry = slot.remove();
                self.count_ephemeral(&entry, -1);
            }
        }
        limit
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
