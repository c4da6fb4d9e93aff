//! Who somebody is: which identities a client gains by what it sends, and what a server proves to another.
//!
//! Auth packets are judged here. `jaas` reads the files in which users and passwords stand, `digest_md5` and `kerberos` are the mechanisms
//! of SASL.
//! What always holds: secrets are compared in constant time and never shown.

pub(crate) mod between_servers;
pub mod digest_md5;
pub mod jaas;
pub(crate) mod kerberos;
pub(crate) mod sasl;

use std::collections::BTreeSet;
use std::hint::black_box;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use rookeeper_proto::jute::Buffer;
use rookeeper_proto::request::AuthRequest;
use rookeeper_proto::{Id, jute};
use rookeeper_tree::access;

use crate::config::Access;

/// What came of an auth packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The connection gains these.
    Accepted(Vec<Id>),
    /// The client means this ensemble, or says nothing of it, or nobody knows.
    OurEnsemble { was_judged: bool },
    /// Answered with AuthFailed, then the connection ends.
    Refused,
    /// The client means another ensemble. The connection ends without an answer, for AuthFailed would end its session, and another address
    /// of its list may be right.
    OtherEnsemble,
    /// Not an auth packet at all: the connection ends without an answer.
    Undecodable,
}

/// Judges the body of an auth packet. A wrong password is not refused: it makes another identity.
pub(crate) fn judge(body: &[u8], config: &Access, address: &Id) -> Verdict {
    let Ok(request) = jute::from_slice::<AuthRequest<'_>>(body) else { return Verdict::Undecodable };
    match (request.scheme.as_deref(), request.auth) {
        (Some("digest"), Some(user_and_password)) => {
            by_password(&user_and_password, config).map_or(Verdict::Refused, Verdict::Accepted)
        }
        (Some("ip"), _) => Verdict::Accepted(vec![address.clone()]),
        // Not an identity: it only keeps clients from talking to the wrong ensemble.
        (Some("ensemble"), name) => match &config.ensemble_names {
            Some(names) => match is_ours(names, name) {
                Some(true) => Verdict::OurEnsemble { was_judged: true },
                Some(false) => Verdict::OtherEnsemble,
                None => Verdict::OurEnsemble { was_judged: false },
            },
            None => Verdict::Refused,
        },
        _ => Verdict::Refused,
    }
}

/// The identities of whoever says `user:password`; none where the scheme is off.
pub(crate) fn by_password(user_and_password: &[u8], config: &Access) -> Option<Vec<Id>> {
    config.digest_enabled.then(|| {
        let id = access::digest_id(user_and_password, config.digest_algorithm);
        let is_super = |digest: &String| is_same_secret(digest.as_bytes(), id.as_bytes());
        let super_user = config.super_digest.as_ref().filter(|digest| is_super(digest)).map(|_| Id::new("super", ""));
        super_user.into_iter().chain([Id::new("digest", id.clone())]).collect()
    })
}

/// None where there is nothing to compare.
fn is_ours(names: &BTreeSet<String>, name: Option<Buffer<'_>>) -> Option<bool> {
    let name = name.map(|name| String::from_utf8_lossy(&name).into_owned()).unwrap_or_default();
    (!name.is_empty() && !names.is_empty()).then(|| names.contains(&name))
}

/// Compares in a time that tells nothing of where a difference is.
pub(crate) fn is_same_secret(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && black_box(one.iter().zip(other).fold(0, |difference, (one, other)| difference | (one ^ other))) == 0
}

/// A text that nobody can predict and that never comes again: 40 characters of base64, as in Java.
pub(crate) fn nonce() -> String {
    let mut bytes = [0; 30];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the kernel gives no random bytes: {error}"),
        }
    }
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_compared_as_a_whole() {
        assert!(is_same_secret(b"", b"") && is_same_secret(b"abc", b"abc"));
        for other in [&b""[..], b"ab", b"abd", b"bbc", b"abcd"] {
            assert!(!is_same_secret(b"abc", other));
        }
    }

    #[test]
    fn nonces_differ_and_need_no_quotes() {
        let (one, other) = (nonce(), nonce());
        assert_ne!(one, other);
        assert!(one.len() == 40 && !one.contains(['"', '\\']));
    }
}
