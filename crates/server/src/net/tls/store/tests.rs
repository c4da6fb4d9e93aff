//! Stores that openssl and keytool made, which stand in `tests/fixtures/tls`.

use rustls::crypto::aws_lc_rs::sign::any_supported_type;

use super::*;
use crate::net::tls::certificate::Facts;

const PASSWORD: &str = "changeit";

fn fixture(name: &str) -> Vec<u8> {
    let path = format!("{}/../../tests/fixtures/tls/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn kind(name: &str) -> StoreType {
    if name.ends_with(".pem") { StoreType::Pem } else { StoreType::Java }
}

fn key(name: &str, password: &str) -> Result<KeyEntry, Problem> {
    key_of(&fixture(name), kind(name), password)
}

#[test]
fn the_key_and_its_chain_are_found_in_every_type() {
    for (name, password) in [
        ("rsa.pem", ""),
        ("p256.pem", ""),
        ("p384.pem", ""),
        ("p521.pem", ""),
        ("ed25519.pem", ""),
        ("sec1.pem", ""),
        ("pkcs1.pem", ""),
        ("pbes2-aes256.pem", PASSWORD),
        ("pbes2-3des.pem", PASSWORD),
        ("scrypt.pem", PASSWORD),
        ("pbe-3des.pem", PASSWORD),
        ("openssl.p12", PASSWORD),
        ("openssl-legacy.p12", PASSWORD),
        ("openssl-no-password.p12", ""),
        ("keytool.p12", PASSWORD),
        ("keytool-legacy.p12", PASSWORD),
        ("keytool.jks", PASSWORD),
    ] {
        let entry = key(name, password).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        let hosts: Vec<String> = entry.chain.iter().map(|der| Facts::of(der).unwrap().hosts.written()).collect();
        assert_eq!(hosts.len(), 2, "{name}");
        assert!(hosts[0].ends_with(".example.com, 127.0.0.1") && hosts[1] == "Test Authority", "{name}: {hosts:?}");
        any_supported_type(&entry.key).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn a_wrong_password_is_told_as_such() {
    let encrypted = [
        "pbes2-aes256.pem",
        "pbes2-3des.pem",
        "scrypt.pem",
        "pbe-3des.pem",
        "openssl.p12",
        "openssl-legacy.p12",
        "keytool.p12",
        "keytool-legacy.p12",
        "keytool.jks",
    ];
    for name in encrypted {
        for wrong in ["", "changeIt"] {
            assert_eq!(key(name, wrong).unwrap_err(), Problem::WrongPassword, "{name} {wrong:?}");
        }
    }
}

#[test]
fn those_who_are_trusted_are_found_in_every_type() {
    let authority = fixture("authority.pem");
    let authority = trust_of(&authority, StoreType::Pem, "").unwrap().trusted;
    for (name, password) in [
        ("openssl-trust.p12", PASSWORD),
        ("keytool-trust.p12", PASSWORD),
        ("keytool-trust.jks", PASSWORD),
        ("keytool-trust.jks", ""),
    ] {
        let trusted =
            trust_of(&fixture(name), StoreType::Java, password).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        assert_eq!(trusted.trusted, authority, "{name}");
        assert_eq!(key(name, password).unwrap_err(), Problem::NoKey, "{name}");
    }
    for name in ["keytool-trust.jks", "keytool-trust.p12"] {
        let wrong = trust_of(&fixture(name), StoreType::Java, "other").unwrap_err();
        assert_eq!(wrong, Problem::WrongPassword, "{name}");
    }
}

#[test]
fn the_chain_of_a_key_is_not_trusted() {
    for name in ["keytool.p12", "openssl.p12", "keytool.jks"] {
        assert_eq!(trust_of(&fixture(name), StoreType::Java, PASSWORD).unwrap_err(), Problem::NoTrusted, "{name}");
    }
}

#[test]
fn other_files_are_refused_with_what_to_do() {
    let jceks = read(&fixture("keytool.jceks"), StoreType::Java, PASSWORD).unwrap_err();
    assert!(jceks.to_string().contains("keytool -importkeystore"), "{jceks}");
    let pem_as_java = read(&fixture("p256.pem"), StoreType::Java, "").unwrap_err();
    assert!(pem_as_java.to_string().contains("correct its type"), "{pem_as_java}");
    assert_eq!(key_of(&fixture("openssl.p12"), StoreType::Pem, "").unwrap_err(), Problem::NoKey);
}

#[test]
fn no_byte_that_is_changed_or_missing_is_more_than_a_refusal() {
    for name in ["keytool-trust.jks", "keytool.jks", "openssl-trust.p12", "p256.pem"] {
        let whole = fixture(name);
        for length in (0..whole.len()).step_by(7) {
            let _ = read(&whole[..length], kind(name), "");
        }
        for position in (0..whole.len()).step_by(5) {
            let mut changed = whole.clone();
            changed[position] ^= 0xff;
            let _ = read(&changed, kind(name), "");
        }
    }
}
