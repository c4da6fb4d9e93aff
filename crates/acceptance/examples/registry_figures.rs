//! Figures of the service registry beside Spring Cloud's Eureka server, in one run. `bench/registry` starts this.
//!
//! Both servers run at the same time, each idle while the other is measured. The load is 16 connections, each with one request outstanding.
//! The instances are in 100 applications. The original has its default options and compilers, 2 GiB of heap, and connections
//! that last.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rookeeper_acceptance::eureka::{Eureka, ask, free_port, urls};
use rookeeper_acceptance::foreign::{Dialogue, eureka_server};

const CONNECTIONS: usize = 16;
const APPLICATIONS: usize = 100;
const ROUND: Duration = Duration::from_secs(3);
const DEADLINE: Duration = Duration::from_secs(300);

fn main() -> Result<()> {
    let sizes: Vec<usize> = std::env::args().skip(1).map(|size| size.parse()).collect::<Result<_, _>>()?;
    let sizes = if sizes.is_empty() { vec![1000, 10_000, 100_000] } else { sizes };
    let ours = start_ours(free_port()?, &[])?;
    let original = start_original(free_port()?, &[], &[])?;
    println!("started: ours after {:?}, the original after {:?}", ours.1, original.1);
    let servers = [("ours", ours.0), ("original", original.0)];
    println!(
        "| instances | work | server | a second | p50 ms | p99 ms | bytes of an answer | processor us of a request |"
    );
    println!("| ---: | --- | --- | ---: | ---: | ---: | ---: | ---: |");
    let mut known = 0;
    for size in sizes {
        for (name, server) in &servers {
            let from = known;
            let load = Load { server, connections: CONNECTIONS, count: Some(size - from), warm: false };
            report(size, "register", name, &load.run(&|number| registration(from + number))?);
            // The original's lists are copies of up to half a minute.
            let begin = Instant::now();
            while instances(server.port)? < size {
                ensure!(begin.elapsed() < DEADLINE, "{name} does not show {size} instances");
                thread::sleep(Duration::from_millis(500));
            }
        }
        known = size;
        for round in 0..2 {
            for (name, server) in &servers {
                let measure = |what: &str, request: &(dyn Fn(usize) -> Vec<u8> + Sync)| -> Result<()> {
                    let load = Load { server, connections: CONNECTIONS, count: None, warm: round == 0 };
                    let figures = load.run(request)?;
                    if round == 1 {
                        report(size, what, name, &figures);
                    }
                    Ok(())
                };
                measure("heartbeat", &|number| heartbeat(number % size))?;
                measure("one application", &|number| get(&format!("apps/APP{}", number % APPLICATIONS), false))?;
                measure("delta, gzip", &|_| get("apps/delta", true))?;
                measure("all, gzip", &|_| get("apps/", true))?;
                measure("all, plain", &|_| get("apps/", false))?;
            }
        }
        for (name, server) in &servers {
            println!("| {size} | resident MiB | {name} | {} | | | | |", resident_kib(server)? / 1024);
        }
    }
    drop(servers);
    for is_ours in [true, false] {
        sight(is_ours)?;
    }
    Ok(())
}

/// Ours, and how long it took until it answered.
fn start_ours(port: u16, peers: &[u16]) -> Result<(Eureka, Duration)> {
    let begin = Instant::now();
    let list = format!("eureka.client.service-url.defaultZone={}", urls(peers));
    let settings: &[&str] = if peers.is_empty() { &[] } else { &[&list] };
    let server = Eureka::start(port, settings)?;
    Ok((server, answers(port, begin)?))
}

fn start_original(port: u16, peers: &[u16], options: &[&str]) -> Result<(Eureka, Duration)> {
    let begin = Instant::now();
    let with_defaults = eureka_server()?;
    let mut command = Command::new(with_defaults.get_program());
    // As the tests start it, but with all compilers and more heap.
    let arguments = with_defaults.get_args().filter(|argument| !argument.to_string_lossy().starts_with("-X"));
    command.arg("-Xmx2g").args(arguments).args(options);
    // Without this it ends each connection after a hundred requests.
    command.arg("--server.tomcat.max-keep-alive-requests=-1");
    // With its own name in its list, and no other, it has no peer.
    let (host, list) = match peers {
        [] => ("localhost", format!("http://localhost:{port}/eureka/")),
        _ => ("original", urls(peers)),
    };
    command.arg(format!("--eureka.instance.hostname={host}")).arg("--eureka.client.register-with-eureka=false");
    command.arg(format!("--eureka.client.fetch-registry={}", !peers.is_empty()));
    command.arg(format!("--eureka.client.service-url.defaultZone={list}"));
    let process = Dialogue::start("the original", command, &format!("--server.port={port}"))?;
    let took = answers(port, begin)?;
    Ok((Eureka { process, port }, took))
}

fn answers(port: u16, begin: Instant) -> Result<Duration> {
    loop {
        if ask(port, "GET", "/eureka/apps/", None).is_ok_and(|answer| answer.status == 200) {
            return Ok(begin.elapsed());
        }
        ensure!(begin.elapsed() < DEADLINE, "nobody answers at {port}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn registration(number: usize) -> Vec<u8> {
    let app = format!("APP{}", number % APPLICATIONS);
    let body = format!(
        "{{\"instance\":{{\"instanceId\":\"host-{number}:{app}:8080\",\"hostName\":\"host-{number}.example.org\",\"app\":\"{app}\",\
         \"ipAddr\":\"10.0.0.1\",\"status\":\"UP\",\"port\":{{\"$\":8080,\"@enabled\":\"true\"}},\"vipAddress\":\"{app}\",\
         \"dataCenterInfo\":{{\"@class\":\"com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo\",\"name\":\"MyOwn\"}},\
         \"leaseInfo\":{{\"renewalIntervalInSecs\":3000,\"durationInSecs\":9000}},\"metadata\":{{\"zone\":\"z1\",\"version\":\"1.2.3\"}},\
         \"homePageUrl\":\"http://host-{number}.example.org:8080/\",\"lastDirtyTimestamp\":\"1700000000000\"}}}}"
    );
    let head = format!("POST /eureka/apps/{app} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n");
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn heartbeat(number: usize) -> Vec<u8> {
    let app = format!("APP{}", number % APPLICATIONS);
    let query = "status=UP&lastDirtyTimestamp=1700000000000";
    format!("PUT /eureka/apps/{app}/host-{number}:{app}:8080?{query} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        .into_bytes()
}

fn get(path: &str, gzip: bool) -> Vec<u8> {
    let encoding = if gzip { "Accept-Encoding: gzip\r\n" } else { "" };
    format!("GET /eureka/{path} HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n{encoding}\r\n").into_bytes()
}

/// How many instances the list of all shows.
fn instances(port: u16) -> Result<usize> {
    Ok(ask(port, "GET", "/eureka/apps/", None)?.body.matches("\"instanceId\"").count())
}

struct Load<'a> {
    server: &'a Eureka,
    connections: usize,
    /// How many requests; none for as many as there are in a round.
    count: Option<usize>,
    /// A shorter round that nobody looks at.
    warm: bool,
}

#[derive(Default)]
struct Figures {
    took: Vec<Duration>,
    bytes: usize,
    lasted: Duration,
    processor: Duration,
}

impl Load<'_> {
    /// Sends requests, each with a number of its own.
    fn run(&self, request: &(dyn Fn(usize) -> Vec<u8> + Sync)) -> Result<Figures> {
        let (begin, before) = (Instant::now(), processor(self.server)?);
        let round = if self.warm { ROUND / 2 } else { ROUND };
        let all: Vec<Result<(Vec<Duration>, usize)>> = thread::scope(|scope| {
            let (port, connections, count) = (self.server.port, self.connections, self.count);
            let one = move |connection: usize| {
                let mut stream = TcpStream::connect(("127.0.0.1", port))?;
                stream.set_nodelay(true)?;
                let mut answers = BufReader::with_capacity(1 << 18, stream.try_clone()?);
                let (mut took, mut bytes) = (Vec::new(), 0);
                for number in (connection..).step_by(connections) {
                    match count {
                        Some(count) if number >= count => break,
                        None if begin.elapsed() >= round => break,
                        _ => {}
                    }
                    let request = request(number);
                    let sent = Instant::now();
                    stream.write_all(&request)?;
                    bytes += answer(&mut answers)?;
                    took.push(sent.elapsed());
                }
                Ok((took, bytes))
            };
            let threads: Vec<_> = (0..connections).map(|number| scope.spawn(move || one(number))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
        });
        let mut figures = Figures { lasted: begin.elapsed(), ..Figures::default() };
        figures.processor = processor(self.server)?.saturating_sub(before);
        for one in all {
            let (took, bytes) = one?;
            figures.took.extend(took);
            figures.bytes += bytes;
        }
        figures.took.sort();
        Ok(figures)
    }
}

/// Reads an answer to its end. Returns the bytes of its body.
fn answer(answers: &mut BufReader<TcpStream>) -> Result<usize> {
    let (mut line, mut length, mut in_chunks, mut first) = (String::new(), 0, false, true);
    loop {
        line.clear();
        ensure!(answers.read_line(&mut line)? > 0, "the server ended the connection");
        if std::mem::take(&mut first) && !line.starts_with("HTTP/1.1 2") {
            bail!("{line}");
        }
        if line == "\r\n" {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        in_chunks |= lower.starts_with("transfer-encoding: chunked");
    }
    if !in_chunks {
        return skip(answers, length);
    }
    let mut all = 0;
    loop {
        line.clear();
        answers.read_line(&mut line)?;
        let chunk = usize::from_str_radix(line.trim(), 16)?;
        all += skip(answers, chunk)?;
        skip(answers, 2)?;
        if chunk == 0 {
            return Ok(all);
        }
    }
}

fn skip(answers: &mut BufReader<TcpStream>, bytes: usize) -> Result<usize> {
    let mut left = bytes;
    while left > 0 {
        let there = answers.fill_buf()?.len().min(left);
        ensure!(there > 0, "the server ended the connection");
        answers.consume(there);
        left -= there;
    }
    Ok(bytes)
}

fn report(size: usize, what: &str, name: &str, figures: &Figures) {
    let count = figures.took.len().max(1);
    let at = |part: f64| figures.took.get((count as f64 * part) as usize).map_or(0.0, |took| took.as_secs_f64() * 1e3);
    let rate = count as f64 / figures.lasted.as_secs_f64();
    let (bytes, processor) = (figures.bytes / count, figures.processor.as_micros() / count as u128);
    println!("| {size} | {what} | {name} | {rate:.0} | {:.2} | {:.2} | {bytes} | {processor} |", at(0.5), at(0.99));
}

fn stat(server: &Eureka, file: &str) -> Result<String> {
    let mut text = String::new();
    std::fs::File::open(format!("/proc/{}/{file}", server.process.pid()))?.read_to_string(&mut text)?;
    Ok(text)
}

/// Processor time so far, in ticks of a hundredth of a second.
fn processor(server: &Eureka) -> Result<Duration> {
    let stat = stat(server, "stat")?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("no name")?.1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

fn resident_kib(server: &Eureka) -> Result<u64> {
    let status = stat(server, "status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// From a registration at one of two peers to its sight in the list of all at the other, asked every five milliseconds.
fn sight(is_ours: bool) -> Result<()> {
    let ports = [free_port()?, free_port()?];
    let servers = match is_ours {
        true => [start_ours_pair(ports, 0)?, start_ours_pair(ports, 1)?],
        false => {
            let fresh = ["--eureka.server.use-read-only-response-cache=false"];
            [start_original(ports[0], &[ports[1]], &fresh)?.0, start_original(ports[1], &[ports[0]], &fresh)?.0]
        }
    };
    answers(ports[0], Instant::now())?;
    answers(ports[1], Instant::now())?;
    let mut took = Vec::new();
    for number in 0..21 {
        let id = format!("sight-{number}");
        let begin = Instant::now();
        servers[0].register("SIGHT", &id)?;
        while !ask(ports[1], "GET", "/eureka/apps/", None)?.body.contains(&id) {
            ensure!(begin.elapsed() < DEADLINE, "{id} is not seen");
            thread::sleep(Duration::from_millis(5));
        }
        took.push(begin.elapsed());
        thread::sleep(Duration::from_millis(137));
    }
    took.sort();
    let name = if is_ours { "ours" } else { "the original, without its copies" };
    println!("a registration is in the list of a peer: {name}: {:?} (median), {:?} (longest)", took[10], took[20]);
    Ok(())
}

fn start_ours_pair(ports: [u16; 2], place: usize) -> Result<Eureka> {
    let list = format!("eureka.client.service-url.defaultZone={}", urls(&ports));
    Eureka::start(ports[place], &[&list])
}
