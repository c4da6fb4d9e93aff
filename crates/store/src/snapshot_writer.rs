//! Writing a snapshot while the tree goes on changing.
//!
//! What always holds: a snapshot has its name only when it is whole, on disk, and everything it may hold a part of is durable in the log;
//! a snapshot that is already there and valid is not touched; a failed attempt leaves nothing behind.
//!
//! The tree is locked for one portion at a time; compression and writing happen outside of the lock.
//!
//! Counterpart in the original: `FileSnap.serialize`, which writes to the final name.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rookeeper_proto::Zxid;
use rookeeper_proto::jute;
use rookeeper_proto::snapshot::{AclEntry, DigestTrailer, END_OF_NODES, FileHeader};
use rookeeper_proto::txn::Digest;
use rookeeper_tree::{SnapshotHead, SnapshotWalk, Tree};

use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::names::{self, Compression};
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
    let (head, walk) = begin(with_tree)?;
    let zxid = head.zxid;
    if let Some(path) = valid_one(disk, dir, zxid, options)? {
        return Ok(WrittenSnapshot { zxid, path, bytes: 0 });
    }
    let path = dir.join(names::snapshot(zxid, options.compression));
    let bytes = write_as(disk, dir, &path, options, (&head, walk), with_tree, durable)?;
    Ok(WrittenSnapshot { zxid, path, bytes })
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
    let (head, walk) = begin(with_tree)?;
    if head.zxid != zxid {
        return Err(StoreError::Misuse(format!(
            "the tree is at {} and can't be stored as the one at {zxid}",
            head.zxid
        )));
    }
    let path = dir.join(names::installation(zxid, options.compression));
    write_as(disk, dir, &path, options, (&head, walk), with_tree, &mut |_| Ok(()))
}

/// Gathers what stands in front of the nodes.
fn begin(with_tree: &mut WithTree<'_>) -> Result<(SnapshotHead, SnapshotWalk)> {
    let mut start = None;
    with_tree(&mut |tree| start = Some(tree.start_snapshot()));
    let mut start = start.ok_or_else(|| StoreError::Misuse("no tree to take a snapshot of".to_owned()))?;
    loop {
        let mut more = false;
        with_tree(&mut |tree| more = start.go_on(tree, ENTRIES_AT_ONCE));
        if !more {
            return Ok(start.finish());
        }
    }
}

/// Returns the length.
fn write_as(
    disk: &dyn Disk,
    dir: &Path,
    path: &Path,
    options: &SnapshotOptions,
    (head, mut walk): (&SnapshotHead, SnapshotWalk),
    with_tree: &mut WithTree<'_>,
    durable: &mut dyn FnMut(Zxid) -> Result<()>,
) -> Result<u64> {
    let zxid = head.zxid;
    let temporary = dir.join(names::temporary(&names::snapshot(zxid, options.compression)));
    let written = write(disk, &temporary, options, head, &mut |output| {
        let mut more = false;
        with_tree(&mut |tree| {
            more = walk.next_chunk(tree, options.portion_bytes, &mut |entry| jute::append(output, &entry));
        });
        more
    });
    let result = written.and_then(|writer| {
        // Zxid and digest belong together, and nothing is encoded after them.
        let end = loop {
            let (mut looked, mut end) = (false, None);
            with_tree(&mut |tree| {
                looked = true;
                end = (!tree.is_between_zxids()).then(|| (tree.last_zxid(), tree.digest()));
            });
            match end {
                Some(end) => break end,
                None if looked => std::thread::sleep(BETWEEN_ZXIDS),
                None => break (zxid, 0),
            }
        };
        let bytes = writer.finish(options, end).map_err(|error| StoreError::disk("write", &temporary, error))?;
        durable(end.0)?;
        disk.rename(&temporary, path).map_err(|error| StoreError::disk("rename", &temporary, error))?;
        disk.sync_dir(dir).map_err(|error| StoreError::disk("sync", dir, error))?;
        Ok(bytes)
    });
    if result.is_err() {
        // What can't be removed now is removed at the next start.
        let _ = disk.remove(&temporary);
    }
    result
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

fn write(
    disk: &dyn Disk,
    temporary: &Path,
    options: &SnapshotOptions,
    head: &SnapshotHead,
    next_portion: &mut dyn FnMut(&mut Vec<u8>) -> bool,
) -> Result<SealingWriter> {
    let failed = |error| StoreError::disk("write", temporary, error);
    let file = disk.create(temporary).map_err(|error| StoreError::disk("create", temporary, error))?;
    let writer = Writer::new(file, options.compression).map_err(failed)?;
    let mut output = SealingWriter { writer, checksum: simd_adler32::Adler32::new() };
    let mut portion = Vec::with_capacity(options.portion_bytes + 4096);
    jute::append(&mut portion, &FileHeader::SNAPSHOT);
    jute::append(&mut portion, &head.sessions);
    jute::append(&mut portion, &(head.acls.len() as i32));
    for (acl_id, acl) in &head.acls {
        jute::append(&mut portion, &AclEntry { acl_id: *acl_id, acl: Some(acl.to_vec()) });
    }
    loop {
        output.write(&portion).map_err(failed)?;
        portion.clear();
        let more = next_portion(&mut portion);
        if !more {
            break;
        }
    }
    jute::append(&mut portion, END_OF_NODES);
    output.write(&portion).map_err(failed)?;
    output.seal().map_err(failed)?;
    Ok(output)
}

/// Keeps the checksum over everything written.
struct SealingWriter {
    writer: Writer,
    checksum: simd_adler32::Adler32,
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
