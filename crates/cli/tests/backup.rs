//! Backups of data directories that are made here, and what is refused: every damage, every gap, every doubt.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use rookeeper_cli::backup::{archive, restore, take, verify};
use rookeeper_proto::snapshot::FileHeader;
use rookeeper_proto::txn::{CreateKind, CreateTxn};
use rookeeper_proto::{Acl, Digest, SessionId, Txn, TxnHeader, TxnRecord, Zxid};
use rookeeper_store::log_copy::{LogCopy, checksum};
use rookeeper_store::{
    Directories, LogOptions, LogWriter, RealDisk, RecoveryOptions, SnapshotOptions, Until, recover, write_snapshot,
};
use rookeeper_tree::Tree;

/// A server's data directory and the digest after each transaction.
struct Data {
    home: tempfile::TempDir,
    tree: Tree,
    digests: Vec<(Zxid, i64)>,
    has_digests: bool,
    /// What the data of each node is longer.
    more_bytes: usize,
}

#[derive(Parser)]
struct Take {
    #[command(flatten)]
    options: take::Options,
}

#[derive(Parser)]
struct Archive {
    #[command(flatten)]
    options: archive::Options,
}

#[derive(Parser)]
struct Restore {
    #[command(flatten)]
    options: restore::Options,
}

impl Data {
    fn new() -> Data {
        let home = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(home.path().join("data/version-2")).expect("a directory");
        let data = Data { home, tree: Tree::new(), digests: Vec::new(), has_digests: true, more_bytes: 0 };
        data.snapshot();
        data
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn version_dir(&self) -> PathBuf {
        self.path("data/version-2")
    }

    fn snapshot(&self) {
        let options = SnapshotOptions { digests: self.has_digests, ..SnapshotOptions::default() };
        write_snapshot(&RealDisk, &self.version_dir(), &options, &mut |read| read(&self.tree), &mut |_| Ok(()))
            .unwrap();
    }

    fn next_body(&mut self, zxid: Zxid) -> Vec<u8> {
        let (session, number) = (SessionId(7), zxid.counter());
        let header = TxnHeader { session, cxid: 1, zxid, time_ms: 1_000_000 + zxid.0 };
        let (path, data) = (format!("/n{number}"), Some(vec![b'd'; number as usize % 7 + self.more_bytes]));
        let kind = CreateKind::Node { ephemeral: false, with_stat: false };
        let txn = match number % 5 {
            4 => Txn::Error { code: -101 },
            _ => Txn::Create(CreateTxn { path, data, acl: Some(Acl::open()), kind, parent_cversion: number as i32 }),
        };
        self.tree.apply(&header, txn.clone(), &mut Vec::new());
        let has_digest = self.has_digests && !matches!(txn, Txn::Error { .. });
        let digest = has_digest.then(|| Digest::new(self.tree.digest()));
        self.digests.push((zxid, self.tree.digest()));
        let mut body = Vec::new();
        TxnRecord { header, txn, digest }.append(&mut body);
        body
    }

    /// Writes a snapshot while these transactions come, and then their log.
    fn fuzzy_snapshot(&mut self, zxids: impl Iterator<Item = Zxid>) {
        let (dir, before, mut zxids) = (self.version_dir(), self.tree.last_zxid(), zxids);
        let (options, mut bodies) = (SnapshotOptions { portion_bytes: 1, ..SnapshotOptions::default() }, Vec::new());
        let mut looks = 0;
        let mut with_tree = |read: &mut dyn FnMut(&Tree)| {
            looks += 1;
            // The first look is what the snapshot is named after.
            if looks > 1
                && let Some(zxid) = zxids.next()
            {
                bodies.push((zxid, self.next_body(zxid)));
            }
            read(&self.tree);
        };
        write_snapshot(&RealDisk, &dir, &options, &mut with_tree, &mut |_| Ok(())).unwrap();
        assert!(zxids.next().is_none(), "the snapshot was over first");
        let mut log = LogWriter::new(Arc::new(RealDisk), &dir, LogOptions::default(), before);
        for (zxid, body) in bodies {
            log.append(zxid, &body).unwrap();
        }
        log.commit().unwrap();
    }

    /// Writes transactions into a new log.
    fn log(&mut self, zxids: impl IntoIterator<Item = Zxid>) {
        let options = LogOptions { preallocate_bytes: 4096, ..LogOptions::default() };
        let mut log = LogWriter::new(Arc::new(RealDisk), &self.version_dir(), options, self.tree.last_zxid());
        for zxid in zxids {
            let body = self.next_body(zxid);
            log.append(zxid, &body).expect("it follows");
            log.commit().expect("a disk");
        }
    }

    /// A leader without the transactions behind this one has them cut off.
    fn cut_behind_6_of_epoch_1(&mut self) {
        let log = self.version_dir().join(rookeeper_store::names::log(Zxid::new(1, 1)));
        self.tree = Tree::new();
        let bodies: Vec<Vec<u8>> = zxids(1, 1..=6).map(|zxid| self.next_body(zxid)).collect();
        let mut copy = LogCopy::create(&RealDisk, &log, FileHeader::LOG).unwrap();
        bodies.iter().for_each(|body| copy.append(checksum(body), body).unwrap());
        copy.publish().unwrap();
    }

    fn backup(&self, more: &[&str]) -> Result<PathBuf, String> {
        let target = self.path("backup");
        let (data_dir, shown) = (self.path("data"), target.clone());
        let given = ["backup", "--data-dir", data_dir.to_str().unwrap(), shown.to_str().unwrap()];
        let Take { options } = Take::parse_from(given.iter().chain(more));
        take::run(&options).map(|_| target).map_err(|error| format!("{error:#}"))
    }

    /// Goes on with an archive, in the place of a backup.
    fn archive(&self, more: &[&str]) -> Result<String, String> {
        let (data_dir, target) = (self.path("data"), self.path("backup"));
        let (data_dir, target) = (data_dir.to_str().unwrap(), target.to_str().unwrap());
        let given = ["archive", "--once", "--snapshot-minutes", "0", "--data-dir", data_dir, target];
        let keep = if more.is_empty() { &["--keep-days", "0"] } else { more };
        let Archive { options } = Archive::parse_from(given.iter().chain(keep));
        archive::run(&options).map_err(|error| format!("{error:#}"))
    }

    fn restore(&self, more: &[&str]) -> Result<Tree, String> {
        let target = self.path("restored");
        let _ = fs::remove_dir_all(&target);
        self.restore_into(&target, more)?;
        Ok(recover(&RealDisk, &Directories::new(&target, &target), &RecoveryOptions::default())
            .expect("it is sound")
            .tree)
    }

    fn restore_into(&self, target: &Path, more: &[&str]) -> Result<String, String> {
        let backup = self.path("backup");
        let given = ["restore", backup.to_str().unwrap(), target.to_str().unwrap()];
        let Restore { options } = Restore::parse_from(given.iter().chain(more));
        restore::run(&options).map_err(|error| format!("{error:#}"))
    }
}

fn zxids(epoch: u32, counters: std::ops::RangeInclusive<u32>) -> impl Iterator<Item = Zxid> {
    counters.map(move |counter| Zxid::new(epoch, counter))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn proof(backup: &Path) -> Result<String, String> {
    verify::prove(&RealDisk, backup).map_err(|error| format!("{error:#}"))
}

#[test]
fn every_transaction_of_a_backup_can_be_gone_back_to() {
    let mut data = Data::new();
    data.log(zxids(0, 1..=20));
    data.snapshot();
    data.log(zxids(1, 1..=20));
    data.backup(&["--history"]).unwrap();
    proof(&data.path("backup")).unwrap();
    let mut seen = 0;
    for (zxid, digest) in data.digests.clone() {
        let tree = data.restore(&["--to-zxid", &zxid.to_string()]).unwrap();
        assert_eq!((tree.last_zxid(), tree.digest()), (zxid, digest));
        let by_time = format!("1970-01-01T00:{:02}:{:02}.{:03}Z", 16, 40 + zxid.0 / 1000, zxid.0 % 1000);
        if zxid.epoch().0 == 0 {
            assert_eq!(data.restore(&["--to-time", &by_time]).unwrap().last_zxid(), zxid);
        }
        seen += 1;
    }
    assert_eq!(seen, 40);
    // Without saying how far it is all there is, and the newest snapshot alone leads there as well.
    assert_eq!(data.restore(&[]).unwrap().digest(), data.tree.digest());
    fs::remove_dir_all(data.path("backup")).unwrap();
    data.backup(&[]).unwrap();
    assert_eq!(names(&data.path("backup/version-2")), ["log.1", "log.100000001", "snapshot.14"]);
    let refused = data.restore(&["--to-zxid", "0x13"]).unwrap_err();
    assert!(refused.contains("from 0x14 to 0x100000014, and 0x13 is none of them"), "{refused}");
    assert_eq!(data.restore(&["--to-zxid", "100000003"]).unwrap().digest(), data.digests[22].1);
    // Epoch 0 ends with 20.
    let refused = data.restore(&["--to-zxid", "0x17"]).unwrap_err();
    assert!(refused.contains("transaction 0x17 is not there"), "{refused}");
}

#[test]
fn every_flipped_bit_of_a_backup_is_found() {
    let mut data = Data::new();
    data.log(zxids(0, 1..=2));
    let backup = data.backup(&["--history"]).unwrap();
    proof(&backup).unwrap();
    let mut flipped = 0;
    for name in ["manifest.jsonl", "version-2/snapshot.0", "version-2/log.1"] {
        let path = backup.join(name);
        let sound = fs::read(&path).unwrap();
        for at in 0..sound.len() {
            for bit in 0..8 {
                let mut bytes = sound.clone();
                bytes[at] ^= 1 << bit;
                fs::write(&path, bytes).unwrap();
                let refused = proof(&backup).expect_err(&format!("{name}, byte {at}, bit {bit}"));
                assert!(refused.contains("is damaged: "), "{refused}");
                flipped += 1;
            }
        }
        fs::write(&path, &sound[..sound.len() - 1]).unwrap();
        assert!(proof(&backup).is_err(), "{name} is cut off");
        fs::remove_file(&path).unwrap();
        assert!(proof(&backup).is_err(), "{name} is gone");
        assert!(data.restore(&[]).is_err(), "{name} is gone");
        fs::write(&path, &sound).unwrap();
    }
    proof(&backup).unwrap();
    assert!(flipped > 5_000, "{flipped}");
    // What was put beside it is no part of it, and a server would read it.
    for stranger in ["version-2/log.a", "version-2/snapshot.9", "something"] {
        fs::write(backup.join(stranger), b"").unwrap();
        let refused = proof(&backup).unwrap_err();
        assert!(refused.contains("which is no part of the backup"), "{refused}");
        fs::remove_file(backup.join(stranger)).unwrap();
    }
}

#[test]
fn a_source_with_damage_or_a_gap_gives_no_backup_and_nothing_is_left_of_the_attempt() {
    type Spoil = fn(&Data);
    let damage: [(&str, Spoil); 5] = [
        ("has the wrong checksum", |data| flip(&data.version_dir().join("log.1"), 80)),
        ("a valid one follows", |data| flip(&data.version_dir().join("log.b"), 80)),
        ("transactions before 0xb are missing", |data| fs::remove_file(data.version_dir().join("log.1")).unwrap()),
        ("is being cut or replaced", |data| fs::write(data.version_dir().join(".truncate.5"), b"").unwrap()),
        ("no snapshot that can be used", |data| flip(&data.version_dir().join("snapshot.0"), 40)),
    ];
    for (words, spoil) in damage {
        let mut data = Data::new();
        data.log(zxids(0, 1..=10));
        data.log(zxids(0, 11..=20));
        spoil(&data);
        let refused = data.backup(&[]).expect_err(words);
        assert!(refused.contains(words), "{refused}");
        assert_eq!(names(data.home.path()), ["data"], "{words}");
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_snapshot_that_cannot_be_used_is_passed_over_where_the_log_leads_further() {
    let mut data = Data::new();
    data.log(zxids(0, 1..=10));
    data.snapshot();
    flip(&data.version_dir().join("snapshot.a"), 60);
    data.log(zxids(0, 11..=12));
    data.backup(&[]).unwrap();
    assert_eq!(names(&data.path("backup/version-2")), ["log.1", "log.b", "snapshot.0"]);
    assert_eq!(data.restore(&[]).unwrap().digest(), data.tree.digest());
}

#[test]
fn a_snapshot_that_holds_a_part_of_what_is_later_leads_nowhere_before_it() {
    let mut data = Data::new();
    data.log(zxids(0, 1..=10));
    data.fuzzy_snapshot(zxids(0, 11..=18));
    data.backup(&["--history"]).unwrap();
    assert!(data.path("backup/version-2/snapshot.a").exists());
    proof(&data.path("backup")).unwrap();
    for (zxid, digest) in data.digests.clone() {
        assert_eq!(data.restore(&["--to-zxid", &zxid.to_string()]).unwrap().digest(), digest, "{zxid}");
        // Recovery passes it over by itself.
        let until = Some(Until::at(zxid));
        let options = RecoveryOptions { clean_up: false, until, ..RecoveryOptions::default() };
        let directories = Directories::new(&data.path("data"), &data.path("data"));
        let report = recover(&RealDisk, &directories, &options).unwrap().report;
        assert_eq!((report.last_zxid, report.first_mismatch, report.end_is_compared), (zxid, None, true));
    }
    // Without the older one there is no way to what lies between.
    fs::remove_dir_all(data.path("backup")).unwrap();
    data.backup(&[]).unwrap();
    let refused = data.restore(&["--to-zxid", "0xc"]).unwrap_err();
    assert!(refused.contains("from 0x12 to 0x12"), "{refused}");
    fs::remove_file(data.version_dir().join("snapshot.0")).unwrap();
    let until = Some(Until::at(Zxid(12)));
    let options = RecoveryOptions { clean_up: false, until, ..RecoveryOptions::default() };
    let directories = Directories::new(&data.path("data"), &data.path("data"));
    let refused = recover(&RealDisk, &directories, &options).unwrap_err().to_string();
    assert!(refused.contains("so it can't lead to 0xc"), "{refused}");
    // The log that makes it whole is needed.
    fs::remove_dir_all(data.path("backup")).unwrap();
    fs::remove_file(data.version_dir().join("log.b")).unwrap();
    let refused = data.backup(&[]).unwrap_err();
    assert!(refused.contains("it was taken while the data changed, and the log of that time is missing"), "{refused}");
}

#[test]
fn what_a_leaders_snapshot_has_taken_the_place_of_is_left_out() {
    let mut data = Data::new();
    data.log(zxids(0, 1..=10));
    // What the leader's snapshot holds was never in a log of this server.
    for zxid in zxids(0, 11..=30) {
        data.next_body(zxid);
    }
    data.snapshot();
    data.log(zxids(0, 31..=33));
    for more in [&["--history"][..], &[]] {
        data.backup(more).unwrap();
        assert_eq!(names(&data.path("backup/version-2")), ["log.1f", "snapshot.1e"], "{more:?}");
        assert_eq!(data.restore(&[]).unwrap().digest(), data.tree.digest());
        fs::remove_dir_all(data.path("backup")).unwrap();
    }
}

#[test]
fn the_end_of_a_log_that_is_being_written_is_left_out() {
    let mut data = Data::new();
    data.log(zxids(0, 1..=10));
    let log = data.version_dir().join("log.1");
    let whole = fs::read(&log).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
    // The last record without its end.
    let mut bytes = whole.clone();
    bytes[end - 3..=end].fill(0);
    fs::write(&log, bytes).unwrap();
    data.backup(&[]).unwrap();
    assert_eq!(data.restore(&[]).unwrap().last_zxid(), Zxid(9));
}

#[test]
fn a_history_that_its_digests_contradict_is_no_backup() {
    let mut data = Data::new();
    data.log(zxids(0, 1..=3));
    // A transaction from elsewhere, sound by itself.
    let bodies: Vec<Vec<u8>> = {
        let mut other = Data::new();
        other.tree.apply(
            &TxnHeader { session: SessionId(1), cxid: 1, zxid: Zxid(3), time_ms: 1 },
            Txn::SetData { path: "/zookeeper".to_owned(), data: Some(b"other".to_vec()), version: 1 },
            &mut Vec::new(),
        );
        zxids(0, 5..=6).map(|zxid| other.next_body(zxid)).collect()
    };
    data.log(zxids(0, 4..=4));
    let mut copy = LogCopy::create(&RealDisk, &data.version_dir().join("log.5"), FileHeader::LOG).unwrap();
    for body in &bodies {
        copy.append(checksum(body), body).unwrap();
    }
    copy.publish().unwrap();
    let refused = data.backup(&[]).unwrap_err();
    assert!(refused.contains("after transaction 0x5 the tree is not the one that the server had"), "{refused}");
}

#[test]
fn without_digests_nothing_is_restored_unless_that_is_wanted() {
    let mut data = Data { has_digests: false, ..Data::new() };
    fs::remove_file(data.version_dir().join("snapshot.0")).unwrap();
    data.snapshot();
    data.log(zxids(0, 1..=3));
    data.backup(&[]).unwrap();
    let refused = data.restore(&[]).unwrap_err();
    assert!(refused.contains("has recorded no digest at 0x3") && refused.contains("--without-digest"), "{refused}");
    assert_eq!(data.restore(&["--without-digest"]).unwrap().digest(), data.tree.digest());
}

#[test]
fn times_that_a_backup_does_not_know_are_refused() {
    let mut data = Data::new();
    data.log(zxids(0, 1..=3));
    data.backup(&[]).unwrap();
    for (time, words) in [
        ("1970-01-01T00:16:40.000Z", "the log of the backup begins at 1970-01-01T00:16:40.001Z"),
        ("2999-01-01T00:00:00Z", "knows nothing of 2999-01-01T00:00:00Z"),
        ("yesterday", "is no time"),
    ] {
        let refused = data.restore(&["--to-time", time]).unwrap_err();
        assert!(refused.contains(words), "{refused}");
        assert!(!data.path("restored/version-2").exists());
    }
    assert_eq!(data.restore(&["--to-time", "2020-01-01T00:00:00Z"]).unwrap().last_zxid(), Zxid(3));
}

#[test]
fn a_clock_that_was_set_back_leaves_a_doubt() {
    let data = Data::new();
    let mut copy = LogCopy::create(&RealDisk, &data.version_dir().join("log.1"), FileHeader::LOG).unwrap();
    for (zxid, time_ms) in [(1, 10_000), (2, 20_000), (3, 15_000), (4, 30_000)] {
        let header = TxnHeader { session: SessionId(1), cxid: 1, zxid: Zxid(zxid), time_ms };
        let mut body = Vec::new();
        TxnRecord { header, txn: Txn::Error { code: -1 }, digest: None }.append(&mut body);
        copy.append(checksum(&body), &body).unwrap();
    }
    copy.publish().unwrap();
    data.backup(&[]).unwrap();
    let refused = data.restore(&["--to-time", "1970-01-01T00:00:16Z", "--without-digest"]).unwrap_err();
    assert!(
        refused.contains("transaction 0x2 was made after") && refused.contains("and 0x3, which comes behind"),
        "{refused}"
    );
    for (second, zxid) in [("10", 1), ("20", 3), ("30", 4)] {
        let time = format!("1970-01-01T00:00:{second}Z");
        assert_eq!(
            data.restore(&["--to-time", &time, "--without-digest"]).unwrap().last_zxid(),
            Zxid(zxid),
            "{second}"
        );
    }
}

#[test]
fn nothing_is_restored_or_backed_up_over_what_is_there() {
    let mut data = Data::new();
    data.log(zxids(0, 1..=3));
    let refused = {
        data.backup(&[]).unwrap();
        data.backup(&[]).unwrap_err()
    };
    assert!(refused.contains("is there already"), "{refused}");
    let target = data.path("server");
    fs::create_dir_all(&target).unwrap();
    fs::write(target.join("myid"), "3").unwrap();
    // What an attempt has left that was cut off.
    fs::create_dir_all(target.join(".restore.unfinished/version-2")).unwrap();
    fs::write(target.join(".restore.unfinished/version-2/.snapshot.3.tmp"), "x").unwrap();
    data.restore_into(&target, &[]).unwrap();
    assert_eq!(names(&target), ["myid", "version-2"]);
    assert_eq!(names(&target.join("version-2")), ["acceptedEpoch", "currentEpoch", "snapshot.3"]);
    let refused = data.restore_into(&target, &[]).unwrap_err();
    assert!(refused.contains("nothing is restored over what is there"), "{refused}");
}

#[test]
fn an_unfinished_backup_has_no_name_and_is_replaced() {
    let mut data = Data::new();
    data.log(zxids(0, 1..=3));
    let unfinished = data.path(".backup.unfinished/version-2");
    fs::create_dir_all(&unfinished).unwrap();
    fs::write(unfinished.join("log.77"), "x").unwrap();
    let backup = data.backup(&[]).unwrap();
    assert_eq!(names(data.home.path()), ["backup", "data"]);
    assert_eq!(names(&backup), ["manifest.jsonl", "version-2"]);
    proof(&backup).unwrap();
}

#[test]
fn epochs_are_never_lower_than_the_server_had_and_a_chosen_one_is_higher() {
    let mut data = Data::new();
    data.log(zxids(2, 1..=3));
    for (name, epoch) in [("currentEpoch", "4"), ("acceptedEpoch", "5")] {
        fs::write(data.version_dir().join(name), epoch).unwrap();
    }
    data.backup(&[]).unwrap();
    let tree = data.restore(&[]).unwrap();
    let epochs = || {
        ["currentEpoch", "acceptedEpoch"]
            .map(|name| fs::read_to_string(data.path("restored/version-2").join(name)).unwrap())
    };
    assert_eq!((tree.last_zxid(), epochs()), (Zxid::new(2, 3), ["5".to_owned(), "5".to_owned()]));
    for (epoch, words) in [("5", "is not above 5"), ("2147483000", "would use up the epochs")] {
        let refused = data.restore(&["--epoch", epoch]).unwrap_err();
        assert!(refused.contains(words), "{refused}");
    }
    let tree = data.restore(&["--epoch", "9"]).unwrap();
    assert_eq!((tree.last_zxid(), epochs()), (Zxid::new(9, 0), ["9".to_owned(), "9".to_owned()]));
    assert_eq!(tree.digest(), data.tree.digest());
}

#[test]
fn an_archive_grows_with_the_log_and_is_a_backup_at_any_time() {
    let mut data = Data::new();
    for round in 0..6 {
        data.log(zxids(0, 5 * round + 1..=5 * round + 5));
        if round % 2 == 1 {
            data.snapshot();
        }
        data.archive(&[]).unwrap();
        // What an attempt leaves that is cut off does not count.
        let version_dir = data.path("backup/version-2");
        let mut newest = fs::OpenOptions::new().append(true).open(version_dir.join("log.1")).unwrap();
        std::io::Write::write_all(&mut newest, b"more than counts").unwrap();
        fs::write(version_dir.join("log.ffff"), b"unfinished").unwrap();
        fs::write(data.path("backup/incoming/snapshot.ffff"), b"unfinished").unwrap();
        let told = proof(&data.path("backup")).unwrap();
        assert!(told.contains(&format!("to 0x{:x}", 5 * round + 5)) && !told.contains("gaps"), "{told}");
        assert_eq!(data.restore(&[]).unwrap().digest(), data.tree.digest());
    }
    data.archive(&[]).unwrap();
    assert_eq!(
        names(&data.path("backup/version-2")),
        ["log.1", "snapshot.0", "snapshot.14", "snapshot.1e", "snapshot.a"]
    );
    for (zxid, digest) in data.digests.clone() {
        assert_eq!(data.restore(&["--to-zxid", &zxid.to_string()]).unwrap().digest(), digest, "{zxid}");
    }
    for name in names(&data.path("backup/version-2")) {
        let path = data.path("backup/version-2").join(&name);
        flip(&path, 70);
        assert!(proof(&data.path("backup")).unwrap_err().contains("is damaged"), "{name}");
        flip(&path, 70);
    }
    proof(&data.path("backup")).unwrap();
    // A backup is no archive, and nothing else is.
    fs::write(data.path("file"), b"").unwrap();
    fs::rename(data.path("backup"), data.path("archive")).unwrap();
    data.backup(&[]).unwrap();
    assert!(data.archive(&[]).unwrap_err().contains("is a backup, to which nothing is added"));
    fs::remove_file(data.path("backup/manifest.jsonl")).unwrap();
    fs::write(data.path("backup/something"), b"").unwrap();
    assert!(data.archive(&[]).unwrap_err().contains("holds something else than an archive"));
}

/// A machine may be slower than the rate, and never faster.
#[test]
fn an_archive_is_written_no_faster_than_it_may() {
    let mut data = Data::new();
    data.more_bytes = 64 << 10;
    data.log(zxids(0, 1..=50));
    let begin = Instant::now();
    data.archive(&["--max-rate", "2"]).unwrap();
    // 40 nodes are 2.5 MiB, which take a second and a quarter, of which a tenth is given.
    assert!(begin.elapsed() >= Duration::from_millis(1100), "{:?}", begin.elapsed());
    proof(&data.path("backup")).unwrap();
}

#[test]
fn an_archive_gives_up_what_the_server_gave_up() {
    let mut data = Data::new();
    data.log(zxids(1, 1..=10));
    data.archive(&[]).unwrap();
    data.cut_behind_6_of_epoch_1();
    data.log(zxids(2, 1..=5));
    data.archive(&[]).unwrap();
    proof(&data.path("backup")).unwrap();
    assert_eq!(data.restore(&[]).unwrap().digest(), data.tree.digest());
    let refused = data.restore(&["--to-zxid", "0x10000000a"]).unwrap_err();
    assert!(refused.contains("transaction 0x10000000a is not there"), "{refused}");
    assert_eq!(data.restore(&["--to-zxid", "0x100000006"]).unwrap().last_zxid(), Zxid::new(1, 6));
}

#[test]
fn an_archive_tells_of_what_it_missed_and_goes_on_behind_it() {
    let mut data = Data::new();
    data.log(zxids(0, 1..=10));
    data.archive(&[]).unwrap();
    data.log(zxids(0, 11..=20));
    data.snapshot();
    let at_20 = data.tree.digest();
    data.log(zxids(0, 21..=30));
    for gone in ["log.1", "log.b", "snapshot.0"] {
        fs::remove_file(data.version_dir().join(gone)).unwrap();
    }
    data.archive(&[]).unwrap();
    let told = proof(&data.path("backup")).unwrap();
    assert!(told.contains("but for 1 gaps"), "{told}");
    assert_eq!(data.restore(&["--to-zxid", "0x14"]).unwrap().digest(), at_20);
    assert_eq!(data.restore(&["--to-zxid", "0x9"]).unwrap().last_zxid(), Zxid(9));
    assert_eq!(data.restore(&[]).unwrap().digest(), data.tree.digest());
    let refused = data.restore(&["--to-zxid", "0x10"]).unwrap_err();
    assert!(refused.contains("0x10"), "{refused}");
    let refused = data.restore(&["--to-time", "1970-01-01T00:16:40.015Z"]).unwrap_err();
    assert!(refused.contains("between transaction 0xa and 0x15 is not in the archive"), "{refused}");
    assert_eq!(data.restore(&["--to-time", "1970-01-01T00:16:40.009Z"]).unwrap().last_zxid(), Zxid(9));
    assert_eq!(data.restore(&["--to-time", "1970-01-01T00:16:40.021Z"]).unwrap().last_zxid(), Zxid(21));
    // Another server's data is not mixed in.
    let mut other = Data::new();
    other.log(zxids(0, 1..=3));
    fs::remove_dir_all(data.version_dir()).unwrap();
    fs::rename(other.version_dir(), data.version_dir()).unwrap();
    let before = fs::read(data.path("backup/manifest.jsonl")).unwrap();
    // Its first transactions are the same here, so it is one history up to there. What the archive had more is kept aside.
    data.archive(&[]).unwrap();
    assert_eq!(names(&data.path("backup/given-up")).len(), 2);
    assert!(fs::read(data.path("backup/manifest.jsonl")).unwrap() != before);
}

#[test]
fn an_archive_of_another_history_is_refused() {
    let mut data = Data::new();
    data.log(zxids(0, 1..=10));
    data.archive(&[]).unwrap();
    fs::remove_dir_all(data.version_dir()).unwrap();
    fs::create_dir_all(data.version_dir()).unwrap();
    data.tree = Tree::new();
    data.snapshot();
    let mut copy = LogCopy::create(&RealDisk, &data.version_dir().join("log.1"), FileHeader::LOG).unwrap();
    for zxid in 1..=20 {
        let header = TxnHeader { session: SessionId(1), cxid: 1, zxid: Zxid(zxid), time_ms: 1 };
        let mut body = Vec::new();
        TxnRecord { header, txn: Txn::Error { code: -1 }, digest: None }.append(&mut body);
        copy.append(checksum(&body), &body).unwrap();
    }
    copy.publish().unwrap();
    let refused = data.archive(&[]).unwrap_err();
    assert!(refused.contains("is not the one that is in the archive"), "{refused}");
    proof(&data.path("backup")).unwrap();
}

#[test]
fn an_archive_keeps_what_the_last_days_need() {
    let mut data = Data::new();
    for round in 0..3 {
        data.log(zxids(0, 5 * round + 1..=5 * round + 5));
        data.snapshot();
        data.archive(&[]).unwrap();
    }
    data.log(zxids(0, 16..=17));
    // All of that was in 1970, so only the newest snapshot is needed, and the segment that is being written.
    data.archive(&["--keep-days", "1"]).unwrap();
    assert_eq!(names(&data.path("backup/version-2")), ["log.1", "snapshot.f"]);
    proof(&data.path("backup")).unwrap();
    assert_eq!(data.restore(&[]).unwrap().digest(), data.tree.digest());
}

#[test]
fn an_archive_that_runs_sees_what_is_cut_under_it() {
    let mut data = Data::new();
    data.log(zxids(1, 1..=10));
    let (data_dir, archive) = (data.path("data"), data.path("backup"));
    let mut process = Command::new(env!("CARGO_BIN_EXE_rookeeper"))
        .args(["archive", "--interval-ms", "1", "--keep-days", "0", "--data-dir"])
        .args([&data_dir, &archive])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let reaches = |zxid: Zxid| {
        let (until, words) = (Instant::now() + Duration::from_secs(60), format!("\"last_zxid\":\"{zxid}\""));
        while !fs::read_to_string(archive.join("manifest.jsonl")).is_ok_and(|text| text.contains(&words)) {
            assert!(Instant::now() < until, "the archive does not come to {zxid}");
            std::thread::yield_now();
        }
    };
    reaches(Zxid::new(1, 10));
    data.cut_behind_6_of_epoch_1();
    reaches(Zxid::new(1, 6));
    data.log(zxids(2, 1..=5));
    reaches(Zxid::new(2, 5));
    process.kill().unwrap();
    process.wait().unwrap();
    proof(&archive).unwrap();
    assert_eq!(data.restore(&[]).unwrap().digest(), data.tree.digest());
}
