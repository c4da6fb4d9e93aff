//! Nobody can keep a session alive at a server that serves nobody. Found in simulation: a leader that was still finding its epoch let the
//! sessions expire that it had known before, and proposed their ends in the old epoch.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::ensemble::World;
use rookeeper_proto::Zxid;
use rookeeper_replica::{Input, Phase, ServerRole, Serving};

#[test]
fn no_session_expires_before_its_leader_is_established() {
    let mut world = World::new(3, &[]);
    world.pass_ms(1000);
    let (leader, follower) = (world.leader(), world.follower());
    let mut client = world.connect(leader);
    world.create(&mut client, "/mine", 1);
    world.settle();
    let history = world.nodes[leader].disk.appended.len();

    // It loses its followers, and is elected again by one that does not get through to it.
    for node in (0..3).filter(|node| *node != leader) {
        world.kill(node);
    }
    world.pass_ms(1000);
    world.hold_back(leader, |input| matches!(input, Input::LearnerConnected { .. }));
    world.restart(follower);
    world.pass_ms(8000);
    let status = world.nodes[leader].shared.status_board.status();
    assert_eq!((status.role, status.phase), (ServerRole::Leading, Phase::Discovery), "{}", world.logs());
    assert_eq!(world.serving(leader), Serving::Nobody);
    assert_eq!(world.nodes[leader].disk.appended.len(), history, "nothing is proposed before its epoch has begun");

    // It gets through. The session is there, and has its timeout of four seconds ahead of it.
    world.let_go();
    world.pass_ms(3000);
    assert_eq!(world.leader(), leader);
    let mut moved = world.dial(leader, client.session, Zxid(0));
    assert_eq!(moved.session, client.session, "{}", world.logs());
    let set = world.set(&mut moved, "/mine", b"still here");
    world.settle();
    assert_eq!(moved.answers(), [(set, 0)]);
    world.pass_ms(6000);
    assert!(world.nodes[leader].shared.tree().node("/mine").is_none(), "the session expired with its node");
    world.is_in_agreement();
}
