//! Groups: everybody who joins is seen, in order, also for a moment only; shared with kazoo's `Party` and Curator's `GroupMember`.

// A test that cannot go on has failed.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{DEADLINE, SHORT_SESSION, client, connect_string, disturb_until, eventually, proxies};
use rookeeper_acceptance::ensemble::Plan;
use rookeeper_acceptance::foreign::{Dialogue, curator_program, python};
use rookeeper_acceptance::proxy::Proxy;
use rookeeper_acceptance::random::Random;
use rookeeper_acceptance::server::{Product, Setup};
use rookeeper_recipes::{Change, Changes, Group};
use zookeeper_client::Client;

const SESSION: Duration = Duration::from_secs(30);

/// All changes that are told, checked one by one: whoever joins was out, whoever leaves was in.
#[derive(Default)]
struct Told {
    inside: BTreeMap<String, i64>,
    joins: usize,
    last_joined: i64,
    in_order: bool,
}

impl Told {
    fn take(&mut self, change: Change) {
        match change {
            Change::Joined(member) => {
                self.in_order &= member.joined > self.last_joined;
                self.last_joined = member.joined;
                self.joins += 1;
                assert_eq!(self.inside.insert(member.id, member.joined), None, "it joined twice");
            }
            Change::Changed(member) => assert_eq!(self.inside.get(&member.id), Some(&member.joined)),
            Change::Left(member) => assert_eq!(self.inside.remove(&member.id), Some(member.joined), "it left twice"),
        }
    }
}

/// Follows until a member called `end` joins.
async fn follow(mut changes: Changes) -> Told {
    let mut told = Told { in_order: true, ..Told::default() };
    loop {
        let change = changes.next().await.expect("the session lives");
        let is_end = matches!(&change, Change::Joined(member) if member.id == "end");
        told.take(change);
        if is_end {
            return told;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_is_seen_also_for_a_moment_only() {
    const ROUNDS: usize = 200;
    let server = Setup::new().start().unwrap();
    let address = server.address().to_string();
    let watching = client(&address, SESSION).await;
    let follower = tokio::spawn(follow(Group::new(&watching, "/group").changes().await.unwrap()));
    let joining = (0..3).map(|at| {
        let address = address.clone();
        tokio::spawn(async move {
            let client = client(&address, SESSION).await;
            for round in 0..ROUNDS {
                let member = Group::new(&client, "/group").join(&format!("{at}-{}", round % 3), "x").await.unwrap();
                member.leave().await.unwrap();
            }
        })
    });
    for task in joining.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let _end = Group::new(&watching, "/group").join("end", "").await.unwrap();
    let told = tokio::time::timeout(DEADLINE, follower).await.unwrap().unwrap();
    assert_eq!(told.joins, 3 * ROUNDS + 1);
    // Servers before 3.9 do not tell which of several nodes of one name an event is about.
    assert!(told.in_order || Product::under_test() == Product::Apache);
    assert_eq!(told.inside.keys().collect::<Vec<_>>(), ["end"]);
}

#[test]
fn a_watcher_is_right_again_after_all_that_can_happen() {
    let mut random = Random::from_environment("a group");
    let mut ensemble = Plan::under_test(3).start().unwrap();
    let servers = ensemble.addresses();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let proxies = runtime.block_on(proxies(&servers, random.number()));
    let address = connect_string(&proxies);
    let watching = runtime.block_on(client(&address, SESSION));
    let group = Group::new(&watching, "/group");
    let changes = runtime.block_on(group.changes()).unwrap();
    let follower = runtime.spawn(follow(changes));
    let clients: Vec<Client> = (0..4).map(|_| runtime.block_on(client(&address, SESSION))).collect();
    let tasks: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(at, client)| {
            let (client, mut random) = (client.clone(), Random::new(random.number()));
            runtime.spawn(async move {
                let group = Group::new(&client, "/group");
                for _ in 0..30 {
                    let limit = Duration::from_millis(random.below(30));
                    let joined = tokio::time::timeout(limit, group.join(&at.to_string(), "x")).await;
                    if let Ok(member) = joined {
                        let member = member.expect("the session lives");
                        member.set_data(b"y").await.expect("the session lives");
                        member.leave().await.expect("the session lives");
                    }
                }
                // Whoever gave up may still be there for a moment.
                let stays = group.join(&at.to_string(), "stays").await.expect("the session lives");
                (client, stays)
            })
        })
        .collect();
    proxies.iter().for_each(|proxy| proxy.lose_one_answer_in(30));
    disturb_until(&mut ensemble, &proxies, &clients, &mut random, || tasks.iter().all(|task| task.is_finished()));
    proxies.iter().for_each(|proxy| proxy.lose_one_answer_in(0));
    let members: Vec<_> = tasks.into_iter().map(|task| runtime.block_on(task).unwrap()).collect();
    runtime.block_on(async {
        let _end = group.join("end", "").await.unwrap();
        let told = tokio::time::timeout(DEADLINE, follower).await.unwrap().unwrap();
        let there = group.members().await.unwrap();
        let there: BTreeMap<String, i64> = there.into_iter().map(|member| (member.id, member.joined)).collect();
        assert_eq!(told.inside, there);
        for (_, member) in &members {
            let id = member.path().rsplit('/').next().unwrap();
            assert!(there.contains_key(id), "{id} did join");
        }
    });
}

/// A second process of the same name comes after the first one's session.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_taken_over_when_its_session_is_over() {
    let server = Setup::new().config("tickTime", "200").config("maxSessionTimeout", "60000").start().unwrap();
    let address = server.address().to_string();
    let proxy = Proxy::to(server.address(), 1).await.unwrap();
    let first = client(&proxy.address().to_string(), SHORT_SESSION).await;
    let member = Group::new(&first, "/group").join("host", "first").await.unwrap();
    proxy.silence();
    let second = client(&address, SESSION).await;
    let group = Group::new(&second, "/group");
    let next = tokio::time::timeout(DEADLINE, group.join("host", "second")).await.unwrap().unwrap();
    assert!(next.joined() > member.joined());
    member.lost().await.unwrap();
    drop(member);
    assert_eq!(group.members().await.unwrap()[0].data, b"second");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_curator_and_kazoo() {
    let server = Setup::new().config("tickTime", "500").config("maxSessionTimeout", "60000").start().unwrap();
    let address = server.address().to_string();
    let client = client(&address, SESSION).await;
    let group = Group::new(&client, "/group");
    let mut changes = group.changes().await.unwrap();
    let _ours = group.join("ours", "ours").await.unwrap();
    let _party = group.join_party("ours").await.unwrap();
    let mut curator = Dialogue::start("Curator", curator_program("Contender.java").unwrap(), &address).unwrap();
    let mut kazoo = Dialogue::start("kazoo", python("contender.py").unwrap(), &address).unwrap();
    assert_eq!(curator.ask("join /group curator").unwrap(), "joined");
    assert_eq!(kazoo.ask("join /group kazoo").unwrap(), "joined");
    for expected in ["ours", "ours", "curator", "kazoo"] {
        // Curator and kazoo may write their data a moment later.
        match changes.next().await.unwrap() {
            Change::Joined(member) => {
                assert!(member.data == expected.as_bytes() || member.id == expected, "{member:?}")
            }
            change => panic!("{change:?}"),
        }
    }
    eventually("Curator sees all of us", async || {
        curator.ask("members /group").unwrap().split(' ').filter(|id| ["ours", "curator"].contains(id)).count() == 2
    })
    .await;
    eventually("kazoo sees our party", async || kazoo.ask("members /group").unwrap() == "kazoo ours").await;
    curator.kill().unwrap();
    kazoo.kill().unwrap();
    for _ in 0..2 {
        let change = tokio::time::timeout(DEADLINE, changes.next()).await.expect("their sessions end").unwrap();
        assert!(matches!(change, Change::Left(_)), "{change:?}");
    }
    assert_eq!(group.members().await.unwrap().len(), 2);
}
