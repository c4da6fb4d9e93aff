//! What every path held at every zxid, told by the committed transactions alone: written without a look at the product's tree.
//!
//! Checks on the way what no server may let through: a transaction of a session that is over, an ephemeral node of a session that is not
//! there, an ephemeral node that survives its session or goes with another one's.

use std::collections::{BTreeMap, BTreeSet};

use rookeeper_proto::txn::CreateKind;
use rookeeper_proto::{SessionId, Txn, TxnRecord, Zxid, path};

use super::Verdict;

/// A node as it is from some zxid on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    pub data: Vec<u8>,
    pub version: i32,
    pub created: Zxid,
    /// [`SessionId::NONE`] where the node is not ephemeral.
    pub owner: SessionId,
}

/// What watchers of a path may hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    Created,
    Deleted,
    DataChanged,
    ChildrenChanged,
}

impl Happening {
    pub fn from_number(number: i32) -> Option<Happening> {
        match number {
            1 => Some(Happening::Created),
            2 => Some(Happening::Deleted),
            3 => Some(Happening::DataChanged),
            4 => Some(Happening::ChildrenChanged),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
pub struct Model {
    states: BTreeMap<String, Vec<(Zxid, Option<NodeState>)>>,
    happenings: BTreeMap<String, Vec<(Zxid, Happening)>>,
    ephemerals: BTreeMap<SessionId, BTreeSet<String>>,
    sessions: BTreeSet<SessionId>,
    over: BTreeSet<SessionId>,
}

impl Model {
    pub fn at(&self, path: &str, zxid: Zxid) -> Option<&NodeState> {
        let states = self.states.get(path)?;
        let end = states.partition_point(|(since, _)| *since <= zxid);
        states[..end].last()?.1.as_ref()
    }

    pub fn now(&self, path: &str) -> Option<&NodeState> {
        self.states.get(path)?.last()?.1.as_ref()
    }

    pub fn children_at(&self, parent: &str, zxid: Zxid) -> BTreeSet<String> {
        let prefix = if parent == path::ROOT { path::ROOT.to_owned() } else { format!("{parent}/") };
        let below = self.states.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        let direct = below.filter(|(path, _)| !path[prefix.len()..].contains('/'));
        direct
            .filter(|(path, _)| self.at(path, zxid).is_some())
            .map(|(path, _)| path[prefix.len()..].to_owned())
            .collect()
    }

    /// What happened to a path after `after`, in order.
    pub fn happenings(&self, path: &str, after: Zxid) -> &[(Zxid, Happening)] {
        let Some(all) = self.happenings.get(path) else { return &[] };
        &all[all.partition_point(|(zxid, _)| *zxid <= after)..]
    }

    pub fn apply(&mut self, record: &TxnRecord) -> Verdict {
        let (zxid, session) = (record.header.zxid, record.header.session);
        if !matches!(record.txn, Txn::Error { .. } | Txn::CreateSession { .. })
            && session != SessionId::NONE
            && !self.sessions.contains(&session)
        {
            return Err(format!(
                "ephemerals: {zxid} is a change by session {session}, which is not alive: {:?}",
                record.txn
            ));
        }
        match &record.txn {
            Txn::CreateSession { .. } => {
                if self.over.contains(&session) {
                    return Err(format!("ephemerals: session {session} is created again at {zxid}"));
                }
                self.sessions.insert(session);
                Ok(())
            }
            Txn::CloseSession { paths } => self.close(zxid, session, paths.as_deref()),
            Txn::Multi(members) if members.iter().any(|member| matches!(member, Txn::Error { .. })) => Ok(()),
            Txn::Multi(members) => members.iter().try_for_each(|member| self.change(zxid, session, member)),
            txn => self.change(zxid, session, txn),
        }
    }

    fn close(&mut self, zxid: Zxid, session: SessionId, paths: Option<&[String]>) -> Verdict {
        let owned = self.ephemerals.remove(&session).unwrap_or_default();
        let named: BTreeSet<String> = paths.unwrap_or_default().iter().cloned().collect();
        if named != owned {
            return Err(format!("ephemerals: session {session} ends at {zxid} with {named:?}, but owns {owned:?}"));
        }
        for path in owned {
            self.put(zxid, &path, None);
            self.note(zxid, &path, Happening::Deleted);
            self.note_parent(zxid, &path);
        }
        self.sessions.remove(&session);
        self.over.insert(session);
        Ok(())
    }

    fn change(&mut self, zxid: Zxid, session: SessionId, txn: &Txn) -> Verdict {
        match txn {
            Txn::Create(create) => {
                if self.now(&create.path).is_some() {
                    return Err(format!("model: {} is created at {zxid}, but is there", create.path));
                }
                let ephemeral = matches!(create.kind, CreateKind::Node { ephemeral: true, .. });
                let owner = if ephemeral { session } else { SessionId::NONE };
                if ephemeral {
                    self.ephemerals.entry(session).or_default().insert(create.path.clone());
                }
                let data = create.data.clone().unwrap_or_default();
                self.put(zxid, &create.path, Some(NodeState { data, version: 0, created: zxid, owner }));
                self.note(zxid, &create.path, Happening::Created);
                self.note_parent(zxid, &create.path);
            }
            Txn::Delete { path } | Txn::DeleteContainer { path } => {
                let Some(gone) = self.now(path) else {
                    return Err(format!("model: {path} is deleted at {zxid}, but is not there"));
                };
                let owner = gone.owner;
                if let Some(owned) = self.ephemerals.get_mut(&owner) {
                    owned.remove(path);
                }
                self.put(zxid, path, None);
                self.note(zxid, path, Happening::Deleted);
                self.note_parent(zxid, path);
            }
            Txn::SetData { path, data, version } => {
                let Some(node) = self.now(path) else {
                    return Err(format!("model: {path} is set at {zxid}, but is not there"));
                };
                let mut node = node.clone();
                if node.version + 1 != *version {
                    return Err(format!("model: {path} gets version {version} at {zxid}, but has {}", node.version));
                }
                node.data = data.clone().unwrap_or_default();
                node.version = *version;
                self.put(zxid, path, Some(node));
                self.note(zxid, path, Happening::DataChanged);
            }
            _ => {}
        }
        Ok(())
    }

    fn put(&mut self, zxid: Zxid, path: &str, state: Option<NodeState>) {
        let states = self.states.entry(path.to_owned()).or_default();
        states.push((zxid, state));
    }

    fn note(&mut self, zxid: Zxid, path: &str, happening: Happening) {
        self.happenings.entry(path.to_owned()).or_default().push((zxid, happening));
    }

    fn note_parent(&mut self, zxid: Zxid, child: &str) {
        let parent = path::parent(child).unwrap_or(path::ROOT).to_owned();
        self.note(zxid, &parent, Happening::ChildrenChanged);
    }
}
