//! Who is given up and when, and proof that this server still leads.

use rookeeper_proto::{MonotonicMs, ServerId};
use rookeeper_zab::leader::LeaderOutput;
use rookeeper_zab::reasons::Lacks;
use rookeeper_zab::{LeaderEvent, LinkId, LinkOutput, Memberships, StepDownReason};

use crate::golden::assert_golden;
use crate::story::{INIT_TICKS, SYNC_TICKS, Story, TICK_MS, history, membership, settings, zxid};

const INIT_MS: i64 = INIT_TICKS as i64 * TICK_MS;
const SYNC_MS: i64 = SYNC_TICKS as i64 * TICK_MS;

fn drops(story: &Story, link: u64) -> bool {
    story.has(
        |output| matches!(output, LeaderOutput::ToLearner(dropped, LinkOutput::Drop(_)) if *dropped == LinkId(link)),
    )
}

fn steps_down(story: &Story) -> Option<StepDownReason> {
    story.outputs.iter().find_map(|output| match output {
        LeaderOutput::StepDown { why, .. } => Some(why.clone()),
        _ => None,
    })
}

#[test]
fn a_quorum_that_is_lost_ends_it_within_a_tick() {
    let mut story = Story::established();
    story.waits(SYNC_MS, &[1]);
    assert_eq!(steps_down(&story), None);
    story.text.clear();
    story.leaves(1);
    story.waits(TICK_MS, &[]);
    assert_golden("a_quorum_that_is_lost", &story.text);
}

#[test]
fn a_silent_follower_is_dropped_after_the_sync_limit() {
    let mut story = Story::established();
    story.joins(2, 2, zxid(1, 9));
    story.waits(SYNC_MS - 1, &[1]);
    assert!(!drops(&story, 2), "{}", story.text);
    story.waits(1, &[1]);
    assert!(drops(&story, 2) && steps_down(&story).is_none(), "{}", story.text);
}

/// It is told once for each time, and early enough to look.
#[test]
fn a_learner_that_falls_behind_is_told_of_at_half_of_the_sync_limit() {
    let mut story = Story::established();
    story.joins(2, 2, zxid(1, 9));
    let told = |story: &Story| {
        let late = story.outputs.iter().filter_map(|output| match output {
            LeaderOutput::Log(LeaderEvent::Late { limit_ms, .. }) => Some(*limit_ms),
            _ => None,
        });
        late.collect::<Vec<_>>()
    };
    for round in 1..=2 {
        story.waits(SYNC_MS / 2 - TICK_MS / 2, &[1]);
        assert_eq!(told(&story).len(), round - 1, "{}", story.text);
        story.waits(TICK_MS, &[1]);
        story.waits(TICK_MS, &[1]);
        assert_eq!(told(&story).len(), round, "{}", story.text);
        assert_eq!(told(&story)[round - 1], SYNC_MS);
        assert!(
            story.leader.lags(story.now_ms).iter().any(|(server, lag)| *server == ServerId(2) && *lag >= SYNC_MS / 2)
        );
        // It answers again.
        story.waits(TICK_MS, &[1, 2]);
        assert!(story.leader.lags(story.now_ms).iter().all(|(_, lag)| *lag < SYNC_MS / 2), "{}", story.text);
    }
    assert!(!drops(&story, 2), "{}", story.text);
}

#[test]
fn a_follower_that_answers_and_does_not_acknowledge_is_dropped() {
    let mut story = Story::established();
    story.joins(2, 2, zxid(1, 9));
    // Some progress is enough.
    for _ in 0..3 {
        let zxid = story.commits_one();
        story.writes();
        story.waits(SYNC_MS - TICK_MS, &[1, 2]);
        story.acks(1, story.leader.proposed());
        story.syncs(story.leader.proposed());
        story.acks(2, zxid);
    }
    assert!(!drops(&story, 2), "{}", story.text);
    story.waits(SYNC_MS, &[1, 2]);
    assert!(drops(&story, 2) && !drops(&story, 1), "{}", story.text);
}

#[test]
fn who_catches_up_is_not_measured_by_what_it_could_not_acknowledge() {
    let mut story = Story::established();
    story.writes();
    story.connects(2);
    story.introduces(2, 2, 2);
    story.promises(2, None, zxid(1, 9));
    // A long way, with signs of life from the runner only.
    for _ in 0..INIT_TICKS * 2 {
        story.waits(TICK_MS, &[1]);
        story.leader.stream_progressed(story.now_ms, LinkId(2));
        story.acks(1, zxid(2, 1));
    }
    story.acks(2, zxid(2, 0));
    story.waits(TICK_MS, &[1, 2]);
    assert!(!drops(&story, 2), "{}", story.text);
}

#[test]
fn who_acknowledges_nothing_of_what_came_before_it_was_up_to_date_is_dropped() {
    let mut story = Story::established();
    story.writes();
    story.joins(2, 2, zxid(1, 9));
    story.acks(1, zxid(2, 1));
    story.waits(SYNC_MS - 1, &[1, 2]);
    assert!(!drops(&story, 2), "{}", story.text);
    story.waits(TICK_MS, &[1, 2]);
    assert!(drops(&story, 2) && !drops(&story, 1), "{}", story.text);
}

#[test]
fn who_waited_for_the_others_has_all_its_time_then() {
    let mut story = Story::of_three();
    story.connects(1);
    story.introduces(1, 1, 1);
    story.stores_accepted();
    story.promises(1, Some(1), zxid(1, 9));
    story.acks(1, zxid(2, 0));
    // This server's own disk takes its time.
    story.waits(SYNC_MS + TICK_MS, &[]);
    story.stores_current();
    story.waits(SYNC_MS - TICK_MS, &[]);
    assert!(!drops(&story, 1) && steps_down(&story).is_none(), "{}", story.text);
}

#[test]
fn who_does_not_go_on_is_dropped_after_the_init_limit() {
    for steps in 0..3 {
        let mut story = Story::established();
        story.connects(2);
        if steps > 0 {
            story.introduces(2, 2, 2);
        }
        if steps > 1 {
            story.promises(2, None, zxid(1, 9));
        }
        story.waits(INIT_MS - 1, &[1]);
        assert!(!drops(&story, 2), "{steps} steps: {}", story.text);
        story.waits(1, &[1]);
        assert!(drops(&story, 2) && steps_down(&story).is_none(), "{steps} steps: {}", story.text);
    }
}

#[test]
fn who_waits_for_this_server_is_not_late() {
    let mut story = Story::established();
    story.connects(2);
    story.introduces(2, 2, 2);
    // The log is asked, which takes long.
    story.promises(2, None, zxid(1, 3));
    story.waits(INIT_MS * 2, &[1]);
    assert!(!drops(&story, 2), "{}", story.text);
}

/// Each step towards leading has the whole init limit.
#[test]
fn leading_that_does_not_begin_ends() {
    let expected = [
        (Lacks::Connections, "no quorum is connected within 10000 ms"),
        (Lacks::EpochAcks, "no quorum has acknowledged the epoch within 10000 ms"),
        (Lacks::HistoryAcks, "no quorum has taken over the history within 10000 ms"),
    ];
    for (steps, (lacks, text)) in expected.into_iter().enumerate() {
        let mut story = Story::of_three();
        story.connects(1);
        story.waits(INIT_MS - TICK_MS, &[]);
        if steps > 0 {
            story.introduces(1, 1, 1);
            story.stores_accepted();
            story.waits(INIT_MS - TICK_MS, &[]);
        }
        if steps > 1 {
            story.promises(1, Some(1), zxid(1, 9));
            story.waits(INIT_MS - TICK_MS, &[]);
        }
        assert_eq!(steps_down(&story), None, "{}", story.text);
        story.waits(TICK_MS, &[]);
        let why = StepDownReason::NoQuorum { lacks, limit_ms: INIT_MS };
        assert_eq!((why.to_string().as_str(), steps_down(&story)), (text, Some(why)), "{}", story.text);
        assert_eq!(story.leader.deadline_ms(), None);
    }
}

#[test]
fn leading_that_nobody_wants_ends_early() {
    let mut settings = settings();
    settings.max_time_to_wait_for_epoch_ms = Some(TICK_MS);
    let mut story = Story::new(settings, Memberships::settled(membership(3, 1, 7)), history());
    assert!(!story.leader.voter_looks(MonotonicMs(TICK_MS - 1), ServerId(1)), "too early");
    assert!(!story.leader.voter_looks(MonotonicMs(TICK_MS), ServerId(4)), "an observer");
    assert_eq!(story.leader.poll(), None);
    assert!(story.leader.voter_looks(MonotonicMs(TICK_MS), ServerId(1)));
    assert!(!story.leader.voter_looks(MonotonicMs(TICK_MS), ServerId(2)), "it is over already");
    assert!(matches!(story.leader.poll(), Some(LeaderOutput::StepDown { .. })));
    let mut story = Story::of_three();
    assert!(!story.leader.voter_looks(MonotonicMs(INIT_MS / 2 - 1), ServerId(1)));
    assert_eq!(story.leader.poll(), None, "half of initLimit where nothing is configured");
    assert!(story.leader.voter_looks(MonotonicMs(INIT_MS / 2), ServerId(1)));
}

#[test]
fn after_it_stood_still_nobody_is_blamed() {
    let mut story = Story::established();
    story.joins(2, 2, zxid(1, 9));
    story.commits_one();
    story.stands_still(SYNC_MS * 3);
    assert!(!drops(&story, 1) && !drops(&story, 2) && steps_down(&story).is_none(), "{}", story.text);
    story.waits(SYNC_MS + TICK_MS, &[]);
    assert!(drops(&story, 1) && drops(&story, 2), "{}", story.text);
    assert!(steps_down(&story).is_some());
}

/// Those who were pinged while they caught up may have answered or not; neither counts.
#[test]
fn pings_and_confirmation() {
    let mut story = Story::established();
    story.connects(2);
    story.introduces(2, 2, 2);
    story.promises(2, None, zxid(1, 9));
    story.waits(TICK_MS / 2, &[]);
    story.confirms();
    story.confirms();
    story.acks(2, zxid(2, 0));
    // The answer to the first ping comes now.
    story.echoes(2, zxid(0, 0));
    story.echoes(2, zxid(2, 0));
    // The second round is under way.
    story.echoes(1, zxid(2, 0));
    story.echoes(1, zxid(2, 0));
    story.echoes(1, zxid(2, 0));
    story.confirms();
    story.leaves(1);
    story.echoes(2, zxid(2, 0));
    story.echoes(2, zxid(2, 0));
    assert_golden("pings_and_confirmation", &story.text);
}

#[test]
fn an_observer_confirms_nothing_and_keeps_nobody_leading() {
    let mut story = Story::established();
    story.connects(2);
    // Though it is a voter by its number.
    story.introduces_observer(2, 2, 2);
    story.promises(2, None, zxid(1, 9));
    story.acks(2, zxid(2, 0));
    story.confirms();
    story.echoes(2, zxid(2, 0));
    let write = story.writes();
    story.syncs(write);
    story.acks(2, write);
    assert!(!story.has(|output| matches!(output, LeaderOutput::Confirmed(_) | LeaderOutput::Committed(_))));
    story.leaves(1);
    story.waits(TICK_MS, &[2]);
    assert!(steps_down(&story).is_some());
}

#[test]
fn learners_are_counted() {
    let mut story = Story::established();
    story.joins(2, 2, zxid(1, 9));
    story.joins(9, 9, zxid(1, 9));
    story.connects(4);
    story.introduces_observer(4, 4, 1);
    let counts = story.leader.counts();
    assert_eq!((counts.learners, counts.pending_syncs, counts.synced_observers), (4, 1, 0));
    assert_eq!((counts.synced_followers, counts.synced_non_voting_followers), (2, 1));
}
