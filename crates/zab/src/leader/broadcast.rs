//! Proposals, acknowledgements, commits; and what learners are answered in between.
//!
//! What always holds here: what goes to a learner goes out in the order in which it was decided; a commit goes out after its quorum is
//! there, and after the commits before it; behind a reconfiguration that makes another server the leader nothing is committed.
//!
//! Counterpart in the original: `Leader.propose`, `processAck`, `tryToCommit`, `getDesignatedLeader`.

use std::cmp::Reverse;
use std::sync::Arc;

use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_proto::{MonotonicMs, ServerId, SessionId, Zxid};

use super::learner_link::Stage;
use super::proposals::Proposal;
use super::{Leader, LeaderOutput, Phase};
use crate::history::Record;
use crate::link::{LinkId, LinkOutput};
use crate::membership::{Membership, Memberships};
use crate::reasons::{DropReason, StepDownReason};

/// Where the numbers of an epoch run out (ZOOKEEPER-1277) another epoch is begun in good time: at a calm moment, or at last here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rollover {
    /// From this counter of a zxid on the epoch ends when nothing is on its way.
    pub calm: u32,
    /// From this counter of a zxid on the epoch ends whatever is on its way.
    pub last: u32,
}

impl Default for Rollover {
    fn default() -> Rollover {
        Rollover { calm: 0xffff_0000, last: 0xffff_c000 }
    }
}

impl Leader {
    /// What [`Leader::propose`] takes next.
    pub fn next_zxid(&self) -> Zxid {
        self.proposals.next_zxid()
    }

    /// Sends a transaction to everybody who follows.
    pub fn propose(&mut self, now_ms: MonotonicMs, record: &Record) {
        self.register(now_ms, record, None);
    }

    /// The same for a change of the members: from here on both memberships must agree.
    pub fn propose_reconfig(&mut self, now_ms: MonotonicMs, record: &Record, membership: Membership) {
        self.memberships = Memberships::new(self.memberships.committed.clone(), membership.clone()).into();
        self.register(now_ms, record, Some(membership));
    }

    fn register(&mut self, now_ms: MonotonicMs, record: &Record, membership: Option<Membership>) {
        self.proposals.propose(record.clone(), self.memberships.clone(), membership);
        if self.phase == Phase::Over {
            // It keeps its place in this server's history; the next leader decides about it.
            return;
        }
        for (id, link) in self.links.iter_mut().filter(|(_, link)| link.is_registered() && !link.is_observer()) {
            link.sent_proposal(now_ms, record.zxid);
            self.outputs.push_back(LeaderOutput::ToLearner(*id, LinkOutput::Send(record.proposal())));
        }
    }

    /// This server has everything up to `zxid` on disk.
    pub fn synced(&mut self, _now_ms: MonotonicMs, zxid: Zxid) {
        if self.phase == Phase::Broadcasting {
            self.proposals.acknowledge(self.settings.me, zxid.min(self.proposals.proposed()));
            self.commit();
        }
    }

    /// A learner has everything up to `zxid` on disk.
    pub(super) fn on_ack(&mut self, now_ms: MonotonicMs, id: LinkId, zxid: Zxid) {
        // The ack of UPTODATE, and late ones for what was sent as history.
        if zxid.counter() == 0 || zxid.epoch() != self.epoch {
            return;
        }
        let proposed = self.proposals.proposed();
        if zxid > proposed {
            self.drop_link(id, DropReason::AcknowledgedTooMuch { zxid, proposed });
            return;
        }
        if let Some(link) = self.links.get_mut(&id) {
            link.acknowledged(now_ms, zxid, proposed);
        }
        if let Some(voter) = self.voter(id) {
            self.proposals.acknowledge(voter, zxid);
            self.commit();
        }
    }

    /// Commits what has its quorum.
    pub(super) fn commit(&mut self) {
        while self.phase == Phase::Broadcasting {
            let mut run = self.proposals.take_committed(self.lone_server());
            let Some(last) = run.pop() else { break };
            let successor = last.membership.as_ref().map(|membership| self.designate(last.record.zxid, membership));
            self.announce(&run, &last, successor);
            if let Some(membership) = last.membership {
                self.memberships = Memberships::settled(membership).into();
                self.proposals.settle(&self.memberships);
            }
            self.outputs.push_back(LeaderOutput::Committed(last.record.zxid));
            if let Some(successor) = successor.filter(|successor| *successor != self.settings.me) {
                self.step_down(StepDownReason::AnotherLeads(successor), Some(successor));
            }
        }
        let counter = self.proposals.proposed().counter();
        let Rollover { calm, last } = self.settings.rollover;
        let used_up = counter >= last || (counter >= calm && self.proposals.outstanding() == 0);
        if used_up && !self.standalone {
            self.step_down(StepDownReason::EpochUsedUp(self.epoch), None);
        }
    }

    /// Tells everybody that records are committed, the last of which may put a membership into force.
    fn announce(&mut self, run: &[Proposal], last: &Proposal, successor: Option<ServerId>) {
        let (mut commits, mut informs) = (None::<Arc<[u8]>>, None::<Arc<[u8]>>);
        for (id, link) in self.links.iter_mut().filter(|(_, link)| link.is_registered()) {
            let bytes = if link.is_observer() {
                informs.get_or_insert_with(|| informing_packets(run, last, successor)).clone()
            } else {
                commits.get_or_insert_with(|| committing_packets(run, last, successor)).clone()
            };
            match &mut link.stage {
                // ZOOKEEPER-4394: an older follower does not bear the commit of what came before NEWLEADER until it is up to date.
                Stage::Syncing(catching_up) | Stage::AwaitingUpToDate(catching_up)
                    if link.identity.is_some_and(|identity| !identity.observer) =>
                {
                    catching_up.held_commits.push(bytes);
                }
                _ => self.outputs.push_back(LeaderOutput::ToLearner(*id, LinkOutput::Send(bytes))),
            }
        }
    }

    /// Who leads once the reconfiguration is committed: this server if it may, else the one of the new voters that has most.
    fn designate(&self, reconfig: Zxid, new: &Membership) -> ServerId {
        let me = self.settings.me;
        let address = |membership: &Membership| {
            let member = membership.members.get(&me)?;
            Some(member.addresses.iter().map(|at| (at.host.clone(), at.quorum_port)).collect::<Vec<_>>())
        };
        if new.is_participant(me) && address(new) == address(&self.memberships.committed) {
            return me;
        }
        let having = self.proposals.having(reconfig);
        let best = new
            .participants()
            .filter(|server| *server != me && having.contains(server))
            .max_by_key(|server| (self.proposals.mark(*server), Reverse(*server)));
        best.unwrap_or(me)
    }

    /// Answers a learner's sync, behind all that was committed until now.
    pub fn answer_sync(&mut self, link: LinkId) {
        if self.links.get(&link).is_some_and(|link| link.is_synced()) {
            self.send(link, &QuorumPacket::Sync);
        }
    }

    /// Answers whether a session lives.
    pub fn revalidated(&mut self, link: LinkId, session: SessionId, valid: bool) {
        if self.links.get(&link).is_some_and(|link| link.is_synced()) {
            self.send(link, &QuorumPacket::Revalidated { session, valid });
        }
    }
}

fn committing_packets(run: &[Proposal], last: &Proposal, successor: Option<ServerId>) -> Arc<[u8]> {
    let mut bytes = Vec::new();
    for proposal in run {
        QuorumPacket::Commit { zxid: proposal.record.zxid }.append(&mut bytes);
    }
    let zxid = last.record.zxid;
    match successor {
        None => QuorumPacket::Commit { zxid }.append(&mut bytes),
        Some(designated_leader) => QuorumPacket::CommitAndActivate { zxid, designated_leader }.append(&mut bytes),
    }
    bytes.into()
}

fn informing_packets(run: &[Proposal], last: &Proposal, successor: Option<ServerId>) -> Arc<[u8]> {
    let mut bytes = Vec::new();
    for Proposal { record, .. } in run {
        QuorumPacket::Inform { zxid: record.zxid, record: record.body() }.append(&mut bytes);
    }
    let (zxid, record) = (last.record.zxid, last.record.body());
    match successor {
        None => QuorumPacket::Inform { zxid, record }.append(&mut bytes),
        Some(designated_leader) => {
            QuorumPacket::InformAndActivate { zxid, designated_leader, record }.append(&mut bytes);
        }
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::super::proposals::Proposals;
    use super::*;

    fn proposes(leader: &mut Leader) -> Vec<LeaderOutput> {
        let record = Record::new(leader.next_zxid(), b"");
        leader.propose(MonotonicMs::ZERO, &record);
        leader.synced(MonotonicMs::ZERO, record.zxid);
        std::iter::from_fn(|| leader.poll()).collect()
    }

    /// Its proposals are all that a rollover depends on.
    fn leader(counter: u32) -> Leader {
        let mut leader = Leader::standalone(ServerId(1), Zxid::new(1, 1));
        leader.standalone = false;
        leader.proposals = Proposals::new(Zxid::new(1, counter));
        leader
    }

    #[test]
    fn an_epoch_ends_at_a_calm_moment_before_its_numbers_do() {
        let rollover = Rollover::default();
        let mut calm = leader(rollover.calm - 2);
        assert_eq!(proposes(&mut calm), [LeaderOutput::Committed(Zxid::new(1, rollover.calm - 1))]);
        let outputs = proposes(&mut calm);
        assert!(matches!(outputs[..], [LeaderOutput::Committed(_), LeaderOutput::StepDown { .. }]), "{outputs:?}");
        assert_eq!(proposes(&mut calm), [], "what comes after it is decided by the next leader");

        let mut busy = leader(rollover.last - 2);
        for last in [false, true] {
            let (first, second) = (Record::new(busy.next_zxid(), b""), busy.next_zxid().next());
            busy.propose(MonotonicMs::ZERO, &first);
            busy.propose(MonotonicMs::ZERO, &Record::new(second.expect("there are numbers left"), b""));
            busy.synced(MonotonicMs::ZERO, first.zxid);
            let ended =
                std::iter::from_fn(|| busy.poll()).any(|output| matches!(output, LeaderOutput::StepDown { .. }));
            assert!(ended, "at the latest here ({last})");
            busy = leader(rollover.last);
        }
        let mut alone = Leader::standalone(ServerId(1), Zxid::new(1, rollover.last));
        assert_eq!(proposes(&mut alone).len(), 1, "a standalone server uses all of them");
    }
}
