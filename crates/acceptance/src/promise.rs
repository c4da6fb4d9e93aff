//! What the original promises of a read behind a `sync`, and what holds within every session.
//!
//! Rookeeper's leader asks its quorum before it answers a `sync`. The original's does not: a leader that was frozen, and has been
//! deposed meanwhile, answers before it notices, and the read behind that answer is older than acknowledged writes. What remains of
//! such a read is the order within its session: it shows a state that once was, and nothing older than its session has seen.
//!
//! What always holds here: only a read through a foreign leader that can have been deposed is judged so. Its `sync` was answered in
//! an epoch from which on some foreign leader ruled, and before it began an answer came from an epoch after that leader's. All other
//! reads are judged by time, also those through foreign leaders that nobody has replaced.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Event, NEVER_NS, Operation};

fn epoch(zxid: i64) -> i64 {
    zxid >> 32
}

/// Lets each read through a deposed leader begin as early as its session allows: when the operation before it began. Says how many
/// reads that are. `foreign` are the epochs in which a server of the original led.
pub fn let_deposed_leaders_answer(events: &mut [Event], foreign: &BTreeSet<i64>) -> usize {
    let newest = newest_epochs(events);
    let mut before: BTreeMap<usize, u64> = BTreeMap::new();
    let mut count = 0;
    let mut order: Vec<usize> = (0..events.len()).collect();
    order.sort_by_key(|index| events[*index].invoked_ns);
    for index in order {
        let event = &mut events[index];
        if event.completed_ns == NEVER_NS {
            continue;
        }
        let known = newest.range(..event.invoked_ns).next_back().map_or(0, |(_, epoch)| *epoch);
        let answered = epoch(event.place.processed_zxid);
        let is_read = matches!(event.operation, Operation::Read { .. });
        if is_read && answered < known && foreign.range(answered..known).next().is_some() {
            event.invoked_ns = before.get(&event.process).copied().unwrap_or_default();
            count += 1;
        }
        before.insert(event.process, event.invoked_ns);
    }
    count
}

/// The newest epoch that any answer has shown, by the time from which on it was known.
fn newest_epochs(events: &[Event]) -> BTreeMap<u64, i64> {
    let mut answered: Vec<(u64, i64)> = events
        .iter()
        .filter(|event| event.completed_ns != NEVER_NS)
        .map(|event| (event.completed_ns, epoch(event.place.newest())))
        .collect();
    answered.sort_unstable();
    let mut newest = 0;
    answered
        .into_iter()
        .map(|(completed_ns, epoch)| {
            newest = newest.max(epoch);
            (completed_ns, newest)
        })
        .collect()
}

/// Within a session nothing goes back: neither the zxids of the answers, nor what a read shows of changes that the session has seen
/// the effect, or a successor, of.
pub fn session_violations(events: &[Event]) -> Vec<String> {
    let mut changes: BTreeMap<usize, BTreeSet<i64>> = BTreeMap::new();
    for event in events {
        if let Some(key) = event.key()
            && event.place.changed_zxid != 0
        {
            changes.entry(key).or_default().insert(event.place.changed_zxid);
        }
    }
    let mut order: Vec<&Event> = events.iter().filter(|event| event.completed_ns != NEVER_NS).collect();
    order.sort_by_key(|event| event.invoked_ns);
    let mut last: BTreeMap<usize, &Event> = BTreeMap::new();
    let mut floors: BTreeMap<usize, i64> = BTreeMap::new();
    let mut violations = Vec::new();
    for event in order {
        let floor = floors.entry(event.process).or_default();
        let place = event.place;
        let missed = event.key().and_then(|key| {
            let shown = place.changed_zxid;
            let newer = changes.get(&key)?.range(..=*floor).next_back()?;
            (shown != 0 && *newer > shown).then_some(*newer)
        });
        if place.processed_zxid < *floor || missed.is_some() {
            let missed =
                missed.map_or_else(String::new, |zxid| format!(", although its key was changed at 0x{zxid:x}"));
            violations.push(format!(
                "the session of client {} had seen 0x{floor:x}, and then goes back{missed}:\n  {:?}\n  {event:?}",
                event.process,
                last.get(&event.process)
            ));
        }
        *floor = (*floor).max(place.newest());
        last.insert(event.process, event);
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{History, Outcome, Place};
    use crate::linearizable::Register;

    const OF_THREE: i64 = 3 << 32;
    const OF_FOUR: i64 = 4 << 32;

    fn write(process: usize, version: i32, zxid: i64, from: u64) -> Event {
        Event {
            process,
            operation: Operation::Write { key: 0, value: version as u64 },
            outcome: Outcome::Written { version },
            invoked_ns: from,
            completed_ns: from + 5,
            place: Place { processed_zxid: zxid, changed_zxid: zxid },
        }
    }

    fn read(process: usize, version: i32, changed_zxid: i64, processed_zxid: i64, from: u64) -> Event {
        Event {
            process,
            operation: Operation::Read { key: 0 },
            outcome: Outcome::Value(Register { version, value: version as u64 }),
            invoked_ns: from,
            completed_ns: from + 5,
            place: Place { processed_zxid, changed_zxid },
        }
    }

    fn violations(events: &[Event], foreign: &[i64]) -> usize {
        History { events: events.to_vec() }.violations(&foreign.iter().copied().collect()).len()
    }

    /// Written in epoch 3, then in epoch 4; a read in epoch 3 after both.
    fn stale() -> Vec<Event> {
        vec![write(0, 1, OF_THREE + 1, 0), write(0, 2, OF_FOUR + 1, 10), read(1, 1, OF_THREE + 1, OF_THREE + 1, 20)]
    }

    #[test]
    fn a_deposed_leader_of_the_original_may_answer_and_ours_may_not() {
        assert_eq!(violations(&stale(), &[3]), 0);
        assert_eq!(violations(&stale(), &[]), 1, "Rookeeper led epoch 3");
        assert_eq!(violations(&stale(), &[4]), 1, "nobody has deposed the leader of epoch 4");
    }

    /// Until its first transaction a follower shows zxids of the epoch before.
    #[test]
    fn a_follower_may_not_yet_show_the_epoch_of_its_leader() {
        let mut events = stale();
        events[1] = write(0, 2, (5 << 32) + 1, 10);
        assert_eq!(violations(&events, &[4]), 0, "the leader of epoch 4 was deposed before its first transaction");
        assert_eq!(violations(&events, &[5]), 1);
    }

    #[test]
    fn what_nobody_has_deposed_answers_in_time() {
        let events =
            [write(0, 1, OF_THREE + 1, 0), write(0, 2, OF_THREE + 2, 10), read(1, 1, OF_THREE + 1, OF_THREE + 1, 20)];
        assert_eq!(violations(&events, &[3]), 1);
    }

    #[test]
    fn a_session_never_goes_back() {
        let mut events = stale();
        events[2].process = 0;
        assert!(violations(&events, &[3]) > 0, "the session has seen its own write");
        let mut events = stale();
        events.insert(2, read(1, 2, OF_FOUR + 1, OF_FOUR + 1, 16));
        events[3].invoked_ns = 22;
        assert!(violations(&events, &[3]) > 0, "the session has read the newer value");
    }

    /// The zxid of the answer is new enough, the state it shows is not.
    #[test]
    fn a_session_never_goes_back_across_keys() {
        let mut events = vec![
            write(0, 1, OF_THREE + 1, 0),
            write(0, 2, OF_THREE + 2, 10),
            read(1, 0, OF_THREE + 3, OF_THREE + 3, 12),
            read(1, 1, OF_THREE + 1, OF_THREE + 4, 18),
        ];
        events[2].operation = Operation::Read { key: 1 };
        assert_eq!(session_violations(&events).len(), 1);
        events[3] = read(1, 2, OF_THREE + 2, OF_THREE + 4, 18);
        assert_eq!(session_violations(&events).len(), 0);
    }

    #[test]
    fn a_deposed_leader_shows_no_state_that_never_was() {
        let mut events = stale();
        events[2].outcome = Outcome::Value(Register { version: 1, value: 7 });
        assert_eq!(violations(&events, &[3]), 1);
        let mut events = stale();
        events[1].invoked_ns = 30;
        events[1].completed_ns = 35;
        events[2] = read(1, 2, OF_FOUR + 1, OF_THREE + 1, 20);
        assert!(violations(&events, &[3]) > 0, "a write that nobody had asked for yet");
    }
}
