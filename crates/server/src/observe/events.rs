//! Elections, how servers are brought up to date, and how often they were short of room, counted by what happened.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_replica::Event;
use rookeeper_zab::{LeaderEvent, LearnerEvent};

/// What a server tells of itself, then a leader of its learners, then a learner of how it is brought up to date.
const NAMES: [&str; 20] = [
    "elected",
    "leads",
    "follows",
    "serves_readers",
    "no_longer_leads",
    "lost_leader",
    "membership_in_force",
    "membership_unreadable",
    "short_of_disk",
    "short_of_memory",
    "learner_dropped",
    "learner_turned_away",
    "learner_lost",
    "learner_late",
    "learner_syncing",
    "goes_on_alone",
    "synced_by_diff",
    "synced_by_truncation",
    "synced_by_snapshot",
    "master_not_reached",
];

/// How often each happened. Never reset.
#[derive(Debug, Default)]
pub(crate) struct Events([AtomicU64; NAMES.len()]);

/// What an event is counted as; none for what only tells how another one goes on.
fn name(event: &Event) -> Option<&'static str> {
    Some(match event {
        Event::Elected { .. } => "elected",
        Event::Leads { .. } => "leads",
        Event::Follows { .. } => "follows",
        Event::ServesReaders => "serves_readers",
        Event::NoLongerLeads(_) => "no_longer_leads",
        Event::LostLeader { .. } | Event::LostMaster { .. } => "lost_leader",
        Event::MembershipInForce { .. } => "membership_in_force",
        Event::MembershipUnreadable(_) => "membership_unreadable",
        Event::LearnerDropped { .. } | Event::Leader(LeaderEvent::Dropping { .. }) => "learner_dropped",
        Event::Leader(LeaderEvent::TurningAway { .. }) => "learner_turned_away",
        Event::Leader(LeaderEvent::Lost { .. }) => "learner_lost",
        Event::Leader(LeaderEvent::Late { .. }) => "learner_late",
        Event::Leader(LeaderEvent::Syncing { .. }) => "learner_syncing",
        Event::Leader(LeaderEvent::GoesOnAlone) => "goes_on_alone",
        Event::Learner(LearnerEvent::Diff { .. }) => "synced_by_diff",
        Event::Learner(LearnerEvent::Truncate { .. }) => "synced_by_truncation",
        Event::Learner(LearnerEvent::Snapshot { .. }) => "synced_by_snapshot",
        Event::MasterNotReached { .. } => "master_not_reached",
        Event::DiskShort { .. } => "short_of_disk",
        Event::MemoryShort { .. } => "short_of_memory",
        Event::SnapshotReceived { .. }
        | Event::FedBy { .. }
        | Event::WaitsToReconnect { .. }
        | Event::FeedsObservers
        | Event::DiskHasRoom { .. }
        | Event::MemoryHasRoom { .. } => return None,
    })
}

impl Events {
    /// Counts what the replica says.
    pub fn note(&self, event: &Event) {
        let Some(name) = name(event) else { return };
        let index = NAMES.iter().position(|known| *known == name).expect("each event has its place");
        self.0[index].fetch_add(1, Relaxed);
    }

    /// Each by its name.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, i64)> {
        NAMES.iter().zip(&self.0).map(|(name, count)| (*name, count.load(Relaxed) as i64))
    }
}

#[cfg(test)]
mod tests {
    use rookeeper_proto::{Epoch, ServerId, Zxid};

    use super::*;

    #[test]
    fn events_are_counted_by_what_happened() {
        let events = Events::default();
        let leads = Event::Leads { epoch: Epoch(3), last: Zxid(5), took_ms: 7 };
        events.note(&leads);
        events.note(&leads);
        events.note(&Event::Leader(LeaderEvent::GoesOnAlone));
        events.note(&Event::Learner(LearnerEvent::Snapshot { last: None, at: Zxid(5) }));
        events.note(&Event::SnapshotReceived { zxid: Zxid(5), bytes: 1, nodes: 1 });
        events.note(&Event::Follows { leader: ServerId(2), epoch: Epoch(3), committed: Zxid(5), took_ms: 7 });
        let counted: Vec<_> = events.counts().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("leads", 2), ("follows", 1), ("goes_on_alone", 1), ("synced_by_snapshot", 1)]);
    }
}
