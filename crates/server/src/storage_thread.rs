//! The thread that makes transactions durable.
//!
//! It takes everything that has gathered, writes it with one call, syncs once, and only then tells the replica how far the disk is.
//! What always holds here: nothing is reported that is not on disk; after the first failure nothing is written or reported any more,
//! and the process ends, because a disk that failed once can't be trusted to have kept what it took before.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rookeeper_proto::Zxid;
use rookeeper_store::{LogWriter, StoreError};
use rookeeper_zab::Record;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::config::TransactionLog;
use crate::failure::Failures;
use crate::figures::Figures;
use crate::snapshot_thread::SnapshotRequests;

/// Leads to the log thread. Bounded by the number of transactions the replica lets wait for the disk.
#[derive(Debug)]
pub(crate) struct LogQueue(Sender<Vec<Record>>);

impl LogQueue {
    pub fn new() -> (LogQueue, Receiver<Vec<Record>>) {
        let (sender, receiver) = channel();
        (LogQueue(sender), receiver)
    }

    /// Moves the records over. A log thread that is gone has ended the process already.
    pub fn append(&self, records: &mut Vec<Record>) {
        let _ = self.0.send(std::mem::take(records));
    }
}

pub(crate) struct LogThread {
    pub writer: LogWriter,
    pub records: Receiver<Vec<Record>>,
    pub synced: mpsc::UnboundedSender<Zxid>,
    pub snapshots: SnapshotRequests,
    pub config: TransactionLog,
    pub figures: Arc<Figures>,
    pub failures: Failures,
    /// Bytes logged and not yet told to the snapshot thread.
    pub unsnapped_bytes: u64,
}

/// Runs until the replica is gone.
pub(crate) fn spawn(mut this: LogThread) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("log".into()).spawn(move || {
        if let Err(error) = this.run() {
            this.failures
                .report(1, format!("the transaction log can't be written: {error}; nothing more is acknowledged"));
        }
    })
}

impl LogThread {
    fn run(&mut self) -> Result<(), StoreError> {
        let mut last_sync = Instant::now();
        while let Ok(first) = self.records.recv() {
            let (mut last, mut count) = (Zxid::ZERO, 0);
            let mut write = |writer: &mut LogWriter, records: Vec<Record>| -> Result<(), StoreError> {
                for record in records {
                    writer.append(record.zxid, record.body())?;
                    last = record.zxid;
                    count += 1;
                }
                Ok(())
            };
            let mut written = first.len();
            write(&mut self.writer, first)?;
            let collect_until = last_sync + Duration::from_millis(self.config.flush_delay_ms);
            while self.config.max_batch_size.is_none_or(|limit| written < limit as usize) {
                match self.records.recv_timeout(collect_until.saturating_duration_since(Instant::now())) {
                    Ok(more) => {
                        written += more.len();
                        write(&mut self.writer, more)?;
                    }
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
            }
            self.commit()?;
            last_sync = Instant::now();
            self.figures.sync_batch_size.record(count);
            // The replica may already be gone at the end of an orderly stop.
            let _ = self.synced.send(last);
            if self.writer.wants_roll() {
                self.roll(last)?;
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let start = Instant::now();
        self.unsnapped_bytes += self.writer.commit()?.bytes;
        let took_ms = start.elapsed().as_millis() as u64;
        self.figures.fsync_time_ms.record(took_ms);
        if took_ms > self.config.fsync_warning_threshold_ms {
            self.figures.slow_syncs.fetch_add(1, Relaxed);
            warn!(
                "fsync-ing the write ahead log in log took {took_ms}ms which will adversely effect operation latency; \
                 give the log a disk of its own (dataLogDir)"
            );
        }
        Ok(())
    }

    fn roll(&mut self, last: Zxid) -> Result<(), StoreError> {
        debug!(%last, "rolling the log");
        self.writer.roll()?;
        if self.snapshots.request(self.unsnapped_bytes) {
            self.unsnapped_bytes = 0;
        }
        Ok(())
    }
}
