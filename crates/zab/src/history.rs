//! The recent end of this server's log, in memory: committed transactions for learners that fell behind a little, and behind them
//! those that are not committed yet.
//!
//! What always holds here: the records follow one another without a gap; what is committed is never cut off; only what is both
//! committed and durable here leaves the memory at the old end, so that the log on disk always continues to the left. A leader with a gap here
//! would hand the gap on to its learners (ZOOKEEPER-4925).

use std::collections::VecDeque;
use std::sync::Arc;

use rookeeper_proto::Zxid;
use rookeeper_proto::quorum::QuorumPacket;

/// One transaction as it goes over the wire: a whole PROPOSAL packet, which holds the record that goes into the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the order.
    pub zxid: Zxid,
    packet: Arc<[u8]>,
}

/// Type, zxid and length before the record in a packet; the list of identities, null, behind it.
const PACKET_HEAD: usize = 16;
const PACKET_TAIL: usize = 4;

impl Record {
    /// `body` is what the log stores: header, transaction, digest.
    pub fn new(zxid: Zxid, body: &[u8]) -> Record {
        let mut buffer = RecordBuffer::default();
        buffer.write(zxid, |output| output.extend_from_slice(body));
        buffer.record()
    }

    /// What the log stores.
    pub fn body(&self) -> &[u8] {
        &self.packet[PACKET_HEAD..self.packet.len() - PACKET_TAIL]
    }

    /// The PROPOSAL packet.
    pub fn proposal(&self) -> Arc<[u8]> {
        self.packet.clone()
    }
}

/// Where the packet of a record is put together before it is shared, so that a record costs one allocation and no growing.
#[derive(Debug, Default)]
pub struct RecordBuffer {
    zxid: Zxid,
    packet: Vec<u8>,
}

/// Room that is kept for the next record.
const KEPT_BUFFER_BYTES: usize = 64 << 10;

impl RecordBuffer {
    /// Begins a record in place of the one before; `write` appends what the log stores. Returns how many bytes that is.
    pub fn write(&mut self, zxid: Zxid, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let packet = &mut self.packet;
        packet.clear();
        QuorumPacket::Proposal { zxid, record: &[] }.append(packet);
        let mut tail = [0; PACKET_TAIL];
        tail.copy_from_slice(&packet[PACKET_HEAD..]);
        packet.truncate(PACKET_HEAD);
        write(packet);
        let length = packet.len() - PACKET_HEAD;
        packet[PACKET_HEAD - size_of::<i32>()..PACKET_HEAD].copy_from_slice(&(length as i32).to_be_bytes());
        packet.extend_from_slice(&tail);
        self.zxid = zxid;
        length
    }

    /// The record that was written last.
    pub fn record(&mut self) -> Record {
        let record = Record { zxid: self.zxid, packet: self.packet.as_slice().into() };
        self.packet.clear();
        self.packet.shrink_to(KEPT_BUFFER_BYTES);
        record
    }
}

/// A transaction that can't stand where it was to be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Where the history ends.
    pub last: Zxid,
    /// What was to come behind that.
    pub next: Zxid,
}

/// See the head of this file.
#[derive(Debug)]
pub struct History {
    records: VecDeque<Record>,
    /// The zxid right before the first record in memory; everything up to it is committed, and on this server's disk.
    start: Zxid,
    committed: Zxid,
    durable: Zxid,
    /// Committed records that are kept.
    keep: usize,
    bytes: usize,
}

/// The committed records kept take no more than this, however few they are then; the log on disk has them all.
const MAX_KEPT_BYTES: usize = 64 << 20;

impl History {
    /// A history of which everything up to `last` is on disk. What of that is committed is for the next leader to say; until then
    /// nothing of it can be told apart, and all of it counts as this server's.
    pub fn new(last: Zxid, keep: usize) -> History {
        History { records: VecDeque::new(), start: last, committed: last, durable: last, keep, bytes: 0 }
    }

    /// Takes the next transaction.
    pub fn push(&mut self, record: Record) -> Result<(), Gap> {
        let last = self.last();
        if !record.zxid.follows(last) {
            return Err(Gap { last, next: record.zxid });
        }
        self.bytes += record.packet.len();
        self.records.push_back(record);
        self.check();
        Ok(())
    }

    /// The end, committed or not, durable or not.
    pub fn last(&self) -> Zxid {
        self.records.back().map_or(self.start, |record| record.zxid)
    }

    /// The zxid before the first record in memory.
    pub fn start(&self) -> Zxid {
        self.start
    }

    /// Up to here everything is committed.
    pub fn committed(&self) -> Zxid {
        self.committed
    }

    /// Up to here everything is on this server's disk.
    pub fn durable(&self) -> Zxid {
        self.durable
    }

    /// Everything up to here is committed.
    pub fn commit(&mut self, zxid: Zxid) {
        assert!(zxid <= self.last(), "{zxid} was committed, but history ends at {}", self.last());
        self.committed = self.committed.max(zxid);
        self.evict();
        self.check();
    }

    /// Everything up to here is on this server's disk.
    pub fn synced(&mut self, zxid: Zxid) {
        self.durable = self.durable.max(zxid.min(self.last()));
        self.evict();
        self.check();
    }

    /// Records after `zxid`, oldest first.
    pub fn after(&self, zxid: Zxid) -> impl Iterator<Item = &Record> {
        let index = self.records.partition_point(|record| record.zxid <= zxid);
        self.records.range(index..)
    }

    /// Drops what comes after `zxid`. Where that is before everything in memory, the history ends at `zxid` on disk.
    pub fn truncate(&mut self, zxid: Zxid) {
        while self.records.back().is_some_and(|record| record.zxid > zxid) {
            if let Some(record) = self.records.pop_back() {
                self.bytes -= record.packet.len();
            }
        }
        if zxid < self.start {
            self.start = zxid;
        }
        self.committed = self.committed.min(self.last());
        self.durable = self.durable.min(self.last());
        self.check();
    }

    /// Begins anew behind a snapshot.
    pub fn reset(&mut self, zxid: Zxid) {
        *self = History::new(zxid, self.keep);
    }

    /// What always holds of the ends. Whether there is a gap is checked by [`History::push`].
    fn check(&self) {
        let (start, last) = (self.start, self.last());
        assert!(
            start <= self.committed && self.committed <= last,
            "committed to {} of {start} to {last}",
            self.committed
        );
        assert!(start <= self.durable && self.durable <= last, "durable to {} of {start} to {last}", self.durable);
    }

    fn evict(&mut self) {
        let removable = self.committed.min(self.durable);
        while self.records.front().is_some_and(|record| record.zxid <= removable)
            && (self.committed_len_exceeds_keep() || self.bytes > MAX_KEPT_BYTES)
        {
            if let Some(record) = self.records.pop_front() {
                self.bytes -= record.packet.len();
                self.start = record.zxid;
            }
        }
    }

    /// Whether more committed records are kept than are wanted.
    fn committed_len_exceeds_keep(&self) -> bool {
        self.records.get(self.keep).is_some_and(|record| record.zxid <= self.committed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(count: i64) -> History {
        let mut history = History::new(Zxid(10), 3);
        for zxid in 11..11 + count {
            history.push(Record::new(Zxid(zxid), b"body")).unwrap();
        }
        history
    }

    fn zxids(history: &History, after: i64) -> Vec<i64> {
        history.after(Zxid(after)).map(|record| record.zxid.0).collect()
    }

    #[test]
    fn a_record_is_a_packet_around_a_body() {
        let record = Record::new(Zxid(7), b"body");
        assert_eq!(record.body(), b"body");
        let (packet, length) = QuorumPacket::split(&record.packet, 100).unwrap().unwrap();
        assert_eq!((packet, length), (QuorumPacket::Proposal { zxid: Zxid(7), record: b"body" }, record.packet.len()));
    }

    #[test]
    fn only_what_is_committed_and_durable_leaves_memory() {
        let mut history = history(6);
        history.commit(Zxid(15));
        assert_eq!(history.start(), Zxid(10));
        history.synced(Zxid(12));
        assert_eq!((history.start(), history.last()), (Zxid(12), Zxid(16)));
        history.synced(Zxid(16));
        assert_eq!((history.start(), history.committed()), (Zxid(12), Zxid(15)));
        assert_eq!(zxids(&history, 14), [15, 16]);
    }

    #[test]
    fn gaps_are_refused_and_new_epochs_begin_at_one() {
        let mut history = history(1);
        let gap = history.push(Record::new(Zxid(13), b"")).unwrap_err();
        assert_eq!(gap, Gap { last: Zxid(11), next: Zxid(13) });
        assert!(history.push(Record::new(Zxid::new(1, 2), b"")).is_err());
        history.push(Record::new(Zxid::new(1, 1), b"")).unwrap();
        assert_eq!(history.last(), Zxid::new(1, 1));
    }

    #[test]
    fn truncation_drops_the_end() {
        let mut history = history(4);
        history.synced(Zxid(14));
        history.truncate(Zxid(12));
        assert_eq!((history.last(), history.durable()), (Zxid(12), Zxid(12)));
        history.truncate(Zxid(4));
        assert_eq!((history.start(), history.last(), history.committed()), (Zxid(4), Zxid(4), Zxid(4)));
    }
}
