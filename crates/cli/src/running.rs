//! What every command that runs a server does around the server: its log and limits, its network workers, and what ends it.
//!
//! What always holds: from the moment that signals are listened to, none ends the process by itself; a server that is told to stop while it still starts
//! does not start.

use std::fmt::Display;
use std::future::{Future, pending};
use std::io::Read as _;
use std::process;

use clap::Args;
use rookeeper_cli::{print, readiness};
use rookeeper_server::{ExitCode, Failure, descriptors, logging};
use tokio::sync::oneshot;
use tracing::info;

use crate::signals::{Asked, Signals};

/// Network workers: they accept connections and wait for other servers, which is little work. Clients are served by threads of the server's own.
const WORKERS: usize = 2;

/// How whoever starts a server hears of it and ends it.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Starter {
    /// Print HOST:PORT, a line, as soon as clients can connect there
    #[arg(long)]
    print_address: bool,

    /// Stop when standard input ends: a server that ends with whoever has started it
    #[arg(long)]
    while_stdin: bool,
}

/// Runs a server, and says in the log what it fails of. Returns the exit status.
pub(crate) fn main(run: impl FnOnce() -> Result<(), Failure>) -> process::ExitCode {
    if let Err(wrong) = logging::start() {
        logging::complain(&wrong);
        return ExitCode::Misconfigured.into();
    }
    logging::end_with_any_thread();
    descriptors::raise_limit();
    let code = match run() {
        Ok(()) => ExitCode::Finished.into(),
        Err(failure) => {
            logging::fatal(&failure);
            failure.exit_code.into()
        }
    };
    logging::flush();
    code
}

/// Serves on network workers of its own.
pub(crate) fn block_on(serving: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("network")
        .enable_all()
        .build()
        .map_err(|error| Failure::new(ExitCode::Failed, format!("can't start the network workers: {error}")))?;
    let result = runtime.block_on(serving);
    // What still runs now has had its time. Where the start was given up, a thread still reads the database.
    runtime.shutdown_background();
    result
}

/// What ends a server, or asks it for something.
#[derive(Debug)]
pub(crate) struct Ends {
    starter: Starter,
    signals: Signals,
    /// Resolves when standard input ends; none where that does not matter, or not yet.
    input: Option<oneshot::Receiver<()>>,
}

impl Ends {
    /// Call on the runtime.
    pub fn listen(starter: Starter) -> Result<Ends, Failure> {
        let failed = |error| Failure::new(ExitCode::Failed, format!("can't listen for signals: {error}"));
        Ok(Ends { starter, signals: Signals::listen().map_err(failed)?, input: None })
    }

    /// The server that this starts, which the service manager hears of; none where it was told to stop before that.
    pub async fn started<S>(&mut self, start: impl Future<Output = Result<S, Failure>>) -> Result<Option<S>, Failure> {
        tokio::pin!(start);
        let server = loop {
            tokio::select! {
                server = &mut start => break server?,
                asked = self.signals.next() => match asked {
                    Asked::Report => info!("the start is not complete yet"),
                    // A start can be given up at any moment, as the power may go at any moment.
                    Asked::Stop(name) => {
                        info!("{name}: stopping, before the start was complete");
                        return Ok(None);
                    }
                },
            }
        };
        readiness::tell(readiness::READY);
        self.input = self.starter.while_stdin.then(end_of_input);
        Ok(Some(server))
    }

    /// Says where clients connect, to a starter who asks for that. False where the starter does not listen: then nobody needs the server.
    pub fn tell_address(&self, address: &impl Display) -> bool {
        !self.starter.print_address || print::result(address)
    }

    /// The next of them. Where that is to stop, the service manager hears of it. May be cancelled.
    pub async fn next(&mut self) -> Asked {
        let input = async {
            match &mut self.input {
                Some(input) => drop(input.await),
                None => pending().await,
            }
        };
        let asked = tokio::select! {
            asked = self.signals.next() => asked,
            () = input => Asked::Stop("the end of standard input"),
        };
        if let Asked::Stop(name) = asked {
            info!("{name}: stopping");
            readiness::tell(readiness::STOPPING);
        }
        asked
    }
}

/// Resolves when standard input ends. A thread of its own waits: it is in nobody's way when the process ends first.
fn end_of_input() -> oneshot::Receiver<()> {
    let (sender, ended) = oneshot::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while matches!(std::io::stdin().lock().read(&mut buffer), Ok(1..)) {}
        let _ = sender.send(());
    });
    ended
}
