//! Barriers, latches and counters while servers are killed and frozen, connections break, answers get lost and futures are dropped; and shared with kazoo
//! and Curator, each side killed.

// A test that cannot go on has failed.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{DEADLINE, children, client, connect_string, disturb_until, eventually, proxies};
use rookeeper_acceptance::ensemble::Plan;
use rookeeper_acceptance::foreign::{Dialogue, curator_program, python};
use rookeeper_acceptance::proxy::Proxy;
use rookeeper_acceptance::random::Random;
use rookeeper_acceptance::server::{Server, Setup};
use rookeeper_recipes::{Barrier, Counter, CounterLayout, DoubleBarrier, Error, Latch};
use tokio::time::timeout;
use zookeeper_client::Client;

const SESSION: Duration = Duration::from_secs(30);
const MEMBERS: usize = 4;
const ROUNDS: usize = 12;

/// When each member began to come, was through, and began to leave and was out, for each round.
type Times = Vec<[Option<Instant>; 4]>;

/// Runs `each` for so many clients beside each other while everything goes wrong, until all are through.
fn while_everything_goes_wrong<W>(what: &str, each: impl Fn(Client, usize, Random) -> W)
where
    W: Future<Output = ()> + Send + 'static,
{
    let mut random = Random::from_environment(what);
    let mut ensemble = Plan::under_test(3).start().unwrap();
    let servers = ensemble.addresses();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let proxies = runtime.block_on(proxies(&servers, random.number()));
    let address = connect_string(&proxies);
    let clients: Vec<Client> = (0..MEMBERS).map(|_| runtime.block_on(client(&address, SESSION))).collect();
    let members = clients.iter().enumerate();
    let tasks: Vec<_> = members
        .map(|(member, client)| runtime.spawn(each(client.clone(), member, Random::new(random.number()))))
        .collect();
    proxies.iter().for_each(|proxy| proxy.lose_one_answer_in(30));
    let disturbances =
        disturb_until(&mut ensemble, &proxies, &clients, &mut random, || tasks.iter().all(|task| task.is_finished()));
    proxies.iter().for_each(|proxy| proxy.lose_one_answer_in(0));
    tasks.into_iter().for_each(|task| runtime.block_on(task).expect("a task failed"));
    println!("{what}: {disturbances} disturbances");
    // What is left is looked at while the servers run.
    runtime.block_on(async {
        eventually("no member is left", async || children(&clients[0], "/meeting").await.is_empty()).await;
    });
}

#[test]
fn nobody_enters_before_all_are_there_or_is_out_before_all_have_left() {
    let times: Arc<Mutex<Vec<Times>>> = Arc::new(Mutex::new(vec![Vec::new(); ROUNDS]));
    while_everything_goes_wrong("meetings", |client, _, _| {
        let times = times.clone();
        async move {
            let barrier = DoubleBarrier::new(&client, "/meeting", MEMBERS);
            for round in 0..ROUNDS {
                let came = Instant::now();
                let entered = timeout(DEADLINE, barrier.enter()).await.expect("all come").expect("the session lives");
                let through = Instant::now();
                let _ = client.check_stat("/").await;
                let leaves = Instant::now();
                entered.leave().await.expect("the session lives");
                let out = Instant::now();
                times.lock().unwrap()[round].push([came, through, leaves, out].map(Some));
            }
        }
    });
    for (round, times) in times.lock().unwrap().iter().enumerate() {
        assert_eq!(times.len(), MEMBERS);
        let last = |at: usize| times.iter().map(|times| times[at]).max().unwrap();
        let first = |at: usize| times.iter().map(|times| times[at]).min().unwrap();
        assert!(first(1) >= last(0), "round {round}: somebody was through before all came");
        assert!(first(3) >= last(2), "round {round}: somebody was out before all left");
    }
}

#[test]
fn every_count_and_every_change_is_made_once() {
    /// Of four changes one is given up, maybe.
    const RISKY: i64 = 10;
    const SURE: i64 = 30;
    // A sure change adds one. Each risky one adds a power of two above all of these, so that the end says of each whether it was made, and how often.
    let risky = |member: usize, change: i64| 1 << (10 + member as i64 * RISKY + change);
    let (certain, ends) = (Arc::new(Mutex::new((0_i64, 0_i64))), Arc::new(Mutex::new(Vec::new())));
    while_everything_goes_wrong("counts", |client, member, mut random| {
        let (certain, ends) = (certain.clone(), ends.clone());
        async move {
            let counter = Counter::new(&client, "/app/counter");
            let latch = Latch::new(&client, "/app/latch", MEMBERS as u32 * (RISKY + SURE) as u32);
            for change in 0..RISKY + SURE {
                let is_risky = change % 4 == 0;
                let amount = if is_risky { risky(member, change / 4) } else { 1 };
                // Given up at any moment: made or not, and once at most.
                let limit = if is_risky { Duration::from_millis(random.below(30)) } else { DEADLINE };
                let added = timeout(limit, counter.add(amount)).await;
                match added {
                    Ok(value) => {
                        value.expect("the session lives");
                        certain.lock().unwrap().0 += amount;
                    }
                    Err(_) => certain.lock().unwrap().1 += amount,
                }
                assert!(!latch.wait_within(Duration::ZERO).await.unwrap(), "open too early");
                latch.count_down().await.expect("the session lives");
            }
            latch.wait().await.expect("the session lives");
            let end = counter.get().await.expect("the session lives");
            ends.lock().unwrap().push(end);
        }
    });
    let (certain, in_doubt) = *certain.lock().unwrap();
    let ends = ends.lock().unwrap();
    println!("{ends:?}: {certain:#x} for certain, {in_doubt:#x} in doubt");
    assert_eq!(certain & 0x3ff, MEMBERS as i64 * SURE, "nobody gives up a sure one");
    let is_possible = |end: i64| end & certain == certain && end & !(certain | in_doubt) == 0;
    assert!(ends.len() == MEMBERS && ends.iter().all(|end| *end == ends[0] && is_possible(*end)));
}

fn server() -> Server {
    // Sessions of those who are killed end soon.
    Setup::new().config("tickTime", "500").config("maxSessionTimeout", "60000").start().unwrap()
}

/// Nothing is in doubt here: the sum is exact, whatever answers are lost.
#[tokio::test(flavor = "multi_thread")]
async fn the_sum_is_exact() {
    let mut random = Random::from_environment("a sum");
    let server = server();
    let proxy = Proxy::to(server.address(), random.number()).await.unwrap();
    proxy.lose_one_answer_in(15);
    let address = proxy.address().to_string();
    let tasks = (0..3).map(|_| {
        let address = address.clone();
        tokio::spawn(async move {
            let client = client(&address, SESSION).await;
            let counter = Counter::new(&client, "/sum");
            for _ in 0..60 {
                counter.add(1).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let client = client(&server.address().to_string(), SESSION).await;
    let counter = Counter::new(&client, "/sum");
    assert_eq!(counter.get().await.unwrap(), 180);
    assert!(!counter.compare_and_set(1, 2).await.unwrap());
    assert!(counter.compare_and_set(180, i64::MAX).await.unwrap());
    assert!(matches!(counter.add(1).await, Err(Error::Unsupported(_))));
    counter.set(-4).await.unwrap();
    assert_eq!(counter.add(1).await.unwrap(), -3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_with_kazoo_and_curator() {
    let server = server();
    let address = server.address().to_string();
    let client = client(&address, SESSION).await;
    let mut kazoo = Dialogue::start("kazoo", python("coordinator.py").unwrap(), &address).unwrap();
    let mut curator = Dialogue::start("Curator", curator_program("Coordinator.java").unwrap(), &address).unwrap();
    let door = Barrier::new(&client, "/app/door");
    for (closes, opens) in [(0, 1), (1, 2), (2, 0)] {
        match closes {
            0 => door.close().await.unwrap(),
            1 => assert_eq!(kazoo.ask("set /app/door").unwrap(), "set"),
            _ => assert_eq!(curator.ask("set /app/door").unwrap(), "set"),
        }
        assert!(!door.wait_within(Duration::from_millis(20)).await.unwrap());
        let waiting = tokio::spawn({
            let door = door.clone();
            async move { door.wait().await }
        });
        // Who opens does not wait.
        if opens != 1 {
            kazoo.tell("wait /app/door").unwrap();
        }
        if opens != 2 {
            curator.tell("wait /app/door").unwrap();
        }
        match opens {
            0 => assert!(door.open().await.unwrap()),
            1 => assert_eq!(kazoo.ask("remove /app/door").unwrap(), "removed"),
            _ => assert_eq!(curator.ask("remove /app/door").unwrap(), "removed"),
        }
        waiting.await.unwrap().unwrap();
        if opens != 1 {
            assert_eq!(kazoo.answer().unwrap(), "open");
        }
        if opens != 2 {
            assert_eq!(curator.answer().unwrap(), "open");
        }
    }
    assert!(!door.open().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meeting_with_kazoo_and_curator() {
    let server = server();
    let address = server.address().to_string();
    let client = client(&address, SESSION).await;
    let mut kazoo = Dialogue::start("kazoo", python("coordinator.py").unwrap(), &address).unwrap();
    let mut curator = Dialogue::start("Curator", curator_program("Coordinator.java").unwrap(), &address).unwrap();
    let barrier = DoubleBarrier::new(&client, "/meeting", 3);
    // Whoever of the three comes last opens for the others.
    for last in 0..3 {
        let there = async |count: usize| {
            eventually("they are there", async || children(&client, "/meeting").await.len() == count).await;
        };
        let ours = (last != 0).then(|| {
            let barrier = barrier.clone();
            tokio::spawn(async move { barrier.enter().await })
        });
        let before = usize::from(ours.is_some());
        there(before).await;
        let (first, second) = if last == 1 { (&mut curator, &mut kazoo) } else { (&mut kazoo, &mut curator) };
        first.tell("enter /meeting 3").unwrap();
        there(before + 1).await;
        second.tell("enter /meeting 3").unwrap();
        let entered = match ours {
            Some(ours) => timeout(DEADLINE, ours).await.expect("all are there").unwrap().unwrap(),
            None => {
                there(2).await;
                timeout(DEADLINE, barrier.enter()).await.expect("all are there").unwrap()
            }
        };
        assert_eq!(kazoo.answer().unwrap(), "entered");
        assert_eq!(curator.answer().unwrap(), "entered");
        assert!(entered.is_held().await.unwrap());
        kazoo.tell("leave /meeting").unwrap();
        curator.tell("leave /meeting").unwrap();
        entered.leave().await.unwrap();
        assert_eq!(kazoo.answer().unwrap(), "left");
        assert_eq!(curator.answer().unwrap(), "left");
        eventually("nothing is left", async || children(&client, "/meeting").await.is_empty()).await;
    }
    // Killed while they wait, they do not count when their sessions are over; killed inside, nobody waits for them.
    for other in [&mut kazoo, &mut curator] {
        other.tell("enter /meeting 3").unwrap();
    }
    eventually("they wait", async || children(&client, "/meeting").await.len() == 2).await;
    kazoo.kill().unwrap();
    eventually("one is gone", async || children(&client, "/meeting").await.len() == 1).await;
    let one = tokio::spawn({
        let barrier = barrier.clone();
        async move { barrier.enter().await }
    });
    eventually("we wait", async || children(&client, "/meeting").await.len() == 2).await;
    let two = timeout(DEADLINE, barrier.enter()).await.expect("all are there").unwrap();
    let one = one.await.unwrap().unwrap();
    assert_eq!(curator.answer().unwrap(), "entered");
    curator.kill().unwrap();
    let (one, two) = tokio::join!(timeout(DEADLINE, one.leave()), timeout(DEADLINE, two.leave()));
    one.expect("the session of the killed ends").unwrap();
    two.expect("the session of the killed ends").unwrap();
    assert!(children(&client, "/meeting").await.is_empty());
}

/// Dropped at any moment, an `enter` leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn dropped_futures_leave_no_member() {
    let mut random = Random::from_environment("dropped members");
    let server = server();
    let proxy = Proxy::to(server.address(), random.number()).await.unwrap();
    let client = client(&proxy.address().to_string(), SESSION).await;
    let barrier = DoubleBarrier::new(&client, "/meeting", 2);
    proxy.lose_one_answer_in(6);
    for _ in 0..200 {
        let entered = barrier.enter_within(Duration::from_micros(random.below(4_000))).await.unwrap();
        if let Some(entered) = entered {
            let _ = timeout(Duration::from_micros(random.below(4_000)), entered.leave()).await;
        }
    }
    proxy.lose_one_answer_in(0);
    eventually("no member is left", async || children(&client, "/meeting").await.iter().all(|name| name == "ready"))
        .await;
    // What the last of them left open is nobody's.
    assert!(barrier.enter_within(Duration::from_millis(200)).await.unwrap().is_none());
}

/// All die after the opening: what they left behind opens for nobody.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_behind_opens_for_nobody() {
    let server = server();
    let address = server.address().to_string();
    let client = client(&address, SESSION).await;
    let proxy = Proxy::to(server.address(), 1).await.unwrap();
    let gone = common::client(&proxy.address().to_string(), Duration::from_secs(8)).await;
    let barrier = DoubleBarrier::new(&gone, "/meeting", 2);
    let (one, two) = tokio::join!(barrier.enter(), barrier.enter());
    proxy.silence();
    eventually("the members are gone", async || children(&client, "/meeting").await == ["ready"]).await;
    let left = timeout(DEADLINE, one.unwrap().leave()).await.expect("the session ends");
    assert!(matches!(left, Err(Error::SessionEnded(_))));
    drop(two);
    assert_eq!(children(&client, "/meeting").await, ["ready"]);
    let barrier = DoubleBarrier::new(&client, "/meeting", 2);
    assert!(barrier.enter_within(Duration::from_millis(100)).await.unwrap().is_none());
    let (one, two) = timeout(DEADLINE, async { tokio::join!(barrier.enter(), barrier.enter()) }).await.unwrap();
    let (one, two) = tokio::join!(one.unwrap().leave(), two.unwrap().leave());
    one.unwrap();
    two.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_with_kazoo_and_curator() {
    let server = server();
    let address = server.address().to_string();
    let client = client(&address, SESSION).await;
    let mut kazoo = Dialogue::start("kazoo", python("coordinator.py").unwrap(), &address).unwrap();
    let mut curator = Dialogue::start("Curator", curator_program("Coordinator.java").unwrap(), &address).unwrap();
    let int = Counter::new(&client, "/int").with_layout(CounterLayout::Int);
    let long = Counter::new(&client, "/long");
    let digits = Counter::new(&client, "/digits").with_layout(CounterLayout::Digits);
    assert_eq!(int.add(-7).await.unwrap(), -7);
    assert_eq!(kazoo.ask("value /int curator").unwrap(), "-7");
    // All at once, and no change is lost.
    kazoo.tell("add /int curator 1 50").unwrap();
    curator.tell("add /int count 100 50").unwrap();
    for _ in 0..50 {
        int.add(10_000).await.unwrap();
    }
    assert_eq!((kazoo.answer().unwrap().as_str(), curator.answer().unwrap().as_str()), ("added", "added"));
    assert_eq!(int.get().await.unwrap(), 505_043);
    assert_eq!(curator.ask("value /int count").unwrap(), "505043");
    curator.tell("add /long long 3 50").unwrap();
    for _ in 0..50 {
        long.add(-1_000_000_000_000).await.unwrap();
    }
    assert_eq!(curator.answer().unwrap(), "added");
    assert_eq!(long.get().await.unwrap(), -49_999_999_999_850);
    assert_eq!(curator.ask("value /long long").unwrap(), "-49999999999850");
    kazoo.tell("add /digits kazoo -2 50").unwrap();
    for _ in 0..50 {
        digits.add(5).await.unwrap();
    }
    assert_eq!(kazoo.answer().unwrap(), "added");
    assert_eq!(kazoo.ask("value /digits kazoo").unwrap(), "150");
    // What they have changed stays when they die.
    kazoo.kill().unwrap();
    curator.kill().unwrap();
    assert_eq!((digits.get().await.unwrap(), int.get().await.unwrap()), (150, 505_043));
    assert!(matches!(long.clone().with_layout(CounterLayout::Int).get().await, Err(Error::Unsupported(_))));
}
