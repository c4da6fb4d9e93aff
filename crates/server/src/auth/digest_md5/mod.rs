//! SASL DIGEST-MD5 (RFC 2831) as Java speaks it: quality of protection `auth`, one realm, no second use of a nonce.
//!
//! State machines without IO, clock or randomness: nonces are arguments. What always holds:
//! - a token longer than [`MAX_TOKEN_BYTES`] is refused before it is read; an exchange has two tokens of the client, then it is over;
//! - no password is kept, only the hash that the mechanism computes of it; hashes and responses are compared in constant time and
//!   never shown;
//! - an unknown user costs as much time as a wrong password, and is answered alike.
//!
//! `directives` is the syntax of tokens, `users` who may come in, `server` and `client` the two sides.

mod client;
mod directives;
mod server;
mod users;

use std::fmt;

use md5::{Digest as _, Md5};

pub use client::{Client, Login};
pub use server::{Progress, Server};
pub use users::{MalformedUsers, Users};

/// The longest token that either side sends or takes, as in Java.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// What a server is called in the exchange. Clients and servers must agree on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    /// The first part of `digest-uri`.
    pub protocol: &'static str,
    /// The realm, which is the second part of `digest-uri` too.
    pub realm: &'static str,
}

/// The client port.
pub const CLIENT_PORT: Service = Service { protocol: "zookeeper", realm: "zk-sasl-md5" };

/// The ports between servers.
pub const QUORUM: Service = Service { protocol: "zookeeper-quorum", realm: "zk-quorum-sasl-md5" };

impl Service {
    fn uri(self) -> String {
        format!("{}/{}", self.protocol, self.realm)
    }
}

/// Why an exchange failed. For the log; the other side learns no more than that it failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Longer than any honest token.
    #[error("a token of {0} bytes; {MAX_TOKEN_BYTES} are allowed")]
    TooLong(usize),
    /// It does not follow the syntax, or lacks something.
    #[error("a malformed token: {0}")]
    Malformed(&'static str),
    /// Sound, but it means something else.
    #[error("a token that does not fit: {0}")]
    Unfitting(&'static str),
    /// No such user, or another password.
    #[error("a wrong user or password")]
    Wrong,
    /// A token behind the last one of the exchange.
    #[error("a token behind the end of the exchange")]
    Over,
}

/// MD5 of `user:realm:password`: all that the mechanism needs to know of a password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret([u8; 16]);

impl Secret {
    /// As RFC 2831 and Java want it: each of the three in ISO-8859-1 where that has all its characters, else in UTF-8.
    pub fn of(user: &str, realm: &str, password: &str) -> Secret {
        Secret(md5(&[
            &latin_1_if_possible(user),
            b":",
            &latin_1_if_possible(realm),
            b":",
            &latin_1_if_possible(password),
        ]))
    }

    /// All in UTF-8, which other clients do.
    fn of_utf_8(user: &str, realm: &str, password: &str) -> Secret {
        Secret(md5(&[user.as_bytes(), b":", realm.as_bytes(), b":", password.as_bytes()]))
    }

    /// 32 hexadecimal digits.
    fn from_hex(text: &str) -> Option<Secret> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut secret = [0; 16];
        for (index, byte) in secret.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(Secret(secret))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("…")
    }
}

fn latin_1_if_possible(text: &str) -> Vec<u8> {
    let bytes: Result<Vec<u8>, _> = text.chars().map(|character| u8::try_from(u32::from(character))).collect();
    bytes.unwrap_or_else(|_| text.as_bytes().to_vec())
}

fn md5(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Md5::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

fn hex(hash: [u8; 16]) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(hash) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

/// What both sides put into the hash besides the password.
struct Exchange<'a> {
    nonce: &'a [u8],
    cnonce: &'a [u8],
    nonce_count: &'a [u8],
    uri: &'a [u8],
    authorization_id: Option<&'a [u8]>,
}

impl Exchange<'_> {
    /// The proof of the client.
    fn response(&self, secret: &Secret) -> [u8; 32] {
        self.proof(secret, b"AUTHENTICATE:")
    }

    /// The proof of the server.
    fn response_auth(&self, secret: &Secret) -> [u8; 32] {
        self.proof(secret, b":")
    }

    fn proof(&self, secret: &Secret, method: &[u8]) -> [u8; 32] {
        let session = match self.authorization_id {
            None => md5(&[&secret.0, b":", self.nonce, b":", self.cnonce]),
            Some(id) => md5(&[&secret.0, b":", self.nonce, b":", self.cnonce, b":", id]),
        };
        let request = hex(md5(&[method, self.uri]));
        hex(md5(&[&hex(session), b":", self.nonce, b":", self.nonce_count, b":", self.cnonce, b":auth:", &request]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the original and its client said to each other.
    #[test]
    fn recorded_proofs() {
        let exchange = Exchange {
            nonce: b"/hAjfwc2zlGxZKXD5NhWJi99XdZY+uKUABENgicM",
            cnonce: b"Y25vbmNlLWZpeGVk",
            nonce_count: b"00000001",
            uri: b"zookeeper/zk-sasl-md5",
            authorization_id: None,
        };
        let secret = Secret::of("bob", "zk-sasl-md5", "bobsecret");
        assert_eq!(&exchange.response(&secret), b"524f38eed78807606605c7ff85219f87");
        assert_eq!(&exchange.response_auth(&secret), b"9ad321d47f4c6b76637cc81822a8712d");
    }

    #[test]
    fn characters_beyond_ascii_are_hashed_as_java_and_as_others_do() {
        assert_eq!(latin_1_if_possible("Zoë"), b"Zo\xeb");
        assert_eq!(latin_1_if_possible("Žoë"), "Žoë".as_bytes());
        assert_eq!(Secret::of("zoe", "r", "x"), Secret::of_utf_8("zoe", "r", "x"));
        assert_ne!(Secret::of("zoë", "r", "x"), Secret::of_utf_8("zoë", "r", "x"));
    }

    #[test]
    fn a_secret_is_32_hexadecimal_digits_and_not_shown() {
        let secret = Secret::of("bob", "zk-sasl-md5", "bobsecret");
        let text = String::from_utf8(hex(secret.0).to_vec()).unwrap();
        assert_eq!(Secret::from_hex(&text), Some(secret));
        assert_eq!(Secret::from_hex(&text.to_uppercase()), Some(secret));
        for wrong in ["", &text[1..], &format!("{text}0"), &text.replace('a', "g"), &"é".repeat(16)] {
            assert!(wrong == text || Secret::from_hex(wrong).is_none(), "{wrong}");
        }
        assert_eq!(format!("{secret:?}"), "…");
    }
}
