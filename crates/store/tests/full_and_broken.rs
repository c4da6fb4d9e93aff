//! The disk is full from some operation on, or one operation fails: at every operation of a run. The error says what to do, nothing that
//! was acknowledged is lost, and nothing is acknowledged after a failure of the log.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use rookeeper_proto::Zxid;
use rookeeper_store::{Fault, LogWriter, SimDisk, StoreError};
use support::{History, assert_sound, log_options, run};

const TRANSACTIONS: i64 = 90;

fn at_every_operation(fault: impl Fn(u64) -> Fault, remedy: &str) {
    let (mut failures, mut tolerated) = (0, 0);
    for seed in 0..4 {
        let history = History::new(seed, TRANSACTIONS);
        let whole = SimDisk::new(seed);
        run(&whole, &history, seed, Zxid::ZERO).1.unwrap();
        for at in 1..=whole.operations() {
            let disk = SimDisk::new(seed);
            disk.inject(fault(at));
            let (acknowledged, result) = run(&disk, &history, seed, Zxid::ZERO);
            match result {
                Ok(()) => tolerated += 1,
                Err(error) => {
                    let message = error.to_string();
                    assert!(message.contains(remedy) || matches!(error, StoreError::Closed { .. }), "{message}");
                    failures += 1;
                }
            }
            let context = format!("seed {seed}, fault at operation {at}");
            // The process ends; then perhaps the machine, too.
            disk.inject(Fault::Broken { at: u64::MAX });
            let kept = disk.restart(seed);
            assert_sound(&disk, &history, acknowledged, &context);
            assert_sound(&kept, &history, acknowledged, &context);
            let (acknowledged, result) = run(&disk, &history, seed, acknowledged);
            result.unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(acknowledged, Zxid(TRANSACTIONS));
            assert_sound(&disk.restart(seed), &history, acknowledged, &context);
        }
    }
    println!("{failures} faults ended the run, {tolerated} did not matter");
    assert!(failures > 500 && tolerated < failures / 5, "{failures} and {tolerated}");
}

#[test]
fn a_full_disk_loses_nothing() {
    at_every_operation(|from| Fault::Full { from }, "make room");
}

#[test]
fn a_broken_disk_loses_nothing() {
    at_every_operation(|at| Fault::Broken { at }, "disk");
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    let history = History::new(1, 3);
    let disk = SimDisk::new(1);
    let dir = support::directories().log_dir;
    disk.put(&dir.join("currentEpoch"), b"1");
    let mut writer = LogWriter::new(std::sync::Arc::new(disk.clone()), &dir, log_options(1), Zxid::ZERO);
    writer.append(Zxid(1), &history.body(Zxid(1))).unwrap();
    writer.commit().unwrap();
    writer.append(Zxid(2), &history.body(Zxid(2))).unwrap();
    // The batch with its mark, the sync.
    disk.inject(Fault::Broken { at: disk.operations() + 2 });
    let error = writer.commit().unwrap_err();
    assert!(error.to_string().starts_with("can't sync /logs/version-2/log.1"), "{error}");
    // The disk works again and says nothing of what it lost.
    for error in [writer.append(Zxid(3), b"").unwrap_err(), writer.commit().unwrap_err(), writer.roll().unwrap_err()] {
        assert!(matches!(error, StoreError::Closed { .. }), "{error}");
    }
}

#[test]
fn what_is_written_to_a_log_that_was_taken_away_is_not_acknowledged() {
    let history = History::new(1, 3);
    for force_sync in [true, false] {
        let disk = SimDisk::new(1);
        let dir = support::directories().log_dir;
        disk.put(&dir.join("currentEpoch"), b"1");
        let options = rookeeper_store::LogOptions { force_sync, ..log_options(1) };
        let mut writer = LogWriter::new(std::sync::Arc::new(disk.clone()), &dir, options, Zxid::ZERO);
        writer.append(Zxid(1), &history.body(Zxid(1))).unwrap();
        writer.commit().unwrap();
        disk.take_away(&dir.join("log.1"));
        writer.append(Zxid(2), &history.body(Zxid(2))).unwrap();
        let error = writer.commit().unwrap_err();
        assert!(matches!(error, StoreError::Gone { .. }), "{error}");
        assert!(error.to_string().starts_with("/logs/version-2/log.1 was removed or moved"), "{error}");
        let error = writer.append(Zxid(3), b"").unwrap_err();
        assert!(matches!(error, StoreError::Closed { .. }), "{error}");
    }
}
