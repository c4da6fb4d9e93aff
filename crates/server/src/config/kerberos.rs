//! Logins by Kerberos in a JAAS file: the options of Java's `Krb5LoginModule`, and how principals are named as users.
//!
//! What always holds: an option that would be needed and has no meaning here, or contradicts another one, refuses the start by its name and
//! line; no file is opened here but the JAAS file.

use std::path::PathBuf;

use super::error::{ConfigError, Fault, Place, excerpt};
use super::settings::Settings;
use crate::auth::jaas::Module;
use crate::auth::kerberos::names::{Naming, Rules};
use crate::auth::kerberos::{Keys, Login};

pub(super) const KERBEROS_LOGIN: &str = "com.sun.security.auth.module.Krb5LoginModule";

const OPTIONS: [&str; 15] = [
    "useKeyTab",
    "keyTab",
    "principal",
    "useTicketCache",
    "ticketCache",
    "renewTGT",
    "isInitiator",
    "storeKey",
    "doNotPrompt",
    "refreshKrb5Config",
    "useFirstPass",
    "tryFirstPass",
    "storePass",
    "clearPass",
    "debug",
];

/// What Java reads for Kerberos, and the library here does not.
const JAVA_PROPERTIES: [(&str, &str); 3] = [
    ("java.security.krb5.conf", "KRB5_CONFIG=PATH in the environment of the server names that file"),
    ("java.security.krb5.realm", "default_realm=REALM in the section [libdefaults] of krb5.conf says it"),
    ("java.security.krb5.kdc", "kdc=HOST in the section [realms] of krb5.conf says it"),
];

/// What a login is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Others come in, by its key.
    Accept,
    /// It lets this server in elsewhere.
    Initiate,
}

/// Clients that come in by Kerberos.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub(crate) struct KerberosClients {
    pub login: Login,
    pub naming: Naming,
}

/// How principals are named as users.
pub(super) fn naming(settings: &Settings) -> Result<Naming, ConfigError> {
    let rules = match settings.setting("security.auth_to_local") {
        Some(setting) => Rules::parse(&setting.value).map_err(|malformed| {
            let remedy = "Rules are RULE:[n:format](expression)s/from/to/g and DEFAULT, one behind the other.";
            setting.fault(malformed.to_string(), remedy)
        })?,
        None => Rules::default(),
    };
    Ok(Naming {
        rules,
        removes_host: settings.flag("kerberos.removeHostFromPrincipal"),
        removes_realm: settings.flag("kerberos.removeRealmFromPrincipal"),
    })
}

/// Refuses what names Kerberos' own configuration in the way of Java. `conf` is the value of KRB5_CONFIG.
pub(super) fn check_java_properties(settings: &Settings, conf: Option<&str>) -> Result<(), ConfigError> {
    for (name, instead) in JAVA_PROPERTIES {
        let Some(setting) = settings.setting(name).filter(|setting| !setting.value.is_empty()) else { continue };
        let is_the_same = name == "java.security.krb5.conf" && setting.value == conf.unwrap_or("/etc/krb5.conf");
        if !is_the_same {
            let problem = "Kerberos is the system's library here, which does not read it";
            return Err(setting.fault(problem, format!("Remove it; {instead}.")).into());
        }
    }
    Ok(())
}

/// The login of a module, in a section of this name.
pub(super) fn login(module: &Module, section: &str, file: &str, purpose: Purpose) -> Result<Login, ConfigError> {
    let place = Place::Line { file: file.to_owned(), line: module.line };
    let section = excerpt(section);
    let refuse = |problem: String, remedy: &str| {
        Err(Fault::new(format!("section {section}: {problem}"), remedy).at(&place).into())
    };
    if let Some((name, _)) = module.options.iter().find(|(name, _)| !OPTIONS.contains(&name.as_str())) {
        let remedy = format!("Options of {KERBEROS_LOGIN}: {}.", OPTIONS.join(", "));
        return refuse(format!("there is no option {}", excerpt(name)), &remedy);
    }
    let mut switches = Vec::new();
    for (name, default) in [
        ("useKeyTab", false),
        ("useTicketCache", false),
        ("renewTGT", false),
        ("isInitiator", true),
        ("storeKey", false),
        ("doNotPrompt", false),
        ("useFirstPass", false),
        ("tryFirstPass", false),
    ] {
        switches.push(match module.option(name) {
            None => default,
            Some(value) if value.eq_ignore_ascii_case("true") => true,
            Some(value) if value.eq_ignore_ascii_case("false") => false,
            Some(value) => {
                return refuse(format!("{name}={} is neither true nor false", excerpt(value)), "Write true or false.");
            }
        });
    }
    let [use_keytab, use_cache, renew, is_initiator, store_key, _, first_pass, try_pass] = switches[..] else {
        unreachable!("there is a switch for each name")
    };
    let option = |name: &str| module.option(name).filter(|value| !value.is_empty());
    let (keytab, cache, principal) = (option("keyTab"), option("ticketCache"), option("principal"));
    if first_pass || try_pass {
        let remedy = "A server has nobody to ask for a password: write useKeyTab=true and keyTab=\"PATH\".";
        return refuse("useFirstPass and tryFirstPass take a password of a user".to_owned(), remedy);
    }
    if keytab.is_some() && !use_keytab {
        return refuse("keyTab without useKeyTab=true".to_owned(), "Write useKeyTab=true, or remove keyTab.");
    }
    if cache.is_some() && !use_cache {
        let remedy = "Write useTicketCache=true, or remove ticketCache.";
        return refuse("ticketCache without useTicketCache=true".to_owned(), remedy);
    }
    if renew && !use_cache {
        return refuse("renewTGT without useTicketCache=true".to_owned(), "Remove renewTGT, or use a ticket cache.");
    }
    if store_key && !use_keytab {
        return refuse("storeKey without useKeyTab=true".to_owned(), "Write useKeyTab=true, or remove storeKey.");
    }
    if use_keytab && keytab.is_none() {
        return refuse("useKeyTab=true without keyTab".to_owned(), "Write keyTab=\"PATH\".");
    }
    if principal.is_some_and(|principal| principal.contains(['*', '\\']) || principal.chars().any(char::is_whitespace))
    {
        let remedy = "Write it whole, like zookeeper/zoo1.example.com@EXAMPLE.COM.";
        return refuse(format!("{:?} is no principal", excerpt(principal.unwrap_or_default())), remedy);
    }
    let keytab = keytab.map(|path| Keys::Keytab(PathBuf::from(path.strip_prefix("FILE:").unwrap_or(path))));
    let keys = match (purpose, keytab) {
        (_, Some(keytab)) => keytab,
        (Purpose::Initiate, None) if use_cache => {
            Keys::Cache(cache.map(|path| PathBuf::from(path.strip_prefix("FILE:").unwrap_or(path))))
        }
        (Purpose::Initiate, None) => {
            let remedy = "Write useKeyTab=true and keyTab=\"PATH\", or useTicketCache=true.";
            return refuse("there is neither a keytab nor a ticket cache to log in by".to_owned(), remedy);
        }
        (Purpose::Accept, None) => {
            let remedy =
                "Whoever lets others in needs the key of its principal: write useKeyTab=true and keyTab=\"PATH\".";
            return refuse("there is no keytab".to_owned(), remedy);
        }
    };
    match (purpose, principal) {
        (Purpose::Initiate, _) if !is_initiator => {
            refuse("isInitiator=false, but it is to log in elsewhere".to_owned(), "Remove isInitiator.")
        }
        (Purpose::Accept, None) => {
            refuse("there is no principal".to_owned(), "Write principal=\"zookeeper/HOST@REALM\".")
        }
        (Purpose::Initiate, None) if matches!(keys, Keys::Keytab(_)) => {
            refuse("there is no principal".to_owned(), "Write principal=\"zkquorum/HOST@REALM\".")
        }
        (Purpose::Accept, Some(name)) if !is_service(name) => {
            let remedy = "Write principal=\"zookeeper/HOST@REALM\".";
            refuse(format!("{} is the principal of no service at a host", excerpt(name)), remedy)
        }
        (_, principal) => Ok(Login { principal: principal.map(str::to_owned), keys }),
    }
}

/// `service/host`, perhaps with a realm.
pub(super) fn is_service(principal: &str) -> bool {
    let name = principal.split_once('@').map_or(principal, |(name, _)| name);
    let is_sound = |part: &str| !part.is_empty() && !part.contains('/');
    principal.matches('@').count() <= 1
        && name.split_once('/').is_some_and(|(one, other)| is_sound(one) && is_sound(other))
}
