//! The change of the members that a client asks for.
//!
//! What always holds here: one change at a time; a new membership is proposed only when a quorum of it is synced with the leader; its version
//! is the zxid of its transaction.
//!
//! Counterpart in the original: the reconfig case of `PrepRequestProcessor`.

use std::collections::BTreeSet;

use rookeeper_proto::request::ReconfigRequest;
use rookeeper_proto::{ErrorCode, ServerId};
use rookeeper_zab::{Member, Membership};

use crate::core::Core;
use crate::state::leading::Leading;
use crate::write::new_members::{self, error_of};

/// Requests name few servers.
const MAX_REQUEST_BYTES: usize = 64 << 10;

impl Leading {
    /// The new membership that a request asks for; its version is that of the transaction to come.
    pub(super) fn check_reconfig(
        &self,
        core: &Core,
        member: &crate::member::Member,
        request: &ReconfigRequest,
    ) -> Result<Membership, ErrorCode> {
        let leader = &self.proposer.leader;
        if !core.shared.settings.reconfig {
            return Err(ErrorCode::ReconfigDisabled);
        }
        let memberships = leader.memberships();
        if memberships.committed.version != memberships.last_seen.version {
            return Err(ErrorCode::ReconfigInProgress);
        }
        let current = &memberships.last_seen;
        if request.current_config_id != -1 && request.current_config_id != current.version.0 {
            return Err(ErrorCode::BadVersion);
        }
        let standalone_enabled = member.settings.standalone_enabled;
        let mut new = changed(current, request, member.settings.multi_address, standalone_enabled)?;
        let least = if standalone_enabled { 2 } else { 1 };
        if new.participants().count() < least || !new.has_voter() {
            return Err(ErrorCode::BadArguments);
        }
        if !leader.has_synced_quorum_of(&new) {
            return Err(ErrorCode::NewConfigNoQuorum);
        }
        new.version = leader.next_zxid();
        Ok(new)
    }
}

/// The membership a request asks for. What is not a number there gets another error than what else is wrong, as in the original.
fn changed(
    current: &Membership,
    request: &ReconfigRequest,
    multi_address: bool,
    standalone_enabled: bool,
) -> Result<Membership, ErrorCode> {
    let texts = [&request.joining_servers, &request.leaving_servers, &request.new_members];
    if texts.into_iter().flatten().map(String::len).sum::<usize>() > MAX_REQUEST_BYTES {
        return Err(ErrorCode::BadArguments);
    }
    if let Some(new_members) = &request.new_members {
        return new_members::parse(new_members, multi_address, standalone_enabled);
    }
    if current.groups.is_some() && (request.joining_servers.is_some() || request.leaving_servers.is_some()) {
        return Err(ErrorCode::BadArguments);
    }
    let mut new = current.clone();
    for leaving in entries(request.leaving_servers.as_deref(), ',') {
        new.members.remove(&id(leaving)?);
    }
    for joining in entries(request.joining_servers.as_deref(), ',') {
        let sides: Vec<&str> = entries(Some(joining), '=').collect();
        let [name, value] = sides[..] else { return Err(ErrorCode::BadArguments) };
        // Only what follows the last dot counts: scripts send a literal `\n` before the name, or no name.
        let id = id(name.rsplit('.').next().unwrap_or(name))?;
        let member = Member::parse(id, value, multi_address).map_err(|error| error_of(&error))?;
        // Everybody must know where its clients connect.
        if member.client.is_none() {
            return Err(ErrorCode::BadArguments);
        }
        new.members.remove(&id);
        if new.members.values().any(|other| share_an_address(other, &member)) {
            return Err(ErrorCode::BadArguments);
        }
        new.members.insert(id, member);
    }
    Ok(new)
}

fn id(text: &str) -> Result<ServerId, ErrorCode> {
    text.parse().map(ServerId).map_err(|_| ErrorCode::MarshallingError)
}

/// Trimmed, and without those that are empty.
fn entries(list: Option<&str>, separator: char) -> impl Iterator<Item = &str> {
    list.unwrap_or_default().split(separator).map(str::trim).filter(|entry| !entry.is_empty())
}

/// Whether two servers claim the same host and port. Wildcards and loopback addresses say nothing.
fn share_an_address(one: &Member, other: &Member) -> bool {
    let addresses = |member: &Member| -> BTreeSet<(String, u16)> {
        let servers = member
            .addresses
            .iter()
            .flat_map(|address| [address.quorum_port, address.election_port].map(|port| (address.host.clone(), port)));
        let client = member.client.iter().map(|client| (client.host.clone(), client.port));
        servers.chain(client).filter(|(host, _)| says_where(host)).collect()
    };
    !addresses(one).is_disjoint(&addresses(other))
}

fn says_where(host: &str) -> bool {
    match host.parse::<std::net::IpAddr>() {
        Ok(ip) => !ip.is_unspecified() && !ip.is_loopback(),
        Err(_) => host != "localhost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn current() -> Membership {
        let text = "server.1=a:1:2:participant;0.0.0.0:3\nserver.2=b:1:2:participant;0.0.0.0:3\nversion=5";
        Membership::parse_text(text, false).unwrap()
    }

    fn request(joining: Option<&str>, leaving: Option<&str>, new: Option<&str>) -> ReconfigRequest {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        ReconfigRequest {
            joining_servers: owned(joining),
            leaving_servers: owned(leaving),
            new_members: owned(new),
            current_config_id: -1,
        }
    }

    #[test]
    fn servers_join_and_leave() {
        let ids = |request: &ReconfigRequest| {
            changed(&current(), request, false, true).map(|new| new.members.keys().map(|id| id.0).collect::<Vec<_>>())
        };
        let joining = "server.3=c:1:2:observer;0.0.0.0:3";
        assert_eq!(ids(&request(Some(joining), None, None)), Ok(vec![1, 2, 3]));
        assert_eq!(ids(&request(Some(joining), Some("1"), None)), Ok(vec![2, 3]));
        assert_eq!(ids(&request(None, None, Some("server.7=c:1:2:participant;4"))), Ok(vec![7]));
        assert_eq!(ids(&request(None, None, None)), Ok(vec![1, 2]));
        for wrong in ["server.3=c:1:2:observer", "server.3", "=c:1:2;4", "server.3=a:1:9;4", "server.3=a:x:9;4"] {
            assert_eq!(ids(&request(Some(wrong), None, None)), Err(ErrorCode::BadArguments), "{wrong}");
        }
        assert_eq!(ids(&request(None, None, Some("server.7=c:1:2:observer;4"))), Err(ErrorCode::MarshallingError));
        let long = "x".repeat(MAX_REQUEST_BYTES + 1);
        assert_eq!(ids(&request(Some(&long), None, None)), Err(ErrorCode::BadArguments));
    }

    /// As the original takes and refuses them.
    #[test]
    fn joining_and_leaving_servers_are_spelled_as_scripts_do() {
        let ids = |joining: Option<&str>, leaving: Option<&str>| {
            let new = changed(&current(), &request(joining, leaving, None), false, true);
            new.map(|new| new.members.keys().map(|id| id.0).collect::<Vec<_>>())
        };
        for name in
            ["server.3", "\\nserver.3", "\nserver.3", " server.3 ", "3", "Server.3", "x.y.3", "server.03", "server.+3"]
        {
            for value in ["=c:1:2:observer;4", "=c:1:2:observer;4=", " = c:1:2:observer;4\n", "=c:1:2:observer;4,"] {
                assert_eq!(ids(Some(&format!("{name}{value}")), None), Ok(vec![1, 2, 3]), "{name:?}{value:?}");
            }
        }
        for (joining, leaving) in [
            (Some("server.x=c:1:2;4"), None),
            (Some("server.=c:1:2;4"), None),
            (Some("server. 3=c:1:2;4"), None),
            (Some("server.3=c:1:65536;4"), None),
            (None, Some("x")),
            (None, Some("server.2")),
        ] {
            assert_eq!(ids(joining, leaving), Err(ErrorCode::MarshallingError), "{joining:?} {leaving:?}");
        }
        assert_eq!(ids(None, Some(" 2,")), Ok(vec![1]));
        assert_eq!(ids(None, Some("7")), Ok(vec![1, 2]));
    }
}
