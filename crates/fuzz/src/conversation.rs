//! Whole conversations: the bytes of up to four clients, from frame splitting through decoding and a replica to the answers.
//!
//! The way of a frame is that of the server's connection task. What always holds:
//! - every request is answered, in order, as long as its connection lives; what is answered is framed and decodes;
//! - a client never goes back in time: zxids in its answers only grow;
//! - the log of the conversation, replayed, gives the same tree, with the digests that were written into it.
//!
//! The input: one byte of [settings](Script), then steps: a byte that says who acts and what happens after ([`Step`]), two bytes of length, and as
//! many bytes that this client sends. In a ConnectRequest, session ids 1 to 4 stand for the session of that client, and a password of
//! zeros for the right one; so an input that was once recorded stays valid.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use rookeeper_proto::connect::{ConnectRequest, ConnectResponse};
use rookeeper_proto::event::{NOTIFICATION_XID, WatcherEvent};
use rookeeper_proto::frame::{self, DEFAULT_MAX_BUFFER_BYTES, PING_XID, ReplyHeader, RequestHeader};
use rookeeper_proto::jute::Buffer;
use rookeeper_proto::request::{AuthRequest, WriteRequest};
use rookeeper_proto::{ErrorCode, Id, MonotonicMs, OpCode, SessionId, TxnRecord, WallMs, Zxid, jute};
use rookeeper_replica::{Connection, Drained, Input, Output, ReadFrame, Replica, Settings, Shared, Stamp, Time, read};
use rookeeper_tree::{DigestAlgorithm, Tree, WatcherId, access};

use crate::replay;

const CLIENTS: usize = 4;
const WALL_MS: i64 = 1_000_000;
const TICK_MS: i64 = 2000;

/// `globalOutstandingLimit`, small enough to be met.
const OUTSTANDING_LIMIT: usize = 100;

/// What can be read back from a log.
const MAX_RECORD_BYTES: usize = rookeeper_store::MAX_RECORD_BYTES;

pub fn run(bytes: &[u8]) {
    let Some((flags, rest)) = bytes.split_first() else { return };
    let mut script = Script::new(*flags, Tree::new());
    let mut rest = rest;
    while let Some(([control, high, low], after)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (sent, next) = after.split_at(length);
        rest = next;
        script.step(usize::from(control & 3), Step::from_bits(control >> 2), sent);
    }
    script.end();
}

/// A recovered tree goes into service: its sessions expire, its containers and TTL nodes are reaped, a client comes and looks around.
pub(crate) fn go_live(tree: Tree) {
    let mut script = Script::new(0, tree);
    let hello = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms: 4000,
        session: SessionId::NONE,
        password: vec![0; 16],
        read_only: Some(false),
    };
    script.step(0, Step::Sync, &framed(&hello.encode()));
    let sequential = [create(1, "/", 2), create(2, "/zookeeper/quota/", 3), create(3, "/a/b-", 2)].concat();
    script.step(0, Step::Sync, &sequential);
    for (xid, path) in ["/", "/zookeeper", "/zookeeper/quota", "/a"].into_iter().enumerate() {
        for op in [OpCode::GetData, OpCode::GetChildren2, OpCode::GetAcl, OpCode::GetAllChildrenNumber] {
            let header = RequestHeader { xid: xid as i32, op: op.number() };
            script.step(0, Step::Nothing, &framed(&jute::to_vec(&(header, path, true))));
        }
    }
    for ms in [5000, 70_000, 70_000, i64::from(i32::MAX)] {
        script.step(0, Step::Pass { ms }, &[]);
        script.step(0, Step::Sync, &[]);
    }
    script.end();
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame::append(&mut frame, |output| output.extend_from_slice(payload));
    frame
}

fn create(xid: i32, path: &str, flags: i32) -> Vec<u8> {
    let header = RequestHeader { xid, op: OpCode::Create.number() };
    framed(&jute::to_vec(&(header, path, Buffer(b"x"), rookeeper_proto::Acl::open(), flags)))
}

/// What happens once the bytes have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing: the disk is slow.
    Nothing,
    /// The disk makes everything durable.
    Sync,
    /// The disk makes one transaction durable.
    SyncOne,
    /// The client hangs up, and dials again with its next bytes.
    HangUp,
    Pass {
        ms: i64,
    },
}

impl Step {
    fn from_bits(bits: u8) -> Step {
        match bits & 7 {
            0 => Step::Nothing,
            2 => Step::SyncOne,
            3 => Step::HangUp,
            4 => Step::Pass { ms: 100 },
            5 => Step::Pass { ms: 5000 },
            6 => Step::Pass { ms: 70_000 },
            _ => Step::Sync,
        }
    }
}

/// A server of one, its disk, and the clients.
struct Script {
    now_ms: MonotonicMs,
    replica: Replica,
    shared: Arc<Shared>,
    before: Tree,
    log: Vec<Vec<u8>>,
    last_logged: Zxid,
    unsynced: VecDeque<Zxid>,
    next_connection: u64,
    clients: [Client; CLIENTS],
}

#[derive(Default)]
struct Client {
    line: Option<Line>,
    /// The last one granted, over all its connections.
    session: SessionId,
}

/// One connection and what is expected of it.
struct Line {
    connection: Arc<Connection>,
    input: Vec<u8>,
    has_asked_to_connect: bool,
    is_welcomed: bool,
    /// The xids of requests that wait for their answers.
    asked: VecDeque<i32>,
    /// Whether a request bore the xid of notifications: then answers and events can't be told apart.
    is_ambiguous: bool,
    last_seen: Zxid,
}

impl Script {
    fn new(flags: u8, tree: Tree) -> Script {
        let settings = Settings {
            tick_time_ms: TICK_MS,
            min_session_timeout_ms: 4000,
            extended_types: flags & 1 != 0,
            enforce_quota: flags & 2 != 0,
            digests: flags & 4 == 0,
            reconfig: flags & 8 != 0,
            ..Settings::default()
        };
        let (before, last_logged) = (replay::through_snapshot(&tree), tree.last_zxid());
        let shared = Arc::new(Shared::new(settings, tree, WallMs(WALL_MS)));
        let replica = Replica::new(shared.clone(), Time::of_ms(MonotonicMs(0), WallMs(WALL_MS)));
        Script {
            now_ms: MonotonicMs(0),
            replica,
            shared,
            before,
            log: Vec::new(),
            last_logged,
            unsynced: VecDeque::new(),
            next_connection: 1,
            clients: Default::default(),
        }
    }

    fn step(&mut self, client: usize, step: Step, sent: &[u8]) {
        if !sent.is_empty() {
            self.dial(client);
            if let Some(line) = &mut self.clients[client].line {
                line.input.extend_from_slice(sent);
            }
            self.look(client);
        }
        match step {
            Step::Nothing => {}
            Step::Sync => self.sync(),
            Step::SyncOne => {
                if let Some(zxid) = self.unsynced.pop_front() {
                    self.handle(Input::Synced { zxid });
                }
            }
            Step::HangUp => self.hang_up(client),
            Step::Pass { ms } => {
                self.now_ms += ms;
                self.handle(Input::Tick);
            }
        }
        for client in 0..CLIENTS {
            self.receive(client);
            self.look(client);
        }
    }

    fn now(&self) -> Time {
        Time::of_ms(self.now_ms, WallMs(WALL_MS + self.now_ms.0))
    }

    fn handle(&mut self, input: Input) {
        self.replica.handle(self.now(), input);
        while let Some(output) = self.replica.poll() {
            match output {
                Output::Append(record) => {
                    let (zxid, body) = (record.zxid, record.body().to_vec());
                    assert!(body.len() <= MAX_RECORD_BYTES, "a record of {} bytes can't be read back", body.len());
                    let next = self.last_logged.next().unwrap_or_else(|| Zxid::new(self.last_logged.epoch().next(), 1));
                    assert_eq!(zxid, next, "transactions follow one another");
                    self.last_logged = zxid;
                    self.unsynced.push_back(zxid);
                    self.log.push(body);
                }
                Output::DigestMismatch { zxid, expected, actual } => {
                    panic!("digest at {zxid}: predicted {expected:x}, computed {actual:x}")
                }
                Output::Wake(_)
                | Output::SessionOpened { .. }
                | Output::SessionExpired { .. }
                | Output::SessionClosed { .. } => {}
                other => panic!("a standalone server has no use for {other:?}"),
            }
        }
    }

    fn sync(&mut self) {
        while let Some(zxid) = self.unsynced.back().copied() {
            self.unsynced.clear();
            self.handle(Input::Synced { zxid });
        }
    }

    fn dial(&mut self, client: usize) {
        if self.clients[client].line.is_some() {
            return;
        }
        let id = WatcherId(self.next_connection);
        self.next_connection += 1;
        let peer = ([127, 0, 0, 1], 4711).into();
        let connection = Arc::new(Connection::new(id, peer, self.now()));
        self.shared.add_connection(connection.clone());
        self.clients[client].line = Some(Line {
            connection,
            input: Vec::new(),
            has_asked_to_connect: false,
            is_welcomed: false,
            asked: VecDeque::new(),
            is_ambiguous: false,
            last_seen: Zxid::ZERO,
        });
    }

    fn hang_up(&mut self, client: usize) {
        let Some(line) = self.clients[client].line.take() else { return };
        self.shared.remove_connection(&line.connection);
        if line.connection.is_established() {
            self.handle(Input::Disconnected { connection: line.connection });
        }
    }

    /// Looks at the frames that have arrived, as the server's connection task does.
    fn look(&mut self, client: usize) {
        let Some(line) = &mut self.clients[client].line else { return };
        let input = mem::take(&mut line.input);
        let mut rest = input.as_slice();
        loop {
            let Some(line) = &self.clients[client].line else { return };
            let is_waiting = line.has_asked_to_connect && !line.connection.is_established();
            if is_waiting || !line.connection.outbox.is_open() {
                break;
            }
            if self.shared.outstanding() > OUTSTANDING_LIMIT && line.connection.in_flight() > 0 {
                self.sync();
            }
            let (payload, length) = match frame::split(rest, DEFAULT_MAX_BUFFER_BYTES) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(_) => return self.hang_up(client),
            };
            rest = &rest[length..];
            if self.take_in(client, payload).is_none() {
                return self.hang_up(client);
            }
        }
        if let Some(line) = &mut self.clients[client].line {
            line.input = rest.to_vec();
        }
    }

    /// Takes in one frame. `None`: the connection is not worth keeping.
    fn take_in(&mut self, client: usize, payload: &[u8]) -> Option<()> {
        let sessions = self.clients.each_ref().map(|client| client.session);
        let line = self.clients[client].line.as_mut()?;
        let connection = line.connection.clone();
        connection.heard(self.now_ms);
        if !line.has_asked_to_connect {
            line.has_asked_to_connect = true;
            let mut request = ConnectRequest::decode(payload).ok()?;
            if let index @ 1..=4 = request.session.0 {
                request.session = sessions[index as usize - 1];
            }
            if request.session != SessionId::NONE && request.password == [0; 16] {
                request.password = request.session.password().to_vec();
            }
            self.handle(Input::Connect { connection, request });
            return Some(());
        }
        let (header, body) = RequestHeader::split(payload)?;
        let xid = header.xid;
        let Some(op) = OpCode::from_i32(header.op).filter(|op| op.is_client_request()) else {
            self.sync();
            self.receive(client);
            self.refuse(client, xid, ErrorCode::Unimplemented);
            return Some(());
        };
        match op {
            OpCode::Auth => {
                let request: AuthRequest<'_> = jute::from_slice(body).ok()?;
                self.receive(client);
                match (request.scheme.as_deref(), request.auth) {
                    (Some("digest"), Some(secret)) => {
                        let id = access::digest_id(&secret, DigestAlgorithm::Sha1);
                        if connection.add_identities([Id::new("digest", id)]) {
                            self.reply_at_once(client, xid, 0, &[]);
                        } else {
                            self.refuse(client, xid, ErrorCode::AuthFailed);
                        }
                    }
                    (Some("ip"), _) => self.reply_at_once(client, xid, 0, &[]),
                    _ => self.refuse(client, xid, ErrorCode::AuthFailed),
                }
            }
            OpCode::Sasl => {
                body.first_chunk::<4>().filter(|length| i32::from_be_bytes(**length) >= 0)?;
                self.receive(client);
                self.reply_at_once(client, xid, 0, &[0xff; 4]);
            }
            op if op.is_write() => {
                let request = WriteRequest::decode(op, body).ok();
                let identities = connection.identities();
                self.expect(client, xid);
                self.shared.submit(&connection);
                self.handle(Input::Write {
                    connection,
                    xid,
                    op,
                    request,
                    body: Vec::new(),
                    identities,
                    arrived: Stamp::default(),
                    sampled: None,
                });
            }
            op => {
                self.expect(client, if op == OpCode::Ping { PING_XID } else { xid });
                let identities = connection.identities();
                if connection.in_flight() == 0 {
                    let tree = self.shared.tree();
                    self.shared.serve_deferred_to(&connection);
                    let mut answer = Vec::new();
                    let request = (xid, op, body);
                    let frames = read::answer(&self.shared, &tree, &connection, &identities, request, &mut answer);
                    connection.outbox.append_frames(frames, |output| output.append(&mut answer));
                } else {
                    self.shared.submit(&connection);
                    let read = ReadFrame {
                        xid,
                        op,
                        body: body.to_vec(),
                        identities,
                        received_ms: self.now_ms,
                        arrived: Stamp::default(),
                        audited: None,
                    };
                    self.handle(Input::Read { connection, read });
                }
                self.receive(client);
            }
        }
        Some(())
    }

    fn expect(&mut self, client: usize, xid: i32) {
        if let Some(line) = &mut self.clients[client].line {
            line.asked.push_back(xid);
            line.is_ambiguous |= xid == NOTIFICATION_XID;
        }
    }

    /// Authentication is answered ahead of what is on its way.
    fn reply_at_once(&mut self, client: usize, xid: i32, err: i32, body: &[u8]) {
        let Some(line) = &mut self.clients[client].line else { return };
        line.asked.push_front(xid);
        line.is_ambiguous |= xid == NOTIFICATION_XID;
        let header = ReplyHeader { xid, zxid: Zxid::ZERO, err };
        line.connection.outbox.append(|output| {
            frame::append(output, |output| {
                jute::append(output, &header);
                output.extend_from_slice(body);
            });
        });
        self.receive(client);
    }

    fn refuse(&mut self, client: usize, xid: i32, code: ErrorCode) {
        self.reply_at_once(client, xid, code.number(), &[]);
        if let Some(line) = &self.clients[client].line {
            line.connection.outbox.finish();
        }
    }

    /// Takes what the server has for a client and compares it with what the client waits for.
    fn receive(&mut self, client: usize) {
        let client_state = &mut self.clients[client];
        let Some(line) = &mut client_state.line else { return };
        let mut received = Vec::new();
        let drained = line.connection.outbox.take(&mut received);
        if drained == Drained::Closed {
            return self.hang_up(client);
        }
        let mut rest = received.as_slice();
        while let Some((payload, length)) = frame::split(rest, usize::MAX).expect("the server frames its answers") {
            rest = &rest[length..];
            if line.is_welcomed {
                line.receive(payload);
            } else {
                line.is_welcomed = true;
                let response = ConnectResponse::decode(payload).expect("the first frame is a ConnectResponse");
                if response.timeout_ms > 0 {
                    client_state.session = response.session;
                }
            }
        }
        assert!(rest.is_empty(), "an answer that is not whole");
        if drained == Drained::Last {
            self.hang_up(client);
        }
    }

    /// The disk catches up, everybody gets what is theirs, and the log must tell the same story as the tree.
    fn end(mut self) {
        self.sync();
        for client in 0..CLIENTS {
            self.receive(client);
            self.look(client);
        }
        self.sync();
        for client in 0..CLIENTS {
            self.receive(client);
            let Some(line) = &self.clients[client].line else { continue };
            assert_eq!(line.connection.in_flight(), 0, "requests that nobody settled");
            assert!(line.asked.is_empty() || line.is_ambiguous, "requests without an answer: {:?}", line.asked);
        }
        assert_eq!(self.replica.in_flight(), 0);
        let tree = self.shared.tree();
        replay::check(&tree);
        let mut again = self.before;
        let mut changes = Vec::new();
        for body in &self.log {
            let record = TxnRecord::decode(body).expect("the replica writes records it can read");
            changes.clear();
            again.apply(&record.header, record.txn, &mut changes);
            if let Some(digest) = record.digest {
                assert_eq!(digest.value, again.digest(), "digest of {} on replay", record.header.zxid);
            }
        }
        assert_eq!(again.last_zxid(), tree.last_zxid());
        assert_eq!((again.digest(), again.node_count()), (tree.digest(), tree.node_count()));
        assert_eq!((again.session_count(), again.ephemeral_count()), (tree.session_count(), tree.ephemeral_count()));
        assert_eq!(again.approximate_data_size(), tree.approximate_data_size());
    }
}

impl Line {
    fn receive(&mut self, payload: &[u8]) {
        let (header, body) = jute::from_slice_with_rest::<ReplyHeader>(payload).expect("every frame has a header");
        if header.zxid.0 > 0 {
            assert!(header.zxid >= self.last_seen, "{} after {}", header.zxid, self.last_seen);
            self.last_seen = header.zxid;
        }
        if self.is_ambiguous {
            return;
        }
        if header.xid == NOTIFICATION_XID {
            let event: WatcherEvent<'_> = jute::from_slice(body).expect("a notification holds an event");
            assert!((1..=4).contains(&event.event_type), "event of type {}", event.event_type);
            return;
        }
        assert_eq!(self.asked.pop_front(), Some(header.xid), "answers come in the order of requests");
        assert!(header.err == 0 || ErrorCode::from_i32(header.err).is_some(), "error {}", header.err);
    }
}
