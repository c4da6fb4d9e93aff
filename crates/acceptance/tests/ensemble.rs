//! Three and five servers with clients on all of them, while some are killed, frozen and started again.
//!
//! Nothing acknowledged is lost, what clients saw can be one machine, and sessions, ephemeral nodes and watches move with their
//! client. Each scenario also holds for the original alone: what fails there is wrong with the test.

use anyhow::Result;
use rookeeper_acceptance::client::Client;
use rookeeper_acceptance::ensemble::{Ensemble, Plan};
use rookeeper_acceptance::load::Load;
use rookeeper_acceptance::random::Random;
use rookeeper_acceptance::verdict::{assert_equal_trees, judge};

#[test]
fn three_servers_form_and_serve() {
    let mut ensemble = Plan::under_test(3).start().expect("three servers form an ensemble");
    let leader = ensemble.leader().expect("one leads");
    for id in ensemble.ids() {
        let mut client = ensemble.connect(id).expect("each serves clients");
        client.create(&format!("/made-at-{id}"), b"x").expect("and takes writes");
        client.close().expect("an orderly end");
    }
    for id in ensemble.ids() {
        let mut client = ensemble.connect(id).expect("each serves clients");
        client.sync().expect("the leader answers");
        for other in ensemble.ids() {
            client.get_data(&format!("/made-at-{other}")).expect("each write is everywhere");
        }
        client.close().expect("an orderly end");
    }
    ensemble.wait_same_zxid().expect("all have everything");
    assert_equal_trees(&mut ensemble).expect("one state");
    assert_eq!(ensemble.leader().expect("one leads"), leader, "nothing disturbs the leader");
}

/// One thing happens to a server under load, then everything must be right.
fn under_load(count: usize, name: &str, happen: impl FnOnce(&mut Ensemble, &Load) -> Result<()>) {
    let mut random = Random::from_environment(name);
    let mut ensemble = Plan::under_test(count).start().expect("the servers form an ensemble");
    let load = Load::start(&ensemble.addresses(), &mut random).expect("clients are served");
    happen(&mut ensemble, &load).expect("the ensemble goes on");
    load.wait_progress().expect("writes succeed at the end");
    judge(&mut ensemble, load).expect("nothing is lost and nothing contradicts");
}

#[test]
fn follower_killed() {
    under_load(3, "follower_killed", |ensemble, load| {
        let follower = ensemble.followers()?[0];
        ensemble.kill(follower)?;
        load.wait_progress()?;
        ensemble.start(follower)?;
        ensemble.wait_formed().map(drop)
    });
}

#[test]
fn leader_killed() {
    under_load(3, "leader_killed", |ensemble, load| {
        for _ in 0..2 {
            let leader = ensemble.leader()?;
            ensemble.kill(leader)?;
            ensemble.wait_leader_other_than(leader)?;
            load.wait_progress()?;
            ensemble.start(leader)?;
            ensemble.wait_formed()?;
        }
        Ok(())
    });
}

#[test]
fn leader_frozen() {
    under_load(3, "leader_frozen", |ensemble, load| {
        let leader = ensemble.leader()?;
        ensemble.freeze(leader)?;
        ensemble.wait_leader_other_than(leader)?;
        load.wait_progress()?;
        ensemble.thaw(leader)?;
        let successor = ensemble.wait_formed()?;
        assert_ne!(successor, leader, "the old leader follows when it comes back");
        load.wait_progress()
    });
}

#[test]
fn follower_frozen() {
    under_load(3, "follower_frozen", |ensemble, load| {
        let follower = ensemble.followers()?[0];
        ensemble.freeze(follower)?;
        load.wait_progress()?;
        load.wait_progress()?;
        ensemble.thaw(follower)?;
        ensemble.wait_formed().map(drop)
    });
}

#[test]
fn all_killed_at_once() {
    under_load(3, "all_killed_at_once", |ensemble, load| {
        for id in ensemble.ids() {
            ensemble.kill(id)?;
        }
        ensemble.start_all()?;
        ensemble.wait_formed()?;
        load.wait_progress()
    });
}

#[test]
fn five_servers_live_with_three() {
    under_load(5, "five_servers_live_with_three", |ensemble, load| {
        let leader = ensemble.leader()?;
        let follower = ensemble.followers()?[0];
        ensemble.kill(follower)?;
        ensemble.kill(leader)?;
        ensemble.wait_leader_other_than(leader)?;
        load.wait_progress()?;
        ensemble.start(leader)?;
        load.wait_progress()?;
        ensemble.start(follower)?;
        ensemble.wait_formed().map(drop)
    });
}

#[test]
fn rolling_restart() {
    under_load(3, "rolling_restart", |ensemble, load| {
        for id in ensemble.ids() {
            ensemble.stop(id)?;
            load.wait_progress()?;
            ensemble.start(id)?;
            ensemble.wait_formed()?;
        }
        Ok(())
    });
}

/// Without a quorum nothing is written; with it everything goes on.
#[test]
fn minority_refuses() {
    let mut ensemble = Plan::under_test(3).start().expect("three servers form an ensemble");
    let mut client = ensemble.connect(1).expect("a session");
    client.create("/before", b"x").expect("a quorum takes writes");
    let session = client.session.clone();
    ensemble.kill(2).expect("it runs");
    ensemble.kill(3).expect("it runs");
    ensemble.wait_for("the last one stops to serve", |ensemble| Ok(ensemble.mode(1).is_none())).expect("it notices");
    assert!(client.create("/alone", b"x").is_err(), "no quorum, no write");
    assert!(Client::resume(ensemble.address(1), &session).is_err(), "no quorum, no session");
    ensemble.start_all().expect("they start again");
    ensemble.wait_formed().expect("they form an ensemble again");
    let mut client = Client::resume(ensemble.address(3), &session).expect("an answer");
    assert_eq!(client.session.id, session.id, "the session is as before, at another server");
    client.create("/after", b"x").expect("a quorum takes writes");
    client.get_data("/before").expect("nothing is lost");
    assert_equal_trees(&mut ensemble).expect("one state");
}
