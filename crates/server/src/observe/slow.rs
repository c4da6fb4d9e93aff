//! Operations that took long: which, of whom, and where the time went.
//!
//! What always holds here: a few are kept, the newest; all are counted, and few are written to the log; nobody who is quick pays for it.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use parking_lot::Mutex;
use rookeeper_proto::{OpCode, SessionId, WallMs, Zxid};
use rookeeper_replica::{SlowOperation, Stamp};

use crate::clock::wall_ms;
use crate::logging::limited;

/// Operations that are kept.
const KEPT: usize = 100;

/// Syncs that are remembered, to say how long the one of an operation took.
const SYNCS: usize = 1024;

/// An operation that took long. Times are microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlowRecord {
    /// When it was answered.
    pub at_ms: WallMs,
    pub operation: String,
    /// None for what names no node.
    pub path: Option<Box<str>>,
    pub client: String,
    pub session: SessionId,
    /// Of a change.
    pub zxid: Option<Zxid>,
    pub total_us: u64,
    /// How many requests were answered together with it and took as long, itself among them. It has the largest answer of them.
    pub requests: u64,
    /// By the names of the metrics `write_stage_seconds` and `read_stage_seconds`.
    pub stages_us: Vec<(&'static str, u64)>,
}

/// When a batch of transactions was written and when it was durable.
#[derive(Debug, Clone, Copy)]
struct Sync {
    last: Zxid,
    written: Stamp,
    synced: Stamp,
}

/// What took long, and what is needed to say why.
#[derive(Debug, Default)]
pub(crate) struct SlowLog {
    newest: Mutex<VecDeque<SlowRecord>>,
    count: AtomicU64,
    syncs: Mutex<VecDeque<Sync>>,
}

impl SlowLog {
    /// Everything up to `last` was written and then synced at these times.
    pub fn note_sync(&self, last: Zxid, written: Stamp, synced: Stamp) {
        let mut syncs = self.syncs.lock();
        if syncs.len() == SYNCS {
            syncs.pop_front();
        }
        syncs.push_back(Sync { last, written, synced });
    }

    /// Keeps and tells an operation, or that many that were answered together.
    pub fn note(&self, operation: &SlowOperation, requests: u64) {
        let record = SlowRecord {
            at_ms: wall_ms(),
            operation: name(operation.op),
            path: operation.path.clone(),
            client: operation.peer.to_string(),
            session: operation.session,
            zxid: operation.zxid,
            total_us: us(operation.arrived, operation.done),
            requests,
            stages_us: self.stages(operation),
        };
        tell(&record);
        self.count.fetch_add(requests, Relaxed);
        let mut newest = self.newest.lock();
        if newest.len() == KEPT {
            newest.pop_front();
        }
        newest.push_back(record);
    }

    fn stages(&self, operation: &SlowOperation) -> Vec<(&'static str, u64)> {
        let SlowOperation { arrived, taken, handed_over, done, zxid, .. } = *operation;
        let Some(handed_over) = handed_over else {
            return vec![("queue", us(arrived, taken)), ("answer", us(taken, done))];
        };
        let mut stages = vec![("queue", us(arrived, taken)), ("prepare", us(taken, handed_over))];
        let syncs = self.syncs.lock();
        // The batch that it was in; none where this server does not log, or logged it too long ago.
        let sync = zxid.and_then(|zxid| syncs.get(syncs.partition_point(|sync| sync.last < zxid)));
        if let Some(sync) = sync.filter(|sync| sync.written >= handed_over) {
            stages.push(("log_write", us(handed_over, sync.written)));
            stages.push(("sync", us(sync.written, sync.synced)));
        }
        stages.push(("quorum", us(handed_over, done)));
        stages
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Those that are kept, the newest first.
    pub fn newest(&self) -> Vec<SlowRecord> {
        self.newest.lock().iter().rev().cloned().collect()
    }
}

fn us(from: Stamp, to: Stamp) -> u64 {
    to.ns_since(from) / 1000
}

/// As clients call it: `setData`.
pub(crate) fn name(op: OpCode) -> String {
    let name = format!("{op:?}");
    let mut characters = name.chars();
    characters.next().map_or_else(String::new, |first| first.to_lowercase().chain(characters).collect())
}

fn tell(record: &SlowRecord) {
    let SlowRecord { operation, path, client, session, total_us, requests, stages_us, .. } = record;
    let stages: Vec<String> =
        stages_us.iter().map(|(stage, us)| format!("{stage} {}.{:03}", us / 1000, us % 1000)).collect();
    // A client chose the path.
    let path = path.as_deref().map_or_else(String::new, |path| format!(" of {path:?}"));
    let others = requests.saturating_sub(1);
    let others = if others == 0 { String::new() } else { format!(" and {others} more reads that came with it") };
    limited!(
        warn,
        "slow operations",
        "{operation}{path}{others} for client {client}, session {session}, took {} ms; in its stages, in ms: {}",
        total_us / 1000,
        stages.join(", ")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Stamp {
        Stamp(ms * 1_000_000)
    }

    fn write(zxid: i64) -> SlowOperation {
        SlowOperation {
            op: OpCode::SetData,
            path: Some("/a".into()),
            peer: "10.0.0.1:5".parse().unwrap(),
            session: SessionId(7),
            zxid: Some(Zxid(zxid)),
            arrived: ms(10),
            taken: ms(11),
            handed_over: Some(ms(13)),
            done: ms(1500),
        }
    }

    #[test]
    fn a_slow_write_is_told_with_the_sync_that_it_waited_for() {
        let slow = SlowLog::default();
        slow.note_sync(Zxid(3), ms(1), ms(2));
        slow.note_sync(Zxid(6), ms(20), ms(1400));
        slow.note_sync(Zxid(9), ms(1401), ms(1402));
        slow.note(&write(5), 1);
        let newest = slow.newest();
        assert_eq!((newest[0].operation.as_str(), newest[0].total_us), ("setData", 1_490_000));
        assert_eq!(
            newest[0].stages_us,
            [("queue", 1000), ("prepare", 2000), ("log_write", 7000), ("sync", 1_380_000), ("quorum", 1_487_000)]
        );
        // The last one of a batch belongs to it.
        slow.note(&write(6), 1);
        assert_eq!(slow.newest()[0].stages_us, slow.newest()[1].stages_us);
        // What was logged before, or is not logged here, is not told.
        slow.note(&write(2), 1);
        slow.note(&write(99), 1);
        assert!(slow.newest()[..2].iter().all(|record| record.stages_us.len() == 3));
    }

    #[test]
    fn the_newest_are_kept_and_all_are_counted() {
        let slow = SlowLog::default();
        (0..250).for_each(|zxid| slow.note(&write(zxid), 1));
        let newest = slow.newest();
        assert_eq!((newest.len(), slow.count()), (KEPT, 250));
        assert_eq!((newest[0].zxid, newest[KEPT - 1].zxid), (Some(Zxid(249)), Some(Zxid(150))));
        (0..5000).for_each(|zxid| slow.note_sync(Zxid(zxid), ms(1), ms(2)));
        assert_eq!(slow.syncs.lock().len(), SYNCS);
    }

    #[test]
    fn a_slow_read_has_two_stages() {
        let slow = SlowLog::default();
        slow.note(&SlowOperation { op: OpCode::GetChildren2, zxid: None, handed_over: None, ..write(1) }, 1);
        assert_eq!(slow.newest()[0].stages_us, [("queue", 1000), ("answer", 1_489_000)]);
        assert_eq!(slow.newest()[0].operation, "getChildren2");
    }
}
