//! Recovery where the history of the directory spans epochs: a log that begins an epoch does not say where the one before it ends.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use rookeeper_proto::txn::{CreateKind, CreateTxn};
use rookeeper_proto::{Acl, SessionId, Txn, TxnHeader, TxnRecord, Zxid};
use rookeeper_store::{LogWriter, SimDisk, SnapshotOptions, write_snapshot};
use rookeeper_tree::Tree;
use support::{directories, log_options, start};

/// Each makes one node.
const HISTORY: [Zxid; 6] = [
    Zxid(0x1_0000_0001),
    Zxid(0x1_0000_0002),
    Zxid(0x1_0000_0003),
    Zxid(0x2_0000_0001),
    Zxid(0x2_0000_0002),
    Zxid(0x4_0000_0001),
];

fn record(zxid: Zxid) -> TxnRecord {
    let create = CreateTxn {
        path: format!("/at-{zxid}"),
        data: Some(b"x".to_vec()),
        acl: Some(Acl::open()),
        kind: CreateKind::Node { ephemeral: false, with_stat: false },
        parent_cversion: 0,
    };
    TxnRecord {
        header: TxnHeader { session: SessionId(7), cxid: 1, zxid, time_ms: 1 },
        txn: Txn::Create(create),
        digest: None,
    }
}

/// A log for each epoch, and a snapshot behind `taken_after` transactions.
fn disk(taken_after: usize) -> SimDisk {
    let disk = SimDisk::new(1);
    start(&disk).unwrap();
    let mut tree = Tree::new();
    let mut last = Zxid::ZERO;
    let mut writer: Option<LogWriter> = None;
    for (index, zxid) in HISTORY.into_iter().enumerate() {
        if index == taken_after {
            snapshot(&disk, &tree);
        }
        if zxid.epoch() > last.epoch() {
            drop(writer.take());
        }
        let log_dir = &directories().log_dir;
        let writer =
            writer.get_or_insert_with(|| LogWriter::new(Arc::new(disk.clone()), log_dir, log_options(1), last));
        let record = record(zxid);
        let mut body = Vec::new();
        record.append(&mut body);
        writer.append(zxid, &body).unwrap();
        writer.commit().unwrap();
        tree.apply(&record.header, record.txn, &mut Vec::new());
        last = zxid;
    }
    disk
}

fn snapshot(disk: &SimDisk, tree: &Tree) {
    let options = SnapshotOptions::default();
    write_snapshot(disk, &directories().snapshot_dir, &options, &mut |read| read(tree), &mut |_| Ok(())).unwrap();
}

#[test]
fn nothing_between_a_snapshot_and_the_next_epoch_is_passed_over() {
    for taken_after in 0..HISTORY.len() {
        let recovered = start(&disk(taken_after)).unwrap();
        let missing: Vec<_> =
            HISTORY.into_iter().filter(|zxid| recovered.tree.node(&format!("/at-{zxid}")).is_none()).collect();
        assert_eq!(missing, [], "with a snapshot behind {taken_after} transactions");
        assert_eq!(recovered.tree.last_zxid(), HISTORY[HISTORY.len() - 1]);
    }
}
