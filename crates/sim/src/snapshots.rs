//! Snapshots that servers take of themselves. As in the shipping server the tree changes while it is being written, so that a snapshot shows a
//! part of what comes behind its zxid.
//!
//! What always holds here: a snapshot has its name only when everything that it may show is in the log on disk.

use std::sync::Arc;
use std::time::SystemTime;

use rookeeper_proto::{TxnRecord, Zxid};
use rookeeper_replica::Serving;
use rookeeper_store::{PurgeOptions, SnapshotOptions, StoreError, write_snapshot};
use rookeeper_tree::Tree;
use rookeeper_tree::builder::TreeBuilder;

use crate::faults::Sabotage;
use crate::world::{Event, MS, World};

/// So little that there are several portions.
const PORTION_BYTES: usize = 300;

/// A tree as it was when a snapshot of it was begun.
#[derive(Debug)]
pub(crate) struct Begun {
    tree: Tree,
    at: Zxid,
    waits: bool,
}

impl World {
    /// A snapshot begins, or what was begun is written.
    pub(crate) fn snapshot(&mut self, server: usize) {
        let life = self.servers[server].life;
        let until_us = self.servers[server].disk_hangs_until_us;
        if self.now_us < until_us {
            self.schedule(until_us.min(self.now_us + 10 * MS), Event::Snapshot { server, life });
            return;
        }
        let Some(process) = &mut self.servers[server].process else { return };
        if !matches!(process.serving, Serving::Deciding | Serving::Forwarding) {
            (process.snapshot_due, process.snapshot) = (false, None);
            return;
        }
        let (applied, is_busy) = (process.applied, process.storage.is_busy());
        let Some(begun) = process.snapshot.take() else {
            let tree = process.shared.tree();
            let (at, copied) = (tree.last_zxid(), copy(&tree));
            drop(tree);
            process.snapshot = Some(Begun { tree: copied, at, waits: false });
            // A slow disk has more of it to write meanwhile, and less of the log.
            let slowness = self.servers[server].slowness.min(10);
            let at_us = self.now_us + self.random.skewed(100, self.plan.tick_ms * MS / 4) * slowness;
            self.schedule(at_us, Event::Snapshot { server, life });
            return;
        };
        let is_behind = is_busy || applied > self.servers[server].promises.durable;
        let waits = is_behind && self.plan.sabotage != Some(Sabotage::SnapshotAheadOfLog);
        if is_behind && !begun.waits {
            self.figures.note("snapshots that wait for the log");
            // A planned power cut may find out whether they do.
            if self.plan.darkens_after_cuts && self.random.one_in(2) {
                let at_us = self.now_us + self.random.skewed(100, 10 * MS);
                let why = "power cuts while a snapshot waits for the log";
                self.schedule(at_us, Event::PowerCut { server, life, why });
            }
        }
        if waits {
            if let Some(process) = &mut self.servers[server].process {
                process.snapshot = Some(Begun { waits: true, ..begun });
            }
            self.schedule(self.now_us + 5 * MS, Event::Snapshot { server, life });
            return;
        }
        let draw = self.random.draw();
        let written = self.write_begun(server, begun, draw);
        self.figures.snapshots_taken += 1;
        if let Err(error) = written {
            self.note(13, server as u64, 0, || format!("server {} can't take a snapshot: {error}", server + 1));
            if self.servers[server].disk.has_crashed() {
                self.stop(server, true);
                let life = self.servers[server].life;
                self.schedule(self.now_us + 1000 * MS, Event::Start { server, life });
            }
        }
    }

    /// What was applied since it was begun is applied to its tree between the portions.
    fn write_begun(&mut self, server: usize, begun: Begun, mut draw: u64) -> Result<(), StoreError> {
        let this = &mut self.servers[server];
        let Some(process) = &mut this.process else { return Ok(()) };
        process.snapshot_due = false;
        let Begun { mut tree, at, .. } = begun;
        let since: Vec<Arc<[u8]>> =
            this.log.range(Zxid(at.0 + 1)..Zxid(process.applied.max(at).0 + 1)).map(|(_, body)| body.clone()).collect();
        let mut since = since.into_iter();
        let mut looks = 0;
        write_snapshot(
            &this.disk,
            &this.directories.snapshot_dir,
            &SnapshotOptions { portion_bytes: PORTION_BYTES, ..SnapshotOptions::default() },
            &mut |read| {
                let count = if looks == 0 { 0 } else { draw as usize & 7 };
                for body in since.by_ref().take(count) {
                    let record = TxnRecord::decode(&body).expect("what was applied can be read");
                    tree.apply(&record.header, record.txn, &mut Vec::new());
                }
                (looks, draw) = (looks + 1, draw.rotate_right(3));
                read(&tree);
            },
            &mut |_| Ok(()),
        )?;
        let options = PurgeOptions { retain_snapshots: 2, ..PurgeOptions::default() };
        process.purger.purge(&this.disk, &this.directories, &options, SystemTime::UNIX_EPOCH).map(drop)
    }
}

fn copy(tree: &Tree) -> Tree {
    const WHOLE: &str = "it is the tree of a server";
    let (head, mut walk) = tree.begin_snapshot();
    let mut builder = TreeBuilder::new();
    for entry in &head.sessions {
        builder.add_session(entry.session, entry.timeout_ms);
    }
    for (id, list) in &head.acls {
        builder.add_acl(*id, list.to_vec()).expect(WHOLE);
    }
    while walk.next_chunk(tree, 1 << 20, &mut |entry| {
        builder.add_node(&entry.path, entry.data.map(|data| data.0), entry.acl_id, entry.stat).expect(WHOLE);
    }) {}
    builder.finish(tree.last_zxid()).expect(WHOLE)
}
