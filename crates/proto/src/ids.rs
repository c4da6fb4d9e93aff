//! The numbers everything is named by. All are shown in lower-case hex, as the original's logs, files and commands show them.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "0x{:x}", self.0)
            }
        }
    };
}

hex_id! {
    /// The place of a transaction in the one order of all writes: the leader's epoch above 32 bits of counter.
    Zxid
}

hex_id! {
    /// A client's session; the top byte is the server that made it.
    SessionId
}

/// The reign of one leader. Only grows.
pub type Epoch = u32;

/// `myid`: 0 to 255, and below 255 where TTL nodes are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ServerId(pub i64);

impl Zxid {
    pub const ZERO: Zxid = Zxid(0);

    pub fn new(epoch: Epoch, counter: u32) -> Zxid {
        Zxid((i64::from(epoch) << 32) | i64::from(counter))
    }

    pub fn epoch(self) -> Epoch {
        (self.0 as u64 >> 32) as u32
    }

    pub fn counter(self) -> u32 {
        self.0 as u32
    }

    /// The zxid after this one, `None` where the epoch has used up its 2^32 numbers.
    pub fn next(self) -> Option<Zxid> {
        (self.counter() != u32::MAX).then_some(Zxid(self.0 + 1))
    }
}

impl SessionId {
    /// Internal changes that belong to no session carry session 0.
    pub const NONE: SessionId = SessionId(0);

    /// The password of this session: a pure function of the id that all servers of an ensemble share. It guards against mistakes,
    /// not against an attacker.
    pub fn password(self) -> [u8; 16] {
        const MULTIPLIER: u64 = 0x5_DEEC_E66D;
        const MASK: u64 = (1 << 48) - 1;
        let mut state = ((self.0 as u64 ^ 0xB341_5C00) ^ MULTIPLIER) & MASK;
        let mut password = [0; 16];
        for chunk in password.chunks_exact_mut(4) {
            state = state.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
            chunk.copy_from_slice(&((state >> 16) as u32).to_le_bytes());
        }
        password
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_is_the_one_the_original_hands_out() {
        let recorded = [0xd8, 0xf7, 0xbb, 0xaf, 0xe2, 0x95, 0x49, 0xd3, 0xf9, 0x64, 0x09, 0x5c, 0xbf, 0xf8, 0x4f, 0xcd];
        assert_eq!(SessionId(72_057_879_779_737_622).password(), recorded);
    }

    #[test]
    fn zxid_is_epoch_and_counter() {
        let zxid = Zxid::new(3, 7);
        assert_eq!((zxid.epoch(), zxid.counter(), zxid.to_string()), (3, 7, "0x300000007".to_owned()));
        assert_eq!(Zxid::new(3, u32::MAX).next(), None);
        assert_eq!(Zxid(-1).epoch(), u32::MAX);
    }
}
