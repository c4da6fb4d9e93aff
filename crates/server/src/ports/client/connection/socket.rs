//! Between the task and its stream: the bytes that arrived, the bytes to be sent, and the wait for either.
//!
//! What always holds here: memory grows with what arrives, never with what a length prefix promises; a buffer that was large for one
//! request or one answer is small again when that is over; a wait ends when the connection does.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};

use rookeeper_replica::stages::COUNTS;
use rookeeper_replica::{Drained, Histogram, Next, Stamp, Turn};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::Instant;

use super::Task;
use super::ending::End;

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// Buffers of an idle connection keep no more room than this.
const IDLE_BYTES: usize = 16 << 10;

/// Bytes that arrived and were not consumed.
#[derive(Default)]
pub(super) struct Received {
    bytes: Vec<u8>,
    start: usize,
}

/// Bytes that were taken from the outbox; the first `sent` are with the stream already.
#[derive(Default)]
pub(super) struct Unsent {
    bytes: Vec<u8>,
    sent: usize,
}

/// Answers that are not with the stream yet, as far as is measured.
#[derive(Default)]
pub(super) struct Unreported {
    pub reads: Answers,
    pub writes: Answers,
    /// Sends that were not looked at since the last one that was.
    passed_over: u32,
}

/// To look at the clock for every send would cost more than all other counting: one of these is looked at, and stands for the others.
const SENDS_PER_LOOK: u32 = 8;

/// How many answers, and since when those of the last send could have been sent.
#[derive(Default)]
pub(super) struct Answers {
    since: Stamp,
    count: u64,
}

/// What the stream did while the task waited.
enum Woken {
    /// Nothing: something else happened.
    No,
    Sent(usize),
    Received(usize),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Task<S> {
    /// Sends what the stream takes without waiting.
    pub(super) fn flush(&mut self) -> Result<(), End> {
        let before = self.sending.held_bytes();
        let drained = match self.conversation.takes() {
            true => {
                let drained = self.connection.outbox.take(&mut self.sending.bytes);
                self.context.note_sent(&self.connection, &mut self.noted_frames);
                drained
            }
            // The bytes that stay in the outbox are under its limit.
            false => self.connection.outbox.peek(),
        };
        let taken = self.sending.held_bytes() - before;
        let sent = self.sending.send_available(&mut self.stream)?;
        self.conversation.flushed(|| self.context.clock.monotonic_ms(), taken, sent, &drained);
        if let Some((since, count)) = self.connection.take_answered() {
            self.unreported.writes.add(since, count);
        }
        self.note_replies();
        Ok(())
    }

    /// Notes how long answers took from the outbox to the socket, once it has all of them.
    fn note_replies(&mut self) {
        if COUNTS && self.sending.is_empty() && !self.unreported.is_empty() && self.unreported.is_looked_at() {
            let sent = self.context.clock.stamp();
            let stages = self.context.figures.client_stages.mine();
            self.unreported.reads.tell(&stages.read_reply, sent);
            self.unreported.writes.tell(&stages.write_reply, sent);
        }
    }

    /// Waits until there is something to send, room to send it, or what `next` says; and reads what has arrived.
    pub(super) async fn wait(&mut self, next: Next) -> Result<(), End> {
        let turn_due_ms = self.turn.as_ref().and_then(Turn::deadline_ms);
        let due_ms = self.conversation.deadline_ms().into_iter().chain(turn_due_ms).min();
        let deadline = due_ms.map(|due_ms| self.context.clock.instant(due_ms));
        let reads = self.conversation.reads(next);
        let Task { stream, conversation, input, sending, turn, .. } = self;
        let happens = poll_fn(|context| {
            if let Poll::Ready(sent) = sending.poll_send(stream, context) {
                return Poll::Ready(sent.map(Woken::Sent));
            }
            if conversation.poll(context, next).is_ready() {
                return Poll::Ready(Ok(Woken::No));
            }
            if turn.as_ref().is_some_and(|turn| turn.poll(context).is_ready()) {
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
                self.conversation.flushed(|| self.context.clock.monotonic_ms(), 0, count, &Drained::Bytes);
                self.note_replies();
            }
            Woken::Received(0) => self.conversation.hung_up(),
            Woken::Received(count) => {
                self.arrived = self.context.clock.stamp();
                self.is_fresh = true;
                self.conversation.received(self.arrived.monotonic_ms(), count);
                self.context.shared.statistics.bytes_received.fetch_add(count as u64, Relaxed);
            }
        }
        Ok(())
    }
}

impl Unreported {
    fn is_empty(&self) -> bool {
        self.reads.count == 0 && self.writes.count == 0
    }

    /// Whether the send that ends now is looked at. Of one that is not only the number of answers is kept.
    fn is_looked_at(&mut self) -> bool {
        self.passed_over = (self.passed_over + 1) % SENDS_PER_LOOK;
        self.passed_over == 0
    }
}

impl Answers {
    pub(super) fn add(&mut self, since: Stamp, count: u64) {
        self.since = since;
        self.count += count;
    }

    fn tell(&mut self, histogram: &Histogram, sent: Stamp) {
        if self.count > 0 {
            histogram.record_many(self.since, sent, std::mem::take(&mut self.count));
        }
    }
}

impl Received {
    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// The first four of the pending bytes, which are there.
    pub(super) fn first_four(&self) -> [u8; 4] {
        let mut four = [0; 4];
        four.copy_from_slice(&self.pending()[..4]);
        four
    }

    pub(super) fn consume(&mut self, length: usize) {
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

    /// Reads what has arrived, zero bytes at the end of the stream.
    fn poll_read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        let room = READ_BYTES.min(self.bytes.len().max(4 << 10));
        self.bytes.reserve(room);
        match pin!(stream.read_buf(&mut self.bytes)).poll(context) {
            // An encrypted stream whose client did not say goodbye first. Frames say where they end, so nothing is taken for whole that was cut.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(0)),
            read => read,
        }
    }
}

impl Unsent {
    fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// Bytes that stand in memory, among them some that were sent.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Sends as much as the stream takes now, and returns how many bytes that were. The task is not woken when the stream takes more.
    fn send_available(&mut self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<usize> {
        let mut context = Context::from_waker(Waker::noop());
        let mut count = 0;
        while let Poll::Ready(sent) = self.poll_write(stream, &mut context) {
            count += sent?;
        }
        self.tidy_up();
        Ok(count)
    }

    /// Sends some of what there is. Pending where there is nothing, or the stream takes nothing. An encrypted stream may still hold what it took.
    fn poll_send(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.sent == self.bytes.len() {
            return match Pin::new(stream).poll_flush(context) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            };
        }
        self.poll_write(stream, context).map_ok(|count| {
            self.tidy_up();
            count
        })
    }

    fn poll_write(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.sent == self.bytes.len() {
            return Poll::Pending;
        }
        Pin::new(stream).poll_write(context, &self.bytes[self.sent..]).map(|sent| match sent? {
            // A stream that takes no byte of some will never take any.
            0 => Err(io::ErrorKind::WriteZero.into()),
            count => {
                self.sent += count;
                Ok(count)
            }
        })
    }

    /// Gives back the memory of what is sent.
    fn tidy_up(&mut self) {
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
            // One large answer must not keep its memory for the life of the connection.
            if self.bytes.capacity() > IDLE_BYTES {
                self.bytes = Vec::new();
            }
        } else if self.sent > self.bytes.len() / 2 {
            // Nor must the sent half of it, for as long as the rest takes.
            self.bytes.drain(..self.sent);
            self.bytes.shrink_to(READ_BYTES);
            self.sent = 0;
        }
    }
}

/// Never, where there is no deadline.
pub(super) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
