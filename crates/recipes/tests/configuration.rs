//! Values that follow nodes and subtrees: never back in time, never mixed of two moments, and the last state comes whatever happens in between.

// A test that cannot go on has failed.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{DEADLINE, SHORT_SESSION, client, connect_string, disturb, eventually, proxies};
use rookeeper_acceptance::ensemble::Plan;
use rookeeper_acceptance::proxy::Proxy;
use rookeeper_acceptance::random::Random;
use rookeeper_acceptance::server::Setup;
use rookeeper_recipes::{Followed, Node, Problem, Scope, Sessions, State};
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions};

const SESSION: Duration = Duration::from_secs(30);
/// Written when everything is quiet again.
const LAST: u64 = 1_000_000;

fn plain() -> CreateOptions<'static> {
    CreateMode::Persistent.with_acls(Acls::anyone_all())
}

fn sessions(address: &str, timeout: Duration) -> Sessions {
    Sessions::new(Client::connector().with_session_timeout(timeout), address)
}

fn number(data: &[u8]) -> anyhow::Result<u64> {
    Ok(std::str::from_utf8(data)?.parse()?)
}

/// The number that both nodes below a path have.
fn pair(sessions: &Sessions, path: &str) -> Followed<(u64, u64)> {
    Followed::subtree(sessions, path, |tree| {
        let of = |name: &str| tree.get(name).map_or(Ok(0), |node| number(&node.data));
        anyhow::Ok((of("a")?, of("b/c")?))
    })
}

async fn next<T>(states: &mut rookeeper_recipes::States<T>) -> State<T> {
    tokio::time::timeout(DEADLINE, states.next()).await.expect("a state is told").expect("it is followed")
}

/// Takes states until the last number comes. Whatever is told never goes back.
async fn follow(followed: Followed<(u64, u64)>, delay: Duration) -> usize {
    let mut states = followed.changes();
    let (mut newest, mut told) = (0, 0);
    loop {
        let state = states.next().await.expect("it is followed");
        tokio::time::sleep(delay).await;
        let Some(value) = state.value else { continue };
        assert_eq!(value.0, value.1, "two moments in one value");
        assert!(value.0 >= newest, "back from {newest} to {}", value.0);
        told += usize::from(value.0 > newest);
        newest = value.0;
        if newest == LAST {
            return told;
        }
    }
}

/// Writes a number into two nodes at once, and into a third, however often the connection is lost.
async fn write(sessions: &Sessions, number: u64) {
    let text = number.to_string();
    loop {
        let client = sessions.client().await.unwrap();
        let mut both = client.new_multi_writer();
        both.add_set_data("/pair/a", text.as_bytes(), None).unwrap();
        both.add_set_data("/pair/b/c", text.as_bytes(), None).unwrap();
        both.add_set_data("/one", text.as_bytes(), None).unwrap();
        if both.commit().await.is_ok() {
            return;
        }
    }
}

#[test]
fn a_value_is_never_mixed_never_goes_back_and_is_right_in_the_end() {
    let mut random = Random::from_environment("configuration");
    let mut ensemble = Plan::under_test(3).start().unwrap();
    let servers = ensemble.addresses();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let proxies = runtime.block_on(proxies(&servers, random.number()));
    let address = connect_string(&proxies);
    let writing = sessions(&address, SESSION);
    runtime.block_on(async {
        let client = writing.client().await.unwrap();
        for path in ["/one", "/pair", "/pair/b", "/pair/a", "/pair/b/c"] {
            client.create(path, b"0", &plain()).await.unwrap();
        }
    });
    let _entered = runtime.enter();
    // Each has a session of its own, some of them so short that they expire.
    let followers: Vec<_> = [(SESSION, 0), (SESSION, 20), (Duration::from_secs(4), 0), (Duration::from_secs(4), 5)]
        .into_iter()
        .map(|(timeout, delay_ms)| {
            let sessions = sessions(&address, timeout);
            let one = Followed::node(&sessions, "/one", |data| number(data).map(|number| (number, number)));
            let delay = Duration::from_millis(delay_ms);
            [tokio::spawn(follow(pair(&sessions, "/pair"), delay)), tokio::spawn(follow(one, delay))]
        })
        .collect();
    let quiet = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU64::new(0));
    let writer = tokio::spawn({
        let (quiet, written) = (Arc::clone(&quiet), Arc::clone(&written));
        async move {
            while !quiet.load(Ordering::Relaxed) {
                write(&writing, 1 + written.load(Ordering::Relaxed)).await;
                written.fetch_add(1, Ordering::Relaxed);
            }
            write(&writing, LAST).await;
        }
    });
    proxies.iter().for_each(|proxy| proxy.lose_one_answer_in(200));
    for _ in 0..8 {
        disturb(&mut ensemble, &proxies, &mut random);
        let goal = 100 + written.load(Ordering::Relaxed);
        ensemble.wait_for("writes go on", |_| Ok(written.load(Ordering::Relaxed) >= goal)).unwrap();
    }
    proxies.iter().for_each(|proxy| proxy.lose_one_answer_in(0));
    quiet.store(true, Ordering::Relaxed);
    runtime.block_on(async {
        writer.await.unwrap();
        let mut told = Vec::new();
        for follower in followers.into_iter().flatten() {
            told.push(tokio::time::timeout(DEADLINE, follower).await.expect("the last number comes").unwrap());
        }
        println!("{} writes, of which were told: {told:?}", written.load(Ordering::Relaxed));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_good_stays() {
    let server = Setup::new().start().unwrap();
    let sessions = sessions(&server.address().to_string(), SESSION);
    let limit = Followed::node(&sessions, "/limit", number);
    let mut states = limit.changes();
    let missing = loop {
        let state = next(&mut states).await;
        if state.problem.is_some() {
            break state;
        }
    };
    assert_eq!((missing.value, missing.problem, missing.is_live), (None, Some(Problem::Missing), true));
    let client = sessions.client().await.unwrap();
    client.create("/limit", b"7", &plain()).await.unwrap();
    let good = next(&mut states).await;
    assert_eq!((good.value.as_deref(), good.problem), (Some(&7), None));
    client.set_data("/limit", b"seven", None).await.unwrap();
    let bad = next(&mut states).await;
    assert_eq!(bad.value.as_deref(), Some(&7));
    assert!(matches!(bad.problem, Some(Problem::Undecodable(why)) if why.contains("invalid digit")));
    client.delete("/limit", None).await.unwrap();
    let deleted = next(&mut states).await;
    assert_eq!((deleted.value.as_deref(), deleted.problem), (Some(&7), Some(Problem::Missing)));
    client.create("/limit", b"8", &plain()).await.unwrap();
    assert_eq!(next(&mut states).await.problem, None);
    assert_eq!(*limit.value().await.unwrap(), 8);
}

/// Without a server the value stays, and nobody takes it for new.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_without_a_server_may_be_old() {
    let mut server = Setup::new().start().unwrap();
    let sessions = sessions(&server.address().to_string(), SESSION);
    let client = sessions.client().await.unwrap();
    client.create("/n", b"1", &plain()).await.unwrap();
    let followed = Followed::node(&sessions, "/n", number);
    eventually("it is live", async || followed.state().is_live).await;
    server.kill().unwrap();
    eventually("it may be old", async || !followed.state().is_live).await;
    assert!(!client.state().is_terminated(), "long before the session is over");
    assert_eq!(*followed.value().await.unwrap(), 1);
    server.restart().unwrap();
    eventually("it is live again", async || followed.state().is_live).await;
    client.set_data("/n", b"2", None).await.unwrap();
    eventually("it goes on", async || followed.state().value.as_deref() == Some(&2)).await;
}

/// Cut off for longer than its session, a follower keeps what it has, says that it may be old, and is right again behind the cut.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_expires_loses_nothing() {
    let server = Setup::new().config("tickTime", "200").config("maxSessionTimeout", "60000").start().unwrap();
    let other = client(&server.address().to_string(), SESSION).await;
    other.create("/tree", b"1", &plain()).await.unwrap();
    other.create("/tree/gone", b"1", &plain()).await.unwrap();
    let proxy = Proxy::to(server.address(), 1).await.unwrap();
    let sessions = sessions(&proxy.address().to_string(), SHORT_SESSION);
    let tree = Followed::tree(&sessions, "/tree", Scope::Subtree, |tree| Ok(tree.clone()));
    assert_eq!(tree.value().await.unwrap().len(), 2);
    let first = sessions.client().await.unwrap();
    proxy.silence();
    eventually("it says that it may be old", async || !tree.state().is_live).await;
    assert_eq!(tree.value().await.unwrap().len(), 2);
    other.delete("/tree/gone", None).await.unwrap();
    other.create("/tree/new", b"2", &plain()).await.unwrap();
    // The server ends the session of whoever is not heard.
    other.create("/mark", b"", &plain()).await.unwrap();
    tokio::time::timeout(DEADLINE, rookeeper_recipes::session_end(&first)).await.unwrap();
    proxy.resume();
    let names = || tree.state().value.map_or(Vec::new(), |tree| tree.keys().cloned().collect::<Vec<_>>());
    eventually("the new state comes", async || names() == ["", "new"] && tree.state().is_live).await;
    assert_ne!(sessions.client().await.unwrap().session_id(), first.session_id());
}

/// Whoever is slow misses what was in between, and never the last; a dropped `next` loses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_slow_get_the_last() {
    let server = Setup::new().start().unwrap();
    let sessions = sessions(&server.address().to_string(), SESSION);
    let client = sessions.client().await.unwrap();
    client.create("/n", b"0", &plain()).await.unwrap();
    let followed = Followed::node(&sessions, "/n", number);
    let mut states = followed.changes();
    while next(&mut states).await.value.is_none() {}
    for number in 1..=100 {
        client.set_data("/n", number.to_string().as_bytes(), None).await.unwrap();
        let _ = tokio::time::timeout(Duration::ZERO, async {
            states.next().await.and_then(|state| state.value).map(|value| assert!(*value <= number))
        })
        .await;
    }
    eventually("the last is known", async || followed.state().value.as_deref() == Some(&100)).await;
    let mut late = followed.changes();
    assert_eq!(next(&mut late).await.value.as_deref(), Some(&100));
    assert!(tokio::time::timeout(Duration::from_millis(50), late.next()).await.is_err(), "nothing is told twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_told_and_overcome() {
    let server = Setup::new().start().unwrap();
    let sessions = sessions(&server.address().to_string(), SESSION);
    let owner =
        Client::connector().with_auth("digest", b"owner:secret").connect(&server.address().to_string()).await.unwrap();
    owner.create("/secret", b"1", &CreateMode::Persistent.with_acls(Acls::creator_all())).await.unwrap();
    let followed = Followed::node(&sessions, "/secret", number);
    eventually("the refusal is told", async || matches!(followed.state().problem, Some(Problem::Refused(_)))).await;
    assert!(!followed.state().is_live);
    owner.set_acl("/secret", &[zookeeper_client::Acls::anyone_all()[0].clone()], None).await.unwrap();
    eventually("it is read", async || followed.state().value.as_deref() == Some(&1)).await;
    assert!(followed.state().problem.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_told() {
    let server = Setup::new().start().unwrap();
    let sessions = sessions(&server.address().to_string(), SESSION);
    let panics = Followed::<()>::tree(&sessions, "/n", Scope::Node, |tree| match tree.get("") {
        Some(Node { version: 0.., .. }) => panic!("on purpose"),
        _ => Err(Problem::Missing),
    });
    let mut states = panics.changes();
    sessions.client().await.unwrap().create("/n", b"", &plain()).await.unwrap();
    let mut last = None;
    while let Some(state) = tokio::time::timeout(DEADLINE, states.next()).await.unwrap() {
        last = Some(state);
    }
    assert!(matches!(last.unwrap().problem, Some(Problem::Stopped(why)) if why.contains("panicked")));
    assert!(matches!(panics.value().await, Err(Problem::Stopped(_))));
}
