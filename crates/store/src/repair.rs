//! Looking at a data directory without a server, and cutting a damaged log.
//!
//! What always holds: [`check`] changes nothing; [`repair_log`] keeps the file as it was beside the new one.

use std::fmt;
use std::path::{Path, PathBuf};

use rookeeper_proto::{Epoch, TxnRecord, Zxid};

use crate::directories::Directories;
use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::log_reader::{LogReader, Next, repeats};
use crate::names::{self, Compression, Listing};
use crate::recovery::{RecoveryOptions, recover};
use crate::report::RecoveryReport;
use crate::{epoch_files, snapshot_reader};

const COPY_BLOCK: usize = 1 << 20;

/// What a start would find, and how every file is.
#[derive(Debug)]
pub struct CheckReport {
    /// What recovery says; an error where the server would not start.
    pub recovery: Result<RecoveryReport>,
    pub snapshots: Vec<(String, Result<u64>)>,
    /// Every log, also those that recovery would not read.
    pub logs: Vec<LogCheck>,
    pub current_epoch: Result<Option<Epoch>>,
    pub accepted_epoch: Result<Option<Epoch>>,
}

/// One log file, read to where its records end.
#[derive(Debug)]
pub struct LogCheck {
    pub name: String,
    pub records: u64,
    pub first: Option<Zxid>,
    pub last: Option<Zxid>,
    /// Records of failed requests with the zxid of the record before them, which a start skips.
    pub repeated_errors: u64,
    /// `None` where it is whole.
    pub problem: Option<String>,
}

impl CheckReport {
    /// Whether a server would start, and every file is whole.
    pub fn is_sound(&self) -> bool {
        self.recovery.as_ref().is_ok_and(|report| report.warnings().is_empty())
            && self.snapshots.iter().all(|(_, result)| result.is_ok())
            && self.logs.iter().all(|log| log.problem.is_none())
            && self.current_epoch.is_ok()
            && self.accepted_epoch.is_ok()
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, result) in &self.snapshots {
            match result {
                Ok(nodes) => writeln!(f, "{name}: whole, {nodes} nodes")?,
                Err(error) => writeln!(f, "{name}: {error}")?,
            }
        }
        for log in &self.logs {
            write!(f, "{}: {} records", log.name, log.records)?;
            if let (Some(first), Some(last)) = (log.first, log.last) {
                write!(f, ", {first} to {last}")?;
            }
            if log.repeated_errors > 0 {
                write!(f, " ({} of failed requests repeat a zxid)", log.repeated_errors)?;
            }
            match &log.problem {
                Some(problem) => writeln!(f, ", then {problem}")?,
                None => writeln!(f, ", whole")?,
            }
        }
        for (name, epoch) in [("currentEpoch", &self.current_epoch), ("acceptedEpoch", &self.accepted_epoch)] {
            match epoch {
                Ok(Some(epoch)) => writeln!(f, "{name}: {epoch}")?,
                Ok(None) => {}
                Err(error) => writeln!(f, "{name}: {error}")?,
            }
        }
        match &self.recovery {
            Ok(report) => write!(f, "a server would start from:\n{report}"),
            Err(error) => writeln!(f, "a server would not start: {error}"),
        }
    }
}

/// Reads everything there is.
pub fn check(disk: &dyn Disk, directories: &Directories, options: &RecoveryOptions) -> Result<CheckReport> {
    let limit = options.max_record_bytes;
    let listing = Listing::read(disk, &directories.snapshot_dir)?;
    let verify = |(zxid, compression): &(Zxid, Compression)| {
        let result = snapshot_reader::verify(disk, &directories.snapshot_dir, *zxid, *compression, limit);
        (names::snapshot(*zxid, *compression), result.map(|info| info.nodes))
    };
    let snapshots = listing.snapshots.iter().map(verify).collect();
    let mut logs = Vec::new();
    for log in Listing::read(disk, &directories.log_dir)?.logs {
        logs.push(check_log(disk, &directories.log_dir.join(names::log(log)), limit)?.0);
    }
    Ok(CheckReport {
        recovery: recover(disk, directories, &RecoveryOptions { clean_up: false, ..*options })
            .map(|recovered| recovered.report),
        snapshots,
        logs,
        current_epoch: epoch_files::read_epoch(disk, &directories.snapshot_dir, epoch_files::CURRENT),
        accepted_epoch: epoch_files::read_epoch(disk, &directories.snapshot_dir, epoch_files::ACCEPTED),
    })
}

/// The state of a log, and the offset at which its good part ends.
fn check_log(disk: &dyn Disk, path: &Path, limit: usize) -> Result<(LogCheck, u64)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut check = LogCheck { name, records: 0, first: None, last: None, repeated_errors: 0, problem: None };
    let mut reader = match LogReader::open(disk, path, limit) {
        Ok(reader) => reader,
        Err(error) if error.is_damage() => {
            check.problem = Some(error.to_string());
            return Ok((check, 0));
        }
        Err(error) => return Err(error),
    };
    let end = loop {
        match reader.next_record()? {
            Next::End { offset } => break offset,
            Next::Bad { offset, fault } => {
                check.problem = Some(format!("{fault} at offset {offset}"));
                break offset;
            }
            Next::Record { offset, zxid, body } => {
                if check.last.is_some_and(|last| repeats(last, zxid, body)) {
                    check.repeated_errors += 1;
                } else if let Some(last) = check.last
                    && !zxid.follows(last)
                {
                    check.problem = Some(format!("transaction {zxid} after {last} at offset {offset}"));
                    break offset;
                }
                if let Err(error) = TxnRecord::decode(body) {
                    check.problem = Some(format!("a transaction that makes no sense at offset {offset}: {error}"));
                    break offset;
                }
                check.records += 1;
                check.first.get_or_insert(zxid);
                check.last = Some(zxid);
            }
        }
    };
    let tail = reader.tail(end, check.last.unwrap_or(Zxid::ZERO))?;
    if let Some(at) = tail.record_at {
        let found = format!("a valid record at offset {at} behind that");
        check.problem = Some(
            check.problem.map_or(format!("zeros at offset {end}, {found}"), |problem| format!("{problem}, {found}")),
        );
    }
    Ok((check, end))
}

/// What a repair did.
#[derive(Debug)]
pub struct Repaired {
    /// What was wrong.
    pub log: LogCheck,
    /// The file as it was. `None`: there was nothing to repair.
    pub kept: Option<PathBuf>,
    pub dropped_bytes: u64,
}

impl fmt::Display for Repaired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.kept, self.log.last) {
            (None, _) => write!(f, "{}: whole, nothing to repair", self.log.name),
            (Some(kept), last) => write!(
                f,
                "{}: ends with {} now, {} bytes dropped; the file as it was is {}",
                self.log.name,
                last.map_or("its header".to_owned(), |last| format!("transaction {last}")),
                self.dropped_bytes,
                kept.display()
            ),
        }
    }
}

/// Cuts a log after its last good record. Acknowledged transactions may be lost by that: it is for an operator who has nothing
/// better, on a stopped server. Later log files do not follow any more and must be moved away by hand.
pub fn repair_log(disk: &dyn Disk, path: &Path, max_record_bytes: usize) -> Result<Repaired> {
    let (log, end) = check_log(disk, path, max_record_bytes)?;
    if log.problem.is_none() {
        return Ok(Repaired { log, kept: None, dropped_bytes: 0 });
    }
    if end == 0 {
        let problem = "not even its header is good, so there is nothing to keep";
        return Err(StoreError::damaged(path, 0, problem));
    }
    let length =
        disk.open_read(path).and_then(|file| file.length()).map_err(|error| StoreError::disk("read", path, error))?;
    let temporary = path.with_file_name(names::temporary(&log.name));
    // An earlier copy may hold what this file lost.
    let copies = ["damaged".to_owned()].into_iter().chain((2..).map(|number| format!("damaged{number}")));
    let mut places = copies.map(|what| path.with_file_name(names::kept(&log.name, &what)));
    let kept = places.find(|place| !disk.exists(place)).expect("there are as many names as numbers");
    copy(disk, path, 0, length, &kept)?;
    copy(disk, path, 0, end, &temporary)?;
    let dir = path.parent().unwrap_or(path);
    disk.sync_dir(dir)
        .and_then(|()| disk.rename(&temporary, path))
        .and_then(|()| disk.sync_dir(dir))
        .map_err(|error| StoreError::disk("replace", path, error))?;
    Ok(Repaired { log, kept: Some(kept), dropped_bytes: length - end })
}

/// Copies a part of a file, durably.
pub(crate) fn copy(disk: &dyn Disk, from: &Path, start: u64, end: u64, to: &Path) -> Result<()> {
    let source = disk.open_read(from).map_err(|error| StoreError::disk("read", from, error))?;
    let mut target = disk.create(to).map_err(|error| StoreError::disk("create", to, error))?;
    let mut block = vec![0; COPY_BLOCK];
    let mut offset = start;
    while offset < end {
        let wanted = COPY_BLOCK.min(usize::try_from(end - offset).unwrap_or(COPY_BLOCK));
        let count =
            source.read_at(&mut block[..wanted], offset).map_err(|error| StoreError::disk("read", from, error))?;
        if count == 0 {
            break;
        }
        target.write_at(&block[..count], offset - start).map_err(|error| StoreError::disk("write", to, error))?;
        offset += count as u64;
    }
    target.sync_data().map_err(|error| StoreError::disk("sync", to, error))
}
