//! Ids that are given out once, whatever is killed, and names that are bound once.

// A test that cannot go on has failed.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::{DEADLINE, client, connect_string, disturb_until, proxies};
use rookeeper_acceptance::ensemble::Plan;
use rookeeper_acceptance::foreign::{Dialogue, curator_program, python};
use rookeeper_acceptance::proxy::Proxy;
use rookeeper_acceptance::random::Random;
use rookeeper_acceptance::server::Setup;
use rookeeper_recipes::{Error, Ids, Layout, Names};
use zookeeper_client::{Client, Error as ClientError};

const SESSION: Duration = Duration::from_secs(30);

/// One id, and the time in which it was asked for.
#[derive(Debug, Clone, Copy)]
struct Given {
    id: i64,
    from: Instant,
    until: Instant,
}

/// Every id once; and what was given out before something else was asked for is smaller, where ids are taken one by one.
fn check(mut given: Vec<Given>, in_order: bool) {
    let unique: BTreeSet<i64> = given.iter().map(|given| given.id).collect();
    assert_eq!(unique.len(), given.len(), "an id was given out twice");
    if in_order {
        given.sort_by_key(|given| given.id);
        let mut latest_start = given[0].from;
        for given in &given {
            assert!(given.until >= latest_start, "{given:?} was there before a smaller id was asked for");
            latest_start = latest_start.max(given.from);
        }
    }
}

#[test]
fn ids_are_unique_whatever_is_killed() {
    const BATCHES: [u32; 6] = [1, 1, 1, 100, 7, 7];
    let mut random = Random::from_environment("ids");
    let mut ensemble = Plan::under_test(3).start().unwrap();
    let servers = ensemble.addresses();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let proxies = runtime.block_on(proxies(&servers, random.number()));
    let address = connect_string(&proxies);
    let clients: Vec<Client> = BATCHES.map(|_| runtime.block_on(client(&address, SESSION))).into();
    let tasks: Vec<_> = clients
        .iter()
        .zip(BATCHES)
        .map(|(client, batch)| {
            let (client, mut random) = (client.clone(), Random::new(random.number()));
            runtime.spawn(async move {
                let path = if batch == 1 { "/ids/one" } else { "/ids/many" };
                let ids = Ids::new(&client, path).in_batches_of(batch);
                let mut given = Vec::new();
                while given.len() < 150 {
                    let from = Instant::now();
                    // Given up at any moment, now and then.
                    let limit = if random.below(4) == 0 { Duration::from_millis(random.below(5)) } else { DEADLINE };
                    let Ok(id) = tokio::time::timeout(limit, ids.next()).await else { continue };
                    given.push(Given { id: id.expect("the session lives"), from, until: Instant::now() });
                    assert!(
                        given.iter().rev().nth(1).is_none_or(|last| last.id < given.last().unwrap().id),
                        "ids grow"
                    );
                }
                (batch, given)
            })
        })
        .collect();
    proxies.iter().for_each(|proxy| proxy.lose_one_answer_in(25));
    disturb_until(&mut ensemble, &proxies, &clients, &mut random, || tasks.iter().all(|task| task.is_finished()));
    let mut one_by_one = Vec::new();
    let mut in_batches = Vec::new();
    for task in tasks {
        let (batch, given) = runtime.block_on(task).unwrap();
        if batch == 1 { one_by_one.extend(given) } else { in_batches.extend(given) }
    }
    check(one_by_one, true);
    check(in_batches, false);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_write_serves_a_batch() {
    let server = Setup::new().start().unwrap();
    let client = client(&server.address().to_string(), SESSION).await;
    let ids = Ids::new(&client, "/ids").in_batches_of(1_000);
    for id in 1..=2_000 {
        assert_eq!(ids.next().await.unwrap(), id);
    }
    assert_eq!(
        client.check_stat("/ids").await.unwrap().unwrap().version,
        1,
        "made by the first batch, written by the second"
    );
    assert_eq!(ids.reserve(10).await.unwrap(), 2_001..=2_010);
    // Clones share a batch.
    let (one, other) = (ids.clone(), ids);
    assert_eq!((one.next().await.unwrap(), other.next().await.unwrap()), (2_011, 2_012));
}

/// One count for Rust and Java, one for Rust and Python; each of them may be killed in between.
#[tokio::test(flavor = "multi_thread")]
async fn ids_with_curator_and_kazoo() {
    let server = Setup::new().config("tickTime", "500").config("maxSessionTimeout", "60000").start().unwrap();
    let address = server.address().to_string();
    let client = client(&address, SESSION).await;
    for (name, layout) in [("Curator", Layout::Curator), ("kazoo", Layout::Kazoo)] {
        let start = || {
            let command =
                if layout == Layout::Curator { curator_program("Directory.java") } else { python("directory.py") };
            Dialogue::start(name, command.unwrap(), &address).unwrap()
        };
        let path = format!("/ids/{name}");
        let ids = Ids::new(&client, &path).with_layout(layout).in_batches_of(3);
        let mut seen = BTreeSet::new();
        let mut given = |id: i64| assert!(seen.insert(id), "{id} comes from {name} and from us");
        let mut other = start();
        for round in 0..3 {
            // Their ids and ours, at the same time.
            other.tell(&format!("ids {path} 50")).unwrap();
            for _ in 0..50 {
                given(ids.next().await.unwrap());
            }
            let answer = other.answer().unwrap();
            answer.split(' ').for_each(|id| given(id.parse().unwrap()));
            other.tell(&format!("ids {path} 1000")).unwrap();
            given(ids.next().await.unwrap());
            other.kill().unwrap();
            if round < 2 {
                other = start();
            }
        }
        let next = Ids::new(&client, &path).with_layout(layout).next().await.unwrap();
        assert!(seen.iter().all(|id| *id < next), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_bound_once() {
    let server = Setup::new().start().unwrap();
    let client = client(&server.address().to_string(), SESSION).await;
    let names = Names::new(&client, "/names");
    assert_eq!(names.lookup("a/b/c").await.unwrap(), None);
    assert_eq!(names.list("").await.unwrap(), Vec::<String>::new());
    let bound = names.bind("a/b/c", b"1").await.unwrap();
    assert_eq!(names.lookup("a/b/c").await.unwrap(), Some(bound.clone()));
    assert_eq!(names.bind("a/b/c", b"1").await.unwrap(), bound, "as if the answer had been lost");
    let refusal = names.bind("a/b/c", b"2").await;
    assert!(matches!(refusal, Err(Error::Refused { error: ClientError::NodeExists, .. })), "{refusal:?}");
    assert!(names.bind("a/b", b"").await.is_err() && names.bind("a//b", b"1").await.is_err());
    // A branch is bound to nothing, and can be.
    assert_eq!(names.lookup("a/b").await.unwrap(), None);
    assert_eq!(names.nearest("a/b").await.unwrap(), None);
    names.bind("a", b"top").await.unwrap();
    let nearest = async |name: &str| names.nearest(name).await.unwrap().map(|bound| bound.name);
    assert_eq!(nearest("a/b/c/d/e").await.as_deref(), Some("a/b/c"));
    assert_eq!(nearest("a/b/x").await.as_deref(), Some("a"));
    assert_eq!(nearest("x").await, None);
    let again = names.rebind("a/b/c", b"2").await.unwrap();
    assert!(again.zxid > bound.zxid);
    assert_eq!(names.list("a").await.unwrap(), ["b"]);
    // What has something below stays as a branch, what leads nowhere goes.
    names.unbind("a").await.unwrap();
    assert_eq!((names.lookup("a").await.unwrap(), names.list("a").await.unwrap()), (None, vec!["b".to_owned()]));
    names.unbind("a/b/c").await.unwrap();
    assert_eq!(names.list("").await.unwrap(), Vec::<String>::new());
    names.unbind("a/b/c").await.unwrap();
    assert!(client.check_stat("/names").await.unwrap().is_some(), "the base stays");
}

/// Of several that bind a name to different values one wins, whatever answers get lost.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_binds_a_name() {
    let mut random = Random::from_environment("names");
    let server = Setup::new().start().unwrap();
    let proxy = Proxy::to(server.address(), random.number()).await.unwrap();
    proxy.lose_one_answer_in(8);
    let address = proxy.address().to_string();
    let watching = client(&server.address().to_string(), SESSION).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(client(&address, SESSION).await);
    }
    for round in 0..30 {
        let name = format!("x/{}/{round}", round % 3);
        if round % 4 < 2 {
            // Then the name is a branch already.
            Names::new(&watching, "/names").bind(&format!("{name}/below"), b"1").await.unwrap();
        }
        let tasks: Vec<_> = clients
            .iter()
            .enumerate()
            .map(|(at, client)| {
                let (names, name) = (Names::new(client, "/names"), name.clone());
                tokio::spawn(async move { names.bind(&name, at.to_string().as_bytes()).await })
            })
            .collect();
        let mut won = Vec::new();
        for (at, task) in tasks.into_iter().enumerate() {
            match task.await.unwrap() {
                Ok(_) => won.push(at.to_string().into_bytes()),
                Err(Error::Refused { error: ClientError::NodeExists, .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(won.len(), 1, "round {round}");
        let bound = Names::new(&watching, "/names").lookup(&name).await.unwrap().unwrap();
        assert_eq!(bound.value, won[0]);
        if round % 2 == 0 {
            Names::new(&clients[0], "/names").unbind(&name).await.unwrap();
            assert_eq!(Names::new(&watching, "/names").lookup(&name).await.unwrap(), None);
        }
    }
}
