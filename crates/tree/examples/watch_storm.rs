//! What a write pays for the watchers of its path: the time of one trigger with 1 to 1,000,000 watchers, and of settling them all.
//!
//!     cargo run --release -p rookeeper-tree --example watch_storm

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::disallowed_macros,
    reason = "a measurement reads clocks and prints"
)]

use std::sync::Arc;
use std::time::Instant;

use rookeeper_proto::Acl;
use rookeeper_proto::event::EventType;
use rookeeper_tree::{AccessList, Change, Fired, WatchKind, WatchTables, WatcherId};

fn main() {
    println!("{:>9} {:>22} {:>14} {:>14} {:>14}", "watchers", "watches", "register", "trigger", "settle all");
    for watchers in [1, 1000, 100_000, 1_000_000] {
        for (name, kinds, event) in [
            ("data", &[WatchKind::Data][..], EventType::NodeDataChanged),
            ("child", &[WatchKind::Child], EventType::NodeChildrenChanged),
            ("data+child, deletion", &[WatchKind::Data, WatchKind::Child], EventType::NodeDeleted),
            ("persistent", &[WatchKind::Persistent], EventType::NodeDataChanged),
        ] {
            let mut tables = WatchTables::new();
            let begin = Instant::now();
            for watcher in 0..watchers {
                for kind in kinds {
                    tables.add(*kind, "/election/leader", WatcherId(watcher));
                }
            }
            let register = begin.elapsed();
            let change =
                Change { kind: event, path: "/election/leader".into(), acl: Arc::new(AccessList::new(Acl::open(), 0)) };
            let begin = Instant::now();
            let fired: Vec<Fired> = tables.trigger(&change).collect();
            let trigger = begin.elapsed();
            let begin = Instant::now();
            for mut fired in fired {
                while let Some(watcher) = fired.watchers.pop() {
                    tables.settle(watcher, &fired);
                }
            }
            println!("{watchers:>9} {name:>22} {register:>14.2?} {trigger:>14.2?} {:>14.2?}", begin.elapsed());
        }
    }
}
