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

use rookeeper_proto::snapshot::{DigestTrailer, FileHeader};
use rookeeper_proto::txn::Digest;
use rookeeper_proto::{Zxid, jute};
use rookeeper_tree::{Tree, TreeBuilder};

use crate::disk::Disk;
use crate::error::{Result, StoreError};
use crate::names::{self, Compression};
use crate::snapshot_body::{Listed, SnapshotBody, Target, WrongBody};
use crate::snapshot_file;

/// How much is read at a time, in bytes.
const WINDOW: usize = 64 << 10;
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
    builder: TreeBuilder,
    disk: &dyn Disk,
    dir: &Path,
    zxid: Zxid,
    compression: Compression,
    limit: usize,
) -> Result<LoadedSnapshot> {
    let path = dir.join(names::snapshot(zxid, compression));
    load_file(builder, disk, &path, compression, limit, |_| zxid)
}

/// Reads a snapshot under any name into a tree, which ends at the transaction that `zxid` makes of what the snapshot says.
pub(crate) fn load_file(
    builder: TreeBuilder,
    disk: &dyn Disk,
    path: &Path,
    compression: Compression,
    limit: usize,
    zxid: impl FnOnce(&SnapshotInfo) -> Zxid,
) -> Result<LoadedSnapshot> {
    let (info, body) = read(disk, path, compression, SnapshotBody::new(Target::Tree(Box::new(builder)), limit))?;
    let tree = body.finish(zxid(&info)).map_err(|error| StoreError::damaged(path, None, error.to_string()))?;
    Ok(LoadedSnapshot { tree: tree.expect("this body has a builder"), info })
}

/// Reads a snapshot for its seals alone.
pub fn verify(disk: &dyn Disk, dir: &Path, zxid: Zxid, compression: Compression, limit: usize) -> Result<SnapshotInfo> {
    let path = dir.join(names::snapshot(zxid, compression));
    Ok(read(disk, &path, compression, SnapshotBody::new(Target::Nothing, limit))?.0)
}

/// Lists what a snapshot of any name holds, for somebody who looks at it: the suffix of the name tells the compression. Where all nodes are
/// there and a seal behind them is wrong or missing, the error comes beside the list. `limit`: the largest string or buffer, in bytes.
pub fn list(disk: &dyn Disk, path: &Path, limit: usize) -> Result<(Listed, Option<StoreError>)> {
    let mut input = open(disk, path, Compression::of_name(path))?;
    let mut body = SnapshotBody::new(Target::List(Listed::default()), limit);
    input.body(&mut body)?;
    let sealed = read_trailers(&mut input, &mut SnapshotInfo::default());
    Ok((body.into_list(), sealed.err()))
}

fn read(
    disk: &dyn Disk,
    path: &Path,
    compression: Compression,
    mut body: SnapshotBody,
) -> Result<(SnapshotInfo, SnapshotBody)> {
    let mut input = open(disk, path, compression)?;
    input.body(&mut body)?;
    let mut info = SnapshotInfo { nodes: body.nodes, sessions: body.sessions, ..SnapshotInfo::default() };
    read_trailers(&mut input, &mut info)?;
    Ok((info, body))
}

/// The input behind its header, which is right.
fn open(disk: &dyn Disk, path: &Path, compression: Compression) -> Result<Input> {
    let stream = snapshot_file::reader(disk, path, compression).map_err(|error| of_stream(path, 0, error))?;
    let mut input = Input::new(stream, path);
    let magic_offset = input.position();
    let header: FileHeader = input.record(FileHeader::LENGTH)?;
    if header.magic != FileHeader::SNAPSHOT.magic {
        return Err(StoreError::damaged(path, magic_offset, "it doesn't begin with ZKSN, so it is not a snapshot"));
    }
    if header.version > crate::FORMAT_VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), version: header.version });
    }
    Ok(input)
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
    window: Vec<u8>,
    taken: usize,
    /// The part of the window that is in the checksum.
    summed: usize,
    checksum: simd_adler32::Adler32,
    /// Offset of the window in the content.
    window_start: u64,
}

impl Input {
    fn new(stream: Box<dyn Read>, path: &Path) -> Input {
        Input {
            stream,
            path: path.to_owned(),
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

    /// Reads on, behind what was not taken; false at the end.
    fn refill(&mut self) -> Result<bool> {
        self.sum();
        self.window_start += self.taken as u64;
        self.window.drain(..self.taken);
        (self.taken, self.summed) = (0, 0);
        let left = self.window.len();
        // A large record must not keep its memory for ever.
        if left < WINDOW {
            self.window.shrink_to(2 * WINDOW);
        }
        self.window.resize(left + WINDOW, 0);
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

    /// A few bytes, in one piece.
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

    /// Everything up to the end mark.
    fn body(&mut self, body: &mut SnapshotBody) -> Result<()> {
        loop {
            match body.take(&self.window[self.taken..]) {
                Ok(count) => self.taken += count,
                Err(WrongBody { at, problem }) => {
                    self.taken += at;
                    return Err(self.damaged(problem));
                }
            }
            if body.is_over() {
                return Ok(());
            }
            if !self.refill()? {
                return Err(self.damaged("the file ends early"));
            }
        }
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
