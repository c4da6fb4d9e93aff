//! Locks while servers are killed and frozen, connections break, answers get lost, and futures are dropped.

// A test that cannot go on has failed.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{
    DEADLINE, History, Hold, SHORT_SESSION, children, client, connect_string, disturb_until, eventually, proxies,
};
use rookeeper_acceptance::client::four_letter_word;
use rookeeper_acceptance::ensemble::Plan;
use rookeeper_acceptance::proxy::Proxy;
use rookeeper_acceptance::random::Random;
use rookeeper_acceptance::server::Setup;
use rookeeper_recipes::{Election, Error, Guard, Led, Loss, Mutex, ReadWriteLock, Semaphore, SessionEnd};
use zookeeper_client::Client;

const SESSION: Duration = Duration::from_secs(30);
const CONTENDERS: usize = 5;
const ROUNDS: usize = 12;

/// Lets contenders hold as `round` says, in turn, while everything goes wrong; nothing may be left below `paths`.
fn contend<R>(what: &str, paths: &[&str], round: impl Fn(Client, usize) -> R + Send + Sync + Clone + 'static) -> History
where
    R: AsyncRound + Send + Sync + 'static,
{
    let mut random = Random::from_environment(what);
    let mut ensemble = Plan::under_test(3).start().unwrap();
    let servers: Vec<SocketAddr> = ensemble.addresses();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let proxies = runtime.block_on(proxies(&servers, random.number()));
    let address = connect_string(&proxies);
    let history = Arc::new(History::default());
    // Their sessions stay open: what they left behind would be seen.
    let clients: Vec<Client> = (0..CONTENDERS).map(|_| runtime.block_on(client(&address, SESSION))).collect();
    let tasks: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(holder, client)| {
            let (client, history, round) = (client.clone(), Arc::clone(&history), round(client.clone(), holder));
            let mut random = Random::new(random.number());
            runtime.spawn(async move {
                let mut rounds = 0;
                while rounds < ROUNDS {
                    // Given up at any moment, now and then.
                    let limit = if random.below(3) == 0 { Duration::from_millis(random.below(20)) } else { DEADLINE };
                    let Ok(taken) = tokio::time::timeout(limit, round.take()).await else { continue };
                    let (guard, shared) = taken.expect("the session lives");
                    let from = Instant::now();
                    // Long enough that others come in who should not.
                    for _ in 0..10 {
                        let _ = client.check_stat("/").await;
                    }
                    let (token, until) = (guard.token(), Instant::now());
                    history.record(Hold { holder, token, from, until, shared });
                    match random.below(4) {
                        0 => drop(guard),
                        _ => guard.release().await.expect("the session lives"),
                    }
                    rounds += 1;
                }
            })
        })
        .collect();
    proxies.iter().for_each(|proxy| proxy.lose_one_answer_in(25));
    let disturbances =
        disturb_until(&mut ensemble, &proxies, &clients, &mut random, || tasks.iter().all(|task| task.is_finished()));
    proxies.iter().for_each(|proxy| proxy.lose_one_answer_in(0));
    tasks.into_iter().for_each(|task| runtime.block_on(task).expect("the contender did not fail"));
    runtime.block_on(async {
        for path in paths {
            eventually("nothing is left in the line", async || children(&clients[0], path).await.is_empty()).await;
        }
    });
    println!("{what}: {disturbances} disturbances, {} holds", history.len());
    assert_eq!(history.len(), CONTENDERS * ROUNDS);
    Arc::into_inner(history).expect("all tasks have ended")
}

/// How a contender of one kind gets what it wants, and whether others may have it as well.
trait AsyncRound {
    fn take(&self) -> impl Future<Output = Result<(Guard, bool), Error>> + Send;
}

impl AsyncRound for Mutex {
    async fn take(&self) -> Result<(Guard, bool), Error> {
        Ok((self.acquire().await?, false))
    }
}

struct ReaderOrWriter(ReadWriteLock, bool);

impl AsyncRound for ReaderOrWriter {
    async fn take(&self) -> Result<(Guard, bool), Error> {
        Ok((if self.1 { self.0.read().await? } else { self.0.write().await? }, self.1))
    }
}

impl AsyncRound for Semaphore {
    async fn take(&self) -> Result<(Guard, bool), Error> {
        Ok((self.acquire().await?, true))
    }
}

#[test]
fn a_mutex() {
    contend("a mutex", &["/a/mutex"], |client, _| Mutex::new(&client, "/a/mutex")).check();
}

impl AsyncRound for Election {
    async fn take(&self) -> Result<(Guard, bool), Error> {
        Ok((self.campaign().await?, false))
    }
}

#[test]
fn an_election() {
    contend("an election", &["/election"], |client, _| Election::new(&client, "/election")).check();
}

/// The work of a leader that is cut off is dropped before the next one leads.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_stops_in_time() {
    struct Dropped(tokio::sync::oneshot::Sender<Instant>);
    let server = Setup::new().config("tickTime", "500").start().unwrap();
    let proxy = Proxy::to(server.address(), 1).await.unwrap();
    let cut = client(&proxy.address().to_string(), Duration::from_secs(8)).await;
    let other = client(&server.address().to_string(), SESSION).await;
    let (leads, leading) = tokio::sync::oneshot::channel();
    let (ends, ended) = tokio::sync::oneshot::channel();
    let leader = tokio::spawn(async move {
        let end = async move |guard: &Guard| {
            // The moment at which the work is dropped.
            struct AtEnd(Option<Dropped>);
            impl Drop for AtEnd {
                fn drop(&mut self) {
                    if let Some(Dropped(sender)) = self.0.take() {
                        let _ = sender.send(Instant::now());
                    }
                }
            }
            let _end = AtEnd(Some(Dropped(ends)));
            leads.send(guard.token()).unwrap();
            std::future::pending::<()>().await;
        };
        Election::new(&cut, "/cut").lead(end).await
    });
    let token = leading.await.unwrap();
    proxy.silence();
    let next = Election::new(&other, "/cut").campaign().await.unwrap();
    let next_leads = Instant::now();
    assert!(next.token() > token);
    assert!(ended.await.unwrap() < next_leads, "two led at once");
    let led = leader.await.unwrap().unwrap();
    assert!(matches!(led, Led::InDoubt | Led::Lost(Loss::SessionEnded(SessionEnd::Expired))), "{led:?}");
}

#[test]
fn a_read_write_lock() {
    let history = contend("a read-write lock", &["/rw"], |client, holder| {
        ReaderOrWriter(ReadWriteLock::new(&client, "/rw"), holder < 3)
    });
    history.check();
}

#[test]
fn a_semaphore() {
    let history = contend("a semaphore", &["/s/locks", "/s/leases"], |client, _| Semaphore::new(&client, "/s", 2));
    let most = history.most_at_once();
    assert_eq!(most, 2, "leases at once");
}

/// A client that nobody hears any more loses its session, and says so; the next holder has the greater token.
#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_is_cut_off_learns_that_it_lost() {
    let server = Setup::new().config("tickTime", "200").start().unwrap();
    let proxy = Proxy::to(server.address(), 1).await.unwrap();
    let cut = client(&proxy.address().to_string(), SHORT_SESSION).await;
    let other = client(&server.address().to_string(), SESSION).await;
    let guard = Mutex::new(&cut, "/cut").acquire().await.unwrap();
    proxy.silence();
    let next = Mutex::new(&other, "/cut").acquire().await.unwrap();
    assert!(next.token() > guard.token());
    assert_eq!(
        tokio::time::timeout(DEADLINE, guard.lost()).await.unwrap(),
        Ok(Loss::SessionEnded(SessionEnd::Expired))
    );
    assert_eq!(guard.is_held().await, Err(Error::SessionEnded(SessionEnd::Expired)));
    assert_eq!(Mutex::new(&cut, "/cut").acquire().await.err(), Some(Error::SessionEnded(SessionEnd::Expired)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_whose_node_is_deleted_learns_that_it_lost() {
    let server = Setup::new().start().unwrap();
    let client = client(&server.address().to_string(), SESSION).await;
    let guard = Mutex::new(&client, "/deleted").acquire().await.unwrap();
    assert_eq!(guard.is_held().await, Ok(true));
    client.delete(guard.path(), None).await.unwrap();
    assert_eq!(guard.lost().await, Ok(Loss::NodeDeleted));
    assert_eq!(guard.is_held().await, Ok(false));
}

/// A release wakes the next contender and nobody else: its requests do not grow with the number that waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_costs_the_same_however_many_wait() {
    let server = Setup::new().config("4lw.commands.whitelist", "*").start().unwrap();
    let received = || -> usize {
        let text = four_letter_word(server.address(), "srvr").unwrap();
        text.lines().find_map(|line| line.strip_prefix("Received: ")).unwrap().parse().unwrap()
    };
    let client = client(&server.address().to_string(), Duration::from_secs(40)).await;
    let mut costs = Vec::new();
    for waiters in [2, 10, 100] {
        let lock = Mutex::new(&client, "/herd");
        let mut first = lock.acquire().await.unwrap();
        let (sender, mut holders) = tokio::sync::mpsc::unbounded_channel();
        for _ in 0..waiters {
            let (lock, sender) = (lock.clone(), sender.clone());
            tokio::spawn(async move { sender.send(lock.acquire().await.unwrap()) });
        }
        let waits = || four_letter_word(server.address(), "wchs").unwrap();
        eventually("all wait", async || waits().contains(&format!("Total watches:{waiters}"))).await;
        let (before, start) = (received(), Instant::now());
        for _ in 0..waiters {
            first.release().await.unwrap();
            first = holders.recv().await.unwrap();
        }
        let hand_over = start.elapsed() / waiters;
        // The two questions of this test itself count as well.
        let cost = (received() - before) as f64 / f64::from(waiters);
        println!("{waiters} waiters: {cost:.1} requests and {hand_over:?} a hand-over");
        first.release().await.unwrap();
        costs.push(cost);
    }
    assert!(costs[2] <= 3.0, "delete, list, and nothing more: {costs:?}");
}

/// Dropped at any moment, an `acquire` leaves nothing behind and keeps nobody waiting.
#[tokio::test(flavor = "multi_thread")]
async fn dropped_futures_leave_no_node() {
    let mut random = Random::from_environment("dropped futures");
    let server = Setup::new().start().unwrap();
    let proxy = Proxy::to(server.address(), random.number()).await.unwrap();
    let client = client(&proxy.address().to_string(), SESSION).await;
    let lock = Mutex::new(&client, "/dropped");
    proxy.lose_one_answer_in(6);
    for _ in 0..300 {
        let _ = tokio::time::timeout(Duration::from_micros(random.below(3_000)), lock.acquire()).await;
    }
    proxy.lose_one_answer_in(0);
    eventually("no node is left", async || children(&client, "/dropped").await.is_empty()).await;
    assert!(lock.try_acquire().await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_attempts_leave_no_node() {
    let server = Setup::new().start().unwrap();
    let client = client(&server.address().to_string(), SESSION).await;
    let lock = Mutex::new(&client, "/limits").with_data("first");
    let guard = lock.acquire().await.unwrap();
    assert!(lock.try_acquire().await.unwrap().is_none());
    assert_eq!(children(&client, "/limits").await.len(), 1);
    assert!(lock.acquire_within(Duration::from_millis(20)).await.unwrap().is_none());
    eventually("the waiter is gone", async || children(&client, "/limits").await.len() == 1).await;
    let contenders = lock.contenders().await.unwrap();
    assert_eq!((contenders[0].data.as_slice(), contenders[0].token), (b"first".as_slice(), guard.token()));
}
