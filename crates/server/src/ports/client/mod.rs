//! The client port: where clients connect, and what becomes of each connection.
//!
//! - `listener.rs`: accepts within the limits and gives each connection a task
//! - `secure.rs`: what clients that speak TLS go through before that
//! - `moving.rs`: the port of another membership, opened while the server runs
//! - `connection/`: one connection from its first byte to its last
//! - `throttle.rs`: how many sessions may begin in a time
//! - `large_requests.rs`: how many bytes of large requests may be in process
//! - `memory.rs`: what clients may make this server hold
//! - `requests_table.rs`: what becomes of each request, for COMPAT.md
//!
//! Counterpart in the original: `ServerCnxnFactory` and `ServerCnxn`.

pub(crate) mod connection;
pub(crate) mod large_requests;
pub(crate) mod listener;
pub(crate) mod memory;
pub(crate) mod moving;
pub(crate) mod requests_table;
pub(crate) mod secure;
pub(crate) mod throttle;
