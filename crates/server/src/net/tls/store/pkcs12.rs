//! PKCS#12, the key store of Java from version 9 on, of OpenSSL and of everybody else.
//!
//! What always holds here: where the file has a checksum it is compared before anything in it counts. Certificates that merely belong to a key are
//! not trusted: trusted are those that are marked so, or stand in a store without a key.

use cms::content_info::ContentInfo;
use cms::encrypted_data::EncryptedData;
use der::Encode;
use der::asn1::OctetStringRef;
use hmac::{Hmac, Mac};
use pkcs12::cert_type::CertBag;
use pkcs12::kdf::{Pkcs12KeyType, derive_key_utf8};
use pkcs12::mac_data::MacData;
use pkcs12::pfx::Pfx;
use pkcs12::safe_bag::{SafeBag, SafeContents};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

use super::pbe::{self, Encrypted};
use super::{Entries, KeyEntry, Problem, chain_of};
use crate::net::tls::framing;

const DATA: &str = "1.2.840.113549.1.7.1";
const ENCRYPTED_DATA: &str = "1.2.840.113549.1.7.6";
const LOCAL_KEY_ID: &str = "1.2.840.113549.1.9.21";
/// How Java marks a certificate as trusted.
const TRUSTED_KEY_USAGE: &str = "2.16.840.1.113894.746875.1.1";

fn malformed<E>(_: E) -> Problem {
    Problem::Malformed("it is no PKCS#12 file, or one that is not encoded as DER")
}

#[derive(Debug)]
struct Certificate {
    der: CertificateDer<'static>,
    /// Of the key it belongs to.
    key_id: Option<Vec<u8>>,
    is_marked_trusted: bool,
}

pub(super) fn read(bytes: &[u8], password: &str) -> Result<Entries, Problem> {
    let pfx = framing::read::<Pfx>(bytes).map_err(malformed)?;
    let safe = data_of(&pfx.auth_safe)?;
    if let Some(mac) = &pfx.mac_data {
        check(mac, &safe, password)?;
    }
    let mut keys: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
    let mut certificates: Vec<Certificate> = Vec::new();
    for part in framing::read::<Vec<ContentInfo>>(&safe).map_err(malformed)? {
        let contents = match part.content_type.to_string().as_str() {
            DATA => data_of(&part)?,
            ENCRYPTED_DATA => decrypted(&part, password)?,
            other => return Err(Problem::Unsupported(format!("a part of the kind {other}"))),
        };
        for bag in framing::read::<SafeContents>(&contents).map_err(malformed)? {
            take(&bag, password, &mut keys, &mut certificates)?;
        }
    }
    Ok(entries(keys, certificates))
}

fn data_of(info: &ContentInfo) -> Result<Vec<u8>, Problem> {
    let encoded = info.content.to_der().map_err(malformed)?;
    Ok(framing::read::<OctetStringRef<'_>>(&encoded).map_err(malformed)?.as_bytes().to_vec())
}

fn decrypted(info: &ContentInfo, password: &str) -> Result<Vec<u8>, Problem> {
    let encoded = info.content.to_der().map_err(malformed)?;
    let content = framing::read::<EncryptedData>(&encoded).map_err(malformed)?.enc_content_info;
    let data = content.encrypted_content.ok_or(Problem::Malformed("an encrypted part of it is empty"))?;
    pbe::decrypt(&content.content_enc_alg, data.as_bytes(), password)
}

fn check(mac: &MacData, safe: &[u8], password: &str) -> Result<(), Problem> {
    pbe::check_rounds(mac.iterations)?;
    let expected = mac.mac.digest.as_bytes();
    macro_rules! is_right {
        ($hash:ty, $bytes:expr) => {{
            let salt = mac.mac_salt.as_bytes();
            let key = derive_key_utf8::<$hash>(password, salt, Pkcs12KeyType::Mac, mac.iterations, $bytes)
                .map_err(|_| Problem::WrongPassword)?;
            let mut hmac = Hmac::<$hash>::new_from_slice(&key).map_err(|_| Problem::WrongPassword)?;
            hmac.update(safe);
            hmac.verify_slice(expected).is_ok()
        }};
    }
    let is_right = match mac.mac.algorithm.oid.to_string().as_str() {
        "1.3.14.3.2.26" => is_right!(Sha1, 20),
        "2.16.840.1.101.3.4.2.1" => is_right!(Sha256, 32),
        "2.16.840.1.101.3.4.2.2" => is_right!(Sha384, 48),
        "2.16.840.1.101.3.4.2.3" => is_right!(Sha512, 64),
        other => return Err(Problem::Unsupported(format!("a checksum of the kind {other}"))),
    };
    if is_right { Ok(()) } else { Err(Problem::WrongPassword) }
}

fn take(
    bag: &SafeBag,
    password: &str,
    keys: &mut Vec<(Vec<u8>, Option<Vec<u8>>)>,
    certificates: &mut Vec<Certificate>,
) -> Result<(), Problem> {
    let (key_id, is_marked_trusted) = attributes(bag);
    // The value stands in a frame of its own.
    let frame = framing::read::<der::asn1::AnyRef<'_>>(&bag.bag_value).map_err(malformed)?;
    let value = frame.value();
    match bag.bag_id {
        pkcs12::PKCS_12_KEY_BAG_OID => keys.push((value.to_vec(), key_id)),
        pkcs12::PKCS_12_PKCS8_KEY_BAG_OID => {
            keys.push((Encrypted::read(value)?.decrypt(password)?, key_id));
        }
        pkcs12::PKCS_12_CERT_BAG_OID => {
            let certificate = framing::read::<CertBag>(value).map_err(malformed)?;
            if certificate.cert_id == pkcs12::PKCS_12_X509_CERT_OID {
                let der = CertificateDer::from(certificate.cert_value.into_bytes());
                certificates.push(Certificate { der, key_id, is_marked_trusted });
            }
        }
        _ => {}
    }
    Ok(())
}

/// The id of the key, and whether Java's mark is there.
fn attributes(bag: &SafeBag) -> (Option<Vec<u8>>, bool) {
    let mut found = (None, false);
    for attribute in bag.bag_attributes.iter().flat_map(|attributes| attributes.iter()) {
        match attribute.oid.to_string().as_str() {
            LOCAL_KEY_ID => found.0 = attribute.values.iter().next().map(|value| value.value().to_vec()),
            TRUSTED_KEY_USAGE => found.1 = true,
            _ => {}
        }
    }
    found
}

fn entries(keys: Vec<(Vec<u8>, Option<Vec<u8>>)>, certificates: Vec<Certificate>) -> Entries {
    let has_key = !keys.is_empty();
    let all: Vec<CertificateDer<'static>> = certificates.iter().map(|certificate| certificate.der.clone()).collect();
    let only = keys.len() == 1;
    let keys = keys.into_iter().map(|(key, key_id)| {
        let of_key = certificates.iter().find(|certificate| key_id.is_some() && certificate.key_id == key_id);
        // A store with one key may do without the ids.
        let leaf = of_key.or_else(|| certificates.first().filter(|_| only));
        let chain = leaf.map(|leaf| chain_of(&leaf.der, &all)).unwrap_or_default();
        KeyEntry { key: PrivatePkcs8KeyDer::from(key).into(), chain }
    });
    let keys = keys.collect();
    let trusted = certificates.into_iter().filter(|certificate| certificate.is_marked_trusted || !has_key);
    Entries { keys, trusted: trusted.map(|certificate| certificate.der).collect(), revoked: Vec::new() }
}
