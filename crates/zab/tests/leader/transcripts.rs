//! Beginning, catching up, broadcasting.

use rookeeper_proto::quorum::{LearnerInfo, PROTOCOL_VERSION, QuorumPacket};
use rookeeper_proto::{MonotonicMs, ServerId, SessionId, Zxid};
use rookeeper_zab::leader::Leader;
use rookeeper_zab::{History, LinkId, Membership, Memberships, SyncPlan};

use crate::golden::assert_golden;
use crate::story::{Story, history, membership, settings, zxid};

#[test]
fn fresh_ensemble_of_three() {
    let memberships = Memberships::settled(membership(3, 0, 0));
    let mut story = Story::new(settings(), memberships, History::new(Zxid::ZERO, 500));
    for link in [1, 2] {
        story.connects(link);
        story.introduces(link, link as i64, 0);
    }
    story.stores_accepted();
    story.promises(1, Some(0), Zxid::ZERO);
    story.promises(2, Some(0), Zxid::ZERO);
    story.acks(1, zxid(1, 0));
    story.stores_current();
    story.acks(1, zxid(1, 0));
    let first = story.writes();
    story.acks(1, first);
    story.syncs(first);
    // Server 2 was slow, and takes part from here on.
    story.acks(2, zxid(1, 0));
    story.acks(2, zxid(1, 0));
    story.acks(2, first);
    assert_golden("fresh_ensemble_of_three", &story.text);
}

/// Every place where a learner's history can end, before this server is established and after.
#[test]
fn every_way_of_catching_up() {
    let places = [
        ("all there is", zxid(1, 9)),
        ("a part is missing", zxid(1, 7)),
        ("what is missing is on disk", zxid(1, 3)),
        ("more than there is", zxid(1, 10)),
        ("the beginning of an epoch", zxid(2, 0)),
        ("another way", zxid(0, 7)),
    ];
    let mut text = String::new();
    for (what, last) in places {
        let mut story = Story::of_three();
        story.connects(1);
        story.introduces(1, 1, 1);
        story.connects(2);
        story.introduces(2, 2, 1);
        story.stores_accepted();
        story.promises(1, Some(1), zxid(1, 9));
        story.text.clear();
        story.promises(2, Some(0), last);
        story.acks(2, zxid(2, 0));
        text += &format!("== {what}, before\n{}", story.text);

        let mut story = Story::established();
        story.commits_one();
        story.writes();
        story.connects(2);
        story.introduces(2, 2, 2);
        story.text.clear();
        story.promises(2, None, last);
        text += &format!("== {what}, while serving\n{}", story.text);
    }
    assert_golden("every_way_of_catching_up", &text);
}

#[test]
fn what_is_on_disk_is_planned_while_writes_go_on() {
    let mut text = String::new();
    for plan in [SyncPlan::Log, SyncPlan::Snapshot] {
        let mut story = Story::established();
        story.connects(2);
        story.introduces(2, 2, 2);
        story.text.clear();
        story.promises(2, None, zxid(1, 3));
        story.commits_one();
        story.writes();
        story.plans(2, plan);
        story.writes();
        story.acks(2, zxid(2, 0));
        text += &format!("== {plan:?}\n{}", story.text);
    }
    assert_golden("what_is_on_disk_is_planned_while_writes_go_on", &text);
}

/// The tree that a snapshot is made of lags behind the history of a leader that has just begun.
#[test]
fn snapshot_before_the_history_is_applied() {
    let mut history = History::new(zxid(1, 5), 500);
    for counter in 6..=8 {
        history.push(rookeeper_zab::Record::new(zxid(1, counter), b"old")).unwrap();
    }
    history.commit(zxid(1, 6));
    history.synced(zxid(1, 8));
    let mut story = Story::new(settings(), Memberships::settled(membership(3, 0, 7)), history);
    story.connects(1);
    story.introduces(1, 1, 1);
    story.stores_accepted();
    story.text.clear();
    story.promises(1, Some(1), Zxid(0));
    story.plans(1, SyncPlan::Snapshot);
    assert_golden("snapshot_before_the_history_is_applied", &story.text);
}

#[test]
fn forced_snapshots() {
    let mut settings = settings();
    settings.force_snapshot_sync = true;
    let mut story = Story::new(settings, Memberships::settled(membership(3, 1, 7)), history());
    story.connects(1);
    story.introduces(1, 1, 1);
    story.stores_accepted();
    story.text.clear();
    story.promises(1, Some(1), zxid(1, 9));
    assert_golden("forced_snapshots", &story.text);
}

/// Commits of what was proposed before NEWLEADER wait for UPTODATE, and so do those behind them.
#[test]
fn late_follower_while_writes_are_outstanding() {
    let mut story = Story::established();
    let first = story.writes();
    let second = story.writes();
    story.connects(2);
    story.introduces(2, 2, 2);
    story.promises(2, None, zxid(1, 9));
    let third = story.writes();
    story.acks(1, third);
    story.syncs(second);
    story.acks(2, zxid(2, 0));
    story.syncs(third);
    for zxid in [zxid(2, 0), first, second, third] {
        story.acks(2, zxid);
    }
    assert_golden("late_follower_while_writes_are_outstanding", &story.text);
}

#[test]
fn observer() {
    let mut story = Story::established();
    story.commits_one();
    story.writes();
    story.connects(4);
    story.introduces_observer(4, 4, 1);
    story.promises(4, Some(1), zxid(1, 8));
    story.syncs(zxid(2, 2));
    story.acks(1, zxid(2, 2));
    story.acks(4, zxid(2, 0));
    story.acks(4, zxid(2, 0));
    story.requests(4, 1);
    story.requests(4, 9);
    story.writes();
    story.writes();
    story.syncs(zxid(2, 4));
    story.acks(1, zxid(2, 4));
    story.leader.answer_sync(LinkId(4));
    story.waits(500, &[]);
    story.touches(4, zxid(2, 4), 0xb);
    assert_golden("observer", &story.text);
}

/// Servers of 3.8.0 acknowledge NEWLEADER early and what came before it late, one by one, or a proposal even before NEWLEADER.
#[test]
fn acknowledgements_of_older_followers() {
    let mut story = Story::established();
    story.commits_one();
    let second = story.writes();
    story.connects(2);
    story.introduces(2, 2, 2);
    story.promises(2, None, zxid(1, 7));
    story.acks(2, second);
    story.acks(2, zxid(2, 0));
    for late in [zxid(1, 8), zxid(1, 9), zxid(2, 1), zxid(2, 0)] {
        story.acks(2, late);
    }
    story.syncs(second);
    assert_golden("acknowledgements_of_older_followers", &story.text);
}

#[test]
fn own_disk_is_slow() {
    let mut story = Story::established();
    story.joins(2, 2, zxid(1, 9));
    story.text.clear();
    for _ in 0..3 {
        story.writes();
    }
    story.acks(1, zxid(2, 3));
    story.acks(2, zxid(2, 2));
    story.syncs(zxid(2, 1));
    story.acks(2, zxid(2, 3));
    story.syncs(zxid(2, 3));
    assert_golden("own_disk_is_slow", &story.text);
}

/// Two of three groups are needed, and in each more than half of the weight.
#[test]
fn hierarchical_quorum() {
    let mut text = String::new();
    for id in 1..=9 {
        text += &format!("server.{id}=s{id}:1:2:participant\n");
    }
    text += "group.1=1:2:3\ngroup.2=4:5:6\ngroup.3=7:8:9\nweight.6=3\nversion=7";
    let membership = Membership::parse_text(text, false).unwrap();
    let mut story = Story::new(settings(), Memberships::settled(membership), history());
    for server in [4, 5, 1, 6] {
        story.connects(server);
        story.introduces(server, server as i64, 1);
    }
    story.stores_accepted();
    for server in [4, 5, 1] {
        story.promises(server, Some(1), zxid(1, 9));
    }
    story.promises(6, Some(1), zxid(1, 9));
    story.stores_current();
    for server in [1, 4, 6] {
        story.acks(server, zxid(2, 0));
    }
    let write = story.writes();
    story.syncs(write);
    story.acks(6, write);
    story.acks(1, write);
    assert_golden("hierarchical_quorum", &story.text);
}

#[test]
fn alone_it_is_its_own_quorum() {
    let mut story = Story::new(settings(), Memberships::settled(crate::story::voters(&[3], zxid(1, 1))), history());
    story.stores_accepted();
    story.stores_current();
    let write = story.writes();
    story.syncs(write);
    story.confirms();
    story.waits(1000, &[]);
    assert_golden("alone_it_is_its_own_quorum", &story.text);
}

#[test]
fn a_standalone_server_leads_at_once_and_begins_an_epoch_where_one_is_used_up() {
    let mut leader = Leader::standalone(ServerId(1), zxid(1, u32::MAX - 1));
    let mut zxids = Vec::new();
    for _ in 0..3 {
        let record = rookeeper_zab::Record::new(leader.next_zxid(), b"");
        leader.propose(MonotonicMs(0), &record);
        zxids.push(record.zxid);
    }
    assert_eq!(zxids, [zxid(1, u32::MAX), zxid(2, 1), zxid(2, 2)]);
    leader.synced(MonotonicMs(0), zxid(2, 1));
    let outputs: Vec<_> = std::iter::from_fn(|| leader.poll()).collect();
    assert_eq!(outputs, [rookeeper_zab::leader::LeaderOutput::Committed(zxid(2, 1))]);
    assert_eq!((leader.confirm(MonotonicMs(0)), leader.deadline_ms()), (1, None));
    assert_eq!(leader.poll(), Some(rookeeper_zab::leader::LeaderOutput::Confirmed(1)));
}

#[test]
fn those_who_do_not_fit_are_sent_away() {
    let mut story = Story::of_three();
    let introduce = |story: &mut Story, link: u64, accepted: Zxid, info: LearnerInfo| {
        story.connects(link);
        story.receives(link, &QuorumPacket::FollowerInfo { accepted_epoch: accepted, info });
    };
    introduce(&mut story, 1, zxid(1, 0), LearnerInfo { protocol_version: 1, ..Story::info(1) });
    introduce(&mut story, 2, zxid(1, 0), LearnerInfo { config_version: Zxid(8), ..Story::info(1) });
    introduce(&mut story, 3, zxid(1, 0), Story::info(3));
    introduce(&mut story, 4, Zxid(-1), Story::info(1));
    introduce(&mut story, 5, Zxid(i64::MAX), Story::info(1));
    introduce(&mut story, 6, zxid(1, 0), Story::info(1));
    introduce(&mut story, 7, zxid(1, 0), Story::info(1));
    story.stores_accepted();
    story.promises(7, Some(1), zxid(1, 10));
    introduce(&mut story, 8, zxid(1, 0), Story::info(1));
    story.promises(8, Some(2), zxid(1, 1));
    introduce(&mut story, 9, zxid(1, 0), Story::info(1));
    story.promises(9, Some(1), zxid(1, 9));
    // Somebody late, from an epoch that this server has not heard of.
    introduce(&mut story, 10, zxid(1, 0), Story::info(2));
    story.promises(10, Some(4), zxid(4, 1));
    assert_eq!(PROTOCOL_VERSION, Story::info(1).protocol_version);
    assert_golden("those_who_do_not_fit_are_sent_away", &story.text);
}

/// Observers that catch up share what is set aside for them; voters need not wait.
#[test]
fn too_many_observers_at_once() {
    let mut settings = settings();
    (settings.max_concurrent_snap_syncs, settings.max_concurrent_diff_syncs) = (1, 1);
    let mut story = Story::new(settings, Memberships::settled(membership(3, 4, 7)), history());
    story.establish();
    for (link, last) in [(4, Some(zxid(1, 8))), (5, Some(zxid(1, 8))), (6, None), (7, None)] {
        story.connects(link);
        story.introduces_observer(link, link as i64, 1);
        story.promises(link, Some(1), last);
    }
    story.joins(2, 2, zxid(1, 8));
    assert_golden("too_many_observers_at_once", &story.text);
}

#[test]
fn sessions_are_asked_for_and_answered() {
    let mut story = Story::established();
    story.receives(1, &QuorumPacket::Revalidate { session: SessionId(0xa), timeout_ms: 4000 });
    story.leader.revalidated(LinkId(1), SessionId(0xa), true);
    story.leader.revalidated(LinkId(9), SessionId(0xa), true);
    story.writes();
    story.requests(1, 5);
    assert_golden("sessions_are_asked_for_and_answered", &story.text);
}
