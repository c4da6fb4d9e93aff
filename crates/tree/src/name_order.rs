//! A list of things in the order of their names, which is searched without a look at most of them.
//!
//! What always holds: `numbers` are the [`order_number`]s of the names, in the order of the list. So a search goes through a few kilobytes
//! that lie together; names are only looked at where numbers are equal.

use std::sync::Arc;

use crate::chunk::{Chunk, order_number};

/// What stands in the list has its place by this name.
pub(crate) trait Named {
    fn name(&self) -> &[u8];
}

impl Named for Chunk {
    fn name(&self) -> &[u8] {
        self.first_name()
    }
}

/// A list stands in a list by the name of its first thing.
impl<T: Named> Named for NameOrder<T> {
    fn name(&self) -> &[u8] {
        self.items.first().map_or(&[], T::name)
    }
}

impl<T: Named> Named for Arc<T> {
    fn name(&self) -> &[u8] {
        T::name(self)
    }
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct NameOrder<T> {
    numbers: Vec<u128>,
    items: Vec<T>,
}

impl<T: Named> NameOrder<T> {
    pub(crate) fn new(item: T) -> NameOrder<T> {
        NameOrder { numbers: vec![order_number(item.name())], items: vec![item] }
    }

    pub(crate) fn items(&self) -> &[T] {
        &self.items
    }

    /// For changes that leave the name as it is; else [`NameOrder::renamed`] is told.
    pub(crate) fn item_mut(&mut self, index: usize) -> &mut T {
        &mut self.items[index]
    }

    /// The last thing whose name is not behind this one.
    pub(crate) fn find(&self, name: &[u8]) -> Option<usize> {
        let number = order_number(name);
        // Names with growing numbers come last.
        if self.numbers.last().is_some_and(|last| *last < number) {
            return Some(self.items.len() - 1);
        }
        let mut behind = self.numbers.partition_point(|other| *other < number);
        if self.numbers.get(behind) == Some(&number) {
            let equal = self.numbers[behind..].partition_point(|other| *other == number);
            behind += self.items[behind..behind + equal].partition_point(|item| item.name() <= name);
        }
        behind.checked_sub(1)
    }

    /// Puts a thing where its name belongs.
    pub(crate) fn insert(&mut self, index: usize, item: T) {
        self.numbers.insert(index, order_number(item.name()));
        self.items.insert(index, item);
    }

    pub(crate) fn remove(&mut self, index: usize) -> T {
        self.numbers.remove(index);
        let item = self.items.remove(index);
        if self.items.capacity() > 16 && self.items.len() < self.items.capacity() / 4 {
            self.items.shrink_to(self.items.len() * 2);
            self.numbers.shrink_to(self.items.len() * 2);
        }
        item
    }

    /// A thing has another name, and the same place.
    pub(crate) fn renamed(&mut self, index: usize) {
        self.numbers[index] = order_number(self.items[index].name());
    }

    /// Takes out the second half.
    pub(crate) fn split_half(&mut self) -> NameOrder<T> {
        let half = self.items.len() / 2;
        let upper = NameOrder { numbers: self.numbers.split_off(half), items: self.items.split_off(half) };
        self.numbers.shrink_to_fit();
        self.items.shrink_to_fit();
        upper
    }

    #[cfg(test)]
    pub(crate) fn check(&self) {
        let numbers: Vec<_> = self.items.iter().map(|item| order_number(item.name())).collect();
        assert_eq!(self.numbers, numbers);
    }
}
