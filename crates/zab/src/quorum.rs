//! Which sets of servers can decide.

use std::collections::{BTreeMap, BTreeSet};

use rookeeper_proto::ServerId;

/// The voters, and which of their sets are large enough. Any two sets that are have a voter in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quorum {
    /// More than half of the voters.
    Majority { voters: BTreeSet<ServerId> },
    /// More than half of the weight in more than half of the groups; groups without weight do not count.
    Hierarchical { groups: Vec<BTreeMap<ServerId, u64>> },
}

impl Quorum {
    /// Panics on an empty set, which could never decide anything.
    pub fn majority(voters: impl IntoIterator<Item = ServerId>) -> Quorum {
        let voters: BTreeSet<ServerId> = voters.into_iter().collect();
        assert!(!voters.is_empty(), "a quorum needs at least one voter");
        Quorum::Majority { voters }
    }

    /// Each group gives its servers' weights.
    pub fn hierarchical(groups: impl IntoIterator<Item = BTreeMap<ServerId, u64>>) -> Quorum {
        let groups: Vec<_> = groups.into_iter().filter(|group| group.values().sum::<u64>() > 0).collect();
        assert!(!groups.is_empty(), "a quorum needs at least one voter with weight");
        Quorum::Hierarchical { groups }
    }

    /// Whether the server's voice counts. One of weight 0 votes for nothing and can't lead.
    pub fn is_voter(&self, server: ServerId) -> bool {
        match self {
            Quorum::Majority { voters } => voters.contains(&server),
            Quorum::Hierarchical { groups } => {
                groups.iter().any(|group| group.get(&server).is_some_and(|weight| *weight > 0))
            }
        }
    }

    /// Whether the server is one of at most two that decide by majority. An oracle may let one of such two go on alone.
    pub fn has_half(&self, server: ServerId) -> bool {
        match self {
            Quorum::Majority { voters } => voters.len() <= 2 && voters.contains(&server),
            Quorum::Hierarchical { .. } => false,
        }
    }

    /// Whether these servers suffice; those without a vote do not count.
    pub fn is_reached_by(&self, servers: &BTreeSet<ServerId>) -> bool {
        match self {
            Quorum::Majority { voters } => voters.intersection(servers).count() * 2 > voters.len(),
            Quorum::Hierarchical { groups } => {
                let won = groups.iter().filter(|group| {
                    let all: u64 = group.values().sum();
                    let present: u64 =
                        group.iter().filter(|(id, _)| servers.contains(id)).map(|(_, weight)| weight).sum();
                    present > all / 2
                });
                won.count() > groups.len() / 2
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<const N: usize>(servers: [i64; N]) -> BTreeSet<ServerId> {
        servers.map(ServerId).into()
    }

    #[test]
    fn more_than_half_of_the_voters_decide() {
        let quorum = Quorum::majority((1..=4).map(ServerId));
        assert!(!quorum.is_reached_by(&set([1, 2])));
        assert!(!quorum.is_reached_by(&set([1, 2, 9])));
        assert!(quorum.is_reached_by(&set([1, 2, 4])));
        assert!(Quorum::majority([ServerId(1)]).is_reached_by(&set([1])));
    }

    #[test]
    fn a_majority_of_weight_in_a_majority_of_groups_decides() {
        let group = |members: [(i64, u64); 3]| members.map(|(id, weight)| (ServerId(id), weight)).into();
        let quorum = Quorum::hierarchical([
            group([(1, 1), (2, 1), (3, 1)]),
            group([(4, 1), (5, 1), (6, 3)]),
            group([(7, 1), (8, 1), (9, 1)]),
            group([(10, 0), (11, 0), (12, 0)]),
        ]);
        assert!(quorum.is_reached_by(&set([1, 2, 6])));
        assert!(!quorum.is_reached_by(&set([1, 2, 4, 5])));
        assert!(!quorum.is_reached_by(&set([1, 2, 3, 7])));
        assert!(!quorum.is_voter(ServerId(10)) && quorum.is_voter(ServerId(1)));
    }
}
