//! What each patron does with its recipe.

use rookeeper_proto::SessionId;
use rookeeper_proto::random::Random;
use rookeeper_recipes::CounterLayout;
use rookeeper_recipes::ask::{Ask, News, Recipe as _, Reply, Step};
use rookeeper_recipes::count::{Change, Counted, Counting};
use rookeeper_recipes::queue::{Places, Pushed, Pusher, QueueLayout, Settle, Settled, Taken, Takes};
use rookeeper_recipes::rendezvous::{Member, Passage};

use super::groups::{Attender, Follower};
use super::holders::Holder;
use super::ledger::{ITEMS, Ledger, Phase};
use super::{PATRONS, Recipe};
use crate::checkers::model::Model;
use crate::faults::Sabotage;

pub(super) const ROOT: &str = "/r";

/// When and for whom something happens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment<'a> {
    pub(super) now_us: i64,
    pub(super) number: usize,
    pub(super) timeout_ms: i32,
    pub(super) healed: bool,
    /// The client acts by itself, and not because an answer came.
    pub(super) is_awake: bool,
    pub(super) sabotage: Option<Sabotage>,
    /// What the tree was, and is.
    pub(super) model: &'a Model,
}

pub(super) enum Next {
    Ask(Ask),
    Again,
    /// There is something to wait for.
    Rest,
}

/// What one patron does.
#[derive(Debug)]
pub(super) enum Job {
    Hold(Box<Holder>),
    Attend(Box<Attender>),
    Follow(Box<Follower>),
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

fn queue() -> Places {
    Places::new(ROOT, QueueLayout::Segments)
}

impl Job {
    pub(super) fn new(recipe: Recipe, number: usize, session: SessionId, ledger: &mut Ledger) -> Job {
        if recipe.stands_in_line() {
            return Job::Hold(Box::new(Holder::new(recipe, ledger)));
        }
        let id = ledger.id();
        match recipe {
            Recipe::Group if number + 1 < PATRONS => Job::Attend(Box::new(Attender::new(number, id, session))),
            Recipe::Group => Job::Follow(Box::default()),
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
            _ => {
                let counting = Counting::new(ROOT, &format!("c{id}"), CounterLayout::Long, 0);
                Job::Count { counting: Box::new(counting), amount: None }
            }
        }
    }

    /// The session is over.
    pub(super) fn begin_anew(&mut self, number: usize, session: SessionId, ledger: &mut Ledger) {
        let recipe = match self {
            Job::Hold(holder) => holder.recipe,
            Job::Attend(_) | Job::Follow(_) => Recipe::Group,
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
        ledger.gives_up(number);
        *self = Job::new(recipe, number, session, ledger);
    }

    pub(super) fn notice(&mut self, path: &str) {
        match self {
            Job::Hold(holder) => holder.notice(),
            Job::Attend(attender) => attender.notice(),
            Job::Follow(_) => {}
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

    pub(super) fn hear(&mut self, news: &News, sabotage: Option<Sabotage>) {
        if let Job::Follow(follower) = self {
            follower.hear(news, sabotage);
        }
    }

    pub(super) fn is_content(&self, ledger: &Ledger) -> bool {
        match self {
            Job::Hold(_) | Job::Attend(_) | Job::Meet { .. } | Job::Count { .. } => ledger.all_reached(),
            Job::Follow(follower) => ledger.all_reached() && follower.is_right(),
            Job::Push { batch, .. } => batch.is_empty() && ledger.next_item == ITEMS,
            Job::Take { held, settling, .. } => held.is_none() && settling.is_none() && ledger.is_worked_off(),
        }
    }

    pub(super) fn told(&mut self, reply: Reply, now_us: i64, sabotage: Option<Sabotage>) -> Result<(), String> {
        match self {
            Job::Hold(holder) => holder.told(reply, now_us),
            Job::Attend(attender) => attender.told(reply, sabotage),
            Job::Follow(follower) => follower.told(reply),
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

    pub(super) fn next(
        &mut self,
        ledger: &mut Ledger,
        random: &mut Random,
        moment: Moment<'_>,
    ) -> Result<Next, String> {
        let rests = self.is_content(ledger) && moment.healed;
        match self {
            Job::Hold(holder) => holder.next(ledger, random, moment, rests),
            Job::Attend(attender) => attender.next(ledger, random, moment, rests),
            Job::Follow(follower) => follower.next(ledger, moment),
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
