//! The leader alone: what it asks for and sends, as transcripts that are compared whole; and one test for every rule of the broadcast
//! that a leader could break by itself.
//!
//! - [`story`]: a leader, what happens to it and what it does, as text
//! - `transcripts`, `reconfig`, `liveness`: such stories
//! - `recorded`: what the original's learners said and heard
//! - `oracle`: one of two members that goes on alone
//! - `claims`: what a single learner can't bring about
//! - `invariants`: the rules, and followers that check them in any order of events
//! - [`golden`]: how texts are compared

#![allow(clippy::disallowed_methods, reason = "a test reads what was recorded")]
#![allow(clippy::unwrap_used)]

mod claims;
mod golden;
mod invariants;
mod liveness;
mod oracle;
mod reconfig;
mod recorded;
mod story;
mod transcripts;
