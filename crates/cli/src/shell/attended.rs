//! A command while somebody waits for it: Ctrl-C ends it, `--timeout` ends it, and whoever waits is told for what.
//!
//! What always holds: a command that is given up leaves the shell and its session as they are; while another program has the terminal an
//! interruption is that program's.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use zookeeper_client::{SessionState, StateWatcher};

use super::event::Manner;
use super::failure::Failure;
use super::output::Output;

/// How long a command may be silent before a person is told why.
const SILENCE: Duration = Duration::from_secs(1);
/// How long it may take before a person is told how to end it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs a command up to its end, or to that of the patience of its user. `state` is that of the session, where there is one.
pub(super) async fn attend(
    command: impl Future<Output = Result<(), Failure>>,
    output: &Output,
    server: &str,
    state: Option<StateWatcher>,
    limit: Option<Duration>,
) -> Result<(), Failure> {
    tokio::select! {
        biased;
        done = command => done,
        () = interrupted(output) => Err(Failure::Interrupted),
        limit = passed(limit) => Err(Failure::TooSlow(limit)),
        never = tell(output, server, state) => match never {},
    }
}

/// Ctrl-C in a conversation. Elsewhere it ends the process, as scripts expect.
async fn interrupted(output: &Output) {
    if output.manner() == Manner::Talk
        && let Ok(mut interruptions) = signal(SignalKind::interrupt())
    {
        while interruptions.recv().await.is_some() {
            if !output.terminal_is_lent() {
                return;
            }
        }
    }
    pending().await
}

async fn passed(limit: Option<Duration>) -> Duration {
    match limit {
        Some(limit) => {
            sleep(limit).await;
            limit
        }
        None => pending().await,
    }
}

async fn tell(output: &Output, server: &str, state: Option<StateWatcher>) -> Infallible {
    let end = match output.manner() {
        Manner::Talk => "Ctrl-C ends the command",
        Manner::Brief => "Ctrl-C gives up",
        Manner::Original | Manner::Quiet | Manner::Json => return pending().await,
    };
    let is_lost = || state.as_ref().is_some_and(|state| state.peek_state() == SessionState::Disconnected);
    let (mut waited, mut told) = (Duration::ZERO, false);
    loop {
        sleep(SILENCE).await;
        waited += SILENCE;
        if is_lost() {
            if !told {
                output.remark(&format!("waiting for a server: {server} does not answer; {end}"));
            }
            told = true;
        } else {
            told = false;
            if waited == PATIENCE {
                output.remark(&format!("this takes longer than {} s; {end}", PATIENCE.as_secs()));
            }
        }
    }
}
