//! The original's tools for logs and snapshots, with its options, outputs and exit codes: what `bin/zkTxnLogToolkit.sh` and its like run.
//!
//! Reading order:
//! - [`arguments`]: options in the forms that Java's Commons CLI takes
//! - [`log`]: `rookeeper log`, on [`txn_text`], a transaction as text
//! - [`snapshot`]: `rookeeper snapshot`, on [`snapshot_tree`], the nodes of a snapshot as a tree in the original's order;
//!   [`compare`] two of them, [`summary`] of one
//! - [`cleanup`]: `rookeeper cleanup`
//!
//! What always holds: a file that is looked at is never changed; where the original ends well although a file is damaged, its output stays
//! and what is wrong is told on standard error.

pub mod arguments;
pub mod cleanup;
pub mod compare;
pub mod log;
pub mod snapshot;
pub mod snapshot_tree;
pub mod summary;
pub mod txn_text;

/// A wrong invocation, as the original's exit codes have it for most tools.
pub(crate) const MISUSED: u8 = 2;
/// Anything else that went wrong.
pub(crate) const FAILED: u8 = 1;
