//! A leader's side: what its learners ask for, and syncs.
//!
//! What always holds here: requests of one learner enter the order of writes as they come, each as exactly one transaction with its
//! session and cxid; only through its owner does a session change anything, and who that is changes in the same order; a sync is answered when everything proposed before it is applied and a quorum has confirmed, after it was
//! asked for, that this server still leads. Until then nothing that came after it from the same learner or client goes on, because
//! answers have no number and are told by their order.
//!
//! Counterpart in the original: `LearnerHandler`, `Leader.processSync`; a sync there is answered without asking a quorum.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rookeeper_proto::request::WriteRequest;
use rookeeper_proto::{ErrorCode, Id, OpCode, SessionId, Txn, Zxid};
use rookeeper_zab::LinkId;

use crate::clients::connection::Connection;
use crate::clients::read::ReadFrame;
use crate::clients::session::Owner;
use crate::contract::Input;
use crate::replica::{Replica, Role};
use crate::time::Time;

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Asker {
    Learner(LinkId),
    Client(u64),
}

#[derive(Debug)]
struct Sync {
    /// Answered once this is applied,
    after: Zxid,
    /// and this is confirmed.
    ticket: u64,
    asker: Asker,
    /// Of a client of this server.
    client: Option<(Arc<Connection>, ReadFrame)>,
}

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

#[derive(Debug)]
enum Held {
    Request(Request),
    Revalidate { session: SessionId, timeout_ms: i32 },
    Sync,
    Input(Input),
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
    /// Gives back the clients whose syncs and requests will not be answered.
    pub fn abandon(&mut self) -> Vec<Arc<Connection>> {
        let clients = self.waiting.drain(..).filter_map(|sync| sync.client.map(|(connection, _)| connection));
        let mut clients: Vec<_> = clients.collect();
        for hold in std::mem::take(&mut self.holds).into_values() {
            clients.extend(hold.queue.into_iter().filter_map(|held| match held {
                Held::Input(Input::Write { connection, .. } | Input::Read { connection, .. }) => Some(connection),
                _ => None,
            }));
        }
        self.confirmed = 0;
        clients
    }

    /// Whether a client's input must wait; if so it is kept.
    pub fn hold(&mut self, input: Input) -> Option<Input> {
        if self.holds.is_empty() {
            return Some(input);
        }
        let (Input::Write { connection, .. } | Input::Read { connection, .. }) = &input else { return Some(input) };
        match self.holds.get_mut(&Asker::Client(connection.id.0)) {
            Some(hold) if !is_sync(&input) || !hold.queue.is_empty() => {
                hold.queue.push_back(Held::Input(input));
                None
            }
            _ => Some(input),
        }
    }
}

fn is_sync(input: &Input) -> bool {
    matches!(input, Input::Read { read: ReadFrame { op: OpCode::Sync, .. }, .. })
}

impl Replica {
    /// A learner's request for a change.
    pub(crate) fn take_request(&mut self, now: Time, request: Request) {
        if let Some(hold) = self.syncs.holds.get_mut(&Asker::Learner(request.link)) {
            hold.queue.push_back(Held::Request(request));
            return;
        }
        let Request { link, session, cxid, op, body, identities } = request;
        let identities = identities.unwrap_or_default();
        let owner = Owner::Learner(link);
        let txn = match OpCode::from_i32(op) {
            Some(OpCode::CreateSession) => match body.first_chunk::<4>() {
                Some(timeout_ms) => {
                    let timeout_ms = i32::from_be_bytes(*timeout_ms);
                    self.adopt_session(now, session, timeout_ms, link);
                    Txn::CreateSession { timeout_ms }
                }
                None => Txn::Error { code: ErrorCode::MarshallingError.number() },
            },
            Some(op) if op.is_write() => match WriteRequest::decode(op, &body) {
                Ok(request) => match self.check_session(session, owner, &request) {
                    Ok(()) => self.prepare_write(now, session, &identities, request),
                    Err(code) => Txn::Error { code: code.number() },
                },
                Err(_) => Txn::Error { code: ErrorCode::MarshallingError.number() },
            },
            _ => Txn::Error { code: ErrorCode::Unimplemented.number() },
        };
        self.propose(now, session, cxid, txn, None);
    }

    /// A learner has made a session.
    fn adopt_session(&mut self, now: Time, session: SessionId, timeout_ms: i32, link: LinkId) {
        let before = {
            let mut sessions = self.shared.sessions();
            if sessions.get(session).is_none() {
                sessions.add(session, timeout_ms, None, now.monotonic_ms);
            }
            sessions.move_to(session, link)
        };
        if let Some(before) = before {
            self.hang_up(&before);
        }
    }

    /// Whether a session may change anything, through this owner.
    pub(crate) fn check_session(
        &mut self,
        session: SessionId,
        owner: Owner,
        request: &WriteRequest,
    ) -> Result<(), ErrorCode> {
        let mut sessions = self.shared.sessions();
        let Some(known) = sessions.get(session) else {
            // With local sessions it may be one of the learner's own.
            let foreign = matches!(owner, Owner::Learner(_)) && self.local_sessions() && !self.ended.contains(session);
            return if foreign { Ok(()) } else { Err(ErrorCode::SessionExpired) };
        };
        if known.closing {
            return Err(ErrorCode::SessionExpired);
        }
        // Stricter than the original, where a session may be closed from anywhere: a client that moves on has not meant that.
        if known.has_left(owner) {
            return Err(ErrorCode::SessionMoved);
        }
        if known.owner.is_none() {
            sessions.claim(session, owner);
        }
        if *request == WriteRequest::CloseSession {
            sessions.close(session);
        }
        Ok(())
    }

    /// A learner's client wants to resume a session.
    pub(crate) fn revalidate_for(&mut self, now: Time, link: LinkId, session: SessionId, timeout_ms: i32) {
        if let Some(hold) = self.syncs.holds.get_mut(&Asker::Learner(link)) {
            // In its turn: what came before it was asked by those who had the session until now. It is a sign of life now.
            self.shared.sessions().touch(session, timeout_ms, now.monotonic_ms);
            hold.queue.push_back(Held::Revalidate { session, timeout_ms });
            return;
        }
        let (valid, before) = {
            let mut sessions = self.shared.sessions();
            match sessions.get(session).is_some_and(|session| !session.closing && !session.local) {
                true => {
                    sessions.touch(session, timeout_ms, now.monotonic_ms);
                    (true, sessions.move_to(session, link))
                }
                false => (false, None),
            }
        };
        if let Some(before) = before {
            self.hang_up(&before);
        }
        if let Role::Leading(leader) = &mut self.role {
            leader.revalidated(link, session, valid);
        }
    }

    /// A learner asks for a sync.
    pub(crate) fn take_sync(&mut self, now: Time, link: LinkId) {
        let asker = Asker::Learner(link);
        if let Some(hold) = self.syncs.holds.get_mut(&asker).filter(|hold| !hold.queue.is_empty()) {
            hold.queue.push_back(Held::Sync);
            return;
        }
        self.await_sync(now, asker, None);
    }

    /// A client of this server asks for a sync.
    pub(crate) fn take_client_sync(&mut self, now: Time, connection: Arc<Connection>, read: ReadFrame) {
        self.await_sync(now, Asker::Client(connection.id.0), Some((connection, read)));
    }

    fn await_sync(&mut self, now: Time, asker: Asker, client: Option<(Arc<Connection>, ReadFrame)>) {
        let Role::Leading(leader) = &mut self.role else { return };
        let (after, ticket) = (leader.proposed(), leader.confirm(now.monotonic_ms));
        self.syncs.holds.entry(asker).or_default().syncs += 1;
        self.syncs.waiting.push_back(Sync { after, ticket, asker, client });
    }

    pub(crate) fn confirmed(&mut self, now: Time, ticket: u64) {
        self.syncs.confirmed = self.syncs.confirmed.max(ticket);
        self.answer_syncs(now);
    }

    /// Answers the syncs whose time has come, oldest first.
    pub(crate) fn answer_syncs(&mut self, now: Time) {
        loop {
            let (committed, confirmed) = (self.history.committed(), self.syncs.confirmed);
            let due =
                |sync: &mut Sync| sync.ticket <= confirmed && (sync.after <= committed || sync.after.counter() == 0);
            let Some(sync) = self.syncs.waiting.pop_front_if(due) else { return };
            match (sync.asker, sync.client) {
                (Asker::Learner(link), _) => {
                    if let Role::Leading(leader) = &mut self.role {
                        leader.answer_sync(link);
                    }
                }
                (Asker::Client(_), Some((connection, read))) => {
                    let shared = self.shared.clone();
                    self.answer_read(now, &shared.tree(), &connection, &read);
                }
                (Asker::Client(_), None) => {}
            }
            let Some(hold) = self.syncs.holds.get_mut(&sync.asker) else { continue };
            hold.syncs -= 1;
            if hold.syncs > 0 {
                continue;
            }
            // What came behind it goes on, up to the next sync, behind which the rest waits again.
            let queue = self.syncs.holds.remove(&sync.asker).map(|hold| hold.queue).unwrap_or_default();
            for held in queue {
                match (held, sync.asker) {
                    (Held::Request(request), _) => self.take_request(now, request),
                    (Held::Revalidate { session, timeout_ms }, Asker::Learner(link)) => {
                        self.revalidate_for(now, link, session, timeout_ms);
                    }
                    (Held::Sync, Asker::Learner(link)) => self.take_sync(now, link),
                    (Held::Revalidate { .. } | Held::Sync, Asker::Client(_)) => {
                        unreachable!("only learners ask for these in packets of their own")
                    }
                    (Held::Input(input), _) => {
                        if let Some(input) = self.syncs.hold(input) {
                            self.take_client_input(now, input);
                        }
                    }
                }
            }
        }
    }

    /// A learner is gone: nothing of it waits any more.
    pub(crate) fn forget_learner(&mut self, link: LinkId) {
        let asker = Asker::Learner(link);
        self.syncs.holds.remove(&asker);
        self.syncs.waiting.retain(|sync| sync.asker != asker);
    }
}
