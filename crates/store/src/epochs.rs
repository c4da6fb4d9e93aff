//! The way back for members whose epochs are used up: epochs are numbers of 31 bits, and one that somebody forged is as good as any other.
//!
//! What always holds: nothing is changed under a running server, whose lock the caller holds; epoch of the last transaction ≤ current ≤
//! accepted at every moment, so that a crash leaves a member that starts, and this can be done again; no transaction is lost.
//!
//! The original has no counterpart.

use std::fmt;

use rookeeper_proto::{Epoch, StatPersisted, Zxid};
use rookeeper_tree::{Tree, TreeBuilder};

use crate::directories::Directories;
use crate::disk::Disk;
use crate::epoch_files::{ACCEPTED, CURRENT, read_epoch, write_epoch};
use crate::error::{Result, StoreError};
use crate::recovery::{RecoveryOptions, recover};
use crate::snapshot_writer::{SnapshotOptions, WithTree};
use crate::truncate::install_snapshot;

/// With fewer epochs left than this a member is worth a look.
const FEW: u32 = 1 << 20;
/// Nodes of the tree that are copied at once, in bytes.
const CHUNK_BYTES: usize = 1 << 20;

/// Where a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochReport {
    /// What the files say, where they are there.
    pub accepted: Option<Epoch>,
    pub current: Option<Epoch>,
    pub last: Zxid,
}

/// What would help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    None,
    /// Only what was promised is near the end.
    Lower,
    /// So is what was lived through.
    Renumber,
}

impl EpochReport {
    /// What would help a member whose epochs come to their end.
    pub fn remedy(&self) -> Remedy {
        let reached = self.last.known().map(Zxid::epoch).unwrap_or_default();
        let lived = self.current.unwrap_or_default().max(reached);
        let few_left = |epoch: Epoch| epoch.0 > Epoch::LAST.0 - FEW;
        match (few_left(lived), few_left(self.accepted.unwrap_or_default())) {
            (true, _) => Remedy::Renumber,
            (false, true) => Remedy::Lower,
            (false, false) => Remedy::None,
        }
    }
}

impl fmt::Display for EpochReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |epoch: Option<Epoch>| epoch.map_or("missing".to_owned(), |epoch| format!("{epoch} ({epoch:#x})"));
        writeln!(f, "acceptedEpoch {}", shown(self.accepted))?;
        writeln!(f, "currentEpoch {}", shown(self.current))?;
        writeln!(f, "last transaction {}", self.last)
    }
}

/// Looks, and changes nothing.
pub fn look(disk: &dyn Disk, directories: &Directories, options: &RecoveryOptions) -> Result<EpochReport> {
    let found = recover(disk, directories, &RecoveryOptions { clean_up: false, ..*options })?;
    let dir = &directories.snapshot_dir;
    let (accepted, current) = (read_epoch(disk, dir, ACCEPTED)?, read_epoch(disk, dir, CURRENT)?);
    Ok(EpochReport { accepted, current, last: found.tree.last_zxid() })
}

/// Takes back what this member has promised beyond what it has lived through. Safe only while every member of the ensemble is stopped:
/// nobody is left then to whom it was promised. What others have lived through they bring into the next epoch themselves.
pub fn lower_accepted(disk: &dyn Disk, directories: &Directories, options: &RecoveryOptions) -> Result<EpochReport> {
    let EpochReport { current, last, .. } = look(disk, directories, options)?;
    let reached = last.known().map(Zxid::epoch).unwrap_or_default();
    let lived = current.unwrap_or(reached).max(reached);
    write_epoch(disk, &directories.snapshot_dir, ACCEPTED, lived)?;
    look(disk, directories, options)
}

/// Gives everything in the database numbers of an early epoch: the tree becomes the only history, as a snapshot. For one member; all others
/// get a copy of its files.
pub fn renumber(
    disk: &dyn Disk,
    directories: &Directories,
    options: &RecoveryOptions,
    snapshots: &SnapshotOptions,
) -> Result<EpochReport> {
    let before = recover(disk, directories, options)?.tree;
    // Later changes of the members are numbered by the transaction that makes them, and must be newer than the one in force.
    let version = membership_version(&before);
    let epoch = if version.epoch().0 < Epoch::LAST.0 / 2 { version.epoch().next() } else { Epoch(1) };
    let zxid = Zxid::new(epoch, 1);
    let tree = with_zxids_up_to(&before, zxid, options)?;
    let with_tree: &mut WithTree<'_> = &mut |read| read(&tree);
    install_snapshot(disk, directories, snapshots, with_tree, zxid)?;
    // In this order, so that what is accepted is never below what is current.
    write_epoch(disk, &directories.snapshot_dir, CURRENT, epoch)?;
    write_epoch(disk, &directories.snapshot_dir, ACCEPTED, epoch)?;
    look(disk, directories, options)
}

/// The version of the membership in force, as the tree has it.
fn membership_version(tree: &Tree) -> Zxid {
    let Some(node) = tree.node(rookeeper_proto::path::CONFIG) else { return Zxid::ZERO };
    let text = String::from_utf8_lossy(node.data().unwrap_or_default()).into_owned();
    let version = text.lines().find_map(|line| i64::from_str_radix(line.strip_prefix("version=")?.trim(), 16).ok());
    Zxid(version.unwrap_or(0).max(0))
}

/// The same tree at `zxid`, in which nothing is younger than that.
fn with_zxids_up_to(tree: &Tree, zxid: Zxid, options: &RecoveryOptions) -> Result<Tree> {
    let failed = |error: rookeeper_tree::RestoreError| StoreError::Misuse(format!("the tree can't be copied: {error}"));
    let (head, mut walk) = tree.begin_snapshot();
    let mut builder = TreeBuilder::with_seed(options.seed).reading(options.ttl_encoding);
    for session in head.sessions {
        builder.add_session(session.session, session.timeout_ms);
    }
    for (acl_id, list) in head.acls {
        builder.add_acl(acl_id, list.to_vec()).map_err(failed)?;
    }
    let mut outcome = Ok(());
    loop {
        let more = walk.next_chunk(tree, CHUNK_BYTES, &mut |entry| {
            let StatPersisted { czxid, mzxid, pzxid, .. } = entry.stat;
            let stat =
                StatPersisted { czxid: czxid.min(zxid), mzxid: mzxid.min(zxid), pzxid: pzxid.min(zxid), ..entry.stat };
            if outcome.is_ok() {
                outcome = builder.add_node(&entry.path.0, entry.data.as_ref().map(|data| data.0), entry.acl_id, stat);
            }
        });
        if !more {
            break;
        }
    }
    outcome.map_err(failed)?;
    builder.finish(zxid).map_err(failed)
}
