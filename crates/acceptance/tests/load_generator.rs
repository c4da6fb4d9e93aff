//! `rookeeper bench` against real servers, ours and the original: what it counts is what it asked for, and nothing is left behind.

use std::process::Command;

use rookeeper_acceptance::client::Client;
use rookeeper_acceptance::server::{Product, Server, Setup, rookeeper_binary};
use serde_json::Value;

fn report(server: &Server, arguments: &[&str]) -> Value {
    let mut command = Command::new(rookeeper_binary().expect("a release build"));
    command.args(["bench", "--json", "--warmup", "0", "--seconds", "0.3", "--value-size", "7"]);
    let ran = command.args(["--server", &server.address().to_string()]).args(arguments).output().expect("it runs");
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{arguments:?}: {told}{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_str(&told).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {told}"))
}

fn count(report: &Value) -> u64 {
    report["operations"].as_u64().expect("a number of operations")
}

#[test]
fn every_load_is_answered_by_either_kind_of_server() {
    for product in [Product::Rookeeper, Product::Apache] {
        let server = Setup::of(product).config("maxClientCnxns", "0").start().expect("the server starts");
        for operation in ["get", "set", "exists", "create", "children", "mixed", "session"] {
            let report = report(&server, &["--operation", operation, "--keys", "50", "--connections", "3"]);
            assert!(count(&report) > 0, "{product:?}: {report}");
        }
        let open = report(&server, &["--operation", "mixed", "--keys", "50", "--rate", "200"]);
        assert!((1..=61).contains(&count(&open)), "{product:?}: no more are due in 0.3 s: {open}");
        let watched = report(&server, &["--operation", "watch", "--keys", "20", "--connections", "4"]);
        let (events, changes) = (count(&watched), count(&watched["last_events"]));
        assert!(changes > 0 && events == changes * 4 * 20, "{product:?}: an event for each watch: {watched}");
        let mut client = Client::connect(server.address()).expect("a session");
        assert_eq!(client.children("/").expect("an answer"), ["zookeeper"], "{product:?}");
    }
}
