//! Makes transactions durable, and a member's epochs, its truncations and the snapshots it was sent.
//!
//! Everything is done in the order in which it was asked for. Of transactions all are taken that have gathered, written with one call and
//! synced once. What always holds here:
//! - nothing is answered that is not on disk;
//! - what was appended before an epoch, a truncation or a snapshot is synced before that is begun;
//! - the history is rewritten only with a permit, so never while a snapshot is taken;
//! - after the first failure nothing is written or answered any more, because a disk that failed once can't be trusted to have kept what
//!   it took before.

use std::sync::Arc;

use rookeeper_proto::Zxid;
use rookeeper_replica::{Input, Shared, Store, Stored};
use rookeeper_store::{LogWriter, StoreError, WrittenSnapshot};
use rookeeper_tree::Tree;
use rookeeper_zab::{Membership, Record};
use tracing::{debug, info, warn};

use crate::error::StorageError;
use crate::files::Files;
use crate::log_position::RewritePermit;

/// What the replica asks for.
#[derive(Debug)]
pub enum Job {
    Append(Vec<Record>),
    Store(Store),
}

impl Job {
    /// Bytes of transactions.
    pub fn bytes(&self) -> usize {
        match self {
            Job::Append(records) => records.iter().map(|record| record.body().len()).sum(),
            Job::Store(_) => 0,
        }
    }
}

/// How long transactions are gathered for one sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Batching {
    /// Microseconds from one sync to the next while more may come; 0 syncs as soon as nothing more waits.
    pub flush_delay_us: i64,
    /// A sync happens at the latest after this many transactions.
    pub max_records: Option<usize>,
}

/// The step that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// [`StorageWorker::take`] a job, whenever there is one.
    Job,
    /// [`StorageWorker::take`] a job that is there or comes before this moment, in microseconds; where none does,
    /// [`StorageWorker::sync`].
    JobOrSync { until_us: i64 },
    /// [`StorageWorker::sync`].
    Sync,
    /// [`StorageWorker::roll`].
    Roll,
    /// [`StorageWorker::store`].
    Store,
    /// [`StorageWorker::rewrite`].
    Rewrite,
}

/// What a sync has made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synced {
    /// Everything up to here is on disk.
    pub zxid: Zxid,
    pub records: usize,
    /// Bytes of these transactions, as [`Job::bytes`] counts them.
    pub bytes: usize,
}

impl Synced {
    /// For the replica.
    pub fn answer(self) -> Input {
        Input::Synced { zxid: self.zxid }
    }
}

/// The history after a part of it was given up.
#[derive(Debug)]
pub struct Rewritten {
    /// Its end, which is durable.
    pub zxid: Zxid,
    pub stored: Stored,
    /// The leader's snapshot, where one was installed, or what was restored.
    pub installed: Option<WrittenSnapshot>,
}

/// Writes a membership into the files of the configuration; `true` where it is in force. They are no files of the storage, but written in
/// the order of its jobs. An error says why they can't be written.
pub type WriteMembership<'a> = dyn FnMut(&Membership, bool) -> Result<(), String> + 'a;

/// The storage of one server.
#[derive(Debug)]
pub struct StorageWorker {
    files: Arc<Files>,
    shared: Arc<Shared>,
    writer: LogWriter,
    batching: Batching,
    /// Appended and not synced.
    batch: Option<Synced>,
    /// What stands behind the batch.
    held: Option<Store>,
    last_sync_us: i64,
    /// Bytes logged and not yet told to the snapshots.
    unsnapped_bytes: u64,
    has_failed: bool,
}

impl StorageWorker {
    /// The storage of a server whose history ends at `last`.
    pub fn new(files: Arc<Files>, shared: Arc<Shared>, last: Zxid, batching: Batching) -> StorageWorker {
        StorageWorker {
            writer: files.log_writer(last),
            files,
            shared,
            batching,
            batch: None,
            held: None,
            last_sync_us: i64::MIN,
            unsnapped_bytes: 0,
            has_failed: false,
        }
    }

    /// Whether a transaction that stands alone is synced as soon as it is there.
    pub fn syncs_at_once(&self) -> bool {
        self.batching.flush_delay_us == 0
    }

    /// What to do next.
    pub fn next(&self) -> Next {
        match (&self.batch, &self.held) {
            (None, _) if self.writer.wants_roll() => Next::Roll,
            (Some(_), Some(_)) => Next::Sync,
            (Some(batch), None) if self.batching.max_records.is_some_and(|limit| batch.records >= limit) => Next::Sync,
            (Some(_), None) => {
                Next::JobOrSync { until_us: self.last_sync_us.saturating_add(self.batching.flush_delay_us) }
            }
            (None, Some(Store::Truncate { .. } | Store::InstallSnapshot { .. } | Store::Restore { .. })) => {
                Next::Rewrite
            }
            (None, Some(_)) => Next::Store,
            (None, None) => Next::Job,
        }
    }

    /// What [`StorageWorker::store`] or [`StorageWorker::rewrite`] is to do.
    pub fn held(&self) -> Option<&Store> {
        self.held.as_ref()
    }

    /// Takes the next job. Transactions are appended to the log, and not durable yet.
    pub fn take(&mut self, job: Job) -> Result<(), StorageError> {
        assert!(
            matches!(self.next(), Next::Job | Next::JobOrSync { .. }),
            "another step comes first: {:?}",
            self.next()
        );
        match job {
            Job::Append(records) => self.guarded(StorageError::Log, |this| this.append(&records)),
            Job::Store(store) => {
                self.held = Some(store);
                Ok(())
            }
        }
    }

    fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        for record in records {
            self.writer.append(record.zxid, record.body())?;
            let batch = self.batch.get_or_insert(Synced { zxid: record.zxid, records: 0, bytes: 0 });
            batch.zxid = record.zxid;
            batch.records += 1;
            batch.bytes += record.body().len();
        }
        Ok(())
    }

    /// Gives everything appended to the system, which [`StorageWorker::sync`] does where it was not done before. Nothing is durable by that.
    pub fn write_out(&mut self) -> Result<(), StorageError> {
        self.guarded(StorageError::Log, |this| this.writer.write_out())
    }

    /// Makes everything appended durable. [`StorageWorker::synced_at`] says when that was done.
    pub fn sync(&mut self) -> Result<Synced, StorageError> {
        let synced = self.guarded(StorageError::Log, |this| {
            this.unsnapped_bytes += this.writer.commit()?.bytes;
            // The log has looked for its own file. Snapshots and epochs are as much needed at the next start.
            this.files.refuse_if_gone()
        });
        synced?;
        Ok(self.batch.take().expect("there is something to sync"))
    }

    /// From here on the next transactions are gathered, in microseconds.
    pub fn synced_at(&mut self, now_us: i64) {
        self.last_sync_us = now_us;
    }

    /// Lets the next transaction begin a new file. Returns how many bytes were logged since a snapshot was asked for, because now is the
    /// time to ask for another one; [`StorageWorker::snapshot_asked_for`] says that somebody did.
    pub fn roll(&mut self) -> Result<u64, StorageError> {
        self.guarded(StorageError::Log, |this| {
            debug!(last = %this.writer.last_zxid(), "rolling the log");
            this.writer.roll()?;
            Ok(this.unsnapped_bytes)
        })
    }

    /// Counts the bytes of the log anew, towards the next snapshot.
    pub fn snapshot_asked_for(&mut self) {
        self.unsnapped_bytes = 0;
    }

    /// Does what is asked for besides appending and rewriting. Returns the answer, where there is one.
    pub fn store(&mut self, write_membership: &mut WriteMembership<'_>) -> Result<Option<Stored>, StorageError> {
        assert_eq!(self.next(), Next::Store, "another step comes first");
        self.refuse_if_gone()?;
        match self.held.take() {
            Some(Store::AcceptedEpoch(epoch)) => {
                self.guarded(StorageError::Epoch, |this| this.files.write_accepted_epoch(epoch))?;
                Ok(Some(Stored::AcceptedEpoch(epoch)))
            }
            Some(Store::CurrentEpoch { epoch, membership }) => {
                // Whoever enters an epoch knows of the membership that its leader goes by, also after another start.
                if let Some(Err(why)) = membership.map(|membership| write_membership(&membership, false)) {
                    return Ok(Some(Stored::MembershipRefused { epoch, why }));
                }
                self.guarded(StorageError::Epoch, |this| this.files.write_current_epoch(epoch))?;
                Ok(Some(Stored::CurrentEpoch(epoch)))
            }
            Some(Store::ProposedMembership(membership)) => {
                // The ensemble goes by what is in the log, and so does this server at its next start where they can't be written.
                let _ = write_membership(&membership, false);
                Ok(None)
            }
            Some(Store::ActiveMembership(membership)) => {
                let _ = write_membership(&membership, true);
                Ok(None)
            }
            Some(Store::Truncate { .. } | Store::InstallSnapshot { .. } | Store::Restore { .. }) | None => {
                unreachable!("it is the next step")
            }
        }
    }

    /// Gives up a part of the history because a leader says so, or goes on from another state. The permit goes back with the end of what is left.
    pub fn rewrite(&mut self, _permit: &RewritePermit) -> Result<Rewritten, StorageError> {
        assert_eq!(self.next(), Next::Rewrite, "another step comes first");
        self.refuse_if_gone()?;
        match self.held.take() {
            Some(Store::Truncate { zxid, reload }) => {
                let cut =
                    self.guarded(|error| StorageError::Truncate { zxid, error }, |this| this.truncate(zxid, reload));
                let (last, tree) = cut?;
                Ok(Rewritten { zxid: last, stored: Stored::Truncated { zxid, tree }, installed: None })
            }
            Some(Store::InstallSnapshot { zxid }) => {
                let installed = self.guarded(
                    |error| StorageError::Install { zxid, error },
                    |this| {
                        this.begin_log(zxid);
                        this.files.install_snapshot(&this.shared, zxid)
                    },
                )?;
                self.unsnapped_bytes = 0;
                Ok(Rewritten { zxid, stored: Stored::SnapshotInstalled { zxid }, installed: Some(installed) })
            }
            Some(Store::Restore { zxid, tree }) => self.restore(zxid, tree),
            _ => unreachable!("it is the next step"),
        }
    }

    /// Goes on from another tree. Where it can't be written everything stays as it was; where nobody can tell whether it was stored, this is the end.
    fn restore(&mut self, zxid: Zxid, tree: Box<Tree>) -> Result<Rewritten, StorageError> {
        let snapshot = match self.files.write_for_restore(&tree) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                let (zxid, stored) = (self.writer.last_zxid(), Stored::NotRestored { why: error.to_string() });
                return Ok(Rewritten { zxid, stored, installed: None });
            }
        };
        let installed = self.guarded(
            |error| StorageError::Restore { zxid, error },
            |this| {
                this.begin_log(zxid);
                this.files.publish_restored(snapshot)
            },
        )?;
        self.unsnapped_bytes = 0;
        Ok(Rewritten { zxid, stored: Stored::Restored { zxid, tree }, installed: Some(installed) })
    }

    fn truncate(&mut self, zxid: Zxid, reload: bool) -> Result<(Zxid, Option<Box<Tree>>), StoreError> {
        self.begin_log(zxid);
        match self.files.truncate(zxid) {
            Err(error) if error.is_no_way_back() => {
                warn!("{error}; the database is read again, and the leader asked for all of its history");
            }
            cut => {
                cut?;
                info!("the log was cut behind {zxid}, as the leader demands");
                if !reload {
                    return Ok((zxid, None));
                }
            }
        }
        let tree = self.files.recover()?.tree;
        let last = tree.last_zxid();
        self.begin_log(last);
        Ok((last, Some(Box::new(tree))))
    }

    /// The file that is open must be closed before it is cut or removed.
    fn begin_log(&mut self, last: Zxid) {
        self.writer = self.files.log_writer(last);
    }

    /// In another directory that has the name now, a promise would stand without the history it is about.
    fn refuse_if_gone(&mut self) -> Result<(), StorageError> {
        self.guarded(StorageError::Log, |this| this.files.refuse_if_gone())
    }

    /// Does one thing, unless something has failed before.
    fn guarded<T>(
        &mut self,
        failure: impl FnOnce(StoreError) -> StorageError,
        work: impl FnOnce(&mut StorageWorker) -> Result<T, StoreError>,
    ) -> Result<T, StorageError> {
        assert!(!self.has_failed, "the storage has failed, and does nothing any more");
        work(self).map_err(|error| {
            self.has_failed = true;
            failure(error)
        })
    }
}
