//! Why a storage ends the process it belongs to: its disk failed, or has what can't be. Nobody else is to blame.

use rookeeper_proto::Zxid;
use rookeeper_store::StoreError;

/// What could not be made durable. Nothing more is answered after it.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("the transaction log can't be written: {0}; nothing more is acknowledged")]
    Log(#[source] StoreError),
    #[error("the epoch can't be stored: {0}; this server takes part no more")]
    Epoch(#[source] StoreError),
    #[error("the log can't be truncated behind {zxid}, as the leader demands: {error}")]
    Truncate { zxid: Zxid, error: StoreError },
    #[error("the leader's snapshot at {zxid} can't be stored: {error}")]
    Install { zxid: Zxid, error: StoreError },
    #[error(
        "what was to be restored as {zxid} can't be stored, or may be: {error}; the next start finds it, or what was there before"
    )]
    Restore { zxid: Zxid, error: StoreError },
    #[error("can't write a snapshot: {0}; everything acknowledged is in the log")]
    Snapshot(#[source] StoreError),
}

impl StorageError {
    /// What the files had to say.
    pub fn into_cause(self) -> StoreError {
        match self {
            StorageError::Log(error) | StorageError::Epoch(error) | StorageError::Snapshot(error) => error,
            StorageError::Truncate { error, .. }
            | StorageError::Install { error, .. }
            | StorageError::Restore { error, .. } => error,
        }
    }
}
