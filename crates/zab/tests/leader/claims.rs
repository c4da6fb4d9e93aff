//! What a single learner's word may cause, and what it may not: one test for each sentence of the rule.

use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_proto::{Epoch, ServerId};
use rookeeper_zab::leader::LeaderOutput;
use rookeeper_zab::reasons::{KnownOfIt, LearnerName};
use rookeeper_zab::{DropReason, LeaderEvent, LinkId, LinkOutput, Memberships};

use crate::story::{SYNC_TICKS, Story, TICK_MS, history, membership, settings, zxid};

const SYNC_MS: i64 = SYNC_TICKS as i64 * TICK_MS;
/// The last epoch before the last.
const LAST: u32 = 0x7fff_fffe;

fn is_dropped(story: &Story, link: u64) -> bool {
    story.has(
        |output| matches!(output, LeaderOutput::ToLearner(dropped, LinkOutput::Drop(_)) if *dropped == LinkId(link)),
    )
}

fn steps_down(story: &Story) -> bool {
    story.has(|output| matches!(output, LeaderOutput::StepDown { .. }))
}

fn warnings(story: &Story) -> Vec<&LeaderEvent> {
    let lines = story.outputs.iter().filter_map(|output| match output {
        LeaderOutput::Log(event) if event.is_warning() => Some(event),
        _ => None,
    });
    lines.collect()
}

/// Why learners were dropped.
fn reasons(story: &Story) -> Vec<&DropReason> {
    let reasons = story.outputs.iter().filter_map(|output| match output {
        LeaderOutput::ToLearner(_, LinkOutput::Drop(why)) => Some(why),
        _ => None,
    });
    reasons.collect()
}

/// Server 3 of five, established in epoch 2 with servers 1 and 2 on links of these numbers.
fn of_five() -> Story {
    let mut story = Story::new(settings(), Memberships::settled(membership(5, 1, 7)), history());
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
    story.outputs.clear();
    story.text.clear();
    story
}

/// A write that all three have on disk.
fn commits(story: &mut Story) {
    let zxid = story.commits_one();
    story.acks(2, zxid);
}

/// One packet with the id of a voter and the last but one epoch left every server with an epoch behind which there is none.
#[test]
fn while_an_epoch_is_found_nobody_takes_it_to_the_end() {
    let mut story = Story::of_three();
    story.connects(1);
    story.introduces(1, 1, LAST);
    assert!(is_dropped(&story, 1), "{}", story.text);
    story.connects(2);
    story.introduces_observer(2, 4, LAST);
    assert!(is_dropped(&story, 2), "{}", story.text);
    assert!(!story.has(|output| matches!(output, LeaderOutput::AcceptedEpoch(_))), "the forger is no part of a quorum");
    let why = DropReason::UnlikelyEpoch { server: ServerId(1), accepted: Epoch(LAST), base: Epoch(1) };
    assert!(why.to_string().contains("rookeeper epochs") && why.to_string().contains("7ffffffe"), "{why}");
    assert_eq!(reasons(&story)[0], &why);
    story.connects(3);
    story.introduces(3, 1, 1);
    assert!(story.has(|output| *output == LeaderOutput::AcceptedEpoch(Epoch(2))), "{}", story.text);
}

/// A voter that others need, and that attempted to lead for a while, is believed.
#[test]
fn while_an_epoch_is_found_a_voter_raises_it_by_what_attempts_to_lead_can_explain() {
    let mut story = Story::of_three();
    story.connects(1);
    story.introduces(1, 1, 1 + (1 << 16));
    assert!(story.has(|output| *output == LeaderOutput::AcceptedEpoch(Epoch(2 + (1 << 16)))), "{}", story.text);
    let mut story = Story::of_three();
    story.connects(1);
    story.introduces(1, 1, 2 + (1 << 16));
    assert!(is_dropped(&story, 1), "{}", story.text);
}

#[test]
fn a_stranger_raises_nothing() {
    let mut story = Story::of_three();
    story.connects(9);
    story.introduces(9, 9, 40);
    story.connects(1);
    story.introduces(1, 1, 1);
    assert!(story.has(|output| *output == LeaderOutput::AcceptedEpoch(Epoch(2))), "{}", story.text);
}

/// Four servers that had lost their disks had acknowledged writes when the fifth came back with a history of a newer epoch. The leader
/// made room for it, it was elected, and its snapshot replaced everything.
#[test]
fn an_established_leader_goes_on_when_a_learner_is_ahead() {
    for accepted in [3, 9, 400, LAST] {
        let mut story = of_five();
        commits(&mut story);
        story.waits(2 * SYNC_MS, &[1, 2]);
        story.leader.voter_said(ServerId(5), Some(Epoch(accepted)), Some(zxid(accepted, 4)));
        story.connects(5);
        story.introduces(5, 5, accepted);
        assert!(is_dropped(&story, 5) && !steps_down(&story), "{}", story.text);
        let (accepted, epoch, known) = (Epoch(accepted), Epoch(2), KnownOfIt::IsAhead);
        assert_eq!(reasons(&story)[0], &DropReason::AcceptedNewerEpoch { accepted, epoch, known }, "{}", story.text);
        // One that has not voted may have anything.
        story.connects(4);
        story.introduces(4, 4, accepted);
        assert!(is_dropped(&story, 4) && !steps_down(&story), "{}", story.text);
        let committed = story.committed().len();
        commits(&mut story);
        assert_eq!(story.committed().len(), committed + 1, "it goes on");
    }
}

/// One that has only tried to lead would knock until another epoch begins for some other reason.
#[test]
fn an_established_leader_begins_another_epoch_for_a_voter_that_is_not_ahead_but_rarely() {
    let knocks = |story: &mut Story, server: i64, accepted: u32| {
        story.leader.voter_said(ServerId(server), Some(Epoch(2)), Some(zxid(2, 1)));
        story.connects(50);
        story.introduces(50, server, accepted);
    };
    let mut story = of_five();
    commits(&mut story);
    knocks(&mut story, 5, 3);
    assert!(!steps_down(&story), "it has only just begun: {}", story.text);
    story.waits(SYNC_MS, &[1, 2]);
    story.leader.yields_from(story.now_ms + 1);
    knocks(&mut story, 5, 3);
    assert!(!steps_down(&story), "it did so just before: {}", story.text);
    story.waits(1, &[1, 2]);
    knocks(&mut story, 9, 3);
    assert!(!steps_down(&story), "a stranger: {}", story.text);
    knocks(&mut story, 1, 3);
    assert!(!steps_down(&story), "that one is here: {}", story.text);
    knocks(&mut story, 5, LAST);
    assert!(!steps_down(&story), "nobody is believed that: {}", story.text);
    knocks(&mut story, 5, 3);
    assert!(steps_down(&story) && story.has(|output| *output == LeaderOutput::Yielded), "{}", story.text);
}

#[test]
fn who_knocks_again_and_again_is_one_line_a_minute() {
    let mut story = of_five();
    for _ in 0..600 {
        story.connects(5);
        story.introduces(5, 5, 9);
        story.waits(100, &[1, 2]);
    }
    story.connects(5);
    story.introduces(5, 5, 9);
    let lines = warnings(&story);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(matches!(lines[1], LeaderEvent::TurningAway { unsaid: 599, .. }), "{}", lines[1]);
}

/// The link that a server has is not given up because somebody says that it is this server.
#[test]
fn a_link_that_answers_stands_against_a_newcomer() {
    let mut story = of_five();
    story.connects(8);
    story.introduces(8, 1, 2);
    story.promises(8, None, zxid(1, 9));
    assert!(!is_dropped(&story, 1) && !is_dropped(&story, 8), "nobody knows yet: {}", story.text);
    let asked = story.sent_to(1);
    assert!(matches!(asked[..], [QuorumPacket::Ping { .. }]), "{asked:?}");
    story.echoes(1, zxid(2, 0));
    assert!(is_dropped(&story, 8) && !is_dropped(&story, 1), "{}", story.text);
    let older = LearnerName { identity: Some((ServerId(1), false)), peer: "host1".to_owned() };
    assert_eq!(reasons(&story)[0], &DropReason::SameServer { older }, "{}", story.text);
    assert!(!story.sent_to(8).iter().any(|packet| matches!(packet, QuorumPacket::NewLeader { .. })));
}

/// What was on its way before the newcomer came proves nothing.
#[test]
fn only_an_answer_to_a_later_ping_counts() {
    let mut story = of_five();
    story.waits(TICK_MS / 2, &[]);
    story.connects(8);
    story.introduces(8, 1, 2);
    story.promises(8, None, zxid(1, 9));
    story.echoes(1, zxid(2, 0));
    assert!(!is_dropped(&story, 8), "{}", story.text);
    story.echoes(1, zxid(2, 0));
    assert!(is_dropped(&story, 8), "{}", story.text);
}

/// A server whose host lost its power comes back before its old connection is known to be dead.
#[test]
fn a_server_that_came_back_takes_its_place_when_the_older_link_ends() {
    let comes_back = |story: &mut Story| {
        story.connects(8);
        story.introduces(8, 1, 2);
        story.promises(8, None, zxid(1, 9));
    };
    let is_synced =
        |story: &Story| story.sent_to(8).iter().any(|packet| matches!(packet, QuorumPacket::NewLeader { .. }));
    let mut story = of_five();
    comes_back(&mut story);
    assert!(!is_synced(&story));
    story.leaves(1);
    assert!(is_synced(&story), "{}", story.text);

    let mut story = of_five();
    comes_back(&mut story);
    story.waits(SYNC_MS / 2, &[2]);
    assert!(is_dropped(&story, 1) && is_synced(&story), "{}", story.text);
    assert!(!steps_down(&story));
}

/// Before it is brought up to date there is nothing that a link stands for, and all of one server's go their way.
#[test]
fn of_two_links_that_catch_up_one_is_first() {
    let mut story = of_five();
    for link in [7, 8] {
        story.connects(link);
        story.introduces(link, 4, 1);
    }
    for link in [7, 8] {
        story.promises(link, Some(1), zxid(1, 9));
    }
    let is_synced =
        |story: &Story, link| story.sent_to(link).iter().any(|packet| matches!(packet, QuorumPacket::NewLeader { .. }));
    assert!(is_synced(&story, 7) && !is_synced(&story, 8), "{}", story.text);
    story.acks(7, zxid(2, 0));
    story.waits(TICK_MS, &[1, 2, 7]);
    assert!(is_dropped(&story, 8) && !is_dropped(&story, 7), "{}", story.text);
}
