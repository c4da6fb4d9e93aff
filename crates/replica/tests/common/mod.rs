//! A server of one with a disk that answers when the test says so, and clients whose every received frame is readable text. Whole
//! ensembles are in [`ensemble`].

#![allow(dead_code)]

pub mod ensemble;

use std::collections::VecDeque;
use std::sync::Arc;

use rookeeper_proto::acl::AclRequest;
use rookeeper_proto::connect::{ConnectRequest, ConnectResponse};
use rookeeper_proto::event::WatcherEvent;
use rookeeper_proto::frame::{self, ReplyHeader};
use rookeeper_proto::jute::{self, ByteBuf};
use rookeeper_proto::multi::WriteOp;
use rookeeper_proto::request::{CreateRequest, PathVersionRequest, SetDataRequest, WriteRequest};
use rookeeper_proto::{ErrorCode, MonotonicMs, OpCode, Permissions, SessionId, TxnRecord, WallMs, Zxid};
use rookeeper_replica::{Connection, Drained, Input, Output, ReadFrame, Replica, Settings, Shared, Store, Time};
use rookeeper_tree::{Tree, WatcherId};

pub struct World {
    pub now_ms: MonotonicMs,
    pub replica: Replica,
    pub shared: Arc<Shared>,
    /// What the log was asked to keep.
    pub log: Vec<TxnRecord>,
    /// Appended and not yet reported as durable.
    unsynced: VecDeque<Zxid>,
    next_connection: u64,
    pub notices: Vec<String>,
    /// What it told the audit log.
    pub audit: Vec<String>,
    /// What the storage was asked for besides the log.
    pub stores: VecDeque<Store>,
}

pub struct Client {
    pub connection: Arc<Connection>,
    pub session: SessionId,
    next_xid: i32,
}

impl World {
    pub fn new() -> World {
        World::with(Settings { tick_time_ms: 2000, min_session_timeout_ms: 4000, ..Settings::default() }, Tree::new())
    }

    pub fn with(settings: Settings, tree: Tree) -> World {
        let now = Time::of_ms(MonotonicMs(0), WallMs(1_000_000));
        let shared = Arc::new(Shared::new(settings, tree, now.wall_ms));
        let replica = Replica::new(shared.clone(), now);
        let (log, unsynced, notices, audit, stores) = Default::default();
        World { now_ms: MonotonicMs(0), replica, shared, log, unsynced, next_connection: 1, notices, audit, stores }
    }

    pub fn now(&self) -> Time {
        Time::of_ms(self.now_ms, WallMs(1_000_000 + self.now_ms.0))
    }

    pub fn handle(&mut self, input: Input) {
        self.replica.handle(self.now(), input);
        while let Some(output) = self.replica.poll() {
            match output {
                Output::Append(record) => {
                    self.unsynced.push_back(record.zxid);
                    self.log.push(TxnRecord::decode(record.body()).expect("the replica writes records it can read"));
                }
                Output::Wake(_) | Output::SessionOpened { .. } => {}
                Output::Audited { .. } | Output::EphemeralsDeleted { .. } => self.audit.push(audit_line(&output)),
                Output::Store(store) => self.stores.push_back(store),
                other => self.notices.push(format!("{other:?}")),
            }
        }
    }

    /// The disk catches up.
    pub fn sync(&mut self) {
        let last = self.unsynced.drain(..).next_back();
        if let Some(last) = last {
            self.handle(Input::Synced { zxid: last });
        }
    }

    /// The disk makes one more transaction durable.
    pub fn sync_one(&mut self) {
        if let Some(zxid) = self.unsynced.pop_front() {
            self.handle(Input::Synced { zxid });
        }
    }

    pub fn pass_ms(&mut self, ms: i64) {
        self.now_ms += ms;
        self.handle(Input::Tick);
    }

    fn accept(&mut self) -> Arc<Connection> {
        self.accept_from("127.0.0.1:4711")
    }

    /// A connection from this address, on which nothing was said yet.
    pub fn accept_from(&mut self, peer: &str) -> Arc<Connection> {
        let (id, peer) = (WatcherId(self.next_connection), peer.parse().expect("an address"));
        self.next_connection += 1;
        let budget = self.shared.budget.clone();
        let connection = Arc::new(Connection::within(budget, id, peer, self.now()));
        self.shared.add_connection(connection.clone());
        connection
    }

    /// Sends a ConnectRequest and gives back the raw connection.
    pub fn dial(&mut self, session: SessionId, password: [u8; 16], last_zxid_seen: Zxid) -> Arc<Connection> {
        let connection = self.accept();
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen,
            timeout_ms: 4000,
            session,
            password: password.to_vec(),
            read_only: Some(false),
        };
        self.handle(Input::Connect { connection: connection.clone(), request });
        connection
    }

    /// A client with a new session.
    pub fn connect(&mut self) -> Client {
        let connection = self.dial(SessionId::NONE, [0; 16], Zxid(0));
        self.sync();
        let response = handshake(&connection).expect("a new session is granted");
        Client { connection, session: response.session, next_xid: 1 }
    }

    /// The same session on another connection.
    pub fn reconnect(&mut self, client: &Client) -> Option<Client> {
        let connection = self.dial(client.session, client.session.password(), Zxid(0));
        let response = handshake(&connection)?;
        (response.timeout_ms > 0).then_some(Client { connection, session: response.session, next_xid: 100 })
    }

    pub fn write(&mut self, client: &mut Client, op: OpCode, request: WriteRequest) {
        let xid = client.next_xid();
        let connection = client.connection.clone();
        self.shared.submit(&connection);
        let identities = connection.identities();
        connection.heard(self.now_ms);
        self.handle(Input::Write {
            connection,
            xid,
            op,
            request: Some(request),
            body: Vec::new(),
            identities,
            arrived: self.now().stamp,
            sampled: None,
        });
    }

    /// Goes the way the connection's task would choose.
    pub fn read(&mut self, client: &mut Client, op: OpCode, body: Vec<u8>) {
        let xid = client.next_xid();
        let connection = client.connection.clone();
        let identities = connection.identities();
        connection.heard(self.now_ms);
        if connection.in_flight() == 0 {
            let tree = self.shared.tree();
            self.shared.serve_deferred_to(&connection);
            let mut answer = Vec::new();
            let request = (xid, op, body.as_slice());
            let frames =
                rookeeper_replica::read::answer(&self.shared, &tree, &connection, &identities, request, &mut answer);
            connection.outbox.append_frames(frames, |output| output.append(&mut answer));
            return;
        }
        self.shared.submit(&connection);
        let read =
            ReadFrame { xid, op, body, identities, received_ms: self.now_ms, arrived: self.now().stamp, audited: None };
        self.handle(Input::Read { connection, read });
    }

    pub fn create(&mut self, client: &mut Client, path: &str) {
        self.write(client, OpCode::Create, WriteRequest::Create(create(path, b"", 0)));
    }

    pub fn create_with(&mut self, client: &mut Client, path: &str, data: &[u8], flags: i32) {
        self.write(client, OpCode::Create, WriteRequest::Create(create(path, data, flags)));
    }

    pub fn set(&mut self, client: &mut Client, path: &str, data: &[u8]) {
        let request = SetDataRequest { path: Some(path.into()), data: Some(ByteBuf(data.to_vec())), version: -1 };
        self.write(client, OpCode::SetData, WriteRequest::SetData(request));
    }

    pub fn delete(&mut self, client: &mut Client, path: &str) {
        self.write(client, OpCode::Delete, WriteRequest::Delete(path_version(path, -1)));
    }

    pub fn multi(&mut self, client: &mut Client, ops: Vec<WriteOp>) {
        self.write(client, OpCode::Multi, WriteRequest::Multi(ops));
    }

    pub fn get(&mut self, client: &mut Client, path: &str, watch: bool) {
        self.read(client, OpCode::GetData, jute::to_vec(&(Some(path), watch)));
    }

    pub fn exists(&mut self, client: &mut Client, path: &str, watch: bool) {
        self.read(client, OpCode::Exists, jute::to_vec(&(Some(path), watch)));
    }

    pub fn children(&mut self, client: &mut Client, path: &str, watch: bool) {
        self.read(client, OpCode::GetChildren, jute::to_vec(&(Some(path), watch)));
    }
}

impl Client {
    /// Speaks on the connection of another.
    pub fn on(connection: Arc<Connection>, session: SessionId) -> Client {
        Client { connection, session, next_xid: 1000 }
    }

    pub fn next_xid(&mut self) -> i32 {
        self.next_xid += 1;
        self.next_xid - 1
    }

    /// Everything received since the last look, one line a frame: `xid ok`, `xid error`, `event type path`.
    pub fn received(&self) -> Vec<String> {
        frames(&self.connection).iter().map(|payload| describe(payload)).collect()
    }

    /// The bodies of answers received since the last look, by xid.
    pub fn bodies(&self) -> Vec<(i32, Vec<u8>)> {
        let split = |payload: Vec<u8>| {
            let (header, rest) =
                jute::from_slice_with_rest::<ReplyHeader>(&payload).expect("every frame begins with a header");
            (header.xid, rest.to_vec())
        };
        frames(&self.connection).into_iter().map(split).collect()
    }

    pub fn is_cut(&self) -> bool {
        self.connection.outbox.take(&mut Vec::new()) == Drained::Closed
    }
}

pub fn create(path: &str, data: &[u8], flags: i32) -> CreateRequest {
    let acl = AclRequest { permissions: Permissions::ALL, scheme: Some("world".into()), id: Some("anyone".into()) };
    CreateRequest { path: Some(path.into()), data: Some(ByteBuf(data.to_vec())), acl: Some(vec![acl]), flags }
}

pub fn path_version(path: &str, version: i32) -> PathVersionRequest {
    PathVersionRequest { path: Some(path.into()), version }
}

fn handshake(connection: &Connection) -> Option<ConnectResponse> {
    frames(connection).first().map(|payload| ConnectResponse::decode(payload).expect("a ConnectResponse"))
}

fn frames(connection: &Connection) -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    connection.outbox.take(&mut bytes);
    let mut frames = Vec::new();
    let mut rest = bytes.as_slice();
    while let Some((payload, length)) = frame::split(rest, usize::MAX).expect("the server frames its answers") {
        frames.push(payload.to_vec());
        rest = &rest[length..];
    }
    frames
}

fn describe(payload: &[u8]) -> String {
    let (header, rest) = jute::from_slice_with_rest::<ReplyHeader>(payload).expect("every frame begins with a header");
    if header.xid == -1 {
        let event: WatcherEvent<'_> = jute::from_slice(rest).expect("a notification holds an event");
        let name = ["None", "Created", "Deleted", "DataChanged", "ChildrenChanged"][event.event_type as usize];
        return format!("event {name} {} at {}", event.path, header.zxid);
    }
    match ErrorCode::from_i32(header.err) {
        None => format!("{} ok at {}", header.xid, header.zxid),
        Some(code) => format!("{} {code:?} at {}", header.xid, header.zxid),
    }
}

/// What the audit log is told, without the parts that are the same for all requests of a client.
pub fn audit_line(output: &Output) -> String {
    match output {
        Output::Audited { request, fate } => format!("{:?}: {fate:?}", request.operation),
        Output::EphemeralsDeleted { paths, .. } => format!("ephemerals gone: {paths:?}"),
        other => panic!("the audit log has no use for {other:?}"),
    }
}
