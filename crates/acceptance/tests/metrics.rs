//! Metrics as Prometheus asks for them, read by the parser of its own library.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use rookeeper_acceptance::client::{Client, DEADLINE};
use rookeeper_acceptance::foreign::{output, python};
use rookeeper_acceptance::server::{Server, Setup};

const TELLS: &str = "tells Prometheus its metrics at http://";

fn setup() -> Setup {
    Setup::new()
        .config("metricsProvider.className", "org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider")
        .config("metricsProvider.httpHost", "127.0.0.1")
        .config("metricsProvider.httpPort", "0")
        .config("4lw.commands.whitelist", "*")
}

fn metrics_address(server: &Server) -> SocketAddr {
    let log = server.wait_log(TELLS).expect("the port is told");
    let behind = log.split(TELLS).nth(1).expect("it was found").split('/').next().expect("there is a path");
    behind.parse().expect("an address")
}

fn scrape(address: SocketAddr, names: &[&str]) -> Vec<f64> {
    let mut program = python("scrape.py").expect("the parser is installed");
    program.arg(format!("http://{address}/metrics")).args(names);
    let output = output(program, "").expect("it runs");
    output.stdout.lines().map(|line| line.parse().expect("a number")).collect()
}

/// The whole answer to these bytes.
fn answer(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the port is open");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

#[test]
fn what_is_told_is_what_happened() {
    let server = setup().start().expect("the server starts");
    let address = metrics_address(&server);
    let names = ["znode_count", "updatelatency_count", "num_alive_connections", "write_per_namespace_count{key=app}"];
    let before = scrape(address, &names[..3]);
    let mut client = Client::connect(server.address()).expect("a session");
    client.create("/app", b"").expect("a node");
    for number in 0..9 {
        client.create(&format!("/app/{number}"), b"x").expect("a node");
    }
    let after = scrape(address, &names);
    assert_eq!(after[0] - before[0], 10.0, "{before:?} {after:?}");
    // The session is a write too.
    assert!(after[1] - before[1] >= 10.0, "{before:?} {after:?}");
    assert_eq!(after[2] - before[2], 1.0, "{before:?} {after:?}");
    assert!(after[3] >= 9.0, "{after:?}");
    let process = scrape(address, &["process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"]);
    assert!(process[0] > 1e6 && process[1] > 3.0 && process[2] >= 0.0, "{process:?}");
}

#[test]
fn other_questions_are_refused_and_half_of_one_keeps_nobody_out() {
    let server = setup().start().expect("the server starts");
    let address = metrics_address(&server);
    let head = "HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert!(answer(address, &format!("GET /metrics {head}")).starts_with("HTTP/1.1 200 "));
    assert!(answer(address, &format!("GET /other {head}")).starts_with("HTTP/1.1 404 "));
    assert!(answer(address, &format!("PUT /metrics {head}")).starts_with("HTTP/1.1 405 "));
    assert!(answer(address, "\x16\x03\x01 is no HTTP\r\n\r\n").starts_with("HTTP/1.1 400 "));
    // More than one address may have: the last ones are closed at once, and those who finish theirs are answered.
    let mut halves: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(address).expect("the port is open");
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
            stream
        })
        .collect();
    // The others stay: those that are closed give their places back.
    let mut first = halves.remove(0);
    first.set_read_timeout(Some(DEADLINE)).expect("a socket");
    first.write_all(b"\r\n").expect("the rest");
    let mut text = String::new();
    first.read_to_string(&mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    server.wait_log("there are too many").expect("those beyond the limit are told");
}

#[test]
fn a_port_that_somebody_has_is_named_with_its_key() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = other.local_addr().expect("it is bound").port().to_string();
    let failure = setup().config("metricsProvider.httpPort", &port).start_and_fail().expect("it does not start");
    assert!(failure.log.contains("metrics port") && failure.log.contains("metricsProvider.httpPort"), "{failure:?}");
}
