//! A snapshot that was taken while the tree changed, completed by the log above its zxid, is the tree.
//!
//! Once with this crate's own walk, and once with the walk of the original, which also writes nodes that are younger than the
//! snapshot: both kinds of files are found in data directories.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rookeeper_proto::snapshot::NodeEntry;
use rookeeper_proto::{StatPersisted, Txn, TxnHeader, Zxid, path};
use rookeeper_tree::{Tree, TreeBuilder};

use crate::model::{Model, Operation, Step, any_step, assert_consistent};

/// A node as a snapshot file holds it.
#[derive(Debug, Clone)]
struct Entry {
    path: String,
    data: Option<Vec<u8>>,
    acl_id: i64,
    stat: StatPersisted,
}

/// A live server: the tree, the model its transactions are prepared against, and the log.
struct Server {
    tree: Tree,
    model: Model,
    log: Vec<(TxnHeader, Txn)>,
}

impl Server {
    fn new() -> Server {
        Server { tree: Tree::new(), model: Model::new(), log: Vec::new() }
    }

    fn run<'a>(&mut self, steps: impl Iterator<Item = &'a Step>) {
        for (session, operation) in steps {
            let Some(txn) = self.model.prepare(*session, operation) else { continue };
            let header = self.model.header(*session);
            self.tree.apply(&header, txn.clone(), &mut Vec::new());
            self.model.apply(&header, &txn);
            self.log.push((header, txn));
        }
    }

    /// Starts from a snapshot and the log above it.
    fn restore(&self, builder: TreeBuilder, zxid: Zxid) -> Tree {
        let mut tree = builder.finish(zxid).expect("the snapshot is a tree");
        for (header, txn) in self.log.iter().filter(|(header, _)| header.zxid > zxid) {
            tree.apply(header, txn.clone(), &mut Vec::new());
        }
        let cleanup = tree.finish_replay();
        assert_eq!(cleanup.removed_ephemerals, []);
        assert_eq!(cleanup.unknown_acls, [""; 0]);
        tree
    }

    fn assert_equal(&self, restored: &Tree) {
        assert_eq!(Model::of(restored), self.model);
        assert_eq!(restored.digest(), self.tree.digest());
        assert_consistent(restored);
    }
}

/// Without the list of paths (before 3.6) the log cannot tell whose ephemeral children a parent lost: no snapshot can be exact then.
fn steps_with_lists(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let with_list = |(session, operation)| match operation {
        Operation::CloseSession { .. } => (session, Operation::CloseSession { with_paths: true }),
        other => (session, other),
    };
    prop::collection::vec(any_step().prop_map(with_list), 0..most)
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any_step(), 0..most)
}

proptest! {
    #[test]
    fn own_walk(before in steps(60), during in steps_with_lists(120), pauses in prop::collection::vec((0_usize..8, 0_usize..400), 64)) {
        let mut server = Server::new();
        server.run(before.iter());
        let there_before: BTreeSet<_> = server.model.nodes.keys().cloned().collect();
        let mut there_always = there_before.clone();
        let (mut start, zxid) = (server.tree.start_snapshot(), server.model.zxid);

        let mut entries = Vec::new();
        let mut during = during.iter();
        let mut pauses = pauses.iter().cycle();
        loop {
            let (steps, limit) = pauses.next().expect("a cycle does not end");
            let more = start.go_on(&server.tree, 1 + limit % 4);
            server.run(during.by_ref().take(*steps));
            there_always.retain(|path| server.model.nodes.get(path).is_some_and(|node| node.stat.czxid <= zxid));
            if !more {
                break;
            }
        }
        let (head, mut walk) = start.finish();
        assert_eq!(head.zxid, zxid);
        loop {
            let (steps, budget_bytes) = pauses.next().expect("a cycle does not end");
            let more = walk.next_chunk(&server.tree, *budget_bytes, &mut |entry: NodeEntry<'_>| {
                let data = entry.data.map(|data| data.0.to_vec());
                entries.push(Entry { path: entry.path.into_owned(), data, acl_id: entry.acl_id, stat: entry.stat });
            });
            server.run(during.by_ref().take(*steps));
            there_always.retain(|path| server.model.nodes.get(path).is_some_and(|node| node.stat.czxid <= head.zxid));
            if !more {
                break;
            }
        }

        let mut written = BTreeSet::new();
        for entry in &entries {
            let path = if entry.path.is_empty() { "/" } else { &entry.path };
            assert!(there_before.contains(path), "{path} is younger than the snapshot");
            assert!(path::parent(path).is_none_or(|parent| written.contains(parent)), "{path} comes before its parent");
            assert!(written.insert(path), "{path} is written twice");
            assert!(head.acls.iter().any(|(id, _)| *id == entry.acl_id) || entry.acl_id == -1);
        }
        assert!(there_always.iter().all(|path| written.contains(path.as_str())), "a node is missing");

        server.run(during);
        let mut builder = TreeBuilder::new();
        head.sessions.iter().for_each(|entry| builder.add_session(entry.session, entry.timeout_ms));
        for (id, list) in &head.acls {
            builder.add_acl(*id, list.to_vec()).unwrap();
        }
        for entry in &entries {
            builder.add_node(&entry.path, entry.data.as_deref(), entry.acl_id, entry.stat).unwrap();
        }
        server.assert_equal(&server.restore(builder, head.zxid));
    }

    #[test]
    fn walk_of_the_original(
        before in steps(60),
        during in steps_with_lists(120),
        pauses in prop::collection::vec(0_usize..4, 64),
    ) {
        let mut server = Server::new();
        server.run(before.iter());
        let (zxid, sessions) = (server.model.zxid, server.model.sessions.clone());
        let mut lists = BTreeMap::new();
        for node in server.model.nodes.values() {
            let id = lists.len() as i64 + 1;
            lists.entry(node.acl.clone()).or_insert(id);
        }
        let mut builder = TreeBuilder::with_seed(3);
        sessions.iter().for_each(|(session, timeout_ms)| builder.add_session(*session, *timeout_ms));
        lists.iter().for_each(|(list, id)| builder.add_acl(*id, list.clone()).unwrap());

        // Depth first by path; the names of the children are those of the moment when the parent is written.
        let mut during = during.iter();
        let mut pauses = pauses.iter().cycle();
        let mut pending = vec!["/".to_owned()];
        while let Some(path) = pending.pop() {
            if let Some(node) = server.model.nodes.get(&path) {
                let file_path = if path == "/" { "" } else { &path };
                let acl_id = lists.get(&node.acl).copied().unwrap_or(1000);
                builder.add_node(file_path, node.data.as_deref(), acl_id, node.stat).unwrap();
                let children = server.model.children(&path);
                pending.extend(children.into_iter().map(|name| format!("{file_path}/{name}")));
            }
            server.run(during.by_ref().take(*pauses.next().expect("a cycle does not end")));
        }
        server.run(during);
        server.assert_equal(&server.restore(builder, zxid));
    }
}

#[test]
fn a_wide_parent_loses_no_child_while_others_come_and_go() {
    use rookeeper_proto::SessionId;
    use rookeeper_proto::txn::{CreateKind, CreateTxn};

    let mut tree = Tree::new();
    let mut apply = {
        let mut zxid = 0;
        move |tree: &mut Tree, txn| {
            zxid += 1;
            tree.apply(
                &TxnHeader { session: SessionId(0), cxid: 0, zxid: Zxid(zxid), time_ms: 0 },
                txn,
                &mut Vec::new(),
            );
        }
    };
    let create = |path: String| {
        let kind = CreateKind::Node { ephemeral: false, with_stat: false };
        Txn::Create(CreateTxn { path, data: None, acl: None, kind, parent_cversion: -1 })
    };
    for number in 0..10_000 {
        apply(&mut tree, create(format!("/{number}")));
    }
    let (_, mut walk) = tree.begin_snapshot();
    let mut written = BTreeSet::new();
    let mut round = 0;
    while walk.next_chunk(&tree, 5000, &mut |entry| assert!(written.insert(entry.path.into_owned()))) {
        for number in (0..10_000).skip(round).step_by(997) {
            apply(&mut tree, Txn::Delete { path: format!("/{number}") });
            apply(&mut tree, create(format!("/new/{number}")));
            apply(&mut tree, create(format!("/new{round}-{number}")));
        }
        round += 1;
    }
    assert!(round > 50);
    let missed = (0..10_000).map(|number| format!("/{number}")).filter(|path| !written.contains(path));
    assert!(missed.clone().all(|path| tree.node(&path).is_none()));
    assert!(missed.count() > 100, "deletions overtook the walk");
    assert!(written.iter().all(|path| !path.starts_with("/new")));
}
