//! Settings of the files: where they are, how they are written, and when old ones go.

use std::path::{Path, PathBuf};

use rookeeper_proto::TtlEncoding;

use super::environment::{DataDirectoryChoice, Environment};
use super::error::{ConfigError, Fault};
use super::settings::Settings;

/// Where the files are.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct DataDirectories {
    /// Holds `myid` and, in `version-2`, snapshots and epochs.
    pub(crate) data_dir: PathBuf,
    /// Holds the transaction log, in `version-2`. The same as `data_dir` unless configured; a device of its own keeps
    /// snapshots from slowing down every write.
    pub(crate) data_log_dir: PathBuf,
    /// Why it is this `data_dir`, for the log.
    pub(crate) choice: DataDirectoryChoice,
    /// Whether missing directories are made. Off, a forgotten mount stops the start instead of an empty database.
    pub(crate) create_directories: bool,
    /// Whether an empty directory counts as an empty database. Off, it does so only beside a file `initialize`.
    pub(crate) create_database: bool,
}

/// A path that would be taken for the name of a new, empty directory, where another one is meant: what is wrong, and what to write.
fn misunderstood(value: &str) -> Option<(&'static str, String)> {
    let bare = value.trim_matches(['"', '\'']);
    if value.starts_with(['"', '\'']) {
        return Some(("the quotes are a part of the name", format!("Write {bare} without them.")));
    }
    if value == "~" || value.starts_with("~/") {
        let remedy = format!("Write the whole path, or ./{value} for a directory of that name.");
        return Some(("~ means nothing in this file", remedy));
    }
    let parent = value.trim_end_matches('/').strip_suffix("version-2").filter(|parent| parent.ends_with('/'))?;
    let remedy = format!("Write {parent}, or {}/. if one below the other is meant.", value.trim_end_matches('/'));
    Some(("version-2 is what the server makes in this directory", remedy))
}

impl DataDirectories {
    pub(super) fn read(settings: &Settings, environment: &Environment, from_file: bool) -> Result<Self, ConfigError> {
        let (data_dir, choice) = match settings.setting("dataDir") {
            Some(setting) if setting.value.is_empty() => {
                return Err(setting.fault("dataDir is not set", "Write a directory after dataDir=.").into());
            }
            Some(setting) => (PathBuf::from(&setting.value), DataDirectoryChoice::Configured),
            None if from_file => {
                let remedy = "Add a line dataDir=<directory>; it will hold snapshots, logs and myid.";
                return Err(Fault::new("dataDir is not set", remedy).into());
            }
            None => environment.default_data_dir()?,
        };
        let data_log_dir = match settings.setting("dataLogDir") {
            Some(setting) if setting.value.is_empty() => {
                let remedy = "Write a directory after dataLogDir=, or remove the line: the log is in dataDir then.";
                return Err(setting.fault("dataLogDir is empty", remedy).into());
            }
            Some(setting) => PathBuf::from(&setting.value),
            None => data_dir.clone(),
        };
        for setting in ["dataDir", "dataLogDir"].iter().filter_map(|name| settings.setting(name)) {
            if let Some((problem, remedy)) = misunderstood(&setting.value) {
                return Err(setting.fault(problem, remedy).into());
            }
        }
        for (name, path) in [("dataDir", &data_dir), ("dataLogDir", &data_log_dir)] {
            if settings.setting(name).is_some() && path.is_relative() && !path.starts_with("./") {
                settings.warn(format!(
                    "{name}={} is relative to the directory the server is started in; write ./ before it if that is meant",
                    path.display()
                ));
            }
        }
        Ok(DataDirectories {
            data_dir,
            data_log_dir,
            choice,
            create_directories: settings.flag("datadir.autocreate"),
            create_database: settings.flag("db.autocreate"),
        })
    }

    /// The directory of the snapshots, as `conf` and `dirs` show it.
    pub fn snapshot_dir(&self) -> PathBuf {
        version_dir(&self.data_dir)
    }

    /// The directory of the log files.
    pub fn log_dir(&self) -> PathBuf {
        version_dir(&self.data_log_dir)
    }
}

/// The subdirectory is named after the version of the file formats.
fn version_dir(path: &Path) -> PathBuf {
    path.join("version-2")
}

/// How the transaction log is written.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct TransactionLog {
    /// Log files are rolled at this size, in KiB; none leaves it to the snapshots.
    pub(crate) size_limit_kib: Option<u64>,
    /// Log files grow in steps of this many KiB, so that a sync need not write the file's size; 0 turns that off.
    pub(crate) pre_alloc_size_kib: u64,
    /// Whether a transaction is on disk before it is acknowledged. Off, a power cut loses acknowledged writes.
    pub(crate) force_sync: bool,
    /// A sync that takes longer than this many milliseconds is reported.
    pub(crate) fsync_warning_threshold_ms: u64,
    /// How many milliseconds writes are gathered before a sync; 0 syncs whenever nothing more waits. More gives
    /// throughput for latency.
    pub(crate) flush_delay_ms: u64,
    /// A sync happens at the latest after this many transactions; none waits for `flush_delay_ms`.
    pub(crate) max_batch_size: Option<u32>,
}

impl TransactionLog {
    pub(super) fn read(settings: &Settings) -> Self {
        TransactionLog {
            size_limit_kib: Some(settings.long("txnLogSizeLimitInKb")).filter(|size| *size > 0),
            pre_alloc_size_kib: settings.long("preAllocSize"),
            force_sync: settings.flag("forceSync"),
            fsync_warning_threshold_ms: settings.long("fsync.warningthresholdms"),
            flush_delay_ms: settings.long("flushDelay"),
            max_batch_size: settings.positive("maxBatchSize"),
        }
    }
}

/// When and how snapshots are taken.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct Snapshots {
    /// A snapshot is taken and the log rolled after half to all of this many transactions, chosen at random so that
    /// members do not do it at once. At least 2. Fewer make the restart faster and the disk busier.
    pub(crate) snap_count: u32,
    /// The same by KiB of log; none for no such limit.
    pub(crate) snap_size_limit_kib: Option<u64>,
    /// How snapshots are written; all forms are read, whatever this says.
    pub(crate) compression: SnapshotCompression,
    /// Whether logs without any snapshot are accepted. On, a lost snapshot goes unnoticed; it is meant for data of
    /// very old servers.
    pub(crate) trust_empty: bool,
    /// Whether a standalone server starts from a snapshot that was taken while the data changed, without the log of that time. A part of
    /// the changes of that time is missing then.
    pub(crate) trust_partial: bool,
}

/// Compression of new snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotCompression {
    /// None.
    Plain,
    /// gzip, files named `snapshot.….gz`.
    Gzip,
    /// Snappy in frames, files named `snapshot.….snappy`.
    Snappy,
}

impl Snapshots {
    pub(super) fn read(settings: &Settings) -> Self {
        let method = settings.text("snapshot.compression.method").unwrap_or("");
        let compression = match method.to_ascii_lowercase().as_str() {
            "" => SnapshotCompression::Plain,
            "gz" => SnapshotCompression::Gzip,
            "snappy" => SnapshotCompression::Snappy,
            _ => {
                settings.warn(format!(
                    "snapshot.compression.method={} is unknown, snapshots are not compressed; allowed: gz, snappy or nothing",
                    super::error::excerpt(method)
                ));
                SnapshotCompression::Plain
            }
        };
        const MIN_SNAP_COUNT: u32 = 2;
        let snap_count = settings.whole("snapCount");
        if snap_count < MIN_SNAP_COUNT {
            settings.warn(format!("snapCount={} is raised to {MIN_SNAP_COUNT}", settings.number("snapCount")));
        }
        Snapshots {
            snap_count: snap_count.max(MIN_SNAP_COUNT),
            snap_size_limit_kib: Some(settings.long("snapSizeLimitInKb")).filter(|size| *size > 0),
            compression,
            trust_empty: settings.flag("snapshot.trust.empty"),
            trust_partial: settings.flag("snapshot.trust.partial"),
        }
    }
}

/// What is written into transactions and snapshots. Each is on in current versions of the original; off is for data
/// that older versions must read.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct Formats {
    /// Digests of the tree, which detect a member that went astray.
    pub(crate) digest_enabled: bool,
    /// What a server does whose tree has another digest than it should have.
    pub(crate) on_digest_mismatch: OnMismatch,
    /// Whether clients may create TTL nodes. Existing ones are read in any case.
    pub(crate) extended_types_enabled: bool,
    /// Which owners of nodes are TTLs.
    pub(crate) ttl_encoding: TtlEncoding,
}

/// What follows when a digest shows that a tree is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMismatch {
    /// The log says so, and the server goes on.
    Log,
    /// The server stops, and does not start from such data either.
    Stop,
}

impl Formats {
    pub(super) fn read(settings: &Settings) -> Result<Self, ConfigError> {
        Ok(Formats {
            digest_enabled: settings.flag("digest.enabled"),
            on_digest_mismatch: match settings.setting("digest.onMismatch") {
                None => OnMismatch::Log,
                Some(setting) => match setting.value.trim() {
                    "log" => OnMismatch::Log,
                    "stop" => OnMismatch::Stop,
                    other => {
                        let problem = format!("digest.onMismatch={} is unknown", super::error::excerpt(other));
                        return Err(setting.fault(problem, "Allowed: log or stop.").into());
                    }
                },
            },
            extended_types_enabled: settings.flag("extendedTypesEnabled"),
            ttl_encoding: ttl_encoding(settings),
        })
    }
}

/// As in the original, TTLs of 3.5.3 are emulated only where there are TTLs.
fn ttl_encoding(settings: &Settings) -> TtlEncoding {
    let (emulated, enabled) = (settings.flag("emulate353TTLNodes"), settings.flag("extendedTypesEnabled"));
    if emulated && !enabled {
        settings.warn("emulate353TTLNodes has no effect without extendedTypesEnabled=true".to_owned());
    }
    if emulated && enabled { TtlEncoding::Also353 } else { TtlEncoding::Current }
}

/// When old snapshots and logs are deleted.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct Purge {
    /// Hours between two purges; 0 means never, and the disk fills up.
    pub(crate) interval_hours: u32,
    /// How many of the newest snapshots are kept, with all logs needed to go on from the oldest of them. At least 3.
    pub(crate) snap_retain_count: u32,
    /// Files younger than this many hours are kept whatever their number, for a way back in time. Key of our own:
    /// `autopurge.minAgeHours`.
    pub(crate) min_age_hours: u32,
}

impl Purge {
    pub(super) fn read(settings: &Settings, from_file: bool) -> Self {
        const MIN_SNAP_RETAIN_COUNT: u32 = 3;
        let mut snap_retain_count = settings.whole("autopurge.snapRetainCount");
        if snap_retain_count < MIN_SNAP_RETAIN_COUNT {
            settings.warn(format!(
                "Invalid autopurge.snapRetainCount: {}. Defaulting to {MIN_SNAP_RETAIN_COUNT}",
                settings.number("autopurge.snapRetainCount")
            ));
            snap_retain_count = MIN_SNAP_RETAIN_COUNT;
        }
        let purge = Purge {
            interval_hours: settings.whole("autopurge.purgeInterval"),
            snap_retain_count,
            min_age_hours: settings.whole("autopurge.minAgeHours"),
        };
        if from_file && settings.setting("autopurge.purgeInterval").is_none() {
            settings.notice(super::error::Notice::info(format!(
                "old snapshots and logs are deleted every {} h, the newest {} snapshots are kept; \
                 autopurge.purgeInterval=0 keeps all",
                purge.interval_hours, purge.snap_retain_count
            )));
        }
        purge
    }
}
