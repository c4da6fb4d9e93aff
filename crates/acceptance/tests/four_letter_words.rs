//! The four-letter words, in the situation in which the original's answers were recorded: two sessions, an ephemeral node and
//! some watches each. Numbers differ; every word, key, sign and blank around them is what monitoring tools parse.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;

use rookeeper_acceptance::client::{Client, four_letter_word};
use rookeeper_acceptance::fixture::directory;
use rookeeper_acceptance::server::{Server, Setup};
use rookeeper_acceptance::wire::{self, Acl, Body};

/// What exporters and dashboards read from `mntr`.
const METRICS_OF_TOOLS: &[&str] = &[
    "zk_version",
    "zk_server_state",
    "zk_avg_latency",
    "zk_max_latency",
    "zk_min_latency",
    "zk_packets_received",
    "zk_packets_sent",
    "zk_num_alive_connections",
    "zk_outstanding_requests",
    "zk_znode_count",
    "zk_watch_count",
    "zk_ephemerals_count",
    "zk_approximate_data_size",
    "zk_open_file_descriptor_count",
    "zk_max_file_descriptor_count",
    "zk_global_sessions",
    "zk_local_sessions",
    "zk_uptime",
    "zk_connection_drop_probability",
    "zk_throttled_ops",
    "zk_last_client_response_size",
    "zk_max_client_response_size",
    "zk_min_client_response_size",
    "zk_auth_failed_count",
    "zk_digest_mismatches_count",
];

fn recorded(word: &str) -> String {
    let path = directory().join("operations/standalone").join(format!("4lw-{word}.txt"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn ask(address: SocketAddr, word: &str) -> String {
    four_letter_word(address, word).unwrap_or_else(|error| panic!("{word}: {error:#}"))
}

/// Each number, in any base, becomes `#`.
fn shape(text: &str) -> String {
    let mut shape = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match rest.strip_prefix("0x") {
            Some(hex) => 2 + hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len()),
            None => rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len()),
        };
        if first.is_ascii_digit() {
            shape.push('#');
            rest = &rest[length..];
        } else {
            shape.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    shape
}

/// The situation of the recording; the clients keep it alive.
fn situation() -> (Server, [Client; 2]) {
    let server = Setup::new().config("4lw.commands.whitelist", "*").start().expect("the server starts");
    let mut one = Client::connect_with(server.address(), 40_000, None, 0).expect("a session");
    let mut two = Client::connect_with(server.address(), 20_000, None, 0).expect("a session");
    one.create("/app", b"").expect("a node");
    one.create("/app/config", b"config").expect("a node");
    for (client, path) in [(&mut one, "/app/e1"), (&mut two, "/app/e2")] {
        client.create_with(path, Some(b""), &Acl::open(), 1).expect("an ephemeral node");
    }
    one.create_with("/app/lock-", Some(b""), &Acl::open(), 3).expect("an ephemeral node");
    for client in [&mut one, &mut two] {
        for path in ["/app", "/app/config"] {
            client.call(wire::GET_DATA, &Body::new().string(path).bool(true)).expect("a watch");
        }
    }
    two.call(wire::EXISTS, &Body::new().string("/nope").bool(true)).expect("a watch");
    (server, [one, two])
}

/// The lines of a set, whose order is nobody's business.
fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}

#[test]
fn answers_in_the_original_form() {
    let (server, clients) = situation();
    let address = server.address();
    for word in ["ruok", "isro"] {
        assert_eq!(ask(address, word), recorded(word), "{word}");
    }
    for word in ["gtmk", "dirs", "wchs", "crst", "srst"] {
        assert_eq!(shape(&ask(address, word)), shape(&recorded(word)), "{word}");
    }
    assert!(
        ask(address, "wchs").starts_with("2 connections watching 3 paths\nTotal watches:5"),
        "{}",
        ask(address, "wchs")
    );

    let session = |index: usize| format!("0x{:x}", clients[index].session.id);
    let by_connection = ask(address, "wchc");
    assert_eq!(shape(&by_connection).lines().collect::<BTreeSet<_>>(), shape(&recorded("wchc")).lines().collect());
    assert!(by_connection.contains(&session(0)) && by_connection.contains(&session(1)), "{by_connection}");
    assert_eq!(lines(&shape(&ask(address, "wchp"))), lines(&shape(&recorded("wchp"))), "wchp");

    let keys = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split_once(['=', ':']).map_or(line, |(key, _)| key).to_owned()).collect()
    };
    for word in ["conf", "srvr"] {
        assert_eq!(keys(&ask(address, word)), keys(&recorded(word)), "{word}");
    }
    let server_lines = |text: &str| text.lines().skip(1).map(shape).collect::<Vec<_>>();
    assert_eq!(server_lines(&ask(address, "srvr")), server_lines(&recorded("srvr")));
    for word in ["srvr", "stat", "mntr", "envi"] {
        let answer = ask(address, word);
        let version = answer.lines().find(|line| line.to_lowercase().contains("version")).expect("a version");
        let number = version.find(|c: char| c.is_ascii_digit()).expect("a number in it");
        // Clients choose by this number what they may ask for.
        assert!(version[number..].starts_with("3."), "{word}: {version}");
    }
}

#[test]
fn sessions_and_connections() {
    let (server, clients) = situation();
    let address = server.address();
    let connection_lines = |text: &str| -> BTreeSet<String> {
        text.lines()
            .filter(|line| line.starts_with(" /"))
            // The last operation differs from connection to connection.
            .map(|line| {
                let line = shape(line);
                match line.split_once("lop=") {
                    Some((before, after)) => {
                        format!("{before}lop={}", after.split_once(',').map_or("", |(_, rest)| rest))
                    }
                    None => line,
                }
            })
            .collect()
    };
    for word in ["cons", "stat"] {
        let answer = ask(address, word);
        assert_eq!(connection_lines(&answer), connection_lines(&recorded(word)), "{word}:\n{answer}");
    }
    let dump = ask(address, "dump");
    let without_dates = |text: &str| -> BTreeSet<String> {
        text.lines().map(|line| shape(line.split_once(" expire at ").map_or(line, |(count, _)| count))).collect()
    };
    assert_eq!(without_dates(&dump), without_dates(&recorded("dump")), "dump:\n{dump}");
    for client in &clients {
        assert!(dump.contains(&format!("0x{:x}", client.session.id)), "{dump}");
    }
}

#[test]
fn metrics_that_tools_read() {
    let (server, _clients) = situation();
    let text = ask(server.address(), "mntr");
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('\t'));
    for key in METRICS_OF_TOOLS {
        assert!(recorded("mntr").contains(key), "{key} is not the original's");
    }
    let missing: Vec<_> = METRICS_OF_TOOLS.iter().filter(|key| value(key).is_none()).collect();
    assert_eq!(value("zk_server_state"), Some("standalone"));
    assert_eq!(value("zk_ephemerals_count"), Some("3"));
    assert_eq!(value("zk_watch_count"), Some("5"));
    assert_eq!(value("zk_global_sessions"), Some("2"));
    // Five that are always there, as the original counts them, and five of ours.
    assert_eq!(value("zk_znode_count"), Some("10"));
    assert!(text.lines().all(|line| line.split('\t').count() == 2), "each line is a key, a tab and a value:\n{text}");
    assert!(missing.is_empty(), "mntr lacks {missing:?}");
}

#[test]
fn only_words_of_the_list_are_executed() {
    let server = Setup::new().config("4lw.commands.whitelist", "srvr, ruok").start().expect("the server starts");
    assert_eq!(ask(server.address(), "ruok"), "imok");
    assert!(ask(server.address(), "stat").contains("not in the whitelist"));
    let server = Setup::new().start().expect("the server starts");
    assert!(ask(server.address(), "srvr").contains("Mode: standalone"));
    for word in ["ruok", "stat", "mntr", "conf", "cons", "dump", "envi", "wchs", "kill"] {
        let answer = ask(server.address(), word);
        let expected = format!("{word} is not executed because it is not in the whitelist.\n");
        assert!(answer == expected || (word == "kill" && answer.is_empty()), "{word}: {answer:?}");
    }
}
