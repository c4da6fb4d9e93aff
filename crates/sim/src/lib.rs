//! Whole ensembles of the shipping code in virtual time: the replica, the broadcast, the tree and the store run as they are, in a world
//! where a seed chooses every delay and every fault.
//!
//! Reading order:
//! - `world.rs`: one life, its events and its clock
//! - [`faults`]: the plan of a life, and what goes wrong in it
//! - `server.rs`, `storage.rs`, `snapshots.rs`: a server on a simulated disk; `network.rs`: what lies between servers
//! - `clients.rs`: the clients; `habits.rs`: what they do now and then; `lines.rs`, `tasks.rs`: how clients are connected
//! - `patrons.rs`: clients that drive the recipes' logic; `patrons/jobs.rs`: what each of them does
//! - `operator.rs`: the operator, who changes the members; `config_files.rs`: where servers keep the members
//! - `restores.rs`: the operator of a server alone, who wants an earlier state back
//! - `stumbles.rs`: servers that stumble while an epoch begins
//! - [`scenes`]: chains of events that chance brings about too seldom
//! - `lost_disks.rs`: disks that are lost; `tampering.rs`: bugs planted in what leaders and learners say; `forgetful.rs`: in how they keep
//!   sessions
//! - `testimony.rs`: what the checkers of sessions are told
//! - [`checkers`]: what must hold of every life
//! - [`planted`]: how often the checkers see bugs that were planted on purpose
//! - `shrink.rs`: from a life that failed to the smallest one that does
//!
//! A life has a phase under faults, in which nothing may be wrong, and a healed one, in which everything must come right.

pub mod checkers;
pub mod faults;
mod habits;
pub mod planted;
pub mod scenes;
mod shrink;
mod world;

mod clients;
mod config_files;
mod forgetful;
mod lines;
mod lost_disks;
mod network;
mod operator;
mod oracle;
pub mod patrons;
mod restores;
mod server;
mod shortages;
mod snapshots;
mod storage;
mod stumbles;
mod tampering;
mod tasks;
mod testimony;

pub use faults::{Fault, Plan, Sabotage};
pub use shrink::shrink;
pub use world::{Figures, Outcome, live};
