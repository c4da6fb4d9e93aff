//! What bytes from outside may do: be refused, or be taken for what they are. Never a panic, never memory beyond a bound.
//!
//! One file per target, each with `run(bytes)`, which takes any bytes at all and asserts what must hold of what comes out. The same
//! functions are run by libFuzzer (`fuzz/`) and, over the corpus and seeded mutations of it, by `tests/corpus.rs`.
//!
//! Reading order:
//! - [`frames`]: the client port's frames and the requests in them
//! - [`records`]: everything else that is jute, transactions above all
//! - [`conversation`]: whole conversations of several clients with a replica, its log replayed at the end
//! - [`replay`]: transactions that no honest server wrote, applied to a tree, and the tree through a snapshot
//! - [`log`] and [`snapshot`]: the files, on a simulated disk
//! - [`config`]: `zoo.cfg` and everything else an operator can say
//! - [`sasl`]: the files of users and passwords, and the tokens by which they prove themselves
//! - [`stores`]: key stores and trust stores of TLS
//! - [`first_bytes`]: the beginning of a connection that may be one with TLS
//! - [`registry`]: what clients and other servers send to the service registry
//! - [`mutation`]: from a seed to its neighbours, the same in every run

pub mod config;
pub mod conversation;
pub mod first_bytes;
pub mod frames;
pub mod log;
pub mod mutation;
pub mod records;
pub mod registry;
pub mod replay;
pub mod sasl;
pub mod snapshot;
pub mod stores;

/// A target by its name, which is also its folder in the corpus.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
}

pub const TARGETS: &[Target] = &[
    Target { name: "frames", run: frames::run },
    Target { name: "records", run: records::run },
    Target { name: "conversation", run: conversation::run },
    Target { name: "replay", run: replay::run },
    Target { name: "log", run: log::run },
    Target { name: "snapshot", run: snapshot::run },
    Target { name: "config", run: config::run },
    Target { name: "sasl", run: sasl::run },
    Target { name: "stores", run: stores::run },
    Target { name: "first_bytes", run: first_bytes::run },
    Target { name: "registry", run: registry::run },
];

/// The largest input a target is asked to bear; longer ones say nothing new.
pub const MAX_INPUT_BYTES: usize = 1 << 20;

/// What one run may have allocated at its highest: a fixed part for the tables of an empty server, and a multiple of the input.
/// A record of a few bytes is a struct of a hundred once decoded, and a growing vector holds its old and its new memory for a
/// moment; nothing honest needs more than that.
pub const fn allocation_bound(input_bytes: usize) -> usize {
    (16 << 20) + 60 * input_bytes
}
