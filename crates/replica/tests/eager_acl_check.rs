//! `enableEagerACLCheck`: what is not allowed is refused where it arrives, in its turn, and is no transaction.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::ensemble::{Client, World, membership, settings};
use rookeeper_proto::acl::AclRequest;
use rookeeper_proto::jute::ByteBuf;
use rookeeper_proto::request::{CreateRequest, WriteRequest};
use rookeeper_proto::{ErrorCode, OpCode, Permissions};

fn create(world: &mut World, client: &mut Client, path: &str, permissions: Option<Permissions>) -> i32 {
    let entry = |permissions| AclRequest { permissions, scheme: Some("world".into()), id: Some("anyone".into()) };
    let acl = Some(permissions.map(entry).into_iter().collect());
    let request = CreateRequest { path: Some(path.into()), data: Some(ByteBuf(Vec::new())), acl, flags: 0 };
    world.write(client, OpCode::Create, WriteRequest::Create(request))
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
