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
//! Reading order: this file, the phases; [`learner_link`], one learner; [`sync`], how it is brought up; [`book`], who has what.
//!
//! Counterpart in the original: `Leader`, `LearnerHandler`.

mod book;
mod learner_link;
mod sync;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_proto::{Epoch, Id, OpCode, ServerId, SessionId, Zxid};

use crate::history::{History, Record};
use crate::link::LinkId;
use crate::membership::{Membership, Memberships};
use book::Book;
use learner_link::{LearnerLink, Stage};

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

/// A round of pings that shows that this server still leads.
#[derive(Debug)]
struct Round {
    ticket: u64,
    /// The ping of each link that counts.
    pings: BTreeMap<LinkId, u64>,
}

#[derive(Debug)]
pub struct Leader {
    settings: LeaderSettings,
    start: Start,
    /// None for a standalone server.
    memberships: Option<Memberships>,
    phase: Phase,
    epoch: Epoch,
    links: BTreeMap<LinkId, LearnerLink>,
    /// Voters whose accepted epoch is known.
    gathered: BTreeSet<ServerId>,
    promised: BTreeSet<ServerId>,
    entered: BTreeSet<ServerId>,
    current_epoch_is_stored: bool,
    book: Book,
    reconfig: Option<(Zxid, Membership)>,
    round: Option<Round>,
    last_ticket: u64,
    /// Somebody waits for the round after the one in flight.
    another_round: bool,
    outputs: VecDeque<LeaderOutput>,
    began_ms: i64,
    next_ping_ms: i64,
    pings: u64,
}

/// Where the numbers of an epoch run out another one is begun in good time: at a calm moment, or at last here.
const CALM_ROLLOVER: u32 = 0xffff_0000;
const LAST_ROLLOVER: u32 = 0xffff_c000;

/// Strangers may connect; more than this many links are not kept.
const MAX_LINKS: usize = 1000;

impl Leader {
    pub fn new(settings: LeaderSettings, memberships: Memberships, start: Start, now_ms: i64) -> Leader {
        let me = settings.me;
        let mut leader = Leader {
            next_ping_ms: now_ms + settings.tick_ms / 2,
            settings,
            start,
            memberships: Some(memberships),
            phase: Phase::Gathering,
            epoch: start.accepted_epoch + 1,
            links: BTreeMap::new(),
            gathered: BTreeSet::from([me]),
            promised: BTreeSet::from([me]),
            entered: BTreeSet::new(),
            current_epoch_is_stored: false,
            book: Book::new(start.history_last),
            reconfig: None,
            round: None,
            last_ticket: 0,
            another_round: false,
            outputs: VecDeque::new(),
            began_ms: now_ms,
            pings: 0,
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
        };
        Leader {
            settings,
            start: Start { accepted_epoch: 0, current_epoch: 0, history_last },
            memberships: None,
            phase: Phase::Broadcasting,
            epoch: history_last.epoch(),
            links: BTreeMap::new(),
            gathered: BTreeSet::new(),
            promised: BTreeSet::new(),
            entered: BTreeSet::new(),
            current_epoch_is_stored: true,
            book: Book::new(history_last),
            reconfig: None,
            round: None,
            last_ticket: 0,
            another_round: false,
            outputs: VecDeque::new(),
            began_ms: 0,
            next_ping_ms: i64::MAX,
            pings: 0,
        }
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub fn proposed(&self) -> Zxid {
        self.book.proposed()
    }

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

    /// Panics for a standalone server, which has none.
    pub fn memberships(&self) -> &Memberships {
        self.memberships.as_ref().expect("a member of an ensemble has a membership")
    }

    pub fn counts(&self) -> LearnerCounts {
        let mut counts = LearnerCounts { learners: self.links.len(), ..LearnerCounts::default() };
        for link in self.links.values() {
            match link.stage {
                Stage::Synced if link.observer => counts.synced_observers += 1,
                Stage::Synced if self.is_voter(link.server) => counts.synced_followers += 1,
                Stage::Synced => counts.synced_non_voting_followers += 1,
                _ => counts.pending_syncs += 1,
            }
        }
        counts
    }

    fn is_voter(&self, server: Option<ServerId>) -> bool {
        server.is_some_and(|server| self.memberships.as_ref().is_some_and(|both| both.is_voter(server)))
    }

    fn is_quorum(&self, servers: &BTreeSet<ServerId>) -> bool {
        self.memberships.as_ref().is_none_or(|both| both.is_reached_by(servers))
    }

    pub fn poll(&mut self) -> Option<LeaderOutput> {
        self.outputs.pop_front()
    }

    fn log(&mut self, warn: bool, text: String) {
        self.outputs.push_back(LeaderOutput::Log { warn, text });
    }

    fn step_down(&mut self, why: String, successor: Option<ServerId>) {
        if self.phase != Phase::Over {
            self.phase = Phase::Over;
            self.outputs.push_back(LeaderOutput::StepDown { why, successor });
        }
    }

    fn send(&mut self, link: LinkId, packet: &QuorumPacket<'_>) {
        let mut bytes = Vec::new();
        packet.append(&mut bytes);
        self.outputs.push_back(LeaderOutput::ToLearner { link, bytes: bytes.into() });
    }

    fn drop_link(&mut self, link: LinkId, why: String) {
        if let Some(gone) = self.links.remove(&link) {
            self.log(true, format!("dropping {}: {why}", gone.name()));
            self.outputs.push_back(LeaderOutput::Drop { link, why });
            self.outputs.push_back(LeaderOutput::LearnerGone { link });
        }
    }

    // The learners' links.

    pub fn learner_connected(&mut self, now_ms: i64, link: LinkId, peer: String) {
        if self.links.len() >= MAX_LINKS {
            self.outputs.push_back(LeaderOutput::Drop { link, why: format!("{MAX_LINKS} learners are connected") });
            return;
        }
        self.links.insert(link, LearnerLink::new(peer, now_ms));
    }

    pub fn learner_gone(&mut self, _now_ms: i64, link: LinkId, why: &str) {
        if let Some(gone) = self.links.remove(&link) {
            self.log(true, format!("lost {}: {why}", gone.name()));
            self.outputs.push_back(LeaderOutput::LearnerGone { link });
        }
    }

    /// Takes a learner's packet.
    pub fn receive(&mut self, now_ms: i64, history: &History, id: LinkId, packet: QuorumPacket<'_>) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.heard_ms = now_ms;
        match (link.stage, packet) {
            (Stage::Greeting, QuorumPacket::FollowerInfo { accepted_epoch, info }) => {
                self.introduce(id, accepted_epoch.epoch(), info, false);
            }
            (Stage::Greeting, QuorumPacket::ObserverInfo { accepted_epoch, info }) => {
                self.introduce(id, accepted_epoch.epoch(), info, true);
            }
            (Stage::AwaitingPromise, QuorumPacket::AckEpoch { last_logged, current_epoch }) => {
                self.take_promise(history, id, last_logged, current_epoch);
            }
            (Stage::Syncing, QuorumPacket::Ack { zxid }) if zxid == Zxid::new(self.epoch, 0) => {
                link.stage = Stage::Entered;
                self.take_entry(id);
            }
            (stage, QuorumPacket::Ack { zxid }) if stage.is_registered() => self.take_ack(now_ms, id, zxid),
            (stage, QuorumPacket::Ping { touches, .. }) if stage.is_registered() => {
                link.echoed += 1;
                for touch in touches.unwrap_or_default() {
                    let (session, timeout_ms) = (touch.session, touch.timeout_ms);
                    self.outputs.push_back(LeaderOutput::Touch { session, timeout_ms });
                }
                self.finish_round(now_ms);
            }
            (Stage::Synced, QuorumPacket::Revalidate { session, timeout_ms }) => {
                self.outputs.push_back(LeaderOutput::Revalidate { link: id, session, timeout_ms });
            }
            (Stage::Synced, QuorumPacket::Request(request)) => {
                let Some(server) = link.server else { return };
                let (session, cxid, op) = (request.session, request.cxid, request.op);
                self.outputs.push_back(if op == OpCode::Sync.number() {
                    LeaderOutput::SyncRequest { link: id, session, cxid }
                } else {
                    let (body, identities) = (request.body.to_vec(), request.identities);
                    LeaderOutput::Request { link: id, server, session, cxid, op, body, identities }
                });
            }
            (stage, packet) => self.drop_link(id, format!("{packet:?} is out of place ({stage:?})")),
        }
    }

    fn introduce(&mut self, id: LinkId, accepted: Epoch, info: rookeeper_proto::quorum::LearnerInfo, observer: bool) {
        let (committed_version, newest) = match &self.memberships {
            Some(both) => (both.committed.version, both.last_seen.version),
            None => (0, 0),
        };
        if info.protocol_version < rookeeper_proto::quorum::PROTOCOL_VERSION {
            self.drop_link(id, format!("its protocol version {:#x} is too old", info.protocol_version));
            return;
        }
        if info.config_version > committed_version.max(newest) {
            let why = format!("its membership {:x} is newer than {committed_version:x}", info.config_version);
            self.drop_link(id, why);
            return;
        }
        if info.server == self.settings.me {
            self.drop_link(id, format!("it says that it is server {}, which is this one", info.server.0));
            return;
        }
        // The older link of a server that connects again is dead, whether or not it has been noticed.
        let older: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| link.server == Some(info.server)).map(|(id, _)| *id).collect();
        for older in older {
            self.drop_link(older, "the same server connected again".to_owned());
        }
        self.book.forget(info.server);
        let Some(link) = self.links.get_mut(&id) else { return };
        link.server = Some(info.server);
        link.observer = observer;
        link.stage = Stage::AwaitingEpoch;
        match self.phase {
            Phase::Gathering => {
                self.epoch = self.epoch.max(accepted.saturating_add(1));
                if self.is_voter(Some(info.server)) {
                    self.gathered.insert(info.server);
                }
                self.try_to_accept();
            }
            Phase::Accepting => {}
            _ => self.tell_epoch(id),
        }
    }

    fn try_to_accept(&mut self) {
        if self.phase == Phase::Gathering && self.is_quorum(&self.gathered) {
            self.phase = Phase::Accepting;
            self.outputs.push_back(LeaderOutput::AcceptedEpoch(self.epoch));
        }
    }

    pub fn accepted_epoch_stored(&mut self, _now_ms: i64, epoch: Epoch) {
        if self.phase != Phase::Accepting || epoch != self.epoch {
            return;
        }
        self.phase = Phase::Promising;
        let waiting: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| link.stage == Stage::AwaitingEpoch).map(|(id, _)| *id).collect();
        for id in waiting {
            self.tell_epoch(id);
        }
        self.try_to_enter();
    }

    fn tell_epoch(&mut self, id: LinkId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.stage = Stage::AwaitingPromise;
            let epoch = Zxid::new(self.epoch, 0);
            self.send(id, &QuorumPacket::LeaderInfo { epoch });
        }
    }

    fn take_promise(&mut self, history: &History, id: LinkId, last_logged: Zxid, current_epoch: Option<Epoch>) {
        let mine = (self.start.current_epoch, self.start.history_last);
        if let Some(current_epoch) = current_epoch
            && (current_epoch, last_logged) > mine
            && self.phase == Phase::Promising
        {
            let why = format!(
                "its history, epoch {current_epoch:x} up to {last_logged}, is ahead of this server's, {mine:?}"
            );
            self.drop_link(id, why);
            return;
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        link.last = last_logged;
        link.stage = Stage::AwaitingSync;
        let server = link.server;
        if current_epoch.is_some()
            && last_logged != Zxid(-1)
            && self.phase == Phase::Promising
            && self.is_voter(server)
            && let Some(server) = server
        {
            self.promised.insert(server);
        }
        self.try_to_enter();
        if matches!(self.phase, Phase::Syncing | Phase::Activating | Phase::Broadcasting) {
            self.sync_waiting(history);
        }
    }

    /// A quorum has acknowledged the epoch: it becomes this server's.
    fn try_to_enter(&mut self) {
        if self.phase == Phase::Promising && self.is_quorum(&self.promised) {
            self.phase = Phase::Syncing;
            self.outputs.push_back(LeaderOutput::CurrentEpoch(self.epoch));
        }
    }

    pub fn current_epoch_stored(&mut self, _now_ms: i64, epoch: Epoch) {
        if epoch == self.epoch && !self.current_epoch_is_stored {
            self.current_epoch_is_stored = true;
            self.entered.insert(self.settings.me);
            self.try_to_activate();
        }
    }

    fn take_entry(&mut self, id: LinkId) {
        let Some(server) = self.links.get(&id).and_then(|link| link.server) else { return };
        self.entered.insert(server);
        match self.phase {
            Phase::Broadcasting => self.let_serve(id),
            _ => self.try_to_activate(),
        }
    }

    fn try_to_activate(&mut self) {
        if self.phase == Phase::Syncing && self.is_quorum(&self.entered) {
            self.phase = Phase::Activating;
            if self.settings.reconfig_enabled
                && let Some(both) = &mut self.memberships
            {
                let mut membership = both.last_seen.clone();
                if membership.version == 0 {
                    membership.version = Zxid::new(self.epoch, 0).0;
                }
                *both = Memberships::settled(membership);
            }
            self.outputs.push_back(LeaderOutput::Activate { epoch: self.epoch });
        }
    }

    /// The caller has applied the history: this server decides from now on.
    pub fn activated(&mut self, now_ms: i64) {
        if self.phase != Phase::Activating {
            return;
        }
        self.phase = Phase::Broadcasting;
        self.book = Book::new(Zxid::new(self.epoch, 0));
        self.next_ping_ms = now_ms + self.settings.tick_ms / 2;
        let waiting: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| link.stage == Stage::Entered).map(|(id, _)| *id).collect();
        for id in waiting {
            self.let_serve(id);
        }
    }

    /// UPTODATE, and the commits that were held back for it.
    fn let_serve(&mut self, id: LinkId) {
        self.send(id, &QuorumPacket::UpToDate);
        let Some(link) = self.links.get_mut(&id) else { return };
        link.stage = Stage::Synced;
        for bytes in std::mem::take(&mut link.held_commits) {
            self.outputs.push_back(LeaderOutput::ToLearner { link: id, bytes });
        }
        let (Some(server), observer) = (link.server, link.observer) else { return };
        self.outputs.push_back(LeaderOutput::LearnerSynced { link: id, server, observer });
    }

    // Broadcast.

    /// What [`Leader::propose`] takes next.
    pub fn next_zxid(&self) -> Zxid {
        self.book.next()
    }

    /// Sends a transaction to everybody who follows.
    pub fn propose(&mut self, now_ms: i64, record: &Record) {
        self.book.propose(record);
        let followers = self.links.iter_mut().filter(|(_, link)| link.stage.is_registered() && !link.observer);
        for (id, link) in followers {
            link.unacknowledged.get_or_insert((record.zxid, now_ms));
            self.outputs.push_back(LeaderOutput::ToLearner { link: *id, bytes: record.proposal() });
        }
    }

    /// The same for a change of the members: from here on both memberships must agree.
    pub fn propose_reconfig(&mut self, now_ms: i64, record: &Record, membership: Membership) {
        if let Some(both) = &mut self.memberships {
            *both = Memberships::new(both.committed.clone(), membership.clone());
        }
        self.reconfig = Some((record.zxid, membership));
        self.propose(now_ms, record);
    }

    /// This server has everything up to `zxid` on disk.
    pub fn synced(&mut self, now_ms: i64, zxid: Zxid) {
        if self.phase == Phase::Broadcasting {
            self.book.acknowledge(self.settings.me, zxid);
            self.commit(now_ms);
        }
    }

    fn take_ack(&mut self, now_ms: i64, id: LinkId, zxid: Zxid) {
        // The ack of UPTODATE, and late ones for what was sent as history.
        if zxid.counter() == 0 || zxid.epoch() != self.epoch {
            return;
        }
        let proposed = self.book.proposed();
        if zxid > proposed {
            self.drop_link(id, format!("it acknowledged {zxid}, but only {proposed} was proposed"));
            return;
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.unacknowledged.is_some_and(|(oldest, _)| oldest <= zxid) {
            link.unacknowledged = (zxid < proposed).then_some((proposed, now_ms));
        }
        let Some(server) = link.server.filter(|_| !link.observer) else { return };
        if self.is_voter(Some(server)) {
            self.book.acknowledge(server, zxid);
            self.commit(now_ms);
        }
    }

    /// Commits what has a quorum.
    fn commit(&mut self, now_ms: i64) {
        if self.phase != Phase::Broadcasting {
            return;
        }
        // Up to a reconfiguration first: behind it another quorum decides.
        let reconfig = self.reconfig.as_ref().map(|(zxid, _)| *zxid);
        let memberships = &self.memberships;
        let reached =
            self.book.reached(reconfig, |servers| memberships.as_ref().is_none_or(|both| both.is_reached_by(servers)));
        let Some(reached) = reached else { return };
        let activates = reconfig == Some(reached);
        let successor = if activates { self.designate(reached) } else { self.settings.me };
        for record in self.book.commit(reached) {
            self.announce(&record, (activates && record.zxid == reached).then_some(successor));
        }
        if activates && let Some((_, membership)) = self.reconfig.take() {
            self.memberships = Some(Memberships::settled(membership));
        }
        self.outputs.push_back(LeaderOutput::Committed(reached));
        if activates {
            if successor != self.settings.me {
                let why = format!("the new membership makes server {} the leader", successor.0);
                self.step_down(why, Some(successor));
                return;
            }
            self.commit(now_ms);
        }
        let counter = self.book.proposed().counter();
        if self.memberships.is_some()
            && (counter >= LAST_ROLLOVER || (counter >= CALM_ROLLOVER && self.book.outstanding() == 0))
        {
            self.step_down(format!("epoch {:x} is nearly used up; another one begins", self.epoch), None);
        }
    }

    /// Tells everybody that a record is committed.
    fn announce(&mut self, record: &Record, designated_leader: Option<ServerId>) {
        let (mut commit, mut inform) = (None, None);
        for (id, link) in self.links.iter_mut().filter(|(_, link)| link.stage.is_registered()) {
            let made = if link.observer { &mut inform } else { &mut commit };
            let observer = link.observer;
            let bytes = made.get_or_insert_with(|| committing_packet(record, observer, designated_leader)).clone();
            // An older follower does not bear the commit of what came before NEWLEADER until it is up to date.
            if !observer && link.stage != Stage::Synced {
                link.held_commits.push(bytes);
            } else {
                self.outputs.push_back(LeaderOutput::ToLearner { link: *id, bytes });
            }
        }
    }

    /// Who leads once the reconfiguration is committed: this server if it may, else the one of the new voters that has most.
    fn designate(&self, reconfig: Zxid) -> ServerId {
        let me = self.settings.me;
        let Some((_, new)) = &self.reconfig else { return me };
        let address = |membership: &Membership| {
            membership
                .members
                .get(&me)
                .map(|member| member.addresses.iter().map(|at| (at.host.clone(), at.quorum_port)).collect::<Vec<_>>())
        };
        let old = self.memberships.as_ref().map(|both| &both.committed);
        if new.is_participant(me) && old.is_some_and(|old| address(old) == address(new)) {
            return me;
        }
        let best = new
            .participants()
            .filter(|server| *server != me && self.book.acknowledged(*server) >= reconfig)
            .max_by_key(|server| (self.book.acknowledged(*server), std::cmp::Reverse(*server)));
        best.unwrap_or(me)
    }

    /// Whether enough of a membership to come is synced.
    pub fn has_synced_quorum_of(&self, membership: &Membership) -> bool {
        let mut synced = self.synced_servers();
        synced.insert(self.settings.me);
        membership.quorum().is_reached_by(&synced)
    }

    fn synced_servers(&self) -> BTreeSet<ServerId> {
        let synced = self.links.values().filter(|link| link.stage == Stage::Synced && !link.observer);
        synced.filter_map(|link| link.server).collect()
    }

    pub fn answer_sync(&mut self, link: LinkId) {
        if self.links.contains_key(&link) {
            self.send(link, &QuorumPacket::Sync);
        }
    }

    pub fn revalidated(&mut self, link: LinkId, session: SessionId, valid: bool) {
        if self.links.contains_key(&link) {
            self.send(link, &QuorumPacket::Revalidated { session, valid });
        }
    }

    // Signs of life.

    /// Asks a quorum whether this server still leads. [`LeaderOutput::Confirmed`] follows with this ticket or a later one.
    pub fn confirm(&mut self, now_ms: i64) -> u64 {
        if self.round.is_some() {
            // The pings of the round in flight were sent before the question.
            self.another_round = true;
            return self.last_ticket + 1;
        }
        self.begin_round(now_ms);
        self.last_ticket
    }

    fn begin_round(&mut self, now_ms: i64) {
        self.last_ticket += 1;
        self.another_round = false;
        self.round = Some(Round { ticket: self.last_ticket, pings: BTreeMap::new() });
        self.ping_all();
        self.finish_round(now_ms);
    }

    fn ping_all(&mut self) {
        let zxid = self.book.proposed();
        let registered: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| link.stage.is_registered()).map(|(id, _)| *id).collect();
        for id in registered {
            self.send(id, &QuorumPacket::Ping { zxid, touches: None });
            if let Some(link) = self.links.get_mut(&id) {
                link.pinged += 1;
                if let Some(round) = &mut self.round
                    && link.stage == Stage::Synced
                    && !link.observer
                {
                    round.pings.entry(id).or_insert(link.pinged);
                }
            }
        }
        self.pings += 1;
    }

    fn finish_round(&mut self, now_ms: i64) {
        let Some(round) = &self.round else { return };
        let mut echoed: BTreeSet<ServerId> = round
            .pings
            .iter()
            .filter_map(|(id, ping)| self.links.get(id).filter(|link| link.echoed >= *ping)?.server)
            .collect();
        echoed.insert(self.settings.me);
        if self.is_quorum(&echoed) {
            let ticket = round.ticket;
            self.round = None;
            self.outputs.push_back(LeaderOutput::Confirmed(ticket));
            if self.another_round {
                self.begin_round(now_ms);
            }
        }
    }

    /// One of the voters looks for a leader.
    pub fn voter_looks(&mut self, now_ms: i64, server: ServerId) {
        if let Some(limit_ms) = self.settings.max_time_to_wait_for_epoch_ms
            && matches!(self.phase, Phase::Gathering | Phase::Accepting | Phase::Promising)
            && now_ms - self.began_ms >= limit_ms
            && self.is_voter(Some(server))
        {
            self.step_down(
                format!("after {limit_ms} ms too few follow, and server {} looks for a leader", server.0),
                None,
            );
        }
    }

    pub fn deadline_ms(&self) -> Option<i64> {
        (self.phase != Phase::Over && self.memberships.is_some()).then_some(self.next_ping_ms)
    }

    pub fn tick(&mut self, now_ms: i64) {
        if self.phase == Phase::Over || self.memberships.is_none() || now_ms < self.next_ping_ms {
            return;
        }
        self.next_ping_ms = now_ms + self.settings.tick_ms / 2;
        let init_ms = i64::from(self.settings.init_limit_ticks) * self.settings.tick_ms;
        let sync_ms = i64::from(self.settings.sync_limit_ticks) * self.settings.tick_ms;
        let silent: Vec<(LinkId, String)> =
            self.links.iter().filter_map(|(id, link)| Some((*id, link.overdue(now_ms, init_ms, sync_ms)?))).collect();
        for (id, why) in silent {
            self.drop_link(id, why);
        }
        if self.phase == Phase::Broadcasting {
            let mut present = self.synced_servers();
            present.insert(self.settings.me);
            if !self.is_quorum(&present) {
                let servers: Vec<String> = present.iter().map(|server| server.0.to_string()).collect();
                self.step_down(format!("only servers {} are left, which is no quorum", servers.join(", ")), None);
                return;
            }
        } else if now_ms - self.began_ms >= init_ms {
            let phase = self.phase;
            self.step_down(format!("no quorum of followers within {init_ms} ms ({phase:?})"), None);
            return;
        }
        self.ping_all();
    }
}

fn committing_packet(record: &Record, observer: bool, designated_leader: Option<ServerId>) -> Arc<[u8]> {
    let (zxid, body) = (record.zxid, record.body());
    let packet = match (observer, designated_leader) {
        (false, None) => QuorumPacket::Commit { zxid },
        (false, Some(designated_leader)) => QuorumPacket::CommitAndActivate { zxid, designated_leader },
        (true, None) => QuorumPacket::Inform { zxid, record: body },
        (true, Some(designated_leader)) => QuorumPacket::InformAndActivate { zxid, designated_leader, record: body },
    };
    let mut bytes = Vec::new();
    packet.append(&mut bytes);
    bytes.into()
}
