//! What must hold after each event, and what is said where it does not.

use std::fmt;

/// Something that must hold in a [`Replica`](crate::Replica) does not: this server's state can't be trusted any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(pub &'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it does not hold that {}", self.0)
    }
}

impl std::error::Error for Broken {}

/// Says what does not hold, if it does not.
pub(crate) fn must(holds: bool, what: &'static str) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken(what)) }
}
