//! Pushing, without IO: items go in exactly once, in order, also where an answer is lost, and never more than the limit allows.
//!
//! What always holds:
//! - A pusher has a node of its own, whose version grows by each push, in the same transaction. So where an answer was lost the version says whether
//!   the items are in.
//! - Items go into a segment only while its version is 0. Whoever fills a segment closes it, by its version, and makes the next in one transaction. So
//!   every item of a segment is older than every item of the next.
//! - With a limit every push changes the version of the node above the pushers. So nobody has pushed between the counting and the push.

use std::mem;

use super::layout::{Places, SEGMENT_ITEMS};
use crate::ask::{Ask, Kind, Op, Recipe, Refusal, Reply, Step};
use crate::name::join;

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    Done,
    /// The limit is reached, and the pusher does not wait.
    Full,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Nothing is to be pushed.
    Idle,
    Begin,
    MakingPath(String),
    MakingTicket,
    FindingSegment,
    MakingSegment,
    /// How often was pushed, with a limit; the count is to be taken after that.
    ReadingPushes,
    Counting {
        pushes: i32,
        segments: Vec<u64>,
        at: usize,
        items: usize,
        /// Names are listed with watches, to be told of room.
        watch: bool,
    },
    ListingForCount {
        pushes: i32,
        watch: bool,
    },
    WaitingForRoom,
    Pushing {
        pushes: Option<i32>,
    },
    Unsure,
    LookingAtTicket,
    Closing {
        segment: u64,
    },
    Over(Pushed),
}

/// Pushes for one session, one batch after the other.
#[derive(Debug, Clone)]
pub struct Pusher {
    places: Places,
    id: String,
    limit: Option<usize>,
    /// The version of this pusher's node.
    ticket: Option<i32>,
    open: Option<u64>,
    batch: Vec<(String, Vec<u8>)>,
    waits: bool,
    /// The batch whose fate is being asked for is nobody's any more.
    is_given_up: bool,
    state: State,
}

impl Pusher {
    /// `id` is this pusher's alone.
    pub fn new(places: Places, id: String, limit: Option<usize>) -> Pusher {
        let open = (!places.is_segmented()).then_some(0);
        Pusher {
            places,
            id,
            limit,
            ticket: None,
            open,
            batch: Vec::new(),
            waits: false,
            is_given_up: false,
            state: State::Idle,
        }
    }

    /// Begins to push these items, names without numbers and contents, all in one transaction. What was begun before and is not over is given up: it is in,
    /// or is not and never will be.
    pub fn begin(&mut self, batch: Vec<(String, Vec<u8>)>, waits: bool) {
        (self.batch, self.waits) = (batch, waits);
        self.state = match mem::replace(&mut self.state, State::Idle) {
            State::Pushing { .. } | State::Unsure | State::LookingAtTicket => {
                self.is_given_up = true;
                State::Unsure
            }
            _ => State::Begin,
        };
    }

    fn ticket_path(&self) -> String {
        join(&self.places.pushers(), &self.id)
    }

    fn push(&self, pushes: Option<i32>) -> Ask {
        let segment = self.open.unwrap_or_default();
        let mut ops = vec![Op::Set { path: self.ticket_path(), data: Vec::new(), version: self.ticket }];
        if let Some(pushes) = pushes {
            ops.push(Op::Set { path: self.places.pushers(), data: Vec::new(), version: Some(pushes) });
        }
        if self.places.is_segmented() {
            ops.push(Op::Check { path: self.places.segment(segment), version: Some(0) });
        }
        let entries = self.places.entries(segment);
        ops.extend(self.batch.iter().map(|(prefix, data)| Op::Create {
            path: join(&entries, prefix),
            data: data.clone(),
            kind: Kind::Sequential,
        }));
        Ask::Multi(ops)
    }

    fn make_segment(&self, segment: u64) -> Vec<Op> {
        let create = |path| Op::Create { path, data: Vec::new(), kind: Kind::Persistent };
        vec![
            create(self.places.segment(segment)),
            create(self.places.entries(segment)),
            create(self.places.taken(segment)),
        ]
    }

    /// What comes next when nothing is in the way.
    fn ready(&self) -> State {
        match (self.ticket, self.open, self.limit) {
            (None, ..) => State::MakingTicket,
            (_, None, _) => State::FindingSegment,
            (.., Some(_)) => State::ReadingPushes,
            _ => State::Pushing { pushes: None },
        }
    }

    fn counted(&self, pushes: i32, items: usize, watch: bool) -> State {
        if items + self.batch.len() <= self.limit.unwrap_or(usize::MAX) {
            return State::Pushing { pushes: Some(pushes) };
        }
        match (self.waits, watch) {
            (false, _) => State::Over(Pushed::Full),
            // Counted again with watches: what goes between is seen.
            (true, false) => self.count(pushes, true),
            (true, true) => State::WaitingForRoom,
        }
    }

    fn count(&self, pushes: i32, watch: bool) -> State {
        if self.places.is_segmented() {
            return State::ListingForCount { pushes, watch };
        }
        State::Counting { pushes, segments: vec![0], at: 0, items: 0, watch }
    }

    fn refused(&mut self, index: usize, pushes: Option<i32>) -> State {
        let has_limit = usize::from(pushes.is_some());
        match index {
            // By another's hand: the node is gone, or its version is another.
            0 => {
                self.is_given_up = true;
                return State::LookingAtTicket;
            }
            // Somebody else has pushed.
            1 if has_limit == 1 => {}
            _ if self.places.is_segmented() => self.open = None,
            _ => return State::MakingPath(self.places.entries(0)),
        }
        State::Begin
    }

    fn pushed(&mut self, made: &[String]) -> State {
        self.ticket = self.ticket.map(|version| version.wrapping_add(1));
        let last = made.last().map_or(0, |path| self.places.sequence(path));
        match self.open {
            Some(segment) if self.places.is_segmented() && last + 1 >= SEGMENT_ITEMS => State::Closing { segment },
            _ => State::Over(Pushed::Done),
        }
    }
}

impl Recipe for Pusher {
    type Outcome = Pushed;

    fn step(&mut self, _now_ms: u64) -> Step<Pushed> {
        if self.state == State::Begin {
            self.state = self.ready();
        }
        Step::Ask(match &self.state {
            State::Begin | State::Idle => unreachable!("nothing is to be pushed"),
            State::MakingPath(path) => Ask::MakePath { path: path.clone() },
            State::MakingTicket => Ask::Create { path: self.ticket_path(), data: Vec::new(), kind: Kind::Ephemeral },
            State::FindingSegment => Ask::Children { path: self.places.segments(), watch: false },
            State::MakingSegment => Ask::Multi(self.make_segment(0)),
            State::ReadingPushes => Ask::Exists { path: self.places.pushers(), watch: false },
            State::ListingForCount { watch, .. } => Ask::Children { path: self.places.segments(), watch: *watch },
            State::Counting { segments, at, watch: false, .. } => {
                Ask::Exists { path: self.places.entries(segments[*at]), watch: false }
            }
            State::Counting { segments, at, watch: true, .. } => {
                Ask::Children { path: self.places.entries(segments[*at]), watch: true }
            }
            State::WaitingForRoom => Ask::Wait { until_ms: None },
            State::Pushing { pushes } => self.push(*pushes),
            State::Unsure => Ask::Sync { path: self.places.pushers() },
            State::LookingAtTicket => Ask::Exists { path: self.ticket_path(), watch: false },
            State::Closing { segment } => {
                let close = Op::Set { path: self.places.segment(*segment), data: b"closed".to_vec(), version: Some(0) };
                let mut ops = vec![close];
                ops.extend(self.make_segment(segment + 1));
                Ask::Multi(ops)
            }
            State::Over(outcome) => {
                let outcome = *outcome;
                self.state = State::Idle;
                self.batch.clear();
                return Step::Done(outcome);
            }
        })
    }

    fn handle(&mut self, reply: Reply) {
        self.state = match (mem::replace(&mut self.state, State::Begin), reply) {
            (State::MakingPath(path), Reply::Unknown) => State::MakingPath(path),
            (State::MakingPath(_), _) => State::Begin,
            // The id is this pusher's alone: a node that exists is its own, of a create whose answer was lost, and was never set.
            (State::MakingTicket, Reply::Created { .. } | Reply::Refused(Refusal::NodeExists)) => {
                self.ticket = Some(0);
                State::Begin
            }
            (State::MakingTicket, Reply::Refused(_)) => State::MakingPath(self.places.pushers()),
            (State::FindingSegment, Reply::Names(names)) => {
                self.open = names.iter().filter_map(|name| name.parse().ok()).max();
                if self.open.is_some() { State::Begin } else { State::MakingSegment }
            }
            (State::FindingSegment, Reply::Refused(_)) => State::MakingPath(self.places.segments()),
            // Made, or made by another.
            (State::MakingSegment, _) => State::Begin,
            (State::ReadingPushes, Reply::Facts(facts)) => self.count(facts.version, false),
            (State::ReadingPushes, Reply::Refused(_)) => State::MakingPath(self.places.pushers()),
            (State::ListingForCount { pushes, watch }, Reply::Names(names)) => {
                let segments: Vec<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
                if segments.is_empty() {
                    self.open = None;
                    return;
                }
                State::Counting { pushes, segments, at: 0, items: 0, watch }
            }
            (State::ListingForCount { pushes, watch }, Reply::Unknown) => State::ListingForCount { pushes, watch },
            (State::Counting { pushes, segments, at, items, watch }, reply) => {
                let here = match reply {
                    Reply::Facts(facts) => facts.children,
                    Reply::Names(names) => names.len(),
                    // A segment that is gone has no items. A path that is not there yet has none either.
                    Reply::Refused(_) => 0,
                    _ => {
                        self.state = State::Counting { pushes, segments, at, items, watch };
                        return;
                    }
                };
                let (at, items) = (at + 1, items + here);
                if at < segments.len() {
                    State::Counting { pushes, segments, at, items, watch }
                } else {
                    self.counted(pushes, items, watch)
                }
            }
            (State::WaitingForRoom, _) => State::Begin,
            (State::Pushing { .. }, Reply::Made(made)) => self.pushed(&made),
            (State::Pushing { pushes }, Reply::Failed { index, .. }) => self.refused(index, pushes),
            (State::Pushing { .. }, Reply::Unknown) => State::Unsure,
            (State::Unsure, Reply::Done) => State::LookingAtTicket,
            (State::LookingAtTicket, Reply::Facts(facts)) => {
                let is_in = Some(facts.version) != self.ticket;
                let is_of_this_batch = !mem::take(&mut self.is_given_up);
                self.ticket = Some(facts.version);
                if is_in && is_of_this_batch { State::Over(Pushed::Done) } else { State::Begin }
            }
            (State::LookingAtTicket, Reply::Refused(_)) => {
                (self.ticket, self.is_given_up) = (None, false);
                State::Begin
            }
            // Closed, or closed by another: the next push finds the open one.
            (State::Closing { .. }, _) => {
                self.open = None;
                State::Over(Pushed::Done)
            }
            (state, Reply::Unknown) => state,
            (state, reply) => panic!("{reply:?} is no answer in the state {state:?}"),
        };
    }
}
