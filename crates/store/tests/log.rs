//! The log as written and as read: the bytes, where it may end and where not, what is refused and in which words.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;

use rookeeper_proto::{SessionId, Txn, TxnHeader, TxnRecord, Zxid};
use rookeeper_store::{
    Disk, LogEnd, LogOptions, LogWriter, RecoveryReport, RollLimits, SimDisk, StoreError, SyncStats, check, repair_log,
};
use support::{History, directories, log_path, start};

const RECORDS: i64 = 20;

fn writer(disk: &SimDisk, options: LogOptions, last: Zxid) -> LogWriter {
    LogWriter::new(Arc::new(disk.clone()), &directories().log_dir, options, last)
}

fn empty_disk() -> SimDisk {
    let disk = SimDisk::new(1);
    start(&disk).unwrap();
    disk.put(&directories().snapshot_dir.join("snapshot.0"), &fresh_snapshot());
    disk
}

/// A snapshot of the empty tree.
fn fresh_snapshot() -> Vec<u8> {
    let disk = SimDisk::new(1);
    start(&disk).unwrap();
    let (tree, dir) = (rookeeper_tree::Tree::new(), directories().snapshot_dir);
    let options = rookeeper_store::SnapshotOptions::default();
    rookeeper_store::write_snapshot(&disk, &dir, &options, &mut |read| read(&tree), &mut |_| Ok(())).unwrap();
    disk.content(&dir.join("snapshot.0")).unwrap()
}

/// `RECORDS` transactions in `log.1`, each committed alone, and the offset of each. The writer is gone and has given back its space.
fn disk_with_log(history: &History) -> (SimDisk, Vec<usize>) {
    let disk = empty_disk();
    let mut writer = writer(&disk, LogOptions::default(), Zxid::ZERO);
    let mut offsets = Vec::new();
    let mut offset = 16;
    for zxid in 1..=RECORDS {
        let body = history.body(Zxid(zxid));
        offsets.push(offset);
        offset += body.len() + 13;
        writer.append(Zxid(zxid), &body).unwrap();
        writer.commit().unwrap();
    }
    drop(writer);
    (disk, offsets)
}

/// Overwrites log.1 without the mark that says how far it was durable, as a log of Apache's.
fn put_log(disk: &SimDisk, mut content: Vec<u8>) {
    content[8..16].fill(0);
    disk.put(&log_path("log.1"), &content);
}

fn recovered(disk: &SimDisk) -> RecoveryReport {
    start(disk).unwrap().report
}

#[test]
fn a_file_is_header_records_and_padding() {
    let history = History::new(3, 3);
    let disk = empty_disk();
    let options = LogOptions { preallocate_bytes: 64 << 10, ..LogOptions::default() };
    let mut writer = writer(&disk, options, Zxid::ZERO);
    for zxid in 1..=3 {
        writer.append(Zxid(zxid), &history.body(Zxid(zxid))).unwrap();
    }
    // Nobody sees a file before its first records are in it.
    assert_eq!(disk.content(&log_path("log.1")), None);
    let stats = writer.commit().unwrap();
    assert_eq!(writer.path(), Some(log_path("log.1").as_path()));

    let mut expected = b"ZKLG\0\0\0\x02RK\0\0\0\0\0\x10".to_vec();
    for record in &history.records {
        let mut body = Vec::new();
        record.append(&mut body);
        expected.extend_from_slice(&u64::from(simd_adler32::adler32(&body.as_slice())).to_be_bytes());
        expected.extend_from_slice(&(body.len() as u32).to_be_bytes());
        expected.extend_from_slice(&body);
        expected.push(b'B');
    }
    let length = expected.len();
    assert_eq!(stats, SyncStats { records: 3, bytes: length as u64 - 16, file_length: length as u64 });
    // Readers of the format stop at the zeros. Behind them stands where the batch begins, for who asks what a torn batch is.
    expected.extend_from_slice(b"\0\0\0\0\0\0\0\0\0\0\0\0RK\0\0\0\0\0\x10");
    let mut place = b"RK\0\0\0\0\0\x10".to_vec();
    place.extend_from_slice(&(length as u64).to_be_bytes());
    expected.extend_from_slice(&simd_adler32::adler32(&place.as_slice()).to_be_bytes());
    expected.push(b'D');
    expected.resize(16 + (64 << 10), 0);
    assert_eq!(disk.content(&log_path("log.1")).unwrap(), expected);
    assert_eq!(writer.commit().unwrap(), SyncStats { records: 0, bytes: 0, file_length: length as u64 });

    // A file that is ended needs no mark behind its records: all of it is durable, and its header says so.
    drop(writer);
    expected.truncate(length);
    expected[10..16].copy_from_slice(&(length as u64).to_be_bytes()[2..]);
    assert_eq!(disk.content(&log_path("log.1")).unwrap(), expected);
}

#[test]
fn one_sync_makes_a_batch_durable_however_large_it_is() {
    let disk = empty_disk();
    let mut writer = writer(&disk, LogOptions::default(), Zxid::ZERO);
    let history = History::new(3, 2000);
    writer.append(Zxid(1), &history.body(Zxid(1))).unwrap();
    writer.commit().unwrap();
    let before = disk.operations();
    for zxid in 2..=2000 {
        writer.append(Zxid(zxid), &history.body(Zxid(zxid))).unwrap();
    }
    assert_eq!(writer.commit().unwrap().records, 1999);
    // The batch with its mark, the sync.
    assert_eq!(disk.operations() - before, 2);
    // 12 MiB in one batch: written in parts, so that memory stays bounded.
    let large = History::new(3, 1).records.remove(0);
    let mut body = Vec::new();
    large.append(&mut body);
    body.resize(3 << 20, 0);
    for zxid in 2001..=2004 {
        writer.append(Zxid(zxid), &body).unwrap();
    }
    assert_eq!(writer.commit().unwrap().bytes, 4 * (body.len() as u64 + 13));
}

#[test]
fn a_gap_or_an_overwriting_is_refused() {
    let history = History::new(3, RECORDS);
    let (disk, _) = disk_with_log(&history);
    let mut again = writer(&disk, LogOptions::default(), Zxid::ZERO);
    for zxid in [Zxid(0), Zxid(2), Zxid(-1), Zxid::new(1, 2)] {
        assert!(matches!(again.append(zxid, b""), Err(StoreError::Misuse(_))), "{zxid}");
    }
    assert!(again.append(Zxid(1), b"").unwrap_err().to_string().contains("log.1 is there already"));
    let mut next_epoch = writer(&disk, LogOptions::default(), Zxid(RECORDS));
    next_epoch.append(Zxid::new(1, 1), &history.body(Zxid(1))).unwrap();
}

#[test]
fn files_follow_one_another_at_rolls_and_at_the_size_limit() {
    let history = History::new(3, RECORDS);
    let disk = empty_disk();
    let roll = RollLimits { records: 1 << 40, bytes: None, file_bytes: Some(2000) };
    let mut writer = writer(&disk, LogOptions { roll, ..LogOptions::default() }, Zxid::ZERO);
    let mut files = std::collections::BTreeSet::new();
    for zxid in 1..=RECORDS {
        writer.append(Zxid(zxid), &history.body(Zxid(zxid))).unwrap();
        files.insert(writer.path().unwrap().to_owned());
        writer.commit().unwrap();
        if zxid == 3 {
            writer.roll().unwrap();
        }
    }
    drop(writer);
    assert!(files.len() >= 3, "{files:?}");
    assert!(files.contains(&log_path("log.4")));
    for file in &files {
        assert!(disk.content(file).unwrap().len() < 2000 + 2000);
    }
    let report = recovered(&disk);
    assert_eq!((report.last_zxid, report.replayed, report.logs.len()), (Zxid(RECORDS), RECORDS as u64, files.len()));
}

/// Cuts the file at every byte of the last record and before it: whatever is left of whole records is recovered.
#[test]
fn a_log_may_end_anywhere() {
    let history = History::new(3, RECORDS);
    let (disk, offsets) = disk_with_log(&history);
    let content = disk.content(&log_path("log.1")).unwrap();
    for padding in [0, 5, 100] {
        for length in offsets[RECORDS as usize - 3]..content.len() {
            let mut cut = content[..length].to_vec();
            cut.resize(length + padding, 0);
            put_log(&disk, cut);
            let whole = offsets.iter().filter(|offset| **offset <= length).count() as i64 - 1;
            // A cut-off end mark is all that may look like padding.
            let report = recovered(&disk);
            assert_eq!(report.last_zxid, Zxid(whole), "{length} bytes and {padding} zeros\n{report}");
            let on_disk = disk.content(&log_path("log.1")).unwrap();
            if report.logs[0].end == LogEnd::Whole {
                assert_eq!(on_disk.len(), length + padding);
            } else {
                assert_eq!(on_disk.len(), offsets[whole as usize]);
                assert!(!report.warnings().is_empty());
                let dropped = disk.content(&log_path(".log.1.dropped")).unwrap();
                assert_eq!(dropped, content[offsets[whole as usize]..offsets[whole as usize] + dropped.len()]);
            }
            // The end is in order now.
            assert_eq!(recovered(&disk).logs[0].end, LogEnd::Whole);
        }
    }
}

/// Flips every bit of a record: in the middle this is damage, at the end it can't be told from a write that was cut off.
#[test]
fn a_flipped_bit_in_the_middle_is_refused_and_at_the_end_dropped() {
    let history = History::new(3, RECORDS);
    let (disk, offsets) = disk_with_log(&history);
    let content = disk.content(&log_path("log.1")).unwrap();
    let mut refused = 0;
    for record in [4, RECORDS as usize - 1] {
        let end = offsets.get(record + 1).copied().unwrap_or(content.len());
        for bit in offsets[record] * 8..end * 8 {
            let mut flipped = content.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            put_log(&disk, flipped);
            let result = start(&disk);
            if record == RECORDS as usize - 1 {
                assert_eq!(result.unwrap().report.last_zxid, Zxid(RECORDS - 1));
            } else {
                let error = result.unwrap_err();
                let expected = format!("/logs/version-2/log.1, offset {}: ", offsets[record]);
                assert!(error.to_string().starts_with(&expected), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 400);
}

/// Of a batch that was being written the end may be there without the beginning. That is told from damage by the mark.
#[test]
fn a_hole_in_the_last_batch_is_no_damage() {
    let history = History::new(3, RECORDS);
    let disk = empty_disk();
    // Killed, so that nobody ends the file.
    let mut writer = ManuallyDrop::new(writer(&disk, LogOptions::default(), Zxid::ZERO));
    let mut batch_start = 0;
    for zxid in 1..=RECORDS {
        writer.append(Zxid(zxid), &history.body(Zxid(zxid))).unwrap();
        if zxid == 10 || zxid == RECORDS {
            let written = writer.commit().unwrap();
            batch_start = if zxid == 10 { written.file_length as usize } else { batch_start };
        }
    }
    let content = disk.content(&log_path("log.1")).unwrap();
    let mut hole = content.clone();
    hole[batch_start..batch_start + 60].fill(0);
    disk.put(&log_path("log.1"), &hole);
    let report = recovered(&disk);
    assert_eq!((report.last_zxid, report.logs[0].end == LogEnd::Whole), (Zxid(10), false), "{report}");
    // The same hole one batch earlier is damage: those records were durable, or the next batch wouldn't be there.
    let mut damage = content;
    damage[batch_start - 60..batch_start].fill(0);
    disk.put(&log_path("log.1"), &damage);
    assert!(start(&disk).unwrap_err().to_string().contains("a valid record follows"));
}

/// The same where the server was killed, so that its file ends with the mark behind the records.
#[test]
fn after_a_kill_a_torn_batch_and_damage_are_told_apart_as_well() {
    let history = History::new(3, RECORDS);
    let disk = empty_disk();
    let mut writer = ManuallyDrop::new(writer(&disk, LogOptions::default(), Zxid::ZERO));
    let mut batches = Vec::new();
    for zxid in 1..=RECORDS {
        writer.append(Zxid(zxid), &history.body(Zxid(zxid))).unwrap();
        batches.push(writer.commit().unwrap().file_length as usize);
    }
    let whole = disk.content(&log_path("log.1")).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let last = RECORDS as usize - 1;
    assert_eq!(end - batches[last], 25, "the mark stands behind the records");

    // Nothing is lost, and the mark is nothing that a start must speak of.
    let report = recovered(&disk);
    assert_eq!((report.last_zxid, report.logs[0].end == LogEnd::Whole), (Zxid(RECORDS), true), "{report}");
    assert!(report.warnings().is_empty(), "{report}");
    assert_eq!(disk.content(&log_path("log.1")).unwrap().len(), batches[last], "the start cuts the mark off");
    assert!(
        !disk.list(&directories().log_dir).unwrap().iter().any(|name| name.contains("dropped")),
        "and keeps no copy"
    );

    // A byte of the record before the last batch is damage, although the header's mark is older.
    let mut damage = whole.clone();
    damage[batches[last - 1] - 20] ^= 1;
    disk.put(&log_path("log.1"), &damage);
    assert!(start(&disk).unwrap_err().to_string().contains("a valid record follows"));
    // Where the mark is lost as well, the header says what was durable before the page that was at risk.
    damage[batches[last]..end].fill(0);
    disk.put(&log_path("log.1"), &damage);
    assert_eq!(recovered(&disk).last_zxid, Zxid(RECORDS - 2));
    damage = whole.clone();
    damage[batches[last]..end].fill(0);
    damage[batches.iter().rfind(|end| **end / 4096 < batches[last - 1] / 4096).unwrap() - 20] ^= 1;
    disk.put(&log_path("log.1"), &damage);
    assert!(start(&disk).unwrap_err().to_string().contains("a valid record follows"));
    // A mark of somebody else's bytes proves nothing.
    let mut foreign = whole;
    foreign[batches[last - 1]..end].fill(0);
    let text = &mut foreign[batches[last - 1] + 100..batches[last - 1] + 125];
    text.copy_from_slice(b"\0\0\0\0\0\0\0\0\0\0\0\0RK\0\0\0\0\0\x10\x01\x02\x03\x04D");
    disk.put(&log_path("log.1"), &foreign);
    assert_eq!(recovered(&disk).last_zxid, Zxid(RECORDS - 1));
}

/// The header is another page of the disk, so it is written only when the log has come to another page itself.
#[test]
fn most_small_batches_write_one_place_only() {
    let disk = empty_disk();
    let mut writer = writer(&disk, LogOptions::default(), Zxid::ZERO);
    let history = History::new(3, 200);
    let (mut marks, mut length) = (0, 0);
    for zxid in 1..=200 {
        writer.append(Zxid(zxid), &history.body(Zxid(zxid))).unwrap();
        let before = disk.operations();
        length = writer.commit().unwrap().file_length;
        match disk.operations() - before {
            2 => {}
            3 => marks += 1,
            first => assert_eq!(zxid, 1, "{first} operations"),
        }
    }
    assert!(length > 3 * 4096, "{length}");
    assert_eq!(marks, length / 4096);
}

#[test]
fn missing_repeated_and_foreign_files_are_told() {
    let history = History::new(3, RECORDS);
    let (disk, offsets) = disk_with_log(&history);
    let content = disk.content(&log_path("log.1")).unwrap();
    let part = |from: usize, to: usize| [&content[..16], &content[offsets[from]..offsets[to]]].concat();
    let refusal = |files: &[(&str, &[u8])]| {
        let disk = empty_disk();
        for (name, content) in files {
            disk.put(&log_path(name), content);
        }
        start(&disk).unwrap_err().to_string()
    };
    let gap = refusal(&[("log.1", &part(0, 5)), ("log.8", &part(7, 9))]);
    assert!(gap.contains("log.8, offset 16: transaction 0x8 comes after 0x5: transactions are missing"), "{gap}");
    let first = refusal(&[("log.3", &part(2, 9))]);
    assert!(first.contains("transaction 0x3 comes after 0x0"), "{first}");
    let copy = refusal(&[("log.1", &part(0, 5)), ("log.3", &part(2, 9))]);
    assert!(copy.contains("perhaps this file is a copy"), "{copy}");
    let foreign = refusal(&[("log.1", b"PK\x03\x04 not a log at all")]);
    assert!(foreign.contains("doesn't begin with ZKLG"), "{foreign}");
    let newer = refusal(&[("log.1", b"ZKLG\0\0\0\x03\0\0\0\0\0\0\0\0rest")]);
    assert!(newer.contains("format version 3"), "{newer}");

    // A record that is whole but of a type nobody knows is not torn.
    let mut unknown = history.body(Zxid(6));
    unknown[28..32].copy_from_slice(&99i32.to_be_bytes());
    let disk = empty_disk();
    disk.put(&log_path("log.1"), &part(0, 5));
    let mut writer = self::writer(&disk, LogOptions::default(), Zxid(5));
    writer.append(Zxid(6), &unknown).unwrap();
    writer.commit().unwrap();
    let error = start(&disk).unwrap_err().to_string();
    assert!(error.contains("transaction 0x6 is whole but makes no sense"), "{error}");
}

#[test]
fn strays_are_named_and_left_alone_and_unfinished_files_removed() {
    let history = History::new(3, RECORDS);
    let (disk, _) = disk_with_log(&history);
    for (name, content) in [("log.1.bak", "x"), ("log.15", ""), ("log.16", "short"), (".log.99.tmp", "half")] {
        disk.put(&log_path(name), content.as_bytes());
    }
    let report = recovered(&disk);
    assert_eq!(report.strays, [log_path("log.1.bak")]);
    assert!(report.warnings()[0].contains("log.1.bak is neither a log nor a snapshot"));
    for (name, there) in [("log.1.bak", true), ("log.15", false), ("log.16", false), (".log.99.tmp", false)] {
        assert_eq!(disk.content(&log_path(name)).is_some(), there, "{name}");
    }
    let report = recovered(&disk);
    assert_eq!((report.removed_files, report.last_zxid), (vec![], Zxid(RECORDS)));
}

#[test]
fn looking_changes_nothing_and_repairing_keeps_the_damaged_file() {
    let history = History::new(3, RECORDS);
    let (disk, offsets) = disk_with_log(&history);
    let options = rookeeper_store::RecoveryOptions::default();
    let sound = check(&disk, &directories(), &options).unwrap();
    assert!(sound.is_sound(), "{sound}");
    assert!(sound.to_string().contains("log.1: 20 records, 0x1 to 0x14, whole"), "{sound}");

    let path = log_path("log.1");
    let mut damaged = disk.content(&path).unwrap();
    damaged[offsets[5] + 20] ^= 1;
    disk.put(&path, &damaged);
    let before = disk.operations();
    let report = check(&disk, &directories(), &options).unwrap();
    assert_eq!(disk.operations(), before);
    assert!(!report.is_sound());
    let text = report.to_string();
    let expected =
        format!("log.1: 5 records, 0x1 to 0x5, then a record has the wrong checksum (CRC) at offset {}", offsets[5]);
    assert!(text.contains(&expected) && text.contains("a server would not start"), "{text}");

    let repaired = repair_log(&disk, &path, options.max_record_bytes).unwrap();
    assert_eq!(repaired.kept.as_deref(), Some(Path::new("/logs/version-2/.log.1.damaged")));
    assert_eq!(disk.content(&repaired.kept.clone().unwrap()).unwrap(), damaged);
    assert!(repaired.to_string().contains("ends with transaction 0x5 now"), "{repaired}");
    assert_eq!(recovered(&disk.restart(1)).last_zxid, Zxid(5));
    assert_eq!(repair_log(&disk, &path, options.max_record_bytes).unwrap().kept, None);
    // The next damage does not cost the first copy.
    let mut again = disk.content(&path).unwrap();
    again[offsets[2] + 20] ^= 1;
    disk.put(&path, &again);
    let second = repair_log(&disk, &path, options.max_record_bytes).unwrap();
    assert_eq!(second.kept.as_deref(), Some(Path::new("/logs/version-2/.log.1.damaged2")));
    assert_eq!(disk.content(&repaired.kept.unwrap()).unwrap(), damaged);
}

/// Whoever reads the last line of the log at night does what it says.
#[test]
fn remedies_keep_what_is_needed_and_name_their_conditions() {
    let history = History::new(3, RECORDS);
    let (disk, offsets) = disk_with_log(&history);
    let mut damaged = disk.content(&log_path("log.1")).unwrap();
    damaged[offsets[5] + 20] ^= 1;
    put_log(&disk, damaged);
    let refusal = start(&disk).unwrap_err().to_string();
    for words in [
        "only while a leader and a quorum of the other members work without this one",
        "leave myid",
        "from dataDir, and from dataLogDir if that is set",
        "rookeeper check <dataDir> --cut-log /logs/version-2/log.1",
        "acknowledged writes from there on are lost",
    ] {
        assert!(refusal.contains(words), "{words:?} is missing: {refusal}");
    }
    assert!(!refusal.contains("empty"), "nobody is to empty a directory: {refusal}");
}

#[test]
fn records_come_back_as_they_were() {
    let history = History::new(9, 300);
    let disk = empty_disk();
    let mut writer = writer(&disk, support::log_options(1), Zxid::ZERO);
    for record in &history.records {
        let mut body = Vec::new();
        record.append(&mut body);
        assert_eq!(&TxnRecord::decode(&body).unwrap(), record);
        writer.append(record.header.zxid, &body).unwrap();
    }
    writer.commit().unwrap();
    let recovered = start(&disk).unwrap();
    assert_eq!(recovered.tree.digest(), history.digests[300]);
    let checked = history.records.iter().filter(|record| record.digest.is_some()).count() as u64;
    assert_eq!((recovered.report.digests_checked, recovered.report.digest_mismatches), (checked, 0));
}

#[test]
fn a_tree_that_differs_from_its_digests_is_told_and_served() {
    let mut history = History::new(3, RECORDS);
    let wrong = history
        .records
        .iter_mut()
        .skip(10)
        .find_map(|record| Some((record.header.zxid, record.digest.as_mut()?)))
        .unwrap();
    let zxid = wrong.0;
    wrong.1.value += 1;
    let (disk, _) = disk_with_log(&history);
    let report = recovered(&disk);
    assert_eq!((report.digest_mismatches, report.first_mismatch, report.last_zxid), (1, Some(zxid), Zxid(RECORDS)));
    assert!(report.warnings()[0].contains(&format!("the first after transaction {zxid}")));
}

/// The end of a session names all its ephemeral nodes, so a record may be larger than any request. It was acknowledged; it is read.
#[test]
fn a_record_larger_than_any_request_is_read_back_wherever_it_stands() {
    let paths: Vec<String> = (0..40_000).map(|number| format!("/ephemeral-{}{number:08}", "x".repeat(90))).collect();
    let large = |zxid| {
        let header = TxnHeader { session: SessionId(5), cxid: 1, zxid: Zxid(zxid), time_ms: 1 };
        let mut body = Vec::new();
        TxnRecord { header, txn: Txn::CloseSession { paths: Some(paths.clone()) }, digest: None }.append(&mut body);
        body
    };
    assert!(large(1).len() > 4_000_000);
    let history = History::new(3, 10);
    for at in [10, 5] {
        let disk = empty_disk();
        let mut writer = writer(&disk, LogOptions::default(), Zxid::ZERO);
        for zxid in 1..=10 {
            let body = if zxid == at { large(zxid) } else { history.body(Zxid(zxid)) };
            writer.append(Zxid(zxid), &body).unwrap();
            writer.commit().unwrap();
        }
        drop(writer);
        let recovered = start(&disk).unwrap();
        assert_eq!((recovered.tree.last_zxid(), recovered.report.replayed), (Zxid(10), 10));
    }
}

#[test]
fn a_log_whose_name_is_not_its_first_transaction_is_refused() {
    let history = History::new(1, RECORDS);
    let (disk, _) = disk_with_log(&history);
    let content = disk.content(&log_path("log.1")).unwrap();
    let disk = empty_disk();
    disk.put(&log_path("log.2"), &content);
    let refusal = start(&disk).unwrap_err().to_string();
    assert!(refusal.contains("log.2") && refusal.contains("name"), "{refusal}");
}

/// The body of a failed request.
fn failed_request(zxid: Zxid) -> Vec<u8> {
    let header = TxnHeader { session: SessionId(0x1234), cxid: 7, zxid, time_ms: 1 };
    let mut body = Vec::new();
    TxnRecord { header, txn: Txn::Error { code: -5 }, digest: None }.append(&mut body);
    body
}

fn log_of(bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut log = b"ZKLG\0\0\0\x02\0\0\0\0\0\0\0\0".to_vec();
    for body in bodies {
        log.extend_from_slice(&u64::from(simd_adler32::adler32(&body.as_slice())).to_be_bytes());
        log.extend_from_slice(&(body.len() as u32).to_be_bytes());
        log.extend_from_slice(body);
        log.push(b'B');
    }
    log
}

/// Transactions 1 to `RECORDS`, where a failed request repeats the zxid of `repeated`; in one file, or with a new file that begins with it.
fn disk_with_repeated_zxid(history: &History, repeated: i64, in_new_file: bool) -> SimDisk {
    let disk = empty_disk();
    let bodies = |zxids: std::ops::RangeInclusive<i64>| zxids.map(|zxid| history.body(Zxid(zxid)));
    let before: Vec<_> = bodies(1..=repeated).collect();
    let after: Vec<_> = std::iter::once(failed_request(Zxid(repeated))).chain(bodies(repeated + 1..=RECORDS)).collect();
    if in_new_file {
        disk.put(&log_path("log.1"), &log_of(&before));
        disk.put(&log_path(&format!("log.{repeated:x}")), &log_of(&after));
    } else {
        disk.put(&log_path("log.1"), &log_of(&[before, after].concat()));
    }
    disk
}

#[test]
fn a_failed_request_that_repeats_a_zxid_is_skipped_with_a_warning() {
    let history = History::new(9, RECORDS);
    for (repeated, in_new_file) in [(4, false), (4, true), (RECORDS, false), (RECORDS, true)] {
        let disk = disk_with_repeated_zxid(&history, repeated, in_new_file);
        let found = check(&disk, &directories(), &Default::default()).unwrap();
        assert!(found.logs.iter().all(|log| log.problem.is_none()), "{found}");
        assert_eq!(found.logs.iter().map(|log| log.repeated_errors).sum::<u64>(), u64::from(!in_new_file), "{found}");
        assert!(repair_log(&disk, &log_path("log.1"), usize::MAX >> 1).unwrap().kept.is_none());

        let recovered = start(&disk).unwrap();
        assert_eq!(recovered.tree.last_zxid(), Zxid(RECORDS));
        assert_eq!(recovered.tree.digest(), history.digests[RECORDS as usize]);
        assert_eq!((recovered.report.replayed, recovered.report.digest_mismatches), (RECORDS as u64, 0));
        let warnings = recovered.report.warnings();
        let log = if in_new_file { format!("log.{repeated:x}") } else { "log.1".to_owned() };
        assert!(warnings.len() == 1 && warnings[0].contains(&format!("the first in {log}, {}", Zxid(repeated))));
    }
}

#[test]
fn a_snapshot_right_before_a_repeated_zxid_does_not_hide_the_record_that_has_it_by_right() {
    let history = History::new(9, RECORDS);
    let disk = disk_with_repeated_zxid(&history, 4, true);
    let (tree, options) = (history.tree_at(Zxid(3)), rookeeper_store::SnapshotOptions::default());
    let dir = directories().snapshot_dir;
    rookeeper_store::write_snapshot(&disk, &dir, &options, &mut |read| read(&tree), &mut |_| Ok(())).unwrap();
    let recovered = start(&disk).unwrap();
    assert_eq!(recovered.tree.digest(), history.digests[RECORDS as usize]);
    assert_eq!(recovered.report.digest_mismatches, 0);
}

#[test]
fn anything_else_that_repeats_a_zxid_is_damage() {
    let history = History::new(9, RECORDS);
    let bodies = |zxids: std::ops::RangeInclusive<i64>| zxids.map(|zxid| history.body(Zxid(zxid))).collect::<Vec<_>>();
    // A change with a zxid that was there, and a failed request with one from before the last.
    for wrong in [history.body(Zxid(4)), failed_request(Zxid(3))] {
        let disk = empty_disk();
        disk.put(&log_path("log.1"), &log_of(&[bodies(1..=4), vec![wrong], bodies(5..=RECORDS)].concat()));
        let error = start(&disk).unwrap_err().to_string();
        assert!(error.contains("the order is broken"), "{error}");
        let found = check(&disk, &directories(), &Default::default()).unwrap();
        assert!(found.logs[0].problem.is_some());
    }
}
