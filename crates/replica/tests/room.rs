//! Where room is short: what grows is refused, everything else goes on, and it ends by itself.

mod common;

use common::{World, create, path_version};
use rookeeper_proto::acl::AclRequest;
use rookeeper_proto::multi::WriteOp;
use rookeeper_proto::request::{SetAclRequest, WriteRequest};
use rookeeper_proto::{OpCode, Permissions};
use rookeeper_replica::{Input, Measured, RoomSettings, Settings};
use rookeeper_tree::Tree;

fn world() -> World {
    let room = RoomSettings { min_free_bytes: 1000, memory_bytes: 1_000_000 };
    World::with(Settings { room, ..Settings::default() }, Tree::new())
}

fn disk(world: &mut World, free_bytes: u64) {
    world.handle(Input::Measured(Measured { free_bytes: Some(free_bytes), resident_bytes: None }));
}

fn memory(world: &mut World, resident_bytes: u64) {
    world.handle(Input::Measured(Measured { free_bytes: None, resident_bytes: Some(resident_bytes) }));
}

fn acl(path: &str) -> WriteRequest {
    let open = AclRequest { permissions: Permissions::ALL, scheme: Some("world".into()), id: Some("anyone".into()) };
    WriteRequest::SetAcl(SetAclRequest { path: Some(path.into()), acl: Some(vec![open]), version: -1 })
}

#[test]
fn on_a_full_disk_what_makes_the_log_grow_is_refused_until_there_is_room() {
    let mut world = world();
    let mut client = world.connect();
    for path in ["/a", "/b", "/c"] {
        world.create_with(&mut client, path, b"four", 0);
    }
    world.create_with(&mut client, "/ephemeral", b"", 1);
    world.sync();
    client.received();
    disk(&mut world, 999);
    world.create(&mut client, "/d");
    world.set(&mut client, "/a", b"more than four");
    world.set(&mut client, "/a", b"same");
    world.set(&mut client, "/a", b"1");
    world.write(&mut client, OpCode::SetAcl, acl("/a"));
    world.delete(&mut client, "/b");
    world.multi(&mut client, vec![WriteOp::Delete(path_version("/c", -1)), WriteOp::Check(path_version("/a", -1))]);
    world.get(&mut client, "/a", false);
    // What is wrong anyway is told so.
    world.create(&mut client, "/a");
    world.create(&mut client, "/missing/d");
    world.sync();
    let zxids_aside = |received: Vec<String>| -> Vec<String> {
        received.iter().map(|line| line.split(" at ").next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(
        zxids_aside(client.received()),
        [
            "5 QuotaExceeded",
            "6 QuotaExceeded",
            "7 QuotaExceeded",
            "8 ok",
            "9 QuotaExceeded",
            "10 ok",
            "11 ok",
            "12 ok",
            "13 NodeExists",
            "14 NoNode",
        ]
    );
    // Sessions come, come back and go, and their nodes with them.
    let mut other = world.connect();
    let mut back = world.reconnect(&client).expect("its session lives");
    world.write(&mut back, OpCode::CloseSession, WriteRequest::CloseSession);
    world.sync();
    assert!(world.shared.tree().node("/ephemeral").is_none());
    assert_eq!(world.shared.statistics.growing_writes_refused.load(std::sync::atomic::Ordering::Relaxed), 4);
    // The floor is not enough.
    disk(&mut world, 1000);
    world.create(&mut other, "/d");
    world.sync();
    disk(&mut world, 1500);
    world.create(&mut other, "/d");
    world.sync();
    assert_eq!(zxids_aside(other.received()), ["1 QuotaExceeded", "2 ok"]);
    let said: Vec<&String> = world.notices.iter().filter(|notice| notice.contains("Disk")).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("DiskShort") && said[1].contains("DiskHasRoom"), "{said:?}");
}

#[test]
fn where_memory_is_short_only_what_makes_the_tree_grow_is_refused() {
    let mut world = world();
    let mut client = world.connect();
    world.create_with(&mut client, "/a", b"four", 0);
    memory(&mut world, 900_000);
    world.set(&mut client, "/a", b"same");
    world.set(&mut client, "/a", b"longer");
    world.write(&mut client, OpCode::SetAcl, acl("/a"));
    let ops = vec![WriteOp::Delete(path_version("/a", -1)), WriteOp::Create(create("/b", b"", 0))];
    world.multi(&mut client, ops);
    world.sync();
    let received = client.received();
    assert_eq!(received.len(), 5);
    assert!(received[1].starts_with("2 ok") && received[2].starts_with("3 QuotaExceeded"), "{received:?}");
    assert!(received[3].starts_with("4 ok"), "{received:?}");
    assert!(world.shared.tree().node("/a").is_some(), "a multi that is refused leaves nothing");
    memory(&mut world, 800_000);
    world.set(&mut client, "/a", b"longer");
    world.sync();
    assert!(client.received()[0].starts_with("6 ok"));
}
