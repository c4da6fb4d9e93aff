//! Every input of the corpus and a few thousand seeded mutations of it, through every target: nothing panics, nothing allocates
//! beyond its bound.
//!
//! The corpus holds what was made from the recorded material and every input that ever failed. A failure here names its input; one
//! that came from a mutation is written to a file, to be put into the corpus with its repair.

#[path = "allocation/mod.rs"]
mod allocation;

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use rookeeper_fuzz::mutation::Mutator;
use rookeeper_fuzz::{TARGETS, Target, allocation_bound};

const SEED: u64 = 0x726f_6f6b;

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let read = |entry: std::io::Result<std::fs::DirEntry>| -> std::io::Result<_> {
        let entry = entry?;
        Ok((entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path())?))
    };
    let mut seeds: Vec<_> = entries.map(|entry| read(entry).expect("the corpus can be read")).collect();
    seeds.sort();
    seeds
}

/// What went wrong with one input, if anything.
fn fault(target: &Target, input: &[u8]) -> Option<String> {
    let (result, peak) = allocation::peak(|| panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input))));
    let bound = allocation_bound(input.len());
    match result {
        Err(cause) => {
            let text = cause.downcast_ref::<String>().map(String::as_str).or(cause.downcast_ref::<&str>().copied());
            Some(format!("panicked: {}", text.unwrap_or("without a text")))
        }
        Ok(()) if peak > bound => Some(format!("allocated {peak} bytes, more than {bound} for {} bytes", input.len())),
        Ok(()) => None,
    }
}

fn run(name: &str, mutations: usize) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    let seeds = seeds(name);
    assert!(seeds.len() > 5, "the corpus of {name} is missing");
    let mut faults = Vec::new();
    for (seed, input) in &seeds {
        faults.extend(fault(target, input).map(|fault| format!("{name}/{seed}: {fault}")));
    }
    let mut mutator = Mutator::new(SEED);
    for number in 0..mutations {
        let (seed, input) = mutator.choose(&seeds).expect("there are seeds");
        let (_, other) = mutator.choose(&seeds).expect("there are seeds");
        let mutated = mutator.mutate(input, other);
        if let Some(fault) = fault(target, &mutated) {
            let file = std::env::temp_dir().join(format!("rookeeper-fuzz-{name}-{number}"));
            std::fs::write(&file, &mutated).expect("the temporary directory takes a file");
            faults.push(format!("{name}/{seed}, mutation {number}, kept as {}: {fault}", file.display()));
        }
    }
    println!("{name}: {} inputs of the corpus, {mutations} mutations with seed {SEED:#x}", seeds.len());
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn frames() {
    run("frames", 8000);
}

#[test]
fn records() {
    run("records", 20_000);
}

#[test]
fn conversation() {
    run("conversation", 3000);
}

#[test]
fn replay() {
    run("replay", 2000);
}

#[test]
fn log() {
    run("log", 1000);
}

#[test]
fn snapshot() {
    run("snapshot", 1000);
}

#[test]
fn config() {
    run("config", 5000);
}

#[test]
fn every_target_has_a_test_and_a_fuzz_binary() {
    let here = include_str!("corpus.rs");
    let manifest = include_str!("../../../fuzz/Cargo.toml");
    for Target { name, .. } in TARGETS {
        assert!(here.contains(&format!("run(\"{name}\"")), "{name} has no test");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} has no fuzz binary");
    }
}

#[test]
fn the_allocation_of_a_run_is_measured() {
    let (_, peak) = allocation::peak(|| drop(std::hint::black_box(vec![1_u8; 3 << 20])));
    assert!((3 << 20..4 << 20).contains(&peak), "{peak}");
    let (_, peak) = allocation::peak(|| {
        let mut growing = vec![1_u8; 1 << 20];
        growing.reserve_exact(1 << 20);
        drop(std::hint::black_box(growing));
        drop(std::hint::black_box(vec![1_u8; 1 << 20]));
    });
    assert!((2 << 20..4 << 20).contains(&peak), "{peak}");
    let greedy = Target { name: "greedy", run: |_| drop(std::hint::black_box(vec![1_u8; 17 << 20])) };
    assert!(fault(&greedy, b"x").unwrap().contains("allocated"));
    let rude = Target { name: "rude", run: |bytes| assert!(bytes.is_empty(), "not empty") };
    assert_eq!((fault(&rude, b""), fault(&rude, b"x")), (None, Some("panicked: not empty".to_owned())));
}

#[test]
fn sasl() {
    run("sasl", 20_000);
}

#[test]
fn stores() {
    run("stores", 1000);
}

#[test]
fn first_bytes() {
    run("first_bytes", 5_000);
}

#[test]
fn registry() {
    run("registry", 20_000);
}
