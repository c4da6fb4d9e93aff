//! `rookeeper server`: from arguments to an exit code.

use std::io::Read as _;
use std::path::PathBuf;
use std::process;

use clap::Args;
use rookeeper_cli::ephemeral::Ephemeral;
use rookeeper_cli::{print, readiness};
use rookeeper_server::config::{Config, Environment, Level, Source};
use rookeeper_server::{ExitCode, Failure, Server, descriptors, logging};
use tracing::{info, warn};

use crate::signals::{Asked, Signals};

/// Network workers: they accept connections and wait for other servers, which is little work. Clients are served by threads of the server's own.
pub(crate) const WORKERS: usize = 2;

/// What to run, and what to say of it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[arg(help = "[ZOO_CFG | CLIENT_PORT DATA_DIR [TICK_TIME_MS] [MAX_CLIENT_CONNECTIONS]]")]
    arguments: Vec<String>,

    /// Keep nothing: the data is in memory and goes with the server, which serves its own machine alone, on --port
    #[arg(long, conflicts_with = "arguments")]
    ephemeral: bool,

    /// The port of an ephemeral server; 0 lets the system choose
    #[arg(long, default_value_t = 2181, requires = "ephemeral")]
    port: u16,

    /// A directory that is there, for the data of an ephemeral server that is started again; it is kept
    #[arg(long, requires = "ephemeral", value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,

    /// Print HOST:PORT, a line, as soon as clients can connect there
    #[arg(long)]
    print_address: bool,

    /// Stop when standard input ends: a server that ends with whoever has started it
    #[arg(long)]
    while_stdin: bool,
}

/// Runs a server until it is told to stop or fails. Returns the exit status.
pub(crate) fn main(options: &Options) -> process::ExitCode {
    if let Err(wrong) = logging::start() {
        logging::complain(&wrong);
        return ExitCode::Misconfigured.into();
    }
    logging::end_with_any_thread();
    descriptors::raise_limit();
    let code = match run(options) {
        Ok(()) => ExitCode::Finished.into(),
        Err(failure) => {
            logging::fatal(&failure);
            failure.exit_code.into()
        }
    };
    logging::flush();
    code
}

fn run(options: &Options) -> Result<(), Failure> {
    let source_failure = |error: rookeeper_server::config::ConfigError| Failure {
        exit_code: error.exit_code(),
        message: format!("can't use this configuration: {error}"),
    };
    let ephemeral =
        options.ephemeral.then(|| Ephemeral::prepare(options.port, options.data_dir.as_deref())).transpose();
    // Lives until the server has ended.
    let ephemeral = ephemeral.map_err(|error| {
        Failure::new(ExitCode::Failed, format!("can't make the directory of an ephemeral server: {error}"))
    })?;
    let source = match &ephemeral {
        Some(ephemeral) => Source::File(ephemeral.config()),
        None => Source::from_arguments(&options.arguments).map_err(source_failure)?,
    };
    let (config, notices) = Config::load(source, &Environment::of_process()).map_err(source_failure)?;
    for notice in notices {
        match notice.level {
            Level::Info => info!("{}", notice.text),
            Level::Warn => warn!("{}", notice.text),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("network")
        .enable_all()
        .build()
        .map_err(|error| Failure::new(ExitCode::Failed, format!("can't start the network workers: {error}")))?;
    let result = runtime.block_on(serve(config, options));
    // What still runs now has had its time. Where the start was given up, a thread still reads the database.
    runtime.shutdown_background();
    result
}

async fn serve(config: Config, options: &Options) -> Result<(), Failure> {
    let signal_failure = |error| Failure::new(ExitCode::Failed, format!("can't listen for signals: {error}"));
    let mut signals = Signals::listen().map_err(signal_failure)?;
    let start = Server::start(config);
    tokio::pin!(start);
    let mut server = loop {
        tokio::select! {
            server = &mut start => break server?,
            asked = signals.next() => match asked {
                Asked::Report => info!("the start is not complete yet"),
                // A start can be given up at any moment, as the power may go at any moment.
                Asked::Stop(name) => {
                    info!("{name}: stopping, before the start was complete");
                    return Ok(());
                }
            },
        }
    };
    readiness::tell(readiness::READY);
    if let (true, Some(address)) = (options.print_address, server.address())
        && !print::result(&address)
    {
        return server.stop().await.map_or(Ok(()), Err);
    }
    let mut input = options.while_stdin.then(end_of_input);
    loop {
        let ended = async {
            match &mut input {
                Some(input) => drop(input.await),
                None => std::future::pending().await,
            }
        };
        let asked = tokio::select! {
            failure = server.failed() => return Err(failure),
            asked = signals.next() => asked,
            () = ended => Asked::Stop("the end of standard input"),
        };
        match asked {
            Asked::Report => server.report(),
            Asked::Stop(name) => {
                info!("{name}: stopping");
                readiness::tell(readiness::STOPPING);
                return server.stop().await.map_or(Ok(()), Err);
            }
        }
    }
}

/// Resolves when standard input ends. A thread of its own waits: it is in nobody's way when the process ends first.
pub(crate) fn end_of_input() -> tokio::sync::oneshot::Receiver<()> {
    let (sender, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while matches!(std::io::stdin().lock().read(&mut buffer), Ok(1..)) {}
        let _ = sender.send(());
    });
    ended
}
