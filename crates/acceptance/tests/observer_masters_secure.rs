//! Observers that are fed by followers (`observerMasterPort`) where members prove themselves to each other, with the original at either end: the
//! port is as closed to strangers as the quorum port.

use rookeeper_acceptance::between_members::{
    FOLLOWER_INFO, MemberCertificates, OBSERVER_INFO, answer, good, is_closed_to_plain, is_closed_to_strangers, jaas,
    secured_with_passwords,
};
use rookeeper_acceptance::certificates::{Authority, openssl_client, shown};
use rookeeper_acceptance::ensemble::{Ensemble, Plan};
use rookeeper_acceptance::load::Load;
use rookeeper_acceptance::random::Random;
use rookeeper_acceptance::server::Product::{self, Apache};
use rookeeper_acceptance::verdict::judge;

const SERVES: &str = "nothing is lost and nothing contradicts";

fn ours() -> Product {
    Product::under_test()
}

fn with_an_observer(plan: Plan) -> Plan {
    plan.with_observer_masters().observer(4)
}

/// Starts an ensemble of three and an observer: first one follower feeds the observer, and then the other one, under load.
fn fed(ensemble: &mut Ensemble, name: &str) {
    let mut random = Random::from_environment(name);
    ensemble.start_all().expect("all start");
    let leader = ensemble.wait_formed().expect("all serve");
    let load = Load::start(&[ensemble.address(4)], &mut random).expect("the observer serves clients");
    let master = ensemble.wait_observer_master(4, &[leader]).expect("a follower feeds it");
    ensemble.kill(master).expect("it runs");
    ensemble.wait_observer_master(4, &[leader, master]).expect("the other follower feeds it");
    load.wait_progress().expect("the observer goes on");
    ensemble.start(master).expect("it starts again");
    ensemble.wait_formed().expect("all serve");
    judge(ensemble, load).expect(SERVES);
}

fn fed_over_tls(products: &[Product], name: &str) {
    let house = MemberCertificates::new();
    let mut ensemble = house.furnished(with_an_observer(house.secured(products)));
    fed(&mut ensemble, name);
}

#[test]
fn we_feed_ourselves_over_tls() {
    fed_over_tls(&[ours(); 4], "we_feed_ourselves_over_tls");
}

#[test]
fn we_feed_an_apache_over_tls() {
    fed_over_tls(&[ours(), ours(), ours(), Apache], "we_feed_an_apache_over_tls");
}

#[test]
fn apache_feeds_us_over_tls() {
    fed_over_tls(&[Apache, Apache, Apache, ours()], "apache_feeds_us_over_tls");
}

fn fed_with_passwords(products: &[Product], name: &str) {
    let jaas = jaas();
    let plan = with_an_observer(secured_with_passwords(products, jaas.path()));
    fed(&mut plan.prepare().expect("folders"), name);
}

#[test]
fn we_feed_ourselves_with_passwords() {
    fed_with_passwords(&[ours(); 4], "we_feed_ourselves_with_passwords");
}

#[test]
fn we_feed_an_apache_with_passwords() {
    fed_with_passwords(&[ours(), ours(), ours(), Apache], "we_feed_an_apache_with_passwords");
}

#[test]
fn apache_feeds_us_with_passwords() {
    fed_with_passwords(&[Apache, Apache, Apache, ours()], "apache_feeds_us_with_passwords");
}

fn fed_with_passwords_over_tls(products: &[Product], name: &str) {
    let (jaas, house) = (jaas(), MemberCertificates::new());
    let plan = house.known_to(secured_with_passwords(products, jaas.path())).config("sslQuorum", "true");
    fed(&mut house.furnished(with_an_observer(plan)), name);
}

#[test]
fn we_feed_an_apache_with_passwords_over_tls() {
    fed_with_passwords_over_tls(&[ours(), ours(), ours(), Apache], "we_feed_an_apache_with_passwords_over_tls");
}

#[test]
fn apache_feeds_us_with_passwords_over_tls() {
    fed_with_passwords_over_tls(&[Apache, Apache, Apache, ours()], "apache_feeds_us_with_passwords_over_tls");
}

/// On its way to TLS, an ensemble feeds observers that speak it, and observers that do not yet.
#[test]
fn the_port_takes_both_where_port_unification_is_on() {
    let house = MemberCertificates::new();
    let plan = with_an_observer(house.plan(&[ours(); 4])).config("portUnification", "true");
    let mut ensemble = house.furnished(plan);
    ensemble.start_all().expect("all start");
    let leader = ensemble.wait_formed().expect("all serve");
    for is_secure in ["false", "true"] {
        ensemble.kill(4).expect("it runs");
        ensemble.set_config(4, "sslQuorum", is_secure).expect("its file can be written");
        ensemble.start(4).expect("it starts");
        ensemble.wait_formed().expect("all serve");
        ensemble.wait_observer_master(4, &[leader]).expect("a follower feeds the observer");
    }
}

#[test]
fn strangers_are_refused_where_members_speak_tls() {
    let house = MemberCertificates::new();
    let mut ensemble = house.furnished(with_an_observer(house.secured(&[ours(); 4])));
    ensemble.start_all().expect("all start");
    let leader = ensemble.wait_formed().expect("all serve");
    let master = ensemble.wait_observer_master(4, &[leader]).expect("a follower feeds the observer");
    let port = ensemble.observer_master_address(master);
    for words in [OBSERVER_INFO, FOLLOWER_INFO] {
        assert!(is_closed_to_plain(port, words), "no answer to who speaks without TLS");
    }
    let expect_log = |ensemble: &mut Ensemble, text: &str| {
        ensemble.wait_log(master, 0, &[text]).expect("the follower says why");
    };
    expect_log(
        &mut ensemble,
        "to the port for observers: what the other server sent is no TLS; it must connect with TLS",
    );

    openssl_client(port, "?", &[]);
    expect_log(
        &mut ensemble,
        "to the port for observers: this server refused the other server, which showed no certificate",
    );

    let stranger = Authority::new(house.folder.path(), "stranger").expect("openssl works");
    let foreign = stranger.issue("foreign", &good(&ensemble, 4).subject("/CN=foreign")).expect("a certificate");
    let foreign = shown(&foreign.pem);
    openssl_client(port, "?", &["-cert", &foreign, "-key", &foreign]);
    expect_log(
        &mut ensemble,
        "the certificate of the other server (certificate of CN=foreign, issued by CN=stranger,O=Example)",
    );

    // A member's certificate opens the port, and shows that of the follower.
    let [key, trust] = house.key_and_trust(&ensemble, 4);
    let arguments = ["-cert", &key, "-key", &key, "-CAfile", &trust, "-verify_return_error"];
    let seen = openssl_client(port, "?", &arguments);
    assert!(seen.contains(&format!("CN = member-{master}")) || seen.contains(&format!("CN=member-{master}")), "{seen}");
    assert_eq!(ensemble.observer_master(4), Some(master), "nobody disturbed the observer");
}

/// Whoever dials a follower compares the host of its line, as whoever dials the leader does.
#[test]
fn an_observer_refuses_a_follower_whose_certificate_is_for_another_host() {
    let house = MemberCertificates::new();
    let mut ensemble = house.furnished(with_an_observer(house.secured(&[ours(); 4])));
    // Nobody dials the election port of the greatest id among voters, so the others take the follower in.
    let elsewhere = good(&ensemble, 3).subject("/CN=elsewhere").hosts("IP:127.9.9.9,IP:127.0.0.1");
    house.furnish(&ensemble, 3, &house.authority, &elsewhere);
    for id in [1, 2] {
        ensemble.start(id).expect("it starts");
    }
    assert_eq!(ensemble.wait_formed().expect("two serve"), 2);
    ensemble.start(3).expect("it starts");
    assert_eq!(ensemble.wait_formed().expect("three serve"), 2);
    // Of these two followers, an observer with the id 4 tries 3 first.
    ensemble.start(4).expect("it starts");
    ensemble.wait_formed().expect("the observer serves");
    let master = ensemble.wait_observer_master(4, &[2]).expect("a follower feeds it");
    assert_eq!(master, 1, "the one whose certificate is good");
    let refused =
        "to the port for observers: the other server refused this server: it does not accept this server's certificate";
    ensemble.wait_log(3, 0, &[refused]).expect("the observer came to the other one first, and did not trust it");
}

#[test]
fn strangers_are_refused_where_members_have_passwords() {
    let jaas = jaas();
    let plan = with_an_observer(secured_with_passwords(&[ours(); 4], jaas.path()));
    let mut ensemble = plan.start().expect("an ensemble forms");
    let leader = ensemble.leader().expect("one leads");
    let master = ensemble.wait_observer_master(4, &[leader]).expect("a follower feeds the observer");
    let port = ensemble.observer_master_address(master);
    for words in [OBSERVER_INFO, FOLLOWER_INFO] {
        assert!(is_closed_to_strangers(port, words), "{:?}", answer(port, words));
    }
    let why = "to the port for observers: does not authenticate by SASL";
    ensemble.wait_log(master, 0, &[why]).expect("the follower says why");
    assert_eq!(ensemble.observer_master(4), Some(master), "nobody disturbed the observer");
}
