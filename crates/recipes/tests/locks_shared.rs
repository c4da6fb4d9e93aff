//! Locks shared with kazoo (Python) and Apache Curator (Java): each keeps the others out, whoever holds may be killed, and nobody is ever
//! inside beside another.

// A test that cannot go on has failed.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{DEADLINE, client};
use rookeeper_acceptance::foreign::{Dialogue, curator_program, python};
use rookeeper_acceptance::server::{Server, Setup};
use rookeeper_recipes::{Guard, Layout, Mutex, ReadWriteLock, Semaphore, revoke};
use zookeeper_client::{Acls, Client, CreateMode};

const SESSION: Duration = Duration::from_secs(30);
const ROUNDS: usize = 30;

fn server() -> Server {
    // Sessions of those who are killed end soon.
    Setup::new().config("tickTime", "500").config("maxSessionTimeout", "60000").start().unwrap()
}

fn kazoo(server: &Server) -> Dialogue {
    Dialogue::start("kazoo", python("contender.py").unwrap(), &server.address().to_string()).unwrap()
}

fn curator(server: &Server) -> Dialogue {
    Dialogue::start("Curator", curator_program("Contender.java").unwrap(), &server.address().to_string()).unwrap()
}

/// What kazoo says of its node.
fn token(answer: &str) -> i64 {
    answer.strip_prefix("held ").unwrap_or_else(|| panic!("{answer}")).parse().unwrap()
}

/// Inside alone, or this fails.
async fn rounds(client: &Client, lock: &Mutex) {
    for _ in 0..ROUNDS {
        let guard = lock.acquire().await.unwrap();
        client
            .create("/inside", b"", &CreateMode::Ephemeral.with_acls(Acls::anyone_all()))
            .await
            .expect("nobody else is inside");
        client.delete("/inside", None).await.unwrap();
        guard.release().await.unwrap();
    }
}

async fn held(lock: &Mutex) -> Guard {
    lock.acquire_within(DEADLINE).await.unwrap().expect("whoever held is gone, or has released")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutex_with_kazoo_as_it_comes() {
    let server = server();
    let client = client(&server.address().to_string(), SESSION).await;
    let mut kazoo = kazoo(&server);
    for layout in [Layout::Curator, Layout::Kazoo] {
        let lock = Mutex::new(&client, "/kazoo").with_layout(layout);
        let guard = lock.acquire().await.unwrap();
        assert_eq!(kazoo.ask("try lock /kazoo").unwrap(), "busy");
        kazoo.tell("lock /kazoo").unwrap();
        let ours = guard.token();
        guard.release().await.unwrap();
        assert!(token(&kazoo.answer().unwrap()) > ours);
        assert!(lock.try_acquire().await.unwrap().is_none());
        assert_eq!(kazoo.ask("unlock /kazoo").unwrap(), "released");
        drop(held(&lock).await);
        kazoo.tell(&format!("rounds lock /kazoo {ROUNDS}")).unwrap();
        rounds(&client, &lock).await;
        assert_eq!(kazoo.answer().unwrap(), "done");
    }
    // Killed while it holds: its session goes, and with it its node.
    let theirs = token(&kazoo.ask("lock /kazoo").unwrap());
    kazoo.kill().unwrap();
    assert!(held(&Mutex::new(&client, "/kazoo")).await.token() > theirs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutex_with_curator_and_kazoo_at_once() {
    let server = server();
    let client = client(&server.address().to_string(), SESSION).await;
    let (mut curator, mut kazoo) = (curator(&server), kazoo(&server));
    let lock = Mutex::new(&client, "/shared");
    let guard = lock.acquire().await.unwrap();
    assert_eq!(curator.ask("try lock /shared").unwrap(), "busy");
    curator.tell("lock /shared").unwrap();
    guard.release().await.unwrap();
    assert_eq!(curator.answer().unwrap(), "held");
    assert!(lock.try_acquire().await.unwrap().is_none());
    assert_eq!(kazoo.ask("try curator-lock /shared").unwrap(), "busy");
    assert_eq!(curator.ask("unlock /shared").unwrap(), "released");
    curator.tell(&format!("rounds lock /shared {ROUNDS}")).unwrap();
    kazoo.tell(&format!("rounds curator-lock /shared {ROUNDS}")).unwrap();
    rounds(&client, &lock).await;
    assert_eq!((curator.answer().unwrap().as_str(), kazoo.answer().unwrap().as_str()), ("done", "done"));
    // Each of the others is killed while it holds.
    assert_eq!(curator.ask("lock /shared").unwrap(), "held");
    curator.kill().unwrap();
    let after_curator = held(&lock).await;
    kazoo.tell("curator-lock /shared").unwrap();
    let ours = after_curator.token();
    drop(after_curator);
    let theirs = token(&kazoo.answer().unwrap());
    assert!(theirs > ours);
    kazoo.kill().unwrap();
    assert!(held(&lock).await.token() > theirs);
}

/// Our session ends while both wait: they go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_of_ours_that_dies_lets_the_others_in() {
    let server = server();
    let ours = client(&server.address().to_string(), SESSION).await;
    let guard = Mutex::new(&ours, "/ours").acquire().await.unwrap();
    let (mut curator, mut kazoo) = (curator(&server), kazoo(&server));
    curator.tell("lock /ours").unwrap();
    kazoo.tell("curator-lock /ours").unwrap();
    let watching = client(&server.address().to_string(), SESSION).await;
    let lock = Mutex::new(&watching, "/ours");
    common::eventually("both wait", async || lock.contenders().await.unwrap().len() == 3).await;
    common::end_session(&ours, &server.address().to_string()).await;
    guard.lost().await.unwrap();
    // Which of the two was first nobody has promised.
    common::eventually("one of them is next", async || lock.contenders().await.unwrap().len() == 2).await;
    let first = lock.contenders().await.unwrap().remove(0);
    let order = if first.data == b"kazoo" { [&mut kazoo, &mut curator] } else { [&mut curator, &mut kazoo] };
    for other in order {
        assert!(other.answer().unwrap().starts_with("held"), "{}", other.name());
        assert_eq!(other.ask("unlock /ours").unwrap(), "released");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn read_write_locks() {
    let server = server();
    let client = client(&server.address().to_string(), SESSION).await;
    for (layout, path, mut other) in
        [(Layout::Kazoo, "/rw-kazoo", kazoo(&server)), (Layout::Curator, "/rw-curator", curator(&server))]
    {
        let lock = ReadWriteLock::new(&client, path).with_layout(layout);
        let reader = lock.read().await.unwrap();
        assert!(other.ask(&format!("try read {path}")).unwrap().starts_with("held"), "readers share");
        assert!(lock.try_write().await.unwrap().is_none());
        assert_eq!(other.ask(&format!("unlock {path}")).unwrap(), "released");
        assert_eq!(other.ask(&format!("try write {path}")).unwrap(), "busy");
        // A writer of the other waits, and keeps readers of ours out.
        other.tell(&format!("write {path}")).unwrap();
        common::eventually("the writer waits", async || lock.contenders().await.unwrap().len() == 2).await;
        assert!(lock.try_read().await.unwrap().is_none());
        reader.release().await.unwrap();
        assert!(other.answer().unwrap().starts_with("held"));
        assert!(lock.try_read().await.unwrap().is_none());
        // Killed while it writes.
        other.kill().unwrap();
        assert!(lock.read_within(DEADLINE).await.unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_semaphore_with_curator() {
    let server = server();
    let client = client(&server.address().to_string(), SESSION).await;
    let mut curator = curator(&server);
    let semaphore = Semaphore::new(&client, "/semaphore", 2);
    let one = semaphore.acquire().await.unwrap();
    assert_eq!(curator.ask("lease /semaphore 2").unwrap(), "held");
    assert!(semaphore.try_acquire().await.unwrap().is_none());
    one.release().await.unwrap();
    let two = semaphore.acquire().await.unwrap();
    assert_eq!(curator.ask("lease /semaphore 2").unwrap(), "busy");
    assert_eq!(curator.ask("return /semaphore").unwrap(), "released");
    let three = semaphore.acquire().await.unwrap();
    drop((two, three));
    assert_eq!(curator.ask("lease /semaphore 2").unwrap(), "held");
    curator.kill().unwrap();
    let both = tokio::time::timeout(DEADLINE, async { (semaphore.acquire().await, semaphore.acquire().await) });
    let (one, two) = both.await.expect("the lease of the killed goes with its session");
    drop((one.unwrap(), two.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_are_asked_to_give_way_by_and_from_curator() {
    let server = server();
    let client = client(&server.address().to_string(), SESSION).await;
    let mut curator = curator(&server);
    let lock = Mutex::new(&client, "/revoked");
    let guard = lock.acquire().await.unwrap();
    assert_eq!(curator.ask(&format!("revoke {}", guard.path())).unwrap(), "asked");
    tokio::time::timeout(DEADLINE, guard.revoked()).await.expect("the holder is told").unwrap();
    guard.release().await.unwrap();
    assert_eq!(curator.ask("revocable /revoked").unwrap(), "held");
    revoke(&client, &lock.contenders().await.unwrap()[0].path).await.unwrap();
    assert_eq!(curator.answer().unwrap(), "asked to give way");
}
