//! What an operator can say of the registry, in the keys of Spring's server.
//!
//! Counterpart in the original: `EurekaServerConfigBean`, `EurekaClientConfigBean`, `EurekaInstanceConfigBean`.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rookeeper_registry::Settings;

use super::ensemble::EnsembleConfig;
use super::proof;
use super::secure::{Keys, Secure};
use super::spring::{self, Pair, ReadFile, canonical};
use crate::config::read_bounded;
use crate::net::tls::dial::is_host;

/// Where Eureka's servers listen.
pub const DEFAULT_PORT: u16 = 8761;

/// Services that are named as consistent, at most.
const MAX_NAMED: usize = 1000;

/// Other servers, at most.
const MAX_PEERS: usize = 64;

/// A registry's configuration.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq))]
pub struct RegistryConfig {
    /// All addresses of this machine where none is given.
    pub host: Option<String>,
    /// 0 takes any free one.
    pub port: u16,
    pub(super) settings: Settings,
    pub(super) peers: Vec<PeerAddress>,
    /// Each address of these is another server, too.
    pub(super) names: Vec<PeerAddress>,
    /// Whether other servers are asked at a start for what they know.
    pub(super) fetches: bool,
    /// How long lists are refused at a start while no other server has answered, in milliseconds.
    pub(super) sync_wait_ms: u64,
    pub(super) shows_page: bool,
    /// Where what is known is kept over restarts; none where it is not.
    pub(super) snapshot: Option<PathBuf>,
    /// How this server calls its machine.
    pub(super) own_host: Option<String>,
    /// TLS, for those who connect and for other servers.
    pub(super) secure: Secure,
    /// Services that are kept in the coordination tree; none where there are no such.
    pub(super) ensemble: Option<EnsembleConfig>,
    /// What is to be shown as `Authorization`; none where everybody is let in.
    credentials: Option<String>,
}

/// Another server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PeerAddress {
    /// Whether TLS is spoken.
    pub is_secure: bool,
    pub host: String,
    pub port: u16,
    /// Which address of the host it is; none for whichever takes a connection.
    pub at: Option<IpAddr>,
    /// Begins and ends with a slash.
    pub path: String,
    /// The value of `Authorization`, for a server that wants one.
    pub authorization: Option<String>,
}

/// Something in a configuration that is wrong, or that the operator should know.
pub type Sentence = String;

impl Default for RegistryConfig {
    fn default() -> RegistryConfig {
        RegistryConfig {
            host: None,
            port: DEFAULT_PORT,
            settings: Settings::default(),
            peers: Vec::new(),
            names: Vec::new(),
            fetches: true,
            // A heartbeat's interval: after it, all clients of this server have registered anew.
            sync_wait_ms: 30_000,
            shows_page: true,
            snapshot: None,
            own_host: None,
            secure: Secure::default(),
            ensemble: None,
            credentials: None,
        }
    }
}

/// Keys that mean something to Spring's server but nothing here, and why that does no harm.
const WITHOUT_EFFECT: [(&str, &str); 22] = [
    ("eureka.server.useReadOnlyResponseCache", "answers are never stale"),
    ("eureka.server.responseCacheUpdateIntervalMs", "answers are never stale"),
    ("eureka.server.responseCacheAutoExpirationInSeconds", "answers are never stale"),
    ("eureka.server.deltaRetentionTimerIntervalInMs", "deltas forget when they are asked for"),
    ("eureka.server.renewalThresholdUpdateIntervalMs", "the number of clients is counted exactly"),
    ("eureka.server.peerEurekaNodesUpdateIntervalMs", "peers are those of the configuration"),
    ("eureka.server.peerNodeConnectTimeoutMs", "a peer has a second to take a connection"),
    ("eureka.server.peerNodeReadTimeoutMs", "a peer has ten seconds to answer"),
    ("eureka.server.maxElementsInPeerReplicationPool", "what waits for a peer is one entry for each instance"),
    ("eureka.server.maxThreadsForPeerReplication", "there is one batch at a time, so that nothing overtakes anything"),
    ("eureka.server.maxTimeForReplication", "a change waits for as long as it matters"),
    (
        "eureka.server.enableReplicatedRequestCompression",
        "batches are not compressed; the original's server refuses such",
    ),
    ("eureka.server.rateLimiterEnabled", "Spring's server does not limit rates either"),
    ("eureka.client.registerWithEureka", "this server is no instance of its own registry"),
    ("eureka.client.region", "there are no regions"),
    ("eureka.client.preferSameZoneEureka", "there are no zones"),
    ("eureka.client.registryFetchIntervalSeconds", "other servers are asked at a start only"),
    ("eureka.instance.leaseRenewalIntervalInSeconds", "this server is no instance of its own registry"),
    ("eureka.instance.leaseExpirationDurationInSeconds", "this server is no instance of its own registry"),
    ("eureka.instance.preferIpAddress", "this server is no instance of its own registry"),
    ("eureka.environment", "the page does not show it"),
    ("eureka.datacenter", "the page does not show it"),
];

impl RegistryConfig {
    /// Reads a file of Spring's, and settings that are given beside it, which win. Returns with it what the operator should know.
    pub fn load(file: Option<&Path>, given: &[Pair]) -> Result<(RegistryConfig, Vec<Sentence>), Sentence> {
        RegistryConfig::load_with(file, given, &read_bounded)
    }

    /// The same with another way to read files.
    pub(crate) fn load_with(
        file: Option<&Path>,
        given: &[Pair],
        read_file: ReadFile<'_>,
    ) -> Result<(RegistryConfig, Vec<Sentence>), Sentence> {
        let mut pairs = match file {
            Some(file) => spring::read(file, read_file)?,
            None => Vec::new(),
        };
        pairs.extend_from_slice(given);
        let mut config = RegistryConfig::default();
        let mut notices = Vec::new();
        let (mut own_host, mut own_url, mut urls, mut user, mut password) = (None, None, None, None, None);
        let (mut names, mut lists_in_dns) = (None, None);
        let (mut retries, mut retry_wait_ms) = (None, 30_000);
        let mut keys = Keys::default();
        let mut proofs = proof::Keys::default();
        let (mut named, mut base, mut servers) = (None::<Vec<String>>, "/services".to_owned(), Vec::new());
        for (key, value) in &pairs {
            let value = value.as_str();
            if keys.take(key, value) || proofs.take(&canonical(key), value) {
                continue;
            }
            let settings = &mut config.settings;
            match canonical(key).as_str() {
                "server.port" => config.port = number(key, value)?,
                "server.address" => config.host = Some(value.to_owned()),
                "eureka.server.enableselfpreservation" => settings.self_preservation = truth(key, value)?,
                "eureka.server.renewalpercentthreshold" => settings.renewal_percent = part(key, value)?,
                "eureka.server.expectedclientrenewalintervalseconds" => {
                    settings.expected_renewal_s = positive(key, value)?;
                }
                "eureka.server.evictionintervaltimerinms" => settings.eviction_interval_ms = positive(key, value)?,
                "eureka.server.retentiontimeinmsindeltaqueue" => settings.delta_retention_ms = number(key, value)?,
                "eureka.server.disabledelta" => settings.deltas = !truth(key, value)?,
                "eureka.server.syncwhentimestampdiffers" => {
                    settings.sync_when_timestamp_differs = truth(key, value)?;
                }
                "eureka.server.waittimeinmswhensyncempty" => settings.wait_when_empty_ms = number(key, value)?,
                "eureka.instance.registry.defaultopenfortrafficcount" => {
                    settings.clients_when_empty = number(key, value)?;
                }
                "eureka.instance.registry.expectednumberofclientssendingrenews" => {
                    settings.clients_at_start = number(key, value)?;
                }
                "eureka.server.registrysyncretries" => retries = Some(number::<u64>(key, value)?),
                "eureka.server.registrysyncretrywaitms" => retry_wait_ms = number(key, value)?,
                "eureka.server.myurl" => own_url = Some(value.to_owned()),
                "eureka.client.fetchregistry" => config.fetches = truth(key, value)?,
                "eureka.client.serviceurl.defaultzone" => urls = Some(value.to_owned()),
                "registry.consistent" => {
                    let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
                    named = Some(names.map(str::to_owned).collect());
                }
                "registry.base" => base = value.trim_end_matches('/').to_owned(),
                "registry.connect" => servers = self::servers(key, value)?,
                "eureka.client.usednsforfetchingserviceurls" => {
                    let is_wanted = truth(key, value)?;
                    lists_in_dns = Some(key).filter(|_| is_wanted);
                }
                "registry.peersfromdns" => names = Some(value.to_owned()),
                "registry.snapshot" => config.snapshot = Some(PathBuf::from(value)).filter(|_| !value.is_empty()),
                "eureka.instance.hostname" => own_host = Some(value.to_owned()),
                "eureka.dashboard.enabled" => config.shows_page = truth(key, value)?,
                "spring.security.user.name" => user = Some(value.to_owned()),
                "spring.security.user.password" => password = Some(value.to_owned()),
                known if known.starts_with("registry.consistent.") => {
                    return Err(format!("{key} is not known: see docs/guide/consistency.md"));
                }
                known if known.starts_with("eureka.") => {
                    match WITHOUT_EFFECT.iter().find(|(other, _)| canonical(other) == known) {
                        Some((_, why)) => notices.push(format!("{key} has no effect here: {why}")),
                        None => notices.push(format!("{key} is not known here and has no effect")),
                    }
                }
                // The rest of an application's file is for others.
                _ => {}
            }
        }
        let (proof, openness) = proofs.read()?;
        config.secure = keys.read(&mut notices)?;
        if named.is_some() || !servers.is_empty() {
            let named = named.unwrap_or_default();
            if named.len() > MAX_NAMED {
                return Err(format!("registry.consistent names more than {MAX_NAMED} services"));
            }
            let is_path = |path: &str| path.len() > 1 && rookeeper_proto::path::NodePath::new(path.to_owned()).is_ok();
            if !is_path(&base) || base == "/zookeeper" || base.starts_with("/zookeeper/") {
                return Err(format!("registry.base is {base:?}, but must be a path such as /services"));
            }
            if let Some(name) = named.iter().find(|name| name.contains('/') || !is_path(&format!("/{name}"))) {
                return Err(format!("registry.consistent names {name:?}, which can be no node"));
            }
            config.ensemble = Some(EnsembleConfig { named, base, servers, proof, openness });
        }
        if let Some(retries) = retries {
            config.sync_wait_ms = retries.saturating_mul(retry_wait_ms);
        }
        config.credentials = match (user, password) {
            (Some(user), Some(password)) => Some(basic(&user, &password)),
            (None, None) => None,
            _ => return Err("spring.security.user.name and spring.security.user.password belong together".to_owned()),
        };
        for url in urls.iter().flat_map(|urls| urls.split(',')).map(str::trim).filter(|url| !url.is_empty()) {
            let peer = PeerAddress::parse(url)?;
            config.can_dial(&peer)?;
            let is_own = own_url.as_deref().is_some_and(|own| own.trim_end_matches('/') == url.trim_end_matches('/'))
                || (own_host.as_deref() == Some(peer.host.as_str()) && peer.port == config.port);
            if !is_own && !config.peers.contains(&peer) {
                config.peers.push(peer);
            }
        }
        for url in names.iter().flat_map(|names| names.split(',')).map(str::trim).filter(|url| !url.is_empty()) {
            let name = PeerAddress::parse(url)?;
            config.can_dial(&name)?;
            config.names.push(name);
        }
        if let Some(key) = lists_in_dns.filter(|_| config.names.is_empty()) {
            // Alone it would show a part of everything as if there were no more.
            return Err(format!(
                "{key}: lists in TXT records are not read; name a host, each address of which is another server, in registry.peers-from-dns"
            ));
        }
        config.own_host = own_host;
        if config.peers.len() + config.names.len() > MAX_PEERS {
            return Err(format!(
                "eureka.client.service-url.defaultZone and registry.peers-from-dns name more than {MAX_PEERS} servers"
            ));
        }
        Ok((config, notices))
    }

    /// Finds out where the ensemble is. `own`: where the server of this process takes clients, without TLS and with TLS.
    pub(crate) fn reach_ensemble(&mut self, own: [Option<SocketAddr>; 2]) -> Result<(), Sentence> {
        let is_secure = self.secure.ensemble.is_some();
        let Some(ensemble) = self.ensemble.as_mut().filter(|ensemble| ensemble.servers.is_empty()) else {
            return Ok(());
        };
        let [plain, secure] = own;
        let own = match (is_secure, plain, secure) {
            // The plain port may take both.
            (true, _, Some(own)) | (false, Some(own), _) | (true, Some(own), None) => own,
            (false, None, Some(_)) => {
                return Err(
                    "registry.consistent needs a coordination tree, and the only client port here wants TLS: name the certificates that are trusted in \
                     registry.consistent.tls.trust-store"
                        .to_owned(),
                );
            }
            (_, None, None) => {
                let remedy = "set registry.connect=HOST:PORT,... to the client ports of an ensemble";
                return Err(format!(
                    "registry.consistent needs a coordination tree, and there is no client port here: {remedy}"
                ));
            }
        };
        let host = match own.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => "127.0.0.1".to_owned(),
            IpAddr::V6(ip) if ip.is_unspecified() => "localhost".to_owned(),
            ip => ip.to_string(),
        };
        ensemble.servers = vec![(host, own.port())];
        Ok(())
    }

    /// Whether strangers are kept out.
    pub(crate) fn asks_for_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// Refuses a server that is to be dialled with TLS where no certificate is trusted.
    fn can_dial(&self, peer: &PeerAddress) -> Result<(), Sentence> {
        if peer.is_secure && self.secure.dial.is_none() {
            return Err(format!(
                "{peer} is to be dialled with TLS, and no certificate is trusted: name a file in eureka.client.tls.trust-store"
            ));
        }
        Ok(())
    }

    /// Whether there are other servers, or may be.
    pub(super) fn has_peers(&self) -> bool {
        !self.peers.is_empty() || !self.names.is_empty()
    }

    /// Whether a request may be answered that shows this.
    pub(super) fn lets_in(&self, shown: Option<&HeaderValue>) -> bool {
        match &self.credentials {
            None => true,
            Some(wanted) => shown.is_some_and(|shown| same(shown.as_bytes(), wanted.as_bytes())),
        }
    }
}

impl PeerAddress {
    /// Reads `http://[user:password@]host[:port][/path]`, or `https`.
    pub(super) fn parse(url: &str) -> Result<PeerAddress, Sentence> {
        let wrong = |why: &str| format!("can't use {url} as the address of another registry: {why}");
        let (is_secure, rest) = match url.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => return Err(wrong("an address begins with http:// or https://")),
        };
        let (authority, path) = rest.split_once('/').map_or((rest, "eureka/"), |(authority, path)| (authority, path));
        let (userinfo, place) = match authority.rsplit_once('@') {
            Some((userinfo, place)) => (Some(userinfo), place),
            None => (None, authority),
        };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, port.parse().map_err(|_| wrong("the port is no number between 1 and 65535"))?)
            }
            _ => (place, if is_secure { 443 } else { 80 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong("there is no host"));
        }
        if is_secure && !is_host(host) {
            return Err(wrong("no certificate can be for such a host"));
        }
        let authorization = userinfo.map(|userinfo| {
            let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
            basic(user, password)
        });
        let mut path = format!("/{path}");
        if !path.ends_with('/') {
            path.push('/');
        }
        Ok(PeerAddress { is_secure, host: host.to_owned(), port, at: None, path, authorization })
    }
}

impl std::fmt::Display for PeerAddress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        write!(formatter, "{scheme}://{host}:{}{}", self.port, self.path)?;
        self.at.map_or(Ok(()), |at| write!(formatter, " at {at}"))
    }
}

/// `host:port` with commas between.
fn servers(key: &str, value: &str) -> Result<Vec<(String, u16)>, Sentence> {
    let wrong = |one: &str| format!("{key} names {one:?}, which is no HOST:PORT");
    let server = |one: &str| {
        let (host, port) = one.rsplit_once(':').ok_or_else(|| wrong(one))?;
        let host = host.trim_matches(['[', ']']);
        match port.parse() {
            Ok(port) if !host.is_empty() => Ok((host.to_owned(), port)),
            _ => Err(wrong(one)),
        }
    };
    let servers: Vec<&str> = value.split(',').map(str::trim).filter(|one| !one.is_empty()).collect();
    match servers.len() {
        0 => Err(format!("{key} names no server")),
        1..=MAX_PEERS => servers.into_iter().map(server).collect(),
        _ => Err(format!("{key} names more than {MAX_PEERS} servers")),
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

/// Compares in a time that tells nothing of where two secrets differ.
fn same(shown: &[u8], wanted: &[u8]) -> bool {
    shown.len() == wanted.len() && shown.iter().zip(wanted).fold(0, |differ, (one, other)| differ | (one ^ other)) == 0
}

fn number<T: std::str::FromStr>(key: &str, value: &str) -> Result<T, Sentence> {
    value.trim().parse().map_err(|_| format!("{key} is {value:?}, which is no number that can stand there"))
}

fn positive<T: std::str::FromStr + Default + PartialEq>(key: &str, value: &str) -> Result<T, Sentence> {
    match number(key, value) {
        Ok(zero) if zero == T::default() => Err(format!("{key} must be more than 0")),
        number => number,
    }
}

fn part(key: &str, value: &str) -> Result<f64, Sentence> {
    let part: f64 = number(key, value)?;
    if (0.0..=1.0).contains(&part) { Ok(part) } else { Err(format!("{key} is {value}, but must lie between 0 and 1")) }
}

fn truth(key: &str, value: &str) -> Result<bool, Sentence> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("{key} is {value:?}, but must be true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, &str)]) -> Result<(RegistryConfig, Vec<Sentence>), Sentence> {
        let pairs: Vec<Pair> = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        RegistryConfig::load(None, &pairs)
    }

    #[test]
    fn keys_are_read_in_both_spellings() {
        for key in ["eureka.server.enable-self-preservation", "eureka.server.enableSelfPreservation"] {
            assert!(!given(&[(key, "false")]).unwrap().0.settings.self_preservation);
        }
    }

    #[test]
    fn yaml_and_properties_say_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let yaml = "server:\n  port: 8762\neureka:\n  server:\n    enable-self-preservation: false\n  client:\n    \
                    service-url:\n      defaultZone: http://a:1/eureka/,http://b:2/eureka/\n";
        let properties = "server.port=8762\neureka.server.enableSelfPreservation=false\n\
                          eureka.client.service-url.defaultZone=http://a:1/eureka/,http://b:2/eureka/\n";
        for (name, text) in [("application.yml", yaml), ("application.properties", properties)] {
            let file = folder.path().join(name);
            std::fs::write(&file, text).unwrap();
            let (config, notices) = RegistryConfig::load(Some(&file), &[]).unwrap();
            assert_eq!((config.port, config.settings.self_preservation, config.peers.len()), (8762, false, 2));
            assert_eq!(notices, Vec::<String>::new());
        }
    }

    #[test]
    fn this_server_is_not_its_own_peer() {
        let urls = "http://one:8761/eureka/,http://one:8762/eureka/,http://two:8761/eureka/";
        let (config, _) =
            given(&[("eureka.instance.hostname", "one"), ("eureka.client.serviceUrl.defaultZone", urls)]).unwrap();
        let places: Vec<String> = config.peers.iter().map(PeerAddress::to_string).collect();
        assert_eq!(places, ["http://one:8762/eureka/", "http://two:8761/eureka/"]);
    }

    #[test]
    fn lists_in_dns_are_refused_unless_there_are_addresses() {
        let key = "eureka.client.use-dns-for-fetching-service-urls";
        assert!(given(&[(key, "true")]).unwrap_err().contains("registry.peers-from-dns"));
        assert!(given(&[(key, "perhaps")]).unwrap_err().contains("true or false"));
        let addresses = ("registry.peers-from-dns", "http://registries:8761/eureka/");
        for pairs in [&[(key, "false")][..], &[(key, "true"), addresses]] {
            assert_eq!(given(pairs).unwrap().1, Vec::<String>::new());
        }
    }

    #[test]
    fn credentials_of_an_address_are_shown_to_that_server() {
        let peer = PeerAddress::parse("http://user:secret@[::1]:8761/eureka").unwrap();
        assert_eq!(
            peer,
            PeerAddress {
                is_secure: false,
                host: "::1".to_owned(),
                port: 8761,
                at: None,
                path: "/eureka/".to_owned(),
                authorization: Some("Basic dXNlcjpzZWNyZXQ=".to_owned()),
            }
        );
    }

    #[test]
    fn what_is_wrong_or_unknown_is_named() {
        assert!(given(&[("eureka.server.renewal-percent-threshold", "85")]).unwrap_err().contains("between 0 and 1"));
        assert!(given(&[("server.port", "many")]).unwrap_err().contains("server.port"));
        let (_, notices) = given(&[("eureka.server.no-such-key", "1"), ("logging.level.root", "debug")]).unwrap();
        assert_eq!(notices, ["eureka.server.no-such-key is not known here and has no effect"]);
        let (_, notices) = given(&[("eureka.server.use-read-only-response-cache", "false")]).unwrap();
        assert_eq!(notices, ["eureka.server.use-read-only-response-cache has no effect here: answers are never stale"]);
    }
}
