//! Removing old snapshots and logs.
//!
//! What always holds: the newest snapshots that can be read to their seals stay, as many as asked for, with every log that may hold
//! something above the oldest of them; only files are removed whose names are exactly those of logs and snapshots; what is left of the logs
//! is their end without a gap, also where the power goes in between. A gap of a whole epoch can be told from nothing: the one before it and
//! the one behind it are in order.
//!
//! Counterpart in the original: `PurgeTxnLog`, which counts snapshots without reading them.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rookeeper_proto::Zxid;
use tracing::warn;

use crate::directories::Directories;
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::names::{self, Compression, Listing};
use crate::{snapshot_reader, truncate};

/// What stays.
#[derive(Debug, Clone, Copy)]
pub struct PurgeOptions {
    /// At least one is always kept.
    pub retain_snapshots: usize,
    /// Files that were written to within this time stay in any case.
    pub min_age: Duration,
    pub max_record_bytes: usize,
}

impl Default for PurgeOptions {
    fn default() -> Self {
        PurgeOptions { retain_snapshots: 3, min_age: Duration::ZERO, max_record_bytes: crate::MAX_RECORD_BYTES }
    }
}

/// What went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purged {
    pub snapshots: usize,
    pub logs: usize,
}

/// Purges again and again, and reads every snapshot only once.
#[derive(Debug, Default)]
pub struct Purger {
    /// Known to be whole. Snapshots do not change once they have their name.
    verified: HashSet<(Zxid, Compression)>,
}

impl Purger {
    /// Has verified nothing yet.
    pub fn new() -> Purger {
        Purger::default()
    }

    /// Removes what is not needed any more. Does nothing while there are fewer good snapshots than should stay.
    pub fn purge(
        &mut self,
        disk: &dyn Disk,
        directories: &Directories,
        options: &PurgeOptions,
        now: SystemTime,
    ) -> Result<Purged> {
        self.purge_and_tell(disk, directories, options, now, &mut |_, _| {})
    }

    /// [`Purger::purge`], which tells of each file before it is removed, with the time of the last change of it.
    pub fn purge_and_tell(
        &mut self,
        disk: &dyn Disk,
        directories: &Directories,
        options: &PurgeOptions,
        now: SystemTime,
        tell: &mut dyn FnMut(&Path, SystemTime),
    ) -> Result<Purged> {
        // The newest snapshots are those that a truncation is about to remove, so an older one is what recovery needs.
        if truncate::is_unfinished(disk, directories)? {
            warn!("nothing is purged while the history is being cut or replaced; a start of the server finishes that");
            return Ok(Purged::default());
        }
        let snapshots = Listing::read(disk, &directories.snapshot_dir)?.snapshots;
        let logs = Listing::read(disk, &directories.log_dir)?.logs;
        self.verified.retain(|verified| snapshots.contains(verified));
        let Some(oldest_kept) = self.oldest_kept(disk, &directories.snapshot_dir, &snapshots, options)? else {
            return Ok(Purged::default());
        };
        let mut purged = Purged::default();
        // Older snapshots first, logs last: whatever is left in between can be recovered from.
        for (zxid, compression) in snapshots.iter().rev().filter(|(zxid, _)| *zxid < oldest_kept) {
            let path = directories.snapshot_dir.join(names::snapshot(*zxid, *compression));
            purged.snapshots += usize::from(remove_if_old(disk, &path, options.min_age, now, tell)?);
        }
        // A snapshot that comes back with the power must find its logs.
        sync_dir(disk, &directories.snapshot_dir)?;
        // A snapshot too young to be removed needs its logs.
        let oldest_left =
            Listing::read(disk, &directories.snapshot_dir)?.snapshots.last().map_or(oldest_kept, |(zxid, _)| *zxid);
        let first_needed = logs.iter().rev().find(|log| **log <= oldest_left.min(oldest_kept));
        for log in logs.iter().filter(|log| first_needed.is_some_and(|needed| *log < needed)) {
            let path = directories.log_dir.join(names::log(*log));
            // One that is too young keeps those behind it.
            if !remove_if_old(disk, &path, options.min_age, now, tell)? {
                break;
            }
            sync_dir(disk, &directories.log_dir)?;
            purged.logs += 1;
            // What a start cut off it is of no interest without it.
            let _ = disk.remove(&path.with_file_name(names::kept(&names::log(*log), names::DROPPED)));
        }
        Ok(purged)
    }

    fn oldest_kept(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
        snapshots: &[(Zxid, Compression)],
        options: &PurgeOptions,
    ) -> Result<Option<Zxid>> {
        let mut good = 0;
        for (zxid, compression) in snapshots {
            if !self.verified.contains(&(*zxid, *compression)) {
                match snapshot_reader::verify(disk, dir, *zxid, *compression, options.max_record_bytes) {
                    Ok(_) => {}
                    Err(error) if error.is_damage() => {
                        warn!("a snapshot that can't be used doesn't count as kept: {error}");
                        continue;
                    }
                    Err(error) => return Err(error),
                }
                self.verified.insert((*zxid, *compression));
            }
            good += 1;
            if good == options.retain_snapshots.max(1) {
                return Ok(Some(*zxid));
            }
        }
        Ok(None)
    }
}

fn remove_if_old(
    disk: &dyn Disk,
    path: &Path,
    min_age: Duration,
    now: SystemTime,
    tell: &mut dyn FnMut(&Path, SystemTime),
) -> Result<bool> {
    let modified = disk.modified(path).map_err(|error| StoreError::disk("look at", path, error))?;
    // A clock that was set back makes files young, and so keeps them.
    if !min_age.is_zero() && now.duration_since(modified).is_ok_and(|age| age < min_age) | (modified > now) {
        return Ok(false);
    }
    tell(path, modified);
    disk.remove(path).map_err(|error| StoreError::disk("remove", path, error))?;
    Ok(true)
}

fn sync_dir(disk: &dyn Disk, dir: &Path) -> Result<()> {
    disk.sync_dir(dir).map_err(|error| StoreError::disk("sync", dir, error))
}
