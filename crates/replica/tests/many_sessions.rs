//! A learner with many sessions tells its leader of them in portions, between which everything else goes on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::ensemble::World;
use rookeeper_proto::Zxid;

const SESSIONS: usize = 2500;

/// What a learner says at once of its sessions.
const PORTION: usize = 1000;

#[test]
fn a_leader_hears_of_all_sessions_and_gets_one_answer_for_each_ping() {
    let mut world = World::new(3, &[]);
    world.pass_ms(1000);
    let (leader, follower) = (world.leader(), world.follower());
    let clients: Vec<_> = (0..SESSIONS).map(|_| world.connect(follower)).collect();
    world.nodes[follower].pongs.clear();
    // Longer than the timeout of the sessions, which is four seconds; a leader pings twice a second.
    for _ in 0..20 {
        let now_ms = world.now().monotonic_ms;
        clients.iter().for_each(|client| client.connection.heard(now_ms));
        world.pass_ms(500);
    }
    assert_eq!(world.nodes[leader].shared.tree().session_count(), SESSIONS);
    assert!(clients.iter().all(|client| client.is_open()));
    let pongs = &world.nodes[follower].pongs;
    assert!(pongs.iter().all(|(_, touches)| *touches <= PORTION));
    // What is told besides is no answer: a leader that counted it would believe that it was heard when it was not.
    let answers = pongs.iter().filter(|(zxid, _)| *zxid != Zxid::ZERO).count();
    assert_eq!((answers, pongs.len()), (20, 60));
    assert_eq!(pongs.iter().map(|(_, touches)| touches).sum::<usize>(), 20 * SESSIONS);
}

/// Nobody who has left is told of again, and who leaves while the others are being told of is not forgotten.
#[test]
fn silent_clients_of_many_are_given_up_and_who_departs_is_told_of() {
    let mut world = World::new(3, &[]);
    world.pass_ms(1000);
    let (leader, follower) = (world.leader(), world.follower());
    let clients: Vec<_> = (0..SESSIONS).map(|_| world.connect(follower)).collect();
    world.pass_ms(1000);
    world.nodes[follower].pongs.clear();
    let heard_ms = world.now().monotonic_ms;
    clients.iter().for_each(|client| client.connection.heard(heard_ms));
    clients.iter().for_each(|client| world.disconnect(client));
    world.pass_ms(500);
    let told: usize = world.nodes[follower].pongs.iter().map(|(_, touches)| touches).sum();
    assert_eq!(told, SESSIONS);
    assert!(world.nodes[follower].pongs.iter().all(|(_, touches)| *touches <= PORTION));
    world.pass_ms(3000);
    assert_eq!(world.nodes[leader].shared.tree().session_count(), SESSIONS, "they were heard of");
    world.pass_ms(3000);
    assert_eq!(world.nodes[leader].shared.tree().session_count(), 0);
}
