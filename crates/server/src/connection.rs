//! The task of one client connection: bytes in, bytes out.
//!
//! It reads what has arrived, answers reads itself where nothing of the session is on its way, hands everything else to the replica,
//! and sends whatever has gathered in the outbox with one call. What always holds here:
//! - a frame is looked at only after all before it are answered or handed on, so answers keep the order of requests;
//! - no more is read while the client does not take its answers, or while it has requests waiting and the server has too many;
//! - bytes from outside can end this connection and nothing else.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

use rookeeper_proto::connect::ConnectRequest;
use rookeeper_proto::frame::{self, ReplyHeader, RequestHeader};
use rookeeper_proto::request::WriteRequest;
use rookeeper_proto::{ErrorCode, Id, OpCode, Zxid};
use rookeeper_replica::{Connection, Drained, Identities, Input, LongRead, ReadFrame, long_read, read};
use tokio::net::TcpStream;
use tracing::debug;

use crate::auth::{self, Verdict};
use crate::commands::{self, Command};
use crate::context::Context;
use crate::logging::limited;

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// While more than this waits to be sent, no further request is looked at.
const UNSENT_BYTES: usize = 1 << 20;

/// Bytes of answers gathered under one lock of the tree: longer would keep the apply step waiting.
const BATCH_BYTES: usize = 64 << 10;
const BATCH_READS: usize = 64;

pub(crate) struct Task {
    context: Arc<Context>,
    stream: TcpStream,
    connection: Arc<Connection>,
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
    Io(#[from] io::Error),
    #[error("{0}; raise jute.maxbuffer on server and client if requests of this size are meant")]
    FrameTooLarge(#[from] frame::FrameTooLarge),
    #[error("undecodable {0}")]
    Undecodable(&'static str),
    #[error("the client means an ensemble of another name (ensembleAuthName)")]
    OtherEnsemble,
    #[error("no ConnectRequest within {0} ms")]
    NoHandshake(u64),
}

/// What a connection begins with.
enum Opening {
    Connecting,
    Command(Command, [u8; 8]),
}

/// What to wait for after the frames at hand have been looked at.
#[derive(PartialEq, Eq)]
enum Next {
    /// More bytes.
    Read,
    /// Room for answers, or answers to what is in flight.
    Settle,
    /// The answer to the handshake.
    Establish,
}

/// Serves one accepted connection to its end.
pub(crate) async fn serve(context: Arc<Context>, stream: TcpStream, connection: Arc<Connection>) {
    let identities = connection.identities();
    let enforced = context.config.access.enforced_schemes.is_some();
    let mut task = Task {
        context: context.clone(),
        stream,
        connection: connection.clone(),
        input: Received::default(),
        sending: Vec::new(),
        sent: 0,
        noted_frames: 0,
        scratch: Vec::new(),
        identities,
        enforced,
    };
    let end = task.run().await.err();
    let statistics = &context.shared.statistics;
    match end {
        Some(End::ByClient) => statistics.connections_dropped.fetch_add(1, Relaxed),
        Some(End::NoHandshake(_)) => statistics.sessionless_connections_expired.fetch_add(1, Relaxed),
        _ => 0,
    };
    context.shared.remove_connection(&connection);
    if connection.is_established() {
        // The replica is told last, so that nothing of this connection follows.
        let _ = context.inputs.send(Input::Disconnected { connection: connection.clone() }).await;
    }
    match end {
        Some(end @ (End::FrameTooLarge(_) | End::Undecodable(_) | End::OtherEnsemble)) => {
            let (client, session) = (connection.peer, connection.session());
            limited!(
                warn,
                "connections closed for what they sent",
                "connection of {client}, session {session}, closed: {end}"
            );
        }
        Some(end) => debug!(client = %connection.peer, session = %connection.session(), "connection closed: {end}"),
        None => {}
    }
}

impl Task {
    async fn run(&mut self) -> Result<(), End> {
        let limit_ms = u64::from(self.context.config.client.sessionless_connection_timeout_ms);
        let handshake = tokio::time::timeout(Duration::from_millis(limit_ms), self.handshake());
        match handshake.await {
            Err(_) => return Err(End::NoHandshake(limit_ms)),
            Ok(Err(end)) => return Err(end),
            Ok(Ok(Opening::Command(command, argument))) => return self.answer_command(command, argument).await,
            Ok(Ok(Opening::Connecting)) => {}
        }
        while !self.connection.is_established() {
            self.flush()?;
            self.wait(&Next::Establish).await?;
        }
        loop {
            let next = self.look().await?;
            self.flush()?;
            self.wait(&next).await?;
        }
    }

    /// Reads up to the ConnectRequest and hands it on, or reads a four-letter word.
    async fn handshake(&mut self) -> Result<Opening, End> {
        while self.input.len() < 4 {
            self.read_more().await?;
        }
        let word = self.input.first_four();
        if let Some(command) = commands::find(word) {
            let mut argument = [0; 8];
            if command.takes_argument() && commands::is_allowed(&self.context, command) {
                while self.input.len() < 12 {
                    self.read_more().await?;
                }
                argument.copy_from_slice(&self.input.pending()[4..12]);
            }
            return Ok(Opening::Command(command, argument));
        }
        let limit = self.context.max_frame_bytes;
        let (request, length) = loop {
            if let Some((payload, length)) = frame::split(self.input.pending(), limit)? {
                break (ConnectRequest::decode(payload).map_err(|_| End::Undecodable("ConnectRequest"))?, length);
            }
            self.read_more().await?;
        };
        self.input.consume(length);
        self.count_received(1);
        self.context.shared.statistics.connection_requests.fetch_add(1, Relaxed);
        if !self.context.serves() || !self.context.admit_session(&request) {
            return Err(End::ByServer);
        }
        debug!(client = %self.connection.peer, session = %request.session, timeout_ms = request.timeout_ms, "connecting");
        self.submit(Input::Connect { connection: self.connection.clone(), request }).await?;
        Ok(Opening::Connecting)
    }

    /// Some answers list everything the server has, so the worker is told that this may take a while.
    async fn answer_command(&mut self, command: Command, argument: [u8; 8]) -> Result<(), End> {
        let answer = tokio::task::block_in_place(|| commands::run(&self.context, command, &self.connection, argument));
        self.sending = answer.into_bytes();
        while self.sent < self.sending.len() {
            self.stream.writable().await?;
            self.send_available()?;
        }
        Ok(())
    }

    /// Looks at the frames that have arrived.
    async fn look(&mut self) -> Result<Next, End> {
        self.connection.heard(self.context.clock.monotonic_ms());
        loop {
            let hold_back = self.must_hold_back();
            self.connection.hold_back(hold_back);
            if hold_back || self.is_clogged() {
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
                        Verdict::Accepted(_) | Verdict::Refused => {
                            self.context.shared.statistics.authentications_refused.fetch_add(1, Relaxed);
                            let client = self.connection.peer;
                            limited!(warn, "refused authentications", "authentication of {client} refused");
                            self.refuse(xid, Zxid::ZERO, ErrorCode::AuthFailed);
                            return Ok(Next::Settle);
                        }
                        Verdict::OtherEnsemble => {
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
                    self.submit(Input::Write { connection, xid, op, request, body, identities }).await?;
                }
                op if long_read::is_long(op, body.len()) => {
                    // Behind a write it waits here: the replica must not be kept that long.
                    if self.connection.in_flight() > 0 {
                        return Ok(Next::Settle);
                    }
                    let body = body.to_vec();
                    self.consume(length);
                    self.answer_in_portions((header.xid, op, &body)).await?;
                }
                op if self.connection.in_flight() == 0 && self.is_answered_here(op) => self.answer_reads(),
                op => {
                    let read = ReadFrame {
                        xid: header.xid,
                        op,
                        body: body.to_vec(),
                        identities: self.identities.clone(),
                        received_ms: self.context.clock.monotonic_ms(),
                    };
                    self.consume(length);
                    self.submit(Input::Read { connection: self.connection.clone(), read }).await?;
                }
            }
        }
    }

    /// Answers the reads at the head of the input under one lock of the tree.
    fn answer_reads(&mut self) {
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
            if long_read::is_long(op, body.len()) {
                break;
            }
            let request = (header.xid, op, body);
            frames += read::answer(shared, &tree, &self.connection, &self.identities, request, &mut self.scratch);
            reads += 1;
            last = (op, header.xid);
            self.input.consume(length);
        }
        self.connection.outbox.append_frames(frames, |output| {
            if output.is_empty() {
                std::mem::swap(output, &mut self.scratch);
            } else {
                output.append(&mut self.scratch);
            }
        });
        let zxid = tree.last_zxid();
        drop(tree);
        self.count_received(reads as u64);
        self.note_reads(reads as u64, last, zxid);
    }

    fn note_reads(&self, count: u64, last: (OpCode, i32), zxid: Zxid) {
        let statistics = &self.context.shared.statistics;
        statistics.request_latency_ms.record_many(0, count);
        statistics.read_latency_ms.record_many(0, count);
        let now_ms = self.context.clock.monotonic_ms();
        self.connection.statistics.answered(count, last, zxid, now_ms, 0);
    }

    /// Answers a read that looks at many nodes, with the tree locked for a portion at a time.
    async fn answer_in_portions(&mut self, request: (i32, OpCode, &[u8])) -> Result<(), End> {
        let (xid, op, _) = request;
        let mut read = LongRead::new(request);
        let zxid = loop {
            {
                let shared = &self.context.shared;
                let tree = shared.tree();
                shared.serve_deferred_to(&self.connection);
                let (frames, done) = read.go_on(shared, &tree, &self.connection, &self.identities, &mut self.scratch);
                self.connection.outbox.append_frames(frames, |output| output.append(&mut self.scratch));
                if done {
                    break tree.last_zxid();
                }
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
        self.context.inputs.send(input).await.map_err(|_| End::ByServer)
    }

    /// Whether the client takes its answers too slowly to be given more.
    fn is_clogged(&self) -> bool {
        self.sending.len() - self.sent > UNSENT_BYTES
    }

    /// globalOutstandingLimit: with too much in process, a client that already waits for an answer must wait before it asks again.
    fn must_hold_back(&self) -> bool {
        let limit = self.context.config.requests.global_outstanding_limit as usize;
        self.context.shared.outstanding() > limit && self.connection.in_flight() > 0
    }

    /// Sends what the socket takes without waiting.
    fn flush(&mut self) -> Result<(), End> {
        let drained = self.connection.outbox.take(&mut self.sending);
        self.context.note_sent(&self.connection, &mut self.noted_frames);
        self.send_available()?;
        let all_sent = self.sent == self.sending.len();
        if all_sent {
            self.sending.clear();
            self.sent = 0;
            // One large answer must not keep its memory for the life of the connection.
            self.sending.shrink_to(READ_BYTES);
        }
        match drained {
            Drained::Closed => Err(End::ByServer),
            Drained::Last if all_sent => Err(End::ByServer),
            Drained::Bytes | Drained::Last => Ok(()),
        }
    }

    /// Sends what the socket takes now.
    fn send_available(&mut self) -> Result<(), End> {
        while self.sent < self.sending.len() {
            match self.stream.try_write(&self.sending[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits until there is something to send, room to send it, or what `next` says; and reads what has arrived.
    async fn wait(&mut self, next: &Next) -> Result<(), End> {
        let connection = &self.connection;
        let unsent = self.sent < self.sending.len();
        let want_read = *next == Next::Read && !self.is_clogged();
        let ready = poll_fn(|context| {
            // The waker is in place before the count is read: an answer that came between the two looks is not missed.
            let ready = connection.outbox.poll_ready(context);
            if *next == Next::Settle && connection.in_flight() == 0 { Poll::Ready(()) } else { ready }
        });
        tokio::select! {
            biased;
            ready = self.stream.writable(), if unsent => ready?,
            () = ready, if !unsent => {}
            ready = self.stream.readable(), if want_read => {
                ready?;
                self.read_available()?;
            }
        }
        Ok(())
    }

    async fn read_more(&mut self) -> Result<(), End> {
        self.stream.readable().await?;
        self.read_available()
    }

    fn read_available(&mut self) -> Result<(), End> {
        match self.input.read_from(&self.stream) {
            Ok(0) => Err(End::ByClient),
            Ok(count) => {
                self.context.shared.statistics.bytes_received.fetch_add(count as u64, Relaxed);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
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
            if self.bytes.capacity() > READ_BYTES {
                self.bytes = Vec::new();
            }
        }
    }

    /// Memory grows with what arrives, never with what a length prefix promises.
    fn read_from(&mut self, stream: &TcpStream) -> io::Result<usize> {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        let room = READ_BYTES.min(self.bytes.len().max(4 << 10));
        self.bytes.reserve(room);
        stream.try_read_buf(&mut self.bytes)
    }
}
