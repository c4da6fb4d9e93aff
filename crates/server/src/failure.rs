//! Failures that end the process, from whichever thread they come, and the codes with which it ends.
//!
//! What always holds: every code has the number and the meaning that the original gives it, because scripts and service managers go by it.
//! The tables of README.md and docs/OPERATIONS.md are compared with these (`tests/exit_codes.rs`).
//!
//! Counterpart in the original: `ExitCode`.

use rookeeper_storage::StorageError;
use rookeeper_store::StoreError;
use tokio::sync::mpsc;

/// The codes with which the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    Finished,
    Failed,
    Misconfigured,
    DataDirectory,
    Snapshot,
    Truncation,
    ServerPort,
}

impl ExitCode {
    /// All of them, by their numbers.
    pub const ALL: [ExitCode; 7] = [
        ExitCode::Finished,
        ExitCode::Failed,
        ExitCode::Misconfigured,
        ExitCode::DataDirectory,
        ExitCode::Snapshot,
        ExitCode::Truncation,
        ExitCode::ServerPort,
    ];

    /// The exit status of the process.
    pub const fn number(self) -> u8 {
        self.described().0
    }

    /// The original's name of the code.
    pub const fn name(self) -> &'static str {
        self.described().1
    }

    /// As the documentation tells it.
    pub const fn meaning(self) -> &'static str {
        self.described().2
    }

    const fn described(self) -> (u8, &'static str, &'static str) {
        match self {
            ExitCode::Finished => (0, "EXECUTION_FINISHED", "stopped in order (SIGTERM, SIGINT, SIGHUP)"),
            ExitCode::Failed => (1, "UNEXPECTED_ERROR", "port in use, damaged data, failing disk"),
            ExitCode::Misconfigured => (2, "INVALID_INVOCATION", "wrong invocation or configuration"),
            ExitCode::DataDirectory => {
                (3, "UNABLE_TO_ACCESS_DATADIR", "data directory missing, not writable, full, or in use")
            }
            ExitCode::Snapshot => (10, "TXNLOG_ERROR_TAKING_SNAPSHOT", "a snapshot can't be written"),
            ExitCode::Truncation => {
                (13, "QUORUM_PACKET_ERROR", "the log can't be cut where the leader demands it, because it is damaged")
            }
            ExitCode::ServerPort => (14, "UNABLE_TO_BIND_QUORUM_PORT", "a port between the servers can't be opened"),
        }
    }
}

impl From<&StoreError> for ExitCode {
    fn from(error: &StoreError) -> ExitCode {
        if error.is_of_directory() { ExitCode::DataDirectory } else { ExitCode::Failed }
    }
}

impl From<&StorageError> for ExitCode {
    fn from(error: &StorageError) -> ExitCode {
        match error {
            StorageError::Log(_) | StorageError::Epoch(_) => ExitCode::Failed,
            StorageError::Truncate { .. } => ExitCode::Truncation,
            StorageError::Install { .. } | StorageError::Restore { .. } | StorageError::Snapshot(_) => {
                ExitCode::Snapshot
            }
        }
    }
}

/// The process ends with its number.
impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> std::process::ExitCode {
        std::process::ExitCode::from(code.number())
    }
}

/// Why the process must end, and the exit code that says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub exit_code: ExitCode,
    pub message: String,
}

impl Failure {
    /// `message` says what failed and what to do about it, for the log.
    pub fn new(exit_code: ExitCode, message: impl Into<String>) -> Failure {
        Failure { exit_code, message: message.into() }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::new((&error).into(), error.to_string())
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Failure {
        Failure::new((&error).into(), error.to_string())
    }
}

/// Handed to every thread that can fail for good.
#[derive(Debug, Clone)]
pub(crate) struct Failures(mpsc::UnboundedSender<Failure>);

impl Failures {
    /// The part for the threads, and the end at which failures arrive.
    pub fn new() -> (Failures, mpsc::UnboundedReceiver<Failure>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Failures(sender), receiver)
    }

    /// Hands a failure to the thread that ends the process, which logs it once.
    pub fn report(&self, failure: Failure) {
        // The receiver is gone when the process is already ending.
        let _ = self.0.send(failure);
    }
}

#[cfg(test)]
mod tests {
    use rookeeper_proto::Zxid;

    use super::*;

    #[test]
    fn what_the_storage_can_not_do_ends_with_the_originals_codes() {
        let (zxid, error) = (Zxid(1), || StoreError::Misuse("no".to_owned()));
        for (failed, number) in [
            (StorageError::Log(error()), 1),
            (StorageError::Epoch(error()), 1),
            (StorageError::Truncate { zxid, error: error() }, 13),
            (StorageError::Install { zxid, error: error() }, 10),
            (StorageError::Snapshot(error()), 10),
        ] {
            assert_eq!(ExitCode::from(&failed).number(), number, "{failed}");
        }
    }
}
