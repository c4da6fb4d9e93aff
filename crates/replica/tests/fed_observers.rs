//! Observers that followers feed: three servers that vote, and an observer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::ensemble::{Client, World, is_commit, is_request, membership, settings};
use rookeeper_proto::{ServerId, Zxid};
use rookeeper_replica::{EnsembleSettings, Serving};

const OBSERVER: usize = 3;

fn fed() -> World {
    let settings = EnsembleSettings { observer_master_port: Some(2191), ..settings(membership(4, &[4])) };
    let mut world = World::with(settings);
    world.pass_ms(3000);
    assert_eq!(world.serving(OBSERVER), Serving::Forwarding, "{}", world.logs());
    world
}

fn master(world: &World) -> usize {
    let status = world.nodes[OBSERVER].shared.status_board.status();
    status.fed_by.unwrap().0 as usize - 1
}

fn synced_observers(world: &World, node: usize) -> usize {
    let status = world.nodes[node].shared.status_board.status();
    match status.leadership {
        Some(leadership) => leadership.synced_observers,
        None => status.feeding.map_or(0, |observers| observers.synced),
    }
}

fn writes(world: &mut World, client: &mut Client, path: &str) {
    let xid = world.create(client, path, 0);
    world.settle();
    assert_eq!(client.answers(), [(xid, 0)], "{}", world.logs());
}

#[test]
fn a_follower_feeds_it_and_another_one_when_that_is_gone() {
    let mut world = fed();
    let (leader, first) = (world.leader(), master(&world));
    assert_ne!(first, leader);
    assert_eq!((synced_observers(&world, leader), synced_observers(&world, first)), (0, 1));
    let mut client = world.connect(OBSERVER);
    writes(&mut world, &mut client, "/a");
    world.is_in_agreement();

    world.kill(first);
    world.pass_ms(3000);
    let second = master(&world);
    assert!(second != first && second != leader, "{}", world.logs());
    let mut client = world.dial(OBSERVER, client.session, Zxid(0));
    writes(&mut world, &mut client, "/b");
    world.restart(first);

    // Without a leader there is nothing to feed with.
    world.kill(leader);
    assert!(!client.is_open(), "its observer was let go");
    world.pass_ms(6000);
    assert_ne!(master(&world), world.leader(), "{}", world.logs());
    let mut client = world.connect(OBSERVER);
    writes(&mut world, &mut client, "/c");
    world.is_in_agreement();
    assert_eq!(world.nodes[OBSERVER].shared.status_board.status().leader, Some(ServerId(world.leader() as i64 + 1)));
}

/// Each of the two says so, and the observer goes to and fro until one of them feeds it.
#[test]
fn followers_that_do_not_answer_are_told_of_and_each_round_begins_with_a_wait() {
    const LONGEST_MS: i64 = 2000;
    let settings = EnsembleSettings {
        observer_master_port: Some(2191),
        observer_reconnect_delay_ms: LONGEST_MS,
        ..settings(membership(4, &[4]))
    };
    let mut world = World::with(settings);
    world.pass_ms(3000);
    assert_eq!(world.serving(OBSERVER), Serving::Forwarding, "{}", world.logs());
    let leader = world.leader();
    let followers: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    assert!(waits(&world).is_empty(), "the first round needs no wait: {}", world.logs());

    world.nodes[OBSERVER].log.clear();
    world.feeds_nobody(&followers);
    world.pass_ms(60_000);
    assert_eq!(world.serving(OBSERVER), Serving::Nobody);
    for (failed, next) in [(followers[0], followers[1]), (followers[1], followers[0])] {
        let said = format!(
            "server {}, which was to feed this observer (observerMasterPort), can't be reached: connection refused; server {} is tried next",
            failed + 1,
            next + 1
        );
        assert!(world.nodes[OBSERVER].log.iter().any(|line| line.ends_with(&said)), "{said}: {}", world.logs());
    }
    let waits = waits(&world);
    assert!(waits.len() > 5 && waits.iter().all(|wait_ms| (1..LONGEST_MS).contains(wait_ms)), "{waits:?}");
    let searches = world.nodes[OBSERVER].log.iter().filter(|line| line.contains("LEADER ELECTION TOOK")).count();
    assert!(waits.len() > searches, "a search has two rounds and a half: {searches}, {waits:?}");
    assert!(waits.iter().any(|wait_ms| *wait_ms != waits[0]), "each another one: {waits:?}");
}

/// The leader is found at once. What an observer may take to connect counts from the end of the wait.
#[test]
fn an_observer_waits_before_it_connects_to_the_leader() {
    let settings = EnsembleSettings { observer_reconnect_delay_ms: 100_000, ..settings(membership(4, &[4])) };
    let init_limit_ms = i64::from(settings.init_limit_ticks) * 1000;
    let mut world = World::with(settings);
    world.pass_ms(3000);
    assert_eq!(world.serving(world.leader()), Serving::Deciding, "who votes does not wait: {}", world.logs());
    let [wait_ms] = waits(&world)[..] else { panic!("{}", world.logs()) };
    assert!(wait_ms > init_limit_ms, "{wait_ms}: with this id and this attempt");
    world.pass_ms(wait_ms - 4000);
    assert_eq!((world.serving(OBSERVER), waits(&world)), (Serving::Nobody, vec![wait_ms]), "{}", world.logs());
    world.pass_ms(3000);
    assert_eq!((world.serving(OBSERVER), waits(&world)), (Serving::Forwarding, vec![wait_ms]), "{}", world.logs());
}

fn waits(world: &World) -> Vec<i64> {
    let said = world.nodes[OBSERVER].log.iter();
    said.filter_map(|line| line.split_once("this observer waits ")?.1.split(' ').next()?.parse().ok()).collect()
}

/// To the leader the follower and its observers are one: the follower alone can tell that the client has moved from the one to the other.
#[test]
fn what_comes_late_through_an_observer_does_not_follow_what_the_session_wrote_since() {
    let mut world = fed();
    let follower = master(&world);
    let mut old = world.connect(OBSERVER);
    writes(&mut world, &mut old, "/a");
    world.hold_back(follower, is_request);
    let late = world.set(&mut old, "/a", b"old");
    world.settle();
    let mut moved = world.dial(follower, old.session, Zxid(0));
    assert_eq!(moved.session, old.session);
    let new = world.set(&mut moved, "/a", b"new");
    world.settle();
    assert_eq!(moved.answers(), [(new, 0)]);
    world.let_go();
    world.settle();
    assert_eq!(world.data(world.leader(), "/a"), b"new");
    // It is answered all the same, so that those behind it are.
    const BAD_ARGUMENTS: i32 = -8;
    assert_eq!(old.answers(), [(late, BAD_ARGUMENTS)]);
    let mut other = world.connect(OBSERVER);
    writes(&mut world, &mut other, "/b");
    // And back: from here on it is the follower's own connection that counts for nothing.
    let mut back = world.dial(OBSERVER, old.session, Zxid(0));
    assert!(!moved.is_open());
    let last = world.set(&mut back, "/a", b"last");
    world.settle();
    assert_eq!((back.answers(), world.data(world.leader(), "/a")), (vec![(last, 0)], b"last".to_vec()));
    world.is_in_agreement();
}

/// What the observer has of the leader's epoch is committed, whatever the follower has heard of by now.
#[test]
fn an_observer_that_has_seen_more_waits_for_the_follower_to_which_it_comes() {
    let mut world = fed();
    let (leader, first) = (world.leader(), master(&world));
    let other = (0..3).find(|node| ![leader, first].contains(node)).unwrap();
    let mut client = world.connect(OBSERVER);
    world.hold_back(other, is_commit);
    writes(&mut world, &mut client, "/a");
    let seen = world.last_zxid(OBSERVER);
    assert!(world.last_zxid(other) < seen);
    world.kill(first);
    world.pass_ms(1000);
    assert_eq!(world.serving(OBSERVER), Serving::Nobody, "{}", world.logs());
    assert_eq!(world.last_zxid(OBSERVER), seen, "nothing is cut");
    world.let_go();
    world.pass_ms(3000);
    assert_eq!((world.serving(OBSERVER), master(&world)), (Serving::Forwarding, other), "{}", world.logs());
    world.is_in_agreement();
}

/// Its move is a sign of life of another kind, and later than what the follower heard before.
#[test]
fn the_leader_is_told_of_a_session_that_a_follower_had_until_it_moved_to_its_observer() {
    let mut world = fed();
    let follower = master(&world);
    let mut client = world.connect(follower);
    world.pass_ms(1000);
    writes(&mut world, &mut client, "/a");
    world.nodes[follower].pongs.clear();
    let moved = world.dial(OBSERVER, client.session, Zxid(0));
    assert!(!client.is_open() && moved.is_open());
    world.pass_ms(600);
    // What an observer says is sent on apart from the answers to pings.
    let answers = world.nodes[follower].pongs.iter().filter(|(zxid, _)| *zxid != Zxid::ZERO);
    assert_eq!(answers.map(|(_, sessions)| sessions).sum::<usize>(), 1);
}
