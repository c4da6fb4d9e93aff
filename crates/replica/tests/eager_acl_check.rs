//! `enableEagerACLCheck`: what is not allowed is refused where it arrives, in its turn, and is no transaction.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::ensemble::{Client, World, membership, settings};
use common::path_version;
use rookeeper_proto::acl::AclRequest;
use rookeeper_proto::jute::ByteBuf;
use rookeeper_proto::request::{CreateRequest, WriteRequest};
use rookeeper_proto::{ErrorCode, OpCode, Permissions};
use rookeeper_replica::Settings;
use rookeeper_tree::{AccessConfig, Tree};

fn create(world: &mut World, client: &mut Client, path: &str, permissions: Option<Permissions>) -> i32 {
    let entry = |permissions| AclRequest { permissions, scheme: Some("world".into()), id: Some("anyone".into()) };
    let acl = Some(permissions.map(entry).into_iter().collect());
    let request = CreateRequest { path: Some(path.into()), data: Some(ByteBuf(Vec::new())), acl, flags: 0 };
    world.write(client, OpCode::Create, WriteRequest::Create(request))
}

fn delete(world: &mut World, client: &mut Client, path: &str) -> i32 {
    world.write(client, OpCode::Delete, WriteRequest::Delete(path_version(path, -1)))
}

#[test]
fn a_refusal_takes_its_turn_and_no_zxid() {
    for at_leader in [true, false] {
        let mut world = World::with_access(settings(membership(3, &[])), true);
        world.pass_ms(1000);
        let node = if at_leader { world.leader() } else { world.follower() };
        let mut client = world.connect(node);
        create(&mut world, &mut client, "/ro", Some(Permissions::READ));
        world.settle();
        client.answers();
        let before = world.last_zxid(node);

        let free = create(&mut world, &mut client, "/free", Some(Permissions::ALL));
        let below = create(&mut world, &mut client, "/ro/x", Some(Permissions::ALL));
        let get = world.get(&mut client, "/free");
        let set = world.set(&mut client, "/ro", b"y");
        let no_list = create(&mut world, &mut client, "/other", None);
        // What this server cannot tell is the leader's.
        let no_parent = create(&mut world, &mut client, "/missing/x", Some(Permissions::ALL));
        world.settle();
        let (no_auth, invalid) = (ErrorCode::NoAuth.number(), ErrorCode::InvalidAcl.number());
        let expected = [
            (free, 0),
            (below, no_auth),
            (get, 0),
            (set, no_auth),
            (no_list, invalid),
            (no_parent, ErrorCode::NoNode.number()),
        ];
        assert_eq!(client.answers(), expected, "leader: {at_leader}");
        assert_eq!(world.last_zxid(node).0, before.0 + 2, "the two that were decided by the leader");
        world.is_in_agreement();
    }
}

/// It is the parent that must allow to delete.
#[test]
fn to_delete_takes_another_right_than_to_write() {
    let mut world = World::with_access(settings(membership(3, &[])), true);
    world.pass_ms(1000);
    let node = world.follower();
    let mut client = world.connect(node);
    for (path, right) in [("/w", Permissions::WRITE), ("/d", Permissions::DELETE)] {
        create(&mut world, &mut client, path, Some(Permissions::CREATE.union(right)));
        create(&mut world, &mut client, &format!("{path}/x"), Some(Permissions::ALL));
    }
    world.settle();
    client.answers();
    let before = world.last_zxid(node);
    let (below_w, below_d) = (delete(&mut world, &mut client, "/w/x"), delete(&mut world, &mut client, "/d/x"));
    world.settle();
    assert_eq!(client.answers(), [(below_w, ErrorCode::NoAuth.number()), (below_d, 0)]);
    assert_eq!(world.last_zxid(node).0, before.0 + 1, "the refusal is no transaction");
}

/// A server alone decides everything itself, and as always.
#[test]
fn a_standalone_server_refuses_by_a_transaction() {
    let access = AccessConfig { skip_acl: false, ..AccessConfig::default() };
    let mut world = common::World::with(Settings { eager_acl_check: true, access, ..Settings::default() }, Tree::new());
    let mut client = world.connect();
    let request = |path: &str, permissions| {
        let entry = AclRequest { permissions, scheme: Some("world".into()), id: Some("anyone".into()) };
        let (path, data) = (Some(path.into()), Some(ByteBuf(Vec::new())));
        WriteRequest::Create(CreateRequest { path, data, acl: Some(vec![entry]), flags: 0 })
    };
    world.write(&mut client, OpCode::Create, request("/ro", Permissions::READ));
    world.sync();
    world.write(&mut client, OpCode::Create, request("/ro/x", Permissions::ALL));
    world.sync();
    assert_eq!(client.received(), ["1 ok at 0x2", "2 NoAuth at 0x3"]);
}
