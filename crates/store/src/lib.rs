//! The files: transaction log and snapshots in the original's formats, recovery, purging. Blocking, without threads of its own.
//!
//! Reading order:
//! - [`disk`] and [`sim_disk`]: what a disk can do, the real one, and one that fails at will; [`descriptors`]: files that can't be opened now; [`replace`]: a
//!   file as a whole
//! - [`names`], [`directories`], [`lock`]: which files there are, where, and for whom
//! - [`log_writer`] with [`roll_policy`]; [`log_reader`]
//! - [`snapshot_writer`], [`snapshot_reader`], both on `snapshot_file`, the three compressions; `snapshot_body`, what a file and a stream
//!   have in common, parsed; [`lone_snapshot`], a snapshot that comes without its log
//! - [`recovery`] with [`report`]: from the files to the tree
//! - for members of an ensemble: [`member`], [`epoch_files`]; [`truncate`], giving up history for a leader's; [`catch_up`] and
//!   [`snapshot_stream`], handing history on to learners
//! - [`purge`], [`repair`]; [`log_copy`], a log written anew from another's records
//! - [`error`]: what can go wrong, and whose fault it is
//!
//! The life of a transaction: [`LogWriter::append`] encodes it behind the others that wait, [`LogWriter::commit`] writes them with one
//! write and one sync, and then it may be acknowledged. When enough has gathered the log is rolled and [`write_snapshot`] writes the
//! tree; [`Purger::purge`] removes the logs that no kept snapshot needs. At the next start [`recover`] reads the newest snapshot that is
//! whole and the log above it.
//!
//! What always holds: acknowledged transactions survive a crash at any operation; a file has its final name only when it is whole and
//! durable; names we don't know are never touched; whatever the files hold, memory stays within checked limits.

pub mod catch_up;
pub mod descriptors;
pub mod directories;
pub mod disk;
pub mod epoch_files;
pub mod epochs;
pub mod error;
pub mod lock;
pub mod log_copy;
mod log_mark;
pub mod log_reader;
pub mod log_slice;
pub mod log_writer;
pub mod lone_snapshot;
pub mod member;
pub mod names;
pub mod purge;
pub mod recovery;
pub mod repair;
pub mod replace;
pub mod report;
pub mod roll_policy;
pub mod sim_disk;
mod snapshot_body;
mod snapshot_file;
pub mod snapshot_reader;
pub mod snapshot_stream;
pub mod snapshot_writer;
pub mod truncate;

pub use directories::{Directories, HeldDirectories};
pub use disk::{Disk, DiskFile, RealDisk, Rights};
pub use error::StoreError;
pub use lock::DirectoryLock;
pub use log_writer::{LogOptions, LogWriter, SyncStats};
pub use names::Compression;
pub use purge::{PurgeOptions, Purged, Purger};
pub use recovery::{LoadTimes, Recovered, RecoveryOptions, Until, recover, use_up_permissions};
pub use repair::{CheckReport, Repaired, check, repair_log};
pub use report::{LogEnd, LogReport, Origin, RecoveryReport};
pub use roll_policy::RollLimits;
pub use sim_disk::{Fault, SimDisk};
pub use snapshot_body::{Listed, ListedNode};
pub use snapshot_writer::{OngoingSnapshot, SnapshotOptions, SnapshotStep, Whole, WrittenSnapshot, write_snapshot};

/// The version of the formats of logs and snapshots, in their headers and in the name of their directory.
pub const FORMAT_VERSION: i32 = 2;

/// The largest record written to a log, and the largest string or buffer read from a snapshot. What is proposed is bounded far below it by
/// `jute.maxbuffer`. What was acknowledged must be readable whatever the settings are at the next start, so this is no setting; reading is
/// bounded by what the files really hold.
pub const MAX_RECORD_BYTES: usize = 1 << 30;
