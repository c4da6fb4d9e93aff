//! Connections between servers, as the core sees them.

use std::fmt;

/// A connection to another server's quorum port, or from another server to ours, for as long as it lives. Never used again, so what
/// arrives late from one that is over can be told and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

impl fmt::Display for LinkId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "#{}", self.0)
    }
}

/// What the log on disk can do for a learner whose history ends before everything the leader has in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPlan {
    /// The log continues right where the learner's history ends.
    Log,
    /// The log does not reach back that far, goes another way, or is larger than the snapshot is worth.
    Snapshot,
}

/// The largest data of a packet between servers: a record of the log, and some room. Requests of clients are bounded far below it.
pub const MAX_PACKET_BYTES: usize = (1 << 30) + (1 << 16);
