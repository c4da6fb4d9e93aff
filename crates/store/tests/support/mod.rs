//! A small server around the store: a history made up from a seed, and a run that logs it, takes snapshots while it goes on, and purges.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

pub use rookeeper_proto::random::Random;
use rookeeper_proto::txn::{CreateKind, CreateTxn};
use rookeeper_proto::{Acl, Digest, SessionId, Txn, TxnHeader, TxnRecord, Zxid};
use rookeeper_store::{
    Compression, Directories, LogOptions, LogWriter, PurgeOptions, Purger, Recovered, RecoveryOptions, RollLimits,
    SimDisk, SnapshotOptions, StoreError, recover, write_snapshot,
};
use rookeeper_tree::Tree;

/// Transactions 1 to `count`, each with the digest after it. Index 0 belongs to the empty tree.
pub struct History {
    pub records: Vec<TxnRecord>,
    pub digests: Vec<i64>,
}

impl History {
    pub fn new(seed: u64, count: i64) -> History {
        let mut random = Random::new(seed);
        let mut tree = Tree::new();
        let mut history = History { records: Vec::new(), digests: vec![tree.digest()] };
        let mut sessions = Vec::new();
        for zxid in 1..=count {
            let (session, txn) = next_txn(&mut random, &tree, &mut sessions, zxid);
            let header = TxnHeader { session, cxid: zxid as i32, zxid: Zxid(zxid), time_ms: 1_000_000 + zxid };
            tree.apply(&header, txn.clone(), &mut Vec::new());
            let digest = (!matches!(txn, Txn::Error { .. })).then(|| Digest::new(tree.digest()));
            history.records.push(TxnRecord { header, txn, digest });
            history.digests.push(tree.digest());
        }
        history
    }

    pub fn body(&self, zxid: Zxid) -> Vec<u8> {
        let mut body = Vec::new();
        self.records[zxid.0 as usize - 1].append(&mut body);
        body
    }

    /// The tree after a transaction, straight from the history.
    pub fn tree_at(&self, zxid: Zxid) -> Tree {
        let mut tree = Tree::new();
        for record in &self.records[..zxid.0 as usize] {
            tree.apply(&record.header, record.txn.clone(), &mut Vec::new());
        }
        tree
    }
}

fn next_txn(random: &mut Random, tree: &Tree, sessions: &mut Vec<SessionId>, zxid: i64) -> (SessionId, Txn) {
    let mut paths: Vec<_> =
        tree.nodes().map(|node| node.path().to_owned()).filter(|path| !path.starts_with("/z")).collect();
    paths.sort();
    let leaves: Vec<_> =
        paths.iter().filter(|path| tree.node(path).unwrap().child_count() == 0 && *path != "/").cloned().collect();
    let any = sessions.first().copied().unwrap_or(SessionId(0x77));
    match random.below(12) {
        0 => {
            let session = SessionId(0x100 + zxid);
            sessions.push(session);
            (session, Txn::CreateSession { timeout_ms: 4000 })
        }
        1 if sessions.len() > 1 => {
            let session = sessions.remove(random.below(sessions.len() as u64) as usize);
            let mut paths: Vec<_> = tree.ephemerals(session).map(str::to_owned).collect();
            paths.sort();
            (session, Txn::CloseSession { paths: Some(paths) })
        }
        2 => (any, Txn::Error { code: -101 }),
        3 | 4 if !leaves.is_empty() => {
            (any, Txn::Delete { path: leaves[random.below(leaves.len() as u64) as usize].clone() })
        }
        5 | 6 => {
            let path = paths[random.below(paths.len() as u64) as usize].clone();
            let version = tree.node(&path).unwrap().persisted().version + 1;
            let data = Some(vec![zxid as u8; random.below(900) as usize]);
            (any, Txn::SetData { path, data, version })
        }
        7 if !leaves.is_empty() => {
            let path = leaves[random.below(leaves.len() as u64) as usize].clone();
            let version = tree.node(&path).unwrap().persisted().aversion + 1;
            let acl = Some(if random.below(2) == 0 { Acl::read_only() } else { Acl::open() });
            (any, Txn::SetAcl { path, acl, version })
        }
        kind => {
            let ephemeral = kind == 8 && !sessions.is_empty();
            let parents: Vec<_> =
                paths.iter().filter(|path| tree.ephemerals(any).all(|owned| owned != *path)).collect();
            let parents: Vec<_> =
                parents.into_iter().filter(|path| tree.node(path).unwrap().stat().ephemeral_owner == 0).collect();
            let parent = parents[random.below(parents.len() as u64) as usize];
            let parent_cversion = tree.node(parent).unwrap().persisted().cversion + 1;
            let path = format!("{}/n{zxid}", if parent == "/" { "" } else { parent });
            let data = Some(vec![b'd'; random.below(700) as usize]);
            let kind = CreateKind::Node { ephemeral, with_stat: false };
            let create =
                Txn::Create(CreateTxn { path: path.clone(), data, acl: Some(Acl::open()), kind, parent_cversion });
            let txn = if random.below(4) == 0 {
                Txn::Multi(vec![create, Txn::SetData { path, data: Some(b"multi".to_vec()), version: 1 }])
            } else {
                create
            };
            (any, txn)
        }
    }
}

pub fn directories() -> Directories {
    Directories::new(Path::new("/data"), Path::new("/logs"))
}

pub fn log_path(name: &str) -> PathBuf {
    directories().log_dir.join(name)
}

pub fn start(disk: &SimDisk) -> Result<Recovered, StoreError> {
    let directories = Directories::prepare(disk, Path::new("/data"), Path::new("/logs"), true)?;
    recover(disk, &directories, &RecoveryOptions::default())
}

/// Small files, so that much happens within few operations.
pub fn log_options(seed: u64) -> LogOptions {
    LogOptions {
        preallocate_bytes: 8 << 10,
        force_sync: true,
        roll: RollLimits { records: 30, bytes: None, file_bytes: None },
        seed,
    }
}

/// What a client was told.
pub struct Run<'a> {
    disk: SimDisk,
    history: &'a History,
    writer: LogWriter,
    tree: Tree,
    random: Random,
    pub acknowledged: Zxid,
    failure: Option<StoreError>,
}

/// Recovers and goes on with the history to its end, or until something fails. Returns the last transaction acknowledged, in this
/// run or before it.
pub fn run(disk: &SimDisk, history: &History, seed: u64, acknowledged: Zxid) -> (Zxid, Result<(), StoreError>) {
    let recovered = match start(disk) {
        Ok(recovered) => recovered,
        Err(error) => return (acknowledged, Err(error)),
    };
    assert!(recovered.tree.last_zxid() >= acknowledged);
    let last = recovered.tree.last_zxid();
    let run = RefCell::new(Run {
        disk: disk.clone(),
        history,
        writer: LogWriter::new(Arc::new(disk.clone()), &directories().log_dir, log_options(seed), last),
        tree: recovered.tree,
        random: Random::new(seed),
        // What was recovered is shown to clients.
        acknowledged: last,
        failure: None,
    });
    let result = to_the_end(&run, seed);
    let acknowledged = run.borrow().acknowledged;
    if let Err(error) = &result {
        assert!(!error.to_string().is_empty());
    }
    (acknowledged, result)
}

fn to_the_end(run: &RefCell<Run<'_>>, seed: u64) -> Result<(), StoreError> {
    let mut purger = Purger::new();
    let mut random = Random::new(!seed);
    if run.borrow().tree.last_zxid() == Zxid::ZERO {
        snapshot(run, Compression::None)?;
    }
    while run.borrow_mut().step()? {
        if run.borrow().writer.wants_roll() {
            run.borrow_mut().writer.roll()?;
            snapshot(run, Compression::ALL[random.below(3) as usize])?;
            let options = PurgeOptions { retain_snapshots: 2, ..PurgeOptions::default() };
            let disk = run.borrow().disk.clone();
            purger.purge(&disk, &directories(), &options, SystemTime::UNIX_EPOCH)?;
        }
    }
    Ok(())
}

/// The tree changes between all portions of the snapshot.
fn snapshot(run: &RefCell<Run<'_>>, compression: Compression) -> Result<(), StoreError> {
    let disk = run.borrow().disk.clone();
    let options = SnapshotOptions { compression, portion_bytes: 700, ..SnapshotOptions::default() };
    let is_first = run.borrow().tree.last_zxid() == Zxid::ZERO;
    let result = write_snapshot(
        &disk,
        &directories().snapshot_dir,
        &options,
        &mut |read| {
            if !is_first && run.borrow_mut().random.below(3) == 0 {
                let stepped = run.borrow_mut().step();
                if let Err(error) = stepped {
                    run.borrow_mut().failure.get_or_insert(error);
                }
            }
            read(&run.borrow().tree);
        },
        &mut |zxid| {
            assert!(zxid <= run.borrow().acknowledged || zxid == Zxid::ZERO);
            match run.borrow_mut().failure.take() {
                Some(error) => Err(error),
                None => Ok(()),
            }
        },
    );
    result.map(|_| ())
}

impl Run<'_> {
    /// Logs one batch and applies it. False at the end of the history.
    fn step(&mut self) -> Result<bool, StoreError> {
        let first = self.writer.last_zxid().0 + 1;
        let last = (first + self.random.below(5) as i64).min(self.history.records.len() as i64);
        if first > last {
            return Ok(false);
        }
        for zxid in first..=last {
            self.writer.append(Zxid(zxid), &self.history.body(Zxid(zxid)))?;
        }
        let stats = self.writer.commit()?;
        assert_eq!(stats.records as i64, last - first + 1);
        for record in &self.history.records[first as usize - 1..last as usize] {
            self.tree.apply(&record.header, record.txn.clone(), &mut Vec::new());
        }
        self.acknowledged = Zxid(last);
        Ok(true)
    }
}

/// Whatever happened before, the directory is whole: all that was acknowledged is there, and nothing half.
pub fn assert_sound(disk: &SimDisk, history: &History, acknowledged: Zxid, context: &str) -> Zxid {
    let Recovered { tree, report, .. } =
        start(disk).unwrap_or_else(|error| panic!("{context}: acknowledged {acknowledged}, but: {error}"));
    let zxid = tree.last_zxid();
    assert!(zxid >= acknowledged, "{context}: {acknowledged} was acknowledged, {zxid} is there\n{report}");
    assert_eq!(tree.digest(), history.digests[zxid.0 as usize], "{context}: the tree at {zxid}\n{report}");
    assert_eq!(report.digest_mismatches, 0, "{context}\n{report}");
    assert!(report.strays.is_empty(), "{context}\n{report}");
    zxid
}
