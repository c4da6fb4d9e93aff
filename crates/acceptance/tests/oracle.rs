//! Two members and an oracle (`oraclePath`), each with a file of its own, in every mix of products: one of them goes on without the other
//! where the file says so, the other one comes back to it, and without a yes nobody decides alone.

use std::fs;

use anyhow::{Context, Result, ensure};
use rookeeper_acceptance::ensemble::{Ensemble, Plan};
use rookeeper_acceptance::server::Product;

const APACHE: Product = Product::Apache;
const ROOKEEPER: Product = Product::Rookeeper;

/// What the oracle says to a member.
fn say(ensemble: &Ensemble, id: u64, word: &str) -> Result<()> {
    let directory = ensemble.data_dir(id).parent().context("a member has a directory")?.to_owned();
    // Nobody finds half of it.
    fs::write(directory.join("oracle.new"), word)?;
    Ok(fs::rename(directory.join("oracle.new"), directory.join("oracle"))?)
}

/// The same, and the member has heard it. The original looks when it wants to know.
fn tell(ensemble: &mut Ensemble, id: u64, word: &str, heard: &str) -> Result<()> {
    let start = ensemble.log(id).len();
    say(ensemble, id, word)?;
    if ensemble.product(id) == ROOKEEPER { ensemble.wait_log(id, start, &[heard]) } else { Ok(()) }
}

/// Two members that have found each other while the oracle said no, and the one that leads.
fn formed(products: &[Product]) -> Result<(Ensemble, u64)> {
    // Relative to the directory of each member.
    let mut ensemble = Plan::of(products).config("oraclePath", "oracle").prepare()?;
    for id in ensemble.ids() {
        say(&ensemble, id, "0\n")?;
    }
    ensemble.start_all()?;
    let leader = ensemble.wait_formed()?;
    Ok((ensemble, leader))
}

fn create(ensemble: &Ensemble, id: u64, path: &str) -> Result<()> {
    let mut client = ensemble.connect(id)?;
    client.create(path, b"")?;
    client.close()
}

fn assert_has(ensemble: &Ensemble, id: u64, paths: &[&str]) -> Result<()> {
    let mut client = ensemble.connect(id)?;
    for path in paths {
        ensure!(client.exists(path)?.is_some(), "member {id} lacks {path}");
    }
    client.close()
}

fn both_ways(ensemble: &mut Ensemble, first: u64) -> Result<()> {
    let second = 3 - first;
    create(ensemble, first, "/together")?;

    // The follower dies: the leader goes on.
    tell(ensemble, first, "1\n", "says yes")?;
    ensemble.kill(second)?;
    create(ensemble, first, "/first-alone")?;
    ensure!(ensemble.mode(first).as_deref() == Some("leader"), "member {first} led until now");

    // It comes back, and follows.
    ensemble.start(second)?;
    ensemble.wait_formed()?;
    ensure!(ensemble.leader()? == first, "member {first} still leads");
    ensemble.wait_same_zxid()?;

    // The leader dies: the follower goes on with all there was.
    say(ensemble, first, "0\n")?;
    ensemble.kill(first)?;
    say(ensemble, second, "1\n")?;
    ensemble.wait_for("the survivor leads", |ensemble| Ok(ensemble.mode(second).as_deref() == Some("leader")))?;
    create(ensemble, second, "/second-alone")?;
    assert_has(ensemble, second, &["/together", "/first-alone", "/second-alone"])?;

    ensemble.start(first)?;
    ensemble.wait_formed()?;
    ensure!(ensemble.leader()? == second, "member {second} still leads");
    ensemble.wait_same_zxid()?;
    assert_has(ensemble, first, &["/together", "/first-alone", "/second-alone"])
}

fn nobody_alone(ensemble: &mut Ensemble, leader: u64) -> Result<()> {
    ensemble.kill(3 - leader)?;
    ensemble.wait_for("the leader gives up", |ensemble| Ok(ensemble.mode(leader).is_none()))?;
    // A yes that comes late lets it go on, and a no ends that.
    say(ensemble, leader, "1\n")?;
    ensemble.wait_for("it leads again", |ensemble| Ok(ensemble.mode(leader).as_deref() == Some("leader")))?;
    create(ensemble, leader, "/late")?;
    say(ensemble, leader, "0\n")?;
    ensemble.wait_for("it gives up again", |ensemble| Ok(ensemble.mode(leader).is_none()))
}

fn check(test: fn(&mut Ensemble, u64) -> Result<()>, products: &[Product]) {
    let (mut ensemble, leader) = formed(products).expect("the ensemble forms");
    test(&mut ensemble, leader).unwrap_or_else(|error| panic!("{products:?}, led by {leader}: {error:#}"));
}

#[test]
fn either_goes_on_without_the_other() {
    check(both_ways, &[ROOKEEPER, ROOKEEPER]);
}

#[test]
fn in_the_original_either_goes_on_without_the_other() {
    check(both_ways, &[APACHE, APACHE]);
}

#[test]
fn mixed_either_goes_on_without_the_other() {
    check(both_ways, &[ROOKEEPER, APACHE]);
    check(both_ways, &[APACHE, ROOKEEPER]);
}

#[test]
fn without_a_yes_nobody_goes_on() {
    check(nobody_alone, &[ROOKEEPER, ROOKEEPER]);
}

#[test]
fn in_the_original_without_a_yes_nobody_goes_on() {
    check(nobody_alone, &[APACHE, APACHE]);
}
