//! A disk fails while it is to make a name durable, and the process ends for it. Found in simulation: the next one saw the file under its
//! name and voted by the epoch in it; then the power went, and the name with it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use rookeeper_proto::Zxid;
use rookeeper_store::epoch_files::{ACCEPTED, CURRENT, write_epoch};
use rookeeper_store::member::read_epochs;
use rookeeper_store::truncate::truncate;
use rookeeper_store::{Fault, SimDisk};
use support::{History, directories, run, start};

#[test]
fn what_a_start_finds_is_there_after_a_power_cut() {
    let directories = directories();
    let dir = &directories.snapshot_dir;
    let mut found = std::collections::BTreeSet::new();
    for seed in 0..40 {
        for at in 1..=5 {
            let disk = SimDisk::new(seed);
            start(&disk).unwrap();
            write_epoch(&disk, dir, ACCEPTED, 9).unwrap();
            write_epoch(&disk, dir, CURRENT, 8).unwrap();
            disk.inject(Fault::Broken { at: disk.operations() + at });
            write_epoch(&disk, dir, CURRENT, 9).unwrap_err();

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
