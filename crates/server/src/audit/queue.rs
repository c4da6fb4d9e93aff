//! The way from those who serve clients to the thread that writes.
//!
//! What always holds here: nobody waits who tells of an event, but for the time that another one takes to put one in; what waits, and what is being
//! written, takes no more than a limit together, except for one event that takes more alone.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};

use super::event::Event;
use crate::observe::figures::Figures;

/// Events with the time at which they happened.
pub(super) type Batch = Vec<(Timestamp, Event)>;

#[derive(Debug)]
pub(super) struct Queue {
    max_bytes: usize,
    inner: Mutex<Inner>,
    /// For the thread that writes.
    filled: Condvar,
    /// For who waits until everything is written.
    ended: Condvar,
    /// Where it is counted what was written and what was not.
    figures: Arc<Figures>,
}

#[derive(Debug, Default)]
struct Inner {
    events: Batch,
    /// Of those that wait and those that are being written.
    held_bytes: usize,
    /// The thread that writes has nothing to do.
    is_idle: bool,
    is_closed: bool,
    has_ended: bool,
}

impl Queue {
    pub fn new(max_bytes: usize, figures: Arc<Figures>) -> Queue {
        let (inner, filled, ended) = Default::default();
        Queue { max_bytes, inner, filled, ended, figures }
    }

    /// Bytes of what waits and of what is being written.
    pub fn waiting_bytes(&self) -> usize {
        self.inner.lock().held_bytes
    }

    /// How many these may be.
    pub fn limit_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Puts an event in, if there is room.
    pub fn push(&self, event: Event) {
        let (bytes, lines) = (event.held_bytes(), event.lines());
        let mut inner = self.inner.lock();
        if inner.is_closed || (inner.held_bytes > 0 && inner.held_bytes + bytes > self.max_bytes) {
            drop(inner);
            self.note_dropped(lines);
            return;
        }
        inner.held_bytes += bytes;
        inner.events.push((Timestamp::now(), event));
        if std::mem::take(&mut inner.is_idle) {
            drop(inner);
            self.filled.notify_one();
        }
    }

    /// Waits for events and takes all there are into an empty batch. False where none will come.
    pub fn take(&self, batch: &mut Batch) -> bool {
        let mut inner = self.inner.lock();
        while inner.events.is_empty() {
            if inner.is_closed {
                return false;
            }
            inner.is_idle = true;
            self.filled.wait(&mut inner);
        }
        inner.is_idle = false;
        std::mem::swap(batch, &mut inner.events);
        true
    }

    /// Gives back the room of a batch, which is written or lost.
    pub fn done(&self, batch: &mut Batch) {
        let bytes: usize = batch.drain(..).map(|(_, event)| event.held_bytes()).sum();
        self.inner.lock().held_bytes -= bytes;
    }

    /// Lets more events gather, unless no more will come.
    pub fn gather(&self, pause: Duration) {
        let mut inner = self.inner.lock();
        if !inner.is_closed {
            self.filled.wait_for(&mut inner, pause);
        }
    }

    pub fn note_written(&self, lines: u64) {
        self.figures.audit_lines_written.fetch_add(lines, Relaxed);
    }

    pub fn note_dropped(&self, lines: u64) {
        self.figures.audit_lines_dropped.fetch_add(lines, Relaxed);
    }

    /// Lines that were never written, since the start of the process.
    pub fn dropped(&self) -> u64 {
        self.figures.audit_lines_dropped.load(Relaxed)
    }

    /// The thread that writes has ended.
    pub fn end(&self) {
        self.inner.lock().has_ended = true;
        self.ended.notify_all();
    }

    /// Takes nothing more, and waits until what is there is written, but no longer than this.
    pub fn close(&self, at_most: Duration) {
        let mut inner = self.inner.lock();
        inner.is_closed = true;
        self.filled.notify_all();
        self.ended.wait_while_for(&mut inner, |inner| !inner.has_ended, at_most);
    }
}
