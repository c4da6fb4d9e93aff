//! What this server knows of itself, for commands, metrics, reports and the log.
//!
//! - [`figures`]: what the log and the snapshots count
//! - `activity.rs`: what the threads are doing
//! - `absence.rs`: which members are missing where there is no quorum
//! - `report.rs`: everything at once, for a server that stands still

pub(crate) mod absence;
pub(crate) mod activity;
pub mod figures;
pub(crate) mod report;
