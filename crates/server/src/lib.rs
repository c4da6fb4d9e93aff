//! A server around the replica: sockets, threads, files, configuration, commands.
//!
//! Reading order:
//! - [`config`]: what an operator can say
//! - [`server`]: from a configuration to a running server, and back; `storage.rs` opens the data directory
//! - `replica_thread.rs`, `storage_thread.rs`, `snapshot_thread.rs`: the three threads besides the network workers; `log_position.rs`
//!   is between the last two
//! - `listener.rs`, `client_port.rs`, `connection.rs`, `disguise.rs`, `linger.rs`: the client port; `client_memory.rs`: what clients may make the
//!   server hold; `auth.rs`, `throttle.rs`: who is let in
//! - `door.rs`, `election_port`, `quorum_port`: the other servers of an ensemble; `dynamic_config.rs`: the files in which its membership stands,
//!   `membership_at_start.rs`: which of them count
//! - `commands`: the four-letter words; [`figures`]: what they tell of log and snapshots
//! - `starting.rs`: how far a start is that lasts; `absence.rs`: who is missing where there is no quorum; `room.rs`: whether the disk is full
//! - [`descriptors`]: how many files and connections may be open; `report.rs`, `activity.rs`: what the server says when nothing goes on
//! - [`logging`]: the log, and how often strangers can make it grow
//! - `context.rs`, `clock.rs`, [`failure`], [`version`]: what everybody needs
//!
//! The life of a request: `connection.rs` reads a frame. A read is answered there, from the shared tree. A write goes through a bounded
//! queue to the replica thread, from there to the storage thread, comes back as durable, is applied, and its answer is in the
//! connection's outbox, which `connection.rs` sends.

mod absence;
mod activity;
mod auth;
mod client_memory;
mod client_port;
mod clock;
mod commands;
pub mod config;
mod connection;
mod context;
pub mod descriptors;
mod disguise;
mod door;
pub mod dynamic_config;
mod election_port;
pub mod failure;
pub mod figures;
mod linger;
mod listener;
mod log_position;
pub mod logging;
mod membership_at_start;
mod quorum_port;
mod replica_thread;
mod report;
mod room;
pub mod server;
mod snapshot_thread;
mod starting;
mod storage;
mod storage_thread;
mod throttle;
pub mod version;

pub use commands::compat_table as metrics_table;
pub use failure::Failure;
pub use server::Server;
