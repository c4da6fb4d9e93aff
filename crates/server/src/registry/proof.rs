//! Who the registry is to an ensemble, and who may change the nodes that the registry makes: `registry.consistent.digest`, `.sasl.*` and `.acl`.
//!
//! What always holds here: no secret stands in a message.

use std::fmt;

use rookeeper_proto::Id;
use rookeeper_proto::acl::{Acl, AclRequest, Permissions};

use super::config::Sentence;
use crate::auth::digest_md5::{CLIENT_PORT, Login};

/// What is shown on each connection to the ensemble.
#[derive(Clone, Default)]
#[cfg_attr(test, derive(PartialEq))]
pub(super) enum Proof {
    #[default]
    None,
    /// `user:password`, of the scheme `digest`.
    Digest(String),
    /// A user of SASL's DIGEST-MD5.
    Sasl(Login),
}

/// Who may do what with a node that the registry makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Openness {
    /// Anyone everything, as Curator has it.
    #[default]
    Anyone,
    /// The registry everything, all others read.
    Creator,
}

/// The values of keys, as they were given.
#[derive(Default)]
pub(super) struct Keys {
    digest: Option<String>,
    user: Option<String>,
    password: Option<String>,
    acl: Option<String>,
}

impl Keys {
    /// Takes a key that is one of these, in its canonical form. Empty values count as none.
    pub fn take(&mut self, key: &str, value: &str) -> bool {
        let taken = match key {
            "registry.consistent.digest" => &mut self.digest,
            "registry.consistent.sasl.user" => &mut self.user,
            "registry.consistent.sasl.password" => &mut self.password,
            "registry.consistent.acl" => &mut self.acl,
            _ => return false,
        };
        *taken = Some(value.to_owned()).filter(|value| !value.is_empty());
        true
    }

    /// What all of them say together.
    pub fn read(self) -> Result<(Proof, Openness), Sentence> {
        let proof = match (self.digest, self.user, self.password) {
            (None, None, None) => Proof::None,
            (Some(digest), None, None) if digest.split_once(':').is_some_and(|(user, _)| !user.is_empty()) => {
                Proof::Digest(digest)
            }
            (Some(_), None, None) => return Err("registry.consistent.digest must be USER:PASSWORD".to_owned()),
            (None, Some(user), Some(password)) => Proof::Sasl(Login::new(CLIENT_PORT, &user, &password)),
            (Some(_), ..) => {
                return Err("registry.consistent.digest and registry.consistent.sasl.* are two ways to say who the registry is: choose one".to_owned());
            }
            (None, ..) => {
                return Err(
                    "registry.consistent.sasl.user and registry.consistent.sasl.password belong together".to_owned()
                );
            }
        };
        let openness = match self.acl.as_deref() {
            None | Some("anyone") => Openness::Anyone,
            Some("creator") if matches!(proof, Proof::None) => {
                return Err("registry.consistent.acl=creator needs somebody who creates: set registry.consistent.digest or registry.consistent.sasl.user".to_owned());
            }
            Some("creator") => Openness::Creator,
            Some(other) => return Err(format!("registry.consistent.acl is {other:?}, but must be anyone or creator")),
        };
        Ok((proof, openness))
    }
}

impl Openness {
    /// As a request has it.
    pub fn acl(self) -> Vec<AclRequest> {
        let acl = match self {
            Openness::Anyone => Acl::open(),
            Openness::Creator => {
                vec![Acl::new(Permissions::ALL, Id::new("auth", "")), Acl::new(Permissions::READ, Id::anyone())]
            }
        };
        let entry =
            |acl: Acl| AclRequest { permissions: acl.permissions, scheme: Some(acl.id.scheme), id: Some(acl.id.id) };
        acl.into_iter().map(entry).collect()
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Proof::None => "None",
            Proof::Digest(_) => "Digest",
            Proof::Sasl(_) => "Sasl",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<(Proof, Openness), Sentence> {
        let mut keys = Keys::default();
        for (key, value) in pairs {
            assert!(keys.take(&format!("registry.consistent.{key}"), value), "{key}");
        }
        keys.read()
    }

    #[test]
    fn who_the_registry_is_and_whose_its_nodes_are() {
        assert_eq!(read(&[]), Ok((Proof::None, Openness::Anyone)));
        let digest = read(&[("digest", "registry:secret:1"), ("acl", "creator")]);
        assert_eq!(digest, Ok((Proof::Digest("registry:secret:1".to_owned()), Openness::Creator)));
        let sasl = read(&[("sasl.user", "registry"), ("sasl.password", "secret"), ("acl", "anyone")]);
        assert_eq!(sasl, Ok((Proof::Sasl(Login::new(CLIENT_PORT, "registry", "secret")), Openness::Anyone)));
        assert!(!format!("{digest:?}{sasl:?}").contains("secret"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_without_the_secret() {
        for (pairs, said) in [
            (&[("digest", "secret")][..], "USER:PASSWORD"),
            (&[("digest", ":secret")], "USER:PASSWORD"),
            (&[("sasl.user", "u")], "belong together"),
            (&[("sasl.password", "secret")], "belong together"),
            (&[("digest", "u:secret"), ("sasl.user", "u"), ("sasl.password", "secret")], "choose one"),
            (&[("acl", "creator")], "registry.consistent.digest"),
            (&[("acl", "all")], "anyone or creator"),
        ] {
            let error = read(pairs).unwrap_err();
            assert!(error.contains(said) && !error.contains("secret"), "{pairs:?}: {error}");
        }
    }
}
