//! How long creating, listing and deleting children takes, by the number of children: `cargo run --release --example children`.

use std::hint::black_box;
use std::time::Instant;

use rookeeper_proto::txn::{CreateKind, CreateTxn};
use rookeeper_proto::{SessionId, Txn, TxnHeader, Zxid};
use rookeeper_tree::Tree;

fn apply(tree: &mut Tree, txn: Txn) {
    let zxid = Zxid(tree.last_zxid().0 + 1);
    tree.apply(&TxnHeader { session: SessionId(1), cxid: 0, zxid, time_ms: 0 }, txn, &mut Vec::new());
}

fn create(path: String) -> Txn {
    let kind = CreateKind::Node { ephemeral: false, with_stat: false };
    Txn::Create(CreateTxn { path, data: Some(vec![0; 10]), acl: None, kind, parent_cversion: -1 })
}

fn main() {
    for children in [10_u64, 1000, 100_000, 1_000_000] {
        for (order, step) in [("growing", 1), ("scattered", 7_919_u64)] {
            let parents = (100_000 / children).max(1);
            let mut tree = Tree::with_seed(1);
            (0..parents).for_each(|parent| apply(&mut tree, create(format!("/p{parent}"))));
            let path = |parent: u64, number: u64| format!("/p{parent}/n{:010}", number * step % children);
            let total = parents * children;
            let each = |start: Instant| start.elapsed().as_nanos() as u64 / total;

            let start = Instant::now();
            (0..parents).for_each(|parent| (0..children).for_each(|n| apply(&mut tree, create(path(parent, n)))));
            let created = each(start);

            let start = Instant::now();
            for parent in 0..parents {
                let mut answer: Vec<u8> = Vec::new();
                for name in tree.node(&format!("/p{parent}")).expect("it was created").children() {
                    answer.extend_from_slice(&(name.len() as i32).to_be_bytes());
                    answer.extend_from_slice(name.as_bytes());
                }
                black_box(answer);
            }
            let listed = each(start);

            let start = Instant::now();
            let delete = |parent, number| Txn::Delete { path: path(parent, number) };
            (0..parents).for_each(|parent| (0..children).for_each(|n| apply(&mut tree, delete(parent, n))));
            let deleted = each(start);
            println!(
                "{children:>8} children, {order:>9}: create {created:>5} ns, list {listed:>4} ns, delete {deleted:>5} ns each"
            );
        }
    }
}
