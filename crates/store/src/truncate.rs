//! Cutting the history of a member that has more than its leader.
//!
//! What always holds: whatever moment the power goes, a restart finds the old history, the new one, or one in between from which the
//! same cut can be made again. That is why the end of the log goes first, newest file first, and snapshots only after it. The cut is
//! right behind the last record up to the given zxid, whether or not that one is there.
//!
//! Counterpart in the original: `FileTxnLog.truncate`, which leaves newer snapshots in place.

use std::path::Path;

use rookeeper_proto::Zxid;

use crate::directories::Directories;
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::log_reader::{LogReader, Next};
use crate::log_writer::write_mark;
use crate::names::{self, Compression, Listing};
use crate::snapshot_reader;

/// Removes every transaction after `zxid` from the log, and every snapshot that contains one. Durable when it returns.
pub fn truncate(disk: &dyn Disk, directories: &Directories, zxid: Zxid) -> Result<()> {
    let log_dir = &directories.log_dir;
    let snapshot_dir = &directories.snapshot_dir;
    let newer = snapshots_after(disk, snapshot_dir, zxid)?;
    let mut logs = Listing::read(disk, log_dir)?.logs;
    while let Some(start) = logs.pop_if(|start| *start > zxid) {
        let path = log_dir.join(names::log(start));
        disk.remove(&path).map_err(|error| StoreError::disk("remove", &path, error))?;
        // One by one, so that no file is left without its predecessor.
        disk.sync_dir(log_dir).map_err(|error| StoreError::disk("sync", log_dir, error))?;
    }
    if let Some(start) = logs.last() {
        cut(disk, &log_dir.join(names::log(*start)), zxid)?;
    }
    for (snapshot, compression) in newer {
        let path = snapshot_dir.join(names::snapshot(snapshot, compression));
        disk.remove(&path).map_err(|error| StoreError::disk("remove", &path, error))?;
        disk.sync_dir(snapshot_dir).map_err(|error| StoreError::disk("sync", snapshot_dir, error))?;
    }
    Ok(())
}

/// The snapshots that contain something after `zxid`, also where their name is older: a snapshot contains a part of what was applied
/// while it was written. Newest first. An error where no other is left.
fn snapshots_after(disk: &dyn Disk, dir: &Path, zxid: Zxid) -> Result<Vec<(Zxid, Compression)>> {
    let mut after = Vec::new();
    for (snapshot, compression) in Listing::read(disk, dir)?.snapshots {
        if snapshot <= zxid {
            let info = snapshot_reader::verify(disk, dir, snapshot, compression, crate::MAX_RECORD_BYTES);
            match info {
                Ok(info) if info.complete_at(snapshot) <= zxid => return Ok(after),
                Ok(_) => {}
                // It is of no use now, and does no harm.
                Err(error) if error.is_damage() => continue,
                Err(error) => return Err(error),
            }
        }
        after.push((snapshot, compression));
    }
    Err(StoreError::Damaged {
        path: dir.to_owned(),
        offset: None,
        problem: format!("no snapshot is as old as {zxid}, so the history can't go back there"),
        remedy: "nothing was changed: empty this member's version-2 to fetch everything from the leader".to_owned(),
    })
}

/// Ends a log file behind the last record up to `zxid`.
fn cut(disk: &dyn Disk, path: &Path, zxid: Zxid) -> Result<()> {
    let mut reader = LogReader::open(disk, path, crate::MAX_RECORD_BYTES)?;
    let durable = reader.durable();
    let end = loop {
        match reader.next_record()? {
            Next::Record { zxid: next, .. } if next <= zxid => {}
            Next::Record { offset, .. } | Next::Bad { offset, .. } => break offset,
            // Nothing but zeros behind it.
            Next::End { .. } => return Ok(()),
        }
    };
    let failed = |error| StoreError::disk("cut", path, error);
    let mut file = disk.open_write(path).map_err(failed)?;
    if durable.is_some_and(|durable| durable > end) {
        // Otherwise what is cut off would look like lost.
        write_mark(file.as_mut(), end).map_err(failed)?;
        file.sync_data().map_err(failed)?;
    }
    file.truncate(end).map_err(failed)?;
    file.sync_data().map_err(failed)
}
