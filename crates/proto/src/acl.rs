//! Access control lists as stored and as sent.

use rookeeper_jute::Text;
use serde::{Deserialize, Serialize};

/// Permission bits. Unknown bits are kept as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Permissions(pub i32);

impl Permissions {
    /// Reading the data and the names of the children. Whether a node exists is told to everybody.
    pub const READ: Permissions = Permissions(1);
    /// setData; on the node that holds the membership, reconfig.
    pub const WRITE: Permissions = Permissions(2);
    /// Creating children of the node.
    pub const CREATE: Permissions = Permissions(4);
    /// Deleting children of the node; the node itself is not asked.
    pub const DELETE: Permissions = Permissions(8);
    /// setACL.
    pub const ADMIN: Permissions = Permissions(16);
    /// The five above.
    pub const ALL: Permissions = Permissions(31);

    /// Whether the two have a bit in common.
    pub fn intersects(self, other: Permissions) -> bool {
        self.0 & other.0 != 0
    }

    /// The bits of both.
    pub fn union(self, other: Permissions) -> Permissions {
        Permissions(self.0 | other.0)
    }
}

/// Who: a scheme (`world`, `digest`, `ip`, `sasl`…) and an identity within it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Id {
    pub scheme: String,
    pub id: String,
}

impl Id {
    /// An identity of a scheme, unchecked.
    pub fn new(scheme: impl Into<String>, id: impl Into<String>) -> Id {
        Id { scheme: scheme.into(), id: id.into() }
    }

    /// Everybody, in the scheme `world`.
    pub fn anyone() -> Id {
        Id::new("world", "anyone")
    }
}

/// One entry of an access control list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Acl {
    pub permissions: Permissions,
    pub id: Id,
}

impl Acl {
    /// An entry, unchecked.
    pub fn new(permissions: Permissions, id: Id) -> Acl {
        Acl { permissions, id }
    }

    /// The list that allows everything to everybody.
    pub fn open() -> Vec<Acl> {
        vec![Acl::new(Permissions::ALL, Id::anyone())]
    }

    /// The list that allows reading to everybody.
    pub fn read_only() -> Vec<Acl> {
        vec![Acl::new(Permissions::READ, Id::anyone())]
    }
}

/// An entry as a client sends it: both parts of the id may be null, which validation answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclRequest {
    pub permissions: Permissions,
    pub scheme: Option<String>,
    pub id: Option<String>,
}

/// An identity of the calling connection as `whoAmI` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientInfo<'a> {
    #[serde(borrow)]
    pub auth_scheme: Text<'a>,
    #[serde(borrow)]
    pub user: Text<'a>,
}
