//! Local sessions, which one server knows and no log, and read-only mode, which has no others.
//!
//! What always holds here: nothing of a local session is replicated until it needs an ephemeral node and may be upgraded; in read-only
//! mode nothing is changed at all, and who comes is told so.
//!
//! Counterpart in the original: `UpgradeableSessionTracker`, `ReadOnlyZooKeeperServer`.

use std::sync::Arc;

use rookeeper_proto::frame::{self, ReplyHeader};
use rookeeper_proto::multi::WriteOp;
use rookeeper_proto::request::WriteRequest;
use rookeeper_proto::{ErrorCode, OpCode, SessionId, Txn, Zxid};

use crate::clients::connection::{Connection, Identities};
use crate::clients::read::ReadFrame;
use crate::clients::session::Owner;
use crate::contract::Level;
use crate::replica::{Replica, Reply, Role};
use crate::status::Serving;
use crate::time::Time;

/// A server looks for a leader at least this long before it serves readers without one.
const READ_ONLY_AFTER_MS: i64 = 2000;

/// What to do about a write of a local session, before it goes its way.
pub(crate) enum Upgrade {
    NotNeeded,
    /// Its session must become known to all first.
    Needed {
        timeout_ms: i32,
    },
}

impl Replica {
    pub(crate) fn is_local(&self, session: SessionId) -> bool {
        (self.local_sessions() || self.shared.bulletin.serving() == Serving::ReadOnly)
            && self.shared.sessions().get(session).is_some_and(|session| session.local)
    }

    /// The end of a local session is no transaction; it waits for the requests before it as a read does.
    pub(crate) fn close_local(&mut self, now: Time, connection: Arc<Connection>, xid: i32, identities: &Identities) {
        let session = connection.session();
        {
            let mut sessions = self.shared.sessions();
            let owner = Owner::Client(connection.id);
            if sessions.get(session).is_none_or(|known| known.closing || known.has_left(owner)) {
                self.shared.settle(&connection);
                return;
            }
            // Its turn comes later, and until then nobody may resume the session.
            sessions.close(session);
        }
        let read = ReadFrame {
            xid,
            op: OpCode::CloseSession,
            body: Vec::new(),
            identities: identities.clone(),
            received_ms: now.monotonic_ms,
        };
        self.read(now, connection, read);
    }

    /// Answers the end of a local session.
    pub(crate) fn answer_close_local(&mut self, now: Time, zxid: Zxid, connection: &Arc<Connection>, read: &ReadFrame) {
        self.shared.sessions().remove(connection.session());
        let header = ReplyHeader { xid: read.xid, zxid, err: 0 };
        connection.outbox.append(|output| frame::append_reply::<()>(output, header, None));
        connection.outbox.finish();
        self.note_answer(now, connection, (read.op, read.xid), zxid, 0);
    }

    /// Whether a write makes a local session one for all.
    pub(crate) fn upgrade_for(&self, session: SessionId, owner: Owner, request: &WriteRequest) -> Upgrade {
        let Some(member) = &self.member else { return Upgrade::NotNeeded };
        if !member.settings.local_sessions || !member.settings.local_sessions_upgrading || !wants_ephemeral(request) {
            return Upgrade::NotNeeded;
        }
        match self.shared.sessions().get(session) {
            Some(session) if session.local && !session.closing && !session.has_left(owner) => {
                Upgrade::Needed { timeout_ms: session.timeout_ms }
            }
            _ => Upgrade::NotNeeded,
        }
    }

    /// Makes a local session known to all, in front of the write that needs it.
    pub(crate) fn upgrade(&mut self, now: Time, session: SessionId, timeout_ms: i32) {
        self.shared.sessions().globalize(session);
        match &self.role {
            Role::Leading(_) => self.propose(now, session, 0, Txn::CreateSession { timeout_ms }, None),
            _ => self.forward(session, 0, OpCode::CreateSession, &timeout_ms.to_be_bytes(), None, None),
        }
    }

    /// What a client of a local session is told where the leader did not know its session.
    pub(crate) fn local_refusal(&self, reply: &Reply, code: i32) -> i32 {
        let ephemeral = code == ErrorCode::SessionExpired.number()
            && matches!(reply.op, OpCode::Create | OpCode::Create2)
            && self.is_local(reply.connection.session());
        if ephemeral { ErrorCode::EphemeralOnLocalSession.number() } else { code }
    }

    /// Refuses whatever would change something. Nothing is on its way in read-only mode, so its turn is now.
    pub(crate) fn refuse_read_only(&mut self, now: Time, reply: Reply) {
        self.refuse_in_turn(now, ErrorCode::NotReadOnly, reply);
    }

    /// When read-only mode begins, while no leader is found.
    pub(crate) fn read_only_at_ms(&self) -> Option<i64> {
        let member = self.member.as_ref()?;
        let looks = matches!(self.role, Role::Looking) && self.shared.bulletin.serving() == Serving::Nobody;
        let may = member.settings.read_only_mode && member.memberships.is_voter(member.settings.me);
        (looks && may).then(|| member.looking_since_ms + READ_ONLY_AFTER_MS.max(self.shared.settings.tick_time_ms))
    }

    pub(crate) fn begin_read_only(&mut self, now: Time) {
        self.shared.sessions().restart(false, std::iter::empty(), now.monotonic_ms);
        self.shared.bulletin.serve(Serving::ReadOnly);
        self.log(Level::Warn, "no leader was found; serving those who only read (readonlymode.enabled)".to_owned());
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
