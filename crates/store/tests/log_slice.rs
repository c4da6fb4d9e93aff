//! The part of the log behind a snapshot, while the log goes on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::sync::Arc;

use rookeeper_proto::snapshot::FileHeader;
use rookeeper_proto::{Epoch, SessionId, Txn, TxnHeader, TxnRecord, Zxid, jute};
use rookeeper_store::log_reader::{LogReader, Next};
use rookeeper_store::log_slice::{LogSlice, log_slices};
use rookeeper_store::{Directories, Disk, LogWriter, SimDisk, names};
use support::{directories, log_options, log_path};

fn zxid(epoch: u32, counter: u32) -> Zxid {
    Zxid::new(Epoch(epoch), counter)
}

fn range(epoch: u32, counters: std::ops::RangeInclusive<u32>) -> Vec<Zxid> {
    counters.map(|counter| zxid(epoch, counter)).collect()
}

/// Two epochs in three files, and a record that is not written yet.
fn server() -> (SimDisk, LogWriter) {
    let disk = SimDisk::new(1);
    Directories::prepare(&disk, Path::new("/data"), Path::new("/logs"), true).unwrap();
    let mut writer = LogWriter::new(Arc::new(disk.clone()), &directories().log_dir, log_options(1), Zxid::ZERO);
    let mut append = |zxid: Zxid| {
        let header = TxnHeader { session: SessionId(zxid.0), cxid: 0, zxid, time_ms: 1 };
        let mut body = Vec::new();
        TxnRecord { header, txn: Txn::CreateSession { timeout_ms: 4000 }, digest: None }.append(&mut body);
        writer.append(zxid, &body).unwrap();
        if zxid != self::zxid(2, 8) {
            writer.commit().unwrap();
        }
        if [self::zxid(1, 6), self::zxid(2, 2)].contains(&zxid) {
            writer.roll().unwrap();
        }
    };
    [range(1, 1..=9), range(2, 1..=8)].concat().into_iter().for_each(&mut append);
    (disk, writer)
}

/// What is in a file that is made of a slice, and whether it is a whole log.
fn read(slice: &LogSlice) -> Vec<Zxid> {
    let disk = SimDisk::new(2);
    disk.create_dir(Path::new("/copy")).unwrap();
    let mut bytes = Vec::new();
    jute::append(&mut bytes, &FileHeader::LOG);
    let mut records = vec![0; (slice.to - slice.from) as usize];
    assert_eq!(slice.file.read_at(&mut records, slice.from).unwrap(), records.len());
    bytes.extend(records);
    let path = Path::new("/copy").join(names::log(slice.first));
    disk.put(&path, &bytes);
    let mut reader = LogReader::open(&disk, &path, 1 << 20).unwrap();
    let mut zxids = Vec::new();
    loop {
        match reader.next_record().unwrap() {
            Next::Record { zxid, .. } => zxids.push(zxid),
            Next::End { offset } => {
                assert_eq!(offset, bytes.len() as u64);
                assert_eq!((zxids.first(), zxids.last()), (Some(&slice.first), Some(&slice.last)));
                return zxids;
            }
            Next::Bad { fault, .. } => panic!("{fault}"),
        }
    }
}

#[test]
fn between_any_two_transactions_there_are_those_between_them() {
    let (disk, _writer) = server();
    let all = [range(1, 1..=9), range(2, 1..=7)].concat();
    for (index, after) in [vec![Zxid::ZERO], all.clone()].concat().into_iter().enumerate() {
        for until in &all[index..] {
            let slices = log_slices(&disk, &directories(), after, *until).unwrap();
            let found: Vec<Zxid> = slices.iter().flat_map(read).collect();
            let expected: Vec<Zxid> = all[index..].iter().copied().filter(|zxid| zxid <= until).collect();
            assert_eq!(found, expected, "{after} {until}");
        }
        assert!(log_slices(&disk, &directories(), after, after).unwrap().is_empty(), "{after}");
    }
}

#[test]
fn files_that_are_removed_later_are_read_all_the_same() {
    let (disk, _writer) = server();
    let slices = log_slices(&disk, &directories(), zxid(1, 2), zxid(2, 7)).unwrap();
    for log in [zxid(1, 1), zxid(1, 7)] {
        disk.remove(&log_path(&names::log(log))).unwrap();
    }
    assert_eq!(slices.iter().map(read).map(|zxids| zxids.len()).collect::<Vec<_>>(), [4, 5, 5]);
}

#[test]
fn what_is_missing_is_told() {
    let (disk, _writer) = server();
    let error = |after, until| log_slices(&disk, &directories(), after, until).unwrap_err().to_string();
    // It is not written yet.
    assert!(error(zxid(1, 2), zxid(2, 8)).contains("the log ends at 0x200000007, before 0x200000008"));
    disk.remove(&log_path(&names::log(zxid(1, 7)))).unwrap();
    let found = error(zxid(1, 2), zxid(2, 7));
    assert!(found.contains("transaction 0x200000003 comes after 0x100000006, so some are missing"), "{found}");
}
