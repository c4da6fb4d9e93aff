//! Ensembles of replicas with a perfect network and a disk that answers at once: who leads, who follows, and what clients see of it. What
//! goes wrong in the world is for the simulator.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rookeeper_proto::acl::AclRequest;
use rookeeper_proto::connect::{ConnectRequest, ConnectResponse};
use rookeeper_proto::frame::{self, ReplyHeader};
use rookeeper_proto::jute::{self, ByteBuf};
use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_proto::request::{CreateRequest, ReconfigRequest, SetDataRequest, WriteRequest};
use rookeeper_proto::{OpCode, Permissions, ServerId, SessionId, Zxid};
use rookeeper_replica::{
    Connection, EnsembleSettings, Epochs, Input, Output, Part, ReadFrame, Replica, Serving, Settings, Shared, Store,
    Stored, Time,
};
use rookeeper_tree::access::AccessConfig;
use rookeeper_tree::builder::TreeBuilder;
use rookeeper_tree::{Tree, WatcherId};
use rookeeper_zab::{LinkId, Membership, Memberships, SyncPlan};

const TICK_MS: i64 = 1000;

struct Node {
    shared: Arc<Shared>,
    replica: Replica,
    alive: bool,
    epochs: Epochs,
    log: Vec<String>,
}

/// The two ends of a connection to a quorum port.
#[derive(Clone, Copy, PartialEq)]
struct Wire {
    learner: usize,
    learner_link: LinkId,
    leader: usize,
    leader_link: LinkId,
}

struct World {
    nodes: Vec<Node>,
    now_ms: i64,
    queue: VecDeque<(usize, Input)>,
    wires: Vec<Wire>,
    next_link: u64,
    next_connection: u64,
    settings: EnsembleSettings,
}

struct Client {
    node: usize,
    connection: Arc<Connection>,
    session: SessionId,
    next_xid: i32,
    received: Vec<u8>,
}

fn membership(servers: i64, observers: &[i64]) -> Membership {
    let line = |id: i64| {
        let role = if observers.contains(&id) { "observer" } else { "participant" };
        format!("server.{id}=127.0.0.{id}:2888:3888:{role};127.0.0.{id}:2181\n")
    };
    Membership::parse_text((1..=servers).map(line).collect::<String>(), false).unwrap()
}

fn settings(membership: Membership) -> EnsembleSettings {
    EnsembleSettings {
        me: ServerId(0),
        memberships: Memberships::settled(membership),
        init_limit_ticks: 10,
        sync_limit_ticks: 5,
        connect_limit_ticks: None,
        connect_retry_ms: 100,
        notification_interval_ms: (200, 60_000),
        observer_election_delay_ms: 0,
        leader_serves: true,
        local_sessions: false,
        local_sessions_upgrading: false,
        read_only_mode: false,
        sync_enabled: true,
        commit_log_count: 500,
        force_snapshot_sync: false,
        max_concurrent_snap_syncs: 10,
        max_concurrent_diff_syncs: 100,
        max_time_to_wait_for_epoch_ms: None,
        standalone_enabled: true,
        multi_address: false,
    }
}

impl World {
    fn new(servers: i64, observers: &[i64]) -> World {
        World::with(settings(membership(servers, observers)))
    }

    fn with(settings: EnsembleSettings) -> World {
        let servers = settings.memberships.committed.members.len();
        let mut world = World {
            nodes: Vec::new(),
            now_ms: 0,
            queue: VecDeque::new(),
            wires: Vec::new(),
            next_link: 1_000_000,
            next_connection: 1,
            settings,
        };
        for node in 0..servers {
            let started = world.start(node, Tree::new(), Epochs { accepted: 0, current: 0 });
            world.nodes.push(started);
        }
        for node in 0..servers {
            world.link_up(node);
            world.drain(node);
        }
        world.settle();
        world
    }

    fn start(&self, node: usize, tree: Tree, epochs: Epochs) -> Node {
        let me = ServerId(node as i64 + 1);
        let access = AccessConfig { skip_acl: true, ..AccessConfig::default() };
        let settings = Settings {
            server: me,
            tick_time_ms: TICK_MS,
            min_session_timeout_ms: 2000,
            reconfig: true,
            access,
            ..Settings::default()
        };
        let shared = Arc::new(Shared::new(settings, tree, 1_000_000));
        let replica =
            Replica::member(shared.clone(), EnsembleSettings { me, ..self.settings.clone() }, epochs, self.now());
        Node { shared, replica, alive: true, epochs, log: Vec::new() }
    }

    fn link_up(&mut self, node: usize) {
        for other in 0..self.nodes.len() {
            if other != node && self.nodes[other].alive && self.nodes[node].alive {
                self.queue.push_back((node, Input::ElectionLinkUp { server: ServerId(other as i64 + 1) }));
                self.queue.push_back((other, Input::ElectionLinkUp { server: ServerId(node as i64 + 1) }));
            }
        }
    }

    fn now(&self) -> Time {
        Time { monotonic_ms: self.now_ms, wall_ms: 1_000_000 + self.now_ms }
    }

    /// Carries everything out that can happen without time passing.
    fn settle(&mut self) {
        while let Some((node, input)) = self.queue.pop_front() {
            if self.nodes[node].alive {
                let now = self.now();
                self.nodes[node].replica.handle(now, input);
                self.drain(node);
            }
        }
    }

    fn pass_ms(&mut self, ms: i64) {
        let until = self.now_ms + ms;
        loop {
            self.settle();
            let alive = (0..self.nodes.len()).filter(|node| self.nodes[*node].alive);
            let next = alive.filter_map(|node| Some((self.nodes[node].replica.deadline_ms()?, node))).min();
            let Some((due, node)) = next.filter(|(due, _)| *due <= until) else { break };
            self.now_ms = self.now_ms.max(due);
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
        let why = "the other side closed".to_owned();
        self.queue.push_back(if by == wire.learner {
            (wire.leader, Input::LearnerGone { link: wire.leader_link, why })
        } else {
            (wire.learner, Input::LeaderGone { link: wire.learner_link, why })
        });
    }

    fn carry_out(&mut self, node: usize, output: Output) {
        match output {
            Output::Append(record) => self.queue.push_back((node, Input::Synced { zxid: record.zxid })),
            Output::Store(store) => {
                let stored = match store {
                    Store::AcceptedEpoch(epoch) => {
                        self.nodes[node].epochs.accepted = epoch;
                        Stored::AcceptedEpoch(epoch)
                    }
                    Store::CurrentEpoch(epoch) => {
                        self.nodes[node].epochs.current = epoch;
                        Stored::CurrentEpoch(epoch)
                    }
                    Store::Truncate { zxid, reload } => {
                        assert!(!reload, "nothing uncommitted is in the tree here");
                        Stored::Truncated { zxid, tree: None }
                    }
                    Store::InstallSnapshot { zxid } => Stored::SnapshotInstalled { zxid },
                    Store::ProposedMembership(_) | Store::ActiveMembership(_) => return,
                };
                self.queue.push_back((node, Input::Stored(stored)));
            }
            Output::Notify { to, notification } => {
                let from = ServerId(node as i64 + 1);
                self.queue.push_back((to.0 as usize - 1, Input::Notified { from, notification }));
            }
            Output::Dial { link, server, .. } => {
                let leader = server.0 as usize - 1;
                if !self.nodes[leader].alive {
                    self.queue.push_back((node, Input::LeaderGone { link, why: "connection refused".to_owned() }));
                    return;
                }
                self.next_link += 1;
                let wire = Wire { learner: node, learner_link: link, leader, leader_link: LinkId(self.next_link) };
                self.wires.push(wire);
                let peer = format!("server {}", node + 1);
                self.queue.push_back((leader, Input::LearnerConnected { link: wire.leader_link, peer }));
                self.queue.push_back((node, Input::LeaderConnected { link }));
            }
            Output::ToLeader { link, bytes } => {
                if let Some((_, leader, link)) = self.peer_of(node, link) {
                    self.queue.push_back((leader, Input::FromLearner { link, packets: bytes }));
                }
            }
            Output::ToLearner { link, bytes } => {
                if let Some((_, learner, link)) = self.peer_of(node, link) {
                    self.queue.push_back((learner, Input::FromLeader { link, packets: bytes.to_vec() }));
                }
            }
            Output::PlanSync { link, .. } => {
                self.queue.push_back((node, Input::SyncPlanned { link, plan: SyncPlan::Snapshot }));
            }
            Output::StreamSnapshot { link } => {
                let tree = copy(&self.nodes[node].shared.tree());
                let Some((_, learner, link)) = self.peer_of(node, link) else { return };
                let mut packets = Vec::new();
                QuorumPacket::Snap { zxid: tree.last_zxid() }.append(&mut packets);
                self.queue.push_back((learner, Input::FromLeader { link, packets }));
                self.queue.push_back((learner, Input::SnapshotReceived { link, tree: Box::new(tree), bytes: 1 }));
            }
            Output::Hangup { link } | Output::DropLearner { link, .. } => {
                if let Some((wire, ..)) = self.peer_of(node, link) {
                    self.cut(wire, node);
                }
            }
            Output::Log { text, .. } => self.nodes[node].log.push(format!("{} {text}", self.now_ms)),
            Output::DigestMismatch { zxid, expected, actual } => {
                panic!("server {}: digest at {zxid} is {actual}, not {expected}", node + 1)
            }
            Output::StreamLog { .. } => panic!("no plan here says that the log will do"),
            Output::Wake(_)
            | Output::Members(_)
            | Output::SessionOpened { .. }
            | Output::SessionExpired { .. }
            | Output::SessionClosed { .. } => {}
        }
    }

    fn kill(&mut self, node: usize) {
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

    /// Starts a server again with what it had on its perfect disk: everything it logged, which here is everything it applied.
    fn restart(&mut self, node: usize) {
        let (tree, epochs) = (copy(&self.nodes[node].shared.tree()), self.nodes[node].epochs);
        self.nodes[node] = self.start(node, tree, epochs);
        self.link_up(node);
        self.drain(node);
        self.settle();
    }

    fn leader(&self) -> usize {
        let leads = |node: &usize| self.nodes[*node].alive && self.serving(*node) == Serving::Deciding;
        let leaders: Vec<usize> = (0..self.nodes.len()).filter(leads).collect();
        assert_eq!(leaders.len(), 1, "leaders: {leaders:?}\n{}", self.logs());
        leaders[0]
    }

    fn follower(&self) -> usize {
        let leader = self.leader();
        (0..self.nodes.len()).find(|node| *node != leader && self.nodes[*node].alive).unwrap()
    }

    fn logs(&self) -> String {
        let lines = self.nodes.iter().enumerate();
        lines.map(|(node, state)| format!("server {}:\n  {}\n", node + 1, state.log.join("\n  "))).collect()
    }

    fn serving(&self, node: usize) -> Serving {
        self.nodes[node].shared.bulletin.serving()
    }

    fn is_in_agreement(&self) {
        let leader = self.leader();
        let of = |node: usize| {
            let tree = self.nodes[node].shared.tree();
            (tree.last_zxid(), tree.digest(), tree.node_count(), tree.session_count())
        };
        for node in (0..self.nodes.len()).filter(|node| self.nodes[*node].alive) {
            assert_eq!(of(node), of(leader), "server {}\n{}", node + 1, self.logs());
        }
    }

    fn dial(&mut self, node: usize, session: SessionId, last_zxid_seen: Zxid) -> Client {
        let id = WatcherId(self.next_connection);
        self.next_connection += 1;
        let connection = Arc::new(Connection::new(id, "127.0.0.1:4711".parse().unwrap(), self.now_ms, self.now_ms));
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
        self.settle();
        let mut client = Client { node, connection, session: SessionId::NONE, next_xid: 1, received: Vec::new() };
        if let Some(payload) = client.frame() {
            let response: ConnectResponse = ConnectResponse::decode(&payload).unwrap();
            client.session = response.session;
        }
        client
    }

    fn connect(&mut self, node: usize) -> Client {
        let client = self.dial(node, SessionId::NONE, Zxid(0));
        assert_ne!(client.session, SessionId::NONE, "{}", self.logs());
        client
    }

    fn write(&mut self, client: &mut Client, op: OpCode, request: WriteRequest) -> i32 {
        let xid = client.next_xid;
        client.next_xid += 1;
        let body = match &request {
            WriteRequest::Create(create) => jute::to_vec(create),
            WriteRequest::SetData(set) => jute::to_vec(set),
            WriteRequest::Reconfig(reconfig) => jute::to_vec(reconfig),
            _ => Vec::new(),
        };
        let (connection, identities) = (client.connection.clone(), client.connection.identities());
        connection.heard(self.now_ms);
        self.nodes[client.node].shared.submit(&connection);
        let write = Input::Write { connection, xid, op, request: Some(request), body, identities };
        self.queue.push_back((client.node, write));
        xid
    }

    fn create(&mut self, client: &mut Client, path: &str, flags: i32) -> i32 {
        let acl = AclRequest { permissions: Permissions::ALL, scheme: Some("world".into()), id: Some("anyone".into()) };
        let create = CreateRequest {
            path: Some(path.to_owned()),
            data: Some(ByteBuf(b"x".to_vec())),
            acl: Some(vec![acl]),
            flags,
        };
        self.write(client, OpCode::Create, WriteRequest::Create(create))
    }

    fn set(&mut self, client: &mut Client, path: &str, data: &[u8]) -> i32 {
        let set = SetDataRequest { path: Some(path.to_owned()), data: Some(ByteBuf(data.to_vec())), version: -1 };
        self.write(client, OpCode::SetData, WriteRequest::SetData(set))
    }

    fn sync(&mut self, client: &mut Client) -> i32 {
        let xid = client.next_xid;
        client.next_xid += 1;
        let connection = client.connection.clone();
        connection.heard(self.now_ms);
        self.nodes[client.node].shared.submit(&connection);
        let (op, identities) = (OpCode::Sync, connection.identities());
        let body = jute::to_vec(&"/");
        let read = ReadFrame { xid, op, body, identities, received_ms: self.now_ms };
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
    fn answers(&mut self) -> Vec<(i32, i32)> {
        let mut answers = Vec::new();
        while let Some(payload) = self.frame() {
            let (header, _): (ReplyHeader, _) = jute::from_slice_with_rest(&payload).unwrap();
            answers.push((header.xid, header.err));
        }
        answers
    }

    fn is_open(&self) -> bool {
        self.connection.outbox.is_open()
    }
}

fn copy(tree: &Tree) -> Tree {
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
    builder.finish(head.zxid).unwrap()
}

#[test]
fn three_servers_find_a_leader_and_serve_the_same() {
    let mut world = World::new(3, &[]);
    world.pass_ms(1000);
    let leader = world.leader();
    let mut clients: Vec<Client> = (0..3).map(|node| world.connect(node)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let created = world.create(client, &format!("/n{number}"), 0);
        let again = world.create(client, &format!("/n{number}"), 0);
        let set = world.set(client, &format!("/n{number}"), b"y");
        world.settle();
        assert_eq!(client.answers(), [(created, 0), (again, -110), (set, 0)], "{}", world.logs());
    }
    world.is_in_agreement();
    assert_eq!(world.nodes[leader].shared.tree().session_count(), 3);
    let standing = world.nodes[leader].shared.bulletin.standing();
    assert_eq!((standing.part, standing.leadership.unwrap().synced_followers), (Part::Leading, 2));
}

#[test]
fn a_dead_leader_is_replaced_at_once_and_sessions_move() {
    let mut world = World::new(3, &[]);
    world.pass_ms(1000);
    let (leader, follower) = (world.leader(), world.follower());
    let mut client = world.connect(leader);
    let created = world.create(&mut client, "/mine", 1);
    world.settle();
    assert_eq!(client.answers(), [(created, 0)]);
    let session = client.session;

    world.kill(leader);
    world.pass_ms(100);
    assert_ne!(world.leader(), leader, "{}", world.logs());
    let mut moved = world.dial(follower, session, Zxid(0));
    assert_eq!(moved.session, session, "{}", world.logs());
    let set = world.set(&mut moved, "/mine", b"still here");
    world.settle();
    assert_eq!(moved.answers(), [(set, 0)]);

    world.restart(leader);
    world.pass_ms(1000);
    world.is_in_agreement();
    assert_eq!(world.serving(leader), Serving::Forwarding);
    world.pass_ms(20_000);
    world.is_in_agreement();
    assert!(world.nodes[follower].shared.tree().node("/mine").is_none(), "the session expired with its node");
}

#[test]
fn a_follower_catches_up_from_memory_or_by_a_snapshot() {
    for writes in [10, 700] {
        let mut world = World::new(3, &[]);
        world.pass_ms(1000);
        let (leader, follower) = (world.leader(), world.follower());
        let mut client = world.connect(leader);
        world.create(&mut client, "/a", 0);
        world.settle();
        world.kill(follower);
        for _ in 0..writes {
            world.set(&mut client, "/a", b"1");
        }
        world.settle();
        world.restart(follower);
        world.pass_ms(100);
        world.is_in_agreement();
        let by_snapshot = world.nodes[follower].log.iter().any(|line| line.contains("(SNAP)"));
        assert_eq!(by_snapshot, writes > 500, "{}", world.logs());
        world.set(&mut client, "/a", b"2");
        world.settle();
        world.is_in_agreement();
    }
}

#[test]
fn without_a_quorum_nobody_is_served() {
    let mut world = World::new(3, &[]);
    world.pass_ms(1000);
    let (leader, follower) = (world.leader(), world.follower());
    let client = world.connect(leader);
    for node in 0..3 {
        if node != leader {
            world.kill(node);
        }
    }
    world.pass_ms(2000);
    assert_eq!(world.serving(leader), Serving::Nobody);
    assert!(!client.is_open());
    assert!(!world.dial(leader, SessionId::NONE, Zxid(0)).is_open());
    world.restart(follower);
    world.pass_ms(1000);
    world.is_in_agreement();
}

#[test]
fn sync_takes_its_turn_among_writes_everywhere() {
    let mut world = World::new(3, &[]);
    world.pass_ms(1000);
    for node in [world.leader(), world.follower()] {
        let mut client = world.connect(node);
        let mut expected = Vec::new();
        expected.push(world.create(&mut client, &format!("/s{node}"), 0));
        expected.push(world.sync(&mut client));
        expected.push(world.sync(&mut client));
        expected.push(world.set(&mut client, &format!("/s{node}"), b"1"));
        expected.push(world.sync(&mut client));
        expected.push(world.set(&mut client, &format!("/s{node}"), b"2"));
        world.settle();
        let expected: Vec<(i32, i32)> = expected.into_iter().map(|xid| (xid, 0)).collect();
        assert_eq!(client.answers(), expected, "server {}\n{}", node + 1, world.logs());
        assert_eq!(client.connection.in_flight(), 0);
    }
    world.is_in_agreement();
}

#[test]
fn observers_serve_and_do_not_vote() {
    let mut world = World::new(4, &[4]);
    world.pass_ms(2000);
    assert_eq!(world.serving(3), Serving::Forwarding, "{}", world.logs());
    assert_eq!(world.nodes[3].shared.bulletin.standing().part, Part::Observing);
    let mut client = world.connect(3);
    let created = world.create(&mut client, "/o", 0);
    let sync = world.sync(&mut client);
    world.settle();
    assert_eq!(client.answers(), [(created, 0), (sync, 0)]);
    let leader = world.leader();
    world.kill(leader);
    world.pass_ms(2000);
    world.is_in_agreement();
    assert_eq!(world.serving(3), Serving::Forwarding, "{}", world.logs());
}

#[test]
fn a_session_that_moved_can_change_nothing_through_its_old_server() {
    let mut world = World::new(3, &[]);
    world.pass_ms(1000);
    let (leader, follower) = (world.leader(), world.follower());
    for (from, to) in [(leader, follower), (follower, leader)] {
        let mut old = world.connect(from);
        let mut new = world.dial(to, old.session, Zxid(0));
        assert_eq!(new.session, old.session);
        world.set(&mut old, "/", b"1");
        world.settle();
        assert_eq!((old.answers(), old.is_open()), (vec![], false));
        let set = world.set(&mut new, "/", b"2");
        world.settle();
        assert_eq!(new.answers(), [(set, 0)]);
    }
}

#[test]
fn members_leave_and_join_and_the_leader_too() {
    let mut world = World::new(4, &[4]);
    world.pass_ms(2000);
    let leader = world.leader();
    let mut client = world.connect(leader);
    let request = |joining: Option<String>, leaving: Option<String>| {
        let request = ReconfigRequest {
            joining_servers: joining,
            leaving_servers: leaving,
            new_members: None,
            current_config_id: -1,
        };
        WriteRequest::Reconfig(request)
    };
    let joining = "server.4=127.0.0.4:2888:3888:participant;127.0.0.4:2181".to_owned();
    let xid = world.write(&mut client, OpCode::Reconfig, request(Some(joining), None));
    world.pass_ms(1000);
    assert_eq!(client.answers(), [(xid, 0)], "{}", world.logs());
    assert_eq!(world.nodes[3].shared.bulletin.standing().part, Part::Following, "{}", world.logs());
    world.is_in_agreement();

    let mut client = world.connect(world.follower());
    world.write(&mut client, OpCode::Reconfig, request(None, Some((leader + 1).to_string())));
    world.pass_ms(3000);
    let next = world.leader();
    assert_ne!(next, leader, "{}", world.logs());
    let members = world.nodes[next].shared.bulletin.standing().membership.unwrap().members;
    assert_eq!(members.len(), 3);
    world.is_in_agreement();
}

#[test]
fn local_sessions_cost_nothing_until_they_need_a_node() {
    let local =
        EnsembleSettings { local_sessions: true, local_sessions_upgrading: true, ..settings(membership(3, &[])) };
    let mut world = World::with(local);
    world.pass_ms(1000);
    for node in [world.leader(), world.follower()] {
        let zxid = world.nodes[node].shared.tree().last_zxid();
        let mut client = world.connect(node);
        assert_eq!(world.nodes[node].shared.tree().last_zxid(), zxid);
        assert_eq!(world.dial((node + 1) % 3, client.session, Zxid(0)).session, SessionId::NONE);
        let created = world.create(&mut client, &format!("/e{node}"), 1);
        world.settle();
        assert_eq!(client.answers(), [(created, 0)], "{}", world.logs());
        assert_eq!(world.dial((node + 1) % 3, client.session, Zxid(0)).session, client.session);
    }
    world.is_in_agreement();
}

#[test]
fn readers_who_ask_for_it_are_served_without_a_quorum() {
    let mut world = World::with(EnsembleSettings { read_only_mode: true, ..settings(membership(3, &[])) });
    world.pass_ms(1000);
    let leader = world.leader();
    for node in (0..3).filter(|node| *node != leader) {
        world.kill(node);
    }
    world.pass_ms(4000);
    assert_eq!(world.serving(leader), Serving::ReadOnly, "{}", world.logs());
    let mut client = world.connect(leader);
    let refused = world.create(&mut client, "/a", 0);
    world.settle();
    assert_eq!(client.answers(), [(refused, -119)]);
    let others: BTreeMap<usize, ()> = (0..3).filter(|node| *node != leader).map(|node| (node, ())).collect();
    for node in others.into_keys() {
        world.restart(node);
    }
    world.pass_ms(2000);
    assert!(!client.is_open());
    world.is_in_agreement();
}
