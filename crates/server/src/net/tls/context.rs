//! What connections of one side begin with: keys, certificates and those who are trusted, as the files say now.
//!
//! What always holds here: all of it comes from one reading of all files, which had no fault; connections that are open keep what they began with.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::UnixTime;
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{ClientConfig, ServerConfig};

use super::certificate::Facts;
use super::store::{self, Entries, KeyEntry, Problem};
use super::suites;
use super::trust::{Clients, Dialled, Servers, Trust};
use crate::config::{ClientAuth, Named, Store, Tls};

/// No honest store is larger. Lists of revoked certificates may be long.
const MAX_FILE_BYTES: u64 = 32 << 20;

/// Sessions that can be resumed without a whole handshake.
const RESUMABLE_SESSIONS: usize = 1024;

/// What the files said when they were read.
pub(crate) struct Loaded {
    /// For those who connect here.
    pub server: Arc<ServerConfig>,
    /// For servers that are dialled; none where nobody is trusted.
    client: Option<Dialing>,
    /// Of this server's own certificate.
    pub own: Facts,
    /// The files as they were.
    pub files: Vec<Identity>,
}

/// What servers are dialled with.
struct Dialing {
    config: ClientConfig,
    trust: Arc<Trust>,
    verifies_host: bool,
}

impl Loaded {
    /// What a server is dialled with as `host` at this address; none where nobody is trusted.
    pub fn for_dialing(&self, host: &str, address: IpAddr) -> Option<ClientConfig> {
        let Dialing { config, trust, verifies_host } = self.client.as_ref()?;
        let mut config = config.clone();
        let dialled = verifies_host.then(|| Dialled { host: host.to_owned(), address });
        config.dangerous().set_certificate_verifier(Arc::new(Servers { trust: trust.clone(), dialled }));
        Some(config)
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Loaded").field("own", &self.own).field("files", &self.files).finish_non_exhaustive()
    }
}

/// A file as it is, also behind a link. Another one in its place has another identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    path: PathBuf,
    /// Device, number, bytes and times; none where there is no such file.
    what: Option<(u64, u64, u64, i64, i64, i64, i64)>,
}

impl Identity {
    fn of(path: &Path) -> Identity {
        let what = std::fs::metadata(path).ok().map(|file| {
            (file.dev(), file.ino(), file.len(), file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec())
        });
        Identity { path: path.to_owned(), what }
    }
}

/// A file that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} ({key}) can't be used: {problem}", path.display())]
pub struct LoadError {
    pub(super) path: PathBuf,
    pub(super) key: String,
    pub(super) problem: String,
}

impl LoadError {
    /// A store that can't be used. `which`: `keyStore` or `trustStore`.
    pub(super) fn of(store: &Store, prefix: &str, which: &str, problem: String) -> LoadError {
        let key = store.setting.clone().unwrap_or_else(|| format!("{prefix}{which}.location"));
        let path = if store.location.as_os_str().is_empty() { "the text".into() } else { store.location.clone() };
        LoadError { path, key, problem }
    }
}

/// TLS of one side.
#[derive(Debug)]
pub(crate) struct TlsContext {
    pub settings: Tls,
    loaded: RwLock<Arc<Loaded>>,
}

impl TlsContext {
    /// Reads the files. It blocks.
    pub fn open(settings: Tls) -> Result<TlsContext, LoadError> {
        let loaded = RwLock::new(Arc::new(load(&settings)?));
        Ok(TlsContext { settings, loaded })
    }

    /// What new connections begin with.
    pub fn loaded(&self) -> Arc<Loaded> {
        self.loaded.read().clone()
    }

    /// Reads the files again. It blocks. Where one can't be used, all stays as it was.
    pub fn load_again(&self) -> Result<(), LoadError> {
        let loaded = Arc::new(load(&self.settings)?);
        *self.loaded.write() = loaded;
        Ok(())
    }

    /// The files as they are now. It blocks for a moment.
    pub fn files(&self) -> Vec<Identity> {
        identities(&self.settings)
    }

    /// Whole days until this server's own certificate is over.
    pub fn days_left(&self) -> i64 {
        self.loaded().own.days_left(UnixTime::now())
    }
}

fn identities(settings: &Tls) -> Vec<Identity> {
    let stores = std::iter::once(&settings.key_store).chain(&settings.trust_store);
    stores.flat_map(Store::files).chain(&settings.revocation_lists).map(|path| Identity::of(path)).collect()
}

fn load(settings: &Tls) -> Result<Loaded, LoadError> {
    // First, so that a file that changes meanwhile is read again.
    let files = identities(settings);
    let key_store = &settings.key_store;
    let key_fault = |problem: String| LoadError::of(key_store, settings.prefix, "keyStore", problem);
    let (bytes, password) = contents(key_store, settings.prefix, "keyStore")?;
    let KeyEntry { key, chain } =
        store::key_of(&bytes, key_store.kind, &password).map_err(|problem| key_fault(problem.to_string()))?;
    let own = Facts::of(&chain[0]).ok_or_else(|| key_fault("the certificate of its key makes no sense".to_owned()))?;
    let provider = Arc::new(suites::provider(&settings.suites));
    let trust = trust(settings, &provider)?;

    let versions = suites::versions(&settings.protocols);
    let mismatch = |error: rustls::Error| {
        key_fault(match error {
            rustls::Error::InconsistentKeys(_) => {
                "its first certificate is not that of its private key; put the certificate of the key first".to_owned()
            }
            error => {
                format!("its private key can't be used: {error}; RSA of 2048 bits or more, ECDSA and Ed25519 keys work")
            }
        })
    };
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&versions);
    let builder = builder.map_err(|error| key_fault(error.to_string()))?;
    let verifier = match (settings.client_auth, &trust) {
        (ClientAuth::None, _) | (_, None) => WebPkiClientVerifier::no_client_auth(),
        (auth, Some(trust)) => Arc::new(Clients::new(trust.clone(), auth == ClientAuth::Need)),
    };
    let mut server = builder
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(mismatch)?;
    if settings.resumes {
        server.session_storage = ServerSessionMemoryCache::new(RESUMABLE_SESSIONS);
    } else {
        server.session_storage = Arc::new(NoServerSessionStorage {});
        // A ticket that nobody reads would make the system answer the end of a short connection with a reset.
        server.send_tls13_tickets = 0;
    }

    let client = match trust {
        None => None,
        Some(trust) => {
            let verifier: Arc<dyn ServerCertVerifier> = Arc::new(Servers { trust: trust.clone(), dialled: None });
            let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&versions);
            let builder = builder.map_err(|error| key_fault(error.to_string()))?;
            let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
            let mut config = builder.with_client_auth_cert(chain, key).map_err(mismatch)?;
            // A server that is resumed shows no certificate, and so none that has expired or been revoked meanwhile.
            config.resumption = Resumption::disabled();
            Some(Dialing { config, trust, verifies_host: settings.verifies_servers })
        }
    };
    Ok(Loaded { server: Arc::new(server), client, own, files })
}

fn trust(settings: &Tls, provider: &CryptoProvider) -> Result<Option<Arc<Trust>>, LoadError> {
    let Some(trust_store) = &settings.trust_store else { return Ok(None) };
    let lists = settings.checks_revocation.then_some(settings.revocation_lists.as_deref());
    let entries = trusted(trust_store, lists, settings.prefix)?;
    let trust = Trust::of(entries, settings.checks_revocation, provider.signature_verification_algorithms);
    let trust_fault = |problem: Problem| LoadError::of(trust_store, settings.prefix, "trustStore", problem.to_string());
    Ok(Some(Arc::new(trust.map_err(trust_fault)?)))
}

/// What is in a trust store. `lists`: revoked certificates are looked for, in a file of lists too if there is one.
pub(super) fn trusted(trust_store: &Store, lists: Option<Option<&Path>>, prefix: &str) -> Result<Entries, LoadError> {
    let trust_fault = |problem: String| LoadError::of(trust_store, prefix, "trustStore", problem);
    let (bytes, password) = contents(trust_store, prefix, "trustStore")?;
    let mut entries =
        store::trust_of(&bytes, trust_store.kind, &password).map_err(|problem| trust_fault(problem.to_string()))?;
    if let Some(file) = lists {
        if let Some(path) = file {
            let list_fault =
                |problem: String| LoadError { path: path.to_owned(), key: format!("{prefix}crl.location"), problem };
            let bytes = read(path).map_err(|error| list_fault(error.to_string()))?;
            entries.revoked.extend(store::revoked_of(&bytes).map_err(|problem| list_fault(problem.to_string()))?);
        }
        if entries.revoked.is_empty() {
            return Err(trust_fault(format!(
                "{0}crl=true, and there is no list of revoked certificates; put the lists of the authorities into a PEM file, and name it in \
                 {0}crl.location",
                prefix
            )));
        }
    }
    Ok(entries)
}

/// What is in a store, and its password.
pub(super) fn contents(store: &Store, prefix: &str, which: &str) -> Result<(Vec<u8>, String), LoadError> {
    let fault = |path: &Path, key: String, error: io::Error| LoadError {
        path: path.to_owned(),
        key,
        problem: error.to_string(),
    };
    let mut bytes = Vec::new();
    if !store.location.as_os_str().is_empty() {
        let location = read(&store.location);
        bytes = location.map_err(|error| LoadError::of(store, prefix, which, error.to_string()))?;
    }
    if let Some(Named { path, setting }) = &store.key_file {
        // The file in front may end without an end of the line.
        bytes.push(b'\n');
        bytes.extend(read(path).map_err(|error| fault(path, setting.clone(), error))?);
    }
    if !store.text.is_empty() {
        bytes.push(b'\n');
        bytes.extend_from_slice(store.text.as_bytes());
    }
    let password = match &store.password_path {
        None => store.password.clone().unwrap_or_default(),
        Some(path) => {
            let password = read(path).map_err(|error| fault(path, format!("{prefix}{which}.passwordPath"), error))?;
            String::from_utf8_lossy(&password).trim_end_matches(['\r', '\n']).to_owned()
        }
    };
    Ok((bytes, password))
}

pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}
