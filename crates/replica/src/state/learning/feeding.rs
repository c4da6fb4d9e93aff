//! The observers that a follower feeds: their clients ask the leader through this server, and are answered by what comes from there.
//!
//! What always holds here:
//! - what goes to the leader goes in the order in which the observers and this server's own clients sent it, and the leader takes all of it for
//!   this server's. So this server sees to what the leader can't: nothing that comes through an observer, or a connection, which the client
//!   has left since, changes anything;
//! - the leader is sent nothing that it could not decode. Each request becomes exactly one transaction with its session and cxid, for by that
//!   the observer knows the answer; in place of one that must not be done goes one that can't be;
//! - a sync's answer goes to an observer behind everything that was committed before it.
//!
//! Counterpart in the original: `ObserverMaster`, `FollowerZooKeeperServer.processObserverRequest`. It does not see where a session has moved
//! to within one follower.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::quorum::{ForwardedRequest, QuorumPacket};
use rookeeper_proto::request::WriteRequest;
use rookeeper_proto::{MonotonicMs, OpCode, ServerId, SessionId, Zxid};
use rookeeper_zab::observer_master::{
    ObserverCounts, ObserverMaster, ObserverMasterOutput, ObserverMasterSettings, RelayedRequest, Source,
};
use rookeeper_zab::{DropReason, LinkId, LinkOutput};

use crate::clients::session::Owner;
use crate::contract::Output;
use crate::core::Core;
use crate::inputs::LearnerInput;
use crate::member::Member;
use crate::reasons::Event;
use crate::state::learning::Learning;
use crate::state::learning::clients::{NO_ANSWER, Resumer};
use crate::state::learning::forwarded::Asked;
use crate::state::{Step, leading};
use crate::time::Time;

/// Syncs and revalidations of one observer that may wait for the leader. After a failover each of its clients asks once.
const MAX_QUESTIONS: usize = 200_000;

#[derive(Debug)]
pub(crate) struct Feeding {
    master: ObserverMaster,
    /// How many syncs and revalidations of each observer wait for the leader.
    questions: BTreeMap<LinkId, usize>,
}

impl Feeding {
    /// Begins to feed, where this server is to.
    pub fn begin(core: &mut Core, member: &mut Member, now: Time) -> Option<Feeding> {
        let settings = &member.settings;
        settings.observer_master_port?;
        let master = ObserverMaster::new(
            ObserverMasterSettings {
                me: settings.me,
                tick_ms: core.shared.settings.tick_time_ms,
                init_limit_ticks: settings.init_limit_ticks,
                sync_limit_ticks: settings.sync_limit_ticks,
                force_snapshot_sync: settings.force_snapshot_sync,
                max_concurrent_snap_syncs: settings.max_concurrent_snap_syncs,
                max_concurrent_diff_syncs: settings.max_concurrent_diff_syncs,
                size_limit_bytes: settings.observer_master_size_limit_bytes,
            },
            member.epochs.current,
            core.history.committed(),
            now.monotonic_ms,
        );
        core.put(Output::ObserverMaster { open: true });
        core.log(Event::FeedsObservers);
        member.stale_status = true;
        Some(Feeding { master, questions: BTreeMap::new() })
    }

    /// This server has lost its leader.
    pub fn end(self, core: &mut Core) {
        core.put(Output::ObserverMaster { open: false });
        for link in self.master.links() {
            core.put(Output::ToLearner(link, LinkOutput::Drop(DropReason::NoLongerFollows)));
        }
    }

    /// What comes on the link of an observer.
    pub fn take_input(&mut self, core: &mut Core, member: &mut Member, now: Time, link: LinkId, input: LearnerInput) {
        let source = source(core, member);
        let now_ms = now.monotonic_ms;
        match input {
            LearnerInput::ObserverConnected { peer } => self.master.connected(now_ms, link, peer),
            LearnerInput::Packets(packets) => self.master.receive(now_ms, source, link, &packets),
            LearnerInput::Gone { why } => self.master.gone(link, why),
            LearnerInput::SyncPlanned(plan) => self.master.sync_planned(source, link, plan),
            LearnerInput::StreamProgressed => self.master.stream_progressed(now_ms, link),
            LearnerInput::Connected { .. } => unreachable!("it came through the quorum port"),
        }
    }

    /// Before the history knows that everything up to `zxid` is committed: observers are told.
    pub fn inform(&mut self, core: &Core, zxid: Zxid, activates: Option<ServerId>) {
        self.master.inform(&core.history, zxid, activates);
    }

    /// The history knows more than before.
    pub fn grown(&mut self, core: &Core, member: &Member) {
        self.master.grown(source(core, member));
    }

    /// What time does.
    pub fn tick(&mut self, core: &Core, member: &mut Member, now: Time) {
        if self.master.deadline_ms() <= now.monotonic_ms {
            self.master.tick(now.monotonic_ms);
            let lags_ms = self.master.lags(now.monotonic_ms);
            core.shared.status_board.update(|status| status.learner_lags_ms = lags_ms);
            member.stale_status = true;
        }
    }

    /// When there is something to do although nothing happens.
    pub fn deadline_ms(&self) -> MonotonicMs {
        self.master.deadline_ms()
    }

    /// How many observers there are.
    pub fn counts(&self) -> ObserverCounts {
        self.master.counts()
    }

    /// One more question of an observer waits for the leader. Says whether that is not too much.
    fn asks(&mut self, link: LinkId) -> bool {
        let questions = self.questions.entry(link).or_default();
        *questions += 1;
        let is_bearable = *questions <= MAX_QUESTIONS;
        if !is_bearable {
            self.master.drop_link(link, DropReason::AsksTooMuch { limit: MAX_QUESTIONS });
        }
        is_bearable
    }

    /// One is answered.
    fn answered(&mut self, link: LinkId) {
        if let Some(questions) = self.questions.get_mut(&link) {
            *questions = questions.saturating_sub(1);
        }
    }
}

fn source<'a>(core: &'a Core, member: &'a Member) -> Source<'a> {
    Source { history: &core.history, membership: &member.memberships.committed }
}

impl Learning {
    /// Carries out what the observer master asks for.
    pub(super) fn feed(&mut self, core: &mut Core, member: &mut Member, now: Time) -> Step {
        let Some(output) = self.feeding.as_mut().and_then(|feeding| feeding.master.poll()) else { return Step::Idle };
        match output {
            ObserverMasterOutput::ToObserver(link, output) => core.put(Output::ToLearner(link, output)),
            ObserverMasterOutput::Request(request) => self.relay(core, request),
            ObserverMasterOutput::Revalidate { link, session, timeout_ms } => {
                core.shared.statistics.member.revalidations.fetch_add(1, Relaxed);
                self.relay_revalidation(core, link, session, timeout_ms);
            }
            ObserverMasterOutput::Touches(touches) => self.learner.pong(NO_ANSWER, touches),
            ObserverMasterOutput::SyncBegan { by_snapshot, under_way } => {
                leading::note_sync_began(core, by_snapshot, under_way);
            }
            ObserverMasterOutput::SyncEnded { by_snapshot, under_way } => {
                leading::note_syncs_under_way(core, by_snapshot, under_way);
            }
            ObserverMasterOutput::Synced => {
                member.stale_status = true;
                if let Some(feeding) = &self.feeding {
                    let lags_ms = feeding.master.lags(now.monotonic_ms);
                    core.shared.status_board.update(|status| status.learner_lags_ms = lags_ms);
                }
            }
            ObserverMasterOutput::Gone { link } => {
                member.stale_status = true;
                if let Some(feeding) = &mut self.feeding {
                    feeding.questions.remove(&link);
                }
            }
            ObserverMasterOutput::Log(event) => core.log(Event::Leader(event)),
        }
        Step::Done
    }

    /// Sends on what a client of an observer asks for.
    fn relay(&mut self, core: &mut Core, request: RelayedRequest) {
        let RelayedRequest { link, session, cxid, op, body, identities } = request;
        let is_sync = op == OpCode::Sync.number();
        if is_sync {
            if !self.feeding.as_mut().is_some_and(|feeding| feeding.asks(link)) {
                return;
            }
            self.forwarded.push(Asked::RelayedSync(link));
        }
        let may_go = is_sync || (is_sound(op, &body) && may_change(core, session, link, op));
        let (op, body) = if may_go { (op, body.as_slice()) } else { (IN_VAIN.0.number(), IN_VAIN.1) };
        self.learner.send(&QuorumPacket::Request(ForwardedRequest { session, cxid, op, body, identities }));
    }

    fn relay_revalidation(&mut self, core: &mut Core, link: LinkId, session: SessionId, timeout_ms: i32) {
        if !self.feeding.as_mut().is_some_and(|feeding| feeding.asks(link)) {
            return;
        }
        // From here on the leader takes what this server sends for what the new connection asks.
        let before = {
            let mut sessions = core.shared.sessions();
            let has_it = sessions.is_resumable(session);
            has_it.then(|| sessions.move_to(session, link)).flatten()
        };
        if let Some(before) = before {
            // The session is no longer this connection's, so no later look comes to it.
            self.heard_sessions.note_departure(&before);
            core.hang_up(&before);
        }
        self.learner.send(&QuorumPacket::Revalidate { session, timeout_ms });
        self.resuming.entry(session).or_default().push(Resumer::Observer(link));
    }

    pub(super) fn answer_relayed_sync(&mut self, link: LinkId) {
        if let Some(feeding) = &mut self.feeding {
            feeding.answered(link);
            feeding.master.answer_sync(link);
        }
    }

    pub(super) fn answer_relayed_revalidation(&mut self, link: LinkId, session: SessionId, valid: bool) {
        if let Some(feeding) = &mut self.feeding {
            feeding.answered(link);
            feeding.master.revalidated(link, session, valid);
        }
    }
}

/// The opcode and body of a request that no leader carries out: the deletion of a node without a name.
const IN_VAIN: (OpCode, &[u8]) = (OpCode::Delete, b"\0\0\0\0\xff\xff\xff\xff");

/// Whether a leader can decode this. An error that the original makes of what it can't takes no place of its own in the order.
fn is_sound(op: i32, body: &[u8]) -> bool {
    match OpCode::from_i32(op) {
        Some(OpCode::CreateSession) => body.first_chunk::<4>().is_some(),
        Some(op) => op.is_write() && WriteRequest::decode(op, body).is_ok(),
        None => false,
    }
}

/// Whether the client has not left the observer of this link. Whoever asks first has a session that nobody has.
fn may_change(core: &Core, session: SessionId, link: LinkId, op: i32) -> bool {
    let owner = Owner::Learner(link);
    let mut sessions = core.shared.sessions();
    if op == OpCode::CreateSession.number() {
        return true;
    }
    let has_left = sessions.get(session).is_some_and(|known| known.has_left(owner));
    if !has_left {
        sessions.claim(session, owner);
    }
    !has_left
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The stand-in goes where others could not, so it must be sound itself.
    #[test]
    fn only_what_a_leader_can_decode_is_sent_on() {
        let (op, body) = IN_VAIN;
        assert!(is_sound(op.number(), body));
        assert!(!is_sound(op.number(), &body[1..]), "cut off");
        assert!(
            is_sound(OpCode::CreateSession.number(), &[0; 4]) && !is_sound(OpCode::CreateSession.number(), &[0; 3])
        );
        assert!(is_sound(OpCode::CloseSession.number(), &[]));
        for op in [OpCode::GetData.number(), OpCode::Check.number(), 999] {
            assert!(!is_sound(op, body), "{op}");
        }
    }
}
