//! No record of a transaction is longer than the original reads, whatever a server adds to what clients ask for; and every copy of the
//! tree is the same all the same.

mod common;

use std::collections::BTreeSet;

use common::{Client, World, create};
use rookeeper_proto::acl::AclRequest;
use rookeeper_proto::multi::WriteOp;
use rookeeper_proto::request::{SetAclRequest, WriteRequest};
use rookeeper_proto::{Id, OpCode, Permissions, Txn, TxnRecord, path};
use rookeeper_replica::Settings;
use rookeeper_tree::Tree;

const LIMIT: usize = 4000;

fn world() -> World {
    let settings = Settings { max_record_bytes: LIMIT, tick_time_ms: 2000, ..Settings::default() };
    World::with(settings, Tree::new())
}

fn assert_readable(world: &World) {
    for record in &world.log {
        let mut body = Vec::new();
        record.append(&mut body);
        assert!(body.len() <= LIMIT, "{} bytes: {:?}", body.len(), record.header);
    }
    assert!(!world.notices.iter().any(|notice| notice.contains("DigestMismatch")), "{:?}", world.notices);
}

/// What another server makes of the log; every digest in it must be right.
fn replayed(log: &[TxnRecord]) -> Tree {
    let mut tree = Tree::new();
    for record in log {
        tree.apply(&record.header, record.txn.clone(), &mut Vec::new());
        assert!(record.digest.is_none_or(|digest| digest.value == tree.digest()), "{record:?}");
    }
    tree
}

/// Nodes of the client under each of these parents, more than one record can name.
fn own_many(world: &mut World, client: &mut Client, parents: &[&str]) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for parent in parents {
        world.create(client, parent);
        for number in 0..LIMIT / 100 {
            let path = format!("{parent}/{}{number:03}", "x".repeat(100));
            world.create_with(client, &path, b"", 1);
            paths.insert(path);
        }
    }
    world.sync();
    paths
}

fn named_at_the_end(world: &World) -> Vec<String> {
    match world.log.last().map(|record| &record.txn) {
        Some(Txn::CloseSession { paths: Some(paths) }) => paths.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_end_of_a_session_with_more_nodes_than_a_record_can_name() {
    for expires in [false, true] {
        let mut world = world();
        let mut client = world.connect();
        let owned = own_many(&mut world, &mut client, &["/a", "/a-b", "/a/c"]);
        // Also what is still on its way.
        world.create_with(&mut client, "/late", b"", 1);
        if expires {
            world.sync();
            world.pass_ms(20_000);
        } else {
            world.write(&mut client, OpCode::CloseSession, WriteRequest::CloseSession);
        }
        world.sync();
        assert_readable(&world);
        let named = named_at_the_end(&world);
        let parents: BTreeSet<_> = named.iter().filter_map(|named| path::parent(named)).collect();
        assert_eq!(parents, BTreeSet::from(["/", "/a", "/a-b", "/a/c"]), "a replay finds every parent");
        assert!(named.iter().all(|named| named == "/late" || owned.contains(named)));

        let tree = world.shared.tree();
        assert_eq!(tree.ephemerals(client.session).count(), 0);
        assert!(owned.iter().all(|path| tree.node(path).is_none()));
        assert_eq!(replayed(&world.log).digest(), tree.digest());
    }
}

#[test]
fn a_record_that_has_room_for_all_nodes_of_a_session_names_them_all() {
    let mut world = world();
    let mut client = world.connect();
    for name in ["/b", "/a", "/c"] {
        world.create_with(&mut client, name, b"", 1);
    }
    world.write(&mut client, OpCode::CloseSession, WriteRequest::CloseSession);
    world.sync();
    assert_eq!(named_at_the_end(&world), ["/a", "/b", "/c"]);
}

#[test]
fn more_parents_than_a_record_can_name_lose_their_children_too() {
    let mut world = world();
    let mut client = world.connect();
    for number in 0..LIMIT / 100 {
        let parent = format!("/{}{number:03}", "p".repeat(100));
        world.create(&mut client, &parent);
        world.create_with(&mut client, &format!("{parent}/e"), b"", 1);
    }
    world.write(&mut client, OpCode::CloseSession, WriteRequest::CloseSession);
    world.sync();
    assert_readable(&world);
    assert!(!named_at_the_end(&world).is_empty());
    let tree = world.shared.tree();
    assert_eq!(tree.ephemerals(client.session).count(), 0);
    assert_eq!(replayed(&world.log).digest(), tree.digest());
}

/// Each stands for all identities of whoever asks.
fn auth_entries(count: i32) -> Vec<AclRequest> {
    let entry =
        |permissions| AclRequest { permissions: Permissions(permissions), scheme: Some("auth".into()), id: None };
    (1..=count).map(entry).collect()
}

#[test]
fn a_request_that_would_become_too_long_is_refused_and_leaves_nothing() {
    let mut world = world();
    let mut client = world.connect();
    assert!(client.connection.add_identities((0..20).map(|user| Id::new("digest", format!("user{user}:hash")))));
    let with = |path: &str, entries| {
        let mut request = create(path, b"", 0);
        request.acl = Some(auth_entries(entries));
        request
    };
    // 20 identities in 5 entries take about 3,000 bytes.
    world.write(&mut client, OpCode::Create, WriteRequest::Create(with("/a", 5)));
    world.write(&mut client, OpCode::Create, WriteRequest::Create(with("/b", 8)));
    let set = SetAclRequest { path: Some("/a".into()), acl: Some(auth_entries(8)), version: -1 };
    world.write(&mut client, OpCode::SetAcl, WriteRequest::SetAcl(set));
    let twice = vec![WriteOp::Create(with("/c", 5)), WriteOp::Create(with("/d", 5))];
    world.multi(&mut client, twice);
    // As a whole it is too long: nothing in it grows, but a smaller server sent it on.
    world.create_with(&mut client, "/e", &[0; LIMIT], 0);
    let halves = ["/f", "/g"].map(|path| WriteOp::Create(create(path, &[0; LIMIT / 2], 0)));
    world.multi(&mut client, halves.into());
    world.create(&mut client, "/h");
    world.sync();
    assert_eq!(
        client.received(),
        [
            "1 ok at 0x2",
            "2 InvalidAcl at 0x3",
            "3 InvalidAcl at 0x4",
            "4 ok at 0x5",
            "5 MarshallingError at 0x6",
            "6 MarshallingError at 0x7",
            "7 ok at 0x8",
        ]
    );
    assert_readable(&world);
    let tree = world.shared.tree();
    let there: Vec<bool> =
        ["/a", "/b", "/c", "/d", "/e", "/f", "/g", "/h"].map(|path| tree.node(path).is_some()).into();
    assert_eq!(there, [true, false, false, false, false, false, false, true]);
    assert_eq!(replayed(&world.log).digest(), tree.digest());
}
