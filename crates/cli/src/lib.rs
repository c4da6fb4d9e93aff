//! The commands of the one binary `rookeeper`, as a library so that tests can run them in their own process.
//!
//! Reading order:
//! - `main.rs`: the subcommands, and nothing else
//! - [`shell`]: `rookeeper cli`, the interactive client in zkCli's syntax, on the crate `zookeeper-client`
//! - [`print`]: output that may be cut off without harm
//! - [`mod@bench`]: `rookeeper bench`, the load generator, on its own few requests over tokio

pub mod bench;
pub mod print;
#[cfg(feature = "shell")]
pub mod shell;
