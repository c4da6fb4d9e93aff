//! What a start finds is what the next one finds, whatever happens in between.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Answers, append, directories, drive, empty_database, files, shared, tree_of, worker, zxid};
use rookeeper_proto::{Epoch, Zxid};
use rookeeper_storage::{Batching, Secured, Start};
use rookeeper_store::epoch_files::INITIALIZE;
use rookeeper_store::{Disk, Fault, SimDisk};

/// A new disk, with an operator's word that this is right.
fn new_disk() -> SimDisk {
    let disk = SimDisk::new(3);
    let data_dir = directories(&disk).data_dir;
    disk.put(&data_dir.join(INITIALIZE), b"");
    disk.restart(3)
}

fn start(disk: &SimDisk, is_member: bool) -> Secured {
    Start::recover(files(disk, false), is_member).unwrap().secure().unwrap()
}

/// A disk with transactions behind its first snapshot.
fn disk_with_log() -> SimDisk {
    let disk = empty_database();
    let mut worker = worker(&disk, &shared(tree_of(0)), Zxid::ZERO, Batching::default());
    drive(&mut worker, vec![append(1..=3)], &mut Answers::default()).unwrap();
    drop(worker);
    disk.restart(1)
}

#[test]
fn a_new_database_begins_whenever_the_power_goes_during_its_first_start() {
    let mut at = 1;
    loop {
        let mut ended = false;
        for seed in 0..20 {
            let disk = new_disk();
            disk.inject(Fault::Crash { at });
            ended = Start::recover(files(&disk, false), true).is_ok_and(|start| start.secure().is_ok());
            let after = disk.restart(seed);
            let again = start(&after, true);
            assert_eq!(again.recovered.tree.last_zxid(), Zxid::ZERO, "crash at {at}, seed {seed}");
        }
        if ended {
            break;
        }
        at += 1;
    }
    assert!(at > 5, "{at}");
}

#[test]
fn the_permission_to_begin_empty_is_for_one_database() {
    let disk = new_disk();
    let first = start(&disk, true);
    assert_eq!(first.first_snapshot.unwrap().zxid, Zxid::ZERO);
    let data_dir = directories(&disk).data_dir;
    assert!(!disk.exists(&data_dir.join(INITIALIZE)));
    // The snapshot is there, so the next start needs none.
    assert!(start(&disk, true).first_snapshot.is_none());
    // The disk is lost.
    let lost = SimDisk::new(4);
    directories(&lost);
    for _ in 0..2 {
        let secured = start(&lost, true);
        assert_eq!(secured.recovered.last, None, "it still knows that it may have lost a database");
        assert_eq!(secured.recovered.tree.last_zxid(), Zxid(-1), "and shows it as the original does");
        assert!(secured.first_snapshot.is_none() && !secured.wants_snapshot);
    }
    // Nobody can tell a standalone server.
    let standalone = start(&lost, false);
    assert_eq!(standalone.first_snapshot.unwrap().zxid, Zxid::ZERO);
    assert_eq!(standalone.recovered.tree.last_zxid(), Zxid::ZERO);
}

#[test]
fn a_start_that_can_not_write_its_snapshot_keeps_the_permission() {
    let disk = new_disk();
    let operations = disk.operations();
    disk.inject(Fault::Full { from: operations + 1 });
    let error = Start::recover(files(&disk, false), true).unwrap().secure().unwrap_err();
    assert!(matches!(error, rookeeper_storage::StorageError::Snapshot(_)), "{error}");
    assert!(disk.exists(&directories(&disk.restart(1)).data_dir.join(INITIALIZE)));
}

#[test]
fn what_a_member_replays_is_in_no_snapshot() {
    let secured = start(&disk_with_log(), true);
    assert_eq!(secured.recovered.tree.last_zxid(), zxid(3));
    assert!(secured.first_snapshot.is_none() && !secured.wants_snapshot);
    // A standalone server has nobody who could take it back.
    let secured = start(&disk_with_log(), false);
    assert!(secured.first_snapshot.is_none() && secured.wants_snapshot);
}

#[test]
fn a_member_has_epochs_that_fit_its_history() {
    let epochs = start(&disk_with_log(), true).epochs().unwrap();
    assert_eq!((epochs.accepted, epochs.current), (Epoch(1), Epoch(1)));
}
