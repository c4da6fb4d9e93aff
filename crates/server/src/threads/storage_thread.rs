//! The thread that drives a [`StorageWorker`]: waits for jobs, takes the worker's steps, measures them, and hands the answers on.
//!
//! What always holds here: the worker says which step comes next, and after the first that fails the process ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rookeeper_proto::ServerId;
use rookeeper_replica::{Input, Store};
use rookeeper_storage::worker::WriteMembership;
use rookeeper_storage::{Job, Next, StorageError, StorageWorker};
use rookeeper_store::WrittenSnapshot;
use rookeeper_zab::{Membership, Record};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::config::dynamic_config::{self, NotStored};
use crate::failure::Failures;
use crate::observe::activity::Activities;
use crate::observe::figures::Figures;
use crate::threads::log_position::LogPosition;
use crate::threads::snapshot_thread::SnapshotRequests;

/// Leads to the storage thread. Bounded by the transactions and bytes that the replica thread lets wait for the disk.
#[derive(Debug)]
pub(crate) struct StorageQueue {
    sender: Sender<Job>,
    waiting_bytes: Arc<AtomicUsize>,
}

/// The storage thread's end.
#[derive(Debug)]
pub(crate) struct StorageJobs {
    receiver: Receiver<Job>,
    waiting_bytes: Arc<AtomicUsize>,
}

impl StorageQueue {
    pub fn new() -> (StorageQueue, StorageJobs) {
        let (sender, receiver) = channel();
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        (StorageQueue { sender, waiting_bytes: waiting_bytes.clone() }, StorageJobs { receiver, waiting_bytes })
    }

    /// Moves the records over. A storage thread that is gone has ended the process already.
    pub fn append(&self, records: &mut Vec<Record>) {
        if !records.is_empty() {
            let job = Job::Append(std::mem::take(records));
            self.waiting_bytes.fetch_add(job.bytes(), Relaxed);
            let _ = self.sender.send(job);
        }
    }

    pub fn store(&self, store: Store) {
        let _ = self.sender.send(Job::Store(store));
    }

    /// The number that [`StorageQueue::waiting_bytes`] tells, for reports.
    pub fn gauge(&self) -> Arc<AtomicUsize> {
        self.waiting_bytes.clone()
    }

    /// Bytes of transactions that are not on disk yet.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Relaxed)
    }
}

pub(crate) struct StorageThread {
    pub worker: StorageWorker,
    pub jobs: StorageJobs,
    /// Answers, to the replica.
    pub answers: mpsc::UnboundedSender<Input>,
    pub position: Arc<LogPosition>,
    pub snapshots: SnapshotRequests,
    pub fsync_warning_threshold_ms: u64,
    pub figures: Arc<Figures>,
    pub failures: Failures,
    pub activities: Arc<Activities>,
    /// None where there are no files of the configuration.
    pub config_files: Option<ConfigFiles>,
}

/// Where this server keeps the members of its ensemble.
#[derive(Debug)]
pub(crate) struct ConfigFiles {
    pub config_file: PathBuf,
    pub me: ServerId,
    /// Says that they are older than the log.
    pub mark: PathBuf,
}

/// Runs until the replica is gone.
pub(crate) fn spawn(mut this: StorageThread) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("storage".into()).spawn(move || {
        if let Err(error) = this.run() {
            this.failures.report(error.into());
        }
        // A snapshot must not wait for what is not to come.
        this.position.interrupt();
    })
}

impl StorageThread {
    /// Takes the worker's steps, each as soon as it comes next.
    fn run(&mut self) -> Result<(), StorageError> {
        let begin = Instant::now();
        let now_us = || begin.elapsed().as_micros() as i64;
        loop {
            match self.worker.next() {
                Next::Job => {
                    let Ok(job) = self.jobs.receiver.recv() else { return Ok(()) };
                    self.activities.storage.begin(self.activities.clock.monotonic_ms());
                    self.worker.take(job)?;
                }
                Next::JobOrSync { until_us } => {
                    let wait = Duration::from_micros(u64::try_from(until_us.saturating_sub(now_us())).unwrap_or(0));
                    match self.jobs.receiver.recv_timeout(wait) {
                        Ok(job) => self.worker.take(job)?,
                        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => self.sync(now_us)?,
                    }
                }
                Next::Sync => self.sync(now_us)?,
                Next::Roll => {
                    let logged_bytes = self.worker.roll()?;
                    if self.snapshots.request(logged_bytes) {
                        self.worker.snapshot_asked_for();
                    }
                }
                Next::Store => {
                    self.activities.storage.begin(self.activities.clock.monotonic_ms());
                    let config_files = &self.config_files;
                    let write_membership: &mut WriteMembership<'_> = &mut |membership, is_in_force| {
                        let written =
                            config_files.as_ref().map(|config_files| config_files.write(membership, is_in_force));
                        written.unwrap_or(Ok(())).map_err(|error| error.to_string())
                    };
                    if let Some(stored) = self.worker.store(write_membership)? {
                        self.answer(Input::Stored(stored));
                    }
                    self.activities.storage.end();
                }
                Next::Rewrite => {
                    self.activities.storage.begin(self.activities.clock.monotonic_ms());
                    self.rewrite()?;
                    self.activities.storage.end();
                }
            }
        }
    }

    fn sync(&mut self, now_us: impl Fn() -> i64) -> Result<(), StorageError> {
        let begin_us = now_us();
        let synced = self.worker.sync()?;
        let end_us = now_us();
        self.worker.synced_at(end_us);
        let took_ms = (end_us - begin_us) as u64 / 1000;
        self.figures.fsync_time_ms.record(took_ms);
        if took_ms > self.fsync_warning_threshold_ms {
            self.figures.slow_syncs.fetch_add(1, Relaxed);
            warn!(
                "fsync-ing the write ahead log in log took {took_ms}ms which will adversely effect operation latency; \
                 give the log a disk of its own (dataLogDir)"
            );
        }
        self.position.advance(synced.zxid);
        self.figures.sync_batch_size.record(synced.records as u64);
        self.jobs.waiting_bytes.fetch_sub(synced.bytes, Relaxed);
        self.answer(synced.answer());
        self.activities.storage.end();
        Ok(())
    }

    fn rewrite(&mut self) -> Result<(), StorageError> {
        let begin = Instant::now();
        let permit = self.position.rewrite();
        let rewritten = self.worker.rewrite(&permit)?;
        self.position.rewritten(permit, rewritten.zxid);
        if let Some(WrittenSnapshot { zxid, bytes, .. }) = rewritten.installed {
            self.figures.last_snapshot_zxid.store(zxid.0, Relaxed);
            info!(bytes, "the leader's snapshot at {zxid} was stored in {} ms", begin.elapsed().as_millis());
        }
        self.answer(Input::Stored(rewritten.stored));
        Ok(())
    }

    fn answer(&self, input: Input) {
        // The replica may already be gone at the end of an orderly stop.
        let _ = self.answers.send(input);
    }
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

#[cfg(test)]
mod tests {
    use rookeeper_proto::txn::{CreateKind, CreateTxn};
    use rookeeper_proto::{Acl, SessionId, Txn, TxnHeader, TxnRecord};
    use rookeeper_proto::{Epoch, Zxid};
    use rookeeper_replica::{Settings, Shared, Stored};
    use rookeeper_storage::{Batching, Files};
    use rookeeper_tree::Tree;

    use super::*;
    use crate::server::data_directory::files_of_test;

    fn create(counter: i64) -> TxnRecord {
        let header = TxnHeader { session: SessionId(1), cxid: 1, zxid: Zxid::new(1, counter as u32), time_ms: 1 };
        let txn = Txn::Create(CreateTxn {
            path: format!("/n{counter}"),
            data: None,
            acl: Some(Acl::open()),
            kind: CreateKind::Node { ephemeral: false, with_stat: false },
            parent_cversion: counter as i32,
        });
        TxnRecord { header, txn, digest: None }
    }

    fn records(counters: std::ops::RangeInclusive<i64>) -> Vec<Record> {
        let record = |record: TxnRecord| {
            let mut body = Vec::new();
            record.append(&mut body);
            Record::new(record.header.zxid, &body)
        };
        counters.map(create).map(record).collect()
    }

    /// Does everything that `ask` asks for, and returns the answers.
    fn run(files: &Arc<Files>, shared: &Arc<Shared>, last: Zxid, ask: impl FnOnce(&StorageQueue)) -> Vec<Input> {
        run_with(None, files, shared, last, ask)
    }

    fn run_with(
        config_files: Option<ConfigFiles>,
        files: &Arc<Files>,
        shared: &Arc<Shared>,
        last: Zxid,
        ask: impl FnOnce(&StorageQueue),
    ) -> Vec<Input> {
        let (queue, jobs) = StorageQueue::new();
        let (answers, mut received) = mpsc::unbounded_channel();
        let (snapshots, _requests) = SnapshotRequests::new();
        let thread = StorageThread {
            worker: StorageWorker::new(files.clone(), shared.clone(), last, Batching::default()),
            activities: Arc::new(Activities::new(crate::clock::Clock::start())),
            jobs,
            answers,
            position: Arc::new(LogPosition::new(last)),
            snapshots,
            fsync_warning_threshold_ms: 10_000,
            figures: Arc::default(),
            failures: Failures::new().0,
            config_files,
        };
        ask(&queue);
        assert_eq!(queue.waiting_bytes() > 0, last == Zxid::ZERO);
        let waiting_bytes = queue.waiting_bytes.clone();
        drop(queue);
        spawn(thread).unwrap().join().unwrap();
        let mut answers = Vec::new();
        while let Ok(answer) = received.try_recv() {
            answers.push(answer);
        }
        assert!(answers.is_empty() || waiting_bytes.load(Relaxed) == 0);
        answers
    }

    #[test]
    fn everything_is_done_and_answered_in_the_order_in_which_it_was_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let files = files_of_test(directory.path());
        let mut tree = Tree::with_seed(1);
        for record in (1..=9).map(create) {
            tree.apply(&record.header, record.txn, &mut Vec::new());
        }
        let shared = Arc::new(Shared::new(Settings::default(), tree, 0));
        // Every database begins with a snapshot.
        let empty = Shared::new(Settings::default(), Tree::with_seed(1), 0);
        files.install_snapshot(&empty, Zxid::ZERO).unwrap();
        let zxid = |counter| Zxid::new(1, counter);
        let answers = run(&files, &shared, Zxid::ZERO, |queue| {
            queue.store(Store::AcceptedEpoch(Epoch(1)));
            queue.append(&mut records(1..=3));
            queue.append(&mut records(4..=5));
            queue.store(Store::CurrentEpoch { epoch: Epoch(1), membership: None });
            queue.append(&mut records(6..=7));
            queue.store(Store::Truncate { zxid: zxid(4), reload: true });
            queue.append(&mut records(5..=6));
            queue.store(Store::Truncate { zxid: zxid(5), reload: false });
            queue.store(Store::InstallSnapshot { zxid: zxid(9) });
            queue.append(&mut records(10..=10));
        });
        let answers: Vec<String> = answers
            .into_iter()
            .map(|answer| match answer {
                Input::Stored(Stored::Truncated { zxid, tree }) => {
                    format!("truncated {zxid}, tree at {:?}", tree.map(|tree| tree.last_zxid().0 & 0xff))
                }
                Input::Stored(Stored::SnapshotInstalled { zxid }) => format!("installed {zxid}"),
                Input::Synced { zxid } => format!("synced {zxid}"),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(
            answers,
            [
                "Stored(AcceptedEpoch(Epoch(1)))",
                "synced 0x100000005",
                "Stored(CurrentEpoch(Epoch(1)))",
                "synced 0x100000007",
                "truncated 0x100000004, tree at Some(4)",
                "synced 0x100000006",
                "truncated 0x100000005, tree at None",
                "installed 0x100000009",
                "synced 0x10000000a",
            ]
        );
        // As a restart finds it.
        let recovered = files.recover().unwrap().tree;
        assert_eq!((recovered.last_zxid(), recovered.node_count()), (zxid(10), Tree::with_seed(1).node_count() + 10));
        let epochs = files.read_epochs(zxid(10)).unwrap();
        assert_eq!((epochs.accepted, epochs.current), (Epoch(1), Epoch(1)));
    }

    #[test]
    fn a_snapshot_of_another_tree_ends_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let files = files_of_test(directory.path());
        let shared = Arc::new(Shared::new(Settings::default(), Tree::with_seed(1), 0));
        let answers = run(&files, &shared, Zxid::new(1, 3), |queue| {
            queue.store(Store::InstallSnapshot { zxid: Zxid::new(1, 9) });
            queue.store(Store::CurrentEpoch { epoch: Epoch(7), membership: None });
        });
        assert!(answers.is_empty(), "{answers:?}");
        assert_eq!(files.read_epochs(Zxid::new(1, 3)).unwrap().current, Epoch(1));
    }

    /// Whoever enters an epoch knows of the membership that its leader goes by, also after a restart.
    #[test]
    fn an_epoch_whose_membership_can_not_be_written_is_not_entered() {
        let directory = tempfile::tempdir().unwrap();
        let configuration = directory.path().join("conf");
        let config_files = || {
            Some(ConfigFiles {
                config_file: configuration.join("zoo.cfg"),
                me: ServerId(1),
                mark: directory.path().join("mark"),
            })
        };
        let (files, next) = (files_of_test(directory.path()), configuration.join("zoo.cfg.dynamic.next"));
        let shared = Arc::new(Shared::new(Settings::default(), Tree::with_seed(1), 0));
        let membership = Membership::parse_text("server.1=a:1:2:participant;3\nversion=9", false).unwrap();
        let enter = || {
            let store = Store::CurrentEpoch { epoch: Epoch(2), membership: Some(membership.clone()) };
            run_with(config_files(), &files, &shared, Zxid::new(1, 3), |queue| {
                queue.store(Store::AcceptedEpoch(Epoch(2)));
                queue.store(store);
            })
        };
        let refused = enter();
        assert!(
            matches!(&refused[..], [_, Input::Stored(Stored::MembershipRefused { epoch: Epoch(2), why })] if why.contains("dynamic.next")),
            "{refused:?}"
        );
        assert_eq!(files.read_epochs(Zxid::new(1, 3)).unwrap().current, Epoch(1));
        std::fs::create_dir(&configuration).unwrap();
        let entered = enter();
        assert!(matches!(entered[..], [_, Input::Stored(Stored::CurrentEpoch(Epoch(2)))]), "{entered:?}");
        assert_eq!(files.read_epochs(Zxid::new(1, 3)).unwrap().current, Epoch(2));
        let text = std::fs::read_to_string(next).unwrap();
        assert!(text.contains("server.1=a:1:2:participant;"), "{text}");
    }

    #[test]
    fn nothing_is_answered_for_once_the_directory_was_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        let files = files_of_test(directory.path());
        let shared = Arc::new(Shared::new(Settings::default(), Tree::with_seed(1), 0));
        files.install_snapshot(&shared, Zxid::ZERO).unwrap();
        // The log is elsewhere, so nobody else would notice.
        let version_dir = directory.path().join("version-2");
        std::fs::rename(&version_dir, directory.path().join("elsewhere")).unwrap();
        std::fs::create_dir(&version_dir).unwrap();
        let answers = run(&files, &shared, Zxid::ZERO, |queue| queue.append(&mut records(1..=3)));
        assert!(answers.is_empty(), "{answers:?}");
        let promise = |queue: &StorageQueue| queue.store(Store::AcceptedEpoch(Epoch(7)));
        let answers = run(&files, &shared, Zxid::new(1, 3), promise);
        assert!(answers.is_empty() && !version_dir.join("acceptedEpoch").exists(), "{answers:?}");
    }
}
