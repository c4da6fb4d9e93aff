//! Elections among several servers of ours and of the original's kind, over links that delay, break and lose.
//!
//! - [`network`]: the links, the clock, and what a server does with the result of an election
//! - [`original`]: the original's way of holding elections, stale votes included
//! - `transcripts`: whole elections as text, compared line by line
//! - `scripts`: one server and what it does, among it what the original's servers once sent, and what ours says to it
//! - [`golden`]: how texts are compared
//! - `oracle`: one of two members that elects itself
//! - `convergence`: thousands of seeds

#![allow(clippy::disallowed_methods, reason = "a test reads what was recorded")]
#![allow(clippy::unwrap_used)]

mod convergence;
mod golden;
mod network;
mod oracle;
mod original;
mod scripts;
mod transcripts;
