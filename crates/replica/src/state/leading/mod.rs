//! A member that leads: its learners, its own clients, and what its [`Leader`] asks for.
//!
//! - `learner_requests.rs`: what learners ask for; `syncs.rs`: the syncs among it, and what waits behind them
//! - `clients.rs`: what its own clients ask for
//! - `reconfig.rs`: the change of the members
//! - `ended.rs`: sessions that are over, for the sake of local ones
//!
//! What always holds here: nothing is decided before the leader is established, and then the whole history is applied first.
//!
//! Counterpart in the original: `Leader`, `LeaderZooKeeperServer`.

mod clients;
mod ended;
pub(super) mod learner_requests;
mod reconfig;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::election::{Notification, PeerState};
use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_proto::{Epoch, MonotonicMs, ServerId, SessionId, Zxid};
use rookeeper_zab::leader::{Leader, LeaderOutput, LeaderPhase, LeaderSettings, Start};
use rookeeper_zab::link::MAX_PACKET_BYTES;
use rookeeper_zab::{DropReason, LinkEnd, LinkId, LinkOutput, StepDownReason};

use crate::check::{Broken, must};
use crate::contract::{Output, Store};
use crate::core::Core;
use crate::inputs::LearnerInput;
use crate::member::{Designated, Done, Member};
use crate::reasons::{Event, RoleEnd};
use crate::state::leading::ended::EndedSessions;
use crate::state::leading::learner_requests::Request;
use crate::state::syncs::Syncs;
use crate::state::{End, Step};
use crate::status::{RoleStatus, Serving};
use crate::time::Time;
use crate::write::apply::Committer;
use crate::write::proposer::Proposer;

#[derive(Debug)]
pub(crate) struct Leading {
    proposer: Proposer,
    /// Links of learners that the leader knows.
    learners: BTreeSet<LinkId>,
    syncs: Syncs,
    /// Of the sessions that this leader has seen end.
    ended: EndedSessions,
    /// When the search began that made this server the leader.
    looked_since_ms: MonotonicMs,
    /// Since when it leads; since when it has been about to until it does.
    since_ms: MonotonicMs,
}

impl Committer for Leading {
    fn applied(&mut self, zxid: Zxid, limit: usize) -> usize {
        self.proposer.applied(zxid, limit)
    }

    fn session_closed(&mut self, session: SessionId) {
        self.ended.note(session);
    }
}

impl Leading {
    /// Begins an attempt to lead. The search that made this server the leader began at `looked_since_ms`.
    pub fn new(core: &Core, member: &Member, now: Time, looked_since_ms: MonotonicMs) -> Leading {
        let settings = &member.settings;
        let mut leader = Leader::new(
            LeaderSettings {
                me: settings.me,
                tick_ms: core.shared.settings.tick_time_ms,
                init_limit_ticks: settings.init_limit_ticks,
                sync_limit_ticks: settings.sync_limit_ticks,
                force_snapshot_sync: settings.force_snapshot_sync,
                max_concurrent_snap_syncs: settings.max_concurrent_snap_syncs,
                max_concurrent_diff_syncs: settings.max_concurrent_diff_syncs,
                max_time_to_wait_for_epoch_ms: settings.max_time_to_wait_for_epoch_ms,
                reconfig_enabled: core.shared.settings.reconfig,
                rollover: settings.rollover,
                has_oracle: settings.has_oracle,
            },
            (*member.memberships).clone(),
            Start {
                accepted_epoch: member.epochs.accepted,
                current_epoch: member.epochs.current,
                history_last: core.history.last(),
            },
            now.monotonic_ms,
        );
        leader.oracle_says(member.oracle_grants);
        if let Some(at_ms) = member.yields.not_before_ms() {
            leader.yields_from(at_ms);
        }
        Leading {
            proposer: Proposer::new(core, leader, now),
            learners: BTreeSet::new(),
            syncs: Syncs::default(),
            ended: EndedSessions::default(),
            looked_since_ms,
            since_ms: now.monotonic_ms,
        }
    }

    /// It is over: clients are cut, learners dropped.
    pub fn end(self, core: &mut Core, why: RoleEnd) {
        core.stop_serving(Vec::new(), self.syncs.abandon());
        core.log(Event::NoLongerLeads(why));
        for link in self.learners {
            core.put(Output::ToLearner(link, LinkOutput::Drop(DropReason::NoLongerLeading)));
        }
    }

    /// What comes on the link of a learner.
    pub fn take_learner_input(&mut self, core: &mut Core, now: Time, link: LinkId, input: LearnerInput) {
        let now_ms = now.monotonic_ms;
        let leader = &mut self.proposer.leader;
        match input {
            LearnerInput::Connected { peer } => {
                self.learners.insert(link);
                leader.learner_connected(now_ms, link, peer);
            }
            LearnerInput::ObserverConnected { .. } => {
                core.put(Output::ToLearner(link, LinkOutput::Drop(DropReason::FeedsNobody)));
            }
            LearnerInput::Packets(packets) => self.take_packets(core, now, link, &packets),
            LearnerInput::Gone { why } => leader.learner_gone(now_ms, &core.history, link, why),
            LearnerInput::SyncPlanned(plan) => leader.sync_planned(now_ms, &core.history, link, plan),
            LearnerInput::StreamProgressed => leader.stream_progressed(now_ms, link),
        }
    }

    fn take_packets(&mut self, core: &mut Core, now: Time, link: LinkId, packets: &[u8]) {
        let leader = &mut self.proposer.leader;
        let mut rest = packets;
        while !rest.is_empty() {
            match QuorumPacket::split(rest, MAX_PACKET_BYTES) {
                Ok(Some((packet, length))) => {
                    leader.receive(now.monotonic_ms, &core.history, link, packet);
                    rest = &rest[length..];
                }
                Ok(None) => return,
                Err(error) => {
                    let why = DropReason::NotAPacket(error);
                    let end = LinkEnd::Dropped(why.clone());
                    leader.learner_gone(now.monotonic_ms, &core.history, link, end.clone());
                    core.log(Event::LearnerDropped { link, why: end });
                    core.put(Output::ToLearner(link, LinkOutput::Drop(why)));
                    return;
                }
            }
        }
    }

    /// A vote of another server. One that looks for a leader may not know that there is this one.
    pub fn hear_vote(&mut self, core: &Core, now: Time, from: ServerId, vote: &Notification) {
        if vote.state != PeerState::Looking {
            return;
        }
        let leader = &mut self.proposer.leader;
        leader.voter_said(from, vote.peer_epoch, vote.zxid);
        if leader.voter_looks(now.monotonic_ms, from) {
            core.shared.statistics.member.disloyal_voters.fetch_add(1, Relaxed);
        }
    }

    /// Whether this server may go on without the other of two members.
    pub fn oracle_says(&mut self, grants: bool) {
        self.proposer.leader.oracle_says(grants);
    }

    /// The storage has done what this role, or an earlier one, has asked for.
    pub fn stored(&mut self, now: Time, done: Done) {
        let leader = &mut self.proposer.leader;
        match done {
            Done::AcceptedEpoch(epoch) => leader.accepted_epoch_stored(now.monotonic_ms, epoch),
            Done::CurrentEpoch(epoch) => leader.current_epoch_stored(now.monotonic_ms, epoch),
            // An earlier role asked for it.
            Done::Truncated(_) | Done::SnapshotInstalled(_) | Done::MembershipRefused { .. } => {}
        }
    }

    /// This server has everything up to `zxid` on disk.
    pub fn synced(&mut self, core: &mut Core, now: Time, zxid: Zxid) {
        core.note_acknowledged(now, zxid);
        core.history.synced(zxid);
        self.proposer.leader.synced(now.monotonic_ms, zxid);
    }

    /// What time does.
    pub fn tick(&mut self, core: &Core, member: &mut Member, now: Time) {
        let leader = &mut self.proposer.leader;
        if leader.deadline_ms().is_some_and(|due_ms| due_ms <= now.monotonic_ms) {
            leader.tick(now.monotonic_ms, &core.history);
            // It ticks twice a tick, and a request may come after twice syncLimit.
            self.ended.tick(4 * member.settings.sync_limit_ticks);
            let lags_ms = leader.lags(now.monotonic_ms);
            core.shared.status_board.update(|status| status.learner_lags_ms = lags_ms);
            member.stale_status = true;
        }
    }

    /// Containers and TTL nodes that nobody needs any more go.
    pub fn reap(&mut self, core: &mut Core, member: &mut Member, now: Time) {
        if !self.decides(core) {
            return;
        }
        while let Some(path) = self.proposer.next_to_reap(core, now) {
            let txn = self.proposer.prepare(core, now, SessionId::NONE, &[], |prepare| prepare.reap(path));
            self.propose(core, member, now, (SessionId::NONE, 0), txn, None);
        }
    }

    /// A session has expired.
    pub fn close_session(&mut self, core: &mut Core, member: &mut Member, now: Time, session: SessionId) {
        let txn = self.proposer.prepare(core, now, session, &[], |prepare| Ok(prepare.close_session()));
        self.propose(core, member, now, (session, 0), txn, None);
    }

    /// What must hold after each event, see [`Replica::check`](crate::Replica::check).
    pub fn check(&self, core: &Core) -> Result<(), Broken> {
        if !self.decides(core) {
            return must(core.serving() == Serving::Nobody, "a leader decides, or is about to");
        }
        must(self.proposer.leader.phase() == LeaderPhase::Broadcast, "a quorum has acknowledged the leader")?;
        self.proposer.check(core)
    }

    /// When there is something to do although nothing happens.
    pub fn deadline_ms(&self, core: &Core) -> Option<MonotonicMs> {
        let reaper = self.decides(core).then(|| self.proposer.reaper_deadline_ms());
        [self.proposer.leader.deadline_ms(), reaper].into_iter().flatten().min()
    }

    /// Whether a quorum has acknowledged this leader.
    fn decides(&self, core: &Core) -> bool {
        core.serving() == Serving::Deciding
    }

    /// What a leader tells of itself.
    pub fn status(&self, member: &Member) -> RoleStatus {
        RoleStatus::leading(member.settings.me, &self.proposer, self.since_ms)
    }

    /// Carries out what the leader asks for.
    pub fn step(&mut self, core: &mut Core, member: &mut Member, now: Time) -> Step {
        let Some(output) = self.proposer.leader.poll() else { return Step::Idle };
        match output {
            LeaderOutput::AcceptedEpoch(epoch) => member.store(core, Store::AcceptedEpoch(epoch)),
            LeaderOutput::CurrentEpoch(epoch) => member.store_current_epoch(core, epoch),
            LeaderOutput::ToLearner(link, output) => {
                if let LinkOutput::Drop(_) = output {
                    self.learners.remove(&link);
                }
                core.put(Output::ToLearner(link, output));
            }
            LeaderOutput::Activate { epoch } => self.activate(core, member, now, epoch),
            LeaderOutput::Committed(zxid) => self.commit(core, member, now, zxid),
            LeaderOutput::Request { link, server: _, session, cxid, op, body, identities } => {
                core.shared.sessions().heard(session, link, now.monotonic_ms);
                let request = Request { link, session, cxid, op, body, identities };
                self.take_request(core, member, now, request);
            }
            LeaderOutput::SyncRequest { link, session, .. } => {
                core.shared.sessions().heard(session, link, now.monotonic_ms);
                self.take_sync(now, link);
            }
            LeaderOutput::Touch { session, timeout_ms } => {
                core.shared.sessions().touch(session, timeout_ms, now.monotonic_ms);
            }
            LeaderOutput::Revalidate { link, session, timeout_ms } => {
                core.shared.statistics.member.revalidations.fetch_add(1, Relaxed);
                self.take_revalidation(core, now, link, session, timeout_ms);
            }
            LeaderOutput::SyncBegan { by_snapshot, under_way } => note_sync_began(core, by_snapshot, under_way),
            LeaderOutput::SyncEnded { by_snapshot, under_way } => note_syncs_under_way(core, by_snapshot, under_way),
            LeaderOutput::LearnerSynced { .. } => member.stale_status = true,
            LeaderOutput::LearnerGone { link } => {
                self.learners.remove(&link);
                self.syncs.forget_learner(link);
                member.stale_status = true;
            }
            LeaderOutput::Confirmed(ticket) => {
                self.syncs.confirm(ticket);
                self.answer_syncs(core, member, now);
            }
            LeaderOutput::Log(event) => core.log(Event::Leader(event)),
            LeaderOutput::Yielded => {
                let pause_ms = core.shared.settings.tick_time_ms * i64::from(member.settings.init_limit_ticks);
                member.yields.note(now.monotonic_ms, pause_ms);
            }
            LeaderOutput::StepDown { why, successor } => {
                if matches!(why, StepDownReason::VoterLooks { .. }) {
                    member.election.tried_in_vain();
                }
                let designated = successor.map(|leader| Designated { leader, state: member.state_of_learner() });
                return Step::Over(End { why: RoleEnd::SteppedDown(why), designated, pause_ms: 0 });
            }
        }
        Step::Done
    }

    /// A quorum has everything up to `zxid`.
    fn commit(&mut self, core: &mut Core, member: &mut Member, now: Time, zxid: Zxid) {
        let statistics = &core.shared.statistics.member;
        core.note_committed(now, zxid, &statistics.commits, &statistics.quorum_latency_ms);
        if let Some(membership) = core.commit(now, zxid, self) {
            member.activate_membership(core, now, membership);
        }
        self.answer_syncs(core, member, now);
    }

    /// This server leads: its history is the ensemble's, and it decides from here on.
    fn activate(&mut self, core: &mut Core, member: &mut Member, now: Time, epoch: Epoch) {
        let last = core.history.last();
        // What a reconfiguration among it made is not newer than the membership that the leader goes by.
        core.commit(now, last, self);
        core.note_tree_is_exact();
        let membership = self.proposer.leader.memberships().last_seen.clone();
        member.activate_membership(core, now, membership);
        core.begin_serving(now, Serving::Deciding);
        self.proposer.begin(core, now);
        member.note_available(core, now, true);
        member.election.established(epoch);
        self.proposer.leader.activated(now.monotonic_ms, &core.history);
        self.since_ms = now.monotonic_ms;
        let took_ms = now.monotonic_ms - self.looked_since_ms;
        core.log(Event::Leads { epoch, last, took_ms });
    }
}

pub(crate) fn note_sync_began(core: &Core, by_snapshot: bool, under_way: usize) {
    let statistics = &core.shared.statistics.member;
    let syncs = if by_snapshot { &statistics.snapshot_syncs } else { &statistics.log_syncs };
    syncs.fetch_add(1, Relaxed);
    note_syncs_under_way(core, by_snapshot, under_way);
}

pub(crate) fn note_syncs_under_way(core: &Core, by_snapshot: bool, under_way: usize) {
    let statistics = &core.shared.statistics.member;
    let summary = if by_snapshot { &statistics.snapshot_syncs_under_way } else { &statistics.log_syncs_under_way };
    summary.record(under_way as u64);
}
