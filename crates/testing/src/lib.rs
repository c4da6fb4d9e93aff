//! Servers for the tests of programs that use ZooKeeper: there in milliseconds, in memory, without a JVM, gone with the test.
//!
//! ```
//! let server = rookeeper_testing::Server::start()?;
//! println!("any ZooKeeper client connects to {}", server.address());
//!
//! let mut ensemble = rookeeper_testing::Ensemble::start(3)?;
//! println!("and to {}", ensemble.connect_string());
//! let leader = ensemble.leader()?;
//! ensemble.kill(leader)?;
//! assert_ne!(ensemble.leader()?, leader);
//! # Ok::<(), rookeeper_testing::Error>(())
//! ```
//!
//! A server is a process of the binary `rookeeper`, so it can be killed and frozen as a server is in the field. The binary is the one that
//! `ROOKEEPER_BIN` names, else the one that cargo has built beside the test, else the one on the `PATH`.
//!
//! What always holds: a server ends with its handle, and with the process of the test, however that ends. All calls block; none takes longer
//! than [`DEADLINE`] without an error.
//!
//! Reading order: [`Server`], [`Ensemble`]; `process.rs`, one process with its files; `link.rs`, a connection between members that can be cut.

/// The chapter of the guide, whose example is a test.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/testing.md")]
mod guide {}

mod ensemble;
mod error;
mod link;
mod process;
mod server;

use std::time::Duration;

pub use ensemble::Ensemble;
pub use error::Error;
pub use server::Server;

/// The longest that anything here waits: far more than it takes, on a machine that is busy.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Between two looks at something that is waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
