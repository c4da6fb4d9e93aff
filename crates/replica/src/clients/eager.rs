//! `enableEagerACLCheck`: requests that are not allowed are refused where they arrive.
//!
//! What always holds: only members of an ensemble do this, each for its own clients and by its own tree; what cannot be told from that, a
//! node that is not there among it, is left to the leader; a refusal takes its turn among the session's answers, and is no transaction.
//!
//! Counterpart in the original: `ZooKeeperServer.authWriteRequest`, which answers out of turn.

use std::sync::Arc;

use rookeeper_proto::frame::{self, ReplyHeader};
use rookeeper_proto::request::WriteRequest;
use rookeeper_proto::{ErrorCode, Id, Permissions, path};
use rookeeper_tree::{Tree, access};

use crate::audit::Fate;
use crate::clients::connection::Connection;
use crate::clients::read::ReadFrame;
use crate::clients::requests::Write;
use crate::core::Core;
use crate::time::Time;

impl Core {
    /// Why a request is refused at once, if it is.
    pub(crate) fn eagerly_refused(&self, request: &WriteRequest, identities: &[Id]) -> Option<ErrorCode> {
        if !self.rules.eager_acl_check {
            return None;
        }
        let (node_path, wanted, acl) = match request {
            WriteRequest::Create(create) | WriteRequest::Create2(create) => {
                (path::parent(create.path.as_deref()?)?, Permissions::CREATE, Some(&create.acl))
            }
            WriteRequest::Delete(delete) => (path::parent(delete.path.as_deref()?)?, Permissions::DELETE, None),
            WriteRequest::SetData(set) => (set.path.as_deref()?, Permissions::WRITE, None),
            WriteRequest::SetAcl(set) => (set.path.as_deref()?, Permissions::ADMIN, Some(&set.acl)),
            _ => return None,
        };
        let config = &self.shared.settings.access;
        if let Some(acl) = acl {
            match access::fix_up(acl.as_deref(), identities, config) {
                Err(ErrorCode::InvalidAcl) => return Some(ErrorCode::InvalidAcl),
                Err(_) => return None,
                Ok(_) => {}
            }
        }
        let tree = self.shared.tree();
        let allowed = tree.node(node_path)?.acl().allows(wanted, identities, config);
        (!allowed).then_some(ErrorCode::NoAuth)
    }

    pub(crate) fn answer_refused_behind(
        &mut self,
        now: Time,
        tree: &Tree,
        connection: &Arc<Connection>,
        read: &ReadFrame,
    ) {
        let err =
            read.body.first_chunk().map_or(ErrorCode::RuntimeInconsistency.number(), |code| i32::from_be_bytes(*code));
        let header = ReplyHeader { xid: read.xid, zxid: tree.last_zxid(), err };
        connection.outbox.append(|output| frame::append_reply::<()>(output, header, None));
        self.audit(read.audited.as_ref(), Fate::Failed);
        let latency_ms = (now.monotonic_ms - read.received_ms).max(0);
        self.note_answer(now, connection, (read.op, read.xid), tree.last_zxid(), latency_ms);
    }
}

/// A request of a leader's own client that is refused behind what the client asked for before: as a read of the code.
pub(crate) fn refused_behind(now: Time, code: ErrorCode, write: Write) -> (Arc<Connection>, ReadFrame) {
    let Write { connection, xid, op, identities, arrived, audited, .. } = write;
    let body = code.number().to_be_bytes().to_vec();
    (connection, ReadFrame { xid, op, body, identities, received_ms: now.monotonic_ms, arrived, audited })
}
