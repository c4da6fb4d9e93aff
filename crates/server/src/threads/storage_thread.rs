//! The queue to the storage, and the thread behind it that takes jobs from there and drives the storage.
//!
//! A disk takes long, so it has a thread of its own. But to wake that thread, and to be woken by its answer, takes about as long as a quick
//! disk needs to sync one transaction. So who asks may drive the storage itself where nothing else waits: see
//! [`StorageQueue::append_at_once`].
//!
//! What always holds here: jobs are done and answered in the order in which they were asked for, whoever does them; after the first
//! failure the process ends.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use parking_lot::Mutex;
use rookeeper_replica::{Input, Stamp, Store};
use rookeeper_storage::{Job, StorageError};
use rookeeper_zab::Record;
use tokio::sync::mpsc;

use crate::failure::Failures;
use crate::threads::log_position::LogPosition;
use crate::threads::storage_driver::{HandedOver, StorageDriver};

/// Bytes of transactions that are synced at once: to write many takes long also where the disk is quick.
const AT_ONCE_BYTES: usize = 64 << 10;

/// Leads to the storage thread. Bounded by the transactions and bytes that the replica thread lets wait for the disk.
#[derive(Debug)]
pub(crate) struct StorageQueue {
    sender: Sender<HandedOver>,
    waiting: Arc<Waiting>,
    driver: Arc<Mutex<StorageDriver>>,
}

/// What was asked for and is not done yet.
#[derive(Debug, Default)]
struct Waiting {
    /// Jobs whose answers have not been sent.
    jobs: AtomicUsize,
    /// Bytes of transactions that are not on disk.
    bytes: Arc<AtomicUsize>,
}

impl StorageQueue {
    /// Where nothing waits for the storage, makes the records durable on the caller's thread and returns the answer. None where the storage
    /// thread does that instead, and answers later: it has something else to do, there is much to write, or the disk was slow the last time.
    ///
    /// The caller has taken every answer that was sent before.
    pub fn append_at_once(&self, records: &mut Vec<Record>, handed_over: Stamp) -> Result<Option<Input>, StorageError> {
        if records.is_empty() || self.waiting.jobs.load(Acquire) > 0 {
            return Ok(None);
        }
        let Some(mut driver) = self.driver.try_lock() else { return Ok(None) };
        let bytes: usize = records.iter().map(|record| record.body().len()).sum();
        if bytes > AT_ONCE_BYTES || !driver.is_done_quickly(records.len()) {
            return Ok(None);
        }
        let answer = driver.append(std::mem::take(records), handed_over);
        if answer.is_err() {
            // A snapshot must not wait for what is not to come.
            driver.position.interrupt();
        }
        answer.map(Some)
    }

    /// Moves the records over. A storage thread that is gone has ended the process already.
    pub fn append(&self, records: &mut Vec<Record>, handed_over: Stamp) {
        if !records.is_empty() {
            let job = Job::Append(std::mem::take(records));
            self.waiting.bytes.fetch_add(job.bytes(), Relaxed);
            self.send(job, handed_over);
        }
    }

    /// Asks for a write that is no append, behind everything asked for before.
    pub fn store(&self, store: Store) {
        self.send(Job::Store(store), Stamp::default());
    }

    fn send(&self, job: Job, handed_over: Stamp) {
        self.waiting.jobs.fetch_add(1, Relaxed);
        let _ = self.sender.send(HandedOver { job, at: handed_over });
    }

    /// The number that [`StorageQueue::waiting_bytes`] tells, for reports.
    pub fn gauge(&self) -> Arc<AtomicUsize> {
        self.waiting.bytes.clone()
    }

    /// Bytes of transactions that are not on disk yet.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting.bytes.load(Relaxed)
    }
}

/// The thread, and what it needs to wait for jobs.
#[derive(Debug)]
pub(crate) struct StorageThread {
    jobs: Receiver<HandedOver>,
    waiting: Arc<Waiting>,
    driver: Arc<Mutex<StorageDriver>>,
    /// Answers, to the replica.
    answers: mpsc::UnboundedSender<Input>,
    position: Arc<LogPosition>,
    failures: Failures,
}

/// The queue to a storage, and the thread behind it. The thread answers every job, but for [`StorageQueue::append_at_once`].
pub(crate) fn new(
    driver: StorageDriver,
    answers: mpsc::UnboundedSender<Input>,
    failures: Failures,
) -> (StorageQueue, StorageThread) {
    let (sender, jobs) = channel();
    let (waiting, position) = (Arc::new(Waiting::default()), driver.position.clone());
    let driver = Arc::new(Mutex::new(driver));
    let queue = StorageQueue { sender, waiting: waiting.clone(), driver: driver.clone() };
    (queue, StorageThread { jobs, waiting, driver, answers, position, failures })
}

/// Runs until the replica is gone.
pub(crate) fn spawn(this: StorageThread) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("storage".into()).spawn(move || {
        if let Err(error) = this.run() {
            this.failures.report(error.into());
        }
        // A snapshot must not wait for what is not to come.
        this.position.interrupt();
    })
}

impl StorageThread {
    fn run(&self) -> Result<(), StorageError> {
        while let Ok(job) = self.jobs.recv() {
            self.do_job(job)?;
        }
        Ok(())
    }

    fn do_job(&self, job: HandedOver) -> Result<(), StorageError> {
        let done = self.driver.lock().go_on(job, &self.jobs, &mut |input, bytes| {
            self.waiting.bytes.fetch_sub(bytes, Relaxed);
            // The replica may already be gone at the end of an orderly stop.
            let _ = self.answers.send(input);
        })?;
        // Only now, with the answers sent: nobody may overtake them.
        self.waiting.jobs.fetch_sub(done, Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rookeeper_proto::txn::{CreateKind, CreateTxn};
    use rookeeper_proto::{Acl, ServerId, SessionId, Txn, TxnHeader, TxnRecord, WallMs};
    use rookeeper_proto::{Epoch, Zxid};
    use rookeeper_replica::{Settings, Shared, Stored};
    use rookeeper_storage::{Batching, Files, StorageWorker};
    use rookeeper_tree::Tree;
    use rookeeper_zab::Membership;

    use std::time::Duration;

    use super::*;
    use crate::observe::activity::Activities;
    use crate::server::data_directory::files_of_test;
    use crate::threads::snapshot_thread::SnapshotRequests;
    use crate::threads::storage_driver::{ConfigFiles, FEW_RECORDS, LastSync, QUICK_SYNC};

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
        let (queue, thread, mut received) = storage(config_files, files, shared, last);
        ask(&queue);
        assert_eq!(queue.waiting_bytes() > 0, last == Zxid::ZERO);
        let waiting_bytes = queue.gauge();
        drop(queue);
        spawn(thread).unwrap().join().unwrap();
        let mut answers = Vec::new();
        while let Ok(answer) = received.try_recv() {
            answers.push(answer);
        }
        assert!(answers.is_empty() || waiting_bytes.load(Relaxed) == 0);
        answers
    }

    fn storage(
        config_files: Option<ConfigFiles>,
        files: &Arc<Files>,
        shared: &Arc<Shared>,
        last: Zxid,
    ) -> (StorageQueue, StorageThread, mpsc::UnboundedReceiver<Input>) {
        let (answers, received) = mpsc::unbounded_channel();
        let (snapshots, _requests) = SnapshotRequests::new();
        let driver = StorageDriver {
            worker: StorageWorker::new(files.clone(), shared.clone(), last, Batching::default()),
            activities: Arc::new(Activities::new(crate::clock::Clock::start())),
            position: Arc::new(LogPosition::new(last)),
            snapshots,
            fsync_warning_threshold_ms: 10_000,
            figures: Arc::default(),
            config_files,
            last: LastSync::default(),
            unwritten: Vec::new(),
        };
        let (queue, thread) = new(driver, answers, Failures::new().0);
        (queue, thread, received)
    }

    #[test]
    fn everything_is_done_and_answered_in_the_order_in_which_it_was_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let files = files_of_test(directory.path());
        let mut tree = Tree::with_seed(1);
        for record in (1..=9).map(create) {
            tree.apply(&record.header, record.txn, &mut Vec::new());
        }
        let shared = Arc::new(Shared::new(Settings::default(), tree, WallMs(0)));
        // Every database begins with a snapshot.
        let empty = Shared::new(Settings::default(), Tree::with_seed(1), WallMs(0));
        files.install_snapshot(&empty, Zxid::ZERO).unwrap();
        let zxid = |counter| Zxid::new(1, counter);
        let answers = run(&files, &shared, Zxid::ZERO, |queue| {
            queue.store(Store::AcceptedEpoch(Epoch(1)));
            queue.append(&mut records(1..=3), Stamp::default());
            queue.append(&mut records(4..=5), Stamp::default());
            queue.store(Store::CurrentEpoch { epoch: Epoch(1), membership: None });
            queue.append(&mut records(6..=7), Stamp::default());
            queue.store(Store::Truncate { zxid: zxid(4), reload: true });
            queue.append(&mut records(5..=6), Stamp::default());
            queue.store(Store::Truncate { zxid: zxid(5), reload: false });
            queue.store(Store::InstallSnapshot { zxid: zxid(9) });
            queue.append(&mut records(10..=10), Stamp::default());
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
    fn whoever_asks_waits_for_the_disk_itself_only_where_nothing_is_overtaken() {
        let directory = tempfile::tempdir().unwrap();
        let files = files_of_test(directory.path());
        let shared = Arc::new(Shared::new(Settings::default(), Tree::with_seed(1), WallMs(0)));
        files.install_snapshot(&shared, Zxid::ZERO).unwrap();
        let (queue, thread, mut received) = storage(None, &files, &shared, Zxid::ZERO);
        let synced = |answer: Result<Option<Input>, StorageError>| match answer.unwrap() {
            Some(Input::Synced { zxid }) => Some(zxid.counter()),
            _ => None,
        };
        assert_eq!(synced(queue.append_at_once(&mut records(1..=2), Stamp::default())), Some(2));
        assert_eq!(files.recover().unwrap().tree.last_zxid(), Zxid::new(1, 2));
        assert_eq!(synced(queue.append_at_once(&mut Vec::new(), Stamp::default())), None);
        // What waits for the thread goes first.
        queue.append(&mut records(3..=3), Stamp::default());
        let mut later = records(4..=4);
        assert_eq!((synced(queue.append_at_once(&mut later, Stamp::default())), later.len()), (None, 1));
        // A disk that was slow is the thread's.
        let job = thread.jobs.recv().unwrap();
        thread.do_job(job).unwrap();
        assert!(matches!(received.try_recv(), Ok(Input::Synced { zxid }) if zxid.counter() == 3));
        queue.driver.lock().last.took = QUICK_SYNC;
        assert_eq!((synced(queue.append_at_once(&mut later, Stamp::default())), later.len()), (None, 1));
        queue.driver.lock().last.took = Duration::ZERO;
        // So is what comes after much at once.
        queue.driver.lock().last.records = FEW_RECORDS + 1;
        assert_eq!((synced(queue.append_at_once(&mut later, Stamp::default())), later.len()), (None, 1));
        queue.driver.lock().last.records = FEW_RECORDS;
        assert_eq!((synced(queue.append_at_once(&mut later, Stamp::default())), later.len()), (Some(4), 0));
        assert!(received.try_recv().is_err() && queue.waiting_bytes() == 0);
    }

    #[test]
    fn a_snapshot_of_another_tree_ends_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let files = files_of_test(directory.path());
        let shared = Arc::new(Shared::new(Settings::default(), Tree::with_seed(1), WallMs(0)));
        let answers = run(&files, &shared, Zxid::new(1, 3), |queue| {
            queue.store(Store::InstallSnapshot { zxid: Zxid::new(1, 9) });
            queue.store(Store::CurrentEpoch { epoch: Epoch(7), membership: None });
        });
        assert!(answers.is_empty(), "{answers:?}");
        assert_eq!(files.read_epochs(Zxid::new(1, 3)).unwrap().current, Epoch(1));
    }

    /// A server that enters an epoch knows of the membership that its leader goes by, also after a restart.
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
        let shared = Arc::new(Shared::new(Settings::default(), Tree::with_seed(1), WallMs(0)));
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
        let shared = Arc::new(Shared::new(Settings::default(), Tree::with_seed(1), WallMs(0)));
        files.install_snapshot(&shared, Zxid::ZERO).unwrap();
        // The log is elsewhere, so nobody else would notice.
        let version_dir = directory.path().join("version-2");
        std::fs::rename(&version_dir, directory.path().join("elsewhere")).unwrap();
        std::fs::create_dir(&version_dir).unwrap();
        let answers = run(&files, &shared, Zxid::ZERO, |queue| queue.append(&mut records(1..=3), Stamp::default()));
        assert!(answers.is_empty(), "{answers:?}");
        let promise = |queue: &StorageQueue| queue.store(Store::AcceptedEpoch(Epoch(7)));
        let answers = run(&files, &shared, Zxid::new(1, 3), promise);
        assert!(answers.is_empty() && !version_dir.join("acceptedEpoch").exists(), "{answers:?}");
    }
}
