//! A snapshot is read while its tree changes, so it may show transactions that come after its zxid, and their commits may follow UPTODATE.
//! Found in simulation: a follower served clients in between, and they read the future.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::ensemble::{World, is_commit, is_proposal, membership, settings};
use rookeeper_proto::{SessionId, Zxid};
use rookeeper_replica::{EnsembleSettings, Input, Serving};

/// A follower that was away too long for anything but a snapshot, all of which is on its way. While it was sent the leader has set both
/// `/a` and `/b` to `future`.
fn follower_of_a_moving_tree() -> (World, usize, usize) {
    let mut world = World::with(EnsembleSettings { commit_log_count: 2, ..settings(membership(3, &[])) });
    world.pass_ms(1000);
    let (leader, follower) = (world.leader(), world.follower());
    let mut client = world.connect(leader);
    world.create(&mut client, "/a", 0);
    world.create(&mut client, "/b", 0);
    world.settle();
    world.kill(follower);
    for _ in 0..5 {
        world.set(&mut client, "/a", b"past");
    }
    world.settle();
    world.hold_back(follower, |input| matches!(input, Input::SnapshotReceived { .. }));
    world.restart(follower);
    world.pass_ms(100);
    world.set(&mut client, "/a", b"future");
    world.set(&mut client, "/b", b"future");
    world.settle();
    world.let_go();
    (world, leader, follower)
}

#[test]
fn nobody_reads_what_a_snapshot_shows_before_it_is_committed() {
    let (mut world, leader, follower) = follower_of_a_moving_tree();
    world.hold_back(follower, is_commit);
    world.settle();
    assert_eq!(world.data(follower, "/b"), b"future");
    assert_eq!(world.last_zxid(follower).0, world.last_zxid(leader).0 - 2);
    assert_eq!(world.serving(follower), Serving::Nobody, "{}", world.logs());
    let early = world.dial(follower, SessionId::NONE, Zxid(0));
    assert!(!early.connection.is_established());

    world.let_go();
    world.settle();
    assert_eq!(world.serving(follower), Serving::Forwarding, "{}", world.logs());
    world.is_in_agreement();
    assert!(early.connection.is_established());
    world.connect(follower);
}

/// The digests of the first transactions behind such a snapshot are not those of the tree: a server that compared them would not trust
/// itself any more.
#[test]
fn a_snapshot_that_shows_the_future_may_also_lie_on_the_disk() {
    let (mut world, leader, follower) = follower_of_a_moving_tree();
    world.hold_back(follower, is_proposal);
    world.settle();
    world.kill(follower);
    world.let_go();
    assert_eq!(world.data(follower, "/b"), b"future");
    assert_eq!(world.last_zxid(follower).0, world.last_zxid(leader).0 - 2);

    world.restart(follower);
    world.pass_ms(100);
    assert!(!world.nodes[follower].log.iter().any(|line| line.contains("(SNAP)")), "{}", world.logs());
    assert_eq!(world.serving(follower), Serving::Forwarding, "{}", world.logs());
    world.is_in_agreement();
}
