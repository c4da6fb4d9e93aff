//! What is proposed, and who has it on disk.
//!
//! What always holds here: numbers are handed out without gaps; an acknowledgement covers everything before it, because each server
//! writes its log in order; what is committed stays committed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rookeeper_proto::{ServerId, Zxid};

use crate::history::Record;

#[derive(Debug)]
pub(super) struct Book {
    committed: Zxid,
    proposed: Zxid,
    outstanding: VecDeque<Record>,
    acknowledged: BTreeMap<ServerId, Zxid>,
}

impl Book {
    /// Everything up to `last` is committed.
    pub fn new(last: Zxid) -> Book {
        Book { committed: last, proposed: last, outstanding: VecDeque::new(), acknowledged: BTreeMap::new() }
    }

    pub fn proposed(&self) -> Zxid {
        self.proposed
    }

    pub fn committed(&self) -> Zxid {
        self.committed
    }

    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    pub fn next(&self) -> Zxid {
        self.proposed.next().unwrap_or_else(|| Zxid::new(self.proposed.epoch() + 1, 1))
    }

    pub fn propose(&mut self, record: &Record) {
        assert_eq!(record.zxid, self.next(), "transactions follow one another");
        self.proposed = record.zxid;
        self.outstanding.push_back(record.clone());
    }

    pub fn acknowledge(&mut self, server: ServerId, zxid: Zxid) {
        let mark = self.acknowledged.entry(server).or_insert(zxid);
        *mark = zxid.max(*mark);
    }

    /// The server begins anew, and may be told to cut its log: what it had counts no more.
    pub fn forget(&mut self, server: ServerId) {
        self.acknowledged.remove(&server);
    }

    pub fn acknowledged(&self, server: ServerId) -> Zxid {
        self.acknowledged.get(&server).copied().unwrap_or(Zxid::ZERO)
    }

    /// How far a quorum is, if that is further than what is committed; not further than `limit`.
    pub fn reached(&self, limit: Option<Zxid>, is_quorum: impl Fn(&BTreeSet<ServerId>) -> bool) -> Option<Zxid> {
        let mut marks: Vec<(Zxid, ServerId)> = self
            .acknowledged
            .iter()
            .map(|(server, zxid)| ((*zxid).min(limit.unwrap_or(self.proposed)).min(self.proposed), *server))
            .filter(|(zxid, _)| *zxid > self.committed)
            .collect();
        marks.sort_unstable_by(|one, other| other.cmp(one));
        let mut have_it = BTreeSet::new();
        for (zxid, server) in marks {
            have_it.insert(server);
            if is_quorum(&have_it) {
                return Some(zxid);
            }
        }
        None
    }

    /// Takes out what is committed now, in order.
    pub fn commit(&mut self, zxid: Zxid) -> Vec<Record> {
        self.committed = zxid;
        let count = self.outstanding.partition_point(|record| record.zxid <= zxid);
        self.outstanding.drain(..count).collect()
    }
}
