//! Requests that are answered from the tree and the watch tables.
//!
//! Run by the connection's own task while the session has nothing on its way, else by the replica right after the write the read
//! stands behind. Either way the tree stays locked until the answer is in the outbox: a watch registered here cannot miss a change,
//! and an event of that change cannot overtake the answer.

use std::cell::RefCell;

use rookeeper_proto::event::{AddWatchMode, EventType, WatcherType};
use rookeeper_proto::frame::{self, PING_XID, ReplyHeader};
use rookeeper_proto::jute::{self, Buffer, Text};
use rookeeper_proto::multi::{MultiHeader, ReadOp};
use rookeeper_proto::request::{PathModeRequest, PathWatchRequest, ReadRequest, SetWatchesRequest};
use rookeeper_proto::response::{ErrorResponse, GetAclResponse, GetDataResponse, PathResponse};
use rookeeper_proto::{ErrorCode, Id, OpCode, Permissions, Zxid, acl::ClientInfo, path};
use rookeeper_tree::{NodeRef, Tree, Verdicts, WatchKind, access};

use crate::connection::{Connection, Identities};
use crate::shared::{Shared, put_event};

/// A read that waits for its turn behind a write. Decoded when it is executed.
#[derive(Debug)]
pub struct ReadFrame {
    pub xid: i32,
    pub op: OpCode,
    pub body: Vec<u8>,
    pub identities: Identities,
    /// Monotonic milliseconds of its arrival.
    pub received_ms: i64,
}

struct Reader<'a> {
    shared: &'a Shared,
    tree: &'a Tree,
    connection: &'a Connection,
    identities: &'a [Id],
    verdicts: RefCell<Verdicts>,
}

type Answer = Result<(), ErrorCode>;

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
            // A multiRead that stops at a foreign operation is answered with what it has, unless that is too much.
            if op != OpCode::MultiRead || output.len() - body_start > shared.settings.max_multi_read_bytes {
                output.truncate(body_start);
            }
            output[start + 12..start + 16].copy_from_slice(&code.number().to_be_bytes());
        }
        shared.statistics.answer_bytes.record(output.len() - start);
    });
    1 + missed
}

fn put_header(output: &mut Vec<u8>, header: ReplyHeader) {
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
                self.readable(&path)?;
                let count = self.tree.descendant_count(canonical(&path)).ok_or(ErrorCode::NoNode)?;
                jute::append(output, &(count as i32));
                Ok(())
            }
            ReadRequest::GetEphemerals(request) => {
                let prefix = request.path.as_deref().filter(|prefix| !prefix.trim().is_empty()).unwrap_or(path::ROOT);
                let session = self.connection.session();
                let all = self.tree.ephemerals(session);
                let paths: Vec<&str> = all.filter(|path| prefix == path::ROOT || path.starts_with(prefix)).collect();
                jute::append(output, &paths);
                Ok(())
            }
            ReadRequest::Sync(request) => {
                jute::append(output, &PathResponse { path: request.path });
                Ok(())
            }
            ReadRequest::MultiRead(ops) => self.multi_read(ops, output),
            ReadRequest::SetWatches(_) | ReadRequest::Ping => Ok(()),
            ReadRequest::AddWatch(request) => self.add_watch(&request, output),
            ReadRequest::CheckWatches(request) => {
                let (kind, path) = watcher_type(&request)?;
                let found = self.shared.watches().contains(kind, &path, self.connection.id);
                if found { Ok(()) } else { Err(ErrorCode::NoWatcher) }
            }
            ReadRequest::RemoveWatches(request) => {
                let (kind, path) = watcher_type(&request)?;
                let removed = self.shared.watches().remove(kind, &path, self.connection.id);
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
        if watches.path_count_of(self.connection.id) < self.shared.settings.max_watches_per_connection {
            watches.add(kind, path, self.connection.id);
        } else {
            self.connection.outbox.close();
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

    fn watched_children(&self, request: &PathWatchRequest<'_>) -> Result<NodeRef<'a>, ErrorCode> {
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

    fn multi_read(&self, ops: Vec<ReadOp<'_>>, output: &mut Vec<u8>) -> Answer {
        let start = output.len();
        let mut answer = Ok(());
        for op in ops {
            // Watch flags have no effect here.
            let result = match &op {
                ReadOp::GetData(request) => required(&request.path).and_then(|path| self.readable(&path)).map(|node| {
                    jute::append(output, &MultiHeader::ok(OpCode::GetData));
                    jute::append(output, &GetDataResponse { data: node.data().map(Buffer), stat: node.stat() });
                }),
                ReadOp::GetChildren(request) => {
                    required(&request.path).and_then(|path| self.readable(&path)).map(|node| {
                        jute::append(output, &MultiHeader::ok(OpCode::GetChildren));
                        put_children(output, node);
                    })
                }
                ReadOp::Foreign => {
                    answer = Err(ErrorCode::MarshallingError);
                    break;
                }
            };
            if output.len() - start > self.shared.settings.max_multi_read_bytes {
                return Err(ErrorCode::MarshallingError);
            }
            if let Err(code) = result {
                let err = code.number();
                jute::append(output, &(MultiHeader::error(err), ErrorResponse { err }));
            }
        }
        jute::append(output, &MultiHeader::END);
        answer
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
        let seen = request.relative_zxid;
        let mut missed = 0;
        let mut tell = |event_type, path: &str| {
            missed += 1;
            put_event(output, Zxid(-1), event_type, path);
        };
        // Stricter than the original: an event about a node goes only to those who may read it, also at reconnect.
        let readable = |node| self.allowed(node, Permissions::READ).is_ok();
        for path in &request.data {
            match self.tree.node(canonical(path)) {
                None => tell(EventType::NodeDeleted, path),
                Some(node) if node.persisted().mzxid <= seen => self.watch(WatchKind::Data, path),
                Some(node) if readable(node) => tell(EventType::NodeDataChanged, path),
                Some(_) => {}
            }
        }
        for path in &request.exist {
            match self.tree.node(canonical(path)) {
                None => self.watch(WatchKind::Data, path),
                Some(node) if readable(node) => tell(EventType::NodeCreated, path),
                Some(_) => {}
            }
        }
        for path in &request.child {
            match self.tree.node(canonical(path)) {
                None => tell(EventType::NodeDeleted, path),
                Some(node) if node.persisted().pzxid <= seen => self.watch(WatchKind::Child, path),
                Some(node) if readable(node) => tell(EventType::NodeChildrenChanged, path),
                Some(_) => {}
            }
        }
        for path in &request.persistent {
            self.watch(WatchKind::Persistent, path);
        }
        for path in &request.persistent_recursive {
            self.watch(WatchKind::PersistentRecursive, path);
        }
        missed
    }
}

/// An empty path names the root in reads. Watches keep the path as it was given.
fn canonical(path: &str) -> &str {
    if path.is_empty() { path::ROOT } else { path }
}

fn required<'a>(path: &'a Option<Text<'_>>) -> Result<Text<'a>, ErrorCode> {
    path.as_ref().map(|path| Text::from(&**path)).ok_or(ErrorCode::MarshallingError)
}

fn watcher_type<'a>(request: &'a PathModeRequest<'_>) -> Result<(WatcherType, Text<'a>), ErrorCode> {
    let kind = WatcherType::from_i32(request.mode).ok_or(ErrorCode::MarshallingError)?;
    let path = request.path.as_ref().ok_or(ErrorCode::NoWatcher)?;
    Ok((kind, Text::from(&**path)))
}

fn put_children(output: &mut Vec<u8>, node: NodeRef<'_>) {
    output.extend_from_slice(&(node.child_count() as i32).to_be_bytes());
    node.append_child_names(output);
}

/// What `whoAmI` tells of an identity: never the hash of a password.
fn client_info(id: &Id) -> ClientInfo<'_> {
    let user = match id.scheme.as_str() {
        "digest" => id.id.split(':').next().unwrap_or_default(),
        _ => &id.id,
    };
    ClientInfo { auth_scheme: Text::from(id.scheme.as_str()), user: Text::from(user) }
}
