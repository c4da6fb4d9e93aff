//! Where in the files of the log the transactions behind a snapshot stand, for somebody who copies them while the log goes on being written.
//!
//! What always holds: a slice is whole records with the right checksums, which follow one another and the snapshot without a gap; its file is the one
//! that was read, also if its name is given to another one or removed meanwhile; memory holds one record and a window.
//!
//! Transactions that are wanted are durable and committed before they are asked for, so bytes that are being written, and those that a leader may have
//! cut off, lie behind the last one.

use rookeeper_proto::Zxid;

use crate::directories::Directories;
use crate::disk::{Disk, DiskFile};
use crate::error::{Result, StoreError};
use crate::log_reader::{LogReader, Next};
use crate::log_writer::RECORD_OVERHEAD;
use crate::names::{self, Listing};

/// Records that stand one behind the other in a file.
#[derive(Debug)]
pub struct LogSlice {
    /// The file, which also has other records, a header before them, and perhaps reserved space behind them.
    pub file: Box<dyn DiskFile>,
    /// The first transaction.
    pub first: Zxid,
    /// The last transaction.
    pub last: Zxid,
    /// The offset of the first record in the file, in bytes.
    pub from: u64,
    /// The offset behind the last record.
    pub to: u64,
}

/// The slices with all transactions behind `after` up to `until`, in their order. Fails where one of them is not there.
pub fn log_slices(disk: &dyn Disk, directories: &Directories, after: Zxid, until: Zxid) -> Result<Vec<LogSlice>> {
    let logs = Listing::read(disk, &directories.log_dir)?.logs;
    let begin = logs.iter().rposition(|log| *log <= after).unwrap_or(0);
    let mut slices = Vec::new();
    let mut last = after;
    for log in logs.into_iter().skip(begin).take_while(|log| *log <= until) {
        if last >= until {
            break;
        }
        let path = directories.log_dir.join(names::log(log));
        let mut reader = LogReader::open(disk, &path, crate::MAX_RECORD_BYTES)?;
        let mut found: Option<(Zxid, u64, u64)> = None;
        while let Next::Record { offset, zxid, body } = reader.next_record()? {
            if zxid > until {
                break;
            }
            // What the snapshot has, and errors that the original has logged with the zxid of the record before them.
            let is_new = zxid > last;
            if is_new && !zxid.follows(last) {
                let problem = format!("transaction {zxid} comes after {last}, so some are missing in between");
                return Err(StoreError::damaged(&path, offset, problem));
            }
            if is_new || found.is_some() {
                let end = offset + (body.len() + RECORD_OVERHEAD) as u64;
                let (first, from, _) = found.unwrap_or((zxid, offset, end));
                found = Some((first, from, end));
                last = last.max(zxid);
            }
        }
        if let Some((first, from, to)) = found {
            slices.push(LogSlice { file: reader.into_file(), first, last, from, to });
        }
    }
    if last < until {
        let problem = format!("the log ends at {last}, before {until}");
        return Err(StoreError::damaged(&directories.log_dir, None, problem));
    }
    Ok(slices)
}
