//! The configuration: everything an operator can say, read once at start into one typed [`Config`].
//!
//! A configuration comes from a `zoo.cfg`, from the positional arguments of the original, or from nothing; `-D` options in
//! `SERVER_JVMFLAGS` and `JVMFLAGS` add to it. What always holds: a [`Config`] is complete and consistent, nothing outside
//! this module knows a key's name or default, and nothing in here touches the process (that is [`Environment`]) or the
//! file system except to read a few small files: `zoo.cfg`, the dynamic file, `myid`, those of SASL. [`dynamic_config`] is apart: while the server runs, it
//! writes the files in which the membership stands.
//!
//! In reading order: `properties` (syntax) → `keys` and `table` (what is known about each key) → `settings` (which value
//! counts, is it valid) → `storage`, `limits`, `tls`, `access`, `sasl`, `registry_port`, `membership`, `ensemble` (typed sections) → `supported` (what is
//! refused or mentioned) → `replica_settings` (what the replica needs of it besides `Ensemble::settings`), `exposure` (what strangers can
//! do), `conf` (the four-letter word), `client_side` (what a client of
//! this software is told, by the same keys), `outline` (what others may know of it). Errors and notices are in `error`.
//!
//! Counterparts in the original: `QuorumPeerConfig`, `ServerConfig`, and a `System.getProperty` in almost every class.

mod access;
mod admin;
mod audit;
mod client_side;
mod conf;
pub(crate) mod dynamic_config;
mod ensemble;
mod environment;
mod error;
mod exposure;
mod kerberos;
mod keys;
mod limits;
mod lookout;
mod membership;
mod metrics;
mod outline;
pub mod properties;
mod registry_port;
mod replica_settings;
mod sasl;
mod settings;
mod shown;
mod storage;
mod supported;
mod table;
#[cfg(test)]
mod tests;
mod tls;

use std::io::Read as _;
use std::path::{Path, PathBuf};

pub use access::{Access, FourLetterWords};
pub(crate) use admin::{AdminPort, AdminTls};
pub(crate) use audit::{AuditFormat, AuditLog};
pub use client_side::{ClientFlags, ClientSide};
pub use conf::ConfFacts;
pub use ensemble::Ensemble;
pub use environment::{DataDirectoryChoice, Environment};
pub use error::{ConfigError, Fault, Level, Notice, Place};
pub use keys::compat_table;
pub use limits::{ClientPort, ConnectionThrottle, Connections, Containers, Requests, Room, Sessions};
pub(crate) use lookout::{PathStatistics, SlowOperations};
pub(crate) use metrics::MetricsPort;
pub use outline::{MemberOutline, Outline};
pub use sasl::Sasl;
pub(crate) use shown::Shown;
pub use storage::{DataDirectories, Formats, OnMismatch, Purge, SnapshotCompression, Snapshots, TransactionLog};
pub use tls::{ClientAuth, ClientTls, DialTls, QuorumTls, Tls};
pub(crate) use tls::{Named, Store};

use rookeeper_zab::HostPort;
use settings::{Found, Settings};

use crate::registry::RegistryConfig;

/// The trace mask of `gtmk` before any `stmk`: client requests, packets from the leader, sessions, and bit 256.
pub const DEFAULT_TRACE_MASK: i64 = 306;

/// The port of a server that was told nothing.
const DEFAULT_CLIENT_PORT: u16 = 2181;

/// No honest configuration file is larger.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where the configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nothing was given: a server on port 2181, with its data in a directory of its own choice.
    Defaults,
    /// A `zoo.cfg`.
    File(PathBuf),
    /// The short form of the original: `clientPort dataDir [tickTime] [maxClientCnxns]`.
    Positional {
        /// Port, not checked yet.
        client_port: String,
        /// Directory.
        data_dir: String,
        /// Milliseconds, not checked yet.
        tick_time: Option<String>,
        /// Connections per address, not checked yet; no limit when absent.
        max_client_connections: Option<String>,
    },
}

impl Source {
    /// What the arguments behind `rookeeper server` mean.
    pub fn from_arguments(arguments: &[String]) -> Result<Source, ConfigError> {
        match arguments {
            [] => Ok(Source::Defaults),
            [file] => Ok(Source::File(PathBuf::from(file))),
            [client_port, data_dir, rest @ ..] if rest.len() <= 2 => Ok(Source::Positional {
                client_port: client_port.clone(),
                data_dir: data_dir.clone(),
                tick_time: rest.first().cloned(),
                max_client_connections: rest.get(1).cloned(),
            }),
            _ => Err(Fault::new(
                format!("Invalid number of arguments: {}", arguments.len()),
                "Usage: rookeeper server [zoo.cfg | clientPort dataDir [tickTime] [maxClientCnxns]]",
            )
            .into()),
        }
    }
}

/// Everything a server needs to know before it starts.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq))]
pub struct Config {
    /// Where it came from, for the log.
    pub(crate) source: Source,
    /// Where clients connect.
    pub(crate) client: ClientPort,
    /// Where clients connect that speak TLS; none where no port for clients does.
    pub(crate) client_tls: Option<ClientTls>,
    /// How members speak TLS with each other; none where they do not.
    pub(crate) quorum_tls: Option<QuorumTls>,
    /// Time and sessions.
    pub(crate) sessions: Sessions,
    /// Where the files are.
    pub(crate) directories: DataDirectories,
    /// How the transaction log is written.
    pub(crate) log: TransactionLog,
    /// When and how snapshots are taken.
    pub(crate) snapshots: Snapshots,
    /// What is written into the files.
    pub(crate) formats: Formats,
    /// When old files go.
    pub(crate) purge: Purge,
    /// How many connections are accepted.
    pub(crate) connections: Connections,
    /// How large requests may be, and how many.
    pub(crate) requests: Requests,
    /// What must stay free on the disks and in memory.
    pub(crate) room: Room,
    /// Removal of empty containers and of TTL nodes past their time.
    pub(crate) containers: Containers,
    /// Who may do what.
    pub(crate) access: Access,
    /// Which four-letter words are answered.
    pub(crate) four_letter_words: FourLetterWords,
    /// Whether the membership can be changed at run time. Without an ensemble it only changes the error of `reconfig`.
    pub(crate) reconfig_enabled: bool,
    /// Where it is told who changed what; none where it is not.
    pub(crate) audit: Option<AuditLog>,
    /// Where Prometheus asks for metrics; none where it can't.
    pub(crate) metrics: Option<MetricsPort>,
    /// When an operation is slow.
    pub(crate) slow_operations: SlowOperations,
    /// How paths are counted and told.
    pub(crate) path_statistics: PathStatistics,
    /// The configuration as it is shown, without secrets.
    pub(crate) shown: Shown,
    /// Where admin commands are asked for; none where they can't be.
    pub(crate) admin: Option<AdminPort>,
    /// The service registry in this process; none where there is none.
    pub(crate) registry: Option<RegistryConfig>,
    /// The ensemble to be a member of; none for a standalone server.
    pub(crate) ensemble: Option<Ensemble>,
}

impl Config {
    /// Reads the configuration. A setting that nobody reads does not compile: no field is seen outside of this crate, so the compiler
    /// reports the field, and the key is marked in `table` as one without effect. The compiler does not watch the fields of
    /// [`EnsembleSettings`](rookeeper_replica::EnsembleSettings), which belong to another crate. The notices are for the log, in the order
    /// in which they came up.
    pub fn load(source: Source, environment: &Environment) -> Result<(Config, Vec<Notice>), ConfigError> {
        Config::load_with(source, environment, &read_file)
    }

    /// What holds of each configuration that was accepted, whatever the file says.
    fn assert_bounds(&self) {
        assert!(self.sessions.tick_time_ms > 0 && i32::try_from(self.sessions.tick_time_ms).is_ok());
        assert!(self.sessions.min_timeout_ms <= self.sessions.max_timeout_ms);
        assert!(i32::try_from(self.sessions.max_timeout_ms).is_ok());
        assert!(self.requests.jute_max_buffer <= 256 << 20);
        assert!(self.snapshots.snap_count > 0 && self.purge.snap_retain_count > 0);
    }

    /// The same with another way to read files, for tests and fuzzing.
    pub fn load_with(
        source: Source,
        environment: &Environment,
        read_file: &dyn Fn(&Path) -> std::io::Result<Vec<u8>>,
    ) -> Result<(Config, Vec<Notice>), ConfigError> {
        let (config, settings) = Config::read(source, environment, read_file)?;
        supported::note_ignored(&settings);
        config.assert_bounds();
        Ok((config, settings.into_notices()))
    }

    /// Everything but what is ignored.
    fn read(
        source: Source,
        environment: &Environment,
        read_file: ensemble::ReadFile<'_>,
    ) -> Result<(Config, Settings), ConfigError> {
        let mut notices = Vec::new();
        let flags = environment.flags(&mut notices);
        let from_flags = flags.iter().map(Found::from).collect();
        let (found, bytes) = source_settings(&source, read_file, &mut notices)?;
        let settings = Settings::gather(from_flags, found, notices)?;
        let from_file = matches!(source, Source::File(_));

        let directories = DataDirectories::read(&settings, environment, from_file)?;
        let sessions = read_sessions(&settings)?;
        let client = read_client(&settings, from_file)?;
        let client_tls = ClientTls::read(&settings)?;
        supported::check_classes(&settings)?;
        let config_file = match &source {
            Source::File(path) => Some(path.as_path()),
            _ => None,
        };
        let jaas = sasl::JaasFile::read(&settings, environment, &flags, read_file)?;
        let ensemble::Outcome { ensemble, client } =
            ensemble::read(&settings, config_file, &directories.data_dir, client, jaas.as_ref(), read_file)?;
        let has_tls_port = client_tls.as_ref().is_some_and(|tls| tls.port.is_some());
        if client.is_none() && !has_tls_port {
            if ensemble.is_none() {
                let remedy = "Add a line clientPort=2181, or clients cannot connect.";
                return Err(Fault::new("clientPort is not set", remedy).into());
            }
            settings.warn(
                "clientPort is not set: clients cannot connect to this member; if they should, add a line clientPort=2181, or \
                 ;2181 to this server's line"
                    .to_owned(),
            );
        }
        let config = Config {
            client: ClientPort::read(&settings, client.as_ref()),
            sessions,
            directories,
            log: TransactionLog::read(&settings),
            snapshots: Snapshots::read(&settings),
            formats: Formats::read(&settings)?,
            purge: Purge::read(&settings, from_file),
            connections: Connections::read(&settings),
            requests: Requests::read(&settings),
            room: Room::read(&settings),
            containers: Containers::read(&settings),
            access: Access::read(
                &settings,
                sasl::Sasl::read(&settings, jaas.as_ref(), read_file)?,
                client_tls.is_some(),
            )?,
            client_tls,
            quorum_tls: if ensemble.is_some() { QuorumTls::read(&settings)? } else { None },
            four_letter_words: FourLetterWords::read(&settings),
            reconfig_enabled: settings.flag("reconfigEnabled"),
            audit: AuditLog::read(&settings)?,
            metrics: MetricsPort::read(&settings),
            slow_operations: SlowOperations::read(&settings),
            path_statistics: PathStatistics::read(&settings),
            shown: Shown::read(&settings, config_file.and_then(Path::to_str).zip(bytes.as_deref()))?,
            admin: AdminPort::read(&settings)?,
            registry: registry_port::read(&settings, read_file)?,
            ensemble,
            source,
        };
        Ok((config, settings))
    }
}

/// A configuration may come through a pipe; what stands in the data directory is a regular file, and a pipe there would be waited for.
fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    if path.file_name().is_some_and(|name| name == "myid") && !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::Unsupported, "it is no regular file"));
    }
    read_bounded(path)
}

/// Reads a file, if it is not larger than any honest one.
pub(crate) fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(std::io::Error::new(
            std::io::ErrorKind::FileTooLarge,
            format!("it is larger than {MAX_FILE_BYTES} bytes"),
        ));
    }
    Ok(bytes)
}

/// The settings, and the bytes of the file in which they stand.
fn source_settings(
    source: &Source,
    read_file: ensemble::ReadFile<'_>,
    notices: &mut Vec<Notice>,
) -> Result<(Vec<Found>, Option<Vec<u8>>), ConfigError> {
    match source {
        Source::Defaults => Ok((Vec::new(), None)),
        Source::Positional { client_port, data_dir, tick_time, max_client_connections } => {
            let given = |name: &str, value: &str| Found {
                name: name.to_owned(),
                value: value.to_owned(),
                place: Place::Argument,
            };
            let mut found = vec![given("clientPort", client_port), given("dataDir", data_dir)];
            found.extend(tick_time.as_ref().map(|tick_time| given("tickTime", tick_time)));
            found.push(given("maxClientCnxns", max_client_connections.as_deref().unwrap_or("0")));
            Ok((found, None))
        }
        Source::File(path) => {
            let name = path.display().to_string();
            let bytes = read_file(path).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Fault::new(
                    format!("{name} file is missing"),
                    "Correct the path, or start without one: rookeeper server needs no configuration.",
                ),
                _ => {
                    Fault::new(format!("{name} cannot be read: {error}"), "It must be a file that the server can read.")
                }
            })?;
            if bytes.starts_with(b"\xef\xbb\xbf") {
                let place = Place::Line { file: name.clone(), line: 1 };
                let problem = "the file begins with a byte order mark, which would be a part of its first key";
                return Err(Fault::new(problem, "Save it as UTF-8 without a byte order mark.").at(&place).into());
            }
            let properties = properties::parse(&name, &bytes)?;
            if properties.iter().all(|property| property.key != "dataDir")
                && let Some(meant) = properties.iter().find(|property| property.key.eq_ignore_ascii_case("dataDir"))
            {
                let fault = Fault::new("dataDir is not set", "Keys are case-sensitive: write dataDir=.");
                let place = Place::Line { file: name.clone(), line: meant.line };
                return Err(fault.at(&place).about(&meant.key, &meant.value).into());
            }
            if let Some(property) = properties.iter().find(|property| !property.value.is_ascii()) {
                notices.push(Notice::warn(format!(
                    "{name}:{}: the value of {} is read as ISO-8859-1, as in Apache ZooKeeper; other characters are \
                     written as \\uXXXX",
                    property.line,
                    error::excerpt(&property.key)
                )));
            }
            let found = |property: properties::Property| Found {
                name: property.key,
                value: property.value,
                place: Place::Line { file: name.clone(), line: property.line },
            };
            Ok((properties.into_iter().map(found).collect(), Some(bytes)))
        }
    }
}

fn read_sessions(settings: &Settings) -> Result<Sessions, ConfigError> {
    let tick_time_ms = settings.whole("tickTime");
    // The formats have room for 31 bits.
    let ticks = |count: u32| tick_time_ms.saturating_mul(count).min(i32::MAX as u32);
    let timeout = |name: &str, ticks: u32| {
        settings.number_if_any(name).and_then(|timeout| u32::try_from(timeout).ok()).unwrap_or(ticks)
    };
    let min_timeout_ms = timeout("minSessionTimeout", ticks(2));
    let max_timeout_ms = timeout("maxSessionTimeout", ticks(20));
    if min_timeout_ms > max_timeout_ms {
        let problem = "minSessionTimeout must not be larger than maxSessionTimeout";
        let remedy = format!(
            "They are {min_timeout_ms} and {max_timeout_ms} ms. Unset, they are 2 and 20 ticks of {tick_time_ms} ms."
        );
        let culprit = settings.setting("minSessionTimeout").or_else(|| settings.setting("maxSessionTimeout"));
        let fault = match culprit {
            Some(setting) => setting.fault(problem, remedy),
            None => Fault::new(problem, remedy),
        };
        return Err(fault.into());
    }
    Ok(Sessions { tick_time_ms, min_timeout_ms, max_timeout_ms })
}

/// What `clientPort` and `clientPortAddress` say; a server line may say it instead.
fn read_client(settings: &Settings, from_file: bool) -> Result<Option<HostPort>, ConfigError> {
    let port = settings.number_if_any("clientPort").and_then(|port| u16::try_from(port).ok());
    let address = settings.setting("clientPortAddress");
    let port = match (port, address) {
        (Some(port), _) => port,
        (None, Some(address)) if from_file => {
            let problem = "clientPortAddress is set but clientPort is not set";
            return Err(address.fault(problem, "Add a line clientPort=2181, or remove clientPortAddress.").into());
        }
        (None, None) if from_file => return Ok(None),
        (None, _) => DEFAULT_CLIENT_PORT,
    };
    let host = address.map(|address| address.value.trim_matches(['[', ']']).to_owned()).unwrap_or_default();
    Ok(Some(HostPort { host, port }))
}
