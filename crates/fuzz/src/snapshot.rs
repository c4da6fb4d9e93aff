//! A snapshot file, plain or compressed: loaded, verified, recovered from, written again in every form; its body as a leader's stream.
//!
//! The input is the file; its first bytes tell the compression. A plain one is tried again with its seals made right, so that what stands
//! between them is looked at too. What always holds: what loads is a sound tree and has the right seals; written again it is the same tree.

use std::io::Read;
use std::path::{Path, PathBuf};

use rookeeper_proto::jute::Deserializer;
use rookeeper_proto::quorum::SNAPSHOT_SIGNATURE;
use rookeeper_proto::snapshot::{AclEntry, FileHeader, NodeEntry, SessionEntry};
use rookeeper_proto::{TtlEncoding, Zxid};
use rookeeper_store::snapshot_reader::{load, verify};
use rookeeper_store::snapshot_stream::{Progress, SnapshotReceiver};
use rookeeper_store::{
    Compression, Directories, RecoveryOptions, SimDisk, SnapshotOptions, names, recover, write_snapshot,
};
use rookeeper_tree::Tree;

use crate::replay;

/// The largest string or buffer, smaller than in earnest, so that it is met.
const MAX_RECORD_BYTES: usize = 64 << 10;

/// Behind the nodes: a checksum, and the string `/`.
const SEAL_BYTES: usize = 13;

/// A compressed input may stand for a thousand times as many bytes; what is larger than this is only verified, which takes no memory.
const MAX_CONTENT_BYTES: usize = 128 << 10;

pub fn run(bytes: &[u8]) {
    let compression = match bytes {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x82, b'S', ..] => Compression::Snappy,
        _ => Compression::None,
    };
    try_file(bytes, compression);
    if compression == Compression::None
        && let Some(sealed) = sealed(bytes)
    {
        try_file(&sealed, compression);
        try_stream(&sealed, bytes.len() % 97 + 1);
    }
}

/// The same body as a leader sends it, in pieces: what is a tree in a file is that tree in a stream.
fn try_stream(file: &[u8], piece_bytes: usize) {
    let zxid = Zxid(i64::MAX);
    let dir = directories().snapshot_dir;
    let disk = SimDisk::new(1);
    disk.put(&dir.join(names::snapshot(zxid, Compression::None)), file);
    let of_file = load(&disk, &dir, zxid, Compression::None, MAX_RECORD_BYTES).ok().map(|loaded| loaded.tree);
    let body = &file[FileHeader::LENGTH..file.len() - SEAL_BYTES];
    let stream = [body, &(SNAPSHOT_SIGNATURE.len() as u32).to_be_bytes(), SNAPSHOT_SIGNATURE].concat();
    let mut receiver = SnapshotReceiver::new(zxid, 0, TtlEncoding::Current);
    let mut of_stream = None;
    for piece in stream.chunks(piece_bytes) {
        match receiver.feed(piece) {
            Ok(Progress::NeedMore) => {}
            Ok(Progress::Done { tree, .. }) => {
                of_stream = Some(tree);
                break;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                break;
            }
        }
    }
    let what = |tree: &Option<Tree>| tree.as_ref().map(|tree| (tree.digest(), tree.node_count()));
    // The stream's limit is the larger one.
    assert!(
        of_file.is_none() || what(&of_stream) == what(&of_file),
        "a file and a stream of the same body are the same tree"
    );
}

/// The snapshot with its magic and its first seal right and nothing behind it; `None` where its nodes do not end.
fn sealed(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut input = Deserializer::new(bytes.get(FileHeader::LENGTH..)?);
    let _sessions: Vec<SessionEntry> = input.read().ok()?;
    let lists: i32 = input.read().ok()?;
    for _ in 0..lists {
        input.read::<AclEntry>().ok()?;
    }
    // The end of the nodes is a path alone.
    while !input.rest().starts_with(b"\0\0\0\x01/") {
        input.read::<NodeEntry<'_>>().ok()?;
    }
    let end = bytes.len() - input.rest().len() + 5;
    let mut sealed = bytes[..end].to_vec();
    sealed[..8].copy_from_slice(b"ZKSN\0\0\0\x02");
    let checksum = u64::from(simd_adler32::adler32(&sealed.as_slice()));
    sealed.extend(checksum.to_be_bytes());
    sealed.extend(b"\0\0\0\x01/");
    Some(sealed)
}

fn directories() -> Directories {
    Directories::new(Path::new("/data"), Path::new("/data"))
}

fn try_file(content: &[u8], compression: Compression) {
    // No node can be younger: a snapshot of the tree would leave that one to the log.
    let zxid = Zxid(i64::MAX);
    let dir = directories().snapshot_dir;
    let path = dir.join(names::snapshot(zxid, compression));
    let disk = SimDisk::new(1);
    disk.put(&path, content);
    let verified = verify(&disk, &dir, zxid, compression, MAX_RECORD_BYTES);
    if let Err(error) = &verified {
        assert!(!error.to_string().is_empty());
    }
    if compression != Compression::None && !is_small(content, compression) {
        return;
    }
    let loaded = load(&disk, &dir, zxid, compression, MAX_RECORD_BYTES);
    if let Ok(loaded) = &loaded {
        assert_eq!(verified.ok(), Some(loaded.info), "what loads can be verified");
        replay::check(&loaded.tree);
        written_again(&loaded.tree);
    }
    let options = RecoveryOptions { max_record_bytes: MAX_RECORD_BYTES, ..RecoveryOptions::default() };
    let recovered = recover(&disk, &directories(), &options);
    if let (Err(_), Ok(_)) = (&loaded, &recovered) {
        panic!("recovered from a snapshot that does not load");
    }
    assert_eq!(disk.content(&path).as_deref(), Some(content), "a snapshot is never changed");
}

fn is_small(content: &[u8], compression: Compression) -> bool {
    // Snappy's chunks are small, and few fit into an input.
    if compression == Compression::Snappy {
        return content.len() <= 8 << 10;
    }
    let mut plain = Vec::new();
    let _ = flate2::read::GzDecoder::new(content).take(MAX_CONTENT_BYTES as u64 + 1).read_to_end(&mut plain);
    plain.len() <= MAX_CONTENT_BYTES
}

fn written_again(tree: &Tree) {
    for compression in [Compression::None, Compression::Gzip, Compression::Snappy] {
        let disk = SimDisk::new(1);
        let dir = PathBuf::from("/other/version-2");
        disk.put(&dir.join("currentEpoch"), b"0");
        let options =
            SnapshotOptions { compression, digests: true, portion_bytes: 4096, max_record_bytes: MAX_RECORD_BYTES };
        let written = write_snapshot(&disk, &dir, &options, &mut |look| look(tree), &mut |_| Ok(()))
            .expect("this disk does not fail");
        let again =
            load(&disk, &dir, written.zxid, compression, MAX_RECORD_BYTES).expect("what is written can be read");
        assert_eq!((again.tree.digest(), again.tree.node_count()), (tree.digest(), tree.node_count()));
        assert_eq!(again.info.digest.map(|trailer| trailer.digest.value), Some(tree.digest()));
    }
}
