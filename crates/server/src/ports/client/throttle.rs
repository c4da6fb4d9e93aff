//! The connection throttle: a token bucket in front of the handshake, off unless configured.
//!
//! Counterpart in the original: `BlueThrottle`, without its random dropping before the bucket is empty.

use rookeeper_proto::{MonotonicMs, SessionId};

use crate::config::ConnectionThrottle;

#[derive(Debug)]
pub(crate) struct ConnectionTokens {
    throttle: ConnectionThrottle,
    /// Tokens that a new session costs where sessions have weights.
    new_session_weight: u32,
    tokens: u64,
    filled_ms: MonotonicMs,
}

impl ConnectionTokens {
    /// Starts full. With local sessions each new session is one.
    pub fn new(throttle: &ConnectionThrottle, local_sessions: bool, now_ms: MonotonicMs) -> ConnectionTokens {
        let tokens = u64::from(throttle.tokens.unwrap_or(0));
        let new_session_weight =
            if local_sessions { throttle.local_session_weight } else { throttle.global_session_weight };
        ConnectionTokens { throttle: throttle.clone(), new_session_weight, tokens, filled_ms: now_ms }
    }

    /// Takes what opening (or resuming) this session costs. `false`: there is not enough.
    pub fn take(&mut self, session: SessionId, now_ms: MonotonicMs) -> bool {
        let Some(capacity) = self.throttle.tokens else { return true };
        let period_ms = i64::from(self.throttle.fill_time_ms.max(1));
        let periods = (now_ms - self.filled_ms) / period_ms;
        self.filled_ms += periods * period_ms;
        let filled = (periods as u64).saturating_mul(u64::from(self.throttle.fill_count));
        self.tokens = self.tokens.saturating_add(filled).min(u64::from(capacity));
        let cost = match self.throttle.weight_enabled {
            true if session == SessionId::NONE => u64::from(self.new_session_weight),
            true => u64::from(self.throttle.renew_session_weight),
            false => 1,
        };
        let enough = self.tokens >= cost;
        if enough {
            self.tokens -= cost;
        }
        enough
    }

    /// Tokens that are missing to a full bucket.
    pub fn deficit(&self) -> u64 {
        u64::from(self.throttle.tokens.unwrap_or(0)).saturating_sub(self.tokens)
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

    #[test]
    fn an_empty_bucket_refuses_until_it_is_filled() {
        let mut tokens = ConnectionTokens::new(&throttle(Some(3)), false, MonotonicMs(0));
        let takes = |tokens: &mut ConnectionTokens, now_ms| tokens.take(SessionId::NONE, now_ms);
        assert_eq!([0, 1, 2, 3].map(|now_ms| takes(&mut tokens, MonotonicMs(now_ms))), [true, true, true, false]);
        assert_eq!(tokens.deficit(), 3);
        assert_eq!([9, 10, 11, 12].map(|now_ms| takes(&mut tokens, MonotonicMs(now_ms))), [false, true, true, false]);
        assert!(takes(&mut tokens, MonotonicMs(100)));
        assert_eq!(tokens.deficit(), 1);
    }

    #[test]
    fn sessions_have_weights_by_what_they_are() {
        const OLD: SessionId = SessionId(7);
        for (local_sessions, session, cost) in [(false, SessionId::NONE, 3), (true, SessionId::NONE, 1), (true, OLD, 2)]
        {
            let throttle = ConnectionThrottle { weight_enabled: true, ..throttle(Some(10)) };
            let mut tokens = ConnectionTokens::new(&throttle, local_sessions, MonotonicMs(0));
            assert!(tokens.take(session, MonotonicMs(0)));
            assert_eq!(tokens.deficit(), cost, "{local_sessions} {session:?}");
        }
    }

    #[test]
    fn without_tokens_configured_everybody_is_let_in() {
        let mut tokens = ConnectionTokens::new(&throttle(None), false, MonotonicMs(0));
        assert!((0..1000).all(|_| tokens.take(SessionId::NONE, MonotonicMs(0))));
        assert_eq!(tokens.deficit(), 0);
    }
}
