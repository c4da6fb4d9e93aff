//! Which follower feeds an observer.
//!
//! What always holds here: each attempt goes to another follower than the one before, where there is another; two observers go through them in
//! different orders, so that they do not all come to the same one.
//!
//! Counterpart in the original: `QuorumPeer.findLearnerMaster`. It tries the leader there too, which never listens.

use rookeeper_proto::ServerId;
use rookeeper_zab::Membership;

/// The attempts of this server until now.
#[derive(Debug, Default)]
pub(crate) struct Masters {
    attempts: usize,
}

impl Masters {
    /// The one of those that vote under this leader whose turn is next, and whether all of them have had theirs; `None` where nobody but the
    /// leader votes.
    pub fn upcoming(&self, membership: &Membership, me: ServerId, leader: ServerId) -> Option<Upcoming> {
        let mut followers: Vec<ServerId> = membership.participants().filter(|server| *server != leader).collect();
        followers.sort_by_key(|server| (mixed(me, server.0), *server));
        let turn = self.attempts.checked_rem(followers.len())?;
        Some(Upcoming { server: *followers.get(turn)?, begins_anew: turn == 0 && self.attempts > 0 })
    }

    /// The same, whose turn this is then.
    pub fn next(&mut self, membership: &Membership, me: ServerId, leader: ServerId) -> Option<ServerId> {
        let upcoming = self.upcoming(membership, me, leader)?;
        self.attempts += 1;
        Some(upcoming.server)
    }
}

/// Whose turn is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Upcoming {
    pub server: ServerId,
    pub begins_anew: bool,
}

/// A number that depends on both numbers, and looks as if it were random.
pub(crate) fn mixed(me: ServerId, other: i64) -> u64 {
    let mut bits =
        (me.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (other as u64).wrapping_mul(0xd1b5_4a32_d192_ed03);
    for _ in 0..2 {
        bits = (bits ^ (bits >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    bits ^ (bits >> 29)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn membership(voters: i64) -> Membership {
        let line = |id| format!("server.{id}=s{id}:1:2:participant;3\n");
        let observer = "server.9=s9:1:2:observer;3\n";
        let lines: String = (1..=voters).map(line).collect();
        Membership::parse_text(format!("{lines}{observer}version=1"), false).unwrap()
    }

    #[test]
    fn all_followers_are_tried_before_one_is_tried_again() {
        let membership = membership(5);
        let mut masters = Masters::default();
        let mut round =
            || -> Vec<i64> { (0..4).map(|_| masters.next(&membership, ServerId(9), ServerId(3)).unwrap().0).collect() };
        let first = round();
        assert_eq!(first.iter().copied().collect::<BTreeSet<i64>>(), BTreeSet::from([1, 2, 4, 5]), "not the leader");
        assert_eq!(round(), first);
    }

    #[test]
    fn observers_begin_with_different_followers() {
        let first = |me| Masters::default().next(&membership(5), ServerId(me), ServerId(3)).unwrap().0;
        let firsts: BTreeSet<i64> = (6..40).map(first).collect();
        assert_eq!(firsts, BTreeSet::from([1, 2, 4, 5]));
    }

    #[test]
    fn a_leader_without_followers_is_all_there_is() {
        assert_eq!(Masters::default().next(&membership(1), ServerId(9), ServerId(1)), None);
    }
}
