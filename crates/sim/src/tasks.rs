//! The tasks of connections, as a server has them: each drives a [`Conversation`], the shipping rules of when a client is read, heard and
//! cut, with the bytes of a line.
//!
//! What always holds here: requests of a line are taken in in order; a read runs at once only where nothing of its line is on its way.
//! Where the rules decide nothing, the task goes on as the shipping task does: look at the frames that may be looked at, send, ask whether the
//! connection is over, wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Waker};

use rookeeper_proto::connect::ConnectRequest;
use rookeeper_proto::event::NOTIFICATION_XID;
use rookeeper_proto::frame::{self, DEFAULT_MAX_BUFFER_BYTES, ReplyHeader, RequestHeader};
use rookeeper_proto::request::{AuthRequest, WriteRequest};
use rookeeper_proto::{ErrorCode, Id, OpCode, Zxid, jute};
use rookeeper_replica::conversation::FINISH_STALL_MS;
use rookeeper_replica::{Connection, Conversation, Cut, Input, Limits, Next, ReadFrame, Serving, Stamp, read};
use rookeeper_tree::WatcherId;

use crate::checkers::connections::Facts;
use crate::clients::AUTH_XID;
use crate::faults::{Plan, Sabotage};
use crate::server::Process;
use crate::world::{Event, MS, World};

/// More turns than this without anything to wait for mean that a task turns in circles.
const MAX_TURNS: u32 = 100_000;

/// `syncLimit`, in ticks.
const SYNC_LIMIT: i64 = 5;

/// The server's side of one connection.
#[derive(Debug)]
pub(crate) struct Task {
    connection: Arc<Connection>,
    conversation: Conversation,
    /// Bytes that have arrived and were not read; `None` is the end.
    socket: VecDeque<Option<Vec<u8>>>,
    /// Bytes that were read and not looked at.
    input: VecDeque<Vec<u8>>,
    has_asked_to_connect: bool,
    /// Taken from the outbox and not sent.
    sending: Vec<u8>,
    due_us: Option<i64>,
    /// The end has arrived.
    is_left: bool,
}

impl Task {
    /// A frame arrives from the client, or its end of the connection.
    pub fn arrives(&mut self, frame: Option<Vec<u8>>) {
        self.is_left |= frame.is_none();
        self.socket.push_back(frame);
    }

    /// Bytes that were taken from the outbox and that the line has not taken yet.
    pub fn unsent_bytes(&self) -> usize {
        self.sending.len()
    }

    /// The facts that a checker may know of the connection.
    pub fn facts(&self, process: &Process, plan: &Plan) -> Facts {
        let session = self.connection.session();
        let has_session = self.connection.is_established();
        let timeout_ms = if has_session { i64::from(self.connection.timeout_ms()) } else { sessionless_ms(plan) };
        // A client that has ended its side of the connection may still read its last answers.
        let timeout_ms = if self.connection.outbox.is_open() { timeout_ms } else { timeout_ms.max(FINISH_STALL_MS) };
        let is_known = || plan.habits.local_sessions || process.shared.tree().session_timeout_ms(session).is_some();
        Facts {
            timeout_us: timeout_ms * MS,
            is_answering: self.connection.in_flight() > 0,
            has_hung_up: self.is_left,
            has_unsent: !self.sending.is_empty(),
            is_clogged: self.sending.len() + self.connection.outbox.unsent_bytes() > limits(plan).unsent_bytes,
            is_excused: self.connection.is_held_back(),
            is_over: has_session && !is_known(),
            counts_silence: has_session && process.serving == Serving::Forwarding,
            // A wait ends with the next look, and this one comes once a tick.
            grace_us: 3 * plan.tick_ms * MS,
            // A learner looks when its leader pings, and gives a leader up that does not for this long.
            silence_grace_us: (3 + SYNC_LIMIT) * plan.tick_ms * MS,
        }
    }
}

/// How long a client may take to introduce itself.
fn sessionless_ms(plan: &Plan) -> i64 {
    5 * plan.tick_ms
}

/// The limits of a server, in proportion to the traffic of these lives.
fn limits(plan: &Plan) -> Limits {
    let scale = if plan.habits.large_values { 64 } else { 1 };
    Limits {
        unsent_bytes: 1000 * scale,
        unsent_bytes_when_tight: 500 * scale,
        input_ahead_bytes: 500 * scale,
        ahead_bytes: 100_000,
        ..Limits::new(sessionless_ms(plan))
    }
}

impl World {
    /// A server gets a connection.
    pub(crate) fn accept(&mut self, line: u64) {
        let Some(state) = self.lines.get_mut(&line) else { return };
        let server = state.server;
        let now = self.time_at(server);
        let (Some(state), Some(process)) = (self.lines.get_mut(&line), &self.servers[server].process) else { return };
        let peer = ([127, 0, 0, 1], 4711).into();
        let connection = Arc::new(Connection::new(WatcherId(line), peer, now));
        process.shared.add_connection(connection.clone());
        state.task = Some(Box::new(Task {
            conversation: Conversation::new(connection.clone(), limits(&self.plan), now.monotonic_ms),
            connection,
            socket: VecDeque::new(),
            input: VecDeque::new(),
            has_asked_to_connect: false,
            sending: Vec::new(),
            due_us: None,
            is_left: false,
        }));
        self.run_line(line);
    }

    /// Does what can be done now.
    pub(crate) fn run_line(&mut self, line: u64) {
        for _ in 0..MAX_TURNS {
            match self.look(line) {
                Some(next) if self.step(line, next) => {}
                _ => return,
            }
        }
        self.violated("connections: the task of one turns in circles".to_owned());
    }

    /// Takes in what may be looked at. None where nobody serves this line.
    fn look(&mut self, line: u64) -> Option<Next> {
        loop {
            let state = self.lines.get_mut(&line)?;
            let server = state.server;
            let task = state.task.as_mut()?;
            let shared = &self.servers[server].process.as_ref()?.shared;
            if task.has_asked_to_connect && !task.connection.is_established() {
                return Some(Next::Establish);
            }
            let is_full = shared.outstanding() > self.plan.habits.outstanding_limit();
            if task.has_asked_to_connect && !task.conversation.may_look(is_full) {
                if self.plan.sabotage == Some(Sabotage::ExcusesWhoDoesNotRead) && !task.sending.is_empty() {
                    task.connection.hold_back(true);
                }
                return Some(Next::Settle);
            }
            let Some(payload) = task.input.pop_front() else { return Some(Next::Read) };
            task.conversation.consumed(weight(&payload));
            if task.has_asked_to_connect {
                self.take_in(line, server, &payload);
                continue;
            }
            task.has_asked_to_connect = true;
            task.conversation.opened();
            let connection = task.connection.clone();
            if let Ok(request) = ConnectRequest::decode(&payload) {
                self.feed(server, Input::Connect { connection, request });
            }
        }
    }

    fn take_in(&mut self, line: u64, server: usize, payload: &[u8]) {
        let now = self.time_at(server);
        let Some(process) = &self.servers[server].process else { return };
        let shared = process.shared.clone();
        let Some(task) = self.lines.get_mut(&line).and_then(|state| state.task.as_mut()) else { return };
        let connection = task.connection.clone();
        let Some((header, body)) = RequestHeader::split(payload) else { return };
        let Some(op) = OpCode::from_i32(header.op) else { return };
        let xid = header.xid;
        if op == OpCode::Auth {
            return take_credentials(&connection, body);
        }
        let identities = connection.identities();
        if op.is_write() {
            let request = WriteRequest::decode(op, body).ok();
            let body = if shared.forwards() { body.to_vec() } else { Vec::new() };
            task.conversation.submitted(weight(payload));
            shared.submit(&connection);
            self.feed(
                server,
                Input::Write {
                    connection,
                    xid,
                    op,
                    request,
                    body,
                    identities,
                    arrived: Stamp::default(),
                    sampled: None,
                },
            );
            return;
        }
        // The replica of a member decides for what a sync waits.
        let is_local =
            connection.in_flight() == 0 && (op != OpCode::Sync || self.plan.sabotage == Some(Sabotage::SkipsSync));
        if is_local {
            let tree = shared.tree();
            shared.serve_deferred_to(&connection);
            let mut answer = Vec::new();
            let frames = read::answer(&shared, &tree, &connection, &identities, (xid, op, body), &mut answer);
            connection.outbox.append_frames(frames, |output| output.append(&mut answer));
        } else {
            let answer = match task.conversation.weighs_answers() {
                true => read::weight(&shared, &shared.tree(), op, body),
                false => 0,
            };
            task.conversation.submitted(weight(payload) + answer);
            shared.submit(&connection);
            let read = ReadFrame {
                xid,
                op,
                body: body.to_vec(),
                identities,
                received_ms: now.monotonic_ms,
                arrived: Stamp::default(),
                audited: None,
            };
            self.feed(server, Input::Read { connection, read });
        }
    }

    /// Sends what can be sent, ends what is over, and reads. False where there is something to wait for.
    fn step(&mut self, line: u64, next: Next) -> bool {
        self.flush(line);
        let Some(state) = self.lines.get_mut(&line) else { return false };
        let server = state.server;
        let now_ms = self.time_at(server).monotonic_ms;
        let Some(task) = self.lines.get_mut(&line).and_then(|state| state.task.as_mut()) else { return false };
        if self.plan.sabotage == Some(Sabotage::IgnoresHangUps) && !task.sending.is_empty() {
            return false;
        }
        let verdict = task.conversation.verdict(|| now_ms, next);
        if let Some(cut) = verdict {
            match cut {
                Cut::NoHandshake(_) => self.figures.note("clients cut that did not introduce themselves"),
                Cut::NotReading(_) => self.figures.note("clients cut that took nothing"),
                Cut::HungUp | Cut::ByServer => {}
            }
            self.note(35, line, 0, || format!("server {} is done with a client: {cut:?}", server + 1));
            self.end_line(line);
            self.lose_line(line);
            return false;
        }
        task.conversation.note_held(task.sending.len() + task.input.iter().map(|frame| weight(frame)).sum::<usize>());
        if task.conversation.is_relieved() {
            return true;
        }
        if task.conversation.poll(&mut Context::from_waker(Waker::noop()), next).is_ready() {
            return true;
        }
        if task.conversation.reads(next)
            && let Some(arrived) = task.socket.pop_front()
        {
            match arrived {
                Some(frame) => {
                    task.conversation.received(now_ms, weight(&frame));
                    task.input.push_back(frame);
                    if task.connection.is_established() {
                        let session = task.connection.session();
                        let now_ms = self.now_us / MS;
                        self.expiry.heard(server, now_ms, session);
                    }
                }
                None => task.conversation.hung_up(),
            }
            return true;
        }
        let due_ms = task.conversation.deadline_ms();
        let due_us = due_ms.map(|due_ms| self.when(server, due_ms));
        let now_us = self.now_us;
        let Some(task) = self.lines.get_mut(&line).and_then(|state| state.task.as_mut()) else { return false };
        if let Some(due_us) = due_us
            && task.due_us.is_none_or(|scheduled_us| scheduled_us <= now_us || due_us < scheduled_us)
        {
            task.due_us = Some(due_us);
            self.schedule(due_us, Event::LineWoken { line });
        }
        false
    }

    /// Sends what the socket takes.
    fn flush(&mut self, line: u64) {
        let Some(state) = self.lines.get(&line) else { return };
        let now_ms = self.time_at(state.server).monotonic_ms;
        let room = self.room_in(state);
        let answers = self.figures.answers;
        let Some(state) = self.lines.get_mut(&line) else { return };
        let Some(task) = &mut state.task else { return };
        let mut taken = Vec::new();
        let drained = match task.conversation.takes() {
            true => task.connection.outbox.take(&mut taken),
            false => task.connection.outbox.peek(),
        };
        if let Some(sabotage) = self.plan.sabotage {
            taken = tamper(sabotage, taken, &mut state.kept_back, answers);
        }
        let count = taken.len();
        if task.sending.is_empty() {
            task.sending = taken;
        } else {
            task.sending.append(&mut taken);
        }
        let length = task.sending.len().min(room);
        let sent = match length == task.sending.len() {
            true => std::mem::take(&mut task.sending),
            false => task.sending.drain(..length).collect(),
        };
        task.conversation.flushed(|| now_ms, count, length, &drained);
        if length > 0 {
            if self.plan.sabotage == Some(Sabotage::HearsItself) {
                task.connection.heard(now_ms);
            }
            state.lingering.took();
            self.send_to_client(line, sent);
        }
    }

    /// The server is done with a client.
    pub(crate) fn end_line(&mut self, line: u64) {
        let Some(state) = self.lines.get_mut(&line) else { return };
        let server = state.server;
        let Some(task) = state.task.take().filter(|_| state.life == self.servers[server].life) else { return };
        let Some(process) = &self.servers[server].process else { return };
        process.shared.remove_connection(&task.connection);
        if task.connection.is_established() {
            self.feed(server, Input::Disconnected { connection: task.connection });
        }
    }
}

/// Bytes of a frame on the wire.
fn weight(payload: &[u8]) -> usize {
    4 + payload.len()
}

/// Takes what a client says of itself for true: how a proof is judged is no matter of ensembles.
fn take_credentials(connection: &Connection, body: &[u8]) {
    let Ok(AuthRequest { scheme: Some(scheme), auth: Some(proof), .. }) = jute::from_slice(body) else { return };
    let id = Id::new(scheme.to_string(), String::from_utf8_lossy(&proof).into_owned());
    let is_added = connection.add_identities([id]);
    assert!(is_added, "a client has one name");
    let header = ReplyHeader { xid: AUTH_XID, zxid: Zxid::ZERO, err: 0 };
    connection.outbox.append(|output| frame::append_reply::<()>(output, header, None));
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
        Sabotage::MisreportsRefusals => {
            let refused = |frame: &&mut Vec<u8>| is_answer(frame) && frame[16..20] != [0; 4];
            if let Some(frame) = frames.iter_mut().find(refused) {
                frame[16..20].copy_from_slice(&ErrorCode::BadVersion.number().to_be_bytes());
            }
        }
        _ => {}
    }
    // Bytes that are no frame of a length that clients take stay as they are.
    frames.push(rest.to_vec());
    frames.concat()
}
