//! What a certificate says: whose it is, until when, and for which hosts.
//!
//! What always holds here: a certificate that can't be read says nothing, so it is for no host and of nobody.
//!
//! Counterpart in the original: `ZKHostnameVerifier` for the hosts, Java's `X500Principal.getName()` for the name of a subject.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use der::{Encode, Tag, Tagged};
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

use super::framing;

const COMMON_NAME: &str = "2.5.4.3";
const SUBJECT_ALT_NAME: &str = "2.5.29.17";

/// Names of attributes as Java writes them; all others are written as numbers.
const KEYWORDS: &[(&str, &str)] = &[
    (COMMON_NAME, "CN"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// What is of interest in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// As Java writes it, the last part first: `CN=zoo1,O=Example`.
    pub subject: String,
    /// The same of its issuer.
    pub issuer: String,
    /// Since the beginning of 1970.
    pub not_before: Duration,
    /// Since the beginning of 1970.
    pub not_after: Duration,
    pub hosts: Hosts,
}

/// For which hosts a certificate is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hosts {
    pub names: Vec<String>,
    pub addresses: Vec<IpAddr>,
}

impl Facts {
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Facts> {
        let certificate = framing::read::<x509_cert::Certificate>(certificate).ok()?.tbs_certificate;
        let mut hosts = Hosts::default();
        let mut has_alternatives = false;
        for extension in certificate.extensions.iter().flatten() {
            if extension.extn_id.to_string() == SUBJECT_ALT_NAME {
                let names = framing::read::<SubjectAltName>(extension.extn_value.as_bytes()).ok()?;
                for name in names.0 {
                    has_alternatives |= hosts.add(name);
                }
            }
        }
        // As the original does where there is no other name.
        if !has_alternatives && let Some(name) = common_name(&certificate.subject) {
            match name.parse() {
                Ok(address) => hosts.addresses.push(address),
                Err(_) => hosts.names.push(name),
            }
        }
        Some(Facts {
            subject: written(&certificate.subject),
            issuer: written(&certificate.issuer),
            not_before: certificate.validity.not_before.to_unix_duration(),
            not_after: certificate.validity.not_after.to_unix_duration(),
            hosts,
        })
    }

    /// Whole days that are left; negative when it is over.
    pub fn days_left(&self, now: UnixTime) -> i64 {
        let seconds = i64::try_from(self.not_after.as_secs()).unwrap_or(i64::MAX);
        (seconds - i64::try_from(now.as_secs()).unwrap_or(i64::MAX)).div_euclid(24 * 60 * 60)
    }
}

impl Hosts {
    /// Whether it was the name of a host.
    fn add(&mut self, name: GeneralName) -> bool {
        match name {
            GeneralName::DnsName(name) => self.names.push(name.to_string()),
            GeneralName::IpAddress(bytes) => {
                let address = match *bytes.as_bytes() {
                    [a, b, c, d] => Some(IpAddr::from([a, b, c, d])),
                    ref bytes => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
                };
                self.addresses.extend(address.map(|address| address.to_canonical()));
            }
            _ => return false,
        }
        true
    }

    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address.to_canonical())
    }

    /// Whether it is for this host, a name or an address.
    pub fn has(&self, host: &str) -> bool {
        // An address may name its network interface.
        let address = host.split_once('%').map_or(host, |(address, _)| address);
        match address.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => self.has_address(address),
            Err(_) => self.names.iter().any(|name| matches(name, host)),
        }
    }

    /// For messages.
    pub fn written(&self) -> String {
        const SHOWN: usize = 8;
        let all = self.names.iter().cloned().chain(self.addresses.iter().map(ToString::to_string));
        let shown: Vec<String> = all.take(SHOWN).map(|name| printable(&name)).collect();
        if shown.is_empty() { "no host".to_owned() } else { shown.join(", ") }
    }
}

/// Whether `host` is what `pattern` is for; a `*` stands for the first part of a name, where two more follow.
fn matches(pattern: &str, host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let pattern = pattern.trim_end_matches('.').to_ascii_lowercase();
    match pattern.strip_prefix("*.") {
        None => !host.is_empty() && pattern == host,
        Some(domain) => {
            domain.contains('.')
                && host.split_once('.').is_some_and(|(first, rest)| !first.is_empty() && rest == domain)
        }
    }
}

fn common_name(name: &Name) -> Option<String> {
    let mut attributes = name.0.iter().flat_map(|part| part.0.iter());
    // The most specific one stands last.
    let found = attributes.rfind(|attribute| attribute.oid.to_string() == COMMON_NAME)?;
    text(found).map(str::to_owned)
}

fn text(attribute: &AttributeTypeAndValue) -> Option<&str> {
    let is_text = matches!(
        attribute.value.tag(),
        Tag::PrintableString | Tag::Utf8String | Tag::TeletexString | Tag::Ia5String | Tag::BmpString
    );
    std::str::from_utf8(attribute.value.value()).ok().filter(|_| is_text)
}

/// A name as Java's `getName()` writes it, by RFC 2253 in reverse order.
pub(crate) fn written(name: &Name) -> String {
    let parts = name.0.iter().rev().map(|part| {
        let attributes: Vec<String> = part.0.iter().map(attribute).collect();
        attributes.join("+")
    });
    parts.collect::<Vec<_>>().join(",")
}

fn attribute(attribute: &AttributeTypeAndValue) -> String {
    let oid = attribute.oid.to_string();
    let keyword = KEYWORDS.iter().find(|(number, _)| *number == oid).map(|(_, keyword)| *keyword);
    match (keyword, text(attribute)) {
        (Some(keyword), Some(value)) => format!("{keyword}={}", escaped(value)),
        _ => {
            let mut written = format!("{}=#", keyword.unwrap_or(&oid));
            for byte in attribute.value.to_der().unwrap_or_default() {
                let _ = write!(written, "{byte:02x}");
            }
            written
        }
    }
}

fn escaped(value: &str) -> String {
    let is_blank = |character: &char| matches!(character, ' ' | '\r');
    let characters: Vec<char> = value.chars().collect();
    let first = characters.iter().position(|character| !is_blank(character)).unwrap_or(characters.len());
    let last = characters.iter().rposition(|character| !is_blank(character)).map_or(0, |last| last + 1);
    let mut escaped = String::new();
    for (index, character) in characters.into_iter().enumerate() {
        match character {
            ',' | '=' | '+' | '<' | '>' | '#' | ';' | '"' | '\\' => escaped.extend(['\\', character]),
            '\0' => escaped.push_str("\\00"),
            _ if index < first || index >= last => escaped.extend(['\\', character]),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Names from outside must not be able to forge lines of a log.
pub(crate) fn printable(text: &str) -> String {
    const MAX_CHARACTERS: usize = 200;
    let shown = text.chars().take(MAX_CHARACTERS);
    shown.map(|character| if character.is_control() { '?' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stands_for_one_part_of_a_name() {
        for (pattern, host, fits) in [
            ("zoo1.example.com", "ZOO1.example.com.", true),
            ("zoo1.example.com", "zoo2.example.com", false),
            ("*.example.com", "zoo1.example.com", true),
            ("*.example.com", "a.zoo1.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.com", "example.com", false),
            ("*", "localhost", false),
            ("z*.example.com", "zoo1.example.com", false),
            ("", "", false),
        ] {
            assert_eq!(matches(pattern, host), fits, "{pattern} {host}");
        }
    }

    #[test]
    fn an_address_is_compared_as_an_address() {
        let hosts = Hosts {
            names: vec!["10.0.0.2".to_owned()],
            addresses: vec![[10, 0, 0, 1].into(), "fe80::1".parse().unwrap()],
        };
        assert!(
            hosts.has("10.0.0.1")
                && hosts.has("::ffff:10.0.0.1")
                && hosts.has("fe80::1%eth0")
                && hosts.has("[fe80::1]")
        );
        assert!(!hosts.has("10.0.0.2"), "a name that looks like an address is no address");
        assert!(!hosts.has("10.0.0.3") && !hosts.has("zoo1"));
    }

    #[test]
    fn values_are_escaped_as_java_does() {
        for (value, written) in [
            ("zoo1", "zoo1"),
            ("a,b=c+d", "a\\,b\\=c\\+d"),
            (" a b ", "\\ a b\\ "),
            ("#1", "\\#1"),
            ("\"<\\>;", "\\\"\\<\\\\\\>\\;"),
            ("Zoë", "Zoë"),
        ] {
            assert_eq!(escaped(value), written);
        }
    }
}
