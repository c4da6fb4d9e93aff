//! Many pushers and takers on a tree in memory, under everything that can happen to them.
//!
//! Checked: an item that is acknowledged is given to nobody again; none is given before it is due; an item that was pushed is acknowledged in the end, once; one that two have at
//! once does not exist; items come in order where nothing was given back; a limit holds; and nothing is left.

use std::collections::{BTreeMap, BTreeSet};

use super::layout::{Places, SEGMENT_ITEMS};
use super::{Pushed, Pusher, QueueLayout, Settle, Settled, Taken, Takes};
use crate::ask::{Ask, Recipe, Step};
use crate::model::Model;

struct Pushing {
    session: i64,
    pusher: Pusher,
    /// The items of the batch under way.
    batch: Vec<u64>,
}

struct Taking {
    session: i64,
    takes: Takes,
    holds: Vec<(u64, Taken)>,
    settling: Option<(u64, Taken, bool, Settle)>,
}

struct World {
    model: Model,
    places: Places,
    limit: Option<usize>,
    pushers: Vec<Pushing>,
    takers: Vec<Taking>,
    /// What takers that were dropped have still to see to.
    dropped: Vec<(i64, Settle)>,
    due_ms: BTreeMap<u64, u64>,
    sessions: i64,
    next_item: u64,
    in_queue: BTreeSet<u64>,
    /// In, or not: the session ended before that was known.
    in_doubt: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
    /// An acknowledgement whose session ended before the answer.
    half_acknowledged: BTreeSet<u64>,
    order: Vec<u64>,
    pusher_of: BTreeMap<u64, i64>,
    now_ms: u64,
    delays: bool,
}

const ITEMS: u64 = 40;

impl World {
    fn new(seed: u64, layout: QueueLayout, limit: Option<usize>, takers: usize) -> World {
        let delays = layout != QueueLayout::Kazoo && takers > 1;
        let mut world = World {
            model: Model::new(seed),
            places: Places::new("/q", layout),
            limit,
            pushers: Vec::new(),
            takers: Vec::new(),
            dropped: Vec::new(),
            due_ms: BTreeMap::new(),
            sessions: 0,
            next_item: 0,
            in_queue: BTreeSet::new(),
            in_doubt: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            half_acknowledged: BTreeSet::new(),
            order: Vec::new(),
            pusher_of: BTreeMap::new(),
            now_ms: 1_000,
            delays,
        };
        for _ in 0..2 {
            let pushing = world.pusher();
            world.pushers.push(pushing);
        }
        for _ in 0..takers {
            let taking = world.taker();
            world.takers.push(taking);
        }
        world
    }

    fn pusher(&mut self) -> Pushing {
        self.sessions += 1;
        let pusher = Pusher::new(self.places.clone(), format!("p{}", self.sessions), self.limit);
        Pushing { session: self.sessions, pusher, batch: Vec::new() }
    }

    fn taker(&mut self) -> Taking {
        self.sessions += 1;
        let takes = Takes::new(self.places.clone(), format!("t{}", self.sessions));
        Taking { session: self.sessions, takes, holds: Vec::new(), settling: None }
    }

    fn push(&mut self, at: usize) {
        let faults = self.model.faults > 0;
        if faults && self.model.random.one_in(200) {
            let fresh = self.pusher();
            let old = std::mem::replace(&mut self.pushers[at], fresh);
            self.model.expire(old.session);
            self.in_doubt.extend(old.batch);
            return;
        }
        // Given up, now and then, and another begun.
        let is_idle = self.pushers[at].batch.is_empty() || (faults && self.model.random.one_in(40));
        if is_idle {
            if self.next_item >= ITEMS {
                if self.pushers[at].batch.is_empty() {
                    return;
                }
            } else {
                let count = 1 + self.model.random.below(3).min(ITEMS - self.next_item - 1);
                let items: Vec<u64> = (self.next_item..self.next_item + count).collect();
                self.next_item += count;
                let due_ms =
                    (self.delays && self.model.random.one_in(4)).then(|| self.now_ms + self.model.random.below(400));
                let prefix = self.places.prefix(None, due_ms).unwrap();
                self.due_ms.extend(items.iter().filter_map(|item| Some((*item, due_ms?))));
                let batch =
                    items.iter().map(|item| (prefix.clone(), self.places.encode(item.to_string().into_bytes())));
                let pushing = &mut self.pushers[at];
                self.pusher_of.extend(items.iter().map(|item| (*item, pushing.session)));
                pushing.pusher.begin(batch.collect(), true);
                let given_up = std::mem::replace(&mut pushing.batch, items);
                self.in_doubt.extend(given_up);
            }
        }
        let Pushing { session, pusher, batch } = &mut self.pushers[at];
        match pusher.step(self.now_ms) {
            Step::Done(Pushed::Done) => self.in_queue.extend(std::mem::take(batch)),
            Step::Done(Pushed::Full) => unreachable!("it waits"),
            Step::Ask(ask) => {
                let reply = self.model.ask(*session, &ask, &mut |_| {});
                pusher.handle(reply);
            }
        }
    }

    fn take(&mut self, at: usize) {
        let faults = self.model.faults > 0;
        if faults && self.model.random.one_in(250) {
            let fresh = self.taker();
            let old = std::mem::replace(&mut self.takers[at], fresh);
            self.model.expire(old.session);
            self.dropped.retain(|(session, _)| *session != old.session);
            self.half_acknowledged
                .extend(old.settling.filter(|(_, _, acknowledges, _)| *acknowledges).map(|(item, ..)| item));
            return;
        }
        if let Some((session, mut settle)) = self.dropped.pop() {
            if let Step::Ask(ask) = settle.step(self.now_ms) {
                let reply = self.model.ask(session, &ask, &mut |_| {});
                settle.handle(reply);
                self.dropped.push((session, settle));
            }
            return;
        }
        // Dropped at any moment, now and then, and another of the same session begins.
        if faults && self.model.random.one_in(60) {
            let fresh = Takes::new(self.places.clone(), format!("t{}-{}", self.sessions, self.now_ms));
            let mut old = std::mem::replace(&mut self.takers[at].takes, fresh);
            self.dropped.extend(old.give_up().map(|settle| (self.takers[at].session, settle)));
        }
        if let Some((item, taken, acknowledges, mut settle)) = self.takers[at].settling.take() {
            match settle.step(self.now_ms) {
                Step::Done(outcome) => {
                    assert_eq!(outcome, Settled::Done, "nobody else deletes taken nodes");
                    if acknowledges {
                        assert!(self.acknowledged.insert(item), "acknowledged twice");
                    }
                    self.takers[at].takes.settled(&taken, acknowledges);
                }
                Step::Ask(ask) => {
                    let Taking { session, takes, .. } = &mut self.takers[at];
                    let reply = self.model.ask(*session, &ask, &mut |path| takes.notice(path));
                    settle.handle(reply);
                    // Dropped, now and then: given back, or acknowledged.
                    if faults && acknowledges && self.model.random.one_in(20) {
                        self.half_acknowledged.insert(item);
                        let (entries, takens) = (self.places.entries(taken.segment), self.places.taken(taken.segment));
                        let settle = Settle::new(&entries, &takens, &taken.name, &taken.id, false).unsure();
                        self.takers[at].settling = Some((item, taken, false, settle));
                    } else {
                        self.takers[at].settling = Some((item, taken, acknowledges, settle));
                    }
                }
            }
            return;
        }
        if !self.takers[at].holds.is_empty() && self.model.random.one_in(3) {
            let (item, taken) = self.takers[at].holds.remove(0);
            let acknowledges = !(faults && self.takers.len() > 1 && self.model.random.one_in(4));
            let (entries, takens) = (self.places.entries(taken.segment), self.places.taken(taken.segment));
            let settle = Settle::new(&entries, &takens, &taken.name, &taken.id, acknowledges);
            self.takers[at].settling = Some((item, taken, acknowledges, settle));
            return;
        }
        if self.takers[at].holds.len() >= 2 {
            return;
        }
        let Taking { session, takes, .. } = &mut self.takers[at];
        match takes.step(self.now_ms) {
            Step::Done(None) => unreachable!("it waits"),
            Step::Done(Some(taken)) => {
                let data = self.places.decode(taken.data.clone()).remove(0);
                let item: u64 = String::from_utf8(data).unwrap().parse().unwrap();
                assert!(!self.acknowledged.contains(&item), "{item} was acknowledged and is given again");
                assert!(self.due_ms.get(&item) <= Some(&self.now_ms), "{item} is not due");
                let has = |taker: &Taking| taker.holds.iter().any(|(held, _)| *held == item);
                assert!(!self.takers.iter().any(has), "two have {item}");
                self.order.push(item);
                self.takers[at].holds.push((item, taken));
            }
            Step::Ask(Ask::Wait { until_ms }) => {
                // Sees what there is to see: a watch that should fire and does not leaves the taker here.
                let mut has_fired = until_ms.is_some_and(|until_ms| until_ms <= self.now_ms);
                self.model.ask(*session, &Ask::Exists { path: "/".to_owned(), watch: false }, &mut |path| {
                    has_fired = true;
                    takes.notice(path);
                });
                if has_fired {
                    takes.handle(crate::ask::Reply::Waited);
                }
            }
            Step::Ask(ask) => {
                let mut fired = Vec::new();
                let reply = self.model.ask(*session, &ask, &mut |path| fired.push(path.to_owned()));
                fired.iter().for_each(|path| takes.notice(path));
                takes.handle(reply);
            }
        }
    }

    /// How many items the tree has.
    fn count(&self) -> usize {
        let is_item = |path: &&String| {
            let name = path.rsplit('/').next().unwrap_or_default();
            path.starts_with("/q/")
                && !path.contains("/taken/")
                && name.contains('-')
                && self.places.read(0, name).is_some()
        };
        self.model.paths().iter().filter(is_item).count()
    }

    fn run(mut self) -> u64 {
        for step in 0..40_000 {
            self.now_ms += 1;
            if step == 3_000 {
                self.model.faults = 0;
            }
            if step > 4_000 && self.is_done() {
                break;
            }
            if self.model.random.one_in(3) {
                let at = self.model.random.below(self.pushers.len() as u64) as usize;
                self.push(at);
                if let Some(limit) = self.limit {
                    assert!(self.count() <= limit, "{} items", self.count());
                }
            } else {
                let at = self.model.random.below(self.takers.len() as u64) as usize;
                self.take(at);
            }
        }
        assert_eq!(self.next_item, ITEMS);
        let missing: Vec<_> = self
            .in_queue
            .iter()
            .filter(|item| !self.acknowledged.contains(item) && !self.half_acknowledged.contains(item))
            .collect();
        assert!(missing.is_empty(), "lost: {missing:?}, {:#?}", self.model.paths());
        if self.takers.len() == 1 {
            self.check_order();
        }
        let left = self.model.paths();
        let known = |path: &String| !path.starts_with("/q/pushers/") && !path.starts_with("/l/pushers/");
        let left: Vec<_> = left.into_iter().filter(known).collect();
        assert!(left.len() <= 9, "{left:#?}");
        assert_eq!(self.count(), 0, "{left:#?}");
        self.model.lost
    }

    fn is_done(&self) -> bool {
        self.next_item == ITEMS
            && self.dropped.is_empty()
            && self.pushers.iter().all(|pushing| pushing.batch.is_empty())
            && self.takers.iter().all(|taking| taking.holds.is_empty() && taking.settling.is_none())
            && self.count() == 0
    }

    /// The items of each pusher were given in their order, each for the first time.
    fn check_order(&self) {
        let mut first = BTreeSet::new();
        let mut last: BTreeMap<i64, u64> = BTreeMap::new();
        for item in self.order.iter().filter(|item| first.insert(**item)) {
            let before = last.insert(self.pusher_of[item], *item);
            assert!(before < Some(*item), "{item} after {before:?}");
        }
        assert!(first.len() > 10);
    }
}

fn layouts() -> [QueueLayout; 3] {
    [QueueLayout::Segments, QueueLayout::Kazoo, QueueLayout::Curator { locks: "/l".to_owned() }]
}

#[test]
fn no_item_is_lost_or_given_after_its_acknowledgement() {
    let mut lost = 0;
    for seed in 1..30 {
        for layout in layouts() {
            lost += World::new(seed, layout, None, 3).run();
        }
    }
    assert!(lost > 3_000, "{lost} answers");
}

#[test]
fn a_limit_holds() {
    for seed in 1..25 {
        for layout in layouts() {
            World::new(seed, layout, Some(5), 2).run();
        }
    }
}

/// Asks until there is an outcome, or until it waits.
fn drive<R: Recipe>(model: &mut Model, session: i64, recipe: &mut R) -> Option<R::Outcome> {
    loop {
        match recipe.step(0) {
            Step::Done(outcome) => return Some(outcome),
            Step::Ask(Ask::Wait { .. }) => return None,
            Step::Ask(ask) => {
                let mut fired = Vec::new();
                let reply = model.ask(session, &ask, &mut |path| fired.push(path.to_owned()));
                fired.iter().for_each(|path| recipe.notice(path));
                recipe.handle(reply);
            }
        }
    }
}

fn without_faults() -> Model {
    let mut model = Model::new(1);
    model.faults = 0;
    model
}

fn push(model: &mut Model, session: i64, pusher: &mut Pusher, places: &Places, items: &[&str]) {
    let prefix = places.prefix(None, None).unwrap();
    let batch = items.iter().map(|item| (prefix.clone(), places.encode(item.as_bytes().to_vec())));
    pusher.begin(batch.collect(), true);
    assert_eq!(drive(model, session, pusher), Some(Pushed::Done));
}

/// Nobody pushes, nobody gives back: the end of the taken node is all that happens.
#[test]
fn an_item_whose_taker_dies_comes_to_one_that_waits() {
    for layout in layouts() {
        let (mut model, places) = (without_faults(), Places::new("/q", layout));
        push(&mut model, 1, &mut Pusher::new(places.clone(), "p".to_owned(), None), &places, &["item"]);
        let mut takers = ["a", "b"].map(|id| Takes::new(places.clone(), id.to_owned()));
        for round in 0..3 {
            let [first, waiting] = &mut takers;
            let sync = Ask::Sync { path: "/".to_owned() };
            model.ask(10 + round, &sync, &mut |path| first.notice(path));
            assert!(drive(&mut model, 10 + round, first).flatten().is_some());
            model.ask(11 + round, &sync, &mut |path| waiting.notice(path));
            assert_eq!(drive(&mut model, 11 + round, waiting), None, "the other has it");
            model.expire(10 + round);
            let mut has_fired = false;
            model.ask(11 + round, &sync, &mut |path| {
                has_fired = true;
                waiting.notice(path);
            });
            assert!(has_fired, "a watch tells of it");
            waiting.handle(crate::ask::Reply::Waited);
            let again = drive(&mut model, 11 + round, waiting).flatten();
            assert!(again.is_some(), "it comes to the one that waits");
            // The next round is about the second one's item, which that session holds.
            let mut settle = waiting.settle(&again.unwrap(), false);
            assert_eq!(drive(&mut model, 11 + round, &mut settle), Some(Settled::Done));
            takers = ["c", "d"].map(|id| Takes::new(places.clone(), format!("{id}{round}")));
        }
    }
}

/// Whoever pushes last is given last, also where that one knows an older segment as the open one.
#[test]
fn no_item_goes_into_a_segment_that_is_closed() {
    let (mut model, places) = (without_faults(), Places::new("/q", QueueLayout::Segments));
    let mut slow = Pusher::new(places.clone(), "slow".to_owned(), None);
    let mut quick = Pusher::new(places.clone(), "quick".to_owned(), None);
    push(&mut model, 1, &mut slow, &places, &["first"]);
    let numbers: Vec<String> = (0..SEGMENT_ITEMS).map(|number| number.to_string()).collect();
    let fill: Vec<&str> = numbers.iter().map(String::as_str).collect();
    push(&mut model, 2, &mut quick, &places, &fill);
    push(&mut model, 2, &mut quick, &places, &["in the next"]);
    push(&mut model, 1, &mut slow, &places, &["last"]);
    let mut takes = Takes::new(places.clone(), "t".to_owned());
    model.ask(3, &Ask::Sync { path: "/".to_owned() }, &mut |_| {});
    let mut given = Vec::new();
    while let Some(Some(taken)) = drive(&mut model, 3, &mut takes) {
        given.push(String::from_utf8(taken.data.clone()).unwrap());
        let mut settle = takes.settle(&taken, true);
        assert_eq!(drive(&mut model, 3, &mut settle), Some(Settled::Done));
        takes.settled(&taken, true);
    }
    let expected: Vec<&str> = [&["first"], &fill[..], &["in the next", "last"]].concat();
    assert_eq!(given, expected);
}

#[test]
fn one_taker_is_enough() {
    for seed in 1..25 {
        World::new(seed, QueueLayout::Segments, None, 1).run();
    }
}
