//! A member's memberships: the one in force, and the one to come.
//!
//! What always holds here: a membership goes into force with its transaction, whose zxid is its version, on every server. A membership that
//! may come into force is kept for as long as its transaction is in this server's history, and no longer than until a leader of a history
//! without that transaction says what it goes by. What a leader goes by that no log has is in the files of the configuration before this
//! server enters the leader's epoch.
//!
//! Counterpart in the original: `QuorumPeer.processReconfig`, `QuorumPeer.setLastSeenQuorumVerifier`.

use std::sync::Arc;

use rookeeper_proto::{Epoch, Txn, Zxid};
use rookeeper_zab::{Membership, Memberships};

use crate::contract::{Output, Store};
use crate::core::{Core, InFlight};
use crate::member::Member;
use crate::reasons::Event;
use crate::time::Time;

impl Member {
    /// A membership that is newer than the one in force, and not in force yet.
    pub fn see_membership(&mut self, core: &mut Core, membership: Membership) {
        if membership.version <= self.memberships.committed.version {
            return;
        }
        let memberships = Memberships::new(self.memberships.committed.clone(), membership.clone());
        if core.shared.settings.reconfig {
            core.put(Output::Store(Store::ProposedMembership(membership)));
        }
        self.set_memberships(core, memberships);
    }

    /// The leader whose history this server has now goes by this membership. What else this server has seen may still come into force where
    /// that history holds its transaction, and counts for nothing any more where it does not.
    pub fn see_leaders_membership(&mut self, core: &mut Core, membership: Membership) {
        let Memberships { committed, last_seen, .. } = &*self.memberships;
        if last_seen.version > membership.version.max(committed.version) && is_in_history(core, last_seen) {
            return;
        }
        let committed = committed.clone();
        if membership.version > committed.version {
            self.see_membership(core, membership);
        } else if last_seen.version > committed.version {
            if core.shared.settings.reconfig {
                core.put(Output::Store(Store::ProposedMembership(committed.clone())));
            }
            self.set_memberships(core, Memberships::settled(committed));
        }
    }

    /// Enters an epoch, which is a promise to know what its leader goes by: it may be in force as soon as a quorum has promised that.
    pub fn store_current_epoch(&mut self, core: &mut Core, epoch: Epoch) {
        let Memberships { committed, last_seen, .. } = &*self.memberships;
        // A version alone is the next leader's to give again.
        let differs = (&last_seen.members, &last_seen.groups) != (&committed.members, &committed.groups);
        let is_nowhere_else = last_seen.version > committed.version && differs && !is_in_history(core, last_seen);
        let membership = (core.shared.settings.reconfig && is_nowhere_else).then(|| last_seen.clone());
        self.store(core, Store::CurrentEpoch { epoch, membership });
    }

    /// Puts a membership into force. A newer one that was proposed stays known: it may be in force by what this server acknowledged.
    pub fn activate_membership(&mut self, core: &mut Core, now: Time, membership: Membership) {
        let Memberships { committed, last_seen, .. } = &*self.memberships;
        let changed = membership.version > committed.version;
        let newer = (last_seen.version > membership.version).then(|| last_seen.clone());
        if changed && core.shared.settings.reconfig {
            core.put(Output::Store(Store::ActiveMembership(membership.clone())));
            let servers = membership.members.keys().copied().collect();
            core.log(Event::MembershipInForce { version: membership.version, servers });
        }
        if changed {
            let memberships = match newer {
                Some(newer) => Memberships::new(membership, newer),
                None => Memberships::settled(membership),
            };
            self.set_memberships(core, memberships);
        }
        self.write_config_node(core, now);
    }

    /// Whether a membership that a vote tells of is older than one in this server's own history. Files written by hand have no version, so
    /// whatever is voted looks newer than they do. With the members of an earlier day, servers that were removed since could lead beside those
    /// that are in force.
    pub fn has_left_behind(&self, core: &Core, membership: &Membership) -> bool {
        let tree = core.shared.tree();
        self.memberships.committed.version == Zxid::ZERO
            && tree.node(rookeeper_proto::path::CONFIG).is_some_and(|node| node.stat().mzxid > membership.version)
    }

    /// The membership as a node of the tree.
    pub fn write_config_node(&self, core: &Core, now: Time) {
        let membership = &self.memberships.committed;
        let (text, version) = (membership.to_string(), membership.version);
        let mut tree = core.shared.tree_mut();
        let node = tree.node(rookeeper_proto::path::CONFIG);
        // The transaction of a reconfiguration has written it already.
        if node.and_then(|node| node.data()) != Some(text.as_bytes()) {
            tree.write_config_node(&text, version, now.wall_ms.0);
        }
    }

    fn set_memberships(&mut self, core: &mut Core, memberships: Memberships) {
        let memberships = Arc::new(memberships);
        self.memberships = memberships.clone();
        self.stale_status = true;
        self.election.set_memberships(memberships.clone());
        core.put(Output::Members(memberships));
    }
}

/// Whether the transaction of a membership is the last of its kind in this server's history, which is what a restart would find.
fn is_in_history(core: &Core, membership: &Membership) -> bool {
    let version = membership.version;
    let is_its = |next: &InFlight| next.header.zxid == version && matches!(next.txn, Txn::Reconfig { .. });
    let tree = core.shared.tree();
    core.in_flight.iter().any(is_its)
        || tree.node(rookeeper_proto::path::CONFIG).is_some_and(|node| node.stat().mzxid == version)
}

#[cfg(test)]
mod tests {
    use rookeeper_proto::ServerId;
    use rookeeper_tree::Tree;

    use super::*;
    use crate::clients::shared::Shared;
    use crate::contract::Epochs;
    use crate::core::ClientRules;
    use crate::settings::{EnsembleSettings, Settings};

    fn current() -> Membership {
        let text = "server.1=a:1:2:participant;0.0.0.0:3\nserver.2=b:1:2:participant;0.0.0.0:3\nversion=5";
        Membership::parse_text(text, false).unwrap()
    }

    fn member(memberships: Memberships) -> (Core, Member) {
        let settings = Settings { server: ServerId(2), reconfig: true, ..Settings::default() };
        let shared = Arc::new(Shared::new(settings, Tree::new(), Time::default().wall_ms));
        let core = Core::new(shared, ClientRules::default(), false, 0);
        let settings = EnsembleSettings::new(ServerId(2), memberships);
        let member =
            Member::new(settings, Epochs { accepted: Epoch(1), current: Epoch(1) }, Zxid::ZERO, Time::default());
        (core, member)
    }

    /// It may be in force by what this server acknowledged, wherever it hears of an older one: in a vote, or as what a leader goes by.
    #[test]
    fn what_was_proposed_is_forgotten_when_a_leader_has_no_record_of_it() {
        let of_version = |version| Membership { version, ..current() };
        let (before, between, proposed) = (of_version(Zxid(5)), of_version(Zxid(7)), of_version(Zxid(9)));
        let known = |member: &Member| (*member.memberships).clone();
        for (is_in_history, is_active) in [(true, true), (true, false), (false, true), (false, false)] {
            let (mut core, mut member) = member(Memberships::new(before.clone(), proposed.clone()));
            if is_active {
                member.activate_membership(&mut core, Time::default(), between.clone());
            }
            let committed = if is_active { &between } else { &before };
            assert_eq!(known(&member), Memberships::new(committed.clone(), proposed.clone()));
            if is_in_history {
                core.shared.tree_mut().write_config_node("", Zxid(9), 0);
            }
            while core.poll().is_some() {}
            member.see_leaders_membership(&mut core, between.clone());
            let last = if is_in_history { &proposed } else { &between };
            assert_eq!(known(&member), Memberships::new(committed.clone(), last.clone()));
            let written = core.poll();
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
        let written = |(core, member): &mut (Core, Member)| {
            member.store_current_epoch(core, Epoch(4));
            loop {
                match core.poll() {
                    Some(Output::Store(Store::CurrentEpoch { epoch: Epoch(4), membership })) => return membership,
                    Some(_) => {}
                    None => panic!("the epoch is not stored"),
                }
            }
        };
        let mut server = member(Memberships::new(current(), proposed.clone()));
        assert_eq!(written(&mut server), Some(proposed));
        server.0.shared.tree_mut().write_config_node("", Zxid(9), 0);
        assert_eq!(written(&mut server), None, "the log has it");
        let same = Membership { version: Zxid(9), ..current() };
        assert_eq!(written(&mut member(Memberships::new(current(), same))), None, "nothing but the version is new");
    }
}
