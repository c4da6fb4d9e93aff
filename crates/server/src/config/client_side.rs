//! What a client of an ensemble is told: whether it speaks TLS and with what, and as whom it comes in.
//!
//! It is read as zkCli reads it: `-D` options in `CLIENT_JVMFLAGS` and `JVMFLAGS`, over them the properties of the file that
//! `-client-configuration` names, and the JAAS file; over all of them the flags of our own. What always holds: what is asked for and can't be had is
//! refused by name, above all where a client would come in less safely than its user wants; no password is shown.
//!
//! Counterparts in the original: `ZKClientConfig`, `ZooKeeperMain`, `ZooKeeperSaslClient`.

use std::fmt;
use std::path::{Path, PathBuf};

use super::ensemble::ReadFile;
use super::error::{ConfigError, Fault, Notice, Place, excerpt};
use super::kerberos::KERBEROS_LOGIN;
use super::sasl::JaasFile;
use super::settings::{Found, Settings};
use super::tls::{DialTls, Named, Store};
use super::{Environment, properties, read_bounded};
use crate::net::tls::StoreType;

/// What the user of a client says in flags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientFlags {
    /// A file of properties: `-client-configuration`.
    pub properties: Option<PathBuf>,
    /// Whether TLS is spoken, whatever the properties say.
    pub tls: bool,
    /// Whose certificates are trusted: PEM, PKCS#12 or JKS.
    pub authorities: Option<PathBuf>,
    /// What the client shows: its certificates, with their key unless that stands in `key`.
    pub certificate: Option<PathBuf>,
    /// The key of the certificates; then both are PEM.
    pub key: Option<PathBuf>,
    /// A file with the password of these files.
    pub store_password: Option<PathBuf>,
    /// Whether a server may show the certificate of another host.
    pub any_host: bool,
}

impl ClientFlags {
    /// Whether one of them is about TLS; then it is spoken.
    fn want_tls(&self) -> bool {
        self.tls || self.authorities.is_some() || self.certificate.is_some() || self.key.is_some() || self.any_host
    }
}

/// How a client comes in.
#[derive(Clone, Default)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct ClientSide {
    /// None where TLS is not spoken.
    pub tls: Option<DialTls>,
    /// User and password of SASL; none where the client says nothing of itself.
    pub login: Option<(String, String)>,
}

impl fmt::Debug for ClientSide {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.login.as_ref().map(|(user, _)| user);
        formatter.debug_struct("ClientSide").field("tls", &self.tls).field("user", &user).finish()
    }
}

impl ClientSide {
    /// Reads what the user says. The notices are for the user, in the order in which they came up. `has_user` says that the user is named by a flag:
    /// then the JAAS file is not asked.
    pub fn load(
        flags: &ClientFlags,
        has_user: bool,
        environment: &Environment,
    ) -> Result<(ClientSide, Vec<Notice>), ConfigError> {
        ClientSide::load_with(flags, has_user, environment, &read_bounded)
    }

    fn load_with(
        flags: &ClientFlags,
        has_user: bool,
        environment: &Environment,
        read_file: ReadFile<'_>,
    ) -> Result<(ClientSide, Vec<Notice>), ConfigError> {
        let mut notices = Vec::new();
        let options = environment.client_flags(&mut notices);
        let mut found: Vec<Found> = options.iter().map(Found::from).collect();
        if let Some(path) = &flags.properties {
            found.extend(of_file(path, read_file)?);
        }
        // The names in the file are those of options, so they are recognised as such.
        let settings = Settings::gather(found, Vec::new(), notices)?;
        let login = match has_user || !settings.flag("sasl.client") {
            true => None,
            false => login(&settings, JaasFile::read(&settings, environment, &options, read_file)?)?,
        };
        let tls = match settings.flag("client.secure") || flags.want_tls() {
            true => Some(with_flags(DialTls::read(&settings)?, flags, read_file)?),
            false => None,
        };
        Ok((ClientSide { tls, login }, settings.into_notices()))
    }
}

fn of_file(path: &Path, read_file: ReadFile<'_>) -> Result<Vec<Found>, ConfigError> {
    let name = path.display().to_string();
    let bytes = read_file(path).map_err(|error| {
        let problem = format!("-client-configuration: {name} cannot be read: {error}");
        Fault::new(problem, "It must be a file of properties, such as zookeeper.client.secure=true.")
    })?;
    let found = |property: properties::Property| Found {
        name: property.key,
        value: property.value,
        place: Place::Line { file: name.clone(), line: property.line },
    };
    Ok(properties::parse(&name, &bytes)?.into_iter().map(found).collect())
}

/// The user that the JAAS file names. Without a section that was asked for by name, a client comes in as nobody, as in the original.
fn login(settings: &Settings, jaas: Option<JaasFile>) -> Result<Option<(String, String)>, ConfigError> {
    let named = settings.setting("sasl.clientconfig");
    let name = settings.text("sasl.clientconfig").unwrap_or("Client");
    let missing = |place: &str| {
        let problem = format!("No JAAS configuration section named '{}' was found{place}.", excerpt(name));
        let remedy =
            "Let java.security.auth.login.config name the JAAS file that has it, or set zookeeper.sasl.client=false.";
        named.map(|setting| ConfigError::from(setting.fault(problem, remedy)))
    };
    let Some(jaas) = jaas else { return missing("").map_or(Ok(None), Err) };
    let Some(section) = jaas.section(name) else {
        let file = &jaas.name;
        if let Some(error) = missing(&format!(" in '{file}'")) {
            return Err(error);
        }
        settings.warn(format!("{file} has no section {name}, so this client comes in without SASL"));
        return Ok(None);
    };
    if let Some(module) = section.modules.iter().find(|module| module.class == KERBEROS_LOGIN) {
        let problem = format!("section {} logs in by Kerberos", excerpt(name));
        let remedy = "This client knows users with passwords: name one in the section, with \
                      org.apache.zookeeper.server.auth.DigestLoginModule; or come in with a certificate, and set zookeeper.sasl.client=false; or use \
                      zkCli.";
        let place = Place::Line { file: jaas.name.clone(), line: module.line };
        return Err(ConfigError::Unsupported(Fault::new(problem, remedy).at(&place)));
    }
    let (user, password) = jaas.user_and_password(section)?;
    Ok(Some((user.to_owned(), password.to_owned())))
}

/// Flags count more than properties.
fn with_flags(mut tls: DialTls, flags: &ClientFlags, read_file: ReadFile<'_>) -> Result<DialTls, ConfigError> {
    let store = |flag: &str, path: &PathBuf| {
        let bytes = read_file(path).map_err(|error| {
            let problem = format!("{flag} {} cannot be read: {error}", path.display());
            Fault::new(problem, "It must be a file of the type PEM, PKCS12 or JKS.")
        })?;
        let kind = StoreType::of_contents(&bytes);
        let password_path = flags.store_password.clone();
        Ok::<_, ConfigError>(Store { password_path, ..Store::of(path, kind) })
    };
    if let Some(path) = &flags.authorities {
        tls.trust_store = Some(store("--tls-ca", path)?);
    }
    match (&flags.certificate, &flags.key) {
        (None, None) => {}
        (None, Some(_)) => {
            let remedy = "Name the file with its certificates too: --tls-cert FILE.";
            return Err(Fault::new("--tls-key names a key without certificates", remedy).into());
        }
        (Some(path), key) => {
            let key_file = key.clone().map(|path| Named { path, setting: "--tls-key".to_owned() });
            tls.key_store = Some(Store { key_file, ..store("--tls-cert", path)? });
        }
    }
    tls.verifies_servers &= !flags.any_host;
    if tls.trust_store.is_none() {
        let remedy = "Name a file with the certificates of the authorities that are trusted: --tls-ca FILE, or zookeeper.ssl.trustStore.location.";
        return Err(Fault::new("TLS is wanted, and no server is trusted", remedy).into());
    }
    Ok(tls)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io;

    use super::*;

    const JAAS: &str = "Client {\n org.apache.zookeeper.server.auth.DigestLoginModule required\n username=\"bob\" password=\"s3cret\";\n};\n\
                        Ticket {\n com.sun.security.auth.module.Krb5LoginModule required useTicketCache=true;\n};\n";

    fn load(flags: &ClientFlags, variable: &str, file: &str) -> Result<(ClientSide, Vec<String>), ConfigError> {
        let environment = Environment {
            variables: BTreeMap::from([("CLIENT_JVMFLAGS".to_owned(), variable.to_owned())]),
            ..Environment::default()
        };
        let read = |path: &Path| match path.to_str() {
            Some("client.cfg") => Ok(file.as_bytes().to_vec()),
            Some("jaas.conf") => Ok(JAAS.as_bytes().to_vec()),
            Some("ca.crt") => Ok(b"-----BEGIN CERTIFICATE-----".to_vec()),
            Some("me.p12") => Ok(vec![0x30, 0x82]),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let (side, notices) = ClientSide::load_with(flags, false, &environment, &read)?;
        Ok((side, notices.into_iter().map(|notice| notice.text).collect()))
    }

    fn with_file() -> ClientFlags {
        ClientFlags { properties: Some("client.cfg".into()), ..ClientFlags::default() }
    }

    fn bob() -> Option<(String, String)> {
        Some(("bob".to_owned(), "s3cret".to_owned()))
    }

    #[test]
    fn nothing_said_is_a_plain_connection_of_nobody() {
        assert_eq!(load(&ClientFlags::default(), "-Xmx256m", "").unwrap().0, ClientSide::default());
    }

    #[test]
    fn properties_of_the_file_count_more_than_options() {
        let options = "-Dzookeeper.client.secure=true -Dzookeeper.ssl.trustStore.location=/one.pem \
                       -Dzookeeper.ssl.keyStore.location=/me.jks -Dzookeeper.ssl.keyStore.password=a \
                       -Djava.security.auth.login.config=jaas.conf";
        let file = "zookeeper.ssl.trustStore.location=/two.p12\nzookeeper.ssl.trustStore.passwordPath=/word\n\
                    zookeeper.clientCnxnSocket=org.apache.zookeeper.ClientCnxnSocketNetty\nzookeeper.ssl.hostnameVerification=false\n";
        let (side, notices) = load(&with_file(), options, file).unwrap();
        assert_eq!(side.login, bob());
        let tls = side.tls.unwrap();
        let store = |location: &str, password: Option<&str>, path: Option<&str>| {
            let (password, password_path) = (password.map(str::to_owned), path.map(PathBuf::from));
            Some(Store { password, password_path, ..Store::of(location, StoreType::Java) })
        };
        assert_eq!(tls.trust_store, store("/two.p12", None, Some("/word")));
        assert_eq!(tls.key_store, store("/me.jks", Some("a"), None));
        assert!(!tls.verifies_servers && !tls.checks_revocation);
        assert!(!notices.iter().any(|notice| notice.contains("unknown")), "{notices:?}");
    }

    #[test]
    fn flags_count_more_than_properties_and_need_no_suffix() {
        let flags = ClientFlags {
            authorities: Some("ca.crt".into()),
            certificate: Some("me.p12".into()),
            store_password: Some("word".into()),
            any_host: true,
            ..with_file()
        };
        let (side, _) = load(&flags, "", "zookeeper.ssl.trustStore.location=/two.p12\n").unwrap();
        let tls = side.tls.unwrap();
        let kinds = [&tls.trust_store, &tls.key_store].map(|store| store.as_ref().map(|store| store.kind));
        assert_eq!(kinds, [Some(StoreType::Pem), Some(StoreType::Java)]);
        assert_eq!(tls.trust_store.unwrap().password_path, Some("word".into()));
        assert!(!tls.verifies_servers);
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_a_remedy() {
        let jaas = "-Djava.security.auth.login.config=jaas.conf ";
        let tls = ClientFlags { tls: true, ..ClientFlags::default() };
        let key_alone =
            ClientFlags { key: Some("me.key".into()), authorities: Some("ca.crt".into()), ..ClientFlags::default() };
        let nowhere = ClientFlags { authorities: Some("nowhere".into()), ..ClientFlags::default() };
        let no_file = ClientFlags { properties: Some("nowhere".into()), ..ClientFlags::default() };
        let plain = ClientFlags::default();
        for (flags, options, parts) in [
            (&tls, "".to_owned(), ["no server is trusted", "--tls-ca FILE"]),
            (&key_alone, "".to_owned(), ["--tls-key", "--tls-cert FILE"]),
            (&nowhere, "".to_owned(), ["--tls-ca nowhere cannot be read", "PEM"]),
            (&no_file, "".to_owned(), ["-client-configuration: nowhere cannot be read", "properties"]),
            (&plain, format!("{jaas}-Dzookeeper.sasl.clientconfig=Ticket"), ["jaas.conf:6", "by Kerberos"]),
            (
                &plain,
                format!("{jaas}-Dzookeeper.sasl.clientconfig=Nobody"),
                ["'Nobody' was found in 'jaas.conf'", "sasl.client=false"],
            ),
            (
                &plain,
                "-Dzookeeper.sasl.clientconfig=Nobody".to_owned(),
                ["'Nobody' was found.", "java.security.auth.login.config"],
            ),
            (
                &tls,
                "-Dzookeeper.ssl.context.supplier.class=a.B".to_owned(),
                ["a supplier of SSL contexts", "trust store"],
            ),
        ] {
            let text = load(flags, &options, "").expect_err(&options).to_string();
            for part in parts {
                assert!(text.contains(part), "{part:?} in {text:?}");
            }
        }
    }

    #[test]
    fn sasl_can_be_switched_off_and_its_password_is_not_shown() {
        let jaas = "-Djava.security.auth.login.config=jaas.conf ";
        let off = load(&ClientFlags::default(), &format!("{jaas}-Dzookeeper.sasl.client=false"), "").unwrap();
        assert_eq!(off.0.login, None);
        let (on, _) = load(&ClientFlags::default(), jaas, "").unwrap();
        assert_eq!(on.login, bob());
        assert!(!format!("{on:?}").contains("s3cret"));
    }
}
