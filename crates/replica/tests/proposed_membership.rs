//! A membership that is in a server's history may be in force before this server knows. Found in simulation: a leader that lost the lead
//! before the membership it had proposed was committed led again by the old members alone, and after a restart it did not know of it either.
//! And a membership that is in no history any more may not come into force: another one, which had been sent a snapshot instead of what it
//! had proposed, proposed that again as soon as it led.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::ensemble::{World, is_proposal, membership, settings};
use rookeeper_proto::{ServerId, Zxid};
use rookeeper_replica::{EnsembleSettings, Serving};
use rookeeper_zab::{Membership, Memberships};

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
        let members = world.nodes[leader].shared.status_board.status().membership.unwrap().members;
        let expected = [staying, other_staying, leader].map(|node| ServerId(node as i64 + 1));
        assert_eq!(members.into_keys().collect::<Vec<_>>(), expected, "restarts: {restarts}\n{}", world.logs());
    }
}

fn ids(members: &Membership) -> Vec<i64> {
    members.members.keys().map(|id| id.0).collect()
}

/// It was given up together with the transaction, for a snapshot of a later epoch.
#[test]
fn a_membership_that_a_snapshot_took_back_is_forgotten() {
    let mut world = World::with(EnsembleSettings { commit_log_count: 1, ..settings(membership(5, &[])) });
    world.pass_ms(1000);
    let old = world.leader();
    let others: Vec<usize> = (0..5).filter(|node| *node != old).collect();
    let mut client = world.connect(old);
    others.iter().for_each(|node| world.hold_back(*node, is_proposal));
    world.reconfig(&mut client, None, Some(&format!("{}", others[0] + 1)));
    world.settle();
    assert_eq!(ids(&world.nodes[old].disk.memberships.last_seen).len(), 4);
    world.kill(old);
    world.let_go();
    world.pass_ms(3000);
    let mut client = world.connect(world.leader());
    for number in 0..3 {
        world.create(&mut client, &format!("/later-{number}"), 0);
    }
    world.settle();
    world.restart(old);
    world.pass_ms(3000);
    world.is_in_agreement();
    assert!(world.nodes[old].log.iter().any(|line| line.contains("(SNAP)")), "{}", world.logs());
    let known = &world.nodes[old].disk.memberships;
    assert_eq!((ids(&known.committed).len(), ids(&known.last_seen).len()), (5, 5), "{}", world.logs());
}

/// A file of a membership was written, and then the power went before its transaction was logged. The server that has it may put it into force;
/// whoever leads next must know.
#[test]
fn nobody_enters_an_epoch_whose_membership_it_can_not_keep() {
    let mut world = World::new(3, &[]);
    world.pass_ms(1000);
    (0..3).for_each(|node| world.kill(node));
    let committed = world.nodes[2].disk.memberships.committed.clone();
    let mut proposed = committed.clone();
    proposed.members.remove(&ServerId(1));
    proposed.version = Zxid::new(1, 9);
    world.nodes[2].disk.memberships = Memberships::new(committed, proposed.clone());
    world.nodes[0].disk.refuses_memberships = true;
    world.nodes[1].disk.refuses_memberships = true;
    (0..3).for_each(|node| world.restart(node));
    world.pass_ms(30_000);
    assert_eq!([0, 1, 2].map(|node| world.serving(node)), [Serving::Nobody; 3], "{}", world.logs());
    let attempts = world.nodes[1].log.iter().filter(|line| line.contains("can't be entered")).count();
    assert!((2..=31).contains(&attempts), "{attempts} attempts, one in a tick at most:\n{}", world.logs());

    world.nodes[1].disk.refuses_memberships = false;
    world.pass_ms(10_000);
    assert_eq!(world.leader(), 2, "{}", world.logs());
    let known = &world.nodes[1].disk.memberships;
    assert_eq!((ids(&known.committed), known.committed.version), (vec![2, 3], proposed.version), "{}", world.logs());
}

/// Files written by hand have no version. Found in simulation: servers that were removed, and configured by hand to come back, took the members
/// of an earlier day from the vote of a server that had missed two changes, and led with it, beside those who were members.
#[test]
fn who_is_configured_by_hand_does_not_go_back_to_members_of_an_earlier_day() {
    let mut world = World::new(5, &[]);
    world.pass_ms(1000);
    let remove = |world: &mut World, servers: &str| {
        let mut client = world.connect(world.leader());
        world.reconfig(&mut client, None, Some(servers));
        world.pass_ms(3000);
    };
    remove(&mut world, "5");
    world.kill(4);
    world.kill(2);
    world.pass_ms(3000);
    remove(&mut world, "3,4");
    let in_force = world.nodes[0].disk.memberships.committed.clone();
    assert_eq!(ids(&in_force), [1, 2], "{}", world.logs());
    assert_eq!(ids(&world.nodes[2].disk.memberships.committed), [1, 2, 3, 4], "it missed the second change");
    (0..2).chain([3]).for_each(|node| world.kill(node));

    let mut by_hand = in_force.clone();
    by_hand.version = Zxid::ZERO;
    by_hand.members.extend(membership(4, &[]).members.into_iter().filter(|(id, _)| *id == ServerId(4)));
    world.nodes[3].disk.memberships = Memberships::settled(by_hand);
    world.restart(2);
    world.restart(3);
    world.pass_ms(10_000);
    assert_eq!(ids(&world.nodes[3].disk.memberships.committed), [1, 2, 4], "{}", world.logs());

    // Those in force are newer, and are taken.
    world.restart(0);
    world.restart(1);
    world.pass_ms(10_000);
    assert_eq!(ids(&world.nodes[3].disk.memberships.committed), [1, 2], "{}", world.logs());
    assert_eq!(ids(&world.nodes[2].disk.memberships.committed), [1, 2], "{}", world.logs());
}
