//! When events come, and in which order with answers.

mod common;

use common::{World, create};
use rookeeper_proto::OpCode;
use rookeeper_proto::jute;
use rookeeper_proto::multi::WriteOp;
use rookeeper_proto::request::WriteRequest;
use rookeeper_replica::{Deadline, Settings};
use rookeeper_tree::Tree;

#[test]
fn an_event_precedes_the_answer_to_the_write_that_caused_it() {
    let mut world = World::new();
    let mut client = world.connect();
    world.exists(&mut client, "/a", true);
    world.create(&mut client, "/a");
    world.sync();
    assert_eq!(client.received(), ["1 NoNode at 0x1", "event Created /a at 0x2", "2 ok at 0x2"]);
}

#[test]
fn a_watch_set_by_a_read_behind_a_write_does_not_see_that_write() {
    let mut world = World::new();
    let mut client = world.connect();
    world.create(&mut client, "/a");
    world.get(&mut client, "/a", true);
    world.set(&mut client, "/a", b"x");
    world.sync();
    assert_eq!(client.received(), ["1 ok at 0x2", "2 ok at 0x2", "event DataChanged /a at 0x3", "3 ok at 0x3"]);
}

#[test]
fn a_closing_session_is_told_of_its_own_ephemerals_before_its_answer() {
    let mut world = World::new();
    let (mut client, mut other) = (world.connect(), world.connect());
    world.create_with(&mut client, "/e", b"", 1);
    world.sync();
    world.exists(&mut client, "/e", true);
    world.children(&mut other, "/", true);
    client.received();
    other.received();
    world.write(&mut client, OpCode::CloseSession, WriteRequest::CloseSession);
    world.sync();
    assert_eq!(client.received(), ["event Deleted /e at 0x4", "3 ok at 0x4"]);
    assert_eq!(other.received(), ["event ChildrenChanged / at 0x4"]);
}

#[test]
fn a_reconnecting_client_learns_what_it_missed() {
    let mut world = World::new();
    let mut client = world.connect();
    for path in ["/changed", "/deleted", "/same"] {
        world.create(&mut client, path);
    }
    world.sync();
    let seen = 4i64;
    world.set(&mut client, "/changed", b"x");
    world.delete(&mut client, "/deleted");
    world.create(&mut client, "/created");
    world.sync();
    client.received();
    let lists = (seen, vec!["/changed", "/deleted", "/same"], vec!["/created", "/never"], vec!["/same"]);
    world.read(&mut client, OpCode::SetWatches, jute::to_vec(&lists));
    assert_eq!(
        client.received(),
        [
            "event DataChanged /changed at 0xffffffffffffffff",
            "event Deleted /deleted at 0xffffffffffffffff",
            "event Created /created at 0xffffffffffffffff",
            "7 ok at 0x7",
        ]
    );
    world.set(&mut client, "/same", b"y");
    world.sync();
    assert_eq!(client.received(), ["event DataChanged /same at 0x8", "8 ok at 0x8"]);
}

#[test]
fn a_connection_that_watches_too_much_is_cut_and_leaves_nothing_behind() {
    let settings = Settings { max_watches_per_connection: 3, ..Settings::default() };
    let mut world = World::with(settings, Tree::new());
    let (mut greedy, mut other) = (world.connect(), world.connect());
    for path in ["/a", "/b", "/a", "/c"] {
        world.exists(&mut greedy, path, true);
    }
    assert_eq!(greedy.received().len(), 4);
    world.exists(&mut greedy, "/d", true);
    assert!(greedy.is_cut());
    world.shared.remove_connection(&greedy.connection);
    assert_eq!(world.shared.watches().watch_count(), 0);
    world.exists(&mut other, "/a", true);
    assert_eq!(other.received(), ["1 NoNode at 0x2"]);
}

#[test]
fn the_watches_of_a_connection_that_is_gone_go_in_portions_while_others_come_and_changes_fire() {
    const WATCHES: usize = 2500;
    let mut world = World::new();
    let (mut greedy, mut other) = (world.connect(), world.connect());
    for number in 0..WATCHES {
        world.exists(&mut greedy, &format!("/{number}"), true);
    }
    greedy.received();
    let mut portions = 1;
    while !world.shared.remove_some_of(&greedy.connection) {
        assert_eq!(world.shared.watches().watch_count(), WATCHES - portions * 1000, "a portion is gone, not more");
        let path = format!("/new{portions}");
        world.exists(&mut other, &path, true);
        world.create(&mut other, &path);
        world.sync();
        assert_eq!(other.received().len(), 3, "the answer to exists, the event, the answer to create");
        portions += 1;
    }
    assert_eq!((portions, world.shared.watches().watch_count()), (3, 0));
    assert!(greedy.is_cut());
    assert_eq!(world.shared.connection_count(), 1);
    // A watch that is asked for at the last moment is not kept for ever.
    world.exists(&mut greedy, "/late", true);
    assert_eq!(world.shared.watches().watch_count(), 0);
}

/// More watchers than are served while the tree is locked: whoever looks at the new state first must still get its event first.
#[test]
fn a_deferred_event_reaches_its_watcher_before_the_new_state_does() {
    const WATCHERS: usize = 2500;
    let mut world = World::new();
    let mut writer = world.connect();
    world.create(&mut writer, "/a");
    world.sync();
    let mut watchers: Vec<_> = (0..WATCHERS).map(|_| world.connect()).collect();
    for watcher in &mut watchers {
        world.get(watcher, "/a", true);
        watcher.received();
    }
    world.set(&mut writer, "/a", b"x");
    world.sync();
    // Whoever was not among the first portion reads now, before its turn would come.
    let mut waited = 0;
    for watcher in &mut watchers {
        world.get(watcher, "/a", false);
        let received = watcher.received();
        assert_eq!(received.len(), 2, "{received:?}");
        assert!(received[0].starts_with("event DataChanged /a"), "{received:?}");
        waited += 1;
    }
    assert_eq!(waited, WATCHERS);
    // The rest is delivered in portions; nobody gets anything twice.
    while world.replica.deadline() == Deadline::Now {
        world.pass_ms(0);
    }
    assert!(watchers.iter().all(|watcher| watcher.received().is_empty()));
    assert_eq!(world.shared.watches().watch_count(), 0);
}

/// One transaction with many changes, each for many watchers: what is told while the tree is locked does not grow with their product.
#[test]
fn the_events_of_a_large_multi_follow_in_portions_and_in_order() {
    const WATCHERS: usize = 60;
    const NODES: usize = 100;
    let mut world = World::new();
    let mut watchers: Vec<_> = (0..WATCHERS).map(|_| world.connect()).collect();
    for watcher in &mut watchers {
        world.read(watcher, OpCode::AddWatch, jute::to_vec(&("/", 1)));
        watcher.received();
    }
    let mut writer = world.connect();
    let creates = (0..NODES).map(|number| WriteOp::Create(create(&format!("/{number}"), b"", 0)));
    world.multi(&mut writer, creates.collect());
    world.sync();
    // Beyond the events sent at once and the first portion some still wait.
    assert_eq!(world.replica.deadline(), Deadline::Now);
    let is_in_order = |received: &[String]| {
        let paths: Vec<_> = received.iter().filter_map(|line| line.strip_prefix("event Created ")).collect();
        paths.len() == NODES && paths.iter().enumerate().all(|(n, line)| line.starts_with(&format!("/{n} at")))
    };
    let (first, others) = watchers.split_first_mut().unwrap();
    world.get(first, "/99", false);
    let received = first.received();
    assert!(is_in_order(&received) && received.len() == NODES + 1, "{received:?}");
    while world.replica.deadline() == Deadline::Now {
        world.pass_ms(0);
    }
    for watcher in others {
        let received = watcher.received();
        assert!(is_in_order(&received), "{received:?}");
    }
    assert!(first.received().is_empty());
}
