//! Barriers, without IO: who waits for what, and when a double barrier is open.
//!
//! What always holds:
//! - A barrier is seen open only behind a `sync`, or by a watch: never because a server is behind.
//! - A double barrier is opened, by its node `ready`, only by a member that saw so many members at once, itself among them.
//! - A `ready` that is older than all members was left behind by others and opens for nobody. Whoever removes it changes the version of the barrier's
//!   node in the same transaction, so that nobody removes the `ready` of a later round.

use std::mem;

use crate::ask::{Ask, Kind, Op, Recipe, Refusal, Reply, Step};
use crate::name::join;

/// The node that says that a double barrier is open, as Curator and kazoo call it.
pub(crate) const READY: &str = "ready";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    Syncing,
    Looking,
    Waiting,
    Open,
}

/// Waits until a node is gone, or is there. A barrier is closed as long as its node exists; a latch is open when it has one.
#[derive(Debug, Clone)]
pub struct Watching {
    path: String,
    /// What is waited for.
    is_there: bool,
    state: Opening,
}

impl Watching {
    pub fn until_gone(path: &str) -> Watching {
        Watching { path: path.to_owned(), is_there: false, state: Opening::Syncing }
    }

    pub fn until_there(path: &str) -> Watching {
        // A server that is behind makes this late, not early.
        Watching { path: path.to_owned(), is_there: true, state: Opening::Looking }
    }
}

impl Recipe for Watching {
    type Outcome = ();

    fn step(&mut self, _now_ms: u64) -> Step<()> {
        let path = self.path.clone();
        Step::Ask(match self.state {
            Opening::Syncing => Ask::Sync { path },
            Opening::Looking => Ask::Exists { path, watch: true },
            Opening::Waiting => Ask::Wait { until_ms: None },
            Opening::Open => return Step::Done(()),
        })
    }

    fn handle(&mut self, reply: Reply) {
        self.state = match (self.state, reply) {
            (Opening::Syncing, Reply::Done) => Opening::Looking,
            (Opening::Looking, reply @ (Reply::Facts(_) | Reply::Refused(_))) => {
                let is_there = matches!(reply, Reply::Facts(_));
                if is_there == self.is_there { Opening::Open } else { Opening::Waiting }
            }
            (Opening::Waiting, _) => Opening::Looking,
            (state, Reply::Unknown) => state,
            (state, reply) => panic!("{reply:?} is no answer in the state {state:?}"),
        };
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    MakingPath,
    Creating,
    /// The member's own node, for its czxid, where the answer to the create was lost.
    LookingAtSelf,
    LookingAtReady,
    /// The members, to be counted.
    Counting,
    Opening,
    Waiting,
    /// There is a `ready` that is older than this member: the barrier's version, then the members, then each of them.
    ReadingVersion,
    ReadingReady {
        version: i32,
    },
    ListingElders {
        version: i32,
        ready: i64,
    },
    LookingAtElder {
        version: i32,
        ready: i64,
        members: Vec<String>,
    },
    RemovingReady {
        version: i32,
    },
    Entered,
    // Leaving: the own node first, then all others.
    SyncingToLeave,
    Deleting,
    ReadingVersionToLeave,
    ListingRest {
        version: i32,
    },
    LookingAtRest {
        members: Vec<String>,
    },
    WaitingForRest,
    RemovingReadyToLeave {
        version: i32,
    },
    Left,
}

/// What has become of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    Entered,
    Left,
}

/// One member of a double barrier, from its coming until all have left.
#[derive(Debug, Clone)]
pub struct Member {
    path: String,
    /// The name of its node, which no other member has.
    id: String,
    data: Vec<u8>,
    count: usize,
    joined: i64,
    /// The czxid of the `ready` by which it entered: older members are of its round.
    round: i64,
    /// The answer to a create was lost: the create may still be carried out, until the next `sync`.
    is_unsure: bool,
    /// Leaving, the member waits until all others have left.
    waits: bool,
    state: State,
}

impl Member {
    pub fn new(path: &str, id: &str, data: Vec<u8>, count: usize) -> Member {
        let (path, id) = (path.to_owned(), id.to_owned());
        Member { path, id, data, count, joined: 0, round: 0, is_unsure: false, waits: true, state: State::Creating }
    }

    /// From now on all steps lead out: at once, or when all others have left as well.
    pub fn leave(&mut self, waits: bool) {
        self.waits = waits;
        self.state = match self.state {
            State::Left => State::Left,
            // No create can be on its way.
            State::Entered if !self.is_unsure => State::Deleting,
            _ => State::SyncingToLeave,
        };
    }

    /// Leaves and waits for nobody, whatever is on its way.
    pub fn leave_for_certain(&mut self) {
        if self.state != State::Left {
            (self.waits, self.state) = (false, State::SyncingToLeave);
        }
    }

    /// The whole path of the member's node.
    pub fn node(&self) -> String {
        join(&self.path, &self.id)
    }

    fn ready(&self) -> String {
        join(&self.path, READY)
    }

    fn remove_ready(&self, version: i32) -> Ask {
        let claim = Op::Set { path: self.path.clone(), data: Vec::new(), version: Some(version) };
        Ask::Multi(vec![claim, Op::Delete { path: self.ready() }])
    }

    fn counted(&self, names: &[String]) -> State {
        let members = names.iter().filter(|name| *name != READY).count();
        if !names.contains(&self.id) {
            // Somebody deleted the node.
            State::Creating
        } else if members >= self.count {
            State::Opening
        } else {
            State::Waiting
        }
    }
}

impl Recipe for Member {
    type Outcome = Passage;

    fn step(&mut self, _now_ms: u64) -> Step<Passage> {
        let path = self.path.clone();
        Step::Ask(match &self.state {
            State::MakingPath => Ask::MakePath { path },
            State::Creating => Ask::Create { path: self.node(), data: self.data.clone(), kind: Kind::Ephemeral },
            State::LookingAtSelf => Ask::Exists { path: self.node(), watch: false },
            State::LookingAtReady => Ask::Exists { path: self.ready(), watch: true },
            State::Counting | State::ListingElders { .. } | State::ListingRest { .. } => {
                Ask::Children { path, watch: false }
            }
            State::Opening => Ask::Create { path: self.ready(), data: Vec::new(), kind: Kind::Persistent },
            State::Waiting | State::WaitingForRest => Ask::Wait { until_ms: None },
            State::ReadingVersion | State::ReadingVersionToLeave => Ask::Exists { path, watch: false },
            State::ReadingReady { .. } => Ask::Exists { path: self.ready(), watch: false },
            State::LookingAtElder { members, .. } => {
                let member = members.last().map_or("", String::as_str);
                Ask::Exists { path: join(&self.path, member), watch: false }
            }
            State::RemovingReady { version } | State::RemovingReadyToLeave { version } => self.remove_ready(*version),
            State::Entered => return Step::Done(Passage::Entered),
            State::SyncingToLeave => Ask::Sync { path },
            State::Deleting => Ask::Delete { path: self.node() },
            State::LookingAtRest { members } => {
                let member = members.last().map_or("", String::as_str);
                Ask::Exists { path: join(&self.path, member), watch: true }
            }
            State::Left => return Step::Done(Passage::Left),
        })
    }

    fn handle(&mut self, reply: Reply) {
        self.state = match (mem::replace(&mut self.state, State::Left), reply) {
            (State::MakingPath, Reply::Unknown) => State::MakingPath,
            (State::MakingPath, _) => State::Creating,
            (State::Creating, Reply::Created { czxid, .. }) => {
                self.joined = czxid;
                State::LookingAtReady
            }
            (State::Creating, Reply::Unknown) => {
                self.is_unsure = true;
                State::Creating
            }
            // Nobody else has this name.
            (State::Creating, Reply::Refused(Refusal::NodeExists)) => State::LookingAtSelf,
            (State::Creating, Reply::Refused(_)) => State::MakingPath,
            (State::LookingAtSelf, Reply::Facts(facts)) => {
                self.joined = facts.czxid;
                State::LookingAtReady
            }
            (State::LookingAtSelf, Reply::Refused(_)) => State::Creating,
            (State::LookingAtReady, Reply::Facts(facts)) if facts.czxid > self.joined => self.entered(facts.czxid),
            (State::LookingAtReady, Reply::Facts(_)) => State::ReadingVersion,
            (State::LookingAtReady, Reply::Refused(_)) => State::Counting,
            (State::Counting, Reply::Names(names)) => self.counted(&names),
            (State::Counting, Reply::Refused(_)) => State::Creating,
            (State::Opening, Reply::Created { czxid, .. }) => self.entered(czxid),
            // Somebody else has opened, or an old one was there all the time.
            (State::Opening, Reply::Refused(Refusal::NodeExists)) => State::LookingAtReady,
            (State::Opening, Reply::Refused(_)) => State::Creating,
            (State::Waiting, _) => State::LookingAtReady,
            (State::ReadingVersion, Reply::Facts(facts)) => State::ReadingReady { version: facts.version },
            (State::ReadingReady { version }, Reply::Facts(facts)) if facts.czxid < self.joined => {
                State::ListingElders { version, ready: facts.czxid }
            }
            (State::ReadingReady { .. }, Reply::Facts(_) | Reply::Refused(_)) => State::LookingAtReady,
            (State::ListingElders { version, ready }, Reply::Names(members)) => {
                let others = members.into_iter().filter(|name| *name != READY && *name != self.id);
                self.elders(version, ready, others.collect())
            }
            // A member from before the opening: the barrier is open, and this one comes late.
            (State::LookingAtElder { ready, .. }, Reply::Facts(facts)) if facts.czxid < ready => self.entered(ready),
            (State::LookingAtElder { version, ready, mut members }, Reply::Facts(_) | Reply::Refused(_)) => {
                members.pop();
                self.elders(version, ready, members)
            }
            // Removed, or somebody else was before us: look again.
            (State::RemovingReady { .. }, _) => State::LookingAtReady,
            (State::ReadingVersion | State::ListingElders { .. }, Reply::Refused(_)) => State::Creating,
            (State::SyncingToLeave, Reply::Done | Reply::Refused(_)) => State::Deleting,
            (State::Deleting, Reply::Done | Reply::Refused(_)) => State::ReadingVersionToLeave,
            (State::ReadingVersionToLeave, Reply::Facts(facts)) => State::ListingRest { version: facts.version },
            (State::ListingRest { version }, Reply::Names(names)) => {
                let has_ready = names.iter().any(|name| name == READY);
                let members: Vec<String> = names.into_iter().filter(|name| name != READY).collect();
                match (members.is_empty(), has_ready) {
                    (true, true) => State::RemovingReadyToLeave { version },
                    (true, false) => State::Left,
                    (false, _) if self.waits => State::LookingAtRest { members },
                    (false, _) => State::Left,
                }
            }
            (State::LookingAtRest { .. }, Reply::Facts(facts)) if facts.czxid < self.round => State::WaitingForRest,
            // Gone, or come after the opening, for another round.
            (State::LookingAtRest { mut members }, Reply::Facts(_) | Reply::Refused(_)) => {
                members.pop();
                if members.is_empty() { State::Left } else { State::LookingAtRest { members } }
            }
            (State::WaitingForRest, Reply::Waited) => State::ReadingVersionToLeave,
            // Removed, by this member or another one; or others have come, whose it is now.
            (State::RemovingReadyToLeave { .. }, Reply::Made(_) | Reply::Failed { .. }) => State::Left,
            (State::RemovingReadyToLeave { .. }, Reply::Unknown) => State::ReadingVersionToLeave,
            // The barrier is gone.
            (State::ReadingVersionToLeave | State::ListingRest { .. }, Reply::Refused(_)) => State::Left,
            (state, Reply::Unknown) => state,
            (state, reply) => panic!("{reply:?} is no answer in the state {state:?}"),
        };
    }
}

impl Member {
    fn entered(&mut self, ready: i64) -> State {
        self.round = ready;
        State::Entered
    }

    fn elders(&self, version: i32, ready: i64, members: Vec<String>) -> State {
        if members.is_empty() {
            State::RemovingReady { version }
        } else {
            State::LookingAtElder { version, ready, members }
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
