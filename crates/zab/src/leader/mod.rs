//! The leader.
