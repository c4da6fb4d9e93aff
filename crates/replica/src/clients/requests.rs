//! What clients ask for, and what a role has to know of a request before it goes its way.

use std::sync::Arc;

use rookeeper_proto::request::WriteRequest;
use rookeeper_proto::{ErrorCode, MonotonicMs, OpCode};

use crate::audit::{Audited, Fate};
use crate::clients::connection::{Connection, Identities};
use crate::clients::read::ReadFrame;
use crate::clients::session::Owner;
use crate::core::{Core, Reply};
use crate::time::{Stamp, Time};
use crate::top::Sample;

/// The part of [`Input`](crate::Input) that comes from clients whose handshake is answered.
#[derive(Debug)]
pub(crate) enum ClientInput {
    Write(Write),
    Read { connection: Arc<Connection>, read: ReadFrame },
    Disconnected { connection: Arc<Connection> },
}

/// A request for a change.
#[derive(Debug)]
pub(crate) struct Write {
    pub connection: Arc<Connection>,
    pub xid: i32,
    pub op: OpCode,
    /// None where it could not be decoded.
    pub request: Option<WriteRequest>,
    /// As the client sent it, for a leader elsewhere.
    pub body: Vec<u8>,
    pub identities: Identities,
    pub arrived: Stamp,
    pub sampled: Option<Box<Sample>>,
    /// For the audit log, where there is one.
    pub audited: Option<Arc<Audited>>,
}

impl Write {
    /// Who is to get the answer. The latency of the request counts from now on.
    pub fn reply(&self, now: Time) -> Reply {
        let (xid, op, arrived) = (self.xid, self.op, self.arrived);
        let (connection, audited, sampled) = (self.connection.clone(), self.audited.clone(), self.sampled.clone());
        Reply {
            connection,
            xid,
            op,
            received_ms: now.monotonic_ms,
            arrived,
            taken: now.stamp,
            sampled,
            handshake: None,
            audited,
        }
    }
}

/// What is to be done with a write before anything else.
#[derive(Debug)]
pub(crate) enum Sorted {
    /// Nobody waits for it any more.
    Left,
    /// The end of a local session, which takes its turn as a read.
    ClosesLocal(ReadFrame),
    /// Not allowed by this server's own lists.
    Refused(ErrorCode),
    Goes,
    /// It needs that all servers know its local session, which has this timeout.
    GoesBehindUpgrade {
        timeout_ms: i32,
    },
}

impl Core {
    /// Nothing is done for a write: its client has left, or nobody is served.
    pub fn leave(&mut self, write: &Write) {
        self.audit(write.audited.as_ref(), Fate::Failed);
        self.shared.settle(&write.connection);
    }

    /// Says what a client's write is, for a server that serves.
    pub fn sort(&mut self, now_ms: MonotonicMs, write: &Write) -> Sorted {
        let Write { connection, op, request, identities, .. } = write;
        if connection.is_cut() {
            self.leave(write);
            return Sorted::Left;
        }
        // Only a local session can be over before what its connection has sent is looked at; no other server could tell.
        if self.rules.local_sessions && self.shared.sessions().get(connection.session()).is_none() {
            self.leave(write);
            return Sorted::Left;
        }
        if *op == OpCode::CloseSession && self.is_local(connection.session()) {
            return match self.close_local(now_ms, write) {
                Some(read) => Sorted::ClosesLocal(read),
                None => Sorted::Left,
            };
        }
        let Some(request) = request else { return Sorted::Goes };
        if let Some(code) = self.eagerly_refused(request, identities) {
            return Sorted::Refused(code);
        }
        let owner = Owner::Client(connection.id);
        match self.needed_upgrade(connection.session(), owner, request) {
            Some(timeout_ms) => Sorted::GoesBehindUpgrade { timeout_ms },
            None => Sorted::Goes,
        }
    }
}
