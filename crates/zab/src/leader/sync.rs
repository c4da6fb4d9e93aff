//! How a learner is brought to this server's history.
//!
//! The choice depends on where its history ends, on what is in memory here, and on the log: nothing or the missing part (DIFF), the same
//! after it has cut its log (TRUNC), or everything (SNAP).
//!
//! Counterpart in the original: `LearnerHandler.syncFollower`.

use rookeeper_proto::Zxid;
use rookeeper_proto::quorum::QuorumPacket;

use super::learner_link::Stage;
use super::{Leader, LeaderOutput, Phase};
use crate::history::History;
use crate::link::{LinkId, SyncPlan};

/// What a learner gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Everything after this is sent; its history is this server's up to there.
    Diff {
        after: Zxid,
    },
    /// The same after it has cut its log here.
    Trunc {
        to: Zxid,
    },
    Snap,
    /// The log has to be asked.
    AskLog,
}

/// Chooses by what is in memory. `committed` is the end of what counts as history now.
pub(super) fn choose(history: &History, committed: Zxid, last: Zxid) -> Way {
    if last == committed {
        return Way::Diff { after: last };
    }
    if last > committed {
        // A history that ends with the beginning of an epoch ends with a state, not with a transaction that could be cut off.
        return if last.counter() == 0 { Way::Snap } else { Way::Trunc { to: committed } };
    }
    if last < history.start() {
        return Way::AskLog;
    }
    if last == history.start() {
        return Way::Diff { after: last };
    }
    let mut previous = history.start();
    for record in history.after(history.start()) {
        if record.zxid == last {
            return Way::Diff { after: last };
        }
        if record.zxid > last {
            return if last.counter() == 0 {
                Way::Diff { after: last }
            } else if record.zxid.epoch() == last.epoch() {
                Way::Trunc { to: previous }
            } else {
                Way::Snap
            };
        }
        previous = record.zxid;
    }
    Way::Snap
}

impl Leader {
    /// The end of what counts as history: everything until this leader is established, then what is committed.
    fn history_end(&self, history: &History) -> Zxid {
        match self.phase {
            Phase::Broadcasting => history.committed(),
            _ => history.last(),
        }
    }

    /// Begins with all that wait for it.
    pub(super) fn sync_waiting(&mut self, history: &History) {
        let waiting: Vec<LinkId> =
            self.links.iter().filter(|(_, link)| link.stage == Stage::AwaitingSync).map(|(id, _)| *id).collect();
        for id in waiting {
            let Some(link) = self.links.get(&id) else { continue };
            let way = match self.settings.force_snapshot_sync {
                true => Way::Snap,
                false => choose(history, self.history_end(history), link.last),
            };
            self.sync_by(history, id, way);
        }
    }

    /// What the log can do is known.
    pub fn sync_planned(&mut self, _now_ms: i64, history: &History, id: LinkId, plan: SyncPlan) {
        let Some(link) = self.links.get(&id).filter(|link| link.stage == Stage::Planning) else { return };
        let last = link.last;
        let from_log = |after: Zxid| LeaderOutput::StreamLog { link: id, after, before: first_in_memory(history) };
        match plan {
            SyncPlan::Snapshot => self.sync_by(history, id, Way::Snap),
            SyncPlan::Log => {
                self.greet(id, Way::Diff { after: last }, self.history_end(history));
                self.outputs.push_back(from_log(last));
                self.send_rest(history, id, history.start());
            }
            SyncPlan::TruncateThenLog(to) => {
                self.greet(id, Way::Trunc { to }, to);
                self.outputs.push_back(from_log(to));
                self.send_rest(history, id, history.start());
            }
        }
    }

    fn sync_by(&mut self, history: &History, id: LinkId, way: Way) {
        let end = self.history_end(history);
        if !self.may_sync(id, way) {
            self.drop_link(id, "too many learners are being brought up to date; it may try again".to_owned());
            return;
        }
        match way {
            Way::AskLog => {
                if let Some(link) = self.links.get_mut(&id) {
                    link.stage = Stage::Planning;
                    let (after, before) = (link.last, first_in_memory(history));
                    self.outputs.push_back(LeaderOutput::PlanSync { link: id, after, before });
                }
            }
            Way::Diff { after } => {
                self.greet(id, way, end);
                self.send_rest(history, id, after);
            }
            Way::Trunc { to } => {
                self.greet(id, way, to);
                self.send_rest(history, id, to);
            }
            Way::Snap => {
                self.greet(id, way, end);
                // The tree that is sent is at what is committed, or after it.
                self.send_rest(history, id, history.committed());
            }
        }
    }

    /// Those who vote are always served.
    fn may_sync(&self, id: LinkId, way: Way) -> bool {
        let Some(link) = self.links.get(&id) else { return false };
        let snap = way == Way::Snap;
        let limit =
            if snap { self.settings.max_concurrent_snap_syncs } else { self.settings.max_concurrent_diff_syncs };
        let busy = self.links.values().filter(|link| link.stage == Stage::Syncing && link.by_snapshot == snap).count();
        !link.observer || busy < limit
    }

    fn greet(&mut self, id: LinkId, way: Way, end: Zxid) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.by_snapshot = way == Way::Snap;
        link.stage = Stage::Syncing;
        let (name, last) = (link.name(), link.last);
        match way {
            Way::Diff { .. } => {
                self.log(false, format!("{name} is at {last}: sending what is missing up to {end} (DIFF)"));
                self.send(id, &QuorumPacket::Diff { zxid: end });
            }
            Way::Trunc { to } => {
                self.log(false, format!("{name} is at {last}: it has to go back to {to} (TRUNC)"));
                self.send(id, &QuorumPacket::Trunc { zxid: to });
            }
            Way::Snap | Way::AskLog => {
                self.log(false, format!("{name} is at {last}: sending a snapshot (SNAP)"));
                self.outputs.push_back(LeaderOutput::StreamSnapshot { link: id });
            }
        }
    }

    /// History after `after`, with its commits; what is proposed and not committed; NEWLEADER.
    fn send_rest(&mut self, history: &History, id: LinkId, after: Zxid) {
        let end = self.history_end(history);
        let observer = self.links.get(&id).is_some_and(|link| link.observer);
        for record in history.after(after) {
            let committed = record.zxid <= end;
            if !committed && observer {
                break;
            }
            self.outputs.push_back(LeaderOutput::ToLearner { link: id, bytes: record.proposal() });
            if committed {
                self.send(id, &QuorumPacket::Commit { zxid: record.zxid });
            }
        }
        let config = self.memberships.as_ref().map(|both| both.last_seen.to_string()).unwrap_or_default();
        let epoch = Zxid::new(self.epoch, 0);
        self.send(id, &QuorumPacket::NewLeader { epoch, config: config.as_bytes() });
    }
}

/// The log on disk is needed up to here, exclusively.
fn first_in_memory(history: &History) -> Zxid {
    history.after(history.start()).next().map_or(Zxid(history.start().0 + 1), |record| record.zxid)
}
