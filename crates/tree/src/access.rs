//! Who may do what: access control lists against the identities of a connection.
//!
//! Pure functions of a list, identities and [`AccessConfig`]. What always holds: nothing here fails on odd ids, a list that makes
//! no sense allows less; only schemes that are registered ever match. The check itself is [`crate::AccessList::allows`].
//!
//! Counterpart in the original: `ZooKeeperServer.checkACL`, `PrepRequestProcessor.fixupACL` and the authentication providers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rookeeper_proto::acl::AclRequest;
use rookeeper_proto::{Acl, ErrorCode, Id};
use sha2::Digest;

use crate::ip;

/// What an operator can set about access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessConfig {
    /// `zookeeper.skipACL`: every check passes.
    pub skip_acl: bool,
    /// `zookeeper.DigestAuthenticationProvider.enabled`.
    pub digest_enabled: bool,
    /// Whether the scheme `sasl` is registered.
    pub sasl_enabled: bool,
    /// Whether the scheme `x509` is registered.
    pub x509_enabled: bool,
    /// `zookeeper.letAnySaslUserDoX`: entries for this id are for everybody who came by SASL.
    pub any_sasl_user: Option<String>,
    /// `zookeeper.X509AuthenticationProvider.superUser`: matches every `x509` entry.
    pub x509_super_user: Option<String>,
}

impl Default for AccessConfig {
    fn default() -> Self {
        AccessConfig {
            skip_acl: false,
            digest_enabled: true,
            sasl_enabled: false,
            x509_enabled: false,
            any_sasl_user: None,
            x509_super_user: None,
        }
    }
}

/// The schemes with a meaning of their own; `world`, `auth` and `super` are handled before it comes to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Digest,
    Ip,
    Sasl,
    X509,
}

impl Scheme {
    pub(crate) fn registered(name: &str, config: &AccessConfig) -> Option<Scheme> {
        let (scheme, enabled) = match name {
            "ip" => (Scheme::Ip, true),
            "digest" => (Scheme::Digest, config.digest_enabled),
            "sasl" => (Scheme::Sasl, config.sasl_enabled),
            "x509" => (Scheme::X509, config.x509_enabled),
            _ => return None,
        };
        enabled.then_some(scheme)
    }

    /// Whether an identity proves who the caller is; an address does not.
    fn authenticates(self) -> bool {
        self != Scheme::Ip
    }

    fn accepts(self, id: &str) -> bool {
        match self {
            Scheme::Digest => is_digest_id(id),
            Scheme::Ip => ip::Network::parse(id).is_some(),
            Scheme::Sasl => is_kerberos_name(id),
            Scheme::X509 => is_distinguished_name(id),
        }
    }

    pub(crate) fn matches(self, caller: &str, entry: &str, config: &AccessConfig) -> bool {
        match self {
            Scheme::Digest => caller == entry,
            Scheme::Ip => ip::Network::parse(entry).is_some_and(|network| network.contains(caller)),
            Scheme::Sasl => caller == entry || caller == "super" || config.any_sasl_user.as_deref() == Some(entry),
            Scheme::X509 => caller == entry || config.x509_super_user.as_deref() == Some(caller),
        }
    }
}

/// What `auth` entries may grow into. Every entry of a list can stand for all identities of the caller; without a limit a small request
/// would become a huge transaction.
const MAX_EXPANDED_BYTES: usize = 1 << 20;

/// Permissions and two lengths.
const ENTRY_BYTES: usize = 12;

/// The list to store for the one a client sent: exact duplicates go, `auth` becomes the caller's own identities, everything else
/// must be an id that its scheme accepts. Permissions are stored as they came.
pub fn fix_up(
    requested: Option<&[AclRequest]>,
    identities: &[Id],
    config: &AccessConfig,
) -> Result<Vec<Acl>, ErrorCode> {
    let requested = requested.unwrap_or_default();
    if requested.is_empty() {
        return Err(ErrorCode::InvalidAcl);
    }
    let mut fixed = Vec::with_capacity(requested.len());
    let mut expanded_bytes = 0;
    let mut seen = hashbrown::HashSet::with_hasher(foldhash::fast::FixedState::default());
    for entry in requested {
        // Most lists have one entry.
        if requested.len() > 1 && !seen.insert((entry.permissions, entry.scheme.as_deref(), entry.id.as_deref())) {
            continue;
        }
        let Some(scheme) = &entry.scheme else { return Err(ErrorCode::InvalidAcl) };
        match (&**scheme, &entry.id) {
            ("auth", _) => {
                let before = fixed.len();
                let proven = identities
                    .iter()
                    .filter(|identity| Scheme::registered(&identity.scheme, config).is_some_and(Scheme::authenticates));
                for identity in proven {
                    expanded_bytes += ENTRY_BYTES + identity.scheme.len() + identity.id.len();
                    if expanded_bytes > MAX_EXPANDED_BYTES {
                        return Err(ErrorCode::InvalidAcl);
                    }
                    fixed.push(Acl::new(entry.permissions, identity.clone()));
                }
                if fixed.len() == before {
                    return Err(ErrorCode::InvalidAcl);
                }
            }
            ("world", Some(id)) if id == "anyone" => fixed.push(Acl::new(entry.permissions, Id::anyone())),
            ("world", None) => return Err(ErrorCode::MarshallingError),
            (_, id) => {
                let Some(registered) = Scheme::registered(scheme, config) else { return Err(ErrorCode::InvalidAcl) };
                let Some(id) = id else { return Err(ErrorCode::MarshallingError) };
                if !registered.accepts(id) {
                    return Err(ErrorCode::InvalidAcl);
                }
                fixed.push(Acl::new(entry.permissions, Id::new(scheme.clone(), id.clone())));
            }
        }
    }
    Ok(fixed)
}

/// What a caller without ADMIN sees of a list: the hashes of passwords are hidden.
pub fn masked(acl: &[Acl]) -> Vec<Acl> {
    let masked = acl.iter().map(|entry| match entry.id.id.split_once(':') {
        Some((user, _)) if entry.id.scheme == "digest" => {
            Acl::new(entry.permissions, Id::new("digest", format!("{user}:x")))
        }
        _ => entry.clone(),
    });
    masked.collect()
}

/// `zookeeper.DigestAuthenticationProvider.digestAlg`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DigestAlgorithm {
    #[default]
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    Sha512_224,
    Sha512_256,
    Sha3_224,
    Sha3_256,
    Sha3_384,
    Sha3_512,
}

impl DigestAlgorithm {
    /// By the name that Java has for it, in any case.
    pub fn from_name(name: &str) -> Option<DigestAlgorithm> {
        Some(match name.to_ascii_uppercase().as_str() {
            "SHA1" | "SHA-1" | "SHA" => DigestAlgorithm::Sha1,
            "SHA-224" | "SHA224" => DigestAlgorithm::Sha224,
            "SHA-256" | "SHA256" => DigestAlgorithm::Sha256,
            "SHA-384" | "SHA384" => DigestAlgorithm::Sha384,
            "SHA-512" | "SHA512" => DigestAlgorithm::Sha512,
            "SHA-512/224" | "SHA512/224" => DigestAlgorithm::Sha512_224,
            "SHA-512/256" | "SHA512/256" => DigestAlgorithm::Sha512_256,
            "SHA3-224" => DigestAlgorithm::Sha3_224,
            "SHA3-256" => DigestAlgorithm::Sha3_256,
            "SHA3-384" => DigestAlgorithm::Sha3_384,
            "SHA3-512" => DigestAlgorithm::Sha3_512,
            _ => return None,
        })
    }

    fn base64(self, text: &str) -> String {
        match self {
            DigestAlgorithm::Sha1 => STANDARD.encode(sha1::Sha1::digest(text)),
            DigestAlgorithm::Sha224 => STANDARD.encode(sha2::Sha224::digest(text)),
            DigestAlgorithm::Sha256 => STANDARD.encode(sha2::Sha256::digest(text)),
            DigestAlgorithm::Sha384 => STANDARD.encode(sha2::Sha384::digest(text)),
            DigestAlgorithm::Sha512 => STANDARD.encode(sha2::Sha512::digest(text)),
            DigestAlgorithm::Sha512_224 => STANDARD.encode(sha2::Sha512_224::digest(text)),
            DigestAlgorithm::Sha512_256 => STANDARD.encode(sha2::Sha512_256::digest(text)),
            DigestAlgorithm::Sha3_224 => STANDARD.encode(sha3::Sha3_224::digest(text)),
            DigestAlgorithm::Sha3_256 => STANDARD.encode(sha3::Sha3_256::digest(text)),
            DigestAlgorithm::Sha3_384 => STANDARD.encode(sha3::Sha3_384::digest(text)),
            DigestAlgorithm::Sha3_512 => STANDARD.encode(sha3::Sha3_512::digest(text)),
        }
    }
}

/// The id of scheme `digest` for what an auth packet carries: the user, a colon, and the hash over all of it. Text without a colon
/// is all user.
pub fn digest_id(user_and_password: &[u8], algorithm: DigestAlgorithm) -> String {
    let text = String::from_utf8_lossy(user_and_password);
    let user = text.split(':').next().unwrap_or_default();
    format!("{user}:{}", algorithm.base64(&text))
}

/// Two parts around a colon; only the first may be empty.
fn is_digest_id(id: &str) -> bool {
    id.trim_end_matches(':').split(':').count() == 2
}

/// Without an `@` anything goes; with one it is `primary[/instance]@realm`.
fn is_kerberos_name(id: &str) -> bool {
    match id.split_once('@') {
        None => true,
        Some((principal, realm)) => !realm.contains(['@', '/']) && principal.matches('/').count() <= 1,
    }
}

/// `type=value` pairs between commas or plus signs, with quotes and backslashes as in RFC 2253. The empty name is one.
fn is_distinguished_name(id: &str) -> bool {
    let (mut quoted, mut escaped, mut has_type, mut component_is_empty) = (false, false, false, true);
    for character in id.chars() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '=' if !quoted && !has_type => {
                if component_is_empty {
                    return false;
                }
                has_type = true;
            }
            ',' | ';' | '+' if !quoted => {
                if !has_type {
                    return false;
                }
                (has_type, component_is_empty) = (false, true);
                continue;
            }
            _ => {}
        }
        component_is_empty &= character == ' ';
    }
    id.trim().is_empty() || (has_type && !quoted && !escaped)
}

#[cfg(test)]
mod tests {
    use rookeeper_proto::Permissions;

    use super::*;

    fn allows(acl: &[Acl], wanted: Permissions, identities: &[Id], config: &AccessConfig) -> bool {
        crate::AccessList::new(acl.to_vec(), 0).allows(wanted, identities, config)
    }

    fn entry(permissions: i32, scheme: &'static str, id: &'static str) -> Acl {
        Acl::new(Permissions(permissions), Id::new(scheme, id))
    }

    fn request(permissions: i32, scheme: Option<&str>, id: Option<&str>) -> AclRequest {
        AclRequest {
            permissions: Permissions(permissions),
            scheme: scheme.map(|scheme| scheme.to_owned().into()),
            id: id.map(|id| id.to_owned().into()),
        }
    }

    fn all_schemes() -> AccessConfig {
        AccessConfig { sasl_enabled: true, x509_enabled: true, ..AccessConfig::default() }
    }

    #[test]
    fn recorded_digest_ids() {
        assert_eq!(digest_id(b"fx:fx", DigestAlgorithm::Sha1), "fx:6U0xaAI2bPl9UDNJl10l76bw5CQ=");
        assert_eq!(digest_id(b"super:admin", DigestAlgorithm::default()), "super:xQJmxLMiHGwaqBvst5y6rkB6HQs=");
        assert_eq!(digest_id(b"user", DigestAlgorithm::Sha1).split(':').next(), Some("user"));
        assert_eq!(
            digest_id(b"fx:fx", DigestAlgorithm::from_name("sha-256").unwrap()).len(),
            "fx:".len() + 44,
            "32 bytes in base64"
        );
        assert_eq!(DigestAlgorithm::from_name("MD4"), None);
    }

    #[test]
    fn access_is_by_any_entry_with_one_of_the_permissions() {
        let acl = [entry(1, "world", "anyone"), entry(2, "digest", "u:h"), entry(12, "sasl", "joe")];
        let allowed = |wanted: i32, identities: &[Id]| allows(&acl, Permissions(wanted), identities, &all_schemes());
        assert!(allowed(1, &[]) && !allowed(2, &[]));
        assert!(allowed(2, &[Id::new("digest", "u:h")]) && !allowed(2, &[Id::new("digest", "u:other")]));
        assert!(!allowed(2, &[Id::new("sasl", "u:h")]));
        assert!(allowed(4, &[Id::new("sasl", "joe")]) && allowed(17 + 4, &[Id::new("sasl", "super")]));
        assert!(!allowed(16, &[Id::new("sasl", "joe")]) && allowed(16, &[Id::new("super", "")]));
    }

    #[test]
    fn no_list_allows_and_a_list_for_nobody_does_not() {
        let config = AccessConfig::default();
        assert!(allows(&[], Permissions::ALL, &[], &config));
        assert!(!allows(&[entry(0, "world", "anyone")], Permissions::ALL, &[], &config));
        assert!(!allows(&[entry(31, "world", "someone")], Permissions::ALL, &[], &config));
        assert!(allows(&[entry(0, "ip", "x")], Permissions::ALL, &[], &AccessConfig { skip_acl: true, ..config }));
    }

    #[test]
    fn settings_widen_and_narrow_what_matches() {
        let sasl = [entry(31, "sasl", "crowd")];
        let joe = [Id::new("sasl", "joe")];
        let crowd = AccessConfig { any_sasl_user: Some("crowd".into()), ..all_schemes() };
        assert!(
            allows(&sasl, Permissions::READ, &joe, &crowd) && !allows(&sasl, Permissions::READ, &joe, &all_schemes())
        );
        let x509 = [entry(31, "x509", "CN=a")];
        let root = [Id::new("x509", "CN=root")];
        let super_user = AccessConfig { x509_super_user: Some("CN=root".into()), ..all_schemes() };
        assert!(allows(&x509, Permissions::READ, &root, &super_user));
        assert!(!allows(&x509, Permissions::READ, &root, &all_schemes()));
        let off = AccessConfig { digest_enabled: false, ..AccessConfig::default() };
        let digest = [entry(31, "digest", "u:h")];
        assert!(!allows(&digest, Permissions::READ, &[Id::new("digest", "u:h")], &off));
    }

    #[test]
    fn addresses_match_by_mask() {
        let config = AccessConfig::default();
        let matches = |entry_id: &'static str, address: &'static str| {
            allows(&[entry(1, "ip", entry_id)], Permissions::READ, &[Id::new("ip", address)], &config)
        };
        assert!(matches("10.1.0.0/16", "10.1.200.3") && !matches("10.1.0.0/16", "10.2.0.1"));
        assert!(matches("fe80::/10", "fe80:0:0:0:1:2:3:4%eth0") && !matches("fe80::/10", "10.1.0.1"));
    }

    #[test]
    fn fix_up_refuses_what_cannot_be_stored() {
        let cases = [
            (request(31, None, Some("x")), ErrorCode::InvalidAcl),
            (request(31, Some("world"), Some("nobody")), ErrorCode::InvalidAcl),
            (request(31, Some("world"), None), ErrorCode::MarshallingError),
            (request(31, Some("super"), Some("")), ErrorCode::InvalidAcl),
            (request(31, Some("unknown"), None), ErrorCode::InvalidAcl),
            (request(31, Some("digest"), None), ErrorCode::MarshallingError),
            (request(31, Some("ip"), None), ErrorCode::MarshallingError),
            (request(31, Some("ip"), Some("10.0.0")), ErrorCode::InvalidAcl),
            (request(31, Some("sasl"), Some("a@b@c")), ErrorCode::InvalidAcl),
            (request(31, Some("x509"), Some("nothing")), ErrorCode::InvalidAcl),
            (request(31, Some("auth"), None), ErrorCode::InvalidAcl),
        ];
        for (entry, expected) in cases {
            let identities = [Id::new("ip", "127.0.0.1"), Id::new("super", "")];
            assert_eq!(
                fix_up(Some(std::slice::from_ref(&entry)), &identities, &all_schemes()),
                Err(expected),
                "{entry:?}"
            );
        }
        assert_eq!(fix_up(None, &[], &all_schemes()), Err(ErrorCode::InvalidAcl));
        assert_eq!(fix_up(Some(&[]), &[], &all_schemes()), Err(ErrorCode::InvalidAcl));
        let sasl = request(31, Some("sasl"), Some("joe"));
        assert_eq!(fix_up(Some(&[sasl]), &[], &AccessConfig::default()), Err(ErrorCode::InvalidAcl), "not registered");
    }

    #[test]
    fn fix_up_expands_auth_and_drops_duplicates_in_order() {
        let identities = [Id::new("ip", "127.0.0.1"), Id::new("digest", "a:1"), Id::new("digest", "b:2")];
        let requested = [
            request(31, Some("auth"), Some("ignored")),
            request(0x7fff, Some("world"), Some("anyone")),
            request(31, Some("auth"), Some("ignored")),
            request(0, Some("ip"), Some("10.0.0.0/8")),
        ];
        assert_eq!(
            fix_up(Some(&requested), &identities, &AccessConfig::default()),
            Ok(vec![
                entry(31, "digest", "a:1"),
                entry(31, "digest", "b:2"),
                entry(0x7fff, "world", "anyone"),
                entry(0, "ip", "10.0.0.0/8"),
            ])
        );
    }

    #[test]
    fn id_formats() {
        for (id, valid) in [("a:b", true), (":b", true), ("a:b:", true), ("a", false), ("a:", false), (":", false)] {
            assert_eq!(is_digest_id(id), valid, "{id:?}");
        }
        assert!(!is_digest_id("") && !is_digest_id("a:b:c"));
        for (id, valid) in [("a", true), ("a/b/c", true), ("a/b@R", true), ("a/b/c@R", false), ("a@R/x", false)] {
            assert_eq!(is_kerberos_name(id), valid, "{id:?}");
        }
        for (id, valid) in
            [("", true), ("CN=a,O=b", true), ("CN=a\\,b", true), ("CN=\"a,b\"", true), ("CN=a,b", false), ("=a", false)]
        {
            assert_eq!(is_distinguished_name(id), valid, "{id:?}");
        }
    }

    #[test]
    fn masking_hides_the_hash_of_digest_entries_only() {
        let acl = [entry(31, "digest", "u:hash:more"), entry(1, "sasl", "a:b"), entry(1, "digest", "nocolon")];
        let expected = [entry(31, "digest", "u:x"), entry(1, "sasl", "a:b"), entry(1, "digest", "nocolon")];
        assert_eq!(masked(&acl), expected);
    }

    #[test]
    fn entries_for_the_callers_identities_do_not_multiply_without_end() {
        let identities: Vec<Id> = (0..100).map(|user| Id::new("digest", format!("user{user}:hash"))).collect();
        let entry = |permissions| AclRequest {
            permissions: Permissions(permissions),
            scheme: Some("auth".into()),
            id: Some("".into()),
        };
        let config = AccessConfig::default();
        let few: Vec<AclRequest> = (0..10).map(entry).collect();
        assert_eq!(fix_up(Some(&few), &identities, &config).map(|list| list.len()), Ok(1000));
        let many: Vec<AclRequest> = (0..2000).map(entry).collect();
        assert_eq!(fix_up(Some(&many), &identities, &config), Err(ErrorCode::InvalidAcl));
    }
}
