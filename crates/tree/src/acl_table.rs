//! The distinct access control lists of the tree. Nodes name theirs by a four-byte reference.
//!
//! What always holds: a list is held once however many nodes use it; an entry lives as long as a node refers to it; the ids that
//! snapshots use grow and are never given to a second list, so an id above a snapshot's newest belongs to a later change.
//!
//! Counterpart in the original: `ReferenceCountedACLCache`.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use rookeeper_proto::Acl;
use rookeeper_proto::snapshot::OPEN_ACL_ID;

use crate::access_list::{AccessList, Entries};

/// A reference to a list. Whoever holds one that did not come from [`AclTable::OPEN`] releases it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AclRef(u32);

#[derive(Debug)]
struct Entry {
    id: i64,
    list: Arc<AccessList>,
    references: usize,
}

#[derive(Debug)]
pub(crate) struct AclTable {
    /// Slot 0 is the open list.
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_list: HashMap<Arc<AccessList>, AclRef, FixedState>,
    newest_id: i64,
    seed: u64,
}

impl AclTable {
    /// The open list: everything is allowed to everybody. It has no entry in snapshots and is never dropped.
    pub(crate) const OPEN: AclRef = AclRef(0);

    pub(crate) fn new(seed: u64) -> AclTable {
        let open = Arc::new(AccessList::new(Acl::open(), seed));
        let mut by_list = HashMap::with_hasher(FixedState::with_seed(seed));
        by_list.insert(open.clone(), AclTable::OPEN);
        let slots = vec![Some(Entry { id: OPEN_ACL_ID, list: open, references: 1 })];
        AclTable { slots, free: Vec::new(), by_list, newest_id: 0, seed }
    }

    /// The list with these entries, if it is here. Most nodes have the open one, which is told without a hash.
    fn find(&self, entries: &[Acl]) -> Option<AclRef> {
        if *entries == ***self.list(AclTable::OPEN) {
            return Some(AclTable::OPEN);
        }
        self.by_list.get(&Entries(entries)).copied()
    }

    /// The list with these entries as nodes share it, or a new one where no node has it.
    pub(crate) fn shared(&self, entries: &[Acl]) -> Arc<AccessList> {
        let found = self.find(entries).map(|found| self.list(found).clone());
        found.unwrap_or_else(|| Arc::new(AccessList::new(entries.to_vec(), self.seed)))
    }

    /// A counted reference to the list; null is the open list.
    pub(crate) fn retain(&mut self, list: Option<Vec<Acl>>) -> AclRef {
        let Some(list) = list else { return AclTable::OPEN };
        if let Some(found) = self.find(&list) {
            return self.retain_again(found);
        }
        let list = Arc::new(AccessList::new(list, self.seed));
        self.newest_id += 1;
        let entry = Some(Entry { id: self.newest_id, list: list.clone(), references: 1 });
        let reference = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = entry;
                AclRef(slot)
            }
            None => {
                self.slots.push(entry);
                AclRef(self.slots.len() as u32 - 1)
            }
        };
        self.by_list.insert(list, reference);
        reference
    }

    /// Counts one more holder.
    pub(crate) fn retain_again(&mut self, reference: AclRef) -> AclRef {
        if reference != AclTable::OPEN {
            self.entry_mut(reference).references += 1;
        }
        reference
    }

    pub(crate) fn release(&mut self, reference: AclRef) {
        if reference == AclTable::OPEN {
            return;
        }
        let entry = self.entry_mut(reference);
        entry.references -= 1;
        if entry.references == 0 {
            let entry = self.slots[reference.0 as usize].take().expect("the entry was just looked at");
            self.by_list.remove(&entry.list);
            self.free.push(reference.0);
        }
    }

    pub(crate) fn list(&self, reference: AclRef) -> &Arc<AccessList> {
        &self.entry(reference).list
    }

    /// The id in snapshots.
    pub(crate) fn id(&self, reference: AclRef) -> i64 {
        self.entry(reference).id
    }

    /// The largest id given out so far.
    pub(crate) fn newest_id(&self) -> i64 {
        self.newest_id
    }

    /// What a snapshot's table holds: every list but the open one.
    #[cfg(test)]
    pub(crate) fn entries(&self) -> impl Iterator<Item = (i64, &Arc<AccessList>)> {
        self.some_entries(0, usize::MAX)
    }

    /// The part of that which stands in these places. A list stays in its place.
    pub(crate) fn some_entries(&self, first: usize, count: usize) -> impl Iterator<Item = (i64, &Arc<AccessList>)> {
        let places = self.slots[1..].iter().skip(first).take(count);
        places.flatten().map(|entry| (entry.id, &entry.list))
    }

    /// How many places there are, taken or free.
    pub(crate) fn slot_count(&self) -> usize {
        self.slots.len() - 1
    }

    /// Distinct lists besides the open one.
    pub(crate) fn len(&self) -> usize {
        self.by_list.len() - 1
    }

    fn entry(&self, reference: AclRef) -> &Entry {
        self.slots[reference.0 as usize].as_ref().expect("a reference keeps its entry alive")
    }

    fn entry_mut(&mut self, reference: AclRef) -> &mut Entry {
        self.slots[reference.0 as usize].as_mut().expect("a reference keeps its entry alive")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_shared_with_the_nodes_that_have_it_and_one_that_none_has_is_not_kept() {
        let mut table = AclTable::new(1);
        assert!(Arc::ptr_eq(&table.shared(&Acl::open()), table.list(AclTable::OPEN)));
        let unknown = table.shared(&Acl::read_only());
        assert_eq!((unknown.to_vec(), table.len()), (Acl::read_only(), 0));
        let reference = table.retain(Some(Acl::read_only()));
        assert!(Arc::ptr_eq(&table.shared(&Acl::read_only()), table.list(reference)));
    }

    #[test]
    fn equal_lists_share_an_entry_until_the_last_holder_is_gone() {
        let mut table = AclTable::new(0);
        let first = table.retain(Some(Acl::read_only()));
        assert_eq!(table.retain(Some(Acl::read_only())), first);
        assert_eq!((table.len(), table.id(first)), (1, 1));
        table.release(first);
        assert_eq!(table.list(first).to_vec(), Acl::read_only());
        table.release(first);
        assert_eq!((table.len(), table.entries().count()), (0, 0));
        let again = table.retain(Some(Acl::read_only()));
        assert_eq!(table.id(again), 2, "ids are not given out twice");
    }

    #[test]
    fn the_open_list_is_always_there() {
        let mut table = AclTable::new(0);
        assert_eq!(table.retain(None), AclTable::OPEN);
        assert_eq!(table.retain(Some(Acl::open())), AclTable::OPEN);
        for _ in 0..3 {
            table.release(AclTable::OPEN);
        }
        assert_eq!(table.list(AclTable::OPEN).to_vec(), Acl::open());
        assert_eq!((table.id(AclTable::OPEN), table.len()), (OPEN_ACL_ID, 0));
    }

    #[test]
    fn an_empty_list_is_not_the_open_list() {
        let mut table = AclTable::new(0);
        let empty = table.retain(Some(Vec::new()));
        assert_ne!(empty, AclTable::OPEN);
        assert!(table.list(empty).is_empty());
    }
}
