//! Protocols and cipher suites by the names that Java has for them.
//!
//! What always holds here: a name that is not supported is told to the caller, never taken for another one; what is left of a list is in the order
//! of the list.

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{NamedGroup, SupportedCipherSuite, SupportedProtocolVersion, version};

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl Protocol {
    /// What is spoken where nothing is configured.
    pub const ALL: [Protocol; 2] = [Protocol::Tls13, Protocol::Tls12];

    pub(crate) fn of_name(name: &str) -> Option<Protocol> {
        match name {
            "TLSv1.2" => Some(Protocol::Tls12),
            "TLSv1.3" => Some(Protocol::Tls13),
            _ => None,
        }
    }

    fn version(self) -> &'static SupportedProtocolVersion {
        match self {
            Protocol::Tls12 => &version::TLS12,
            Protocol::Tls13 => &version::TLS13,
        }
    }
}

pub(crate) fn versions(protocols: &[Protocol]) -> Vec<&'static SupportedProtocolVersion> {
    protocols.iter().map(|protocol| protocol.version()).collect()
}

/// The name of a suite as Java writes it, which is that of the registry of TLS.
fn name_of(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1)
}

/// A suite that Java knows by this name. Old names begin with `SSL_`.
fn find(name: &str) -> Option<SupportedCipherSuite> {
    let name = name.strip_prefix("SSL_").map_or_else(|| name.to_owned(), |rest| format!("TLS_{rest}"));
    aws_lc_rs::ALL_CIPHER_SUITES.iter().find(|suite| name_of(suite) == name).copied()
}

/// Sorts the names of a list into those that are supported and those that are not.
pub(crate) fn sort<'a>(names: impl Iterator<Item = &'a str>) -> (Vec<String>, Vec<String>) {
    let (known, unknown): (Vec<&str>, Vec<&str>) =
        names.map(str::trim).filter(|name| !name.is_empty()).partition(|name| find(name).is_some());
    let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
    (owned(known), owned(unknown))
}

/// Whether one of these suites is for one of these protocols.
pub(crate) fn fit(suites: &[String], protocols: &[Protocol]) -> bool {
    let suites = suites.iter().filter_map(|name| find(name));
    suites.into_iter().any(|suite| protocols.iter().any(|protocol| suite.version() == protocol.version()))
}

/// All suites that there are, by the names that Java has for them.
pub(crate) fn all_names() -> String {
    aws_lc_rs::ALL_CIPHER_SUITES.iter().map(name_of).collect::<Vec<_>>().join(", ")
}

/// What encrypts, with these suites, or with all where none are named.
pub(crate) fn provider(suites: &[String]) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    // The library of the shell switches on that these come first. What a server does must not depend on whether the shell is built in.
    provider.kx_groups.sort_by_key(|group| group.name() == NamedGroup::X25519MLKEM768);
    if !suites.is_empty() {
        provider.cipher_suites = suites.iter().filter_map(|name| find(name)).collect();
    }
    provider
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_java_are_found_and_others_are_told() {
        let list = "TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,SSL_ECDHE_RSA_WITH_AES_256_GCM_SHA384,,TLS13_AES_256_GCM_SHA384";
        let (known, unknown) = sort(list.split(','));
        assert_eq!(known, ["TLS_AES_128_GCM_SHA256", "SSL_ECDHE_RSA_WITH_AES_256_GCM_SHA384"]);
        assert_eq!(unknown, ["TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "TLS13_AES_256_GCM_SHA384"]);
        let suites: Vec<_> = provider(&known).cipher_suites.iter().map(name_of).collect();
        assert_eq!(suites, ["TLS_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"]);
        assert!(provider(&[]).cipher_suites.len() > 5);
    }

    /// Fails only where the shell is built too, as it is when the whole workspace is tested.
    #[test]
    fn keys_are_exchanged_in_one_order_with_and_without_the_shell() {
        let names: Vec<NamedGroup> = provider(&[]).kx_groups.iter().map(|group| group.name()).collect();
        let plain = [NamedGroup::X25519, NamedGroup::secp256r1, NamedGroup::secp384r1];
        assert_eq!(names, [&plain[..], &[NamedGroup::X25519MLKEM768]].concat());
    }

    #[test]
    fn a_suite_is_for_one_protocol() {
        let of_12 = vec!["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384".to_owned()];
        assert!(fit(&of_12, &Protocol::ALL) && fit(&of_12, &[Protocol::Tls12]));
        assert!(!fit(&of_12, &[Protocol::Tls13]) && !fit(&[], &Protocol::ALL));
    }
}
