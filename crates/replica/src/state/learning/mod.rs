//! A member that learns: reaches its leader, takes its history over, and serves under it.
//!
//! What always holds here: a transaction is checked before it is logged, because what is logged must be readable; clients come only when
//! the tree shows nothing that comes after its zxid.

pub(crate) mod forwarded;

use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::election::PeerState;
use rookeeper_proto::{ServerId, TxnRecord, Zxid};
use rookeeper_zab::learner::{Learner, LearnerOutput, LearnerPhase, LearnerSettings, LearnerStart};
use rookeeper_zab::{HostPort, LinkId, Membership, Record};

use crate::contract::{Level, Output, Store};
use crate::replica::{InFlight, Replica, Role};
use crate::state::leading::propose::reconfigured;
use crate::time::Time;

impl Replica {
    /// The learner whose link this is. What comes on an older link is late.
    pub(crate) fn learner_of(&mut self, link: LinkId) -> Option<&mut Learner> {
        match &mut self.role {
            Role::Learning(learner) if learner.link() == Some(link) => Some(learner),
            _ => None,
        }
    }

    pub(crate) fn begin_learning(&mut self, now: Time, leader: ServerId, observer: bool) {
        let Some(member) = &mut self.member else { return };
        let settings = &member.settings;
        let learner = Learner::new(
            LearnerSettings {
                me: settings.me,
                observer,
                tick_ms: self.shared.settings.tick_time_ms,
                init_limit_ticks: settings.init_limit_ticks,
                sync_limit_ticks: settings.sync_limit_ticks,
                connect_limit_ticks: settings.connect_limit_ticks,
                connect_retry_ms: settings.connect_retry_ms,
            },
            LearnerStart {
                leader,
                accepted_epoch: member.epochs.accepted,
                current_epoch: member.epochs.current,
                last: self.history.last(),
                membership_version: member.memberships.committed.version,
                everything: member.everything.take(),
            },
            now.monotonic_ms,
        );
        member.stale_standing = true;
        member.serve_at = None;
        member.leader_membership = None;
        member.syncing_since_ms = None;
        self.role = Role::Learning(Box::new(learner));
        for link in std::mem::take(&mut member.early).into_keys() {
            let why = format!("this server follows server {}", leader.0);
            self.outputs.push_back(Output::DropLearner { link, why });
        }
    }

    pub(crate) fn learner_output(&mut self, now: Time, output: LearnerOutput) {
        match output {
            LearnerOutput::Dial => self.dial(),
            LearnerOutput::ToLeader(bytes) => {
                if let Role::Learning(learner) = &self.role
                    && let Some(link) = learner.link()
                {
                    self.outputs.push_back(Output::ToLeader { link, bytes });
                }
            }
            LearnerOutput::AcceptedEpoch(epoch) => self.store(Store::AcceptedEpoch(epoch)),
            LearnerOutput::CatchingUp => {
                if let Some(member) = &mut self.member {
                    member.syncing_since_ms = Some(now.monotonic_ms);
                }
            }
            LearnerOutput::CurrentEpoch(epoch) => self.store_current_epoch(epoch),
            LearnerOutput::Truncate(zxid) => {
                while self.in_flight.back().is_some_and(|next| next.header.zxid > zxid) {
                    self.in_flight.pop_back();
                }
                self.history.truncate(zxid);
                let reload = zxid < self.shared.tree().last_zxid();
                self.store(Store::Truncate { zxid, reload });
            }
            LearnerOutput::InstallSnapshot(zxid) => {
                self.in_flight.clear();
                self.history.reset(zxid);
                if let Some(member) = &mut self.member {
                    member.after_snapshot = true;
                }
                self.compare_digests = false;
                self.store(Store::InstallSnapshot { zxid });
            }
            LearnerOutput::Append(record) => self.append_from_leader(now, record),
            LearnerOutput::Membership(text) => self.membership_from_leader(&text),
            LearnerOutput::Serve { committed } => {
                self.note_synced(now);
                self.serve_under_leader(now, committed);
            }
            LearnerOutput::Committed(zxid) => {
                let statistics = &self.shared.statistics.member;
                self.note_committed(now, zxid, &statistics.commits_received, &statistics.commit_latency_ms);
                self.history.commit(zxid);
                self.commit(now, zxid);
                if self.member.as_ref().and_then(|member| member.serve_at).is_some_and(|exact| zxid >= exact) {
                    self.serve_under_leader(now, zxid);
                }
                self.answer_refused(now);
            }
            LearnerOutput::Activate { designated_leader } => self.activate_reconfig(now, designated_leader),
            LearnerOutput::Ping { zxid } => self.pong(now, zxid),
            LearnerOutput::Revalidated { session, valid } => self.revalidated(now, session, valid),
            LearnerOutput::SyncDone => self.sync_done(now),
            LearnerOutput::Log { warn, text } => self.log(if warn { Level::Warn } else { Level::Info }, text),
            LearnerOutput::ComeAgain(everything) => {
                if let (Some(member), Role::Learning(learner)) = (&mut self.member, &self.role) {
                    member.everything = Some(everything);
                    member.designated = Some((learner.leader(), member.election.state()));
                }
            }
            LearnerOutput::Leave(why) => {
                if let (Some(member), Role::Learning(learner)) = (&mut self.member, &self.role)
                    && learner.phase() == LearnerPhase::Discovery
                {
                    member.election.refused(learner.leader());
                }
                self.look_for_leader(now, &why);
            }
        }
    }

    pub(crate) fn membership_from_leader(&mut self, text: &[u8]) {
        let Some(member) = &self.member else { return };
        match Membership::parse_text(text, member.settings.multi_address) {
            Ok(membership) => {
                if let Some(member) = &mut self.member {
                    member.leader_membership = Some(membership.clone());
                }
                self.see_leaders_membership(membership);
                self.come_again_to_vote();
            }
            Err(error) => {
                let text = format!("the leader's membership can't be read and is ignored: {error}");
                self.log(Level::Warn, text);
            }
        }
    }

    /// The leader's membership gives this server a vote, which came to listen. The leader may need that vote before it can go on, and an
    /// observer's counts for little, with some leaders for nothing.
    fn come_again_to_vote(&mut self) {
        let (Some(member), Role::Learning(learner)) = (&mut self.member, &mut self.role) else { return };
        if self.shared.settings.reconfig && member.observes() && member.state_of_learner() == PeerState::Following {
            let version = member.memberships.last_seen.version;
            learner.leave(format!("membership {version:x}, which is not in force yet, makes this server a voter"));
            member.designated = Some((learner.leader(), PeerState::Following));
        }
    }

    pub(crate) fn dial(&mut self) {
        let (Some(member), Role::Learning(learner)) = (&mut self.member, &mut self.role) else { return };
        let server = learner.leader();
        let known = member.memberships.committed.members.get(&server);
        let Some(leader) = known.or_else(|| member.memberships.last_seen.members.get(&server)) else {
            learner.leave(format!("server {} is no member", server.0));
            return;
        };
        let addresses = leader.addresses.iter();
        let addresses =
            addresses.map(|address| HostPort { host: address.host.clone(), port: address.quorum_port }).collect();
        let link = LinkId(member.next_link);
        member.next_link += 1;
        learner.dialing(link);
        self.outputs.push_back(Output::Dial { link, server, addresses });
    }

    /// A transaction of the leader: it is checked before it is logged, because what is logged must be readable.
    pub(crate) fn append_from_leader(&mut self, now: Time, record: Record) {
        let Role::Learning(learner) = &mut self.role else { return };
        let decoded = match TxnRecord::decode(record.body()) {
            Ok(decoded) if decoded.header.zxid == record.zxid => decoded,
            Ok(decoded) => {
                learner.leave(format!("proposal {} holds a transaction {}", record.zxid, decoded.header.zxid));
                return;
            }
            Err(error) => {
                learner.leave(format!("proposal {} can't be read: {error}", record.zxid));
                return;
            }
        };
        if let Err(gap) = self.history.push(record.clone()) {
            learner.leave(format!("proposal {} does not follow {}", gap.next, gap.last));
            return;
        }
        let TxnRecord { header, txn, digest } = decoded;
        if self.follows_broadcast() {
            let statistics = &self.shared.statistics.member;
            statistics.proposals_received.fetch_add(1, Relaxed);
            statistics.proposal_latency_ms.record_unless_negative(now.ms_since(header.time_ms));
        }
        let multi_address = self.member.as_ref().is_some_and(|member| member.settings.multi_address);
        if let Some(membership) = reconfigured(&txn, multi_address) {
            self.see_membership(membership);
        }
        let digest = digest.filter(|digest| digest.version == rookeeper_proto::Digest::VERSION);
        self.in_flight.push_back(InFlight {
            header,
            txn,
            digest: digest.map(|digest| digest.value),
            touched: Vec::new(),
            reply: None,
            reads: Vec::new(),
        });
        self.outputs.push_back(Output::Append(record));
    }

    /// UPTODATE ends what ACKEPOCH began.
    fn note_synced(&mut self, now: Time) {
        let Some(member) = &mut self.member else { return };
        let Some(since_ms) = member.syncing_since_ms.take() else { return };
        let statistics = &self.shared.statistics.member;
        let summary = if member.observes() { &statistics.observer_sync_ms } else { &statistics.follower_sync_ms };
        summary.record_unless_negative(now.monotonic_ms - since_ms);
    }

    /// Nothing is in the tree that comes after its zxid.
    pub(crate) fn tree_is_exact(&mut self) {
        let Some(member) = &mut self.member else { return };
        member.serve_at = None;
        if std::mem::take(&mut member.after_snapshot) {
            self.shared.tree_mut().finish_replay();
        }
        self.compare_digests = true;
    }

    /// UPTODATE: what the leader has is history, and clients may come.
    pub(crate) fn serve_under_leader(&mut self, now: Time, committed: Zxid) {
        self.history.commit(committed);
        self.commit(now, committed);
        let last = self.history.last();
        if let Some(member) = self.member.as_mut().filter(|member| member.after_snapshot)
            && committed < *member.serve_at.get_or_insert(last)
        {
            // What the leader applied while it sent its tree is not all committed here yet.
            return;
        }
        self.tree_is_exact();
        self.reconfigured = None;
        let membership = self.member.as_mut().and_then(|member| member.leader_membership.take());
        match membership.filter(|_| self.shared.settings.reconfig) {
            Some(membership) => {
                self.activate_membership(now, membership);
                // The leader went by it when this server came as what it was before; as that it has no voice, or one too many.
                if self.leave_for_another_part(None) {
                    return;
                }
            }
            None => self.write_config_node(now),
        }
        self.begin_serving(now, false);
        let (Some(member), Role::Learning(learner)) = (&mut self.member, &self.role) else { return };
        member.election.established(i64::from(member.epochs.current));
        let took_ms = now.monotonic_ms - member.looking_since_ms;
        let text = format!(
            "follows server {} in epoch {:x} from {committed} on, {took_ms} ms after it began to look for a leader",
            learner.leader().0,
            member.epochs.current
        );
        self.log(Level::Info, text);
    }
}
