//! What clients see of a server: connections, the handshake, sessions, reads, outboxes.

pub(crate) mod arrivals;
pub mod budget;
pub mod connection;
pub mod conversation;
pub(crate) mod eager;
pub(crate) mod handshake;
mod local;
pub mod locks;
pub mod long_read;
pub mod outbox;
pub mod read;
pub mod relief;
pub(crate) mod requests;
pub mod session;
pub mod shared;
pub mod throttle;
