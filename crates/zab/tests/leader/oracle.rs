//! Two members and an oracle: when one of them decides without the other, and when it must not.

use rookeeper_proto::{Epoch, ServerId, Zxid};
use rookeeper_zab::leader::{LeaderOutput, LeaderSettings};
use rookeeper_zab::{LeaderEvent, Membership, Memberships, StepDownReason};

use crate::story::{INIT_TICKS, Story, TICK_MS, history, membership, settings, voters, zxid};

const INIT_MS: i64 = INIT_TICKS as i64 * TICK_MS;

/// Server 3 of two, which may lead odd epochs.
fn of_two() -> Story {
    with(voters(&[1, 3], zxid(0, 7)))
}

fn with(membership: Membership) -> Story {
    let settings = LeaderSettings { has_oracle: true, ..settings() };
    Story::new(settings, Memberships::settled(membership), history())
}

/// Server 3, which the oracle let go on alone.
fn alone() -> Story {
    let mut story = of_two();
    story.leader.oracle_says(true);
    story.waits(TICK_MS, &[]);
    story.stores_accepted();
    story.stores_current();
    story
}

fn committed(story: &Story) -> Vec<Zxid> {
    let committed = story.outputs.iter().filter_map(|output| match output {
        LeaderOutput::Committed(zxid) => Some(*zxid),
        _ => None,
    });
    committed.collect()
}

fn steps_down(story: &Story) -> Option<StepDownReason> {
    story.outputs.iter().find_map(|output| match output {
        LeaderOutput::StepDown { why, .. } => Some(why.clone()),
        _ => None,
    })
}

#[test]
fn without_its_yes_one_of_two_does_not_lead() {
    let mut story = of_two();
    story.waits(INIT_MS + TICK_MS, &[]);
    assert!(!story.has(|output| matches!(output, LeaderOutput::AcceptedEpoch(_))), "{}", story.text);
    assert!(matches!(steps_down(&story), Some(StepDownReason::NoQuorum { .. })), "{}", story.text);
}

#[test]
fn with_its_yes_one_of_two_leads_and_commits_after_the_other_had_its_time() {
    let mut story = of_two();
    story.leader.oracle_says(true);
    assert!(!story.has(|output| matches!(output, LeaderOutput::AcceptedEpoch(_))), "{}", story.text);
    story.waits(TICK_MS, &[]);
    story.stores_accepted();
    story.stores_current();
    let first = story.writes();
    assert_eq!(committed(&story), []);
    story.syncs(first);
    assert_eq!((committed(&story), first), (vec![first], zxid(3, 1)));
    story.waits(INIT_MS, &[]);
    assert_eq!(steps_down(&story), None, "{}", story.text);
}

#[test]
fn it_has_no_say_among_three_or_in_groups() {
    let groups = "server.1=s1:1:2\nserver.3=s3:1:2\ngroup.1=1:3\nversion=7";
    for membership in [membership(3, 0, 7), Membership::parse_text(groups, false).unwrap()] {
        let mut story = with(membership);
        story.leader.oracle_says(true);
        story.waits(INIT_MS + TICK_MS, &[]);
        assert!(matches!(steps_down(&story), Some(StepDownReason::NoQuorum { .. })), "{}", story.text);
    }
}

#[test]
fn a_voter_that_is_about_to_follow_is_waited_for() {
    let mut story = of_two();
    story.connects(1);
    story.introduces(1, 1, Epoch(1));
    story.stores_accepted();
    story.leader.oracle_says(true);
    story.waits(TICK_MS, &[]);
    assert!(!story.has(|output| matches!(output, LeaderOutput::CurrentEpoch(_))), "{}", story.text);
    story.leaves(1);
    story.waits(TICK_MS, &[]);
    assert!(story.has(|output| matches!(output, LeaderOutput::CurrentEpoch(_))), "{}", story.text);
}

#[test]
fn while_there_is_a_follower_both_are_needed() {
    let mut story = of_two();
    story.establish();
    story.leader.oracle_says(true);
    story.waits(TICK_MS, &[1]);
    let first = story.writes();
    story.syncs(first);
    story.waits(TICK_MS, &[1]);
    assert_eq!(committed(&story), []);
    story.acks(1, first);
    assert_eq!(committed(&story), [first]);
}

#[test]
fn a_follower_that_is_lost_is_done_without_from_the_next_tick_on() {
    let mut story = of_two();
    story.establish();
    story.leader.oracle_says(true);
    let first = story.writes();
    story.syncs(first);
    story.leaves(1);
    assert_eq!(committed(&story), []);
    story.waits(TICK_MS, &[]);
    assert_eq!((committed(&story), steps_down(&story)), (vec![first], None));
    assert!(story.has(|output| matches!(output, LeaderOutput::Log(LeaderEvent::GoesOnAlone))), "{}", story.text);
    let second = story.writes();
    story.syncs(second);
    assert_eq!(committed(&story), [first, second]);
}

/// The other disk may be gone for good.
#[test]
fn what_only_the_other_one_has_on_disk_is_not_committed() {
    let mut story = of_two();
    story.establish();
    story.leader.oracle_says(true);
    let first = story.writes();
    story.acks(1, first);
    story.leaves(1);
    story.waits(TICK_MS, &[]);
    assert_eq!(committed(&story), []);
    story.syncs(first);
    assert_eq!(committed(&story), [first]);
}

#[test]
fn who_waits_for_a_confirmation_is_answered_when_it_goes_on_alone() {
    let mut story = of_two();
    story.establish();
    story.leader.oracle_says(true);
    let ticket = story.confirms();
    let confirmed = |story: &Story| story.has(|output| *output == LeaderOutput::Confirmed(ticket));
    story.leaves(1);
    assert!(!confirmed(&story), "{}", story.text);
    story.waits(TICK_MS, &[]);
    assert!(confirmed(&story), "{}", story.text);
}

#[test]
fn its_no_counts_at_once() {
    let mut story = alone();
    story.leader.oracle_says(false);
    let first = story.writes();
    story.syncs(first);
    assert_eq!(committed(&story), []);
    story.waits(TICK_MS, &[]);
    assert!(matches!(steps_down(&story), Some(StepDownReason::TooFewLeft { .. })), "{}", story.text);
    assert_eq!(committed(&story), []);
}

#[test]
fn a_follower_that_comes_back_is_needed_from_its_registration_on() {
    let mut story = alone();
    let before = story.writes();
    story.syncs(before);
    story.connects(1);
    story.introduces(1, 1, Epoch(1));
    story.promises(1, Some(1), zxid(1, 9));
    let first = story.writes();
    story.syncs(first);
    assert_eq!(committed(&story), [before], "{}", story.text);
    story.acks(1, zxid(3, 0));
    story.acks(1, first);
    assert_eq!(committed(&story), [before, first], "{}", story.text);
}

#[test]
fn alone_it_confirms_that_it_leads() {
    let mut story = alone();
    let ticket = story.confirms();
    assert!(story.has(|output| *output == LeaderOutput::Confirmed(ticket)), "{}", story.text);
}

#[test]
fn alone_it_can_remove_the_other_one() {
    let mut story = alone();
    let change = story.reconfigures(|version| voters(&[3], version));
    story.syncs(change);
    assert_eq!(committed(&story), [change]);
    story.leader.oracle_says(false);
    story.waits(TICK_MS, &[]);
    assert_eq!(steps_down(&story), None, "{}", story.text);
}

#[test]
fn two_servers_never_lead_the_same_epoch() {
    let epoch = |me, accepted: u32| {
        let settings = LeaderSettings { has_oracle: true, me: ServerId(me), ..settings() };
        let mut story = Story::new(settings, Memberships::settled(voters(&[1, 3], zxid(0, 7))), history());
        story.connects(1);
        story.introduces(1, 4 - me, Epoch(accepted));
        story.leader.epoch().0
    };
    // Histories and promises end in epoch 1.
    assert_eq!((epoch(1, 1), epoch(3, 1)), (2, 3));
    assert_eq!((epoch(1, 2), epoch(3, 2)), (4, 3));
    assert_eq!((epoch(1, 3), epoch(3, 3)), (4, 5));
}
