//! Members that come and go.

use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_proto::{MonotonicMs, ServerId, Zxid};
use rookeeper_zab::leader::{LeaderOutput, LeaderPhase};
use rookeeper_zab::{History, LinkOutput, Memberships, Record, Role};

use crate::golden::assert_golden;
use crate::story::{Story, history, membership, settings, voters, zxid};

/// Server 4 follows without a voice first.
#[test]
fn a_server_is_added() {
    let mut story = Story::established();
    story.joins(2, 2, zxid(1, 9));
    let new = voters(&[1, 2, 3, 4, 5], zxid(2, 1));
    assert!(story.leader.has_synced_quorum_of(&new));
    story.joins(4, 4, zxid(1, 9));
    story.text.clear();
    let reconfig = story.reconfigures(|version| voters(&[1, 2, 3, 4], version));
    story.syncs(reconfig);
    story.acks(1, reconfig);
    story.acks(4, reconfig);
    let write = story.writes();
    story.syncs(write);
    story.acks(1, write);
    story.acks(4, write);
    assert_golden("a_server_is_added", &story.text);
}

#[test]
fn a_server_is_removed_and_goes_on_following_without_a_voice() {
    let mut story = Story::established();
    story.joins(2, 2, zxid(1, 9));
    story.connects(4);
    story.introduces_observer(4, 4, 1);
    story.promises(4, Some(1), zxid(1, 9));
    story.acks(4, zxid(2, 0));
    story.text.clear();
    let before = story.writes();
    let reconfig = story.reconfigures(|version| voters(&[2, 3], version));
    let after = story.writes();
    // Server 1 and this one suffice for what came before.
    story.syncs(after);
    story.acks(1, after);
    story.acks(2, reconfig);
    let alone = story.writes();
    story.syncs(alone);
    story.acks(1, alone);
    story.acks(2, alone);
    assert_eq!(before, zxid(2, 1));
    assert_golden("a_server_is_removed", &story.text);
}

/// Server 1 is gone when the change is in force, before it has what was proposed meanwhile.
#[test]
fn what_was_proposed_during_a_change_is_committed_without_those_it_removes() {
    let mut story = Story::new(settings(), Memberships::settled(membership(5, 0, 7)), history());
    for server in [1, 2] {
        story.connects(server);
        story.introduces(server, server as i64, 1);
    }
    story.stores_accepted();
    for server in [1, 2] {
        story.promises(server, Some(1), zxid(1, 9));
    }
    story.stores_current();
    for server in [1, 2] {
        story.acks(server, zxid(2, 0));
    }
    let reconfig = story.reconfigures(|version| voters(&[2, 3], version));
    let after = story.writes();
    story.acks(1, reconfig);
    story.acks(2, after);
    story.syncs(after);
    assert_eq!(story.committed(), [reconfig, after]);
}

/// It comes back as an observer, which is sent no proposals: a change that needs its voice would wait for ever.
#[test]
fn a_follower_that_became_an_observer_is_not_counted_on() {
    let mut story = Story::established();
    let new = |version| voters(&[1, 3], version);
    assert!(story.leader.has_synced_quorum_of(&new(zxid(2, 9))));
    story.joins(2, 2, zxid(1, 9));
    let reconfig = story.reconfigures(|version| {
        let mut membership = voters(&[1, 2, 3], version);
        membership.members.get_mut(&ServerId(1)).unwrap().role = Role::Observer;
        membership
    });
    story.syncs(reconfig);
    story.acks(2, reconfig);
    assert_eq!(story.committed(), [reconfig]);
    assert!(!story.leader.has_synced_quorum_of(&new(zxid(2, 9))), "its link is still there");
    assert!(story.leader.has_synced_quorum_of(&voters(&[1, 2, 3], zxid(2, 9))), "the others suffice");
}

#[test]
fn the_leader_is_removed() {
    let mut story = Story::established();
    story.joins(2, 2, zxid(1, 9));
    story.text.clear();
    let reconfig = story.reconfigures(|version| voters(&[1, 2], version));
    let after = story.writes();
    story.syncs(after);
    story.acks(1, reconfig);
    story.acks(2, after);
    assert_golden("the_leader_is_removed", &story.text);
    assert_eq!(story.committed(), [reconfig], "nothing is committed behind it");
    let late = Record::new(story.leader.next_zxid(), b"late");
    story.leader.propose(MonotonicMs(0), &late);
    assert_eq!(story.leader.poll(), None, "and nothing is sent");
}

/// A leader that listens elsewhere from now on hands over too.
#[test]
fn the_leader_moves() {
    let mut story = Story::established();
    story.joins(2, 2, zxid(1, 9));
    story.text.clear();
    let reconfig = story.reconfigures(|version| {
        let mut membership = voters(&[1, 2, 3], version);
        for member in membership.members.values_mut() {
            member.addresses[0].quorum_port += 10;
        }
        membership
    });
    story.acks(2, reconfig);
    story.syncs(reconfig);
    assert_golden("the_leader_moves", &story.text);
}

/// A change that is in the history and nowhere committed: NEWLEADER tells of it, both quorums decide, and it is in force.
#[test]
fn a_change_found_in_the_history() {
    let new = voters(&[3, 4, 5], zxid(1, 9));
    let memberships = Memberships::new(membership(3, 0, 7), new.clone());
    let mut story = Story::new(settings(), memberships, history());
    for server in [1, 4] {
        story.connects(server);
        story.introduces(server, server as i64, 1);
    }
    story.stores_accepted();
    story.promises(1, Some(1), zxid(1, 9));
    story.promises(4, Some(1), zxid(1, 9));
    story.stores_current();
    story.acks(1, zxid(2, 0));
    story.acks(4, zxid(2, 0));
    assert_eq!(*story.leader.memberships(), Memberships::settled(new));
    assert_golden("a_change_found_in_the_history", &story.text);
}

#[test]
fn a_change_found_in_the_history_that_removes_this_server() {
    let memberships = Memberships::new(membership(3, 0, 7), voters(&[1, 2], zxid(1, 9)));
    let mut story = Story::new(settings(), memberships, history());
    for server in [1, 2] {
        story.connects(server);
        story.introduces(server, server as i64, 1);
    }
    story.stores_accepted();
    story.promises(1, Some(1), zxid(1, 9));
    story.promises(2, Some(1), zxid(1, 9));
    story.text.clear();
    story.acks(1, zxid(2, 0));
    story.acks(2, zxid(2, 0));
    assert_golden("a_change_found_in_the_history_that_removes_this_server", &story.text);
}

/// The learner puts the membership of NEWLEADER into force, so one that may still fail is not in it; it comes as a proposal.
#[test]
fn a_learner_that_joins_during_a_change_hears_of_it_in_its_place() {
    let mut story = Story::established();
    let reconfig = story.reconfigures(|version| voters(&[1, 2, 3, 4], version));
    story.connects(2);
    story.introduces(2, 2, 2);
    story.promises(2, None, zxid(1, 9));
    story.acks(2, zxid(2, 0));
    story.syncs(reconfig);
    story.acks(1, reconfig);
    story.acks(2, reconfig);
    assert_golden("a_learner_that_joins_during_a_change", &story.text);
}

#[test]
fn without_reconfiguration_versions_stay_zero() {
    let mut settings = settings();
    settings.reconfig_enabled = false;
    let mut story = Story::new(settings, Memberships::settled(membership(3, 0, 0)), history());
    story.establish();
    assert_eq!(story.leader.memberships().committed.version, Zxid::ZERO);
    story.joins(2, 2, zxid(1, 9));
    let new_leader = story.sent_to(2).into_iter().find_map(|packet| match packet {
        QuorumPacket::NewLeader { config, .. } => Some(config.ends_with(b"version=0")),
        _ => None,
    });
    assert_eq!(new_leader, Some(true));
}

/// Server 4 listens by the membership in force and votes by the one to come, which was under way when everything stopped. It has not heard
/// of it, or is one of the original's, and comes as an observer: without its vote nobody could ever tell it.
#[test]
fn an_observer_that_has_a_vote_in_a_change_found_in_the_history_counts() {
    let comes_as_observer = |last: Zxid, history: History| {
        let memberships = Memberships::new(membership(3, 1, 7), voters(&[3, 4], zxid(1, 9)));
        let mut story = Story::new(settings(), memberships, history);
        story.connects(1);
        story.introduces(1, 1, 1);
        story.connects(4);
        story.introduces_observer(4, 4, 1);
        story.stores_accepted();
        story.promises(1, Some(1), zxid(1, 9));
        story.promises(4, Some(1), last);
        story.stores_current();
        story.acks(1, zxid(2, 0));
        assert_eq!(story.leader.phase(), LeaderPhase::Synchronization, "{}", story.text);
        story.acks(4, zxid(2, 0));
        story
    };
    // It lacks nothing; or it gets a snapshot, which an observer of the original's has on its disk when it acknowledges.
    for (last, is_snapshot) in [(zxid(1, 9), false), (zxid(1, 7), true), (zxid(1, 2), true)] {
        let story = comes_as_observer(last, history());
        assert_eq!(story.leader.phase(), LeaderPhase::Broadcast, "{}", story.text);
        assert_eq!(
            story.has(|output| matches!(output, LeaderOutput::ToLearner(_, LinkOutput::StreamSnapshot))),
            is_snapshot
        );
    }
    // It has more than a snapshot would hold. What it lacks it may have in memory only: it counts when it comes again to vote.
    let mut uncommitted = History::new(zxid(1, 5), 500);
    for counter in 6..=9 {
        uncommitted.push(Record::new(zxid(1, counter), b"old")).unwrap();
    }
    uncommitted.synced(zxid(1, 9));
    let mut story = comes_as_observer(zxid(1, 7), uncommitted);
    assert_eq!(story.leader.phase(), LeaderPhase::Synchronization, "{}", story.text);
    story.leaves(4);
    story.joins(5, 4, zxid(1, 9));
    assert_eq!(story.leader.phase(), LeaderPhase::Broadcast, "{}", story.text);
}
