//! `rookeeper registry`: from arguments to an exit code.

use std::path::PathBuf;
use std::process;

use clap::Args;
use rookeeper_server::registry::{RegistryConfig, RegistryServer};
use rookeeper_server::{ExitCode, Failure};
use tracing::warn;

use crate::running::{self, Ends, Starter};
use crate::signals::Asked;

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

    #[command(flatten)]
    starter: Starter,
}

/// Runs a registry until it is told to stop or fails. Returns the exit status.
pub(crate) fn main(options: &Options) -> process::ExitCode {
    running::main(|| run(options))
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
    running::block_on(serve(config, options.starter))
}

async fn serve(config: RegistryConfig, starter: Starter) -> Result<(), Failure> {
    let mut ends = Ends::listen(starter)?;
    let Some(server) = ends.started(RegistryServer::start(config)).await? else { return Ok(()) };
    let is_told = ends.tell_address(&server.address());
    while is_told && ends.next().await == Asked::Report {
        server.report();
    }
    server.stop().await;
    Ok(())
}
