//! A server's storage: what it does in which order, and when it may answer. Without threads and clocks, so that `server` drives it with
//! threads and `sim` with events, and both run the same rules.
//!
//! Reading order:
//! - [`files`]: the files of one server and how they are written
//! - [`start`]: from what is on disk to a tree that a server may begin with
//! - [`worker`]: the log, the epochs, truncations and snapshots of a leader, in the order in which the replica asks for them
//! - [`log_position`]: how far the log is durable, and what snapshots and the worker must wait for from each other
//! - [`snapshots`]: when a snapshot is taken, given up and named, and what is purged
//! - [`error`]: what ends the process, and with which exit code
//!
//! The life of a transaction: [`StorageWorker::take`] appends it to the log behind those that wait, [`StorageWorker::next`] says when no
//! more are waited for, [`StorageWorker::sync`] makes all of them durable, and what it returns is the answer to the replica.
//!
//! What always holds: nothing blocks but the disk; whoever drives this decides when a step happens, never which step comes next.

pub mod error;
pub mod files;
pub mod log_position;
pub mod snapshots;
pub mod start;
pub mod worker;

pub use error::StorageError;
pub use files::{FileOptions, Files};
pub use log_position::{HistoryHold, LogPosition, RewritePermit};
pub use snapshots::{Snapshotter, Taking};
pub use start::{Secured, Start};
pub use worker::{Batching, Job, Next, StorageWorker, Synced};
