//! Standard output and standard error of the shell, shared by the commands and the tasks that wait for watch events.
//!
//! What always holds: the two streams appear in the order they were written, because each is flushed before the other is used.

use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustyline::ExternalPrinter;

/// Where the shell writes.
pub struct Output {
    streams: Mutex<Streams>,
}

struct Streams {
    out: BufWriter<Box<dyn Write + Send>>,
    err: Box<dyn Write + Send>,
    /// Prints above a line that is being edited; only on a terminal.
    above_prompt: Option<Box<dyn ExternalPrinter + Send>>,
    events_shown: bool,
    is_terminal: bool,
}

impl fmt::Debug for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Output").finish_non_exhaustive()
    }
}

impl Output {
    pub fn new(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Output {
        let streams =
            Streams { out: BufWriter::new(out), err, above_prompt: None, events_shown: true, is_terminal: false };
        Output { streams: Mutex::new(streams) }
    }

    pub(crate) fn standard() -> Output {
        let output = Output::new(Box::new(io::stdout()), Box::new(io::stderr()));
        output.streams().is_terminal = io::stdout().is_terminal();
        output
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        // A writer that panicked left at worst half a line behind.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line of a result.
    pub(crate) fn line(&self, text: &str) -> io::Result<()> {
        writeln!(self.streams().out, "{text}")
    }

    /// The data of a node and the end of its line: the bytes as they are, but on a terminal without what would control it.
    pub(crate) fn data(&self, data: &[u8]) -> io::Result<()> {
        let mut streams = self.streams();
        if streams.is_terminal {
            let text = String::from_utf8_lossy(data);
            let harmless = |character: char| match character {
                '\n' | '\t' => character.to_string(),
                control if control.is_control() => control.escape_default().to_string(),
                other => other.to_string(),
            };
            return writeln!(streams.out, "{}", text.chars().map(harmless).collect::<String>());
        }
        streams.out.write_all(data)?;
        streams.out.write_all(b"\n")
    }

    /// Text of a result that does not end a line, such as the prompt.
    pub(crate) fn text(&self, text: &str) -> io::Result<()> {
        write!(self.streams().out, "{text}")
    }

    /// A line of complaint, usage, or what was created: standard error.
    pub(crate) fn complain(&self, text: &str) -> io::Result<()> {
        let mut streams = self.streams();
        streams.out.flush()?;
        writeln!(streams.err, "{text}")?;
        streams.err.flush()
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        self.streams().out.flush()
    }

    /// A watch or session event. Nobody waits for it, so a stream that is gone is noticed at the next result.
    pub(crate) fn event(&self, event: &str) {
        let mut streams = self.streams();
        if !streams.events_shown {
            return;
        }
        let text = format!("\nWATCHER::\n\n{event}\n");
        let _ = streams.out.flush();
        let _ = match &mut streams.above_prompt {
            Some(printer) => printer.print(text).map_err(io::Error::other),
            None => streams.out.write_all(text.as_bytes()).and_then(|()| streams.out.flush()),
        };
    }

    pub(crate) fn print_above_prompt(&self, printer: Box<dyn ExternalPrinter + Send>) {
        self.streams().above_prompt = Some(printer);
    }

    pub(crate) fn events_shown(&self) -> bool {
        self.streams().events_shown
    }

    pub(crate) fn show_events(&self, shown: bool) {
        self.streams().events_shown = shown;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn data_is_written_as_it_is_and_controls_no_terminal() {
        let data = b"\xff\x80\x1b[2J\xc3\xa9\tok\n";
        let written = |is_terminal: bool| {
            let kept = Kept::default();
            let output = Output::new(Box::new(kept.clone()), Box::new(io::sink()));
            output.streams().is_terminal = is_terminal;
            output.data(data).unwrap();
            output.flush().unwrap();
            kept.0.lock().unwrap().clone()
        };
        assert_eq!(written(false), [&data[..], b"\n"].concat());
        assert_eq!(String::from_utf8(written(true)).unwrap(), "\u{fffd}\u{fffd}\\u{1b}[2Jé\tok\n\n");
    }
}
