//! Checks against the tree as it will be, and what the log keeps of each request.

mod common;

use common::{World, create, path_version};
use rookeeper_proto::multi::WriteOp;
use rookeeper_proto::request::{CreateTtlRequest, SetDataRequest, WriteRequest};
use rookeeper_proto::{MonotonicMs, OpCode, Txn};
use rookeeper_replica::Settings;
use rookeeper_tree::Tree;

/// Every prepared digest must be the one the tree has after the transaction.
fn assert_digests(world: &World) {
    assert!(!world.notices.iter().any(|notice| notice.contains("DigestMismatch")), "{:?}", world.notices);
    assert_eq!(
        world.log.last().and_then(|record| record.digest).map(|digest| digest.value),
        Some(world.shared.tree().digest())
    );
}

#[test]
fn requests_see_the_effects_of_those_still_on_their_way() {
    let mut world = World::new();
    let mut client = world.connect();
    world.create(&mut client, "/a");
    world.create(&mut client, "/a/b");
    world.create_with(&mut client, "/a/s-", b"", 2);
    world.create_with(&mut client, "/a/s-", b"", 2);
    world.delete(&mut client, "/a");
    world.delete(&mut client, "/a/b");
    world.create(&mut client, "/a/b");
    world.set(&mut client, "/a/b", b"x");
    world.sync();
    assert_eq!(
        client.received(),
        [
            "1 ok at 0x2",
            "2 ok at 0x3",
            "3 ok at 0x4",
            "4 ok at 0x5",
            "5 NotEmpty at 0x6",
            "6 ok at 0x7",
            "7 ok at 0x8",
            "8 ok at 0x9",
        ]
    );
    let paths: Vec<&str> = world
        .log
        .iter()
        .filter_map(|record| match &record.txn {
            Txn::Create(create) => Some(create.path.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(paths, ["/a", "/a/b", "/a/s-0000000001", "/a/s-0000000002", "/a/b"]);
    assert_digests(&world);
}

#[test]
fn a_failed_multi_leaves_no_trace_but_its_zxid() {
    let mut world = World::new();
    let mut client = world.connect();
    world.create(&mut client, "/a");
    world.multi(
        &mut client,
        vec![
            WriteOp::Create(create("/a/s-", b"", 2)),
            WriteOp::Delete(path_version("/nothing", -1)),
            WriteOp::Create(create("/a/c", b"", 0)),
        ],
    );
    // The counter of sequential names was rolled back.
    world.create_with(&mut client, "/a/s-", b"", 2);
    world.sync();
    assert_eq!(client.received(), ["1 ok at 0x2", "2 ok at 0x3", "3 ok at 0x4"]);
    let Txn::Multi(members) = &world.log[2].txn else { panic!("a multi") };
    assert!(matches!(members[0], Txn::Create(_)));
    assert_eq!(members[1..], [Txn::Error { code: -101 }, Txn::Error { code: -2 }]);
    assert!(world.shared.tree().node("/a/s-0000000000").is_some());
    assert_eq!(world.shared.tree().node("/a").unwrap().child_count(), 1);
    assert_digests(&world);
}

/// The request that makes no sense is refused before it becomes a transaction.
#[test]
fn a_ttl_request_without_a_ttl_flag_is_refused() {
    let settings = Settings { extended_types: true, ..Settings::default() };
    let mut world = World::with(settings, Tree::new());
    let mut client = world.connect();
    for (flags, ttl_ms) in [(0, -1), (0, 5), (1, -1), (4, -1), (5, 0), (5, 1 << 40)] {
        let request = CreateTtlRequest { create: create("/t", b"", flags), ttl_ms };
        world.write(&mut client, OpCode::CreateTtl, WriteRequest::CreateTtl(request));
    }
    let request = CreateTtlRequest { create: create("/t", b"", 5), ttl_ms: (1 << 40) - 1 };
    world.write(&mut client, OpCode::CreateTtl, WriteRequest::CreateTtl(request));
    world.sync();
    let received = client.received();
    assert!(received[..6].iter().all(|line| line.contains("BadArguments")), "{received:?}");
    assert_eq!(received[6], "7 ok at 0x8");
    assert_digests(&world);
}

#[test]
fn what_is_no_path_is_refused_where_a_node_would_be_made_or_changed() {
    let mut world = World::new();
    let mut client = world.connect();
    world.write(&mut client, OpCode::Create, WriteRequest::Create(create("/a", b"", 0)));
    for path in ["/a/", "/a/.", "/a/\u{1}"] {
        world.write(&mut client, OpCode::Create, WriteRequest::Create(create(path, b"", 0)));
        let (path, data) = (Some(path.to_owned()), None);
        let set = SetDataRequest { path, data, version: -1 };
        world.write(&mut client, OpCode::SetData, WriteRequest::SetData(set));
    }
    // With its number behind the slash it is a path.
    world.write(&mut client, OpCode::Create, WriteRequest::Create(create("/a/", b"", 2)));
    world.sync();
    let received = client.received();
    assert_eq!(received.iter().filter(|line| line.contains("BadArguments")).count(), 6, "{received:?}");
    assert!(world.shared.tree().node("/a/0000000000").is_some());
    assert_digests(&world);
}

#[test]
fn containers_and_ttl_nodes_go_when_they_are_due() {
    let mut settings = Settings { extended_types: true, ..Settings::default() };
    settings.reaping.interval_ms = 1000;
    let mut world = World::with(settings, Tree::new());
    let mut client = world.connect();
    world.write(&mut client, OpCode::CreateContainer, WriteRequest::CreateContainer(create("/c", b"", 4)));
    world.write(&mut client, OpCode::CreateContainer, WriteRequest::CreateContainer(create("/unused", b"", 4)));
    world.create(&mut client, "/c/x");
    let request = CreateTtlRequest { create: create("/t", b"", 5), ttl_ms: 1500 };
    world.write(&mut client, OpCode::CreateTtl, WriteRequest::CreateTtl(request));
    world.sync();
    world.pass_ms(1000);
    world.sync();
    assert!(world.shared.tree().node("/c").is_some());
    world.delete(&mut client, "/c/x");
    world.sync();
    for _ in 0..20 {
        world.pass_ms(100);
        world.sync();
    }
    let tree = world.shared.tree();
    assert_eq!(["/c", "/t", "/unused"].map(|path| tree.node(path).is_some()), [false, false, true]);
    drop(tree);
    assert_digests(&world);
}

/// Found in simulation: a leader that was cut off had it on its way that a node goes and comes again.
#[test]
fn a_node_that_was_due_is_not_removed_for_what_comes_in_its_place() {
    let mut settings = Settings { extended_types: true, ..Settings::default() };
    settings.reaping.interval_ms = 2000;
    let mut world = World::with(settings, Tree::new());
    let mut client = world.connect();
    for path in ["/again", "/renewed"] {
        let request = CreateTtlRequest { create: create(path, b"", 5), ttl_ms: 1500 };
        world.write(&mut client, OpCode::CreateTtl, WriteRequest::CreateTtl(request));
    }
    world.write(&mut client, OpCode::CreateContainer, WriteRequest::CreateContainer(create("/c", b"", 4)));
    world.create(&mut client, "/c/x");
    world.delete(&mut client, "/c/x");
    world.sync();
    world.now_ms = MonotonicMs(1900);
    // All of this is on its way when the time of those that are there is over.
    for path in ["/again", "/c"] {
        world.delete(&mut client, path);
    }
    let request = CreateTtlRequest { create: create("/again", b"", 5), ttl_ms: 1500 };
    world.write(&mut client, OpCode::CreateTtl, WriteRequest::CreateTtl(request));
    world.write(&mut client, OpCode::CreateContainer, WriteRequest::CreateContainer(create("/c", b"", 4)));
    world.set(&mut client, "/renewed", b"new");
    for _ in 0..10 {
        world.pass_ms(100);
    }
    world.sync();
    let is_there = |path: &str| world.shared.tree().node(path).is_some();
    assert_eq!(["/again", "/c", "/renewed"].map(is_there), [true; 3]);
    for _ in 0..30 {
        world.pass_ms(100);
        world.sync();
    }
    let is_there = |path: &str| world.shared.tree().node(path).is_some();
    assert_eq!(["/again", "/c", "/renewed"].map(is_there), [false, true, false], "their own time is over later");
    assert_digests(&world);
}

#[test]
fn without_extended_types_a_ttl_is_unimplemented_and_reconfig_is_disabled() {
    let mut world = World::new();
    let mut client = world.connect();
    let request = CreateTtlRequest { create: create("/t", b"", 5), ttl_ms: 5 };
    world.write(&mut client, OpCode::CreateTtl, WriteRequest::CreateTtl(request));
    world.sync();
    assert_eq!(client.received(), ["1 Unimplemented at 0x2"]);
}
