//! One deterministic server, without sockets, files, threads or clocks.
//!
//! It joins the tree and the broadcast into a server: sessions, the order of requests, watches, answers. Whoever runs it feeds
//! [`Input`]s with the time and carries out [`Output`]s; a disk, a network and a simulator are all peers that answer later.
//!
//! ```text
//! Replica ── Core                     what a server is in every role: shared state, history, what is on its way, outputs
//!         └─ State ── Standalone      decides alone
//!                  └─ Ensemble ── Member      what outlives a role: memberships, epochs, the election
//!                              └─ Role ── Looking | Leading | Learning      each with what only it needs
//! ```
//!
//! Reading order:
//! - [`contract`]: [`Input`], [`Output`], and what the storage is asked for; [`replica`]: who calls what in which order
//! - [`reasons`]: why a role ends, and what is worth a line in the log, with all texts
//! - `check.rs`: what must hold; `core.rs`: apply, append, answer; nothing in it knows the role
//! - `inputs.rs`: inputs by who says them; `state/mod.rs`: where each goes, and how roles follow one another
//! - `state/standalone.rs`: a server alone
//! - `member.rs`, `membership.rs`: what a member is in every role; [`found_membership`]: the members that it begins with
//! - `state/looking.rs`: a member that looks for a leader, and serves those who only read meanwhile
//! - `state/leading/`: a member that leads; `learner_requests.rs`, `syncs.rs`: what learners ask for; `clients.rs`: what its own clients ask
//!   for; `reconfig.rs`: the change of the members; `ended.rs`
//! - `state/learning/`: a member that learns from a leader; `clients.rs`, `forwarded.rs`: what its clients ask for, and wait for;
//!   `heard_sessions.rs`: what the leader is told of them
//! - `write/`: `proposer.rs`: from a request to its place in the order; `prepare.rs` and `pending.rs`: the checks of a change, against the
//!   tree as it will be; `reaper.rs`: changes that time makes; `apply.rs`: from a committed transaction to answers and events
//! - `clients/`: `handshake.rs`, `arrivals.rs`: clients that come; `requests.rs`, `local.rs`, `eager.rs`: what they ask for; [`session`]: who
//!   has a session, and when it ends; [`read`]: reads, which do not pass the replica while their session has nothing on its way;
//!   [`shared`], [`connection`], [`outbox`]: what the connections' tasks and the replica share; [`conversation`], [`budget`], `relief.rs`:
//!   when a client is read, heard and cut, and what clients together make a server hold
//! - [`audit`]: what an audit log is told of requests
//! - [`room`]: whether there is room on the disks and in memory for what grows
//! - [`settings`], [`status`], [`statistics`] with [`per_namespace`] and `tally.rs`, [`stages`], [`top`], [`time`], [`pulse`], [`digest_log`]

pub mod audit;
pub mod contract;
pub mod digest_log;
pub mod found_membership;
pub mod per_namespace;
pub mod pulse;
pub mod reasons;
pub mod replica;
pub mod room;
pub mod settings;
pub mod stages;
pub mod statistics;
pub mod status;
pub mod time;
pub mod top;

mod buckets;
mod check;
mod clients;
mod core;
mod inputs;
mod member;
mod membership;
mod state;
mod tally;
mod write;

pub use clients::{budget, connection, conversation, long_read, outbox, read, session, shared, throttle};

pub use audit::{Audited, Fate, Operation};
pub use budget::Budget;
pub use check::Broken;
pub use clients::relief::Relief;
pub use connection::{Connection, Identities};
pub use contract::{Epochs, Input, NotRestored, Output, SlowOperation, Store, Stored};
pub use conversation::{Conversation, Cut, Limits, Next};
pub use core::Done;
pub use digest_log::DigestLog;
pub use found_membership::FoundMembership;
pub use long_read::LongRead;
pub use outbox::{Drained, Excess, Outbox};
pub use per_namespace::SummaryPerNamespace;
pub use read::ReadFrame;
pub use reasons::{Event, Level, RoleEnd};
pub use replica::Replica;
pub use room::{Measured, RoomBoard, RoomSettings, Shortage};
pub use settings::{EnsembleSettings, Reaping, Settings};
pub use shared::Shared;
pub use stages::{Counts, Histogram, Stages};
pub use statistics::{MemberStatistics, PerNamespace, Sizes, Statistics, Summary};
pub use status::{LeaderStatus, Phase, ServerRole, ServerStatus, Serving};
pub use throttle::{Arrival, Ruling, Staleness, ThrottleSettings, Turn};
pub use time::{Deadline, Stamp, Time};
pub use top::{Sample, Top};
