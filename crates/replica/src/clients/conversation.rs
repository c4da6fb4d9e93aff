//! The rules of one client's connection: when its client counts as heard, when it is read, and when it is cut.
//!
//! The socket is somebody else's. Whoever drives it (a task with a socket, a simulator with events) tells what happened, with the
//! time, and asks what may be done. What always holds here:
//! - only bytes that arrived are a sign of life of the client: neither what was sent to it nor a socket that became writable;
//! - no further request is looked at while more waits to be sent than the client may leave unread, wherever it waits, or while the
//!   answers to what it asked before may grow beyond that;
//! - while requests are not looked at, input is read up to a bound, so that pings and a hang-up are noticed;
//! - silence is excused only while this server does not read for its own sake, never while the client does not take its answers;
//! - a connection on which nobody introduces himself, whose session is over, whose client hung up, or that takes nothing of what waits for
//!   it, ends within a fixed time.
//!
//! The counterparts in the original are `NIOServerCnxn` and its expirer.

use rookeeper_proto::MonotonicMs;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::clients::budget::Meter;
use crate::clients::connection::Connection;
use crate::clients::outbox::Drained;

/// While more than this waits to be sent, no further request is looked at.
pub const UNSENT_BYTES: usize = 1 << 20;

/// The same while the whole server holds about as much for its clients as it may.
const UNSENT_BYTES_WHEN_TIGHT: usize = 64 << 10;

/// Input read in advance while requests are not looked at.
pub const INPUT_AHEAD_BYTES: usize = 64 << 10;

/// Bytes of requests, and of the answers that they may get, that one client may have on their way.
pub const AHEAD_BYTES: usize = 4 << 20;

/// Requests that are on their way without being weighed, if they are small.
pub(crate) const UNWEIGHED_REQUESTS: usize = 16;

/// A request lighter than this is not weighed.
const LIGHT_BYTES: usize = 4 << 10;

/// A connection that is to end once its last answer is sent gets this long without the client taking anything, and this long in all.
pub const FINISH_STALL_MS: i64 = 5_000;
/// See [`FINISH_STALL_MS`].
pub const FINISH_MS: i64 = 30_000;

/// How much one client may make the server hold before it is not looked at, and how long it may take to introduce itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// [`UNSENT_BYTES`] of a server.
    pub unsent_bytes: usize,
    /// The same while the server holds about as much for its clients as it may. No more is taken from the outbox at any time while as much is
    /// not sent.
    pub unsent_bytes_when_tight: usize,
    /// [`INPUT_AHEAD_BYTES`] of a server.
    pub input_ahead_bytes: usize,
    /// [`AHEAD_BYTES`] of a server.
    pub ahead_bytes: usize,
    /// How long a client may take to send its first request, and one without a session to take anything.
    pub sessionless_ms: i64,
}

impl Limits {
    /// The limits of a server, with `sessionless_ms` for a client that has no session.
    pub fn new(sessionless_ms: i64) -> Limits {
        Limits {
            unsent_bytes: UNSENT_BYTES,
            unsent_bytes_when_tight: UNSENT_BYTES_WHEN_TIGHT,
            input_ahead_bytes: INPUT_AHEAD_BYTES,
            ahead_bytes: AHEAD_BYTES,
            sessionless_ms,
        }
    }
}

/// What a driver waits for once it has looked at everything that it may look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// More bytes: the next request is not there as a whole.
    Read,
    /// Room for answers, or answers to what is in flight.
    Settle,
    /// The answer to the handshake.
    Establish,
    /// The turn of the next request, for too many are on their way. Whoever waits asks [`Turn`](crate::Turn) as well.
    Turn,
    /// Only that what is here is sent.
    Send,
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// No first request arrived for this many milliseconds.
    NoHandshake(i64),
    /// The client hung up, and nothing of what it had sent is left to be looked at.
    HungUp,
    /// The last answer is sent, or the session is over, or the server stops.
    ByServer,
    /// The client took nothing of what waits for it for this many milliseconds.
    NotReading(i64),
}

/// Why no request is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Hold {
    #[default]
    None,
    /// The client does not take its answers.
    Client,
    /// The server has too much to do.
    Server,
    /// The last answer of this connection is given.
    Finished,
}

/// A request, or the answer that it may get, that is heavy.
#[derive(Debug)]
struct Heavy {
    /// Counts requests handed to the replica.
    number: u64,
    bytes: usize,
}

/// Which step comes next on a client's connection, and when the connection is over. Whoever has the socket asks it; it has no socket itself.
#[derive(Debug)]
pub struct Conversation {
    connection: Arc<Connection>,
    limits: Limits,
    /// Since when the first request is waited for, until it is there.
    opening_since_ms: Option<MonotonicMs>,
    /// Bytes that left the outbox and were not sent.
    unsent_bytes: usize,
    /// Bytes that arrived and were not looked at.
    input_bytes: usize,
    /// Since when the client takes nothing of what waits for it.
    stalled_since_ms: Option<MonotonicMs>,
    /// When it became clear that nothing more will be said.
    finishing_since_ms: Option<MonotonicMs>,
    closed: bool,
    hung_up: bool,
    hold: Hold,
    submitted: u64,
    heavy: VecDeque<Heavy>,
    heavy_bytes: usize,
    meter: Meter,
}

impl Conversation {
    /// Of a connection that was just accepted.
    pub fn new(connection: Arc<Connection>, limits: Limits, now_ms: MonotonicMs) -> Conversation {
        Conversation {
            connection,
            limits,
            opening_since_ms: Some(now_ms),
            unsent_bytes: 0,
            input_bytes: 0,
            stalled_since_ms: None,
            finishing_since_ms: None,
            closed: false,
            hung_up: false,
            hold: Hold::None,
            submitted: 0,
            heavy: VecDeque::new(),
            heavy_bytes: 0,
            meter: Meter::default(),
        }
    }

    /// The first request is there as a whole.
    pub fn opened(&mut self) {
        self.opening_since_ms = None;
    }

    /// Bytes arrived. Nothing else is a sign of life.
    pub fn received(&mut self, now_ms: MonotonicMs, count: usize) {
        debug_assert!(count > 0, "no bytes are no sign of life");
        self.connection.heard(now_ms);
        self.input_bytes += count;
    }

    /// Bytes of the input were looked at.
    pub fn consumed(&mut self, count: usize) {
        self.input_bytes -= count;
    }

    /// The client said that it will send nothing more.
    pub fn hung_up(&mut self) {
        self.hung_up = true;
    }

    /// `taken` bytes came out of the outbox to be sent, and the socket took `sent`. The time is asked for only where bytes stay behind.
    pub fn flushed(&mut self, now_ms: impl Fn() -> MonotonicMs, taken: usize, sent: usize, drained: &Drained) {
        self.unsent_bytes = self.unsent_bytes + taken - sent;
        if self.unsent_bytes == 0 {
            self.stalled_since_ms = None;
        } else if sent > 0 || self.stalled_since_ms.is_none() {
            self.stalled_since_ms = Some(now_ms());
        }
        match drained {
            Drained::Bytes => {}
            Drained::Last if self.finishing_since_ms.is_none() => self.finishing_since_ms = Some(now_ms()),
            Drained::Last => {}
            Drained::Closed => self.closed = true,
        }
    }

    /// Bytes that left the outbox and were not sent.
    pub fn unsent_bytes(&self) -> usize {
        self.unsent_bytes
    }

    /// Whether the last answer is known.
    fn is_finishing(&self) -> bool {
        self.finishing_since_ms.is_some()
    }

    /// Whether the outbox may be emptied: what stays there is under its limit.
    pub fn takes(&self) -> bool {
        self.unsent_bytes <= self.limits.unsent_bytes_when_tight
    }

    /// A request goes to the replica; it and the answer to it weigh this much.
    pub fn submitted(&mut self, bytes: usize) {
        self.submitted += 1;
        if bytes >= LIGHT_BYTES {
            self.heavy.push_back(Heavy { number: self.submitted, bytes });
            self.heavy_bytes += bytes;
        }
    }

    /// Requests that went to the replica, and how many of them are answered; the oldest are.
    pub fn counts(&self) -> (u64, u64) {
        (self.submitted, self.submitted.saturating_sub(self.connection.in_flight() as u64))
    }

    /// Whether the answer to the next read that goes to the replica should be weighed.
    pub fn weighs_answers(&self) -> bool {
        self.connection.in_flight() >= UNWEIGHED_REQUESTS
    }

    /// Answers come in order, so the heavy requests that are answered are the oldest.
    fn settle(&mut self) {
        let settled = self.submitted.saturating_sub(self.connection.in_flight() as u64);
        while let Some(heavy) = self.heavy.pop_front_if(|heavy| heavy.number <= settled) {
            self.heavy_bytes -= heavy.bytes;
        }
    }

    /// Whether the next request may be looked at. `server_is_full`: the server has more to do than it wants.
    pub fn may_look(&mut self, server_is_full: bool) -> bool {
        if !self.heavy.is_empty() {
            self.settle();
        }
        let is_tight = self.connection.budget().is_tight();
        self.hold = if !self.connection.outbox.is_open() {
            Hold::Finished
        } else if self.is_clogged() {
            Hold::Client
        } else if (server_is_full || is_tight || self.heavy_bytes > self.limits.ahead_bytes)
            && self.connection.in_flight() > 0
        {
            Hold::Server
        } else {
            Hold::None
        };
        self.excuse();
        self.hold == Hold::None
    }

    /// Whether the client takes its answers too slowly to be given more.
    fn is_clogged(&self) -> bool {
        let is_tight = self.connection.budget().is_tight();
        let limit = if is_tight { self.limits.unsent_bytes_when_tight } else { self.limits.unsent_bytes };
        self.unsent_bytes + self.connection.outbox.unsent_bytes() > limit
    }

    /// Whether the client has taken what held its next request back. Ask after everything that can be sent was sent: nothing wakes the
    /// driver a second time for what is sent already, so it must look again before it waits.
    pub fn is_relieved(&self) -> bool {
        self.hold == Hold::Client && !self.is_clogged()
    }

    /// Whether input is to be read now.
    pub fn reads(&self, next: Next) -> bool {
        match next {
            Next::Read => !self.hung_up,
            Next::Settle | Next::Establish | Next::Turn => self.reads_ahead(),
            Next::Send => false,
        }
    }

    fn reads_ahead(&self) -> bool {
        !self.hung_up && self.input_bytes < self.limits.input_ahead_bytes
    }

    /// Ready when there is something to do although the client did nothing: there is something to send, the connection is to end, or
    /// `next` waits for answers and all are there.
    pub fn poll(&self, context: &mut Context<'_>, next: Next) -> Poll<()> {
        let outbox = &self.connection.outbox;
        // The waker is in place before the count is read: an answer that comes between the two looks is not missed.
        let ready = match (self.is_finishing(), self.unsent_bytes > 0) {
            (true, _) => outbox.poll_closed(context),
            (false, true) => outbox.poll_ending(context),
            (false, false) => outbox.poll_ready(context),
        };
        let settles = next == Next::Settle && matches!(self.hold, Hold::None | Hold::Server);
        if settles && self.connection.in_flight() == 0 { Poll::Ready(()) } else { ready }
    }

    /// Where the server reads nothing for its own sake, silence says nothing about the client.
    fn excuse(&self) {
        let excused = self.hold == Hold::Server && !self.reads_ahead();
        if excused != self.connection.is_held_back() {
            self.connection.hold_back(excused);
        }
    }

    /// The next request waits for its turn: nothing is looked at, for the server's sake.
    pub fn waits_for_turn(&mut self) {
        self.hold = Hold::Server;
        self.excuse();
    }

    /// Whether the client has said that it will send nothing more.
    pub fn has_hung_up(&self) -> bool {
        self.hung_up
    }

    /// Whatever holds the request back that is being handed over, it is not the client.
    pub fn waits_for_server(&self, waits: bool) {
        self.connection.hold_back(waits);
    }

    /// Notes what the driver holds for this client at the moment.
    pub fn note_held(&mut self, buffer_bytes: usize) {
        self.meter.note(self.connection.account(), buffer_bytes + self.heavy_bytes);
    }

    /// Whether the connection is over. Ask after everything that can be sent was sent, whenever something happened and at
    /// [`Conversation::deadline_ms`].
    pub fn verdict(&mut self, now_ms: impl Fn() -> MonotonicMs, next: Next) -> Option<Cut> {
        if self.closed || (self.is_finishing() && self.unsent_bytes + self.connection.outbox.unsent_bytes() == 0) {
            return Some(Cut::ByServer);
        }
        // No whole request is left to be looked at.
        let idle = next == Next::Read || (next == Next::Establish && self.input_bytes == 0);
        if self.hung_up && (idle || self.hold == Hold::Client) {
            return Some(Cut::HungUp);
        }
        let due_ms = self.deadline_ms()?;
        let now_ms = now_ms();
        (due_ms <= now_ms).then(|| match (self.stalled_since_ms, self.opening_since_ms) {
            (None, Some(opening_ms)) => Cut::NoHandshake(now_ms - opening_ms),
            (since_ms, _) => Cut::NotReading(now_ms - since_ms.unwrap_or(now_ms)),
        })
    }

    /// When [`Conversation::verdict`] is to be asked although nothing happened.
    pub fn deadline_ms(&self) -> Option<MonotonicMs> {
        let Some(since_ms) = self.stalled_since_ms else {
            return self.opening_since_ms.map(|opening_ms| opening_ms + self.limits.sessionless_ms);
        };
        match self.finishing_since_ms {
            Some(finishing_ms) => Some((since_ms + FINISH_STALL_MS).min(finishing_ms + FINISH_MS)),
            None if self.connection.is_established() => Some(since_ms + i64::from(self.connection.timeout_ms())),
            None => Some(since_ms + self.limits.sessionless_ms),
        }
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.meter.note(self.connection.account(), 0);
    }
}
