//! One learner's connection, as the leader knows it.

use std::sync::Arc;

use rookeeper_proto::{ServerId, Zxid};

/// How far a learner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing heard.
    Greeting,
    /// It is known; the epoch is not.
    AwaitingEpoch,
    /// LEADERINFO is sent.
    AwaitingPromise,
    /// ACKEPOCH is here; not enough others'.
    AwaitingSync,
    /// The storage looks what its log can do.
    Planning,
    /// Everything up to NEWLEADER is sent, and from here on all that is decided.
    Syncing,
    /// NEWLEADER is acknowledged.
    Entered,
    /// UPTODATE is sent.
    Synced,
}

impl Stage {
    /// Whether it gets what is decided.
    pub fn is_registered(self) -> bool {
        matches!(self, Stage::Syncing | Stage::Entered | Stage::Synced)
    }
}

#[derive(Debug)]
pub(super) struct LearnerLink {
    peer: String,
    pub server: Option<ServerId>,
    pub observer: bool,
    pub stage: Stage,
    /// The end of its history.
    pub last: Zxid,
    pub heard_ms: i64,
    /// Commits that wait for UPTODATE.
    pub held_commits: Vec<Arc<[u8]>>,
    /// A proposal that it has not acknowledged, and since when it could have; at most as old as the oldest.
    pub unacknowledged: Option<(Zxid, i64)>,
    /// Pings sent and answered; answers come in order.
    pub pinged: u64,
    pub echoed: u64,
    /// It gets a snapshot, not a part of the log.
    pub by_snapshot: bool,
}

impl LearnerLink {
    pub fn new(peer: String, now_ms: i64) -> LearnerLink {
        LearnerLink {
            peer,
            server: None,
            observer: false,
            stage: Stage::Greeting,
            last: Zxid::ZERO,
            heard_ms: now_ms,
            held_commits: Vec::new(),
            unacknowledged: None,
            pinged: 0,
            echoed: 0,
            by_snapshot: false,
        }
    }

    pub fn name(&self) -> String {
        match self.server {
            Some(server) => {
                format!("{} {} ({})", if self.observer { "observer" } else { "follower" }, server.0, self.peer)
            }
            None => format!("a learner that has not said who it is ({})", self.peer),
        }
    }

    /// Why it is given up now, if it is.
    pub fn overdue(&self, now_ms: i64, init_ms: i64, sync_ms: i64) -> Option<String> {
        let limit_ms = if self.stage == Stage::Synced { sync_ms } else { init_ms };
        let silent_ms = now_ms - self.heard_ms;
        if silent_ms >= limit_ms {
            return Some(format!("nothing heard for {silent_ms} ms"));
        }
        let (zxid, since_ms) = self.unacknowledged.filter(|_| self.stage == Stage::Synced)?;
        (now_ms - since_ms >= sync_ms).then(|| format!("{zxid} is not acknowledged after {} ms", now_ms - since_ms))
    }
}
