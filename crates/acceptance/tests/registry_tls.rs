//! The service registry with TLS, for clients and between peers, in the keys of Spring's servers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rookeeper_acceptance::certificates::{Authority, Wish, java_store, java_trust, openssl_client, shown};
use rookeeper_acceptance::eureka::{Eureka, ask, free_port, instance};
use rookeeper_acceptance::foreign::{eureka_server, output};
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

/// Registers an instance, as somebody with these options of openssl.
fn register(port: u16, app: &str, id: &str, options: &[&str]) {
    let body = instance(app, id, 5).to_string();
    let head = format!(
        "POST /eureka/apps/{app} HTTP/1.1\r\nContent-Type: application/json\r\nHost: x\r\nConnection: close\r\n"
    );
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    let said = openssl_client(SocketAddr::from(([127, 0, 0, 1], port)), &request, options);
    assert!(said.contains("HTTP/1.1 204"), "{said}");
}

/// Both read the same keys of Spring's, in each way in which Spring names keys and certificates, and each asks the other for a certificate.
#[test]
fn a_registry_and_the_original_are_peers_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority").unwrap();
    let [server, client] = ["server", "client"].map(|name| authority.issue(name, &Wish::of(name)).unwrap());
    let (store, trust) =
        (java_store(&server.pem, "pkcs12", "secret").unwrap(), java_trust(&authority.trust(), "secret"));
    let (store, trust) = (shown(&store), shown(&trust.unwrap()));
    let (certificate, key, authority) = (shown(&server.certificate), shown(&server.key), shown(&authority.trust()));
    let files = [
        format!("server.ssl.certificate=file:{certificate}"),
        format!("server.ssl.certificate-private-key={key}"),
        format!("server.ssl.trust-certificate={authority}"),
    ];
    let of_bundles = |kind: &str, pairs: &[(&str, &String)]| {
        let keys = pairs.iter().map(|(key, value)| format!("spring.ssl.bundle.{kind}.my-web.{key}={value}"));
        keys.chain(["server.ssl.bundle=my-web".to_owned()]).collect::<Vec<_>>()
    };
    let text = std::fs::read_to_string(&authority).unwrap();
    let pem = of_bundles(
        "pem",
        &[("keystore.certificate", &certificate), ("keystore.private-key", &key), ("truststore.certificate", &text)],
    );
    let word = "secret".to_owned();
    let stores = [("keystore.location", &store), ("keystore.password", &word), ("keystore.type", &"PKCS12".to_owned())];
    let trusted =
        [("truststore.location", &trust), ("truststore.password", &word), ("truststore.type", &"PKCS12".to_owned())];
    let jks = of_bundles("jks", &[stores, trusted].concat());
    // With these the original fetches all at its start; its batches are sent with what Java itself is told.
    let common = [
        "server.ssl.client-auth=need".to_owned(),
        "eureka.client.tls.enabled=true".to_owned(),
        format!("eureka.client.tls.key-store=file:{store}"),
        "eureka.client.tls.key-store-password=secret".to_owned(),
        "eureka.client.tls.key-password=secret".to_owned(),
        "eureka.client.tls.key-store-type=PKCS12".to_owned(),
        format!("eureka.client.tls.trust-store=file:{trust}"),
        "eureka.client.tls.trust-store-password=secret".to_owned(),
        "eureka.client.tls.trust-store-type=PKCS12".to_owned(),
    ];
    let ports = [free_port().unwrap(), free_port().unwrap()];
    let peer = |place: usize| format!("https://localhost:{}/eureka/", ports[place]);
    let original = |ways: &[String]| {
        let mut command = eureka_server().unwrap();
        let told = format!(
            "-Djavax.net.ssl.trustStore={trust} -Djavax.net.ssl.trustStorePassword=secret -Djavax.net.ssl.keyStore={store} \
             -Djavax.net.ssl.keyStorePassword=secret -Dcom.netflix.eureka.shouldSSLConnectionsUseSystemSocketFactory=true"
        );
        command.env("JAVA_TOOL_OPTIONS", told);
        let quick = ["eureka.server.registry-sync-retries=5", "eureka.server.registry-sync-retry-wait-ms=500"];
        // A handshake takes longer than the fifth of a second that it has otherwise.
        let patient =
            ["eureka.server.peer-node-connect-timeout-ms=20000", "eureka.server.peer-node-read-timeout-ms=20000"];
        let more = [&quick[..], &patient].concat().into_iter().map(str::to_owned);
        let options: Vec<String> =
            ways.iter().chain(&common).cloned().chain(more).map(|option| format!("--{option}")).collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        Eureka::start_original_with(command, ports[0], &peer(1), &options).unwrap()
    };
    let ours = |ways: &[String]| {
        let list = format!("eureka.client.service-url.defaultZone={}", peer(0));
        let settings: Vec<&str> = ways.iter().chain(&common).map(String::as_str).chain([list.as_str()]).collect();
        Eureka::start(ports[1], &settings).unwrap()
    };
    let pem_of_client = shown(&client.pem);
    let known = ["-cert", &pem_of_client, "-key", &pem_of_client, "-CAfile", &authority, "-verify_return_error"];
    let until_knows = |place: usize, app: &str| {
        let look_up = format!("GET /eureka/apps/{app} HTTP/1.1\r\n");
        until_answers(ports[place], &look_up, &known, "\"instanceId\"");
    };

    let _original = original(&pem);
    let mut before = Vec::new();
    for (number, ways) in [&files[..], &pem, &jks].into_iter().enumerate() {
        let _ours = ours(ways);
        // What was there before comes over with the start.
        before.iter().for_each(|app: &String| until_knows(1, app));
        for place in [0, 1] {
            let app = format!("APP{number}{place}");
            register(ports[place], &app, "one", &known);
            until_knows(1 - place, &app);
            before.push(app);
        }
        let without = answered(ports[1], "GET /eureka/apps HTTP/1.1\r\n", &["-CAfile", &authority]);
        assert!(!without.contains("HTTP/1.1"), "{without}");
    }
    // The original has the other ways, too.
    drop(_original);
    let _ours = ours(&pem);
    register(ports[1], "LAST", "one", &known);
    let _original = original(&files);
    until_knows(0, "LAST");
}

#[test]
fn what_cannot_be_had_ends_the_start() {
    for (setting, said) in [
        ("server.ssl.key-store=/nowhere/at/all.p12", "server.ssl.key-store"),
        ("server.ssl.enabled=true", "server.ssl.key-store is missing"),
        ("server.ssl.certificate=/nowhere/at/all.pem", "/nowhere/at/all.pem (server.ssl.certificate)"),
        ("server.ssl.bundle=web", "server.ssl.bundle names the bundle web"),
        ("eureka.client.service-url.defaultZone=https://localhost:1/eureka/", "eureka.client.tls.trust-store"),
    ] {
        let mut command = Command::new(rookeeper_binary().unwrap());
        command.args(["registry", "--while-stdin", "--port", "0", "--set", setting]);
        let told = output(command, "").unwrap();
        assert_eq!(told.code, Some(2), "{told:?}");
        assert!(told.stderr.contains(said), "{}", told.stderr);
    }
}
