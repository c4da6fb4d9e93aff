//! The network between servers: election links and quorum links, with delays, partitions and connections that are dead on one side only.
//! Here are the quorum links; `elections.rs` has the election links, `streams.rs` logs and snapshots for learners, `trouble.rs` the work of
//! faults.
//!
//! What always holds here:
//! - bytes of a link arrive in order, and are lost only together with the link; a partition holds bytes back and drops none;
//! - peers notice a killed process at once; they notice a host that lost its power only when they send to the host after it is back.

mod elections;
mod streams;
mod trouble;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rookeeper_proto::election::Notification;
use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_proto::{TtlEncoding, Zxid};
use rookeeper_replica::Input;
use rookeeper_store::snapshot_stream::{Progress, SnapshotReceiver, SnapshotSender};
use rookeeper_zab::link::MAX_PACKET_BYTES;
use rookeeper_zab::{LinkEnd, LinkId, Record};

use crate::faults::Sabotage;
use crate::server::Process;
use crate::server::observe::reconfigured;
use crate::world::{Event, MS, SEC, World};

/// Where followers feed observers, in lives in which they do.
pub(crate) const OBSERVER_MASTER_PORT: u16 = 2191;

/// How long an attempt to connect waits for an answer.
const CONNECT_TIMEOUT_US: i64 = 2 * SEC;

/// Which end of a quorum link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Learner = 0,
    Leader = 1,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Learner => Side::Leader,
            Side::Leader => Side::Learner,
        }
    }
}

/// A process on a server, and what it calls the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct End {
    pub server: usize,
    pub life: u32,
    pub link: LinkId,
}

#[derive(Debug)]
pub(crate) enum Payload {
    Packets(Vec<u8>),
    /// Packets of which the last is SNAP; portions follow.
    Snap(Vec<u8>, Zxid),
    Portion(Vec<u8>),
    Close(LinkEnd),
}

/// Bytes and streams that wait to be sent to a learner.
#[derive(Debug)]
pub(crate) enum Item {
    Bytes(Arc<[u8]>),
    Log { after: Zxid, before: Zxid },
    Snapshot,
    End(LinkEnd),
}

#[derive(Debug)]
enum Stream {
    Log { after: Zxid, before: Zxid },
    Snapshot(Box<SnapshotSender>),
}

#[derive(Debug)]
struct Link {
    ends: [End; 2],
    alive: [bool; 2],
    /// When the last bytes towards each side arrive.
    arrive_us: [i64; 2],
    /// Held back by a partition, towards each side.
    held: [VecDeque<Payload>; 2],
    /// Whether bytes towards a side are lost: nothing behind them may arrive but the end of the link.
    has_gap: [bool; 2],
    outgoing: VecDeque<Item>,
    stream: Option<Stream>,
    receiver: Option<Box<SnapshotReceiver>>,
    received_bytes: u64,
}

#[derive(Debug)]
struct ElectionLink {
    generation: u64,
    lives: [u32; 2],
    arrive_us: [i64; 2],
    held: [VecDeque<Notification>; 2],
}

#[derive(Debug, Default)]
pub(crate) struct Network {
    links: BTreeMap<u64, Link>,
    by_end: BTreeMap<End, (u64, Side)>,
    hung_up: BTreeSet<End>,
    pub next: u64,
    /// By the two servers, the lower first.
    elections: BTreeMap<(usize, usize), ElectionLink>,
    waiting: BTreeMap<(usize, usize), Notification>,
    dialing: BTreeSet<(usize, usize)>,
    /// The last acknowledgement of each server, for a planted bug.
    pub acknowledged: BTreeMap<usize, Zxid>,
    /// Where an answer to a ping is being taken in, for another planted bug.
    pub echoed_at: Option<usize>,
    /// How many partitions keep bytes of one server from another.
    blocked: BTreeMap<(usize, usize), u32>,
    /// All delays are multiplied by this.
    pub slowness: i64,
}

fn pair(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}

impl Network {
    /// Whether nothing gets through in this direction.
    pub fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.blocked.get(&(from, to)).is_some_and(|count| *count > 0)
    }

    /// Lets nothing through in this direction. Blocks add up.
    pub fn block(&mut self, from: usize, to: usize) {
        *self.blocked.entry((from, to)).or_default() += 1;
    }

    /// Takes back one block of this direction.
    pub fn unblock(&mut self, from: usize, to: usize) {
        if let Some(count) = self.blocked.get_mut(&(from, to)) {
            *count = count.saturating_sub(1);
        }
    }
}

impl World {
    pub(crate) fn network_delay_us(&mut self) -> i64 {
        self.random.skewed(100, 3 * MS) * self.network.slowness.max(1)
    }
    /// Connects to a server, through a port of that.
    pub(crate) fn dial(&mut self, server: usize, link: LinkId, target: (usize, u16)) {
        let at_us = self.now_us + self.network_delay_us();
        let end = End { server, life: self.servers[server].life, link };
        self.schedule(at_us, Event::Dialed { end, target });
    }

    pub(crate) fn dialed(&mut self, end: End, (target, port): (usize, u16)) {
        if self.servers[end.server].life != end.life || self.network.hung_up.remove(&end) {
            return;
        }
        let refuse = |world: &mut World, after_us: i64, why: &str| {
            let input = Input::LeaderGone { link: end.link, why: LinkEnd::NotConnected(why.to_owned()) };
            let at_us = world.now_us + after_us;
            world.schedule(at_us, Event::Input { server: end.server, life: end.life, input: Box::new(input) });
        };
        let blocked = self.network.is_blocked(end.server, target) || self.network.is_blocked(target, end.server);
        if blocked || !self.servers[target].powered {
            return refuse(self, CONNECT_TIMEOUT_US, "no answer");
        }
        let is_open = |process: &Process| process.feeds || port != OBSERVER_MASTER_PORT;
        if !self.servers[target].process.as_ref().is_some_and(is_open) {
            return refuse(self, MS, "connection refused");
        }
        self.network.next += 1;
        let number = self.network.next;
        // Processes number the links they dial from 1.
        let other = End { server: target, life: self.servers[target].life, link: LinkId(1_000_000 + number) };
        let now_us = self.now_us;
        self.network.links.insert(
            number,
            Link {
                ends: [end, other],
                alive: [true; 2],
                arrive_us: [now_us; 2],
                held: Default::default(),
                has_gap: [false; 2],
                outgoing: VecDeque::new(),
                stream: None,
                receiver: None,
                received_bytes: 0,
            },
        );
        self.network.by_end.insert(end, (number, Side::Learner));
        self.network.by_end.insert(other, (number, Side::Leader));
        self.feed(end.server, Input::LeaderConnected { link: end.link });
        let peer = format!("server {}", end.server + 1);
        let input = match port {
            OBSERVER_MASTER_PORT => Input::ObserverConnected { link: other.link, peer },
            _ => Input::LearnerConnected { link: other.link, peer },
        };
        self.schedule(now_us, Event::Input { server: target, life: other.life, input: Box::new(input) });
    }

    pub(crate) fn end_of(&self, server: usize, link: LinkId) -> Option<(u64, Side)> {
        self.network.by_end.get(&End { server, life: self.servers[server].life, link }).copied()
    }

    pub(crate) fn send_to_leader(&mut self, server: usize, link: LinkId, bytes: Vec<u8>) {
        if let Some((number, Side::Learner)) = self.end_of(server, link) {
            let bytes = self.tamper_to_leader(server, bytes);
            if let Some(leader) = self.network.links.get(&number).map(|link| link.ends[Side::Leader as usize].server) {
                self.may_stumble(server, leader, &bytes);
            }
            self.transmit(number, Side::Leader, Payload::Packets(bytes));
        }
    }

    pub(crate) fn send_to_learner(&mut self, server: usize, link: LinkId, item: Item) {
        let Some((number, Side::Leader)) = self.end_of(server, link) else { return };
        if let Some(link) = self.network.links.get_mut(&number) {
            link.outgoing.push_back(item);
            self.advance(number);
        }
    }

    /// One side ends the connection; the other side hears of the end behind everything that is on its way.
    pub(crate) fn hang_up(&mut self, server: usize, link: LinkId) {
        match self.end_of(server, link) {
            Some((number, side)) => self.close(number, side, LinkEnd::Closed),
            None => {
                self.network.hung_up.insert(End { server, life: self.servers[server].life, link });
            }
        }
    }

    fn close(&mut self, number: u64, by: Side, why: LinkEnd) {
        let Some(link) = self.network.links.get_mut(&number) else { return };
        if !link.alive[by as usize] {
            return;
        }
        link.alive[by as usize] = false;
        link.stream = None;
        link.outgoing.clear();
        let end = link.ends[by as usize];
        self.network.by_end.remove(&end);
        self.transmit(number, by.other(), Payload::Close(why));
    }

    pub(crate) fn transmit(&mut self, number: u64, towards: Side, payload: Payload) {
        let delay_us = self.network_delay_us();
        let now_us = self.now_us;
        let Some(link) = self.network.links.get_mut(&number) else { return };
        let at_us = (now_us + delay_us).max(link.arrive_us[towards as usize]);
        link.arrive_us[towards as usize] = at_us;
        self.schedule(at_us, Event::Arrival { number, towards, payload });
    }

    pub(crate) fn arrives(&mut self, number: u64, towards: Side, payload: Payload) {
        let Some(link) = self.network.links.get_mut(&number) else { return };
        let (to, from) = (link.ends[towards as usize], link.ends[towards.other() as usize]);
        let cut = self.network.blocked.get(&(from.server, to.server)).is_some_and(|count| *count > 0);
        let blocked = cut || self.servers[to.server].frozen;
        if link.has_gap[towards as usize] && !matches!(payload, Payload::Close(_)) {
            return;
        }
        if blocked || !link.held[towards as usize].is_empty() {
            link.held[towards as usize].push_back(payload);
            return;
        }
        self.deliver(number, towards, payload);
    }

    /// Bytes that were held back arrive, and behind them the bytes that came meanwhile.
    pub(crate) fn release(&mut self, number: u64, towards: Side) {
        let Some(link) = self.network.links.get_mut(&number) else { return };
        let (to, from) = (link.ends[towards as usize], link.ends[towards.other() as usize]);
        let cut = self.network.blocked.get(&(from.server, to.server)).is_some_and(|count| *count > 0);
        if cut || self.servers[to.server].frozen {
            return;
        }
        for payload in std::mem::take(&mut link.held[towards as usize]) {
            self.deliver(number, towards, payload);
        }
    }

    fn deliver(&mut self, number: u64, towards: Side, payload: Payload) {
        let Some(link) = self.network.links.get_mut(&number) else { return };
        let (to, from) = (link.ends[towards as usize], link.ends[towards.other() as usize]);
        let receiver = &self.servers[to.server];
        let gone = receiver.process.is_none() || receiver.life != to.life || !link.alive[towards as usize];
        if gone {
            link.alive[towards as usize] = false;
            if receiver.powered && !matches!(payload, Payload::Close(_)) && link.alive[towards.other() as usize] {
                self.transmit(number, towards.other(), Payload::Close(LinkEnd::Io("connection reset".to_owned())));
            }
            return;
        }
        self.note(7, number, towards as u64, || describe(from, to, &payload));
        let Some(link) = self.network.links.get_mut(&number) else { return };
        match (towards, payload) {
            (_, Payload::Close(why)) => {
                link.alive[towards as usize] = false;
                link.stream = None;
                self.network.by_end.remove(&to);
                let input = match towards {
                    Side::Learner => Input::LeaderGone { link: to.link, why },
                    Side::Leader => Input::LearnerGone { link: to.link, why },
                };
                self.feed(to.server, input);
            }
            (Side::Leader, Payload::Packets(packets)) => {
                self.feed(to.server, Input::FromLearner { link: to.link, packets })
            }
            (Side::Learner, Payload::Packets(packets)) => {
                self.feed(to.server, Input::FromLeader { link: to.link, packets })
            }
            (_, Payload::Snap(packets, zxid)) => {
                link.receiver = Some(Box::new(SnapshotReceiver::new(zxid, 0, TtlEncoding::Current)));
                link.received_bytes = 0;
                self.feed(to.server, Input::FromLeader { link: to.link, packets });
            }
            (_, Payload::Portion(bytes)) => {
                let Some(receiver) = &mut link.receiver else { return };
                link.received_bytes += bytes.len() as u64;
                match receiver.feed(&bytes) {
                    Ok(Progress::NeedMore) => self.feed(to.server, Input::LeaderHeard { link: to.link }),
                    Ok(Progress::Done { tree, .. }) => {
                        link.receiver = None;
                        let bytes = link.received_bytes;
                        self.feed(to.server, Input::SnapshotReceived { link: to.link, tree: Box::new(tree), bytes });
                    }
                    Err(error) => self.violated(format!("snapshot stream: {error}")),
                }
            }
        }
    }

    /// A planted bug: observers that a follower feeds hear of what is only proposed.
    pub(crate) fn inform_early(&mut self, server: usize, record: &Record) {
        let life = self.servers[server].life;
        let feeds = self.servers[server].process.as_ref().is_some_and(|process| process.feeds);
        let is_fed = |link: &Link| feeds && link.ends[1].server == server && link.ends[1].life == life && link.alive[1];
        let fed: Vec<u64> =
            self.network.links.iter().filter(|(_, link)| is_fed(link)).map(|(number, _)| *number).collect();
        for number in fed {
            let mut packets = Vec::new();
            QuorumPacket::Inform { zxid: record.zxid, record: record.body() }.append(&mut packets);
            self.transmit(number, Side::Learner, Payload::Packets(packets));
        }
    }

    /// Two planted bugs. Either every learner seems to have a proposal that was only just sent to it, or only a joining learner seems to have
    /// the change by which it joins.
    fn sabotage_acks(&mut self, number: u64, bytes: &[u8]) {
        let only_joiners = match self.plan.sabotage {
            Some(Sabotage::AcksNobodySent) => false,
            Some(Sabotage::CountsJoinersUnheard) => true,
            _ => return,
        };
        let Some(link) = self.network.links.get(&number) else { return };
        let joins = |record| {
            let learner = link.ends[0].server;
            reconfigured(record).is_some_and(|new| new.is_participant(self.servers[learner].id))
                && self.membership.as_ref().is_some_and(|now| !now.is_participant(self.servers[learner].id))
        };
        if let Ok(Some((QuorumPacket::Proposal { zxid, record }, _))) = QuorumPacket::split(bytes, MAX_PACKET_BYTES)
            && (!only_joiners || joins(record))
        {
            let mut packets = Vec::new();
            QuorumPacket::Ack { zxid }.append(&mut packets);
            self.transmit(number, Side::Leader, Payload::Packets(packets));
        }
    }
}

fn describe(from: End, to: End, payload: &Payload) -> String {
    let what = match payload {
        Payload::Packets(packets) | Payload::Snap(packets, _) => packet_names(packets),
        Payload::Portion(bytes) => format!("{} bytes of a snapshot", bytes.len()),
        Payload::Close(why) => format!("closed: {why}"),
    };
    format!("{} -> {} ({}): {what}", from.server + 1, to.server + 1, to.link)
}

fn packet_names(mut packets: &[u8]) -> String {
    let mut names = Vec::new();
    while let Ok(Some((packet, length))) = QuorumPacket::split(packets, MAX_PACKET_BYTES) {
        names.push(match packet {
            QuorumPacket::Proposal { zxid, .. } => format!("PROPOSAL {zxid}"),
            QuorumPacket::Inform { zxid, .. } => format!("INFORM {zxid}"),
            QuorumPacket::NewLeader { epoch, .. } => format!("NEWLEADER {epoch}"),
            QuorumPacket::Request(request) => format!("REQUEST {} {} {}", request.op, request.session, request.cxid),
            packet => format!("{packet:?}"),
        });
        packets = &packets[length..];
    }
    names.join(", ")
}
