//! Lives under every fault in which nothing may be wrong, those that once failed, and proof that a seed is all there is to a life.
//!
//! `ROOKEEPER_SIM_LIVES` says how many fresh ones (1,000 otherwise), `ROOKEEPER_SIM_SEED` where they begin.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rookeeper_sim::{Figures, Plan, live};

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// Lives these seeds on all processors, and says which failed.
fn live_all(seeds: &[u64]) -> (Figures, Vec<String>) {
    let next = AtomicU64::new(0);
    let all = Mutex::new((Figures::default(), Vec::new()));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let outcome = live(Plan::of_seed(*seed, None), false);
                    let mut all = all.lock().expect("a panic within a life is its violation");
                    all.0.add(&outcome.figures);
                    all.1.extend(outcome.violation.map(|violation| format!("seed {seed}: {violation}")));
                }
            });
        }
    });
    all.into_inner().expect("a panic within a life is its violation")
}

fn assert_none_failed(failures: &[String]) {
    assert!(
        failures.is_empty(),
        "{}\nplay one again with `cargo run --release -p rookeeper-sim -- --seed N --trace`, and add it to seeds.txt",
        failures.join("\n")
    );
}

#[test]
fn ensembles_live_through_all_faults() {
    let (first, count) = (setting("ROOKEEPER_SIM_SEED", 10_000), setting("ROOKEEPER_SIM_LIVES", 1000));
    let seeds: Vec<u64> = (first..first + count).collect();
    let (figures, failures) = live_all(&seeds);
    println!("{count} lives from seed {first} on, {:.1} virtual hours: {figures:?}", figures.virtual_us as f64 / 3.6e9);
    assert_none_failed(&failures);
    // A world in which nothing happens would be a fine one.
    if count >= 1000 {
        assert_eq!(figures.faults.len(), rookeeper_sim::faults::FAULTS.len(), "{:?}", figures.faults);
        assert!(figures.committed > 100 * count && figures.leaders > count && figures.snapshots_installed > count / 4);
        assert!(figures.truncations > count / 4 && figures.lost_disks > count / 5, "{figures:?}");
        assert!(figures.watch_events > count && figures.expired > 0);
        assert!(figures.deep_checks > count / 2, "{figures:?}");
        for what in [
            "clients cut that did not introduce themselves",
            "clients that read a little",
            "clients that stop to read",
            "clients that stop to read and to send",
            "clients that vanish",
            "epochs used up",
            "followers that lose a leader whose disk hangs",
            "large values",
            "leaders that come back with what nobody else has",
            "leaders that had less than another server",
            "leaders that stand still in a round of pings",
            "lists of rights set",
            "lives with groups and weights",
            "lives with recipes",
            "memberships that could not be written",
            "mixed multis",
            "nodes reaped",
            "observers fed by followers",
            "deletes where room is short",
            "power cuts while a snapshot waits for the log",
            "servers short of room",
            "sessions begun where room is short",
            "silences",
            "snapshots that wait for the log",
            "stumbles at the beginning of an epoch",
            "writes refused for the lack of room",
        ] {
            assert!(figures.rare.get(what).is_some_and(|times| *times > count / 20), "{what}: {figures:?}");
        }
        for what in [
            "clients cut that took nothing",
            "files of an earlier day",
            "power cuts after a log was cut",
            "starts with members of the log",
            "observers that found another follower",
            "syncs asked for where a leader stood still",
        ] {
            assert!(figures.rare.get(what).is_some_and(|times| *times > count / 500), "{what}: {figures:?}");
        }
        assert!(figures.joins > count / 10 && figures.removals > count / 10 && figures.wipes > 0, "{figures:?}");
    }
}

#[test]
fn what_failed_once_does_not_fail_again() {
    let lines = include_str!("../seeds.txt").lines().filter(|line| !line.starts_with('#'));
    let words = lines.filter_map(|line| line.split_whitespace().next());
    let seeds: Vec<u64> = words.map(|seed| seed.parse().expect("a seed begins each line")).collect();
    assert!(!seeds.is_empty());
    // These failed before there were recipes. Of the later ones, add those in whose lives there is one below a line that says so.
    for seed in seeds.iter().take(70) {
        assert_eq!(Plan::of_seed(*seed, None).play, None, "the life of seed {seed} is another one now");
    }
    assert_none_failed(&live_all(&seeds).1);
}

#[test]
fn a_seed_lives_the_same_life_twice() {
    let mut hashes = Vec::new();
    for seed in 0..12 {
        let once = live(Plan::of_seed(seed, None), false);
        // Whether somebody reads along changes nothing.
        let again = live(Plan::of_seed(seed, None), true);
        assert_eq!((once.trace_hash, once.figures.events), (again.trace_hash, again.figures.events), "seed {seed}");
        assert!(!hashes.contains(&once.trace_hash));
        hashes.push(once.trace_hash);
    }
}
