//! What was done since the start, in numbers, and the last leases that began and ended.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::holdings::Key;
use crate::registry::Caller;

/// Leases that are remembered of each kind, as in the original.
const REMEMBERED: usize = 1000;

/// Counts since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// By clients and by replicas.
    pub registered: ByCaller,
    /// Registrations that did not fit.
    pub refused: u64,
    pub renewed: ByCaller,
    /// Heartbeats that were answered with "register again".
    pub unknown: ByCaller,
    pub cancelled: u64,
    pub evicted: u64,
    /// Overrides that were set or taken away.
    pub overridden: u64,
    /// Registrations of replicas that did not bring back what was cancelled here.
    pub kept_out: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByCaller {
    pub clients: u64,
    pub replicas: u64,
}

impl ByCaller {
    pub(crate) fn count(&mut self, caller: Caller) {
        match caller {
            Caller::Client => self.clients += 1,
            Caller::Replica => self.replicas += 1,
        }
    }
}

/// A lease that began or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastLease {
    /// When, in milliseconds since the Unix epoch.
    pub wall_ms: i64,
    pub app: Arc<str>,
    pub id: Arc<str>,
}

/// The last leases that began, or ended.
#[derive(Debug, Default)]
pub(crate) struct Last(VecDeque<LastLease>);

impl Last {
    pub fn add(&mut self, wall_ms: i64, (app, id): Key) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(LastLease { wall_ms, app, id });
    }

    /// Newest first.
    pub fn all(&self) -> Vec<LastLease> {
        self.0.iter().rev().cloned().collect()
    }
}
