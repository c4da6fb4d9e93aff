//! The task of a connection under virtual time: a client is the other end of a pipe that holds a few bytes, and an hour takes no time.
//!
//! The rules by themselves are tested where they are made; here it is shown that the task follows them, whatever it waits for. `tests/turns.rs` is
//! about requests that wait for their turn, `tests/large.rs` about large ones, `tests/slow.rs` about reads that take long.

mod large;
mod slow;
mod turns;

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use rookeeper_proto::connect::{ConnectRequest, ConnectResponse};
use rookeeper_proto::event::AddWatchMode;
use rookeeper_proto::frame::{self, PING_XID, RequestHeader};
use rookeeper_proto::request::SetDataRequest;
use rookeeper_proto::{Acl, OpCode, SessionId, WallMs, Zxid, jute};
use rookeeper_replica::conversation::UNSENT_BYTES;
use rookeeper_replica::{Input, Output, Replica, Settings, Shared};
use rookeeper_tree::{Tree, WatcherId};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::socket::sleep_until;
use super::*;
use crate::clock::Clock;
use crate::config::{Config, Environment, Source};
use crate::observe::figures::Figures;

const TIMEOUT_MS: i32 = 4000;
const TICK_MS: u64 = 2000;

/// Bytes on their way in each direction, as in the buffers of a socket.
const PIPE_BYTES: usize = 4096;

/// A session that is silent ends after its timeout and before this.
const SILENCE: Duration = Duration::from_millis(TIMEOUT_MS as u64 + TICK_MS);

/// Longer than anything here may take.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// A standalone server whose disk answers at once, unless it is told not to.
struct World {
    context: Arc<Context>,
    /// Whether the replica takes requests from its queue.
    takes_requests: watch::Sender<bool>,
    next_id: u64,
}

/// A client's end of a connection, and the task at the other end.
#[derive(Debug)]
struct Client {
    pipe: DuplexStream,
    task: JoinHandle<()>,
    connection: Arc<Connection>,
    session: SessionId,
    received: Vec<u8>,
    next_xid: i32,
}

impl World {
    fn new() -> World {
        World::configured("")
    }

    fn configured(more: &str) -> World {
        World::with(more, Settings::default())
    }

    /// What the configuration does not say is as in `settings`.
    fn with(more: &str, settings: Settings) -> World {
        let text = format!("dataDir=/var/lib/zookeeper\ntickTime={TICK_MS}\nclientPort=0\n{more}");
        let read = |path: &std::path::Path| match path.to_str() {
            Some("zoo.cfg") => Ok(text.clone().into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let (config, _) =
            Config::load_with(Source::File("zoo.cfg".into()), &Environment::default(), &read).expect("it is valid");
        let settings = Settings {
            tick_time_ms: TICK_MS as i64,
            min_session_timeout_ms: TIMEOUT_MS,
            throttle: config.requests.throttle,
            staleness: config.requests.staleness,
            ..settings
        };
        let shared = Arc::new(Shared::new(settings, Tree::new(), WallMs(1)));
        let clock = Clock::start();
        // Nearly no room: a connection whose replica takes nothing waits with its second request.
        let (inputs, received) = mpsc::channel(1);
        let (takes_requests, taking) = watch::channel(true);
        let replica = Replica::new(shared.clone(), clock.now());
        tokio::spawn(drive(replica, clock, received, taking));
        let context = Arc::new(Context::new(config, shared, clock, inputs, 0, Arc::new(Figures::default())));
        World { context, takes_requests, next_id: 1 }
    }

    /// A connection on which nothing was said yet.
    fn accept(&mut self) -> Client {
        let (id, now) = (WatcherId(self.next_id), self.context.clock.now());
        self.next_id += 1;
        let (budget, peer) = (self.context.shared.budget.clone(), ([127, 0, 0, 1], 40_000).into());
        let connection = Arc::new(Connection::within(budget, id, peer, now));
        self.context.shared.add_connection(connection.clone());
        let (pipe, end) = duplex(PIPE_BYTES);
        let task = tokio::spawn(serve(self.context.clone(), end, connection.clone()));
        Client { pipe, task, connection, session: SessionId::NONE, received: Vec::new(), next_xid: 1 }
    }

    async fn connect(&mut self) -> Client {
        self.resume(SessionId::NONE, [0; 16]).await
    }

    async fn resume(&mut self, session: SessionId, password: [u8; 16]) -> Client {
        let mut client = self.accept();
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms: TIMEOUT_MS,
            session,
            password: password.to_vec(),
            read_only: Some(false),
        };
        client.send(&request.encode()).await;
        let response = ConnectResponse::decode(&client.receive().await).expect("it is a ConnectResponse");
        assert_eq!(response.timeout_ms, TIMEOUT_MS);
        client.session = response.session;
        client
    }

    /// A client that keeps its session and reads what it is sent, and a large node beside one that changes all the time.
    async fn busy(&mut self) -> JoinHandle<()> {
        let mut writer = self.connect().await;
        writer.create("/busy", &[]).await;
        writer.create("/large", &[7; 200_000]).await;
        tokio::spawn(async move {
            loop {
                sleep(Duration::from_millis(500)).await;
                let request =
                    SetDataRequest { path: Some("/busy".into()), data: Some(jute::ByteBuf::default()), version: -1 };
                writer.ask(OpCode::SetData, &jute::to_vec(&request)).await;
                writer.receive().await;
            }
        })
    }

    fn has_session(&self, client: &Client) -> bool {
        self.context.shared.tree().session_timeout_ms(client.session).is_some()
    }

    fn connections(&self) -> usize {
        self.context.shared.connection_count()
    }
}

/// Does what the thread of the replica does, with a disk that has written everything at once.
async fn drive(
    mut replica: Replica,
    clock: Clock,
    mut inputs: mpsc::Receiver<Input>,
    mut taking: watch::Receiver<bool>,
) {
    loop {
        let due_ms = replica.deadline().at_latest(clock.monotonic_ms() + 60_000);
        let due = Some(due_ms.map_or_else(tokio::time::Instant::now, |due_ms| clock.instant(due_ms)));
        let takes = *taking.borrow_and_update();
        let input = tokio::select! {
            input = inputs.recv(), if takes => match input {
                Some(input) => input,
                None => return,
            },
            changed = taking.changed() => match changed {
                Ok(()) => continue,
                // The test is over.
                Err(_) => return,
            },
            () = sleep_until(due) => Input::Tick,
        };
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            replica.handle(clock.now(), input);
            while let Some(output) = replica.poll() {
                match output {
                    Output::Append(record) => inputs.push_back(Input::Synced { zxid: record.zxid }),
                    Output::Wake(connection) => connection.outbox.wake(),
                    _ => {}
                }
            }
        }
    }
}

impl Client {
    async fn send(&mut self, payload: &[u8]) {
        let mut bytes = Vec::new();
        frame::append(&mut bytes, |output| output.extend_from_slice(payload));
        self.pipe.write_all(&bytes).await.expect("the server reads");
    }

    fn request(&mut self, op: OpCode, body: &[u8]) -> Vec<u8> {
        let xid = if op == OpCode::Ping { PING_XID } else { self.next_xid };
        self.next_xid += 1;
        let mut payload = jute::to_vec(&RequestHeader { xid, op: op.number() });
        payload.extend_from_slice(body);
        payload
    }

    async fn ask(&mut self, op: OpCode, body: &[u8]) {
        let payload = self.request(op, body);
        self.send(&payload).await;
    }

    /// The next whole frame.
    async fn receive(&mut self) -> Vec<u8> {
        loop {
            if let Some((payload, length)) = frame::split(&self.received, usize::MAX >> 1).expect("a length") {
                let payload = payload.to_vec();
                self.received.drain(..length);
                return payload;
            }
            assert!(self.pipe.read_buf(&mut self.received).await.expect("a pipe") > 0, "the server has closed");
        }
    }

    async fn create(&mut self, path: &str, data: &[u8]) {
        let body = jute::to_vec(&(Some(path), Some(jute::ByteBuf(data.to_vec())), Acl::open(), 0));
        self.ask(OpCode::Create, &body).await;
        let answer = self.receive().await;
        assert_eq!(answer[12..16], [0; 4], "create {path}");
    }

    /// Requests for the large node that fit into the pipe, so that nobody waits for the server to read them.
    async fn ask_for_much(&mut self, count: usize) {
        for _ in 0..count {
            self.ask(OpCode::GetData, &jute::to_vec(&(Some("/large"), false))).await;
        }
    }

    /// Reads until the server closes; how long that took.
    async fn ended_by_silence(&mut self) -> Duration {
        let begin = Instant::now();
        let end = async { while self.pipe.read_buf(&mut self.received).await.expect("a pipe") > 0 {} };
        timeout(FOR_EVER, end).await.expect("the server closes");
        begin.elapsed()
    }

    /// How long it takes until the task has ended.
    async fn ended(&mut self) -> Duration {
        let begin = Instant::now();
        timeout(FOR_EVER, &mut self.task).await.expect("the task ends").expect("without a panic");
        begin.elapsed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_loses_its_session_although_events_are_sent_to_it_all_the_time() {
    let mut world = World::new();
    let _busy = world.busy().await;
    let mut client = world.connect().await;
    client.ask(OpCode::AddWatch, &jute::to_vec(&(Some("/busy"), AddWatchMode::Persistent as i32))).await;
    client.receive().await;
    let silent_since = Instant::now();
    // It reads, and says nothing.
    client.ended_by_silence().await;
    let silence = silent_since.elapsed();
    assert!(silence.as_millis() >= TIMEOUT_MS as u128 && silence <= SILENCE, "{silence:?}");
    assert!(!world.has_session(&client) && client.received.len() > 7 * 40, "events were sent all the time");
    drop(client.pipe);
    assert!(timeout(FOR_EVER, client.task).await.is_ok());
    assert_eq!(world.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_and_goes_on_pinging_loses_its_connection_and_keeps_its_session() {
    let mut world = World::new();
    let _busy = world.busy().await;
    let mut client = world.connect().await;
    client.ask_for_much(50).await;
    let begin = Instant::now();
    while !client.task.is_finished() {
        let payload = client.request(OpCode::Ping, &[]);
        let mut bytes = Vec::new();
        frame::append(&mut bytes, |output| output.extend_from_slice(&payload));
        _ = timeout(Duration::from_millis(500), client.pipe.write_all(&bytes)).await;
        sleep(Duration::from_millis(500)).await;
        let held = client.connection.outbox.unsent_bytes();
        assert!(held <= UNSENT_BYTES + 201_000, "{held} bytes");
        assert!(begin.elapsed() < SILENCE + Duration::from_secs(4), "nothing was taken for longer than the timeout");
    }
    assert!(begin.elapsed().as_millis() >= TIMEOUT_MS as u128);
    assert!(world.has_session(&client), "it may go on elsewhere");
    assert_eq!(world.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_and_says_nothing_loses_its_session() {
    let mut world = World::new();
    let _busy = world.busy().await;
    let mut client = world.connect().await;
    client.ask_for_much(20).await;
    let took = client.ended().await;
    // The pipe is closed in order, which takes another two seconds where the client does not see it.
    assert!(took <= SILENCE + Duration::from_secs(2), "{took:?}");
    sleep(SILENCE).await;
    assert!(!world.has_session(&client));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_the_server_does_not_read_is_not_silent() {
    let mut world = World::new();
    let mut client = world.connect().await;
    client.create("/a", &[]).await;
    // The queue to the replica is full, and the task waits with the next request in its hands.
    world.takes_requests.send_replace(false);
    let request = SetDataRequest { path: Some("/a".into()), data: Some(jute::ByteBuf::default()), version: -1 };
    for _ in 0..5 {
        client.ask(OpCode::SetData, &jute::to_vec(&request)).await;
    }
    sleep(10 * SILENCE).await;
    assert!(world.has_session(&client) && !client.task.is_finished());
    world.takes_requests.send_replace(true);
    for _ in 0..5 {
        assert_eq!(client.receive().await[12..16], [0; 4]);
    }
    // From now on it is silent by itself.
    let took = client.ended_by_silence().await;
    assert!(took <= SILENCE, "{took:?}");
    assert!(!world.has_session(&client));
}

#[tokio::test(start_paused = true)]
async fn a_hang_up_is_seen_while_much_is_unsent() {
    let mut world = World::new();
    let _busy = world.busy().await;
    let mut client = world.connect().await;
    client.ask_for_much(20).await;
    sleep(Duration::from_millis(100)).await;
    assert!(!client.task.is_finished());
    client.pipe.shutdown().await.unwrap();
    assert_eq!(client.ended().await, Duration::ZERO);
    assert_eq!(world.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_resumed_elsewhere_leaves_its_clogged_connection_at_once() {
    let mut world = World::new();
    let _busy = world.busy().await;
    let mut client = world.connect().await;
    client.ask_for_much(20).await;
    sleep(Duration::from_millis(100)).await;
    let password = client.session.password();
    let mut elsewhere = world.resume(client.session, password).await;
    assert_eq!(elsewhere.session, client.session);
    // What the closing in order takes: the old client does not read.
    let took = client.ended().await;
    assert!(took <= Duration::from_secs(2), "{took:?}");
    elsewhere.ask(OpCode::GetData, &jute::to_vec(&(Some("/busy"), false))).await;
    elsewhere.receive().await;
    assert_eq!(world.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_introduce_himself_is_sent_away() {
    let mut world = World::configured("minSessionTimeout=4000\n");
    for said in [&b""[..], &[0, 0], &[0, 0, 0, 45, 0, 0]] {
        let mut client = world.accept();
        client.pipe.write_all(said).await.unwrap();
        let took = client.ended_by_silence().await;
        let limit = world.context.config.client.sessionless_connection_timeout_ms;
        assert_eq!(took.as_millis(), u128::from(limit), "after {said:?}");
    }
    assert_eq!(world.connections(), 0);
}

/// This runtime has one worker, which must not be blocked: Tokio ends the test where that is tried.
#[tokio::test(start_paused = true)]
async fn four_letter_words_are_answered_beside_the_network_worker() {
    let mut world = World::configured("4lw.commands.whitelist=*\n");
    for (word, begin) in [("ruok", "imok"), ("srvr", "Zookeeper version: "), ("dump", "SessionTracker dump:\n")] {
        let mut client = world.accept();
        client.pipe.write_all(word.as_bytes()).await.unwrap();
        let mut text = String::new();
        timeout(FOR_EVER, client.pipe.read_to_string(&mut text)).await.unwrap().unwrap();
        assert!(text.starts_with(begin), "{word}: {text}");
    }
}
