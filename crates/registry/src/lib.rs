//! A registry of service instances, as clients of Netflix Eureka and its Java servers know it: available before consistent. Each server answers from
//! memory with what it knows, also during a partition; heartbeats repair what was lost.
//!
//! Nothing here reads a clock, a socket or a file: whoever drives the registry passes the time and carries the bytes.
//!
//! Read in this order:
//!
//! - `instance.rs`: an instance of a service, as a client describes it
//! - `lease.rs`: how long an instance lives without a heartbeat
//! - `status.rs`: which status is shown when client, operator and lease disagree
//! - `preservation.rs`: when silence is taken for a fault of the network instead of the death of many
//! - `recent.rs`: what changed lately, for those who fetch deltas
//! - `holdings.rs`: the instances that are there, and the names under which they are found
//! - `registry.rs`: all of that together; `eviction.rs`: the end of leases; `tombstones.rs`: the memory of cancelled instances;
//!   `snapshot.rs`: what was known before a restart
//! - `consistent/`: services that live in the coordination tree
//! - `encoding/`: JSON and XML, written and read
//! - `outbox.rs`: what another server is still to hear
//! - `tally.rs`: what was done, in numbers
//! - `bodies.rs`: the room for bodies that are arriving; `outgoing.rs`: that of answers on their way
//! - `rest/`: the resources over HTTP, without the connections
//!
//! The life of a registration: `encoding` reads the bytes of a client, [`Registry::register`] compares versions, makes a lease and marks the
//! application as changed, the next reader of the list finds the one application encoded anew and all others as they were.
//!
//! Peculiarities of the original that clients can see are kept and named where they are; counterparts in the original are `InstanceRegistry`,
//! `AbstractInstanceRegistry`, `PeerAwareInstanceRegistryImpl` and the codecs of `eureka-client`.

mod application;
mod bodies;
pub mod consistent;
pub mod encoding;
mod eviction;
mod holdings;
mod instance;
mod lease;
pub mod outbox;
mod outgoing;
mod preservation;
mod recent;
mod registry;
pub mod rest;
mod settings;
mod snapshot;
mod status;
mod tally;
mod tombstones;

pub use application::{Application, Applications, Record};
pub use bodies::{Bodies, BodyId, BodyLimits};
pub use holdings::Vip;
pub use instance::{ActionType, Amazon, DataCenter, Instance, PortNumber};
pub use lease::{DEFAULT_DURATION_S, DEFAULT_RENEWAL_S, LeaseTimes};
pub use outgoing::{AnswerId, Outgoing};
pub use preservation::Preservation;
pub use registry::{Caller, Heartbeat, Known, Override, Registered, Registry};
pub use settings::Settings;
pub use snapshot::{Snapshot, UNCONFIRMED};
pub use status::Status;
pub use tally::{ByCaller, LastLease, Tally};

/// Two clocks, read at the same moment.
///
/// Deadlines are kept in steady time, so that a wall clock that is set forward ends no lease. What clients are told is wall time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Milliseconds since the Unix epoch.
    pub wall_ms: i64,
    /// Milliseconds since some moment in the past; never goes back.
    pub steady_ms: u64,
}
