//! How many bytes clients make this server hold: the sum, and each connection's part of it.
//!
//! Counted is what grows by a client's wish and is no data of the tree: answers and events that are not sent, requests that are not
//! answered, parts of frames, watches by the length of their paths. What always holds here:
//! - a part is given back when its connection is gone, so the sum returns to zero without clients;
//! - buffers are noted when they changed by [`GRAIN_BYTES`], so a small request touches no figure that connections share;
//! - whoever takes the sum over the limit wakes the one that relieves the server ([`crate::Shared::relieve`]), and waits for nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// A buffer that changed by less since it was noted is not noted again.
pub(crate) const GRAIN_BYTES: usize = 4 << 10;

/// No connection may hold more than this, however large the budget is. Large enough for the largest answer a tree can produce in practice.
pub(crate) const MAX_CONNECTION_BYTES: usize = 256 << 20;

/// One connection may hold this part of the budget.
const CONNECTION_SHARE: usize = 4;

/// From this part of the limit on, in percent, the server takes less in advance from each client.
const TIGHT_PERCENT: usize = 75;

/// What a server holds for its clients.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: usize,
    buffers: AtomicUsize,
    watches: AtomicUsize,
    keeper: Mutex<Option<Waker>>,
}

impl Budget {
    /// Nothing is held yet of what all clients together may make the server hold.
    pub fn new(limit_bytes: usize) -> Budget {
        Budget { limit_bytes, buffers: AtomicUsize::new(0), watches: AtomicUsize::new(0), keeper: Mutex::default() }
    }

    /// For those who have nothing to share.
    pub fn unlimited() -> Budget {
        Budget::new(usize::MAX)
    }

    /// What all clients together may make this server hold.
    pub fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// What one connection may hold.
    pub fn connection_bytes(&self) -> usize {
        (self.limit_bytes / CONNECTION_SHARE).min(MAX_CONNECTION_BYTES)
    }

    /// What all clients together make this server hold.
    pub fn held_bytes(&self) -> usize {
        self.buffers.load(Relaxed).saturating_add(self.watches.load(Relaxed))
    }

    /// Whether little is left, so that clients should be given less in advance.
    pub(crate) fn is_tight(&self) -> bool {
        self.held_bytes() > self.limit_bytes / 100 * TIGHT_PERCENT
    }

    /// Whether more is held than may be, so that a client has to go.
    pub fn is_exceeded(&self) -> bool {
        self.held_bytes() > self.limit_bytes
    }

    /// The watch tables hold this now.
    pub(crate) fn note_watches(&self, bytes: usize) {
        let before = self.watches.swap(bytes, Relaxed);
        if bytes > before {
            self.wake_keeper();
        }
    }

    fn change(&self, before: usize, after: usize) {
        if after > before {
            self.buffers.fetch_add(after - before, Relaxed);
            self.wake_keeper();
        } else {
            self.buffers.fetch_sub(before - after, Relaxed);
        }
    }

    fn wake_keeper(&self) {
        if self.is_exceeded()
            && let Some(keeper) = self.keeper.lock().take()
        {
            keeper.wake();
        }
    }

    /// Ready while more is held than may be.
    pub fn poll_exceeded(&self, context: &mut Context<'_>) -> Poll<()> {
        *self.keeper.lock() = Some(context.waker().clone());
        // After the waker is in place: whoever exceeds the limit from here on finds it.
        if self.is_exceeded() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// One connection's part of the budget, watches aside.
#[derive(Debug)]
pub struct Account {
    budget: Arc<Budget>,
    held: AtomicUsize,
}

impl Account {
    /// The account of a connection that holds nothing yet.
    pub fn new(budget: Arc<Budget>) -> Account {
        Account { budget, held: AtomicUsize::new(0) }
    }

    /// The budget that this account takes from.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What this connection makes the server hold, watches aside.
    pub fn held_bytes(&self) -> usize {
        self.held.load(Relaxed)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.budget.change(*self.held.get_mut(), 0);
    }
}

/// The part of an account that one buffer, or one row of them, is. Whoever owns the buffer owns its meter.
#[derive(Debug, Default)]
pub struct Meter {
    noted: usize,
}

impl Meter {
    /// The buffer has this many bytes now.
    pub fn note(&mut self, account: &Account, bytes: usize) {
        if bytes.abs_diff(self.noted) < GRAIN_BYTES && (bytes > 0 || self.noted == 0) {
            return;
        }
        if bytes > self.noted {
            account.held.fetch_add(bytes - self.noted, Relaxed);
        } else {
            account.held.fetch_sub(self.noted - bytes, Relaxed);
        }
        account.budget.change(self.noted, bytes);
        self.noted = bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_the_sum_of_the_parts_and_is_given_back() {
        let budget = Arc::new(Budget::new(1 << 20));
        let (one, other) = (Account::new(budget.clone()), Account::new(budget.clone()));
        let (mut input, mut output, mut others) = (Meter::default(), Meter::default(), Meter::default());
        input.note(&one, 10_000);
        output.note(&one, 20_000);
        others.note(&other, 70_000);
        budget.note_watches(5000);
        assert_eq!((one.held_bytes(), other.held_bytes(), budget.held_bytes()), (30_000, 70_000, 105_000));
        output.note(&one, 0);
        assert_eq!((one.held_bytes(), budget.held_bytes()), (10_000, 85_000));
        drop(other);
        assert_eq!(budget.held_bytes(), 15_000);
        drop(one);
        budget.note_watches(0);
        assert_eq!(budget.held_bytes(), 0);
    }

    #[test]
    fn small_changes_are_not_noted() {
        let account = Account::new(Arc::new(Budget::unlimited()));
        let mut meter = Meter::default();
        meter.note(&account, GRAIN_BYTES - 1);
        assert_eq!(account.held_bytes(), 0);
        meter.note(&account, GRAIN_BYTES);
        assert_eq!(account.held_bytes(), GRAIN_BYTES);
        meter.note(&account, 1);
        assert_eq!(account.held_bytes(), GRAIN_BYTES);
        // An empty buffer is never taken for a full one.
        meter.note(&account, 0);
        assert_eq!(account.held_bytes(), 0);
    }

    #[test]
    fn the_keeper_hears_of_an_exceeded_limit_whoever_exceeds_it() {
        let budget = Arc::new(Budget::new(100_000));
        let account = Account::new(budget.clone());
        let mut context = Context::from_waker(Waker::noop());
        let mut meter = Meter::default();
        meter.note(&account, 80_000);
        assert!(budget.is_tight());
        assert!(budget.poll_exceeded(&mut context).is_pending());
        budget.note_watches(20_001);
        assert!(budget.keeper.lock().is_none(), "it was woken");
        assert!(budget.poll_exceeded(&mut context).is_ready());
        meter.note(&account, 70_000);
        assert!(budget.poll_exceeded(&mut context).is_pending());
        meter.note(&account, 90_000);
        assert!(budget.keeper.lock().is_none(), "it was woken");
    }
}
