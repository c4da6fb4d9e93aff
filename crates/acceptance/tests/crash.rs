//! The server is killed at random points under a pipelined load, again and again. After each restart every acknowledged
//! write is there, each connection's writes form a prefix of what it sent, and no transaction is half there.
//!
//! `ROOKEEPER_CRASHES` sets how often; `ROOKEEPER_SEED` repeats a run (as far as the scheduler allows).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rookeeper_acceptance::client::{Client, DEADLINE, Session, create_body, server_zxid};
use rookeeper_acceptance::random::Random;
use rookeeper_acceptance::server::{Product, Server, Setup};
use rookeeper_acceptance::wire::{self, Acl, Body};

const DEFAULT_CRASHES: u64 = 500;
const CONNECTIONS: usize = 3;
/// Requests in flight per connection.
const WINDOW: usize = 64;
/// The server is killed after a random number of answers below this.
const MOST_ANSWERS: u64 = 600;
const PLAIN_NODES: u64 = 8;
const MOST_SEQUENTIAL_NODES: usize = 20;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    data: String,
    version: i32,
    ephemeral: bool,
}

impl Node {
    fn new(data: &str, ephemeral: bool) -> Node {
        Node { data: data.to_owned(), version: 0, ephemeral }
    }
}

/// What one connection's subtree must look like.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Model {
    base: String,
    nodes: BTreeMap<String, Node>,
    /// How many sequential nodes were ever created.
    sequence: u32,
}

#[derive(Debug, Clone)]
enum Operation {
    Create {
        name: String,
        ephemeral: bool,
    },
    SetData {
        name: String,
    },
    Delete {
        name: String,
    },
    CreateSequential {
        ephemeral: bool,
    },
    /// Sets left and right to the same value, creates a sequential node, deletes the oldest one.
    Multi {
        oldest: Option<String>,
    },
    /// Begins like `Multi` and fails at its end.
    FailingMulti,
}

impl Model {
    fn new(number: usize) -> Model {
        let fixed = ["left", "right"].map(|name| (name.to_owned(), Node::new("", false)));
        Model { base: format!("/c{number}"), nodes: BTreeMap::from(fixed), sequence: 0 }
    }

    fn build(&self, client: &mut Client) -> Result<()> {
        for path in ["", "/left", "/right", "/s"] {
            client.create(&format!("{}{path}", self.base), b"")?;
        }
        Ok(())
    }

    fn sequential_nodes(&self) -> impl Iterator<Item = &String> {
        self.nodes.keys().filter(|name| name.starts_with("s/"))
    }

    fn choose(&self, random: &mut Random) -> Operation {
        let name = format!("n{}", random.below(PLAIN_NODES));
        let oldest = self.sequential_nodes().next().cloned();
        if self.sequential_nodes().count() >= MOST_SEQUENTIAL_NODES {
            return Operation::Delete { name: oldest.expect("there are many") };
        }
        match random.below(10) {
            0 | 1 => Operation::Create { name, ephemeral: random.below(3) == 0 },
            2..=4 => Operation::SetData { name },
            5 => Operation::Delete { name },
            6 => Operation::CreateSequential { ephemeral: random.below(3) == 0 },
            7 | 8 => Operation::Multi { oldest },
            _ => Operation::FailingMulti,
        }
    }

    fn encode(&self, operation: &Operation, value: &str) -> (i32, Body) {
        let path = |name: &str| format!("{}/{name}", self.base);
        let create = |name: &str, flags| create_body(&path(name), Some(value.as_bytes()), &Acl::open(), flags);
        let set = |name: &str| Body::new().string(&path(name)).buffer(Some(value.as_bytes())).int(-1);
        let delete = |name: &str| Body::new().string(&path(name)).int(-1);
        match operation {
            Operation::Create { name, ephemeral } => (wire::CREATE, create(name, i32::from(*ephemeral))),
            Operation::SetData { name } => (wire::SET_DATA, set(name)),
            Operation::Delete { name } => (wire::DELETE, delete(name)),
            Operation::CreateSequential { ephemeral } => (wire::CREATE, create("s/q-", 2 + i32::from(*ephemeral))),
            Operation::Multi { oldest } => {
                let mut body = Body::new()
                    .member(wire::SET_DATA, set("left"))
                    .member(wire::CREATE, create("s/q-", 2))
                    .member(wire::SET_DATA, set("right"));
                if let Some(name) = oldest {
                    body = body.member(wire::DELETE, delete(name));
                }
                (wire::MULTI, body.end_of_multi())
            }
            Operation::FailingMulti => {
                let body = Body::new()
                    .member(wire::SET_DATA, set("left"))
                    .member(wire::CREATE, create("s/q-", 2))
                    .member(wire::CHECK, Body::new().string(&path("right")).int(i32::MAX));
                (wire::MULTI, body.end_of_multi())
            }
        }
    }

    /// Does what the server must do; true if it succeeds. A failed multi is answered with success around its errors.
    fn apply(&mut self, operation: &Operation, value: &str) -> bool {
        match operation {
            Operation::Create { name, ephemeral } => {
                let absent = !self.nodes.contains_key(name);
                if absent {
                    self.nodes.insert(name.clone(), Node::new(value, *ephemeral));
                }
                absent
            }
            Operation::SetData { name } => self.set(name, value),
            Operation::Delete { name } => self.nodes.remove(name).is_some(),
            Operation::CreateSequential { ephemeral } => {
                self.create_sequential(value, *ephemeral);
                true
            }
            Operation::Multi { oldest } => {
                // The node may have been an ephemeral one of a session that is gone.
                if oldest.as_ref().is_none_or(|name| self.nodes.contains_key(name)) {
                    self.set("left", value);
                    self.set("right", value);
                    self.create_sequential(value, false);
                    oldest.as_ref().map(|name| self.nodes.remove(name));
                }
                true
            }
            Operation::FailingMulti => true,
        }
    }

    fn set(&mut self, name: &str, value: &str) -> bool {
        let node = self.nodes.get_mut(name);
        let found = node.is_some();
        if let Some(node) = node {
            node.data = value.to_owned();
            node.version += 1;
        }
        found
    }

    fn create_sequential(&mut self, value: &str, ephemeral: bool) {
        self.nodes.insert(format!("s/q-{:010}", self.sequence), Node::new(value, ephemeral));
        self.sequence += 1;
    }

    /// The subtree as the server has it, with the number of sequential nodes that were ever created.
    fn observe(&self, client: &mut Client, session_id: i64) -> Result<Model> {
        let mut nodes = BTreeMap::new();
        let mut names = client.children(&self.base)?;
        names.retain(|name| name != "s");
        names.extend(client.children(&format!("{}/s", self.base))?.into_iter().map(|name| format!("s/{name}")));
        for name in names {
            let (data, stat) = client.get_data(&format!("{}/{name}", self.base)).with_context(|| name.clone())?;
            ensure!([0, session_id].contains(&stat.ephemeral_owner), "{name} belongs to {:x}", stat.ephemeral_owner);
            let node = Node {
                data: String::from_utf8(data.unwrap_or_default())?,
                version: stat.version,
                ephemeral: stat.ephemeral_owner != 0,
            };
            nodes.insert(name, node);
        }
        let stat = client.exists(&format!("{}/s", self.base))?.context("the parent of the sequential nodes")?;
        // The visible version counts creations and deletions: c + (c - children).
        let sequence = (stat.cversion + stat.num_children) as u32 / 2;
        Ok(Model { base: self.base.clone(), nodes, sequence })
    }
}

/// One connection: what it knows to be there, and what it has sent since.
struct Writer {
    model: Model,
    session: Session,
    random: Random,
    /// Sent since the model was last compared, in order, with the value written.
    sent: Vec<(Operation, String)>,
    acknowledged: usize,
    last_zxid: i64,
    counter: u64,
}

impl Writer {
    /// Keeps the pipeline full until the server is gone.
    fn load(&mut self, mut client: Client, answers: &AtomicU64) -> Result<()> {
        let mut sent_model = self.model.clone();
        let mut expected = Vec::new();
        loop {
            while self.sent.len() - self.acknowledged < WINDOW {
                self.counter += 1;
                let value = self.counter.to_string();
                let operation = sent_model.choose(&mut self.random);
                let (opcode, body) = sent_model.encode(&operation, &value);
                expected.push(sent_model.apply(&operation, &value));
                self.sent.push((operation, value));
                if client.send(opcode, &body).is_err() {
                    // The request may have been read all the same.
                    break;
                }
            }
            let Some(reply) = client.receive_any()? else { return Ok(()) };
            let (operation, _) = &self.sent[self.acknowledged];
            ensure!(
                (reply.error == 0) == expected[self.acknowledged],
                "{operation:?} was answered with {}: request {} of this round",
                reply.error,
                self.acknowledged
            );
            ensure!(reply.zxid > self.last_zxid, "zxid 0x{:x} after 0x{:x}", reply.zxid, self.last_zxid);
            self.last_zxid = reply.zxid;
            self.acknowledged += 1;
            answers.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Finds the prefix of what was sent that the server has, which must hold all that was acknowledged.
    fn compare(&mut self, client: &mut Client) -> Result<()> {
        let observed = self.model.observe(client, self.session.id)?;
        let mut model = self.model.clone();
        let mut found = None;
        for (done, (operation, value)) in self.sent.iter().enumerate() {
            if done >= self.acknowledged && model == observed {
                found = Some(model.clone());
                break;
            }
            model.apply(operation, value);
        }
        let model = found.unwrap_or(model);
        ensure!(
            model == observed,
            "after {} of {} requests acknowledged, {} has\n{observed:#?}\nand not, with all that was sent,\n{model:#?}",
            self.acknowledged,
            self.sent.len(),
            self.model.base
        );
        self.model = model;
        self.sent.clear();
        self.acknowledged = 0;
        Ok(())
    }

    /// A session that was acknowledged is still there; sometimes it is closed and a new one takes its place.
    fn resume(&mut self, address: SocketAddr, observer: &mut Client) -> Result<Client> {
        let client = Client::resume(address, &self.session)?;
        ensure!(client.session.id == self.session.id, "session {:x} is gone", self.session.id);
        if self.random.below(4) != 0 {
            return Ok(client);
        }
        client.close()?;
        self.model.nodes.retain(|_, node| !node.ephemeral);
        self.compare(observer).context("after closing the session")?;
        let client = Client::connect(address)?;
        self.session = client.session.clone();
        Ok(client)
    }
}

fn crash(server: &mut Server, writers: Vec<Writer>, clients: Vec<Client>, answers_before: u64) -> Result<Vec<Writer>> {
    let answers = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = writers
        .into_iter()
        .zip(clients)
        .map(|(mut writer, client)| {
            let answers = answers.clone();
            thread::spawn(move || {
                let result = writer.load(client, &answers);
                (writer, result)
            })
        })
        .collect();
    let until = Instant::now() + DEADLINE;
    while answers.load(Ordering::Relaxed) < answers_before && !threads.iter().any(thread::JoinHandle::is_finished) {
        ensure!(Instant::now() < until, "the server answers too slowly:\n{}", server.log());
        thread::sleep(Duration::from_micros(100));
    }
    server.kill()?;
    let mut writers = Vec::new();
    for thread in threads {
        let (writer, result) = thread.join().expect("a writer panicked");
        result.with_context(|| writer.model.base.clone())?;
        writers.push(writer);
    }
    Ok(writers)
}

fn run(crashes: u64) -> Result<(u64, u64)> {
    let mut random = Random::from_environment("crash");
    // Small enough that logs roll and snapshots are taken all the time.
    let settings = |setup: Setup| setup.config("snapCount", "300").property("-Dzookeeper.snapCount=300");
    let mut server = settings(Setup::new()).start()?;
    let (mut writers, mut clients) = (Vec::new(), Vec::new());
    for number in 0..CONNECTIONS {
        let mut client = Client::connect(server.address())?;
        let model = Model::new(number);
        model.build(&mut client)?;
        writers.push(Writer {
            model,
            session: client.session.clone(),
            random: random.branch(),
            sent: Vec::new(),
            acknowledged: 0,
            last_zxid: 0,
            counter: 0,
        });
        clients.push(client);
    }
    let (mut acknowledged, mut uncertain) = (0, 0);
    for round in 1..=crashes {
        writers = crash(&mut server, writers, clients, random.below(MOST_ANSWERS))?;
        server.restart()?;
        let context = || format!("after crash {round} of {crashes}");
        let zxid = server_zxid(server.address())?;
        let mut observer = Client::connect(server.address())?;
        clients = Vec::new();
        for writer in &mut writers {
            acknowledged += writer.acknowledged as u64;
            uncertain += (writer.sent.len() - writer.acknowledged) as u64;
            ensure!(zxid >= writer.last_zxid, "zxid 0x{zxid:x} after 0x{:x} {}", writer.last_zxid, context());
            writer.compare(&mut observer).with_context(context)?;
            clients.push(writer.resume(server.address(), &mut observer).with_context(context)?);
        }
        observer.close()?;
    }
    drop(clients);
    server.kill()?;
    let original = settings(Setup::of(Product::Apache)).data_dir(&server.data_dir()).start().context("the original")?;
    let mut observer = Client::connect(original.address())?;
    for writer in &mut writers {
        writer.compare(&mut observer).context("as the original sees it")?;
    }
    Ok((acknowledged, uncertain))
}

#[test]
fn killed_under_load() {
    let crashes = match std::env::var("ROOKEEPER_CRASHES") {
        Ok(text) => text.parse().expect("ROOKEEPER_CRASHES is a number"),
        Err(_) => DEFAULT_CRASHES,
    };
    let (acknowledged, uncertain) = run(crashes).unwrap_or_else(|error| panic!("{error:#}"));
    println!("{crashes} crashes, {acknowledged} acknowledged writes found again, {uncertain} in flight");
    assert!(acknowledged > 0, "nothing was written");
}
