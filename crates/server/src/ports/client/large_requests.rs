//! How many bytes of large requests may be in process at a time (`largeRequestThreshold`, `largeRequestMaxBytes`).
//!
//! What always holds here: a request counts from when it is looked at as a whole until it is answered, and is given back when its connection
//! ends; a request that is announced and would exceed the limit is refused before its bytes are taken in.
//!
//! Counterpart in the original: `ZooKeeperServer.checkRequestSizeWhenReceivingMessage` and what follows it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What all clients of a server share.
#[derive(Debug)]
pub(crate) struct LargeRequests {
    /// A longer request is a large one.
    threshold_bytes: usize,
    /// All large requests together may have so many bytes.
    max_bytes: usize,
    held_bytes: AtomicUsize,
}

impl LargeRequests {
    /// Nothing is in process yet.
    pub fn new(threshold_bytes: usize, max_bytes: usize) -> LargeRequests {
        LargeRequests { threshold_bytes, max_bytes, held_bytes: AtomicUsize::new(0) }
    }

    fn is_large(&self, bytes: usize) -> bool {
        bytes > self.threshold_bytes
    }

    /// Whether a request of this announced length may be read.
    fn may_come(&self, bytes: usize) -> bool {
        !self.is_large(bytes) || self.held_bytes.load(Relaxed).saturating_add(bytes) <= self.max_bytes
    }

    fn hold(&self, bytes: usize) -> bool {
        let fits = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.max_bytes);
        self.held_bytes.fetch_update(Relaxed, Relaxed, fits).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.held_bytes.fetch_sub(bytes, Relaxed);
    }
}

/// The large requests of one connection.
#[derive(Debug)]
pub(crate) struct Large {
    all: Arc<LargeRequests>,
    /// Bytes of the request that is looked at; zero for one that is not large.
    looked_at: usize,
    /// Those that the replica has, by their numbers among all that it got from this connection.
    submitted: VecDeque<(u64, usize)>,
}

impl Large {
    /// Of a connection that was just accepted.
    pub fn new(all: Arc<LargeRequests>) -> Large {
        Large { all, looked_at: 0, submitted: VecDeque::new() }
    }

    /// Whether a request of this length may come, of which not all is there yet.
    pub fn may_come(&self, bytes: usize) -> bool {
        self.all.may_come(bytes)
    }

    /// Whether a request of this length counts as a large one.
    pub fn is_large(&self, bytes: usize) -> bool {
        self.all.is_large(bytes)
    }

    /// A request with a body of this length is looked at. `false`: there is no room for it. May be asked again for the same one.
    #[must_use = "the connection of a request for which there is no room ends"]
    pub fn look_at(&mut self, bytes: usize) -> bool {
        if self.looked_at > 0 || !self.all.is_large(bytes) {
            return true;
        }
        let fits = self.all.hold(bytes);
        if fits {
            self.looked_at = bytes;
        }
        fits
    }

    /// The request that is looked at is answered.
    pub fn answered(&mut self) {
        self.all.give_back(std::mem::take(&mut self.looked_at));
    }

    /// The request that is looked at went to the replica, as the one with this number.
    pub fn submitted(&mut self, number: u64) {
        let bytes = std::mem::take(&mut self.looked_at);
        if bytes > 0 {
            self.submitted.push_back((number, bytes));
        }
    }

    /// Everything up to this number is answered.
    pub fn settled(&mut self, number: u64) {
        while let Some((_, bytes)) = self.submitted.pop_front_if(|(submitted, _)| *submitted <= number) {
            self.all.give_back(bytes);
        }
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        let submitted: usize = self.submitted.iter().map(|(_, bytes)| bytes).sum();
        self.all.give_back(self.looked_at + submitted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_above_the_threshold_count_and_only_while_they_are_in_process() {
        let all = Arc::new(LargeRequests::new(100, 500));
        let (mut one, mut other) = (Large::new(all.clone()), Large::new(all.clone()));
        assert!(one.look_at(100) && !one.is_large(100) && one.is_large(101));
        assert_eq!(all.held_bytes.load(Relaxed), 0);
        assert!(one.look_at(300) && one.look_at(300), "the same one is looked at twice");
        one.submitted(1);
        assert_eq!(all.held_bytes.load(Relaxed), 300);
        assert!(other.may_come(200) && !other.may_come(201) && other.may_come(100));
        assert!(!other.look_at(201) && other.look_at(200));
        other.answered();
        one.settled(0);
        assert_eq!(all.held_bytes.load(Relaxed), 300);
        one.settled(1);
        assert_eq!(all.held_bytes.load(Relaxed), 0);
    }

    #[test]
    fn a_connection_that_ends_gives_back_what_it_had() {
        let all = Arc::new(LargeRequests::new(100, 1000));
        let mut large = Large::new(all.clone());
        assert!(large.look_at(400));
        large.submitted(1);
        assert!(large.look_at(500) && !Large::new(all.clone()).look_at(101));
        drop(large);
        assert_eq!(all.held_bytes.load(Relaxed), 0);
    }

    #[test]
    fn what_is_larger_than_all_together_may_be_never_comes() {
        let large = Large::new(Arc::new(LargeRequests::new(100, 500)));
        assert!(large.may_come(500) && !large.may_come(501));
    }
}
