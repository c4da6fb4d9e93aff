//! What each member counts of what it does with the others, and what it does not count.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use common::ensemble::{World, membership, settings};
use rookeeper_proto::Zxid;
use rookeeper_replica::{EnsembleSettings, MemberStatistics, Statistics, Summary};

fn statistics(world: &World, node: usize) -> &Statistics {
    &world.nodes[node].shared.statistics
}

fn forget_statistics(world: &World) {
    world.nodes.iter().for_each(|node| node.shared.statistics.reset());
}

/// Count and sum of a series.
fn series(summary: &Summary) -> (u64, u64) {
    (summary.count(), summary.sum())
}

/// Everything counted that is not zero.
fn counted(member: &MemberStatistics) -> Vec<(&'static str, u64)> {
    let counters: [(&str, &AtomicU64); 9] = [
        ("searches", &member.searches),
        ("disloyal voters", &member.disloyal_voters),
        ("proposals received", &member.proposals_received),
        ("commits received", &member.commits_received),
        ("proposals", &member.proposals),
        ("commits", &member.commits),
        ("syncs by log", &member.log_syncs),
        ("syncs by snapshot", &member.snapshot_syncs),
        ("revalidations", &member.revalidations),
    ];
    let values = counters.into_iter().map(|(name, counter)| (name, counter.load(Relaxed)));
    values.filter(|(_, value)| *value > 0).collect()
}

/// Every series that is not empty.
fn timed(member: &MemberStatistics) -> Vec<(&'static str, (u64, u64))> {
    let summaries = [
        ("election", &member.election_ms),
        ("unavailable", &member.unavailable_ms),
        ("unavailable until leading", &member.unavailable_until_leading_ms),
        ("follower sync", &member.follower_sync_ms),
        ("observer sync", &member.observer_sync_ms),
        ("proposal", &member.proposal_latency_ms),
        ("commit", &member.commit_latency_ms),
        ("acknowledgement", &member.acknowledgement_latency_ms),
        ("quorum", &member.quorum_latency_ms),
        ("syncs by log", &member.log_syncs_under_way),
        ("syncs by snapshot", &member.snapshot_syncs_under_way),
    ];
    let values = summaries.into_iter().map(|(name, summary)| (name, series(summary)));
    values.filter(|(_, (count, _))| *count > 0).collect()
}

#[test]
fn a_write_is_counted_and_timed_by_each_in_its_part() {
    let mut world = World::new(4, &[4]);
    world.pass_ms(2000);
    let (leader, follower, observer) = (world.leader(), world.follower(), 3);
    let mut client = world.connect(leader);
    forget_statistics(&world);
    for _ in 0..2 {
        world.set(&mut client, "/", b"x");
        world.settle_after_ms(5);
    }
    let timed_by = |node: usize| timed(&statistics(&world, node).member);
    let counted_by = |node: usize| counted(&statistics(&world, node).member);
    assert_eq!(counted_by(leader), [("proposals", 2), ("commits", 2)]);
    assert_eq!(timed_by(leader), [("acknowledgement", (2, 10)), ("quorum", (2, 10))]);
    assert_eq!(counted_by(follower), [("proposals received", 2), ("commits received", 2)]);
    assert_eq!(timed_by(follower), [("proposal", (2, 10)), ("commit", (2, 10)), ("acknowledgement", (2, 10))]);
    assert_eq!(counted_by(observer), [("commits received", 2)]);
    assert_eq!(timed_by(observer), [("commit", (2, 10))]);
}

#[test]
fn a_reconfiguration_is_proposed_and_its_commit_goes_out_as_another_packet() {
    let mut world = World::new(4, &[4]);
    world.pass_ms(2000);
    let leader = world.leader();
    let mut client = world.connect(leader);
    forget_statistics(&world);
    world.reconfig(&mut client, Some("server.5=127.0.0.5:2888:3888:observer;127.0.0.5:2181"), None);
    world.settle();
    assert_eq!(client.answers(), [(1, 0)], "{}", world.logs());
    let counted_by = |node: usize| counted(&statistics(&world, node).member);
    assert_eq!(counted_by(leader), [("proposals", 1)]);
    assert_eq!(counted_by(world.follower()), [("proposals received", 1)]);
    assert_eq!(counted_by(3), []);
    assert_eq!(timed(&statistics(&world, 3).member), []);
}

#[test]
fn the_first_election_and_what_follows_it() {
    let mut world = World::new(4, &[4]);
    world.pass_ms(2000);
    let (leader, follower, observer) = (world.leader(), world.follower(), 3);
    let of = |node: usize| {
        let member = &statistics(&world, node).member;
        let timed: Vec<_> = timed(member).into_iter().map(|(name, (count, _))| (name, count)).collect();
        (counted(member), timed)
    };
    let ends = ("syncs by log", 6);
    assert_eq!(
        of(leader),
        (
            vec![("searches", 1), ("syncs by log", 3)],
            vec![("election", 1), ("unavailable", 1), ("unavailable until leading", 1), ends]
        )
    );
    assert_eq!(of(follower), (vec![("searches", 1)], vec![("election", 1), ("unavailable", 1), ("follower sync", 1)]));
    assert_eq!(of(observer), (vec![("searches", 1)], vec![("unavailable", 1), ("observer sync", 1)]));
}

#[test]
fn the_time_without_a_leader_spans_every_attempt() {
    let mut world =
        World::with(EnsembleSettings { max_time_to_wait_for_epoch_ms: Some(100), ..settings(membership(3, &[])) });
    world.pass_ms(1000);
    forget_statistics(&world);
    let old = world.leader();
    world.is_parted = true;
    world.kill(old);
    world.pass_ms(5000);
    world.is_parted = false;
    world.pass_ms(2000);
    let (leader, follower) = (world.leader(), world.follower());
    let member = &statistics(&world, leader).member;
    assert!(member.disloyal_voters.load(Relaxed) > 0, "{}", world.logs());
    assert!(member.searches.load(Relaxed) > 1, "{}", world.logs());
    assert_eq!(member.election_ms.count(), member.searches.load(Relaxed));
    for (node, leads) in [(leader, true), (follower, false)] {
        let member = &statistics(&world, node).member;
        assert_eq!(member.unavailable_ms.count(), 1, "{}", world.logs());
        assert!((5000..7000).contains(&member.unavailable_ms.max()), "{}", member.unavailable_ms.max());
        let until_leading = if leads { series(&member.unavailable_ms) } else { (0, 0) };
        assert_eq!(series(&member.unavailable_until_leading_ms), until_leading);
    }
}

#[test]
fn what_a_follower_lacks_is_no_broadcast() {
    for (writes, by_snapshot) in [(10, false), (700, true)] {
        let mut world = World::new(3, &[]);
        world.pass_ms(1000);
        let (leader, follower) = (world.leader(), world.follower());
        let mut client = world.connect(leader);
        world.kill(follower);
        for _ in 0..writes {
            world.set(&mut client, "/", b"1");
        }
        world.settle();
        forget_statistics(&world);
        world.restart(follower);
        world.pass_ms(100);
        world.is_in_agreement();
        let name = if by_snapshot { "syncs by snapshot" } else { "syncs by log" };
        let member = &statistics(&world, leader).member;
        assert_eq!(counted(member), [(name, 1)]);
        // One was under way when it began, none when it had ended.
        assert_eq!(timed(member), [(name, (2, 1))]);
        assert_eq!(counted(&statistics(&world, follower).member), [("searches", 1)]);
    }
}

#[test]
fn sessions_that_come_back_are_counted_where_they_come_and_by_the_leader_if_it_was_asked() {
    let mut world = World::new(3, &[]);
    world.pass_ms(1000);
    let (leader, follower) = (world.leader(), world.follower());
    let session = world.connect(leader).session;
    for node in [follower, leader, leader] {
        assert_eq!(world.dial(node, session, Zxid(0)).session, session);
    }
    let presented = |node: usize| statistics(&world, node).sessions_presented.load(Relaxed);
    assert_eq!((presented(leader), presented(follower)), (2, 1));
    let asked = |node: usize| statistics(&world, node).member.revalidations.load(Relaxed);
    assert_eq!((asked(leader), asked(follower)), (1, 0));
}
