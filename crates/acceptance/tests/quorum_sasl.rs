//! SASL between servers, Rookeeper and the original in one ensemble: who has the password belongs to it, and nobody else.

use rookeeper_acceptance::between_members::{
    FOLLOWER_INFO, INITIAL_MESSAGE, SASL_STEPS, is_closed_to_strangers, jaas, plan_with_passwords,
    secured_with_passwords,
};
use rookeeper_acceptance::certificates::{Authority, Wish};
use rookeeper_acceptance::ensemble::Ensemble;
use rookeeper_acceptance::load::Load;
use rookeeper_acceptance::random::Random;
use rookeeper_acceptance::rounds::{each_is_configured, each_is_killed};
use rookeeper_acceptance::server::Product::{self, Apache};
use rookeeper_acceptance::verdict::judge;

fn ours() -> Product {
    Product::under_test()
}

/// Each server is killed and comes back, the leader first, under load.
fn one_after_the_other(products: &[Product], name: &str) {
    let jaas = jaas();
    let mut ensemble = secured_with_passwords(products, jaas.path())
        .start_led_by_last()
        .expect("an ensemble forms, and the last one leads");
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
    let mut ensemble = secured_with_passwords(&products, jaas.path()).observer(4).start().expect("an ensemble forms");
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
    let plan =
        secured_with_passwords(&[ours(), Apache, ours(), ours()], jaas.path()).observer(4).config("sslQuorum", "true");
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
    let mut ensemble = plan_with_passwords(products, jaas.path()).start().expect("an ensemble forms");
    let load = Load::start(&ensemble.addresses(), &mut random).expect("clients are served");
    for key in SASL_STEPS {
        each_is_configured(&mut ensemble, &load, &[(key, "true")]).expect("they go on");
    }
    judge(&mut ensemble, load).expect("nothing is lost and nothing contradicts");
    assert!(is_closed_to_strangers(ensemble.quorum_address(1), FOLLOWER_INFO));
}

#[test]
fn sasl_is_switched_on_while_the_ensemble_serves() {
    switched_on(&[ours(), Apache, ours()], "sasl_is_switched_on_while_the_ensemble_serves");
}

fn expect_log(ensemble: &mut Ensemble, id: u64, text: &str) {
    ensemble.wait_log(id, 0, &[text]).expect("it is said");
}

#[test]
fn nobody_comes_in_without_the_password() {
    let jaas = jaas();
    let mut ensemble =
        secured_with_passwords(&[ours(), ours(), ours()], jaas.path()).start().expect("an ensemble forms");
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
