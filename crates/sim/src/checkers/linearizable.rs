//! Writes and reads behind a sync take effect between request and answer, in one order for all; every read shows what was written.
//!
//! The order of zxids is the order of effects. Two checks are left: that this order respects real time, and that each answer is what the state
//! at its zxid gives.

use std::collections::BTreeSet;

use rookeeper_proto::{Acl, ErrorCode, Permissions, Zxid};

use super::Verdict;
use super::history::Chronicle;
use super::rights::{self, User};

/// The newest effect that any client knows of.
#[derive(Debug, Default)]
pub struct Floor(Zxid);

impl Floor {
    /// For a request that begins now.
    pub fn now(&self) -> Zxid {
        self.0
    }

    /// A write, begun when the floor was `begun`, was acknowledged with `zxid`.
    pub fn written(&mut self, begun: Zxid, zxid: Zxid) -> Verdict {
        if zxid <= begun {
            return Err(format!("linearizable: a write took effect at {zxid}, but {begun} was known before it began"));
        }
        self.0 = self.0.max(zxid);
        Ok(())
    }

    /// A read behind a sync, which began when the floor was `begun`, showed the state at `zxid`.
    pub fn read(&mut self, begun: Zxid, zxid: Zxid) -> Verdict {
        if zxid < begun {
            return Err(format!(
                "linearizable: a read behind a sync showed {zxid}, but {begun} was known before the sync"
            ));
        }
        self.0 = self.0.max(zxid);
        Ok(())
    }
}

/// An answer to a write tells what became of it. An ephemeral node of a session that one server knows is refused with a code of its own.
pub fn refused_as_told(chronicle: &Chronicle, xid: i32, zxid: Zxid, told: i32) -> Verdict {
    let Some(entry) = chronicle.entry(zxid) else { return Ok(()) };
    let is_local =
        (entry.err, told) == (ErrorCode::SessionExpired.number(), ErrorCode::EphemeralOnLocalSession.number());
    if entry.err != told && !is_local {
        return Err(format!("refusals: request {xid} was answered with {told} at {zxid}, but became {}", entry.err));
    }
    Ok(())
}

/// An acknowledged write stands in the history under its session and number.
pub fn acknowledged(chronicle: &Chronicle, session: i64, xid: i32, zxid: Zxid) -> Verdict {
    match chronicle.entry(zxid) {
        None => Err(format!(
            "acknowledged: request {xid} of session {session:x} was answered with {zxid}, which nobody has"
        )),
        Some(entry) if (entry.session, entry.cxid) != (session, xid) => Err(format!(
            "acknowledged: request {xid} of session {session:x} was answered with {zxid}, which is request {} of {:x}",
            entry.cxid, entry.session
        )),
        Some(_) => Ok(()),
    }
}

/// `data` and version are what the node has at `zxid`; none where it is not there.
pub fn shows(chronicle: &Chronicle, path: &str, zxid: Zxid, found: Option<(&[u8], i32)>) -> Verdict {
    let state = chronicle.model.at(path, zxid);
    let expected = state.map(|state| (state.data.as_slice(), state.version));
    if expected != found {
        return Err(format!("linearizable: {path} at {zxid} was read as {found:?}, but is {expected:?}"));
    }
    Ok(())
}

/// Judges whether a read was rightly refused, or rightly answered, by the user's right to read the node.
pub fn permitted(chronicle: &Chronicle, path: &str, zxid: Zxid, user: User, refused: bool) -> Verdict {
    // Nodes that no transaction has made are open to all.
    let readable = chronicle.model.at(path, zxid).is_none_or(|node| rights::may_read(&node.acl, user));
    if readable == refused {
        let what = if refused { "was refused" } else { "was answered" };
        return Err(format!("rights: a read of {path} by user {user} {what} at {zxid}"));
    }
    Ok(())
}

/// The list of a node as a user sees it who may replace the list.
pub fn acl(chronicle: &Chronicle, path: &str, zxid: Zxid, user: User, found: (&[Acl], i32)) -> Verdict {
    let Some(node) = chronicle.model.at(path, zxid) else {
        return Err(format!("linearizable: the list of {path} was read at {zxid}, but it is not there"));
    };
    let is_shown_whole = rights::may(&node.acl, user, Permissions::ADMIN);
    if node.aversion != found.1 || (is_shown_whole && *node.acl != *found.0) {
        return Err(format!(
            "linearizable: the list of {path} at {zxid} was read as {found:?}, but is {:?} {}",
            node.acl, node.aversion
        ));
    }
    Ok(())
}

/// Compares an answer about one node with the model: its data version and the zxid of its creation, or none.
pub fn exists(chronicle: &Chronicle, path: &str, zxid: Zxid, found: Option<(i32, Zxid)>) -> Verdict {
    let expected = chronicle.model.at(path, zxid).map(|state| (state.version, state.created));
    if expected != found {
        return Err(format!("linearizable: {path} at {zxid} was seen as {found:?}, but is {expected:?}"));
    }
    Ok(())
}

/// Compares a list of children with the model; none where the node was said to be missing.
pub fn lists(chronicle: &Chronicle, path: &str, zxid: Zxid, found: Option<&BTreeSet<String>>) -> Verdict {
    let expected = chronicle.model.at(path, zxid).map(|_| chronicle.model.children_at(path, zxid));
    if expected.as_ref() != found {
        return Err(format!(
            "linearizable: the children of {path} at {zxid} were read as {found:?}, but are {expected:?}"
        ));
    }
    Ok(())
}
