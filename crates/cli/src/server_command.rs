//! `rookeeper server`: from arguments to an exit code.

use std::process;

use rookeeper_cli::readiness;
use rookeeper_server::config::{Config, Environment, Level, Source};
use rookeeper_server::{ExitCode, Failure, Server, descriptors, logging};
use tracing::{info, warn};

use crate::signals::{Asked, Signals};

/// Network workers: they accept connections and wait for other servers, which is little work. Clients are served by threads of the server's own.
const WORKERS: usize = 2;

/// Runs a server until it is told to stop or fails. Returns the exit status.
pub(crate) fn main(arguments: &[String]) -> process::ExitCode {
    if let Err(wrong) = logging::start() {
        logging::complain(&wrong);
        return ExitCode::Misconfigured.into();
    }
    logging::end_with_any_thread();
    descriptors::raise_limit();
    let code = match run(arguments) {
        Ok(()) => ExitCode::Finished.into(),
        Err(failure) => {
            logging::fatal(&failure);
            failure.exit_code.into()
        }
    };
    logging::flush();
    code
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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("network")
        .enable_all()
        .build()
        .map_err(|error| Failure::new(ExitCode::Failed, format!("can't start the network workers: {error}")))?;
    let result = runtime.block_on(serve(config));
    // What still runs now has had its time. Where the start was given up, a thread still reads the database.
    runtime.shutdown_background();
    result
}

async fn serve(config: Config) -> Result<(), Failure> {
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
    loop {
        let asked = tokio::select! {
            failure = server.failed() => return Err(failure),
            asked = signals.next() => asked,
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
