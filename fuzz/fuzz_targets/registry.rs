#![no_main]

#[path = "../../crates/fuzz/tests/allocation/mod.rs"]
mod allocation;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let ((), peak) = allocation::peak(|| rookeeper_fuzz::registry::run(bytes));
    assert!(peak <= rookeeper_fuzz::allocation_bound(bytes.len()), "allocated {peak} bytes");
});
