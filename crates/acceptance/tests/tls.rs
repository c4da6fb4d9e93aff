//! Clients over TLS: kazoo, the Java client and openssl, with certificates as they should be and as they should not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rookeeper_acceptance::certificates::{Authority, House, Issued, Wish, java_store, openssl_client, shown};
use rookeeper_acceptance::client::four_letter_word_within;
use rookeeper_acceptance::foreign::{java_program_with_tls, python, run_at};
use rookeeper_acceptance::server::{Server, Setup};

const LIMIT: Duration = Duration::from_secs(60);

/// Where a server takes TLS, on all addresses; the certificates are for this one.
fn secure_address(server: &Server) -> SocketAddr {
    server.secure_address().expect("it says where")
}

fn metric(server: &Server, name: &str) -> i64 {
    let mntr = four_letter_word_within(server.address(), "mntr", LIMIT).expect("mntr is answered");
    let line = mntr.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
    line.unwrap_or_else(|| panic!("{name} in {mntr}")).parse().expect("a number")
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < until, "did not happen: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn kazoo_with_and_without_a_certificate() {
    let house = House::new().expect("openssl works");
    // With one certificate for all of them, what belongs to the creator belongs to all clients: that is another test.
    for (client_auth, has_key, script) in [("need", true, "recipes.py"), ("none", false, "operations.py")] {
        let mut server = house.setup().config("ssl.clientAuth", client_auth).start().expect("the server starts");
        let mut program = python(script).expect("kazoo is installed");
        program.env("TLS_TRUST", house.authority.trust());
        if has_key {
            program.env("TLS_KEY", &house.client.pem);
        }
        let address = secure_address(&server);
        run_at(program, address, &mut server).unwrap_or_else(|error| panic!("{client_auth}: {error:#}"));
    }
}

#[test]
fn the_java_client_with_stores_of_java() {
    let house = House::new().expect("openssl works");
    // The program has the server restarted, so the port must be the same afterwards.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let mut server = house
        .setup()
        .config("secureClientPort", &port.to_string())
        .property("-Dzookeeper.extendedTypesEnabled=true")
        .property("-Dznode.container.checkIntervalMs=500")
        // Else all its clients would have the identity of the one certificate.
        .config("ssl.clientAuth", "none")
        .start()
        .expect("the server starts");
    let store = java_store(&house.client.pem, "jks", "changeit").expect("keytool works");
    let stores = [
        format!("-Dzookeeper.ssl.keyStore.location={}", store.display()),
        "-Dzookeeper.ssl.keyStore.password=changeit".to_owned(),
        format!("-Dzookeeper.ssl.trustStore.location={}", house.authority.trust().display()),
    ];
    let program = java_program_with_tls("PlainClient.java", &stores).expect("the jars are installed");
    let address = secure_address(&server);
    run_at(program, address, &mut server).unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn a_certificate_is_an_identity() {
    let house = House::new().expect("openssl works");
    let issue =
        |name: &str, subject: &str| house.authority.issue(name, &Wish::of(name).subject(subject)).expect("issued");
    let mine = issue("mine", "/C=XX/O=Example, Inc./CN=mine");
    let boss = issue("boss", "/CN=boss");
    let mut server =
        house.setup().config("X509AuthenticationProvider.superUser", "CN=boss").start().expect("the server starts");
    let mut program = python("identities.py").expect("kazoo is installed");
    program.env("TLS_TRUST", house.authority.trust()).env("TLS_KEY", &mine.pem);
    program
        .env("SUBJECT", "CN=mine,O=Example\\, Inc.,C=XX")
        .env("OTHER_KEY", &house.client.pem)
        .env("SUPER_KEY", &boss.pem);
    let address = secure_address(&server);
    run_at(program, address, &mut server).unwrap_or_else(|error| panic!("{error:#}"));
}

#[test]
fn certificates_are_exchanged_while_clients_are_connected() {
    let house = House::new().expect("openssl works");
    let issue = |name: &str| house.authority.issue(name, &Wish::of(name)).expect("issued").pem;
    let (next, third) = (issue("server-2"), issue("server-3"));
    let mut server = house.setup().start().expect("the server starts");
    assert!(metric(&server, "zk_client_certificate_days_left") > 365);
    let mut program = python("reload.py").expect("kazoo is installed");
    program.env("TLS_TRUST", house.authority.trust()).env("TLS_KEY", &house.client.pem);
    program
        .env("KEY_STORE", &house.server.pem)
        .env("NEXT", next)
        .env("THIRD", third)
        .env("SERVER_LOG", server.log_file());
    let address = secure_address(&server);
    run_at(program, address, &mut server).unwrap_or_else(|error| panic!("{error:#}"));
}

/// Both protocols, and each of the stores that keytool and openssl make.
#[test]
fn openssl_sees_a_server_with_each_kind_of_store() {
    let house = House::new().expect("openssl works");
    let key = shown(&house.client.pem);
    let trust = shown(&house.authority.trust());
    for kind in ["pkcs12", "jks"] {
        let store = java_store(&house.server.pem, kind, "changeit").expect("keytool works");
        let password = house.folder.path().join("password");
        std::fs::write(&password, "changeit\n").expect("written");
        let server = house
            .setup()
            .config("ssl.keyStore.location", &shown(&store))
            .config("ssl.keyStore.passwordPath", &shown(&password))
            .start()
            .expect("the server starts");
        let address = secure_address(&server);
        for protocol in ["-tls1_2", "-tls1_3"] {
            let arguments = [protocol, "-cert", &key, "-key", &key, "-CAfile", &trust, "-verify_return_error"];
            let answer = openssl_client(address, "srvr", &arguments);
            assert!(answer.contains("Mode: standalone"), "{kind} {protocol}: {answer}");
        }
    }
}

#[test]
fn certificates_that_must_be_refused_are_and_the_log_says_why() {
    let house = House::new().expect("openssl works");
    let stranger = Authority::new(house.folder.path(), "stranger").expect("openssl works");
    let issue = |authority: &Authority, name: &str, wish: Wish| authority.issue(name, &wish).expect("issued");
    let revoked = issue(&house.authority, "revoked", Wish::of("revoked"));
    let lists = house.authority.revoke(&[&revoked]).expect("revoked");
    let server = house
        .setup()
        .config("ssl.clientHostnameVerification", "true")
        .config("ssl.crl", "true")
        .config("ssl.crl.location", &shown(&lists))
        .start()
        .expect("the server starts");
    let address = secure_address(&server);
    let ask_with = |key: &Issued| {
        let key = shown(&key.pem);
        openssl_client(address, "srvr", &["-cert", &key, "-key", &key])
    };
    assert!(ask_with(&house.client).contains("Mode: standalone"));
    for (key, line) in [
        (
            issue(&house.authority, "expired", Wish::of("expired").expired()),
            "certificate of CN=expired,O=Example, issued by CN=authority,O=Example): it expired",
        ),
        (
            issue(&house.authority, "early", Wish::of("early").not_yet_valid()),
            "certificate of CN=early,O=Example, issued by CN=authority,O=Example): it is not valid before",
        ),
        (
            issue(&stranger, "foreign", Wish::of("foreign")),
            "certificate of CN=foreign,O=Example, issued by CN=stranger,O=Example): no authority of the trust store",
        ),
        (
            issue(&house.authority, "elsewhere", Wish::of("elsewhere").hosts("DNS:other.example.com")),
            "CN=elsewhere,O=Example is for other.example.com and not for the address 127.0.0.1",
        ),
        (revoked, "certificate of CN=revoked,O=Example, issued by CN=authority,O=Example): it was revoked"),
    ] {
        let answer = ask_with(&key);
        assert!(!answer.contains("Mode: "), "{line}: {answer}");
        server.wait_log(line).expect("the log says why");
    }
    let without = openssl_client(address, "srvr", &[]);
    assert!(!without.contains("Mode: "), "{without}");
    server.wait_log("showed no certificate: ssl.clientAuth=need asks for one").expect("the log says why");
    assert_eq!(metric(&server, "zk_unsuccessful_handshake"), 6);
}

#[test]
fn one_port_takes_both_where_that_is_wanted() {
    let house = House::new().expect("openssl works");
    let server = Setup::new()
        .config("client.portUnification", "true")
        .config("ssl.keyStore.location", &shown(&house.server.pem))
        .config("ssl.clientAuth", "none")
        .config("ssl.handshakeDetectionTimeoutMillis", "100")
        .start()
        .expect("the server starts");
    assert!(openssl_client(server.address(), "srvr", &[]).contains("Mode: standalone"));
    // One that says nothing for a while is taken for a plain one.
    let mut slow = TcpStream::connect(server.address()).expect("connected");
    std::thread::sleep(Duration::from_millis(300));
    slow.write_all(b"srvr").expect("sent");
    let mut answer = String::new();
    slow.read_to_string(&mut answer).expect("answered");
    assert!(answer.contains("Mode: standalone"), "{answer}");
}

#[test]
fn a_server_may_take_tls_alone() {
    let house = House::new().expect("openssl works");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
    let setup = house.setup().config("secureClientPort", &port.to_string()).config("ssl.clientAuth", "none");
    let mut server = setup.without_plain_port().start().expect("the server starts");
    let mut program = python("operations.py").expect("kazoo is installed");
    program.env("TLS_TRUST", house.authority.trust());
    run_at(program, SocketAddr::new([127, 0, 0, 1].into(), port), &mut server)
        .unwrap_or_else(|error| panic!("{error:#}"));
    server.wait_log(&format!(":{port} with TLS; data in ")).expect("and says where");
    assert!(!server.log().contains(" and on "), "nowhere else");
}

#[test]
fn a_server_that_would_let_in_any_certificate_is_refused() {
    let house = House::new().expect("openssl works");
    let failure = house.setup().config("clientPort", "0").config("ssl.trustStore.location", "").start_and_fail();
    let failure = failure.expect("the server refuses");
    assert_eq!(failure.code, Some(2), "{}", failure.log);
    assert!(failure.log.contains("set ssl.clientAuth=none"), "{}", failure.log);
}

#[test]
fn strangers_at_the_port_hurt_nobody() {
    let house = House::new().expect("openssl works");
    let server = house
        .setup()
        .config("ssl.clientAuth", "none")
        .config("maxClientCnxns", "0")
        .config("nio.sessionlessCnxnTimeout", "3000")
        .config("netty.server.outstandingHandshake.limit", "50")
        .start()
        .expect("the server starts");
    let address = secure_address(&server);
    // Half a handshake from many at once: a record that was begun and does not end.
    let half: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(address).expect("connected");
            let _ = stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]);
            stream
        })
        .collect();
    eventually("the others are closed", || metric(&server, "zk_tls_handshake_exceeded") >= 100);
    assert!(metric(&server, "zk_outstanding_tls_handshake") <= 50);
    // The plain port is as fast as ever, and the others are let in when the time of the half ones is over.
    assert!(four_letter_word_within(server.address(), "srvr", LIMIT).expect("served").contains("Mode: "));
    server.wait_log("the handshake was not over within 3s").expect("the log says so");
    eventually("a client is served", || openssl_client(address, "srvr", &[]).contains("Mode: standalone"));
    drop(half);

    // A plain client at the port for TLS, and the other way round.
    let mut plain = TcpStream::connect(address).expect("connected");
    plain.write_all(b"srvr").expect("sent");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    server.wait_log("what the client sent is no TLS").expect("the log says so");
    let refused = openssl_client(server.address(), "srvr", &[]);
    assert!(!refused.contains("Mode: "), "{refused}");
    server.wait_log("it speaks TLS, which this port does not speak").expect("the log says so");

    // Records as long as they may be, that are no handshake, from one who does not stop.
    let mut endless = TcpStream::connect(address).expect("connected");
    let record = [&[0x16, 0x03, 0x01, 0x40, 0x00][..], &[0; 0x4000]].concat();
    let sent = (0..10_000).take_while(|_| endless.write_all(&record).is_ok()).count();
    assert!(sent < 10_000, "somebody read {sent} records of nonsense");
    assert!(openssl_client(address, "srvr", &[]).contains("Mode: standalone"));
}
