//! The records snapshots are made of. How they are put together in a file, and sealed, is for the store.

use rookeeper_jute::{Buffer, Text};
use serde::{Deserialize, Serialize};

use crate::acl::Acl;
use crate::ids::{SessionId, Zxid};
use crate::stat::StatPersisted;
use crate::txn::Digest;

/// The head of a snapshot and of a log: magic, format version, database id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHeader {
    pub magic: i32,
    pub version: i32,
    pub dbid: i64,
}

impl FileHeader {
    /// In bytes.
    pub const LENGTH: usize = 16;
    /// The head of a snapshot as the original writes it.
    pub const SNAPSHOT: FileHeader = FileHeader { magic: i32::from_be_bytes(*b"ZKSN"), version: 2, dbid: -1 };
    /// The head of a log as the original writes it.
    pub const LOG: FileHeader = FileHeader { magic: i32::from_be_bytes(*b"ZKLG"), version: 2, dbid: 0 };
}

/// A session, with the time without a sign of life after which it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEntry {
    pub session: SessionId,
    pub timeout_ms: i32,
}

/// A list of access control by the id that nodes name it with; a null list is the open one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclEntry {
    pub acl_id: i64,
    pub acl: Option<Vec<Acl>>,
}

/// The ACL id of the open list, which the table does not hold.
pub const OPEN_ACL_ID: i64 = -1;

/// One node. The root has the empty path; [`END_OF_NODES`] in place of a path ends the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry<'a> {
    #[serde(borrow)]
    pub path: Text<'a>,
    #[serde(borrow)]
    pub data: Option<Buffer<'a>>,
    pub acl_id: i64,
    pub stat: StatPersisted,
}

/// In place of the path of a further node.
pub const END_OF_NODES: &str = "/";

/// The trailer since 3.6: the digest of the tree at a zxid; zxid 0 says that none was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestTrailer {
    pub zxid: Zxid,
    pub digest: Digest,
}
