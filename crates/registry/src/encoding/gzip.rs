//! Compressed lists without compressing what was compressed before.
//!
//! Each application is compressed by itself into a part that ends at a byte's boundary and refers to nothing before it. A list is one gzip member
//! made of such parts, with short uncompressed blocks between them; the checksum of the whole follows from those of the parts.

use bytes::Bytes;
use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress};

use super::list::{Body, Plain};

/// The level that the original uses.
const LEVEL: u32 = 6;

/// The longest uncompressed block.
const MAX_STORED: usize = 0xffff;

/// The first ten bytes: the format, its method, no flags, no time, an unknown system.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// An empty last block.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// A part of a compressed stream.
#[derive(Debug)]
pub struct Deflated {
    bytes: Bytes,
    /// Of what was compressed.
    checksum: u32,
    length: u64,
}

impl Deflated {
    pub(super) fn new(plain: &[u8]) -> Deflated {
        let mut compress = Compress::new(Compression::new(LEVEL), false);
        let mut out = Vec::with_capacity(plain.len() / 8 + 128);
        // A full flush ends at a byte's boundary once all is taken and room is left in `out`.
        loop {
            let taken = compress.total_in() as usize;
            // The method refuses only what follows the last block, which is never asked for.
            let _ = compress.compress_vec(&plain[taken..], &mut out, FlushCompress::Full);
            if compress.total_in() as usize == plain.len() && out.len() < out.capacity() {
                break;
            }
            out.reserve(out.capacity().max(128));
        }
        out.shrink_to_fit();
        Deflated { bytes: out.into(), checksum: checksum(plain), length: plain.len() as u64 }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(bytes);
    hasher.finalize()
}

/// Puts parts together.
#[derive(Debug)]
pub(super) struct Gzip {
    out: Plain,
    checksum: Hasher,
    length: u64,
}

impl Gzip {
    /// For about so many bytes.
    pub fn new(length: usize) -> Gzip {
        let mut out = Plain::new(length);
        out.glue(&HEAD);
        Gzip { out, checksum: Hasher::new(), length: 0 }
    }

    /// A few bytes, uncompressed.
    pub fn stored(&mut self, bytes: &[u8]) {
        for block in bytes.chunks(MAX_STORED) {
            let length = block.len() as u16;
            self.out.glue(&[0]);
            self.out.glue(&length.to_le_bytes());
            self.out.glue(&(!length).to_le_bytes());
            self.out.glue(block);
        }
        self.checksum.update(bytes);
        self.length += bytes.len() as u64;
    }

    pub fn deflated(&mut self, part: &Deflated) {
        self.out.shared(&part.bytes);
        self.checksum.combine(&Hasher::new_with_initial_len(part.checksum, part.length));
        self.length += part.length;
    }

    pub fn finish(mut self) -> Body {
        self.out.glue(&LAST_BLOCK);
        self.out.glue(&self.checksum.finalize().to_le_bytes());
        // The length modulo 2^32, as the format wants it.
        self.out.glue(&(self.length as u32).to_le_bytes());
        self.out.finish()
    }
}
