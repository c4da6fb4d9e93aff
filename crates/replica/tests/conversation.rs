//! One client's connection under virtual time: who counts as heard, what is read, and when it ends. The socket is a number of bytes
//! that the client is willing to take.

mod common;

use std::collections::VecDeque;

use common::{Client, World};
use rookeeper_proto::event::AddWatchMode;
use rookeeper_proto::frame::PING_XID;
use rookeeper_proto::{MonotonicMs, OpCode, jute};
use rookeeper_replica::conversation::{AHEAD_BYTES, FINISH_MS, FINISH_STALL_MS, INPUT_AHEAD_BYTES, UNSENT_BYTES};
use rookeeper_replica::{Conversation, Cut, Limits, Next, read};

const SESSIONLESS_MS: i64 = 10_000;
const TIMEOUT_MS: i64 = 4000;
const TICK_MS: i64 = 2000;

/// A read as it waits in the input.
type Frame = (i32, OpCode, Vec<u8>);

/// The driver of a conversation, as a connection's task is one.
struct Line {
    client: Client,
    conversation: Conversation,
    input: VecDeque<Frame>,
    /// What the client has sent and the server has not read.
    on_the_wire: VecDeque<Frame>,
    /// Bytes that the client will still take.
    room: usize,
    sending: usize,
    server_is_full: bool,
}

fn length((_, _, body): &Frame) -> usize {
    12 + body.len()
}

impl Line {
    fn new(world: &mut World) -> Line {
        let client = world.connect();
        let mut conversation = Conversation::new(client.connection.clone(), Limits::new(SESSIONLESS_MS), world.now_ms);
        conversation.opened();
        let (input, on_the_wire) = Default::default();
        Line { client, conversation, input, on_the_wire, room: usize::MAX, sending: 0, server_is_full: false }
    }

    fn ask(&mut self, op: OpCode, body: Vec<u8>) {
        let xid = if op == OpCode::Ping { PING_XID } else { self.client.next_xid() };
        self.on_the_wire.push_back((xid, op, body));
    }

    fn ask_for(&mut self, path: &str) {
        self.ask(OpCode::GetData, jute::to_vec(&(Some(path), false)));
    }

    /// Does everything that can be done now.
    fn run(&mut self, world: &World) -> Option<Cut> {
        let now_ms = world.now_ms;
        loop {
            let mut progress = false;
            while self.conversation.may_look(self.server_is_full) {
                let Some(frame) = self.input.pop_front() else { break };
                self.conversation.consumed(length(&frame));
                let connection = &self.client.connection;
                let mut answer = Vec::new();
                let request = (frame.0, frame.1, frame.2.as_slice());
                let tree = world.shared.tree();
                read::answer(&world.shared, &tree, connection, &connection.identities(), request, &mut answer);
                connection.outbox.append(|output| output.append(&mut answer));
                progress = true;
            }
            let (mut bytes, drained) = (Vec::new(), self.client.connection.outbox.peek());
            let drained = match self.conversation.takes() {
                true => self.client.connection.outbox.take(&mut bytes),
                false => drained,
            };
            self.sending += bytes.len();
            let sent = self.sending.min(self.room);
            self.sending -= sent;
            self.room -= sent;
            self.conversation.flushed(|| now_ms, bytes.len(), sent, &drained);
            let next = if self.input.is_empty() { Next::Read } else { Next::Settle };
            if let Some(cut) = self.conversation.verdict(|| now_ms, next) {
                return Some(cut);
            }
            if self.conversation.reads(next)
                && let Some(frame) = self.on_the_wire.pop_front()
            {
                self.conversation.received(now_ms, length(&frame));
                self.input.push_back(frame);
                progress = true;
            }
            if !progress && sent == 0 {
                return None;
            }
        }
    }

    fn session_lives(&self, world: &World) -> bool {
        world.shared.tree().session_timeout_ms(self.client.session).is_some()
    }

    fn held_bytes(&self) -> usize {
        self.sending + self.client.connection.outbox.unsent_bytes()
    }
}

/// A world with a large node, and a client that keeps its session for as long as the test lasts.
fn world() -> (World, Client) {
    let mut world = World::new();
    let mut other = world.connect();
    world.create_with(&mut other, "/large", &[7; 200_000], 0);
    world.create(&mut other, "/busy");
    world.sync();
    (world, other)
}

/// Half a second passes, in which the other client writes.
fn pass(world: &mut World, other: &mut Client) {
    world.pass_ms(500);
    world.set(other, "/busy", b"x");
    world.sync();
    other.received();
}

#[test]
fn a_client_that_has_taken_everything_is_looked_at_again_before_anybody_waits() {
    let mut world = World::new();
    let mut line = Line::new(&mut world);
    let outbox = &line.client.connection.outbox;
    outbox.append(|output| output.resize(UNSENT_BYTES + 1, 0));
    assert!(!line.conversation.may_look(false) && !line.conversation.is_relieved());
    let mut bytes = Vec::new();
    let drained = outbox.take(&mut bytes);
    // The socket takes all of it at once, so that nothing will tell of room in it.
    line.conversation.flushed(|| MonotonicMs(0), bytes.len(), bytes.len(), &drained);
    assert!(line.conversation.is_relieved() && line.conversation.may_look(false));
}

#[test]
fn what_is_sent_to_a_silent_client_does_not_keep_its_session_alive() {
    let (mut world, mut other) = world();
    let mut line = Line::new(&mut world);
    line.ask(OpCode::AddWatch, jute::to_vec(&(Some("/busy"), AddWatchMode::Persistent as i32)));
    assert_eq!(line.run(&world), None);
    let silent_since_ms = world.now_ms;
    let room = line.room;
    while line.session_lives(&world) {
        assert_eq!(line.run(&world), None);
        pass(&mut world, &mut other);
        assert!(world.now_ms <= silent_since_ms + TIMEOUT_MS + TICK_MS, "events are no sign of life of their receiver");
    }
    assert!(world.now_ms > silent_since_ms + TIMEOUT_MS);
    assert!(room - line.room > 200, "events were sent all the time");
    assert_eq!(line.run(&world), Some(Cut::ByServer));
}

#[test]
fn a_client_that_stops_reading_costs_a_bounded_amount_and_loses_its_connection() {
    let (mut world, mut other) = world();
    let mut line = Line::new(&mut world);
    line.room = 0;
    for _ in 0..1000 {
        line.ask_for("/large");
    }
    let begin_ms = world.now_ms;
    // It goes on pinging, so its session lives.
    while world.now_ms < begin_ms + TIMEOUT_MS {
        line.ask(OpCode::Ping, Vec::new());
        assert_eq!(line.run(&world), None);
        assert!(line.held_bytes() <= UNSENT_BYTES + 201_000, "{} bytes are held", line.held_bytes());
        pass(&mut world, &mut other);
    }
    assert!(matches!(line.run(&world), Some(Cut::NotReading(TIMEOUT_MS))));
    assert!(line.session_lives(&world), "its session may go on elsewhere");
}

#[test]
fn a_client_that_reads_slowly_is_waited_for() {
    let (mut world, mut other) = world();
    let mut line = Line::new(&mut world);
    line.room = 0;
    for _ in 0..30 {
        line.ask_for("/large");
    }
    while !line.input.is_empty() || !line.on_the_wire.is_empty() || line.held_bytes() > 0 {
        line.ask(OpCode::Ping, Vec::new());
        line.room = 50_000;
        assert_eq!(line.run(&world), None);
        pass(&mut world, &mut other);
    }
    assert!(world.now_ms > MonotonicMs(10 * TIMEOUT_MS) && line.session_lives(&world));
}

#[test]
fn a_session_that_expires_takes_its_connection_along_although_bytes_are_unsent() {
    let (mut world, mut other) = world();
    let mut line = Line::new(&mut world);
    line.room = 0;
    for _ in 0..20 {
        line.ask_for("/large");
    }
    assert_eq!(line.run(&world), None);
    // One byte is taken now and then: the client is slow, but it says nothing.
    while line.session_lives(&world) {
        line.room = 1;
        assert_eq!(line.run(&world), None);
        pass(&mut world, &mut other);
    }
    assert!(world.now_ms <= MonotonicMs(TIMEOUT_MS + TICK_MS + 500));
    assert_eq!(line.run(&world), Some(Cut::ByServer));
    assert!(line.sending > 0);
}

#[test]
fn being_held_back_excuses_silence_only_while_nothing_is_read_and_answers_are_taken() {
    let (mut world, other) = world();
    let mut line = Line::new(&mut world);
    let mut writer = Client::on(line.client.connection.clone(), line.client.session);
    // A write of this client is on its way for as long as the test lasts, and the server has too much to do.
    world.create(&mut writer, "/waits");
    line.server_is_full = true;
    for _ in 0..INPUT_AHEAD_BYTES / 12 + 1000 {
        line.ask(OpCode::Ping, Vec::new());
    }
    for _ in 0..100 {
        assert_eq!(line.run(&world), None);
        world.pass_ms(500);
        other.connection.heard(world.now_ms);
    }
    assert!(
        !world.shared.sessions().is_closing(line.client.session),
        "the server read nothing, and nothing is held against it"
    );
    assert!(!line.on_the_wire.is_empty());
    // The server has room again, but now it is the client that takes no answers.
    line.room = 0;
    line.server_is_full = false;
    line.on_the_wire.clear();
    for _ in 0..10 {
        line.client.connection.outbox.append(|output| output.resize(output.len() + UNSENT_BYTES, 0));
        assert_eq!(line.run(&world), None);
    }
    line.server_is_full = true;
    let begin_ms = world.now_ms;
    while !world.shared.sessions().is_closing(line.client.session) {
        assert!(world.now_ms <= begin_ms + TIMEOUT_MS + TICK_MS, "it is the client that does not read");
        _ = line.run(&world);
        world.pass_ms(500);
        other.connection.heard(world.now_ms);
    }
}

#[test]
fn a_hang_up_is_noticed_while_bytes_are_unsent() {
    let (mut world, _) = world();
    let mut line = Line::new(&mut world);
    line.room = 0;
    for _ in 0..20 {
        line.ask_for("/large");
    }
    assert_eq!(line.run(&world), None);
    assert!(line.conversation.reads(Next::Settle), "some input is read in any case, and with it the end");
    line.conversation.hung_up();
    assert_eq!(line.run(&world), Some(Cut::HungUp));
}

#[test]
fn what_was_sent_before_a_hang_up_is_still_looked_at() {
    let (mut world, _) = world();
    let mut line = Line::new(&mut world);
    for _ in 0..3 {
        line.ask_for("/busy");
    }
    let room = line.room;
    while let Some(frame) = line.on_the_wire.pop_front() {
        line.conversation.received(world.now_ms, length(&frame));
        line.input.push_back(frame);
    }
    line.conversation.hung_up();
    assert_eq!(line.run(&world), Some(Cut::HungUp));
    assert!(line.input.is_empty() && room - line.room > 3 * 80);
}

#[test]
fn a_session_that_is_resumed_elsewhere_ends_the_old_connection_at_once() {
    let (mut world, _) = world();
    let mut line = Line::new(&mut world);
    line.room = 0;
    for _ in 0..20 {
        line.ask_for("/large");
    }
    assert_eq!(line.run(&world), None);
    assert!(world.reconnect(&line.client).is_some());
    assert_eq!(line.run(&world), Some(Cut::ByServer));
}

#[test]
fn the_last_answer_is_not_waited_for_without_end() {
    // A client that takes nothing, and one that takes a little now and then.
    for (step, limit_ms) in [(0, FINISH_STALL_MS), (1, FINISH_MS)] {
        let (mut world, _) = world();
        let mut line = Line::new(&mut world);
        line.room = 0;
        line.ask_for("/large");
        assert_eq!(line.run(&world), None);
        line.client.connection.outbox.finish();
        let begin_ms = world.now_ms;
        let cut = loop {
            line.room = step;
            if let Some(cut) = line.run(&world) {
                break cut;
            }
            let due_ms = line.conversation.deadline_ms().expect("there is an end");
            world.now_ms = due_ms.min(world.now_ms + 1000);
        };
        assert!(matches!(cut, Cut::NotReading(_)));
        assert_eq!(world.now_ms - begin_ms, limit_ms);
    }
}

#[test]
fn the_last_answer_arrives() {
    let (mut world, _) = world();
    let mut line = Line::new(&mut world);
    line.room = 0;
    line.ask_for("/large");
    assert_eq!(line.run(&world), None);
    line.client.connection.outbox.finish();
    line.ask_for("/large");
    assert_eq!(line.run(&world), None, "nothing more is answered");
    line.room = usize::MAX;
    assert_eq!(line.run(&world), Some(Cut::ByServer));
    assert!(usize::MAX - line.room < 201_000 && line.sending == 0);
}

#[test]
fn heavy_requests_wait_for_those_before_them() {
    let (mut world, _) = world();
    let mut line = Line::new(&mut world);
    let mut writer = Client::on(line.client.connection.clone(), line.client.session);
    let mut on_their_way = 0;
    while line.conversation.may_look(false) {
        world.set(&mut writer, "/large", &[1; 500_000]);
        line.conversation.submitted(500_000);
        on_their_way += 500_000;
        assert!(on_their_way <= AHEAD_BYTES + 500_000, "{on_their_way} bytes are on their way");
    }
    line.conversation.note_held(0);
    assert_eq!(line.client.connection.account().held_bytes(), on_their_way);
    world.sync_one();
    assert!(line.conversation.may_look(false), "one is answered, another may come");
    world.sync();
    assert!(line.conversation.may_look(false));
    line.conversation.note_held(0);
    assert_eq!(
        line.client.connection.account().held_bytes(),
        line.client.connection.outbox.unsent_bytes() / 4096 * 4096
    );
}

#[test]
fn a_client_that_does_not_introduce_itself_is_waited_for_a_fixed_time() {
    let mut world = World::new();
    let client = world.connect();
    let mut conversation = Conversation::new(client.connection.clone(), Limits::new(SESSIONLESS_MS), MonotonicMs(0));
    // A byte now and then is no introduction.
    for now_ms in [1, 5000, SESSIONLESS_MS - 1] {
        conversation.received(MonotonicMs(now_ms), 1);
        assert_eq!(conversation.verdict(|| MonotonicMs(now_ms), Next::Read), None);
        assert_eq!(conversation.deadline_ms(), Some(MonotonicMs(SESSIONLESS_MS)));
    }
    assert_eq!(
        conversation.verdict(|| MonotonicMs(SESSIONLESS_MS), Next::Read),
        Some(Cut::NoHandshake(SESSIONLESS_MS))
    );
    conversation.opened();
    assert_eq!((conversation.deadline_ms(), conversation.verdict(|| MonotonicMs(i64::MAX), Next::Read)), (None, None));
}
