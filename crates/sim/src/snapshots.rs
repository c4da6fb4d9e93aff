//! Snapshots that servers take of themselves: the shipping snapshotter, step by step, while the tree changes between the steps.
//!
//! What always holds here: the history is held from the first step of a snapshot to the last; when a snapshot can't be written, the process
//! ends as the shipping server does.

use std::time::SystemTime;

use rookeeper_storage::{HistoryHold, Snapshotter, StorageError, Taking};
use rookeeper_store::StoreError;

use crate::faults::Sabotage;
use crate::world::{Event, MS, World};

/// So little that there are several portions.
pub(crate) const PORTION_BYTES: usize = 300;

/// The snapshots of a process.
#[derive(Debug)]
pub(crate) struct Snapshots {
    snapshotter: Snapshotter,
    /// Bytes logged, where somebody has asked for a snapshot. One request waits while a snapshot is being taken.
    request: Option<u64>,
    stage: Stage,
    /// Whether an event that looks after the snapshots is scheduled.
    is_due: bool,
}

#[derive(Debug)]
enum Stage {
    Idle,
    /// To be begun as soon as nobody rewrites the history.
    Due,
    Taking {
        hold: HistoryHold,
        waits: bool,
    },
}

impl Snapshots {
    /// No snapshot is being taken.
    pub fn new(snapshotter: Snapshotter) -> Snapshots {
        Snapshots { snapshotter, request: None, stage: Stage::Idle, is_due: false }
    }
}

impl World {
    /// Asks for a snapshot. False where a request waits already.
    pub(crate) fn ask_for_snapshot(&mut self, server: usize, logged_bytes: u64) -> bool {
        let Some(process) = &mut self.servers[server].process else { return false };
        let snapshots = &mut process.snapshots;
        if snapshots.request.is_some() {
            return false;
        }
        snapshots.request = Some(logged_bytes);
        if !snapshots.is_due {
            self.look_after_snapshot(server, 20 * MS);
        }
        true
    }

    fn look_after_snapshot(&mut self, server: usize, delay_us: i64) {
        let life = self.servers[server].life;
        if let Some(process) = &mut self.servers[server].process {
            process.snapshots.is_due = true;
            self.schedule(self.now_us + delay_us, Event::Snapshot { server, life });
        }
    }

    /// A snapshot is begun, or goes on.
    pub(crate) fn snapshot(&mut self, server: usize) {
        let until_us = self.servers[server].disk_hangs_until_us;
        if self.now_us < until_us {
            return self.look_after_snapshot(server, (until_us - self.now_us).min(10 * MS));
        }
        match self.try_snapshot(server) {
            Ok(Some(delay_us)) => self.look_after_snapshot(server, delay_us),
            Ok(None) => {
                if let Some(process) = &mut self.servers[server].process {
                    process.snapshots.is_due = false;
                }
            }
            Err(error) => {
                let error = StorageError::Snapshot(error);
                self.note(13, server as u64, 0, || format!("server {} can't take a snapshot: {error}", server + 1));
                self.end_for_want_of_a_disk(server);
            }
        }
    }

    /// Returns when there is more to do, if there is.
    fn try_snapshot(&mut self, server: usize) -> Result<Option<i64>, StoreError> {
        let is_ahead = self.plan.sabotage == Some(Sabotage::SnapshotAheadOfLog);
        // A slow disk has more of it to write meanwhile, and less of the log.
        let slowness = self.servers[server].slowness.min(10);
        let step_us = self.random.skewed(20, self.plan.tick_ms * MS / 40) * slowness;
        let Some(process) = &mut self.servers[server].process else { return Ok(None) };
        let (snapshots, position) = (&mut process.snapshots, &mut process.storage.position);
        let (hold, waits) = match std::mem::replace(&mut snapshots.stage, Stage::Idle) {
            Stage::Taking { hold, waits } => (hold, waits),
            Stage::Idle => {
                let Some(logged_bytes) = snapshots.request.take() else { return Ok(None) };
                if snapshots.snapshotter.is_due(logged_bytes) {
                    snapshots.stage = Stage::Due;
                } else {
                    self.figures.note("snapshots that are not due");
                }
                return Ok(Some(0));
            }
            Stage::Due => match position.hold() {
                Some(hold) => (hold, false),
                None => {
                    snapshots.stage = Stage::Due;
                    return Ok(Some(MS));
                }
            },
        };
        let mut is_behind = false;
        let durable = |zxid| {
            let durable = position.has(zxid);
            is_behind = durable.is_none();
            // A planted bug takes everything for durable.
            if is_ahead { Some(true) } else { durable }
        };
        let taking = match snapshots.snapshotter.step(&hold, durable) {
            Ok(taking) => taking,
            Err(error) => {
                position.release(hold);
                return Err(error);
            }
        };
        let next = match taking {
            Taking::More | Taking::Pause => {
                snapshots.stage = Stage::Taking { hold, waits: false };
                Some(step_us)
            }
            Taking::WaitsFor(_) => {
                snapshots.stage = Stage::Taking { hold, waits: true };
                Some(5 * MS)
            }
            Taking::GivenUp => {
                position.release(hold);
                self.figures.note("snapshots given up");
                Some(0)
            }
            Taking::Taken(_) => {
                self.figures.snapshots_taken += 1;
                // Old files that can't be removed are in nobody's way.
                let _ = snapshots.snapshotter.purge(&hold, SystemTime::UNIX_EPOCH);
                position.release(hold);
                // The process does not end here where the power went.
                if self.servers[server].disk.has_crashed() {
                    self.end_for_want_of_a_disk(server);
                    return Ok(None);
                }
                Some(0)
            }
        };
        if is_behind && !waits {
            self.snapshot_waits(server);
        }
        Ok(next)
    }

    fn snapshot_waits(&mut self, server: usize) {
        self.figures.note("snapshots that wait for the log");
        // A planned power cut may find out whether they do.
        if self.plan.darkens_after_cuts {
            let at_us = self.now_us + self.random.skewed(100, 10 * MS);
            let (life, why) = (self.servers[server].life, "power cuts while a snapshot waits for the log");
            self.schedule(at_us, Event::PowerCut { server, life, why });
        }
    }
}
