//! The leader's book of proposals.
//!
//! What always holds here:
//! - zxids are handed out without gaps within an epoch; after the last number of an epoch the next epoch begins at 1;
//! - a proposal is committed once a quorum has acknowledged it, in order, and never uncommitted;
//! - an acknowledgement of a zxid covers every proposal before it, because each server writes its log in order.

use std::collections::BTreeMap;

use rookeeper_proto::{ServerId, Zxid};

use crate::quorum::Quorum;

#[derive(Debug)]
pub struct Broadcast {
    quorum: Quorum,
    proposed: Zxid,
    committed: Zxid,
    acknowledged: BTreeMap<ServerId, Zxid>,
}

impl Broadcast {
    /// Starts behind a history that ends, durable and committed, at `last`.
    pub fn new(quorum: Quorum, last: Zxid) -> Broadcast {
        Broadcast { quorum, proposed: last, committed: last, acknowledged: BTreeMap::new() }
    }

    /// The zxid that [`Broadcast::propose`] will hand out next.
    pub fn next(&self) -> Zxid {
        self.proposed.next().unwrap_or_else(|| Zxid::new(self.proposed.epoch() + 1, 1))
    }

    /// Gives the next transaction its place in the order.
    pub fn propose(&mut self) -> Zxid {
        self.proposed = self.next();
        self.proposed
    }

    /// `server` has everything up to `zxid` on disk. Returns the committed zxid where that moved it.
    pub fn acknowledge(&mut self, server: ServerId, zxid: Zxid) -> Option<Zxid> {
        assert!(
            zxid <= self.proposed,
            "server {server:?} acknowledged {zxid}, but only {} was proposed",
            self.proposed
        );
        let entry = self.acknowledged.entry(server).or_insert(zxid);
        *entry = zxid.max(*entry);
        // The highest zxid that a quorum has reached: some server's own mark.
        let reached =
            self.acknowledged.values().copied().filter(|candidate| *candidate > self.committed).filter(|candidate| {
                let have_it = self
                    .acknowledged
                    .iter()
                    .filter(|(_, zxid)| *zxid >= candidate)
                    .map(|(server, _)| *server)
                    .collect();
                self.quorum.is_reached_by(&have_it)
            });
        let committed = reached.max()?;
        self.committed = committed;
        Some(committed)
    }

    pub fn proposed(&self) -> Zxid {
        self.proposed
    }

    pub fn committed(&self) -> Zxid {
        self.committed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ServerId = ServerId(1);

    #[test]
    fn alone_its_own_disk_commits() {
        let mut broadcast = Broadcast::new(Quorum::majority([ONE]), Zxid(7));
        assert_eq!((broadcast.propose(), broadcast.propose()), (Zxid(8), Zxid(9)));
        assert_eq!(broadcast.acknowledge(ONE, Zxid(8)), Some(Zxid(8)));
        assert_eq!(broadcast.acknowledge(ONE, Zxid(8)), None);
        assert_eq!(broadcast.acknowledge(ONE, Zxid(9)), Some(Zxid(9)));
    }

    #[test]
    fn a_quorum_commits_without_the_slowest_and_an_observer_does_not_count() {
        let mut broadcast = Broadcast::new(Quorum::majority((1..=3).map(ServerId)), Zxid(0));
        for _ in 0..4 {
            broadcast.propose();
        }
        assert_eq!(broadcast.acknowledge(ServerId(9), Zxid(4)), None);
        assert_eq!(broadcast.acknowledge(ServerId(2), Zxid(4)), None);
        assert_eq!(broadcast.acknowledge(ServerId(3), Zxid(2)), Some(Zxid(2)));
        assert_eq!(broadcast.acknowledge(ServerId(1), Zxid(3)), Some(Zxid(3)));
        assert_eq!(broadcast.committed(), Zxid(3));
    }

    #[test]
    fn a_used_up_epoch_is_followed_by_the_next() {
        let mut broadcast = Broadcast::new(Quorum::majority([ONE]), Zxid::new(2, u32::MAX));
        assert_eq!(broadcast.propose(), Zxid::new(3, 1));
    }

    #[test]
    #[should_panic(expected = "only 0x1 was proposed")]
    fn nobody_can_acknowledge_what_was_not_proposed() {
        Broadcast::new(Quorum::majority([ONE]), Zxid(1)).acknowledge(ONE, Zxid(2));
    }
}
