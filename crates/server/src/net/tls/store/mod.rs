//! Key stores and trust stores: files of certificates, keys and lists of revoked certificates, in the types that Java and OpenSSL write.
//!
//! What always holds here: bytes of a file are an argument, so a store is a function of them and of the password; no byte of it causes a panic, or
//! memory beyond a multiple of the file. The type is what the file says it is: Java takes PKCS#12 for JKS and the other way round, and a tool of
//! today writes PKCS#12 into a file that is called `.jks`.
//!
//! - `pem.rs`, `jks.rs`, `pkcs12.rs`: the types
//! - `pbe.rs`: decryption with a password
//!
//! Counterpart in the original: `FileKeyStoreLoader` and its kinds, `PemReader`.

mod jks;
mod pbe;
mod pem;
mod pkcs12;

use std::fmt;

use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer,
    PrivateSec1KeyDer,
};

use self::pbe::Encrypted;
use super::framing;

/// The longest chain of certificates that belongs to a key.
const MAX_CHAIN: usize = 16;

/// What a store is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreType {
    /// Text with parts between lines of dashes.
    Pem,
    /// PKCS#12 or JKS; the file says which.
    Java,
}

impl StoreType {
    /// What the suffix of a file says, as the original takes it; none for a suffix that it does not know.
    pub(crate) fn of_file(name: &str) -> Option<Result<StoreType, UnsupportedType>> {
        let (_, suffix) = name.rsplit_once('.')?;
        match suffix {
            "pem" => Some(Ok(StoreType::Pem)),
            "p12" | "jks" => Some(Ok(StoreType::Java)),
            "bcfks" => Some(Err(UnsupportedType)),
            _ => None,
        }
    }

    /// What a file holds, where nobody says: all that is Java's begins with other bytes than text does.
    pub(crate) fn of_contents(bytes: &[u8]) -> StoreType {
        match bytes.first() {
            Some(first) if !first.is_ascii() || *first == 0x30 => StoreType::Java,
            _ => StoreType::Pem,
        }
    }

    /// What a configured type names; none for a name that the original does not know.
    pub(crate) fn of_name(name: &str) -> Option<Result<StoreType, UnsupportedType>> {
        match name.to_ascii_uppercase().as_str() {
            "PEM" => Some(Ok(StoreType::Pem)),
            "PKCS12" | "JKS" => Some(Ok(StoreType::Java)),
            "BCFKS" => Some(Err(UnsupportedType)),
            _ => None,
        }
    }
}

/// A type that the original can read and this server can't: BCFKS, for which there is no library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnsupportedType;

/// Why a store can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// Its password is another one, or its bytes were changed.
    WrongPassword,
    /// Its bytes make no sense.
    Malformed(&'static str),
    /// It needs something that there is not.
    Unsupported(String),
    /// There is no key in it.
    NoKey,
    /// There is no certificate of its key in it.
    NoChain,
    /// There is no certificate in it that is trusted.
    NoTrusted,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::WrongPassword => formatter.write_str("the password is wrong, or the file was changed; check password and passwordPath"),
            Problem::Malformed(what) => write!(formatter, "{what}; make the file again, or correct its type"),
            Problem::Unsupported(what) => write!(formatter, "it holds {what}, which is not supported"),
            Problem::NoKey => formatter.write_str("there is no private key in it; a key store holds the key of this server and its certificates"),
            Problem::NoChain => formatter.write_str("there is no certificate for its private key; put the certificate into the same file, in front of those of its issuers"),
            Problem::NoTrusted => formatter.write_str("there is no trusted certificate in it; put the certificates of the authorities into it that issue those of the peers"),
        }
    }
}

/// A key and the certificates from its own to that of an authority.
pub struct KeyEntry {
    /// Secret.
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) chain: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for KeyEntry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("KeyEntry").field("key", &"…").field("chain", &self.chain.len()).finish()
    }
}

/// All that a store holds.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    pub keys: Vec<KeyEntry>,
    pub trusted: Vec<CertificateDer<'static>>,
    pub revoked: Vec<CertificateRevocationListDer<'static>>,
}

/// How many keys and certificates a store holds; or why it can't be read.
pub fn count(bytes: &[u8], kind: StoreType, password: &str) -> Result<(usize, usize), Problem> {
    let entries = read(bytes, kind, password)?;
    let in_chains: usize = entries.keys.iter().map(|key| key.chain.len()).sum();
    Ok((entries.keys.len(), entries.trusted.len() + in_chains))
}

/// The key of this server and its certificates.
pub(crate) fn key_of(bytes: &[u8], kind: StoreType, password: &str) -> Result<KeyEntry, Problem> {
    let entry = read(bytes, kind, password)?.keys.into_iter().next().ok_or(Problem::NoKey)?;
    if entry.chain.is_empty() { Err(Problem::NoChain) } else { Ok(entry) }
}

/// Who is trusted, and which lists of revoked certificates stand in the same file.
pub(crate) fn trust_of(bytes: &[u8], kind: StoreType, password: &str) -> Result<Entries, Problem> {
    let entries = read(bytes, kind, password)?;
    if entries.trusted.is_empty() { Err(Problem::NoTrusted) } else { Ok(entries) }
}

/// Lists of revoked certificates, as PEM or as the bytes of one.
pub(crate) fn revoked_of(bytes: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, Problem> {
    if bytes.first() == Some(&0x30) {
        return Ok(vec![bytes.to_vec().into()]);
    }
    let revoked = read(bytes, StoreType::Pem, "")?.revoked;
    if revoked.is_empty() {
        Err(Problem::Malformed("there is no list of revoked certificates in it"))
    } else {
        Ok(revoked)
    }
}

/// Reads a store, whatever is in it.
pub(crate) fn read(bytes: &[u8], kind: StoreType, password: &str) -> Result<Entries, Problem> {
    match kind {
        StoreType::Pem => read_pem(bytes, password),
        StoreType::Java if bytes.starts_with(&jks::MAGIC) => jks::read(bytes, password),
        StoreType::Java if bytes.starts_with(&[0xce, 0xce, 0xce, 0xce]) => {
            let convert = "a store of the type JCEKS (convert it: keytool -importkeystore -deststoretype pkcs12)";
            Err(Problem::Unsupported(convert.to_owned()))
        }
        StoreType::Java => pkcs12::read(bytes, password),
    }
}

fn read_pem(bytes: &[u8], password: &str) -> Result<Entries, Problem> {
    let mut entries = Entries::default();
    let mut keys: Vec<PrivateKeyDer<'static>> = Vec::new();
    for pem::Section { label, bytes } in pem::sections(bytes)? {
        match label.as_str() {
            "CERTIFICATE" | "X509 CERTIFICATE" => entries.trusted.push(bytes.into()),
            "X509 CRL" => entries.revoked.push(bytes.into()),
            "PRIVATE KEY" => keys.push(PrivatePkcs8KeyDer::from(bytes).into()),
            "RSA PRIVATE KEY" => keys.push(PrivatePkcs1KeyDer::from(bytes).into()),
            "EC PRIVATE KEY" => keys.push(PrivateSec1KeyDer::from(bytes).into()),
            "ENCRYPTED PRIVATE KEY" => {
                let key = Encrypted::read(&bytes)?.decrypt(password)?;
                keys.push(PrivatePkcs8KeyDer::from(key).into());
            }
            _ => {}
        }
    }
    // As in the original, the certificates in front are those of the key; in a trust store all of them are trusted.
    let chain: Vec<_> = entries.trusted.iter().take(MAX_CHAIN).cloned().collect();
    entries.keys = keys.into_iter().map(|key| KeyEntry { key, chain: chain.clone() }).collect();
    Ok(entries)
}

/// The certificates from `leaf` to an authority, as far as they are among `all`.
fn chain_of(leaf: &CertificateDer<'static>, all: &[CertificateDer<'static>]) -> Vec<CertificateDer<'static>> {
    let mut chain = vec![leaf.clone()];
    while chain.len() < MAX_CHAIN {
        let Some((subject, issuer)) = chain.last().and_then(names) else { break };
        if subject == issuer {
            break;
        }
        let next = all.iter().find(|der| names(der).is_some_and(|(subject, _)| subject == issuer));
        match next.filter(|next| !chain.contains(next)) {
            Some(next) => chain.push(next.clone()),
            None => break,
        }
    }
    chain
}

/// Subject and issuer.
fn names(der: &CertificateDer<'_>) -> Option<(x509_cert::name::Name, x509_cert::name::Name)> {
    let certificate = framing::read::<x509_cert::Certificate>(der).ok()?;
    Some((certificate.tbs_certificate.subject, certificate.tbs_certificate.issuer))
}

#[cfg(test)]
mod tests;
