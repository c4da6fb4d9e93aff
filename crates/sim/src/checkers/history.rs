//! Every server delivers the same transactions in the same order, without gaps, and has the same state at the same zxid.
//!
//! The first server to apply a transaction writes it into the chronicle; all others are compared with it, byte by byte, and by the
//! digests of their trees.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::Arc;

use rookeeper_proto::{Txn, TxnRecord, Zxid};
use rookeeper_tree::Tree;

use super::Verdict;
use super::model::Model;
use super::moves::Moves;
use super::refusals::Refusals;
use super::requests::Requests;

/// Every transaction that a server applied, and the checkers that look at them in order.
#[derive(Debug, Default)]
pub struct Chronicle {
    committed: BTreeMap<Zxid, Entry>,
    digests: BTreeMap<Zxid, i64>,
    /// Everything that was ever logged anywhere, committed or not.
    proposed: BTreeMap<Zxid, Arc<[u8]>>,
    pub model: Model,
    pub requests: Requests,
    pub moves: Moves,
    pub refusals: Refusals,
}

/// A committed transaction.
#[derive(Debug)]
pub struct Entry {
    pub body: Arc<[u8]>,
    pub session: i64,
    pub cxid: i32,
    /// The error code with which the request was refused, or 0. A multi that failed does not count as refused.
    pub err: i32,
    /// No transaction stands here: the state of this one took the place of the one before.
    pub restored: Option<Zxid>,
    /// Virtual microseconds.
    pub first_applied_us: i64,
}

impl Chronicle {
    /// The newest committed transaction; zero where there is none.
    pub fn last(&self) -> Zxid {
        self.committed.last_key_value().map_or(Zxid::ZERO, |(zxid, _)| *zxid)
    }

    /// How many transactions are committed.
    pub fn len(&self) -> usize {
        self.committed.len()
    }

    /// Whether nothing was ever committed.
    pub fn is_empty(&self) -> bool {
        self.committed.is_empty()
    }

    /// The committed transaction with this zxid.
    pub fn entry(&self, zxid: Zxid) -> Option<&Entry> {
        self.committed.get(&zxid)
    }

    /// All committed transactions, the oldest first.
    pub fn records(&self) -> impl Iterator<Item = (Zxid, &Entry)> {
        self.committed.iter().map(|(zxid, entry)| (*zxid, entry))
    }

    /// A server logs a transaction. There is never another one of the same zxid.
    pub fn proposed(&mut self, server: usize, zxid: Zxid, body: Arc<[u8]>) -> Verdict {
        let known = self.proposed.entry(zxid).or_insert_with(|| body.clone());
        if *known != body {
            return Err(format!("history: server {server} logs another transaction {zxid} than others did"));
        }
        Ok(())
    }

    /// The transactions that follow the last committed one without a gap, within its epoch.
    pub fn missing_up_to(&self, zxid: Zxid) -> Vec<(Zxid, Arc<[u8]>)> {
        let mut found = Vec::new();
        let mut next = self.last().next();
        while let Some(wanted) = next.filter(|next| *next <= zxid)
            && let Some(body) = self.proposed.get(&wanted)
        {
            found.push((wanted, body.clone()));
            next = wanted.next();
        }
        found
    }

    /// A server has applied this transaction. Returns whether it is the first server to do so.
    pub fn applied(&mut self, server: usize, now_us: i64, zxid: Zxid, body: &[u8]) -> Result<bool, String> {
        if let Some(entry) = self.committed.get(&zxid) {
            if *entry.body != *body {
                return Err(format!("history: server {server} applied another transaction {zxid} than others did"));
            }
            return Ok(false);
        }
        let last = self.last();
        let follows = last.next() == Some(zxid) || (zxid.epoch() > last.epoch() && zxid.counter() == 1);
        if !follows {
            return Err(format!("history: server {server} applied {zxid}, which nobody else has, after {last}"));
        }
        let record = TxnRecord::decode(body).map_err(|error| format!("history: {zxid} can't be read: {error}"))?;
        if record.header.zxid != zxid {
            return Err(format!("history: {zxid} holds a transaction {}", record.header.zxid));
        }
        let meant = self.requests.as_meant(&record);
        let request = self.requests.committed(&meant)?;
        self.moves.committed(&meant, request.as_ref())?;
        self.refusals.committed(&self.model, &meant, request.as_ref())?;
        self.model.apply(&record)?;
        let (session, cxid) = (record.header.session.0, record.header.cxid);
        let err = match record.txn {
            Txn::Error { code } => code,
            _ => 0,
        };
        self.committed
            .insert(zxid, Entry { body: body.into(), session, cxid, err, restored: None, first_applied_us: now_us });
        Ok(true)
    }

    /// A server alone goes on at `zxid` from the state that it had after `from`, without sessions.
    pub fn restored(&mut self, now_us: i64, zxid: Zxid, from: Zxid) -> Verdict {
        let last = self.last();
        if zxid <= last || zxid <= from {
            return Err(format!("restores: the tree of {from} is restored as of {zxid}, but {last} was there"));
        }
        self.model.restored(zxid, from);
        let entry =
            Entry { body: Arc::default(), session: 0, cxid: 0, err: 0, restored: Some(from), first_applied_us: now_us };
        self.committed.insert(zxid, entry);
        Ok(())
    }

    /// The tree after `zxid`, made from the transactions.
    pub fn tree_at(&self, zxid: Zxid) -> Result<Tree, String> {
        let mut before = self.committed.range(..=zxid).rev();
        let (mut tree, first) = match before.find_map(|(at, entry)| Some((*at, entry.restored?))) {
            Some((at, from)) => (self.tree_restored(at, from)?, Excluded(at)),
            None => (Tree::new(), Unbounded),
        };
        for (_, entry) in self.committed.range((first, Included(zxid))) {
            let record = TxnRecord::decode(&entry.body).map_err(|error| error.to_string())?;
            tree.apply(&record.header, record.txn, &mut Vec::new());
        }
        Ok(tree)
    }

    /// The tree that is restored as of `zxid` from the state after `from`.
    pub fn tree_restored(&self, zxid: Zxid, from: Zxid) -> Result<Tree, String> {
        let mut tree = self.tree_at(from)?;
        tree.finish_without_sessions();
        tree.set_last_zxid(zxid);
        Ok(tree)
    }

    /// The state of a server that has applied everything up to `zxid` and nothing else.
    pub fn digest(&mut self, server: usize, zxid: Zxid, digest: i64) -> Verdict {
        let known = *self.digests.entry(zxid).or_insert(digest);
        if known != digest {
            return Err(format!("history: server {server} has digest {digest:x} at {zxid}, others have {known:x}"));
        }
        Ok(())
    }

    /// The same for a state that may hold what is not committed.
    pub fn compare_digest(&self, server: usize, zxid: Zxid, digest: i64) -> Verdict {
        match self.digests.get(&zxid) {
            Some(known) if *known != digest => Err(format!(
                "history: server {server} came back with digest {digest:x} at {zxid}, others have {known:x}"
            )),
            _ => Ok(()),
        }
    }
}
