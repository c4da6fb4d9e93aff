//! The way of a change from its checks to the log: what is asked for becomes a transaction or an error, gets its zxid, and is on its way.
//!
//! What always holds here: a change is checked against the tree as it will be once everything proposed before it is applied; every request
//! that is prepared is proposed, an error too, so that its answer keeps its place; no record is longer than the original reads.

use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::request::WriteRequest;
use rookeeper_proto::{Digest, ErrorCode, Id, SessionId, Txn, TxnHeader, TxnRecord};
use rookeeper_tree::Verdicts;
use rookeeper_zab::{Membership, Record};

use crate::contract::Output;
use crate::replica::{InFlight, Replica, Reply, Role};
use crate::time::Time;
use crate::write::prepare::Prepare;

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

impl Replica {
    /// Checks a request against the tree as it will be.
    pub(crate) fn prepare_write(
        &mut self,
        now: Time,
        session: SessionId,
        identities: &[Id],
        request: WriteRequest,
    ) -> Txn {
        match request {
            WriteRequest::Reconfig(request) if self.member.is_some() => {
                self.prepare_reconfig(now, session, identities, &request)
            }
            request => self.prepare(now, session, identities, |prepare| prepare.write(request)),
        }
    }

    /// Gives a prepared transaction its place in the order and sends it to the log and to the learners.
    pub(crate) fn propose(&mut self, now: Time, session: SessionId, cxid: i32, txn: Txn, reply: Option<Reply>) {
        let Role::Leading(leader) = &mut self.role else { return };
        let zxid = leader.next_zxid();
        let header = TxnHeader { session, cxid, zxid, time_ms: now.wall_ms };
        let mut body = Vec::with_capacity(128);
        let mut record = encode(header, txn, self.shared.settings.digests.then(|| self.pending.digest()), &mut body);
        if body.len() + announced_with(&record.txn) > self.shared.settings.max_record_bytes {
            // What servers make themselves always fits, so there is a request to refuse.
            self.pending.take_back();
            body.clear();
            record = encode(header, Txn::Error { code: ErrorCode::MarshallingError.number() }, None, &mut body);
        }
        let touched = self.pending.keep();
        self.shared.statistics.changes_queued.fetch_add(touched.len() as u64, Relaxed);
        let digest = record.digest.map(|digest| digest.value);
        if let Some(reply) = &reply {
            reply.connection.set_last_write(zxid);
        }
        self.proposal_bytes.note(body.len());
        if self.member.is_some() {
            self.shared.statistics.member.proposals.fetch_add(1, Relaxed);
        }
        let packet = Record::new(zxid, &body);
        let multi_address = self.member.as_ref().is_some_and(|member| member.settings.multi_address);
        match reconfigured(&record.txn, multi_address) {
            Some(membership) => {
                leader.propose_reconfig(now.monotonic_ms, &packet, membership.clone());
                // Should this server lose the lead before it is committed, it must not lead again without asking the new members too.
                self.see_membership(membership);
            }
            None => leader.propose(now.monotonic_ms, &packet),
        }
        self.history.push(packet.clone()).expect("the leader's numbers follow one another");
        self.outputs.push_back(Output::Append(packet));
        self.in_flight.push_back(InFlight { header, txn: record.txn, digest, touched, reply, reads: Vec::new() });
    }

    /// Checks a change against the tree as it will be; one that fails becomes an error transaction.
    pub(crate) fn prepare(
        &mut self,
        now: Time,
        session: SessionId,
        identities: &[Id],
        change: impl FnOnce(&mut Prepare<'_>) -> Result<Txn, ErrorCode>,
    ) -> Txn {
        let Role::Leading(leader) = &self.role else {
            return Txn::Error { code: ErrorCode::RuntimeInconsistency.number() };
        };
        let zxid = leader.next_zxid();
        let tree = self.shared.tree();
        let global_session =
            !self.local_sessions() || self.shared.sessions().get(session).is_some_and(|session| !session.local);
        let mut prepare = Prepare {
            settings: &self.shared.settings,
            statistics: &self.shared.statistics,
            tree: &tree,
            pending: &mut self.pending,
            session,
            identities,
            verdicts: Verdicts::default(),
            zxid,
            global_session,
            wall_ms: now.wall_ms,
            acl_room_bytes: self.shared.settings.max_record_bytes,
        };
        change(&mut prepare).unwrap_or_else(|code| Txn::Error { code: code.number() })
    }

    /// A change that no client asked for.
    pub(crate) fn prepare_internal(
        &mut self,
        now: Time,
        session: SessionId,
        change: impl FnOnce(&mut Prepare<'_>) -> Result<Txn, ErrorCode>,
    ) {
        let txn = self.prepare(now, session, &[], change);
        self.propose(now, session, 0, txn, None);
    }
}

/// Puts a transaction into its record, with the digest of the tree after it.
fn encode(header: TxnHeader, txn: Txn, digest: Option<i64>, body: &mut Vec<u8>) -> TxnRecord {
    let digest = digest.filter(|_| !matches!(txn, Txn::Error { .. })).map(Digest::new);
    let record = TxnRecord { header, txn, digest };
    record.append(body);
    record
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
