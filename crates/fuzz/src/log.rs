//! A file of the transaction log: read, checked, recovered from, repaired, continued.
//!
//! The input is the file. It is tried as it is, and again with every checksum and end mark made right, so that what stands between them is
//! looked at too. What always holds: reading ends and stays within the file; looking changes nothing; what recovery accepted is recovered
//! again, and the log goes on from there; what repair leaves is whole.

use std::path::Path;
use std::sync::Arc;

use rookeeper_proto::snapshot::FileHeader;
use rookeeper_proto::txn::TxnHeader;
use rookeeper_proto::{SessionId, TtlEncoding, Txn, TxnRecord, Zxid, jute};
use rookeeper_store::log_reader::{LogReader, Next};
use rookeeper_store::{Directories, Disk, LogOptions, LogWriter, Recovered, RecoveryOptions, SimDisk};
use rookeeper_store::{check, names, recover, repair_log};

use crate::replay;

/// The largest record, smaller than in earnest, so that it is met.
const MAX_RECORD_BYTES: usize = 8 << 10;

/// Checksum and length.
const RECORD_HEAD: usize = 12;

/// Where a body has its zxid.
const ZXID_OFFSET: usize = 12;

pub fn run(bytes: &[u8]) {
    try_file(bytes);
    let sealed = sealed(bytes);
    if sealed != bytes {
        try_file(&sealed);
    }
}

/// The file with its header and the seals of its records made right, as far as their lengths lead.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(magic) = bytes.first_chunk_mut::<8>() {
        *magic = *b"ZKLG\0\0\0\x02";
    }
    let mut offset = FileHeader::LENGTH;
    while let Some(length) = record_length(&bytes, offset) {
        let body = offset + RECORD_HEAD;
        let Some(content) = bytes.get(body..body + length) else { break };
        let checksum = u64::from(simd_adler32::adler32(&content)).to_be_bytes();
        bytes[offset..offset + 8].copy_from_slice(&checksum);
        let end = body + length;
        if let Some(mark) = bytes.get_mut(end) {
            *mark = b'B';
        }
        offset = end + 1;
    }
    bytes
}

fn record_length(bytes: &[u8], offset: usize) -> Option<usize> {
    let field = bytes.get(offset + 8..offset + RECORD_HEAD)?.first_chunk::<4>()?;
    usize::try_from(i32::from_be_bytes(*field)).ok().filter(|length| *length > 0)
}

/// The name that the first record asks for, where it can be a name.
fn first_zxid(bytes: &[u8]) -> Option<Zxid> {
    let at = FileHeader::LENGTH + RECORD_HEAD + ZXID_OFFSET;
    let zxid = bytes.get(at..at + 8).and_then(|field| jute::from_slice::<Zxid>(field).ok());
    zxid.filter(|zxid| zxid.0 > 0)
}

fn disk_with(path: &Path, content: &[u8]) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.put(path, content);
    disk
}

fn try_file(content: &[u8]) {
    let dir = Path::new("/data");
    let directories = Directories::new(dir, dir);
    let path = directories.log_dir.join(names::log(first_zxid(content).unwrap_or(Zxid(1))));
    let disk = disk_with(&path, content);
    read_through(&disk, &path, content.len() as u64);

    let options = RecoveryOptions {
        max_record_bytes: MAX_RECORD_BYTES,
        trust_empty_snapshot: true,
        trust_partial_snapshot: true,
        db_autocreate: true,
        clean_up: false,
        until: None,
        seed: 0,
        ttl_encoding: TtlEncoding::Current,
    };
    let looked = check(&disk, &directories, &options);
    if let Ok(report) = &looked {
        assert!(!report.to_string().is_empty());
    }
    assert_eq!(disk.content(&path).as_deref(), Some(content), "looking changes nothing");

    let clean_up = RecoveryOptions { clean_up: true, ..options };
    let recovered = recover(&disk, &directories, &clean_up);
    if let Ok(report) = looked {
        assert_eq!(report.recovery.is_ok(), recovered.is_ok(), "looking and starting see the same");
    }
    match recovered {
        Ok(recovered) => {
            come_again(&disk, &directories, &clean_up, &recovered);
            // A file under another name than its first record's may be in the way of the next one.
            if first_zxid(content).is_some() || disk.content(&path).is_none() {
                go_on(&disk, &directories, &clean_up, recovered.tree.last_zxid());
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    repair(content, &path);
}

/// Every record, then what lies behind them.
fn read_through(disk: &SimDisk, path: &Path, length: u64) {
    let Ok(mut reader) = LogReader::open(disk, path, MAX_RECORD_BYTES) else { return };
    let mut position = 0;
    let mut last = Zxid::ZERO;
    let end = loop {
        match reader.next_record().expect("this disk does not fail") {
            Next::Record { offset, zxid, body } => {
                assert!(offset >= position && body.len() <= MAX_RECORD_BYTES);
                position = offset + (RECORD_HEAD + body.len() + 1) as u64;
                assert!(position <= length);
                last = zxid;
            }
            Next::End { offset } | Next::Bad { offset, .. } => break offset,
        }
    };
    for after in [last, Zxid::ZERO, Zxid(-1), Zxid(i64::MIN), Zxid(i64::MAX)] {
        let tail = reader.tail(end, after).expect("this disk does not fail");
        assert!(tail.data_end <= length.max(end) && tail.record_at.is_none_or(|at| at >= end && at < length));
    }
}

/// What was recovered is there again at the next start.
fn come_again(disk: &SimDisk, directories: &Directories, options: &RecoveryOptions, recovered: &Recovered) {
    replay::check(&recovered.tree);
    assert!(!recovered.report.to_string().is_empty());
    let again = recover(disk, directories, options).expect("what was recovered once is recovered again").tree;
    assert_eq!((again.last_zxid(), again.digest()), (recovered.tree.last_zxid(), recovered.tree.digest()));
}

/// The log takes more.
fn go_on(disk: &SimDisk, directories: &Directories, options: &RecoveryOptions, last: Zxid) {
    let Some(next) = last.next() else { return };
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let log = LogOptions { preallocate_bytes: 4096, ..LogOptions::default() };
    let mut writer = LogWriter::new(shared, &directories.log_dir, log, last);
    let header = TxnHeader { session: SessionId(1), cxid: 1, zxid: next, time_ms: 1 };
    let mut body = Vec::new();
    TxnRecord { header, txn: Txn::CreateSession { timeout_ms: 4000 }, digest: None }.append(&mut body);
    writer.append(next, &body).expect("the next transaction follows");
    writer.commit().expect("this disk does not fail");
    drop(writer);
    let longer = recover(disk, directories, options).expect("what was written after a recovery is read").tree;
    assert_eq!(longer.last_zxid(), next);
}

fn repair(content: &[u8], path: &Path) {
    let disk = disk_with(path, content);
    if repair_log(&disk, path, MAX_RECORD_BYTES).is_ok() {
        let again = repair_log(&disk, path, MAX_RECORD_BYTES).expect("what is whole needs no repair");
        assert!(again.log.problem.is_none() && again.kept.is_none(), "{:?}", again.log.problem);
    }
}
