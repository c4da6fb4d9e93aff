//! Servers, the links between them, and virtual time. Same seed, same story.
//!
//! Around the election stands the least that gives its result a meaning: a leader that gets a quorum of followers in time has the next
//! epoch, one that does not looks again, and so does a follower that is not let in or loses its leader.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use rookeeper_proto::election::{Notification, PeerState};
use rookeeper_proto::{Epoch, MonotonicMs, ServerId, Zxid};
use rookeeper_zab::Memberships;
use rookeeper_zab::election::{Candidacy, Election, ElectionOutput, ElectionSettings};

use super::original::Original;

const CONNECT_PAUSE_MS: i64 = 100;
const CONNECTS: u32 = 5;
const HELD_MS: u32 = 1000;
/// initLimit of the leaders.
const LEADER_PATIENCE_MS: i64 = 2000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ours,
    Original,
}

#[derive(Debug)]
enum Server {
    Ours(Box<Election>),
    Original(Box<Original>),
}

#[derive(Debug)]
struct Node {
    kind: Kind,
    server: Server,
    alive: bool,
    /// Neither hears nor acts, but its links stand.
    frozen: bool,
    candidacy: Candidacy,
    /// Grows with every search and death: what was planned for another life does not happen.
    life: u64,
    /// A leader's followers, or the leader of a follower that was let in.
    followers: BTreeSet<ServerId>,
    joined: Option<ServerId>,
    established: bool,
    /// What waits for a connection, per receiver.
    unsent: BTreeMap<ServerId, Notification>,
    /// What an original sends again on a new connection.
    last_sent: BTreeMap<ServerId, Notification>,
}

#[derive(Debug, Default)]
struct Link {
    /// 0: none.
    id: u64,
    dialing: bool,
    /// Nothing passes, and nobody is told.
    cut: bool,
    last_arrival_ms: BTreeMap<ServerId, MonotonicMs>,
}

#[derive(Debug)]
enum Event {
    Arrive { from: ServerId, to: ServerId, link: u64, notification: Notification },
    Dialed { from: ServerId, to: ServerId },
    LinkDown { server: ServerId, other: ServerId },
    Connect { server: ServerId, leader: ServerId, attempt: u32, life: u64 },
    LeaderPatience { server: ServerId, life: u64 },
    Look { server: ServerId, life: u64 },
}

#[derive(Debug)]
pub struct Network {
    pub now_ms: MonotonicMs,
    memberships: Arc<Memberships>,
    nodes: BTreeMap<ServerId, Node>,
    links: BTreeMap<(ServerId, ServerId), Link>,
    events: BTreeMap<(MonotonicMs, u64), Event>,
    sequence: u64,
    random: u64,
    delay_ms: (i64, i64),
    /// Messages that end their link, of 1000.
    loss: u64,
    pub transcript: String,
    pub messages: u64,
}

fn pair(a: ServerId, b: ServerId) -> (ServerId, ServerId) {
    (a.min(b), a.max(b))
}

impl Network {
    pub fn new(memberships: Memberships, seed: u64, delay_ms: (i64, i64), loss: u64) -> Network {
        Network {
            now_ms: MonotonicMs(0),
            memberships: Arc::new(memberships),
            nodes: BTreeMap::new(),
            links: BTreeMap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            delay_ms,
            loss,
            transcript: String::new(),
            messages: 0,
        }
    }

    /// Up to `limit`, which it never reaches.
    pub fn random(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % limit.max(1)
    }

    fn delay(&mut self) -> i64 {
        let (least, most) = self.delay_ms;
        least + self.random((most - least + 1) as u64) as i64
    }

    fn plan(&mut self, at_ms: MonotonicMs, event: Event) {
        self.sequence += 1;
        self.events.insert((at_ms, self.sequence), event);
    }

    fn note(&mut self, text: &str) {
        writeln!(self.transcript, "{:>5}  {text}", self.now_ms).unwrap();
    }

    /// A process starts, with nothing but its disk.
    pub fn start(&mut self, server: i64, kind: Kind, candidacy: Candidacy) {
        let me = ServerId(server);
        let life = self.nodes.get(&me).map_or(0, |node| node.life) + 1;
        let machine = match kind {
            Kind::Ours => {
                let settings = ElectionSettings { me, notification_interval_ms: (200, 60_000), finalize_wait_ms: 200 };
                Server::Ours(Box::new(Election::new(settings, self.memberships.clone(), candidacy)))
            }
            Kind::Original => Server::Original(Box::new(Original::new(me, self.memberships.clone(), candidacy))),
        };
        let node = Node {
            kind,
            server: machine,
            alive: true,
            frozen: false,
            candidacy,
            life,
            followers: BTreeSet::new(),
            joined: None,
            established: false,
            unsent: BTreeMap::new(),
            last_sent: BTreeMap::new(),
        };
        self.nodes.insert(me, node);
        self.note(&format!("{server} starts"));
        self.look(me);
    }

    pub fn restart(&mut self, server: i64) {
        let node = &self.nodes[&ServerId(server)];
        self.start(server, node.kind, node.candidacy);
    }

    /// The process ends; its links are closed.
    pub fn kill(&mut self, server: i64) {
        let me = ServerId(server);
        self.note(&format!("{server} dies"));
        let node = self.nodes.get_mut(&me).unwrap();
        node.alive = false;
        node.life += 1;
        self.drop_links(me);
        self.leave(me);
    }

    pub fn freeze(&mut self, server: i64) {
        self.note(&format!("{server} freezes"));
        self.nodes.get_mut(&ServerId(server)).unwrap().frozen = true;
    }

    /// The leader's followers notice that they hear nothing from it.
    pub fn lose_leader(&mut self, leader: i64) {
        self.leave(ServerId(leader));
    }

    /// What the original will send first on its next connection.
    pub fn keep(&mut self, from: i64, to: i64, notification: Notification) {
        self.nodes.get_mut(&ServerId(from)).unwrap().last_sent.insert(ServerId(to), notification);
    }

    fn drop_links(&mut self, server: ServerId) {
        let pairs: Vec<_> = self.links.keys().copied().filter(|(a, b)| *a == server || *b == server).collect();
        for (a, b) in pairs {
            self.drop_link(a, b);
        }
    }

    pub fn drop_link(&mut self, a: ServerId, b: ServerId) {
        let link = self.links.entry(pair(a, b)).or_default();
        let id = std::mem::take(&mut link.id);
        if id != 0 {
            for (server, other) in [(a, b), (b, a)] {
                let at_ms = self.now_ms + self.delay();
                self.plan(at_ms, Event::LinkDown { server, other });
            }
        }
    }

    /// From now on nothing passes between the two, or it does again.
    pub fn cut(&mut self, a: ServerId, b: ServerId, cut: bool) {
        self.links.entry(pair(a, b)).or_default().cut = cut;
        if !cut {
            // What stood before is found to be broken.
            self.drop_link(a, b);
        }
    }

    pub fn heal(&mut self) {
        let cut: Vec<_> = self.links.iter().filter(|(_, link)| link.cut).map(|(pair, _)| *pair).collect();
        for (a, b) in cut {
            self.cut(a, b, false);
        }
        self.loss = 0;
    }

    /// Everything that hangs on this server as leader, or it on one, falls apart.
    fn leave(&mut self, server: ServerId) {
        let node = self.nodes.get_mut(&server).unwrap();
        node.established = false;
        let leader = node.joined.take();
        let followers = std::mem::take(&mut node.followers);
        if let Some(leader) = leader {
            let followers = &mut self.nodes.get_mut(&leader).unwrap().followers;
            followers.remove(&server);
            let mut rest = followers.clone();
            rest.insert(leader);
            if !self.memberships.is_reached_by(&rest) && self.nodes[&leader].established {
                self.look_later(leader);
            }
        }
        for follower in followers {
            self.nodes.get_mut(&follower).unwrap().joined = None;
            self.look_later(follower);
        }
    }

    fn look_later(&mut self, server: ServerId) {
        let at_ms = self.now_ms + self.delay();
        let node = self.nodes.get_mut(&server).unwrap();
        node.life += 1;
        let life = node.life;
        self.plan(at_ms, Event::Look { server, life });
    }

    fn look(&mut self, server: ServerId) {
        self.leave(server);
        let now_ms = self.now_ms;
        let node = self.nodes.get_mut(&server).unwrap();
        node.life += 1;
        let candidacy = node.candidacy;
        match &mut node.server {
            Server::Ours(election) => election.look(now_ms, candidacy),
            Server::Original(original) => original.look(now_ms, candidacy),
        }
        self.drain(server);
    }

    /// Carries out what a server wants.
    fn drain(&mut self, server: ServerId) {
        loop {
            let node = self.nodes.get_mut(&server).unwrap();
            let output = match &mut node.server {
                Server::Ours(election) => election.poll(),
                Server::Original(original) => {
                    let send = original.sends.pop_front();
                    send.map(|(to, notification)| ElectionOutput::Send { to, notification })
                        .or_else(|| original.elected.take()?.leader.map(ElectionOutput::Elected))
                }
            };
            match output {
                None => return,
                Some(ElectionOutput::Send { to, notification }) => self.send(server, to, notification),
                Some(ElectionOutput::Elected(leader)) => self.elected(server, leader),
                Some(ElectionOutput::NewerMembership(_)) => panic!("nobody has a newer membership"),
            }
        }
    }

    fn send(&mut self, from: ServerId, to: ServerId, notification: Notification) {
        let link = self.links.entry(pair(from, to)).or_default();
        if link.id != 0 {
            return self.transmit(from, to, notification);
        }
        let dial = !std::mem::replace(&mut link.dialing, true);
        self.nodes.get_mut(&from).unwrap().unsent.insert(to, notification);
        if dial {
            let at_ms = self.now_ms + self.delay();
            self.plan(at_ms, Event::Dialed { from, to });
        }
    }

    fn transmit(&mut self, from: ServerId, to: ServerId, notification: Notification) {
        self.messages += 1;
        let delay = self.delay();
        let lost = self.random(1000) < self.loss;
        let now_ms = self.now_ms;
        self.nodes.get_mut(&from).unwrap().last_sent.insert(to, notification.clone());
        if lost {
            return self.drop_link(from, to);
        }
        let link = self.links.get_mut(&pair(from, to)).unwrap();
        if link.cut {
            return;
        }
        let last = link.last_arrival_ms.entry(to).or_default();
        *last = (*last).max(now_ms + delay);
        let (at_ms, link) = (*last, link.id);
        self.plan(at_ms, Event::Arrive { from, to, link, notification });
    }

    fn dialed(&mut self, from: ServerId, to: ServerId) {
        let reachable = [from, to].iter().all(|server| self.nodes.get(server).is_some_and(|node| node.alive));
        let cut = {
            let link = self.links.get_mut(&pair(from, to)).unwrap();
            link.dialing = false;
            link.cut
        };
        if cut {
            return;
        }
        if !reachable || self.links[&pair(from, to)].id != 0 {
            if !reachable && self.nodes[&from].alive {
                self.on_link_down(from, to);
            }
            return;
        }
        self.sequence += 1;
        self.links.get_mut(&pair(from, to)).unwrap().id = self.sequence;
        for (server, other) in [(from, to), (to, from)] {
            let node = self.nodes.get_mut(&server).unwrap();
            let waiting = node.unsent.remove(&other);
            let kept = node.last_sent.get(&other).filter(|_| node.kind == Kind::Original).cloned();
            if let Some(notification) = waiting.or(kept) {
                self.transmit(server, other, notification);
            }
        }
        for (server, other) in [(from, to), (to, from)] {
            let now_ms = self.now_ms;
            if let Server::Ours(election) = &mut self.nodes.get_mut(&server).unwrap().server {
                election.link_up(now_ms, other);
            }
            self.drain(server);
        }
    }

    fn on_link_down(&mut self, server: ServerId, other: ServerId) {
        let now_ms = self.now_ms;
        if let Some(Node { alive: true, server: Server::Ours(election), .. }) = self.nodes.get_mut(&server) {
            election.link_down(now_ms, other);
            self.drain(server);
        }
    }

    fn elected(&mut self, server: ServerId, leader: ServerId) {
        let node = self.nodes.get_mut(&server).unwrap();
        node.life += 1;
        let life = node.life;
        let round = match &node.server {
            Server::Ours(election) => election.vote().election_epoch,
            Server::Original(original) => original.current.election_epoch,
        };
        let how = if leader == server { "leads".to_owned() } else { format!("chooses {leader}") };
        self.note(&format!("{server} {how}, round {round}"));
        if leader == server {
            self.plan(self.now_ms + LEADER_PATIENCE_MS, Event::LeaderPatience { server, life });
            self.establish(server);
        } else {
            let at_ms = self.now_ms + self.delay();
            self.plan(at_ms, Event::Connect { server, leader, attempt: 1, life });
        }
    }

    fn connect(&mut self, server: ServerId, leader: ServerId, attempt: u32, life: u64) {
        if self.nodes[&server].life != life || !self.nodes[&server].alive {
            return;
        }
        let cut = self.links.get(&pair(server, leader)).is_some_and(|link| link.cut);
        let there = self.nodes.get(&leader).is_some_and(|node| node.alive && !node.frozen) && !cut;
        if there && self.state(leader) == PeerState::Leading {
            self.nodes.get_mut(&leader).unwrap().followers.insert(server);
            self.nodes.get_mut(&server).unwrap().joined = Some(leader);
            return self.establish(leader);
        }
        let held = there && self.nodes[&leader].kind == Kind::Ours && self.state(leader) == PeerState::Looking;
        if held && attempt < HELD_MS {
            // Our quorum port is open at any time; whoever comes early waits for the result.
            self.plan(self.now_ms + 1, Event::Connect { server, leader, attempt: attempt + 1, life });
            return;
        }
        let node = self.nodes.get_mut(&server).unwrap();
        if attempt < CONNECTS {
            if let Server::Ours(election) = &node.server {
                let elsewhere = election.led_elsewhere().is_some();
                if elsewhere || election.leader_says_so() {
                    return self.give_up(server, leader);
                }
            }
            let at_ms = self.now_ms + CONNECT_PAUSE_MS;
            self.plan(at_ms, Event::Connect { server, leader, attempt: attempt + 1, life });
        } else {
            self.give_up(server, leader);
        }
    }

    fn give_up(&mut self, server: ServerId, leader: ServerId) {
        self.note(&format!("{server} is refused by {leader}"));
        if let Server::Ours(election) = &mut self.nodes.get_mut(&server).unwrap().server {
            election.refused(leader);
        }
        self.look(server);
    }

    /// A leader with a quorum of followers begins its epoch, and those who come later join it.
    fn establish(&mut self, leader: ServerId) {
        let node = &self.nodes[&leader];
        let mut servers = node.followers.clone();
        servers.insert(leader);
        if !self.memberships.is_reached_by(&servers) {
            return;
        }
        let newest = servers.iter().map(|server| self.nodes[server].candidacy.epoch).max().unwrap();
        let epoch = if node.established { node.candidacy.epoch } else { newest.next() };
        let zxid = node.candidacy.zxid;
        self.nodes.get_mut(&leader).unwrap().established = true;
        for server in servers {
            let node = self.nodes.get_mut(&server).unwrap();
            node.candidacy = Candidacy { zxid, epoch };
            match &mut node.server {
                Server::Ours(election) => election.established(epoch),
                Server::Original(original) => original.current.peer_epoch = Some(epoch),
            }
        }
    }

    pub fn state(&self, server: ServerId) -> PeerState {
        match &self.nodes[&server].server {
            Server::Ours(election) => election.state(),
            Server::Original(original) => original.state,
        }
    }

    /// The next thing happens, if any is due until then.
    fn step(&mut self, until_ms: MonotonicMs) -> bool {
        let timers = self.nodes.iter().filter(|(_, node)| node.alive && !node.frozen).filter_map(|(server, node)| {
            let deadline_ms = match &node.server {
                Server::Ours(election) => election.deadline_ms(),
                Server::Original(original) => original.deadline_ms(),
            };
            deadline_ms.map(|at_ms| (at_ms, *server))
        });
        let timer = timers.min();
        let event = self.events.first_key_value().map(|(key, _)| *key);
        match (timer, event) {
            (Some((at_ms, server)), event) if event.is_none_or(|(event_ms, _)| at_ms < event_ms) => {
                if at_ms > until_ms {
                    return false;
                }
                self.now_ms = self.now_ms.max(at_ms);
                let now_ms = self.now_ms;
                match &mut self.nodes.get_mut(&server).unwrap().server {
                    Server::Ours(election) => election.tick(now_ms),
                    Server::Original(original) => original.tick(now_ms),
                }
                self.drain(server);
            }
            (_, Some(key)) if key.0 <= until_ms => {
                self.now_ms = self.now_ms.max(key.0);
                let event = self.events.remove(&key).unwrap();
                self.happen(event);
            }
            _ => return false,
        }
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive { from, to, link, notification } => {
                let node = &self.nodes[&to];
                let Link { id, cut, .. } = self.links[&pair(from, to)];
                if id == link && !cut && node.alive && !node.frozen {
                    self.note(&format!("{from} > {to}  {}", show(&notification)));
                    let now_ms = self.now_ms;
                    match &mut self.nodes.get_mut(&to).unwrap().server {
                        Server::Ours(election) => election.receive(now_ms, from, notification),
                        Server::Original(original) => original.receive(now_ms, from, &notification),
                    }
                    self.drain(to);
                }
            }
            Event::Dialed { from, to } => self.dialed(from, to),
            Event::LinkDown { server, other } => {
                // There may be a newer one.
                if self.links[&pair(server, other)].id == 0 {
                    self.on_link_down(server, other);
                }
            }
            Event::Connect { server, leader, attempt, life } => self.connect(server, leader, attempt, life),
            Event::LeaderPatience { server, life } => {
                let node = &self.nodes[&server];
                if node.life == life && node.alive && !node.established {
                    self.note(&format!("{server} waited for a quorum in vain"));
                    self.look(server);
                }
            }
            Event::Look { server, life } => {
                let node = &self.nodes[&server];
                if node.life == life && node.alive && !node.frozen {
                    self.note(&format!("{server} looks"));
                    self.look(server);
                }
            }
        }
    }

    pub fn run_until(&mut self, until_ms: MonotonicMs) {
        while self.step(until_ms) {}
        self.now_ms = until_ms;
    }

    /// Runs until everybody alive serves under one established leader, and says who leads.
    pub fn run_until_led(&mut self, until_ms: MonotonicMs) -> Option<ServerId> {
        loop {
            if let Some(leader) = self.leader() {
                return Some(leader);
            }
            if !self.step(until_ms) {
                return None;
            }
        }
    }

    fn leader(&self) -> Option<ServerId> {
        let mut alive = self.nodes.iter().filter(|(_, node)| node.alive && !node.frozen);
        let (leader, _) = alive.clone().find(|(_, node)| node.established && !node.followers.is_empty())?;
        let all = alive.all(|(server, node)| {
            server == leader && self.state(*server) == PeerState::Leading || node.joined == Some(*leader)
        });
        all.then_some(*leader)
    }
}

pub fn show(notification: &Notification) -> String {
    let Notification { state, leader, zxid, election_epoch, peer_epoch, config: _ } = notification;
    let state = match state {
        PeerState::Looking => "looking, for",
        PeerState::Following => "following",
        PeerState::Leading => "leading",
        PeerState::Observing => "observing",
    };
    if leader.is_none() && zxid.is_none() && peer_epoch.is_none() {
        return format!("{state} nobody, round {election_epoch}");
    }
    let leader = leader.map_or("nobody".to_owned(), |leader| leader.to_string());
    format!("{state} {leader} at {}, round {election_epoch}, epoch {}", place(*zxid), number(*peer_epoch))
}

/// A zxid of a vote, as the scripts write it.
pub fn place(zxid: Option<Zxid>) -> String {
    zxid.map_or("-1".to_owned(), |zxid| zxid.to_string())
}

/// The epoch of a vote, as the scripts write it.
pub fn number(epoch: Option<Epoch>) -> String {
    epoch.map_or("-1".to_owned(), |epoch| epoch.to_string())
}
