//! `rookeeper cli`: a client for people and scripts, in zkCli's syntax and with its output, on the crate `zookeeper-client`.
//!
//! Reading order:
//! - [`arguments`]: the arguments of the program, and the words of a line
//! - [`commands`]: the table of commands; [`options`]: the options of each
//! - [`nodes`], [`access`], [`watches`], [`quota`], [`ensemble`], [`history`]: what the commands do
//! - [`entry`]: TLS and the user; [`session`]: connecting and closing; [`terminal`]: where lines come from; [`prompt`]: what stands before them;
//!   [`output`]: where results go
//! - [`format`], [`path`], [`failure`]: how things are printed, checked and refused
//! - [`transfer`]: `rookeeper export` and `rookeeper import`
//! - [`transcript`]: how a recorded session is compared with another
//!
//! What always holds: results go to standard output; complaints, usage and `Created …` to standard error; the exit code is that of
//! the last command (0 done, 1 failed, 127 no such command).
//!
//! Counterpart in the original: `ZooKeeperMain` and the package `cli`.

mod access;
mod arguments;
mod commands;
mod ensemble;
mod entry;
mod failure;
mod format;
mod history;
mod nodes;
mod options;
mod output;
mod path;
mod prompt;
mod quota;
mod session;
mod terminal;
pub mod transcript;
mod transfer;
mod watches;

use std::io::{self, BufReader, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use rookeeper_server::config::ClientFlags;
use zookeeper_client::Client;

use crate::print;
pub use arguments::{Invocation, Start, parse_start};
use commands::Command;
use entry::Entry;
pub use failure::Failure;
use history::History;
pub use output::Output;
use prompt::Prompt;
use session::Session;
pub use terminal::Input;
use terminal::Source;
use watches::Watches;

/// Between attempts to connect with `-waitforconnection`.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// A session for another command of this binary, with the flags of the shell. Tries every server once.
pub(crate) async fn connect(
    server: &str,
    session_timeout: Duration,
    client: ClientFlags,
    user: Option<&str>,
    password_file: Option<&Path>,
    output: &Output,
) -> Result<Client, Failure> {
    let start = Start {
        server: server.to_owned(),
        session_timeout,
        read_only: false,
        wait: false,
        client,
        user: user.map(str::to_owned),
        password_file: password_file.map(Path::to_owned),
        command: Vec::new(),
    };
    let entry = Entry::open(&start, output)?;
    session::begin(server, session_timeout, false, &entry).await
}

/// Runs `rookeeper cli` with the arguments after `cli` and returns the exit code.
pub fn main(arguments: &[String]) -> u8 {
    let start = match parse_start(arguments) {
        Ok(Invocation::Run(start)) => *start,
        Ok(Invocation::Help) => {
            let list = commands::usage_list();
            let list = list.split_once('\n').map_or("", |(_, list)| list);
            return u8::from(!print::result(&format_args!("{}{list}", arguments::HELP)));
        }
        Err(text) => {
            print::complaint(&text);
            return 1;
        }
    };
    let input =
        if io::stdin().is_terminal() { Input::Terminal } else { Input::Lines(Box::new(BufReader::new(io::stdin()))) };
    // One thread is enough for one session, and it makes the order of events and results repeatable.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print::complaint(&format_args!("cannot start the runtime: {error}"));
            return 1;
        }
    };
    let code = runtime.block_on(run(start, Output::standard(), input));
    // A thread may still wait for a line nobody will type.
    runtime.shutdown_background();
    code
}

/// Runs `rookeeper export` with the arguments after `export` and returns the exit code.
pub fn export(arguments: &[String]) -> u8 {
    transfer::export::main(arguments)
}

/// Runs `rookeeper import` with the arguments after `import` and returns the exit code.
pub fn import(arguments: &[String]) -> u8 {
    transfer::import::main(arguments)
}

/// Runs one command, or a whole session of commands, and returns the exit code.
pub async fn run(start: Start, output: Output, input: Input) -> u8 {
    let mut shell = Shell::new(&start, output);
    let ended = match Entry::open(&start, &shell.output) {
        Err(failure) => Err(failure),
        Ok(entry) => {
            shell.entry = entry;
            if start.command.is_empty() { shell.converse(input).await } else { shell.run_one(&start.command).await }
        }
    };
    match ended {
        Ok(code) => code,
        Err(failure) => {
            // When the output itself is gone there is nobody left to tell.
            let _ = shell.output.complain(&failure.to_string());
            failure.exit_code()
        }
    }
}

/// The state of a shell between two commands.
#[derive(Debug)]
pub(crate) struct Shell {
    pub(crate) output: Arc<Output>,
    pub(crate) zone: TimeZone,
    pub(crate) watches: Watches,
    pub(crate) history: History,
    server: String,
    entry: Entry,
    session_timeout: Duration,
    read_only: bool,
    wait: bool,
    session: Option<Session>,
}

impl Shell {
    fn new(start: &Start, output: Output) -> Shell {
        let output = Arc::new(output);
        Shell {
            zone: TimeZone::system(),
            watches: Watches::new(&output),
            history: History::default(),
            server: start.server.clone(),
            entry: Entry::default(),
            session_timeout: start.session_timeout,
            read_only: start.read_only,
            wait: start.wait,
            session: None,
            output,
        }
    }

    async fn run_one(&mut self, words: &[String]) -> Result<u8, Failure> {
        self.output.line(&format!("Connecting to {}", self.server))?;
        self.connect().await?;
        let code = self.run_whole(words).await?;
        self.output.show_events(false);
        self.close().await?;
        Ok(code)
    }

    async fn converse(&mut self, input: Input) -> Result<u8, Failure> {
        self.output.line(&format!("Connecting to {}", self.server))?;
        self.output.line("Welcome to ZooKeeper!")?;
        // Not true of this program, but tools that drive zkCli look for the line.
        self.output.line("JLine support is enabled")?;
        self.connect().await?;
        let mut source = Source::new(input, &self.output)?;
        let mut code = 0;
        while let Some((next, line)) = source.line(self.prompt(), self.session_client(), &self.output).await? {
            source = next;
            let words = arguments::split_line(&line);
            match words.first().map(String::as_str) {
                None => continue,
                Some("quit") => break,
                Some(_) => {}
            }
            self.history.push(&line);
            code = self.run_whole(&words).await?;
        }
        self.close().await?;
        self.output.flush()?;
        Ok(code)
    }

    /// Runs one command and tells of it as a whole, then of the events that came while it told.
    async fn run_whole(&mut self, words: &[String]) -> Result<u8, Failure> {
        self.output.begin_command();
        let done = self.execute(words).await;
        let code = self.report(done);
        // An event that came with the answer belongs before the next prompt.
        tokio::task::yield_now().await;
        self.output.end_command();
        code
    }

    /// Runs the words of one command.
    pub(crate) async fn execute(&mut self, words: &[String]) -> Result<(), Failure> {
        let Some((name, rest)) = words.split_first() else { return Ok(()) };
        match Command::find(name) {
            Some(command) => command.run(self, rest).await,
            None => {
                self.output.complain(&commands::usage_list())?;
                Err(Failure::NotFound(name.clone()))
            }
        }
    }

    /// Tells of a failure and turns the outcome into an exit code; only a lost output is passed on.
    fn report(&self, done: Result<(), Failure>) -> Result<u8, Failure> {
        match done {
            Ok(()) => {
                self.output.flush()?;
                Ok(0)
            }
            Err(failure @ Failure::Output(_)) => Err(failure),
            Err(failure) => {
                self.output.complain(&failure.to_string())?;
                Ok(failure.exit_code())
            }
        }
    }

    fn prompt(&self) -> Prompt {
        Prompt::new(&self.server, self.history.next_number())
    }

    async fn connect(&mut self) -> Result<(), Failure> {
        self.output.flush()?;
        let until = Instant::now() + self.session_timeout;
        loop {
            match Session::connect(&self.server, self.session_timeout, self.read_only, &self.entry, &self.output).await
            {
                Ok(session) => {
                    self.session = Some(session);
                    return Ok(());
                }
                Err(Failure::Refused(_)) if self.wait && Instant::now() < until => {
                    tokio::time::sleep(RETRY_PAUSE).await
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// `connect`: ends this session and begins another, with the same server unless one is named.
    pub(crate) async fn reconnect(&mut self, server: Option<String>) -> Result<(), Failure> {
        self.close().await?;
        if let Some(server) = server {
            self.server = server;
        }
        self.connect().await
    }

    /// `close`: ends the session; the shell stays.
    pub(crate) async fn close(&mut self) -> Result<(), Failure> {
        self.output.flush()?;
        if let Some(session) = self.session.take() {
            session.close().await;
        }
        self.watches = Watches::new(&self.output);
        Ok(())
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.client.state().is_terminated())
    }

    fn session_client(&self) -> Option<Client> {
        self.session.as_ref().map(|session| session.client.clone())
    }

    /// The client of a session that is alive; commands are only run with one.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        self.session_client().ok_or_else(|| Failure::Refused("Not connected".to_owned()))
    }

    pub(crate) fn check_path(&self, path: &str) -> Result<(), Failure> {
        path::validate(path).map_err(Failure::Refused)
    }

    pub(crate) fn usage(&self, command: &str) -> Failure {
        Failure::Refused(Command::find(command).map(Command::usage).unwrap_or_default())
    }

    pub(crate) fn version(&self) -> Result<(), Failure> {
        Ok(self.output.line(concat!("Rookeeper CLI version: ", env!("CARGO_PKG_VERSION")))?)
    }
}
