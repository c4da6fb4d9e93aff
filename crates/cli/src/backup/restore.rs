//! `rookeeper restore`: a data directory from a backup, as it was after a chosen transaction.
//!
//! The backup is proven first, byte by byte. Then the newest snapshot that was whole by then is read, the log replayed to exactly that
//! transaction, the tree compared with the digest that the server has recorded for it, and written as one snapshot. The new directory is read again
//! before it gets its name.
//!
//! What always holds: a directory that is in use, or holds anything, is not touched; `version-2` appears last and as a whole, so that no server
//! starts from a part of it; where anything is in doubt nothing is restored.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use jiff::tz::TimeZone;
use rookeeper_proto::{Epoch, Zxid};
use rookeeper_store::snapshot_writer::{SnapshotOptions, WithTree};
use rookeeper_store::{
    Compression, Directories, Disk, MAX_RECORD_BYTES, RealDisk, RecoveryOptions, epoch_files, recover, write_snapshot,
};
use rookeeper_tree::Tree;

use super::manifest::Manifest;
use super::{VERSION_DIR, failed, seed, verify, when};
use crate::print;

/// Where the new files are until they are whole.
const UNFINISHED: &str = ".restore.unfinished";

/// What a data directory may hold before it has data: the id of a member, and what file systems put into their roots.
const HARMLESS: [&str; 3] = ["myid", "lost+found", UNFINISHED];

/// The arguments of `rookeeper restore`.
#[derive(Args, Debug)]
pub struct Options {
    /// A directory that `rookeeper backup` has made
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,
    /// The last transaction that is to count: 0x100000a2b, or the same without 0x. Everything in the backup, if nothing is said
    #[arg(long, value_name = "ZXID", conflicts_with = "to_time")]
    to_zxid: Option<String>,
    /// Restore what was there at this moment: 2026-11-28T03:00:00Z, or "2026-11-28 03:00:00" in the zone of this machine
    #[arg(long, value_name = "TIME")]
    to_time: Option<String>,
    /// Begin with this epoch. One above every currentEpoch and acceptedEpoch that the ensemble has had lets clients go on that are connected to it,
    /// and keeps a member that was forgotten from bringing back what was there before
    #[arg(long, value_name = "NUMBER")]
    epoch: Option<u32>,
    /// Restore although the server has recorded no digest to compare the result with (digest.enabled=false, or a version before 3.6)
    #[arg(long)]
    without_digest: bool,
    /// The dataDir of the server to be: a directory that is not there, or holds nothing but myid
    #[arg(value_name = "DIR")]
    target: PathBuf,
}

/// Exit code 0: the directory is there; 1: it is not, and nothing was changed.
pub fn main(options: &Options) -> u8 {
    match run(options) {
        Ok(text) => u8::from(!print::result(&text)),
        Err(error) => failed("restore", &error),
    }
}

/// Builds the directory, and says what is in it. Nothing is changed where that fails.
pub fn run(options: &Options) -> Result<String> {
    let disk = &RealDisk;
    refuse_occupied(&options.target)?;
    let manifest = verify::files(disk, &options.backup)?;
    let until = target_zxid(disk, options, &manifest)?;
    let head = &manifest.head;
    ensure!(
        (head.first_zxid..=head.last_zxid).contains(&until),
        "the backup can be restored to transactions from {} to {}, and {until} is none of them",
        head.first_zxid,
        head.last_zxid
    );
    // From the newest snapshot that was whole by then: the shortest way.
    let newest = manifest.snapshots().rfind(|(_, snapshot)| snapshot.complete_at <= until);
    let (_, newest) = newest.with_context(|| format!("no snapshot of the backup leads to {until}"))?;
    let (mut tree, report) = verify::replay(disk, &options.backup, head.ttl_encoding(), newest.zxid, until)?;
    if until == head.last_zxid {
        verify::compare(&manifest, &tree)?;
    }
    ensure!(
        report.end_is_compared || options.without_digest,
        "the server has recorded no digest at {until}, so that nothing proves the result but the checksums of the backup. If that is enough for you, \
         give --without-digest"
    );
    let epoch = epoch(options, &manifest, until)?;
    if options.epoch.is_some() {
        // As the first snapshot of a new leader has it: the beginning of an epoch, before its first transaction.
        tree.set_last_zxid(epoch.beginning());
    }
    let removed = report.removed_ephemerals.len();
    let (digest, nodes, zxid) = (tree.digest(), tree.node_count(), tree.last_zxid());
    write(disk, &options.target, tree, epoch)?;
    let note = match removed {
        0 => String::new(),
        removed => format!(" {removed} ephemeral nodes of sessions that had gone are not in it."),
    };
    Ok(format!(
        "{}: restored to transaction {until}, {nodes} nodes, digest {digest}{}; it begins at {zxid}.{note}\n\
         A server starts from it as it is. For an ensemble give the same version-2 to every member, with an empty dataLogDir, before any of them starts.",
        options.target.display(),
        if report.end_is_compared { " as the server recorded it" } else { "" },
    ))
}

fn refuse_occupied(target: &Path) -> Result<()> {
    let shown = target.display();
    let entries = match fs::read_dir(target) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("can't read {shown}")),
    };
    for entry in entries {
        let name = entry?.file_name();
        ensure!(
            HARMLESS.iter().any(|harmless| name == *harmless),
            "{shown} holds {name:?}, and nothing is restored over what is there: name an empty directory, or move its content elsewhere"
        );
    }
    Ok(())
}

fn target_zxid(disk: &dyn Disk, options: &Options, manifest: &Manifest) -> Result<Zxid> {
    match (&options.to_zxid, &options.to_time) {
        (Some(text), _) => {
            let digits = text.strip_prefix("0x").unwrap_or(text);
            let number = i64::from_str_radix(digits, 16).ok().filter(|number| *number >= 0);
            Ok(Zxid(number.with_context(|| format!("{text:?} is no zxid: write it as 0x100000a2b"))?))
        }
        (None, Some(text)) => {
            let ms = when::parse(text, &TimeZone::system())?;
            verify::zxid_at(disk, &options.backup, manifest, ms)
        }
        (None, None) => Ok(manifest.head.last_zxid),
    }
}

/// The epoch that the new directory is of: that of its last transaction at least, and what the member had promised.
fn epoch(options: &Options, manifest: &Manifest, until: Zxid) -> Result<Epoch> {
    let head = &manifest.head;
    let had = Epoch(head.current_epoch.max(head.accepted_epoch).unwrap_or(0)).max(until.epoch());
    let Some(wanted) = options.epoch else { return Ok(had) };
    let highest = had.max(head.last_zxid.epoch());
    if Epoch(wanted) <= highest {
        bail!(
            "--epoch {wanted} is not above {highest}, which the server had when the backup was taken: give a higher one"
        );
    }
    ensure!(
        wanted < Epoch::LAST.0 / 2,
        "--epoch {wanted} would use up the epochs: give one that is just above those of the ensemble"
    );
    Ok(Epoch(wanted))
}

/// Writes the tree as the only snapshot of a new directory.
fn write(disk: &dyn Disk, target: &Path, tree: Tree, epoch: Epoch) -> Result<()> {
    let unfinished = target.join(UNFINISHED);
    let made = || -> Result<()> {
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("can't remove {}", unfinished.display()));
            }
            _ => {}
        }
        let directories = Directories::new(&unfinished, &unfinished);
        let dir = &directories.snapshot_dir;
        disk.create_dir(dir).with_context(|| format!("can't create {}", dir.display()))?;
        let (digest, nodes, zxid) = (tree.digest(), tree.node_count(), tree.last_zxid());
        let tree_encoding = tree.ttl_encoding();
        let with_tree: &mut WithTree<'_> = &mut |read| read(&tree);
        let options = SnapshotOptions { compression: Compression::None, ..SnapshotOptions::default() };
        // No log stands behind it: the tree does not change any more.
        write_snapshot(disk, dir, &options, with_tree, &mut |_| Ok(()))?;
        for name in [epoch_files::CURRENT, epoch_files::ACCEPTED] {
            epoch_files::write_epoch(disk, dir, name, epoch)?;
        }
        drop(tree);
        let options = RecoveryOptions {
            clean_up: false,
            trust_partial_snapshot: false,
            max_record_bytes: MAX_RECORD_BYTES,
            seed: seed(),
            ttl_encoding: tree_encoding,
            ..RecoveryOptions::default()
        };
        let read = recover(disk, &directories, &options).context("what was written can't be read again")?.tree;
        ensure!(
            (read.digest(), read.node_count(), read.last_zxid()) == (digest, nodes, zxid),
            "what was written is not what is read again: look at the disk of {}",
            target.display()
        );
        let place = target.join(VERSION_DIR);
        ensure!(!disk.exists(&place), "somebody has made {} meanwhile", place.display());
        disk.sync_dir(&unfinished)
            .and_then(|()| disk.rename(dir, &place))
            .and_then(|()| disk.sync_dir(target))
            .and_then(|()| target.parent().map_or(Ok(()), |parent| disk.sync_dir(parent_or_here(parent))))
            .with_context(|| format!("can't give {} its name", place.display()))
    };
    let made = made();
    // What can't be removed is in nobody's way.
    let _ = fs::remove_dir_all(&unfinished);
    made
}

fn parent_or_here(parent: &Path) -> &Path {
    if parent.as_os_str().is_empty() { Path::new(".") } else { parent }
}
