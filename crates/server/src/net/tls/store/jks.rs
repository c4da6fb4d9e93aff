//! JKS, the key store of Java until version 8.
//!
//! What always holds here: lengths in the file are compared with what is left of it before anything is copied, and the checksum over the whole
//! file is compared before anything in it counts, where there is a password.
//!
//! Counterpart in Java: `sun.security.provider.JavaKeyStore` and `KeyProtector`.

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use sha1::{Digest, Sha1};

use super::pbe::Encrypted;
use super::{Entries, KeyEntry, Problem};

pub(super) const MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];

/// The whitener of the checksum.
const WHITENER: &[u8] = b"Mighty Aphrodite";

const DIGEST_BYTES: usize = 20;

const KEY_PROTECTOR: &str = "1.3.6.1.4.1.42.2.17.1.1";

const TRUNCATED: Problem = Problem::Malformed("the JKS file is cut off");

/// What is left of the file.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Problem> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(TRUNCATED)?;
        self.0 = tail;
        Ok(head)
    }

    fn short(&mut self) -> Result<usize, Problem> {
        let bytes = self.take(2)?;
        Ok(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])))
    }

    fn int(&mut self) -> Result<u32, Problem> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn text(&mut self) -> Result<&'a [u8], Problem> {
        let length = self.short()?;
        self.take(length)
    }

    fn blob(&mut self) -> Result<&'a [u8], Problem> {
        let length = self.int()?;
        self.take(length as usize)
    }

    fn certificate(&mut self, version: u32) -> Result<CertificateDer<'static>, Problem> {
        if version == 2 && self.text()? != b"X.509" {
            return Err(Problem::Unsupported("a certificate that is not X.509".to_owned()));
        }
        Ok(CertificateDer::from(self.blob()?.to_vec()))
    }
}

/// Reads a store. Without a password its checksum is not compared, and its keys can't be read.
pub(super) fn read(bytes: &[u8], password: &str) -> Result<Entries, Problem> {
    let password: Vec<u8> = password.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let body = bytes.len().checked_sub(DIGEST_BYTES).ok_or(TRUNCATED)?;
    let (body, checksum) = bytes.split_at(body);
    if !password.is_empty() {
        let digest = Sha1::new().chain_update(&password).chain_update(WHITENER).chain_update(body).finalize();
        if digest.as_slice() != checksum {
            return Err(Problem::WrongPassword);
        }
    }
    let mut rest = Rest(body);
    if rest.take(4)? != MAGIC {
        return Err(Problem::Malformed("it is no JKS file"));
    }
    let version = rest.int()?;
    if !matches!(version, 1 | 2) {
        return Err(Problem::Unsupported(format!("version {version} of JKS")));
    }
    let mut entries = Entries::default();
    for _ in 0..rest.int()? {
        let kind = rest.int()?;
        let _alias = rest.text()?;
        let _created = rest.take(8)?;
        match kind {
            1 => {
                let protected = rest.blob()?;
                let mut chain = Vec::new();
                for _ in 0..rest.int()? {
                    chain.push(rest.certificate(version)?);
                }
                let key = PrivatePkcs8KeyDer::from(unprotect(protected, &password)?).into();
                entries.keys.push(KeyEntry { key, chain });
            }
            2 => entries.trusted.push(rest.certificate(version)?),
            _ => return Err(Problem::Malformed("an entry of the JKS file is neither a key nor a certificate")),
        }
    }
    Ok(entries)
}

/// The key under the protection that is JKS's own: a stream of SHA-1 over password and salt, and a checksum.
fn unprotect(protected: &[u8], password: &[u8]) -> Result<Vec<u8>, Problem> {
    let info = framed(protected)?;
    let length = info.len().checked_sub(2 * DIGEST_BYTES).ok_or(TRUNCATED)?;
    let (salt, rest) = info.split_at(DIGEST_BYTES);
    let (encrypted, checksum) = rest.split_at(length);
    let mut key = Vec::with_capacity(length);
    let mut block = salt.to_vec();
    for part in encrypted.chunks(DIGEST_BYTES) {
        block = Sha1::new().chain_update(password).chain_update(&block).finalize().to_vec();
        key.extend(part.iter().zip(&block).map(|(byte, mask)| byte ^ mask));
    }
    let digest = Sha1::new().chain_update(password).chain_update(&key).finalize();
    if digest.as_slice() != checksum { Err(Problem::WrongPassword) } else { Ok(key) }
}

/// What stands in the frame around a protected key, which is that of PKCS#8 with an algorithm of Java's.
fn framed(bytes: &[u8]) -> Result<Vec<u8>, Problem> {
    let frame = Encrypted::read(bytes)?;
    if frame.algorithm.oid.to_string() != KEY_PROTECTOR {
        return Err(Problem::Unsupported(format!("the key protection {}", frame.algorithm.oid)));
    }
    Ok(frame.data.into_bytes())
}
