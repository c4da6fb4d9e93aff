//! What a connection begins with: a ConnectRequest, or one of the four-letter words in its place.
//!
//! What always holds here: the first four bytes decide which of the two it is, for no frame of a client is as long as a word says; nothing
//! reaches the replica before a whole ConnectRequest has been read and the throttle has let it through.

use std::convert::Infallible;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::connect::ConnectRequest;
use rookeeper_proto::frame;
use rookeeper_replica::{Input, Next};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;

use super::Task;
use super::ending::End;
use crate::commands::{self, Command, Cost};
use crate::observe::drops::Dropped;

/// What a connection begins with.
pub(super) enum Opening {
    /// The ConnectRequest is on its way to the replica.
    Connecting,
    /// A four-letter word and the argument behind it, zeros where it takes none.
    Command(&'static Command, [u8; 8]),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Task<S> {
    /// Reads up to the ConnectRequest and hands it on, or reads a four-letter word.
    pub(super) async fn handshake(&mut self) -> Result<Opening, End> {
        while self.input.len() < 4 {
            self.step(Next::Read).await?;
        }
        let word = self.input.first_four();
        if let Some(command) = commands::find(word) {
            let mut argument = [0; 8];
            if command.takes_argument() && commands::is_allowed(&self.context, command) {
                while self.input.len() < 12 {
                    self.step(Next::Read).await?;
                }
                argument.copy_from_slice(&self.input.pending()[4..12]);
            }
            self.conversation.opened();
            return Ok(Opening::Command(command, argument));
        }
        let limit = self.context.config.requests.jute_max_buffer;
        let (request, length) = loop {
            if let Some((payload, length)) = frame::split(self.input.pending(), limit)? {
                break (ConnectRequest::decode(payload).map_err(|_| End::Undecodable("ConnectRequest"))?, length);
            }
            self.step(Next::Read).await?;
        };
        self.conversation.opened();
        self.consume(length);
        self.context.shared.statistics.connection_requests.fetch_add(1, Relaxed);
        if self.context.turns_clients_away() {
            self.context.figures.drops.note(Dropped::NotServing);
            return Err(End::ByServer);
        }
        if !self.context.admit_session(&request) {
            return Err(End::ByServer);
        }
        debug!(client = %self.connection.peer, session = %request.session, timeout_ms = request.timeout_ms, "connecting");
        self.submit(Input::Connect { connection: self.connection.clone(), request }).await?;
        Ok(Opening::Connecting)
    }

    /// Answers a four-letter word, and waits for the end of the connection. Answers that take a while are made on other threads, those that
    /// list everything the server has one after the other.
    pub(super) async fn answer_command(
        &mut self,
        command: &'static Command,
        argument: [u8; 8],
    ) -> Result<Infallible, End> {
        let turns = match command.cost() {
            Cost::AtOnce => None,
            Cost::Short => Some(&self.context.answers),
            Cost::Long => Some(&self.context.long_answers),
        };
        match turns {
            None => commands::run(&self.context, command, &self.connection, argument).send(),
            Some(turns) => {
                let _turn = turns.acquire().await.ok();
                let (context, connection) = (self.context.clone(), self.connection.clone());
                let answering = move || commands::run(&context, command, &connection, argument).send();
                tokio::task::spawn_blocking(answering).await.map_err(|_| End::ByServer)?;
            }
        }
        // The asking side may have said before that nothing more will come from it.
        loop {
            self.step(Next::Send).await?;
        }
    }
}
