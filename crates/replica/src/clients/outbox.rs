//! The bytes that wait to be sent to one client.
//!
//! Replies and watch events are encoded straight into an outbox, by whoever produces them, in the order in which the client must see
//! them. The connection's task takes all that has gathered at once. Nothing here does IO: the task leaves a `Waker`, and the one
//! who appends wakes it when no lock is held any more.
//!
//! What always holds: once closed, nothing more is accepted; once the limit of unsent bytes is passed, the outbox closes itself,
//! because a client that does not read must not fill the server's memory; what is appended behind a place that is reserved for a longer
//! answer waits until that is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::clients::budget::{Account, Budget, Meter};

/// What waits to be sent to a client, in the order of its requests.
#[derive(Debug)]
pub struct Outbox {
    /// What this connection makes the server hold, the bytes here included.
    account: Account,
    /// Length of the bytes, to be asked without the lock.
    unsent_bytes: AtomicUsize,
    /// Whether the state is anything but open, to be asked without the lock.
    ended: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    bytes: Vec<u8>,
    /// What comes behind an answer that is still being made.
    behind: Option<Vec<u8>>,
    meter: Meter,
    excess: Option<Excess>,
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

/// What a connection was given up for that made the server hold too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    #[error("more than {0} bytes wait to be sent to it, and it does not read")]
    Unsent(usize),
    #[error("it watches more than {0} paths")]
    Watches(usize),
    #[error("the paths that it watches take more than {0} bytes")]
    WatchBytes(usize),
    #[error(
        "of all clients this one makes the server hold the most ({held} bytes), and together they may make it hold {limit}"
    )]
    Share { held: usize, limit: usize },
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
    /// An empty outbox, whose bytes count against `budget`.
    pub fn within(budget: Arc<Budget>) -> Outbox {
        Outbox {
            account: Account::new(budget),
            unsent_bytes: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            inner: Mutex::default(),
        }
    }

    /// What the connection makes the server hold.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Bytes that were not taken yet.
    pub fn unsent_bytes(&self) -> usize {
        self.unsent_bytes.load(Relaxed)
    }

    /// Call with the lock, after every change of the bytes.
    fn note(&self, inner: &mut Inner) {
        let length = inner.length();
        self.unsent_bytes.store(length, Relaxed);
        self.ended.store(inner.state != State::Open, Relaxed);
        inner.meter.note(&self.account, length);
    }

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
        let waits = inner.behind.is_some();
        let Inner { bytes, behind, .. } = &mut *inner;
        write(behind.as_mut().unwrap_or(bytes));
        self.appended(&mut inner, count);
        !waits && inner.waker.is_some()
    }

    fn appended(&self, inner: &mut Inner, count: u64) {
        inner.frames += count;
        let limit = self.account.budget().connection_bytes();
        if inner.length() > limit {
            inner.give_up(Some(Excess::Unsent(limit)));
        }
        self.note(inner);
    }

    /// The next answer has its place here, before everything that is appended from now on, until [`Outbox::fill`]. Nothing behind it is
    /// sent before.
    pub fn reserve(&self) {
        self.inner.lock().behind.get_or_insert_default();
    }

    /// Puts frames into the place that was reserved, or at the end where none was. `answer` is empty afterwards.
    pub fn fill(&self, count: u64, answer: &mut Vec<u8>) {
        let mut inner = self.inner.lock();
        let behind = inner.behind.take().unwrap_or_default();
        if inner.state != State::Open {
            answer.clear();
            return;
        }
        if inner.bytes.is_empty() {
            // Long answers are not copied.
            std::mem::swap(&mut inner.bytes, answer);
        } else {
            inner.bytes.append(answer);
        }
        inner.bytes.extend(behind);
        self.appended(&mut inner, count);
    }

    /// Lets the connection end once what is here has been sent.
    pub fn finish(&self) {
        let mut inner = self.inner.lock();
        if inner.state == State::Open {
            inner.state = State::Finishing;
        }
        self.note(&mut inner);
    }

    /// Ends the connection without sending anything more.
    pub fn close(&self) {
        self.give_up(None);
    }

    /// The same, for what the connection makes the server hold.
    pub fn close_for(&self, excess: Excess) {
        self.give_up(Some(excess));
    }

    fn give_up(&self, excess: Option<Excess>) {
        let mut inner = self.inner.lock();
        inner.give_up(excess);
        self.note(&mut inner);
    }

    /// What the connection was given up for, if it made the server hold too much.
    pub fn excess(&self) -> Option<Excess> {
        self.inner.lock().excess
    }

    /// Whether more can be put in.
    pub fn is_open(&self) -> bool {
        !self.ended.load(Relaxed)
    }

    /// Frames ever appended, whether or not they were sent.
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
    pub(crate) fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner.lock();
        if !inner.bytes.is_empty() || inner.state != State::Open {
            return Poll::Ready(());
        }
        inner.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Ready when the connection was given up.
    pub(crate) fn poll_closed(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner.lock();
        if inner.state == State::Closed {
            return Poll::Ready(());
        }
        inner.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Ready when the connection is to end. Woken also when there is something to take.
    pub(crate) fn poll_ending(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.inner.lock();
        if inner.state != State::Open {
            return Poll::Ready(());
        }
        inner.waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// Whether there is nothing more to come, without taking what is here.
    pub fn peek(&self) -> Drained {
        self.inner.lock().drained()
    }

    /// Moves all bytes behind what `into` holds. An empty `into` is swapped in instead of copied to.
    pub fn take(&self, into: &mut Vec<u8>) -> Drained {
        let mut inner = self.inner.lock();
        if into.is_empty() {
            std::mem::swap(&mut inner.bytes, into);
        } else {
            into.append(&mut inner.bytes);
        }
        self.note(&mut inner);
        inner.drained()
    }
}

impl Default for Outbox {
    fn default() -> Outbox {
        Outbox::within(Arc::new(Budget::unlimited()))
    }
}

impl Inner {
    fn length(&self) -> usize {
        self.bytes.len() + self.behind.as_ref().map_or(0, Vec::len)
    }

    fn give_up(&mut self, excess: Option<Excess>) {
        if self.state != State::Closed {
            self.excess = excess;
        }
        self.state = State::Closed;
        (self.bytes, self.behind) = (Vec::new(), None);
    }

    fn drained(&self) -> Drained {
        match self.state {
            State::Open => Drained::Bytes,
            State::Finishing => Drained::Last,
            State::Closed => Drained::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::budget::MAX_CONNECTION_BYTES;

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
    fn what_comes_behind_a_reserved_place_waits_for_what_fills_it() {
        let outbox = Outbox::default();
        outbox.append(|bytes| bytes.push(1));
        outbox.reserve();
        assert!(!outbox.append(|bytes| bytes.push(3)));
        assert_eq!((outbox.frames(), outbox.unsent_bytes()), (2, 2));
        let mut taken = Vec::new();
        assert_eq!(outbox.take(&mut taken), Drained::Bytes);
        assert_eq!((&taken, outbox.unsent_bytes()), (&vec![1], 1));
        let mut answer = vec![2, 2];
        outbox.fill(1, &mut answer);
        outbox.append(|bytes| bytes.push(4));
        outbox.take(&mut taken);
        assert_eq!((taken, answer, outbox.frames()), (vec![1, 2, 2, 3, 4], vec![], 4));
        // And nothing more behind one that was given up.
        outbox.reserve();
        outbox.append(|bytes| bytes.push(5));
        outbox.close();
        assert_eq!(outbox.unsent_bytes(), 0);
        outbox.fill(1, &mut vec![6]);
        assert_eq!((outbox.unsent_bytes(), outbox.frames()), (0, 5));
    }

    #[test]
    fn a_client_that_does_not_read_is_given_up() {
        let outbox = Outbox::default();
        outbox.append(|bytes| bytes.resize(MAX_CONNECTION_BYTES + 1, 0));
        let mut taken = Vec::new();
        assert_eq!(outbox.take(&mut taken), Drained::Closed);
        assert!(taken.is_empty());
        assert_eq!(outbox.excess(), Some(Excess::Unsent(MAX_CONNECTION_BYTES)));
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
