//! The thread that takes snapshots and removes old files, while writes go on.
//!
//! A snapshot reads the tree in short portions; what changes meanwhile is in the log behind it. A request that comes while one is being
//! taken is dropped: the next roll of the log asks again. So is one that comes too early: while the log since the last snapshot is
//! small beside that snapshot, replaying it costs less than writing everything again. A member takes none before it serves, because
//! until then what is in its tree may be taken back.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rookeeper_replica::Shared;
use rookeeper_storage::StorageError;
use rookeeper_store::WrittenSnapshot;
use tracing::{debug, info, warn};

use crate::failure::{Failure, Failures};
use crate::net::descriptors;
use crate::observe::activity::Activities;
use crate::observe::figures::Figures;
use crate::storage::{Snapshotter, knows_what_is_committed};
use crate::threads::log_position::LogPosition;

/// A snapshot is taken once the log has grown by at least this share of the last snapshot's size. So a large database under many
/// writes spends at most two bytes of snapshots on a byte of log, and a restart replays at most half of what it loads.
const LOG_SHARE: u64 = 2;

/// How much the thread stands back; 19 would be the most.
const NICENESS: i32 = 10;

/// Asks for a snapshot.
#[derive(Debug)]
pub(crate) struct SnapshotRequests(SyncSender<Request>);

/// How many bytes the log has got since the last request.
#[derive(Debug)]
pub(crate) struct Request {
    logged_bytes: u64,
}

impl SnapshotRequests {
    pub fn new() -> (SnapshotRequests, Receiver<Request>) {
        let (sender, receiver) = sync_channel(1);
        (SnapshotRequests(sender), receiver)
    }

    /// Returns whether the request was taken; one that was not counts again with the next.
    pub fn request(&self, logged_bytes: u64) -> bool {
        let taken = self.0.try_send(Request { logged_bytes }).is_ok();
        if !taken {
            info!("Too busy to snap, skipping");
        }
        taken
    }
}

pub(crate) struct SnapshotThread {
    snapshotter: Snapshotter,
    shared: Arc<Shared>,
    position: Arc<LogPosition>,
    figures: Arc<Figures>,
    failures: Failures,
    activities: Arc<Activities>,
    /// The size of the last snapshot, and what the log has got since.
    last_bytes: u64,
    logged_bytes: u64,
}

/// Runs until the log thread is gone.
pub(crate) fn spawn(mut this: SnapshotThread, requests: Receiver<Request>) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("snapshot".into()).spawn(move || this.run(&requests))
}

impl SnapshotThread {
    pub fn new(
        snapshotter: Snapshotter,
        shared: Arc<Shared>,
        position: Arc<LogPosition>,
        figures: Arc<Figures>,
        failures: Failures,
        activities: Arc<Activities>,
    ) -> SnapshotThread {
        SnapshotThread { snapshotter, shared, position, figures, failures, activities, last_bytes: 0, logged_bytes: 0 }
    }

    fn run(&mut self, requests: &Receiver<Request>) {
        // On Linux this is for the calling thread alone. A snapshot should use the time that requests leave, not take theirs.
        if let Err(error) = rustix::process::nice(NICENESS) {
            debug!(%error, "the snapshot thread keeps its priority");
        }
        let interval = self.snapshotter.purge_interval();
        let mut next_purge = interval.map(|_| Instant::now());
        loop {
            let wait = next_purge.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            match requests.recv_timeout(wait) {
                Ok(request) => {
                    self.logged_bytes += request.logged_bytes;
                    if self.logged_bytes < self.last_bytes / LOG_SHARE || !knows_what_is_committed(&self.shared) {
                        continue;
                    }
                    if let Err(failure) = self.take() {
                        self.failures.report(failure);
                        return;
                    }
                    // At once: under many writes an hour's snapshots would fill the disk.
                    if interval.is_some() {
                        self.purge();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.purge();
                    next_purge = interval.map(|interval| Instant::now() + interval);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// The start has taken one.
    pub fn was_taken(&mut self, written: &WrittenSnapshot, took: Duration) {
        let zxid = written.zxid;
        self.logged_bytes = 0;
        self.last_bytes = written.bytes;
        let took_ms = took.as_millis() as u64;
        self.figures.snapshot_time_ms.record(took_ms);
        self.figures.last_snapshot_zxid.store(zxid.0, Relaxed);
        info!(bytes = written.bytes, "Snapshot taken in {took_ms} ms: zxid {zxid}");
    }

    /// Takes a snapshot now.
    fn take(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        self.activities.snapshot.begin(self.activities.clock.monotonic_ms());
        let taken = self.snapshotter.take(&self.shared, &self.position);
        self.activities.snapshot.end();
        match taken {
            Ok(None) => {
                info!("the snapshot was given up: this server does not follow or lead any more");
                Ok(())
            }
            Ok(Some(written)) => {
                self.was_taken(&written, start.elapsed());
                Ok(())
            }
            Err(error) if error.io().is_some_and(descriptors::are_exhausted) => {
                self.figures.snapshot_errors.fetch_add(1, Relaxed);
                warn!(
                    "no snapshot was taken, and the next one comes with the next roll of the log: {error}; everything \
                     acknowledged is in the log"
                );
                Ok(())
            }
            Err(error) => {
                self.figures.snapshot_errors.fetch_add(1, Relaxed);
                Err(StorageError::Snapshot(error).into())
            }
        }
    }

    fn purge(&mut self) {
        self.activities.snapshot.begin(self.activities.clock.monotonic_ms());
        match self.snapshotter.purge(&self.position) {
            Ok(purged) => {
                self.figures.snapshots_purged.fetch_add(purged.snapshots as u64, Relaxed);
                self.figures.logs_purged.fetch_add(purged.logs as u64, Relaxed);
                if purged.snapshots + purged.logs > 0 {
                    info!(snapshots = purged.snapshots, logs = purged.logs, "old files removed");
                }
            }
            Err(error) => warn!("old files can't be removed: {error}"),
        }
        self.activities.snapshot.end();
    }
}
