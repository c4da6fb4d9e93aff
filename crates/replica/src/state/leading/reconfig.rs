//! Changing the members while the ensemble runs.
//!
//! What always holds here: one change at a time; a new membership is proposed only when a quorum of it is synced with the leader; it goes
//! into force with its transaction, whose zxid is its version, on every server. A membership that may come into force is kept for as long as
//! its transaction is in this server's history, and no longer than until a leader of a history without that transaction says what it goes by.
//! What a leader goes by that no log has is in the files of the configuration before this server enters the leader's epoch.
//!
//! Counterpart in the original: the reconfig case of `PrepRequestProcessor`, `QuorumPeer.processReconfig`.

use std::collections::BTreeSet;
use std::sync::Arc;

use rookeeper_proto::election::PeerState;
use rookeeper_proto::request::ReconfigRequest;
use rookeeper_proto::{Epoch, ErrorCode, Id, ServerId, SessionId, Txn, Zxid};
use rookeeper_zab::{Member, Membership, Memberships};

use crate::contract::{Level, Output, Store};
use crate::replica::{InFlight, Replica, Role};
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

    /// The leader whose history this server has now goes by this membership. What else this server has seen may still come into force where
    /// that history holds its transaction, and counts for nothing any more where it does not.
    pub(crate) fn see_leaders_membership(&mut self, membership: Membership) {
        let Some(member) = &self.member else { return };
        let Memberships { committed, last_seen, .. } = &*member.memberships;
        if last_seen.version > membership.version.max(committed.version) && self.is_in_history(last_seen) {
            return;
        }
        let committed = committed.clone();
        if membership.version > committed.version {
            self.see_membership(membership);
        } else if last_seen.version > committed.version {
            if self.shared.settings.reconfig {
                self.outputs.push_back(Output::Store(Store::ProposedMembership(committed.clone())));
            }
            self.set_memberships(Memberships::settled(committed));
        }
    }

    /// Whether the transaction of a membership is the last of its kind in this server's history, which is what a restart would find.
    fn is_in_history(&self, membership: &Membership) -> bool {
        let version = Zxid(membership.version);
        let is_its = |next: &InFlight| next.header.zxid == version && matches!(next.txn, Txn::Reconfig { .. });
        let tree = self.shared.tree();
        self.in_flight.iter().any(is_its)
            || tree.node(rookeeper_proto::path::CONFIG).is_some_and(|node| node.stat().mzxid == version)
    }

    /// Enters an epoch, which is a promise to know what its leader goes by: it may be in force as soon as a quorum has promised that.
    pub(crate) fn store_current_epoch(&mut self, epoch: Epoch) {
        let Some(member) = self.member.as_ref().filter(|_| self.shared.settings.reconfig) else {
            return self.store(Store::CurrentEpoch { epoch, membership: None });
        };
        let Memberships { committed, last_seen, .. } = &*member.memberships;
        // A version alone is the next leader's to give again.
        let differs = (&last_seen.members, &last_seen.groups) != (&committed.members, &committed.groups);
        let is_nowhere_else = last_seen.version > committed.version && differs && !self.is_in_history(last_seen);
        let membership = is_nowhere_else.then(|| last_seen.clone());
        self.store(Store::CurrentEpoch { epoch, membership });
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

    /// It may be in force by what this server acknowledged, wherever it hears of an older one: in a vote, or as what a leader goes by.
    #[test]
    fn what_was_proposed_is_forgotten_when_a_leader_has_no_record_of_it() {
        let of_version = |version| Membership { version, ..current() };
        let (before, between, proposed) = (of_version(5), of_version(7), of_version(9));
        let known = |replica: &Replica| (*replica.member.as_ref().unwrap().memberships).clone();
        for (is_in_history, is_active) in [(true, true), (true, false), (false, true), (false, false)] {
            let mut replica = member(Memberships::new(before.clone(), proposed.clone()));
            if is_active {
                replica.activate_membership(NOW, between.clone());
            }
            let committed = if is_active { &between } else { &before };
            assert_eq!(known(&replica), Memberships::new(committed.clone(), proposed.clone()));
            if is_in_history {
                replica.shared.tree_mut().write_config_node("", Zxid(9), 0);
            }
            while replica.poll().is_some() {}
            replica.see_leaders_membership(between.clone());
            let last = if is_in_history { &proposed } else { &between };
            assert_eq!(known(&replica), Memberships::new(committed.clone(), last.clone()));
            let written = replica.poll();
            let is_between = |store: &Store| matches!(store, Store::ProposedMembership(kept) if *kept == between);
            match &written {
                Some(Output::Store(store)) => assert!(!is_in_history && is_between(store), "{store:?}"),
                _ => assert!(is_in_history, "{written:?}"),
            }
        }
    }

    /// An epoch is entered together with the membership its leader goes by, unless the log has that.
    #[test]
    fn a_membership_that_no_log_has_is_written_before_the_epoch() {
        let other = "server.2=b:1:2:participant;0.0.0.0:3\nserver.3=c:1:2:participant;0.0.0.0:3\nversion=9";
        let proposed = Membership::parse_text(other, false).unwrap();
        let written = |replica: &mut Replica| {
            replica.store_current_epoch(4);
            loop {
                match replica.poll() {
                    Some(Output::Store(Store::CurrentEpoch { epoch: 4, membership })) => return membership,
                    Some(_) => {}
                    None => panic!("the epoch is not stored"),
                }
            }
        };
        let mut replica = member(Memberships::new(current(), proposed.clone()));
        assert_eq!(written(&mut replica), Some(proposed));
        replica.shared.tree_mut().write_config_node("", Zxid(9), 0);
        assert_eq!(written(&mut replica), None, "the log has it");
        let same = Membership { version: 9, ..current() };
        assert_eq!(written(&mut member(Memberships::new(current(), same))), None, "nothing but the version is new");
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
