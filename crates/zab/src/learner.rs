//! A learner: from the choice of a leader to serving under it, and to losing it. One value lives for one leader.
//!
//! What always holds here:
//! - nothing leaves before what it promises is durable: the epoch before ACKEPOCH; the leader's history, then the current epoch, before
//!   the ACK of NEWLEADER (ZOOKEEPER-3911, ZOOKEEPER-4646 and ZOOKEEPER-4785 tell what is lost otherwise); a transaction before its ACK,
//!   which also waits for UPTODATE;
//! - transactions are taken without a gap and committed in their order; what the leader sent as committed before it was established is
//!   applied only at UPTODATE, because until then another leader may still decide otherwise;
//! - anything else ends the connection with a reason, and nothing is lost: the next leader says what is history.
//!
//! Counterpart in the original: `Learner`, `Follower`, `Observer`.

use std::collections::VecDeque;

use rookeeper_proto::quorum::{LearnerInfo, PROTOCOL_VERSION, QuorumPacket, Touch};
use rookeeper_proto::{Epoch, MonotonicMs, ServerId, SessionId, Zxid};

use crate::history::{Record, RecordBuffer};
use crate::link::{LinkId, MAX_PACKET_BYTES};
use crate::reasons::{LearnerEvent, LeaveReason, Less, LinkEnd};

/// Packets that arrive while the storage is busy with truncation or a snapshot are kept up to this; a leader that sends more is left.
const MAX_HELD_BYTES: usize = 256 << 20;

/// How a learner deals with its leader.
#[derive(Debug, Clone)]
pub struct LearnerSettings {
    /// This server.
    pub me: ServerId,
    /// Whether it comes to listen only.
    pub observer: bool,
    /// `tickTime`.
    pub tick_ms: i64,
    /// `initLimit`: a leader that is silent for longer before this learner is up to date is left.
    pub init_limit_ticks: u32,
    /// `syncLimit`: the same afterwards.
    pub sync_limit_ticks: u32,
    /// Attempts to connect end after this; after `initLimit` where it is not set.
    pub connect_limit_ticks: Option<u32>,
    /// The pause after an attempt that failed.
    pub connect_retry_ms: i64,
}

/// What this server brings along. All of it is durable.
#[derive(Debug, Clone, Copy)]
pub struct LearnerStart {
    /// Whom it follows.
    pub leader: ServerId,
    /// `acceptedEpoch`: the newest epoch that this server has promised itself to.
    pub accepted_epoch: Epoch,
    /// `currentEpoch`: the last epoch whose history this server has taken over.
    pub current_epoch: Epoch,
    /// The end of its log; `None` where the database is missing that it should have.
    pub last: Option<Zxid>,
    /// The version of its committed membership.
    pub membership_version: Zxid,
    /// Set where this server has been with the same leader before.
    pub everything: Option<Everything>,
}

/// A leader demands that this server cut its history where nothing on its disk leads back to: a snapshot of a leader that nobody followed has
/// taken the place of all that is older. With the leader's snapshot in the place of its own history the server can go on. It asks for that by saying
/// that it has less than it has, which no leader of another epoch must hear: this server's history may count there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Everything {
    /// The epoch of the leader that demanded to cut.
    pub epoch: Epoch,
    /// Where to cut. This server may be counted on for what it shares with the leader up to here, so no snapshot may hold less.
    pub at_least: Zxid,
    /// Where this server says that its history ends. At first that is at the beginning, upon which leaders send a snapshot also while they are not
    /// established, unless their memory reaches back to the beginning; then `None`, that it has no database, upon which they send one as
    /// soon as they are.
    pub claim: Option<Zxid>,
}

/// What a learner wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum LearnerOutput {
    /// Connect to the leader; the link is told with [`Learner::dialing`].
    Dial,
    ToLeader(Vec<u8>),
    /// Make it durable; answered by [`Learner::accepted_epoch_stored`].
    AcceptedEpoch(Epoch),
    /// The epoch is acknowledged: what is missing comes next, up to [`LearnerOutput::Serve`].
    CatchingUp,
    /// The same after everything logged so far; answered by [`Learner::current_epoch_stored`].
    CurrentEpoch(Epoch),
    /// Cut the history behind this; answered by [`Learner::truncated`].
    Truncate(Zxid),
    /// Make the snapshot that was received the only history up to here; answered by [`Learner::snapshot_installed`].
    InstallSnapshot(Zxid),
    /// Append to the history and the log.
    Append(Record),
    /// The membership the leader goes by, as text; in force with [`LearnerOutput::Serve`].
    Membership(Vec<u8>),
    /// The leader is established and everything up to `committed` is history: clients may come.
    Serve {
        committed: Zxid,
    },
    Committed(Zxid),
    /// The same of a reconfiguration, which goes into force with this leader.
    Activate {
        zxid: Zxid,
        designated_leader: ServerId,
    },
    /// Answer with [`Learner::pong`].
    Ping {
        zxid: Zxid,
    },
    Revalidated {
        session: SessionId,
        valid: bool,
    },
    /// The answer to the oldest sync.
    SyncDone,
    /// A line for the log.
    Log(LearnerEvent),
    /// Come to the same leader again with this. [`LearnerOutput::Leave`] is next.
    ComeAgain(Everything),
    /// It is over. The link, if there is one, is to be closed.
    Leave(LeaveReason),
}

/// How far it is, for those who ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LearnerPhase {
    Discovery,
    Synchronization,
    Broadcast,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No link, next attempt at this time.
    Pausing {
        until_ms: MonotonicMs,
    },
    /// An attempt is under way.
    Dialing,
    /// FOLLOWERINFO is sent.
    AwaitingEpoch,
    /// LEADERINFO is here; the disk works. `counts`: our ACKEPOCH is one that counts.
    AcceptingEpoch {
        epoch: Epoch,
        counts: bool,
    },
    /// ACKEPOCH is sent.
    AwaitingSync {
        epoch: Epoch,
    },
    ReceivingSnapshot {
        epoch: Epoch,
        zxid: Zxid,
    },
    /// The disk works; packets are held.
    Rewriting {
        epoch: Epoch,
        zxid: Zxid,
    },
    /// History is arriving.
    Syncing {
        epoch: Epoch,
    },
    /// NEWLEADER is here; the disk works.
    Entering {
        epoch: Epoch,
    },
    AwaitingUpToDate {
        epoch: Epoch,
    },
    Following,
    Over,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Stage::Pausing { .. } | Stage::Dialing => "there is no connection",
            Stage::AwaitingEpoch => "the leader is to tell its epoch",
            Stage::AcceptingEpoch { .. } => "this server stores the epoch",
            Stage::AwaitingSync { .. } => "the leader is to say how it synchronises",
            Stage::ReceivingSnapshot { .. } => "a snapshot arrives",
            Stage::Rewriting { .. } => "this server rewrites its disk",
            Stage::Syncing { .. } => "the leader sends its history",
            Stage::Entering { .. } => "this server makes the history durable",
            Stage::AwaitingUpToDate { .. } => "the leader waits for others",
            Stage::Following => "this server follows",
            Stage::Over => "the connection is over",
        }
    }
}

/// See the head of this file. The caller drains [`Learner::poll`] after every call, and calls [`Learner::tick`] when
/// [`Learner::deadline_ms`] is due.
#[derive(Debug)]
pub struct Learner {
    settings: LearnerSettings,
    start: LearnerStart,
    stage: Stage,
    link: Option<LinkId>,
    outputs: VecDeque<LearnerOutput>,
    /// Packets that wait for the disk.
    held: Vec<u8>,
    /// The end of the history taken so far.
    last: Zxid,
    /// Up to here the leader said that it is committed.
    committed: Zxid,
    durable: Zxid,
    /// Proposed and not committed, oldest first.
    uncommitted: VecDeque<Zxid>,
    /// Logged and not acknowledged, oldest first.
    unacknowledged: VecDeque<Zxid>,
    began_ms: MonotonicMs,
    heard_ms: MonotonicMs,
    refusals: u32,
    /// The record in the making.
    buffer: RecordBuffer,
}

/// Connects that may be refused before another election is better.
const MAX_REFUSALS: u32 = 5;

impl Learner {
    /// Begins to follow, after an election that another server has won.
    pub fn new(settings: LearnerSettings, start: LearnerStart, now_ms: MonotonicMs) -> Learner {
        Learner {
            settings,
            stage: Stage::Dialing,
            link: None,
            outputs: VecDeque::from([LearnerOutput::Dial]),
            held: Vec::new(),
            last: start.last.unwrap_or_default(),
            committed: Zxid::ZERO,
            durable: start.last.unwrap_or_default(),
            uncommitted: VecDeque::new(),
            unacknowledged: VecDeque::new(),
            began_ms: now_ms,
            heard_ms: now_ms,
            refusals: 0,
            buffer: RecordBuffer::default(),
            start,
        }
    }

    /// Whom it follows.
    pub fn leader(&self) -> ServerId {
        self.start.leader
    }

    /// How far it is.
    pub fn phase(&self) -> LearnerPhase {
        match self.stage {
            Stage::Following => LearnerPhase::Broadcast,
            Stage::Pausing { .. }
            | Stage::Dialing
            | Stage::AwaitingEpoch
            | Stage::AcceptingEpoch { .. }
            | Stage::Over => LearnerPhase::Discovery,
            _ => LearnerPhase::Synchronization,
        }
    }

    /// The link that was dialed, connected or not.
    pub fn link(&self) -> Option<LinkId> {
        self.link
    }

    /// The next effect. To be drained after every call.
    pub fn poll(&mut self) -> Option<LearnerOutput> {
        self.outputs.pop_front()
    }

    /// When [`Learner::tick`] has something to do.
    pub fn deadline_ms(&self) -> Option<MonotonicMs> {
        match self.stage {
            Stage::Over => None,
            Stage::Pausing { until_ms } => [Some(until_ms), self.give_up_ms()].into_iter().flatten().min(),
            _ => self.give_up_ms(),
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: MonotonicMs) {
        if self.stage == Stage::Over {
            return;
        }
        if self.give_up_ms().is_some_and(|due_ms| due_ms <= now_ms) {
            let silent_ms = now_ms - self.heard_ms;
            match self.stage {
                Stage::Pausing { .. } | Stage::Dialing => {
                    self.leave(LeaveReason::NoConnection { waited_ms: now_ms - self.began_ms });
                }
                _ => self.leave(LeaveReason::Silent { silent_ms }),
            }
            return;
        }
        if let Stage::Pausing { until_ms } = self.stage
            && now_ms >= until_ms
        {
            self.stage = Stage::Dialing;
            self.outputs.push_back(LearnerOutput::Dial);
        }
    }

    /// When waiting is over. `None` while the disk works: then it is not the leader who is late.
    fn give_up_ms(&self) -> Option<MonotonicMs> {
        let settings = &self.settings;
        let ticks = |count: u32| i64::from(count) * settings.tick_ms;
        match self.stage {
            Stage::Pausing { .. } | Stage::Dialing => {
                Some(self.began_ms + ticks(settings.connect_limit_ticks.unwrap_or(settings.init_limit_ticks)))
            }
            Stage::AwaitingUpToDate { .. } | Stage::Following => Some(self.heard_ms + ticks(settings.sync_limit_ticks)),
            Stage::AcceptingEpoch { .. } | Stage::Rewriting { .. } | Stage::Entering { .. } => None,
            _ => Some(self.heard_ms + ticks(settings.init_limit_ticks)),
        }
    }

    /// The attempt asked for goes by this link.
    pub fn dialing(&mut self, link: LinkId) {
        self.link = Some(link);
    }

    /// The attempt asked for succeeded.
    pub fn connected(&mut self, now_ms: MonotonicMs) {
        if self.stage != Stage::Dialing {
            return;
        }
        self.heard_ms = now_ms;
        self.stage = Stage::AwaitingEpoch;
        let info = LearnerInfo {
            server: self.settings.me,
            protocol_version: PROTOCOL_VERSION,
            config_version: self.start.membership_version,
        };
        let accepted_epoch = self.start.accepted_epoch.beginning();
        self.send(&match self.settings.observer {
            true => QuorumPacket::ObserverInfo { accepted_epoch, info },
            false => QuorumPacket::FollowerInfo { accepted_epoch, info },
        });
    }

    /// Puts the attempt off that was asked for. [`LearnerOutput::Dial`] comes again then, and what may be waited for a connection counts from there.
    pub fn put_off(&mut self, now_ms: MonotonicMs, wait_ms: i64) {
        if self.stage == Stage::Dialing && self.link.is_none() {
            self.began_ms = now_ms + wait_ms;
            self.stage = Stage::Pausing { until_ms: self.began_ms };
        }
    }

    /// Whether another attempt comes after a pause.
    pub fn dials_again(&self) -> bool {
        matches!(self.stage, Stage::Pausing { .. })
    }

    /// The link ended, or the attempt failed.
    pub fn link_gone(&mut self, now_ms: MonotonicMs, why: LinkEnd) {
        self.link = None;
        match self.stage {
            Stage::Dialing => {
                self.refusals += 1;
                if self.refusals >= MAX_REFUSALS {
                    self.leave(LeaveReason::Unreachable { attempts: MAX_REFUSALS, last: why });
                } else {
                    self.stage = Stage::Pausing { until_ms: now_ms + self.settings.connect_retry_ms };
                }
            }
            Stage::Over => {}
            _ => self.leave(LeaveReason::LinkLost(why)),
        }
    }

    /// Something arrived that is no packet: a part of a snapshot.
    pub fn heard(&mut self, now_ms: MonotonicMs) {
        self.heard_ms = now_ms;
    }

    /// One or more whole packets.
    pub fn receive(&mut self, now_ms: MonotonicMs, packets: &[u8]) {
        self.heard_ms = now_ms;
        if matches!(self.stage, Stage::Over | Stage::Dialing | Stage::Pausing { .. }) {
            return;
        }
        if self.held.is_empty() {
            self.take_all(packets);
        } else {
            self.hold(packets);
        }
    }

    fn take_all(&mut self, packets: &[u8]) {
        let mut rest = packets;
        while !rest.is_empty() && self.stage != Stage::Over {
            if self.is_waiting_for_disk() {
                self.hold(rest);
                return;
            }
            match QuorumPacket::split(rest, MAX_PACKET_BYTES) {
                Ok(Some((packet, length))) => {
                    self.take(packet);
                    rest = &rest[length..];
                }
                Ok(None) => self.leave(LeaveReason::IncompletePacket),
                Err(error) => self.leave(LeaveReason::NotAPacket(error)),
            }
        }
    }

    fn is_waiting_for_disk(&self) -> bool {
        matches!(self.stage, Stage::AcceptingEpoch { .. } | Stage::Rewriting { .. } | Stage::ReceivingSnapshot { .. })
    }

    /// Keeps packets for later. Pings are answered meanwhile: the disk may take longer than the leader waits.
    fn hold(&mut self, packets: &[u8]) {
        let mut rest = packets;
        while let Ok(Some((packet, length))) = QuorumPacket::split(rest, MAX_PACKET_BYTES) {
            match packet {
                QuorumPacket::Ping { zxid, .. } => self.outputs.push_back(LearnerOutput::Ping { zxid }),
                _ => self.held.extend_from_slice(&rest[..length]),
            }
            rest = &rest[length..];
        }
        // What can't be split is for the reader of what is held to complain about.
        self.held.extend_from_slice(rest);
        if self.held.len() > MAX_HELD_BYTES {
            self.leave(LeaveReason::SentTooMuch { limit_bytes: MAX_HELD_BYTES });
        }
    }

    fn release(&mut self) {
        let held = std::mem::take(&mut self.held);
        self.take_all(&held);
    }

    fn take(&mut self, packet: QuorumPacket<'_>) {
        if let (Stage::AwaitingSync { .. }, Some(everything)) = (self.stage, self.start.everything) {
            match packet {
                QuorumPacket::Diff { .. } => return self.ask_once_more(everything, Less::Diff),
                QuorumPacket::Trunc { .. } => return self.ask_once_more(everything, Less::Truncate),
                QuorumPacket::Snap { zxid } if zxid < everything.at_least => {
                    return self.ask_once_more(everything, Less::Snapshot { at: zxid });
                }
                _ => {}
            }
        }
        match (self.stage, packet) {
            (Stage::AwaitingEpoch, QuorumPacket::LeaderInfo { epoch }) => self.promise(epoch.epoch()),
            (Stage::AwaitingSync { .. }, QuorumPacket::Diff { zxid }) if self.start.last.is_none() => {
                self.leave(LeaveReason::DiffWithoutDatabase { to: zxid });
            }
            (Stage::AwaitingSync { epoch }, QuorumPacket::Diff { zxid }) => {
                self.log(LearnerEvent::Diff { last: self.last, to: zxid });
                self.committed = self.last;
                self.stage = Stage::Syncing { epoch };
            }
            (Stage::AwaitingSync { epoch }, QuorumPacket::Trunc { zxid }) => {
                self.log(LearnerEvent::Truncate { last: self.last, to: zxid });
                self.stage = Stage::Rewriting { epoch, zxid };
                self.outputs.push_back(LearnerOutput::Truncate(zxid));
            }
            (Stage::AwaitingSync { epoch }, QuorumPacket::Snap { zxid }) => {
                self.log(LearnerEvent::Snapshot { last: self.start.last, at: zxid });
                self.stage = Stage::ReceivingSnapshot { epoch, zxid };
            }
            (
                Stage::Syncing { .. } | Stage::Entering { .. } | Stage::AwaitingUpToDate { .. } | Stage::Following,
                packet,
            ) => self.take_broadcast(packet),
            (Stage::AwaitingSync { .. } | Stage::AwaitingEpoch, QuorumPacket::Ping { zxid, .. }) => {
                self.outputs.push_back(LearnerOutput::Ping { zxid });
            }
            (stage, packet) => {
                self.leave(LeaveReason::OutOfPlace { packet: packet.name(), stage: stage.name() });
            }
        }
    }

    fn promise(&mut self, epoch: Epoch) {
        let accepted = self.start.accepted_epoch;
        if epoch < accepted {
            self.leave(LeaveReason::OlderEpoch { begins: epoch, accepted });
            return;
        }
        let counts = epoch > accepted;
        self.stage = Stage::AcceptingEpoch { epoch, counts };
        if counts {
            self.outputs.push_back(LearnerOutput::AcceptedEpoch(epoch));
        } else {
            self.acknowledge_epoch(epoch, false);
        }
    }

    /// Answers [`LearnerOutput::AcceptedEpoch`].
    pub fn accepted_epoch_stored(&mut self, stored: Epoch) {
        if let Stage::AcceptingEpoch { epoch, counts } = self.stage
            && epoch == stored
        {
            self.acknowledge_epoch(epoch, counts);
            self.release();
        }
    }

    fn acknowledge_epoch(&mut self, epoch: Epoch, counts: bool) {
        let current_epoch = counts.then_some(self.start.current_epoch);
        let everything = &mut self.start.everything;
        *everything = everything.filter(|everything| everything.epoch == epoch && !counts);
        let last_logged = everything.map_or(self.start.last, |everything| everything.claim);
        self.send(&QuorumPacket::AckEpoch { last_logged, current_epoch });
        self.outputs.push_back(LearnerOutput::CatchingUp);
        self.stage = Stage::AwaitingSync { epoch };
    }

    /// The history ends at `last` now, which should be what the leader asked for.
    pub fn truncated(&mut self, now_ms: MonotonicMs, last: Zxid) {
        let Stage::Rewriting { epoch, zxid } = self.stage else { return };
        if last > zxid {
            let everything = Everything { epoch, at_least: zxid, claim: Some(Zxid::ZERO) };
            self.come_again(everything, LeaveReason::NoWayBack { to: zxid });
            return;
        }
        if last != zxid {
            self.leave(LeaveReason::NotCut { at: zxid, last });
            return;
        }
        self.continue_from(now_ms, epoch, zxid);
    }

    fn come_again(&mut self, everything: Everything, why: LeaveReason) {
        self.outputs.push_back(LearnerOutput::ComeAgain(everything));
        self.leave(why);
    }

    /// The leader does not send what this server has asked for.
    fn ask_once_more(&mut self, everything: Everything, sends: Less) {
        let why = LeaveReason::SendsLess { at_least: everything.at_least, sends };
        match everything.claim {
            Some(_) => self.come_again(Everything { claim: None, ..everything }, why),
            None => self.leave(why),
        }
    }

    /// The stream that followed SNAP is complete.
    pub fn snapshot_received(&mut self, zxid: Zxid) {
        let Stage::ReceivingSnapshot { epoch, zxid: expected } = self.stage else { return };
        debug_assert_eq!(zxid, expected, "the snapshot is the one that was announced");
        self.stage = Stage::Rewriting { epoch, zxid };
        self.outputs.push_back(LearnerOutput::InstallSnapshot(zxid));
    }

    /// Answers [`LearnerOutput::InstallSnapshot`].
    pub fn snapshot_installed(&mut self, now_ms: MonotonicMs, installed: Zxid) {
        if let Stage::Rewriting { epoch, zxid } = self.stage
            && zxid == installed
        {
            self.continue_from(now_ms, epoch, zxid);
        }
    }

    fn continue_from(&mut self, now_ms: MonotonicMs, epoch: Epoch, zxid: Zxid) {
        (self.last, self.committed, self.durable) = (zxid, zxid, zxid);
        self.heard_ms = now_ms;
        self.stage = Stage::Syncing { epoch };
        self.release();
    }

    fn take_broadcast(&mut self, packet: QuorumPacket<'_>) {
        match packet {
            QuorumPacket::Proposal { zxid, record } => self.propose(zxid, record),
            QuorumPacket::Commit { zxid } => self.commit(zxid, None),
            QuorumPacket::CommitAndActivate { zxid, designated_leader } => self.commit(zxid, Some(designated_leader)),
            QuorumPacket::Inform { zxid, record } => {
                self.propose(zxid, record);
                self.commit(zxid, None);
            }
            QuorumPacket::InformAndActivate { zxid, designated_leader, record } => {
                self.propose(zxid, record);
                self.commit(zxid, Some(designated_leader));
            }
            QuorumPacket::NewLeader { epoch, config } => match self.stage {
                Stage::Syncing { epoch: promised } if epoch == promised.beginning() => {
                    self.stage = Stage::Entering { epoch: promised };
                    if !config.is_empty() {
                        self.outputs.push_back(LearnerOutput::Membership(config.to_vec()));
                    }
                    self.outputs.push_back(LearnerOutput::CurrentEpoch(promised));
                }
                stage => self.leave(LeaveReason::NewLeaderOutOfPlace { epoch, stage: stage.name() }),
            },
            QuorumPacket::UpToDate => match self.stage {
                Stage::AwaitingUpToDate { epoch } => self.serve(epoch),
                stage => self.leave(LeaveReason::OutOfPlace { packet: "UPTODATE", stage: stage.name() }),
            },
            QuorumPacket::Ping { zxid, .. } => self.outputs.push_back(LearnerOutput::Ping { zxid }),
            QuorumPacket::Revalidated { session, valid } => {
                self.outputs.push_back(LearnerOutput::Revalidated { session, valid });
            }
            QuorumPacket::Sync => self.outputs.push_back(LearnerOutput::SyncDone),
            other => self.leave(LeaveReason::NotALeadersPacket { packet: other.name() }),
        }
    }

    fn propose(&mut self, zxid: Zxid, record: &[u8]) {
        if self.stage == Stage::Over || (zxid <= self.last && zxid <= self.committed) {
            // A snapshot contains what was committed while it was sent, and some of that comes again.
            return;
        }
        if !zxid.follows(self.last) {
            self.leave(LeaveReason::ProposalGap { zxid, last: self.last });
            return;
        }
        self.last = zxid;
        self.uncommitted.push_back(zxid);
        self.unacknowledged.push_back(zxid);
        self.buffer.write(zxid, |output| output.extend_from_slice(record));
        self.outputs.push_back(LearnerOutput::Append(self.buffer.record()));
    }

    fn commit(&mut self, zxid: Zxid, activate: Option<ServerId>) {
        if self.stage == Stage::Over || zxid <= self.committed {
            return;
        }
        // Commits come in the order of proposals, one for each.
        if self.uncommitted.front() != Some(&zxid) {
            let (committed, last) = (self.committed, self.last);
            self.leave(LeaveReason::CommitOutOfOrder { zxid, committed, last });
            return;
        }
        self.uncommitted.pop_front();
        self.committed = zxid;
        assert!(self.committed <= self.last, "{zxid} is committed, but history ends at {}", self.last);
        if self.stage == Stage::Following {
            self.outputs.push_back(match activate {
                None => LearnerOutput::Committed(zxid),
                Some(designated_leader) => LearnerOutput::Activate { zxid, designated_leader },
            });
        } else if activate.is_some() {
            // Another server may lead with it, so this synchronisation leads nowhere; the next one begins with the new membership.
            self.leave(LeaveReason::MembershipChanged);
        }
    }

    /// Answers [`LearnerOutput::CurrentEpoch`].
    pub fn current_epoch_stored(&mut self, now_ms: MonotonicMs, stored: Epoch) {
        let Stage::Entering { epoch } = self.stage else { return };
        if epoch != stored {
            return;
        }
        self.heard_ms = now_ms;
        self.stage = Stage::AwaitingUpToDate { epoch };
        self.send(&QuorumPacket::Ack { zxid: epoch.beginning() });
    }

    fn serve(&mut self, epoch: Epoch) {
        assert!(self.held.is_empty(), "UPTODATE comes behind all that waited for the disk");
        self.send(&QuorumPacket::Ack { zxid: epoch.beginning() });
        self.stage = Stage::Following;
        self.outputs.push_back(LearnerOutput::Serve { committed: self.committed });
        // The leader counts these as acknowledged with NEWLEADER.
        let committed = self.committed;
        while self.unacknowledged.front().is_some_and(|zxid| *zxid <= committed) {
            self.unacknowledged.pop_front();
        }
        self.acknowledge();
    }

    /// Everything up to `zxid` is on disk.
    pub fn synced(&mut self, zxid: Zxid) {
        assert!(zxid <= self.last, "{zxid} is durable, but history ends at {}", self.last);
        self.durable = self.durable.max(zxid);
        if self.stage == Stage::Following {
            self.acknowledge();
        }
    }

    fn acknowledge(&mut self) {
        let mut bytes = Vec::new();
        while let Some(zxid) = self.unacknowledged.front().copied().filter(|zxid| *zxid <= self.durable) {
            self.unacknowledged.pop_front();
            if !self.settings.observer {
                QuorumPacket::Ack { zxid }.append(&mut bytes);
            }
        }
        if !bytes.is_empty() {
            self.outputs.push_back(LearnerOutput::ToLeader(bytes));
        }
    }

    /// Answers [`LearnerOutput::Ping`]: the sessions this server has heard of since the last answer.
    pub fn pong(&mut self, zxid: Zxid, touches: Vec<Touch>) {
        self.send(&QuorumPacket::Ping { zxid, touches: Some(touches) });
    }

    /// Sends a packet of the caller's: a request, a revalidation.
    pub fn send(&mut self, packet: &QuorumPacket<'_>) {
        let mut bytes = Vec::new();
        packet.append(&mut bytes);
        self.outputs.push_back(LearnerOutput::ToLeader(bytes));
    }

    fn log(&mut self, event: LearnerEvent) {
        self.outputs.push_back(LearnerOutput::Log(event));
    }

    /// Ends it.
    pub fn leave(&mut self, why: LeaveReason) {
        if self.stage != Stage::Over {
            self.stage = Stage::Over;
            self.held = Vec::new();
            self.outputs.push_back(LearnerOutput::Leave(why));
        }
    }
}
