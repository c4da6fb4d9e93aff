//! A member of an ensemble: looks for a leader, becomes one or follows one, and begins again when that ends.
//!
//! What always holds here:
//! - a server serves only under a leader that a quorum has acknowledged, itself or another; when that ends its clients are cut before
//!   anything else happens;
//! - it votes with what is durable: before it looks for a leader the storage has answered everything;
//! - what is logged and not committed stays in the history, for the next leader to decide about.
//!
//! What it does with a leader and with learners is in `state/leading` and `state/learning`.
//!
//! Counterpart in the original: `QuorumPeer.run`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::election::PeerState;
use rookeeper_proto::{ServerId, Txn, TxnRecord, Zxid};
use rookeeper_zab::election::{Candidacy, Election, ElectionOutput, ElectionSettings, Vote};
use rookeeper_zab::learner::Everything;
use rookeeper_zab::{History, LinkId, Membership, Memberships};

use crate::clients::shared::Shared;
use crate::contract::{Epochs, Input, Level, Output, Store, Stored};
use crate::replica::{Replica, Role};
use crate::settings::EnsembleSettings;
use crate::state::leading::reaper::Reaper;
use crate::statistics::Summary;
use crate::status::Serving;
use crate::time::Time;
use crate::write::pending::Pending;

/// Votes that lead to a leader are given this long to be overtaken by better ones.
const FINALIZE_WAIT_MS: i64 = 200;

/// A learner may connect before this server knows that it leads. It waits this long.
const EARLY_WAIT_MS: i64 = 1000;

/// A learner that connected while this server looks for a leader.
#[derive(Debug)]
pub(crate) struct Early {
    pub peer: String,
    pub packets: Vec<u8>,
    pub since_ms: i64,
}

/// When this server, established as the leader, last began another epoch for the sake of a single voter.
#[derive(Debug, Default)]
pub(crate) struct Yields {
    last: Option<(i64, i64)>,
}

/// The longest pause between two of them, and the time after which the pauses are short again.
const LONGEST_YIELD_PAUSE_MS: i64 = 3_600_000;

impl Yields {
    /// Not before this another time.
    pub fn not_before_ms(&self) -> i64 {
        self.last.map_or(i64::MIN, |(at_ms, pause_ms)| at_ms.saturating_add(pause_ms))
    }

    /// It happens now. The pause after it is twice the one before, whoever asks for it: at first `pause_ms`.
    pub fn note(&mut self, now_ms: i64, pause_ms: i64) {
        let recent = self.last.filter(|(at_ms, _)| now_ms - at_ms < LONGEST_YIELD_PAUSE_MS);
        let pause_ms = recent.map_or(pause_ms, |(_, last_ms)| last_ms.saturating_mul(2));
        self.last = Some((now_ms, pause_ms.min(LONGEST_YIELD_PAUSE_MS)));
    }
}

#[derive(Debug)]
pub(crate) struct Member {
    pub settings: EnsembleSettings,
    pub memberships: Arc<Memberships>,
    pub election: Election,
    /// As on disk.
    pub epochs: Epochs,
    pub(crate) next_link: u64,
    pub(crate) early: BTreeMap<LinkId, Early>,
    /// Links of learners that the leader knows.
    pub(crate) learners: BTreeSet<LinkId>,
    pub(crate) looking_since_ms: i64,
    /// Since when there is no leader that a quorum has acknowledged; none while there is one.
    pub(crate) unavailable_since_ms: Option<i64>,
    pub(crate) leading_since_ms: i64,
    pub(crate) yields: Yields,
    /// Not before this, and only once the storage has answered everything, another election begins.
    pub(crate) look_at_ms: Option<i64>,
    /// The next election begins so much later, because what ended the last attempt will still be there.
    pub(crate) pause_ms: i64,
    /// Since when what the leader sends is history to catch up with; none before that, and from UPTODATE on.
    pub(crate) syncing_since_ms: Option<i64>,
    /// The membership the leader goes by that this server catches up with.
    pub(crate) leader_membership: Option<Membership>,
    /// What the next leader is asked for, if that is the same one.
    pub(crate) everything: Option<Everything>,
    /// Who leads after a reconfiguration, or still, and what that makes this server: no election is needed.
    pub designated: Option<(ServerId, PeerState)>,
    /// Answers of the storage that are still to come.
    pub(crate) storing: usize,
    /// The tree came as a snapshot, or from a disk where one may lie: it may show effects of transactions that come after its zxid,
    /// and is exact only when everything is applied that was sent before UPTODATE.
    pub(crate) after_snapshot: bool,
    /// Clients may come when this is applied.
    pub(crate) serve_at: Option<Zxid>,
    /// Raised whenever there is something new to tell about this server.
    pub stale_standing: bool,
}

impl Member {
    /// Whether it is an observer of the leader that it learns from.
    pub(crate) fn observes(&self) -> bool {
        self.election.state() == PeerState::Observing
    }

    /// What this server is by its memberships where another one leads.
    pub(crate) fn state_of_learner(&self) -> PeerState {
        if self.memberships.is_observer(self.settings.me) { PeerState::Observing } else { PeerState::Following }
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
            unavailable_since_ms: Some(now.monotonic_ms),
            leading_since_ms: now.monotonic_ms,
            yields: Yields::default(),
            look_at_ms: Some(now.monotonic_ms),
            pause_ms: 0,
            syncing_since_ms: None,
            leader_membership: None,
            everything: None,
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
                    leader.voter_said(from, notification.peer_epoch, notification.zxid);
                    if leader.voter_looks(now_ms, from) {
                        self.shared.statistics.member.disloyal_voters.fetch_add(1, Relaxed);
                    }
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
                    leader.learner_gone(now_ms, &self.history, link, &why);
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
                self.shared.tree_mut().replace(*tree);
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

    pub(crate) fn log(&mut self, level: Level, text: String) {
        self.outputs.push_back(Output::Log { level, text });
    }

    pub(crate) fn store(&mut self, store: Store) {
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
            Stored::MembershipRefused { epoch, why } => {
                member.pause_ms = self.shared.settings.tick_time_ms;
                self.look_for_leader(now, &format!("epoch {epoch:x} can't be entered: {why}"));
            }
            Stored::Truncated { zxid, tree } => {
                let mut last = zxid;
                if let Some(tree) = tree {
                    last = tree.last_zxid();
                    self.shared.tree_mut().replace(*tree);
                    self.history.reset(last);
                    self.in_flight.clear();
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
    pub(crate) fn look_for_leader(&mut self, now: Time, why: &str) {
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
        member.unavailable_since_ms.get_or_insert(now.monotonic_ms);
        member.look_at_ms = Some(now.monotonic_ms + delay_ms.max(std::mem::take(&mut member.pause_ms)));
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
        self.shared.statistics.member.searches.fetch_add(1, Relaxed);
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
                if state != PeerState::Observing {
                    self.shared.statistics.member.election_ms.record_unless_negative(took_ms);
                }
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

    pub(crate) fn mark_standing(&mut self) {
        if let Some(member) = &mut self.member {
            member.stale_standing = true;
        }
    }

    /// Sessions have their full timeout ahead of them, and clients may come.
    pub(crate) fn begin_serving(&mut self, now: Time, decides: bool) {
        let tree = self.shared.tree();
        self.shared.sessions().restart(decides, tree.sessions(), now.monotonic_ms);
        self.forwarded.begin(now.monotonic_ms);
        self.ended.clear();
        if decides {
            self.pending = Pending::new(&tree);
            self.reaper = Reaper::new(self.shared.settings.reaping, now.monotonic_ms);
        }
        drop(tree);
        self.shared.bulletin.serve(if decides { Serving::Deciding } else { Serving::Forwarding });
        self.mark_standing();
        if let Some(since_ms) = self.member.as_mut().and_then(|member| member.unavailable_since_ms.take()) {
            let statistics = &self.shared.statistics.member;
            statistics.unavailable_ms.record_unless_negative(now.monotonic_ms - since_ms);
            if decides {
                statistics.unavailable_until_leading_ms.record_unless_negative(now.monotonic_ms - since_ms);
            }
        }
    }

    /// Whether what the leader sends is new, and this server's acknowledgement of it counts.
    pub(crate) fn follows_broadcast(&self) -> bool {
        matches!(self.role, Role::Learning(_))
            && self.member.as_ref().is_some_and(|member| member.syncing_since_ms.is_none() && !member.observes())
    }

    /// Before the history knows: everything up to `zxid` is on this server's disk, and acknowledged if that is its part.
    pub(crate) fn note_durable(&self, now: Time, zxid: Zxid) {
        let leads = self.member.is_some() && matches!(self.role, Role::Leading(_));
        if !leads && !self.follows_broadcast() {
            return;
        }
        let summary = &self.shared.statistics.member.acknowledgement_latency_ms;
        for record in self.history.after(self.history.durable()).take_while(|record| record.zxid <= zxid) {
            if let Ok(header) = TxnRecord::decode_header(record.body()) {
                summary.record_unless_negative(now.ms_since(header.time_ms));
            }
        }
    }

    /// Before they are applied: these are committed, as the leader decided or said.
    pub(crate) fn note_committed(&self, now: Time, committed: Zxid, counter: &AtomicU64, latency_ms: &Summary) {
        let mut count = 0;
        for next in self.in_flight.iter().take_while(|next| next.header.zxid <= committed) {
            if !matches!(next.txn, Txn::Reconfig { .. }) {
                latency_ms.record_unless_negative(now.ms_since(next.header.time_ms));
                count += 1;
            }
        }
        counter.fetch_add(count, Relaxed);
    }

    /// Cuts the clients, and forgets what they wait for. Those who have not got further than a handshake that can be answered later, or to
    /// a four-letter word, are left alone.
    fn stop_serving(&mut self) {
        self.shared.bulletin.serve(Serving::Nobody);
        let (forwarded, resuming) = self.forwarded.abandon();
        for (connection, request) in resuming {
            self.wait_again(connection, request);
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
            // The session may have been created, or may still be.
            if reply.handshake.is_some() {
                self.hang_up(&reply.connection);
            }
        }
        for connection in self.syncs.abandon() {
            self.shared.settle(&connection);
        }
        for connection in self.shared.connections().into_iter().filter(|connection| connection.is_established()) {
            self.hang_up(&connection);
        }
    }

    /// What time does to a member.
    pub(crate) fn pass_member_time(&mut self, now: Time) {
        let now_ms = now.monotonic_ms;
        match &mut self.role {
            Role::Leading(leader) if leader.deadline_ms().is_some_and(|due| due <= now_ms) => {
                leader.tick(now_ms, &self.history);
                // It ticks twice a tick, and a request may come after twice syncLimit.
                self.ended.tick(self.member.as_ref().map_or(0, |member| 4 * member.settings.sync_limit_ticks));
                let lags_ms = leader.lags(now_ms);
                self.shared.bulletin.update(|standing| standing.learner_lags_ms = lags_ms);
                self.mark_standing();
            }
            Role::Learning(learner) if learner.deadline_ms().is_some_and(|due| due <= now_ms) => learner.tick(now_ms),
            _ => {}
        }
        self.look_on(now);
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
        if self.is_looking() {
            return Some(i64::MIN);
        }
        let role = match &self.role {
            Role::Leading(leader) => leader.deadline_ms(),
            Role::Learning(learner) => learner.deadline_ms(),
            Role::Looking => None,
        };
        let early = member.early.values().map(|early| early.since_ms + EARLY_WAIT_MS).min();
        let look = member.look_at_ms.filter(|_| member.storing == 0);
        [member.election.deadline_ms(), role, early, look, self.read_only_at_ms()].into_iter().flatten().min()
    }
}
