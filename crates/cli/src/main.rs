//! The subcommands of `rookeeper`. Every one parses its arguments, runs and ends with an exit code; nothing else lives here.

mod check_command;
mod epochs_command;
mod server_command;
mod signals;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rookeeper_cli::bench;
#[cfg(feature = "shell")]
use rookeeper_cli::shell;

#[derive(Parser, Debug)]
#[command(name = "rookeeper", version, about = "A distributed coordination service, compatible with Apache ZooKeeper")]
struct Rookeeper {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a server: without arguments on port 2181, or with a zoo.cfg, or `clientPort dataDir [tickTime] [maxClientCnxns]`
    Server {
        #[arg(help = "[ZOO_CFG | CLIENT_PORT DATA_DIR [TICK_TIME_MS] [MAX_CLIENT_CONNECTIONS]]")]
        arguments: Vec<String>,
    },
    /// Look at a data directory without starting a server: what is in each file, and whether a start would succeed
    Check(check_command::Options),
    /// Look at the epochs of a stopped member, and give it room again where they are used up
    Epochs(epochs_command::Options),
    #[cfg(feature = "shell")]
    /// Talk to a server: one command, or an interactive shell in zkCli's syntax (`rookeeper cli -help`)
    #[command(disable_help_flag = true)]
    Cli {
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            help = "[-server HOST:PORT[,HOST:PORT...][/chroot]] [-timeout MILLISECONDS] [-r] [COMMAND [ARGUMENTS...]]"
        )]
        arguments: Vec<String>,
    },
    /// Measure throughput and latency of any ZooKeeper-compatible server
    Bench(bench::Options),
}

fn main() -> ExitCode {
    match Rookeeper::parse().command {
        Command::Server { arguments } => server_command::main(&arguments),
        Command::Check(options) => check_command::main(&options).into(),
        Command::Epochs(options) => epochs_command::main(&options).into(),
        #[cfg(feature = "shell")]
        Command::Cli { arguments } => ExitCode::from(shell::main(&arguments)),
        Command::Bench(options) => ExitCode::from(bench::main(&options)),
    }
}
