//! The end of a take, without IO: the item is acknowledged, or given back.
//!
//! What always holds: nothing is deleted whose taker is not this one. Where an answer was lost, the taken node is looked at first, behind a `sync`,
//! because the item may have another taker by now.

use crate::ask::{Ask, Op, Recipe, Refusal, Reply, Step};
use crate::name::join;

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// As asked.
    Done,
    /// The item was not ours any more: somebody deleted its taken node.
    NotHeld,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Trying,
    Unsure,
    Looking,
    /// The taken node is not ours: it depends on whether the item is there.
    LookingForItem,
    Settled(Settled),
}

/// One acknowledgement, or one giving back.
#[derive(Debug, Clone)]
pub struct Settle {
    entry: String,
    taken: String,
    /// What the taken node says if this taker made it.
    id: String,
    acknowledges: bool,
    state: State,
}

impl Settle {
    pub(crate) fn new(entries: &str, taken: &str, name: &str, id: &str, acknowledges: bool) -> Settle {
        let (entry, taken) = (join(entries, name), join(taken, name));
        Settle { entry, taken, id: id.to_owned(), acknowledges, state: State::Trying }
    }

    /// Begins with a look, because nobody knows whether the item was taken at all.
    pub(crate) fn unsure(mut self) -> Settle {
        self.state = State::Unsure;
        self
    }
}

impl Recipe for Settle {
    type Outcome = Settled;

    fn step(&mut self, _now_ms: u64) -> Step<Settled> {
        let (entry, taken) = (self.entry.clone(), self.taken.clone());
        Step::Ask(match self.state {
            State::Trying if self.acknowledges => {
                Ask::Multi(vec![Op::Delete { path: entry }, Op::Delete { path: taken }])
            }
            State::Trying => Ask::Delete { path: taken },
            State::Unsure => Ask::Sync { path: taken },
            State::Looking => Ask::Get { path: taken, watch: false },
            State::LookingForItem => Ask::Exists { path: entry, watch: false },
            State::Settled(outcome) => return Step::Done(outcome),
        })
    }

    fn handle(&mut self, reply: Reply) {
        self.state = match (self.state, reply) {
            (State::Trying, Reply::Done | Reply::Made(_)) => State::Settled(Settled::Done),
            (State::Trying, Reply::Unknown | Reply::Failed { .. } | Reply::Refused(_)) => State::Unsure,
            (State::Unsure, Reply::Done) => State::Looking,
            (State::Looking, Reply::Data { data, .. }) if data == self.id.as_bytes() => State::Trying,
            (State::Looking, Reply::Data { .. } | Reply::Refused(Refusal::NoNode)) if self.acknowledges => {
                State::LookingForItem
            }
            (State::Looking, Reply::Data { .. } | Reply::Refused(Refusal::NoNode)) => State::Settled(Settled::Done),
            // Nobody else deletes an item but with its taken node, so the acknowledgement whose answer was lost was ours.
            (State::LookingForItem, Reply::Refused(Refusal::NoNode)) => State::Settled(Settled::Done),
            (State::LookingForItem, Reply::Facts(_)) => State::Settled(Settled::NotHeld),
            (state, Reply::Unknown) => state,
            (state, reply) => panic!("{reply:?} is no answer in the state {state:?}"),
        };
    }
}
