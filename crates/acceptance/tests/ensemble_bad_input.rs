//! What no member sends, on the two ports between members: garbage, hostile lengths, wrong ids, a newer version, a learner that
//! stops to read. The sender is dropped with a line in the log, and the ensemble goes on, with little memory.
//!
//! The original is asked the same, but only that it goes on: its log and memory are not ours to judge.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use rookeeper_acceptance::client::{DEADLINE, open};
use rookeeper_acceptance::ensemble::{Ensemble, Plan};
use rookeeper_acceptance::random::Random;
use rookeeper_acceptance::server::Product;
use rookeeper_acceptance::wire::{self, Body, Fields};

const FOLLOWER_INFO: i32 = 11;
const LEADER_INFO: i32 = 17;
const ACK_EPOCH: i32 = 18;
const OBSERVER_INFO: i32 = 16;
const REQUEST: i32 = 1;
const ACK: i32 = 3;
const INITIAL_MESSAGE_V1: i64 = -65536;
/// Nothing on these ports makes a server take more than this.
const MOST_MEMORY_KIB: u64 = 300 << 10;

fn three() -> (Ensemble, u64) {
    let mut ensemble = Plan::under_test(3).start().expect("three servers form an ensemble");
    let leader = ensemble.leader().expect("one leads");
    (ensemble, leader)
}

fn is_ours() -> bool {
    Product::under_test() == Product::Rookeeper
}

/// All three are there, the same one leads, writes succeed, and nobody took much memory.
fn assert_healthy(ensemble: &mut Ensemble, leader: u64) {
    assert_eq!(ensemble.wait_formed().expect("all serve"), leader, "the leader goes on");
    for id in ensemble.ids() {
        let mut client = ensemble.connect(id).expect("a session");
        let path = format!("/healthy-{id}");
        if client.exists(&path).expect("an answer").is_none() {
            client.create(&path, b"").expect("a write");
        }
        client.set_data(&path, b"x", -1).expect("a write");
        client.close().expect("an orderly end");
        let peak = peak_memory_kib(ensemble, id);
        assert!(!is_ours() || peak < MOST_MEMORY_KIB, "member {id} took {peak} KiB");
    }
}

fn peak_memory_kib(ensemble: &Ensemble, id: u64) -> u64 {
    let status = format!("/proc/{}/status", ensemble.process_id(id).expect("it runs"));
    let status = fs::read_to_string(status).expect("the kernel knows the process");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    peak.expect("the kernel counts memory").trim().parse().expect("a number")
}

/// Sends the bytes and reads until the server ends the connection, which it must.
fn dropped_after(address: SocketAddr, bytes: &[u8], what: &str) -> TcpStream {
    let mut stream = open(address).expect("a connection");
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes);
    assert_dropped(&mut stream, what);
    stream
}

fn assert_dropped(stream: &mut TcpStream, what: &str) {
    let until = Instant::now() + DEADLINE;
    let mut buffer = [0; 4096];
    while Instant::now() < until {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => return,
            Err(error) => panic!("{what}: {error}"),
        }
    }
    panic!("{what}: the server goes on talking");
}

/// A warning in the log names the peer, and says why. Strangers at a port are named once a minute and counted otherwise, so behind the first
/// of a test its warning stands for the others.
fn assert_logged(ensemble: &mut Ensemble, id: u64, stream: &TcpStream, what: &str) {
    if is_ours() {
        let peer = stream.local_addr().expect("it was connected").to_string();
        let mut found = String::new();
        ensemble
            .wait_for("a warning names the peer", |ensemble| {
                let log = ensemble.log(id);
                let is_meant = |line: &&str| line.contains(&peer) || is_about_a_stranger(line);
                found = log.lines().filter(|line| line.contains(" WARN ")).find(is_meant).unwrap_or("").to_owned();
                Ok(!found.is_empty())
            })
            .unwrap_or_else(|error| panic!("{what}: {error:#}"));
        println!("{what}: {found}");
    }
}

fn is_about_a_stranger(line: &str) -> bool {
    line.contains("to the quorum port: ") || line.contains("closes an election connection from ")
}

fn packet(kind: i32, zxid: i64, data: Option<&[u8]>) -> Vec<u8> {
    Body::new().int(kind).long(zxid).buffer(data).int(-1).0
}

fn learner_info(id: i64, protocol: i32, config_version: i64) -> Vec<u8> {
    Body::new().long(id).int(protocol).long(config_version).0
}

#[test]
fn garbage_on_both_ports() {
    let (mut ensemble, leader) = three();
    let mut random = Random::from_environment("garbage_on_both_ports");
    let addresses: Vec<SocketAddr> =
        ensemble.ids().iter().flat_map(|id| [ensemble.quorum_address(*id), ensemble.election_address(*id)]).collect();
    for round in 0..200 {
        let bytes: Vec<u8> = match round % 3 {
            0 => (0..random.below(300)).map(|_| random.number() as u8).collect(),
            1 => (0..random.below(300)).map(|_| random.below(20) as u8).collect(),
            _ => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        };
        // The original listens on the quorum port only where it leads.
        if let Ok(mut stream) = open(addresses[round % addresses.len()]) {
            let _ = stream.write_all(&bytes);
        }
    }
    assert_healthy(&mut ensemble, leader);
}

/// How many refusals the log tells of: lines, and the numbers of those that were not logged.
fn told(log: &str, line: &str, cause: &str) -> u64 {
    let number = |text: &str, words: &str| -> Option<u64> {
        let (before, _) = text.split_once(words)?;
        before.rsplit(|c: char| !c.is_ascii_digit()).find(|digits| !digits.is_empty())?.parse().ok()
    };
    let notice = format!(" more lines about {cause} were not logged");
    let lines = log.lines().filter(|text| text.contains(line) || text.contains(&notice));
    lines
        .map(|text| match number(text, &notice) {
            Some(count) => count,
            None => 1 + number(text, " more like this were not logged").unwrap_or(0),
        })
        .sum()
}

#[test]
fn a_flood_is_a_few_lines_and_a_number() {
    const FLOOD: u64 = 300;
    if !is_ours() {
        return;
    }
    let (mut ensemble, leader) = three();
    let ports = [
        (ensemble.quorum_address(leader), "to the quorum port: ", "strangers at the quorum port"),
        (ensemble.election_address(leader), "closes an election connection from ", "strangers at the election port"),
        (ensemble.address(leader), "closed: ", "connections closed for what they sent"),
    ];
    for (address, ..) in &ports {
        // Whoever sees the end of a connection knows that it is logged or counted.
        (0..FLOOD).for_each(|_| drop(dropped_after(*address, &[0xff; 64], "a flood")));
    }
    assert_healthy(&mut ensemble, leader);
    // The numbers are told a minute later, or at the end.
    ensemble.stop(leader).expect("an orderly end");
    let log = ensemble.log(leader);
    for (_, line, cause) in ports {
        let told = told(&log, line, cause);
        // Members that call each other at the same time give up a connection, which may be among them.
        assert!((FLOOD..FLOOD + 10).contains(&told), "{cause}: {told}");
        let lines = log.lines().filter(|text| text.contains(line)).count();
        assert!(lines <= 30, "{lines} lines about {cause}");
    }
    ensemble.start(leader).expect("it starts again");
    let leader = ensemble.wait_formed().expect("all serve");
    assert_healthy(&mut ensemble, leader);
}

#[test]
fn hostile_lengths_on_the_quorum_port() {
    let (mut ensemble, leader) = three();
    let address = ensemble.quorum_address(leader);
    for length in [i32::MAX, i32::MIN, -2, 64 << 20] {
        let what = format!("data of length {length}");
        let stream = dropped_after(address, &Body::new().int(FOLLOWER_INFO).long(0).int(length).int(-1).0, &what);
        assert_logged(&mut ensemble, leader, &stream, &what);
    }
    for count in [i32::MAX, -2, 1 << 28] {
        let what = format!("{count} identities");
        let bytes = Body::new().int(FOLLOWER_INFO).long(0).buffer(Some(&learner_info(9, 0x10000, 0))).int(count).0;
        // A list that goes on for ever is not waited for either.
        let stream = dropped_after(address, &[bytes, vec![0; 64 << 10]].concat(), &what);
        assert_logged(&mut ensemble, leader, &stream, &what);
    }
    assert_healthy(&mut ensemble, leader);
}

#[test]
fn learners_that_cannot_be() {
    let (mut ensemble, leader) = three();
    let address = ensemble.quorum_address(leader);
    let cases = [
        ("no handshake at all", packet(REQUEST, -1, Some(&[0; 20]))),
        ("an acknowledgement first", packet(ACK, 1 << 32, None)),
        ("a short handshake", packet(FOLLOWER_INFO, 0, Some(&[0; 3]))),
        ("a membership from the future", packet(FOLLOWER_INFO, 0, Some(&learner_info(2, 0x10000, i64::MAX)))),
    ];
    for (what, bytes) in cases {
        let stream = dropped_after(address, &bytes, what);
        assert_logged(&mut ensemble, leader, &stream, what);
    }
    assert_healthy(&mut ensemble, leader);
}

/// Reads one packet: kind and zxid.
fn read_packet(stream: &mut TcpStream) -> (i32, i64) {
    let mut head = [0; 16];
    stream.read_exact(&mut head).expect("a packet");
    let mut fields = Fields(&head);
    let (kind, zxid, length) =
        (fields.int().expect("kind"), fields.long().expect("zxid"), fields.int().expect("length"));
    let mut rest = vec![0; length.max(0) as usize + 4];
    stream.read_exact(&mut rest).expect("the rest of the packet");
    (kind, zxid)
}

/// Speaks as a learner up to the epoch, and says that it has nothing.
fn shake_hands(address: SocketAddr, kind: i32, id: i64, protocol: i32) -> (TcpStream, i64) {
    let mut stream = open(address).expect("a connection");
    stream.write_all(&packet(kind, 0, Some(&learner_info(id, protocol, 0)))).expect("a packet");
    let (answer, zxid) = read_packet(&mut stream);
    assert_eq!(answer, LEADER_INFO);
    stream.write_all(&packet(ACK_EPOCH, 0, Some(&0_i32.to_be_bytes()))).expect("a packet");
    (stream, zxid)
}

/// Peers say their version; a newer one is served in the version that both know.
#[test]
fn a_newer_learner_is_served() {
    let (mut ensemble, leader) = three();
    let (mut stream, epoch) = shake_hands(ensemble.quorum_address(leader), OBSERVER_INFO, 77, 0x20000);
    assert!(epoch >= 1 << 32, "an epoch");
    let (kind, _) = read_packet(&mut stream);
    assert!((13..=15).contains(&kind), "DIFF, TRUNC or SNAP, not {kind}");
    drop(stream);
    assert_healthy(&mut ensemble, leader);
}

/// After an honest handshake, things a learner never says.
#[test]
fn learners_that_turn_bad() {
    let (mut ensemble, leader) = three();
    let address = ensemble.quorum_address(leader);
    let cases = [
        ("a request of impossible length", Body::new().int(REQUEST).long(-1).int(i32::MAX).0),
        ("a short request", packet(REQUEST, -1, Some(&[0; 3]))),
        ("negative length", Body::new().int(ACK).long(0).int(-5).0),
    ];
    for (what, bytes) in cases {
        let (mut stream, epoch) = shake_hands(address, OBSERVER_INFO, 77, 0x10000);
        stream.write_all(&packet(ACK, epoch, None)).expect("a packet");
        let _ = stream.write_all(&bytes);
        assert_dropped(&mut stream, what);
        assert_logged(&mut ensemble, leader, &stream, what);
    }
    // An acknowledgement of what was never proposed is nobody's vote.
    let (mut stream, epoch) = shake_hands(address, OBSERVER_INFO, 77, 0x10000);
    stream.write_all(&packet(ACK, epoch, None)).expect("a packet");
    let _ = stream.write_all(&packet(ACK, i64::MAX - 1, None));
    assert_healthy(&mut ensemble, leader);
}

fn learners(ensemble: &Ensemble, leader: u64) -> Option<String> {
    let text = ensemble.word(leader, "mntr").ok()?;
    text.lines().find_map(|line| line.strip_prefix("zk_learners\t")).map(str::to_owned)
}

/// A learner that neither reads nor speaks any more, while megabytes are written: dropped in time, not remembered for ever.
#[test]
fn a_learner_that_falls_silent() {
    let (mut ensemble, leader) = three();
    let (mut stream, epoch) = shake_hands(ensemble.quorum_address(leader), OBSERVER_INFO, 77, 0x10000);
    stream.write_all(&packet(ACK, epoch, None)).expect("a packet");
    let mut client = ensemble.connect(leader).expect("a session");
    client.create("/large", b"").expect("a node");
    let data = vec![b'x'; 500_000];
    for _ in 0..if is_ours() { 100 } else { 40 } {
        client.set_data("/large", &data, -1).expect("writes do not wait for it");
    }
    ensemble
        .wait_for("only two learners are left", |ensemble| Ok(learners(ensemble, leader).as_deref() == Some("2")))
        .expect("the leader gives it up");
    assert_logged(&mut ensemble, leader, &stream, "a learner that falls silent");
    assert_healthy(&mut ensemble, leader);
}

/// A learner that speaks but does not read: what waits for it has a limit.
#[test]
fn a_learner_that_does_not_listen() {
    const MOST_WRITES: usize = 1000;
    if !is_ours() {
        return;
    }
    let (mut ensemble, leader) = three();
    let (mut stream, epoch) = shake_hands(ensemble.quorum_address(leader), OBSERVER_INFO, 77, 0x10000);
    stream.write_all(&packet(ACK, epoch, None)).expect("a packet");
    let mut client = ensemble.connect(leader).expect("a session");
    client.create("/large", b"").expect("a node");
    let data = vec![b'x'; 1_000_000];
    let mut writes = 0;
    while stream.write_all(&packet(ACK, 0, None)).is_ok() {
        client.set_data("/large", &data, -1).expect("writes do not wait for it");
        writes += 1;
        assert!(writes < MOST_WRITES, "the leader keeps everything for a learner that does not read");
    }
    println!("dropped after {writes} MB; the leader took {} KiB", peak_memory_kib(&ensemble, leader));
    assert_logged(&mut ensemble, leader, &stream, "a learner that does not listen");
    assert!(peak_memory_kib(&ensemble, leader) < 2 * MOST_MEMORY_KIB);
    ensemble.connect(leader).expect("a session").set_data("/large", b"", -1).expect("a write");
}

#[test]
fn hostile_election_messages() {
    let (mut ensemble, leader) = three();
    let address = ensemble.election_address(leader);
    let hello = |id: i64, length: i32, text: &[u8]| {
        let mut bytes = Body::new().long(INITIAL_MESSAGE_V1).long(id).int(length).0;
        bytes.extend(text);
        bytes
    };
    for length in [i32::MAX, -1, 0, 100_000] {
        let what = format!("an address of length {length}");
        let stream = dropped_after(address, &hello(9, length, b"127.0.0.1:1"), &what);
        assert_logged(&mut ensemble, leader, &stream, &what);
    }
    let version = Body::new().long(-65000).long(9).int(11).0;
    let stream = dropped_after(address, &[version, b"127.0.0.1:1".to_vec()].concat(), "an unknown version");
    assert_logged(&mut ensemble, leader, &stream, "an unknown version");
    if is_ours() {
        let text = b"127.0.0.1:1";
        let own = hello(leader as i64, text.len() as i32, text);
        let stream = dropped_after(address, &own, "the server's own id");
        assert_logged(&mut ensemble, leader, &stream, "the server's own id");
    }

    // A stranger with a greater id is listened to, as the original does; what it says must have a length that can be.
    // Each is another stranger: a second connection of the same one may replace the first before that was read.
    for (stranger, length) in [(100, i32::MAX), (101, -1), (102, 0), (103, 1 << 20)] {
        let what = format!("a notification of length {length}");
        let text = b"127.0.0.1:1";
        let bytes = [hello(stranger, text.len() as i32, text), length.to_be_bytes().to_vec()].concat();
        let stream = dropped_after(address, &bytes, &what);
        assert_logged(&mut ensemble, leader, &stream, &what);
    }
    // And its votes change nothing.
    let text = b"127.0.0.1:1";
    let mut stream = open(address).expect("a connection");
    stream.write_all(&hello(99, text.len() as i32, text)).expect("a hello");
    for state in [0, 1, 2, 3, 77, -1] {
        let vote = Body::new().int(state).long(99).long(i64::MAX).long(i64::MAX).long(i64::MAX).int(1).0;
        if stream.write_all(&Body::new().buffer(Some(&vote)).0).is_err() {
            break;
        }
    }
    assert_healthy(&mut ensemble, leader);
}

/// Silence is not an attack on others: many connections that say nothing, and the election goes on.
#[test]
fn silent_connections() {
    let (mut ensemble, leader) = three();
    let mut silent: Vec<TcpStream> = Vec::new();
    for id in ensemble.ids() {
        for _ in 0..50 {
            silent.push(open(ensemble.election_address(id)).expect("a connection"));
            silent.extend(open(ensemble.quorum_address(id)).ok());
        }
    }
    assert_healthy(&mut ensemble, leader);
    if is_ours() {
        ensemble.kill(leader).expect("it runs");
        ensemble.wait_leader_other_than(leader).expect("an election among silence");
        ensemble.start(leader).expect("it starts again");
        let leader = ensemble.wait_formed().expect("all serve");
        assert_healthy(&mut ensemble, leader);
        for mut stream in silent {
            assert_dropped(&mut stream, "silence has an end");
        }
    }
    let mut client = ensemble.connect(1).expect("a session");
    client.call(wire::PING, &Body::new()).expect("an answer");
}
