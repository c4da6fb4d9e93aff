//! A history is given up behind a transaction, or for a leader's tree. The power goes at every operation of that: afterwards there is the
//! history from before or the one asked for, and it goes on in a new epoch.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rookeeper_proto::{Epoch, SessionId, Txn, TxnHeader, TxnRecord, Zxid};
use rookeeper_store::truncate::{install_snapshot, truncate};
use rookeeper_store::{
    Compression, Directories, Disk, Fault, LogWriter, RealDisk, RecoveryOptions, SimDisk, SnapshotOptions, recover,
    write_snapshot,
};
use rookeeper_tree::Tree;
use support::{History, directories, log_options, log_path, start};

fn zxid(epoch: impl Into<Epoch>, counter: u32) -> Zxid {
    Zxid::new(epoch, counter)
}

/// Every transaction makes a session, so that a tree shows what it is made of. `branch` tells histories apart.
fn record(branch: i64, zxid: Zxid) -> TxnRecord {
    let header = TxnHeader { session: SessionId(branch << 56 | zxid.0), cxid: 0, zxid, time_ms: 1 };
    TxnRecord { header, txn: Txn::CreateSession { timeout_ms: 4000 }, digest: None }
}

fn range(epoch: u32, counters: std::ops::RangeInclusive<u32>) -> Vec<Zxid> {
    counters.map(|counter| zxid(epoch, counter)).collect()
}

/// Logs records, a file for each part.
fn log(disk: &SimDisk, branch: i64, last: Zxid, parts: &[Vec<Zxid>]) {
    let mut writer = LogWriter::new(Arc::new(disk.clone()), &directories().log_dir, log_options(1), last);
    for part in parts {
        for (index, zxid) in part.iter().enumerate() {
            let mut body = Vec::new();
            record(branch, *zxid).append(&mut body);
            writer.append(*zxid, &body).unwrap();
            // Batches of three.
            if index % 3 == 2 {
                writer.commit().unwrap();
            }
        }
        writer.roll().unwrap();
    }
}

fn tree(branch: i64, zxids: &[Zxid]) -> Tree {
    let mut tree = Tree::new();
    for zxid in zxids {
        let TxnRecord { header, txn, .. } = record(branch, *zxid);
        tree.apply(&header, txn, &mut Vec::new());
    }
    tree
}

fn write(disk: &SimDisk, tree: &Tree) {
    let dir = &directories().snapshot_dir;
    write_snapshot(disk, dir, &SnapshotOptions::default(), &mut |read| read(tree), &mut |_| Ok(())).unwrap();
}

fn prepared() -> SimDisk {
    let disk = SimDisk::new(1);
    Directories::prepare(&disk, Path::new("/data"), Path::new("/logs"), true).unwrap();
    disk
}

/// What a tree is made of, and where it ends.
fn content(tree: &Tree) -> (Zxid, BTreeSet<SessionId>) {
    (tree.last_zxid(), tree.sessions().map(|(session, _)| session).collect())
}

fn recovered(disk: &SimDisk, context: &str) -> (Zxid, BTreeSet<SessionId>) {
    content(&start(disk).unwrap_or_else(|error| panic!("{context}: {error}")).tree)
}

fn names(disk: &SimDisk) -> Vec<String> {
    let dirs = [directories().snapshot_dir, directories().log_dir];
    let mut names: Vec<_> = dirs.iter().flat_map(|dir| disk.list(dir).unwrap()).collect();
    names.sort();
    names
}

/// Three epochs in four files, snapshots at 0, in the first, and at the end of the second.
fn member() -> (SimDisk, Vec<Zxid>) {
    let parts = [range(1, 1..=10), range(1, 11..=20), [range(2, 1..=4), range(3, 1..=3)].concat(), range(3, 4..=9)];
    let all = parts.concat();
    let disk = prepared();
    write(&disk, &Tree::new());
    log(&disk, 1, Zxid::ZERO, &parts);
    write(&disk, &tree(1, &range(1, 1..=12)));
    write(&disk, &tree(1, &all[..24]));
    (disk.restart(1), all)
}

/// A new epoch is logged and read back.
fn goes_on(disk: &SimDisk, history: &(Zxid, BTreeSet<SessionId>), context: &str) {
    let epoch = history.0.epoch().next();
    let mut expected = history.clone();
    for counter in 1..=5 {
        expected.0 = zxid(epoch, counter);
        expected.1.insert(record(7, expected.0).header.session);
    }
    log(disk, 7, history.0, &[range(epoch.0, 1..=5)]);
    assert_eq!(recovered(&disk.restart(9), context), expected, "{context}");
}

/// Whatever survives of a crash at whatever operation, `old` or `new` is there. Returns how often it was which.
fn crash_at_every_operation(
    base: &SimDisk,
    old: &(Zxid, BTreeSet<SessionId>),
    new: &(Zxid, BTreeSet<SessionId>),
    context: &str,
    rewrite: impl Fn(&SimDisk) -> bool,
) -> (usize, usize) {
    let mut outcomes = (0, 0);
    for at in 1.. {
        let disk = base.restart(1);
        disk.inject(Fault::Crash { at });
        let done = rewrite(&disk);
        for survival in 0..6 {
            let context = format!("{context}, crash at operation {at}, survival {survival}");
            let mut disk = disk.restart(survival);
            // The power goes again while the next start puts things in order.
            disk.inject(Fault::Crash { at: 1 + (at * 5 + survival) % 23 });
            let _ = start(&disk);
            disk = disk.restart(survival);
            let found = recovered(&disk, &context);
            let is_new = found == *new;
            assert!(is_new || found == *old, "{context}: {found:?}");
            assert!(is_new || !done, "{context}: it was done, and is gone");
            let left: Vec<_> = names(&disk).into_iter().filter(|name| name.starts_with('.')).collect();
            assert_eq!(left, [""; 0], "{context}");
            outcomes = if is_new { (outcomes.0, outcomes.1 + 1) } else { (outcomes.0 + 1, outcomes.1) };
            goes_on(&disk, &found, &context);
        }
        if done {
            break;
        }
    }
    outcomes
}

#[test]
fn a_crash_while_the_history_is_cut_leaves_the_old_or_the_new_one() {
    let (base, all) = member();
    let old = content(&tree(1, &all));
    for (cut, kept) in [
        (Zxid::ZERO, 0),
        (zxid(1, 1), 1),
        (zxid(1, 10), 10),
        (zxid(1, 11), 11),
        (zxid(1, 15), 15),
        (zxid(1, 20), 20),
        // Not in the log: the cut is behind the last one before it.
        (zxid(1, 25), 20),
        (zxid(2, 0), 20),
        (zxid(2, 4), 24),
        (zxid(2, 9), 24),
        (zxid(3, 2), 26),
        (zxid(3, 8), 32),
    ] {
        let context = format!("cut at {cut}");
        let new = content(&tree(1, &all[..kept]));
        let (unchanged, changed) =
            crash_at_every_operation(&base, &old, &new, &context, |disk| truncate(disk, &directories(), cut).is_ok());
        assert!(unchanged > 0 && changed > 6, "{context}: {unchanged} {changed}");
    }
}

#[test]
fn nothing_happens_where_nothing_is_behind_the_cut() {
    let (disk, all) = member();
    let before = names(&disk);
    for cut in [zxid(3, 9), zxid(3, 10), zxid(4, 0), Zxid(i64::MAX)] {
        truncate(&disk, &directories(), cut).unwrap();
        assert_eq!(recovered(&disk, "cut at the end"), content(&tree(1, &all)));
        assert_eq!(names(&disk), before);
    }
}

#[test]
fn a_cut_log_ends_with_its_last_record_and_its_mark_is_true() {
    for kept in 1..=10 {
        let (disk, _) = member();
        truncate(&disk, &directories(), zxid(1, kept)).unwrap();
        let log = disk.content(&log_path("log.100000001")).unwrap();
        let mut body = Vec::new();
        record(1, zxid(1, 1)).append(&mut body);
        let expected = 16 + kept as usize * (13 + body.len());
        assert_eq!(log.len(), expected);
        let mark = u64::from_be_bytes(log[8..16].try_into().unwrap());
        assert_eq!(mark >> 48, 0x524b, "it is one of ours still");
        assert!((mark & 0xffff_ffff_ffff) <= log.len() as u64);
    }
}

#[test]
fn a_snapshot_that_holds_a_part_of_what_is_cut_off_goes() {
    for (cut, stays) in [(19, false), (20, false), (29, false), (30, true), (33, true)] {
        let history = History::new(3, 40);
        let disk = prepared();
        write(&disk, &Tree::new());
        let mut writer = LogWriter::new(Arc::new(disk.clone()), &directories().log_dir, log_options(1), Zxid::ZERO);
        for at in 1..=40 {
            writer.append(Zxid(at), &history.body(Zxid(at))).unwrap();
        }
        writer.commit().unwrap();
        drop(writer);
        // Begun at 20, written to its end when the tree is at 30.
        let tree = RefCell::new(history.tree_at(Zxid(20)));
        let options = SnapshotOptions { portion_bytes: 300, ..SnapshotOptions::default() };
        let dir = directories().snapshot_dir;
        let mut portions = 0;
        write_snapshot(
            &disk,
            &dir,
            &options,
            &mut |read| {
                portions += 1;
                let at = tree.borrow().last_zxid().0 as usize;
                if portions > 2 && at < 30 {
                    let record = &history.records[at];
                    tree.borrow_mut().apply(&record.header, record.txn.clone(), &mut Vec::new());
                }
                if portions > 20 {
                    for record in &history.records[at + 1..30.max(at + 1)] {
                        tree.borrow_mut().apply(&record.header, record.txn.clone(), &mut Vec::new());
                    }
                }
                read(&tree.borrow());
            },
            &mut |_| Ok(()),
        )
        .unwrap();
        let reached = tree.borrow().last_zxid();
        assert!(reached > Zxid(21), "the snapshot is not fuzzy");
        let stays = stays || Zxid(cut) >= reached;
        truncate(&disk, &directories(), Zxid(cut)).unwrap();
        assert_eq!(names(&disk).contains(&"snapshot.14".to_owned()), stays, "cut at {cut}, fuzzy up to {reached}");
        let recovered = start(&disk).unwrap();
        assert_eq!(recovered.tree.last_zxid(), Zxid(cut));
        assert_eq!(recovered.tree.digest(), history.digests[cut as usize]);
    }
}

#[test]
fn what_can_not_be_had_is_refused_and_nothing_is_touched() {
    let later = tree(1, &range(1, 1..=12));
    // A snapshot alone.
    let alone = prepared();
    write(&alone, &later);
    // Two snapshots, and no log between them.
    let holey = prepared();
    write(&holey, &Tree::new());
    write(&holey, &later);
    // The log between them has lost a file.
    let (member, _) = member();
    member.remove(&log_path("log.200000001")).unwrap();
    // It has lost its end.
    let short = prepared();
    write(&short, &Tree::new());
    log(&short, 1, Zxid::ZERO, &[range(1, 1..=5)]);
    write(&short, &later);
    for (disk, cut, reason) in [
        (&alone, zxid(1, 11), "no snapshot is as old as 0x10000000b"),
        (&holey, zxid(1, 11), "the log ends with 0x0"),
        (&member, zxid(2, 3), "after 0x100000014 the log goes on with 0x300000004 only"),
        (&short, zxid(1, 8), "the log ends with 0x100000005"),
    ] {
        let (before, operations) = (names(disk), disk.operations());
        let error = truncate(disk, &directories(), cut).unwrap_err();
        assert!(error.is_no_way_back(), "{error:?}");
        let error = error.to_string();
        assert!(error.contains(reason) && error.contains("nothing was changed"), "{error}");
        assert_eq!((names(disk), disk.operations()), (before, operations));
    }
    // A snapshot alone can be kept.
    for cut in [zxid(1, 12), zxid(1, 13)] {
        truncate(&alone, &directories(), cut).unwrap();
        assert_eq!(recovered(&alone, "alone"), content(&later));
    }
}

/// Where a leader's snapshot has taken the place of everything, the empty tree that every history begins with can still be had.
#[test]
fn the_beginning_can_be_had_without_a_snapshot_of_it() {
    let base = prepared();
    write(&base, &tree(1, &range(1, 1..=12)));
    log(&base, 1, zxid(1, 12), &[range(1, 13..=15)]);
    let (old, new) = (content(&tree(1, &range(1, 1..=15))), content(&Tree::new()));
    let cut = |disk: &SimDisk| truncate(disk, &directories(), Zxid::ZERO).is_ok();
    let (unchanged, changed) = crash_at_every_operation(&base, &old, &new, "cut at the beginning", cut);
    assert!(unchanged > 0 && changed > 2, "{unchanged} {changed}");
    let disk = base.restart(1);
    assert!(cut(&disk));
    assert_eq!(names(&disk), ["snapshot.0"]);
    // Also where an empty database is not expected: this one is known to be empty.
    let options = RecoveryOptions { db_autocreate: false, ..RecoveryOptions::default() };
    assert_eq!(recover(&disk, &directories(), &options).unwrap().tree.last_zxid(), Zxid::ZERO);
}

#[test]
fn damage_before_the_cut_is_not_taken_for_its_place() {
    let (disk, _) = member();
    let path = log_path("log.10000000b");
    let mut log = disk.content(&path).unwrap();
    log[100] ^= 1;
    disk.put(&path, &log);
    let error = truncate(&disk, &directories(), zxid(1, 18)).unwrap_err().to_string();
    assert!(error.contains("a valid one follows"), "{error}");
    assert!(names(&disk).contains(&"log.300000004".to_owned()));
}

/// Where a leader's tree may be, compared with a history that ends at (3,9).
const INSTALLED: [(u32, u32); 8] = [(1, 5), (1, 20), (1, 30), (2, 0), (2, 9), (3, 0), (3, 9), (4, 0)];

#[test]
fn a_leaders_tree_takes_the_place_of_everything_whenever_the_power_goes() {
    let (base, all) = member();
    let old = content(&tree(1, &all));
    for (epoch, counter) in INSTALLED {
        for compression in [Compression::None, Compression::Gzip] {
            let at = zxid(epoch, counter);
            let mut leaders = tree(5, &range(1, 1..=3));
            leaders.set_last_zxid(at);
            let options = SnapshotOptions { compression, ..SnapshotOptions::default() };
            let install = |disk: &SimDisk| {
                install_snapshot(disk, &directories(), &options, &mut |read| read(&leaders), at).is_ok()
            };
            let context = format!("installed at {at}");
            let new = content(&leaders);
            let (unchanged, changed) = crash_at_every_operation(&base, &old, &new, &context, install);
            assert!(unchanged > 0 && changed > 6, "{context}: {unchanged} {changed}");
            let disk = base.restart(1);
            assert!(install(&disk));
            assert_eq!(names(&disk).len(), 1, "{context}: {:?}", names(&disk));
            // A second one replaces the first, also one of the same zxid.
            let mut other = tree(6, &range(1, 1..=2));
            other.set_last_zxid(at);
            install_snapshot(&disk, &directories(), &options, &mut |read| read(&other), at).unwrap();
            assert_eq!(recovered(&disk, &context), content(&other));
        }
    }
}

#[test]
fn a_snapshot_that_the_log_does_not_lead_to_stands_alone() {
    for (epoch, counter) in INSTALLED {
        let (disk, all) = member();
        let at = zxid(epoch, counter);
        let mut leaders = tree(5, &range(1, 1..=3));
        leaders.set_last_zxid(at);
        write(&disk, &leaders);
        truncate(&disk, &directories(), at).unwrap();
        assert_eq!(recovered(&disk, "stored and cut"), content(&leaders));
        if !all.contains(&at) {
            assert_eq!(names(&disk), [format!("snapshot.{:x}", at.0)]);
            // It gets lost. What is here from before must not be put under what came after.
            log(&disk, 7, at, &[vec![at.next().unwrap()]]);
            let path = directories().snapshot_dir.join(format!("snapshot.{:x}", at.0));
            disk.remove(&path).unwrap();
            start(&disk).unwrap_err();
        }
    }
}

#[test]
fn a_tree_at_another_place_is_not_installed() {
    let (disk, _) = member();
    let (before, operations) = (names(&disk), disk.operations());
    let options = SnapshotOptions::default();
    install_snapshot(&disk, &directories(), &options, &mut |read| read(&Tree::new()), zxid(1, 1)).unwrap_err();
    assert_eq!((names(&disk), disk.operations()), (before, operations));
}

#[test]
fn whoever_only_looks_is_told_that_something_is_under_way() {
    let (disk, _) = member();
    disk.put(&directories().snapshot_dir.join(".truncate.100000005"), b"");
    let options = RecoveryOptions { clean_up: false, ..RecoveryOptions::default() };
    let error = recover(&disk, &directories(), &options).unwrap_err().to_string();
    assert!(error.contains("start the server, which finishes that"), "{error}");
    assert_eq!(recovered(&disk, "finished").0, zxid(1, 5));
}

fn unpack(name: &str, into: &Path) -> PathBuf {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/datadir");
    let file = std::fs::File::open(format!("{fixtures}/{name}.tar.gz")).unwrap();
    tar::Archive::new(flate2::read::GzDecoder::new(file)).unpack(into).unwrap();
    into.join(name)
}

#[test]
fn a_recorded_member_is_cut_as_the_original_cut_it() {
    let dir = tempfile::tempdir().unwrap();
    let (before, after) = (unpack("trunc-before", dir.path()), unpack("trunc-after", dir.path()));
    let cut = zxid(1, 12);
    let directories = Directories::new(&before, &before);
    let options = RecoveryOptions::default();
    assert!(recover(&RealDisk, &directories, &options).unwrap().tree.last_zxid() > cut);
    truncate(&RealDisk, &directories, cut).unwrap();
    let log = |data: &Path| std::fs::read(data.join("version-2/log.100000001")).unwrap();
    assert_eq!(log(&before), log(&after));
    let recovered = |data: &Path| recover(&RealDisk, &Directories::new(data, data), &options).unwrap().tree;
    let (ours, theirs) = (recovered(&before), recovered(&after));
    assert_eq!((content(&ours), ours.digest()), (content(&theirs), theirs.digest()));
}

#[test]
fn every_cut_of_a_recorded_member_is_the_beginning_of_its_history() {
    let dir = tempfile::tempdir().unwrap();
    let data = unpack("trunc-before", dir.path());
    for counter in (0..=14).rev() {
        let directories = Directories::new(&data, &data);
        truncate(&RealDisk, &directories, zxid(1, counter)).unwrap();
        let recovered = recover(&RealDisk, &directories, &RecoveryOptions::default()).unwrap();
        let expected = if counter == 0 { Zxid::ZERO } else { zxid(1, counter) };
        assert_eq!((recovered.tree.last_zxid(), recovered.report.digest_mismatches), (expected, 0));
    }
}
