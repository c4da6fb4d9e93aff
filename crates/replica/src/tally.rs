//! What the replica counts of each write, gathered until a call is done: the writes of a batch mostly have the same values, and an addition to a
//! summary that others read is dear.
//!
//! What always holds here: between two calls of the replica nothing is held back ([`Tallies::tell`]).

use crate::per_namespace::Slot;
use crate::stages::{COUNTS, Histogram};
use crate::statistics::{Statistics, Summary};
use crate::time::Stamp;

/// Equal things in a row.
#[derive(Debug, Default)]
struct Run<T> {
    what: T,
    count: u64,
}

impl<T: PartialEq + Copy> Run<T> {
    /// Takes in one more. Returns the run before, where this begins another one.
    fn add(&mut self, what: T) -> Option<(T, u64)> {
        if self.what == what {
            self.count += 1;
            return None;
        }
        let ended = self.end();
        (self.what, self.count) = (what, 1);
        ended
    }

    fn end(&mut self) -> Option<(T, u64)> {
        let count = std::mem::take(&mut self.count);
        (count > 0).then_some((self.what, count))
    }
}

/// Not yet in the [`Statistics`].
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    propagation_ms: Run<u64>,
    update_ms: Run<u64>,
    request_ms: Run<u64>,
    queue: Run<(Stamp, Stamp)>,
    quorum: Run<(Stamp, Stamp)>,
    written: Run<(Slot, u64)>,
    /// The first component of the path that was written last, and its place among the summaries.
    namespace: (String, Slot),
    is_empty: bool,
}

impl Tallies {
    pub fn propagation_ms(&mut self, statistics: &Statistics, value: u64) {
        self.value(|this| &mut this.propagation_ms, &statistics.propagation_latency_ms, value);
    }

    pub fn update_ms(&mut self, statistics: &Statistics, value: u64) {
        self.value(|this| &mut this.update_ms, &statistics.update_latency_ms, value);
    }

    pub fn request_ms(&mut self, statistics: &Statistics, value: u64) {
        self.value(|this| &mut this.request_ms, &statistics.request_latency_ms, value);
    }

    pub fn queue(&mut self, statistics: &Statistics, from: Stamp, to: Stamp) {
        self.stage(|this| &mut this.queue, &statistics.stages.queue, from, to);
    }

    pub fn quorum(&mut self, statistics: &Statistics, from: Stamp, to: Stamp) {
        self.stage(|this| &mut this.quorum, &statistics.stages.quorum, from, to);
    }

    /// A node was written, or deleted where there is no data.
    pub fn written(&mut self, statistics: &Statistics, path: &str, data_bytes: usize) {
        if !COUNTS {
            return;
        }
        let all = &statistics.written_bytes;
        if !is_below(path, &self.namespace.0) {
            let Some((name, slot)) = all.slot(path) else { return };
            self.namespace.0.clear();
            self.namespace.0.push_str(name);
            self.namespace.1 = slot;
        }
        self.is_empty = false;
        if let Some(((slot, bytes), count)) = self.written.add((self.namespace.1, (path.len() + data_bytes) as u64)) {
            all.record(slot, bytes, count);
        }
    }

    /// Tells all that was gathered.
    pub fn tell(&mut self, statistics: &Statistics) {
        if std::mem::replace(&mut self.is_empty, true) {
            return;
        }
        for (run, summary) in [
            (&mut self.propagation_ms, &statistics.propagation_latency_ms),
            (&mut self.update_ms, &statistics.update_latency_ms),
            (&mut self.request_ms, &statistics.request_latency_ms),
        ] {
            run.end().inspect(|(value, count)| summary.record_many(*value, *count));
        }
        for (run, histogram) in
            [(&mut self.queue, &statistics.stages.queue), (&mut self.quorum, &statistics.stages.quorum)]
        {
            run.end().inspect(|((from, to), count)| histogram.record_many(*from, *to, *count));
        }
        self.written.end().inspect(|((slot, bytes), count)| statistics.written_bytes.record(*slot, *bytes, *count));
    }

    fn value(&mut self, run: impl Fn(&mut Tallies) -> &mut Run<u64>, summary: &Summary, value: u64) {
        if COUNTS {
            self.is_empty = false;
            run(self).add(value).inspect(|(value, count)| summary.record_many(*value, *count));
        }
    }

    fn stage(
        &mut self,
        run: impl Fn(&mut Tallies) -> &mut Run<(Stamp, Stamp)>,
        histogram: &Histogram,
        from: Stamp,
        to: Stamp,
    ) {
        if COUNTS {
            self.is_empty = false;
            run(self).add((from, to)).inspect(|((from, to), count)| histogram.record_many(*from, *to, *count));
        }
    }
}

/// Whether a namespace is the first component of a path.
fn is_below(path: &str, namespace: &str) -> bool {
    let behind = path.get(1..).and_then(|path| path.strip_prefix(namespace));
    !namespace.is_empty() && behind.is_some_and(|behind| behind.is_empty() || behind.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gathered_is_told_as_if_each_had_been() {
        let (statistics, mut tallies) = (Statistics::default(), Tallies::default());
        for value in [0, 0, 7, 7, 7, 2] {
            tallies.update_ms(&statistics, value);
        }
        tallies.request_ms(&statistics, 0);
        for (from, to) in [(1, 9), (1, 9), (3, 9)] {
            tallies.queue(&statistics, Stamp(from), Stamp(to));
        }
        for _ in 0..2 {
            tallies.tell(&statistics);
            let told = &statistics.update_latency_ms;
            assert_eq!((told.count(), told.sum(), told.min(), told.max()), (6, 23, 0, 7));
            assert_eq!((statistics.request_latency_ms.count(), statistics.propagation_latency_ms.count()), (1, 0));
            let queue = statistics.stages.queue.counts();
            assert_eq!((queue.count(), queue.sum_ns()), (3, 8 + 8 + 6));
        }
    }

    #[test]
    fn bytes_go_to_the_namespace_of_their_own_path() {
        let (statistics, mut tallies) = (Statistics::default(), Tallies::default());
        for (path, bytes) in [("/a", 8), ("/a/b", 6), ("/ab", 7), ("/", 9), ("/a/c", 6), ("/a", 8)] {
            tallies.written(&statistics, path, bytes);
        }
        tallies.tell(&statistics);
        let all = statistics.written_bytes.summaries();
        let told: Vec<_> = all.into_iter().map(|(name, summary)| (name, summary.count(), summary.sum())).collect();
        assert_eq!(told, [("a", 4, 40), ("ab", 1, 10)]);
    }
}
