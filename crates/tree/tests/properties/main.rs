//! Properties of the tree and rules of the watch tables.
//!
//! - [`model`]: a simple tree that transactions are prepared against, and the random operations
//! - [`against_model`]: the tree and the model agree after every transaction
//! - [`fuzzy_snapshot`]: a snapshot taken while the tree changes, completed by the log, is the tree
//! - [`watch_rules`]: one test per sentence of the rules

#![allow(clippy::unwrap_used, reason = "all of this is tests")]

mod against_model;
mod fuzzy_snapshot;
mod model;
mod watch_rules;
