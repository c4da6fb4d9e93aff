//! Simulated lives of registries.
//!
//! - `peers.rs`: three to seven registries that tell each other
//! - `expectations.rs`: what must hold of one registry, reckoned from what was done to it
//! - `tree.rs`: registries that keep instances in one coordination tree
//!
//! `REGISTRY_LIVES=A..B` runs other lives than those of every test run; a failure names its seed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod expectations;
mod peers;
mod tree;

use std::ops::Range;

/// The lives of this run.
fn seeds(usual: Range<u64>) -> Range<u64> {
    let Ok(range) = std::env::var("REGISTRY_LIVES") else { return usual };
    let (from, to) = range.split_once("..").expect("REGISTRY_LIVES is A..B");
    from.parse().unwrap()..to.parse().unwrap()
}
