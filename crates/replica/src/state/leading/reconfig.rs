//! Changing the members while the ensemble runs.
//!
//! What always holds here: one change at a time; a new membership is proposed only when a quorum of it is synced with the leader; it goes
//! into force with its transaction, whose zxid is its version, on every server.
//!
//! Counterpart in the original: the reconfig case of `PrepRequestProcessor`, `QuorumPeer.processReconfig`.

use std::collections::BTreeSet;
use std::sync::Arc;

use rookeeper_proto::election::PeerState;
use rookeeper_proto::request::ReconfigRequest;
use rookeeper_proto::{ErrorCode, Id, ServerId, SessionId, Txn, Zxid};
use rookeeper_zab::{Member, Membership, Memberships};

use crate::contract::{Level, Output, Store};
use crate::replica::{Replica, Role};
use crate::time::Time;
use crate::write::new_members::{self, error_of};

/// Requests name few servers.
const MAX_REQUEST_BYTES: usize = 64 << 10;

impl Replica {
    /// Checks a request to change the members.
    pub(crate) fn prepare_reconfig(
        &mut self,
        now: Time,
        session: SessionId,
        identities: &[Id],
        request: &ReconfigRequest,
    ) -> Txn {
        let text = self.check_reconfig(request);
        self.prepare(now, session, identities, |prepare| prepare.reconfig(text?))
    }

    /// The new membership; its version is that of the transaction to come.
    fn check_reconfig(&self, request: &ReconfigRequest) -> Result<Membership, ErrorCode> {
        let Some(member) = &self.member else { return Err(ErrorCode::Unimplemented) };
        let Role::Leading(leader) = &self.role else { return Err(ErrorCode::Unimplemented) };
        if !self.shared.settings.reconfig {
            return Err(ErrorCode::ReconfigDisabled);
        }
        let memberships = leader.memberships();
        if memberships.committed.version != memberships.last_seen.version {
            return Err(ErrorCode::ReconfigInProgress);
        }
        let current = &memberships.last_seen;
        if request.current_config_id != -1 && request.current_config_id != current.version {
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
        new.version = leader.next_zxid().0;
        Ok(new)
    }

    /// A membership that is newer than the one in force, and not in force yet.
    pub(crate) fn see_membership(&mut self, membership: Membership) {
        let Some(member) = &mut self.member else { return };
        if membership.version <= member.memberships.committed.version {
            return;
        }
        let memberships = Memberships::new(member.memberships.committed.clone(), membership.clone());
        if self.shared.settings.reconfig {
            self.outputs.push_back(Output::Store(Store::ProposedMembership(membership)));
        }
        self.set_memberships(memberships);
    }

    /// What this server had behind `zxid` is history no more, and a membership that was proposed there with it.
    pub(crate) fn forget_membership_after(&mut self, zxid: Zxid) {
        let Some(member) = &self.member else { return };
        let Memberships { committed, last_seen, .. } = &*member.memberships;
        if last_seen.version <= committed.version.max(zxid.0) {
            return;
        }
        let committed = committed.clone();
        if self.shared.settings.reconfig {
            self.outputs.push_back(Output::Store(Store::ProposedMembership(committed.clone())));
        }
        self.set_memberships(Memberships::settled(committed));
    }

    /// Puts a membership into force. A newer one that was proposed stays known: it may be in force by what this server acknowledged.
    pub(crate) fn activate_membership(&mut self, now: Time, membership: Membership) {
        let Some(member) = &self.member else { return };
        let Memberships { committed, last_seen, .. } = &*member.memberships;
        let changed = membership.version > committed.version;
        let newer = (last_seen.version > membership.version).then(|| last_seen.clone());
        if changed && self.shared.settings.reconfig {
            self.outputs.push_back(Output::Store(Store::ActiveMembership(membership.clone())));
            let ids: Vec<String> = membership.members.keys().map(|id| id.0.to_string()).collect();
            let text = format!("membership {:x} is in force: servers {}", membership.version, ids.join(", "));
            self.log(Level::Info, text);
        }
        if changed {
            self.set_memberships(match newer {
                Some(newer) => Memberships::new(membership, newer),
                None => Memberships::settled(membership),
            });
        }
        self.write_config_node(now);
    }

    /// The membership as a node of the tree.
    pub(crate) fn write_config_node(&mut self, now: Time) {
        let Some(member) = &self.member else { return };
        let membership = &member.memberships.committed;
        let (text, version) = (membership.to_string(), Zxid(membership.version));
        let mut tree = self.shared.tree_mut();
        let node = tree.node(rookeeper_proto::path::CONFIG);
        // The transaction of a reconfiguration has written it already.
        if node.and_then(|node| node.data()) != Some(text.as_bytes()) {
            tree.write_config_node(&text, version, now.wall_ms);
        }
    }

    fn set_memberships(&mut self, memberships: Memberships) {
        let Some(member) = &mut self.member else { return };
        let memberships = Arc::new(memberships);
        member.memberships = memberships.clone();
        member.stale_standing = true;
        member.election.set_memberships(memberships.clone());
        self.outputs.push_back(Output::Members(memberships));
    }

    /// A learner's: the reconfiguration just committed names the leader.
    pub(crate) fn activate_reconfig(&mut self, now: Time, designated_leader: ServerId) {
        let Some(membership) = self.reconfigured.take() else { return };
        self.activate_membership(now, membership);
        self.leave_for_another_part(Some(designated_leader));
    }

    /// A learner's: where the membership in force makes another server the leader, or gives this one another part than it plays, the
    /// connection is over, and the next leader is known without an election. Says whether it is.
    pub(crate) fn leave_for_another_part(&mut self, designated_leader: Option<ServerId>) -> bool {
        let (Some(member), Role::Learning(learner)) = (&mut self.member, &mut self.role) else { return false };
        let designated_leader = designated_leader.unwrap_or(learner.leader());
        let me = member.settings.me;
        let membership = &member.memberships.committed;
        let was = member.election.state();
        let state = match member.state_of_learner() {
            PeerState::Following if designated_leader == me && membership.is_participant(me) => PeerState::Leading,
            state => state,
        };
        let version = membership.version;
        if designated_leader != learner.leader() {
            learner.leave(format!("membership {version:x} makes server {} the leader", designated_leader.0));
        } else if state != was {
            let part = match state {
                PeerState::Observing => "an observer",
                _ if membership.members.contains_key(&me) => "a voter",
                _ => "no member, which follows without a voice",
            };
            learner.leave(format!("membership {version:x} makes this server {part}"));
        } else {
            return false;
        }
        member.designated = Some((designated_leader, state));
        true
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
    use rookeeper_tree::Tree;

    use super::*;
    use crate::clients::shared::Shared;
    use crate::contract::Epochs;
    use crate::settings::EnsembleSettings;
    use crate::settings::Settings;

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

    fn member(memberships: Memberships) -> Replica {
        let settings = EnsembleSettings::new(ServerId(2), memberships);
        let shared_settings = Settings { server: ServerId(2), reconfig: true, ..Settings::default() };
        let shared = Arc::new(Shared::new(shared_settings, Tree::new(), 0));
        Replica::member(shared, settings, Epochs { accepted: 1, current: 1 }, NOW)
    }

    const NOW: Time = Time { monotonic_ms: 0, wall_ms: 0 };

    /// It may be in force by what this server acknowledged, wherever it hears of an older one: in a vote, or as what a leader began with.
    #[test]
    fn what_was_proposed_is_forgotten_with_its_record_only() {
        let of_version = |version| Membership { version, ..current() };
        let (before, between, proposed) = (of_version(5), of_version(7), of_version(9));
        let mut replica = member(Memberships::new(before, proposed.clone()));
        replica.activate_membership(NOW, between.clone());
        let known = |replica: &Replica| (*replica.member.as_ref().unwrap().memberships).clone();
        assert_eq!(known(&replica), Memberships::new(between.clone(), proposed.clone()));
        replica.forget_membership_after(Zxid(9));
        assert_eq!(known(&replica), Memberships::new(between.clone(), proposed));

        while replica.poll().is_some() {}
        replica.forget_membership_after(Zxid(8));
        assert_eq!(known(&replica), Memberships::settled(between.clone()));
        assert!(matches!(replica.poll(), Some(Output::Store(Store::ProposedMembership(kept))) if kept == between));
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
