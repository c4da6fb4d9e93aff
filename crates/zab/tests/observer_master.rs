//! A follower that feeds observers, as transcripts: `<` is what happens to it, `>` what it does. It is server 2, in epoch 2; its history is on disk
//! up to 1:5, and in memory from 1:6 to 1:9 and from 2:1 to 2:3, all of it committed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write;

use rookeeper_proto::quorum::{ForwardedRequest, LearnerInfo, PROTOCOL_VERSION, QuorumPacket, Touch};
use rookeeper_proto::{Epoch, MonotonicMs, OpCode, ServerId, SessionId, Zxid};
use rookeeper_zab::observer_master::{ObserverMaster, ObserverMasterOutput, ObserverMasterSettings, Source};
use rookeeper_zab::{History, LinkEnd, LinkId, LinkOutput, Membership, Record, SyncPlan};

const TICK_MS: i64 = 1000;

fn zxid(epoch: u32, counter: u32) -> Zxid {
    Zxid::new(epoch, counter)
}

fn settings() -> ObserverMasterSettings {
    ObserverMasterSettings {
        me: ServerId(2),
        tick_ms: TICK_MS,
        init_limit_ticks: 10,
        sync_limit_ticks: 5,
        force_snapshot_sync: false,
        max_concurrent_snap_syncs: 10,
        max_concurrent_diff_syncs: 100,
        size_limit_bytes: 1 << 20,
    }
}

struct Story {
    master: ObserverMaster,
    history: History,
    membership: Membership,
    now_ms: MonotonicMs,
    text: String,
}

impl Story {
    fn new() -> Story {
        Story::with(settings())
    }

    fn with(settings: ObserverMasterSettings) -> Story {
        let mut history = History::new(zxid(1, 5), 500);
        for zxid in (6..=9).map(|counter| zxid(1, counter)).chain((1..=3).map(|counter| zxid(2, counter))) {
            history.push(Record::new(zxid, b"body")).unwrap();
        }
        history.commit(zxid(2, 3));
        history.synced(zxid(2, 3));
        let membership = Membership::parse_text("server.1=a:1:2:participant\nversion=7", false).unwrap();
        let master = ObserverMaster::new(settings, Epoch(2), history.committed(), MonotonicMs(0));
        Story { master, history, membership, now_ms: MonotonicMs(0), text: String::new() }
    }

    fn happens(&mut self, what: &str, call: impl FnOnce(&mut ObserverMaster, MonotonicMs, Source<'_>)) {
        writeln!(self.text, "< {what}").unwrap();
        let source = Source { history: &self.history, membership: &self.membership };
        call(&mut self.master, self.now_ms, source);
        while let Some(output) = self.master.poll() {
            writeln!(self.text, "> {}", shown(output)).unwrap();
        }
    }

    fn says(&mut self, link: u64, packet: &QuorumPacket<'_>) {
        let mut bytes = Vec::new();
        packet.append(&mut bytes);
        self.happens(&format!("#{link}: {}", packet.name()), |master, now_ms, source| {
            master.receive(now_ms, source, LinkId(link), &bytes);
        });
    }

    /// Up to its history, of which it says that it ends there.
    fn comes(&mut self, link: u64, server: i64, last: Option<Zxid>) {
        self.happens(&format!("#{link} connects"), |master, now_ms, _| {
            master.connected(now_ms, LinkId(link), format!("10.0.0.{server}"));
        });
        self.says(link, &QuorumPacket::ObserverInfo { accepted_epoch: zxid(2, 0), info: info(server) });
        self.says(link, &QuorumPacket::AckEpoch { last_logged: last, current_epoch: None });
    }

    fn acks(&mut self, link: u64, zxid: Zxid) {
        self.says(link, &QuorumPacket::Ack { zxid });
    }

    /// Link 1 is up to date; the transcript begins here.
    fn with_observer(mut self) -> Story {
        self.comes(1, 8, Some(zxid(2, 3)));
        self.acks(1, zxid(2, 0));
        self.text.clear();
        self
    }

    /// The leader proposes up to here.
    fn has(&mut self, zxid: Zxid) {
        while self.history.last() < zxid {
            let next = self.history.last().next().unwrap();
            self.history.push(Record::new(next, b"body")).unwrap();
        }
    }

    fn hears_commit(&mut self, zxid: Zxid, activates: Option<i64>) {
        self.has(zxid);
        self.happens(&format!("{zxid:?} is committed"), |master, _, source| {
            master.inform(source.history, zxid, activates.map(ServerId));
        });
        self.history.commit(zxid);
        self.happens("the history knows", |master, _, source| master.grown(source));
    }

    fn later(&mut self, ms: i64) {
        self.now_ms += ms;
        self.happens(&format!("{ms} ms later"), |master, now_ms, _| master.tick(now_ms));
    }

    fn is(&mut self, expected: &str) {
        let expected: String = expected.trim().lines().map(|line| format!("{}\n", line.trim())).collect();
        assert!(self.text == expected, "got:\n{}\nexpected:\n{expected}", self.text);
        self.text.clear();
    }

    fn has_line(&self, part: &str) -> bool {
        self.text.lines().any(|line| line.contains(part))
    }
}

fn info(server: i64) -> LearnerInfo {
    LearnerInfo { server: ServerId(server), protocol_version: PROTOCOL_VERSION, config_version: Zxid(7) }
}

fn place(zxid: Zxid) -> String {
    format!("{}:{}", zxid.epoch().0, zxid.counter())
}

fn shown(output: ObserverMasterOutput) -> String {
    match output {
        ObserverMasterOutput::ToObserver(link, LinkOutput::Send(bytes)) => {
            let mut rest = &bytes[..];
            let mut packets = Vec::new();
            while let Some((packet, length)) = QuorumPacket::split(rest, 1 << 20).unwrap() {
                packets.push(match packet {
                    QuorumPacket::Proposal { zxid, .. } => format!("PROPOSAL {}", place(zxid)),
                    QuorumPacket::Commit { zxid } => format!("COMMIT {}", place(zxid)),
                    QuorumPacket::Inform { zxid, .. } => format!("INFORM {}", place(zxid)),
                    QuorumPacket::InformAndActivate { zxid, designated_leader, .. } => {
                        format!("INFORMANDACTIVATE {} under {designated_leader}", place(zxid))
                    }
                    QuorumPacket::Diff { zxid } => format!("DIFF {}", place(zxid)),
                    QuorumPacket::Trunc { zxid } => format!("TRUNC {}", place(zxid)),
                    QuorumPacket::LeaderInfo { epoch } => format!("LEADERINFO {}", place(epoch)),
                    QuorumPacket::NewLeader { epoch, .. } => format!("NEWLEADER {}", place(epoch)),
                    QuorumPacket::Ping { zxid, .. } => format!("PING {}", place(zxid)),
                    other => other.name().to_owned(),
                });
                rest = &rest[length..];
            }
            format!("{link} {}", packets.join(", "))
        }
        ObserverMasterOutput::ToObserver(link, LinkOutput::Drop(why)) => format!("{link} drop: {why}"),
        ObserverMasterOutput::ToObserver(link, other) => format!("{link} {other:?}"),
        ObserverMasterOutput::Log(event) => format!("log: {event}"),
        ObserverMasterOutput::Request(request) => {
            format!("{} asks: {} {} {}", request.link, request.op, request.session, request.cxid)
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn an_observer_that_is_behind_gets_what_it_lacks_and_then_what_is_committed() {
    let mut story = Story::new();
    story.comes(1, 8, Some(zxid(1, 8)));
    story.is("
        < #1 connects
        < #1: OBSERVERINFO
        > #1 LEADERINFO 2:0
        < #1: ACKEPOCH
        > log: observer 8 (10.0.0.8) is at 0x100000008: sending what it lacks up to 0x200000003 (DIFF)
        > SyncBegan { by_snapshot: false, under_way: 1 }
        > #1 DIFF 2:3
        > #1 PROPOSAL 1:9
        > #1 COMMIT 1:9
        > #1 PROPOSAL 2:1
        > #1 COMMIT 2:1
        > #1 PROPOSAL 2:2
        > #1 COMMIT 2:2
        > #1 PROPOSAL 2:3
        > #1 COMMIT 2:3
        > #1 NEWLEADER 2:0
    ");
    // What is only proposed here is not for observers; what is committed comes at once, also before the end of the beginning.
    story.has(zxid(2, 5));
    story.hears_commit(zxid(2, 4), None);
    story.acks(1, zxid(2, 0));
    story.acks(1, zxid(2, 0));
    story.hears_commit(zxid(2, 6), Some(1));
    story.is("
        < Zxid(8589934596) is committed
        > #1 INFORM 2:4
        < the history knows
        < #1: ACK
        > SyncEnded { by_snapshot: false, under_way: 0 }
        > #1 UPTODATE
        > Synced
        < #1: ACK
        < Zxid(8589934598) is committed
        > #1 INFORM 2:5, INFORMANDACTIVATE 2:6 under 1
        < the history knows
    ");
}

/// The original would cut what this follower does not know yet to be committed.
#[test]
fn an_observer_that_is_ahead_waits_until_the_follower_knows_as_much() {
    let mut story = Story::new();
    story.has(zxid(2, 4));
    story.comes(1, 8, Some(zxid(2, 5)));
    story.text.clear();
    story.hears_commit(zxid(2, 4), None);
    story.is("
        < Zxid(8589934596) is committed
        < the history knows
    ");
    story.hears_commit(zxid(2, 5), None);
    story.is("
        < Zxid(8589934597) is committed
        < the history knows
        > log: observer 8 (10.0.0.8) is at 0x200000005: sending what it lacks up to 0x200000005 (DIFF)
        > SyncBegan { by_snapshot: false, under_way: 1 }
        > #1 DIFF 2:5
        > #1 NEWLEADER 2:0
    ");
    story.comes(2, 9, Some(zxid(2, 9)));
    story.text.clear();
    for _ in 0..20 {
        story.later(TICK_MS / 2);
    }
    assert!(story.has_line("> #2 drop: nothing heard for 10000 ms"), "{}", story.text);
}

#[test]
fn what_an_observer_has_of_an_older_epoch_alone_is_cut_and_of_a_newer_one_refused() {
    for (last, expected) in [
        // As where the leader itself brings up a learner: what it shares with that one may end before memory begins.
        (zxid(1, 12), "#1 StreamSnapshot"),
        (zxid(2, 0), "#1 DIFF 2:3"),
        (zxid(1, 4), "#1 PlanSync"),
        (zxid(3, 1), "#1 drop: its history ends at 0x300000001"),
    ] {
        let mut story = Story::new();
        story.comes(1, 8, Some(last));
        assert!(story.has_line(expected), "{last}: {}", story.text);
    }
    let mut story = Story::new();
    story.comes(1, 8, None);
    assert!(story.has_line("#1 StreamSnapshot"), "{}", story.text);
    // Of the epoch that has just begun nothing is committed yet.
    for (last, expected) in [
        (zxid(2, 7), "#1 TRUNC 2:3"),
        // Its beginning is no reason for a snapshot.
        (zxid(3, 0), "#1 DIFF 2:3"),
        (zxid(4, 0), "#1 drop: its history ends at 0x400000000"),
    ] {
        let mut story = Story::new();
        story.master = ObserverMaster::new(settings(), Epoch(3), zxid(2, 3), MonotonicMs(0));
        story.comes(1, 8, Some(last));
        assert!(story.has_line(expected), "{last}: {}", story.text);
    }
}

#[test]
fn the_log_brings_up_who_is_behind_memory() {
    let mut story = Story::new();
    story.comes(1, 8, Some(zxid(1, 4)));
    story.text.clear();
    story.happens("the log can do it", |master, _, source| master.sync_planned(source, LinkId(1), SyncPlan::Log));
    assert!(story.has_line("#1 StreamLog { after: Zxid(4294967300), before: Zxid(4294967302) }"), "{}", story.text);
    assert!(story.has_line("#1 PROPOSAL 1:6") && story.has_line("#1 NEWLEADER 2:0"), "{}", story.text);
}

#[test]
fn only_observers_are_fed_and_only_so_many_are_brought_up_at_once() {
    let mut story = Story::with(ObserverMasterSettings { max_concurrent_diff_syncs: 1, ..settings() });
    story.happens("#1 connects", |master, now_ms, _| master.connected(now_ms, LinkId(1), "10.0.0.8".to_owned()));
    story.says(1, &QuorumPacket::FollowerInfo { accepted_epoch: zxid(2, 0), info: info(8) });
    assert!(story.has_line("#1 drop: FOLLOWERINFO is out of place"), "{}", story.text);
    story.comes(2, 8, Some(zxid(2, 3)));
    story.comes(3, 9, Some(zxid(2, 3)));
    assert!(story.has_line("#2 DIFF 2:3") && story.has_line("#3 drop: too many learners"), "{}", story.text);
    story.acks(2, zxid(2, 0));
    assert_eq!((story.master.counts().links, story.master.counts().synced), (1, 1));
    story.acks(2, zxid(2, 3));
    assert!(story.has_line("#2 drop: ACK is out of place"), "observers acknowledge no transactions: {}", story.text);
    story.comes(4, 2, Some(zxid(2, 3)));
    assert!(story.has_line("#4 drop: it says that it is server 2, which is this one"), "{}", story.text);
}

#[test]
fn requests_and_questions_go_to_the_leader_and_answers_back() {
    let mut story = Story::new().with_observer();
    let (session, body) = (SessionId(5), &b"body"[..]);
    let request = |op: OpCode, cxid| {
        QuorumPacket::Request(ForwardedRequest { session, cxid, op: op.number(), body, identities: None })
    };
    story.says(1, &request(OpCode::SetData, 3));
    story.says(1, &request(OpCode::Sync, 4));
    story.says(1, &QuorumPacket::Revalidate { session, timeout_ms: 4000 });
    story.says(1, &QuorumPacket::Ping { zxid: zxid(2, 3), touches: Some(vec![Touch { session, timeout_ms: 4000 }]) });
    story.happens("sync", |master, _, _| master.answer_sync(LinkId(1)));
    story.happens("the session lives", |master, _, _| master.revalidated(LinkId(1), session, true));
    story.is("
        < #1: REQUEST
        > #1 asks: 5 0x5 3
        < #1: REQUEST
        > #1 asks: 9 0x5 4
        < #1: REVALIDATE
        > Revalidate { link: LinkId(1), session: SessionId(5), timeout_ms: 4000 }
        < #1: PING
        > Touches([Touch { session: SessionId(5), timeout_ms: 4000 }])
        < sync
        > #1 SYNC
        < the session lives
        > #1 REVALIDATE
    ");
    story.happens("#1 is lost", |master, _, _| master.gone(LinkId(1), LinkEnd::Closed));
    story.happens("sync", |master, _, _| master.answer_sync(LinkId(1)));
    story.is("
        < #1 is lost
        > log: lost observer 8 (10.0.0.8): closed by the other side
        > Gone { link: LinkId(1) }
        < sync
    ");
}

#[test]
fn observers_are_pinged_and_the_silent_are_dropped() {
    let mut story = Story::new().with_observer();
    story.later(TICK_MS / 2);
    story.is("
        < 500 ms later
        > #1 PING 2:3
    ");
    for _ in 0..3 {
        story.later(TICK_MS);
        story.says(1, &QuorumPacket::Ping { zxid: zxid(2, 3), touches: None });
    }
    assert_eq!(story.master.counts().synced, 1);
    // What stood still was this server.
    story.later(100 * TICK_MS);
    assert_eq!(story.master.counts().synced, 1);
    story.text.clear();
    for _ in 0..10 {
        story.later(TICK_MS / 2);
    }
    assert!(story.has_line("#1 drop: nothing heard for 5"), "{}", story.text);
}

/// An answer to a ping says that everything before that ping is read.
#[test]
fn an_observer_that_does_not_read_what_it_is_sent_is_dropped() {
    let mut story = Story::with(ObserverMasterSettings { size_limit_bytes: 400, ..settings() }).with_observer();
    let mut last = 3;
    let mut next = || {
        last += 1;
        zxid(2, last)
    };
    for _ in 0..100 {
        let committed = next();
        story.hears_commit(committed, None);
        if story.has_line("PING") {
            story.says(1, &QuorumPacket::Ping { zxid: committed, touches: None });
            story.text.clear();
        }
    }
    assert_eq!(story.master.counts().synced, 1, "it is pinged in time, and answers");
    // Extra answers, which tell of sessions only, say nothing.
    for _ in 0..100 {
        story.hears_commit(next(), None);
        story.says(1, &QuorumPacket::Ping { zxid: Zxid::ZERO, touches: None });
    }
    assert!(story.has_line("#1 drop: it has not read 400 bytes"), "{}", story.text);
    let informed = story.text.lines().filter(|line| line.contains("INFORM")).count();
    assert!((5..20).contains(&informed), "{informed}");
}
