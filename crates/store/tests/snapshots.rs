//! Snapshots in all forms: written while the tree changes, read back equal, refused when damaged, kept when others are purged.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rookeeper_proto::txn::{CreateKind, CreateTxn};
use rookeeper_proto::{Acl, Id, Permissions, SessionId, StatPersisted, Txn, TxnHeader, Zxid};
use rookeeper_store::snapshot_reader::load;
use rookeeper_store::{
    Compression, Fault, LogWriter, Origin, PurgeOptions, Purged, Purger, RecoveryReport, SimDisk, SnapshotOptions,
    StoreError, WrittenSnapshot, write_snapshot,
};
use rookeeper_tree::{Tree, TreeBuilder};
use support::{History, directories, log_options, log_path, start};

const RECORDS: i64 = 200;

fn snapshot_path(name: &str) -> std::path::PathBuf {
    directories().snapshot_dir.join(name)
}

fn snapshot(disk: &SimDisk, tree: &Tree, compression: Compression) -> Result<WrittenSnapshot, StoreError> {
    let options = SnapshotOptions { compression, ..SnapshotOptions::default() };
    write_snapshot(disk, &directories().snapshot_dir, &options, &mut |read| read(tree), &mut |_| Ok(()))
}

/// An empty data directory.
fn empty_disk() -> SimDisk {
    let disk = SimDisk::new(1);
    start(&disk).unwrap();
    disk
}

/// The whole history in one log.
fn disk_with_log(history: &History) -> SimDisk {
    let disk = empty_disk();
    let mut writer = LogWriter::new(Arc::new(disk.clone()), &directories().log_dir, log_options(1), Zxid::ZERO);
    for zxid in 1..=history.records.len() as i64 {
        writer.append(Zxid(zxid), &history.body(Zxid(zxid))).unwrap();
    }
    writer.commit().unwrap();
    disk
}

/// The tree as a plain snapshot would hold it, in a comparable order.
fn everything(tree: &Tree) -> Vec<String> {
    let mut everything: Vec<_> = tree
        .nodes()
        .map(|node| format!("{} {:?} {:?} {:?}", node.path(), node.data(), node.persisted(), node.acl()))
        .collect();
    everything.extend(tree.sessions().map(|(session, timeout_ms)| format!("{session} {timeout_ms}")));
    everything.sort();
    everything
}

#[test]
fn what_is_written_is_read_equal_in_every_form() {
    let history = History::new(5, RECORDS);
    let tree = history.tree_at(Zxid(RECORDS));
    for (compression, name) in [
        (Compression::None, "snapshot.c8"),
        (Compression::Gzip, "snapshot.c8.gz"),
        (Compression::Snappy, "snapshot.c8.snappy"),
    ] {
        let disk = empty_disk();
        let written = snapshot(&disk, &tree, compression).unwrap();
        let content = disk.content(&snapshot_path(name)).unwrap();
        let expected = WrittenSnapshot { zxid: Zxid(RECORDS), path: snapshot_path(name), bytes: content.len() as u64 };
        assert_eq!(written, expected);
        let recovered = start(&disk.restart(1)).unwrap();
        assert_eq!(everything(&recovered.tree), everything(&tree));
        let report = recovered.report;
        assert_eq!((report.digests_checked, report.digest_mismatches, report.last_zxid), (1, 0, Zxid(RECORDS)));
        assert_eq!(report.origin, Origin::Snapshot { name: name.to_owned(), nodes: tree.node_count() as u64 });
        // It is there and valid: nothing is written again, in whatever form.
        let before = disk.operations();
        for compression in Compression::ALL {
            assert_eq!(snapshot(&disk, &tree, compression).unwrap().bytes, 0);
        }
        assert_eq!(disk.operations(), before);
    }
}

#[test]
fn a_damaged_snapshot_of_the_same_name_is_replaced() {
    let history = History::new(5, RECORDS);
    let tree = history.tree_at(Zxid(RECORDS));
    let disk = empty_disk();
    snapshot(&disk, &tree, Compression::None).unwrap();
    let good = disk.content(&snapshot_path("snapshot.c8")).unwrap();
    disk.put(&snapshot_path("snapshot.c8"), &good[..good.len() - 1]);
    assert_eq!(snapshot(&disk, &tree, Compression::None).unwrap().bytes, good.len() as u64);
    assert_eq!(disk.restart(2).content(&snapshot_path("snapshot.c8")).unwrap(), good);
}

#[test]
fn trailers_are_both_or_none() {
    let history = History::new(5, RECORDS);
    let tree = history.tree_at(Zxid(RECORDS));
    let length = |digests: bool| {
        let disk = empty_disk();
        let options = SnapshotOptions { digests, ..SnapshotOptions::default() };
        let dir = directories().snapshot_dir;
        write_snapshot(&disk, &dir, &options, &mut |read| read(&tree), &mut |_| Ok(())).unwrap();
        let content = disk.content(&snapshot_path("snapshot.c8")).unwrap();
        assert!(content.ends_with(&[0, 0, 0, 1, b'/']));
        assert_eq!(everything(&start(&disk).unwrap().tree), everything(&tree));
        content.len()
    };
    assert_eq!(length(true), length(false) + 33 + 21);
}

/// A snapshot that is not backed by a durable log must not get its name.
#[test]
fn a_snapshot_waits_for_the_log() {
    let history = History::new(5, RECORDS);
    let tree = history.tree_at(Zxid(RECORDS));
    let disk = empty_disk();
    let mut asked = Vec::new();
    let result = write_snapshot(
        &disk,
        &directories().snapshot_dir,
        &SnapshotOptions::default(),
        &mut |read| read(&tree),
        &mut |zxid| {
            asked.push(zxid);
            Err(StoreError::Closed { cause: "the disk is gone".to_owned() })
        },
    );
    assert!(matches!(result, Err(StoreError::Closed { .. })));
    assert_eq!(asked, [Zxid(RECORDS)]);
    assert_eq!(
        (disk.content(&snapshot_path("snapshot.c8")), disk.content(&snapshot_path(".snapshot.c8.tmp"))),
        (None, None)
    );
}

/// The newest snapshot is damaged in every way: the one before it serves, with the log, and nothing of the damaged one is seen.
#[test]
fn an_older_snapshot_serves_where_the_newest_is_damaged() {
    let history = History::new(5, RECORDS);
    let expected = everything(&history.tree_at(Zxid(RECORDS)));
    let disk = disk_with_log(&history);
    snapshot(&disk, &history.tree_at(Zxid(50)), Compression::None).unwrap();
    for compression in Compression::ALL {
        let name = rookeeper_store::names::snapshot(Zxid(150), compression);
        snapshot(&disk, &history.tree_at(Zxid(150)), compression).unwrap();
        let good = disk.content(&snapshot_path(&name)).unwrap();
        let mut random = support::Random::new(7);
        let mut skipped = 0;
        for round in 0..150 {
            let mut bad = good.clone();
            if round % 3 == 0 {
                bad.truncate(random.below(good.len() as u64) as usize);
            } else {
                let at = random.below(good.len() as u64) as usize;
                bad[at] ^= 1 << random.below(8);
            }
            disk.put(&snapshot_path(&name), &bad);
            let recovered = start(&disk).unwrap();
            // Some bits of a compressed file say nothing, such as the time in gzip's header.
            if recovered.report.skipped_snapshots.is_empty() {
                assert_ne!(compression, Compression::None, "{}", recovered.report);
            } else {
                skipped += 1;
                let told = format!("{name} was not used: ");
                assert!(recovered.report.warnings().iter().any(|warning| warning.contains(&told)));
            }
            assert_eq!(everything(&recovered.tree), expected);
        }
        assert!(skipped > 130, "{compression:?}: {skipped}");
        rookeeper_store::Disk::remove(&disk, &snapshot_path(&name)).unwrap();
        let error = {
            let disk = empty_disk();
            disk.put(&snapshot_path(&name), &good[..good.len() / 2]);
            start(&disk).unwrap_err().to_string()
        };
        assert!(error.contains(&name), "{error}");
    }
}

/// Its log is cut off before the changes that it holds a part of.
#[test]
fn a_snapshot_ahead_of_the_log_is_not_used() {
    let history = History::new(5, RECORDS);
    let mut tree = history.tree_at(Zxid(100));
    let disk =
        disk_with_log(&History { records: history.records[..120].to_vec(), digests: history.digests[..=120].to_vec() });
    snapshot(&disk, &history.tree_at(Zxid(20)), Compression::None).unwrap();
    let mut begun = false;
    let options = SnapshotOptions { portion_bytes: 1, ..SnapshotOptions::default() };
    let mut with_tree = |read: &mut dyn FnMut(&Tree)| {
        read(&tree);
        if !std::mem::replace(&mut begun, true) {
            for record in &history.records[100..150] {
                tree.apply(&record.header, record.txn.clone(), &mut Vec::new());
            }
        }
    };
    write_snapshot(&disk, &directories().snapshot_dir, &options, &mut with_tree, &mut |_| Ok(())).unwrap();
    let recovered = start(&disk).unwrap();
    assert_eq!(everything(&recovered.tree), everything(&history.tree_at(Zxid(120))));
    let reason = &recovered.report.skipped_snapshots[0];
    assert!(
        reason.0 == "snapshot.64" && reason.1.contains("the changes up to 0x96, but the logs end at 0x78"),
        "{reason:?}"
    );
}

#[test]
fn an_empty_directory_is_an_empty_database_where_that_is_expected() {
    use rookeeper_store::{RecoveryOptions, recover, use_up_permissions};
    let origin = |flag: Option<&str>, db_autocreate| -> Origin {
        let disk = empty_disk();
        if let Some(path) = flag {
            disk.put(Path::new(path), b"");
        }
        let options = RecoveryOptions { db_autocreate, ..RecoveryOptions::default() };
        let recovered = recover(&disk, &directories(), &options).unwrap();
        let expected = recovered.report.origin == Origin::Empty { expected: true };
        // One that may have lost what it had must not be counted.
        assert_eq!(recovered.last, expected.then_some(Zxid::ZERO));
        assert_eq!((recovered.tree.last_zxid(), recovered.tree.node_count()), (Zxid::ZERO, 4));
        assert!(flag.is_none_or(|path| disk.content(Path::new(path)).is_some()), "a crash here must not take the flag");
        use_up_permissions(&disk, &directories()).unwrap();
        assert!(flag.is_none_or(|path| disk.restart(7).content(Path::new(path)).is_none()), "the flag counts once");
        recovered.report.origin
    };
    assert_eq!(origin(None, true), Origin::Empty { expected: true });
    assert_eq!(origin(None, false), Origin::Empty { expected: false });
    assert_eq!(origin(Some("/data/initialize"), false), Origin::Empty { expected: true });
    assert_eq!(origin(Some("/logs/initialize"), false), Origin::Empty { expected: true });
}

#[test]
fn the_permission_to_begin_empty_does_not_wait_for_the_day_when_the_disk_is_lost() {
    use rookeeper_store::{RecoveryOptions, recover};
    let options = RecoveryOptions { db_autocreate: false, ..RecoveryOptions::default() };
    let disk = empty_disk();
    snapshot(&disk, &Tree::new(), Compression::None).unwrap();
    let flag = Path::new("/data/initialize");
    disk.put(flag, b"");
    recover(&disk, &directories(), &RecoveryOptions { clean_up: false, ..options }).unwrap();
    assert!(disk.content(flag).is_some(), "whoever only looks takes nothing");
    recover(&disk, &directories(), &options).unwrap();
    assert!(disk.restart(7).content(flag).is_none(), "it was for this start, durably");
}

/// Snapshots at 50, 100, 150 and 200, and a log file from each to the next.
fn disk_to_purge(history: &History) -> SimDisk {
    let disk = empty_disk();
    snapshot(&disk, &Tree::new(), Compression::None).unwrap();
    let mut writer = LogWriter::new(Arc::new(disk.clone()), &directories().log_dir, log_options(1), Zxid::ZERO);
    for zxid in 1..=RECORDS {
        writer.append(Zxid(zxid), &history.body(Zxid(zxid))).unwrap();
        // The log rolls a little before the snapshot, as it does while transactions go on.
        if zxid % 50 == 40 {
            writer.roll().unwrap();
        }
        if zxid % 50 == 0 {
            writer.commit().unwrap();
            snapshot(&disk, &history.tree_at(Zxid(zxid)), Compression::None).unwrap();
        }
    }
    disk
}

fn purge(disk: &SimDisk, retain_snapshots: usize, min_age: Duration, now: SystemTime) -> Purged {
    let options = PurgeOptions { retain_snapshots, min_age, ..PurgeOptions::default() };
    Purger::new().purge(disk, &directories(), &options, now).unwrap()
}

fn names(disk: &SimDisk) -> Vec<String> {
    use rookeeper_store::Disk;
    let mut names = disk.list(&directories().log_dir).unwrap();
    names.extend(disk.list(&directories().snapshot_dir).unwrap());
    names.sort();
    names
}

/// The numbers in the names of files of a kind, oldest first.
fn numbers(disk: &SimDisk, kind: &str) -> Vec<i64> {
    let number = |name: &String| i64::from_str_radix(name.strip_prefix(kind)?, 16).ok();
    let mut numbers: Vec<i64> = names(disk).iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn a_power_cut_while_purging_leaves_the_end_of_the_logs_without_a_gap() {
    let history = History::new(5, RECORDS);
    let whole = disk_to_purge(&history);
    let all = numbers(&whole, "log.");
    let mut left = std::collections::BTreeSet::new();
    for at in 1..30 {
        for seed in 0..20 {
            let disk = whole.restart(1);
            disk.inject(Fault::Crash { at });
            let options = PurgeOptions { retain_snapshots: 1, ..PurgeOptions::default() };
            let _ = Purger::new().purge(&disk, &directories(), &options, SystemTime::UNIX_EPOCH);
            let disk = disk.restart(seed);
            let (logs, snapshots) = (numbers(&disk, "log."), numbers(&disk, "snapshot."));
            assert!(all.ends_with(&logs), "{logs:x?} are left of {all:x?} where operation {at} was the last");
            assert!(logs[0] <= snapshots[0] + 1, "snapshot {:x} has lost its log: {logs:x?}", snapshots[0]);
            left.insert(logs.len());
        }
    }
    assert_eq!(left.len(), all.len(), "each number of logs was left once: {left:?}");
}

#[test]
fn a_log_that_is_too_young_to_go_keeps_those_behind_it() {
    let disk = disk_to_purge(&History::new(5, RECORDS));
    let before = numbers(&disk, "log.");
    // A clock that was set back after the oldest log was written, and before the others were.
    let logs = before[1..].iter().map(|log| log_path(&format!("log.{log:x}")));
    let snapshots = numbers(&disk, "snapshot.").into_iter().map(|zxid| snapshot_path(&format!("snapshot.{zxid:x}")));
    for path in logs.chain(snapshots.collect::<Vec<_>>()) {
        disk.put(&path, &disk.content(&path).unwrap());
    }
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    assert_eq!(purge(&disk, 1, Duration::from_millis(1), now).logs, 0);
    let after = numbers(&disk, "log.");
    assert!(before.ends_with(&after), "{after:x?} are left of {before:x?}");
}

#[test]
fn purging_keeps_what_the_kept_snapshots_need() {
    let history = History::new(5, RECORDS);
    let expected = everything(&history.tree_at(Zxid(RECORDS)));
    let disk = disk_to_purge(&history);
    disk.put(&log_path("log.old"), b"");
    disk.put(&snapshot_path("snapshot.1.bak"), b"");
    let before = names(&disk);
    assert_eq!(purge(&disk, 5, Duration::ZERO, SystemTime::UNIX_EPOCH), Purged::default());
    assert_eq!(names(&disk), before);
    assert_eq!(purge(&disk, 3, Duration::ZERO, SystemTime::UNIX_EPOCH), Purged { snapshots: 2, logs: 2 });
    let kept = ["log.5b", "log.8d", "log.bf", "log.old", "snapshot.1.bak", "snapshot.64", "snapshot.96", "snapshot.c8"];
    assert_eq!(names(&disk), kept);
    // Every kept one leads to the newest state.
    for newest in ["snapshot.c8", "snapshot.96"] {
        assert_eq!(everything(&start(&disk).unwrap().tree), expected);
        disk.put(&snapshot_path(newest), b"");
    }
    assert_eq!(everything(&start(&disk).unwrap().tree), expected);
}

#[test]
fn damaged_snapshots_do_not_count_as_kept() {
    let history = History::new(5, RECORDS);
    let disk = disk_to_purge(&history);
    for name in ["snapshot.c8", "snapshot.96"] {
        let mut content = disk.content(&snapshot_path(name)).unwrap();
        content[100] ^= 1;
        disk.put(&snapshot_path(name), &content);
    }
    assert_eq!(purge(&disk, 2, Duration::ZERO, SystemTime::UNIX_EPOCH), Purged { snapshots: 1, logs: 1 });
    assert_eq!(everything(&start(&disk).unwrap().tree), everything(&history.tree_at(Zxid(RECORDS))));
    assert_eq!(purge(&disk, 3, Duration::ZERO, SystemTime::UNIX_EPOCH), Purged::default());
}

#[test]
fn nothing_is_purged_while_the_history_is_being_cut() {
    let history = History::new(5, RECORDS);
    let disk = disk_to_purge(&history);
    // The power went just before a truncation removed what is newer, so a start will need what a purge takes for old.
    disk.put(&snapshot_path(".truncate.3c"), b"");
    let before = names(&disk);
    assert_eq!(purge(&disk, 3, Duration::ZERO, SystemTime::UNIX_EPOCH), Purged::default());
    assert_eq!(names(&disk), before);
    assert_eq!(everything(&start(&disk).unwrap().tree), everything(&history.tree_at(Zxid(0x3c))));
}

#[test]
fn each_file_is_told_before_it_is_purged() {
    let disk = disk_to_purge(&History::new(5, RECORDS));
    let (mut told, options) = (Vec::new(), PurgeOptions::default());
    let mut tell = |path: &std::path::Path, _| {
        assert!(rookeeper_store::Disk::exists(&disk, path), "{path:?} is told before it goes");
        told.push(path.file_name().unwrap().to_string_lossy().into_owned());
    };
    let purged = Purger::new().purge_and_tell(&disk, &directories(), &options, SystemTime::UNIX_EPOCH, &mut tell);
    assert_eq!(purged.unwrap(), Purged { snapshots: 2, logs: 2 });
    assert_eq!(told, ["snapshot.0", "snapshot.32", "log.1", "log.29"]);
}

#[test]
fn young_files_stay() {
    let history = History::new(5, RECORDS);
    let disk = disk_to_purge(&history);
    let before = names(&disk);
    // The simulated clock shows the number of the operation as seconds.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(disk.operations());
    assert_eq!(purge(&disk, 1, Duration::from_secs(disk.operations() + 1), now), Purged::default());
    assert_eq!(
        purge(&disk, 1, Duration::from_secs(1), SystemTime::UNIX_EPOCH),
        Purged::default(),
        "the clock was set back"
    );
    assert_eq!(names(&disk), before);
    let purged = purge(&disk, 1, Duration::from_secs(1), now);
    assert_eq!((purged.snapshots, purged.logs), (4, 4));
}

#[test]
fn a_report_says_what_was_found() {
    let history = History::new(5, RECORDS);
    let disk = disk_to_purge(&history);
    let mut content = disk.content(&snapshot_path("snapshot.c8")).unwrap();
    content[100] ^= 1;
    disk.put(&snapshot_path("snapshot.c8"), &content);
    let report: RecoveryReport = start(&disk).unwrap().report;
    let nodes = history.tree_at(Zxid(150)).node_count();
    let text = report.to_string();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], format!("snapshot.96: {nodes} nodes"));
    assert_eq!(lines[1], "log.8d: 50 records, 40 replayed, whole");
    assert_eq!(lines[2], "log.bf: 10 records, 10 replayed, whole");
    assert!(lines[3].starts_with("last transaction 0xc8; ") && lines[3].ends_with(" digests checked, 0 differ"));
    assert!(lines[4].starts_with("warning: snapshot.c8 was not used: /data/version-2/snapshot.c8, offset "), "{text}");
    assert_eq!(lines.len(), 5);
}

/// The tree at 100, written while the transactions up to 150 were applied.
fn partial_snapshot(history: &History, disk: &SimDisk) {
    let mut tree = history.tree_at(Zxid(100));
    let mut begun = false;
    let options = SnapshotOptions { portion_bytes: 1, ..SnapshotOptions::default() };
    let mut with_tree = |read: &mut dyn FnMut(&Tree)| {
        read(&tree);
        if !std::mem::replace(&mut begun, true) {
            for record in &history.records[100..150] {
                tree.apply(&record.header, record.txn.clone(), &mut Vec::new());
            }
        }
    };
    write_snapshot(disk, &directories().snapshot_dir, &options, &mut with_tree, &mut |_| Ok(())).unwrap();
}

#[test]
fn a_snapshot_that_was_taken_while_the_tree_changed_is_a_start_alone_only_where_that_is_allowed() {
    use rookeeper_store::{RecoveryOptions, recover};
    let history = History::new(5, RECORDS);
    let disk = empty_disk();
    partial_snapshot(&history, &disk);
    let options = |trust_partial_snapshot| RecoveryOptions { trust_partial_snapshot, ..RecoveryOptions::default() };
    let refusal = recover(&disk, &directories(), &options(false)).unwrap_err().to_string();
    assert!(refusal.contains("the changes up to 0x96, but the logs end at 0x64"), "{refusal}");
    assert!(refusal.contains("leave myid") && refusal.contains("quorum of the other members"), "{refusal}");

    let recovered = recover(&disk, &directories(), &options(true)).unwrap();
    // Numbers of transactions that clients have seen are not used again.
    assert_eq!(recovered.tree.last_zxid(), Zxid(150));
    let warnings = recovered.report.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("after 0x64 and up to 0x96 some are in it"), "{warnings:?}");
    // What it is then written down as needs no log and no permission.
    let tree = recovered.tree;
    snapshot(&disk, &tree, Compression::None).unwrap();
    let again = start(&disk).unwrap();
    assert_eq!((again.tree.last_zxid(), again.report.warnings()), (Zxid(150), Vec::new()));
    assert_eq!(everything(&again.tree), everything(&tree));
    // And the log goes on behind it.
    let mut writer = LogWriter::new(Arc::new(disk.clone()), &directories().log_dir, log_options(1), Zxid(150));
    let session = rookeeper_proto::Txn::CreateSession { timeout_ms: 4000 };
    let header =
        rookeeper_proto::TxnHeader { session: rookeeper_proto::SessionId(7), cxid: 0, zxid: Zxid(151), time_ms: 1 };
    let mut body = Vec::new();
    rookeeper_proto::TxnRecord { header, txn: session, digest: None }.append(&mut body);
    writer.append(Zxid(151), &body).unwrap();
    writer.commit().unwrap();
    assert_eq!(start(&disk).unwrap().tree.last_zxid(), Zxid(151));
}

/// The digest in a snapshot is that of a zxid, also where the tree was looked at while a part of a transaction was applied.
#[test]
fn a_snapshot_ends_at_a_zxid() {
    let mut tree = Tree::new();
    let owner = |zxid| TxnHeader { session: SessionId(7), cxid: 0, zxid: Zxid(zxid), time_ms: 0 };
    tree.apply(&owner(1), Txn::CreateSession { timeout_ms: 4000 }, &mut Vec::new());
    for zxid in 2..=9 {
        let kind = CreateKind::Node { ephemeral: true, with_stat: false };
        let create = CreateTxn { path: format!("/{zxid}"), data: None, acl: None, kind, parent_cversion: -1 };
        tree.apply(&owner(zxid), Txn::Create(create), &mut Vec::new());
    }
    let (disk, mut looks) = (empty_disk(), 0);
    let mut with_tree = |read: &mut dyn FnMut(&Tree)| {
        read(&tree);
        looks += 1;
        match looks {
            // Head, nodes, end.
            2 => drop(tree.close_some(&owner(10), std::iter::empty(), 5, &mut Vec::new())),
            3 => drop(tree.apply(&owner(10), Txn::CloseSession { paths: None }, &mut Vec::new())),
            _ => {}
        }
    };
    let written = write_snapshot(
        &disk,
        &directories().snapshot_dir,
        &SnapshotOptions::default(),
        &mut with_tree,
        &mut |durable| {
            assert_eq!(durable, Zxid(10));
            Ok(())
        },
    );
    assert_eq!(written.unwrap().zxid, Zxid(9));
    assert_eq!(looks, 4);
}

#[test]
fn a_log_that_ends_within_the_time_of_its_snapshot_is_damage_whatever_is_allowed() {
    use rookeeper_store::{RecoveryOptions, recover};
    let history = History::new(5, RECORDS);
    let disk =
        disk_with_log(&History { records: history.records[..120].to_vec(), digests: history.digests[..=120].to_vec() });
    partial_snapshot(&history, &disk);
    let options = RecoveryOptions { trust_partial_snapshot: true, ..RecoveryOptions::default() };
    let refusal = recover(&disk, &directories(), &options).unwrap_err().to_string();
    assert!(refusal.contains("the changes up to 0x96, but the logs end at 0x78"), "{refusal}");
    // A whole log makes it exact, and the permission changes nothing.
    let disk = disk_with_log(&history);
    partial_snapshot(&history, &disk);
    let recovered = recover(&disk, &directories(), &options).unwrap();
    assert_eq!(everything(&recovered.tree), everything(&history.tree_at(Zxid(RECORDS))));
    assert_eq!(recovered.report.warnings(), Vec::<String>::new());
}

/// What is left is no history of this server, however whole it is.
#[test]
fn an_older_snapshot_that_the_logs_do_not_lead_on_from_is_not_used() {
    let history = History::new(5, RECORDS);
    // The newest one is damaged, was never written to its end, or is not whole without its log.
    let spoil: [&dyn Fn(&SimDisk); 3] = [
        &|disk| {
            snapshot(disk, &history.tree_at(Zxid(100)), Compression::None).unwrap();
            let mut bytes = disk.content(&snapshot_path("snapshot.64")).unwrap();
            bytes[100] ^= 1;
            disk.put(&snapshot_path("snapshot.64"), &bytes);
        },
        &|disk| disk.put(&snapshot_path("snapshot.64"), b"ZKSN"),
        &|disk| partial_snapshot(&history, disk),
    ];
    for spoil in spoil {
        let disk = empty_disk();
        snapshot(&disk, &Tree::new(), Compression::None).unwrap();
        spoil(&disk);
        let refusal = start(&disk).unwrap_err().to_string();
        assert!(refusal.contains("snapshot.64"), "{refusal}");
        // With the log it is as good as any.
        let disk = disk_with_log(&history);
        snapshot(&disk, &Tree::new(), Compression::None).unwrap();
        spoil(&disk);
        assert_eq!(everything(&start(&disk).unwrap().tree), everything(&history.tree_at(Zxid(RECORDS))));
    }
}

/// Larger than what is read at a time, and followed by small ones.
#[test]
fn entries_of_any_size_are_read_from_a_file() {
    let mut builder = TreeBuilder::new();
    let id = |number: usize| Id::new("ip", format!("10.0.{}.{}", number / 256, number % 256));
    builder
        .add_acl(1, (0..10_000).map(|number| Acl { permissions: Permissions::READ, id: id(number) }).collect())
        .unwrap();
    builder.add_node("", Some(b""), 1, StatPersisted::default()).unwrap();
    for (number, bytes) in [1_000_000, 0, 65_536, 65_535, 1, 200_000, 3].into_iter().enumerate() {
        builder.add_node(&format!("/{number}"), Some(&vec![7; bytes]), 1, StatPersisted::default()).unwrap();
    }
    let tree = builder.finish(Zxid(RECORDS)).unwrap();
    for compression in Compression::ALL {
        let disk = empty_disk();
        snapshot(&disk, &tree, compression).unwrap();
        let loaded = |limit| load(&disk, &directories().snapshot_dir, Zxid(RECORDS), compression, limit);
        assert_eq!(everything(&loaded(1_000_000).unwrap().tree), everything(&tree));
        let refused = loaded(999_999).unwrap_err().to_string();
        assert!(refused.contains("unreasonable length 1000000"), "{refused}");
        let refused = loaded(100_000).unwrap_err().to_string();
        assert!(refused.contains("unreasonably long"), "{refused}");
    }
}
