//! Connections between servers, as the core sees them.

use std::fmt;
use std::sync::Arc;

use rookeeper_proto::Zxid;

use crate::reasons::DropReason;

/// A connection to another server's quorum port, or from another server to ours, for as long as it lives. Never used again, so what
/// arrives late from one that is over can be told and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

impl fmt::Display for LinkId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "#{}", self.0)
    }
}

/// What a leader wants done on the link of a learner. What is for one link goes out in the order in which it is polled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkOutput {
    /// Send these whole packets.
    Send(Arc<[u8]>),
    /// What can the log on disk do for a learner whose history ends at `after`? The leader has everything from `before` on in memory. Nothing is
    /// sent for this.
    PlanSync { after: Zxid, before: Zxid },
    /// Send PROPOSAL and COMMIT for every record of the log between the two, both excluded.
    StreamLog { after: Zxid, before: Zxid },
    /// Send SNAP with the last zxid of the shared tree, read when the stream begins, and the tree.
    StreamSnapshot,
    /// End the connection, after what was polled before has been sent where that is possible at once.
    Drop(DropReason),
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
