//! TLS, in the keys of Spring: `server.ssl.*` for those who connect, `eureka.client.tls.*` for other registries. Keys and certificates are in a store,
//! in files of PEM, or in a bundle (`spring.ssl.bundle.*`) of either. `registry.consistent.tls.*`, with stores, are for the ensemble that has the consistent services.
//!
//! What always holds here: a file that asks for TLS is never answered with a plain port; what cannot be had is refused with its key.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::config::Sentence;
use super::spring::canonical;
use crate::config::{ClientAuth, DialTls, Named, Store, Tls};
use crate::net::tls::context::LoadError;
use crate::net::tls::dial::{Dial, Encrypted};
use crate::net::tls::{Protocol, StoreType, suites};

const SERVER: &str = "server.ssl.";
const CLIENT: &str = "eureka.client.tls.";
const ENSEMBLE: &str = "registry.consistent.tls.";
const BUNDLES: &str = "spring.ssl.bundle.";

/// How long a handshake with another registry may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// A value as it was given: the rest of its key as keys are compared, the key as it was written, the value.
type Given = (String, String, String);

/// What was given.
#[derive(Debug, Default)]
pub(super) struct Keys {
    server: Vec<Given>,
    client: Vec<Given>,
    ensemble: Vec<Given>,
    bundles: Vec<Given>,
}

/// What a registry needs to speak TLS.
#[derive(Debug, Clone, Default)]
#[cfg_attr(test, derive(PartialEq))]
pub(super) struct Secure {
    /// For those who connect; none where the port is plain.
    pub server: Option<Tls>,
    /// For other registries whose address begins with `https`.
    pub dial: Option<DialTls>,
    /// For the servers of an ensemble; none where they are dialled without TLS.
    pub ensemble: Option<DialTls>,
}

impl Keys {
    /// Takes a key that is one of these. Empty values count as none.
    pub fn take(&mut self, key: &str, value: &str) -> bool {
        let sides = [
            (SERVER, &mut self.server),
            (CLIENT, &mut self.client),
            (ENSEMBLE, &mut self.ensemble),
            (BUNDLES, &mut self.bundles),
        ];
        for (prefix, taken) in sides {
            if let Some(rest) = canonical(key).strip_prefix(prefix) {
                if !value.trim().is_empty() {
                    taken.push((rest.to_owned(), key.to_owned(), value.trim().to_owned()));
                }
                return true;
            }
        }
        false
    }

    /// What all of them say together.
    pub fn read(self, notices: &mut Vec<Sentence>) -> Result<Secure, Sentence> {
        let bundle = named_last(&self.server, "bundle").map(|(key, name)| Bundle::find(&self.bundles, key, name));
        let server = Side { prefix: SERVER, values: &self.server, bundle: bundle.transpose()? };
        let client = Side { prefix: CLIENT, values: &self.client, bundle: None };
        let ensemble = Side { prefix: ENSEMBLE, values: &self.ensemble, bundle: None };
        const OF_STORES: [&str; 8] = [
            "enabled",
            "keystore",
            "keystorepassword",
            "keystoretype",
            "keypassword",
            "truststore",
            "truststorepassword",
            "truststoretype",
        ];
        const OF_SERVERS: [&str; 8] = [
            "clientauth",
            "enabledprotocols",
            "ciphers",
            "protocol",
            "bundle",
            "certificate",
            "certificateprivatekey",
            "trustcertificate",
        ];
        name_unknown(server.values, &[OF_STORES, OF_SERVERS].concat(), notices);
        name_unknown(client.values, &OF_STORES, notices);
        name_unknown(ensemble.values, &OF_STORES, notices);
        if let Some(bundle) = &server.bundle {
            name_unknown(&bundle.values, bundle.known(), notices);
        }
        let dial = client.enabled()?.then_some(&client);
        let store = |which| match dial.map(|client| client.store(which)).transpose()?.flatten() {
            Some(store) => Ok(Some(store)),
            None => server.store(which),
        };
        let dial = |key_store, trust_store: Option<Store>| DialTls {
            key_store,
            trust_store,
            verifies_servers: true,
            checks_revocation: false,
            revocation_lists: None,
        };
        let of_ensemble = match (ensemble.enabled()?, ensemble.store("truststore")?) {
            (false, _) => None,
            (true, Some(trust_store)) => Some(dial(ensemble.store("keystore")?, Some(trust_store))),
            (true, None) => {
                return Err(format!(
                    "{ENSEMBLE}trust-store is missing: name a file with the certificates that are trusted of the ensemble's servers"
                ));
            }
        };
        Ok(Secure {
            server: server.tls()?,
            dial: Some(dial(store("keystore")?, store("truststore")?)).filter(|dial| dial.trust_store.is_some()),
            ensemble: of_ensemble,
        })
    }
}

/// The key as it was written, and its value. A later one wins.
fn named_last<'a>(values: &'a [Given], name: &str) -> Option<(&'a str, &'a str)> {
    let found = values.iter().rev().find(|(rest, ..)| rest == name);
    found.map(|(_, key, value)| (key.as_str(), value.as_str()))
}

fn name_unknown(values: &[Given], known: &[&str], notices: &mut Vec<Sentence>) {
    for (_, key, _) in values.iter().filter(|(rest, ..)| !known.contains(&rest.as_str())) {
        notices.push(format!("{key} is not known here and has no effect"));
    }
}

/// The keys of one side.
struct Side<'a> {
    prefix: &'static str,
    values: &'a [Given],
    /// Counts more than stores and files.
    bundle: Option<Bundle>,
}

/// The keys of one bundle.
struct Bundle {
    values: Vec<Given>,
    is_pem: bool,
}

impl Bundle {
    /// `key`: where the name stands.
    fn find(all: &[Given], key: &str, name: &str) -> Result<Bundle, Sentence> {
        for (kind, is_pem) in [("pem", true), ("jks", false)] {
            let prefix = format!("{kind}.{}.", canonical(name));
            let of = |(rest, key, value): &Given| {
                rest.strip_prefix(&prefix).map(|rest| (rest.to_owned(), key.clone(), value.clone()))
            };
            let values: Vec<Given> = all.iter().filter_map(of).collect();
            if !values.is_empty() {
                return Ok(Bundle { values, is_pem });
            }
        }
        Err(format!("{key} names the bundle {name}, and no key begins with {BUNDLES}pem.{name} or {BUNDLES}jks.{name}"))
    }

    fn get(&self, name: &str) -> Option<(&str, &str)> {
        named_last(&self.values, name)
    }

    fn known(&self) -> &'static [&'static str] {
        match self.is_pem {
            true => &[
                "keystore.type",
                "keystore.certificate",
                "keystore.privatekey",
                "keystore.privatekeypassword",
                "truststore.type",
                "truststore.certificate",
                "options.ciphers",
                "options.enabledprotocols",
                "protocol",
                "reloadonupdate",
            ],
            false => &[
                "keystore.type",
                "keystore.location",
                "keystore.password",
                "key.password",
                "truststore.type",
                "truststore.location",
                "truststore.password",
                "options.ciphers",
                "options.enabledprotocols",
                "protocol",
                "reloadonupdate",
            ],
        }
    }

    fn store(&self, which: &str) -> Result<Option<Store>, Sentence> {
        let get = |name: &str| self.get(&format!("{which}.{name}"));
        match self.is_pem {
            true => pem(get("certificate"), get("privatekey"), get("privatekeypassword")),
            // Java's default is a store of its own.
            false => {
                let kind = Some(get("type").unwrap_or(("", "JKS")));
                java(get("location"), kind, get("password"), &format!("{which}.type"))
            }
        }
    }
}

/// What a value names.
enum Content<'a> {
    File(&'a str),
    /// It stands there itself, in PEM.
    Text(String),
}

impl Content<'_> {
    fn of<'a>(key: &str, value: &'a str) -> Result<Content<'a>, Sentence> {
        if value.contains("-----BEGIN ") {
            return Ok(Content::Text(value.to_owned()));
        }
        match value.split_once(':') {
            Some(("file", path)) => Ok(Content::File(path.trim_start_matches("//"))),
            Some(("classpath", _)) => Err(format!("{key} is {value:?}, but there is no class path here: name a file")),
            Some(("base64", text)) => {
                let bytes = BASE64_STANDARD.decode(text.trim()).map_err(|_| format!("{key} is no base64"))?;
                let text = String::from_utf8(bytes).ok().filter(|text| text.contains("-----BEGIN "));
                text.map(Content::Text).ok_or_else(|| format!("{key} is no PEM in base64: name a file"))
            }
            _ => Ok(Content::File(value)),
        }
    }
}

/// Certificates in PEM, and the key where there is one.
fn pem(
    certificate: Option<(&str, &str)>,
    private_key: Option<(&str, &str)>,
    password: Option<(&str, &str)>,
) -> Result<Option<Store>, Sentence> {
    let Some((setting, value)) = certificate else {
        return match private_key {
            Some((key, _)) => Err(format!("{key} names a key without certificates")),
            None => Ok(None),
        };
    };
    let mut store = Store::of("", StoreType::Pem);
    store.setting = Some(setting.to_owned());
    store.password = password.map(|(_, password)| password.to_owned());
    match Content::of(setting, value)? {
        Content::File(path) => store.location = PathBuf::from(path),
        Content::Text(text) => store.text = text,
    }
    if let Some((setting, value)) = private_key {
        match Content::of(setting, value)? {
            Content::File(path) => {
                store.key_file = Some(Named { path: PathBuf::from(path), setting: setting.to_owned() });
            }
            Content::Text(text) => {
                store.text.push('\n');
                store.text.push_str(&text);
            }
        }
    }
    Ok(Some(store))
}

/// A store in a file. `type_key`: what to set where nothing says what it is.
fn java(
    location: Option<(&str, &str)>,
    kind: Option<(&str, &str)>,
    password: Option<(&str, &str)>,
    type_key: &str,
) -> Result<Option<Store>, Sentence> {
    let Some((key, place)) = location else { return Ok(None) };
    let Content::File(location) = Content::of(key, place)? else {
        return Err(format!("{key} is a text, but must name a file"));
    };
    let kind = match kind {
        Some((key, name)) => match StoreType::of_name(name) {
            Some(Ok(kind)) => kind,
            _ => return Err(format!("{key} is {name:?}, but must be PEM, PKCS12 or JKS")),
        },
        None => match StoreType::of_file(location) {
            Some(Ok(kind)) => kind,
            _ => return Err(format!("{key} is {place:?}: say with {type_key} whether it is PEM, PKCS12 or JKS")),
        },
    };
    let password = password.map(|(_, password)| password.to_owned());
    Ok(Some(Store { password, setting: Some(key.to_owned()), ..Store::of(location, kind) }))
}

impl Side<'_> {
    fn get(&self, name: &str) -> Option<(&str, &str)> {
        named_last(self.values, name)
    }

    /// An option that a bundle may have, too.
    fn option(&self, name: &str) -> Option<(&str, &str)> {
        self.bundle.as_ref().and_then(|bundle| bundle.get(&format!("options.{name}"))).or_else(|| self.get(name))
    }

    fn enabled(&self) -> Result<bool, Sentence> {
        match self.get("enabled") {
            None => Ok(!self.values.is_empty()),
            Some((key, value)) => match value.to_ascii_lowercase().as_str() {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(format!("{key} is {value:?}, but must be true or false")),
            },
        }
    }

    /// `which`: `keystore` or `truststore`.
    fn store(&self, which: &str) -> Result<Option<Store>, Sentence> {
        if let Some(bundle) = &self.bundle {
            return bundle.store(which);
        }
        let files = match which {
            "keystore" => {
                let password = self.get("keypassword").or_else(|| self.get("keystorepassword"));
                pem(self.get("certificate"), self.get("certificateprivatekey"), password)?
            }
            _ => pem(self.get("trustcertificate"), None, None)?,
        };
        if files.is_some() {
            return Ok(files);
        }
        let get = |name: &str| self.get(&format!("{which}{name}"));
        let location = self.get(which);
        let type_key = location.map(|(key, _)| format!("{key}-type")).unwrap_or_default();
        java(location, get("type"), get("password"), &type_key)
    }

    fn tls(&self) -> Result<Option<Tls>, Sentence> {
        if !self.enabled()? {
            return Ok(None);
        }
        let Some(key_store) = self.store("keystore")? else {
            return Err(format!(
                "{0}key-store is missing: name a file with the key of this server and its certificates, or set {0}certificate and \
                 {0}certificate-private-key, or {0}bundle",
                self.prefix
            ));
        };
        let trust_store = self.store("truststore")?;
        let client_auth = match self.get("clientauth") {
            None => ClientAuth::None,
            Some((key, value)) => match value.to_ascii_lowercase().as_str() {
                "none" => ClientAuth::None,
                "want" => ClientAuth::Want,
                "need" => ClientAuth::Need,
                _ => return Err(format!("{key} is {value:?}, but must be none, want or need")),
            },
        };
        if client_auth != ClientAuth::None && trust_store.is_none() {
            return Err(format!(
                "{0}client-auth asks for certificates, and none is trusted: name a file in {0}trust-store",
                self.prefix
            ));
        }
        let protocols = match self.option("enabledprotocols") {
            None => Protocol::ALL.to_vec(),
            Some((key, names)) => {
                let known: Vec<Protocol> = names.split(',').filter_map(|name| Protocol::of_name(name.trim())).collect();
                if known.is_empty() {
                    return Err(format!("{key} is {names:?}, but must be TLSv1.2, TLSv1.3 or both"));
                }
                known
            }
        };
        let suites = match self.option("ciphers") {
            None => Vec::new(),
            Some((key, names)) => {
                let (known, unknown) = suites::sort(names.split([',', ':']));
                if !unknown.is_empty() || !suites::fit(&known, &protocols) {
                    return Err(format!("{key}: these suites are known here: {}", suites::all_names()));
                }
                known
            }
        };
        Ok(Some(Tls {
            key_store,
            trust_store,
            client_auth,
            protocols,
            suites,
            verifies_servers: true,
            // Clients come from anywhere.
            verifies_clients: false,
            looks_up_names: false,
            checks_revocation: false,
            revocation_lists: None,
            detection_limit: Duration::from_secs(5),
            reloads: true,
            resumes: true,
            prefix: SERVER,
        }))
    }
}

/// The sentence about a file that can't be used, with Spring's names of keys.
pub(super) fn sentence(error: &LoadError) -> Sentence {
    in_springs_words(&error.to_string())
}

/// A sentence about TLS with Spring's names of keys.
pub(crate) fn in_springs_words(text: &str) -> Sentence {
    const NAMES: [(&str, &str); 5] = [
        ("keyStore.location", "key-store"),
        ("trustStore.location", "trust-store"),
        ("keyStore", "key-store"),
        ("trustStore", "trust-store"),
        ("enabledProtocols", "enabled-protocols"),
    ];
    let mut text = text
        .replace(&format!(", or set {}hostnameVerification=false", DialTls::PREFIX), "")
        .replace(DialTls::PREFIX, CLIENT);
    for prefix in [SERVER, CLIENT] {
        for (name, of_spring) in NAMES {
            text = text.replace(&format!("{prefix}{name}"), &format!("{prefix}{of_spring}"));
        }
        text = text.replace(&format!("{prefix}ciphersuites"), &format!("{prefix}ciphers"));
    }
    text
}

/// How others are dialled with TLS. The files are read for each connection, of which there are few, so that exchanged ones count.
#[derive(Debug)]
pub(super) struct Dialer {
    settings: DialTls,
    /// What the keys begin with that say so.
    prefix: &'static str,
    last: Mutex<Arc<Dial>>,
}

impl Dialer {
    /// Reads the files for other registries.
    pub async fn to_registries(settings: DialTls) -> Result<Dialer, Sentence> {
        Dialer::open(settings, CLIENT).await
    }

    /// Reads the files for an ensemble.
    pub async fn to_ensemble(settings: DialTls) -> Result<Dialer, Sentence> {
        Dialer::open(settings, ENSEMBLE).await
    }

    async fn open(settings: DialTls, prefix: &'static str) -> Result<Dialer, Sentence> {
        let dial = read_files(settings.clone(), prefix).await?;
        Ok(Dialer { settings, prefix, last: Mutex::new(Arc::new(dial)) })
    }

    pub async fn secure(&self, stream: TcpStream, host: &str) -> Result<Encrypted, Sentence> {
        // Files that are just being exchanged can't be read: those from before are good for another connection.
        if let Ok(dial) = read_files(self.settings.clone(), self.prefix).await {
            *self.last.lock() = Arc::new(dial);
        }
        let dial = self.last.lock().clone();
        let secured = dial.secure(stream, host, HANDSHAKE_LIMIT).await;
        secured.map_err(|unwelcome| in_words_of(self.prefix, &unwelcome.why))
    }
}

async fn read_files(settings: DialTls, prefix: &'static str) -> Result<Dial, Sentence> {
    let opening = tokio::task::spawn_blocking(move || Dial::open(&settings)).await;
    opening.map_err(|error| error.to_string())?.map_err(|error| in_words_of(prefix, &error.to_string()))
}

/// A sentence about dialling with the names of keys that say how.
fn in_words_of(prefix: &str, text: &str) -> Sentence {
    in_springs_words(text).replace(CLIENT, prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<(Secure, Vec<Sentence>), Sentence> {
        let (mut keys, mut notices) = (Keys::default(), Vec::new());
        for (key, value) in pairs {
            assert!(keys.take(key, value), "{key}");
        }
        keys.read(&mut notices).map(|secure| (secure, notices))
    }

    #[test]
    fn the_keys_of_spring_are_understood() {
        let (secure, notices) = read(&[
            ("server.ssl.key-store", "file:/keys/here.p12"),
            ("server.ssl.keyStorePassword", "secret"),
            ("server.ssl.trust-store", "/keys/trusted"),
            ("server.ssl.trust-store-type", "PEM"),
            ("server.ssl.client-auth", "want"),
            ("server.ssl.server-name-bundles", "x"),
            ("eureka.client.tls.enabled", "true"),
            ("eureka.client.tls.key-store", "/keys/to-others.pem"),
        ])
        .unwrap();
        let (server, dial) = (secure.server.unwrap(), secure.dial.unwrap());
        assert_eq!(server.key_store.location, PathBuf::from("/keys/here.p12"));
        assert_eq!((server.key_store.kind, server.key_store.password.as_deref()), (StoreType::Java, Some("secret")));
        assert_eq!(server.client_auth, ClientAuth::Want);
        // Others are trusted as those who connect, where nothing else is said.
        assert_eq!(dial.trust_store.unwrap().location, PathBuf::from("/keys/trusted"));
        assert_eq!(dial.key_store.unwrap().location, PathBuf::from("/keys/to-others.pem"));
        assert_eq!(notices, ["server.ssl.server-name-bundles is not known here and has no effect"]);
    }

    #[test]
    fn keys_and_certificates_may_be_files_and_texts() {
        const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----";
        let (secure, notices) = read(&[
            ("server.ssl.certificate", "file:/keys/here.crt"),
            ("server.ssl.certificate-private-key", "/keys/here.key"),
            ("server.ssl.trust-certificate", CERTIFICATE),
        ])
        .unwrap();
        assert!(notices.is_empty(), "{notices:?}");
        let server = secure.server.unwrap();
        let (keys, trust) = (server.key_store, server.trust_store.unwrap());
        assert_eq!((keys.location.to_str(), keys.kind), (Some("/keys/here.crt"), StoreType::Pem));
        let key_file = Named { path: "/keys/here.key".into(), setting: "server.ssl.certificate-private-key".into() };
        assert_eq!(keys.key_file, Some(key_file));
        assert_eq!((trust.files().count(), trust.text.as_str()), (0, CERTIFICATE));
        // What it shows to other registries, and whom it trusts there, is the same.
        assert_eq!(secure.dial.unwrap().trust_store.unwrap().text, CERTIFICATE);

        let text = format!("base64:{}", BASE64_STANDARD.encode(CERTIFICATE));
        let (secure, _) = read(&[("server.ssl.certificate", &text)]).unwrap();
        assert_eq!(secure.server.unwrap().key_store.text, CERTIFICATE);
    }

    #[test]
    fn sentences_name_the_keys_of_spring() {
        for (said, told) in [
            ("put it into zookeeper.ssl.trustStore.location, and", "put it into eureka.client.tls.trust-store, and"),
            ("(server.ssl.keyStore.location)", "(server.ssl.key-store)"),
            ("for that host too, or set zookeeper.ssl.hostnameVerification=false", "for that host too"),
            (
                "compare server.ssl.enabledProtocols and server.ssl.ciphersuites",
                "compare server.ssl.enabled-protocols and server.ssl.ciphers",
            ),
            ("(server.ssl.certificate)", "(server.ssl.certificate)"),
        ] {
            assert_eq!(in_springs_words(said), told);
        }
    }

    #[test]
    fn a_bundle_counts_more_than_files_beside_it() {
        let pem = "spring.ssl.bundle.pem.my-web.";
        let keys = ["keystore.certificate", "keystore.private-key", "options.enabled-protocols", "key.alias"];
        let [certificate, key, protocols, alias] = keys.map(|key| format!("{pem}{key}"));
        let (secure, notices) = read(&[
            ("server.ssl.bundle", "myWeb"),
            ("server.ssl.key-store", "other.p12"),
            ("server.ssl.enabled-protocols", "TLSv1.2"),
            (&certificate, "a.crt"),
            (&key, "a.key"),
            (&protocols, "TLSv1.3"),
            (&alias, "one"),
            ("spring.ssl.bundle.pem.others.keystore.certificate", "b.crt"),
        ])
        .unwrap();
        assert_eq!(notices, ["spring.ssl.bundle.pem.my-web.key.alias is not known here and has no effect"]);
        let server = secure.server.unwrap();
        assert_eq!(server.protocols, [Protocol::Tls13]);
        assert_eq!(server.key_store.location.to_str(), Some("a.crt"));
        assert_eq!(server.key_store.key_file.unwrap().path.to_str(), Some("a.key"));

        let (secure, _) = read(&[
            ("server.ssl.bundle", "web"),
            ("spring.ssl.bundle.jks.web.keystore.location", "a.store"),
            ("spring.ssl.bundle.jks.web.keystore.password", "secret"),
            ("spring.ssl.bundle.jks.web.truststore.location", "file:t.store"),
        ])
        .unwrap();
        let keys = secure.server.unwrap().key_store;
        assert_eq!((keys.kind, keys.password.as_deref()), (StoreType::Java, Some("secret")));
        assert_eq!(secure.dial.unwrap().trust_store.unwrap().location.to_str(), Some("t.store"));
    }

    #[test]
    fn nothing_is_plain_that_was_to_be_secure() {
        for (pairs, said) in [
            (&[("server.ssl.enabled", "true")][..], "server.ssl.key-store is missing"),
            (&[("server.ssl.trust-store", "t.pem")], "server.ssl.key-store is missing"),
            (&[("server.ssl.certificate-private-key", "k.pem")], "a key without certificates"),
            (&[("server.ssl.certificate", "classpath:c.pem")], "no class path"),
            (&[("server.ssl.certificate", "base64:AAAA")], "no PEM"),
            (&[("server.ssl.bundle", "web")], "server.ssl.bundle names the bundle web"),
            (&[("server.ssl.bundle", "web"), ("spring.ssl.bundle.pem.other.keystore.certificate", "c")], "bundle web"),
            (&[("server.ssl.bundle", "web"), ("spring.ssl.bundle.pem.web.truststore.certificate", "c")], "is missing"),
            (&[("server.ssl.bundle", "web"), ("spring.ssl.bundle.jks.web.keystore.type", "BCFKS")], "is missing"),
            (&[("server.ssl.key-store", "classpath:k.p12")], "no class path"),
            (&[("server.ssl.key-store", "keys")], "server.ssl.key-store-type"),
            (&[("server.ssl.key-store", "k.pem"), ("server.ssl.client-auth", "need")], "server.ssl.trust-store"),
            (&[("server.ssl.key-store", "k.pem"), ("server.ssl.client-auth", "perhaps")], "none, want or need"),
            (&[("server.ssl.key-store", "k.pem"), ("server.ssl.enabled-protocols", "SSLv3")], "TLSv1.2"),
            (&[("server.ssl.key-store", "k.pem"), ("server.ssl.ciphers", "NULL")], "these suites are known"),
        ] {
            let error = read(pairs).unwrap_err();
            assert!(error.contains(said), "{pairs:?}: {error}");
        }
        let (off, _) = read(&[("server.ssl.enabled", "false"), ("server.ssl.key-store", "k.pem")]).unwrap();
        assert!(off.server.is_none());
        assert!(read(&[]).unwrap().0.server.is_none());
    }
}
