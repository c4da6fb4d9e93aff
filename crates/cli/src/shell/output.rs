//! Standard output and standard error of the shell, shared by the commands and the tasks that wait for watch events.
//!
//! What always holds: the two streams appear in the order they were written, because each is flushed before the other is used; an event is
//! never printed within the result of a command; what comes from a server controls no terminal, and is written as it is
//! where there is none.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustyline::ExternalPrinter;

use super::format;

/// What events may take that wait for the end of a command.
const HELD_BYTES_LIMIT: usize = 4 << 20;

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
    out_is_terminal: bool,
    err_is_terminal: bool,
    command_runs: bool,
    /// The events that came since the command began to write its result.
    held: Option<Held>,
}

/// Events that wait for the end of a command.
#[derive(Default)]
struct Held {
    text: String,
    /// Events for which there was no room.
    left_out: u64,
}

impl Streams {
    fn for_out<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.out_is_terminal { format::harmless(text) } else { Cow::Borrowed(text) }
    }

    /// From here to the end of the command nothing may come in between.
    fn begin_result(&mut self) {
        if self.command_runs {
            self.held.get_or_insert_default();
        }
    }

    fn print_event(&mut self, text: String) {
        // Nobody waits for an event, so a stream that is gone is noticed at the next result.
        let _ = self.out.flush();
        let _ = match &mut self.above_prompt {
            Some(printer) => printer.print(text).map_err(io::Error::other),
            None => self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()),
        };
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Output").finish_non_exhaustive()
    }
}

impl Output {
    /// Output to these two streams, without a prompt.
    pub fn new(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Output {
        Output {
            streams: Mutex::new(Streams {
                out: BufWriter::new(out),
                err,
                above_prompt: None,
                events_shown: true,
                out_is_terminal: false,
                err_is_terminal: false,
                command_runs: false,
                held: None,
            }),
        }
    }

    pub(crate) fn standard() -> Output {
        let output = Output::new(Box::new(io::stdout()), Box::new(io::stderr()));
        output.streams().out_is_terminal = io::stdout().is_terminal();
        output.streams().err_is_terminal = io::stderr().is_terminal();
        output
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        // A writer that panicked left at worst half a line behind.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line of a result.
    pub(crate) fn line(&self, text: &str) -> io::Result<()> {
        let mut streams = self.streams();
        streams.begin_result();
        let text = streams.for_out(text);
        writeln!(streams.out, "{text}")
    }

    /// The data of a node and the end of its line: the bytes as they are, but on a terminal without what would control it.
    pub(crate) fn data(&self, data: &[u8]) -> io::Result<()> {
        let mut streams = self.streams();
        streams.begin_result();
        if streams.out_is_terminal {
            let text = String::from_utf8_lossy(data);
            return writeln!(streams.out, "{}", format::harmless(&text));
        }
        streams.out.write_all(data)?;
        streams.out.write_all(b"\n")
    }

    /// Text of a result that does not end a line, such as the prompt.
    pub(crate) fn text(&self, text: &str) -> io::Result<()> {
        let mut streams = self.streams();
        let text = streams.for_out(text);
        write!(streams.out, "{text}")
    }

    /// A line of complaint, usage, or what was created: standard error.
    pub(crate) fn complain(&self, text: &str) -> io::Result<()> {
        let mut streams = self.streams();
        streams.out.flush()?;
        let text = if streams.err_is_terminal { format::harmless(text) } else { Cow::Borrowed(text) };
        writeln!(streams.err, "{text}")?;
        streams.err.flush()
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        self.streams().out.flush()
    }

    /// A watch or session event: printed at once, or after the result that is being written. While a command only waits, the event may be
    /// the reason.
    pub(crate) fn event(&self, event: &str) {
        let mut streams = self.streams();
        if !streams.events_shown {
            return;
        }
        let text = format!("\nWATCHER::\n\n{}\n", streams.for_out(event));
        match &mut streams.held {
            None => streams.print_event(text),
            Some(held) if held.left_out > 0 || held.text.len() + text.len() > HELD_BYTES_LIMIT => held.left_out += 1,
            Some(held) => held.text.push_str(&text),
        }
    }

    /// A command begins. An event within its result would be read as a part of it by a script.
    pub(crate) fn begin_command(&self) {
        self.streams().command_runs = true;
    }

    /// A command is over: what happened while it wrote its result is told.
    pub(crate) fn end_command(&self) {
        let mut streams = self.streams();
        streams.command_runs = false;
        let Some(Held { mut text, left_out }) = streams.held.take() else { return };
        if left_out > 0 {
            text.push_str(&format!("\n{left_out} more events came during this command and are not shown\n"));
        }
        if !text.is_empty() {
            streams.print_event(text);
        }
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

    impl Kept {
        fn bytes(&self) -> Vec<u8> {
            self.0.lock().unwrap().clone()
        }

        fn text(&self) -> String {
            String::from_utf8(self.bytes()).unwrap()
        }
    }

    /// An output and what is written to its two streams.
    fn kept(is_terminal: bool) -> (Output, Kept, Kept) {
        let (out, err) = (Kept::default(), Kept::default());
        let output = Output::new(Box::new(out.clone()), Box::new(err.clone()));
        output.streams().out_is_terminal = is_terminal;
        output.streams().err_is_terminal = is_terminal;
        (output, out, err)
    }

    #[test]
    fn data_is_written_as_it_is_and_controls_no_terminal() {
        let data = b"\xff\x80\x1b[2J\xc3\xa9\tok\n";
        let written = |is_terminal: bool| {
            let (output, out, _) = kept(is_terminal);
            output.data(data).unwrap();
            output.flush().unwrap();
            out.bytes()
        };
        assert_eq!(written(false), [&data[..], b"\n"].concat());
        assert_eq!(String::from_utf8(written(true)).unwrap(), "\u{fffd}\u{fffd}\\u{1b}[2Jé\tok\n\n");
    }

    #[test]
    fn nothing_that_is_written_controls_a_terminal() {
        let written = |is_terminal: bool| {
            let (output, out, err) = kept(is_terminal);
            output.line("[a\x1b]0;title\x07]").unwrap();
            output.text("\u{9b}2J> ").unwrap();
            output.event("path:/\x1bc");
            output.begin_command();
            output.line("").unwrap();
            output.event("path:/\x1bd");
            output.end_command();
            output.complain("Node does not exist: /\x1b[31m\r").unwrap();
            output.flush().unwrap();
            (out.text(), err.text())
        };
        let (out, err) = written(true);
        let controls = |text: &str| text.chars().any(|character| character.is_control() && character != '\n');
        assert!(!controls(&out) && !controls(&err), "{out:?} {err:?}");
        assert!(out.starts_with("[a\\u{1b}]0;title\\u{7}]\n\\u{9b}2J> "), "{out:?}");
        assert_eq!(err, "Node does not exist: /\\u{1b}[31m\\r\n");

        let (out, err) = written(false);
        assert!(out.starts_with("[a\x1b]0;title\x07]\n\u{9b}2J> \nWATCHER::\n\npath:/\x1bc\n"), "{out:?}");
        assert_eq!(err, "Node does not exist: /\x1b[31m\r\n");
    }

    #[test]
    fn events_wait_for_the_end_of_a_result() {
        let (output, out, _) = kept(false);
        output.event("before");
        output.begin_command();
        output.event("while it waits");
        output.line("/a").unwrap();
        output.event("second");
        output.line("/b").unwrap();
        output.event("third");
        output.data(b"/c").unwrap();
        output.end_command();
        output.event("after");
        let event = |name: &str| format!("\nWATCHER::\n\n{name}\n");
        let events = |names: &[&str]| names.iter().map(|name| event(name)).collect::<String>();
        let expected = [&events(&["before", "while it waits"]), "/a\n/b\n/c\n", &events(&["second", "third", "after"])];
        assert_eq!(out.text(), expected.concat());
    }

    #[test]
    fn events_that_find_no_room_are_counted() {
        let (output, out, _) = kept(false);
        output.begin_command();
        output.line("/a").unwrap();
        let long = "x".repeat(HELD_BYTES_LIMIT / 2);
        for event in [&long, &long, "short", "short"] {
            output.event(event);
        }
        output.end_command();
        let text = out.text();
        assert!(text.len() < HELD_BYTES_LIMIT);
        assert!(text.ends_with("x\n\n3 more events came during this command and are not shown\n"));
    }
}
