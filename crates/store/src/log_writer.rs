//! Writing the transaction log: records are gathered, then made durable together.
//!
//! What always holds:
//! - what [`LogWriter::commit`] has returned for is on disk, its file's name included;
//! - a log file has its header and its first records before it has its name, and is never opened again to be continued;
//! - zxids follow one another without a gap;
//! - after the first error nothing is written any more: a disk that failed to sync may have dropped what it was given, and says so only
//!   once.
//!
//! A power cut may tear the last batch. How that is told from damage to acknowledged records says [`crate::log_mark`].
//!
//! Counterpart in the original: `FileTxnLog`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rookeeper_proto::Zxid;
use rookeeper_proto::jute;
use rookeeper_proto::snapshot::FileHeader;

use crate::disk::{Disk, DiskFile};
use crate::error::{Result, StoreError};
use crate::log_mark::{self, TAIL_MARK};
use crate::names;
use crate::roll_policy::{RollLimits, RollPolicy};

/// Checksum and length before the body, the end mark after it.
pub(crate) const RECORD_HEAD: usize = 12;
pub(crate) const RECORD_OVERHEAD: usize = RECORD_HEAD + 1;
pub(crate) const END_MARK: u8 = b'B';

/// The file is extended when less than this is left, as in the original.
const PREALLOCATE_MARGIN: u64 = 4096;

/// Records that wait for a commit take no more memory than this; a larger batch is written in parts and synced at its end.
const BUFFER_LIMIT: usize = 4 << 20;

/// How the log is written.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Files grow in steps of this many bytes, so that a sync need not write their length; 0 turns that off.
    pub preallocate_bytes: u64,
    /// Off, a power cut loses acknowledged transactions; everything else stays as it is.
    pub force_sync: bool,
    pub roll: RollLimits,
    /// Spreads the rolls of the members of an ensemble.
    pub seed: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions { preallocate_bytes: 64 << 20, force_sync: true, roll: RollLimits::default(), seed: 0 }
    }
}

/// What a commit made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SyncStats {
    pub records: usize,
    /// Written, with checksums and marks.
    pub bytes: u64,
    /// Bytes of records in the current file.
    pub file_length: u64,
}

/// The end of the log, where it grows.
#[derive(Debug)]
pub struct LogWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: LogOptions,
    policy: RollPolicy,
    /// Encoded records that are not written yet.
    buffer: Vec<u8>,
    file: Option<LogFile>,
    /// The last one appended.
    last: Zxid,
    /// Appended and not durable.
    batch: SyncStats,
    failure: Option<String>,
}

#[derive(Debug)]
struct LogFile {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    /// The name until the first batch is durable.
    temporary: Option<PathBuf>,
    /// Where the next byte goes.
    written: u64,
    /// Where the batch begins that is not durable yet.
    durable: u64,
    /// What the header says of that.
    marked: u64,
    allocated: u64,
}

impl LogWriter {
    /// A writer whose first transaction follows `last`. The first commit creates a file.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path, options: LogOptions, last: Zxid) -> LogWriter {
        let policy = RollPolicy::new(options.roll, options.seed);
        LogWriter {
            disk,
            dir: dir.to_owned(),
            options,
            policy,
            buffer: Vec::with_capacity(64 << 10),
            file: None,
            last,
            batch: SyncStats::default(),
            failure: None,
        }
    }

    /// Takes one transaction. It is durable after the next [`LogWriter::commit`].
    pub fn append(&mut self, zxid: Zxid, body: &[u8]) -> Result<()> {
        self.refuse_after_failure()?;
        if !zxid.follows(self.last) {
            let last = self.last;
            return Err(StoreError::Misuse(format!("transaction {zxid} can't stand after {last} in the log")));
        }
        if body.len() > crate::MAX_RECORD_BYTES {
            return Err(StoreError::Misuse(format!("transaction {zxid} is {} bytes long", body.len())));
        }
        let length = body.len() as i32;
        if self.file.is_none() {
            self.create(zxid).map_err(|error| self.close(error))?;
        }
        self.buffer.extend_from_slice(&u64::from(simd_adler32::adler32(&body)).to_be_bytes());
        self.buffer.extend_from_slice(&length.to_be_bytes());
        self.buffer.extend_from_slice(body);
        self.buffer.push(END_MARK);
        self.last = zxid;
        self.batch.records += 1;
        self.batch.bytes += (body.len() + RECORD_OVERHEAD) as u64;
        if self.buffer.len() >= BUFFER_LIMIT {
            self.write_buffer().map_err(|error| self.close(error))?;
        }
        Ok(())
    }

    /// Makes everything appended durable: one write, one sync, and for a new file its name.
    pub fn commit(&mut self) -> Result<SyncStats> {
        self.refuse_after_failure()?;
        if self.batch.records == 0 {
            return Ok(SyncStats {
                file_length: self.file.as_ref().map_or(0, |file| file.written),
                ..SyncStats::default()
            });
        }
        self.make_durable().and_then(|()| self.refuse_if_gone()).map_err(|error| self.close(error))?;
        let file_length = self.file.as_ref().map_or(0, |file| file.written);
        let stats = SyncStats { file_length, ..std::mem::take(&mut self.batch) };
        self.policy.count(stats.records as u64, stats.bytes);
        if self.options.roll.file_bytes.is_some_and(|limit| file_length > limit) {
            self.end_file().map_err(|error| self.close(error))?;
        }
        Ok(stats)
    }

    /// Gives what was appended to the system, which the next [`LogWriter::commit`] does where it was not done before. It is not durable by that.
    pub fn write_out(&mut self) -> Result<()> {
        self.refuse_after_failure()?;
        self.write_buffer().map_err(|error| self.close(error))
    }

    /// Whether enough has been logged since the last roll for a new one and a snapshot.
    pub fn wants_roll(&self) -> bool {
        self.policy.wants_roll()
    }

    /// Commits, and lets the next transaction begin a new file.
    pub fn roll(&mut self) -> Result<()> {
        self.commit()?;
        self.end_file().map_err(|error| self.close(error))?;
        self.policy.rolled();
        Ok(())
    }

    /// The last transaction appended, durable or not.
    pub fn last_zxid(&self) -> Zxid {
        self.last
    }

    /// The path of the current file, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    fn refuse_after_failure(&self) -> Result<()> {
        match &self.failure {
            Some(cause) => Err(StoreError::Closed { cause: cause.clone() }),
            None => Ok(()),
        }
    }

    fn close(&mut self, error: StoreError) -> StoreError {
        self.failure = Some(error.to_string());
        self.buffer = Vec::new();
        error
    }

    /// Gives back the space that was reserved and not used, and with it the mark behind the records, whose place the header's mark takes.
    fn end_file(&mut self) -> Result<()> {
        let Some(mut ended) = self.file.take() else { return Ok(()) };
        ended.mark_header().map_err(|error| StoreError::disk("write", &ended.path, error))?;
        if ended.allocated > ended.written {
            // That this may fail loses nothing: readers accept zeros at the end.
            let _ = ended.file.truncate(ended.written);
        }
        Ok(())
    }

    fn create(&mut self, zxid: Zxid) -> Result<()> {
        let name = names::log(zxid);
        let path = self.dir.join(&name);
        if self.disk.exists(&path) {
            return Err(StoreError::Misuse(format!("{} is there already and would be overwritten", path.display())));
        }
        let temporary = self.dir.join(names::temporary(&name));
        let file = self.disk.create(&temporary).map_err(|error| StoreError::disk("create", &temporary, error))?;
        let first = FileHeader::LENGTH as u64;
        jute::append(&mut self.buffer, &FileHeader { dbid: log_mark::database_id(first), ..FileHeader::LOG });
        self.file = Some(LogFile {
            file,
            path,
            temporary: Some(temporary),
            written: 0,
            durable: first,
            marked: first,
            allocated: 0,
        });
        Ok(())
    }

    fn write_buffer(&mut self) -> Result<()> {
        let Some(log) = self.file.as_mut().filter(|_| !self.buffer.is_empty()) else { return Ok(()) };
        let end = log.written + self.buffer.len() as u64;
        log.preallocate(end + TAIL_MARK as u64, self.options.preallocate_bytes)?;
        log_mark::append_behind(&mut self.buffer, log.durable, end);
        let failed = |error| StoreError::disk("write", &log.path, error);
        log.file.write_at(&self.buffer, log.written).map_err(failed)?;
        log.written = end;
        log.check();
        self.buffer.clear();
        // One huge record must not keep its memory for ever.
        self.buffer.shrink_to(BUFFER_LIMIT);
        Ok(())
    }

    fn make_durable(&mut self) -> Result<()> {
        self.write_buffer()?;
        let Some(log) = &mut self.file else { return Ok(()) };
        if !self.options.force_sync {
            return log.publish(self.disk.as_ref());
        }
        if log_mark::header_is_behind(log.marked, log.durable) {
            log.mark_header().map_err(|error| StoreError::disk("write", &log.path, error))?;
        }
        log.file.sync_data().map_err(|error| StoreError::disk("sync", &log.path, error))?;
        let is_new = log.temporary.is_some();
        log.publish(self.disk.as_ref())?;
        if is_new {
            self.disk.sync_dir(&self.dir).map_err(|error| StoreError::disk("sync", &self.dir, error))?;
        }
        log.durable = log.written;
        log.check();
        Ok(())
    }

    /// A file without its name is lost at the next start, so nothing in it may be acknowledged.
    fn refuse_if_gone(&self) -> Result<()> {
        let Some(log) = &self.file else { return Ok(()) };
        match log.file.is_at(&log.path) {
            Ok(true) => Ok(()),
            Ok(false) => Err(StoreError::Gone { path: log.path.clone() }),
            Err(error) => Err(StoreError::disk("look at", &log.path, error)),
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        // What was answered for is durable; of the file's end the next start takes care as well.
        if self.failure.is_none() {
            let _ = self.end_file();
        }
    }
}

impl LogFile {
    /// What always holds of the ends of a file.
    fn check(&self) {
        let LogFile { durable, marked, written, allocated, path, .. } = self;
        assert!(marked <= durable, "{}: marked to {marked}, durable to {durable}", path.display());
        assert!(durable <= written, "{}: durable to {durable}, written to {written}", path.display());
        assert!(*allocated == 0 || written <= allocated, "{}: {written} of {allocated} bytes", path.display());
    }

    /// Extends the file as the original does: by a step where little is left, to a multiple of it where a batch is larger.
    fn preallocate(&mut self, end: u64, step: u64) -> Result<()> {
        if step == 0 || end + PREALLOCATE_MARGIN <= self.allocated {
            return Ok(());
        }
        let extended = if self.allocated == 0 { FileHeader::LENGTH as u64 + step } else { self.allocated + step };
        self.allocated = if end > extended { end.next_multiple_of(step) } else { extended };
        self.file.preallocate(self.allocated).map_err(|error| StoreError::disk("extend", &self.path, error))
    }

    /// Notes in the header up to where the file is durable.
    fn mark_header(&mut self) -> std::io::Result<()> {
        if self.marked < self.durable {
            log_mark::write_in_header(self.file.as_mut(), self.durable)?;
            self.marked = self.durable;
        }
        Ok(())
    }

    /// Gives a new file its name.
    fn publish(&mut self, disk: &dyn Disk) -> Result<()> {
        if let Some(temporary) = self.temporary.take() {
            disk.rename(&temporary, &self.path).map_err(|error| StoreError::disk("rename", &temporary, error))?;
        }
        Ok(())
    }
}
