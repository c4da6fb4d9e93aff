//! The answer to a four-letter word while it is written.
//!
//! What always holds: what is written, and what was gathered to be written, is counted as held for the client that asks, as it grows; nothing
//! more is written once that is more than one connection may hold, or once the client was cut for what it holds.

use std::fmt;

use rookeeper_replica::budget::Meter;
use rookeeper_replica::{Connection, Excess};

use crate::observe::NotWanted;

/// See the module's documentation.
pub(crate) struct Page<'a> {
    asking: &'a Connection,
    text: String,
    gathered_bytes: usize,
    meter: Meter,
}

impl<'a> Page<'a> {
    /// An empty page for the connection that asks.
    pub fn new(asking: &'a Connection) -> Page<'a> {
        Page { asking, text: String::new(), gathered_bytes: 0, meter: Meter::default() }
    }

    /// This much is gathered now to be written.
    pub fn gathered(&mut self, bytes: usize) -> Result<(), NotWanted> {
        self.gathered_bytes = bytes;
        self.note();
        self.is_wanted().then_some(()).ok_or(NotWanted)
    }

    fn held_bytes(&self) -> usize {
        self.text.capacity() + self.gathered_bytes
    }

    fn note(&mut self) {
        self.meter.note(self.asking.account(), self.held_bytes());
    }

    /// Whether there is a use in writing more. Where there is none, the connection is over.
    fn is_wanted(&mut self) -> bool {
        let limit = self.asking.budget().connection_bytes();
        if self.held_bytes() > limit {
            self.asking.outbox.close_for(Excess::Unsent(limit));
        }
        let is_wanted = self.asking.outbox.is_open();
        if !is_wanted {
            self.text = String::new();
        }
        is_wanted
    }

    /// Hands the answer to the connection.
    pub fn send(mut self) {
        let mut bytes = std::mem::take(&mut self.text).into_bytes();
        self.gathered_bytes = 0;
        self.note();
        // Not copied: it may be long.
        self.asking.outbox.fill(0, &mut bytes);
        self.asking.outbox.finish();
    }
}

impl From<NotWanted> for fmt::Error {
    fn from(_: NotWanted) -> fmt::Error {
        fmt::Error
    }
}

/// Appends as long as that is wanted.
impl fmt::Write for Page<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if !self.is_wanted() {
            return Err(fmt::Error);
        }
        self.text.push_str(text);
        self.note();
        Ok(())
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        self.meter.note(self.asking.account(), 0);
    }
}

#[cfg(test)]
impl Page<'_> {
    /// The text that was written and is not sent yet.
    pub fn into_text(mut self) -> String {
        std::mem::take(&mut self.text)
    }
}
