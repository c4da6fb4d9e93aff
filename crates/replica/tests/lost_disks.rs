//! Servers that come back without what they had, and one that comes back with what the others have lost.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::ensemble::World;
use rookeeper_replica::Serving;

/// Two that had lost their disks elected each other, and the third lost what it had when it came back.
#[test]
fn servers_that_lost_their_disks_wait_for_one_that_has_everything() {
    let mut world = World::new(3, &[]);
    world.pass_ms(1000);
    let leader = world.leader();
    let mut client = world.connect(leader);
    world.create(&mut client, "/kept", 0);
    world.settle();
    (0..3).for_each(|node| world.kill(node));
    for node in [0, 1] {
        world.restart_empty(node, false);
    }
    world.pass_ms(30_000);
    assert_eq!([world.serving(0), world.serving(1)], [Serving::Nobody; 2], "{}", world.logs());
    world.restart(2);
    world.pass_ms(30_000);
    assert_eq!(world.serving(2), Serving::Nobody, "there is no quorum of those who count: {}", world.logs());
    // The operator says that one of them may be empty.
    world.kill(0);
    world.restart_empty(0, true);
    world.pass_ms(5000);
    assert_eq!(world.leader(), 2);
    world.is_in_agreement();
    assert!(world.nodes[0].shared.tree().node("/kept").is_some());
    assert!(world.nodes[1].shared.tree().node("/kept").is_some());
}

/// Four of five began anew and acknowledged writes; the fifth came back with the history of before, which had reached a later epoch, was
/// elected, and sent that over everything.
#[test]
fn one_that_comes_back_from_another_time_overthrows_nobody() {
    let mut world = World::new(5, &[]);
    world.pass_ms(1000);
    for _ in 0..2 {
        // Each takes the ensemble an epoch further.
        let leader = world.leader();
        world.kill(leader);
        world.pass_ms(1000);
        world.restart(leader);
        world.pass_ms(1000);
    }
    let leader = world.leader();
    let mut client = world.connect(leader);
    world.create(&mut client, "/old", 0);
    world.settle();
    (0..5).for_each(|node| world.kill(node));
    for node in 0..4 {
        world.restart_empty(node, true);
    }
    world.pass_ms(2000);
    let leader = world.leader();
    let mut client = world.connect(leader);
    let created = world.create(&mut client, "/new", 0);
    world.settle();
    assert_eq!(client.answers(), [(created, 0)]);
    world.restart(4);
    world.pass_ms(60_000);
    assert_eq!(world.leader(), leader, "{}", world.logs());
    assert_eq!(world.serving(4), Serving::Nobody, "{}", world.logs());
    let warned = world.nodes[leader].log.iter().filter(|line| line.contains("fetch everything anew")).count();
    assert!((1..=2).contains(&warned), "{}", world.logs());
    let mut client = world.connect(leader);
    let again = world.create(&mut client, "/new", 0);
    world.settle();
    assert_eq!(client.answers(), [(again, -110)], "what was acknowledged is there");
}
