//! Whether what clients saw of one node can be the history of one register on one machine.
//!
//! The search of Wing and Gong with Lowe's memory of what was tried: an order of the operations that respects time and in which
//! every answer is right. Operations without an answer may take effect anywhere after their beginning, which at the very end means
//! never. Versions make almost every step the only one possible: an operation without an answer is tried only where it makes a
//! version that no answer claims for another one.

use std::collections::{BTreeMap, HashSet};

use crate::history::{Event, NEVER_NS, Operation, Outcome};
use crate::random::Random;

/// More than any history of a test takes; a search that takes more says so instead of filling the memory.
const MOST_TRIED: usize = 4_000_000;

/// The state of a node: what a read shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Register {
    pub version: i32,
    pub value: u64,
}

impl Register {
    fn written(self, value: u64) -> Register {
        Register { version: self.version + 1, value }
    }

    /// The state after an operation, if its answer is right in this state.
    fn step(self, event: &Event, claims: &Claims) -> Option<Register> {
        let unanswered = event.outcome == Outcome::Unknown;
        match (&event.operation, &event.outcome) {
            (Operation::Write { value, .. }, Outcome::Written { version }) => {
                (*version == self.version + 1).then(|| self.written(*value))
            }
            (Operation::Write { value, .. }, _) if unanswered => claims.allow(self, *value),
            (Operation::CompareAndSet { version, value, .. }, Outcome::Written { version: after }) => {
                (*version == self.version && *after == version + 1).then(|| self.written(*value))
            }
            (Operation::CompareAndSet { version, .. }, Outcome::WrongVersion) => {
                (*version != self.version).then_some(self)
            }
            (Operation::CompareAndSet { version, value, .. }, _) if unanswered => {
                if *version == self.version {
                    claims.allow(self, *value)
                } else {
                    Some(self)
                }
            }
            (Operation::Read { .. }, Outcome::Value(seen)) => (*seen == self).then_some(self),
            (Operation::Read { .. }, _) if unanswered => Some(self),
            _ => None,
        }
    }
}

/// What the answers say of each version: the value it has, where a write or a read tells.
struct Claims {
    values: BTreeMap<i32, u64>,
    /// No answer distinguishes states from this version on.
    end: i32,
}

impl Claims {
    fn new(events: &[&Event]) -> Claims {
        let mut claims = Claims { values: BTreeMap::new(), end: 0 };
        for event in events {
            let (version, value) = match (&event.operation, &event.outcome) {
                (
                    Operation::Write { value, .. } | Operation::CompareAndSet { value, .. },
                    Outcome::Written { version },
                ) => (*version, Some(*value)),
                (_, Outcome::Value(seen)) => (seen.version, Some(seen.value)),
                (Operation::CompareAndSet { version, .. }, Outcome::WrongVersion) => (*version, None),
                _ => continue,
            };
            // Where two answers contradict each other, either may stay: the other one cannot be explained.
            if let Some(value) = value {
                claims.values.insert(version, value);
            }
            claims.end = claims.end.max(version + 1);
        }
        claims
    }

    /// The state after a write without an answer, if it can have happened here.
    fn allow(&self, before: Register, value: u64) -> Option<Register> {
        let after = before.written(value);
        let claimed = self.values.get(&after.version).is_some_and(|claimed| *claimed != value);
        (!claimed && before.version < self.end).then_some(after)
    }
}

/// The beginnings and ends of all operations in the order of time, as a list from which operations are lifted out.
struct Timeline {
    /// (operation, is its beginning)
    points: Vec<(usize, bool)>,
    next: Vec<usize>,
    previous: Vec<usize>,
    beginning: Vec<usize>,
    end: Vec<usize>,
}

impl Timeline {
    /// One point in front of all, to which `next` of the last leads back.
    const HEAD: usize = 0;

    fn new(events: &[&Event]) -> Timeline {
        let mut points: Vec<(u64, bool, usize)> = Vec::new();
        for (index, event) in events.iter().enumerate() {
            points.push((event.invoked_ns, false, index));
            points.push((event.completed_ns, true, index));
        }
        // At the same moment beginnings come first: that allows more.
        points.sort_unstable();
        let count = points.len() + 1;
        let mut timeline = Timeline {
            points: vec![(usize::MAX, false)],
            next: (0..count).map(|point| (point + 1) % count).collect(),
            previous: (0..count).map(|point| (point + count - 1) % count).collect(),
            beginning: vec![0; events.len()],
            end: vec![0; events.len()],
        };
        for (point, (_, is_end, index)) in points.into_iter().enumerate() {
            let side = if is_end { &mut timeline.end } else { &mut timeline.beginning };
            side[index] = point + 1;
            timeline.points.push((index, !is_end));
        }
        timeline
    }

    fn lift(&mut self, operation: usize) {
        for point in [self.beginning[operation], self.end[operation]] {
            let (before, after) = (self.previous[point], self.next[point]);
            self.next[before] = after;
            self.previous[after] = before;
        }
    }

    /// Undoes the last `lift`.
    fn unlift(&mut self, operation: usize) {
        for point in [self.end[operation], self.beginning[operation]] {
            let (before, after) = (self.previous[point], self.next[point]);
            self.next[before] = point;
            self.previous[after] = point;
        }
    }
}

/// The events of one key in any order. The error names the operation that no order explains.
pub fn check(events: &[&Event]) -> Result<(), String> {
    let claims = Claims::new(events);
    let mut timeline = Timeline::new(events);
    // The set of what is done, as the sum of random numbers: equal sums are equal sets, but for one case in 2^128.
    let mut random = Random::new(1);
    let marks: Vec<u128> =
        events.iter().map(|_| u128::from(random.number()) << 64 | u128::from(random.number())).collect();
    let mut done = 0_u128;
    let mut tried: HashSet<(u128, Register)> = HashSet::new();
    let mut order: Vec<(usize, Register)> = Vec::new();
    let mut register = Register::default();
    let mut farthest = (0, Register::default(), None);
    let mut point = timeline.next[Timeline::HEAD];
    let is_answered = |operation: usize| events[operation].completed_ns != NEVER_NS;
    let mut answered = (0..events.len()).filter(|operation| is_answered(*operation)).count();
    while answered > 0 {
        let (operation, is_beginning) = timeline.points[point];
        if is_beginning {
            let after = register.step(events[operation], &claims);
            if let Some(after) = after
                && tried.insert((done ^ marks[operation], after))
            {
                if tried.len() > MOST_TRIED {
                    return Err(format!("undecided after {MOST_TRIED} steps: too many operations without an answer"));
                }
                done ^= marks[operation];
                order.push((operation, register));
                register = after;
                timeline.lift(operation);
                answered -= usize::from(is_answered(operation));
                point = timeline.next[Timeline::HEAD];
            } else {
                point = timeline.next[point];
            }
            continue;
        }
        // This operation has ended and nothing before its end leads on: what was chosen last was wrong.
        if order.len() >= farthest.0 {
            farthest = (order.len(), register, Some(operation));
        }
        let Some((last, before)) = order.pop() else {
            let (count, state, stuck) = farthest;
            let stuck = stuck.map_or_else(String::new, |operation| format!("{:?}", events[operation]));
            return Err(format!("no order explains this, after {count} operations and with {state:?}: {stuck}"));
        };
        register = before;
        done ^= marks[last];
        timeline.unlift(last);
        answered += usize::from(is_answered(last));
        point = timeline.next[timeline.beginning[last]];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Place;

    fn event(operation: Operation, outcome: Outcome, invoked_ns: u64, completed_ns: u64) -> Event {
        Event { process: 0, operation, outcome, invoked_ns, completed_ns, place: Place::default() }
    }

    fn write(value: u64, version: i32, from: u64, to: u64) -> Event {
        event(Operation::Write { key: 0, value }, Outcome::Written { version }, from, to)
    }

    fn lost_write(value: u64, from: u64) -> Event {
        event(Operation::Write { key: 0, value }, Outcome::Unknown, from, NEVER_NS)
    }

    fn read(value: u64, version: i32, from: u64, to: u64) -> Event {
        event(Operation::Read { key: 0 }, Outcome::Value(Register { version, value }), from, to)
    }

    fn compare_and_set(expected: i32, value: u64, outcome: Outcome, from: u64, to: u64) -> Event {
        event(Operation::CompareAndSet { key: 0, version: expected, value }, outcome, from, to)
    }

    fn is_linearizable(events: &[Event]) -> bool {
        check(&events.iter().collect::<Vec<_>>()).is_ok()
    }

    #[test]
    fn one_after_the_other() {
        assert!(is_linearizable(&[]));
        assert!(is_linearizable(&[read(0, 0, 0, 1), write(5, 1, 2, 3), read(5, 1, 4, 5)]));
        assert!(!is_linearizable(&[write(5, 1, 0, 1), read(0, 0, 2, 3)]), "a stale read");
        assert!(!is_linearizable(&[read(5, 1, 0, 1), write(5, 1, 2, 3)]), "a read of the future");
        assert!(!is_linearizable(&[write(5, 1, 0, 1), write(6, 1, 2, 3)]), "a lost write");
        assert!(!is_linearizable(&[write(5, 1, 0, 1), read(6, 1, 2, 3)]), "a value from nowhere");
        assert!(!is_linearizable(&[write(5, 2, 0, 1)]), "a version from nowhere");
    }

    #[test]
    fn overlapping_operations_may_take_either_order() {
        assert!(is_linearizable(&[write(5, 2, 0, 10), write(6, 1, 0, 10), read(5, 2, 11, 12)]));
        assert!(!is_linearizable(&[write(5, 2, 0, 10), write(6, 1, 0, 10), read(6, 2, 11, 12)]));
        assert!(is_linearizable(&[write(5, 1, 0, 10), read(0, 0, 1, 9), read(5, 1, 1, 9)]));
        assert!(!is_linearizable(&[write(5, 1, 0, 10), read(5, 1, 1, 2), read(0, 0, 3, 4)]), "back in time");
    }

    #[test]
    fn without_an_answer_anything_may_have_happened_but_only_once() {
        assert!(is_linearizable(&[lost_write(5, 0), read(0, 0, 1, 2), read(5, 1, 3, 4)]), "later");
        assert!(is_linearizable(&[lost_write(5, 0), read(0, 0, 1, 2), write(6, 1, 3, 4), read(6, 1, 5, 6)]), "never");
        assert!(is_linearizable(&[lost_write(5, 0), write(6, 2, 3, 4), read(6, 2, 5, 6)]), "before");
        assert!(!is_linearizable(&[lost_write(5, 9), read(5, 1, 1, 2)]), "before it was asked for");
        let twice = [lost_write(5, 0), read(5, 1, 1, 2), write(6, 2, 3, 4), read(5, 3, 5, 6)];
        assert!(!is_linearizable(&twice), "twice");
    }

    #[test]
    fn compare_and_set_needs_its_version() {
        let won = Outcome::Written { version: 1 };
        assert!(is_linearizable(&[compare_and_set(0, 5, won.clone(), 0, 1), read(5, 1, 2, 3)]));
        let lost = compare_and_set(0, 6, Outcome::WrongVersion, 0, 9);
        assert!(is_linearizable(&[compare_and_set(0, 5, won.clone(), 0, 9), lost.clone(), read(5, 1, 10, 11)]));
        let both = [compare_and_set(0, 5, won.clone(), 0, 9), compare_and_set(0, 6, won, 0, 9)];
        assert!(!is_linearizable(&both), "both have won");
        assert!(!is_linearizable(&[lost]), "nobody was there to lose against");
        let unanswered =
            event(Operation::CompareAndSet { key: 0, version: 3, value: 7 }, Outcome::Unknown, 0, NEVER_NS);
        assert!(!is_linearizable(&[unanswered, read(7, 1, 5, 6)]), "it cannot have succeeded");
    }

    /// Forty operations without an answer that were carried out, and forty that were not.
    #[test]
    fn a_long_history_is_checked_quickly() {
        let mut events = Vec::new();
        let mut register = Register::default();
        for index in 0..4000_u64 {
            let (from, to) = (index * 10, index * 10 + 35);
            match index % 100 {
                10 => events.push(lost_write(index, from)),
                20 => {
                    register = register.written(index);
                    events.push(lost_write(index, from));
                }
                number if number % 2 == 0 => {
                    register = register.written(index);
                    events.push(write(index, register.version, from, to));
                }
                _ => events.push(read(register.value, register.version, from, to)),
            }
        }
        assert!(is_linearizable(&events));
        let stale = events.iter().rposition(|event| matches!(event.operation, Operation::Read { .. }));
        events[stale.expect("there are reads")] = read(1, 1, 39_000, 39_035);
        assert!(!is_linearizable(&events));
    }
}
