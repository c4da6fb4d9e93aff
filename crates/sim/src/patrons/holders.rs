//! Whoever stands in lines: holders of locks, leaders, readers and writers, and those who lease from a semaphore. All of them prove that they hold, and
//! act on leases.
//!
//! What always holds here: a holder acts only while the lease of a proof runs, and gives up when it is over.

use std::time::Duration;

use rookeeper_proto::random::Random;
use rookeeper_recipes::ask::{Ask, Kind, Refusal, Reply};
use rookeeper_recipes::lease::{Lease, Verdict};
use rookeeper_recipes::place::{Answer, Place, Rule, Step};

use super::Recipe;
use super::jobs::{Moment, Next, ROOT};
use super::ledger::{Hold, Ledger, Share};
use crate::faults::Sabotage;

/// Leases of a semaphore.
const LEASES: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    None,
    Syncing { sent_us: i64 },
    Looking { sent_us: i64 },
}

/// A place in a line, and the proofs of whoever holds it.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) recipe: Recipe,
    share: Share,
    /// Of a semaphore: the place in the line of those who want a lease. The holder of that place alone may stand in the line of leases, and leaves
    /// this one when it has a lease.
    turn: Option<Place>,
    is_at_turn: bool,
    place: Place,
    step: Option<Step>,
    has_fired: bool,
    token: Option<i64>,
    proof: Proof,
    /// A proof that came, to be judged: when it was asked for, and when it came.
    proved: Option<(i64, i64)>,
    is_first: bool,
    is_lost: bool,
}

impl Holder {
    /// Of readers and writers every third is a writer.
    pub(super) fn new(recipe: Recipe, ledger: &mut Ledger) -> Holder {
        let (id, bug) = (ledger.id(), ledger.sabotage);
        // Planted bugs: a reader that looks for nobody, and one lease more than there are.
        let before_reader: &[&str] = if bug == Some(Sabotage::ReadsBesideWriters) { &[] } else { &["__WRIT__"] };
        let leases = LEASES + usize::from(bug == Some(Sabotage::LeasesOneTooMany));
        let (share, parent, marker, rule) = match recipe {
            Recipe::Election => (Share::Alone, ROOT.to_owned(), "latch-", Rule::NobodyBefore(&["latch-"])),
            Recipe::ReadWrite if id.is_multiple_of(3) => {
                (Share::Alone, ROOT.to_owned(), "__WRIT__", Rule::NobodyBefore(&["__WRIT__", "__READ__"]))
            }
            Recipe::ReadWrite => (Share::Shared, ROOT.to_owned(), "__READ__", Rule::NobodyBefore(before_reader)),
            Recipe::Semaphore => (Share::OneOf(LEASES), format!("{ROOT}/leases"), "lease-", Rule::AtMost(leases)),
            _ => (Share::Alone, ROOT.to_owned(), "lock-", Rule::NobodyBefore(&["lock-"])),
        };
        let place =
            |parent: &str, marker: &str, rule| Place::new(parent, format!("_c_{id}-{marker}"), Vec::new(), rule);
        let turns = || place(&format!("{ROOT}/locks"), "lock-", Rule::NobodyBefore(&["lock-"]));
        let has_turns = recipe == Recipe::Semaphore;
        Holder {
            recipe,
            share,
            turn: has_turns.then(turns),
            is_at_turn: has_turns,
            place: place(&parent, marker, rule),
            step: None,
            has_fired: false,
            token: None,
            proof: Proof::None,
            proved: None,
            is_first: true,
            is_lost: false,
        }
    }

    fn name(&self) -> &'static str {
        match self.recipe {
            Recipe::Election => "election",
            Recipe::ReadWrite => "read-write lock",
            Recipe::Semaphore => "semaphore",
            _ => "lock",
        }
    }

    /// The place that something is asked for now.
    fn current(&mut self) -> &mut Place {
        match &mut self.turn {
            Some(turn) if self.is_at_turn => turn,
            _ => &mut self.place,
        }
    }

    /// Gives everything up, what was come to last first.
    fn leave(&mut self) {
        self.place.leave();
        self.turn.iter_mut().for_each(Place::leave);
        self.is_at_turn = false;
    }

    pub(super) fn notice(&mut self) {
        self.has_fired = true;
    }

    pub(super) fn told(&mut self, reply: Reply, now_us: i64) {
        match (self.proof, &reply) {
            (Proof::Syncing { sent_us }, Reply::Done) => self.proof = Proof::Looking { sent_us },
            (Proof::Looking { sent_us }, Reply::Facts(facts)) if Some(facts.czxid) == self.token => {
                (self.proof, self.proved) = (Proof::None, Some((sent_us, now_us)));
            }
            (Proof::Looking { .. }, Reply::Facts(_) | Reply::Refused(_)) => self.is_lost = true,
            (Proof::Syncing { .. } | Proof::Looking { .. }, _) => self.proof = Proof::None,
            (Proof::None, _) => {
                let Some(step) = self.step.take() else { return };
                self.current().handle(answer(&step, reply));
            }
        }
    }

    pub(super) fn next(
        &mut self,
        ledger: &mut Ledger,
        random: &mut Random,
        moment: Moment<'_>,
        rests: bool,
    ) -> Result<Next, String> {
        match self.token {
            Some(token) => self.hold(token, ledger, random, moment),
            None => Ok(self.stand(ledger, random, moment, rests)),
        }
    }

    /// Until it holds, or until everything is given up.
    fn stand(&mut self, ledger: &mut Ledger, random: &mut Random, moment: Moment<'_>, rests: bool) -> Next {
        // Given up at any moment, now and then.
        if moment.is_awake && !moment.healed && random.one_in(40) {
            self.leave();
        }
        match self.current().step() {
            Step::Hold(_) if self.is_at_turn => self.is_at_turn = false,
            // The turn is passed on first.
            Step::Hold(_) if self.turn.is_some() => {
                self.turn.iter_mut().for_each(Place::leave);
                self.is_at_turn = true;
            }
            Step::Hold(holding) => {
                (self.token, self.proof, self.is_first) = (Some(holding.czxid), Proof::None, true);
                if moment.sabotage == Some(Sabotage::LeadsUnproved) {
                    // A planted bug: the line says so, which a server that is behind may show.
                    self.proved = Some((moment.now_us, moment.now_us));
                }
            }
            Step::Gone if self.is_at_turn => (self.turn, self.is_at_turn) = (None, false),
            Step::Gone if self.turn.is_some() => self.is_at_turn = true,
            Step::Gone if rests => return Next::Rest,
            Step::Gone => *self = Holder::new(self.recipe, ledger),
            Step::Wait if !std::mem::take(&mut self.has_fired) => return Next::Rest,
            Step::Wait => self.current().handle(Answer::Changed),
            step => {
                let ask = ask(&step);
                if matches!(ask, Ask::Get { watch: true, .. } | Ask::Children { watch: true, .. }) {
                    self.has_fired = false;
                }
                self.step = Some(step);
                return Next::Ask(ask);
            }
        }
        Next::Again
    }

    /// Until it is done, or can't prove any more that it holds.
    fn hold(
        &mut self,
        token: i64,
        ledger: &mut Ledger,
        random: &mut Random,
        moment: Moment<'_>,
    ) -> Result<Next, String> {
        let now_ns = moment.now_us as u64 * 1_000;
        let timeout = Duration::from_millis(moment.timeout_ms as u64);
        if let Some((sent_us, answered_us)) = self.proved.take() {
            // A planted bug: the session may have ended since the question was sent.
            let from_us = if moment.sabotage == Some(Sabotage::ProvesFromTheAnswer) {
                answered_us.max(moment.now_us)
            } else {
                sent_us
            };
            let lease = Lease::proved(from_us as u64 * 1_000, timeout);
            if lease.judge(now_ns) == Verdict::Holds {
                let hold = Hold { token, share: self.share, lease };
                ledger.holds((self.name(), moment.number), hold, now_ns, std::mem::take(&mut self.is_first))?;
            } else {
                self.is_lost = true;
            }
        }
        let has_time = ledger.may_act(moment.number, now_ns);
        let is_done = has_time && moment.is_awake && random.one_in(3);
        let is_over = self.is_lost || (!has_time && !self.is_first);
        if is_done || is_over {
            if is_done {
                ledger.reached(moment);
            }
            ledger.gives_up(moment.number);
            (self.token, self.proof, self.is_lost, self.proved) = (None, Proof::None, false, None);
            self.leave();
            return Ok(Next::Again);
        }
        Ok(match self.proof {
            Proof::None if !self.is_first && !moment.is_awake => Next::Rest,
            Proof::None => {
                self.proof = Proof::Syncing { sent_us: moment.now_us };
                Next::Ask(Ask::Sync { path: ROOT.to_owned() })
            }
            Proof::Syncing { .. } => Next::Ask(Ask::Sync { path: ROOT.to_owned() }),
            Proof::Looking { .. } => match self.place.step() {
                Step::Hold(holding) => Next::Ask(Ask::Exists { path: holding.path, watch: false }),
                step => return Err(format!("{}: a holder wants {step:?}", self.name())),
            },
        })
    }
}

fn ask(step: &Step) -> Ask {
    match step.clone() {
        Step::MakeParent { path } => Ask::MakePath { path },
        Step::Create { prefix, data } => Ask::Create { path: prefix, data, kind: Kind::EphemeralSequential },
        Step::Sync { path } => Ask::Sync { path },
        Step::List { path } => Ask::Children { path, watch: false },
        Step::ListAndWatch { path } => Ask::Children { path, watch: true },
        Step::Stat { path } => Ask::Exists { path, watch: false },
        Step::Watch { path } => Ask::Get { path, watch: true },
        Step::Delete { path } => Ask::Delete { path },
        Step::Wait | Step::Hold(_) | Step::Gone => unreachable!("these are no requests"),
    }
}

fn answer(step: &Step, reply: Reply) -> Answer {
    match (step, reply) {
        (_, Reply::Unknown) => Answer::Unknown,
        // Made by another.
        (Step::MakeParent { .. }, _) => Answer::Done,
        (_, Reply::Created { path, czxid }) => {
            Answer::Created { name: path.rsplit('/').next().unwrap_or_default().to_owned(), czxid }
        }
        (_, Reply::Names(names)) => Answer::Names(names),
        (Step::Stat { .. }, Reply::Facts(facts)) => Answer::Czxid(facts.czxid),
        (_, Reply::Refused(Refusal::NoNode)) => Answer::NoNode,
        (_, Reply::Refused(_)) => Answer::Unknown,
        _ => Answer::Done,
    }
}
