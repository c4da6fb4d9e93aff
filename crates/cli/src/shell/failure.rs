//! Why a command failed, in the words and with the exit codes of zkCli.

use std::io;
use std::time::Duration;

use zookeeper_client::Error;

/// What ends a command without success.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The user or the server said no: the text goes to standard error.
    #[error("{0}")]
    Refused(String),
    /// There is no such command.
    #[error("Command not found: Command not found {0}")]
    NotFound(String),
    /// The answer is no, and all of it stands on standard output.
    #[error("no")]
    No,
    /// What was asked cannot be answered, which is another thing than no.
    #[error("{0}")]
    Unanswered(String),
    /// The user did not want to wait longer.
    #[error("Interrupted")]
    Interrupted,
    /// `--timeout` is over.
    #[error("Not done within {0:?} (--timeout): given up. Whether a change was made meanwhile is not known.")]
    TooSlow(Duration),
    /// Nobody reads our output any more, there is no point in going on.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// The same where 1 is an answer.
    pub(crate) fn unanswered(self) -> Failure {
        match self {
            Failure::Refused(text) => Failure::Unanswered(text),
            other => other,
        }
    }

    /// The reader has gone because it has seen enough: `ls -R / | head`.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl Failure {
    /// The exit status of a shell that ends with this failure; 127 is what a POSIX shell says of an unknown command, 124 what `timeout` says, and
    /// 130 what a shell says of an interrupted command.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::NotFound(_) => 127,
            Failure::Refused(_) | Failure::Output(_) | Failure::No => 1,
            Failure::Unanswered(_) => 2,
            Failure::TooSlow(_) => 124,
            Failure::Interrupted => 130,
        }
    }
}

/// What the server (or the connection) answered to a request about `path`.
pub(crate) fn refused(error: &Error, path: &str) -> Failure {
    Failure::Refused(match error {
        Error::NoNode => format!("Node does not exist: {path}"),
        Error::NoChildrenForEphemerals => format!("Ephemerals cannot have children: {path}"),
        Error::NodeExists => format!("Node already exists: {path}"),
        Error::NotEmpty => format!("Node not empty: {path}"),
        Error::NotReadOnly => format!("Not a read-only call: {path}"),
        Error::InvalidAcl => format!("Acl is not valid : {path}"),
        Error::NoAuth => format!("Insufficient permission : {path}"),
        Error::BadArguments(_) | Error::UnexpectedErrorCode(-8) => format!("Arguments are not valid : {path}"),
        Error::BadVersion => format!("version No is not valid : {path}"),
        Error::QuotaExceeded => format!("Quota has exceeded : {path}"),
        Error::UnexpectedErrorCode(-14) => {
            "Another reconfiguration is in progress -- concurrent reconfigs not supported (yet)".to_owned()
        }
        Error::UnexpectedErrorCode(-13) => {
            "No quorum of new config is connected and up-to-date with the leader of last commmitted config - try \
             invoking reconfiguration after new servers are connected and synced"
                .to_owned()
        }
        other => keeper_message(other, path),
    })
}

/// The original's `KeeperException` text; a path is named where there is one.
pub(crate) fn keeper_message(error: &Error, path: &str) -> String {
    let code = match error {
        Error::RuntimeInconsistent => "RuntimeInconsistency",
        Error::ConnectionLoss => "ConnectionLoss",
        Error::MarshallingError => "MarshallingError",
        Error::Unimplemented => "Unimplemented",
        Error::Timeout => "OperationTimeout",
        Error::InvalidAcl => "InvalidACL",
        Error::AuthFailed => "AuthFailed",
        Error::SessionExpired | Error::ClientClosed => "Session expired",
        Error::SessionMoved => "Session moved",
        Error::NoWatcher => "No such watcher",
        Error::ReconfigDisabled => "Reconfig is disabled",
        Error::Throttled => "Op throttled due to high load",
        Error::NoAuth => "NoAuth",
        Error::NoNode => "NoNode",
        Error::BadVersion => "BadVersion",
        Error::UnexpectedErrorCode(-120) => "Ephemeral node on local session",
        Error::UnexpectedErrorCode(code) => return format!("KeeperErrorCode = Unknown error {code} for {path}"),
        other => return other.to_string(),
    };
    if path.is_empty() { format!("KeeperErrorCode = {code}") } else { format!("KeeperErrorCode = {code} for {path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_read_as_the_originals() {
        assert_eq!(refused(&Error::NoNode, "/a").to_string(), "Node does not exist: /a");
        assert_eq!(refused(&Error::BadVersion, "/a").to_string(), "version No is not valid : /a");
        assert_eq!(refused(&Error::ReconfigDisabled, "").to_string(), "KeeperErrorCode = Reconfig is disabled");
        assert_eq!(refused(&Error::NoWatcher, "/a").to_string(), "KeeperErrorCode = No such watcher for /a");
        assert_eq!(refused(&Error::UnexpectedErrorCode(-8), "/").to_string(), "Arguments are not valid : /");
    }

    #[test]
    fn exit_codes_tell_unknown_commands_from_failed_ones() {
        assert_eq!(Failure::NotFound("x".to_owned()).exit_code(), 127);
        assert_eq!(Failure::NotFound("x".to_owned()).to_string(), "Command not found: Command not found x");
        assert_eq!(refused(&Error::NoNode, "/a").exit_code(), 1);
    }
}
