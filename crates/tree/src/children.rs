//! The children of one node, in the order of their names.
//!
//! What always holds: the order is that of the names' bytes and depends on nothing else, neither on what was created first nor on what was
//! deleted, so all servers list alike; no change touches more than a chunk of about a kilobyte, a group of chunks, and the list of groups.
//! Names stand as clients receive them, so that a long list is copied and not put together from nodes all over the memory. The groups can be
//! shared with somebody who copies a long list while it changes: what changes then is copied first.
//!
//! The original lists in the order of its hash set, which stays the same while nothing is created.

use std::sync::Arc;

use crate::chunk::{Chunk, HEAD_BYTES};
use crate::name_order::NameOrder;
use crate::nodes::NodeId;

/// A chunk that would grow beyond this is divided.
const CHUNK_BYTES: usize = 1000;

/// A group with more chunks is divided. Tests have few children.
const GROUP_CHUNKS: usize = if cfg!(test) { 5 } else { 32 };

type Group = NameOrder<Chunk>;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Children {
    /// Most nodes with children have few of them, and no second chunk.
    first: Chunk,
    /// The other chunks. No group is empty.
    groups: Option<Box<NameOrder<Arc<Group>>>>,
    count: u32,
    /// Bytes of all names together.
    name_bytes: usize,
}

/// A chunk that is not the first.
#[derive(Debug, Clone, Copy)]
struct Position {
    group: usize,
    chunk: usize,
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

    fn groups(&self) -> &[Arc<Group>] {
        self.groups.as_ref().map_or(&[], |groups| groups.items())
    }

    /// The chunk to which a name belongs; `None` is the first.
    fn position(&self, name: &[u8]) -> Option<Position> {
        let groups = self.groups.as_deref()?;
        let group = groups.find(name)?;
        let chunk = groups.items()[group].find(name).expect("a group begins with its first chunk");
        Some(Position { group, chunk })
    }

    fn chunk(&self, position: Option<Position>) -> &Chunk {
        position.map_or(&self.first, |Position { group, chunk }| &self.groups()[group].items()[chunk])
    }

    fn chunk_mut(&mut self, position: Option<Position>) -> &mut Chunk {
        match (position, &mut self.groups) {
            (Some(Position { group, chunk }), Some(groups)) => Arc::make_mut(groups.item_mut(group)).item_mut(chunk),
            _ => &mut self.first,
        }
    }

    fn is_last(&self, position: Option<Position>) -> bool {
        let groups = self.groups();
        position.map_or(groups.is_empty(), |Position { group, chunk }| {
            group + 1 == groups.len() && chunk + 1 == groups[group].items().len()
        })
    }

    /// Adds a child with a name that no other has.
    pub(crate) fn insert(&mut self, name: &str, id: NodeId) {
        let name = name.as_bytes();
        let position = self.position(name);
        // Names with growing numbers come last. Only there the end is looked at first, for it is seldom in the processor's cache.
        let is_last = self.is_last(position);
        let chunk = self.chunk_mut(position);
        let (offset, found) = if is_last && chunk.ends_before(name) { (chunk.len(), false) } else { chunk.find(name) };
        debug_assert!(!found, "no two children have one name");
        if chunk.is_empty() || chunk.len() + HEAD_BYTES + name.len() <= CHUNK_BYTES {
            chunk.insert(offset, name, id, CHUNK_BYTES);
        } else {
            self.insert_and_divide(position, is_last, offset, name, id);
        }
        self.count += 1;
        self.name_bytes += name.len();
    }

    /// Makes two chunks of one that is full, with another entry at this offset.
    fn insert_and_divide(&mut self, position: Option<Position>, is_last: bool, offset: usize, name: &[u8], id: NodeId) {
        let chunk = self.chunk_mut(position);
        let middle = chunk.middle();
        // Behind the last of all names the full chunk stays full, for the next names will come behind this one. And a name may be longer
        // than a chunk, so that there is no border behind the middle.
        let whole_goes_one_way = is_last && offset == chunk.len() || middle == chunk.len();
        let border = if whole_goes_one_way { offset } else { middle };
        let mut upper = chunk.split_off(border);
        // At the border the entry goes to the lower chunk, whose first name does not change, but alone to a chunk of its own.
        if offset > border || upper.is_empty() {
            upper.reserve(CHUNK_BYTES / 4);
            upper.insert(offset - border, name, id, CHUNK_BYTES);
        } else {
            chunk.insert(offset, name, id, CHUNK_BYTES);
        }
        self.add_chunk(position, upper);
    }

    /// Adds a chunk behind this one.
    fn add_chunk(&mut self, position: Option<Position>, chunk: Chunk) {
        let Some(groups) = &mut self.groups else {
            self.groups = Some(Box::new(NameOrder::new(Arc::new(NameOrder::new(chunk)))));
            return;
        };
        let (group, index) = position.map_or((0, 0), |Position { group, chunk }| (group, chunk + 1));
        let grown = Arc::make_mut(groups.item_mut(group));
        grown.insert(index, chunk);
        let upper = (grown.items().len() > GROUP_CHUNKS).then(|| grown.split_half());
        if index == 0 {
            groups.renamed(group);
        }
        if let Some(upper) = upper {
            groups.insert(group + 1, Arc::new(upper));
        }
    }

    /// Takes a child out. It is there.
    pub(crate) fn remove(&mut self, name: &str) {
        let position = self.position(name.as_bytes());
        let chunk = self.chunk_mut(position);
        let (offset, found) = chunk.find(name.as_bytes());
        assert!(found, "a parent lists its child");
        chunk.remove(offset);
        let is_empty = chunk.is_empty();
        match position {
            Some(position) if is_empty => drop(self.remove_chunk(position)),
            Some(position) if offset == 0 => self.chunk_renamed(position),
            None if is_empty && self.groups.is_some() => {
                self.first = self.remove_chunk(Position { group: 0, chunk: 0 });
            }
            _ => {}
        }
        self.count -= 1;
        self.name_bytes -= name.len();
    }

    fn remove_chunk(&mut self, Position { group, chunk: index }: Position) -> Chunk {
        let groups = self.groups.as_mut().expect("this chunk is not the first");
        let shrunk = Arc::make_mut(groups.item_mut(group));
        let chunk = shrunk.remove(index);
        if !shrunk.items().is_empty() {
            if index == 0 {
                groups.renamed(group);
            }
        } else {
            groups.remove(group);
            if groups.items().is_empty() {
                self.groups = None;
            }
        }
        chunk
    }

    /// The first name of this chunk has changed.
    fn chunk_renamed(&mut self, Position { group, chunk }: Position) {
        let groups = self.groups.as_mut().expect("this chunk is not the first");
        Arc::make_mut(groups.item_mut(group)).renamed(chunk);
        if chunk == 0 {
            groups.renamed(group);
        }
    }

    fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        std::iter::once(&self.first).chain(self.groups().iter().flat_map(|group| group.items()))
    }

    /// The nodes and their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &str)> {
        self.chunks().flat_map(|chunk| chunk.entries(0))
    }

    /// The first children in the order, or those behind a name, which may be gone by now; at most `limit`.
    pub(crate) fn behind(&self, name: Option<&str>, limit: usize) -> impl Iterator<Item = (NodeId, &str)> {
        let position = name.and_then(|name| self.position(name.as_bytes()));
        let chunk = self.chunk(position);
        let offset = name.map_or(0, |name| chunk.find(name.as_bytes()).0);
        let (group, later_in_group) = position.map_or((0, 0), |Position { group, chunk }| (group, chunk + 1));
        let later = self.groups()[group..].iter().flat_map(|group| group.items()).skip(later_in_group);
        let listed = chunk.entries(offset).chain(later.flat_map(|chunk| chunk.entries(0)));
        listed.skip_while(move |(_, other)| Some(*other) == name).take(limit)
    }

    /// Appends all names, each behind its length.
    pub(crate) fn append_names(&self, output: &mut Vec<u8>) {
        output.reserve(self.encoded_bytes());
        self.chunks().for_each(|chunk| chunk.append_names(output));
    }

    /// The names as they are now, to be copied while they change.
    pub(crate) fn shared(&self) -> ChildNames {
        let first = Arc::new(NameOrder::new(self.first.clone()));
        let groups = std::iter::once(first).chain(self.groups().iter().cloned()).collect::<Vec<_>>();
        ChildNames { count: self.len(), bytes: self.encoded_bytes(), left: groups.into_iter(), appended_chunks: 0 }
    }
}

/// The names of a node's children at one moment.
#[derive(Debug, Default)]
pub struct ChildNames {
    count: usize,
    bytes: usize,
    left: std::vec::IntoIter<Arc<Group>>,
    /// Of the first group that is left.
    appended_chunks: usize,
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
            let Some(group) = self.left.as_slice().first() else { return false };
            match group.items().get(self.appended_chunks) {
                Some(chunk) => {
                    chunk.append_names(output);
                    self.appended_chunks += 1;
                }
                None => {
                    self.left.next();
                    self.appended_chunks = 0;
                }
            }
        }
        true
    }
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
        assert!(!children.first.is_empty() || model.is_empty());
        let sizes: Vec<_> = children.groups().iter().map(|group| group.items().len()).collect();
        assert!(sizes.iter().all(|size| (1..=GROUP_CHUNKS).contains(size)), "{sizes:?}");
        children.chunks().for_each(Chunk::check);
        if let Some(groups) = &children.groups {
            groups.check();
            groups.items().iter().for_each(|group| group.check());
        }
    }

    /// Names of all lengths, so that chunks and groups divide, empty and go; some begin alike for longer than numbers tell them apart.
    fn name(number: u32, shape: usize) -> String {
        match shape {
            0 => format!("{number}"),
            1 => format!("{number:010}"),
            2 => format!("all-of-these-begin-alike-{number}"),
            _ => format!("{number:03}{}", "x".repeat([30, 1500][shape - 3])),
        }
    }

    proptest! {
        /// Against the standard library's sorted map.
        #[test]
        fn lists_in_the_order_of_names_whatever_came_and_went(
            operations in prop::collection::vec((0_u32..300, any::<bool>(), 0_usize..5), 0..600),
            looked_up in prop::collection::vec((0_u32..300, 0_usize..5), 0..5),
        ) {
            let (mut children, mut model) = (Children::default(), BTreeMap::new());
            for (number, added, shape) in operations {
                let name = name(number, shape);
                if added && !model.contains_key(&name) {
                    children.insert(&name, number);
                    model.insert(name, number);
                } else if !added && model.remove(&name).is_some() {
                    children.remove(&name);
                }
            }
            check(&children, &model);
            for (number, shape) in looked_up {
                let name = name(number, shape);
                let behind: Vec<_> = children.behind(Some(&name), 7).map(|(id, _)| id).collect();
                let expected = model.iter().filter(|(other, _)| **other > name).take(7);
                prop_assert_eq!(behind, expected.map(|(_, id)| *id).collect::<Vec<_>>());
            }
            for name in std::mem::take(&mut model).into_keys() {
                children.remove(&name);
            }
            check(&children, &model);
            prop_assert!(children.groups.is_none() && children.first.capacity() <= 64);
        }

        #[test]
        fn lists_begin_behind_any_name(
            model in prop::collection::btree_set((0_u32..2000, 0_usize..5), 0..400),
            begin in prop::option::of((0_u32..2000, 0_usize..5)),
            limit in 0_usize..30,
        ) {
            let mut children = Children::default();
            let model: BTreeMap<_, _> = model.into_iter().map(|(number, shape)| (name(number, shape), number)).collect();
            model.iter().for_each(|(name, id)| children.insert(name, *id));
            check(&children, &model);
            let begin = begin.map(|(number, shape)| name(number, shape));
            let behind: Vec<_> = children.behind(begin.as_deref(), limit).map(|(_, name)| name.to_owned()).collect();
            let expected = model.into_keys().filter(|name| begin.as_ref().is_none_or(|begin| name > begin));
            prop_assert_eq!(behind, expected.take(limit).collect::<Vec<_>>());
        }
    }

    #[test]
    fn growing_names_fill_their_chunks() {
        let mut children = Children::default();
        for number in 0..10_000 {
            children.insert(&format!("n{number:010}"), number);
        }
        let chunks = children.chunks().count();
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
    fn a_long_list_is_shared_in_few_pieces() {
        let mut children = Children::default();
        (0..10_000).for_each(|number| children.insert(&format!("{:06}", number * 7919 % 10_000), number));
        let (chunks, pieces) = (children.chunks().count(), children.shared().left.len());
        assert!(pieces <= 1 + chunks / (GROUP_CHUNKS / 2), "{pieces} pieces for {chunks} chunks");
    }
}
