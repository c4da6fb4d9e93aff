//! The storage of a simulated server: the shipping worker on a simulated disk, in its own time.
//!
//! Jobs wait in a queue, as they do before the thread of the shipping server. The worker takes them as soon as it has time, and each of its
//! steps that reaches the disk ends a while after it was begun; jobs that come meanwhile are for the next step.
//!
//! What always holds here: the worker says which step comes next; when the disk fails the process ends, as the shipping server does.

use std::collections::VecDeque;
use std::sync::Arc;

use rookeeper_proto::Zxid;
use rookeeper_replica::{Input, Store, Stored};
use rookeeper_storage::worker::Rewritten;
use rookeeper_storage::{Job, LogPosition, Next, RewritePermit, StorageError, StorageWorker};
use rookeeper_store::epoch_files::ACCEPTED;
use rookeeper_zab::{Membership, Memberships, Record};

use crate::faults::Sabotage;
use crate::scenes::Cue;
use crate::world::{Event, MS, World};

/// How long a thread that waits takes to wake up, at most.
const WAKE_US: i64 = 100;

/// The storage of a process.
#[derive(Debug)]
pub(crate) struct Storage {
    worker: StorageWorker,
    pub position: LogPosition,
    /// To be logged, and not handed over yet.
    unsent: Vec<Record>,
    jobs: VecDeque<Job>,
    /// The worker's next step is under way.
    is_storing: bool,
    /// When it is looked after next.
    due_us: Option<i64>,
}

impl Storage {
    /// A storage whose log is durable up to `last`.
    pub fn new(worker: StorageWorker, last: Zxid) -> Storage {
        Storage {
            worker,
            position: LogPosition::new(last),
            unsent: Vec::new(),
            jobs: VecDeque::new(),
            is_storing: false,
            due_us: None,
        }
    }
}

impl World {
    pub(crate) fn log(&mut self, server: usize, record: Record) {
        if let Some(process) = &mut self.servers[server].process {
            process.storage.unsent.push(record);
        }
    }

    /// Asks for something that stands behind everything logged until now.
    pub(crate) fn ask_storage(&mut self, server: usize, store: Store) {
        self.hand_over(server);
        self.hand_over_job(server, Job::Store(store));
    }

    /// The outputs of an input, or of several, are carried out: what they have logged goes to the storage at once.
    pub(crate) fn hand_over(&mut self, server: usize) {
        let Some(process) = &mut self.servers[server].process else { return };
        let records = std::mem::take(&mut process.storage.unsent);
        if !records.is_empty() {
            self.hand_over_job(server, Job::Append(records));
        }
    }

    fn hand_over_job(&mut self, server: usize, job: Job) {
        let wakes_us = self.now_us + self.random.between(1, WAKE_US);
        let Some(process) = &mut self.servers[server].process else { return };
        process.storage.jobs.push_back(job);
        if !process.storage.is_storing && process.storage.due_us.is_none_or(|due_us| due_us > wakes_us) {
            self.look_after_storage(server, wakes_us);
        }
    }

    fn look_after_storage(&mut self, server: usize, at_us: i64) {
        let life = self.servers[server].life;
        if let Some(process) = &mut self.servers[server].process {
            process.storage.due_us = Some(at_us);
            self.schedule(at_us, Event::Storage { server, life });
        }
    }

    /// The storage's step is done, or there may be a next step.
    pub(crate) fn storage_step(&mut self, server: usize) {
        let (now_us, hangs_until_us) = (self.now_us, self.servers[server].disk_hangs_until_us);
        let Some(process) = &mut self.servers[server].process else { return };
        if process.storage.due_us.is_none_or(|due_us| now_us < due_us) {
            return;
        }
        process.storage.due_us = None;
        if process.storage.is_storing && now_us < hangs_until_us {
            // The step may end before the longest time.
            return self.look_after_storage(server, hangs_until_us.min(now_us + 10 * MS));
        }
        let done = if std::mem::take(&mut process.storage.is_storing) { self.end_step(server) } else { Ok(()) };
        if let Err(error) = done.and_then(|()| self.begin_step(server)) {
            self.note(11, server as u64, 0, || format!("the storage of server {} fails: {error}", server + 1));
            self.end_for_want_of_a_disk(server);
        }
    }

    /// The process ends because its disk failed, and is started again later.
    pub(crate) fn end_for_want_of_a_disk(&mut self, server: usize) {
        let power = self.servers[server].disk.has_crashed();
        self.figures.disk_failures += 1;
        self.stop(server, power);
        let life = self.servers[server].life;
        let at_us = self.now_us + self.random.between(200, 5000) * MS;
        self.schedule(at_us, Event::Start { server, life });
    }

    /// Hands the worker what it takes, until it has something to do that takes its time.
    fn begin_step(&mut self, server: usize) -> Result<(), StorageError> {
        let now_us = self.now_us;
        loop {
            let Some(process) = &mut self.servers[server].process else { return Ok(()) };
            let storage = &mut process.storage;
            match storage.worker.next() {
                Next::Job | Next::JobOrSync { .. } if !storage.jobs.is_empty() => {
                    if let Some(job) = storage.jobs.pop_front() {
                        storage.worker.take(job)?;
                    }
                }
                Next::Job => return Ok(()),
                Next::JobOrSync { until_us } if until_us > now_us => {
                    self.look_after_storage(server, until_us);
                    return Ok(());
                }
                Next::Roll => {
                    let logged_bytes = storage.worker.roll()?;
                    if self.ask_for_snapshot(server, logged_bytes)
                        && let Some(process) = &mut self.servers[server].process
                    {
                        process.storage.worker.snapshot_asked_for();
                    }
                }
                Next::JobOrSync { .. } | Next::Sync | Next::Store | Next::Rewrite => {
                    storage.is_storing = true;
                    let took_us = self.random.skewed(100, 5 * MS) * self.servers[server].slowness;
                    self.look_after_storage(server, now_us + took_us);
                    return Ok(());
                }
            }
        }
    }

    fn end_step(&mut self, server: usize) -> Result<(), StorageError> {
        let Some(process) = &mut self.servers[server].process else { return Ok(()) };
        match process.storage.worker.next() {
            Next::JobOrSync { .. } | Next::Sync => self.sync(server),
            Next::Store => self.store(server),
            Next::Rewrite => self.rewrite(server),
            Next::Job | Next::Roll => unreachable!("these take no time"),
        }
    }

    fn sync(&mut self, server: usize) -> Result<(), StorageError> {
        let now_us = self.now_us;
        let this = &mut self.servers[server];
        let Some(process) = &mut this.process else { return Ok(()) };
        let synced = process.storage.worker.sync()?;
        process.storage.worker.synced_at(now_us);
        process.storage.position.advance(synced.zxid);
        this.promises.durable = this.promises.durable.max(synced.zxid);
        if synced.records > 1 {
            self.figures.note("transactions synced together");
        }
        self.note(14, server as u64, synced.zxid.0 as u64, || {
            format!("server {} has synced its log up to {}", server + 1, synced.zxid)
        });
        self.feed(server, synced.answer());
        self.cue(Cue::Synced { server });
        Ok(())
    }

    fn store(&mut self, server: usize) -> Result<(), StorageError> {
        let held = self.servers[server].process.as_ref().and_then(|process| process.storage.worker.held());
        let has_membership = matches!(
            held,
            Some(
                Store::CurrentEpoch { membership: Some(_), .. }
                    | Store::ProposedMembership(_)
                    | Store::ActiveMembership(_)
            )
        );
        let can_write = !has_membership || self.can_write_membership(server);
        let this = &mut self.servers[server];
        let Some(process) = &mut this.process else { return Ok(()) };
        let text = format!("{:?}", process.storage.worker.held());
        let accepted_file = this.directories.snapshot_dir.join(ACCEPTED);
        let before = this.disk.content(&accepted_file);
        let mut written = None;
        let stored = process.storage.worker.store(&mut |membership, is_in_force| {
            if !can_write {
                return Err("its file can't be written".to_owned());
            }
            written = Some((membership.clone(), is_in_force));
            Ok(())
        })?;
        let verdict = match &stored {
            Some(Stored::AcceptedEpoch(epoch)) => {
                if self.plan.sabotage == Some(Sabotage::ForgetsEpochs) {
                    // A planted bug: as if it had never been written.
                    match before {
                        Some(before) => this.disk.put(&accepted_file, &before),
                        None => this.disk.take_away(&accepted_file),
                    }
                }
                this.promises.stored(server + 1, Some(*epoch), None)
            }
            Some(Stored::CurrentEpoch(epoch)) => this.promises.stored(server + 1, None, Some(*epoch)),
            _ => Ok(()),
        };
        self.judge(verdict);
        if let Some((membership, is_in_force)) = written {
            self.keep_membership(server, membership, is_in_force);
        }
        self.note(12, server as u64, 0, || format!("server {} has stored {text}", server + 1));
        if let Some(stored) = stored {
            self.feed(server, Input::Stored(stored));
        }
        Ok(())
    }

    fn keep_membership(&mut self, server: usize, membership: Membership, is_in_force: bool) {
        let before = self.servers[server].memberships.clone();
        let memberships = if is_in_force {
            let next = before.map(|memberships| memberships.last_seen);
            let next = next.filter(|next| next.version > membership.version).unwrap_or_else(|| membership.clone());
            Some(Memberships::new(membership, next))
        } else {
            let before = before.or_else(|| self.plan.membership());
            before.map(|before| Memberships::new(before.committed.clone(), membership))
        };
        if let Some(memberships) = memberships {
            self.membership_is_written(server, memberships, is_in_force);
        }
    }

    /// Gives up a part of the history, as soon as no snapshot needs it.
    fn rewrite(&mut self, server: usize) -> Result<(), StorageError> {
        let now_us = self.now_us;
        let this = &mut self.servers[server];
        let Some(process) = &mut this.process else { return Ok(()) };
        let Some(permit) = process.storage.position.rewrite() else {
            process.storage.is_storing = true;
            self.look_after_storage(server, now_us + MS);
            return Ok(());
        };
        if matches!(process.storage.worker.held(), Some(Store::Restore { .. })) {
            return self.restore(server, permit);
        }
        let text = format!("{:?}", process.storage.worker.held());
        let (end, installs) = match process.storage.worker.held() {
            Some(Store::Truncate { zxid, .. }) => (*zxid, false),
            Some(Store::InstallSnapshot { zxid }) => (*zxid, true),
            other => unreachable!("no rewrite: {other:?}"),
        };
        let is_committed = |(zxid, body): &(&Zxid, &Arc<[u8]>)| {
            self.chronicle.entry(**zxid).is_some_and(|entry| *entry.body == ***body)
        };
        let lost = this.log.range(Zxid(end.0 + 1)..).filter(is_committed);
        let lost: Vec<(Zxid, Arc<[u8]>)> = lost.map(|(zxid, body)| (*zxid, body.clone())).collect();
        this.promises.acknowledged = this.promises.acknowledged.min(end);
        if installs && this.log.last_key_value().is_some_and(|(last, _)| *last > end) {
            self.figures.note("snapshots installed over a longer log");
        }
        // Also where it fails: the next start finishes it.
        this.has_foreign_snapshot |= installs;
        this.disk.skip_syncs(!installs && self.plan.sabotage == Some(Sabotage::TruncatesUnsynced));
        let rewritten = process.storage.worker.rewrite(&permit);
        this.disk.skip_syncs(false);
        let Rewritten { zxid, stored, .. } = rewritten?;
        process.storage.position.rewritten(permit, zxid);
        this.promises.cut(zxid);
        if installs {
            this.log.clear();
            this.installed = end;
            self.figures.snapshots_installed += 1;
        } else if zxid <= end {
            this.log.split_off(&Zxid(end.0 + 1));
            self.figures.truncations += 1;
            self.may_darken(server, "power cuts after a log was cut");
        } else {
            self.figures.note("cuts that nothing led back to");
        }
        let is_given_up = zxid <= end;
        for (zxid, body) in lost.into_iter().filter(|_| is_given_up) {
            // A transaction that was committed without this server is sent again. Enough servers must have it.
            self.check_quorum(zxid, &body);
        }
        self.note(12, server as u64, 0, || format!("server {} has stored {text}", server + 1));
        self.feed(server, Input::Stored(stored));
        if !installs {
            self.cue(Cue::Cuts { server });
        }
        Ok(())
    }

    /// Goes on from another tree.
    fn restore(&mut self, server: usize, permit: RewritePermit) -> Result<(), StorageError> {
        let this = &mut self.servers[server];
        let Some(process) = &mut this.process else { return Ok(()) };
        this.disk.skip_syncs(self.plan.sabotage == Some(Sabotage::RestoresUnsynced));
        let rewritten = process.storage.worker.rewrite(&permit);
        this.disk.skip_syncs(false);
        let Rewritten { zxid, stored, .. } = rewritten?;
        process.storage.position.rewritten(permit, zxid);
        // A disk without power takes nothing, and this process is about to end with it.
        if this.disk.has_crashed() {
            self.end_for_want_of_a_disk(server);
            return Ok(());
        }
        self.note(12, server as u64, zxid.0 as u64, || {
            format!("server {} has stored a tree, up to {zxid}", server + 1)
        });
        // The power may go before the replica hears of it, or after the answer.
        self.may_darken(server, "power cuts after a tree was restored");
        self.feed(server, Input::Stored(stored));
        Ok(())
    }

    /// A planned power cut may find out whether that is durable: right away, or when the log has gone on in another file.
    fn may_darken(&mut self, server: usize, why: &'static str) {
        if self.plan.darkens_after_cuts && self.random.one_in(2) {
            let tick_us = self.plan.tick_ms * MS;
            let from_us = *self.random.pick(&[100, tick_us]);
            let at_us = self.now_us + self.random.skewed(from_us, 6 * tick_us);
            let life = self.servers[server].life;
            self.schedule(at_us, Event::PowerCut { server, life, why });
        }
    }
}
