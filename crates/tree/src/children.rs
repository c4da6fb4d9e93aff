//! The children of one node, in the order of their names.
//!
//! What always holds: the order is that of the names' bytes and depends on nothing else, neither on what was created first nor on what was
//! deleted, so all servers list alike; no change touches more than one chunk and the list of the chunks. Names stand
//! as clients receive them, so that a long list is copied and not put together from nodes all over the memory. The chunks can be shared
//! with somebody who copies a long list while it changes: what changes then is copied first.
//!
//! The original lists in the order of its hash set, which stays the same while nothing is created.

use std::sync::Arc;

use crate::nodes::NodeId;

/// An entry: the node's id, the length of the name as it is sent, the name.
const ID_BYTES: usize = 4;
const HEAD_BYTES: usize = ID_BYTES + 4;

/// A chunk that would grow beyond this is divided; a longer one of a list with so many names that there would be too many chunks.
const CHUNK_BYTES: usize = 1024;
const MAX_CHUNK_BYTES: usize = 16 << 10;
const CHUNKS: usize = 4096;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Children {
    /// Most nodes with children have few of them, and no second chunk.
    first: Vec<u8>,
    more: Vec<Arc<Vec<u8>>>,
    count: u32,
    /// Bytes of all names together.
    name_bytes: usize,
}

/// Where an entry stands or would stand.
#[derive(Debug, Clone, Copy)]
struct Place {
    chunk: usize,
    offset: usize,
}

/// The entry at the beginning of `bytes`: the node, its name, what follows.
fn split_entry(bytes: &[u8]) -> Option<(NodeId, &[u8], &[u8])> {
    let (id, rest) = bytes.split_first_chunk::<ID_BYTES>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (name, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
    Some((NodeId::from_le_bytes(*id), name, rest))
}

fn first_name(chunk: &[u8]) -> &[u8] {
    split_entry(chunk).map_or(&[], |(_, name, _)| name)
}

impl Children {
    pub(crate) fn len(&self) -> usize {
        self.count as usize
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What [`Children::append_names`] appends.
    pub(crate) fn encoded_bytes(&self) -> usize {
        self.name_bytes + 4 * self.len()
    }

    fn chunk(&self, index: usize) -> &[u8] {
        if index == 0 { &self.first } else { &self.more[index - 1] }
    }

    fn chunk_mut(&mut self, index: usize) -> &mut Vec<u8> {
        if index == 0 { &mut self.first } else { Arc::make_mut(&mut self.more[index - 1]) }
    }

    /// The first entry whose name is not before this one: where it is, and whether it has this name.
    fn find(&self, name: &[u8]) -> (Place, bool) {
        // Names with growing numbers come last.
        let chunk = match self.more.last() {
            Some(last) if first_name(last) > name => self.more.partition_point(|chunk| first_name(chunk) <= name),
            _ => self.more.len(),
        };
        let bytes = self.chunk(chunk);
        let mut rest = bytes;
        while let Some((_, other, next)) = split_entry(rest) {
            if other >= name {
                return (Place { chunk, offset: bytes.len() - rest.len() }, other == name);
            }
            rest = next;
        }
        (Place { chunk, offset: bytes.len() }, false)
    }

    /// Adds a child with a name that no other has.
    pub(crate) fn insert(&mut self, name: &str, id: NodeId) {
        let (mut place, found) = self.find(name.as_bytes());
        debug_assert!(!found, "no two children have one name");
        let bytes = HEAD_BYTES + name.len();
        let full = self.chunk(place.chunk).len();
        if full > 0 && full + bytes > (self.name_bytes / CHUNKS).clamp(CHUNK_BYTES, MAX_CHUNK_BYTES) {
            place = self.divide(place);
        }
        let chunk = self.chunk_mut(place.chunk);
        let end = chunk.len();
        // Small lists take what they need; those that grow take more.
        if chunk.capacity() < end + bytes {
            chunk.reserve_exact(bytes.max(end / 2));
        }
        chunk.resize(end + bytes, 0);
        chunk.copy_within(place.offset..end, place.offset + bytes);
        let entry = &mut chunk[place.offset..place.offset + bytes];
        entry[..ID_BYTES].copy_from_slice(&id.to_le_bytes());
        entry[ID_BYTES..HEAD_BYTES].copy_from_slice(&(name.len() as u32).to_be_bytes());
        entry[HEAD_BYTES..].copy_from_slice(name.as_bytes());
        self.count += 1;
        self.name_bytes += name.len();
    }

    /// Makes two chunks of one that is full. Returns where `place` has gone.
    fn divide(&mut self, place: Place) -> Place {
        let is_last_chunk = place.chunk == self.more.len();
        let chunk = self.chunk_mut(place.chunk);
        // Behind the last of all names the full chunk stays full, for the next names will come behind this one.
        let is_last = is_last_chunk && place.offset == chunk.len();
        let mut at = place.offset;
        if !is_last {
            let half = chunk.len() / 2;
            at = 0;
            while at < half {
                at = split_entry(&chunk[at..]).map_or(chunk.len(), |(_, _, rest)| chunk.len() - rest.len());
            }
            // A name may be longer than a chunk.
            if at == chunk.len() {
                at = place.offset;
            }
        }
        let upper = chunk.split_off(at);
        chunk.shrink_to_fit();
        self.more.insert(place.chunk, Arc::new(upper));
        // At the border it goes to the lower chunk, whose first name does not change, but alone to a chunk of its own.
        let to_upper = place.offset > at || self.more[place.chunk].is_empty();
        if to_upper { Place { chunk: place.chunk + 1, offset: place.offset - at } } else { place }
    }

    /// Takes a child out. It is there.
    pub(crate) fn remove(&mut self, name: &str) {
        let (Place { chunk: index, offset }, found) = self.find(name.as_bytes());
        assert!(found, "a parent lists its child");
        let chunk = self.chunk_mut(index);
        chunk.drain(offset..offset + HEAD_BYTES + name.len());
        if chunk.capacity() > 64 && chunk.len() < chunk.capacity() / 4 {
            chunk.shrink_to(chunk.len() * 2);
        }
        if chunk.is_empty() {
            if index > 0 {
                self.more.remove(index - 1);
            } else if !self.more.is_empty() {
                self.first = Arc::unwrap_or_clone(self.more.remove(0));
            }
            if self.more.capacity() > 16 && self.more.len() < self.more.capacity() / 4 {
                self.more.shrink_to(self.more.len() * 2);
            }
        }
        self.count -= 1;
        self.name_bytes -= name.len();
    }

    fn chunks(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(&self.first).chain(self.more.iter().map(Arc::as_ref)).map(Vec::as_slice)
    }

    /// The nodes and their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &str)> {
        self.chunks().flat_map(entries)
    }

    /// The first children in the order, or those behind a name, which may be gone by now; at most `limit`.
    pub(crate) fn behind(&self, name: Option<&str>, limit: usize) -> impl Iterator<Item = (NodeId, &str)> {
        let place = name.map_or(Place { chunk: 0, offset: 0 }, |name| self.find(name.as_bytes()).0);
        let first = &self.chunk(place.chunk)[place.offset..];
        let later = self.more[place.chunk..].iter().map(|chunk| chunk.as_slice());
        let listed = std::iter::once(first).chain(later).flat_map(entries);
        listed.skip_while(move |(_, other)| Some(*other) == name).take(limit)
    }

    /// Appends all names, each behind its length.
    pub(crate) fn append_names(&self, output: &mut Vec<u8>) {
        output.reserve(self.encoded_bytes());
        self.chunks().for_each(|chunk| append_names_of(chunk, output));
    }

    /// The names as they are now, to be copied while they change.
    pub(crate) fn shared(&self) -> ChildNames {
        let chunks = std::iter::once(Arc::new(self.first.clone())).chain(self.more.iter().cloned()).collect::<Vec<_>>();
        ChildNames { count: self.len(), bytes: self.encoded_bytes(), left: chunks.into_iter() }
    }
}

/// The names of a node's children at one moment.
#[derive(Debug, Default)]
pub struct ChildNames {
    count: usize,
    bytes: usize,
    left: std::vec::IntoIter<Arc<Vec<u8>>>,
}

impl ChildNames {
    /// How many there are, those included that were appended.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What all of them take as they are sent.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends further names, each behind its length, about `limit` bytes of them. False where nothing is left.
    pub fn append_some(&mut self, limit: usize, output: &mut Vec<u8>) -> bool {
        let end = output.len() + limit;
        while output.len() < end {
            let Some(chunk) = self.left.next() else { return false };
            append_names_of(&chunk, output);
        }
        true
    }
}

fn append_names_of(chunk: &[u8], output: &mut Vec<u8>) {
    let mut rest = chunk;
    while let Some((_, name, next)) = split_entry(rest) {
        output.extend_from_slice(&rest[ID_BYTES..HEAD_BYTES + name.len()]);
        rest = next;
    }
}

fn entries(chunk: &[u8]) -> impl Iterator<Item = (NodeId, &str)> {
    let mut rest = chunk;
    std::iter::from_fn(move || {
        let (id, name, next) = split_entry(rest)?;
        rest = next;
        Some((id, std::str::from_utf8(name).expect("names were text when they came in")))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn check(children: &Children, model: &BTreeMap<String, NodeId>) {
        let listed: Vec<_> = children.iter().map(|(id, name)| (id, name.len())).collect();
        assert_eq!(listed, model.iter().map(|(name, id)| (*id, name.len())).collect::<Vec<_>>());
        let mut encoded = Vec::new();
        children.append_names(&mut encoded);
        assert_eq!((children.len(), children.encoded_bytes()), (model.len(), encoded.len()));
        let sizes: Vec<_> = children.more.iter().map(|chunk| chunk.len()).collect();
        assert!(sizes.iter().all(|size| *size > 0), "{sizes:?}");
        assert!(!children.first.is_empty() || model.is_empty());
    }

    proptest! {
        /// Against the standard library's sorted map, with names of all lengths, so that chunks divide, empty and go.
        #[test]
        fn lists_in_the_order_of_names_whatever_came_and_went(
            operations in prop::collection::vec((0_u32..300, any::<bool>(), 0_usize..3), 0..600),
            looked_up in prop::collection::vec(0_u32..300, 0..5),
        ) {
            let (mut children, mut model) = (Children::default(), BTreeMap::new());
            for (number, added, length) in operations {
                let name = format!("{number:03}{}", "x".repeat([0, 30, 1500][length]));
                if added && !model.contains_key(&name) {
                    children.insert(&name, number);
                    model.insert(name, number);
                } else if !added && model.remove(&name).is_some() {
                    children.remove(&name);
                }
            }
            check(&children, &model);
            for number in looked_up {
                let name = format!("{number:03}");
                let behind: Vec<_> = children.behind(Some(&name), 7).map(|(id, _)| id).collect();
                let expected = model.iter().filter(|(other, _)| **other > name).take(7);
                prop_assert_eq!(behind, expected.map(|(_, id)| *id).collect::<Vec<_>>());
            }
            for name in model.keys() {
                children.remove(name);
            }
            check(&children, &BTreeMap::new());
            prop_assert!(children.more.is_empty() && children.first.capacity() <= 64);
        }
    }

    #[test]
    fn growing_names_fill_their_chunks() {
        let mut children = Children::default();
        for number in 0..10_000 {
            children.insert(&format!("n{number:010}"), number);
        }
        let chunks = 1 + children.more.len();
        let full = 10_000 * (HEAD_BYTES + 11) / CHUNK_BYTES;
        assert!(chunks <= full * 11 / 10, "{chunks} chunks, {full} would do");
    }

    #[test]
    fn names_that_are_being_copied_stay_as_they_were() {
        let mut children = Children::default();
        (0..1000).for_each(|number| children.insert(&format!("{number:04}"), number));
        let mut before = Vec::new();
        children.append_names(&mut before);
        let (mut shared, mut copy) = (children.shared(), Vec::new());
        assert!(shared.append_some(100, &mut copy));
        // On both sides of what is copied already, so that chunks change, divide and go.
        (0..1000).step_by(2).for_each(|number| children.remove(&format!("{number:04}")));
        (1000..5000).for_each(|number| children.insert(&format!("{:04}x", number % 1000 * 10 + number / 1000), number));
        while shared.append_some(100, &mut copy) {}
        assert!(copy == before);
        assert_eq!((shared.count(), shared.bytes()), (1000, before.len()));
    }

    #[test]
    fn a_very_long_list_has_few_chunks() {
        let mut children = Children::default();
        (0..400_000)
            .for_each(|number| children.insert(&format!("{:06}{}", number * 7919 % 400_000, "x".repeat(60)), number));
        assert!(children.more.len() < 2 * CHUNKS, "{} chunks", children.more.len());
    }
}
