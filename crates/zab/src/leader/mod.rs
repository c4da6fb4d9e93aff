//! The leader: brings its learners to one history, then broadcasts. One value lives for one period of leading.
//!
//! What always holds here:
//! - the epoch is newer than any that a quorum has accepted, and durable here before it is told;
//! - what this server does not have is in no other server of the quorum that acknowledged the epoch; a learner that is ahead is turned
//!   away;
//! - a transaction is committed when a quorum, of both memberships while one replaces the other, has it on disk, whether or not this
//!   server is among them; commits go out in order;
//! - what goes to a learner goes out in the order in which it was decided, without a gap.
//!
//! Reading order: this file, what goes in and out; [`learner_link`], one learner; [`handshake`], how it and this server begin; [`sync`], how
//! it is brought to this server's history; [`broadcast`], what is decided, with its [`book`]; [`liveness`], who is still there; [`claims`],
//! what a single learner can't bring about.
//!
//! Counterpart in the original: `Leader`, `LearnerHandler`.

mod book;
mod broadcast;
mod claims;
mod handshake;
mod learner_link;
mod liveness;
mod sync;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rookeeper_proto::quorum::{ForwardedRequest, QuorumPacket};
use rookeeper_proto::{Epoch, Id, OpCode, ServerId, SessionId, Zxid};

use crate::history::History;
use crate::link::LinkId;
use crate::membership::{Member, Membership, Memberships, Role};
use book::Book;
pub use broadcast::Rollover;
use claims::Claims;
use learner_link::{LearnerLink, Stage};
use liveness::Confirmation;

#[derive(Debug, Clone)]
pub struct LeaderSettings {
    pub me: ServerId,
    pub tick_ms: i64,
    pub init_limit_ticks: u32,
    pub sync_limit_ticks: u32,
    pub force_snapshot_sync: bool,
    pub max_concurrent_snap_syncs: usize,
    pub max_concurrent_diff_syncs: usize,
    pub max_time_to_wait_for_epoch_ms: Option<i64>,
    pub reconfig_enabled: bool,
    pub rollover: Rollover,
}

/// What this server brings along. All of it is durable.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    pub accepted_epoch: Epoch,
    pub current_epoch: Epoch,
    pub history_last: Zxid,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaderOutput {
    /// Make it durable; answered by [`Leader::accepted_epoch_stored`].
    AcceptedEpoch(Epoch),
    /// The same; answered by [`Leader::current_epoch_stored`].
    CurrentEpoch(Epoch),
    ToLearner {
        link: LinkId,
        bytes: Arc<[u8]>,
    },
    /// What can the log on disk do for a learner? Answered by [`Leader::sync_planned`].
    PlanSync {
        link: LinkId,
        after: Zxid,
        before: Zxid,
    },
    /// PROPOSAL and COMMIT for every record of the log between the two, in the link's order.
    StreamLog {
        link: LinkId,
        after: Zxid,
        before: Zxid,
    },
    /// SNAP and the shared tree, in the link's order.
    StreamSnapshot {
        link: LinkId,
    },
    Drop {
        link: LinkId,
        why: String,
    },
    /// A quorum has acknowledged this leader: its whole history is committed. Answered by [`Leader::activated`].
    Activate {
        epoch: Epoch,
    },
    /// Everything up to here is committed.
    Committed(Zxid),
    Request {
        link: LinkId,
        server: ServerId,
        session: SessionId,
        cxid: i32,
        op: i32,
        body: Vec<u8>,
        identities: Option<Vec<Id>>,
    },
    /// Answered by [`Leader::answer_sync`].
    SyncRequest {
        link: LinkId,
        session: SessionId,
        cxid: i32,
    },
    /// A learner heard of the session.
    Touch {
        session: SessionId,
        timeout_ms: i32,
    },
    /// Answered by [`Leader::revalidated`].
    Revalidate {
        link: LinkId,
        session: SessionId,
        timeout_ms: i32,
    },
    /// A learner is being brought to this server's history, as one of `under_way` that are in this way.
    SyncBegan {
        by_snapshot: bool,
        under_way: usize,
    },
    /// One has acknowledged it, and so many are left.
    SyncEnded {
        by_snapshot: bool,
        under_way: usize,
    },
    LearnerSynced {
        link: LinkId,
        server: ServerId,
        observer: bool,
    },
    /// Also after `Drop`.
    LearnerGone {
        link: LinkId,
    },
    /// A quorum has answered a ping that was sent after [`Leader::confirm`] gave out this ticket.
    Confirmed(u64),
    Log {
        warn: bool,
        text: String,
    },
    /// It ends next, because another epoch is to begin for the sake of a single voter.
    Yielded,
    /// It is over. `successor` is who leads next, where a new membership says so.
    StepDown {
        why: String,
        successor: Option<ServerId>,
    },
}

/// How far it is, for those who ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaderPhase {
    Discovery,
    Synchronization,
    Broadcast,
}

/// For those who ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LearnerCounts {
    pub learners: usize,
    pub synced_followers: usize,
    pub synced_observers: usize,
    pub synced_non_voting_followers: usize,
    pub pending_syncs: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Servers tell which epochs they have accepted.
    Gathering,
    /// The disk makes the new one durable.
    Accepting,
    /// It is told; servers acknowledge it.
    Promising,
    /// It is acknowledged; learners are brought up.
    Syncing,
    /// A quorum follows; the caller applies the history.
    Activating,
    Broadcasting,
    Over,
}

#[derive(Debug)]
pub struct Leader {
    settings: LeaderSettings,
    start: Start,
    /// There is nobody else, and never will be.
    standalone: bool,
    memberships: Arc<Memberships>,
    phase: Phase,
    phase_began_ms: i64,
    began_ms: i64,
    epoch: Epoch,
    links: BTreeMap<LinkId, LearnerLink>,
    /// Voters whose accepted epoch is known.
    gathered: BTreeSet<ServerId>,
    /// Voters who have acknowledged the epoch.
    promised: BTreeSet<ServerId>,
    /// Voters who have acknowledged the history.
    entered: BTreeSet<ServerId>,
    book: Book,
    confirmation: Confirmation,
    claims: Claims,
    next_ping_ms: i64,
    outputs: VecDeque<LeaderOutput>,
}

/// Strangers may connect; more than this many links are not kept.
const MAX_LINKS: usize = 1000;

impl Leader {
    pub fn new(settings: LeaderSettings, memberships: Memberships, start: Start, now_ms: i64) -> Leader {
        let me = settings.me;
        let mut leader = Leader {
            next_ping_ms: now_ms + (settings.tick_ms / 2).max(1),
            settings,
            start,
            standalone: false,
            memberships: memberships.into(),
            phase: Phase::Gathering,
            phase_began_ms: now_ms,
            began_ms: now_ms,
            epoch: start.accepted_epoch.saturating_add(1),
            links: BTreeMap::new(),
            gathered: BTreeSet::from([me]),
            promised: BTreeSet::from([me]),
            entered: BTreeSet::new(),
            book: Book::new(start.history_last),
            confirmation: Confirmation::default(),
            claims: Claims::default(),
            outputs: VecDeque::new(),
        };
        leader.try_to_accept();
        leader
    }

    /// Alone: it leads at once, and counts on behind its history. Where an epoch is used up the next one begins.
    pub fn standalone(me: ServerId, history_last: Zxid) -> Leader {
        let settings = LeaderSettings {
            me,
            tick_ms: 1000,
            init_limit_ticks: 1,
            sync_limit_ticks: 1,
            force_snapshot_sync: false,
            max_concurrent_snap_syncs: 0,
            max_concurrent_diff_syncs: 0,
            max_time_to_wait_for_epoch_ms: None,
            reconfig_enabled: false,
            rollover: Rollover::default(),
        };
        let member = Member { addresses: Vec::new(), role: Role::Participant, client: None };
        let membership = Membership { members: BTreeMap::from([(me, member)]), ..Membership::default() };
        let epoch = history_last.epoch();
        Leader {
            settings,
            start: Start { accepted_epoch: epoch, current_epoch: epoch, history_last },
            standalone: true,
            memberships: Memberships::settled(membership).into(),
            phase: Phase::Broadcasting,
            phase_began_ms: 0,
            began_ms: 0,
            epoch,
            links: BTreeMap::new(),
            gathered: BTreeSet::new(),
            promised: BTreeSet::new(),
            entered: BTreeSet::new(),
            book: Book::new(history_last),
            confirmation: Confirmation::default(),
            claims: Claims::default(),
            next_ping_ms: i64::MAX,
            outputs: VecDeque::new(),
        }
    }

    /// The epoch it leads, once the phase of discovery is over.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The last transaction proposed; the beginning of the epoch where there is none yet.
    pub fn proposed(&self) -> Zxid {
        self.book.proposed()
    }

    /// The last transaction committed; before this server is established, the last of its history.
    pub fn committed(&self) -> Zxid {
        self.book.committed()
    }

    /// Proposed and not committed.
    pub fn outstanding(&self) -> usize {
        self.book.outstanding()
    }

    pub fn phase(&self) -> LeaderPhase {
        match self.phase {
            Phase::Gathering | Phase::Accepting | Phase::Promising => LeaderPhase::Discovery,
            Phase::Syncing | Phase::Activating => LeaderPhase::Synchronization,
            Phase::Broadcasting | Phase::Over => LeaderPhase::Broadcast,
        }
    }

    pub fn memberships(&self) -> &Memberships {
        &self.memberships
    }

    /// How far learners that are up to date lag, in milliseconds: silent, or with something that they have not acknowledged.
    pub fn lags(&self, now_ms: i64) -> Vec<(ServerId, i64)> {
        let lag = |link: &LearnerLink| Some((link.identity?.server, link.behind_ms(now_ms)?));
        self.links.values().filter_map(lag).collect()
    }

    pub fn counts(&self) -> LearnerCounts {
        let mut counts = LearnerCounts { learners: self.links.len(), ..LearnerCounts::default() };
        for link in self.links.values() {
            match link.follower() {
                _ if !link.is_synced() => counts.pending_syncs += 1,
                None => counts.synced_observers += 1,
                Some(server) if self.is_voter(server) => counts.synced_followers += 1,
                Some(_) => counts.synced_non_voting_followers += 1,
            }
        }
        counts
    }

    fn is_voter(&self, server: ServerId) -> bool {
        self.memberships.is_voter(server)
    }

    fn is_quorum(&self, servers: &BTreeSet<ServerId>) -> bool {
        self.memberships.is_reached_by(servers)
    }

    pub fn poll(&mut self) -> Option<LeaderOutput> {
        self.outputs.pop_front()
    }

    fn log(&mut self, warn: bool, text: String) {
        self.outputs.push_back(LeaderOutput::Log { warn, text });
    }

    fn send(&mut self, link: LinkId, packet: &QuorumPacket<'_>) {
        let mut bytes = Vec::new();
        packet.append(&mut bytes);
        self.outputs.push_back(LeaderOutput::ToLearner { link, bytes: bytes.into() });
    }

    fn begin_phase(&mut self, now_ms: i64, phase: Phase) {
        self.phase = phase;
        self.phase_began_ms = now_ms;
    }

    fn step_down(&mut self, why: String, successor: Option<ServerId>) {
        if self.phase != Phase::Over {
            self.phase = Phase::Over;
            self.outputs.push_back(LeaderOutput::StepDown { why, successor });
        }
    }

    fn drop_link(&mut self, link: LinkId, why: String) {
        if let Some(gone) = self.remove_link(link) {
            self.log(true, format!("dropping {}: {why}", gone.name()));
            self.outputs.push_back(LeaderOutput::Drop { link, why });
            self.outputs.push_back(LeaderOutput::LearnerGone { link });
        }
    }

    /// A server connected to the quorum port.
    pub fn learner_connected(&mut self, now_ms: i64, link: LinkId, peer: String) {
        if self.links.len() >= MAX_LINKS {
            self.outputs.push_back(LeaderOutput::Drop { link, why: format!("{MAX_LINKS} learners are connected") });
            return;
        }
        self.links.insert(link, LearnerLink::new(peer, now_ms));
    }

    /// Its connection ended.
    pub fn learner_gone(&mut self, _now_ms: i64, history: &History, link: LinkId, why: &str) {
        if let Some(gone) = self.remove_link(link) {
            self.log(true, format!("lost {}: {why}", gone.name()));
            self.outputs.push_back(LeaderOutput::LearnerGone { link });
        }
        self.sync_released(history);
    }

    /// Takes a learner's packet. One that has no place here ends the link.
    pub fn receive(&mut self, now_ms: i64, history: &History, id: LinkId, packet: QuorumPacket<'_>) {
        self.take(now_ms, history, id, packet);
        self.sync_released(history);
    }

    fn take(&mut self, now_ms: i64, history: &History, id: LinkId, packet: QuorumPacket<'_>) {
        if self.phase == Phase::Over {
            return;
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        link.heard_ms = now_ms;
        match (&link.stage, packet) {
            (Stage::Greeting, QuorumPacket::FollowerInfo { accepted_epoch, info }) => {
                self.introduce(now_ms, id, accepted_epoch.epoch(), info, false);
            }
            (Stage::Greeting, QuorumPacket::ObserverInfo { accepted_epoch, info }) => {
                self.introduce(now_ms, id, accepted_epoch.epoch(), info, true);
            }
            (Stage::AwaitingPromise, QuorumPacket::AckEpoch { last_logged, current_epoch }) => {
                self.take_promise(now_ms, history, id, last_logged, current_epoch);
            }
            (Stage::Syncing(_), QuorumPacket::Ack { zxid }) if zxid == Zxid::new(self.epoch, 0) => {
                self.take_entry(now_ms, id);
            }
            (Stage::Syncing(_) | Stage::Entered(_) | Stage::Synced(_), QuorumPacket::Ack { zxid }) => {
                self.take_ack(now_ms, id, zxid);
            }
            (Stage::Syncing(_) | Stage::Entered(_) | Stage::Synced(_), QuorumPacket::Ping { zxid, touches }) => {
                for touch in touches.unwrap_or_default() {
                    let (session, timeout_ms) = (touch.session, touch.timeout_ms);
                    self.outputs.push_back(LeaderOutput::Touch { session, timeout_ms });
                }
                self.take_echo(now_ms, id, zxid);
            }
            (Stage::Synced(_), QuorumPacket::Revalidate { session, timeout_ms }) => {
                self.outputs.push_back(LeaderOutput::Revalidate { link: id, session, timeout_ms });
            }
            (Stage::Synced(_), QuorumPacket::Request(request)) => self.take_request(id, request),
            (stage, packet) => {
                let why = format!("{} is out of place while {}", name_of(&packet), stage.name());
                self.drop_link(id, why);
            }
        }
    }

    fn take_request(&mut self, id: LinkId, request: ForwardedRequest<'_>) {
        let Some(server) = self.links.get(&id).and_then(|link| link.identity).map(|identity| identity.server) else {
            return;
        };
        let ForwardedRequest { session, cxid, op, body, identities } = request;
        self.outputs.push_back(if op == OpCode::Sync.number() {
            LeaderOutput::SyncRequest { link: id, session, cxid }
        } else {
            LeaderOutput::Request { link: id, server, session, cxid, op, body: body.to_vec(), identities }
        });
    }
}

/// What a packet is called in the protocol.
fn name_of(packet: &QuorumPacket<'_>) -> &'static str {
    match packet {
        QuorumPacket::FollowerInfo { .. } => "FOLLOWERINFO",
        QuorumPacket::ObserverInfo { .. } => "OBSERVERINFO",
        QuorumPacket::AckEpoch { .. } => "ACKEPOCH",
        QuorumPacket::Ack { .. } => "ACK",
        QuorumPacket::Ping { .. } => "PING",
        QuorumPacket::Revalidate { .. } => "REVALIDATE",
        QuorumPacket::Request(_) => "REQUEST",
        _ => "a packet that only leaders send",
    }
}
