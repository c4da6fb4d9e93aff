//! The service registry with TLS, for clients and between peers, in the keys of Spring's servers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rookeeper_acceptance::certificates::{Authority, Wish, java_store, openssl_client, shown};
use rookeeper_acceptance::eureka::{Eureka, ask, free_port, instance};
use rookeeper_acceptance::foreign::output;
use rookeeper_acceptance::server::rookeeper_binary;

const DEADLINE: Duration = Duration::from_secs(120);

/// What a registry answers to somebody with these options of openssl, head and body; empty where it does not.
fn answered(port: u16, request: &str, options: &[&str]) -> String {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    openssl_client(
        address,
        &format!("{request}Host: x\r\nAccept: application/json\r\nConnection: close\r\n\r\n"),
        options,
    )
}

fn until_answers(port: u16, request: &str, options: &[&str], wanted: &str) {
    let begin = Instant::now();
    loop {
        let answer = answered(port, request, options);
        if answer.contains(wanted) {
            return;
        }
        assert!(begin.elapsed() < DEADLINE, "{request:?} is not answered with {wanted:?}: {answer}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn peers_and_clients_show_certificates_and_passwords_to_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority").unwrap();
    let [server, client] = ["server", "client"].map(|name| authority.issue(name, &Wish::of(name)).unwrap());
    let stranger = Authority::new(folder.path(), "others").unwrap().issue("stranger", &Wish::of("stranger")).unwrap();
    let key_store = java_store(&server.pem, "pkcs12", "secret word").unwrap();
    let ports = [free_port().unwrap(), free_port().unwrap()];
    let settings = [
        format!("server.ssl.key-store=file:{}", shown(&key_store)),
        "server.ssl.key-store-password=secret word".to_owned(),
        "server.ssl.key-store-type=PKCS12".to_owned(),
        format!("server.ssl.trust-store={}", shown(&authority.trust())),
        "server.ssl.trust-store-type=PEM".to_owned(),
        "server.ssl.client-auth=need".to_owned(),
        "spring.security.user.name=user".to_owned(),
        "spring.security.user.password=word".to_owned(),
        format!(
            "eureka.client.service-url.defaultZone=https://user:word@localhost:{}/eureka/,https://user:word@localhost:{}/eureka/",
            ports[0], ports[1]
        ),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let _registries = ports.map(|port| Eureka::start(port, &settings).unwrap());
    let (pem, trust) = (shown(&client.pem), shown(&authority.trust()));
    let known =
        ["-cert", &pem, "-key", &pem, "-CAfile", &trust, "-verify_return_error", "-verify_hostname", "localhost"];
    let credentials = "Authorization: Basic dXNlcjp3b3Jk\r\n";

    let body = instance("ORDERS", "one", 5).to_string();
    let head = format!("POST /eureka/apps/ORDERS HTTP/1.1\r\n{credentials}Content-Type: application/json\r\n");
    // The body stands behind the end of the head.
    let request = format!("{head}Content-Length: {}\r\nHost: x\r\nConnection: close\r\n\r\n{body}", body.len());
    let address = SocketAddr::from(([127, 0, 0, 1], ports[0]));
    let said = openssl_client(address, &request, &known);
    assert!(said.contains("HTTP/1.1 204"), "{said}");
    let look_up = format!("GET /eureka/apps/ORDERS/one HTTP/1.1\r\n{credentials}");
    until_answers(ports[1], &look_up, &known, "\"instanceId\":\"one\"");

    let without_password = answered(ports[0], "GET /eureka/apps/ORDERS/one HTTP/1.1\r\n", &known);
    assert!(without_password.contains("HTTP/1.1 401"), "{without_password}");
    let without_certificate = answered(ports[0], &look_up, &["-CAfile", &trust]);
    assert!(!without_certificate.contains("HTTP/1.1"), "{without_certificate}");
    let pem = shown(&stranger.pem);
    let of_others = answered(ports[0], &look_up, &["-cert", &pem, "-key", &pem, "-CAfile", &trust]);
    assert!(!of_others.contains("HTTP/1.1"), "{of_others}");
    assert!(ask(ports[0], "GET", "/eureka/apps", None).is_err(), "the port answers without TLS");
}

/// A registry that must not trust whoever answers under the name of its peer.
#[test]
fn a_peer_that_is_not_trusted_hears_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let [ours, others] = ["ours", "others"].map(|name| Authority::new(folder.path(), name).unwrap());
    let peer = others.issue("peer", &Wish::of("peer")).unwrap();
    let wrong_host = ours.issue("elsewhere", &Wish::of("elsewhere").hosts("DNS:elsewhere")).unwrap();
    for issued in [peer, wrong_host] {
        let key_store = format!("server.ssl.key-store={}", shown(&issued.pem));
        let peer = Eureka::start(0, &[&key_store, "server.ssl.key-store-type=PEM"]).unwrap();
        let url = format!("eureka.client.service-url.defaultZone=https://localhost:{}/eureka/", peer.port);
        let trust = format!("eureka.client.tls.trust-store={}", shown(&ours.trust()));
        let settings =
            [url.as_str(), &trust, "eureka.client.tls.trust-store-type=PEM", "eureka.client.fetch-registry=false"];
        let registry = Eureka::start(0, &settings).unwrap();
        registry.register("ORDERS", "one").unwrap();
        let metric = format!("rookeeper_registry_peer_answers{{peer=\"https://localhost:{}/eureka/\"}} 0", peer.port);
        let begin = Instant::now();
        while !registry.ask("GET", "/metrics", None).body.contains(&metric) {
            assert!(begin.elapsed() < DEADLINE, "the peer is taken for a good one");
            thread::sleep(Duration::from_millis(20));
        }
        let at_peer = answered(peer.port, "GET /eureka/apps/ORDERS HTTP/1.1\r\n", &[]);
        assert!(at_peer.contains("HTTP/1.1 404"), "{at_peer}");
    }
}

#[test]
fn what_cannot_be_had_ends_the_start() {
    for (setting, said) in [
        ("server.ssl.key-store=/nowhere/at/all.p12", "server.ssl.key-store"),
        ("server.ssl.enabled=true", "server.ssl.key-store is missing"),
        ("eureka.client.service-url.defaultZone=https://localhost:1/eureka/", "eureka.client.tls.trust-store"),
    ] {
        let mut command = Command::new(rookeeper_binary().unwrap());
        command.args(["registry", "--while-stdin", "--port", "0", "--set", setting]);
        let told = output(command, "").unwrap();
        assert_eq!(told.code, Some(2), "{told:?}");
        assert!(told.stderr.contains(said), "{}", told.stderr);
    }
}
