//! What a leader counts as a sign of life of a session that a learner's client has: what was heard while this leader led, as soon as it was
//! said.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::ensemble::{Client, World, is_ping, is_proposal, is_touch};
use rookeeper_proto::Zxid;

fn lives(world: &World, client: &Client) -> bool {
    world.nodes[world.leader()].shared.tree().session_timeout_ms(client.session).is_some()
}

/// Found in simulation: a client that had come back in time lost its session, because the question for it waited behind a sync.
#[test]
fn a_client_that_comes_back_keeps_its_session_although_a_sync_is_in_the_way() {
    for comes_back in [true, false] {
        let mut world = World::new(3, &[]);
        world.pass_ms(1000);
        let (leader, follower) = (world.leader(), world.follower());
        let (client, mut asker) = (world.connect(follower), world.connect(follower));
        world.pass_ms(3000);
        // No sync is confirmed, and no answer to a ping tells the leader of sessions.
        for node in (0..3).filter(|node| *node != leader) {
            world.hold_back(node, is_ping);
        }
        world.sync(&mut asker);
        world.settle();
        world.disconnect(&client);
        let again = comes_back.then(|| world.dial(follower, client.session, Zxid(0)));
        world.pass_ms(3000);
        world.let_go();
        world.settle();
        assert_eq!(lives(&world, &client), comes_back, "4 s is its timeout");
        assert!(again.is_none_or(|again| again.is_open() && again.connection.is_established()));
    }
}

/// Found in simulation: a client that had stood still while it waited for a lock went on, asked for a sync and for its node, and was told that all was well;
/// its session expired a moment later, because the leader had not been told of it yet. Holders take such an answer for the whole timeout.
#[test]
fn an_answered_sync_leaves_the_session_its_whole_timeout() {
    let mut world = World::new(3, &[]);
    world.pass_ms(1000);
    let (leader, follower) = (world.leader(), world.follower());
    let mut client = world.connect(follower);
    world.pass_ms(3500);
    // The other follower confirms the sync.
    world.hold_back(leader, is_touch);
    let sync = world.sync(&mut client);
    world.settle();
    assert_eq!(client.answers(), [(sync, 0)]);
    world.pass_ms(3900);
    assert!(lives(&world, &client), "4 s is its timeout");
    world.pass_ms(1200);
    assert!(!lives(&world, &client), "4 s is its timeout");
}

/// Found in simulation: a question that waited behind two syncs counted as a sign of life again when the first of them was answered.
#[test]
fn a_question_that_waits_again_is_no_new_sign_of_life() {
    let mut world = World::new(3, &[]);
    world.pass_ms(1000);
    let (leader, follower) = (world.leader(), world.follower());
    let mut asker = world.connect(follower);
    // A follower has nothing to say of the session.
    let client = world.connect(leader);
    let followers = (0..3).filter(|node| *node != leader);
    // No sync is confirmed.
    followers.clone().for_each(|node| world.hold_back(node, is_ping));
    world.sync(&mut asker);
    world.set(&mut asker, "/", b"1");
    world.sync(&mut asker);
    world.settle();
    world.disconnect(&client);
    world.dial(follower, client.session, Zxid(0));
    world.pass_ms(3000);
    // The first sync is answered. The second waits for the write before it.
    world.let_go();
    followers.for_each(|node| world.hold_back(node, is_proposal));
    world.settle();
    assert_eq!(world.nodes[leader].replica.in_flight(), 1, "the write is proposed");
    assert!(lives(&world, &client));
    world.pass_ms(3000);
    assert!(
        world.nodes[leader].shared.sessions().is_closing(client.session),
        "the session was last heard of 6 s ago, and 4 s is its timeout"
    );
}

/// Found in simulation: a session lived on at a new leader from when a follower answered its first ping, although nobody had heard of it since
/// that leader had begun.
#[test]
fn a_new_leader_is_not_told_of_sessions_that_were_heard_of_under_the_one_before() {
    for is_told_early in [true, false] {
        let mut world = World::new(3, &[]);
        world.pass_ms(1000);
        let (old, follower) = (world.leader(), world.follower());
        let mut client = world.connect(follower);
        world.get(&mut client, "/");
        world.pass_ms(100);
        // The connection ends with the old leader. The follower is told of that before it serves under the new one, or after.
        world.is_parted = is_told_early;
        world.kill(old);
        world.disconnect(&client);
        world.is_parted = false;
        world.pass_ms(300);
        let leader = world.leader();
        assert_ne!(leader, follower);
        world.hold_back(follower, is_ping);
        world.pass_ms(2000);
        world.let_go();
        world.pass_ms(1500);
        assert!(lives(&world, &client));
        world.pass_ms(1600);
        assert!(
            !lives(&world, &client),
            "4 s is its timeout, and nobody has heard of it for 5.4 s (early: {is_told_early})"
        );
    }
}
