//! What a request costs from its frame to its answer, without threads and sockets: decode, prepare, log, apply, encode.
//!
//! `cargo run --release -p rookeeper-storage --example hot_paths set|create|get COUNT`
//!
//! Meant to run under valgrind, which counts instructions (`--tool=callgrind`) or allocations (`--tool=memcheck`). Two runs with different counts
//! tell what one request more costs; `bench/instructions` does that. Some clients with requests in their pipelines take turns, and what has
//! gathered is made durable together, as under load in a server of its own.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use rookeeper_proto::acl::AclRequest;
use rookeeper_proto::connect::ConnectRequest;
use rookeeper_proto::jute::{self, ByteBuf};
use rookeeper_proto::request::{CreateRequest, SetDataRequest, WriteRequest};
use rookeeper_proto::{MonotonicMs, OpCode, Permissions, SessionId, WallMs, Zxid};
use rookeeper_replica::{Connection, Input, Output, Replica, Settings, Shared, Stamp, Time, read};
use rookeeper_store::{LogOptions, LogWriter, RealDisk};
use rookeeper_tree::{Tree, WatcherId};

const CLIENTS: usize = 10;

/// Writes of a client that are on their way together.
const PIPELINE: usize = 20;

/// Nodes that are read and written.
const NODES: usize = 1000;

const DATA: [u8; 100] = [7; 100];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Set,
    Create,
    Get,
}

struct Server {
    shared: Arc<Shared>,
    replica: Replica,
    log: LogWriter,
    now: Time,
    appended: Option<Zxid>,
}

impl Server {
    fn new(directory: &Path) -> Server {
        let now = Time::of_ms(MonotonicMs(0), WallMs(1_000_000));
        let shared = Arc::new(Shared::new(Settings::default(), Tree::with_seed(1), now.wall_ms));
        let options = LogOptions { force_sync: false, ..LogOptions::default() };
        let log = LogWriter::new(Arc::new(RealDisk), directory, options, Zxid::ZERO);
        Server { replica: Replica::new(shared.clone(), now), shared, log, now, appended: None }
    }

    fn handle(&mut self, input: Input) {
        self.replica.handle(self.now, input);
    }

    /// Carries out what was asked for. Records go to the log.
    fn carry_out(&mut self) {
        while let Some(output) = self.replica.poll() {
            if let Output::Append(record) = output {
                self.log.append(record.zxid, record.body()).expect("the log takes what the replica makes");
                self.appended = Some(record.zxid);
            }
        }
    }

    /// What was handed in becomes durable, and is answered.
    fn settle(&mut self) {
        self.carry_out();
        self.log.commit().expect("the disk takes it");
        if let Some(zxid) = self.appended.take() {
            self.handle(Input::Synced { zxid });
            self.carry_out();
        }
    }

    fn client(&mut self, number: usize) -> Arc<Connection> {
        let peer = "127.0.0.1:4711".parse().expect("an address");
        let budget = self.shared.budget.clone();
        let connection = Arc::new(Connection::within(budget, WatcherId(number as u64 + 1), peer, self.now));
        self.shared.add_connection(connection.clone());
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid(0),
            timeout_ms: 30_000,
            session: SessionId::NONE,
            password: vec![0; 16],
            read_only: Some(false),
        };
        self.handle(Input::Connect { connection: connection.clone(), request });
        self.settle();
        connection
    }

    fn write(&mut self, connection: &Arc<Connection>, (xid, op): (i32, OpCode), body: &[u8]) {
        self.shared.submit(connection);
        self.handle(Input::Write {
            connection: connection.clone(),
            xid,
            op,
            request: WriteRequest::decode(op, body).ok(),
            body: Vec::new(),
            identities: connection.identities(),
            arrived: Stamp(1),
            sampled: None,
        });
    }
}

fn create(path: String) -> Vec<u8> {
    let acl = AclRequest { permissions: Permissions::ALL, scheme: Some("world".into()), id: Some("anyone".into()) };
    jute::to_vec(&CreateRequest {
        path: Some(path),
        data: Some(ByteBuf(DATA.to_vec())),
        acl: Some(vec![acl]),
        flags: 0,
    })
}

fn set(path: String) -> Vec<u8> {
    jute::to_vec(&SetDataRequest { path: Some(path), data: Some(ByteBuf(DATA.to_vec())), version: -1 })
}

fn node(number: usize) -> String {
    format!("/bench/{:06}", number * 7919 % NODES)
}

fn made(number: usize) -> String {
    format!("/bench/made-{number:08}")
}

/// The next name, in place, so that making requests costs next to nothing.
fn count_up(name: &mut [u8]) {
    for digit in name.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
}

fn body(work: Work, number: usize) -> Vec<u8> {
    match work {
        Work::Get => jute::to_vec(&(Some(node(number)), false)),
        Work::Set | Work::Create => set(node(number)),
    }
}

fn run(work: Work, count: usize) -> std::io::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut server = Server::new(directory.path());
    let clients: Vec<_> = (0..CLIENTS).map(|number| server.client(number)).collect();
    server.write(&clients[0], (1, OpCode::Create), &create("/bench".to_owned()));
    (0..NODES).for_each(|number| server.write(&clients[0], (2, OpCode::Create), &create(node(number))));
    server.settle();
    let bodies: Vec<Vec<u8>> = (0..NODES).map(|number| body(work, number)).collect();
    let mut create = create(made(0));
    let name_end = size_of::<i32>() + made(0).len();
    let (mut sent, mut answer) = (Vec::new(), Vec::new());
    for number in 0..count {
        let connection = &clients[number / PIPELINE % CLIENTS];
        let xid = number as i32 + 3;
        let body = &bodies[number % NODES];
        match work {
            Work::Set => server.write(connection, (xid, OpCode::SetData), body),
            Work::Create => {
                count_up(&mut create[..name_end]);
                server.write(connection, (xid, OpCode::Create), &create);
            }
            Work::Get => {
                let (tree, identities) = (server.shared.tree(), connection.identities());
                server.shared.serve_deferred_to(connection);
                let request = (xid, OpCode::GetData, body.as_slice());
                let frames = read::answer(&server.shared, &tree, connection, &identities, request, &mut answer);
                connection.outbox.append_frames(frames, |output| output.append(&mut answer));
            }
        }
        if (number + 1) % (PIPELINE * CLIENTS) == 0 {
            server.settle();
            for client in &clients {
                sent.clear();
                client.outbox.take(&mut sent);
            }
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let work = match arguments.first().map(String::as_str) {
        Some("set") => Work::Set,
        Some("create") => Work::Create,
        Some("get") => Work::Get,
        _ => return usage(),
    };
    let Some(count) = arguments.get(1).and_then(|count| count.parse().ok()) else { return usage() };
    match run(work, count) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hot_paths: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: hot_paths set|create|get COUNT");
    ExitCode::from(2)
}
