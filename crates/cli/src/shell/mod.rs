//! `rookeeper cli`: a client for people and scripts, in zkCli's syntax and with its output, on the crate `zookeeper-client`.
//!
//! Reading order:
//! - [`arguments`]: the arguments of the program, and the words of a line
//! - [`commands`]: the table of commands; [`options`]: the options of each
//! - [`nodes`], [`access`], [`watches`], [`quota`], [`ensemble`], [`history`]: what the commands of zkCli do
//! - [`walk`], a subtree in slices; on it [`look`] (tree, find, du), [`copy`] (cp, mv) with [`batch`], [`diff`]; [`edit`]; [`pattern`]
//! - [`entry`]: TLS and the user; [`session`]: connecting and closing; [`attended`]: a command that somebody waits for
//! - [`terminal`]: where lines come from; [`prompt`]: what stands before them; [`completion`], [`remembered`], [`help`]: what helps to type them
//! - [`output`]: where results go; [`event`]: how events are told, and to whom; [`pager`]: what is longer than the screen
//! - [`format`], [`path`], [`failure`]: how things are printed, checked and refused
//! - [`transfer`]: `rookeeper export` and `rookeeper import`
//! - [`transcript`]: how a recorded session is compared with another
//!
//! What always holds: results go to standard output; complaints, usage and `Created …` to standard error; the exit code is that of
//! the last command ([`Failure::exit_code`]). Without a terminal every byte is as zkCli prints it, unless `--quiet` or `--json` says otherwise;
//! a reader that goes away is no failure.
//!
//! Counterpart in the original: `ZooKeeperMain` and the package `cli`.

mod access;
mod arguments;
mod attended;
mod batch;
mod commands;
mod completion;
mod copy;
mod diff;
mod edit;
mod ensemble;
mod entry;
mod event;
mod failure;
mod format;
mod help;
mod history;
mod look;
mod nodes;
mod options;
mod output;
mod pager;
mod path;
mod pattern;
mod prompt;
mod quota;
mod remembered;
mod session;
mod terminal;
pub mod transcript;
mod transfer;
mod walk;
mod watches;

use std::io::{self, BufReader, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use rookeeper_recipes::Sessions;
use rookeeper_server::config::ClientFlags;
use zookeeper_client::Client;

use crate::print;
pub use arguments::{Invocation, Start, parse_start};
use commands::Command;
use entry::Entry;
use event::Manner;
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
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

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
        client,
        user: user.map(str::to_owned),
        password_file: password_file.map(Path::to_owned),
        ..Start::default()
    };
    let entry = Entry::open(&start, output)?;
    session::begin(server, session_timeout, false, &entry).await
}

/// Sessions for a command that outlives one, begun as by [`connect`]; files and passwords are read once. The first session is there.
pub(crate) async fn sessions(
    server: &str,
    session_timeout: Duration,
    client: ClientFlags,
    user: Option<&str>,
    password_file: Option<&Path>,
    output: &Output,
) -> Result<Sessions, Failure> {
    let start = Start {
        server: server.to_owned(),
        session_timeout,
        client,
        user: user.map(str::to_owned),
        password_file: password_file.map(Path::to_owned),
        ..Start::default()
    };
    let entry = Arc::new(Entry::open(&start, output)?);
    let first = session::begin(server, session_timeout, false, &entry).await?;
    let sessions = Sessions::begun_by(server, move || {
        let (entry, server) = (Arc::clone(&entry), start.server.clone());
        async move {
            let connector = Client::connector().with_session_timeout(session_timeout).with_fail_eagerly();
            entry.connect(connector, &server).await
        }
    });
    Ok(sessions.starting_with(first))
}

/// Runs `rookeeper cli` with the arguments after `cli` and returns the exit code.
pub fn main(arguments: &[String]) -> u8 {
    let start = match parse_start(arguments) {
        Ok(Invocation::Run(start)) => *start,
        Ok(Invocation::Help) => {
            return u8::from(!print::result(&format_args!("{}{}", arguments::HELP, help::list())));
        }
        Err(text) => {
            print::complaint(&text);
            return 1;
        }
    };
    let (is_typed, is_read) = (io::stdin().is_terminal(), io::stdout().is_terminal());
    let input = if is_typed { Input::Terminal } else { Input::Lines(Box::new(BufReader::new(io::stdin()))) };
    let output = Output::standard();
    if is_typed && is_read {
        output.set_manner(if start.command.is_empty() { Manner::Talk } else { Manner::Brief });
    }
    // One thread is enough for one session, and it makes the order of events and results repeatable.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print::complaint(&format_args!("cannot start the runtime: {error}"));
            return 1;
        }
    };
    let code = runtime.block_on(run(start, output, input));
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
    if start.json {
        output.set_manner(Manner::Json);
    } else if start.quiet {
        output.set_manner(Manner::Quiet);
    }
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
        // Whoever closes a pipe has seen what they wanted to see.
        Err(failure) if failure.is_closed_pipe() => 0,
        Err(failure) => {
            shell.output.complain_at_last(&failure.to_string());
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
    limit: Option<Duration>,
    /// It runs more than one command.
    converses: bool,
    session: Option<Session>,
}

impl Shell {
    fn new(start: &Start, output: Output) -> Shell {
        let output = Arc::new(output);
        output.set_server(&start.server);
        Shell {
            zone: TimeZone::system(),
            watches: Watches::new(&output),
            history: History::default(),
            server: start.server.clone(),
            entry: Entry::default(),
            session_timeout: start.session_timeout,
            read_only: start.read_only,
            wait: start.wait,
            limit: start.limit,
            converses: start.command.is_empty(),
            session: None,
            output,
        }
    }

    async fn run_one(&mut self, words: &[String]) -> Result<u8, Failure> {
        let needs_server = Command::find(&words[0]).is_none_or(|command| command.name != "help");
        if needs_server {
            self.begin().await?;
        }
        let code = self.run_whole(words).await?;
        self.output.show_events(false);
        self.close().await?;
        Ok(code)
    }

    async fn converse(&mut self, input: Input) -> Result<u8, Failure> {
        self.begin().await?;
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

    /// Begins the first session, with the greeting that those who read expect.
    async fn begin(&mut self) -> Result<(), Failure> {
        let manner = self.output.manner();
        if matches!(manner, Manner::Original | Manner::Talk) {
            self.output.text(&format!("Connecting to {}\n", self.server))?;
        }
        if manner == Manner::Original && self.converses {
            self.output.text("Welcome to ZooKeeper!\n")?;
            // Not true of this program, but tools that drive zkCli look for the line.
            self.output.text("JLine support is enabled\n")?;
        }
        self.output.flush()?;
        let limit = self.limit.unwrap_or(Duration::MAX);
        // A wait that no clock can measure is one without an end.
        match tokio::time::timeout(limit.min(FOREVER), self.connect()).await {
            Ok(connected) => connected?,
            Err(_) => return Err(Failure::TooSlow(limit)),
        }
        if manner == Manner::Talk
            && let Some(client) = self.session_client()
        {
            self.output.text(&format!(
                "Session {}, timeout {} s. help lists the commands, Tab completes, Ctrl-C ends a command, Ctrl-D the shell.\n",
                client.session_id(),
                client.session_timeout().as_secs_f64()
            ))?;
        }
        Ok(())
    }

    /// Runs one command and tells of it as a whole, then of the events that came while it told.
    async fn run_whole(&mut self, words: &[String]) -> Result<u8, Failure> {
        self.output.begin_command();
        let (output, server, limit) = (Arc::clone(&self.output), self.server.clone(), self.limit);
        // Not the client, which would keep the session that the command may end.
        let state = self.session.as_ref().map(|session| session.client.state_watcher());
        let done = attended::attend(self.execute(words), &output, &server, state, limit).await;
        let code = self.report(done);
        // An event that came with the answer belongs before the next prompt.
        tokio::task::yield_now().await;
        let ended = self.output.end_command().await;
        let code = code?;
        ended?;
        Ok(code)
    }

    /// Runs the words of one command.
    pub(crate) async fn execute(&mut self, words: &[String]) -> Result<(), Failure> {
        let Some((name, rest)) = words.split_first() else { return Ok(()) };
        match Command::find(name) {
            Some(command) => command.run(self, rest).await,
            None if self.output.manner() == Manner::Talk => {
                let meant = help::similar(name).map_or(String::new(), |meant| format!("Did you mean {meant}? "));
                self.output.complain(&format!("{meant}help lists the commands."))?;
                Err(Failure::NotFound(name.clone()))
            }
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
            // The reader has left the pager: it has seen what it wanted to see.
            Err(failure) if failure.is_closed_pipe() && self.output.is_paged() => Ok(0),
            Err(failure @ Failure::Output(_)) => Err(failure),
            Err(failure @ Failure::No) => Ok(failure.exit_code()),
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
        let mut told = false;
        loop {
            match Session::connect(&self.server, self.session_timeout, self.read_only, &self.entry, &self.output).await
            {
                Ok(session) => {
                    self.session = Some(session);
                    return Ok(());
                }
                Err(Failure::Refused(_)) if self.wait && Instant::now() < until => {
                    if !told && matches!(self.output.manner(), Manner::Talk | Manner::Brief) {
                        self.output.remark(&format!("waiting for a server: {} gives no session yet", self.server));
                    }
                    told = true;
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
            self.output.set_server(&server);
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

    /// The answer to a command that needs a session, where there is none.
    pub(crate) fn no_session(&self) -> Result<(), Failure> {
        if self.output.manner() == Manner::Original {
            return Ok(self.output.line("Not connected")?);
        }
        Err(Failure::Refused("Not connected: connect begins a session".to_owned()))
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

    pub(crate) fn version(&self, as_json: bool) -> Result<(), Failure> {
        if as_json {
            return Ok(self.output.json(&serde_json::json!({"version": env!("CARGO_PKG_VERSION")}))?);
        }
        Ok(self.output.line(concat!("Rookeeper CLI version: ", env!("CARGO_PKG_VERSION")))?)
    }
}
