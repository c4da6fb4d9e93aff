//! When a new log file is begun and a snapshot taken.
//!
//! Both limits are halves plus a random part of the other half, drawn again after every roll, so that the members of an ensemble do not
//! all take their snapshots at once. The draw comes from a seed: the same seed rolls at the same places.
//!
//! Counterpart in the original: `SyncRequestProcessor.shouldSnapshot`.

use rookeeper_proto::random::Random;

/// How much is logged between two snapshots, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollLimits {
    /// `snapCount`; below 2 counts as 2.
    pub records: u64,
    /// `snapSizeLimitInKb`, in bytes. Only bytes of records count.
    pub bytes: Option<u64>,
    /// `txnLogSizeLimitInKb`, in bytes: a file longer than this is followed by a new one, without a snapshot.
    pub file_bytes: Option<u64>,
}

impl Default for RollLimits {
    fn default() -> Self {
        RollLimits { records: 100_000, bytes: Some(4 << 30), file_bytes: None }
    }
}

#[derive(Debug)]
pub(crate) struct RollPolicy {
    limits: RollLimits,
    random: u64,
    records: u64,
    bytes: u64,
    records_due: u64,
    bytes_due: Option<u64>,
}

impl RollPolicy {
    /// Another seed gives other limits, so that members do not roll at the same moment.
    pub fn new(limits: RollLimits, seed: u64) -> RollPolicy {
        let mut policy = RollPolicy { limits, random: seed, records: 0, bytes: 0, records_due: 0, bytes_due: None };
        policy.rolled();
        policy
    }

    /// So much was written.
    pub fn count(&mut self, records: u64, bytes: u64) {
        self.records += records;
        self.bytes += bytes;
    }

    /// Whether it is time for a new file.
    pub fn wants_roll(&self) -> bool {
        self.records > self.records_due || self.bytes_due.is_some_and(|due| self.bytes > due)
    }

    /// A new file was begun.
    pub fn rolled(&mut self) {
        (self.records, self.bytes) = (0, 0);
        self.records_due = self.draw(self.limits.records.max(2));
        self.bytes_due = self.limits.bytes.map(|limit| self.draw(limit));
    }

    /// Half of the limit plus less than the other half.
    fn draw(&mut self, limit: u64) -> u64 {
        self.random = Random::new(self.random).draw();
        let half = limit / 2;
        half + if half == 0 { 0 } else { self.random % half }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many records of 100 bytes each the next rolls come.
    fn rolls(limits: RollLimits, seed: u64) -> Vec<u64> {
        let mut policy = RollPolicy::new(limits, seed);
        let mut rolls = Vec::new();
        for _ in 0..50 {
            let mut records = 0;
            while !policy.wants_roll() {
                policy.count(1, 100);
                records += 1;
            }
            rolls.push(records);
            policy.rolled();
        }
        rolls
    }

    #[test]
    fn rolls_come_between_half_and_all_of_the_limit_and_differ() {
        for (limits, range) in [
            (RollLimits { records: 100, bytes: None, file_bytes: None }, 51..=100),
            (RollLimits { records: 1_000_000, bytes: Some(10_000), file_bytes: None }, 51..=100),
        ] {
            let rolls = rolls(limits, 7);
            assert!(rolls.iter().all(|records| range.contains(records)), "{rolls:?}");
            assert!(rolls.iter().any(|records| records != &rolls[0]), "{rolls:?}");
            assert_eq!(rolls, self::rolls(limits, 7));
            assert_ne!(rolls, self::rolls(limits, 8));
        }
        assert_eq!(rolls(RollLimits { records: 0, bytes: None, file_bytes: None }, 1), [2; 50]);
    }
}
