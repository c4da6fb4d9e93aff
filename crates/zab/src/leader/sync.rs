//! How a learner is brought to the leader's history: by what it lacks, by cutting what it has too much, or by a snapshot.
//!
//! What always holds: the choice depends on nothing but the leader's history, what of it counts as committed, and where the learner's
//! history ends; what is committed is never cut; in doubt it is the snapshot.
//!
//! A learner must never delete a record that may have been committed because of that learner's copy, not even for a moment. Until this leader
//! is established it does not know how much of its history is committed, and a snapshot holds only what is known to be. The records behind
//! that leave the learner's disk until they are sent again; if enough servers lose their power in that moment, committed records are lost.
//! So a snapshot goes only to a learner that
//! - has no more than the snapshot holds, or
//! - left the way of this leader's history in an epoch behind which another one was established. A quorum without it has entered that
//!   epoch with everything the two share, is preferred in every election, and is what counts from then on.
//!
//! Counterpart in the original: `LearnerHandler.syncFollower`.

use rookeeper_proto::quorum::QuorumPacket;
use rookeeper_proto::{Epoch, MonotonicMs, Zxid};

use super::learner_link::{CatchingUp, LearnerLink, Stage};
use super::{Leader, LeaderOutput, Phase};
use crate::history::History;
use crate::link::{LinkId, LinkOutput, SyncPlan};
use crate::reasons::{DropReason, LeaderEvent, SyncKind};

/// How one learner is brought to the leader's history. Where records follow, those up to the committed one are sent as proposal and commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SyncMethod {
    /// DIFF, then the records after `after`.
    Diff { zxid: Zxid, after: Zxid },
    /// TRUNC, then the records after the same zxid.
    Truncate { to: Zxid },
    /// SNAP, then what is not in the snapshot.
    Snapshot,
    /// Memory does not reach back that far: the log on disk is asked.
    AskLog { after: Zxid, before: Zxid },
    /// Its history, which ends there, comes from a future that this leader knows nothing of.
    Refuse { last: Zxid },
}

/// Chooses how a learner is brought to the leader's history, from what the leader has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SyncPlanner<'a> {
    pub history: &'a History,
    /// The last record that counts as committed; before the leader is established that is the last one there is.
    pub committed: Zxid,
    /// The last epoch that it had entered before its own.
    pub entered: Epoch,
    pub epoch: Epoch,
    pub force_snapshot: bool,
}

impl SyncPlanner<'_> {
    /// The method for a learner whose history ends at `last`.
    pub fn method(&self, last: Zxid) -> SyncMethod {
        let SyncPlanner { history, committed, .. } = *self;
        let has_more = last > history.committed();
        if self.force_snapshot && !has_more {
            return SyncMethod::Snapshot;
        }
        if last.epoch() > self.epoch {
            return SyncMethod::Refuse { last };
        }
        if last == committed {
            return SyncMethod::Diff { zxid: committed, after: committed };
        }
        if last > committed {
            return match last.counter() {
                // It stands for the beginning of an epoch, of which there is no record where the log could be cut.
                0 => self.method_from_a_later_epoch(last),
                _ => SyncMethod::Truncate { to: committed },
            };
        }
        if last < history.start() {
            return SyncMethod::AskLog { after: last, before: first_in_memory(history) };
        }
        // From here on there is a record after it in memory.
        let known = last == history.start() || last.counter() == 0 || has(history, last);
        match known {
            true => SyncMethod::Diff { zxid: committed, after: last },
            // Within an epoch there is no gap, so it went another way in an older epoch: behind the last record it shares with this
            // leader, if that is of the same epoch and it surely has it.
            false => match last_before(history, last) {
                shared if has_more && shared.epoch() == last.epoch() => SyncMethod::Truncate { to: shared },
                _ => SyncMethod::Snapshot,
            },
        }
    }

    /// The method after which the history is on the learner's disk even if the learner is an observer of the original's kind, which keeps records
    /// in memory.
    fn durable_method(&self, last: Zxid) -> SyncMethod {
        match self.method(last) {
            SyncMethod::Diff { after, .. } if last > self.history.committed() || after == self.committed => {
                self.method(last)
            }
            SyncMethod::Diff { .. } | SyncMethod::AskLog { .. } => SyncMethod::Snapshot,
            method => method,
        }
    }

    /// The learner is at the beginning of an epoch, without a record of it; the leader has nothing of that epoch either.
    fn method_from_a_later_epoch(&self, last: Zxid) -> SyncMethod {
        let SyncPlanner { history, committed, .. } = *self;
        if history.committed() >= committed {
            return SyncMethod::Snapshot;
        }
        // A learner at the beginning of an epoch got there by the snapshot of a leader that a quorum had acknowledged. Where this server
        // has entered that epoch too, both began it with the same history and have added nothing since.
        match self.entered >= last.epoch() {
            true => SyncMethod::Diff { zxid: committed, after: committed },
            false => SyncMethod::Refuse { last },
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
        let may_begin = |link: &LearnerLink, last: Option<Zxid>| {
            last.is_some() || link.asked.is_some_and(|asked| asked <= confirmed)
        };
        let waiting = self.links.iter().filter_map(|(id, link)| match link.stage {
            Stage::AwaitingSync { last } if may_begin(link, last) => Some((*id, last)),
            _ => None,
        });
        let waiting: Vec<(LinkId, Option<Zxid>)> = waiting.collect();
        let planner = SyncPlanner {
            history,
            committed: self.proposals.committed(),
            entered: self.start.current_epoch,
            epoch: self.epoch,
            force_snapshot: self.settings.force_snapshot_sync,
        };
        for (id, last) in waiting {
            if !self.is_contested(id, last) {
                let method = match last {
                    None => SyncMethod::Snapshot,
                    Some(last) if self.counts_as_observer(id) => planner.durable_method(last),
                    Some(last) => planner.method(last),
                };
                self.sync_by(history, id, last, method, false);
            }
        }
    }

    /// Voters that may have lost their disks wait until a quorum without them has said, after they came, that it still follows.
    fn ask_for_those_who_know_nothing(&mut self) {
        let knows_nothing = |link: &LearnerLink| matches!(link.stage, Stage::AwaitingSync { last: None });
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
    pub fn sync_planned(&mut self, _now_ms: MonotonicMs, history: &History, id: LinkId, plan: SyncPlan) {
        let Some(Stage::Planning { last }) = self.links.get(&id).map(|link| &link.stage) else { return };
        let last = *last;
        if self.is_contested(id, Some(last)) {
            return;
        }
        let method = match plan {
            SyncPlan::Log => SyncMethod::Diff { zxid: self.proposals.committed(), after: last },
            SyncPlan::Snapshot => SyncMethod::Snapshot,
        };
        self.sync_by(history, id, Some(last), method, true);
    }

    fn sync_by(&mut self, history: &History, id: LinkId, last: Option<Zxid>, method: SyncMethod, from_log: bool) {
        if !self.may_sync(id, method == SyncMethod::Snapshot) {
            self.drop_link(id, DropReason::TooManySyncs);
            return;
        }
        let (first, after, by) = match method {
            SyncMethod::Refuse { last } => {
                let entered = self.start.current_epoch;
                let why = DropReason::UnknownHistory { last, epoch: self.epoch, entered };
                self.drop_link(id, why);
                return;
            }
            SyncMethod::AskLog { after, before } => {
                if let Some(link) = self.links.get_mut(&id) {
                    link.stage = Stage::Planning { last: after };
                    self.outputs.push_back(LeaderOutput::ToLearner(id, LinkOutput::PlanSync { after, before }));
                }
                return;
            }
            SyncMethod::Diff { zxid, after } => (Some(QuorumPacket::Diff { zxid }), after, SyncKind::Diff { to: zxid }),
            SyncMethod::Truncate { to } => (Some(QuorumPacket::Trunc { zxid: to }), to, SyncKind::Truncate { to }),
            // The tree that is sent is at what is applied, or after it.
            SyncMethod::Snapshot => (None, history.committed(), SyncKind::Snapshot),
        };
        let Some(link) = self.links.get_mut(&id) else { return };
        let by_snapshot = first.is_none();
        let lacks_records = matches!(method, SyncMethod::Diff { zxid, after } if zxid != after);
        let is_durable_when_acknowledged = !link.is_observer() || !lacks_records;
        link.stage = Stage::Syncing(CatchingUp { by_snapshot, is_durable_when_acknowledged, ..CatchingUp::default() });
        let (name, follower) = (link.name(), link.follower());
        if let Some(server) = follower {
            // What it had acknowledged it may be told to cut, or have lost.
            self.proposals.forget(server);
            self.stop_being_alone();
        }
        self.log(LeaderEvent::Syncing { learner: name, last, by });
        let under_way = self.syncs_under_way(by_snapshot);
        self.outputs.push_back(LeaderOutput::SyncBegan { by_snapshot, under_way });
        match first {
            Some(packet) => self.send(id, &packet),
            None => self.outputs.push_back(LeaderOutput::ToLearner(id, LinkOutput::StreamSnapshot)),
        }
        if from_log && !by_snapshot {
            let before = first_in_memory(history);
            self.outputs.push_back(LeaderOutput::ToLearner(id, LinkOutput::StreamLog { after, before }));
        }
        self.send_rest(history, id, after, follower.is_none());
    }

    /// History after `after`, with its commits; what is proposed and not committed; NEWLEADER.
    fn send_rest(&mut self, history: &History, id: LinkId, after: Zxid, observer: bool) {
        for record in history.after(after) {
            let zxid = record.zxid;
            let committed = zxid <= self.proposals.committed();
            if !committed && observer {
                break;
            }
            self.outputs.push_back(LeaderOutput::ToLearner(id, LinkOutput::Send(record.proposal())));
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
pub(crate) fn first_in_memory(history: &History) -> Zxid {
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

    fn diff(zxid: Zxid, after: Zxid) -> SyncMethod {
        SyncMethod::Diff { zxid, after }
    }

    /// Of the leader of epoch 4 that was in epoch 3 before.
    fn planner(history: &History, committed: Zxid) -> SyncPlanner<'_> {
        SyncPlanner { history, committed, entered: Epoch(3), epoch: Epoch(4), force_snapshot: false }
    }

    #[test]
    fn every_place_where_a_learner_can_be() {
        let committed = zxid(3, 2);
        let ask = |after| SyncMethod::AskLog { after, before: zxid(1, 6) };
        for (last, way) in [
            // Behind memory.
            (zxid(0, 0), ask(zxid(0, 0))),
            (zxid(1, 0), ask(zxid(1, 0))),
            (zxid(1, 4), ask(zxid(1, 4))),
            // In memory.
            (zxid(1, 5), diff(committed, zxid(1, 5))),
            (zxid(1, 6), diff(committed, zxid(1, 6))),
            (zxid(1, 7), diff(committed, zxid(1, 7))),
            (zxid(3, 1), diff(committed, zxid(3, 1))),
            (zxid(3, 2), diff(committed, zxid(3, 2))),
            // Another way in an old epoch.
            (zxid(1, 8), SyncMethod::Snapshot),
            (zxid(2, 1), SyncMethod::Snapshot),
            (zxid(2, u32::MAX as i64), SyncMethod::Snapshot),
            // The beginning of an epoch, with all history before it.
            (zxid(2, 0), diff(committed, zxid(2, 0))),
            (zxid(3, 0), diff(committed, zxid(3, 0))),
            // More than is committed, known here or not.
            (zxid(3, 3), SyncMethod::Truncate { to: committed }),
            (zxid(3, 4), SyncMethod::Truncate { to: committed }),
            (zxid(4, 1), SyncMethod::Truncate { to: committed }),
            (zxid(4, 0), SyncMethod::Snapshot),
            // Beyond this leader's epoch.
            (zxid(5, 0), SyncMethod::Refuse { last: zxid(5, 0) }),
            (zxid(5, 1), SyncMethod::Refuse { last: zxid(5, 1) }),
            (Zxid(i64::MAX), SyncMethod::Refuse { last: Zxid(i64::MAX) }),
        ] {
            let mut history = history();
            history.commit(zxid(3, 3));
            let planner = planner(&history, committed);
            assert_eq!(planner.method(last), way, "{last}");
            if last <= zxid(3, 3) {
                let forced = SyncPlanner { force_snapshot: true, ..planner };
                assert_eq!(forced.method(last), SyncMethod::Snapshot, "{last}, forced");
            }
        }
    }

    /// Found in simulation: a follower that had acknowledged (1,7) was sent the snapshot of a leader that had applied (1,5), and lost
    /// its power before it had (1,7) again.
    #[test]
    fn nobody_gives_up_what_may_be_committed_for_a_snapshot() {
        let (history, committed) = (history(), zxid(3, 3));
        for (last, way) in [
            (zxid(1, 5), SyncMethod::Snapshot),
            (zxid(1, 6), diff(committed, zxid(1, 6))),
            (zxid(1, 7), diff(committed, zxid(1, 7))),
            (zxid(1, 8), SyncMethod::Truncate { to: zxid(1, 7) }),
            (zxid(3, 3), diff(committed, committed)),
            (zxid(3, 4), SyncMethod::Truncate { to: committed }),
        ] {
            assert_eq!(
                SyncPlanner { force_snapshot: true, ..planner(&history, committed) }.method(last),
                way,
                "{last}"
            );
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
        assert_eq!(planner(&history, committed).method(zxid(3, 0)), diff(committed, committed), "both have the same");
        let elsewhere = SyncPlanner { entered: Epoch(2), ..planner(&history, committed) };
        assert_eq!(elsewhere.method(zxid(3, 0)), SyncMethod::Refuse { last: zxid(3, 0) }, "nobody knows what it has");
        history.commit(committed);
        assert_eq!(
            planner(&history, committed).method(zxid(3, 0)),
            SyncMethod::Snapshot,
            "everything is in the snapshot"
        );
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
                let left = match planner(&history, committed).method(last) {
                    SyncMethod::Diff { after, .. } => after,
                    SyncMethod::Truncate { to } => {
                        let shared = whole.iter().copied().filter(|zxid| *zxid <= last).max();
                        assert!(
                            last > to && shared.is_some_and(|shared| to >= shared.min(committed)),
                            "{last} was cut at {to}"
                        );
                        to
                    }
                    SyncMethod::Snapshot | SyncMethod::AskLog { .. } | SyncMethod::Refuse { .. } => continue,
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
            (zxid(2, 8), SyncMethod::AskLog { after: zxid(2, 8), before: zxid(2, 10) }),
            (zxid(2, 10), SyncMethod::Truncate { to: committed }),
        ] {
            assert_eq!(planner(&history, committed).method(last), way, "{last}");
        }
        let fresh = History::new(Zxid::ZERO, 500);
        assert_eq!(planner(&fresh, Zxid::ZERO).method(Zxid::ZERO), diff(Zxid::ZERO, Zxid::ZERO));
    }
}
