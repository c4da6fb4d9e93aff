//! Reading a snapshot, without trusting it.
//!
//! What always holds: a tree comes out only if every seal is right and every node has a place; nothing survives of a failed attempt;
//! memory grows with what was really read, never with what a length claims.
//!
//! The trailers differ by version and settings of the server that wrote them. Their total length tells which are there; the original
//! goes by its own settings instead and refuses its own files when these change.
//!
//! Counterpart in the original: `FileSnap.deserialize`.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rookeeper_proto::jute::{self, Text};
use rookeeper_proto::snapshot::{AclEntry, DigestTrailer, END_OF_NODES, FileHeader};
use rookeeper_proto::txn::Digest;
use rookeeper_proto::{Acl, SessionId, StatPersisted, Zxid};
use rookeeper_tree::{Tree, TreeBuilder};

use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::names::{self, Compression};
use crate::snapshot_file;

const WINDOW: usize = 64 << 10;
const STAT: usize = 60;
const SEAL: usize = 13;
const DIGEST_TRAILER: usize = 20 + SEAL;
const ZXID_TRAILER: usize = 8 + SEAL;

/// What a snapshot held.
#[derive(Debug)]
pub struct LoadedSnapshot {
    pub tree: Tree,
    pub info: SnapshotInfo,
}

/// What a snapshot says besides the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SnapshotInfo {
    pub nodes: u64,
    pub sessions: u64,
    /// `None` where none was written or known.
    pub digest: Option<DigestTrailer>,
    pub last_zxid: Option<Zxid>,
}

impl SnapshotInfo {
    /// The last transaction of which the snapshot may hold a part. Only the log up to there makes it whole.
    pub fn complete_at(&self, name: Zxid) -> Zxid {
        let digest = self.digest.map_or(name, |digest| digest.zxid);
        name.max(digest).max(self.last_zxid.unwrap_or(name))
    }
}

/// Reads a snapshot into a tree. `limit`: the largest string or buffer, in bytes.
pub fn load(disk: &dyn Disk, dir: &Path, zxid: Zxid, compression: Compression, limit: usize) -> Result<LoadedSnapshot> {
    load_into(TreeBuilder::new(), disk, dir, zxid, compression, limit)
}

/// Reads a snapshot into a tree that was begun elsewhere, which is how the seed of its tables is chosen.
pub(crate) fn load_into(
    mut builder: TreeBuilder,
    disk: &dyn Disk,
    dir: &Path,
    zxid: Zxid,
    compression: Compression,
    limit: usize,
) -> Result<LoadedSnapshot> {
    let path = dir.join(names::snapshot(zxid, compression));
    let info = read(disk, &path, compression, limit, Some(&mut builder))?;
    let tree = builder.finish(zxid).map_err(|error| StoreError::damaged(&path, None, error.to_string()))?;
    Ok(LoadedSnapshot { tree, info })
}

/// Reads a snapshot for its seals alone.
pub fn verify(disk: &dyn Disk, dir: &Path, zxid: Zxid, compression: Compression, limit: usize) -> Result<SnapshotInfo> {
    read(disk, &dir.join(names::snapshot(zxid, compression)), compression, limit, None)
}

fn read(
    disk: &dyn Disk,
    path: &Path,
    compression: Compression,
    limit: usize,
    mut builder: Option<&mut TreeBuilder>,
) -> Result<SnapshotInfo> {
    let stream = snapshot_file::reader(disk, path, compression).map_err(|error| of_stream(path, 0, error))?;
    let mut input = Input::new(stream, path, limit);
    let magic_offset = input.position();
    let header: FileHeader = input.record(FileHeader::LENGTH)?;
    if header.magic != FileHeader::SNAPSHOT.magic {
        return Err(StoreError::damaged(path, magic_offset, "it doesn't begin with ZKSN, so it is not a snapshot"));
    }
    if header.version > crate::FORMAT_VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), version: header.version });
    }
    let mut info = SnapshotInfo::default();
    for _ in 0..input.int()? {
        let (session, timeout_ms): (SessionId, i32) = input.record(12)?;
        info.sessions += 1;
        if let Some(builder) = builder.as_deref_mut() {
            builder.add_session(session, timeout_ms);
        }
    }
    for _ in 0..input.int()? {
        let entry = input.acl_entry()?;
        if let Some(builder) = builder.as_deref_mut() {
            // A null list is the open one.
            let list = entry.acl.unwrap_or_else(Acl::open);
            builder.add_acl(entry.acl_id, list).map_err(|error| input.damaged(error.to_string()))?;
        }
    }
    let mut path_bytes = Vec::new();
    let mut data = Vec::new();
    loop {
        input.string_bytes(&mut path_bytes)?;
        let node_path: Text<'_> =
            jute::from_slice(&path_bytes).map_err(|error| input.damaged(format!("a node's path: {error}")))?;
        if *node_path == *END_OF_NODES {
            break;
        }
        let has_data = input.buffer(&mut data)?;
        let acl_id: i64 = input.record(8)?;
        let stat: StatPersisted = input.record(STAT)?;
        info.nodes += 1;
        if let Some(builder) = builder.as_deref_mut() {
            let data = has_data.then_some(data.as_slice());
            builder.add_node(&node_path, data, acl_id, stat).map_err(|error| input.damaged(error.to_string()))?;
        }
    }
    read_trailers(&mut input, &mut info)?;
    Ok(info)
}

fn read_trailers(input: &mut Input, info: &mut SnapshotInfo) -> Result<()> {
    input.seal()?;
    let mut rest = Vec::with_capacity(DIGEST_TRAILER + ZXID_TRAILER + 1);
    input.rest(&mut rest, DIGEST_TRAILER + ZXID_TRAILER + 1)?;
    let (has_digest, has_zxid) = match rest.len() {
        0 => (false, false),
        ZXID_TRAILER => (false, true),
        DIGEST_TRAILER => (true, false),
        length if length == DIGEST_TRAILER + ZXID_TRAILER => (true, true),
        length => return Err(input.damaged(format!("{length} bytes behind the nodes are no known trailer"))),
    };
    if has_digest {
        let trailer: DigestTrailer = input.record(20)?;
        input.seal()?;
        let known = trailer.zxid != Zxid::ZERO && trailer.digest.version == Digest::VERSION;
        info.digest = known.then_some(trailer);
    }
    if has_zxid {
        info.last_zxid = Some(input.record(8)?);
        input.seal()?;
    }
    Ok(())
}

/// The disk's own errors stay errors of the disk; everything else is about the bytes.
fn of_stream(path: &Path, offset: u64, error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => StoreError::damaged(path, offset, "the file ends early"),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            StoreError::damaged(path, offset, format!("can't be decompressed: {error}"))
        }
        _ => StoreError::disk("read", path, error),
    }
}

/// The content of a snapshot with the checksum over everything taken from it.
struct Input {
    stream: Box<dyn Read>,
    path: PathBuf,
    limit: usize,
    window: Vec<u8>,
    taken: usize,
    /// The part of the window that is in the checksum.
    summed: usize,
    checksum: simd_adler32::Adler32,
    /// Offset of the window in the content.
    window_start: u64,
}

impl Input {
    fn new(stream: Box<dyn Read>, path: &Path, limit: usize) -> Input {
        Input {
            stream,
            path: path.to_owned(),
            limit,
            window: Vec::with_capacity(WINDOW),
            taken: 0,
            summed: 0,
            checksum: simd_adler32::Adler32::new(),
            window_start: 0,
        }
    }

    fn position(&self) -> u64 {
        self.window_start + self.taken as u64
    }

    fn damaged(&self, problem: impl Into<String>) -> StoreError {
        StoreError::damaged(&self.path, self.position(), problem)
    }

    fn sum(&mut self) {
        self.checksum.write(&self.window[self.summed..self.taken]);
        self.summed = self.taken;
    }

    /// Reads on; false at the end.
    fn refill(&mut self) -> Result<bool> {
        self.sum();
        let left = self.window.len() - self.taken;
        self.window.copy_within(self.taken.., 0);
        self.window_start += self.taken as u64;
        (self.taken, self.summed) = (0, 0);
        self.window.resize(WINDOW, 0);
        let read = loop {
            match self.stream.read(&mut self.window[left..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        match read {
            Ok(count) => {
                self.window.truncate(left + count);
                Ok(count > 0)
            }
            Err(error) => {
                self.window.truncate(left);
                Err(of_stream(&self.path, self.position(), error))
            }
        }
    }

    /// At most [`WINDOW`] bytes, in one piece.
    fn take(&mut self, count: usize) -> Result<&[u8]> {
        while self.window.len() - self.taken < count {
            if !self.refill()? {
                return Err(self.damaged("the file ends early"));
            }
        }
        self.taken += count;
        Ok(&self.window[self.taken - count..self.taken])
    }

    /// A record of known length.
    fn record<T: for<'de> serde::Deserialize<'de>>(&mut self, length: usize) -> Result<T> {
        let bytes = self.take(length)?;
        match jute::from_slice(bytes) {
            Ok(record) => Ok(record),
            Err(error) => Err(self.damaged(error.to_string())),
        }
    }

    fn int(&mut self) -> Result<i32> {
        self.record(4)
    }

    /// Adds `count` bytes to `output`, which grows only as they come in.
    fn append(&mut self, mut count: usize, output: &mut Vec<u8>) -> Result<()> {
        while count > 0 {
            let part = count.min(WINDOW);
            output.extend_from_slice(self.take(part)?);
            count -= part;
        }
        Ok(())
    }

    fn length(&mut self) -> Result<Option<usize>> {
        match self.int()? {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Ok(length) if length <= self.limit => Ok(Some(length)),
                _ => Err(self.damaged(format!("unreasonable length {length}"))),
            },
        }
    }

    /// False for null.
    fn buffer(&mut self, output: &mut Vec<u8>) -> Result<bool> {
        output.clear();
        output.shrink_to(WINDOW);
        match self.length()? {
            None => Ok(false),
            Some(length) => self.append(length, output).map(|()| true),
        }
    }

    /// A string with its length in front, to be decoded.
    fn string_bytes(&mut self, output: &mut Vec<u8>) -> Result<()> {
        output.clear();
        output.shrink_to(WINDOW);
        match self.length()? {
            None => Err(self.damaged("null in place of a string")),
            Some(length) => {
                output.extend_from_slice(&(length as u32).to_be_bytes());
                self.append(length, output)
            }
        }
    }

    fn acl_entry(&mut self) -> Result<AclEntry> {
        // The table is small and its entries have no length of their own: collect the bytes of one, then decode them together.
        let mut bytes = self.take(8)?.to_vec();
        let count = self.int()?;
        bytes.extend_from_slice(&count.to_be_bytes());
        let mut part = Vec::new();
        for _ in 0..count {
            bytes.extend_from_slice(self.take(4)?);
            for _ in 0..2 {
                self.string_bytes(&mut part)?;
                bytes.extend_from_slice(&part);
            }
            if bytes.len() > self.limit {
                return Err(self.damaged("an access control list is unreasonably long"));
            }
        }
        jute::from_slice(&bytes).map_err(|error| self.damaged(format!("an access control list: {error}")))
    }

    /// A checksum over everything before it, and the string `/`.
    fn seal(&mut self) -> Result<()> {
        self.sum();
        let expected = u64::from(self.checksum.finish());
        let offset = self.position();
        let seal = self.take(SEAL)?;
        if seal[..8] != expected.to_be_bytes() || seal[8..] != [0, 0, 0, 1, b'/'] {
            return Err(StoreError::damaged(
                &self.path,
                offset,
                "the checksum is wrong: a byte before this one is not as it was written",
            ));
        }
        Ok(())
    }

    /// Looks at what is left, without taking it; `limit` bytes are enough.
    fn rest(&mut self, output: &mut Vec<u8>, limit: usize) -> Result<()> {
        while self.window.len() - self.taken < limit && self.refill()? {}
        let end = self.window.len().min(self.taken + limit);
        output.extend_from_slice(&self.window[self.taken..end]);
        Ok(())
    }
}
