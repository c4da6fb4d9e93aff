//! Who waits to hear of which path: the data table and the child table.
//!
//! What always holds: the entry of a path says who watches it and how; the paths listed for a watcher are a superset of those
//! that name it, so that a connection that ends is forgotten at once. Firing moves a path's one-shot watchers out as a set and
//! leaves the second listing to [`WatchTables::settle`], once per watcher as its event is delivered. So a write costs the same
//! whether one connection waits for it or 100,000, and however many levels are above its path.
//!
//! Counterpart in the original: `WatchManager`.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use rookeeper_proto::event::{EventType, WatcherType};

use crate::change::Change;
use crate::path_trie::PathTrie;
use crate::segmented_table::SegmentedTable;
use crate::watched_paths::WatchedPaths;
pub use crate::watcher_set::{WatcherId, WatcherSet};

/// What a watch costs besides its path, about: its place in the two listings.
const WATCH_BYTES: usize = 64;

/// What a watched path costs besides its characters, about: the allocation, and its place in the table.
const PATH_BYTES: usize = 96;

/// What is being registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchKind {
    /// Fires once, for a node's creation, deletion or data.
    Data,
    /// Fires once, for a node's children or deletion.
    Child,
    /// Fires for all of that until it is removed.
    Persistent,
    /// Fires for creations, deletions and data of a node and all below it until it is removed.
    PersistentRecursive,
}

/// An event and whom it goes to.
#[derive(Debug)]
pub struct Fired {
    pub event_type: EventType,
    pub path: Arc<str>,
    pub watchers: WatcherSet,
}

/// Modes of one watcher on one path, of those who have more than the one-shot mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Modes {
    standard: bool,
    persistent: bool,
    recursive: bool,
}

/// The watchers of a path. Nobody is in both parts.
#[derive(Debug, Default)]
struct Watchers {
    /// Those who have the one-shot mode only.
    standard: WatcherSet,
    /// The others. `None` where there are none.
    lasting: Option<Box<HashMap<WatcherId, Modes, FixedState>>>,
}

impl Watchers {
    fn len(&self) -> usize {
        self.standard.len() + self.lasting.as_ref().map_or(0, |lasting| lasting.len())
    }

    fn modes(&self, watcher: WatcherId) -> Modes {
        match self.lasting.as_ref().and_then(|lasting| lasting.get(&watcher)) {
            Some(modes) => *modes,
            None => Modes { standard: self.standard.contains(watcher), ..Modes::default() },
        }
    }

    fn set_modes(&mut self, watcher: WatcherId, modes: Modes) {
        if modes.persistent || modes.recursive {
            self.standard.remove(watcher);
            self.lasting.get_or_insert_default().insert(watcher, modes);
            return;
        }
        if let Some(lasting) = &mut self.lasting {
            lasting.remove(&watcher);
            if lasting.is_empty() {
                self.lasting = None;
            }
        }
        if modes.standard {
            self.standard.insert(watcher);
        } else {
            self.standard.remove(watcher);
        }
    }
}

#[derive(Debug)]
struct Table {
    by_path: SegmentedTable<(Arc<str>, Watchers)>,
    /// At least the paths that name the watcher.
    by_watcher: HashMap<WatcherId, WatchedPaths, FixedState>,
    /// What the paths take, about. What the lists of watchers take is in `listed`.
    bytes: usize,
    /// Entries of all lists in `by_watcher`.
    listed: usize,
    /// Pairs of path and watcher.
    watches: usize,
    /// Who watches recursively, by path.
    recursive: PathTrie<WatcherSet>,
    hasher: FixedState,
}

impl Table {
    fn new(seed: u64) -> Table {
        let hasher = FixedState::with_seed(seed);
        Table {
            by_path: SegmentedTable::new(),
            by_watcher: HashMap::default(),
            bytes: 0,
            listed: 0,
            watches: 0,
            recursive: PathTrie::new(seed),
            hasher,
        }
    }

    fn modes(&self, path: &str, watcher: WatcherId) -> Modes {
        let found = self.by_path.find(self.hash(path), |(other, _)| **other == *path);
        found.map(|(_, watchers)| watchers.modes(watcher)).unwrap_or_default()
    }

    fn hash(&self, path: &str) -> u64 {
        self.hasher.hash_one(path)
    }

    /// Forgets a path that nobody watches any more.
    fn forget(&mut self, hash: u64, path: &str) {
        self.by_path.remove(hash, |(other, _)| **other == *path);
        self.bytes -= path.len() + PATH_BYTES;
    }

    /// Changes the modes of a watcher on a path. True if that made a difference.
    fn change(&mut self, path: &str, watcher: WatcherId, change: impl FnOnce(&mut Modes)) -> bool {
        let before = self.modes(path, watcher);
        let mut after = before;
        change(&mut after);
        if after == before {
            return false;
        }
        let hash = self.hash(path);
        let bytes = &mut self.bytes;
        let (key, watchers) = self.by_path.find_or_insert_with(
            hash,
            |(other, _)| **other == *path,
            || {
                *bytes += path.len() + PATH_BYTES;
                (Arc::from(path), Watchers::default())
            },
        );
        watchers.set_modes(watcher, after);
        let key = key.clone();
        if watchers.len() == 0 {
            self.forget(hash, path);
        }
        if before == Modes::default() {
            self.watches += 1;
            let hasher = &self.hasher;
            let listed = self.by_watcher.entry(watcher).or_insert_with(|| WatchedPaths::new(hasher.clone()));
            // It is there already where an event of it is still to be delivered.
            let before = listed.len();
            listed.insert(key);
            self.listed += listed.len() - before;
        }
        if after.recursive != before.recursive {
            self.set_recursive(path, watcher, after.recursive);
        }
        if before != Modes::default() && after == Modes::default() {
            self.watches -= 1;
            self.unlist(path, watcher);
        }
        true
    }

    fn set_recursive(&mut self, path: &str, watcher: WatcherId, recursive: bool) {
        if let Some(bytes) = self.by_watcher.get_mut(&watcher).map(WatchedPaths::recursive_bytes_mut) {
            let weight = PathTrie::<WatcherSet>::bytes_of(path);
            *bytes = if recursive { *bytes + weight } else { bytes.saturating_sub(weight) };
        }
        if recursive {
            // What is no node's path is above none.
            if let Some(watchers) = self.recursive.get_or_insert_with(path, WatcherSet::new) {
                watchers.insert(watcher);
            }
        } else if let Some(watchers) = self.recursive.get_mut(path) {
            watchers.remove(watcher);
            if watchers.is_empty() {
                self.recursive.remove(path);
            }
        }
    }

    fn unlist(&mut self, path: &str, watcher: WatcherId) {
        if let Some(listed) = self.by_watcher.get_mut(&watcher) {
            let before = listed.len();
            listed.remove(path);
            self.listed -= before - listed.len();
            if listed.is_empty() {
                self.by_watcher.remove(&watcher);
            }
        }
    }

    /// Forgets up to `limit` paths of a watcher. Returns how many there were.
    fn remove_some_of(&mut self, watcher: WatcherId, limit: usize) -> usize {
        for removed in 0..limit {
            let Some(path) = self.by_watcher.get(&watcher).and_then(WatchedPaths::last).cloned() else {
                return removed;
            };
            // A path that fired and was not settled is listed only.
            if !self.change(&path, watcher, |modes| *modes = Modes::default()) {
                self.unlist(&path, watcher);
            }
        }
        limit
    }

    /// Everybody who is to hear of an event at a path. One-shot modes there are used up.
    fn fire(&mut self, node_path: &str) -> WatcherSet {
        let mut fired = WatcherSet::new();
        let hash = self.hash(node_path);
        if let Some((_, watchers)) = self.by_path.find_mut(hash, |(other, _)| **other == *node_path) {
            fired = std::mem::take(&mut watchers.standard);
            self.watches -= fired.len();
            for (watcher, modes) in watchers.lasting.iter_mut().flat_map(|lasting| lasting.iter_mut()) {
                modes.standard = false;
                fired.insert(*watcher);
            }
            if watchers.len() == 0 {
                self.forget(hash, node_path);
            }
        }
        self.recursive.for_each_at_or_above(node_path, |watchers| {
            for watcher in watchers.iter() {
                fired.insert(watcher);
            }
        });
        fired
    }

    fn settle(&mut self, path: &str, watcher: WatcherId) {
        if self.modes(path, watcher) == Modes::default() {
            self.unlist(path, watcher);
        }
    }
}

/// All watches of a server.
#[derive(Debug)]
pub struct WatchTables {
    data: Table,
    child: Table,
}

impl Default for WatchTables {
    fn default() -> Self {
        WatchTables::new()
    }
}

impl WatchTables {
    /// For tests and tools, whose paths nobody chooses to collide.
    pub fn new() -> WatchTables {
        WatchTables::with_seed(0)
    }

    /// Paths come from clients, see [`crate::Tree::with_seed`].
    pub fn with_seed(seed: u64) -> WatchTables {
        WatchTables { data: Table::new(seed), child: Table::new(seed) }
    }

    /// Registers a watch. Doing so twice is the same as once.
    pub fn add(&mut self, kind: WatchKind, path: &str, watcher: WatcherId) {
        match kind {
            WatchKind::Data => self.data.change(path, watcher, |modes| modes.standard = true),
            WatchKind::Child => self.child.change(path, watcher, |modes| modes.standard = true),
            WatchKind::Persistent => {
                self.data.change(path, watcher, |modes| modes.persistent = true);
                self.child.change(path, watcher, |modes| modes.persistent = true)
            }
            WatchKind::PersistentRecursive => self.data.change(path, watcher, |modes| modes.recursive = true),
        };
    }

    /// Whether there is such a watch.
    pub fn contains(&self, watcher_type: WatcherType, path: &str, watcher: WatcherId) -> bool {
        let (data, child) = (self.data.modes(path, watcher), self.child.modes(path, watcher));
        match watcher_type {
            WatcherType::Children => child.standard,
            WatcherType::Data => data.standard,
            WatcherType::Any => data != Modes::default() || child != Modes::default(),
            WatcherType::Persistent => data.persistent,
            WatcherType::PersistentRecursive => data.recursive,
        }
    }

    /// Takes such watches away. False if there were none.
    pub fn remove(&mut self, watcher_type: WatcherType, path: &str, watcher: WatcherId) -> bool {
        match watcher_type {
            WatcherType::Children => self.child.change(path, watcher, |modes| modes.standard = false),
            WatcherType::Data => self.data.change(path, watcher, |modes| modes.standard = false),
            WatcherType::Any => {
                let data = self.data.change(path, watcher, |modes| *modes = Modes::default());
                self.child.change(path, watcher, |modes| *modes = Modes::default()) || data
            }
            WatcherType::Persistent => {
                let data = self.data.change(path, watcher, |modes| modes.persistent = false);
                self.child.change(path, watcher, |modes| modes.persistent = false) || data
            }
            WatcherType::PersistentRecursive => self.data.change(path, watcher, |modes| modes.recursive = false),
        }
    }

    /// The connection is gone: forgets up to `limit` of its paths and says whether that was all. Nothing may be registered for the watcher meanwhile.
    pub fn remove_some_of(&mut self, watcher: WatcherId, limit: usize) -> bool {
        let removed = self.data.remove_some_of(watcher, limit);
        removed < limit && removed + self.child.remove_some_of(watcher, limit - removed) < limit
    }

    /// What a change fires, in order: nobody is in two events for the same deletion. Takes time in proportion to the persistent
    /// watchers only, except that a deletion looks through the smaller of the two sets it fires.
    pub fn trigger(&mut self, change: &Change) -> impl Iterator<Item = Fired> + use<> {
        let (first, second) = match change.kind {
            EventType::NodeCreated | EventType::NodeDataChanged => (self.data.fire(&change.path), WatcherSet::new()),
            EventType::NodeChildrenChanged => (self.child.fire(&change.path), WatcherSet::new()),
            EventType::NodeDeleted => {
                let data = self.data.fire(&change.path);
                let mut child = self.child.fire(&change.path);
                child.subtract(&data);
                (data, child)
            }
        };
        let (event_type, path) = (change.kind, change.path.clone());
        let sets = [first, second].into_iter().filter(|watchers| !watchers.is_empty());
        sets.map(move |watchers| Fired { event_type, path: path.clone(), watchers })
    }

    /// The event of `fired` was delivered to the watcher, or is not going to be. Call it once for each; a watch that was
    /// registered again meanwhile stays.
    pub fn settle(&mut self, watcher: WatcherId, fired: &Fired) {
        self.data.settle(&fired.path, watcher);
        self.child.settle(&fired.path, watcher);
    }

    /// Pairs of path and watcher, over both tables.
    pub fn watch_count(&self) -> usize {
        self.data.watches + self.child.watches
    }

    /// How many paths a watcher waits for, at least those in the two tables together.
    pub fn path_count_of(&self, watcher: WatcherId) -> usize {
        let listed = |table: &Table| table.by_watcher.get(&watcher).map_or(0, WatchedPaths::len);
        listed(&self.data) + listed(&self.child)
    }

    /// What all watches take, about.
    pub fn bytes(&self) -> usize {
        let bytes = |table: &Table| table.bytes + table.listed * WATCH_BYTES + table.recursive.bytes();
        bytes(&self.data) + bytes(&self.child)
    }

    /// What the watches of one watcher would take, about, if nobody else watched the same paths.
    pub fn bytes_of(&self, watcher: WatcherId) -> usize {
        let cost = |paths: &WatchedPaths| {
            paths.path_bytes() + paths.len() * (PATH_BYTES + WATCH_BYTES) + paths.recursive_bytes()
        };
        let listed = |table: &Table| table.by_watcher.get(&watcher).map_or(0, cost);
        listed(&self.data) + listed(&self.child)
    }

    /// Pairs of path and watcher in the data table, which is what the four-letter words show.
    pub fn data_watch_count(&self) -> usize {
        self.data.watches
    }

    /// Paths in the data table.
    pub fn path_count(&self) -> usize {
        self.data.by_path.len()
    }

    /// Watchers in the data table, those included whose last event is still on its way.
    pub fn connection_count(&self) -> usize {
        self.data.by_watcher.len()
    }

    /// Everybody in the data table.
    pub fn watchers(&self) -> Vec<WatcherId> {
        self.data.by_watcher.keys().copied().collect()
    }

    /// Looks through a watcher's paths in the data table from the end, at most `limit` of them, beginning below position `end`; the first
    /// look begins at `usize::MAX`. Returns where the next one begins, 0 when nothing is left. Every path that is watched all the time is
    /// met, some more than once.
    pub fn look_through(&self, watcher: WatcherId, end: usize, limit: usize, mut met: impl FnMut(&Arc<str>)) -> usize {
        let Some(paths) = self.data.by_watcher.get(&watcher) else { return 0 };
        let end = end.min(paths.len());
        let portion = paths.before(end, limit);
        let next = end - portion.len();
        for path in portion.filter(|path| self.data.modes(path, watcher) != Modes::default()) {
            met(path);
        }
        next
    }
}
