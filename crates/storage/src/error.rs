//! Why a storage ends the process it belongs to: its disk failed, or has what can't be. Nobody else is to blame.

use rookeeper_proto::Zxid;
use rookeeper_store::StoreError;

/// The exit code of the original for a snapshot that can't be written.
pub const EXIT_SNAPSHOT: u8 = 10;

/// The exit code of the original where the log can't be truncated as the leader demands.
const EXIT_TRUNCATE: u8 = 13;

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
    #[error("can't write a snapshot: {0}; everything acknowledged is in the log")]
    Snapshot(#[source] StoreError),
}

impl StorageError {
    /// With which the process ends.
    pub fn exit_code(&self) -> u8 {
        match self {
            StorageError::Log(_) | StorageError::Epoch(_) => 1,
            StorageError::Truncate { .. } => EXIT_TRUNCATE,
            StorageError::Install { .. } | StorageError::Snapshot(_) => EXIT_SNAPSHOT,
        }
    }

    /// What the files had to say.
    pub fn into_cause(self) -> StoreError {
        match self {
            StorageError::Log(error) | StorageError::Epoch(error) | StorageError::Snapshot(error) => error,
            StorageError::Truncate { error, .. } | StorageError::Install { error, .. } => error,
        }
    }
}
