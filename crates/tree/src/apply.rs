//! What each transaction does to the tree.
//!
//! One function serves the live server and the replay of a log. What always holds: an error never stops it; applying the
//! transactions above a snapshot's zxid to that snapshot, however many of them it already contains in part, ends at the tree
//! that the live server had. That is why counters of parents only rise, and why a node that is in the way or missing is no
//! reason to stop.
//!
//! Counterpart in the original: `DataTree.processTxn`.

use std::sync::Arc;

use rookeeper_proto::event::EventType;
use rookeeper_proto::txn::{CreateKind, CreateTxn};
use rookeeper_proto::{ErrorCode, NodeKind, SessionId, StatPersisted, Txn, TxnHeader, Zxid, path};

use crate::change::{Change, Outcome};
use crate::nodes::NodeId;
use crate::tree::{ROOT_ID, Tree};

impl Tree {
    /// Applies one transaction and appends what watchers may have to hear of. The last zxid moves once all of it is in.
    pub fn apply(&mut self, header: &TxnHeader, txn: Txn, changes: &mut Vec<Change>) -> Outcome {
        let outcome = self.apply_one(header, txn, changes);
        self.between_zxids = false;
        if header.zxid > self.last_zxid() {
            self.set_last_zxid(header.zxid);
        }
        outcome
    }

    fn apply_one(&mut self, header: &TxnHeader, txn: Txn, changes: &mut Vec<Change>) -> Outcome {
        match txn {
            Txn::Create(create) => self.create(header, create, changes),
            Txn::Delete { path } | Txn::DeleteContainer { path } => self.delete(&path, header.zxid, changes),
            Txn::SetData { path, data, version } | Txn::Reconfig { path, data, version } => {
                self.set_data(header, &path, data, version, changes)
            }
            Txn::SetAcl { path, acl, version } => {
                let Some(id) = self.nodes.find(&path) else { return failed(ErrorCode::NoNode) };
                let acl = self.acls.retain(acl);
                self.replace_acl(id, acl);
                self.update_stat(id, |stat| stat.aversion = version);
                Outcome::Changed(self.node_ref(id).stat())
            }
            Txn::CreateSession { timeout_ms } => {
                self.sessions.insert(header.session, timeout_ms);
                Outcome::SessionCreated
            }
            Txn::CloseSession { paths } => self.close_session(header, paths.unwrap_or_default(), changes),
            Txn::Error { code } => Outcome::Failed(code),
            Txn::Multi(members) => self.multi(header, members, changes),
            Txn::Check { .. } => Outcome::Checked,
        }
    }

    fn create(&mut self, header: &TxnHeader, create: CreateTxn, changes: &mut Vec<Change>) -> Outcome {
        let CreateTxn { path: node_path, data, acl, kind, parent_cversion } = create;
        if node_path == path::ROOT {
            return failed(ErrorCode::NodeExists);
        }
        let Some(parent) = path::parent(&node_path).and_then(|parent| self.nodes.find(parent)) else {
            return failed(ErrorCode::NoNode);
        };
        let acl = self.acls.retain(acl);
        self.raise_cversion(parent, parent_cversion, header.zxid);
        if let Some(existing) = self.nodes.find(&node_path) {
            // ZOOKEEPER-4846: the snapshot under this replay was taken after the node was created, perhaps not for the first time.
            self.replace_acl(existing, acl);
            return failed(ErrorCode::NodeExists);
        }
        let kind = match kind {
            CreateKind::Node { ephemeral: true, .. } => NodeKind::Ephemeral(header.session),
            CreateKind::Node { ephemeral: false, .. } => NodeKind::Persistent,
            CreateKind::Container => NodeKind::Container,
            CreateKind::Ttl { ttl_ms } => NodeKind::Ttl { ttl_ms },
        };
        let stat = StatPersisted::created(header.zxid, header.time_ms, kind.owner());
        let data = data.map(Vec::into_boxed_slice);
        let id = self.add_child(parent, node_path.as_str().into(), data, acl, stat);
        self.quota_node_created(id);

        let created = self.node_ref(id);
        changes.push(Change {
            kind: EventType::NodeCreated,
            path: node_path.as_str().into(),
            acl: created.acl().clone(),
        });
        let stat = created.stat();
        self.children_changed(parent, changes);
        Outcome::Created { path: node_path, stat }
    }

    /// A parent's counter of created children only rises, so it sticks at its maximum; -1 stands for one more (before 3.4).
    /// ZOOKEEPER-3249: pzxid goes with it, so that a replay takes neither back.
    fn raise_cversion(&mut self, parent: NodeId, parent_cversion: i32, zxid: Zxid) {
        self.update_stat(parent, |stat| {
            let cversion = if parent_cversion == -1 { stat.cversion.wrapping_add(1) } else { parent_cversion };
            if cversion > stat.cversion {
                stat.cversion = cversion;
                stat.pzxid = zxid;
            }
        });
    }

    fn delete(&mut self, node_path: &str, zxid: Zxid, changes: &mut Vec<Change>) -> Outcome {
        let Some(parent) = path::parent(node_path).and_then(|parent| self.nodes.find(parent)) else {
            return failed(ErrorCode::NoNode);
        };
        // ZOOKEEPER-3125: also where the node is gone already: the parent may come from an older part of the snapshot than the lack of its child.
        self.update_stat(parent, |stat| stat.pzxid = stat.pzxid.max(zxid));
        let Some(id) = self.nodes.find(node_path) else { return failed(ErrorCode::NoNode) };

        // A live delete finds no children. A replay may: children of the node's next life that the snapshot already contains,
        // whose creation is still to be replayed.
        if self.nodes[id].child_count() == 0 {
            self.delete_leaf(id, changes);
            return Outcome::Deleted;
        }
        let mut doomed = Vec::new();
        self.walk_subtree(id, |id| doomed.push(id));
        for id in doomed.into_iter().rev() {
            self.delete_leaf(id, changes);
        }
        Outcome::Deleted
    }

    fn delete_leaf(&mut self, id: NodeId, changes: &mut Vec<Change>) {
        debug_assert_ne!(id, ROOT_ID);
        let node = self.remove_leaf(id);
        let acl = self.acls.list(node.acl).clone();
        self.acls.release(node.acl);
        self.quota_node_deleted(&node);
        changes.push(Change { kind: EventType::NodeDeleted, path: node.path.into(), acl });
        self.children_changed(node.parent, changes);
    }

    fn children_changed(&self, parent: NodeId, changes: &mut Vec<Change>) {
        let parent = self.node_ref(parent);
        changes.push(Change {
            kind: EventType::NodeChildrenChanged,
            path: parent.path().into(),
            acl: parent.acl().clone(),
        });
    }

    fn set_data(
        &mut self,
        header: &TxnHeader,
        node_path: &str,
        data: Option<Vec<u8>>,
        version: i32,
        changes: &mut Vec<Change>,
    ) -> Outcome {
        let Some(id) = self.nodes.find(node_path) else { return failed(ErrorCode::NoNode) };
        let grown = self.replace_data(id, data.map(Vec::into_boxed_slice), |stat| {
            stat.version = version;
            stat.mzxid = header.zxid;
            stat.mtime_ms = header.time_ms;
        });
        let node = self.node_ref(id);
        let stat = node.stat();
        let path: Arc<str> = node_path.into();
        changes.push(Change { kind: EventType::NodeDataChanged, path, acl: node.acl().clone() });
        self.quota_data_changed(node_path, grown);
        Outcome::Changed(stat)
    }

    /// Takes away a part of what the end of a session takes along, so that others can look at the tree before the rest goes: the listed
    /// paths and about `limit` more nodes that the session owns. [`Tree::apply`] with the same header must follow before anything else
    /// changes the tree. Returns how many nodes have gone besides those listed.
    ///
    /// Whoever reads in between sees some of the nodes gone and the zxid before, as with the original.
    pub fn close_some(
        &mut self,
        header: &TxnHeader,
        listed: impl Iterator<Item = String>,
        limit: usize,
        changes: &mut Vec<Change>,
    ) -> usize {
        self.between_zxids = true;
        for path in listed {
            self.delete(&path, header.zxid, changes);
        }
        self.delete_some_ephemerals(header.session, header.zxid, limit, changes).len()
    }

    /// The listed paths go whoever owns them by now: in a replay their next life is still to come. Then all that the session
    /// still owns, which is everything where the transaction has no list.
    fn close_session(&mut self, header: &TxnHeader, paths: Vec<String>, changes: &mut Vec<Change>) -> Outcome {
        self.sessions.remove(&header.session);
        for path in paths {
            self.delete(&path, header.zxid, changes);
        }
        self.delete_ephemerals(header.session, header.zxid, changes);
        Outcome::SessionClosed
    }

    /// Deletes what a session owns, in the order of the paths. Returns them.
    pub(crate) fn delete_ephemerals(
        &mut self,
        session: SessionId,
        zxid: Zxid,
        changes: &mut Vec<Change>,
    ) -> Vec<String> {
        self.delete_some_ephemerals(session, zxid, usize::MAX, changes)
    }

    fn delete_some_ephemerals(
        &mut self,
        session: SessionId,
        zxid: Zxid,
        limit: usize,
        changes: &mut Vec<Change>,
    ) -> Vec<String> {
        let mut paths: Vec<_> = self.ephemerals(session).take(limit).map(str::to_owned).collect();
        paths.sort_unstable();
        for path in &paths {
            self.delete(path, zxid, changes);
        }
        paths
    }

    fn multi(&mut self, header: &TxnHeader, members: Vec<Txn>, changes: &mut Vec<Change>) -> Outcome {
        let failing = members.iter().position(|member| matches!(member, Txn::Error { .. }));
        let outcomes = members.into_iter().enumerate().map(|(index, member)| match (failing, member) {
            (None, member) => self.apply_one(header, member, changes),
            (Some(_), Txn::Error { code }) => Outcome::Failed(code),
            (Some(failing), _) if index < failing => Outcome::Failed(0),
            (Some(_), _) => failed(ErrorCode::RuntimeInconsistency),
        });
        Outcome::Multi(outcomes.collect())
    }
}

fn failed(code: ErrorCode) -> Outcome {
    Outcome::Failed(code.number())
}
