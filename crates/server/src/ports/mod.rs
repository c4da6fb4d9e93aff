//! The three ports of a server: one for clients, and two for the other servers of an ensemble.
//!
//! - `client`: sessions and four-letter words
//! - `election`: votes
//! - `quorum`: the leader's proposals and what is answered to them

pub(crate) mod client;
pub(crate) mod election;
pub(crate) mod quorum;
