//! The threads of a server and the queues between them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

use rookeeper_proto::Zxid;
use rookeeper_replica::{Input, Replica, Shared};
use rookeeper_storage::{Batching, Files, Snapshotter, StorageWorker};
use rookeeper_store::{MAX_RECORD_BYTES, PurgeOptions, WrittenSnapshot};
use tokio::sync::mpsc;

use super::membership_at_start;
use crate::audit::Audit;
use crate::clock::Clock;
use crate::config::{Config, OnMismatch, Source};
use crate::failure::{ExitCode, Failure, Failures};
use crate::observe::activity::Activities;
use crate::observe::figures::Figures;
use crate::observe::report::ReportSources;
use crate::threads::log_position::LogPosition;
use crate::threads::replica_thread::{self, EnsemblePorts, INPUT_QUEUE, ReplicaRuntime, ReplicaThread};
use crate::threads::restores::Restores;
use crate::threads::snapshot_thread::{self, SnapshotRequests, SnapshotThread};
use crate::threads::storage_driver::{ConfigFiles, LastSync, StorageDriver};
use crate::threads::storage_thread;

/// The parts that all threads share.
pub(super) struct Common<'a> {
    pub config: &'a Config,
    pub clock: Clock,
    pub shared: Arc<Shared>,
    pub figures: Arc<Figures>,
    pub failures: Failures,
    pub audit: Option<Audit>,
}

/// The state from which the threads for the disk begin.
pub(super) struct OnDisk {
    pub files: Arc<Files>,
    /// The end of the log.
    pub zxid: Zxid,
    /// Written by this start, and how long that took.
    pub first_snapshot: Option<(WrittenSnapshot, Duration)>,
    pub wants_snapshot: bool,
}

/// The threads while they run.
pub(super) struct Running {
    pub threads: Vec<JoinHandle<()>>,
    /// To the replica.
    pub inputs: mpsc::Sender<Input>,
    pub report: Arc<ReportSources>,
    pub snapshots: SnapshotRequests,
    pub restores: Arc<Restores>,
}

/// Starts all threads. `ensemble` is a member's.
pub(super) fn spawn(
    common: Common<'_>,
    replica: (Replica, ReplicaRuntime),
    ensemble: Option<EnsemblePorts>,
    disk: OnDisk,
) -> Result<Running, Failure> {
    let Common { config, clock, shared, figures, failures, audit } = common;
    let OnDisk { files, zxid, first_snapshot, wants_snapshot } = disk;
    let (inputs, input_queue) = mpsc::channel(INPUT_QUEUE);
    let (answers, answer_queue) = mpsc::unbounded_channel();
    let activities = Arc::new(Activities::new(clock));
    let position = Arc::new(LogPosition::new(zxid));
    figures.synced_zxid.store(zxid.0, Relaxed);
    let (snapshots, snapshot_requests) = SnapshotRequests::new();
    let written = first_snapshot.as_ref().map(|(written, _)| written);
    let purge_options = purge_options(config);
    let snapshot_thread = SnapshotThread {
        snapshotter: Snapshotter::new(files.clone(), shared.clone(), purge_options, written),
        position: position.clone(),
        purge_interval: purge_interval(config),
        figures: figures.clone(),
        failures: failures.clone(),
        activities: activities.clone(),
    };
    let snapshots_for_all = snapshots.clone();
    if let Some((written, took)) = &first_snapshot {
        snapshot_thread::note_taken(&figures, written, *took);
    } else if wants_snapshot {
        snapshots.request(0);
    }
    let driver = StorageDriver {
        config_files: config_files(config, &files),
        worker: StorageWorker::new(files.clone(), shared.clone(), zxid, batching(config)),
        position: position.clone(),
        snapshots,
        fsync_warning_threshold_ms: config.log.fsync_warning_threshold_ms,
        figures: figures.clone(),
        activities: activities.clone(),
        last: LastSync::default(),
        unwritten: Vec::new(),
    };
    let (storage, storage_thread) = storage_thread::new(driver, answers, failures.clone());
    let report = Arc::new(ReportSources {
        activities: activities.clone(),
        unwritten_bytes: storage.gauge(),
        links: ensemble.as_ref().map(|ensemble| ensemble.quorum_port.view()),
    });
    let (replica, runtime) = replica;
    let restores = Arc::new(Restores::default());
    let replica_thread = ReplicaThread {
        replica,
        clock,
        inputs: input_queue,
        answers: answer_queue,
        storage,
        figures,
        activities: activities.clone(),
        restores: restores.clone(),
        audit,
        ensemble,
        stops_on_mismatch: config.formats.on_digest_mismatch == OnMismatch::Stop,
        failures,
    };
    let threads = vec![
        replica_thread::spawn(replica_thread, runtime).map_err(failure)?,
        storage_thread::spawn(storage_thread).map_err(failure)?,
        snapshot_thread::spawn(snapshot_thread, snapshot_requests).map_err(failure)?,
    ];
    Ok(Running { threads, inputs, report, snapshots: snapshots_for_all, restores })
}

/// A thread that the system does not give.
pub(super) fn failure(error: io::Error) -> Failure {
    Failure::new(ExitCode::Failed, format!("can't start a thread: {error}"))
}

fn batching(config: &Config) -> Batching {
    Batching {
        flush_delay_us: i64::try_from(config.log.flush_delay_ms).unwrap_or(i64::MAX).saturating_mul(1000),
        max_records: config.log.max_batch_size.map(|limit| limit as usize),
    }
}

/// The rules by which old files are kept.
fn purge_options(config: &Config) -> PurgeOptions {
    PurgeOptions {
        retain_snapshots: config.purge.snap_retain_count as usize,
        min_age: Duration::from_secs(3600 * u64::from(config.purge.min_age_hours)),
        max_record_bytes: MAX_RECORD_BYTES,
    }
}

/// How often old files are removed; none where they are kept.
fn purge_interval(config: &Config) -> Option<Duration> {
    let hours = config.purge.interval_hours;
    (hours > 0).then(|| Duration::from_secs(3600 * u64::from(hours)))
}

/// Where a member keeps the members of its ensemble.
fn config_files(config: &Config, files: &Files) -> Option<ConfigFiles> {
    let Source::File(config_file) = &config.source else { return None };
    let me = config.ensemble.as_ref()?.settings.me;
    Some(ConfigFiles { config_file: config_file.clone(), me, mark: membership_at_start::mark(files.data_dir()) })
}
