//! Takes the steps of a [`StorageWorker`], and measures them.
//!
//! What always holds here: the worker says which step comes next, and after the first that fails nothing is done any more.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rookeeper_proto::ServerId;
use rookeeper_replica::{Input, Stamp, Stored};
use rookeeper_storage::worker::WriteMembership;
use rookeeper_storage::{Job, Next, StorageError, StorageWorker};
use rookeeper_store::WrittenSnapshot;
use rookeeper_zab::{Membership, Record};
use tracing::{info, warn};

use crate::config::dynamic_config::{self, NotStored};
use crate::observe::activity::Activities;
use crate::observe::figures::Figures;
use crate::threads::log_position::LogPosition;
use crate::threads::snapshot_thread::SnapshotRequests;

/// A disk that needed longer for its last sync is not waited for by anybody but the storage thread.
pub(crate) const QUICK_SYNC: Duration = Duration::from_millis(1);

/// With more transactions than this in one sync, others come while they are written, and should be prepared meanwhile.
pub(crate) const FEW_RECORDS: usize = 16;

/// A worker and what its steps need.
#[derive(Debug)]
pub(crate) struct StorageDriver {
    pub worker: StorageWorker,
    pub position: Arc<LogPosition>,
    pub snapshots: SnapshotRequests,
    pub fsync_warning_threshold_ms: u64,
    pub figures: Arc<Figures>,
    pub activities: Arc<Activities>,
    /// None where there are no files of the configuration.
    pub config_files: Option<ConfigFiles>,
    pub last: LastSync,
    /// When what is appended and not written was handed over, and how many transactions that were. Only measured.
    pub unwritten: Vec<(Stamp, u64)>,
}

/// A job, and when it was handed over.
#[derive(Debug)]
pub(crate) struct HandedOver {
    pub job: Job,
    pub at: Stamp,
}

/// Where this server keeps the members of its ensemble.
#[derive(Debug)]
pub(crate) struct ConfigFiles {
    pub config_file: PathBuf,
    pub me: ServerId,
    /// Says that they are older than the log.
    pub mark: PathBuf,
}

/// What the last sync made durable, and how long the disk took.
#[derive(Debug, Default)]
pub(crate) struct LastSync {
    pub records: usize,
    pub took: Duration,
}

/// Takes an answer, and for how many bytes of transactions it stands.
pub(crate) type Answer<'a> = &'a mut dyn FnMut(Input, usize);

impl StorageDriver {
    /// Whether so many transactions may be synced while somebody waits for it who has other things to do.
    pub fn is_done_quickly(&self, records: usize) -> bool {
        self.worker.syncs_at_once() && self.last.took < QUICK_SYNC && records.max(self.last.records) <= FEW_RECORDS
    }

    fn stamp(&self) -> Stamp {
        self.activities.clock.stamp()
    }

    fn now_us(&self) -> i64 {
        whole_us(self.stamp())
    }

    fn take(&mut self, HandedOver { job, at }: HandedOver) -> Result<(), StorageError> {
        if let Job::Append(records) = &job {
            self.unwritten.push((at, records.len() as u64));
        }
        self.worker.take(job)
    }

    /// Does one job and those that have gathered behind it meanwhile, to the end. Returns how many.
    pub fn go_on(
        &mut self,
        job: HandedOver,
        jobs: &Receiver<HandedOver>,
        answer: Answer<'_>,
    ) -> Result<usize, StorageError> {
        self.activities.storage.begin(self.activities.clock.monotonic_ms());
        let mut done = 1;
        self.take(job)?;
        loop {
            match self.worker.next() {
                Next::Job => break,
                Next::JobOrSync { until_us } => {
                    let wait = until_us.saturating_sub(self.now_us());
                    match jobs.recv_timeout(Duration::from_micros(u64::try_from(wait).unwrap_or(0))) {
                        Ok(job) => {
                            done += 1;
                            self.take(job)?;
                        }
                        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => self.sync(answer)?,
                    }
                }
                Next::Sync => self.sync(answer)?,
                Next::Roll => self.roll()?,
                Next::Store => self.store(answer)?,
                Next::Rewrite => self.rewrite(answer)?,
            }
        }
        self.activities.storage.end();
        Ok(done)
    }

    /// Makes these transactions durable, and nothing else.
    pub fn append(&mut self, records: Vec<Record>, handed_over: Stamp) -> Result<Input, StorageError> {
        self.take(HandedOver { job: Job::Append(records), at: handed_over })?;
        let mut answered = None;
        self.sync(&mut |input, _| answered = Some(input))?;
        while self.worker.next() == Next::Roll {
            self.roll()?;
        }
        Ok(answered.expect("a sync answers"))
    }

    fn sync(&mut self, answer: Answer<'_>) -> Result<(), StorageError> {
        let begin = self.stamp();
        self.worker.write_out()?;
        let written = self.stamp();
        let synced = self.worker.sync()?;
        let end = self.stamp();
        self.worker.synced_at(whole_us(end));
        let stages = &self.figures.stages;
        for (handed_over, records) in self.unwritten.drain(..) {
            stages.log_write.record_many(handed_over, written, records);
        }
        stages.sync.record_many(written, end, synced.records as u64);
        self.figures.slow.note_sync(synced.zxid, written, end);
        let took_us = end.ns_since(begin) / 1000;
        self.last = LastSync { records: synced.records, took: Duration::from_micros(took_us) };
        let took_ms = took_us / 1000;
        self.figures.fsync_time_ms.record(took_ms);
        if took_ms > self.fsync_warning_threshold_ms {
            self.figures.slow_syncs.fetch_add(1, Relaxed);
            warn!(
                "fsync-ing the write ahead log in log took {took_ms}ms which will adversely effect operation latency; \
                 give the log a disk of its own (dataLogDir)"
            );
        }
        self.position.advance(synced.zxid);
        self.figures.synced_zxid.store(synced.zxid.0, Relaxed);
        self.figures.sync_batch_size.record(synced.records as u64);
        answer(synced.answer(), synced.bytes);
        Ok(())
    }

    fn roll(&mut self) -> Result<(), StorageError> {
        let logged_bytes = self.worker.roll()?;
        if self.snapshots.request(logged_bytes) {
            self.worker.snapshot_asked_for();
        }
        Ok(())
    }

    fn store(&mut self, answer: Answer<'_>) -> Result<(), StorageError> {
        let config_files = &self.config_files;
        let write_membership: &mut WriteMembership<'_> = &mut |membership, is_in_force| {
            let written = config_files.as_ref().map(|config_files| config_files.write(membership, is_in_force));
            written.unwrap_or(Ok(())).map_err(|error| error.to_string())
        };
        if let Some(stored) = self.worker.store(write_membership)? {
            answer(Input::Stored(stored), 0);
        }
        Ok(())
    }

    fn rewrite(&mut self, answer: Answer<'_>) -> Result<(), StorageError> {
        let begin = Instant::now();
        let permit = self.position.rewrite();
        let rewritten = self.worker.rewrite(&permit)?;
        self.position.rewritten(permit, rewritten.zxid);
        self.figures.synced_zxid.store(rewritten.zxid.0, Relaxed);
        if let Some(WrittenSnapshot { zxid, bytes, .. }) = rewritten.installed {
            self.figures.last_snapshot_zxid.store(zxid.0, Relaxed);
            let is_restored = matches!(rewritten.stored, Stored::Restored { .. });
            let what = if is_restored { "the restored snapshot" } else { "the leader's snapshot" };
            info!(bytes, "{what} at {zxid} was stored in {} ms", begin.elapsed().as_millis());
        }
        answer(Input::Stored(rewritten.stored), 0);
        Ok(())
    }
}

fn whole_us(stamp: Stamp) -> i64 {
    (stamp.0 / 1000) as i64
}

impl ConfigFiles {
    /// Where they can't be written that is noted for the next start.
    fn write(&self, membership: &Membership, is_in_force: bool) -> Result<(), NotStored> {
        let written = if is_in_force {
            dynamic_config::store_active(&self.config_file, self.me, membership)
        } else {
            dynamic_config::store_proposed(&self.config_file, membership)
        };
        match &written {
            Ok(()) if is_in_force => dynamic_config::forget_not_stored(&self.mark),
            Ok(()) => {}
            Err(error) => {
                warn!("{error}");
                dynamic_config::note_not_stored(&self.mark, error);
            }
        }
        written
    }
}
