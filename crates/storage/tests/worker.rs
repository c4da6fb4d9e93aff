//! What a storage is asked for is done in order, and answered when it is durable and not before.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Answers, REFUSED, all_jobs, append, drive, empty_database, files, shared, tree_of, worker, zxid};
use rookeeper_proto::{Epoch, Zxid};
use rookeeper_replica::Store;
use rookeeper_storage::{Batching, Job, Next, StorageError};
use rookeeper_store::Fault;
use rookeeper_tree::Tree;
use rookeeper_zab::Membership;

#[test]
fn everything_is_done_and_answered_in_the_order_in_which_it_was_asked_for() {
    let disk = empty_database();
    let mut worker = worker(&disk, &shared(tree_of(9)), Zxid::ZERO, Batching::default());
    let mut answers = Answers::default();
    let membership = |version| Membership { version, ..Membership::default() };
    let mut jobs = all_jobs();
    jobs.push(Job::Store(Store::ProposedMembership(membership(Zxid(12)))));
    jobs.push(Job::Store(Store::ActiveMembership(membership(Zxid(12)))));
    jobs.push(Job::Store(Store::CurrentEpoch { epoch: Epoch(3), membership: Some(membership(REFUSED)) }));
    jobs.push(Job::Store(Store::AcceptedEpoch(Epoch(4))));
    jobs.push(Job::Store(Store::CurrentEpoch { epoch: Epoch(4), membership: Some(membership(Zxid(13))) }));
    jobs.push(Job::Store(Store::ProposedMembership(membership(REFUSED))));
    drive(&mut worker, jobs, &mut answers).unwrap();
    assert_eq!(
        answers.texts,
        [
            "accepted 1",
            "synced 0x100000005",
            "current 1",
            "synced 0x100000007",
            "truncated 0x100000004, tree at Some(4)",
            "synced 0x100000006",
            "accepted 2",
            "truncated 0x100000005, tree at None",
            "installed 0x100000009",
            "synced 0x10000000a",
            "current 2",
            "synced 0x10000000c",
            "membership 12 proposed",
            "membership 12 in force",
            "membership 99 proposed",
            "membership of 3 refused",
            "accepted 4",
            "membership 13 proposed",
            "current 4",
            "membership 99 proposed",
        ]
    );
    // As a restart finds it.
    let files = files(&disk.restart(1), true);
    let recovered = files.recover().unwrap().tree;
    assert_eq!((recovered.last_zxid(), recovered.node_count()), (zxid(12), Tree::with_seed(1).node_count() + 12));
    let epochs = files.read_epochs(zxid(12)).unwrap();
    assert_eq!((epochs.accepted, epochs.current), (Epoch(4), Epoch(4)));
}

#[test]
fn whatever_was_answered_survives_the_power_going_at_any_operation() {
    let mut at = 1;
    let mut answered = 0;
    loop {
        let mut ended = false;
        for seed in 0..12 {
            let disk = empty_database();
            disk.inject(Fault::Crash { at });
            let mut worker = worker(&disk, &shared(tree_of(9)), Zxid::ZERO, Batching::default());
            let mut answers = Answers::default();
            ended = drive(&mut worker, all_jobs(), &mut answers).is_ok();
            drop(worker);
            answered = answered.max(answers.texts.len());
            let files = files(&disk.restart(seed), true);
            let recovered = files.recover().unwrap_or_else(|error| panic!("crash at {at}, seed {seed}: {error}")).tree;
            let last = recovered.last_zxid();
            // More may be there than was answered for, and what is being cut or replaced may be as it was.
            let expected = match answers.texts.last().map(String::as_str) {
                _ if answers.end >= zxid(9) => last >= answers.end,
                // The next step is one that ends the history before, or another one behind.
                Some("synced 0x100000007") => last == zxid(7) || last == zxid(4),
                Some("accepted 2") => [zxid(6), zxid(5)].contains(&last),
                Some("truncated 0x100000005, tree at None") => [zxid(5), zxid(9)].contains(&last),
                _ => last >= answers.end,
            };
            assert!(expected, "crash at {at}, seed {seed}: {last} after {:?}", answers.texts);
            assert_eq!(recovered.node_count(), Tree::with_seed(1).node_count() + last.counter() as usize);
            let epochs = files.read_epochs(last).unwrap();
            assert!(
                epochs.accepted >= answers.accepted && epochs.current >= answers.current,
                "crash at {at}, seed {seed}: {epochs:?} after {:?}",
                answers.texts
            );
        }
        if ended {
            break;
        }
        at += 1;
    }
    assert!(at > 60 && answered == 12, "{at} operations, {answered} answers");
}

/// A leader's snapshot is all there is. The leader is told what this server has and asked for everything, and the log goes on behind that.
#[test]
fn what_can_not_be_cut_is_read_again_and_kept() {
    for reload in [false, true] {
        let disk = empty_database();
        let mut worker = worker(&disk, &shared(tree_of(9)), Zxid::ZERO, Batching::default());
        let mut answers = Answers::default();
        let jobs = vec![
            Job::Store(Store::InstallSnapshot { zxid: zxid(9) }),
            append(10..=11),
            Job::Store(Store::Truncate { zxid: zxid(4), reload }),
            append(12..=12),
        ];
        drive(&mut worker, jobs, &mut answers).unwrap();
        let expected = [
            "installed 0x100000009",
            "synced 0x10000000b",
            "truncated 0x100000004, tree at Some(11)",
            "synced 0x10000000c",
        ];
        assert_eq!(answers.texts, expected);
        assert_eq!(files(&disk.restart(1), true).recover().unwrap().tree.last_zxid(), zxid(12));
    }
}

#[test]
fn nothing_is_written_after_the_first_failure() {
    for at in 1..=20 {
        let disk = empty_database();
        disk.inject(Fault::Broken { at });
        let mut worker = worker(&disk, &shared(tree_of(9)), Zxid::ZERO, Batching::default());
        drive(&mut worker, all_jobs(), &mut Answers::default()).unwrap_err();
        let operations = disk.operations();
        let goes_on = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = drive(&mut worker, Vec::new(), &mut Answers::default());
            let _ = worker.take(append(1..=1));
        }));
        // The job at hand may be over; then the next one is refused.
        assert!(goes_on.is_err(), "failed at {at}");
        assert_eq!(disk.operations(), operations, "failed at {at}");
    }
}

#[test]
fn a_failure_names_what_could_not_be_stored() {
    let failure = |store: Store| {
        let disk = empty_database();
        let mut worker = worker(&disk, &shared(tree_of(3)), Zxid::ZERO, Batching::default());
        drive(&mut worker, vec![append(1..=3)], &mut Answers::default()).unwrap();
        disk.inject(Fault::Full { from: 1 });
        drive(&mut worker, vec![Job::Store(store)], &mut Answers::default()).unwrap_err()
    };
    let stores = [
        Store::AcceptedEpoch(Epoch(1)),
        Store::CurrentEpoch { epoch: Epoch(1), membership: None },
        Store::Truncate { zxid: zxid(2), reload: false },
        // The tree is at another transaction.
        Store::InstallSnapshot { zxid: zxid(9) },
    ];
    let failed = stores.map(failure);
    assert!(
        matches!(
            failed,
            [
                StorageError::Epoch(_),
                StorageError::Epoch(_),
                StorageError::Truncate { .. },
                StorageError::Install { .. }
            ]
        ),
        "{failed:?}"
    );
    let disk = empty_database();
    disk.inject(Fault::Full { from: 1 });
    let mut worker = worker(&disk, &shared(tree_of(3)), Zxid::ZERO, Batching::default());
    let error = drive(&mut worker, vec![append(1..=3)], &mut Answers::default()).unwrap_err();
    assert!(matches!(error, StorageError::Log(_)), "{error}");
    assert!(error.to_string().ends_with("nothing more is acknowledged"), "{error}");
}

#[test]
fn transactions_are_gathered_until_the_delay_or_the_number_is_reached() {
    let disk = empty_database();
    let batching = Batching { flush_delay_us: 2000, max_records: Some(5) };
    let mut worker = worker(&disk, &shared(tree_of(0)), Zxid::ZERO, batching);
    assert_eq!(worker.next(), Next::Job);
    worker.take(append(1..=1)).unwrap();
    // Nothing was synced before, so that nobody need wait.
    assert!(matches!(worker.next(), Next::JobOrSync { until_us } if until_us < 0));
    worker.sync().unwrap();
    worker.synced_at(10_000);
    assert_eq!(worker.next(), Next::Job);
    worker.take(append(2..=3)).unwrap();
    assert_eq!(worker.next(), Next::JobOrSync { until_us: 12_000 });
    worker.take(append(4..=6)).unwrap();
    assert_eq!(worker.next(), Next::Sync);
    let synced = worker.sync().unwrap();
    assert_eq!((synced.zxid, synced.records, synced.bytes), (zxid(6), 5, append(2..=6).bytes()));
    assert_eq!(worker.next(), Next::Roll);
    assert!(worker.roll().unwrap() > synced.bytes as u64);
    assert_eq!(worker.next(), Next::Job);

    // What stands behind transactions does not wait for the delay.
    worker.synced_at(20_000);
    worker.take(append(7..=7)).unwrap();
    worker.take(Job::Store(Store::CurrentEpoch { epoch: Epoch(1), membership: None })).unwrap();
    assert_eq!(worker.next(), Next::Sync);
    worker.sync().unwrap();
    assert_eq!(worker.next(), Next::Store);
}

#[test]
fn bytes_count_until_a_snapshot_was_asked_for() {
    let disk = empty_database();
    let mut worker = worker(&disk, &shared(tree_of(0)), Zxid::ZERO, Batching::default());
    let mut logged = |counters, is_asked_for| {
        worker.take(append(counters)).unwrap();
        worker.sync().unwrap();
        let bytes = worker.roll().unwrap();
        if is_asked_for {
            worker.snapshot_asked_for();
        }
        bytes
    };
    let first = logged(1..=5, false);
    assert_eq!(logged(6..=10, true), first * 2 + 1, "the paths of the tenth is longer by one");
    assert_eq!(logged(11..=15, false), first + 5);
}

#[test]
fn nothing_is_answered_for_once_the_directory_was_taken_away() {
    // The simulated disk keeps its directories, so that this is one of the real one.
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let real = rookeeper_store::RealDisk;
    let directories = rookeeper_store::Directories::prepare(&real, home, home, true).unwrap();
    let files = rookeeper_storage::Files::new(std::sync::Arc::new(real), directories, Default::default()).unwrap();
    let files = std::sync::Arc::new(files);
    let shared = shared(tree_of(0));
    files.install_snapshot(&shared, Zxid::ZERO).unwrap();
    let version_dir = home.join("version-2");
    std::fs::rename(&version_dir, home.join("elsewhere")).unwrap();
    std::fs::create_dir(&version_dir).unwrap();
    for job in [
        append(1..=3),
        Job::Store(Store::AcceptedEpoch(Epoch(7))),
        Job::Store(Store::InstallSnapshot { zxid: Zxid::ZERO }),
    ] {
        let mut worker =
            rookeeper_storage::StorageWorker::new(files.clone(), shared.clone(), Zxid::ZERO, Batching::default());
        let mut answers = Answers::default();
        drive(&mut worker, vec![job], &mut answers).unwrap_err();
        assert!(answers.texts.is_empty(), "{answers:?}");
    }
    assert!(!version_dir.join("acceptedEpoch").exists());
}
