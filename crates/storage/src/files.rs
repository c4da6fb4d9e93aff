//! The files of one server, and how they are written: by the worker and the snapshots, and read for learners.
//!
//! What always holds: whoever reads the history from disk can tell that a part of it was given up meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

use rookeeper_proto::{Epoch, Zxid};
use rookeeper_replica::{Epochs, Shared};
use rookeeper_store::epoch_files::{ACCEPTED, CURRENT, write_epoch};
use rookeeper_store::member::read_epochs;
use rookeeper_store::snapshot_writer::{WithTree, write_for_restore};
use rookeeper_store::truncate::{install_snapshot, truncate};
use rookeeper_store::{
    Directories, Disk, HeldDirectories, LogOptions, LogWriter, OngoingSnapshot, Recovered, RecoveryOptions,
    SnapshotOptions, StoreError, WrittenSnapshot, recover,
};
use rookeeper_tree::Tree;

/// How the files are written and read.
#[derive(Debug, Clone, Default)]
pub struct FileOptions {
    pub log: LogOptions,
    pub snapshots: SnapshotOptions,
    pub recovery: RecoveryOptions,
}

/// The files of one server. Every call blocks for as long as the disk takes.
#[derive(Debug)]
pub struct Files {
    pub disk: Arc<dyn Disk>,
    pub directories: Directories,
    pub options: FileOptions,
    held: HeldDirectories,
    /// How often a part of the history was given up.
    rewrites: AtomicU64,
}

impl Files {
    /// Keeps hold of directories that were checked.
    pub fn new(disk: Arc<dyn Disk>, directories: Directories, options: FileOptions) -> Result<Files, StoreError> {
        Ok(Files { held: directories.hold(&*disk)?, disk, directories, options, rewrites: AtomicU64::new(0) })
    }

    /// `dataDir` itself, which holds more than the database.
    pub fn data_dir(&self) -> &Path {
        &self.directories.data_dir
    }

    /// A writer whose first transaction follows `last`.
    pub fn log_writer(&self, last: Zxid) -> LogWriter {
        LogWriter::new(self.disk.clone(), &self.directories.log_dir, self.options.log.clone(), last)
    }

    /// An error where the directories are not those any more that this server has recovered from.
    pub fn refuse_if_gone(&self) -> Result<(), StoreError> {
        self.held.refuse_if_gone()
    }

    /// The epochs with which a member starts whose history ends at `last`.
    pub fn read_epochs(&self, last: Zxid) -> Result<Epochs, StoreError> {
        let epochs = read_epochs(&*self.disk, &self.directories, last)?;
        Ok(Epochs { accepted: epochs.accepted, current: epochs.current })
    }

    /// Durable when it returns.
    pub fn write_accepted_epoch(&self, epoch: Epoch) -> Result<(), StoreError> {
        write_epoch(&*self.disk, &self.directories.snapshot_dir, ACCEPTED, epoch)
    }

    /// Durable when it returns.
    pub fn write_current_epoch(&self, epoch: Epoch) -> Result<(), StoreError> {
        write_epoch(&*self.disk, &self.directories.snapshot_dir, CURRENT, epoch)
    }

    /// Cuts the history behind the last transaction up to `zxid`. No log may be open for writing.
    pub fn truncate(&self, zxid: Zxid) -> Result<(), StoreError> {
        self.rewrites.fetch_add(1, Release);
        truncate(&*self.disk, &self.directories, zxid)
    }

    /// Makes the tree, which nobody changes meanwhile and which is at `zxid`, the whole history. No log may be open for writing.
    pub fn install_snapshot(&self, shared: &Shared, zxid: Zxid) -> Result<WrittenSnapshot, StoreError> {
        self.rewrites.fetch_add(1, Release);
        let with_tree: &mut WithTree<'_> = &mut |read| read(&shared.tree());
        install_snapshot(&*self.disk, &self.directories, &self.options.snapshots, with_tree, zxid)
    }

    /// Writes the tree, which nobody changes, as a snapshot that is whole and on disk and does not count before it is published.
    pub fn write_for_restore(&self, tree: &Tree) -> Result<OngoingSnapshot, StoreError> {
        write_for_restore(&*self.disk, &self.directories.snapshot_dir, &self.options.snapshots, tree)
    }

    /// Makes a snapshot count as the newest: what comes next follows its transaction. No log may be open for writing.
    pub fn publish_restored(&self, snapshot: OngoingSnapshot) -> Result<WrittenSnapshot, StoreError> {
        self.rewrites.fetch_add(1, Release);
        snapshot.publish(&*self.disk)
    }

    /// Changes before anything is taken from the history on disk but its oldest part.
    pub fn rewrites(&self) -> u64 {
        self.rewrites.load(Acquire)
    }

    /// Reads the database.
    pub fn recover(&self) -> Result<Recovered, StoreError> {
        let recovered = recover(&*self.disk, &self.directories, &self.options.recovery)?;
        for line in recovered.report.to_string().lines() {
            tracing::info!("{line}");
        }
        Ok(recovered)
    }
}
