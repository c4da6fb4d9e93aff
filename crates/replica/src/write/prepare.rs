//! From a request to a transaction: every check a write must pass, in the order in which clients rely on them.
//!
//! A request is checked against the tree as it will be ([`Pending`]). What comes out states results: resolved names, expanded ACLs,
//! versions after the change, the digest of the tree after it. A request that fails becomes an error transaction by its caller.
//!
//! Counterpart in the original: `PrepRequestProcessor.pRequest2Txn`.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::acl::AclRequest;
use rookeeper_proto::multi::{self, FLAG_CONTAINER, FLAG_MAX, WriteOp};
use rookeeper_proto::node_kind::MAX_TTL_MS;
use rookeeper_proto::path::{self, NodePath};
use rookeeper_proto::request::{CreateRequest, PathVersionRequest, SetAclRequest, SetDataRequest, WriteRequest};
use rookeeper_proto::txn::{CreateKind, CreateTxn};
use rookeeper_proto::{
    Acl, ErrorCode, Id, NodeKind, Permissions, SessionId, StatPersisted, Txn, TxnRecord, WallMs, Zxid,
};
use rookeeper_tree::{AccessList, QuotaVerdict, Tree, Verdicts, access, digest};
use rookeeper_zab::Membership;

use crate::room::Shortage;
use crate::settings::Settings;
use crate::statistics::Statistics;
use crate::write::pending::{Node, Pending};

/// Everything a check can ask for.
pub(crate) struct Prepare<'a> {
    pub settings: &'a Settings,
    pub statistics: &'a Statistics,
    /// What there is not enough of for what grows.
    pub shortage: Shortage,
    pub tree: &'a Tree,
    pub pending: &'a mut Pending,
    pub session: SessionId,
    /// Whether all servers know the session, so that it can own nodes.
    pub global_session: bool,
    pub identities: &'a [Id],
    /// What the lists met so far grant to them.
    pub verdicts: Verdicts,
    /// The place the transaction will have, and its time.
    pub zxid: Zxid,
    pub wall_ms: WallMs,
    /// What the access control lists of the transaction may still take. A short request can ask for long ones, so they are counted as they
    /// come up and not only when the record is whole.
    pub acl_room_bytes: usize,
}

/// Permissions and two lengths.
const ACL_ENTRY_BYTES: usize = 12;

type Checked<T> = Result<T, ErrorCode>;

/// create, create2 and the rest differ in what they may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CreateOp {
    Create,
    Create2,
    Container,
    Ttl { ttl_ms: i64 },
}

impl Prepare<'_> {
    /// Checks one request. On an error nothing of it remains in [`Pending`].
    pub fn write(&mut self, request: WriteRequest) -> Checked<Txn> {
        let prepared = match request {
            WriteRequest::Create(create) => self.create(create, CreateOp::Create),
            WriteRequest::Create2(create) => self.create(create, CreateOp::Create2),
            WriteRequest::CreateContainer(create) => self.create(create, CreateOp::Container),
            WriteRequest::CreateTtl(request) => self.create(request.create, CreateOp::Ttl { ttl_ms: request.ttl_ms }),
            WriteRequest::Delete(delete) => self.delete(delete),
            WriteRequest::SetData(set) => self.set_data(set),
            WriteRequest::SetAcl(set) => self.set_acl(set),
            WriteRequest::Multi(ops) => self.multi(ops),
            WriteRequest::Reconfig(_) if !self.settings.reconfig => Err(ErrorCode::ReconfigDisabled),
            WriteRequest::Reconfig(_) => Err(ErrorCode::Unimplemented),
            WriteRequest::CloseSession => Ok(self.close_session()),
        };
        if prepared.is_err() {
            self.pending.take_back();
        }
        prepared
    }

    /// Replaces the members. Everything about the membership itself is checked already.
    pub fn reconfig(&mut self, membership: Membership) -> Checked<Txn> {
        let mut node = self.node(path::CONFIG)?;
        self.require(&node.acl, Permissions::WRITE)?;
        let data = membership.to_string().into_bytes();
        let before = node.digest();
        node.stat.version = -1;
        node.stat.mzxid = self.zxid;
        node.stat.mtime_ms = self.wall_ms.0;
        node.data_length = data.len();
        node.content_crc = digest::content_crc(path::CONFIG, Some(&data));
        self.pending.change(path::CONFIG, before, Some(node), self.zxid);
        Ok(Txn::Reconfig { path: path::CONFIG.to_owned(), data: Some(data), version: -1 })
    }

    /// The end of a session takes its ephemeral nodes along.
    pub fn close_session(&mut self) -> Txn {
        let paths = self.pending.ephemerals(self.tree, self.session);
        for path in &paths {
            if let Some(node) = self.pending.node(self.tree, path) {
                self.remove(path, &node);
            }
        }
        let paths = fitting(paths, self.settings.max_record_bytes);
        Txn::CloseSession { paths: Some(paths) }
    }

    /// Removes a container or TTL node that is due. What was found of it may have changed since by what is still on its way: it may have
    /// got a child or new data, or be another node.
    pub fn reap(&mut self, path: String) -> Checked<Txn> {
        let node = self.node(&path)?;
        if node.child_count > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        if !self.tree.is_due(&node.stat, self.wall_ms.0, self.settings.reaping.max_never_used_ms) {
            return Err(ErrorCode::BadVersion);
        }
        self.remove(&path, &node);
        Ok(Txn::DeleteContainer { path })
    }

    /// An operation that fails makes a multi that failed; one that makes no sense (a null path) fails the request as a whole.
    fn multi(&mut self, ops: Vec<WriteOp>) -> Checked<Txn> {
        let count = ops.len();
        let mut members = Vec::with_capacity(count);
        for op in ops {
            let member = match op {
                WriteOp::Create(create) => self.create(create, CreateOp::Create),
                WriteOp::Create2(create) => self.create(create, CreateOp::Create2),
                WriteOp::CreateContainer(create) => self.create(create, CreateOp::Container),
                WriteOp::CreateTtl(ttl) => self.create(ttl.create, CreateOp::Ttl { ttl_ms: ttl.ttl_ms }),
                WriteOp::Delete(delete) => self.delete(delete),
                WriteOp::SetData(set) => self.set_data(set),
                WriteOp::Check(check) => self.check(check),
            };
            match member {
                Ok(member) => members.push(member),
                Err(ErrorCode::MarshallingError) => return Err(ErrorCode::MarshallingError),
                Err(code) => {
                    // The members before the failing one stay in the record, where nobody applies them.
                    self.pending.take_back();
                    let failed_at = members.len();
                    let codes = multi::failure_codes(count, failed_at, code).skip(failed_at);
                    members.extend(codes.map(|code| Txn::Error { code }));
                    break;
                }
            }
        }
        Ok(Txn::Multi(members))
    }

    fn create(&mut self, request: CreateRequest, op: CreateOp) -> Checked<Txn> {
        let kind = self.create_kind(request.flags, op)?;
        if !self.global_session && matches!(kind, CreateKind::Node { ephemeral: true, .. }) {
            return Err(ErrorCode::SessionExpired);
        }
        let sequential = matches!(request.flags, 2 | 3 | 6);
        let path = request.path.ok_or(ErrorCode::MarshallingError)?;
        let parent_path = parent_of(&path)?;
        let acl = self.fix_up(request.acl.as_deref())?;
        let mut parent = self.node(parent_path)?;
        let parent_length = parent_path.len();
        let parent_before = parent.digest();
        self.require(&parent.acl, Permissions::CREATE)?;
        let path = if sequential { format!("{path}{:010}", parent.stat.cversion) } else { path };
        let path = NodePath::new(path).map_err(|_| ErrorCode::BadArguments)?;
        if self.pending.exists(self.tree, &path) {
            return Err(ErrorCode::NodeExists);
        }
        if matches!(parent.stat.kind(self.tree.ttl_encoding()), NodeKind::Ephemeral(_)) {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let data = request.data.map(|data| data.0);
        let data_length = data.as_ref().map_or(0, Vec::len);
        self.check_quota(&path, data_length as i64, 1)?;
        self.check_room(1 + data_length as i64)?;

        // At the end of its 32 bits the counter stays, and pzxid with it, as in the tree: a repeated sequential name is refused as
        // existing.
        if let Some(cversion) = parent.stat.cversion.checked_add(1) {
            parent.stat.cversion = cversion;
            parent.stat.pzxid = self.zxid;
        }
        parent.child_count += 1;
        let parent_cversion = parent.stat.cversion;
        self.pending.change(&path[..parent_length], parent_before, Some(parent), self.zxid);
        let stored_kind = match kind {
            CreateKind::Node { ephemeral: true, .. } => NodeKind::Ephemeral(self.session),
            CreateKind::Node { ephemeral: false, .. } => NodeKind::Persistent,
            CreateKind::Container => NodeKind::Container,
            CreateKind::Ttl { ttl_ms } => NodeKind::Ttl { ttl_ms },
        };
        let node = Node {
            stat: StatPersisted::created(self.zxid, self.wall_ms.0, stored_kind.owner()),
            acl: self.tree.access_list(&acl),
            child_count: 0,
            data_length,
            content_crc: digest::content_crc(&path, data.as_deref()),
        };
        self.pending.create(&path, node, self.zxid);
        Ok(Txn::Create(CreateTxn { path: path.into(), data, acl: Some(acl), kind, parent_cversion }))
    }

    /// What flags and opcode together ask for, where they do not contradict each other.
    fn create_kind(&self, flags: i32, op: CreateOp) -> Checked<CreateKind> {
        if !(0..=FLAG_MAX).contains(&flags) {
            return Err(ErrorCode::BadArguments);
        }
        let with_ttl = flags > FLAG_CONTAINER;
        if with_ttl && !self.settings.extended_types {
            return Err(ErrorCode::Unimplemented);
        }
        // The flags alone make a node ephemeral; a container is made by its own request only.
        let ephemeral = matches!(flags, 1 | 3);
        let kind = match op {
            CreateOp::Ttl { ttl_ms } if with_ttl && (1..=MAX_TTL_MS).contains(&ttl_ms) => CreateKind::Ttl { ttl_ms },
            CreateOp::Ttl { .. } => return Err(ErrorCode::BadArguments),
            _ if with_ttl => return Err(ErrorCode::BadArguments),
            CreateOp::Create => CreateKind::Node { ephemeral, with_stat: false },
            CreateOp::Create2 => CreateKind::Node { ephemeral, with_stat: true },
            CreateOp::Container => CreateKind::Container,
        };
        Ok(kind)
    }

    fn delete(&mut self, request: PathVersionRequest) -> Checked<Txn> {
        let path = request.path.ok_or(ErrorCode::MarshallingError)?;
        let parent_path = parent_of(&path)?;
        if matches!(path.as_str(), path::ROOT | path::SYSTEM | path::QUOTA | path::CONFIG) {
            return Err(ErrorCode::BadArguments);
        }
        let parent = self.node(parent_path)?;
        self.require(&parent.acl, Permissions::DELETE)?;
        let node = self.node(&path)?;
        check_version(node.stat.version, request.version)?;
        if node.child_count > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        self.remove(&path, &node);
        Ok(Txn::Delete { path })
    }

    fn set_data(&mut self, request: SetDataRequest) -> Checked<Txn> {
        let path = valid(request.path)?;
        let mut node = self.node(&path)?;
        self.require(&node.acl, Permissions::WRITE)?;
        let data = request.data.map(|data| data.0);
        let data_length = data.as_ref().map_or(0, Vec::len);
        self.check_quota(&path, data_length as i64 - node.data_length as i64, 0)?;
        check_version(node.stat.version, request.version)?;
        self.check_room(data_length as i64 - node.data_length as i64)?;
        let before = node.digest();
        let version = node.stat.version.wrapping_add(1);
        node.stat.version = version;
        node.stat.mzxid = self.zxid;
        node.stat.mtime_ms = self.wall_ms.0;
        node.data_length = data_length;
        node.content_crc = digest::content_crc(&path, data.as_deref());
        self.pending.change(&path, before, Some(node), self.zxid);
        Ok(Txn::SetData { path: path.into(), data, version })
    }

    fn set_acl(&mut self, request: SetAclRequest) -> Checked<Txn> {
        let path = valid(request.path)?;
        let acl = self.fix_up(request.acl.as_deref())?;
        let mut node = self.node(&path)?;
        self.require(&node.acl, Permissions::ADMIN)?;
        check_version(node.stat.aversion, request.version)?;
        // Nodes share their lists, so only the log grows.
        self.check_room(0)?;
        let before = node.digest();
        let version = node.stat.aversion.wrapping_add(1);
        node.stat.aversion = version;
        node.acl = self.tree.access_list(&acl);
        self.pending.change(&path, before, Some(node), self.zxid);
        Ok(Txn::SetAcl { path: path.into(), acl: Some(acl), version })
    }

    fn check(&mut self, request: PathVersionRequest) -> Checked<Txn> {
        let path = valid(request.path)?;
        let node = self.node(&path)?;
        self.require(&node.acl, Permissions::READ)?;
        check_version(node.stat.version, request.version)?;
        Ok(Txn::Check { path: path.into(), version: node.stat.version.wrapping_add(1) })
    }

    /// Takes a node that exists and has no children out of the tree to come.
    fn remove(&mut self, path: &str, node: &Node) {
        if let Some(parent_path) = path::parent(path)
            && let Some(mut parent) = self.pending.node(self.tree, parent_path)
        {
            let before = parent.digest();
            parent.stat.pzxid = self.zxid;
            parent.child_count = parent.child_count.saturating_sub(1);
            self.pending.change(parent_path, before, Some(parent), self.zxid);
        }
        self.pending.change(path, node.digest(), None, self.zxid);
    }

    fn node(&self, path: &str) -> Checked<Node> {
        self.pending.node(self.tree, path).ok_or(ErrorCode::NoNode)
    }

    fn require(&mut self, acl: &Arc<AccessList>, wanted: Permissions) -> Checked<()> {
        match self.verdicts.allow(acl, wanted, self.identities, &self.settings.access) {
            true => Ok(()),
            false => Err(ErrorCode::NoAuth),
        }
    }

    fn fix_up(&mut self, requested: Option<&[AclRequest]>) -> Checked<Vec<Acl>> {
        let acl = access::fix_up(requested, self.identities, &self.settings.access)?;
        let bytes = acl.iter().map(|entry| ACL_ENTRY_BYTES + entry.id.scheme.len() + entry.id.id.len()).sum();
        self.acl_room_bytes = self.acl_room_bytes.checked_sub(bytes).ok_or(ErrorCode::InvalidAcl)?;
        Ok(acl)
    }

    /// Only what is right otherwise is refused for the lack of room, and so it is right to ask again.
    fn check_room(&self, growth_bytes: i64) -> Checked<()> {
        if self.shortage.refuses(growth_bytes) {
            self.statistics.growing_writes_refused.fetch_add(1, Relaxed);
            return Err(ErrorCode::QuotaExceeded);
        }
        Ok(())
    }

    fn check_quota(&self, path: &str, bytes_delta: i64, count_delta: i64) -> Checked<()> {
        if self.settings.enforce_quota
            && self.tree.check_quota(path, bytes_delta, count_delta) == QuotaVerdict::HardExceeded
        {
            self.statistics.quota_exceeded.note(path);
            return Err(ErrorCode::QuotaExceeded);
        }
        Ok(())
    }
}

/// The paths that the record of a closing session names: all, or so many that the record stays readable (ZOOKEEPER-4306). Whoever applies the record also
/// deletes everything else that the session owns, so the tree is the same in the end. One path of each parent comes first: a replay on a
/// snapshot that was taken meanwhile finds the nodes gone, and has the time of the last change of a parent's children from the record
/// alone.
fn fitting(paths: Vec<String>, limit: usize) -> Vec<String> {
    let length = |path: &String| size_of::<i32>() + path.len();
    let room = limit.saturating_sub(TxnRecord::OVERHEAD + size_of::<i32>());
    if paths.iter().map(length).sum::<usize>() <= room {
        return paths;
    }
    let mut parents = HashSet::new();
    let mut used = 0;
    let mut named: Vec<String> = paths.iter().filter(|path| parents.insert(path::parent(path))).cloned().collect();
    named.retain(|path| {
        used += length(path);
        used <= room
    });
    named
}

/// The parent of a path that is about to appear or go; the checks here are the only ones that come before those of the parent.
fn parent_of(path: &str) -> Checked<&str> {
    match path::last_slash(path) {
        Some(slash) if !path.contains('\0') => Ok(if slash == 0 { path::ROOT } else { &path[..slash] }),
        _ => Err(ErrorCode::BadArguments),
    }
}

fn valid(path: Option<String>) -> Checked<NodePath> {
    path.and_then(|path| NodePath::new(path).ok()).ok_or(ErrorCode::BadArguments)
}

fn check_version(current: i32, expected: i32) -> Checked<()> {
    if expected == -1 || expected == current { Ok(()) } else { Err(ErrorCode::BadVersion) }
}
