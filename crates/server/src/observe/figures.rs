//! Figures that the log, the snapshots and the audit log produce, for commands and metrics.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize};

use rookeeper_replica::Summary;

use super::drops::Drops;
use super::events::Events;
use super::slow::SlowLog;
use super::stages::{ClientStages, ServerStages};

/// Counters and times of the log, the snapshots and the audit log. The threads for these write them, commands read them.
#[derive(Debug)]
pub struct Figures {
    pub(crate) stages: ServerStages,
    pub(crate) client_stages: ClientStages,
    pub(crate) drops: Drops,
    pub(crate) events: Events,
    pub(crate) slow: SlowLog,
    /// Transactions on their way, and requests that wait for a leader.
    pub(crate) in_flight: AtomicUsize,
    /// Milliseconds of each fdatasync of the log.
    pub fsync_time_ms: Summary,
    /// Transactions made durable by one fdatasync.
    pub sync_batch_size: Summary,
    /// Syncs slower than `fsync.warningthresholdms`.
    pub slow_syncs: AtomicU64,
    /// Milliseconds that snapshots took.
    pub snapshot_time_ms: Summary,
    pub snapshot_errors: AtomicU64,
    /// Snapshots that an admin command asked for too soon after another one.
    pub snapshots_rate_limited: AtomicU64,
    /// Milliseconds that trees took to be restored, from the first byte that was sent on; those that were not restored, and those that came too soon.
    pub restore_time_ms: Summary,
    pub restore_errors: AtomicU64,
    pub restores_rate_limited: AtomicU64,
    /// Connections without TLS to an admin port that takes both.
    pub insecure_admin_connections: AtomicU64,
    /// The last transaction that is durable in the log.
    pub synced_zxid: AtomicI64,
    /// The zxid of the last snapshot, -1 before the first.
    pub last_snapshot_zxid: AtomicI64,
    /// Milliseconds that recovery took at start.
    pub recovery_time_ms: AtomicU64,
    /// Of that, the snapshots that were read, and the log, of which so many transactions were applied.
    pub snapshot_load_time_ms: AtomicU64,
    pub log_load_time_ms: AtomicU64,
    pub transactions_loaded: AtomicU64,
    pub snapshots_purged: AtomicU64,
    pub logs_purged: AtomicU64,
    /// Lines of the audit log, and those that it lost because they came too fast or could not be written.
    pub audit_lines_written: AtomicU64,
    pub audit_lines_dropped: AtomicU64,
}

impl Figures {
    /// Resets as `srst` does: series and errors start anew; the figures of the start, and slow syncs, stay.
    pub fn reset(&self) {
        for summary in [&self.fsync_time_ms, &self.sync_batch_size, &self.snapshot_time_ms, &self.restore_time_ms] {
            summary.reset();
        }
        for counter in [
            &self.snapshot_errors,
            &self.snapshots_rate_limited,
            &self.restore_errors,
            &self.restores_rate_limited,
            &self.insecure_admin_connections,
        ] {
            counter.store(0, Relaxed);
        }
    }
}

impl Default for Figures {
    fn default() -> Figures {
        Figures {
            stages: ServerStages::default(),
            client_stages: ClientStages::default(),
            drops: Drops::default(),
            events: Events::default(),
            slow: SlowLog::default(),
            in_flight: AtomicUsize::new(0),
            fsync_time_ms: Summary::default(),
            sync_batch_size: Summary::default(),
            slow_syncs: AtomicU64::new(0),
            snapshot_time_ms: Summary::default(),
            snapshot_errors: AtomicU64::new(0),
            snapshots_rate_limited: AtomicU64::new(0),
            restore_time_ms: Summary::default(),
            restore_errors: AtomicU64::new(0),
            restores_rate_limited: AtomicU64::new(0),
            insecure_admin_connections: AtomicU64::new(0),
            synced_zxid: AtomicI64::new(0),
            last_snapshot_zxid: AtomicI64::new(-1),
            recovery_time_ms: AtomicU64::new(0),
            snapshot_load_time_ms: AtomicU64::new(0),
            log_load_time_ms: AtomicU64::new(0),
            transactions_loaded: AtomicU64::new(0),
            snapshots_purged: AtomicU64::new(0),
            logs_purged: AtomicU64::new(0),
            audit_lines_written: AtomicU64::new(0),
            audit_lines_dropped: AtomicU64::new(0),
        }
    }
}
