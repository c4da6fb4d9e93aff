//! How a simulated server starts, from what its disk has, and how it ends.
//!
//! What always holds here: the result of recovery is judged before the process says anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rookeeper_proto::Zxid;
use rookeeper_replica::pulse::Pulse;
use rookeeper_replica::{EnsembleSettings, Epochs, Input, Reaping, Replica, Serving, Settings, Shared, Shortage};
use rookeeper_storage::{FileOptions, Files, Snapshotter, Start, StorageError, StorageWorker};
use rookeeper_store::log_reader::{LogReader, Next};
use rookeeper_store::names::{self, Listing};
use rookeeper_store::truncate::truncate;
use rookeeper_store::{Directories, Disk, PurgeOptions, SnapshotOptions, StoreError, recover};
use rookeeper_tree::access::AccessConfig;
use rookeeper_zab::{Membership, Memberships};

use super::inputs::Inputs;
use super::{Process, recovery};
use crate::faults::Sabotage;
use crate::network::OBSERVER_MASTER_PORT;
use crate::shortages;
use crate::snapshots::{PORTION_BYTES, Snapshots};
use crate::storage::Storage;
use crate::world::{Event, MS, World};

/// A server may fail to start this often, for instance because its disk has no room; more failures are a bug.
const MAX_START_FAILURES: u32 = 200;

impl World {
    /// Boots the process from what its disk has.
    pub(crate) fn start(&mut self, server: usize) {
        if self.servers[server].process.is_some() || self.servers[server].retired {
            return;
        }
        self.servers[server].powered = true;
        self.servers[server].frozen = false;
        self.may_find_old_files(server);
        if !self.is_configured(server) {
            return self.wait_for_operator(server);
        }
        self.servers[server].life += 1;
        match self.try_start(server) {
            Ok(()) => {}
            Err(error) => {
                self.servers[server].start_failures += 1;
                let failures = self.servers[server].start_failures;
                self.note(8, server as u64, 0, || format!("server {} can't start: {error}", server + 1));
                if failures > MAX_START_FAILURES || (self.healed && failures > 3) || is_damage(&error) {
                    self.violated(format!("recovery: server {} can't start: {error}", server + 1));
                }
                let crashed = self.servers[server].disk.has_crashed();
                if crashed {
                    self.lose_power(server);
                }
                let life = self.servers[server].life;
                self.schedule(self.now_us + 500 * MS, Event::Start { server, life });
            }
        }
    }

    fn try_start(&mut self, server: usize) -> Result<(), StoreError> {
        let options = self.log_options(server);
        let now = self.time_at(server);
        let configured = self.configured(server);
        let this = &mut self.servers[server];
        let disk: Arc<dyn Disk> = Arc::new(this.disk.clone());
        if self.plan.sabotage == Some(Sabotage::LosesOnRecovery) && this.life > 1 {
            // A planted bug: the last transaction is gone after a start.
            let last = recover(&*disk, &this.directories, &recovery(true))?.tree.last_zxid();
            if last.counter() > 1 {
                match truncate(&*disk, &this.directories, Zxid(last.0 - 1)) {
                    // Behind a tree that was restored: what came before is no part of its history.
                    Err(error) if error.is_no_way_back() => {}
                    done => done?,
                }
            }
        }
        let empty_is_expected =
            self.plan.empty_is_expected || self.plan.sabotage == Some(Sabotage::VotesWithoutItsDisk);
        let options = FileOptions {
            log: options,
            snapshots: SnapshotOptions { portion_bytes: PORTION_BYTES, ..SnapshotOptions::default() },
            recovery: recovery(empty_is_expected),
        };
        let files = Arc::new(Files::new(disk.clone(), this.directories.clone(), options)?);
        let start = Start::recover(files.clone(), configured.is_some())?;
        let ensemble = match configured {
            None => None,
            Some(configured) => match self.begins_with(server, configured, &start.recovered) {
                Some(memberships) => Some(self.as_counted(memberships)),
                None => {
                    self.wait_for_operator(server);
                    return Ok(());
                }
            },
        };
        let this = &mut self.servers[server];
        let secured = start.secure().map_err(StorageError::into_cause)?;
        let (last, wants_snapshot) = (secured.recovered.tree.last_zxid(), secured.wants_snapshot);
        this.log = read_log(&*disk, &this.directories)?;
        if this.has_foreign_snapshot && this.log.is_empty() {
            // This start may have finished work that a failure of the disk had cut off.
            this.installed = this.installed.max(last);
        }
        let digest = secured.recovered.tree.digest();
        let standalone = ensemble.is_none();
        let settings = Settings {
            server: this.id,
            tick_time_ms: self.plan.tick_ms,
            min_session_timeout_ms: 2 * self.plan.tick_ms as i32,
            max_session_timeout_ms: 20 * self.plan.tick_ms as i32,
            reconfig: self.plan.reconfigures,
            extended_types: true,
            enforce_quota: self.plan.habits.quotas,
            reaping: Reaping {
                interval_ms: 3 * self.plan.tick_ms,
                max_per_minute: 10_000,
                max_never_used_ms: 8 * self.plan.tick_ms,
            },
            room: shortages::LIMITS,
            access: AccessConfig { skip_acl: self.plan.reconfigures, ..AccessConfig::default() },
            ..Settings::default()
        };
        let epochs =
            if standalone { Epochs { accepted: last.epoch(), current: last.epoch() } } else { secured.epochs()? };
        let verdict = this.promises.recovered(server + 1, last.max(Zxid::ZERO), epochs.accepted, epochs.current);
        let epochs = match self.plan.sabotage {
            // A planted bug.
            Some(Sabotage::ForgetsPromises) => Epochs { accepted: epochs.current, ..epochs },
            _ => epochs,
        };
        let shared = Arc::new(Shared::new(settings, secured.recovered.tree, now.wall_ms));
        let purge_options = PurgeOptions { retain_snapshots: 2, ..PurgeOptions::default() };
        let snapshotter =
            Snapshotter::new(files.clone(), shared.clone(), purge_options, secured.first_snapshot.as_ref());
        let worker = StorageWorker::new(files, shared.clone(), last, self.plan.batching);
        let replica = match ensemble {
            None => Replica::new(shared.clone(), now),
            Some(memberships) => {
                let settings = EnsembleSettings {
                    commit_log_count: self.plan.commit_log_count,
                    force_snapshot_sync: self.plan.force_snapshots,
                    local_sessions: self.plan.habits.local_sessions,
                    local_sessions_upgrading: self.plan.habits.local_sessions_upgrading,
                    read_only_mode: self.plan.habits.read_only,
                    rollover: self.plan.rollover,
                    has_oracle: self.plan.has_oracle,
                    observer_master_port: self.plan.observer_masters.then_some(OBSERVER_MASTER_PORT),
                    observer_reconnect_delay_ms: self.plan.observer_reconnect_ms,
                    observer_master_size_limit_bytes: self.plan.observer_size_limit_bytes,
                    ..EnsembleSettings::new(this.id, memberships)
                };
                Replica::member(shared.clone(), settings, epochs, now)
            }
        };
        this.process = Some(Process {
            shared,
            replica,
            inputs: Inputs::default(),
            not_read: BTreeSet::new(),
            short_before: Shortage::default(),
            short_now: Shortage::default(),
            storage: Storage::new(worker, last),
            snapshots: Snapshots::new(snapshotter),
            tick_at_us: i64::MAX,
            pulse: Pulse::new(self.plan.tick_ms, now.monotonic_ms),
            serving: Serving::Nobody,
            applied: last,
            memberships: None,
            feeds: false,
            master: None,
        });
        this.start_failures = 0;
        self.settle_restore(server, last);
        self.figures.starts += 1;
        self.note(9, server as u64, last.0 as u64, || {
            format!("server {} starts at {last}, epochs {}/{}", server + 1, epochs.accepted, epochs.current)
        });
        self.judge(verdict);
        // A snapshot from a leader shows more than its zxid until the transactions behind it are there too.
        if !self.servers[server].has_foreign_snapshot {
            let verdict = self.chronicle.compare_digest(server + 1, last, digest);
            self.judge(verdict);
        }
        if wants_snapshot {
            self.ask_for_snapshot(server, 0);
        }
        if self.servers[server].short_of != Shortage::default() {
            self.measure(server);
        }
        self.feed(server, Input::Tick);
        self.tell_oracle(server);
        Ok(())
    }

    /// The process ends. With `power` everything ends that the disk was not made to keep.
    pub(crate) fn stop(&mut self, server: usize, power: bool) {
        if self.servers[server].process.take().is_some() {
            self.process_gone(server, !power);
            self.lines_gone(server, !power);
        }
        self.inbox.retain(|(to, _)| *to != server);
        let this = &mut self.servers[server];
        this.deferred.clear();
        if std::mem::take(&mut this.frozen) {
            self.flush_held();
        }
        if power {
            self.lose_power(server);
        }
    }

    fn lose_power(&mut self, server: usize) {
        let seed = self.random.draw();
        let this = &mut self.servers[server];
        this.powered = false;
        this.disk = this.disk.restart(seed);
    }
}

/// A planted bug: heads count.
impl World {
    fn as_counted(&self, memberships: Memberships) -> Memberships {
        match self.plan.sabotage {
            Some(Sabotage::IgnoresWeights) => {
                Memberships::settled(Membership { groups: None, ..memberships.committed })
            }
            _ => memberships,
        }
    }
}

fn read_log(disk: &dyn Disk, directories: &Directories) -> Result<BTreeMap<Zxid, Arc<[u8]>>, StoreError> {
    let mut log = BTreeMap::new();
    for start in Listing::read(disk, &directories.log_dir)?.logs {
        let path = directories.log_dir.join(names::log(start));
        let mut reader = LogReader::open(disk, &path, rookeeper_store::MAX_RECORD_BYTES)?;
        while let Next::Record { zxid, body, .. } = reader.next_record()? {
            log.insert(zxid, body.into());
        }
    }
    Ok(log)
}

/// Whether the error says that the data on disk can't be right.
fn is_damage(error: &StoreError) -> bool {
    matches!(error, StoreError::Damaged { .. } | StoreError::Misuse(_) | StoreError::Newer { .. })
}
