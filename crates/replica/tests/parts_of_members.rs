//! From each part that a server may play to each other one: voter, observer, no member. Its link was made for the part before, and stands
//! when the next change comes. Found by use: an observer that was removed went on as an observer and could never be given a vote; a change
//! that was under way when all servers stopped never came into force where it needed the vote of one that had observed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::ensemble::{Client, World, membership};
use rookeeper_proto::{ErrorCode, ServerId, Zxid};
use rookeeper_replica::{Input, ServerRole as Playing};
use rookeeper_zab::{Membership, Memberships};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Voter,
    Observer,
    None,
}

const PARTS: [Part; 3] = [Part::Voter, Part::Observer, Part::None];

/// Gives server 1 this part, and says how the change was answered.
fn change(world: &mut World, client: &mut Client, to: Part) -> i32 {
    let line = |role| format!("server.1=127.0.0.1:2888:3888:{role};127.0.0.1:2181");
    let change = match to {
        Part::Voter => world.reconfig(client, Some(&line("participant")), None),
        Part::Observer => world.reconfig(client, Some(&line("observer")), None),
        Part::None => world.reconfig(client, None, Some("1")),
    };
    world.settle();
    match client.answers()[..] {
        [(xid, error)] if xid == change => error,
        ref other => panic!("{change} is answered with {other:?}\n{}", world.logs()),
    }
}

/// Four servers, the first of which has this part; one of the others leads.
fn ensemble(part: Part) -> (World, usize, Client) {
    let mut world = World::new(4, if part == Part::Voter { &[] } else { &[1] });
    world.pass_ms(1000);
    let leader = world.leader();
    assert_ne!(leader, 0);
    let mut client = world.connect(leader);
    if part == Part::None {
        assert_eq!(change(&mut world, &mut client, part), 0);
        world.pass_ms(1000);
    }
    (world, leader, client)
}

#[test]
fn each_part_leads_to_each_other_also_with_the_links_of_the_one_before() {
    for first in PARTS {
        for second in PARTS.into_iter().filter(|second| *second != first) {
            for third in PARTS.into_iter().filter(|third| *third != second) {
                for hears in [true, false] {
                    changes_twice([first, second, third], hears);
                }
            }
        }
    }
}

/// Where it does not hear of the first change, its link is that of its first part when the second one comes.
fn changes_twice(parts: [Part; 3], hears: bool) {
    let [first, second, third] = parts;
    let (mut world, leader, mut client) = ensemble(first);
    if !hears {
        world.hold_back(0, |input| matches!(input, Input::FromLeader { .. }));
    }
    for part in [second, third] {
        assert_eq!(change(&mut world, &mut client, part), 0, "{parts:?}\n{}", world.logs());
    }
    world.let_go();
    world.pass_ms(2000);
    assert_eq!(world.leader(), leader, "{parts:?}\n{}", world.logs());

    let counts = world.nodes[leader].shared.status_board.status().leadership.unwrap();
    let counted = (counts.synced_followers, counts.synced_observers, counts.synced_non_voting_followers);
    let expected = match third {
        Part::Voter => (3, 0, 0),
        Part::Observer => (2, 1, 0),
        Part::None => (2, 0, 1),
    };
    assert_eq!(counted, expected, "{parts:?}, hears: {hears}\n{}", world.logs());
    let playing = if third == Part::Observer { Playing::Observing } else { Playing::Following };
    assert_eq!(world.nodes[0].shared.status_board.status().role, playing, "{parts:?}");

    // Of four voters one may be missing, and of three.
    world.kill((1..4).find(|node| *node != leader).unwrap());
    let write = world.create(&mut client, "/with-its-voice", 0);
    world.settle();
    assert_eq!(client.answers(), [(write, 0)], "{parts:?}, hears: {hears}\n{}", world.logs());

    // A vote can be given to one that is here to acknowledge, and is counted on at once.
    let error = change(&mut world, &mut client, Part::Voter);
    let expected = if third == Part::Observer { ErrorCode::NewConfigNoQuorum as i32 } else { 0 };
    assert_eq!(error, expected, "{parts:?}, hears: {hears}\n{}", world.logs());
}

/// A leader that is removed follows the next one, without a voice, and can be given one again; as an observer it only listens.
#[test]
fn a_leader_can_play_every_other_part() {
    for part in [Part::None, Part::Observer] {
        let mut world = World::new(4, &[]);
        world.pass_ms(1000);
        let old = world.leader();
        let mut client = world.connect(old);
        let line = format!("server.{0}=127.0.0.{0}:2888:3888:observer;127.0.0.{0}:2181", old + 1);
        match part {
            Part::None => world.reconfig(&mut client, None, Some(&format!("{}", old + 1))),
            _ => world.reconfig(&mut client, Some(&line), None),
        };
        world.pass_ms(2000);
        let new = world.leader();
        assert_ne!(new, old);
        let counts = world.nodes[new].shared.status_board.status().leadership.unwrap();
        let expected = if part == Part::None { (0, 1) } else { (1, 0) };
        assert_eq!((counts.synced_observers, counts.synced_non_voting_followers), expected, "{}", world.logs());
    }
}

fn parse(lines: &[(i64, &str)], version: Zxid) -> Membership {
    let line = |(id, role): &(i64, &str)| format!("server.{id}=127.0.0.{id}:2888:3888:{role};127.0.0.{id}:2181\n");
    let lines: String = lines.iter().map(line).collect();
    Membership::parse_text(format!("{lines}version={version:x}"), false).unwrap()
}

/// Everything stopped while a change was under way, whose record the last server has not.
fn stopped_while(servers: i64, observers: &[i64]) -> (World, Zxid) {
    let mut world = World::new(servers, observers);
    world.pass_ms(1000);
    world.kill(servers as usize - 1);
    world.pass_ms(3000);
    let mut client = world.connect(world.leader());
    for number in 0..6 {
        world.create(&mut client, &format!("/{number}"), 0);
    }
    world.settle();
    let version = world.last_zxid(0);
    assert!(version > Zxid::new(1, 5), "{version}");
    for node in 0..servers as usize {
        world.kill(node);
    }
    (world, version)
}

/// The one that listens knows of the change that gives it a vote.
#[test]
fn a_change_under_way_at_a_full_stop_comes_into_force_by_those_who_listened() {
    let (mut world, version) = stopped_while(4, &[3]);
    let before = world.nodes[0].disk.memberships.committed.version;
    let old = parse(&[(1, "participant"), (2, "participant"), (3, "observer")], before);
    let new = parse(&[(3, "participant"), (4, "participant")], version);
    let joining = parse(&[(1, "participant"), (2, "participant"), (3, "observer"), (4, "participant")], before);
    for node in 0..4 {
        let memberships =
            if node == 3 { Memberships::settled(joining.clone()) } else { Memberships::new(old.clone(), new.clone()) };
        world.nodes[node].disk.memberships = memberships;
        world.restart(node);
    }
    world.pass_ms(10_000);
    let leader = world.leader();
    let status = world.nodes[leader].shared.status_board.status();
    let members: Vec<ServerId> = status.membership.unwrap().members.into_keys().collect();
    assert_eq!((leader > 1, members), (true, vec![ServerId(3), ServerId(4)]), "{}", world.logs());
    let mut client = world.connect(leader);
    let write = world.create(&mut client, "/by-the-new-members", 0);
    world.settle();
    assert_eq!(client.answers(), [(write, 0)], "{}", world.logs());
}

/// The one that listens has not heard of the change, and the leader that proposed it never comes back.
#[test]
fn one_that_listens_votes_for_those_who_know_better() {
    let (mut world, version) = stopped_while(4, &[4]);
    let old = Membership { version: world.nodes[0].disk.memberships.committed.version, ..membership(4, &[4]) };
    let new = Membership { version, ..membership(4, &[]) };
    for node in [0, 1, 3] {
        let memberships =
            if node == 3 { Memberships::settled(old.clone()) } else { Memberships::new(old.clone(), new.clone()) };
        world.nodes[node].disk.memberships = memberships;
        world.restart(node);
    }
    world.pass_ms(15_000);
    let leader = world.leader();
    let counts = world.nodes[leader].shared.status_board.status().leadership.unwrap();
    assert_eq!((counts.synced_followers, counts.synced_observers), (2, 0), "{}", world.logs());
    let mut client = world.connect(leader);
    let write = world.create(&mut client, "/three-of-four", 0);
    world.settle();
    assert_eq!(client.answers(), [(write, 0)], "{}", world.logs());
}
