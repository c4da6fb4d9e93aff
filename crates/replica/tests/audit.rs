//! What the audit log is told: each request for a change once, with what became of it, whoever still waits for that.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::ensemble::{self, is_commit, membership, settings};
use common::{World, create, path_version};
use rookeeper_proto::acl::AclRequest;
use rookeeper_proto::multi::WriteOp;
use rookeeper_proto::request::{CreateRequest, SetAclRequest, SetDataRequest, WriteRequest};
use rookeeper_proto::{Id, OpCode, Permissions, SessionId, Zxid};
use rookeeper_replica::{Input, Output, Settings, Stamp};
use rookeeper_tree::Tree;

fn world(audits: bool) -> World {
    World::with(
        Settings { tick_time_ms: 2000, min_session_timeout_ms: 4000, audits, ..Settings::default() },
        Tree::new(),
    )
}

/// Every kind of request, done and failed.
fn everything(world: &mut World) {
    let mut client = world.connect();
    world.create(&mut client, "/a");
    world.create(&mut client, "/a");
    world.create_with(&mut client, "/a/s-", b"", 2);
    world.set(&mut client, "/a", b"x");
    let entry = AclRequest { permissions: Permissions::ALL, scheme: Some("world".into()), id: Some("anyone".into()) };
    let set_acl = SetAclRequest { path: Some("/a".into()), acl: Some(vec![entry]), version: -1 };
    world.write(&mut client, OpCode::SetAcl, WriteRequest::SetAcl(set_acl));
    world.delete(&mut client, "/nope");
    let set = SetDataRequest { path: Some("/m".into()), data: None, version: -1 };
    let members = |at_end| {
        vec![
            WriteOp::Check(path_version("/a", -1)),
            WriteOp::Create(create("/m", b"", 0)),
            WriteOp::Create2(create("/m/s-", b"", 3)),
            WriteOp::SetData(set.clone()),
            WriteOp::Delete(path_version(at_end, -1)),
        ]
    };
    world.multi(&mut client, members("/a/s-0000000001"));
    world.multi(&mut client, members("/nope"));
    world.create_with(&mut client, "/e", b"", 1);
    world.get(&mut client, "/a", false);
    world.sync();
    // What can't be decoded is told without a path.
    let (connection, identities) = (client.connection.clone(), client.connection.identities());
    world.shared.submit(&connection);
    let (op, request, body) = (OpCode::Delete, None, Vec::new());
    world.handle(Input::Write {
        connection,
        xid: 50,
        op,
        request,
        body,
        identities,
        arrived: Stamp::default(),
        sampled: None,
    });
    world.write(&mut client, OpCode::CloseSession, WriteRequest::CloseSession);
    world.sync();
}

#[test]
fn every_change_is_told_once_with_what_became_of_it() {
    let mut world = world(true);
    everything(&mut world);
    let multi = "Multi([Create { path: Some(\"/m\"), flags: 0 }, Create { path: Some(\"/m/s-\"), flags: 3 }, \
                 SetData { path: Some(\"/m\") }, Delete { path: Some(";
    assert_eq!(
        world.audit,
        [
            "Create { path: Some(\"/a\"), flags: 0 }: Done { sequential: [] }".to_owned(),
            "Create { path: Some(\"/a\"), flags: 0 }: Failed".to_owned(),
            "Create { path: Some(\"/a/s-\"), flags: 2 }: Done { sequential: [\"/a/s-0000000000\"] }".to_owned(),
            "SetData { path: Some(\"/a\") }: Done { sequential: [] }".to_owned(),
            "SetAcl { path: Some(\"/a\"), acl: Some([AclRequest { permissions: Permissions(31), scheme: Some(\"world\"), \
             id: Some(\"anyone\") }]) }: Done { sequential: [] }"
                .to_owned(),
            "Delete { path: Some(\"/nope\") }: Failed".to_owned(),
            format!("{multi}\"/a/s-0000000001\") }}]): Failed"),
            format!("{multi}\"/nope\") }}]): Failed"),
            "Create { path: Some(\"/e\"), flags: 1 }: Done { sequential: [] }".to_owned(),
            "Delete { path: None }: Failed".to_owned(),
            "ephemerals gone: [\"/e\"]".to_owned(),
            "CloseSession: Done { sequential: [] }".to_owned(),
        ]
    );
}

#[test]
fn a_multi_that_is_done_tells_the_names_of_its_sequential_nodes() {
    let mut world = world(true);
    let mut client = world.connect();
    world.create(&mut client, "/a");
    let create = |path, flags| WriteOp::Create(create(path, b"", flags));
    let check = WriteOp::Check(path_version("/a", -1));
    world.multi(&mut client, vec![check, create("/a/x-", 2), create("/a/y", 0), create("/a/z-", 3)]);
    world.sync();
    let line = world.audit.last().unwrap();
    assert!(line.ends_with("Done { sequential: [\"/a/x-0000000000\", \"/a/z-0000000002\"] }"), "{line}");
}

#[test]
fn nothing_is_told_where_there_is_no_audit_log() {
    let mut world = world(false);
    everything(&mut world);
    assert_eq!(world.audit, Vec::<String>::new());
}

#[test]
fn who_asked_is_told_as_it_was_when_the_request_came() {
    let mut world = world(true);
    let client = world.connect();
    let (connection, identities) = (client.connection.clone(), client.connection.identities());
    assert!(connection.add_identities([Id::new("digest", "bob:x")]));
    world.shared.submit(&connection);
    let request = Some(WriteRequest::Create(create("/a", b"", 0)));
    let write = Input::Write {
        connection,
        xid: 1,
        op: OpCode::Create,
        request,
        body: Vec::new(),
        identities,
        arrived: Stamp::default(),
        sampled: None,
    };
    world.replica.handle(world.now(), write);
    while let Some(output) = world.replica.poll() {
        if let Output::Append(record) = &output {
            world.replica.handle(world.now(), Input::Synced { zxid: record.zxid });
        }
        if let Output::Audited { request, .. } = output {
            let peer = client.connection.peer.ip();
            assert_eq!((request.session, request.client), (client.session, peer));
            assert_eq!(*request.identities, [Id::new("ip", peer.to_string())]);
            return;
        }
    }
    panic!("nothing was told");
}

#[test]
fn a_client_that_does_not_wait_for_the_answer_hides_nothing() {
    let mut world = world(true);
    let mut client = world.connect();
    world.create(&mut client, "/a");
    client.connection.outbox.close();
    world.handle(Input::Disconnected { connection: client.connection.clone() });
    world.sync();
    assert_eq!(world.audit, ["Create { path: Some(\"/a\"), flags: 0 }: Done { sequential: [] }"]);
}

#[test]
fn a_session_that_moved_leaves_requests_that_failed() {
    let mut world = world(true);
    let mut client = world.connect();
    let _resumed = world.reconnect(&client).unwrap();
    world.create(&mut client, "/a");
    world.sync();
    assert_eq!(world.audit, ["Create { path: Some(\"/a\"), flags: 0 }: Failed"]);
}

#[test]
fn a_wrong_password_of_a_session_is_told() {
    let mut world = world(true);
    let client = world.connect();
    world.dial(client.session, [7; 16], Zxid(0));
    assert_eq!(world.audit, ["ResumeSession: Failed"]);
}

#[test]
fn many_ephemerals_are_all_told_when_their_session_expires() {
    let mut world = world(true);
    let mut client = world.connect();
    for index in 0..2500 {
        world.create_with(&mut client, &format!("/e{index:04}"), b"", 1);
    }
    world.sync();
    world.audit.clear();
    client.connection.outbox.close();
    world.handle(Input::Disconnected { connection: client.connection.clone() });
    world.pass_ms(10_000);
    world.sync();
    let all: String = world.audit.concat();
    assert_eq!(all.matches("/e").count(), 2500);
    assert!((0..2500).all(|index| all.contains(&format!("\"/e{index:04}\""))));
    assert!(world.audit.len() > 1, "they go in portions");
}

#[test]
fn in_an_ensemble_the_server_of_the_client_tells_and_every_server_tells_of_ephemerals() {
    for at_leader in [true, false] {
        let mut world = ensemble::World::new(3, &[]);
        world.pass_ms(1000);
        let node = if at_leader { world.leader() } else { world.follower() };
        let mut client = world.connect(node);
        world.create(&mut client, "/e", 1);
        world.create(&mut client, "/e", 0);
        world.write(&mut client, OpCode::CloseSession, WriteRequest::CloseSession);
        world.settle();
        world.pass_ms(100);
        for (index, server) in world.nodes.iter().enumerate() {
            let gone = "ephemerals gone: [\"/e\"]";
            let expected: &[&str] = match index == node {
                true => &[
                    "Create { path: Some(\"/e\"), flags: 1 }: Done { sequential: [] }",
                    "Create { path: Some(\"/e\"), flags: 0 }: Failed",
                    gone,
                    "CloseSession: Done { sequential: [] }",
                ],
                false => &[gone],
            };
            assert_eq!(server.audit, expected, "server {index}, client at {node}");
        }
    }
}

#[test]
fn a_request_whose_leader_is_lost_may_be_done_or_not() {
    let mut world = ensemble::World::with(settings(membership(3, &[])));
    world.pass_ms(1000);
    let (leader, follower) = (world.leader(), world.follower());
    let mut client = world.connect(follower);
    world.hold_back(follower, is_commit);
    world.create(&mut client, "/a", 0);
    world.settle();
    assert_eq!(world.nodes[follower].audit, Vec::<String>::new());
    world.kill(leader);
    world.settle();
    assert_eq!(world.nodes[follower].audit, ["Create { path: Some(\"/a\"), flags: 0 }: Unknown"]);
    assert_ne!(client.session, SessionId::NONE);
}

#[test]
fn a_leader_that_is_left_alone_tells_of_what_waited_for_it() {
    let mut world = ensemble::World::with_access(settings(membership(3, &[])), true);
    world.pass_ms(1000);
    let leader = world.leader();
    let others: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    let mut client = world.connect(leader);
    let entry = AclRequest { permissions: Permissions::READ, scheme: Some("world".into()), id: Some("anyone".into()) };
    let read_only = CreateRequest { acl: Some(vec![entry]), ..create("/ro", b"", 0) };
    world.write(&mut client, OpCode::Create, WriteRequest::Create(read_only));
    world.settle();
    // Refused at once by this server's own list.
    world.set(&mut client, "/ro", b"x");
    world.settle();
    assert_eq!(
        world.nodes[leader].audit,
        [
            "Create { path: Some(\"/ro\"), flags: 0 }: Done { sequential: [] }",
            "SetData { path: Some(\"/ro\") }: Failed"
        ]
    );
    let mut behind_sync = world.connect(leader);
    others.iter().for_each(|node| world.kill(*node));
    world.nodes[leader].audit.clear();
    // On its way, and refused behind it.
    world.create(&mut client, "/a", 0);
    world.set(&mut client, "/ro", b"x");
    // Waits behind a sync that nobody confirms.
    world.sync(&mut behind_sync);
    world.create(&mut behind_sync, "/b", 0);
    world.settle();
    assert_eq!(world.nodes[leader].audit, Vec::<String>::new());
    world.pass_ms(60_000);
    let mut told = world.nodes[leader].audit.clone();
    told.sort();
    assert_eq!(
        told,
        [
            "Create { path: Some(\"/a\"), flags: 0 }: Unknown",
            "Create { path: Some(\"/b\"), flags: 0 }: Failed",
            "SetData { path: Some(\"/ro\") }: Failed",
        ],
        "{}",
        world.logs()
    );
}
