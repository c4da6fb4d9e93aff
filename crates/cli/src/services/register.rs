//! `rookeeper register`: an instance is registered while a command runs, or until a signal comes.

use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rookeeper_recipes::{Instance, Registration, Registry, ServiceType, Unregistered, UriSpec};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::BASE;
use crate::exclusive::{LOST, SessionFlags, Signals, end, run, sessions};
use crate::print;

const FAILED: u8 = 1;
const NO_SERVER: u8 = 69;
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;
/// For the servers to take the instance away.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Register an instance of a service.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
The instance stays registered over lost connections and expired sessions, until COMMAND has ended or a signal comes. Its node is BASE/NAME/ID, as that of
Apache Curator's ServiceDiscovery. COMMAND has ROOKEEPER_SERVICE and ROOKEEPER_INSTANCE, the name and the id, in its environment; it starts when the instance is
registered. Without COMMAND the path of the node is printed when it is registered.

Exit code: that of COMMAND, 128 + N where signal N ended it; without COMMAND 128 + N when signal N came; 69 no server gives a session, 70 the instance was taken
out of service by somebody else and there is no COMMAND, 126 COMMAND can't be run, 127 it does not exist; 1 anything else. Signals are passed on to COMMAND.")]
pub struct Options {
    /// The name of the service
    pub name: String,

    /// HOST, HOST:PORT or [ADDRESS]:PORT at which the instance is
    pub address: String,

    #[command(flatten)]
    pub session: SessionFlags,

    /// The path of all services
    #[arg(long, value_name = "PATH", default_value = BASE)]
    pub base: String,

    /// How the instance is called; a random id if nothing is said
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,

    /// What else is to be known of it, as JSON
    #[arg(long, value_name = "JSON", value_parser = json)]
    pub payload: Option<Value>,

    /// Its port for TLS
    #[arg(long, value_name = "PORT")]
    pub ssl_port: Option<u16>,

    /// How its address as a URI is made, such as {scheme}://{address}:{port}
    #[arg(long, value_name = "TEMPLATE", value_parser = uri_spec)]
    pub uri: Option<UriSpec>,

    /// For how long it is registered; a permanent one stays when this ends
    #[arg(long = "type", value_enum, default_value_t = Kind::Dynamic)]
    pub kind: Kind,

    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Dynamic,
    DynamicSequential,
    Static,
    Permanent,
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("no JSON ({error}); a text is written '\"text\"'"))
}

fn uri_spec(text: &str) -> Result<UriSpec, String> {
    text.parse().map_err(|error: rookeeper_recipes::BadUriSpec| error.to_string())
}

/// The host and the port; an address of IPv6 without its brackets.
fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            // Several colons: an address of IPv6 alone.
            Some((_, rest)) if rest.contains(':') => (text, None),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map(str::parse).transpose().ok()?;
    (!host.is_empty()).then_some((host, port))
}

impl Options {
    fn instance(&self) -> Option<Instance> {
        let (host, port) = host_and_port(&self.address)?;
        let random = Instance::new(&self.name, host, 0);
        Some(Instance {
            id: self.id.clone().unwrap_or_else(|| random.id.clone()),
            port,
            ssl_port: self.ssl_port,
            payload: self.payload.clone(),
            uri_spec: self.uri.clone(),
            service_type: match self.kind {
                Kind::Dynamic => ServiceType::Dynamic,
                Kind::DynamicSequential => ServiceType::DynamicSequential,
                Kind::Static => ServiceType::Static,
                Kind::Permanent => ServiceType::Permanent,
            },
            ..random
        })
    }
}

/// Runs `rookeeper register` and returns the exit code.
pub fn main(options: &Options) -> u8 {
    let Some(instance) = options.instance() else {
        print::complaint(&format_args!("{}: not HOST, HOST:PORT or [ADDRESS]:PORT", options.address));
        return 2;
    };
    run(async |signals| {
        let sessions = sessions(&options.session, signals).await?;
        let registry = Registry::new(&sessions, &options.base);
        let code = register(&registry, instance, &options.command, signals).await;
        drop(registry);
        end(sessions).await;
        Ok(code)
    })
}

async fn register(registry: &Registry, instance: Instance, command: &[String], signals: &mut Signals) -> u8 {
    let registering = registry.register(instance);
    let registration = tokio::select! {
        registered = registering => match registered {
            Ok(registration) => registration,
            Err(error) => {
                print::complaint(&error);
                return if matches!(error, Unregistered::Failed(rookeeper_recipes::Error::SessionEnded(_))) { NO_SERVER } else { FAILED };
            }
        },
        number = signals.next() => return 128 + number as u8,
    };
    let code = match command {
        [] => stay(&registration, signals).await,
        command => beside(&registration, command, signals).await,
    };
    if let Ok(Err(error)) = timeout(LEAVE_TIMEOUT, registration.leave()).await {
        print::complaint(&error);
    }
    code
}

async fn stay(registration: &Registration, signals: &mut Signals) -> u8 {
    if let Some(path) = registration.path()
        && let Some(code) = print::result_of_many(&print::visible(path.as_bytes()))
    {
        return code;
    }
    tokio::select! {
        lost = registration.lost() => {
            print::complaint(&lost);
            LOST
        }
        number = signals.next() => 128 + number as u8,
    }
}

/// Runs the command, which goes on where the instance is taken out of service.
async fn beside(registration: &Registration, command: &[String], signals: &mut Signals) -> u8 {
    let instance = registration.instance();
    let started = Command::new(&command[0])
        .args(&command[1..])
        .env("ROOKEEPER_SERVICE", &instance.name)
        .env("ROOKEEPER_INSTANCE", &instance.id)
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            print::complaint(&format_args!("{}: {error}", command[0]));
            return if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN };
        }
    };
    let pid = Pid::from_child(&child);
    let (sender, mut ended) = oneshot::channel();
    thread::spawn(move || sender.send(child.wait()));
    let mut is_lost = false;
    loop {
        tokio::select! {
            status = &mut ended => return status.ok().and_then(Result::ok).map_or(FAILED, code_of),
            lost = registration.lost(), if !is_lost => {
                print::complaint(&format_args!("{lost}; {} goes on", command[0]));
                is_lost = true;
            }
            number = signals.next() => {
                if let Some(signal) = Signal::from_named_raw(number) {
                    let _ = kill_process(pid, signal);
                }
            }
        }
    }
}

fn code_of(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => code as u8,
        (None, number) => 128 + number.unwrap_or_default() as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("host", Some(("host", None))),
            ("host:80", Some(("host", Some(80)))),
            ("[::1]:80", Some(("::1", Some(80)))),
            ("[::1]", Some(("::1", None))),
            ("fe80::1", Some(("fe80::1", None))),
            ("host:", None),
            ("host:99999", None),
            (":80", None),
            ("[::1]80", None),
            ("[::1", None),
        ] {
            assert_eq!(host_and_port(text), expected, "{text}");
        }
    }
}
