//! Whole elections, every message of them, over links that take a millisecond.

use rookeeper_proto::election::{Notification, PeerState};
use rookeeper_proto::{Epoch, ServerId, Zxid};
use rookeeper_zab::{Membership, Memberships};

use super::convergence::{candidacy, membership};
use super::golden::assert_golden;
use super::network::{Kind, Network};

fn network(memberships: Memberships) -> Network {
    Network::new(memberships, 1, (1, 1), 0)
}

/// Runs until everybody has a leader, and a little on for what is still under way.
fn led(network: &mut Network, within_ms: i64) -> i64 {
    let since_ms = network.now_ms;
    let leader = network.run_until_led(since_ms + within_ms);
    let leader = leader.unwrap_or_else(|| panic!("no leader:\n{}", network.transcript));
    network.run_until(network.now_ms + 20);
    leader.0
}

/// Three servers with one history and 3 as their leader, a second ago.
fn led_by_three(kinds: [Kind; 3]) -> Network {
    let mut network = network(membership(3, 1));
    for (server, kind) in (1..).zip(kinds) {
        network.start(server, kind, candidacy(1, 5));
    }
    assert_eq!(led(&mut network, 500), 3);
    network.run_until(network.now_ms + 1000);
    network.transcript.clear();
    network
}

#[test]
fn first_election_of_three() {
    let mut network = network(membership(3, 0));
    for server in 1..=3 {
        network.start(server, Kind::Ours, candidacy(0, 0));
    }
    assert_eq!(led(&mut network, 20), 3);
    assert_golden("transcripts/first_election_of_three.txt", &network.transcript);
}

#[test]
fn two_of_three_do_not_wait_for_one_that_is_not_there() {
    let mut network = network(membership(3, 0));
    for server in 1..=2 {
        network.start(server, Kind::Ours, candidacy(1, 5));
    }
    assert_eq!(led(&mut network, 20), 2);
    assert_golden("transcripts/two_of_three.txt", &network.transcript);
}

#[test]
fn a_joiner_follows_who_leads_already() {
    let mut network = led_by_three([Kind::Ours; 3]);
    network.kill(1);
    network.run_until(network.now_ms + 100);
    network.restart(1);
    assert_eq!(led(&mut network, 20), 3);
    assert_golden("transcripts/joiner.txt", &network.transcript);
}

#[test]
fn a_dead_leader_is_replaced_without_a_wait() {
    let mut network = led_by_three([Kind::Ours; 3]);
    network.kill(3);
    assert_eq!(led(&mut network, 20), 2);
    assert_golden("transcripts/dead_leader.txt", &network.transcript);
}

#[test]
fn a_frozen_leader_is_waited_for_as_one_who_may_have_a_better_vote() {
    let mut network = led_by_three([Kind::Ours; 3]);
    network.freeze(3);
    network.lose_leader(3);
    assert_eq!(led(&mut network, 220), 2);
    assert_golden("transcripts/frozen_leader.txt", &network.transcript);
}

#[test]
fn votes_of_an_election_long_over_mislead_nobody() {
    let mut network = led_by_three([Kind::Original, Kind::Ours, Kind::Original]);
    network.kill(2);
    network.run_until(network.now_ms + 100);
    // The last words that 1 and 3 had for 2 name 1, and have the round that 2 begins with.
    let stale = |zxid| Notification {
        state: PeerState::Looking,
        leader: Some(ServerId(1)),
        zxid: Some(zxid),
        election_epoch: 1,
        peer_epoch: Some(Epoch(2)),
        config: None,
    };
    network.keep(1, 2, stale(Zxid::new(2, 0)));
    network.keep(3, 2, stale(Zxid::new(2, 0)));
    network.restart(2);
    assert_eq!(led(&mut network, 20), 3);
    assert_golden("transcripts/stale_votes.txt", &network.transcript);
}

#[test]
fn an_observer_joins() {
    let mut network = led_by_three([Kind::Original, Kind::Ours, Kind::Ours]);
    network.start(4, Kind::Ours, candidacy(0, 0));
    assert_eq!(led(&mut network, 20), 3);
    assert_golden("transcripts/observer.txt", &network.transcript);
}

#[test]
fn an_observer_that_asks_too_early_is_told_the_result() {
    let mut network = led_by_three([Kind::Ours; 3]);
    network.start(4, Kind::Original, candidacy(0, 0));
    led(&mut network, 20);
    network.transcript.clear();
    network.kill(3);
    assert_eq!(led(&mut network, 20), 2);
    assert_golden("transcripts/observer_too_early.txt", &network.transcript);
}

#[test]
fn a_server_that_is_no_member_yet_follows() {
    let mut network = led_by_three([Kind::Ours, Kind::Original, Kind::Ours]);
    network.start(9, Kind::Ours, candidacy(7, 7));
    assert_eq!(led(&mut network, 20), 3);
    assert_golden("transcripts/no_member.txt", &network.transcript);
}

#[test]
fn an_ensemble_of_both_kinds_elects() {
    let mut network = network(membership(3, 0));
    for (server, kind) in [(1, Kind::Ours), (2, Kind::Original), (3, Kind::Ours)] {
        network.start(server, kind, candidacy(0, 0));
    }
    assert_eq!(led(&mut network, 500), 3);
    assert_golden("transcripts/both_kinds.txt", &network.transcript);
}

#[test]
fn who_has_no_weight_is_not_elected() {
    let mut text = String::new();
    for server in 1..=7 {
        text += &format!("server.{server}=host{server}:2888:3888\nweight.{server}={}\n", i32::from(server != 7));
    }
    text += "group.1=1:2:3\ngroup.2=4:5:6:7\n";
    let mut network = network(Memberships::settled(Membership::parse_text(text, false).unwrap()));
    // A majority of each group, and 7, whose history is the longest.
    for server in [1, 2, 4, 5, 7] {
        network.start(server, Kind::Ours, candidacy(1, server as u32));
    }
    assert_eq!(led(&mut network, 20), 5);
    assert_golden("transcripts/hierarchical.txt", &network.transcript);
}
