//! An ensemble of replicas with a network that loses nothing and a disk that answers at once, and its clients. A test may hold back what is
//! on its way, and let it go later.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::sync::Arc;

use rookeeper_proto::acl::AclRequest;
use rookeeper_proto::connect::{ConnectRequest, ConnectResponse};
use rookeeper_proto::frame::{self, ReplyHeader};
use rookeeper_proto::jute::{self, ByteBuf};
use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_proto::request::{CreateRequest, ReconfigRequest, SetDataRequest, WriteRequest};
use rookeeper_proto::{Epoch, MonotonicMs, OpCode, Permissions, ServerId, SessionId, TxnRecord, WallMs, Zxid};
use rookeeper_replica::{
    Connection, Deadline, EnsembleSettings, Epochs, Input, Output, ReadFrame, Replica, Serving, Settings, Shared,
    Store, Stored, Time,
};
use rookeeper_tree::access::AccessConfig;
use rookeeper_tree::builder::TreeBuilder;
use rookeeper_tree::{Tree, WatcherId};
use rookeeper_zab::link::MAX_PACKET_BYTES;
use rookeeper_zab::{LinkEnd, LinkId, LinkOutput, Membership, Memberships, Record, SyncPlan};

const TICK_MS: i64 = 1000;

/// Says whether an input is of this kind.
pub type Kind = fn(&Input) -> bool;

pub struct Node {
    pub shared: Arc<Shared>,
    pub replica: Replica,
    alive: bool,
    pub disk: Disk,
    /// What it told the audit log.
    pub audit: Vec<String>,
    /// What it said of itself.
    pub log: Vec<String>,
    /// Whom it told of commits, in this order.
    pub told: Vec<Told>,
    /// What it answered pings with: the zxid, and how many sessions it had heard of.
    pub pongs: Vec<(Zxid, usize)>,
    /// Whether its port for observers is open.
    pub feeds: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Learner,
    Client,
}

/// What a restart finds, besides the tree of what was applied.
#[derive(Clone)]
pub struct Disk {
    epochs: Epochs,
    pub memberships: Memberships,
    /// There is nothing older on it than the end of its history.
    pub leads_nowhere_back: bool,
    /// The files of the configuration can't be written.
    pub refuses_memberships: bool,
    pub appended: Vec<Record>,
}

/// The two ends of a connection to a quorum port.
#[derive(Clone, Copy, PartialEq)]
struct Wire {
    learner: usize,
    learner_link: LinkId,
    leader: usize,
    leader_link: LinkId,
}

pub struct World {
    pub nodes: Vec<Node>,
    now_ms: MonotonicMs,
    queue: VecDeque<(usize, Input)>,
    /// What of the inputs on their way to a server has to wait.
    holds: Vec<(usize, Kind)>,
    held: VecDeque<(usize, Input)>,
    wires: Vec<Wire>,
    next_link: u64,
    next_connection: u64,
    /// No quorum port can be reached.
    pub is_parted: bool,
    eager: bool,
    settings: EnsembleSettings,
}

pub struct Client {
    node: usize,
    pub connection: Arc<Connection>,
    pub session: SessionId,
    next_xid: i32,
    received: Vec<u8>,
    refusal: Vec<u8>,
}

pub fn membership(servers: i64, observers: &[i64]) -> Membership {
    let line = |id: i64| {
        let role = if observers.contains(&id) { "observer" } else { "participant" };
        format!("server.{id}=127.0.0.{id}:2888:3888:{role};127.0.0.{id}:2181\n")
    };
    Membership::parse_text((1..=servers).map(line).collect::<String>(), false).unwrap()
}

pub fn settings(membership: Membership) -> EnsembleSettings {
    let memberships = Memberships::settled(membership);
    EnsembleSettings { observer_election_delay_ms: 0, ..EnsembleSettings::new(ServerId(0), memberships) }
}

impl World {
    pub fn new(servers: i64, observers: &[i64]) -> World {
        World::with(settings(membership(servers, observers)))
    }

    pub fn with(settings: EnsembleSettings) -> World {
        World::with_access(settings, false)
    }

    /// `eager`: lists count, and each server checks them for its own clients.
    pub fn with_access(settings: EnsembleSettings, eager: bool) -> World {
        let servers = settings.memberships.committed.members.len();
        let mut world = World {
            nodes: Vec::new(),
            now_ms: MonotonicMs(0),
            queue: VecDeque::new(),
            holds: Vec::new(),
            held: VecDeque::new(),
            wires: Vec::new(),
            next_link: 1_000_000,
            next_connection: 1,
            is_parted: false,
            eager,
            settings,
        };
        for node in 0..servers {
            let epochs = Epochs { accepted: Epoch::ZERO, current: Epoch::ZERO };
            let disk = Disk {
                epochs,
                memberships: world.settings.memberships.clone(),
                leads_nowhere_back: false,
                refuses_memberships: false,
                appended: Vec::new(),
            };
            let started = world.start(node, Tree::new(), disk);
            world.nodes.push(started);
        }
        for node in 0..servers {
            world.link_up(node);
            world.drain(node);
        }
        world.settle();
        world
    }

    fn start(&self, node: usize, tree: Tree, disk: Disk) -> Node {
        let me = ServerId(node as i64 + 1);
        let access = AccessConfig { skip_acl: !self.eager, ..AccessConfig::default() };
        let settings = Settings {
            server: me,
            tick_time_ms: TICK_MS,
            min_session_timeout_ms: 2000,
            reconfig: true,
            audits: true,
            eager_acl_check: self.eager,
            access,
            ..Settings::default()
        };
        let shared = Arc::new(Shared::new(settings, tree, WallMs(1_000_000)));
        let settings = EnsembleSettings { me, memberships: disk.memberships.clone(), ..self.settings.clone() };
        let replica = Replica::member(shared.clone(), settings, disk.epochs, self.now());
        Node {
            shared,
            replica,
            alive: true,
            disk,
            audit: Vec::new(),
            log: Vec::new(),
            told: Vec::new(),
            pongs: Vec::new(),
            feeds: false,
        }
    }

    fn link_up(&mut self, node: usize) {
        for other in 0..self.nodes.len() {
            if other != node && self.nodes[other].alive && self.nodes[node].alive {
                self.queue.push_back((node, Input::ElectionLinkUp { server: ServerId(other as i64 + 1) }));
                self.queue.push_back((other, Input::ElectionLinkUp { server: ServerId(node as i64 + 1) }));
            }
        }
    }

    pub fn now(&self) -> Time {
        Time::of_ms(self.now_ms, WallMs(1_000_000 + self.now_ms.0))
    }

    /// Carries everything out that can happen without time passing.
    pub fn settle(&mut self) {
        while let Some((node, input)) = self.queue.pop_front() {
            if self.waits(node, &input) {
                self.held.push_back((node, input));
            } else if self.nodes[node].alive {
                let (now, input) = (self.now(), self.as_it_arrives(node, input));
                self.nodes[node].replica.handle(now, input);
                self.drain(node);
            }
        }
    }

    /// The next input now, and everything that comes of it so much later: until then disks and links have it.
    pub fn settle_after_ms(&mut self, delay_ms: i64) {
        let Some((node, input)) = self.queue.pop_front() else { return };
        let now = self.now();
        self.nodes[node].replica.handle(now, input);
        self.now_ms += delay_ms;
        self.drain(node);
        self.settle();
    }

    /// From now on what is on its way to a server and of this kind waits, and with it everything behind it on the same link. Where that
    /// link ends it is lost.
    pub fn hold_back(&mut self, node: usize, kind: Kind) {
        self.holds.push((node, kind));
    }

    /// Holds nothing back any more. What has waited is next.
    pub fn let_go(&mut self) {
        self.holds.clear();
        while let Some(next) = self.held.pop_back() {
            self.queue.push_front(next);
        }
    }

    fn waits(&self, node: usize, input: &Input) -> bool {
        let is_behind = |(held_for, held): &(usize, Input)| *held_for == node && link_of(held) == link_of(input);
        self.holds.iter().any(|(held_for, kind)| *held_for == node && kind(input))
            || (link_of(input).is_some() && self.held.iter().any(is_behind))
    }

    /// A snapshot is read while its tree changes: at its end it shows what has been applied since it began.
    fn as_it_arrives(&self, node: usize, mut input: Input) -> Input {
        if let Input::SnapshotReceived { link, tree, .. } = &mut input
            && let Some((_, leader, _)) = self.peer_of(node, *link)
        {
            **tree = copy(&self.nodes[leader].shared.tree(), tree.last_zxid());
        }
        input
    }

    pub fn pass_ms(&mut self, ms: i64) {
        let until = self.now_ms + ms;
        loop {
            self.settle();
            let alive = (0..self.nodes.len()).filter(|node| self.nodes[*node].alive);
            let next = alive.map(|node| (self.nodes[node].replica.deadline(), node)).min();
            let Some((due, node)) = next.filter(|(due, _)| due.is_due(until)) else { break };
            if let Deadline::At(due_ms) = due {
                self.now_ms = self.now_ms.max(due_ms);
            }
            self.queue.push_back((node, Input::Tick));
        }
        self.now_ms = until;
    }

    fn drain(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].replica.poll() {
            self.carry_out(node, output);
        }
    }

    fn peer_of(&self, node: usize, link: LinkId) -> Option<(Wire, usize, LinkId)> {
        self.wires.iter().find_map(|wire| {
            if (wire.learner, wire.learner_link) == (node, link) {
                Some((*wire, wire.leader, wire.leader_link))
            } else if (wire.leader, wire.leader_link) == (node, link) {
                Some((*wire, wire.learner, wire.learner_link))
            } else {
                None
            }
        })
    }

    fn cut(&mut self, wire: Wire, by: usize) {
        self.wires.retain(|other| *other != wire);
        let ends = [(wire.learner, Some(wire.learner_link)), (wire.leader, Some(wire.leader_link))];
        self.held.retain(|(node, input)| !ends.contains(&(*node, link_of(input))));
        let why = LinkEnd::Closed;
        self.queue.push_back(if by == wire.learner {
            (wire.leader, Input::LearnerGone { link: wire.leader_link, why })
        } else {
            (wire.learner, Input::LeaderGone { link: wire.learner_link, why })
        });
    }

    fn carry_out(&mut self, node: usize, output: Output) {
        match output {
            Output::Append(record) => {
                self.queue.push_back((node, Input::Synced { zxid: record.zxid }));
                self.nodes[node].disk.appended.push(record);
            }
            Output::Store(store) => {
                let disk = &mut self.nodes[node].disk;
                let stored = match store {
                    Store::AcceptedEpoch(epoch) => {
                        disk.epochs.accepted = epoch;
                        Stored::AcceptedEpoch(epoch)
                    }
                    Store::CurrentEpoch { epoch, membership: Some(_) } if disk.refuses_memberships => {
                        Stored::MembershipRefused { epoch, why: "it is read-only".to_owned() }
                    }
                    Store::CurrentEpoch { epoch, membership } => {
                        if let Some(proposed) = membership {
                            disk.memberships = Memberships::new(disk.memberships.committed.clone(), proposed);
                        }
                        disk.epochs.current = epoch;
                        Stored::CurrentEpoch(epoch)
                    }
                    Store::Truncate { zxid, .. } if disk.leads_nowhere_back => {
                        // As a restart finds it, which has been the last thing that happened.
                        let tree = self.nodes[node].shared.tree();
                        let tree = copy(&tree, tree.last_zxid());
                        Stored::Truncated { zxid, tree: Some(Box::new(tree)) }
                    }
                    Store::Truncate { zxid, reload } => {
                        assert!(!reload, "nobody here has to cut what a restart has replayed");
                        disk.appended.retain(|record| record.zxid <= zxid);
                        Stored::Truncated { zxid, tree: None }
                    }
                    Store::InstallSnapshot { zxid } => {
                        disk.appended.clear();
                        disk.leads_nowhere_back = false;
                        Stored::SnapshotInstalled { zxid }
                    }
                    Store::Restore { .. } => panic!("a member takes no other tree"),
                    Store::ProposedMembership(_) | Store::ActiveMembership(_) if disk.refuses_memberships => return,
                    Store::ProposedMembership(proposed) => {
                        disk.memberships = Memberships::new(disk.memberships.committed.clone(), proposed);
                        return;
                    }
                    Store::ActiveMembership(active) => {
                        let newer = Some(&disk.memberships.last_seen).filter(|next| next.version > active.version);
                        disk.memberships = Memberships::new(active.clone(), newer.cloned().unwrap_or(active));
                        return;
                    }
                };
                self.queue.push_back((node, Input::Stored(stored)));
            }
            Output::Notify { to, notification } => {
                let from = ServerId(node as i64 + 1);
                self.queue.push_back((to.0 as usize - 1, Input::Notified { from, notification }));
            }
            Output::ObserverMaster { open } => self.nodes[node].feeds = open,
            Output::Dial { link, server, addresses } => {
                let leader = server.0 as usize - 1;
                let is_fed = self.settings.observer_master_port == Some(addresses[0].port);
                if !self.nodes[leader].alive || self.is_parted || (is_fed && !self.nodes[leader].feeds) {
                    self.queue.push_back((
                        node,
                        Input::LeaderGone { link, why: LinkEnd::NotConnected("connection refused".to_owned()) },
                    ));
                    return;
                }
                self.next_link += 1;
                let wire = Wire { learner: node, learner_link: link, leader, leader_link: LinkId(self.next_link) };
                self.wires.push(wire);
                let peer = format!("server {}", node + 1);
                let link_there = wire.leader_link;
                self.queue.push_back((
                    leader,
                    match is_fed {
                        true => Input::ObserverConnected { link: link_there, peer },
                        false => Input::LearnerConnected { link: link_there, peer },
                    },
                ));
                self.queue.push_back((node, Input::LeaderConnected { link }));
            }
            Output::ToLeader { link, bytes } => {
                self.nodes[node].pongs.extend(pings(&bytes));
                if let Some((_, leader, link)) = self.peer_of(node, link) {
                    self.queue.push_back((leader, Input::FromLearner { link, packets: bytes }));
                }
            }
            Output::ToLearner(link, LinkOutput::Send(bytes)) => {
                if has(&bytes, |packet| matches!(packet, QuorumPacket::Commit { .. } | QuorumPacket::Inform { .. })) {
                    self.nodes[node].told.push(Told::Learner);
                }
                if let Some((_, learner, link)) = self.peer_of(node, link) {
                    self.queue.push_back((learner, Input::FromLeader { link, packets: bytes.to_vec() }));
                }
            }
            Output::ToLearner(link, LinkOutput::PlanSync { .. }) => {
                self.queue.push_back((node, Input::SyncPlanned { link, plan: SyncPlan::Snapshot }));
            }
            Output::ToLearner(link, LinkOutput::StreamSnapshot) => {
                let applied = self.last_zxid(node);
                let tree = copy(&self.nodes[node].shared.tree(), applied);
                let Some((_, learner, link)) = self.peer_of(node, link) else { return };
                let mut packets = Vec::new();
                QuorumPacket::Snap { zxid: tree.last_zxid() }.append(&mut packets);
                self.queue.push_back((learner, Input::FromLeader { link, packets }));
                self.queue.push_back((learner, Input::SnapshotReceived { link, tree: Box::new(tree), bytes: 1 }));
            }
            Output::Hangup { link } | Output::ToLearner(link, LinkOutput::Drop(_)) => {
                if let Some((wire, ..)) = self.peer_of(node, link) {
                    self.cut(wire, node);
                }
            }
            Output::Restored(restored) => self.nodes[node].log.push(format!("{} {restored:?}", self.now_ms)),
            Output::Log(event) => self.nodes[node].log.push(format!("{} {event}", self.now_ms)),
            Output::DigestMismatch { zxid, expected, actual } => {
                panic!("server {}: digest at {zxid} is {actual}, not {expected}", node + 1)
            }
            Output::ToLearner(_, LinkOutput::StreamLog { .. }) => panic!("no plan here says that the log will do"),
            Output::Wake(_) => self.nodes[node].told.push(Told::Client),
            Output::Members(_)
            | Output::SessionOpened { .. }
            | Output::SessionExpired { .. }
            | Output::SessionClosed { .. }
            | Output::Slow(_) => {}
            Output::Audited { .. } | Output::EphemeralsDeleted { .. } => {
                self.nodes[node].audit.push(super::audit_line(&output))
            }
        }
    }

    pub fn kill(&mut self, node: usize) {
        self.nodes[node].alive = false;
        for wire in self.wires.clone() {
            if wire.learner == node || wire.leader == node {
                self.cut(wire, node);
            }
        }
        for other in 0..self.nodes.len() {
            self.queue.push_back((other, Input::ElectionLinkDown { server: ServerId(node as i64 + 1) }));
        }
        self.settle();
    }

    /// Starts a server again with what it had on its perfect disk: everything it applied, and what else it logged.
    pub fn restart(&mut self, node: usize) {
        let applied = self.last_zxid(node);
        let mut tree = copy(&self.nodes[node].shared.tree(), applied);
        let disk = self.nodes[node].disk.clone();
        for record in disk.appended.iter().filter(|record| record.zxid > self.last_zxid(node)) {
            let TxnRecord { header, txn, .. } = TxnRecord::decode(record.body()).unwrap();
            tree.apply(&header, txn, &mut Vec::new());
        }
        self.nodes[node] = self.start(node, tree, disk);
        self.link_up(node);
        self.drain(node);
        self.settle();
    }

    /// Starts a server whose disk was lost. `vouched`: somebody said that it may begin empty.
    pub fn restart_empty(&mut self, node: usize, vouched: bool) {
        let mut tree = Tree::new();
        if !vouched {
            tree.set_last_zxid(Zxid(-1));
        }
        let epochs = Epochs { accepted: Epoch::ZERO, current: Epoch::ZERO };
        let disk = Disk { epochs, appended: Vec::new(), ..self.nodes[node].disk.clone() };
        self.nodes[node] = self.start(node, tree, disk);
        self.link_up(node);
        self.drain(node);
        self.settle();
    }

    pub fn leader(&self) -> usize {
        let leads = |node: &usize| self.nodes[*node].alive && self.serving(*node) == Serving::Deciding;
        let leaders: Vec<usize> = (0..self.nodes.len()).filter(leads).collect();
        assert_eq!(leaders.len(), 1, "leaders: {leaders:?}\n{}", self.logs());
        leaders[0]
    }

    pub fn follower(&self) -> usize {
        let leader = self.leader();
        (0..self.nodes.len()).find(|node| *node != leader && self.nodes[*node].alive).unwrap()
    }

    pub fn logs(&self) -> String {
        let lines = self.nodes.iter().enumerate();
        lines.map(|(node, state)| format!("server {}:\n  {}\n", node + 1, state.log.join("\n  "))).collect()
    }

    pub fn serving(&self, node: usize) -> Serving {
        self.nodes[node].shared.status_board.serving()
    }

    /// How far a server has applied.
    pub fn last_zxid(&self, node: usize) -> Zxid {
        self.nodes[node].shared.tree().last_zxid()
    }

    /// What a server's tree holds there.
    pub fn data(&self, node: usize, path: &str) -> Vec<u8> {
        self.nodes[node].shared.tree().node(path).unwrap().data().unwrap().to_vec()
    }

    /// Closes the ports for observers of these servers, which go on to follow, and ends the connections to them.
    pub fn feeds_nobody(&mut self, nodes: &[usize]) {
        for node in nodes {
            self.nodes[*node].feeds = false;
            let wires: Vec<Wire> = self.wires.iter().copied().filter(|wire| wire.leader == *node).collect();
            for wire in wires {
                self.cut(wire, wire.learner);
                self.cut(wire, wire.leader);
            }
        }
        self.settle();
    }

    pub fn is_in_agreement(&self) {
        let leader = self.leader();
        let of = |node: usize| {
            let tree = self.nodes[node].shared.tree();
            (tree.last_zxid(), tree.digest(), tree.node_count(), tree.session_count())
        };
        for node in (0..self.nodes.len()).filter(|node| self.nodes[*node].alive) {
            assert_eq!(of(node), of(leader), "server {}\n{}", node + 1, self.logs());
        }
    }

    pub fn dial(&mut self, node: usize, session: SessionId, last_zxid_seen: Zxid) -> Client {
        let mut client = self.dial_later(node, session, last_zxid_seen);
        self.settle();
        if let Some(payload) = client.frame() {
            match ConnectResponse::decode(&payload) {
                Ok(response) => client.session = response.session,
                Err(_) => client.refusal = payload,
            }
        }
        client
    }

    /// A client that connects behind what is on its way already.
    pub fn dial_later(&mut self, node: usize, session: SessionId, last_zxid_seen: Zxid) -> Client {
        let id = WatcherId(self.next_connection);
        self.next_connection += 1;
        let connection = Arc::new(Connection::new(id, "127.0.0.1:4711".parse().unwrap(), self.now()));
        self.nodes[node].shared.add_connection(connection.clone());
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen,
            timeout_ms: 4000,
            session,
            password: if session == SessionId::NONE { vec![0; 16] } else { session.password().to_vec() },
            read_only: Some(true),
        };
        self.queue.push_back((node, Input::Connect { connection: connection.clone(), request }));
        Client { node, connection, session: SessionId::NONE, next_xid: 1, received: Vec::new(), refusal: Vec::new() }
    }

    /// The client closes its connection, and nothing else.
    pub fn disconnect(&mut self, client: &Client) {
        self.nodes[client.node].shared.remove_connection(&client.connection);
        self.queue.push_back((client.node, Input::Disconnected { connection: client.connection.clone() }));
        self.settle();
    }

    pub fn connect(&mut self, node: usize) -> Client {
        let client = self.dial(node, SessionId::NONE, Zxid(0));
        assert_ne!(client.session, SessionId::NONE, "{}", self.logs());
        client
    }

    pub fn write(&mut self, client: &mut Client, op: OpCode, request: WriteRequest) -> i32 {
        let xid = client.next_xid;
        client.next_xid += 1;
        let body = match &request {
            WriteRequest::Create(create) => jute::to_vec(create),
            WriteRequest::SetData(set) => jute::to_vec(set),
            WriteRequest::Delete(delete) => jute::to_vec(delete),
            WriteRequest::Reconfig(reconfig) => jute::to_vec(reconfig),
            _ => Vec::new(),
        };
        let (connection, identities) = (client.connection.clone(), client.connection.identities());
        connection.heard(self.now_ms);
        self.nodes[client.node].shared.submit(&connection);
        let write = Input::Write {
            connection,
            xid,
            op,
            request: Some(request),
            body,
            identities,
            arrived: self.now().stamp,
            sampled: None,
        };
        self.queue.push_back((client.node, write));
        xid
    }

    pub fn create(&mut self, client: &mut Client, path: &str, flags: i32) -> i32 {
        let acl = AclRequest { permissions: Permissions::ALL, scheme: Some("world".into()), id: Some("anyone".into()) };
        let create = CreateRequest {
            path: Some(path.to_owned()),
            data: Some(ByteBuf(b"x".to_vec())),
            acl: Some(vec![acl]),
            flags,
        };
        self.write(client, OpCode::Create, WriteRequest::Create(create))
    }

    pub fn set(&mut self, client: &mut Client, path: &str, data: &[u8]) -> i32 {
        let set = SetDataRequest { path: Some(path.to_owned()), data: Some(ByteBuf(data.to_vec())), version: -1 };
        self.write(client, OpCode::SetData, WriteRequest::SetData(set))
    }

    pub fn reconfig(&mut self, client: &mut Client, joining: Option<&str>, leaving: Option<&str>) -> i32 {
        let request = ReconfigRequest {
            joining_servers: joining.map(str::to_owned),
            leaving_servers: leaving.map(str::to_owned),
            new_members: None,
            current_config_id: -1,
        };
        self.write(client, OpCode::Reconfig, WriteRequest::Reconfig(request))
    }

    pub fn sync(&mut self, client: &mut Client) -> i32 {
        self.read(client, OpCode::Sync, jute::to_vec(&"/"))
    }

    pub fn get(&mut self, client: &mut Client, path: &str) -> i32 {
        self.read(client, OpCode::GetData, jute::to_vec(&(Some(path), false)))
    }

    /// The way of a read that stands behind another request.
    fn read(&mut self, client: &mut Client, op: OpCode, body: Vec<u8>) -> i32 {
        let xid = client.next_xid;
        client.next_xid += 1;
        let connection = client.connection.clone();
        connection.heard(self.now_ms);
        self.nodes[client.node].shared.submit(&connection);
        let identities = connection.identities();
        let read =
            ReadFrame { xid, op, body, identities, received_ms: self.now_ms, arrived: self.now().stamp, audited: None };
        self.queue.push_back((client.node, Input::Read { connection, read }));
        xid
    }
}

impl Client {
    fn frame(&mut self) -> Option<Vec<u8>> {
        self.connection.outbox.take(&mut self.received);
        let (payload, length) = frame::split(&self.received, 1 << 20).unwrap()?;
        let payload = payload.to_vec();
        self.received.drain(..length);
        Some(payload)
    }

    /// xid and error of every answer that has come.
    pub fn answers(&mut self) -> Vec<(i32, i32)> {
        let mut answers = Vec::new();
        while let Some(payload) = self.frame() {
            let (header, _): (ReplyHeader, _) = jute::from_slice_with_rest(&payload).unwrap();
            answers.push((header.xid, header.err));
        }
        answers
    }

    /// What came where the answer to a handshake is expected, and was none.
    pub fn refusal(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.refusal)
    }

    pub fn is_open(&self) -> bool {
        self.connection.outbox.is_open()
    }
}

/// The link that an input arrives on and keeps its place on.
fn link_of(input: &Input) -> Option<LinkId> {
    match input {
        Input::LearnerConnected { link, .. }
        | Input::ObserverConnected { link, .. }
        | Input::FromLearner { link, .. }
        | Input::FromLeader { link, .. }
        | Input::SnapshotReceived { link, .. } => Some(*link),
        _ => None,
    }
}

pub fn is_proposal(input: &Input) -> bool {
    brings(input, |packet| matches!(packet, QuorumPacket::Proposal { .. }))
}

pub fn is_ping(input: &Input) -> bool {
    brings(input, |packet| matches!(packet, QuorumPacket::Ping { .. }))
}

/// A learner's word of whom it has heard.
pub fn is_touch(input: &Input) -> bool {
    let is_such = |packet: &QuorumPacket<'_>| matches!(packet, QuorumPacket::Ping { touches: Some(touches), .. } if !touches.is_empty());
    matches!(input, Input::FromLearner { packets, .. } if has(packets, is_such))
}

pub fn is_revalidation(input: &Input) -> bool {
    brings(input, |packet| matches!(packet, QuorumPacket::Revalidated { .. }))
}

pub fn is_commit(input: &Input) -> bool {
    brings(input, |packet| matches!(packet, QuorumPacket::Commit { .. }))
}

/// A learner's.
pub fn is_request(input: &Input) -> bool {
    let is_such = |packet: &QuorumPacket<'_>| matches!(packet, QuorumPacket::Request(_));
    matches!(input, Input::FromLearner { packets, .. } if has(packets, is_such))
}

/// Whether there is such a packet in what comes from a leader.
fn brings(input: &Input, is_such: fn(&QuorumPacket<'_>) -> bool) -> bool {
    matches!(input, Input::FromLeader { packets, .. } if has(packets, is_such))
}

fn has(packets: &[u8], is_such: fn(&QuorumPacket<'_>) -> bool) -> bool {
    let mut rest = packets;
    while let Some((packet, length)) = QuorumPacket::split(rest, MAX_PACKET_BYTES).unwrap() {
        if is_such(&packet) {
            return true;
        }
        rest = &rest[length..];
    }
    false
}

/// The zxids of pings, with the number of the sessions that they tell of.
fn pings(packets: &[u8]) -> Vec<(Zxid, usize)> {
    let (mut pings, mut rest) = (Vec::new(), packets);
    while let Some((packet, length)) = QuorumPacket::split(rest, MAX_PACKET_BYTES).unwrap() {
        if let QuorumPacket::Ping { zxid, touches } = packet {
            pings.push((zxid, touches.map_or(0, |touches| touches.len())));
        }
        rest = &rest[length..];
    }
    pings
}

/// The tree, as one of this zxid.
fn copy(tree: &Tree, zxid: Zxid) -> Tree {
    let (head, mut walk) = tree.begin_snapshot();
    let mut builder = TreeBuilder::new();
    for entry in &head.sessions {
        builder.add_session(entry.session, entry.timeout_ms);
    }
    for (id, list) in &head.acls {
        builder.add_acl(*id, list.to_vec()).unwrap();
    }
    while walk.next_chunk(tree, 1 << 20, &mut |entry| {
        builder.add_node(&entry.path, entry.data.map(|data| data.0), entry.acl_id, entry.stat).unwrap();
    }) {}
    builder.finish(zxid).unwrap()
}
