//! What the `ephemeralOwner` field of a node means.
//!
//! The field holds a session id, 0, or a marker in its top bits: a container, or a TTL in the low 40 bits. TTL owners are always
//! recognised when data is read; the setting `extendedTypesEnabled` only decides whether new ones may be made. Version 3.5.3 of the
//! original marked TTLs by the sign alone, see [`TtlEncoding`].

use crate::ids::SessionId;

/// The largest time to live: 40 bits of milliseconds.
pub const MAX_TTL_MS: i64 = 0xff_ffff_ffff;

const CONTAINER: i64 = i64::MIN;
const TTL_MARK: u64 = 0xff00_0000_0000_0000;
const TTL_FEATURE: u64 = 0x00ff_ff00_0000_0000;

/// Which owners are times to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TtlEncoding {
    /// Those with the whole top byte set, as since 3.5.4.
    #[default]
    Current,
    /// Every negative one but a container's (`emulate353TTLNodes`). Sessions of servers with ids above 127 are taken for times to live as
    /// well. ZOOKEEPER-2901: 3.5.3 wrote TTLs like that. Counterpart in the original: `EphemeralTypeEmulate353`.
    Also353,
}

/// Who ends the life of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeKind {
    Persistent,
    Ephemeral(SessionId),
    /// Removed once its last child is gone.
    Container,
    /// Removed when it has no children and was not modified for `ttl_ms`. 0 is a node of 3.5.3 that stays.
    Ttl {
        ttl_ms: i64,
    },
}

impl NodeKind {
    /// Reads a stored owner in the current encoding. An owner with the TTL mark and an unknown feature is an ordinary session id. ZOOKEEPER-2901: the mark is the
    /// whole top byte, so that the sessions of servers with ids above 127 are not taken for times to live.
    pub fn from_owner(owner: i64) -> NodeKind {
        match owner {
            0 => NodeKind::Persistent,
            CONTAINER => NodeKind::Container,
            owner if owner as u64 & (TTL_MARK | TTL_FEATURE) == TTL_MARK && owner & MAX_TTL_MS != 0 => {
                NodeKind::Ttl { ttl_ms: owner & MAX_TTL_MS }
            }
            owner => NodeKind::Ephemeral(SessionId(owner)),
        }
    }

    /// Reads a stored owner. As in the original, 40 bits of a TTL of 3.5.3 count, though that version allowed more.
    pub fn read(owner: i64, encoding: TtlEncoding) -> NodeKind {
        match encoding {
            TtlEncoding::Also353 if owner < 0 && owner != CONTAINER => NodeKind::Ttl { ttl_ms: owner & MAX_TTL_MS },
            _ => NodeKind::from_owner(owner),
        }
    }

    /// The owner to be stored; the way back from [`NodeKind::from_owner`].
    pub fn owner(self) -> i64 {
        match self {
            NodeKind::Persistent => 0,
            NodeKind::Ephemeral(session) => session.0,
            NodeKind::Container => CONTAINER,
            NodeKind::Ttl { ttl_ms } => TTL_MARK as i64 | (ttl_ms & MAX_TTL_MS),
        }
    }

    /// The owner as clients see it: only ephemeral nodes have one.
    pub fn visible_owner(self) -> i64 {
        match self {
            NodeKind::Ephemeral(session) => session.0,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_round_trip() {
        let kinds = [
            NodeKind::Persistent,
            NodeKind::Ephemeral(SessionId(0x0100_0000_0000_0001)),
            NodeKind::Container,
            NodeKind::Ttl { ttl_ms: 1 },
            NodeKind::Ttl { ttl_ms: MAX_TTL_MS },
        ];
        for kind in kinds {
            assert_eq!(NodeKind::from_owner(kind.owner()), kind);
        }
    }

    #[test]
    fn a_time_to_live_of_3_5_3_is_marked_by_the_sign_alone() {
        let read = |owner: u64| NodeKind::read(owner as i64, TtlEncoding::Also353);
        assert_eq!(read(0x8000_0000_0000_0064), NodeKind::Ttl { ttl_ms: 100 });
        assert_eq!(read(0xff00_0000_0000_0064), NodeKind::Ttl { ttl_ms: 100 });
        assert_eq!(read(0x8000_0100_0000_0001), NodeKind::Ttl { ttl_ms: 1 });
        assert_eq!(read(u64::MAX), NodeKind::Ttl { ttl_ms: MAX_TTL_MS });
        assert_eq!(read(0xff00_0000_0000_0000), NodeKind::Ttl { ttl_ms: 0 });
        assert_eq!(read(0x8000_0000_0000_0000), NodeKind::Container);
        assert_eq!(read(0), NodeKind::Persistent);
        assert_eq!(read(5), NodeKind::Ephemeral(SessionId(5)));
        let owner = 0x8000_0000_0000_0064_u64 as i64;
        assert_eq!(NodeKind::read(owner, TtlEncoding::Current), NodeKind::Ephemeral(SessionId(owner)));
    }

    #[test]
    fn an_unknown_extended_feature_is_an_ordinary_owner() {
        let owner = 0xff00_0100_0000_0001_u64 as i64;
        assert_eq!(NodeKind::from_owner(owner), NodeKind::Ephemeral(SessionId(owner)));
    }
}
