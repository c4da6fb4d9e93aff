//! A set of watchers: nothing, one, a few in a row, or many with an index.
//!
//! What always holds: no watcher is in it twice. Moving a set is free whatever its size, and it can be emptied piece by piece,
//! so that telling 100,000 connections of one change does not have to happen in one go.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// A connection, as the watch tables know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatcherId(pub u64);

/// Up to this many watchers are looked through one by one.
const FEW: usize = 16;

/// See the module's documentation.
#[derive(Default)]
pub struct WatcherSet {
    members: Members,
}

#[derive(Default)]
enum Members {
    #[default]
    None,
    One(WatcherId),
    Few(Vec<WatcherId>),
    Many(Box<Many>),
}

struct Many {
    ids: Vec<WatcherId>,
    /// Positions in `ids`, by the hash of what stands there.
    positions: HashTable<u32>,
}

/// Watcher ids are the server's own numbers; nobody can choose them to collide.
fn hash(id: WatcherId) -> u64 {
    FixedState::default().hash_one(id)
}

impl Many {
    fn with(ids: Vec<WatcherId>) -> Many {
        let mut many =
            Many { positions: HashTable::with_capacity(ids.len() * 2), ids: Vec::with_capacity(ids.len() * 2) };
        for id in ids {
            many.insert_new(id);
        }
        many
    }

    fn contains(&self, id: WatcherId) -> bool {
        self.positions.find(hash(id), |position| self.ids[*position as usize] == id).is_some()
    }

    fn insert_new(&mut self, id: WatcherId) {
        let position = self.ids.len() as u32;
        self.ids.push(id);
        let ids = &self.ids;
        self.positions.insert_unique(hash(id), position, |position| hash(ids[*position as usize]));
    }

    fn remove(&mut self, id: WatcherId) -> bool {
        let ids = &self.ids;
        let Ok(entry) = self.positions.find_entry(hash(id), |position| ids[*position as usize] == id) else {
            return false;
        };
        let (position, _) = entry.remove();
        let last = self.ids.len() as u32 - 1;
        if position != last {
            let moved = self.ids[last as usize];
            let of_moved = self.positions.find_mut(hash(moved), |position| *position == last);
            *of_moved.expect("every member has a position") = position;
        }
        self.ids.swap_remove(position as usize);
        true
    }
}

impl WatcherSet {
    /// Nobody.
    pub fn new() -> WatcherSet {
        WatcherSet::default()
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn as_slice(&self) -> &[WatcherId] {
        match &self.members {
            Members::None => &[],
            Members::One(id) => std::slice::from_ref(id),
            Members::Few(ids) => ids,
            Members::Many(many) => &many.ids,
        }
    }

    /// In no particular order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = WatcherId> {
        self.as_slice().iter().copied()
    }

    /// Takes the same time however many they are.
    pub fn contains(&self, id: WatcherId) -> bool {
        match &self.members {
            Members::Many(many) => many.contains(id),
            _ => self.as_slice().contains(&id),
        }
    }

    /// False if it was there already.
    pub fn insert(&mut self, id: WatcherId) -> bool {
        if self.contains(id) {
            return false;
        }
        match &mut self.members {
            Members::None => self.members = Members::One(id),
            Members::One(first) => self.members = Members::Few(vec![*first, id]),
            Members::Few(ids) if ids.len() < FEW => ids.push(id),
            Members::Few(ids) => {
                let mut many = Many::with(std::mem::take(ids));
                many.insert_new(id);
                self.members = Members::Many(Box::new(many));
            }
            Members::Many(many) => many.insert_new(id),
        }
        true
    }

    /// False if it was not there.
    pub fn remove(&mut self, id: WatcherId) -> bool {
        let removed = match &mut self.members {
            Members::None => false,
            Members::One(only) => *only == id,
            Members::Few(ids) => match ids.iter().position(|other| *other == id) {
                Some(position) => {
                    ids.swap_remove(position);
                    true
                }
                None => false,
            },
            Members::Many(many) => many.remove(id),
        };
        if (removed && matches!(self.members, Members::One(_))) || self.is_empty() {
            self.members = Members::None;
        }
        removed
    }

    /// Takes any watcher out.
    pub fn pop(&mut self) -> Option<WatcherId> {
        let id = *self.as_slice().last()?;
        self.remove(id);
        Some(id)
    }

    /// Takes out those that are also in `other`.
    pub(crate) fn subtract(&mut self, other: &WatcherSet) {
        if other.len() < self.len() {
            for id in other.iter() {
                self.remove(id);
            }
        } else {
            let both: Vec<_> = self.iter().filter(|id| other.contains(*id)).collect();
            for id in both {
                self.remove(id);
            }
        }
    }
}

impl std::fmt::Debug for WatcherSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<WatcherId> for WatcherSet {
    fn from_iter<I: IntoIterator<Item = WatcherId>>(ids: I) -> Self {
        let mut set = WatcherSet::new();
        for id in ids {
            set.insert(id);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the standard library's set, across all sizes.
        #[test]
        fn behaves_like_a_set(operations in proptest::collection::vec((0_u8..5, 0_u64..60), 0..400)) {
            let (mut set, mut model) = (WatcherSet::new(), BTreeSet::new());
            for (operation, id) in operations {
                let id = WatcherId(id);
                match operation {
                    0..=2 => prop_assert_eq!(set.insert(id), model.insert(id)),
                    3 => prop_assert_eq!(set.remove(id), model.remove(&id)),
                    _ => {
                        let popped = set.pop();
                        prop_assert_eq!(popped.is_some(), !model.is_empty());
                        prop_assert!(popped.is_none_or(|id| model.remove(&id)));
                    }
                }
                prop_assert_eq!(set.contains(id), model.contains(&id));
                prop_assert_eq!(set.len(), model.len());
            }
            prop_assert_eq!(set.iter().collect::<BTreeSet<_>>(), model);
        }

        #[test]
        fn subtraction_takes_what_both_have(
            one in proptest::collection::btree_set(0_u64..60, 0..40),
            other in proptest::collection::btree_set(0_u64..60, 0..40),
        ) {
            let mut set: WatcherSet = one.iter().copied().map(WatcherId).collect();
            set.subtract(&other.iter().copied().map(WatcherId).collect());
            let left: BTreeSet<_> = set.iter().map(|id| id.0).collect();
            prop_assert_eq!(left, one.difference(&other).copied().collect::<BTreeSet<_>>());
        }
    }
}
