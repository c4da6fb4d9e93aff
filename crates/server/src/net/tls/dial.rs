//! What a client of our own dials a server with, and why a server cannot be had so.
//!
//! The library on which the client stands has its own TLS: it takes text in PEM, and does not tell why a handshake failed. So stores of all types
//! become PEM here, and a handshake that failed is made once more, by the rules of that library, to hear why.
//! What always holds here: a key stands in no message.

use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate::Facts;
pub use super::context::LoadError;
use super::context::{contents, trusted};
use super::failure::{self, Failure, Kind, Wording, note_shown};
use super::store::{self, Entries, KeyEntry};
use super::suites;
use super::trust::{Servers, Trust};
use crate::config::DialTls;

const PREFIX: &str = DialTls::PREFIX;

const WORDING: Wording = Wording { prefix: PREFIX, own: "this client", peer: "server", demand: None };

/// A connection to a server, after its handshake.
pub type Encrypted = TlsStream<TcpStream>;

/// Whom a client trusts and what it shows, as the files say.
pub struct Dial {
    trusted: String,
    /// Certificates and key.
    identity: Option<(String, String)>,
    verifies_host: bool,
    config: Arc<ClientConfig>,
}

impl fmt::Debug for Dial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Dial { trusted: _, identity, verifies_host, config: _ } = self;
        let has_identity = identity.is_some();
        formatter
            .debug_struct("Dial")
            .field("has_identity", &has_identity)
            .field("verifies_host", verifies_host)
            .finish_non_exhaustive()
    }
}

/// Why a server cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwelcome {
    /// A sentence with the remedy.
    pub why: String,
    /// Whether the server may want a certificate, and this client has none.
    pub may_lack_certificate: bool,
    /// Whether the port may take connections without TLS only.
    pub may_be_plain: bool,
}

/// The host of `host:port`, an address of IPv6 without its brackets.
pub fn host_of(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']'])
}

/// Whether a server can be dialled by this name with TLS, which has no name of other characters than those of hosts.
pub fn is_host(host: &str) -> bool {
    ServerName::try_from(host).is_ok()
}

impl Dial {
    /// Reads the files. It blocks.
    pub fn open(settings: &DialTls) -> Result<Dial, LoadError> {
        let Some(trust_store) = &settings.trust_store else {
            let problem = "it is not set, so no server is trusted".to_owned();
            return Err(LoadError { path: "trust store".into(), key: format!("{PREFIX}trustStore.location"), problem });
        };
        let trust_fault = |problem: String| LoadError::of(trust_store, PREFIX, "trustStore", problem);
        let lists = settings.checks_revocation.then_some(settings.revocation_lists.as_deref());
        let mut entries = trusted(trust_store, lists, PREFIX)?;
        if lists.is_none() {
            // The library takes lists that stand in the text for a wish to have them checked.
            entries.revoked.clear();
        }
        let key = key(settings)?;
        let text = trusted_text(&entries);
        let provider = Arc::new(suites::provider(&[]));
        let verifier: Arc<dyn ServerCertVerifier> = match settings.verifies_servers {
            true => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(entries.trusted.iter().cloned());
                let rules = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
                    .with_crls(entries.revoked)
                    .build()
                    .map_err(|error| trust_fault(error.to_string()))?;
                Arc::new(Noting(rules))
            }
            false => {
                let trust = Trust::of(entries, lists.is_some(), provider.signature_verification_algorithms);
                let trust = trust.map_err(|problem| trust_fault(problem.to_string()))?;
                let trust = Arc::new(trust.of_authorities_only());
                Arc::new(Servers { trust, dialled: None })
            }
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| trust_fault(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let (config, identity) = match key {
            None => (builder.with_no_client_auth(), None),
            Some(KeyEntry { key, chain }) => {
                let text = (chain_text(&chain), key_text(&key));
                let config = builder.with_client_auth_cert(chain, key).map_err(|error| LoadError {
                    path: settings.key_store.as_ref().map(|store| store.location.clone()).unwrap_or_default(),
                    key: format!("{PREFIX}keyStore.location"),
                    problem: format!("its key and its first certificate can't be used together: {error}"),
                })?;
                (config, Some(text))
            }
        };
        Ok(Dial { trusted: text, identity, verifies_host: settings.verifies_servers, config: Arc::new(config) })
    }

    /// The certificates of those who are trusted, and lists of revoked ones where they count, in PEM.
    pub fn trusted(&self) -> &str {
        &self.trusted
    }

    /// What the client shows, in PEM: its certificates, and their key, which is secret.
    pub fn identity(&self) -> Option<(&str, &str)> {
        self.identity.as_ref().map(|(certificates, key)| (certificates.as_str(), key.as_str()))
    }

    /// Whether a server must show a certificate for its host.
    pub fn verifies_host(&self) -> bool {
        self.verifies_host
    }

    /// Encrypts a connection to the server that was dialled as `host`. A handshake that takes longer than the limit is given up.
    pub async fn secure(&self, stream: TcpStream, host: &str, limit: Duration) -> Result<Encrypted, Unwelcome> {
        self.handshake(stream, host, limit).await.map_err(|failure| self.unwelcome(failure))
    }

    /// Makes a handshake with the server that was dialled as `host`, to hear why it fails. One that does not is given up after it.
    pub async fn probe(&self, stream: TcpStream, host: &str, limit: Duration) -> Result<(), Unwelcome> {
        if !is_host(host) {
            return Ok(());
        }
        let failure = match self.handshake(stream, host, limit).await {
            Err(failure) => failure,
            // With TLS 1.3 a server looks at the certificate of a client when the client has finished its handshake.
            Ok(mut stream) => match timeout(limit, stream.read(&mut [0])).await {
                Ok(Err(error)) => Failure::of(error, None, WORDING),
                Ok(Ok(_)) | Err(_) => return Ok(()),
            },
        };
        Err(self.unwelcome(failure))
    }

    async fn handshake(&self, stream: TcpStream, host: &str, limit: Duration) -> Result<Encrypted, Failure> {
        let name = ServerName::try_from(host.to_owned());
        let name =
            name.map_err(|error| Failure::of(io::Error::new(io::ErrorKind::InvalidInput, error), None, WORDING))?;
        let connector = TlsConnector::from(self.config.clone());
        match timeout(limit, failure::remembering(connector.connect(name, stream))).await {
            Ok(connected) => connected.map_err(|(error, shown)| Failure::of(error, shown, WORDING)),
            Err(_) => Err(Failure::TooSlow(limit)),
        }
    }

    fn unwelcome(&self, failure: Failure) -> Unwelcome {
        let kind = failure.kind();
        let why = match failure {
            Failure::Gone => "the server ended the connection during the handshake; its log may say why".to_owned(),
            failure => failure.to_string(),
        };
        let may_lack_certificate = self.identity.is_none() && matches!(kind, Kind::Alert | Kind::BrokenOff);
        let may_be_plain = matches!(kind, Kind::BrokenOff | Kind::NoTls | Kind::TooSlow);
        Unwelcome { why, may_lack_certificate, may_be_plain }
    }
}

fn key(settings: &DialTls) -> Result<Option<KeyEntry>, LoadError> {
    let Some(key_store) = &settings.key_store else { return Ok(None) };
    let fault = |problem: String| LoadError::of(key_store, PREFIX, "keyStore", problem);
    let (bytes, password) = contents(key_store, PREFIX, "keyStore")?;
    let entry = store::key_of(&bytes, key_store.kind, &password).map_err(|problem| fault(problem.to_string()))?;
    // Whoever reads the certificate later must be able to.
    Facts::of(&entry.chain[0]).ok_or_else(|| fault("the certificate of its key makes no sense".to_owned()))?;
    Ok(Some(entry))
}

fn trusted_text(entries: &Entries) -> String {
    let lists: String = entries.revoked.iter().map(|list| section("X509 CRL", list)).collect();
    chain_text(&entries.trusted) + &lists
}

fn chain_text(certificates: &[CertificateDer<'static>]) -> String {
    certificates.iter().map(|certificate| section("CERTIFICATE", certificate)).collect()
}

fn key_text(key: &PrivateKeyDer<'_>) -> String {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    section(label, key.secret_der())
}

fn section(label: &str, bytes: &[u8]) -> String {
    const LINE: usize = 64;
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in STANDARD.encode(bytes).as_bytes().chunks(LINE) {
        text.extend(line.iter().copied().map(char::from));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

/// The rules of the library, and a note of the certificate, for a message.
#[derive(Debug)]
struct Noting(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Noting {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        note_shown(end_entity);
        self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::StoreType;
    use super::*;
    use crate::config::Store;

    fn store(name: &str) -> Option<Store> {
        let location = format!("{}/../../tests/fixtures/tls/{name}", env!("CARGO_MANIFEST_DIR"));
        Some(Store::of(location, StoreType::Pem))
    }

    #[test]
    fn what_is_written_is_read_as_what_was_there() {
        let settings = DialTls {
            key_store: store("member.pem"),
            trust_store: store("authority.pem"),
            verifies_servers: true,
            ..DialTls::default()
        };
        let dial = Dial::open(&settings).unwrap();
        let (certificates, secret) = dial.identity().unwrap();
        let file = std::fs::read(settings.key_store.unwrap().location).unwrap();
        let there = store::key_of(&file, StoreType::Pem, "").unwrap();
        let here = store::key_of(format!("{certificates}{secret}").as_bytes(), StoreType::Pem, "").unwrap();
        assert!(here.chain == there.chain && here.key.secret_der() == there.key.secret_der());
        assert_eq!(store::count(dial.trusted().as_bytes(), StoreType::Pem, "").unwrap(), (0, 1));
        assert!(!format!("{dial:?}").contains("BEGIN"));
    }

    #[test]
    fn the_host_of_an_address() {
        assert_eq!(["a.example:1", "[::1]:2281", "a"].map(host_of), ["a.example", "::1", "a"]);
    }

    #[test]
    fn names_that_no_certificate_can_have_are_told_apart() {
        assert!(["localhost", "zoo-1.example.com", "127.0.0.1", "::1"].into_iter().all(is_host));
        assert!(!["", "zoo 1", "a..b", "fe80::1%eth0"].into_iter().any(is_host));
    }
}
