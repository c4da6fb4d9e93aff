//! A tree that an operator wants in place of the one that is served, until it is or can't be.
//!
//! What always holds here:
//! - the tree takes its place behind everything that was on its way, under a number above all that either tree has seen, and only when it is durable
//!   under that number: so the log goes on in order, and no start finds another state than was answered for;
//! - until then nothing is done that would change the old tree, so that where the new one can't be stored the server goes on as if nothing had been;
//! - clients' requests wait meanwhile, and keep their order.

use std::collections::VecDeque;

use rookeeper_proto::{MonotonicMs, Zxid};
use rookeeper_tree::Tree;

use crate::contract::{Output, Store};
use crate::core::Core;
use crate::inputs::Sorted;
use crate::time::Time;

#[derive(Debug)]
pub(crate) struct Restoring {
    /// None once it is with the storage.
    tree: Option<Box<Tree>>,
    /// Clients' requests that came since.
    held: VecDeque<Sorted>,
    since_ms: MonotonicMs,
}

impl Restoring {
    /// Begins to wait for what is on its way.
    pub fn new(tree: Box<Tree>, now: Time) -> Restoring {
        Restoring { tree: Some(tree), held: VecDeque::new(), since_ms: now.monotonic_ms }
    }

    /// A client's request waits.
    pub fn hold(&mut self, input: Sorted) {
        self.held.push_back(input);
    }

    /// Hands the tree to the storage as soon as nothing is on its way any more.
    pub fn try_to_store(&mut self, core: &mut Core) {
        if !core.in_flight.is_empty() {
            return;
        }
        if let Some(mut tree) = self.tree.take() {
            let zxid = behind(core.history.last().max(tree.last_zxid()));
            tree.set_last_zxid(zxid);
            core.put(Output::Store(Store::Restore { zxid, tree }));
        }
    }

    /// It is over; what waited is to be done next. The time in which nobody was served is held against no session.
    pub fn end(self, core: &Core, now: Time) -> VecDeque<Sorted> {
        core.shared.sessions().stood_still(self.since_ms, now.monotonic_ms);
        self.held
    }
}

/// The number behind `last`, as a leader gives it.
fn behind(last: Zxid) -> Zxid {
    last.next().unwrap_or_else(|| Zxid::new(last.epoch().next(), 1))
}
