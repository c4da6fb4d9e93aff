//! Three to seven registries with clients of their own: partitions, lost and doubled messages, requests and answers, clocks that are wrong and jump,
//! restarts, servers that stand still, instances that crash, move and end.
//!
//! Checked in each life, besides what must hold of each registry (`expectations.rs`): every registry answers, whatever the others do, and shows all that it
//! heard within a lease; after the last fault all registries agree, within a bound, on every instance that lives, and none shows an instance that ended; an
//! instance that was cancelled is nowhere for longer than the original allows, where no server is restarted or stands still.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use rookeeper_proto::random::Random;
use rookeeper_registry::encoding::{Remembered, read_answers, read_applications, read_snapshot};
use rookeeper_registry::outbox::{Failure, Outbox};
use rookeeper_registry::rest::{self, Answer, Change, Parts, Version};
use rookeeper_registry::{Caller, Now, Registry, Settings, Snapshot, Status};

use super::expectations::Expectations;

const TICK_MS: u64 = 50;
const FAULTS_END_MS: u64 = 600_000;
/// How long after the last fault everything may take: a heartbeat, the longest pause of a sender, a lease that ends, an eviction.
const SETTLED_MS: u64 = FAULTS_END_MS + 30_000 + 16_000 + 4 * LEASE_MS + 60_000;
/// Clients say nothing any more for this long before the end: an instance whose status is unknown registers anew at each heartbeat.
const QUIET_MS: u64 = 15_000;
pub const RENEWAL_MS: u64 = 10_000;
pub const LEASE_MS: u64 = 30_000;
const ANSWER_LIMIT_MS: u64 = 10_000;
const OPEN_AFTER_MS: u64 = 30_000;
/// How long a cancelled instance may be shown by a server that did not hear of the cancel. A heartbeat is sent for as long as a renewal's interval, and takes a while;
/// then the lease lasts for two durations, and a run of evictions follows. As long as that a registration may be under way from there to yet another server.
const LINGERS_MS: u64 = RENEWAL_MS + 5000 + 2 * LEASE_MS + 15_000 + LEASE_MS + 15_000;

struct Server {
    registry: Registry,
    outboxes: BTreeMap<usize, Outbox>,
    /// When the outbox to a server gives up on its batch.
    gives_up_ms: BTreeMap<usize, u64>,
    /// How wrong the wall clock is.
    skew_ms: i64,
    opens_ms: u64,
    frozen_until_ms: u64,
    expected: Expectations,
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
    /// When a server took its cancel.
    cancelled_ms: Option<u64>,
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
    /// No server is restarted or stands still, and leases end however many do at once.
    is_steady: bool,
    /// Application and id of each instance.
    all: Rc<Vec<(String, String)>>,
    seen: Seen,
}

/// What happened, so that a test knows that it did.
#[derive(Debug, Default)]
struct Seen {
    restored: usize,
    /// Cancelled instances that a server still shows: for how long after the cancel, at most.
    lingered_ms: u64,
    /// Registrations of cancelled instances that were kept out.
    kept_out: u64,
    evicted: usize,
    preserved: usize,
    lost_requests: usize,
}

impl Life {
    fn new(seed: u64) -> Life {
        let mut random = Random::new(seed);
        let servers = 3 + random.below(5) as usize;
        let clients = 3 + random.below(20) as usize;
        let is_steady = seed.is_multiple_of(3);
        let settings = Settings {
            self_preservation: random.one_in(3) && !is_steady,
            expected_renewal_s: (RENEWAL_MS / 1000) as u32,
            eviction_interval_ms: 5000 + random.below(10_000),
            remembers_cancelled: true,
            // So short that some who follow the changes fall behind.
            delta_retention_ms: 15_000,
            seed,
            ..Settings::default()
        };
        let id = |number| format!("host:app{}:{number}", number % 3);
        let all = Rc::new((0..clients).map(id).map(|id| (app(&id), id)).collect());
        let mut life = Life {
            seed,
            is_steady,
            all,
            seen: Seen::default(),
            settings,
            now_ms: 1,
            servers: Vec::new(),
            clients: Vec::new(),
            cut: BTreeSet::new(),
            messages: VecDeque::new(),
            next_number: 0,
            under_way: BTreeMap::new(),
            lossy: false,
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
                id: id(number),
                server,
                next_beat_ms,
                dirty_ms: 0,
                skew_ms,
                status: Status::Up,
                registered: false,
                state: ClientState::Lives,
                cancelled_ms: None,
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
            expected: Expectations::new(self.all.clone(), &self.settings, self.now_ms),
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
                if self.random.one_in(200) {
                    self.look(server);
                }
            }
            if self.is_steady {
                self.cancelled_are_gone();
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
            25..=32 | 53 if self.is_steady => {}
            0..=9 => {
                let (one, other) = (any(&mut self.random), any(&mut self.random));
                self.cut.insert((one.min(other), one.max(other)));
            }
            10..=19 => {
                let keep = self.random.below(2) == 0;
                let mut random = Random::new(self.random.below(u64::MAX));
                self.cut.retain(|_| keep && random.one_in(2));
            }
            20..=24 => self.lossy = !self.lossy,
            25..=29 => {
                let (server, ms) = (any(&mut self.random), self.random.below(180_000));
                self.servers[server].frozen_until_ms = (self.now_ms + ms).min(FAULTS_END_MS);
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
                if self.stands_still(server) {
                    // It leaves without having told anybody.
                    return;
                }
                let known = self.servers[server].registry.record(&app(&id), &id);
                let answer = self.request(server, "DELETE", &format!("/eureka/apps/{}/{id}", app(&id)), "", None);
                assert_eq!(answer.status, if known.is_some() { 200 } else { 404 });
                if let Some(known) = known {
                    self.clients[number].cancelled_ms = Some(self.now_ms);
                    self.servers[server].expected.cancelled(&id, known.instance.dirty_ms, self.now_ms);
                }
            }
            2 | 3 => {
                client.status = if client.status == Status::Up { Status::Down } else { Status::Up };
                client.registered = false;
                client.next_beat_ms = self.now_ms;
            }
            4 => {
                let (id, server) = (client.id.clone(), self.random.below(self.servers.len() as u64) as usize);
                if self.stands_still(server) {
                    return;
                }
                let path = format!("/eureka/apps/{}/{id}/status", app(&id));
                let status = Status::ALL[self.random.below(5) as usize].name();
                let (method, query) = match self.random.below(3) {
                    0 => ("DELETE", format!("value={status}")),
                    _ => ("PUT", format!("value={status}")),
                };
                if self.request(server, method, &path, &query, None).status == 200 {
                    self.servers[server].expected.renewed(&id, self.now_ms);
                }
            }
            5 => client.skew_ms += self.random.below(120_000) as i64,
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
        let is_lost = self.lossy && self.random.one_in(8);
        self.seen.lost_requests += usize::from(is_lost);
        let times = if self.lossy && self.random.one_in(8) { 2 } else { 1 };
        if is_lost || self.stands_still(server) {
            // No answer: the client turns to another server at its next heartbeat. The request may have been taken all the same.
            if is_lost && !self.stands_still(server) && self.random.one_in(2) {
                let (status, is_heard) = self.beats(number);
                self.hears(server, &id, status, is_heard);
            }
            let other = self.random.below(self.servers.len() as u64) as usize;
            let client = &mut self.clients[number];
            client.server = other;
            client.next_beat_ms = self.now_ms + 1000;
            return;
        }
        if self.clients[number].registered {
            for _ in 0..times {
                let (status, is_heard) = self.beats(number);
                self.hears(server, &id, status, is_heard);
                match status {
                    200 => {}
                    404 => self.clients[number].registered = false,
                    other => panic!("a heartbeat was answered {other}"),
                }
            }
        }
        if !self.clients[number].registered {
            let now = self.now_ms as i64;
            let client = &mut self.clients[number];
            client.registered = true;
            client.dirty_ms = (1_700_000_000_000 + now + client.skew_ms).max(client.dirty_ms + 1);
            let body = registration(client);
            for _ in 0..times {
                let answer =
                    self.request(server, "POST", &format!("/eureka/apps/{}", app(&id)), "", Some(body.clone()));
                assert_eq!(answer.status, 204);
                self.servers[server].expected.registered(&id, self.now_ms);
            }
            // Who has registered is there at once.
            let answer = self.request(server, "GET", &format!("/eureka/apps/{}/{id}", app(&id)), "", None);
            assert_eq!(answer.status, 200, "{id} has just registered at server {server}");
        }
        self.clients[number].next_beat_ms = self.now_ms + RENEWAL_MS;
    }

    fn stands_still(&self, server: usize) -> bool {
        self.servers[server].frozen_until_ms > self.now_ms
    }

    /// A heartbeat of a client at its server: the status of the answer, and whether the server had to know the client.
    fn beats(&mut self, number: usize) -> (u16, bool) {
        let client = &self.clients[number];
        let (server, id) = (client.server, client.id.clone());
        let query = format!("status={}&lastDirtyTimestamp={}", client.status.name(), client.dirty_ms);
        let is_heard = self.servers[server].registry.record(&app(&id), &id).is_some();
        let answer = self.request(server, "PUT", &format!("/eureka/apps/{}/{id}", app(&id)), &query, None);
        (answer.status, is_heard)
    }

    /// What follows for a server that was sent a heartbeat.
    fn hears(&mut self, server: usize, id: &str, status: u16, is_there: bool) {
        let expected = &mut self.servers[server].expected;
        assert!(is_there || !expected.must_have(id, self.now_ms), "server {server} has forgotten {id}");
        if status == 200 {
            expected.renewed(id, self.now_ms);
        }
    }

    /// A reader asks one server, which answers whatever the others do.
    fn look(&mut self, server: usize) {
        if self.stands_still(server) {
            return;
        }
        let (now, now_ms) = (self.at(server), self.now_ms);
        let list = self.request(server, "GET", "/eureka/apps", "", None);
        let may_show = self.servers[server].registry.shows_lists(now);
        assert_eq!(list.status, if may_show { 200 } else { 403 }, "server {server}");
        let shown: Option<BTreeSet<String>> = may_show.then(|| shown(&list).into_iter().map(|(id, ..)| id).collect());
        let musts: Vec<String> = self.servers[server].expected.musts(now_ms).cloned().collect();
        for id in musts {
            let is_shown = shown.as_ref().is_none_or(|shown| shown.contains(&id));
            assert!(is_shown, "server {server} does not show {id}, which it heard within its lease");
            let answer = self.request(server, "GET", &format!("/eureka/apps/{}/{id}", app(&id)), "", None);
            assert_eq!(answer.status, 200, "{id} at server {server}");
        }
    }

    /// Where a cancel did not come through, an instance stays until its lease ends.
    fn cancelled_are_gone(&mut self) {
        for client in &self.clients {
            let Some(cancelled_ms) = client.cancelled_ms else { continue };
            let after_ms = self.now_ms - cancelled_ms;
            let is_shown = |server: &Server| server.registry.record(&app(&client.id), &client.id).is_some();
            if self.servers.iter().any(is_shown) {
                self.seen.lingered_ms = self.seen.lingered_ms.max(after_ms);
                assert!(after_ms <= LINGERS_MS, "{} is shown {after_ms} ms after its cancel", client.id);
            }
        }
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
        let asked = request.with_body(body.unwrap_or_default().as_bytes(), now).ask(&mut server.registry, now);
        server.expected.look(&mut server.registry, now, self.now_ms);
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
        let Server { registry, expected, .. } = &mut self.servers[server];
        expected.look(registry, now, self.now_ms);
        let evicts = expected.evicts(registry, &self.settings, now);
        self.seen.preserved += usize::from(!evicts);
        let due_ms = registry.next_eviction_ms().unwrap_or(now.steady_ms);
        let (size, late_ms) = (registry.len(), now.steady_ms.saturating_sub(due_ms));
        let evicted: Vec<String> = registry.advance(now).into_iter().map(|(_, id)| id.to_string()).collect();
        self.seen.evicted += evicted.len();
        expected.ended(&evicted, evicts, size, late_ms, &self.settings, self.now_ms);
        expected.look(registry, now, self.now_ms);
        let others: Vec<usize> = self.servers[server].outboxes.keys().copied().collect();
        for other in others {
            let Server { registry, outboxes, gives_up_ms, .. } = &mut self.servers[server];
            let outbox = outboxes.get_mut(&other).unwrap();
            if self.under_way.contains_key(&(server, other)) {
                if gives_up_ms[&other] <= self.now_ms {
                    outbox.failed(Failure::Away, now);
                    self.under_way.remove(&(server, other));
                }
            } else if let Some(batch) = outbox.batch(registry, now) {
                self.next_number += 1;
                let number = self.next_number;
                gives_up_ms.insert(other, self.now_ms + ANSWER_LIMIT_MS);
                self.under_way.insert((server, other), number);
                self.send(server, other, Message::Batch { number, body: batch.write() });
            }
        }
    }

    fn opens(&mut self, server: usize) {
        let other = self.random.below(self.servers.len() as u64) as usize;
        let reaches =
            other != server && self.reaches(server, other) && self.servers[other].frozen_until_ms <= self.now_ms;
        let now = self.at(server);
        if reaches && self.servers[other].registry.is_open() {
            let answer = self.request(other, "GET", "/eureka/apps", "", None);
            let instances = read_applications(&answer.body.pieces.concat(), now).unwrap();
            let Server { registry, expected, .. } = &mut self.servers[server];
            for instance in instances {
                let id = instance.id.to_string();
                registry.register(instance, Caller::Replica, now);
                if registry.record(&app(&id), &id).is_some() {
                    expected.registered(&id, self.now_ms);
                }
            }
            let copied = (registry.len() - registry.unconfirmed()) as u64;
            registry.open(copied, now);
            expected.opened(copied, registry, &self.settings, self.now_ms);
        } else if self.servers[server].opens_ms <= self.now_ms {
            let mut remembered = std::mem::take(&mut self.servers[server].remembered);
            let Server { registry, expected, .. } = &mut self.servers[server];
            while !remembered.instances.is_empty() {
                self.seen.restored += registry.restore(&mut remembered, now);
            }
            registry.open(0, now);
            expected.opened(0, registry, &self.settings, self.now_ms);
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
                        let Server { registry, outboxes, expected, .. } = &mut self.servers[to];
                        let answers = read_answers(&body, now).unwrap();
                        let told = answers.iter().filter_map(|answer| answer.instance.as_ref());
                        let told: Vec<String> = told.map(|instance| instance.id.to_string()).collect();
                        outboxes.get_mut(&from).unwrap().answered(answers, registry, now);
                        // What was cancelled here is not taken.
                        for id in told.iter().filter(|id| registry.record(&app(id), id).is_some()) {
                            expected.registered(id, self.now_ms);
                        }
                        expected.look(registry, now, self.now_ms);
                    }
                }
            }
        }
    }

    fn take_batch(&mut self, from: usize, to: usize, number: u64, body: Vec<u8>) {
        let now = self.at(to);
        let request = rest::read(&Parts::BATCH).unwrap();
        let known = |(app, id): &(String, String)| {
            self.servers[to].registry.record(app, id).map(|record| (id.clone(), record.instance.dirty_ms))
        };
        let before = self.all.iter().filter_map(known).collect();
        let asked = request.with_body(&body, now).ask(&mut self.servers[to].registry, now);
        let kept_out = self.servers[to].registry.tally().kept_out;
        self.seen.kept_out = self.seen.kept_out.max(kept_out);
        assert!(asked.changes.is_empty(), "seed {}: a change of a replica is passed on", self.seed);
        let answer = asked.answer();
        assert_eq!(answer.status, 200, "seed {}", self.seed);
        let answers = answer.body.pieces.concat();
        self.heard_through_batch(to, &before, &body, &answers);
        let Server { registry, expected, .. } = &mut self.servers[to];
        expected.look(registry, now, self.now_ms);
        self.send(to, from, Message::Answers { number, body: answers });
    }

    /// What follows from a batch and its answers for the leases here. `before`: the versions that were here.
    fn heard_through_batch(&mut self, to: usize, before: &BTreeMap<String, i64>, body: &[u8], answers: &[u8]) {
        let batch: serde_json::Value = serde_json::from_slice(body).unwrap();
        let answers: serde_json::Value = serde_json::from_slice(answers).unwrap();
        let items = batch["replicationList"].as_array().unwrap().iter();
        for (item, answer) in items.zip(answers["responseList"].as_array().unwrap()) {
            let id = item["id"].as_str().unwrap();
            let Server { registry, expected, .. } = &mut self.servers[to];
            match (item["action"].as_str().unwrap(), answer["statusCode"].as_u64().unwrap()) {
                ("Heartbeat", 200 | 409) => expected.renewed(id, self.now_ms),
                // The answer does not tell whether it was taken.
                ("Register", _) if registry.record(&app(id), id).is_some() => {
                    expected.registered(id, self.now_ms);
                }
                ("Cancel", 200) => {
                    expected.cancelled(id, before.get(id).copied().unwrap_or_default(), self.now_ms);
                }
                _ => {}
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
    let mut all = Seen::default();
    let seeds = super::seeds(0..30);
    let is_enough = seeds.end - seeds.start >= 30;
    for seed in seeds {
        let Seen { restored, lingered_ms, kept_out, evicted, preserved, lost_requests } = live(seed);
        all.restored += restored;
        all.lingered_ms = all.lingered_ms.max(lingered_ms);
        all.kept_out += kept_out;
        all.evicted += evicted;
        all.preserved += preserved;
        all.lost_requests += lost_requests;
    }
    println!("{all:?}");
    if !is_enough {
        return;
    }
    // What is never seen was never tried.
    assert!(
        all.restored > 0 && all.kept_out > 0 && all.evicted > 0 && all.preserved > 0 && all.lost_requests > 0,
        "{all:?}"
    );
    assert!(all.lingered_ms > 2 * LEASE_MS, "{all:?}");
}

fn live(seed: u64) -> Seen {
    let mut life = Life::new(seed);
    let lived = catch_unwind(AssertUnwindSafe(|| life.run()));
    assert!(lived.is_ok(), "seed {seed} failed at {} ms", life.now_ms);
    life.seen
}

/// 2094, 3052: an override that was noted for a server behind a cut, and was replaced by the word of another one meanwhile, was told with the time of that word.
#[test]
fn lives_that_once_failed() {
    for seed in [2094, 3052] {
        live(seed);
    }
}
