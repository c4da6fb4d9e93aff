//! The way of a change: from a request to a transaction, and from a committed transaction to its answer.

pub(crate) mod apply;
pub(crate) mod new_members;
pub(crate) mod pending;
pub(crate) mod prepare;
pub(crate) mod proposer;
pub(crate) mod reaper;
