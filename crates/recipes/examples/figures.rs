//! Figures of the recipes beside kazoo and Apache Curator, all on the same ensemble of three in the same run; and of servers for tests beside the original:
//! `bench/recipes [locks|elections|queues|embedded]`, by default all.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rookeeper_acceptance::ensemble::{Ensemble, Plan};
use rookeeper_acceptance::foreign::{Dialogue, curator_program, python};
use rookeeper_acceptance::server::{Product, Setup};
use rookeeper_recipes::{Election, Mutex, Queue};
use zookeeper_client::{Acls, Client, CreateMode};

/// How often each figure is taken, one program after the other; the median counts.
const RUNS: usize = 7;
const WAITERS: [usize; 3] = [2, 10, 100];
/// Items that are pushed and taken one by one.
const ITEMS: usize = 500;
const BATCH: usize = 100;

#[tokio::main]
async fn main() -> Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let is_asked = |what: &str| asked.is_empty() || asked.iter().any(|asked| asked == what);
    let ensemble = Plan::under_test(3).for_measurements().start()?;
    let address = ensemble.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let client = Client::connector().with_session_timeout(Duration::from_secs(30)).connect(&address).await?;
    if is_asked("locks") || is_asked("elections") {
        let mut kazoo = Dialogue::start("kazoo", python("contender.py")?, &address)?;
        let mut curator = Dialogue::start("Curator", curator_program("Contender.java")?, &address)?;
        if is_asked("locks") {
            locks(&ensemble, &client, &mut kazoo, &mut curator).await?;
        }
        if is_asked("elections") {
            elections(&address, &client, &mut kazoo, &mut curator).await?;
        }
    }
    if is_asked("queues") {
        let mut kazoo = Dialogue::start("kazoo", python("coordinator.py")?, &address)?;
        let mut curator = Dialogue::start("Curator", curator_program("Coordinator.java")?, &address)?;
        queues(&client, &mut kazoo, &mut curator).await?;
    }
    if is_asked("embedded") {
        embedded()?;
    }
    Ok(())
}

async fn locks(ensemble: &Ensemble, client: &Client, kazoo: &mut Dialogue, curator: &mut Dialogue) -> Result<()> {
    println!(
        "| waiters | microseconds for each hand-over: Rookeeper | kazoo | Curator | requests for each: Rookeeper | kazoo | Curator |"
    );
    println!("| --: | --: | --: | --: | --: | --: | --: |");
    for waiters in WAITERS {
        let mut times = [const { Vec::new() }; 3];
        let mut requests = [const { Vec::new() }; 3];
        for run in 0..RUNS {
            let line = Line::of(client, &format!("/ours-{waiters}-{run}"), waiters).await?;
            let requested = Requested::from_now(ensemble)?;
            times[0].push(line.hand_over().await?);
            requests[0].push(requested.until_now(ensemble)?);
            for (at, (name, theirs)) in [("kazoo", &mut *kazoo), ("curator", &mut *curator)].into_iter().enumerate() {
                let path = format!("/{name}-{waiters}-{run}");
                ensure!(theirs.ask(&format!("line {path} {waiters}"))? == "waiting", "{name}");
                let requested = Requested::from_now(ensemble)?;
                times[at + 1].push(theirs.ask(&format!("handover {path}"))?.parse()?);
                requests[at + 1].push(requested.until_now(ensemble)?);
            }
        }
        let times = times.map(median);
        let requests = requests.map(|of_all| median(of_all) as f64 / waiters as f64);
        println!(
            "| {waiters} | {} | {} | {} | {:.1} | {:.1} | {:.1} |",
            times[0], times[1], times[2], requests[0], requests[1], requests[2]
        );
    }
    println!();
    Ok(())
}

/// The requests of clients in a time, without those of whoever asks for the figure, and without the release of the first holder.
struct Requested {
    before: u64,
    of_asking: u64,
}

impl Requested {
    fn from_now(ensemble: &Ensemble) -> Result<Requested> {
        let first = received(ensemble)?;
        let before = received(ensemble)?;
        Ok(Requested { before, of_asking: before - first })
    }

    fn until_now(&self, ensemble: &Ensemble) -> Result<u64> {
        Ok((received(ensemble)? - self.before).saturating_sub(self.of_asking + 1))
    }
}

/// What all servers have received from clients.
fn received(ensemble: &Ensemble) -> Result<u64> {
    let mut sum = 0;
    for id in ensemble.ids() {
        let figure = ensemble.figure(id, "zk_packets_received").context("mntr has it")?;
        sum += figure.parse::<u64>()?;
    }
    Ok(sum)
}

/// A holder, and those who wait behind it.
struct Line {
    first: rookeeper_recipes::Guard,
    waiting: Vec<tokio::task::JoinHandle<Result<(), rookeeper_recipes::Error>>>,
}

impl Line {
    async fn of(client: &Client, path: &str, waiters: usize) -> Result<Line> {
        let lock = Mutex::new(client, path);
        let first = lock.acquire().await?;
        let waiting = (0..waiters).map(|_| {
            let lock = lock.clone();
            tokio::spawn(async move { lock.acquire().await?.release().await })
        });
        let waiting = waiting.collect();
        while lock.contenders().await?.len() <= waiters {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The last of them has still to look who is before it.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(Line { first, waiting })
    }

    /// Microseconds for each of them.
    async fn hand_over(self) -> Result<u64> {
        let (start, count) = (Instant::now(), self.waiting.len());
        self.first.release().await?;
        for task in self.waiting {
            task.await??;
        }
        Ok(start.elapsed().as_micros() as u64 / count as u64)
    }
}

async fn elections(address: &str, client: &Client, kazoo: &mut Dialogue, curator: &mut Dialogue) -> Result<()> {
    let mut times = [const { Vec::new() }; 3];
    for run in 0..RUNS {
        times[0].push(fail_over(address, client, &format!("/our-election-{run}")).await?);
        times[1].push(kazoo.ask(&format!("failover /kazoo-election-{run}"))?.parse()?);
        times[2].push(curator.ask(&format!("failover /curator-election-{run}"))?.parse()?);
    }
    let times = times.map(median);
    println!("| from the end of the leader's session until the next leads, microseconds | |\n| --- | --: |");
    println!("| Rookeeper | {} |\n| kazoo | {} |\n| Curator `LeaderLatch` | {} |\n", times[0], times[1], times[2]);
    Ok(())
}

async fn fail_over(address: &str, client: &Client, path: &str) -> Result<u64> {
    // A leader with nothing but a session and a node, so that dropping the client ends the session, as the end of its process would in order.
    let first = Client::connector().with_session_timeout(Duration::from_secs(20)).connect(address).await?;
    first.mkdir(path, &CreateMode::Container.with_acls(Acls::anyone_all())).await?;
    let node = format!("{path}/_c_b3c1d0d2-0000-4000-8000-000000000000-latch-");
    first.create(&node, b"first", &CreateMode::EphemeralSequential.with_acls(Acls::anyone_all())).await?;
    let election = Election::new(client, path);
    let standing = election.clone();
    let next = tokio::spawn(async move { standing.campaign().await.map(|leader| (Instant::now(), leader)) });
    while election.candidates().await?.len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let start = Instant::now();
    drop(first);
    let (leads, leader) = next.await??;
    leader.release().await?;
    Ok((leads - start).as_micros() as u64)
}

async fn queues(client: &Client, kazoo: &mut Dialogue, curator: &mut Dialogue) -> Result<()> {
    let (mut pushes, mut takes) = ([const { Vec::new() }; 3], [const { Vec::new() }; 3]);
    let mut batches = Vec::new();
    for run in 0..RUNS {
        let queue = Queue::new(client, &format!("/our-queue-{run}"));
        let start = Instant::now();
        for item in 0..ITEMS {
            queue.push(item.to_string()).await?;
        }
        pushes[0].push(micros_each(start, ITEMS));
        let (start, mut taker) = (Instant::now(), queue.taker());
        for _ in 0..ITEMS {
            taker.take().await?.ack().await?;
        }
        takes[0].push(micros_each(start, ITEMS));
        let start = Instant::now();
        for batch in 0..ITEMS / BATCH {
            queue.push_all((0..BATCH).map(|item| (batch * BATCH + item).to_string())).await?;
        }
        batches.push(micros_each(start, ITEMS));
        let theirs = [
            kazoo.ask(&format!("work-time /kazoo-queue-{run} {ITEMS}"))?,
            curator.ask(&format!("work-time /curator-queue-{run} /curator-locks-{run} {ITEMS}"))?,
        ];
        for (at, answer) in theirs.into_iter().enumerate() {
            let (push, take) = answer.split_once(' ').with_context(|| answer.clone())?;
            pushes[at + 1].push(push.parse()?);
            takes[at + 1].push(take.parse()?);
        }
    }
    println!("| items a second, one after the other | push | take and acknowledge |\n| --- | --: | --: |");
    for (name, (pushes, takes)) in ["Rookeeper", "kazoo `LockingQueue`", "Curator `DistributedQueue` with a lock path"]
        .iter()
        .zip(pushes.into_iter().zip(takes))
    {
        println!("| {name} | {} | {} |", per_second(median(pushes)), per_second(median(takes)));
    }
    println!("| Rookeeper, a hundred in a transaction | {} | |\n", per_second(median(batches)));
    Ok(())
}

/// The original has no server for tests in a process of its own but the one that kazoo's harness starts.
fn embedded() -> Result<()> {
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..RUNS {
        let start = Instant::now();
        let server = rookeeper_testing::Server::start()?;
        times[0].push(start.elapsed().as_micros() as u64);
        drop(server);
        let start = Instant::now();
        let ensemble = rookeeper_testing::Ensemble::start(3)?;
        times[1].push(start.elapsed().as_micros() as u64);
        drop(ensemble);
        let start = Instant::now();
        let server = Setup::of(Product::Apache).start()?;
        times[2].push(start.elapsed().as_micros() as u64);
        drop(server);
    }
    let times = times.map(|times| median(times) as f64 / 1_000.0);
    println!("| until a server for tests answers, milliseconds | |\n| --- | --: |");
    println!("| Rookeeper | {:.1} |\n| Rookeeper, an ensemble of three | {:.1} |", times[0], times[1]);
    println!("| Apache ZooKeeper, as kazoo's harness starts it | {:.0} |", times[2]);
    Ok(())
}

fn micros_each(start: Instant, count: usize) -> u64 {
    start.elapsed().as_micros() as u64 / count as u64
}

fn per_second(micros: u64) -> u64 {
    1_000_000 / micros.max(1)
}

fn median(mut figures: Vec<u64>) -> u64 {
    figures.sort_unstable();
    figures[figures.len() / 2]
}
