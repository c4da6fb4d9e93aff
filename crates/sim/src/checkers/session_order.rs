//! A session's answers come in the order of its requests, one each, and what it sees never goes back in time, also across servers.

use rookeeper_proto::Zxid;

use super::Verdict;

/// The newest state that a session has seen: it must never see an older one.
#[derive(Debug, Default)]
pub struct SessionOrder {
    last_seen: Zxid,
    last_answered: Zxid,
}

impl SessionOrder {
    /// The newest state that an answer or an event has shown to the session.
    pub fn last_seen(&self) -> Zxid {
        self.last_seen
    }

    /// The same of answers alone. Of several events of one transaction some may have been lost with a connection, so this is what counts where
    /// watches are renewed.
    pub fn last_answered(&self) -> Zxid {
        self.last_answered
    }

    /// `asked` is the oldest request without an answer.
    pub fn answered(&mut self, asked: Option<i32>, xid: i32, zxid: Zxid) -> Verdict {
        if asked != Some(xid) {
            return Err(format!("session order: the answer to request {xid} came where that to {asked:?} was due"));
        }
        self.saw(zxid)?;
        self.last_answered = self.last_seen;
        Ok(())
    }

    /// The session is shown this state. An error where it has seen a newer one.
    pub fn saw(&mut self, zxid: Zxid) -> Verdict {
        if zxid.0 <= 0 {
            return Ok(());
        }
        if zxid < self.last_seen {
            return Err(format!("session order: the session saw {zxid} after {}", self.last_seen));
        }
        self.last_seen = zxid;
        Ok(())
    }
}
