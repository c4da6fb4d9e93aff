//! The holder: has the session, waits for its turn, and tells the keeper of the command until when it may run.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rookeeper_recipes::lease::{Lease, Verdict, proof_interval};
use rookeeper_recipes::{Candidates, Election, Error, Guard, Mutex, ReadWriteLock, Sessions};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{getpgrp, getpid, set_child_subreaper};
use rustix::termios::tcgetpgrp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use zookeeper_client::Client;

use super::descendants;
use super::keeper::{LOST, Message, code_of, now_ns};
use super::options::{ElectOptions, LockOptions, SessionFlags};
use crate::print;
use crate::shell::{self, Failure, Output};

const FAILED: u8 = 1;
const NO_SERVER: u8 = 69;
pub(crate) const NOT_IN_TIME: u8 = 75;
/// For the servers to say that the session is closed.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs `rookeeper lock` and returns the exit code.
pub fn lock(options: &LockOptions) -> u8 {
    run(async |signals| {
        let client = connect(&options.session, signals).await?;
        let take = async {
            let (path, limit) = (options.path.as_str(), options.timeout);
            match (options.shared, options.exclusive, limit) {
                (false, false, None) => Mutex::new(&client, path).acquire().await.map(Some),
                (false, false, Some(Duration::ZERO)) => Mutex::new(&client, path).try_acquire().await,
                (false, false, Some(limit)) => Mutex::new(&client, path).acquire_within(limit).await,
                (true, _, None) => ReadWriteLock::new(&client, path).read().await.map(Some),
                (true, _, Some(Duration::ZERO)) => ReadWriteLock::new(&client, path).try_read().await,
                (true, _, Some(limit)) => ReadWriteLock::new(&client, path).read_within(limit).await,
                (_, true, None) => ReadWriteLock::new(&client, path).write().await.map(Some),
                (_, true, Some(Duration::ZERO)) => ReadWriteLock::new(&client, path).try_write().await,
                (_, true, Some(limit)) => ReadWriteLock::new(&client, path).write_within(limit).await,
            }
        };
        let taken = tokio::select! {
            taken = take => taken,
            number = signals.next() => {
                close(client).await;
                return Err(128 + number as u8);
            }
        };
        let code = match taken {
            Ok(Some(guard)) => hold(guard, &client, &options.command, signals).await.unwrap_or(LOST),
            Ok(None) => NOT_IN_TIME,
            Err(error) => complain(&error),
        };
        close(client).await;
        Ok(code)
    })
}

/// Runs `rookeeper elect` and returns the exit code.
pub fn elect(options: &ElectOptions) -> u8 {
    let id = options.id.clone().unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
    run(async |signals| {
        loop {
            let client = connect(&options.session, signals).await?;
            let election = Election::new(&client, &options.path).among(Candidates::LeaderLatch).with_id(id.clone());
            let elected = tokio::select! {
                elected = election.campaign() => elected,
                number = signals.next() => {
                    close(client).await;
                    return Err(128 + number as u8);
                }
            };
            let (code, is_lost) = match elected {
                Ok(guard) => match hold(guard, &client, &options.command, signals).await {
                    Some(code) => (code, false),
                    None => (LOST, true),
                },
                Err(Error::SessionEnded(_)) => (LOST, true),
                Err(error) => (complain(&error), false),
            };
            close(client).await;
            if !(options.again && is_lost) {
                return Ok(code);
            }
        }
    })
}

pub(crate) fn run(work: impl AsyncFnOnce(&mut Signals) -> Result<u8, u8>) -> u8 {
    // One thread for the session, so that all of it is frozen or none.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print::complaint(&format_args!("cannot start: {error}"));
            return FAILED;
        }
    };
    let code = runtime.block_on(async {
        let mut signals = Signals::listen().map_err(|error| {
            print::complaint(&format_args!("cannot listen for signals: {error}"));
            FAILED
        })?;
        work(&mut signals).await
    });
    runtime.shutdown_background();
    code.unwrap_or_else(|code| code)
}

pub(crate) fn complain(error: &Error) -> u8 {
    print::complaint(error);
    if matches!(error, Error::SessionEnded(_)) { NO_SERVER } else { FAILED }
}

pub(crate) async fn connect(flags: &SessionFlags, signals: &mut Signals) -> Result<Client, u8> {
    let output = Arc::new(Output::new(Box::new(std::io::stdout()), Box::new(std::io::stderr())));
    let connecting = shell::connect(
        &flags.server,
        Duration::from_millis(flags.session_timeout.into()),
        (&flags.tls).into(),
        flags.user.as_deref(),
        flags.password_file.as_deref(),
        &output,
    );
    tokio::select! {
        client = connecting => client.map_err(|failure: Failure| {
            print::complaint(&failure);
            NO_SERVER
        }),
        number = signals.next() => Err(128 + number as u8),
    }
}

/// Sessions for a command that outlives one; the first is there.
pub(crate) async fn sessions(flags: &SessionFlags, signals: &mut Signals) -> Result<Sessions, u8> {
    let output = Arc::new(Output::new(Box::new(std::io::stdout()), Box::new(std::io::stderr())));
    let connecting = shell::sessions(
        &flags.server,
        Duration::from_millis(flags.session_timeout.into()),
        (&flags.tls).into(),
        flags.user.as_deref(),
        flags.password_file.as_deref(),
        &output,
    );
    tokio::select! {
        sessions = connecting => sessions.map_err(|failure: Failure| {
            print::complaint(&failure);
            NO_SERVER
        }),
        number = signals.next() => Err(128 + number as u8),
    }
}

/// Ends the last of several sessions, as [`close`] does.
pub(crate) async fn end(sessions: Sessions) {
    let _ = timeout(CLOSE_TIMEOUT, sessions.close()).await;
}

/// Ends the session, and with it everything that this process has among the nodes.
pub(crate) async fn close(client: Client) {
    let mut states = client.state_watcher();
    drop(client);
    let _ = timeout(CLOSE_TIMEOUT, async { while !states.changed().await.is_terminated() {} }).await;
}

/// What a command runs under: a lock, a leadership, an item of a queue.
pub(crate) trait Held {
    /// Whether it is held, as the servers say.
    async fn is_held(&self) -> Result<bool, Error>;

    /// What the command is told.
    fn environment(&self) -> Vec<(&'static str, String)>;

    /// What the command reads; this process's own input if `None`.
    fn input(&self) -> Option<Vec<u8>> {
        None
    }

    /// Ends the hold after the command has ended, with this code, or was ended. `false` if the hold was not held to the end.
    async fn end(self, code: Option<u8>) -> bool;
}

impl Held for Guard {
    async fn is_held(&self) -> Result<bool, Error> {
        Guard::is_held(self).await
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![("ROOKEEPER_FENCING_TOKEN", self.token().to_string()), ("ROOKEEPER_NODE", self.path().to_owned())]
    }

    async fn end(self, _code: Option<u8>) -> bool {
        // A session that is cut off gives the node back by its end.
        let _ = timeout(CLOSE_TIMEOUT, self.release()).await;
        true
    }
}

/// Runs the command while the guard is held, and returns its exit code; `None` if the hold was lost first.
pub(crate) async fn hold<H: Held>(guard: H, client: &Client, command: &[String], signals: &mut Signals) -> Option<u8> {
    let session_timeout = client.session_timeout();
    // The time is counted from a proof of the hold, and nothing runs before the first.
    let sent_ns = now_ns();
    match guard.is_held().await {
        Ok(true) => {}
        Ok(false) => {
            print::complaint(&"the hold was lost before the command began: its node is gone");
            return None;
        }
        Err(error) => {
            print::complaint(&error);
            return None;
        }
    }
    let mut lease = Lease::proved(sent_ns, session_timeout);
    let (mut control, mut ended) = match start(&guard, command) {
        Ok(started) => started,
        Err(error) => {
            print::complaint(&format_args!("cannot start the keeper of the command: {error}"));
            return Some(FAILED);
        }
    };
    // An error means that the keeper is gone, which is seen by its end.
    let mut tell = move |message: Message| drop(control.write_all(&message.encode()));
    tell(Message::Deadline(lease));
    let mut prove = Box::pin(proof(&guard, Duration::ZERO));
    loop {
        let now = now_ns();
        if lease.judge(now) == Verdict::End {
            print::complaint(&"no server confirms the hold: the command is ended before another can hold");
            break;
        }
        let until_next = Duration::from_nanos(lease.next_ns(now).unwrap_or(now) - now);
        tokio::select! {
            status = &mut ended => match status {
                // A command may have this code of its own; a keeper that has ended its command has it behind the deadline.
                Ok(Some(code)) if code != LOST || lease.judge(now_ns()) == Verdict::Holds => {
                    drop(prove);
                    return finish(guard, Some(code)).await.then_some(code);
                }
                Ok(Some(_)) => break,
                _ => {
                    print::complaint(&"the keeper of the command was killed: the command is ended");
                    break;
                }
            },
            (sent_ns, held) = &mut prove => match held {
                Ok(true) => {
                    lease = Lease::proved(sent_ns, session_timeout);
                    tell(Message::Deadline(lease));
                    prove = Box::pin(proof(&guard, proof_interval(session_timeout)));
                }
                Ok(false) => {
                    print::complaint(&"the hold is lost: somebody deleted its node");
                    break;
                }
                Err(error) => {
                    print::complaint(&format_args!("the hold is lost: {error}"));
                    break;
                }
            },
            number = signals.next() => tell(Message::Signal(number)),
            () = sleep(until_next) => {}
        }
    }
    drop(prove);
    finish(guard, None).await;
    None
}

async fn finish(guard: impl Held, code: Option<u8>) -> bool {
    // First the command, then the node: also where the keeper was killed, and left its children to this process.
    descendants::end();
    guard.end(code).await
}

async fn proof(guard: &impl Held, pause: Duration) -> (u64, Result<bool, Error>) {
    sleep(pause).await;
    let sent_ns = now_ns();
    (sent_ns, guard.is_held().await)
}

/// Starts the keeper, which starts the command. `None` comes from a keeper that was ended itself.
fn start(guard: &impl Held, command: &[String]) -> std::io::Result<(File, oneshot::Receiver<Option<u8>>)> {
    set_child_subreaper(Some(getpid()))?;
    let (theirs, ours): (OwnedFd, OwnedFd) = pipe_with(PipeFlags::CLOEXEC)?;
    // Nothing else is started meanwhile, so only the keeper inherits its end.
    fcntl_setfd(&theirs, FdFlags::empty())?;
    let mut keeper = Command::new("/proc/self/exe");
    keeper.arg("keeper").arg(theirs.as_raw_fd().to_string()).arg("--").args(command.iter().map(OsString::from));
    keeper.envs(guard.environment());
    let input = guard.input();
    if input.is_some() {
        keeper.stdin(Stdio::piped());
    }
    let mut child = keeper.spawn()?;
    if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
        // A command need not read it.
        std::thread::spawn(move || drop(pipe.write_all(&input)));
    }
    drop(theirs);
    let (sender, ended) = oneshot::channel();
    std::thread::spawn(move || {
        let status = child.wait();
        let code = status.ok().filter(|status| status.code().is_some()).map(code_of);
        let _ = sender.send(code);
    });
    Ok((File::from(ours), ended))
}

/// The signals that are passed on.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    quit: Signal,
    user_1: Signal,
    user_2: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The number of the next signal that is for the command. May be cancelled.
    pub(crate) async fn next(&mut self) -> i32 {
        loop {
            let (kind, may_be_of_the_terminal) = tokio::select! {
                _ = self.terminate.recv() => (SignalKind::terminate(), false),
                _ = self.interrupt.recv() => (SignalKind::interrupt(), true),
                _ = self.hang_up.recv() => (SignalKind::hangup(), false),
                _ = self.quit.recv() => (SignalKind::quit(), true),
                _ = self.user_1.recv() => (SignalKind::user_defined1(), false),
                _ = self.user_2.recv() => (SignalKind::user_defined2(), false),
            };
            // Ctrl-C reaches every process of the terminal's group: passed on as well, it would arrive twice.
            if !(may_be_of_the_terminal && has_children() && is_in_foreground()) {
                return kind.as_raw_value();
            }
        }
    }
}

fn has_children() -> bool {
    descendants::exist()
}

fn is_in_foreground() -> bool {
    File::open("/dev/tty").is_ok_and(|terminal| tcgetpgrp(&terminal).is_ok_and(|group| group == getpgrp()))
}
