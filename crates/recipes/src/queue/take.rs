//! Taking, without IO: which item is next, and how it becomes this taker's alone.
//!
//! What always holds:
//! - An item is taken by one transaction that demands the item and makes its taken node, which is ephemeral. So whoever is given an item is the only
//!   one until that node goes, and an item that was acknowledged is given to nobody.
//! - What a taker remembers of the queue is a guess. Only the transaction decides.
//! - Names are listed again at a cost that grows with the items taken, not with those that wait: a list of n names for n/16 items at the most.
//! - Before a taker waits it has watches on all that could bring an item: new segments, new items, taken nodes that go.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use super::layout::{Places, Spot};
use super::settle::Settle;
use crate::ask::{Ask, Kind, Op, Recipe, Refusal, Reply, Step};
use crate::name::join;

/// So many names may be listed again for each item that was taken.
const NAMES_PER_TAKE: usize = 16;
/// After so many items the taker looks whether items of others have come back.
const TAKES_PER_LOOK: usize = 64;

/// An item that is this taker's until it is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub(crate) segment: u64,
    /// The name of the item's node.
    pub name: String,
    /// What the taken node says.
    pub(crate) id: String,
    /// The content of the item's node.
    pub data: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    Ready,
    Delayed(u64),
    /// Taken, by another or by this taker.
    Busy,
}

/// What is known of one segment.
#[derive(Debug, Clone, Default)]
struct Segment {
    items: BTreeMap<String, (Spot, Where)>,
    /// There is no later one, so items may come.
    is_open: bool,
    /// The list of items is not up to date.
    is_stale: bool,
    /// The list of items is watched.
    is_watched: bool,
    /// The length of the last list.
    listed: usize,
    /// The taken nodes are to be listed.
    look: bool,
    /// The list of taken nodes is watched.
    taken_is_watched: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Idle,
    MakingPath(String),
    ListingSegments,
    Listing {
        segment: u64,
        watch: bool,
    },
    /// The taken nodes first, then the items: what is in neither list was acknowledged.
    Looking {
        segment: u64,
        watch: bool,
    },
    LookingAtItems {
        segment: u64,
        taken: BTreeSet<String>,
        watch: bool,
    },
    Removing(u64),
    Taking(Spot),
    Unsure(Spot),
    Checking(Spot),
    Reading(Spot),
    /// Ours, but the item is gone by another's hand.
    Leaving(Spot),
    Waiting(Option<u64>),
    Holding(Taken),
}

/// Takes items one after the other. `Clone` is for simulations.
#[derive(Debug, Clone)]
pub struct Takes {
    places: Places,
    id: String,
    attempts: u64,
    segments: BTreeMap<u64, Segment>,
    segments_are_stale: bool,
    ready: BTreeSet<Spot>,
    delayed: BTreeSet<(u64, Spot)>,
    takes_since_listing: usize,
    takes_since_look: usize,
    collisions: usize,
    waits: bool,
    state: State,
}

impl Takes {
    /// `id` is this taker's alone.
    pub fn new(places: Places, id: String) -> Takes {
        let mut segments = BTreeMap::new();
        let is_segmented = places.is_segmented();
        if !is_segmented {
            segments.insert(0, Segment { is_open: true, is_stale: true, ..Segment::default() });
        }
        Takes {
            places,
            id,
            attempts: 0,
            segments,
            segments_are_stale: is_segmented,
            ready: BTreeSet::new(),
            delayed: BTreeSet::new(),
            takes_since_listing: 0,
            takes_since_look: 0,
            collisions: 0,
            waits: true,
            state: State::Idle,
        }
    }

    /// Whether the next step waits for an item where there is none. Without waiting the outcome is `None` then.
    pub fn wait(&mut self, waits: bool) {
        self.waits = waits;
    }

    /// An item of this taker was acknowledged, or given back.
    pub fn settled(&mut self, taken: &Taken, is_acknowledged: bool) {
        if is_acknowledged {
            return self.forget(taken.segment, &taken.name);
        }
        if let Some(segment) = self.segments.get_mut(&taken.segment) {
            segment.look = true;
        }
    }

    /// Gives up: what is to be done so that nothing stays taken.
    pub fn give_up(&mut self) -> Option<Settle> {
        let (segment, name) = match mem::replace(&mut self.state, State::Idle) {
            State::Taking(spot)
            | State::Unsure(spot)
            | State::Checking(spot)
            | State::Reading(spot)
            | State::Leaving(spot) => (spot.segment, spot.name),
            State::Holding(taken) => (taken.segment, taken.name),
            _ => return None,
        };
        let (entries, taken) = (self.places.entries(segment), self.places.taken(segment));
        Some(Settle::new(&entries, &taken, &name, &self.attempt(), false).unsure())
    }

    /// Acknowledges an item of this taker, or gives it back.
    pub fn settle(&self, taken: &Taken, acknowledges: bool) -> Settle {
        let (entries, takens) = (self.places.entries(taken.segment), self.places.taken(taken.segment));
        Settle::new(&entries, &takens, &taken.name, &taken.id, acknowledges)
    }

    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    fn attempt(&self) -> String {
        format!("{}-{}", self.id, self.attempts)
    }

    fn put(&mut self, spot: Spot, to: Where) {
        let Some(segment) = self.segments.get_mut(&spot.segment) else { return };
        let before = segment.items.insert(spot.name.clone(), (spot.clone(), to));
        match before {
            Some((spot, Where::Ready)) => drop(self.ready.remove(&spot)),
            Some((spot, Where::Delayed(due_ms))) => drop(self.delayed.remove(&(due_ms, spot))),
            _ => {}
        }
        match to {
            Where::Ready => drop(self.ready.insert(spot)),
            Where::Delayed(due_ms) => drop(self.delayed.insert((due_ms, spot))),
            Where::Busy => {}
        }
    }

    fn forget(&mut self, segment: u64, name: &str) {
        let Some(known) = self.segments.get_mut(&segment) else { return };
        match known.items.remove(name) {
            Some((spot, Where::Ready)) => drop(self.ready.remove(&spot)),
            Some((spot, Where::Delayed(due_ms))) => drop(self.delayed.remove(&(due_ms, spot))),
            _ => {}
        }
        if known.items.is_empty() && !known.is_open {
            // Perhaps it is empty: whoever finds it so removes it.
            known.is_stale = true;
        }
    }

    fn drop_segment(&mut self, segment: u64) {
        let Some(known) = self.segments.remove(&segment) else { return };
        for (spot, at) in known.items.into_values() {
            match at {
                Where::Ready => drop(self.ready.remove(&spot)),
                Where::Delayed(due_ms) => drop(self.delayed.remove(&(due_ms, spot))),
                Where::Busy => {}
            }
        }
    }

    /// The items of a segment as they are; what is known to be taken stays so. `watch`: the list was asked for with a watch.
    fn listed(&mut self, segment: u64, names: &[String], watch: bool) {
        let gone: Vec<String> = match self.segments.get(&segment) {
            Some(known) => {
                let names: BTreeSet<&String> = names.iter().collect();
                known.items.keys().filter(|name| !names.contains(name)).cloned().collect()
            }
            None => return,
        };
        gone.iter().for_each(|name| self.forget(segment, name));
        for name in names {
            let is_known = self.segments.get(&segment).is_some_and(|known| known.items.contains_key(name));
            if let Some((spot, due_ms)) = self.places.read(segment, name).filter(|_| !is_known) {
                // The clock is asked when the turn of the delayed comes.
                self.put(spot, if due_ms == 0 { Where::Ready } else { Where::Delayed(due_ms) });
            }
        }
        if let Some(known) = self.segments.get_mut(&segment) {
            // A watch that was there when the list was asked for may have fired before the answer.
            known.is_watched |= watch;
            (known.is_stale, known.listed) = (known.is_open && !known.is_watched, names.len());
        }
        self.takes_since_listing = 0;
    }

    fn segments_listed(&mut self, names: &[String]) {
        let numbers: BTreeSet<u64> = names.iter().filter_map(|name| name.parse().ok()).collect();
        let gone: Vec<u64> = self.segments.keys().filter(|number| !numbers.contains(number)).copied().collect();
        gone.into_iter().for_each(|number| self.drop_segment(number));
        let last = numbers.last().copied();
        for number in numbers {
            let known = self.segments.entry(number).or_insert_with(|| Segment { is_stale: true, ..Segment::default() });
            let was_open = mem::replace(&mut known.is_open, Some(number) == last);
            // Items may have come until it was closed.
            known.is_stale |= was_open && !known.is_open;
        }
        self.segments_are_stale = false;
    }

    /// What is to be done now.
    fn next(&mut self, now_ms: u64) -> State {
        if self.segments_are_stale {
            return State::ListingSegments;
        }
        while let Some((due_ms, spot)) = self.delayed.first().cloned().filter(|(due_ms, _)| *due_ms <= now_ms) {
            self.delayed.remove(&(due_ms, spot.clone()));
            self.put(spot, Where::Ready);
        }
        let (is_empty, takes) = (self.ready.is_empty(), self.takes_since_listing);
        let stale = self.segments.iter().find(|(_, known)| {
            known.is_stale && (is_empty || !known.is_open || takes * NAMES_PER_TAKE >= known.listed)
        });
        if let Some((number, _)) = stale {
            return State::Listing { segment: *number, watch: self.wants_watch(*number) };
        }
        if self.takes_since_look >= TAKES_PER_LOOK {
            self.takes_since_look = 0;
            for known in self.segments.values_mut() {
                known.look |= known.items.values().any(|(_, at)| *at == Where::Busy);
            }
        }
        if let Some((number, _)) = self.segments.iter().find(|(_, known)| known.look) {
            return State::Looking { segment: *number, watch: false };
        }
        // Where others take as well, not all go for the same item.
        let skip = if self.collisions < 2 { 0 } else { self.mix() % (2 * self.collisions) };
        if let Some(spot) = self.ready.iter().nth(skip).or(self.ready.first()) {
            self.attempts += 1;
            return State::Taking(spot.clone());
        }
        let unwatched = self
            .segments
            .iter()
            .find(|(_, known)| !known.taken_is_watched && known.items.values().any(|(_, at)| *at == Where::Busy));
        if let Some((number, _)) = unwatched {
            return State::Looking { segment: *number, watch: true };
        }
        State::Waiting(self.delayed.first().map(|(due_ms, _)| *due_ms))
    }

    /// Whether a list of the items is to come with a watch.
    fn wants_watch(&self, segment: u64) -> bool {
        self.segments.get(&segment).is_some_and(|known| known.is_open && !known.is_watched)
    }

    /// A number that differs from taker to taker and from attempt to attempt.
    fn mix(&self) -> usize {
        let mixed = self.id.bytes().fold(self.attempts, |sum, byte| sum.wrapping_mul(31) ^ u64::from(byte));
        (mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as usize
    }

    fn hold(&mut self, spot: Spot, data: Vec<u8>) -> State {
        self.takes_since_listing += 1;
        self.takes_since_look += 1;
        self.collisions = 0;
        let taken = Taken { segment: spot.segment, name: spot.name.clone(), id: self.attempt(), data };
        self.put(spot, Where::Busy);
        State::Holding(taken)
    }

    fn taken_by_another(&mut self, spot: Spot) -> State {
        self.collisions = (self.collisions + 1).min(16);
        if let Some(segment) = self.segments.get_mut(&spot.segment) {
            segment.look = true;
        }
        self.put(spot, Where::Busy);
        State::Idle
    }

    fn looked(&mut self, segment: u64, taken: &BTreeSet<String>, names: &[String], watch: bool) {
        self.listed(segment, names, watch);
        let Some(known) = self.segments.get_mut(&segment) else { return };
        known.look = false;
        let moved: Vec<(Spot, bool)> = known
            .items
            .values()
            .filter_map(|(spot, at)| {
                let is_taken = taken.contains(&spot.name);
                (is_taken != (*at == Where::Busy)).then(|| (spot.clone(), is_taken))
            })
            .collect();
        for (spot, is_taken) in moved {
            let due_ms = self.places.read(segment, &spot.name).map_or(0, |(_, due_ms)| due_ms);
            let free = if due_ms == 0 { Where::Ready } else { Where::Delayed(due_ms) };
            self.put(spot, if is_taken { Where::Busy } else { free });
        }
    }
}

impl Recipe for Takes {
    type Outcome = Option<Taken>;

    fn step(&mut self, now_ms: u64) -> Step<Option<Taken>> {
        if self.state == State::Idle {
            self.state = self.next(now_ms);
        }
        let places = &self.places;
        let taken = |spot: &Spot| join(&places.taken(spot.segment), &spot.name);
        let entry = |spot: &Spot| join(&places.entries(spot.segment), &spot.name);
        Step::Ask(match &self.state {
            State::Idle => unreachable!("there is always something to do"),
            State::MakingPath(path) => Ask::MakePath { path: path.clone() },
            State::ListingSegments => Ask::Children { path: places.segments(), watch: true },
            State::Listing { segment, watch } | State::LookingAtItems { segment, watch, .. } => {
                Ask::Children { path: places.entries(*segment), watch: *watch }
            }
            State::Looking { segment, watch } => Ask::Children { path: places.taken(*segment), watch: *watch },
            State::Removing(segment) => {
                let paths = [places.entries(*segment), places.taken(*segment), places.segment(*segment)];
                Ask::Multi(paths.map(|path| Op::Delete { path }).into())
            }
            State::Taking(spot) => {
                let demand = Op::Check { path: entry(spot), version: None };
                let data = self.attempt().into_bytes();
                Ask::Multi(vec![demand, Op::Create { path: taken(spot), data, kind: Kind::Ephemeral }])
            }
            State::Unsure(spot) => Ask::Sync { path: taken(spot) },
            State::Checking(spot) => Ask::Get { path: taken(spot), watch: false },
            State::Reading(spot) => Ask::Get { path: entry(spot), watch: false },
            State::Leaving(spot) => Ask::Delete { path: taken(spot) },
            State::Waiting(_) if !self.waits => {
                self.state = State::Idle;
                return Step::Done(None);
            }
            State::Waiting(until_ms) => Ask::Wait { until_ms: *until_ms },
            State::Holding(taken) => {
                let taken = taken.clone();
                self.state = State::Idle;
                return Step::Done(Some(taken));
            }
        })
    }

    fn handle(&mut self, reply: Reply) {
        self.state = match (mem::replace(&mut self.state, State::Idle), reply) {
            (State::MakingPath(path), Reply::Unknown) => State::MakingPath(path),
            (State::MakingPath(_), _) => State::Idle,
            (State::ListingSegments, Reply::Names(names)) => {
                self.segments_listed(&names);
                State::Idle
            }
            (State::ListingSegments, Reply::Refused(_)) => State::MakingPath(self.places.segments()),
            (State::Listing { segment, watch }, Reply::Names(names)) => {
                self.listed(segment, &names, watch);
                match self.segments.get(&segment) {
                    Some(known) if !known.is_open && names.is_empty() => State::Removing(segment),
                    _ => State::Idle,
                }
            }
            (
                state @ (State::Listing { .. } | State::Looking { .. } | State::LookingAtItems { .. }),
                Reply::Refused(_),
            ) => {
                let (segment, path) = match state {
                    State::Looking { segment, .. } => (segment, self.places.taken(segment)),
                    State::Listing { segment, .. } | State::LookingAtItems { segment, .. } => {
                        (segment, self.places.entries(segment))
                    }
                    _ => unreachable!("only these are matched"),
                };
                if self.places.is_segmented() {
                    self.drop_segment(segment);
                    self.segments_are_stale = true;
                    State::Idle
                } else {
                    State::MakingPath(path)
                }
            }
            (State::Looking { segment, watch }, Reply::Names(names)) => {
                if let Some(known) = self.segments.get_mut(&segment) {
                    known.taken_is_watched |= watch;
                }
                let taken = names.into_iter().collect();
                State::LookingAtItems { segment, taken, watch: self.wants_watch(segment) }
            }
            (State::LookingAtItems { segment, taken, watch }, Reply::Names(names)) => {
                self.looked(segment, &taken, &names, watch);
                State::Idle
            }
            (State::LookingAtItems { segment, .. }, Reply::Unknown) => State::Looking { segment, watch: false },
            // Removed, by this taker or another; or an item has come back to it, and the next list shows that.
            (State::Removing(segment), Reply::Made(_)) => {
                self.drop_segment(segment);
                State::Idle
            }
            (State::Removing(_), Reply::Failed { .. }) => {
                self.segments_are_stale = true;
                State::Idle
            }
            (State::Taking(spot), Reply::Made(_)) => State::Reading(spot),
            (State::Taking(spot), Reply::Failed { index: 0, .. }) => {
                self.forget(spot.segment, &spot.name);
                State::Idle
            }
            (State::Taking(spot), Reply::Failed { why: Refusal::NodeExists, .. }) => self.taken_by_another(spot),
            (State::Taking(spot), Reply::Failed { .. }) => State::MakingPath(self.places.taken(spot.segment)),
            (State::Taking(spot), Reply::Unknown) => State::Unsure(spot),
            (State::Unsure(spot), Reply::Done) => State::Checking(spot),
            (State::Checking(spot), Reply::Data { data, .. }) if data == self.attempt().as_bytes() => {
                State::Reading(spot)
            }
            (State::Checking(spot), Reply::Data { .. }) => self.taken_by_another(spot),
            (State::Checking(_), Reply::Refused(_)) => State::Idle,
            (State::Reading(spot), Reply::Data { data, .. }) => self.hold(spot, data),
            (State::Reading(spot), Reply::Refused(_)) => State::Leaving(spot),
            (State::Leaving(spot), Reply::Done | Reply::Refused(_)) => {
                self.forget(spot.segment, &spot.name);
                State::Idle
            }
            (State::Waiting(_), _) => State::Idle,
            (state, Reply::Unknown) => state,
            (state, reply) => panic!("{reply:?} is no answer in the state {state:?}"),
        };
    }

    fn notice(&mut self, path: &str) {
        if self.places.is_segmented() && path == self.places.segments() {
            self.segments_are_stale = true;
        }
        let places = self.places.clone();
        for (number, known) in &mut self.segments {
            if path == places.entries(*number) {
                (known.is_stale, known.is_watched) = (true, false);
            }
            if path == places.taken(*number) {
                known.taken_is_watched = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::QueueLayout;

    const ITEMS: &str = "/q/segments/0000000000/entries";

    fn asked(takes: &mut Takes) -> Ask {
        match takes.step(0) {
            Step::Ask(ask) => ask,
            Step::Done(taken) => panic!("{taken:?} although nobody has pushed"),
        }
    }

    fn names(takes: &mut Takes, names: &[&str]) {
        takes.handle(Reply::Names(names.iter().map(|name| (*name).to_owned()).collect()));
    }

    /// A taker that waits, having lost a race for the only item.
    fn that_waits() -> Takes {
        let mut takes = Takes::new(Places::new("/q", QueueLayout::Segments), "t".to_owned());
        asked(&mut takes);
        names(&mut takes, &["0000000000"]);
        assert_eq!(asked(&mut takes), Ask::Children { path: ITEMS.to_owned(), watch: true });
        names(&mut takes, &["100-0000000000"]);
        assert!(matches!(asked(&mut takes), Ask::Multi(_)));
        takes.handle(Reply::Failed { index: 1, why: Refusal::NodeExists });
        takes
    }

    #[test]
    fn a_watch_that_fires_while_a_list_is_under_way_is_set_again() {
        let mut takes = that_waits();
        assert!(matches!(asked(&mut takes), Ask::Children { watch: false, .. }), "what others have taken");
        names(&mut takes, &["100-0000000000"]);
        // The watch on the items is there, so none is asked for; and now it fires.
        assert_eq!(asked(&mut takes), Ask::Children { path: ITEMS.to_owned(), watch: false });
        takes.notice(ITEMS);
        names(&mut takes, &["100-0000000000"]);
        assert_eq!(asked(&mut takes), Ask::Children { path: ITEMS.to_owned(), watch: true });
    }

    #[test]
    fn a_watch_that_fires_before_a_list_is_asked_for_is_set_again() {
        let mut takes = that_waits();
        assert!(matches!(asked(&mut takes), Ask::Children { watch: false, .. }), "what others have taken");
        names(&mut takes, &["100-0000000000"]);
        takes.notice(ITEMS);
        loop {
            match asked(&mut takes) {
                Ask::Children { path, watch: true } if path == ITEMS => break,
                Ask::Children { .. } => names(&mut takes, &["100-0000000000"]),
                other => panic!("{other:?} without a watch on the items"),
            }
        }
    }
}
