//! Who may ask for what: the header `Authorization`, certificates, and where a caller comes from.
//!
//! What always holds here: the commands `snapshot` and `restore` take an identity that has every permission on the root, from everybody. Those
//! that change something or tell of clients, paths or settings are for this machine; from elsewhere they take a caller who has proven more than the original
//! asks for: an entry of the root's list that lets in everybody proves nothing.
//!
//! Counterpart in the original: `Commands.authenticate`, `Commands.authorize`.

use std::net::IpAddr;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use rookeeper_proto::{Acl, Id, Permissions};
use rookeeper_replica::Shared;
use rookeeper_tree::AccessList;
use rookeeper_tree::access::AccessConfig;

use super::Refused;
use crate::auth;
use crate::config::{Access, AdminPort};
use crate::ports::client::secure;
use crate::ports::http::Caller;

/// Each of them, so that one is never enough.
const ALL: [Permissions; 5] =
    [Permissions::READ, Permissions::WRITE, Permissions::CREATE, Permissions::DELETE, Permissions::ADMIN];

/// Who may ask for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guard {
    /// Everybody who reaches the port.
    Open,
    /// Whoever is on this machine; others if they have proven who they are.
    Private,
    /// Whoever has every permission on the root.
    Root,
}

const MISSING: Refused = Refused { status: StatusCode::UNAUTHORIZED, why: "Auth info is missing for the command" };
const NOT_AUTHENTICATED: Refused = Refused { status: StatusCode::UNAUTHORIZED, why: "Not authenticated" };
const NOT_AUTHORIZED: Refused = Refused { status: StatusCode::FORBIDDEN, why: "Not authorized" };

/// Where a caller is judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judge<'a> {
    pub port: &'a AdminPort,
    pub access: &'a Access,
    pub shared: &'a Shared,
}

impl Judge<'_> {
    /// Whether the caller may have a command with this guard.
    pub fn admit(&self, guard: Guard, caller: &Caller, headers: &HeaderMap) -> Result<(), Refused> {
        let is_local = caller.address.ip().is_loopback();
        match guard {
            Guard::Open => Ok(()),
            Guard::Private if is_local || caller.shown.certificate.is_some() => Ok(()),
            Guard::Private => self.judge(caller, headers, true),
            // A port for this machine alone is as the original has it.
            Guard::Root => self.judge(caller, headers, self.port.is_reached_from_elsewhere() && !is_local),
        }
    }

    /// `is_stranger`: whether what lets in everybody is no proof.
    fn judge(&self, caller: &Caller, headers: &HeaderMap, is_stranger: bool) -> Result<(), Refused> {
        let header = headers.get(AUTHORIZATION).ok_or(MISSING)?;
        let header = header.to_str().map_err(|_| NOT_AUTHENTICATED)?;
        let identities = self.identities(header, caller, headers).ok_or(NOT_AUTHENTICATED)?;
        let shared = self.shared;
        let root = shared.tree().node("/").map(|root| root.acl().clone()).ok_or(NOT_AUTHORIZED)?;
        let is_allowed = match is_stranger {
            false => has_all(&root, &identities, &shared.settings.access),
            true => has_proven(&root, &identities, &shared.settings.access),
        };
        is_allowed.then_some(()).ok_or(NOT_AUTHORIZED)
    }

    /// Who the caller is by what stands in the header; none where that shows nothing.
    fn identities(&self, header: &str, caller: &Caller, headers: &HeaderMap) -> Option<Vec<Id>> {
        // As the original takes it apart: a scheme, and at most one word behind one space.
        let mut words = header.trim_end_matches(' ').split(' ');
        let (scheme, given) = (words.next()?, words.next());
        if words.next().is_some() {
            return None;
        }
        let identities = match scheme {
            "digest" => auth::by_password(given?.as_bytes(), self.access)?,
            "ip" => vec![Id::new("ip", self.address(caller, headers).to_string())],
            "x509" if self.access.x509_enabled || self.port.tls.is_some() => {
                secure::identities(self.access, &caller.shown)
            }
            _ => return None,
        };
        (!identities.is_empty()).then_some(identities)
    }

    /// Where the caller comes from.
    fn address(&self, caller: &Caller, headers: &HeaderMap) -> IpAddr {
        let forwarded = headers.get("x-forwarded-for").filter(|_| self.port.trusts_forwarded_for);
        let first = forwarded.and_then(|value| value.to_str().ok()?.split(',').next()?.trim().parse().ok());
        first.unwrap_or(caller.address.ip())
    }
}

fn has_all(list: &AccessList, identities: &[Id], config: &AccessConfig) -> bool {
    ALL.into_iter().all(|permission| list.allows(permission, identities, config))
}

/// Whether it is an entry for these identities that gives them everything. An address is no proof, and no list at all lets in nobody.
fn has_proven(list: &AccessList, identities: &[Id], config: &AccessConfig) -> bool {
    let config = AccessConfig { skip_acl: false, ..config.clone() };
    let entries: Vec<Acl> = list.iter().filter(|entry| !matches!(&*entry.id.scheme, "world" | "ip")).cloned().collect();
    let is_super = identities.iter().any(|identity| identity.scheme == "super");
    is_super || (!entries.is_empty() && has_all(&AccessList::new(entries, 0), identities, &config))
}
