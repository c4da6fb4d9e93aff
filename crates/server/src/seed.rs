//! Randomness for tables whose keys clients choose, and for choices at random.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A number nobody outside this process can know; another one with each call.
pub(crate) fn secret_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
