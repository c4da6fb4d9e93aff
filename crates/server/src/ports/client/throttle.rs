//! The connection throttle: a token bucket in front of the handshake, off unless configured, and the chance by which it refuses before the
//! bucket is looked at.
//!
//! What always holds here: nothing reads a clock or a global source of randomness; a client that is refused by chance costs no tokens.
//!
//! Counterpart in the original: `BlueThrottle`.

use rookeeper_proto::random::Random;
use rookeeper_proto::{MonotonicMs, SessionId};

use crate::config::ConnectionThrottle;

#[derive(Debug)]
pub(crate) struct ConnectionTokens {
    throttle: ConnectionThrottle,
    /// Tokens that a new session costs where sessions have weights.
    new_session_weight: u64,
    capacity: u64,
    tokens: u64,
    filled_ms: MonotonicMs,
    /// The share of clients that is refused by chance, from 0 to 1.
    drop_probability: f64,
    /// When that was looked at last.
    adjusted_ms: MonotonicMs,
    random: Random,
}

impl ConnectionTokens {
    /// Starts full. With local sessions each new session is one. `seed` is where the choices by chance begin.
    pub fn new(
        throttle: &ConnectionThrottle,
        local_sessions: bool,
        now_ms: MonotonicMs,
        seed: u64,
    ) -> ConnectionTokens {
        let new_session_weight =
            if local_sessions { throttle.local_session_weight } else { throttle.global_session_weight };
        let capacity = u64::from(throttle.tokens.unwrap_or(0)).saturating_mul(throttle.unit());
        ConnectionTokens {
            throttle: throttle.clone(),
            new_session_weight: u64::from(new_session_weight),
            capacity,
            tokens: capacity,
            filled_ms: now_ms,
            drop_probability: 0.0,
            adjusted_ms: now_ms,
            random: Random::new(seed),
        }
    }

    /// Takes what opening (or resuming) this session costs. `false`: there is not enough, or chance is against it.
    pub fn take(&mut self, session: SessionId, now_ms: MonotonicMs) -> bool {
        if self.capacity == 0 {
            return true;
        }
        self.fill(now_ms);
        if self.throttle.freeze_time_ms.is_some_and(|freeze_time_ms| self.drops(now_ms, freeze_time_ms)) {
            return false;
        }
        let cost = match self.throttle.weight_enabled {
            true if session == SessionId::NONE => self.new_session_weight,
            true => u64::from(self.throttle.renew_session_weight),
            false => 1,
        };
        let enough = self.tokens >= cost;
        if enough {
            self.tokens -= cost;
        }
        enough
    }

    fn fill(&mut self, now_ms: MonotonicMs) {
        let period_ms = i64::from(self.throttle.fill_time_ms.max(1));
        let periods = (now_ms - self.filled_ms) / period_ms;
        self.filled_ms += periods * period_ms;
        let count = u64::from(self.throttle.fill_count).saturating_mul(self.throttle.unit());
        self.tokens = self.tokens.saturating_add((periods as u64).saturating_mul(count)).min(self.capacity);
    }

    /// Adjusts the share of those who are refused by chance, once in a while, and says whether this one is among them.
    fn drops(&mut self, now_ms: MonotonicMs, freeze_time_ms: u32) -> bool {
        if now_ms - self.adjusted_ms > i64::from(freeze_time_ms) {
            let allowed_deficit = (self.capacity as f64 * self.throttle.decrease_ratio).round() as u64;
            if self.tokens == 0 {
                self.drop_probability = (self.drop_probability + self.throttle.drop_increase).min(1.0);
            } else if self.deficit() <= allowed_deficit {
                self.drop_probability = (self.drop_probability - self.throttle.drop_decrease).max(0.0);
            }
            self.adjusted_ms = now_ms;
        }
        // 53 bits are what a fraction holds.
        let share = (self.random.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        share < self.drop_probability
    }

    /// Tokens that are missing to a full bucket.
    pub fn deficit(&self) -> u64 {
        self.capacity - self.tokens
    }

    /// The share of clients that is refused by chance at the moment, from 0 to 1.
    pub fn drop_probability(&self) -> f64 {
        self.drop_probability
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment, Source};

    fn throttle(tokens: Option<u32>) -> ConnectionThrottle {
        let (config, _) = Config::load(Source::Defaults, &Environment::default()).unwrap();
        ConnectionThrottle { tokens, fill_time_ms: 10, fill_count: 2, ..config.connections.throttle }
    }

    fn bucket(throttle: &ConnectionThrottle, local_sessions: bool) -> ConnectionTokens {
        ConnectionTokens::new(throttle, local_sessions, MonotonicMs(0), 7)
    }

    fn takes(tokens: &mut ConnectionTokens, now_ms: i64) -> bool {
        tokens.take(SessionId::NONE, MonotonicMs(now_ms))
    }

    #[test]
    fn an_empty_bucket_refuses_until_it_is_filled() {
        let mut tokens = bucket(&throttle(Some(3)), false);
        assert_eq!([0, 1, 2, 3].map(|now_ms| takes(&mut tokens, now_ms)), [true, true, true, false]);
        assert_eq!(tokens.deficit(), 3);
        assert_eq!([9, 10, 11, 12].map(|now_ms| takes(&mut tokens, now_ms)), [false, true, true, false]);
        assert!(takes(&mut tokens, 100));
        assert_eq!(tokens.deficit(), 1);
    }

    #[test]
    fn sessions_have_weights_by_what_they_are_and_a_token_is_worth_a_global_session() {
        const OLD: SessionId = SessionId(7);
        for (local_sessions, session, cost) in [(false, SessionId::NONE, 3), (true, SessionId::NONE, 1), (true, OLD, 2)]
        {
            let throttle = ConnectionThrottle { weight_enabled: true, ..throttle(Some(4)) };
            let mut tokens = bucket(&throttle, local_sessions);
            assert!(tokens.take(session, MonotonicMs(0)));
            assert_eq!(tokens.deficit(), cost, "{local_sessions} {session:?}");
            let taken = 1 + (0..100).filter(|_| tokens.take(session, MonotonicMs(1))).count() as u64;
            assert_eq!(taken, 12 / cost, "{local_sessions} {session:?}");
            // Two tokens a refill.
            assert_eq!((0..100).filter(|_| tokens.take(session, MonotonicMs(10))).count() as u64, 6 / cost);
        }
    }

    #[test]
    fn without_tokens_configured_everybody_is_let_in() {
        let mut tokens = bucket(&ConnectionThrottle { freeze_time_ms: Some(0), ..throttle(None) }, false);
        assert!((0..1000).all(|now_ms| takes(&mut tokens, now_ms)));
        assert_eq!((tokens.deficit(), tokens.drop_probability()), (0, 0.0));
    }

    /// A bucket of ten, which gets one token in 10 ms.
    fn blue() -> ConnectionThrottle {
        ConnectionThrottle {
            fill_count: 1,
            freeze_time_ms: Some(100),
            drop_increase: 0.25,
            drop_decrease: 0.125,
            decrease_ratio: 0.5,
            ..throttle(Some(10))
        }
    }

    #[test]
    fn the_chance_to_be_refused_grows_while_the_bucket_is_empty_and_shrinks_while_it_is_filled() {
        let mut tokens = bucket(&blue(), false);
        (0..10).for_each(|_| assert!(takes(&mut tokens, 0)));
        // Emptied again and again, and found empty once in more than 100 ms.
        let mut chances = Vec::new();
        for now_ms in [101, 102, 202, 203, 304, 405, 506] {
            tokens.tokens = 0;
            tokens.filled_ms = MonotonicMs(now_ms);
            takes(&mut tokens, now_ms);
            chances.push(tokens.drop_probability());
        }
        assert_eq!(chances, [0.25, 0.25, 0.5, 0.5, 0.75, 1.0, 1.0]);
        // At 1 nobody comes in, so the bucket fills. Less than half of it may be missing before the chance shrinks.
        tokens.filled_ms = MonotonicMs(600);
        let mut chances = Vec::new();
        for now_ms in [640, 650, 760, 861] {
            takes(&mut tokens, now_ms);
            chances.push((tokens.deficit(), tokens.drop_probability()));
        }
        assert_eq!(chances[0], (6, 1.0));
        assert_eq!(chances[1], (5, 1.0), "looked at less than 100 ms ago");
        assert_eq!(chances[2..].iter().map(|(_, chance)| *chance).collect::<Vec<_>>(), [0.875, 0.75]);
    }

    #[test]
    fn as_many_are_refused_by_chance_as_the_chance_says_and_none_takes_a_token_for_that() {
        let mut tokens = bucket(&ConnectionThrottle { fill_count: 1_000_000, ..blue() }, false);
        tokens.drop_probability = 0.25;
        let mut refused = 0;
        for _ in 0..10_000 {
            let before = tokens.tokens;
            tokens.tokens = 10;
            if !takes(&mut tokens, 1) {
                refused += 1;
                assert_eq!(tokens.tokens, 10, "before: {before}");
            }
        }
        assert!((2300..2700).contains(&refused), "{refused}");
    }

    #[test]
    fn under_a_steady_load_the_chance_takes_over_from_the_bucket_and_it_ends_with_the_load() {
        let settings =
            ConnectionThrottle { drop_increase: 0.02, drop_decrease: 0.002, freeze_time_ms: Some(20), ..blue() };
        let mut tokens = bucket(&settings, false);
        // Ten times as many as tokens come.
        let admitted = (0..20_000).filter(|now_ms| takes(&mut tokens, *now_ms)).count();
        assert!((1500..2100).contains(&admitted), "{admitted}");
        assert!((0.7..1.0).contains(&tokens.drop_probability()), "{}", tokens.drop_probability());
        for now_ms in (20_000..80_000).step_by(100) {
            takes(&mut tokens, now_ms);
        }
        assert_eq!(tokens.drop_probability(), 0.0);
    }
}
