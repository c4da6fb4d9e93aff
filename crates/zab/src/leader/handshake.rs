//! From a learner's first word to its last before it serves: who it is, the epoch, its history, UPTODATE; and on the way this server's own
//! path from a candidate to the leader of an epoch.
//!
//! What always holds here:
//! - the epoch is newer than any that a quorum has accepted, durable here before it is told, and told to nobody else as another;
//! - only what a server with a vote says counts, and only what it says in its place. An observer may have a vote in a membership that it has
//!   not heard of: what it says of epochs counts then, and its NEWLEADER where that proves that the history is on its disk;
//! - this server decides nothing before a quorum has acknowledged its history.
//!
//! Counterpart in the original: `Leader.getEpochToPropose`, `waitForEpochAck`, `waitForNewLeaderAck`, `LearnerHandler.run`.

use rookeeper_proto::quorum::{LearnerInfo, PROTOCOL_VERSION, QuorumPacket};
use rookeeper_proto::{Epoch, MonotonicMs, ServerId, Zxid};

use super::learner_link::{Identity, Serving, Stage};
use super::{Leader, LeaderOutput, Phase};
use crate::history::History;
use crate::link::{LinkId, LinkOutput};
use crate::membership::Memberships;
use crate::reasons::{DropReason, StepDownReason};

impl Leader {
    /// A learner says who it is.
    pub(super) fn on_learner_info(
        &mut self,
        now_ms: MonotonicMs,
        id: LinkId,
        accepted: Epoch,
        info: LearnerInfo,
        observer: bool,
    ) {
        let LearnerInfo { server, protocol_version, config_version } = info;
        let newest = self.memberships.committed.version.max(self.memberships.last_seen.version);
        let objection = if protocol_version < PROTOCOL_VERSION {
            Some(DropReason::OldProtocol(protocol_version))
        } else if config_version > newest {
            Some(DropReason::NewerMembership { theirs: config_version, newest })
        } else if server == self.settings.me {
            Some(DropReason::SaysItIsThisServer(server))
        } else if accepted >= Epoch::LAST {
            Some(DropReason::LastEpoch { accepted })
        } else if self.phase == Phase::Gathering {
            self.doubt(server, accepted)
        } else {
            None
        };
        if let Some(why) = objection {
            self.drop_link(id, why);
            return;
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        link.identity = Some(Identity { server, observer });
        link.stage = Stage::AwaitingEpoch;
        match self.phase {
            Phase::Gathering => {
                self.raise_epoch(server, accepted);
                if let Some(server) = self.voter_at(id) {
                    self.epoch_reporters.insert(server);
                }
                self.try_to_store_epoch();
            }
            Phase::Accepting => {}
            _ if accepted > self.epoch => self.turn_away(now_ms, id, accepted),
            _ => self.send_leader_info(id),
        }
    }

    /// The server at the other end, if its voice counts and it acknowledges proposals. Observers do not make up a quorum (ZOOKEEPER-2959).
    pub(super) fn voter(&self, id: LinkId) -> Option<ServerId> {
        self.links.get(&id)?.follower().filter(|server| self.is_voter(*server))
    }

    /// The server at the other end, if it has a vote, whatever it came as.
    pub(super) fn voter_at(&self, id: LinkId) -> Option<ServerId> {
        self.links.get(&id)?.identity.map(|identity| identity.server).filter(|server| self.is_voter(*server))
    }

    pub(super) fn try_to_store_epoch(&mut self) {
        if self.phase == Phase::Gathering && self.is_quorum(&self.epoch_reporters) {
            if self.epoch > Epoch::LAST {
                self.step_down(StepDownReason::NoEpochLeft, None);
                return;
            }
            self.phase = Phase::Accepting;
            self.outputs.push_back(LeaderOutput::AcceptedEpoch(self.epoch));
        }
    }

    /// The epoch is this server's promise now and can be told.
    pub fn accepted_epoch_stored(&mut self, now_ms: MonotonicMs, epoch: Epoch) {
        if self.phase != Phase::Accepting || epoch != self.epoch {
            return;
        }
        self.begin_phase(now_ms, Phase::AwaitingEpochAcks);
        self.version_membership();
        let waiting: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, link)| matches!(link.stage, Stage::AwaitingEpoch))
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.send_leader_info(id);
        }
        self.try_to_begin_sync(now_ms);
    }

    /// A membership written by hand gets its version from the first epoch that goes by it.
    fn version_membership(&mut self) {
        if self.settings.reconfig_enabled && self.memberships.last_seen.version == Zxid::ZERO {
            let mut last_seen = self.memberships.last_seen.clone();
            last_seen.version = self.epoch.beginning();
            self.memberships = Memberships::new(self.memberships.committed.clone(), last_seen).into();
        }
    }

    fn send_leader_info(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.stage = Stage::AwaitingEpochAck;
            let epoch = self.epoch.beginning();
            self.send(id, &QuorumPacket::LeaderInfo { epoch });
        }
    }

    /// A learner has made the epoch its promise, now or (without a `current_epoch`) before.
    pub(super) fn on_ack_epoch(
        &mut self,
        now_ms: MonotonicMs,
        history: &History,
        id: LinkId,
        last: Option<Zxid>,
        current_epoch: Option<Epoch>,
    ) {
        let (my_epoch, my_last) = (self.start.current_epoch, self.start.history_last);
        if let Some(current_epoch) = current_epoch
            && (current_epoch, last) > (my_epoch, Some(my_last))
            && self.phase == Phase::AwaitingEpochAcks
        {
            self.drop_link(id, DropReason::Ahead { last, epoch: current_epoch, my_last, my_epoch });
            return;
        }
        if let Some(voter) = self.voter_at(id).filter(|_| current_epoch.is_some() && last.is_some()) {
            self.epoch_acks.insert(voter);
        }
        if let Some(link) = self.links.get_mut(&id) {
            link.stage = Stage::AwaitingSync { last };
        }
        self.try_to_begin_sync(now_ms);
        if matches!(self.phase, Phase::Syncing | Phase::Activating | Phase::Broadcasting) {
            self.sync_waiting(history);
        }
    }

    /// Where a quorum has acknowledged the epoch, it becomes this server's.
    pub(super) fn try_to_begin_sync(&mut self, now_ms: MonotonicMs) {
        if self.phase == Phase::AwaitingEpochAcks && self.is_quorum(&self.epoch_acks) {
            self.begin_phase(now_ms, Phase::Syncing);
            self.outputs.push_back(LeaderOutput::CurrentEpoch(self.epoch));
        }
    }

    /// This server counts itself among those that have acknowledged its history.
    pub fn current_epoch_stored(&mut self, _now_ms: MonotonicMs, epoch: Epoch) {
        if epoch == self.epoch && !self.standalone {
            self.new_leader_acks.insert(self.settings.me);
            self.try_to_activate();
        }
    }

    /// A learner acknowledges NEWLEADER, and with it everything that came before.
    pub(super) fn on_new_leader_ack(&mut self, now_ms: MonotonicMs, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let mut is_durable = false;
        if let Stage::Syncing(catching_up) = &mut link.stage {
            let by_snapshot = catching_up.by_snapshot;
            is_durable = catching_up.is_durable_when_acknowledged;
            link.stage = Stage::AwaitingUpToDate(std::mem::take(catching_up));
            let under_way = self.syncs_under_way(by_snapshot);
            self.outputs.push_back(LeaderOutput::SyncEnded { by_snapshot, under_way });
        }
        if let Some(voter) = self.voter_at(id).filter(|_| is_durable) {
            self.new_leader_acks.insert(voter);
        }
        match self.phase {
            Phase::Broadcasting => self.send_up_to_date(now_ms, id),
            _ => self.try_to_activate(),
        }
    }

    pub(super) fn try_to_activate(&mut self) {
        if self.phase == Phase::Syncing && self.is_quorum(&self.new_leader_acks) {
            self.oracle.activated_alone = !self.memberships.is_reached_by(&self.new_leader_acks);
            self.phase = Phase::Activating;
            self.outputs.push_back(LeaderOutput::Activate { epoch: self.epoch });
        }
    }

    /// The caller has applied the history: this server decides from now on.
    pub fn activated(&mut self, now_ms: MonotonicMs, history: &History) {
        if self.phase != Phase::Activating {
            return;
        }
        let acknowledged = self.oracle.activated_alone || self.is_quorum(&self.new_leader_acks);
        assert!(acknowledged, "a leader decides only once a quorum has its history");
        self.begin_phase(now_ms, Phase::Broadcasting);
        self.proposals.begin_epoch(self.epoch.beginning());
        // A change that was in the history is committed with it.
        self.memberships = Memberships::settled(self.memberships.last_seen.clone()).into();
        let waiting: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, link)| matches!(link.stage, Stage::AwaitingUpToDate(_)))
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.send_up_to_date(now_ms, id);
        }
        self.sync_waiting(history);
        if !self.is_voter(self.settings.me) {
            self.step_down(StepDownReason::NoVote, None);
        }
    }

    /// UPTODATE, and the commits that were held back for it.
    fn send_up_to_date(&mut self, now_ms: MonotonicMs, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Some(Identity { server, observer }) = link.identity else { return };
        // What it has not acknowledged yet, it could not before.
        let unacknowledged =
            (!observer && self.proposals.outstanding() > 0).then_some((self.proposals.proposed(), now_ms));
        let serving = Serving { unacknowledged, ..Serving::default() };
        link.heard_ms = now_ms;
        let held = match std::mem::replace(&mut link.stage, Stage::Synced(serving)) {
            Stage::AwaitingUpToDate(catching_up) => catching_up.held_commits,
            _ => Vec::new(),
        };
        self.send(id, &QuorumPacket::UpToDate);
        for bytes in held {
            self.outputs.push_back(LeaderOutput::ToLearner(id, LinkOutput::Send(bytes)));
        }
        self.outputs.push_back(LeaderOutput::LearnerSynced { link: id, server, observer });
        self.ask_too(id);
    }
}
