//! A server's word about its disk is true: acknowledged transactions, promised epochs, votes. Committed transactions are on the disks of a
//! quorum.

use std::collections::BTreeSet;

use rookeeper_proto::{Epoch, ServerId, Zxid};
use rookeeper_zab::{Membership, Memberships, Quorum};

use super::Verdict;

/// The data that one server has made durable, as its storage said, and its promises to others that rest on that.
#[derive(Debug, Default, Clone)]
pub struct Promises {
    pub durable: Zxid,
    /// The newest transaction acknowledged and not taken back since.
    pub acknowledged: Zxid,
    pub accepted: Epoch,
    pub current: Epoch,
    /// Votes for this server that others sent to it since its start.
    votes_heard: BTreeSet<(Round, Zxid)>,
}

/// `electionEpoch`, the logical clock.
type Round = i64;

impl Promises {
    /// ACK(zxid) leaves.
    pub fn acknowledges(&mut self, server: usize, zxid: Zxid) -> Verdict {
        if zxid > self.durable {
            return Err(format!("durability: server {server} acknowledges {zxid}, but its disk has {}", self.durable));
        }
        self.acknowledged = self.acknowledged.max(zxid);
        Ok(())
    }

    /// An ACK of NEWLEADER leaves; `stored` is what the disk has as currentEpoch.
    pub fn acknowledges_leader(&self, server: usize, epoch: Epoch, stored: Option<Epoch>) -> Verdict {
        if epoch < self.accepted {
            return Err(format!(
                "promises: server {server} acknowledges the leader of {epoch:x} after it has accepted {:x}",
                self.accepted
            ));
        }
        if stored.is_none_or(|stored| stored < epoch) {
            return Err(format!(
                "durability: server {server} acknowledges the leader of {epoch:x} with currentEpoch {stored:?}"
            ));
        }
        Ok(())
    }

    /// ACKEPOCH or LEADERINFO leaves; `stored` is what the disk has as acceptedEpoch.
    pub fn promises(&self, server: usize, epoch: Epoch, stored: Option<Epoch>) -> Verdict {
        if stored.is_none_or(|stored| stored < epoch) {
            return Err(format!("durability: server {server} promises epoch {epoch:x} with acceptedEpoch {stored:?}"));
        }
        Ok(())
    }

    /// A vote for this server arrives.
    pub fn hears_vote(&mut self, round: Round, zxid: Zxid) {
        self.votes_heard.insert((round, zxid));
    }

    /// The server votes for itself. As in the original the vote may repeat an older opinion of others, from before the server's log was cut and its
    /// process ended. A server that leads because of such a vote asks its followers for their histories before it does anything.
    pub fn votes(&self, server: usize, round: Round, zxid: Zxid) -> Verdict {
        if self.votes_heard.contains(&(round, zxid)) { Ok(()) } else { self.claims(server, zxid) }
    }

    /// ACKEPOCH leaves, or a vote that nobody suggested.
    pub fn claims(&self, server: usize, zxid: Zxid) -> Verdict {
        if zxid > self.durable {
            return Err(format!("durability: server {server} claims {zxid}, but its disk has {}", self.durable));
        }
        Ok(())
    }

    /// The history ends at `zxid` because a leader said so.
    pub fn cut(&mut self, zxid: Zxid) {
        self.durable = zxid;
        self.acknowledged = self.acknowledged.min(zxid);
    }

    /// After a start: what the disk had.
    pub fn recovered(&mut self, server: usize, last: Zxid, accepted: Epoch, current: Epoch) -> Verdict {
        if last < self.acknowledged {
            return Err(format!(
                "durability: server {server} came back with {last} after it had acknowledged {}",
                self.acknowledged
            ));
        }
        if accepted < self.accepted || current < self.current {
            return Err(format!(
                "durability: server {server} came back with epochs {accepted:x}/{current:x} after {:x}/{:x}",
                self.accepted, self.current
            ));
        }
        if last.epoch() > current || current > accepted {
            return Err(format!(
                "durability: server {server} came back at {last} with epochs {accepted:x}/{current:x}"
            ));
        }
        (self.durable, self.accepted, self.current) = (last, accepted, current);
        self.votes_heard.clear();
        Ok(())
    }

    /// The server wrote these epochs; none for one that it left as it was.
    pub fn stored(&mut self, server: usize, accepted: Option<Epoch>, current: Option<Epoch>) -> Verdict {
        let (old_accepted, old_current) = (self.accepted, self.current);
        self.accepted = accepted.unwrap_or(old_accepted);
        self.current = current.unwrap_or(old_current);
        if self.accepted < old_accepted || self.current < old_current {
            return Err(format!(
                "durability: an epoch of server {server} went back: {:?}",
                (old_accepted, old_current, self)
            ));
        }
        Ok(())
    }
}

/// A transaction was applied for the first time, or a server has given it up: `holders` have it on disk.
pub fn committed(quorum: &Quorum, holders: &BTreeSet<ServerId>, zxid: Zxid) -> Verdict {
    if !quorum.is_reached_by(holders) {
        return Err(format!("durability: {zxid} is committed, but only on the disks of {holders:?}"));
    }
    Ok(())
}

/// A membership is put into force without a record of it: whoever leads next must know of it, so a quorum of the old one and of its own
/// has it in its files.
pub fn known(old: &Quorum, new: &Membership, holders: &BTreeSet<ServerId>) -> Verdict {
    if !old.is_reached_by(holders) || !new.quorum().is_reached_by(holders) {
        return Err(format!("durability: membership {:x} is in force, but only {holders:?} know of it", new.version));
    }
    Ok(())
}

/// A server begins with the members that it found. It counts with all that its log knows of, because it may have acknowledged that.
pub fn begins(server: usize, with: &Memberships, in_log: Option<Zxid>) -> Verdict {
    let newest = with.committed.version.max(with.last_seen.version);
    match in_log.filter(|in_log| *in_log > newest) {
        Some(in_log) => Err(format!("members: server {server} begins with {newest:x} although its log has {in_log:x}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_accepted_an_epoch_follows_no_leader_of_an_older_one() {
        let mut promises = Promises::default();
        assert_eq!(promises.stored(1, Some(Epoch(5)), Some(Epoch(4))), Ok(()));
        assert_eq!(promises.acknowledges_leader(1, Epoch(5), Some(Epoch(5))), Ok(()));
        assert!(promises.acknowledges_leader(1, Epoch(4), Some(Epoch(4))).unwrap_err().starts_with("promises: "));
        assert!(promises.acknowledges_leader(1, Epoch(5), Some(Epoch(4))).unwrap_err().starts_with("durability: "));
    }

    #[test]
    fn only_what_others_say_of_it_may_be_more_than_the_disk_has() {
        let zxid = |counter| Zxid::new(1, counter);
        let mut promises = Promises::default();
        assert_eq!(promises.recovered(5, zxid(3), Epoch(1), Epoch(1)), Ok(()));
        assert_eq!(promises.votes(5, 1, zxid(3)), Ok(()));
        promises.hears_vote(2, zxid(5));
        assert_eq!(promises.votes(5, 2, zxid(5)), Ok(()));
        for verdict in [promises.votes(5, 3, zxid(5)), promises.votes(5, 2, zxid(4)), promises.claims(5, zxid(5))] {
            assert!(verdict.unwrap_err().contains("its disk has 0x100000003"));
        }
        assert_eq!(promises.recovered(5, zxid(3), Epoch(1), Epoch(1)), Ok(()));
        assert!(promises.votes(5, 2, zxid(5)).is_err());
    }

    #[test]
    fn a_server_begins_with_what_its_log_knows() {
        let of = |version| {
            let text = format!("server.{version}=127.0.0.1:1:2;3\nversion={version}");
            Membership::parse_text(text, false).unwrap()
        };
        let with = Memberships::new(of(3), of(5));
        for (in_log, is_right) in [(None, true), (Some(4), true), (Some(5), true), (Some(6), false)] {
            assert_eq!(begins(1, &with, in_log.map(Zxid)).is_ok(), is_right, "{in_log:?}");
        }
    }

    #[test]
    fn a_membership_is_known_where_quorums_of_both_have_it() {
        let text = (3..=5).map(|id| format!("server.{id}=127.0.0.{id}:1:2;3\n")).collect::<String>() + "version=9";
        let (old, new) = (Quorum::majority((1..=3).map(ServerId)), Membership::parse_text(text, false).unwrap());
        let verdict = |holders: &[i64]| known(&old, &new, &holders.iter().copied().map(ServerId).collect());
        assert_eq!(verdict(&[2, 3, 4]), Ok(()));
        for too_few in [&[2, 3][..], &[3, 4], &[1, 2, 4], &[3, 4, 5], &[]] {
            assert!(verdict(too_few).unwrap_err().contains("membership 9 is in force"), "{too_few:?}");
        }
    }
}
