//! Output of the commands that is not worth an end by panic: a pipe to `head` that is closed, a terminal that has gone.

use std::fmt;
use std::io::{self, Write};

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

/// Text as it is, but for what is not seen: control characters and bytes that are no text are escaped.
pub fn visible(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|char| if char.is_control() { char.escape_default().to_string() } else { char.to_string() })
        .collect()
}
