//! What this server knows of itself: facts, gathered for whoever asks. How they are written down is the business of those who ask: the
//! four-letter words (`commands`), the port of Prometheus (`ports/metrics`), the admin port (`ports/admin`), the log.
//!
//! - `view.rs`: which part the server plays at that moment
//! - `overview.rs`: the server as a whole; `directories.rs`, `disk.rs`: how large its files are, and how much room is left; `environment.rs`, `process.rs`: what the system says
//! - `connections.rs`, `sessions.rs`, `watches.rs`: who is connected, lives and watches
//! - `metrics.rs` with `metrics_table.rs`: every metric and its value; [`figures`]: those that the log and the snapshots count
//! - `stages.rs`: how long each stage of a request takes; `drops.rs`: what is turned away; `events.rs`: elections and synchronisation
//! - `top.rs`: who asks for the most; `slow.rs`: operations that took long
//! - `activity.rs`: what the threads are doing; `absence.rs`: which members are missing where there is no quorum
//! - `report.rs`: everything at once, for a server that stands still
//!
//! What always holds here: locks of the tree, the sessions and the watches are held only to copy, the others in portions where there is
//! much. A part that gathers what grows with the number of clients says after each portion how much memory that takes, and stops where that is
//! not wanted any more.

pub(crate) mod absence;
pub(crate) mod activity;
pub(crate) mod connections;
pub(crate) mod directories;
pub(crate) mod disk;
pub(crate) mod drops;
pub(crate) mod environment;
pub(crate) mod events;
pub mod figures;
pub(crate) mod metrics;
mod metrics_table;
pub(crate) mod overview;
pub(crate) mod process;
pub(crate) mod report;
pub(crate) mod sessions;
pub(crate) mod slow;
pub(crate) mod stages;
pub(crate) mod top;
pub(crate) mod view;
pub(crate) mod watches;

/// The question is over: it would take too much memory to answer, or whoever asked is gone.
#[derive(Debug)]
pub(crate) struct NotWanted;

/// Is told how many bytes are gathered by now.
pub(crate) type Gathered<'a> = &'a mut dyn FnMut(usize) -> Result<(), NotWanted>;
