//! Figures of the whole server that request handling produces. Read by the four-letter words and metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use rookeeper_proto::Zxid;
use rookeeper_proto::event::EventType;

use crate::buckets::{bucket, lower_bound};
use crate::per_namespace::{MAX_NAMESPACES, SummaryPerNamespace, namespace};
use crate::stages::{COUNTS, Stages};

/// Counts since the start or the last reset.
#[derive(Debug, Default)]
pub struct Statistics {
    pub member: MemberStatistics,
    /// Not reset: whoever scrapes looks at how much they grow.
    pub stages: Stages,
    /// Milliseconds from a request's arrival to its answer, all kinds, connecting included.
    pub request_latency_ms: Summary,
    pub read_latency_ms: Summary,
    pub update_latency_ms: Summary,
    /// Milliseconds of wall-clock time from a transaction's making to its application.
    pub propagation_latency_ms: Summary,
    /// Watchers reached by one event, by its kind; events that reach nobody are not counted.
    pub watchers_of_created: Summary,
    pub watchers_of_deleted: Summary,
    pub watchers_of_changed: Summary,
    pub watchers_of_children: Summary,
    pub packets_received: AtomicU64,
    pub packets_sent: AtomicU64,
    /// Bytes on client connections, length prefixes and events included.
    pub bytes_received: AtomicU64,
    pub bytes_sent: AtomicU64,
    pub answer_bytes: Sizes,
    /// Bytes of events for watchers.
    pub watch_bytes: AtomicU64,
    /// Nodes as prepared transactions leave them, by when they were noted and when they were applied. Of whoever decides.
    pub changes_queued: AtomicU64,
    pub changes_removed: AtomicU64,
    /// Writes refused because there is no room for what grows.
    pub growing_writes_refused: AtomicU64,
    /// Writes refused by a hard quota, by the first component of their path.
    pub quota_exceeded: PerNamespace,
    /// Bytes written, in the original's way of counting: the path and the data.
    pub written_bytes: SummaryPerNamespace,
    /// Clients that named the ensemble they mean, by what came of it; not judged where either side named none.
    pub ensemble_names_right: AtomicU64,
    pub ensemble_names_wrong: AtomicU64,
    pub ensemble_names_not_judged: AtomicU64,
    /// What the connection throttle lacked to be full, whenever it let a client in.
    pub connection_token_deficit: Summary,
    /// Milliseconds that requests waited for their turn, of a server that limits how many are on their way.
    pub throttle_wait_ms: Summary,
    /// How often the first of them found too many on their way.
    pub throttle_waits: AtomicU64,
    /// Requests that were refused because they had waited too long.
    pub throttled_requests: AtomicU64,
    /// Requests nobody waited for any more, by what became of them: taken all the same, dropped, answered.
    pub stale_requests: AtomicU64,
    pub stale_requests_dropped: AtomicU64,
    pub stale_answers: AtomicU64,
    pub sessions_expired: AtomicU64,
    pub digest_mismatches: AtomicU64,
    /// The first transaction after which the tree was not what it should be; 0: none. Not reset: the tree does not get better by that.
    pub first_digest_mismatch: AtomicI64,
    /// Beyond a limit on connections, or refused by the connection throttle.
    pub connections_rejected: AtomicU64,
    /// Large requests whose connections were closed, because too many bytes of such were in process.
    pub large_requests_refused: AtomicU64,
    /// Handshakes of TLS that failed, whoever refused.
    pub tls_handshakes_failed: AtomicU64,
    /// Connections that were closed because too many handshakes of TLS were under way.
    pub tls_handshakes_beyond_limit: AtomicU64,
    /// Connections with TLS that were closed before their handshake because nobody was served.
    pub tls_connections_not_served: AtomicU64,
    /// Handshakes that arrived, whatever became of them.
    pub connection_requests: AtomicU64,
    /// Connections that their clients ended.
    pub connections_dropped: AtomicU64,
    /// Connections that made this server hold too much. Not reset: it tells of an attack.
    pub connections_cut_for_memory: AtomicU64,
    /// Handshakes of clients that came with a session, whatever became of them.
    pub sessions_presented: AtomicU64,
    /// Connections closed because they never asked for a session.
    pub sessionless_connections_expired: AtomicU64,
    /// Not reset: whoever guesses passwords should not be able to hide it from the next look.
    pub authentications_refused: AtomicU64,
}

impl Statistics {
    /// Counts transactions after which the tree had another digest than was predicted; `first` is the first of them.
    pub fn note_digest_mismatches(&self, count: u64, first: Zxid) {
        self.digest_mismatches.fetch_add(count, Relaxed);
        let _ = self.first_digest_mismatch.compare_exchange(0, first.0, Relaxed, Relaxed);
    }

    /// What `srst` does.
    pub fn reset(&self) {
        for summary in [
            &self.request_latency_ms,
            &self.read_latency_ms,
            &self.update_latency_ms,
            &self.propagation_latency_ms,
            &self.watchers_of_created,
            &self.watchers_of_deleted,
            &self.watchers_of_changed,
            &self.watchers_of_children,
            &self.connection_token_deficit,
            &self.throttle_wait_ms,
        ] {
            summary.reset();
        }
        self.answer_bytes.reset();
        self.written_bytes.reset();
        self.quota_exceeded.counts.lock().clear();
        self.member.reset();
        for counter in [
            &self.packets_received,
            &self.packets_sent,
            &self.bytes_received,
            &self.bytes_sent,
            &self.watch_bytes,
            &self.changes_queued,
            &self.changes_removed,
            &self.throttle_waits,
            &self.throttled_requests,
            &self.stale_requests,
            &self.stale_requests_dropped,
            &self.stale_answers,
            &self.sessions_expired,
            &self.digest_mismatches,
            &self.connections_rejected,
            &self.growing_writes_refused,
            &self.large_requests_refused,
            &self.tls_handshakes_failed,
            &self.tls_handshakes_beyond_limit,
            &self.tls_connections_not_served,
            &self.connection_requests,
            &self.connections_dropped,
            &self.sessions_presented,
            &self.sessionless_connections_expired,
            &self.ensemble_names_right,
            &self.ensemble_names_wrong,
            &self.ensemble_names_not_judged,
        ] {
            counter.store(0, Relaxed);
        }
    }

    /// Notes an event and how many watchers it goes to.
    pub(crate) fn note_fired(&self, event_type: EventType, watchers: usize) {
        let summary = match event_type {
            EventType::NodeCreated => &self.watchers_of_created,
            EventType::NodeDeleted => &self.watchers_of_deleted,
            EventType::NodeDataChanged => &self.watchers_of_changed,
            EventType::NodeChildrenChanged => &self.watchers_of_children,
        };
        summary.record(watchers as u64);
    }
}

/// What only a member of an ensemble does; a standalone server leaves all of it at zero. What counts and what does not is the original's:
/// history that a learner catches up with is no broadcast, and the commit of a reconfiguration, which goes out as another packet, is
/// neither counted nor timed. Latencies are wall-clock milliseconds since the leader made the transaction; those that clocks of two
/// servers make negative are left out.
#[derive(Debug, Default)]
pub struct MemberStatistics {
    /// Elections this server took part in.
    pub searches: AtomicU64,
    /// Milliseconds from the loss of a leader to the choice of the next one, of those who vote.
    pub election_ms: Summary,
    /// Milliseconds without a leader that a quorum has acknowledged, from the start or the loss of the last one.
    pub unavailable_ms: Summary,
    /// Those that ended with this server as the leader.
    pub unavailable_until_leading_ms: Summary,
    /// Attempts to lead given up because a voter looked for a leader again.
    pub disloyal_voters: AtomicU64,

    /// Milliseconds from ACKEPOCH to UPTODATE.
    pub follower_sync_ms: Summary,
    pub observer_sync_ms: Summary,
    /// Of a follower.
    pub proposals_received: AtomicU64,
    pub commits_received: AtomicU64,
    /// When the proposal is here: of a follower.
    pub proposal_latency_ms: Summary,
    /// When the commit is here.
    pub commit_latency_ms: Summary,

    /// When it is on this server's disk: of a leader, and of a follower, which acknowledges it then.
    pub acknowledgement_latency_ms: Summary,

    pub proposals: AtomicU64,
    pub commits: AtomicU64,
    /// When a quorum has it.
    pub quorum_latency_ms: Summary,
    /// Learners brought up to date by what they lacked or by cutting what they had too much, and by a snapshot.
    pub log_syncs: AtomicU64,
    pub snapshot_syncs: AtomicU64,
    /// How many were under way, looked at whenever one begins or ends.
    pub log_syncs_under_way: Summary,
    pub snapshot_syncs_under_way: Summary,
    /// Sessions that learners asked about.
    pub revalidations: AtomicU64,
}

impl MemberStatistics {
    fn reset(&self) {
        for summary in [
            &self.election_ms,
            &self.unavailable_ms,
            &self.unavailable_until_leading_ms,
            &self.follower_sync_ms,
            &self.observer_sync_ms,
            &self.proposal_latency_ms,
            &self.commit_latency_ms,
            &self.acknowledgement_latency_ms,
            &self.quorum_latency_ms,
            &self.log_syncs_under_way,
            &self.snapshot_syncs_under_way,
        ] {
            summary.reset();
        }
        for counter in [
            &self.searches,
            &self.disloyal_voters,
            &self.proposals_received,
            &self.commits_received,
            &self.proposals,
            &self.commits,
            &self.log_syncs,
            &self.snapshot_syncs,
            &self.revalidations,
        ] {
            counter.store(0, Relaxed);
        }
    }
}

/// A counter for each first component of a path, of what happens rarely. More namespaces than can be counted are left out.
#[derive(Debug, Default)]
pub struct PerNamespace {
    counts: Mutex<BTreeMap<String, u64>>,
}

impl PerNamespace {
    pub(crate) fn note(&self, path: &str) {
        let Some(namespace) = namespace(path) else { return };
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(namespace) {
            *count += 1;
        } else if counts.len() < MAX_NAMESPACES {
            counts.insert(namespace.to_owned(), 1);
        }
    }

    /// The counters by the first component of their paths.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().clone()
    }
}

/// The last, least and largest of a series of sizes in bytes, without a lock. Each is -1 while there was none.
#[derive(Debug)]
pub struct Sizes {
    last: AtomicI64,
    min: AtomicI64,
    max: AtomicI64,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes { last: AtomicI64::new(-1), min: AtomicI64::new(-1), max: AtomicI64::new(-1) }
    }
}

impl Sizes {
    /// Takes in the next size.
    pub fn record(&self, bytes: usize) {
        if !COUNTS {
            return;
        }
        let bytes = bytes as i64;
        self.last.store(bytes, Relaxed);
        // Read as unsigned, -1 is above every size.
        if (bytes as u64) < self.min.load(Relaxed) as u64 {
            self.min.store(bytes, Relaxed);
        }
        if bytes > self.max.load(Relaxed) {
            self.max.store(bytes, Relaxed);
        }
    }

    /// The last size in bytes; -1 while there was none.
    pub fn last(&self) -> i64 {
        self.last.load(Relaxed)
    }

    /// The least size in bytes; -1 while there was none.
    pub fn min(&self) -> i64 {
        self.min.load(Relaxed)
    }

    /// The largest size in bytes; -1 while there was none.
    pub fn max(&self) -> i64 {
        self.max.load(Relaxed)
    }

    /// Begins anew, as if there had been none.
    pub fn reset(&self) {
        for size in [&self.last, &self.min, &self.max] {
            size.store(-1, Relaxed);
        }
    }
}

/// Buckets grow by a quarter of a power of two: exact up to 4, then within 25 %.
const BUCKETS: usize = 160;

/// Count, sum, least, largest and quantiles of a series of whole numbers, without locks and in constant space.
#[derive(Debug)]
pub struct Summary {
    sum: AtomicU64,
    /// `u64::MAX` while empty.
    min: AtomicU64,
    max: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Summary {
    fn default() -> Summary {
        Summary {
            sum: AtomicU64::new(0),
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }
}

impl Summary {
    /// Takes in the next value.
    pub fn record(&self, value: u64) {
        self.record_many(value, 1);
    }

    /// A measurement that may be negative, and is left out then.
    pub(crate) fn record_unless_negative(&self, value: i64) {
        if let Ok(value) = u64::try_from(value) {
            self.record(value);
        }
    }

    /// Takes in the same value `count` times.
    pub fn record_many(&self, value: u64, count: u64) {
        if !COUNTS {
            return;
        }
        // Most latencies are 0 ms, and each addition locks a cache line.
        if value > 0 {
            self.sum.fetch_add(value * count, Relaxed);
        }
        // The limits move rarely; asking first keeps the cache line shared.
        if value < self.min.load(Relaxed) {
            self.min.fetch_min(value, Relaxed);
        }
        if value > self.max.load(Relaxed) {
            self.max.fetch_max(value, Relaxed);
        }
        self.buckets[bucket(value, BUCKETS)].fetch_add(count, Relaxed);
    }

    /// Begins anew, as if there had been no value.
    pub fn reset(&self) {
        self.sum.store(0, Relaxed);
        self.min.store(u64::MAX, Relaxed);
        self.max.store(0, Relaxed);
        for bucket in &self.buckets {
            bucket.store(0, Relaxed);
        }
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    /// The sum of all values.
    pub fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }

    /// 0 while empty.
    pub fn min(&self) -> u64 {
        match self.min.load(Relaxed) {
            u64::MAX => 0,
            min => min,
        }
    }

    /// 0 while empty.
    pub fn max(&self) -> u64 {
        self.max.load(Relaxed)
    }

    /// 0 while empty.
    pub fn mean(&self) -> f64 {
        match self.count() {
            0 => 0.0,
            count => self.sum() as f64 / count as f64,
        }
    }

    /// The least value that at least this share of the series does not exceed, within a bucket's width. 0 while empty.
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen += bucket.load(Relaxed);
            if seen >= rank && seen > 0 {
                return lower_bound(index).clamp(self.min(), self.max());
            }
        }
        self.max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_into_the_bucket_that_begins_at_or_below_it() {
        for value in (0..5000).chain([u64::from(u32::MAX), 1 << 39]) {
            let index = bucket(value, BUCKETS);
            assert!(lower_bound(index) <= value, "{value}");
            assert!(index + 1 == BUCKETS || value < lower_bound(index + 1), "{value}");
        }
    }

    #[test]
    fn sizes_begin_unknown_and_follow_the_series() {
        let sizes = Sizes::default();
        assert_eq!((sizes.last(), sizes.min(), sizes.max()), (-1, -1, -1));
        [20, 16, 40, 18].into_iter().for_each(|bytes| sizes.record(bytes));
        assert_eq!((sizes.last(), sizes.min(), sizes.max()), (18, 16, 40));
        sizes.reset();
        assert_eq!(sizes.min(), -1);
    }

    #[test]
    fn what_clocks_make_negative_is_left_out() {
        let summary = Summary::default();
        [-1, i64::MIN, 0, 7].into_iter().for_each(|value| summary.record_unless_negative(value));
        assert_eq!((summary.count(), summary.sum()), (2, 7));
    }

    #[test]
    fn a_summary_of_a_hundred_values() {
        let summary = Summary::default();
        assert_eq!((summary.min(), summary.max(), summary.quantile(0.5)), (0, 0, 0));
        (1..=100).for_each(|value| summary.record(value));
        assert_eq!((summary.count(), summary.sum(), summary.min(), summary.max()), (100, 5050, 1, 100));
        assert!((40..=50).contains(&summary.quantile(0.5)), "{}", summary.quantile(0.5));
        assert!((96..=100).contains(&summary.quantile(0.999)));
    }
}
