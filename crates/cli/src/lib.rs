//! The commands of the one binary `rookeeper`, as a library so that tests can run them in their own process.
//!
//! Reading order:
//! - `main.rs`: the subcommands, and nothing else
//! - [`shell`]: `rookeeper cli`, the interactive client in zkCli's syntax, on the crate `zookeeper-client`
//! - [`ephemeral`]: `rookeeper server --ephemeral`, a server that keeps nothing
//! - [`exclusive`]: `rookeeper lock` and `elect`, a command that runs only while this process holds, on the crate `recipes`
//! - [`members_command`]: `rookeeper members`, who is in a group
//! - [`services`]: `rookeeper register` and `discover`, instances of services
//! - [`id_command`]: `rookeeper id`, unique numbers
//! - [`mod@watch`]: `rookeeper watch`, each change of a node or a subtree, printed or as a command that runs
//! - [`barrier_command`]: `rookeeper barrier`, waits until so many are there
//! - [`queue_command`]: `rookeeper queue`, items in, items out, and a command for each
//! - [`toolkit`]: `rookeeper log`, `snapshot` and `cleanup`, the original's tools for files, on [`java`], what they take from Java
//! - [`backup`]: `rookeeper backup`, `verify` and `restore`
//! - [`service`]: `rookeeper start`, `stop`, `status` and `init`, a server in the background; [`readiness`], what a service manager is told
//! - [`diagnosis`]: `rookeeper config check` and `doctor`, on [`four_letter_word`] and [`admin_command`]
//! - [`dialler`]: connections of `status`, `top` and `bench` to servers, with TLS or without
//! - [`config_file`]: what commands look up in a `zoo.cfg`
//! - [`print`]: output that may be cut off without harm
//! - [`top`]: `rookeeper top`, a live view of an ensemble
//! - [`mod@bench`]: `rookeeper bench`, the load generator, on its own few requests over tokio

pub mod admin_command;
pub mod backup;
#[cfg(feature = "shell")]
pub mod barrier_command;
pub mod bench;
pub mod config_file;
pub mod diagnosis;
pub mod dialler;
pub mod ephemeral;
#[cfg(feature = "shell")]
pub mod exclusive;
pub mod four_letter_word;
#[cfg(feature = "shell")]
pub mod id_command;
pub mod java;
#[cfg(feature = "shell")]
pub mod members_command;
pub mod print;
#[cfg(feature = "shell")]
pub mod queue_command;
pub mod readiness;
pub mod service;
#[cfg(feature = "shell")]
pub mod services;
#[cfg(feature = "shell")]
pub mod shell;
pub mod toolkit;
#[cfg(feature = "top")]
pub mod top;
pub mod ttl_nodes;
#[cfg(feature = "shell")]
pub mod watch;
