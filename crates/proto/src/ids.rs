//! The numbers everything is named by. Zxids and sessions are shown in lower-case hex, as the original's logs, files and commands show
//! them; servers and epochs in decimal, as in `myid` and in the epoch files.
//!
//! What always holds: where the protocol or a file writes a number that stands for "none" (-1, the smallest number), the types above the
//! record say `None`.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

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

        /// Without the `0x` in front, as in names of files and in the text of a membership.
        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

hex_id! {
    /// The place of a transaction in the one order of all writes: the leader's epoch above 32 bits of counter. Negative numbers name no
    /// transaction, see [`Zxid::known`].
    Zxid
}

hex_id! {
    /// A client's session; the top byte is the server that made it.
    SessionId
}

/// The reign of one leader. Only grows. `{}` shows it in decimal, as the epoch files hold it; `{:x}` in hex, as the head of a zxid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u32);

/// `myid`: 0 to 255, and below 255 where TTL nodes are allowed (ZOOKEEPER-2901: 255 is their mark).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ServerId(pub i64);

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::LowerHex for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

impl FromStr for Epoch {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Epoch, ParseIntError> {
        text.parse().map(Epoch)
    }
}

impl From<u32> for Epoch {
    fn from(number: u32) -> Epoch {
        Epoch(number)
    }
}

impl Epoch {
    /// Before the first leader.
    pub const ZERO: Epoch = Epoch(0);
    /// Zxids are signed: epochs end here.
    pub const LAST: Epoch = Epoch(i32::MAX as u32);

    /// The epoch after this one; at the end of all numbers the same.
    pub fn next(self) -> Epoch {
        Epoch(self.0.saturating_add(1))
    }

    /// The zxid that stands for the beginning of the epoch, before its first transaction.
    pub fn beginning(self) -> Zxid {
        Zxid::new(self, 0)
    }

    /// An epoch as votes carry it, in 64 bits. `None` for a number that is no epoch: -1, and the smallest number.
    pub fn from_vote(number: i64) -> Option<Epoch> {
        u32::try_from(number).ok().map(Epoch)
    }
}

impl Zxid {
    /// Before the first transaction.
    pub const ZERO: Zxid = Zxid(0);

    /// The transaction of this number in an epoch.
    pub fn new(epoch: impl Into<Epoch>, counter: u32) -> Zxid {
        Zxid((i64::from(epoch.into().0) << 32) | i64::from(counter))
    }

    /// The epoch of the leader that proposed it.
    pub fn epoch(self) -> Epoch {
        Epoch((self.0 as u64 >> 32) as u32)
    }

    /// The number within its epoch; the first transaction has 1.
    pub fn counter(self) -> u32 {
        self.0 as u32
    }

    /// The zxid after this one, `None` where the epoch has used up its 2^32 numbers.
    pub fn next(self) -> Option<Zxid> {
        (self.counter() != u32::MAX).then_some(Zxid(self.0 + 1))
    }

    /// Whether the transaction may stand right after `previous`: the next of its epoch, or the first of a later epoch.
    pub fn follows(self, previous: Zxid) -> bool {
        previous.next() == Some(self) || (self.epoch() > previous.epoch() && self.counter() == 1)
    }

    /// A zxid or none as the protocol writes it: -1 for none.
    pub fn written(zxid: Option<Zxid>) -> Zxid {
        zxid.unwrap_or(Zxid(-1))
    }

    /// The way back from [`Zxid::written`]: `None` for the negative numbers, which stand for "no zxid": of a vote without one, and of a
    /// database that is missing where one was.
    pub fn known(self) -> Option<Zxid> {
        (self >= Zxid::ZERO).then_some(self)
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
        assert_eq!((zxid.epoch(), zxid.counter(), zxid.to_string()), (Epoch(3), 7, "0x300000007".to_owned()));
        assert_eq!(
            (Epoch(10).to_string(), format!("{:x} {zxid:x}", Epoch(10))),
            ("10".to_owned(), "a 300000007".to_owned())
        );
        assert_eq!(Zxid::new(3, u32::MAX).next(), None);
        assert_eq!((Zxid(-1).epoch(), Zxid(-1).known(), zxid.known()), (Epoch(u32::MAX), None, Some(zxid)));
        assert_eq!((Zxid::written(None), Zxid::written(Some(zxid))), (Zxid(-1), zxid));
    }

    #[test]
    fn transactions_follow_one_another_in_their_epoch_and_begin_at_one_in_a_later_one() {
        let last = Zxid::new(3, 7);
        for (zxid, follows) in [
            (Zxid::new(3, 8), true),
            (Zxid::new(5, 1), true),
            (Zxid::new(3, 7), false),
            (Zxid::new(3, 9), false),
            (Zxid::new(5, 0), false),
            (Zxid::new(5, 2), false),
            (Zxid::new(2, 1), false),
            (Zxid::new(3, 1), false),
        ] {
            assert_eq!(zxid.follows(last), follows, "{zxid}");
        }
        assert!(!Zxid::new(4, 0).follows(Zxid::new(3, u32::MAX)), "numbers do not run on into the next epoch");
    }

    #[test]
    fn only_numbers_that_can_be_epochs_are_taken_from_votes() {
        let read = [-1, i64::MIN, 1 << 32, 0, 7].map(Epoch::from_vote);
        assert_eq!(read, [None, None, None, Some(Epoch(0)), Some(Epoch(7))]);
    }
}
