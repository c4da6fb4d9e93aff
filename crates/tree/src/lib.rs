//! The replicated state of a server, and who may see and hears of it. No IO, no clock, no locks: the same transactions always give
//! the same tree.
//!
//! Reading order:
//! - [`tree`]: what can be read, and the primitives of change; below it `nodes` (the slab and the index by path), `children` with
//!   `name_order` and `chunk`, and `acl_table`
//! - [`apply`](Tree::apply): what each transaction does, live and on replay; [`change`]: what it tells clients and watchers
//! - [`digest`], `quota` with `path_trie`, `owned`, `reap`: what follows from the nodes
//! - [`access`] with `access_list` and `ip`: lists against identities
//! - [`watch`] with `watcher_set`, `watched_paths` and `segmented_table`: who waits for which path
//! - [`builder`] and [`snapshot_walk`]: from a snapshot to a tree, and from a tree that goes on changing to a snapshot
//! - `subtree_walk`: over many nodes in portions, so that nobody waits for it; `descendants`: counts with it
//!
//! The life of a change: [`Tree::apply`] takes a transaction that was checked and ordered elsewhere, keeps the nodes, the sums and
//! the sets in step, and appends [`Change`]s. [`WatchTables::trigger`] turns each of them into [`Fired`] events, moving the one-shot
//! watchers out. Whoever delivers an event asks [`AccessList::allows`] of the change's list and then settles the watcher.

pub mod access;
mod access_list;
mod acl_table;
mod apply;
pub mod builder;
pub mod change;
mod children;
mod chunk;
mod config_node;
mod descendants;
pub mod digest;
mod ip;
mod name_order;
mod nodes;
mod owned;
mod path_trie;
mod quota;
pub mod reap;
mod segmented_table;
pub mod snapshot_walk;
mod subtree_walk;
pub mod tree;
pub mod watch;
mod watched_paths;
mod watcher_set;

pub use access::{AccessConfig, DigestAlgorithm};
pub use access_list::{AccessList, Verdicts};
pub use builder::{ReplayCleanup, RestoreError, TreeBuilder};
pub use change::{Change, Outcome};
pub use children::ChildNames;
pub use descendants::DescendantCount;
pub use owned::Mark;
pub use quota::{NamespaceQuota, QuotaVerdict};
pub use snapshot_walk::{SnapshotHead, SnapshotStart, SnapshotWalk};
pub use tree::{NodeRef, Tree};
pub use watch::{Fired, WatchKind, WatchTables, WatcherId, WatcherSet};
