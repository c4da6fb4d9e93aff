//! What the audit log is told.
//!
//! The first six operations and those of the server are the original's; those of sessions and of authentication it leaves out.

use std::net::IpAddr;
use std::sync::Arc;

use rookeeper_proto::SessionId;
use rookeeper_proto::acl::Word;
use rookeeper_replica::{Audited, Fate, Identities, Operation};

/// Something that happened, and will be one line or more.
#[derive(Debug)]
pub(crate) enum Event {
    /// The server started, or could not, or was told to stop.
    Server { operation: &'static str, result: Result },
    /// What became of a client's request.
    Request { request: Arc<Audited>, fate: Fate },
    /// Nodes that went with their session.
    Ephemerals { session: SessionId, paths: Vec<Arc<str>> },
    /// A client has a session from now on. The session was there before or not.
    Session { event: SessionEvent, session: SessionId, client: IpAddr, identities: Identities },
    /// Nobody was heard of for too long.
    Expired { session: SessionId },
    /// Who somebody is was not shown, or not in time. The session is 0 where there is none.
    NotAuthenticated { session: SessionId, client: IpAddr, identities: Option<Identities> },
}

/// How a client came to its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionEvent {
    Opened,
    Resumed,
}

/// What became of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Result {
    Success,
    Failure,
    /// It was asked for, and how it ends is not known yet.
    Invoked,
}

/// What an event takes in memory besides its texts, about.
const EVENT_BYTES: usize = 256;

impl Event {
    /// The start of this server.
    pub fn started(result: Result) -> Event {
        Event::Server { operation: "serverStart", result }
    }

    /// The end of this server is asked for.
    pub fn stopping() -> Event {
        Event::Server { operation: "serverStop", result: Result::Invoked }
    }

    /// Bytes that this event holds while it waits, about.
    pub fn held_bytes(&self) -> usize {
        let texts = match self {
            Event::Server { .. } | Event::Expired { .. } => 0,
            Event::Request { request, fate } => {
                let names = match fate {
                    Fate::Done { sequential } => sequential.iter().map(String::len).sum(),
                    Fate::Failed | Fate::Unknown => 0,
                };
                names + held_by_operation(&request.operation) + held_by_identities(&request.identities)
            }
            Event::Ephemerals { paths, .. } => paths.iter().map(|path| path.len() + size_of::<Arc<str>>()).sum(),
            Event::Session { identities, .. } => held_by_identities(identities),
            Event::NotAuthenticated { identities, .. } => identities.as_ref().map_or(0, held_by_identities),
        };
        EVENT_BYTES + texts
    }

    /// Lines that this event becomes.
    pub fn lines(&self) -> u64 {
        match self {
            Event::Request { request, fate: Fate::Done { .. } } => match &request.operation {
                Operation::Multi(members) => members.len() as u64,
                _ => 1,
            },
            Event::Ephemerals { paths, .. } => paths.len() as u64,
            _ => 1,
        }
    }
}

fn held_by_operation(operation: &Operation) -> usize {
    let length = |path: &Option<String>| path.as_ref().map_or(0, String::len);
    let length_of_word = |word: &Option<Word>| word.as_ref().map_or(0, |word| word.len());
    match operation {
        Operation::Create { path, .. } | Operation::Delete { path } | Operation::SetData { path } => length(path),
        Operation::SetAcl { path, acl } => {
            let entries =
                acl.iter().flatten().map(|entry| 64 + length_of_word(&entry.scheme) + length_of_word(&entry.id));
            length(path) + entries.sum::<usize>()
        }
        Operation::Multi(members) => {
            members.iter().map(|member| size_of::<Operation>() + held_by_operation(member)).sum()
        }
        Operation::Reconfig | Operation::CloseSession | Operation::ResumeSession => 0,
    }
}

fn held_by_identities(identities: &Identities) -> usize {
    identities.iter().map(|id| id.scheme.len() + id.id.len()).sum()
}
