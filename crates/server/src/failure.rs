//! Failures that end the process, from whichever thread they come.

use rookeeper_storage::StorageError;
use tokio::sync::mpsc;

/// Why the process must end, and the exit code that says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub exit_code: u8,
    pub message: String,
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Failure {
        Failure { exit_code: error.exit_code(), message: error.to_string() }
    }
}

/// Handed to every thread that can fail for good.
#[derive(Debug, Clone)]
pub(crate) struct Failures(mpsc::UnboundedSender<Failure>);

impl Failures {
    pub fn new() -> (Failures, mpsc::UnboundedReceiver<Failure>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Failures(sender), receiver)
    }

    /// Whoever ends the process logs it, once.
    pub fn report(&self, exit_code: u8, message: String) {
        // Nobody listens any more when the process is already ending.
        let _ = self.0.send(Failure { exit_code, message });
    }
}
