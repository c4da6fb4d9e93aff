//! One deterministic server, without sockets, files, threads or clocks.
//!
//! It joins the tree and the broadcast into a server: sessions, the order of requests, watches, answers. Whoever runs it feeds
//! [`Input`]s with the time and carries out [`Output`]s; a disk, a network and a simulator are all peers that answer later.
//!
//! Reading order:
//! - [`replica`]: the contract ([`Replica::handle`], [`Replica::poll`], [`Replica::deadline_ms`]) and where a request goes
//! - `propose.rs`: the way of a change to the log; `prepare.rs` and `pending.rs`: its checks, against the tree as it will be
//! - `commit.rs`: from a committed transaction to answers and events
//! - `connect.rs`: the handshake of a client; `arrivals.rs`: those who come while a leader is being looked for
//! - [`found_membership`]: the members that a server begins with
//! - [`ensemble`], `member.rs`: what a member of an ensemble needs; `leadership.rs` and `under_leader.rs`: its two parts;
//!   `leading.rs` and `following.rs`: what clients ask through it
//! - [`read`]: reads, which do not pass the replica while their session has nothing on its way
//! - [`shared`], [`connection`], [`outbox`]: what the connections' tasks and the replica share
//! - [`conversation`], [`budget`], `relief.rs`: when a client is read, heard and cut; what clients together make a server hold
//! - [`session`], [`pulse`], `reaper.rs`: what time does
//! - [`settings`], [`statistics`] with [`per_namespace`], [`time`], [`digest_log`]

pub mod budget;
pub mod connection;
pub mod conversation;
pub mod digest_log;
pub mod ensemble;
pub mod found_membership;
pub mod long_read;
pub mod outbox;
pub mod pulse;
pub mod read;
pub mod replica;
pub mod session;
pub mod settings;
pub mod shared;
pub mod standing;
pub mod statistics;
pub mod time;

mod arrivals;
mod commit;
mod connect;
mod eager;
mod ended;
mod following;
mod leadership;
mod leading;
mod local;
mod member;
mod new_members;
mod pending;
pub mod per_namespace;
mod prepare;
mod propose;
mod reaper;
mod reconfig;
mod relief;
mod under_leader;

pub use budget::Budget;
pub use connection::{Connection, Identities};
pub use conversation::{Conversation, Cut, Limits, Next};
pub use digest_log::DigestLog;
pub use ensemble::{EnsembleSettings, Epochs, Level, Store, Stored};
pub use found_membership::FoundMembership;
pub use long_read::LongRead;
pub use outbox::{Drained, Excess, Outbox};
pub use per_namespace::SummaryPerNamespace;
pub use read::ReadFrame;
pub use relief::Relief;
pub use replica::{Input, Output, Replica};
pub use settings::{Reaping, Settings};
pub use shared::Shared;
pub use standing::{Leadership, Part, Phase, Serving, Standing};
pub use statistics::{MemberStatistics, PerNamespace, Sizes, Statistics, Summary};
pub use time::Time;
