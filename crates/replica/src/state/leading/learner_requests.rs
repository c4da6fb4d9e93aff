//! What learners ask their leader for: changes, syncs, and whether a session lives.
//!
//! What always holds here: requests of one learner enter the order of writes as they come, each as exactly one transaction with its
//! session and cxid; only through its owner does a session change anything, and who that is changes in the same order.
//!
//! Counterpart in the original: `LearnerHandler`.

use std::sync::Arc;

use rookeeper_proto::request::WriteRequest;
use rookeeper_proto::{ErrorCode, Id, OpCode, SessionId, Txn};
use rookeeper_zab::LinkId;

use crate::clients::connection::Connection;
use crate::clients::read::ReadFrame;
use crate::clients::session::Owner;
use crate::core::Core;
use crate::member::Member;
use crate::state::leading::Leading;
use crate::state::syncs::{Asked, Asker, Held};
use crate::time::Time;

/// A learner's request.
#[derive(Debug)]
pub(crate) struct Request {
    pub link: LinkId,
    pub session: SessionId,
    pub cxid: i32,
    pub op: i32,
    pub body: Vec<u8>,
    pub identities: Option<Vec<Id>>,
}

impl Leading {
    /// A learner's request for a change.
    pub(super) fn take_request(&mut self, core: &mut Core, member: &mut Member, now: Time, request: Request) {
        if let Some(queue) = self.syncs.queue_of(request.link) {
            queue.push_back(Held::Request(request));
            return;
        }
        let Request { link, session, cxid, op, body, identities } = request;
        let identities = identities.unwrap_or_default();
        let txn = match OpCode::from_i32(op) {
            Some(OpCode::CreateSession) => match body.first_chunk::<4>() {
                Some(timeout_ms) => {
                    let timeout_ms = i32::from_be_bytes(*timeout_ms);
                    adopt_session(core, now, session, timeout_ms, link);
                    Txn::CreateSession { timeout_ms }
                }
                None => error(ErrorCode::MarshallingError),
            },
            Some(op) if op.is_write() => match WriteRequest::decode(op, &body) {
                Ok(request) => match self.check_learner_session(core, session, link, &request) {
                    Ok(()) => self.prepare_write(core, member, now, session, &identities, request),
                    Err(code) => error(code),
                },
                Err(_) => error(ErrorCode::MarshallingError),
            },
            _ => error(ErrorCode::Unimplemented),
        };
        self.propose(core, member, now, (session, cxid), txn, None);
    }

    /// Whether a session may change anything, through this learner.
    fn check_learner_session(
        &self,
        core: &Core,
        session: SessionId,
        link: LinkId,
        request: &WriteRequest,
    ) -> Result<(), ErrorCode> {
        let mut sessions = core.shared.sessions();
        // With local sessions one that is not known here may be one of the learner's own.
        let is_foreign = core.rules.local_sessions && sessions.get(session).is_none() && !self.ended.contains(session);
        if is_foreign { Ok(()) } else { sessions.check(session, Owner::Learner(link), request) }
    }

    /// A learner's client wants to resume a session, which is a sign of life of that session.
    pub(super) fn take_revalidation(
        &mut self,
        core: &mut Core,
        now: Time,
        link: LinkId,
        session: SessionId,
        timeout_ms: i32,
    ) {
        {
            let mut sessions = core.shared.sessions();
            if sessions.is_resumable(session) {
                sessions.touch(session, timeout_ms, now.monotonic_ms);
            }
        }
        self.revalidate(core, now, link, session, timeout_ms);
    }

    /// Says whether a session lives, once it is this question's turn: what came before it was asked by those who had the session until now.
    /// A question that must wait again is no new sign of life.
    fn revalidate(&mut self, core: &mut Core, now: Time, link: LinkId, session: SessionId, timeout_ms: i32) {
        if let Some(queue) = self.syncs.queue_of(link) {
            queue.push_back(Held::Revalidate { link, session, timeout_ms });
            return;
        }
        let (valid, before) = {
            let mut sessions = core.shared.sessions();
            let valid = sessions.is_resumable(session);
            let before = valid.then(|| {
                // The answer gives the client its full timeout.
                sessions.touch(session, timeout_ms, now.monotonic_ms);
                sessions.move_to(session, link)
            });
            (valid, before.flatten())
        };
        if let Some(before) = before {
            core.hang_up(&before);
        }
        self.proposer.leader.revalidated(link, session, valid);
    }

    /// A learner asks for a sync.
    pub(super) fn take_sync(&mut self, now: Time, link: LinkId) {
        if let Some(queue) = self.syncs.queue_of(link).filter(|queue| !queue.is_empty()) {
            queue.push_back(Held::Sync(link));
            return;
        }
        self.await_sync(now, Asked::Learner(link));
    }

    /// A client of this server asks for a sync.
    pub(super) fn take_client_sync(&mut self, now: Time, connection: Arc<Connection>, read: ReadFrame) {
        self.await_sync(now, Asked::Client(connection, read));
    }

    fn await_sync(&mut self, now: Time, asked: Asked) {
        let leader = &mut self.proposer.leader;
        let (after, ticket) = (leader.proposed(), leader.confirm(now.monotonic_ms));
        self.syncs.push(after, ticket, asked);
    }

    /// Answers the syncs whose time has come, oldest first.
    pub(super) fn answer_syncs(&mut self, core: &mut Core, member: &mut Member, now: Time) {
        while let Some(asked) = self.syncs.pop_due(core.history.committed()) {
            let asker = match asked {
                Asked::Learner(link) => {
                    self.proposer.leader.answer_sync(link);
                    Asker::Learner(link)
                }
                Asked::Client(connection, read) => {
                    core.answer_read_now(now, &connection, &read);
                    Asker::Client(connection.id.0)
                }
            };
            for held in self.syncs.release(asker) {
                match held {
                    Held::Request(request) => self.take_request(core, member, now, request),
                    Held::Revalidate { link, session, timeout_ms } => {
                        self.revalidate(core, now, link, session, timeout_ms);
                    }
                    Held::Sync(link) => self.take_sync(now, link),
                    Held::Client(input) => self.take_client_input(core, member, now, input),
                }
            }
        }
    }
}

fn error(code: ErrorCode) -> Txn {
    Txn::Error { code: code.number() }
}

/// A learner has made a session.
fn adopt_session(core: &mut Core, now: Time, session: SessionId, timeout_ms: i32, link: LinkId) {
    let before = {
        let mut sessions = core.shared.sessions();
        if sessions.get(session).is_none() {
            sessions.add(session, timeout_ms, None, now.monotonic_ms);
        }
        sessions.move_to(session, link)
    };
    if let Some(before) = before {
        core.hang_up(&before);
    }
}
