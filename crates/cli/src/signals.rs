//! What the server makes of signals.
//!
//! | signal | effect |
//! | --- | --- |
//! | TERM, INT, HUP | an orderly stop, unless the process was started with the signal ignored, as `nohup` and shells do |
//! | QUIT | a report of the server's state in the log; the server goes on |
//! | USR1, USR2, XFSZ | nothing; a file that reaches its limit is an error of the write |
//!
//! PIPE is ignored by the runtime of the language. All this is as in the original, where the Java machine does it.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Linux' number, which [`SignalKind`] has no name for.
const SIGXFSZ: i32 = 25;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// By the signal of this name.
    Stop(&'static str),
    Report,
}

/// From the moment it exists no signal ends the process by itself.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
    hang_up: Option<Signal>,
    quit: Option<Signal>,
}

impl Signals {
    /// Call on a runtime.
    pub fn listen() -> io::Result<Signals> {
        let ignored = ignored_at_start(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
        let unless_ignored = |kind: SignalKind| match ignored >> (kind.as_raw_value() - 1) & 1 {
            0 => signal(kind).map(Some),
            _ => Ok(None),
        };
        for kind in [SignalKind::user_defined1(), SignalKind::user_defined2(), SignalKind::from_raw(SIGXFSZ)] {
            // What is listened to does nothing, also when nobody listens any more.
            drop(signal(kind)?);
        }
        Ok(Signals {
            terminate: unless_ignored(SignalKind::terminate())?,
            interrupt: unless_ignored(SignalKind::interrupt())?,
            hang_up: unless_ignored(SignalKind::hangup())?,
            quit: Some(signal(SignalKind::quit())?),
        })
    }

    /// Waits for the next signal that asks for something. May be cancelled.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            () = received(&mut self.terminate) => Asked::Stop("SIGTERM"),
            () = received(&mut self.interrupt) => Asked::Stop("SIGINT"),
            () = received(&mut self.hang_up) => Asked::Stop("SIGHUP"),
            () = received(&mut self.quit) => Asked::Report,
        }
    }
}

async fn received(signal: &mut Option<Signal>) {
    let received = match signal {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if received.is_none() {
        std::future::pending().await
    }
}

/// The signals that whoever started this process lets it ignore, a bit each, from what Linux says of a process.
fn ignored_at_start(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_ignored_at_the_start_is_read() {
        let status = "Name:\trookeeper\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        // Bit 0 is SIGHUP, bit 12 SIGPIPE.
        assert_eq!(ignored_at_start(status), 0x1001);
        assert_eq!(ignored_at_start("Name:\tx\n"), 0);
    }
}
