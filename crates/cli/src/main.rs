//! The subcommands of `rookeeper`. Every one parses its arguments, runs and ends with an exit code; nothing else lives here.

mod check_command;
mod epochs_command;
mod registry_command;
mod running;
mod server_command;
mod signals;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rookeeper_cli::backup;
use rookeeper_cli::diagnosis::{self, ConfigCommand, DoctorOptions};
use rookeeper_cli::service::{self, Which};
#[cfg(feature = "top")]
use rookeeper_cli::top;
#[cfg(feature = "shell")]
use rookeeper_cli::{barrier_command, exclusive, id_command, members_command, queue_command, services, shell, watch};
use rookeeper_cli::{bench, toolkit};

/// Nodes and requests are made by one thread and freed by another. The system's allocator pays for that with time, and with memory that stays
/// divided. Measured in `docs/BENCHMARKS.md`, "Parts".
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser, Debug)]
#[command(name = "rookeeper", version, about = "A distributed coordination service, compatible with Apache ZooKeeper")]
struct Rookeeper {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a server: without arguments on port 2181, or with a zoo.cfg, or `clientPort dataDir [tickTime] [maxClientCnxns]`
    Server(server_command::Options),
    /// Run a service registry that speaks the protocol of Netflix Eureka, on port 8761
    Registry(registry_command::Options),
    /// Run a server in the background, and wait until it is ready
    Start(service::start::Options),
    /// Stop the server that `start` runs in the background
    Stop(Which),
    /// Ask the server of a configuration for its mode
    Status {
        /// The configuration of the server
        #[arg(value_name = "ZOO_CFG")]
        config: PathBuf,
    },
    /// Prepare the data directory of a new server, in the syntax of zkServer-initialize.sh
    #[command(disable_help_flag = true)]
    Init {
        /// The configuration, where --configfile names no other
        #[arg(value_name = "ZOO_CFG")]
        config: PathBuf,
        #[arg(long, hide = true, default_value = "rookeeper init ZOO_CFG")]
        named: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Look at a data directory without starting a server: what is in each file, and whether a start would succeed
    Check(check_command::Options),
    /// Look at a configuration (`rookeeper config check ZOO_CFG`)
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Look for what is wrong, or will be: configuration, certificates, disk, names, clocks, members; each finding with its remedy
    Doctor(DoctorOptions),
    /// Look at the epochs of a stopped member, and give it room again where they are used up
    Epochs(epochs_command::Options),
    /// Take a consistent copy of the data of a server, running or stopped, also one of Apache ZooKeeper
    Backup(backup::take::Options),
    /// Follow the data directory of a server, and keep everything that it writes: a backup that grows
    Archive(backup::archive::Options),
    /// Prove a backup without a server: every byte, every file, and the state that it leads to
    Verify(backup::verify::Options),
    /// Build a data directory from a backup, as it was after a chosen transaction or at a chosen time
    Restore(backup::restore::Options),
    /// Print a transaction log, repair its checksums or cut it, in TxnLogToolkit's syntax (`rookeeper log -h`)
    #[command(disable_help_flag = true)]
    Log(Foreign),
    /// Print a snapshot, `compare` two, or give a `summary` of one, in the syntax of the original's tools
    #[command(disable_help_flag = true)]
    Snapshot(Foreign),
    /// Remove snapshots and logs that no recovery needs, in PurgeTxnLog's syntax
    #[command(disable_help_flag = true)]
    Cleanup(Foreign),
    #[cfg(feature = "shell")]
    /// Talk to a server: one command, or an interactive shell in zkCli's syntax (`rookeeper cli -help`)
    #[command(disable_help_flag = true)]
    Cli {
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            help = "[-server HOST:PORT[,HOST:PORT...][/chroot]] [-timeout MILLISECONDS] [-r] [--tls-ca FILE] [--user NAME] [COMMAND [ARGUMENTS...]]"
        )]
        arguments: Vec<String>,
    },
    #[cfg(feature = "shell")]
    /// Write a subtree of any server as lines of JSON (`rookeeper export -help`)
    #[command(disable_help_flag = true)]
    Export(Foreign),
    #[cfg(feature = "shell")]
    /// Make the nodes of an export on any server (`rookeeper import -help`)
    #[command(disable_help_flag = true)]
    Import(Foreign),
    #[cfg(feature = "shell")]
    /// Run a command while holding a lock
    Lock(exclusive::LockOptions),
    #[cfg(feature = "shell")]
    /// Run a command while leading, one candidate at a time
    Elect(exclusive::ElectOptions),
    #[cfg(feature = "shell")]
    /// Print who is in a group, follow it, or join it
    Members(members_command::Options),
    #[cfg(feature = "shell")]
    /// Print a number that nobody else is given, or several
    Id(id_command::Options),
    #[cfg(feature = "shell")]
    /// Register an instance of a service, while a command runs
    Register(services::register::Options),
    #[cfg(feature = "shell")]
    /// List the instances of a service, or follow them
    Discover(services::discover::Options),
    #[cfg(feature = "shell")]
    /// Print each change of a node or a subtree, or run a command on it
    Watch(watch::Options),
    #[cfg(feature = "shell")]
    /// Wait until so many are there, and run a command then
    Barrier(barrier_command::Options),
    #[cfg(feature = "shell")]
    /// Put items into a queue, take them out and work on them, count them
    Queue(queue_command::Options),
    #[cfg(feature = "shell")]
    #[command(hide = true)]
    /// Between `lock` or `elect` and their command
    Keeper(exclusive::KeeperOptions),
    #[cfg(feature = "top")]
    /// Look at an ensemble while it works: members, clients, paths, stages and slow operations, of Apache ZooKeeper too
    Top(top::Options),
    /// Measure throughput and latency of any ZooKeeper-compatible server
    Bench(bench::Options),
}

/// Arguments in the syntax of one of the original's tools, which that tool reads itself.
#[derive(clap::Args, Debug)]
struct Foreign {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

fn main() -> ExitCode {
    match Rookeeper::parse().command {
        Command::Server(options) => server_command::main(&options),
        Command::Registry(options) => registry_command::main(&options),
        Command::Start(options) => ExitCode::from(service::start::main(&options)),
        Command::Stop(which) => ExitCode::from(service::stop::main(&which)),
        Command::Status { config } => ExitCode::from(service::status::main(&config)),
        Command::Init { config, named, arguments } => ExitCode::from(service::init::main(&named, &config, &arguments)),
        Command::Check(options) => check_command::main(&options).into(),
        Command::Config { command } => ExitCode::from(diagnosis::config(&command)),
        Command::Doctor(options) => ExitCode::from(diagnosis::doctor(&options)),
        Command::Epochs(options) => epochs_command::main(&options).into(),
        Command::Backup(options) => ExitCode::from(backup::take::main(&options)),
        Command::Archive(options) => ExitCode::from(backup::archive::main(&options)),
        Command::Verify(options) => ExitCode::from(backup::verify::main(&options)),
        Command::Restore(options) => ExitCode::from(backup::restore::main(&options)),
        Command::Log(foreign) => ExitCode::from(toolkit::log::main(&foreign.arguments)),
        Command::Snapshot(foreign) => ExitCode::from(toolkit::snapshot::main(&foreign.arguments)),
        Command::Cleanup(foreign) => ExitCode::from(toolkit::cleanup::main(&foreign.arguments)),
        #[cfg(feature = "shell")]
        Command::Cli { arguments } => ExitCode::from(shell::main(&arguments)),
        #[cfg(feature = "shell")]
        Command::Export(foreign) => ExitCode::from(shell::export(&foreign.arguments)),
        #[cfg(feature = "shell")]
        Command::Import(foreign) => ExitCode::from(shell::import(&foreign.arguments)),
        #[cfg(feature = "shell")]
        Command::Lock(options) => ExitCode::from(exclusive::lock(&options)),
        #[cfg(feature = "shell")]
        Command::Elect(options) => ExitCode::from(exclusive::elect(&options)),
        #[cfg(feature = "shell")]
        Command::Members(options) => ExitCode::from(members_command::main(&options)),
        #[cfg(feature = "shell")]
        Command::Id(options) => ExitCode::from(id_command::main(&options)),
        #[cfg(feature = "shell")]
        Command::Register(options) => ExitCode::from(services::register::main(&options)),
        #[cfg(feature = "shell")]
        Command::Discover(options) => ExitCode::from(services::discover::main(&options)),
        #[cfg(feature = "shell")]
        Command::Watch(options) => ExitCode::from(watch::main(&options)),
        #[cfg(feature = "shell")]
        Command::Barrier(options) => ExitCode::from(barrier_command::main(&options)),
        #[cfg(feature = "shell")]
        Command::Queue(options) => ExitCode::from(queue_command::main(&options)),
        #[cfg(feature = "shell")]
        Command::Keeper(options) => ExitCode::from(exclusive::keep(&options)),
        #[cfg(feature = "top")]
        Command::Top(options) => ExitCode::from(top::main(&options)),
        Command::Bench(options) => ExitCode::from(bench::main(&options)),
    }
}
