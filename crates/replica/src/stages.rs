//! How long each stage of a request takes: histograms that cost a few instructions for each value.
//!
//! What always holds here: a value is written by one thread at a time, so no instruction waits for another core; the stages of the replica are
//! recorded from the times that it is given, for it has no clock.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::buckets::{bucket, lower_bound};
use crate::time::Stamp;

/// Whether anything is counted. A build with `ROOKEEPER_UNCOUNTED` in its environment counts nothing but plain numbers of requests, packets and bytes, so that the
/// cost of all histograms, summaries and tables can be measured (`bench/counting`); it is for nothing else.
pub const COUNTS: bool = option_env!("ROOKEEPER_UNCOUNTED").is_none();

/// Nanoseconds of the finest step that is told apart.
const STEP_NS: u64 = 250;

/// Buckets grow by a quarter of a power of two. The last begins at 67 seconds.
pub const BUCKETS: usize = 112;

/// Durations, counted by their length. Only one thread at a time may record; anybody may read meanwhile.
#[derive(Debug)]
pub struct Histogram {
    sum_ns: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { sum_ns: AtomicU64::new(0), buckets: [const { AtomicU64::new(0) }; BUCKETS] }
    }
}

impl Histogram {
    /// Takes in the time between two moments.
    pub fn record(&self, from: Stamp, to: Stamp) {
        self.record_many(from, to, 1);
    }

    /// The same for `count` requests that shared it.
    pub fn record_many(&self, from: Stamp, to: Stamp, count: u64) {
        if !COUNTS {
            return;
        }
        let elapsed_ns = to.ns_since(from);
        // No other thread writes, so nothing is lost between the load and the store.
        self.sum_ns.store(self.sum_ns.load(Relaxed).wrapping_add(elapsed_ns.wrapping_mul(count)), Relaxed);
        let bucket = &self.buckets[bucket(elapsed_ns / STEP_NS, BUCKETS)];
        bucket.store(bucket.load(Relaxed).wrapping_add(count), Relaxed);
    }

    /// Adds the values of this histogram to others.
    pub fn add_to(&self, total: &mut Counts) {
        total.sum_ns = total.sum_ns.wrapping_add(self.sum_ns.load(Relaxed));
        for (total, bucket) in total.buckets.iter_mut().zip(&self.buckets) {
            *total += bucket.load(Relaxed);
        }
    }

    /// The values so far.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.add_to(&mut counts);
        counts
    }
}

/// The values of one or more histograms at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    sum_ns: u64,
    buckets: [u64; BUCKETS],
}

impl Default for Counts {
    fn default() -> Counts {
        Counts { sum_ns: 0, buckets: [0; BUCKETS] }
    }
}

impl Counts {
    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of all values.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// How many values were below each power of two of microseconds, up to 67 seconds: the power and the count.
    pub fn below_powers(&self) -> impl Iterator<Item = (u32, u64)> {
        let mut below = 0;
        self.buckets.chunks_exact(4).enumerate().map(move |(power, chunk)| {
            below += chunk.iter().sum::<u64>();
            (power as u32, below)
        })
    }

    /// The least duration that at least this share of the values does not exceed, in microseconds and within a quarter; 0 while there are none.
    pub fn quantile_us(&self, share: f64) -> f64 {
        let rank = (self.count() as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return (lower_bound(index) * STEP_NS) as f64 / 1000.0;
            }
        }
        0.0
    }
}

/// The stages that the replica sees, of requests of this server's own clients.
#[derive(Debug, Default)]
pub struct Stages {
    /// From the arrival of a write at the server to the replica.
    pub queue: Histogram,
    /// From handing a transaction to the log and to other servers, or a request to the leader, until it is committed.
    pub quorum: Histogram,
    /// From the arrival of a read until the write before it is answered, of reads that stand behind writes.
    pub read_queue: Histogram,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(ns: impl IntoIterator<Item = u64>) -> Counts {
        let histogram = Histogram::default();
        ns.into_iter().for_each(|ns| histogram.record(Stamp(1), Stamp(1 + ns)));
        histogram.counts()
    }

    #[test]
    fn every_duration_falls_into_the_bucket_that_begins_at_or_below_it() {
        for steps in (0..5000).chain([1 << 20, (1 << 29) - 1]) {
            let index = bucket(steps, BUCKETS);
            assert!(lower_bound(index) <= steps, "{steps}");
            assert!(index + 1 == BUCKETS || steps < lower_bound(index + 1), "{steps}");
        }
    }

    #[test]
    fn values_are_counted_below_whole_powers_of_microseconds() {
        let counts = recorded([999, 1_000, 1_999, 2_000, 70_000_000_000]);
        let below: Vec<(u32, u64)> = counts.below_powers().collect();
        assert_eq!((below[0], below[1], below[2]), ((0, 1), (1, 3), (2, 4)));
        assert_eq!((below.len(), below[27]), (28, (27, 5)));
        assert_eq!((counts.count(), counts.sum_ns()), (5, 70_000_005_998));
    }

    #[test]
    fn quantiles_are_within_a_quarter() {
        let counts = recorded((1..=1000).map(|us| us * 1000));
        for (share, us) in [(0.5, 500.0), (0.99, 990.0), (0.001, 1.0)] {
            let told = counts.quantile_us(share);
            assert!(told <= us && us <= told * 1.25, "{share}: {told}");
        }
        assert_eq!(recorded([]).quantile_us(0.5), 0.0);
    }

    #[test]
    fn a_clock_that_seems_to_go_back_counts_as_no_time() {
        let histogram = Histogram::default();
        histogram.record_many(Stamp(9), Stamp(5), 3);
        let mut counts = histogram.counts();
        histogram.add_to(&mut counts);
        assert_eq!((counts.count(), counts.sum_ns()), (6, 0));
    }
}
