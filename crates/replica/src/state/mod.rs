//! A member of an ensemble: looks for a leader, becomes one or learns from one, and begins again when that ends.
//!
//! Each role owns what only it needs, so a role that ends takes all of it along. This file asks which role there is, hands on what is for
//! it, and is the only one that moves from role to role:
//!
//! ```text
//!             elected, designated          elected, designated
//!   Leading <--------------------- Looking ---------------------> Learning
//!      |                              ^ ^                            |
//!      +------------------------------+ +----------------------------+
//!           steps down, or a quorum follows another server
//! ```
//!
//! What always holds here:
//! - a server serves only under a leader that a quorum has acknowledged, itself or another; when that ends its clients are cut before
//!   anything else happens;
//! - it votes with what is durable: before it looks for a leader the storage has answered everything;
//! - what is logged and not committed stays in the history, for the next leader to decide about.
//!
//! Counterpart in the original: `QuorumPeer.run`.

pub(crate) mod leading;
pub(crate) mod learning;
pub(crate) mod looking;
pub(crate) mod restoring;
pub(crate) mod standalone;
mod syncs;

use std::sync::Arc;

use rookeeper_proto::connect::ConnectRequest;
use rookeeper_proto::election::PeerState;
use rookeeper_proto::{ServerId, Zxid};
use rookeeper_zab::Membership;
use rookeeper_zab::election::ElectionOutput;

use crate::check::{Broken, must};
use crate::clients::connection::Connection;
use crate::clients::requests::ClientInput;
use crate::contract::{NotRestored, Output};
use crate::core::Core;
use crate::inputs::{ElectionInput, Sorted};
use crate::member::{Designated, Done, Member};
use crate::reasons::RoleEnd;
use crate::state::leading::Leading;
use crate::state::learning::Learning;
use crate::state::looking::Looking;
use crate::status::Serving;
use crate::time::{Deadline, Time};

/// A member and its role.
#[derive(Debug)]
pub(crate) struct Ensemble {
    member: Member,
    role: Role,
}

/// Who leads.
#[derive(Debug)]
pub(crate) enum Role {
    /// No leader is known.
    Looking(Looking),
    /// This server.
    Leading(Box<Leading>),
    /// Another server.
    Learning(Box<Learning>),
}

/// What came of asking a role for what it wants done.
#[derive(Debug)]
pub(crate) enum Step {
    /// Nothing is left to do.
    Idle,
    /// Something was done; there may be more.
    Done,
    /// The role is over.
    Over(End),
}

/// Why a server that led or learned looks for a leader again.
#[derive(Debug)]
pub(crate) struct End {
    pub why: RoleEnd,
    /// Where no election is needed.
    pub designated: Option<Designated>,
    /// The next election begins so much later, because what ended the last attempt will still be there.
    pub pause_ms: i64,
}

/// What a server that looked for a leader has found.
#[derive(Debug)]
pub(crate) enum Found {
    /// It leads.
    Lead,
    /// Another server leads.
    Learn { leader: ServerId, observes: bool },
}

impl Found {
    /// `state` is what this server is under that leader.
    pub fn new(leader: ServerId, state: PeerState) -> Found {
        match state {
            PeerState::Leading => Found::Lead,
            _ => Found::Learn { leader, observes: state == PeerState::Observing },
        }
    }
}

impl Ensemble {
    /// Begins by looking for a leader.
    pub fn new(core: &mut Core, member: Member, now: Time) -> Ensemble {
        core.shared.status_board.serve(Serving::Nobody);
        core.put(Output::Members(member.memberships.clone()));
        let mut ensemble = Ensemble { member, role: Role::Looking(Looking::new(now.monotonic_ms, None, 0)) };
        ensemble.pump(core, now);
        ensemble
    }

    /// Takes one event in, and does what there is to do by now.
    pub fn handle(&mut self, core: &mut Core, now: Time, input: Sorted) {
        self.take(core, now, input);
        self.pump(core, now);
        self.pass_time(core, now);
        for (connection, request) in self.member.take_arrivals(is_serving(core), now) {
            self.connect(core, now, connection, request);
        }
        self.pump(core, now);
        self.publish_status(core);
    }

    fn take(&mut self, core: &mut Core, now: Time, input: Sorted) {
        let Ensemble { member, role } = self;
        match input {
            Sorted::Connect(connection, request) => self.connect(core, now, connection, request),
            Sorted::Client(input) if !is_serving(core) => turn_away(core, input),
            Sorted::Client(input) => match role {
                Role::Looking(looking) => looking.take_client_input(core, now, input),
                Role::Leading(leading) => leading.take_client_input(core, member, now, input),
                Role::Learning(learning) => learning.take_client_input(core, now, input),
            },
            Sorted::Synced(zxid) => self.note_synced(core, now, zxid),
            Sorted::Stored(stored) => {
                let done = member.note_stored(core, stored);
                if let Done::MembershipRefused { epoch, why } = done {
                    // Asked again at once the storage would refuse again.
                    let pause_ms = core.shared.settings.tick_time_ms;
                    return self.give_up(core, now, RoleEnd::MembershipNotWritten { epoch, why }, pause_ms);
                }
                match role {
                    Role::Looking(_) => {}
                    Role::Leading(leading) => leading.stored(now, done),
                    Role::Learning(learning) => learning.stored(now, done),
                }
            }
            Sorted::Election(input) => self.take_election_input(core, now, input),
            Sorted::Learner(link, input) => match role {
                Role::Looking(looking) => looking.take_learner_input(core, now, link, input),
                Role::Leading(leading) => leading.take_learner_input(core, now, link, input),
                Role::Learning(learning) => learning.take_learner_input(core, member, now, link, input),
            },
            Sorted::Leader(link, input) => {
                // What comes from the leader of an earlier role is late.
                if let Role::Learning(learning) = role {
                    learning.take_leader_input(core, member, now, link, input);
                }
            }
            Sorted::Oracle { grants } => {
                member.oracle_grants = grants;
                member.election.oracle_says(now.monotonic_ms, grants);
                if let Role::Leading(leading) = role {
                    leading.oracle_says(grants);
                }
            }
            Sorted::Restore(_) => core.put(Output::Restored(Err(NotRestored::Member))),
            Sorted::Tick => {}
        }
    }

    fn connect(&mut self, core: &mut Core, now: Time, connection: Arc<Connection>, request: ConnectRequest) {
        if !connection.outbox.is_open() {
            // The client did not wait, and may have been served elsewhere since: a session is not taken back for it.
            return;
        }
        if !is_serving(core) {
            self.member.wait_for_leader(core, now, connection, request);
            return;
        }
        let member = &mut self.member;
        match &mut self.role {
            Role::Looking(looking) => looking.connect(core, now, connection, &request),
            Role::Leading(leading) => leading.connect(core, member, now, connection, &request),
            Role::Learning(learning) => learning.connect(core, member, now, connection, request),
        }
    }

    fn note_synced(&mut self, core: &mut Core, now: Time, zxid: Zxid) {
        match &mut self.role {
            Role::Looking(_) => core.history.synced(zxid),
            Role::Leading(leading) => leading.synced(core, now, zxid),
            Role::Learning(learning) => learning.synced(core, now, zxid),
        }
    }

    fn take_election_input(&mut self, core: &mut Core, now: Time, input: ElectionInput) {
        let election = &mut self.member.election;
        match input {
            ElectionInput::Notified { from, notification } => {
                if let Role::Leading(leading) = &mut self.role {
                    leading.hear_vote(core, now, from, &notification);
                }
                election.receive(now.monotonic_ms, from, notification);
                self.look_where_others_lead(core, now);
            }
            ElectionInput::LinkUp(server) => election.link_up(now.monotonic_ms, server),
            ElectionInput::LinkDown(server) => election.link_down(now.monotonic_ms, server),
        }
    }

    /// A quorum may have settled on another leader than this server, which has not reached its own yet.
    fn look_where_others_lead(&mut self, core: &mut Core, now: Time) {
        let Some(other) = self.member.election.led_elsewhere().filter(|_| !is_serving(core)) else { return };
        self.give_up(core, now, RoleEnd::OthersFollow(other), 0);
    }

    /// Ends the role, where that is not over already, and begins no election for a while.
    fn give_up(&mut self, core: &mut Core, now: Time, why: RoleEnd, pause_ms: i64) {
        let designated = match &mut self.role {
            Role::Looking(looking) => return looking.wait_until(now.monotonic_ms + pause_ms),
            Role::Leading(_) => None,
            Role::Learning(learning) => learning.designated,
        };
        self.look_again(core, now, End { why, designated, pause_ms });
    }

    /// Carries out what the election and the role ask for, until they ask for nothing more.
    fn pump(&mut self, core: &mut Core, now: Time) {
        loop {
            let Ensemble { member, role } = self;
            if let Role::Looking(looking) = role
                && let Some(found) = looking.try_to_look(core, member, now)
            {
                *role = std::mem::take(looking).begin(core, member, now, found);
            } else if let Some(output) = member.election.poll() {
                self.carry_out(core, now, output);
            } else {
                let step = match role {
                    Role::Looking(_) => Step::Idle,
                    Role::Leading(leading) => leading.step(core, member, now),
                    Role::Learning(learning) => learning.step(core, member, now),
                };
                match step {
                    Step::Idle => return,
                    Step::Done => {}
                    Step::Over(end) => self.look_again(core, now, end),
                }
            }
        }
    }

    fn carry_out(&mut self, core: &mut Core, now: Time, output: ElectionOutput) {
        let member = &mut self.member;
        match output {
            ElectionOutput::Send { to, notification } => core.put(Output::Notify { to, notification }),
            ElectionOutput::NewerMembership(text) => {
                if let Ok(membership) = Membership::parse_text(text, member.settings.multi_address)
                    && !member.has_left_behind(core, &membership)
                {
                    member.activate_membership(core, now, membership);
                }
            }
            ElectionOutput::Elected(leader) => {
                let Role::Looking(looking) = &mut self.role else { return };
                let found = looking.elected(core, member, now, leader);
                self.role = std::mem::take(looking).begin(core, member, now, found);
            }
        }
    }

    /// The role ends with all that it alone had: clients are cut, learners dropped, and once the storage is done another election begins.
    fn look_again(&mut self, core: &mut Core, now: Time, End { why, designated, pause_ms }: End) {
        let member = &mut self.member;
        // Observers let those who vote go first, and not all observers come at once.
        let delay_ms = if member.is_voter() { 0 } else { observer_delay_ms(member) }.max(pause_ms);
        core.shared.status_board.serve(Serving::Nobody);
        let looking = Role::Looking(Looking::new(now.monotonic_ms, designated, delay_ms));
        match std::mem::replace(&mut self.role, looking) {
            Role::Looking(_) => {}
            Role::Leading(leading) => leading.end(core, why),
            Role::Learning(learning) => learning.end(core, member, why),
        }
        member.election.pause();
        member.note_unavailable(now);
        member.stale_status = true;
    }

    fn pass_time(&mut self, core: &mut Core, now: Time) {
        let Ensemble { member, role } = self;
        match role {
            Role::Looking(_) => {}
            Role::Leading(leading) => leading.tick(core, member, now),
            Role::Learning(learning) => learning.tick(core, member, now),
        }
        if member.election.deadline_ms().is_some_and(|due_ms| due_ms <= now.monotonic_ms) {
            member.election.tick(now.monotonic_ms);
        }
        if let Role::Looking(looking) = role {
            looking.tick(core, member, now);
        }
        for expired in core.expired_sessions(now) {
            // Where it is another server that decides, only sessions that no other server knows expire here.
            let is_known_to_others = core.expire(expired);
            if let Role::Leading(leading) = role
                && is_known_to_others
            {
                leading.close_session(core, member, now, expired.0);
            }
        }
        if let Role::Leading(leading) = role {
            leading.reap(core, member, now);
        }
    }

    /// What must hold after each event, see [`Replica::check`](crate::Replica::check).
    pub fn check(&self, core: &Core) -> Result<(), Broken> {
        let member = &self.member;
        let state = member.election.state();
        match &self.role {
            Role::Looking(looking) => {
                must(state == PeerState::Looking, "the election knows of no leader where one is looked for")?;
                looking.check(core, member)?;
            }
            Role::Leading(leading) => {
                must(state == PeerState::Leading, "the election has made this server the leader")?;
                leading.check(core)?;
            }
            Role::Learning(learning) => {
                let learns = matches!(state, PeerState::Following | PeerState::Observing);
                must(learns, "the election has made another server the leader")?;
                learning.check(core, state == PeerState::Observing)?;
            }
        }
        let is_led = matches!(core.serving(), Serving::Deciding | Serving::Forwarding);
        must(is_led == member.is_available(), "clients are served where there is a leader")?;
        must(core.tree_is_exact || !is_led, "clients see nothing that comes after the zxid of the tree")
    }

    /// When there is something to do although nothing happens.
    pub fn deadline(&self, core: &Core) -> Deadline {
        let member = &self.member;
        let role = match &self.role {
            Role::Looking(looking) => looking.deadline_ms(core, member).into(),
            Role::Leading(leading) => leading.deadline_ms(core).into(),
            Role::Learning(learning) => learning.deadline(),
        };
        let arrivals = member.arrivals_deadline(is_serving(core));
        let (sessions, election) = (core.session_deadline_ms(), member.election.deadline_ms());
        role.min(arrivals).min(sessions.into()).min(election.into())
    }

    /// Requests that wait for a leader elsewhere.
    pub fn forwarded(&self) -> usize {
        match &self.role {
            Role::Looking(_) | Role::Leading(_) => 0,
            Role::Learning(learning) => learning.forwarded(),
        }
    }

    /// Tells what this server is, where that changed.
    fn publish_status(&mut self, core: &Core) {
        if !std::mem::take(&mut self.member.stale_status) {
            return;
        }
        let member = &self.member;
        let role = match &self.role {
            Role::Looking(looking) => looking.status(),
            Role::Leading(leading) => leading.status(member),
            Role::Learning(learning) => learning.status(),
        };
        core.shared.status_board.publish(role, member.epochs.current, member.memberships.committed.clone());
    }
}

fn is_serving(core: &Core) -> bool {
    core.serving() != Serving::Nobody
}

fn observer_delay_ms(member: &Member) -> i64 {
    let longest_ms = member.settings.observer_election_delay_ms;
    let spread = member.settings.me.0.unsigned_abs().wrapping_mul(7919) as i64;
    if longest_ms > 0 { (spread % longest_ms).max(0) } else { 0 }
}

/// Nobody is served, so the client's connection is cut or gone, and nobody waits for an answer.
fn turn_away(core: &mut Core, input: ClientInput) {
    match input {
        ClientInput::Write(write) => core.leave(&write),
        ClientInput::Read { connection, .. } => core.shared.settle(&connection),
        ClientInput::Disconnected { connection } => core.detach(&connection),
    }
}
