//! The ledger of what came of all that the patrons of a life do, as one who sees everything keeps it.
//!
//! What must hold: two leases that exclude each other never overlap, no more have leases of a semaphore than there are, and later holders have greater
//! tokens; an item that is acknowledged is given to nobody again, no item is lost, none is in twice; nobody is through a meeting before so many were
//! there at once; every change of a number is made once; a member stays until it leaves, or its session ends, and whoever follows a group
//! is told of each join and each leave, in their order.

use std::collections::{BTreeMap, BTreeSet};

use rookeeper_recipes::lease::{Lease, Verdict};

use super::PATRONS;
use super::jobs::Moment;
use crate::faults::Sabotage;

/// Items of a life, in all.
pub(super) const ITEMS: u64 = 60;
/// What each patron is to do after everything is healed.
const GOAL: u32 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Away,
    Entering { was_full: bool },
    Inside,
    Leaving,
}

/// Who may hold at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    Alone,
    /// With others that share.
    Shared,
    /// So many at a time.
    OneOf(usize),
}

/// A hold that is proved, until its lease is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hold {
    pub(super) token: i64,
    pub(super) share: Share,
    pub(super) lease: Lease,
}

/// What came of it all, as one who sees everything knows it.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(super) sabotage: Option<Sabotage>,
    ids: u64,
    goals: BTreeMap<usize, u32>,
    // Whoever stands in lines.
    greatest: i64,
    greatest_alone: i64,
    holds: BTreeMap<usize, Hold>,
    most_at_once: usize,
    // Queues.
    pub(super) next_item: u64,
    pub(super) pushed: BTreeSet<u64>,
    pub(super) pushed_in_doubt: BTreeSet<u64>,
    pub(super) given: BTreeSet<u64>,
    pub(super) acknowledged: BTreeSet<u64>,
    pub(super) half_acknowledged: BTreeSet<u64>,
    // Meetings.
    pub(super) phases: BTreeMap<usize, Phase>,
    // Counters.
    pub(super) sum: i64,
    pub(super) in_doubt: Vec<i64>,
    pub(super) value: Option<i64>,
    pub(super) counts: u64,
    // Groups.
    pub(super) joins: u64,
    pub(super) told: u64,
}

impl Ledger {
    pub(super) fn new(sabotage: Option<Sabotage>) -> Ledger {
        Ledger { sabotage, ..Ledger::default() }
    }

    pub(super) fn id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    pub(super) fn reached(&mut self, moment: Moment<'_>) {
        if moment.healed {
            *self.goals.entry(moment.number).or_default() += 1;
        }
    }

    pub(super) fn all_reached(&self) -> bool {
        (0..PATRONS).all(|number| self.goals.get(&number).is_some_and(|goals| *goals >= GOAL))
    }

    pub(super) fn is_worked_off(&self) -> bool {
        let is_done = |item: &u64| self.acknowledged.contains(item) || self.half_acknowledged.contains(item);
        self.next_item == ITEMS && self.pushed.iter().all(is_done)
    }

    /// A lease begins, or begins anew.
    pub(super) fn holds(
        &mut self,
        (what, number): (&str, usize),
        hold: Hold,
        now_ns: u64,
        is_first: bool,
    ) -> Result<(), String> {
        let is_on = |(other, held): &(&usize, &Hold)| **other != number && held.lease.judge(now_ns) != Verdict::End;
        let others: Vec<(&usize, &Hold)> = self.holds.iter().filter(is_on).collect();
        let may = match hold.share {
            Share::Alone => others.is_empty(),
            Share::Shared => others.iter().all(|(_, held)| held.share != Share::Alone),
            Share::OneOf(count) => others.len() < count,
        };
        if !may {
            return Err(format!("{what}: patron {number} holds with {hold:?} at {now_ns} beside {others:?}"));
        }
        // Whoever waits for all others comes behind all others; whoever waits for those who hold alone comes behind these.
        let before = match hold.share {
            Share::Alone => self.greatest,
            Share::Shared => self.greatest_alone,
            Share::OneOf(_) => 0,
        };
        if is_first && hold.token <= before {
            return Err(format!("{what}: token {} after {before}", hold.token));
        }
        self.greatest = self.greatest.max(hold.token);
        if hold.share == Share::Alone {
            self.greatest_alone = self.greatest_alone.max(hold.token);
        }
        self.most_at_once = self.most_at_once.max(others.len() + 1);
        self.holds.insert(number, hold);
        Ok(())
    }

    /// Whether a patron may act.
    pub(super) fn may_act(&self, number: usize, now_ns: u64) -> bool {
        self.holds.get(&number).is_some_and(|hold| hold.lease.judge(now_ns) == Verdict::Holds)
    }

    pub(super) fn gives_up(&mut self, number: usize) {
        self.holds.remove(&number);
    }

    pub(super) fn enters(&mut self, number: usize) {
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
            what.push("lives with holders");
        }
        if self.most_at_once > 1 {
            what.push("lives with several holders at once");
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
        if self.joins > 0 && self.told > 0 {
            what.push("lives with groups of members");
        }
        Ok(what)
    }
}
