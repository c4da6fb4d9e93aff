//! The ports of a server: one for clients, two for the other servers of an ensemble, and two for those who watch it and look after it.
//!
//! - `client`: sessions and four-letter words
//! - `election`: votes
//! - `quorum`: the leader's proposals and what is answered to them
//! - `metrics`: what Prometheus asks for
//! - `admin`: commands over HTTP
//! - `http`: what the last two have in common

pub(crate) mod admin;
pub(crate) mod client;
pub(crate) mod election;
pub(crate) mod http;
pub(crate) mod metrics;
pub(crate) mod quorum;
