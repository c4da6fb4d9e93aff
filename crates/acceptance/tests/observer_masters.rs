//! Observers that are fed by followers (`observerMasterPort`), with the original at either end.
//!
//! With `ROOKEEPER_ACCEPTANCE_SERVER=apache` every Rookeeper below is an Apache: then the scenarios themselves are tested.

use anyhow::{Context, Result, ensure};
use rookeeper_acceptance::client::{Client, refusal};
use rookeeper_acceptance::ensemble::{Ensemble, Plan};
use rookeeper_acceptance::load::Load;
use rookeeper_acceptance::random::Random;
use rookeeper_acceptance::server::Product::{self, Apache};
use rookeeper_acceptance::verdict::{assert_equal_trees, judge};
use rookeeper_acceptance::wire::{self, Acl, Body};

const EPHEMERAL: i32 = 1;

fn ours() -> Product {
    Product::under_test()
}

fn fed(products: &[Product], name: &str) -> Result<()> {
    let mut random = Random::from_environment(name);
    let mut ensemble = Plan::of(products).with_observer_masters().observer(4).start()?;
    let load = Load::start(&[ensemble.address(4)], &mut random).context("the observer serves clients")?;
    let leader = ensemble.leader()?;
    let master = ensemble.wait_observer_master(4, &[leader])?;
    ensure!(ensemble.figure(leader, "zk_synced_observers").as_deref() == Some("0"), "the leader has no observer");

    // The follower is gone: there is another one.
    ensemble.kill(master)?;
    let other = ensemble.wait_observer_master(4, &[leader, master])?;
    load.wait_progress().context("the observer goes on with the other follower")?;
    ensemble.start(master)?;
    ensemble.wait_formed()?;

    // The leader is gone: the follower has nothing to feed with until another one leads.
    ensemble.kill(leader)?;
    let new = ensemble.wait_leader_other_than(leader)?;
    ensemble.wait_observer_master(4, &[new, leader])?;
    load.wait_progress().context("the observer goes on under another leader")?;
    ensemble.start(leader)?;
    ensemble.wait_formed()?;
    println!("{master} and {other} fed the observer under {leader}, then {new} led");

    // The observer is gone, and comes back to what was written meanwhile; with its disk and without.
    for is_wiped in [false, true] {
        ensemble.kill(4)?;
        if is_wiped {
            ensemble.wipe(4)?;
        }
        let mut writer = ensemble.connect(new)?;
        let parent = format!("/meanwhile-{is_wiped}");
        writer.create(&parent, b"")?;
        for number in 0..100 {
            writer.create(&format!("{parent}/{number}"), &[b'x'; 100])?;
        }
        writer.close()?;
        ensemble.start(4)?;
        ensemble.wait_formed()?;
        let leader = ensemble.leader()?;
        ensemble.wait_observer_master(4, &[leader])?;
        load.wait_progress().context("the observer serves again")?;
    }
    judge(&mut ensemble, load)
}

#[test]
fn we_feed_an_apache() {
    fed(&[ours(), ours(), ours(), Apache], "we_feed_an_apache").expect("the observer misses nothing");
}

#[test]
fn apache_feeds_us() {
    fed(&[Apache, Apache, Apache, ours()], "apache_feeds_us").expect("the observer misses nothing");
}

#[test]
fn we_feed_ourselves() {
    fed(&[ours(), ours(), ours(), ours()], "we_feed_ourselves").expect("the observer misses nothing");
}

/// The leader is of the other kind than the follower that feeds the observer.
#[test]
fn we_feed_an_apache_under_an_apache() {
    let plan = Plan::of(&[ours(), ours(), Apache, Apache]).with_observer_masters().observer(4);
    let mut ensemble = plan.start_led_by_last().expect("a mixed ensemble forms, and the last voter leads");
    ensemble.wait_observer_master(4, &[3]).expect("one of ours feeds it");
    moves(&mut ensemble).expect("the session goes on everywhere");
}

/// A session with an ephemeral node goes from the observer to the follower that feeds it, to others, and back; it writes everywhere, and what it
/// sees is what was written.
fn moves(ensemble: &mut Ensemble) -> Result<()> {
    let mut client = ensemble.connect(4)?;
    client.create_with("/mine", None, &Acl::open(), EPHEMERAL)?;
    let session = client.session.clone();
    let mut writer = ensemble.connect(1)?;
    writer.create("/theirs", b"")?;
    for (round, id) in [4, 1, 4, 2, 4, 3, 4].into_iter().enumerate() {
        // Another client writes elsewhere, and a sync is all that it takes to see that.
        writer.set_data("/theirs", round.to_string().as_bytes(), -1)?;
        client = resumed(ensemble, id, &session)?;
        ensure!(client.session == session, "the same session, id and password, at member {id}");
        client.sync()?;
        let (data, _) = client.get_data("/theirs")?;
        ensure!(data.as_deref() == Some(round.to_string().as_bytes()), "member {id} after a sync: {data:?}");
        let stat = client.set_data("/mine", b"", -1)?;
        ensure!(stat.version as usize == round + 1, "each write took place once: {stat:?} at member {id}");
    }
    client.close()?;
    writer.sync()?;
    ensure!(writer.exists("/mine")?.is_none(), "the node goes with its session");
    // A session that is over is over, whoever asks the leader.
    let over = Client::resume(ensemble.address(4), &session)?;
    ensure!(over.session.id == 0, "the observer was told that the session is over: {over:?}");
    Ok(())
}

/// A member that is behind what the session has seen closes the connection.
fn resumed(ensemble: &mut Ensemble, id: u64, session: &rookeeper_acceptance::client::Session) -> Result<Client> {
    ensemble.wait_same_zxid()?;
    Client::resume(ensemble.address(id), session).with_context(|| format!("the session at member {id}"))
}

fn sessions_move(products: &[Product]) {
    let mut ensemble = Plan::of(products).with_observer_masters().observer(4).start().expect("an ensemble forms");
    let leader = ensemble.leader().expect("one leads");
    ensemble.wait_observer_master(4, &[leader]).expect("a follower feeds the observer");
    moves(&mut ensemble).expect("the session goes on everywhere");
}

#[test]
fn sessions_move_where_we_feed_an_apache() {
    sessions_move(&[ours(), ours(), ours(), Apache]);
}

#[test]
fn sessions_move_where_apache_feeds_us() {
    sessions_move(&[Apache, Apache, Apache, ours()]);
}

fn reconfig(client: &mut Client, joining: &str, leaving: &str) -> Result<()> {
    let body = Body::new().string(joining).string(leaving).buffer(None).long(-1);
    client.call(wire::RECONFIG, &body)?.ok().map(drop)
}

/// The members change under an observer that is fed: first a follower goes, then the observer gets a vote.
fn members_change(products: &[Product]) -> Result<()> {
    const NO_QUORUM: i32 = -13;
    let plan = Plan::of(products).reconfigurable().with_observer_masters().observer(5);
    let mut ensemble = plan.start()?;
    let leader = ensemble.leader()?;
    ensemble.wait_observer_master(5, &[leader])?;
    let mut client = ensemble.connect(leader)?;
    client.authenticate("digest", "super:admin")?;
    let leaving = [1, 2, 3, 4].into_iter().find(|id| *id != leader).context("a follower")?;
    reconfig(&mut client, "", &leaving.to_string())?;
    ensemble.stop(leaving)?;
    ensemble.wait_formed()?;
    ensemble.wait_observer_master(5, &[leader, leaving])?;
    let mut witness = ensemble.connect(5)?;
    witness.sync()?;
    let (text, _) = witness.get_data("/zookeeper/config")?;
    let text = String::from_utf8(text.context("a membership")?)?;
    ensure!(!text.contains(&format!("server.{leaving}=")), "the observer knows that member {leaving} is gone: {text}");
    ensure!(text.contains("server.5="), "{text}");

    let line = format!("server.5={}", ensemble.server_line(5).replace("observer", "participant"));
    ensemble.wait_for("the observer gets a vote", |_| {
        let result = reconfig(&mut client, &line, "");
        if refusal(&result) == Some(NO_QUORUM) { Ok(false) } else { result.map(|()| true) }
    })?;
    ensemble.wait_for("it follows", |ensemble| Ok(ensemble.mode(5).as_deref() == Some("follower")))?;
    ensemble.wait_same_zxid()?;
    assert_equal_trees(&mut ensemble)
}

#[test]
fn members_change_where_we_feed_an_apache() {
    members_change(&[ours(), ours(), ours(), ours(), Apache]).expect("the observer hears of it");
}

#[test]
fn members_change_where_apache_feeds_us() {
    members_change(&[Apache, Apache, Apache, Apache, ours()]).expect("the observer hears of it");
}
