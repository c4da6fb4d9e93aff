//! A server around the replica: sockets, threads, files, configuration, commands.
//!
//! Reading order:
//! - [`config`]: what an operator can say; `config/dynamic_config.rs` writes the files in which the membership stands
//! - `server`: from a configuration to a running server, and back; `server/data_directory.rs` opens the files
//! - `ports`: the ports, `client` first; a connection of a client is `ports/client/connection/`
//! - `net`: what the ports have in common, from the limits of descriptors to an orderly end of a connection
//! - [`auth`]: which identities a client gains, and how servers prove theirs
//! - `threads`: the threads that do the work
//! - [`registry`]: the service registry, which has a port of its own
//! - `observe`: what the server knows of itself
//! - `commands`: the four-letter words, which tell it
//! - [`logging`]: the log, and how often strangers can make it grow
//! - `context.rs`, `clock.rs`, `failure.rs`, `seed.rs`, `version.rs`: what everybody needs
//!
//! The life of a request: `ports/client/connection/` reads a frame. A read is answered there, from the shared tree. A write goes through a bounded
//! queue to the replica thread, from there to the storage thread, comes back as durable, is applied, and its answer is in the
//! connection's outbox, which the same task sends.

mod audit;
pub mod auth;
mod clock;
mod commands;
pub mod config;
mod context;
mod failure;
pub mod logging;
mod net;
mod observe;
mod ports;
pub mod registry;
mod seed;
mod server;
mod threads;
mod version;

pub use commands::{compat_table as metrics_table, words_table};
pub use failure::{ExitCode, Failure};
pub use net::descriptors;
pub use net::tls::dial;
pub use net::tls::store as key_stores;
pub use net::tls::strangers;
pub use ports::admin::compat_table as admin_table;
pub use ports::client::requests_table::requests_table;
pub use server::Server;
pub use server::rehearsal::{Rehearsal, rehearse};
