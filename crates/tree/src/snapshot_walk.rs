//! Writing a snapshot while the tree goes on changing.
//!
//! The walk visits the tree in chunks; between two chunks any number of transactions may be applied. What always holds: a node is
//! written after its parent and at most once; a node that was there all the time is written; a node that was created after the
//! walk began is not, because the replay of the log creates it.
//!
//! Counterpart in the original: `DataTree.serializeNode`.

use std::sync::Arc;

use rookeeper_proto::jute::{Buffer, Text};
use rookeeper_proto::snapshot::{NodeEntry, SessionEntry};
use rookeeper_proto::{Acl, Id, Permissions, Zxid, path};

use crate::access_list::AccessList;
use crate::nodes::Node;
use crate::subtree_walk::{Step, SubtreeWalk};
use crate::tree::{ROOT_ID, Tree};

/// What stands in front of the nodes. The zxid names the snapshot: the log above it completes what the walk writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotHead {
    pub zxid: Zxid,
    pub sessions: Vec<SessionEntry>,
    pub acls: Vec<(i64, Arc<AccessList>)>,
}

/// The list of a node whose own one is not in the table: nobody but the superuser may do anything.
pub(crate) fn nobody() -> Vec<Acl> {
    vec![Acl::new(Permissions(0), Id::anyone())]
}

/// A walk over the nodes, in progress.
#[derive(Debug)]
pub struct SnapshotWalk {
    newest_acl_id: i64,
    nodes: SubtreeWalk,
}

/// What an entry takes besides path and data.
const ENTRY_BYTES: usize = 76;
/// Nodes that are passed over count too, so that a chunk is short whatever it meets.
const SKIPPED_BYTES: usize = 16;

impl Tree {
    /// Begins a snapshot at the last zxid.
    pub fn start_snapshot(&self) -> SnapshotStart {
        let newest_acl_id = self.acls.newest_id();
        let acls = vec![(unknown_acl_id(newest_acl_id), Arc::new(AccessList::new(nobody(), 0)))];
        SnapshotStart {
            head: SnapshotHead { zxid: self.last_zxid(), sessions: Vec::new(), acls },
            walk: SnapshotWalk { newest_acl_id, nodes: SubtreeWalk::new(ROOT_ID, self.last_zxid()) },
            next_acl: 0,
        }
    }

    /// The same with everything that stands in front of the nodes, for whoever has the tree to himself.
    pub fn begin_snapshot(&self) -> (SnapshotHead, SnapshotWalk) {
        let mut start = self.start_snapshot();
        while start.go_on(self, usize::MAX) {}
        start.finish()
    }
}

/// What stands in front of the nodes, while it is gathered in portions. It may hold sessions that came since the snapshot's zxid and lack
/// some that have gone, as is said in the log above it.
#[derive(Debug)]
pub struct SnapshotStart {
    head: SnapshotHead,
    walk: SnapshotWalk,
    /// The place in the table of lists.
    next_acl: usize,
}

impl SnapshotStart {
    /// Of the tree when the snapshot was begun.
    pub fn zxid(&self) -> Zxid {
        self.head.zxid
    }

    /// Gathers up to `limit` sessions or lists. False where nothing is left.
    pub fn go_on(&mut self, tree: &Tree, limit: usize) -> bool {
        let sessions = &mut self.head.sessions;
        let behind = sessions.last().map(|entry| entry.session);
        let before = sessions.len();
        let further = tree.sessions_behind(behind).take(limit);
        sessions.extend(further.map(|(session, timeout_ms)| SessionEntry { session, timeout_ms }));
        let left = limit - (sessions.len() - before);
        if left == 0 {
            return true;
        }
        let newest = self.walk.newest_acl_id;
        let lists = tree.acls.some_entries(self.next_acl, left).filter(|(id, _)| *id <= newest);
        self.head.acls.extend(lists.map(|(id, list)| (id, list.clone())));
        self.next_acl = self.next_acl.saturating_add(left);
        self.next_acl < tree.acls.slot_count()
    }

    /// Everything is gathered.
    pub fn finish(self) -> (SnapshotHead, SnapshotWalk) {
        let SnapshotStart { mut head, walk, .. } = self;
        // The list that allows nobody comes last, and its id is the largest.
        head.acls.rotate_left(1);
        (head, walk)
    }
}

/// The id of a list that allows nobody. A node gets it where its own list is younger than the snapshot's table; the log has the
/// transaction that set it.
fn unknown_acl_id(newest_acl_id: i64) -> i64 {
    newest_acl_id + 1
}

impl SnapshotWalk {
    /// Hands on further nodes until about `budget_bytes` are written. Parents come before their children; the root has the empty
    /// path. False when nothing is left.
    pub fn next_chunk(&mut self, tree: &Tree, budget_bytes: usize, emit: &mut dyn FnMut(NodeEntry<'_>)) -> bool {
        let mut written_bytes = 0;
        loop {
            match self.nodes.step(tree) {
                Step::Node(node) => {
                    emit(self.entry(tree, node));
                    written_bytes += ENTRY_BYTES + node.path.len() + node.data_length();
                }
                Step::Skipped => written_bytes += SKIPPED_BYTES,
                Step::End => return false,
            }
            if written_bytes >= budget_bytes {
                return true;
            }
        }
    }

    fn entry<'a>(&self, tree: &Tree, node: &'a Node) -> NodeEntry<'a> {
        let acl_id = tree.acls.id(node.acl);
        NodeEntry {
            path: Text::from(if &*node.path == path::ROOT { "" } else { &*node.path }),
            data: node.data.as_deref().map(Buffer),
            acl_id: if acl_id <= self.newest_acl_id { acl_id } else { unknown_acl_id(self.newest_acl_id) },
            stat: node.stat,
        }
    }
}
