//! A member that learns from a leader: reaches it, takes its history over, and serves under it.
//!
//! - `clients.rs`: what its own clients ask for; `forwarded.rs`: what of it waits for the leader
//! - `heard_sessions.rs`: which sessions the leader is told to be alive
//! - `feeding.rs`: the observers that a follower feeds; `masters.rs`: the follower that feeds an observer
//!
//! What always holds here: a transaction is checked before it is logged, because what is logged must be readable; clients come only when
//! the tree shows nothing that comes after its zxid.
//!
//! Counterpart in the original: `Learner`, `Follower`, `Observer`.

mod clients;
mod feeding;
mod forwarded;
mod heard_sessions;
pub(crate) mod masters;

use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::election::PeerState;
use rookeeper_proto::{MonotonicMs, ServerId, TxnHeader, TxnRecord, WallMs, Zxid};
use rookeeper_zab::learner::{Learner, LearnerOutput, LearnerPhase, LearnerSettings, LearnerStart};
use rookeeper_zab::{DropReason, HostPort, LeaveReason, LinkEnd, LinkId, LinkOutput, Membership, Record};

use crate::check::{Broken, must};
use crate::contract::{Output, Store};
use crate::core::{Core, InFlight, Waiting};
use crate::inputs::{LeaderInput, LearnerInput};
use crate::member::{Designated, Done, Member};
use crate::reasons::{Event, RoleEnd};
use crate::state::learning::clients::{Resumer, Resuming};
use crate::state::learning::feeding::Feeding;
use crate::state::learning::forwarded::Forwarded;
use crate::state::learning::heard_sessions::HeardSessions;
use crate::state::learning::masters::Upcoming;
use crate::state::{End, Step};
use crate::status::{RoleStatus, Serving};
use crate::time::{Deadline, Time};
use crate::write::apply::Committer;
use crate::write::proposer::reconfigured;

#[derive(Debug)]
pub(crate) struct Learning {
    learner: Learner,
    /// Whether it learns without a vote.
    observes: bool,
    /// What this server's clients wait for from its leader.
    forwarded: Forwarded,
    /// The observers that this server feeds; none where it does not.
    feeding: Option<Feeding>,
    /// The follower that feeds this server; none where the leader does.
    master: Option<ServerId>,
    /// Whether this observer has waited before the attempt to connect that comes next (`observer.reconnectDelayMs`).
    has_waited: bool,
    resuming: Resuming,
    heard_sessions: HeardSessions,
    /// When the search began that found this leader.
    looked_since_ms: MonotonicMs,
    /// Since when what the leader sends is history to catch up with; none before that, and from UPTODATE on.
    syncing_since_ms: Option<MonotonicMs>,
    /// Clients may come when this is applied.
    serve_at: Option<Zxid>,
    /// The membership that the leader goes by that this server catches up with.
    leader_membership: Option<Membership>,
    /// The membership that the last reconfiguration applied has made, until the leader puts it into force.
    reconfigured: Option<Membership>,
    /// Who leads after a reconfiguration that ends this role.
    pub(super) designated: Option<Designated>,
}

impl Committer for Learning {
    fn take_answered(&mut self, header: &TxnHeader) -> Option<Waiting> {
        self.forwarded.take_answered(header.session, header.cxid)
    }
}

impl Learning {
    /// Begins to learn from `leader`. The search that found the leader began at `looked_since_ms`.
    pub fn new(
        core: &Core,
        member: &mut Member,
        now: Time,
        leader: ServerId,
        observes: bool,
        looked_since_ms: MonotonicMs,
    ) -> Learning {
        let settings = &member.settings;
        let learner = Learner::new(
            LearnerSettings {
                me: settings.me,
                observer: observes,
                tick_ms: core.shared.settings.tick_time_ms,
                init_limit_ticks: settings.init_limit_ticks,
                sync_limit_ticks: settings.sync_limit_ticks,
                connect_limit_ticks: settings.connect_limit_ticks,
                connect_retry_ms: settings.connect_retry_ms,
            },
            LearnerStart {
                leader,
                accepted_epoch: member.epochs.accepted,
                current_epoch: member.epochs.current,
                last: core.history.last().known(),
                membership_version: member.memberships.committed.version,
                everything: member.everything.take(),
            },
            now.monotonic_ms,
        );
        Learning {
            learner,
            observes,
            forwarded: Forwarded::default(),
            feeding: None,
            master: None,
            has_waited: false,
            resuming: Resuming::default(),
            heard_sessions: HeardSessions::new(now.monotonic_ms),
            looked_since_ms,
            syncing_since_ms: None,
            serve_at: None,
            leader_membership: None,
            reconfigured: None,
            designated: None,
        }
    }

    /// It is over: clients are cut, but for those of whom nothing was asked that can't be asked again.
    pub fn end(self, core: &mut Core, member: &mut Member, why: RoleEnd) {
        for resumer in self.resuming.into_values().flatten() {
            if let Resumer::Client(connection, request) = resumer {
                member.wait_again(core, connection, request);
            }
        }
        if let Some(feeding) = self.feeding {
            feeding.end(core);
        }
        core.stop_serving(self.forwarded.abandon(), Vec::new());
        if let Some(link) = self.learner.link() {
            core.put(Output::Hangup { link });
        }
        core.log(match self.master {
            None => Event::LostLeader { leader: self.learner.leader(), why },
            Some(master) => Event::LostMaster { master, why },
        });
    }

    /// What comes on the link of an earlier attempt is late.
    pub fn take_leader_input(&mut self, core: &mut Core, member: &Member, now: Time, link: LinkId, input: LeaderInput) {
        let now_ms = now.monotonic_ms;
        if self.learner.link() != Some(link) {
            return;
        }
        match input {
            LeaderInput::Connected => self.learner.connected(now_ms),
            LeaderInput::Heard => self.learner.heard(now_ms),
            LeaderInput::Packets(packets) => self.learner.receive(now_ms, &packets),
            LeaderInput::Snapshot { tree, bytes } => {
                let zxid = tree.last_zxid();
                core.log(Event::SnapshotReceived { zxid, bytes, nodes: tree.node_count() });
                core.shared.tree_mut().replace(*tree);
                self.learner.snapshot_received(zxid);
            }
            LeaderInput::Gone { why } => self.link_gone(core, member, now_ms, why),
        }
    }

    /// Without a word about it an operator would never hear of a follower that feeds nobody, where another one does.
    fn link_gone(&mut self, core: &mut Core, member: &Member, now_ms: MonotonicMs, why: LinkEnd) {
        self.learner.link_gone(now_ms, why.clone());
        if let Some(master) = self.master
            && let Some(next) = self.upcoming_master(member)
            && self.learner.dials_again()
        {
            core.log(Event::MasterNotReached { master, why, next: next.server });
        }
    }

    /// The follower whose turn it is to feed this server; none where the leader is to.
    fn upcoming_master(&self, member: &Member) -> Option<Upcoming> {
        member.settings.observer_master_port.filter(|_| self.observes)?;
        member.masters.upcoming(&member.memberships.committed, member.settings.me, self.learner.leader())
    }

    /// A learner that takes this server for a leader is sent away, and so is an observer where this server feeds none.
    pub fn take_learner_input(
        &mut self,
        core: &mut Core,
        member: &mut Member,
        now: Time,
        link: LinkId,
        input: LearnerInput,
    ) {
        let why = match (input, &mut self.feeding) {
            (LearnerInput::Connected { .. }, _) => DropReason::NotLeading,
            (input, Some(feeding)) => return feeding.take_input(core, member, now, link, input),
            (LearnerInput::ObserverConnected { .. }, None) => DropReason::FeedsNobody,
            // Of a link that was dropped.
            (_, None) => return,
        };
        core.put(Output::ToLearner(link, LinkOutput::Drop(why)));
    }

    /// The storage has done what this role, or an earlier one, has asked for.
    pub fn stored(&mut self, now: Time, done: Done) {
        let now_ms = now.monotonic_ms;
        match done {
            Done::AcceptedEpoch(epoch) => self.learner.accepted_epoch_stored(epoch),
            Done::CurrentEpoch(epoch) => self.learner.current_epoch_stored(now_ms, epoch),
            Done::Truncated(last) => self.learner.truncated(now_ms, last),
            // What this ends is for the election.
            Done::MembershipRefused { .. } => {}
            Done::SnapshotInstalled(zxid) => self.learner.snapshot_installed(now_ms, zxid),
        }
    }

    /// This server has everything up to `zxid` on disk.
    pub fn synced(&mut self, core: &mut Core, now: Time, zxid: Zxid) {
        if self.follows_broadcast() {
            core.note_acknowledged(now, zxid);
        }
        core.history.synced(zxid);
        self.learner.synced(zxid);
    }

    /// Whether what the leader sends is new, and this server's acknowledgement of it counts.
    fn follows_broadcast(&self) -> bool {
        self.syncing_since_ms.is_none() && !self.observes
    }

    /// What time does.
    pub fn tick(&mut self, core: &mut Core, member: &mut Member, now: Time) {
        if self.learner.deadline_ms().is_some_and(|due_ms| due_ms <= now.monotonic_ms) {
            self.learner.tick(now.monotonic_ms);
        }
        if let Some(feeding) = &mut self.feeding {
            feeding.tick(core, member, now);
        }
        self.look_on(core, now);
    }

    /// What must hold after each event, see [`Replica::check`](crate::Replica::check).
    pub fn check(&self, core: &Core, observes: bool) -> Result<(), Broken> {
        must(self.observes == observes, "the election knows whether this server has a vote")?;
        let has_replies = core.in_flight.iter().any(|next| next.reply.is_some() || !next.reads.is_empty());
        must(!has_replies, "what clients of a learner wait for was sent to its leader")?;
        if core.serving() != Serving::Forwarding {
            must(core.serving() == Serving::Nobody, "a learner asks its leader, or serves nobody yet")?;
            return must(self.forwarded.len() == 0 && self.resuming.is_empty(), "nobody waits where nobody is served");
        }
        must(self.learner.phase() == LearnerPhase::Broadcast, "the leader has said that it is established")?;
        must(self.serve_at.is_none(), "what was to be applied before clients come is applied")
    }

    /// When there is something to do although nothing happens.
    pub fn deadline(&self) -> Deadline {
        if self.heard_sessions.is_looking() {
            return Deadline::Now;
        }
        let feeding_ms = self.feeding.as_ref().map(Feeding::deadline_ms);
        [self.learner.deadline_ms(), feeding_ms].into_iter().flatten().min().into()
    }

    fn state(&self) -> PeerState {
        if self.observes { PeerState::Observing } else { PeerState::Following }
    }

    /// Requests that wait for the leader.
    pub fn forwarded(&self) -> usize {
        self.forwarded.len()
    }

    /// What a learner tells of itself.
    pub fn status(&self) -> RoleStatus {
        let fed_by = self.observes.then(|| self.master.unwrap_or(self.learner.leader()));
        RoleStatus::learning(&self.learner, fed_by, self.feeding.as_ref().map(Feeding::counts))
    }

    /// Carries out what the learner asks for.
    pub fn step(&mut self, core: &mut Core, member: &mut Member, now: Time) -> Step {
        let Some(output) = self.learner.poll() else { return self.feed(core, member, now) };
        match output {
            LearnerOutput::Dial => self.dial(core, member, now),
            LearnerOutput::ToLeader(bytes) => {
                if let Some(link) = self.learner.link() {
                    core.put(Output::ToLeader { link, bytes });
                }
            }
            LearnerOutput::AcceptedEpoch(epoch) => member.store(core, Store::AcceptedEpoch(epoch)),
            LearnerOutput::CatchingUp => self.syncing_since_ms = Some(now.monotonic_ms),
            LearnerOutput::CurrentEpoch(epoch) => member.store_current_epoch(core, epoch),
            LearnerOutput::Truncate(zxid) => truncate(core, member, zxid),
            LearnerOutput::InstallSnapshot(zxid) => install_snapshot(core, member, zxid),
            LearnerOutput::Append(record) => self.append(core, member, now, record),
            LearnerOutput::Membership(text) => self.take_membership(core, member, &text),
            LearnerOutput::Serve { committed } => {
                self.note_synced(core, now);
                self.serve(core, member, now, committed);
            }
            LearnerOutput::Committed(zxid) => self.commit(core, member, now, zxid, None),
            LearnerOutput::Activate { zxid, designated_leader } => {
                self.commit(core, member, now, zxid, Some(designated_leader));
                if let Some(membership) = self.reconfigured.take() {
                    member.activate_membership(core, now, membership);
                    self.leave_for_another_role(member, Some(designated_leader));
                }
            }
            LearnerOutput::Ping { zxid } => self.pong(core, now, zxid),
            LearnerOutput::Revalidated { session, valid } => self.revalidated(core, now, session, valid),
            LearnerOutput::SyncDone => self.sync_done(core, now),
            LearnerOutput::Log(event) => core.log(Event::Learner(event)),
            LearnerOutput::ComeAgain(everything) => {
                member.everything = Some(everything);
                self.designated = Some(Designated { leader: self.learner.leader(), state: self.state() });
            }
            LearnerOutput::Leave(why) => {
                if self.learner.phase() == LearnerPhase::Discovery && self.master.is_none() {
                    member.election.refused(self.learner.leader());
                }
                return Step::Over(End {
                    why: RoleEnd::LeftLeader(why),
                    designated: self.designated.take(),
                    pause_ms: 0,
                });
            }
        }
        Step::Done
    }

    fn dial(&mut self, core: &mut Core, member: &mut Member, now: Time) {
        if self.waits_to_reconnect(core, member, now) {
            return;
        }
        let leader = self.learner.leader();
        let port_of_masters = member.settings.observer_master_port.filter(|_| self.observes);
        self.master = port_of_masters
            .and_then(|_| member.masters.next(&member.memberships.committed, member.settings.me, leader));
        // Each round through the followers begins with a wait of its own.
        self.has_waited &= self.master.is_none();
        let server = self.master.unwrap_or(leader);
        let known = member.memberships.committed.members.get(&server);
        let Some(dialed) = known.or_else(|| member.memberships.last_seen.members.get(&server)) else {
            self.learner.leave(LeaveReason::NoMember(server));
            return;
        };
        let port = port_of_masters.filter(|_| self.master.is_some());
        let addresses = dialed.addresses.iter();
        let addresses =
            addresses.map(|address| HostPort { host: address.host.clone(), port: port.unwrap_or(address.quorum_port) });
        let addresses = addresses.collect();
        member.stale_status = true;
        let link = member.next_link();
        self.learner.dialing(link);
        core.put(Output::Dial { link, server, addresses });
    }

    /// An observer puts its first attempt off to reach the leader, or its next round through the followers that could feed it: else all
    /// observers of an ensemble would come at once. Says whether it does.
    fn waits_to_reconnect(&mut self, core: &mut Core, member: &mut Member, now: Time) -> bool {
        let is_due = self.upcoming_master(member).is_none_or(|next| next.begins_anew);
        if !self.observes || !is_due || std::mem::replace(&mut self.has_waited, true) {
            return false;
        }
        let wait_ms = member.next_reconnect_delay_ms();
        if wait_ms > 0 {
            core.log(Event::WaitsToReconnect { wait_ms });
            self.learner.put_off(now.monotonic_ms, wait_ms);
        }
        wait_ms > 0
    }

    /// A transaction of the leader: it is checked before it is logged, because what is logged must be readable.
    fn append(&mut self, core: &mut Core, member: &mut Member, now: Time, record: Record) {
        let decoded = match TxnRecord::decode(record.body()) {
            Ok(decoded) if decoded.header.zxid == record.zxid => decoded,
            Ok(decoded) => {
                self.learner
                    .leave(LeaveReason::ProposalOfAnother { proposal: record.zxid, holds: decoded.header.zxid });
                return;
            }
            Err(error) => {
                self.learner.leave(LeaveReason::UnreadableProposal { proposal: record.zxid, error });
                return;
            }
        };
        if let Err(gap) = core.history.push(record.clone()) {
            self.learner.leave(LeaveReason::ProposalGap { zxid: gap.next, last: gap.last });
            return;
        }
        let TxnRecord { header, txn, digest } = decoded;
        if self.follows_broadcast() {
            let statistics = &core.shared.statistics.member;
            statistics.proposals_received.fetch_add(1, Relaxed);
            statistics.proposal_latency_ms.record_unless_negative(now.wall_ms - WallMs(header.time_ms));
        }
        let membership = reconfigured(&txn, member.settings.multi_address);
        if let Some(membership) = &membership {
            member.see_membership(core, membership.clone());
        }
        let digest = digest.filter(|digest| digest.version == rookeeper_proto::Digest::VERSION);
        let next = InFlight {
            header,
            txn,
            digest: digest.map(|digest| digest.value),
            handed_over: None,
            membership: membership.map(Box::new),
            reply: None,
            reads: Vec::new(),
        };
        core.keep_until_committed(record, next);
    }

    fn take_membership(&mut self, core: &mut Core, member: &mut Member, text: &[u8]) {
        match Membership::parse_text(text, member.settings.multi_address) {
            Ok(membership) => {
                self.leader_membership = Some(membership.clone());
                member.see_leaders_membership(core, membership);
                self.come_again_to_vote(core, member);
            }
            Err(error) => core.log(Event::MembershipUnreadable(error)),
        }
    }

    /// The leader's membership gives this server a vote, which came to listen. The leader may need that vote before it can go on, and an
    /// observer's counts for little, with some leaders for nothing.
    fn come_again_to_vote(&mut self, core: &Core, member: &Member) {
        let state = PeerState::Following;
        if core.shared.settings.reconfig && self.observes && member.state_of_learner() == state {
            let version = member.memberships.last_seen.version;
            self.learner.leave(LeaveReason::BecomesVoter { version });
            self.designated = Some(Designated { leader: self.learner.leader(), state });
        }
    }

    /// UPTODATE ends what ACKEPOCH began.
    fn note_synced(&mut self, core: &Core, now: Time) {
        let Some(since_ms) = self.syncing_since_ms.take() else { return };
        let statistics = &core.shared.statistics.member;
        let summary = if self.observes { &statistics.observer_sync_ms } else { &statistics.follower_sync_ms };
        summary.record_unless_negative(now.monotonic_ms - since_ms);
    }

    /// UPTODATE: what the leader has is history, and clients may come.
    fn serve(&mut self, core: &mut Core, member: &mut Member, now: Time, committed: Zxid) {
        self.apply(core, now, committed);
        let last = core.history.last();
        if !core.tree_is_exact && committed < *self.serve_at.get_or_insert(last) {
            // What the leader applied while it sent its tree is not all committed here yet.
            return;
        }
        self.serve_at = None;
        core.note_tree_is_exact();
        self.reconfigured = None;
        match self.leader_membership.take().filter(|_| core.shared.settings.reconfig) {
            Some(membership) => {
                member.activate_membership(core, now, membership);
                // The leader went by it when this server came as what it was before; as that it has no voice, or one too many.
                if self.leave_for_another_role(member, None) {
                    return;
                }
            }
            None => member.write_config_node(core, now),
        }
        self.heard_sessions = HeardSessions::new(now.monotonic_ms);
        core.begin_serving(now, Serving::Forwarding);
        member.note_available(core, now, false);
        member.election.established(member.epochs.current);
        let took_ms = now.monotonic_ms - self.looked_since_ms;
        let (leader, epoch) = (self.learner.leader(), member.epochs.current);
        core.log(Event::Follows { leader, epoch, committed, took_ms });
        if let Some(master) = self.master {
            core.log(Event::FedBy { master, leader });
        }
        self.feeding = (!self.observes).then(|| Feeding::begin(core, member, now)).flatten();
    }

    /// With `activates`, what is committed is a reconfiguration that goes into force, under that leader.
    fn commit(&mut self, core: &mut Core, member: &mut Member, now: Time, zxid: Zxid, activates: Option<ServerId>) {
        if let Some(feeding) = &mut self.feeding {
            feeding.inform(core, zxid, activates);
        }
        let statistics = &core.shared.statistics.member;
        core.note_committed(now, zxid, &statistics.commits_received, &statistics.commit_latency_ms);
        self.apply(core, now, zxid);
        if let Some(feeding) = &mut self.feeding {
            feeding.grown(core, member);
        }
        if self.serve_at.is_some_and(|exact| zxid >= exact) {
            self.serve(core, member, now, zxid);
        }
        self.answer_refused(core, now);
    }

    fn apply(&mut self, core: &mut Core, now: Time, committed: Zxid) {
        if let Some(membership) = core.commit(now, committed, self) {
            self.reconfigured = Some(membership);
        }
    }

    /// Where the membership in force makes another server the leader, or gives this one another role than it has, the connection is over,
    /// and the next leader is known without an election. Says whether it is.
    fn leave_for_another_role(&mut self, member: &Member, designated_leader: Option<ServerId>) -> bool {
        let designated_leader = designated_leader.unwrap_or(self.learner.leader());
        let me = member.settings.me;
        let membership = &member.memberships.committed;
        let was = self.state();
        let state = match member.state_of_learner() {
            PeerState::Following if designated_leader == me && membership.is_participant(me) => PeerState::Leading,
            state => state,
        };
        let version = membership.version;
        if designated_leader != self.learner.leader() {
            self.learner.leave(LeaveReason::AnotherLeads { version, leader: designated_leader });
        } else if state != was {
            let is_member = membership.members.contains_key(&me);
            self.learner.leave(LeaveReason::AnotherPart { version, state, is_member });
        } else {
            return false;
        }
        self.designated = Some(Designated { leader: designated_leader, state });
        true
    }
}

/// What comes behind `zxid` is no history.
fn truncate(core: &mut Core, member: &mut Member, zxid: Zxid) {
    while core.in_flight.back().is_some_and(|next| next.header.zxid > zxid) {
        core.in_flight.pop_back();
    }
    core.history.truncate(zxid);
    let reload = zxid < core.shared.tree().last_zxid();
    member.store(core, Store::Truncate { zxid, reload });
}

/// The snapshot that came is the history up to `zxid`. No vote is cast before the snapshot is on disk: a server that went on from what only its
/// memory has would lose all of that with the next start (ZOOKEEPER-3642).
fn install_snapshot(core: &mut Core, member: &mut Member, zxid: Zxid) {
    core.in_flight.clear();
    core.history.reset(zxid);
    core.tree_is_exact = false;
    member.store(core, Store::InstallSnapshot { zxid });
}
