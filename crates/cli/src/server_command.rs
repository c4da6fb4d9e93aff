//! `rookeeper server`: from arguments to an exit code.

use std::process::ExitCode;

use rookeeper_server::config::{Config, Environment, Level, Source};
use rookeeper_server::{Failure, Server};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

/// Environment variable for the log filter, such as `debug` or `rookeeper_server=debug`. Default: info.
const LOG_VARIABLE: &str = "ROOKEEPER_LOG";

/// Network workers. More than the machine has cores only costs switches; more than this was never seen to help.
const MAX_WORKERS: usize = 16;

pub fn main(arguments: &[String]) -> ExitCode {
    start_logging();
    end_with_any_thread();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!("{failure}");
            ExitCode::from(failure.exit_code)
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Failure> {
    let source_failure = |error: rookeeper_server::config::ConfigError| Failure {
        exit_code: error.exit_code(),
        message: format!("can't use this configuration: {error}"),
    };
    let source = Source::from_arguments(arguments).map_err(source_failure)?;
    let (config, notices) = Config::load(source, &Environment::of_process()).map_err(source_failure)?;
    for notice in notices {
        match notice.level {
            Level::Info => info!("{}", notice.text),
            Level::Warn => warn!("{}", notice.text),
        }
    }
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("network")
        .enable_all()
        .build()
        .map_err(|error| Failure { exit_code: 1, message: format!("can't start the network workers: {error}") })?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> Result<(), Failure> {
    let signal_failure = |error| Failure { exit_code: 1, message: format!("can't listen for signals: {error}") };
    let mut terminate = signal(SignalKind::terminate()).map_err(signal_failure)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signal_failure)?;
    let mut server = Server::start(config).await?;
    let name = tokio::select! {
        failure = server.failed() => return Err(failure),
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    info!("{name}: stopping");
    server.stop().await;
    Ok(())
}

fn start_logging() {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
}

/// A panic in any thread ends the process: a server that still answers heartbeats while its worker is dead is the worst failure.
fn end_with_any_thread() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}
