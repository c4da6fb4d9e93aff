//! Simulated lives of registries that keep instances in one coordination tree: events that come late, trees out of sight, sessions that end, instances
//! that crash, end, are drained, and move to another registry.
//!
//! Checked in each life: a registry that sees the tree shows exactly what is in it; one that does not shows nothing and takes nothing; an instance that was
//! taken and renews in time is never gone; an instance that is silent for longer than its lease is.

use std::collections::{BTreeMap, VecDeque};

use rookeeper_proto::random::Random;
use rookeeper_registry::consistent::{Decision, Desk, Job, Outcome, Seen, Transaction, TreeOp};
use rookeeper_registry::encoding::{Format, read_instance};
use rookeeper_registry::{Now, Registry, Settings, Status};

const LEASE_MS: u64 = 30_000;
const BEAT_MS: u64 = 10_000;
const TICK_MS: u64 = 250;
const END_MS: u64 = 900_000;

#[derive(Default)]
struct Service {
    version: i32,
    nodes: BTreeMap<String, (i64, i32, Vec<u8>)>,
}

/// What the ensemble holds.
#[derive(Default)]
struct Tree(BTreeMap<String, Service>);

impl Tree {
    /// Carries a transaction out in a session, or nothing of it.
    fn commit(&mut self, transaction: &Transaction, session: i64) -> Option<Vec<Seen>> {
        let service = &transaction.service;
        if self.0.get(service).map(|found| found.version) != transaction.version {
            return None;
        }
        let version = transaction.version.map_or(0, |version| version + 1);
        let mut nodes = self.0.get(service).map_or_else(BTreeMap::new, |found| found.nodes.clone());
        for op in &transaction.ops {
            match op {
                TreeOp::Create { id, data } if !nodes.contains_key(id) => {
                    nodes.insert(id.clone(), (session, 0, data.clone()));
                }
                TreeOp::Set { id, data, version } if nodes.get(id).is_some_and(|node| node.1 == *version) => {
                    let owner = nodes[id].0;
                    nodes.insert(id.clone(), (owner, version + 1, data.clone()));
                }
                TreeOp::Delete { id, version } if nodes.get(id).is_some_and(|node| node.1 == *version) => {
                    nodes.remove(id);
                }
                _ => return None,
            }
        }
        let ids: Vec<String> = transaction.ops.iter().map(|op| id_of(op).to_owned()).collect();
        self.0.insert(service.clone(), Service { version, nodes });
        let mut seen = vec![Seen::Service { service: service.clone(), version }];
        seen.extend(ids.into_iter().map(|id| self.node(service, &id)));
        Some(seen)
    }

    fn node(&self, service: &str, id: &str) -> Seen {
        let (service, id) = (service.to_owned(), id.to_owned());
        match self.0.get(&service).and_then(|found| found.nodes.get(&id)) {
            Some((owner, version, data)) => Seen::node(service, id, *owner, *version, data, Now::default()),
            None => Seen::NoNode { service, id },
        }
    }

    fn all(&self) -> Vec<Seen> {
        let mut all = Vec::new();
        for (service, found) in &self.0 {
            all.push(Seen::Service { service: service.clone(), version: found.version });
            all.extend(found.nodes.keys().map(|id| self.node(service, id)));
        }
        all
    }

    fn has(&self, id: &str) -> bool {
        self.0.values().any(|service| service.nodes.contains_key(id))
    }
}

fn id_of(op: &TreeOp) -> &str {
    match op {
        TreeOp::Create { id, .. } | TreeOp::Set { id, .. } | TreeOp::Delete { id, .. } => id,
    }
}

struct Server {
    desk: Desk,
    registry: Registry,
    session: i64,
    /// What it has not been told yet.
    events: VecDeque<Seen>,
    blind_until_ms: u64,
}

struct Client {
    id: String,
    server: usize,
    next_ms: u64,
    dirty_ms: i64,
    registered: bool,
    alive: bool,
    /// When a registry that had heard of all changes last took a registration or a heartbeat. One that had not may have renewed what is elsewhere by now;
    /// the next heartbeat repairs that.
    taken_ms: Option<u64>,
    /// When any registry last did.
    heard_ms: u64,
}

struct Life {
    seed: u64,
    random: Random,
    now_ms: u64,
    tree: Tree,
    servers: Vec<Server>,
    clients: Vec<Client>,
    next_session: i64,
}

impl Life {
    fn new(seed: u64) -> Life {
        let mut random = Random::new(seed);
        let now = Now { wall_ms: 1_700_000_000_000, steady_ms: 1 };
        let count = 2 + random.below(3) as i64;
        let servers = (1..=count)
            .map(|session| {
                let mut server = Server {
                    desk: Desk::new(&["pay".to_owned()]),
                    registry: Registry::new(Settings::default(), now),
                    session,
                    events: VecDeque::new(),
                    blind_until_ms: 0,
                };
                server.registry.open(0, now);
                server.desk.claim_named(&mut server.registry, now);
                server
            })
            .collect();
        let clients = (0..2 + random.below(8)).map(|number| Client {
            id: format!("i{number}"),
            server: 0,
            next_ms: random.below(BEAT_MS),
            dirty_ms: 0,
            registered: false,
            alive: true,
            taken_ms: None,
            heard_ms: 0,
        });
        let clients = clients.collect();
        Life { seed, random, now_ms: 1, tree: Tree::default(), servers, clients, next_session: count + 1 }
    }

    fn now(&self) -> Now {
        Now { wall_ms: 1_700_000_000_000 + self.now_ms as i64, steady_ms: self.now_ms }
    }

    fn any_server(&mut self) -> usize {
        self.random.below(self.servers.len() as u64) as usize
    }

    fn run(&mut self) {
        for server in 0..self.servers.len() {
            self.gain_sight(server);
        }
        while self.now_ms < END_MS {
            self.now_ms += TICK_MS;
            self.misfortune();
            for server in 0..self.servers.len() {
                if self.servers[server].desk.blind().is_some() && self.servers[server].blind_until_ms <= self.now_ms {
                    self.gain_sight(server);
                }
                let some = self.random.below(4);
                self.hear(server, some);
                let now = self.now();
                let (over, _) = self.servers[server].desk.due(now);
                over.into_iter().for_each(|job| drop(self.work(server, &job)));
            }
            for client in 0..self.clients.len() {
                self.client_acts(client);
            }
            self.check();
        }
    }

    fn misfortune(&mut self) {
        let now = self.now();
        match self.random.below(1000) {
            0..=4 => {
                let (server, ms) = (self.any_server(), self.random.below(40_000));
                let Server { desk, registry, blind_until_ms, events, .. } = &mut self.servers[server];
                desk.lose_sight("no quorum", registry, now);
                *blind_until_ms = now.steady_ms + ms;
                events.clear();
            }
            // The session ends, and its nodes with it.
            5 => {
                let server = self.any_server();
                let Server { desk, registry, session, blind_until_ms, events, .. } = &mut self.servers[server];
                desk.lose_sight("the session is over", registry, now);
                let ended = std::mem::replace(session, self.next_session);
                self.next_session += 1;
                (*blind_until_ms, _) = (now.steady_ms, events.clear());
                let mut gone = Vec::new();
                for (name, service) in &mut self.tree.0 {
                    let of_session = service.nodes.extract_if(.., |_, node| node.0 == ended);
                    gone.extend(of_session.map(|(id, _)| Seen::NoNode { service: name.clone(), id }));
                }
                for seen in &gone {
                    let Seen::NoNode { id, .. } = seen else { continue };
                    self.clients.iter_mut().filter(|client| client.id == *id).for_each(|client| client.taken_ms = None);
                }
                self.tell_all(&gone);
            }
            6..=9 => {
                let (client, server) = (self.random.below(self.clients.len() as u64) as usize, self.any_server());
                self.clients[client].server = server;
            }
            10 => {
                let client = self.random.below(self.clients.len() as u64) as usize;
                self.clients[client].alive = self.random.below(3) > 0;
            }
            11..=13 => {
                let (client, server) = (self.random.below(self.clients.len() as u64) as usize, self.any_server());
                let (app, id) = ("PAY".to_owned(), self.clients[client].id.clone());
                let status = if self.random.below(2) == 0 { Status::OutOfService } else { Status::Up };
                let job = match self.random.below(3) {
                    0 => Job::ClearStatus { app, id, status: Status::Up, dirty_ms: None },
                    _ => Job::SetStatus { app, id, status, dirty_ms: None },
                };
                if self.work(server, &job) == Outcome::Done {
                    self.clients[client].heard_ms = self.now_ms;
                }
            }
            _ => {}
        }
    }

    fn gain_sight(&mut self, server: usize) {
        let (now, all) = (self.now(), self.tree.all());
        let Server { desk, registry, session, events, .. } = &mut self.servers[server];
        events.clear();
        desk.gain_sight(*session, all, registry, now).unwrap();
        // Its leases begin anew.
        let kept: Vec<String> = self
            .tree
            .0
            .values()
            .flat_map(|service| &service.nodes)
            .filter(|(_, node)| node.0 == *session)
            .map(|(id, _)| id.clone())
            .collect();
        for client in self.clients.iter_mut().filter(|client| kept.contains(&client.id)) {
            (client.taken_ms, client.heard_ms) = (Some(now.steady_ms), now.steady_ms);
        }
    }

    fn hear(&mut self, server: usize, count: u64) {
        let now = self.now();
        let Server { desk, registry, events, .. } = &mut self.servers[server];
        for seen in events.drain(..(count as usize).min(events.len())) {
            desk.see(seen, registry, now).unwrap();
        }
    }

    fn tell_all(&mut self, seen: &[Seen]) {
        for server in self.servers.iter_mut().filter(|server| server.desk.blind().is_none()) {
            server.events.extend(seen.iter().cloned());
        }
    }

    /// As whoever drives a desk does it.
    fn work(&mut self, server: usize, job: &Job) -> Outcome {
        for _ in 0..4 {
            let now = self.now();
            let Server { desk, registry, session, .. } = &mut self.servers[server];
            let transaction = match desk.decide(job, registry, now) {
                Decision::Answer(outcome) => return outcome,
                Decision::Write(transaction) => transaction,
            };
            match self.tree.commit(&transaction, *session) {
                Some(seen) => {
                    self.hear(server, u64::MAX);
                    let Server { desk, registry, .. } = &mut self.servers[server];
                    desk.written(transaction, registry, now).unwrap();
                    self.tell_all(&seen);
                    return Outcome::Done;
                }
                None => self.hear(server, u64::MAX),
            }
        }
        panic!("seed {}: {job:?} is never done", self.seed);
    }

    fn client_acts(&mut self, number: usize) {
        let client = &self.clients[number];
        if !client.alive || client.next_ms > self.now_ms {
            return;
        }
        let (server, id) = (client.server, client.id.clone());
        let mut outcome = Outcome::Unknown;
        if client.registered {
            let job = Job::Renew { app: "PAY".to_owned(), id: id.clone(), dirty_ms: Some(client.dirty_ms) };
            outcome = self.work(server, &job);
        }
        if outcome == Outcome::Unknown {
            self.clients[number].dirty_ms = self.now().wall_ms;
            let text = format!(
                r#"{{"instance":{{"instanceId":"{id}","hostName":"{id}","app":"PAY","ipAddr":"10.0.0.1","status":"UP",
                "dataCenterInfo":{{"@class":"com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo","name":"MyOwn"}},
                "leaseInfo":{{"durationInSecs":{}}},"lastDirtyTimestamp":"{}"}}}}"#,
                LEASE_MS / 1000,
                self.clients[number].dirty_ms
            );
            let instance = read_instance(Format::Json, text.as_bytes(), "PAY", self.now()).unwrap();
            outcome = self.work(server, &Job::Register(Box::new(instance)));
        }
        let now_ms = self.now_ms;
        let client = &mut self.clients[number];
        client.next_ms = now_ms + BEAT_MS;
        match outcome {
            Outcome::Done => {
                (client.registered, client.heard_ms) = (true, now_ms);
                if self.servers[server].events.is_empty() {
                    client.taken_ms = Some(now_ms);
                }
            }
            Outcome::Blind(_) => client.next_ms = now_ms + 1000,
            other => panic!("seed {}: {id} was answered {other:?}", self.seed),
        }
    }

    fn check(&mut self) {
        for number in 0..self.servers.len() {
            let server = &mut self.servers[number];
            let shown: Vec<String> = server
                .registry
                .application("PAY")
                .map_or_else(Vec::new, |app| app.records.iter().map(|record| record.instance.id.to_string()).collect());
            if server.desk.blind().is_some() {
                assert_eq!(shown, Vec::<String>::new(), "seed {}: server {number} shows what it can't see", self.seed);
            } else if server.events.is_empty() {
                let there: Vec<String> =
                    self.tree.0.values().flat_map(|service| service.nodes.keys().cloned()).collect();
                assert_eq!(shown, there, "seed {}: server {number}", self.seed);
            }
        }
        let all_see = self.servers.iter().all(|server| server.desk.blind().is_none());
        for client in &self.clients {
            let silent_ms = self.now_ms - client.taken_ms.unwrap_or(0);
            if silent_ms < LEASE_MS && client.taken_ms.is_some() {
                assert!(
                    self.tree.has(&client.id),
                    "seed {}: {} is gone, heard {silent_ms} ms ago",
                    self.seed,
                    client.id
                );
            }
            // Whoever keeps it sees the tree, and has had its time after it saw it again.
            let silent_ms = self.now_ms - client.heard_ms;
            if all_see && silent_ms > LEASE_MS + 2 * TICK_MS && !client.alive {
                assert!(
                    !self.tree.has(&client.id),
                    "seed {}: {} stays, heard {silent_ms} ms ago",
                    self.seed,
                    client.id
                );
            }
        }
    }
}

#[test]
fn registries_with_one_tree_lead_their_lives() {
    for seed in super::seeds(0..40) {
        Life::new(seed).run();
    }
}
