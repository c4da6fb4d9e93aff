//! A membership that is in a server's history may be in force before this server knows. Found in simulation: a leader that lost the lead
//! before the membership it had proposed was committed led again by the old members alone, and after a restart it did not know of it either.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::ensemble::{World, is_proposal};
use rookeeper_proto::ServerId;
use rookeeper_replica::Serving;

#[test]
fn a_leader_remembers_the_membership_it_proposed() {
    for restarts in [false, true] {
        let mut world = World::new(5, &[]);
        world.pass_ms(1000);
        let leader = world.leader();
        let others: Vec<usize> = (0..5).filter(|node| *node != leader).collect();
        let [leaving, other_leaving, staying, other_staying] = others[..] else { panic!("four others: {others:?}") };

        // Two are to leave, but nobody hears of it.
        let mut client = world.connect(leader);
        for node in &others {
            world.hold_back(*node, is_proposal);
        }
        world.reconfig(&mut client, None, Some(&format!("{},{}", leaving + 1, other_leaving + 1)));
        world.settle();
        for node in &others {
            world.kill(*node);
        }
        world.let_go();
        if restarts {
            world.kill(leader);
            world.restart(leader);
        }
        world.pass_ms(1000);

        // The two and their old leader are three of the five of old, but one of the three to be.
        world.restart(leaving);
        world.restart(other_leaving);
        world.pass_ms(3000);
        assert_eq!(world.serving(leader), Serving::Nobody, "restarts: {restarts}\n{}", world.logs());

        world.restart(staying);
        world.pass_ms(3000);
        assert_eq!(world.leader(), leader, "restarts: {restarts}");
        let members = world.nodes[leader].shared.bulletin.standing().membership.unwrap().members;
        let expected = [staying, other_staying, leader].map(|node| ServerId(node as i64 + 1));
        assert_eq!(members.into_keys().collect::<Vec<_>>(), expected, "restarts: {restarts}\n{}", world.logs());
    }
}
