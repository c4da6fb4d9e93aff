//! How often a line is logged that somebody outside can cause: a few times, then it is counted.
//!
//! Each cause has a budget of lines per minute. What is above it is not logged, and the first line of the next minute says how many there
//! were; where none follows, [`LineLimit::overdue`] gives the number, and [`LineLimit::untold`] at the end of the process, so that it is
//! told in any case.
//!
//! What always holds here: what is said of one cause does not depend on what others cause; the table of causes is bounded.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// The time that a budget is for.
const WINDOW_MS: i64 = 60_000;

/// Causes known only by their text. More than the product has sentences; what is beyond shares one budget.
const MAX_TEXTS: usize = 256;

/// Why a line is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Cause {
    /// A place in the code, by its name in the notice of what was not logged.
    Named(&'static str),
    /// The shape of a sentence that comes from elsewhere.
    Text(u64),
}

impl Cause {
    /// Sentences that differ only in their numbers have the same cause.
    pub fn of_text(text: &str) -> Cause {
        let mut hasher = DefaultHasher::new();
        let words = text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty() && !is_hexadecimal(word));
        words.for_each(|word| word.hash(&mut hasher));
        Cause::Text(hasher.finish())
    }
}

/// What may be a number in a sentence: "0x5000000fe" is split into "x" and "fe".
fn is_hexadecimal(word: &str) -> bool {
    word == "x" || word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[derive(Debug, Default)]
pub(crate) struct LineLimit {
    causes: HashMap<Cause, Budget>,
}

#[derive(Debug)]
struct Budget {
    began_ms: i64,
    said: u32,
    suppressed: u64,
}

impl LineLimit {
    /// Whether to log another line of this cause, of which `per_minute` are logged; with it, how many were not since the last one.
    pub fn admit(&mut self, cause: Cause, per_minute: u32, now_ms: i64) -> Option<u64> {
        let cause = if self.causes.contains_key(&cause) || self.has_room(now_ms) { cause } else { Cause::Text(0) };
        let budget = self.causes.entry(cause).or_insert(Budget { began_ms: now_ms, said: 0, suppressed: 0 });
        if now_ms - budget.began_ms >= WINDOW_MS {
            (budget.began_ms, budget.said) = (now_ms, 0);
        }
        if budget.said >= per_minute {
            budget.suppressed += 1;
            return None;
        }
        budget.said += 1;
        Some(std::mem::take(&mut budget.suppressed))
    }

    fn has_room(&mut self, now_ms: i64) -> bool {
        if self.causes.len() >= MAX_TEXTS {
            self.causes.retain(|_, budget| budget.suppressed > 0 || now_ms - budget.began_ms < WINDOW_MS);
        }
        self.causes.len() < MAX_TEXTS
    }

    /// The causes of which lines were suppressed, with their number, where the minute is over and no other line has told it.
    pub fn overdue(&mut self, now_ms: i64) -> Vec<(Cause, u64)> {
        self.take(|budget| now_ms - budget.began_ms >= WINDOW_MS)
    }

    /// All that was not told yet.
    pub fn untold(&mut self) -> Vec<(Cause, u64)> {
        self.take(|_| true)
    }

    fn take(&mut self, is_due: impl Fn(&Budget) -> bool) -> Vec<(Cause, u64)> {
        let due = self.causes.iter_mut().filter(|(_, budget)| budget.suppressed > 0 && is_due(budget));
        let mut taken: Vec<_> = due.map(|(cause, budget)| (*cause, std::mem::take(&mut budget.suppressed))).collect();
        taken.sort();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRANGER: Cause = Cause::Named("a stranger");

    #[test]
    fn a_flood_is_a_few_lines_and_a_number() {
        let mut limit = LineLimit::default();
        let admitted: Vec<Option<u64>> = (0..39_000).map(|at| limit.admit(STRANGER, 3, at)).collect();
        assert_eq!(admitted.iter().flatten().collect::<Vec<_>>(), [&0, &0, &0]);
        assert_eq!(limit.admit(STRANGER, 3, WINDOW_MS), Some(38_997));
        assert_eq!(limit.admit(STRANGER, 3, WINDOW_MS), Some(0));
    }

    #[test]
    fn causes_do_not_count_for_each_other() {
        let mut limit = LineLimit::default();
        let other = Cause::of_text("learner 3 sent 0x5f");
        assert_eq!([STRANGER, STRANGER, other].map(|cause| limit.admit(cause, 1, 5)), [Some(0), None, Some(0)]);
        assert_eq!(other, Cause::of_text("learner 14 sent 0x500000fe"));
        assert_ne!(other, Cause::of_text("learner 14 lost 0x500000fe"));
    }

    #[test]
    fn the_number_is_told_even_if_nothing_follows() {
        let mut limit = LineLimit::default();
        for at in [0, 1, 2] {
            limit.admit(STRANGER, 1, at);
        }
        assert_eq!(limit.overdue(WINDOW_MS - 1), []);
        assert_eq!(limit.overdue(WINDOW_MS), [(STRANGER, 2)]);
        assert_eq!(limit.overdue(WINDOW_MS), []);
        assert_eq!(limit.admit(STRANGER, 1, WINDOW_MS), Some(0));
        // The process may end before the minute.
        assert_eq!((limit.admit(STRANGER, 1, WINDOW_MS), limit.overdue(WINDOW_MS)), (None, vec![]));
        assert_eq!(limit.untold(), [(STRANGER, 1)]);
        assert_eq!(limit.untold(), []);
    }

    #[test]
    fn a_stranger_who_varies_the_text_fills_nothing() {
        let mut limit = LineLimit::default();
        let name = |number: u64| (0..16).map(|bit| if number >> bit & 1 == 0 { 'y' } else { 'z' }).collect::<String>();
        let admitted = (0..10_000).filter(|number| limit.admit(Cause::of_text(&name(*number)), 1, 0).is_some()).count();
        assert!(limit.causes.len() <= MAX_TEXTS + 1 && admitted <= MAX_TEXTS + 1, "{admitted}");
        // A minute later the table has room again.
        limit.overdue(WINDOW_MS);
        assert_eq!(limit.admit(STRANGER, 1, WINDOW_MS), Some(0));
        assert_eq!(limit.admit(Cause::of_text("something else"), 1, WINDOW_MS), Some(0));
        assert!(limit.causes.len() <= 3);
    }
}
