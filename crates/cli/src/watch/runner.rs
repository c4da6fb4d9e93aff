//! The command that runs on each change.
//!
//! What always holds: a command is started only when the one before has ended.

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use rookeeper_recipes::Node;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::oneshot;

use super::changes::{Change, Kind};

/// A command that runs.
#[derive(Debug)]
pub(super) struct Running {
    pid: Pid,
    ended: oneshot::Receiver<std::io::Result<ExitStatus>>,
}

/// How a command has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// As shells have it: 128 + N where signal N ended it.
    pub(super) code: u8,
    /// The signal of a terminal that ended it: Ctrl-C, which is for this process too.
    pub(super) interrupted: bool,
}

impl Running {
    /// Starts the command with the content on its standard input; of a deleted node there is none.
    pub(super) fn start(command: &[String], path: &str, change: &Change) -> std::io::Result<Running> {
        let Change { kind, node: Node { data, version, changed, .. }, .. } = change;
        let is_there = *kind != Kind::Deleted;
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .env("ROOKEEPER_NODE", path)
            .env("ROOKEEPER_CHANGE", kind.name())
            .env("ROOKEEPER_VERSION", if is_there { version.to_string() } else { String::new() })
            .env("ROOKEEPER_ZXID", if is_there { format!("{changed:#x}") } else { String::new() })
            .stdin(Stdio::piped())
            .spawn()?;
        let pid = Pid::from_child(&child);
        if let Some(mut input) = child.stdin.take() {
            let content = if is_there { data.clone() } else { Vec::new() };
            // A command need not read what it is given, and then this ends with it.
            thread::spawn(move || drop(input.write_all(&content)));
        }
        let (sender, ended) = oneshot::channel();
        thread::spawn(move || sender.send(child.wait()));
        Ok(Running { pid, ended })
    }

    pub(super) fn signal(&self, number: i32) {
        if let Some(signal) = Signal::from_named_raw(number) {
            let _ = kill_process(self.pid, signal);
        }
    }

    /// May be cancelled.
    pub(super) async fn end(&mut self) -> End {
        let Ok(Ok(status)) = (&mut self.ended).await else { return End { code: 1, interrupted: false } };
        let terminal = [Signal::INT, Signal::QUIT].map(Signal::as_raw);
        match (status.code(), status.signal()) {
            (Some(code), _) => End { code: code as u8, interrupted: false },
            (None, number) => {
                let number = number.unwrap_or_default();
                End { code: 128 + number as u8, interrupted: terminal.contains(&number) }
            }
        }
    }
}
