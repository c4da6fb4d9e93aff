//! The server as whoever runs it sees it.

use rookeeper_proto::MonotonicMs;
use std::sync::Arc;

use crate::check::Broken;
use crate::clients::shared::Shared;
use crate::contract::{Epochs, Input, Output};
use crate::core::{ClientRules, Core, Done};
use crate::inputs;
use crate::member::Member;
use crate::settings::EnsembleSettings;
use crate::state::Ensemble;
use crate::state::standalone::Standalone;
use crate::time::{Deadline, Stamp, Time};

/// One server. Takes requests, packets and the disk's answers in, gives out what to write, to send and whom to wake.
///
/// A replica does nothing on its own: it has no thread, no clock and no IO. Whoever runs it calls, in a loop:
///
/// 1. [`Replica::stood_still`], where the process has not run for a while, before anything else is handed in;
/// 2. [`Replica::handle`] for each event that has happened, in the order in which they happened to each sender: first what the disk and
///    other servers say, then clients' requests. Where nothing happened until [`Replica::deadline`], [`Input::Tick`] is the event. Several
///    events may be handed in one after the other: the server's thread hands in up to 256;
/// 3. [`Replica::poll`] until there is nothing more. **Drain before you wait**: nothing of what was handed in is on disk, sent or answered
///    before its outputs are carried out, in the order in which they are polled;
/// 4. [`Replica::deadline`], for how long to wait at most. It may have come already.
///
/// Clients' requests are held back while [`Replica::in_flight`] or [`Replica::deferred_events`] are large, and while [`Replica::holds_requests`];
/// everything else is always taken.
///
/// What always holds: no call waits or takes long; a transaction is applied and answered only after a quorum has it on disk. In debug builds,
/// and in simulations, [`Replica::check`] is called after each event.
#[derive(Debug)]
pub struct Replica {
    core: Core,
    state: State,
}

#[derive(Debug)]
enum State {
    Standalone(Box<Standalone>),
    Ensemble(Box<Ensemble>),
}

impl Replica {
    /// A standalone server, which leads alone. Takes over a recovered tree, whose sessions all have their full timeout ahead of them.
    pub fn new(shared: Arc<Shared>, now: Time) -> Replica {
        // Nobody will ever ask for what is committed.
        let core = Core::new(shared, ClientRules::default(), true, 0);
        let standalone = Standalone::new(&core, now);
        Replica { core, state: State::Standalone(Box::new(standalone)) }
    }

    /// A member of an ensemble, which begins by looking for a leader.
    pub fn member(shared: Arc<Shared>, settings: EnsembleSettings, epochs: Epochs, now: Time) -> Replica {
        let rules = Member::client_rules(&shared.settings, &settings);
        let mut core = Core::new(shared, rules, false, settings.commit_log_count);
        let member = Member::new(settings, epochs, core.history.last(), now);
        let ensemble = Ensemble::new(&mut core, member, now);
        Replica { core, state: State::Ensemble(Box::new(ensemble)) }
    }

    /// Takes one event in. Never blocks.
    pub fn handle(&mut self, now: Time, input: Input) {
        if let Input::Measured(measured) = input {
            self.core.note_room(measured);
        }
        let input = inputs::sort(&self.core, input);
        let core = &mut self.core;
        match &mut self.state {
            State::Standalone(standalone) => standalone.handle(core, now, input),
            State::Ensemble(ensemble) => ensemble.handle(core, now, input),
        }
        core.deliver_deferred();
        core.tallies.tell(&core.shared.statistics);
        if cfg!(debug_assertions)
            && let Err(broken) = self.check()
        {
            panic!("{broken}");
        }
    }

    /// Says what does not hold that must hold after each event: between the history, the tree and what is on its way, and between the role
    /// and who is served. Takes time in proportion to the transactions on their way.
    pub fn check(&self) -> Result<(), Broken> {
        self.core.check()?;
        match &self.state {
            State::Standalone(standalone) => standalone.check(&self.core),
            State::Ensemble(ensemble) => ensemble.check(&self.core),
        }
    }

    /// What was polled is with the log and with other servers since `stamp`. Only measured.
    pub fn note_handed_over(&mut self, stamp: Stamp) {
        self.core.note_handed_over(stamp);
    }

    /// What was done since this was asked last.
    pub fn take_done(&mut self) -> Done {
        std::mem::take(&mut self.core.done)
    }

    /// The next effect. Drain before you wait.
    pub fn poll(&mut self) -> Option<Output> {
        self.core.poll()
    }

    /// When to call [`Replica::handle`] with [`Input::Tick`] if nothing else happens.
    pub fn deadline(&self) -> Deadline {
        if self.core.shared.has_deferred() {
            return Deadline::Now;
        }
        match &self.state {
            State::Standalone(standalone) => standalone.deadline(&self.core),
            State::Ensemble(ensemble) => ensemble.deadline(&self.core),
        }
    }

    /// The process stood still, see [`crate::pulse`]. Call before anything else is handed in.
    pub fn stood_still(&mut self, from_ms: MonotonicMs, to_ms: MonotonicMs) {
        self.core.shared.sessions().stood_still(from_ms, to_ms);
    }

    /// `tickTime` in milliseconds.
    pub fn tick_time_ms(&self) -> i64 {
        self.core.shared.settings.tick_time_ms
    }

    /// Transactions on their way, and requests that wait for a leader.
    pub fn in_flight(&self) -> usize {
        let forwarded = match &self.state {
            State::Standalone(_) => 0,
            State::Ensemble(ensemble) => ensemble.forwarded(),
        };
        self.core.in_flight.len() + forwarded
    }

    /// Whether clients' requests would only wait here until another tree is stored. No further ones should be handed in.
    pub fn holds_requests(&self) -> bool {
        matches!(&self.state, State::Standalone(standalone) if standalone.is_restoring())
    }

    /// Events that still have to reach some of their watchers. With many of them, no further requests should be handed in.
    pub fn deferred_events(&self) -> usize {
        self.core.shared.deferred_events()
    }
}
