//! Who belongs to the ensemble, where each member listens, and whose voice counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rookeeper_proto::ServerId;

use crate::quorum::Quorum;

/// Votes or only listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Votes, and may lead.
    Participant,
    /// Follows without a vote.
    Observer,
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Role::Participant => "participant",
            Role::Observer => "observer",
        })
    }
}

/// A host and a port, not resolved: names may change their addresses while the server runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Name or address, without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
}

/// One address of a member.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MemberAddress {
    /// Name or address, resolved again at every use.
    pub host: String,
    /// Where its learners connect while it leads.
    pub quorum_port: u16,
    /// Where elections are held.
    pub election_port: u16,
}

/// One server of the ensemble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// At least one; several only with `multiAddress.enabled`.
    pub addresses: Vec<MemberAddress>,
    /// Its part in the ensemble.
    pub role: Role,
    /// Where its clients connect, if the server line says so.
    pub client: Option<HostPort>,
}

/// Hierarchical quorums: a quorum is a majority of weight in a majority of groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups {
    /// Group of each server.
    pub group_of: BTreeMap<ServerId, i64>,
    /// Votes of each participant, 1 unless configured.
    pub weight_of: BTreeMap<ServerId, i64>,
}

/// All members of one version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    pub members: BTreeMap<ServerId, Member>,
    /// None for simple majorities.
    pub groups: Option<Groups>,
    /// Zxid of the reconfiguration that made it; 0 for one written by hand.
    pub version: i64,
}

impl Membership {
    /// Those who vote, by their role. One of them may still have no weight.
    pub fn participants(&self) -> impl Iterator<Item = ServerId> {
        self.members.iter().filter(|(_, member)| member.role == Role::Participant).map(|(id, _)| *id)
    }

    pub fn is_participant(&self, server: ServerId) -> bool {
        self.members.get(&server).is_some_and(|member| member.role == Role::Participant)
    }

    /// Panics without participants: a parsed membership has some.
    pub fn quorum(&self) -> Quorum {
        match &self.groups {
            None => Quorum::majority(self.participants()),
            Some(groups) => {
                let mut by_group: BTreeMap<i64, BTreeMap<ServerId, u64>> = BTreeMap::new();
                for server in self.participants() {
                    let weight = groups.weight_of.get(&server).copied().unwrap_or(1).max(0).unsigned_abs();
                    if let Some(group) = groups.group_of.get(&server) {
                        by_group.entry(*group).or_default().insert(server, weight);
                    }
                }
                Quorum::hierarchical(by_group.into_values())
            }
        }
    }
}

/// The membership in force, and the newest one known, which a reconfiguration in progress has proposed; the same where there is none.
/// What needs a quorum needs it in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memberships {
    pub committed: Membership,
    pub last_seen: Membership,
    committed_quorum: Quorum,
    last_seen_quorum: Quorum,
}

impl Memberships {
    pub fn new(committed: Membership, last_seen: Membership) -> Memberships {
        let (committed_quorum, last_seen_quorum) = (committed.quorum(), last_seen.quorum());
        Memberships { committed, last_seen, committed_quorum, last_seen_quorum }
    }

    /// No reconfiguration is in progress.
    pub fn settled(membership: Membership) -> Memberships {
        Memberships::new(membership.clone(), membership)
    }

    /// Whether these servers suffice in both.
    pub fn is_reached_by(&self, servers: &BTreeSet<ServerId>) -> bool {
        self.committed_quorum.is_reached_by(servers) && self.last_seen_quorum.is_reached_by(servers)
    }

    pub fn committed_quorum(&self) -> &Quorum {
        &self.committed_quorum
    }

    pub fn last_seen_quorum(&self) -> &Quorum {
        &self.last_seen_quorum
    }

    /// A voter in either.
    pub fn is_voter(&self, server: ServerId) -> bool {
        self.committed.is_participant(server) || self.last_seen.is_participant(server)
    }

    /// The voters of both.
    pub fn voters(&self) -> BTreeSet<ServerId> {
        self.committed.participants().chain(self.last_seen.participants()).collect()
    }
}
