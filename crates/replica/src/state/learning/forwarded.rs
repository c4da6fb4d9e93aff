//! What waits for an answer from the leader, in the order in which it was sent.
//!
//! What always holds here: what was sent to the leader and is not answered stands in one queue, oldest first, over all sessions,
//! because the leader's answers carry no number: a transaction is the answer to the head of the queue if session and cxid are those
//! of the head, and somebody else's otherwise. A request enters the queue before it is sent. Reads behind a request of their
//! connection wait with it.
//!
//! Counterpart in the original: `CommitProcessor`.

use std::collections::VecDeque;

use rookeeper_proto::{ErrorCode, SessionId};
use rookeeper_zab::LinkId;

use crate::clients::connection::Connection;
use crate::clients::read::ReadFrame;
use crate::core::{Reply, Waiting};

/// A request on its way.
#[derive(Debug)]
pub(crate) enum Asked {
    /// Answered by the transaction with this session and cxid. Nobody waits for it where the server asked for itself.
    Write { session: SessionId, cxid: i32, reply: Option<Reply> },
    /// Answered by SYNC.
    Sync { read: ReadFrame, reply: Reply },
    /// The same of an observer that this server feeds. Its writes are not here: the transactions come to it as all others do.
    RelayedSync(LinkId),
    /// Refused here, in its turn.
    Refused { code: ErrorCode, reply: Reply },
}

impl Asked {
    fn reply(&self) -> Option<&Reply> {
        match self {
            Asked::Write { reply, .. } => reply.as_ref(),
            Asked::Sync { reply, .. } | Asked::Refused { reply, .. } => Some(reply),
            Asked::RelayedSync(_) => None,
        }
    }
}

/// Who waits for the answer to a sync.
#[derive(Debug)]
pub(crate) enum Synced {
    /// `behind`: the reads that came after it.
    Client {
        read: ReadFrame,
        reply: Reply,
        behind: Vec<ReadFrame>,
    },
    Observer(LinkId),
}

#[derive(Debug)]
struct Entry {
    asked: Asked,
    /// Reads of the same connection that came after it, and before its next request.
    reads: Vec<ReadFrame>,
}

/// Everything that waits for the leader.
#[derive(Debug, Default)]
pub(crate) struct Forwarded {
    entries: VecDeque<Entry>,
    /// The place of the first entry, counted from the first that this queue ever held. A connection knows the place of its last request.
    first: u64,
}

impl Forwarded {
    /// How many requests wait for the leader.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Those who wait for an answer which will not come.
    pub fn abandon(self) -> Vec<Waiting> {
        let waiting = |Entry { asked, reads }| match asked {
            Asked::Write { reply, .. } => (reply, reads),
            Asked::Sync { reply, .. } | Asked::Refused { reply, .. } => (Some(reply), reads),
            Asked::RelayedSync(_) => (None, reads),
        };
        self.entries.into_iter().map(waiting).collect()
    }

    /// A request was sent to the leader.
    pub fn push(&mut self, asked: Asked) {
        if let Some(reply) = asked.reply() {
            reply.connection.set_last_forwarded(self.first + self.entries.len() as u64);
        }
        self.entries.push_back(Entry { asked, reads: Vec::new() });
    }

    /// A read that came behind a request of its connection. Given back where that has been answered.
    pub fn wait(&mut self, connection: &Connection, read: ReadFrame) -> Option<ReadFrame> {
        let index = connection.last_forwarded().checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let waiting = index.and_then(|index| self.entries.get_mut(index));
        match waiting {
            Some(entry) if entry.asked.reply().is_some_and(|reply| *reply.connection == *connection) => {
                entry.reads.push(read);
                None
            }
            _ => Some(read),
        }
    }

    /// Whoever waits for this transaction, if it is one of ours.
    pub fn take_answered(&mut self, session: SessionId, cxid: i32) -> Option<Waiting> {
        match self.entries.front()?.asked {
            Asked::Write { session: waits_for, cxid: with, .. } if (waits_for, with) == (session, cxid) => {}
            _ => return None,
        }
        match self.pop()? {
            Entry { asked: Asked::Write { reply, .. }, reads } => Some((reply, reads)),
            _ => None,
        }
    }

    /// The sync that is the oldest request, if that is one.
    pub fn take_sync(&mut self) -> Option<Synced> {
        if !matches!(self.entries.front()?.asked, Asked::Sync { .. } | Asked::RelayedSync(_)) {
            return None;
        }
        match self.pop()? {
            Entry { asked: Asked::Sync { read, reply }, reads } => Some(Synced::Client { read, reply, behind: reads }),
            Entry { asked: Asked::RelayedSync(link), .. } => Some(Synced::Observer(link)),
            _ => None,
        }
    }

    /// The request at the head of the queue, where that needs no leader.
    pub fn take_refused(&mut self) -> Option<(ErrorCode, Reply, Vec<ReadFrame>)> {
        if !matches!(self.entries.front()?.asked, Asked::Refused { .. }) {
            return None;
        }
        match self.pop()? {
            Entry { asked: Asked::Refused { code, reply }, reads } => Some((code, reply, reads)),
            _ => None,
        }
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.first += 1;
        Some(entry)
    }
}
