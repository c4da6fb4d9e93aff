//! Access control lists as stored and as sent.

use rookeeper_jute::Text;
use serde::{Deserialize, Serialize};

/// Permission bits. Unknown bits are kept as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Permissions(pub i32);

impl Permissions {
    pub const READ: Permissions = Permissions(1);
    pub const WRITE: Permissions = Permissions(2);
    pub const CREATE: Permissions = Permissions(4);
    pub const DELETE: Permissions = Permissions(8);
    pub const ADMIN: Permissions = Permissions(16);
    pub const ALL: Permissions = Permissions(31);

    pub fn intersects(self, other: Permissions) -> bool {
        self.0 & other.0 != 0
    }

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
    pub fn new(scheme: impl Into<String>, id: impl Into<String>) -> Id {
        Id { scheme: scheme.into(), id: id.into() }
    }

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
