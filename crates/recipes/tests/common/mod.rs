//! What the tests with real servers share: clients behind proxies, and the history of who held when.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rookeeper_acceptance::ensemble::Ensemble;
use rookeeper_acceptance::proxy::Proxy;
use rookeeper_acceptance::random::Random;
use zookeeper_client::{Client, Connector, SessionState};

/// Generous: the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(180);
/// Much longer than a run takes, on whatever machine.
const HANGS_AFTER: Duration = Duration::from_secs(600);

/// A session that whoever is silent for its whole time loses, and that is kept by whoever is slow.
pub const SHORT_SESSION: Duration = Duration::from_secs(4);

/// A client with a session. The library waits no longer for a session than that would live, which is too short for a server on a busy machine.
pub async fn client(address: &str, timeout: Duration) -> Client {
    connect(|| Client::connector().with_session_timeout(timeout), address).await.expect("the server takes a session")
}

/// Ends the client's session: another connection takes it over and closes it. As far as the servers know, the process has died.
pub async fn end_session(client: &Client, address: &str) {
    let begin = Instant::now();
    loop {
        let connector = Client::connector().with_session(client.session().clone()).with_session_timeout(DEADLINE);
        // The client takes its session back at once, and on the original's servers the two may take it from each other until the time is over.
        match tokio::time::timeout(Duration::from_secs(5), connector.connect(address)).await {
            Ok(Ok(closing)) => drop(closing),
            Ok(Err(zookeeper_client::Error::SessionExpired)) => {}
            Err(_) | Ok(Err(zookeeper_client::Error::Timeout | zookeeper_client::Error::ConnectionLoss)) => {}
            Ok(Err(error)) => panic!("the server does not hand the session over: {error}"),
        }
        // It may also have been taken back before the close.
        if tokio::time::timeout(Duration::from_secs(1), rookeeper_recipes::session_end(client)).await.is_ok() {
            return;
        }
        assert!(begin.elapsed() < DEADLINE, "the session does not end");
    }
}

async fn connect(connector: impl Fn() -> Connector, address: &str) -> Result<Client, zookeeper_client::Error> {
    let begin = Instant::now();
    loop {
        match connector().connect(address).await {
            Err(zookeeper_client::Error::Timeout | zookeeper_client::Error::ConnectionLoss)
                if begin.elapsed() < DEADLINE => {}
            connected => return connected,
        }
    }
}

/// A proxy before each of these servers.
pub async fn proxies(servers: &[SocketAddr], seed: u64) -> Vec<Proxy> {
    let mut proxies = Vec::new();
    for (at, server) in servers.iter().enumerate() {
        proxies.push(Proxy::to(*server, seed + at as u64).await.expect("a port"));
    }
    proxies
}

pub fn connect_string(proxies: &[Proxy]) -> String {
    proxies.iter().map(|proxy| proxy.address().to_string()).collect::<Vec<_>>().join(",")
}

/// A member is killed or frozen, or all connections break, some of them while they are made again. The ensemble of three is whole again afterwards.
pub fn disturb(ensemble: &mut Ensemble, proxies: &[Proxy], random: &mut Random) {
    let id = 1 + random.below(3);
    match random.below(4) {
        0 => {
            ensemble.kill(id).expect("the member runs");
            ensemble.wait_formed().expect("two of three go on");
            ensemble.start(id).expect("the member is startable");
        }
        1 => {
            ensemble.freeze(id).expect("the member runs");
            ensemble.wait_leader_other_than(id).expect("two of three go on");
            ensemble.thaw(id).expect("the member is frozen");
        }
        _ => {
            for _ in 0..=random.below(3) {
                proxies.iter().for_each(Proxy::break_connections);
                std::thread::sleep(Duration::from_millis(random.below(10)));
            }
        }
    }
    ensemble.wait_formed().expect("all are there again");
}

/// Disturbs until it is enough, and says how often. Between two disturbances all these clients are connected: disturbed without a pause, a session could
/// expire by bad luck.
pub fn disturb_until(
    ensemble: &mut Ensemble,
    proxies: &[Proxy],
    clients: &[Client],
    random: &mut Random,
    mut is_enough: impl FnMut() -> bool,
) -> usize {
    let begin = Instant::now();
    let mut disturbances = 0;
    while !is_enough() {
        disturb(ensemble, proxies, random);
        disturbances += 1;
        // Whoever waits for a session that has ended says so better.
        let is_settled = |client: &Client| client.state() != SessionState::Disconnected;
        ensemble
            .wait_for("all sessions are connected", |_| Ok(clients.iter().all(is_settled)))
            .expect("servers that run take their clients back");
        // A task that failed can leave the others waiting.
        assert!(begin.elapsed() < HANGS_AFTER, "a task failed or hangs, after {disturbances} disturbances");
    }
    disturbances
}

/// Polls until the condition holds.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(Instant::now() < until, "not after {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The children of a path, however often the connection is lost; a path that is not there has none.
pub async fn children(client: &Client, path: &str) -> Vec<String> {
    loop {
        let names = match client.sync(path).await {
            Ok(()) => client.list_children(path).await,
            Err(error) => Err(error),
        };
        match names {
            Ok(names) => return names,
            Err(zookeeper_client::Error::NoNode) => return Vec::new(),
            Err(zookeeper_client::Error::SessionExpired) => panic!("the session expired"),
            Err(_) => {}
        }
    }
}

/// One hold, from after its beginning until before its end: shorter than it was, so an overlap is an overlap.
#[derive(Debug, Clone, Copy)]
pub struct Hold {
    pub holder: usize,
    pub token: i64,
    pub from: Instant,
    pub until: Instant,
    pub shared: bool,
}

#[derive(Debug, Default)]
pub struct History {
    holds: Mutex<Vec<Hold>>,
}

impl History {
    pub fn record(&self, hold: Hold) {
        self.holds.lock().expect("nobody panicked").push(hold);
    }

    pub fn len(&self) -> usize {
        self.holds.lock().expect("nobody panicked").len()
    }

    /// Nobody holds beside a hold that is not shared, and whoever holds later has the greater token.
    pub fn check(&self) {
        let mut holds = self.holds.lock().expect("nobody panicked").clone();
        holds.sort_by_key(|hold| hold.token);
        for (at, hold) in holds.iter().enumerate() {
            for earlier in &holds[..at] {
                assert_ne!(earlier.token, hold.token, "one token for two holds");
                assert!(
                    (earlier.shared && hold.shared) || earlier.until <= hold.from,
                    "the holder of the greater token came in before the other went: {earlier:?}, {hold:?}"
                );
            }
        }
    }

    /// The greatest number of holds at one moment.
    pub fn most_at_once(&self) -> usize {
        let holds = self.holds.lock().expect("nobody panicked").clone();
        holds
            .iter()
            .map(|one| holds.iter().filter(|other| other.from <= one.from && one.from < other.until).count())
            .max()
            .unwrap_or(0)
    }
}
