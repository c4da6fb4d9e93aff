//! What all ports of this server need of the network, whoever connects there.
//!
//! - `bind.rs`: which addresses a port is opened on, and what to do where it can't be
//! - `accept.rs`: how connections are accepted, also where file descriptors are out
//! - `dial.rs`: how another server is connected to, whichever of its addresses answers first
//! - `stream.rs`: the connection that comes of either, set up and taken apart
//! - `seats.rs`: how many connections there may be, in all and of one address
//! - `door.rs`: whether only members may come in at the ports between servers
//! - `proof.rs`: what servers prove to each other before they speak
//! - `disguise.rs`: what a stranger speaks that is not the protocol of the port
//! - `tls`: certificates, keys, handshakes, for every port that takes encrypted connections
//! - `linger.rs`: how a connection is closed in order
//! - [`descriptors`]: how many files and connections may be open

pub(crate) mod accept;
pub(crate) mod bind;
pub(crate) mod canonical;
pub mod descriptors;
pub(crate) mod dial;
pub(crate) mod disguise;
pub(crate) mod door;
pub(crate) mod linger;
pub(crate) mod proof;
pub(crate) mod seats;
pub(crate) mod stream;
pub mod tls;
