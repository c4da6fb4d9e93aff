//! The data directory: opened once at start, then written by the storage thread and the snapshot thread, and read for learners.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rookeeper_replica::FoundMembership;
use rookeeper_storage::{FileOptions, Files, Start};
use rookeeper_store::{
    Compression, Directories, DirectoryLock, Disk, LogOptions, MAX_RECORD_BYTES, RealDisk, RecoveryOptions, RollLimits,
    SnapshotOptions, StoreError,
};
use tracing::info;

use crate::config::{Config, OnMismatch, SnapshotCompression};
use crate::failure::Failure;
use crate::seed::secret_seed;
use crate::version;

/// Bytes of the tree encoded under one lock: readers and the apply step wait no longer than this takes, about a tenth of a millisecond.
pub(crate) const PORTION_BYTES: usize = 64 << 10;

/// An opened data directory.
pub(crate) struct Opened {
    pub lock: DirectoryLock,
    pub files: Arc<Files>,
    pub start: Start,
    pub took: Duration,
    /// The membership that the log has; none where the log has none.
    pub membership: Option<FoundMembership>,
}

/// Checks, locks and recovers the data directory.
pub(crate) fn open(config: &Config) -> Result<Opened, Failure> {
    Ok(open_store(config)?)
}

fn open_store(config: &Config) -> Result<Opened, StoreError> {
    let begin = Instant::now();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let places = &config.directories;
    info!("data directory {} ({})", places.data_dir.display(), places.choice);
    let directories = Directories::prepare(&*disk, &places.data_dir, &places.data_log_dir, places.create_directories)?;
    let mut lock = DirectoryLock::acquire(&places.data_dir)?;
    lock.note_user(&version::full());
    let files = Arc::new(Files::new(disk, directories, file_options(config))?);
    let start = Start::recover(files.clone(), config.ensemble.is_some())?;
    let recovered = &start.recovered;
    if let (Some(zxid), OnMismatch::Stop) = (recovered.report.first_mismatch, config.formats.on_digest_mismatch) {
        return Err(StoreError::wrong_tree(&files.directories, zxid));
    }
    Ok(Opened {
        lock,
        membership: FoundMembership::in_tree(
            &recovered.tree,
            recovered.report.membership_before.as_deref(),
            config.ensemble.as_ref().is_some_and(|ensemble| ensemble.settings.multi_address),
        ),
        start,
        files,
        took: begin.elapsed(),
    })
}

fn file_options(config: &Config) -> FileOptions {
    FileOptions {
        log: LogOptions {
            preallocate_bytes: config.log.pre_alloc_size_kib << 10,
            force_sync: config.log.force_sync,
            roll: RollLimits {
                records: u64::from(config.snapshots.snap_count),
                bytes: config.snapshots.snap_size_limit_kib.map(|kib| kib << 10),
                file_bytes: config.log.size_limit_kib.map(|kib| kib << 10),
            },
            seed: secret_seed(),
        },
        snapshots: SnapshotOptions {
            compression: match config.snapshots.compression {
                SnapshotCompression::Plain => Compression::None,
                SnapshotCompression::Gzip => Compression::Gzip,
                SnapshotCompression::Snappy => Compression::Snappy,
            },
            digests: config.formats.digest_enabled,
            portion_bytes: PORTION_BYTES,
            max_record_bytes: MAX_RECORD_BYTES,
        },
        recovery: RecoveryOptions {
            trust_empty_snapshot: config.snapshots.trust_empty,
            trust_partial_snapshot: config.snapshots.trust_partial && config.ensemble.is_none(),
            db_autocreate: config.directories.create_database,
            seed: secret_seed(),
            ttl_encoding: config.formats.ttl_encoding,
            ..RecoveryOptions::default()
        },
    }
}

/// Files in a directory of a test, written with default settings.
#[cfg(test)]
pub(crate) fn files_of_test(directory: &std::path::Path) -> Arc<Files> {
    let directories = Directories::prepare(&RealDisk, directory, directory, true).unwrap();
    let log = LogOptions { preallocate_bytes: 0, ..LogOptions::default() };
    let options = FileOptions { log, ..FileOptions::default() };
    Arc::new(Files::new(Arc::new(RealDisk), directories, options).unwrap())
}
