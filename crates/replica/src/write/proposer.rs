//! The way of a change from its checks to the log: what is asked for becomes a transaction or an error, gets its zxid, and is on its way.
//!
//! A server that decides has one of these, standalone or as the leader of an ensemble.
//!
//! What always holds here: a change is checked against the tree as it will be once everything proposed before it is applied; every request
//! that is prepared is proposed, an error too, so that its answer keeps its place; no record is longer than the original reads.

use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::request::WriteRequest;
use rookeeper_proto::{Digest, ErrorCode, Id, MonotonicMs, SessionId, Txn, TxnHeader, TxnRecord, Zxid};
use rookeeper_tree::Verdicts;
use rookeeper_zab::leader::Leader;
use rookeeper_zab::{Membership, Record, RecordBuffer};

use crate::audit::Fate;
use crate::check::{Broken, must};
use crate::clients::session::Owner;
use crate::core::{Core, InFlight, Reply};
use crate::time::Time;
use crate::write::pending::Pending;
use crate::write::prepare::Prepare;
use crate::write::reaper::Reaper;

/// Sizes of the records that a leader has proposed; -1 where there was none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProposalBytes {
    pub last: i64,
    pub min: i64,
    pub max: i64,
}

impl Default for ProposalBytes {
    fn default() -> ProposalBytes {
        ProposalBytes { last: -1, min: -1, max: -1 }
    }
}

impl ProposalBytes {
    fn note(&mut self, bytes: usize) {
        let bytes = bytes as i64;
        self.last = bytes;
        self.min = if self.min < 0 { bytes } else { self.min.min(bytes) };
        self.max = self.max.max(bytes);
    }
}

#[derive(Debug)]
pub(crate) struct Proposer {
    pub leader: Leader,
    pub sizes: ProposalBytes,
    /// What is prepared and not applied.
    pending: Pending,
    reaper: Reaper,
    /// The record in preparation.
    buffer: RecordBuffer,
}

/// A transaction with its place in the order, which nobody has heard of yet.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub record: Record,
    pub next: InFlight,
}

impl Proposer {
    /// Around a leader, with nothing on its way.
    pub fn new(core: &Core, leader: Leader, now: Time) -> Proposer {
        Proposer {
            leader,
            sizes: ProposalBytes::default(),
            pending: Pending::new(&core.shared.tree()),
            reaper: Reaper::new(core.shared.settings.reaping, now.monotonic_ms),
            buffer: RecordBuffer::default(),
        }
    }

    /// This server decides from here on: the history that its leader began with is applied, and nothing else is on its way.
    pub fn begin(&mut self, core: &Core, now: Time) {
        self.pending = Pending::new(&core.shared.tree());
        self.reaper = Reaper::new(core.shared.settings.reaping, now.monotonic_ms);
    }

    /// Checks a change against the tree as it will be; one that fails becomes an error transaction.
    pub fn prepare(
        &mut self,
        core: &Core,
        now: Time,
        session: SessionId,
        identities: &[Id],
        change: impl FnOnce(&mut Prepare<'_>) -> Result<Txn, ErrorCode>,
    ) -> Txn {
        let shared = &core.shared;
        let tree = shared.tree();
        let global_session =
            !core.rules.local_sessions || shared.sessions().get(session).is_some_and(|session| !session.local);
        let mut prepare = Prepare {
            settings: &shared.settings,
            statistics: &shared.statistics,
            shortage: shared.room.shortage(),
            tree: &tree,
            pending: &mut self.pending,
            session,
            identities,
            verdicts: Verdicts::default(),
            zxid: self.leader.next_zxid(),
            global_session,
            wall_ms: now.wall_ms,
            acl_room_bytes: shared.settings.max_record_bytes,
        };
        change(&mut prepare).unwrap_or_else(|code| Txn::Error { code: code.number() })
    }

    /// Gives a prepared transaction its place in the order. It is to be proposed next.
    pub fn seal(
        &mut self,
        core: &Core,
        now: Time,
        (session, cxid): (SessionId, i32),
        txn: Txn,
        reply: Option<Reply>,
    ) -> Sealed {
        let shared = &core.shared;
        let zxid = self.leader.next_zxid();
        let header = TxnHeader { session, cxid, zxid, time_ms: now.wall_ms.0 };
        let mut record = record(header, txn, shared.settings.digests.then(|| self.pending.digest()));
        let mut bytes = self.buffer.write(zxid, |output| record.append(output));
        if bytes + announced_with(&record.txn) > shared.settings.max_record_bytes {
            // A record that no server can read back would end the ensemble (ZOOKEEPER-2101, ZOOKEEPER-3496). What servers make themselves always
            // fits, so there is a request to refuse.
            self.pending.take_back();
            record = self::record(header, Txn::Error { code: ErrorCode::MarshallingError.number() }, None);
            bytes = self.buffer.write(zxid, |output| record.append(output));
        }
        let touched = self.pending.keep(zxid);
        shared.statistics.changes_queued.fetch_add(touched as u64, Relaxed);
        let digest = record.digest.map(|digest| digest.value);
        if let Some(reply) = &reply {
            reply.connection.set_last_write_zxid(zxid);
        }
        self.sizes.note(bytes);
        Sealed {
            record: self.buffer.record(),
            next: InFlight {
                header,
                txn: record.txn,
                digest,
                handed_over: None,
                membership: None,
                reply,
                reads: Vec::new(),
            },
        }
    }

    /// Sends a transaction to the learners and to the log.
    pub fn propose(&mut self, core: &mut Core, now: Time, Sealed { record, next }: Sealed) {
        self.leader.propose(now.monotonic_ms, &record);
        append(core, record, next);
    }

    /// The same with a change of the members.
    pub fn propose_reconfig(&mut self, core: &mut Core, now: Time, sealed: Sealed, membership: Membership) {
        let Sealed { record, mut next } = sealed;
        self.leader.propose_reconfig(now.monotonic_ms, &record, membership.clone());
        next.membership = Some(Box::new(membership));
        append(core, record, next);
    }

    /// What must hold after each event, where this server decides.
    pub fn check(&self, core: &Core) -> Result<(), Broken> {
        let zxids: Vec<Zxid> = core.in_flight.iter().map(|next| next.header.zxid).collect();
        let digest = core.shared.tree().digest();
        must(self.leader.outstanding() == zxids.len(), "what was proposed and is not committed is on its way")?;
        must(self.pending.is_settled(), "what was prepared is proposed")?;
        must(self.pending.belongs_to(&zxids), "what is about to change is on its way")?;
        must(!zxids.is_empty() || self.pending.digest() == digest, "where nothing changes the digest is the tree's")
    }

    /// A node that nobody needs any more, if one is due.
    pub fn next_to_reap(&mut self, core: &Core, now: Time) -> Option<String> {
        self.reaper.next(now, || core.shared.tree())
    }

    /// When a node may be due for removal.
    pub fn reaper_deadline_ms(&self) -> MonotonicMs {
        self.reaper.deadline_ms()
    }

    /// See [`Pending::applied`].
    pub fn applied(&mut self, zxid: Zxid, limit: usize) -> usize {
        self.pending.applied(zxid, limit)
    }
}

/// What becomes of a client's request: it goes on, or is refused with an error that takes its place in the order. None where the client has
/// left its connection, and nobody waits for an answer.
pub(crate) fn judged(
    core: &mut Core,
    reply: &Reply,
    request: Option<WriteRequest>,
) -> Option<Result<WriteRequest, ErrorCode>> {
    let connection = &reply.connection;
    let session = connection.session();
    let mut sessions = core.shared.sessions();
    let Some(request) = request else {
        let is_over = sessions.is_closing(session);
        return Some(Err(if is_over { ErrorCode::SessionExpired } else { ErrorCode::MarshallingError }));
    };
    match sessions.check(session, Owner::Client(connection.id), &request) {
        Ok(()) => Some(Ok(request)),
        Err(ErrorCode::SessionMoved) => {
            drop(sessions);
            core.audit(reply.audited.as_ref(), Fate::Failed);
            core.shared.settle(connection);
            None
        }
        Err(code) => Some(Err(code)),
    }
}

fn append(core: &mut Core, record: Record, next: InFlight) {
    core.history.push(record.clone()).expect("the leader's numbers follow one another");
    core.keep_until_committed(record, next);
    core.done.prepared += 1;
}

/// A transaction with the digest of the tree after it.
fn record(header: TxnHeader, txn: Txn, digest: Option<i64>) -> TxnRecord {
    let digest = digest.filter(|_| !matches!(txn, Txn::Error { .. })).map(Digest::new);
    TxnRecord { header, txn, digest }
}

/// What stands beside a record in the packets that hold it: an observer learns of a reconfiguration together with the new leader's id.
fn announced_with(txn: &Txn) -> usize {
    if matches!(txn, Txn::Reconfig { .. }) { size_of::<i64>() } else { 0 }
}

/// The membership that a transaction makes, if it is a reconfiguration.
pub(crate) fn reconfigured(txn: &Txn, multi_address: bool) -> Option<Membership> {
    match txn {
        Txn::Reconfig { data: Some(text), .. } => Membership::parse_text(text, multi_address).ok(),
        _ => None,
    }
}
