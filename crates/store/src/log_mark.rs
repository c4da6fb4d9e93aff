//! How a log says up to where it was durable when it was last written.
//!
//! A power cut may keep any part of the last batch, also its end without its beginning. So that this is never mistaken for damage to
//! acknowledged records, every batch notes where it begins: everything before that place was durable when the batch was written. The note
//! stands in two places:
//! - **behind the records**, with the same write as the batch: twelve zeros, at which every reader of the format stops, then the tail mark.
//!   The next batch overwrites it. A torn batch may lose it.
//! - **in the header**, in the database id, which no reader of the format looks at. That is another page of the disk for each sync, so it is
//!   written only where a batch begins in another page than the header's mark names.
//!
//! So the header's mark is never further behind than the beginning of the page in which the torn batch begins. What lies in that page was
//! at risk as a whole when the power went.

use rookeeper_proto::snapshot::FileHeader;

use crate::disk::DiskFile;
use crate::log_writer::RECORD_HEAD;

/// The disk's unit of writing; where it is another one, the marks are as true and only their cost is another.
const PAGE: u64 = 4096;
/// Where the database id stands in the header.
const HEADER_MARK_OFFSET: u64 = 8;
/// The upper sixteen bits of a mark; the lower ones are the offset.
const TAG: u64 = 0x524b;
const OFFSET_BITS: u32 = 48;
/// The last byte of a tail mark is not zero, so that the mark is where the data of a file ends.
const LAST_BYTE: u8 = b'D';
const MARK: usize = 8;
const CHECKSUM: usize = 4;
/// Zeros, mark, checksum, last byte.
pub(crate) const TAIL_MARK: usize = RECORD_HEAD + MARK + CHECKSUM + 1;

/// The offset up to which the file was durable when its header was written, if one of ours wrote it.
pub(crate) fn in_header(header: &FileHeader) -> Option<u64> {
    decode(header.dbid as u64)
}

/// A database id that is a mark.
pub(crate) fn database_id(offset: u64) -> i64 {
    encode(offset) as i64
}

/// Notes in a file's header up to where it is durable.
pub(crate) fn write_in_header(file: &mut dyn DiskFile, offset: u64) -> std::io::Result<()> {
    file.write_at(&encode(offset).to_be_bytes(), HEADER_MARK_OFFSET)
}

/// Whether a batch that begins at `batch` needs a new mark in the header.
pub(crate) fn header_is_behind(in_header: u64, batch: u64) -> bool {
    in_header / PAGE != batch / PAGE
}

/// Adds the mark to what is written up to `end`, where the records end.
pub(crate) fn append_behind(buffer: &mut Vec<u8>, durable: u64, end: u64) {
    buffer.extend_from_slice(&[0; RECORD_HEAD]);
    buffer.extend_from_slice(&encode(durable).to_be_bytes());
    buffer.extend_from_slice(&checksum(durable, end).to_be_bytes());
    buffer.push(LAST_BYTE);
}

/// What the last bytes of a file say that stand from `start` on: up to where it was durable. `None` where they are no mark.
pub(crate) fn behind(bytes: &[u8; TAIL_MARK], start: u64) -> Option<u64> {
    let (zeros, rest) = bytes.split_first_chunk::<RECORD_HEAD>()?;
    let (mark, rest) = rest.split_first_chunk::<MARK>()?;
    let (found, last) = rest.split_first_chunk::<CHECKSUM>()?;
    let durable = decode(u64::from_be_bytes(*mark))?;
    let is_whole = *zeros == [0; RECORD_HEAD] && last == [LAST_BYTE] && durable <= start;
    (is_whole && u32::from_be_bytes(*found) == checksum(durable, start)).then_some(durable)
}

fn encode(offset: u64) -> u64 {
    TAG << OFFSET_BITS | offset
}

fn decode(mark: u64) -> Option<u64> {
    (mark >> OFFSET_BITS == TAG).then_some(mark & ((1 << OFFSET_BITS) - 1))
}

/// The place is part of it, so that a mark that stands elsewhere is none.
fn checksum(durable: u64, place: u64) -> u32 {
    let mut adler = simd_adler32::Adler32::new();
    adler.write(&encode(durable).to_be_bytes());
    adler.write(&place.to_be_bytes());
    adler.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(durable: u64, end: u64) -> [u8; TAIL_MARK] {
        let mut bytes = Vec::new();
        append_behind(&mut bytes, durable, end);
        *bytes.first_chunk().expect("it has that length")
    }

    #[test]
    fn a_mark_counts_only_whole_and_in_its_place() {
        let bytes = mark(5000, 7000);
        assert_eq!(behind(&bytes, 7000), Some(5000));
        assert_eq!(behind(&bytes, 7001), None);
        assert_eq!(behind(&mark(5000, 4999), 4999), None, "nothing behind the end of a file was durable");
        for bit in 0..TAIL_MARK * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(behind(&flipped, 7000), None, "bit {bit}");
        }
    }

    #[test]
    fn the_header_follows_the_page_in_which_a_batch_begins() {
        assert!(!header_is_behind(16, 4095));
        assert!(header_is_behind(16, 4096));
        assert!(!header_is_behind(4096, 8191));
        assert!(header_is_behind(8191, 8192));
    }
}
