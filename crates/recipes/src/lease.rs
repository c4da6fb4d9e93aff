//! For how long a holder may act on what it knows, without IO and without a clock: times are nanoseconds of any clock that never goes back.
//!
//! The servers end a session when they have heard nothing of it for its timeout. An answer to a `sync` proves that the leader knew the session to
//! live after the `sync` was sent. At the leader that `sync` is a sign of life itself, so the session lives for its timeout from then on. Leaders of
//! Apache ZooKeeper hear of a session that is used at another server with that server's next answer to a ping, within a tick; the timeout is at least
//! two ticks. Whoever stops after half the timeout, and is gone after two thirds, is gone in time there too where the timeout is at least three ticks
//! and the leader has heard of the session before. It has not where the holder's process stood still for nearly the timeout right before the proof: then
//! the session may end before that answer. The fencing token is for such cases.

use std::time::Duration;

/// What a holder may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Go on.
    Holds,
    /// Stop in order: there is time for that.
    Stop,
    /// Be gone at once: somebody else may hold soon.
    End,
}

/// The time that one proof gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// When the holder should stop, in nanoseconds.
    pub stop_ns: u64,
    /// When the holder must be gone, in nanoseconds.
    pub end_ns: u64,
}

impl Lease {
    /// From a proof whose question was sent at `sent_ns`, with the timeout of the session as the server granted it.
    pub fn proved(sent_ns: u64, session_timeout: Duration) -> Lease {
        let timeout_ns = u64::try_from(session_timeout.as_nanos()).unwrap_or(u64::MAX / 2);
        Lease { stop_ns: sent_ns + timeout_ns / 2, end_ns: sent_ns + timeout_ns / 3 * 2 }
    }

    /// What may be done at this time.
    pub fn judge(&self, now_ns: u64) -> Verdict {
        match now_ns {
            now if now >= self.end_ns => Verdict::End,
            now if now >= self.stop_ns => Verdict::Stop,
            _ => Verdict::Holds,
        }
    }

    /// When the verdict is the next one; nothing changes after the end.
    pub fn next_ns(&self, now_ns: u64) -> Option<u64> {
        [self.stop_ns, self.end_ns].into_iter().find(|time| *time > now_ns)
    }
}

/// How often a holder should ask for a proof, so that a lost question or two do no harm.
pub fn proof_interval(session_timeout: Duration) -> Duration {
    session_timeout / 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_gives_half_the_timeout_to_go_on_and_two_thirds_to_be_gone() {
        let lease = Lease::proved(1_000, Duration::from_nanos(600));
        let verdicts = [1_299, 1_300, 1_399, 1_400, 9_999].map(|now| lease.judge(now));
        assert_eq!(verdicts, [Verdict::Holds, Verdict::Stop, Verdict::Stop, Verdict::End, Verdict::End]);
        assert_eq!([0, 1_300, 1_400].map(|now| lease.next_ns(now)), [Some(1_300), Some(1_400), None]);
    }
}
