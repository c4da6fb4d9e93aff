//! What each patron does with its recipe, and the ledger of what came of it.
//!
//! What must hold: two leases of one lock never overlap, and later holders have greater tokens; an item that is acknowledged is given to nobody again, no
//! item is lost, none is in twice; nobody is through a meeting before so many were there at once; every change of a number is made once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rookeeper_proto::random::Random;
use rookeeper_recipes::CounterLayout;
use rookeeper_recipes::ask::{Ask, Kind, Recipe as _, Refusal, Reply, Step};
use rookeeper_recipes::count::{Change, Counted, Counting};
use rookeeper_recipes::lease::{Lease, Verdict};
use rookeeper_recipes::place::{self, Answer, Place, Rule};
use rookeeper_recipes::queue::{Places, Pushed, Pusher, QueueLayout, Settle, Settled, Taken, Takes};
use rookeeper_recipes::rendezvous::{Member, Passage};

use super::{PATRONS, Recipe};
use crate::faults::Sabotage;

const ROOT: &str = "/r";
const LOCK: &[&str] = &["lock-"];
/// Items of a life, in all.
const ITEMS: u64 = 60;
/// What each patron is to do after everything is healed.
const GOAL: u32 = 1;

/// When and for whom something happens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) now_us: i64,
    pub(super) number: usize,
    pub(super) timeout_ms: i32,
    pub(super) healed: bool,
    /// The client acts by itself, and not because an answer came.
    pub(super) is_awake: bool,
    pub(super) sabotage: Option<Sabotage>,
}

pub(super) enum Next {
    Ask(Ask),
    Again,
    /// There is something to wait for.
    Rest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Away,
    Entering { was_full: bool },
    Inside,
    Leaving,
}

/// What came of it all, as one who sees everything knows it.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    ids: u64,
    goals: BTreeMap<usize, u32>,
    // Locks.
    greatest: i64,
    leases: BTreeMap<usize, Lease>,
    // Queues.
    next_item: u64,
    pushed: BTreeSet<u64>,
    pushed_in_doubt: BTreeSet<u64>,
    given: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
    half_acknowledged: BTreeSet<u64>,
    // Meetings.
    phases: BTreeMap<usize, Phase>,
    // Counters.
    sum: i64,
    in_doubt: Vec<i64>,
    value: Option<i64>,
    counts: u64,
}

impl Ledger {
    fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    fn reached(&mut self, moment: Moment) {
        if moment.healed {
            *self.goals.entry(moment.number).or_default() += 1;
        }
    }

    fn all_reached(&self) -> bool {
        (0..PATRONS).all(|number| self.goals.get(&number).is_some_and(|goals| *goals >= GOAL))
    }

    fn is_worked_off(&self) -> bool {
        let is_done = |item: &u64| self.acknowledged.contains(item) || self.half_acknowledged.contains(item);
        self.next_item == ITEMS && self.pushed.iter().all(is_done)
    }

    /// A lease begins.
    fn holds(&mut self, number: usize, token: i64, lease: Lease, now_ns: u64, is_first: bool) -> Result<(), String> {
        for (other, lease) in &self.leases {
            if *other != number && lease.judge(now_ns) != Verdict::End {
                return Err(format!("lock: patrons {other} and {number} hold at once, {lease:?} at {now_ns}"));
            }
        }
        if is_first && token <= self.greatest {
            return Err(format!("lock: token {token} after {}", self.greatest));
        }
        self.greatest = self.greatest.max(token);
        self.leases.insert(number, lease);
        Ok(())
    }

    fn enters(&mut self, number: usize) {
        let open = |phase: &Phase| matches!(phase, Phase::Entering { was_full: true } | Phase::Inside | Phase::Leaving);
        let was_full = self.phases.iter().any(|(other, phase)| *other != number && open(phase));
        self.phases.insert(number, Phase::Entering { was_full });
        // The node of one that leaves may still be there.
        if self.phases.values().filter(|phase| **phase != Phase::Away).count() >= PATRONS {
            for phase in self.phases.values_mut() {
                if let Phase::Entering { was_full } = phase {
                    *was_full = true;
                }
            }
        }
    }

    /// The end: what was done, for the figures.
    pub(super) fn judge(&self) -> Result<Vec<&'static str>, String> {
        let is_done = |item: &&u64| !self.acknowledged.contains(*item) && !self.half_acknowledged.contains(*item);
        let lost: Vec<&u64> = self.pushed.iter().filter(is_done).collect();
        if !lost.is_empty() {
            return Err(format!("queue: items are lost: {lost:?}"));
        }
        if let Some(value) = self.value {
            let possible = self.in_doubt.iter().fold(BTreeSet::from([self.sum]), |sums, amount| {
                sums.iter().flat_map(|sum| [*sum, sum + amount]).collect()
            });
            if !possible.contains(&value) {
                return Err(format!("counter: {value} is not {} with some of {:?}", self.sum, self.in_doubt));
            }
        }
        let mut what = Vec::new();
        if self.greatest > 0 {
            what.push("lives with locks");
        }
        if !self.acknowledged.is_empty() {
            what.push("lives with queues");
        }
        if !self.phases.is_empty() {
            what.push("lives with meetings");
        }
        if self.counts > 0 {
            what.push("lives with counters");
        }
        Ok(what)
    }
}

/// What one patron does.
#[derive(Debug)]
pub(super) enum Job {
    Lock(Box<Holder>),
    Push {
        pusher: Box<Pusher>,
        batch: Vec<u64>,
    },
    Take {
        takes: Box<Takes>,
        held: Option<(u64, Taken)>,
        settling: Option<(u64, Taken, bool, Box<Settle>)>,
        has_fired: bool,
    },
    Meet {
        member: Box<Member>,
        has_fired: bool,
    },
    Count {
        counting: Box<Counting>,
        amount: Option<i64>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    None,
    Syncing { sent_us: i64 },
    Looking { sent_us: i64 },
}

/// A place in a line, and the proofs of whoever holds it.
#[derive(Debug)]
pub(super) struct Holder {
    place: Place,
    step: Option<place::Step>,
    has_fired: bool,
    token: Option<i64>,
    proof: Proof,
    /// A proof that came, to be judged.
    proved: Option<(i64, i64)>,
    is_first: bool,
    is_lost: bool,
}

fn queue() -> Places {
    Places::new(ROOT, QueueLayout::Segments)
}

impl Job {
    pub(super) fn new(recipe: Recipe, number: usize, ledger: &mut Ledger) -> Job {
        let id = ledger.id();
        match recipe {
            Recipe::Lock => Job::Lock(Box::new(Holder::new(id))),
            Recipe::Queue if number < 2 => {
                Job::Push { pusher: Box::new(Pusher::new(queue(), format!("p{id}"), None)), batch: Vec::new() }
            }
            Recipe::Queue => Job::Take {
                takes: Box::new(Takes::new(queue(), format!("t{id}"))),
                held: None,
                settling: None,
                has_fired: false,
            },
            Recipe::Meeting => {
                ledger.phases.insert(number, Phase::Away);
                Job::Meet { member: Box::new(meeting(id, PATRONS)), has_fired: false }
            }
            Recipe::Counter => {
                let counting = Counting::new(ROOT, &format!("c{id}"), CounterLayout::Long, 0);
                Job::Count { counting: Box::new(counting), amount: None }
            }
        }
    }

    /// The session is over.
    pub(super) fn begin_anew(&mut self, number: usize, ledger: &mut Ledger) {
        let recipe = match self {
            Job::Lock(_) => Recipe::Lock,
            Job::Push { batch, .. } => {
                ledger.pushed_in_doubt.extend(batch.drain(..));
                Recipe::Queue
            }
            Job::Take { settling, .. } => {
                if let Some((item, _, true, _)) = settling.take() {
                    ledger.half_acknowledged.insert(item);
                }
                Recipe::Queue
            }
            Job::Meet { .. } => Recipe::Meeting,
            Job::Count { amount, .. } => {
                ledger.in_doubt.extend(amount.take());
                Recipe::Counter
            }
        };
        ledger.leases.remove(&number);
        *self = Job::new(recipe, number, ledger);
    }

    pub(super) fn notice(&mut self, path: &str) {
        match self {
            Job::Lock(holder) => holder.has_fired = true,
            Job::Push { pusher, .. } => pusher.notice(path),
            Job::Take { takes, has_fired, .. } => {
                *has_fired = true;
                takes.notice(path);
            }
            Job::Meet { member, has_fired } => {
                *has_fired = true;
                member.notice(path);
            }
            Job::Count { counting, .. } => counting.notice(path),
        }
    }

    pub(super) fn is_content(&self, ledger: &Ledger) -> bool {
        match self {
            Job::Lock(_) | Job::Meet { .. } | Job::Count { .. } => ledger.all_reached(),
            Job::Push { batch, .. } => batch.is_empty() && ledger.next_item == ITEMS,
            Job::Take { held, settling, .. } => held.is_none() && settling.is_none() && ledger.is_worked_off(),
        }
    }

    pub(super) fn told(&mut self, reply: Reply, now_us: i64) -> Result<(), String> {
        match self {
            Job::Lock(holder) => holder.told(reply, now_us),
            Job::Push { pusher, .. } => pusher.handle(reply),
            Job::Take { takes, settling, .. } => match settling {
                Some((.., settle)) => settle.handle(reply),
                None => takes.handle(reply),
            },
            Job::Meet { member, .. } => member.handle(reply),
            Job::Count { counting, .. } => counting.handle(reply),
        }
        Ok(())
    }

    pub(super) fn next(&mut self, ledger: &mut Ledger, random: &mut Random, moment: Moment) -> Result<Next, String> {
        let rests = self.is_content(ledger) && moment.healed;
        match self {
            Job::Lock(holder) => holder.next(ledger, random, moment, rests),
            Job::Push { pusher, batch } => {
                // Given up, now and then, and another begun.
                let gives_up = !moment.healed && moment.is_awake && random.one_in(30);
                if batch.is_empty() && !(moment.is_awake && random.one_in(2)) {
                    // Not all at once, so that faults meet pushes.
                    return Ok(Next::Rest);
                }
                if batch.is_empty() || gives_up {
                    // Some are left for the time after the faults.
                    let last = if moment.healed { ITEMS } else { ITEMS * 3 / 4 };
                    if ledger.next_item >= last {
                        if batch.is_empty() {
                            return Ok(Next::Rest);
                        }
                    } else {
                        let count = (1 + random.below(3)).min(last - ledger.next_item);
                        let items: Vec<u64> = (ledger.next_item..ledger.next_item + count).collect();
                        ledger.next_item += count;
                        let prefix = queue().prefix(None, None).map_err(|error| error.to_string())?;
                        pusher.begin(
                            items.iter().map(|item| (prefix.clone(), item.to_string().into_bytes())).collect(),
                            true,
                        );
                        ledger.pushed_in_doubt.extend(std::mem::replace(batch, items));
                    }
                }
                match pusher.step(0) {
                    Step::Ask(ask) => Ok(Next::Ask(ask)),
                    Step::Done(Pushed::Done) => {
                        ledger.pushed.extend(batch.drain(..));
                        Ok(Next::Again)
                    }
                    Step::Done(Pushed::Full) => Err("queue: there is no limit".to_owned()),
                }
            }
            Job::Take { takes, held, settling, has_fired } => {
                if let Some((item, taken, acknowledges, settle)) = settling {
                    return match settle.step(0) {
                        Step::Ask(ask) => {
                            // Dropped, now and then: given back, or acknowledged.
                            Ok(Next::Ask(ask))
                        }
                        Step::Done(Settled::Done) => {
                            if *acknowledges && !ledger.acknowledged.insert(*item) {
                                return Err(format!("queue: item {item} is acknowledged twice"));
                            }
                            takes.settled(taken, *acknowledges);
                            *settling = None;
                            Ok(Next::Again)
                        }
                        Step::Done(Settled::NotHeld) => Err(format!("queue: item {item} has another taker")),
                    };
                }
                if let Some((item, taken)) = held.take() {
                    if !moment.is_awake || random.one_in(3) {
                        *held = Some((item, taken));
                        return Ok(Next::Rest);
                    }
                    let acknowledges = moment.healed || !random.one_in(4);
                    let settle = Box::new(takes.settle(&taken, acknowledges));
                    *settling = Some((item, taken, acknowledges, settle));
                    return Ok(Next::Again);
                }
                match takes.step(0) {
                    Step::Ask(Ask::Wait { .. }) if !*has_fired => Ok(Next::Rest),
                    Step::Ask(Ask::Wait { .. }) => {
                        *has_fired = false;
                        takes.handle(Reply::Waited);
                        Ok(Next::Again)
                    }
                    Step::Ask(ask) => Ok(Next::Ask(ask)),
                    Step::Done(None) => Err("queue: the taker waits".to_owned()),
                    Step::Done(Some(taken)) => {
                        let text = String::from_utf8_lossy(&taken.data).into_owned();
                        let item = text.parse::<u64>().map_err(|_| format!("queue: {text:?} was never pushed"))?;
                        if ledger.acknowledged.contains(&item) {
                            return Err(format!("queue: item {item} is given after its acknowledgement"));
                        }
                        ledger.given.insert(item);
                        *held = Some((item, taken));
                        Ok(Next::Rest)
                    }
                }
            }
            Job::Meet { member, has_fired } => {
                let phase = ledger.phases.get(&moment.number).copied().unwrap_or(Phase::Away);
                match phase {
                    Phase::Away if rests => return Ok(Next::Rest),
                    Phase::Away => {
                        let id = ledger.id();
                        // A planted bug: the member counts itself twice.
                        let missing = usize::from(moment.sabotage == Some(Sabotage::CountsItselfTwice));
                        **member = meeting(id, PATRONS - missing);
                        ledger.enters(moment.number);
                    }
                    Phase::Inside if !moment.is_awake => return Ok(Next::Rest),
                    Phase::Inside => {
                        member.leave(true);
                        ledger.phases.insert(moment.number, Phase::Leaving);
                    }
                    Phase::Entering { .. } if moment.is_awake && !moment.healed && random.one_in(40) => {
                        member.leave(false);
                        ledger.phases.insert(moment.number, Phase::Leaving);
                    }
                    Phase::Entering { .. } if rests => {
                        member.leave(false);
                        ledger.phases.insert(moment.number, Phase::Leaving);
                    }
                    Phase::Entering { .. } | Phase::Leaving => {}
                }
                match member.step(0) {
                    Step::Ask(Ask::Wait { .. }) if !*has_fired => Ok(Next::Rest),
                    Step::Ask(Ask::Wait { .. }) => {
                        *has_fired = false;
                        member.handle(Reply::Waited);
                        Ok(Next::Again)
                    }
                    Step::Ask(ask) => {
                        // A watch that is set now must fire after this.
                        *has_fired &= !matches!(ask, Ask::Exists { watch: true, .. });
                        Ok(Next::Ask(ask))
                    }
                    Step::Done(Passage::Entered) => {
                        let was_full = ledger.phases.get(&moment.number) == Some(&Phase::Entering { was_full: true });
                        if !was_full {
                            return Err(format!(
                                "meeting: patron {} is through too early: {:?}",
                                moment.number, ledger.phases
                            ));
                        }
                        ledger.phases.insert(moment.number, Phase::Inside);
                        ledger.reached(moment);
                        Ok(Next::Rest)
                    }
                    Step::Done(Passage::Left) => {
                        ledger.phases.insert(moment.number, Phase::Away);
                        Ok(Next::Rest)
                    }
                }
            }
            Job::Count { counting, amount } => {
                if amount.is_none() {
                    if rests {
                        return Ok(Next::Rest);
                    }
                    let next = random.between(1, 9);
                    counting.begin(Change::Add(next));
                    *amount = Some(next);
                }
                match counting.step(0) {
                    Step::Ask(ask) => Ok(Next::Ask(ask)),
                    Step::Done(Counted::Done(value)) => {
                        ledger.sum += amount.take().unwrap_or_default();
                        ledger.value = ledger.value.max(Some(value));
                        ledger.counts += 1;
                        ledger.reached(moment);
                        Ok(Next::Rest)
                    }
                    Step::Done(outcome) => Err(format!("counter: {outcome:?}")),
                }
            }
        }
    }
}

fn meeting(id: u64, count: usize) -> Member {
    Member::new(ROOT, &format!("m{id}"), Vec::new(), count)
}

impl Holder {
    fn new(id: u64) -> Holder {
        let place = Place::new(ROOT, format!("_c_{id}-lock-"), Vec::new(), Rule::NobodyBefore(LOCK));
        Holder {
            place,
            step: None,
            has_fired: false,
            token: None,
            proof: Proof::None,
            proved: None,
            is_first: true,
            is_lost: false,
        }
    }

    fn told(&mut self, reply: Reply, now_us: i64) {
        match (self.proof, &reply) {
            (Proof::Syncing { sent_us }, Reply::Done) => self.proof = Proof::Looking { sent_us },
            (Proof::Looking { sent_us }, Reply::Facts(facts)) if Some(facts.czxid) == self.token => {
                (self.proof, self.proved) = (Proof::None, Some((sent_us, now_us)));
            }
            (Proof::Looking { .. }, Reply::Facts(_) | Reply::Refused(_)) => self.is_lost = true,
            (Proof::Syncing { .. } | Proof::Looking { .. }, _) => self.proof = Proof::None,
            (Proof::None, _) => {
                let Some(step) = self.step.take() else { return };
                self.place.handle(answer(&step, reply));
            }
        }
    }

    fn next(&mut self, ledger: &mut Ledger, random: &mut Random, moment: Moment, rests: bool) -> Result<Next, String> {
        let now_ns = moment.now_us as u64 * 1_000;
        let timeout = Duration::from_millis(moment.timeout_ms as u64);
        let Some(token) = self.token else {
            // Given up at any moment, now and then.
            if moment.is_awake && !moment.healed && random.one_in(40) {
                self.place.leave();
            }
            let step = self.place.step();
            return Ok(match step {
                place::Step::Hold(holding) => {
                    (self.token, self.proof, self.is_first) = (Some(holding.czxid), Proof::None, true);
                    Next::Again
                }
                place::Step::Gone => {
                    if rests {
                        return Ok(Next::Rest);
                    }
                    *self = Holder::new(ledger.id());
                    Next::Again
                }
                place::Step::Wait if !std::mem::take(&mut self.has_fired) => Next::Rest,
                place::Step::Wait => {
                    self.place.handle(Answer::Changed);
                    Next::Again
                }
                step => {
                    let ask = ask(&step);
                    if matches!(ask, Ask::Get { watch: true, .. }) {
                        self.has_fired = false;
                    }
                    self.step = Some(step);
                    Next::Ask(ask)
                }
            });
        };
        if let Some((sent_us, answered_us)) = self.proved.take() {
            // A planted bug: the session may have ended since the question was sent.
            let from_us = if moment.sabotage == Some(Sabotage::ProvesFromTheAnswer) {
                answered_us.max(moment.now_us)
            } else {
                sent_us
            };
            let lease = Lease::proved(from_us as u64 * 1_000, timeout);
            if lease.judge(now_ns) == Verdict::Holds {
                ledger.holds(moment.number, token, lease, now_ns, std::mem::take(&mut self.is_first))?;
            } else {
                self.is_lost = true;
            }
        }
        let has_time = ledger.leases.get(&moment.number).is_some_and(|lease| lease.judge(now_ns) == Verdict::Holds);
        let is_done = has_time && moment.is_awake && random.one_in(3);
        let is_over = self.is_lost || (!has_time && !self.is_first);
        if is_done || is_over {
            if is_done {
                ledger.reached(moment);
            }
            ledger.leases.remove(&moment.number);
            (self.token, self.proof, self.is_lost, self.proved) = (None, Proof::None, false, None);
            self.place.leave();
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
                place::Step::Hold(holding) => Next::Ask(Ask::Exists { path: holding.path, watch: false }),
                step => return Err(format!("lock: a holder wants {step:?}")),
            },
        })
    }
}

fn ask(step: &place::Step) -> Ask {
    match step.clone() {
        place::Step::MakeParent { path } => Ask::MakePath { path },
        place::Step::Create { prefix, data } => Ask::Create { path: prefix, data, kind: Kind::EphemeralSequential },
        place::Step::Sync { path } => Ask::Sync { path },
        place::Step::List { path } => Ask::Children { path, watch: false },
        place::Step::ListAndWatch { path } => Ask::Children { path, watch: true },
        place::Step::Stat { path } => Ask::Exists { path, watch: false },
        place::Step::Watch { path } => Ask::Get { path, watch: true },
        place::Step::Delete { path } => Ask::Delete { path },
        place::Step::Wait | place::Step::Hold(_) | place::Step::Gone => unreachable!("these are no requests"),
    }
}

fn answer(step: &place::Step, reply: Reply) -> Answer {
    match (step, reply) {
        (_, Reply::Unknown) => Answer::Unknown,
        // Made by another.
        (place::Step::MakeParent { .. }, _) => Answer::Done,
        (_, Reply::Created { path, czxid }) => {
            Answer::Created { name: path.rsplit('/').next().unwrap_or_default().to_owned(), czxid }
        }
        (_, Reply::Names(names)) => Answer::Names(names),
        (place::Step::Stat { .. }, Reply::Facts(facts)) => Answer::Czxid(facts.czxid),
        (_, Reply::Refused(Refusal::NoNode)) => Answer::NoNode,
        (_, Reply::Refused(_)) => Answer::Unknown,
        _ => Answer::Done,
    }
}
