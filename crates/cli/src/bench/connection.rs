//! One connection and its session, with a fixed number of requests outstanding.
//!
//! What always holds: requests that can be sent go out in one write; answers are taken in order, whole buffers at a time, without
//! an allocation each; a server that is silent for [`STALL_TIMEOUT`] counts as lost. Latency runs from the moment a request is
//! handed to the socket to the moment its answer has been read.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, MissedTickBehavior, Sleep, interval, sleep_until};

use super::wire::{self, Malformed, Reply};
use crate::dialler::{Dialler, NoConnection, Socket};

/// A server that answers nothing for so long is given up.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(20);
pub(super) const SESSION_TIMEOUT_MS: i32 = 30_000;
/// How often a session that waits for others says that it is there.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const INPUT_BYTES: usize = 64 * 1024;

/// Why a connection cannot be used (any more).
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    #[error("{0}")]
    Socket(#[from] io::Error),
    #[error("{0}")]
    NotConnected(#[from] NoConnection),
    #[error("the server closed the connection")]
    Closed,
    #[error("the server did not answer for {} s", STALL_TIMEOUT.as_secs())]
    Stalled,
    #[error("the server gave no session")]
    NoSession,
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("answer {got} came where {expected} was due")]
    OutOfOrder { got: i32, expected: i32 },
}

/// The outcome of one request.
#[derive(Debug)]
pub(super) struct Answer<'a, T> {
    pub(super) tag: T,
    pub(super) latency: Duration,
    pub(super) reply: Reply<'a>,
}

struct Sent<T> {
    xid: i32,
    at: Instant,
    tag: T,
}

/// When the requests of an open loop are due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) next: Instant,
    pub(super) every: Duration,
}

/// When a request is sent, and from when its latency counts.
enum Due {
    Now { since: Instant },
    At(Instant),
}

impl Pace {
    /// What is due at `now`. A request that had to wait for others to be answered counts from when it was due; that this program is late, by up
    /// to the millisecond of its timers, is not the server's fault.
    fn due(&mut self, now: Instant, full_since: Option<Instant>) -> Due {
        if self.next > now {
            return Due::At(self.next);
        }
        let had_to_wait = full_since.is_some_and(|since| since <= self.next);
        let since = if had_to_wait { self.next } else { now };
        self.next += self.every;
        Due::Now { since }
    }
}

/// A session that is ready for requests.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    /// Bytes read and not yet understood lie in `unread`.
    input: Vec<u8>,
    unread: std::ops::Range<usize>,
    output: Vec<u8>,
    written: usize,
    last_xid: i32,
    /// Requests sent and never answered when the connection was lost.
    pub(super) unanswered: u64,
}

impl Connection {
    pub(super) async fn open(dialler: &Dialler, server: &str) -> Result<Connection, Lost> {
        let mut connection = Connection {
            socket: dialler.dial(server).await?,
            input: vec![0; INPUT_BYTES],
            unread: 0..0,
            output: Vec::new(),
            written: 0,
            last_xid: 0,
            unanswered: 0,
        };
        wire::connect(&mut connection.output, SESSION_TIMEOUT_MS);
        let mut stall = std::pin::pin!(sleep_until(Instant::now() + STALL_TIMEOUT));
        loop {
            if let Some((frame, length)) = wire::first_frame(&connection.input[connection.unread.clone()])? {
                if !wire::is_session(frame)? {
                    return Err(Lost::NoSession);
                }
                connection.unread.start += length;
                return Ok(connection);
            }
            connection.exchange(stall.as_mut()).await?;
        }
    }

    /// Keeps `pipeline` requests outstanding for as long as `next` appends some, then waits for the answers still due.
    ///
    /// `next` gets the buffer, the xid to use and the time, and returns a tag that comes back with the answer, or `None` when it has
    /// nothing more to send.
    pub(super) async fn drive<T>(
        &mut self,
        pipeline: usize,
        next: impl FnMut(&mut Vec<u8>, i32, Instant) -> Option<T>,
        done: impl FnMut(Answer<'_, T>),
    ) -> Result<(), Lost> {
        self.drive_paced(pipeline, None, next, done).await
    }

    /// The same, but a request is sent when it is due by the pace, if there is one, and fewer than `pipeline` are outstanding.
    pub(super) async fn drive_paced<T>(
        &mut self,
        pipeline: usize,
        mut pace: Option<Pace>,
        mut next: impl FnMut(&mut Vec<u8>, i32, Instant) -> Option<T>,
        mut done: impl FnMut(Answer<'_, T>),
    ) -> Result<(), Lost> {
        let mut sent: VecDeque<Sent<T>> = VecDeque::new();
        let mut more = true;
        // Since when as many are outstanding as may be, as of the last look.
        let mut full_since = None;
        let mut stall = std::pin::pin!(sleep_until(Instant::now() + STALL_TIMEOUT));
        let mut alarm = std::pin::pin!(sleep_until(Instant::now()));
        let mut last_answer = Instant::now();
        let outcome = loop {
            let now = Instant::now();
            let mut wait_until = None;
            while more && sent.len() < pipeline {
                let since = match pace.as_mut().map(|pace| pace.due(now, full_since)) {
                    None => now,
                    Some(Due::Now { since }) => since,
                    Some(Due::At(due)) => {
                        wait_until = Some(due);
                        break;
                    }
                };
                let xid = self.next_xid();
                match next(&mut self.output, xid, now) {
                    Some(tag) => sent.push_back(Sent { xid, at: since, tag }),
                    None => more = false,
                }
            }
            full_since = (sent.len() >= pipeline).then(|| full_since.unwrap_or(now));
            if sent.is_empty() {
                let Some(due) = wait_until else { return Ok(()) };
                sleep_until(due).await;
                last_answer = Instant::now();
                stall.as_mut().reset(last_answer + STALL_TIMEOUT);
                continue;
            }
            let exchanged = match wait_until {
                None => self.exchange(stall.as_mut()).await,
                Some(due) => {
                    alarm.as_mut().reset(due);
                    tokio::select! {
                        biased;
                        exchanged = self.exchange(stall.as_mut()) => exchanged,
                        () = alarm.as_mut() => continue,
                    }
                }
            };
            match exchanged {
                Ok(()) => {}
                // The alarm is not moved with every answer; when it rings, it is set to when it should.
                Err(Lost::Stalled) if last_answer.elapsed() < STALL_TIMEOUT => {
                    stall.as_mut().reset(last_answer + STALL_TIMEOUT);
                    continue;
                }
                Err(lost) => break lost,
            }
            last_answer = Instant::now();
            if let Err(lost) = self.take_answers(&mut sent, last_answer, &mut done) {
                break lost;
            }
        };
        self.unanswered += sent.len() as u64;
        Err(outcome)
    }

    fn take_answers<T>(
        &mut self,
        sent: &mut VecDeque<Sent<T>>,
        now: Instant,
        done: &mut impl FnMut(Answer<'_, T>),
    ) -> Result<(), Lost> {
        while let Some((frame, length)) = wire::first_frame(&self.input[self.unread.clone()])? {
            let reply = Reply::parse(frame)?;
            if !reply.is_unasked() {
                let expected = sent.front().map_or(0, |request| request.xid);
                match sent.pop_front() {
                    Some(request) if request.xid == reply.xid => {
                        done(Answer { tag: request.tag, latency: now - request.at, reply });
                    }
                    _ => return Err(Lost::OutOfOrder { got: reply.xid, expected }),
                }
            }
            self.unread.start += length;
        }
        Ok(())
    }

    /// Takes so many events of watches, each with the time at which it was read.
    pub(super) async fn take_events(&mut self, count: u64, mut event: impl FnMut(Instant)) -> Result<(), Lost> {
        let mut left = count;
        let mut stall = std::pin::pin!(sleep_until(Instant::now() + STALL_TIMEOUT));
        let mut now = Instant::now();
        loop {
            while let Some((frame, length)) = wire::first_frame(&self.input[self.unread.clone()])? {
                let reply = Reply::parse(frame)?;
                if !reply.is_unasked() {
                    return Err(Lost::OutOfOrder { got: reply.xid, expected: wire::EVENT_XID });
                }
                self.unread.start += length;
                event(now);
                left = left.saturating_sub(1);
            }
            if left == 0 {
                return Ok(());
            }
            self.exchange(stall.as_mut()).await?;
            now = Instant::now();
        }
    }

    /// Writes what can be written and returns as soon as something was read.
    async fn exchange(&mut self, mut stall: Pin<&mut Sleep>) -> Result<(), Lost> {
        self.make_room();
        let Connection { socket, input, unread, output, written, .. } = self;
        let mut socket = Pin::new(socket);
        poll_fn(|context| {
            while *written < output.len() {
                match socket.as_mut().poll_write(context, &output[*written..]) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(Lost::Closed)),
                    Poll::Ready(Ok(count)) => *written += count,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Lost::Socket(error))),
                    Poll::Pending => break,
                }
            }
            if *written == output.len() {
                output.clear();
                *written = 0;
                if let Poll::Ready(Err(error)) = socket.as_mut().poll_flush(context) {
                    return Poll::Ready(Err(Lost::Socket(error)));
                }
            }
            let mut free = ReadBuf::new(&mut input[unread.end..]);
            match socket.as_mut().poll_read(context, &mut free) {
                Poll::Ready(Ok(())) if free.filled().is_empty() => Poll::Ready(Err(Lost::Closed)),
                Poll::Ready(Ok(())) => {
                    unread.end += free.filled().len();
                    Poll::Ready(Ok(()))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(Lost::Socket(error))),
                Poll::Pending => match stall.as_mut().poll(context) {
                    Poll::Ready(()) => Poll::Ready(Err(Lost::Stalled)),
                    Poll::Pending => Poll::Pending,
                },
            }
        })
        .await
    }

    /// Moves what is unread to the front, and doubles a buffer that one answer fills; frames are limited, so the buffer is.
    fn make_room(&mut self) {
        if self.unread.start > 0 {
            self.input.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        if self.unread.end == self.input.len() {
            self.input.resize(self.input.len() * 2, 0);
        }
    }

    fn next_xid(&mut self) -> i32 {
        // Negative xids have meanings of their own.
        self.last_xid = self.last_xid.checked_add(1).unwrap_or(1);
        self.last_xid
    }

    /// Keeps the session alive until `ready`.
    pub(super) async fn wait_for(&mut self, ready: impl Future) -> Result<(), Lost> {
        let mut ready = std::pin::pin!(ready);
        let mut pings = interval(PING_INTERVAL);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pings.reset();
        loop {
            tokio::select! {
                _ = &mut ready => return Ok(()),
                _ = pings.tick() => self.ping().await?,
            }
        }
    }

    async fn ping(&mut self) -> Result<(), Lost> {
        wire::ping(&mut self.output);
        let mut sent = VecDeque::from([Sent { xid: wire::PING_XID, at: Instant::now(), tag: () }]);
        let mut stall = std::pin::pin!(sleep_until(Instant::now() + STALL_TIMEOUT));
        while !sent.is_empty() {
            self.exchange(stall.as_mut()).await?;
            self.take_answers(&mut sent, Instant::now(), &mut |_| {})?;
        }
        Ok(())
    }

    /// Ends the session; the server's answer is awaited, so that it is gone when this returns.
    pub(super) async fn close(mut self) -> Result<(), Lost> {
        let mut left = 1;
        let next = |out: &mut Vec<u8>, xid, _| {
            left -= 1;
            (left == 0).then(|| wire::close_session(out, xid))
        };
        self.drive(1, next, |_| {}).await
    }
}
