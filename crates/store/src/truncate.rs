//! Giving up a part of the history because a leader says so: cutting the log, or putting the leader's snapshot in its place.
//!
//! What always holds: nothing is touched before it is sure that the history can be read up to the cut afterwards. From then on a file
//! says what is under way, so that the next start finishes it: whenever the power goes, the next [`recover`](crate::recover) finds
//! the history from before, or the one asked for. Nothing that is left holds a part of what was given up, also a snapshot that was
//! taken while later transactions were applied does not.
//!
//! No log may be open for writing, and no snapshot be taken, meanwhile. Afterwards a [`LogWriter`](crate::LogWriter) is begun anew.
//!
//! Counterpart in the original: `FileTxnLog.truncate`, which keeps newer snapshots, and the first record after a cut that is not in
//! the log.

use std::path::{Path, PathBuf};

use rookeeper_proto::Zxid;
use rookeeper_tree::Tree;
use tracing::info;

use crate::directories::Directories;
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::log_mark;
use crate::log_reader::{LogReader, Next};
use crate::names::{self, Listing};
use crate::snapshot_reader;
use crate::snapshot_writer::{self, SnapshotOptions, WithTree, WrittenSnapshot};

/// Cuts the history behind the last transaction up to `zxid`, durably. The log ends with that transaction, later logs and every
/// snapshot that holds a part of later transactions are gone. An error that [is no way back](StoreError::is_no_way_back) leaves
/// everything as it was: a leader's snapshot may have taken the place of all that is older.
pub fn truncate(disk: &dyn Disk, directories: &Directories, zxid: Zxid) -> Result<()> {
    finish(disk, directories)?;
    if zxid == Zxid::ZERO && Snapshots::judge(disk, directories, zxid)?.base.is_none() {
        // Every history begins with an empty tree, so that need not be found.
        let empty = Tree::new();
        return install_snapshot(disk, directories, &SnapshotOptions::default(), &mut |read| read(&empty), zxid)
            .map(drop);
    }
    refuse_to_lose_more(disk, directories, zxid)?;
    let marker = directories.snapshot_dir.join(names::truncation(zxid));
    disk.create(&marker).map_err(|error| StoreError::disk("create", &marker, error))?;
    sync_dir(disk, &directories.snapshot_dir)?;
    carry_out(disk, directories, zxid)
}

/// Puts the tree, which nobody changes meanwhile and which is at `zxid`, in the place of the whole history, durably. Everything
/// older is removed too: the tree came from a leader, and nobody can tell whether what was here before is how it came about.
pub fn install_snapshot(
    disk: &dyn Disk,
    directories: &Directories,
    options: &SnapshotOptions,
    with_tree: &mut WithTree<'_>,
    zxid: Zxid,
) -> Result<WrittenSnapshot> {
    finish(disk, directories)?;
    let bytes = snapshot_writer::write_for_install(disk, &directories.snapshot_dir, options, with_tree, zxid)?;
    finish(disk, directories)?;
    let path = directories.snapshot_dir.join(names::snapshot(zxid, options.compression));
    Ok(WrittenSnapshot { zxid, path, bytes })
}

/// Whether a truncation or an installation was cut off.
pub(crate) fn is_unfinished(disk: &dyn Disk, directories: &Directories) -> Result<bool> {
    let listing = Listing::read(disk, &directories.snapshot_dir)?;
    Ok(!listing.installations.is_empty() || !listing.truncations.is_empty())
}

/// Finishes what was cut off, if anything was.
pub(crate) fn finish(disk: &dyn Disk, directories: &Directories) -> Result<()> {
    let Listing { installations, truncations, .. } = Listing::read(disk, &directories.snapshot_dir)?;
    if !installations.is_empty() || !truncations.is_empty() {
        // The name that says so may be one that a disk failed to keep, and is seen because the power has not gone since. If the power went now, in
        // the middle, nobody would know what to finish.
        sync_dir(disk, &directories.snapshot_dir)?;
    }
    for (zxid, compression) in installations {
        info!("putting the snapshot {zxid} in the place of the history");
        let dir = &directories.snapshot_dir;
        let listing = Listing::read(disk, dir)?;
        for (zxid, compression) in listing.snapshots {
            remove(disk, &dir.join(names::snapshot(zxid, compression)))?;
        }
        for log in Listing::read(disk, &directories.log_dir)?.logs.into_iter().rev() {
            remove(disk, &directories.log_dir.join(names::log(log)))?;
        }
        sync_dir(disk, dir)?;
        sync_dir(disk, &directories.log_dir)?;
        let installed = dir.join(names::installation(zxid, compression));
        disk.rename(&installed, &dir.join(names::snapshot(zxid, compression)))
            .map_err(|error| StoreError::disk("rename", &installed, error))?;
        sync_dir(disk, dir)?;
    }
    for zxid in truncations {
        info!("finishing to cut the history behind {zxid}");
        carry_out(disk, directories, zxid)?;
    }
    Ok(())
}

fn remove(disk: &dyn Disk, path: &Path) -> Result<()> {
    disk.remove(path).map_err(|error| StoreError::disk("remove", path, error))
}

fn sync_dir(disk: &dyn Disk, dir: &Path) -> Result<()> {
    disk.sync_dir(dir).map_err(|error| StoreError::disk("sync", dir, error))
}

/// The snapshots as they stand to a cut.
struct Snapshots {
    /// The newest that is whole and holds nothing from behind the cut.
    base: Option<Zxid>,
    /// Those that hold something from behind the cut.
    later: Vec<PathBuf>,
    /// Those older than `base`.
    older: Vec<PathBuf>,
}

impl Snapshots {
    fn judge(disk: &dyn Disk, directories: &Directories, cut: Zxid) -> Result<Snapshots> {
        let dir = &directories.snapshot_dir;
        let mut snapshots = Snapshots { base: None, later: Vec::new(), older: Vec::new() };
        for (zxid, compression) in Listing::read(disk, dir)?.snapshots {
            let path = dir.join(names::snapshot(zxid, compression));
            if zxid > cut {
                snapshots.later.push(path);
                continue;
            }
            // Snapshots are taken one after the other: an older one was complete before this one was begun.
            if snapshots.base.is_some() {
                snapshots.older.push(path);
                continue;
            }
            match snapshot_reader::verify(disk, dir, zxid, compression, crate::MAX_RECORD_BYTES) {
                Ok(info) if info.complete_at(zxid) <= cut => snapshots.base = Some(zxid),
                Ok(_) => snapshots.later.push(path),
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(snapshots)
    }
}

/// Where a log file is to end.
struct End {
    /// The last record that stays; none where the file goes.
    last: Option<Zxid>,
    offset: u64,
    durable: Option<u64>,
}

/// Looks at everything before anything is changed.
fn refuse_to_lose_more(disk: &dyn Disk, directories: &Directories, cut: Zxid) -> Result<()> {
    let logs = Listing::read(disk, &directories.log_dir)?.logs;
    if let Some(log) = logs.iter().rfind(|log| **log <= cut) {
        end_of(disk, &directories.log_dir.join(names::log(*log)), cut)?;
    }
    let snapshots = Snapshots::judge(disk, directories, cut)?;
    if snapshots.later.is_empty() {
        return Ok(());
    }
    let path = directories.snapshot_dir.clone();
    let refuse = |problem: String| StoreError::NoWayBack { path, cut, problem };
    let Some(base) = snapshots.base else {
        return Err(refuse(format!("no snapshot is as old as {cut}")));
    };
    let mut last = base;
    let first = logs.iter().rposition(|log| *log <= base).unwrap_or(0);
    for log in logs.iter().skip(first) {
        if last == cut {
            break;
        }
        let mut reader = LogReader::open(disk, &directories.log_dir.join(names::log(*log)), crate::MAX_RECORD_BYTES)?;
        while let Next::Record { zxid, .. } = reader.next_record()? {
            if zxid <= last {
                continue;
            }
            if !zxid.follows(last) {
                return Err(refuse(format!("after {last} the log goes on with {zxid} only")));
            }
            if zxid > cut {
                return Ok(());
            }
            last = zxid;
        }
    }
    if last == cut { Ok(()) } else { Err(refuse(format!("the log ends with {last}"))) }
}

/// Everything that is behind the cut goes. Done twice it is as if done once.
fn carry_out(disk: &dyn Disk, directories: &Directories, cut: Zxid) -> Result<()> {
    let dir = &directories.log_dir;
    let snapshots = Snapshots::judge(disk, directories, cut)?;
    for path in &snapshots.later {
        remove(disk, path)?;
    }
    let mut logs = Listing::read(disk, dir)?.logs;
    while let Some(log) = logs.pop_if(|log| *log > cut) {
        remove(disk, &dir.join(names::log(log)))?;
    }
    let mut last = None;
    if let Some(log) = logs.last().copied() {
        let path = dir.join(names::log(log));
        let end = end_of(disk, &path, cut)?;
        last = end.last;
        match last {
            None => {
                remove(disk, &path)?;
                logs.pop();
            }
            // Also where it ends there: a disk that failed may have kept the cut from being durable, and this is the next start.
            Some(_) => cut_file(disk, &path, &end).map_err(|error| StoreError::disk("cut", &path, error))?,
        }
    }
    // A snapshot at the cut that no log led to came from a leader. What is older may not be how it came about, and must not be
    // mistaken for that should the snapshot be lost.
    if snapshots.base == Some(cut) && last != Some(cut) {
        for log in logs.iter().rev() {
            remove(disk, &dir.join(names::log(*log)))?;
        }
        for path in &snapshots.older {
            remove(disk, path)?;
        }
    }
    sync_dir(disk, dir)?;
    sync_dir(disk, &directories.snapshot_dir)?;
    // Should this name come back after a crash, it would cut off what is logged from now on.
    remove(disk, &directories.snapshot_dir.join(names::truncation(cut)))?;
    sync_dir(disk, &directories.snapshot_dir)
}

fn end_of(disk: &dyn Disk, path: &Path, cut: Zxid) -> Result<End> {
    let mut reader = LogReader::open(disk, path, crate::MAX_RECORD_BYTES)?;
    let mut last = None;
    let offset = loop {
        match reader.next_record()? {
            Next::Record { offset, zxid, .. } if zxid > cut => break offset,
            Next::Record { zxid, .. } => last = Some(zxid),
            Next::End { offset } | Next::Bad { offset, .. } => {
                let tail = reader.tail(offset, last.unwrap_or(Zxid::ZERO))?;
                if let (Some(at), false) = (tail.record_at, tail.may_be_torn_at(offset)) {
                    let problem = format!(
                        "the records end here, but at offset {at} a valid one follows: nobody can tell where to cut"
                    );
                    return Err(StoreError::damaged(path, offset, problem));
                }
                break offset;
            }
        }
    };
    Ok(End { last, offset, durable: reader.durable() })
}

fn cut_file(disk: &dyn Disk, path: &Path, end: &End) -> std::io::Result<()> {
    let mut file = disk.open_write(path)?;
    // Otherwise what is cut off would look like lost.
    if end.durable.is_some_and(|durable| durable > end.offset) {
        log_mark::write_in_header(file.as_mut(), end.offset)?;
    }
    file.truncate(end.offset)?;
    file.sync_data()
}
