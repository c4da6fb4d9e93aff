//! One learner's connection, as the leader knows it, or a follower that feeds observers: which packets it may send now, and what it is owed.
//!
//! What always holds: a link goes through its stages in their order, each at most once; what only one stage needs is kept in that stage.

use std::sync::Arc;

use rookeeper_proto::{MonotonicMs, ServerId, Zxid};

use crate::link::LinkId;
use crate::reasons::{DropReason, LeaderEvent, LearnerName};

/// Who is at the other end, by its own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub server: ServerId,
    /// Whether it came to listen only: it is sent no proposals, and acknowledges none.
    pub observer: bool,
}

/// How far a learner is.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Nothing heard.
    Greeting,
    /// It is known; the epoch is not.
    AwaitingEpoch,
    /// LEADERINFO is sent.
    AwaitingEpochAck,
    /// ACKEPOCH is here; not enough others'. Its history ends at `last`; `None` where it lost its database.
    AwaitingSync { last: Option<Zxid> },
    /// The same, but another link of the same server stands, which may be alive. The answer to this ping of that link would show it.
    Contested { last: Option<Zxid>, older: LinkId, ping: Option<u64> },
    /// The storage looks what its log can do.
    Planning { last: Zxid },
    /// Everything up to NEWLEADER is sent, and from here on all that is decided.
    Syncing(CatchingUp),
    /// NEWLEADER is acknowledged; UPTODATE waits until a quorum has done so.
    AwaitingUpToDate(CatchingUp),
    /// UPTODATE is sent.
    Synced(Serving),
}

#[derive(Debug, Default)]
pub(crate) struct CatchingUp {
    /// It gets a snapshot, not a part of the log.
    pub by_snapshot: bool,
    /// When it acknowledges NEWLEADER, the history is on its disk. The original's observers keep records that they are sent in memory until
    /// UPTODATE, and a snapshot on disk.
    pub is_durable_when_acknowledged: bool,
    /// Commits that wait for UPTODATE.
    pub held_commits: Vec<Arc<[u8]>>,
}

#[derive(Debug, Default)]
pub(crate) struct Serving {
    /// A proposal that it has not acknowledged, and since when it could have; at most as old as the oldest.
    pub unacknowledged: Option<(Zxid, MonotonicMs)>,
    /// Pings sent and answered since UPTODATE; answers come in order.
    pub pinged: u64,
    pub echoed: u64,
}

impl Stage {
    /// What the learner is at, as a part of a sentence for [`DropReason::OutOfPlace`].
    pub fn name(&self) -> &'static str {
        match self {
            Stage::Greeting => "it has not said who it is",
            Stage::AwaitingEpoch => "it waits for the epoch",
            Stage::AwaitingEpochAck => "it is to acknowledge the epoch",
            Stage::AwaitingSync { .. } | Stage::Planning { .. } => "it waits for what it lacks",
            Stage::Contested { .. } => "an older link of the same server stands",
            Stage::Syncing(_) => "it is to acknowledge this leader",
            Stage::AwaitingUpToDate(_) => "it waits for the others",
            Stage::Synced(_) => "it is up to date",
        }
    }
}

#[derive(Debug)]
pub(crate) struct LearnerLink {
    peer: String,
    /// None only in the first stage.
    pub identity: Option<Identity>,
    pub stage: Stage,
    pub heard_ms: MonotonicMs,
    /// It knows nothing, and gets a history when a quorum has confirmed this ticket.
    pub asked: Option<u64>,
    /// It was told that this learner is late; not again until it has caught up.
    warned: bool,
}

impl LearnerLink {
    /// A link that was just accepted. `peer` is the address that it comes from.
    pub fn new(peer: String, now_ms: MonotonicMs) -> LearnerLink {
        LearnerLink { peer, identity: None, stage: Stage::Greeting, heard_ms: now_ms, asked: None, warned: false }
    }

    /// What the log calls the learner.
    pub fn name(&self) -> LearnerName {
        let identity = self.identity.map(|identity| (identity.server, identity.observer));
        LearnerName { identity, peer: self.peer.clone() }
    }

    /// Whether the learner has said that it comes to listen only.
    pub fn is_observer(&self) -> bool {
        self.identity.is_some_and(|identity| identity.observer)
    }

    /// The server, if its acknowledgements may count.
    pub fn follower(&self) -> Option<ServerId> {
        self.identity.filter(|identity| !identity.observer).map(|identity| identity.server)
    }

    /// Whether it gets what is decided.
    pub fn is_registered(&self) -> bool {
        matches!(self.stage, Stage::Syncing(_) | Stage::AwaitingUpToDate(_) | Stage::Synced(_))
    }

    /// Whether UPTODATE is sent.
    pub fn is_synced(&self) -> bool {
        matches!(self.stage, Stage::Synced(_))
    }

    /// A proposal went out to it.
    pub fn sent_proposal(&mut self, now_ms: MonotonicMs, zxid: Zxid) {
        if let Stage::Synced(serving) = &mut self.stage {
            serving.unacknowledged.get_or_insert((zxid, now_ms));
        }
    }

    /// It has acknowledged everything up to `zxid`; `proposed` is what it could have.
    pub fn acknowledged(&mut self, now_ms: MonotonicMs, zxid: Zxid, proposed: Zxid) {
        if let Stage::Synced(serving) = &mut self.stage
            && serving.unacknowledged.is_some_and(|(oldest, _)| oldest <= zxid)
        {
            serving.unacknowledged = (zxid < proposed).then_some((proposed, now_ms));
        }
    }

    /// How long a learner that is up to date has been silent, or has had something without acknowledging it, whichever is longer.
    pub fn behind_ms(&self, now_ms: MonotonicMs) -> Option<i64> {
        let Stage::Synced(serving) = &self.stage else { return None };
        let waited_ms = serving.unacknowledged.map_or(0, |(_, since_ms)| now_ms - since_ms);
        Some(waited_ms.max(now_ms - self.heard_ms))
    }

    /// What to say of a learner that was late for half of the time it has, once for each time it falls behind.
    pub fn late(&mut self, now_ms: MonotonicMs, sync_ms: i64) -> Option<LeaderEvent> {
        let behind_ms = self.behind_ms(now_ms)?;
        let is_late = behind_ms >= sync_ms / 2;
        let says = is_late && !self.warned;
        self.warned = is_late;
        says.then(|| LeaderEvent::Late { learner: self.name(), behind_ms, limit_ms: sync_ms })
    }

    /// Why this learner should be dropped now, if it should. Stages in which the learner waits for this server have no limit.
    pub fn overdue(&self, now_ms: MonotonicMs, init_ms: i64, sync_ms: i64) -> Option<DropReason> {
        let limit_ms = match &self.stage {
            Stage::Greeting | Stage::AwaitingEpochAck | Stage::Syncing(_) => init_ms,
            Stage::Synced(_) => sync_ms,
            Stage::AwaitingEpoch
            | Stage::AwaitingSync { .. }
            | Stage::Contested { .. }
            | Stage::Planning { .. }
            | Stage::AwaitingUpToDate(_) => {
                return None;
            }
        };
        let silent_ms = now_ms - self.heard_ms;
        if silent_ms >= limit_ms {
            return Some(DropReason::Silent { silent_ms });
        }
        let Stage::Synced(Serving { unacknowledged: Some((zxid, since_ms)), .. }) = &self.stage else { return None };
        let waited_ms = now_ms - *since_ms;
        (waited_ms >= sync_ms).then_some(DropReason::Unacknowledged { zxid: *zxid, waited_ms })
    }

    /// Time passed in which nobody could be heard.
    pub fn excuse(&mut self, late_ms: i64) {
        self.heard_ms += late_ms;
        if let Stage::Synced(Serving { unacknowledged: Some((_, since_ms)), .. }) = &mut self.stage {
            *since_ms += late_ms;
        }
    }
}
