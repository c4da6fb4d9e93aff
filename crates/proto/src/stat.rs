//! What is known of a node besides its data: as stored, and as clients see it.

use serde::{Deserialize, Serialize};

use crate::ids::Zxid;
use crate::node_kind::{NodeKind, TtlEncoding};

/// The stored form, 60 bytes in snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StatPersisted {
    /// The transaction that created the node.
    pub czxid: Zxid,
    /// The transaction that changed its data last.
    pub mzxid: Zxid,
    /// When it was created, in milliseconds since 1970 by the clock of the server that prepared the transaction.
    pub ctime_ms: i64,
    /// When its data was changed last, by the same measure.
    pub mtime_ms: i64,
    /// How often its data was changed; wraps.
    pub version: i32,
    /// How many children were ever created below the node. Clients see another number, see [`Stat::cversion`].
    pub cversion: i32,
    /// How often its list of access control was changed; wraps.
    pub aversion: i32,
    /// Who ends its life, see [`NodeKind::read`].
    pub ephemeral_owner: i64,
    /// The transaction that created or deleted a child last.
    pub pzxid: Zxid,
}

/// The form clients receive, 68 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stat {
    pub czxid: Zxid,
    pub mzxid: Zxid,
    pub ctime_ms: i64,
    pub mtime_ms: i64,
    pub version: i32,
    /// Creations plus deletions of children: twice the stored counter less the children that live.
    pub cversion: i32,
    pub aversion: i32,
    /// The owning session of an ephemeral node, else 0.
    pub ephemeral_owner: i64,
    pub data_length: i32,
    pub num_children: i32,
    pub pzxid: Zxid,
}

impl StatPersisted {
    /// A fresh node's. For its owner see [`NodeKind::owner`].
    pub fn created(zxid: Zxid, time_ms: i64, ephemeral_owner: i64) -> StatPersisted {
        StatPersisted {
            czxid: zxid,
            mzxid: zxid,
            ctime_ms: time_ms,
            mtime_ms: time_ms,
            pzxid: zxid,
            ephemeral_owner,
            ..StatPersisted::default()
        }
    }

    /// What `ephemeral_owner` says.
    pub fn kind(&self, encoding: TtlEncoding) -> NodeKind {
        NodeKind::read(self.ephemeral_owner, encoding)
    }

    /// What a client sees of it.
    pub fn visible(&self, data_length: usize, num_children: usize, encoding: TtlEncoding) -> Stat {
        let num_children = num_children as i32;
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            ctime_ms: self.ctime_ms,
            mtime_ms: self.mtime_ms,
            version: self.version,
            cversion: self.cversion.wrapping_mul(2).wrapping_sub(num_children),
            aversion: self.aversion,
            ephemeral_owner: self.kind(encoding).visible_owner(),
            data_length: data_length as i32,
            num_children,
            pzxid: self.pzxid,
        }
    }
}
