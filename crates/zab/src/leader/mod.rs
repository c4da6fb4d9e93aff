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
//! it is brought to this server's history; [`broadcast`], what is decided, with its [`proposals`]; [`liveness`], who is still there; [`claims`],
//! what a single learner can't bring about; [`alone`], the oracle of two members.
//!
//! Counterpart in the original: `Leader`, `LearnerHandler`.

mod alone;
mod broadcast;
mod claims;
mod handshake;
pub(crate) mod learner_link;
mod liveness;
mod proposals;
pub(crate) mod sync;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rookeeper_proto::quorum::{ForwardedRequest, QuorumPacket};
use rookeeper_proto::{Epoch, Id, MonotonicMs, OpCode, ServerId, SessionId, Zxid};

use crate::history::History;
use crate::link::{LinkId, LinkOutput};
use crate::membership::{Member, Membership, Memberships, Role};
use crate::reasons::{DropReason, LeaderEvent, LinkEnd, StepDownReason};
use alone::Oracle;
pub use broadcast::Rollover;
use claims::Claims;
use learner_link::{LearnerLink, Stage};
use liveness::Confirmation;
use proposals::Proposals;

/// How a leader deals with its learners.
#[derive(Debug, Clone)]
pub struct LeaderSettings {
    /// This server.
    pub me: ServerId,
    /// `tickTime`. A leader pings its learners twice in it.
    pub tick_ms: i64,
    /// `initLimit`: within this each step towards leading must find its quorum, and a learner take each step of its own.
    pub init_limit_ticks: u32,
    /// `syncLimit`: a learner that is silent for longer, or leaves a proposal unacknowledged, is dropped.
    pub sync_limit_ticks: u32,
    /// Brings learners up with snapshots only, where nobody loses by that.
    pub force_snapshot_sync: bool,
    /// Observers that are sent a snapshot at once; others are refused. Voters are always served.
    pub max_concurrent_snap_syncs: usize,
    /// The same for parts of the log.
    pub max_concurrent_diff_syncs: usize,
    /// An attempt to lead that has no quorum after this time ends when another voter looks for a leader (ZOOKEEPER-3109); half of the init
    /// limit where it is not set.
    pub max_time_to_wait_for_epoch_ms: Option<i64>,
    /// Whether a membership written by hand gets a version, which reconfigurations need.
    pub reconfig_enabled: bool,
    /// When the numbers of an epoch are used up.
    pub rollover: Rollover,
    /// Whether somebody may let one of two members go on alone, see [`Leader::oracle_says`].
    pub has_oracle: bool,
}

/// What this server brings along. All of it is durable.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    /// `acceptedEpoch`: the newest epoch that this server has promised itself to.
    pub accepted_epoch: Epoch,
    /// `currentEpoch`: the last epoch whose history this server has taken over.
    pub current_epoch: Epoch,
    /// The end of its log.
    pub history_last: Zxid,
}

/// What a leader wants done. What goes to one link goes out in the order in which it is polled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaderOutput {
    /// Make it durable; answered by [`Leader::accepted_epoch_stored`].
    AcceptedEpoch(Epoch),
    /// The same; answered by [`Leader::current_epoch_stored`].
    CurrentEpoch(Epoch),
    /// What is to happen on a learner's link. [`LinkOutput::PlanSync`] is answered by [`Leader::sync_planned`].
    ToLearner(LinkId, LinkOutput),
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
    /// Also after [`LinkOutput::Drop`].
    LearnerGone {
        link: LinkId,
    },
    /// A quorum has answered a ping that was sent after [`Leader::confirm`] gave out this ticket.
    Confirmed(u64),
    /// A line for the log.
    Log(LeaderEvent),
    /// It ends next, because another epoch is to begin for the sake of a single voter.
    Yielded,
    /// It is over. `successor` is who leads next, where a new membership says so.
    StepDown {
        why: StepDownReason,
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
    /// Links, whatever they have said.
    pub learners: usize,
    /// Up to date, and with a vote.
    pub synced_followers: usize,
    /// Up to date observers.
    pub synced_observers: usize,
    /// Up to date followers that are no voters any more, or not yet.
    pub synced_non_voting_followers: usize,
    /// Links that are not up to date.
    pub pending_syncs: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// Servers tell which epochs they have accepted.
    Gathering,
    /// The disk makes the new one durable.
    Accepting,
    /// It is told; servers acknowledge it.
    AwaitingEpochAcks,
    /// It is acknowledged; learners are brought up.
    Syncing,
    /// A quorum follows; the caller applies the history.
    Activating,
    Broadcasting,
    Over,
}

/// See the head of this file. The caller drains [`Leader::poll`] after every call, and calls [`Leader::tick`] when
/// [`Leader::deadline_ms`] is due.
#[derive(Debug)]
pub struct Leader {
    settings: LeaderSettings,
    start: Start,
    /// There is nobody else, and never will be.
    standalone: bool,
    memberships: Arc<Memberships>,
    phase: Phase,
    phase_began_ms: MonotonicMs,
    began_ms: MonotonicMs,
    epoch: Epoch,
    links: BTreeMap<LinkId, LearnerLink>,
    /// Voters whose accepted epoch is known.
    epoch_reporters: BTreeSet<ServerId>,
    /// Voters who have acknowledged the epoch.
    epoch_acks: BTreeSet<ServerId>,
    /// Voters who have acknowledged NEWLEADER, and with it the history.
    new_leader_acks: BTreeSet<ServerId>,
    proposals: Proposals,
    confirmation: Confirmation,
    claims: Claims,
    oracle: Oracle,
    /// A leader that stands alone pings nobody.
    next_ping_ms: MonotonicMs,
    outputs: VecDeque<LeaderOutput>,
}

/// Strangers may connect; more than this many links are not kept.
const MAX_LINKS: usize = 1000;

impl Leader {
    /// Begins an attempt to lead, after an election that this server has won.
    pub fn new(settings: LeaderSettings, memberships: Memberships, start: Start, now_ms: MonotonicMs) -> Leader {
        let (me, has_oracle) = (settings.me, settings.has_oracle);
        let mut leader = Leader {
            next_ping_ms: now_ms + (settings.tick_ms / 2).max(1),
            settings,
            start,
            standalone: false,
            phase: Phase::Gathering,
            phase_began_ms: now_ms,
            began_ms: now_ms,
            epoch: alone::own_epoch(has_oracle, &memberships, me, start.accepted_epoch.next()),
            links: BTreeMap::new(),
            memberships: memberships.into(),
            epoch_reporters: BTreeSet::from([me]),
            epoch_acks: BTreeSet::from([me]),
            new_leader_acks: BTreeSet::new(),
            proposals: Proposals::new(start.history_last),
            confirmation: Confirmation::default(),
            claims: Claims::default(),
            oracle: Oracle::default(),
            outputs: VecDeque::new(),
        };
        leader.try_to_store_epoch();
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
            has_oracle: false,
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
            phase_began_ms: MonotonicMs::ZERO,
            began_ms: MonotonicMs::ZERO,
            epoch,
            links: BTreeMap::new(),
            epoch_reporters: BTreeSet::new(),
            epoch_acks: BTreeSet::new(),
            new_leader_acks: BTreeSet::new(),
            proposals: Proposals::new(history_last),
            confirmation: Confirmation::default(),
            claims: Claims::default(),
            oracle: Oracle::default(),
            next_ping_ms: MonotonicMs::ZERO,
            outputs: VecDeque::new(),
        }
    }

    /// The epoch it leads, once the phase of discovery is over.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The last transaction proposed; the beginning of the epoch where there is none yet.
    pub fn proposed(&self) -> Zxid {
        self.proposals.proposed()
    }

    /// The last transaction committed; before this server is established, the last of its history.
    pub fn committed(&self) -> Zxid {
        self.proposals.committed()
    }

    /// Proposed and not committed.
    pub fn outstanding(&self) -> usize {
        self.proposals.outstanding()
    }

    /// How far it is.
    pub fn phase(&self) -> LeaderPhase {
        match self.phase {
            Phase::Gathering | Phase::Accepting | Phase::AwaitingEpochAcks => LeaderPhase::Discovery,
            Phase::Syncing | Phase::Activating => LeaderPhase::Synchronization,
            Phase::Broadcasting | Phase::Over => LeaderPhase::Broadcast,
        }
    }

    /// The membership in force, and the one to come.
    pub fn memberships(&self) -> &Memberships {
        &self.memberships
    }

    /// How far learners that are up to date lag, in milliseconds: silent, or with something that they have not acknowledged.
    pub fn lags(&self, now_ms: MonotonicMs) -> Vec<(ServerId, i64)> {
        let lag = |link: &LearnerLink| Some((link.identity?.server, link.behind_ms(now_ms)?));
        self.links.values().filter_map(lag).collect()
    }

    /// How many learners there are, by how far they are.
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
        self.memberships.is_reached_by(servers) || self.lone_server().is_some_and(|me| servers.contains(&me))
    }

    /// The next effect. To be drained after every call.
    pub fn poll(&mut self) -> Option<LeaderOutput> {
        self.outputs.pop_front()
    }

    fn log(&mut self, event: LeaderEvent) {
        self.outputs.push_back(LeaderOutput::Log(event));
    }

    fn send(&mut self, link: LinkId, packet: &QuorumPacket<'_>) {
        let mut bytes = Vec::new();
        packet.append(&mut bytes);
        self.outputs.push_back(LeaderOutput::ToLearner(link, LinkOutput::Send(bytes.into())));
    }

    fn begin_phase(&mut self, now_ms: MonotonicMs, phase: Phase) {
        assert!(phase > self.phase, "{phase:?} does not come behind {:?}", self.phase);
        self.phase = phase;
        self.phase_began_ms = now_ms;
    }

    fn step_down(&mut self, why: StepDownReason, successor: Option<ServerId>) {
        if self.phase != Phase::Over {
            self.phase = Phase::Over;
            self.outputs.push_back(LeaderOutput::StepDown { why, successor });
        }
    }

    fn drop_link(&mut self, link: LinkId, why: DropReason) {
        if let Some(gone) = self.remove_link(link) {
            self.log(LeaderEvent::Dropping { learner: gone.name(), why: why.clone() });
            self.outputs.push_back(LeaderOutput::ToLearner(link, LinkOutput::Drop(why)));
            self.outputs.push_back(LeaderOutput::LearnerGone { link });
        }
    }

    /// A server connected to the quorum port.
    pub fn learner_connected(&mut self, now_ms: MonotonicMs, link: LinkId, peer: String) {
        if self.links.len() >= MAX_LINKS {
            let why = DropReason::TooManyLearners { limit: MAX_LINKS };
            self.outputs.push_back(LeaderOutput::ToLearner(link, LinkOutput::Drop(why)));
            return;
        }
        self.links.insert(link, LearnerLink::new(peer, now_ms));
    }

    /// Its connection ended.
    pub fn learner_gone(&mut self, _now_ms: MonotonicMs, history: &History, link: LinkId, why: LinkEnd) {
        if let Some(gone) = self.remove_link(link) {
            self.log(LeaderEvent::Lost { learner: gone.name(), why });
            self.outputs.push_back(LeaderOutput::LearnerGone { link });
        }
        self.sync_released(history);
    }

    /// Takes a learner's packet. One that has no place here ends the link.
    pub fn receive(&mut self, now_ms: MonotonicMs, history: &History, id: LinkId, packet: QuorumPacket<'_>) {
        self.take(now_ms, history, id, packet);
        self.sync_released(history);
    }

    fn take(&mut self, now_ms: MonotonicMs, history: &History, id: LinkId, packet: QuorumPacket<'_>) {
        if self.phase == Phase::Over {
            return;
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        link.heard_ms = now_ms;
        match (&link.stage, packet) {
            (Stage::Greeting, QuorumPacket::FollowerInfo { accepted_epoch, info }) => {
                self.on_learner_info(now_ms, id, accepted_epoch.epoch(), info, false);
            }
            (Stage::Greeting, QuorumPacket::ObserverInfo { accepted_epoch, info }) => {
                self.on_learner_info(now_ms, id, accepted_epoch.epoch(), info, true);
            }
            (Stage::AwaitingEpochAck, QuorumPacket::AckEpoch { last_logged, current_epoch }) => {
                self.on_ack_epoch(now_ms, history, id, last_logged, current_epoch);
            }
            (Stage::Syncing(_), QuorumPacket::Ack { zxid }) if zxid == self.epoch.beginning() => {
                self.on_new_leader_ack(now_ms, id);
            }
            (Stage::Syncing(_) | Stage::AwaitingUpToDate(_) | Stage::Synced(_), QuorumPacket::Ack { zxid }) => {
                self.on_ack(now_ms, id, zxid);
            }
            (
                Stage::Syncing(_) | Stage::AwaitingUpToDate(_) | Stage::Synced(_),
                QuorumPacket::Ping { zxid, touches },
            ) => {
                for touch in touches.unwrap_or_default() {
                    let (session, timeout_ms) = (touch.session, touch.timeout_ms);
                    self.outputs.push_back(LeaderOutput::Touch { session, timeout_ms });
                }
                self.on_ping_echo(now_ms, id, zxid);
            }
            (Stage::Synced(_), QuorumPacket::Revalidate { session, timeout_ms }) => {
                self.outputs.push_back(LeaderOutput::Revalidate { link: id, session, timeout_ms });
            }
            (Stage::Synced(_), QuorumPacket::Request(request)) => self.on_request(id, request),
            (stage, packet) => {
                let why = DropReason::OutOfPlace { packet: packet.name(), stage: stage.name() };
                self.drop_link(id, why);
            }
        }
    }

    fn on_request(&mut self, id: LinkId, request: ForwardedRequest<'_>) {
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
