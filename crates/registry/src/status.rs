//! Which status is shown when the client, an operator and the lease that stands say different things.

/// How an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    // In the order of their names, which is the order in the hash of a registry.
    Down,
    OutOfService,
    Starting,
    Unknown,
    Up,
}

impl Status {
    /// In the order of their names.
    pub const ALL: [Status; 5] = [Status::Down, Status::OutOfService, Status::Starting, Status::Unknown, Status::Up];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Status::Down => "DOWN",
            Status::OutOfService => "OUT_OF_SERVICE",
            Status::Starting => "STARTING",
            Status::Unknown => "UNKNOWN",
            Status::Up => "UP",
        }
    }

    /// The status of that name.
    pub fn parse(name: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.name() == name)
    }

    /// What a client's word is taken for: an unknown one, also one in small letters, is `Unknown`.
    pub fn lenient(name: &str) -> Status {
        Status::parse(name).unwrap_or(Status::Unknown)
    }

    /// What the protocol's first version, and single instances in XML without a version in the path, know of it.
    pub fn as_first_version(self) -> Status {
        if self == Status::Up { Status::Up } else { Status::Down }
    }
}

/// The first rule that fits decides. `says`: what the instance says. `set`: the override. `stands`: what is shown of a lease that exists, none when a
/// replica asks.
///
/// The third rule surprises: an instance that stands `Up` cannot put itself out of service by registering again.
pub(crate) fn shown(says: Status, set: Option<Status>, stands: Option<Status>) -> Status {
    if !matches!(says, Status::Up | Status::OutOfService) {
        return says;
    }
    if let Some(set) = set {
        return set;
    }
    match stands {
        Some(stands @ (Status::Up | Status::OutOfService)) => stands,
        _ => says,
    }
}
