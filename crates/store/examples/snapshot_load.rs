//! How long a large snapshot takes to be read: from a file into a tree, from a file for its seals alone, and from a leader's stream in
//! pieces as a socket gives them. Prints the fastest of several rounds, in milliseconds.
//!
//! `cargo run --release -p rookeeper-store --example snapshot_load [NODES]`

use std::time::{Duration, Instant};

use rookeeper_proto::{Acl, SessionId, StatPersisted, TtlEncoding, Zxid};
use rookeeper_store::snapshot_reader::{load, verify};
use rookeeper_store::snapshot_stream::{Progress, SnapshotReceiver, SnapshotSender};
use rookeeper_store::{Compression, RealDisk, SnapshotOptions, write_snapshot};
use rookeeper_tree::{Tree, TreeBuilder};

const CHILDREN: usize = 1000;
const DATA_BYTES: usize = 100;
const ROUNDS: usize = 7;
const PIECE: usize = 64 << 10;
const LIMIT: usize = 1 << 20;

fn tree(nodes: usize) -> Result<Tree, Box<dyn std::error::Error>> {
    let mut builder = TreeBuilder::new();
    for session in 0..1000 {
        builder.add_session(SessionId(session + 1), 4000);
    }
    builder.add_acl(1, Acl::open())?;
    let stat = StatPersisted::default();
    builder.add_node("", Some(b""), 1, stat)?;
    for node in 0..nodes {
        if node % CHILDREN == 0 {
            builder.add_node(&format!("/parent-{:06}", node / CHILDREN), None, 1, stat)?;
        }
        let path = format!("/parent-{:06}/child-{node:010}", node / CHILDREN);
        builder.add_node(&path, Some(&[b'x'; DATA_BYTES]), 1, stat)?;
    }
    Ok(builder.finish(Zxid(1))?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let nodes = std::env::args().nth(1).map_or(Ok(500_000), |text| text.parse())?;
    let tree = tree(nodes)?;
    let dir = tempfile::tempdir()?;
    let options = SnapshotOptions::default();
    let written = write_snapshot(&RealDisk, dir.path(), &options, &mut |read| read(&tree), &mut |_| Ok(()))?;
    let (mut sender, mut stream) = (SnapshotSender::begin(&tree, PIECE), Vec::new());
    while sender.next_portion(&tree, &mut stream)? {}
    println!("{} nodes, a file of {} bytes, a stream of {} bytes", tree.node_count(), written.bytes, stream.len());
    drop(tree);

    let mut fastest = [Duration::MAX; 3];
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let loaded = load(&RealDisk, dir.path(), written.zxid, Compression::None, LIMIT)?;
        fastest[0] = fastest[0].min(begin.elapsed());
        drop(loaded);
        let begin = Instant::now();
        verify(&RealDisk, dir.path(), written.zxid, Compression::None, LIMIT)?;
        fastest[1] = fastest[1].min(begin.elapsed());
        let begin = Instant::now();
        let mut receiver = SnapshotReceiver::new(written.zxid, 0, TtlEncoding::Current);
        for piece in stream.chunks(PIECE) {
            if let Progress::Done { tree, .. } = receiver.feed(piece)? {
                fastest[2] = fastest[2].min(begin.elapsed());
                drop(tree);
                break;
            }
        }
    }
    for (what, time) in ["load", "verify", "receive"].iter().zip(fastest) {
        println!("{what:>8} {:>8.1} ms", time.as_secs_f64() * 1e3);
    }
    Ok(())
}
