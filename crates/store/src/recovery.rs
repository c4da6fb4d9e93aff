//! From the files to the tree.
//!
//! What always holds: the tree is exactly the newest usable snapshot plus every record above it, without a gap; or nothing is returned.
//! Records that were acknowledged are never skipped in silence: reading a log may end early only where a write was under way when the
//! power went. What such a write left behind is cut off, with a copy kept beside the log.
//!
//! Here it is decided from which snapshot; `recovery/replay.rs` applies the logs to it, `recovery/log_end.rs` judges where they end.
//!
//! Counterpart in the original: `FileTxnSnapLog.restore`. It ends a log at the first record without an end mark, wherever that is, and
//! accepts missing files; this one doesn't.

mod log_end;
mod replay;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rookeeper_proto::{TtlEncoding, Zxid};
use rookeeper_tree::{Tree, TreeBuilder};
use tracing::warn;

use self::log_end::Cut;
use self::replay::{Replay, before};
use crate::directories::Directories;
use crate::disk::Disk;
use crate::error::{self, Result, StoreError};
use crate::log_reader::{LogReader, Next};
use crate::names::{self, Compression, Listing};
use crate::report::{LogEnd, LogReport, Origin, RecoveryReport};
use crate::snapshot_reader::{self, LoadedSnapshot, SnapshotInfo};
use crate::{epoch_files, snapshot_file, truncate};

/// More snapshots than this are not tried.
const MAX_SNAPSHOTS: usize = 100;

/// What recovery may accept and change.
#[derive(Debug, Clone, Copy)]
pub struct RecoveryOptions {
    /// `jute.maxbuffer` plus its extra size: the largest record, in bytes.
    pub max_record_bytes: usize,
    /// `snapshot.trust.empty`: logs without a snapshot are a whole history.
    pub trust_empty_snapshot: bool,
    /// `db.autocreate`: an empty directory is an empty database. Otherwise it is that beside a file `initialize` only, and without one
    /// [`Recovered::last`] is `None`.
    pub db_autocreate: bool,
    /// `snapshot.trust.partial`: a snapshot that was taken while the tree changed is a history also without the log of that time. No member
    /// of an ensemble may take it for one: others could have the same transactions with other effects.
    pub trust_partial_snapshot: bool,
    /// Whether unfinished files are removed and torn ends cut off. False for looking only.
    pub clean_up: bool,
    /// Where to stop; `None` for the end of the history.
    pub until: Option<Until>,
    /// For the tables of the tree. A server takes a secret one: paths come from clients, who could otherwise choose such that collide.
    pub seed: u64,
    /// Which nodes have a time to live. A node that is taken for an ephemeral one of a session that is not there goes at the end.
    pub ttl_encoding: TtlEncoding,
}

/// A place in the history at which to stop, for somebody who goes back to it. Nothing but the state at exactly this transaction counts then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Until {
    /// The last transaction that counts.
    pub zxid: Zxid,
    /// No snapshot that was begun behind this transaction is used.
    pub newest_snapshot: Zxid,
}

impl Until {
    /// The shortest way to a transaction: from the newest snapshot that was whole by then.
    pub fn at(zxid: Zxid) -> Until {
        Until { zxid, newest_snapshot: zxid }
    }
}

impl Default for RecoveryOptions {
    fn default() -> Self {
        RecoveryOptions {
            max_record_bytes: crate::MAX_RECORD_BYTES,
            trust_empty_snapshot: false,
            trust_partial_snapshot: false,
            db_autocreate: true,
            clean_up: true,
            until: None,
            seed: 0,
            ttl_encoding: TtlEncoding::Current,
        }
    }
}

/// A database, as of its last transaction.
#[derive(Debug)]
pub struct Recovered {
    pub tree: Tree,
    /// The end of the history, which is the tree's. `None` where the tree is empty and nobody vouched for that: the disk may have been lost
    /// that held the history, so a member with it must not be counted, and nothing may be written that hides the loss from a later start.
    pub last: Option<Zxid>,
    pub report: RecoveryReport,
    pub load_times: LoadTimes,
}

/// How long the reading took, also of what could not be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadTimes {
    pub snapshots: Duration,
    pub log: Duration,
}

/// Reads the database and puts the directories in order. A database that begins now needs its first snapshot next, and then
/// [`use_up_permissions`].
pub fn recover(disk: &dyn Disk, directories: &Directories, options: &RecoveryOptions) -> Result<Recovered> {
    if options.until.is_some() && options.clean_up {
        return Err(StoreError::Misuse("what lies behind the place to stop at is not to be removed".to_owned()));
    }
    if options.clean_up {
        truncate::finish(disk, directories)?;
    } else if truncate::is_unfinished(disk, directories)? {
        return Err(StoreError::Damaged {
            path: directories.snapshot_dir.clone(),
            offset: None,
            problem: "a leader's demand to give up a part of the history was being carried out".to_owned(),
            remedy: "start the server, which finishes that".to_owned(),
        });
    }
    let snapshots = Listing::read(disk, &directories.snapshot_dir)?;
    let same_dir = directories.snapshot_dir == directories.log_dir;
    let logs = if same_dir { snapshots.clone() } else { Listing::read(disk, &directories.log_dir)? };
    let mut report = RecoveryReport::default();
    let mut dirs = vec![(&directories.snapshot_dir, &snapshots)];
    if !same_dir {
        dirs.push((&directories.log_dir, &logs));
    }
    for (dir, listing) in dirs {
        report.strays.extend(listing.strays.iter().map(|name| dir.join(name)));
        report.removed_files.extend(listing.temporaries.iter().map(|name| dir.join(name)));
    }
    let recovery = Recovery {
        disk,
        directories,
        options,
        snapshots,
        logs: logs.logs,
        spoilt: None,
        torn: None,
        report,
        load_times: LoadTimes::default(),
    };
    let recovered = recovery.run()?;
    for warning in recovered.report.warnings() {
        warn!("{warning}");
    }
    Ok(recovered)
}

/// Removes the permission to begin empty, durably. It is for one database: left behind, the permission would make up for a disk that is lost
/// years later. Call this when the first snapshot of a new database is on disk. Earlier is too early: a crash between the two would leave
/// neither a database nor the permission to begin one.
pub fn use_up_permissions(disk: &dyn Disk, directories: &Directories) -> Result<()> {
    for path in permissions(disk, directories) {
        disk.remove(&path).map_err(|error| StoreError::disk("remove", &path, error))?;
        let dir = path.parent().unwrap_or(&path);
        disk.sync_dir(dir).map_err(|error| StoreError::disk("sync", dir, error))?;
    }
    Ok(())
}

/// The files by which the operator says that an empty database is expected. The documentation of the original names one place, its code looks
/// in the other.
fn permissions(disk: &dyn Disk, directories: &Directories) -> Vec<PathBuf> {
    let Directories { data_dir, data_log_dir, .. } = directories;
    let mut paths = vec![data_dir.join(epoch_files::INITIALIZE)];
    if data_log_dir != data_dir {
        paths.push(data_log_dir.join(epoch_files::INITIALIZE));
    }
    paths.retain(|path| disk.exists(path));
    paths
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    directories: &'a Directories,
    options: &'a RecoveryOptions,
    snapshots: Listing,
    /// Oldest first.
    logs: Vec<Zxid>,
    /// The newest snapshot that was passed over, of those that were whole once and of those that were perhaps never written to their end.
    spoilt: Option<(Zxid, Compression)>,
    torn: Option<(Zxid, Compression)>,
    report: RecoveryReport,
    load_times: LoadTimes,
}

impl Recovery<'_> {
    fn run(mut self) -> Result<Recovered> {
        self.drop_logs_without_records()?;
        let mut first_damage = None;
        for (zxid, compression) in self.candidates()? {
            let name = names::snapshot(zxid, compression);
            let problem = match self.try_snapshot(zxid, compression) {
                Ok(recovered) => return Ok(recovered),
                Err(Attempt::Refused(error)) => return Err(error),
                Err(Attempt::SkipSnapshot(problem)) => problem,
            };
            self.spoilt = self.spoilt.or_else(|| shows_changes(zxid, compression));
            self.report.skipped_snapshots.push((name, problem.to_string()));
            first_damage.get_or_insert(problem);
        }
        // A snapshot that can't be used stood for something, unless the very first start was cut off while it wrote an empty one.
        if let Some(error) = first_damage {
            return Err(error);
        }
        let lost = self.snapshots.snapshots.iter().find(|(zxid, _)| *zxid != Zxid::ZERO);
        match (self.logs.last(), lost) {
            (None, None) => self.empty(),
            (Some(_), _) if self.options.trust_empty_snapshot => self.logs_alone(),
            (Some(log), _) => {
                let problem = format!(
                    "there is no usable snapshot, but {}: without a snapshot nobody can tell whether the logs are the whole history",
                    names::log(*log)
                );
                Err(StoreError::Damaged {
                    path: self.directories.snapshot_dir.clone(),
                    offset: None,
                    problem,
                    remedy: format!(
                        "restore the snapshot. {} If this is the data of a server before 3.5 that never wrote one, start once with \
                         snapshot.trust.empty=true",
                        error::FETCH_ANEW
                    ),
                })
            }
            (None, Some((zxid, compression))) => {
                let path = self.directories.snapshot_dir.join(names::snapshot(*zxid, *compression));
                Err(StoreError::damaged(
                    &path,
                    None,
                    "the snapshot is not whole, and there is neither another one nor a log",
                ))
            }
        }
    }

    /// Trailing files that were created and never got a record say nothing, and their names would be in the way of later ones.
    fn drop_logs_without_records(&mut self) -> Result<()> {
        while let Some(newest) = self.logs.last() {
            let path = self.log_path(*newest);
            let mut reader = LogReader::open(self.disk, &path, self.options.max_record_bytes)?;
            if !matches!(reader.next_record()?, Next::End { .. })
                || reader.tail(0, before(*newest))?.record_at.is_some()
            {
                break;
            }
            self.report.logs.push(LogReport {
                name: names::log(*newest),
                records: 0,
                replayed: 0,
                end: LogEnd::NoRecords,
            });
            self.report.removed_files.push(path);
            self.logs.pop();
        }
        Ok(())
    }

    fn log_path(&self, zxid: Zxid) -> PathBuf {
        self.directories.log_dir.join(names::log(zxid))
    }

    /// The snapshots worth reading, newest first.
    fn candidates(&mut self) -> Result<Vec<(Zxid, Compression)>> {
        let mut candidates = Vec::new();
        let newest = self.options.until.map(|until| until.newest_snapshot);
        for (zxid, compression) in
            self.snapshots.snapshots.iter().filter(|(zxid, _)| newest.is_none_or(|newest| *zxid <= newest))
        {
            let name = names::snapshot(*zxid, *compression);
            let path = self.directories.snapshot_dir.join(&name);
            let whole = snapshot_file::looks_whole(self.disk, &path, *compression)
                .map_err(|error| StoreError::disk("read", &path, error))?;
            if whole {
                candidates.push((*zxid, *compression));
            } else {
                self.torn = self.torn.or_else(|| shows_changes(*zxid, *compression));
                self.report.skipped_snapshots.push((name, "it was not written to its end".to_owned()));
            }
        }
        candidates.truncate(MAX_SNAPSHOTS);
        Ok(candidates)
    }

    fn try_snapshot(&mut self, zxid: Zxid, compression: Compression) -> std::result::Result<Recovered, Attempt> {
        let (dir, begin) = (&self.directories.snapshot_dir, Instant::now());
        let loaded = snapshot_reader::load_into(
            TreeBuilder::with_seed(self.options.seed).reading(self.options.ttl_encoding),
            self.disk,
            dir,
            zxid,
            compression,
            self.options.max_record_bytes,
        );
        self.load_times.snapshots += begin.elapsed();
        let LoadedSnapshot { mut tree, info } = loaded.map_err(Attempt::skip_if_damaged)?;
        if let Some(until) = self.options.until.filter(|until| info.complete_at(zxid) > until.zxid) {
            let path = dir.join(names::snapshot(zxid, compression));
            return Err(Attempt::SkipSnapshot(holds_later(&path, info.complete_at(zxid), until.zxid)));
        }
        let replay = self.replay(&mut tree, &info).map_err(Attempt::Refused)?;
        let path = dir.join(names::snapshot(zxid, compression));
        let complete_at = info.complete_at(zxid);
        let (last, nodes) = (tree.last_zxid(), info.nodes);
        if let Some(until) = self.options.until.filter(|until| last != until.zxid) {
            return Err(Attempt::Refused(not_reached(&path, until.zxid, last)));
        }
        if let Some(newer) = self.shown_by(last, replay.replayed) {
            let problem = format!(
                "it and the logs lead to {last} only, but {}, which can't be used, shows that there was more",
                names::snapshot(newer.0, newer.1)
            );
            return Err(Attempt::SkipSnapshot(StoreError::damaged(&path, None, problem)));
        }
        if last < complete_at {
            // With a log that ends within that time something is lost that was here, and not only left out of a backup.
            if last > zxid || !self.options.trust_partial_snapshot {
                return Err(Attempt::SkipSnapshot(partial(&path, complete_at, last)));
            }
            // Numbers that were used are not used again.
            tree.set_last_zxid(complete_at);
            self.report.partial_since = Some(zxid);
        }
        self.finish(tree, replay, Origin::Snapshot { name: names::snapshot(zxid, compression), nodes }, &path)
    }

    /// A snapshot that can't be used and still shows that the history went further than `last`. The original may begin to write one before
    /// its own log has got so far, so a torn one shows that only where no log leads on at all.
    fn shown_by(&self, last: Zxid, replayed: u64) -> Option<(Zxid, Compression)> {
        let torn = self.torn.filter(|_| replayed == 0);
        [self.spoilt, torn].into_iter().flatten().find(|(zxid, _)| *zxid > last)
    }

    fn logs_alone(mut self) -> Result<Recovered> {
        let mut tree = Tree::with_seed(self.options.seed).reading(self.options.ttl_encoding);
        let replay = self.replay(&mut tree, &SnapshotInfo::default())?;
        let dir = self.directories.snapshot_dir.clone();
        if let Some(until) = self.options.until.filter(|until| tree.last_zxid() != until.zxid) {
            return Err(not_reached(&dir, until.zxid, tree.last_zxid()));
        }
        self.finish(tree, replay, Origin::LogsAlone, &dir).map_err(Attempt::into_error)
    }

    fn empty(mut self) -> Result<Recovered> {
        let expected = self.options.db_autocreate || !permissions(self.disk, self.directories).is_empty();
        let tree = Tree::with_seed(self.options.seed).reading(self.options.ttl_encoding);
        let (dir, nothing) = (self.directories.snapshot_dir.clone(), Replay::default());
        self.finish(tree, nothing, Origin::Empty { expected }, &dir).map_err(Attempt::into_error)
    }

    /// The tree is complete: puts it and the directories in order.
    fn finish(
        &mut self,
        mut tree: Tree,
        replay: Replay,
        origin: Origin,
        path: &Path,
    ) -> std::result::Result<Recovered, Attempt> {
        let cleanup = tree.finish_replay();
        // A list that was new while the snapshot was taken is in the log of that time. Without it the node is for nobody.
        let is_partial = self.report.partial_since.is_some();
        if let Some(node) = cleanup.unknown_acls.first().filter(|_| !is_partial) {
            let problem = format!("neither it nor the log has the access control list of {node:?}");
            return Err(Attempt::SkipSnapshot(StoreError::damaged(path, None, problem)));
        }
        let mut report = std::mem::take(&mut self.report);
        report.origin = origin;
        report.last_zxid = tree.last_zxid();
        report.replayed = replay.replayed;
        report.repeated_errors = replay.repeated;
        report.digests_checked = replay.digests.checked;
        report.digest_mismatches = replay.digests.mismatches;
        report.first_mismatch = replay.digests.first_mismatch;
        report.end_is_compared = replay.digests.end_is_compared;
        report.closed_nodes = cleanup.unknown_acls;
        report.removed_ephemerals = cleanup.removed_ephemerals;
        report.membership_before = replay.membership_before;
        // Files without records were found first, but are the newest.
        let without_records = std::mem::replace(&mut report.logs, replay.logs);
        report.logs.extend(without_records.into_iter().rev());
        if self.options.clean_up {
            self.clean_up(&replay.cuts, &report.removed_files).map_err(Attempt::Refused)?;
            if !matches!(report.origin, Origin::Empty { .. }) {
                use_up_permissions(self.disk, self.directories).map_err(Attempt::Refused)?;
            }
        }
        let is_vouched_for = !matches!(report.origin, Origin::Empty { expected: false });
        let last = tree.last_zxid().known().filter(|_| is_vouched_for);
        Ok(Recovered { tree, last, report, load_times: self.load_times })
    }

    fn clean_up(&self, cuts: &[Cut], unfinished: &[PathBuf]) -> Result<()> {
        let remove = |path: &Path| self.disk.remove(path).map_err(|error| StoreError::disk("remove", path, error));
        for path in unfinished {
            remove(path)?;
        }
        for cut in cuts {
            match cut {
                Cut::Remove(path) => remove(path)?,
                Cut::Settle(settlement) => settlement.carry_out(self.disk)?,
            }
        }
        // Also where nothing was changed: a disk that failed may have kept a name from being durable, of an epoch file or a snapshot, and the
        // process before this one ended for it. What is found now is counted on.
        for dir in [&self.directories.snapshot_dir, &self.directories.log_dir] {
            self.disk.sync_dir(dir).map_err(|error| StoreError::disk("sync", dir, error))?;
        }
        Ok(())
    }
}

/// Why a snapshot did not lead to a tree.
enum Attempt {
    /// An older one may.
    SkipSnapshot(StoreError),
    /// No other one helps.
    Refused(StoreError),
}

impl Attempt {
    fn skip_if_damaged(error: StoreError) -> Attempt {
        if error.is_damage() { Attempt::SkipSnapshot(error) } else { Attempt::Refused(error) }
    }

    fn into_error(self) -> StoreError {
        match self {
            Attempt::SkipSnapshot(error) | Attempt::Refused(error) => error,
        }
    }
}

/// The first snapshot of an epoch holds what the epoch before it ended with.
fn shows_changes(zxid: Zxid, compression: Compression) -> Option<(Zxid, Compression)> {
    (zxid.counter() > 0).then_some((zxid, compression))
}

fn holds_later(path: &Path, complete_at: Zxid, until: Zxid) -> StoreError {
    StoreError::Damaged {
        path: path.to_owned(),
        offset: None,
        problem: format!("it holds a part of the changes up to {complete_at}, so it can't lead to {until}"),
        remedy: "take an older snapshot and the logs from it on, or a later place in the history".to_owned(),
    }
}

fn not_reached(path: &Path, until: Zxid, last: Zxid) -> StoreError {
    StoreError::Damaged {
        path: path.to_owned(),
        offset: None,
        problem: format!("it and the logs lead to {last}, and transaction {until} is not there"),
        remedy: "name a transaction that is there, or take the files that hold it".to_owned(),
    }
}

fn partial(path: &Path, complete_at: Zxid, last: Zxid) -> StoreError {
    StoreError::Damaged {
        path: path.to_owned(),
        offset: None,
        problem: format!(
            "it holds a part of the changes up to {complete_at}, but the logs end at {last}: it was taken while the data changed, so the log \
             of that time is needed too"
        ),
        remedy: format!(
            "restore the log files of that time beside it. {} To restore a whole ensemble from this snapshot alone, start a standalone \
             server on a copy of it (no server.N lines; it says what may be missing), stop it, and give the newest snapshot it wrote, and \
             no other file, to the version-2 of every member",
            error::FETCH_ANEW
        ),
    }
}
