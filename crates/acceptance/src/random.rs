//! Random numbers from a seed that is printed with the test, so that a failure can be repeated with `ROOKEEPER_SEED`.

use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64: short, and good enough to choose operations and moments.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Takes the seed from `ROOKEEPER_SEED`, else from the clock, and prints it.
    pub fn from_environment(what: &str) -> Random {
        let seed = match std::env::var("ROOKEEPER_SEED") {
            Ok(text) => text.parse().expect("ROOKEEPER_SEED is a decimal number"),
            Err(_) => clock(),
        };
        println!("{what}: ROOKEEPER_SEED={seed}");
        Random(seed)
    }

    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// For what must differ between runs: addresses, not operations.
    pub fn from_clock() -> Random {
        Random(clock() ^ u64::from(std::process::id()).rotate_left(40))
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }

    /// A source of its own for a part of the test, so that the parts do not depend on each other's order.
    pub fn branch(&mut self) -> Random {
        Random(self.number())
    }
}

fn clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |elapsed| elapsed.as_nanos() as u64)
}
