//! The log as a source for learners: exactly the records asked for, or a snapshot where the log is not one history.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use rookeeper_proto::{Epoch, SessionId, Txn, TxnHeader, TxnRecord, Zxid};
use rookeeper_store::catch_up::{CatchUp, CatchUpStart, plan_catch_up};
use rookeeper_store::{
    Directories, Disk, LogOptions, LogWriter, RealDisk, SimDisk, SnapshotOptions, StoreError, write_snapshot,
};
use rookeeper_tree::Tree;
use support::{directories, log_options, log_path};

fn zxid(epoch: impl Into<Epoch>, counter: u32) -> Zxid {
    Zxid::new(epoch, counter)
}

fn body(zxid: Zxid) -> Vec<u8> {
    let header = TxnHeader { session: SessionId(zxid.0), cxid: 0, zxid, time_ms: 1 };
    let mut body = Vec::new();
    TxnRecord { header, txn: Txn::CreateSession { timeout_ms: 4000 }, digest: None }.append(&mut body);
    body
}

fn range(epoch: u32, counters: std::ops::RangeInclusive<u32>) -> Vec<Zxid> {
    counters.map(|counter| zxid(epoch, counter)).collect()
}

/// Four epochs in five files.
fn parts() -> Vec<Vec<Zxid>> {
    vec![
        range(1, 1..=10),
        range(1, 11..=15),
        range(1, 16..=20),
        [range(2, 1..=4), range(3, 1..=3)].concat(),
        range(5, 1..=9),
    ]
}

fn snapshot(disk: &SimDisk, at: Zxid) {
    let mut tree = Tree::new();
    tree.set_last_zxid(at);
    let dir = &directories().snapshot_dir;
    write_snapshot(disk, dir, &SnapshotOptions::default(), &mut |read| read(&tree), &mut |_| Ok(())).unwrap();
}

/// The writer is still there, with a record that is not written yet.
fn leader() -> (SimDisk, LogWriter) {
    let disk = SimDisk::new(1);
    Directories::prepare(&disk, Path::new("/data"), Path::new("/logs"), true).unwrap();
    snapshot(&disk, Zxid::ZERO);
    let mut writer = LogWriter::new(Arc::new(disk.clone()), &directories().log_dir, log_options(1), Zxid::ZERO);
    let parts = parts();
    for (index, part) in parts.iter().enumerate() {
        for zxid in part {
            writer.append(*zxid, &body(*zxid)).unwrap();
            writer.commit().unwrap();
        }
        if index + 1 < parts.len() {
            writer.roll().unwrap();
        }
    }
    writer.append(zxid(5, 10), &body(zxid(5, 10))).unwrap();
    (disk, writer)
}

fn plan(disk: &SimDisk, after: Zxid, before: Zxid) -> CatchUpStart {
    plan_catch_up(disk, &directories(), after, before, Some(0.0)).unwrap()
}

fn read(disk: &dyn Disk, directories: &Directories, after: Zxid, before: Zxid) -> Result<Vec<Zxid>, StoreError> {
    let mut records = CatchUp::open(disk, directories, after, before)?;
    let mut zxids = Vec::new();
    while let Some((zxid, record)) = records.next_record()? {
        assert_eq!(record, body(zxid));
        zxids.push(zxid);
    }
    assert!(records.next_record()?.is_none());
    Ok(zxids)
}

#[test]
fn between_any_two_transactions_there_are_those_between_them() {
    let (disk, _writer) = leader();
    let all = parts().concat();
    let mut ends = all.clone();
    ends.push(zxid(5, 10));
    for (index, after) in all.iter().enumerate() {
        for before in &ends[index + 1..] {
            assert_eq!(plan(&disk, *after, *before), CatchUpStart::Continues, "{after} {before}");
            let between: Vec<_> = all[index + 1..].iter().copied().filter(|zxid| zxid < before).collect();
            assert_eq!(read(&disk, &directories(), *after, *before).unwrap(), between, "{after} {before}");
        }
    }
}

#[test]
fn a_learner_that_went_another_way_is_not_led_on() {
    let (disk, _writer) = leader();
    let before = zxid(5, 10);
    for (after, expected) in [
        (zxid(1, 20), CatchUpStart::Continues),
        (zxid(1, 21), CatchUpStart::Unavailable),
        (zxid(2, 0), CatchUpStart::Continues),
        (zxid(2, 4), CatchUpStart::Continues),
        (zxid(2, 5), CatchUpStart::Unavailable),
        // Epoch 4 had no transactions here; perhaps it had elsewhere.
        (zxid(4, 0), CatchUpStart::Unavailable),
        (zxid(4, 1), CatchUpStart::Unavailable),
        (zxid(5, 0), CatchUpStart::Continues),
        (Zxid::ZERO, CatchUpStart::Unavailable),
        (Zxid(-1), CatchUpStart::Unavailable),
    ] {
        assert_eq!(plan(&disk, after, before), expected, "{after}");
        assert_eq!(
            after > Zxid::ZERO && read(&disk, &directories(), after, before).is_ok(),
            expected == CatchUpStart::Continues
        );
    }
    assert_eq!(plan(&disk, zxid(5, 3), zxid(5, 11)), CatchUpStart::Unavailable, "the log ends before that");
    assert_eq!(plan(&disk, zxid(5, 3), zxid(6, 1)), CatchUpStart::Continues);
}

#[test]
fn a_log_that_does_not_reach_back_leads_on_within_the_epoch_only() {
    let (disk, _writer) = leader();
    for name in ["log.100000001", "log.10000000b", "log.100000010"] {
        disk.remove(&log_path(name)).unwrap();
    }
    assert_eq!(plan(&disk, zxid(1, 20), zxid(5, 10)), CatchUpStart::Unavailable);
    assert_eq!(plan(&disk, zxid(2, 1), zxid(5, 10)), CatchUpStart::Continues);
    disk.remove(&log_path("log.200000001")).unwrap();
    assert_eq!(plan(&disk, zxid(3, 3), zxid(5, 10)), CatchUpStart::Unavailable);
    disk.remove(&log_path("log.500000001")).unwrap();
    assert_eq!(plan(&disk, zxid(5, 8), zxid(5, 10)), CatchUpStart::Unavailable);
    assert_eq!(plan(&disk, zxid(5, 9), zxid(5, 10)), CatchUpStart::Continues, "nothing is missing");
}

#[test]
fn a_tree_that_came_from_a_leader_ends_what_the_log_leads_through() {
    for (at, cut_off) in [(zxid(2, 0), zxid(1, 20)), (zxid(4, 0), zxid(3, 3)), (zxid(2, 9), zxid(2, 4))] {
        let (disk, _writer) = leader();
        snapshot(&disk, at);
        assert_eq!(plan(&disk, cut_off, zxid(5, 10)), CatchUpStart::Unavailable, "{at}");
    }
    // One that is in the log changes nothing.
    let (disk, _writer) = leader();
    snapshot(&disk, zxid(2, 4));
    assert_eq!(plan(&disk, zxid(1, 3), zxid(5, 10)), CatchUpStart::Continues);
}

#[test]
fn missing_and_damaged_files_are_no_source() {
    let (disk, _writer) = leader();
    disk.remove(&log_path("log.10000000b")).unwrap();
    assert_eq!(plan(&disk, zxid(1, 3), zxid(5, 10)), CatchUpStart::Unavailable);
    assert_eq!(plan(&disk, zxid(2, 3), zxid(5, 10)), CatchUpStart::Continues);
    for offset in [0, 60, 100, 150] {
        let (disk, _writer) = leader();
        let path = log_path("log.10000000b");
        let mut log = disk.content(&path).unwrap();
        log[offset] ^= 1;
        disk.put(&path, &log);
        assert_eq!(plan(&disk, zxid(1, 3), zxid(5, 10)), CatchUpStart::Unavailable, "{offset}");
    }
    // The last record of an epoch is damaged, and the next epoch would follow the one before it.
    let (disk, _writer) = leader();
    let path = log_path("log.100000010");
    let mut log = disk.content(&path).unwrap();
    let last = log.iter().rposition(|byte| *byte == b'B').unwrap();
    log[last - 2] ^= 1;
    disk.put(&path, &log);
    assert_eq!(plan(&disk, zxid(1, 3), zxid(5, 10)), CatchUpStart::Unavailable);
}

#[test]
fn more_log_than_a_snapshot_is_worth_is_not_sent() {
    let (disk, _writer) = leader();
    let snapshot = disk.content(&directories().snapshot_dir.join("snapshot.0")).unwrap().len() as f64;
    let record = (13 + body(zxid(1, 1)).len()) as f64;
    let plan = |factor| plan_catch_up(&disk, &directories(), zxid(1, 5), zxid(1, 20), factor).unwrap();
    // Nine records are not in the file in which the learner is.
    assert_eq!(plan(Some((9.0 * record + 1.0) / snapshot)), CatchUpStart::Continues);
    assert_eq!(plan(Some((9.0 * record - 1.0) / snapshot)), CatchUpStart::Unavailable);
    assert_eq!(plan(Some(0.0)), CatchUpStart::Continues);
    for forbidden in [None, Some(-1.0), Some(f64::NAN)] {
        assert_eq!(plan(forbidden), CatchUpStart::Unavailable);
    }
}

#[test]
fn the_log_is_read_while_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let directories = Directories::prepare(&RealDisk, dir.path(), dir.path(), true).unwrap();
    // So many commits may be passed over at once, so the reader reads at least every tenth, however fast the writer is.
    let (committed, wanted) = mpsc::sync_channel::<Zxid>(4);
    let reader = {
        let directories = directories.clone();
        std::thread::spawn(move || {
            let (mut rounds, mut records) = (0, 0);
            while let Ok(last) = wanted.recv() {
                let last = wanted.try_iter().take(4).last().unwrap_or(last);
                let after = if last.counter() > 1 { zxid(last.epoch(), 1) } else { continue };
                let before = last.next().unwrap();
                let options = Some(0.0);
                let start = plan_catch_up(&RealDisk, &directories, after, before, options).unwrap();
                assert_eq!(start, CatchUpStart::Continues, "{after} {before}");
                let read = read(&RealDisk, &directories, after, before).unwrap();
                assert_eq!(read.len() as u32, last.counter() - 1);
                (rounds, records) = (rounds + 1, records + read.len());
            }
            (rounds, records)
        })
    };
    let options = LogOptions { preallocate_bytes: 64 << 10, force_sync: false, ..LogOptions::default() };
    let mut writer = LogWriter::new(Arc::new(RealDisk), &directories.log_dir, options, Zxid::ZERO);
    for epoch in 1..=3 {
        for counter in 1..=1500 {
            let zxid = zxid(epoch, counter);
            writer.append(zxid, &body(zxid)).unwrap();
            if counter % 5 == 0 {
                writer.commit().unwrap();
                committed.send(zxid).unwrap();
            }
            if counter % 400 == 0 {
                writer.roll().unwrap();
            }
        }
    }
    drop(committed);
    let (rounds, records) = reader.join().unwrap();
    assert!(rounds >= 90 && records > 1000, "{rounds} rounds, {records} records");
}

/// A log file of the original's; the flag makes a record that of a failed request.
fn put_log(disk: &SimDisk, name: Zxid, records: &[(Zxid, bool)]) {
    let mut log = b"ZKLG\0\0\0\x02\0\0\0\0\0\0\0\0".to_vec();
    for (zxid, failed) in records {
        let mut record = body(*zxid);
        if *failed {
            let header = TxnHeader { session: SessionId(1), cxid: 7, zxid: *zxid, time_ms: 1 };
            record.clear();
            TxnRecord { header, txn: Txn::Error { code: -5 }, digest: None }.append(&mut record);
        }
        log.extend_from_slice(&u64::from(simd_adler32::adler32(&record.as_slice())).to_be_bytes());
        log.extend_from_slice(&(record.len() as u32).to_be_bytes());
        log.extend_from_slice(&record);
        log.push(b'B');
    }
    disk.put(&log_path(&rookeeper_store::names::log(name)), &log);
}

#[test]
fn a_failed_request_that_repeats_a_zxid_is_not_handed_on() {
    let disk = SimDisk::new(1);
    Directories::prepare(&disk, Path::new("/data"), Path::new("/logs"), true).unwrap();
    snapshot(&disk, Zxid::ZERO);
    let sound = |counters| range(1, counters).into_iter().map(|zxid| (zxid, false)).collect::<Vec<_>>();
    put_log(&disk, zxid(1, 1), &[sound(1..=4), vec![(zxid(1, 4), true)], sound(5..=6)].concat());
    put_log(&disk, zxid(1, 6), &[vec![(zxid(1, 6), true)], sound(7..=9)].concat());

    assert_eq!(plan(&disk, zxid(1, 2), zxid(1, 10)), CatchUpStart::Continues);
    assert_eq!(read(&disk, &directories(), zxid(1, 2), zxid(1, 10)).unwrap(), range(1, 3..=9));
    assert_eq!(read(&disk, &directories(), zxid(1, 5), zxid(1, 10)).unwrap(), range(1, 6..=9));

    // Where the file before is gone, nobody can tell what the repeated zxid belongs to.
    disk.remove(&log_path(&rookeeper_store::names::log(zxid(1, 1)))).unwrap();
    assert_eq!(plan(&disk, zxid(1, 5), zxid(1, 10)), CatchUpStart::Unavailable);
    assert_eq!(read(&disk, &directories(), zxid(1, 6), zxid(1, 10)).unwrap(), range(1, 7..=9));
}
