//! Rookeeper and the original in one ensemble, each in every role: this is how an operator moves from the one to the other and
//! back, one server at a time, while clients stay.
//!
//! With `ROOKEEPER_ACCEPTANCE_SERVER=apache` every Rookeeper below is an Apache: then the scenarios themselves are tested.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rookeeper_acceptance::client::{Client, refusal};
use rookeeper_acceptance::ensemble::{Ensemble, Plan};
use rookeeper_acceptance::load::{AskedAhead, KEYS, Load};
use rookeeper_acceptance::random::Random;
use rookeeper_acceptance::rounds::each_is_killed;
use rookeeper_acceptance::server::Product::{self, Apache};
use rookeeper_acceptance::verdict::{assert_equal_trees, judge};
use rookeeper_acceptance::wire::{self, Acl, Body};

const EPHEMERAL: i32 = 1;

fn ours() -> Product {
    Product::under_test()
}

/// The three servers of most scenarios: two followers of one kind, or of both, and a leader of the other.
fn led_by_last(products: &[Product]) -> Ensemble {
    Plan::of(products).start_led_by_last().expect("a mixed ensemble forms, and the last one leads")
}

/// Each server is killed and comes back, the leader first, under load.
fn one_after_the_other(products: &[Product], name: &str) {
    each_is_killed(&mut led_by_last(products), name).expect("nothing is lost and nothing contradicts");
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
fn both_follow_an_apache() {
    one_after_the_other(&[Apache, ours(), Apache], "both_follow_an_apache");
}

/// SIGSTOP: the others have to notice by themselves. The first that the old leader finds when it is thawed is a `sync` and a read:
/// Rookeeper answers with what the others have written meanwhile or not at all, Apache may answer with what it has.
fn leader_frozen(products: &[Product], name: &str) {
    let mut random = Random::from_environment(name);
    let mut ensemble = led_by_last(products);
    let mut load = Load::start(&ensemble.addresses(), &mut random).expect("clients are served");
    let clients: Vec<Client> = (0..KEYS).map(|_| ensemble.connect(3).expect("a session")).collect();
    ensemble.freeze(3).expect("it runs");
    ensemble.wait_leader_other_than(3).expect("another one leads");
    load.wait_progress().expect("two of three go on");
    let ask = |(key, client)| load.ask_ahead(client, key).expect("the kernel takes it");
    let asked: Vec<AskedAhead> = clients.into_iter().enumerate().map(ask).collect();
    ensemble.thaw(3).expect("it is there");
    for asked in asked {
        load.take_answer(asked).expect("an answer can be read");
    }
    ensemble.wait_formed().expect("it follows");
    load.wait_progress().expect("three go on");
    judge(&mut ensemble, load).expect("nothing is lost and nothing contradicts");
}

#[test]
fn our_leader_frozen() {
    leader_frozen(&[Apache, ours(), ours()], "our_leader_frozen");
}

#[test]
fn their_leader_frozen() {
    leader_frozen(&[ours(), Apache, Apache], "their_leader_frozen");
}

fn observed(products: &[Product], name: &str) {
    let mut random = Random::from_environment(name);
    let mut ensemble = Plan::of(products).observer(4).start().expect("a mixed ensemble forms");
    let load = Load::start(&[ensemble.address(4)], &mut random).expect("the observer serves clients");
    let leader = ensemble.leader().expect("one leads");
    ensemble.kill(leader).expect("it runs");
    load.wait_progress().expect("the observer finds the new leader");
    ensemble.kill(4).expect("it runs");
    ensemble.start(4).expect("it starts again");
    ensemble.start(leader).expect("it starts again");
    ensemble.wait_formed().expect("all serve");
    judge(&mut ensemble, load).expect("the observer has everything");
}

#[test]
fn we_observe_apache() {
    observed(&[Apache, Apache, Apache, ours()], "we_observe_apache");
}

#[test]
fn apache_observes_us() {
    observed(&[ours(), ours(), ours(), Apache], "apache_observes_us");
}

fn write_many(ensemble: &Ensemble, id: u64, prefix: &str, count: usize) {
    let mut client = ensemble.connect(id).expect("a session");
    client.create(prefix, b"").expect("a parent");
    let create =
        |number| Body::new().string(&format!("{prefix}/{number}")).buffer(Some(&[b'x'; 100])).acls(&Acl::open()).int(0);
    for number in 0..count {
        client.send(wire::CREATE, &create(number)).expect("requests fit the socket");
    }
    for _ in 0..count {
        client.receive().expect("an answer").ok().expect("a node");
    }
    client.close().expect("an orderly end");
}

/// Texts of the logs of both products, at either end, for each way of synchronisation.
const DIFF: &[&str] = &["Sending DIFF", "Getting a diff", "DIFF"];
const SNAP: &[&str] = &["Sending snapshot", "Getting a snapshot", "SNAP"];
const TRUNC: &[&str] = &["Truncating log", "TRUNC"];

/// Member 1 was away; the last member leads and brings it up to date.
fn caught_up(plan: Plan, expected: &[&str], missed: impl FnOnce(&mut Ensemble)) {
    let mut ensemble = plan.start_led_by_last().expect("a mixed ensemble forms, and the last one leads");
    write_many(&ensemble, 2, "/before", 100);
    ensemble.wait_same_zxid().expect("all have it");
    ensemble.stop(1).expect("it runs");
    missed(&mut ensemble);
    let start = ensemble.log(1).len();
    ensemble.start(1).expect("it starts again");
    ensemble.wait_formed().expect("it follows");
    let log = ensemble.log(1).split_off(start);
    assert!(expected.iter().any(|text| log.contains(text)), "the log of member 1 has none of {expected:?}");
    write_many(&ensemble, 1, "/after", 20);
    assert_equal_trees(&mut ensemble).expect("it has what it missed");

    // And what it has been given is on its disk.
    ensemble.kill(1).expect("it runs");
    ensemble.start(1).expect("it starts again");
    ensemble.wait_formed().expect("it follows");
    assert_equal_trees(&mut ensemble).expect("it kept what it missed");
}

fn diff_from_memory(products: &[Product]) {
    caught_up(Plan::of(products), DIFF, |ensemble| write_many(ensemble, 2, "/missed", 50));
}

/// More than a leader keeps in memory.
fn diff_from_log(products: &[Product]) {
    caught_up(Plan::of(products), DIFF, |ensemble| write_many(ensemble, 2, "/missed", 1500));
}

/// Without force, a leader that still has everything may send it as a difference to nothing.
fn snapshot(products: &[Product]) {
    let plan = Plan::of(products).property("-Dzookeeper.forceSnapshotSync=true");
    caught_up(plan, SNAP, |ensemble| {
        ensemble.wipe(1).expect("its files");
        write_many(ensemble, 2, "/missed", 50);
    });
}

#[test]
fn diff_from_the_memory_of_apache() {
    diff_from_memory(&[ours(), Apache, Apache]);
}

#[test]
fn diff_from_our_memory() {
    diff_from_memory(&[Apache, ours(), ours()]);
}

#[test]
fn diff_from_the_log_of_apache() {
    diff_from_log(&[ours(), Apache, Apache]);
}

#[test]
fn diff_from_our_log() {
    diff_from_log(&[Apache, ours(), ours()]);
}

#[test]
fn snapshot_of_apache() {
    snapshot(&[ours(), Apache, Apache]);
}

#[test]
fn snapshot_of_ours() {
    snapshot(&[Apache, ours(), ours()]);
}

/// A leader that has logged what nobody else has must take it back.
fn truncated(products: &[Product]) {
    // Long ticks: the leader holds on for a moment when its followers die.
    let plan = Plan::of(products).config("tickTime", "1500").config("initLimit", "20").config("syncLimit", "4");
    let mut ensemble = plan.start_led_by_last().expect("a mixed ensemble forms, and the last one leads");
    let mut client = ensemble.connect(3).expect("a session");
    client.create("/committed", b"").expect("a quorum takes it");
    ensemble.wait_same_zxid().expect("all have it");
    ensemble.kill(1).expect("it runs");
    ensemble.kill(2).expect("it runs");
    let body = Body::new().string("/never-committed").buffer(Some(b"")).acls(&Acl::open()).int(0);
    client.send(wire::CREATE, &body).expect("the leader has not noticed");
    ensemble
        .wait_for("the leader has logged it", |ensemble| is_logged(ensemble, 3, b"/never-committed"))
        .expect("it writes before it asks others");
    assert!(client.set_deadline(Duration::from_millis(1)).is_ok());
    ensemble.kill(3).expect("it runs");

    ensemble.start(1).expect("it starts again");
    ensemble.start(2).expect("it starts again");
    // No client yet: a new transaction would make it a snapshot.
    ensemble.wait_formed().expect("two are an ensemble");
    let start = ensemble.log(3).len();
    ensemble.start(3).expect("it starts again");
    ensemble.wait_formed().expect("it follows");
    let log = ensemble.log(3).split_off(start);
    assert!(TRUNC.iter().any(|text| log.contains(text)), "the log of member 3 has none of {TRUNC:?}");
    for restarted in [false, true] {
        if restarted {
            ensemble.kill(3).expect("it runs");
            ensemble.start(3).expect("it starts again");
            ensemble.wait_formed().expect("it follows");
        }
        for id in ensemble.ids() {
            let mut witness = ensemble.connect(id).expect("a session");
            witness.sync().expect("the leader answers");
            assert_eq!(witness.exists("/never-committed").expect("an answer"), None, "member {id}");
            assert!(witness.exists("/committed").expect("an answer").is_some(), "member {id}");
            let name = format!("/after-{id}-{restarted}");
            witness.create(&name, b"").expect("a write");
        }
        ensemble.wait_same_zxid().expect("all have everything");
        assert_equal_trees(&mut ensemble).expect("one state");
    }
}

fn is_logged(ensemble: &Ensemble, id: u64, text: &[u8]) -> Result<bool> {
    for entry in fs::read_dir(ensemble.data_dir(id).join("version-2"))? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log."))
            && fs::read(&path)?.windows(text.len()).any(|window| window == text)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn apache_truncates_us() {
    truncated(&[Apache, Apache, ours()]);
}

#[test]
fn we_truncate_apache() {
    truncated(&[ours(), ours(), Apache]);
}

#[test]
fn a_session_moves_between_the_kinds() {
    for products in [[ours(), ours(), Apache], [Apache, Apache, ours()]] {
        let mut ensemble = led_by_last(&products);
        let mut client = ensemble.connect(1).expect("a session");
        client.create_with("/mine", None, &Acl::open(), EPHEMERAL).expect("an ephemeral node");
        let session = client.session.clone();
        for id in [3, 1, 2, 3, 1] {
            ensemble.wait_same_zxid().expect("nobody is behind");
            client = Client::resume(ensemble.address(id), &session).expect("an answer");
            assert_eq!(client.session, session, "the same session, id and password, at member {id}");
            client.set_data("/mine", b"", -1).expect("it may write here");
        }
        client.close().expect("an orderly end");
        let mut witness = ensemble.connect(2).expect("a session");
        witness.sync().expect("the leader answers");
        assert_eq!(witness.exists("/mine").expect("an answer"), None, "the node goes with its session");
    }
}

#[test]
fn local_sessions_are_upgraded_across_the_kinds() {
    for products in [[ours(), ours(), Apache], [Apache, Apache, ours()]] {
        let plan = Plan::of(&products).config("localSessionsEnabled", "true");
        let plan = plan.config("localSessionsUpgradingEnabled", "true");
        let mut ensemble = plan.start_led_by_last().expect("a mixed ensemble forms");
        let mut client = ensemble.connect(1).expect("a session");
        client.create_with("/mine", None, &Acl::open(), EPHEMERAL).expect("it becomes a session of all");
        ensemble.wait_same_zxid().expect("all have it");
        let mut moved = Client::resume(ensemble.address(3), &client.session).expect("an answer");
        assert_eq!(moved.session.id, client.session.id);
        assert!(moved.exists("/mine").expect("an answer").is_some());
    }
}

fn reconfig(client: &mut Client, joining: &str, leaving: &str) -> Result<()> {
    let body = Body::new().string(joining).string(leaving).buffer(None).long(-1);
    client.call(wire::RECONFIG, &body)?.ok().map(drop)
}

/// A server of the other kind joins by reconfig, and the old leader leaves.
fn joined(products: &[Product], joiner: Product, name: &str) {
    const NO_QUORUM: i32 = -13;
    let mut random = Random::from_environment(name);
    let plan = Plan::of(products).reconfigurable();
    let mut ensemble = plan.start_led_by_last().expect("an ensemble forms");
    let joiner = ensemble.add(joiner, false).expect("a further directory");
    let load = Load::start(&ensemble.addresses(), &mut random).expect("clients are served");
    ensemble.start(joiner).expect("it starts");
    ensemble.wait_formed().expect("it follows without a vote");
    let mut client = ensemble.connect(3).expect("a session");
    client.authenticate("digest", "super:admin").expect("the super user");
    let line = format!("server.{joiner}={}", ensemble.server_line(joiner));
    ensemble
        .wait_for("it is synchronised and becomes a member", |_| {
            let result = reconfig(&mut client, &line, "");
            if refusal(&result) == Some(NO_QUORUM) { Ok(false) } else { result.map(|()| true) }
        })
        .expect("the membership changes");
    load.wait_progress().expect("four servers serve");
    // The leader may be gone before it can answer.
    let _ = reconfig(&mut client, "", "3");
    ensemble.wait_leader_other_than(3).expect("another one leads");
    ensemble.stop(3).expect("nobody needs it any more");
    load.wait_progress().expect("three servers serve");
    judge(&mut ensemble, load).expect("nothing is lost");
}

#[test]
fn we_join_apache_by_reconfig() {
    joined(&[Apache, Apache, Apache], ours(), "we_join_apache_by_reconfig");
}

#[test]
fn apache_joins_us_by_reconfig() {
    joined(&[ours(), ours(), ours()], Apache, "apache_joins_us_by_reconfig");
}

/// The whole story: three Apache servers become three Rookeepers and go back, followers first, while clients write.
#[test]
fn there_and_back_again() {
    let mut random = Random::from_environment("there_and_back_again");
    let mut ensemble = Plan::of(&[Apache, Apache, Apache]).start().expect("three Apaches form an ensemble");
    let load = Load::start(&ensemble.addresses(), &mut random).expect("clients are served");
    let mut keeper = ensemble.connect(1).expect("a session");
    keeper.create_with("/kept", Some(b"from the beginning"), &Acl::open(), EPHEMERAL).expect("an ephemeral node");
    let session = keeper.session.clone();
    for product in [ours(), Apache] {
        replace_all(&mut ensemble, &load, product).expect("the ensemble goes on");
        let mut resumed = Client::resume(ensemble.address(2), &session).expect("an answer");
        assert_eq!(resumed.session.id, session.id, "a session outlives its servers");
        assert!(resumed.exists("/kept").expect("an answer").is_some());
    }
    judge(&mut ensemble, load).expect("nothing is lost and nothing contradicts");
}

fn replace_all(ensemble: &mut Ensemble, load: &Load, product: Product) -> Result<()> {
    let leader = ensemble.leader()?;
    let mut order = ensemble.ids();
    order.sort_by_key(|id| *id == leader);
    for id in order {
        ensemble.stop(id)?;
        load.wait_progress().context("two of three go on")?;
        ensemble.start_as(id, product)?;
        ensemble.wait_formed()?;
        load.wait_progress().context("three go on")?;
    }
    ensure!(ensemble.ids().into_iter().all(|id| ensemble.product(id) == product), "one was forgotten");
    Ok(())
}

/// A session whose ephemeral nodes have longer names together than Apache reads in one packet or record ends.
fn end_with_many_nodes(ensemble: &Ensemble, id: u64, parent: &str) {
    const NODES: usize = 6000;
    let mut owner = ensemble.connect(id).expect("a session");
    owner.create(parent, b"").expect("a parent");
    for number in 0..NODES {
        let path = format!("{parent}/{}{number:06}", "x".repeat(390));
        let create = Body::new().string(&path).buffer(Some(b"")).acls(&Acl::open()).int(EPHEMERAL);
        owner.send(wire::CREATE, &create).expect("requests fit the socket");
        // Some at once, so that neither side waits for the other.
        if number % 50 == 49 {
            for _ in 0..50 {
                owner.receive().expect("an answer").ok().expect("a node");
            }
        }
    }
    owner.close().expect("an orderly end");
}

/// While Apache follows, and while it is away and has it from the leader's memory and its own log afterwards.
#[test]
fn apache_follows_through_the_end_of_a_session_with_many_nodes() {
    let mut ensemble = led_by_last(&[Apache, ours(), ours()]);
    let start = ensemble.log(1).len();
    end_with_many_nodes(&ensemble, 1, "/there");
    write_many(&ensemble, 2, "/between", 20);
    ensemble.wait_same_zxid().expect("all have it");
    let log = ensemble.log(1).split_off(start);
    assert!(!log.contains("Unreasonable length"), "{log}");
    assert_equal_trees(&mut ensemble).expect("all have the same");
    drop(ensemble);
    caught_up(Plan::of(&[Apache, ours(), ours()]), DIFF, |ensemble| end_with_many_nodes(ensemble, 2, "/away"));
}
