//! What a node costs: builds a tree of a million nodes through transactions, prints resident bytes per node and the longest
//! single transaction.
//!
//!     cargo run --release -p rookeeper-tree --example memory -- [NODES] [DATA_BYTES] [CHILDREN_PER_PARENT]

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::disallowed_macros,
    reason = "a measurement reads clocks and prints"
)]

use std::time::{Duration, Instant};

use rookeeper_proto::txn::{CreateKind, CreateTxn};
use rookeeper_proto::{Acl, SessionId, Txn, TxnHeader, Zxid};
use rookeeper_tree::Tree;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse().expect("arguments are numbers"));
    let nodes: usize = arguments.next().unwrap_or(1_000_000);
    let data_bytes: usize = arguments.next().unwrap_or(100);
    let children_per_parent: usize = arguments.next().unwrap_or(1000).max(1);

    let resident_before = resident_bytes();
    let mut tree = Tree::new();
    let mut changes = Vec::new();
    let mut longest = Duration::ZERO;
    let begin = Instant::now();
    let mut create = |path: String| {
        let zxid = Zxid(tree.last_zxid().0 + 1);
        let header = TxnHeader { session: SessionId(1), cxid: 0, zxid, time_ms: 0 };
        let kind = CreateKind::Node { ephemeral: false, with_stat: false };
        let (data, acl) = (Some(vec![0; data_bytes]), Some(Acl::open()));
        let txn = Txn::Create(CreateTxn { path, data, acl, kind, parent_cversion: -1 });
        let begin = Instant::now();
        tree.apply(&header, txn, &mut changes);
        longest = longest.max(begin.elapsed());
        changes.clear();
    };
    for number in 0..nodes {
        let (parent, child) = (number / children_per_parent, number % children_per_parent);
        if child == 0 {
            create(format!("/bench-{parent:06}"));
        } else {
            create(format!("/bench-{parent:06}/{child:06}"));
        }
    }
    let elapsed = begin.elapsed();
    println!(
        "{} nodes, digest {}, approximate data size {}",
        tree.node_count(),
        tree.digest(),
        tree.approximate_data_size()
    );
    println!("{:.0} creates/s, longest {longest:?}", nodes as f64 / elapsed.as_secs_f64());

    let (mut chunks, mut longest_chunk, mut entries) = (0, Duration::ZERO, 0);
    let (_, mut walk) = tree.begin_snapshot();
    loop {
        let begin = Instant::now();
        let more = walk.next_chunk(&tree, 1 << 20, &mut |_| entries += 1);
        longest_chunk = longest_chunk.max(begin.elapsed());
        chunks += 1;
        if !more {
            break;
        }
    }
    println!("snapshot walk: {entries} nodes in {chunks} chunks of 1 MiB, longest {longest_chunk:?}");

    match resident_before.zip(resident_bytes()) {
        Some((before, after)) => println!(
            "resident {} MB, {} bytes per node",
            after / 1_000_000,
            after.saturating_sub(before) / nodes.max(1)
        ),
        None => println!("resident size is only known on Linux"),
    }
}

fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<usize>().ok().map(|kilobytes| kilobytes * 1024)
}
