//! Files of a server that may be running, copied: a snapshot as it is, a log record by record.
//!
//! What always holds: memory stays within a few blocks and the largest record; only records with the right checksum are copied, in an unbroken
//! order; a copy is durable before anything is said of it.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use rookeeper_proto::snapshot::FileHeader;
use rookeeper_proto::{TxnRecord, Zxid};
use rookeeper_store::log_copy::{LogCopy, checksum};
use rookeeper_store::log_reader::{LogReader, Next};
use rookeeper_store::{Compression, Disk, MAX_RECORD_BYTES, names, snapshot_reader};
use sha2::{Digest as _, Sha256};

use super::manifest::{Content, FileEntry, LogContent, SnapshotContent, in_hex};

/// How much is read and written at a time, in bytes.
const BLOCK: usize = 1 << 20;

/// A copy is synced in portions of this many bytes, so that the syncs of a server beside it never wait for all of it.
const SYNC_EVERY: u64 = 8 << 20;

/// Why a log was not copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoLog {
    /// It has no record yet.
    Empty,
    /// Its first transaction does not follow what it should.
    Elsewhere,
}

/// Copies a snapshot into another directory, and reads the copy to its last seal.
pub fn snapshot(disk: &dyn Disk, from: &Path, to: &Path, zxid: Zxid, compression: Compression) -> Result<FileEntry> {
    let name = names::snapshot(zxid, compression);
    let (source, target) = (from.join(&name), to.join(&name));
    let input = disk.open_read(&source).with_context(|| format!("can't open {}", source.display()))?;
    let mut output = disk.create(&target).with_context(|| format!("can't create {}", target.display()))?;
    let mut block = vec![0; BLOCK];
    let (mut offset, mut synced) = (0, 0);
    loop {
        let count = input.read_at(&mut block, offset).with_context(|| format!("can't read {}", source.display()))?;
        let wrote = output.write_at(&block[..count], offset).and_then(|()| {
            offset += count as u64;
            if count > 0 && offset - synced < SYNC_EVERY {
                return Ok(());
            }
            synced = offset;
            output.sync_data()
        });
        wrote.with_context(|| format!("can't write {}", target.display()))?;
        if count == 0 {
            break;
        }
    }
    snapshot_entry(disk, to, zxid, compression)
}

/// Reads a snapshot to its last seal.
pub fn snapshot_entry(disk: &dyn Disk, dir: &Path, zxid: Zxid, compression: Compression) -> Result<FileEntry> {
    let content = snapshot_content(disk, dir, zxid, compression)?;
    let file = names::snapshot(zxid, compression);
    let (bytes, sha256) = sum(disk, &dir.join(&file))?;
    Ok(FileEntry { file, bytes, sha256, content })
}

/// What is in a snapshot, which is read to its last seal.
pub fn snapshot_content(disk: &dyn Disk, dir: &Path, zxid: Zxid, compression: Compression) -> Result<Content> {
    let info = snapshot_reader::verify(disk, dir, zxid, compression, MAX_RECORD_BYTES)?;
    let (complete_at, nodes) = (info.complete_at(zxid), info.nodes);
    Ok(Content::Snapshot(SnapshotContent { zxid, complete_at, nodes }))
}

/// Copies the records of a log, without what is reserved behind them. `after`: what its first record must follow. In a log that is the newest a
/// record may be incomplete that is being written; everything before it is copied.
pub fn log(
    disk: &dyn Disk,
    from: &Path,
    to: &Path,
    log: Zxid,
    after: Option<Zxid>,
    is_newest: bool,
) -> Result<Result<FileEntry, NoLog>> {
    let name = names::log(log);
    let source = from.join(&name);
    let mut reader = LogReader::open(disk, &source, MAX_RECORD_BYTES)?;
    let mut copy = LogCopy::create(disk, &to.join(&name), FileHeader::LOG)?;
    let mut content: Option<LogContent> = None;
    let mut last = after;
    let (offset, fault) = loop {
        match reader.next_record()? {
            Next::End { offset } => break (offset, None),
            Next::Bad { offset, fault } => break (offset, Some(fault)),
            Next::Record { offset, zxid, body } => {
                let at = || format!("{}, offset {offset}", source.display());
                let header = TxnRecord::decode_header(body)
                    .with_context(|| format!("{}: transaction {zxid} makes no sense", at()))?;
                // The original may log a failed request with the zxid of the record before it.
                let repeats = last == Some(zxid) && TxnRecord::is_error(body);
                if content.is_none() && !repeats && after.is_some_and(|after| !zxid.follows(after)) {
                    return Ok(Err(NoLog::Elsewhere));
                }
                if let Some(last) = last {
                    ensure!(
                        repeats || zxid.follows(last),
                        "{}: transaction {zxid} comes after {last}, so some are missing in between, or stand in another order. See rookeeper \
                         check, or take the backup from another member",
                        at()
                    );
                }
                ensure!(content.is_some() || zxid == log, "{}: its first transaction is {zxid}", at());
                let begun = content.unwrap_or(LogContent {
                    first: zxid,
                    last: zxid,
                    records: 0,
                    first_ms: header.time_ms,
                    last_ms: header.time_ms,
                });
                content = Some(LogContent { last: zxid, records: begun.records + 1, last_ms: header.time_ms, ..begun });
                last = Some(zxid);
                copy.append(checksum(body), body)?;
            }
        }
    };
    if !is_newest && let Some(fault) = fault {
        bail!(
            "{}, offset {offset}: {fault}. See rookeeper check, or take the backup from another member",
            source.display()
        );
    }
    if is_newest {
        let tail = reader.tail(offset, last.unwrap_or(Zxid(log.0 - 1)))?;
        if let Some(record_at) = tail.record_at {
            bail!(
                "{}, offset {offset}: the records end here, but at offset {record_at} a valid one follows. If the server runs, take the backup \
                 once more; if this stays, the log is damaged: see rookeeper check, or take the backup from another member",
                source.display()
            );
        }
    }
    let Some(content) = content else { return Ok(Err(NoLog::Empty)) };
    copy.publish()?;
    let (bytes, sha256) = sum(disk, &to.join(&name))?;
    Ok(Ok(FileEntry { file: name, bytes, sha256, content: Content::Log(content) }))
}

/// Length and SHA-256 of a file.
pub fn sum(disk: &dyn Disk, path: &Path) -> Result<(u64, String)> {
    let file = disk.open_read(path).with_context(|| format!("can't open {}", path.display()))?;
    let mut sum = Sha256::new();
    let mut block = vec![0; BLOCK];
    let mut offset = 0;
    loop {
        let count = file.read_at(&mut block, offset).with_context(|| format!("can't read {}", path.display()))?;
        if count == 0 {
            return Ok((offset, in_hex(&sum.finalize())));
        }
        sum.update(&block[..count]);
        offset += count as u64;
    }
}
