//! The leader alone: what it asks for and sends, as transcripts that are compared whole; and one test for every rule of the broadcast
//! that a leader could break by itself.

mod golden;
mod invariants;
mod liveness;
mod reconfig;
mod recorded;
mod story;
mod transcripts;
