//! Decryption with a password: PBES2 of today's tools, and the schemes of PKCS#12 that older ones write.
//!
//! What always holds here: a file can't ask for more work or memory than any honest one does.

use cbc::Decryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipher, BlockDecryptMut, InnerIvInit, KeyIvInit, KeySizeUser};
use der::asn1::{OctetString, OctetStringRef};
use der::{Encode, Sequence};
use des::TdesEde3;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::Kdf;
use pkcs12::kdf::{Pkcs12KeyType, derive_key_utf8};
use rc2::Rc2;
use sha1::Sha1;
use x509_cert::spki::AlgorithmIdentifierOwned;

use super::Problem;
use crate::net::tls::framing;

/// Rounds of a derivation; keytool and OpenSSL write 10,000 and 2,048, careful people a million.
pub(super) const MAX_ROUNDS: u32 = 2_000_000;

/// Memory of a derivation by scrypt.
const MAX_SCRYPT_BYTES: u64 = 16 << 20;

/// Parameters of the schemes of PKCS#12.
#[derive(Debug, Sequence)]
struct Parameters<'a> {
    salt: OctetStringRef<'a>,
    rounds: i32,
}

/// Something encrypted, with the scheme by which it is: the frame of PKCS#8, which PKCS#12 and JKS use too.
#[derive(Debug, Sequence)]
pub(super) struct Encrypted {
    pub algorithm: AlgorithmIdentifierOwned,
    pub data: OctetString,
}

impl Encrypted {
    pub fn read(bytes: &[u8]) -> Result<Encrypted, Problem> {
        framing::read::<Encrypted>(bytes).map_err(|_| Problem::Malformed("an encrypted key in it makes no sense"))
    }

    pub fn decrypt(&self, password: &str) -> Result<Vec<u8>, Problem> {
        decrypt(&self.algorithm, self.data.as_bytes(), password)
    }
}

/// Decrypts by the scheme that `algorithm` names.
pub(super) fn decrypt(algorithm: &AlgorithmIdentifierOwned, data: &[u8], password: &str) -> Result<Vec<u8>, Problem> {
    let malformed = |_| Problem::Malformed("the parameters of its encryption make no sense");
    let parameters = || {
        let encoded = algorithm.parameters.to_der().map_err(malformed)?;
        Ok::<_, Problem>(encoded)
    };
    match algorithm.oid {
        pkcs12::PKCS_12_PBE_WITH_SHAAND3_KEY_TRIPLE_DES_CBC => {
            cbc_decrypt::<TdesEde3>(&parameters()?, 24, data, password)
        }
        pkcs12::PKCS_12_PBE_WITH_SHAAND128_BIT_RC2_CBC => rc2_decrypt(&parameters()?, 16, data, password),
        pkcs12::PKCS_12_PBEWITH_SHAAND40_BIT_RC2_CBC => rc2_decrypt(&parameters()?, 5, data, password),
        pkcs8::pkcs5::pbes2::PBES2_OID => {
            let encoded = algorithm.to_der().map_err(malformed)?;
            let scheme = EncryptionScheme::try_from(encoded.as_slice())
                .map_err(|_| Problem::Unsupported(format!("its kind of PBES2 encryption ({})", convert())))?;
            check_work(&scheme)?;
            scheme.decrypt(password.as_bytes(), data).map_err(|error| match error {
                pkcs8::pkcs5::Error::UnsupportedAlgorithm { .. } => {
                    Problem::Unsupported(format!("its kind of PBES2 encryption ({})", convert()))
                }
                _ => Problem::WrongPassword,
            })
        }
        other => Err(Problem::Unsupported(format!("the encryption {other} ({})", convert()))),
    }
}

fn convert() -> &'static str {
    "write the store again with a current keytool or OpenSSL"
}

fn check_work(scheme: &EncryptionScheme<'_>) -> Result<(), Problem> {
    let too_much = Problem::Malformed("its encryption asks for more work than any honest one");
    match scheme.pbes2().map(|parameters| &parameters.kdf) {
        Some(Kdf::Pbkdf2(kdf)) if kdf.iteration_count > MAX_ROUNDS => Err(too_much),
        Some(Kdf::Scrypt(kdf)) => {
            let bytes = 128u64.saturating_mul(kdf.cost_parameter).saturating_mul(u64::from(kdf.block_size));
            let work = bytes.saturating_mul(u64::from(kdf.parallelization));
            if bytes > MAX_SCRYPT_BYTES || work > 16 * MAX_SCRYPT_BYTES { Err(too_much) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

/// Key and initial vector of a scheme of PKCS#12.
fn derive(parameters: &[u8], key_bytes: usize, password: &str) -> Result<(Vec<u8>, Vec<u8>), Problem> {
    let parameters = framing::read::<Parameters<'_>>(parameters)
        .map_err(|_| Problem::Malformed("the parameters of its encryption make no sense"))?;
    let salt = parameters.salt.as_bytes();
    check_rounds(parameters.rounds)?;
    let derive = |kind, bytes| {
        derive_key_utf8::<Sha1>(password, salt, kind, parameters.rounds, bytes).map_err(|_| Problem::WrongPassword)
    };
    Ok((derive(Pkcs12KeyType::EncryptionKey, key_bytes)?, derive(Pkcs12KeyType::Iv, 8)?))
}

pub(super) fn check_rounds(rounds: i32) -> Result<(), Problem> {
    match u32::try_from(rounds) {
        Ok(1..=MAX_ROUNDS) => Ok(()),
        _ => Err(Problem::Malformed("its encryption asks for no work, or more than any honest one")),
    }
}

fn cbc_decrypt<C>(parameters: &[u8], key_bytes: usize, data: &[u8], password: &str) -> Result<Vec<u8>, Problem>
where
    C: BlockCipher + BlockDecryptMut + KeySizeUser + cbc::cipher::KeyInit,
{
    let (key, vector) = derive(parameters, key_bytes, password)?;
    let decryptor =
        Decryptor::<C>::new_from_slices(&key, &vector).map_err(|_| Problem::Malformed("its key has no such length"))?;
    unpadded(decryptor, data)
}

fn unpadded<C: BlockDecryptMut>(decryptor: C, data: &[u8]) -> Result<Vec<u8>, Problem> {
    let mut buffer = data.to_vec();
    let plain = decryptor.decrypt_padded_mut::<Pkcs7>(&mut buffer).map_err(|_| Problem::WrongPassword)?;
    Ok(plain.to_vec())
}

/// RC2 takes keys of several lengths, which the general way knows only the default of.
fn rc2_decrypt(parameters: &[u8], key_bytes: usize, data: &[u8], password: &str) -> Result<Vec<u8>, Problem> {
    let (key, vector) = derive(parameters, key_bytes, password)?;
    let cipher = Rc2::new_with_eff_key_len(&key, key_bytes * 8);
    let decryptor = Decryptor::<Rc2>::inner_iv_slice_init(cipher, &vector)
        .map_err(|_| Problem::Malformed("its vector has no such length"))?;
    unpadded(decryptor, data)
}
