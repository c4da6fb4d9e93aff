//! What the user says to `rookeeper lock` and `rookeeper elect`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::dialler::TlsFlags;

const EXIT_CODES: &str = "\
While COMMAND runs, ROOKEEPER_FENCING_TOKEN is its fencing token, a number that grows from holder to holder, and ROOKEEPER_NODE the path of its
node. COMMAND and all that it has started is ended (TERM, then KILL) before another can hold: when the session ends, when no server confirms the
hold for half the session timeout, when this process is killed or frozen. What COMMAND leaves running when it ends is ended as well.
The session timeout should be at least three ticks of the servers.

Exit code: that of COMMAND, 128 + N where signal N ended it; 126 COMMAND can't be run, 127 it does not exist; 69 no server gives a session,
70 the hold was lost while COMMAND ran, 75 the turn did not come within --timeout; 1 anything else.
Signals TERM, INT, HUP, QUIT, USR1 and USR2 are passed on to COMMAND, but for INT and QUIT of the terminal, which COMMAND gets from there.";

/// Where the session comes from.
#[derive(Debug, Clone, Args)]
pub struct SessionFlags {
    /// HOST:PORT[,HOST:PORT...][/chroot]: servers to try
    #[arg(long, default_value = "localhost:2181", value_name = "HOST:PORT")]
    pub server: String,

    /// The session timeout to ask for: so long after this machine falls silent another may hold
    #[arg(long, default_value_t = 30_000, value_name = "MILLISECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub session_timeout: u32,

    #[command(flatten)]
    pub tls: TlsFlags,

    /// Come in as NAME, by SASL (DIGEST-MD5); the password is asked for on the terminal
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,

    /// The password of --user stands on the first line of FILE
    #[arg(long, value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,
}

/// Run a command while holding a lock.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct LockOptions {
    /// The lock, a path; made where it is not there
    pub path: String,

    #[command(flatten)]
    pub session: SessionFlags,

    /// Wait no longer than this for the turn; 0 does not wait for others at all
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,

    /// Share with others that say --shared, as readers; without it one holds alone. Both kinds use another lock than those that say neither
    #[arg(long, conflicts_with = "exclusive")]
    pub shared: bool,

    /// Hold alone beside those that say --shared, as a writer
    #[arg(long)]
    pub exclusive: bool,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Run a command while leading.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXIT_CODES)]
pub struct ElectOptions {
    /// The election, a path; made where it is not there
    pub path: String,

    #[command(flatten)]
    pub session: SessionFlags,

    /// How this candidate is called; the name of the host if nothing is said
    #[arg(long, value_name = "NAME")]
    pub id: Option<String>,

    /// Stand again when the leadership was lost, in place of exit code 70
    #[arg(long)]
    pub again: bool,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// What the holder tells the keeper at its start.
#[derive(Debug, Clone, Args)]
pub struct KeeperOptions {
    /// The descriptor from which deadlines and signals are read
    pub control: i32,

    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "not a number of seconds from 0 on".to_owned())
}
