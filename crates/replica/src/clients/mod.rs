//! What clients see of a server: connections, the handshake, sessions, reads, outboxes.

pub(crate) mod arrivals;
pub mod budget;
pub mod connection;
pub mod conversation;
mod eager;
mod handshake;
pub(crate) mod local;
pub mod long_read;
pub mod outbox;
pub mod read;
pub mod relief;
pub mod session;
pub mod shared;
