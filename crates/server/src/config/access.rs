//! Who may do what: authentication, ACL switches, and the whitelist of the four-letter words.

use std::collections::BTreeSet;

use rookeeper_tree::DigestAlgorithm;

use super::error::{ConfigError, Fault, excerpt};
use super::sasl::Sasl;
use super::settings::{Setting, Settings};

/// Authentication and the switches around ACLs.
#[derive(Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct Access {
    /// Whether clients can authenticate with the scheme `digest`.
    pub(crate) digest_enabled: bool,
    /// Hash of `user:password` in identities of the scheme `digest`. ACLs made with another one stop matching.
    pub(crate) digest_algorithm: DigestAlgorithm,
    /// `super:<base64 of the hash>`: whoever authenticates to this may do anything. Secret.
    pub(crate) super_digest: Option<String>,
    /// Every connection must authenticate with one of these schemes before its first request; none for no such rule.
    pub(crate) enforced_schemes: Option<BTreeSet<String>>,
    /// Names accepted by the scheme `ensemble`, whose provider is configured; a client that names another one is
    /// disconnected, and an empty set accepts all. None if there is no such scheme.
    pub(crate) ensemble_names: Option<BTreeSet<String>>,
    /// Whether a certificate that a client showed is an identity, of the scheme `x509`.
    pub(crate) x509_enabled: bool,
    /// Whoever shows a certificate with this subject may do anything.
    pub(crate) x509_super_user: Option<String>,
    /// No ACL is checked at all.
    pub(crate) skip_acl: bool,
    /// ACLs of writes are checked before the leader sees the request; without an ensemble it changes nothing.
    pub(crate) enable_eager_acl_check: bool,
    /// Whether writes beyond a hard quota are refused rather than logged.
    pub(crate) enforce_quota: bool,
    /// Those who come in by SASL.
    pub(crate) sasl: Sasl,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Access")
            .field("digest_enabled", &self.digest_enabled)
            .field("digest_algorithm", &self.digest_algorithm)
            .field("super_digest", &self.super_digest.as_ref().map(|_| "…"))
            .field("enforced_schemes", &self.enforced_schemes)
            .field("ensemble_names", &self.ensemble_names)
            .field("x509_enabled", &self.x509_enabled)
            .field("x509_super_user", &self.x509_super_user)
            .field("skip_acl", &self.skip_acl)
            .field("enable_eager_acl_check", &self.enable_eager_acl_check)
            .field("enforce_quota", &self.enforce_quota)
            .field("sasl", &self.sasl)
            .finish()
    }
}

impl Access {
    /// `has_tls`: whether clients can come with a certificate.
    pub(super) fn read(settings: &Settings, sasl: Sasl, has_tls: bool) -> Result<Self, ConfigError> {
        let digest_enabled = settings.flag("DigestAuthenticationProvider.enabled");
        let Providers { ensemble, x509 } = providers(settings)?;
        let ensemble_names = ensemble.then(|| settings.text("ensembleAuthName").map(names).unwrap_or_default());
        // As in the original, a port with TLS brings the provider along.
        let x509_enabled = x509 || has_tls;
        let super_digest = settings.setting("DigestAuthenticationProvider.superDigest").map(|setting| {
            if !setting.value.contains(':') {
                settings.warn(format!(
                    "{}: {} has no colon, so nobody can be the super user; allowed: {}",
                    setting.place,
                    setting.name,
                    setting.key.allowed()
                ));
            }
            setting.value.clone()
        });
        Ok(Access {
            digest_enabled,
            digest_algorithm: digest_algorithm(settings)?,
            super_digest,
            enforced_schemes: enforced_schemes(
                settings,
                digest_enabled,
                ensemble_names.is_some(),
                x509_enabled,
                &sasl,
            )?,
            ensemble_names,
            x509_enabled,
            x509_super_user: settings.text("X509AuthenticationProvider.superUser").map(str::to_owned),
            skip_acl: settings.flag("skipACL"),
            enable_eager_acl_check: settings.flag("enableEagerACLCheck"),
            enforce_quota: settings.flag("enforceQuota"),
            sasl,
        })
    }

    /// Whether every client must show who it is. An address shows nothing, nor does the name of the ensemble.
    pub(crate) fn requires_authentication(&self) -> bool {
        let shows_nothing = |scheme: &String| matches!(scheme.as_str(), "ip" | "ensemble");
        self.enforced_schemes.as_ref().is_some_and(|schemes| !schemes.iter().any(shows_nothing))
    }

    /// Whether every client must come in by SASL.
    pub(crate) fn requires_sasl(&self) -> bool {
        self.enforced_schemes.as_ref().is_some_and(|schemes| schemes.contains("sasl"))
    }
}

fn names(list: &str) -> BTreeSet<String> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn digest_algorithm(settings: &Settings) -> Result<DigestAlgorithm, ConfigError> {
    let Some(setting) = settings.setting("DigestAuthenticationProvider.digestAlg") else {
        return Ok(DigestAlgorithm::default());
    };
    DigestAlgorithm::from_name(&setting.value).ok_or_else(|| {
        let problem =
            format!("don't support this ACL digest algorithm: {} in the current environment", excerpt(&setting.value));
        let remedy = "Allowed: SHA1, SHA-224, SHA-256, SHA-384, SHA-512, SHA-512/224, SHA-512/256, SHA3-224, \
                      SHA3-256, SHA3-384, SHA3-512; the same on all members.";
        setting.fault(problem, remedy).into()
    })
}

/// What class an `authProvider.NAME` names.
enum Provider {
    AlwaysThere,
    Ensemble,
    Sasl,
    X509,
    Unknown,
}

fn provider(setting: &Setting) -> Provider {
    match setting.value.rsplit('.').next().unwrap_or("") {
        "DigestAuthenticationProvider" | "IPAuthenticationProvider" => Provider::AlwaysThere,
        "EnsembleAuthenticationProvider" => Provider::Ensemble,
        "SASLAuthenticationProvider" => Provider::Sasl,
        "X509AuthenticationProvider" => Provider::X509,
        _ => Provider::Unknown,
    }
}

/// Which providers are configured that are not always there.
#[derive(Default)]
struct Providers {
    ensemble: bool,
    x509: bool,
}

/// Judges the configured providers.
fn providers(settings: &Settings) -> Result<Providers, ConfigError> {
    let mut found = Providers::default();
    for setting in settings.family("authProvider.*") {
        let class = excerpt(&setting.value);
        match provider(setting) {
            Provider::Ensemble => found.ensemble = true,
            Provider::X509 => found.x509 = true,
            Provider::AlwaysThere | Provider::Sasl => {}
            Provider::Unknown => {
                let problem = format!("the authentication provider {class} is not known, and classes cannot be loaded");
                let remedy = "Identities of its scheme could not be checked. Allowed: DigestAuthenticationProvider, \
                              IPAuthenticationProvider, SASLAuthenticationProvider, X509AuthenticationProvider and \
                              EnsembleAuthenticationProvider of org.apache.zookeeper.server.auth.";
                return Err(setting.fault(problem, remedy).into());
            }
        }
    }
    Ok(found)
}

/// The `authProvider.NAME` that asks for SASL, if any.
pub(super) fn sasl_provider(settings: &Settings) -> Option<&Setting> {
    settings.family("authProvider.*").find(|setting| matches!(provider(setting), Provider::Sasl))
}

fn enforced_schemes(
    settings: &Settings,
    digest_enabled: bool,
    ensemble_enabled: bool,
    x509_enabled: bool,
    sasl: &Sasl,
) -> Result<Option<BTreeSet<String>>, ConfigError> {
    const REMEDY: &str = "List schemes in enforce.auth.schemes, separated by commas; available are";
    let enabled = settings.flag("enforce.auth.enabled");
    let listed = settings.setting("enforce.auth.schemes");
    let mut available = vec!["ip"];
    available.extend(digest_enabled.then_some("digest"));
    available.extend(ensemble_enabled.then_some("ensemble"));
    available.extend(x509_enabled.then_some("x509"));
    available.extend(sasl.is_registered.then_some("sasl"));
    let remedy = format!("{REMEDY} {}.", available.join(", "));
    let requires_sasl = settings.setting("sessionRequireClientSASLAuth");
    let (setting, schemes) = match (requires_sasl, listed) {
        (Some(setting), _) if settings.flag("sessionRequireClientSASLAuth") => {
            (setting, BTreeSet::from(["sasl".to_owned()]))
        }
        _ if !enabled => return Ok(None),
        // As in the original, an empty name between two commas is a name, and not an available one.
        (_, Some(setting)) => (setting, setting.value.split(',').map(|scheme| scheme.trim().to_owned()).collect()),
        (_, None) => {
            let problem = "zookeeper.enforce.auth.enabled is true zookeeper.enforce.auth.schemes must be  configured.";
            let fault = match settings.setting("enforce.auth.enabled") {
                Some(enabled) => enabled.fault(problem, remedy),
                None => Fault::new(problem, remedy),
            };
            return Err(fault.into());
        }
    };
    if let Some(unknown) = schemes.iter().find(|scheme| !available.contains(&scheme.as_str())) {
        let problem = format!("Authentication scheme {} is not available.", excerpt(unknown));
        let remedy = match unknown.as_str() {
            "sasl" => SASL_REMEDY.to_owned(),
            _ => remedy,
        };
        return Err(setting.fault(problem, remedy).into());
    }
    if sasl.users.is_none() && sasl.kerberos.is_none() && schemes.iter().all(|scheme| scheme == "sasl") {
        let problem = "every client must come in by SASL, and no users of SASL are configured";
        return Err(setting.fault(problem, SASL_REMEDY).into());
    }
    Ok(Some(schemes))
}

const SASL_REMEDY: &str = "Set authProvider.sasl=org.apache.zookeeper.server.auth.SASLAuthenticationProvider and, with \
                           -Djava.security.auth.login.config=FILE, a JAAS file with a section Server; or set sasl.users.file.";

/// Which four-letter words are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FourLetterWords {
    /// All.
    All,
    /// These.
    Only(BTreeSet<String>),
}

impl FourLetterWords {
    /// All words there are.
    pub const KNOWN: [&str; 18] = [
        "conf", "cons", "crst", "dirs", "dump", "envi", "gtmk", "hash", "isro", "mntr", "ruok", "srst", "srvr", "stat",
        "stmk", "wchc", "wchp", "wchs",
    ];

    pub(super) fn read(settings: &Settings) -> Self {
        let list = settings.text("4lw.commands.whitelist").unwrap_or("");
        let mut words: BTreeSet<String> = list.split(',').map(str::trim).map(str::to_owned).collect();
        words.remove("");
        if words.contains("*") {
            return FourLetterWords::All;
        }
        for word in words.iter().filter(|word| !Self::KNOWN.contains(&word.as_str())) {
            settings.warn(format!(
                "4lw.commands.whitelist: there is no word {}; allowed: {} or *",
                excerpt(word),
                Self::KNOWN.join(", ")
            ));
        }
        // The start scripts and read-only clients depend on these two.
        words.insert("srvr".to_owned());
        if settings.flag("readonlymode.enabled") {
            words.insert("isro".to_owned());
        }
        FourLetterWords::Only(words)
    }

    /// Whether this word is answered.
    pub fn allows(&self, word: &str) -> bool {
        match self {
            FourLetterWords::All => true,
            FourLetterWords::Only(words) => words.contains(word),
        }
    }
}
