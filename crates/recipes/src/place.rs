//! A place in a line: one ephemeral sequential node, from its creation until its turn has come and it is deleted again.
//!
//! Locks, elections and semaphores are lines. This file says what is to be done next and does nothing: [`Place::step`] names one request,
//! [`Place::handle`] takes its answer. So the same code runs on a real client (`drive.rs`) and in a simulation.
//!
//! What always holds:
//! - Whatever happens to an answer, a place never has two nodes: where the fate of a create is unknown, the place first looks for its id,
//!   behind a `sync`, since a server that the client comes to may be behind the one that took the create.
//! - A place that waits for its turn watches one node, the nearest that it must not overtake. So one departure wakes one waiter.
//! - A place holds only after a list of the line that shows its own node.
//! - After [`Place::leave`] all requests lead to the node's deletion.

use std::mem;

use crate::name::{join, sequence};

/// When the turn of a place has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// When no node with one of these markers stands before it.
    NobodyBefore(&'static [&'static str]),
    /// When the line has at most this many nodes, whatever their order.
    AtMost(usize),
}

/// What a place wants done next: one request, or to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make the parent, and its parents, as containers.
    MakeParent {
        path: String,
    },
    /// Create an ephemeral sequential node; the path lacks the number.
    Create {
        prefix: String,
        data: Vec<u8>,
    },
    /// `sync`, so that the next answer shows everything that was ever accepted.
    Sync {
        path: String,
    },
    /// The names below this path.
    List {
        path: String,
    },
    /// The same, with a watch on them.
    ListAndWatch {
        path: String,
    },
    /// The czxid of a node.
    Stat {
        path: String,
    },
    /// Put a watch on the data of a node, if it is there.
    Watch {
        path: String,
    },
    /// Wait until the last watch fires.
    Wait,
    Delete {
        path: String,
    },
    /// The place is held: nothing is to be done until it is left.
    Hold(Holding),
    /// The node is gone: nothing is to be done any more.
    Gone,
}

/// A node whose turn has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The whole path of the node.
    pub path: String,
    /// The zxid of the node's creation, the fencing token: of two holders of a line the later one has the greater.
    pub czxid: i64,
}

/// The answer to the step named last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Of a sync, a delete, the making of a parent, a watch that is in place.
    Done,
    /// The name of a new node and the zxid of its creation.
    Created {
        name: String,
        czxid: i64,
    },
    Names(Vec<String>),
    Czxid(i64),
    /// The node, or the parent of the node, does not exist.
    NoNode,
    /// The watch fired.
    Changed,
    /// The connection was lost: the request was carried out or was not.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// No node of this place exists, and no create is on its way.
    Absent,
    WithoutParent,
    /// A create is on its way.
    Creating,
    /// The answer to a create was lost. Then: the sync, then the list that tells.
    Unsure,
    Searching,
    /// Found again; its czxid is not known yet.
    Found {
        name: String,
    },
    Placed(Node),
    /// The node `before` is to be watched, and then waited for.
    Behind {
        node: Node,
        before: String,
    },
    Waiting(Node),
    Holding(Node),
    /// To be deleted, as soon as it is known whether there is a node.
    LeavingUnsure,
    LeavingSearching,
    Leaving {
        name: String,
    },
    Gone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    name: String,
    czxid: i64,
}

/// One attempt to stand in a line. `Clone` is for simulations.
#[derive(Debug, Clone)]
pub struct Place {
    parent: String,
    /// The name of the node without its number. No other place has the same.
    prefix: String,
    data: Vec<u8>,
    rule: Rule,
    state: State,
}

impl Place {
    /// A place in the line below `parent`. The name of its node begins with `prefix`, which no other place may have.
    pub fn new(parent: &str, prefix: String, data: Vec<u8>, rule: Rule) -> Place {
        Place { parent: parent.to_owned(), prefix, data, rule, state: State::Absent }
    }

    /// The request that brings the place further, or what there is to wait for. Asked again without an answer, it says the same, but for a
    /// create, which is named once: after that nobody knows whether it was sent.
    pub fn step(&mut self) -> Step {
        let parent = || self.parent.clone();
        let path = |name: &str| join(&self.parent, name);
        match &self.state {
            State::Absent => {
                let step = Step::Create { prefix: path(&self.prefix), data: self.data.clone() };
                self.state = State::Creating;
                step
            }
            State::WithoutParent => Step::MakeParent { path: parent() },
            State::Creating | State::Unsure | State::LeavingUnsure => Step::Sync { path: parent() },
            State::Searching | State::LeavingSearching => Step::List { path: parent() },
            State::Found { name } => Step::Stat { path: path(name) },
            State::Placed(_) => match self.rule {
                Rule::NobodyBefore(_) => Step::List { path: parent() },
                Rule::AtMost(_) => Step::ListAndWatch { path: parent() },
            },
            State::Behind { before, .. } => Step::Watch { path: path(before) },
            State::Waiting(_) => Step::Wait,
            State::Holding(node) => Step::Hold(Holding { path: path(&node.name), czxid: node.czxid }),
            State::Leaving { name } => Step::Delete { path: path(name) },
            State::Gone => Step::Gone,
        }
    }

    /// Takes the answer to the step that [`step`](Place::step) named last.
    ///
    /// # Panics
    ///
    /// If no such answer is possible to that step: the caller has mixed up two places.
    pub fn handle(&mut self, answer: Answer) {
        let state = mem::replace(&mut self.state, State::Gone);
        self.state = match (state, answer) {
            (State::Creating, Answer::Created { name, czxid }) => State::Placed(Node { name, czxid }),
            (State::Creating, Answer::NoNode) => State::WithoutParent,
            (State::Creating, Answer::Unknown) => State::Unsure,
            (State::WithoutParent, Answer::Done) => State::Absent,
            // The answer to a create may come although the place was told to leave, and then is as good as a search.
            (State::LeavingUnsure, Answer::Created { name, .. }) => State::Leaving { name },
            (State::LeavingUnsure, Answer::NoNode) => State::Gone,
            (State::Creating | State::Unsure, Answer::Done) => State::Searching,
            (State::LeavingUnsure, Answer::Done) => State::LeavingSearching,
            (State::Searching, Answer::Names(names)) => match self.find(names) {
                Some(name) => State::Found { name },
                None => State::Absent,
            },
            (State::LeavingSearching, Answer::Names(names)) => match self.find(names) {
                Some(name) => State::Leaving { name },
                None => State::Gone,
            },
            (State::Found { name }, Answer::Czxid(czxid)) => State::Placed(Node { name, czxid }),
            (State::Placed(node), Answer::Names(names)) => self.look_at(node, &names),
            (State::Behind { node, .. }, Answer::Done) => State::Waiting(node),
            // Who stood before us is gone: look again.
            (State::Behind { node, .. }, Answer::NoNode) => State::Placed(node),
            (State::Waiting(node), Answer::Changed) => State::Placed(node),
            (State::Leaving { .. }, Answer::Done | Answer::NoNode) => State::Gone,
            // Neither the node nor the line is there any more, by somebody else's hand.
            (State::Searching | State::Found { .. } | State::Placed(_), Answer::NoNode) => State::Absent,
            (State::LeavingSearching, Answer::NoNode) => State::Gone,
            // What only reads, and a deletion, is done again.
            (state, Answer::Unknown) => state,
            (state, answer) => panic!("{answer:?} is no answer in the state {state:?}"),
        };
    }

    /// Gives the place up: from now on all steps lead to the deletion of its node.
    pub fn leave(&mut self) {
        self.state = match mem::replace(&mut self.state, State::Gone) {
            State::Absent | State::WithoutParent | State::Gone => State::Gone,
            State::Creating | State::Unsure | State::LeavingUnsure => State::LeavingUnsure,
            State::Searching | State::LeavingSearching => State::LeavingSearching,
            State::Placed(node) | State::Behind { node, .. } | State::Waiting(node) | State::Holding(node) => {
                State::Leaving { name: node.name }
            }
            State::Found { name } | State::Leaving { name } => State::Leaving { name },
        };
    }

    /// Whether a node of this place may exist.
    pub fn may_exist(&self) -> bool {
        !matches!(self.state, State::Absent | State::WithoutParent | State::Gone)
    }

    fn find(&self, names: Vec<String>) -> Option<String> {
        names.into_iter().find(|name| name.starts_with(&self.prefix))
    }

    fn look_at(&self, node: Node, names: &[String]) -> State {
        if !names.contains(&node.name) {
            // Somebody deleted the node: the place is lost, and this attempt stands at the end of the line.
            return State::Absent;
        }
        match self.rule {
            Rule::AtMost(count) if names.len() <= count => State::Holding(node),
            Rule::AtMost(_) => State::Waiting(node),
            Rule::NobodyBefore(markers) => {
                let own = node.name[self.prefix.len()..].parse::<i64>().unwrap_or(i64::MAX);
                let before = names
                    .iter()
                    .filter_map(|name| Some((sequence(name, markers)?, name)))
                    .filter(|(number, _)| *number < own)
                    .max();
                match before {
                    Some((_, before)) => State::Behind { node, before: before.clone() },
                    None => State::Holding(node),
                }
            }
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
