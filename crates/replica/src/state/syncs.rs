//! Syncs that wait, and what waits behind them: at a leader until it is confirmed that it leads, at a server alone until what it has taken is applied.
//!
//! What always holds here: a sync is answered when everything proposed before it is applied and, at a leader, a quorum has confirmed, after it was asked
//! for, that this server still leads. A client that has lost an answer asks for a sync to see what became of the request. Until then nothing that came after it from the same learner or client goes on, because answers have
//! no number and are told by their order.
//!
//! Counterpart in the original: `Leader.processSync`; a sync there is answered without asking a quorum.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rookeeper_proto::{OpCode, SessionId, Zxid};
use rookeeper_zab::LinkId;

use crate::clients::connection::Connection;
use crate::clients::read::ReadFrame;
use crate::clients::requests::ClientInput;
use crate::core::Abandoned;
use crate::state::leading::learner_requests::Request;

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asker {
    Learner(LinkId),
    Client(u64),
}

/// Whom to answer.
#[derive(Debug)]
pub(crate) enum Asked {
    Learner(LinkId),
    /// A client of this server.
    Client(Arc<Connection>, ReadFrame),
}

impl Asked {
    fn asker(&self) -> Asker {
        match self {
            Asked::Learner(link) => Asker::Learner(*link),
            Asked::Client(connection, _) => Asker::Client(connection.id.0),
        }
    }
}

#[derive(Debug)]
struct Sync {
    /// Answered once this is applied,
    after: Zxid,
    /// and this is confirmed.
    ticket: u64,
    asked: Asked,
}

/// What waits behind a sync.
#[derive(Debug)]
pub(crate) enum Held {
    Request(Request),
    Revalidate { link: LinkId, session: SessionId, timeout_ms: i32 },
    Sync(LinkId),
    Client(ClientInput),
}

/// What waits behind the syncs of one asker.
#[derive(Debug, Default)]
struct Hold {
    syncs: usize,
    queue: VecDeque<Held>,
}

#[derive(Debug, Default)]
pub(crate) struct Syncs {
    waiting: VecDeque<Sync>,
    holds: BTreeMap<Asker, Hold>,
    confirmed: u64,
}

impl Syncs {
    /// Gives back the clients whose syncs and requests will not be answered, with what the audit log is to hear of these.
    pub fn abandon(self) -> Vec<Abandoned> {
        let clients = self.waiting.into_iter().filter_map(|sync| match sync.asked {
            Asked::Client(connection, _) => Some((connection, None)),
            Asked::Learner(_) => None,
        });
        let mut clients: Vec<_> = clients.collect();
        for hold in self.holds.into_values() {
            clients.extend(hold.queue.into_iter().filter_map(|held| match held {
                Held::Client(ClientInput::Write(write)) => Some((write.connection, write.audited)),
                Held::Client(ClientInput::Read { connection, .. }) => Some((connection, None)),
                _ => None,
            }));
        }
        clients
    }

    /// Whether a client's input must wait; if so it is kept.
    pub fn hold(&mut self, input: ClientInput) -> Option<ClientInput> {
        let (connection, is_sync) = match &input {
            _ if self.holds.is_empty() => return Some(input),
            ClientInput::Write(write) => (&write.connection, false),
            ClientInput::Read { connection, read } => (connection, read.op == OpCode::Sync),
            ClientInput::Disconnected { .. } => return Some(input),
        };
        match self.holds.get_mut(&Asker::Client(connection.id.0)) {
            Some(hold) if !is_sync || !hold.queue.is_empty() => {
                hold.queue.push_back(Held::Client(input));
                None
            }
            _ => Some(input),
        }
    }

    /// The queue of a learner's link, where what it asks for must wait.
    pub fn queue_of(&mut self, link: LinkId) -> Option<&mut VecDeque<Held>> {
        self.holds.get_mut(&Asker::Learner(link)).map(|hold| &mut hold.queue)
    }

    /// Keeps a sync until everything up to `after` is applied and `ticket` is confirmed.
    pub fn push(&mut self, after: Zxid, ticket: u64, asked: Asked) {
        self.holds.entry(asked.asker()).or_default().syncs += 1;
        self.waiting.push_back(Sync { after, ticket, asked });
    }

    /// A quorum has confirmed what was asked with this ticket and before.
    pub fn confirm(&mut self, ticket: u64) {
        self.confirmed = self.confirmed.max(ticket);
    }

    /// The oldest sync, if its time has come.
    pub fn pop_due(&mut self, committed: Zxid) -> Option<Asked> {
        let confirmed = self.confirmed;
        let due = |sync: &mut Sync| sync.ticket <= confirmed && (sync.after <= committed || sync.after.counter() == 0);
        self.waiting.pop_front_if(due).map(|sync| sync.asked)
    }

    /// One sync is answered: what came behind it goes on, up to the next sync, behind which the rest waits again.
    pub fn release(&mut self, asker: Asker) -> VecDeque<Held> {
        let Some(hold) = self.holds.get_mut(&asker) else { return VecDeque::new() };
        hold.syncs -= 1;
        if hold.syncs > 0 {
            return VecDeque::new();
        }
        self.holds.remove(&asker).map(|hold| hold.queue).unwrap_or_default()
    }

    /// A learner is gone: nothing of it waits any more.
    pub fn forget_learner(&mut self, link: LinkId) {
        let asker = Asker::Learner(link);
        self.holds.remove(&asker);
        self.waiting.retain(|sync| sync.asked.asker() != asker);
    }
}
