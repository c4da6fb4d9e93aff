//! TLS, in the keys of Spring: `server.ssl.*` for those who connect, `eureka.client.tls.*` for other registries.
//!
//! What always holds here: a file that asks for TLS is never answered with a plain port; what cannot be had is refused with its key.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpStream;

use super::config::Sentence;
use super::spring::canonical;
use crate::config::{ClientAuth, DialTls, Store, Tls};
use crate::net::tls::context::LoadError;
use crate::net::tls::dial::{Dial, Encrypted};
use crate::net::tls::{Protocol, StoreType, suites};

const SERVER: &str = "server.ssl.";
const CLIENT: &str = "eureka.client.tls.";

/// How long a handshake with another registry may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Values as they were given, by the rest of the key.
#[derive(Debug, Default)]
pub(super) struct Keys {
    server: Vec<(String, String, String)>,
    client: Vec<(String, String, String)>,
}

/// What a registry needs to speak TLS.
#[derive(Debug, Clone, Default)]
#[cfg_attr(test, derive(PartialEq))]
pub(super) struct Secure {
    /// For those who connect; none where the port is plain.
    pub server: Option<Tls>,
    /// For other registries whose address begins with `https`.
    pub dial: Option<DialTls>,
}

impl Keys {
    /// Takes a key that is one of these. Empty values count as none.
    pub fn take(&mut self, key: &str, value: &str) -> bool {
        for (prefix, taken) in [(SERVER, &mut self.server), (CLIENT, &mut self.client)] {
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
        let server = Side { prefix: SERVER, values: &self.server };
        let client = Side { prefix: CLIENT, values: &self.client };
        server.refuse_files("certificate", "certificateprivatekey")?;
        server.refuse_bundles()?;
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
        server.name_unknown(
            &[&OF_STORES[..], &["clientauth", "enabledprotocols", "ciphers", "protocol"]].concat(),
            notices,
        );
        client.name_unknown(&OF_STORES, notices);
        let dial = client.enabled()?.then_some(&client);
        let store = |which| match dial.map(|client| client.store(which)).transpose()?.flatten() {
            Some(store) => Ok(Some(store)),
            None => server.store(which),
        };
        let dial = DialTls {
            key_store: store("keystore")?,
            key_file: None,
            trust_store: store("truststore")?,
            verifies_servers: true,
            checks_revocation: false,
            revocation_lists: None,
        };
        Ok(Secure { server: server.tls()?, dial: Some(dial).filter(|dial| dial.trust_store.is_some()) })
    }
}

/// The keys of one side.
struct Side<'a> {
    prefix: &'static str,
    values: &'a [(String, String, String)],
}

impl Side<'_> {
    /// The key as it was written, and its value. A later one wins.
    fn get(&self, name: &str) -> Option<(&str, &str)> {
        let found = self.values.iter().rev().find(|(rest, ..)| rest == name);
        found.map(|(_, key, value)| (key.as_str(), value.as_str()))
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

    fn name_unknown(&self, known: &[&str], notices: &mut Vec<Sentence>) {
        for (_, key, _) in self.values.iter().filter(|(rest, ..)| !known.contains(&rest.as_str())) {
            notices.push(format!("{key} is not known here and has no effect"));
        }
    }

    /// Spring's other ways to name keys and certificates.
    fn refuse_files(&self, certificate: &str, key: &str) -> Result<(), Sentence> {
        match self.get(certificate).or_else(|| self.get(key)) {
            Some((key, _)) if self.enabled()? => Err(format!(
                "{key}: put the key and its certificates into one PEM file, and name it in {}key-store with {0}key-store-type=PEM",
                self.prefix
            )),
            _ => Ok(()),
        }
    }

    fn refuse_bundles(&self) -> Result<(), Sentence> {
        match self.get("bundle") {
            Some((key, _)) if self.enabled()? => Err(format!(
                "{key}: bundles are not supported; name the files in {}key-store and {0}trust-store",
                self.prefix
            )),
            _ => Ok(()),
        }
    }

    fn store(&self, which: &str) -> Result<Option<Store>, Sentence> {
        let Some((key, place)) = self.get(which) else { return Ok(None) };
        let location = match place.split_once(':') {
            Some(("file", path)) => path.trim_start_matches("//"),
            Some(("classpath", _)) => {
                return Err(format!("{key} is {place:?}, but there is no class path here: name a file"));
            }
            _ => place,
        };
        let kind = match self.get(&format!("{which}type")) {
            Some((key, name)) => match StoreType::of_name(name) {
                Some(Ok(kind)) => kind,
                _ => return Err(format!("{key} is {name:?}, but must be PEM, PKCS12 or JKS")),
            },
            None => match StoreType::of_file(location) {
                Some(Ok(kind)) => kind,
                _ => return Err(format!("{key} is {place:?}: say with {key}-type whether it is PEM, PKCS12 or JKS")),
            },
        };
        let password = self.get(&format!("{which}password")).map(|(_, password)| password.to_owned());
        Ok(Some(Store { location: PathBuf::from(location), kind, password, password_path: None }))
    }

    fn tls(&self) -> Result<Option<Tls>, Sentence> {
        if !self.enabled()? {
            return Ok(None);
        }
        let Some(key_store) = self.store("keystore")? else {
            return Err(format!(
                "{0}key-store is missing: name a file with the key of this server and its certificates",
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
        let protocols = match self.get("enabledprotocols") {
            None => Protocol::ALL.to_vec(),
            Some((key, names)) => {
                let known: Vec<Protocol> = names.split(',').filter_map(|name| Protocol::of_name(name.trim())).collect();
                if known.is_empty() {
                    return Err(format!("{key} is {names:?}, but must be TLSv1.2, TLSv1.3 or both"));
                }
                known
            }
        };
        let suites = match self.get("ciphers") {
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
    let text = error.to_string();
    let (side, prefix) = if text.contains(DialTls::PREFIX) { (DialTls::PREFIX, CLIENT) } else { (SERVER, SERVER) };
    ["key", "trust"].into_iter().fold(text, |text, which| {
        text.replace(&format!("{side}{which}Store.location"), &format!("{prefix}{which}-store"))
            .replace(&format!("{side}{which}Store"), &format!("{prefix}{which}-store"))
    })
}

/// How other registries are dialled with TLS. The files are read for each connection, of which there are few, so that exchanged ones count.
#[derive(Debug)]
pub(super) struct Dialer {
    settings: DialTls,
    last: Mutex<Arc<Dial>>,
}

impl Dialer {
    /// Reads the files.
    pub async fn open(settings: DialTls) -> Result<Dialer, Sentence> {
        let dial = open(settings.clone()).await?;
        Ok(Dialer { settings, last: Mutex::new(Arc::new(dial)) })
    }

    pub async fn secure(&self, stream: TcpStream, host: &str) -> Result<Encrypted, Sentence> {
        // Files that are just being exchanged can't be read: those from before are good for another connection.
        if let Ok(dial) = open(self.settings.clone()).await {
            *self.last.lock() = Arc::new(dial);
        }
        let dial = self.last.lock().clone();
        dial.secure(stream, host, HANDSHAKE_LIMIT).await.map_err(|unwelcome| unwelcome.why)
    }
}

async fn open(settings: DialTls) -> Result<Dial, Sentence> {
    let opening = tokio::task::spawn_blocking(move || Dial::open(&settings)).await;
    opening.map_err(|error| error.to_string())?.map_err(|error| sentence(&error))
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
    fn nothing_is_plain_that_was_to_be_secure() {
        for (pairs, said) in [
            (&[("server.ssl.enabled", "true")][..], "server.ssl.key-store is missing"),
            (&[("server.ssl.trust-store", "t.pem")], "server.ssl.key-store is missing"),
            (&[("server.ssl.certificate", "c.pem")], "one PEM file"),
            (&[("server.ssl.bundle", "web")], "bundles are not supported"),
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
