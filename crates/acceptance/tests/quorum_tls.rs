//! TLS between the members of an ensemble, of both products, and the way there while clients write.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use rookeeper_acceptance::between_members::{
    FOLLOWER_INFO, INITIAL_MESSAGE, MemberCertificates, good, is_closed_to_plain,
};
use rookeeper_acceptance::certificates::{Authority, Wish, openssl_client};
use rookeeper_acceptance::client::DEADLINE;
use rookeeper_acceptance::ensemble::Ensemble;
use rookeeper_acceptance::load::Load;
use rookeeper_acceptance::random::Random;
use rookeeper_acceptance::rounds::{each_is_configured, each_is_killed};
use rookeeper_acceptance::server::Product::{self, Apache};
use rookeeper_acceptance::verdict::judge;

const SERVES: &str = "nothing is lost and nothing contradicts";

fn ours() -> Product {
    Product::under_test()
}

#[test]
fn three_members_serve_with_tls() {
    let house = MemberCertificates::new();
    let mut ensemble = house.furnished(house.secured(&[ours(); 3]));
    ensemble.start_led_by_last().expect("an ensemble forms");
    each_is_killed(&mut ensemble, "three_members_serve_with_tls").expect(SERVES);
}

fn with_apache(products: &[Product], name: &str) {
    let house = MemberCertificates::new();
    let mut ensemble = house.furnished(house.secured(products));
    // The first handshake of a Java machine takes a second, in which two others would have agreed.
    for id in [3, 1] {
        ensemble.start(id).expect("it starts");
    }
    assert_eq!(ensemble.wait_formed().expect("two serve"), 3);
    ensemble.start(2).expect("it starts");
    assert_eq!(ensemble.wait_formed().expect("all serve"), 3);
    each_is_killed(&mut ensemble, name).expect(SERVES);
}

#[test]
fn apache_leads() {
    with_apache(&[ours(), ours(), Apache], "apache_leads");
}

#[test]
fn apache_follows() {
    with_apache(&[Apache, Apache, ours()], "apache_follows");
}

/// The three rounds by which the original is switched to TLS.
fn goes_over(products: &[Product], name: &str) {
    let house = MemberCertificates::new();
    let mut random = Random::from_environment(name);
    let mut ensemble = house.furnished(house.plan(products));
    ensemble.start_all().expect("all start");
    ensemble.wait_formed().expect("a plain ensemble forms");
    let load = Load::start(&ensemble.addresses(), &mut random).expect("clients are served");
    for lines in [&[("portUnification", "true")], &[("sslQuorum", "true")], &[("portUnification", "false")]] {
        each_is_configured(&mut ensemble, &load, lines).expect("they go on");
    }
    judge(&mut ensemble, load).expect(SERVES);
    let leader = ensemble.leader().expect("one leads");
    assert!(is_closed_to_plain(ensemble.quorum_address(leader), FOLLOWER_INFO));
}

#[test]
fn an_ensemble_goes_over_to_tls_while_clients_write() {
    goes_over(&[ours(); 3], "an_ensemble_goes_over_to_tls_while_clients_write");
}

#[test]
fn a_mixed_ensemble_goes_over_to_tls_while_clients_write() {
    goes_over(&[ours(), Apache, ours()], "a_mixed_ensemble_goes_over_to_tls_while_clients_write");
}

#[test]
fn whoever_speaks_without_tls_or_without_a_certificate_is_refused_where_members_speak_tls() {
    let house = MemberCertificates::new();
    let mut ensemble = house.furnished(house.secured(&[ours(); 3]));
    ensemble.start_all().expect("all start");
    let leader = ensemble.wait_formed().expect("all serve");
    for (address, words, port) in [
        (ensemble.quorum_address(leader), FOLLOWER_INFO, "to the quorum port"),
        (ensemble.election_address(leader), INITIAL_MESSAGE, "closed an election connection from"),
    ] {
        assert!(is_closed_to_plain(address, words), "{port}");
        ensemble.wait_log(leader, 0, &["what the other server sent is no TLS; it must connect with TLS"]).expect(port);
        ensemble.wait_log(leader, 0, &[port]).expect(port);
    }
    // Nor does TLS without a certificate help.
    openssl_client(ensemble.election_address(leader), "?", &[]);
    ensemble.wait_log(leader, 0, &["showed no certificate: ssl.quorum.clientAuth=need asks for one"]).expect("told");
    assert_eq!(ensemble.leader().expect("one leads"), leader);
}

/// A stranger takes many of the places that one address may have, with handshakes that do not end or without a word.
#[test]
fn half_handshakes_and_silence_end_in_time_and_hold_nobody_up() {
    let house = MemberCertificates::new();
    let plan = house.secured(&[ours(); 3]).config("portUnification", "true");
    let plan = plan.config("ssl.quorum.handshakeDetectionTimeoutMillis", "500");
    let mut ensemble = house.furnished(plan);
    ensemble.start_all().expect("all start");
    let leader = ensemble.wait_formed().expect("all serve");
    let follower = ensemble.followers().expect("two follow")[0];
    ensemble.kill(follower).expect("it runs");
    let mut strangers = Vec::new();
    for address in [ensemble.quorum_address(leader), ensemble.election_address(leader)] {
        for words in [&b"\x16\x03\x01\x02\x00\x01"[..], b"\x16", b""] {
            for _ in 0..4 {
                let mut stream = TcpStream::connect(address).expect("the port is open");
                stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
                stream.write_all(words).expect("it is sent");
                strangers.push(stream);
            }
        }
    }
    // They are still there when the member comes, and it is let in.
    ensemble.start(follower).expect("it starts again");
    ensemble.wait_formed().expect("all serve");
    let begin = Instant::now();
    for mut stream in strangers {
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer).or_else(|error| match error.kind() {
            std::io::ErrorKind::ConnectionReset => Ok(0),
            _ => Err(error),
        });
        ended.expect("it is closed");
    }
    assert!(begin.elapsed() < DEADLINE, "{:?}", begin.elapsed());
    ensemble.wait_log(leader, 0, &["the handshake was not over within"]).expect("it says so");
    assert_eq!(ensemble.leader().expect("one leads"), leader);
}

/// Member 1 comes back with such a certificate. It stays outside while the others go on, each side says why, and with a good certificate it comes in
/// without a restart.
fn stays_outside(
    house: &MemberCertificates,
    ensemble: &mut Ensemble,
    (authority, wish): (&Authority, &Wish),
    lines: [&str; 2],
) {
    let name = lines[0];
    ensemble.kill(1).expect("it runs");
    house.furnish(ensemble, 1, authority, wish);
    let before = [1, 2, 3].map(|id| ensemble.log(id).len());
    ensemble.start(1).expect("it starts");
    // Either of the others, whichever meets it.
    ensemble
        .wait_for("one of the others says why", |ensemble| {
            Ok([2, 3].into_iter().any(|id| ensemble.log(id)[before[id as usize - 1]..].contains(lines[0])))
        })
        .unwrap_or_else(|error| panic!("{name}: {error:#}"));
    ensemble.wait_log(1, before[0], &[lines[1]]).unwrap_or_else(|error| panic!("{name}: {error:#}"));
    let mut client = ensemble.connect(2).expect("a session");
    client.create("/goes-on-", b"").expect("two of three go on");
    client.delete("/goes-on-").expect("two of three go on");
    assert_ne!(ensemble.mode(1).as_deref(), Some("follower"), "{name}");
    assert_eq!(ensemble.leader().expect("one leads"), 3);
    house.furnish(ensemble, 1, &house.authority, &good(ensemble, 1));
    ensemble.wait_formed().unwrap_or_else(|error| panic!("{name}: {error:#}"));
}

#[test]
fn a_member_whose_certificate_must_be_refused_stays_outside_and_both_sides_say_why() {
    let house = MemberCertificates::new();
    let stranger = Authority::new(house.folder.path(), "stranger").expect("openssl works");
    let mut ensemble = house.furnished(house.secured(&[ours(); 3]));
    ensemble.start_led_by_last().expect("an ensemble forms");
    let foreign = good(&ensemble, 1).subject("/CN=foreign");
    let lines = [
        "this server refused the certificate of the other server (certificate of CN=foreign, issued by CN=stranger,O=Example): no authority of the \
         trust store issued it; put the certificate of its authority into ssl.quorum.trustStore.location",
        "the other server refused this server: it does not know the authority of this server's certificate",
    ];
    stays_outside(&house, &mut ensemble, (&stranger, &foreign), lines);
    let expired = good(&ensemble, 1).subject("/CN=expired").expired();
    let lines = [
        "this server refused the certificate of the other server (certificate of CN=expired, issued by CN=authority,O=Example): it expired",
        "the other server refused this server: it found this server's certificate expired",
    ];
    stays_outside(&house, &mut ensemble, (&house.authority, &expired), lines);
    // Whoever is dialled compares the address that a member comes from.
    let elsewhere = good(&ensemble, 1).subject("/CN=elsewhere").hosts("IP:127.9.9.9");
    let lines = [
        "this server refused the certificate of the other server: the certificate of CN=elsewhere is for 127.9.9.9 and not for the address \
         127.0.0.1; issue it for that address too, or set ssl.quorum.clientHostnameVerification=false",
        "and has not; its own log says whether it refused the certificate of this server",
    ];
    stays_outside(&house, &mut ensemble, (&house.authority, &elsewhere), lines);
}

#[test]
fn whoever_dials_a_member_compares_the_host_of_its_line() {
    let house = MemberCertificates::new();
    let plan = house.secured(&[ours(); 3]).config("ssl.quorum.clientHostnameVerification", "false");
    let mut ensemble = house.furnished(plan);
    ensemble.start_led_by_last().expect("an ensemble forms");
    let host = ensemble.quorum_address(1).ip();
    let elsewhere = good(&ensemble, 1).subject("/CN=elsewhere").hosts("IP:127.9.9.9,IP:127.0.0.1");
    let why = format!(
        "it is for 127.9.9.9, 127.0.0.1 and not for {host}; issue it for that host too, or set ssl.quorum.hostnameVerification=false"
    );
    let told = "the other server refused this server: it does not accept this server's certificate, perhaps because of the host in it";
    stays_outside(&house, &mut ensemble, (&house.authority, &elsewhere), [&why, told]);
}

/// Connections come from an address that no certificate names, and a name in it leads there.
#[test]
fn a_certificate_for_names_is_enough_where_they_lead_to_the_member() {
    let house = MemberCertificates::new();
    let mut ensemble = house.furnished(house.secured(&[ours(); 3]));
    for id in ensemble.ids() {
        let host = ensemble.quorum_address(id).ip();
        let wish = Wish::of("by name").hosts(&format!("IP:{host},DNS:localhost"));
        house.furnish(&ensemble, id, &house.authority, &wish);
    }
    ensemble.start_all().expect("all start");
    ensemble.wait_formed().expect("all serve");
}

#[test]
fn revoked_certificates_are_refused_between_members() {
    let house = MemberCertificates::new();
    let plan = house.secured(&[ours(); 3]).config("ssl.quorum.crl", "true");
    let list = house.authority.revoke(&[]).expect("an empty list");
    let mut ensemble = house.furnished(plan.config("ssl.quorum.crl.location", &list.display().to_string()));
    ensemble.start_led_by_last().expect("an ensemble forms");
    ensemble.kill(1).expect("it runs");
    let issued = house.authority.issue("revoked", &good(&ensemble, 1).subject("/CN=revoked")).expect("a certificate");
    house.authority.revoke(&[&issued]).expect("a list");
    fs::copy(issued.pem, ensemble.data_dir(1).parent().expect("a folder").join("member.pem")).expect("a file");
    // The others have read the list again before the member comes.
    for id in [2, 3] {
        ensemble.wait_log(id, 0, &["read the files of TLS again"]).expect("it follows the list");
    }
    let before = ensemble.log(3).len();
    ensemble.start(1).expect("it starts");
    ensemble.wait_log(3, before, &["issued by CN=authority,O=Example): it was revoked"]).expect("it says why");
    assert_ne!(ensemble.mode(1).as_deref(), Some("follower"));
    ensemble.connect(2).and_then(|mut client| client.create("/goes-on", b"")).expect("two of three go on");
}

#[test]
fn certificates_are_exchanged_while_members_are_connected() {
    let house = MemberCertificates::new();
    let mut random = Random::from_environment("certificates_are_exchanged_while_members_are_connected");
    let mut ensemble = house.furnished(house.secured(&[ours(); 3]));
    ensemble.start_all().expect("all start");
    let leader = ensemble.wait_formed().expect("all serve");
    let load = Load::start(&ensemble.addresses(), &mut random).expect("clients are served");
    for id in ensemble.ids() {
        house.furnish(&ensemble, id, &house.authority, &good(&ensemble, id).subject(&format!("/CN=renewed-{id}")));
        ensemble.wait_log(id, 0, &[&format!("new connections get the certificate of CN=renewed-{id}")]).expect("read");
        let [key, trust] = house.key_and_trust(&ensemble, id);
        let arguments = ["-cert", &key, "-key", &key, "-CAfile", &trust, "-verify_return_error"];
        let seen = openssl_client(ensemble.election_address(id), "?", &arguments);
        assert!(seen.contains(&format!("renewed-{id}")), "{seen}");
    }
    load.wait_progress().expect("they go on");
    assert_eq!(ensemble.leader().expect("one leads"), leader, "no connection was given up for it");
    // New connections are made with the new ones.
    ensemble.kill(leader).expect("it runs");
    ensemble.start(leader).expect("it starts again");
    ensemble.wait_formed().expect("all serve");
    judge(&mut ensemble, load).expect(SERVES);
}
