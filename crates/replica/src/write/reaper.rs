//! Containers and TTL nodes go when nobody needs them any more.
//!
//! Once per interval all of them are looked at, in portions, so that nobody waits for this however many there are. Candidates are handed
//! out one by one, spaced so that a large clean-up does not push clients' requests aside, and each is checked again when its turn comes.
//!
//! Counterpart in the original: `ContainerManager`.

use std::collections::VecDeque;
use std::ops::Deref;

use rookeeper_proto::MonotonicMs;
use rookeeper_tree::{Mark, Tree};

use crate::settings::Reaping;
use crate::time::Time;

/// Nodes looked at in one call, and so many candidates at most.
const PORTION: usize = 1000;

/// How far a round has come.
#[derive(Debug, Clone, Copy)]
enum Round {
    Over,
    /// The next portion begins behind the mark.
    At(Option<Mark>),
}

#[derive(Debug)]
pub(crate) struct Reaper {
    reaping: Reaping,
    candidates: VecDeque<String>,
    round: Round,
    next_ms: MonotonicMs,
    collect_ms: MonotonicMs,
}

impl Reaper {
    /// The first round comes one interval after the start.
    pub fn new(reaping: Reaping, now_ms: MonotonicMs) -> Reaper {
        let collect_ms = now_ms + reaping.interval_ms.max(1);
        Reaper { reaping, candidates: VecDeque::new(), round: Round::Over, next_ms: collect_ms, collect_ms }
    }

    /// When [`Reaper::next`] may have something to hand out.
    pub fn deadline_ms(&self) -> MonotonicMs {
        self.next_ms
    }

    /// The next node to remove, if one is due now. Call again at the deadline, which may have come already: then this has only looked.
    pub fn next<T: Deref<Target = Tree>>(&mut self, now: Time, tree: impl Fn() -> T) -> Option<String> {
        if now.monotonic_ms < self.next_ms {
            return None;
        }
        if self.candidates.is_empty() {
            if matches!(self.round, Round::Over) && now.monotonic_ms >= self.collect_ms {
                self.collect_ms = now.monotonic_ms + self.reaping.interval_ms.max(1);
                self.round = Round::At(None);
            }
            if let Round::At(mark) = self.round {
                let never_used_ms = self.reaping.max_never_used_ms;
                let (due, mark) = tree().reap_candidates(now.wall_ms.0, never_used_ms, mark, PORTION);
                self.candidates = due.into();
                self.round = mark.map_or(Round::Over, |mark| Round::At(Some(mark)));
            }
        }
        let next = self.candidates.pop_front();
        let goes_on = !self.candidates.is_empty() || matches!(self.round, Round::At(_));
        self.next_ms = match (&next, goes_on) {
            (Some(_), true) => now.monotonic_ms + 60_000 / self.reaping.max_per_minute.max(1),
            (None, true) => now.monotonic_ms,
            (_, false) => self.collect_ms,
        };
        next
    }
}

#[cfg(test)]
mod tests {
    use rookeeper_proto::txn::{CreateKind, CreateTxn};
    use rookeeper_proto::{SessionId, Txn, TxnHeader, WallMs, Zxid};

    use super::*;

    /// Nodes that are due after 1 ms from the given number on, after an hour before it.
    fn tree(nodes: i64, due_from: i64) -> Tree {
        let mut tree = Tree::new();
        for number in 0..nodes {
            let kind = CreateKind::Ttl { ttl_ms: if number < due_from { 3_600_000 } else { 1 } };
            let path = format!("/{number:05}");
            let create = CreateTxn { path, data: None, acl: None, kind, parent_cversion: -1 };
            let header = TxnHeader { session: SessionId(1), cxid: 0, zxid: Zxid(number + 1), time_ms: 0 };
            tree.apply(&header, Txn::Create(create), &mut Vec::new());
        }
        tree
    }

    fn at(ms: i64) -> Time {
        Time::of_ms(MonotonicMs(ms), WallMs(ms))
    }

    #[test]
    fn a_round_looks_at_a_portion_per_call_and_hands_out_what_is_due_with_pauses() {
        let reaping = Reaping { interval_ms: 60_000, max_per_minute: 600, max_never_used_ms: 0 };
        let tree = tree(3500, 3498);
        let mut reaper = Reaper::new(reaping, MonotonicMs(0));
        assert_eq!((reaper.next(at(59_999), || &tree), reaper.deadline_ms()), (None, MonotonicMs(60_000)));
        // Three portions without a candidate, at once one after the other.
        for _ in 0..3 {
            assert_eq!((reaper.next(at(60_000), || &tree), reaper.deadline_ms()), (None, MonotonicMs(60_000)));
        }
        assert_eq!(reaper.next(at(60_000), || &tree).as_deref(), Some("/03498"));
        assert_eq!((reaper.next(at(60_099), || &tree), reaper.deadline_ms()), (None, MonotonicMs(60_100)));
        assert_eq!(reaper.next(at(60_100), || &tree).as_deref(), Some("/03499"));
        assert_eq!(reaper.deadline_ms(), MonotonicMs(120_000), "the next round");
    }

    #[test]
    fn a_round_with_more_candidates_than_a_portion_finds_all_of_them() {
        let reaping = Reaping { interval_ms: 1000, max_per_minute: 60_000, max_never_used_ms: 0 };
        let tree = tree(2500, 0);
        let (mut reaper, mut now_ms, mut found) = (Reaper::new(reaping, MonotonicMs(0)), MonotonicMs(1000), Vec::new());
        while found.len() < 2500 {
            found.extend(reaper.next(at(now_ms.0), || &tree));
            now_ms = reaper.deadline_ms();
        }
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 2500, "each was handed out once");
    }
}
