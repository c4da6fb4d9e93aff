//! The data directory: opened once at start, then written by the storage thread and the snapshot thread, and read for learners.

use std::cell::Cell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant, SystemTime};

use rookeeper_proto::{Epoch, Zxid};
use rookeeper_replica::{Epochs, FoundMembership, Serving, Shared};
use rookeeper_store::epoch_files::{ACCEPTED, CURRENT, write_epoch};
use rookeeper_store::member::read_epochs;
use rookeeper_store::recovery::UNEXPECTED_EMPTY;
use rookeeper_store::snapshot_writer::WithTree;
use rookeeper_store::truncate::{install_snapshot, truncate};
use rookeeper_store::{
    Compression, Directories, DirectoryLock, Disk, HeldDirectories, LoadTimes, LogOptions, LogWriter, MAX_RECORD_BYTES,
    Origin, PurgeOptions, Purged, Purger, RealDisk, RecoveryOptions, RollLimits, SnapshotOptions, StoreError,
    WrittenSnapshot, recover, use_up_permissions, write_snapshot,
};
use rookeeper_tree::Tree;
use tracing::info;

use crate::config::{Config, OnMismatch, SnapshotCompression, Source};
use crate::failure::Failure;
use crate::log_position::LogPosition;

/// Bytes of the tree encoded under one lock: readers and the apply step wait no longer than this takes, about a tenth of a millisecond.
pub(crate) const PORTION_BYTES: usize = 64 << 10;

/// An opened data directory.
pub(crate) struct Opened {
    pub lock: DirectoryLock,
    pub files: Arc<Files>,
    pub tree: Tree,
    pub writer: LogWriter,
    pub snapshotter: Snapshotter,
    /// There is no snapshot that could stand before the log to come.
    pub needs_snapshot: bool,
    /// Transactions replayed from the log.
    pub replayed: u64,
    /// How many digests differed in the recovered data, and the first transaction after which one did.
    pub mismatches: Option<(u64, Zxid)>,
    pub took: Duration,
    /// What of that the snapshots and the log took.
    pub load_times: LoadTimes,
    /// What the log says of the members; none where it says nothing.
    pub membership: Option<FoundMembership>,
}

/// Checks, locks and recovers the data directory.
pub(crate) fn open(config: &Config) -> Result<Opened, Failure> {
    open_store(config).map_err(failure)
}

fn failure(error: StoreError) -> Failure {
    Failure { exit_code: error.exit_code(), message: error.to_string() }
}

fn open_store(config: &Config) -> Result<Opened, StoreError> {
    let start = Instant::now();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let places = &config.directories;
    info!("data directory {} ({})", places.data_dir.display(), places.choice);
    let directories = Directories::prepare(&*disk, &places.data_dir, &places.data_log_dir, places.create_directories)?;
    let lock = DirectoryLock::acquire(&places.data_dir)?;
    let recovery = RecoveryOptions {
        trust_empty_snapshot: config.snapshots.trust_empty,
        trust_partial_snapshot: config.snapshots.trust_partial && config.ensemble.is_none(),
        db_autocreate: places.create_database,
        seed: secret_seed(),
        ..RecoveryOptions::default()
    };
    let mut recovered = recover(&*disk, &directories, &recovery)?;
    if config.ensemble.is_none() && recovered.tree.last_zxid() == UNEXPECTED_EMPTY {
        // There is nobody to wait for.
        recovered.tree.set_last_zxid(Zxid::ZERO);
    }
    for line in recovered.report.to_string().lines() {
        info!("{line}");
    }
    if let (Some(zxid), OnMismatch::Stop) = (recovered.report.first_mismatch, config.formats.on_digest_mismatch) {
        return Err(StoreError::wrong_tree(&directories, zxid));
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
    let files = Arc::new(Files {
        held: directories.hold(&*disk)?,
        disk,
        directories,
        log: log_options,
        snapshots: SnapshotOptions {
            compression,
            digests: config.formats.digest_enabled,
            portion_bytes: PORTION_BYTES,
            max_record_bytes: MAX_RECORD_BYTES,
        },
        recovery,
        rewrites: AtomicU64::new(0),
        config_file: match &config.source {
            Source::File(path) => Some(path.clone()),
            Source::Defaults | Source::Positional { .. } => None,
        },
    });
    Ok(Opened {
        lock,
        writer: files.log_writer(recovered.tree.last_zxid()),
        needs_snapshot: !matches!(recovered.report.origin, Origin::Snapshot { .. })
            || recovered.report.partial_since.is_some(),
        mismatches: recovered.report.first_mismatch.map(|first| (recovered.report.digest_mismatches, first)),
        replayed: recovered.report.replayed,
        membership: FoundMembership::in_tree(
            &recovered.tree,
            recovered.report.membership_before.as_deref(),
            config.ensemble.as_ref().is_some_and(|ensemble| ensemble.multi_address_enabled),
        ),
        tree: recovered.tree,
        snapshotter: Snapshotter {
            files: files.clone(),
            purger: Purger::new(),
            purge_options,
            purge_interval: (hours > 0).then(|| Duration::from_secs(3600 * u64::from(hours))),
        },
        files,
        took: start.elapsed(),
        load_times: recovered.load_times,
    })
}

/// A number nobody outside this process can know, for tables whose keys clients choose and for choices at random.
pub(crate) fn secret_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// The files of this server, and how they are written.
#[derive(Debug)]
pub(crate) struct Files {
    pub disk: Arc<dyn Disk>,
    pub directories: Directories,
    held: HeldDirectories,
    log: LogOptions,
    snapshots: SnapshotOptions,
    recovery: RecoveryOptions,
    /// How often a part of the history was given up.
    rewrites: AtomicU64,
    /// The file that the membership stands in, or beside.
    pub config_file: Option<PathBuf>,
}

impl Files {
    /// `dataDir` itself, which holds more than the database.
    pub fn data_dir(&self) -> &Path {
        let snapshots = &self.directories.snapshot_dir;
        snapshots.parent().unwrap_or(snapshots)
    }

    /// Files in a directory of a test, written with default settings.
    #[cfg(test)]
    pub fn of_test(directory: &std::path::Path) -> Files {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let directories = Directories::prepare(&*disk, directory, directory, true).unwrap();
        Files {
            held: directories.hold(&*disk).unwrap(),
            directories,
            disk,
            log: LogOptions { preallocate_bytes: 0, ..LogOptions::default() },
            snapshots: SnapshotOptions::default(),
            recovery: RecoveryOptions::default(),
            rewrites: AtomicU64::new(0),
            config_file: None,
        }
    }

    /// A writer whose first transaction follows `last`.
    pub fn log_writer(&self, last: Zxid) -> LogWriter {
        LogWriter::new(self.disk.clone(), &self.directories.log_dir, self.log.clone(), last)
    }

    /// An error where the directories are not those any more that this server has recovered from.
    pub fn refuse_if_gone(&self) -> Result<(), StoreError> {
        self.held.refuse_if_gone()
    }

    /// The epochs with which a member starts whose history ends at `last`.
    pub fn read_epochs(&self, last: Zxid) -> Result<Epochs, Failure> {
        let epochs = read_epochs(&*self.disk, &self.directories, last).map_err(failure)?;
        Ok(Epochs { accepted: epochs.accepted, current: epochs.current })
    }

    pub fn write_accepted_epoch(&self, epoch: Epoch) -> Result<(), StoreError> {
        write_epoch(&*self.disk, &self.directories.snapshot_dir, ACCEPTED, epoch)
    }

    pub fn write_current_epoch(&self, epoch: Epoch) -> Result<(), StoreError> {
        write_epoch(&*self.disk, &self.directories.snapshot_dir, CURRENT, epoch)
    }

    /// Cuts the history behind the last transaction up to `zxid`. No log may be open for writing.
    pub fn truncate(&self, zxid: Zxid) -> Result<(), StoreError> {
        self.rewrites.fetch_add(1, Release);
        truncate(&*self.disk, &self.directories, zxid)
    }

    /// Changes before anything is taken from the history on disk but its oldest part.
    pub fn rewrites(&self) -> u64 {
        self.rewrites.load(Acquire)
    }

    /// The first snapshot of a new database is on disk.
    pub fn use_up_permissions(&self) -> Result<(), Failure> {
        use_up_permissions(&*self.disk, &self.directories).map_err(failure)
    }

    /// Reads the database again.
    pub fn recover(&self) -> Result<Tree, StoreError> {
        let recovered = recover(&*self.disk, &self.directories, &self.recovery)?;
        for line in recovered.report.to_string().lines() {
            info!("{line}");
        }
        Ok(recovered.tree)
    }

    /// Makes the tree, which nobody changes meanwhile and which is at `zxid`, the whole history. No log may be open for writing.
    pub fn install_snapshot(&self, shared: &Shared, zxid: Zxid) -> Result<WrittenSnapshot, StoreError> {
        self.rewrites.fetch_add(1, Release);
        let with_tree: &mut WithTree<'_> = &mut |read| read(&shared.tree());
        install_snapshot(&*self.disk, &self.directories, &self.snapshots, with_tree, zxid)
    }
}

/// Whether the tree holds nothing that another leader may take back.
pub(crate) fn knows_what_is_committed(shared: &Shared) -> bool {
    matches!(shared.bulletin.serving(), Serving::Deciding | Serving::Forwarding)
}

/// Takes snapshots and removes old files.
pub(crate) struct Snapshotter {
    files: Arc<Files>,
    purger: Purger,
    purge_options: PurgeOptions,
    purge_interval: Option<Duration>,
}

impl Snapshotter {
    /// Takes a snapshot; none where the history is rewritten meanwhile, or this server ceases to know what is committed.
    pub fn take(&mut self, shared: &Shared, position: &LogPosition) -> Result<Option<WrittenSnapshot>, StoreError> {
        let _history = position.hold_history();
        let given_up = Cell::new(false);
        let written = write_snapshot(
            &*self.files.disk,
            &self.files.directories.snapshot_dir,
            &self.files.snapshots,
            &mut |read| {
                let tree = shared.tree();
                // Another tree may be in its place as soon as nobody is served any more.
                if given_up.get() || !knows_what_is_committed(shared) {
                    given_up.set(true);
                } else {
                    read(&tree);
                }
            },
            // The tree may be ahead of this server's disk where others have made a transaction durable.
            &mut |zxid| {
                given_up.set(given_up.get() || !position.wait_for(zxid));
                if given_up.get() { Err(StoreError::Misuse("the snapshot was given up".to_owned())) } else { Ok(()) }
            },
        );
        if given_up.get() { Ok(None) } else { written.map(Some) }
    }

    /// Removes old files. Which ones are old must not change meanwhile.
    pub fn purge(&mut self, position: &LogPosition) -> Result<Purged, StoreError> {
        let _history = position.hold_history();
        self.purger.purge(&*self.files.disk, &self.files.directories, &self.purge_options, SystemTime::now())
    }

    pub fn purge_interval(&self) -> Option<Duration> {
        self.purge_interval
    }
}
