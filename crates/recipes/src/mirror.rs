//! A node, or a subtree, as it is on the servers, without IO: from events and answers to whole trees.
//!
//! What always holds: [`Mirror::tree`] is the tree as it was at one moment. A watch event reaches a client before any answer that shows the change; so when
//! all that was asked is answered, and no event is there, nothing has changed between the first answer and the last. A tree that never holds still
//! is the one exception: better told as it was read than never.

use std::collections::{BTreeMap, BTreeSet};

/// A tree that changes during so many readings in a row is told as it was read.
const RESTLESS_READINGS: u32 = 100;

/// How much below a path is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The node alone.
    Node,
    /// The node and all below it.
    Subtree,
}

/// The content of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub data: Vec<u8>,
    /// How often its data has changed.
    pub version: i32,
    /// The zxid of its creation.
    pub created: i64,
    /// The zxid of the last change of its data.
    pub changed: i64,
}

/// The nodes of a tree by their paths below its root, whose own is empty: `""`, `"a"`, `"a/b"`. Empty where the root does not exist.
pub type Tree = BTreeMap<String, Node>;

/// What has to be asked about one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    /// Below the root.
    pub(crate) path: String,
    /// In a walk, which goes on to its children; otherwise for its data alone.
    pub(crate) is_walk: bool,
    /// For the names of its children too.
    pub(crate) with_children: bool,
}

/// What became of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Happened {
    /// It was created, or its data changed.
    Written,
    Deleted,
}

#[derive(Debug)]
pub(crate) struct Mirror {
    scope: Scope,
    tree: Tree,
    /// Nodes whose data has to be read.
    written: BTreeSet<String>,
    /// Nodes whose data and children have to be read, because nothing is known about what happened below them.
    unwalked: BTreeSet<String>,
    /// What was found by the walk that is under way.
    found: Option<BTreeSet<String>>,
    /// How often in a row something had to be read again.
    readings: u32,
}

impl Mirror {
    pub(crate) fn new(scope: Scope) -> Mirror {
        Mirror {
            scope,
            tree: Tree::new(),
            written: BTreeSet::new(),
            unwalked: BTreeSet::new(),
            found: None,
            readings: 0,
        }
    }

    /// Events may have been missed, and from now on none is: all has to be read again.
    pub(crate) fn begin(&mut self) {
        self.written.clear();
        self.unwalked = BTreeSet::from([String::new()]);
        self.found = Some(BTreeSet::new());
        self.readings = 0;
    }

    /// An event came for a path below the root.
    pub(crate) fn event(&mut self, path: &str, happened: Happened) {
        match happened {
            Happened::Written => {
                self.written.insert(path.to_owned());
            }
            Happened::Deleted => self.gone(path),
        }
    }

    /// All that has to be asked now; to be asked again until it is answered.
    pub(crate) fn asks(&mut self) -> Vec<Ask> {
        let with_children = self.scope == Scope::Subtree;
        let walk = self.unwalked.iter().map(|path| Ask { path: path.clone(), is_walk: true, with_children });
        let again = self.written.difference(&self.unwalked);
        let reads = again.map(|path| Ask { path: path.clone(), is_walk: false, with_children: false });
        let asks: Vec<Ask> = walk.chain(reads).collect();
        self.readings += u32::from(!asks.is_empty() && self.unwalked.is_empty());
        asks
    }

    /// The answer to an ask; nothing is a node that does not exist.
    pub(crate) fn answer(&mut self, ask: &Ask, answer: Option<(Node, Vec<String>)>) {
        self.written.remove(&ask.path);
        // An answer about the data alone ends no walk that came to this node meanwhile.
        let is_walk = ask.is_walk && self.unwalked.remove(&ask.path);
        let Some((node, children)) = answer else { return self.gone(&ask.path) };
        if is_walk {
            self.unwalked.extend(children.into_iter().map(|name| below(&ask.path, &name)));
        }
        if let Some(found) = &mut self.found {
            found.insert(ask.path.clone());
        }
        self.tree.insert(ask.path.clone(), node);
    }

    /// The tree, when every node was looked at, and nothing has changed since or something changes all the time.
    pub(crate) fn tree(&mut self) -> Option<&Tree> {
        let is_still = self.written.is_empty() || self.readings > RESTLESS_READINGS;
        if !self.unwalked.is_empty() || !is_still {
            return None;
        }
        self.readings = 0;
        if let Some(found) = self.found.take() {
            self.tree.retain(|path, _| found.contains(path));
        }
        Some(&self.tree)
    }

    /// The node has gone, and with it all that was below it.
    fn gone(&mut self, path: &str) {
        let is_gone = |other: &String| {
            path.is_empty() || other == path || other.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
        };
        self.tree.retain(|other, _| !is_gone(other));
        self.written.retain(|other| !is_gone(other));
        self.unwalked.retain(|other| !is_gone(other));
        if let Some(found) = &mut self.found {
            found.retain(|other| !is_gone(other));
        }
    }
}

fn below(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(data: &str) -> Node {
        Node { data: data.as_bytes().to_vec(), version: 0, created: 1, changed: 1 }
    }

    /// Servers as a mirror sees them: each change leaves an event, which comes before any answer that shows it.
    #[derive(Default)]
    struct Servers {
        tree: Tree,
        events: Vec<(String, Happened)>,
    }

    impl Servers {
        fn write(&mut self, path: &str, data: &str) {
            self.tree.insert(path.to_owned(), node(data));
            self.events.push((path.to_owned(), Happened::Written));
        }

        fn delete(&mut self, path: &str) {
            let is_below =
                |other: &&String| path.is_empty() || **other == path || other.starts_with(&format!("{path}/"));
            let mut gone: Vec<String> = self.tree.keys().filter(is_below).cloned().collect();
            // Leaves go first.
            gone.sort_by_key(|path| std::cmp::Reverse(path.len()));
            for path in gone {
                self.tree.remove(&path);
                self.events.push((path, Happened::Deleted));
            }
        }

        fn answer(&self, ask: &Ask) -> Option<(Node, Vec<String>)> {
            let node = self.tree.get(&ask.path)?.clone();
            let is_child = |other: &&String| {
                let name = if ask.path.is_empty() {
                    Some(other.as_str())
                } else {
                    other.strip_prefix(&format!("{}/", ask.path))
                };
                name.is_some_and(|name| !name.is_empty() && !name.contains('/'))
            };
            let children = self.tree.keys().filter(is_child);
            let names = children.map(|path| path.rsplit('/').next().unwrap_or(path).to_owned());
            Some((node, if ask.with_children { names.collect() } else { Vec::new() }))
        }

        /// Until the mirror has nothing to ask, with a change between any two answers as `disturb` likes.
        fn settle(&mut self, mirror: &mut Mirror, mut disturb: impl FnMut(&mut Servers)) {
            loop {
                for (path, happened) in self.events.drain(..) {
                    mirror.event(&path, happened);
                }
                let asks = mirror.asks();
                if asks.is_empty() {
                    return;
                }
                for ask in asks {
                    let answer = self.answer(&ask);
                    mirror.answer(&ask, answer);
                    disturb(self);
                }
            }
        }
    }

    #[test]
    fn a_walk_finds_all_and_events_keep_it_true() {
        let mut servers = Servers::default();
        for path in ["", "a", "a/b", "c"] {
            servers.write(path, path);
        }
        servers.events.clear();
        let mut mirror = Mirror::new(Scope::Subtree);
        mirror.begin();
        assert_eq!(mirror.tree(), None);
        servers.settle(&mut mirror, |_| {});
        assert_eq!(mirror.tree(), Some(&servers.tree));
        servers.write("a/d", "new");
        servers.write("c", "other");
        servers.delete("a/b");
        servers.settle(&mut mirror, |_| {});
        assert_eq!(mirror.tree(), Some(&servers.tree));
        servers.delete("");
        servers.settle(&mut mirror, |_| {});
        assert_eq!(mirror.tree(), Some(&Tree::new()));
    }

    #[test]
    fn what_went_without_an_event_is_missed_by_the_next_walk() {
        let mut servers = Servers::default();
        for path in ["", "a", "a/b", "c"] {
            servers.write(path, path);
        }
        let mut mirror = Mirror::new(Scope::Subtree);
        mirror.begin();
        servers.settle(&mut mirror, |_| {});
        servers.delete("a");
        servers.write("e", "came");
        servers.events.clear();
        mirror.begin();
        servers.settle(&mut mirror, |_| {});
        assert_eq!(mirror.tree(), Some(&servers.tree));
    }

    #[test]
    fn a_node_alone_has_no_children() {
        let mut servers = Servers::default();
        servers.write("", "root");
        servers.write("a", "child");
        let root = Tree::from([(String::new(), node("root"))]);
        servers.events.clear();
        let mut mirror = Mirror::new(Scope::Node);
        mirror.begin();
        servers.settle(&mut mirror, |_| {});
        assert_eq!(mirror.tree(), Some(&root));
    }

    #[test]
    fn a_tree_that_never_holds_still_is_told_all_the_same() {
        let mut servers = Servers::default();
        servers.write("", "0");
        servers.events.clear();
        let mut mirror = Mirror::new(Scope::Node);
        mirror.begin();
        let mut told = Vec::new();
        for round in 0..250 {
            for (path, happened) in servers.events.drain(..) {
                mirror.event(&path, happened);
            }
            let asks = mirror.asks();
            told.extend(mirror.tree().map(|_| round));
            for ask in asks {
                servers.write("", &round.to_string());
                mirror.answer(&ask, servers.answer(&ask));
            }
        }
        assert_eq!(told, [101, 202], "each time after a hundred readings");
    }

    /// Whatever changes between any two answers: in the end the mirror shows what is there.
    #[test]
    fn changes_between_the_answers_are_not_lost() {
        let names = ["", "a", "a/b", "a/b/c", "d"];
        for seed in 0..2_000_u64 {
            let mut state = seed;
            let mut random = move |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % below
            };
            let mut servers = Servers::default();
            for path in names {
                servers.write(path, path);
            }
            let mut mirror = Mirror::new(Scope::Subtree);
            for _ in 0..3 {
                // A connection was lost: its events too.
                servers.events.clear();
                mirror.begin();
                let mut changes = 12;
                servers.settle(&mut mirror, |servers| {
                    if changes == 0 || random(2) == 0 {
                        return;
                    }
                    changes -= 1;
                    let path = names[random(names.len() as u64) as usize];
                    if random(2) == 0 {
                        servers.delete(path);
                    } else {
                        // A node needs its parents.
                        for end in path.match_indices('/').map(|(end, _)| end).chain([0]) {
                            if !servers.tree.contains_key(&path[..end]) {
                                servers.write(&path[..end], "parent");
                            }
                        }
                        servers.write(path, &changes.to_string());
                    }
                });
                assert_eq!(mirror.tree(), Some(&servers.tree), "seed {seed}");
            }
        }
    }
}
