//! What becomes of each frame of a client: answered here, handed to the replica, refused, or left where it is for now.
//!
//! What always holds here: frames are looked at in the order in which they came, and a frame that has to wait makes those behind it wait;
//! a frame is consumed only when its place in that order is certain; nothing is decoded twice but the header.

use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::frame::{self, ReplyHeader, RequestHeader};
use rookeeper_proto::request::WriteRequest;
use rookeeper_proto::{ErrorCode, OpCode, Zxid, jute};
use rookeeper_replica::{Arrival, Input, Next, ReadFrame, Ruling, long_read, read};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::error::TrySendError;

use super::Task;
use super::ending::End;
use super::reads::is_answered_here;
use crate::auth;

impl<S: AsyncRead + AsyncWrite + Unpin> Task<S> {
    /// Looks at the frames that have arrived, up to the one for which the task has to wait.
    pub(super) async fn look(&mut self) -> Result<Next, End> {
        loop {
            if let Some(next) = self.look_at_one().await? {
                return Ok(next);
            }
        }
    }

    /// Looks at the frame at the head of the input. Returns what the task waits for, where no other frame is to be looked at before.
    async fn look_at_one(&mut self) -> Result<Option<Next>, End> {
        if let Some(large) = &mut self.large {
            large.settled(self.conversation.counts().1);
        }
        let limit = self.context.config.requests.global_outstanding_limit as usize;
        if !self.conversation.may_look(self.context.shared.outstanding() > limit) {
            return Ok(Some(Next::Settle));
        }
        let limit = self.context.config.requests.jute_max_buffer;
        let Some((payload, length)) = frame::split(self.input.pending(), limit)? else {
            self.check_announced()?;
            return Ok(Some(Next::Read));
        };
        let (header, body) = RequestHeader::split(payload).ok_or(End::Undecodable("request header"))?;
        if let Some(large) = &mut self.large
            && !large.look_at(body.len())
        {
            return Err(End::LargeRequest(body.len()));
        }
        let xid = header.xid;
        let Some(op) = OpCode::from_i32(header.op).filter(|op| op.is_client_request()) else {
            if self.connection.in_flight() == 0 {
                self.refuse(xid, Zxid(-1), ErrorCode::Unimplemented);
            }
            return Ok(Some(Next::Settle));
        };
        if self.is_throttled {
            return Ok(self.refuse_throttled(xid, op, length));
        }
        match op {
            OpCode::Auth => {
                let verdict = self.judge(body);
                self.consume(length);
                return self.answer_auth(xid, verdict);
            }
            OpCode::Sasl => {
                let (access, kerberos) = (&self.context.config.access, self.context.kerberos.as_ref());
                if let Some(ticket) = self.sasl.ticket(body, access, kerberos) {
                    self.consume(length);
                    let verdict = self.judge_ticket(ticket).await;
                    return self.answer_sasl(xid, verdict);
                }
                let verdict = self.sasl.judge(body, access, auth::nonce);
                self.consume(length);
                return self.answer_sasl(xid, verdict);
            }
            _ if !self.may_request() => {
                self.audit_refusal();
                self.refuse(xid, Zxid::ZERO, ErrorCode::SessionClosedRequireSaslAuth);
                return Ok(Some(Next::Settle));
            }
            op if op.is_write() => {
                let arrival =
                    Arrival { op, hung_up: self.conversation.has_hung_up(), timeout_ms: self.connection.timeout_ms() };
                let now_ms = || self.context.clock.monotonic_ms();
                match self.context.shared.take_turn(&self.connection, &mut self.turn, arrival, now_ms) {
                    Ruling::Goes => {}
                    ruling => return self.hold(ruling),
                }
                let write = self.write(xid, op, body);
                self.note_large_submitted();
                self.consume(length);
                self.conversation.submitted(length);
                self.submit(write).await?;
            }
            op if long_read::is_long(op, body.len()) => {
                // Behind a write a long read waits here: the replica must not be kept that long.
                if self.connection.in_flight() > 0 {
                    return Ok(Some(Next::Settle));
                }
                self.answer_in_portions().await?;
            }
            op if self.connection.in_flight() == 0 && is_answered_here(op) => {
                if self.answer_reads() == 0 {
                    // The read at the head lists very many children.
                    self.answer_in_portions().await?;
                }
            }
            OpCode::GetChildren | OpCode::GetChildren2
                if long_read::lists_many(&self.context.shared.tree(), op, body) =>
            {
                // Behind a write this waits too.
                return Ok(Some(Next::Settle));
            }
            op => {
                let arrival =
                    Arrival { op, hung_up: self.conversation.has_hung_up(), timeout_ms: self.connection.timeout_ms() };
                let now_ms = || self.context.clock.monotonic_ms();
                match self.context.shared.take_turn(&self.connection, &mut self.turn, arrival, now_ms) {
                    Ruling::Goes => {}
                    ruling => return self.hold(ruling),
                }
                let read = self.read(xid, op, body);
                let answer_bytes = self.foreseen_bytes(&read);
                self.note_large_submitted();
                self.consume(length);
                self.conversation.submitted(length + answer_bytes);
                self.submit(Input::Read { connection: self.connection.clone(), read }).await?;
            }
        }
        Ok(None)
    }

    /// Refuses a request of which a part is there, if no more of it may come.
    fn check_announced(&self) -> Result<(), End> {
        let Some(large) = &self.large else { return Ok(()) };
        let announced = self.input.pending().first_chunk().map_or(0, |length| i32::from_be_bytes(*length));
        let bytes = usize::try_from(announced).unwrap_or(0);
        if large.may_come(bytes) { Ok(()) } else { Err(End::LargeRequest(bytes)) }
    }

    /// The request at the head of the input is about to go to the replica.
    fn note_large_submitted(&mut self) {
        if let Some(large) = &mut self.large {
            large.submitted(self.conversation.counts().0 + 1);
        }
    }

    /// The request at the head of the input does not go now, by this ruling. Returns what the task waits for before it looks again.
    fn hold(&mut self, ruling: Ruling) -> Result<Option<Next>, End> {
        match ruling {
            Ruling::Dropped => return Err(End::StaleRequest),
            Ruling::Goes => {}
            Ruling::Refused => self.is_throttled = true,
            Ruling::Waits => {
                self.conversation.waits_for_turn();
                return Ok(Some(Next::Turn));
            }
        }
        Ok(None)
    }

    /// Refuses the request at the head of the input, which has waited too long for its turn, once everything before it is answered.
    fn refuse_throttled(&mut self, xid: i32, op: OpCode, length: usize) -> Option<Next> {
        if self.connection.in_flight() > 0 {
            return Some(Next::Settle);
        }
        self.is_throttled = false;
        let tree = self.context.shared.tree();
        let zxid = tree.last_zxid();
        self.context.shared.serve_deferred_to(&self.connection);
        self.reply_at_once(ReplyHeader { xid, zxid, err: ErrorCode::ThrottledOp.number() }, &[]);
        drop(tree);
        self.connection.statistics.answered(1, (op, xid), zxid, self.context.clock.monotonic_ms(), 0);
        self.consume(length);
        None
    }

    /// A write, as the replica gets it. The body goes with it where it may have to be forwarded to a leader.
    fn write(&self, xid: i32, op: OpCode, body: &[u8]) -> Input {
        Input::Write {
            connection: self.connection.clone(),
            xid,
            op,
            request: WriteRequest::decode(op, body).ok(),
            body: if self.context.shared.forwards() { body.to_vec() } else { Vec::new() },
            identities: self.identities.clone(),
            arrived: self.arrived,
            sampled: self.sample(self.arrived, op, body).map(Box::new),
        }
    }

    /// A read that waits in the replica for what is before it.
    fn read(&self, xid: i32, op: OpCode, body: &[u8]) -> ReadFrame {
        ReadFrame {
            xid,
            op,
            body: body.to_vec(),
            identities: self.identities.clone(),
            received_ms: self.context.clock.monotonic_ms(),
            arrived: self.arrived,
            audited: None,
        }
    }

    /// Bytes of the answer to a read that waits in the replica, for that answer is made whether there is room for it or not. Zero where
    /// nothing limits answers.
    fn foreseen_bytes(&self, read: &ReadFrame) -> usize {
        match self.conversation.weighs_answers() {
            true => read::weight(&self.context.shared, &self.context.shared.tree(), read.op, &read.body),
            false => 0,
        }
    }

    /// Answers without regard to what is on its way: only authentication does that.
    pub(super) fn reply_at_once(&self, header: ReplyHeader, body: &[u8]) {
        self.connection.outbox.append(|output| {
            frame::append(output, |output| {
                jute::append(output, &header);
                output.extend_from_slice(body);
            });
        });
    }

    /// The last answer of this connection. Its session lives on.
    pub(super) fn refuse(&mut self, xid: i32, zxid: Zxid, code: ErrorCode) {
        self.reply_at_once(ReplyHeader { xid, zxid, err: code.number() }, &[]);
        self.connection.outbox.finish();
    }

    /// The frame at the head of the input, of `length` bytes, has been dealt with.
    pub(super) fn consume(&mut self, length: usize) {
        self.input.consume(length);
        self.conversation.consumed(length);
        self.note_large_answered();
        self.count_received(1);
    }

    /// What was at the head of the input is answered here, or went to the replica.
    pub(super) fn note_large_answered(&mut self) {
        if let Some(large) = &mut self.large {
            large.answered();
        }
    }

    /// Counts frames that were read.
    pub(super) fn count_received(&self, count: u64) {
        self.connection.statistics.received.fetch_add(count, Relaxed);
        self.context.shared.statistics.packets_received.fetch_add(count, Relaxed);
    }

    /// Hands something to the replica, waiting where its queue is full. A request counts as on its way already.
    pub(super) async fn submit(&self, input: Input) -> Result<(), End> {
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
}
