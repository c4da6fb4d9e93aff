//! The thread that drives a [`Snapshotter`]: takes snapshots and removes old files, while writes go on.
//!
//! One request may wait while a snapshot is being taken; further ones are dropped, and the next roll of the log asks again.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rookeeper_proto::Zxid;
use rookeeper_storage::{Snapshotter, StorageError, Taking};
use rookeeper_store::{StoreError, WrittenSnapshot};
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use crate::failure::Failures;
use crate::net::descriptors;
use crate::observe::activity::Activities;
use crate::observe::figures::Figures;
use crate::threads::log_position::LogPosition;

/// Between two looks at a tree that has a part of a transaction.
const BETWEEN_ZXIDS: Duration = Duration::from_millis(1);

/// How much the thread stands back; 19 would be the most.
const NICENESS: i32 = 10;

/// Asks for a snapshot.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotRequests(SyncSender<Request>);

#[derive(Debug)]
pub(crate) enum Request {
    /// If it is time for one. `logged_bytes`: how many bytes the log has got since the last request.
    IfDue { logged_bytes: u64 },
    /// In any case, for somebody who waits for it.
    Now(oneshot::Sender<Result<Taken, NotTaken>>),
}

/// A snapshot for somebody who waits for it.
#[derive(Debug)]
pub(crate) struct Taken {
    pub snapshot: WrittenSnapshot,
    /// The log is durable up to here, and committed; the snapshot shows nothing of what comes behind it.
    pub logged: Zxid,
}

/// Why there is no snapshot for somebody who waits for it.
#[derive(Debug)]
pub(crate) enum NotTaken {
    /// The server has ceased to know what is committed.
    GivenUp,
    Failed(String),
}

/// The thread ends.
#[derive(Debug)]
pub(crate) struct Stopping;

impl SnapshotRequests {
    /// The end for requests, and the end for the thread. One request waits at most.
    pub fn new() -> (SnapshotRequests, Receiver<Request>) {
        let (sender, receiver) = sync_channel(1);
        (SnapshotRequests(sender), receiver)
    }

    /// Returns whether the request was taken; one that was not counts again with the next.
    pub fn request(&self, logged_bytes: u64) -> bool {
        let taken = self.0.try_send(Request::IfDue { logged_bytes }).is_ok();
        if !taken {
            info!("Too busy to snap, skipping");
        }
        taken
    }

    /// Takes a snapshot now, or behind the one that is being taken.
    pub async fn request_now(&self) -> Result<Result<Taken, NotTaken>, Stopping> {
        let (answer, taken) = oneshot::channel();
        let requests = self.0.clone();
        let asked = tokio::task::spawn_blocking(move || requests.send(Request::Now(answer))).await;
        match asked {
            Ok(Ok(())) => taken.await.map_err(|_| Stopping),
            _ => Err(Stopping),
        }
    }
}

pub(crate) struct SnapshotThread {
    pub snapshotter: Snapshotter,
    pub position: Arc<LogPosition>,
    /// How often old files are removed; none where they are kept.
    pub purge_interval: Option<Duration>,
    pub figures: Arc<Figures>,
    pub failures: Failures,
    pub activities: Arc<Activities>,
}

/// Runs until the log thread is gone.
pub(crate) fn spawn(mut this: SnapshotThread, requests: Receiver<Request>) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("snapshot".into()).spawn(move || this.run(&requests))
}

impl SnapshotThread {
    fn run(&mut self, requests: &Receiver<Request>) {
        // On Linux this is for the calling thread alone. A snapshot should use the time that requests leave, not take theirs.
        if let Err(error) = rustix::process::nice(NICENESS) {
            debug!(%error, "the snapshot thread keeps its priority");
        }
        let interval = self.purge_interval;
        let mut next_purge = interval.map(|_| Instant::now());
        loop {
            let wait = next_purge.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            match requests.recv_timeout(wait) {
                Ok(Request::Now(answer)) => {
                    // Whoever asked may be gone.
                    let _ = answer.send(self.take_for_somebody());
                }
                Ok(Request::IfDue { logged_bytes }) => {
                    if !self.snapshotter.is_due(logged_bytes) {
                        continue;
                    }
                    if let Err(error) = self.take() {
                        self.failures.report(error.into());
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

    /// Takes a snapshot now.
    fn take(&mut self) -> Result<(), StorageError> {
        let start = Instant::now();
        self.activities.snapshot.begin(self.activities.clock.monotonic_ms());
        let taken = self.take_steps();
        self.activities.snapshot.end();
        match taken {
            Ok(None) => {
                info!(
                    "the snapshot was given up: this server does not follow or lead any more, or serves another tree"
                );
                Ok(())
            }
            Ok(Some(written)) => {
                note_taken(&self.figures, &written, start.elapsed());
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
                Err(StorageError::Snapshot(error))
            }
        }
    }

    /// Takes a snapshot that this server does not need, so a failure is nothing that must end it.
    fn take_for_somebody(&mut self) -> Result<Taken, NotTaken> {
        let start = Instant::now();
        self.activities.snapshot.begin(self.activities.clock.monotonic_ms());
        let taken = self.take_steps();
        self.activities.snapshot.end();
        match taken {
            Ok(Some(snapshot)) => {
                note_taken(&self.figures, &snapshot, start.elapsed());
                let logged = self.snapshotter.applied();
                // The tree may be ahead of this server's disk where others have made a transaction durable.
                if self.position.wait_for(logged) { Ok(Taken { snapshot, logged }) } else { Err(NotTaken::GivenUp) }
            }
            Ok(None) => Err(NotTaken::GivenUp),
            Err(error) => {
                self.figures.snapshot_errors.fetch_add(1, Relaxed);
                Err(NotTaken::Failed(error.to_string()))
            }
        }
    }

    /// None where the snapshot was given up.
    fn take_steps(&mut self) -> Result<Option<WrittenSnapshot>, StoreError> {
        let hold = self.position.hold_history();
        loop {
            match self.snapshotter.step(&hold, |zxid| self.position.has(zxid))? {
                Taking::More => {}
                Taking::Pause => thread::sleep(BETWEEN_ZXIDS),
                Taking::WaitsFor(zxid) => {
                    self.position.wait_for(zxid);
                }
                Taking::Taken(written) => return Ok(Some(written)),
                Taking::GivenUp => return Ok(None),
            }
        }
    }

    fn purge(&mut self) {
        self.activities.snapshot.begin(self.activities.clock.monotonic_ms());
        match self.snapshotter.purge(&self.position.hold_history(), SystemTime::now()) {
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

/// Tells of a snapshot that was taken, also by the start.
pub(crate) fn note_taken(figures: &Figures, written: &WrittenSnapshot, took: Duration) {
    let (zxid, took_ms) = (written.zxid, took.as_millis() as u64);
    figures.snapshot_time_ms.record(took_ms);
    figures.last_snapshot_zxid.store(zxid.0, Relaxed);
    info!(bytes = written.bytes, "Snapshot taken in {took_ms} ms: zxid {zxid}");
}
