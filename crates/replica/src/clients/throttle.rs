//! Requests that wait for their turn while too many are on their way (`request_throttle_max_requests`).
//!
//! All connections of a server share one queue. What always holds here:
//! - a request goes only while fewer than the limit are on their way, and never before another one that came to the queue earlier. Client
//!   threads that find the queue empty at the same moment may exceed the limit by one request each;
//! - what is dropped takes its connection along, so no later request of a connection overtakes an earlier one;
//! - without a limit nothing here is locked, counted or waited for;
//! - a connection has one place at most, and gives it back when it ends.
//!
//! Counterpart in the original: `RequestThrottler`, which makes reads wait as well that need nothing of the queue.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicUsize, fence};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use rookeeper_proto::{MonotonicMs, OpCode};

use crate::clients::connection::Connection;
use crate::clients::shared::Shared;

/// When a request counts as one that nobody waits for any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staleness {
    /// Its client has hung up.
    pub by_connection: bool,
    /// It is older than the timeout of its session.
    pub by_latency: bool,
}

impl Default for Staleness {
    fn default() -> Staleness {
        Staleness { by_connection: true, by_latency: false }
    }
}

impl Staleness {
    /// Whether a request is stale `age_ms` after it arrived. The end of a session never is: it cleans up.
    pub fn holds(self, op: OpCode, hung_up: bool, age_ms: i64, timeout_ms: i32) -> bool {
        op != OpCode::CloseSession
            && ((self.by_connection && hung_up) || (self.by_latency && age_ms > i64::from(timeout_ms)))
    }
}

/// How many requests may be on their way, and what becomes of those that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThrottleSettings {
    /// While as many are on their way, further ones wait.
    pub max_requests: usize,
    /// The first in the queue looks again after so long at the latest.
    pub stall_ms: i64,
    /// What is stale when its turn comes, or while it is the first, is dropped together with its connection.
    pub drops_stale: bool,
    /// What has waited longer is refused when its turn comes. None refuses nothing.
    pub refuse_after_ms: Option<i64>,
}

/// A request at the head of what a connection has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    pub op: OpCode,
    /// Whether its client has hung up since.
    pub hung_up: bool,
    pub timeout_ms: i32,
}

/// What becomes of a request now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// It goes, and counts as on its way.
    Goes,
    /// It is answered with [`rookeeper_proto::ErrorCode::ThrottledOp`], behind everything its client asked for before.
    Refused,
    /// Its turn has not come.
    Waits,
    /// It is dropped, and its connection ends.
    Dropped,
}

impl ThrottleSettings {
    /// `has_room`: it is the request's turn, and fewer than the limit are on their way.
    fn rule(&self, staleness: Staleness, arrival: Arrival, waited_ms: i64, has_room: bool) -> Ruling {
        let Arrival { op, hung_up, timeout_ms } = arrival;
        let is_exempt = matches!(op, OpCode::Ping | OpCode::CloseSession);
        if self.drops_stale && staleness.holds(op, hung_up, waited_ms, timeout_ms) {
            Ruling::Dropped
        } else if !has_room {
            Ruling::Waits
        } else if !is_exempt && self.refuse_after_ms.is_some_and(|limit_ms| waited_ms > limit_ms) {
            Ruling::Refused
        } else {
            Ruling::Goes
        }
    }
}

/// The queue of a server.
#[derive(Debug)]
pub(crate) struct Throttle {
    settings: ThrottleSettings,
    queue: Mutex<Queue>,
    /// Length of the queue, to be asked without its lock.
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct Queue {
    /// By the order of arrival; the waker of each task that waits for its turn.
    places: BTreeMap<u64, Option<Waker>>,
    next: u64,
    /// Who waits for the end of the queue.
    end: Option<Waker>,
}

impl Throttle {
    pub fn new(settings: ThrottleSettings) -> Throttle {
        Throttle { settings, queue: Mutex::default(), waiting: AtomicUsize::new(0) }
    }

    /// An answer was given: if there is room now, the first in the queue hears of it.
    pub fn settled(&self, outstanding: &AtomicUsize) {
        // Either the one that waits sees the new count, or this sees that it waits.
        fence(SeqCst);
        if self.waiting.load(Relaxed) > 0 && outstanding.load(Relaxed) < self.settings.max_requests {
            self.wake_first();
        }
    }

    fn wake_first(&self) {
        let waker = self.queue.lock().places.first_entry().and_then(|mut first| first.get_mut().take());
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn enter(&self) -> u64 {
        let mut queue = self.queue.lock();
        let number = queue.next;
        queue.next += 1;
        queue.places.insert(number, None);
        self.waiting.store(queue.places.len(), Relaxed);
        fence(SeqCst);
        number
    }

    fn leave(&self, number: u64) {
        let end = {
            let mut queue = self.queue.lock();
            queue.places.remove(&number);
            self.waiting.store(queue.places.len(), Relaxed);
            if queue.places.is_empty() { queue.end.take() } else { None }
        };
        match end {
            Some(end) => end.wake(),
            None => self.wake_first(),
        }
    }

    fn is_first(&self, number: u64) -> bool {
        self.queue.lock().places.first_key_value().is_some_and(|(first, _)| *first == number)
    }
}

/// The place of a connection's request in the queue. It is given back when this is dropped.
#[derive(Debug)]
pub struct Turn {
    shared: Arc<Shared>,
    number: u64,
    since_ms: MonotonicMs,
    looked_ms: MonotonicMs,
}

impl Turn {
    /// Ready when the request may have its turn. The waker is kept for when it has.
    pub fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let Some(throttle) = &self.shared.throttle else { return Poll::Ready(()) };
        let is_first = {
            let mut queue = throttle.queue.lock();
            let is_first = queue.places.first_key_value().is_some_and(|(first, _)| *first == self.number);
            if let Some(place) = queue.places.get_mut(&self.number) {
                *place = Some(context.waker().clone());
            }
            is_first
        };
        fence(SeqCst);
        match is_first && self.shared.outstanding() < throttle.settings.max_requests {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// When the request is to be looked at although nothing happened: it may be stale by then. Only the first of the queue is.
    pub fn deadline_ms(&self) -> Option<MonotonicMs> {
        let throttle = self.shared.throttle.as_ref()?;
        throttle.is_first(self.number).then(|| self.looked_ms + throttle.settings.stall_ms)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(throttle) = &self.shared.throttle {
            throttle.leave(self.number);
        }
    }
}

impl Shared {
    /// Asks for the turn of a request that would go to the replica now; `turn` is the place that it got when it was asked for before. Where
    /// the answer is [`Ruling::Goes`] the request counts as on its way.
    pub fn take_turn(
        self: &Arc<Shared>,
        connection: &Connection,
        turn: &mut Option<Turn>,
        arrival: Arrival,
        now_ms: impl Fn() -> MonotonicMs,
    ) -> Ruling {
        let Some(throttle) = &self.throttle else {
            self.note_stale_request(arrival, 0);
            self.submit(connection);
            return Ruling::Goes;
        };
        let (statistics, settings) = (&self.statistics, &throttle.settings);
        let now_ms = now_ms();
        let waited_ms = turn.as_ref().map_or(0, |turn| now_ms - turn.since_ms);
        let is_first = match turn {
            Some(turn) => throttle.is_first(turn.number),
            None => throttle.waiting.load(Relaxed) == 0,
        };
        let has_room = is_first && self.outstanding() < settings.max_requests;
        let ruling = settings.rule(self.settings.staleness, arrival, waited_ms, has_room);
        match ruling {
            Ruling::Waits => {
                let place = turn.get_or_insert_with(|| Turn {
                    shared: self.clone(),
                    number: throttle.enter(),
                    since_ms: now_ms,
                    looked_ms: now_ms,
                });
                place.looked_ms = now_ms;
                if is_first {
                    statistics.throttle_waits.fetch_add(1, Relaxed);
                }
                return ruling;
            }
            Ruling::Goes => self.submit(connection),
            Ruling::Refused => drop(statistics.throttled_requests.fetch_add(1, Relaxed)),
            Ruling::Dropped => drop(statistics.stale_requests_dropped.fetch_add(1, Relaxed)),
        }
        if ruling != Ruling::Dropped {
            self.note_stale_request(arrival, waited_ms);
            statistics.throttle_wait_ms.record(waited_ms.max(0).cast_unsigned());
        }
        // The next one may go; it sees that this one is on its way.
        *turn = None;
        ruling
    }

    fn note_stale_request(&self, Arrival { op, hung_up, timeout_ms }: Arrival, waited_ms: i64) {
        if self.settings.staleness.holds(op, hung_up, waited_ms, timeout_ms) {
            self.statistics.stale_requests.fetch_add(1, Relaxed);
        }
    }

    /// Ready when no request waits for its turn.
    pub fn poll_no_turns(&self, context: &mut Context<'_>) -> Poll<()> {
        let Some(throttle) = &self.throttle else { return Poll::Ready(()) };
        let mut queue = throttle.queue.lock();
        if queue.places.is_empty() {
            return Poll::Ready(());
        }
        queue.end = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: ThrottleSettings =
        ThrottleSettings { max_requests: 2, stall_ms: 100, drops_stale: true, refuse_after_ms: Some(500) };

    const SET: Arrival = Arrival { op: OpCode::SetData, hung_up: false, timeout_ms: 4000 };

    #[test]
    fn what_waits_longer_than_allowed_is_refused_when_its_turn_comes_and_not_before() {
        let rule = |waited_ms, has_room| SETTINGS.rule(Staleness::default(), SET, waited_ms, has_room);
        assert_eq!(rule(0, true), Ruling::Goes);
        assert_eq!(rule(500, true), Ruling::Goes);
        assert_eq!(rule(501, true), Ruling::Refused);
        assert_eq!(rule(501, false), Ruling::Waits);
        let never = ThrottleSettings { refuse_after_ms: None, ..SETTINGS };
        assert_eq!(never.rule(Staleness::default(), SET, i64::MAX, true), Ruling::Goes);
    }

    #[test]
    fn heartbeats_and_the_end_of_a_session_are_never_refused() {
        for op in [OpCode::Ping, OpCode::CloseSession] {
            let arrival = Arrival { op, ..SET };
            assert_eq!(SETTINGS.rule(Staleness::default(), arrival, 501, true), Ruling::Goes, "{op:?}");
        }
    }

    #[test]
    fn what_nobody_waits_for_is_dropped_and_the_end_of_a_session_is_not() {
        let both = Staleness { by_connection: true, by_latency: true };
        let gone = Arrival { hung_up: true, ..SET };
        let end = Arrival { op: OpCode::CloseSession, ..gone };
        let settings = ThrottleSettings { refuse_after_ms: None, ..SETTINGS };
        for (staleness, arrival, waited_ms, ruling) in [
            (both, gone, 0, Ruling::Dropped),
            (both, SET, 4001, Ruling::Dropped),
            (both, SET, 4000, Ruling::Waits),
            (both, end, 4001, Ruling::Waits),
            (Staleness { by_connection: false, ..both }, gone, 0, Ruling::Waits),
            (Staleness::default(), SET, 4001, Ruling::Waits),
        ] {
            assert_eq!(settings.rule(staleness, arrival, waited_ms, false), ruling, "{staleness:?} {arrival:?}");
        }
        let keeps = ThrottleSettings { drops_stale: false, ..settings };
        assert_eq!(keeps.rule(both, gone, 9999, false), Ruling::Waits);
        assert_eq!(keeps.rule(both, gone, 9999, true), Ruling::Goes);
    }
}
