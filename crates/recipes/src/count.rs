//! Changes of a shared number, without IO: each is done exactly once, also where an answer is lost.
//!
//! What always holds: whoever changes has a node of its own, whose version grows by each change, in the same transaction. So where an answer was lost the
//! version says whether the change was made.

use std::mem;

use crate::ask::{Ask, Kind, Op, Recipe, Refusal, Reply, Step};
use crate::name::join;

/// How a number is written into its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CounterLayout {
    /// Eight bytes: Apache Curator's `DistributedAtomicLong`.
    #[default]
    Long,
    /// Four bytes: Apache Curator's `SharedCount`, `DistributedAtomicInteger`, and kazoo's `Counter` with `support_curator`.
    Int,
    /// Decimal digits: kazoo's `Counter`.
    Digits,
}

impl CounterLayout {
    pub(crate) fn write(self, value: i64) -> Option<Vec<u8>> {
        match self {
            CounterLayout::Long => Some(value.to_be_bytes().to_vec()),
            CounterLayout::Int => i32::try_from(value).ok().map(|value| value.to_be_bytes().to_vec()),
            CounterLayout::Digits => Some(value.to_string().into_bytes()),
        }
    }

    /// An empty node is 0, as for kazoo.
    pub(crate) fn read(self, data: &[u8]) -> Option<i64> {
        if data.is_empty() {
            return Some(0);
        }
        match self {
            CounterLayout::Long => data.try_into().ok().map(i64::from_be_bytes),
            CounterLayout::Int => data.try_into().ok().map(|data| i64::from(i32::from_be_bytes(data))),
            CounterLayout::Digits => std::str::from_utf8(data).ok()?.parse().ok(),
        }
    }
}

/// What is done with the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Add(i64),
    Set(i64),
    /// Set if it is the first.
    Replace(i64, i64),
    /// One less, but not below 0; at 0 a node is made that says so.
    CountDown,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// The number after the change.
    Done(i64),
    /// It was another number.
    Differs(i64),
    /// The number would not fit.
    TooLarge,
    /// The node holds no number of this layout.
    NoNumber,
}

/// The child that says that a latch is open.
pub(crate) const OPEN: &str = "open";

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Idle,
    Begin,
    MakingParent,
    MakingNumber,
    MakingTicket,
    Reading,
    Changing { value: i64, version: i32 },
    Unsure { value: i64 },
    LookingAtTicket { value: i64 },
    Over(Counted),
}

/// Changes one number for one session, one change after the other.
#[derive(Debug, Clone)]
pub struct Counting {
    path: String,
    id: String,
    layout: CounterLayout,
    /// What the number is where there is none.
    first: i64,
    ticket: Option<i32>,
    change: Change,
    is_given_up: bool,
    state: State,
}

impl Counting {
    pub fn new(path: &str, id: &str, layout: CounterLayout, first: i64) -> Counting {
        Counting {
            path: path.to_owned(),
            id: id.to_owned(),
            layout,
            first,
            ticket: None,
            change: Change::Add(0),
            is_given_up: false,
            state: State::Idle,
        }
    }

    /// Begins a change. What was begun before and is not over is given up: it was made, or never will be.
    pub fn begin(&mut self, change: Change) {
        self.change = change;
        self.state = match mem::replace(&mut self.state, State::Idle) {
            State::Changing { value, .. } | State::Unsure { value } | State::LookingAtTicket { value } => {
                self.is_given_up = true;
                State::Unsure { value }
            }
            _ => State::Begin,
        };
    }

    fn ticket_path(&self) -> String {
        join(&self.path, &self.id)
    }

    fn changed(&self, value: i64, version: i32) -> State {
        let after = match self.change {
            Change::Add(amount) => value.checked_add(amount),
            Change::Set(value) => Some(value),
            Change::Replace(expected, _) if expected != value => return State::Over(Counted::Differs(value)),
            Change::Replace(_, value) => Some(value),
            Change::CountDown if value <= 0 => return State::Over(Counted::Done(0)),
            Change::CountDown => Some(value - 1),
        };
        match after.filter(|after| self.layout.write(*after).is_some()) {
            Some(value) => State::Changing { value, version },
            None => State::Over(Counted::TooLarge),
        }
    }
}

impl Recipe for Counting {
    type Outcome = Counted;

    fn step(&mut self, _now_ms: u64) -> Step<Counted> {
        if self.state == State::Begin {
            self.state = if self.ticket.is_some() { State::Reading } else { State::MakingTicket };
        }
        let path = self.path.clone();
        Step::Ask(match &self.state {
            State::Idle | State::Begin => unreachable!("there is no change"),
            State::MakingParent => {
                let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                Ask::MakePath { path: if parent.is_empty() { "/".to_owned() } else { parent.to_owned() } }
            }
            State::MakingNumber => {
                Ask::Create { path, data: self.layout.write(self.first).unwrap_or_default(), kind: Kind::Persistent }
            }
            State::MakingTicket => Ask::Create { path: self.ticket_path(), data: Vec::new(), kind: Kind::Ephemeral },
            State::Reading => Ask::Get { path, watch: false },
            State::Changing { value, version } => {
                let data = self.layout.write(*value).unwrap_or_default();
                let mut ops = vec![
                    Op::Set { path: self.ticket_path(), data: Vec::new(), version: self.ticket },
                    Op::Set { path: path.clone(), data, version: Some(*version) },
                ];
                if self.change == Change::CountDown && *value == 0 {
                    ops.push(Op::Create { path: join(&path, OPEN), data: Vec::new(), kind: Kind::Persistent });
                }
                Ask::Multi(ops)
            }
            State::Unsure { .. } => Ask::Sync { path },
            State::LookingAtTicket { .. } => Ask::Exists { path: self.ticket_path(), watch: false },
            State::Over(outcome) => {
                let outcome = *outcome;
                self.state = State::Idle;
                return Step::Done(outcome);
            }
        })
    }

    fn handle(&mut self, reply: Reply) {
        self.state = match (mem::replace(&mut self.state, State::Begin), reply) {
            (State::MakingParent, Reply::Unknown) => State::MakingParent,
            (State::MakingParent, _) => State::MakingNumber,
            (State::MakingNumber, Reply::Refused(Refusal::NoNode)) => State::MakingParent,
            // Made, or made by another.
            (State::MakingNumber, Reply::Created { .. } | Reply::Refused(_)) => State::Begin,
            // Nobody else has this name, and it was never set.
            (State::MakingTicket, Reply::Created { .. } | Reply::Refused(Refusal::NodeExists)) => {
                self.ticket = Some(0);
                State::Begin
            }
            (State::MakingTicket, Reply::Refused(_)) => State::MakingNumber,
            (State::Reading, Reply::Data { data, facts }) => match self.layout.read(&data) {
                Some(value) => self.changed(value, facts.version),
                None => State::Over(Counted::NoNumber),
            },
            (State::Reading, Reply::Refused(_)) => {
                self.ticket = None;
                State::Begin
            }
            (State::Changing { value, .. }, Reply::Made(_)) => {
                self.ticket = self.ticket.map(|version| version.wrapping_add(1));
                State::Over(Counted::Done(value))
            }
            // Somebody else was faster; or, by another's hand, the own node is gone or its version is another.
            (State::Changing { .. }, Reply::Failed { index: 1, .. }) => State::Begin,
            (State::Changing { .. }, Reply::Failed { index: 2, .. }) => State::Over(Counted::Done(0)),
            (State::Changing { value, .. }, Reply::Failed { .. }) => {
                self.is_given_up = true;
                State::LookingAtTicket { value }
            }
            (State::Changing { value, .. }, Reply::Unknown) => State::Unsure { value },
            (State::Unsure { value }, Reply::Done) => State::LookingAtTicket { value },
            (State::LookingAtTicket { value }, Reply::Facts(facts)) => {
                let is_made = Some(facts.version) != self.ticket;
                let is_of_this_change = !mem::take(&mut self.is_given_up);
                self.ticket = Some(facts.version);
                if is_made && is_of_this_change { State::Over(Counted::Done(value)) } else { State::Begin }
            }
            (State::LookingAtTicket { .. }, Reply::Refused(_)) => {
                (self.ticket, self.is_given_up) = (None, false);
                State::Begin
            }
            (state, Reply::Unknown) => state,
            (state, reply) => panic!("{reply:?} is no answer in the state {state:?}"),
        };
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes are those that Curator and kazoo write.
    #[test]
    fn numbers_are_written_as_others_write_them() {
        for (layout, value, bytes) in [
            (CounterLayout::Long, -2, &b"\xff\xff\xff\xff\xff\xff\xff\xfe"[..]),
            (CounterLayout::Int, 258, b"\0\0\x01\x02"),
            (CounterLayout::Digits, -17, b"-17"),
        ] {
            assert_eq!(layout.write(value).as_deref(), Some(bytes));
            assert_eq!(layout.read(bytes), Some(value));
            assert_eq!((layout.read(b""), layout.read(b"x")), (Some(0), None));
        }
        assert_eq!(CounterLayout::Int.write(1 << 31), None);
    }
}
