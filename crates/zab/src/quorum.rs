//! Which sets of servers can decide.

use std::collections::BTreeSet;

use rookeeper_proto::ServerId;

/// A set of voters of which a majority decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    voters: BTreeSet<ServerId>,
}

impl Quorum {
    /// Panics on an empty set, which could never decide anything.
    pub fn majority(voters: impl IntoIterator<Item = ServerId>) -> Quorum {
        let voters: BTreeSet<ServerId> = voters.into_iter().collect();
        assert!(!voters.is_empty(), "a quorum needs at least one voter");
        Quorum { voters }
    }

    pub fn is_voter(&self, server: ServerId) -> bool {
        self.voters.contains(&server)
    }

    /// Whether these servers suffice; those without a vote do not count.
    pub fn is_reached_by(&self, servers: impl IntoIterator<Item = ServerId>) -> bool {
        let present: BTreeSet<ServerId> = servers.into_iter().filter(|server| self.is_voter(*server)).collect();
        present.len() * 2 > self.voters.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_half_of_the_voters_decide() {
        let quorum = Quorum::majority((1..=4).map(ServerId));
        assert!(!quorum.is_reached_by([1, 2].map(ServerId)));
        assert!(!quorum.is_reached_by([1, 2, 2, 9].map(ServerId)));
        assert!(quorum.is_reached_by([1, 2, 4].map(ServerId)));
        assert!(Quorum::majority([ServerId(1)]).is_reached_by([ServerId(1)]));
    }
}
