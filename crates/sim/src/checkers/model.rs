//! The contents of every path at every zxid, told by the committed transactions alone: written without a look at the product's tree.
//!
//! Checks on the way what no server may let through: a transaction of a session that is over, an ephemeral node of a session that is not
//! there, an ephemeral node that survives its session or goes with another one's, a node reaped that is not to be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rookeeper_proto::txn::CreateKind;
use rookeeper_proto::{Acl, SessionId, Txn, TxnHeader, TxnRecord, Zxid, path};

use super::Verdict;

/// A node as it is from some zxid on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    pub data: Vec<u8>,
    pub version: i32,
    pub created: Zxid,
    /// [`SessionId::NONE`] where the node is not ephemeral.
    pub owner: SessionId,
    pub acl: Arc<[Acl]>,
    /// How often the list was replaced.
    pub aversion: i32,
    passing: Passing,
}

/// Whether the ensemble may remove the node by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passing {
    No,
    Container,
    /// Not before this time has passed since its data changed, by the clocks of those who led then and now.
    Idle {
        ttl_ms: i64,
        since_ms: i64,
    },
}

/// A change that watchers of a path may hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    pub zxid: Zxid,
    pub what: Happening,
    /// The list of the node: users who may read the node hear of its change.
    pub acl: Arc<[Acl]>,
}

/// Kinds of changes of a node, by the kinds of events that watchers get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happening {
    Created,
    Deleted,
    DataChanged,
    ChildrenChanged,
}

impl Happening {
    /// By the number of the event on the wire.
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

/// The tree as it was after each transaction, made from the transactions alone: slow, simple, and written apart from the server's tree.
#[derive(Debug, Default)]
pub struct Model {
    states: BTreeMap<String, Vec<(Zxid, Option<NodeState>)>>,
    happenings: BTreeMap<String, Vec<Happened>>,
    ephemerals: BTreeMap<SessionId, BTreeSet<String>>,
    sessions: BTreeSet<SessionId>,
    over: BTreeSet<SessionId>,
    /// Every transaction, in order.
    applied: Vec<Zxid>,
    /// Whether sessions that no transaction has made may change something.
    pub local_sessions: bool,
}

impl Model {
    /// The node after the transaction `zxid`, if it was there.
    pub fn at(&self, path: &str, zxid: Zxid) -> Option<&NodeState> {
        let states = self.states.get(path)?;
        let end = states.partition_point(|(since, _)| *since <= zxid);
        states[..end].last()?.1.as_ref()
    }

    /// The node after the last transaction, if it is there.
    pub fn now(&self, path: &str) -> Option<&NodeState> {
        self.states.get(path)?.last()?.1.as_ref()
    }

    /// The names of the children after the transaction `zxid`.
    pub fn children_at(&self, parent: &str, zxid: Zxid) -> BTreeSet<String> {
        let prefix = if parent == path::ROOT { path::ROOT.to_owned() } else { format!("{parent}/") };
        let below = self.states.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        let direct = below.filter(|(path, _)| !path[prefix.len()..].contains('/'));
        direct
            .filter(|(path, _)| self.at(path, zxid).is_some())
            .map(|(path, _)| path[prefix.len()..].to_owned())
            .collect()
    }

    /// Whether all servers know, or knew, of a session.
    pub fn knows_session(&self, session: SessionId) -> bool {
        self.sessions.contains(&session) || self.over.contains(&session)
    }

    /// Whether the session was opened and not closed.
    pub fn is_alive(&self, session: SessionId) -> bool {
        self.sessions.contains(&session)
    }

    /// Whether the session was closed, by its client or because its time was over.
    pub fn is_over(&self, session: SessionId) -> bool {
        self.over.contains(&session)
    }

    /// The sessions that were opened and not closed.
    pub fn sessions_alive(&self) -> impl Iterator<Item = SessionId> {
        self.sessions.iter().copied()
    }

    /// The last transaction.
    pub fn last(&self) -> Zxid {
        self.applied.last().copied().unwrap_or_default()
    }

    /// The transactions behind the first of the two, up to the second.
    pub fn changes_between(&self, first: Zxid, last: Zxid) -> &[Zxid] {
        let index = |zxid: Zxid| self.applied.partition_point(|applied| *applied <= zxid);
        &self.applied[index(first)..index(last).max(index(first))]
    }

    /// Bytes and number of the nodes at and below a path.
    pub fn used_below(&self, top: &str, zxid: Zxid) -> (i64, i64) {
        let paths = self.states.range(top.to_owned()..).map(|(path, _)| path).take_while(|path| path.starts_with(top));
        let nodes = paths.filter(|path| is_at_or_below(path, top)).filter_map(|path| self.at(path, zxid));
        nodes.fold((0, 0), |(bytes, count), node| (bytes + node.data.len() as i64, count + 1))
    }

    /// How often lists of rights were set: for a planted bug.
    pub fn lists_set(&self) -> i64 {
        self.states.values().filter_map(|states| states.last()?.1.as_ref()).map(|node| i64::from(node.aversion)).sum()
    }

    /// The changes of a path after `after`, in order.
    pub fn happenings(&self, path: &str, after: Zxid) -> &[Happened] {
        let Some(all) = self.happenings.get(path) else { return &[] };
        since(all, after)
    }

    /// The same for a path and all below it.
    pub fn happenings_below<'a>(&'a self, top: &'a str, after: Zxid) -> impl Iterator<Item = (&'a str, &'a Happened)> {
        let below = self.happenings.range(top.to_owned()..).take_while(move |(path, _)| path.starts_with(top));
        let own = below.filter(move |(path, _)| is_at_or_below(path, top));
        own.flat_map(move |(path, all)| since(all, after).iter().map(move |happened| (path.as_str(), happened)))
    }

    /// Takes in the next transaction. An error where no server may have made it.
    pub fn apply(&mut self, record: &TxnRecord) -> Verdict {
        let (zxid, session) = (record.header.zxid, record.header.session);
        if !matches!(record.txn, Txn::Error { .. } | Txn::CreateSession { .. })
            && session != SessionId::NONE
            && !self.sessions.contains(&session)
            && (!self.local_sessions || self.over.contains(&session))
        {
            return Err(format!(
                "ephemerals: {zxid} is a change by session {session}, which is not alive: {:?}",
                record.txn
            ));
        }
        self.applied.push(zxid);
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
            Txn::Multi(members) => members.iter().try_for_each(|member| self.change(&record.header, member)),
            txn => self.change(&record.header, txn),
        }
    }

    /// The state after `from` is that after `zxid`, but for sessions and what they own: all are over. Nobody is told of that.
    pub fn restored(&mut self, zxid: Zxid, from: Zxid) {
        for states in self.states.values_mut() {
            let end = states.partition_point(|(since, _)| *since <= from);
            let then = states[..end].last().and_then(|(_, state)| state.clone());
            states.push((zxid, then.filter(|node| node.owner == SessionId::NONE)));
        }
        self.ephemerals.clear();
        self.over.append(&mut self.sessions);
        self.applied.push(zxid);
    }

    fn close(&mut self, zxid: Zxid, session: SessionId, paths: Option<&[String]>) -> Verdict {
        let owned = self.ephemerals.remove(&session).unwrap_or_default();
        let named: BTreeSet<String> = paths.unwrap_or_default().iter().cloned().collect();
        if named != owned {
            return Err(format!("ephemerals: session {session} ends at {zxid} with {named:?}, but owns {owned:?}"));
        }
        for path in owned {
            self.remove(zxid, &path);
        }
        self.sessions.remove(&session);
        self.over.insert(session);
        Ok(())
    }

    fn change(&mut self, header: &TxnHeader, txn: &Txn) -> Verdict {
        let (zxid, session) = (header.zxid, header.session);
        match txn {
            Txn::Create(create) => {
                if self.now(&create.path).is_some() {
                    return Err(format!("model: {} is created at {zxid}, but is there", create.path));
                }
                let ephemeral = matches!(create.kind, CreateKind::Node { ephemeral: true, .. });
                let owner = if ephemeral { session } else { SessionId::NONE };
                if ephemeral && !self.sessions.contains(&session) {
                    return Err(format!("ephemerals: {} gets session {session}, which not all know", create.path));
                }
                if ephemeral {
                    self.ephemerals.entry(session).or_default().insert(create.path.clone());
                }
                let data = create.data.clone().unwrap_or_default();
                let acl: Arc<[Acl]> = create.acl.clone().unwrap_or_else(Acl::open).into();
                let passing = match create.kind {
                    CreateKind::Node { .. } => Passing::No,
                    CreateKind::Container => Passing::Container,
                    CreateKind::Ttl { ttl_ms } => Passing::Idle { ttl_ms, since_ms: header.time_ms },
                };
                let node = NodeState { data, version: 0, created: zxid, owner, acl: acl.clone(), aversion: 0, passing };
                self.put(zxid, &create.path, Some(node));
                self.note(zxid, &create.path, Happening::Created, acl);
                self.note_parent(zxid, &create.path);
            }
            Txn::Delete { path } | Txn::DeleteContainer { path } => {
                let Some(gone) = self.now(path) else {
                    return Err(format!("model: {path} is deleted at {zxid}, but is not there"));
                };
                if self.has_children(path) {
                    return Err(format!("model: {path} is deleted at {zxid}, but has children"));
                }
                let is_due = match gone.passing {
                    Passing::No => false,
                    Passing::Container => true,
                    Passing::Idle { ttl_ms, since_ms } => header.time_ms - since_ms > ttl_ms,
                };
                if matches!(txn, Txn::DeleteContainer { .. }) && !is_due {
                    return Err(format!("model: {path} is reaped at {zxid}, but is {:?}", gone.passing));
                }
                let owner = gone.owner;
                if let Some(owned) = self.ephemerals.get_mut(&owner) {
                    owned.remove(path);
                }
                self.remove(zxid, path);
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
                if let Passing::Idle { since_ms, .. } = &mut node.passing {
                    *since_ms = header.time_ms;
                }
                let acl = node.acl.clone();
                self.put(zxid, path, Some(node));
                self.note(zxid, path, Happening::DataChanged, acl);
            }
            Txn::SetAcl { path, acl, version } => {
                let Some(node) = self.now(path) else {
                    return Err(format!("model: the list of {path} is set at {zxid}, but it is not there"));
                };
                let mut node = node.clone();
                if node.aversion + 1 != *version {
                    return Err(format!("model: {path} gets list {version} at {zxid}, but has {}", node.aversion));
                }
                node.acl = acl.clone().unwrap_or_else(Acl::open).into();
                node.aversion = *version;
                self.put(zxid, path, Some(node));
            }
            Txn::Check { path, version } => {
                let found = self.now(path).map(|node| node.version + 1);
                // Version 0 stands for any.
                if found.is_none_or(|found| *version != 0 && found != *version) {
                    return Err(format!("model: {path} was found at {version} less one at {zxid}, but is {found:?}"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn has_children(&self, parent: &str) -> bool {
        let prefix = format!("{parent}/");
        let mut below = self.states.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        below.any(|(_, states)| states.last().is_some_and(|(_, state)| state.is_some()))
    }

    fn remove(&mut self, zxid: Zxid, path: &str) {
        let acl = self.acl(path);
        self.put(zxid, path, None);
        self.note(zxid, path, Happening::Deleted, acl);
        self.note_parent(zxid, path);
    }

    /// Nodes that no transaction has made are open.
    fn acl(&self, path: &str) -> Arc<[Acl]> {
        self.now(path).map_or_else(|| Acl::open().into(), |node| node.acl.clone())
    }

    fn put(&mut self, zxid: Zxid, path: &str, state: Option<NodeState>) {
        let states = self.states.entry(path.to_owned()).or_default();
        states.push((zxid, state));
    }

    fn note(&mut self, zxid: Zxid, path: &str, what: Happening, acl: Arc<[Acl]>) {
        self.happenings.entry(path.to_owned()).or_default().push(Happened { zxid, what, acl });
    }

    fn note_parent(&mut self, zxid: Zxid, child: &str) {
        let parent = path::parent(child).unwrap_or(path::ROOT).to_owned();
        let acl = self.acl(&parent);
        self.note(zxid, &parent, Happening::ChildrenChanged, acl);
    }
}

fn since(all: &[Happened], after: Zxid) -> &[Happened] {
    &all[all.partition_point(|happened| happened.zxid <= after)..]
}

/// Whether `path` is `top` or one of its descendants.
pub fn is_at_or_below(path: &str, top: &str) -> bool {
    top == path::ROOT || path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
