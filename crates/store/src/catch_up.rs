//! Reading the log on disk for learners that fell behind what the leader has in memory, while the log goes on being written.
//!
//! What always holds: the records handed out follow one another and the learner's last one without a gap, and they end right before
//! the first one asked to be left out; memory holds one record and a window. Where the log can't be trusted to be one history, there
//! is no catching up and the learner gets a snapshot: an epoch is entered only from a record that is in the log, and never across a
//! snapshot that lies between two epochs, because a member that once got its tree from a leader may have older records that are no
//! part of it.
//!
//! Records that are wanted are durable before they are asked for, so bytes that are being written lie behind the last one.
//!
//! Counterpart in the original: `LearnerHandler.syncFollower` with `ZKDatabase.getProposalsFromTxnLog`.

use std::collections::VecDeque;
use std::path::PathBuf;

use rookeeper_proto::{TxnRecord, Zxid};
use tracing::info;

use crate::directories::Directories;
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::log_reader::{LogReader, Next};
use crate::log_writer::RECORD_OVERHEAD;
use crate::names::{self, Listing};

/// How a learner can go on from where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUpStart {
    /// With the record after its last one.
    Continues,
    /// It needs a snapshot.
    Unavailable,
}

/// Whether the log has every record after `after` up to the one right before `before`. With more in it than `size_factor` times
/// the newest snapshot a snapshot is sent faster; 0 is no limit, `None` or less forbids to use the log. The file in which the learner's
/// last record stands does not count; nor does, other than in the original, space that is reserved.
pub fn plan_catch_up(
    disk: &dyn Disk,
    directories: &Directories,
    after: Zxid,
    before: Zxid,
    size_factor: Option<f64>,
) -> Result<CatchUpStart> {
    let Some(factor) = size_factor.filter(|factor| *factor >= 0.0) else { return Ok(CatchUpStart::Unavailable) };
    // A server that knows nothing may have lost something; nobody can tell whether its log began with what ours began with.
    if after <= Zxid::ZERO {
        return Ok(CatchUpStart::Unavailable);
    }
    let limit = (factor * newest_snapshot_bytes(disk, directories)? as f64) as u64;
    let walk = || -> Result<CatchUpStart> {
        let mut records = CatchUp::open(disk, directories, after, before)?;
        while records.advance()?.is_some() {
            if limit > 0 && records.later_bytes > limit {
                return Ok(CatchUpStart::Unavailable);
            }
        }
        Ok(CatchUpStart::Continues)
    };
    match walk() {
        Err(error) if error.is_damage() => {
            info!("the log can't bring a learner from {after} to {before}: {error}");
            Ok(CatchUpStart::Unavailable)
        }
        result => result,
    }
}

fn newest_snapshot_bytes(disk: &dyn Disk, directories: &Directories) -> Result<u64> {
    let dir = &directories.snapshot_dir;
    let Some((zxid, compression)) = Listing::read(disk, dir)?.snapshots.first().copied() else { return Ok(0) };
    let path = dir.join(names::snapshot(zxid, compression));
    disk.open_read(&path).and_then(|file| file.length()).map_err(|error| StoreError::disk("read", &path, error))
}

/// The records between two zxids, both excluded, one after the other.
#[derive(Debug)]
pub struct CatchUp<'a> {
    disk: &'a dyn Disk,
    dir: PathBuf,
    /// Those not opened yet, oldest first.
    logs: VecDeque<Zxid>,
    snapshots: Vec<Zxid>,
    reader: Option<LogReader>,
    opened: usize,
    /// No record was read yet.
    is_at_the_beginning: bool,
    /// The last record handed out, or where the learner is.
    last: Zxid,
    /// Whether `last` stands in the log.
    is_ours: bool,
    /// A file before the one being read ended with something that is no record.
    torn: bool,
    before: Zxid,
    /// Read from files after the first one.
    later_bytes: u64,
}

impl<'a> CatchUp<'a> {
    /// Begins with the records behind `after` that come before `before`. Nothing but the names of the logs is read yet; fails where the disk does.
    pub fn open(disk: &'a dyn Disk, directories: &Directories, after: Zxid, before: Zxid) -> Result<CatchUp<'a>> {
        let logs = Listing::read(disk, &directories.log_dir)?.logs;
        let first = logs.iter().rposition(|log| *log <= after).unwrap_or(0);
        Ok(CatchUp {
            disk,
            dir: directories.log_dir.clone(),
            logs: logs.into_iter().skip(first).filter(|log| *log < before).collect(),
            snapshots: snapshots(disk, directories)?,
            reader: None,
            opened: 0,
            is_at_the_beginning: true,
            last: after,
            is_ours: false,
            torn: false,
            before,
            later_bytes: 0,
        })
    }

    /// The next record, `None` after the last one. After an error there is no going on.
    pub fn next_record(&mut self) -> Result<Option<(Zxid, &[u8])>> {
        let Some((offset, length)) = self.advance()? else { return Ok(None) };
        let reader = self.reader.as_mut().expect("a record was read with it");
        Ok(Some((self.last, reader.body_at(offset, length)?)))
    }

    /// Goes to the next record and says where its body is.
    fn advance(&mut self) -> Result<Option<(u64, usize)>> {
        loop {
            if self.last.next() == Some(self.before) {
                return Ok(None);
            }
            let Some(reader) = &mut self.reader else {
                let Some(log) = self.logs.pop_front() else { return self.arrive() };
                let path = self.dir.join(names::log(log));
                self.reader = Some(LogReader::open(self.disk, &path, crate::MAX_RECORD_BYTES)?);
                self.opened += 1;
                continue;
            };
            match reader.next_record()? {
                Next::Record { zxid, .. } if zxid <= self.last => {
                    self.is_ours |= zxid == self.last;
                    self.is_at_the_beginning = false;
                }
                Next::Record { zxid, .. } if zxid >= self.before => return self.arrive(),
                Next::Record { offset, zxid, body } => {
                    let length = body.len();
                    // A failed request at the very beginning may repeat the zxid of a record that is not here any more.
                    if self.is_at_the_beginning && TxnRecord::is_error(body) {
                        return Err(self.useless(format!("it begins with a failed request, {zxid}")));
                    }
                    self.is_at_the_beginning = false;
                    if !self.leads_to(zxid) {
                        return Err(self.useless(format!("transaction {zxid} can't be reached from {}", self.last)));
                    }
                    (self.last, self.is_ours, self.torn) = (zxid, true, false);
                    if self.opened > 1 {
                        self.later_bytes += (length + RECORD_OVERHEAD) as u64;
                    }
                    return Ok(Some((offset, length)));
                }
                Next::End { .. } => self.reader = None,
                Next::Bad { .. } => {
                    // At the end of the newest log a record is being written, perhaps.
                    self.torn |= !self.logs.is_empty();
                    self.reader = None;
                }
            }
        }
    }

    fn arrive(&mut self) -> Result<Option<(u64, usize)>> {
        if self.leads_to(self.before) {
            return Ok(None);
        }
        Err(self.useless(format!("the log ends at {}, before {}", self.last, self.before)))
    }

    /// Whether a record stands right behind the last one in this history. Within an epoch there is one history only.
    fn leads_to(&self, zxid: Zxid) -> bool {
        self.last.next() == Some(zxid) || (self.is_ours && !self.torn && continues(&self.snapshots, self.last, zxid))
    }

    fn useless(&self, problem: String) -> StoreError {
        let remedy = "a learner that is so far behind needs a snapshot".to_owned();
        StoreError::Damaged { path: self.dir.clone(), offset: None, problem, remedy }
    }
}

fn snapshots(disk: &dyn Disk, directories: &Directories) -> Result<Vec<Zxid>> {
    let snapshots = Listing::read(disk, &directories.snapshot_dir)?.snapshots;
    Ok(snapshots.into_iter().map(|(zxid, _)| zxid).collect())
}

/// Whether two records that are both in the log follow one another, with nothing between them that came from elsewhere.
fn continues(snapshots: &[Zxid], last: Zxid, zxid: Zxid) -> bool {
    zxid.follows(last) && !snapshots.iter().any(|snapshot| last < *snapshot && *snapshot < zxid)
}
