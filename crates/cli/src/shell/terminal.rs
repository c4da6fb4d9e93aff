//! Where the lines come from: an editor on a terminal, plain lines otherwise.
//!
//! Reading blocks, so it happens on a thread of its own while the session goes on pinging and printing events.

use std::borrow::Cow;
use std::io::{self, BufRead, Read};
use std::sync::Arc;

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use zookeeper_client::Client;

use super::completion;
use super::event::Manner;
use super::output::Output;
use super::prompt::Prompt;
use super::remembered::{self, Remembered};

const LINE_BYTES_LIMIT: u64 = 4 * 1024 * 1024;
/// The editor asks before it lists more candidates than this.
const CANDIDATES_UNASKED: usize = 100;

/// Where the shell reads its commands.
pub enum Input {
    Terminal,
    Lines(Box<dyn BufRead + Send>),
}

impl std::fmt::Debug for Input {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Input::Terminal => "Terminal",
            Input::Lines(_) => "Lines",
        })
    }
}

/// A source of lines that is lent to a thread while it waits.
pub(crate) enum Source {
    Terminal(Box<Edited>),
    Lines(Box<dyn BufRead + Send>),
}

/// An editor and the lines that it offers again.
pub(crate) struct Edited {
    editor: Editor<Attendant, MemHistory>,
    remembered: Remembered,
}

impl Source {
    pub(crate) fn new(input: Input, output: &Output) -> io::Result<Source> {
        match input {
            Input::Lines(lines) => Ok(Source::Lines(lines)),
            Input::Terminal => {
                let config = Config::builder()
                    .completion_type(CompletionType::List)
                    .completion_prompt_limit(CANDIDATES_UNASKED)
                    .max_history_size(remembered::LINES_KEPT)
                    .and_then(|config| config.history_ignore_dups(true))
                    .map_err(io::Error::other)?
                    .history_ignore_space(true)
                    .build();
                let history = MemHistory::with_config(&config);
                let mut editor = Editor::with_history(config, history).map_err(io::Error::other)?;
                let remembered = Remembered::of_user();
                for line in remembered.lines() {
                    editor.add_history_entry(line).map_err(io::Error::other)?;
                }
                editor.set_helper(Some(Attendant {
                    client: None,
                    prompt: Prompt::default(),
                    runtime: Handle::current(),
                }));
                if let Ok(printer) = editor.create_external_printer() {
                    output.print_above_prompt(Box::new(printer));
                }
                Ok(Source::Terminal(Box::new(Edited { editor, remembered })))
            }
        }
    }

    /// The next line, `None` at the end of the input.
    pub(crate) async fn line(
        self,
        prompt: Prompt,
        client: Option<Client>,
        output: &Arc<Output>,
    ) -> io::Result<Option<(Source, String)>> {
        let is_quiet = matches!(output.manner(), Manner::Quiet | Manner::Json);
        if let Source::Lines(_) = self
            && !is_quiet
        {
            output.text(&prompt.text(client.as_ref().map(Client::state)))?;
        }
        output.flush()?;
        output.line_is_edited(matches!(self, Source::Terminal(_)));
        let (source, line) = spawn_blocking(move || self.wait(prompt, client)).await.map_err(io::Error::other)??;
        output.line_is_edited(false);
        if let (Source::Lines(_), Some(line), false) = (&source, &line, is_quiet) {
            // The original's editor echoes what it reads, so a transcript shows both.
            output.line(line)?;
        }
        Ok(line.map(|line| (source, line)))
    }

    fn wait(mut self, prompt: Prompt, client: Option<Client>) -> io::Result<(Source, Option<String>)> {
        let line = match &mut self {
            Source::Lines(lines) => read_line(lines)?,
            Source::Terminal(edited) => {
                let Edited { editor, remembered } = &mut **edited;
                let text = prompt.text(client.as_ref().map(Client::state));
                if let Some(helper) = editor.helper_mut() {
                    helper.client = client;
                    helper.prompt = prompt;
                }
                let read = read_edited(editor, remembered, &text)?;
                if let Some(helper) = editor.helper_mut() {
                    // A client kept here would keep its session open.
                    helper.client = None;
                }
                read
            }
        };
        Ok((self, line))
    }
}

fn read_line(lines: &mut dyn BufRead) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    lines.take(LINE_BYTES_LIMIT).read_until(b'\n', &mut bytes)?;
    if bytes.len() as u64 == LINE_BYTES_LIMIT {
        return Err(io::Error::other(format!("a line is longer than {LINE_BYTES_LIMIT} bytes")));
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    let line = String::from_utf8_lossy(&bytes);
    Ok(Some(line.trim_end_matches(['\n', '\r']).to_owned()))
}

fn read_edited(
    editor: &mut Editor<Attendant, MemHistory>,
    remembered: &Remembered,
    prompt: &str,
) -> io::Result<Option<String>> {
    loop {
        match editor.readline(prompt) {
            Ok(line) => {
                // A history that is full forgets; there is nothing to say about it.
                let is_new = editor.add_history_entry(&line).unwrap_or(false);
                if is_new {
                    remembered.add(&line);
                }
                return Ok(Some(line));
            }
            // Like a shell: the line is given up, not the session.
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => return Ok(None),
            Err(ReadlineError::Io(error)) => return Err(error),
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

/// Attends the editor of a line: completes what is typed, and knows the prompt.
pub(crate) struct Attendant {
    client: Option<Client>,
    prompt: Prompt,
    runtime: Handle,
}

impl Completer for Attendant {
    type Candidate = Pair;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        Ok(completion::candidates(&line[..position], self.client.as_ref(), &self.runtime))
    }
}

impl Hinter for Attendant {
    type Hint = String;
}
impl Highlighter for Attendant {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, drawn: &'p str, is_own: bool) -> Cow<'b, str> {
        if !is_own {
            return Cow::Borrowed(drawn);
        }
        Cow::Owned(self.prompt.text_in(drawn.chars().count(), self.client.as_ref().map(Client::state)))
    }
}
impl Validator for Attendant {}
impl Helper for Attendant {}

#[cfg(test)]
mod tests {
    use zookeeper_client::SessionState;

    use super::*;

    #[test]
    fn lines_end_with_the_input() {
        let mut lines: Box<dyn BufRead> = Box::new(&b"ls /\r\n\nget /a"[..]);
        let mut next = || read_line(&mut lines).unwrap();
        assert_eq!(next().as_deref(), Some("ls /"));
        assert_eq!(next().as_deref(), Some(""));
        assert_eq!(next().as_deref(), Some("get /a"));
        assert_eq!(next(), None);
    }

    #[test]
    fn endless_lines_are_refused() {
        let mut endless: Box<dyn BufRead> = Box::new(io::BufReader::new(io::repeat(b'x')));
        assert!(read_line(&mut endless).is_err());
    }

    #[tokio::test]
    async fn a_prompt_that_is_drawn_again_tells_the_state_of_now() {
        let prompt = Prompt::new("zoo1:2181", 3);
        let drawn = prompt.text(Some(SessionState::SyncConnected));
        let attendant = Attendant { client: None, prompt, runtime: Handle::current() };
        assert_eq!(attendant.highlight_prompt(&drawn, true), "[zk: zoo1:2181(CLOSED) 3]    ");
        assert_eq!(attendant.highlight_prompt("(reverse-i-search)`': ", false), "(reverse-i-search)`': ");
    }
}
