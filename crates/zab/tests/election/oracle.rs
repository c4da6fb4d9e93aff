//! Two members and an oracle: a server elects itself where the oracle says yes and the other one is silent.

use rookeeper_proto::election::{Notification, PeerState};
use rookeeper_proto::{MonotonicMs, ServerId};
use rookeeper_zab::Memberships;
use rookeeper_zab::election::{Election, ElectionOutput, ElectionSettings};

use super::convergence::{candidacy, membership};

const PATIENCE_MS: i64 = 1000;
const FINALIZE_MS: i64 = 200;

/// Server 1, which looks for a leader since 0 ms.
fn looking(memberships: Memberships) -> Election {
    let settings =
        ElectionSettings { me: ServerId(1), notification_interval_ms: (200, 60_000), finalize_wait_ms: FINALIZE_MS };
    let mut election = Election::new(settings, memberships.into(), candidacy(1, 1));
    election.look(MonotonicMs(0), candidacy(1, 1));
    election
}

/// Lets time pass, and tells when somebody is elected in it.
fn elected(election: &mut Election, from_ms: i64, until_ms: i64) -> Option<(i64, ServerId)> {
    let mut now_ms = MonotonicMs(from_ms);
    loop {
        while let Some(output) = election.poll() {
            if let ElectionOutput::Elected(leader) = output {
                return Some((now_ms.0, leader));
            }
        }
        now_ms = election.deadline_ms().filter(|due_ms| due_ms.0 <= until_ms)?.max(now_ms);
        election.tick(now_ms);
    }
}

/// A vote of server 2 for itself, in the round of the other server.
fn vote(election: &Election, state: PeerState) -> Notification {
    let mut vote = election.vote().clone();
    vote.leader = Some(ServerId(2));
    Notification {
        state,
        leader: vote.leader,
        zxid: vote.zxid,
        election_epoch: election.round(),
        peer_epoch: vote.peer_epoch,
        config: None,
    }
}

#[test]
fn the_other_one_is_given_its_time() {
    let mut election = looking(membership(2, 0));
    election.oracle_says(MonotonicMs(0), true);
    let led = elected(&mut election, 0, 10_000);
    assert_eq!(led, Some((PATIENCE_MS + FINALIZE_MS, ServerId(1))));
}

#[test]
fn one_that_is_known_to_be_gone_is_not_waited_for_longer() {
    let mut election = looking(membership(2, 0));
    election.oracle_says(MonotonicMs(0), true);
    election.link_down(MonotonicMs(10), ServerId(2));
    assert_eq!(elected(&mut election, 10, 10_000), Some((PATIENCE_MS, ServerId(1))));
}

#[test]
fn a_yes_that_comes_late_counts() {
    let mut election = looking(membership(2, 0));
    assert_eq!(elected(&mut election, 0, 5000), None);
    election.link_down(MonotonicMs(5000), ServerId(2));
    election.oracle_says(MonotonicMs(5000), true);
    assert_eq!(elected(&mut election, 5000, 5000), Some((5000, ServerId(1))));
}

#[test]
fn without_a_yes_or_among_three_nobody_is_elected() {
    for (servers, grants) in [(2, false), (3, true)] {
        let mut election = looking(membership(servers, 0));
        election.oracle_says(MonotonicMs(0), true);
        election.oracle_says(MonotonicMs(0), grants);
        assert_eq!(elected(&mut election, 0, 100_000), None, "{servers} servers");
    }
}

#[test]
fn one_that_is_heard_has_its_voice() {
    let mut election = looking(membership(2, 0));
    election.oracle_says(MonotonicMs(0), true);
    election.link_up(MonotonicMs(0), ServerId(2));
    let mut other = vote(&election, PeerState::Looking);
    // It votes for another round, so the two do not agree.
    other.election_epoch -= 1;
    election.receive(MonotonicMs(1), ServerId(2), other);
    assert_eq!(elected(&mut election, 1, 100_000), None);
}

/// It was about to be elected, and is gone before it leads.
#[test]
fn the_wish_of_one_that_is_gone_is_given_up() {
    let mut election = looking(membership(2, 0));
    election.link_up(MonotonicMs(0), ServerId(2));
    let mut other = vote(&election, PeerState::Looking);
    other.election_epoch += 1;
    election.receive(MonotonicMs(1), ServerId(2), other);
    assert_eq!(election.vote().leader, Some(ServerId(2)));
    election.link_down(MonotonicMs(2), ServerId(2));
    election.oracle_says(MonotonicMs(2), true);
    assert_eq!(elected(&mut election, 2, 10_000), Some((PATIENCE_MS, ServerId(1))));
}
