//! Properties that must hold of every life, one property a file. Each checker reports a violation in words that begin with the property's
//! name.
//!
//! - [`history`]: the same transactions in the same order everywhere, the same state at the same zxid
//! - [`model`]: what that history means for each path; sessions and their ephemeral nodes
//! - [`durability`]: what is acknowledged, promised or committed is on disks, and survives
//! - [`leaders`]: one leader an epoch
//! - [`linearizable`]: writes and reads behind a sync respect real time, and reads show what was written
//! - [`connections`]: none outlives its client
//! - [`session_order`]: answers come in the order of requests and never go back in time
//! - [`requests`]: a session's writes take effect in the order in which it sent them
//! - [`moves`]: nothing of a connection that a session has left is applied
//! - [`refusals`]: each request for a change has the outcome that the model says
//! - [`expiry`]: sessions end neither early nor late
//! - [`watches`]: neither lost, nor late, nor invented
//! - [`progress`]: an ensemble without faults serves everybody and agrees

pub mod connections;
pub mod durability;
pub mod expiry;
pub mod history;
pub mod leaders;
pub mod linearizable;
pub mod model;
pub mod moves;
pub mod progress;
pub mod refusals;
pub mod requests;
pub mod rights;
pub mod session_order;
pub mod watches;

/// The violation, if there is one.
pub type Verdict = Result<(), String>;
