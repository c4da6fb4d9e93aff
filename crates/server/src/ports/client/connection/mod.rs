//! The task of one client connection: bytes in, bytes out.
//!
//! The task reads what has arrived, answers reads itself where nothing of the session is on its way, hands everything else to the replica,
//! and sends whatever has gathered in the outbox with one call. When the client counts as heard, when it is read and when it is cut
//! is decided by [`Conversation`]; here is the socket. What always holds here:
//! - a frame is looked at only after all before it are answered or handed on, so answers keep the order of requests;
//! - whatever the task waits for, it also waits for the end of the connection;
//! - bytes from outside can end this connection and nothing else.
//!
//! Reading order, along the life of a connection:
//! - `opening.rs`: the ConnectRequest, or a four-letter word in its place
//! - `requests.rs`: what becomes of each frame; `authentication.rs`: of those that say who the client is; `reads.rs`: of those that are
//!   answered here
//! - `socket.rs`: sending and waiting; the buffers between this task and its stream
//! - `ending.rs`: why a connection ends, and how
//!
//! The task is generic over its stream, which is a pipe in the tests.

mod authentication;
mod ending;
mod opening;
mod reads;
mod requests;
mod socket;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;

use rookeeper_replica::{Connection, Conversation, Cut, Identities, Limits, Next, Sample, Stamp, Turn};
use tokio::io::{AsyncRead, AsyncWrite};

use self::ending::End;
use self::opening::Opening;
use self::socket::{Received, Unreported, Unsent};
use crate::auth::sasl;
use crate::context::Context;
use crate::ports::client::large_requests::Large;

/// The task of one connection. The files of this folder share its parts.
struct Task<S> {
    context: Arc<Context>,
    stream: S,
    connection: Arc<Connection>,
    conversation: Conversation,
    input: Received,
    /// Taken from the outbox and not sent yet.
    sending: Unsent,
    /// Frames taken from the outbox that the statistics know of.
    noted_frames: u64,
    /// When the bytes at the end of the input arrived.
    arrived: Stamp,
    /// Nothing was looked at since.
    is_fresh: bool,
    unreported: Unreported,
    /// Reads of one batch that are looked at.
    samples: Vec<Sample>,
    /// Answers of one batch of reads, on their way to the outbox.
    scratch: Vec<u8>,
    /// What the client has shown to be, as of its last authentication.
    identities: Identities,
    /// The place of the next request among those that wait for their turn.
    turn: Option<Turn>,
    /// The next request has waited too long for its turn, and is refused behind everything the client asked for before.
    is_throttled: bool,
    /// Its large requests, where they have a limit.
    large: Option<Large>,
    /// How far the client is in showing by SASL who it is.
    sasl: sasl::Exchange,
}

/// Serves one accepted connection to its end.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    context: Arc<Context>,
    stream: S,
    connection: Arc<Connection>,
) {
    let mut task = Task::new(context, stream, connection);
    let Err(end) = task.run().await;
    ending::end(task, end).await;
}

impl<S: AsyncRead + AsyncWrite + Unpin> Task<S> {
    fn new(context: Arc<Context>, stream: S, connection: Arc<Connection>) -> Task<S> {
        let limits = Limits::new(i64::from(context.config.client.sessionless_connection_timeout_ms));
        Task {
            conversation: Conversation::new(connection.clone(), limits, context.clock.monotonic_ms()),
            identities: connection.identities(),
            sasl: sasl::Exchange::default(),
            input: Received::default(),
            sending: Unsent::default(),
            noted_frames: 0,
            arrived: context.clock.stamp(),
            is_fresh: false,
            unreported: Unreported::default(),
            samples: Vec::new(),
            scratch: Vec::new(),
            turn: None,
            is_throttled: false,
            large: context.large_requests.clone().map(Large::new),
            context,
            stream,
            connection,
        }
    }

    /// The whole life of the connection.
    async fn run(&mut self) -> Result<Infallible, End> {
        match self.handshake().await? {
            Opening::Command(command, argument) => return self.answer_command(command, argument).await,
            Opening::Connecting => {}
        }
        while !self.connection.is_established() {
            self.step(Next::Establish).await?;
        }
        loop {
            let next = self.look().await?;
            self.step(next).await?;
        }
    }

    /// Sends what can be sent, ends what is over, and waits.
    async fn step(&mut self, next: Next) -> Result<(), End> {
        self.flush()?;
        match self.conversation.verdict(|| self.context.clock.monotonic_ms(), next) {
            Some(Cut::NoHandshake(ms)) => return Err(End::NoHandshake(ms)),
            Some(Cut::HungUp) => return Err(End::ByClient),
            Some(Cut::ByServer) => return Err(End::ByServer),
            Some(Cut::NotReading(ms)) => return Err(End::NotReading(ms)),
            None => {}
        }
        self.conversation.note_held(self.sending.held_bytes() + self.input.len());
        if self.conversation.is_relieved() {
            return Ok(());
        }
        self.wait(next).await
    }
}
