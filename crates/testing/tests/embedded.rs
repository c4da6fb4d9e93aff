//! Servers and ensembles for tests, as kazoo (Python) and Apache Curator (Java) see them while members are killed, frozen and cut off.

// A test that cannot go on has failed.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rookeeper_acceptance::foreign::{Dialogue, curator_program, python};
use rookeeper_acceptance::server::rookeeper_binary;
use rookeeper_testing::{DEADLINE, Ensemble, Server};

fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < until, "did not happen: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn kazoo(address: &str) -> Dialogue {
    Dialogue::start("kazoo", python("contender.py").unwrap(), address).unwrap()
}

fn curator(address: &str) -> Dialogue {
    Dialogue::start("Curator", curator_program("Contender.java").unwrap(), address).unwrap()
}

#[test]
fn a_server_is_there_at_once_and_goes_with_its_handle() {
    let mut times = Vec::new();
    for _ in 0..10 {
        let start = Instant::now();
        let server = Server::start().unwrap();
        TcpStream::connect(server.address()).unwrap();
        times.push(start.elapsed());
        let process = format!("/proc/{}", server.process_id().unwrap());
        assert!(Path::new(&process).exists());
        let address = server.address();
        drop(server);
        assert!(!Path::new(&process).exists() && TcpStream::connect(address).is_err());
    }
    times.sort();
    println!("a server is ready after {:?}, at most {:?}", times[5], times[9]);
}

#[test]
fn a_server_ends_with_whoever_started_it_and_leaves_nothing() {
    let mut command = Command::new(rookeeper_binary().unwrap());
    command.args(["server", "--ephemeral", "--port", "0", "--print-address", "--while-stdin"]).stderr(Stdio::null());
    let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address: std::net::SocketAddr = line.trim().parse().unwrap();
    TcpStream::connect(address).unwrap();
    let directory = format!("rookeeper-ephemeral-{}", server.id());
    let exists =
        || [Path::new("/dev/shm"), &std::env::temp_dir()].iter().any(|parent| parent.join(&directory).exists());
    assert!(exists());
    drop(server.stdin.take());
    assert!(server.wait().unwrap().success());
    assert!(!exists());
}

#[test]
fn kazoo_and_curator_share_a_lock_across_a_restart() {
    let mut server = Server::start().unwrap();
    let address = server.address().to_string();
    let (mut kazoo, mut curator) = (kazoo(&address), curator(&address));
    assert!(kazoo.ask("curator-lock /shared").unwrap().starts_with("held"));
    server.kill().unwrap();
    server.restart().unwrap();
    assert_eq!(server.address().to_string(), address);
    assert_eq!(curator.ask("try lock /shared").unwrap(), "busy", "the session outlives the server");
    server.freeze().unwrap();
    curator.tell("lock /shared").unwrap();
    server.thaw().unwrap();
    assert_eq!(kazoo.ask("unlock /shared").unwrap(), "released");
    assert_eq!(curator.answer().unwrap(), "held");
    server.stop().unwrap();
    assert!(server.log().contains("stopped in"));
}

#[test]
fn an_ensemble_goes_on_without_its_leader() {
    let start = Instant::now();
    let mut ensemble = Ensemble::start(3).unwrap();
    println!("an ensemble of three serves after {:?}", start.elapsed());
    let mut kazoo = kazoo(&ensemble.connect_string());
    assert!(kazoo.ask("lock /held").unwrap().starts_with("held"));
    let first = ensemble.leader().unwrap();
    ensemble.kill(first).unwrap();
    let second = ensemble.leader().unwrap();
    assert_ne!(first, second);
    assert_eq!(kazoo.ask("unlock /held").unwrap(), "released");
    ensemble.restart(first).unwrap();
    ensemble.freeze(second).unwrap();
    wait("another leads while the leader is frozen", || ensemble.leader().is_ok_and(|leader| leader != second));
    assert!(kazoo.ask("lock /held").unwrap().starts_with("held"));
    ensemble.thaw(second).unwrap();
    wait("all serve", || ensemble.ids().iter().all(|id| ensemble.mode(*id).is_some()));
}

#[test]
fn a_leader_that_is_cut_off_leads_no_more() {
    let ensemble = Ensemble::start(3).unwrap();
    let mut curator = curator(&ensemble.connect_string());
    assert_eq!(curator.ask("lock /held").unwrap(), "held");
    let first = ensemble.leader().unwrap();
    ensemble.cut(first);
    wait("another leads", || ensemble.leader().is_ok_and(|leader| leader != first));
    wait("the old leader knows", || ensemble.mode(first).as_deref() != Some("leader"));
    assert_eq!(curator.ask("unlock /held").unwrap(), "released");
    assert_ne!(ensemble.mode(first).as_deref(), Some("follower"), "nothing reaches it");
    ensemble.mend(first);
    wait("it comes back", || ensemble.mode(first).as_deref() == Some("follower"));
}
