//! The logs over one snapshot: every record above it, in order and without a gap.
//!
//! What always holds: nothing is applied that does not follow what was applied before it; what a log says that can't be is an error, and
//! no record is skipped but those that the snapshot shows and errors that repeat a zxid.

use std::path::Path;
use std::time::Instant;

use rookeeper_proto::txn::Digest;
use rookeeper_proto::{Txn, TxnRecord, Zxid, path};
use rookeeper_tree::Tree;
use tracing::info;

use super::Recovery;
use super::log_end::{Cut, Stop};
use crate::error::{Result, StoreError};
use crate::log_reader::{LogReader, Next, repeats};
use crate::names;
use crate::report::{LogEnd, LogReport, RepeatedErrors};
use crate::snapshot_reader::SnapshotInfo;

/// The outcome of replaying the logs over one snapshot.
pub(super) struct Replay {
    pub logs: Vec<LogReport>,
    pub replayed: u64,
    pub repeated: RepeatedErrors,
    pub digests: Digests,
    /// The end of the log as it should be, where it isn't.
    pub cuts: Vec<Cut>,
    pub membership_before: Option<Vec<u8>>,
}

impl Recovery<'_> {
    /// Applies every record above the tree's zxid.
    pub(super) fn replay(&mut self, tree: &mut Tree, snapshot: &SnapshotInfo) -> Result<Replay> {
        let begin = Instant::now();
        let base = tree.last_zxid();
        let mut replay = Replay { digests: Digests::new(base, snapshot), ..Replay::default() };
        replay.digests.check_snapshot(tree);
        let mut first = self.logs.iter().rposition(|log| *log <= base).unwrap_or(0);
        // Nothing in that file is above the snapshot if the next one begins right there. The first of another epoch says nothing about
        // where the one before it ends; nor does a failed request, which may repeat the zxid of the record that is needed.
        if let Some(next) = self.logs.get(first + 1)
            && base.next() == Some(*next)
            && !self.begins_with_error(*next)?
        {
            first += 1;
        }
        let mut last = base;
        for (index, log) in self.logs.iter().enumerate().skip(first) {
            let is_newest = index + 1 == self.logs.len();
            if !self.replay_file(*log, is_newest, base, &mut last, tree, &mut replay)? {
                break;
            }
        }
        self.load_times.log += begin.elapsed();
        Ok(replay)
    }

    fn begins_with_error(&self, log: Zxid) -> Result<bool> {
        let mut reader = LogReader::open(self.disk, &self.log_path(log), self.options.max_record_bytes)?;
        Ok(matches!(reader.next_record()?, Next::Record { body, .. } if TxnRecord::is_error(body)))
    }

    /// False where what follows counts no more.
    fn replay_file(
        &self,
        log: Zxid,
        is_newest: bool,
        base: Zxid,
        last: &mut Zxid,
        tree: &mut Tree,
        replay: &mut Replay,
    ) -> Result<bool> {
        let path = self.log_path(log);
        let mut reader = LogReader::open(self.disk, &path, self.options.max_record_bytes)?;
        let (mut records, mut replayed) = (0, 0);
        let mut changes = Vec::new();
        let repeated = &mut replay.repeated;
        // The last record of this file, of whatever age, to recognise what may follow it.
        let mut previous = before(log);
        let (offset, fault) = loop {
            match reader.next_record()? {
                Next::End { offset } => break (offset, None),
                Next::Bad { offset, fault } => break (offset, Some(fault)),
                Next::Record { offset, zxid, body } => {
                    if records == 0 && zxid != log {
                        let problem = format!("its first transaction is {zxid}, which is not what its name says");
                        return Err(StoreError::damaged(&path, offset, problem));
                    }
                    if self.options.until.is_some_and(|until| zxid > until.zxid) {
                        replay.replayed += replayed;
                        replay.logs.push(LogReport { name: names::log(log), records, replayed, end: LogEnd::NotRead });
                        return Ok(false);
                    }
                    records += 1;
                    previous = previous.max(zxid);
                    if zxid <= base {
                        if zxid == base && self.options.until.is_some() {
                            // A snapshot that says nothing of its digest: the log does.
                            let digest = TxnRecord::decode(body).ok().and_then(|record| record.digest);
                            replay.digests.check_base(base, digest, tree);
                        }
                        if zxid < base || self.options.until.is_none_or(|until| until.zxid != base) {
                            continue;
                        }
                        replay.logs.push(LogReport { name: names::log(log), records, replayed, end: LogEnd::NotRead });
                        return Ok(false);
                    }
                    if repeats(*last, zxid, body) {
                        repeated.count(log, zxid);
                        continue;
                    }
                    if !zxid.follows(*last) {
                        return Err(gap(&path, offset, *last, zxid));
                    }
                    let TxnRecord { header, txn, digest } = TxnRecord::decode(body).map_err(|error| {
                        let problem = format!("transaction {zxid} is whole but makes no sense here: {error}");
                        StoreError::damaged(&path, offset, problem)
                    })?;
                    if matches!(txn, Txn::Reconfig { .. }) {
                        let node = tree.node(path::CONFIG);
                        replay.membership_before = node.and_then(|node| node.data()).map(<[u8]>::to_vec);
                    }
                    let is_change = !matches!(txn, Txn::Error { .. });
                    tree.apply(&header, txn, &mut changes);
                    changes.clear();
                    *last = zxid;
                    replayed += 1;
                    replay.digests.check(zxid, digest, is_change, tree);
                    if self.options.until.is_some_and(|until| until.zxid == zxid) {
                        replay.replayed += replayed;
                        replay.logs.push(LogReport { name: names::log(log), records, replayed, end: LogEnd::NotRead });
                        return Ok(false);
                    }
                }
            }
        };
        let end =
            self.judge_end(&mut reader, Stop { offset, fault, previous, records, is_newest }, &mut replay.cuts)?;
        replay.replayed += replayed;
        info!(log = %names::log(log), records, replayed, "read the transaction log");
        replay.logs.push(LogReport { name: names::log(log), records, replayed, end });
        Ok(true)
    }
}

impl Default for Replay {
    fn default() -> Self {
        let digests = Digests::new(Zxid::ZERO, &SnapshotInfo::default());
        Replay {
            logs: Vec::new(),
            replayed: 0,
            repeated: RepeatedErrors::default(),
            digests,
            cuts: Vec::new(),
            membership_before: None,
        }
    }
}

/// What a file named after `log` comes after.
pub(super) fn before(log: Zxid) -> Zxid {
    Zxid((log.0 - 1).max(0))
}

fn gap(path: &Path, offset: u64, last: Zxid, zxid: Zxid) -> StoreError {
    let problem = if zxid > last {
        format!("transaction {zxid} comes after {last}: transactions are missing in between, perhaps a whole file")
    } else {
        format!(
            "transaction {zxid} comes after {last}: the order is broken, perhaps this file is a copy of another one"
        )
    };
    StoreError::damaged(path, offset, problem)
}

/// Compares the tree with the digests that its writer recorded.
///
/// A snapshot that was taken while the tree changed equals no state the writer ever had, until the replay has passed its end.
pub(super) struct Digests {
    fuzzy_until: Zxid,
    at_end: Option<i64>,
    pub checked: u64,
    pub mismatches: u64,
    pub first_mismatch: Option<Zxid>,
    /// Whether the tree has been compared since it changed last.
    pub end_is_compared: bool,
}

impl Digests {
    fn new(base: Zxid, snapshot: &SnapshotInfo) -> Digests {
        let fuzzy_until = snapshot.complete_at(base);
        let digest = snapshot.digest.filter(|digest| digest.zxid == fuzzy_until);
        let at_end = digest.map(|digest| digest.digest.value);
        Digests { fuzzy_until, at_end, checked: 0, mismatches: 0, first_mismatch: None, end_is_compared: false }
    }

    fn check_snapshot(&mut self, tree: &Tree) {
        if tree.last_zxid() == self.fuzzy_until
            && let Some(digest) = self.at_end
        {
            self.compare(self.fuzzy_until, digest, tree);
        }
    }

    fn check_base(&mut self, base: Zxid, digest: Option<Digest>, tree: &Tree) {
        if !self.end_is_compared && base == self.fuzzy_until {
            self.check(base, digest, true, tree);
        }
    }

    fn check(&mut self, zxid: Zxid, digest: Option<Digest>, is_change: bool, tree: &Tree) {
        self.end_is_compared &= !is_change;
        if zxid == self.fuzzy_until
            && let Some(digest) = self.at_end
        {
            self.compare(zxid, digest, tree);
        } else if zxid >= self.fuzzy_until
            && let Some(digest) = digest.filter(|digest| digest.version == Digest::VERSION)
        {
            self.compare(zxid, digest.value, tree);
        }
    }

    fn compare(&mut self, zxid: Zxid, digest: i64, tree: &Tree) {
        self.checked += 1;
        self.end_is_compared = true;
        if digest != tree.digest() {
            self.mismatches += 1;
            self.first_mismatch.get_or_insert(zxid);
        }
    }
}
