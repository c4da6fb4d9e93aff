//! The handshake of a client: a new session, or an old one on a new connection.
//!
//! What always holds here: a client that has seen a later state than this server has is sent away; a session is resumed only by who
//! knows its password, and only after whoever decides about sessions said that it lives.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::connect::{ConnectRequest, ConnectResponse};
use rookeeper_proto::frame;
use rookeeper_proto::{OpCode, SessionId, Zxid};

use crate::audit::{Audited, Fate, Operation};
use crate::clients::connection::Connection;
use crate::contract::Output;
use crate::core::{Core, Handshake, Reply};
use crate::status::Serving;
use crate::time::Time;

/// What a client that came asks for.
#[derive(Debug)]
pub(crate) enum Wish {
    NewSession,
    /// An old session, whose password it knows.
    Resume {
        /// Whether the session is known here, and to no other server.
        is_local: bool,
    },
}

impl Core {
    /// Judges a handshake, for a server that serves. None where it is over: the client is sent away. `newest` is what a client may have seen
    /// where this server is not behind it.
    pub fn greet(&mut self, connection: &Arc<Connection>, request: &ConnectRequest, newest: Zxid) -> Option<Wish> {
        if request.last_zxid_seen > newest {
            // It must not go back in time: let it go elsewhere.
            self.hang_up(connection);
            return None;
        }
        let session = request.session;
        if session == SessionId::NONE {
            return Some(Wish::NewSession);
        }
        self.shared.statistics.sessions_presented.fetch_add(1, Relaxed);
        // The password first: whoever does not know it must not be able to cut the connection of someone else's session.
        if request.password != session.password() {
            self.audit_wrong_password(connection, session);
            self.refuse_session(connection, request);
            return None;
        }
        let is_local = self.shared.sessions().get(session).is_some_and(|known| known.local);
        Some(Wish::Resume { is_local })
    }

    fn audit_wrong_password(&mut self, connection: &Connection, session: SessionId) {
        if self.shared.settings.audits {
            let (client, identities) = (connection.peer.ip().to_canonical(), connection.identities());
            let operation = Operation::ResumeSession;
            self.audit(Some(&Arc::new(Audited { session, client, identities, operation })), Fate::Failed);
        }
    }

    /// The session timeout that a client gets, in milliseconds: what it asked for, within what the operator allows.
    pub fn negotiate(&self, request: &ConnectRequest) -> i32 {
        let settings = &self.shared.settings;
        request.timeout_ms.clamp(settings.min_session_timeout_ms, settings.max_session_timeout_ms)
    }

    fn response(&self, session: SessionId, request: &ConnectRequest) -> ConnectResponse {
        let read_only = self.serving() == Serving::ReadOnly;
        ConnectResponse {
            timeout_ms: self.negotiate(request),
            session,
            password: session.password(),
            read_only: request.read_only.map(|_| read_only),
        }
    }

    /// Makes a session that no other server hears of.
    pub fn open_local_session(&mut self, now: Time, connection: &Arc<Connection>, request: &ConnectRequest) {
        let session = self.shared.sessions().new_id();
        let response = self.response(session, request);
        self.shared.sessions().add_local(session, response.timeout_ms, connection.clone(), now.monotonic_ms);
        self.establish(now, connection, &response, false);
    }

    /// The id and the timeout of a session for all servers, which a transaction is to make, and who waits for that. With `attach` it
    /// appears here only with its transaction.
    pub fn new_session(
        &mut self,
        now: Time,
        connection: Arc<Connection>,
        request: &ConnectRequest,
        attach: bool,
    ) -> (SessionId, i32, Reply) {
        let session = self.shared.sessions().new_id();
        let response = self.response(session, request);
        let timeout_ms = response.timeout_ms;
        self.shared.submit(&connection);
        if !attach {
            self.shared.sessions().add(session, timeout_ms, Some(connection.clone()), now.monotonic_ms);
        }
        let handshake = Some(Box::new(Handshake { response, attach }));
        let op = OpCode::CreateSession;
        let (received_ms, arrived) = (now.monotonic_ms, now.stamp);
        let reply = Reply {
            connection,
            xid: 0,
            op,
            received_ms,
            arrived,
            taken: arrived,
            sampled: None,
            handshake,
            audited: None,
        };
        (session, timeout_ms, reply)
    }

    /// Hands a session to this connection, unless it is over.
    pub fn resume_unless_closing(&mut self, now: Time, connection: &Arc<Connection>, request: &ConnectRequest) {
        if self.shared.sessions().is_closing(request.session) {
            self.refuse_session(connection, request);
        } else {
            self.resume(now, connection, request);
        }
    }

    /// Hands a living session to this connection.
    pub fn resume(&mut self, now: Time, connection: &Arc<Connection>, request: &ConnectRequest) {
        let session = request.session;
        let response = self.response(session, request);
        let before = {
            let mut sessions = self.shared.sessions();
            if sessions.get(session).is_none() {
                // A learner may hear from the leader of a session before it has applied its creation.
                sessions.add(session, response.timeout_ms, None, now.monotonic_ms);
            }
            sessions.attach(session, connection.clone(), response.timeout_ms, now.monotonic_ms)
        };
        if let Some(before) = before.filter(|before| before != connection) {
            self.hang_up(&before);
        }
        self.establish(now, connection, &response, true);
    }

    /// Tells a client that its session has expired.
    pub fn refuse_session(&mut self, connection: &Arc<Connection>, request: &ConnectRequest) {
        let refusal = ConnectResponse::refused(request.read_only.map(|_| false));
        connection.outbox.append(|output| frame::append(output, |output| refusal.append(output)));
        connection.outbox.finish();
        self.to_wake.push(connection.clone());
    }

    /// Answers a handshake, for a session that was there before (`resumed`) or not; from here on requests are read.
    pub fn establish(&mut self, now: Time, connection: &Arc<Connection>, response: &ConnectResponse, resumed: bool) {
        connection.heard(now.monotonic_ms);
        connection.establish(response.session, response.timeout_ms);
        connection.outbox.append(|output| frame::append(output, |output| response.append(output)));
        self.to_wake.push(connection.clone());
        let (session, timeout_ms) = (response.session, response.timeout_ms);
        self.put(Output::SessionOpened { session, timeout_ms, connection: connection.clone(), resumed });
    }
}
