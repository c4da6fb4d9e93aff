//! Ensembles of replicas with a perfect network and a disk that answers at once: who leads, who follows, and what clients see of it. What
//! goes wrong in the world is for the simulator.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::ensemble::{Client, Told, World, membership, settings};
use rookeeper_proto::request::WriteRequest;
use rookeeper_proto::{OpCode, SessionId, Zxid};
use rookeeper_replica::{EnsembleSettings, Input, ServerRole, Serving};

#[test]
fn three_servers_find_a_leader_and_serve_the_same() {
    let mut world = World::new(3, &[]);
    world.pass_ms(1000);
    let leader = world.leader();
    let mut clients: Vec<Client> = (0..3).map(|node| world.connect(node)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let created = world.create(client, &format!("/n{number}"), 0);
        let again = world.create(client, &format!("/n{number}"), 0);
        let set = world.set(client, &format!("/n{number}"), b"y");
        world.settle();
        assert_eq!(client.answers(), [(created, 0), (again, -110), (set, 0)], "{}", world.logs());
    }
    world.is_in_agreement();
    assert_eq!(world.nodes[leader].shared.tree().session_count(), 3);
    let status = world.nodes[leader].shared.status_board.status();
    assert_eq!((status.role, status.leadership.unwrap().synced_followers), (ServerRole::Leading, 2));
}

#[test]
fn a_dead_leader_is_replaced_at_once_and_sessions_move() {
    let mut world = World::new(3, &[]);
    world.pass_ms(1000);
    let (leader, follower) = (world.leader(), world.follower());
    let mut client = world.connect(leader);
    let created = world.create(&mut client, "/mine", 1);
    world.settle();
    assert_eq!(client.answers(), [(created, 0)]);
    let session = client.session;

    world.kill(leader);
    world.pass_ms(100);
    assert_ne!(world.leader(), leader, "{}", world.logs());
    let mut moved = world.dial(follower, session, Zxid(0));
    assert_eq!(moved.session, session, "{}", world.logs());
    let set = world.set(&mut moved, "/mine", b"still here");
    world.settle();
    assert_eq!(moved.answers(), [(set, 0)]);

    world.restart(leader);
    world.pass_ms(1000);
    world.is_in_agreement();
    assert_eq!(world.serving(leader), Serving::Forwarding);
    world.pass_ms(20_000);
    world.is_in_agreement();
    assert!(world.nodes[follower].shared.tree().node("/mine").is_none(), "the session expired with its node");
}

#[test]
fn a_follower_catches_up_from_memory_or_by_a_snapshot() {
    for writes in [10, 700] {
        let mut world = World::new(3, &[]);
        world.pass_ms(1000);
        let (leader, follower) = (world.leader(), world.follower());
        let mut client = world.connect(leader);
        world.create(&mut client, "/a", 0);
        world.settle();
        world.kill(follower);
        for _ in 0..writes {
            world.set(&mut client, "/a", b"1");
        }
        world.settle();
        world.restart(follower);
        world.pass_ms(100);
        world.is_in_agreement();
        let by_snapshot = world.nodes[follower].log.iter().any(|line| line.contains("(SNAP)"));
        assert_eq!(by_snapshot, writes > 500, "{}", world.logs());
        world.set(&mut client, "/a", b"2");
        world.settle();
        world.is_in_agreement();
    }
}

#[test]
fn without_a_quorum_nobody_is_served() {
    let mut world = World::new(3, &[]);
    world.pass_ms(1000);
    let (leader, follower) = (world.leader(), world.follower());
    let client = world.connect(leader);
    for node in 0..3 {
        if node != leader {
            world.kill(node);
        }
    }
    world.pass_ms(2000);
    assert_eq!(world.serving(leader), Serving::Nobody);
    assert!(!client.is_open());
    assert!(!world.dial(leader, SessionId::NONE, Zxid(0)).is_open());
    world.restart(follower);
    world.pass_ms(1000);
    world.is_in_agreement();
}

#[test]
fn sync_takes_its_turn_among_writes_everywhere() {
    let mut world = World::new(3, &[]);
    world.pass_ms(1000);
    for node in [world.leader(), world.follower()] {
        let mut client = world.connect(node);
        let mut expected = Vec::new();
        expected.push(world.create(&mut client, &format!("/s{node}"), 0));
        expected.push(world.sync(&mut client));
        expected.push(world.sync(&mut client));
        expected.push(world.set(&mut client, &format!("/s{node}"), b"1"));
        expected.push(world.sync(&mut client));
        expected.push(world.set(&mut client, &format!("/s{node}"), b"2"));
        world.settle();
        let expected: Vec<(i32, i32)> = expected.into_iter().map(|xid| (xid, 0)).collect();
        assert_eq!(client.answers(), expected, "server {}\n{}", node + 1, world.logs());
        assert_eq!(client.connection.in_flight(), 0);
    }
    world.is_in_agreement();
}

#[test]
fn observers_serve_and_do_not_vote() {
    let mut world = World::new(4, &[4]);
    world.pass_ms(2000);
    assert_eq!(world.serving(3), Serving::Forwarding, "{}", world.logs());
    assert_eq!(world.nodes[3].shared.status_board.status().role, ServerRole::Observing);
    let mut client = world.connect(3);
    let created = world.create(&mut client, "/o", 0);
    let sync = world.sync(&mut client);
    world.settle();
    assert_eq!(client.answers(), [(created, 0), (sync, 0)]);
    let leader = world.leader();
    world.kill(leader);
    world.pass_ms(2000);
    world.is_in_agreement();
    assert_eq!(world.serving(3), Serving::Forwarding, "{}", world.logs());
}

#[test]
fn a_session_that_moved_can_change_nothing_through_its_old_server() {
    let mut world = World::new(3, &[]);
    world.pass_ms(1000);
    let (leader, follower) = (world.leader(), world.follower());
    for (from, to) in [(leader, follower), (follower, leader)] {
        let mut old = world.connect(from);
        let mut new = world.dial(to, old.session, Zxid(0));
        assert_eq!(new.session, old.session);
        world.set(&mut old, "/", b"1");
        world.settle();
        assert_eq!((old.answers(), old.is_open()), (vec![], false));
        let set = world.set(&mut new, "/", b"2");
        world.settle();
        assert_eq!(new.answers(), [(set, 0)]);
    }
}

#[test]
fn members_leave_and_join_and_the_leader_too() {
    let mut world = World::new(4, &[4]);
    world.pass_ms(2000);
    let leader = world.leader();
    let mut client = world.connect(leader);
    let joining = "server.4=127.0.0.4:2888:3888:participant;127.0.0.4:2181";
    let xid = world.reconfig(&mut client, Some(joining), None);
    world.pass_ms(1000);
    assert_eq!(client.answers(), [(xid, 0)], "{}", world.logs());
    assert_eq!(world.nodes[3].shared.status_board.status().role, ServerRole::Following, "{}", world.logs());
    world.is_in_agreement();

    let mut client = world.connect(world.follower());
    world.reconfig(&mut client, None, Some(&(leader + 1).to_string()));
    world.pass_ms(3000);
    let next = world.leader();
    assert_ne!(next, leader, "{}", world.logs());
    let members = world.nodes[next].shared.status_board.status().membership.unwrap().members;
    assert_eq!(members.len(), 3);
    world.is_in_agreement();
}

#[test]
fn local_sessions_cost_nothing_until_they_need_a_node() {
    let local =
        EnsembleSettings { local_sessions: true, local_sessions_upgrading: true, ..settings(membership(3, &[])) };
    let mut world = World::with(local);
    world.pass_ms(1000);
    for node in [world.leader(), world.follower()] {
        let zxid = world.nodes[node].shared.tree().last_zxid();
        let mut client = world.connect(node);
        assert_eq!(world.nodes[node].shared.tree().last_zxid(), zxid);
        assert_eq!(world.dial((node + 1) % 3, client.session, Zxid(0)).session, SessionId::NONE);
        let created = world.create(&mut client, &format!("/e{node}"), 1);
        world.settle();
        assert_eq!(client.answers(), [(created, 0)], "{}", world.logs());
        assert_eq!(world.dial((node + 1) % 3, client.session, Zxid(0)).session, client.session);
    }
    world.is_in_agreement();
}

/// The last of three servers, which serves readers.
fn read_only(local_sessions: bool) -> (World, usize) {
    let settings = EnsembleSettings {
        read_only_mode: true,
        local_sessions,
        local_sessions_upgrading: true,
        ..settings(membership(3, &[]))
    };
    let mut world = World::with(settings);
    world.pass_ms(1000);
    let leader = world.leader();
    for node in (0..3).filter(|node| *node != leader) {
        world.kill(node);
    }
    world.pass_ms(4000);
    assert_eq!(world.serving(leader), Serving::ReadOnly, "{}", world.logs());
    (world, leader)
}

/// A session of the ensemble begins with a transaction. As recorded from the original: the header of a reply, and no session.
#[test]
fn no_session_of_the_ensemble_begins_without_a_quorum() {
    let (mut world, server) = read_only(false);
    let mut client = world.dial(server, SessionId::NONE, Zxid(0));
    assert_eq!(client.session, SessionId::NONE);
    let zxid = world.last_zxid(server).0.to_be_bytes();
    assert_eq!(client.refusal(), [&[0, 0, 0, 0], &zxid[..], &(-119_i32).to_be_bytes()].concat());
}

#[test]
fn readers_who_ask_for_it_are_served_without_a_quorum() {
    let (mut world, leader) = read_only(true);
    let mut client = world.connect(leader);
    let refused = world.create(&mut client, "/a", 0);
    world.settle();
    assert_eq!(client.answers(), [(refused, -119)]);
    let others: BTreeMap<usize, ()> = (0..3).filter(|node| *node != leader).map(|node| (node, ())).collect();
    for node in others.into_keys() {
        world.restart(node);
    }
    world.pass_ms(2000);
    assert!(!client.is_open());
    world.is_in_agreement();
}

/// A slow disk delays a server whose leader is known without an election. Found in simulation.
#[test]
fn readers_are_sent_away_also_where_a_leader_is_found_without_an_election() {
    let settings = EnsembleSettings { read_only_mode: true, local_sessions: true, ..settings(membership(4, &[4])) };
    let mut world = World::with(settings);
    world.pass_ms(1000);
    let (leader, late) = (world.leader(), 3);
    let mut client = world.connect(leader);
    world.hold_back(late, |input| matches!(input, Input::Synced { .. } | Input::Stored(_)));
    world.reconfig(&mut client, Some("server.4=127.0.0.1:2888:3888:participant;127.0.0.1:2181"), None);
    world.pass_ms(4000);
    assert_eq!(world.serving(late), Serving::ReadOnly, "{}", world.logs());
    let reader = world.connect(late);
    assert!(reader.is_open());
    world.let_go();
    world.pass_ms(1000);
    assert_eq!(world.serving(late), Serving::Forwarding, "{}", world.logs());
    assert!(!reader.is_open());
    world.is_in_agreement();
}

/// Nobody can make it a session of the ensemble, so it must not become what no server knows.
#[test]
fn a_local_session_that_asks_for_an_ephemeral_node_without_a_quorum_can_still_be_closed() {
    let (mut world, server) = read_only(true);
    let mut client = world.connect(server);
    let refused = world.create(&mut client, "/a", 1);
    let closed = world.write(&mut client, OpCode::CloseSession, WriteRequest::CloseSession);
    world.settle();
    assert_eq!(client.answers(), [(refused, -119), (closed, 0)]);
}

/// What its connection had handed in comes to its turn when there is no leader any more.
#[test]
fn requests_of_a_client_that_left_are_dropped_while_nobody_is_served() {
    let mut world = World::new(3, &[]);
    world.pass_ms(1000);
    let server = world.leader();
    let mut client = world.connect(server);
    world.nodes[server].shared.remove_connection(&client.connection);
    for node in (0..3).filter(|node| *node != server) {
        world.kill(node);
    }
    world.pass_ms(4000);
    assert_eq!(world.serving(server), Serving::Nobody, "{}", world.logs());
    world.set(&mut client, "/a", b"1");
    world.get(&mut client, "/a");
    world.settle();
    assert_eq!(world.nodes[server].shared.outstanding(), 0);
}

/// Who hears of a write here and looks for it elsewhere at once should find it there.
#[test]
fn a_leader_tells_its_learners_of_a_commit_before_its_clients() {
    let mut world = World::new(4, &[4]);
    world.pass_ms(1000);
    let leader = world.leader();
    let mut client = world.connect(leader);
    world.nodes[leader].told.clear();
    let created = world.create(&mut client, "/a", 0);
    world.settle();
    assert_eq!(client.answers(), [(created, 0)]);
    assert_eq!(world.nodes[leader].told, [Told::Learner, Told::Learner, Told::Learner, Told::Client]);
}
