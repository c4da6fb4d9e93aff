//! How long creating, listing and deleting children takes, by the number of children, in processor time for each child:
//! `cargo run --release --example children [CHILDREN...]`.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::disallowed_macros,
    reason = "a measurement reads clocks and prints"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use rookeeper_proto::txn::{CreateKind, CreateTxn};
use rookeeper_proto::{SessionId, Txn, TxnHeader, Zxid};
use rookeeper_tree::Tree;

const ROUNDS: usize = 5;
/// At least this many children are made in each round, under several parents where one has fewer.
const TOTAL: u64 = 300_000;

fn apply(tree: &mut Tree, txn: Txn) {
    let zxid = Zxid(tree.last_zxid().0 + 1);
    tree.apply(&TxnHeader { session: SessionId(1), cxid: 0, zxid, time_ms: 0 }, txn, &mut Vec::new());
}

fn create(path: String) -> Txn {
    let kind = CreateKind::Node { ephemeral: false, with_stat: false };
    Txn::Create(CreateTxn { path, data: Some(vec![0; 10]), acl: None, kind, parent_cversion: -1 })
}

/// What this thread has used of a processor; other work on the machine is not in it. Where that is not known, the time that passes.
fn processor_time(begin: Instant) -> Duration {
    // The figures are brought up to date when the scheduler has a look.
    std::thread::yield_now();
    let known = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = known.and_then(|text| text.split_whitespace().next()?.parse().ok());
    nanoseconds.map_or_else(|| begin.elapsed(), Duration::from_nanos)
}

/// Nanoseconds of a creation, of a child in a list, of a deletion.
fn measure(children: u64, step: u64) -> [u64; 3] {
    let parents = TOTAL.div_ceil(children);
    let mut tree = Tree::with_seed(1);
    (0..parents).for_each(|parent| apply(&mut tree, create(format!("/p{parent}"))));
    let path = |parent: u64, number: u64| format!("/p{parent}/n{:010}", number * step % children);
    let clock = Instant::now();
    let mut last = processor_time(clock);
    let mut lap = || {
        let before = std::mem::replace(&mut last, processor_time(clock));
        (last - before).as_nanos() as u64 / (parents * children)
    };

    (0..parents).for_each(|parent| (0..children).for_each(|number| apply(&mut tree, create(path(parent, number)))));
    let created = lap();
    for parent in 0..parents {
        let mut answer: Vec<u8> = Vec::new();
        tree.node(&format!("/p{parent}")).expect("it was created").append_child_names(&mut answer);
        black_box(answer);
    }
    let listed = lap();
    let delete = |parent, number| Txn::Delete { path: path(parent, number) };
    (0..parents).for_each(|parent| (0..children).for_each(|number| apply(&mut tree, delete(parent, number))));
    [created, listed, lap()]
}

fn main() {
    let chosen: Vec<u64> = std::env::args().skip(1).map(|argument| argument.parse().expect("a number")).collect();
    let chosen = if chosen.is_empty() { vec![10, 1000, 100_000, 1_000_000] } else { chosen };
    for children in chosen {
        for (order, step) in [("growing", 1), ("scattered", 7_919)] {
            let mut rounds: Vec<_> = (0..ROUNDS).map(|_| measure(children, step)).collect();
            let [created, listed, deleted] = [0, 1, 2].map(|what| {
                rounds.sort_unstable_by_key(|round| round[what]);
                rounds[ROUNDS / 2][what]
            });
            println!(
                "{children:>8} children, {order:>9}: create {created:>5} ns, list {listed:>4} ns, delete {deleted:>5} ns each"
            );
        }
    }
}
