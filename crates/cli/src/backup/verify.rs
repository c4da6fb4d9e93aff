//! `rookeeper verify`: proves a backup without a server.
//!
//! First every byte, by the checksums of the manifest; then every file, by its own form and seals; then the history: everything from the oldest
//! snapshot on is replayed, each transaction compared with the digest that the server has recorded, and the end with that of the manifest.
//!
//! What always holds: nothing is changed; what is not in the manifest is no part of a backup, and tells that somebody was there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use rookeeper_proto::{TtlEncoding, TxnRecord, Zxid};
use rookeeper_store::log_reader::{LogReader, Next};
use rookeeper_store::names::FileName;
use rookeeper_store::{
    Directories, Disk, LogEnd, MAX_RECORD_BYTES, RealDisk, RecoveryOptions, RecoveryReport, Until, names, recover,
};
use rookeeper_tree::Tree;

use super::archive::{GIVEN_UP, INCOMING, prefix_sum};
use super::manifest::{self, Content, FileEntry, Kind, LogContent, Manifest, SnapshotContent};
use super::{VERSION_DIR, copy, failed, seed, when};
use crate::print;

/// The arguments of `rookeeper verify`.
#[derive(Args, Debug)]
pub struct Options {
    /// A directory that `rookeeper backup` has made
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,
}

/// Exit code 0: the backup is as it was taken, and can be restored; 1: it is not, or that can't be told.
pub fn main(options: &Options) -> u8 {
    match prove(&RealDisk, &options.backup) {
        Ok(text) => u8::from(!print::result(&text)),
        Err(error) => failed("verify", &error),
    }
}

/// Proves a backup, and says what is in it.
pub fn prove(disk: &dyn Disk, backup: &Path) -> Result<String> {
    let manifest = files(disk, backup)?;
    let head = &manifest.head;
    let mut ends = Vec::new();
    for run in runs(&manifest)? {
        ends.push(replay(disk, backup, head.ttl_encoding(), run.snapshot, run.last)?);
    }
    let replayed: u64 = ends.iter().map(|(_, report)| report.replayed).sum();
    let digests: u64 = ends.iter().map(|(_, report)| report.digests_checked).sum();
    let gaps = match ends.len() {
        1 => String::new(),
        runs => format!(", but for {} gaps", runs - 1),
    };
    let (tree, report) = ends.pop().context("there is no snapshot")?;
    compare(&manifest, &tree)?;
    let compared = if report.end_is_compared { "as the server recorded it" } else { "the server recorded none" };
    Ok(format!(
        "{}: sound. Taken {} from {}{}; {} files as they were; {} transactions replayed to {}, {} digests compared; {} nodes, digest {} ({compared}). \
         It can be restored to any transaction from {} to {}{gaps}",
        backup.display(),
        head.taken,
        head.source,
        head.server.as_ref().map(|server| format!(" ({server})")).unwrap_or_default(),
        manifest.files.len(),
        replayed,
        head.last_zxid,
        digests,
        tree.node_count(),
        tree.digest(),
        head.first_zxid,
        head.last_zxid
    ))
}

/// A part of a backup without a gap: the oldest snapshot that leads into it, and where it ends.
struct Run {
    snapshot: Zxid,
    last: Zxid,
}

/// All parts that can be restored. A backup is one; an archive has another behind each gap.
fn runs(manifest: &Manifest) -> Result<Vec<Run>> {
    let mut logs: Vec<(Zxid, Zxid)> = Vec::new();
    for (_, log) in manifest.logs() {
        match logs.last_mut() {
            Some((_, last)) if log.first.follows(*last) => *last = log.last,
            _ => logs.push((log.first, log.last)),
        }
    }
    let mut runs = Vec::new();
    for (first, last) in logs {
        let leads_on = |snapshot: &SnapshotContent| {
            (snapshot.zxid >= first || first.follows(snapshot.zxid)) && snapshot.complete_at <= last
        };
        let snapshot = manifest.snapshots().map(|(_, snapshot)| snapshot).find(leads_on);
        if let Some(snapshot) = snapshot {
            runs.push(Run { snapshot: snapshot.zxid, last });
        }
    }
    let (_, newest) = manifest.snapshots().next_back().context("there is no snapshot")?;
    if runs.last().is_none_or(|run| run.last < newest.zxid) {
        runs.push(Run { snapshot: newest.zxid, last: newest.complete_at });
    }
    Ok(runs)
}

/// Whether the end of a backup is the state that it was taken of.
pub(super) fn compare(manifest: &Manifest, tree: &Tree) -> Result<()> {
    let head = &manifest.head;
    let expected = head.digest.unwrap_or(tree.digest());
    ensure!(
        tree.digest() == expected && head.nodes.unwrap_or(tree.node_count() as u64) == tree.node_count() as u64,
        "what the backup leads to at {} is not what it was taken of: the digest is {}, not {expected}. Another version of rookeeper may have taken \
         it; use that one, or another backup",
        head.last_zxid,
        tree.digest()
    );
    Ok(())
}

/// Reads the manifest and every byte of every file.
pub(super) fn files(disk: &dyn Disk, backup: &Path) -> Result<Manifest> {
    let manifest = Manifest::read(disk, backup)?;
    let dir = backup.join(VERSION_DIR);
    let mut expected: BTreeSet<&str> = BTreeSet::new();
    for file in &manifest.files {
        ensure!(expected.insert(&file.file), "{} is in the manifest twice", file.file);
    }
    let grows = manifest.head.kind == Kind::Archive;
    strangers(disk, backup, |name| {
        name == manifest::NAME || name == VERSION_DIR || (grows && OF_AN_ARCHIVE.contains(&name.as_str()))
    })?;
    strangers(disk, &dir, |name| expected.contains(name.as_str()) || (grows && is_newer(&manifest, name)))?;
    for look in [sum, content] {
        for file in &manifest.files {
            look(disk, manifest.head.kind, &dir, file)
                .with_context(|| format!("{} is damaged: use another backup", dir.join(&file.file).display()))?;
        }
    }
    Ok(manifest)
}

/// Refuses what does not belong to a backup.
fn strangers(disk: &dyn Disk, dir: &Path, is_known: impl Fn(&String) -> bool) -> Result<()> {
    let shown = dir.display();
    let names = disk.list(dir).with_context(|| format!("can't list {shown}"))?;
    match names.iter().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(name) => {
            bail!("{shown} holds {name:?}, which is no part of the backup: see who put it there, and move it elsewhere")
        }
    }
}

/// What an archive has beside its files while it grows, or was stopped.
const OF_AN_ARCHIVE: [&str; 4] = [INCOMING, GIVEN_UP, ".rookeeper.lock", "manifest.jsonl.tmp"];

/// Whether a file is one that an archive has begun and that does not count yet.
fn is_newer(manifest: &Manifest, name: &str) -> bool {
    match FileName::parse(name) {
        Some(FileName::Log(zxid)) => manifest.logs().all(|(_, log)| log.last < zxid),
        Some(FileName::Snapshot(zxid, _)) => manifest.snapshots().all(|(_, snapshot)| snapshot.zxid < zxid),
        _ => false,
    }
}

fn sum(disk: &dyn Disk, kind: Kind, dir: &Path, file: &FileEntry) -> Result<()> {
    let path = dir.join(&file.file);
    ensure!(disk.exists(&path), "it is not there");
    let (bytes, sha256) = match kind {
        Kind::Backup => copy::sum(disk, &path)?,
        // What stands behind that is being added.
        Kind::Archive => (file.bytes, prefix_sum(disk, &path, file.bytes)?),
    };
    ensure!(bytes == file.bytes, "it has {bytes} bytes, not {}", file.bytes);
    ensure!(sha256 == file.sha256, "its checksum is {sha256}, not {}", file.sha256);
    Ok(())
}

fn content(disk: &dyn Disk, kind: Kind, dir: &Path, file: &FileEntry) -> Result<()> {
    let found = match (FileName::parse(&file.file), file.content) {
        (Some(FileName::Snapshot(zxid, compression)), Content::Snapshot(_)) => {
            copy::snapshot_content(disk, dir, zxid, compression)?
        }
        (Some(FileName::Log(_)), Content::Log(_)) => {
            Content::Log(log_content(disk, &dir.join(&file.file), kind, file.bytes)?)
        }
        _ => bail!("its name does not fit"),
    };
    ensure!(found == file.content, "it holds something else than the manifest says");
    Ok(())
}

/// A log that is all there, with its length and its checksum.
pub(super) fn log_entry(disk: &dyn Disk, dir: &Path, zxid: Zxid) -> Result<FileEntry> {
    let file = names::log(zxid);
    let path = dir.join(&file);
    let (bytes, sha256) = copy::sum(disk, &path)?;
    let content = log_content(disk, &path, Kind::Backup, bytes).with_context(|| file.clone())?;
    ensure!(content.first == zxid, "{file}: its first transaction is {}", content.first);
    Ok(FileEntry { file, bytes, sha256, content: Content::Log(content) })
}

fn log_content(disk: &dyn Disk, path: &Path, kind: Kind, bytes: u64) -> Result<LogContent> {
    let mut found: Option<LogContent> = None;
    let mut reader = LogReader::open(disk, path, MAX_RECORD_BYTES)?;
    loop {
        match reader.next_record()? {
            Next::Record { offset, .. } if kind == Kind::Archive && offset >= bytes => {
                return found.context("it holds no record");
            }
            Next::Record { zxid, body, .. } => {
                let time_ms = TxnRecord::decode_header(body)?.time_ms;
                let begun = LogContent { first: zxid, last: zxid, records: 0, first_ms: time_ms, last_ms: time_ms };
                let begun = found.unwrap_or(begun);
                found = Some(LogContent { last: zxid, records: begun.records + 1, last_ms: time_ms, ..begun });
            }
            Next::End { offset } => {
                ensure!(offset == bytes, "its records end at offset {offset}");
                return found.context("it holds no record");
            }
            Next::Bad { offset, .. } if kind == Kind::Archive && offset == bytes => {
                return found.context("it holds no record");
            }
            Next::Bad { offset, fault } => bail!("offset {offset}: {fault}"),
        }
    }
}

/// The tree to which a backup leads at `last`, from a snapshot. Every digest on the way must be right.
pub(super) fn replay(
    disk: &dyn Disk,
    backup: &Path,
    ttl_encoding: TtlEncoding,
    snapshot: Zxid,
    last: Zxid,
) -> Result<(Tree, RecoveryReport)> {
    let until = Until { zxid: last, newest_snapshot: snapshot };
    let directories = Directories::new(backup, backup);
    let options = RecoveryOptions {
        clean_up: false,
        trust_partial_snapshot: false,
        until: Some(until),
        seed: seed(),
        ttl_encoding,
        ..RecoveryOptions::default()
    };
    let recovered = recover(disk, &directories, &options)
        .with_context(|| format!("the files do not lead to transaction {last}"))?;
    let report = recovered.report;
    if let Some(zxid) = report.first_mismatch {
        bail!(
            "after transaction {zxid} the tree is not the one that the server had ({} of {} digests differ): its data is spoilt, or files of \
             different servers are mixed. Compare with other members, and take the backup from one whose rookeeper check is sound",
            report.digest_mismatches,
            report.digests_checked
        );
    }
    let torn = report.logs.iter().find(|log| matches!(log.end, LogEnd::Torn { .. }));
    if let Some(log) = torn {
        bail!("{} is not whole", log.name);
    }
    Ok((recovered.tree, report))
}

/// The last transaction that was made up to a moment.
pub(super) fn zxid_at(disk: &dyn Disk, backup: &Path, manifest: &Manifest, ms: i64) -> Result<Zxid> {
    let head = &manifest.head;
    let shown = when::shown(ms);
    let (Some((_, first)), Some((_, last))) = (manifest.logs().next(), manifest.logs().next_back()) else {
        bail!(
            "the backup has no log, so that nobody knows what was when: leave out --to-time, or give --to-zxid {}",
            head.last_zxid
        );
    };
    ensure!(
        ms <= head.taken_ms.max(last.last_ms),
        "the backup was taken {}, and knows nothing of {shown}: leave out --to-time for everything that is in it",
        head.taken
    );
    let (mut until, mut later) = (None, None);
    for (file, log) in manifest.logs() {
        let mut reader = LogReader::open(disk, &backup.join(VERSION_DIR).join(&file.file), MAX_RECORD_BYTES)?;
        while let Next::Record { zxid, body, .. } = reader.next_record()? {
            if zxid > log.last {
                break;
            }
            let is_in = TxnRecord::decode_header(body)?.time_ms <= ms;
            match later {
                None if is_in => until = Some(zxid),
                None => {
                    later = Some(zxid);
                    if let Some(until) = until.filter(|until| !zxid.follows(*until)) {
                        bail!(
                            "what was done between transaction {until} and {zxid} is not in the archive, and {shown} is in that gap: choose a moment \
                             before it or behind it, or give --to-zxid"
                        );
                    }
                }
                Some(later) if is_in => bail!(
                    "the clock was set back: transaction {later} was made after {shown}, and {zxid}, which comes behind it, before. Choose with \
                     rookeeper log, and give --to-zxid"
                ),
                Some(_) => {}
            }
        }
    }
    until.with_context(|| {
        format!("the log of the backup begins at {}, after {shown}: use an older backup", when::shown(first.first_ms))
    })
}
