//! Atomic broadcast: the order of transactions, who has them on disk, and what is therefore committed.
//!
//! No sockets, no files, no clock. [`quorum`] says which sets of servers decide, [`broadcast`] is the leader's book of proposals
//! and acknowledgements. A standalone server is an ensemble of one: its own disk is the quorum, and nothing else differs.

mod broadcast;
mod quorum;

pub use broadcast::Broadcast;
pub use quorum::Quorum;
