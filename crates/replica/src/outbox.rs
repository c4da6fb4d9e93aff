//! The bytes that wait to be sent to one client.
//!
//! Replies and watch events are encoded straight into an outbox, by whoever produces them, in the order in which the client must see
//! them. The connection's task takes all that has gathered at once. Nothing here does IO: the task leaves a `Waker`, and the one
//! who appends wakes it when no lock is held any more.
//!
//! What always holds: once closed, nothing more is accepted; once the limit of unsent bytes is passed, the outbox closes itself,
//! because a client that does not read must not fill the server's memory.

use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// Unsent bytes that a client may have before its connection is given up. Large enough for the largest reply a tree can produce in
/// practice; requests are not even read while far less than this is waiting.
pub const LIMIT_BYTES: usize = 256 << 20;

#[derive(Debug, Default)]
pub struct Outbox {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    bytes: Vec<u8>,
    /// Frames ever appended.
    frames: u64,
    waker: Option<Waker>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Open,
    /// Send what is here, then close the connection.
    Finishing,
    /// Drop everything.
    Closed,
}

/// What the connection's task finds when it looks.
#[derive(Debug, PartialEq, Eq)]
pub enum Drained {
    /// The taken bytes are to be sent.
    Bytes,
    /// The taken bytes, possibly none, are the last ones.
    Last,
    /// The connection was given up; nothing is to be sent any more.
    Closed,
}

impl Outbox {
    /// Appends what `write` encodes: one frame. Returns whether the task must be woken.
    pub fn append(&self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.append_frames(1, write)
    }

    /// Appends `count` frames at once.
    pub fn append_frames(&self, count: u64, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut inner = self.inner.lock();
        if inner.state != State::Open {
            return false;
        }
        write(&mut inner.bytes);
        inner.frames += count;
        if inner.bytes.len() > LIMIT_BYTES {
            inner.bytes = Vec::new();
            inner.state = State::Closed;
        }
        inner.waker.is_some()
    }

    /// Lets the connection end once what is here has been sent.
    pub fn finish(&self) {
        let mut inner = self.inner.lock();
        if inner.state == State::Open {
            inner.state = State::Finishing;
        }
    }

    /// Ends the connection without sending anything more.
    pub fn close(&self) {
        let mut inner = self.inner.lock();
        inner.state = State::Closed;
        inner.bytes = Vec::new();
    }

    pub fn is_open(&self) -> bool {
        self.inner.lock().state == State::Open
    }

    pub fn frames(&self) -> u64 {
        self.inner.lock().frames
    }

    /// Wakes the task that waits in [`Outbox::poll_ready`].
    pub fn wake(&self) {
        let waker = self.inner.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ready when there is something to take or the connection is to end.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner.lock();
        if !inner.bytes.is_empty() || inner.state != State::Open {
            return Poll::Ready(());
        }
        inner.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Moves all bytes behind what `into` holds. An empty `into` is swapped in instead of copied to.
    pub fn take(&self, into: &mut Vec<u8>) -> Drained {
        let mut inner = self.inner.lock();
        if into.is_empty() {
            std::mem::swap(&mut inner.bytes, into);
        } else {
            into.append(&mut inner.bytes);
        }
        match inner.state {
            State::Open => Drained::Bytes,
            State::Finishing => Drained::Last,
            State::Closed => Drained::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_and_at_once() {
        let outbox = Outbox::default();
        outbox.append(|bytes| bytes.extend([1, 2]));
        outbox.append(|bytes| bytes.extend([3]));
        let mut taken = Vec::new();
        assert_eq!(outbox.take(&mut taken), Drained::Bytes);
        assert_eq!((taken, outbox.frames()), (vec![1, 2, 3], 2));
    }

    #[test]
    fn a_finished_outbox_still_gives_what_it_has_and_takes_nothing_more() {
        let outbox = Outbox::default();
        outbox.append(|bytes| bytes.push(1));
        outbox.finish();
        outbox.append(|bytes| bytes.push(2));
        let mut taken = Vec::new();
        assert_eq!(outbox.take(&mut taken), Drained::Last);
        assert_eq!(taken, [1]);
    }

    #[test]
    fn a_client_that_does_not_read_is_given_up() {
        let outbox = Outbox::default();
        outbox.append(|bytes| bytes.resize(LIMIT_BYTES + 1, 0));
        let mut taken = Vec::new();
        assert_eq!(outbox.take(&mut taken), Drained::Closed);
        assert!(taken.is_empty());
    }

    #[test]
    fn the_waiting_task_is_woken_once() {
        let outbox = Outbox::default();
        let mut context = Context::from_waker(Waker::noop());
        assert!(outbox.poll_ready(&mut context).is_pending());
        assert!(outbox.append(|bytes| bytes.push(1)));
        outbox.wake();
        assert!(!outbox.append(|bytes| bytes.push(2)));
        assert!(outbox.poll_ready(&mut context).is_ready());
    }
}
