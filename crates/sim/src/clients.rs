//! Clients: their requests, and the servers they go to when one fails them. `answers.rs` is how clients take answers.
//!
//! What always holds here: frames of a line arrive in order.

mod answers;

use std::collections::VecDeque;

use rookeeper_proto::acl::AclRequest;
use rookeeper_proto::connect::ConnectRequest;
use rookeeper_proto::frame::PING_XID;
use rookeeper_proto::jute::{self, ByteBuf};
use rookeeper_proto::multi::MultiHeader;
use rookeeper_proto::request::{CreateRequest, PathVersionRequest, SetDataRequest};
use rookeeper_proto::{OpCode, Permissions, SessionId, Zxid};

use crate::checkers::session_order::SessionOrder;
use crate::checkers::watches::{Lasting, Watches};
use crate::lines::Line;
use crate::world::{Event, MS, World};

/// Credentials have a number of their own.
pub(crate) const AUTH_XID: i32 = -4;
/// Requests a client sends without waiting.
const PIPELINE: usize = 4;
/// Bytes that a slow reader takes at a time: a client that reads a little now and then.
const SIP_BYTES: usize = 40;
pub(crate) const PATHS: [&str; 9] = ["/a", "/b", "/c", "/d", "/d/a", "/d/b", "/d/c", "/d/d", "/d/e"];

#[derive(Debug)]
pub(crate) enum Asked {
    Write {
        floor: Zxid,
    },
    Sync,
    Get {
        path: String,
        watch: bool,
        synced_floor: Option<Zxid>,
    },
    Exists {
        path: String,
        watch: bool,
    },
    Children {
        path: String,
        watch: bool,
    },
    /// The children, and when the last of them came or went.
    List {
        path: String,
    },
    Acl {
        path: String,
    },
    Watch {
        watch: Lasting,
    },
    Unwatch {
        watch: Lasting,
    },
    /// Children, or data, of each.
    Several {
        reads: Vec<(bool, String)>,
    },
    Auth,
    RenewWatches,
    Close,
}

/// How a client misbehaves for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    /// The client sends nothing, not even pings.
    Silent,
    /// The client sends nothing, and takes a little of its answers now and then.
    Sipping,
    /// The client neither sends nor reads.
    Absent,
    /// The client sends request after request, and does not read.
    Deaf,
}

#[derive(Debug)]
struct Request {
    xid: i32,
    asked: Asked,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub number: usize,
    timeout_ms: i32,
    session: SessionId,
    /// The line in use, and whether the session is granted on it.
    line: Option<u64>,
    welcomed: bool,
    line_since_us: i64,
    heard_us: i64,
    next_xid: i32,
    pending: VecDeque<Request>,
    order: SessionOrder,
    watches: Watches,
    /// The floor at which its last sync began.
    synced_floor: Option<Zxid>,
    /// Answers of writes since everything was healed.
    healed_writes: u32,
    /// And until when.
    pub pause: Option<(Pause, i64)>,
    /// The server that granted the session has no leader.
    is_read_only: bool,
}

impl Client {
    /// A client that has no session yet. Its session timeout follows from its number and `tick_ms`.
    pub fn new(number: usize, tick_ms: i64) -> Client {
        Client {
            number,
            timeout_ms: (tick_ms * (2 + 3 * number as i64 % 10)) as i32,
            session: SessionId::NONE,
            line: None,
            welcomed: false,
            line_since_us: 0,
            heard_us: 0,
            next_xid: 1,
            pending: VecDeque::new(),
            order: SessionOrder::default(),
            watches: Watches::default(),
            synced_floor: None,
            healed_writes: 0,
            pause: None,
            is_read_only: false,
        }
    }

    /// Whether the client has a session on its connection now.
    pub fn is_welcome(&self) -> bool {
        self.line.is_some() && self.welcomed
    }

    /// The session that the client has, if it has one.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// Asks for a session timeout of so many ticks.
    pub fn with_timeout_ticks(mut self, ticks: i64, tick_ms: i64) -> Client {
        self.timeout_ms = (tick_ms * ticks) as i32;
        self
    }

    /// Whether the answer to this request is still to come.
    pub fn waits_for(&self, xid: i32) -> bool {
        self.pending.iter().any(|request| request.xid == xid)
    }

    /// When the client heard of its server last, in virtual microseconds.
    pub fn heard_us(&self) -> i64 {
        self.heard_us
    }

    /// The connection in use.
    pub fn line(&self) -> Option<u64> {
        self.line
    }

    /// Whether the server that granted the session has no leader.
    pub fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Whether more than so many of its requests are not answered yet.
    pub fn is_waiting_for_more_than(&self, requests: usize) -> bool {
        self.pending.len() > requests
    }

    /// The session timeout that the client asks for, in milliseconds.
    pub fn timeout_ms(&self) -> i32 {
        self.timeout_ms
    }

    /// Whether the client was served since everything was healed, and waits for nothing.
    pub fn is_content(&self) -> bool {
        self.healed_writes >= 2 && self.pending.is_empty()
    }

    /// The client's state, for the report of a life that failed.
    pub fn describe(&self) -> String {
        format!(
            "session {}, line {:?}, welcomed {}, {} answers, waits for {:?}",
            self.session, self.line, self.welcomed, self.healed_writes, self.pending
        )
    }

    fn forget_session(&mut self) {
        self.session = SessionId::NONE;
        self.order = SessionOrder::default();
        self.watches.clear();
        self.synced_floor = None;
        self.is_read_only = false;
    }
}

impl World {
    // --- the client's side ---

    pub(crate) fn act(&mut self, client: usize) {
        let think_us = self.plan.think_us;
        let pause_us = self.random.skewed(MS, think_us);
        self.schedule(self.now_us + pause_us, Event::Act { client });
        self.may_pause(client);
        match self.pause_of(client) {
            None => {}
            Some(Pause::Silent | Pause::Absent) => return,
            Some(Pause::Sipping) => return self.read(client, SIP_BYTES),
            Some(Pause::Deaf) => return self.ask_without_reading(client),
        }
        let timeout_us = i64::from(self.clients[client].timeout_ms) * MS;
        let now_us = self.now_us;
        let this = &self.clients[client];
        match this.line {
            None => self.connect(client),
            Some(_) if !this.welcomed => {
                if now_us > this.line_since_us + timeout_us {
                    self.leave(client);
                }
            }
            Some(_) if !this.pending.is_empty() && now_us > this.heard_us + timeout_us * 2 / 3 => self.leave(client),
            Some(_) if self.is_patron(client) => self.patron_acts(client),
            // After the healing each client makes two more requests, and then waits for the end.
            Some(_) if self.healed && this.healed_writes >= 2 => {
                if now_us > this.heard_us + timeout_us / 3 {
                    self.ask(client, PING_XID, OpCode::Ping, &[], None);
                    self.clients[client].heard_us = now_us;
                }
            }
            Some(_) if this.pending.len() < PIPELINE => self.ask_something(client),
            Some(_) => {}
        }
    }

    fn connect(&mut self, client: usize) {
        let server = self.random.index(self.servers.len());
        self.connect_to(client, server);
    }

    pub(crate) fn connect_to(&mut self, client: usize, server: usize) {
        let line = self.next_line;
        self.next_line += 1;
        let life = self.servers[server].life;
        let now_us = self.now_us;
        self.lines.insert(line, Line::new(client, server, life, now_us));
        let at_us = now_us + self.network_delay_us();
        if let Some(state) = self.lines.get_mut(&line) {
            state.to_server_us = at_us;
        }
        self.schedule(at_us, Event::LineOpened { line });
        let this = &mut self.clients[client];
        (this.line, this.welcomed, this.line_since_us) = (Some(line), false, now_us);
        let session = this.session;
        if self.forgets_to_speak() {
            return;
        }
        let this = &self.clients[client];
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: this.order.last_seen(),
            timeout_ms: this.timeout_ms,
            session,
            password: if session == SessionId::NONE { vec![0; 16] } else { session.password().to_vec() },
            read_only: Some(!self.is_patron(client) && self.plan.habits.read_only && !self.healed && client % 2 == 1),
        };
        if session != SessionId::NONE {
            self.chronicle.moves.tried(session.0, line);
        }
        self.send(line, request.encode());
        self.note(30, client as u64, server as u64, || {
            format!("client {client} connects to server {} with session {session}", server + 1)
        });
    }

    /// Gives the client's connection up; the session may go on elsewhere.
    pub(crate) fn leave(&mut self, client: usize) {
        let Some(line) = self.part(client) else { return };
        let delay_us = self.network_delay_us();
        if let Some(state) = self.lines.get_mut(&line) {
            state.is_left = true;
            let at_us = state.to_server_us.max(self.now_us + delay_us);
            self.schedule(at_us, Event::LineClosed { line });
        }
    }

    /// Forgets the client's connection, and everything that was on its way there.
    pub(crate) fn part(&mut self, client: usize) -> Option<u64> {
        let this = &mut self.clients[client];
        this.pending.clear();
        this.synced_floor = None;
        if this.is_read_only {
            // The state that the client saw need not be committed anywhere.
            this.forget_session();
        }
        this.line.take()
    }

    fn send(&mut self, line: u64, payload: Vec<u8>) {
        let delay_us = self.network_delay_us();
        let now_us = self.now_us;
        let Some(state) = self.lines.get_mut(&line) else { return };
        let at_us = state.to_server_us.max(now_us + delay_us);
        state.to_server_us = at_us;
        self.schedule(at_us, Event::Frame { line, frame: payload });
    }

    pub(crate) fn ask(&mut self, client: usize, xid: i32, op: OpCode, body: &[u8], asked: Option<Asked>) {
        let mut payload = Vec::with_capacity(8 + body.len());
        jute::append(&mut payload, &(xid, op.number()));
        payload.extend_from_slice(body);
        self.figures.requests += 1;
        self.note(31, client as u64, xid as u64, || format!("client {client} asks {xid} {op:?} {asked:?}"));
        let (session, line) = (self.clients[client].session, self.clients[client].line);
        if let Some(line) = line.filter(|_| op.is_write()) {
            self.note_request(session, xid, (op, body), line, client);
        }
        let this = &mut self.clients[client];
        if let Some(asked) = asked {
            if this.pending.is_empty() {
                this.heard_us = self.now_us;
            }
            this.pending.push_back(Request { xid, asked });
        }
        if let Some(line) = this.line {
            self.send(line, payload);
        }
    }

    pub(crate) fn next_xid(&mut self, client: usize) -> i32 {
        self.clients[client].next_xid += 1;
        self.clients[client].next_xid
    }

    fn ask_to_reconfigure(&mut self, client: usize) {
        let Some(request) = self.next_change() else { return };
        let xid = self.next_xid(client);
        let floor = self.floor.now();
        self.ask(client, xid, OpCode::Reconfig, &jute::to_vec(&request), Some(Asked::Write { floor }));
    }

    fn ask_something(&mut self, client: usize) {
        if self.plan.reconfigures && client == 0 && !self.healed && self.random.one_in(25) {
            return self.ask_to_reconfigure(client);
        }
        if !self.healed && self.ask_by_habit(client) {
            return;
        }
        let xid = self.next_xid(client);
        let path = (*self.random.pick(&PATHS)).to_owned();
        let data = format!("{client}.{xid}").into_bytes();
        let floor = self.floor.now();
        let draw = if self.healed { self.random.below(20) } else { self.random.below(100) };
        let write = Some(Asked::Write { floor });
        let watch = self.random.one_in(2);
        match draw {
            0..=29 => {
                let version = if self.random.one_in(4) { self.random.between(0, 5) as i32 } else { -1 };
                let set = SetDataRequest { path: Some(path), data: Some(ByteBuf(data)), version };
                self.ask(client, xid, OpCode::SetData, &jute::to_vec(&set), write);
            }
            30..=46 => {
                let flags = *self.random.pick(&[0, 0, 0, 1, 1]);
                // Parents are never ephemeral, and never come and go too often.
                let flags = if path == "/d" { 0 } else { flags };
                self.ask(client, xid, OpCode::Create, &jute::to_vec(&create(path, data, flags)), write);
            }
            47..=50 => {
                let flags = *self.random.pick(&[2, 3]);
                self.ask(client, xid, OpCode::Create2, &jute::to_vec(&create("/d/s-".to_owned(), data, flags)), write);
            }
            51..=58 => {
                let path = if path == "/d" { "/d/s-0000000001".to_owned() } else { path };
                let delete = PathVersionRequest { path: Some(path), version: -1 };
                self.ask(client, xid, OpCode::Delete, &jute::to_vec(&delete), write);
            }
            59..=64 => {
                let other = (*self.random.pick(&PATHS)).to_owned();
                self.ask(client, xid, OpCode::Multi, &multi(path, other, &data), write);
            }
            65..=72 => self.ask_behind_a_sync(client, xid, path),
            73..=82 => {
                let body = jute::to_vec(&(Some(&path), watch));
                self.ask(client, xid, OpCode::GetData, &body, Some(Asked::Get { path, watch, synced_floor: None }));
            }
            83..=90 => {
                let body = jute::to_vec(&(Some(&path), watch));
                self.ask(client, xid, OpCode::Exists, &body, Some(Asked::Exists { path, watch }));
            }
            91..=97 => {
                let path = (*self.random.pick(&["/d", "/d", "/a", "/"])).to_owned();
                let body = jute::to_vec(&(Some(&path), watch));
                self.ask(client, xid, OpCode::GetChildren, &body, Some(Asked::Children { path, watch }));
            }
            98 => self.ask(client, xid, OpCode::CloseSession, &[], Some(Asked::Close)),
            // Silence: sessions live by pings then, or end.
            _ => self.ask(client, PING_XID, OpCode::Ping, &[], None),
        }
    }

    /// For a sync, and for data behind it.
    pub(crate) fn ask_behind_a_sync(&mut self, client: usize, xid: i32, path: String) {
        let floor = self.floor.now();
        self.clients[client].synced_floor = None;
        self.ask(client, xid, OpCode::Sync, &jute::to_vec(&"/"), Some(Asked::Sync));
        let xid = self.next_xid(client);
        let asked = Asked::Get { path: path.clone(), watch: false, synced_floor: Some(floor) };
        self.ask(client, xid, OpCode::GetData, &jute::to_vec(&(Some(path), false)), Some(asked));
    }

    pub(crate) fn line_lost(&mut self, line: u64) {
        let Some(state) = self.lines.remove(&line) else { return };
        let this = &mut self.clients[state.client];
        if this.line == Some(line) {
            this.line = None;
            if this.is_read_only || this.pending.iter().any(|request| matches!(request.asked, Asked::Close)) {
                this.forget_session();
            }
            this.pending.clear();
            this.synced_floor = None;
        }
    }
}

fn create(path: String, data: Vec<u8>, flags: i32) -> CreateRequest {
    let acl = AclRequest { permissions: Permissions::ALL, scheme: Some("world".into()), id: Some("anyone".into()) };
    CreateRequest { path: Some(path), data: Some(ByteBuf(data)), acl: Some(vec![acl]), flags }
}

/// A multi that sets two nodes together, or fails.
fn multi(path: String, other: String, data: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for path in [path, other] {
        let set = SetDataRequest { path: Some(path), data: Some(ByteBuf(data.to_vec())), version: -1 };
        jute::append(&mut body, &(MultiHeader { op: OpCode::SetData.number(), done: false, err: -1 }, set));
    }
    jute::append(&mut body, &MultiHeader::END);
    body
}
