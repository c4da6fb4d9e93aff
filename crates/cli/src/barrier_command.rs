//! `rookeeper barrier`: waits until so many are there, and runs a command then.
//!
//! What always holds: with a command this process is there until the command has ended, and ends only when the others of its round have ended theirs.

use std::time::Duration;

use clap::Args;
use rookeeper_recipes::{DoubleBarrier, Entered, Error};
use tokio::time::timeout;

use crate::exclusive::{
    CLOSE_TIMEOUT, Held, LOST, NOT_IN_TIME, SessionFlags, close, complain, connect, hold, run, seconds,
};
use crate::print;

/// Wait until so many are there.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Without COMMAND this ends as soon as N are there at once. With COMMAND it runs COMMAND then, and ends when the others have ended theirs as well: a step that
all begin together and leave together. COMMAND is ended when this process is not there any more as far as the servers know, as by `rookeeper lock`.

Exit code: 0; that of COMMAND, 128 + N where signal N ended it; 126 COMMAND can't be run, 127 it does not exist; 69 no server gives a session,
70 the session ended while waiting or while COMMAND ran, 75 not so many came within --timeout; 1 anything else.")]
pub struct Options {
    /// The barrier, a path; made where it is not there
    pub path: String,

    /// For so many to be there, this one included
    #[arg(short = 'n', long = "count", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,

    #[command(flatten)]
    pub session: SessionFlags,

    /// Wait no longer than this for the others
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,

    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Runs `rookeeper barrier` and returns the exit code.
pub fn main(options: &Options) -> u8 {
    run(async |signals| {
        let client = connect(&options.session, signals).await?;
        let host = rustix::system::uname().nodename().to_bytes().to_vec();
        let barrier = DoubleBarrier::new(&client, &options.path, options.count as usize).with_data(host);
        let entering = async {
            match options.timeout {
                Some(limit) => barrier.enter_within(limit).await,
                None => barrier.enter().await.map(Some),
            }
        };
        let entered = tokio::select! {
            entered = entering => entered,
            number = signals.next() => {
                close(client).await;
                return Err(128 + number as u8);
            }
        };
        let code = match entered {
            Ok(Some(entered)) if options.command.is_empty() => {
                let _ = timeout(CLOSE_TIMEOUT, entered.withdraw()).await;
                0
            }
            Ok(Some(entered)) => {
                let member = Member { entered, limit: client.session_timeout() };
                hold(member, &client, &options.command, signals).await.unwrap_or(LOST)
            }
            Ok(None) => NOT_IN_TIME,
            Err(Error::SessionEnded(end)) => {
                print::complaint(&end);
                LOST
            }
            Err(error) => complain(&error),
        };
        drop(barrier);
        close(client).await;
        Ok(code)
    })
}

struct Member {
    entered: Entered,
    /// For the servers to answer, where the member was lost.
    limit: Duration,
}

impl Held for Member {
    async fn is_held(&self) -> Result<bool, Error> {
        self.entered.is_held().await
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![("ROOKEEPER_NODE", self.entered.path())]
    }

    async fn end(self, code: Option<u8>) -> bool {
        if code.is_none() {
            let _ = timeout(self.limit.min(CLOSE_TIMEOUT), self.entered.withdraw()).await;
            return true;
        }
        // The others may take as long as they need.
        self.entered.leave().await.is_ok()
    }
}
