//! A storage on a simulated disk, driven as its thread would drive it, by jobs that are all there from the beginning.

#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part, and fails by panicking")]

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use rookeeper_proto::txn::{CreateKind, CreateTxn};
use rookeeper_proto::{Acl, Epoch, SessionId, Txn, TxnHeader, TxnRecord, WallMs, Zxid};
use rookeeper_replica::{Input, Settings, Shared, Store, Stored};
use rookeeper_storage::{Batching, FileOptions, Files, Job, LogPosition, Next, Start, StorageError, StorageWorker};
use rookeeper_store::{Directories, LogOptions, RecoveryOptions, RollLimits, SimDisk};
use rookeeper_tree::Tree;
use rookeeper_zab::Record;

/// The version of a membership whose file can't be written.
pub const REFUSED: Zxid = Zxid(99);

pub fn zxid(counter: u32) -> Zxid {
    Zxid::new(1, counter)
}

pub fn create(counter: u32) -> TxnRecord {
    let header = TxnHeader { session: SessionId(1), cxid: 1, zxid: zxid(counter), time_ms: 1 };
    let txn = Txn::Create(CreateTxn {
        path: format!("/n{counter}"),
        data: None,
        acl: Some(Acl::open()),
        kind: CreateKind::Node { ephemeral: false, with_stat: false },
        parent_cversion: counter as i32,
    });
    TxnRecord { header, txn, digest: None }
}

/// A job of several transactions.
pub fn append(counters: std::ops::RangeInclusive<u32>) -> Job {
    let record = |counter| {
        let mut body = Vec::new();
        create(counter).append(&mut body);
        Record::new(zxid(counter), &body)
    };
    Job::Append(counters.map(record).collect())
}

/// A tree after so many transactions.
pub fn tree_of(count: u32) -> Tree {
    let mut tree = Tree::with_seed(1);
    for record in (1..=count).map(create) {
        tree.apply(&record.header, record.txn, &mut Vec::new());
    }
    tree
}

pub fn shared(tree: Tree) -> Arc<Shared> {
    Arc::new(Shared::new(Settings::default(), tree, WallMs(0)))
}

pub fn directories(disk: &SimDisk) -> Directories {
    Directories::prepare(disk, Path::new("/data"), Path::new("/data"), true).unwrap()
}

/// Files as a server has them that begins a new log every few transactions. `permitted`: an empty database is expected.
pub fn files(disk: &SimDisk, permitted: bool) -> Arc<Files> {
    let options = FileOptions {
        log: LogOptions {
            preallocate_bytes: 0,
            roll: RollLimits { records: 4, bytes: None, file_bytes: None },
            ..LogOptions::default()
        },
        recovery: RecoveryOptions { db_autocreate: permitted, ..RecoveryOptions::default() },
        ..FileOptions::default()
    };
    Arc::new(
        Files::new(Arc::new(disk.clone()), Directories::new(Path::new("/data"), Path::new("/data")), options).unwrap(),
    )
}

/// A disk with an empty database.
pub fn empty_database() -> SimDisk {
    let disk = SimDisk::new(7);
    directories(&disk);
    Start::recover(files(&disk, true), true).unwrap().secure().unwrap();
    disk.restart(7)
}

/// What a storage has answered.
#[derive(Debug, Default)]
pub struct Answers {
    pub texts: Vec<String>,
    /// The end of the history, as the last answer about it says.
    pub end: Zxid,
    pub accepted: Epoch,
    pub current: Epoch,
}

impl Answers {
    fn note(&mut self, answer: Input) {
        self.texts.push(match answer {
            Input::Synced { zxid } => {
                self.end = zxid;
                format!("synced {zxid}")
            }
            Input::Stored(Stored::Truncated { zxid, tree }) => {
                self.end = zxid;
                format!("truncated {zxid}, tree at {:?}", tree.map(|tree| tree.last_zxid().counter()))
            }
            Input::Stored(Stored::SnapshotInstalled { zxid }) => {
                self.end = zxid;
                format!("installed {zxid}")
            }
            Input::Stored(Stored::AcceptedEpoch(epoch)) => {
                self.accepted = epoch;
                format!("accepted {epoch}")
            }
            Input::Stored(Stored::CurrentEpoch(epoch)) => {
                self.current = epoch;
                format!("current {epoch}")
            }
            Input::Stored(Stored::MembershipRefused { epoch, why }) => format!("membership of {epoch} {why}"),
            other => panic!("no answer of a storage: {other:?}"),
        });
    }
}

/// Does all that is asked for. The memberships stand among the answers.
pub fn drive(worker: &mut StorageWorker, jobs: Vec<Job>, answers: &mut Answers) -> Result<(), StorageError> {
    let mut jobs = VecDeque::from(jobs);
    let mut position = LogPosition::new(answers.end);
    loop {
        match (worker.next(), jobs.is_empty()) {
            (Next::Job, true) => return Ok(()),
            (Next::Job | Next::JobOrSync { .. }, false) => worker.take(jobs.pop_front().unwrap())?,
            (Next::JobOrSync { .. } | Next::Sync, _) => {
                let synced = worker.sync()?;
                position.advance(synced.zxid);
                answers.note(synced.answer());
            }
            (Next::Roll, _) => {
                worker.roll()?;
            }
            (Next::Store, _) => {
                let mut memberships = Vec::new();
                let stored = worker.store(&mut |membership, is_in_force| {
                    let state = if is_in_force { "in force" } else { "proposed" };
                    memberships.push(format!("membership {} {state}", membership.version.0));
                    if membership.version == REFUSED { Err("refused".to_owned()) } else { Ok(()) }
                })?;
                answers.texts.append(&mut memberships);
                if let Some(stored) = stored {
                    answers.note(Input::Stored(stored));
                }
            }
            (Next::Rewrite, _) => {
                let permit = position.rewrite().expect("nobody holds the history");
                let rewritten = worker.rewrite(&permit)?;
                position.rewritten(permit, rewritten.zxid);
                answers.note(Input::Stored(rewritten.stored));
            }
        }
    }
}

/// Everything that a storage can be asked for.
pub fn all_jobs() -> Vec<Job> {
    vec![
        Job::Store(Store::AcceptedEpoch(Epoch(1))),
        append(1..=3),
        append(4..=5),
        Job::Store(Store::CurrentEpoch { epoch: Epoch(1), membership: None }),
        append(6..=7),
        Job::Store(Store::Truncate { zxid: zxid(4), reload: true }),
        append(5..=6),
        Job::Store(Store::AcceptedEpoch(Epoch(2))),
        Job::Store(Store::Truncate { zxid: zxid(5), reload: false }),
        Job::Store(Store::InstallSnapshot { zxid: zxid(9) }),
        append(10..=10),
        Job::Store(Store::CurrentEpoch { epoch: Epoch(2), membership: None }),
        append(11..=12),
    ]
}

pub fn worker(disk: &SimDisk, shared: &Arc<Shared>, last: Zxid, batching: Batching) -> StorageWorker {
    StorageWorker::new(files(disk, true), shared.clone(), last, batching)
}
