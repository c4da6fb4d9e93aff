//! A server that is a service registry as well: `registry.port` in its `zoo.cfg`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpListener;

use rookeeper_acceptance::client::Client;
use rookeeper_acceptance::eureka::{ask, instance};
use rookeeper_acceptance::server::{Server, Setup};
use serde_json::Value;

fn setup() -> Setup {
    Setup::new().config("registry.port", "0").config("registry.server.address", "127.0.0.1")
}

/// Where the registry is, as the log says of the last start. The line stands there before clients are served.
fn registry_port(server: &Server) -> u16 {
    let log = server.wait_log("this server is a service registry as well").unwrap();
    let line = log.lines().rfind(|line| line.contains("this server is a service registry as well")).unwrap();
    let (_, rest) = line.split_once("://127.0.0.1:").unwrap();
    rest.split('/').next().unwrap().parse().unwrap()
}

#[test]
fn one_process_serves_both_from_its_start_to_its_end() {
    let mut server = setup().config("registry.eureka.server.disable-delta", "true").start().unwrap();
    let port = registry_port(&server);
    Client::connect(server.address()).unwrap().create("/node", b"").unwrap();
    let registered = ask(port, "POST", "/eureka/apps/ORDERS", Some(&instance("ORDERS", "a", 1))).unwrap();
    assert_eq!(registered.status, 204);
    let shown = ask(port, "GET", "/eureka/apps/ORDERS/a", None).unwrap();
    let shown: Value = serde_json::from_str(&shown.body).unwrap();
    assert_eq!(shown["instance"]["status"], "UP");
    assert_eq!(ask(port, "GET", "/eureka/apps/delta", None).unwrap().status, 403, "the key behind the prefix counts");

    assert!(server.terminate().unwrap().success());
    assert!(ask(port, "GET", "/eureka/apps", None).is_err(), "the registry ends with the server");
    server.restart().unwrap();
    let port = registry_port(&server);
    assert_eq!(ask(port, "GET", "/eureka/apps/ORDERS", None).unwrap().status, 404, "what registers is not kept");
    assert!(Client::connect(server.address()).unwrap().exists("/node").unwrap().is_some());
}

#[test]
fn a_port_in_use_is_told_before_anything_starts() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let failure = setup().config("registry.port", &port).start_and_fail().unwrap();
    let words = ["can't open port of the service registry", &port, "another process has it", "registry.port"];
    for word in words {
        assert!(failure.log.contains(word), "{word:?} is missing:\n{}", failure.log);
    }
    assert_eq!(failure.code, Some(1), "{}", failure.log);
}

#[test]
fn a_wrong_setting_is_named() {
    let failure = setup().config("registry.eureka.server.renewal-percent-threshold", "85").start_and_fail().unwrap();
    assert!(failure.log.contains("renewal-percent-threshold"), "{}", failure.log);
    assert_eq!(failure.code, Some(2), "{}", failure.log);
}
