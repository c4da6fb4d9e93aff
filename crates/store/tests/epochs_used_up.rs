//! Members whose epochs somebody took to the end, and the way back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use rookeeper_proto::{Epoch, Zxid};
use rookeeper_store::epoch_files::{ACCEPTED, CURRENT, write_epoch};
use rookeeper_store::epochs::{EpochReport, Remedy, look, lower_accepted, renumber};
use rookeeper_store::{Fault, RecoveryOptions, SimDisk, SnapshotOptions, write_snapshot};
use rookeeper_tree::Tree;
use support::{History, directories, run, start};

const LAST: Epoch = Epoch::LAST;
const TRANSACTIONS: i64 = 120;

fn set_epochs(disk: &SimDisk, accepted: Epoch, current: Epoch) {
    let dir = directories().snapshot_dir;
    write_epoch(disk, &dir, ACCEPTED, accepted).unwrap();
    write_epoch(disk, &dir, CURRENT, current).unwrap();
}

/// All nodes with their data, children and all but the zxids.
fn content(tree: &Tree) -> Vec<String> {
    let mut nodes: Vec<String> = tree
        .nodes()
        .map(|node| {
            let stat = node.stat();
            format!("{} {:?} {} {} {}", node.path(), node.data(), stat.version, stat.cversion, stat.ephemeral_owner)
        })
        .collect();
    nodes.sort();
    nodes
}

#[test]
fn a_promise_that_leads_nowhere_is_taken_back() {
    let history = History::new(1, TRANSACTIONS);
    let disk = SimDisk::new(1);
    run(&disk, &history, 1, Zxid::ZERO).1.unwrap();
    set_epochs(&disk, Epoch(LAST.0 - 1), Epoch(4));
    let options = RecoveryOptions::default();
    let found = look(&disk, &directories(), &options).unwrap();
    assert_eq!(found.remedy(), Remedy::Lower);
    let after = lower_accepted(&disk, &directories(), &options).unwrap();
    assert_eq!(after, EpochReport { accepted: Some(Epoch(4)), ..found });
    assert_eq!(after.remedy(), Remedy::None);
    assert_eq!(look(&disk.restart(3), &directories(), &options).unwrap(), after, "durably");
    assert_eq!(start(&disk).unwrap().tree.last_zxid(), Zxid(TRANSACTIONS));
}

/// A database that was written in the last epoch.
fn at_the_end() -> (SimDisk, Tree) {
    let history = History::new(2, TRANSACTIONS);
    let mut tree = history.tree_at(Zxid(TRANSACTIONS - 20));
    for (counter, record) in history.records[TRANSACTIONS as usize - 20..].iter().enumerate() {
        let header = rookeeper_proto::TxnHeader { zxid: Zxid::new(LAST, counter as u32 + 1), ..record.header };
        tree.apply(&header, record.txn.clone(), &mut Vec::new());
    }
    let disk = SimDisk::new(2);
    run(&disk, &history, 2, Zxid::ZERO).1.unwrap();
    let snapshot_dir = directories().snapshot_dir;
    write_snapshot(&disk, &snapshot_dir, &SnapshotOptions::default(), &mut |read| read(&tree), &mut |_| Ok(()))
        .unwrap();
    set_epochs(&disk, LAST, LAST);
    (disk, tree)
}

#[test]
fn what_was_lived_through_gets_new_numbers() {
    let (disk, tree) = at_the_end();
    let options = RecoveryOptions::default();
    assert_eq!(look(&disk, &directories(), &options).unwrap().remedy(), Remedy::Renumber);
    assert!(tree.nodes().any(|node| node.stat().mzxid.epoch() == LAST));
    let after = renumber(&disk, &directories(), &options, &SnapshotOptions::default()).unwrap();
    assert_eq!(after, EpochReport { accepted: Some(Epoch(1)), current: Some(Epoch(1)), last: Zxid::new(1, 1) });
    let recovered = start(&disk.restart(5)).unwrap();
    assert_eq!(recovered.tree.last_zxid(), Zxid::new(1, 1));
    assert_eq!(content(&recovered.tree), content(&tree));
    for node in recovered.tree.nodes() {
        let stat = node.stat();
        assert!(stat.czxid.max(stat.mzxid).max(stat.pzxid) <= Zxid::new(1, 1), "{}", node.path());
    }
}

#[test]
fn a_power_cut_on_the_way_leaves_a_member_that_can_go_the_way_again() {
    let (whole, tree) = at_the_end();
    let options = RecoveryOptions::default();
    let mut crashes = 0;
    for at in 1..40 {
        for seed in 0..3 {
            let disk = whole.restart(seed);
            disk.inject(Fault::Crash { at: disk.operations() + at });
            crashes += usize::from(renumber(&disk, &directories(), &options, &SnapshotOptions::default()).is_err());
            let disk = disk.restart(seed);
            let epochs =
                rookeeper_store::member::read_epochs(&disk, &directories(), start(&disk).unwrap().tree.last_zxid());
            epochs.unwrap();
            renumber(&disk, &directories(), &options, &SnapshotOptions::default()).unwrap();
            assert_eq!(content(&start(&disk).unwrap().tree), content(&tree), "{at} {seed}");
        }
    }
    assert!(crashes > 20, "{crashes}");
}
