//! The proposals: what was proposed and is not committed yet, and how far each server has it on disk.
//!
//! What always holds here:
//! - zxids are handed out without gaps; proposals are committed in their order, each once;
//! - a proposal is committed once a quorum has it on disk in the membership that was in force when it was proposed and in the one that is to
//!   be; behind the commit of the change, in the new one;
//! - a server that goes on alone (`alone.rs`) commits what it has itself, where its voice is half of each membership;
//! - an acknowledgement covers every proposal before it, because each server writes its log in order. It counts until the server begins
//!   anew, for it may be told then to cut its log.
//!
//! Counterpart in the original: `Leader.outstandingProposals`, `SyncedLearnerTracker`, where each proposal collects its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rookeeper_proto::{ServerId, Zxid};

use crate::history::Record;
use crate::membership::{Membership, Memberships};

/// A transaction that waits for its quorum.
#[derive(Debug)]
pub(super) struct Proposal {
    pub record: Record,
    /// The membership that it puts into force.
    pub membership: Option<Membership>,
    memberships: Arc<Memberships>,
}

#[derive(Debug)]
pub(super) struct Proposals {
    proposed: Zxid,
    committed: Zxid,
    outstanding: VecDeque<Proposal>,
    acknowledged: BTreeMap<ServerId, Zxid>,
}

impl Proposals {
    /// Opens behind a history that ends at `last`.
    pub fn new(last: Zxid) -> Proposals {
        Proposals { proposed: last, committed: last, outstanding: VecDeque::new(), acknowledged: BTreeMap::new() }
    }

    /// The next proposal is the first after this one, which stands for the beginning of an epoch.
    pub fn begin_epoch(&mut self, beginning: Zxid) {
        assert!(beginning > self.proposed && self.outstanding.is_empty(), "an epoch begins behind all history");
        self.proposed = beginning;
    }

    /// What [`Proposals::propose`] takes next.
    pub fn next_zxid(&self) -> Zxid {
        self.proposed.next().unwrap_or_else(|| Zxid::new(self.proposed.epoch().next(), 1))
    }

    /// Takes in the next proposal, which needs a quorum of both `memberships`. `membership` is what the proposal makes of the members,
    /// where it is a reconfiguration.
    pub fn propose(&mut self, record: Record, memberships: Arc<Memberships>, membership: Option<Membership>) {
        assert_eq!(record.zxid, self.next_zxid(), "proposals follow one another");
        self.proposed = record.zxid;
        self.outstanding.push_back(Proposal { record, membership, memberships });
    }

    /// `server` has everything up to `zxid` on disk.
    pub fn acknowledge(&mut self, server: ServerId, zxid: Zxid) {
        assert!(zxid <= self.proposed, "{zxid} was acknowledged, but only {} was proposed", self.proposed);
        let mark = self.acknowledged.entry(server).or_insert(zxid);
        *mark = zxid.max(*mark);
    }

    /// What `server` has acknowledged so far counts no more.
    pub fn forget(&mut self, server: ServerId) {
        self.acknowledged.remove(&server);
    }

    /// Takes out proposals that are committed now: the oldest ones, up to the first that changes the membership. Empty where none is.
    /// `alone`: a server that suffices where it has half of the voices.
    pub fn take_committed(&mut self, alone: Option<ServerId>) -> Vec<Proposal> {
        let Some(first) = self.outstanding.front() else { return Vec::new() };
        let having = self.having(first.record.zxid);
        let suffices = |server| having.contains(&server) && first.memberships.has_half(server);
        if !first.memberships.is_reached_by(&having) && !alone.is_some_and(suffices) {
            return Vec::new();
        }
        // These servers have more, maybe: whatever all of them have was decided by the same quorum.
        let all_have = having.iter().filter_map(|server| self.acknowledged.get(server)).min().copied();
        let memberships = first.memberships.clone();
        let mut taken = Vec::new();
        while let Some(proposal) = self
            .outstanding
            .pop_front_if(|next| Some(next.record.zxid) <= all_have && Arc::ptr_eq(&next.memberships, &memberships))
        {
            assert!(proposal.record.zxid > self.committed, "{} is committed in its order", proposal.record.zxid);
            self.committed = proposal.record.zxid;
            let ends = proposal.membership.is_some();
            taken.push(proposal);
            if ends {
                break;
            }
        }
        taken
    }

    /// A change of the members is committed: what was proposed behind it needs the new ones only. Those who leave may never answer, and need
    /// not: a quorum of the old members has the change, so whoever leads next knows of it and asks the new members too.
    pub fn settle(&mut self, settled: &Arc<Memberships>) {
        for proposal in &mut self.outstanding {
            if proposal.memberships.last_seen.version == settled.committed.version {
                proposal.memberships = settled.clone();
            }
        }
    }

    /// The servers that have acknowledged it.
    pub fn having(&self, zxid: Zxid) -> BTreeSet<ServerId> {
        self.acknowledged.iter().filter(|(_, mark)| **mark >= zxid).map(|(server, _)| *server).collect()
    }

    /// How far a server has acknowledged.
    pub fn mark(&self, server: ServerId) -> Option<Zxid> {
        self.acknowledged.get(&server).copied()
    }

    /// The last transaction proposed; the beginning of the epoch, or before that the end of the history, where there is none yet.
    pub fn proposed(&self) -> Zxid {
        self.proposed
    }

    /// The last transaction committed.
    pub fn committed(&self) -> Zxid {
        self.committed
    }

    /// How many transactions are proposed and not committed.
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::membership::{Member, Role};

    fn membership(servers: impl IntoIterator<Item = i64>) -> Membership {
        let member = Member { addresses: Vec::new(), role: Role::Participant, client: None };
        let members: BTreeMap<_, _> = servers.into_iter().map(|id| (ServerId(id), member.clone())).collect();
        Membership { members, groups: None, version: Zxid::ZERO }
    }

    fn propose(proposals: &mut Proposals, memberships: &Arc<Memberships>, count: usize) {
        for _ in 0..count {
            proposals.propose(Record::new(proposals.next_zxid(), b""), memberships.clone(), None);
        }
    }

    fn committed(proposals: &mut Proposals) -> Vec<i64> {
        proposals.take_committed(None).iter().map(|proposal| proposal.record.zxid.0).collect()
    }

    #[test]
    fn alone_its_own_disk_commits() {
        let memberships = Arc::new(Memberships::settled(membership([1])));
        let mut proposals = Proposals::new(Zxid(7));
        propose(&mut proposals, &memberships, 2);
        proposals.acknowledge(ServerId(1), Zxid(8));
        assert_eq!((committed(&mut proposals), committed(&mut proposals)), (vec![8], vec![]));
        proposals.acknowledge(ServerId(1), Zxid(9));
        assert_eq!((committed(&mut proposals), proposals.committed(), proposals.outstanding()), (vec![9], Zxid(9), 0));
    }

    #[test]
    fn a_quorum_commits_without_the_slowest_and_a_stranger_does_not_count() {
        let memberships = Arc::new(Memberships::settled(membership(1..=3)));
        let mut proposals = Proposals::new(Zxid(0));
        propose(&mut proposals, &memberships, 4);
        proposals.acknowledge(ServerId(9), Zxid(4));
        proposals.acknowledge(ServerId(2), Zxid(4));
        assert_eq!(committed(&mut proposals), []);
        proposals.acknowledge(ServerId(3), Zxid(2));
        assert_eq!(committed(&mut proposals), [1, 2]);
        proposals.acknowledge(ServerId(1), Zxid(3));
        assert_eq!(committed(&mut proposals), [3]);
        proposals.acknowledge(ServerId(3), Zxid(1));
        assert_eq!(proposals.mark(ServerId(3)), Some(Zxid(2)), "what is on disk stays there");
    }

    #[test]
    fn who_begins_anew_has_acknowledged_nothing() {
        let memberships = Arc::new(Memberships::settled(membership(1..=3)));
        let mut proposals = Proposals::new(Zxid(0));
        propose(&mut proposals, &memberships, 1);
        proposals.acknowledge(ServerId(2), Zxid(1));
        proposals.forget(ServerId(2));
        proposals.acknowledge(ServerId(1), Zxid(1));
        assert_eq!(committed(&mut proposals), []);
        proposals.acknowledge(ServerId(2), Zxid(1));
        assert_eq!(committed(&mut proposals), [1]);
    }

    #[test]
    fn a_reconfiguration_needs_both_quorums_and_what_is_behind_it_the_new_one() {
        let old = Arc::new(Memberships::settled(membership(1..=3)));
        let both = Arc::new(Memberships::new(membership(1..=3), membership(3..=5)));
        let new = Arc::new(Memberships::settled(membership(3..=5)));
        let mut proposals = Proposals::new(Zxid(0));
        propose(&mut proposals, &old, 1);
        proposals.propose(Record::new(Zxid(2), b""), both.clone(), Some(membership(3..=5)));
        propose(&mut proposals, &both, 1);
        for server in [1, 2] {
            proposals.acknowledge(ServerId(server), Zxid(2));
        }
        assert_eq!((committed(&mut proposals), committed(&mut proposals)), (vec![1], vec![]));
        for server in [4, 5] {
            proposals.acknowledge(ServerId(server), Zxid(3));
        }
        assert_eq!((committed(&mut proposals), committed(&mut proposals)), (vec![2], vec![]), "before it is in force");
        proposals.settle(&new);
        assert_eq!(committed(&mut proposals), [3], "those who leave are not asked");
        propose(&mut proposals, &new, 1);
        proposals.acknowledge(ServerId(4), Zxid(4));
        proposals.acknowledge(ServerId(1), Zxid(4));
        assert_eq!(committed(&mut proposals), []);
        proposals.acknowledge(ServerId(3), Zxid(4));
        assert_eq!(committed(&mut proposals), [4]);
    }

    #[test]
    fn a_reconfiguration_ends_what_is_committed_at_once() {
        let both = Arc::new(Memberships::new(membership(1..=3), membership(1..=2)));
        let mut proposals = Proposals::new(Zxid(0));
        propose(&mut proposals, &both, 1);
        proposals.propose(Record::new(Zxid(2), b""), both.clone(), Some(membership(1..=2)));
        propose(&mut proposals, &both, 1);
        for server in [1, 2] {
            proposals.acknowledge(ServerId(server), Zxid(3));
        }
        assert_eq!((committed(&mut proposals), committed(&mut proposals)), (vec![1, 2], vec![3]));
    }

    #[test]
    fn a_used_up_epoch_is_followed_by_the_next() {
        assert_eq!(Proposals::new(Zxid::new(2, u32::MAX)).next_zxid(), Zxid::new(3, 1));
        let mut proposals = Proposals::new(Zxid::new(1, 9));
        proposals.begin_epoch(Zxid::new(3, 0));
        assert_eq!((proposals.next_zxid(), proposals.committed()), (Zxid::new(3, 1), Zxid::new(1, 9)));
    }

    #[test]
    #[should_panic(expected = "only 0x1 was proposed")]
    fn nobody_can_acknowledge_what_was_not_proposed() {
        Proposals::new(Zxid(1)).acknowledge(ServerId(1), Zxid(2));
    }
}
