//! `rookeeper registry`: from arguments to an exit code.

use std::path::PathBuf;
use std::process;

use clap::Args;
use rookeeper_cli::{print, readiness};
use rookeeper_server::registry::{RegistryConfig, RegistryServer};
use rookeeper_server::{ExitCode, Failure, descriptors, logging};
use tracing::{info, warn};

use crate::server_command::{WORKERS, end_of_input};
use crate::signals::{Asked, Signals};

/// A service registry.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Clients of Netflix Eureka and of Spring Cloud find it at http://HOST:8761/eureka/. The file and the settings have the keys of Spring's server:
eureka.server.*, eureka.client.service-url.defaultZone for other registries, spring.security.user.name and .password for who may ask.")]
pub(crate) struct Options {
    /// The port; 0 lets the system choose
    #[arg(long)]
    port: Option<u16>,

    /// A properties or YAML file of Spring's
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// A setting, which wins over the file
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,

    /// Print HOST:PORT, a line, as soon as clients can connect there
    #[arg(long)]
    print_address: bool,

    /// Stop when standard input ends: a registry that ends with whoever has started it
    #[arg(long)]
    while_stdin: bool,
}

/// Runs a registry until it is told to stop or fails. Returns the exit status.
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
    let wrong = |why: String| Failure::new(ExitCode::Misconfigured, format!("can't use this configuration: {why}"));
    let mut settings = Vec::new();
    for setting in &options.settings {
        let (key, value) = setting.split_once('=').ok_or_else(|| wrong(format!("{setting:?} is not KEY=VALUE")))?;
        settings.push((key.trim().to_owned(), value.trim().to_owned()));
    }
    if let Some(port) = options.port {
        settings.push(("server.port".to_owned(), port.to_string()));
    }
    let (config, notices) = RegistryConfig::load(options.config.as_deref(), &settings).map_err(wrong)?;
    for notice in notices {
        warn!("{notice}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("network")
        .enable_all()
        .build()
        .map_err(|error| Failure::new(ExitCode::Failed, format!("can't start the network workers: {error}")))?;
    let result = runtime.block_on(serve(config, options));
    runtime.shutdown_background();
    result
}

async fn serve(config: RegistryConfig, options: &Options) -> Result<(), Failure> {
    let signal_failure = |error| Failure::new(ExitCode::Failed, format!("can't listen for signals: {error}"));
    let mut signals = Signals::listen().map_err(signal_failure)?;
    let server = RegistryServer::start(config).await?;
    readiness::tell(readiness::READY);
    if options.print_address && !print::result(&server.address()) {
        server.stop().await;
        return Ok(());
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
            asked = signals.next() => asked,
            () = ended => Asked::Stop("the end of standard input"),
        };
        match asked {
            Asked::Report => server.report(),
            Asked::Stop(name) => {
                info!("{name}: stopping");
                readiness::tell(readiness::STOPPING);
                server.stop().await;
                return Ok(());
            }
        }
    }
}
