//! The network between servers: election links and quorum links, with delays, partitions and connections that are dead on one side only.
//!
//! What always holds here:
//! - bytes of a link arrive in order, and are lost only together with the link; a partition holds them back, it does not drop them;
//! - a process that is killed is noticed by its peers, a host that lost its power only when something is sent to it after it is back;
//! - of the votes that wait for an election link only the newest is sent, and never on a later link.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rookeeper_proto::Zxid;
use rookeeper_proto::election::Notification;
use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_replica::Input;
use rookeeper_store::catch_up::CatchUp;
use rookeeper_store::snapshot_stream::{Progress, SnapshotReceiver, SnapshotSender};
use rookeeper_zab::LinkId;
use rookeeper_zab::link::MAX_PACKET_BYTES;

use crate::faults::Sabotage;
use crate::server::reconfigured;
use crate::world::{Event, MS, SEC, World};

/// How long an attempt to connect waits for an answer.
const CONNECT_TIMEOUT_US: i64 = 2 * SEC;
/// Records of the log in one portion of a stream.
const RECORDS_A_PORTION: usize = 8;
const SNAPSHOT_PORTION_BYTES: usize = 256;
/// Where values are large.
const LARGE_PORTION_BYTES: usize = 64 << 10;

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
    Close(String),
}

/// What waits to be sent to a learner.
#[derive(Debug)]
pub(crate) enum Item {
    Bytes(Arc<[u8]>),
    Log { after: Zxid, before: Zxid },
    Snapshot,
    End(String),
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
    /// How many partitions keep bytes of one server from another.
    blocked: BTreeMap<(usize, usize), u32>,
    /// All delays are multiplied by this.
    pub slowness: i64,
}

fn pair(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}

impl Network {
    pub fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.blocked.get(&(from, to)).is_some_and(|count| *count > 0)
    }

    pub fn block(&mut self, from: usize, to: usize) {
        *self.blocked.entry((from, to)).or_default() += 1;
    }

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

    // --- elections ---

    pub(crate) fn notify(&mut self, from: usize, to: usize, notification: Notification) {
        let life = self.servers[from].life;
        let side = usize::from(from > to);
        if let Some(link) = self.network.elections.get(&pair(from, to))
            && link.lives[side] == life
        {
            let generation = link.generation;
            let delay_us = self.network_delay_us();
            let now_us = self.now_us;
            if let Some(link) = self.network.elections.get_mut(&pair(from, to)) {
                let at_us = (now_us + delay_us).max(link.arrive_us[1 - side]);
                link.arrive_us[1 - side] = at_us;
                self.schedule(at_us, Event::Vote { from, to, generation, notification: Box::new(notification) });
            }
            return;
        }
        self.network.waiting.insert((from, to), notification);
        if self.network.dialing.insert((from, to)) {
            let at_us = self.now_us + self.network_delay_us();
            self.schedule(at_us, Event::ElectionDialed { from, life, to });
        }
    }

    pub(crate) fn election_dialed(&mut self, from: usize, life: u32, to: usize) {
        if self.servers[from].life != life {
            return;
        }
        let silent = !self.servers[to].powered
            || self.servers[to].frozen
            || self.network.is_blocked(from, to)
            || self.network.is_blocked(to, from);
        if silent {
            let at_us = self.now_us + CONNECT_TIMEOUT_US;
            self.schedule(at_us, Event::ElectionRefused { from, life, to });
        } else if self.servers[to].process.is_none() {
            self.election_refused(from, life, to);
        } else {
            self.network.dialing.remove(&(from, to));
            self.network.next += 1;
            let generation = self.network.next;
            let (low, high) = pair(from, to);
            let lives = [self.servers[low].life, self.servers[high].life];
            let now_us = self.now_us;
            let link = ElectionLink { generation, lives, arrive_us: [now_us; 2], held: Default::default() };
            self.network.elections.insert((low, high), link);
            self.feed(from, Input::ElectionLinkUp { server: self.servers[to].id });
            self.feed(to, Input::ElectionLinkUp { server: self.servers[from].id });
            if let Some(notification) = self.network.waiting.remove(&(from, to)) {
                self.notify(from, to, notification);
            }
        }
    }

    pub(crate) fn election_refused(&mut self, from: usize, life: u32, to: usize) {
        if self.servers[from].life != life {
            return;
        }
        self.network.dialing.remove(&(from, to));
        self.network.waiting.remove(&(from, to));
        self.feed(from, Input::ElectionLinkDown { server: self.servers[to].id });
    }

    pub(crate) fn vote_arrives(&mut self, from: usize, to: usize, generation: u64, notification: Notification) {
        let blocked = self.network.is_blocked(from, to) || self.servers[to].frozen;
        let receiver_life = self.servers[to].life;
        let side = usize::from(to > from);
        let Some(link) = self.network.elections.get_mut(&pair(from, to)) else { return };
        if link.generation != generation {
            return;
        }
        if blocked || !link.held[side].is_empty() {
            link.held[side].push_back(notification);
            return;
        }
        if self.servers[to].process.is_none() || link.lives[side] != receiver_life {
            if self.servers[to].powered {
                let life = self.servers[from].life;
                let at_us = self.now_us + self.network_delay_us();
                self.schedule(at_us, Event::ElectionReset { server: from, life, peer: to, generation });
            }
            return;
        }
        if notification.leader == self.servers[to].id {
            self.servers[to].promises.hears_vote(notification.election_epoch, notification.zxid);
        }
        self.feed(to, Input::Notified { from: self.servers[from].id, notification });
    }

    /// One side hears that the other is gone.
    pub(crate) fn election_reset(&mut self, server: usize, life: u32, peer: usize, generation: u64) {
        let current = self.network.elections.get(&pair(server, peer)).is_some_and(|link| link.generation == generation);
        if !current || self.network.is_blocked(peer, server) {
            return;
        }
        self.network.elections.remove(&pair(server, peer));
        if self.servers[server].life == life {
            self.feed(server, Input::ElectionLinkDown { server: self.servers[peer].id });
        }
    }

    // --- quorum links ---

    pub(crate) fn dial(&mut self, server: usize, link: LinkId, target: usize) {
        let at_us = self.now_us + self.network_delay_us();
        let end = End { server, life: self.servers[server].life, link };
        self.schedule(at_us, Event::Dialed { end, target });
    }

    pub(crate) fn dialed(&mut self, end: End, target: usize) {
        if self.servers[end.server].life != end.life || self.network.hung_up.remove(&end) {
            return;
        }
        let refuse = |world: &mut World, after_us: i64, why: &str| {
            let input = Input::LeaderGone { link: end.link, why: why.to_owned() };
            let at_us = world.now_us + after_us;
            world.schedule(at_us, Event::Input { server: end.server, life: end.life, input: Box::new(input) });
        };
        let blocked = self.network.is_blocked(end.server, target) || self.network.is_blocked(target, end.server);
        if blocked || !self.servers[target].powered {
            return refuse(self, CONNECT_TIMEOUT_US, "no answer");
        }
        if self.servers[target].process.is_none() {
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
        let input = Input::LearnerConnected { link: other.link, peer };
        self.schedule(now_us, Event::Input { server: target, life: other.life, input: Box::new(input) });
    }

    fn end_of(&self, server: usize, link: LinkId) -> Option<(u64, Side)> {
        self.network.by_end.get(&End { server, life: self.servers[server].life, link }).copied()
    }

    pub(crate) fn send_to_leader(&mut self, server: usize, link: LinkId, bytes: Vec<u8>) {
        if let Some((number, Side::Learner)) = self.end_of(server, link) {
            let bytes = self.tamper_to_leader(server, bytes);
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

    /// Sends what waits, up to the next stream.
    fn advance(&mut self, number: u64) {
        loop {
            let Some(link) = self.network.links.get_mut(&number) else { return };
            if link.stream.is_some() {
                // Whoever ends the connection does not wait for a stream.
                if !matches!(link.outgoing.back(), Some(Item::End(_))) {
                    return;
                }
                link.stream = None;
                while link.outgoing.len() > 1 {
                    link.outgoing.pop_front();
                }
            }
            let leader = link.ends[1].server;
            let ends = (link.ends[0].server, leader);
            let Some(item) = link.outgoing.pop_front() else { return };
            let item = self.tamper_to_learner(number, item, ends);
            let Some(link) = self.network.links.get_mut(&number) else { return };
            match item {
                Item::Bytes(bytes) => {
                    self.sabotage_acks(number, &bytes);
                    self.transmit(number, Side::Learner, Payload::Packets(bytes.to_vec()));
                }
                Item::Log { after, before } => {
                    link.stream = Some(Stream::Log { after, before });
                    self.next_step(number);
                }
                Item::Snapshot => {
                    let Some(process) = &self.servers[leader].process else { return };
                    let large = self.plan.habits.large_values;
                    let portion_bytes = if large { LARGE_PORTION_BYTES } else { SNAPSHOT_PORTION_BYTES };
                    let sender = SnapshotSender::begin(&process.shared.tree(), portion_bytes);
                    let zxid = sender.zxid();
                    let mut packets = Vec::new();
                    QuorumPacket::Snap { zxid }.append(&mut packets);
                    link.stream = Some(Stream::Snapshot(Box::new(sender)));
                    self.figures.snapshots_sent += 1;
                    self.transmit(number, Side::Learner, Payload::Snap(packets, zxid));
                    self.next_step(number);
                }
                Item::End(why) => return self.close(number, Side::Leader, why),
            }
        }
    }

    fn next_step(&mut self, number: u64) {
        let at_us = self.now_us + self.random.skewed(50, 20 * MS);
        self.schedule(at_us, Event::StreamStep { number });
    }

    /// The process at whose end a stream runs.
    pub(crate) fn streamer(&self, number: u64) -> Option<usize> {
        Some(self.network.links.get(&number)?.ends[1].server)
    }

    pub(crate) fn stream_step(&mut self, number: u64) {
        let Some(link) = self.network.links.get_mut(&number) else { return };
        let end = link.ends[1];
        if !link.alive[1] || self.servers[end.server].life != end.life {
            return;
        }
        let Some(process) = &self.servers[end.server].process else { return };
        let mut portion = Vec::new();
        let (payload, more) = match &mut link.stream {
            None => return,
            Some(Stream::Snapshot(sender)) => {
                let more = sender.next_portion(&process.shared.tree(), &mut portion);
                match more {
                    Ok(more) => (Payload::Portion(portion), more),
                    Err(replaced) => return self.break_off(number, end, replaced.to_string()),
                }
            }
            Some(Stream::Log { after, before }) => {
                let mut read = || {
                    let disk = &self.servers[end.server].disk;
                    let mut records = CatchUp::open(disk, &self.servers[end.server].directories, *after, *before)?;
                    for _ in 0..RECORDS_A_PORTION {
                        let Some((zxid, record)) = records.next_record()? else { return Ok(false) };
                        QuorumPacket::Proposal { zxid, record }.append(&mut portion);
                        QuorumPacket::Commit { zxid }.append(&mut portion);
                        *after = zxid;
                    }
                    Ok::<bool, rookeeper_store::StoreError>(true)
                };
                match read() {
                    Ok(more) => (Payload::Packets(portion), more),
                    Err(error) => {
                        return self.break_off(number, end, format!("the log can't be streamed: {error}"));
                    }
                }
            }
        };
        if !matches!(&payload, Payload::Packets(packets) if packets.is_empty()) {
            self.transmit(number, Side::Learner, payload);
        }
        if more {
            self.next_step(number);
        } else {
            if let Some(link) = self.network.links.get_mut(&number) {
                link.stream = None;
            }
            self.advance(number);
        }
    }

    /// A stream can't go on.
    fn break_off(&mut self, number: u64, end: End, why: String) {
        self.note(6, number, 0, || format!("server {}: {why}", end.server + 1));
        self.feed(end.server, Input::LearnerGone { link: end.link, why: why.clone() });
        self.close(number, Side::Leader, why);
    }

    /// One side ends the connection; the other hears of it behind everything that is on its way.
    pub(crate) fn hang_up(&mut self, server: usize, link: LinkId) {
        match self.end_of(server, link) {
            Some((number, side)) => self.close(number, side, "the other side closed".to_owned()),
            None => {
                self.network.hung_up.insert(End { server, life: self.servers[server].life, link });
            }
        }
    }

    fn close(&mut self, number: u64, by: Side, why: String) {
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
        if blocked || !link.held[towards as usize].is_empty() {
            link.held[towards as usize].push_back(payload);
            return;
        }
        self.deliver(number, towards, payload);
    }

    /// What was held back arrives, and behind it what came meanwhile.
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
                self.transmit(number, towards.other(), Payload::Close("connection reset".to_owned()));
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
                link.receiver = Some(Box::new(SnapshotReceiver::new(zxid, 0)));
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

    // --- faults ---

    /// What a partition or a frozen receiver held back goes on its way.
    pub(crate) fn flush_held(&mut self) {
        let numbers: Vec<u64> = self.network.links.keys().copied().collect();
        for number in numbers {
            for towards in [Side::Learner, Side::Leader] {
                let Some(link) = self.network.links.get_mut(&number) else { continue };
                let (from, to) = (link.ends[towards.other() as usize].server, link.ends[towards as usize].server);
                if self.servers[to].frozen || self.network.blocked.get(&(from, to)).is_some_and(|count| *count > 0) {
                    continue;
                }
                if !link.held[towards as usize].is_empty() {
                    let at_us = self.now_us + self.network_delay_us();
                    self.schedule(at_us, Event::Release { number, towards });
                }
            }
        }
        let pairs: Vec<(usize, usize)> = self.network.elections.keys().copied().collect();
        for (low, high) in pairs {
            for (from, to) in [(low, high), (high, low)] {
                let side = usize::from(to > from);
                if self.network.is_blocked(from, to) || self.servers[to].frozen {
                    continue;
                }
                let Some(link) = self.network.elections.get_mut(&(low, high)) else { continue };
                let (generation, held) = (link.generation, std::mem::take(&mut link.held[side]));
                for notification in held {
                    let delay_us = self.network_delay_us();
                    let now_us = self.now_us;
                    let Some(link) = self.network.elections.get_mut(&(low, high)) else { continue };
                    let at_us = (now_us + delay_us).max(link.arrive_us[side]);
                    link.arrive_us[side] = at_us;
                    self.schedule(at_us, Event::Vote { from, to, generation, notification: Box::new(notification) });
                }
            }
        }
    }

    /// All connections of a server break; both sides notice.
    pub(crate) fn cut_links(&mut self, server: usize) {
        let numbers: Vec<u64> = self.network.links.keys().copied().collect();
        for number in numbers {
            let Some(link) = self.network.links.get(&number) else { continue };
            if link.ends.iter().all(|end| end.server != server) {
                continue;
            }
            for side in [Side::Learner, Side::Leader] {
                self.transmit(number, side, Payload::Close("connection reset".to_owned()));
            }
        }
        self.reset_elections(server);
    }

    fn reset_elections(&mut self, server: usize) {
        let pairs: Vec<(usize, usize)> = self.network.elections.keys().copied().collect();
        for (low, high) in pairs.into_iter().filter(|(low, high)| *low == server || *high == server) {
            let Some(link) = self.network.elections.get(&(low, high)) else { continue };
            let generation = link.generation;
            for (side, peer) in [(low, high), (high, low)] {
                let life = self.servers[side].life;
                let at_us = self.now_us + self.network_delay_us();
                self.schedule(at_us, Event::ElectionReset { server: side, life, peer, generation });
            }
        }
    }

    /// The process is gone. Its peers hear of it unless the whole host is.
    pub(crate) fn process_gone(&mut self, server: usize, told: bool) {
        let numbers: Vec<u64> = self.network.links.keys().copied().collect();
        for number in numbers {
            for side in [Side::Learner, Side::Leader] {
                let Some(link) = self.network.links.get_mut(&number) else { continue };
                if link.ends[side as usize].server != server || !link.alive[side as usize] {
                    continue;
                }
                if told {
                    self.close(number, side, "connection reset".to_owned());
                } else {
                    link.alive[side as usize] = false;
                    link.stream = None;
                    link.outgoing.clear();
                    let end = link.ends[side as usize];
                    self.network.by_end.remove(&end);
                }
            }
        }
        self.network.links.retain(|_, link| link.alive[0] || link.alive[1]);
        self.network.waiting.retain(|(from, _), _| *from != server);
        // Also those whose outcome was on its way to a frozen process, which never hears of it.
        self.network.dialing.retain(|(from, _)| *from != server);
        if told {
            self.reset_elections(server);
        }
    }

    /// A planted bug: a learner seems to have what it was only just sent; or only one that joins, the change with which it does.
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
