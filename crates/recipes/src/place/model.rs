//! Many places on a tree in memory, whose answers get lost, whose creates arrive late, whose reads are old, whose sessions end.
//!
//! Checked: never two that hold against each other's rule, greater tokens for later holders, everybody gets a turn, and nothing is left.

use std::collections::BTreeMap;

use super::*;

/// xorshift: a seed is the whole run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// The children of the line after each change: name, and who made it with which zxid.
type Names = BTreeMap<String, (usize, i64)>;

struct Tree {
    /// `versions[zxid]` is the line after that change.
    versions: Vec<Names>,
    number: i64,
}

impl Tree {
    fn now(&self) -> &Names {
        &self.versions[self.versions.len() - 1]
    }

    fn change(&mut self, change: impl FnOnce(&mut Names, i64)) {
        let mut names = self.now().clone();
        change(&mut names, self.versions.len() as i64);
        self.versions.push(names);
    }

    fn create(&mut self, owner: usize, prefix: &str) -> (String, i64) {
        let name = format!("{prefix}{:010}", self.number);
        self.number += 1;
        self.change(|names, zxid| {
            names.insert(name.clone(), (owner, zxid));
        });
        (name, self.versions.len() as i64 - 1)
    }
}

struct Contender {
    place: Place,
    kind: usize,
    /// What this session has seen: it is never shown anything older.
    seen: usize,
    /// A create that is still on the way over a connection that was lost.
    late: Option<String>,
    watch: Option<String>,
    watches_line: bool,
    holds: Option<i64>,
    turns: u32,
}

const NAMES: [&str; 2] = ["__WRIT__", "__READ__"];

struct World {
    tree: Tree,
    contenders: Vec<Contender>,
    random: Random,
    rules: [Rule; 2],
    ids: u64,
    greatest: i64,
    faults: u64,
}

impl World {
    fn new(seed: u64, count: usize, rules: [Rule; 2], readers: bool) -> World {
        let mut world = World {
            tree: Tree { versions: vec![Names::new()], number: 0 },
            contenders: Vec::new(),
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            rules,
            ids: 0,
            greatest: 0,
            faults: 0,
        };
        for at in 0..count {
            let kind = if readers { at % 2 } else { 0 };
            let place = world.place(kind);
            world.contenders.push(Contender {
                place,
                kind,
                seen: 0,
                late: None,
                watch: None,
                watches_line: false,
                holds: None,
                turns: 0,
            });
        }
        world
    }

    fn place(&mut self, kind: usize) -> Place {
        self.ids += 1;
        Place::new("/l", format!("_c_{}-{}", self.ids, NAMES[kind]), Vec::new(), self.rules[kind])
    }

    /// What a server shows a session: anything between what it has seen and now.
    fn view(&mut self, at: usize) -> Names {
        let newest = self.tree.versions.len() - 1;
        let seen = self.contenders[at].seen;
        let seen = seen + self.random.below((newest - seen) as u64 + 1) as usize;
        self.contenders[at].seen = seen;
        self.tree.versions[seen].clone()
    }

    fn arrive(&mut self, at: usize) {
        if let Some(prefix) = self.contenders[at].late.take() {
            self.tree.create(at, &prefix);
        }
    }

    fn step(&mut self, at: usize) {
        if self.random.one_in(150) {
            return self.expire(at);
        }
        if self.random.one_in(10) {
            self.arrive(at);
        }
        let step = self.contenders[at].place.step();
        let fault = self.random.one_in(8);
        self.faults += u64::from(fault);
        let answer = match step {
            Step::Create { prefix, .. } => {
                let prefix = prefix.trim_start_matches("/l/").to_owned();
                match self.random.below(3) {
                    0 if fault => Answer::Unknown,
                    1 if fault => {
                        self.contenders[at].late = Some(prefix);
                        Answer::Unknown
                    }
                    _ => {
                        let (name, czxid) = self.tree.create(at, &prefix);
                        if fault {
                            Answer::Unknown
                        } else {
                            self.contenders[at].seen = czxid as usize;
                            Answer::Created { name, czxid }
                        }
                    }
                }
            }
            _ if fault && !matches!(step, Step::Wait | Step::Hold(_) | Step::Gone | Step::Delete { .. }) => {
                Answer::Unknown
            }
            Step::Sync { .. } => {
                self.arrive(at);
                self.contenders[at].seen = self.tree.versions.len() - 1;
                Answer::Done
            }
            Step::List { .. } => Answer::Names(self.view(at).into_keys().collect()),
            Step::ListAndWatch { .. } => {
                self.contenders[at].watches_line = true;
                Answer::Names(self.view(at).into_keys().collect())
            }
            Step::Stat { path } => match self.view(at).get(path.trim_start_matches("/l/")) {
                Some((_, czxid)) => Answer::Czxid(*czxid),
                None => Answer::NoNode,
            },
            Step::Watch { path } => {
                let name = path.trim_start_matches("/l/").to_owned();
                if self.view(at).contains_key(&name) {
                    self.contenders[at].watch = Some(name);
                    Answer::Done
                } else {
                    Answer::NoNode
                }
            }
            Step::Wait => {
                let before = self.contenders[at].seen;
                let view = self.view(at);
                let fired = match &self.contenders[at].watch {
                    Some(name) => !view.contains_key(name),
                    None => self.contenders[at].watches_line && view != self.tree.versions[before],
                };
                if !fired {
                    return;
                }
                self.contenders[at].watch = None;
                Answer::Changed
            }
            Step::Delete { path } => {
                let name = path.trim_start_matches("/l/").to_owned();
                if !(fault && self.random.one_in(2)) {
                    self.tree.change(|names, _| {
                        names.remove(&name);
                    });
                }
                if fault { Answer::Unknown } else { Answer::Done }
            }
            Step::Hold(holding) => return self.hold(at, &holding),
            Step::Gone => {
                assert!(self.contenders[at].late.is_none(), "a create is on its way that nobody waits for");
                return self.begin_anew(at);
            }
            Step::MakeParent { .. } => unreachable!("the line exists"),
        };
        self.contenders[at].place.handle(answer);
        // Cancelled at any moment.
        if self.random.one_in(40) {
            self.contenders[at].place.leave();
            self.contenders[at].holds = None;
        }
    }

    fn hold(&mut self, at: usize, holding: &Holding) {
        if self.contenders[at].holds.is_none() {
            self.contenders[at].holds = Some(holding.czxid);
            self.contenders[at].turns += 1;
            self.check(at, holding.czxid);
        } else if self.random.one_in(5) {
            self.contenders[at].holds = None;
            self.contenders[at].place.leave();
        }
    }

    fn check(&mut self, at: usize, token: i64) {
        let others: Vec<_> = (0..self.contenders.len())
            .filter(|other| *other != at && self.contenders[*other].holds.is_some())
            .map(|other| self.contenders[other].kind)
            .collect();
        match self.rules[self.contenders[at].kind] {
            Rule::AtMost(count) => assert!(others.len() < count, "{} hold", others.len() + 1),
            Rule::NobodyBefore(_) => {
                let writes = self.contenders[at].kind == 0;
                assert!(others.iter().all(|kind| !writes && *kind != 0), "two hold");
                if writes {
                    assert!(token > self.greatest, "a token went back");
                }
                self.greatest = self.greatest.max(token);
            }
        }
    }

    /// The session of a contender ends: its nodes go, and the contender comes again with another one.
    fn expire(&mut self, at: usize) {
        self.contenders[at].late = None;
        self.tree.change(|names, _| names.retain(|_, (owner, _)| *owner != at));
        self.begin_anew(at);
    }

    fn begin_anew(&mut self, at: usize) {
        let place = self.place(self.contenders[at].kind);
        let contender = &mut self.contenders[at];
        *contender = Contender { place, late: None, watch: None, watches_line: false, holds: None, ..*contender };
    }

    fn run(mut self) -> u64 {
        for _ in 0..4_000 {
            let at = self.random.below(self.contenders.len() as u64) as usize;
            self.step(at);
        }
        for contender in &self.contenders {
            assert!(contender.turns > 0, "a contender never had its turn");
        }
        // Everybody leaves, and nothing is left.
        for at in 0..self.contenders.len() {
            self.contenders[at].holds = None;
            self.contenders[at].place.leave();
            let mut steps = 0;
            while self.contenders[at].place.may_exist() {
                let step = self.contenders[at].place.step();
                let answer = match step {
                    Step::Sync { .. } => {
                        self.arrive(at);
                        Answer::Done
                    }
                    Step::List { .. } => Answer::Names(self.tree.now().keys().cloned().collect()),
                    Step::Delete { path } => {
                        self.tree.change(|names, _| {
                            names.remove(path.trim_start_matches("/l/"));
                        });
                        Answer::Done
                    }
                    step => panic!("{step:?} does not lead to a deletion"),
                };
                self.contenders[at].place.handle(answer);
                steps += 1;
                assert!(steps < 10);
            }
        }
        assert_eq!(self.tree.now(), &Names::new(), "a node was left behind");
        self.faults
    }
}

#[test]
fn a_mutex_is_held_by_one_with_growing_tokens() {
    let rule = Rule::NobodyBefore(&["__WRIT__"]);
    let faults: u64 = (1..100).map(|seed| World::new(seed, 4, [rule; 2], false).run()).sum();
    assert!(faults > 5_000, "{faults}");
}

#[test]
fn readers_share_and_writers_do_not() {
    let rules = [Rule::NobodyBefore(&["__WRIT__", "__READ__"]), Rule::NobodyBefore(&["__WRIT__"])];
    for seed in 1..100 {
        World::new(seed, 5, rules, true).run();
    }
}

#[test]
fn there_are_never_more_leases_than_allowed() {
    // One at a time is in the line without a lease, as the line of turns before it sees to.
    for seed in 1..100 {
        World::new(seed, 3, [Rule::AtMost(2); 2], false).run();
    }
}
