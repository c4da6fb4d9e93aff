//! From a seed to its neighbours: what a damaged disk, a broken client or a curious one would make of it.
//!
//! What always holds: the same seed of the generator gives the same mutations, so a failure is found again by running the tests again.

use rookeeper_proto::random::Random;

/// Makes mutations of inputs.
#[derive(Debug, Clone)]
pub struct Mutator(Random);

/// Lengths, counts and flags around which code goes wrong.
const INTERESTING: [i32; 14] = [i32::MIN, -2, -1, 0, 1, 2, 4, 127, 255, 256, 65_535, 0xf_ffff, 0x10_0000, i32::MAX];

impl Mutator {
    pub fn new(seed: u64) -> Mutator {
        Mutator(Random::new(seed))
    }

    /// A number below `limit`; 0 where that is 0.
    fn below(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { self.0.index(limit) }
    }

    /// One of several.
    pub fn choose<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len()))
    }

    /// One to four changes of `seed`; `other` lends bytes.
    pub fn mutate(&mut self, seed: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes, other);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len());
        match self.below(8) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            1 if !bytes.is_empty() => bytes[at] = self.0.draw() as u8,
            2 => bytes.truncate(at),
            // A length, a count, a version, an opcode: four bytes anywhere.
            3 | 4 if bytes.len() >= 4 => {
                let at = self.below(bytes.len() - 3);
                let number = INTERESTING[self.below(INTERESTING.len())];
                bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
            }
            // A length that is nearly right.
            5 if bytes.len() >= 4 => {
                let at = self.below(bytes.len() - 3);
                let mut field = [0; 4];
                field.copy_from_slice(&bytes[at..at + 4]);
                let nearly = i32::from_be_bytes(field).wrapping_add(self.below(9) as i32 - 4);
                bytes[at..at + 4].copy_from_slice(&nearly.to_be_bytes());
            }
            6 => {
                let end = (at + 1 + self.below(64)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let start = self.below(other.len());
                let end = (start + 1 + self.below(64)).min(other.len());
                bytes.splice(at..at, other[start..end].iter().copied());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_mutations_and_another_gives_others() {
        let mutations = |seed| {
            let mut mutator = Mutator::new(seed);
            (0..50).map(|_| mutator.mutate(b"a seed of some length", b"another")).collect::<Vec<_>>()
        };
        assert_eq!(mutations(1), mutations(1));
        assert_ne!(mutations(1), mutations(2));
        let mut distinct = mutations(1);
        distinct.sort();
        distinct.dedup();
        assert!(distinct.len() > 40, "{}", distinct.len());
    }

    #[test]
    fn nothing_at_all_can_be_mutated_too() {
        let mut mutator = Mutator::new(3);
        for _ in 0..1000 {
            mutator.mutate(b"", b"");
            mutator.mutate(b"x", b"");
        }
    }
}
