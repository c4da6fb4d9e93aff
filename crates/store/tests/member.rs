//! What a member of an ensemble does with its files: cutting its history, catching up a learner from the log, sending the tree.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use rookeeper_proto::{TtlEncoding, Zxid};
use rookeeper_store::catch_up::{CatchUp, CatchUpStart, plan_catch_up};
use rookeeper_store::snapshot_stream::{Progress, SnapshotReceiver, SnapshotSender};
use rookeeper_store::truncate::truncate;
use rookeeper_store::{Fault, SimDisk, SnapshotOptions, write_snapshot};
use rookeeper_tree::Tree;
use support::{History, directories, run, start};

const TRANSACTIONS: i64 = 120;

fn disk_with_history(seed: u64, history: &History) -> SimDisk {
    let disk = SimDisk::new(seed);
    run(&disk, history, seed, Zxid::ZERO).1.unwrap();
    disk.restart(seed)
}

fn assert_same(one: &Tree, other: &Tree, context: &str) {
    assert_eq!(one.last_zxid(), other.last_zxid(), "{context}");
    assert_eq!(one.digest(), other.digest(), "{context}");
    assert!(one.sessions().eq(other.sessions()) || one.session_count() == other.session_count(), "{context}");
}

#[test]
fn a_cut_history_ends_where_it_was_cut_and_goes_on_from_there() {
    for seed in 0..4 {
        let history = History::new(seed, TRANSACTIONS);
        let whole = disk_with_history(seed, &history);
        for cut in [0, 1, 29, 30, 31, 64, 90, 119, 120] {
            let disk = whole.restart(cut as u64);
            let context = format!("seed {seed}, cut at {cut}");
            if let Err(error) = truncate(&disk, &directories(), Zxid(cut)) {
                // Purging has removed what would lead there, and then nothing is touched.
                assert!(error.to_string().contains("nothing was changed"), "{context}: {error}");
                assert_eq!(start(&disk).unwrap().tree.last_zxid(), Zxid(TRANSACTIONS), "{context}");
                continue;
            }
            let recovered = start(&disk).unwrap();
            let end = recovered.tree.last_zxid();
            assert_eq!(end, Zxid(cut), "{context}");
            assert_same(&recovered.tree, &history.tree_at(end), &context);
            let (acknowledged, result) = run(&disk, &history, seed, end);
            result.unwrap();
            assert_eq!(acknowledged, Zxid(TRANSACTIONS), "{context}");
        }
        let disk = whole.restart(7);
        truncate(&disk, &directories(), Zxid(118)).unwrap();
        assert_eq!(start(&disk).unwrap().tree.last_zxid(), Zxid(118), "the log leads there");
    }
}

#[test]
fn a_cut_that_the_power_interrupts_can_be_made_again() {
    let mut crashes = 0;
    for seed in 0..4 {
        let history = History::new(seed, TRANSACTIONS);
        let whole = disk_with_history(seed, &history);
        for cut in [110, 114, 118] {
            if truncate(&whole.restart(1), &directories(), Zxid(cut)).is_err() {
                continue;
            }
            for at in 1..60 {
                let disk = whole.restart(seed);
                disk.inject(Fault::Crash { at });
                let cut_short = truncate(&disk, &directories(), Zxid(cut)).is_err();
                for survival in 0..4 {
                    let disk = disk.restart(survival);
                    let context = format!("seed {seed}, cut at {cut}, crash at operation {at}, survival {survival}");
                    let end = match start(&disk) {
                        Ok(recovered) => {
                            let end = recovered.tree.last_zxid();
                            assert_same(&recovered.tree, &history.tree_at(end), &context);
                            end
                        }
                        Err(error) => panic!("{context}: {error}"),
                    };
                    assert!(cut_short || end <= Zxid(cut), "{context}: {end}");
                    truncate(&disk, &directories(), Zxid(cut)).unwrap();
                    assert!(start(&disk).unwrap().tree.last_zxid() <= Zxid(cut), "{context}");
                    crashes += 1;
                }
                if !cut_short {
                    break;
                }
            }
        }
    }
    assert!(crashes > 200, "only {crashes} crashes");
}

#[test]
fn a_snapshot_from_a_leader_replaces_a_history_that_went_another_way() {
    let history = History::new(1, TRANSACTIONS);
    let disk = disk_with_history(1, &history);
    // The leader's history is shorter here, and its tree another one.
    let leader = History::new(2, 80);
    let tree = leader.tree_at(Zxid(80));
    let options = SnapshotOptions::default();
    write_snapshot(&disk, &directories().snapshot_dir, &options, &mut |read| read(&tree), &mut |_| Ok(())).unwrap();
    truncate(&disk, &directories(), Zxid(80)).unwrap();
    let recovered = start(&disk.restart(3)).unwrap();
    assert_same(&recovered.tree, &tree, "restart behind the leader's snapshot");
}

#[test]
fn the_log_leads_a_learner_on() {
    let history = History::new(3, TRANSACTIONS);
    let disk = disk_with_history(3, &history);
    let plan = |after: i64| plan_catch_up(&disk, &directories(), Zxid(after), Zxid(TRANSACTIONS), Some(100.0)).unwrap();
    assert_eq!(plan(110), CatchUpStart::Continues);
    assert_eq!(plan_catch_up(&disk, &directories(), Zxid(110), Zxid(120), None).unwrap(), CatchUpStart::Unavailable);
    assert_eq!(plan(-1), CatchUpStart::Unavailable);
    for (after, before) in [(110, 120), (110, 111), (100, 121)] {
        let mut records = CatchUp::open(&disk, &directories(), Zxid(after), Zxid(before)).unwrap();
        let mut zxids = Vec::new();
        while let Some((zxid, body)) = records.next_record().unwrap() {
            assert_eq!(body, history.body(zxid));
            zxids.push(zxid.0);
        }
        assert_eq!(zxids, (after + 1..before).collect::<Vec<_>>());
    }
    let mut beyond = CatchUp::open(&disk, &directories(), Zxid(110), Zxid(130)).unwrap();
    let error = loop {
        match beyond.next_record() {
            Ok(Some(_)) => {}
            other => break other.map(|_| ()).unwrap_err().to_string(),
        }
    };
    assert!(error.contains("the log ends at"), "{error}");
}

fn stream(tree: &Tree, portion_bytes: usize) -> Vec<u8> {
    let mut sender = SnapshotSender::begin(tree, portion_bytes);
    let mut bytes = Vec::new();
    while sender.next_portion(tree, &mut bytes).unwrap() {}
    bytes
}

#[test]
fn a_tree_arrives_whole_in_whatever_pieces() {
    let tree = History::new(4, TRANSACTIONS).tree_at(Zxid(TRANSACTIONS));
    let bytes = stream(&tree, 500);
    for piece in [1, 7, 64, bytes.len()] {
        let mut receiver = SnapshotReceiver::new(tree.last_zxid(), 0, TtlEncoding::Current);
        let mut followed = bytes.clone();
        followed.extend_from_slice(b"the next packet");
        let (mut fed, mut received) = (0, None);
        for part in followed.chunks(piece) {
            match receiver.feed(part).unwrap() {
                Progress::NeedMore => fed += part.len(),
                Progress::Done { tree, used } => {
                    received = Some((tree, fed + used));
                    break;
                }
            }
        }
        let (mut received, used) = received.unwrap();
        assert_eq!(used, bytes.len(), "pieces of {piece}");
        assert_same(&received, &tree, "received");
        assert_eq!(received.finish_replay(), Default::default());
        // The order of sessions is not fixed, the length is.
        assert_eq!(stream(&received, 1 << 20).len(), bytes.len());
    }
}

#[test]
fn what_is_no_stream_is_an_error_and_takes_no_memory() {
    let tree = History::new(5, 30).tree_at(Zxid(30));
    let bytes = stream(&tree, 1 << 20);
    for position in 0..bytes.len() {
        let mut wrong = bytes.clone();
        wrong[position] ^= 0x80;
        // Some bits may change without making it unreadable; it must only end.
        let _ = SnapshotReceiver::new(Zxid(30), 0, TtlEncoding::Current).feed(&wrong);
    }
    let mut wrong = bytes.clone();
    *wrong.last_mut().unwrap() ^= 1;
    let error = SnapshotReceiver::new(Zxid(30), 0, TtlEncoding::Current).feed(&wrong).unwrap_err();
    assert!(error.to_string().contains("signature"), "{error}");
    let error = SnapshotReceiver::new(Zxid(30), 0, TtlEncoding::Current).feed(&[0xff; 8]).unwrap_err();
    assert!(error.to_string().contains("count"), "{error}");
    assert!(matches!(
        SnapshotReceiver::new(Zxid(30), 0, TtlEncoding::Current).feed(&bytes[..bytes.len() - 1]),
        Ok(Progress::NeedMore)
    ));
}
