//! The program through which long results go on a terminal: `$PAGER`, else `less`.
//!
//! What always holds: the thread of the session never waits for the pager, whose reader may take an hour for a page, for the session must go
//! on; what waits for the pager is bounded as long as those that make it wait for [`Queue::room`] between their pieces.

use std::collections::VecDeque;
use std::env;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::Notify;

/// Beyond this, in bytes, a command makes no more before the pager has taken some.
const BYTES_LIMIT: usize = 256 * 1024;

/// The pager that the user wants; none where there is none, or only `cat`.
pub(crate) fn wanted() -> Option<String> {
    let wanted = env::var("PAGER").unwrap_or_else(|_| "less".to_owned());
    let program = wanted.split_whitespace().next()?;
    if program == "cat" {
        return None;
    }
    let is_there = |folder: &Path| folder.join(program).is_file();
    let folders = env::var_os("PATH").unwrap_or_default();
    let found = Path::new(program).is_absolute() && Path::new(program).is_file()
        || env::split_paths(&folders).any(|folder| is_there(&folder));
    found.then_some(wanted)
}

/// A pager that runs.
pub(crate) struct Pager {
    child: Child,
    queue: Arc<Queue>,
    feeder: JoinHandle<()>,
}

impl Pager {
    pub(crate) fn start(command: &str) -> io::Result<Pager> {
        let mut shell = Command::new("sh");
        // In the place of the shell, which would end by an interruption that the pager takes for something else.
        shell.arg("-c").arg(format!("exec {command}")).stdin(Stdio::piped());
        if env::var_os("LESS").is_none() {
            // It ends by itself at the end of what fits, and leaves on the screen what it showed.
            shell.env("LESS", "FRX");
        }
        let mut child = shell.spawn()?;
        let queue = Arc::new(Queue::default());
        let fed = Arc::clone(&queue);
        let input = child.stdin.take();
        let feeder = thread::spawn(move || {
            if let Some(input) = input {
                fed.feed(input);
            }
        });
        Ok(Pager { child, queue, feeder })
    }

    pub(crate) fn queue(&self) -> Arc<Queue> {
        Arc::clone(&self.queue)
    }

    /// Waits until its user has seen enough. It blocks.
    pub(crate) fn finish(mut self) {
        self.queue.waiting().is_over = true;
        self.queue.changed.notify_all();
        // What went wrong with the pager its user has seen.
        let _ = self.child.wait();
        let _ = self.feeder.join();
    }
}

/// What waits for the pager.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    room: Notify,
}

#[derive(Default)]
struct Waiting {
    pieces: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Nothing more will come.
    is_over: bool,
    /// The pager has ended.
    is_gone: bool,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An error says that the pager was left: nobody wants the rest.
    pub(crate) fn push(&self, piece: Vec<u8>) -> io::Result<()> {
        let mut waiting = self.waiting();
        if waiting.is_gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        waiting.bytes += piece.len();
        waiting.pieces.push_back(piece);
        self.changed.notify_all();
        Ok(())
    }

    /// Waits until less than a bound waits.
    pub(crate) async fn room(&self) {
        loop {
            let notified = self.room.notified();
            {
                let waiting = self.waiting();
                if waiting.is_gone || waiting.bytes < BYTES_LIMIT {
                    return;
                }
            }
            notified.await;
        }
    }

    fn feed(&self, mut input: ChildStdin) {
        loop {
            let mut waiting = self.waiting();
            while waiting.pieces.is_empty() && !waiting.is_over {
                waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            let Some(piece) = waiting.pieces.pop_front() else { return };
            drop(waiting);
            let written = input.write_all(&piece);
            let mut waiting = self.waiting();
            waiting.bytes -= piece.len();
            if written.is_err() {
                waiting.is_gone = true;
                waiting.pieces.clear();
                waiting.bytes = 0;
            }
            self.room.notify_one();
            if written.is_err() {
                return;
            }
        }
    }
}
