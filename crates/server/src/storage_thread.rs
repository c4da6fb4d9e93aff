//! The thread that makes transactions durable, and a member's epochs, its truncations and the snapshots it was sent.
//!
//! Everything is done in the order in which it was asked for. Of transactions it takes all that have gathered, writes them with one
//! call, syncs once, and only then tells the replica how far the disk is. What always holds here: nothing is reported that is not on
//! disk; after the first failure nothing is written or reported any more, and the process ends, because a disk that failed once can't be
//! trusted to have kept what it took before.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rookeeper_proto::Zxid;
use rookeeper_replica::{Input, Shared, Store, Stored};
use rookeeper_store::{LogWriter, StoreError};
use rookeeper_zab::{Membership, Record};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::config::TransactionLog;
use crate::config::dynamic_config::{self, NotStored};
use crate::failure::{Failure, Failures};
use crate::log_position::LogPosition;
use crate::observe::activity::Activities;
use crate::observe::figures::Figures;
use crate::server::membership_at_start;
use crate::storage::Files;
use crate::threads::snapshot_thread::{EXIT_SNAPSHOT, SnapshotRequests};

/// The exit code of the original where the log can't be truncated as the leader demands.
const EXIT_TRUNCATE: u8 = 13;

/// What the replica asks for.
#[derive(Debug)]
enum Job {
    Append(Vec<Record>),
    Store(Store),
}

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
            self.waiting_bytes.fetch_add(bytes_of(records), Relaxed);
            let _ = self.sender.send(Job::Append(std::mem::take(records)));
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

fn bytes_of(records: &[Record]) -> usize {
    records.iter().map(|record| record.body().len()).sum()
}

pub(crate) struct StorageThread {
    pub files: Arc<Files>,
    pub writer: LogWriter,
    pub jobs: StorageJobs,
    /// Answers, to the replica.
    pub answers: mpsc::UnboundedSender<Input>,
    pub position: Arc<LogPosition>,
    pub snapshots: SnapshotRequests,
    pub shared: Arc<Shared>,
    pub config: TransactionLog,
    pub figures: Arc<Figures>,
    pub failures: Failures,
    pub activities: Arc<Activities>,
    /// Bytes logged and not yet told to the snapshot thread.
    pub unsnapped_bytes: u64,
}

/// Runs until the replica is gone.
pub(crate) fn spawn(mut this: StorageThread) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("storage".into()).spawn(move || {
        if let Err(failure) = this.run() {
            this.failures.report(failure.exit_code, failure.message);
        }
        // A snapshot must not wait for what is not to come.
        this.position.interrupt();
    })
}

impl StorageThread {
    fn run(&mut self) -> Result<(), Failure> {
        let mut last_sync = Instant::now();
        let mut next = None;
        while let Some(job) = next.take().or_else(|| self.jobs.receiver.recv().ok()) {
            self.activities.storage.begin(self.activities.clock.monotonic_ms());
            match job {
                Job::Append(records) => {
                    next = self.log(records, last_sync).map_err(log_failure)?;
                    last_sync = Instant::now();
                }
                Job::Store(store) => self.store(store)?,
            }
            self.activities.storage.end();
        }
        Ok(())
    }

    /// Logs these records and all that follow at once. Returns the job behind them, where there is one already.
    fn log(&mut self, first: Vec<Record>, last_sync: Instant) -> Result<Option<Job>, StoreError> {
        let (mut last, mut count, mut bytes) = (Zxid::ZERO, 0, 0);
        let mut write = |writer: &mut LogWriter, records: Vec<Record>| -> Result<(), StoreError> {
            bytes += bytes_of(&records);
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
        let mut next = None;
        while self.config.max_batch_size.is_none_or(|limit| written < limit as usize) {
            match self.jobs.receiver.recv_timeout(collect_until.saturating_duration_since(Instant::now())) {
                Ok(Job::Append(more)) => {
                    written += more.len();
                    write(&mut self.writer, more)?;
                }
                Ok(job) => {
                    next = Some(job);
                    break;
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        self.commit()?;
        self.position.advance(last);
        self.figures.sync_batch_size.record(count);
        self.jobs.waiting_bytes.fetch_sub(bytes, Relaxed);
        self.answer(Input::Synced { zxid: last });
        if self.writer.wants_roll() {
            self.roll(last)?;
        }
        Ok(next)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let start = Instant::now();
        self.unsnapped_bytes += self.writer.commit()?.bytes;
        // The log has looked for its own file. Snapshots and epochs are as much needed at the next start.
        self.files.refuse_if_gone()?;
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

    fn store(&mut self, store: Store) -> Result<(), Failure> {
        // In another directory that has the name now, a promise would stand without the history it is about.
        self.files.refuse_if_gone().map_err(log_failure)?;
        match store {
            Store::AcceptedEpoch(epoch) => {
                self.files.write_accepted_epoch(epoch).map_err(epoch_failure)?;
                self.answer(Input::Stored(Stored::AcceptedEpoch(epoch)));
            }
            Store::CurrentEpoch { epoch, membership } => {
                let refused = membership.and_then(|membership| self.write_membership(&membership, false).err());
                if let Some(error) = refused {
                    self.answer(Input::Stored(Stored::MembershipRefused { epoch, why: error.to_string() }));
                    return Ok(());
                }
                self.files.write_current_epoch(epoch).map_err(epoch_failure)?;
                self.answer(Input::Stored(Stored::CurrentEpoch(epoch)));
            }
            Store::Truncate { zxid, reload } => {
                let tree = self.truncate(zxid, reload).map_err(|error| Failure {
                    exit_code: EXIT_TRUNCATE,
                    message: format!("the log can't be truncated behind {zxid}, as the leader demands: {error}"),
                })?;
                self.answer(Input::Stored(Stored::Truncated { zxid, tree }));
            }
            Store::InstallSnapshot { zxid } => {
                self.install_snapshot(zxid).map_err(|error| Failure {
                    exit_code: EXIT_SNAPSHOT,
                    message: format!("the leader's snapshot at {zxid} can't be stored: {error}"),
                })?;
                self.answer(Input::Stored(Stored::SnapshotInstalled { zxid }));
            }
            Store::ProposedMembership(membership) => drop(self.write_membership(&membership, false)),
            Store::ActiveMembership(membership) => drop(self.write_membership(&membership, true)),
        }
        Ok(())
    }

    fn truncate(&mut self, zxid: Zxid, reload: bool) -> Result<Option<Box<rookeeper_tree::Tree>>, StoreError> {
        let mut tree = None;
        let (files, writer) = (&self.files, &mut self.writer);
        self.position.rewrite(|| {
            // The file that is open must be closed before it is cut.
            *writer = files.log_writer(zxid);
            files.truncate(zxid)?;
            let mut last = zxid;
            if reload {
                let reloaded = files.recover()?;
                last = reloaded.last_zxid();
                *writer = files.log_writer(last);
                tree = Some(Box::new(reloaded));
            }
            Ok(last)
        })?;
        info!("the log was cut behind {zxid}, as the leader demands");
        Ok(tree)
    }

    fn install_snapshot(&mut self, zxid: Zxid) -> Result<(), StoreError> {
        let start = Instant::now();
        let (files, writer, shared) = (&self.files, &mut self.writer, &self.shared);
        let mut bytes = 0;
        self.position.rewrite(|| {
            *writer = files.log_writer(zxid);
            bytes = files.install_snapshot(shared, zxid)?.bytes;
            Ok(zxid)
        })?;
        self.unsnapped_bytes = 0;
        self.figures.last_snapshot_zxid.store(zxid.0, Relaxed);
        info!(bytes, "the leader's snapshot at {zxid} was stored in {} ms", start.elapsed().as_millis());
        Ok(())
    }

    /// The files of the configuration. The ensemble goes by what is in the log, and so does this server at its next start where they can't be
    /// written.
    fn write_membership(&self, membership: &Membership, active: bool) -> Result<(), NotStored> {
        let Some(config_file) = &self.files.config_file else { return Ok(()) };
        let written = if active {
            dynamic_config::store_active(config_file, self.shared.settings.server, membership)
        } else {
            dynamic_config::store_proposed(config_file, membership)
        };
        let mark = membership_at_start::mark(self.files.data_dir());
        match &written {
            Ok(()) if active => dynamic_config::forget_not_stored(&mark),
            Ok(()) => {}
            Err(error) => {
                warn!("{error}");
                dynamic_config::note_not_stored(&mark, error);
            }
        }
        written
    }

    fn answer(&self, input: Input) {
        // The replica may already be gone at the end of an orderly stop.
        let _ = self.answers.send(input);
    }
}

fn log_failure(error: StoreError) -> Failure {
    Failure {
        exit_code: 1,
        message: format!("the transaction log can't be written: {error}; nothing more is acknowledged"),
    }
}

fn epoch_failure(error: StoreError) -> Failure {
    Failure { exit_code: 1, message: format!("the epoch can't be stored: {error}; this server takes part no more") }
}

#[cfg(test)]
mod tests {
    use rookeeper_proto::txn::{CreateKind, CreateTxn};
    use rookeeper_proto::{Acl, SessionId, Txn, TxnHeader, TxnRecord};
    use rookeeper_replica::Settings;
    use rookeeper_tree::Tree;

    use super::*;

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
        let (queue, jobs) = StorageQueue::new();
        let (answers, mut received) = mpsc::unbounded_channel();
        let (snapshots, _requests) = SnapshotRequests::new();
        let thread = StorageThread {
            activities: Arc::new(Activities::new(crate::clock::Clock::start())),
            files: files.clone(),
            writer: files.log_writer(last),
            jobs,
            answers,
            position: Arc::new(LogPosition::new(last)),
            snapshots,
            shared: shared.clone(),
            config: TransactionLog {
                size_limit_kib: None,
                pre_alloc_size_kib: 0,
                force_sync: true,
                fsync_warning_threshold_ms: 10_000,
                flush_delay_ms: 0,
                max_batch_size: None,
            },
            figures: Arc::default(),
            failures: Failures::new().0,
            unsnapped_bytes: 0,
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
        let files = Arc::new(Files::of_test(directory.path()));
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
            queue.store(Store::AcceptedEpoch(1));
            queue.append(&mut records(1..=3));
            queue.append(&mut records(4..=5));
            queue.store(Store::CurrentEpoch { epoch: 1, membership: None });
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
                "Stored(AcceptedEpoch(1))",
                "synced 0x100000005",
                "Stored(CurrentEpoch(1))",
                "synced 0x100000007",
                "truncated 0x100000004, tree at Some(4)",
                "synced 0x100000006",
                "truncated 0x100000005, tree at None",
                "installed 0x100000009",
                "synced 0x10000000a",
            ]
        );
        // As a restart finds it.
        let recovered = files.recover().unwrap();
        assert_eq!((recovered.last_zxid(), recovered.node_count()), (zxid(10), Tree::with_seed(1).node_count() + 10));
        let epochs = files.read_epochs(zxid(10)).unwrap();
        assert_eq!((epochs.accepted, epochs.current), (1, 1));
    }

    #[test]
    fn a_snapshot_of_another_tree_ends_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let files = Arc::new(Files::of_test(directory.path()));
        let shared = Arc::new(Shared::new(Settings::default(), Tree::with_seed(1), 0));
        let answers = run(&files, &shared, Zxid::new(1, 3), |queue| {
            queue.store(Store::InstallSnapshot { zxid: Zxid::new(1, 9) });
            queue.store(Store::CurrentEpoch { epoch: 7, membership: None });
        });
        assert!(answers.is_empty(), "{answers:?}");
        assert_eq!(files.read_epochs(Zxid::new(1, 3)).unwrap().current, 1);
    }

    /// Whoever enters an epoch knows of the membership that its leader goes by, also after a restart.
    #[test]
    fn an_epoch_whose_membership_can_not_be_written_is_not_entered() {
        let directory = tempfile::tempdir().unwrap();
        let configuration = directory.path().join("conf");
        let mut files = Files::of_test(directory.path());
        files.config_file = Some(configuration.join("zoo.cfg"));
        let (files, next) = (Arc::new(files), configuration.join("zoo.cfg.dynamic.next"));
        let shared = Arc::new(Shared::new(Settings::default(), Tree::with_seed(1), 0));
        let membership = Membership::parse_text("server.1=a:1:2:participant;3\nversion=9", false).unwrap();
        let enter = || {
            let store = Store::CurrentEpoch { epoch: 2, membership: Some(membership.clone()) };
            run(&files, &shared, Zxid::new(1, 3), |queue| {
                queue.store(Store::AcceptedEpoch(2));
                queue.store(store);
            })
        };
        let refused = enter();
        assert!(
            matches!(&refused[..], [_, Input::Stored(Stored::MembershipRefused { epoch: 2, why })] if why.contains("dynamic.next")),
            "{refused:?}"
        );
        assert_eq!(files.read_epochs(Zxid::new(1, 3)).unwrap().current, 1);
        std::fs::create_dir(&configuration).unwrap();
        let entered = enter();
        assert!(matches!(entered[..], [_, Input::Stored(Stored::CurrentEpoch(2))]), "{entered:?}");
        assert_eq!(files.read_epochs(Zxid::new(1, 3)).unwrap().current, 2);
        assert!(std::fs::read_to_string(next).unwrap().contains("server.1=a:1:2:participant;3"));
    }

    #[test]
    fn nothing_is_answered_for_once_the_directory_was_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        let files = Arc::new(Files::of_test(directory.path()));
        let shared = Arc::new(Shared::new(Settings::default(), Tree::with_seed(1), 0));
        files.install_snapshot(&shared, Zxid::ZERO).unwrap();
        // The log is elsewhere, so nobody else would notice.
        let version_dir = directory.path().join("version-2");
        std::fs::rename(&version_dir, directory.path().join("elsewhere")).unwrap();
        std::fs::create_dir(&version_dir).unwrap();
        let answers = run(&files, &shared, Zxid::ZERO, |queue| queue.append(&mut records(1..=3)));
        assert!(answers.is_empty(), "{answers:?}");
        let promise = |queue: &StorageQueue| queue.store(Store::AcceptedEpoch(7));
        let answers = run(&files, &shared, Zxid::new(1, 3), promise);
        assert!(answers.is_empty() && !version_dir.join("acceptedEpoch").exists(), "{answers:?}");
    }
}
