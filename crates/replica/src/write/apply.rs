//! From a committed transaction to what clients see of it.
//!
//! Transactions are applied in batches under one lock of the tree. For each, in this order: the tree changes, events go out, the
//! answer goes out, reads that stood behind it are answered. So an event precedes the answer to the request that caused it, and both
//! are in their outboxes before anybody can read the new state. Of a session with very many nodes some go at a time, each with its
//! events, and readers come in between.

use std::sync::atomic::Ordering::Relaxed;

use parking_lot::RwLockWriteGuard;
use rookeeper_proto::event::EventType;
use rookeeper_proto::frame::{self, ReplyHeader};
use rookeeper_proto::jute::{self, Buffer, Text};
use rookeeper_proto::multi::MultiHeader;
use rookeeper_proto::response::{Create2Response, ErrorResponse, GetDataResponse, PathResponse};
use rookeeper_proto::{ErrorCode, OpCode, SessionId, Txn, TxnHeader, WallMs, Zxid};
use rookeeper_tree::{Change, Outcome, Tree};
use rookeeper_zab::Membership;

use crate::clients::locks::Held;
use crate::contract::{Output, SlowOperation};
use crate::core::{Core, Handshake, InFlight, Reply, Waiting};
use crate::digest_log::DigestLog;
use crate::time::{Stamp, Time};

/// Transactions applied under one lock: readers wait no longer than these take.
const BATCH: usize = 128;

/// And so many changes, about: the end of a session may make any number.
const CHANGES_AT_ONCE: usize = 2000;

/// Nodes of a session that ends that go at once, each of which makes two changes.
const NODES_AT_ONCE: usize = CHANGES_AT_ONCE / 2;

/// What a role has to do with transactions that are applied.
pub(crate) trait Committer {
    /// The client of this server whose request this transaction answers, where the request was sent to another server and comes back.
    fn take_answered(&mut self, _: &TxnHeader) -> Option<Waiting> {
        None
    }

    /// A transaction is in the tree. Where this server decides, forgets `limit` of the nodes that it touched at most, and returns how many that
    /// were.
    fn applied(&mut self, _zxid: Zxid, _limit: usize) -> usize {
        0
    }

    /// Where there are local sessions too: one that all servers knew has ended.
    fn session_closed(&mut self, _: SessionId) {}
}

impl Core {
    /// Everything up to `committed` is history: applies it. Returns the membership that the last reconfiguration among it made, if there
    /// was one: it is to be put into force.
    pub fn commit(&mut self, now: Time, committed: Zxid, role: &mut impl Committer) -> Option<Membership> {
        self.history.commit(committed);
        let shared = self.shared.clone();
        let mut reconfigured = None;
        let mut changes = Vec::new();
        while self.in_flight.front().is_some_and(|next| next.header.zxid <= committed) {
            let mut tree = shared.tree_mut();
            let mut left = CHANGES_AT_ONCE;
            for _ in 0..BATCH {
                let Some(mut next) = self.in_flight.pop_front_if(|next| left > 0 && next.header.zxid <= committed)
                else {
                    break;
                };
                changes.clear();
                self.close_in_portions(&mut tree, &mut next, &mut changes);
                let zxid = next.header.zxid;
                reconfigured = next.membership.take().or(reconfigured);
                self.apply(now, &mut tree, next, &mut changes, role);
                left = left.saturating_sub(changes.len());
                self.forget_touched(&mut tree, zxid, role);
            }
        }
        reconfigured.map(|membership| *membership)
    }

    /// Where a session ends that owns very many nodes, the most of them go here, and others see the tree in between.
    fn close_in_portions(
        &mut self,
        tree: &mut Held<RwLockWriteGuard<'_, Tree>>,
        InFlight { header, txn, .. }: &mut InFlight,
        changes: &mut Vec<Change>,
    ) {
        let Txn::CloseSession { paths } = txn else { return };
        if paths.as_ref().map_or(0, Vec::len) <= NODES_AT_ONCE
            && tree.ephemerals(header.session).nth(NODES_AT_ONCE).is_none()
        {
            return;
        }
        let mut listed = paths.take().unwrap_or_default().into_iter();
        loop {
            changes.clear();
            let count = listed.len().min(NODES_AT_ONCE);
            let more = tree.close_some(header, listed.by_ref().take(count), NODES_AT_ONCE - count, changes);
            if count + more < NODES_AT_ONCE {
                // The rest goes with the transaction itself, and with it what has just changed is told.
                break;
            }
            self.audit_ephemerals(header.session, changes);
            self.shared.fire(changes, header.zxid, &mut self.to_wake);
            tree.bump();
        }
        *paths = Some(Vec::new());
    }

    /// What is applied is no longer on its way.
    fn forget_touched(&self, tree: &mut Held<RwLockWriteGuard<'_, Tree>>, zxid: Zxid, role: &mut impl Committer) {
        loop {
            let count = role.applied(zxid, CHANGES_AT_ONCE);
            self.shared.statistics.changes_removed.fetch_add(count as u64, Relaxed);
            if count < CHANGES_AT_ONCE {
                break;
            }
            tree.bump();
        }
    }

    fn apply(
        &mut self,
        now: Time,
        tree: &mut Tree,
        next: InFlight,
        changes: &mut Vec<Change>,
        role: &mut impl Committer,
    ) {
        let InFlight { header, txn, digest, mut handed_over, membership: _, mut reply, mut reads } = next;
        assert!(
            header.zxid > tree.last_zxid() || !self.tree_is_exact,
            "transactions are applied in the order of their zxids, once"
        );
        if let Some(answered) = role.take_answered(&header) {
            (reply, reads) = answered;
            // The leader has had the request since.
            handed_over = reply.as_ref().map(|reply| reply.taken);
        }
        let closed = matches!(txn, Txn::CloseSession { .. }).then_some(header.session);
        let created = match &txn {
            Txn::CreateSession { timeout_ms } => Some(*timeout_ms),
            _ => None,
        };
        // A multi's results carry the opcodes of its members, which the tree does not keep.
        let member_ops: Vec<OpCode> = match &txn {
            Txn::Multi(members) => members.iter().map(Txn::op).collect(),
            _ => Vec::new(),
        };
        self.note_written(&txn);
        let outcome = tree.apply(&header, txn, changes);
        if let Some(expected) = digest.filter(|_| self.tree_is_exact) {
            self.compare_digest(header.zxid, expected, tree.digest());
        }
        if let Some(timeout_ms) = created {
            self.note_session(now, header.session, timeout_ms);
        }
        if self.shared.settings.digests && DigestLog::wants(header.zxid) {
            self.shared.digests().note(header.zxid, tree.digest());
        }
        let since_proposed_ms = (now.wall_ms - WallMs(header.time_ms)).max(0);
        self.tallies.propagation_ms(&self.shared.statistics, since_proposed_ms as u64);
        self.shared.fire(changes, header.zxid, &mut self.to_wake);
        if let Some(session) = closed {
            for gone in changes.iter().filter(|change| change.kind == EventType::NodeDeleted) {
                self.tallies.written(&self.shared.statistics, &gone.path, 0);
            }
            self.audit_ephemerals(session, changes);
        }
        let owner = closed.and_then(|session| {
            self.put(Output::SessionClosed { session });
            if self.rules.local_sessions {
                role.session_closed(session);
            }
            self.shared.sessions().remove(session)?.connection
        });
        let Some(reply) = reply else {
            // Expired: the connection ends without a word.
            if let Some(connection) = owner {
                self.hang_up(&connection);
            }
            return;
        };
        self.tallies.queue(&self.shared.statistics, reply.arrived, reply.taken);
        self.tallies.quorum(&self.shared.statistics, handed_over.unwrap_or(now.stamp), now.stamp);
        reply.connection.note_answered(now.stamp);
        self.done.answered += 1;
        let took_ns = now.stamp.ns_since(reply.arrived);
        if let Some(sample) = &reply.sampled {
            let depth = self.shared.settings.prefix_depth;
            self.shared.top.note(now.stamp, &reply.connection, sample, took_ns, depth);
        }
        if took_ns >= self.shared.settings.slow_write_ns && reply.handshake.is_none() {
            self.put_slow(now, &reply, header.zxid, handed_over, changes);
        }
        self.answer(now, tree, &reply, header.zxid, outcome, &member_ops);
        for read in &reads {
            self.answer_read(now, tree, &reply.connection, read);
        }
        if closed.is_some() {
            reply.connection.outbox.finish();
            self.to_wake.push(reply.connection.clone());
            if let Some(other) = owner.filter(|other| *other != reply.connection) {
                self.hang_up(&other);
            }
        }
    }

    /// A write took long. What failed has changed nothing, and tells its path only where it was looked at.
    fn put_slow(&mut self, now: Time, reply: &Reply, zxid: Zxid, handed_over: Option<Stamp>, changes: &[Change]) {
        let sampled = reply.sampled.as_ref().and_then(|sample| sample.path.clone());
        self.put(Output::Slow(Box::new(SlowOperation {
            op: reply.op,
            path: sampled.or_else(|| changes.first().map(|change| change.path.as_ref().into())),
            peer: reply.connection.peer,
            session: reply.connection.session(),
            zxid: Some(zxid),
            arrived: reply.arrived,
            taken: reply.taken,
            handed_over: Some(handed_over.unwrap_or(reply.taken)),
            done: now.stamp,
        })));
    }

    /// Nodes went with the session that they belonged to.
    fn audit_ephemerals(&mut self, session: SessionId, changes: &[Change]) {
        if self.shared.settings.audits {
            let gone = changes.iter().filter(|change| change.kind == EventType::NodeDeleted);
            let paths: Vec<_> = gone.map(|change| change.path.clone()).collect();
            if !paths.is_empty() {
                self.put(Output::EphemeralsDeleted { session, paths });
            }
        }
    }

    /// The nodes that go with a session are in no transaction, and noted when they have gone.
    fn note_written(&mut self, txn: &Txn) {
        let (path, data) = match txn {
            Txn::Create(create) => (&create.path, create.data.as_ref()),
            Txn::SetData { path, data, .. } | Txn::Reconfig { path, data, .. } => (path, data.as_ref()),
            Txn::Delete { path } | Txn::DeleteContainer { path } => (path, None),
            Txn::Multi(members) if !members.iter().any(|member| matches!(member, Txn::Error { .. })) => {
                return members.iter().for_each(|member| self.note_written(member));
            }
            _ => return,
        };
        self.tallies.written(&self.shared.statistics, path, data.map_or(0, Vec::len));
    }

    /// The first of a row of differences is told; a leader of another kind may send wrong ones for a while.
    fn compare_digest(&mut self, zxid: Zxid, expected: i64, actual: i64) {
        let differs = expected != actual;
        if differs {
            self.shared.statistics.note_digest_mismatches(1, zxid);
            if !self.digest_differs {
                self.put(Output::DigestMismatch { zxid, expected, actual });
            }
        }
        self.digest_differs = differs;
    }

    /// A learner hears here of the sessions that the leader made for others. A leader knows them since it proposed them.
    fn note_session(&mut self, now: Time, session: SessionId, timeout_ms: i32) {
        let mut sessions = self.shared.sessions();
        if sessions.get(session).is_none() {
            sessions.add(session, timeout_ms, None, now.monotonic_ms);
        }
        sessions.globalize(session);
    }

    fn answer(&mut self, now: Time, tree: &Tree, reply: &Reply, zxid: Zxid, outcome: Outcome, member_ops: &[OpCode]) {
        let connection = &reply.connection;
        self.shared.serve_deferred_to(connection);
        self.audit_outcome(reply.audited.as_ref(), &outcome);
        match reply.handshake.as_deref() {
            Some(Handshake { response, attach }) => {
                if *attach {
                    let (session, timeout_ms) = (response.session, response.timeout_ms);
                    self.shared.sessions().attach(session, connection.clone(), timeout_ms, now.monotonic_ms);
                }
                self.establish(now, connection, response, false);
            }
            // The client is served by another server now; what it hears there must not be contradicted here.
            None if is_moved(&outcome) => self.hang_up(connection),
            None => {
                let outcome = match outcome {
                    Outcome::Failed(code) => Outcome::Failed(self.local_refusal(reply, code)),
                    outcome => outcome,
                };
                let sizes = &self.shared.statistics.answer_bytes;
                connection.outbox.append(|output| {
                    let start = output.len() + size_of::<i32>();
                    put_answer(output, reply, zxid, outcome, member_ops, tree);
                    sizes.record(output.len() - start);
                });
            }
        }
        let latency_ms = (now.monotonic_ms - reply.received_ms).max(0);
        self.tallies.update_ms(&self.shared.statistics, latency_ms as u64);
        self.note_answer(now, connection, (reply.op, reply.xid), zxid, latency_ms);
    }
}

fn is_moved(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Failed(code) => *code == ErrorCode::SessionMoved.number(),
        Outcome::Multi(members) => members.iter().any(is_moved),
        _ => false,
    }
}

fn put_answer(output: &mut Vec<u8>, reply: &Reply, zxid: Zxid, outcome: Outcome, member_ops: &[OpCode], tree: &Tree) {
    let header = |err| ReplyHeader { xid: reply.xid, zxid, err };
    match outcome {
        Outcome::Failed(code) => frame::append_reply::<()>(output, header(code), None),
        Outcome::Created { path, .. } if reply.op == OpCode::Create => {
            frame::append_reply(output, header(0), Some(&PathResponse { path: Some(path.into()) }));
        }
        Outcome::Created { path, stat } => {
            frame::append_reply(output, header(0), Some(&Create2Response { path: path.into(), stat }));
        }
        Outcome::Changed(stat) if reply.op == OpCode::Reconfig => {
            let node = tree.node(rookeeper_proto::path::CONFIG);
            let data = node.and_then(|node| node.data()).map(Buffer);
            frame::append_reply(output, header(0), Some(&GetDataResponse { data, stat }));
        }
        Outcome::Changed(stat) => frame::append_reply(output, header(0), Some(&stat)),
        Outcome::Deleted | Outcome::Checked | Outcome::SessionCreated | Outcome::SessionClosed => {
            frame::append_reply::<()>(output, header(0), None);
        }
        Outcome::Multi(results) => frame::append(output, |output| {
            jute::append(output, &header(0));
            for (result, op) in results.into_iter().zip(member_ops) {
                put_member(output, result, *op);
            }
            jute::append(output, &MultiHeader::END);
        }),
    }
}

fn put_member(output: &mut Vec<u8>, result: Outcome, op: OpCode) {
    match result {
        Outcome::Created { path, .. } if op == OpCode::Create => {
            jute::append(output, &(MultiHeader::ok(OpCode::Create), Text::from(path)));
        }
        Outcome::Created { path, stat } => {
            jute::append(output, &(MultiHeader::ok(OpCode::Create2), Text::from(path), stat));
        }
        Outcome::Changed(stat) => jute::append(output, &(MultiHeader::ok(OpCode::SetData), stat)),
        Outcome::Failed(err) => jute::append(output, &(MultiHeader::error(err), ErrorResponse { err })),
        Outcome::Deleted => jute::append(output, &MultiHeader::ok(OpCode::Delete)),
        Outcome::Checked => jute::append(output, &MultiHeader::ok(OpCode::Check)),
        Outcome::SessionCreated | Outcome::SessionClosed | Outcome::Multi(_) => {
            unreachable!("a multi holds no sessions and no multis: its decoder and prepare refuse them")
        }
    }
}
