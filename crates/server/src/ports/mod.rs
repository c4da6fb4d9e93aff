//! The ports of a server: one for clients, two for the other servers of an ensemble, and one for those who watch it.
//!
//! - `client`: sessions and four-letter words
//! - `election`: votes
//! - `quorum`: the leader's proposals and what is answered to them
//! - `metrics`: what Prometheus asks for

pub(crate) mod client;
pub(crate) mod election;
pub(crate) mod metrics;
pub(crate) mod quorum;
