//! `rookeeper server`: from arguments to an exit code.

use std::path::PathBuf;
use std::process;

use clap::Args;
use rookeeper_cli::ephemeral::Ephemeral;
use rookeeper_server::config::{Config, Environment, Level, Source};
use rookeeper_server::{ExitCode, Failure, Server};
use tracing::{info, warn};

use crate::running::{self, Ends, Starter};
use crate::signals::Asked;

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

    #[command(flatten)]
    starter: Starter,
}

/// Runs a server until it is told to stop or fails. Returns the exit status.
pub(crate) fn main(options: &Options) -> process::ExitCode {
    running::main(|| run(options))
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
    running::block_on(serve(config, options.starter))
}

async fn serve(config: Config, starter: Starter) -> Result<(), Failure> {
    let mut ends = Ends::listen(starter)?;
    let Some(mut server) = ends.started(Server::start(config)).await? else { return Ok(()) };
    if server.address().is_some_and(|address| !ends.tell_address(&address)) {
        return server.stop().await.map_or(Ok(()), Err);
    }
    loop {
        let asked = tokio::select! {
            failure = server.failed() => return Err(failure),
            asked = ends.next() => asked,
        };
        match asked {
            Asked::Report => server.report(),
            Asked::Stop(_) => return server.stop().await.map_or(Ok(()), Err),
        }
    }
}
