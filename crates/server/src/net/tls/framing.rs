//! Reads DER that comes from others: files, and certificates of peers.
//!
//! What always holds here: no part claims to be longer than what it is a part of. The library makes room for what a part claims before it looks
//! whether that much is there, so a few bytes could ask for hundreds of megabytes.

use der::{Decode, ErrorKind, Result};

/// Bits of a tag.
const CONSTRUCTED: u8 = 0x20;
const NUMBER: u8 = 0x1f;

/// Reads one value, which is all of the bytes.
pub(super) fn read<'a, T: Decode<'a>>(bytes: &'a [u8]) -> Result<T> {
    if !is_framed(bytes) {
        return Err(ErrorKind::Failed.into());
    }
    T::from_der(bytes)
}

/// Whether each part lies within the part that it is in.
fn is_framed(bytes: &[u8]) -> bool {
    // Where the parts end that are being read, the innermost last.
    let mut ends = vec![bytes.len()];
    let mut at = 0;
    while let Some(&end) = ends.last() {
        if at == end {
            ends.pop();
            continue;
        }
        let Some((tag, begin, length)) = header(&bytes[..end], at) else { return false };
        let Some(part_end) = begin.checked_add(length).filter(|part_end| *part_end <= end) else { return false };
        if tag & CONSTRUCTED != 0 {
            ends.push(part_end);
            at = begin;
        } else {
            at = part_end;
        }
    }
    true
}

/// The tag of a part, where its content begins, and how long that claims to be. None for what the library does not read either: numbers of tags that
/// take more bytes, lengths that are not said at the beginning, lengths of more than four bytes.
fn header(bytes: &[u8], at: usize) -> Option<(u8, usize, usize)> {
    let [tag, first, ..] = *bytes.get(at..)? else { return None };
    if tag & NUMBER == NUMBER {
        return None;
    }
    let count = match first {
        0..0x80 => return Some((tag, at + 2, first.into())),
        0x80 => return None,
        0x81..=0x84 => usize::from(first & 0x7f),
        0x85.. => return None,
    };
    let digits = bytes.get(at + 2..at + 2 + count)?;
    let length = digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit));
    Some((tag, at + 2 + count, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_lie_within_their_whole() {
        for framed in [&[0x04, 0][..], &[0x30, 4, 0x04, 2, 1, 2], &[0x30, 3, 0x04, 1, 7], &[0x30, 0x81, 2, 0x05, 0]] {
            assert!(is_framed(framed), "{framed:x?}");
        }
        for broken in [
            &[0x04][..],
            &[0x04, 1],
            &[0x30, 4, 0x04, 3, 1, 2],
            &[0x30, 3, 0x04, 2, 1, 2],
            &[0x30, 0x80, 0, 0],
            &[0x30, 6, 0x04, 0x84, 0x0f, 0xff, 0xff, 0xff],
            &[0x30, 0x85, 0, 0, 0, 0, 0],
            &[0x3f, 1, 0],
        ] {
            assert!(!is_framed(broken), "{broken:x?}");
        }
    }
}
