//! SASL between servers, Rookeeper and the original in one ensemble: who has the password belongs to it, and nobody else.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use rookeeper_acceptance::certificates::{Authority, Wish};
use rookeeper_acceptance::client::DEADLINE;
use rookeeper_acceptance::ensemble::{Ensemble, Plan};
use rookeeper_acceptance::load::Load;
use rookeeper_acceptance::random::Random;
use rookeeper_acceptance::rounds::{each_is_configured, each_is_killed};
use rookeeper_acceptance::server::Product::{self, Apache};
use rookeeper_acceptance::verdict::judge;
use tempfile::NamedTempFile;

const STEPS: [&str; 3] = ["quorum.auth.enableSasl", "quorum.auth.learnerRequireSasl", "quorum.auth.serverRequireSasl"];

fn ours() -> Product {
    Product::under_test()
}

/// The sections as the guide of the original has them, and one of a learner that has another password.
fn jaas() -> NamedTempFile {
    let module = "org.apache.zookeeper.server.auth.DigestLoginModule required";
    let text = format!(
        "QuorumServer {{\n  {module}\n  user_zkq=\"quorumpw\";\n}};\nQuorumLearner {{\n  {module}\n  username=\"zkq\"\n  \
         password=\"quorumpw\";\n}};\nIntruder {{\n  {module}\n  username=\"zkq\"\n  password=\"guessed\";\n}};\n"
    );
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("a text");
    file
}

/// Apache 3.9 has no DIGEST-MD5 in the mode that is its default.
fn plan(products: &[Product], jaas: &NamedTempFile) -> Plan {
    Plan::of(products)
        .property(&format!("-Djava.security.auth.login.config={}", jaas.path().display()))
        .property("-Dzookeeper.fips-mode=false")
}

fn secured(products: &[Product], jaas: &NamedTempFile) -> Plan {
    STEPS
        .iter()
        .fold(plan(products, jaas).config("quorum.cnxn.threads.size", "20"), |plan, key| plan.config(key, "true"))
}

/// Each server is killed and comes back, the leader first, under load.
fn one_after_the_other(products: &[Product], name: &str) {
    let jaas = jaas();
    let mut ensemble = secured(products, &jaas).start_led_by_last().expect("an ensemble forms, and the last one leads");
    each_is_killed(&mut ensemble, name).expect("nothing is lost and nothing contradicts");
}

#[test]
fn apache_leads() {
    one_after_the_other(&[ours(), ours(), Apache], "apache_leads");
}

#[test]
fn apache_follows() {
    one_after_the_other(&[Apache, Apache, ours()], "apache_follows");
}

#[test]
fn an_observer_proves_itself_too() {
    let jaas = jaas();
    let mut random = Random::from_environment("an_observer_proves_itself_too");
    let products = [ours(), ours(), ours(), ours()];
    let mut ensemble = secured(&products, &jaas).observer(4).start().expect("an ensemble forms");
    let load = Load::start(&[ensemble.address(4)], &mut random).expect("the observer serves clients");
    load.wait_progress().expect("it goes on");
    judge(&mut ensemble, load).expect("nothing is lost and nothing contradicts");
}

/// An observer too, and both products: what proves a server goes over the encrypted connection as over a plain one.
#[test]
fn servers_prove_themselves_within_tls() {
    let (jaas, folder) = (jaas(), tempfile::tempdir().expect("a folder"));
    let authority = Authority::new(folder.path(), "authority").expect("openssl works");
    let mut random = Random::from_environment("servers_prove_themselves_within_tls");
    let plan = secured(&[ours(), Apache, ours(), ours()], &jaas).observer(4).config("sslQuorum", "true");
    let plan = plan.config("ssl.quorum.trustStore.location", &authority.trust().display().to_string());
    let key_store = folder.path().join("authority/member.pem");
    let plan = plan.config("ssl.quorum.keyStore.location", &key_store.display().to_string());
    let mut ensemble = plan.prepare().expect("folders");
    let hosts = ensemble.ids().into_iter().map(|id| format!("IP:{},", ensemble.quorum_address(id).ip()));
    let hosts = hosts.collect::<String>() + "IP:127.0.0.1";
    authority.issue("member", &Wish::of("member").hosts(&hosts)).expect("a certificate");
    ensemble.start_all().expect("all start");
    ensemble.wait_formed().expect("all serve");
    let load = Load::start(&[ensemble.address(4)], &mut random).expect("the observer serves clients");
    load.wait_progress().expect("it goes on");
    judge(&mut ensemble, load).expect("nothing is lost and nothing contradicts");
}

/// The guide of the original: one step on all servers, one after the other, then the next.
fn switched_on(products: &[Product], name: &str) {
    let jaas = jaas();
    let mut random = Random::from_environment(name);
    let mut ensemble = plan(products, &jaas).start().expect("an ensemble forms");
    let load = Load::start(&ensemble.addresses(), &mut random).expect("clients are served");
    for key in STEPS {
        each_is_configured(&mut ensemble, &load, &[(key, "true")]).expect("they go on");
    }
    judge(&mut ensemble, load).expect("nothing is lost and nothing contradicts");
    assert!(is_closed_to_strangers(ensemble.quorum_address(1), FOLLOWER_INFO));
}

#[test]
fn sasl_is_switched_on_while_the_ensemble_serves() {
    switched_on(&[ours(), Apache, ours()], "sasl_is_switched_on_while_the_ensemble_serves");
}

/// FOLLOWERINFO of server 3, and the initial message of server 3 with a notification behind it.
const FOLLOWER_INFO: &[u8] =
    b"\0\0\0\x0b\0\0\0\0\0\0\0\0\0\0\0\x14\0\0\0\0\0\0\0\x03\0\x01\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff";
const INITIAL_MESSAGE: &[u8] =
    b"\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\x03\0\0\0\x0f127.0.0.3:32388\0\0\0\x28\0\0\0\0";

fn is_closed_to_strangers(address: SocketAddr, words: &[u8]) -> bool {
    let mut stream = TcpStream::connect(address).expect("the port is open");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
    stream.write_all(words).expect("it is sent");
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => answer.is_empty(),
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

fn expect_log(ensemble: &mut Ensemble, id: u64, text: &str) {
    ensemble.wait_log(id, 0, &[text]).expect("it is said");
}

#[test]
fn nobody_comes_in_without_the_password() {
    let jaas = jaas();
    let mut ensemble = secured(&[ours(), ours(), ours()], &jaas).start().expect("an ensemble forms");
    let leader = ensemble.leader().expect("one leads");
    assert!(is_closed_to_strangers(ensemble.quorum_address(leader), FOLLOWER_INFO));
    assert!(is_closed_to_strangers(ensemble.election_address(1), INITIAL_MESSAGE));
    expect_log(&mut ensemble, leader, "does not authenticate by SASL");

    // A server with another password stays outside, and says why; the others go on.
    let outside = if leader == 1 { 2 } else { 1 };
    let other = ensemble.ids().into_iter().find(|id| *id != leader && *id != outside).expect("there are three");
    ensemble.kill(outside).expect("it runs");
    ensemble.set_config(outside, "quorum.auth.learner.saslLoginContext", "Intruder").expect("its file can be written");
    ensemble.start(outside).expect("it starts");
    expect_log(&mut ensemble, outside, "is refused there");
    expect_log(&mut ensemble, leader, "a wrong user or password");
    let mut client = ensemble.connect(other).expect("a session");
    client.create("/goes-on", b"").expect("two of three go on");

    ensemble.kill(outside).expect("it runs");
    ensemble
        .set_config(outside, "quorum.auth.learner.saslLoginContext", "QuorumLearner")
        .expect("its file can be written");
    ensemble.start(outside).expect("it starts");
    ensemble.wait_formed().expect("with the password it is one of them");
    client.exists("/goes-on").expect("an answer").expect("the node is there");
}
