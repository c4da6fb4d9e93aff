//! The rights of each user on a node, told by the node's list alone: written without a look at the product's rules.

use rookeeper_proto::{Acl, Id, Permissions};

/// Clients are users of the ensemble, or nobody in particular, which is user 0.
pub type User = u8;

/// Besides nobody in particular.
pub const USERS: User = 2;

/// The user that shows nothing to servers.
pub const ANYBODY: User = 0;

/// The credentials that a user shows to a server.
pub fn identity(user: User) -> Id {
    Id::new("digest", format!("user{user}:secret"))
}

/// Whether the list grants the user any of the wanted permissions.
pub fn may(acl: &[Acl], user: User, wanted: Permissions) -> bool {
    acl.iter().any(|entry| {
        let is_meant = entry.id == Id::anyone() || (user != ANYBODY && entry.id == identity(user));
        is_meant && entry.permissions.intersects(wanted)
    })
}

/// Whether the list lets the user read.
pub fn may_read(acl: &[Acl], user: User) -> bool {
    may(acl, user, Permissions::READ)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_for_those_it_names() {
        let list = [Acl::new(Permissions::ALL, identity(1)), Acl::new(Permissions::READ, Id::anyone())];
        assert!(may(&list, 1, Permissions::ADMIN) && may_read(&list, 2) && may_read(&list, ANYBODY));
        assert!(!may(&list, 2, Permissions::WRITE) && !may(&list, ANYBODY, Permissions::ADMIN));
        assert!(!may_read(&list[..1], 2) && !may_read(&[], 1));
    }
}
