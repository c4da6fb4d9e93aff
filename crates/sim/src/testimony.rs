//! Evidence for the checkers of sessions: requests of clients, signs of life that servers hear, proposals of leaders.
//!
//! What always holds here: a server's word about itself is not believed; every arrival and its time are seen from outside.

use std::collections::BTreeSet;

use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_proto::request::WriteRequest;
use rookeeper_proto::{ErrorCode, OpCode, SessionId, Txn, TxnRecord};
use rookeeper_replica::Serving;
use rookeeper_zab::link::MAX_PACKET_BYTES;
use rookeeper_zab::{LinkId, Record};

use crate::checkers::Verdict;
use crate::checkers::expiry::Expiry;
use crate::checkers::requests::Request;
use crate::world::{MS, World};

impl World {
    pub(crate) fn now_ms(&self) -> i64 {
        self.now_us / MS
    }

    /// A client asks for a change.
    pub(crate) fn note_request(
        &mut self,
        session: SessionId,
        xid: i32,
        (op, body): (OpCode, &[u8]),
        line: u64,
        client: usize,
    ) {
        if let Ok(write) = WriteRequest::decode(op, body) {
            let user = self.plan.habits.user_of(client);
            self.chronicle.requests.asked(session.0, xid, Request { write, user, line });
        }
    }

    /// The leader gives a transaction its place in the order.
    pub(crate) fn note_proposal(&mut self, server: usize, proposal: &Record) {
        let Some(process) = &self.servers[server].process else { return };
        // A leader may step down in the same step as its last proposal, so its role before that step counts as well.
        if ![process.serving, process.shared.status_board.serving()].contains(&Serving::Deciding) {
            return;
        }
        let applied = (process.applied, process.shared.tree().last_zxid());
        let shortage = (process.short_before, process.short_now);
        let Ok(record) = TxnRecord::decode(proposal.body()) else { return };
        let session = record.header.session;
        if matches!(record.txn, Txn::CloseSession { .. }) {
            self.expiry.ends(server, session);
        }
        let request = self.chronicle.requests.get(session.0, record.header.cxid);
        let meant = self.chronicle.requests.as_meant(&record);
        self.chronicle.moves.proposed(&meant, request);
        self.chronicle.refusals.proposed(record.header.zxid, applied, shortage);
        if shortage.0.disk && shortage.1.disk {
            match &record.txn {
                Txn::Error { code } if *code == ErrorCode::QuotaExceeded.number() => {
                    self.figures.note("writes refused for the lack of room");
                }
                Txn::Delete { .. } => self.figures.note("deletes where room is short"),
                Txn::CreateSession { .. } => self.figures.note("sessions begun where room is short"),
                _ => {}
            }
        }
    }

    /// A leader takes in a learner's packet. A packet that waited until the link was dropped, or while it was, may never be looked at.
    pub(crate) fn note_heard(&mut self, server: usize, link: LinkId, packets: &[u8]) {
        let now_ms = self.now_ms();
        let note = if self.end_of(server, link).is_some() { Expiry::told } else { Expiry::excuses };
        let mut rest = packets;
        while let Ok(Some((packet, length))) = QuorumPacket::split(rest, MAX_PACKET_BYTES) {
            rest = &rest[length..];
            match packet {
                QuorumPacket::Ping { touches: Some(touches), .. } => {
                    touches.iter().for_each(|touch| note(&mut self.expiry, server, now_ms, touch.session));
                }
                // No other server can tell anything of a session that only this server knows.
                QuorumPacket::Revalidate { session, .. } if !self.is_local_at(server, session) => {
                    note(&mut self.expiry, server, now_ms, session);
                }
                QuorumPacket::Request(request) if request.op == OpCode::CreateSession.number() => {
                    note(&mut self.expiry, server, now_ms, request.session);
                }
                // A sign of life, unless the session has left this learner.
                QuorumPacket::Request(request) => self.expiry.excuses(server, now_ms, request.session),
                _ => {}
            }
        }
    }

    fn is_local_at(&self, server: usize, session: SessionId) -> bool {
        let Some(process) = &self.servers[server].process else { return false };
        process.shared.sessions().get(session).is_some_and(|session| session.local)
    }

    /// A session may have its full timeout from when its beginning is committed, however long that took.
    pub(crate) fn note_applied(&mut self, server: usize, body: &[u8]) {
        let Ok(record) = TxnRecord::decode(body) else { return };
        if matches!(record.txn, Txn::CreateSession { .. }) {
            let now_ms = self.now_ms();
            self.expiry.excuses(server, now_ms, record.header.session);
        }
    }

    /// A leader tells a learner that a session lives: its client begins with the full timeout.
    pub(crate) fn note_answer_to_learner(&mut self, server: usize, packet: &QuorumPacket<'_>) {
        if let QuorumPacket::Revalidated { session, valid: true } = packet {
            let now_ms = self.now_ms();
            self.expiry.told(server, now_ms, *session);
        }
    }

    /// A learner answers a ping.
    pub(crate) fn judge_touches(&mut self, server: usize, touched: &BTreeSet<SessionId>) -> Verdict {
        let now_ms = self.now_ms();
        let Some(process) = self.servers[server].process.as_ref() else { return Ok(()) };
        if process.serving != Serving::Forwarding {
            return Ok(());
        }
        let (tree, sessions) = (process.shared.tree(), process.shared.sessions());
        let is_excused = |session| {
            let connection = sessions.get(session).and_then(|session| session.connection.as_ref());
            connection.is_some_and(|connection| connection.is_held_back()) || process.not_read.contains(&session)
        };
        let is_alive = |session| tree.session_timeout_ms(session).is_some();
        self.expiry.touches(server, now_ms, touched, is_alive, is_excused)
    }

    /// A leader lets a session expire.
    pub(crate) fn judge_expiry(&mut self, server: usize, session: SessionId) {
        if self.chronicle.model.knows_session(session) {
            let now_ms = self.now_ms();
            let verdict = self.expiry.expires(server, now_ms, session);
            self.judge(verdict);
        }
    }

    /// A server has looked at the time: each overdue session must be about to end.
    pub(crate) fn judge_overdue(&mut self, server: usize) {
        let now_ms = self.now_ms();
        let Some(process) = self.servers[server].process.as_ref() else { return };
        // Nothing expires while another tree is to take this one's place.
        if process.serving != Serving::Deciding || process.replica.holds_requests() {
            return;
        }
        let (tree, sessions) = (process.shared.tree(), process.shared.sessions());
        let mut alive = Vec::new();
        for session in self.chronicle.model.sessions_alive() {
            let connection = sessions.get(session).and_then(|session| session.connection.as_ref());
            if connection.is_some_and(|connection| connection.is_held_back()) {
                self.expiry.excuses(server, now_ms, session);
            } else if tree.session_timeout_ms(session).is_some() {
                alive.push(session);
            }
        }
        let verdict = self.expiry.looked(server, now_ms, alive.into_iter());
        drop((tree, sessions));
        self.judge(verdict);
    }
}
