//! More than the server can or may take at once: it slows its clients down, never loses or reorders an answer, and stays small.

use std::fs;
use std::time::Instant;

use rookeeper_acceptance::client::{Client, DEADLINE, four_letter_word, open, receive_frame};
use rookeeper_acceptance::server::{Product, Server, Setup};
use rookeeper_acceptance::wire::Body;

const GET_DATA: i32 = 4;
const SET_DATA: i32 = 5;

fn peak_memory_kib(server: &Server) -> u64 {
    let status = format!("/proc/{}/status", server.process_id().expect("the server runs"));
    let status = fs::read_to_string(status).expect("the kernel knows the process");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    peak.expect("the kernel counts memory").trim().parse().expect("a number")
}

#[test]
fn a_client_that_does_not_read_is_waited_for_and_others_are_not() {
    const ANSWERS: usize = 5000;
    const ANSWER_BYTES: usize = 100_000;
    let server = Setup::new().start().expect("the server starts");
    let mut other = Client::connect(server.address()).expect("a session");
    other.create("/large", &vec![7; ANSWER_BYTES]).expect("a node");

    let mut lazy = Client::connect(server.address()).expect("a session");
    for _ in 0..ANSWERS {
        lazy.send(GET_DATA, &Body::new().string("/large").bool(false)).expect("requests are small and fit the socket");
    }
    // Half a gigabyte of answers is asked for and not taken; the other client's requests go through meanwhile.
    other.create("/small", b"").expect("a node");
    for version in 0..200 {
        other.set_data("/small", b"x", version).expect("a write");
        other.get_data("/small").expect("a read");
    }
    let peak_kib = peak_memory_kib(&server);
    assert!(Product::under_test() == Product::Apache || peak_kib < 100 << 10, "{peak_kib} KiB were taken");

    for answer in 0..ANSWERS {
        let reply = lazy.receive().expect("an answer").ok().expect("success");
        assert_eq!(reply.xid, answer as i32 + 1, "answers come in order");
        assert!(reply.body.len() > ANSWER_BYTES);
    }
}

/// Sends so many changes of a node of its own for each client, in turn, before any answer is read.
fn expect_order(clients: &mut [Client], requests: usize) {
    for version in 0..requests {
        for (index, client) in clients.iter_mut().enumerate() {
            // Each names the version that only the request before it can have made.
            let body = Body::new().string(&format!("/{index}")).buffer(Some(b"x")).int(version as i32);
            client.send(SET_DATA, &body).expect("a request");
        }
    }
    for client in clients {
        for answer in 0..requests {
            let reply = client.receive().expect("an answer").ok().expect("the version is the expected one");
            assert_eq!(reply.xid, answer as i32 + 2);
        }
    }
}

#[test]
fn requests_beyond_the_outstanding_limit_wait_and_are_answered_in_order() {
    const REQUESTS: usize = 2000;
    let server = Setup::new().property("-Dzookeeper.globalOutstandingLimit=10").start().expect("the server starts");
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(server.address()).expect("a session")).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.create(&format!("/{index}"), b"").expect("a node");
    }
    expect_order(&mut clients, REQUESTS);
}

#[test]
fn requests_beyond_the_throttle_have_their_turn_and_are_answered_in_order() {
    const REQUESTS: usize = 500;
    const CLIENTS: usize = 8;
    let server = Setup::new()
        .config("request_throttle_max_requests", "2")
        .config("4lw.commands.whitelist", "*")
        .start()
        .expect("the server starts");
    let mut clients: Vec<Client> =
        (0..CLIENTS).map(|_| Client::connect(server.address()).expect("a session")).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.create(&format!("/{index}"), b"").expect("a node");
    }
    expect_order(&mut clients, REQUESTS);
    let metrics = four_letter_word(server.address(), "mntr").expect("an answer");
    let waits = metrics.lines().find_map(|line| line.strip_prefix("zk_request_throttle_wait_count\t"));
    assert!(waits.is_some_and(|count| count.parse::<u64>().is_ok_and(|count| count > 0)), "{metrics}");
}

#[test]
fn a_request_that_is_too_large_for_the_limit_on_large_ones_ends_its_connection_and_others_come_again_and_again() {
    let limits =
        [("largeRequestThreshold", "10000"), ("largeRequestMaxBytes", "50000"), ("4lw.commands.whitelist", "*")];
    let setup = limits.iter().fold(Setup::new(), |setup, (key, value)| setup.config(key, value));
    let server = setup.start().expect("the server starts");
    let mut client = Client::connect(server.address()).expect("a session");
    client.create("/large", b"").expect("a node");
    for version in 0..20 {
        client.set_data("/large", &[7; 40_000], version).expect("what is answered counts no more");
    }
    client.set_data("/large", &[7; 60_000], -1).expect_err("its connection is closed");
    let mut client = Client::connect(server.address()).expect("a session");
    assert_eq!(client.get_data("/large").expect("a read").1.version, 20);
    let metrics = four_letter_word(server.address(), "mntr").expect("an answer");
    assert!(metrics.contains("zk_large_requests_rejected\t1\n"), "{metrics}");
}

#[test]
fn connections_beyond_the_limits_are_closed_without_a_word() {
    for key in ["maxClientCnxns", "maxCnxns"] {
        let server = Setup::new().config(key, "2").start().expect("the server starts");
        let first = Client::connect(server.address()).expect("a session");
        let second = Client::connect(server.address()).expect("a session");
        let mut third = open(server.address()).expect("the kernel accepts");
        assert_eq!(receive_frame(&mut third).expect("the end"), None, "{key}");
        second.close().expect("an orderly end");
        // The place is free again once the server has seen the end of the second connection.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while let Err(error) = Client::connect(server.address()) {
            assert!(std::time::Instant::now() < deadline, "{key}: {error}");
        }
        drop(first);
    }
}

/// The metric of this name, by its number.
fn metric(server: &Server, name: &str) -> u64 {
    let text = four_letter_word(server.address(), "mntr").expect("an answer");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
    line.and_then(|number| number.parse::<f64>().ok()).unwrap_or_else(|| panic!("{name} is not in {text}")) as u64
}

/// Forty clients ask for much and take nothing, so that together they make the server hold more than it may.
#[test]
fn clients_that_hold_too_much_together_are_cut_counted_and_told_of() {
    const LIMIT_KIB: u64 = 8 << 10;
    if Product::under_test() == Product::Apache {
        return;
    }
    let limit = LIMIT_KIB.to_string();
    let server = Setup::new()
        .config("clientMemoryLimitInKb", &limit)
        .config("4lw.commands.whitelist", "mntr")
        .start()
        .expect("the server starts");
    let mut modest = Client::connect(server.address()).expect("a session");
    modest.create("/large", &vec![7; 900_000]).expect("a node");
    let mut greedy: Vec<Client> = (0..40).map(|_| Client::connect(server.address()).expect("a session")).collect();
    for _ in 0..100 {
        for client in &mut greedy {
            // Some are cut already.
            let _ = client.send(GET_DATA, &Body::new().string("/large").bool(false));
        }
    }
    let log = server.wait_log("connections of the largest users are cut").expect("the log tells of it");
    let line = log.lines().find(|line| line.contains("connections of the largest users are cut")).expect("that line");
    assert!(line.contains(" WARN ") && line.contains("the first 127.0.0.1:"), "{line}");
    assert!(line.contains(&format!("{} are the limit", LIMIT_KIB << 10)), "{line}");
    // A connection is counted when its task has let go of everything.
    let until = Instant::now() + DEADLINE;
    while metric(&server, "zk_connections_cut_for_memory") == 0
        || metric(&server, "zk_client_memory_bytes") > LIMIT_KIB << 10
    {
        assert!(Instant::now() < until, "nobody is cut: {}", metric(&server, "zk_client_memory_bytes"));
    }
    // Who holds little goes on, and when the others are gone nothing is held for them.
    modest.set_data("/large", b"", -1).expect("a write");
    drop(greedy);
    while metric(&server, "zk_client_memory_bytes") > 64 << 10 {
        assert!(Instant::now() < until, "{} bytes are held for nobody", metric(&server, "zk_client_memory_bytes"));
    }
    let peak_kib = peak_memory_kib(&server);
    assert!(peak_kib < 150 << 10, "{peak_kib} KiB were taken");
}
