//! A learner's side of serving clients: their writes and syncs go to the leader, and come back in its order.
//!
//! What always holds here: what was sent to the leader and is not answered stands in one queue, oldest first, over all sessions,
//! because the leader's answers carry no number: a transaction is the answer to the head of the queue if session and cxid are those
//! of the head, and somebody else's otherwise. A request enters the queue before it is sent. Reads behind a request of their
//! connection wait with it.
//!
//! Counterpart in the original: `FollowerRequestProcessor`, `CommitProcessor`, `LearnerZooKeeperServer`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rookeeper_proto::connect::ConnectRequest;
use rookeeper_proto::frame::{self, ReplyHeader};
use rookeeper_proto::quorum::{ForwardedRequest, QuorumPacket, Touch};
use rookeeper_proto::{ErrorCode, Id, OpCode, SessionId, Zxid};

use crate::connection::{Connection, Identities};
use crate::read::ReadFrame;
use crate::replica::{Replica, Reply, Role};
use crate::time::Time;

/// The original reads no packet that is longer than its `jute.maxbuffer` and as much again; this is below the half of that.
const TOUCHES_PER_PACKET: usize = 50_000;

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
    last_ping_ms: i64,
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
        (entries, resuming)
    }

    /// A leader is served under. It has heard of no session yet, and what was heard of before, under another, is none of its business: it gives
    /// every session its full timeout.
    pub fn begin(&mut self, now_ms: i64) {
        self.departed.clear();
        self.last_ping_ms = now_ms;
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
        if connection.is_established() && connection.last_heard_ms() >= self.forwarded.last_ping_ms {
            let (session, timeout_ms) = (connection.session(), connection.timeout_ms());
            self.forwarded.departed.push(Touch { session, timeout_ms });
        }
    }

    /// Answers a ping with the sessions heard of since the last one.
    pub(crate) fn pong(&mut self, now: Time, zxid: Zxid) {
        let since_ms = std::mem::replace(&mut self.forwarded.last_ping_ms, now.monotonic_ms);
        let mut touches = std::mem::take(&mut self.forwarded.departed);
        let sessions = self.shared.sessions();
        let mut connected: Vec<Touch> = sessions
            .iter()
            .filter(|(_, session)| !session.local)
            .filter_map(|(id, session)| {
                let connection = session.connection.as_ref()?;
                // Where it is this server that does not listen, silence says nothing.
                let heard = connection.last_heard_ms() >= since_ms || connection.is_held_back();
                heard.then_some(Touch { session: id, timeout_ms: connection.timeout_ms() })
            })
            .collect();
        let mut abandoned = sessions.abandoned(now.monotonic_ms);
        drop(sessions);
        abandoned.sort_unstable_by_key(|connection| connection.id);
        for connection in abandoned {
            self.hang_up(&connection);
        }
        touches.append(&mut connected);
        if let Role::Learning(learner) = &mut self.role {
            for part in in_packets(touches, TOUCHES_PER_PACKET) {
                learner.pong(zxid, part);
            }
        }
    }

    /// A client's write at a learner.
    pub(crate) fn forward_write(&mut self, body: &[u8], identities: &Identities, reply: Reply) {
        let (session, cxid, op) = (reply.connection.session(), reply.xid, reply.op);
        self.forward(session, cxid, op, body, Some(identities.to_vec()), Some(reply));
    }
}

/// Splits what a ping is answered with; where there is nothing to tell, the answer is empty.
fn in_packets(mut touches: Vec<Touch>, limit: usize) -> Vec<Vec<Touch>> {
    let mut rest = touches.split_off(touches.len().min(limit));
    let mut packets = vec![touches];
    while !rest.is_empty() {
        let later = rest.split_off(rest.len().min(limit));
        packets.push(std::mem::replace(&mut rest, later));
    }
    packets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_of_many_sessions_is_answered_in_packets_that_the_original_reads() {
        let touches = |ids: std::ops::Range<i64>| -> Vec<Touch> {
            ids.map(|id| Touch { session: SessionId(id), timeout_ms: 4000 }).collect()
        };
        assert_eq!(in_packets(touches(0..0), 3), [touches(0..0)]);
        assert_eq!(in_packets(touches(0..3), 3), [touches(0..3)]);
        assert_eq!(in_packets(touches(0..7), 3), [touches(0..3), touches(3..6), touches(6..7)]);
        let mut packet = Vec::new();
        QuorumPacket::Ping { zxid: Zxid(1), touches: Some(touches(0..TOUCHES_PER_PACKET as i64)) }.append(&mut packet);
        assert!(packet.len() <= frame::DEFAULT_MAX_BUFFER_BYTES, "{}", packet.len());
    }
}
