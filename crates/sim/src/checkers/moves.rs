//! A session that another connection has taken over has left the older connection: no request from the older connection is applied any more.
//! A request is refused for a moved session only where the session has tried another connection.
//!
//! Owns which connections of a session were tried and granted, and which proposals were made too late. A proposal of a leader that has
//! been deposed may be late: only committing it would be wrong.

use std::collections::{BTreeMap, BTreeSet};

use rookeeper_proto::{ErrorCode, Txn, TxnRecord, Zxid};

use super::Verdict;
use super::requests::{Request, is_refused_unread};

/// Which connection of each session is the newest, to find requests that were taken from an older one.
#[derive(Debug, Default)]
pub struct Moves {
    /// The connections on which clients asked for a session.
    tried: BTreeMap<i64, BTreeSet<u64>>,
    /// The newest on which the client was told that it has the session.
    granted: BTreeMap<i64, u64>,
    /// Proposals of what came over a connection older than that.
    late: BTreeMap<Zxid, String>,
}

impl Moves {
    /// A client asks for its session on a connection.
    pub fn tried(&mut self, session: i64, line: u64) {
        self.tried.entry(session).or_default().insert(line);
    }

    /// The client is told on this connection that it has the session.
    pub fn granted(&mut self, session: i64, line: u64) {
        let newest = self.granted.entry(session).or_default();
        *newest = line.max(*newest);
    }

    /// A leader proposes something; `request` is what was asked for, if a client did.
    pub fn proposed(&mut self, record: &TxnRecord, request: Option<&Request>) {
        let (zxid, session) = (record.header.zxid, record.header.session.0);
        self.late.remove(&zxid);
        let (Some(request), Some(granted)) = (request, self.granted.get(&session)) else { return };
        if request.line < *granted && !is_refused_unread(&record.txn) {
            let (cxid, line) = (record.header.cxid, request.line);
            let what = format!(
                "session moved: request {cxid} of session {session:x} came over connection {line} and was proposed as {zxid} \
                 after the session had been granted on connection {granted}"
            );
            self.late.insert(zxid, what);
        }
    }

    /// A transaction is committed. An error where it came over a connection that another one had replaced.
    pub fn committed(&mut self, record: &TxnRecord, request: Option<&Request>) -> Verdict {
        let (zxid, session) = (record.header.zxid, record.header.session.0);
        if let Some(late) = self.late.remove(&zxid) {
            return Err(late);
        }
        let is_moved = matches!(record.txn, Txn::Error { code } if code == ErrorCode::SessionMoved.number());
        if let (true, Some(request)) = (is_moved, request) {
            let others = self.tried.get(&session).is_some_and(|tried| tried.iter().any(|line| *line != request.line));
            if !others {
                return Err(format!(
                    "session moved: request {} of session {session:x} was refused at {zxid} as one of a session that has \
                     moved, but its client never went elsewhere",
                    record.header.cxid
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rookeeper_proto::request::WriteRequest;
    use rookeeper_proto::{SessionId, TxnHeader};

    use super::*;

    fn record(zxid: i64, txn: Txn) -> TxnRecord {
        TxnRecord {
            header: TxnHeader { session: SessionId(7), cxid: 5, zxid: Zxid(zxid), time_ms: 0 },
            txn,
            digest: None,
        }
    }

    #[test]
    fn what_comes_over_a_connection_that_was_left_is_not_committed() {
        let over = |line| Request { write: WriteRequest::CloseSession, user: 0, line };
        let set = || Txn::SetData { path: "/a".to_owned(), data: None, version: 1 };
        let moved = || Txn::Error { code: ErrorCode::SessionMoved.number() };
        let mut moves = Moves::default();
        moves.granted(7, 1);
        moves.proposed(&record(1, set()), Some(&over(1)));
        assert!(moves.committed(&record(2, moved()), Some(&over(1))).unwrap_err().contains("never went elsewhere"));
        moves.tried(7, 2);
        moves.granted(7, 2);
        assert_eq!(moves.committed(&record(1, set()), Some(&over(1))), Ok(()), "it was proposed before");
        moves.proposed(&record(3, moved()), Some(&over(1)));
        assert_eq!(moves.committed(&record(3, moved()), Some(&over(1))), Ok(()));
        moves.proposed(&record(4, set()), Some(&over(1)));
        assert!(moves.committed(&record(4, set()), Some(&over(1))).unwrap_err().contains("connection 1"));
        moves.proposed(&record(5, set()), Some(&over(2)));
        assert_eq!(moves.committed(&record(5, set()), Some(&over(2))), Ok(()));
    }
}
