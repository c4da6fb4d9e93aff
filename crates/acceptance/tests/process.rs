//! The server as a process among others: its log, its signals, its file descriptors. Nothing of these decides whether it serves.

use std::net::SocketAddr;

use rookeeper_acceptance::client::Client;
use rookeeper_acceptance::server::{Product, Server, Setup};
use rustix::process::Signal;

fn of_rookeeper() -> bool {
    Product::under_test() == Product::Rookeeper
}

/// A session that can write.
fn works(address: SocketAddr, path: &str) {
    let mut client = Client::connect(address).expect("a session");
    client.create(path, b"").expect("a node");
    client.close().expect("an orderly end");
}

#[test]
fn a_log_that_is_not_taken_stops_nobody() {
    for (how, script) in [
        ("a full disk", r#"exec "$@" >/dev/full 2>&1"#),
        ("a reader that has gone", r#"exec "$@" 2> >(exec true)"#),
        ("no log at all", r#"exec "$@" >&- 2>&- <&-"#),
        // The server itself holds the reading end, so the pipe is never closed and soon full.
        ("a reader that does not read", r#"rm -f pipe; mkfifo pipe && exec "$@" 3<>pipe 2>pipe"#),
    ] {
        println!("{how}");
        // Each is a warning; together they are more than a pipe holds.
        let many = (0..1000).fold(Setup::new(), |setup, number| setup.config(&format!("unknown.key.{number}"), "1"));
        let mut server = many.script(script).start().expect("the server starts");
        works(server.address(), "/a");
        let status = server.terminate().expect("the server ends");
        assert!(!of_rookeeper() || status.success(), "{how}: SIGTERM ends the server with {status}");
        server.restart().expect("the server starts again");
        let mut client = Client::connect(server.address()).expect("a session");
        assert!(client.exists("/a").expect("an answer").is_some(), "{how}: what was written is lost");
    }
}

#[test]
fn quit_asks_for_a_report_and_others_for_nothing() {
    let server = Setup::new().start().expect("the server starts");
    for signal in [Signal::USR1, Signal::USR2, Signal::PIPE, Signal::XFSZ, Signal::QUIT] {
        // A Java machine dies of this one.
        if signal != Signal::USR1 || of_rookeeper() {
            server.signal(signal).expect("it takes signals");
        }
    }
    if of_rookeeper() {
        let log = server.wait_log("end of the report").expect("a report");
        for part in [
            "the replica thread waits for something to do",
            "the storage thread waits",
            "thread network",
            "0 bytes of transactions wait",
            "role: Standalone",
            "0 requests wait for an answer; queue to the replica 0 of 4096",
            "file descriptors in use",
        ] {
            assert!(log.contains(part), "{part:?} is missing:\n{log}");
        }
    }
    works(server.address(), "/a");
}

#[test]
fn a_terminal_that_is_gone_ends_the_server_in_order() {
    // Whoever started the tests may ignore the signal, and that is inherited.
    let mut server = Setup::new().script(r#"exec env --default-signal=HUP "$@""#).start().expect("the server starts");
    server.signal(Signal::HUP).expect("it takes signals");
    let status = server.wait_exit().expect("it ends");
    assert!(!of_rookeeper() || status.success(), "{status}");
    assert!(!of_rookeeper() || server.log().contains("SIGHUP: stopping"), "{}", server.log());
    // Started with nohup, which ignores the signal before it becomes the server, it goes on.
    let server = Setup::new().script(r#"trap '' HUP; exec "$@""#).start().expect("the server starts");
    server.signal(Signal::HUP).expect("it takes signals");
    works(server.address(), "/a");
}

fn descriptors(server: &Server) -> usize {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.process_id().expect("it runs")));
    let limits = limits.expect("its limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("the limit");
    line.split_ascii_whitespace().nth(3).and_then(|soft| soft.parse().ok()).expect("a number")
}

#[test]
fn as_many_clients_as_the_system_allows() {
    // However long the machine takes to open them all, none of their sessions may end meanwhile: its place would be taken again.
    let server = Setup::new()
        .config("maxClientCnxns", "0")
        .config("minSessionTimeout", "600000")
        .config("maxSessionTimeout", "600000")
        .script(r#"ulimit -Sn 150; ulimit -Hn 300; exec "$@""#)
        .start()
        .expect("the server starts");
    assert_eq!(descriptors(&server), 300, "the soft limit is raised to the hard one");
    if !of_rookeeper() {
        return;
    }
    // One after the other until one is turned away: by a close, at once, and not by silence.
    let mut clients = Vec::new();
    let refusal = loop {
        match Client::connect(server.address()) {
            Ok(client) => clients.push(client),
            Err(error) => break error,
        }
        assert!(clients.len() < 300);
    };
    assert!(clients.len() > 200, "only {} clients: {refusal:#}", clients.len());
    let log = server.wait_log("LimitNOFILE").expect("a line that says why");
    assert!(log.contains("file descriptors: the limit is 300; it was raised from 150"), "{log}");
    // Those who are there are served, and the server has what it needs for its own files.
    clients[0].create("/a", b"").expect("a node");
    // A place that is given up is taken again, once the server has noticed.
    clients.truncate(100);
    while Client::connect(server.address()).is_err() {}
}

#[test]
fn a_log_level_that_is_none_is_refused_by_name() {
    if !of_rookeeper() {
        return;
    }
    for (level, meant) in [("inof", "did you mean info?"), ("rookeeper_server=loud", "\"loud\" is no level")] {
        let script = format!(r#"ROOKEEPER_LOG={level} exec "$@""#);
        let failure = Setup::new().script(&script).start_and_fail().expect("it does not start");
        assert_eq!(failure.code, Some(2), "{}", failure.log);
        assert!(
            failure.log.contains(&format!("ROOKEEPER_LOG={level}")) && failure.log.contains(meant),
            "{}",
            failure.log
        );
    }
}

#[test]
fn what_ends_the_server_is_said_once_whatever_is_logged() {
    if !of_rookeeper() {
        return;
    }
    for level in ["off", "info"] {
        let script = format!(r#"ROOKEEPER_LOG={level} exec "$@""#);
        let failure = Setup::new().config("tickTime", "often").script(&script).start_and_fail();
        let log = failure.expect("it does not start").log;
        assert_eq!(log.matches("tickTime=often").count(), 1, "{level}: {log}");
        assert!(level == "info" || log.lines().filter(|line| line.contains(" ERROR ")).count() == 1, "{log}");
    }
}
