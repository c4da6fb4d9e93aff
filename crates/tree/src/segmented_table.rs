//! A hash table that never stalls whoever puts something in.
//!
//! An ordinary table that is full moves all of its entries at once, and a client decides how many there are. What always holds here: a
//! change moves the entries of one segment at most, of which a large table has [`SEGMENTS`]; moving reads the entries alone and nothing
//! that they point to, because each holds its hash; what was needed for entries that are gone is given back.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// A power of two.
const SEGMENTS: usize = 64;
const SEGMENT_BITS: u32 = SEGMENTS.ilog2();

/// So many entries are in one segment, which costs little where most tables are small.
const FEW: usize = 4096;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct SegmentedTable<T> {
    /// One or [`SEGMENTS`].
    segments: Vec<HashTable<(u64, T)>>,
    len: usize,
}

impl<T> SegmentedTable<T> {
    pub(crate) fn new() -> SegmentedTable<T> {
        SegmentedTable { segments: vec![HashTable::new()], len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A segment looks at both ends of the hash, the choice of a segment in between.
    fn segment(&self, hash: u64) -> usize {
        (hash >> (56 - SEGMENT_BITS)) as usize & (self.segments.len() - 1)
    }

    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        let found = self.segments[self.segment(hash)].find(hash, |(other, entry)| *other == hash && is_it(entry));
        found.map(|(_, entry)| entry)
    }

    pub(crate) fn find_mut(&mut self, hash: u64, mut is_it: impl FnMut(&T) -> bool) -> Option<&mut T> {
        let segment = self.segment(hash);
        let found = self.segments[segment].find_mut(hash, |(other, entry)| *other == hash && is_it(entry));
        found.map(|(_, entry)| entry)
    }

    /// The entry, made where there is none.
    pub(crate) fn find_or_insert_with(
        &mut self,
        hash: u64,
        mut is_it: impl FnMut(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> &mut T {
        if self.len == FEW && self.segments.len() == 1 {
            self.divide();
        }
        let segment = self.segment(hash);
        let is_it = |(other, entry): &(u64, T)| *other == hash && is_it(entry);
        match self.segments[segment].entry(hash, is_it, |(hash, _)| *hash) {
            Entry::Occupied(entry) => &mut entry.into_mut().1,
            Entry::Vacant(place) => {
                self.len += 1;
                &mut place.insert((hash, make())).into_mut().1
            }
        }
    }

    pub(crate) fn remove(&mut self, hash: u64, mut is_it: impl FnMut(&T) -> bool) -> Option<T> {
        let index = self.segment(hash);
        let segment = &mut self.segments[index];
        let entry = segment.find_entry(hash, |(other, entry)| *other == hash && is_it(entry)).ok()?;
        let ((_, entry), _) = entry.remove();
        self.len -= 1;
        // Segments are about equally full: not all of them get smaller at the same time.
        let few = segment.capacity() * (SEGMENTS + index) / (16 * SEGMENTS);
        if segment.capacity() > 64 && segment.len() < few {
            segment.shrink_to(segment.len() * 2, |(hash, _)| *hash);
        }
        Some(entry)
    }

    fn divide(&mut self) {
        let whole = std::mem::replace(&mut self.segments, (0..SEGMENTS).map(|_| HashTable::new()).collect());
        for (hash, entry) in whole.into_iter().flatten() {
            let segment = self.segment(hash);
            self.segments[segment].insert_unique(hash, (hash, entry), |(hash, _)| *hash);
        }
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.segments.iter().flatten().map(|(_, entry)| entry)
    }

    /// Entries for which there is room.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.segments.iter().map(HashTable::capacity).sum()
    }

    /// The most that one change may move.
    #[cfg(test)]
    pub(crate) fn largest_segment(&self) -> usize {
        self.segments.iter().map(HashTable::len).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::hash::BuildHasher;

    use foldhash::fast::FixedState;
    use proptest::prelude::*;

    use super::*;

    fn hash(number: u32) -> u64 {
        FixedState::with_seed(3).hash_one(number)
    }

    fn put(table: &mut SegmentedTable<u32>, number: u32) {
        table.find_or_insert_with(hash(number), |other| *other == number, || number);
    }

    fn take(table: &mut SegmentedTable<u32>, number: u32) -> Option<u32> {
        table.remove(hash(number), |other| *other == number)
    }

    proptest! {
        /// Against the standard library's set, beyond the number at which it is divided.
        #[test]
        fn holds_what_a_set_holds(first in 0_u32..9000, changes in prop::collection::vec((0_u32..9000, any::<bool>()), 0..500)) {
            let (mut table, mut model) = (SegmentedTable::new(), BTreeSet::new());
            for number in 0..first {
                put(&mut table, number);
                model.insert(number);
            }
            for (number, added) in changes {
                if added {
                    put(&mut table, number);
                    model.insert(number);
                } else {
                    prop_assert_eq!(take(&mut table, number).is_some(), model.remove(&number));
                }
                prop_assert_eq!(table.find(hash(number), |other| *other == number).is_some(), model.contains(&number));
            }
            prop_assert_eq!(table.len(), model.len());
            prop_assert_eq!(table.iter().copied().collect::<BTreeSet<_>>(), model);
        }
    }

    #[test]
    fn a_change_moves_a_part_and_what_is_emptied_is_small_again() {
        let mut table = SegmentedTable::new();
        for number in 0..1_000_000 {
            put(&mut table, number);
        }
        assert!(table.largest_segment() < 20_000, "{}", table.largest_segment());
        let most = table.capacity();
        let mut before = most;
        for number in 0..1_000_000 {
            assert!(take(&mut table, number).is_some());
            if number % 1000 == 0 {
                let given_back = before - table.capacity();
                assert!(given_back <= most / 16, "{given_back} of {most} at once");
                before = table.capacity();
            }
        }
        assert!(table.len() == 0 && table.capacity() < 10_000, "room for {} is kept", table.capacity());
    }
}
