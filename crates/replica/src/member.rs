//! A member of an ensemble: looks for a leader, becomes one or follows one, and begins again when that ends.
//!
//! What always holds here:
//! - a server serves only under a leader that a quorum has acknowledged, itself or another; when that ends its clients are cut before
//!   anything else happens;
//! - it votes with what is durable: before it looks for a leader the storage has answered everything;
//! - what is logged and not committed stays in the history, for the next leader to decide about.
//!
//! Counterpart in the original: `QuorumPeer.run`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rookeeper_proto::election::PeerState;
use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_proto::{Epoch, ServerId, TxnRecord, Zxid};
use rookeeper_zab::election::{Candidacy, Election, ElectionOutput, ElectionSettings, Vote};
use rookeeper_zab::leader::{Leader, LeaderOutput, LeaderSettings, Start};
use rookeeper_zab::learner::{Learner, LearnerOutput, LearnerPhase, LearnerSettings, LearnerStart};
use rookeeper_zab::link::MAX_PACKET_BYTES;
use rookeeper_zab::{History, HostPort, LinkId, Membership, Memberships, Record};

use crate::ensemble::{EnsembleSettings, Epochs, Level, Store, Stored};
use crate::leading::Request;
use crate::pending::Pending;
use crate::reaper::Reaper;
use crate::replica::{InFlight, Input, Output, Replica, Role, reconfigured};
use crate::shared::Shared;
use crate::standing::{Leadership, Part, Phase, Serving, phase_of};
use crate::time::Time;

/// Votes that lead to a leader are given this long to be overtaken by better ones.
const FINALIZE_WAIT_MS: i64 = 200;

/// A learner may connect before this server knows that it leads. It waits this long.
const EARLY_WAIT_MS: i64 = 1000;
/// How many may, and how much of what they say is kept.
const MAX_EARLY: usize = 64;
const MAX_EARLY_BYTES: usize = 64 << 10;

/// A learner that connected while this server looks for a leader.
#[derive(Debug)]
struct Early {
    peer: String,
    packets: Vec<u8>,
    since_ms: i64,
}

#[derive(Debug)]
pub(crate) struct Member {
    pub settings: EnsembleSettings,
    pub memberships: Arc<Memberships>,
    pub election: Election,
    /// As on disk.
    pub epochs: Epochs,
    next_link: u64,
    early: BTreeMap<LinkId, Early>,
    /// Links of learners that the leader knows.
    learners: BTreeSet<LinkId>,
    looking_since_ms: i64,
    leading_since_ms: i64,
    /// Not before this, and only once the storage has answered everything, another election begins.
    look_at_ms: Option<i64>,
    /// The membership the leader goes by that this server catches up with.
    leader_membership: Option<Membership>,
    /// Who leads after a reconfiguration, and what that makes this server: no election is needed.
    pub designated: Option<(ServerId, PeerState)>,
    /// Answers of the storage that are still to come.
    storing: usize,
    /// The tree came as a snapshot, or from a disk where one may lie: it may show effects of transactions that come after its zxid,
    /// and is exact only when everything is applied that was sent before UPTODATE.
    after_snapshot: bool,
    /// Clients may come when this is applied.
    serve_at: Option<Zxid>,
    /// Raised whenever there is something new to tell about this server.
    pub stale_standing: bool,
}

impl Member {
    pub fn looking_since_ms(&self) -> i64 {
        self.looking_since_ms
    }
}

impl Replica {
    /// A member of an ensemble, which begins by looking for a leader.
    pub fn member(shared: Arc<Shared>, settings: EnsembleSettings, epochs: Epochs, now: Time) -> Replica {
        let memberships = Arc::new(settings.memberships.clone());
        let last = shared.tree().last_zxid();
        let election = Election::new(
            ElectionSettings {
                me: settings.me,
                notification_interval_ms: settings.notification_interval_ms,
                finalize_wait_ms: FINALIZE_WAIT_MS,
            },
            memberships.clone(),
            Candidacy { zxid: last, epoch: i64::from(epochs.current) },
        );
        let history = History::new(last, settings.commit_log_count);
        let mut replica = Replica::with_role(shared, Role::Looking, history, now);
        replica.shared.bulletin.serve(Serving::Nobody);
        replica.outputs.push_back(Output::Members(memberships.clone()));
        replica.member = Some(Box::new(Member {
            settings,
            memberships,
            election,
            epochs,
            next_link: 1,
            early: BTreeMap::new(),
            learners: BTreeSet::new(),
            looking_since_ms: now.monotonic_ms,
            leading_since_ms: now.monotonic_ms,
            look_at_ms: Some(now.monotonic_ms),
            leader_membership: None,
            designated: None,
            storing: 0,
            after_snapshot: true,
            serve_at: None,
            stale_standing: true,
        }));
        replica.compare_digests = false;
        replica.try_to_look(now);
        replica.pump(now);
        replica
    }

    pub(crate) fn local_sessions(&self) -> bool {
        self.member.as_ref().is_some_and(|member| member.settings.local_sessions)
    }

    /// Takes an input that only members have.
    pub(crate) fn take_member_input(&mut self, now: Time, input: Input) {
        let Some(member) = &mut self.member else { return };
        let now_ms = now.monotonic_ms;
        match input {
            Input::Stored(stored) => self.stored(now, stored),
            Input::Notified { from, notification } => {
                if notification.state == PeerState::Looking
                    && let Role::Leading(leader) = &mut self.role
                {
                    leader.voter_looks(now_ms, from);
                }
                member.election.receive(now_ms, from, notification);
                self.look_where_others_lead(now);
            }
            Input::ElectionLinkUp { server } => member.election.link_up(now_ms, server),
            Input::ElectionLinkDown { server } => member.election.link_down(now_ms, server),
            Input::LearnerConnected { link, peer } => self.learner_connected(now, link, peer),
            Input::FromLearner { link, packets } => self.take_from_learner(now, link, &packets),
            Input::LearnerGone { link, why } => {
                member.early.remove(&link);
                if let Role::Leading(leader) = &mut self.role {
                    leader.learner_gone(now_ms, link, &why);
                }
            }
            Input::SyncPlanned { link, plan } => {
                if let Role::Leading(leader) = &mut self.role {
                    leader.sync_planned(now_ms, &self.history, link, plan);
                }
            }
            Input::StreamProgressed { link } => {
                if let Role::Leading(leader) = &mut self.role {
                    leader.stream_progressed(now_ms, link);
                }
            }
            Input::LeaderConnected { link } => {
                if let Some(learner) = self.learner_of(link) {
                    learner.connected(now_ms);
                }
            }
            Input::LeaderHeard { link } => {
                if let Some(learner) = self.learner_of(link) {
                    learner.heard(now_ms);
                }
            }
            Input::FromLeader { link, packets } => {
                if let Some(learner) = self.learner_of(link) {
                    learner.receive(now_ms, &packets);
                }
            }
            Input::SnapshotReceived { link, tree, bytes } => {
                if self.learner_of(link).is_none() {
                    return;
                }
                let zxid = tree.last_zxid();
                self.log(
                    Level::Info,
                    format!("received the snapshot at {zxid}: {bytes} bytes, {} nodes", tree.node_count()),
                );
                *self.shared.tree_mut() = *tree;
                if let Some(learner) = self.learner_of(link) {
                    learner.snapshot_received(zxid);
                }
            }
            Input::LeaderGone { link, why } => {
                if let Some(learner) = self.learner_of(link) {
                    learner.link_gone(now_ms, &why);
                }
            }
            Input::Connect { .. }
            | Input::Write { .. }
            | Input::Read { .. }
            | Input::Disconnected { .. }
            | Input::Synced { .. }
            | Input::Tick => unreachable!("the replica takes these itself"),
        }
    }

    /// A quorum may have settled on another leader than this server, which has not reached its own yet.
    fn look_where_others_lead(&mut self, now: Time) {
        let Some(member) = &self.member else { return };
        let established = self.shared.bulletin.serving() != Serving::Nobody;
        if let Some(other) = member.election.led_elsewhere().filter(|_| !established)
            && !matches!(self.role, Role::Looking)
        {
            self.look_for_leader(now, &format!("a quorum follows server {}", other.0));
        }
    }

    /// The learner whose link this is. What comes on an older link is late.
    fn learner_of(&mut self, link: LinkId) -> Option<&mut Learner> {
        match &mut self.role {
            Role::Learning(learner) if learner.link() == Some(link) => Some(learner),
            _ => None,
        }
    }

    fn learner_connected(&mut self, now: Time, link: LinkId, peer: String) {
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

    fn take_from_learner(&mut self, now: Time, link: LinkId, packets: &[u8]) {
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
                    leader.learner_gone(now.monotonic_ms, link, &why);
                    self.log(Level::Warn, format!("learner {link} dropped: {why}"));
                    self.outputs.push_back(Output::DropLearner { link, why });
                    return;
                }
            }
        }
    }

    pub(crate) fn log(&mut self, level: Level, text: String) {
        self.outputs.push_back(Output::Log { level, text });
    }

    fn store(&mut self, store: Store) {
        if let Some(member) = &mut self.member {
            member.storing += 1;
            self.outputs.push_back(Output::Store(store));
        }
    }

    fn stored(&mut self, now: Time, stored: Stored) {
        let Some(member) = &mut self.member else { return };
        member.storing -= 1;
        let now_ms = now.monotonic_ms;
        match stored {
            Stored::AcceptedEpoch(epoch) => {
                member.epochs.accepted = epoch;
                match &mut self.role {
                    Role::Leading(leader) => leader.accepted_epoch_stored(now_ms, epoch),
                    Role::Learning(learner) => learner.accepted_epoch_stored(epoch),
                    Role::Looking => {}
                }
            }
            Stored::CurrentEpoch(epoch) => {
                member.epochs.current = epoch;
                match &mut self.role {
                    Role::Leading(leader) => leader.current_epoch_stored(now_ms, epoch),
                    Role::Learning(learner) => learner.current_epoch_stored(now_ms, epoch),
                    Role::Looking => {}
                }
            }
            Stored::Truncated { zxid, tree } => {
                let mut last = zxid;
                if let Some(tree) = tree {
                    last = tree.last_zxid();
                    *self.shared.tree_mut() = *tree;
                    self.history.reset(last);
                    member.after_snapshot = true;
                    self.compare_digests = false;
                }
                if let Role::Learning(learner) = &mut self.role {
                    learner.truncated(now_ms, last);
                }
            }
            Stored::SnapshotInstalled { zxid } => {
                if let Role::Learning(learner) = &mut self.role {
                    learner.snapshot_installed(now_ms, zxid);
                }
            }
        }
    }

    /// The role ends: clients are cut, learners dropped, and once the storage is done another election begins.
    fn look_for_leader(&mut self, now: Time, why: &str) {
        let was = std::mem::replace(&mut self.role, Role::Looking);
        self.stop_serving();
        let Some(member) = &mut self.member else { return };
        match was {
            Role::Leading(_) => self.outputs.push_back(Output::Log {
                level: Level::Warn,
                text: format!("this server no longer leads: {why}; looking for a leader"),
            }),
            Role::Learning(learner) => {
                if let Some(link) = learner.link() {
                    self.outputs.push_back(Output::Hangup { link });
                }
                let text = format!("lost the leader, server {}: {why}; looking for a leader", learner.leader().0);
                self.outputs.push_back(Output::Log { level: Level::Warn, text });
            }
            Role::Looking => {}
        }
        for link in std::mem::take(&mut member.learners) {
            self.outputs.push_back(Output::DropLearner { link, why: "this server no longer leads".to_owned() });
        }
        member.election.pause();
        let observer = !member.memberships.is_voter(member.settings.me);
        // Observers let those who vote go first, and not all observers come at once.
        let delay_ms = if observer && member.settings.observer_election_delay_ms > 0 {
            member.settings.me.0.unsigned_abs().wrapping_mul(7919) as i64 % member.settings.observer_election_delay_ms
        } else {
            0
        };
        member.looking_since_ms = now.monotonic_ms;
        member.look_at_ms = Some(now.monotonic_ms + delay_ms.max(0));
        member.stale_standing = true;
        self.try_to_look(now);
    }

    /// Begins an election once everything this server has said is durable.
    fn try_to_look(&mut self, now: Time) {
        let Some(member) = &mut self.member else { return };
        let Some(at_ms) = member.look_at_ms else { return };
        if member.storing > 0 || self.history.durable() < self.history.last() || now.monotonic_ms < at_ms {
            return;
        }
        member.look_at_ms = None;
        if let Some((leader, state)) = member.designated.take() {
            let vote = Vote { leader, zxid: self.history.last(), election_epoch: -1, peer_epoch: -1 };
            member.election.settle(vote, state);
            match state {
                PeerState::Leading => self.begin_leading(now),
                _ => self.begin_learning(now, leader, state == PeerState::Observing),
            }
            return;
        }
        let candidacy = Candidacy { zxid: self.history.last(), epoch: i64::from(member.epochs.current) };
        member.election.look(now.monotonic_ms, candidacy);
    }

    /// Carries out what election, leader and learner ask for, until they ask for nothing more.
    pub(crate) fn pump(&mut self, now: Time) {
        loop {
            self.try_to_look(now);
            if let Some(output) = self.member.as_mut().and_then(|member| member.election.poll()) {
                self.election_output(now, output);
                continue;
            }
            match &mut self.role {
                Role::Leading(leader) => match leader.poll() {
                    Some(output) => self.leader_output(now, output),
                    None => break,
                },
                Role::Learning(learner) => match learner.poll() {
                    Some(output) => self.learner_output(now, output),
                    None => break,
                },
                Role::Looking => break,
            }
        }
    }

    fn election_output(&mut self, now: Time, output: ElectionOutput) {
        let Some(member) = &mut self.member else { return };
        match output {
            ElectionOutput::Send { to, notification } => self.outputs.push_back(Output::Notify { to, notification }),
            ElectionOutput::NewerMembership(text) => {
                if let Ok(membership) = Membership::parse_text(text, member.settings.multi_address) {
                    self.activate_membership(now, membership);
                }
            }
            ElectionOutput::Elected(vote) => {
                let read_only = self.shared.bulletin.serving() == Serving::ReadOnly;
                if read_only {
                    self.stop_serving();
                }
                let Some(member) = &self.member else { return };
                let took_ms = now.monotonic_ms - member.looking_since_ms;
                self.shared.bulletin.update(|standing| standing.last_election_ms = took_ms);
                let state = member.election.state();
                let name = match state {
                    PeerState::Leading => "LEADING",
                    PeerState::Observing => "OBSERVING",
                    _ => "FOLLOWING",
                };
                self.log(
                    Level::Info,
                    format!("{name} - LEADER ELECTION TOOK - {took_ms} MS; server {} leads", vote.leader.0),
                );
                match state {
                    PeerState::Leading => self.begin_leading(now),
                    _ => self.begin_learning(now, vote.leader, state == PeerState::Observing),
                }
            }
        }
    }

    fn begin_leading(&mut self, now: Time) {
        let Some(member) = &mut self.member else { return };
        let settings = &member.settings;
        let leader = Leader::new(
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
            },
            (*member.memberships).clone(),
            Start {
                accepted_epoch: member.epochs.accepted,
                current_epoch: member.epochs.current,
                history_last: self.history.last(),
            },
            now.monotonic_ms,
        );
        member.stale_standing = true;
        let early = std::mem::take(&mut member.early);
        self.role = Role::Leading(Box::new(leader));
        for (link, Early { peer, packets, .. }) in early {
            self.learner_connected(now, link, peer);
            self.take_from_learner(now, link, &packets);
        }
    }

    fn begin_learning(&mut self, now: Time, leader: ServerId, observer: bool) {
        let Some(member) = &mut self.member else { return };
        let settings = &member.settings;
        let learner = Learner::new(
            LearnerSettings {
                me: settings.me,
                observer,
                tick_ms: self.shared.settings.tick_time_ms,
                init_limit_ticks: settings.init_limit_ticks,
                sync_limit_ticks: settings.sync_limit_ticks,
                connect_limit_ticks: settings.connect_limit_ticks,
                connect_retry_ms: settings.connect_retry_ms,
            },
            LearnerStart {
                leader,
                accepted_epoch: member.epochs.accepted,
                current_epoch: member.epochs.current,
                last: self.history.last(),
                membership_version: member.memberships.committed.version,
            },
            now.monotonic_ms,
        );
        member.stale_standing = true;
        member.serve_at = None;
        member.leader_membership = None;
        self.role = Role::Learning(Box::new(learner));
        for link in std::mem::take(&mut member.early).into_keys() {
            let why = format!("this server follows server {}", leader.0);
            self.outputs.push_back(Output::DropLearner { link, why });
        }
    }

    fn leader_output(&mut self, now: Time, output: LeaderOutput) {
        match output {
            LeaderOutput::AcceptedEpoch(epoch) => self.store(Store::AcceptedEpoch(epoch)),
            LeaderOutput::CurrentEpoch(epoch) => self.store(Store::CurrentEpoch(epoch)),
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
                self.revalidate_for(now, link, session, timeout_ms);
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
            LeaderOutput::StepDown { why, successor } => {
                if let (Some(member), Some(successor)) = (&mut self.member, successor) {
                    let me = member.settings.me;
                    let participant = member.memberships.committed.is_participant(me);
                    let state = if participant { PeerState::Following } else { PeerState::Observing };
                    member.designated = Some((successor, state));
                }
                self.look_for_leader(now, &why);
            }
        }
    }

    fn mark_standing(&mut self) {
        if let Some(member) = &mut self.member {
            member.stale_standing = true;
        }
    }

    /// This server leads: its history is the ensemble's, and it decides from here on.
    fn activate(&mut self, now: Time, epoch: Epoch) {
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
            leader.activated(now.monotonic_ms);
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

    /// Sessions have their full timeout ahead of them, and clients may come.
    fn begin_serving(&mut self, now: Time, decides: bool) {
        let tree = self.shared.tree();
        self.shared.sessions().restart(decides, tree.sessions(), now.monotonic_ms);
        if decides {
            self.pending = Pending::new(&tree);
            self.reaper = Reaper::new(self.shared.settings.reaping, now.monotonic_ms);
        }
        drop(tree);
        self.shared.bulletin.serve(if decides { Serving::Deciding } else { Serving::Forwarding });
        self.mark_standing();
    }

    /// Cuts the clients, and forgets what they wait for.
    fn stop_serving(&mut self) {
        self.shared.bulletin.serve(Serving::Nobody);
        let (forwarded, resuming) = self.forwarded.abandon();
        for connection in resuming {
            self.hang_up(&connection);
        }
        let mut waiting: Vec<_> = forwarded;
        for entry in &mut self.in_flight {
            waiting.push((entry.reply.take(), std::mem::take(&mut entry.reads)));
        }
        for (reply, reads) in waiting {
            let Some(reply) = reply else { continue };
            for _ in 0..=reads.len() {
                self.shared.settle(&reply.connection);
            }
        }
        for connection in self.syncs.abandon() {
            self.shared.settle(&connection);
        }
        for connection in self.shared.connections() {
            connection.cut();
            self.hang_up(&connection);
        }
    }

    fn learner_output(&mut self, now: Time, output: LearnerOutput) {
        match output {
            LearnerOutput::Dial => self.dial(),
            LearnerOutput::ToLeader(bytes) => {
                if let Role::Learning(learner) = &self.role
                    && let Some(link) = learner.link()
                {
                    self.outputs.push_back(Output::ToLeader { link, bytes });
                }
            }
            LearnerOutput::AcceptedEpoch(epoch) => self.store(Store::AcceptedEpoch(epoch)),
            LearnerOutput::CurrentEpoch(epoch) => self.store(Store::CurrentEpoch(epoch)),
            LearnerOutput::Truncate(zxid) => {
                while self.in_flight.back().is_some_and(|next| next.header.zxid > zxid) {
                    self.in_flight.pop_back();
                }
                self.history.truncate(zxid);
                let reload = zxid < self.shared.tree().last_zxid();
                self.store(Store::Truncate { zxid, reload });
            }
            LearnerOutput::InstallSnapshot(zxid) => {
                self.in_flight.clear();
                self.history.reset(zxid);
                if let Some(member) = &mut self.member {
                    member.after_snapshot = true;
                }
                self.compare_digests = false;
                self.store(Store::InstallSnapshot { zxid });
            }
            LearnerOutput::Append(record) => self.append_from_leader(record),
            LearnerOutput::Membership(text) => self.membership_from_leader(&text),
            LearnerOutput::Serve { committed } => self.serve_under_leader(now, committed),
            LearnerOutput::Committed(zxid) => {
                self.history.commit(zxid);
                self.commit(now, zxid);
                if self.member.as_ref().and_then(|member| member.serve_at).is_some_and(|exact| zxid >= exact) {
                    self.serve_under_leader(now, zxid);
                }
                self.answer_refused(now);
            }
            LearnerOutput::Activate { designated_leader } => self.activate_reconfig(now, designated_leader),
            LearnerOutput::Ping { zxid } => self.pong(now, zxid),
            LearnerOutput::Revalidated { session, valid } => self.revalidated(now, session, valid),
            LearnerOutput::SyncDone => self.sync_done(now),
            LearnerOutput::Log { warn, text } => self.log(if warn { Level::Warn } else { Level::Info }, text),
            LearnerOutput::Leave(why) => {
                if let (Some(member), Role::Learning(learner)) = (&mut self.member, &self.role)
                    && learner.phase() == LearnerPhase::Discovery
                {
                    member.election.refused(learner.leader());
                }
                self.look_for_leader(now, &why);
            }
        }
    }

    fn membership_from_leader(&mut self, text: &[u8]) {
        let Some(member) = &self.member else { return };
        match Membership::parse_text(text, member.settings.multi_address) {
            Ok(membership) => {
                if let Some(member) = &mut self.member {
                    member.leader_membership = Some(membership.clone());
                }
                self.see_membership(membership);
            }
            Err(error) => {
                let text = format!("the leader's membership can't be read and is ignored: {error}");
                self.log(Level::Warn, text);
            }
        }
    }

    fn dial(&mut self) {
        let (Some(member), Role::Learning(learner)) = (&mut self.member, &mut self.role) else { return };
        let server = learner.leader();
        let known = member.memberships.committed.members.get(&server);
        let Some(leader) = known.or_else(|| member.memberships.last_seen.members.get(&server)) else {
            learner.leave(format!("server {} is no member", server.0));
            return;
        };
        let addresses = leader.addresses.iter();
        let addresses =
            addresses.map(|address| HostPort { host: address.host.clone(), port: address.quorum_port }).collect();
        let link = LinkId(member.next_link);
        member.next_link += 1;
        learner.dialing(link);
        self.outputs.push_back(Output::Dial { link, server, addresses });
    }

    /// A transaction of the leader: it is checked before it is logged, because what is logged must be readable.
    fn append_from_leader(&mut self, record: Record) {
        let Role::Learning(learner) = &mut self.role else { return };
        let decoded = match TxnRecord::decode(record.body()) {
            Ok(decoded) if decoded.header.zxid == record.zxid => decoded,
            Ok(decoded) => {
                learner.leave(format!("proposal {} holds a transaction {}", record.zxid, decoded.header.zxid));
                return;
            }
            Err(error) => {
                learner.leave(format!("proposal {} can't be read: {error}", record.zxid));
                return;
            }
        };
        if let Err(gap) = self.history.push(record.clone()) {
            learner.leave(format!("proposal {} does not follow {}", gap.next, gap.last));
            return;
        }
        let TxnRecord { header, txn, digest } = decoded;
        let multi_address = self.member.as_ref().is_some_and(|member| member.settings.multi_address);
        if let Some(membership) = reconfigured(&txn, multi_address) {
            self.see_membership(membership);
        }
        let digest = digest.filter(|digest| digest.version == rookeeper_proto::Digest::VERSION);
        self.in_flight.push_back(InFlight {
            header,
            txn,
            digest: digest.map(|digest| digest.value),
            touched: Vec::new(),
            reply: None,
            reads: Vec::new(),
        });
        self.outputs.push_back(Output::Append(record));
    }

    /// Nothing is in the tree that comes after its zxid.
    fn tree_is_exact(&mut self) {
        let Some(member) = &mut self.member else { return };
        member.serve_at = None;
        if std::mem::take(&mut member.after_snapshot) {
            self.shared.tree_mut().finish_replay();
        }
        self.compare_digests = true;
    }

    /// UPTODATE: what the leader has is history, and clients may come.
    fn serve_under_leader(&mut self, now: Time, committed: Zxid) {
        self.history.commit(committed);
        self.commit(now, committed);
        let last = self.history.last();
        if let Some(member) = self.member.as_mut().filter(|member| member.after_snapshot)
            && committed < *member.serve_at.get_or_insert(last)
        {
            // What the leader applied while it sent its tree is not all committed here yet.
            return;
        }
        self.tree_is_exact();
        self.reconfigured = None;
        let membership = self.member.as_mut().and_then(|member| member.leader_membership.take());
        match membership.filter(|_| self.shared.settings.reconfig) {
            Some(membership) => self.activate_membership(now, membership),
            None => self.write_config_node(now),
        }
        self.begin_serving(now, false);
        let (Some(member), Role::Learning(learner)) = (&mut self.member, &self.role) else { return };
        member.election.established(i64::from(member.epochs.current));
        let took_ms = now.monotonic_ms - member.looking_since_ms;
        let text = format!(
            "follows server {} in epoch {:x} from {committed} on, {took_ms} ms after it began to look for a leader",
            learner.leader().0,
            member.epochs.current
        );
        self.log(Level::Info, text);
    }

    /// What time does to a member.
    pub(crate) fn pass_member_time(&mut self, now: Time) {
        let now_ms = now.monotonic_ms;
        match &mut self.role {
            Role::Leading(leader) if leader.deadline_ms().is_some_and(|due| due <= now_ms) => {
                leader.tick(now_ms);
                self.mark_standing();
            }
            Role::Learning(learner) if learner.deadline_ms().is_some_and(|due| due <= now_ms) => learner.tick(now_ms),
            _ => {}
        }
        let Some(member) = &mut self.member else { return };
        if member.election.deadline_ms().is_some_and(|due| due <= now_ms) {
            member.election.tick(now_ms);
        }
        if self.read_only_at_ms().is_some_and(|due| due <= now_ms) {
            self.begin_read_only(now);
        }
        let Some(member) = &mut self.member else { return };
        let too_early: Vec<LinkId> = member
            .early
            .iter()
            .filter(|(_, early)| early.since_ms + EARLY_WAIT_MS <= now_ms)
            .map(|(link, _)| *link)
            .collect();
        for link in too_early {
            member.early.remove(&link);
            self.outputs.push_back(Output::DropLearner { link, why: "this server does not lead yet".to_owned() });
        }
    }

    pub(crate) fn member_deadline_ms(&self) -> Option<i64> {
        let member = self.member.as_ref()?;
        let role = match &self.role {
            Role::Leading(leader) => leader.deadline_ms(),
            Role::Learning(learner) => learner.deadline_ms(),
            Role::Looking => None,
        };
        let early = member.early.values().map(|early| early.since_ms + EARLY_WAIT_MS).min();
        let look = member.look_at_ms.filter(|_| member.storing == 0);
        [member.election.deadline_ms(), role, early, look, self.read_only_at_ms()].into_iter().flatten().min()
    }

    /// Tells what this server is, where that changed.
    pub(crate) fn publish_standing(&mut self) {
        let Some(member) = self.member.as_mut().filter(|member| member.stale_standing) else { return };
        member.stale_standing = false;
        let (part, phase, leader, leadership) = match &self.role {
            Role::Looking => (Part::Looking, Phase::Election, None, None),
            Role::Leading(leader) => {
                let phase = phase_of(leader);
                let counts = leader.counts();
                let leadership = Leadership {
                    learners: counts.learners,
                    synced_followers: counts.synced_followers,
                    synced_observers: counts.synced_observers,
                    synced_non_voting_followers: counts.synced_non_voting_followers,
                    pending_syncs: counts.pending_syncs,
                    since_ms: member.leading_since_ms,
                    last_proposal_bytes: self.proposal_bytes.last,
                    min_proposal_bytes: self.proposal_bytes.min,
                    max_proposal_bytes: self.proposal_bytes.max,
                    outstanding: leader.outstanding(),
                };
                (Part::Leading, phase, Some(member.settings.me), Some(leadership))
            }
            Role::Learning(learner) => {
                let part =
                    if member.election.state() == PeerState::Observing { Part::Observing } else { Part::Following };
                let phase = match learner.phase() {
                    LearnerPhase::Discovery => Phase::Discovery,
                    LearnerPhase::Synchronization => Phase::Synchronization,
                    LearnerPhase::Broadcast => Phase::Broadcast,
                };
                (part, phase, Some(learner.leader()), None)
            }
        };
        let (epoch, membership) = (member.epochs.current, member.memberships.committed.clone());
        self.shared.bulletin.update(|standing| {
            standing.part = part;
            standing.phase = phase;
            standing.leader = leader;
            standing.epoch = epoch;
            standing.leadership = leadership;
            standing.membership = Some(membership);
        });
    }
}
