//! How a learner is brought to the leader's history: by what it lacks, by cutting what it has too much, or by a snapshot.
//!
//! What always holds: the choice depends on nothing but the leader's history, what of it counts as committed, and where the learner's
//! history ends; what is committed is never cut; in doubt it is the snapshot.
//!
//! And nobody gives up, even for a moment, what its copy is counted for. Until this leader is established it does not know what of its
//! history is committed, and a snapshot holds only what is known to be: what the learner has beyond that leaves its disk until it is sent
//! again, and if enough servers lost their power in that moment it would be lost. So a snapshot goes only to a learner that
//! - has no more than the snapshot holds, or
//! - left the way of this leader's history in an epoch behind which another one was established. A quorum without it has entered that
//!   epoch with everything the two share, is preferred in every election, and is what counts from then on.
//!
//! Counterpart in the original: `LearnerHandler.syncFollower`.

use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_proto::{Epoch, Zxid};

use super::learner_link::{CatchingUp, LearnerLink, Stage};
use super::{Leader, LeaderOutput, Phase};
use crate::history::History;
use crate::link::{LinkId, SyncPlan};

/// The way for one learner. Where records follow, those up to the committed one are sent as proposal and commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// DIFF, then the records after `after`.
    Diff { zxid: Zxid, after: Zxid },
    /// TRUNC, then the records after the same zxid.
    Truncate { to: Zxid },
    /// SNAP, then what is not in the snapshot.
    Snapshot,
    /// Memory does not reach back that far: the log on disk is asked.
    AskLog { before: Zxid },
    /// It comes from a future that this leader knows nothing of.
    Refuse,
}

/// What the leader has to offer.
#[derive(Debug, Clone, Copy)]
struct Offer<'a> {
    history: &'a History,
    /// The last record that counts as committed; before the leader is established that is the last one there is.
    committed: Zxid,
    /// The last epoch that it had entered before its own.
    entered: Epoch,
    epoch: Epoch,
    force_snapshot: bool,
}

impl Offer<'_> {
    /// The way for a learner whose history ends at `last`.
    fn way(&self, last: Zxid) -> Way {
        let Offer { history, committed, .. } = *self;
        let has_more = last > history.committed();
        if (self.force_snapshot && !has_more) || last < Zxid::ZERO {
            return Way::Snapshot;
        }
        if last.epoch() > self.epoch {
            return Way::Refuse;
        }
        if last == committed {
            return Way::Diff { zxid: committed, after: committed };
        }
        if last > committed {
            return match last.counter() {
                // It stands for the beginning of an epoch, of which there is no record where the log could be cut.
                0 => self.way_from_a_later_epoch(last),
                _ => Way::Truncate { to: committed },
            };
        }
        if last < history.start() {
            return Way::AskLog { before: first_in_memory(history) };
        }
        // From here on there is a record after it in memory.
        let known = last == history.start() || last.counter() == 0 || has(history, last);
        match known {
            true => Way::Diff { zxid: committed, after: last },
            // Within an epoch there is no gap, so it went another way in an older epoch: behind the last record it shares with this
            // leader, if that is of the same epoch and it surely has it.
            false => match last_before(history, last) {
                shared if has_more && shared.epoch() == last.epoch() => Way::Truncate { to: shared },
                _ => Way::Snapshot,
            },
        }
    }

    /// The way after which the history is on the learner's disk also where it is an observer of the original's, if there is one.
    fn way_to_disk(&self, last: Zxid) -> Way {
        match self.way(last) {
            Way::Diff { after, .. } if last > self.history.committed() || after == self.committed => self.way(last),
            Way::Diff { .. } | Way::AskLog { .. } => Way::Snapshot,
            way => way,
        }
    }

    /// The learner is at the beginning of an epoch, without a record of it; the leader has nothing of that epoch either.
    fn way_from_a_later_epoch(&self, last: Zxid) -> Way {
        let Offer { history, committed, .. } = *self;
        if history.committed() >= committed {
            return Way::Snapshot;
        }
        // Who is there got it in a snapshot of a leader that was established. Where this server has entered that epoch as well, both
        // began it with the same history, and have added nothing since.
        match self.entered >= last.epoch() {
            true => Way::Diff { zxid: committed, after: committed },
            false => Way::Refuse,
        }
    }
}

impl Leader {
    /// Begins with all that wait for it.
    pub(super) fn sync_waiting(&mut self, history: &History) {
        // A server that may have lost its disk gets a history only when others have established this leader. With that history it counts
        // again, and what it promised to a newer leader before, and acknowledged there, is forgotten.
        // And others may have followed a newer leader since, with the help of that very server, before it lost its disk and came here, and this
        // server not have heard of it because it stood still. So a quorum of those that have their disks is asked first.
        if self.phase == Phase::Broadcasting {
            self.ask_for_those_who_know_nothing();
        }
        let confirmed = self.confirmation.confirmed;
        let may_begin =
            |link: &LearnerLink, last| last != Zxid(-1) || link.asked.is_some_and(|asked| asked <= confirmed);
        let waiting = self.links.iter().filter_map(|(id, link)| match link.stage {
            Stage::AwaitingSync { last } if may_begin(link, last) => Some((*id, last)),
            _ => None,
        });
        let waiting: Vec<(LinkId, Zxid)> = waiting.collect();
        let offer = Offer {
            history,
            committed: self.book.committed(),
            entered: self.start.current_epoch,
            epoch: self.epoch,
            force_snapshot: self.settings.force_snapshot_sync,
        };
        for (id, last) in waiting {
            if !self.is_contested(id, last) {
                let way = if self.counts_as_observer(id) { offer.way_to_disk(last) } else { offer.way(last) };
                self.sync_by(history, id, last, way, false);
            }
        }
    }

    /// Voters that may have lost their disks wait until a quorum without them has said, after they came, that it still follows.
    fn ask_for_those_who_know_nothing(&mut self) {
        let knows_nothing = |link: &LearnerLink| matches!(link.stage, Stage::AwaitingSync { last: Zxid(-1) });
        let new = self.links.iter().filter(|(_, link)| knows_nothing(link) && link.asked.is_none()).map(|(id, _)| *id);
        for id in new.collect::<Vec<LinkId>>() {
            // An observer's copy counts for nothing.
            let asked = if self.voter_at(id).is_some() { self.ask_quorum() } else { 0 };
            if let Some(link) = self.links.get_mut(&id) {
                link.asked = Some(asked);
            }
        }
    }

    /// Begins with those that waited for the end of an older link of theirs.
    pub(super) fn sync_released(&mut self, history: &History) {
        if std::mem::take(&mut self.claims.released)
            && matches!(self.phase, Phase::Syncing | Phase::Activating | Phase::Broadcasting)
        {
            self.sync_waiting(history);
        }
    }

    /// Whether a quorum for this leader may need the observer at the other end, which has a vote in a membership that it has not heard of.
    fn counts_as_observer(&self, id: LinkId) -> bool {
        self.phase == Phase::Syncing && self.voter_at(id).is_some() && self.voter(id).is_none()
    }

    /// What the log can do for a learner is known.
    pub fn sync_planned(&mut self, _now_ms: i64, history: &History, id: LinkId, plan: SyncPlan) {
        let Some(Stage::Planning { last }) = self.links.get(&id).map(|link| &link.stage) else { return };
        let last = *last;
        if self.is_contested(id, last) {
            return;
        }
        let way = match plan {
            SyncPlan::Log => Way::Diff { zxid: self.book.committed(), after: last },
            SyncPlan::Snapshot => Way::Snapshot,
        };
        self.sync_by(history, id, last, way, true);
    }

    fn sync_by(&mut self, history: &History, id: LinkId, last: Zxid, way: Way, from_log: bool) {
        if !self.may_sync(id, way == Way::Snapshot) {
            self.drop_link(id, "too many learners are being brought up to date; it may try again".to_owned());
            return;
        }
        let (first, after, how) = match way {
            Way::Refuse => {
                let entered = self.start.current_epoch;
                let why = format!(
                    "its history ends at {last}, of which this leader of epoch {:x}, in epoch {entered:x} before, knows nothing",
                    self.epoch
                );
                self.drop_link(id, why);
                return;
            }
            Way::AskLog { before } => {
                if let Some(link) = self.links.get_mut(&id) {
                    link.stage = Stage::Planning { last };
                    self.outputs.push_back(LeaderOutput::PlanSync { link: id, after: last, before });
                }
                return;
            }
            Way::Diff { zxid, after } => {
                let how = format!("sending what it lacks up to {zxid} (DIFF)");
                (Some(QuorumPacket::Diff { zxid }), after, how)
            }
            Way::Truncate { to } => {
                let how = format!("it has to go back to {to} (TRUNC)");
                (Some(QuorumPacket::Trunc { zxid: to }), to, how)
            }
            // The tree that is sent is at what is applied, or after it.
            Way::Snapshot => (None, history.committed(), "sending a snapshot (SNAP)".to_owned()),
        };
        let Some(link) = self.links.get_mut(&id) else { return };
        let by_snapshot = first.is_none();
        let lacks_records = matches!(way, Way::Diff { zxid, after } if zxid != after);
        let is_durable_when_entered = !link.is_observer() || !lacks_records;
        link.stage = Stage::Syncing(CatchingUp { by_snapshot, is_durable_when_entered, ..CatchingUp::default() });
        let (name, follower) = (link.name(), link.follower());
        if let Some(server) = follower {
            // What it had acknowledged it may be told to cut, or have lost.
            self.book.forget(server);
        }
        self.log(false, format!("{name} is at {last}: {how}"));
        let under_way = self.syncs_under_way(by_snapshot);
        self.outputs.push_back(LeaderOutput::SyncBegan { by_snapshot, under_way });
        match first {
            Some(packet) => self.send(id, &packet),
            None => self.outputs.push_back(LeaderOutput::StreamSnapshot { link: id }),
        }
        if from_log && !by_snapshot {
            let before = first_in_memory(history);
            self.outputs.push_back(LeaderOutput::StreamLog { link: id, after, before });
        }
        self.send_rest(history, id, after, follower.is_none());
    }

    /// History after `after`, with its commits; what is proposed and not committed; NEWLEADER.
    fn send_rest(&mut self, history: &History, id: LinkId, after: Zxid, observer: bool) {
        for record in history.after(after) {
            let zxid = record.zxid;
            let committed = zxid <= self.book.committed();
            if !committed && observer {
                break;
            }
            self.outputs.push_back(LeaderOutput::ToLearner { link: id, bytes: record.proposal() });
            if committed {
                self.send(id, &QuorumPacket::Commit { zxid });
            }
        }
        // The learner puts this membership into force with UPTODATE, so one that may still fail must not be in it.
        let membership = match self.phase {
            Phase::Broadcasting => self.memberships.committed.to_string(),
            _ => self.memberships.last_seen.to_string(),
        };
        self.send(id, &QuorumPacket::NewLeader { epoch: Zxid::new(self.epoch, 0), config: membership.as_bytes() });
    }

    /// Those who vote are always served.
    fn may_sync(&self, id: LinkId, by_snapshot: bool) -> bool {
        let Some(link) = self.links.get(&id) else { return false };
        let limit = match by_snapshot {
            true => self.settings.max_concurrent_snap_syncs,
            false => self.settings.max_concurrent_diff_syncs,
        };
        !link.is_observer() || self.syncs_under_way(by_snapshot) < limit
    }

    pub(super) fn syncs_under_way(&self, by_snapshot: bool) -> usize {
        let same_way = |link: &&LearnerLink| matches!(&link.stage, Stage::Syncing(catching_up) if catching_up.by_snapshot == by_snapshot);
        self.links.values().filter(same_way).count()
    }
}

/// Everything from here on is in memory; where memory is empty, everything after the history's end.
fn first_in_memory(history: &History) -> Zxid {
    history.after(history.start()).next().map_or(Zxid(history.start().0 + 1), |record| record.zxid)
}

fn has(history: &History, zxid: Zxid) -> bool {
    history.after(Zxid(zxid.0 - 1)).next().is_some_and(|record| record.zxid == zxid)
}

/// The last record up to `zxid` that is in memory, or the one before memory.
fn last_before(history: &History, zxid: Zxid) -> Zxid {
    let earlier = history.after(history.start()).map(|record| record.zxid).take_while(|record| *record <= zxid);
    earlier.last().unwrap_or(history.start())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Record;

    const fn zxid(epoch: i64, counter: i64) -> Zxid {
        Zxid(epoch << 32 | counter)
    }

    /// On disk up to (1,5); in memory (1,6), (1,7), (3,1), (3,2), (3,3).
    fn history() -> History {
        let mut history = History::new(zxid(1, 5), 500);
        for zxid in [zxid(1, 6), zxid(1, 7), zxid(3, 1), zxid(3, 2), zxid(3, 3)] {
            history.push(Record::new(zxid, b"")).unwrap();
        }
        history
    }

    fn diff(zxid: Zxid, after: Zxid) -> Way {
        Way::Diff { zxid, after }
    }

    /// Of the leader of epoch 4 that was in epoch 3 before.
    fn offer(history: &History, committed: Zxid) -> Offer<'_> {
        Offer { history, committed, entered: 3, epoch: 4, force_snapshot: false }
    }

    #[test]
    fn every_place_where_a_learner_can_be() {
        let committed = zxid(3, 2);
        let before = zxid(1, 6);
        for (last, way) in [
            (Zxid(-1), Way::Snapshot),
            (Zxid(i64::MIN), Way::Snapshot),
            // Behind memory.
            (zxid(0, 0), Way::AskLog { before }),
            (zxid(1, 0), Way::AskLog { before }),
            (zxid(1, 4), Way::AskLog { before }),
            // In memory.
            (zxid(1, 5), diff(committed, zxid(1, 5))),
            (zxid(1, 6), diff(committed, zxid(1, 6))),
            (zxid(1, 7), diff(committed, zxid(1, 7))),
            (zxid(3, 1), diff(committed, zxid(3, 1))),
            (zxid(3, 2), diff(committed, zxid(3, 2))),
            // Another way in an old epoch.
            (zxid(1, 8), Way::Snapshot),
            (zxid(2, 1), Way::Snapshot),
            (zxid(2, u32::MAX as i64), Way::Snapshot),
            // The beginning of an epoch, with all history before it.
            (zxid(2, 0), diff(committed, zxid(2, 0))),
            (zxid(3, 0), diff(committed, zxid(3, 0))),
            // More than is committed, known here or not.
            (zxid(3, 3), Way::Truncate { to: committed }),
            (zxid(3, 4), Way::Truncate { to: committed }),
            (zxid(4, 1), Way::Truncate { to: committed }),
            (zxid(4, 0), Way::Snapshot),
            // Beyond this leader's epoch.
            (zxid(5, 0), Way::Refuse),
            (zxid(5, 1), Way::Refuse),
            (Zxid(i64::MAX), Way::Refuse),
        ] {
            let mut history = history();
            history.commit(zxid(3, 3));
            let offer = offer(&history, committed);
            assert_eq!(offer.way(last), way, "{last}");
            if last <= zxid(3, 3) {
                let forced = Offer { force_snapshot: true, ..offer };
                assert_eq!(forced.way(last), Way::Snapshot, "{last}, forced");
            }
        }
    }

    /// Found in simulation: a follower that had acknowledged (1,7) was sent the snapshot of a leader that had applied (1,5), and lost
    /// its power before it had (1,7) again.
    #[test]
    fn nobody_gives_up_what_may_be_committed_for_a_snapshot() {
        let (history, committed) = (history(), zxid(3, 3));
        for (last, way) in [
            (zxid(1, 5), Way::Snapshot),
            (zxid(1, 6), diff(committed, zxid(1, 6))),
            (zxid(1, 7), diff(committed, zxid(1, 7))),
            (zxid(1, 8), Way::Truncate { to: zxid(1, 7) }),
            (zxid(3, 3), diff(committed, committed)),
            (zxid(3, 4), Way::Truncate { to: committed }),
        ] {
            assert_eq!(Offer { force_snapshot: true, ..offer(&history, committed) }.way(last), way, "{last}");
        }
    }

    /// One that has followed an established leader, of the original's kind, into epoch 3 by a snapshot, says that it is at (3,0).
    /// This server has entered epoch 3 too and does not know yet that (1,6) and (1,7) are committed, so its snapshot lacks them.
    #[test]
    fn the_beginning_of_an_epoch_is_not_given_up_for_a_snapshot_that_holds_less() {
        let committed = zxid(1, 7);
        let mut history = History::new(zxid(1, 5), 500);
        for zxid in [zxid(1, 6), committed] {
            history.push(Record::new(zxid, b"")).unwrap();
        }
        assert_eq!(offer(&history, committed).way(zxid(3, 0)), diff(committed, committed), "both have the same");
        let elsewhere = Offer { entered: 2, ..offer(&history, committed) };
        assert_eq!(elsewhere.way(zxid(3, 0)), Way::Refuse, "nobody knows what it has");
        history.commit(committed);
        assert_eq!(offer(&history, committed).way(zxid(3, 0)), Way::Snapshot, "everything is in the snapshot");
    }

    /// The same again, by a walk over every zxid around: the records sent continue what is left of the learner's history.
    #[test]
    fn what_is_sent_continues_what_is_left() {
        let history = history();
        let mut whole: Vec<Zxid> = (0..=5).map(|counter| zxid(1, counter)).collect();
        whole.extend(history.after(Zxid::ZERO).map(|record| record.zxid));
        for (epoch, counter) in (0..=4).flat_map(|epoch| (0..=9).map(move |counter| (epoch, counter))) {
            let last = zxid(epoch, counter);
            for committed in [zxid(1, 7), zxid(3, 1), zxid(3, 3)] {
                let left = match offer(&history, committed).way(last) {
                    Way::Diff { after, .. } => after,
                    Way::Truncate { to } => {
                        let shared = whole.iter().copied().filter(|zxid| *zxid <= last).max();
                        assert!(
                            last > to && shared.is_some_and(|shared| to >= shared.min(committed)),
                            "{last} was cut at {to}"
                        );
                        to
                    }
                    Way::Snapshot | Way::AskLog { .. } | Way::Refuse => continue,
                };
                let next = history.after(left).next().map(|record| record.zxid);
                let expected = whole.iter().copied().find(|zxid| *zxid > left);
                assert_eq!(next, expected, "{last} with {committed}");
                assert!(left.counter() == 0 || whole.contains(&left), "{last} has {left}, which is not history");
            }
        }
    }

    #[test]
    fn without_anything_in_memory_the_end_is_all_there_is() {
        let history = History::new(zxid(2, 9), 500);
        let committed = zxid(2, 9);
        for (last, way) in [
            (zxid(2, 9), diff(committed, committed)),
            (zxid(2, 8), Way::AskLog { before: zxid(2, 10) }),
            (zxid(2, 10), Way::Truncate { to: committed }),
        ] {
            assert_eq!(offer(&history, committed).way(last), way, "{last}");
        }
        let fresh = History::new(Zxid::ZERO, 500);
        assert_eq!(offer(&fresh, Zxid::ZERO).way(Zxid::ZERO), diff(Zxid::ZERO, Zxid::ZERO));
    }
}
