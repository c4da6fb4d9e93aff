//! What the clients of a load did and saw, with times: the evidence from which the checks judge the servers.
//!
//! An operation took effect at one moment between `invoked_ns` and `completed_ns`, or, without an answer, at any moment after
//! `invoked_ns`, or never. Every written value is unique.

use std::collections::{BTreeMap, BTreeSet};

use crate::linearizable::{self, Register};
use crate::promise;

/// The completion of an operation without an answer: later than everything.
pub const NEVER_NS: u64 = u64::MAX;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// setData of any version.
    Write { key: usize, value: u64 },
    /// setData of this version.
    CompareAndSet { key: usize, version: i32, value: u64 },
    /// sync, then getData.
    Read { key: usize },
    /// A sequential node below the one parent all share.
    CreateSequential { value: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Written { version: i32 },
    WrongVersion,
    Value(Register),
    Created { name: String },
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub process: usize,
    pub operation: Operation,
    pub outcome: Outcome,
    pub invoked_ns: u64,
    pub completed_ns: u64,
    pub place: Place,
}

/// Where an answer stands in the order of all changes; zeros without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// What the server had processed when it answered; of a read, when it answered the `sync`.
    pub processed_zxid: i64,
    /// The change that wrote what the answer shows; 0 if the answer does not tell.
    pub changed_zxid: i64,
}

impl Place {
    pub fn newest(self) -> i64 {
        self.processed_zxid.max(self.changed_zxid)
    }
}

#[derive(Debug, Clone, Default)]
pub struct History {
    pub events: Vec<Event>,
}

impl History {
    pub fn keys(&self) -> BTreeSet<usize> {
        self.events.iter().filter_map(|event| event.key()).collect()
    }

    pub fn acknowledged(&self) -> usize {
        self.events.iter().filter(|event| event.outcome != Outcome::Unknown).count()
    }

    /// Everything that no correct server can have done; empty if all is well. `foreign` are the epochs in which a server of the
    /// original led: [`promise`] says what that means for reads.
    pub fn violations(&self, foreign: &BTreeSet<i64>) -> Vec<String> {
        let mut violations = promise::session_violations(&self.events);
        let mut events = self.events.clone();
        let deposed = promise::let_deposed_leaders_answer(&mut events, foreign);
        if deposed > 0 {
            println!("{deposed} reads through a leader of the original that may have been deposed");
        }
        for key in self.keys() {
            let events: Vec<&Event> = events.iter().filter(|event| event.key() == Some(key)).collect();
            if let Err(violation) = linearizable::check(&events) {
                violations.push(format!("key {key}: {violation}"));
            }
        }
        violations.extend(self.sequence_violations());
        violations
    }

    /// Names are given once, and in the order of time where the operations did not overlap.
    fn sequence_violations(&self) -> Vec<String> {
        let mut created: Vec<(&Event, &String)> = Vec::new();
        for event in &self.events {
            if let Outcome::Created { name } = &event.outcome {
                created.push((event, name));
            }
        }
        let mut violations = Vec::new();
        let mut by_name: BTreeMap<&String, &Event> = BTreeMap::new();
        for (event, name) in &created {
            if let Some(other) = by_name.insert(name, event) {
                violations.push(format!("{name} was given twice:\n  {other:?}\n  {event:?}"));
            }
        }
        // Among all that completed before an operation was invoked, the greatest name must be smaller than its name.
        let mut by_completion = created.clone();
        by_completion.sort_by_key(|(event, _)| event.completed_ns);
        created.sort_by_key(|(event, _)| event.invoked_ns);
        let mut completed = by_completion.into_iter().peekable();
        let mut greatest: Option<(&Event, &String)> = None;
        for (event, name) in created {
            while let Some(earlier) = completed.next_if(|(other, _)| other.completed_ns < event.invoked_ns) {
                if greatest.is_none_or(|(_, known)| earlier.1 > known) {
                    greatest = Some(earlier);
                }
            }
            if let Some((earlier, known)) = greatest
                && known >= name
            {
                violations.push(format!("{name} was given after {known}:\n  {earlier:?}\n  {event:?}"));
            }
        }
        violations
    }

    /// Compares the sequential nodes found at the end, name and value, with those that were acknowledged.
    pub fn missing_or_foreign(&self, found: &BTreeMap<String, u64>) -> Vec<String> {
        let mut violations = Vec::new();
        let mut possible = BTreeSet::new();
        for event in &self.events {
            let Operation::CreateSequential { value } = event.operation else { continue };
            possible.insert(value);
            if let Outcome::Created { name } = &event.outcome
                && found.get(name) != Some(&value)
            {
                violations.push(format!("acknowledged and lost, {:?} is there: {event:?}", found.get(name)));
            }
        }
        let mut seen = BTreeSet::new();
        for (name, value) in found {
            if !possible.contains(value) {
                violations.push(format!("{name} holds {value}, which nobody wrote"));
            }
            if !seen.insert(value) {
                violations.push(format!("{name} holds {value}, which another node holds as well"));
            }
        }
        violations
    }
}

impl Event {
    pub fn key(&self) -> Option<usize> {
        match self.operation {
            Operation::Write { key, .. } | Operation::CompareAndSet { key, .. } | Operation::Read { key } => Some(key),
            Operation::CreateSequential { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(name: &str, value: u64, invoked_ns: u64, completed_ns: u64) -> Event {
        let outcome = Outcome::Created { name: name.to_owned() };
        let operation = Operation::CreateSequential { value };
        Event { process: 0, operation, outcome, invoked_ns, completed_ns, place: Place::default() }
    }

    fn unanswered(value: u64) -> Event {
        let operation = Operation::CreateSequential { value };
        let (outcome, place) = (Outcome::Unknown, Place::default());
        Event { process: 0, operation, outcome, invoked_ns: 0, completed_ns: NEVER_NS, place }
    }

    fn violations(events: &[Event]) -> usize {
        History { events: events.to_vec() }.violations(&BTreeSet::new()).len()
    }

    #[test]
    fn names_in_the_order_of_time() {
        assert_eq!(violations(&[created("n1", 1, 0, 10), created("n2", 2, 20, 30)]), 0);
        assert_eq!(violations(&[created("n2", 1, 0, 10), created("n1", 2, 5, 30)]), 0, "they overlap");
        assert_eq!(violations(&[created("n2", 1, 0, 10), created("n1", 2, 20, 30)]), 1);
        assert_eq!(violations(&[created("n5", 1, 0, 1), created("n1", 2, 0, 9), created("n4", 3, 5, 6)]), 1);
    }

    #[test]
    fn names_are_given_once() {
        assert_eq!(violations(&[created("n1", 1, 0, 10), created("n1", 2, 5, 20)]), 1);
    }

    #[test]
    fn the_end_holds_what_was_acknowledged() {
        let history = History { events: vec![created("n1", 1, 0, 1), created("n2", 2, 2, 3), unanswered(3)] };
        let found = |nodes: &[(&str, u64)]| nodes.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let judge = |nodes: &[(&str, u64)]| history.missing_or_foreign(&found(nodes)).len();
        assert_eq!(judge(&[("n1", 1), ("n2", 2)]), 0);
        assert_eq!(judge(&[("n1", 1), ("n2", 2), ("n3", 3)]), 0, "carried out without an answer");
        assert_eq!(judge(&[("n2", 2)]), 1, "lost");
        assert_eq!(judge(&[("n1", 1), ("n2", 3)]), 1, "another value");
        assert_eq!(judge(&[("n1", 1), ("n2", 2), ("n3", 4)]), 1, "from nowhere");
        assert_eq!(judge(&[("n1", 1), ("n2", 2), ("n3", 2)]), 1, "carried out twice");
    }
}
