//! Auth packets: which identities a client gains by what it sends.

use std::collections::BTreeSet;

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
        (Some("digest"), Some(user_and_password)) if config.digest_enabled => {
            let id = access::digest_id(&user_and_password, config.digest_algorithm);
            let mut gained = Vec::new();
            if config.super_digest.as_deref() == Some(id.as_str()) {
                gained.push(Id::new("super", ""));
            }
            gained.push(Id::new("digest", id));
            Verdict::Accepted(gained)
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

/// None where there is nothing to compare.
fn is_ours(names: &BTreeSet<String>, name: Option<Buffer<'_>>) -> Option<bool> {
    let name = name.map(|name| String::from_utf8_lossy(&name).into_owned()).unwrap_or_default();
    (!name.is_empty() && !names.is_empty()).then(|| names.contains(&name))
}
