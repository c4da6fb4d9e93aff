//! Requests that are answered from the tree and the watch tables.
//!
//! Run by the connection's own task while the session has nothing on its way, else by the replica right after the write the read
//! stands behind. Either way the tree stays locked until the answer is in the outbox: a watch registered here cannot miss a change,
//! and an event of that change cannot overtake the answer.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::event::{AddWatchMode, EventType, WatcherType};
use rookeeper_proto::frame::{self, PING_XID, ReplyHeader};
use rookeeper_proto::jute::{self, Buffer, Text};
use rookeeper_proto::multi::{MultiHeader, ReadOp};
use rookeeper_proto::request::{PathModeRequest, PathWatchRequest, ReadRequest, SetWatchesRequest};
use rookeeper_proto::response::{ErrorResponse, GetAclResponse, GetDataResponse, PathResponse};
use rookeeper_proto::{ErrorCode, Id, MonotonicMs, OpCode, Permissions, Zxid, acl::ClientInfo, path};
use rookeeper_tree::{DescendantCount, Mark, NodeRef, Tree, Verdicts, WatchKind, access};

use crate::audit::Audited;
use crate::clients::connection::{Connection, Identities};
use crate::clients::outbox::Excess;
use crate::clients::shared::{Shared, put_event};
use crate::time::Stamp;

/// A read that waits for its turn behind a write. Decoded when it is executed.
#[derive(Debug)]
pub struct ReadFrame {
    pub xid: i32,
    pub op: OpCode,
    pub body: Vec<u8>,
    pub identities: Identities,
    /// Monotonic milliseconds of its arrival.
    pub received_ms: MonotonicMs,
    /// The same, finer.
    pub arrived: Stamp,
    /// None for a read. A change that takes its turn among the reads, because it is refused or concerns this server only, is told to the audit
    /// log in its turn.
    pub audited: Option<Arc<Audited>>,
}

/// A name, a path or an identity in a list, about.
const LISTED_BYTES: usize = 48;

pub(crate) struct Reader<'a> {
    pub shared: &'a Shared,
    pub tree: &'a Tree,
    pub connection: &'a Connection,
    pub identities: &'a [Id],
    pub verdicts: RefCell<Verdicts>,
}

pub(crate) type Answer = Result<(), ErrorCode>;

/// Executes one read and appends its answer, behind the events that a reconnecting client missed. Returns how many frames that made.
///
/// Call with the tree locked, after [`Shared::serve_deferred_to`], and put `output` into the connection's outbox before the tree is
/// unlocked.
pub fn answer(
    shared: &Shared,
    tree: &Tree,
    connection: &Connection,
    identities: &[Id],
    (xid, op, body): (i32, OpCode, &[u8]),
    output: &mut Vec<u8>,
) -> u64 {
    let reader = Reader { shared, tree, connection, identities, verdicts: RefCell::default() };
    let xid = if op == OpCode::Ping { PING_XID } else { xid };
    let request = ReadRequest::decode(op, body);
    let missed = match &request {
        Ok(ReadRequest::SetWatches(watches)) => reader.set_watches(watches, output),
        _ => 0,
    };
    frame::append(output, |output| {
        let start = output.len();
        put_header(output, ReplyHeader { xid, zxid: tree.last_zxid(), err: 0 });
        let body_start = output.len();
        let answer = match request {
            Ok(request) => reader.execute(request, output),
            Err(_) => Err(ErrorCode::MarshallingError),
        };
        if let Err(code) = answer {
            if !keeps_its_body(shared, op, output.len() - body_start) {
                output.truncate(body_start);
            }
            output[start + 12..start + 16].copy_from_slice(&code.number().to_be_bytes());
        }
        shared.statistics.answer_bytes.record(output.len() - start);
    });
    1 + missed
}

/// About how long the answer to a read will be, for whoever has to keep room for it. Short answers weigh nothing.
pub fn weight(shared: &Shared, tree: &Tree, op: OpCode, body: &[u8]) -> usize {
    let node = |path: &Option<Text<'_>>| node_named(tree, path);
    match ReadRequest::decode(op, body) {
        Ok(ReadRequest::GetData(request)) => node(&request.path).and_then(|node| node.data()).map_or(0, <[u8]>::len),
        Ok(ReadRequest::GetChildren(request) | ReadRequest::GetChildren2(request)) => {
            node(&request.path).map_or(0, |node| node.child_count() * LISTED_BYTES)
        }
        Ok(ReadRequest::GetAcl(request)) => node(&request.path).map_or(0, |node| node.acl().len() * LISTED_BYTES),
        Ok(ReadRequest::GetEphemerals(_)) => tree.ephemeral_count() * LISTED_BYTES,
        Ok(ReadRequest::MultiRead(_)) => shared.settings.max_multi_read_bytes,
        _ => 0,
    }
}

pub(crate) fn node_named<'t>(tree: &'t Tree, path: &Option<Text<'_>>) -> Option<NodeRef<'t>> {
    path.as_deref().and_then(|path| tree.node(canonical(path)))
}

/// A multiRead that stops at a foreign operation is answered with what it has, unless that is too much.
pub(crate) fn keeps_its_body(shared: &Shared, op: OpCode, bytes: usize) -> bool {
    op == OpCode::MultiRead && bytes <= shared.settings.max_multi_read_bytes
}

pub(crate) fn put_header(output: &mut Vec<u8>, header: ReplyHeader) {
    output.extend_from_slice(&header.xid.to_be_bytes());
    output.extend_from_slice(&header.zxid.0.to_be_bytes());
    output.extend_from_slice(&header.err.to_be_bytes());
}

impl<'a> Reader<'a> {
    fn execute(&self, request: ReadRequest<'_>, output: &mut Vec<u8>) -> Answer {
        match request {
            ReadRequest::Exists(request) => self.exists(&request, output),
            ReadRequest::GetData(request) => self.get_data(&request, output),
            ReadRequest::GetChildren(request) => {
                let node = self.watched_children(&request)?;
                put_children(output, node);
                Ok(())
            }
            ReadRequest::GetChildren2(request) => {
                let node = self.watched_children(&request)?;
                put_children(output, node);
                jute::append(output, &node.stat());
                Ok(())
            }
            ReadRequest::GetAcl(request) => self.get_acl(&required(&request.path)?, output),
            ReadRequest::GetAllChildrenNumber(request) => {
                let path = required(&request.path)?;
                let count = self.begin_count(&path)?.go_on(self.tree, usize::MAX).ok_or(ErrorCode::NoNode)?;
                put_count(output, &path, count);
                Ok(())
            }
            ReadRequest::GetEphemerals(request) => {
                let (start, mut mark) = (output.len(), None);
                put_length(output, start, 0);
                let count = self.list_owned(&request.path, &mut mark, usize::MAX, output);
                put_length(output, start, count);
                Ok(())
            }
            ReadRequest::Sync(request) => {
                jute::append(output, &PathResponse { path: request.path });
                Ok(())
            }
            ReadRequest::MultiRead(ops) => {
                let start = output.len();
                for op in &ops {
                    self.read_one(op, start, output)?;
                }
                jute::append(output, &MultiHeader::END);
                Ok(())
            }
            ReadRequest::SetWatches(_) | ReadRequest::Ping => Ok(()),
            ReadRequest::AddWatch(request) => self.add_watch(&request, output),
            ReadRequest::CheckWatches(request) => {
                let (kind, path) = watcher_type(&request)?;
                let found = self.shared.watches().contains(kind, &path, self.connection.id);
                if found { Ok(()) } else { Err(ErrorCode::NoWatcher) }
            }
            ReadRequest::RemoveWatches(request) => {
                let (kind, path) = watcher_type(&request)?;
                let mut watches = self.shared.watches();
                let removed = watches.remove(kind, &path, self.connection.id);
                self.shared.budget.note_watches(watches.bytes());
                if removed { Ok(()) } else { Err(ErrorCode::NoWatcher) }
            }
            ReadRequest::WhoAmI => {
                let infos: Vec<ClientInfo<'_>> = self.identities.iter().map(client_info).collect();
                jute::append(output, &infos);
                Ok(())
            }
        }
    }

    fn node(&self, path: &str) -> Result<NodeRef<'a>, ErrorCode> {
        self.tree.node(canonical(path)).ok_or(ErrorCode::NoNode)
    }

    fn allowed(&self, node: NodeRef<'_>, wanted: Permissions) -> Answer {
        let access = &self.shared.settings.access;
        match self.verdicts.borrow_mut().allow(node.acl(), wanted, self.identities, access) {
            true => Ok(()),
            false => Err(ErrorCode::NoAuth),
        }
    }

    fn readable(&self, path: &str) -> Result<NodeRef<'a>, ErrorCode> {
        let node = self.node(path)?;
        self.allowed(node, Permissions::READ)?;
        Ok(node)
    }

    /// Nothing is registered for a connection that is already gone: nobody would remove it. One that wants too much is cut, because
    /// no answer could tell it that a watch it counts on is not there.
    fn watch(&self, kind: WatchKind, path: &str) {
        let mut watches = self.shared.watches();
        if self.connection.is_gone() {
            return;
        }
        let (max_watches, max_bytes) =
            (self.shared.settings.max_watches_per_connection, self.shared.budget.connection_bytes());
        if watches.path_count_of(self.connection.id) >= max_watches {
            self.connection.outbox.close_for(Excess::Watches(max_watches));
        } else if watches.bytes_of(self.connection.id).saturating_add(path.len()) > max_bytes {
            self.connection.outbox.close_for(Excess::WatchBytes(max_bytes));
        } else {
            watches.add(kind, path, self.connection.id);
            self.shared.budget.note_watches(watches.bytes());
        }
    }

    fn exists(&self, request: &PathWatchRequest<'_>, output: &mut Vec<u8>) -> Answer {
        let path = required(&request.path)?;
        if path.contains('\0') {
            return Err(ErrorCode::BadArguments);
        }
        let node = self.node(&path);
        if let Ok(node) = node {
            self.allowed(node, Permissions::READ)?;
        }
        // The one read whose watch also waits for a node that is not there yet.
        if request.watch {
            self.watch(WatchKind::Data, &path);
        }
        jute::append(output, &node?.stat());
        Ok(())
    }

    fn get_data(&self, request: &PathWatchRequest<'_>, output: &mut Vec<u8>) -> Answer {
        let path = required(&request.path)?;
        let node = self.readable(&path)?;
        if request.watch {
            self.watch(WatchKind::Data, &path);
        }
        jute::append(output, &GetDataResponse { data: node.data().map(Buffer), stat: node.stat() });
        Ok(())
    }

    pub(crate) fn watched_children(&self, request: &PathWatchRequest<'_>) -> Result<NodeRef<'a>, ErrorCode> {
        let path = required(&request.path)?;
        let node = self.readable(&path)?;
        if request.watch {
            self.watch(WatchKind::Child, &path);
        }
        Ok(node)
    }

    fn get_acl(&self, path: &str, output: &mut Vec<u8>) -> Answer {
        let node = self.node(path)?;
        self.allowed(node, Permissions::READ.union(Permissions::ADMIN))?;
        match self.allowed(node, Permissions::ADMIN) {
            Ok(()) => jute::append(output, &(&node.acl()[..], node.stat())),
            Err(_) => jute::append(output, &GetAclResponse { acl: access::masked(node.acl()), stat: node.stat() }),
        }
        Ok(())
    }

    /// Lists what the session owns at or below a path, going on behind the mark, over at most `limit` nodes. Returns how many were listed;
    /// the mark is `None` where nothing is left.
    pub(crate) fn list_owned(
        &self,
        path: &Option<Text<'_>>,
        mark: &mut Option<Mark>,
        limit: usize,
        output: &mut Vec<u8>,
    ) -> usize {
        let prefix = path.as_deref().filter(|prefix| !prefix.trim().is_empty()).unwrap_or(path::ROOT);
        let (mut listed, mut left) = (0, limit);
        let owned = self.tree.ephemerals_behind(self.connection.session(), mark.take());
        for (at, path) in owned.take(limit) {
            if prefix == path::ROOT || path.starts_with(prefix) {
                jute::append(output, &path);
                listed += 1;
            }
            left -= 1;
            *mark = (left == 0).then_some(at);
        }
        listed
    }

    pub(crate) fn begin_count(&self, path: &str) -> Result<DescendantCount, ErrorCode> {
        self.readable(path)?;
        self.tree.count_descendants(canonical(path)).ok_or(ErrorCode::NoNode)
    }

    /// One operation of a multiRead whose answer began at `start`. An error ends the request.
    pub(crate) fn read_one(&self, op: &ReadOp<'_>, start: usize, output: &mut Vec<u8>) -> Answer {
        // Watch flags have no effect here.
        let (op, request) = match op {
            ReadOp::GetData(request) => (OpCode::GetData, request),
            ReadOp::GetChildren(request) => (OpCode::GetChildren, request),
            ReadOp::Foreign => {
                jute::append(output, &MultiHeader::END);
                return Err(ErrorCode::MarshallingError);
            }
        };
        let limit = self.shared.settings.max_multi_read_bytes;
        match required(&request.path).and_then(|path| self.readable(&path)) {
            Ok(node) if op == OpCode::GetData => {
                jute::append(output, &MultiHeader::ok(op));
                jute::append(output, &GetDataResponse { data: node.data().map(Buffer), stat: node.stat() });
            }
            Ok(node) => {
                jute::append(output, &MultiHeader::ok(op));
                // A list that is too long is not even copied.
                if output.len() - start + node.child_names_bytes() > limit {
                    output.resize(start + limit + 1, 0);
                    return Err(ErrorCode::MarshallingError);
                }
                put_children(output, node);
            }
            Err(code) => {
                let err = code.number();
                jute::append(output, &(MultiHeader::error(err), ErrorResponse { err }));
            }
        }
        if output.len() - start > limit { Err(ErrorCode::MarshallingError) } else { Ok(()) }
    }

    fn add_watch(&self, request: &PathModeRequest<'_>, output: &mut Vec<u8>) -> Answer {
        let kind = match AddWatchMode::from_i32(request.mode).ok_or(ErrorCode::MarshallingError)? {
            AddWatchMode::Persistent => WatchKind::Persistent,
            AddWatchMode::PersistentRecursive => WatchKind::PersistentRecursive,
        };
        // A null path is accepted and watches nothing.
        if let Some(path) = &request.path {
            self.watch(kind, path);
        }
        jute::append(output, &ErrorResponse { err: 0 });
        Ok(())
    }

    /// Re-arms the watches of a client that reconnects, or tells it at once what it missed. Paths are neither validated nor, for the
    /// persistent kinds, looked up. Returns the number of events.
    fn set_watches(&self, request: &SetWatchesRequest<'_>, output: &mut Vec<u8>) -> u64 {
        rearmed(request).map(|(kind, path)| self.set_watch(kind, path, request.relative_zxid, output)).sum()
    }

    /// Re-arms one of them. Returns the number of events.
    pub(crate) fn set_watch(&self, kind: Rearmed, path: &str, seen: Zxid, output: &mut Vec<u8>) -> u64 {
        let node = self.tree.node(canonical(path));
        // Stricter than the original: an event about a node goes only to those who may read it, also at reconnect.
        let readable = |node| self.allowed(node, Permissions::READ).is_ok();
        let (watch, event) = match (kind, node) {
            (Rearmed::Persistent, _) => (Some(WatchKind::Persistent), None),
            (Rearmed::PersistentRecursive, _) => (Some(WatchKind::PersistentRecursive), None),
            (Rearmed::Exist, None) => (Some(WatchKind::Data), None),
            (Rearmed::Data | Rearmed::Child, None) => (None, Some(EventType::NodeDeleted)),
            (Rearmed::Data, Some(node)) if node.persisted().mzxid <= seen => (Some(WatchKind::Data), None),
            (Rearmed::Child, Some(node)) if node.persisted().pzxid <= seen => (Some(WatchKind::Child), None),
            (_, Some(node)) if !readable(node) => (None, None),
            (Rearmed::Data, Some(_)) => (None, Some(EventType::NodeDataChanged)),
            (Rearmed::Exist, Some(_)) => (None, Some(EventType::NodeCreated)),
            (Rearmed::Child, Some(_)) => (None, Some(EventType::NodeChildrenChanged)),
        };
        if let Some(watch) = watch {
            self.watch(watch, path);
        }
        let Some(event) = event else { return 0 };
        let start = output.len();
        put_event(output, Zxid(-1), event, path);
        self.shared.statistics.watch_bytes.fetch_add((output.len() - start) as u64, Relaxed);
        1
    }
}

/// The kinds of watches that a reconnecting client names.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rearmed {
    Data,
    Exist,
    Child,
    Persistent,
    PersistentRecursive,
}

/// All of them, in the order of the request.
pub(crate) fn rearmed<'a>(request: &'a SetWatchesRequest<'_>) -> impl Iterator<Item = (Rearmed, &'a str)> {
    let of_kind = |kind, paths: &'a [Text<'_>]| paths.iter().map(move |path| (kind, &**path));
    of_kind(Rearmed::Data, &request.data)
        .chain(of_kind(Rearmed::Exist, &request.exist))
        .chain(of_kind(Rearmed::Child, &request.child))
        .chain(of_kind(Rearmed::Persistent, &request.persistent))
        .chain(of_kind(Rearmed::PersistentRecursive, &request.persistent_recursive))
}

/// An empty path names the root in reads. Watches keep the path as it was given.
fn canonical(path: &str) -> &str {
    if path.is_empty() { path::ROOT } else { path }
}

pub(crate) fn required<'a>(path: &'a Option<Text<'_>>) -> Result<Text<'a>, ErrorCode> {
    path.as_ref().map(|path| Text::from(&**path)).ok_or(ErrorCode::MarshallingError)
}

fn watcher_type<'a>(request: &'a PathModeRequest<'_>) -> Result<(WatcherType, Text<'a>), ErrorCode> {
    let kind = WatcherType::from_i32(request.mode).ok_or(ErrorCode::MarshallingError)?;
    let path = request.path.as_ref().ok_or(ErrorCode::NoWatcher)?;
    Ok((kind, Text::from(&**path)))
}

/// The original counts the root itself where the path is empty.
pub(crate) fn put_count(output: &mut Vec<u8>, path: &str, count: usize) {
    let root = usize::from(path.is_empty());
    jute::append(output, &((count + root) as i32));
}

/// Puts the length of a list where it begins, in front of what is there already.
pub(crate) fn put_length(output: &mut Vec<u8>, start: usize, count: usize) {
    output.resize(output.len().max(start + 4), 0);
    output[start..start + 4].copy_from_slice(&(count as i32).to_be_bytes());
}

fn put_children(output: &mut Vec<u8>, node: NodeRef<'_>) {
    output.extend_from_slice(&(node.child_count() as i32).to_be_bytes());
    node.append_child_names(output);
}

/// What `whoAmI` tells of an identity: never the hash of a password.
fn client_info(id: &Id) -> ClientInfo<'_> {
    let user = match &*id.scheme {
        "digest" => id.id.split(':').next().unwrap_or_default(),
        _ => &id.id,
    };
    ClientInfo { auth_scheme: Text::from(&*id.scheme), user: Text::from(user) }
}
