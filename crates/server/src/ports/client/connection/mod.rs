//! The task of one client connection: bytes in, bytes out.
//!
//! It reads what has arrived, answers reads itself where nothing of the session is on its way, hands everything else to the replica,
//! and sends whatever has gathered in the outbox with one call. When the client counts as heard, when it is read and when it is cut
//! is decided by [`Conversation`]; here is the socket. What always holds here:
//! - a frame is looked at only after all before it are answered or handed on, so answers keep the order of requests;
//! - whatever the task waits for, it also waits for the end of the connection;
//! - bytes from outside can end this connection and nothing else.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{self, Poll};

use rookeeper_proto::connect::ConnectRequest;
use rookeeper_proto::frame::{self, ReplyHeader, RequestHeader};
use rookeeper_proto::request::WriteRequest;
use rookeeper_proto::{ErrorCode, Id, OpCode, Zxid};
use rookeeper_replica::{
    Connection, Conversation, Cut, Drained, Excess, Identities, Input, Limits, LongRead, Next, ReadFrame, long_read,
    read,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::mpsc::error::TrySendError;
use tracing::debug;

use crate::auth::{self, Verdict};
use crate::commands::{self, Command, Cost};
use crate::context::Context;
use crate::logging::limited;
use crate::net::disguise;
use crate::net::linger::linger;

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// Buffers of an idle connection keep no more room than this.
const IDLE_BYTES: usize = 16 << 10;

/// Bytes of answers gathered under one lock of the tree: longer would keep the apply step waiting.
const BATCH_BYTES: usize = 64 << 10;
const BATCH_READS: usize = 64;

pub(crate) struct Task<S> {
    context: Arc<Context>,
    stream: S,
    connection: Arc<Connection>,
    conversation: Conversation,
    input: Received,
    /// Taken from the outbox and not sent yet; the first `sent` bytes are.
    sending: Vec<u8>,
    sent: usize,
    /// Frames taken from the outbox that the statistics know of.
    noted_frames: u64,
    /// Answers of one batch of reads, on their way to the outbox.
    scratch: Vec<u8>,
    identities: Identities,
    enforced: bool,
}

/// Bytes that arrived and were not consumed.
#[derive(Default)]
struct Received {
    bytes: Vec<u8>,
    start: usize,
}

/// Why a connection ends. Only for its log line.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("closed by the client")]
    ByClient,
    #[error("closed by the server")]
    ByServer,
    #[error("{0}")]
    Excess(Excess),
    #[error("the client took nothing of what was to be sent to it for {0} ms")]
    NotReading(i64),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}; raise jute.maxbuffer on server and client if requests of this size are meant")]
    FrameTooLarge(#[from] frame::FrameTooLarge),
    #[error("undecodable {0}")]
    Undecodable(&'static str),
    #[error("the client means an ensemble of another name (ensembleAuthName)")]
    OtherEnsemble,
    #[error("no ConnectRequest within {0} ms")]
    NoHandshake(i64),
}

/// What a connection begins with.
enum Opening {
    Connecting,
    Command(&'static Command, [u8; 8]),
}

/// What the socket did while the task waited.
enum Woken {
    /// Something else happened.
    No,
    Sent(usize),
    Received(usize),
}

/// Serves one accepted connection to its end.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    context: Arc<Context>,
    stream: S,
    connection: Arc<Connection>,
) {
    let identities = connection.identities();
    let enforced = context.config.access.enforced_schemes.is_some();
    let limits = Limits::new(i64::from(context.config.client.sessionless_connection_timeout_ms));
    let conversation = Conversation::new(connection.clone(), limits, context.clock.monotonic_ms());
    let mut task = Task {
        context: context.clone(),
        stream,
        connection: connection.clone(),
        conversation,
        input: Received::default(),
        sending: Vec::new(),
        sent: 0,
        noted_frames: 0,
        scratch: Vec::new(),
        identities,
        enforced,
    };
    let end = match task.run().await.err() {
        Some(End::ByServer) => Some(connection.outbox.excess().map_or(End::ByServer, End::Excess)),
        end => end,
    };
    let statistics = &context.shared.statistics;
    match end {
        Some(End::ByClient) => statistics.connections_dropped.fetch_add(1, Relaxed),
        Some(End::NoHandshake(_)) => statistics.sessionless_connections_expired.fetch_add(1, Relaxed),
        Some(End::Excess(_)) => statistics.connections_cut_for_memory.fetch_add(1, Relaxed),
        _ => 0,
    };
    // What it held is free from here on; the socket is still to be closed in order.
    let disguise = if connection.is_established() { None } else { disguise::recognized(task.input.pending()) };
    let stream = task.into_stream();
    while !context.shared.remove_some_of(&connection) {
        // Its watches may be many, and this worker has others to serve.
        tokio::task::yield_now().await;
    }
    if connection.is_established() {
        // The replica is told last, so that nothing of this connection follows.
        let _ = context.inputs.send(Input::Disconnected { connection: connection.clone() }).await;
    }
    if let Some(end) = &end {
        tell(end, &connection, disguise);
    }
    let ended_by_client = matches!(end, Some(End::ByClient | End::Io(_)));
    // Whoever waits for all tasks to let go of the context does not wait for clients.
    drop((context, connection));
    if !ended_by_client {
        linger(stream).await;
    }
}

/// `disguise`: what the bytes are that are no frames.
fn tell(end: &End, connection: &Connection, disguise: Option<&'static str>) {
    let (client, session) = (connection.peer, connection.session());
    match end {
        // Those who hold the most are told together by whoever cut them.
        End::Excess(Excess::Share { .. }) => debug!(%client, %session, "connection closed: {end}"),
        End::FrameTooLarge(_) | End::Undecodable(_) | End::OtherEnsemble => {
            limited!(
                warn,
                "connections closed for what they sent",
                "connection of {client}, session {session}, closed: {}",
                disguise::cause(end, disguise)
            );
        }
        End::Excess(_) => {
            limited!(
                warn,
                "connections closed for what they made this server hold",
                "connection of {client}, session {session}, closed: {end}"
            );
        }
        end => debug!(%client, %session, "connection closed: {end}"),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Task<S> {
    fn into_stream(self) -> S {
        self.stream
    }

    async fn run(&mut self) -> Result<(), End> {
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
        self.conversation.note_held(self.sending.len() + self.input.len());
        if self.conversation.is_relieved() {
            return Ok(());
        }
        self.wait(next).await
    }

    /// Reads up to the ConnectRequest and hands it on, or reads a four-letter word.
    async fn handshake(&mut self) -> Result<Opening, End> {
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
        let limit = self.context.max_frame_bytes;
        let (request, length) = loop {
            if let Some((payload, length)) = frame::split(self.input.pending(), limit)? {
                break (ConnectRequest::decode(payload).map_err(|_| End::Undecodable("ConnectRequest"))?, length);
            }
            self.step(Next::Read).await?;
        };
        self.conversation.opened();
        self.consume(length);
        self.context.shared.statistics.connection_requests.fetch_add(1, Relaxed);
        if self.context.turns_clients_away() || !self.context.admit_session(&request) {
            return Err(End::ByServer);
        }
        debug!(client = %self.connection.peer, session = %request.session, timeout_ms = request.timeout_ms, "connecting");
        self.submit(Input::Connect { connection: self.connection.clone(), request }).await?;
        Ok(Opening::Connecting)
    }

    /// Answers that take a while are made elsewhere, those that list everything the server has one after the other.
    async fn answer_command(&mut self, command: &'static Command, argument: [u8; 8]) -> Result<(), End> {
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
        // Whoever asks may have said before that nothing more will come from it.
        loop {
            self.step(Next::Send).await?;
        }
    }

    /// Looks at the frames that have arrived.
    async fn look(&mut self) -> Result<Next, End> {
        loop {
            let limit = self.context.config.requests.global_outstanding_limit as usize;
            if !self.conversation.may_look(self.context.shared.outstanding() > limit) {
                return Ok(Next::Settle);
            }
            let limit = self.context.max_frame_bytes;
            let Some((payload, length)) = frame::split(self.input.pending(), limit)? else { return Ok(Next::Read) };
            let (header, body) = RequestHeader::split(payload).ok_or(End::Undecodable("request header"))?;
            let Some(op) = OpCode::from_i32(header.op).filter(|op| op.is_client_request()) else {
                if self.connection.in_flight() > 0 {
                    return Ok(Next::Settle);
                }
                self.refuse(header.xid, Zxid(-1), ErrorCode::Unimplemented);
                return Ok(Next::Settle);
            };
            match op {
                OpCode::Auth => {
                    let (xid, verdict) = (header.xid, self.judge(body));
                    self.consume(length);
                    match verdict {
                        Verdict::Accepted(gained) if self.connection.add_identities(gained.iter().cloned()) => {
                            self.identities = self.connection.identities();
                            self.reply_at_once(ReplyHeader { xid, zxid: Zxid::ZERO, err: 0 }, &[]);
                        }
                        Verdict::OurEnsemble { was_judged } => {
                            let statistics = &self.context.shared.statistics;
                            let count = match was_judged {
                                true => &statistics.ensemble_names_right,
                                false => &statistics.ensemble_names_not_judged,
                            };
                            count.fetch_add(1, Relaxed);
                            self.reply_at_once(ReplyHeader { xid, zxid: Zxid::ZERO, err: 0 }, &[]);
                        }
                        Verdict::Accepted(_) | Verdict::Refused => {
                            self.context.shared.statistics.authentications_refused.fetch_add(1, Relaxed);
                            let client = self.connection.peer;
                            limited!(warn, "refused authentications", "authentication of {client} refused");
                            self.refuse(xid, Zxid::ZERO, ErrorCode::AuthFailed);
                            return Ok(Next::Settle);
                        }
                        Verdict::OtherEnsemble => {
                            self.context.shared.statistics.ensemble_names_wrong.fetch_add(1, Relaxed);
                            self.context.shared.statistics.authentications_refused.fetch_add(1, Relaxed);
                            return Err(End::OtherEnsemble);
                        }
                        Verdict::Undecodable => return Err(End::Undecodable("auth packet")),
                    }
                }
                OpCode::Sasl => {
                    // Without a SASL configuration every token is answered with success and no identity, as in the original.
                    if !matches!(body.first_chunk::<4>(), Some(length) if i32::from_be_bytes(*length) >= 0) {
                        return Err(End::Undecodable("SASL packet"));
                    }
                    self.consume(length);
                    let null_token = [0xff; 4];
                    self.reply_at_once(ReplyHeader { xid: header.xid, zxid: Zxid::ZERO, err: 0 }, &null_token);
                }
                _ if self.enforced && !self.is_authenticated() => {
                    self.refuse(header.xid, Zxid::ZERO, ErrorCode::SessionClosedRequireSaslAuth);
                    return Ok(Next::Settle);
                }
                op if op.is_write() => {
                    let request = WriteRequest::decode(op, body).ok();
                    let (xid, connection) = (header.xid, self.connection.clone());
                    let identities = self.identities.clone();
                    let body = if self.context.shared.forwards() { body.to_vec() } else { Vec::new() };
                    self.consume(length);
                    self.conversation.submitted(length);
                    self.submit(Input::Write { connection, xid, op, request, body, identities }).await?;
                }
                op if long_read::is_long(op, body.len()) => {
                    // Behind a write it waits here: the replica must not be kept that long.
                    if self.connection.in_flight() > 0 {
                        return Ok(Next::Settle);
                    }
                    self.answer_in_portions().await?;
                }
                op if self.connection.in_flight() == 0 && self.is_answered_here(op) => {
                    if self.answer_reads() == 0 {
                        // It lists very many children.
                        self.answer_in_portions().await?;
                    }
                }
                OpCode::GetChildren | OpCode::GetChildren2
                    if long_read::lists_many(&self.context.shared.tree(), op, body) =>
                {
                    // Behind a write this waits too.
                    return Ok(Next::Settle);
                }
                op => {
                    let read = ReadFrame {
                        xid: header.xid,
                        op,
                        body: body.to_vec(),
                        identities: self.identities.clone(),
                        received_ms: self.context.clock.monotonic_ms(),
                    };
                    // Its answer is made when its turn comes, whether there is room for it or not.
                    let answer = match self.conversation.weighs_answers() {
                        true => read::weight(&self.context.shared, &self.context.shared.tree(), op, &read.body),
                        false => 0,
                    };
                    self.consume(length);
                    self.conversation.submitted(length + answer);
                    self.submit(Input::Read { connection: self.connection.clone(), read }).await?;
                }
            }
        }
    }

    /// Answers the reads at the head of the input under one lock of the tree, up to one that is to be answered in portions. Returns how many
    /// those were.
    fn answer_reads(&mut self) -> usize {
        let shared = &self.context.shared;
        let tree = shared.tree();
        shared.serve_deferred_to(&self.connection);
        let (mut frames, mut reads, mut last) = (0, 0, (OpCode::Ping, 0));
        while self.scratch.len() < BATCH_BYTES && reads < BATCH_READS {
            let Ok(Some((payload, length))) = frame::split(self.input.pending(), self.context.max_frame_bytes) else {
                break;
            };
            let Some((header, body)) = RequestHeader::split(payload) else { break };
            let is_read = |op: &OpCode| {
                op.is_client_request()
                    && !op.is_write()
                    && !matches!(op, OpCode::Auth | OpCode::Sasl)
                    && self.is_answered_here(*op)
            };
            let Some(op) = OpCode::from_i32(header.op).filter(is_read) else { break };
            if long_read::is_long(op, body.len()) || long_read::lists_many(&tree, op, body) {
                break;
            }
            let request = (header.xid, op, body);
            frames += read::answer(shared, &tree, &self.connection, &self.identities, request, &mut self.scratch);
            reads += 1;
            last = (op, header.xid);
            self.input.consume(length);
            self.conversation.consumed(length);
        }
        self.connection.outbox.append_frames(frames, |output| {
            if output.is_empty() {
                std::mem::swap(output, &mut self.scratch);
            } else {
                output.append(&mut self.scratch);
            }
        });
        // Nobody wants the answers of a connection that is over.
        self.scratch.clear();
        let zxid = tree.last_zxid();
        drop(tree);
        self.count_received(reads as u64);
        if reads > 0 {
            self.note_reads(reads as u64, last, zxid);
        }
        reads
    }

    fn note_reads(&self, count: u64, last: (OpCode, i32), zxid: Zxid) {
        let statistics = &self.context.shared.statistics;
        statistics.request_latency_ms.record_many(0, count);
        statistics.read_latency_ms.record_many(0, count);
        let now_ms = self.context.clock.monotonic_ms();
        self.connection.statistics.answered(count, last, zxid, now_ms, 0);
    }

    /// Answers the read at the head of the input, which looks at many nodes, with the tree locked for a portion at a time.
    async fn answer_in_portions(&mut self) -> Result<(), End> {
        let Some((payload, length)) = frame::split(self.input.pending(), self.context.max_frame_bytes)? else {
            return Ok(());
        };
        let payload = payload.to_vec();
        self.consume(length);
        let (header, body) = RequestHeader::split(&payload).ok_or(End::Undecodable("request header"))?;
        let op = OpCode::from_i32(header.op).ok_or(End::Undecodable("request header"))?;
        let xid = header.xid;
        let mut read = LongRead::new((xid, op, body));
        let zxid = loop {
            {
                let shared = &self.context.shared;
                let tree = shared.tree();
                shared.serve_deferred_to(&self.connection);
                let (frames, done) = read.go_on(shared, &tree, &self.connection, &self.identities, &mut self.scratch);
                if done {
                    let zxid = tree.last_zxid();
                    let _tree = (!read.has_place()).then_some(tree);
                    self.connection.outbox.fill(frames, &mut self.scratch);
                    break zxid;
                }
                self.connection.outbox.append_frames(frames, |output| output.append(&mut self.scratch));
            }
            if !self.connection.outbox.is_open() {
                return Err(End::ByServer);
            }
            tokio::task::yield_now().await;
        };
        self.note_reads(1, (op, xid), zxid);
        Ok(())
    }

    /// What is no write is answered from the tree, but in an ensemble a sync asks whether that is recent.
    fn is_answered_here(&self, op: OpCode) -> bool {
        op != OpCode::Sync || self.context.config.ensemble.is_none()
    }

    fn judge(&self, body: &[u8]) -> Verdict {
        let address = Id::new("ip", self.connection.peer.ip().to_canonical().to_string());
        auth::judge(body, &self.context.config.access, &address)
    }

    fn is_authenticated(&self) -> bool {
        let schemes = self.context.config.access.enforced_schemes.as_ref();
        schemes.is_none_or(|schemes| self.identities.iter().any(|id| schemes.contains(&id.scheme)))
    }

    /// Answers without regard to what is on its way: only authentication does that.
    fn reply_at_once(&self, header: ReplyHeader, body: &[u8]) {
        self.connection.outbox.append(|output| {
            frame::append(output, |output| {
                rookeeper_proto::jute::append(output, &header);
                output.extend_from_slice(body);
            });
        });
    }

    /// The last answer of this connection. Its session lives on.
    fn refuse(&mut self, xid: i32, zxid: Zxid, code: ErrorCode) {
        self.reply_at_once(ReplyHeader { xid, zxid, err: code.number() }, &[]);
        self.connection.outbox.finish();
    }

    fn consume(&mut self, length: usize) {
        self.input.consume(length);
        self.conversation.consumed(length);
        self.count_received(1);
    }

    fn count_received(&self, count: u64) {
        self.connection.statistics.received.fetch_add(count, Relaxed);
        self.context.shared.statistics.packets_received.fetch_add(count, Relaxed);
    }

    /// Hands something to the replica, waiting where its queue is full.
    async fn submit(&self, input: Input) -> Result<(), End> {
        if matches!(input, Input::Write { .. } | Input::Read { .. }) {
            self.context.shared.submit(&self.connection);
        }
        match self.context.inputs.try_send(input) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(_)) => Err(End::ByServer),
            Err(TrySendError::Full(input)) => {
                self.conversation.waits_for_server(true);
                let sent = self.context.inputs.send(input).await;
                self.conversation.waits_for_server(false);
                sent.map_err(|_| End::ByServer)
            }
        }
    }

    /// Sends what the socket takes without waiting.
    fn flush(&mut self) -> Result<(), End> {
        let before = self.sending.len();
        let drained = match self.conversation.takes() {
            true => {
                let drained = self.connection.outbox.take(&mut self.sending);
                self.context.note_sent(&self.connection, &mut self.noted_frames);
                drained
            }
            // What stays in the outbox is under its limit.
            false => self.connection.outbox.peek(),
        };
        let taken = self.sending.len() - before;
        let sent = self.send_available()?;
        self.conversation.flushed(|| self.context.clock.monotonic_ms(), taken, sent, &drained);
        Ok(())
    }

    /// Sends what the socket takes now, and tells how much that was. Whoever has to wait for more asks the socket again.
    fn send_available(&mut self) -> Result<usize, End> {
        let mut context = task::Context::from_waker(task::Waker::noop());
        let before = self.sent;
        while self.sent < self.sending.len()
            && let Poll::Ready(sent) = Pin::new(&mut self.stream).poll_write(&mut context, &self.sending[self.sent..])
        {
            self.sent += some(sent?)?;
        }
        let count = self.sent - before;
        self.tidy_up();
        Ok(count)
    }

    /// What is sent needs no memory.
    fn tidy_up(&mut self) {
        if self.sent == self.sending.len() {
            self.sending.clear();
            self.sent = 0;
            // One large answer must not keep its memory for the life of the connection.
            if self.sending.capacity() > IDLE_BYTES {
                self.sending = Vec::new();
            }
        } else if self.sent > self.sending.len() / 2 {
            // Nor what is sent of it for as long as the rest takes.
            self.sending.drain(..self.sent);
            self.sending.shrink_to(READ_BYTES);
            self.sent = 0;
        }
    }

    /// Waits until there is something to send, room to send it, or what `next` says; and reads what has arrived.
    async fn wait(&mut self, next: Next) -> Result<(), End> {
        let deadline = self.conversation.deadline_ms().map(|due_ms| self.context.clock.instant(due_ms));
        let reads = self.conversation.reads(next);
        let Task { stream, conversation, input, sending, sent, .. } = self;
        let happens = poll_fn(|context| {
            if *sent < sending.len()
                && let Poll::Ready(sent) = Pin::new(&mut *stream).poll_write(context, &sending[*sent..])
            {
                return Poll::Ready(sent.and_then(some).map(Woken::Sent));
            }
            if conversation.poll(context, next).is_ready() {
                return Poll::Ready(Ok(Woken::No));
            }
            match reads {
                true => input.poll_read(stream, context).map_ok(Woken::Received),
                false => Poll::Pending,
            }
        });
        let woken = tokio::select! {
            biased;
            woken = happens => woken?,
            () = sleep_until(deadline), if deadline.is_some() => Woken::No,
        };
        match woken {
            Woken::No => {}
            Woken::Sent(count) => {
                self.sent += count;
                self.tidy_up();
                self.conversation.flushed(|| self.context.clock.monotonic_ms(), 0, count, &Drained::Bytes);
            }
            Woken::Received(0) => self.conversation.hung_up(),
            Woken::Received(count) => {
                self.conversation.received(self.context.clock.monotonic_ms(), count);
                self.context.shared.statistics.bytes_received.fetch_add(count as u64, Relaxed);
            }
        }
        Ok(())
    }
}

/// A socket that takes no byte of some will never take any.
fn some(sent: usize) -> io::Result<usize> {
    if sent == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(sent) }
}

impl Received {
    fn pending(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn first_four(&self) -> [u8; 4] {
        let mut four = [0; 4];
        four.copy_from_slice(&self.pending()[..4]);
        four
    }

    fn consume(&mut self, length: usize) {
        self.start += length;
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
            // Idle connections should cost little.
            if self.bytes.capacity() > IDLE_BYTES {
                self.bytes = Vec::new();
            }
        }
    }

    /// Memory grows with what arrives, never with what a length prefix promises.
    fn poll_read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        context: &mut task::Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        let room = READ_BYTES.min(self.bytes.len().max(4 << 10));
        self.bytes.reserve(room);
        pin!(stream.read_buf(&mut self.bytes)).poll(context)
    }
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
