//! A disk fails while it is to make a name durable, and the process ends for it. Found in simulation: the next one saw the file under its
//! name and voted by the epoch in it; then the power went, and the name with it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;

use rookeeper_proto::{Epoch, Zxid};
use rookeeper_store::epoch_files::{ACCEPTED, CURRENT, write_epoch};
use rookeeper_store::member::read_epochs;
use rookeeper_store::truncate::{install_snapshot, truncate};
use rookeeper_store::{Fault, SimDisk, SnapshotOptions, StoreError};
use rookeeper_tree::Tree;
use support::{History, directories, run, start};

#[test]
fn what_a_start_finds_is_there_after_a_power_cut() {
    let directories = directories();
    let dir = &directories.snapshot_dir;
    let mut found = BTreeSet::new();
    for seed in 0..40 {
        for at in 1..=5 {
            let disk = SimDisk::new(seed);
            start(&disk).unwrap();
            write_epoch(&disk, dir, ACCEPTED, Epoch(9)).unwrap();
            write_epoch(&disk, dir, CURRENT, Epoch(8)).unwrap();
            disk.inject(Fault::Broken { at: disk.operations() + at });
            write_epoch(&disk, dir, CURRENT, Epoch(9)).unwrap_err();

            start(&disk).unwrap();
            let before = read_epochs(&disk, &directories, Zxid::ZERO).unwrap();
            let after = read_epochs(&disk.restart(seed), &directories, Zxid::ZERO).unwrap();
            assert_eq!(before, after, "seed {seed}, operation {at} fails");
            found.insert(before.current);
        }
    }
    assert_eq!(found.len(), 2, "the new name was there, and was not");
}

/// The same with the end of a log: what a start finds cut stays cut.
#[test]
fn what_a_start_finds_cut_is_not_there_after_a_power_cut() {
    for seed in 0..8 {
        let history = History::new(seed, 120);
        let whole = SimDisk::new(seed);
        run(&whole, &history, seed, Zxid::ZERO).1.unwrap();
        for at in 1..=12 {
            let disk = whole.restart(at);
            disk.inject(Fault::Broken { at: disk.operations() + at });
            if truncate(&disk, &directories(), Zxid(118)).is_ok() {
                break;
            }
            let before = start(&disk).unwrap().tree.last_zxid();
            let after = start(&disk.restart(seed)).unwrap().tree.last_zxid();
            assert_eq!(before, after, "seed {seed}, operation {at} fails");
        }
    }
}

type Rewrite<'a> = dyn Fn(&SimDisk) -> Result<(), StoreError> + 'a;

/// What a start finishes it finishes also if the power goes meanwhile: a leader's snapshot had its name, of which the disk had not said that it
/// would stay, everything older was removed, and the name went with the power.
#[test]
fn what_a_start_finishes_is_there_after_a_power_cut() {
    let mut tree = Tree::new();
    tree.set_last_zxid(Zxid(200));
    let leaders = |disk: &SimDisk| {
        let read = &mut |read: &mut dyn FnMut(&Tree)| read(&tree);
        install_snapshot(disk, &directories(), &SnapshotOptions::default(), read, Zxid(200)).map(drop)
    };
    let cut = |disk: &SimDisk| truncate(disk, &directories(), Zxid(118));
    let rewrites: [&Rewrite<'_>; 2] = [&leaders, &cut];
    for (rewrite, end) in rewrites.into_iter().zip([Zxid(200), Zxid(118)]) {
        let mut is_finished = BTreeSet::new();
        for seed in 0..3 {
            let history = History::new(seed, 120);
            let whole = SimDisk::new(seed);
            run(&whole, &history, seed, Zxid::ZERO).1.unwrap();
            for at in 1..=60 {
                let broken = || {
                    let disk = whole.restart(at);
                    disk.inject(Fault::Broken { at: disk.operations() + at });
                    let is_done = rewrite(&disk).is_ok();
                    (disk, is_done)
                };
                for later in 1..=40 {
                    let (disk, is_done) = broken();
                    if is_done {
                        break;
                    }
                    disk.inject(Fault::Crash { at: disk.operations() + later });
                    let is_started = start(&disk).is_ok();
                    let last = start(&disk.restart(seed ^ later)).map(|recovered| recovered.tree.last_zxid());
                    let last =
                        last.unwrap_or_else(|error| panic!("seed {seed}, {at} fails, {later} is the last: {error}"));
                    assert!(last == end || last == Zxid(120), "seed {seed}, {at} fails, {later} is the last: {last}");
                    is_finished.insert(last == end);
                    if is_started {
                        break;
                    }
                }
            }
        }
        assert_eq!(is_finished.len(), 2, "the name was kept, and was not");
    }
}
