//! Requests of clients, and the connection of each: committed transactions are judged by them.
//!
//! Owns the requests for changes that are not in the history yet. The writes of a session are in the history in the order in which the
//! session sent them, across all its connections, and each at most once: an acknowledged write is never overtaken by an older one.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use rookeeper_proto::request::WriteRequest;
use rookeeper_proto::{ErrorCode, Txn, TxnRecord};

use super::Verdict;
use super::rights::User;

/// A write that a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub write: WriteRequest,
    pub user: User,
    /// Connections of one client have rising numbers.
    pub line: u64,
}

/// The writes that clients asked for and that no transaction has answered yet.
#[derive(Debug, Default)]
pub struct Requests {
    /// By session and number.
    waiting: BTreeMap<(i64, i32), Request>,
    /// The number of the last write of each session that is in the history.
    last: BTreeMap<i64, i32>,
    /// Requests in whose place a follower has sent one that no leader carries out.
    in_vain: BTreeSet<(i64, i32)>,
}

impl Requests {
    /// A client sends a write with this number of its session.
    pub fn asked(&mut self, session: i64, cxid: i32, request: Request) {
        self.waiting.insert((session, cxid), request);
    }

    /// A follower sends on, in place of what came through an observer, a request that no leader carries out: its client has left that observer.
    pub fn sent_in_vain(&mut self, session: i64, cxid: i32) {
        self.in_vain.insert((session, cxid));
    }

    /// A transaction as it is to be judged: a refusal of what was sent in vain is one of a session that has moved, which the leader could not see.
    pub fn as_meant<'a>(&self, record: &'a TxnRecord) -> Cow<'a, TxnRecord> {
        let is_refused = matches!(record.txn, Txn::Error { code } if code == ErrorCode::BadArguments.number());
        if !is_refused || !self.in_vain.contains(&(record.header.session.0, record.header.cxid)) {
            return Cow::Borrowed(record);
        }
        Cow::Owned(TxnRecord { txn: Txn::Error { code: ErrorCode::SessionMoved.number() }, ..record.clone() })
    }

    /// The write with this number of its session, while it waits.
    pub fn get(&self, session: i64, cxid: i32) -> Option<&Request> {
        self.waiting.get(&(session, cxid))
    }

    /// A transaction is committed. What servers ask for themselves has number 0.
    pub fn committed(&mut self, record: &TxnRecord) -> Result<Option<Request>, String> {
        let (session, cxid) = (record.header.session.0, record.header.cxid);
        if cxid == 0 {
            return Ok(None);
        }
        let request = self.waiting.remove(&(session, cxid));
        // A request of a connection that was left may come late. It is refused for that, and for nothing else.
        if !is_refused_unread(&record.txn) {
            self.in_order(record, session, cxid)?;
            self.last.insert(session, cxid);
        }
        Ok(request)
    }

    fn in_order(&self, record: &TxnRecord, session: i64, cxid: i32) -> Verdict {
        match self.last.get(&session) {
            Some(last) if *last >= cxid => Err(format!(
                "write order: request {cxid} of session {session:x} took effect at {} behind its request {last}",
                record.header.zxid
            )),
            _ => Ok(()),
        }
    }
}

/// Whether a request was refused for the sake of its session, whatever it asked for.
pub fn is_refused_unread(txn: &Txn) -> bool {
    let codes = [ErrorCode::SessionMoved.number(), ErrorCode::SessionExpired.number()];
    matches!(txn, Txn::Error { code } if codes.contains(code))
}

#[cfg(test)]
mod tests {
    use rookeeper_proto::{SessionId, TxnHeader, Zxid};

    use super::*;

    fn record(zxid: u64, cxid: i32, txn: Txn) -> TxnRecord {
        let header = TxnHeader { session: SessionId(7), cxid, zxid: Zxid(zxid as i64), time_ms: 0 };
        TxnRecord { header, txn, digest: None }
    }

    #[test]
    fn an_older_write_behind_a_newer_one_is_seen() {
        let set = || Txn::SetData { path: "/a".to_owned(), data: None, version: 1 };
        let moved = Txn::Error { code: ErrorCode::SessionMoved.number() };
        let missing = Txn::Error { code: ErrorCode::NoNode.number() };
        let mut requests = Requests::default();
        assert_eq!(requests.committed(&record(1, 3, set())), Ok(None));
        assert_eq!(requests.committed(&record(2, 2, moved)), Ok(None));
        assert_eq!(requests.committed(&record(3, 0, set())), Ok(None), "a server asked for it");
        for late in [record(4, 2, set()), record(4, 3, set()), record(4, 2, missing)] {
            assert!(requests.committed(&late).unwrap_err().starts_with("write order: "));
        }
        assert_eq!(requests.committed(&record(5, 4, set())), Ok(None));
    }
}
