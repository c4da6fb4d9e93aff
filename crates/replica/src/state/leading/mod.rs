//! A member that leads: its learners' links before and while it does, and what its leader asks for.
//!
//! What always holds here: a learner that comes before this server knows whether it leads is held for a bounded time with bounded bytes;
//! nothing is decided before the leader is established, and then the whole history is applied first.

pub(crate) mod ended;
pub(crate) mod propose;
pub(crate) mod reaper;
mod reconfig;
pub(crate) mod requests;

use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::Epoch;
use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_zab::LinkId;
use rookeeper_zab::leader::{Leader, LeaderOutput, LeaderSettings, Start};
use rookeeper_zab::link::MAX_PACKET_BYTES;

use crate::contract::{Level, Output, Store};
use crate::member::Early;
use crate::replica::{Replica, Role};
use crate::state::leading::requests::Request;
use crate::time::Time;

/// How many may, and how much of what they say is kept.
const MAX_EARLY: usize = 64;
const MAX_EARLY_BYTES: usize = 64 << 10;

impl Replica {
    pub(crate) fn learner_connected(&mut self, now: Time, link: LinkId, peer: String) {
        let Some(member) = &mut self.member else { return };
        match &mut self.role {
            Role::Leading(leader) => {
                member.learners.insert(link);
                leader.learner_connected(now.monotonic_ms, link, peer);
            }
            Role::Looking if member.early.len() < MAX_EARLY => {
                member.early.insert(link, Early { peer, packets: Vec::new(), since_ms: now.monotonic_ms });
            }
            Role::Looking | Role::Learning(_) => {
                self.outputs.push_back(Output::DropLearner { link, why: "this server does not lead".to_owned() });
            }
        }
    }

    pub(crate) fn take_from_learner(&mut self, now: Time, link: LinkId, packets: &[u8]) {
        let Some(member) = &mut self.member else { return };
        if let Some(early) = member.early.get_mut(&link) {
            if early.packets.len() + packets.len() <= MAX_EARLY_BYTES {
                early.packets.extend_from_slice(packets);
            } else {
                member.early.remove(&link);
                let why = "it said too much before this server knew whether it leads".to_owned();
                self.outputs.push_back(Output::DropLearner { link, why });
            }
            return;
        }
        let Role::Leading(leader) = &mut self.role else { return };
        let mut rest = packets;
        while !rest.is_empty() {
            match QuorumPacket::split(rest, MAX_PACKET_BYTES) {
                Ok(Some((packet, length))) => {
                    leader.receive(now.monotonic_ms, &self.history, link, packet);
                    rest = &rest[length..];
                }
                Ok(None) => return,
                Err(error) => {
                    let why = format!("it sent what is not a packet of this protocol: {error}");
                    leader.learner_gone(now.monotonic_ms, &self.history, link, &why);
                    self.log(Level::Warn, format!("learner {link} dropped: {why}"));
                    self.outputs.push_back(Output::DropLearner { link, why });
                    return;
                }
            }
        }
    }

    pub(crate) fn begin_leading(&mut self, now: Time) {
        let Some(member) = &mut self.member else { return };
        let settings = &member.settings;
        let mut leader = Leader::new(
            LeaderSettings {
                me: settings.me,
                tick_ms: self.shared.settings.tick_time_ms,
                init_limit_ticks: settings.init_limit_ticks,
                sync_limit_ticks: settings.sync_limit_ticks,
                force_snapshot_sync: settings.force_snapshot_sync,
                max_concurrent_snap_syncs: settings.max_concurrent_snap_syncs,
                max_concurrent_diff_syncs: settings.max_concurrent_diff_syncs,
                max_time_to_wait_for_epoch_ms: settings.max_time_to_wait_for_epoch_ms,
                reconfig_enabled: self.shared.settings.reconfig,
                rollover: settings.rollover,
            },
            (*member.memberships).clone(),
            Start {
                accepted_epoch: member.epochs.accepted,
                current_epoch: member.epochs.current,
                history_last: self.history.last(),
            },
            now.monotonic_ms,
        );
        leader.yields_from(member.yields.not_before_ms());
        member.stale_standing = true;
        let early = std::mem::take(&mut member.early);
        self.role = Role::Leading(Box::new(leader));
        for (link, Early { peer, packets, .. }) in early {
            self.learner_connected(now, link, peer);
            self.take_from_learner(now, link, &packets);
        }
    }

    pub(crate) fn leader_output(&mut self, now: Time, output: LeaderOutput) {
        match output {
            LeaderOutput::AcceptedEpoch(epoch) => self.store(Store::AcceptedEpoch(epoch)),
            LeaderOutput::CurrentEpoch(epoch) => self.store_current_epoch(epoch),
            LeaderOutput::ToLearner { link, bytes } => self.outputs.push_back(Output::ToLearner { link, bytes }),
            LeaderOutput::PlanSync { link, after, before } => {
                self.outputs.push_back(Output::PlanSync { link, after, before });
            }
            LeaderOutput::StreamLog { link, after, before } => {
                self.outputs.push_back(Output::StreamLog { link, after, before });
            }
            LeaderOutput::StreamSnapshot { link } => self.outputs.push_back(Output::StreamSnapshot { link }),
            LeaderOutput::Drop { link, why } => {
                if let Some(member) = &mut self.member {
                    member.learners.remove(&link);
                }
                self.outputs.push_back(Output::DropLearner { link, why });
            }
            LeaderOutput::Activate { epoch } => self.activate(now, epoch),
            LeaderOutput::Committed(zxid) => {
                if self.member.is_some() {
                    let statistics = &self.shared.statistics.member;
                    self.note_committed(now, zxid, &statistics.commits, &statistics.quorum_latency_ms);
                }
                self.history.commit(zxid);
                self.commit(now, zxid);
                if let Some(membership) = self.reconfigured.take() {
                    self.activate_membership(now, membership);
                }
                self.answer_syncs(now);
            }
            LeaderOutput::Request { link, server: _, session, cxid, op, body, identities } => {
                self.take_request(now, Request { link, session, cxid, op, body, identities });
            }
            LeaderOutput::SyncRequest { link, .. } => self.take_sync(now, link),
            LeaderOutput::Touch { session, timeout_ms } => {
                self.shared.sessions().touch(session, timeout_ms, now.monotonic_ms);
            }
            LeaderOutput::Revalidate { link, session, timeout_ms } => {
                self.shared.statistics.member.revalidations.fetch_add(1, Relaxed);
                self.revalidate_for(now, link, session, timeout_ms);
            }
            LeaderOutput::SyncBegan { by_snapshot, under_way } => {
                let statistics = &self.shared.statistics.member;
                let (syncs, summary) = match by_snapshot {
                    true => (&statistics.snapshot_syncs, &statistics.snapshot_syncs_under_way),
                    false => (&statistics.log_syncs, &statistics.log_syncs_under_way),
                };
                syncs.fetch_add(1, Relaxed);
                summary.record(under_way as u64);
            }
            LeaderOutput::SyncEnded { by_snapshot, under_way } => {
                let statistics = &self.shared.statistics.member;
                let summary = match by_snapshot {
                    true => &statistics.snapshot_syncs_under_way,
                    false => &statistics.log_syncs_under_way,
                };
                summary.record(under_way as u64);
            }
            LeaderOutput::LearnerSynced { .. } => self.mark_standing(),
            LeaderOutput::LearnerGone { link } => {
                if let Some(member) = &mut self.member {
                    member.learners.remove(&link);
                }
                self.forget_learner(link);
                self.mark_standing();
            }
            LeaderOutput::Confirmed(ticket) => self.confirmed(now, ticket),
            LeaderOutput::Log { warn, text } => self.log(if warn { Level::Warn } else { Level::Info }, text),
            LeaderOutput::Yielded => {
                let pause_ms = self.shared.settings.tick_time_ms
                    * self.member.as_ref().map_or(1, |member| i64::from(member.settings.init_limit_ticks));
                if let Some(member) = &mut self.member {
                    member.yields.note(now.monotonic_ms, pause_ms);
                }
            }
            LeaderOutput::StepDown { why, successor } => {
                if let (Some(member), Some(successor)) = (&mut self.member, successor) {
                    member.designated = Some((successor, member.state_of_learner()));
                }
                self.look_for_leader(now, &why);
            }
        }
    }

    /// This server leads: its history is the ensemble's, and it decides from here on.
    pub(crate) fn activate(&mut self, now: Time, epoch: Epoch) {
        let last = self.history.last();
        self.history.commit(last);
        self.commit(now, last);
        self.tree_is_exact();
        self.reconfigured = None;
        if let Role::Leading(leader) = &self.role {
            let membership = leader.memberships().last_seen.clone();
            self.activate_membership(now, membership);
        }
        self.begin_serving(now, true);
        let Some(member) = &mut self.member else { return };
        member.election.established(i64::from(epoch));
        if let Role::Leading(leader) = &mut self.role {
            leader.activated(now.monotonic_ms, &self.history);
        }
        let took_ms = now.monotonic_ms - member.looking_since_ms;
        member.leading_since_ms = now.monotonic_ms;
        member.stale_standing = true;
        self.log(
            Level::Info,
            format!(
                "this server leads epoch {epoch:x} from {last} on, {took_ms} ms after it began to look for a leader"
            ),
        );
    }
}
