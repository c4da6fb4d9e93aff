//! Rookeeper as the world outside sees it: a process with a port and a data directory, met by recorded bytes, by foreign
//! clients, and by the original server.
//!
//! Nothing here uses Rookeeper's own crates, so a mistake in one of them cannot hide itself by being made twice.
//!
//! Reading order:
//! - [`server`]: a server process under test: start, wait until it serves, kill, log
//! - [`script`]: the scripts under `bin`
//! - [`client`]: a bare client that sends what it is told, [`wire`] the bytes for it
//! - [`tree`]: a whole tree fetched through a client, compared with what it should be
//! - [`fixture`]: the recorded material under `tests/fixtures`, [`replay`] its exchanges played against a server
//! - [`eureka`]: service registries of both kinds
//! - [`foreign`]: programs in Python, Java and C that use a server under test
//! - [`certificates`]: an authority that issues them; [`kerberos`] a Kerberos server;
//!   [`between_members`]: what members prove to each other
//! - [`ensemble`]: several servers that are one, of both products in any mix; [`member`] one of them,
//!   [`namespaces`] networks that can be cut, [`disks`] disks that can be full
//! - [`roving`]: a session that goes on at another server; [`load`] many of them, which record a [`history`]
//! - [`linearizable`]: whether a history can be that of one single register, [`promise`] where the original promises less
//! - [`verdict`]: everything that must hold at the end of a load; [`rounds`]: members are restarted one after the other under it
//! - [`example`]: a server for an example in the documentation
//! - [`proxy`]: a connection that loses answers, breaks or falls silent
//! - [`random`]: seeds that are printed, so that a failure can be repeated
//!
//! `ROOKEEPER_ACCEPTANCE_SERVER=apache` runs the same tests against Debian's Apache ZooKeeper 3.8.0. That is how the tests
//! themselves are tested; what fails then must be explained by its age or by a line of COMPAT.md.

pub mod between_members;
pub mod certificates;
pub mod client;
pub mod disks;
pub mod ensemble;
pub mod eureka;
mod example;
pub mod fixture;
pub mod foreign;
pub mod history;
pub mod kerberos;
pub mod linearizable;
pub mod load;
pub mod member;
pub mod namespaces;
pub mod promise;
pub mod proxy;
pub mod random;
pub mod replay;
pub mod rounds;
pub mod roving;
pub mod script;
pub mod server;
pub mod tree;
pub mod verdict;
pub mod wire;

pub use example::example;

use std::thread;
use std::time::{Duration, Instant};

/// Generous: a JVM may have to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until something holds that no process tells of by itself.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
