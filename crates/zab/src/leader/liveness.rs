//! Signs of life: pings, who is given up, whether a quorum is still there, and proof of it for those who must not read the past.
//!
//! What always holds here: who is silent too long, or does not acknowledge, is dropped; without a quorum this server leads no longer than a
//! tick; a ticket is confirmed only by answers to pings that were sent after it was asked for.
//!
//! Counterpart in the original: `Leader.lead`, `LearnerHandler.ping`, `SyncLimitCheck`; it confirms nothing.

use std::collections::{BTreeMap, BTreeSet};

use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_proto::{MonotonicMs, ServerId, Zxid};

use super::learner_link::{LearnerLink, Stage};
use super::{Leader, LeaderOutput, Phase};
use crate::history::History;
use crate::link::LinkId;
use crate::membership::{Membership, Role};
use crate::reasons::{DropReason, Lacks, LeaderEvent, StepDownReason};

/// Tickets, and the pings that confirm them.
#[derive(Debug, Default)]
pub(super) struct Confirmation {
    /// The ticket of the last round that was begun.
    last_ticket: u64,
    /// The last one that a quorum has confirmed.
    pub confirmed: u64,
    /// In flight: the number of the ping that counts, for each follower.
    round: Option<BTreeMap<LinkId, u64>>,
    /// Somebody waits for the round after it.
    another_round: bool,
}

impl Leader {
    /// Asks a quorum whether this server still leads. [`LeaderOutput::Confirmed`] follows with this ticket or a later one.
    pub fn confirm(&mut self, _now_ms: MonotonicMs) -> u64 {
        self.ask_quorum()
    }

    pub(super) fn ask_quorum(&mut self) -> u64 {
        if self.confirmation.round.is_some() {
            // The pings of the round in flight were sent before the question.
            self.confirmation.another_round = true;
            return self.confirmation.last_ticket + 1;
        }
        self.begin_round();
        self.confirmation.last_ticket
    }

    fn begin_round(&mut self) {
        self.confirmation.last_ticket += 1;
        self.confirmation.another_round = false;
        self.ping_all();
        let synced_followers = self.links.iter().filter(|(_, link)| !link.is_observer());
        let pings = synced_followers.filter_map(|(id, link)| match &link.stage {
            Stage::Synced(serving) => Some((*id, serving.pinged)),
            _ => None,
        });
        self.confirmation.round = Some(pings.collect());
        self.finish_round();
    }

    /// A follower that begins to serve takes part in the round in flight.
    pub(super) fn ask_too(&mut self, id: LinkId) {
        if self.confirmation.round.is_none() || self.links.get(&id).is_none_or(|link| link.is_observer()) {
            return;
        }
        let ping = self.ping(id);
        if let Some(round) = &mut self.confirmation.round {
            round.insert(id, ping);
        }
    }

    /// A learner answered a ping.
    pub(super) fn on_ping_echo(&mut self, now_ms: MonotonicMs, id: LinkId, zxid: Zxid) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if let Stage::Synced(serving) = &mut link.stage
            && zxid != UNCOUNTED
        {
            serving.echoed = serving.pinged.min(serving.echoed + 1);
            let echoed = serving.echoed;
            self.finish_round();
            self.refuse_doubles(now_ms, id, echoed);
        }
    }

    pub(super) fn finish_round(&mut self) {
        let Some(round) = &self.confirmation.round else { return };
        let echoed = |(id, ping): (&LinkId, &u64)| {
            let link = self.links.get(id)?;
            match &link.stage {
                Stage::Synced(serving) if serving.echoed >= *ping => link.follower(),
                _ => None,
            }
        };
        let mut servers: BTreeSet<ServerId> = round.iter().filter_map(echoed).collect();
        servers.insert(self.settings.me);
        if self.is_quorum(&servers) {
            self.confirmation.round = None;
            self.confirmation.confirmed = self.confirmation.last_ticket;
            // Those who wait for it begin with what comes next.
            self.claims.released |= self.links.values().any(|link| link.asked.is_some());
            self.outputs.push_back(LeaderOutput::Confirmed(self.confirmation.last_ticket));
            if self.confirmation.another_round {
                self.begin_round();
            }
        }
    }

    fn ping_all(&mut self) {
        let registered: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| link.is_registered()).map(|(id, _)| *id).collect();
        for id in registered {
            self.ping(id);
        }
    }

    /// Returns the number of the ping, where its answer counts.
    pub(super) fn ping(&mut self, id: LinkId) -> u64 {
        let (mut zxid, mut number) = (UNCOUNTED, 0);
        if let Some(Stage::Synced(serving)) = self.links.get_mut(&id).map(|link| &mut link.stage) {
            serving.pinged += 1;
            (zxid, number) = (self.proposals.proposed(), serving.pinged);
        }
        self.send(id, &QuorumPacket::Ping { zxid, touches: None });
        if number > 0 {
            self.note_ping(id, number);
        }
        number
    }

    /// A part of a stream went out to a learner: it is this server, not the learner, that is busy.
    pub fn stream_progressed(&mut self, now_ms: MonotonicMs, link: LinkId) {
        if let Some(link) = self.links.get_mut(&link) {
            link.heard_ms = link.heard_ms.max(now_ms);
        }
    }

    /// One of the voters looks for a leader. Whether that ends this server's attempt to lead.
    ///
    /// Two members may each be elected with the help of a third that follows neither: the third knows of a proposed membership in which
    /// it has no vote, so both of the others must want the same leader before it follows. While one tries to lead the other looks, and
    /// they would take turns for ever. Of two that take turns, one has tried for half of the time when the other begins to look.
    pub fn voter_looks(&mut self, now_ms: MonotonicMs, server: ServerId) -> bool {
        let init_ms = i64::from(self.settings.init_limit_ticks) * self.settings.tick_ms;
        let limit_ms = self.settings.max_time_to_wait_for_epoch_ms.unwrap_or(init_ms / 2);
        let has_few = matches!(self.phase, Phase::Gathering | Phase::Accepting | Phase::AwaitingEpochAcks);
        if !has_few || now_ms - self.began_ms < limit_ms || !self.is_voter(server) {
            return false;
        }
        self.step_down(StepDownReason::VoterLooks { limit_ms, server }, None);
        true
    }

    /// When [`Leader::tick`] has something to do.
    pub fn deadline_ms(&self) -> Option<MonotonicMs> {
        (self.phase != Phase::Over && !self.standalone).then_some(self.next_ping_ms)
    }

    /// Time passes.
    pub fn tick(&mut self, now_ms: MonotonicMs, history: &History) {
        self.pass_time(now_ms, history);
        self.sync_released(history);
    }

    fn pass_time(&mut self, now_ms: MonotonicMs, history: &History) {
        if self.deadline_ms().is_none_or(|due_ms| now_ms < due_ms) {
            return;
        }
        let late_ms = now_ms - self.next_ping_ms;
        if late_ms >= self.settings.tick_ms {
            // This server stood still, and what came meanwhile has not been read.
            self.links.values_mut().for_each(|link| link.excuse(late_ms));
        }
        self.next_ping_ms = now_ms + (self.settings.tick_ms / 2).max(1);
        let init_ms = i64::from(self.settings.init_limit_ticks) * self.settings.tick_ms;
        let sync_ms = self.sync_limit_ms();
        let contested = self.contested_links();
        let overdue = |(id, link): (&LinkId, &LearnerLink)| {
            // Another one waits for it.
            let sync_ms = if contested.contains(id) { sync_ms / 2 } else { sync_ms };
            Some((*id, link.overdue(now_ms, init_ms, sync_ms)?))
        };
        let overdue: Vec<(LinkId, DropReason)> = self.links.iter().filter_map(overdue).collect();
        for (id, why) in overdue {
            self.drop_link(id, why);
        }
        self.sync_released(history);
        let late: Vec<LeaderEvent> = self.links.values_mut().filter_map(|link| link.late(now_ms, sync_ms)).collect();
        late.into_iter().for_each(|event| self.log(event));
        self.look_at_oracle(now_ms);
        let lacks = match self.phase {
            Phase::Gathering => Lacks::Connections,
            Phase::Accepting | Phase::AwaitingEpochAcks => Lacks::EpochAcks,
            Phase::Syncing => Lacks::HistoryAcks,
            Phase::Activating | Phase::Over => return,
            Phase::Broadcasting => {
                let present = self.followers(|_| true);
                if !self.is_quorum(&present) {
                    let present = present.into_iter().collect();
                    self.step_down(StepDownReason::TooFewLeft { present }, None);
                    return;
                }
                self.ping_all();
                return;
            }
        };
        if now_ms - self.phase_began_ms >= init_ms {
            self.step_down(StepDownReason::NoQuorum { lacks, limit_ms: init_ms }, None);
            return;
        }
        self.ping_all();
    }

    pub(super) fn sync_limit_ms(&self) -> i64 {
        i64::from(self.settings.sync_limit_ticks) * self.settings.tick_ms
    }

    /// Whether enough of a membership to come is synced. A follower that became an observer just now is about to leave and come back as
    /// one, so it will not be sent the change.
    pub fn has_synced_quorum_of(&self, membership: &Membership) -> bool {
        let mut synced = self.followers(|stage| matches!(stage, Stage::Synced(_)));
        let members = &self.memberships.committed.members;
        synced.retain(|server| members.get(server).is_none_or(|member| member.role == Role::Participant));
        membership.quorum().is_reached_by(&synced)
    }

    /// This server and its registered followers.
    fn followers(&self, counts: impl Fn(&Stage) -> bool) -> BTreeSet<ServerId> {
        let followers = self.links.values().filter(|link| link.is_registered() && counts(&link.stage));
        followers.filter_map(|link| link.follower()).chain([self.settings.me]).collect()
    }
}

/// Until UPTODATE the original's learners do not answer pings, and Rookeeper's do. Answers to pings with this zxid are not counted.
const UNCOUNTED: Zxid = Zxid::ZERO;
