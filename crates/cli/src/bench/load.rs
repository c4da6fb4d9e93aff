//! The phases of a run: connect, prepare, load, clean up.
//!
//! What always holds: each phase begins when every connection has ended the one before; a connection that is lost takes nothing
//! with it but its own operations, and its nodes are deleted by the others; the client keeps no list of the nodes it made, only
//! counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use rookeeper_proto::ErrorCode;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connection::{Connection, Lost, Pace};
use super::fan_out;
use super::limit::LimitServer;
use super::options::{Operation, Options};
use super::report::Report;
use super::wire::{self, Mode};
use crate::dialler::Dialler;

const ROOT_PREFIX: &str = "/rookeeper-bench-";
/// Requests outstanding on each connection while nodes are made and deleted.
pub(super) const BULK_PIPELINE: usize = 100;
const SIGNIFICANT_DIGITS: u8 = 3;
/// An hour: bounds the memory of a histogram. A connection is given up long before.
const LATENCY_NS_LIMIT: u64 = 3_600_000_000_000;

/// What one connection counted.
#[derive(Debug)]
pub(super) struct Tally {
    /// Latencies in nanoseconds of what succeeded.
    pub(super) reads: Histogram<u32>,
    pub(super) writes: Histogram<u32>,
    /// Of each change that is watched: when its last event had come.
    pub(super) last_events: Histogram<u32>,
    /// Refusals by code.
    pub(super) errors: BTreeMap<i32, u64>,
    pub(super) unanswered: u64,
    pub(super) connections_lost: Vec<String>,
}

impl Tally {
    fn new() -> Tally {
        let histogram = || Histogram::new(SIGNIFICANT_DIGITS).expect("3 digits are a precision histograms have");
        Tally {
            reads: histogram(),
            writes: histogram(),
            last_events: histogram(),
            errors: BTreeMap::new(),
            unanswered: 0,
            connections_lost: Vec::new(),
        }
    }

    fn merge(&mut self, other: Tally) {
        // Both grow to any value, so adding cannot fail for want of room.
        self.reads.add(other.reads).expect("a histogram that resizes takes every value");
        self.writes.add(other.writes).expect("a histogram that resizes takes every value");
        self.last_events.add(other.last_events).expect("a histogram that resizes takes every value");
        for (code, count) in other.errors {
            *self.errors.entry(code).or_default() += count;
        }
        self.unanswered += other.unanswered;
        self.connections_lost.extend(other.connections_lost);
    }
}

/// Nodes of one name pattern, to be deleted: `{parent}/{first}`, `{parent}/{first + step}`…
#[derive(Debug, Clone)]
struct Share {
    parent: String,
    first: u64,
    step: u64,
    end: u64,
}

impl Share {
    fn numbers(&self) -> impl Iterator<Item = u64> + use<> {
        (self.first..self.end).step_by(self.step as usize)
    }
}

/// A connection with its place among the others.
struct Worker {
    index: u16,
    connection: Connection,
    /// Nodes this worker created in the load, numbered from 0.
    created: u64,
}

/// Runs the whole benchmark, against a live server or the limit of the machine.
pub async fn run(options: &Options) -> anyhow::Result<Report> {
    options.check()?;
    match &options.limit {
        None => run_against(options).await,
        Some(dir) => {
            let limit = LimitServer::start(dir, options.value_size as usize)?;
            run_against(&Options { server: vec![limit.address.to_string()], ..options.clone() }).await
        }
    }
}

async fn run_against(options: &Options) -> anyhow::Result<Report> {
    let dialler = Dialler::open(&(&options.tls).into())?;
    let mut workers = connect(options, &dialler).await?;
    let root = make_root(&mut workers[0].connection).await?;
    let outcome = measure(options, &dialler, workers, &root).await;
    if outcome.is_err() {
        crate::print::complaint(&format_args!("nodes may be left under {root}"));
    }
    outcome
}

async fn measure(options: &Options, dialler: &Dialler, workers: Vec<Worker>, root: &str) -> anyhow::Result<Report> {
    let workers = prepare(options, workers, root).await?;
    let (workers, shares, tally, measured) = load(options, dialler, workers, root).await;
    let mut report = Report::new(options, dialler.speaks_tls(), &tally, measured);
    report.cleanup_error =
        clean_up(options, dialler, workers, shares, root).await.err().map(|error| format!("{error:#}"));
    Ok(report)
}

async fn connect(options: &Options, dialler: &Dialler) -> anyhow::Result<Vec<Worker>> {
    let mut tasks = JoinSet::new();
    for (index, server) in (0..options.connections).zip(options.server.iter().cycle()) {
        let (server, dialler) = (server.clone(), dialler.clone());
        tasks.spawn(async move {
            match Connection::open(&dialler, &server).await {
                Ok(connection) => Ok(Worker { index, connection, created: 0 }),
                Err(lost) => Err((server, lost)),
            }
        });
    }
    let mut workers = Vec::with_capacity(options.connections.into());
    while let Some(joined) = tasks.join_next().await {
        match joined? {
            Ok(worker) => workers.push(worker),
            Err((server, lost)) => bail!(
                "cannot connect to {server}: {lost}. Check --server and that the server takes --connections {} from one \
                 address (maxClientCnxns)",
                options.connections
            ),
        }
    }
    workers.sort_by_key(|worker| worker.index);
    Ok(workers)
}

/// One node of its own for the run, so that runs side by side do not meet.
async fn make_root(connection: &mut Connection) -> anyhow::Result<String> {
    let mut answer = None;
    let mut asked = false;
    let next = |out: &mut Vec<u8>, xid, _| {
        let first = !std::mem::replace(&mut asked, true);
        first.then(|| wire::create(out, xid, format_args!("{ROOT_PREFIX}"), b"", Mode::PersistentSequential))
    };
    connection
        .drive(1, next, |done| {
            answer = Some(match done.reply.error {
                0 => done.reply.created_path().map(str::to_owned).map_err(|malformed| malformed.to_string()),
                code => Err(error_name(code)),
            });
        })
        .await
        .context("creating the root of the run")?;
    match answer {
        Some(Ok(path)) => Ok(path),
        Some(Err(reason)) => bail!("cannot create {ROOT_PREFIX}: {reason}"),
        None => bail!("cannot create {ROOT_PREFIX}: no answer"),
    }
}

/// Makes the keys, or the parents under which nodes will be created.
async fn prepare(options: &Options, mut workers: Vec<Worker>, root: &str) -> anyhow::Result<Vec<Worker>> {
    let connections = workers.len() as u64;
    let value: Arc<[u8]> = value(options).into();
    let mut made = Vec::new();
    if options.operation.needs_keys() {
        bulk_create(&mut workers[0].connection, &[format!("{root}/keys")]).await?;
        let shares = workers.iter().map(|worker| Share {
            parent: format!("{root}/keys"),
            first: worker.index.into(),
            step: connections,
            end: options.keys.into(),
        });
        made.extend(shares.collect::<Vec<_>>());
    } else {
        let parents: Vec<String> = workers.iter().map(|worker| format!("{root}/c{}", worker.index)).collect();
        bulk_create(&mut workers[0].connection, &parents).await?;
    }
    let barrier = Arc::new(Barrier::new(workers.len()));
    let mut tasks = JoinSet::new();
    for (position, mut worker) in workers.into_iter().enumerate() {
        let (share, value, barrier) = (made.get(position).cloned(), Arc::clone(&value), Arc::clone(&barrier));
        tasks.spawn(async move {
            let mut refusal = None;
            let mut outcome = Ok(());
            if let Some(share) = share {
                let mut numbers = share.numbers();
                let next = |out: &mut Vec<u8>, xid, _| {
                    let number = numbers.next()?;
                    wire::create(out, xid, format_args!("{}/{number}", share.parent), &value, Mode::Persistent);
                    Some(())
                };
                outcome = worker
                    .connection
                    .drive(BULK_PIPELINE, next, |answer| {
                        if answer.reply.error != 0 {
                            refusal.get_or_insert(answer.reply.error);
                        }
                    })
                    .await;
            }
            let waited = wait_for_all(&mut worker, outcome, &barrier).await;
            waited.map(|()| (worker, refusal))
        });
    }
    let mut workers = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        let (worker, refusal) = joined?.context("preparing the keys")?;
        if let Some(code) = refusal {
            bail!("cannot prepare the keys: {}", error_name(code));
        }
        workers.push(worker);
    }
    Ok(workers)
}

async fn bulk_create(connection: &mut Connection, paths: &[String]) -> anyhow::Result<()> {
    let mut refusal = None;
    let mut left = paths.iter();
    let next = |out: &mut Vec<u8>, xid, _| {
        let path = left.next()?;
        wire::create(out, xid, format_args!("{path}"), b"", Mode::Persistent);
        Some(())
    };
    let done = |answer: super::connection::Answer<'_, ()>| {
        if answer.reply.error != 0 {
            refusal.get_or_insert(answer.reply.error);
        }
    };
    connection.drive(BULK_PIPELINE, next, done).await.context("preparing")?;
    refusal.map_or(Ok(()), |code| bail!("cannot prepare the run: {}", error_name(code)))
}

/// Ends a phase together; those who come early keep their sessions alive.
async fn wait_for_all(worker: &mut Worker, outcome: Result<(), Lost>, barrier: &Barrier) -> Result<(), Lost> {
    match outcome {
        Ok(()) => worker.connection.wait_for(barrier.wait()).await,
        Err(lost) => {
            barrier.wait().await;
            Err(lost)
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Tag {
    read: bool,
    measured: bool,
}

/// Puts the load on and returns what is left of the workers, the nodes to delete, the counts and the time measured.
async fn load(
    options: &Options,
    dialler: &Dialler,
    workers: Vec<Worker>,
    root: &str,
) -> (Vec<Worker>, Vec<Share>, Tally, Duration) {
    let connections = workers.len() as u64;
    let stop = Arc::new(Stop::default());
    let interrupt = tokio::spawn(stop_on_interrupt(Arc::clone(&stop)));
    let begin = Instant::now() + Duration::from_secs_f64(options.warmup);
    let end = begin + Duration::from_secs_f64(options.seconds);

    let barrier = Arc::new(Barrier::new(workers.len()));
    let mut tasks = JoinSet::new();
    let (mut changing, mut watchers) = (None, Vec::new());
    if options.operation == Operation::Watch {
        let (changer, places) = fan_out::places(workers.len());
        let (options, stop, dialler, keys) = (options.clone(), Arc::clone(&stop), dialler.clone(), keys_parent(root));
        changing =
            Some(tokio::spawn(
                async move { change_keys(&options, &dialler, &keys, (begin, end), &stop, changer).await },
            ));
        watchers = places;
    }
    for mut worker in workers {
        let watcher = watchers.pop();
        let (options, barrier, stop) = (options.clone(), Arc::clone(&barrier), Arc::clone(&stop));
        let (keys, dialler) = (keys_parent(root), dialler.clone());
        tasks.spawn(async move {
            let mut tally = Tally::new();
            let outcome = match (options.operation, watcher) {
                (Operation::Session, _) => {
                    open_sessions(&options, &dialler, &mut worker, (begin, end), &stop, &mut tally).await
                }
                (_, Some(watcher)) => {
                    watcher.run(&mut worker.connection, (&keys, options.keys), begin, &mut tally).await
                }
                _ => put_load(&options, &mut worker, &keys, (begin, end), &stop, &mut tally).await,
            };
            tally.unanswered = worker.connection.unanswered;
            let alive = wait_for_all(&mut worker, outcome, &barrier).await;
            if let Err(lost) = &alive {
                tally.connections_lost.push(lost.to_string());
            }
            (worker, tally, alive.is_ok())
        });
    }
    let (mut workers, mut shares, mut total) = (Vec::new(), Vec::new(), Tally::new());
    while let Some(joined) = tasks.join_next().await {
        // A task only ends early by a panic, which is a defect of this program.
        let (worker, tally, alive) = joined.expect("the task of a connection does not panic");
        total.merge(tally);
        shares.push(match options.operation.needs_keys() {
            true => Share {
                parent: keys_parent(root),
                first: worker.index.into(),
                step: connections,
                end: options.keys.into(),
            },
            false => Share { parent: format!("{root}/c{}", worker.index), first: 0, step: 1, end: worker.created },
        });
        if alive {
            workers.push(worker);
        }
    }
    if let Some(changing) = changing {
        total.merge(changing.await.expect("the task of a connection does not panic"));
    }
    interrupt.abort();
    let measured = stop.at.get().copied().unwrap_or(end).min(end).saturating_duration_since(begin);
    (workers, shares, total, measured)
}

/// The connection that changes what the others watch.
async fn change_keys(
    options: &Options,
    dialler: &Dialler,
    keys: &str,
    (begin, end): (Instant, Instant),
    stop: &Stop,
    changer: fan_out::Changer,
) -> Tally {
    let mut tally = Tally::new();
    let is_over = || Instant::now() >= end || stop.is_set();
    let changed = async {
        let mut connection = Connection::open(dialler, &options.server[0]).await?;
        changer.run(&mut connection, (keys, options.keys), begin, is_over, &mut tally).await?;
        connection.close().await
    };
    if let Err(lost) = changed.await {
        tally.connections_lost.push(format!("the connection that changes the keys: {lost}"));
    }
    tally
}

fn keys_parent(root: &str) -> String {
    format!("{root}/keys")
}

async fn put_load(
    options: &Options,
    worker: &mut Worker,
    keys: &str,
    (begin, end): (Instant, Instant),
    stop: &Stop,
    tally: &mut Tally,
) -> Result<(), Lost> {
    let value = value(options);
    let mut random = Random::new(options.seed, worker.index);
    let (index, created) = (worker.index, &mut worker.created);
    let own = format!("{}c{index}", keys.strip_suffix("keys").unwrap_or(keys));
    let next = |out: &mut Vec<u8>, xid, now: Instant| {
        if now >= end || stop.is_set() {
            return None;
        }
        let key = random.below(options.keys);
        let read = match options.operation {
            Operation::Get | Operation::Exists | Operation::Children | Operation::Watch => true,
            Operation::Set | Operation::Create | Operation::Session => false,
            Operation::Mixed => random.unit() < options.read_ratio,
        };
        match options.operation {
            Operation::Create => {
                wire::create(out, xid, format_args!("{own}/{created}"), &value, Mode::Persistent);
                *created += 1;
            }
            Operation::Children => wire::get_children(out, xid, format_args!("{keys}")),
            Operation::Exists => wire::exists(out, xid, format_args!("{keys}/{key}")),
            _ if read => wire::get_data(out, xid, format_args!("{keys}/{key}")),
            _ => wire::set_data(out, xid, format_args!("{keys}/{key}"), &value),
        }
        Some(Tag { read, measured: now >= begin })
    };
    let pace = options.rate.map(|rate| pace(rate, options.connections, index));
    let connection = &mut worker.connection;
    connection
        .drive_paced(options.pipeline.into(), pace, next, |answer| {
            if answer.reply.error != 0 {
                // Also those of the warm-up: an error is never out of scope.
                *tally.errors.entry(answer.reply.error).or_default() += 1;
            } else if answer.tag.measured {
                let histogram = if answer.tag.read { &mut tally.reads } else { &mut tally.writes };
                record(histogram, answer.latency);
            }
        })
        .await
}

pub(super) fn record(histogram: &mut Histogram<u32>, latency: Duration) {
    let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).min(LATENCY_NS_LIMIT);
    histogram.record(nanoseconds).expect("a histogram that resizes takes every value");
}

/// The share of one connection of an open loop. All take turns, so that the requests of all together are spread evenly.
fn pace(rate: u32, connections: u16, index: u16) -> Pace {
    let between = Duration::from_secs(1) / rate;
    Pace { next: Instant::now() + between * u32::from(index), every: between * u32::from(connections) }
}

/// Opens sessions on connections of their own, one after the other, and closes them.
async fn open_sessions(
    options: &Options,
    dialler: &Dialler,
    worker: &mut Worker,
    (begin, end): (Instant, Instant),
    stop: &Stop,
    tally: &mut Tally,
) -> Result<(), Lost> {
    let server = &options.server[usize::from(worker.index) % options.server.len()];
    let sessions = async {
        loop {
            let now = Instant::now();
            if now >= end || stop.is_set() {
                return Ok(());
            }
            Connection::open(dialler, server).await?.close().await?;
            if now >= begin {
                record(&mut tally.writes, now.elapsed());
            }
        }
    };
    let mut outcome = Ok(());
    worker.connection.wait_for(async { outcome = sessions.await }).await?;
    outcome
}

#[derive(Debug, Default)]
struct Stop {
    set: AtomicBool,
    at: OnceLock<Instant>,
}

impl Stop {
    fn is_set(&self) -> bool {
        self.set.load(Ordering::Relaxed)
    }
}

/// An interrupted run is measured up to here and still cleans up.
async fn stop_on_interrupt(stop: Arc<Stop>) {
    if tokio::signal::ctrl_c().await.is_ok() {
        stop.at.get_or_init(Instant::now);
        stop.set.store(true, Ordering::Relaxed);
    }
}

/// Deletes everything the run made. A node that is not there is no fault: its create was refused or its answer lost.
async fn clean_up(
    options: &Options,
    dialler: &Dialler,
    mut workers: Vec<Worker>,
    shares: Vec<Share>,
    root: &str,
) -> anyhow::Result<()> {
    if workers.is_empty() {
        let left = || format!("no connection is left, and the nodes under {root} remain");
        let connection = Connection::open(dialler, &options.server[0]).await.with_context(left)?;
        workers.push(Worker { index: 0, connection, created: 0 });
    }
    let parents: Vec<String> = match options.operation.needs_keys() {
        true => vec![keys_parent(root)],
        false => shares.iter().map(|share| share.parent.clone()).collect(),
    };
    let mut work: Vec<Vec<Share>> = vec![Vec::new(); workers.len()];
    for (position, share) in shares.into_iter().enumerate() {
        let count = work.len();
        work[position % count].push(share);
    }
    let barrier = Arc::new(Barrier::new(workers.len()));
    let mut tasks = JoinSet::new();
    for (mut worker, shares) in workers.into_iter().zip(work) {
        let barrier = Arc::clone(&barrier);
        tasks.spawn(async move {
            let nodes = shares.iter().flat_map(|share| share.numbers().map(move |number| (&share.parent, number)));
            let refusal =
                delete(&mut worker.connection, nodes.map(|(parent, number)| format!("{parent}/{number}"))).await;
            let (outcome, refusal) = match refusal {
                Ok(refusal) => (Ok(()), refusal),
                Err(lost) => (Err(lost), None),
            };
            wait_for_all(&mut worker, outcome, &barrier).await.map(|()| (worker, refusal))
        });
    }
    let mut survivors = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        let (worker, refusal) = joined?.with_context(|| format!("deleting the nodes under {root}"))?;
        if let Some(code) = refusal {
            bail!("cannot delete the nodes under {root}: {}", error_name(code));
        }
        survivors.push(worker);
    }
    let last = parents.into_iter().chain([root.to_owned()]);
    if let Some(worker) = survivors.first_mut()
        && let Some(code) = delete(&mut worker.connection, last).await?
    {
        bail!("cannot delete {root}: {}", error_name(code));
    }
    for worker in survivors {
        worker.connection.close().await.context("closing a session")?;
    }
    Ok(())
}

/// Deletes in order and returns the first refusal other than that there is no such node.
async fn delete(connection: &mut Connection, mut paths: impl Iterator<Item = String>) -> Result<Option<i32>, Lost> {
    let mut refusal = None;
    let next = |out: &mut Vec<u8>, xid, _| {
        let path = paths.next()?;
        wire::delete(out, xid, format_args!("{path}"));
        Some(())
    };
    let done = |answer: super::connection::Answer<'_, ()>| {
        if answer.reply.error != 0 && answer.reply.error != ErrorCode::NoNode.number() {
            refusal.get_or_insert(answer.reply.error);
        }
    };
    connection.drive(BULK_PIPELINE, next, done).await?;
    Ok(refusal)
}

/// `NoNode(-101)`, or the bare number of a code nobody knows.
pub(super) fn error_name(code: i32) -> String {
    ErrorCode::from_i32(code).map_or_else(|| code.to_string(), |known| known.to_string())
}

fn value(options: &Options) -> Vec<u8> {
    let mut random = Random::new(options.seed, u16::MAX);
    (0..options.value_size).map(|_| random.next() as u8).collect()
}

/// What one connection chooses; the same everywhere for the same seed.
struct Random(rookeeper_proto::random::Random);

impl Random {
    fn new(seed: u64, connection: u16) -> Random {
        Random(rookeeper_proto::random::Random::new(seed ^ (u64::from(connection) << 48)))
    }

    fn next(&mut self) -> u64 {
        self.0.draw()
    }

    fn below(&mut self, limit: u32) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_repeat_with_the_seed_and_stay_in_range() {
        let draw = |seed, connection| {
            let mut random = Random::new(seed, connection);
            (0..1000).map(|_| random.below(7)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, 0), draw(1, 0));
        assert_ne!(draw(1, 0), draw(1, 1));
        for number in 0..7 {
            assert!(draw(2, 3).contains(&number));
        }
        assert!(draw(2, 3).iter().all(|number| *number < 7));
        let mut random = Random::new(5, 5);
        assert!((0..1000).all(|_| (0.0..1.0).contains(&random.unit())));
    }

    #[test]
    fn shares_cover_every_key_once() {
        let mut all: Vec<u64> =
            (0..3).flat_map(|first| Share { parent: String::new(), first, step: 3, end: 10 }.numbers()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
        assert_eq!(Share { parent: String::new(), first: 5, step: 6, end: 3 }.numbers().count(), 0);
    }
}
