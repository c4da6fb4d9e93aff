//! The service registry beside clients and servers that others wrote: py-eureka-client, eureka-js-client, and Spring Cloud's Eureka server as its peer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use rookeeper_acceptance::eureka::{Eureka, urls};
use rookeeper_acceptance::foreign::{node, output, python_in};

const QUICK: [&str; 2] =
    ["eureka.server.eviction-interval-timer-in-ms=500", "eureka.server.enable-self-preservation=false"];

/// A client leads its life with a registry of its own, and says each step.
fn leads_its_life(mut client: Command, options: &[&str], steps: &[&str]) {
    let registry = Eureka::start(0, &QUICK).unwrap();
    client.arg(format!("127.0.0.1:{}", registry.port)).args(options);
    let said = output(client, "").unwrap();
    // A client also warns there of a heartbeat that its own cancel overtook.
    let told: Vec<&str> = said.stdout.lines().filter_map(|line| line.strip_prefix("ok: ")).collect();
    assert_eq!((said.code, told.as_slice()), (Some(0), steps), "{}{}", said.stdout, said.stderr);
}

#[test]
fn py_eureka_client_leads_its_whole_life() {
    let client = python_in("eureka", "lifecycle.py").unwrap();
    leads_its_life(client, &[], &["found by another", "renewed", "out of service", "gone"]);
}

#[test]
fn eureka_js_client_leads_its_whole_life() {
    let steps = ["found by another", "renewed", "out of service", "back", "registered again", "gone"];
    for options in [&[][..], &["deltas"]] {
        leads_its_life(node("eureka/js/lifecycle.js").unwrap(), options, &steps);
    }
}

fn does(registry: &Eureka, method: &str, path: &str) {
    let status = registry.ask(method, &format!("/eureka/{path}"), None).status;
    assert_eq!(status, 200, "{method} {path}");
}

/// What is said to one is seen at the other, in both directions, and each can be replaced while the other goes on.
#[test]
fn a_registry_and_the_original_are_peers() {
    let original = |port: u16, peer: u16| {
        let sync = ["--eureka.server.registry-sync-retries=5", "--eureka.server.registry-sync-retry-wait-ms=500"];
        Eureka::start_original(port, &[peer], &sync).unwrap()
    };
    let port = Eureka::start(0, &[]).unwrap().port;
    // A port that was free a moment ago: the two must know of each other before they start.
    let first = original(0, port);
    let peer = format!("eureka.client.service-url.defaultZone={}", urls(&[first.port]));
    let mut ours = Eureka::start(port, &[&peer]).unwrap();

    let shows =
        |registry: &Eureka, app: &str, id: &str, status: Option<&str>| registry.until_shows(app, id, status).unwrap();
    ours.register("ONE", "one").unwrap();
    first.register("TWO", "two").unwrap();
    shows(&first, "ONE", "one", Some("UP"));
    shows(&ours, "TWO", "two", Some("UP"));
    does(&ours, "PUT", "apps/ONE/one/status?value=OUT_OF_SERVICE");
    does(&first, "PUT", "apps/TWO/two/status?value=OUT_OF_SERVICE");
    shows(&first, "ONE", "one", Some("OUT_OF_SERVICE"));
    shows(&ours, "TWO", "two", Some("OUT_OF_SERVICE"));
    does(&ours, "DELETE", "apps/ONE/one/status?value=UP");
    does(&first, "DELETE", "apps/TWO/two/status?value=UP");
    shows(&first, "ONE", "one", Some("UP"));
    shows(&ours, "TWO", "two", Some("UP"));

    ours.process.kill().unwrap();
    ours = Eureka::start(port, &[&peer]).unwrap();
    shows(&ours, "ONE", "one", Some("UP"));
    shows(&ours, "TWO", "two", Some("UP"));

    let original_port = first.port;
    drop(first);
    ours.register("THREE", "three").unwrap();
    let second = original(original_port, port);
    for (app, id) in [("ONE", "one"), ("TWO", "two"), ("THREE", "three")] {
        shows(&second, app, id, Some("UP"));
    }

    does(&ours, "DELETE", "apps/ONE/one");
    does(&second, "DELETE", "apps/TWO/two");
    shows(&second, "ONE", "one", None);
    shows(&ours, "TWO", "two", None);
}
