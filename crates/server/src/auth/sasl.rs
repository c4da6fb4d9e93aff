//! The SASL exchange of one connection of a client: from the body of each request to what is answered and gained.
//!
//! No IO. What always holds: a connection has one exchange, and gains at most one user by it; without users nothing is gained and
//! nothing refused, as by an original without SASL.
//!
//! Counterpart in the original: `ZooKeeperServer.processSasl`.

use std::sync::Arc;

use rookeeper_proto::{ErrorCode, Id};

use super::digest_md5::{self, Progress, Server};
use super::kerberos;
use super::kerberos::acceptor::{self, Acceptor};
use crate::config::Access;

/// Begins with the first token, which tells the mechanism: the one of a ticket is not empty.
#[derive(Default)]
pub(crate) enum Exchange {
    #[default]
    NotBegun,
    Password(Box<Server>),
    /// None while a token is judged, and when it was judged for too long.
    Ticket(Option<Box<acceptor::Exchange>>),
}

/// A token that is to be judged apart from the threads that serve clients.
#[derive(Debug)]
pub(crate) struct Ticket {
    exchange: Box<acceptor::Exchange>,
    token: Vec<u8>,
}

impl Ticket {
    pub(crate) async fn judge(self) -> acceptor::Outcome {
        acceptor::judge(self.exchange, self.token).await
    }
}

/// Why an exchange failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Password(#[from] digest_md5::Refusal),
    #[error("Kerberos: {0}")]
    Ticket(#[from] kerberos::Refusal),
}

/// What comes of one request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Answered with this token, or with null.
    Answered(Option<Vec<u8>>),
    /// The connection gains these, and the client is answered with the token, or with null.
    Gained(Vec<Id>, Option<Vec<u8>>),
    /// It failed. The client is answered with the code, and the connection ends; without a code it is answered as if nothing had been.
    Failed(Refusal, Option<ErrorCode>),
    /// Not a SASL request at all: the connection ends without an answer.
    Undecodable,
}

impl Exchange {
    /// The token in the body of a SASL request, where it is one of Kerberos. What comes of it is for `judged`.
    pub(crate) fn ticket(&mut self, body: &[u8], access: &Access, acceptor: Option<&Arc<Acceptor>>) -> Option<Ticket> {
        let (token, acceptor) = (token(body)?, acceptor?);
        let begins = matches!(self, Exchange::NotBegun) && (access.sasl.users.is_none() || !token.is_empty());
        if begins {
            *self = Exchange::Ticket(Some(Box::new(acceptor.exchange())));
        }
        let Exchange::Ticket(exchange) = self else { return None };
        // Longer ones are not even copied.
        let token = token[..token.len().min(kerberos::MAX_TOKEN_BYTES + 1)].to_vec();
        exchange.take().map(|exchange| Ticket { exchange, token })
    }

    /// Judges what came of a ticket.
    pub(crate) fn judged(
        &mut self,
        (exchange, verdict): acceptor::Outcome,
        access: &Access,
        acceptor: Option<&Arc<Acceptor>>,
    ) -> Verdict {
        *self = Exchange::Ticket(exchange);
        let naming = access.sasl.kerberos.as_ref().map(|kerberos| &kerberos.naming);
        match (verdict, naming.zip(acceptor)) {
            (Ok(acceptor::Progress::Challenge(token)), _) => Verdict::Answered(Some(token)),
            // The wish to act as somebody else is not heard, as in the original.
            (Ok(acceptor::Progress::Authenticated { principal, .. }), Some((naming, acceptor))) => {
                match naming.user(&principal, acceptor.default_realm()) {
                    Some(user) => Verdict::Gained(gained(user, access), None),
                    None => failed(kerberos::Refusal::NoUser(principal), access),
                }
            }
            (Ok(acceptor::Progress::Authenticated { principal, .. }), None) => {
                failed(kerberos::Refusal::NoUser(principal), access)
            }
            (Err(refusal), _) => failed(refusal, access),
        }
    }

    /// Judges the body of a SASL request that is not one of Kerberos. `nonce` must be unpredictable and never be used again.
    pub(crate) fn judge(&mut self, body: &[u8], access: &Access, nonce: impl FnOnce() -> String) -> Verdict {
        let Some(token) = token(body) else { return Verdict::Undecodable };
        if matches!(self, Exchange::Ticket(_)) {
            return failed(kerberos::Refusal::Over, access);
        }
        let Some(users) = &access.sasl.users else { return Verdict::Answered(None) };
        if matches!(self, Exchange::NotBegun) {
            *self = Exchange::Password(Box::new(Server::new(users.clone(), nonce())));
        }
        let Exchange::Password(server) = self else { return Verdict::Answered(None) };
        match server.handle(token) {
            Ok(Progress::Challenge(token)) => Verdict::Answered(Some(token)),
            // As above.
            Ok(Progress::Authenticated { user, token, .. }) => Verdict::Gained(gained(user, access), Some(token)),
            Err(refusal) => failed(refusal, access),
        }
    }
}

fn gained(user: String, access: &Access) -> Vec<Id> {
    let mut gained = Vec::new();
    if access.sasl.super_users.contains(&user) {
        gained.push(Id::new("super", ""));
    }
    gained.push(Id::new("sasl", user));
    gained
}

fn failed(refusal: impl Into<Refusal>, access: &Access) -> Verdict {
    let code = match (access.requires_sasl(), access.sasl.allows_failed_clients) {
        (true, _) => Some(ErrorCode::SessionClosedRequireSaslAuth),
        (false, true) => None,
        (false, false) => Some(ErrorCode::AuthFailed),
    };
    Verdict::Failed(refusal.into(), code)
}

/// The token in the body of a request. None for null, and where it is longer than the body.
fn token(body: &[u8]) -> Option<&[u8]> {
    let (length, behind) = body.split_first_chunk()?;
    behind.get(..usize::try_from(i32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use rookeeper_tree::DigestAlgorithm;

    use super::super::digest_md5::{CLIENT_PORT, Refusal, Users};
    use super::*;
    use crate::config::Sasl;

    const NONCE: &str = "/hAjfwc2zlGxZKXD5NhWJi99XdZY+uKUABENgicM";
    const ANSWER: &str = "charset=utf-8,username=\"bob\",realm=\"zk-sasl-md5\",nonce=\"/hAjfwc2zlGxZKXD5NhWJi99XdZY+uKUABENgicM\",\
                          nc=00000001,cnonce=\"Y25vbmNlLWZpeGVk\",digest-uri=\"zookeeper/zk-sasl-md5\",maxbuf=65536,\
                          response=524f38eed78807606605c7ff85219f87,qop=auth";
    const PROOF: &[u8] = b"rspauth=9ad321d47f4c6b76637cc81822a8712d";

    fn access(sasl: Sasl) -> Access {
        Access {
            digest_enabled: true,
            digest_algorithm: DigestAlgorithm::Sha1,
            super_digest: None,
            enforced_schemes: None,
            ensemble_names: None,
            x509_enabled: false,
            x509_super_user: None,
            skip_acl: false,
            enable_eager_acl_check: false,
            enforce_quota: false,
            sasl,
        }
    }

    fn with_bob() -> Sasl {
        let mut users = Users::of(CLIENT_PORT);
        users.set_password("bob", "bobsecret");
        Sasl { is_registered: true, users: Some(Arc::new(users)), ..Sasl::default() }
    }

    fn body(token: &str) -> Vec<u8> {
        [&i32::try_from(token.len()).unwrap().to_be_bytes(), token.as_bytes()].concat()
    }

    fn judged(access: &Access, tokens: &[&str]) -> Vec<Verdict> {
        let mut exchange = Exchange::default();
        tokens.iter().map(|token| exchange.judge(&body(token), access, || NONCE.to_owned())).collect()
    }

    fn last(access: &Access, tokens: &[&str]) -> Verdict {
        judged(access, tokens).pop().unwrap()
    }

    #[test]
    fn a_user_is_gained_and_a_super_user_more() {
        let bob = Id::new("sasl", "bob");
        assert_eq!(last(&access(with_bob()), &["", ANSWER]), Verdict::Gained(vec![bob.clone()], Some(PROOF.to_vec())));
        let super_users = ["bob".to_owned()].into();
        let verdict = last(&access(Sasl { super_users, ..with_bob() }), &["", ANSWER]);
        assert_eq!(verdict, Verdict::Gained(vec![Id::new("super", ""), bob], Some(PROOF.to_vec())));
    }

    #[test]
    fn a_failure_ends_the_connection_unless_it_may_go_on() {
        let wrong = ANSWER.replace("524f", "0000");
        let failed = |access: &Access| last(access, &["", &wrong]);
        let mut access = access(with_bob());
        assert_eq!(failed(&access), Verdict::Failed(Refusal::Wrong.into(), Some(ErrorCode::AuthFailed)));
        access.sasl.allows_failed_clients = true;
        assert_eq!(failed(&access), Verdict::Failed(Refusal::Wrong.into(), None));
        assert_eq!(last(&access, &["", &wrong, ""]), Verdict::Failed(Refusal::Over.into(), None), "no second exchange");
        access.enforced_schemes = Some(BTreeSet::from(["sasl".to_owned()]));
        assert_eq!(
            failed(&access),
            Verdict::Failed(Refusal::Wrong.into(), Some(ErrorCode::SessionClosedRequireSaslAuth))
        );
    }

    #[test]
    fn a_success_is_the_end_of_the_exchange() {
        let verdict = last(&access(with_bob()), &["", ANSWER, ANSWER]);
        assert_eq!(verdict, Verdict::Failed(Refusal::Over.into(), Some(ErrorCode::AuthFailed)));
    }

    #[test]
    fn without_users_nothing_is_gained_and_nothing_refused() {
        for verdict in judged(&access(Sasl::default()), &["", "x", ANSWER, &"x".repeat(9999)]) {
            assert_eq!(verdict, Verdict::Answered(None));
        }
    }

    #[test]
    fn what_is_no_request_is_not_answered() {
        for sasl in [Sasl::default(), with_bob()] {
            for body in [&b""[..], b"\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x02x"] {
                assert_eq!(
                    Exchange::default().judge(body, &access(sasl.clone()), || NONCE.to_owned()),
                    Verdict::Undecodable
                );
            }
        }
    }
}
