//! A server around the replica: sockets, threads, files, configuration, commands.
//!
//! Reading order:
//! - [`config`]: what an operator can say
//! - [`server`]: from a configuration to a running server, and back; `storage.rs` opens the data directory
//! - `replica_thread.rs`, `log_thread.rs`, `snapshot_thread.rs`: the three threads besides the network workers
//! - `listener.rs`, `connection.rs`: the client port; `auth.rs`, `throttle.rs`: who is let in
//! - `commands`: the four-letter words; [`figures`]: what they tell of log and snapshots
//! - `context.rs`, `clock.rs`, [`failure`], [`version`]: what everybody needs
//!
//! The life of a request: `connection.rs` reads a frame. A read is answered there, from the shared tree. A write goes through a bounded
//! queue to the replica thread, from there to the log thread, comes back as durable, is applied, and its answer is in the
//! connection's outbox, which `connection.rs` sends.

mod auth;
mod clock;
mod commands;
pub mod config;
mod connection;
mod context;
pub mod dynamic_config;
// Nobody opens it yet.
#[allow(dead_code)]
mod election_port;
pub mod failure;
pub mod figures;
mod listener;
mod log_thread;
mod replica_thread;
pub mod server;
mod snapshot_thread;
mod storage;
mod throttle;
pub mod version;

pub use commands::compat_table as metrics_table;
pub use failure::Failure;
pub use server::Server;
