//! The start of a server, from what its disk has: the database is read, then made sure of with a first snapshot where it needs one, and
//! then a member's epochs are read.
//!
//! What always holds here:
//! - the permission to begin empty is used up when the first snapshot is on disk, and not before;
//! - nothing of what a member finds in its log goes into a snapshot, because the next leader may take it back;
//! - a member that may have lost its disk still knows that after another start.

use std::sync::Arc;

use rookeeper_proto::Zxid;
use rookeeper_replica::Epochs;
use rookeeper_store::{Origin, Recovered, StoreError, WrittenSnapshot, use_up_permissions, write_snapshot};

use crate::error::StorageError;
use crate::files::Files;

/// A database that was read.
#[derive(Debug)]
pub struct Start {
    files: Arc<Files>,
    is_member: bool,
    pub recovered: Recovered,
}

/// A database that another start would find as this one did.
#[derive(Debug)]
pub struct Secured {
    files: Arc<Files>,
    pub recovered: Recovered,
    /// Written by this start.
    pub first_snapshot: Option<WrittenSnapshot>,
    /// Transactions were replayed that a snapshot could spare the next start.
    pub wants_snapshot: bool,
}

impl Start {
    /// Reads the database of a standalone server, or of a member of an ensemble.
    pub fn recover(files: Arc<Files>, is_member: bool) -> Result<Start, StoreError> {
        let mut recovered = files.recover()?;
        if is_member {
            // What a member has no history for it says with this number to the others, who send it theirs. A standalone server has nobody to
            // wait for.
            recovered.tree.set_last_zxid(Zxid::written(recovered.last));
        }
        Ok(Start { files, is_member, recovered })
    }

    /// Whether [`Start::secure`] writes a snapshot, which takes its time.
    pub fn needs_snapshot(&self) -> bool {
        let report = &self.recovered.report;
        let stands_before_the_log = matches!(report.origin, Origin::Snapshot { .. }) && report.partial_since.is_none();
        !stands_before_the_log && self.may_take()
    }

    fn may_take(&self) -> bool {
        !self.is_member || self.recovered.last == Some(Zxid::ZERO)
    }

    /// Writes the first snapshot where one is needed: the original needs one before the first log, and so does another start.
    pub fn secure(self) -> Result<Secured, StorageError> {
        let (needs_snapshot, may_take) = (self.needs_snapshot(), self.may_take());
        let Start { files, recovered, .. } = self;
        let mut first_snapshot = None;
        if needs_snapshot {
            first_snapshot = Some(write_first(&files, &recovered).map_err(StorageError::Snapshot)?);
        }
        let wants_snapshot = !needs_snapshot && may_take && recovered.report.replayed > 0;
        Ok(Secured { files, recovered, first_snapshot, wants_snapshot })
    }
}

fn write_first(files: &Files, recovered: &Recovered) -> Result<WrittenSnapshot, StoreError> {
    let written = write_snapshot(
        &*files.disk,
        &files.directories.snapshot_dir,
        &files.options.snapshots,
        &mut |read| read(&recovered.tree),
        &mut |_| Ok(()),
    )?;
    use_up_permissions(&*files.disk, &files.directories)?;
    Ok(written)
}

impl Secured {
    /// The epochs of a member.
    pub fn epochs(&self) -> Result<Epochs, StoreError> {
        self.files.read_epochs(self.recovered.last.unwrap_or_default())
    }
}
