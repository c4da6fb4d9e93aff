//! An observer master: a follower that feeds observers, so that the leader has fewer links to serve. One value lives from the moment that the
//! follower serves under its leader until it loses that leader.
//!
//! What always holds here:
//! - an observer gets what is committed, in order and without a gap, and nothing else. So it decides nothing, and nothing of what it says
//!   but requests goes on to the leader;
//! - nothing that an observer has of the leader's epoch is cut: all of it is committed, and this follower waits until it knows that too. The
//!   original cuts it, and such an observer goes back in time;
//! - what an observer has of an earlier epoch, and this follower does not, is no history: the leader's history of all earlier epochs was
//!   committed, and here, before this follower served.
//!
//! Counterpart in the original: `ObserverMaster`, `LearnerHandler`. It bridges the time between synchronisation and the first INFORM with
//! packets that it keeps; here both happen in one step.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rookeeper_proto::quorum::{ForwardedRequest, LearnerInfo, PROTOCOL_VERSION, QuorumPacket, Touch};
use rookeeper_proto::{Epoch, Id, MonotonicMs, ServerId, SessionId, Zxid};

use crate::history::{History, Record};
use crate::leader::learner_link::{CatchingUp, Identity, LearnerLink, Serving, Stage};
use crate::leader::sync::{SyncMethod, SyncPlanner, first_in_memory};
use crate::link::{LinkId, LinkOutput, MAX_PACKET_BYTES, SyncPlan};
use crate::membership::Membership;
use crate::reasons::{DropReason, LeaderEvent, LinkEnd, SyncKind};

/// How an observer master deals with its observers.
#[derive(Debug, Clone)]
pub struct ObserverMasterSettings {
    /// This server.
    pub me: ServerId,
    /// `tickTime`. Observers are pinged twice in it.
    pub tick_ms: i64,
    /// `initLimit`: an observer that takes longer for one of its steps is dropped.
    pub init_limit_ticks: u32,
    /// `syncLimit`: the same once it is up to date.
    pub sync_limit_ticks: u32,
    /// Brings observers up with snapshots only, where nobody loses by that.
    pub force_snapshot_sync: bool,
    /// Observers that are sent a snapshot at once; others are refused.
    pub max_concurrent_snap_syncs: usize,
    /// The same for parts of the log.
    pub max_concurrent_diff_syncs: usize,
    /// Bytes of transactions that may be on their way to one observer that is up to date, without a sign that it has read them. An observer that
    /// falls behind further is dropped, and brought up anew when it comes again.
    pub size_limit_bytes: usize,
}

/// What this server has, and feeds observers with.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub history: &'a History,
    /// In force.
    pub membership: &'a Membership,
}

/// What an observer master wants done. What goes to one link goes out in the order in which it is polled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObserverMasterOutput {
    /// What is to happen on an observer's link. [`LinkOutput::PlanSync`] is answered by [`ObserverMaster::sync_planned`].
    ToObserver(LinkId, LinkOutput),
    /// To be sent on to the leader. A sync among them is answered by [`ObserverMaster::answer_sync`].
    Request(RelayedRequest),
    /// To be asked of the leader; answered by [`ObserverMaster::revalidated`].
    Revalidate { link: LinkId, session: SessionId, timeout_ms: i32 },
    /// An observer heard of these sessions, which the leader is to know.
    Touches(Vec<Touch>),
    /// An observer is being brought to this server's history, as one of `under_way` that are in this way.
    SyncBegan { by_snapshot: bool, under_way: usize },
    /// One has acknowledged it, and so many are left.
    SyncEnded { by_snapshot: bool, under_way: usize },
    /// An observer is up to date.
    Synced,
    /// Also after [`LinkOutput::Drop`].
    Gone { link: LinkId },
    /// A line for the log.
    Log(LeaderEvent),
}

/// What a client of an observer asks the leader for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayedRequest {
    pub link: LinkId,
    pub session: SessionId,
    pub cxid: i32,
    pub op: i32,
    pub body: Vec<u8>,
    pub identities: Option<Vec<Id>>,
}

/// For those who ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ObserverCounts {
    /// Links, whatever they have said.
    pub links: usize,
    /// Up to date.
    pub synced: usize,
}

/// See the head of this file. The caller drains [`ObserverMaster::poll`] after every call, and calls [`ObserverMaster::tick`] when
/// [`ObserverMaster::deadline_ms`] is due.
#[derive(Debug)]
pub struct ObserverMaster {
    settings: ObserverMasterSettings,
    /// The leader's, which this server has entered.
    epoch: Epoch,
    links: BTreeMap<LinkId, LearnerLink>,
    /// Of those that are up to date.
    backlogs: BTreeMap<LinkId, Backlog>,
    /// Everything up to here went to those who are up to date.
    informed: Zxid,
    next_ping_ms: MonotonicMs,
    outputs: VecDeque<ObserverMasterOutput>,
}

/// Strangers may connect; more than this many links are not kept.
const MAX_LINKS: usize = 1000;

/// What an observer was sent and may not have read: its answer to a ping says that it has read everything before.
#[derive(Debug, Default)]
struct Backlog {
    bytes: usize,
    /// Of these, the ones behind the last ping.
    behind_last_ping: usize,
    /// The ones before each ping that is not answered, oldest first.
    before_pings: VecDeque<usize>,
}

impl Backlog {
    fn sent(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.behind_last_ping += bytes;
    }

    fn pinged(&mut self) {
        self.before_pings.push_back(std::mem::take(&mut self.behind_last_ping));
    }

    fn answered(&mut self) {
        self.bytes -= self.before_pings.pop_front().unwrap_or_default();
    }
}

/// Until UPTODATE the original's learners do not answer pings, and Rookeeper's do. Answers to pings with this zxid are not counted.
const UNCOUNTED: Zxid = Zxid::ZERO;

impl ObserverMaster {
    /// For a follower that serves under the leader of `epoch`, and has everything up to `committed` from it.
    pub fn new(settings: ObserverMasterSettings, epoch: Epoch, committed: Zxid, now_ms: MonotonicMs) -> ObserverMaster {
        ObserverMaster {
            next_ping_ms: now_ms + (settings.tick_ms / 2).max(1),
            settings,
            epoch,
            links: BTreeMap::new(),
            backlogs: BTreeMap::new(),
            informed: committed,
            outputs: VecDeque::new(),
        }
    }

    /// The next effect. To be drained after every call.
    pub fn poll(&mut self) -> Option<ObserverMasterOutput> {
        self.outputs.pop_front()
    }

    /// How many observers there are.
    pub fn counts(&self) -> ObserverCounts {
        let synced = self.links.values().filter(|link| link.is_synced()).count();
        ObserverCounts { links: self.links.len(), synced }
    }

    /// How long observers that are up to date have been silent, in milliseconds.
    pub fn lags(&self, now_ms: MonotonicMs) -> Vec<(ServerId, i64)> {
        let lag = |link: &LearnerLink| Some((link.identity?.server, link.behind_ms(now_ms)?));
        self.links.values().filter_map(lag).collect()
    }

    /// The links there are, whatever they have said.
    pub fn links(&self) -> impl Iterator<Item = LinkId> {
        self.links.keys().copied()
    }

    /// Somebody connected to the port for observers.
    pub fn connected(&mut self, now_ms: MonotonicMs, link: LinkId, peer: String) {
        if self.links.len() >= MAX_LINKS {
            let why = DropReason::TooManyLearners { limit: MAX_LINKS };
            self.outputs.push_back(ObserverMasterOutput::ToObserver(link, LinkOutput::Drop(why)));
            return;
        }
        self.links.insert(link, LearnerLink::new(peer, now_ms));
    }

    /// Its connection ended.
    pub fn gone(&mut self, link: LinkId, why: LinkEnd) {
        if let Some(gone) = self.remove(link) {
            self.log(LeaderEvent::Lost { learner: gone.name(), why });
            self.outputs.push_back(ObserverMasterOutput::Gone { link });
        }
    }

    /// Ends a link.
    pub fn drop_link(&mut self, link: LinkId, why: DropReason) {
        if let Some(gone) = self.remove(link) {
            self.log(LeaderEvent::Dropping { learner: gone.name(), why: why.clone() });
            self.outputs.push_back(ObserverMasterOutput::ToObserver(link, LinkOutput::Drop(why)));
            self.outputs.push_back(ObserverMasterOutput::Gone { link });
        }
    }

    fn remove(&mut self, link: LinkId) -> Option<LearnerLink> {
        self.backlogs.remove(&link);
        self.links.remove(&link)
    }

    /// One or more whole packets. One that has no place here ends the link.
    pub fn receive(&mut self, now_ms: MonotonicMs, source: Source<'_>, link: LinkId, packets: &[u8]) {
        let mut rest = packets;
        while !rest.is_empty() {
            match QuorumPacket::split(rest, MAX_PACKET_BYTES) {
                Ok(Some((packet, length))) => {
                    self.take(now_ms, source, link, packet);
                    rest = &rest[length..];
                }
                Ok(None) => return,
                Err(error) => return self.drop_link(link, DropReason::NotAPacket(error)),
            }
        }
    }

    fn take(&mut self, now_ms: MonotonicMs, source: Source<'_>, id: LinkId, packet: QuorumPacket<'_>) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.heard_ms = now_ms;
        match (&link.stage, packet) {
            (Stage::Greeting, QuorumPacket::ObserverInfo { info, .. }) => self.on_observer_info(source, id, info),
            (Stage::AwaitingEpochAck, QuorumPacket::AckEpoch { last_logged, .. }) => {
                link.stage = Stage::AwaitingSync { last: last_logged };
                self.sync_waiting(source);
            }
            (Stage::Syncing(_), QuorumPacket::Ack { zxid }) if zxid == self.epoch.beginning() => {
                self.on_new_leader_ack(id);
            }
            // The one of UPTODATE. Of transactions an observer acknowledges none.
            (Stage::Synced(_), QuorumPacket::Ack { zxid }) if zxid.counter() == 0 => {}
            (Stage::Syncing(_) | Stage::Synced(_), QuorumPacket::Ping { zxid, touches }) => {
                if let Some(backlog) = self.backlogs.get_mut(&id).filter(|_| zxid != UNCOUNTED) {
                    backlog.answered();
                }
                if let Some(touches) = touches.filter(|touches| !touches.is_empty()) {
                    self.outputs.push_back(ObserverMasterOutput::Touches(touches));
                }
            }
            (Stage::Synced(_), QuorumPacket::Revalidate { session, timeout_ms }) => {
                self.outputs.push_back(ObserverMasterOutput::Revalidate { link: id, session, timeout_ms });
            }
            (Stage::Synced(_), QuorumPacket::Request(request)) => {
                let ForwardedRequest { session, cxid, op, body, identities } = request;
                let request = RelayedRequest { link: id, session, cxid, op, body: body.to_vec(), identities };
                self.outputs.push_back(ObserverMasterOutput::Request(request));
            }
            (stage, packet) => {
                let why = DropReason::OutOfPlace { packet: packet.name(), stage: stage.name() };
                self.drop_link(id, why);
            }
        }
    }

    /// An observer says who it is. It is told the leader's epoch; whether that is old enough for it is for it to say.
    fn on_observer_info(&mut self, source: Source<'_>, id: LinkId, info: LearnerInfo) {
        let LearnerInfo { server, protocol_version, config_version } = info;
        let newest = source.membership.version;
        let objection = if protocol_version < PROTOCOL_VERSION {
            Some(DropReason::OldProtocol(protocol_version))
        } else if config_version > newest {
            Some(DropReason::NewerMembership { theirs: config_version, newest })
        } else if server == self.settings.me {
            Some(DropReason::SaysItIsThisServer(server))
        } else {
            None
        };
        if let Some(why) = objection {
            return self.drop_link(id, why);
        }
        if let Some(link) = self.links.get_mut(&id) {
            link.identity = Some(Identity { server, observer: true });
            link.stage = Stage::AwaitingEpochAck;
            self.send(id, &QuorumPacket::LeaderInfo { epoch: self.epoch.beginning() });
        }
    }

    /// Begins with all whose history this server can judge.
    fn sync_waiting(&mut self, source: Source<'_>) {
        let waiting = self.links.iter().filter_map(|(id, link)| match link.stage {
            Stage::AwaitingSync { last } => Some((*id, last)),
            _ => None,
        });
        let waiting: Vec<(LinkId, Option<Zxid>)> = waiting.collect();
        for (id, last) in waiting {
            if let Some(method) = self.method(source.history, last) {
                self.sync_by(source, id, last, method, false);
            }
        }
    }

    /// How an observer is brought to this server's history. `None` while that is to grow first, for the observer has more of the same epoch.
    fn method(&self, history: &History, last: Option<Zxid>) -> Option<SyncMethod> {
        let committed = history.committed();
        let Some(last) = last else { return Some(SyncMethod::Snapshot) };
        if last > committed && last.epoch() == self.epoch {
            // The beginning of the epoch is all of the history before it, which this server has.
            let is_beginning = last == self.epoch.beginning();
            return is_beginning.then_some(SyncMethod::Diff { zxid: committed, after: committed });
        }
        let planner = SyncPlanner {
            history,
            committed,
            entered: self.epoch,
            epoch: self.epoch,
            force_snapshot: self.settings.force_snapshot_sync,
        };
        Some(planner.method(last))
    }

    /// What the log can do for an observer is known.
    pub fn sync_planned(&mut self, source: Source<'_>, id: LinkId, plan: SyncPlan) {
        let Some(Stage::Planning { last }) = self.links.get(&id).map(|link| &link.stage) else { return };
        let last = *last;
        let method = match plan {
            SyncPlan::Log => SyncMethod::Diff { zxid: source.history.committed(), after: last },
            SyncPlan::Snapshot => SyncMethod::Snapshot,
        };
        self.sync_by(source, id, Some(last), method, true);
    }

    fn sync_by(&mut self, source: Source<'_>, id: LinkId, last: Option<Zxid>, method: SyncMethod, from_log: bool) {
        let by_snapshot = method == SyncMethod::Snapshot;
        let limit = match by_snapshot {
            true => self.settings.max_concurrent_snap_syncs,
            false => self.settings.max_concurrent_diff_syncs,
        };
        if self.syncs_under_way(by_snapshot) >= limit {
            return self.drop_link(id, DropReason::TooManySyncs);
        }
        let history = source.history;
        let (first, after, by) = match method {
            SyncMethod::Refuse { last } => {
                let why = DropReason::UnknownHistory { last, epoch: self.epoch, entered: self.epoch };
                return self.drop_link(id, why);
            }
            SyncMethod::AskLog { after, before } => {
                if let Some(link) = self.links.get_mut(&id) {
                    link.stage = Stage::Planning { last: after };
                    self.put(id, LinkOutput::PlanSync { after, before });
                }
                return;
            }
            SyncMethod::Diff { zxid, after } => (Some(QuorumPacket::Diff { zxid }), after, SyncKind::Diff { to: zxid }),
            SyncMethod::Truncate { to } => (Some(QuorumPacket::Trunc { zxid: to }), to, SyncKind::Truncate { to }),
            // The tree that is sent is at what is applied, or after it.
            SyncMethod::Snapshot => (None, history.committed(), SyncKind::Snapshot),
        };
        let Some(link) = self.links.get_mut(&id) else { return };
        link.stage = Stage::Syncing(CatchingUp { by_snapshot, ..CatchingUp::default() });
        let learner = link.name();
        self.log(LeaderEvent::Syncing { learner, last, by });
        let under_way = self.syncs_under_way(by_snapshot);
        self.outputs.push_back(ObserverMasterOutput::SyncBegan { by_snapshot, under_way });
        match first {
            Some(packet) => self.send(id, &packet),
            None => self.put(id, LinkOutput::StreamSnapshot),
        }
        if from_log && !by_snapshot {
            self.put(id, LinkOutput::StreamLog { after, before: first_in_memory(history) });
        }
        for record in history.after(after).take_while(|record| record.zxid <= history.committed()) {
            self.put(id, LinkOutput::Send(record.proposal()));
            self.send(id, &QuorumPacket::Commit { zxid: record.zxid });
        }
        let membership = source.membership.to_string();
        self.send(id, &QuorumPacket::NewLeader { epoch: self.epoch.beginning(), config: membership.as_bytes() });
    }

    fn syncs_under_way(&self, by_snapshot: bool) -> usize {
        let same_way = |link: &&LearnerLink| matches!(&link.stage, Stage::Syncing(catching_up) if catching_up.by_snapshot == by_snapshot);
        self.links.values().filter(same_way).count()
    }

    fn on_new_leader_ack(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let Stage::Syncing(catching_up) = std::mem::replace(&mut link.stage, Stage::Synced(Serving::default())) else {
            return;
        };
        let by_snapshot = catching_up.by_snapshot;
        let under_way = self.syncs_under_way(by_snapshot);
        self.outputs.push_back(ObserverMasterOutput::SyncEnded { by_snapshot, under_way });
        self.send(id, &QuorumPacket::UpToDate);
        self.backlogs.insert(id, Backlog::default());
        self.outputs.push_back(ObserverMasterOutput::Synced);
    }

    /// The leader said that everything up to `zxid` is committed, which the history does not know yet; with `activates` the last of it puts a
    /// membership into force, under that leader.
    pub fn inform(&mut self, history: &History, zxid: Zxid, activates: Option<ServerId>) {
        let new = history.after(history.committed()).take_while(|record| record.zxid <= zxid);
        let new: Vec<&Record> = new.collect();
        self.informed = zxid;
        let registered: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| link.is_registered()).map(|(id, _)| *id).collect();
        if registered.is_empty() || new.is_empty() {
            return;
        }
        // One copy for all of them.
        let bytes: Arc<[u8]> = informing(&new, activates).into();
        let limit_bytes = self.settings.size_limit_bytes;
        for id in registered {
            if self.backlogs.get(&id).is_some_and(|backlog| backlog.bytes > limit_bytes) {
                self.drop_link(id, DropReason::FallsBehind { limit_bytes });
                continue;
            }
            self.put(id, LinkOutput::Send(bytes.clone()));
            let Some(backlog) = self.backlogs.get_mut(&id) else { continue };
            backlog.sent(bytes.len());
            if backlog.behind_last_ping > limit_bytes / 4 {
                // So that an observer which keeps up is known to in time.
                self.ping(id);
            }
        }
    }

    /// The history has grown: observers that had more of it may begin.
    pub fn grown(&mut self, source: Source<'_>) {
        self.sync_waiting(source);
    }

    /// Answers an observer's sync, behind all that was committed until now.
    pub fn answer_sync(&mut self, link: LinkId) {
        if self.links.get(&link).is_some_and(LearnerLink::is_synced) {
            self.send(link, &QuorumPacket::Sync);
        }
    }

    /// Answers whether a session lives.
    pub fn revalidated(&mut self, link: LinkId, session: SessionId, valid: bool) {
        if self.links.get(&link).is_some_and(LearnerLink::is_synced) {
            self.send(link, &QuorumPacket::Revalidated { session, valid });
        }
    }

    /// A part of a stream went out to an observer: it is this server, not the observer, that is busy.
    pub fn stream_progressed(&mut self, now_ms: MonotonicMs, link: LinkId) {
        if let Some(link) = self.links.get_mut(&link) {
            link.heard_ms = link.heard_ms.max(now_ms);
        }
    }

    /// When [`ObserverMaster::tick`] has something to do.
    pub fn deadline_ms(&self) -> MonotonicMs {
        self.next_ping_ms
    }

    /// Time passes: who is silent too long is dropped, the others are pinged.
    pub fn tick(&mut self, now_ms: MonotonicMs) {
        if now_ms < self.next_ping_ms {
            return;
        }
        let late_ms = now_ms - self.next_ping_ms;
        if late_ms >= self.settings.tick_ms {
            // This server stood still, and what came meanwhile has not been read.
            self.links.values_mut().for_each(|link| link.excuse(late_ms));
        }
        self.next_ping_ms = now_ms + (self.settings.tick_ms / 2).max(1);
        let limit_ms = |ticks: u32| i64::from(ticks) * self.settings.tick_ms;
        let (init_ms, sync_ms) = (limit_ms(self.settings.init_limit_ticks), limit_ms(self.settings.sync_limit_ticks));
        let overdue = |(id, link): (&LinkId, &LearnerLink)| {
            let silent_ms = now_ms - link.heard_ms;
            // It has given this server up by now where it is alive.
            let waits_in_vain = matches!(link.stage, Stage::AwaitingSync { .. }) && silent_ms >= init_ms;
            let why = waits_in_vain.then_some(DropReason::Silent { silent_ms });
            Some((*id, why.or_else(|| link.overdue(now_ms, init_ms, sync_ms))?))
        };
        let overdue: Vec<(LinkId, DropReason)> = self.links.iter().filter_map(overdue).collect();
        for (id, why) in overdue {
            self.drop_link(id, why);
        }
        let late: Vec<LeaderEvent> = self.links.values_mut().filter_map(|link| link.late(now_ms, sync_ms)).collect();
        late.into_iter().for_each(|event| self.log(event));
        let registered: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| link.is_registered()).map(|(id, _)| *id).collect();
        for id in registered {
            self.ping(id);
        }
    }

    fn ping(&mut self, id: LinkId) {
        let mut zxid = UNCOUNTED;
        if let Some(backlog) = self.backlogs.get_mut(&id).filter(|_| self.informed != UNCOUNTED) {
            zxid = self.informed;
            backlog.pinged();
        }
        self.send(id, &QuorumPacket::Ping { zxid, touches: None });
    }

    fn log(&mut self, event: LeaderEvent) {
        self.outputs.push_back(ObserverMasterOutput::Log(event));
    }

    fn put(&mut self, link: LinkId, output: LinkOutput) {
        self.outputs.push_back(ObserverMasterOutput::ToObserver(link, output));
    }

    fn send(&mut self, link: LinkId, packet: &QuorumPacket<'_>) {
        let mut bytes = Vec::new();
        packet.append(&mut bytes);
        self.put(link, LinkOutput::Send(bytes.into()));
    }
}

/// INFORM for each record; where the last one puts a membership into force, that with the leader under which it does.
fn informing(records: &[&Record], activates: Option<ServerId>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let (zxid, record) = (record.zxid, record.body());
        match activates.filter(|_| index + 1 == records.len()) {
            None => QuorumPacket::Inform { zxid, record }.append(&mut bytes),
            Some(designated_leader) => {
                QuorumPacket::InformAndActivate { zxid, designated_leader, record }.append(&mut bytes);
            }
        }
    }
    bytes
}
