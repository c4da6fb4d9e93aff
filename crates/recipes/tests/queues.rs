//! Queues: no item is lost, none is given after its acknowledgement, while servers are killed and frozen, connections break, answers get lost and
//! futures are dropped; a hundred thousand items; shared with kazoo's `LockingQueue` and Curator's queues.

// A test that cannot go on has failed.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{
    DEADLINE, SHORT_SESSION, children, client, connect_string, disturb_until, end_session, eventually, proxies,
};
use rookeeper_acceptance::ensemble::Plan;
use rookeeper_acceptance::foreign::{Dialogue, curator_program, python};
use rookeeper_acceptance::proxy::Proxy;
use rookeeper_acceptance::random::Random;
use rookeeper_acceptance::server::{Server, Setup};
use rookeeper_recipes::{Entry, Error, Item, Queue, QueueLayout};
use tokio::time::timeout;
use zookeeper_client::Client;

const SESSION: Duration = Duration::from_secs(30);

/// What was done with each item, and when it was known to be done.
#[derive(Debug, Default)]
struct History {
    pushed: BTreeSet<String>,
    given: Vec<(String, Instant)>,
    acknowledged: BTreeMap<String, Instant>,
    /// Its acknowledgement was dropped: done or given back.
    half_acknowledged: BTreeSet<String>,
    in_hand: BTreeSet<String>,
}

impl History {
    fn given(&mut self, item: &str) {
        assert!(self.in_hand.insert(item.to_owned()), "two have {item}");
        self.given.push((item.to_owned(), Instant::now()));
    }

    fn check(&self) {
        for (item, at) in &self.given {
            let acknowledged = self.acknowledged.get(item);
            assert!(acknowledged.is_none_or(|done| at < done), "{item} was given after its acknowledgement");
        }
        let lost: Vec<_> = self
            .pushed
            .iter()
            .filter(|item| !self.acknowledged.contains_key(*item) && !self.half_acknowledged.contains(*item))
            .collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
    }
}

/// Works off the queue until all is done; sometimes gives up, gives back, drops.
async fn work(client: Client, queue: Queue, history: Arc<Mutex<History>>, done: Arc<AtomicBool>, mut random: Random) {
    let mut taker = queue.taker();
    loop {
        let limit = Duration::from_millis(if random.below(3) == 0 { random.below(20) } else { 300 });
        let item: Item = match taker.take_within(limit).await.expect("the session lives") {
            Some(item) => item,
            None if done.load(Ordering::Relaxed) && queue.count().await.unwrap() == 0 => return,
            None => continue,
        };
        let text = String::from_utf8(item.data().to_vec()).unwrap();
        history.lock().unwrap().given(&text);
        let _ = client.check_stat("/").await;
        // Out of the hand before others can be given the item.
        history.lock().unwrap().in_hand.remove(&text);
        match random.below(8) {
            0 => drop(item),
            1 => item.give_back().await.expect("the session lives"),
            2 => {
                history.lock().unwrap().half_acknowledged.insert(text.clone());
                let limit = Duration::from_micros(random.below(3_000));
                if let Ok(acknowledged) = timeout(limit, item.ack()).await {
                    acknowledged.expect("the session lives");
                }
            }
            _ => {
                item.ack().await.expect("the session lives");
                let before = history.lock().unwrap().acknowledged.insert(text.clone(), Instant::now());
                assert_eq!(before, None, "{text} was acknowledged twice");
            }
        }
        if random.below(30) == 0 {
            taker = queue.taker();
        }
    }
}

fn under_faults(what: &str, layout: QueueLayout, limit: Option<usize>) {
    const PUSHERS: usize = 3;
    // Pushers that wait for room make way slowly while servers are killed.
    let items = if limit.is_some() { 20 } else { 60 };
    let mut random = Random::from_environment(what);
    let mut ensemble = Plan::under_test(3).start().unwrap();
    let servers = ensemble.addresses();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let proxies = runtime.block_on(proxies(&servers, random.number()));
    let address = connect_string(&proxies);
    let history = Arc::new(Mutex::new(History::default()));
    let (done, pushing) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(PUSHERS)));
    let queue = move |client: &Client| {
        let queue = Queue::new(client, "/queue").with_layout(layout.clone());
        limit.map_or(queue.clone(), |limit| queue.with_limit(limit))
    };
    // Their sessions stay open: what they left behind would be seen.
    let clients: Vec<Client> = (0..PUSHERS + 3).map(|_| runtime.block_on(client(&address, SESSION))).collect();
    let (pushers, takers) = clients.split_at(PUSHERS);
    let mut tasks = Vec::new();
    for (pusher, client) in pushers.iter().enumerate() {
        let (history, done, pushing) = (history.clone(), done.clone(), pushing.clone());
        let (mut random, queue) = (Random::new(random.number()), queue(client));
        tasks.push(runtime.spawn(async move {
            let mut item = 0;
            while item < items {
                let count = 1 + random.below(4);
                let batch: Vec<String> = (item..item + count).map(|item| format!("{pusher}-{item}")).collect();
                item += count;
                // Given up at any moment, now and then: in or not.
                let limit = if random.below(4) == 0 { Duration::from_millis(random.below(20)) } else { DEADLINE };
                if let Ok(pushed) = timeout(limit, queue.push_all(batch.clone())).await {
                    pushed.expect("the session lives");
                    history.lock().unwrap().pushed.extend(batch);
                }
            }
            if pushing.fetch_sub(1, Ordering::Relaxed) == 1 {
                done.store(true, Ordering::Relaxed);
            }
        }));
    }
    for client in takers {
        let (client, queue, random) = (client.clone(), queue(client), Random::new(random.number()));
        tasks.push(runtime.spawn(work(client, queue, history.clone(), done.clone(), random)));
    }
    proxies.iter().for_each(|proxy| proxy.lose_one_answer_in(40));
    let disturbances = disturb_until(&mut ensemble, &proxies, &clients, &mut random, || {
        if let Some(limit) = limit {
            let count = runtime.block_on(async {
                let client = client(&servers[0].to_string(), SESSION).await;
                queue(&client).count().await.unwrap()
            });
            assert!(count <= limit, "{count} items");
        }
        tasks.iter().all(|task| task.is_finished())
    });
    proxies.iter().for_each(|proxy| proxy.lose_one_answer_in(0));
    tasks.into_iter().for_each(|task| runtime.block_on(task).expect("a task failed"));
    let history = history.lock().unwrap();
    let counts = (history.pushed.len(), history.given.len(), history.acknowledged.len());
    println!("{what}: {disturbances} disturbances; pushed, given, acknowledged: {counts:?}");
    history.check();
    runtime.block_on(async {
        let mut parents = vec!["/queue".to_owned()];
        for segment in children(&clients[0], "/queue/segments").await {
            parents.push(format!("/queue/segments/{segment}"));
        }
        for path in parents {
            let taken = format!("{path}/taken");
            eventually("nothing stays taken", async || children(&clients[0], &taken).await.is_empty()).await;
        }
    });
}

#[test]
fn no_item_is_lost_or_given_after_its_acknowledgement() {
    under_faults("a queue", QueueLayout::Segments, None);
}

#[test]
fn with_kazoos_nodes_as_well() {
    under_faults("a queue of kazoo's", QueueLayout::Kazoo, None);
}

#[test]
fn a_limit_holds() {
    under_faults("a queue with a limit", QueueLayout::Segments, Some(10));
}

async fn take(taker: &mut rookeeper_recipes::Taker) -> Item {
    timeout(DEADLINE, taker.take()).await.expect("there is an item").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn priorities_delays_and_limits() {
    let server = Setup::new().start().unwrap();
    let client = client(&server.address().to_string(), SESSION).await;
    let queue = Queue::new(&client, "/app/queue").with_limit(4);
    queue.push("second").await.unwrap();
    queue.push(Entry::new("late").with_delay(Duration::from_secs(2))).await.unwrap();
    let due = Instant::now() + Duration::from_secs(2);
    queue.push("third").await.unwrap();
    queue.push(Entry::new("first").with_priority(7)).await.unwrap();
    assert!(!queue.try_push("too much").await.unwrap());
    assert_eq!(queue.count().await.unwrap(), 4);
    assert!(matches!(queue.push(Entry::new("x").with_priority(1_000)).await, Err(Error::Unsupported(_))));
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.push("fifth").await }
    });
    let mut taker = queue.taker();
    for expected in ["first", "second", "third", "fifth"] {
        let item = take(&mut taker).await;
        assert_eq!(String::from_utf8_lossy(item.data()), expected);
        item.ack().await.unwrap();
    }
    waiting.await.unwrap().unwrap();
    // On a slow machine the last one is due by now.
    let item = match taker.try_take().await.unwrap() {
        Some(item) => item,
        None => take(&mut taker).await,
    };
    assert_eq!(item.data(), b"late");
    assert!(Instant::now() + Duration::from_millis(50) >= due);
    item.ack().await.unwrap();
    assert_eq!(queue.count().await.unwrap(), 0);
}

/// Whoever is cut off loses the item, and can't acknowledge it any more.
#[tokio::test(flavor = "multi_thread")]
async fn an_item_of_a_taker_that_is_cut_off_comes_again() {
    let server = Setup::new().config("tickTime", "200").start().unwrap();
    let proxy = Proxy::to(server.address(), 1).await.unwrap();
    let cut = client(&proxy.address().to_string(), SHORT_SESSION).await;
    let other = client(&server.address().to_string(), SESSION).await;
    let queue = Queue::new(&other, "/queue");
    queue.push_all(["one", "two"]).await.unwrap();
    let mut taker = Queue::new(&cut, "/queue").taker();
    let item = take(&mut taker).await;
    assert!(item.is_held().await.unwrap());
    let mut others = queue.taker();
    let two = take(&mut others).await;
    assert_eq!((item.data(), two.data()), (&b"one"[..], &b"two"[..]));
    proxy.silence();
    let again = take(&mut others).await;
    assert_eq!((again.data(), again.path()), (&b"one"[..], item.path()));
    assert!(matches!(item.ack().await, Err(Error::SessionEnded(_))));
    again.ack().await.unwrap();
    two.ack().await.unwrap();
    // By an operator's hand: the item may have another taker.
    queue.push("three").await.unwrap();
    let three = take(&mut others).await;
    let taken = three.path().replace("/entries/", "/taken/");
    other.delete(&taken, None).await.unwrap();
    assert!(!three.is_held().await.unwrap());
    assert!(matches!(three.ack().await, Err(Error::NotHeld { .. })));
    take(&mut queue.taker()).await.ack().await.unwrap();
    assert_eq!(queue.count().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_items() {
    const ITEMS: usize = 100_000;
    const LIMIT: usize = 1 << 20;
    let server = Setup::new().config("preAllocSize", "4096").config("snapCount", "1000000").start().unwrap();
    let client = client(&server.address().to_string(), SESSION).await;
    let queue = Queue::new(&client, "/queue");
    let start = Instant::now();
    queue.push_all((0..ITEMS).map(|item| item.to_string())).await.unwrap();
    let pushed = start.elapsed();
    assert_eq!(queue.count().await.unwrap(), ITEMS);
    let segments = children(&client, "/queue/segments").await;
    let mut lists = vec![segments.clone()];
    for segment in &segments {
        lists.push(children(&client, &format!("/queue/segments/{segment}/entries")).await);
    }
    let longest = lists.iter().map(|names| names.iter().map(|name| name.len() + 4).sum::<usize>()).max().unwrap();
    assert!(longest < LIMIT / 10, "a list of {longest} bytes");
    let mut taker = queue.taker();
    let start = Instant::now();
    for expected in 0..2_500 {
        let item = take(&mut taker).await;
        assert_eq!(item.data(), expected.to_string().as_bytes());
        item.ack().await.unwrap();
    }
    println!("{ITEMS} items pushed in {pushed:?}, 2,500 taken in {:?}", start.elapsed());
    assert!(taker.try_take().await.unwrap().is_some());
    assert_eq!(children(&client, "/queue/segments").await.len(), segments.len() - 2, "what is empty is removed");
}

fn server() -> Server {
    // Sessions of those who are killed end soon.
    Setup::new().config("tickTime", "500").config("maxSessionTimeout", "60000").start().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_kazoo() {
    let server = server();
    let address = server.address().to_string();
    let client = client(&address, SESSION).await;
    let mut kazoo = Dialogue::start("kazoo", python("coordinator.py").unwrap(), &address).unwrap();
    let queue = Queue::new(&client, "/queue").with_layout(QueueLayout::Kazoo);
    // Theirs to us, by priority.
    assert_eq!(kazoo.ask("put /queue 100 second").unwrap(), "put");
    assert_eq!(kazoo.ask("put /queue 5 first").unwrap(), "put");
    let mut taker = queue.taker();
    let first = take(&mut taker).await;
    assert_eq!(first.data(), b"first");
    // What one has the other is not given.
    assert_eq!(kazoo.ask("get /queue").unwrap(), "second");
    assert!(taker.try_take().await.unwrap().is_none());
    first.give_back().await.unwrap();
    assert_eq!(kazoo.ask("consume /queue").unwrap(), "consumed");
    assert_eq!(kazoo.ask("get /queue").unwrap(), "first");
    assert_eq!(kazoo.ask("consume /queue").unwrap(), "consumed");
    assert_eq!(queue.count().await.unwrap(), 0);
    // Ours to them, by priority; killed with the item in hand: the item comes back to us.
    queue.push(Entry::new("third").with_priority(200)).await.unwrap();
    queue.push(Entry::new("fourth").with_priority(20)).await.unwrap();
    assert_eq!(kazoo.ask("get /queue").unwrap(), "fourth");
    kazoo.kill().unwrap();
    let third = take(&mut taker).await;
    assert_eq!(third.data(), b"third");
    third.ack().await.unwrap();
    let fourth = take(&mut taker).await;
    assert_eq!(fourth.data(), b"fourth");
    // Our session ends with the item in hand: it comes to them.
    let mut kazoo = Dialogue::start("kazoo", python("coordinator.py").unwrap(), &address).unwrap();
    kazoo.tell("get /queue").unwrap();
    end_session(&client, &address).await;
    assert_eq!(kazoo.answer().unwrap(), "fourth");
    assert!(matches!(fourth.ack().await, Err(Error::SessionEnded(_))));
    assert_eq!(kazoo.ask("consume /queue").unwrap(), "consumed");
    // All at once: each item is worked on once.
    let client = common::client(&address, SESSION).await;
    let queue = Queue::new(&client, "/queue").with_layout(QueueLayout::Kazoo);
    assert_eq!(kazoo.ask("put-many /queue 40 k").unwrap(), "put");
    queue.push_all((0..40).map(|item| format!("r{item}"))).await.unwrap();
    kazoo.tell("work /queue").unwrap();
    let mut seen = Vec::new();
    let mut taker = queue.taker();
    while queue.count().await.unwrap() > 0 {
        if let Some(item) = taker.take_within(Duration::from_millis(100)).await.unwrap() {
            seen.push(String::from_utf8(item.data().to_vec()).unwrap());
            item.ack().await.unwrap();
        }
    }
    let theirs = kazoo.answer().unwrap();
    seen.extend(theirs.split_whitespace().map(str::to_owned));
    seen.sort();
    let mut all: Vec<String> = (0..40).flat_map(|item| [format!("k{item}"), format!("r{item}")]).collect();
    all.sort();
    assert_eq!(seen, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_curator() {
    let server = server();
    let address = server.address().to_string();
    let client = client(&address, SESSION).await;
    let mut curator = Dialogue::start("Curator", curator_program("Coordinator.java").unwrap(), &address).unwrap();
    let queue = |path: &str| {
        let layout = QueueLayout::Curator { locks: format!("{path}-locks") };
        Queue::new(&client, path).with_layout(layout)
    };
    // A plain queue, both ways.
    let plain = queue("/plain");
    assert_eq!(curator.ask("put plain /plain /plain-locks one").unwrap(), "put");
    let item = take(&mut plain.taker()).await;
    assert_eq!(item.data(), b"one");
    // What we have Curator is not given: it goes on with the next.
    plain.push("two").await.unwrap();
    assert_eq!(curator.ask("consume plain /plain /plain-locks").unwrap(), "started");
    assert_eq!(curator.ask("received /plain").unwrap(), "two");
    item.give_back().await.unwrap();
    // A consumer of Curator that waits already looks again only when the queue changes.
    plain.push("three").await.unwrap();
    let mut received = Vec::new();
    while received.len() < 2 {
        received.extend(curator.ask("received /plain").unwrap().split(' ').map(str::to_owned));
    }
    assert_eq!(received, ["one", "three"]);
    eventually("Curator has removed all", async || plain.count().await.unwrap() == 0).await;
    assert_eq!(curator.ask("stop /plain").unwrap(), "stopped");
    // By priority, from both sides.
    let priority = queue("/priority");
    assert_eq!(curator.ask("put priority /priority /priority-locks second 7").unwrap(), "put");
    priority.push(Entry::new("first").with_priority(-3)).await.unwrap();
    priority.push(Entry::new("third").with_priority(8)).await.unwrap();
    let mut taker = priority.taker();
    for expected in ["first", "second"] {
        let item = take(&mut taker).await;
        assert_eq!(String::from_utf8_lossy(item.data()), expected);
        item.ack().await.unwrap();
    }
    // Killed with the item in hand, which comes to us.
    assert_eq!(curator.ask("hold priority /priority /priority-locks").unwrap(), "started");
    assert_eq!(curator.ask("received /priority").unwrap(), "third");
    assert!(taker.try_take().await.unwrap().is_none());
    // A delay of ours is one of theirs.
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let delay = queue("/delay");
    assert_eq!(curator.ask(&format!("put delay /delay /delay-locks theirs {}", now_ms + 100)).unwrap(), "put");
    delay.push(Entry::new("ours").with_delay(Duration::from_secs(3_600))).await.unwrap();
    let item = take(&mut delay.taker()).await;
    assert_eq!(item.data(), b"theirs");
    item.ack().await.unwrap();
    assert!(delay.taker().try_take().await.unwrap().is_none());
    delay.push(Entry::new("soon").with_delay(Duration::from_millis(100))).await.unwrap();
    assert_eq!(curator.ask("consume delay /delay /delay-locks").unwrap(), "started");
    assert_eq!(curator.ask("received /delay").unwrap(), "soon");
    curator.kill().unwrap();
    let third = take(&mut taker).await;
    assert_eq!(third.data(), b"third");
    // Our session ends with the item in hand: Curator is given it, and looks again when the queue changes.
    let mut curator = Dialogue::start("Curator", curator_program("Coordinator.java").unwrap(), &address).unwrap();
    assert_eq!(curator.ask("consume priority /priority /priority-locks").unwrap(), "started");
    end_session(&client, &address).await;
    rookeeper_recipes::session_end(&client).await;
    assert!(matches!(third.ack().await, Err(Error::SessionEnded(_))));
    assert_eq!(curator.ask("put priority /priority /priority-locks fourth 9").unwrap(), "put");
    assert_eq!(curator.ask("received /priority").unwrap(), "third");
    assert_eq!(curator.ask("received /priority").unwrap(), "fourth");
}
