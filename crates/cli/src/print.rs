//! Output of the commands that is not worth an end by panic: a pipe to `head` that is closed, a terminal that has gone.

use std::fmt;
use std::io::{self, Write};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Writes a line of a result to standard output. `false`: it can't be written and somebody would miss it. A reader that has gone has seen
/// what it wanted to see.
#[must_use]
pub fn result(line: &dyn fmt::Display) -> bool {
    // Through the lock, because the line must not be mixed with another.
    match writeln!(io::stdout().lock(), "{line}").and_then(|()| io::stdout().flush()) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => true,
        Err(error) => {
            complaint(&format_args!("can't write to standard output: {error}"));
            false
        }
    }
}

/// Writes a line to standard error, if it takes one.
pub fn complaint(line: &dyn fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Writes a line of output that goes on, until somebody ends it. The exit code with which to end, where nobody reads any more.
#[must_use]
pub fn result_of_many(line: &dyn fmt::Display) -> Option<u8> {
    match writeln!(io::stdout().lock(), "{line}").and_then(|()| io::stdout().flush()) {
        Ok(()) => None,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Some(0),
        Err(error) => {
            complaint(&format_args!("can't write to standard output: {error}"));
            Some(1)
        }
    }
}

/// Waits until nobody reads standard output any more, where it is a pipe or a socket: a command that follows something would else notice that only by the
/// next line. Call on a runtime.
pub async fn reader_has_gone() {
    let (tells, told) = tokio::sync::oneshot::channel();
    // A thread of its own, which ends with the process: what is asked for is a condition that no runtime waits for.
    let waiting = std::thread::Builder::new().name("reader".to_owned()).spawn(move || {
        let output = io::stdout();
        loop {
            // Errors and ends are always told.
            let mut ends = [PollFd::new(&output, PollFlags::empty())];
            match poll(&mut ends, None) {
                Ok(_) if ends[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
        let _ = tells.send(());
    });
    if waiting.is_err() || told.await.is_err() {
        std::future::pending().await
    }
}

/// Text as it is, but for what is not seen: control characters and bytes that are no text are escaped.
pub fn visible(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|char| if char.is_control() { char.escape_default().to_string() } else { char.to_string() })
        .collect()
}
