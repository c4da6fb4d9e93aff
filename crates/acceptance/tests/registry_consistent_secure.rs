//! Consistent services of the registry in an ensemble that wants to know who comes: passwords, SASL, TLS, and nodes that only the registry changes.
//! Each with our server and with the original.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use rookeeper_acceptance::certificates::{House, shown};
use rookeeper_acceptance::client::{Client, refusal};
use rookeeper_acceptance::eureka::{Answered, Eureka, ask as at, instance};
use rookeeper_acceptance::server::{Product, Setup};
use rookeeper_acceptance::until;
use rookeeper_acceptance::wire::NO_AUTH;

/// A registry whose services named `payments` are in the ensemble of this server.
fn registry(address: SocketAddr, settings: &[&str]) -> Eureka {
    let connect = format!("registry.connect={address}");
    let settings: Vec<&str> =
        ["registry.consistent=payments", &connect].into_iter().chain(settings.iter().copied()).collect();
    Eureka::start(0, &settings).unwrap()
}

/// A server of either kind.
fn of(product: Product) -> Setup {
    Setup::of(product).newest().config("4lw.commands.whitelist", "*")
}

fn register(registry: &Eureka, id: &str) -> Answered {
    registry.ask("POST", "/eureka/apps/PAYMENTS", Some(&instance("PAYMENTS", id, 1)))
}

fn beat(registry: &Eureka, id: &str) -> u16 {
    registry.ask("PUT", &format!("/eureka/apps/PAYMENTS/{id}?status=UP&lastDirtyTimestamp=1"), None).status
}

/// The ensemble refuses a registry, whose page says why.
fn until_refused(registry: &Eureka, by: SocketAddr, why: &str) {
    let begin = format!("({by}: ");
    until(why, || {
        let page = registry.ask("GET", "/", None).body;
        page.split_once(&begin).is_some_and(|(_, said)| said.contains(why))
    });
    assert_eq!(register(registry, "refused").status, 503);
}

#[test]
fn nodes_that_only_the_registry_changes_and_everybody_reads() {
    for product in [Product::Rookeeper, Product::Apache] {
        let server = of(product).start().unwrap();
        let settings = ["registry.consistent.digest=registry:its:secret", "registry.consistent.acl=creator"];
        let (one, other) = (registry(server.address(), &settings), registry(server.address(), &settings));
        until("it is taken", || register(&one, "p1").status == 204);

        let mut stranger = Client::connect(server.address()).unwrap();
        let before = stranger.exists("/services/payments/p1").unwrap().unwrap();
        assert!(stranger.get_data("/services/payments/p1").unwrap().0.is_some(), "everybody reads");
        for path in ["/services/payments/p1", "/services/payments", "/services"] {
            assert_eq!(refusal(&stranger.set_data(path, b"mine", -1)), Some(NO_AUTH), "{product:?} {path}");
        }
        assert_eq!(refusal(&stranger.delete("/services/payments/p1")), Some(NO_AUTH));
        assert_eq!(refusal(&stranger.create("/services/payments/p2", b"mine")), Some(NO_AUTH));

        // Another registry with the same password takes the instance over; one without hears why it cannot.
        until("the other one takes it over", || beat(&other, "p1") == 200);
        let after = stranger.exists("/services/payments/p1").unwrap().unwrap();
        assert_ne!(after.ephemeral_owner, before.ephemeral_owner);
        let without = registry(server.address(), &[]);
        until("it is not let in", || register(&without, "p3").body.contains("access control lists"));
        assert_eq!(other.ask("DELETE", "/eureka/apps/PAYMENTS/p1", None).status, 200);
        assert!(stranger.exists("/services/payments/p1").unwrap().is_none());
    }
}

#[test]
fn an_ensemble_that_wants_sasl() {
    let folder = tempfile::tempdir().unwrap();
    let jaas = folder.path().join("server.jaas");
    let section = "Server {\n  org.apache.zookeeper.server.auth.DigestLoginModule required\n  user_registry=\"its secret\";\n};\n";
    std::fs::write(&jaas, section).unwrap();
    for product in [Product::Rookeeper, Product::Apache] {
        let server = of(product)
            .property(&format!("-Djava.security.auth.login.config={}", shown(&jaas)))
            .property("-Dzookeeper.authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider")
            .property("-Dzookeeper.fips-mode=false")
            .property("-Dzookeeper.sessionRequireClientSASLAuth=true")
            .start()
            .unwrap();
        let user = "registry.consistent.sasl.user=registry";
        let known = registry(
            server.address(),
            &[user, "registry.consistent.sasl.password=its secret", "registry.consistent.acl=creator"],
        );
        until("it is taken", || register(&known, "p1").status == 204);
        until("it is renewed", || beat(&known, "p1") == 200);
        let wrong = registry(server.address(), &[user, "registry.consistent.sasl.password=a guess"]);
        until_refused(&wrong, server.address(), "registry.consistent.sasl");
        let stranger = registry(server.address(), &[]);
        until_refused(&stranger, server.address(), "");
        assert_eq!(beat(&known, "p1"), 200);
    }
}

#[test]
fn an_ensemble_that_wants_tls() {
    let house = House::new().unwrap();
    let (trust, own) = (
        format!("registry.consistent.tls.trust-store={}", shown(&house.authority.trust())),
        format!("registry.consistent.tls.key-store={}", shown(&house.client.pem)),
    );
    let types = ["registry.consistent.tls.trust-store-type=PEM", "registry.consistent.tls.key-store-type=PEM"];
    for product in [Product::Rookeeper, Product::Apache] {
        let server = of(product)
            .config("secureClientPort", "0")
            .config("ssl.keyStore.location", &shown(&house.server.pem))
            .config("ssl.trustStore.location", &shown(&house.authority.trust()))
            .property("-Dzookeeper.serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory")
            .start()
            .unwrap();
        let secure = server.secure_address().unwrap();
        let known = registry(secure, &[&trust, &own, types[0], types[1]]);
        until("it is taken", || register(&known, "p1").status == 204);
        until("it is renewed", || beat(&known, "p1") == 200);
        let mut client = Client::connect(server.address()).unwrap();
        assert!(client.exists("/services/payments/p1").unwrap().is_some());
        let without_certificate = registry(secure, &[&trust, types[0]]);
        until_refused(&without_certificate, secure, "");
        let without_tls = registry(secure, &[]);
        until_refused(&without_tls, secure, "");
    }
}

#[test]
fn a_server_with_no_plain_port_is_its_own_ensemble() {
    let house = House::new().unwrap();
    let setup = |setup: Setup| {
        setup
            .config("registry.port", "0")
            .config("registry.server.address", "127.0.0.1")
            .config("registry.consistent", "payments")
    };
    let failure = setup(house.setup().without_plain_port()).start_and_fail().unwrap();
    assert!(failure.log.contains("registry.consistent.tls.trust-store"), "{}", failure.log);
    let server = setup(house.setup().without_plain_port())
        .config("registry.consistent.tls.trust-store", &shown(&house.authority.trust()))
        .config("registry.consistent.tls.trust-store-type", "PEM")
        .config("registry.consistent.tls.key-store", &shown(&house.client.pem))
        .config("registry.consistent.tls.key-store-type", "PEM")
        .start()
        .unwrap();
    let log = server.wait_log("this server is a service registry as well").unwrap();
    let port: u16 = log.rsplit_once("://127.0.0.1:").unwrap().1.split('/').next().unwrap().parse().unwrap();
    until("it is taken", || {
        let said = instance("PAYMENTS", "p1", 1);
        at(port, "POST", "/eureka/apps/PAYMENTS", Some(&said)).is_ok_and(|answer| answer.status == 204)
    });
}
