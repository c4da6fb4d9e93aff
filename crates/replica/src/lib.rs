//! One deterministic server, without sockets, files, threads or clocks.
//!
//! It joins the tree and the broadcast into a server: sessions, the order of requests, watches, answers. Whoever runs it feeds
//! [`Input`]s with the time and carries out [`Output`]s; a disk, a network and a simulator are all peers that answer later.
//!
//! Reading order:
//! - [`contract`]: [`Input`], [`Output`], and what the storage is asked for
//! - [`replica`]: [`Replica::handle`], [`Replica::poll`], [`Replica::deadline_ms`], and where a request goes
//! - `member.rs`: what a member of an ensemble is besides its role; [`found_membership`]: the members that it begins with
//! - `state/leading`: a server that leads; `propose.rs`: the way of a change to the log; `requests.rs`: what learners and syncs ask for;
//!   `reconfig.rs`: the change of the members; `reaper.rs`, `ended.rs`: what time does
//! - `state/learning`: a server that learns from a leader; `forwarded.rs`: what its clients wait for from there
//! - `write/`: `prepare.rs` and `pending.rs`: the checks of a change, against the tree as it will be; `apply.rs`: from a committed
//!   transaction to answers and events
//! - `clients/`: `handshake.rs`, `arrivals.rs`: those who come; [`session`]: who has a session, and when it ends; [`read`]: reads, which do
//!   not pass the replica while their session has nothing on its way; [`shared`], [`connection`], [`outbox`]: what the connections' tasks
//!   and the replica share; [`conversation`], [`budget`], `relief.rs`: when a client is read, heard and cut, and what clients together
//!   make a server hold
//! - [`settings`], [`status`], [`statistics`] with [`per_namespace`], [`time`], [`pulse`], [`digest_log`]

pub mod contract;
pub mod digest_log;
pub mod found_membership;
pub mod per_namespace;
pub mod pulse;
pub mod replica;
pub mod settings;
pub mod statistics;
pub mod status;
pub mod time;

mod clients;
mod member;
mod state;
mod write;

pub use clients::{budget, connection, conversation, long_read, outbox, read, session, shared};

pub use budget::Budget;
pub use clients::relief::Relief;
pub use connection::{Connection, Identities};
pub use contract::{Epochs, Input, Level, Output, Store, Stored};
pub use conversation::{Conversation, Cut, Limits, Next};
pub use digest_log::DigestLog;
pub use found_membership::FoundMembership;
pub use long_read::LongRead;
pub use outbox::{Drained, Excess, Outbox};
pub use per_namespace::SummaryPerNamespace;
pub use read::ReadFrame;
pub use replica::Replica;
pub use settings::{EnsembleSettings, Reaping, Settings};
pub use shared::Shared;
pub use statistics::{MemberStatistics, PerNamespace, Sizes, Statistics, Summary};
pub use status::{Leadership, Part, Phase, Serving, Standing};
pub use time::Time;
