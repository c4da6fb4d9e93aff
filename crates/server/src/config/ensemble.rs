//! Which mode a configuration asks for, and everything that only an ensemble needs.
//!
//! It is read and checked completely before `supported` says what this version cannot do, with the checks, the order and the
//! messages of the original, so that a wrong configuration is never mistaken for an unsupported one.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rookeeper_proto::{ServerId, Zxid};
use rookeeper_replica::EnsembleSettings;
use rookeeper_zab::leader::Rollover;
use rookeeper_zab::{HostPort, Member, Membership, Memberships, Role};

use super::error::{ConfigError, Fault, Notice, Place, excerpt};
use super::membership;
use super::properties;
use super::sasl::JaasFile;
use super::settings::{Found, Settings};
use crate::auth::between_servers::QuorumAuth;

/// Settings of a member of an ensemble.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq))]
pub struct Ensemble {
    /// What the replica needs to know; its server is the number in the file `myid`.
    pub(crate) settings: EnsembleSettings,
    /// This server's part, by the server lines.
    pub(crate) role: Role,
    /// Whether quorum and election ports listen on all addresses rather than on those of the server line.
    pub(crate) quorum_listen_on_all_ips: bool,
    /// Whether only members' addresses are let in at the quorum port and the election port.
    pub(crate) only_members: bool,
    /// The last packets of a link between servers that are told when it ends; 0 for none.
    pub(crate) told_packets: usize,
    /// The log is sent instead of a snapshot up to this part of the snapshot's size; none for never.
    pub(crate) snapshot_size_factor: Option<f64>,
    /// Milliseconds to connect to another member for an election.
    pub(crate) connect_timeout_ms: u32,
    /// Milliseconds a server may take to say who it is when it connects; none for `syncLimit`, but five seconds at most.
    pub(crate) quorum_connection_timeout_ms: Option<u32>,
    /// How often binding the election port is tried; none for no end.
    pub(crate) election_port_bind_retries: Option<u32>,
    /// What servers prove to each other on the quorum port and the election port.
    pub(crate) auth: QuorumAuth,
    /// The file that lets this server go on without the other one of two voters.
    pub(crate) oracle: Option<PathBuf>,
}

/// Reads a file; the only way in which this module sees the file system.
pub(super) type ReadFile<'a> = &'a dyn Fn(&Path) -> std::io::Result<Vec<u8>>;

/// What the members' part of the configuration comes to.
pub(super) struct Outcome {
    /// None for a standalone server.
    pub(super) ensemble: Option<Ensemble>,
    /// Where clients connect, after the server line had its say.
    pub(super) client: Option<HostPort>,
}

/// Reads everything about members. `client` is what `clientPort` says.
pub(super) fn read(
    settings: &Settings,
    config_file: Option<&Path>,
    data_dir: &Path,
    client: Option<HostPort>,
    jaas: Option<&JaasFile>,
    read_file: ReadFile<'_>,
) -> Result<Outcome, ConfigError> {
    check_static(settings)?;
    check_sasl(settings)?;
    let dynamic = settings.setting("dynamicConfigFile").filter(|setting| !setting.value.is_empty());
    let membership = match dynamic {
        Some(setting) => {
            if let Some(member) = member_settings(settings).first() {
                let problem = format!("parameter: {} must be in a separate dynamic config file", excerpt(&member.name));
                let remedy = format!("Move the line into {}.", excerpt(&setting.value));
                return Err(Fault::new(problem, remedy).at(&member.place).about(&member.name, &member.value).into());
            }
            read_dynamic(settings, &setting.value, &setting.place, read_file)?
        }
        None => membership::parse(&member_settings(settings), settings.flag("multiAddress.enabled"))?,
    };
    let standalone_enabled = settings.flag("standaloneEnabled");
    check_mode(settings, &membership, standalone_enabled)?;
    let my_id = read_my_id(data_dir, read_file)?;
    let client = client_of(&membership, my_id.as_ref().map(|(id, _)| *id), client)?;
    let distributed = !standalone_enabled || membership::count(&membership, Role::Participant) > 1;
    if !distributed {
        return Ok(Outcome { ensemble: None, client });
    }
    membership::check_voters(&membership)?;
    membership::check_addresses(&membership)?.into_iter().for_each(|warning| settings.warn(warning));
    for name in ["initLimit", "syncLimit"] {
        let remedy = "usually initLimit=10 and syncLimit=5.";
        match settings.number_if_any(name).unwrap_or(0) {
            1.. => {}
            0 => {
                let remedy = format!("An ensemble needs it: add {name}=<ticks>, {remedy}");
                return Err(Fault::new(format!("{name} is not set"), remedy).into());
            }
            _ => {
                let fault = Fault::new("out of range", format!("Allowed in an ensemble: 1 tick or more, {remedy}"));
                return Err(match settings.setting(name) {
                    Some(setting) => fault.at(&setting.place).about(&setting.name, &setting.value),
                    None => fault,
                }
                .into());
            }
        }
    }
    let Some((server_id, my_id_place)) = my_id else {
        let path = data_dir.join("myid");
        let remedy = format!("Write this server's number N of its line server.N into {}.", path.display());
        return Err(Fault::new("myid file is missing", remedy).into());
    };
    let Some(member) = membership.members.get(&server_id) else {
        let ids: Vec<String> = membership.members.keys().map(|id| id.to_string()).collect();
        let remedy = format!("The server lines name {}; write one of these into myid, or add a line.", ids.join(", "));
        let problem = format!("My id {server_id} not in the peer list");
        return Err(ConfigError::NotInPeerList(Fault::new(problem, remedy).at(&my_id_place)));
    };
    if settings.flag("extendedTypesEnabled") && !(0..=254).contains(&server_id.0) {
        let remedy = "With extendedTypesEnabled=true server ids go up to 254.";
        return Err(Fault::new(format!("server id {server_id} is too large"), remedy).at(&my_id_place).into());
    }
    check_ports(settings, server_id, member, client.as_ref())?;
    let role = member.role;
    if let Some(setting) = settings.setting("peerType")
        && Role::parse(&setting.value) != Some(role)
    {
        settings
            .warn(format!("{}: peerType={} is overridden by the server line: {role}", setting.place, setting.value));
    }
    let last_seen = match (dynamic, config_file) {
        (Some(_), Some(config_file)) => read_next(settings, config_file, read_file)?,
        _ => None,
    };
    let addresses = membership.members.values().flat_map(|member| &member.addresses);
    let hosts = addresses.map(|address| address.host.clone()).collect();
    let auth = super::sasl::between_members(settings, jaas, hosts)?;
    let oracle = oracle(settings, &membership);
    let memberships = memberships(membership, last_seen);
    let ensemble = Ensemble {
        settings: EnsembleSettings {
            has_oracle: oracle.is_some(),
            ..ensemble_settings(settings, server_id, memberships)
        },
        role,
        quorum_listen_on_all_ips: settings.flag("quorumListenOnAllIPs"),
        only_members: settings.flag("quorum.membersOnly"),
        told_packets: match settings.flag("messageTracker.Enabled") {
            true => settings.positive("messageTracker.BufferSize").unwrap_or(0) as usize,
            false => 0,
        },
        snapshot_size_factor: snapshot_size_factor(settings),
        connect_timeout_ms: settings.whole("cnxTimeout"),
        quorum_connection_timeout_ms: settings.positive("quorumCnxnTimeoutMs"),
        election_port_bind_retries: settings.positive("electionPortBindRetry"),
        auth,
        oracle,
    };
    Ok(Outcome { ensemble: Some(ensemble), client })
}

/// The client port can't be one of the ports for other servers as well. The original starts all the same, and cannot lead.
fn check_ports(
    settings: &Settings,
    server: ServerId,
    member: &Member,
    client: Option<&HostPort>,
) -> Result<(), ConfigError> {
    let Some(client) = client.filter(|client| client.port != 0) else { return Ok(()) };
    let everywhere = settings.flag("quorumListenOnAllIPs") || is_any(&client.host);
    for address in &member.addresses {
        if !everywhere && !same_host(&client.host, &address.host) {
            continue;
        }
        let name = match client.port {
            port if port == address.quorum_port => "quorum",
            port if port == address.election_port => "election",
            _ => continue,
        };
        let port = client.port;
        let problem = format!("the client port {port} is the {name} port of server.{server} as well");
        let remedy = format!("Give clients a port of their own, or change that of the line server.{server}.");
        return Err(Fault::new(problem, remedy).into());
    }
    Ok(())
}

/// Single values that the original refuses whatever the mode.
fn check_static(settings: &Settings) -> Result<(), ConfigError> {
    if let Some(setting) = settings.setting("electionAlg")
        && settings.number("electionAlg") != 3
    {
        return Err(setting.fault("Invalid electionAlg value. Only 3 is supported.", "Remove the line.").into());
    }
    if let Some(setting) = settings.setting("peerType")
        && Role::parse(&setting.value).is_none()
    {
        let problem = format!("Unrecognised peertype: {}", excerpt(&setting.value));
        return Err(setting.fault(problem, "Allowed: participant or observer.").into());
    }
    Ok(())
}

/// What the steps of SASL between members need of each other.
fn check_sasl(settings: &Settings) -> Result<(), ConfigError> {
    const ENABLE: &str = "quorum.auth.enableSasl";
    const LEARNER: &str = "quorum.auth.learnerRequireSasl";
    const SERVER: &str = "quorum.auth.serverRequireSasl";
    let refuse = |missing: &str, wanted: &str| {
        let problem = format!("{missing} is disabled, so cannot enable {wanted}");
        let remedy = format!("Set {missing}=true, or remove {wanted}.");
        let fault = match settings.setting(wanted) {
            Some(setting) => setting.fault(problem, remedy),
            None => Fault::new(problem, remedy),
        };
        Err(fault.into())
    };
    match (settings.flag(ENABLE), settings.flag(LEARNER), settings.flag(SERVER)) {
        (false, _, true) => refuse(ENABLE, SERVER),
        (false, true, _) => refuse(ENABLE, LEARNER),
        (_, false, true) => refuse(LEARNER, SERVER),
        _ => Ok(()),
    }
}

/// Server, group and weight lines of `zoo.cfg`, in the order of the file.
fn member_settings(settings: &Settings) -> Vec<Found> {
    let families = ["server.*", "group*", "weight*"];
    let mut found: Vec<Found> = families
        .iter()
        .flat_map(|family| settings.family(family))
        .map(|setting| Found { name: setting.name.clone(), value: setting.value.clone(), place: setting.place.clone() })
        .collect();
    found.sort_by_key(|line| match line.place {
        Place::Line { line, .. } => line,
        _ => 0,
    });
    found
}

fn lines_of(file: &str, bytes: &[u8]) -> Result<Vec<Found>, Fault> {
    // As in zoo.cfg the last of a repeated key counts; the membership must not see the others.
    let mut lines: Vec<Found> = Vec::new();
    let mut index_of = std::collections::BTreeMap::new();
    for properties::Property { key, value, line } in properties::parse(file, bytes)? {
        let found = Found { name: key, value, place: Place::Line { file: file.to_owned(), line } };
        match index_of.get(&found.name) {
            Some(index) => lines[*index] = found,
            None => {
                index_of.insert(found.name.clone(), lines.len());
                lines.push(found);
            }
        }
    }
    Ok(lines)
}

fn read_dynamic(
    settings: &Settings,
    file: &str,
    place: &Place,
    read_file: ReadFile<'_>,
) -> Result<Membership, ConfigError> {
    let bytes = read_file(Path::new(file)).map_err(|error| {
        let problem = match error.kind() {
            std::io::ErrorKind::NotFound => format!("{} (No such file or directory)", excerpt(file)),
            _ => format!("{} cannot be read: {error}", excerpt(file)),
        };
        Fault::new(problem, "Put the server lines there, or correct dynamicConfigFile.")
            .at(place)
            .about("dynamicConfigFile", file)
    })?;
    let lines = lines_of(file, &bytes)?;
    for line in &lines {
        let (problem, remedy) = if line.name == "version" {
            ("dynamic file shouldn't have version inside".to_owned(), "The version is the ending of the file's name.")
        } else if !["server.", "group", "weight"].iter().any(|prefix| line.name.starts_with(prefix)) {
            let problem = format!("Unrecognised parameter: {}", excerpt(&line.name));
            (problem, "Allowed: server.N, group.N and weight.N; other keys belong into zoo.cfg.")
        } else {
            continue;
        };
        return Err(Fault::new(problem, remedy).at(&line.place).about(&line.name, &line.value).into());
    }
    let mut membership = membership::parse(&lines, settings.flag("multiAddress.enabled"))?;
    membership.version = version_of(file);
    Ok(membership)
}

/// `zoo.cfg.dynamic.100000000` is of version 0x100000000; a name without a number, of version 0.
fn version_of(file: &str) -> Zxid {
    let version = file.rsplit_once('.').and_then(|(_, version)| i64::from_str_radix(version, 16).ok());
    version.and_then(|version| Zxid(version).known()).unwrap_or_default()
}

fn read_next(
    settings: &Settings,
    config_file: &Path,
    read_file: ReadFile<'_>,
) -> Result<Option<Membership>, ConfigError> {
    let file = format!("{}.dynamic.next", config_file.display());
    match read_file(Path::new(&file)) {
        Ok(bytes) => {
            let next = membership::parse(&lines_of(&file, &bytes)?, settings.flag("multiAddress.enabled"))?;
            membership::check_voters(&next).map_err(|fault| fault.at(&Place::File(file)))?;
            Ok(Some(next))
        }
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                settings.warn(format!("{file} cannot be read and is ignored: {error}"));
            }
            Ok(None)
        }
    }
}

fn check_mode(settings: &Settings, membership: &Membership, standalone_enabled: bool) -> Result<(), ConfigError> {
    let participants = membership::count(membership, Role::Participant);
    let observers = membership::count(membership, Role::Observer);
    match participants {
        0 if !standalone_enabled => {
            let problem = "standaloneEnabled = false then number of participants should be >0";
            Err(Fault::new(problem, "Add a server line for every member, or remove standaloneEnabled=false.").into())
        }
        0 if observers > 0 => {
            let problem = "Observers w/o participants is an invalid configuration";
            Err(Fault::new(problem, "Add the server lines of the participants.").into())
        }
        0 => Ok(()),
        1 if standalone_enabled && observers > 0 => {
            let problem = "Observers w/o quorum is an invalid configuration";
            let remedy = "Add the server lines of other participants, or set standaloneEnabled=false.";
            Err(Fault::new(problem, remedy).into())
        }
        1 if standalone_enabled => {
            settings.warn("only one server line is given; the server runs standalone".to_owned());
            Ok(())
        }
        1 | 2 => {
            settings.warn("No server failure will be tolerated. You need at least 3 servers.".to_owned());
            Ok(())
        }
        even if even % 2 == 0 => {
            settings.warn("Non-optimal configuration, consider an odd number of servers.".to_owned());
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The first line of `myid`. A standalone server needs none, but a wrong one is an error for it too.
fn read_my_id(data_dir: &Path, read_file: ReadFile<'_>) -> Result<Option<(ServerId, Place)>, ConfigError> {
    let path = data_dir.join("myid");
    let place = Place::File(path.display().to_string());
    let bytes = match read_file(&path) {
        Ok(bytes) => bytes,
        // The directory may not exist yet, or not be ours; whether it can be used is the store's question.
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory | std::io::ErrorKind::PermissionDenied
            ) =>
        {
            return Ok(None);
        }
        Err(error) => {
            let fault = Fault::new(format!("myid cannot be read: {error}"), "Let the server's user read the file.");
            return Err(fault.at(&place).into());
        }
    };
    let first = bytes.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
    let text = String::from_utf8_lossy(first);
    match text.trim().parse() {
        Ok(id) => Ok(Some((ServerId(id), place))),
        Err(_) => {
            let remedy = "myid holds one line with this server's number N of its line server.N.";
            let problem = format!("serverid {} is not a number", excerpt(text.trim()));
            Err(Fault::new(problem, remedy).at(&place).into())
        }
    }
}

/// The client address of this server by its server line, if that has one; it must not contradict `clientPort`.
fn client_of(
    membership: &Membership,
    my_id: Option<ServerId>,
    client: Option<HostPort>,
) -> Result<Option<HostPort>, ConfigError> {
    let by_line = my_id.and_then(|id| Some((id, membership.members.get(&id)?.client.as_ref()?)));
    match (client, by_line) {
        (Some(client), Some((ServerId(id), by_line))) => {
            let agree = client.port == by_line.port && (is_any(&client.host) || same_host(&client.host, &by_line.host));
            if !agree {
                let problem = format!(
                    "client address for this server (id = {id}) in static config file is {} is different from client \
                     address found in dynamic file: {}",
                    java_address(&client),
                    java_address(by_line)
                );
                let remedy =
                    format!("Remove clientPort and clientPortAddress, or correct the end of the line server.{id}.");
                return Err(Fault::new(problem, remedy).into());
            }
            Ok(Some(by_line.clone()))
        }
        (client, by_line) => Ok(by_line.map(|(_, address)| address.clone()).or(client)),
    }
}

fn is_any(host: &str) -> bool {
    host.is_empty() || host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
}

fn same_host(one: &str, other: &str) -> bool {
    match (one.parse::<IpAddr>(), other.parse::<IpAddr>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one.eq_ignore_ascii_case(other),
    }
}

/// As Java prints a socket address: a slash before a number, which has no name before it.
fn java_address(address: &HostPort) -> String {
    match address.host.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => format!("/[{ip}]:{}", address.port),
        Ok(IpAddr::V4(ip)) => format!("/{ip}:{}", address.port),
        Err(_) if address.host.is_empty() => format!("/0.0.0.0:{}", address.port),
        Err(_) => format!("{}:{}", address.host, address.port),
    }
}

/// A proposed membership that is not newer was activated, and the server ended before its file was deleted.
fn memberships(committed: Membership, proposed: Option<Membership>) -> Memberships {
    match proposed.filter(|proposed| proposed.version > committed.version) {
        Some(proposed) => Memberships::new(committed, proposed),
        None => Memberships::settled(committed),
    }
}

fn ensemble_settings(settings: &Settings, me: ServerId, memberships: Memberships) -> EnsembleSettings {
    const MIN_COMMIT_LOG_COUNT: u32 = 500;
    let mut commit_log_count = settings.whole("commitLogCount");
    if commit_log_count < MIN_COMMIT_LOG_COUNT {
        settings.notice(Notice::warn(format!("commitLogCount={commit_log_count} is raised to {MIN_COMMIT_LOG_COUNT}")));
        commit_log_count = MIN_COMMIT_LOG_COUNT;
    }
    let limit = |name: &str| settings.number_if_any(name).and_then(|ticks| u32::try_from(ticks).ok()).unwrap_or(0);
    let milliseconds = |name: &str| i64::from(settings.whole(name));
    EnsembleSettings {
        me,
        memberships,
        init_limit_ticks: limit("initLimit"),
        sync_limit_ticks: limit("syncLimit"),
        connect_limit_ticks: settings.positive("connectToLearnerMasterLimit"),
        connect_retry_ms: milliseconds("leaderConnectDelayDuringRetryMs"),
        notification_interval_ms: (
            milliseconds("fastleader.minNotificationInterval"),
            milliseconds("fastleader.maxNotificationInterval"),
        ),
        observer_election_delay_ms: i64::try_from(settings.long("observer.election.DelayMs")).unwrap_or(i64::MAX),
        observer_reconnect_delay_ms: i64::try_from(settings.long("observer.reconnectDelayMs")).unwrap_or(i64::MAX),
        observer_master_port: u16::try_from(settings.number("observerMasterPort")).ok().filter(|port| *port > 0),
        observer_master_size_limit_bytes: settings.whole("observerMaster.sizeLimit") as usize,
        leader_serves: settings.flag("leaderServes"),
        local_sessions: settings.flag("localSessionsEnabled"),
        local_sessions_upgrading: settings.flag("localSessionsUpgradingEnabled"),
        read_only_mode: settings.flag("readonlymode.enabled"),
        commit_log_count: commit_log_count as usize,
        force_snapshot_sync: settings.flag("forceSnapshotSync"),
        max_concurrent_snap_syncs: settings.whole("leader.maxConcurrentSnapSyncs") as usize,
        max_concurrent_diff_syncs: settings.whole("leader.maxConcurrentDiffSyncs") as usize,
        max_time_to_wait_for_epoch_ms: u32::try_from(settings.number("leader.maxTimeToWaitForEpoch"))
            .ok()
            .map(i64::from),
        standalone_enabled: settings.flag("standaloneEnabled"),
        multi_address: settings.flag("multiAddress.enabled"),
        rollover: Rollover::default(),
        has_oracle: false,
    }
}

/// The original forgets about groups where there is an oracle.
fn oracle(settings: &Settings, membership: &Membership) -> Option<PathBuf> {
    let path = settings.text("oraclePath").filter(|path| !path.is_empty())?;
    if membership.groups.is_some() {
        settings.warn("oraclePath has no effect where servers have groups and weights".to_owned());
        return None;
    }
    Some(PathBuf::from(path))
}

/// At most the whole snapshot; none where the log is never preferred.
fn snapshot_size_factor(settings: &Settings) -> Option<f64> {
    let mut factor = settings.ratio("snapshotSizeFactor");
    if factor > 1.0 {
        settings.warn(format!("snapshotSizeFactor={factor} is more than 1, 0.33 is used"));
        factor = 0.33;
    }
    (factor >= 0.0).then_some(factor)
}
