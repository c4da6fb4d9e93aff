//! The threads besides the network workers. A panic in any of them ends the process.
//!
//! - `replica_thread.rs`: drives the replica, and serves the links to other servers
//! - `snapshot_thread.rs`: takes snapshots while writes go on, and purges old files

pub(crate) mod replica_thread;
pub(crate) mod snapshot_thread;
