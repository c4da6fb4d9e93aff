//! Snapshots wait for the log, are given up in time, and come neither too early nor too often.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::time::SystemTime;

use common::{Answers, append, drive, empty_database, files, shared, tree_of, worker, zxid};
use rookeeper_proto::{Epoch, MonotonicMs, ServerId, WallMs, Zxid};
use rookeeper_replica::{EnsembleSettings, Epochs, Replica, Shared, Time};
use rookeeper_storage::{Batching, LogPosition, Snapshotter, Taking};
use rookeeper_store::{Disk, PurgeOptions, SimDisk, WrittenSnapshot};
use rookeeper_zab::{Membership, Memberships};

/// The names of the files beside the epochs and the snapshot of the beginning.
fn names(disk: &SimDisk) -> Vec<String> {
    let mut names = disk.list(&common::directories(&disk.clone()).snapshot_dir).unwrap();
    names.retain(|name| name.contains("snapshot") && name != "snapshot.0");
    names
}

/// A disk whose log ends with the third transaction, and a server that has applied five.
fn ahead_of_its_log() -> (SimDisk, Arc<Shared>, Snapshotter) {
    let disk = empty_database();
    let mut worker = worker(&disk, &shared(tree_of(0)), Zxid::ZERO, Batching::default());
    drive(&mut worker, vec![append(1..=3)], &mut Answers::default()).unwrap();
    let shared = shared(tree_of(5));
    let snapshotter = Snapshotter::new(files(&disk, true), shared.clone(), PurgeOptions::default(), None);
    (disk, shared, snapshotter)
}

/// Goes on until there is something to wait for, or it is over.
fn step_until_it_waits(snapshotter: &mut Snapshotter, position: &mut LogPosition) -> Taking {
    let hold = position.hold().unwrap();
    let taking = loop {
        match snapshotter.step(&hold, |zxid| position.has(zxid)).unwrap() {
            Taking::More => {}
            other => break other,
        }
    };
    position.release(hold);
    taking
}

/// The server has no leader any more.
fn lose_the_leader(shared: &Arc<Shared>) {
    let membership = Membership::parse_text("server.1=a:1:2:participant\nserver.2=b:1:2:participant", false).unwrap();
    let settings = EnsembleSettings::new(ServerId(1), Memberships::settled(membership));
    let _ = Replica::member(
        shared.clone(),
        settings,
        Epochs { accepted: Epoch(1), current: Epoch(1) },
        Time::of_ms(MonotonicMs(0), WallMs(0)),
    );
}

#[test]
fn a_snapshot_has_its_name_when_what_it_shows_is_in_the_log_and_not_before() {
    let (disk, _, mut snapshotter) = ahead_of_its_log();
    let mut position = LogPosition::new(zxid(3));
    assert_eq!(step_until_it_waits(&mut snapshotter, &mut position), Taking::WaitsFor(zxid(5)));
    position.advance(zxid(4));
    assert_eq!(step_until_it_waits(&mut snapshotter, &mut position), Taking::WaitsFor(zxid(5)));
    assert!(names(&disk).iter().all(|name| name != "snapshot.100000005"), "{:?}", names(&disk));
    // Whenever the power goes now, there is nothing in the way of the next start.
    assert_eq!(files(&disk.restart(1), true).recover().unwrap().tree.last_zxid(), zxid(3));
    position.advance(zxid(5));
    let taken = step_until_it_waits(&mut snapshotter, &mut position);
    assert!(matches!(&taken, Taking::Taken(written) if written.zxid == zxid(5) && written.bytes > 0), "{taken:?}");
    assert_eq!(names(&disk.restart(1)), ["snapshot.100000005"]);
}

#[test]
fn a_snapshot_of_what_is_cut_off_is_given_up() {
    let (disk, _, mut snapshotter) = ahead_of_its_log();
    let mut position = LogPosition::new(zxid(3));
    step_until_it_waits(&mut snapshotter, &mut position);
    assert!(position.rewrite().is_some());
    assert_eq!(position.has(zxid(5)), Some(false));
    let mut interrupted = LogPosition::new(zxid(3));
    interrupted.interrupt();
    assert_eq!(step_until_it_waits(&mut snapshotter, &mut interrupted), Taking::GivenUp);
    assert_eq!(names(&disk), Vec::<String>::new());
    // The next one begins anew.
    let mut position = LogPosition::new(zxid(5));
    assert!(matches!(step_until_it_waits(&mut snapshotter, &mut position), Taking::Taken(_)));
}

#[test]
fn a_snapshot_is_given_up_as_soon_as_nobody_knows_what_is_committed() {
    let (disk, shared, mut snapshotter) = ahead_of_its_log();
    let mut position = LogPosition::new(zxid(5));
    let hold = position.hold().unwrap();
    for _ in 0..3 {
        assert_eq!(snapshotter.step(&hold, |zxid| position.has(zxid)).unwrap(), Taking::More);
    }
    lose_the_leader(&shared);
    assert_eq!(snapshotter.step(&hold, |zxid| position.has(zxid)).unwrap(), Taking::GivenUp);
    assert_eq!(names(&disk), Vec::<String>::new());
    assert!(!snapshotter.is_due(1 << 30), "none is begun either");
}

#[test]
fn a_snapshot_is_due_when_the_log_has_grown_by_half_of_the_last_one() {
    let disk = empty_database();
    let first = WrittenSnapshot { zxid: Zxid::ZERO, path: "snapshot.0".into(), bytes: 1000 };
    let new = |first| Snapshotter::new(files(&disk, true), shared(tree_of(0)), PurgeOptions::default(), first);
    assert!(new(None).is_due(0));
    let mut snapshotter = new(Some(&first));
    assert!(!snapshotter.is_due(300));
    assert!(!snapshotter.is_due(199));
    assert!(snapshotter.is_due(1));
}

#[test]
fn what_is_older_than_the_kept_snapshots_goes() {
    let (disk, _, _) = ahead_of_its_log();
    let options = PurgeOptions { retain_snapshots: 1, ..PurgeOptions::default() };
    let mut snapshotter = Snapshotter::new(files(&disk, true), shared(tree_of(3)), options, None);
    let mut position = LogPosition::new(zxid(3));
    assert!(matches!(step_until_it_waits(&mut snapshotter, &mut position), Taking::Taken(_)));
    let purged = snapshotter.purge(&position.hold().unwrap(), SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!((purged.snapshots, purged.logs), (1, 0));
    assert_eq!(files(&disk.restart(1), true).recover().unwrap().tree.last_zxid(), zxid(3));
}
