//! Local sessions, which one server knows and no log. In read-only mode there are no others.
//!
//! What always holds here: nothing of a local session is replicated until it needs an ephemeral node and may be upgraded.
//!
//! Counterpart in the original: `UpgradeableSessionTracker`.

use std::sync::Arc;

use rookeeper_proto::frame::{self, ReplyHeader};
use rookeeper_proto::multi::WriteOp;
use rookeeper_proto::request::WriteRequest;
use rookeeper_proto::{ErrorCode, MonotonicMs, OpCode, SessionId, Zxid};
use rookeeper_tree::Outcome;

use crate::clients::connection::Connection;
use crate::clients::read::ReadFrame;
use crate::clients::requests::Write;
use crate::clients::session::Owner;
use crate::core::{Core, Reply};
use crate::status::Serving;
use crate::time::Time;

impl Core {
    pub(crate) fn is_local(&self, session: SessionId) -> bool {
        (self.rules.local_sessions || self.serving() == Serving::ReadOnly)
            && self.shared.sessions().get(session).is_some_and(|session| session.local)
    }

    /// The end of a local session is no transaction; it waits for the requests before it as a read does. None where the session goes on
    /// without this connection.
    pub(crate) fn close_local(&mut self, now_ms: MonotonicMs, write: &Write) -> Option<ReadFrame> {
        let Write { connection, xid, identities, arrived, audited, .. } = write;
        let session = connection.session();
        let mut sessions = self.shared.sessions();
        let owner = Owner::Client(connection.id);
        if sessions.get(session).is_none_or(|known| known.closing || known.has_left(owner)) {
            drop(sessions);
            self.leave(write);
            return None;
        }
        // Its turn comes later, and until then nobody may resume the session.
        sessions.close(session);
        let (op, identities) = (OpCode::CloseSession, identities.clone());
        let audited = audited.clone();
        Some(ReadFrame { xid: *xid, op, body: Vec::new(), identities, received_ms: now_ms, arrived: *arrived, audited })
    }

    /// Answers the end of a local session.
    pub(crate) fn answer_close_local(&mut self, now: Time, zxid: Zxid, connection: &Arc<Connection>, read: &ReadFrame) {
        self.shared.sessions().remove(connection.session());
        let header = ReplyHeader { xid: read.xid, zxid, err: 0 };
        connection.outbox.append(|output| frame::append_reply::<()>(output, header, None));
        connection.outbox.finish();
        self.audit_outcome(read.audited.as_ref(), &Outcome::SessionClosed);
        self.note_answer(now, connection, (read.op, read.xid), zxid, 0);
    }

    /// The timeout of a local session that a write makes one for all.
    pub(crate) fn needed_upgrade(&self, session: SessionId, owner: Owner, request: &WriteRequest) -> Option<i32> {
        if !self.rules.local_sessions || !self.rules.upgrades_local_sessions || !wants_ephemeral(request) {
            return None;
        }
        match self.shared.sessions().get(session) {
            Some(session) if session.local && !session.closing && !session.has_left(owner) => Some(session.timeout_ms),
            _ => None,
        }
    }

    /// What a client of a local session is told where the leader did not know its session.
    pub(crate) fn local_refusal(&self, reply: &Reply, code: i32) -> i32 {
        let ephemeral = code == ErrorCode::SessionExpired.number()
            && matches!(reply.op, OpCode::Create | OpCode::Create2)
            && self.is_local(reply.connection.session());
        if ephemeral { ErrorCode::EphemeralOnLocalSession.number() } else { code }
    }
}

fn wants_ephemeral(request: &WriteRequest) -> bool {
    let ephemeral = |flags: i32| matches!(flags, 1 | 3);
    match request {
        WriteRequest::Create(create) | WriteRequest::Create2(create) => ephemeral(create.flags),
        WriteRequest::Multi(ops) => ops.iter().any(|op| match op {
            WriteOp::Create(create) | WriteOp::Create2(create) => ephemeral(create.flags),
            _ => false,
        }),
        _ => false,
    }
}
