//! Transactions that no honest server wrote, with right checksums around them: whoever can write the log or speaks for a leader.
//!
//! The input is a sequence of log bodies, each behind its length (two bytes). What always holds: a tree takes any transactions in any
//! order; it counts its nodes and its data right; a snapshot of it builds the same tree; a server can go on from it.

use std::collections::BTreeMap;

use rookeeper_proto::{NodeKind, TxnRecord, Zxid, path};
use rookeeper_tree::{NodeRef, Tree, TreeBuilder};

use crate::conversation;

/// More transactions than this only repeat what fewer can do.
const MAX_RECORDS: usize = 2000;

pub fn run(bytes: &[u8]) {
    let mut tree = Tree::new();
    let mut changes = Vec::new();
    let mut rest = bytes;
    for _ in 0..MAX_RECORDS {
        let Some((body, next)) = split(rest) else { break };
        rest = next;
        let Ok(record) = TxnRecord::decode(body) else { continue };
        changes.clear();
        tree.apply(&record.header, record.txn, &mut changes);
    }
    check(&tree);
    // A tree after a replay has no ephemerals of nobody, and is as sound as before.
    tree.finish_replay();
    check(&tree);
    // Names of logs and snapshots have no room for others, so no recovery ends there.
    let is_possible = (0..i64::MAX >> 1).contains(&tree.last_zxid().0);
    // A parent that goes with its session takes its children along, which no digest predicts: it is noticed, and logged.
    let is_parent = |node: NodeRef<'_>| matches!(node.kind(), NodeKind::Ephemeral(_)) && node.child_count() > 0;
    if is_possible && !tree.nodes().any(is_parent) {
        conversation::go_live(tree);
    }
}

/// The next body and what follows; a last one that is cut is taken as it is.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
    Some(rest.split_at(length))
}

/// What must hold of every tree.
pub(crate) fn check(tree: &Tree) {
    let mut children: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut nodes, mut bytes) = (0, 0);
    for node in tree.nodes() {
        nodes += 1;
        bytes += node.path().len() + node.data().map_or(0, <[u8]>::len);
        if let Some(parent) = path::parent(node.path()) {
            assert!(tree.node(parent).is_some(), "{:?} has no parent", node.path());
            *children.entry(parent).or_default() += 1;
        }
    }
    assert_eq!(nodes, tree.node_count());
    assert!(tree.approximate_data_size() >= bytes.saturating_sub(64 * nodes), "the size of {bytes} bytes of nodes");
    for node in tree.nodes() {
        let count = children.get(node.path()).copied().unwrap_or(0);
        assert_eq!(node.child_count(), count, "children of {:?}", node.path());
        assert_eq!(node.children().count(), count);
    }
    let again = through_snapshot(tree);
    assert_eq!((again.node_count(), again.digest()), (tree.node_count(), tree.digest()), "through a snapshot");
    assert_eq!(again.ephemeral_count(), tree.ephemeral_count());
    assert!(again.sessions().eq(tree.sessions()) || sorted_sessions(&again) == sorted_sessions(tree));
}

fn sorted_sessions(tree: &Tree) -> BTreeMap<rookeeper_proto::SessionId, i32> {
    tree.sessions().collect()
}

/// The tree that a snapshot of this one holds.
pub(crate) fn through_snapshot(tree: &Tree) -> Tree {
    let (head, mut walk) = tree.begin_snapshot();
    let mut builder = TreeBuilder::new();
    for session in &head.sessions {
        builder.add_session(session.session, session.timeout_ms);
    }
    for (acl_id, list) in &head.acls {
        builder.add_acl(*acl_id, list.to_vec()).expect("a list is written once");
    }
    let mut emit = |entry: rookeeper_proto::snapshot::NodeEntry<'_>| {
        let data = entry.data.map(|data| data.0);
        builder.add_node(&entry.path, data, entry.acl_id, entry.stat).expect("nodes come once, after their parents");
    };
    while walk.next_chunk(tree, 4096, &mut emit) {}
    builder.finish(Zxid(head.zxid.0)).expect("a tree has a root")
}
