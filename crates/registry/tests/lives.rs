//! Simulated lives of three to seven registries with clients of their own: partitions, lost and doubled messages, clocks that are wrong and jump,
//! restarts, instances that crash, move and end.
//!
//! Checked in each life: no instance is evicted that was heard within its lease; after the last fault all registries agree, within a bound, on every
//! instance that lives, and none shows an instance that ended; self-preservation holds exactly when the formula says.
//!
//! `REGISTRY_LIVES=A..B` runs other lives than those of every test run; a failure names its seed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rookeeper_registry::encoding::{Remembered, read_answers, read_applications, read_snapshot};
use rookeeper_registry::outbox::{Failure, Outbox};
use rookeeper_registry::rest::{self, Answer, Change, Parts, Version};
use rookeeper_registry::{Caller, Now, Registry, Settings, Snapshot, Status};

const TICK_MS: u64 = 50;
const FAULTS_END_MS: u64 = 600_000;
/// How long after the last fault everything may take: a heartbeat, the longest pause of a sender, a lease that ends, an eviction.
const SETTLED_MS: u64 = FAULTS_END_MS + 30_000 + 16_000 + 4 * LEASE_MS + 60_000;
/// Clients say nothing any more for this long before the end: an instance whose status is unknown registers anew at each heartbeat.
const QUIET_MS: u64 = 15_000;
const RENEWAL_MS: u64 = 10_000;
const LEASE_MS: u64 = 30_000;
const ANSWER_LIMIT_MS: u64 = 10_000;
const OPEN_AFTER_MS: u64 = 30_000;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

struct Server {
    registry: Registry,
    outboxes: BTreeMap<usize, Outbox>,
    /// When the outbox to a server gives up on its batch.
    gives_up_ms: BTreeMap<usize, u64>,
    /// How wrong the wall clock is.
    skew_ms: i64,
    opens_ms: u64,
    frozen_until_ms: u64,
    /// When each instance was last heard here.
    heard_ms: BTreeMap<String, u64>,
    follower: Follower,
    /// What is on the disk.
    saved: Vec<u8>,
    /// What was on the disk at the start, until the registry is open.
    remembered: Remembered,
}

/// A client that follows the changes of one server.
#[derive(Default)]
struct Follower {
    version: Option<Version>,
    copy: BTreeMap<String, (String, String)>,
    fetched: u64,
    followed: u64,
}

struct Client {
    id: String,
    server: usize,
    next_beat_ms: u64,
    dirty_ms: i64,
    skew_ms: i64,
    status: Status,
    registered: bool,
    state: ClientState,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum ClientState {
    Lives,
    /// Sends nothing any more.
    Ended,
}

enum Message {
    Batch { number: u64, body: Vec<u8> },
    Answers { number: u64, body: Vec<u8> },
}

struct Sent {
    arrives_ms: u64,
    from: usize,
    to: usize,
    message: Message,
}

struct Life {
    seed: u64,
    random: Random,
    settings: Settings,
    now_ms: u64,
    servers: Vec<Server>,
    clients: Vec<Client>,
    cut: BTreeSet<(usize, usize)>,
    messages: VecDeque<Sent>,
    next_number: u64,
    /// The batch that a server waits for, by sender and receiver.
    under_way: BTreeMap<(usize, usize), u64>,
    lossy: bool,
    restored: usize,
}

impl Life {
    fn new(seed: u64) -> Life {
        let mut random = Random(seed);
        let servers = 3 + random.below(5) as usize;
        let clients = 3 + random.below(20) as usize;
        let settings = Settings {
            self_preservation: random.one_in(3),
            expected_renewal_s: (RENEWAL_MS / 1000) as u32,
            eviction_interval_ms: 5000 + random.below(10_000),
            remembers_cancelled: true,
            // So short that some who follow the changes fall behind.
            delta_retention_ms: 15_000,
            seed,
            ..Settings::default()
        };
        let mut life = Life {
            seed,
            settings,
            now_ms: 1,
            servers: Vec::new(),
            clients: Vec::new(),
            cut: BTreeSet::new(),
            messages: VecDeque::new(),
            next_number: 0,
            under_way: BTreeMap::new(),
            lossy: false,
            restored: 0,
            random,
        };
        for server in 0..servers {
            let skew_ms = life.random.below(600_000) as i64 - 300_000;
            let fresh = life.fresh(server, servers, skew_ms, Vec::new());
            life.servers.push(fresh);
        }
        for number in 0..clients {
            let server = life.random.below(servers as u64) as usize;
            let next_beat_ms = life.random.below(RENEWAL_MS);
            let skew_ms = life.random.below(120_000) as i64 - 60_000;
            life.clients.push(Client {
                id: format!("host:app{}:{number}", number % 3),
                server,
                next_beat_ms,
                dirty_ms: 0,
                skew_ms,
                status: Status::Up,
                registered: false,
                state: ClientState::Lives,
            });
        }
        life
    }

    fn fresh(&mut self, server: usize, servers: usize, skew_ms: i64, saved: Vec<u8>) -> Server {
        let now = self.time(skew_ms);
        let remembered = match saved.is_empty() {
            true => Remembered::default(),
            false => read_snapshot(&saved, now).unwrap(),
        };
        let settings = Settings { identity: self.random.below(u64::MAX), ..self.settings.clone() };
        let mut registry = Registry::new(settings, now);
        registry.restore_cancelled(&remembered, now);
        Server {
            registry,
            saved,
            remembered,
            outboxes: (0..servers).filter(|other| *other != server).map(|other| (other, outbox())).collect(),
            gives_up_ms: BTreeMap::new(),
            skew_ms,
            opens_ms: self.now_ms + OPEN_AFTER_MS,
            frozen_until_ms: 0,
            heard_ms: BTreeMap::new(),
            follower: Follower::default(),
        }
    }

    fn time(&self, skew_ms: i64) -> Now {
        Now { wall_ms: 1_700_000_000_000 + self.now_ms as i64 + skew_ms, steady_ms: 1_000_000 + self.now_ms }
    }

    fn at(&self, server: usize) -> Now {
        self.time(self.servers[server].skew_ms)
    }

    fn run(&mut self) {
        while self.now_ms < SETTLED_MS {
            self.now_ms += TICK_MS;
            if self.now_ms < FAULTS_END_MS {
                self.misfortune();
            } else if self.lossy || !self.cut.is_empty() {
                self.lossy = false;
                self.cut.clear();
            }
            for client in 0..self.clients.len() {
                self.client_acts(client);
            }
            self.deliver();
            for server in 0..self.servers.len() {
                if self.random.one_in(100) {
                    self.follow(server);
                }
            }
            for server in 0..self.servers.len() {
                if self.servers[server].frozen_until_ms <= self.now_ms {
                    self.server_acts(server);
                }
            }
        }
        self.check_agreement();
        let followed: u64 = self.servers.iter().map(|server| server.follower.followed).sum();
        let fetched: u64 = self.servers.iter().map(|server| server.follower.fetched).sum();
        assert!(followed > fetched, "seed {}: everything was fetched {fetched} times", self.seed);
    }

    fn misfortune(&mut self) {
        let servers = self.servers.len() as u64;
        let any = |random: &mut Random| random.below(servers) as usize;
        match self.random.below(4000) {
            0..=9 => {
                let (one, other) = (any(&mut self.random), any(&mut self.random));
                self.cut.insert((one.min(other), one.max(other)));
            }
            10..=19 => {
                let keep = self.random.below(2) == 0;
                let mut random = Random(self.random.below(u64::MAX));
                self.cut.retain(|_| keep && random.one_in(2));
            }
            20..=24 => self.lossy = !self.lossy,
            25..=29 => {
                let (server, ms) = (any(&mut self.random), self.random.below(60_000));
                self.servers[server].frozen_until_ms = self.now_ms + ms;
            }
            30..=32 => {
                let server = any(&mut self.random);
                self.restart(server);
            }
            53 => (0..servers as usize).for_each(|server| self.restart(server)),
            33..=37 => {
                let server = any(&mut self.random);
                self.servers[server].skew_ms += self.random.below(7_200_000) as i64 - 3_600_000;
            }
            38..=52 => self.client_changes(),
            _ => {}
        }
    }

    fn restart(&mut self, server: usize) {
        let skew_ms = self.servers[server].skew_ms;
        let follower = std::mem::take(&mut self.servers[server].follower);
        let saved = std::mem::take(&mut self.servers[server].saved);
        self.servers[server] = self.fresh(server, self.servers.len(), skew_ms, saved);
        self.servers[server].follower = follower;
        self.under_way.retain(|(from, _), _| *from != server);
        self.messages.retain(|sent| sent.from != server && sent.to != server);
    }

    /// What is known goes to the disk.
    fn save(&mut self, server: usize) {
        let now = self.at(server);
        let mut snapshot = Snapshot::new(now);
        while !self.servers[server].registry.snapshot(&mut snapshot, now) {}
        self.servers[server].saved = snapshot.finish();
    }

    fn client_changes(&mut self) {
        let number = self.random.below(self.clients.len() as u64) as usize;
        let kind = self.random.below(8);
        let client = &mut self.clients[number];
        if client.state == ClientState::Ended {
            return;
        }
        match kind {
            0 => client.state = ClientState::Ended,
            1 => {
                let (id, server) = (client.id.clone(), client.server);
                client.state = ClientState::Ended;
                self.request(server, "DELETE", &format!("/eureka/apps/{}/{id}", app(&id)), "", None);
            }
            2 | 3 => {
                client.status = if client.status == Status::Up { Status::Down } else { Status::Up };
                client.registered = false;
                client.next_beat_ms = self.now_ms;
            }
            4 => {
                let (id, server) = (client.id.clone(), self.random.below(self.servers.len() as u64) as usize);
                let path = format!("/eureka/apps/{}/{id}/status", app(&id));
                let status = Status::ALL[self.random.below(5) as usize].name();
                let (method, query) = match self.random.below(3) {
                    0 => ("DELETE", format!("value={status}")),
                    _ => ("PUT", format!("value={status}")),
                };
                self.request(server, method, &path, &query, None);
            }
            _ => client.server = self.random.below(self.servers.len() as u64) as usize,
        }
    }

    fn client_acts(&mut self, number: usize) {
        let client = &self.clients[number];
        let is_over = self.now_ms > SETTLED_MS - QUIET_MS;
        if client.state == ClientState::Ended || client.next_beat_ms > self.now_ms || is_over {
            return;
        }
        let (id, server) = (client.id.clone(), client.server);
        if self.servers[server].frozen_until_ms > self.now_ms {
            // No answer: the client turns to another server at its next heartbeat.
            let other = self.random.below(self.servers.len() as u64) as usize;
            let client = &mut self.clients[number];
            client.server = other;
            client.next_beat_ms = self.now_ms + 1000;
            return;
        }
        if self.clients[number].registered {
            let client = &self.clients[number];
            let query = format!("status={}&lastDirtyTimestamp={}", client.status.name(), client.dirty_ms);
            let answer = self.request(server, "PUT", &format!("/eureka/apps/{}/{id}", app(&id)), &query, None);
            match answer.status {
                200 => self.hear(server, &id),
                404 => self.clients[number].registered = false,
                other => panic!("seed {}: a heartbeat was answered {other}", self.seed),
            }
        }
        if !self.clients[number].registered {
            let now = self.now_ms as i64;
            let client = &mut self.clients[number];
            client.registered = true;
            client.dirty_ms = (1_700_000_000_000 + now + client.skew_ms).max(client.dirty_ms + 1);
            let body = registration(client);
            let answer = self.request(server, "POST", &format!("/eureka/apps/{}", app(&id)), "", Some(body));
            assert_eq!(answer.status, 204, "seed {}", self.seed);
            self.hear(server, &id);
        }
        self.clients[number].next_beat_ms = self.now_ms + RENEWAL_MS;
    }

    fn hear(&mut self, server: usize, id: &str) {
        let now_ms = self.now_ms;
        self.servers[server].heard_ms.insert(id.to_owned(), now_ms);
    }

    fn request(&mut self, server: usize, method: &str, path: &str, query: &str, body: Option<String>) -> Answer {
        let now = self.at(server);
        let parts = Parts {
            method,
            path,
            query,
            accept: Some("application/json"),
            content_type: body.as_ref().map(|_| "application/json"),
            wall_ms: now.wall_ms,
            ..Parts::default()
        };
        let request = rest::read(&parts).unwrap();
        let server = &mut self.servers[server];
        let asked = request.ask(body.unwrap_or_default().as_bytes(), &mut server.registry, now);
        for outbox in server.outboxes.values_mut() {
            asked.changes.iter().for_each(|change: &Change| outbox.note(change, &server.registry, now));
        }
        asked.answer()
    }

    fn server_acts(&mut self, server: usize) {
        let now = self.at(server);
        if !self.servers[server].registry.is_open() {
            self.opens(server);
        } else if self.random.one_in(100) {
            self.save(server);
        }
        self.preserves_by_the_formula(server);
        let evicted = self.servers[server].registry.advance(now);
        for (_, id) in evicted {
            if let Some(heard_ms) = self.servers[server].heard_ms.get(&*id) {
                let silent_ms = self.now_ms - heard_ms;
                assert!(
                    silent_ms > LEASE_MS,
                    "seed {}: server {server} evicted {id}, heard {silent_ms} ms ago",
                    self.seed
                );
            }
        }
        let others: Vec<usize> = self.servers[server].outboxes.keys().copied().collect();
        for other in others {
            let Server { registry, outboxes, gives_up_ms, .. } = &mut self.servers[server];
            let outbox = outboxes.get_mut(&other).unwrap();
            if self.under_way.contains_key(&(server, other)) {
                if gives_up_ms[&other] <= self.now_ms {
                    outbox.failed(Failure::Away, now);
                    self.under_way.remove(&(server, other));
                }
            } else if let Some(body) = outbox.batch(registry, now) {
                self.next_number += 1;
                let number = self.next_number;
                gives_up_ms.insert(other, self.now_ms + ANSWER_LIMIT_MS);
                self.under_way.insert((server, other), number);
                self.send(server, other, Message::Batch { number, body });
            }
        }
    }

    /// Whether leases may end is what the documented formula says.
    fn preserves_by_the_formula(&mut self, server: usize) {
        let now = self.at(server);
        let seen = self.servers[server].registry.preservation(now);
        let threshold = (seen.clients as f64 * (60_000.0 / RENEWAL_MS as f64) * 0.85) as u64;
        let evicts = !self.settings.self_preservation || (threshold > 0 && seen.renewals > threshold);
        assert_eq!((seen.threshold, seen.evicts), (threshold, evicts), "seed {}", self.seed);
    }

    fn opens(&mut self, server: usize) {
        let other = self.random.below(self.servers.len() as u64) as usize;
        let reaches =
            other != server && self.reaches(server, other) && self.servers[other].frozen_until_ms <= self.now_ms;
        let now = self.at(server);
        if reaches && self.servers[other].registry.is_open() {
            let answer = self.request(other, "GET", "/eureka/apps", "", None);
            let instances = read_applications(&answer.body.pieces.concat(), now).unwrap();
            let registry = &mut self.servers[server].registry;
            for instance in instances {
                registry.register(instance, Caller::Replica, now);
            }
            let copied = registry.len() - registry.unconfirmed();
            registry.open(copied as u64, now);
        } else if self.servers[server].opens_ms <= self.now_ms {
            let remembered = std::mem::take(&mut self.servers[server].remembered);
            let registry = &mut self.servers[server].registry;
            self.restored += registry.restore(remembered, now);
            registry.open(0, now);
        }
    }

    /// The client asks for what came since it last asked, or for everything: then it knows what the server shows.
    fn follow(&mut self, server: usize) {
        let now = self.at(server);
        if !self.servers[server].registry.shows_lists(now) {
            return;
        }
        let follower = &mut self.servers[server].follower;
        let query = follower.version.map(|version| format!("since={version}"));
        let answer = query.map(|query| self.request(server, "GET", "/eureka/apps/delta", &query, None));
        let changes = answer.filter(|answer| answer.status == 200);
        let is_all = changes.is_none();
        let answer = changes.unwrap_or_else(|| self.request(server, "GET", "/eureka/apps", "", None));
        let all = self.request(server, "GET", "/eureka/apps", "", None);
        let follower = &mut self.servers[server].follower;
        if is_all {
            follower.copy.clear();
            follower.fetched += 1;
        } else {
            follower.followed += 1;
        }
        for (id, shown, action) in shown(&answer) {
            match action == "DELETED" {
                true => drop(follower.copy.remove(&id)),
                false => drop(follower.copy.insert(id, shown)),
            }
        }
        follower.version = answer.version;
        let all: BTreeMap<String, (String, String)> =
            shown(&all).into_iter().map(|(id, shown, _)| (id, shown)).collect();
        assert_eq!(follower.copy, all, "seed {}: who follows server {server} knows something else", self.seed);
    }

    fn reaches(&self, one: usize, other: usize) -> bool {
        !self.cut.contains(&(one.min(other), one.max(other)))
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        if self.lossy && self.random.one_in(4) {
            return;
        }
        let copies = if self.lossy && self.random.one_in(4) { 2 } else { 1 };
        let message = std::rc::Rc::new(message);
        for _ in 0..copies {
            let slow = if self.random.one_in(20) { 5000 } else { 200 };
            let arrives_ms = self.now_ms + 1 + self.random.below(slow);
            let message = match &*message {
                Message::Batch { number, body } => Message::Batch { number: *number, body: body.clone() },
                Message::Answers { number, body } => Message::Answers { number: *number, body: body.clone() },
            };
            self.messages.push_back(Sent { arrives_ms, from, to, message });
        }
    }

    fn deliver(&mut self) {
        let (due, later): (VecDeque<Sent>, VecDeque<Sent>) =
            std::mem::take(&mut self.messages).into_iter().partition(|sent| sent.arrives_ms <= self.now_ms);
        self.messages = later;
        for sent in due {
            if !self.reaches(sent.from, sent.to) {
                continue;
            }
            // What arrives at a frozen server waits in its sockets.
            if self.servers[sent.to].frozen_until_ms > self.now_ms {
                self.messages.push_back(sent);
                continue;
            }
            let Sent { from, to, message, .. } = sent;
            match message {
                Message::Batch { number, body } => self.take_batch(from, to, number, body),
                Message::Answers { number, body } => {
                    if self.under_way.get(&(to, from)) == Some(&number) {
                        self.under_way.remove(&(to, from));
                        let now = self.at(to);
                        let Server { registry, outboxes, .. } = &mut self.servers[to];
                        let answers = read_answers(&body, now).unwrap();
                        outboxes.get_mut(&from).unwrap().answered(answers, registry, now);
                    }
                }
            }
        }
    }

    fn take_batch(&mut self, from: usize, to: usize, number: u64, body: Vec<u8>) {
        let now = self.at(to);
        let parts = Parts {
            method: "POST",
            path: "/eureka/peerreplication/batch/",
            accept: Some("application/json"),
            content_type: Some("application/json"),
            replication: Some("true"),
            ..Parts::default()
        };
        let request = rest::read(&parts).unwrap();
        let asked = request.ask(&body, &mut self.servers[to].registry, now);
        assert!(asked.changes.is_empty(), "seed {}: a change of a replica is passed on", self.seed);
        let answer = asked.answer();
        assert_eq!(answer.status, 200, "seed {}", self.seed);
        let answers = answer.body.pieces.concat();
        self.heard_through_batch(to, &body, &answers);
        self.send(to, from, Message::Answers { number, body: answers });
    }

    /// Heartbeats of a batch that were answered 200 keep an instance alive here.
    fn heard_through_batch(&mut self, to: usize, body: &[u8], answers: &[u8]) {
        let batch: serde_json::Value = serde_json::from_slice(body).unwrap();
        let answers: serde_json::Value = serde_json::from_slice(answers).unwrap();
        let items = batch["replicationList"].as_array().unwrap().iter();
        for (item, answer) in items.zip(answers["responseList"].as_array().unwrap()) {
            if answer["statusCode"] == 200 && item["action"] == "Heartbeat" {
                self.hear(to, item["id"].as_str().unwrap());
            }
        }
    }

    fn check_agreement(&mut self) {
        let lives = self.clients.iter().filter(|client| client.state == ClientState::Lives);
        let lives: BTreeMap<String, i64> = lives.map(|client| (client.id.clone(), client.dirty_ms)).collect();
        let mut agreed: Option<BTreeMap<String, (i64, Status, Status)>> = None;
        for (number, server) in self.servers.iter_mut().enumerate() {
            let mut shown: BTreeMap<String, (i64, Status, Status)> = BTreeMap::new();
            for application in &server.registry.applications().applications {
                for record in &application.records {
                    let instance = &record.instance;
                    let statuses = (instance.dirty_ms, instance.status, instance.overridden_status);
                    shown.insert(instance.id.to_string(), statuses);
                }
            }
            if self.settings.self_preservation {
                // Instances that ended may be shown for as long as self-preservation holds.
                shown.retain(|id, _| lives.contains_key(id));
            }
            let versions: BTreeMap<String, i64> =
                shown.iter().map(|(id, (dirty_ms, ..))| (id.clone(), *dirty_ms)).collect();
            assert_eq!(versions, lives, "seed {}: server {number} of {:?}", self.seed, self.settings);
            if !self.settings.self_preservation {
                assert_eq!(server.registry.unconfirmed(), 0, "seed {}: server {number}", self.seed);
            }
            for id in lives.keys() {
                let confirmed = !server.registry.is_unconfirmed(&app(id), id);
                assert!(confirmed, "seed {}: server {number} only remembers {id}", self.seed);
            }
            let first = agreed.get_or_insert_with(|| shown.clone());
            assert_eq!(shown, *first, "seed {}: servers {number} and 0", self.seed);
        }
    }
}

/// Of each instance in a list: the id, the version and the status, and why it is there.
fn shown(answer: &Answer) -> Vec<(String, (String, String), String)> {
    let list: serde_json::Value = serde_json::from_slice(&answer.body.pieces.concat()).unwrap();
    let applications = list["applications"]["application"].as_array().unwrap().iter();
    let instances = applications.flat_map(|application| application["instance"].as_array().unwrap());
    let text = |instance: &serde_json::Value, name: &str| instance[name].as_str().unwrap().to_owned();
    instances
        .map(|instance| {
            let says = (text(instance, "lastDirtyTimestamp"), text(instance, "status"));
            (text(instance, "instanceId"), says, text(instance, "actionType"))
        })
        .collect()
}

/// To a server of the same kind.
fn outbox() -> Outbox {
    let mut outbox = Outbox::default();
    outbox.is_our_kind(true);
    outbox
}

fn app(id: &str) -> String {
    id.split(':').nth(1).unwrap().to_uppercase()
}

fn registration(client: &Client) -> String {
    format!(
        "{{\"instance\":{{\"instanceId\":\"{}\",\"hostName\":\"host\",\"app\":\"{}\",\"ipAddr\":\"127.0.0.1\",\"status\":\"{}\",\
         \"dataCenterInfo\":{{\"@class\":\"com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo\",\"name\":\"MyOwn\"}},\
         \"leaseInfo\":{{\"renewalIntervalInSecs\":{},\"durationInSecs\":{}}},\"lastDirtyTimestamp\":\"{}\"}}}}",
        client.id,
        app(&client.id),
        client.status.name(),
        RENEWAL_MS / 1000,
        LEASE_MS / 1000,
        client.dirty_ms
    )
}

#[test]
fn registries_agree_after_whatever_happened() {
    let lives = std::env::var("REGISTRY_LIVES").unwrap_or_else(|_| "0..30".to_owned());
    let (from, to) = lives.split_once("..").expect("REGISTRY_LIVES is A..B");
    let mut restored = 0;
    for seed in from.parse().unwrap()..to.parse().unwrap() {
        let mut life = Life::new(seed);
        life.run();
        restored += life.restored;
    }
    assert!(restored > 0, "no life began with what was on the disk");
}
