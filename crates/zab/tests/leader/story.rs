//! A leader with its history, and everything it asks for as text: `<` is what happens to it, `>` what it does. Links are shown as `#1`,
//! zxids as epoch and counter, `2:5`. The history is applied when it says so, as a server does.

use std::fmt::Write;

use rookeeper_proto::quorum::{ForwardedRequest, LearnerInfo, PROTOCOL_VERSION, QuorumPacket, Touch};
use rookeeper_proto::{Epoch, MonotonicMs, ServerId, SessionId, Zxid};
use rookeeper_zab::leader::{Leader, LeaderOutput, LeaderSettings, Rollover, Start};
use rookeeper_zab::{History, LinkEnd, LinkId, LinkOutput, Membership, Memberships, Record, SyncPlan};

pub const TICK_MS: i64 = 1000;
pub const INIT_TICKS: u32 = 10;
pub const SYNC_TICKS: u32 = 5;

pub fn zxid(epoch: impl Into<Epoch>, counter: u32) -> Zxid {
    Zxid::new(epoch, counter)
}

/// Servers 1 to `voters`, and observers after them.
pub fn membership(voters: i64, observers: i64, version: i64) -> Membership {
    let mut text = String::new();
    for id in 1..=voters + observers {
        let role = if id <= voters { "participant" } else { "observer" };
        writeln!(text, "server.{id}=s{id}:1:2:{role}").unwrap();
    }
    Membership::parse_text(format!("{text}version={version:x}"), false).unwrap()
}

/// These servers vote, nobody else is there.
pub fn voters(ids: &[i64], version: Zxid) -> Membership {
    let lines: String = ids.iter().map(|id| format!("server.{id}=s{id}:1:2:participant\n")).collect();
    Membership::parse_text(format!("{lines}version={version:x}"), false).unwrap()
}

pub fn settings() -> LeaderSettings {
    LeaderSettings {
        me: ServerId(3),
        tick_ms: TICK_MS,
        init_limit_ticks: INIT_TICKS,
        sync_limit_ticks: SYNC_TICKS,
        force_snapshot_sync: false,
        max_concurrent_snap_syncs: 10,
        max_concurrent_diff_syncs: 100,
        max_time_to_wait_for_epoch_ms: None,
        reconfig_enabled: true,
        rollover: Rollover::default(),
        has_oracle: false,
    }
}

/// On disk up to 1:5, and 1:6 to 1:9 in memory.
pub fn history() -> History {
    let mut history = History::new(zxid(1, 5), 500);
    for counter in 6..=9 {
        history.push(Record::new(zxid(1, counter), b"old")).unwrap();
    }
    history.commit(zxid(1, 9));
    history.synced(zxid(1, 9));
    history
}

pub struct Story {
    pub leader: Leader,
    pub history: History,
    pub now_ms: MonotonicMs,
    pub text: String,
    pub outputs: Vec<LeaderOutput>,
    /// Where a server would answer, this does, unless it is told to wait.
    pub applies: bool,
}

impl Story {
    pub fn new(settings: LeaderSettings, memberships: Memberships, history: History) -> Story {
        let last = history.last();
        let start = Start { accepted_epoch: last.epoch(), current_epoch: last.epoch(), history_last: last };
        let leader = Leader::new(settings, memberships, start, MonotonicMs(0));
        let mut story =
            Story { leader, history, now_ms: MonotonicMs(0), text: String::new(), outputs: Vec::new(), applies: true };
        story.drain();
        story
    }

    /// Server 3 of three, about to lead epoch 2.
    pub fn of_three() -> Story {
        Story::new(settings(), Memberships::settled(membership(3, 1, 7)), history())
    }

    /// The same, established with server 1 as its follower on link 1; the transcript begins here.
    pub fn established() -> Story {
        let mut story = Story::of_three();
        story.establish();
        story
    }

    /// A follower on link 1 that is where this server is, and both disks.
    pub fn establish(&mut self) {
        let last = self.history.last();
        let epoch = last.epoch();
        self.connects(1);
        self.introduces(1, 1, epoch);
        self.stores_accepted();
        self.promises(1, Some(epoch.0), last);
        self.stores_current();
        let new = self.leader.epoch();
        self.acks(1, zxid(new, 0));
        self.acks(1, zxid(new, 0));
        self.text.clear();
        self.outputs.clear();
    }

    /// A follower that goes the whole way to being synced.
    pub fn joins(&mut self, link: u64, server: i64, last: Zxid) {
        self.connects(link);
        self.introduces(link, server, self.leader.epoch());
        self.promises(link, None, last);
        self.acks(link, zxid(self.leader.epoch(), 0));
    }

    fn happens(&mut self, what: &str, call: impl FnOnce(&mut Leader, MonotonicMs, &History)) {
        writeln!(self.text, "< {what}").unwrap();
        call(&mut self.leader, self.now_ms, &self.history);
        self.drain();
    }

    pub fn receives(&mut self, link: u64, packet: &QuorumPacket<'_>) {
        self.happens(&format!("#{link} {}", show(packet)), |leader, now_ms, history| {
            leader.receive(now_ms, history, LinkId(link), packet.clone());
        });
    }

    pub fn connects(&mut self, link: u64) {
        self.happens(&format!("#{link} connects"), |leader, now_ms, _| {
            leader.learner_connected(now_ms, LinkId(link), format!("host{link}"));
        });
    }

    pub fn leaves(&mut self, link: u64) {
        self.happens(&format!("#{link} is gone"), |leader, now_ms, history| {
            leader.learner_gone(now_ms, history, LinkId(link), LinkEnd::Closed);
        });
    }

    pub fn info(server: i64) -> LearnerInfo {
        LearnerInfo { server: ServerId(server), protocol_version: PROTOCOL_VERSION, config_version: Zxid::ZERO }
    }

    pub fn introduces(&mut self, link: u64, server: i64, accepted: impl Into<Epoch>) {
        let accepted_epoch = zxid(accepted, 0);
        self.receives(link, &QuorumPacket::FollowerInfo { accepted_epoch, info: Story::info(server) });
    }

    pub fn introduces_observer(&mut self, link: u64, server: i64, accepted: impl Into<Epoch>) {
        let accepted_epoch = zxid(accepted, 0);
        self.receives(link, &QuorumPacket::ObserverInfo { accepted_epoch, info: Story::info(server) });
    }

    /// `last` is `None` where the server has lost its database.
    pub fn promises(&mut self, link: u64, current_epoch: Option<u32>, last: impl Into<Option<Zxid>>) {
        let current_epoch = current_epoch.map(Epoch);
        self.receives(link, &QuorumPacket::AckEpoch { last_logged: last.into(), current_epoch });
    }

    pub fn acks(&mut self, link: u64, zxid: Zxid) {
        self.receives(link, &QuorumPacket::Ack { zxid });
    }

    pub fn echoes(&mut self, link: u64, zxid: Zxid) {
        self.receives(link, &QuorumPacket::Ping { zxid, touches: Some(Vec::new()) });
    }

    pub fn touches(&mut self, link: u64, zxid: Zxid, session: i64) {
        let touches = Some(vec![Touch { session: SessionId(session), timeout_ms: 4000 }]);
        self.receives(link, &QuorumPacket::Ping { zxid, touches });
    }

    pub fn requests(&mut self, link: u64, op: i32) {
        let request = ForwardedRequest { session: SessionId(0xa), cxid: 7, op, body: b"body", identities: None };
        self.receives(link, &QuorumPacket::Request(request));
    }

    pub fn stores_accepted(&mut self) {
        let epoch = self.leader.epoch();
        self.happens("acceptedEpoch is stored", |leader, now_ms, _| leader.accepted_epoch_stored(now_ms, epoch));
    }

    pub fn stores_current(&mut self) {
        let epoch = self.leader.epoch();
        self.happens("currentEpoch is stored", |leader, now_ms, _| leader.current_epoch_stored(now_ms, epoch));
    }

    pub fn plans(&mut self, link: u64, plan: SyncPlan) {
        self.happens(&format!("#{link} plan {plan:?}"), |leader, now_ms, history| {
            leader.sync_planned(now_ms, history, LinkId(link), plan);
        });
    }

    /// A write of this server or a learner.
    pub fn writes(&mut self) -> Zxid {
        let record = Record::new(self.leader.next_zxid(), b"new");
        let zxid = record.zxid;
        writeln!(self.text, "< write {}", at(zxid)).unwrap();
        self.leader.propose(self.now_ms, &record);
        self.history.push(record).unwrap();
        self.drain();
        zxid
    }

    pub fn reconfigures(&mut self, membership: impl FnOnce(Zxid) -> Membership) -> Zxid {
        let record = Record::new(self.leader.next_zxid(), b"reconfig");
        let zxid = record.zxid;
        writeln!(self.text, "< reconfiguration {}", at(zxid)).unwrap();
        self.leader.propose_reconfig(self.now_ms, &record, membership(zxid));
        self.history.push(record).unwrap();
        self.drain();
        zxid
    }

    /// This server's own disk.
    pub fn syncs(&mut self, zxid: Zxid) {
        self.history.synced(zxid);
        self.happens(&format!("own disk has {}", at(zxid)), |leader, now_ms, _| leader.synced(now_ms, zxid));
    }

    /// A write that is committed by server 1 on link 1 and this one.
    pub fn commits_one(&mut self) -> Zxid {
        let zxid = self.writes();
        self.syncs(zxid);
        self.acks(1, zxid);
        zxid
    }

    pub fn confirms(&mut self) -> u64 {
        writeln!(self.text, "< confirm").unwrap();
        let ticket = self.leader.confirm(self.now_ms);
        writeln!(self.text, "> ticket {ticket}").unwrap();
        self.drain();
        ticket
    }

    /// Time passes, tick by tick as asked for; `alive` links answer something at each.
    pub fn waits(&mut self, ms: i64, alive: &[u64]) {
        let end_ms = self.now_ms + ms;
        while let Some(due_ms) = self.leader.deadline_ms().filter(|due_ms| *due_ms <= end_ms) {
            assert!(due_ms > self.now_ms, "time goes on");
            self.now_ms = due_ms;
            writeln!(self.text, "< {due_ms} ms").unwrap();
            for link in alive {
                let packet = QuorumPacket::Ping { zxid: self.leader.proposed(), touches: None };
                self.leader.receive(due_ms, &self.history, LinkId(*link), packet);
            }
            self.leader.tick(due_ms, &self.history);
            self.drain();
        }
        self.now_ms = end_ms;
    }

    /// One late call instead of many.
    pub fn stands_still(&mut self, ms: i64) {
        self.now_ms += ms;
        writeln!(self.text, "< {} ms", self.now_ms).unwrap();
        self.leader.tick(self.now_ms, &self.history);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.leader.poll() {
            self.tell(&output);
            match &output {
                LeaderOutput::Committed(zxid) if self.applies => self.history.commit(*zxid),
                LeaderOutput::Activate { .. } if self.applies => {
                    self.history.commit(self.history.last());
                    self.leader.activated(self.now_ms, &self.history);
                }
                _ => {}
            }
            self.outputs.push(output);
        }
    }

    fn tell(&mut self, output: &LeaderOutput) {
        let line = match output {
            LeaderOutput::ToLearner(link, LinkOutput::Send(bytes)) => {
                let shown: Vec<String> = packets(bytes).iter().map(show).collect();
                let lead = format!("> to {link}: ");
                // What goes to one link one after another stands in one line.
                let begin = self.text.trim_end().rfind('\n').map_or(0, |end| end + 1);
                if self.text[begin..].starts_with(&lead) {
                    self.text.truncate(self.text.trim_end().len());
                    writeln!(self.text, ", {}", shown.join(", ")).unwrap();
                    return;
                }
                format!("to {link}: {}", shown.join(", "))
            }
            LeaderOutput::ToLearner(link, LinkOutput::PlanSync { after, before }) => {
                format!("{link} plan: log after {} and before {}?", at(*after), at(*before))
            }
            LeaderOutput::ToLearner(link, LinkOutput::StreamLog { after, before }) => {
                format!("{link} stream log after {} and before {}", at(*after), at(*before))
            }
            LeaderOutput::ToLearner(link, LinkOutput::StreamSnapshot) => format!("{link} stream snapshot"),
            LeaderOutput::ToLearner(link, LinkOutput::Drop(why)) => format!("drop {link}: {why}"),
            LeaderOutput::Committed(zxid) => format!("committed {}", at(*zxid)),
            LeaderOutput::Log(event) => format!("log: {event}"),
            LeaderOutput::AcceptedEpoch(epoch) => format!("store acceptedEpoch {epoch}"),
            LeaderOutput::CurrentEpoch(epoch) => format!("store currentEpoch {epoch}"),
            LeaderOutput::Activate { epoch } => format!("activate epoch {epoch}"),
            LeaderOutput::StepDown { why, successor: None } => format!("step down: {why}"),
            LeaderOutput::StepDown { why, successor: Some(server) } => {
                format!("step down for server {server}: {why}")
            }
            LeaderOutput::SyncBegan { by_snapshot, under_way } => {
                format!("sync began, {} {}", under_way, if *by_snapshot { "by snapshot" } else { "by log" })
            }
            LeaderOutput::SyncEnded { by_snapshot, under_way } => {
                format!("sync ended, {} {}", under_way, if *by_snapshot { "by snapshot" } else { "by log" })
            }
            LeaderOutput::LearnerSynced { link, server, observer } => {
                format!("{link} synced: server {server}{}", if *observer { ", observer" } else { "" })
            }
            LeaderOutput::LearnerGone { link } => format!("{link} gone"),
            LeaderOutput::Confirmed(ticket) => format!("confirmed {ticket}"),
            other => format!("{other:?}"),
        };
        writeln!(self.text, "> {line}").unwrap();
    }

    /// Everything sent to a link so far.
    pub fn sent_to(&self, link: u64) -> Vec<QuorumPacket<'_>> {
        let to_link = self.outputs.iter().filter_map(|output| match output {
            LeaderOutput::ToLearner(to, LinkOutput::Send(bytes)) if *to == LinkId(link) => Some(packets(bytes)),
            _ => None,
        });
        to_link.flatten().collect()
    }

    /// What is committed so far, by what it says.
    pub fn committed(&self) -> Vec<Zxid> {
        let committed = self.outputs.iter().filter_map(|output| match output {
            LeaderOutput::Committed(zxid) => Some(*zxid),
            _ => None,
        });
        committed.collect()
    }

    pub fn has(&self, wanted: impl Fn(&LeaderOutput) -> bool) -> bool {
        self.outputs.iter().any(wanted)
    }
}

pub fn packets(mut bytes: &[u8]) -> Vec<QuorumPacket<'_>> {
    let mut packets = Vec::new();
    while let Some((packet, length)) = QuorumPacket::split(bytes, 1 << 20).unwrap() {
        packets.push(packet);
        bytes = &bytes[length..];
    }
    assert!(bytes.is_empty(), "only whole packets are sent");
    packets
}

fn at(zxid: Zxid) -> String {
    if zxid.0 < 0 { zxid.0.to_string() } else { format!("{}:{}", zxid.epoch(), zxid.counter()) }
}

pub fn show(packet: &QuorumPacket<'_>) -> String {
    let body = |record: &[u8]| String::from_utf8_lossy(record).into_owned();
    match packet {
        QuorumPacket::FollowerInfo { accepted_epoch, info } => {
            format!("FOLLOWERINFO server {} accepted {}", info.server, accepted_epoch.epoch())
        }
        QuorumPacket::ObserverInfo { accepted_epoch, info } => {
            format!("OBSERVERINFO server {} accepted {}", info.server, accepted_epoch.epoch())
        }
        QuorumPacket::LeaderInfo { epoch } => format!("LEADERINFO {}", at(*epoch)),
        QuorumPacket::AckEpoch { last_logged, current_epoch } => {
            format!(
                "ACKEPOCH {} last {}",
                current_epoch.map_or("-1".to_owned(), |e| e.to_string()),
                last_logged.map_or("-1".to_owned(), at)
            )
        }
        QuorumPacket::Diff { zxid } => format!("DIFF {}", at(*zxid)),
        QuorumPacket::Trunc { zxid } => format!("TRUNC {}", at(*zxid)),
        QuorumPacket::NewLeader { epoch, config } => {
            let text = String::from_utf8_lossy(config);
            let ids: Vec<&str> = text
                .lines()
                .filter_map(|line| line.strip_prefix("server.")?.split_once('='))
                .map(|(id, _)| id)
                .collect();
            let version = text.lines().last().unwrap_or_default();
            format!("NEWLEADER {} (servers {}, {version})", at(*epoch), ids.join(" "))
        }
        QuorumPacket::UpToDate => "UPTODATE".to_owned(),
        QuorumPacket::Proposal { zxid, record } => format!("PROPOSAL {} {}", at(*zxid), body(record)),
        QuorumPacket::Ack { zxid } => format!("ACK {}", at(*zxid)),
        QuorumPacket::Commit { zxid } => format!("COMMIT {}", at(*zxid)),
        QuorumPacket::CommitAndActivate { zxid, designated_leader } => {
            format!("COMMITANDACTIVATE {} leader {designated_leader}", at(*zxid))
        }
        QuorumPacket::Inform { zxid, record } => format!("INFORM {} {}", at(*zxid), body(record)),
        QuorumPacket::InformAndActivate { zxid, designated_leader, record } => {
            format!("INFORMANDACTIVATE {} leader {designated_leader} {}", at(*zxid), body(record))
        }
        QuorumPacket::Ping { zxid, touches } => match touches.as_deref() {
            None | Some([]) => format!("PING {}", at(*zxid)),
            Some(touches) => format!("PING {} with {} touched", at(*zxid), touches.len()),
        },
        QuorumPacket::Request(request) => format!("REQUEST op {}", request.op),
        other => format!("{other:?}"),
    }
}
