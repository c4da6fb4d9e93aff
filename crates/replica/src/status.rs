//! What this server is at the moment, for whoever asks: connections before they hand on a request, commands, metrics.
//!
//! Written by the replica only.

use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::RwLock;
use rookeeper_proto::{Epoch, MonotonicMs, ServerId};
use rookeeper_zab::Membership;
use rookeeper_zab::leader::LeaderPhase;
use rookeeper_zab::learner::{Learner, LearnerPhase};
use rookeeper_zab::observer_master::ObserverCounts;

use crate::write::proposer::Proposer;

/// Whom this server serves, and who decides about writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Serving {
    /// Nobody: no leader is known, or catching up with it goes on.
    Nobody = 0,
    /// Everybody; writes are decided here.
    Deciding = 1,
    /// Everybody; writes and syncs go to the leader.
    Forwarding = 2,
    /// Readers who accept that there is no quorum.
    ReadOnly = 3,
}

/// The role of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerRole {
    Standalone,
    Looking,
    Leading,
    Following,
    Observing,
}

/// How far a leader and its learners are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Election,
    Discovery,
    Synchronization,
    Broadcast,
}

/// What a leader knows of its learners, and of its proposals in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeaderStatus {
    /// Connections of learners, synced or not.
    pub learners: usize,
    pub synced_followers: usize,
    pub synced_observers: usize,
    pub synced_non_voting_followers: usize,
    pub pending_syncs: usize,
    /// Monotonic milliseconds when it began.
    pub since_ms: MonotonicMs,
    pub last_proposal_bytes: i64,
    pub min_proposal_bytes: i64,
    pub max_proposal_bytes: i64,
    /// Transactions proposed and not committed.
    pub outstanding: usize,
}

/// Everything there is to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerStatus {
    pub role: ServerRole,
    pub phase: Phase,
    /// The leader, where there is one.
    pub leader: Option<ServerId>,
    pub epoch: Epoch,
    /// Of a leader only.
    pub leadership: Option<LeaderStatus>,
    /// Of an observer only: the server that sends it what is committed, which is the leader or a follower of the leader.
    pub fed_by: Option<ServerId>,
    /// Of a follower that feeds observers only.
    pub feeding: Option<ObserverCounts>,
    /// The membership in force; none for a standalone server.
    pub membership: Option<Membership>,
    /// How long the last election took.
    pub last_election_ms: i64,
    /// Of a leader, or a follower that feeds observers, looked at twice in a tick: how many milliseconds each synced learner is silent, or late with an
    /// acknowledgement.
    pub learner_lags_ms: Vec<(ServerId, i64)>,
}

impl ServerStatus {
    /// A server alone, which always serves.
    pub fn standalone() -> ServerStatus {
        ServerStatus {
            role: ServerRole::Standalone,
            phase: Phase::Broadcast,
            leader: None,
            epoch: Epoch::ZERO,
            leadership: None,
            fed_by: None,
            feeding: None,
            membership: None,
            last_election_ms: 0,
            learner_lags_ms: Vec::new(),
        }
    }
}

/// Where the replica writes what it is, and everybody else reads it.
#[derive(Debug)]
pub struct StatusBoard {
    serving: AtomicU8,
    status: RwLock<ServerStatus>,
}

impl StatusBoard {
    pub(crate) fn new() -> StatusBoard {
        StatusBoard { serving: AtomicU8::new(Serving::Deciding as u8), status: RwLock::new(ServerStatus::standalone()) }
    }

    /// Who is served at the moment. What was done before that began is visible to whoever asks here.
    pub fn serving(&self) -> Serving {
        match self.serving.load(Ordering::Acquire) {
            0 => Serving::Nobody,
            1 => Serving::Deciding,
            2 => Serving::Forwarding,
            _ => Serving::ReadOnly,
        }
    }

    /// A copy of what this server is at the moment.
    pub fn status(&self) -> ServerStatus {
        self.status.read().clone()
    }

    pub(crate) fn serve(&self, serving: Serving) {
        self.serving.store(serving as u8, Ordering::Release);
    }

    /// Tells what a member is.
    pub(crate) fn publish(&self, of_role: RoleStatus, epoch: Epoch, membership: Membership) {
        let RoleStatus { role, phase, leader, leadership, fed_by, feeding } = of_role;
        self.update(|status| {
            status.role = role;
            status.phase = phase;
            status.leader = leader;
            status.epoch = epoch;
            if leadership.is_none() && feeding.is_none() {
                status.learner_lags_ms.clear();
            }
            status.leadership = leadership;
            status.fed_by = fed_by;
            status.feeding = feeding;
            status.membership = Some(membership);
        });
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut ServerStatus)) {
        change(&mut self.status.write());
    }
}

/// What a role has to tell of itself.
#[derive(Debug)]
pub(crate) struct RoleStatus {
    role: ServerRole,
    phase: Phase,
    leader: Option<ServerId>,
    leadership: Option<LeaderStatus>,
    fed_by: Option<ServerId>,
    feeding: Option<ObserverCounts>,
}

impl RoleStatus {
    fn new(role: ServerRole, phase: Phase, leader: Option<ServerId>) -> RoleStatus {
        RoleStatus { role, phase, leader, leadership: None, fed_by: None, feeding: None }
    }

    /// No leader is known.
    pub fn looking() -> RoleStatus {
        RoleStatus::new(ServerRole::Looking, Phase::Election, None)
    }

    /// This server leads, or tries to, since `since_ms`.
    pub fn leading(me: ServerId, proposer: &Proposer, since_ms: MonotonicMs) -> RoleStatus {
        let leader = &proposer.leader;
        let phase = match leader.phase() {
            LeaderPhase::Discovery => Phase::Discovery,
            LeaderPhase::Synchronization => Phase::Synchronization,
            LeaderPhase::Broadcast => Phase::Broadcast,
        };
        let counts = leader.counts();
        let leadership = LeaderStatus {
            learners: counts.learners,
            synced_followers: counts.synced_followers,
            synced_observers: counts.synced_observers,
            synced_non_voting_followers: counts.synced_non_voting_followers,
            pending_syncs: counts.pending_syncs,
            since_ms,
            last_proposal_bytes: proposer.sizes.last,
            min_proposal_bytes: proposer.sizes.min,
            max_proposal_bytes: proposer.sizes.max,
            outstanding: leader.outstanding(),
        };
        RoleStatus { leadership: Some(leadership), ..RoleStatus::new(ServerRole::Leading, phase, Some(me)) }
    }

    /// Another server leads. An observer gets what is committed from `fed_by`; a follower may feed observers.
    pub fn learning(learner: &Learner, fed_by: Option<ServerId>, feeding: Option<ObserverCounts>) -> RoleStatus {
        let role = if fed_by.is_some() { ServerRole::Observing } else { ServerRole::Following };
        let phase = match learner.phase() {
            LearnerPhase::Discovery => Phase::Discovery,
            LearnerPhase::Synchronization => Phase::Synchronization,
            LearnerPhase::Broadcast => Phase::Broadcast,
        };
        RoleStatus { fed_by, feeding, ..RoleStatus::new(role, phase, Some(learner.leader())) }
    }
}
