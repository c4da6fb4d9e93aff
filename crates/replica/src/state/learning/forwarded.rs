//! A learner's side of serving clients: their writes and syncs go to the leader, and come back in its order.
//!
//! What always holds here: what was sent to the leader and is not answered stands in one queue, oldest first, over all sessions,
//! because the leader's answers carry no number: a transaction is the answer to the head of the queue if session and cxid are those
//! of the head, and somebody else's otherwise. A request enters the queue before it is sent. Reads behind a request of their
//! connection wait with it. What the leader is told of sessions is gathered in portions, between which everything else goes on.
//!
//! Counterpart in the original: `FollowerRequestProcessor`, `CommitProcessor`, `LearnerZooKeeperServer`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rookeeper_proto::connect::ConnectRequest;
use rookeeper_proto::frame::{self, ReplyHeader};
use rookeeper_proto::quorum::{ForwardedRequest, QuorumPacket, Touch};
use rookeeper_proto::{ErrorCode, Id, OpCode, SessionId, Zxid};

use crate::clients::connection::{Connection, Identities};
use crate::clients::read::ReadFrame;
use crate::replica::{Replica, Reply, Role};
use crate::time::Time;

/// Sessions looked at under one lock, and told of in one packet.
const SESSIONS_AT_ONCE: usize = 1000;

/// With this zxid a leader of this kind takes a packet for no answer to a ping; the original looks at the sessions only.
const NO_ANSWER: Zxid = Zxid::ZERO;

#[derive(Debug)]
enum Kind {
    /// Answered by the transaction with this session and cxid.
    Write { session: SessionId, cxid: i32 },
    /// Answered by SYNC.
    Sync(ReadFrame),
    /// Refused here, in its turn.
    Refused(ErrorCode),
}

/// Who waits for an answer, and the reads that wait behind it.
pub(crate) type Waiting = (Option<Reply>, Vec<ReadFrame>);

/// A request on its way.
#[derive(Debug)]
struct Entry {
    kind: Kind,
    /// None where the server asked for itself.
    reply: Option<Reply>,
    /// Reads of the same connection that came after it, and before its next request.
    reads: Vec<ReadFrame>,
}

/// Everything that waits for the leader.
#[derive(Debug, Default)]
pub(crate) struct Forwarded {
    entries: VecDeque<Entry>,
    /// The number of the first entry. Numbers go on for as long as the process lives.
    first: i64,
    /// Connections that want to resume a session, until the leader says whether it lives.
    resuming: BTreeMap<SessionId, Vec<(Arc<Connection>, ConnectRequest)>>,
    /// Sessions whose connection ended since the last ping, and that were heard of after it.
    departed: Vec<Touch>,
    look: Option<Look>,
    /// When the last look through the sessions began.
    last_look_ms: i64,
}

/// A look through all sessions for those that were heard of.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// When the look before it began: whoever was heard of since has not been told of, or not of that.
    since_ms: i64,
    behind: Option<SessionId>,
}

impl Forwarded {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes everything out that waits for an answer which will not come. Of those who want to resume a session nothing was asked that
    /// can't be asked again.
    pub fn abandon(&mut self) -> (Vec<Waiting>, Vec<(Arc<Connection>, ConnectRequest)>) {
        self.first += self.entries.len() as i64;
        let entries = self.entries.drain(..).map(|entry| (entry.reply, entry.reads)).collect();
        let resuming = std::mem::take(&mut self.resuming).into_values().flatten().collect();
        self.departed.clear();
        self.look = None;
        (entries, resuming)
    }

    /// A leader is served under. It has heard of no session yet, and what was heard of before, under another, is none of its business: it gives
    /// every session its full timeout.
    pub fn begin(&mut self, now_ms: i64) {
        self.departed.clear();
        self.look = None;
        self.last_look_ms = now_ms;
    }

    fn push(&mut self, entry: Entry) {
        if let Some(reply) = &entry.reply {
            let number = self.first + self.entries.len() as i64;
            reply.connection.set_last_write(Zxid(number));
        }
        self.entries.push_back(entry);
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front()?;
        self.first += 1;
        Some(entry)
    }

    /// Whoever waits for this transaction, if it is one of ours.
    pub fn take_answered(&mut self, session: SessionId, cxid: i32) -> Option<Waiting> {
        match self.entries.front()?.kind {
            Kind::Write { session: waits_for, cxid: with } if (waits_for, with) == (session, cxid) => {
                self.pop().map(|entry| (entry.reply, entry.reads))
            }
            _ => None,
        }
    }
}

impl Replica {
    /// Sends a request on. `reply` is none where the server asks for itself.
    pub(crate) fn forward(
        &mut self,
        session: SessionId,
        cxid: i32,
        op: OpCode,
        body: &[u8],
        identities: Option<Vec<Id>>,
        reply: Option<Reply>,
    ) {
        let Role::Learning(learner) = &mut self.role else { return };
        self.forwarded.push(Entry { kind: Kind::Write { session, cxid }, reply, reads: Vec::new() });
        let request = ForwardedRequest { session, cxid, op: op.number(), body, identities };
        learner.send(&QuorumPacket::Request(request));
    }

    /// A client's sync: it comes back behind everything the leader had proposed.
    pub(crate) fn forward_sync(&mut self, now: Time, connection: Arc<Connection>, read: ReadFrame) {
        let Role::Learning(learner) = &mut self.role else { return };
        let session = connection.session();
        let identities = Some(read.identities.to_vec());
        let request =
            ForwardedRequest { session, cxid: read.xid, op: OpCode::Sync.number(), body: &read.body, identities };
        learner.send(&QuorumPacket::Request(request));
        let reply =
            Reply { connection, xid: read.xid, op: OpCode::Sync, received_ms: now.monotonic_ms, handshake: None };
        self.forwarded.push(Entry { kind: Kind::Sync(read), reply: Some(reply), reads: Vec::new() });
    }

    /// Refuses a request in its turn, without asking the leader.
    pub(crate) fn refuse_in_turn(&mut self, now: Time, code: ErrorCode, reply: Reply) {
        self.forwarded.push(Entry { kind: Kind::Refused(code), reply: Some(reply), reads: Vec::new() });
        self.answer_refused(now);
    }

    /// A read that came behind a request of its connection. False where that has been answered.
    pub(crate) fn wait_with_forwarded(&mut self, connection: &Connection, read: ReadFrame) -> Option<ReadFrame> {
        let index = connection.last_write().0 - self.forwarded.first;
        let waiting = usize::try_from(index).ok().and_then(|index| self.forwarded.entries.get_mut(index));
        match waiting {
            Some(entry) if entry.reply.as_ref().is_some_and(|reply| *reply.connection == *connection) => {
                entry.reads.push(read);
                None
            }
            _ => Some(read),
        }
    }

    /// The oldest sync is answered.
    pub(crate) fn sync_done(&mut self, now: Time) {
        if !matches!(self.forwarded.entries.front(), Some(Entry { kind: Kind::Sync(_), .. })) {
            if let Role::Learning(learner) = &mut self.role {
                learner.leave("it answered a sync that was not the oldest request".to_owned());
            }
            return;
        }
        if let Some(Entry { kind: Kind::Sync(read), reply: Some(reply), reads }) = self.forwarded.pop() {
            let shared = self.shared.clone();
            let tree = shared.tree();
            self.answer_read(now, &tree, &reply.connection, &read);
            for read in &reads {
                self.answer_read(now, &tree, &reply.connection, read);
            }
        }
        self.answer_refused(now);
    }

    /// Answers what stands at the head of the queue and needs no leader.
    pub(crate) fn answer_refused(&mut self, now: Time) {
        while let Some(Entry { kind: Kind::Refused(_), .. }) = self.forwarded.entries.front() {
            let Some(Entry { kind: Kind::Refused(code), reply: Some(reply), reads }) = self.forwarded.pop() else {
                return;
            };
            let shared = self.shared.clone();
            let tree = shared.tree();
            shared.serve_deferred_to(&reply.connection);
            let header = ReplyHeader { xid: reply.xid, zxid: tree.last_zxid(), err: code.number() };
            reply.connection.outbox.append(|output| frame::append_reply::<()>(output, header, None));
            let latency_ms = (now.monotonic_ms - reply.received_ms).max(0);
            self.note_answer(now, &reply.connection, (reply.op, reply.xid), tree.last_zxid(), latency_ms);
            for read in &reads {
                self.answer_read(now, &tree, &reply.connection, read);
            }
        }
    }

    /// Asks the leader whether a session lives that a client wants to resume here.
    pub(crate) fn revalidate(&mut self, connection: Arc<Connection>, request: ConnectRequest, timeout_ms: i32) {
        let Role::Learning(learner) = &mut self.role else { return };
        let session = request.session;
        learner.send(&QuorumPacket::Revalidate { session, timeout_ms });
        self.forwarded.resuming.entry(session).or_default().push((connection, request));
    }

    pub(crate) fn revalidated(&mut self, now: Time, session: SessionId, valid: bool) {
        let Some(waiting) = self.forwarded.resuming.get_mut(&session) else { return };
        let (connection, request) = waiting.remove(0);
        if waiting.is_empty() {
            self.forwarded.resuming.remove(&session);
        }
        if valid {
            self.resume(now, connection, &request);
        } else {
            self.refuse_session(connection, &request);
        }
    }

    /// A connection ended: the leader is told with the next ping that its session was heard of since the last.
    pub(crate) fn note_departure(&mut self, connection: &Connection) {
        // A look that is under way may not have come to it.
        let since_ms = self.forwarded.look.map_or(self.forwarded.last_look_ms, |look| look.since_ms);
        if connection.is_established() && connection.last_heard_ms() >= since_ms {
            let (session, timeout_ms) = (connection.session(), connection.timeout_ms());
            self.forwarded.departed.push(Touch { session, timeout_ms });
        }
    }

    /// Answers a ping with sessions heard of since the last one. Where there are many, [`Replica::look_on`] tells of the others.
    pub(crate) fn pong(&mut self, now: Time, zxid: Zxid) {
        if self.forwarded.look.is_none() {
            let since_ms = std::mem::replace(&mut self.forwarded.last_look_ms, now.monotonic_ms);
            self.forwarded.look = Some(Look { since_ms, behind: None });
        }
        self.tell_of_sessions(now, Some(zxid));
    }

    /// Whether more sessions are to be told of.
    pub(crate) fn is_looking(&self) -> bool {
        self.forwarded.look.is_some()
    }

    /// Tells the leader of another portion of the sessions, if there is one.
    pub(crate) fn look_on(&mut self, now: Time) {
        if self.is_looking() {
            self.tell_of_sessions(now, None);
        }
    }

    /// Sends a portion of what there is to tell, with the answer to a ping where there is one to answer; and ends connections whose
    /// clients have left.
    fn tell_of_sessions(&mut self, now: Time, answer: Option<Zxid>) {
        let departed = &mut self.forwarded.departed;
        let mut touches = departed.split_off(departed.len().saturating_sub(SESSIONS_AT_ONCE));
        let mut abandoned = Vec::new();
        if let Some(Look { since_ms, behind }) = self.forwarded.look.take() {
            let sessions = self.shared.sessions();
            let (mut left, mut last) = (SESSIONS_AT_ONCE, behind);
            for (id, session) in sessions.behind(behind).take(SESSIONS_AT_ONCE) {
                (left, last) = (left - 1, Some(id));
                let Some(connection) = &session.connection else { continue };
                // Where it is this server that does not listen, silence says nothing.
                let heard = connection.last_heard_ms() >= since_ms || connection.is_held_back();
                if heard && !session.local {
                    touches.push(Touch { session: id, timeout_ms: connection.timeout_ms() });
                }
                if sessions.is_abandoned(session, now.monotonic_ms) {
                    abandoned.push(connection.clone());
                }
            }
            let more = left == 0 || !self.forwarded.departed.is_empty();
            self.forwarded.look = more.then_some(Look { since_ms, behind: last });
        }
        abandoned.sort_unstable_by_key(|connection| connection.id);
        for connection in abandoned {
            self.hang_up(&connection);
        }
        if let Role::Learning(learner) = &mut self.role
            && (answer.is_some() || !touches.is_empty())
        {
            learner.pong(answer.unwrap_or(NO_ANSWER), touches);
        }
    }

    /// A client's write at a learner.
    pub(crate) fn forward_write(&mut self, body: &[u8], identities: &Identities, reply: Reply) {
        let (session, cxid, op) = (reply.connection.session(), reply.xid, reply.op);
        self.forward(session, cxid, op, body, Some(identities.to_vec()), Some(reply));
    }
}
