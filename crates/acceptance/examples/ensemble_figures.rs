//! Figures of an ensemble of three, Rookeeper and the original in turn: the gap in successful writes when a server is lost, writes per
//! second, and how long a server takes to catch up. `bench/ensemble` starts this.
//!
//! A gap is the longest time between two successful writes of anybody, with one writing client per server, each with one request
//! outstanding, which goes to the next server when its own is gone.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rookeeper_acceptance::client::{Client, create_body};
use rookeeper_acceptance::ensemble::{Ensemble, Plan};
use rookeeper_acceptance::roving::{Answer, RovingClient};
use rookeeper_acceptance::server::{Product, rookeeper_binary};
use rookeeper_acceptance::wire::{self, Acl, Body};

const PRODUCTS: [Product; 2] = [Product::Rookeeper, Product::Apache];
const WINDOW: usize = 500;
/// Before and after an event: writes flow.
const CALM: Duration = Duration::from_secs(1);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let what = arguments.first().map_or("all", String::as_str);
    let number = |index: usize, default: usize| -> Result<usize> {
        arguments.get(index).map_or(Ok(default), |text| text.parse().with_context(|| format!("{text:?} is no number")))
    };
    match what {
        "gaps" => gaps(number(1, 10)?),
        "writes" => writes(number(1, 3)?),
        "catch-up" => catch_up(number(1, 100_000)?, number(2, 1_000_000)?),
        "all" => gaps(10).and_then(|()| writes(3)).and_then(|()| catch_up(100_000, 1_000_000)),
        other => bail!("{other:?} is none of gaps [TRIES], writes [ROUNDS], catch-up [WRITES] [NODES], all"),
    }
}

fn start(product: Product) -> Result<Ensemble> {
    Plan::of(&[product; 3]).for_measurements().start()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    LeaderKilled,
    LeaderFrozen,
    FollowerKilled,
}

const EVENTS: [(Event, &str); 3] = [
    (Event::LeaderKilled, "leader killed"),
    (Event::LeaderFrozen, "leader frozen"),
    (Event::FollowerKilled, "follower killed"),
];

/// Half of the tries with each ensemble, so that a machine whose speed drifts is unfair to neither.
fn gaps(tries: usize) -> Result<()> {
    let mut found: BTreeMap<(Event, usize), Vec<Duration>> = BTreeMap::new();
    for share in [tries.div_ceil(2), tries / 2] {
        for (index, product) in PRODUCTS.into_iter().enumerate() {
            if share == 0 {
                continue;
            }
            let mut ensemble = start(product)?;
            for (event, _) in EVENTS {
                for _ in 0..share {
                    let gap = gap(&mut ensemble, event)?;
                    eprintln!("{product:?}, {event:?}: {} ms", gap.as_millis());
                    found.entry((event, index)).or_default().push(gap);
                }
            }
        }
    }
    println!("Gap in successful writes, ms, {tries} tries each, tickTime=2000, syncLimit=5\n");
    println!("| event | Rookeeper median | max | Apache median | max |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (event, name) in EVENTS {
        print!("| {name} ");
        for index in 0..PRODUCTS.len() {
            let gaps = found.get_mut(&(event, index)).context("no try")?;
            gaps.sort();
            print!("| {} | {} ", gaps[gaps.len() / 2].as_millis(), gaps[gaps.len() - 1].as_millis());
        }
        println!("|");
    }
    println!();
    Ok(())
}

fn gap(ensemble: &mut Ensemble, event: Event) -> Result<Duration> {
    let leader = ensemble.wait_formed()?;
    let probes = Probes::start(ensemble)?;
    thread::sleep(CALM);
    let victim = match event {
        Event::LeaderKilled | Event::LeaderFrozen => leader,
        Event::FollowerKilled => *ensemble.followers()?.first().context("nobody follows")?,
    };
    let moment = probes.begin.elapsed();
    match event {
        Event::LeaderFrozen => ensemble.freeze(victim)?,
        Event::LeaderKilled | Event::FollowerKilled => ensemble.kill(victim)?,
    }
    if victim == leader {
        ensemble.wait_leader_other_than(leader)?;
    }
    thread::sleep(CALM);
    let gap = probes.stop(moment)?;
    match event {
        Event::LeaderFrozen => ensemble.thaw(victim)?,
        Event::LeaderKilled | Event::FollowerKilled => ensemble.start(victim)?,
    }
    ensemble.wait_formed()?;
    Ok(gap)
}

/// Clients that write all the time and note when they succeeded.
struct Probes {
    begin: Instant,
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Result<Vec<Duration>>>>,
}

impl Probes {
    fn start(ensemble: &Ensemble) -> Result<Probes> {
        let mut client = ensemble.connect(1)?;
        if client.exists("/probe")?.is_none() {
            client.create("/probe", b"")?;
        }
        client.close()?;
        let (begin, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let addresses = ensemble.addresses();
        let worker = |first: usize| {
            let (stop, mut client) = (stop.clone(), RovingClient::new(&addresses, first, 30_000));
            thread::spawn(move || {
                let mut successes = Vec::new();
                let body = Body::new().string("/probe").buffer(Some(&[b'x'; 100])).int(-1);
                while !stop.load(Ordering::Relaxed) {
                    match client.call(&stop, wire::SET_DATA, &body)? {
                        Answer::Reply(reply) if reply.error == 0 => successes.push(begin.elapsed()),
                        Answer::Reply(_) | Answer::Unknown => {}
                        Answer::Expired => bail!("a session has expired"),
                    }
                }
                Ok(successes)
            })
        };
        let workers = (0..addresses.len()).map(worker).collect();
        Ok(Probes { begin, stop, workers })
    }

    /// The longest time without a success that ends after `moment`.
    fn stop(self, moment: Duration) -> Result<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let mut successes = Vec::new();
        for worker in self.workers {
            successes.extend(worker.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
        }
        successes.sort();
        let pairs = successes.windows(2).filter(|pair| pair[1] > moment);
        pairs.map(|pair| pair[1] - pair[0]).max().context("no write succeeded after the event")
    }
}

/// `rookeeper bench` over all three servers.
fn writes(rounds: usize) -> Result<()> {
    let shapes = [(1, 1), (30, 1), (99, 1), (30, 20)];
    let mut found: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for (product_index, product) in PRODUCTS.into_iter().enumerate() {
            let ensemble = start(product)?;
            for (shape_index, (connections, pipeline)) in shapes.into_iter().enumerate() {
                let throughput = measure(&ensemble, connections, pipeline)?;
                eprintln!("{product:?}, set, {connections} x {pipeline}: {throughput:.0} per second");
                found.entry((shape_index, product_index)).or_default().push(throughput);
            }
        }
    }
    println!("Writes per second through three servers, set of 100 bytes, median of {rounds}\n");
    println!("| connections | pipeline | Rookeeper | Apache | ratio |");
    println!("| ---: | ---: | ---: | ---: | ---: |");
    for (shape_index, (connections, pipeline)) in shapes.into_iter().enumerate() {
        let mut median = |product_index| -> Result<f64> {
            let values = found.get_mut(&(shape_index, product_index)).context("no round")?;
            values.sort_by(f64::total_cmp);
            Ok(values[values.len() / 2])
        };
        let (ours, theirs) = (median(0)?, median(1)?);
        println!("| {connections} | {pipeline} | {ours:.0} | {theirs:.0} | {:.1} |", ours / theirs);
    }
    println!();
    Ok(())
}

fn measure(ensemble: &Ensemble, connections: usize, pipeline: usize) -> Result<f64> {
    let servers: Vec<String> = ensemble.addresses().iter().map(ToString::to_string).collect();
    let (connections, pipeline) = (connections.to_string(), pipeline.to_string());
    let mut command = Command::new(rookeeper_binary()?);
    command.args(["bench", "--server", &servers.join(","), "--operation", "set", "--connections", &connections]);
    command.args(["--pipeline", &pipeline, "--seconds", "4", "--warmup", "2", "--value-size", "100", "--json"]);
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    report["throughput_ops_per_second"].as_f64().context("the report has no throughput")
}

/// From the start of the process to the moment it serves what the leader has.
fn catch_up(missed_writes: usize, nodes: usize) -> Result<()> {
    let mut lines = vec![String::new(); 2];
    for product in PRODUCTS {
        let mut ensemble = start(product)?;
        let follower = ensemble.followers()?[0];
        ensemble.stop(follower)?;
        let leader = ensemble.leader()?;
        pipelined(&mut ensemble.connect(leader)?, missed_writes, "/missed", |_| {
            (wire::SET_DATA, Body::new().string("/missed").buffer(Some(&[b'x'; 100])).int(-1))
        })?;
        let missed = start_and_wait(&mut ensemble, follower)?;
        ensemble.stop(follower)?;
        ensemble.wipe(follower)?;
        pipelined(&mut ensemble.connect(leader)?, nodes, "/nodes", |number| {
            let path = format!("/nodes/{number}");
            (wire::CREATE, create_body(&path, Some(&[b'x'; 100]), &Acl::open(), 0))
        })?;
        let empty = start_and_wait(&mut ensemble, follower)?;
        for (line, time) in lines.iter_mut().zip([missed, empty]) {
            line.push_str(&format!(" {:.2} |", time.as_secs_f64()));
        }
    }
    println!("Seconds from the start of a follower to its first answer with all the leader has\n");
    println!("| | Rookeeper | Apache |\n| --- | ---: | ---: |");
    println!("| it missed {missed_writes} writes |{}", lines[0]);
    println!("| it is empty, the leader has {nodes} nodes |{}", lines[1]);
    println!();
    Ok(())
}

fn pipelined(client: &mut Client, count: usize, parent: &str, request: impl Fn(usize) -> (i32, Body)) -> Result<()> {
    client.create(parent, b"")?;
    for number in 0..count + WINDOW {
        if number < count {
            let (opcode, body) = request(number);
            client.send(opcode, &body)?;
        }
        if number >= WINDOW {
            client.receive()?.ok()?;
        }
    }
    Ok(())
}

fn start_and_wait(ensemble: &mut Ensemble, id: u64) -> Result<Duration> {
    let begin = Instant::now();
    ensemble.start(id)?;
    ensemble.wait_formed()?;
    ensemble.wait_same_zxid()?;
    let time = begin.elapsed();
    eprintln!("{:?}: caught up after {} ms", ensemble.product(id), time.as_millis());
    Ok(time)
}
