//! A server's state after the last input, and its words to others: both are judged here, against its disk and the disks of others.

use std::collections::BTreeSet;
use std::sync::Arc;

use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_proto::{Epoch, OpCode, ServerId, Txn, TxnRecord, Zxid};
use rookeeper_replica::{FoundMembership, Serving};
use rookeeper_store::epoch_files::{ACCEPTED, CURRENT, read_epoch};
use rookeeper_store::{Directories, SimDisk, recover};
use rookeeper_zab::link::MAX_PACKET_BYTES;
use rookeeper_zab::{Membership, Quorum};

use super::{Server, recovery};
use crate::checkers::durability;
use crate::faults::Sabotage;
use crate::forgetful::refuse_wrongly;
use crate::scenes::Cue;
use crate::world::World;

/// The deletion of a node without a name, which no client here asks for.
const IN_VAIN: &[u8] = b"\0\0\0\0\xff\xff\xff\xff";

/// For one commit in so many the disks of a quorum are read.
const DEEP_CHECK: u64 = 400;

impl World {
    // --- what others are told is checked against the disk ---

    pub(super) fn check_to_leader(&mut self, server: usize, bytes: &[u8]) {
        let mut rest = bytes;
        while let Ok(Some((packet, length))) = QuorumPacket::split(rest, MAX_PACKET_BYTES) {
            rest = &rest[length..];
            let verdict = match packet {
                QuorumPacket::Ack { zxid } if zxid.counter() == 0 => {
                    let disk = self.servers[server].after_power_cut(self.now_us as u64);
                    let this = &self.servers[server];
                    let stored = durable_epoch(&disk, &this.directories, CURRENT);
                    this.promises.acknowledges_leader(server + 1, zxid.epoch(), stored)
                }
                QuorumPacket::Ack { zxid } => {
                    self.cue(Cue::Acknowledges { server, zxid });
                    self.servers[server].promises.acknowledges(server + 1, zxid)
                }
                QuorumPacket::AckEpoch { last_logged, current_epoch } => {
                    let disk = self.servers[server].after_power_cut(self.now_us as u64);
                    let this = &self.servers[server];
                    let accepted = durable_epoch(&disk, &this.directories, ACCEPTED);
                    let promised = current_epoch.map_or(Epoch::ZERO, |current| current.max(this.promises.accepted));
                    this.promises
                        .promises(server + 1, promised, accepted)
                        .and_then(|()| last_logged.map_or(Ok(()), |last| this.promises.claims(server + 1, last)))
                }
                QuorumPacket::Request(request) if request.op == OpCode::Delete.number() && request.body == IN_VAIN => {
                    self.figures.note("requests of observers that their clients have left");
                    self.chronicle.requests.sent_in_vain(request.session.0, request.cxid);
                    Ok(())
                }
                // No answer to a ping: what an observer has said is sent on at once.
                QuorumPacket::Ping { zxid: Zxid::ZERO, touches: Some(touches) } if self.feeds(server) => {
                    let now_ms = self.now_ms();
                    self.expiry.relays(server, now_ms, touches.iter().map(|touch| touch.session))
                }
                QuorumPacket::Ping { touches: Some(touches), .. } => {
                    self.judge_touches(server, &touches.iter().map(|touch| touch.session).collect())
                }
                _ => Ok(()),
            };
            self.judge(verdict);
        }
    }

    fn feeds(&self, server: usize) -> bool {
        self.servers[server].process.as_ref().is_some_and(|process| process.feeds)
    }

    pub(super) fn check_to_learner(&mut self, server: usize, bytes: &[u8]) {
        let Ok(Some((packet, _))) = QuorumPacket::split(bytes, MAX_PACKET_BYTES) else { return };
        self.note_answer_to_learner(server, &packet);
        if matches!(packet, QuorumPacket::Diff { .. } | QuorumPacket::Trunc { .. }) {
            self.cue(Cue::Brings { leader: server });
        }
        if let QuorumPacket::LeaderInfo { epoch } = packet {
            let disk = self.servers[server].after_power_cut(self.now_us as u64);
            let this = &self.servers[server];
            let accepted = durable_epoch(&disk, &this.directories, ACCEPTED);
            let verdict = this.promises.promises(server + 1, epoch.epoch(), accepted);
            self.judge(verdict);
        }
    }

    /// Judges the server's state after the last input.
    pub(super) fn observe(&mut self, server: usize) {
        let Some(process) = &self.servers[server].process else { return };
        let serving = process.shared.status_board.serving();
        let (applied, digest) = {
            let tree = process.shared.tree();
            (tree.last_zxid(), tree.digest())
        };
        let began = serving != process.serving;
        let before = process.applied;
        if !began && applied == before {
            return;
        }
        let leads = began && serving == Serving::Deciding;
        // A leader may decide before its own currentEpoch is stored; the epoch it leads is the last one it accepted.
        let epoch = self.servers[server].promises.accepted;
        if let Some(process) = &mut self.servers[server].process {
            process.serving = serving;
            process.applied = applied;
        }
        if began {
            self.note(10, server as u64, applied.0 as u64, || {
                format!("server {} serves {serving:?} at {applied}", server + 1)
            });
            let (now_ms, monotonic_ms) = (self.now_ms(), self.time_at(server).monotonic_ms);
            self.expiry.serves(server, now_ms);
            self.tamper_with_sessions(server, monotonic_ms);
        }
        if leads && self.plan.membership().is_some() {
            let verdict = self.leaders.leads(server + 1, epoch);
            self.judge(verdict);
            self.cue(Cue::Leads { server });
            let last = |server: &Server| server.log.last_key_value().map_or(Zxid::ZERO, |(zxid, _)| *zxid);
            let own = last(&self.servers[server]).max(applied);
            if self.servers.iter().any(|other| last(other) > own) {
                self.figures.note("leaders that had less than another server");
            }
        }
        if !matches!(serving, Serving::Deciding | Serving::Forwarding) {
            return;
        }
        if self.servers[server].promises.durable >= applied {
            self.servers[server].has_foreign_snapshot = false;
        }
        // Transactions that a serving server has applied are committed.
        let new: Vec<(Zxid, Arc<[u8]>)> = self.servers[server]
            .log
            .iter()
            .rev()
            .skip_while(|(zxid, _)| **zxid > applied)
            .take_while(|(zxid, _)| began || **zxid > before)
            .map(|(zxid, body)| (*zxid, body.clone()))
            .collect();
        // Where transactions came in snapshots only, no log has their records any more.
        let installed = self.servers[server].installed.min(applied);
        let in_snapshots = self.chronicle.missing_up_to(installed);
        let known = in_snapshots.last().map_or(self.chronicle.last(), |(zxid, _)| *zxid);
        if known < installed {
            // Nor can those of an earlier epoch be told from what another leader gave up.
            self.is_blind = true;
            return;
        }
        for (zxid, body) in in_snapshots.into_iter().chain(new.into_iter().rev()) {
            let mut body = body;
            if self.plan.sabotage == Some(Sabotage::KeepsEphemeral) {
                body = keep_an_ephemeral(&body);
            }
            if self.plan.sabotage == Some(Sabotage::WrongRefusal) {
                body = refuse_wrongly(&body);
            }
            self.note_applied(server, &body);
            match self.chronicle.applied(server + 1, self.now_us, zxid, &body) {
                Ok(true) => {
                    self.note_reaped(&body);
                    self.check_quorum(zxid, &body);
                }
                Ok(false) => {}
                Err(problem) => self.violated(problem),
            }
        }
        self.note_recovery(server);
        if self.chronicle.last() < applied {
            // These records can't be told from records that another leader gave up, so this life can't be judged any further.
            self.is_blind = true;
            return;
        }
        let mut digest = digest;
        if self.plan.sabotage == Some(Sabotage::WrongState) && server == 1 {
            digest ^= 1;
        }
        if self.plan.sabotage == Some(Sabotage::UndigestedRights) {
            digest ^= self.chronicle.model.lists_set();
        }
        let verdict = self.chronicle.digest(server + 1, applied, digest);
        self.judge(verdict);
        if leads {
            self.check_membership_of_leader(server);
        }
    }

    fn note_reaped(&mut self, body: &[u8]) {
        if TxnRecord::decode(body).is_ok_and(|record| matches!(record.txn, Txn::DeleteContainer { .. })) {
            self.figures.note("nodes reaped");
        }
    }

    /// A leader begins with the newest membership that it has seen, also where the power took the record of it everywhere.
    fn check_membership_of_leader(&mut self, server: usize) {
        let Some(process) = &self.servers[server].process else { return };
        let Some(membership) = process.memberships.as_ref().map(|memberships| memberships.committed.clone()) else {
            return;
        };
        let Some(before) = &self.membership else { return };
        if membership.version <= before.version || membership.members == before.members {
            return;
        }
        let holders: BTreeSet<ServerId> = (0..self.servers.len())
            .filter(|server| self.would_know(*server, &membership))
            .map(|server| self.servers[server].id)
            .collect();
        let verdict = durability::known(&before.quorum(), &membership, &holders);
        self.judge(verdict);
        self.members_change(membership);
    }

    /// The version of the membership that a server's log would show after a power cut.
    pub(crate) fn log_of_membership(&self, server: usize) -> Option<Zxid> {
        let this = &self.servers[server];
        let found = recover(&this.after_power_cut(self.now_us as u64), &this.directories, &recovery(true)).ok()?;
        Some(FoundMembership::in_tree(&found.tree, None, false)?.newest.version)
    }

    /// The servers that have a transaction on disk that was just committed.
    pub(crate) fn check_quorum(&mut self, zxid: Zxid, body: &[u8]) {
        let has = |server: &&Server| {
            let has = server.promises.durable >= zxid && server.log.get(&zxid).is_none_or(|own| **own == *body);
            // The transactions of a lost disk count, because they were acknowledged. No more disks are lost than an ensemble bears.
            has || server.lost >= Some(zxid)
        };
        let mut holders: BTreeSet<ServerId> = self.servers.iter().filter(has).map(|server| server.id).collect();
        if self.random.one_in(DEEP_CHECK) {
            let seed = self.now_us as u64;
            let directories = self.servers[0].directories.clone();
            let survives = |server: &&Server| {
                let disk = server.after_power_cut(seed);
                server.lost >= Some(zxid)
                    || recover(&disk, &directories, &recovery(true)).is_ok_and(|found| found.tree.last_zxid() >= zxid)
            };
            let ids: BTreeSet<ServerId> = self.servers.iter().filter(survives).map(|server| server.id).collect();
            holders.retain(|id| ids.contains(id));
            self.figures.deep_checks += 1;
        }
        let quorum = self.membership.as_ref().map_or_else(|| Quorum::majority([ServerId(1)]), Membership::quorum);
        if !self.may_go_on(&holders) {
            let verdict = durability::committed(&quorum, &holders, zxid);
            self.judge(verdict);
        }
        if let Some(membership) = reconfigured(body)
            && self.membership.as_ref().is_some_and(|before| before.version < membership.version)
        {
            // A reconfiguration takes quorums of both memberships.
            let verdict = durability::committed(&membership.quorum(), &holders, zxid);
            self.judge(verdict);
            self.members_change(membership);
        }
    }
}

/// The epoch that a power cut would leave.
pub(crate) fn durable_epoch(disk: &SimDisk, directories: &Directories, name: &str) -> Option<Epoch> {
    read_epoch(disk, &directories.snapshot_dir, name).ok().flatten()
}

/// The membership that a transaction puts into force.
pub(crate) fn reconfigured(body: &[u8]) -> Option<Membership> {
    match TxnRecord::decode(body).ok()?.txn {
        Txn::Reconfig { data: Some(text), .. } => Membership::parse_text(text, false).ok(),
        _ => None,
    }
}

/// A planted bug: the end of a session leaves one of its nodes.
fn keep_an_ephemeral(body: &[u8]) -> Arc<[u8]> {
    if let Ok(mut record) = TxnRecord::decode(body)
        && let Txn::CloseSession { paths: Some(paths) } = &mut record.txn
        && paths.pop().is_some()
    {
        let mut changed = Vec::new();
        record.append(&mut changed);
        return changed.into();
    }
    body.into()
}
