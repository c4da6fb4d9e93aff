//! The threads of a server, besides those of the runtime it is started on, which accept connections and wait for other servers. A panic in
//! any of them ends the process.
//!
//! - `client_threads.rs`: serve the connections of clients
//! - `replica_thread.rs`: drives the replica, and serves the links to other servers
//! - `restores.rs`: trees that an operator wants in place of the one that is served, on their way to the replica
//! - `storage_driver.rs`: takes the steps of the worker of the storage crate; `storage_thread.rs`: the thread that lets it, and the queue to
//!   that thread
//! - `snapshot_thread.rs`: takes snapshots while writes go on, and purges old files; `log_position.rs`: how it and the storage wait for each
//!   other

pub(crate) mod client_threads;
pub(crate) mod log_position;
pub(crate) mod replica_thread;
pub(crate) mod restores;
pub(crate) mod snapshot_thread;
pub(crate) mod storage_driver;
pub(crate) mod storage_thread;
