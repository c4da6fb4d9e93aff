//! Why a server for a test is not there, or does not do what it was told.

use std::io;

/// What went wrong. [`Error::NoBinary`] and [`Error::Io`] lie with the machine, the others with the server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no binary to run.
    #[error(
        "no binary of rookeeper: name it in ROOKEEPER_BIN, build it with `cargo build -p rookeeper-cli`, or install it on the PATH"
    )]
    NoBinary,
    /// The system said no.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The server ended by itself.
    #[error("the server has ended; its log:\n{log}")]
    Ended {
        /// All that it logged.
        log: String,
    },
    /// Something was waited for and did not happen within [`DEADLINE`](crate::DEADLINE).
    #[error("not within {} s: {what}", crate::DEADLINE.as_secs())]
    NotInTime {
        /// What was waited for.
        what: &'static str,
    },
}
