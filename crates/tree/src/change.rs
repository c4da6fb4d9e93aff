//! What applying a transaction tells the rest of the server: the outcome for the client, the changes for the watchers.

use std::sync::Arc;

use rookeeper_proto::Stat;
use rookeeper_proto::event::EventType;

use crate::access_list::AccessList;

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Created {
        path: String,
        stat: Stat,
    },
    /// The stat after a setData, setACL or reconfig.
    Changed(Stat),
    Deleted,
    SessionCreated,
    SessionClosed,
    /// A check inside a multi.
    Checked,
    /// The code of an error transaction, of a member of a multi that failed (0 before the failing one), or of what a replay over
    /// a fuzzy snapshot ignored.
    Failed(i32),
    /// One per member.
    Multi(Vec<Outcome>),
}

/// What happened to a node, as watchers see it. The changes of a transaction come in the order in which watches fire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub kind: EventType,
    /// The node the event is about; for `NodeChildrenChanged` the parent.
    pub path: Arc<str>,
    /// Who may hear of it needs READ in this list: the new node's, the list a deleted node had, the parent's for
    /// `NodeChildrenChanged`.
    pub acl: Arc<AccessList>,
}
