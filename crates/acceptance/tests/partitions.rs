//! Servers that stop to hear each other, in both directions or in one, while clients reach all of them.
//!
//! Whoever has no quorum acknowledges nothing; whoever has one goes on; mended, all are one ensemble again. Needs root, for network
//! namespaces; does nothing without.

use std::time::Duration;

use rookeeper_acceptance::client::Session;
use rookeeper_acceptance::client::{Client, Hello};
use rookeeper_acceptance::ensemble::{Ensemble, Plan};
use rookeeper_acceptance::load::Load;
use rookeeper_acceptance::namespaces::Namespaces;
use rookeeper_acceptance::random::Random;
use rookeeper_acceptance::server::Product::{self, Apache};
use rookeeper_acceptance::verdict::judge;

/// From, to.
type Cut = (u64, u64);

fn both_ways(one: u64, others: &[u64]) -> Vec<Cut> {
    others.iter().flat_map(|other| [(one, *other), (*other, one)]).collect()
}

/// Under load: `cuts` says what is cut when that server leads, `then` waits for what must come of it.
fn partition(
    products: &[Product],
    name: &str,
    cuts: impl FnOnce(&Ensemble, u64) -> Vec<Cut>,
    then: impl FnOnce(&mut Ensemble, u64, &Load),
) {
    if !Namespaces::are_available() {
        return;
    }
    let mut random = Random::from_environment(name);
    let mut ensemble = Plan::of(products).in_namespaces().start().expect("the servers form an ensemble");
    let load = Load::start(&ensemble.addresses(), &mut random).expect("clients are served");
    let leader = ensemble.leader().expect("one leads");
    let cuts = cuts(&ensemble, leader);
    for (from, to) in &cuts {
        ensemble.cut(*from, *to).expect("a cut");
    }
    then(&mut ensemble, leader, &load);
    for (from, to) in &cuts {
        ensemble.mend(*from, *to).expect("mended");
    }
    ensemble.wait_formed().expect("all find each other again");
    load.wait_progress().expect("clients are served");
    judge(&mut ensemble, load).expect("nothing is lost and nothing contradicts");
}

fn ours(count: usize) -> Vec<Product> {
    vec![Product::under_test(); count]
}

fn others(ensemble: &Ensemble, id: u64) -> Vec<u64> {
    ensemble.ids().into_iter().filter(|other| *other != id).collect()
}

/// It has no quorum: what it is asked to write it may never answer.
fn assert_acknowledges_nothing(ensemble: &Ensemble, id: u64, session: &Session) {
    let hello = Hello { session: Some(session), deadline: Duration::from_secs(2), ..Hello::default() };
    if let Ok(mut client) = hello.connect(ensemble.address(id)) {
        assert!(client.create("/alone", b"").is_err(), "member {id} has no quorum");
        assert!(client.sync().is_err(), "member {id} cannot know that it is up to date");
    }
}

fn leader_is_cut_off(products: &[Product], name: &str) {
    partition(
        products,
        name,
        |ensemble, leader| both_ways(leader, &others(ensemble, leader)),
        |ensemble, leader, load| {
            let successor = ensemble.wait_leader_other_than(leader).expect("the others go on");
            load.wait_progress().expect("clients find the others");
            let session = Client::connect(ensemble.address(successor)).expect("a session").session;
            assert_acknowledges_nothing(ensemble, leader, &session);
            ensemble
                .wait_for("the old leader stops to serve", |ensemble| Ok(ensemble.mode(leader).is_none()))
                .expect("it notices that it has no quorum");
        },
    );
}

#[test]
fn the_leader_is_cut_off() {
    leader_is_cut_off(&ours(3), "the_leader_is_cut_off");
}

#[test]
fn the_leader_of_a_mixed_ensemble_is_cut_off() {
    leader_is_cut_off(&[Apache, ours(1)[0], Apache], "the_leader_of_a_mixed_ensemble_is_cut_off");
}

/// The leader hears its followers, who do not hear it.
#[test]
fn the_leader_is_not_heard() {
    partition(
        &ours(3),
        "the_leader_is_not_heard",
        |ensemble, leader| others(ensemble, leader).into_iter().map(|other| (leader, other)).collect(),
        |ensemble, leader, load| {
            ensemble.wait_leader_other_than(leader).expect("the others go on");
            load.wait_progress().expect("clients find the others");
        },
    );
}

/// The followers hear their leader, who does not hear them.
#[test]
fn the_leader_does_not_hear() {
    partition(
        &ours(3),
        "the_leader_does_not_hear",
        |ensemble, leader| others(ensemble, leader).into_iter().map(|other| (other, leader)).collect(),
        |ensemble, leader, load| {
            ensemble.wait_leader_other_than(leader).expect("the others go on");
            load.wait_progress().expect("clients find the others");
        },
    );
}

/// One follower and the leader do not hear each other, both hear the other follower: nobody else is disturbed.
#[test]
fn one_follower_and_the_leader_lose_each_other() {
    partition(
        &ours(3),
        "one_follower_and_the_leader_lose_each_other",
        |ensemble, leader| both_ways(leader, &others(ensemble, leader)[..1]),
        |ensemble, leader, load| {
            let lonely = others(ensemble, leader)[0];
            ensemble.wait_for("it notices", |ensemble| Ok(ensemble.mode(lonely).is_none())).expect("it has no leader");
            load.wait_progress().expect("the others go on");
            load.wait_progress().expect("the others go on");
            assert_eq!(ensemble.mode(leader).as_deref(), Some("leader"), "and keep their leader");
        },
    );
}

/// Two of five with the leader, three without.
#[test]
fn the_leader_is_in_the_minority() {
    partition(
        &ours(5),
        "the_leader_is_in_the_minority",
        |ensemble, leader| {
            let companion = others(ensemble, leader)[0];
            let majority: Vec<u64> = others(ensemble, leader).into_iter().filter(|id| *id != companion).collect();
            [both_ways(leader, &majority), both_ways(companion, &majority)].concat()
        },
        |ensemble, leader, load| {
            let successor = ensemble.wait_leader_other_than(leader).expect("three of five go on");
            load.wait_progress().expect("clients find them");
            let session = Client::connect(ensemble.address(successor)).expect("a session").session;
            assert_acknowledges_nothing(ensemble, leader, &session);
        },
    );
}
