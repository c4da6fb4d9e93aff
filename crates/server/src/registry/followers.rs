//! Clients that follow the changes: each waits until something has changed. What they ask and hear: `rest/changes.rs` in the registry.
//!
//! What always holds here: there are few of them and what is on its way to them is bounded, in bytes; the more there are, the longer changes are gathered
//! before they are woken, so that many clients and many changes together cost no more than either.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

/// Clients that wait at the same time.
const SEATS: usize = 10_000;

/// Answers on their way, in KiB.
const UNSENT_KIB: usize = 128 << 10;

/// How long changes are gathered.
const SHORTEST_LINGER_MS: usize = 2;
const LONGEST_LINGER_MS: usize = 100;

#[derive(Debug)]
pub(super) struct Followers {
    seats: Arc<Semaphore>,
    unsent: Arc<Semaphore>,
    /// The number of the moment that is shown.
    shown: AtomicU64,
    /// The number has changed.
    news: Notify,
    /// The number of which those who wait know.
    told: watch::Sender<u64>,
}

/// A client that waits.
#[derive(Debug)]
pub(super) struct Follower {
    told: watch::Receiver<u64>,
    _seat: OwnedSemaphorePermit,
}

impl Default for Followers {
    fn default() -> Followers {
        Followers {
            seats: Arc::new(Semaphore::new(SEATS)),
            unsent: Arc::new(Semaphore::new(UNSENT_KIB)),
            shown: AtomicU64::new(0),
            news: Notify::new(),
            told: watch::Sender::new(0),
        }
    }
}

impl Followers {
    /// What is shown has this number now. To be called while the registry is locked.
    pub fn note(&self, number: u64) {
        if self.shown.swap(number, Relaxed) != number {
            self.news.notify_one();
        }
    }

    /// A client that is going to wait; none where there are too many.
    pub fn follow(&self) -> Option<Follower> {
        let seat = self.seats.clone().try_acquire_owned().ok()?;
        Some(Follower { told: self.told.subscribe(), _seat: seat })
    }

    /// Room for an answer that is sent; none where too much is on its way.
    pub fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.unsent.clone().try_acquire_many_owned((bytes.div_ceil(1024) as u32).max(1)).ok()
    }

    /// Clients that wait.
    pub fn waiting(&self) -> usize {
        SEATS - self.seats.available_permits()
    }

    /// Wakes those who wait, for as long as the server runs.
    pub async fn wake(&self) {
        loop {
            self.news.notified().await;
            tokio::time::sleep(linger(self.waiting())).await;
            self.told.send_replace(self.shown.load(Relaxed));
        }
    }
}

impl Follower {
    /// Waits until something has changed since this was made, or since the last time.
    pub async fn news(&mut self) {
        // The sender lives as long as the server.
        let _ = self.told.changed().await;
    }
}

/// 10 ms for a thousand clients, to each of which an answer is sent.
fn linger(waiting: usize) -> Duration {
    Duration::from_millis((waiting / 100).clamp(SHORTEST_LINGER_MS, LONGEST_LINGER_MS) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn followers_hear_of_changes_within_a_moment_and_many_changes_wake_them_once() {
        let followers = Arc::new(Followers::default());
        let waking = followers.clone();
        let task = tokio::spawn(async move { waking.wake().await });
        let mut all: Vec<Follower> = (0..SEATS).map(|_| followers.follow().unwrap()).collect();
        assert!(followers.follow().is_none(), "there are no more seats");
        let begin = tokio::time::Instant::now();
        (1..1000).for_each(|number| followers.note(number));
        for follower in &mut all {
            follower.news().await;
        }
        assert_eq!(begin.elapsed(), Duration::from_millis(LONGEST_LINGER_MS as u64));
        let [first, ..] = all.as_mut_slice() else { unreachable!() };
        let again = tokio::time::timeout(Duration::from_secs(60), first.news()).await;
        assert!(again.is_err(), "woken twice by what came at once");
        all.truncate(1);
        assert_eq!(followers.waiting(), 1);
        task.abort();
    }

    #[test]
    fn what_is_on_its_way_is_bounded() {
        let followers = Followers::default();
        let most = UNSENT_KIB << 10;
        let room = followers.room(most - 1024).unwrap();
        let (second, third) = (followers.room(1), followers.room(1));
        assert!(second.is_some() && third.is_none());
        drop(room);
        assert!(followers.room(1).is_some());
    }
}
