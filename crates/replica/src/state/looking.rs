//! A member that looks for a leader: waits until all it has is durable, votes, and holds learners that connect early. Where that takes long
//! and an operator allows it, those who only read are served meanwhile.
//!
//! What always holds here: a learner that comes before this server knows whether it leads is held for a bounded time with bounded bytes;
//! in read-only mode nothing is changed at all, and who comes is told so.
//!
//! Counterpart in the original: `QuorumPeer.run` in the state LOOKING, `ReadOnlyZooKeeperServer`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rookeeper_proto::connect::ConnectRequest;
use rookeeper_proto::election::PeerState;
use rookeeper_proto::frame::{self, ReplyHeader};
use rookeeper_proto::{ErrorCode, MonotonicMs, OpCode, ServerId};
use rookeeper_zab::election::{Candidacy, Vote};
use rookeeper_zab::{DropReason, LinkId, LinkOutput};

use crate::check::{Broken, must};
use crate::clients::connection::Connection;
use crate::clients::handshake::Wish;
use crate::clients::read::ReadFrame;
use crate::clients::requests::{ClientInput, Sorted, Write};
use crate::contract::Output;
use crate::core::{Core, Reply};
use crate::inputs::LearnerInput;
use crate::member::{Designated, Member};
use crate::reasons::Event;
use crate::state::leading::Leading;
use crate::state::learning::Learning;
use crate::state::{Found, Role};
use crate::status::{RoleStatus, Serving};
use crate::time::Time;

/// A learner may connect before this server knows that it leads. It waits this long.
const HOLD_MS: i64 = 1000;

/// How many may, and how much of what they say is kept.
const MAX_HELD: usize = 64;
const MAX_HELD_BYTES: usize = 64 << 10;

/// A server looks for a leader at least this long before it serves readers without one.
const READ_ONLY_AFTER_MS: i64 = 2000;

#[derive(Debug, Default)]
pub(crate) struct Looking {
    since_ms: MonotonicMs,
    search: Search,
    held: BTreeMap<LinkId, HeldLearner>,
}

#[derive(Debug, Default)]
enum Search {
    /// Not before this, and only once the storage has answered everything, an election begins; or none is needed.
    Waits { until_ms: MonotonicMs, designated: Option<Designated> },
    /// It has begun.
    #[default]
    UnderWay,
}

/// A learner that connected early.
#[derive(Debug)]
struct HeldLearner {
    peer: String,
    packets: Vec<u8>,
    since_ms: MonotonicMs,
}

impl Looking {
    /// Looks for a leader from `now_ms` on. An election begins `delay_ms` later at the earliest; none where the next leader is `designated`.
    pub fn new(now_ms: MonotonicMs, designated: Option<Designated>, delay_ms: i64) -> Looking {
        let search = Search::Waits { until_ms: now_ms + delay_ms, designated };
        Looking { since_ms: now_ms, search, held: BTreeMap::new() }
    }

    /// No election begins before this.
    pub fn wait_until(&mut self, not_before_ms: MonotonicMs) {
        if let Search::Waits { until_ms, .. } = &mut self.search {
            *until_ms = not_before_ms.max(*until_ms);
        }
    }

    /// Begins an election once everything this server has said is durable. Returns who leads where that is known without one.
    pub fn try_to_look(&mut self, core: &Core, member: &mut Member, now: Time) -> Option<Found> {
        let Search::Waits { until_ms, designated } = self.search else { return None };
        if !member.has_all_durable(core) || now.monotonic_ms < until_ms {
            return None;
        }
        self.search = Search::UnderWay;
        let zxid = core.history.last().known();
        if let Some(Designated { leader, state }) = designated {
            member.election.settle(Vote { leader: Some(leader), zxid, election_epoch: -1, peer_epoch: None }, state);
            return Some(Found::new(leader, state));
        }
        member.election.look(now.monotonic_ms, Candidacy { zxid, epoch: member.epochs.current });
        core.shared.statistics.member.searches.fetch_add(1, Relaxed);
        None
    }

    /// The election is over.
    pub fn elected(&mut self, core: &mut Core, member: &Member, now: Time, leader: ServerId) -> Found {
        let took_ms = now.monotonic_ms - self.since_ms;
        core.shared.status_board.update(|status| status.last_election_ms = took_ms);
        let state = member.election.state();
        if state != PeerState::Observing {
            core.shared.statistics.member.election_ms.record_unless_negative(took_ms);
        }
        core.log(Event::Elected { state, leader, took_ms });
        Found::new(leader, state)
    }

    /// The role that follows from what was found, with or without an election. Readers who were served without a leader come again.
    pub fn begin(self, core: &mut Core, member: &mut Member, now: Time, found: Found) -> Role {
        if core.serving() == Serving::ReadOnly {
            core.shared.status_board.serve(Serving::Nobody);
            core.stop_serving(Vec::new(), Vec::new());
        }
        member.stale_status = true;
        match found {
            Found::Lead => {
                let mut leading = Leading::new(core, member, now, self.since_ms);
                for (link, HeldLearner { peer, packets, .. }) in self.held {
                    leading.take_learner_input(core, now, link, LearnerInput::Connected { peer });
                    leading.take_learner_input(core, now, link, LearnerInput::Packets(packets));
                }
                Role::Leading(Box::new(leading))
            }
            Found::Learn { leader, observes } => {
                for link in self.held.into_keys() {
                    let why = DropReason::Follows(leader);
                    core.put(Output::ToLearner(link, LinkOutput::Drop(why)));
                }
                Role::Learning(Box::new(Learning::new(core, member, now, leader, observes, self.since_ms)))
            }
        }
    }

    /// Holds what a learner says until this server knows whether it leads.
    pub fn take_learner_input(&mut self, core: &mut Core, now: Time, link: LinkId, input: LearnerInput) {
        match input {
            LearnerInput::Connected { peer } if self.held.len() < MAX_HELD => {
                self.held.insert(link, HeldLearner { peer, packets: Vec::new(), since_ms: now.monotonic_ms });
            }
            LearnerInput::Connected { .. } => {
                core.put(Output::ToLearner(link, LinkOutput::Drop(DropReason::NotLeading)));
            }
            LearnerInput::ObserverConnected { .. } => {
                core.put(Output::ToLearner(link, LinkOutput::Drop(DropReason::FeedsNobody)));
            }
            LearnerInput::Packets(packets) => {
                let Some(held) = self.held.get_mut(&link) else { return };
                if held.packets.len() + packets.len() <= MAX_HELD_BYTES {
                    held.packets.extend_from_slice(&packets);
                } else {
                    self.held.remove(&link);
                    let why = DropReason::SaidTooMuch;
                    core.put(Output::ToLearner(link, LinkOutput::Drop(why)));
                }
            }
            LearnerInput::Gone { .. } => {
                self.held.remove(&link);
            }
            // Of a link that was dropped.
            LearnerInput::SyncPlanned(_) | LearnerInput::StreamProgressed => {}
        }
    }

    /// What time does: readers are served, and learners are held no longer.
    pub fn tick(&mut self, core: &mut Core, member: &Member, now: Time) {
        if self.read_only_at_ms(core, member).is_some_and(|due_ms| due_ms <= now.monotonic_ms) {
            core.shared.sessions().restart(false, std::iter::empty(), now.monotonic_ms);
            core.shared.status_board.serve(Serving::ReadOnly);
            core.log(Event::ServesReaders);
        }
        for (link, _) in self.held.extract_if(.., |_, held| held.since_ms + HOLD_MS <= now.monotonic_ms) {
            core.put(Output::ToLearner(link, LinkOutput::Drop(DropReason::NotLeadingYet)));
        }
    }

    /// What must hold after each event, see [`Replica::check`](crate::Replica::check).
    pub fn check(&self, core: &Core, member: &Member) -> Result<(), Broken> {
        let serves_readers = core.serving() == Serving::ReadOnly && member.settings.read_only_mode;
        must(serves_readers || core.serving() == Serving::Nobody, "without a leader readers are served at most")?;
        must(self.held.len() <= MAX_HELD, "few learners are held")?;
        let waits = matches!(self.search, Search::Waits { .. });
        must(member.election.is_searching() != waits, "an election is under way or waited for")
    }

    /// When there is something to do although nothing happens.
    pub fn deadline_ms(&self, core: &Core, member: &Member) -> Option<MonotonicMs> {
        let held = self.held.values().map(|held| held.since_ms + HOLD_MS).min();
        let look = match self.search {
            // Otherwise it is the storage's answer that is waited for, not the time.
            Search::Waits { until_ms, .. } if member.has_all_durable(core) => Some(until_ms),
            _ => None,
        };
        [held, look, self.read_only_at_ms(core, member)].into_iter().flatten().min()
    }

    /// When read-only mode begins, while no leader is found.
    fn read_only_at_ms(&self, core: &Core, member: &Member) -> Option<MonotonicMs> {
        let may = member.settings.read_only_mode && member.is_voter() && core.serving() == Serving::Nobody;
        may.then(|| self.since_ms + READ_ONLY_AFTER_MS.max(core.shared.settings.tick_time_ms))
    }

    /// What a server without a leader tells of itself.
    pub fn status(&self) -> RoleStatus {
        RoleStatus::looking()
    }
}

/// Read-only mode.
impl Looking {
    /// A client has connected to a server in read-only mode. Clients that did not ask for such a server are sent away.
    pub fn connect(&mut self, core: &mut Core, now: Time, connection: Arc<Connection>, request: &ConnectRequest) {
        if request.read_only != Some(true) {
            core.hang_up(&connection);
            return;
        }
        let newest = core.last_zxid();
        match core.greet(&connection, request, newest) {
            None => {}
            Some(Wish::NewSession) if core.rules.local_sessions => core.open_local_session(now, &connection, request),
            Some(Wish::NewSession) => refuse_global_session(core, &connection),
            // A session of the ensemble is not resumed by a server that can't keep it alive: its client tries the others.
            Some(Wish::Resume { .. }) if core.shared.tree().session_timeout_ms(request.session).is_some() => {
                core.hang_up(&connection);
            }
            Some(Wish::Resume { .. }) => core.resume_unless_closing(now, &connection, request),
        }
    }

    /// What a client of a server in read-only mode asks for.
    pub fn take_client_input(&mut self, core: &mut Core, now: Time, input: ClientInput) {
        match input {
            ClientInput::Write(write) => self.write(core, now, write),
            ClientInput::Read { connection, read } => self.read(core, now, connection, &read),
            ClientInput::Disconnected { connection } => core.detach(&connection),
        }
    }

    /// Refuses whatever would change something. Nothing is on its way in read-only mode, so its turn is now.
    fn write(&mut self, core: &mut Core, now: Time, write: Write) {
        match core.sort(now.monotonic_ms, &write) {
            Sorted::Left => {}
            Sorted::ClosesLocal(read) => self.read(core, now, write.connection, &read),
            Sorted::Refused(_) | Sorted::Goes | Sorted::GoesBehindUpgrade { .. } => {
                core.refuse(now, ErrorCode::NotReadOnly, &write.reply(now), &[]);
            }
        }
    }

    fn read(&mut self, core: &mut Core, now: Time, connection: Arc<Connection>, read: &ReadFrame) {
        if connection.is_cut() {
            core.leave_read(&connection, read);
        } else if read.op == OpCode::Sync {
            let reply = Reply::of_read(connection, read, now);
            core.refuse(now, ErrorCode::NotReadOnly, &reply, &[]);
        } else {
            core.answer_read_now(now, &connection, read);
        }
    }
}

/// A session of the ensemble begins with a transaction, and nobody can make one now. The original answers so, and not as it answers a
/// handshake; its clients take that for a broken connection and try the next server.
fn refuse_global_session(core: &mut Core, connection: &Arc<Connection>) {
    let header = ReplyHeader { xid: 0, zxid: core.shared.tree().last_zxid(), err: ErrorCode::NotReadOnly as i32 };
    connection.outbox.append(|output| frame::append_reply::<()>(output, header, None));
    connection.outbox.finish();
    core.to_wake.push(connection.clone());
}
