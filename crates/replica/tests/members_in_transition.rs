//! What a change of the members does to those it concerns. Found in simulation: a leader waited for ever for the acknowledgement of a server
//! that had left, and for that of one that was a voter by then and still only listened.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::ensemble::World;
use rookeeper_replica::Input;

/// What is proposed between a change of the members and its commit needs no more than the new members once the change is in force.
#[test]
fn those_who_leave_are_not_asked() {
    let mut world = World::new(4, &[]);
    world.pass_ms(1000);
    let leader = world.leader();
    let others: Vec<usize> = (0..4).filter(|node| *node != leader).collect();
    let [leaving, silent, _] = others[..] else { panic!("three others: {others:?}") };
    let mut client = world.connect(leader);
    world.kill(silent);

    // Both are proposed before anybody acknowledges one.
    world.hold_back(leader, |input| matches!(input, Input::FromLearner { .. }));
    let change = world.reconfig(&mut client, None, Some(&format!("{}", leaving + 1)));
    let write = world.create(&mut client, "/behind", 0);
    world.settle();
    assert_eq!(client.answers(), []);
    world.let_go();
    world.settle();
    assert_eq!(client.answers(), [(change, 0), (write, 0)], "{}", world.logs());
}

/// An observer that is given a voice while it joins learns of it from its leader, and comes back as a voter.
#[test]
fn an_observer_that_became_a_voter_votes() {
    let mut world = World::new(4, &[4]);
    world.pass_ms(1000);
    let leader = world.leader();
    let mut client = world.connect(leader);
    world.kill(3);
    world.hold_back(3, |input| matches!(input, Input::FromLeader { .. }));
    world.restart(3);
    world.pass_ms(1000);
    world.reconfig(&mut client, Some("server.4=127.0.0.4:2888:3888:participant;127.0.0.4:2181"), None);
    world.settle();
    assert_eq!(client.answers().len(), 1);
    world.let_go();
    world.pass_ms(3000);
    let counts = world.nodes[leader].shared.status_board.status().leadership.unwrap();
    assert_eq!((counts.synced_followers, counts.synced_observers), (3, 0), "{}", world.logs());

    // Two of four voters are no quorum, three are.
    let one = (0..3).find(|node| *node != leader).unwrap();
    world.kill(one);
    let write = world.create(&mut client, "/with-its-voice", 0);
    world.settle();
    assert_eq!(client.answers(), [(write, 0)], "{}", world.logs());
}
