//! What belongs to a client moves with it: its session, its ephemeral nodes, its watches, the order of what it has seen.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use rookeeper_acceptance::client::{Client, Hello, Session, refusal};
use rookeeper_acceptance::ensemble::{DEADLINE, Ensemble, Plan};
use rookeeper_acceptance::server::Product;
use rookeeper_acceptance::wire::{self, Acl, Body, Fields};

const EPHEMERAL: i32 = 1;
const NODE_DELETED: i32 = 2;
const NODE_DATA_CHANGED: i32 = 3;

fn three() -> Ensemble {
    Plan::under_test(3).start().expect("three servers form an ensemble")
}

/// One connection after the other, each time at the next server, as a client does that loses its server.
#[test]
fn a_session_visits_every_server() {
    let ensemble = three();
    let mut client = ensemble.connect(1).expect("a session");
    client.create_with("/mine", Some(b"0"), &Acl::open(), EPHEMERAL).expect("an ephemeral node");
    let session = client.session.clone();
    for round in 0..6_u64 {
        let id = round % 3 + 1;
        let hello = Hello {
            timeout_ms: session.timeout_ms,
            session: Some(&session),
            last_zxid_seen: client.last_zxid_seen,
            ..Hello::default()
        };
        client = retry_while_behind(&hello, &ensemble, id);
        assert_eq!(client.session, session, "the same session at member {id}");
        let (_, stat) = client.get_data("/mine").expect("it has seen its node, so the server must have it");
        assert_eq!(stat.ephemeral_owner, session.id);
        assert_eq!(stat.version as u64, round, "it never goes back in time");
        client.set_data("/mine", round.to_string().as_bytes(), -1).expect("it may write here");
    }
    client.close().expect("an orderly end");
    for id in ensemble.ids() {
        let mut witness = ensemble.connect(id).expect("a session");
        witness.sync().expect("the leader answers");
        assert_eq!(witness.exists("/mine").expect("an answer"), None, "the node goes with its session, at {id}");
        let late = Client::resume(ensemble.address(id), &session).expect("an answer");
        assert_eq!(late.session.id, 0, "a closed session is not taken up again, at {id}");
    }
}

/// A server that is behind the client refuses it; a client tries again.
fn retry_while_behind(hello: &Hello<'_>, ensemble: &Ensemble, id: u64) -> Client {
    let until = Instant::now() + DEADLINE;
    loop {
        match hello.connect(ensemble.address(id)) {
            Ok(client) => return client,
            Err(error) if Instant::now() > until => panic!("member {id}: {error:#}"),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Two connections claim a session: the later one has it, and the earlier one cannot write any more.
#[test]
fn the_last_connection_owns_the_session() {
    let ensemble = three();
    let mut first = ensemble.connect(1).expect("a session");
    first.create("/owned", b"0").expect("a node");
    let mut second = Client::resume(ensemble.address(2), &first.session).expect("the same session elsewhere");
    second.set_data("/owned", b"2", -1).expect("it owns the session now");
    let old = first.set_data("/owned", b"1", -1);
    assert!(old.is_err(), "the first connection has lost the session");
    if let Some(error) = refusal(&old) {
        assert_eq!(error, wire::SESSION_MOVED);
    }
    assert_eq!(second.get_data("/owned").expect("a read").0.as_deref(), Some(&b"2"[..]));
}

#[test]
fn sessions_expire_everywhere_and_take_their_nodes_along() {
    let ensemble = three();
    let mut witness = ensemble.connect(3).expect("a session");
    let mut mortals: Vec<Client> = Vec::new();
    for id in ensemble.ids() {
        let mut mortal = Client::connect_with(ensemble.address(id), 1_000, None, 0).expect("a session");
        assert_eq!(mortal.session.timeout_ms, 1_000);
        mortal.create_with(&format!("/mortal-{id}"), None, &Acl::open(), EPHEMERAL).expect("an ephemeral node");
        mortals.push(mortal);
    }
    let until = Instant::now() + DEADLINE;
    while witness.children("/").expect("an answer").iter().any(|name| name.starts_with("mortal")) {
        assert!(Instant::now() < until, "nobody pings for them, so they expire");
        thread::sleep(Duration::from_millis(20));
    }
    for (mut mortal, id) in mortals.into_iter().zip(ensemble.ids()) {
        assert!(mortal.at_end().expect("the end"), "the connection at {id} is closed");
        let other = id % 3 + 1;
        let late = Client::resume(ensemble.address(other), &mortal.session).expect("an answer");
        assert_eq!(late.session.id, 0, "the session of {id} is gone at {other}");
    }
}

/// A session that is pinged at a follower stays, although only the leader counts the time. Where the machine lets this test wait for
/// longer than its session lives, it begins anew.
#[test]
fn pings_at_a_follower_keep_a_session() {
    const TIMEOUT: Duration = Duration::from_millis(2_400);
    let mut ensemble = three();
    let follower = ensemble.followers().expect("two follow")[0];
    let until = Instant::now() + DEADLINE;
    while !is_kept_by_pings(ensemble.address(follower), TIMEOUT) {
        assert!(Instant::now() < until, "this machine never lets a client ping in time");
    }
}

/// Whether a session outlives three of its timeouts by pings; `false` too if they came too late to say so.
fn is_kept_by_pings(address: SocketAddr, timeout: Duration) -> bool {
    let mut client = Client::connect_with(address, timeout.as_millis() as i32, None, 0).expect("a session");
    client.create("/alive", b"").ok();
    let path = format!("/alive/{:x}", client.session.id);
    client.create_with(&path, None, &Acl::open(), EPHEMERAL).expect("an ephemeral node");
    let end = Instant::now() + 3 * timeout;
    let mut last = Instant::now();
    while last < end {
        thread::sleep(timeout / 8);
        let answered = client.call(wire::PING, &Body::new());
        // A leader hears of pings at its followers once in half a tick.
        if last.elapsed() > timeout / 3 {
            return false;
        }
        answered.expect("an answer to a ping that came in time");
        last = Instant::now();
    }
    client.exists(&path).expect("an answer").expect("three timeouts later it is there");
    true
}

fn watch_data(client: &mut Client, path: &str) {
    let reply = client.call(wire::GET_DATA, &Body::new().string(path).bool(true)).expect("an answer");
    assert_eq!(reply.error, 0);
}

fn next_event(client: &mut Client) -> (i32, String) {
    let event = match client.events.is_empty() {
        false => client.events.remove(0),
        true => client.receive_any().expect("an event").expect("the connection stays"),
    };
    assert_eq!(event.xid, -1);
    let mut fields = Fields(&event.body);
    let kind = fields.int().expect("the kind");
    fields.int().expect("the state");
    (kind, fields.string().expect("the path"))
}

/// A change at one server reaches the watches of clients at all of them.
#[test]
fn watches_fire_at_every_server() {
    let ensemble = three();
    let mut writer = ensemble.connect(1).expect("a session");
    writer.create("/watched", b"").expect("a node");
    let mut watchers: Vec<Client> = ensemble.ids().iter().map(|id| ensemble.connect(*id).expect("a session")).collect();
    for watcher in &mut watchers {
        watcher.sync().expect("the leader answers");
        watch_data(watcher, "/watched");
    }
    writer.set_data("/watched", b"x", -1).expect("a change");
    for watcher in &mut watchers {
        assert_eq!(next_event(watcher), (NODE_DATA_CHANGED, "/watched".to_owned()));
        assert_eq!(watcher.get_data("/watched").expect("a read").0.as_deref(), Some(&b"x"[..]));
    }
}

/// What happened while a client was away is told when it comes back, also by another server.
#[test]
fn watches_survive_a_move_over_a_change() {
    let mut ensemble = three();
    let followers = ensemble.followers().expect("two follow");
    let (home, other) = (followers[0], followers[1]);
    let mut client = ensemble.connect(home).expect("a session");
    for path in ["/changed", "/deleted", "/same"] {
        client.create(path, b"").expect("a node");
        watch_data(&mut client, path);
    }
    ensemble.kill(home).expect("it runs");
    let mut writer = ensemble.connect(other).expect("a session");
    writer.set_data("/changed", b"x", -1).expect("a change");
    writer.delete("/deleted").expect("a change");

    let hello = Hello { session: Some(&client.session), last_zxid_seen: client.last_zxid_seen, ..Hello::default() };
    let mut moved = retry_while_behind(&hello, &ensemble, other);
    assert_eq!(moved.session.id, client.session.id);
    let body = Body::new().long(client.last_zxid_seen).int(3).string("/changed").string("/deleted").string("/same");
    moved.call(wire::SET_WATCHES, &body.int(0).int(0)).expect("an answer").ok().expect("watches are set");
    let mut events = vec![next_event(&mut moved), next_event(&mut moved)];
    events.sort();
    assert_eq!(events, [(NODE_DELETED, "/deleted".to_owned()), (NODE_DATA_CHANGED, "/changed".to_owned())]);
    writer.set_data("/same", b"x", -1).expect("a change");
    assert_eq!(next_event(&mut moved), (NODE_DATA_CHANGED, "/same".to_owned()), "this watch is still set");
}

/// Every client loses its server at once and comes back to another one: nobody's session is lost on the way.
///
/// `ROOKEEPER_SESSIONS=10000` for the whole number.
#[test]
fn many_sessions_outlive_their_leader() {
    const WORKERS: usize = 4;
    let count = match std::env::var("ROOKEEPER_SESSIONS") {
        Ok(text) => text.parse().expect("ROOKEEPER_SESSIONS is a number"),
        Err(_) if Product::under_test() == Product::Apache => 500,
        Err(_) => 2000,
    };
    let mut ensemble = three();
    let leader = ensemble.leader().expect("one leads");
    let addresses: Vec<_> =
        ensemble.ids().into_iter().filter(|id| *id != leader).map(|id| ensemble.address(id)).collect();
    let all = ensemble.addresses();
    let per_worker = |work: &(dyn Fn(usize) -> (Client, Session) + Sync)| -> Vec<(Client, Session)> {
        thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS)
                .map(|worker| scope.spawn(move || (worker..count).step_by(WORKERS).map(work).collect::<Vec<_>>()))
                .collect();
            let mut clients: Vec<_> =
                workers.into_iter().flat_map(|worker| worker.join().expect("no client fails")).collect();
            clients.sort_by_key(|(_, session)| session.id);
            clients
        })
    };
    let mut clients = per_worker(&|index| {
        let mut client = Client::connect_with(all[index % 3], 60_000, None, 0).expect("a session");
        if index % 10 == 0 {
            let path = format!("/of-{:x}", client.session.id);
            client.create_with(&path, None, &Acl::open(), EPHEMERAL).expect("an ephemeral node");
        }
        let session = client.session.clone();
        (client, session)
    });
    ensemble.kill(leader).expect("it runs");
    ensemble.wait_leader_other_than(leader).expect("another one leads");
    let sessions: Vec<Session> = clients.drain(..).map(|(_, session)| session).collect();
    let resumed = per_worker(&|index| {
        let until = Instant::now() + DEADLINE;
        loop {
            match Client::resume(addresses[index % 2], &sessions[index]) {
                Ok(client) => return (client, sessions[index].clone()),
                Err(error) if Instant::now() > until => panic!("{error:#}"),
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    });
    let expired = resumed.iter().filter(|(client, session)| client.session.id != session.id).count();
    assert_eq!(expired, 0, "of {count} sessions");
    let mut witness = Client::connect(addresses[0]).expect("a session");
    witness.sync().expect("the leader answers");
    let nodes = witness.children("/").expect("a read").into_iter().filter(|name| name.starts_with("of-")).count();
    assert_eq!(nodes, count.div_ceil(10), "every ephemeral node is there");
}
