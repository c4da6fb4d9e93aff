//! Standard output and standard error of the shell, shared by the commands and the tasks that wait for watch events.
//!
//! What always holds: what was written to one stream is flushed before the other is used; an event is
//! never printed within the result of a command; what comes from a server controls no terminal, and is written as it is
//! where there is none. On a terminal the result of a command goes through a pager once it is longer than the screen, and complaints wait
//! for its end.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::mem;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::termios::tcgetwinsize;
use rustyline::ExternalPrinter;
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::event::{Event, Manner};
use super::format;
use super::pager::{self, Pager};

/// What events may take that wait for the end of a command.
const HELD_BYTES_LIMIT: usize = 4 << 20;

/// Events that wait until the editor of a line has printed others.
const ABOVE_PROMPT_LIMIT: usize = 1_024;

/// Where the shell writes.
pub struct Output {
    streams: Mutex<Streams>,
}

struct Streams {
    out: BufWriter<Box<dyn Write + Send>>,
    err: Box<dyn Write + Send>,
    manner: Manner,
    /// As messages name it.
    server: String,
    /// To the thread that prints above a line that is being edited; only on a terminal.
    above_prompt: Option<SyncSender<String>>,
    /// A line is being edited.
    line_is_edited: bool,
    events_shown: bool,
    out_is_terminal: bool,
    err_is_terminal: bool,
    command_runs: bool,
    /// Another program has the terminal.
    terminal_is_lent: bool,
    /// The events that came since the command began to write its result.
    held: Option<Held>,
    /// The pager that the user wants.
    pager: Option<String>,
    page: Option<Page>,
    /// Complaints that wait for the end of the page.
    late: Vec<String>,
}

/// Events that wait for the end of a command.
#[derive(Default)]
struct Held {
    text: String,
    /// Events for which there was no room.
    left_out: u64,
}

/// The result of a command on a terminal.
enum Page {
    /// It fits the screen so far.
    Fits {
        text: Vec<u8>,
        rows: usize,
    },
    Paged(Pager),
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

    /// A part of a result, which ends a line.
    fn result(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.begin_result();
        match &mut self.page {
            None => self.out.write_all(bytes),
            Some(Page::Paged(pager)) => pager.queue().push(bytes.to_vec()),
            Some(Page::Fits { text, rows }) => {
                let (height, width) = screen();
                text.extend_from_slice(bytes);
                *rows += rows_of(bytes, width);
                if *rows < height { Ok(()) } else { self.turn_page() }
            }
        }
    }

    /// The result is longer than the screen.
    fn turn_page(&mut self) -> io::Result<()> {
        let Some(Page::Fits { text, .. }) = self.page.take() else { return Ok(()) };
        self.out.flush()?;
        let started = self.pager.as_deref().map(Pager::start);
        match started {
            Some(Ok(pager)) => {
                pager.queue().push(text)?;
                self.page = Some(Page::Paged(pager));
                Ok(())
            }
            // Without a pager everything is written as it comes.
            Some(Err(_)) | None => self.out.write_all(&text),
        }
    }

    fn print_event(&mut self, text: String) {
        // Nobody waits for an event, so a stream that is gone is noticed at the next result.
        let _ = self.out.flush();
        if matches!(self.manner, Manner::Quiet | Manner::Json) {
            let _ = self.err.write_all(text.as_bytes()).and_then(|()| self.err.flush());
            return;
        }
        if self.line_is_edited
            && let Some(printer) = &self.above_prompt
        {
            // Where the editor lists candidates and takes none for so long, events are lost, not the session.
            let _ = printer.try_send(text);
            return;
        }
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }

    fn complain(&mut self, text: &str) -> io::Result<()> {
        self.out.flush()?;
        let text = if self.err_is_terminal { format::harmless(text) } else { Cow::Borrowed(text) };
        writeln!(self.err, "{text}")?;
        self.err.flush()
    }
}

/// Rows and columns of the terminal.
fn screen() -> (usize, usize) {
    let size = tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
    size.map_or((24, 80), |size| (size.ws_row.into(), size.ws_col.into()))
}

/// Rows that lines take on a screen of this width.
fn rows_of(bytes: &[u8], width: usize) -> usize {
    let lines = bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|byte| *byte == b'\n');
    // A character of several bytes may be two columns wide: three bytes of UTF-8 are, mostly.
    lines.map(|line| line.len() / width + 1).sum()
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
                manner: Manner::default(),
                server: String::new(),
                above_prompt: None,
                line_is_edited: false,
                events_shown: true,
                out_is_terminal: false,
                err_is_terminal: false,
                command_runs: false,
                terminal_is_lent: false,
                held: None,
                pager: None,
                page: None,
                late: Vec::new(),
            }),
        }
    }

    pub(crate) fn standard() -> Output {
        let output = Output::new(Box::new(io::stdout()), Box::new(io::stderr()));
        let is_terminal = io::stdout().is_terminal();
        output.streams().out_is_terminal = is_terminal;
        output.streams().err_is_terminal = io::stderr().is_terminal();
        if is_terminal {
            output.streams().pager = pager::wanted();
        }
        output
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        // A writer that panicked left at worst half a line behind.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_manner(&self, manner: Manner) {
        self.streams().manner = manner;
    }

    pub(crate) fn manner(&self) -> Manner {
        self.streams().manner
    }

    /// How messages name the server.
    pub(crate) fn set_server(&self, server: &str) {
        self.streams().server = server.to_owned();
    }

    /// Whether a person reads the results.
    pub(crate) fn is_terminal(&self) -> bool {
        self.streams().out_is_terminal
    }

    /// A line of a result.
    pub(crate) fn line(&self, text: &str) -> io::Result<()> {
        let mut streams = self.streams();
        let mut text = streams.for_out(text).into_owned();
        text.push('\n');
        streams.result(text.as_bytes())
    }

    /// A result as a line of JSON.
    pub(crate) fn json(&self, value: &Value) -> io::Result<()> {
        self.line(&value.to_string())
    }

    /// The data of a node: the bytes as they are, but on a terminal without what would control it. The end of the line belongs to them as in
    /// the original, unless results alone are wanted and no person reads them.
    pub(crate) fn data(&self, data: &[u8]) -> io::Result<()> {
        let mut streams = self.streams();
        if streams.out_is_terminal {
            let mut text = format::readable(data);
            text.push('\n');
            return streams.result(text.as_bytes());
        }
        streams.result(data)?;
        if streams.manner == Manner::Quiet { Ok(()) } else { streams.result(b"\n") }
    }

    /// Returns when the reader has taken most of what was written: what makes a long result waits for it between its pieces.
    pub(crate) async fn ready(&self) {
        let queue = match &self.streams().page {
            Some(Page::Paged(pager)) => Some(pager.queue()),
            Some(Page::Fits { .. }) | None => None,
        };
        if let Some(queue) = queue {
            queue.room().await;
        }
    }

    /// Text that is no result and does not end a line, such as the prompt; a line of greeting.
    pub(crate) fn text(&self, text: &str) -> io::Result<()> {
        let mut streams = self.streams();
        let text = streams.for_out(text);
        write!(streams.out, "{text}")
    }

    /// A line of complaint, usage, or what was created: standard error.
    pub(crate) fn complain(&self, text: &str) -> io::Result<()> {
        let mut streams = self.streams();
        match &streams.page {
            Some(Page::Paged(_)) => streams.late.push(text.to_owned()),
            Some(Page::Fits { text: result, .. }) if !result.is_empty() => streams.late.push(text.to_owned()),
            Some(Page::Fits { .. }) | None => return streams.complain(text),
        }
        Ok(())
    }

    /// The last line of complaint, which may be that results cannot be written.
    pub(crate) fn complain_at_last(&self, text: &str) {
        let mut streams = self.streams();
        let _ = streams.out.flush();
        let text = if streams.err_is_terminal { format::harmless(text) } else { Cow::Borrowed(text) };
        // Where this cannot be written either, the exit code is all that is left.
        let _ = writeln!(streams.err, "{text}").and_then(|()| streams.err.flush());
    }

    /// A line about what is going on, for a person who waits; none while another program has the terminal.
    pub(crate) fn remark(&self, text: &str) {
        let mut streams = self.streams();
        if streams.terminal_is_lent || matches!(streams.page, Some(Page::Paged(_))) {
            return;
        }
        // Whoever does not see it has lost the results too.
        let _ = streams.complain(&format!("-- {text}"));
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        self.streams().out.flush()
    }

    /// A watch or session event: printed at once, or after the result that is being written. While a command only waits, the event may be
    /// the reason.
    pub(crate) fn event(&self, event: &Event<'_>) {
        let mut streams = self.streams();
        let is_state_for_a_person = streams.manner == Manner::Talk && event.path.is_none();
        if !streams.events_shown && !is_state_for_a_person {
            return;
        }
        let Some(text) = event.text(streams.manner, &streams.server) else { return };
        let text = streams.for_out(&text).into_owned();
        match &mut streams.held {
            None => streams.print_event(text),
            Some(held) if held.left_out > 0 || held.text.len() + text.len() > HELD_BYTES_LIMIT => held.left_out += 1,
            Some(held) => held.text.push_str(&text),
        }
    }

    /// A command begins. An event within its result would be read as a part of it by a script.
    pub(crate) fn begin_command(&self) {
        let mut streams = self.streams();
        streams.command_runs = true;
        if streams.out_is_terminal && streams.pager.is_some() {
            streams.page = Some(Page::Fits { text: Vec::new(), rows: 0 });
        }
    }

    /// A command is over: waits until its reader has left the pager; then the complaints, and what happened while it wrote its result, are told.
    pub(crate) async fn end_command(&self) -> io::Result<()> {
        let page = self.streams().page.take();
        let mut shown = Ok(());
        match page {
            Some(Page::Fits { text, .. }) => {
                let mut streams = self.streams();
                shown = streams.out.write_all(&text).and_then(|()| streams.out.flush());
            }
            Some(Page::Paged(pager)) => {
                self.lend_terminal(true);
                let _ = spawn_blocking(move || pager.finish()).await;
                self.lend_terminal(false);
            }
            None => {}
        }
        let mut streams = self.streams();
        for complaint in mem::take(&mut streams.late) {
            streams.complain(&complaint)?;
        }
        streams.command_runs = false;
        let Some(Held { mut text, left_out }) = streams.held.take() else { return shown };
        if left_out > 0 {
            text.push_str(&format!("\n{left_out} more events came during this command and are not shown\n"));
        }
        if !text.is_empty() {
            streams.print_event(text);
        }
        shown
    }

    /// Whether the result goes through a pager, which its reader may leave before the end.
    pub(crate) fn is_paged(&self) -> bool {
        matches!(self.streams().page, Some(Page::Paged(_)))
    }

    /// Another program gets the terminal, or gives it back. In between nothing is written, and an interruption is that program's.
    pub(crate) fn lend_terminal(&self, is_lent: bool) {
        let mut streams = self.streams();
        if is_lent {
            streams.begin_result();
        }
        streams.terminal_is_lent = is_lent;
    }

    pub(crate) fn terminal_is_lent(&self) -> bool {
        let streams = self.streams();
        streams.terminal_is_lent || matches!(streams.page, Some(Page::Paged(_)))
    }

    /// From here on events go above the line that is being edited.
    pub(crate) fn print_above_prompt(&self, mut printer: Box<dyn ExternalPrinter + Send>) {
        let (sender, texts) = sync_channel::<String>(ABOVE_PROMPT_LIMIT);
        // The printer waits for the editor, and the editor may wait for a server: on a thread of its own, or the session would wait for both.
        thread::spawn(move || texts.into_iter().try_for_each(|text| printer.print(text)));
        self.streams().above_prompt = Some(sender);
    }

    pub(crate) fn line_is_edited(&self, is_edited: bool) {
        self.streams().line_is_edited = is_edited;
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

    use zookeeper_client::SessionState;

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
        assert_eq!(String::from_utf8(written(true)).unwrap(), "\\xff\\x80\\u{1b}[2Jé\tok\n\n");
    }

    #[test]
    fn nothing_that_is_written_controls_a_terminal() {
        let written = |is_terminal: bool| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (output, out, err) = kept(is_terminal);
            output.line("[a\x1b]0;title\x07]").unwrap();
            output.text("\u{9b}2J> ").unwrap();
            output.event(&fired("/\x1bc"));
            output.begin_command();
            output.line("").unwrap();
            output.event(&fired("/\x1bd"));
            runtime.block_on(output.end_command()).unwrap();
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
        assert!(out.contains("path:/\x1bc zxid: 5\n"), "{out:?}");
        assert!(out.starts_with("[a\x1b]0;title\x07]\n\u{9b}2J> \nWATCHER::\n\nWatchedEvent "), "{out:?}");
        assert_eq!(err, "Node does not exist: /\x1b[31m\r\n");
    }

    fn fired(path: &str) -> Event<'_> {
        Event { state: SessionState::SyncConnected, kind: "NodeCreated", path: Some(path), zxid: 5 }
    }

    #[tokio::test]
    async fn events_wait_for_the_end_of_a_result() {
        let (output, out, _) = kept(false);
        output.event(&fired("/before"));
        output.begin_command();
        output.event(&fired("/while it waits"));
        output.line("/a").unwrap();
        output.event(&fired("/second"));
        output.line("/b").unwrap();
        output.event(&fired("/third"));
        output.data(b"/c").unwrap();
        output.end_command().await.unwrap();
        output.event(&fired("/after"));
        let event = |name: &str| fired(&format!("/{name}")).text(Manner::Original, "").unwrap();
        let events = |names: &[&str]| names.iter().map(|name| event(name)).collect::<String>();
        let expected = [&events(&["before", "while it waits"]), "/a\n/b\n/c\n", &events(&["second", "third", "after"])];
        assert_eq!(out.text(), expected.concat());
    }

    #[tokio::test]
    async fn scripts_that_want_results_get_nothing_else() {
        for (manner, data) in [(Manner::Quiet, "\u{1b}x"), (Manner::Json, "\u{1b}x\n")] {
            let (output, out, err) = kept(false);
            output.set_manner(manner);
            output.event(&Event::of_session(SessionState::Disconnected));
            output.event(&fired("/a"));
            output.begin_command();
            output.data(b"\x1bx").unwrap();
            output.event(&fired("/b"));
            output.end_command().await.unwrap();
            output.flush().unwrap();
            assert_eq!(out.text(), data);
            let events = ["/a", "/b"].map(|path| fired(path).text(manner, "").unwrap());
            assert_eq!(err.text(), events.concat());
        }
    }

    #[test]
    fn rows_are_those_that_the_terminal_breaks_lines_into() {
        for (text, rows) in [("", 1), ("a\n", 1), ("a\nb\n", 2), ("0123456789", 2), ("0123\n\n01234567890\n", 4)] {
            assert_eq!(rows_of(text.as_bytes(), 10), rows, "{text:?}");
        }
    }

    #[tokio::test]
    async fn events_that_find_no_room_are_counted() {
        let (output, out, _) = kept(false);
        output.begin_command();
        output.line("/a").unwrap();
        let long = "x".repeat(HELD_BYTES_LIMIT / 2);
        for path in [&long, &long, "short", "short"] {
            output.event(&fired(path));
        }
        output.end_command().await.unwrap();
        let text = out.text();
        assert!(text.len() < HELD_BYTES_LIMIT);
        assert!(text.ends_with(" zxid: 5\n\n3 more events came during this command and are not shown\n"));
    }
}
