//! The end of a session with very many nodes: others look at the tree while they go, and everybody who waits for one hears of it.

#![allow(clippy::disallowed_methods, reason = "the readers of a server have threads of their own")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use common::{Client, World};
use rookeeper_proto::event::AddWatchMode;
use rookeeper_proto::txn::{CreateKind, CreateTxn};
use rookeeper_proto::{OpCode, SessionId, Txn, TxnHeader, Zxid, jute};
use rookeeper_replica::{Deadline, Settings};
use rookeeper_tree::Tree;

const OWNER: SessionId = SessionId(77);
const NODES: usize = 10_000;

/// A server that recovered a session with all these nodes, and a client that watches them.
fn world(settings: Settings) -> (World, Client) {
    let mut tree = Tree::new();
    let mut apply = |txn| {
        let zxid = Zxid(tree.last_zxid().0 + 1);
        tree.apply(&TxnHeader { session: OWNER, cxid: 0, zxid, time_ms: 0 }, txn, &mut Vec::new());
    };
    apply(Txn::CreateSession { timeout_ms: 4000 });
    for number in 0..NODES {
        let kind = CreateKind::Node { ephemeral: true, with_stat: false };
        apply(Txn::Create(CreateTxn {
            path: format!("/{number:05}"),
            data: None,
            acl: None,
            kind,
            parent_cversion: -1,
        }));
    }
    let mut world = World::with(Settings { tick_time_ms: 2000, min_session_timeout_ms: 4000, ..settings }, tree);
    let mut watcher = world.connect();
    world.read(&mut watcher, OpCode::AddWatch, jute::to_vec(&("/", AddWatchMode::PersistentRecursive as i32)));
    assert_eq!(watcher.received().len(), 1);
    (world, watcher)
}

/// Lets the session expire, and nothing else.
fn expire(world: &mut World, watcher: &Client) {
    while world.notices.iter().all(|notice| !notice.starts_with("SessionExpired")) {
        watcher.connection.heard(world.now_ms);
        world.pass_ms(1000);
    }
    world.sync();
}

#[test]
fn all_nodes_go_and_their_events_come() {
    // A record that names all of them, and one that names a few.
    for max_record_bytes in [1 << 20, 10_000] {
        let (mut world, watcher) = world(Settings { max_record_bytes, ..Settings::default() });
        expire(&mut world, &watcher);
        while world.replica.deadline() == Deadline::Now {
            world.pass_ms(0);
        }
        let tree = world.shared.tree();
        assert_eq!((tree.ephemeral_count(), tree.is_between_zxids()), (0, false));
        assert_eq!(Some(tree.last_zxid()), world.log.last().map(|record| record.header.zxid));
        let expected = world.log.last().and_then(|record| record.digest).map(|digest| digest.value);
        assert_eq!(Some(tree.digest()), expected, "as was predicted");
        let deleted: BTreeSet<String> =
            watcher.received().into_iter().filter(|frame| frame.starts_with("event Deleted")).collect();
        assert_eq!(deleted.len(), NODES);
    }
}

/// Whoever waits for the tree meanwhile is let in. A machine may give the waiting thread no time, so this is tried until it does.
#[test]
fn others_look_at_the_tree_in_between_and_nobody_sees_a_change_before_its_event() {
    const ATTEMPTS: usize = 300;
    let seen_in_between = (0..ATTEMPTS).any(|_| {
        let (mut world, watcher) = world(Settings::default());
        let (shared, connection, is_over) = (world.shared.clone(), watcher.connection.clone(), AtomicBool::new(false));
        let before = connection.outbox.frames() as usize;
        std::thread::scope(|scope| {
            let looks = scope.spawn(|| {
                let mut in_between = 0;
                while !is_over.load(SeqCst) {
                    let tree = shared.tree();
                    shared.serve_deferred_to(&connection);
                    let gone = NODES - tree.ephemeral_count();
                    assert!(connection.outbox.frames() as usize - before >= gone);
                    in_between += usize::from(gone > 0 && gone < NODES);
                }
                in_between
            });
            expire(&mut world, &watcher);
            is_over.store(true, SeqCst);
            looks.join().unwrap() > 0
        })
    });
    assert!(seen_in_between, "nobody was let in");
}
