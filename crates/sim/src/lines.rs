//! Connections of clients as a server sees them: what its connection tasks do.
//!
//! What always holds here: frames of a line arrive in order; a read runs at once only where nothing of its line is on its way.

use std::collections::VecDeque;
use std::sync::Arc;

use rookeeper_proto::connect::ConnectRequest;
use rookeeper_proto::event::NOTIFICATION_XID;
use rookeeper_proto::frame::{self, DEFAULT_MAX_BUFFER_BYTES, ReplyHeader, RequestHeader};
use rookeeper_proto::request::{AuthRequest, WriteRequest};
use rookeeper_proto::{Id, OpCode, Zxid, jute};
use rookeeper_replica::{Connection, Drained, Input, ReadFrame, read};
use rookeeper_tree::WatcherId;

use crate::clients::AUTH_XID;
use crate::faults::Sabotage;
use crate::habits::SOCKET_BYTES;
use crate::world::{Event, World};

/// One connection of a client, both ends.
#[derive(Debug)]
pub(crate) struct Line {
    pub client: usize,
    pub server: usize,
    pub life: u32,
    /// None until the first frame arrives.
    pub connection: Option<Arc<Connection>>,
    pub waiting: VecDeque<Vec<u8>>,
    pub asked_to_connect: bool,
    pub closed_by_server: bool,
    pub to_server_us: i64,
    pub to_client_us: i64,
    /// A planted bug keeps an event back.
    pub kept_back: Option<Vec<u8>>,
    /// What came for a client that does not read.
    pub unread: Vec<u8>,
}

impl Line {
    /// The client reads nothing, and what lies between takes no more.
    fn is_clogged(&self) -> bool {
        self.unread.len() > SOCKET_BYTES
    }
}

impl World {
    pub(crate) fn frame_arrives(&mut self, line: u64, frame: Vec<u8>) {
        let Some(state) = self.lines.get_mut(&line) else { return };
        let server = state.server;
        let now = self.time_at(server);
        let Some(state) = self.lines.get_mut(&line) else { return };
        if state.connection.is_none() && !state.closed_by_server {
            let this = &self.servers[server];
            let Some(process) = this.process.as_ref() else {
                if this.powered {
                    self.lose_line(line);
                }
                return;
            };
            state.life = this.life;
            let peer = ([127, 0, 0, 1], 4711).into();
            let connection = Arc::new(Connection::new(WatcherId(line), peer, now.monotonic_ms, now.wall_ms));
            process.shared.add_connection(connection.clone());
            state.connection = Some(connection);
        }
        if state.life != self.servers[server].life {
            return self.lose_line(line);
        }
        state.waiting.push_back(frame);
        self.look_at_line(line);
    }

    /// The client hears that nobody is there any more.
    fn lose_line(&mut self, line: u64) {
        let delay_us = self.network_delay_us();
        let Some(state) = self.lines.get_mut(&line) else { return };
        state.closed_by_server = true;
        let at_us = state.to_client_us.max(self.now_us + delay_us);
        self.schedule(at_us, Event::LineLost { line });
    }

    /// Takes in the frames of a line as far as that is possible now.
    pub(crate) fn look_at_line(&mut self, line: u64) {
        loop {
            let Some(state) = self.lines.get_mut(&line) else { return };
            let Some(connection) = state.connection.clone() else { return };
            let waits = state.asked_to_connect && !connection.is_established();
            if state.closed_by_server || waits || state.is_clogged() || !connection.outbox.is_open() {
                return;
            }
            let Some(payload) = state.waiting.pop_front() else { return };
            self.take_in(line, &connection, &payload);
        }
    }

    fn take_in(&mut self, line: u64, connection: &Arc<Connection>, payload: &[u8]) {
        let Some(state) = self.lines.get_mut(&line) else { return };
        let server = state.server;
        let is_first = !std::mem::replace(&mut state.asked_to_connect, true);
        let now = self.time_at(server);
        let Some(process) = &self.servers[server].process else { return };
        let shared = process.shared.clone();
        connection.heard(now.monotonic_ms);
        let connection = connection.clone();
        if is_first {
            if let Ok(request) = ConnectRequest::decode(payload) {
                self.feed(server, Input::Connect { connection, request });
            }
            return;
        }
        let Some((header, body)) = RequestHeader::split(payload) else { return };
        let Some(op) = OpCode::from_i32(header.op) else { return };
        let xid = header.xid;
        if op == OpCode::Auth {
            return self.take_credentials(line, &connection, body);
        }
        let identities = connection.identities();
        if op.is_write() {
            let request = WriteRequest::decode(op, body).ok();
            let body = if shared.forwards() { body.to_vec() } else { Vec::new() };
            shared.submit(&connection);
            self.feed(server, Input::Write { connection, xid, op, request, body, identities });
            return;
        }
        // What a sync waits for is decided by the replica of a member.
        let is_local =
            connection.in_flight() == 0 && (op != OpCode::Sync || self.plan.sabotage == Some(Sabotage::SkipsSync));
        if is_local && self.inbox.iter().all(|(to, _)| *to != server) {
            let tree = shared.tree();
            shared.serve_deferred_to(&connection);
            let mut answer = Vec::new();
            let frames = read::answer(&shared, &tree, &connection, &identities, (xid, op, body), &mut answer);
            connection.outbox.append_frames(frames, |output| output.append(&mut answer));
            drop(tree);
            self.flush_line(line);
        } else {
            shared.submit(&connection);
            let read = ReadFrame { xid, op, body: body.to_vec(), identities, received_ms: now.monotonic_ms };
            self.feed(server, Input::Read { connection, read });
        }
    }

    /// Takes what a client says of itself for true: how a proof is judged is no matter of ensembles.
    fn take_credentials(&mut self, line: u64, connection: &Connection, body: &[u8]) {
        let Ok(AuthRequest { scheme: Some(scheme), auth: Some(proof), .. }) = jute::from_slice(body) else { return };
        let id = Id::new(scheme.to_string(), String::from_utf8_lossy(&proof));
        let is_added = connection.add_identities([id]);
        assert!(is_added, "a client has one name");
        let header = ReplyHeader { xid: AUTH_XID, zxid: Zxid::ZERO, err: 0 };
        connection.outbox.append(|output| frame::append_reply::<()>(output, header, None));
        self.flush_line(line);
    }

    /// Sends what the server has for a client.
    pub(crate) fn flush_line(&mut self, line: u64) {
        let delay_us = self.network_delay_us();
        let now_us = self.now_us;
        let Some(state) = self.lines.get(&line) else { return };
        let now_ms = self.time_at(state.server).monotonic_ms;
        let Some(state) = self.lines.get_mut(&line) else { return };
        if state.closed_by_server {
            return;
        }
        let Some(connection) = state.connection.clone() else { return };
        if state.is_clogged() && connection.outbox.is_open() {
            return;
        }
        let server = state.server;
        let mut bytes = Vec::new();
        let drained = connection.outbox.take(&mut bytes);
        if let Some(sabotage) = self.plan.sabotage {
            bytes = tamper(sabotage, bytes, &mut state.kept_back, self.figures.answers);
        }
        if !bytes.is_empty() && self.plan.sabotage == Some(Sabotage::HearsItself) {
            connection.heard(now_ms);
        }
        if !bytes.is_empty() {
            let at_us = state.to_client_us.max(now_us + delay_us);
            state.to_client_us = at_us;
            self.schedule(at_us, Event::Answers { line, bytes });
        }
        if drained != Drained::Bytes {
            self.end_line(line, &connection, server);
            self.lose_line(line);
        }
    }

    fn end_line(&mut self, line: u64, connection: &Arc<Connection>, server: usize) {
        if let Some(state) = self.lines.get_mut(&line) {
            state.closed_by_server = true;
            state.waiting.clear();
        }
        let Some(process) = &self.servers[server].process else { return };
        process.shared.remove_connection(connection);
        if connection.is_established() {
            self.feed(server, Input::Disconnected { connection: connection.clone() });
        }
    }

    /// The client has closed.
    pub(crate) fn line_closed(&mut self, line: u64) {
        let Some(state) = self.lines.remove(&line) else { return };
        let Some(connection) = state.connection else { return };
        if state.life == self.servers[state.server].life && !state.closed_by_server {
            self.end_line(line, &connection, state.server);
        }
    }

    /// The process of these lines is gone.
    pub(crate) fn lines_gone(&mut self, server: usize, told: bool) {
        let lines: Vec<u64> =
            self.lines.iter().filter(|(_, line)| line.server == server).map(|(line, _)| *line).collect();
        for line in lines {
            if told {
                self.lose_line(line);
            } else if let Some(state) = self.lines.get_mut(&line) {
                state.closed_by_server = true;
            }
        }
    }

    /// The connections of a server's clients break.
    pub(crate) fn cut_lines(&mut self, server: usize) {
        let lines: Vec<u64> =
            self.lines.iter().filter(|(_, line)| line.server == server).map(|(line, _)| *line).collect();
        for line in lines {
            let Some(state) = self.lines.get(&line) else { continue };
            let alive = state.life == self.servers[server].life && !state.closed_by_server;
            if let Some(connection) = state.connection.clone().filter(|_| alive) {
                self.end_line(line, &connection, server);
            }
            self.lose_line(line);
        }
    }
}

/// A planted bug: changes what a client hears.
fn tamper(sabotage: Sabotage, bytes: Vec<u8>, kept_back: &mut Option<Vec<u8>>, count: u64) -> Vec<u8> {
    let mut frames: Vec<Vec<u8>> = Vec::new();
    let mut rest = bytes.as_slice();
    while let Ok(Some((_, length))) = frame::split(rest, DEFAULT_MAX_BUFFER_BYTES) {
        frames.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
    let is_event = |frame: &Vec<u8>| frame.get(4..8) == Some(&NOTIFICATION_XID.to_be_bytes()[..]);
    let is_answer = |frame: &Vec<u8>| frame.len() >= 20 && frame[4..6] == [0, 0];
    match sabotage {
        Sabotage::DropsEvent => frames.retain(|frame| !is_event(frame)),
        Sabotage::DelaysEvent => {
            let late = kept_back.take();
            if let Some(index) = frames.iter().position(is_event) {
                *kept_back = Some(frames.remove(index));
            }
            frames.extend(late);
        }
        Sabotage::ReordersReplies if frames.len() > 1 && frames.iter().all(is_answer) => frames.reverse(),
        Sabotage::WrongAnswer if count > 20 => {
            if let Some(frame) = frames.iter_mut().find(|frame| is_answer(frame)) {
                frame[15] = frame[15].wrapping_add(1);
            }
        }
        _ => {}
    }
    frames.concat()
}
