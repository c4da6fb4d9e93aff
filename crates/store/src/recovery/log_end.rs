//! Where a log ends: whether it may end there, and what is done about it before another one is begun.
//!
//! What always holds: a log may end before its file does only where a write was under way when the power went; what that write left
//! behind is cut off with a copy kept beside it; what is counted on is on the disk, written again where that is not sure.

use std::path::{Path, PathBuf};

use rookeeper_proto::Zxid;
use tracing::{info, warn};

use super::Recovery;
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::log_reader::{LogReader, RecordFault, Tail};
use crate::names;
use crate::report::LogEnd;

/// How much of what is cut off a log is kept for whoever wants to look.
const MAX_KEPT_BYTES: u64 = 64 << 20;
/// How much of a log is written again at once.
const SETTLE_BLOCK: usize = 256 << 10;

/// Where the records of a log file end.
pub(super) struct Stop {
    pub offset: u64,
    /// `None` where zeros follow, or nothing.
    pub fault: Option<RecordFault>,
    /// The last record, or the one that the file's name comes after.
    pub previous: Zxid,
    pub records: u64,
    pub is_newest: bool,
}

/// What is to be done to the newest log before another one is begun.
pub(super) enum Cut {
    Remove(PathBuf),
    Settle(Settlement),
}

/// A log that ends with its last record, durably.
pub(super) struct Settlement {
    path: PathBuf,
    /// Where the batch begins that may be in memory only.
    durable: u64,
    /// Where the last record ends.
    length: u64,
    /// Where anything but zeros ends.
    data_end: u64,
    cut: bool,
}

impl Recovery<'_> {
    /// Whether a log may end where its records do.
    pub(super) fn judge_end(&self, reader: &mut LogReader, stop: Stop, cuts: &mut Vec<Cut>) -> Result<LogEnd> {
        let Stop { offset, fault, previous, records, is_newest } = stop;
        if fault.is_none() && !is_newest {
            // Should padding hide records here, the next file doesn't follow.
            return Ok(LogEnd::Whole);
        }
        let tail = reader.tail(offset, previous)?;
        let Tail { record_at, data_end, durable } = tail;
        if let Some(at) = record_at {
            // The beginning of a batch that was being written may be missing when its end is there.
            if !tail.may_be_torn_at(offset) {
                let problem = match &fault {
                    Some(fault) => fault.to_string(),
                    None => "the records end here".to_owned(),
                };
                let problem = format!(
                    "{problem}, but at offset {at} a valid record follows: this is damage, not the end of the log"
                );
                return Err(StoreError::damaged(reader.path(), offset, problem));
            }
        }
        let dropped_bytes = data_end.saturating_sub(offset);
        if is_newest {
            let path = reader.path().to_owned();
            let reserved = durable.is_some() && reader.length() > offset;
            if records > 0 {
                let durable = durable.unwrap_or(offset);
                let cut = dropped_bytes > 0 || reserved;
                cuts.push(Cut::Settle(Settlement { path, durable, length: offset, data_end, cut }));
            } else {
                if dropped_bytes > 0 && self.options.clean_up {
                    keep_dropped(self.disk, &path, offset, data_end);
                }
                cuts.push(Cut::Remove(path));
            }
        }
        Ok(match fault {
            Some(fault) => LogEnd::Torn { offset, fault, dropped_bytes },
            None if record_at.is_some() => LogEnd::Torn { offset, fault: RecordFault::NoLength, dropped_bytes },
            None => LogEnd::Whole,
        })
    }
}

impl Settlement {
    /// A server that was killed, or whose last sync failed, leaves records that can be read but are not on the disk, and a sync
    /// alone need not bring them there. Nobody may see them before they are, so they are written again, as they are.
    pub(super) fn carry_out(&self, disk: &dyn Disk) -> Result<()> {
        let path = &self.path;
        if self.data_end > self.length {
            keep_dropped(disk, path, self.length, self.data_end);
        }
        let failed = |error| StoreError::disk("settle", path, error);
        let mut file = disk.open_write(path).map_err(failed)?;
        if self.cut {
            file.truncate(self.length).map_err(failed)?;
        }
        let mut block = vec![0; SETTLE_BLOCK];
        let mut offset = self.durable;
        while offset < self.length {
            let wanted = SETTLE_BLOCK.min(usize::try_from(self.length - offset).unwrap_or(SETTLE_BLOCK));
            let count = file.read_at(&mut block[..wanted], offset).map_err(failed)?;
            if count == 0 {
                break;
            }
            file.write_at(&block[..count], offset).map_err(failed)?;
            offset += count as u64;
        }
        file.sync_data().map_err(failed)
    }
}

/// Copies what is about to be cut off a log to a file beside it. It was never acknowledged, so a failure stops nothing.
fn keep_dropped(disk: &dyn Disk, path: &Path, from: u64, to: u64) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let copy = path.with_file_name(names::kept(&name, names::DROPPED));
    let result = crate::repair::copy(disk, path, from, to.min(from + MAX_KEPT_BYTES), &copy);
    match result {
        Ok(()) => info!("what was cut off {name} is kept in {}", copy.display()),
        Err(error) => warn!("what was cut off {name} could not be kept: {error}"),
    }
}
