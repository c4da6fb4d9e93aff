//! The locks of [`Shared`](super::shared::Shared) while they are held.
//!
//! What always holds here: a thread takes these locks in the order of [`Rank`], and none of them twice. A debug build panics where a thread does
//! not, whether or not another thread is in its way at that moment: two threads that take two locks in different orders wait for each other for ever,
//! and a thread that reads the tree a second time does so too once the apply step waits between the two.

use std::ops::{Deref, DerefMut};

use parking_lot::{MutexGuard, RwLockWriteGuard};

/// The place of a lock in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    Tree,
    Sessions,
    Watches,
    Digests,
}

/// A lock that is held as long as this value lives. A guard that is made within a larger expression, such as a field of a struct that is built, lives
/// until the end of that expression.
#[derive(Debug)]
pub struct Held<G> {
    guard: G,
    #[cfg(debug_assertions)]
    _entry: order::Entry,
}

impl<G> Held<G> {
    /// Takes a lock of the value at `owner`.
    pub(crate) fn take<T>(owner: &T, rank: Rank, lock: impl FnOnce() -> G) -> Held<G> {
        #[cfg(debug_assertions)]
        let _entry = order::Entry::new(std::ptr::from_ref(owner).addr(), rank);
        #[cfg(not(debug_assertions))]
        let _ = (owner, rank);
        Held {
            guard: lock(),
            #[cfg(debug_assertions)]
            _entry,
        }
    }
}

impl<G> Held<G> {
    /// The same with a lock that is not waited for, which no order is needed for.
    pub(crate) fn try_take<T>(owner: &T, rank: Rank, lock: impl FnOnce() -> Option<G>) -> Option<Held<G>> {
        #[cfg(not(debug_assertions))]
        let _ = (owner, rank);
        Some(Held {
            guard: lock()?,
            #[cfg(debug_assertions)]
            _entry: order::Entry::of_held(std::ptr::from_ref(owner).addr(), rank),
        })
    }
}

impl<T> Held<RwLockWriteGuard<'_, T>> {
    /// Lets readers that wait read, and takes the lock again.
    pub(crate) fn bump(&mut self) {
        RwLockWriteGuard::bump(&mut self.guard);
    }
}

impl<T> Held<MutexGuard<'_, T>> {
    /// Gives the lock back to the thread that has waited for longest.
    pub(crate) fn unlock_fair(self) {
        MutexGuard::unlock_fair(self.guard);
    }
}

impl<G: Deref> Deref for Held<G> {
    type Target = G::Target;

    fn deref(&self) -> &G::Target {
        &self.guard
    }
}

impl<G: DerefMut> DerefMut for Held<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.guard
    }
}

#[cfg(debug_assertions)]
mod order {
    use std::cell::RefCell;

    use super::Rank;

    thread_local! {
        /// What this thread holds: whose lock, and which.
        static HELD: RefCell<Vec<(usize, Rank)>> = const { RefCell::new(Vec::new()) };
    }

    #[derive(Debug)]
    pub(super) struct Entry {
        owner: usize,
        rank: Rank,
    }

    impl Entry {
        pub fn new(owner: usize, rank: Rank) -> Entry {
            HELD.with_borrow(|held| {
                let later = held.iter().find(|(whose, other)| *whose == owner && *other >= rank);
                assert!(
                    later.is_none(),
                    "the lock of {rank:?} is taken while this thread holds that of {:?}, which comes after it or is the same",
                    later.expect("there is one").1
                );
            });
            Entry::of_held(owner, rank)
        }

        pub fn of_held(owner: usize, rank: Rank) -> Entry {
            HELD.with_borrow_mut(|held| held.push((owner, rank)));
            Entry { owner, rank }
        }
    }

    impl Drop for Entry {
        fn drop(&mut self) {
            HELD.with_borrow_mut(|held| {
                let at = held.iter().rposition(|entry| *entry == (self.owner, self.rank));
                // A guard does not leave its thread, so the entry is there.
                at.map(|at| held.swap_remove(at));
            });
        }
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn take(owner: &u8, rank: Rank) -> Held<Box<u8>> {
        Held::take(owner, rank, || Box::new(7))
    }

    #[test]
    fn a_thread_takes_locks_in_one_order_and_none_twice() {
        let (one, other) = ([1, 2], [3, 4]);
        let (one, other) = (&one[0], &other[0]);
        let tree = take(one, Rank::Tree);
        let watches = take(one, Rank::Watches);
        assert_eq!(*tree, 7);
        let is_refused = |rank| catch_unwind(AssertUnwindSafe(|| drop(take(one, rank)))).is_err();
        assert_eq!(
            [Rank::Tree, Rank::Sessions, Rank::Watches, Rank::Digests].map(is_refused),
            [true, true, true, false]
        );
        // Those of another server are others.
        drop(take(other, Rank::Tree));
        drop(tree);
        assert!(is_refused(Rank::Sessions));
        drop(watches);
        assert!(!is_refused(Rank::Tree), "what was refused is not held");
    }
}
