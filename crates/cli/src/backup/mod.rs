//! Backups: `rookeeper backup` takes one, `rookeeper archive` goes on with one, `rookeeper verify` proves it without a server, `rookeeper restore` builds a data directory from it.
//!
//! Reading order:
//! - [`manifest`]: what a backup says of itself, and the checksums of all its files
//! - [`copy`]: files of a server that may be running, copied record by record
//! - [`pace`]: how fast a backup writes
//! - [`take`]: `rookeeper backup`; [`admin`], from a server elsewhere, with [`http`] and [`unpack`]
//! - [`archive`]: `rookeeper archive`, a backup that grows
//! - [`verify`]: `rookeeper verify`, and what must be right before anything is restored
//! - [`restore`]: `rookeeper restore`; [`when`], moments as people write them
//!
//! A backup is a directory with a file `manifest.jsonl` and a directory `version-2`, which is laid out as that of a server: a snapshot and the log
//! behind it. So whoever has nothing but a copy program can restore it too.
//!
//! What always holds: a directory has the name of a backup only when it is whole, durable and proven; the source is never changed; a change of
//! a single bit anywhere in a backup is found; where anything is in doubt nothing is restored, and the reason is told with a remedy.

pub mod admin;
pub mod archive;
pub mod copy;
pub mod http;
pub mod manifest;
pub mod pace;
pub mod restore;
pub mod take;
pub mod unpack;
pub mod verify;
pub mod when;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use anyhow::Error;

use crate::print;

/// The directory with the files of a server.
pub(crate) const VERSION_DIR: &str = "version-2";

/// Tells of a failure, and returns the exit code for it.
pub(crate) fn failed(command: &str, error: &Error) -> u8 {
    print::complaint(&format_args!("rookeeper {command}: {error:#}"));
    1
}

/// For the tables of a tree, whose paths clients have chosen.
pub(crate) fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
