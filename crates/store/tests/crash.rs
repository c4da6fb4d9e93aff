//! The power goes at every single operation of a run that logs, rolls, takes snapshots and purges. Whatever of the unsynced writes
//! survives, everything acknowledged is there, nothing is half applied, and the server goes on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use rookeeper_proto::Zxid;
use rookeeper_store::{Fault, SimDisk};
use support::{History, assert_sound, run};

const TRANSACTIONS: i64 = 120;

#[test]
fn everything_acknowledged_survives_a_crash_at_any_operation() {
    let mut crashes = 0;
    for seed in 0..8 {
        let history = History::new(seed, TRANSACTIONS);
        let whole = SimDisk::new(seed);
        let (acknowledged, result) = run(&whole, &history, seed, Zxid::ZERO);
        result.unwrap();
        assert_eq!(acknowledged, Zxid(TRANSACTIONS));
        for at in 1..=whole.operations() {
            let disk = SimDisk::new(seed);
            disk.inject(Fault::Crash { at });
            let (acknowledged, _) = run(&disk, &history, seed, Zxid::ZERO);
            assert!(disk.has_crashed());
            for survival in 0..8 {
                let context = format!("seed {seed}, crash at operation {at}, survival {survival}");
                let disk = disk.restart(survival);
                assert_sound(&disk, &history, acknowledged, &context);
                crashes += 1;
            }
        }
    }
    println!("{crashes} crashes");
    assert!(crashes > 10_000, "only {crashes} crashes: the run does too little");
}

#[test]
fn a_server_that_crashes_again_and_again_gets_to_the_end() {
    let mut crashes = 0;
    for seed in 0..80 {
        let history = History::new(seed, TRANSACTIONS);
        let mut disk = SimDisk::new(seed);
        let mut acknowledged = Zxid::ZERO;
        for round in 1.. {
            // Also in the middle of recovery and of its clean-up.
            disk.inject(Fault::Crash { at: 1 + (seed * 7 + round * 5) % 90 });
            let (reached, result) = run(&disk, &history, seed + round, acknowledged);
            acknowledged = reached;
            if result.is_ok() {
                break;
            }
            assert!(round < 500, "no progress");
            disk = disk.restart(seed ^ round);
            crashes += 1;
        }
        assert_eq!(acknowledged, Zxid(TRANSACTIONS));
        assert_sound(&disk.restart(seed), &history, acknowledged, "at the end");
    }
    println!("{crashes} crashes");
    assert!(crashes > 300, "only {crashes} crashes");
}
