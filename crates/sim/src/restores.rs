//! An operator who wants an earlier state back: a server alone is given the tree of a transaction that it has had, while clients write.
//!
//! What always holds here:
//! - the tree is what the committed transactions give, so it is known what the server must have afterwards;
//! - a restore counts once it is answered, and may count once it is with the storage; what a crash leaves of it is told by the next start;
//! - what was answered outlives a power cut at that moment.

use rookeeper_proto::random::Random;
use rookeeper_proto::{Epoch, Zxid};
use rookeeper_replica::{Input, NotRestored};
use rookeeper_store::recover;

use crate::faults::Sabotage;
use crate::server::recovery;
use crate::world::{Event, MS, World};

/// A restore that is planned.
#[derive(Debug, Clone)]
pub struct PlannedRestore {
    pub at_us: i64,
    /// Which transaction's state.
    pub draw: u64,
    /// The snapshot comes from a server that has led, or been led, for so many epochs more.
    pub epochs_ahead: u32,
}

/// A restore that is on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Restoring {
    /// Whose state.
    from: Zxid,
    /// Its place in the history, once it is with the storage.
    zxid: Option<Zxid>,
    since_ms: i64,
}

/// The restores of the life of a seed. Drawn apart from everything else.
pub(crate) fn of_seed(seed: u64, servers: usize, safety_us: i64) -> Vec<PlannedRestore> {
    let mut random = Random::new(seed ^ 0x7265_7374_6f72);
    if servers != 1 || random.one_in(4) {
        return Vec::new();
    }
    let count = random.between(1, 8);
    let restores = (0..count).map(|_| PlannedRestore {
        at_us: random.between(safety_us / 20, safety_us),
        draw: random.draw(),
        epochs_ahead: if random.one_in(4) { random.between(1, 3) as u32 } else { 0 },
    });
    restores.collect()
}

impl World {
    /// The operator hands the server a tree, or tries again later.
    pub(crate) fn begin_restore(&mut self, index: usize) {
        const SERVER: usize = 0;
        let PlannedRestore { draw, epochs_ahead, .. } = self.plan.restores[index];
        let this = &self.servers[SERVER];
        if self.healed {
            return;
        }
        if this.process.is_none() || this.frozen || this.restoring.is_some() || self.chronicle.is_empty() {
            return self.schedule(self.now_us + 50 * MS, Event::Restore { index });
        }
        let from = match draw % 4 {
            0 => self.chronicle.last(),
            _ => self
                .chronicle
                .records()
                .nth(draw as usize / 4 % self.chronicle.len())
                .map_or(Zxid::ZERO, |(zxid, _)| zxid),
        };
        let mut tree = match self.chronicle.tree_at(from) {
            Ok(tree) => tree,
            Err(problem) => return self.violated(problem),
        };
        match self.plan.sabotage {
            Some(Sabotage::RestoresSessions) => tree.finish_replay(),
            _ => tree.finish_without_sessions(),
        };
        if epochs_ahead > 0 {
            let last = self.chronicle.last();
            tree.set_last_zxid(Zxid::new(Epoch(last.epoch().0 + epochs_ahead), 1 + draw as u32 % 1000));
        }
        self.figures.note("trees to be restored");
        self.note(60, SERVER as u64, from.0 as u64, || format!("the operator wants the tree of {from} restored"));
        self.servers[SERVER].restoring = Some(Restoring { from, zxid: None, since_ms: self.now_ms() });
        self.feed(SERVER, Input::Restore { tree: Box::new(tree) });
    }

    /// The storage is asked for it.
    pub(crate) fn note_restore_asked(&mut self, server: usize, zxid: Zxid) {
        if let Some(restoring) = &mut self.servers[server].restoring {
            restoring.zxid = Some(zxid);
        }
    }

    /// The server says what became of it.
    pub(crate) fn note_restored(&mut self, server: usize, restored: &Result<Zxid, NotRestored>) {
        self.note(61, server as u64, 0, || format!("server {}: a tree is restored: {restored:?}", server + 1));
        let Some(restoring) = self.servers[server].restoring.take() else {
            return self.violated(format!("restores: server {} answers what nobody asked for", server + 1));
        };
        let now_ms = self.now_ms();
        self.expiry.stood_still(server, restoring.since_ms, now_ms);
        let Ok(zxid) = restored else {
            return self.figures.note("trees that could not be restored");
        };
        self.figures.note("trees restored");
        self.has_restored(server, *zxid, restoring.from);
        let disk = self.servers[server].after_power_cut(self.now_us as u64);
        let found = recover(&disk, &self.servers[server].directories, &recovery(true));
        match found {
            Ok(found) if found.tree.last_zxid() == *zxid => {}
            Ok(found) => self.violated(format!(
                "restores: server {} says that a tree is restored as of {zxid}, but a power cut would leave {}",
                server + 1,
                found.tree.last_zxid()
            )),
            Err(error) => self.violated(format!("restores: a power cut would leave nothing to start from: {error}")),
        }
    }

    /// After a start that has found `last`: whether a restore that was not answered is done.
    pub(crate) fn settle_restore(&mut self, server: usize, last: Zxid) {
        let Some(Restoring { from, zxid: Some(zxid), .. }) = self.servers[server].restoring.take() else { return };
        if last == zxid {
            self.figures.note("trees restored by a start");
            self.has_restored(server, zxid, from);
        } else {
            self.figures.note("restores that a crash took back");
        }
    }

    fn has_restored(&mut self, server: usize, zxid: Zxid, from: Zxid) {
        self.servers[server].promises.durable = zxid;
        let verdict = self.chronicle.restored(self.now_us, zxid, from);
        self.judge(verdict);
    }
}
