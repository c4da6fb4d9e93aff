//! What a learner does with every way of synchronisation, as transcripts: `<` is what the leader or the disk says, `>` what the learner
//! asks for.

#![allow(
    clippy::unwrap_used,
    clippy::type_complexity,
    reason = "a test fails by panicking, and a table of wrongs is clearest as it is"
)]

use rookeeper_proto::jute;
use rookeeper_proto::quorum::{QuorumPacket, Touch};
use rookeeper_proto::{Epoch, MonotonicMs, ServerId, SessionId, Zxid};
use rookeeper_zab::learner::{Everything, Learner, LearnerOutput, LearnerSettings, LearnerStart};
use rookeeper_zab::{LeaveReason, LinkEnd, LinkId};

const TICK_MS: i64 = 1000;

struct Story {
    learner: Learner,
    now_ms: MonotonicMs,
    text: String,
    left: Option<LeaveReason>,
}

impl Story {
    fn new(observer: bool, last: impl Into<Option<Zxid>>) -> Story {
        let start = LearnerStart {
            leader: ServerId(1),
            accepted_epoch: Epoch(1),
            current_epoch: Epoch(1),
            last: last.into(),
            membership_version: Zxid::ZERO,
            everything: None,
        };
        Story::begin(observer, start)
    }

    fn begin(observer: bool, start: LearnerStart) -> Story {
        let settings = LearnerSettings {
            me: ServerId(2),
            observer,
            tick_ms: TICK_MS,
            init_limit_ticks: 10,
            sync_limit_ticks: 5,
            connect_limit_ticks: None,
            connect_retry_ms: 100,
        };
        let mut story = Story {
            learner: Learner::new(settings, start, MonotonicMs(0)),
            now_ms: MonotonicMs(0),
            text: String::new(),
            left: None,
        };
        story.drain();
        story
    }

    /// Up to the point where the leader says how it will synchronise.
    fn promised(observer: bool, last: impl Into<Option<Zxid>>) -> Story {
        let mut story = Story::new(observer, last);
        story.does("connected", |learner, now_ms| learner.connected(now_ms));
        story.leader(&QuorumPacket::LeaderInfo { epoch: Zxid::new(2, 0) });
        story.does("accepted epoch stored", |learner, _| learner.accepted_epoch_stored(Epoch(2)));
        story.text.clear();
        story
    }

    fn leader(&mut self, packet: &QuorumPacket<'_>) {
        self.text.push_str(&format!("< {}\n", show(packet)));
        let mut bytes = Vec::new();
        packet.append(&mut bytes);
        self.learner.receive(self.now_ms, &bytes);
        self.drain();
    }

    fn proposal(&mut self, zxid: Zxid) {
        self.leader(&QuorumPacket::Proposal { zxid, record: b"body" });
    }

    fn commit(&mut self, zxid: Zxid) {
        self.leader(&QuorumPacket::Commit { zxid });
    }

    fn does(&mut self, what: &str, call: impl FnOnce(&mut Learner, MonotonicMs)) {
        self.text.push_str(&format!("< {what}\n"));
        call(&mut self.learner, self.now_ms);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.learner.poll() {
            let line = match output {
                LearnerOutput::ToLeader(bytes) => {
                    let mut rest = &bytes[..];
                    let mut shown = Vec::new();
                    while let Some((packet, length)) = QuorumPacket::split(rest, 1 << 20).unwrap() {
                        shown.push(show(&packet));
                        rest = &rest[length..];
                    }
                    format!("to leader: {}", shown.join(", "))
                }
                LearnerOutput::Append(record) => format!("append {}", record.zxid),
                LearnerOutput::Log(event) => format!("log: {event}"),
                LearnerOutput::Leave(why) => {
                    let line = format!("Leave(\"{why}\")");
                    self.left = Some(why);
                    line
                }
                LearnerOutput::Dial => {
                    self.learner.dialing(LinkId(1));
                    "Dial".to_owned()
                }
                other => format!("{other:?}"),
            };
            self.text.push_str(&format!("> {line}\n"));
        }
    }

    fn is(&mut self, expected: &str) {
        let expected: String = expected.trim().lines().map(|line| format!("{}\n", line.trim())).collect();
        assert!(self.text == expected, "got:\n{}\nexpected:\n{expected}", self.text);
        self.text.clear();
    }
}

fn show(packet: &QuorumPacket<'_>) -> String {
    match packet {
        QuorumPacket::Proposal { zxid, .. } => format!("PROPOSAL {zxid}"),
        QuorumPacket::Commit { zxid } => format!("COMMIT {zxid}"),
        QuorumPacket::Inform { zxid, .. } => format!("INFORM {zxid}"),
        QuorumPacket::Ack { zxid } => format!("ACK {zxid}"),
        QuorumPacket::NewLeader { epoch, .. } => format!("NEWLEADER {epoch}"),
        QuorumPacket::LeaderInfo { epoch } => format!("LEADERINFO {epoch}"),
        QuorumPacket::AckEpoch { last_logged, current_epoch } => {
            let last = last_logged.map_or("nothing".to_owned(), |last| last.to_string());
            format!("ACKEPOCH {last} {:?}", current_epoch.map(|epoch| epoch.0))
        }
        QuorumPacket::FollowerInfo { accepted_epoch, .. } => format!("FOLLOWERINFO {accepted_epoch}"),
        QuorumPacket::ObserverInfo { accepted_epoch, .. } => format!("OBSERVERINFO {accepted_epoch}"),
        other => format!("{other:?}"),
    }
}

fn one(counter: u32) -> Zxid {
    Zxid::new(1, counter)
}

fn two(counter: u32) -> Zxid {
    Zxid::new(2, counter)
}

const NEW_LEADER: QuorumPacket<'_> = QuorumPacket::NewLeader { epoch: Zxid(2 << 32), config: b"" };

#[test]
fn diff_is_logged_acknowledged_when_durable_and_applied_when_the_leader_is_established() {
    let mut story = Story::new(false, one(5));
    story.does("connected", |learner, now_ms| learner.connected(now_ms));
    story.leader(&QuorumPacket::LeaderInfo { epoch: two(0) });
    story.does("accepted epoch stored", |learner, _| learner.accepted_epoch_stored(Epoch(2)));
    story.leader(&QuorumPacket::Diff { zxid: one(6) });
    story.proposal(one(6));
    story.commit(one(6));
    story.leader(&NEW_LEADER);
    story.does("synced", |learner, _| learner.synced(one(6)));
    story.does("current epoch stored", |learner, now_ms| learner.current_epoch_stored(now_ms, Epoch(2)));
    story.proposal(two(1));
    story.does("synced", |learner, _| learner.synced(two(1)));
    story.leader(&QuorumPacket::UpToDate);
    story.proposal(two(2));
    story.commit(two(1));
    story.does("synced", |learner, _| learner.synced(two(2)));
    story.is("
        > Dial
        < connected
        > to leader: FOLLOWERINFO 0x100000000
        < LEADERINFO 0x200000000
        > AcceptedEpoch(Epoch(2))
        < accepted epoch stored
        > to leader: ACKEPOCH 0x100000005 Some(1)
        > CatchingUp
        < Diff { zxid: Zxid(4294967302) }
        > log: the leader sends what is missing between 0x100000005 and 0x100000006 (DIFF)
        < PROPOSAL 0x100000006
        > append 0x100000006
        < COMMIT 0x100000006
        < NEWLEADER 0x200000000
        > CurrentEpoch(Epoch(2))
        < synced
        < current epoch stored
        > to leader: ACK 0x200000000
        < PROPOSAL 0x200000001
        > append 0x200000001
        < synced
        < UpToDate
        > to leader: ACK 0x200000000
        > Serve { committed: Zxid(4294967302) }
        > to leader: ACK 0x200000001
        < PROPOSAL 0x200000002
        > append 0x200000002
        < COMMIT 0x200000001
        > Committed(Zxid(8589934593))
        < synced
        > to leader: ACK 0x200000002
    ");
}

#[test]
fn trunc_waits_for_the_disk_and_pings_are_answered_meanwhile() {
    let mut story = Story::promised(false, one(9));
    story.leader(&QuorumPacket::Trunc { zxid: one(7) });
    story.proposal(two(1));
    story.leader(&QuorumPacket::Ping { zxid: two(1), touches: None });
    story.does("pong", |learner, _| {
        learner.pong(two(1), vec![Touch { session: SessionId(1), timeout_ms: 4 }]);
    });
    story.leader(&NEW_LEADER);
    story.does("truncated", |learner, now_ms| learner.truncated(now_ms, one(7)));
    story.is("
        < Trunc { zxid: Zxid(4294967303) }
        > log: the leader has nothing after 0x100000007 (TRUNC); cutting the log that ends at 0x100000009
        > Truncate(Zxid(4294967303))
        < PROPOSAL 0x200000001
        < Ping { zxid: Zxid(8589934593), touches: None }
        > Ping { zxid: Zxid(8589934593) }
        < pong
        > to leader: Ping { zxid: Zxid(8589934593), touches: Some([Touch { session: SessionId(1), timeout_ms: 4 }]) }
        < NEWLEADER 0x200000000
        < truncated
        > append 0x200000001
        > CurrentEpoch(Epoch(2))
    ");
}

#[test]
fn a_log_that_could_not_be_cut_where_the_leader_wants_ends_the_attempt() {
    let mut story = Story::promised(false, one(9));
    story.leader(&QuorumPacket::Trunc { zxid: one(7) });
    story.text.clear();
    story.does("truncated", |learner, now_ms| learner.truncated(now_ms, one(3)));
    story.is("
        < truncated
        > Leave(\"the log could not be cut at 0x100000007, it ends at 0x100000003\")
    ");
}

#[test]
fn snap_replaces_everything_and_what_it_contains_is_not_taken_twice() {
    let mut story = Story::promised(false, one(9));
    story.leader(&QuorumPacket::Snap { zxid: two(3) });
    story.does("snapshot received", |learner, _| learner.snapshot_received(two(3)));
    story.proposal(two(3));
    story.commit(two(3));
    story.proposal(two(4));
    story.does("snapshot installed", |learner, now_ms| learner.snapshot_installed(now_ms, two(3)));
    story.leader(&NEW_LEADER);
    story.does("current epoch stored", |learner, now_ms| learner.current_epoch_stored(now_ms, Epoch(2)));
    story.commit(two(4));
    story.leader(&QuorumPacket::UpToDate);
    story.is("
        < Snap { zxid: Zxid(8589934595) }
        > log: the leader sends a snapshot at 0x200000003 (SNAP); this server is at 0x100000009
        < snapshot received
        > InstallSnapshot(Zxid(8589934595))
        < PROPOSAL 0x200000003
        < COMMIT 0x200000003
        < PROPOSAL 0x200000004
        < snapshot installed
        > append 0x200000004
        < NEWLEADER 0x200000000
        > CurrentEpoch(Epoch(2))
        < current epoch stored
        > to leader: ACK 0x200000000
        < COMMIT 0x200000004
        < UpToDate
        > to leader: ACK 0x200000000
        > Serve { committed: Zxid(8589934596) }
    ");
}

#[test]
fn an_observer_acknowledges_no_transaction() {
    let mut story = Story::promised(true, one(5));
    story.leader(&QuorumPacket::Diff { zxid: one(5) });
    story.leader(&NEW_LEADER);
    story.does("current epoch stored", |learner, now_ms| learner.current_epoch_stored(now_ms, Epoch(2)));
    story.leader(&QuorumPacket::UpToDate);
    story.text.clear();
    story.leader(&QuorumPacket::Inform { zxid: two(1), record: b"body" });
    story.does("synced", |learner, _| learner.synced(two(1)));
    story.is("
        < INFORM 0x200000001
        > append 0x200000001
        > Committed(Zxid(8589934593))
        < synced
    ");
}

#[test]
fn a_server_that_promised_this_epoch_before_does_not_count_and_a_later_promise_is_kept() {
    let mut story = Story::new(false, one(5));
    story.does("connected", |learner, now_ms| learner.connected(now_ms));
    story.text.clear();
    story.leader(&QuorumPacket::LeaderInfo { epoch: one(0) });
    story.is("
        < LEADERINFO 0x100000000
        > to leader: ACKEPOCH 0x100000005 None
        > CatchingUp
    ");
    let mut story = Story::new(false, one(5));
    story.does("connected", |learner, now_ms| learner.connected(now_ms));
    story.text.clear();
    story.leader(&QuorumPacket::LeaderInfo { epoch: Zxid::new(0, 0) });
    story.is("
        < LEADERINFO 0x0
        > Leave(\"it begins epoch 0, but this server has accepted epoch 1\")
    ");
}

#[test]
fn what_is_out_of_order_ends_the_connection() {
    let gap = |story: &mut Story| story.proposal(one(7));
    let foreign_commit = |story: &mut Story| story.commit(one(9));
    let early_commit = |story: &mut Story| {
        story.proposal(one(6));
        story.proposal(two(1));
        story.commit(two(1));
    };
    let twice = |story: &mut Story| {
        story.leader(&NEW_LEADER);
        story.leader(&NEW_LEADER);
    };
    let other_epoch =
        |story: &mut Story| story.leader(&QuorumPacket::NewLeader { epoch: Zxid::new(3, 0), config: b"" });
    let too_early = |story: &mut Story| story.leader(&QuorumPacket::UpToDate);
    let wrong_way = |story: &mut Story| story.leader(&QuorumPacket::Ack { zxid: one(5) });
    let garbage = |story: &mut Story| {
        story.learner.receive(MonotonicMs(0), &[0xff; 20]);
        story.drain();
    };
    let unknown = jute::Error::Custom("quorum packet of unknown type -1".to_owned());
    let syncing = "the leader sends its history";
    let entering = "this server makes the history durable";
    let committed = one(5);
    let wrongs: [(LeaveReason, &dyn Fn(&mut Story)); 8] = [
        (LeaveReason::ProposalGap { zxid: one(7), last: one(5) }, &gap),
        (LeaveReason::CommitOutOfOrder { zxid: one(9), committed, last: one(5) }, &foreign_commit),
        (LeaveReason::CommitOutOfOrder { zxid: two(1), committed, last: two(1) }, &early_commit),
        (LeaveReason::NewLeaderOutOfPlace { epoch: two(0), stage: entering }, &twice),
        (LeaveReason::NewLeaderOutOfPlace { epoch: Zxid::new(3, 0), stage: syncing }, &other_epoch),
        (LeaveReason::OutOfPlace { packet: "UPTODATE", stage: syncing }, &too_early),
        (LeaveReason::NotALeadersPacket { packet: "ACK" }, &wrong_way),
        (LeaveReason::NotAPacket(unknown), &garbage),
    ];
    for (why, wrong) in wrongs {
        let mut story = Story::promised(false, one(5));
        story.leader(&QuorumPacket::Diff { zxid: one(5) });
        wrong(&mut story);
        assert_eq!(story.left, Some(why), "{}", story.text);
    }
}

#[test]
fn refusals_and_silence_end_it() {
    let mut story = Story::new(false, one(5));
    story.text.clear();
    for attempt in 1..5 {
        story.does("refused", |learner, now_ms| learner.link_gone(now_ms, LinkEnd::NotConnected("refused".to_owned())));
        story.now_ms = MonotonicMs(attempt * 100);
        story.does("tick", |learner, now_ms| learner.tick(now_ms));
    }
    story.does("refused", |learner, now_ms| learner.link_gone(now_ms, LinkEnd::NotConnected("refused".to_owned())));
    assert!(
        story.text.ends_with("> Leave(\"5 attempts to connect failed, the last one: refused\")\n"),
        "{}",
        story.text
    );

    let mut story = Story::promised(false, one(5));
    assert_eq!(story.learner.deadline_ms(), Some(MonotonicMs(10 * TICK_MS)));
    story.now_ms = MonotonicMs(10 * TICK_MS);
    story.does("tick", |learner, now_ms| learner.tick(now_ms));
    story.is("
        < tick
        > Leave(\"nothing heard for 10000 ms\")
    ");
}

/// A follower whose history can't be cut: it comes again to the same leader, and keeps what it has until it has everything.
fn comes_again(accepted_epoch: u32, claim: Option<Zxid>) -> Story {
    let start = LearnerStart {
        leader: ServerId(1),
        accepted_epoch: Epoch(accepted_epoch),
        current_epoch: Epoch(1),
        last: Some(one(9)),
        membership_version: Zxid::ZERO,
        everything: Some(Everything { epoch: Epoch(2), at_least: one(5), claim }),
    };
    let mut story = Story::begin(false, start);
    story.does("connected", |learner, now_ms| learner.connected(now_ms));
    story.text.clear();
    story
}

const NOTHING: Option<Zxid> = Some(Zxid::ZERO);
const UNKNOWN: Option<Zxid> = None;

#[test]
fn who_can_not_go_back_asks_for_everything() {
    let mut story = Story::promised(false, one(9));
    story.leader(&QuorumPacket::Trunc { zxid: one(5) });
    story.does("nothing leads back", |learner, now_ms| learner.truncated(now_ms, one(9)));
    story.is("
        < Trunc { zxid: Zxid(4294967301) }
        > log: the leader has nothing after 0x100000005 (TRUNC); cutting the log that ends at 0x100000009
        > Truncate(Zxid(4294967301))
        < nothing leads back
        > ComeAgain(Everything { epoch: Epoch(2), at_least: Zxid(4294967301), claim: Some(Zxid(0)) })
        > Leave(\"nothing here leads back to 0x100000005, where the leader demands to go; this server asks the leader for all of its history\")
    ");

    let mut story = comes_again(2, NOTHING);
    story.leader(&QuorumPacket::LeaderInfo { epoch: two(0) });
    story.leader(&QuorumPacket::Snap { zxid: one(5) });
    story.does("received", |learner, _| learner.snapshot_received(one(5)));
    story.does("installed", |learner, now_ms| learner.snapshot_installed(now_ms, one(5)));
    story.leader(&NEW_LEADER);
    story.is("
        < LEADERINFO 0x200000000
        > to leader: ACKEPOCH 0x0 None
        > CatchingUp
        < Snap { zxid: Zxid(4294967301) }
        > log: the leader sends a snapshot at 0x100000005 (SNAP); this server is at 0x100000009
        < received
        > InstallSnapshot(Zxid(4294967301))
        < installed
        < NEWLEADER 0x200000000
        > CurrentEpoch(Epoch(2))
    ");
}

/// What this server has in common with the leader may count, so it is not given up for less; and of what it says that it has nothing follows.
#[test]
fn who_asked_for_everything_takes_nothing_less() {
    let less = [
        QuorumPacket::Diff { zxid: one(5) },
        QuorumPacket::Trunc { zxid: one(5) },
        QuorumPacket::Snap { zxid: one(4) },
    ];
    for packet in less {
        let mut story = comes_again(2, NOTHING);
        story.leader(&QuorumPacket::LeaderInfo { epoch: two(0) });
        story.leader(&packet);
        let again = "> ComeAgain(Everything { epoch: Epoch(2), at_least: Zxid(4294967301), claim: None })\n> Leave";
        assert!(story.text.contains(again), "{}", story.text);

        let mut story = comes_again(2, UNKNOWN);
        story.leader(&QuorumPacket::LeaderInfo { epoch: two(0) });
        assert!(story.text.contains("to leader: ACKEPOCH nothing None"), "{}", story.text);
        story.leader(&packet);
        assert!(!story.text.contains("ComeAgain") && story.text.contains("> Leave"), "{}", story.text);
    }
}

/// The history counts for another epoch, also under the same leader.
#[test]
fn a_leader_of_another_epoch_hears_the_truth() {
    for (accepted, epoch) in [(1, 2), (2, 3)] {
        let mut story = comes_again(accepted, NOTHING);
        story.leader(&QuorumPacket::LeaderInfo { epoch: Zxid::new(epoch, 0) });
        story.does("accepted epoch stored", |learner, _| learner.accepted_epoch_stored(Epoch(epoch)));
        assert!(story.text.contains("to leader: ACKEPOCH 0x100000009 Some(1)"), "{}", story.text);
        story.leader(&QuorumPacket::Diff { zxid: one(9) });
        story.leader(&QuorumPacket::NewLeader { epoch: Zxid::new(epoch, 0), config: b"" });
        assert!(story.text.contains("CurrentEpoch"), "{}", story.text);
    }
}
