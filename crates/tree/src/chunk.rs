//! A piece of a list of children: entries in the order of their names' bytes, one behind the other.
//!
//! What always holds: `last` is where the last entry begins, so that a name behind all others needs no look at them.

use crate::nodes::NodeId;

/// An entry: the node's id, the length of the name as it is sent, the name.
const ID_BYTES: usize = 4;
pub(crate) const HEAD_BYTES: usize = ID_BYTES + 4;

/// See the module's documentation.
#[derive(Debug, Default, Clone)]
pub(crate) struct Chunk {
    bytes: Vec<u8>,
    last: u32,
}

/// The entry at the beginning of `bytes`: the node, its name, what follows.
fn split_entry(bytes: &[u8]) -> Option<(NodeId, &[u8], &[u8])> {
    let (id, rest) = bytes.split_first_chunk::<ID_BYTES>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (name, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
    Some((NodeId::from_le_bytes(*id), name, rest))
}

/// The first sixteen bytes as a number, which orders as they do. Bytes that are missing count as zero, so different names may have the same.
pub(crate) fn order_number(name: &[u8]) -> u128 {
    if let Some(first) = name.first_chunk() {
        return u128::from_be_bytes(*first);
    }
    // A copy of so few bytes would be a call.
    match (name.first_chunk(), name.last_chunk()) {
        (Some(first), Some(last)) => {
            let missing_bits = 128 - 8 * name.len() as u32;
            let behind = u64::from_be_bytes(*last).checked_shl(missing_bits).unwrap_or(0);
            u128::from(u64::from_be_bytes(*first)) << 64 | u128::from(behind)
        }
        _ => name.iter().rev().fold(0, |number, byte| number >> 8 | u128::from(*byte) << 120),
    }
}

/// The number of a name of this length, of which nothing but the beginning of these bytes is part.
fn order_number_within(bytes: &[u8; 16], length: usize) -> u128 {
    let missing_bits = 128_u32.saturating_sub(8 * length.min(16) as u32);
    u128::from_be_bytes(*bytes) & u128::MAX.checked_shl(missing_bits).unwrap_or(0)
}

impl Chunk {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn name_at(&self, offset: usize) -> &[u8] {
        split_entry(&self.bytes[offset..]).map_or(&[], |(_, name, _)| name)
    }

    pub(crate) fn first_name(&self) -> &[u8] {
        self.name_at(0)
    }

    /// Whether a name comes behind all that are here.
    pub(crate) fn ends_before(&self, name: &[u8]) -> bool {
        self.is_empty() || self.name_at(self.last as usize) < name
    }

    /// The first entry whose name is not before this one: where it is, and whether it has this name.
    pub(crate) fn find(&self, name: &[u8]) -> (usize, bool) {
        let number = order_number(name);
        let mut rest = self.bytes.as_slice();
        while let Some((_, other, next)) = split_entry(rest) {
            // Nearly all names are told apart by their numbers, without a call. The last ones have too few bytes behind them.
            let order = match rest[HEAD_BYTES..].first_chunk() {
                Some(beginning) => {
                    order_number_within(beginning, other.len()).cmp(&number).then_with(|| other.cmp(name))
                }
                None => other.cmp(name),
            };
            if order.is_ge() {
                return (self.bytes.len() - rest.len(), order.is_eq());
            }
            rest = next;
        }
        (self.bytes.len(), false)
    }

    /// Makes room where this many bytes are to be expected.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve_exact(bytes.saturating_sub(self.bytes.len()));
    }

    /// Adds an entry at a place that [`Chunk::find`] has told.
    pub(crate) fn insert(&mut self, offset: usize, name: &[u8], id: NodeId, most_bytes: usize) {
        let (bytes, end) = (HEAD_BYTES + name.len(), self.bytes.len());
        // Small lists take what they need; those that grow take more.
        if self.bytes.capacity() < end + bytes {
            self.bytes.reserve_exact(bytes.max((end / 2).min(most_bytes.saturating_sub(end))));
        }
        if offset == end {
            self.last = end as u32;
            self.bytes.extend_from_slice(&id.to_le_bytes());
            self.bytes.extend_from_slice(&(name.len() as u32).to_be_bytes());
            self.bytes.extend_from_slice(name);
            return;
        }
        self.last += bytes as u32;
        self.bytes.resize(end + bytes, 0);
        self.bytes.copy_within(offset..end, offset + bytes);
        let entry = &mut self.bytes[offset..offset + bytes];
        entry[..ID_BYTES].copy_from_slice(&id.to_le_bytes());
        entry[ID_BYTES..HEAD_BYTES].copy_from_slice(&(name.len() as u32).to_be_bytes());
        entry[HEAD_BYTES..].copy_from_slice(name);
    }

    /// Takes out the entry that begins there.
    pub(crate) fn remove(&mut self, offset: usize) {
        let bytes = HEAD_BYTES + self.name_at(offset).len();
        self.last = if offset == self.last as usize { self.entry_before(offset) } else { self.last - bytes as u32 };
        self.bytes.drain(offset..offset + bytes);
        if self.bytes.capacity() > 64 && self.bytes.len() < self.bytes.capacity() / 4 {
            self.bytes.shrink_to(self.bytes.len() * 2);
        }
    }

    /// Where the entry begins that ends there; 0 where there is none.
    fn entry_before(&self, end: usize) -> u32 {
        let (mut offset, mut next) = (0, 0);
        while next < end {
            offset = next;
            next += HEAD_BYTES + self.name_at(offset).len();
        }
        offset as u32
    }

    /// The border between two entries that is next to the middle.
    pub(crate) fn middle(&self) -> usize {
        let mut offset = 0;
        while offset < self.bytes.len() / 2 {
            offset += HEAD_BYTES + self.name_at(offset).len();
        }
        offset
    }

    /// Takes out all entries from this border on.
    pub(crate) fn split_off(&mut self, offset: usize) -> Chunk {
        let upper = Chunk { bytes: self.bytes.split_off(offset), last: self.last.saturating_sub(offset as u32) };
        self.bytes.shrink_to_fit();
        self.last = self.entry_before(offset);
        upper
    }

    /// The nodes and their names, from a border between entries on.
    pub(crate) fn entries(&self, offset: usize) -> impl Iterator<Item = (NodeId, &str)> {
        let mut rest = &self.bytes[offset..];
        std::iter::from_fn(move || {
            let (id, name, next) = split_entry(rest)?;
            rest = next;
            Some((id, std::str::from_utf8(name).expect("names were text when they came in")))
        })
    }

    /// Appends all names, each behind its length.
    pub(crate) fn append_names(&self, output: &mut Vec<u8>) {
        let mut rest = self.bytes.as_slice();
        while let Some((_, name, next)) = split_entry(rest) {
            output.extend_from_slice(&rest[ID_BYTES..HEAD_BYTES + name.len()]);
            rest = next;
        }
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    #[cfg(test)]
    pub(crate) fn check(&self) {
        assert_eq!(self.last, self.entry_before(self.bytes.len()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_order_as_names_do(
            one in prop::collection::vec(0_u8..4, 0..20),
            other in prop::collection::vec(0_u8..4, 0..20),
            behind in prop::collection::vec(any::<u8>(), 16),
        ) {
            let numbers = order_number(&one).cmp(&order_number(&other));
            prop_assert!(numbers.is_eq() || numbers == one.cmp(&other));
            let padded = |name: &[u8]| [name, &[0; 16]].concat()[..16].to_vec();
            prop_assert_eq!(numbers.is_eq(), padded(&one) == padded(&other));
            let within = [one.as_slice(), &behind].concat();
            prop_assert_eq!(order_number_within(within.first_chunk().unwrap(), one.len()), order_number(&one));
        }
    }
}
