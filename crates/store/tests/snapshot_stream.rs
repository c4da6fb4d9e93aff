//! The tree on its way from a leader to a learner.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use rookeeper_proto::{Acl, SessionId, TtlEncoding, Zxid};
use rookeeper_store::snapshot_stream::{Progress, SnapshotReceiver, SnapshotSender, StreamError};
use rookeeper_tree::Tree;
use support::{History, Random};

fn recorded() -> Vec<(Zxid, usize, Vec<u8>)> {
    include_str!("../../../tests/fixtures/quorum/snapshots.txt")
        .lines()
        .map(|line| {
            let mut words = line.split(' ');
            let zxid = Zxid(i64::from_str_radix(words.next().unwrap(), 16).unwrap());
            let nodes_at = words.next().unwrap().parse().unwrap();
            let hex = words.next().unwrap();
            let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            (zxid, nodes_at, (0..hex.len()).step_by(2).map(byte).collect())
        })
        .collect()
}

fn receive(zxid: Zxid, bytes: &[u8]) -> Result<Progress, StreamError> {
    SnapshotReceiver::new(zxid, 3, TtlEncoding::Current).feed(bytes)
}

fn received(zxid: Zxid, bytes: &[u8]) -> Tree {
    match receive(zxid, bytes).unwrap() {
        Progress::Done { tree, used } => {
            assert_eq!(used, bytes.len());
            tree
        }
        Progress::NeedMore => panic!("more is needed"),
    }
}

fn sent(tree: &Tree) -> Vec<u8> {
    let mut sender = SnapshotSender::begin(tree, 100);
    assert_eq!(sender.zxid(), tree.last_zxid());
    let mut bytes = Vec::new();
    while sender.next_portion(tree, &mut bytes).unwrap() {}
    let length = bytes.len();
    assert!(!sender.next_portion(tree, &mut bytes).unwrap() && bytes.len() == length, "nothing follows the end");
    bytes
}

/// Everything in a tree, in an order of its own.
fn content(tree: &Tree) -> (Zxid, i64, Vec<String>, Vec<(SessionId, i32)>) {
    let mut nodes: Vec<_> = tree
        .nodes()
        .map(|node| format!("{} {:?} {:?} {:?}", node.path(), node.data(), node.acl(), node.persisted()))
        .collect();
    nodes.sort();
    let mut sessions: Vec<_> = tree.sessions().collect();
    sessions.sort();
    (tree.last_zxid(), tree.digest(), nodes, sessions)
}

#[test]
fn what_a_recorded_leader_sent_is_its_tree() {
    let recorded = recorded();
    assert_eq!(recorded.len(), 2);
    for (zxid, nodes_at, bytes) in &recorded {
        let mut tree = received(*zxid, bytes);
        assert_eq!(tree.last_zxid(), *zxid);
        // Our table of lists has an entry more, and ids that were given up are given again; all nodes come in the same order.
        let again = sent(&tree);
        if zxid.counter() == 0 {
            assert!(again.ends_with(&bytes[*nodes_at..]));
            assert_eq!(again[..4], bytes[..4], "sessions");
        }
        assert_eq!(content(&received(*zxid, &again)), content(&tree));
        assert_eq!(tree.finish_replay(), Default::default());
    }
    let (zxid, _, bytes) = &recorded[1];
    let tree = received(*zxid, bytes);
    let node = tree.node("/a").unwrap();
    let stat = node.stat();
    assert_eq!((node.data(), stat.version, stat.czxid), (Some(&b"moved"[..]), 6, Zxid::new(1, 2)));
    assert_eq!((stat.mtime_ms, node.acl().to_vec()), (1_795_399_363_020, Acl::open()));
    assert_eq!(tree.node("/cont").unwrap().stat().ephemeral_owner, 0, "a container");
    assert_eq!(tree.node("/auth").unwrap().acl()[0].id.scheme, "digest");
    assert_eq!(tree.node("/zookeeper/config").unwrap().stat().aversion, -1);
}

#[test]
fn a_recorded_stream_arrives_in_any_pieces() {
    let mut random = Random::new(5);
    for (zxid, _, bytes) in recorded() {
        let expected = content(&received(zxid, &bytes));
        for round in 0..200 {
            let mut receiver = SnapshotReceiver::new(zxid, round, TtlEncoding::Current);
            let mut followed = bytes.clone();
            followed.extend_from_slice(&[0; 40]);
            let mut rest = &followed[..];
            let tree = loop {
                let (piece, later) = rest.split_at(rest.len().min(random.below(60) as usize));
                match receiver.feed(piece).unwrap() {
                    Progress::NeedMore => rest = later,
                    Progress::Done { tree, used } => {
                        assert_eq!(rest.len() - used, 40, "what follows the stream is left");
                        break tree;
                    }
                }
            };
            assert_eq!(content(&tree), expected);
            assert!(receiver.feed(b"more").is_err());
        }
    }
}

/// The tree changes between portions. With everything applied that came after the beginning, it is the leader's.
#[test]
fn a_tree_that_changes_while_it_is_sent_arrives() {
    let mut fuzzy = 0;
    for seed in 0..60 {
        let history = History::new(seed, 200);
        let mut random = Random::new(seed);
        let begin = 60 + random.below(40) as usize;
        let mut tree = history.tree_at(Zxid(begin as i64));
        let mut applied = begin;
        let mut sender = SnapshotSender::begin(&tree, 200);
        let mut bytes = Vec::new();
        while sender.next_portion(&tree, &mut bytes).unwrap() {
            for _ in 0..random.below(6).min((200 - applied) as u64) {
                let record = &history.records[applied];
                tree.apply(&record.header, record.txn.clone(), &mut Vec::new());
                applied += 1;
            }
        }
        let mut learned = received(sender.zxid(), &bytes);
        assert_eq!(learned.last_zxid(), Zxid(begin as i64));
        fuzzy += usize::from(learned.digest() != history.digests[begin]);
        for record in &history.records[begin..applied] {
            learned.apply(&record.header, record.txn.clone(), &mut Vec::new());
        }
        assert_eq!(learned.finish_replay(), Default::default(), "seed {seed}");
        assert_eq!(content(&learned), content(&tree), "seed {seed}");
        // And it goes on as any tree.
        for record in &history.records[applied..] {
            learned.apply(&record.header, record.txn.clone(), &mut Vec::new());
        }
        assert_eq!(content(&learned), content(&history.tree_at(Zxid(200))), "seed {seed}");
    }
    assert!(fuzzy > 20, "only {fuzzy} of 60 were fuzzy");
}

/// A leader that stepped down and was told to cut its log reads its tree anew, while a learner still takes the old one from it.
#[test]
fn a_stream_of_two_trees_is_never_whole() {
    let history = History::new(1, 200);
    let mut tree = history.tree_at(Zxid(150));
    let mut sender = SnapshotSender::begin(&tree, 200);
    let mut bytes = Vec::new();
    assert_eq!(sender.next_portion(&tree, &mut bytes), Ok(true));
    tree.replace(history.tree_at(Zxid(100)));
    let length = bytes.len();
    let error = sender.next_portion(&tree, &mut bytes).unwrap_err().to_string();
    assert!(error.contains("replaced") && bytes.len() == length, "{error}");
    // Also where the one in its place is equal.
    tree.replace(history.tree_at(Zxid(150)));
    assert!(sender.next_portion(&tree, &mut bytes).is_err());
    let mut whole = SnapshotSender::begin(&tree, 200);
    while whole.next_portion(&tree, &mut bytes).unwrap() {}
}

#[test]
fn a_stream_that_ends_early_gives_no_tree() {
    for (zxid, _, bytes) in recorded() {
        for length in 0..bytes.len() {
            assert!(matches!(receive(zxid, &bytes[..length]), Ok(Progress::NeedMore)), "{length}");
        }
    }
}

#[test]
fn no_bytes_make_it_panic() {
    let mut random = Random::new(11);
    let (zxid, _, bytes) = recorded().pop().unwrap();
    let (mut trees, mut errors, mut waiting) = (0, 0, 0);
    for _ in 0..30_000 {
        let mut wrong = bytes.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(wrong.len() as u64) as usize;
            match random.below(3) {
                0 => wrong[at] = random.below(256) as u8,
                1 => wrong[at] ^= 1 << random.below(8),
                _ => {
                    wrong.remove(at);
                }
            }
        }
        match receive(zxid, &wrong) {
            Ok(Progress::Done { tree, .. }) => {
                // Whatever it is, it can be sent on.
                sent(&tree);
                trees += 1;
            }
            Ok(Progress::NeedMore) => waiting += 1,
            Err(error) => {
                assert!(error.offset <= wrong.len() as u64 && !error.problem.is_empty());
                errors += 1;
            }
        }
    }
    assert!(trees > 1000 && errors > 1000 && waiting > 1000, "{trees} {errors} {waiting}");
}

#[test]
fn lengths_and_counts_that_can_not_be_are_refused() {
    for (bytes, problem) in [
        (&b"\xff\xff\xff\xff"[..], "unreasonable count -1"),
        (b"\x80\0\0\0", "unreasonable count"),
        (b"\0\0\0\0\xff\xff\xff\xfe", "unreasonable count -2"),
        // A list with -2 entries; a scheme of 2 GiB.
        (b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\xff\xff\xff\xfe", "unreasonable count -2"),
        (b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0\x1f\x7f\xff\xff\xff", "unreasonable length 2147483647"),
        // A path of 2 GiB, and one that is not there.
        (b"\0\0\0\0\0\0\0\0\x7f\xff\xff\xff", "unreasonable length 2147483647"),
        (b"\0\0\0\0\0\0\0\0\xff\xff\xff\xff", "null"),
        (b"\0\0\0\0\0\0\0\0\0\0\0\x01/\0\0\0\x0aBenWasHere", "the root is missing"),
        (b"\0\0\0\0\0\0\0\0\0\0\0\x01/\0\0\0\x0aBenIsThere", "the signature is missing"),
        (b"\0\0\0\0\0\0\0\0\0\0\0\x01/\0\0\0\x0b", "the signature is missing"),
    ] {
        let error = receive(Zxid(1), bytes).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}, not {problem}");
    }
    // Counts that only time will show to be wrong cost nothing until then.
    for bytes in [&b"\x7f\xff\xff\xff"[..], b"\0\0\0\0\x7f\xff\xff\xff", b"\0\0\0\0\0\0\0\0\x3f\xff\xff\xff/"] {
        assert!(matches!(receive(Zxid(1), bytes), Ok(Progress::NeedMore)));
    }
}

#[test]
fn a_list_that_is_null_is_the_open_one() {
    let mut stat = [0; 60];
    stat[..8].copy_from_slice(&1i64.to_be_bytes());
    let body = [
        // No session; list 1, which is null; the root, whose list that is.
        &b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01"[..],
        &stat,
        b"\0\0\0\x01/\0\0\0\x0aBenWasHere",
    ]
    .concat();
    assert_eq!(received(Zxid(1), &body).node("/").unwrap().acl().to_vec(), Acl::open());
}
