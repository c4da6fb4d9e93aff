//! Random bytes and flipped bits in logs and snapshots: never a panic, never more memory than the limit allows.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use proptest::prelude::*;
use rookeeper_proto::Zxid;
use rookeeper_store::{
    Compression, Directories, LogWriter, RecoveryOptions, SimDisk, SnapshotOptions, check, names, recover,
    write_snapshot,
};
use support::{History, directories, log_options, log_path, start};

/// Notes the largest single allocation of each thread since it was last reset.
struct Largest;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn note(size: usize) {
    // A thread that ends has nothing to note any more.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
}

#[allow(unsafe_code)] // An allocator can't be written without; it only passes on.
unsafe impl GlobalAlloc for Largest {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Largest = Largest;

const LIMIT: usize = 64 << 10;
/// The windows of the readers, the limit on records, and, largest of all, what a snappy chunk may hold.
const MOST: usize = 4 << 20;

fn read_everything(disk: &SimDisk) {
    let options = RecoveryOptions { max_record_bytes: LIMIT, trust_empty_snapshot: true, ..RecoveryOptions::default() };
    let directories: Directories = directories();
    LARGEST.set(0);
    let _ = check(disk, &directories, &options);
    let _ = recover(disk, &directories, &options);
    let largest = LARGEST.get();
    assert!(largest <= MOST, "{largest} bytes at once");
}

fn put_log(content: &[u8]) -> SimDisk {
    let disk = SimDisk::new(1);
    start(&disk).unwrap();
    disk.put(&log_path("log.1"), content);
    disk
}

fn put_snapshot(compression: Compression, content: &[u8]) -> SimDisk {
    let disk = SimDisk::new(1);
    start(&disk).unwrap();
    disk.put(&directories().snapshot_dir.join(names::snapshot(Zxid(7), compression)), content);
    disk
}

fn good_log() -> Vec<u8> {
    let history = History::new(2, 30);
    let disk = SimDisk::new(1);
    start(&disk).unwrap();
    let mut writer = LogWriter::new(Arc::new(disk.clone()), &directories().log_dir, log_options(1), Zxid::ZERO);
    for zxid in 1..=30 {
        writer.append(Zxid(zxid), &history.body(Zxid(zxid))).unwrap();
    }
    writer.commit().unwrap();
    drop(writer);
    disk.content(&log_path("log.1")).unwrap()
}

fn good_snapshot(compression: Compression) -> Vec<u8> {
    let tree = History::new(2, 7).tree_at(Zxid(7));
    let disk = SimDisk::new(1);
    start(&disk).unwrap();
    let options = SnapshotOptions { compression, ..SnapshotOptions::default() };
    let dir = directories().snapshot_dir;
    write_snapshot(&disk, &dir, &options, &mut |read| read(&tree), &mut |_| Ok(())).unwrap();
    disk.content(&dir.join(names::snapshot(Zxid(7), compression))).unwrap()
}

/// What a file can be made into: bytes replaced, in runs that may be lengths and counts.
fn change(mut content: Vec<u8>, changes: &[(prop::sample::Index, Vec<u8>)]) -> Vec<u8> {
    for (at, bytes) in changes {
        let at = at.index(content.len());
        let count = bytes.len().min(content.len() - at);
        content[at..at + count].copy_from_slice(&bytes[..count]);
    }
    content
}

/// And in one of four cases its end cut off.
fn cut(mut content: Vec<u8>, length: prop::sample::Index) -> Vec<u8> {
    let length = length.index(content.len() * 4);
    content.truncate(length);
    content
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, Vec<u8>)>> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..4),
        any::<i32>().prop_map(|number| number.to_be_bytes().to_vec()),
        prop_oneof![Just(i32::MAX), Just(-2), Just(LIMIT as i32), Just(1 << 24)]
            .prop_map(|number| number.to_be_bytes().to_vec()),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), bytes), 1..6)
}

fn compressions() -> impl Strategy<Value = Compression> {
    prop::sample::select(Compression::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_of_random_bytes(content in prop::collection::vec(any::<u8>(), 0..2000), header in any::<bool>()) {
        let header: &[u8] = if header { b"ZKLG\0\0\0\x02\0\0\0\0\0\0\0\0" } else { b"" };
        read_everything(&put_log(&[header, &content].concat()));
    }

    #[test]
    fn a_log_that_was_changed(changes in changes(), length in any::<prop::sample::Index>()) {
        read_everything(&put_log(&cut(change(good_log(), &changes), length)));
    }

    /// Lengths and contents that the checksum of the record vouches for.
    #[test]
    fn a_record_that_was_changed(changes in changes(), number in 1..=30i64) {
        let body = change(History::new(2, 30).body(Zxid(number)), &changes);
        let mut content = b"ZKLG\0\0\0\x02\0\0\0\0\0\0\0\0".to_vec();
        content.extend_from_slice(&u64::from(simd_adler32::adler32(&body.as_slice())).to_be_bytes());
        content.extend_from_slice(&(body.len() as u32).to_be_bytes());
        content.extend_from_slice(&body);
        content.push(b'B');
        read_everything(&put_log(&content));
    }

    #[test]
    fn a_snapshot_of_random_bytes(content in prop::collection::vec(any::<u8>(), 0..2000), form in compressions()) {
        let mut content = content;
        let (head, tail): (&[u8], &[u8]) = match form {
            Compression::None => (b"ZKSN\0\0\0\x02\xff\xff\xff\xff\xff\xff\xff\xff", &[0, 0, 0, 1, b'/']),
            Compression::Gzip => (&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], &[]),
            Compression::Snappy => (b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01", &[]),
        };
        content.splice(..0, head.iter().copied());
        content.extend_from_slice(tail);
        read_everything(&put_snapshot(form, &content));
    }

    #[test]
    fn a_snapshot_that_was_changed(form in compressions(), changes in changes(), length in any::<prop::sample::Index>()) {
        let mut content = cut(change(good_snapshot(form), &changes), length);
        if form == Compression::None {
            content.extend_from_slice(&[0, 0, 0, 1, b'/']);
        }
        read_everything(&put_snapshot(form, &content));
    }

    /// Behind a seal that is right, so that the lengths are believed as far as they ever are.
    #[test]
    fn a_sealed_snapshot_that_was_changed(changes in changes()) {
        let good = good_snapshot(Compression::None);
        let end = good.len() - 13 - 33 - 21;
        let mut content = change(good[..end].to_vec(), &changes);
        let checksum = u64::from(simd_adler32::adler32(&content.as_slice()));
        content.extend_from_slice(&checksum.to_be_bytes());
        content.extend_from_slice(&[0, 0, 0, 1, b'/']);
        read_everything(&put_snapshot(Compression::None, &content));
    }
}

#[test]
fn the_allocations_are_seen() {
    LARGEST.set(0);
    let large = vec![1u8; 700 << 10];
    assert!(LARGEST.get() >= large.len());
}
