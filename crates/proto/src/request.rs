//! Requests of clients, by opcode.
//!
//! Fields that may be null on the wire are `Option`s: what a null means is decided where the request is checked, in the order of
//! checks that clients rely on.

use rookeeper_jute::{self as jute, Buffer, ByteBuf, Text};
use serde::{Deserialize, Serialize};

use crate::acl::AclRequest;
use crate::ids::Zxid;
use crate::multi::{self, ReadOp, WriteOp};
use crate::opcode::OpCode;

/// create, create2, createContainer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateRequest {
    pub path: Option<String>,
    pub data: Option<ByteBuf>,
    pub acl: Option<Vec<AclRequest>>,
    /// 1 is ephemeral, 2 sequential, 3 both, 4 a container; 5 and 6 (sequential) have a time to live.
    pub flags: i32,
}

/// createTTL. The time to live counts only where the flags ask for one (5 and 6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTtlRequest {
    pub create: CreateRequest,
    pub ttl_ms: i64,
}

/// delete, and check inside a multi.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathVersionRequest {
    pub path: Option<String>,
    /// -1 is any.
    pub version: i32,
}

/// setData. Version -1 is any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetDataRequest {
    pub path: Option<String>,
    pub data: Option<ByteBuf>,
    pub version: i32,
}

/// setACL. The version is that of the list (aversion); -1 is any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAclRequest {
    pub path: Option<String>,
    pub acl: Option<Vec<AclRequest>>,
    pub version: i32,
}

/// reconfig: either the new members one and all, or those who join and leave, separated by commas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconfigRequest {
    /// Server lines, also of members that change.
    pub joining_servers: Option<String>,
    /// Ids.
    pub leaving_servers: Option<String>,
    /// Server, group and weight lines. Where it is there, the two above do not count.
    pub new_members: Option<String>,
    /// The version of the membership that the change is made to; -1 is any.
    pub current_config_id: i64,
}

/// A request that takes its place in the order of writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteRequest {
    Create(CreateRequest),
    Create2(CreateRequest),
    CreateContainer(CreateRequest),
    CreateTtl(CreateTtlRequest),
    Delete(PathVersionRequest),
    SetData(SetDataRequest),
    SetAcl(SetAclRequest),
    Multi(Vec<WriteOp>),
    Reconfig(ReconfigRequest),
    CloseSession,
}

impl WriteRequest {
    /// Decodes the body behind a request header. Fails where the body is too short or malformed, and for an opcode that is no write.
    pub fn decode(op: OpCode, body: &[u8]) -> jute::Result<WriteRequest> {
        Ok(match op {
            OpCode::Create => WriteRequest::Create(jute::from_slice(body)?),
            OpCode::Create2 => WriteRequest::Create2(jute::from_slice(body)?),
            OpCode::CreateContainer => WriteRequest::CreateContainer(jute::from_slice(body)?),
            OpCode::CreateTtl => WriteRequest::CreateTtl(jute::from_slice(body)?),
            OpCode::Delete => WriteRequest::Delete(jute::from_slice(body)?),
            OpCode::SetData => WriteRequest::SetData(jute::from_slice(body)?),
            OpCode::SetAcl => WriteRequest::SetAcl(jute::from_slice(body)?),
            OpCode::Multi => WriteRequest::Multi(multi::decode_writes(body)?),
            OpCode::Reconfig => WriteRequest::Reconfig(jute::from_slice(body)?),
            OpCode::CloseSession => WriteRequest::CloseSession,
            _ => return Err(jute::Error::Unsupported("such a write request")),
        })
    }
}

/// exists, getData, getChildren, getChildren2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathWatchRequest<'a> {
    #[serde(borrow)]
    pub path: Option<Text<'a>>,
    pub watch: bool,
}

/// getACL, sync, getEphemerals, getAllChildrenNumber.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathRequest<'a> {
    #[serde(borrow)]
    pub path: Option<Text<'a>>,
}

/// checkWatches, removeWatches (a watcher type) and addWatch (a mode).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathModeRequest<'a> {
    #[serde(borrow)]
    pub path: Option<Text<'a>>,
    /// A [`WatcherType`](crate::event::WatcherType) or an [`AddWatchMode`](crate::event::AddWatchMode).
    pub mode: i32,
}

/// setWatches2; setWatches leaves the last two lists empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetWatchesRequest<'a> {
    /// The last transaction the client knows of. What has changed since is told at once, in place of the watch.
    pub relative_zxid: Zxid,
    pub data: Vec<Text<'a>>,
    pub exist: Vec<Text<'a>>,
    pub child: Vec<Text<'a>>,
    pub persistent: Vec<Text<'a>>,
    pub persistent_recursive: Vec<Text<'a>>,
}

/// addauth: an identity for the connection, proved by bytes that the scheme knows. Clients send 0 as `auth_type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthRequest<'a> {
    pub auth_type: i32,
    #[serde(borrow)]
    pub scheme: Option<Text<'a>>,
    #[serde(borrow)]
    pub auth: Option<Buffer<'a>>,
}

/// A request that is answered from the tree and the watch tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadRequest<'a> {
    Exists(PathWatchRequest<'a>),
    GetData(PathWatchRequest<'a>),
    GetChildren(PathWatchRequest<'a>),
    GetChildren2(PathWatchRequest<'a>),
    GetAcl(PathRequest<'a>),
    GetAllChildrenNumber(PathRequest<'a>),
    GetEphemerals(PathRequest<'a>),
    Sync(PathRequest<'a>),
    MultiRead(Vec<ReadOp<'a>>),
    SetWatches(SetWatchesRequest<'a>),
    AddWatch(PathModeRequest<'a>),
    CheckWatches(PathModeRequest<'a>),
    RemoveWatches(PathModeRequest<'a>),
    WhoAmI,
    Ping,
}

impl<'a> ReadRequest<'a> {
    /// Decodes the body behind a request header. Fails where the body is too short or malformed, and for an opcode that is no read.
    pub fn decode(op: OpCode, body: &'a [u8]) -> jute::Result<ReadRequest<'a>> {
        Ok(match op {
            OpCode::Exists => ReadRequest::Exists(jute::from_slice(body)?),
            OpCode::GetData => ReadRequest::GetData(jute::from_slice(body)?),
            OpCode::GetChildren => ReadRequest::GetChildren(jute::from_slice(body)?),
            OpCode::GetChildren2 => ReadRequest::GetChildren2(jute::from_slice(body)?),
            OpCode::GetAcl => ReadRequest::GetAcl(jute::from_slice(body)?),
            OpCode::GetAllChildrenNumber => ReadRequest::GetAllChildrenNumber(jute::from_slice(body)?),
            OpCode::GetEphemerals => ReadRequest::GetEphemerals(jute::from_slice(body)?),
            OpCode::Sync => ReadRequest::Sync(jute::from_slice(body)?),
            OpCode::MultiRead => ReadRequest::MultiRead(multi::decode_reads(body)?),
            OpCode::SetWatches | OpCode::SetWatches2 => {
                let mut input = jute::Deserializer::new(body);
                let with_persistent = op == OpCode::SetWatches2;
                ReadRequest::SetWatches(SetWatchesRequest {
                    relative_zxid: input.read()?,
                    data: input.read()?,
                    exist: input.read()?,
                    child: input.read()?,
                    persistent: if with_persistent { input.read()? } else { Vec::new() },
                    persistent_recursive: if with_persistent { input.read()? } else { Vec::new() },
                })
            }
            OpCode::AddWatch => ReadRequest::AddWatch(jute::from_slice(body)?),
            OpCode::CheckWatches => ReadRequest::CheckWatches(jute::from_slice(body)?),
            OpCode::RemoveWatches => ReadRequest::RemoveWatches(jute::from_slice(body)?),
            OpCode::WhoAmI => ReadRequest::WhoAmI,
            OpCode::Ping => ReadRequest::Ping,
            _ => return Err(jute::Error::Unsupported("such a read request")),
        })
    }
}
