//! Where the lines come from: an editor on a terminal, plain lines otherwise.
//!
//! Reading blocks, so it happens on a thread of its own while the session goes on pinging and printing events.

use std::borrow::Cow;
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::time::Duration;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Editor, Helper};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use zookeeper_client::Client;

use super::commands::COMMANDS;
use super::format;
use super::output::Output;
use super::prompt::Prompt;

const LINE_BYTES_LIMIT: u64 = 4 * 1024 * 1024;
const COMPLETION_TIMEOUT: Duration = Duration::from_secs(1);

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
    Terminal(Box<Editor<Attendant, DefaultHistory>>),
    Lines(Box<dyn BufRead + Send>),
}

impl Source {
    pub(crate) fn new(input: Input, output: &Output) -> io::Result<Source> {
        match input {
            Input::Lines(lines) => Ok(Source::Lines(lines)),
            Input::Terminal => {
                let mut editor = Editor::new().map_err(io::Error::other)?;
                editor.set_helper(Some(Attendant {
                    client: None,
                    prompt: Prompt::default(),
                    runtime: Handle::current(),
                }));
                if let Ok(printer) = editor.create_external_printer() {
                    output.print_above_prompt(Box::new(printer));
                }
                Ok(Source::Terminal(Box::new(editor)))
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
        if let Source::Lines(_) = self {
            output.text(&prompt.text(client.as_ref().map(Client::state)))?;
        }
        output.flush()?;
        let (source, line) = spawn_blocking(move || self.wait(prompt, client)).await.map_err(io::Error::other)??;
        if let (Source::Lines(_), Some(line)) = (&source, &line) {
            // The original's editor echoes what it reads, so a transcript shows both.
            output.line(line)?;
        }
        Ok(line.map(|line| (source, line)))
    }

    fn wait(mut self, prompt: Prompt, client: Option<Client>) -> io::Result<(Source, Option<String>)> {
        let line = match &mut self {
            Source::Lines(lines) => read_line(lines)?,
            Source::Terminal(editor) => {
                let text = prompt.text(client.as_ref().map(Client::state));
                if let Some(helper) = editor.helper_mut() {
                    helper.client = client;
                    helper.prompt = prompt;
                }
                let read = read_edited(editor, &text)?;
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

fn read_edited(editor: &mut Editor<Attendant, DefaultHistory>, prompt: &str) -> io::Result<Option<String>> {
    loop {
        match editor.readline(prompt) {
            Ok(line) => {
                // A history that is full forgets; there is nothing to say about it.
                let _ = editor.add_history_entry(&line);
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

/// Attends the editor of a line: completes the names of commands, and paths by asking the server; knows the prompt.
pub(crate) struct Attendant {
    client: Option<Client>,
    prompt: Prompt,
    runtime: Handle,
}

impl Completer for Attendant {
    type Candidate = String;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let before = &line[..position];
        let start = before.rfind(char::is_whitespace).map_or(0, |blank| blank + 1);
        let word = &before[start..];
        if start == 0 {
            return Ok((0, command_names(word)));
        }
        let (Some(client), Some((parent, prefix))) = (&self.client, word.rsplit_once('/')) else {
            return Ok((start, Vec::new()));
        };
        let directory = if parent.is_empty() { "/" } else { parent };
        let listing = async { tokio::time::timeout(COMPLETION_TIMEOUT, client.list_children(directory)).await };
        let mut children = match self.runtime.block_on(listing) {
            Ok(Ok(children)) => children,
            // No suggestion is the right answer to a path that is not there, and to a server that is slow.
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        // A name that would control the terminal can be typed, but is not suggested.
        children.retain(|child| child.starts_with(prefix) && format::harmless(child) == *child);
        children.sort_unstable();
        Ok((start, children.into_iter().map(|child| format!("{parent}/{child}")).collect()))
    }
}

fn command_names(prefix: &str) -> Vec<String> {
    COMMANDS.iter().filter(|command| command.name.starts_with(prefix)).map(|command| command.name.to_owned()).collect()
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

    #[test]
    fn commands_complete() {
        assert_eq!(command_names("getA"), ["getAcl", "getAllChildrenNumber"]);
        assert_eq!(command_names("x"), Vec::<String>::new());
    }
}
