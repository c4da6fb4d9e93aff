//! Figures of the service registry beside Spring Cloud's Eureka server, in one run. `bench/registry` starts this.
//!
//! Both servers run at the same time, each idle while the other is measured. The load is 16 connections, each with one request outstanding.
//! The instances are in 100 applications. The original has its default options and compilers, 2 GiB of heap, and connections
//! that last. Beside lists of all stands nginx, which sends the same bytes from files. What an answer says is not looked at.
//!
//! Arguments are numbers of instances, and of `sight`, `frozen` and `crash` those that are wanted; without any all is measured.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rookeeper_acceptance::eureka::{Eureka, ask, free_port, urls};
use rookeeper_acceptance::foreign::{Dialogue, eureka_server};
use rustix::net::{self, RecvFlags};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

const CONNECTIONS: usize = 16;
const APPLICATIONS: usize = 100;
const ROUND: Duration = Duration::from_secs(3);
const DEADLINE: Duration = Duration::from_secs(300);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let stories = ["sight", "frozen", "crash"];
    if let Some(other) = arguments.iter().find(|one| one.parse::<usize>().is_err() && !stories.contains(&one.as_str()))
    {
        bail!("{other} is neither a number of instances nor one of {stories:?}");
    }
    let mut sizes: Vec<usize> = arguments.iter().filter_map(|one| one.parse().ok()).collect();
    if arguments.is_empty() {
        sizes = vec![1000, 10_000, 100_000];
    }
    if !sizes.is_empty() {
        load(&sizes)?;
    }
    for story in stories.into_iter().filter(|story| arguments.is_empty() || arguments.iter().any(|one| one == story)) {
        for is_ours in [true, false] {
            match story {
                "sight" => sight(is_ours)?,
                "frozen" => frozen(is_ours)?,
                // All servers wait for the same minutes.
                _ if is_ours => crash()?,
                _ => {}
            }
        }
    }
    Ok(())
}

/// Requests one after the other, with so many instances.
fn load(sizes: &[usize]) -> Result<()> {
    let ours = start_ours(free_port()?, &[])?;
    let original = start_original(free_port()?, &[], &[])?;
    println!("started: ours after {:?}, the original after {:?}", ours.1, original.1);
    let servers = [("ours", ours.0), ("original", original.0)];
    let folder = TempDir::new()?;
    let nginx = Nginx::start(&folder)?;
    println!(
        "| instances | work | server | a second | p50 ms | p99 ms | bytes of an answer | processor us of a request |"
    );
    println!("| ---: | --- | --- | ---: | ---: | ---: | ---: | ---: |");
    let mut known = 0;
    for &size in sizes {
        for (name, server) in &servers {
            let from = known;
            let load = Load {
                port: server.port,
                process: server.process.pid(),
                connections: CONNECTIONS,
                count: Some(size - from),
                warm: false,
            };
            report(size, "register", name, &load.run(&|number| registration(from + number))?);
            // The original's lists are copies of up to half a minute.
            let begin = Instant::now();
            while instances(server.port)? < size {
                ensure!(begin.elapsed() < DEADLINE, "{name} does not show {size} instances");
                thread::sleep(Duration::from_millis(500));
            }
        }
        known = size;
        nginx.keep(&servers[0].1)?;
        for round in 0..2 {
            for (name, server) in &servers {
                let measure = |what: &str, request: &(dyn Fn(usize) -> Vec<u8> + Sync)| -> Result<()> {
                    let (port, process) = (server.port, server.process.pid());
                    let load = Load { port, process, connections: CONNECTIONS, count: None, warm: round == 0 };
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
            for (what, gzip) in [("all, gzip", true), ("all, plain", false)] {
                let (port, process) = (nginx.port, nginx.process.pid());
                let load = Load { port, process, connections: CONNECTIONS, count: None, warm: round == 0 };
                let figures = load.run(&|_| get("all.json", gzip))?;
                if round == 1 {
                    report(size, what, "nginx", &figures);
                }
            }
        }
        for (name, server) in &servers {
            println!("| {size} | resident MiB | {name} | {} | | | | |", resident_kib(server)? / 1024);
        }
    }
    Ok(())
}

/// A server of files, which are what ours shows.
struct Nginx {
    process: Dialogue,
    port: u16,
    folder: std::path::PathBuf,
}

impl Nginx {
    fn start(folder: &TempDir) -> Result<Nginx> {
        let fetched = rookeeper_acceptance::fixture::repository().join(".nginx/usr/sbin/nginx");
        let program = if fetched.exists() { fetched } else { "nginx".into() };
        let (port, path) = (free_port()?, folder.path());
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary: String =
            temporary.iter().map(|kind| format!("{kind}_temp_path {}/{kind};\n", path.display())).collect();
        // The files are in a folder of their own, and `eureka` leads to them as at the others.
        std::fs::create_dir_all(path.join("eureka"))?;
        std::fs::write(
            path.join("nginx.conf"),
            format!(
                "daemon off;\nworker_processes auto;\npid {0}/pid;\nerror_log stderr;\nevents {{ worker_connections 512; }}\nhttp {{\n\
                 access_log off;\nsendfile on;\ntcp_nopush on;\nkeepalive_requests 1000000000;\nopen_file_cache max=16;\ngzip_static on;\n\
                 types {{ application/json json; }}\n{temporary}server {{ listen 127.0.0.1:{port}; root {0}; }}\n}}\n",
                path.display()
            ),
        )?;
        let mut command = Command::new(program);
        command.arg("-e").arg("stderr").arg("-p").arg(path).arg("-c").arg(path.join("nginx.conf"));
        let process = Dialogue::of("nginx", command).context("bench/registry fetches nginx")?;
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(begin.elapsed() < DEADLINE, "nginx does not answer");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Nginx { process, port, folder: path.to_owned() })
    }

    /// Takes over what a server shows now.
    fn keep(&self, server: &Eureka) -> Result<()> {
        for (name, encoding) in [("all.json", ""), ("all.json.gz", "Accept-Encoding: gzip\r\n")] {
            let mut stream = TcpStream::connect(("127.0.0.1", server.port))?;
            let request = format!(
                "GET /eureka/apps/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: application/json\r\n{encoding}\r\n"
            );
            stream.write_all(request.as_bytes())?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            let head = answer.windows(4).position(|four| four == b"\r\n\r\n").context("no head")?;
            std::fs::write(self.folder.join("eureka").join(name), &answer[head + 4..])?;
        }
        // Its workers keep files open: new ones open these.
        self.process.signal(Signal::HUP)?;
        thread::sleep(Duration::from_secs(2));
        Ok(())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it.
        let _ = self.process.signal(Signal::TERM);
        let _ = self.process.end();
    }
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

struct Load {
    port: u16,
    /// With its children.
    process: u32,
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

impl Load {
    /// Sends requests, each with a number of its own.
    fn run(&self, request: &(dyn Fn(usize) -> Vec<u8> + Sync)) -> Result<Figures> {
        let (begin, before) = (Instant::now(), processor(self.process)?);
        let round = if self.warm { ROUND / 2 } else { ROUND };
        let all: Vec<Result<(Vec<Duration>, usize)>> = thread::scope(|scope| {
            let (port, connections, count) = (self.port, self.connections, self.count);
            let one = move |connection: usize| {
                let mut stream = TcpStream::connect(("127.0.0.1", port))?;
                stream.set_nodelay(true)?;
                let mut answers = BufReader::with_capacity(4096, stream.try_clone()?);
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
        figures.processor = processor(self.process)?.saturating_sub(before);
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
    let there = answers.buffer().len().min(bytes);
    answers.consume(there);
    let (mut left, mut untouched) = (bytes - there, vec![0; (bytes - there).min(1 << 20)]);
    while left > 0 {
        // The system drops the bytes without a copy, so that less of the machine is spent on the load.
        let wanted = left.min(untouched.len());
        let (dropped, _) = net::recv(answers.get_ref(), &mut untouched[..wanted], RecvFlags::TRUNC)?;
        ensure!(dropped > 0, "the server ended the connection");
        left -= dropped;
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

fn stat(process: u32, file: &str) -> Result<String> {
    Ok(std::fs::read_to_string(format!("/proc/{process}/{file}"))?)
}

/// Processor time so far of a process and its children, in ticks of a hundredth of a second.
fn processor(process: u32) -> Result<Duration> {
    let children = stat(process, &format!("task/{process}/children"))?;
    let mut ticks: u64 = 0;
    for one in children.split_whitespace().map(str::parse).chain([Ok(process)]) {
        let stat = stat(one?, "stat")?;
        let fields: Vec<&str> = stat.rsplit_once(')').context("no name")?.1.split_whitespace().collect();
        ticks += fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    }
    Ok(Duration::from_millis(ticks * 10))
}

fn resident_kib(server: &Eureka) -> Result<u64> {
    let status = stat(server.process.pid(), "status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// From a registration at one of two peers to its sight in the list of all at the other, asked every five milliseconds.
fn sight(is_ours: bool) -> Result<()> {
    let servers = pair(is_ours, true)?;
    let ports = [servers[0].port, servers[1].port];
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
    let name = name(is_ours);
    println!("a registration is in the list of a peer: {name}: {:?} (median), {:?} (longest)", took[10], took[20]);
    Ok(())
}

fn name(is_ours: bool) -> &'static str {
    if is_ours { "ours" } else { "the original, without its copies" }
}

/// Two peers. `fresh`: the original shows no copies of up to half a minute.
fn pair(is_ours: bool, fresh: bool) -> Result<[Eureka; 2]> {
    let ports = [free_port()?, free_port()?];
    let servers = match is_ours {
        true => [start_ours_pair(ports, 0)?, start_ours_pair(ports, 1)?],
        false => {
            let fresh = ["--eureka.server.use-read-only-response-cache=false"].into_iter().filter(|_| fresh);
            let options: Vec<&str> = fresh.collect();
            [start_original(ports[0], &[ports[1]], &options)?.0, start_original(ports[1], &[ports[0]], &options)?.0]
        }
    };
    for port in ports {
        answers(port, Instant::now())?;
    }
    Ok(servers)
}

/// A peer stands still for a minute, its sockets open, while instances register at the other one and send heartbeats.
fn frozen(is_ours: bool) -> Result<()> {
    const MINUTE: Duration = Duration::from_secs(60);
    let servers = pair(is_ours, true)?;
    let known = 200;
    let mut requests = Vec::new();
    let mut request = |method: &str, path: &str, body: Option<&Value>| -> Result<()> {
        let begin = Instant::now();
        let status = servers[0].ask(method, path, body).status;
        ensure!([200, 204].contains(&status), "{method} {path} was answered {status}");
        requests.push(begin.elapsed());
        Ok(())
    };
    for number in 0..known {
        request(
            "POST",
            "/eureka/apps/FROZEN",
            Some(&rookeeper_acceptance::eureka::instance("FROZEN", &format!("before-{number}"), 1)),
        )?;
    }
    let shown = || -> Result<usize> {
        Ok(ask(servers[1].port, "GET", "/eureka/apps/FROZEN", None)?.body.matches("\"instanceId\"").count())
    };
    let begin = Instant::now();
    while shown()? < known {
        ensure!(begin.elapsed() < DEADLINE, "the peer does not know all");
        thread::sleep(Duration::from_millis(20));
    }
    servers[1].process.signal(Signal::STOP)?;
    let (begin, before) = (Instant::now(), processor(servers[0].process.pid())?);
    let mut registered = 0;
    while begin.elapsed() < MINUTE {
        request(
            "POST",
            "/eureka/apps/FROZEN",
            Some(&rookeeper_acceptance::eureka::instance("FROZEN", &format!("while-{registered}"), 1)),
        )?;
        request("PUT", &format!("/eureka/apps/FROZEN/before-{}?status=UP", registered % known), None)?;
        registered += 1;
        thread::sleep(Duration::from_millis(50));
    }
    let used = processor(servers[0].process.pid())?.saturating_sub(before);
    servers[1].process.signal(Signal::CONT)?;
    let thawed = Instant::now();
    let mut there = shown()?;
    while there < known + registered && thawed.elapsed() < MINUTE {
        thread::sleep(Duration::from_millis(5));
        there = shown()?;
    }
    let took = thawed.elapsed();
    requests.sort();
    let (p99, longest) = (requests[requests.len() * 99 / 100], requests[requests.len() - 1]);
    println!(
        "a peer frozen for a minute: {}: {registered} registrations meanwhile, of which {} are missing at the peer {took:?} after it went on; requests at \
         the other one took {p99:?} (99 %), {longest:?} (longest), and {used:?} of processor time",
        name(is_ours),
        known + registered - there
    );
    Ok(())
}

/// An instance that sends no heartbeats any more, until no list shows it, with the default lease, all servers with their defaults.
fn crash() -> Result<()> {
    const INSTANCES: usize = 20;
    const BEAT: Duration = Duration::from_secs(30);
    let clusters = [(true, pair(true, false)?), (false, pair(false, false)?)];
    let id = |number: usize| format!("crash-{number}");
    for number in 0..INSTANCES {
        for (_, servers) in &clusters {
            servers[0].register("CRASH", &id(number))?;
        }
    }
    let mut gone: Vec<[Option<Duration>; 2]> = vec![[None; 2]; clusters.len()];
    let (begin, mut beats, mut crashed) = (Instant::now(), 0, None::<Instant>);
    while gone.iter().flatten().any(Option::is_none) {
        ensure!(begin.elapsed() < 3 * DEADLINE, "the instance is still shown: {gone:?}");
        if begin.elapsed() >= BEAT * beats {
            // Long enough for a whole minute of heartbeats to be counted; after its last one it is silent.
            let is_last = beats == 5;
            let living = if beats > 5 { 1 } else { 0 };
            for number in living..INSTANCES {
                for (_, servers) in &clusters {
                    let status =
                        servers[0].ask("PUT", &format!("/eureka/apps/CRASH/{}?status=UP", id(number)), None).status;
                    ensure!(status == 200, "a heartbeat was answered {status}");
                }
            }
            if is_last {
                crashed = Some(Instant::now());
            }
            beats += 1;
        }
        if let Some(crashed) = crashed {
            for ((_, servers), gone) in clusters.iter().zip(&mut gone) {
                for (server, gone) in servers.iter().zip(gone) {
                    let list = ask(server.port, "GET", "/eureka/apps/", None)?.body;
                    let lists = json!({"instanceId": id(0)}).to_string();
                    if gone.is_none() && !list.contains(lists.trim_matches(['{', '}'])) {
                        *gone = Some(crashed.elapsed());
                    }
                }
            }
        }
        thread::sleep(Duration::from_millis(100));
    }
    for ((is_ours, _), gone) in clusters.iter().zip(&gone) {
        let name = if *is_ours { "ours" } else { "the original" };
        println!(
            "from the last heartbeat of a crashed instance until no list shows it: {name}: {gone:?}, at its own server and at the peer"
        );
    }
    Ok(())
}

fn start_ours_pair(ports: [u16; 2], place: usize) -> Result<Eureka> {
    let list = format!("eureka.client.service-url.defaultZone={}", urls(&ports));
    Eureka::start(ports[place], &[&list])
}
