//! Settings of TLS: those of the client ports, which begin with `ssl.`, and those between members, which begin with `ssl.quorum.`.
//!
//! What always holds here: nothing of it is looked at where no port speaks TLS, as in the original; what is asked for and can't be had is refused with
//! its key, above all where a server would be more open than its operator wants.
//!
//! Counterparts in the original: `X509Util`, `ClientX509Util`, `QuorumX509Util`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::error::{ConfigError, excerpt};
use super::settings::{Setting, Settings};
use crate::net::tls::{Protocol, StoreType, suites};

/// What a port, or the connections between members, need to speak TLS.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct Tls {
    /// The key of this server and its certificates.
    pub(crate) key_store: Store,
    /// Whose certificates are trusted. None where no certificate is asked for.
    pub(crate) trust_store: Option<Store>,
    /// Whether those who connect must show a certificate.
    pub(crate) client_auth: ClientAuth,
    /// The versions that are spoken.
    pub(crate) protocols: Vec<Protocol>,
    /// Java's names of the suites that are used, all of which are supported; none for the default.
    pub(crate) suites: Vec<String>,
    /// Whether a server that is dialled must show a certificate for its host.
    pub(crate) verifies_servers: bool,
    /// Whether those who connect must show a certificate for the address they come from.
    pub(crate) verifies_clients: bool,
    /// Whether names in the certificate of one who connects are looked up to find that address.
    pub(crate) looks_up_names: bool,
    /// Whether revoked certificates are refused, by the lists of the trust store and of `revocation_lists`.
    pub(crate) checks_revocation: bool,
    /// A file of lists of revoked certificates, besides those of the trust store.
    pub(crate) revocation_lists: Option<PathBuf>,
    /// How long a port that takes both waits for the first byte.
    pub(crate) detection_limit: Duration,
    /// Whether changed files are read again while the server runs.
    pub(crate) reloads: bool,
    /// Whether sessions can be resumed without a whole handshake. Members connect too rarely for that.
    pub(crate) resumes: bool,
    /// What all keys begin with, for messages.
    pub(crate) prefix: &'static str,
}

/// A key store or a trust store.
#[derive(Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) struct Store {
    /// Empty where all of it stands in `text`.
    pub location: PathBuf,
    pub kind: StoreType,
    /// Secret.
    pub password: Option<String>,
    /// A file with the password, which counts more than `password`.
    pub password_path: Option<PathBuf>,
    /// A file with the key, in PEM, where it does not stand with its certificates.
    pub key_file: Option<Named>,
    /// What stands in the configuration itself, in PEM. Secret.
    pub text: String,
    /// How the operator named the location, where that is not the usual key.
    pub setting: Option<String>,
}

/// A file, and the setting that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub path: PathBuf,
    pub setting: String,
}

impl Store {
    /// One file without a password.
    pub fn of(location: impl Into<PathBuf>, kind: StoreType) -> Store {
        let location = location.into();
        Store {
            location,
            kind,
            password: None,
            password_path: None,
            key_file: None,
            text: String::new(),
            setting: None,
        }
    }

    /// All files.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let location = Some(&self.location).filter(|location| !location.as_os_str().is_empty());
        location.into_iter().chain(self.key_file.as_ref().map(|file| &file.path)).chain(&self.password_path)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Store")
            .field("location", &self.location)
            .field("kind", &self.kind)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("password_path", &self.password_path)
            .field("key_file", &self.key_file)
            .finish_non_exhaustive()
    }
}

/// Whether those who connect show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    None,
    /// They may.
    Want,
    /// Those who don't are refused.
    Need,
}

/// For which ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Clients,
    Quorum,
}

impl Side {
    const fn prefix(self) -> &'static str {
        match self {
            Side::Clients => "ssl.",
            Side::Quorum => "ssl.quorum.",
        }
    }
}

/// The settings of one side.
struct Reader<'a> {
    settings: &'a Settings,
    side: Side,
}

impl<'a> Reader<'a> {
    fn name(&self, key: &str) -> String {
        format!("{}{key}", self.side.prefix())
    }

    fn setting(&self, key: &str) -> Option<&'a Setting> {
        self.settings.setting(&self.name(key)).filter(|setting| !setting.value.is_empty())
    }

    fn text(&self, key: &str) -> Option<String> {
        self.setting(key).map(|setting| setting.value.clone())
    }

    fn flag(&self, key: &str) -> bool {
        self.settings.flag(&self.name(key))
    }

    fn store(&self, which: &str) -> Result<Option<Store>, ConfigError> {
        let type_setting = self.setting(&format!("{which}.type"));
        let password = self.text(&format!("{which}.password"));
        let password_path = self.text(&format!("{which}.passwordPath")).map(PathBuf::from);
        let Some(location) = self.setting(&format!("{which}.location")) else { return Ok(None) };
        let found = match type_setting {
            Some(setting) => (setting, StoreType::of_name(&setting.value)),
            None => (location, StoreType::of_file(&location.value)),
        };
        let kind = match found {
            (_, Some(Ok(kind))) => kind,
            (setting, Some(Err(_))) => {
                let remedy = "JKS, PKCS12 and PEM work: convert it with keytool -importkeystore -deststoretype pkcs12.";
                return Err(ConfigError::Unsupported(setting.fault("key stores of the type BCFKS", remedy)));
            }
            (setting, None) => {
                let problem = match type_setting {
                    Some(setting) => format!("Bad value for {}: {}", setting.name, excerpt(&setting.value)),
                    None => {
                        format!("Unable to auto-detect store file type from file name: {}", excerpt(&location.value))
                    }
                };
                let remedy = format!("Set {}{which}.type to JKS, PKCS12 or PEM.", self.side.prefix());
                return Err(setting.fault(problem, remedy).into());
            }
        };
        Ok(Some(Store { password, password_path, ..Store::of(&location.value, kind) }))
    }

    fn client_auth(&self) -> Result<ClientAuth, ConfigError> {
        let Some(setting) = self.setting("clientAuth") else { return Ok(ClientAuth::Need) };
        match setting.value.to_ascii_lowercase().as_str() {
            "none" => Ok(ClientAuth::None),
            "want" => Ok(ClientAuth::Want),
            "need" => Ok(ClientAuth::Need),
            _ => Err(setting.fault("there is no such mode", format!("Allowed: {}.", setting.key.allowed())).into()),
        }
    }

    /// What cannot be had, and must not be ignored.
    fn refuse(&self) -> Result<(), ConfigError> {
        let unsupported =
            |setting: &Setting, what: &str, remedy: &str| Err(ConfigError::Unsupported(setting.fault(what, remedy)));
        if let Some(setting) = self.setting("context.supplier.class") {
            let remedy =
                "Classes of Java can't be loaded: remove this line, and name a key store and a trust store instead.";
            return unsupported(setting, "a supplier of SSL contexts", remedy);
        }
        if self.flag("ocsp")
            && let Some(setting) = self.setting("ocsp")
        {
            let remedy = format!(
                "Lists of revoked certificates work: remove this line, set {0}crl=true and name a file of them in {0}crl.location.",
                self.side.prefix()
            );
            return unsupported(setting, "asking for revoked certificates by OCSP", &remedy);
        }
        if self.side == Side::Clients
            && let Some(setting) = self.setting("authProvider").filter(|setting| setting.value != "x509")
        {
            return unsupported(
                setting,
                "another provider for certificates",
                "Remove this line; the provider is x509.",
            );
        }
        Ok(())
    }

    fn protocols(&self) -> Result<Vec<Protocol>, ConfigError> {
        let both = Protocol::ALL.to_vec();
        let (setting, names): (_, Vec<&str>) = match (self.setting("enabledProtocols"), self.setting("protocol")) {
            (Some(setting), _) => (setting, setting.value.split(',').map(str::trim).collect()),
            (None, None) => return Ok(both),
            (None, Some(setting)) => match (setting.value.as_str(), self.side) {
                // The names of Java's contexts; between members the context offers what is older than its name, too.
                ("TLS" | "Default", _) | ("TLSv1.3", Side::Quorum) => return Ok(both),
                (name, _) => (setting, vec![name]),
            },
        };
        let mut protocols = Vec::new();
        let mut unknown = Vec::new();
        for name in names {
            match Protocol::of_name(name) {
                Some(protocol) if !protocols.contains(&protocol) => protocols.push(protocol),
                Some(_) => {}
                None => unknown.push(excerpt(name)),
            }
        }
        if protocols.is_empty() {
            let remedy = "Allowed: TLSv1.2, TLSv1.3. Without this line both are spoken.";
            return Err(setting.fault("no protocol of the list is supported", remedy).into());
        }
        if !unknown.is_empty() {
            let (place, name) = (&setting.place, &setting.name);
            self.settings.warn(format!("{place}: {name}: not supported and left out: {}", unknown.join(", ")));
        }
        Ok(protocols)
    }

    fn suites(&self, protocols: &[Protocol]) -> Result<Vec<String>, ConfigError> {
        let Some(setting) = self.setting("ciphersuites") else { return Ok(Vec::new()) };
        let (known, unknown) = suites::sort(setting.value.split(','));
        if !suites::fit(&known, protocols) {
            let remedy = format!("Without this line all suites are used; allowed: {}.", suites::all_names());
            return Err(setting.fault("no suite of the list is supported for the enabled protocols", remedy).into());
        }
        if !unknown.is_empty() {
            let unknown: Vec<String> = unknown.iter().map(|name| excerpt(name)).collect();
            let (place, name) = (&setting.place, &setting.name);
            self.settings.warn(format!("{place}: {name}: not supported and left out: {}", unknown.join(", ")));
        }
        Ok(known)
    }
}

impl Tls {
    /// Reads the settings of one side, all of them: `why` is the setting that makes it speak TLS.
    pub(super) fn read(settings: &Settings, side: Side, why: Option<&Setting>) -> Result<Option<Tls>, ConfigError> {
        let reader = Reader { settings, side };
        let Some(why) = why else { return Ok(None) };
        let prefix = side.prefix();
        reader.refuse()?;
        let Some(key_store) = reader.store("keyStore")? else {
            let remedy =
                format!("Name a file with the key of this server and its certificates in {prefix}keyStore.location.");
            return Err(why
                .fault(format!("Keystore is required for SSL server: zookeeper.{prefix}keyStore.location"), remedy)
                .into());
        };
        let trust_store = reader.store("trustStore")?;
        let client_auth = reader.client_auth()?;
        if trust_store.is_none() && (client_auth != ClientAuth::None || side == Side::Quorum) {
            let remedy = match side {
                Side::Clients => format!(
                    "Name a file with the certificates that are trusted in {prefix}trustStore.location, or set {prefix}clientAuth=none \
                     to let clients in without a certificate."
                ),
                Side::Quorum => {
                    format!("Name a file with the certificates that are trusted in {prefix}trustStore.location.")
                }
            };
            return Err(why.fault("certificates of others are asked for, and none is trusted", remedy).into());
        }
        let protocols = reader.protocols()?;
        let verifies_servers = reader.flag("hostnameVerification");
        let reloads = match side {
            Side::Clients => settings.flag("client.certReload"),
            Side::Quorum => settings.flag("sslQuorumReloadCertFiles"),
        };
        let tls = Tls {
            key_store,
            trust_store,
            client_auth,
            suites: reader.suites(&protocols)?,
            protocols,
            verifies_servers,
            verifies_clients: reader.flag("clientHostnameVerification") && verifies_servers,
            looks_up_names: reader.flag("allowReverseDnsLookup"),
            checks_revocation: reader.flag("crl"),
            revocation_lists: reader.text("crl.location").map(PathBuf::from),
            detection_limit: Duration::from_millis(u64::from(
                settings.whole(&reader.name("handshakeDetectionTimeoutMillis")),
            )),
            reloads,
            resumes: side == Side::Clients,
            prefix,
        };
        Ok(Some(tls))
    }
}

/// What a client of an ensemble needs to speak TLS.
#[derive(Debug, Clone, Default)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct DialTls {
    /// The key of the client and its certificates. None for one that shows none.
    pub(crate) key_store: Option<Store>,
    /// Whose certificates are trusted.
    pub(crate) trust_store: Option<Store>,
    /// Whether a server must show a certificate for its host.
    pub(crate) verifies_servers: bool,
    /// Whether revoked certificates are refused, by the lists of the trust store and of `revocation_lists`.
    pub(crate) checks_revocation: bool,
    /// A file of lists of revoked certificates, besides those of the trust store.
    pub(crate) revocation_lists: Option<PathBuf>,
}

impl DialTls {
    /// What keys of the configuration begin with, for messages.
    pub(crate) const PREFIX: &'static str = "zookeeper.ssl.";

    pub(super) fn read(settings: &Settings) -> Result<DialTls, ConfigError> {
        let reader = Reader { settings, side: Side::Clients };
        reader.refuse()?;
        for key in ["protocol", "enabledProtocols", "ciphersuites"] {
            if let Some(setting) = reader.setting(key) {
                let (place, name) = (&setting.place, &setting.name);
                settings
                    .warn(format!("{place}: {name} has no effect here: TLS 1.3 and 1.2 are spoken, with all suites"));
            }
        }
        Ok(DialTls {
            key_store: reader.store("keyStore")?,
            trust_store: reader.store("trustStore")?,
            verifies_servers: reader.flag("hostnameVerification"),
            checks_revocation: reader.flag("crl"),
            revocation_lists: reader.text("crl.location").map(PathBuf::from),
        })
    }
}

/// Where clients connect that speak TLS.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct ClientTls {
    /// How it is spoken.
    pub(crate) tls: Tls,
    /// The port that speaks TLS only; 0 takes any free one. None for a server that has none.
    pub(crate) port: Option<u16>,
    /// Name or address to listen on; none for all addresses.
    pub(crate) host: Option<String>,
    /// Whether the plain port takes TLS too.
    pub(crate) unified: bool,
    /// Handshakes that may be under way at a time; none for the default.
    pub(crate) handshake_limit: Option<u32>,
    /// Whether connections are closed before their handshake while nobody is served.
    pub(crate) drops_early: bool,
}

impl ClientTls {
    pub(super) fn read(settings: &Settings) -> Result<Option<ClientTls>, ConfigError> {
        let secure_port = settings.setting("secureClientPort");
        let address = settings.setting("secureClientPortAddress");
        if let (Some(address), None) = (address, secure_port) {
            let problem = "secureClientPortAddress is set but secureClientPort is not set";
            return Err(address.fault(problem, "Add secureClientPort, or remove secureClientPortAddress.").into());
        }
        let unified = unified(settings);
        let Some(tls) = Tls::read(settings, Side::Clients, secure_port.or(unified))? else { return Ok(None) };
        let port = settings.number_if_any("secureClientPort").and_then(|port| u16::try_from(port).ok());
        let host = address.map(|address| address.value.trim().trim_matches(['[', ']']).to_owned());
        let host = host.filter(|host| !matches!(host.as_str(), "" | "0.0.0.0" | "::"));
        Ok(Some(ClientTls {
            tls,
            port,
            host,
            unified: unified.is_some(),
            handshake_limit: settings.positive("netty.server.outstandingHandshake.limit"),
            drops_early: settings.flag("netty.server.earlyDropSecureConnectionHandshakes"),
        }))
    }
}

/// How members speak TLS with each other.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct QuorumTls {
    /// How it is spoken.
    pub(crate) tls: Tls,
    /// Whether other members are dialled with TLS (`sslQuorum`).
    pub(crate) dials: bool,
    /// Whether members may connect without TLS (`portUnification`).
    pub(crate) takes_plain: bool,
}

impl QuorumTls {
    pub(super) fn read(settings: &Settings) -> Result<Option<QuorumTls>, ConfigError> {
        let (dials, takes_plain) = (settings.flag("sslQuorum"), settings.flag("portUnification"));
        let why = settings.setting("sslQuorum").filter(|_| dials);
        let why = why.or_else(|| settings.setting("portUnification").filter(|_| takes_plain));
        let tls = Tls::read(settings, Side::Quorum, why)?;
        Ok(tls.map(|tls| QuorumTls { tls, dials, takes_plain }))
    }

    /// Whether those who connect must show a certificate that is trusted.
    pub(crate) fn keeps_strangers_out(&self) -> bool {
        !self.takes_plain && self.tls.client_auth == ClientAuth::Need
    }
}

/// The setting by which the plain port takes TLS too. Only the Netty factory of the original looks at it; here it counts as well where there is a
/// key store.
fn unified(settings: &Settings) -> Option<&Setting> {
    let is_netty = settings.text("serverCnxnFactory").is_some_and(|class| class.ends_with(".NettyServerCnxnFactory"));
    let has_keys = settings.setting("ssl.keyStore.location").is_some();
    let is_on = settings.flag("client.portUnification") && (is_netty || has_keys);
    settings.setting("client.portUnification").filter(|_| is_on)
}
