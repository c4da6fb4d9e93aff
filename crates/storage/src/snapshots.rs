//! When a snapshot is taken, given up and named, and what is purged.
//!
//! A snapshot reads the tree in short portions; what changes meanwhile is in the log behind it. What always holds here:
//! - no snapshot holds anything that another leader may take back: none is taken before this server serves, and one that is being taken is
//!   given up when it ceases to;
//! - a snapshot has its name only when everything that it may show is durable in the log;
//! - snapshots are taken and old files removed only while nobody rewrites the history.

use std::sync::Arc;
use std::time::SystemTime;

use rookeeper_proto::Zxid;
use rookeeper_replica::{Serving, Shared};
use rookeeper_store::{
    OngoingSnapshot, PurgeOptions, Purged, Purger, SnapshotStep, StoreError, Whole, WrittenSnapshot,
};

use crate::files::Files;
use crate::log_position::HistoryHold;

/// A snapshot is taken once the log has grown by at least this share of the last snapshot's size. So a large database under many
/// writes spends at most two bytes of snapshots on a byte of log, and a restart replays at most half of what it loads.
const LOG_SHARE: u64 = 2;

/// Takes snapshots, one after the other, and removes old files.
#[derive(Debug)]
pub struct Snapshotter {
    files: Arc<Files>,
    shared: Arc<Shared>,
    purger: Purger,
    purge_options: PurgeOptions,
    /// The size of the last snapshot, and what the log has got since.
    last_bytes: u64,
    logged_bytes: u64,
    ongoing: Option<Ongoing>,
}

#[derive(Debug)]
struct Ongoing {
    snapshot: OngoingSnapshot,
    /// Of the tree that it shows.
    incarnation: u64,
    /// It is whole, and shows a part of everything up to here.
    shows: Option<Zxid>,
}

/// How far a snapshot is.
#[derive(Debug, PartialEq, Eq)]
pub enum Taking {
    /// There is more to do.
    More,
    /// There is more to do in a moment: the tree has a part of a transaction.
    Pause,
    /// There is more to do once the log is durable up to here, or never will be.
    WaitsFor(Zxid),
    Taken(WrittenSnapshot),
    /// The history is rewritten, this server has ceased to know what is committed, or another tree was restored.
    GivenUp,
}

impl Snapshotter {
    /// `first`: the snapshot that the start has written.
    pub fn new(
        files: Arc<Files>,
        shared: Arc<Shared>,
        purge_options: PurgeOptions,
        first: Option<&WrittenSnapshot>,
    ) -> Snapshotter {
        Snapshotter {
            files,
            shared,
            purger: Purger::new(),
            purge_options,
            last_bytes: first.map_or(0, |first| first.bytes),
            logged_bytes: 0,
            ongoing: None,
        }
    }

    /// Whether a snapshot is to be taken now that the log has got so many bytes more. Too early is while the log since the last snapshot is
    /// small beside that: replaying it costs less than writing everything again.
    pub fn is_due(&mut self, logged_bytes: u64) -> bool {
        self.logged_bytes += logged_bytes;
        self.logged_bytes >= self.last_bytes / LOG_SHARE && self.knows_what_is_committed()
    }

    /// Whether the tree holds nothing that another leader may take back.
    fn knows_what_is_committed(&self) -> bool {
        matches!(self.shared.status_board.serving(), Serving::Deciding | Serving::Forwarding)
    }

    /// Goes on with a snapshot, or begins one. `durable`: whether the log is durable up to a transaction; none while that may still come. The
    /// hold is the same from the first step to the one that is neither of `More`, `Pause` and `WaitsFor`.
    pub fn step(
        &mut self,
        _hold: &HistoryHold,
        durable: impl FnOnce(Zxid) -> Option<bool>,
    ) -> Result<Taking, StoreError> {
        let mut ongoing = self.ongoing.take().unwrap_or_else(|| Ongoing {
            snapshot: OngoingSnapshot::begin(&self.files.directories.snapshot_dir, &self.files.options.snapshots),
            incarnation: self.shared.tree().incarnation(),
            shows: None,
        });
        let disk = &*self.files.disk;
        if let Some(shows) = ongoing.shows {
            // The tree may be ahead of this server's disk where others have made a transaction durable.
            return match durable(shows) {
                None => {
                    self.ongoing = Some(ongoing);
                    Ok(Taking::WaitsFor(shows))
                }
                Some(true) => {
                    let written = ongoing.snapshot.publish(disk)?;
                    Ok(self.taken(written))
                }
                Some(false) => {
                    ongoing.snapshot.give_up(disk);
                    Ok(Taking::GivenUp)
                }
            };
        }
        let mut is_given_up = false;
        let step = ongoing.snapshot.step(disk, &mut |read| {
            let tree = self.shared.tree();
            // Another tree may be in its place as soon as nobody is served any more, or because it was restored.
            is_given_up = !self.knows_what_is_committed() || tree.incarnation() != ongoing.incarnation;
            if !is_given_up {
                read(&tree);
            }
        });
        if is_given_up {
            ongoing.snapshot.give_up(disk);
            return Ok(Taking::GivenUp);
        }
        let taking = match step? {
            SnapshotStep::More => Taking::More,
            SnapshotStep::Pause => Taking::Pause,
            SnapshotStep::Whole(Whole::Written { shows }) => {
                ongoing.shows = Some(shows);
                Taking::More
            }
            SnapshotStep::Whole(Whole::Present(present)) => return Ok(self.taken(present)),
        };
        self.ongoing = Some(ongoing);
        Ok(taking)
    }

    /// Up to where the tree has got by now; another leader takes nothing of it back.
    pub fn applied(&self) -> Zxid {
        self.shared.tree().last_zxid()
    }

    fn taken(&mut self, written: WrittenSnapshot) -> Taking {
        self.logged_bytes = 0;
        self.last_bytes = written.bytes;
        Taking::Taken(written)
    }

    /// Removes old files.
    pub fn purge(&mut self, _hold: &HistoryHold, now: SystemTime) -> Result<Purged, StoreError> {
        self.purger.purge(&*self.files.disk, &self.files.directories, &self.purge_options, now)
    }
}
