//! SASL: the JAAS file and the file of users, and what else an operator can say of those who come in by them.
//!
//! What always holds: a section that is used has users or a login of DIGEST-MD5, or one of Kerberos, or the start is refused; no password
//! outlives the reading.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Environment;
use super::access::sasl_provider;
use super::ensemble::ReadFile;
use super::environment::Flag;
use super::error::{ConfigError, Fault, Place, excerpt};
use super::kerberos::{self, KERBEROS_LOGIN, KerberosClients, Purpose};
use super::settings::Settings;
use crate::auth::between_servers::{self, Members, Others, QuorumAuth};
use crate::auth::digest_md5::{self, CLIENT_PORT, QUORUM, Service, Users};
use crate::auth::jaas::{self, Section};
use crate::auth::kerberos::Login;

const DIGEST_LOGIN: &str = "org.apache.zookeeper.server.auth.DigestLoginModule";

/// Those who come in by SASL on the client port.
#[derive(Debug, Clone, Default)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct Sasl {
    /// Whether ACLs may name users of SASL.
    pub(crate) is_registered: bool,
    /// Users of DIGEST-MD5; none where SASL is not configured.
    pub(crate) users: Option<Arc<Users>>,
    /// How clients come in by Kerberos; none where that is not configured.
    pub(crate) kerberos: Option<KerberosClients>,
    /// Those of them who may do anything.
    pub(crate) super_users: BTreeSet<String>,
    /// Entries of ACLs for this name are for all users of SASL.
    pub(crate) any_user: Option<String>,
    /// Whether a client that failed may go on, without an identity.
    pub(crate) allows_failed_clients: bool,
}

impl Sasl {
    pub(super) fn read(
        settings: &Settings,
        jaas: Option<&JaasFile>,
        read_file: ReadFile<'_>,
    ) -> Result<Sasl, ConfigError> {
        let section = client_section(settings, jaas)?;
        let kerberos = match section {
            Some((jaas, section)) => jaas
                .kerberos(settings, section, Purpose::Accept)?
                .map(|login| kerberos::naming(settings).map(|naming| KerberosClients { login, naming })),
            None => None,
        }
        .transpose()?;
        let by_jaas = match section.filter(|_| kerberos.is_none()) {
            Some((jaas, section)) => Some(jaas.users(section, CLIENT_PORT)?),
            None => None,
        };
        let by_file = users_file(settings, read_file)?;
        let has_provider = sasl_provider(settings).is_some();
        if section.is_some() && by_file.is_none() && !has_provider {
            settings.warn(
                "there are users of SASL, but ACLs cannot name them; add a line \
                 authProvider.sasl=org.apache.zookeeper.server.auth.SASLAuthenticationProvider on all servers"
                    .to_owned(),
            );
        }
        let is_registered = has_provider || by_file.is_some();
        let mut users = match (by_jaas, by_file) {
            (Some(users), None) => Some(users),
            (users, Some((path, bytes))) => {
                let mut users = users.unwrap_or_else(|| Users::of(CLIENT_PORT));
                users.add_file(&bytes).map_err(|malformed| {
                    let remedy =
                        "A line is user:HASH, where HASH is what printf %s user:zk-sasl-md5:password | md5sum prints.";
                    Fault::new(malformed.problem, remedy).at(&Place::Line { file: path, line: malformed.line })
                })?;
                Some(users)
            }
            (None, None) => None,
        };
        let super_password = settings.setting("SASLAuthenticationProvider.superPassword");
        if let (Some(users), Some(password)) = (&mut users, super_password)
            && users.has("super")
        {
            users.set_password("super", &password.value);
        }
        if users.as_ref().is_some_and(Users::is_empty) {
            settings.warn("SASL is configured, but there is no user, so nobody can come in by it".to_owned());
        }
        let super_users = settings.setting("superUser").into_iter().chain(settings.family("superUser.*"));
        Ok(Sasl {
            is_registered,
            users: users.map(Arc::new),
            kerberos,
            super_users: super_users.map(|setting| setting.value.clone()).filter(|user| !user.is_empty()).collect(),
            any_user: settings.text("letAnySaslUserDoX").map(str::to_owned),
            allows_failed_clients: settings.flag("allowSaslFailedClients"),
        })
    }
}

/// The section for clients, if there is one.
fn client_section<'a>(
    settings: &Settings,
    jaas: Option<&'a JaasFile>,
) -> Result<Option<(&'a JaasFile, &'a Section)>, ConfigError> {
    let named = settings.setting("sasl.serverconfig");
    let name = settings.text("sasl.serverconfig").unwrap_or("Server");
    let Some(jaas) = jaas else {
        return match named {
            Some(setting) => {
                let problem = format!("No JAAS configuration section named '{}' was found.", excerpt(name));
                let remedy = "Set java.security.auth.login.config to the JAAS file that has it, or remove this line.";
                Err(setting.fault(problem, remedy).into())
            }
            None => Ok(None),
        };
    };
    match (jaas.section(name), named) {
        (Some(section), _) => Ok(Some((jaas, section))),
        (None, Some(setting)) => {
            let problem =
                format!("No JAAS configuration section named '{}' was found in '{}'.", excerpt(name), jaas.name);
            Err(setting.fault(problem, "Add the section, or remove this line to do without SASL for clients.").into())
        }
        (None, None) => {
            if settings.flag("quorum.auth.enableSasl") {
                return Ok(None);
            }
            settings.warn(format!("{} has no section {name}, so clients cannot come in by SASL", jaas.name));
            Ok(None)
        }
    }
}

/// The path of the file of users, for messages, and what is in it.
fn users_file(settings: &Settings, read_file: ReadFile<'_>) -> Result<Option<(String, Vec<u8>)>, ConfigError> {
    let Some(setting) = settings.setting("sasl.users.file").filter(|setting| !setting.value.is_empty()) else {
        return Ok(None);
    };
    let path = Path::new(&setting.value);
    let bytes = read_file(path).map_err(|error| {
        setting.fault(
            format!("{} cannot be read: {error}", path.display()),
            "It must be a file that the server can read, with a line user:HASH for each user.",
        )
    })?;
    Ok(Some((path.display().to_string(), bytes)))
}

/// What members prove to each other, and demand.
pub(super) fn between_members(
    settings: &Settings,
    jaas: Option<&JaasFile>,
    hosts: BTreeSet<String>,
) -> Result<QuorumAuth, ConfigError> {
    let (is_on, gives_proof) =
        (settings.flag("quorum.auth.enableSasl"), settings.flag("quorum.auth.learnerRequireSasl"));
    let is_required = settings.flag("quorum.auth.serverRequireSasl");
    let contexts = ["quorum.auth.learner.saslLoginContext", "quorum.auth.server.saslLoginContext"];
    let [learner, server] = contexts.map(|name| settings.text(name).unwrap_or_default());
    if !is_on {
        return Ok(QuorumAuth::default());
    }
    let find = |name: &str| {
        let found = jaas.and_then(|jaas| Some((jaas, jaas.section(name)?)));
        found.ok_or_else(|| {
            let problem = format!(
                "SASL-authentication failed because the specified JAAS configuration section '{}' could not be found.",
                excerpt(name)
            );
            let remedy = format!(
                "Let java.security.auth.login.config name a JAAS file with the sections {} and {}.",
                excerpt(learner),
                excerpt(server)
            );
            match settings.setting("quorum.auth.enableSasl") {
                Some(setting) => setting.fault(problem, remedy),
                None => Fault::new(problem, remedy),
            }
        })
    };
    // Both must be there, as in the original, so that the next step of a rolling change finds them.
    let (jaas, learner) = find(learner)?;
    let login = match jaas.kerberos(settings, learner, Purpose::Initiate)? {
        Some(login) => between_servers::Login::Ticket {
            login,
            service: service_principal(settings)?,
            realm: settings.text("server.realm").filter(|realm| !realm.is_empty()).map(str::to_owned),
        },
        None => between_servers::Login::Password(jaas.password_login(learner, QUORUM)?),
    };
    let (jaas, server) = find(server)?;
    let users = match jaas.kerberos(settings, server, Purpose::Accept)? {
        Some(accepting) => {
            let mine = match &login {
                between_servers::Login::Ticket { login, .. } => login.principal.clone(),
                between_servers::Login::Password(_) => None,
            };
            Others::Tickets { login: accepting, members: Members { hosts, mine } }
        }
        None => {
            let users = jaas.users(server, QUORUM)?;
            if users.is_empty() {
                settings.warn(format!(
                    "section {} has no user_NAME=\"password\", so no other server can authenticate here",
                    excerpt(&server.name)
                ));
            }
            Others::Passwords(Arc::new(users))
        }
    };
    let canonicalizes = settings.flag("kerberos.canonicalizeHostNames");
    Ok(QuorumAuth { login: gives_proof.then_some(login), users: Some(users), is_required, canonicalizes })
}

/// Whom to expect where this server dials.
fn service_principal(settings: &Settings) -> Result<String, ConfigError> {
    const NAME: &str = "quorum.auth.kerberos.servicePrincipal";
    let principal = settings.text(NAME).unwrap_or("zkquorum/localhost");
    match settings.setting(NAME) {
        Some(setting) if !kerberos::is_service(principal) => {
            let remedy = "Write zkquorum/_HOST, where _HOST stands for the host of each server line, or service/host.";
            Err(setting.fault("it is the principal of no service at a host", remedy).into())
        }
        _ => Ok(principal.to_owned()),
    }
}

/// The file that `java.security.auth.login.config` names.
#[derive(Debug)]
pub(super) struct JaasFile {
    /// Its path, for messages.
    pub(super) name: String,
    sections: Vec<Section>,
    /// The environment variable of this name, which is Kerberos' own.
    krb5_config: Option<String>,
}

impl JaasFile {
    /// None where no file is named.
    pub(super) fn read(
        settings: &Settings,
        environment: &Environment,
        flags: &[Flag],
        read_file: ReadFile<'_>,
    ) -> Result<Option<JaasFile>, ConfigError> {
        let named = settings.setting("java.security.auth.login.config");
        let Some(setting) = named.filter(|setting| !setting.value.is_empty()) else { return Ok(None) };
        let path = path(&setting.value);
        let name = path.display().to_string();
        let bytes = read_file(&path).map_err(|error| {
            setting.fault(format!("{name} cannot be read: {error}"), "It must be a JAAS file that can be read here.")
        })?;
        let property = |wanted: &str| {
            let of_flags = flags.iter().rev().find(|(_, name, _)| name == wanted).map(|(_, _, value)| value.clone());
            let home = || environment.home.as_ref().map(|home| home.display().to_string());
            of_flags.or_else(|| if wanted == "user.home" { home() } else { None })
        };
        let sections = jaas::parse(&bytes, &property).map_err(|malformed| {
            Fault::new(malformed.problem, malformed.remedy)
                .at(&Place::Line { file: name.clone(), line: malformed.line })
        })?;
        Ok(Some(JaasFile { name, sections, krb5_config: environment.variables.get("KRB5_CONFIG").cloned() }))
    }

    pub(super) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The login by Kerberos in a section, if it has one. As in Java, passwords beside it do not count.
    pub(super) fn kerberos(
        &self,
        settings: &Settings,
        section: &Section,
        purpose: Purpose,
    ) -> Result<Option<Login>, ConfigError> {
        let is_kerberos = |module: &&jaas::Module| module.class == KERBEROS_LOGIN;
        let Some(module) = section.modules.iter().find(is_kerberos) else { return Ok(None) };
        kerberos::check_java_properties(settings, self.krb5_config.as_deref())?;
        if let Some(other) = section.modules.iter().find(|module| !is_kerberos(module)) {
            let (name, class) = (excerpt(&section.name), excerpt(&other.class));
            settings.warn(format!(
                "{}:{}: section {name} logs in by Kerberos, so its module {class} has no effect",
                self.name, other.line
            ));
        }
        kerberos::login(module, &section.name, &self.name, purpose).map(Some)
    }

    /// The users that a section lists.
    pub(super) fn users(&self, section: &Section, service: Service) -> Result<Users, ConfigError> {
        let mut users = Users::of(service);
        for module in self.digest_modules(section)? {
            for (option, password) in &module.options {
                if let Some(user) = option.strip_prefix("user_") {
                    users.set_password(user, password);
                }
            }
        }
        Ok(users)
    }

    /// The user that a section logs in as.
    fn password_login(&self, section: &Section, service: Service) -> Result<digest_md5::Login, ConfigError> {
        let (user, password) = self.user_and_password(section)?;
        Ok(digest_md5::Login::new(service, user, password))
    }

    /// The same, for others who prove it.
    pub(super) fn user_and_password<'a>(&self, section: &'a Section) -> Result<(&'a str, &'a str), ConfigError> {
        let modules = self.digest_modules(section)?;
        let option = |name: &str| modules.iter().find_map(|module| module.option(name));
        match (option("username"), option("password")) {
            (Some(user), Some(password)) => Ok((user, password)),
            _ => {
                let problem = format!("section {} has no username or no password", excerpt(&section.name));
                let place = Place::Line { file: self.name.clone(), line: section.line };
                Err(Fault::new(problem, "Write username=\"NAME\" password=\"PASSWORD\" into it.").at(&place).into())
            }
        }
    }

    /// The modules of a section, all of DIGEST-MD5.
    fn digest_modules<'a>(&self, section: &'a Section) -> Result<&'a [jaas::Module], ConfigError> {
        let at = |line: usize| Place::Line { file: self.name.clone(), line };
        if section.modules.is_empty() {
            let problem = format!("section {} has no login module", excerpt(&section.name));
            let remedy = format!("Write {DIGEST_LOGIN} required, its options, and a ; into it.");
            return Err(Fault::new(problem, remedy).at(&at(section.line)).into());
        }
        if let Some(module) = section.modules.iter().find(|module| module.class != DIGEST_LOGIN) {
            let (name, class) = (excerpt(&section.name), excerpt(&module.class));
            let problem = format!("section {name} has the login module {class}, and classes cannot be loaded");
            let remedy = format!("Allowed: {DIGEST_LOGIN} or {KERBEROS_LOGIN}.");
            return Err(Fault::new(problem, remedy).at(&at(module.line)).into());
        }
        Ok(&section.modules)
    }
}

/// Java takes a URL too, and a second `=` before the path, which says that no other file counts.
fn path(value: &str) -> PathBuf {
    let value = value.strip_prefix('=').unwrap_or(value);
    let path = value.strip_prefix("file:").map_or(value, |path| match path.strip_prefix("//") {
        Some(absolute) if absolute.starts_with('/') => absolute,
        _ => path,
    });
    PathBuf::from(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jaas_file_may_be_a_url() {
        for value in ["/etc/jaas.conf", "=/etc/jaas.conf", "file:/etc/jaas.conf", "=file:///etc/jaas.conf"] {
            assert_eq!(path(value), Path::new("/etc/jaas.conf"), "{value}");
        }
        assert_eq!(path("jaas.conf"), Path::new("jaas.conf"));
    }
}
