//! Writing a snapshot while the tree goes on changing.
//!
//! What always holds: a snapshot has its name only when it is whole, on disk, and everything it may hold a part of is durable in the log;
//! a snapshot that is already there and valid is not touched; a failed attempt leaves nothing behind.
//!
//! The tree is locked for one portion at a time; compression and writing happen outside of the lock.
//!
//! Counterpart in the original: `FileSnap.serialize`, which writes to the final name.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rookeeper_proto::Zxid;
use rookeeper_proto::jute;
use rookeeper_proto::snapshot::{AclEntry, DigestTrailer, END_OF_NODES, FileHeader};
use rookeeper_proto::txn::Digest;
use rookeeper_tree::{SnapshotHead, SnapshotStart, SnapshotWalk, Tree};

use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::names::{self, Compression};
use crate::replace::publish;
use crate::snapshot_file::Writer;
use crate::snapshot_reader;

/// Between two looks at a tree that has a part of a transaction.
const BETWEEN_ZXIDS: Duration = Duration::from_millis(1);

/// Sessions and lists of access control gathered while the tree is locked.
pub(crate) const ENTRIES_AT_ONCE: usize = 5000;

/// How a snapshot is written.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotOptions {
    pub compression: Compression,
    /// Whether the trailers are written: digest and last zxid. Both or none, so that the original reads the file with any setting.
    pub digests: bool,
    /// How many bytes are encoded while the tree is locked; about a nanosecond each.
    pub portion_bytes: usize,
    /// The largest string or buffer, for checking a snapshot that is already there.
    pub max_record_bytes: usize,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        SnapshotOptions {
            compression: Compression::None,
            digests: true,
            portion_bytes: 64 << 10,
            max_record_bytes: crate::MAX_RECORD_BYTES,
        }
    }
}

/// A snapshot that is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenSnapshot {
    pub zxid: Zxid,
    pub path: PathBuf,
    /// 0 where a valid one was there already.
    pub bytes: u64,
}

/// Runs a closure with the tree locked for reading.
pub type WithTree<'a> = dyn FnMut(&mut dyn FnMut(&Tree)) + 'a;

/// Writes a snapshot of the tree into `dir`. `durable` returns when the log is durable up to the given transaction; without a log behind
/// it a snapshot of a changing tree is of no use.
pub fn write_snapshot(
    disk: &dyn Disk,
    dir: &Path,
    options: &SnapshotOptions,
    with_tree: &mut WithTree<'_>,
    durable: &mut dyn FnMut(Zxid) -> Result<()>,
) -> Result<WrittenSnapshot> {
    let mut snapshot = OngoingSnapshot::begin(dir, options);
    let shows = match snapshot.run_to_the_end(disk, with_tree)? {
        Whole::Written { shows } => shows,
        Whole::Present(present) => return Ok(present),
    };
    match durable(shows) {
        Ok(()) => snapshot.publish(disk),
        Err(error) => {
            snapshot.give_up(disk);
            Err(error)
        }
    }
}

/// Writes a snapshot that is to take the place of everything else, see [`crate::truncate`]. One of the same zxid that is there says
/// nothing about this one.
pub(crate) fn write_for_install(
    disk: &dyn Disk,
    dir: &Path,
    options: &SnapshotOptions,
    with_tree: &mut WithTree<'_>,
    zxid: Zxid,
) -> Result<u64> {
    let mut snapshot = OngoingSnapshot { purpose: Purpose::Installs(zxid), ..OngoingSnapshot::begin(dir, options) };
    snapshot.run_to_the_end(disk, with_tree)?;
    Ok(snapshot.publish(disk)?.bytes)
}

/// Writes a tree that nobody changes as a snapshot that is to be the newest, whatever stands under its name. It is whole and on disk, and counts once it is
/// [published](OngoingSnapshot::publish). Until then nothing else is touched.
pub fn write_for_restore(
    disk: &dyn Disk,
    dir: &Path,
    options: &SnapshotOptions,
    tree: &Tree,
) -> Result<OngoingSnapshot> {
    let mut snapshot =
        OngoingSnapshot { purpose: Purpose::Restores(tree.last_zxid()), ..OngoingSnapshot::begin(dir, options) };
    snapshot.run_to_the_end(disk, &mut |read| read(tree))?;
    Ok(snapshot)
}

/// A snapshot that is being written, a step at a time. The tree may change between the steps.
#[derive(Debug)]
pub struct OngoingSnapshot {
    dir: PathBuf,
    options: SnapshotOptions,
    purpose: Purpose,
    stage: Stage,
}

/// What a snapshot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To have less of the log to replay.
    Shortens,
    /// To stand in front of all others. It must be of this transaction.
    Restores(Zxid),
    /// To take the place of everything else. It must be of this transaction.
    Installs(Zxid),
}

impl Purpose {
    /// The transaction of which the snapshot must be; none where any is right.
    fn zxid(self) -> Option<Zxid> {
        match self {
            Purpose::Shortens => None,
            Purpose::Restores(zxid) | Purpose::Installs(zxid) => Some(zxid),
        }
    }
}

#[derive(Debug)]
enum Stage {
    /// What stands in front of the nodes is gathered, from the first look at the tree on.
    Head(Option<SnapshotStart>),
    Nodes {
        zxid: Zxid,
        walk: SnapshotWalk,
        output: Box<SealingWriter>,
    },
    /// Only the end is missing, which is taken from the tree as it is then.
    End {
        zxid: Zxid,
        output: Box<SealingWriter>,
    },
    Whole {
        zxid: Zxid,
        bytes: u64,
    },
    Failed,
}

/// How far a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotStep {
    /// There is more to do.
    More,
    /// The tree has a part of a transaction: there is more to do in a moment.
    Pause,
    Whole(Whole),
}

/// The end of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whole {
    /// The file is whole and on disk, and has not its name. It may show a part of everything up to this transaction, so that it may be
    /// published once the log is durable up to there.
    Written { shows: Zxid },
    /// A valid one was there already.
    Present(WrittenSnapshot),
}

impl OngoingSnapshot {
    /// A snapshot of the tree that the next step sees.
    pub fn begin(dir: &Path, options: &SnapshotOptions) -> OngoingSnapshot {
        OngoingSnapshot { dir: dir.to_owned(), options: *options, purpose: Purpose::Shortens, stage: Stage::Head(None) }
    }

    /// Looks at the tree once, for no longer than a portion takes, and writes what was seen. A failed step leaves nothing behind, and is the
    /// last one.
    pub fn step(&mut self, disk: &dyn Disk, with_tree: &mut WithTree<'_>) -> Result<SnapshotStep> {
        let temporary = self.temporary();
        let step = self.try_step(disk, with_tree);
        if let (Err(_), Some(temporary)) = (&step, temporary) {
            // What can't be removed now is removed at the next start.
            let _ = disk.remove(&temporary);
        }
        step
    }

    /// Gives the file its name, durably. Everything that it shows must be durable in the log.
    pub fn publish(self, disk: &dyn Disk) -> Result<WrittenSnapshot> {
        let Stage::Whole { zxid, bytes } = self.stage else {
            return Err(StoreError::Misuse("a snapshot was to be published that is not whole".to_owned()));
        };
        let (dir, compression) = (&self.dir, self.options.compression);
        let temporary = temporary(dir, zxid, compression);
        let name = match self.purpose {
            Purpose::Installs(_) => names::installation(zxid, compression),
            Purpose::Shortens | Purpose::Restores(_) => names::snapshot(zxid, compression),
        };
        let path = dir.join(name);
        publish(disk, &temporary, &path).map_err(|error| StoreError::disk("rename", &temporary, error))?;
        Ok(WrittenSnapshot { zxid, path, bytes })
    }

    /// Removes what was written.
    pub fn give_up(self, disk: &dyn Disk) {
        if let Some(temporary) = self.temporary() {
            let _ = disk.remove(&temporary);
        }
    }

    fn run_to_the_end(&mut self, disk: &dyn Disk, with_tree: &mut WithTree<'_>) -> Result<Whole> {
        loop {
            match self.step(disk, with_tree)? {
                SnapshotStep::More => {}
                SnapshotStep::Pause => std::thread::sleep(BETWEEN_ZXIDS),
                SnapshotStep::Whole(whole) => return Ok(whole),
            }
        }
    }

    /// The file, once there is one.
    fn temporary(&self) -> Option<PathBuf> {
        match self.stage {
            Stage::Head(_) | Stage::Failed => None,
            Stage::Nodes { zxid, .. } | Stage::End { zxid, .. } | Stage::Whole { zxid, .. } => {
                Some(temporary(&self.dir, zxid, self.options.compression))
            }
        }
    }

    fn try_step(&mut self, disk: &dyn Disk, with_tree: &mut WithTree<'_>) -> Result<SnapshotStep> {
        match std::mem::replace(&mut self.stage, Stage::Failed) {
            Stage::Head(None) => {
                let start = look(with_tree, |tree| tree.start_snapshot())?;
                if let Some(zxid) = self.purpose.zxid().filter(|zxid| *zxid != start.zxid()) {
                    return Err(StoreError::Misuse(format!(
                        "the tree is at {} and can't be stored as the one at {zxid}",
                        start.zxid()
                    )));
                }
                self.stage = Stage::Head(Some(start));
                Ok(SnapshotStep::More)
            }
            Stage::Head(Some(mut start)) => {
                if look(with_tree, |tree| start.go_on(tree, ENTRIES_AT_ONCE))? {
                    self.stage = Stage::Head(Some(start));
                    return Ok(SnapshotStep::More);
                }
                let (head, walk) = start.finish();
                let zxid = head.zxid;
                if self.purpose == Purpose::Shortens
                    && let Some(path) = valid_one(disk, &self.dir, zxid, &self.options)?
                {
                    return Ok(SnapshotStep::Whole(Whole::Present(WrittenSnapshot { zxid, path, bytes: 0 })));
                }
                let temporary = temporary(&self.dir, zxid, self.options.compression);
                let output = begin_file(disk, &temporary, &self.options, &head).inspect_err(|_| {
                    let _ = disk.remove(&temporary);
                })?;
                self.stage = Stage::Nodes { zxid, walk, output: Box::new(output) };
                Ok(SnapshotStep::More)
            }
            Stage::Nodes { zxid, mut walk, mut output } => {
                let portion_bytes = self.options.portion_bytes;
                let mut portion = std::mem::take(&mut output.portion);
                let more = look(with_tree, |tree| {
                    walk.next_chunk(tree, portion_bytes, &mut |entry| jute::append(&mut portion, &entry))
                })?;
                if !more {
                    jute::append(&mut portion, END_OF_NODES);
                }
                let written = output.write(&portion).and_then(|()| if more { Ok(()) } else { output.seal() });
                written.map_err(|error| self.cannot_write(zxid, error))?;
                portion.clear();
                output.portion = portion;
                self.stage = if more { Stage::Nodes { zxid, walk, output } } else { Stage::End { zxid, output } };
                Ok(SnapshotStep::More)
            }
            Stage::End { zxid, output } => {
                // Zxid and digest belong together, and nothing is encoded after them.
                let end = |tree: &Tree| (!tree.is_between_zxids()).then(|| (tree.last_zxid(), tree.digest()));
                let Some(end) = look(with_tree, end)? else {
                    self.stage = Stage::End { zxid, output };
                    return Ok(SnapshotStep::Pause);
                };
                let bytes = output.finish(&self.options, end).map_err(|error| self.cannot_write(zxid, error))?;
                self.stage = Stage::Whole { zxid, bytes };
                Ok(SnapshotStep::Whole(Whole::Written { shows: end.0 }))
            }
            Stage::Whole { .. } | Stage::Failed => {
                Err(StoreError::Misuse("a snapshot was to go on that is over".to_owned()))
            }
        }
    }

    fn cannot_write(&self, zxid: Zxid, error: io::Error) -> StoreError {
        StoreError::disk("write", &temporary(&self.dir, zxid, self.options.compression), error)
    }
}

fn temporary(dir: &Path, zxid: Zxid, compression: Compression) -> PathBuf {
    dir.join(names::temporary(&names::snapshot(zxid, compression)))
}

/// One look at the tree.
fn look<T>(with_tree: &mut WithTree<'_>, mut see: impl FnMut(&Tree) -> T) -> Result<T> {
    let mut seen = None;
    with_tree(&mut |tree| seen = Some(see(tree)));
    seen.ok_or_else(|| StoreError::Misuse("no tree to take a snapshot of".to_owned()))
}

/// A valid snapshot of the same zxid, in whatever form.
fn valid_one(disk: &dyn Disk, dir: &Path, zxid: Zxid, options: &SnapshotOptions) -> Result<Option<PathBuf>> {
    for compression in Compression::ALL {
        let path = dir.join(names::snapshot(zxid, compression));
        if !disk.exists(&path) {
            continue;
        }
        match snapshot_reader::verify(disk, dir, zxid, compression, options.max_record_bytes) {
            Ok(_) => return Ok(Some(path)),
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Creates the file, and writes what stands in front of the nodes.
fn begin_file(
    disk: &dyn Disk,
    temporary: &Path,
    options: &SnapshotOptions,
    head: &SnapshotHead,
) -> Result<SealingWriter> {
    let failed = |error| StoreError::disk("write", temporary, error);
    let file = disk.create(temporary).map_err(|error| StoreError::disk("create", temporary, error))?;
    let writer = Writer::new(file, options.compression).map_err(failed)?;
    let mut portion = Vec::with_capacity(options.portion_bytes + 4096);
    jute::append(&mut portion, &FileHeader::SNAPSHOT);
    jute::append(&mut portion, &head.sessions);
    jute::append(&mut portion, &(head.acls.len() as i32));
    for (acl_id, acl) in &head.acls {
        jute::append(&mut portion, &AclEntry { acl_id: *acl_id, acl: Some(acl.to_vec()) });
    }
    let mut output = SealingWriter { writer, checksum: simd_adler32::Adler32::new(), portion: Vec::new() };
    output.write(&portion).map_err(failed)?;
    portion.clear();
    output.portion = portion;
    Ok(output)
}

/// Keeps the checksum over everything written.
struct SealingWriter {
    writer: Writer,
    checksum: simd_adler32::Adler32,
    /// Room for what the next look at the tree gives.
    portion: Vec<u8>,
}

impl fmt::Debug for SealingWriter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SealingWriter").finish_non_exhaustive()
    }
}

impl SealingWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.checksum.write(bytes);
        self.writer.write(bytes)
    }

    fn seal(&mut self) -> io::Result<()> {
        let checksum = i64::from(self.checksum.finish());
        self.write(&jute::to_vec(&(checksum, END_OF_NODES)))
    }

    fn finish(mut self, options: &SnapshotOptions, (last_zxid, digest): (Zxid, i64)) -> io::Result<u64> {
        if options.digests {
            // Zxid 0 says that no digest is known; the original writes no value then.
            let digest = Digest::new(if last_zxid == Zxid::ZERO { 0 } else { digest });
            self.write(&jute::to_vec(&DigestTrailer { zxid: last_zxid, digest }))?;
            self.seal()?;
            self.write(&jute::to_vec(&last_zxid))?;
            self.seal()?;
        }
        self.writer.finish()
    }
}
