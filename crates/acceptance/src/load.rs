//! Clients that write and read all the time, through whatever happens to the servers, and record what they saw.
//!
//! Each has one session, which goes on at another server when its own is gone. A session that expires is a failure of the test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::client::{Client, Reply, create_body, refusal};
use crate::history::{Event, History, NEVER_NS, Operation, Outcome, Place};
use crate::linearizable::Register;
use crate::random::Random;
use crate::roving::{Answer, RovingClient};
use crate::wire::{self, Acl, Body, Fields};

pub const SEQUENCE: &str = "/load/sequence";
const PROCESSES: usize = 4;
pub const KEYS: usize = 4;
/// Between two operations of a client: the load is there to see, not to be heavy.
const PAUSE: Duration = Duration::from_millis(3);
const PROGRESS_DEADLINE: Duration = Duration::from_secs(60);
/// Longer than any wait of a test: how fast the machine is decides nothing.
const SESSION_TIMEOUT_MS: i32 = 60_000;

pub fn key_path(key: usize) -> String {
    format!("/load/key-{key}")
}

#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    workers: Vec<JoinHandle<Result<Vec<Event>>>>,
    /// What further clients have seen.
    others: Vec<Event>,
    epoch: Instant,
}

/// A read that was asked of a server which cannot answer yet.
#[derive(Debug)]
pub struct AskedAhead {
    client: Client,
    key: usize,
    invoked_ns: u64,
}

impl Load {
    /// Creates the nodes and starts the clients, spread over the servers.
    pub fn start(addresses: &[SocketAddr], random: &mut Random) -> Result<Load> {
        let mut client = Client::connect(addresses[0])?;
        for path in ["/load".to_owned(), SEQUENCE.to_owned()].into_iter().chain((0..KEYS).map(key_path)) {
            let created = client.create(&path, b"0");
            if refusal(&created) != Some(wire::NODE_EXISTS) {
                created?;
            }
        }
        client.close()?;
        let mut load = Load {
            stop: Arc::default(),
            acknowledged: Arc::default(),
            workers: Vec::new(),
            others: Vec::new(),
            epoch: Instant::now(),
        };
        for process in 0..PROCESSES {
            let mut worker = Worker {
                process,
                client: RovingClient::new(addresses, process, SESSION_TIMEOUT_MS),
                random: random.branch(),
                stop: load.stop.clone(),
                acknowledged: load.acknowledged.clone(),
                epoch: load.epoch,
                next_value: (process as u64 + 1) * 1_000_000_000,
                versions: [0; KEYS],
                events: Vec::new(),
            };
            load.workers.push(thread::spawn(move || worker.run()));
        }
        load.wait_progress()?;
        Ok(load)
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until fifty more writes have succeeded: the ensemble serves.
    pub fn wait_progress(&self) -> Result<()> {
        let goal = self.acknowledged() + 50;
        let until = Instant::now() + PROGRESS_DEADLINE;
        while self.acknowledged() < goal {
            if let Some(index) = self.workers.iter().position(JoinHandle::is_finished) {
                bail!("client {index} has given up; its error is told when the load is stopped");
            }
            if Instant::now() > until {
                bail!("no fifty writes in {PROGRESS_DEADLINE:?}");
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Sends a `sync` and a read to a server that is frozen: both are the first that it finds when it is thawed.
    pub fn ask_ahead(&self, mut client: Client, key: usize) -> Result<AskedAhead> {
        let invoked_ns = self.epoch.elapsed().as_nanos() as u64;
        client.send(wire::SYNC, &Body::new().string("/load"))?;
        client.send(wire::GET_DATA, &Body::new().string(&key_path(key)).bool(false))?;
        Ok(AskedAhead { client, key, invoked_ns })
    }

    /// The answers, if any come before the connection ends, are judged like those of the other clients.
    pub fn take_answer(&mut self, asked: AskedAhead) -> Result<()> {
        let AskedAhead { mut client, key, invoked_ns } = asked;
        let Ok(sync) = client.receive() else { return Ok(()) };
        let Ok(read) = client.receive() else { return Ok(()) };
        if sync.error != 0 || read.error != 0 {
            return Ok(());
        }
        let completed_ns = self.epoch.elapsed().as_nanos() as u64;
        let mut fields = Fields(&read.body);
        let value = number(fields.buffer()?)?;
        let stat = fields.stat()?;
        println!("asked ahead: version {} of key {key} after 0x{:x}", stat.version, sync.zxid);
        self.others.push(Event {
            process: PROCESSES + self.others.len(),
            operation: Operation::Read { key },
            outcome: Outcome::Value(Register { version: stat.version, value }),
            invoked_ns,
            completed_ns,
            place: Place { processed_zxid: sync.zxid, changed_zxid: stat.mzxid },
        });
        Ok(())
    }

    /// Ends the clients. The history goes on with what [`Recorded::read_all`] adds.
    pub fn stop(self) -> Result<Recorded> {
        self.stop.store(true, Ordering::Relaxed);
        let mut history = History { events: self.others };
        let readers = PROCESSES + history.events.len();
        for worker in self.workers {
            history.events.extend(worker.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
        }
        Ok(Recorded { history, epoch: self.epoch, next_process: readers })
    }
}

/// A history and the clock of its times.
#[derive(Debug)]
pub struct Recorded {
    pub history: History,
    epoch: Instant,
    next_process: usize,
}

impl Recorded {
    pub fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Lets one more client see all keys at the end, so that a lost last write is noticed.
    pub fn read_all(&mut self, client: &mut Client) -> Result<()> {
        let process = self.next_process;
        self.next_process += 1;
        for key in 0..KEYS {
            let invoked_ns = self.now_ns();
            client.sync()?;
            let processed_zxid = client.last_zxid_seen;
            let (data, stat) = client.get_data(&key_path(key))?;
            let outcome = Outcome::Value(Register { version: stat.version, value: number(data.as_deref())? });
            let completed_ns = self.now_ns();
            let operation = Operation::Read { key };
            let place = Place { processed_zxid, changed_zxid: stat.mzxid };
            self.history.events.push(Event { process, operation, outcome, invoked_ns, completed_ns, place });
        }
        Ok(())
    }
}

struct Worker {
    process: usize,
    client: RovingClient,
    random: Random,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    epoch: Instant,
    next_value: u64,
    /// The last version seen of each key: what compare-and-set goes by.
    versions: [i32; KEYS],
    events: Vec<Event>,
}

impl Worker {
    fn run(&mut self) -> Result<Vec<Event>> {
        while !self.stop.load(Ordering::Relaxed) {
            let operation = self.choose();
            let invoked_ns = self.epoch.elapsed().as_nanos() as u64;
            let answer = self.carry_out(&operation)?;
            let completed_ns = self.epoch.elapsed().as_nanos() as u64;
            if let Some((outcome, place)) = answer {
                let completed_ns = if outcome == Outcome::Unknown { NEVER_NS } else { completed_ns };
                let is_write = matches!(outcome, Outcome::Written { .. } | Outcome::Created { .. });
                self.acknowledged.fetch_add(u64::from(is_write), Ordering::Relaxed);
                let process = self.process;
                self.events.push(Event { process, operation, outcome, invoked_ns, completed_ns, place });
            }
            thread::sleep(PAUSE);
        }
        Ok(std::mem::take(&mut self.events))
    }

    fn choose(&mut self) -> Operation {
        self.next_value += 1;
        let (key, value) = (self.random.below(KEYS as u64) as usize, self.next_value);
        match self.random.below(10) {
            0..=2 => Operation::Write { key, value },
            3 | 4 => Operation::CompareAndSet { key, version: self.versions[key], value },
            5..=7 => Operation::Read { key },
            _ => Operation::CreateSequential { value },
        }
    }

    /// `None` if the operation was refused for a reason that says nothing about the node.
    fn carry_out(&mut self, operation: &Operation) -> Result<Option<(Outcome, Place)>> {
        let unknown = Ok(Some((Outcome::Unknown, Place::default())));
        let mut synced_zxid = None;
        let set = |key: usize, value: u64, version: i32| {
            Body::new().string(&key_path(key)).buffer(Some(value.to_string().as_bytes())).int(version)
        };
        let answer = match operation {
            Operation::Write { key, value } => self.call(wire::SET_DATA, &set(*key, *value, -1))?,
            Operation::CompareAndSet { key, version, value } => {
                self.call(wire::SET_DATA, &set(*key, *value, *version))?
            }
            Operation::Read { key } => {
                let Some(reply) = self.call(wire::SYNC, &Body::new().string("/load"))? else {
                    return unknown;
                };
                if reply.error != 0 {
                    return Ok(None);
                }
                synced_zxid = Some(reply.zxid);
                self.call(wire::GET_DATA, &Body::new().string(&key_path(*key)).bool(false))?
            }
            Operation::CreateSequential { value } => {
                let data = value.to_string();
                let path = format!("{SEQUENCE}/n-");
                self.call(wire::CREATE, &create_body(&path, Some(data.as_bytes()), &Acl::open(), 2))?
            }
        };
        let Some(reply) = answer else { return unknown };
        let mut place = Place { processed_zxid: synced_zxid.unwrap_or(reply.zxid), changed_zxid: 0 };
        let mut fields = Fields(&reply.body);
        let outcome = match (operation, reply.error) {
            (_, wire::SESSION_MOVED) => return Ok(None),
            (Operation::Write { key, .. } | Operation::CompareAndSet { key, .. }, 0) => {
                let stat = fields.stat()?;
                self.versions[*key] = stat.version;
                place.changed_zxid = stat.mzxid;
                Outcome::Written { version: stat.version }
            }
            (Operation::CompareAndSet { .. }, wire::BAD_VERSION) => Outcome::WrongVersion,
            (Operation::Read { key }, 0) => {
                let value = number(fields.buffer()?)?;
                let stat = fields.stat()?;
                self.versions[*key] = stat.version;
                place.changed_zxid = stat.mzxid;
                Outcome::Value(Register { version: stat.version, value })
            }
            (Operation::CreateSequential { .. }, 0) => {
                let path = fields.string()?;
                let name = path.rsplit('/').next().context("a path has a name")?;
                Outcome::Created { name: name.to_owned() }
            }
            (_, error) => bail!("{operation:?} was refused with error {error}"),
        };
        Ok(Some((outcome, place)))
    }

    fn call(&mut self, opcode: i32, body: &Body) -> Result<Option<Reply>> {
        match self.client.call(&self.stop, opcode, body)? {
            Answer::Reply(reply) => Ok(Some(reply)),
            Answer::Unknown => Ok(None),
            Answer::Expired => bail!("the session {:?} has expired", self.client.session()),
        }
    }
}

fn number(data: Option<&[u8]>) -> Result<u64> {
    Ok(std::str::from_utf8(data.unwrap_or_default())?.parse()?)
}
