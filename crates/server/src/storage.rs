//! The data directory: opened once at start, then written by the log thread and the snapshot thread.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rookeeper_replica::Shared;
use rookeeper_store::{
    Compression, Directories, DirectoryLock, Disk, LogOptions, LogWriter, MAX_RECORD_BYTES, Origin, PurgeOptions,
    Purged, Purger, RealDisk, RecoveryOptions, RollLimits, SnapshotOptions, StoreError, WrittenSnapshot, recover,
    write_snapshot,
};
use rookeeper_tree::Tree;
use tracing::info;

use crate::config::{Config, SnapshotCompression};
use crate::failure::Failure;

/// Bytes of the tree encoded under one lock: readers and the apply step wait no longer than this takes, about a tenth of a millisecond.
const PORTION_BYTES: usize = 64 << 10;

/// An opened data directory.
pub(crate) struct Opened {
    pub lock: DirectoryLock,
    pub tree: Tree,
    pub writer: LogWriter,
    pub snapshotter: Snapshotter,
    /// There is no snapshot at all.
    pub needs_snapshot: bool,
    /// Transactions replayed from the log.
    pub replayed: u64,
    pub took: Duration,
}

/// Checks, locks and recovers the data directory.
pub(crate) fn open(config: &Config) -> Result<Opened, Failure> {
    open_store(config).map_err(|error| Failure { exit_code: error.exit_code(), message: error.to_string() })
}

fn open_store(config: &Config) -> Result<Opened, StoreError> {
    let start = Instant::now();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let places = &config.directories;
    info!("data directory {} ({})", places.data_dir.display(), places.choice);
    let directories = Directories::prepare(&*disk, &places.data_dir, &places.data_log_dir, places.create_directories)?;
    let lock = DirectoryLock::acquire(&places.data_dir)?;
    let recovered = recover(
        &*disk,
        &directories,
        &RecoveryOptions {
            trust_empty_snapshot: config.snapshots.trust_empty,
            db_autocreate: places.create_database,
            seed: secret_seed(),
            ..RecoveryOptions::default()
        },
    )?;
    for line in recovered.report.to_string().lines() {
        info!("{line}");
    }
    let compression = match config.snapshots.compression {
        SnapshotCompression::Plain => Compression::None,
        SnapshotCompression::Gzip => Compression::Gzip,
        SnapshotCompression::Snappy => Compression::Snappy,
    };
    let log_options = LogOptions {
        preallocate_bytes: config.log.pre_alloc_size_kib << 10,
        force_sync: config.log.force_sync,
        roll: RollLimits {
            records: u64::from(config.snapshots.snap_count),
            bytes: config.snapshots.snap_size_limit_kib.map(|kib| kib << 10),
            file_bytes: config.log.size_limit_kib.map(|kib| kib << 10),
        },
        seed: secret_seed(),
    };
    let purge_options = PurgeOptions {
        retain_snapshots: config.purge.snap_retain_count as usize,
        min_age: Duration::from_secs(3600 * u64::from(config.purge.min_age_hours)),
        max_record_bytes: MAX_RECORD_BYTES,
    };
    let hours = config.purge.interval_hours;
    Ok(Opened {
        lock,
        writer: LogWriter::new(disk.clone(), &directories.log_dir, log_options, recovered.tree.last_zxid()),
        needs_snapshot: !matches!(recovered.report.origin, Origin::Snapshot { .. }),
        replayed: recovered.report.replayed,
        tree: recovered.tree,
        snapshotter: Snapshotter {
            disk,
            directory: directories.snapshot_dir.clone(),
            directories,
            options: SnapshotOptions {
                compression,
                digests: config.formats.digest_enabled,
                portion_bytes: PORTION_BYTES,
                max_record_bytes: MAX_RECORD_BYTES,
            },
            purger: Purger::new(),
            purge_options,
            purge_interval: (hours > 0).then(|| Duration::from_secs(3600 * u64::from(hours))),
        },
        took: start.elapsed(),
    })
}

/// A number nobody outside this process can know, for tables whose keys clients choose and for choices at random.
pub(crate) fn secret_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Takes snapshots and removes old files.
pub(crate) struct Snapshotter {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    directories: Directories,
    options: SnapshotOptions,
    purger: Purger,
    purge_options: PurgeOptions,
    purge_interval: Option<Duration>,
}

impl Snapshotter {
    pub fn take(&mut self, shared: &Shared) -> Result<WrittenSnapshot, StoreError> {
        write_snapshot(
            &*self.disk,
            &self.directory,
            &self.options,
            &mut |read| read(&shared.tree()),
            // What is applied here is committed, and an ensemble of one commits only what is on its disk.
            &mut |_| Ok(()),
        )
    }

    pub fn purge(&mut self) -> Result<Purged, StoreError> {
        self.purger.purge(&*self.disk, &self.directories, &self.purge_options, SystemTime::now())
    }

    pub fn purge_interval(&self) -> Option<Duration> {
        self.purge_interval
    }
}
