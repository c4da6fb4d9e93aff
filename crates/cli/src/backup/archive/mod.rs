//! `rookeeper archive`: follows the data directory of a server and keeps everything that it writes, so that any moment can be restored.
//!
//! - `segments.rs`: what is in an archive
//!
//! Every record of the server's log is copied behind the one before it, and a snapshot from time to time. An archive is a backup that grows: `rookeeper
//! verify` and `rookeeper restore` take it at any time.
//!
//! What always holds: before records are added the last one of the archive is found again in the log of the server. Where it is not there any more, because a
//! leader had it cut off or a power cut took what was never acknowledged, the archive gives up the same. Where the server has removed
//! logs before they were copied, the archive goes on with a snapshot, and nothing can be restored to what lies between.

mod segments;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use rookeeper_proto::Zxid;
use rookeeper_store::log_copy::checksum;
use rookeeper_store::log_reader::{LogReader, Next};
use rookeeper_store::names::{self, Listing};
use rookeeper_store::{Compression, Directories, DirectoryLock, Disk, MAX_RECORD_BYTES, RealDisk, snapshot_reader};

pub(super) use self::segments::{GIVEN_UP, INCOMING, prefix_sum};
use self::segments::{Segments, may_be_archive};
use super::manifest::{Content, FileEntry};
use super::pace::PacedDisk;
use super::{failed, take};
use crate::print;
use crate::ttl_nodes::TtlNodes;

/// Records are made durable at the latest after this many bytes.
const SETTLE_BYTES: u64 = 16 << 20;

/// So often in a row something may be wrong with the server's files.
const PATIENCE: u32 = 30;

/// Without having come to the end of the server's log for so long, an archive says that it falls behind.
const LATE: Duration = Duration::from_secs(600);

/// How much an archive stands back behind a server on the same machine.
const NICENESS: i32 = 10;

/// The arguments of `rookeeper archive`.
#[derive(Args, Debug)]
pub struct Options {
    #[command(flatten)]
    source: take::Source,
    #[command(flatten)]
    ttl_nodes: TtlNodes,
    /// Copy what is there now, and end
    #[arg(long)]
    once: bool,
    /// How often the server's log is looked at
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    interval_ms: u64,
    /// How long a file of the archive's log becomes
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    segment_mib: u64,
    /// The least time between two snapshots that are copied
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    snapshot_minutes: u64,
    /// Remove what is needed for no moment of the last so many days; 0 keeps everything
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    keep_days: u32,
    /// How many MiB a second are written at most, so that the server's own writes come to the disk; 0 for as fast as it goes
    #[arg(long, value_name = "MIB_PER_SECOND", default_value_t = take::DEFAULT_RATE)]
    max_rate: u64,
    /// The archive: a directory that is not there, is empty, or is one
    #[arg(value_name = "ARCHIVE")]
    target: PathBuf,
}

/// Exit code 0: everything was copied that is there (`--once`); 1: something is wrong. Without `--once` it ends by a signal, at any moment.
pub fn main(options: &Options) -> u8 {
    // An archive should use the time that requests leave, not take theirs.
    let _ = rustix::process::nice(NICENESS);
    match run(options) {
        Ok(text) => u8::from(!print::result(&text)),
        Err(error) => failed("archive", &error),
    }
}

/// Follows, or copies once and says what is there.
pub fn run(options: &Options) -> Result<String> {
    let directories = options.source.directories()?;
    let target = &options.target;
    ensure!(
        !target.exists() || may_be_archive(target),
        "{} holds something else than an archive: name another directory",
        target.display()
    );
    RealDisk.create_dir(target).with_context(|| format!("can't create {}", target.display()))?;
    let _nobody_else_writes = DirectoryLock::acquire(target)?;
    let source = directories.data_dir.display().to_string();
    let disk = &PacedDisk::new(options.max_rate);
    let open = || Segments::open(disk, target, &source, options.segment_mib.max(1) << 20);
    let segments = open()?;
    let mut archive = Archive {
        disk,
        directories,
        segments,
        place: None,
        snapshot_every: Duration::from_secs(60 * options.snapshot_minutes),
        fetched: None,
        incoming: None,
        lateness: Lateness { since: Instant::now() },
        max_rate: options.max_rate,
        keep_ms: 24 * 3600 * 1000 * i64::from(options.keep_days),
    };
    archive.segments.manifest.head.emulate353_ttl_nodes = options.ttl_nodes.emulated(options.source.config());
    archive.segments.manifest.head.server = options.source.server(&RealDisk, &archive.directories);
    let mut failures = 0;
    loop {
        match archive.poll() {
            Ok(()) => failures = 0,
            Err(error) if options.once || failures == PATIENCE => return Err(error),
            // The server may have removed what was just read, or be about to replace its history.
            Err(error) => {
                failures += 1;
                print::complaint(&format_args!("rookeeper archive: {error:#}; it tries again"));
                archive.segments = open()?;
                (archive.place, archive.incoming) = (None, None);
            }
        }
        if options.once {
            let head = &archive.segments.manifest.head;
            let (files, first, last) = (archive.segments.manifest.files.len(), head.first_zxid, head.last_zxid);
            return Ok(format!(
                "{}: {files} files. It can be restored to any transaction from {first} to {last}",
                target.display()
            ));
        }
        std::thread::sleep(Duration::from_millis(options.interval_ms.max(1)));
    }
}

/// The last record that was copied, in the log of the server.
#[derive(Debug, Clone, Copy)]
struct Place {
    log: Zxid,
    /// Where the last record begins, with its zxid and checksum; none before the first of a file.
    last: Option<(u64, Zxid, u64)>,
    /// What the next record must follow, if it is known.
    after: Option<Zxid>,
    /// Whether the next record follows what is not in the archive.
    begins: bool,
}

struct Archive<'a> {
    disk: &'a dyn Disk,
    directories: Directories,
    segments: Segments<'a>,
    place: Option<Place>,
    snapshot_every: Duration,
    /// When a snapshot was copied last, and which.
    fetched: Option<(Instant, Zxid)>,
    /// A snapshot that counts when the log has got as far.
    incoming: Option<FileEntry>,
    lateness: Lateness,
    max_rate: u64,
    keep_ms: i64,
}

/// How long an archive has not been where the server's log ends.
#[derive(Debug)]
struct Lateness {
    since: Instant,
}

impl Lateness {
    /// Whether it is time to say so, again.
    fn is_to_be_told(&mut self, now: Instant) -> bool {
        let is_late = now.saturating_duration_since(self.since) >= LATE;
        if is_late {
            self.since = now;
        }
        is_late
    }
}

impl Archive<'_> {
    /// Copies what has come since.
    fn poll(&mut self) -> Result<()> {
        self.fetch_snapshot()?;
        let place = match self.place {
            Some(place) if self.is_still_there(place)? => place,
            _ => self.find_place()?,
        };
        self.lateness.since = Instant::now();
        self.place = Some(self.follow(place)?);
        self.segments.settle()?;
        self.add_snapshot()?;
        if self.keep_ms > 0 {
            let now = jiff::Timestamp::now().as_millisecond();
            let removed = self.segments.prune(now - self.keep_ms)?;
            if removed > 0 {
                print::complaint(&format_args!("rookeeper archive: {removed} files were removed that are too old"));
            }
        }
        Ok(())
    }

    fn snapshots(&self) -> Result<Vec<(Zxid, Compression)>> {
        let found = Listing::read(self.disk, &self.directories.snapshot_dir)?;
        ensure!(
            found.truncations.is_empty() && found.installations.is_empty(),
            "the history in {} is being cut or replaced: try again when the server has done that",
            self.directories.snapshot_dir.display()
        );
        Ok(found.snapshots)
    }

    fn logs(&self) -> Result<Vec<Zxid>> {
        Ok(Listing::read(self.disk, &self.directories.log_dir)?.logs)
    }

    /// The newest snapshot, if it is time for one.
    fn fetch_snapshot(&mut self) -> Result<()> {
        let is_due = self.fetched.is_none_or(|(at, _)| at.elapsed() >= self.snapshot_every);
        if is_due && self.incoming.is_none() {
            self.fetch_newest()?;
        }
        Ok(())
    }

    fn fetch_newest(&mut self) -> Result<()> {
        let newest_here = self.segments.manifest.snapshots().next_back().map(|(_, snapshot)| snapshot.zxid);
        let dir = self.directories.snapshot_dir.clone();
        for (zxid, compression) in self.snapshots()? {
            if newest_here.is_some_and(|here| zxid <= here) {
                break;
            }
            if snapshot_reader::verify(self.disk, &dir, zxid, compression, MAX_RECORD_BYTES).is_err() {
                continue;
            }
            // The server may remove it at this moment; there is a newer one then, for the next time.
            if let Ok(entry) = self.segments.fetch_snapshot(&dir, zxid, compression) {
                self.incoming = Some(entry);
                self.fetched = Some((Instant::now(), zxid));
                break;
            }
        }
        Ok(())
    }

    /// Lets a snapshot count once the log makes it whole.
    fn add_snapshot(&mut self) -> Result<()> {
        let last = self.segments.manifest.logs().next_back().map(|(_, log)| log.last);
        let is_whole = |entry: &FileEntry| match entry.content {
            Content::Snapshot(snapshot) => {
                snapshot.zxid == snapshot.complete_at || last.is_some_and(|last| last >= snapshot.complete_at)
            }
            Content::Log(_) => false,
        };
        if self.incoming.as_ref().is_some_and(is_whole)
            && let Some(entry) = self.incoming.take()
        {
            self.segments.add_snapshot(entry)?;
        }
        Ok(())
    }

    /// Whether the server still has the record that was copied last.
    fn is_still_there(&self, place: Place) -> Result<bool> {
        let path = self.directories.log_dir.join(names::log(place.log));
        let Some((offset, zxid, sum)) = place.last else { return Ok(self.disk.exists(&path)) };
        if !self.disk.exists(&path) {
            return Ok(false);
        }
        let mut reader = LogReader::open(self.disk, &path, MAX_RECORD_BYTES)?;
        reader.go_to(offset);
        Ok(
            matches!(reader.next_record()?, Next::Record { zxid: found, body, .. } if found == zxid && checksum(body) == sum),
        )
    }

    /// Where to go on in the log of the server.
    fn find_place(&mut self) -> Result<Place> {
        let logs = self.logs()?;
        let Some((last, sum)) = self.segments.last()? else { return self.begin(&logs, None) };
        for log in logs.iter().rev().filter(|log| **log <= last) {
            let (offsets, records) = self.records(*log, last)?;
            let place = |zxid: Zxid, sum: u64| Place {
                log: *log,
                last: offsets.get(&zxid).map(|offset| (*offset, zxid, sum)),
                after: Some(zxid),
                begins: false,
            };
            if records.get(&last) == Some(&sum) {
                return Ok(place(last, sum));
            }
            let is_there = |zxid: Zxid, sum: u64| records.get(&zxid) == Some(&sum);
            if let Some(kept) = self.segments.cut(&is_there)? {
                self.incoming = None;
                print::complaint(&format_args!(
                    "rookeeper archive: the server has given up what came after {kept}, up to {last}, and so does the archive; a copy is in its directory {GIVEN_UP}"
                ));
                return Ok(place(kept, records.get(&kept).copied().unwrap_or_default()));
            }
        }
        match logs.first() {
            // Nothing was lost: the log goes on where the archive ends.
            Some(first) if last.next() == Some(*first) => {
                Ok(Place { log: *first, last: None, after: Some(last), begins: false })
            }
            _ => self.begin(&logs, Some(last)),
        }
    }

    /// Where each record of a log begins, and its checksum, up to a transaction.
    fn records(&self, log: Zxid, up_to: Zxid) -> Result<(HashMap<Zxid, u64>, HashMap<Zxid, u64>)> {
        let (mut offsets, mut sums) = (HashMap::new(), HashMap::new());
        let mut reader = LogReader::open(self.disk, &self.directories.log_dir.join(names::log(log)), MAX_RECORD_BYTES)?;
        while let Next::Record { offset, zxid, body } = reader.next_record()? {
            if zxid > up_to {
                break;
            }
            offsets.insert(zxid, offset);
            sums.insert(zxid, checksum(body));
        }
        Ok((offsets, sums))
    }

    /// Begins with the newest snapshot and the log that leads on from it. `last`: what the archive holds that does not lead there.
    fn begin(&mut self, logs: &[Zxid], last: Option<Zxid>) -> Result<Place> {
        if self.incoming.is_none() {
            self.fetch_newest()?;
        }
        let newest = self.incoming.as_ref().and_then(|entry| match entry.content {
            Content::Snapshot(snapshot) => Some(snapshot.zxid),
            Content::Log(_) => None,
        });
        let newest =
            newest.or_else(|| self.segments.manifest.snapshots().next_back().map(|(_, snapshot)| snapshot.zxid));
        let newest = newest.with_context(|| {
            format!("{} has no snapshot that can be used: see rookeeper check", self.directories.snapshot_dir.display())
        })?;
        let log = logs.iter().rev().find(|log| **log <= newest).or_else(|| logs.iter().find(|log| log.follows(newest)));
        if let Some(last) = last {
            let first = log.copied().unwrap_or(newest);
            ensure!(
                first > last && newest > last,
                "the server's history is not the one that is in the archive, which ends with {last}: was its data directory replaced? Begin another archive"
            );
            print::complaint(&format_args!(
                "rookeeper archive: what the server did after {last} is not in its log any more; the archive goes on with its snapshot of {newest}, and \
                 can't be restored to what lies between"
            ));
        }
        let after = log.is_none().then_some(newest);
        Ok(Place { log: log.copied().unwrap_or(newest), last: None, after, begins: true })
    }

    /// Copies records to the end of the log. Returns where that is.
    fn follow(&mut self, mut place: Place) -> Result<Place> {
        loop {
            let path = self.directories.log_dir.join(names::log(place.log));
            if self.disk.exists(&path) {
                place = self.follow_file(&path, place)?;
            }
            // A record that is not whole is being written, or is where the server was stopped: then another file follows.
            let next =
                self.logs()?.into_iter().find(|log| *log > place.log && place.after.is_none_or(|after| *log > after));
            match (next, place.after) {
                (None, _) => return Ok(place),
                (Some(next), Some(after)) if !next.follows(after) => {
                    // It may have been there for a moment only. If not, a snapshot has taken the place of what lies between.
                    let newer = self
                        .snapshots()?
                        .into_iter()
                        .any(|(zxid, _)| zxid > after && (next <= zxid || next.follows(zxid)));
                    if !newer {
                        bail!(
                            "{} does not follow {after}, the last transaction before it: see rookeeper check",
                            self.directories.log_dir.join(names::log(next)).display()
                        );
                    }
                    self.segments.settle()?;
                    self.incoming = None;
                    let logs = self.logs()?;
                    place = self.begin(&logs, Some(after))?;
                }
                (Some(next), _) => place = Place { log: next, last: None, ..place },
            }
        }
    }

    fn follow_file(&mut self, path: &Path, mut place: Place) -> Result<Place> {
        let mut reader = LogReader::open(self.disk, path, MAX_RECORD_BYTES)?;
        if let Some((offset, ..)) = place.last {
            reader.go_to(offset);
            reader.next_record()?;
        }
        let mut unsettled = 0;
        while let Next::Record { offset, zxid, body } = reader.next_record()? {
            // The original may log a failed request with the zxid of the record before it.
            if place.after == Some(zxid) && rookeeper_proto::TxnRecord::is_error(body) {
                continue;
            }
            if let Some(after) = place.after {
                ensure!(
                    zxid.follows(after),
                    "{}, offset {offset}: transaction {zxid} comes after {after}: see rookeeper check",
                    path.display()
                );
            }
            self.segments.append(zxid, body, place.begins)?;
            unsettled += body.len() as u64;
            place = Place { last: Some((offset, zxid, checksum(body))), after: Some(zxid), begins: false, ..place };
            if unsettled >= SETTLE_BYTES {
                self.segments.settle()?;
                unsettled = 0;
                if self.lateness.is_to_be_told(Instant::now()) {
                    print::complaint(&format_args!("rookeeper archive: {}", falls_behind(zxid, self.max_rate)));
                }
            }
        }
        Ok(place)
    }
}

fn falls_behind(zxid: Zxid, max_rate: u64) -> String {
    let why = match max_rate {
        0 => "the archive's disk does not take more".to_owned(),
        rate => format!("it may write {rate} MiB a second (--max-rate)"),
    };
    format!(
        "after {} minutes of copying without a pause it has got to transaction {zxid}, and the server's log goes on: {why}. Should the server write faster than \
         that for long, it removes logs before they are copied",
        LATE.as_secs() / 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_late_says_so_once_in_ten_minutes() {
        let begin = Instant::now();
        let mut lateness = Lateness { since: begin };
        let told: Vec<u64> =
            (0..=25).filter(|minute| lateness.is_to_be_told(begin + Duration::from_secs(60 * minute))).collect();
        assert_eq!(told, [10, 20]);
        assert!(falls_behind(Zxid(5), 16).contains("0x5, and the server's log goes on: it may write 16 MiB a second"));
        assert!(falls_behind(Zxid(5), 0).contains("the archive's disk does not take more"));
    }
}
