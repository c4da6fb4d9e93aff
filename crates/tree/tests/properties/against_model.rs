//! The tree and the model agree after every transaction, and what the transaction answers and tells watchers follows from both.

use proptest::prelude::*;
use rookeeper_proto::event::EventType;
use rookeeper_proto::txn::{CreateKind, CreateTxn};
use rookeeper_proto::{Acl, SessionId, Txn, TxnHeader, Zxid, path};
use rookeeper_tree::{Change, Outcome, QuotaVerdict, Tree};

use crate::model::{Model, any_step, assert_consistent};

proptest! {
    #[test]
    fn the_tree_is_the_model(steps in prop::collection::vec(any_step(), 0..120), seed: u64) {
        let (mut tree, mut model) = (Tree::with_seed(seed), Model::new());
        for (session, operation) in steps {
            let Some(txn) = model.prepare(session, &operation) else { continue };
            let header = model.header(session);
            let before = model.clone();
            let mut changes = Vec::new();
            let outcome = tree.apply(&header, txn.clone(), &mut changes);
            model.apply(&header, &txn);

            assert_eq!(Model::of(&tree), model);
            assert_consistent(&tree);
            assert_outcome(&outcome, &txn, &tree);
            assert_changes(&changes, &before, &model);
        }
    }

    /// Whatever a log says, in whatever order: the sums hold and nothing panics.
    #[test]
    fn a_senseless_log_leaves_a_sound_tree(
        mut txns in prop::collection::vec((1_i64..4, any_txn()), 0..150),
        zxids in prop::collection::vec(1_i64..50, 150),
    ) {
        let mut tree = Tree::new();
        for ((session, txn), zxid) in txns.drain(..).zip(zxids) {
            let header = TxnHeader { session: SessionId(session), cxid: 0, zxid: Zxid(zxid), time_ms: zxid };
            tree.apply(&header, txn, &mut Vec::new());
            assert_consistent(&tree);
        }
        tree.finish_replay();
        assert_consistent(&tree);
    }
}

fn any_txn() -> impl Strategy<Value = Txn> {
    let paths = vec![
        "/a",
        "/a/b",
        "/a/b/c",
        "/b",
        "/b/",
        "//",
        "/",
        "",
        "a",
        "/zookeeper",
        "/zookeeper/quota/a",
        "/zookeeper/quota/a/zookeeper_limits",
        "/zookeeper/quota/a/zookeeper_stats",
        "/zookeeper/quota/zookeeper_limits",
    ];
    let any_path = move || prop::sample::select(paths.clone()).prop_map(str::to_owned);
    let data = || prop::option::of(prop::sample::select(vec!["", "garbage", "count=1,bytes=1"]).prop_map(Vec::from));
    let acl = || prop::sample::select(vec![None, Some(vec![]), Some(Acl::read_only())]);
    let kind = prop::sample::select(vec![
        CreateKind::Node { ephemeral: false, with_stat: true },
        CreateKind::Node { ephemeral: true, with_stat: false },
        CreateKind::Container,
        CreateKind::Ttl { ttl_ms: 7 },
    ]);
    prop_oneof![
        6 => (any_path(), data(), acl(), kind, prop::sample::select(vec![-1, 0, 1, 5, i32::MAX, i32::MIN])).prop_map(
            |(path, data, acl, kind, parent_cversion)| Txn::Create(CreateTxn { path, data, acl, kind, parent_cversion })),
        3 => any_path().prop_map(|path| Txn::Delete { path }),
        2 => (any_path(), data(), any::<i32>()).prop_map(|(path, data, version)| Txn::SetData { path, data, version }),
        1 => (any_path(), acl(), any::<i32>()).prop_map(|(path, acl, version)| Txn::SetAcl { path, acl, version }),
        1 => Just(Txn::CreateSession { timeout_ms: 1 }),
        1 => prop::option::of(prop::collection::vec(any_path(), 0..3)).prop_map(|paths| Txn::CloseSession { paths }),
    ]
}

fn assert_outcome(outcome: &Outcome, txn: &Txn, tree: &Tree) {
    match (txn, outcome) {
        (Txn::Create(create), Outcome::Created { path, stat }) => {
            assert_eq!(path, &create.path);
            assert_eq!(*stat, tree.node(path).unwrap().stat());
        }
        (Txn::SetData { path, .. } | Txn::SetAcl { path, .. }, Outcome::Changed(stat)) => {
            assert_eq!(*stat, tree.node(path).unwrap().stat());
        }
        (Txn::Delete { .. }, Outcome::Deleted)
        | (Txn::CreateSession { .. }, Outcome::SessionCreated)
        | (Txn::CloseSession { .. }, Outcome::SessionClosed) => {}
        (Txn::Error { code }, Outcome::Failed(answer)) => assert_eq!(code, answer),
        (Txn::Multi(members), Outcome::Multi(outcomes)) => {
            assert_eq!(members.len(), outcomes.len());
            let failing = members.iter().position(|member| matches!(member, Txn::Error { .. }));
            for (index, (member, outcome)) in members.iter().zip(outcomes).enumerate() {
                match (failing, member) {
                    (None, member) => assert_eq!(
                        std::mem::discriminant(outcome),
                        std::mem::discriminant(&match member {
                            Txn::Create(_) => Outcome::Created { path: String::new(), stat: Default::default() },
                            Txn::Delete { .. } => Outcome::Deleted,
                            _ => Outcome::Changed(Default::default()),
                        })
                    ),
                    (Some(_), Txn::Error { code }) => assert_eq!(*outcome, Outcome::Failed(*code)),
                    (Some(failing), _) => {
                        assert!(index < failing);
                        assert_eq!(*outcome, Outcome::Failed(0));
                    }
                }
            }
        }
        other => panic!("unexpected {other:?}"),
    }
}

/// Replaying the changes on the set of paths gives the new set; each creation and deletion is followed by its parent's change.
fn assert_changes(changes: &[Change], before: &Model, after: &Model) {
    let mut paths: std::collections::BTreeSet<_> = before.nodes.keys().cloned().collect();
    let mut changes = changes.iter();
    while let Some(change) = changes.next() {
        match change.kind {
            EventType::NodeCreated => assert!(paths.insert(change.path.to_string())),
            EventType::NodeDeleted => assert!(paths.remove(&*change.path)),
            EventType::NodeDataChanged => {
                assert!(paths.contains(&*change.path));
                continue;
            }
            EventType::NodeChildrenChanged => panic!("the parent's change follows its cause"),
        }
        let parent = changes.next().expect("the parent's change follows");
        assert_eq!(parent.kind, EventType::NodeChildrenChanged);
        assert_eq!(Some(&*parent.path), path::parent(&change.path));
    }
    assert_eq!(paths, after.nodes.keys().cloned().collect());
}

/// A tree and a counter of zxids, for the tests that tell one story each.
struct Story {
    tree: Tree,
    changes: Vec<Change>,
}

impl Story {
    fn new() -> Story {
        Story { tree: Tree::new(), changes: Vec::new() }
    }

    fn apply(&mut self, txn: Txn) -> Outcome {
        let zxid = Zxid(self.tree.last_zxid().0 + 1);
        self.changes.clear();
        self.tree.apply(&TxnHeader { session: SessionId(7), cxid: 0, zxid, time_ms: 50 }, txn, &mut self.changes)
    }

    fn create(&mut self, path: &str, data: &str, parent_cversion: i32) -> Outcome {
        let kind = CreateKind::Node { ephemeral: false, with_stat: false };
        let (path, data) = (path.to_owned(), Some(data.as_bytes().to_vec()));
        self.apply(Txn::Create(CreateTxn { path, data, acl: None, kind, parent_cversion }))
    }

    fn set(&mut self, path: &str, data: &[u8]) -> Outcome {
        self.apply(Txn::SetData { path: path.to_owned(), data: Some(data.to_vec()), version: 1 })
    }

    fn delete(&mut self, path: &str) -> Outcome {
        self.apply(Txn::Delete { path: path.to_owned() })
    }

    fn data(&self, path: &str) -> &str {
        std::str::from_utf8(self.tree.node(path).unwrap().data().unwrap()).unwrap()
    }
}

#[test]
fn the_counter_of_created_children_only_rises_and_sticks_at_its_maximum() {
    let mut story = Story::new();
    story.create("/p", "", -1);
    story.create("/p/old", "", -1);
    assert_eq!(story.tree.node("/p").unwrap().persisted().cversion, 1);
    story.create("/p/last", "", i32::MAX);
    let at_maximum = story.tree.node("/p").unwrap().persisted();
    story.create("/p/another", "", i32::MAX);
    story.create("/p/after", "", i32::MIN);
    story.create("/p/after2", "", -1);
    assert_eq!(story.tree.node("/p").unwrap().persisted(), at_maximum);
    assert_eq!(at_maximum.cversion, i32::MAX);
}

#[test]
fn replay_raises_the_parent_where_the_child_is_there_or_gone_already() {
    let mut story = Story::new();
    story.create("/p", "", -1);
    story.create("/p/c", "", 1);
    assert_eq!(story.create("/p/c", "", 4), Outcome::Failed(-110));
    let parent = story.tree.node("/p").unwrap().persisted();
    assert_eq!((parent.cversion, parent.pzxid), (4, Zxid(3)));
    assert_eq!(story.create("/p/c", "", 2), Outcome::Failed(-110));
    assert_eq!(story.tree.node("/p").unwrap().persisted(), parent);
    assert_eq!(story.delete("/p/missing"), Outcome::Failed(-101));
    assert_eq!(story.tree.node("/p").unwrap().persisted().pzxid, Zxid(5));
    assert!(story.changes.is_empty());
    assert_eq!(story.tree.last_zxid(), Zxid(5));
}

#[test]
fn replay_deletes_a_node_together_with_children_of_its_next_life() {
    let mut story = Story::new();
    for path in ["/p", "/p/c", "/p/c/d", "/p/e"] {
        story.create(path, "", -1);
    }
    assert_eq!(story.delete("/p"), Outcome::Deleted);
    assert_eq!((story.tree.node_count(), story.tree.node("/").unwrap().child_count()), (4, 1));
    assert_consistent(&story.tree);
}

#[test]
fn a_failed_multi_says_what_became_of_each_member() {
    let mut story = Story::new();
    let check = || Txn::Check { path: "/".to_owned(), version: 1 };
    let outcome = story.apply(Txn::Multi(vec![check(), Txn::Error { code: -103 }, check(), Txn::Error { code: -2 }]));
    assert_eq!(outcome, Outcome::Multi([0, -103, -2, -2].map(Outcome::Failed).into()));
    assert_eq!(story.apply(Txn::Multi(vec![check()])), Outcome::Multi(vec![Outcome::Checked]));
    assert_eq!(story.tree.last_zxid(), Zxid(2));
}

#[test]
fn closing_a_session_takes_the_listed_paths_and_what_it_still_owns() {
    let mut story = Story::new();
    let kind = CreateKind::Node { ephemeral: true, with_stat: false };
    story.apply(Txn::CreateSession { timeout_ms: 1 });
    for path in ["/listed", "/unlisted"] {
        let path = path.to_owned();
        story.apply(Txn::Create(CreateTxn { path, data: None, acl: None, kind, parent_cversion: -1 }));
    }
    let paths = Some(vec!["/gone".to_owned(), "/listed".to_owned()]);
    assert_eq!(story.apply(Txn::CloseSession { paths }), Outcome::SessionClosed);
    assert_eq!((story.tree.node_count(), story.tree.ephemeral_count(), story.tree.session_count()), (4, 0, 0));
    let deleted = story.changes.iter().filter(|change| change.kind == EventType::NodeDeleted);
    assert_eq!(deleted.map(|change| &*change.path).collect::<Vec<_>>(), ["/listed", "/unlisted"]);
}

fn story_with_quota(limits: &str) -> Story {
    let mut story = Story::new();
    story.create("/p", "12345", -1);
    story.create("/zookeeper/quota/p", "", -1);
    story.create("/zookeeper/quota/p/zookeeper_limits", limits, -1);
    story.create("/zookeeper/quota/p/zookeeper_stats", "count=99,bytes=99", -1);
    story
}

const STATS: &str = "/zookeeper/quota/p/zookeeper_stats";

#[test]
fn statistics_change_without_a_trace_but_their_length() {
    let mut story = story_with_quota("count=1,bytes=1");
    assert_eq!(story.data(STATS), "count=1,bytes=5");
    let before = story.tree.node(STATS).unwrap().persisted();
    story.create("/p/c", "0123456789", -1);
    assert_eq!(story.data(STATS), "count=2,bytes=15");
    assert_eq!(story.tree.node(STATS).unwrap().persisted(), before);
    assert_eq!(story.changes.len(), 2, "nobody hears of it");
    story.set("/p/c", b"");
    story.delete("/p/c");
    assert_eq!(story.data(STATS), "count=1,bytes=5");
}

#[test]
fn only_the_nearest_quota_counts_and_deleting_the_limits_ends_it() {
    let mut story = story_with_quota("count=1,bytes=1");
    story.create("/p/q", "", -1);
    story.create("/zookeeper/quota/p/q", "", -1);
    story.create("/zookeeper/quota/p/q/zookeeper_limits", "count=9,bytes=9", -1);
    story.create("/zookeeper/quota/p/q/zookeeper_stats", "", -1);
    story.create("/p/q/c", "abc", -1);
    assert_eq!(story.data("/zookeeper/quota/p/q/zookeeper_stats"), "count=2,bytes=3");
    assert_eq!(story.data(STATS), "count=1,bytes=5");
    story.delete("/zookeeper/quota/p/q/zookeeper_limits");
    story.create("/p/q/d", "d", -1);
    assert_eq!(story.data("/zookeeper/quota/p/q/zookeeper_stats"), "count=2,bytes=3");
    assert_eq!(story.data(STATS), "count=4,bytes=9");
    // What the inner quota counted is the outer one's again, and a replay changes nothing about that.
    assert_eq!(story.tree.finish_replay().recounted_quotas, 1);
    assert_eq!(story.data(STATS), "count=4,bytes=9");
}

#[test]
fn an_outer_quota_made_after_the_inner_one_counts_the_rest() {
    let mut story = Story::new();
    for (path, data) in [("/p", "1"), ("/p/q", "22"), ("/p/q/r", "333"), ("/p/s", "4444")] {
        story.create(path, data, -1);
    }
    for path in ["/p", "/p/q"] {
        story.create(&format!("/zookeeper/quota{path}"), "", -1);
    }
    for path in ["/p/q", "/p"] {
        story.create(&format!("/zookeeper/quota{path}/zookeeper_limits"), "count=9,bytes=9", -1);
        story.create(&format!("/zookeeper/quota{path}/zookeeper_stats"), "", -1);
    }
    let inner = "/zookeeper/quota/p/q/zookeeper_stats";
    assert_eq!((story.data(STATS), story.data(inner)), ("count=2,bytes=5", "count=2,bytes=5"));
    story.set("/p/q", b"");
    assert_eq!((story.data(STATS), story.data(inner)), ("count=2,bytes=5", "count=2,bytes=3"));
    story.tree.finish_replay();
    assert_eq!((story.data(STATS), story.data(inner)), ("count=2,bytes=5", "count=2,bytes=3"));
    let told: Vec<_> = story.tree.quotas_behind(Some("/p"), 5).into_iter().map(|quota| quota.path).collect();
    assert_eq!(told, ["/p/q"]);
    assert_eq!(story.tree.quotas_behind(None, 1)[0].count_used, Some(2));
}

#[test]
fn statistics_that_a_client_overwrites_show_what_is_used_all_the_same() {
    let mut story = story_with_quota("count=1,bytes=-1=;countHardLimit=1");
    for damage in [&b"garbage"[..], b"count=,bytes=99999999999999999999", b"\xff\xfe"] {
        story.set(STATS, damage);
        assert_eq!(story.data(STATS), "count=1,bytes=5");
        assert_eq!(story.tree.check_quota("/p/x", 0, 1), QuotaVerdict::HardExceeded);
        story.create("/p/x", "abc", -1);
        assert_eq!(story.data(STATS), "count=2,bytes=8");
        story.delete("/p/x");
    }
    story.apply(Txn::SetData { path: STATS.to_owned(), data: None, version: 0 });
    assert_eq!(story.data(STATS), "count=1,bytes=5");
}

#[test]
fn a_quota_is_exceeded_above_its_limit_not_at_it() {
    use QuotaVerdict::{HardExceeded, Ok, SoftExceeded, Unreadable};
    // /p itself counts: one node, five bytes.
    let cases = [
        ("count=2,bytes=-1", 100, 1, Ok),
        ("count=1,bytes=-1", 100, 1, SoftExceeded),
        ("count=1,bytes=-1", 100, 0, Ok),
        ("count=1,bytes=-1=;countHardLimit=2", 0, 1, Ok),
        ("count=-1,bytes=-1=;countHardLimit=1", 0, 1, HardExceeded),
        ("count=-1,bytes=10", 5, 1, Ok),
        ("count=-1,bytes=10", 6, 1, SoftExceeded),
        ("count=-1,bytes=-1=;byteHardLimit=10", 5, 0, Ok),
        ("count=-1,bytes=-1=;byteHardLimit=10", 6, 0, HardExceeded),
        ("count=-1,bytes=-1=;byteHardLimit=1", -1, 0, HardExceeded),
        ("count=1,bytes=-1=;byteHardLimit=1", 1, 1, HardExceeded),
        ("count=1,bytes=-1=;byteHardLimit=0", 0, 0, Ok),
        ("nonsense", 1, 1, Unreadable),
        ("", 1, 1, Ok),
    ];
    for (limits, bytes, count, expected) in cases {
        let story = story_with_quota(limits);
        assert_eq!(story.tree.check_quota("/p/new", bytes, count), expected, "{limits} {bytes} {count}");
        assert_eq!(story.tree.check_quota("/elsewhere", bytes, count), Ok);
    }
}

#[test]
fn a_quota_on_the_root_is_ignored() {
    let mut story = Story::new();
    story.create("/zookeeper/quota/zookeeper_limits", "count=0,bytes=0=;countHardLimit=0", -1);
    story.create("/zookeeper/quota/zookeeper_stats", "untouched", -1);
    story.create("/a", "", -1);
    assert_eq!(story.tree.check_quota("/a/b", 1, 1), QuotaVerdict::Ok);
    assert_eq!(story.data("/zookeeper/quota/zookeeper_stats"), "untouched");
}
