//! The log on disk as a source for learners that are further behind than what the leader has in memory.
//!
//! What always holds: records come in order and without a gap, one in memory at a time; the log may be appended to meanwhile.
//!
//! Counterpart in the original: `ZKDatabase.getProposalsFromTxnLog`.

use std::collections::VecDeque;
use std::path::PathBuf;

use rookeeper_proto::Zxid;

use crate::directories::Directories;
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::log_reader::{LogReader, Next};
use crate::log_writer::follows;
use crate::names::{self, Listing};

/// What the log can do for a learner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUpStart {
    /// It continues right where the learner's history ends.
    Continues,
    /// It does once the learner has gone back to here.
    TruncateTo(Zxid),
    /// It does not reach back that far, goes another way, or is larger than a snapshot is worth.
    Unavailable,
}

/// Looks whether the log leads from `after` up to, but not including, `before`. With `size_factor` the files behind the first must not be
/// larger than that part of the newest snapshot; without it the log is never used.
pub fn plan_catch_up(
    disk: &dyn Disk,
    directories: &Directories,
    after: Zxid,
    before: Zxid,
    size_factor: Option<f64>,
) -> Result<CatchUpStart> {
    let Some(size_factor) = size_factor else { return Ok(CatchUpStart::Unavailable) };
    let files = files_from(disk, directories, after)?;
    if files.is_empty() || !is_small_enough(disk, directories, &files, size_factor)? {
        return Ok(CatchUpStart::Unavailable);
    }
    let mut records = Records { disk, files, reader: None };
    let mut previous = None;
    while let Some((zxid, _)) = records.next()? {
        if zxid >= before {
            break;
        }
        if zxid < after {
            previous = Some(zxid);
            continue;
        }
        let Some(previous) = previous.filter(|_| zxid > after) else {
            return Ok(if zxid == after { CatchUpStart::Continues } else { CatchUpStart::Unavailable });
        };
        return Ok(if after.counter() == 0 {
            CatchUpStart::Continues
        } else if zxid.epoch() == after.epoch() {
            CatchUpStart::TruncateTo(previous)
        } else {
            CatchUpStart::Unavailable
        });
    }
    Ok(CatchUpStart::Unavailable)
}

/// The log files from the one that may hold `after` on.
fn files_from(disk: &dyn Disk, directories: &Directories, after: Zxid) -> Result<VecDeque<PathBuf>> {
    let logs = Listing::read(disk, &directories.log_dir)?.logs;
    let first = match logs.partition_point(|start| *start <= after) {
        0 => return Ok(VecDeque::new()),
        later => later - 1,
    };
    Ok(logs[first..].iter().map(|start| directories.log_dir.join(names::log(*start))).collect())
}

fn is_small_enough(
    disk: &dyn Disk,
    directories: &Directories,
    files: &VecDeque<PathBuf>,
    size_factor: f64,
) -> Result<bool> {
    let length = |path: &PathBuf| -> Result<u64> {
        let file = disk.open_read(path).map_err(|error| StoreError::disk("open", path, error))?;
        file.length().map_err(|error| StoreError::disk("read", path, error))
    };
    let newest = Listing::read(disk, &directories.snapshot_dir)?.snapshots.into_iter().next();
    let snapshot = match newest {
        Some((zxid, compression)) => {
            // It may have been removed for a newer one just now.
            length(&directories.snapshot_dir.join(names::snapshot(zxid, compression))).unwrap_or(0)
        }
        None => 0,
    };
    let limit = (snapshot as f64 * size_factor) as u64;
    let mut behind_the_first = 0;
    for path in files.iter().skip(1) {
        behind_the_first += length(path)?;
    }
    Ok(limit == 0 || behind_the_first <= limit)
}

/// The records between two zxids, both excluded.
#[derive(Debug)]
pub struct CatchUp<'a> {
    records: Records<'a>,
    /// The one handed out last.
    last: Zxid,
    before: Zxid,
}

impl<'a> CatchUp<'a> {
    /// Begins behind `after`, which [`plan_catch_up`] has found.
    pub fn open(disk: &'a dyn Disk, directories: &Directories, after: Zxid, before: Zxid) -> Result<CatchUp<'a>> {
        let files = files_from(disk, directories, after)?;
        Ok(CatchUp { records: Records { disk, files, reader: None }, last: after, before })
    }

    /// The next record: its zxid and what the log holds of it.
    pub fn next_record(&mut self) -> Result<Option<(Zxid, &[u8])>> {
        let (last, before) = (self.last, self.before);
        let next = loop {
            match self.records.peek()? {
                Some(zxid) if zxid <= last => self.records.skip(),
                Some(zxid) if zxid >= before => return Ok(None),
                Some(zxid) if last.counter() == 0 || follows(last, zxid) => break zxid,
                Some(zxid) => {
                    return Err(StoreError::Misuse(format!("the log has a gap between {last} and {zxid}")));
                }
                // Where everything before `before` is in the log it is found before the end.
                None if follows(last, before) || before.0 == last.0 + 1 => return Ok(None),
                None => return Err(StoreError::Misuse(format!("the log ends at {last}, before {before}"))),
            }
        };
        self.last = next;
        self.records.take()
    }
}

/// All records of some log files, in order.
struct Records<'a> {
    disk: &'a dyn Disk,
    files: VecDeque<PathBuf>,
    reader: Option<Peeking>,
}

/// A reader and the record it is at.
struct Peeking {
    reader: LogReader,
    next: Option<(Zxid, Vec<u8>)>,
}

impl std::fmt::Debug for Records<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Records").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Records<'_> {
    fn peek(&mut self) -> Result<Option<Zxid>> {
        loop {
            if let Some(peeking) = &mut self.reader {
                if let Some((zxid, _)) = &peeking.next {
                    return Ok(Some(*zxid));
                }
                // A record that is being written right now is not a record yet; it is not asked for either.
                if let Next::Record { zxid, body, .. } = peeking.reader.next_record()? {
                    peeking.next = Some((zxid, body.to_vec()));
                    continue;
                }
                self.reader = None;
            }
            let Some(path) = self.files.pop_front() else { return Ok(None) };
            let reader = LogReader::open(self.disk, &path, crate::MAX_RECORD_BYTES)?;
            self.reader = Some(Peeking { reader, next: None });
        }
    }

    fn skip(&mut self) {
        if let Some(peeking) = &mut self.reader {
            peeking.next = None;
        }
    }

    /// The record that was peeked at, which is skipped by the next peek.
    fn take(&mut self) -> Result<Option<(Zxid, &[u8])>> {
        let next = self.reader.as_ref().and_then(|peeking| peeking.next.as_ref());
        Ok(next.map(|(zxid, body)| (*zxid, body.as_slice())))
    }

    fn next(&mut self) -> Result<Option<(Zxid, &[u8])>> {
        self.skip();
        self.peek()?;
        self.take()
    }
}
