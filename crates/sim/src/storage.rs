//! The storage of a simulated server: does what it is asked, in order, in its own time, with the shipping store on a simulated disk.
//!
//! What always holds here: it answers only for what is on disk; when the disk fails the process ends, as the shipping server does.

use std::sync::Arc;

use rookeeper_proto::Zxid;
use rookeeper_replica::{Input, Store, Stored};
use rookeeper_store::epoch_files::{ACCEPTED, CURRENT, write_epoch};
use rookeeper_store::truncate::{install_snapshot, truncate};
use rookeeper_store::{Disk, LogWriter, SnapshotOptions, StoreError, recover};
use rookeeper_zab::{Memberships, Record};

use crate::faults::Sabotage;
use crate::scenes::Cue;
use crate::server::recovery;
use crate::world::{Event, MS, World};

#[derive(Debug)]
pub(crate) enum Job {
    Append(Record),
    Store(Store),
}

impl World {
    pub(crate) fn ask_storage(&mut self, server: usize, job: Job) {
        let Some(process) = &mut self.servers[server].process else { return };
        process.jobs.push_back(job);
        if !process.busy {
            process.busy = true;
            self.schedule_storage(server);
        }
    }

    fn schedule_storage(&mut self, server: usize) {
        let delay_us = self.random.skewed(100, 5 * MS) * self.servers[server].slowness;
        let life = self.servers[server].life;
        self.schedule(self.now_us + delay_us, Event::Storage { server, life });
    }

    /// The storage has done what it was at: all transactions at the head of the queue together, or one other thing.
    pub(crate) fn storage_step(&mut self, server: usize) {
        let (until_us, life) = (self.servers[server].disk_hangs_until_us, self.servers[server].life);
        if self.now_us < until_us {
            // It may end early.
            self.schedule(until_us.min(self.now_us + 10 * MS), Event::Storage { server, life });
            return;
        }
        match self.try_storage_step(server) {
            Ok(Some(answer)) => {
                let cue = match &answer {
                    Input::Synced { .. } => Some(Cue::Synced { server }),
                    Input::Stored(Stored::Truncated { .. }) => Some(Cue::Cuts { server }),
                    _ => None,
                };
                self.feed(server, answer);
                cue.into_iter().for_each(|cue| self.cue(cue));
            }
            Ok(None) => {}
            Err(error) => {
                self.note(11, server as u64, 0, || format!("the storage of server {} fails: {error}", server + 1));
                let power = self.servers[server].disk.has_crashed();
                self.figures.disk_failures += 1;
                self.stop(server, power);
                let life = self.servers[server].life;
                let at_us = self.now_us + self.random.between(200, 5000) * MS;
                self.schedule(at_us, Event::Start { server, life });
                return;
            }
        }
        let Some(process) = &mut self.servers[server].process else { return };
        process.busy = !process.jobs.is_empty();
        if process.busy {
            self.schedule_storage(server);
        }
    }

    fn try_storage_step(&mut self, server: usize) -> Result<Option<Input>, StoreError> {
        let options = self.log_options(server);
        let now_us = self.now_us;
        let limit = self.plan.batch;
        let this = &mut self.servers[server];
        let Some(process) = &mut this.process else { return Ok(None) };
        let disk: Arc<dyn Disk> = Arc::new(this.disk.clone());
        let directories = &this.directories;
        let new_writer = |last| LogWriter::new(disk.clone(), &directories.log_dir, options.clone(), last);
        let mut last = None;
        for _ in 0..limit {
            let Some(Job::Append(record)) = process.jobs.pop_front_if(|job| matches!(job, Job::Append(_))) else {
                break;
            };
            process.writer.append(record.zxid, record.body())?;
            last = Some(record.zxid);
        }
        if let Some(zxid) = last {
            process.writer.commit()?;
            this.promises.durable = this.promises.durable.max(zxid);
            if process.writer.wants_roll() {
                process.writer.roll()?;
                if !process.snapshot_due {
                    process.snapshot_due = true;
                    let life = this.life;
                    self.schedule(now_us + 20 * MS, Event::Snapshot { server, life });
                }
            }
            self.note(14, server as u64, zxid.0 as u64, || {
                format!("server {} has synced its log up to {zxid}", server + 1)
            });
            return Ok(Some(Input::Synced { zxid }));
        }
        let Some(Job::Store(store)) = process.jobs.pop_front() else { return Ok(None) };
        let text = format!("{store:?}");
        let given_up = match &store {
            Store::Truncate { zxid, .. } | Store::InstallSnapshot { zxid } => Some(*zxid),
            _ => None,
        };
        let is_committed = |(zxid, body): &(&Zxid, &Arc<[u8]>)| {
            self.chronicle.entry(**zxid).is_some_and(|entry| *entry.body == ***body)
        };
        let lost = given_up.into_iter().flat_map(|end| this.log.range(Zxid(end.0 + 1)..)).filter(is_committed);
        let lost: Vec<(Zxid, Arc<[u8]>)> = lost.map(|(zxid, body)| (*zxid, body.clone())).collect();
        if let Some(end) = given_up {
            this.promises.acknowledged = this.promises.acknowledged.min(end);
        }
        let mut written = None;
        let (answer, stored) = match store {
            Store::AcceptedEpoch(epoch) => {
                if self.plan.sabotage != Some(Sabotage::ForgetsEpochs) {
                    write_epoch(&*disk, &directories.snapshot_dir, ACCEPTED, epoch)?;
                }
                (Some(Stored::AcceptedEpoch(epoch)), this.promises.stored(server + 1, Some(epoch), None))
            }
            Store::CurrentEpoch { epoch, membership } => {
                let before = this.memberships.clone().or_else(|| self.plan.membership());
                let next =
                    membership.zip(before).map(|(next, before)| Memberships::new(before.committed.clone(), next));
                if next.is_some_and(|next| !self.write_membership(server, next, false)) {
                    let why = "its file can't be written".to_owned();
                    return Ok(Some(Input::Stored(Stored::MembershipRefused { epoch, why })));
                }
                let this = &mut self.servers[server];
                write_epoch(&*disk, &this.directories.snapshot_dir, CURRENT, epoch)?;
                (Some(Stored::CurrentEpoch(epoch)), this.promises.stored(server + 1, None, Some(epoch)))
            }
            Store::Truncate { zxid, reload } => {
                process.writer = new_writer(zxid);
                this.disk.skip_syncs(self.plan.sabotage == Some(Sabotage::TruncatesUnsynced));
                truncate(&*disk, directories, zxid)?;
                this.disk.skip_syncs(false);
                this.log.split_off(&Zxid(zxid.0 + 1));
                let mut tree = None;
                let mut last = zxid;
                if reload {
                    let recovered = recover(&*disk, directories, &recovery(true))?;
                    last = recovered.tree.last_zxid();
                    process.writer = new_writer(last);
                    tree = Some(Box::new(recovered.tree));
                }
                this.promises.cut(last);
                self.figures.truncations += 1;
                // A planned power cut may find out whether that is durable: right away, or when the log has gone on in another file.
                let life = this.life;
                if self.plan.darkens_after_cuts && self.random.one_in(2) {
                    let tick_us = self.plan.tick_ms * MS;
                    let from_us = *self.random.pick(&[100, tick_us]);
                    let at_us = now_us + self.random.skewed(from_us, 6 * tick_us);
                    let why = "power cuts after a log was cut";
                    self.schedule(at_us, Event::PowerCut { server, life, why });
                }
                (Some(Stored::Truncated { zxid, tree }), Ok(()))
            }
            Store::InstallSnapshot { zxid } => {
                process.writer = new_writer(zxid);
                if this.log.last_key_value().is_some_and(|(last, _)| *last > zxid) {
                    self.figures.note("snapshots installed over a longer log");
                }
                let shared = process.shared.clone();
                // Also where it fails: the next start finishes it.
                this.has_foreign_snapshot = true;
                install_snapshot(
                    &*disk,
                    directories,
                    &SnapshotOptions::default(),
                    &mut |read| read(&shared.tree()),
                    zxid,
                )?;
                this.log.clear();
                this.installed = zxid;
                this.promises.cut(zxid);
                self.figures.snapshots_installed += 1;
                (Some(Stored::SnapshotInstalled { zxid }), Ok(()))
            }
            Store::ProposedMembership(membership) => {
                let committed = this.memberships.clone().or_else(|| self.plan.membership());
                written = committed.map(|before| (Memberships::new(before.committed.clone(), membership), false));
                (None, Ok(()))
            }
            Store::ActiveMembership(membership) => {
                let next = this.memberships.clone().map(|memberships| memberships.last_seen);
                let next = next.filter(|next| next.version > membership.version).unwrap_or_else(|| membership.clone());
                written = Some((Memberships::new(membership, next), true));
                (None, Ok(()))
            }
        };
        self.judge(stored);
        if let Some((memberships, is_in_force)) = written {
            self.write_membership(server, memberships, is_in_force);
        }
        for (zxid, body) in lost {
            // Committed without this server, it is sent again. There must be enough that have it.
            self.check_quorum(zxid, &body);
        }
        self.note(12, server as u64, 0, || format!("server {} has stored {text}", server + 1));
        Ok(answer.map(Input::Stored))
    }
}
