//! The handshake of a client: a new session, or an old one on a new connection.
//!
//! What always holds here: a client that has seen a later state than this server has is sent away; a session is resumed only by who
//! knows its password, and only after whoever decides about sessions said that it lives.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::connect::{ConnectRequest, ConnectResponse};
use rookeeper_proto::frame::{self, ReplyHeader};
use rookeeper_proto::{ErrorCode, OpCode, SessionId, Txn, Zxid};

use crate::clients::connection::Connection;
use crate::contract::Output;
use crate::replica::{Replica, Reply, Role};
use crate::status::Serving;
use crate::time::Time;

impl Replica {
    pub(crate) fn connect(&mut self, now: Time, connection: Arc<Connection>, request: ConnectRequest) {
        let serving = self.shared.bulletin.serving();
        let refused = match serving {
            Serving::Nobody => false,
            Serving::ReadOnly => request.read_only != Some(true),
            Serving::Deciding => self.member.as_ref().is_some_and(|member| !member.settings.leader_serves),
            Serving::Forwarding => false,
        };
        if !connection.outbox.is_open() {
            // The client did not wait, and may have been served elsewhere since: a session is not taken back for it.
            return;
        }
        if serving == Serving::Nobody {
            self.wait_for_leader(now, connection, request);
            return;
        }
        if refused || request.last_zxid_seen > self.visible_zxid() {
            // It must not go back in time: let it go elsewhere.
            self.hang_up(&connection);
            return;
        }
        let session = request.session;
        if session == SessionId::NONE {
            self.open_session(now, connection, &request);
            return;
        }
        self.shared.statistics.sessions_presented.fetch_add(1, Relaxed);
        // The password first: whoever does not know it must not be able to cut the connection of someone else's session.
        if request.password != session.password() {
            self.refuse_session(connection, &request);
            return;
        }
        let local = self.shared.sessions().get(session).map(|known| known.local);
        match serving {
            Serving::Forwarding if local != Some(true) => {
                // From here on the leader takes what this server sends for what the new connection asks.
                let before = self.shared.sessions().get(session).and_then(|known| known.connection.clone());
                if let Some(before) = before {
                    self.hang_up(&before);
                }
                let timeout_ms = self.negotiate(&request);
                self.revalidate(connection, request, timeout_ms);
            }
            // A session of the ensemble is not resumed by a server that can't keep it alive: its client tries the others.
            Serving::ReadOnly if self.shared.tree().session_timeout_ms(session).is_some() => self.hang_up(&connection),
            _ if self.shared.sessions().is_closing(session) => self.refuse_session(connection, &request),
            _ => self.resume(now, connection, &request),
        }
    }

    /// What a client may have seen if this server is not behind it. A leader's epoch begins with a zxid that is no transaction.
    fn visible_zxid(&self) -> Zxid {
        let epoch_start = self.member.as_ref().map_or(Zxid::ZERO, |member| Zxid::new(member.epochs.current, 0));
        let last_zxid = self.shared.tree().last_zxid();
        if self.shared.bulletin.serving() == Serving::ReadOnly { last_zxid } else { last_zxid.max(epoch_start) }
    }

    fn negotiate(&self, request: &ConnectRequest) -> i32 {
        let settings = &self.shared.settings;
        request.timeout_ms.clamp(settings.min_session_timeout_ms, settings.max_session_timeout_ms)
    }

    fn response(&self, session: SessionId, request: &ConnectRequest) -> ConnectResponse {
        let read_only = self.shared.bulletin.serving() == Serving::ReadOnly;
        ConnectResponse {
            timeout_ms: self.negotiate(request),
            session,
            password: session.password(),
            read_only: request.read_only.map(|_| read_only),
        }
    }

    fn open_session(&mut self, now: Time, connection: Arc<Connection>, request: &ConnectRequest) {
        if self.shared.bulletin.serving() == Serving::ReadOnly && !self.local_sessions() {
            self.refuse_global_session(&connection);
            return;
        }
        let session = self.shared.sessions().new_id();
        let response = self.response(session, request);
        let timeout_ms = response.timeout_ms;
        if self.local_sessions() {
            self.shared.sessions().add_local(session, timeout_ms, connection.clone(), now.monotonic_ms);
            self.establish(now, &connection, &response);
            return;
        }
        let op = OpCode::CreateSession;
        let reply = Reply { connection, xid: 0, op, received_ms: now.monotonic_ms, handshake: Some(response) };
        self.shared.submit(&reply.connection);
        match &self.role {
            Role::Leading(_) => {
                let mut sessions = self.shared.sessions();
                sessions.add(session, timeout_ms, Some(reply.connection.clone()), now.monotonic_ms);
                drop(sessions);
                self.propose(now, session, 0, Txn::CreateSession { timeout_ms }, Some(reply));
            }
            _ => self.forward(session, 0, op, &timeout_ms.to_be_bytes(), None, Some(reply)),
        }
    }

    /// A session of the ensemble begins with a transaction, and nobody can make one now. The original answers so, and not as it answers a
    /// handshake; its clients take that for a broken connection and try the next server.
    fn refuse_global_session(&mut self, connection: &Arc<Connection>) {
        let header = ReplyHeader { xid: 0, zxid: self.shared.tree().last_zxid(), err: ErrorCode::NotReadOnly as i32 };
        connection.outbox.append(|output| frame::append_reply::<()>(output, header, None));
        connection.outbox.finish();
        self.to_wake.push(connection.clone());
    }

    /// Hands a living session to this connection.
    pub(crate) fn resume(&mut self, now: Time, connection: Arc<Connection>, request: &ConnectRequest) {
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
        if let Some(before) = before.filter(|before| *before != connection) {
            self.hang_up(&before);
        }
        self.establish(now, &connection, &response);
    }

    /// Tells a client that its session has expired.
    pub(crate) fn refuse_session(&mut self, connection: Arc<Connection>, request: &ConnectRequest) {
        let refusal = ConnectResponse::refused(request.read_only.map(|_| false));
        connection.outbox.append(|output| frame::append(output, |output| refusal.append(output)));
        connection.outbox.finish();
        self.to_wake.push(connection);
    }

    /// Answers a handshake; from here on requests are read.
    pub(crate) fn establish(&mut self, now: Time, connection: &Arc<Connection>, response: &ConnectResponse) {
        connection.heard(now.monotonic_ms);
        connection.establish(response.session, response.timeout_ms);
        connection.outbox.append(|output| frame::append(output, |output| response.append(output)));
        self.to_wake.push(connection.clone());
        let (session, timeout_ms) = (response.session, response.timeout_ms);
        self.outputs.push_back(Output::SessionOpened { session, timeout_ms, connection: connection.clone() });
    }

    /// Closes a connection without a word. Nothing more is taken from it, whatever of it still waits here.
    pub(crate) fn hang_up(&mut self, connection: &Arc<Connection>) {
        connection.cut();
        connection.outbox.close();
        self.to_wake.push(connection.clone());
    }
}
