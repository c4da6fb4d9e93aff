//! One test per sentence of the rules for watches.

use std::sync::Arc;

use proptest::prelude::*;
use rookeeper_proto::Acl;
use rookeeper_proto::event::EventType::{self, NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted};
use rookeeper_proto::event::WatcherType;
use rookeeper_tree::WatchKind::{Child, Data, Persistent, PersistentRecursive};
use rookeeper_tree::{AccessList, Change, Fired, WatchKind, WatchTables, WatcherId};

const A: WatcherId = WatcherId(1);
const B: WatcherId = WatcherId(2);

fn change(kind: EventType, path: &str) -> Change {
    Change { kind, path: path.into(), acl: Arc::new(AccessList::new(Acl::open(), 0)) }
}

/// Events of one change as (type, path, sorted watchers); everything is delivered at once.
fn fire(tables: &mut WatchTables, kind: EventType, path: &str) -> Vec<(EventType, String, Vec<u64>)> {
    let fired: Vec<Fired> = tables.trigger(&change(kind, path)).collect();
    let events = fired.iter().map(|fired| {
        let mut watchers: Vec<_> = fired.watchers.iter().map(|watcher| watcher.0).collect();
        watchers.sort_unstable();
        watchers.iter().for_each(|watcher| tables.settle(WatcherId(*watcher), fired));
        (fired.event_type, fired.path.to_string(), watchers)
    });
    events.collect()
}

fn tables(watches: &[(WatchKind, &str, WatcherId)]) -> WatchTables {
    let mut tables = WatchTables::new();
    for (kind, path, watcher) in watches {
        tables.add(*kind, path, *watcher);
    }
    tables
}

fn event(kind: EventType, path: &str, watchers: &[u64]) -> Vec<(EventType, String, Vec<u64>)> {
    vec![(kind, path.to_owned(), watchers.to_vec())]
}

#[test]
fn each_change_fires_the_lookups_of_its_kind() {
    let cases: [(EventType, &[WatchKind]); 4] = [
        (NodeCreated, &[Data, Persistent, PersistentRecursive]),
        (NodeDataChanged, &[Data, Persistent, PersistentRecursive]),
        (NodeDeleted, &[Data, Child, Persistent, PersistentRecursive]),
        (NodeChildrenChanged, &[Child, Persistent]),
    ];
    for (change, fires) in cases {
        for kind in [Data, Child, Persistent, PersistentRecursive] {
            let expected = if fires.contains(&kind) { event(change, "/n", &[1]) } else { vec![] };
            assert_eq!(fire(&mut tables(&[(kind, "/n", A)]), change, "/n"), expected, "{kind:?} {change:?}");
        }
    }
}

#[test]
fn a_standard_watch_is_used_up_and_persistent_ones_stay() {
    for (kind, again) in [(Data, 0), (Persistent, 1), (PersistentRecursive, 1)] {
        let mut tables = tables(&[(kind, "/n", A)]);
        assert_eq!(fire(&mut tables, NodeDataChanged, "/n").len(), 1);
        assert_eq!(fire(&mut tables, NodeDataChanged, "/n").len(), again, "{kind:?}");
    }
}

#[test]
fn only_the_standard_mode_of_a_watcher_with_several_is_used_up() {
    let mut tables = tables(&[(Data, "/n", A), (Persistent, "/n", A), (PersistentRecursive, "/n", A)]);
    assert!(tables.contains(WatcherType::Data, "/n", A));
    assert_eq!(fire(&mut tables, NodeCreated, "/n"), event(NodeCreated, "/n", &[1]), "one event however many match");
    assert!(!tables.contains(WatcherType::Data, "/n", A));
    assert!(tables.contains(WatcherType::Persistent, "/n", A));
    assert!(tables.contains(WatcherType::PersistentRecursive, "/n", A));
}

#[test]
fn recursive_watches_hear_of_every_depth_and_of_the_base_node_but_not_of_children_lists() {
    let mut tables = tables(&[(PersistentRecursive, "/a", A)]);
    for path in ["/a", "/a/b", "/a/b/c"] {
        for kind in [NodeCreated, NodeDataChanged, NodeDeleted] {
            assert_eq!(fire(&mut tables, kind, path), event(kind, path, &[1]));
        }
        assert_eq!(fire(&mut tables, NodeChildrenChanged, path), []);
    }
    assert_eq!(fire(&mut tables, NodeCreated, "/ab"), []);
    assert_eq!(fire(&mut tables, NodeCreated, "/"), []);
    tables.add(PersistentRecursive, "/", B);
    assert_eq!(fire(&mut tables, NodeCreated, "/a/b"), event(NodeCreated, "/a/b", &[1, 2]));
    assert_eq!(fire(&mut tables, NodeDataChanged, "/"), event(NodeDataChanged, "/", &[2]));
}

#[test]
fn a_standard_watch_below_a_recursive_one_gives_one_event() {
    let mut tables = tables(&[(PersistentRecursive, "/a", A), (PersistentRecursive, "/", A), (Data, "/a/b", A)]);
    assert_eq!(fire(&mut tables, NodeDataChanged, "/a/b"), event(NodeDataChanged, "/a/b", &[1]));
    assert!(!tables.contains(WatcherType::Any, "/a/b", A));
}

#[test]
fn deletion_of_a_node_with_both_watches_gives_one_event_and_uses_up_both() {
    let mut tables = tables(&[(Data, "/n", A), (Child, "/n", A), (Child, "/n", B)]);
    assert_eq!(
        fire(&mut tables, NodeDeleted, "/n"),
        [(NodeDeleted, "/n".to_owned(), vec![1]), (NodeDeleted, "/n".to_owned(), vec![2])]
    );
    assert_eq!((tables.watch_count(), tables.connection_count(), tables.path_count()), (0, 0, 0));
}

#[test]
fn a_persistent_watch_gives_one_event_for_a_deletion_and_survives_it() {
    let mut tables = tables(&[(Persistent, "/n", A)]);
    assert_eq!(fire(&mut tables, NodeDeleted, "/n"), event(NodeDeleted, "/n", &[1]));
    assert_eq!(fire(&mut tables, NodeCreated, "/n"), event(NodeCreated, "/n", &[1]));
}

#[test]
fn a_recursive_watch_does_not_double_the_event_of_a_child_watch() {
    let mut tables = tables(&[(PersistentRecursive, "/", A), (Child, "/n", A)]);
    assert_eq!(fire(&mut tables, NodeDeleted, "/n"), event(NodeDeleted, "/n", &[1]));
    assert!(!tables.contains(WatcherType::Children, "/n", A));
}

#[test]
fn paths_are_not_looked_up_and_registering_twice_is_registering_once() {
    let mut tables = tables(&[(Data, "", A), (Data, "no path", A), (Data, "no path", A)]);
    assert_eq!(tables.watch_count(), 2);
    assert_eq!(fire(&mut tables, NodeCreated, "no path").len(), 1);
    assert_eq!(tables.watch_count(), 1);
}

#[test]
fn types_of_watches_as_they_are_checked_and_removed() {
    use WatcherType::{
        Any, Children, Data as DataType, Persistent as PersistentType, PersistentRecursive as RecursiveType,
    };
    let all = [Children, DataType, Any, PersistentType, RecursiveType];
    let cases: [(WatchKind, &[WatcherType]); 4] = [
        (Data, &[DataType, Any]),
        (Child, &[Children, Any]),
        (Persistent, &[PersistentType, Any]),
        (PersistentRecursive, &[RecursiveType, Any]),
    ];
    for (kind, found_by) in cases {
        for watcher_type in all {
            let mut tables = tables(&[(kind, "/n", A), (kind, "/other", A), (kind, "/n", B)]);
            let found = found_by.contains(&watcher_type);
            assert_eq!(tables.contains(watcher_type, "/n", A), found, "{kind:?} {watcher_type:?}");
            assert_eq!(tables.remove(watcher_type, "/n", A), found, "{kind:?} {watcher_type:?}");
            assert_eq!(tables.contains(Any, "/n", A), !found);
            assert!(tables.contains(Any, "/other", A) && tables.contains(Any, "/n", B));
            assert!(!tables.remove(watcher_type, "/missing", A) && !tables.remove(watcher_type, "/n", WatcherId(9)));
        }
    }
}

#[test]
fn removing_persistent_takes_both_tables_and_leaves_the_other_modes() {
    let mut tables = tables(&[(Persistent, "/n", A), (Data, "/n", A), (Child, "/n", A)]);
    assert!(tables.remove(WatcherType::Persistent, "/n", A));
    assert!(tables.contains(WatcherType::Data, "/n", A) && tables.contains(WatcherType::Children, "/n", A));
    assert_eq!(tables.watch_count(), 2);
    assert_eq!(fire(&mut tables, NodeDataChanged, "/n").len(), 1);
    assert_eq!(fire(&mut tables, NodeDataChanged, "/n").len(), 0);
}

#[test]
fn a_removed_recursive_watch_no_longer_fires() {
    let mut tables = tables(&[(PersistentRecursive, "/a", A)]);
    assert!(tables.remove(WatcherType::PersistentRecursive, "/a", A));
    assert_eq!(fire(&mut tables, NodeCreated, "/a/b"), []);
}

#[test]
fn a_connection_takes_its_watches_with_it() {
    let mut tables = tables(&[(Data, "/n", A), (Child, "/n", A), (Persistent, "/p", A), (PersistentRecursive, "/", A)]);
    tables.add(Data, "/n", B);
    assert!(tables.remove_some_of(A, usize::MAX));
    assert_eq!(fire(&mut tables, NodeDeleted, "/n"), event(NodeDeleted, "/n", &[2]));
    assert_eq!(fire(&mut tables, NodeDeleted, "/p"), []);
    assert_eq!((tables.watch_count(), tables.path_count(), tables.connection_count()), (0, 0, 0));
}

#[test]
fn a_watch_registered_before_its_last_event_was_delivered_stays() {
    let mut tables = tables(&[(Data, "/n", A), (Data, "/n", B)]);
    let fired: Vec<Fired> = tables.trigger(&change(NodeDataChanged, "/n")).collect();
    assert_eq!(tables.connection_count(), 2, "still on their way");
    tables.add(Data, "/n", A);
    tables.settle(A, &fired[0]);
    tables.settle(B, &fired[0]);
    assert_eq!((tables.connection_count(), tables.watch_count()), (1, 1));
    assert!(tables.remove_some_of(A, usize::MAX));
    assert_eq!(fire(&mut tables, NodeDataChanged, "/n"), [], "the second listing knew of it");
}

/// Looked through in portions.
fn paths_of(tables: &WatchTables, watcher: WatcherId, portion: usize) -> Vec<String> {
    let (mut paths, mut end) = (Vec::new(), usize::MAX);
    while end > 0 {
        end = tables.look_through(watcher, end, portion, |path| paths.push(path.to_string()));
    }
    paths.sort();
    paths
}

#[test]
fn a_look_in_portions_meets_what_is_watched_all_the_time() {
    let mut tables = WatchTables::with_seed(3);
    (0..1000).for_each(|number| tables.add(Data, &format!("/{number}"), A));
    let (mut met, mut end, mut round) = (std::collections::BTreeSet::new(), usize::MAX, 0);
    while end > 0 {
        end = tables.look_through(A, end, 10, |path| {
            met.insert(path.to_string());
        });
        // From everywhere in the list, those met and those to come.
        for number in (0..1000).skip(round).step_by(101) {
            tables.remove(WatcherType::Data, &format!("/{number}"), A);
            tables.add(Data, &format!("/new{number}"), A);
        }
        round += 1;
    }
    let kept = (0..1000).map(|number| format!("/{number}"));
    let kept: Vec<_> = kept.filter(|path| tables.contains(WatcherType::Data, path, A)).collect();
    assert!(kept.len() < 300 && kept.iter().all(|path| met.contains(path)));
}

#[test]
fn a_watcher_is_forgotten_in_portions() {
    let mut tables = tables(&[(Data, "/n", B)]);
    for number in 0..10 {
        tables.add(Persistent, &format!("/{number}"), A);
        tables.add(PersistentRecursive, &format!("/{number}/r"), A);
    }
    let mut portions = 1;
    while !tables.remove_some_of(A, 7) {
        portions += 1;
    }
    assert_eq!((portions, tables.watch_count(), tables.path_count_of(A)), (5, 1, 0));
    assert_eq!(fire(&mut tables, NodeDataChanged, "/1/r/x"), []);
}

/// A look-up that hashes each ancestor from its beginning reads half a gigabyte here.
#[test]
fn an_event_deep_down_reads_its_path_once() {
    let mut path = String::new();
    let mut tables = WatchTables::new();
    for level in 0..30_000 {
        path.push_str("/a");
        if level % 10_000 == 0 {
            tables.add(PersistentRecursive, &path, WatcherId(level));
        }
    }
    for _ in 0..1000 {
        let fired = fire(&mut tables, NodeDataChanged, &path);
        assert_eq!(fired, [(NodeDataChanged, path.clone(), vec![0, 10_000, 20_000])]);
    }
}

#[test]
fn reports_cover_the_data_table() {
    let tables = tables(&[(Data, "/n", A), (Persistent, "/n", B), (Child, "/c", A), (PersistentRecursive, "/r", A)]);
    let mut watchers: Vec<_> =
        tables.watchers().into_iter().map(|watcher| (watcher.0, paths_of(&tables, watcher, 1))).collect();
    watchers.sort();
    assert_eq!(watchers, [(1, vec!["/n".to_owned(), "/r".to_owned()]), (2, vec!["/n".to_owned()])]);
    assert_eq!((tables.watch_count(), tables.data_watch_count()), (5, 3));
    assert_eq!((tables.path_count(), tables.connection_count()), (2, 2));
}

/// The rules as a list of registrations that is searched from end to end.
#[derive(Default)]
struct NaiveTables {
    watches: std::collections::BTreeSet<(bool, &'static str, u64, u8)>,
}

impl NaiveTables {
    fn add(&mut self, kind: WatchKind, path: &'static str, watcher: u64) {
        match kind {
            Data => self.watches.extend([(false, path, watcher, 0)]),
            Child => self.watches.extend([(true, path, watcher, 0)]),
            Persistent => self.watches.extend([(false, path, watcher, 1), (true, path, watcher, 1)]),
            PersistentRecursive => self.watches.extend([(false, path, watcher, 2)]),
        }
    }

    fn lookup(&mut self, child_table: bool, path: &str) -> std::collections::BTreeSet<u64> {
        let below = |base: &str| base == "/" || path.strip_prefix(base).is_some_and(|rest| rest.starts_with('/'));
        let found = self
            .watches
            .iter()
            .filter(|(table, base, _, mode)| *table == child_table && (*base == path || (*mode == 2 && below(base))));
        let found = found.map(|(_, _, watcher, _)| *watcher).collect();
        self.watches.retain(|(table, base, _, mode)| *table != child_table || *base != path || *mode != 0);
        found
    }

    fn fire(&mut self, kind: EventType, path: &str) -> Vec<(EventType, String, Vec<u64>)> {
        let data = if kind == NodeChildrenChanged { Default::default() } else { self.lookup(false, path) };
        let mut child = Default::default();
        if matches!(kind, NodeChildrenChanged | NodeDeleted) {
            child = self.lookup(true, path);
        }
        let child = &child - &data;
        let events = [data, child].into_iter().filter(|watchers| !watchers.is_empty());
        events.map(|watchers| (kind, path.to_owned(), watchers.into_iter().collect())).collect()
    }
}

proptest! {
    #[test]
    fn the_tables_follow_the_rules(
        steps in prop::collection::vec((0_u8..12, prop::sample::select(vec!["/", "/a", "/a/b", "/a/b/c", "/ab"]), 0_u64..40), 0..300),
    ) {
        let (mut tables, mut naive) = (WatchTables::with_seed(5), NaiveTables::default());
        for (action, path, watcher) in steps {
            let kinds = [Data, Child, Persistent, PersistentRecursive];
            let events = [NodeCreated, NodeDataChanged, NodeDeleted, NodeChildrenChanged];
            match action {
                0..=6 => {
                    // Mostly standard watches, so that sets grow beyond a few.
                    let kind = kinds[[0, 0, 0, 1, 1, 2, 3][action as usize]];
                    tables.add(kind, path, WatcherId(watcher));
                    naive.add(kind, path, watcher);
                }
                7..=8 => {
                    let kind = events[watcher as usize % 4];
                    prop_assert_eq!(fire(&mut tables, kind, path), naive.fire(kind, path));
                }
                9 => {
                    prop_assert!(tables.remove_some_of(WatcherId(watcher), usize::MAX));
                    naive.watches.retain(|(_, _, other, _)| *other != watcher);
                }
                10 => {
                    let removed = tables.remove(WatcherType::Data, path, WatcherId(watcher));
                    prop_assert_eq!(removed, naive.watches.remove(&(false, path, watcher, 0)));
                }
                _ => {
                    let removed = tables.remove(WatcherType::PersistentRecursive, path, WatcherId(watcher));
                    prop_assert_eq!(removed, naive.watches.remove(&(false, path, watcher, 2)));
                }
            }
            let pairs: std::collections::BTreeSet<_> =
                naive.watches.iter().map(|(table, path, watcher, _)| (*table, *path, *watcher)).collect();
            prop_assert_eq!(tables.watch_count(), pairs.len());
            let data: Vec<_> = pairs.iter().filter(|(table, ..)| !table).collect();
            let paths: std::collections::BTreeSet<_> = data.iter().map(|(_, path, _)| path).collect();
            let connections: std::collections::BTreeSet<_> = data.iter().map(|(_, _, watcher)| watcher).collect();
            prop_assert_eq!((tables.path_count(), tables.connection_count()), (paths.len(), connections.len()));
        }
    }
}

#[test]
fn the_path_of_an_event_is_shared_not_copied() {
    let mut tables = tables(&[(Data, "/n", A)]);
    let change = change(NodeCreated, "/n");
    let fired: Vec<Fired> = tables.trigger(&change).collect();
    assert!(Arc::ptr_eq(&fired[0].path, &change.path));
}
