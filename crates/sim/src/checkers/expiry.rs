//! A session does not expire while its client talks, as far as the deciding server can know, and does not outlive its client's silence.
//!
//! Owns what each server has heard of each session since it began to serve: from its clients, and from its learners if it leads.
//! - A leader lets a session expire only when it has heard nothing of the session for the timeout, since it began to lead at the earliest.
//! - A session of which a leader has heard nothing for its timeout and one tick, the rounding of due times, ends. The time for which the
//!   leader itself stood still does not count.
//! - A learner's answer to a ping names the sessions that were heard of since the last answer, and no others. So the leader's knowledge is true.
//!
//! A sign of life is a request or ping that arrives, and the moment in which a client is told that it has its session.

use std::collections::{BTreeMap, BTreeSet};

use rookeeper_proto::SessionId;

use super::Verdict;

/// Deadlines are met by the next wake, which is not the same moment.
const SLACK_MS: i64 = 2;

/// When each session may end at the earliest, by what its servers have heard.
#[derive(Debug)]
pub struct Expiry {
    tick_ms: i64,
    /// How long a sign of life may wait until the replica looks at it.
    waits_ms: i64,
    timeouts_ms: BTreeMap<SessionId, i64>,
    /// By server.
    ears: BTreeMap<usize, Ears>,
}

/// The signs of life that one server has heard since it began to serve.
#[derive(Debug, Default)]
struct Ears {
    since_ms: i64,
    /// The last answer to a ping.
    told_ms: i64,
    clients: BTreeMap<SessionId, i64>,
    learners: BTreeMap<SessionId, i64>,
    /// Until when a session need not pay for silence: its client was not read, or its beginning was not committed. Seen once a tick.
    excused: BTreeMap<SessionId, i64>,
    ending: BTreeSet<SessionId>,
    /// From when to when the process stood still, and from when on it does now.
    still_ms: Vec<(i64, i64)>,
    still_since_ms: Option<i64>,
}

impl Ears {
    /// The latest sign of life, or the beginning, from which on every session has its full timeout.
    fn alive_ms(&self, session: SessionId) -> i64 {
        self.heard_ms(session).max(self.since_ms)
    }

    fn heard_ms(&self, session: SessionId) -> i64 {
        let heard = [self.clients.get(&session), self.learners.get(&session)];
        heard.into_iter().flatten().copied().max().unwrap_or(i64::MIN)
    }

    /// The time that a server which stood still may add: the server measures its standstill no more exactly than within a tick.
    fn grace_ms(&self, alive_ms: i64, tick_ms: i64) -> i64 {
        let later = self.still_ms.iter().filter(|(_, to_ms)| *to_ms >= alive_ms);
        later.map(|(from_ms, to_ms)| to_ms - from_ms + tick_ms).sum()
    }
}

impl Expiry {
    /// `waits_ms`: how long a sign of life may wait until the replica looks at it.
    pub fn new(tick_ms: i64, waits_ms: i64) -> Expiry {
        Expiry { tick_ms, waits_ms, timeouts_ms: BTreeMap::new(), ears: BTreeMap::new() }
    }

    /// A server's process is stopped.
    pub fn freezes(&mut self, server: usize, now_ms: i64) {
        self.ears.entry(server).or_default().still_since_ms = Some(now_ms);
    }

    /// The process goes on, if it is still the same process.
    pub fn thaws(&mut self, server: usize, now_ms: i64) {
        let ears = self.ears.entry(server).or_default();
        let from_ms = ears.still_since_ms.take();
        ears.still_ms.extend(from_ms.map(|from_ms| (from_ms, now_ms)));
    }

    /// A server let no session expire for a while.
    pub fn stood_still(&mut self, server: usize, from_ms: i64, to_ms: i64) {
        self.ears.entry(server).or_default().still_ms.push((from_ms, to_ms));
    }

    /// A server begins to serve.
    pub fn serves(&mut self, server: usize, now_ms: i64) {
        let ears = self.ears.entry(server).or_default();
        (ears.since_ms, ears.told_ms) = (now_ms, now_ms);
        ears.clients.retain(|_, heard_ms| *heard_ms >= now_ms);
        ears.learners.retain(|_, heard_ms| *heard_ms >= now_ms);
        ears.excused.clear();
        ears.ending.clear();
        ears.still_ms.retain(|(_, to_ms)| *to_ms >= now_ms);
    }

    /// A client is told that it has a session.
    pub fn granted(&mut self, server: usize, now_ms: i64, session: SessionId, timeout_ms: i32) {
        self.timeouts_ms.entry(session).or_insert(i64::from(timeout_ms));
        self.heard(server, now_ms, session);
    }

    /// A server hears of a session from its client.
    pub fn heard(&mut self, server: usize, now_ms: i64, session: SessionId) {
        self.ears.entry(server).or_default().clients.insert(session, now_ms);
    }

    /// A leader is told of a session by a learner.
    pub fn told(&mut self, server: usize, now_ms: i64, session: SessionId) {
        self.ears.entry(server).or_default().learners.insert(session, now_ms);
    }

    /// A leader may let a session live on for its full timeout from now on, and need not.
    pub fn excuses(&mut self, server: usize, now_ms: i64, session: SessionId) {
        self.ears.entry(server).or_default().excused.insert(session, now_ms);
    }

    /// A leader has proposed the end of a session.
    pub fn ends(&mut self, server: usize, session: SessionId) {
        self.ears.entry(server).or_default().ending.insert(session);
    }

    /// A leader lets a session expire.
    pub fn expires(&mut self, server: usize, now_ms: i64, session: SessionId) -> Verdict {
        let ears = self.ears.entry(server).or_default();
        ears.ending.insert(session);
        let Some(timeout_ms) = self.timeouts_ms.get(&session) else { return Ok(()) };
        // A busy server is seen to serve in the first round after it began to.
        let silent_ms = now_ms - ears.heard_ms(session).max(ears.since_ms - self.waits_ms);
        if silent_ms < *timeout_ms {
            return Err(format!(
                "expiry: server {} lets session {session} expire after {silent_ms} ms of its {timeout_ms} ms",
                server + 1
            ));
        }
        Ok(())
    }

    /// A leader has looked at the time; these are the sessions that are alive to it.
    pub fn looked(&self, server: usize, now_ms: i64, alive: impl Iterator<Item = SessionId>) -> Verdict {
        let Some(ears) = self.ears.get(&server) else { return Ok(()) };
        for session in alive.filter(|session| !ears.ending.contains(session)) {
            let Some(timeout_ms) = self.timeouts_ms.get(&session) else { continue };
            let excused_ms = ears.excused.get(&session).map_or(0, |excused_ms| excused_ms + self.tick_ms);
            let alive_ms = ears.alive_ms(session).max(excused_ms);
            let silent_ms = now_ms - alive_ms;
            if silent_ms > timeout_ms + self.tick_ms + SLACK_MS + ears.grace_ms(alive_ms, self.tick_ms) {
                return Err(format!(
                    "expiry: server {} keeps session {session} of {timeout_ms} ms for {silent_ms} ms",
                    server + 1
                ));
            }
        }
        Ok(())
    }

    /// A follower tells its leader of sessions that an observer has just told it of. The observer may have gone since.
    pub fn relays(&self, server: usize, now_ms: i64, touched: impl Iterator<Item = SessionId>) -> Verdict {
        let ears = self.ears.get(&server);
        let told = |session: &SessionId| {
            ears.is_some_and(|ears| {
                [&ears.learners, &ears.excused].iter().any(|heard| heard.get(session) == Some(&now_ms))
            })
        };
        match touched.into_iter().find(|session| !told(session)) {
            None => Ok(()),
            Some(session) => {
                Err(format!("touches: server {} names session {session}, of which no observer has told it", server + 1))
            }
        }
    }

    /// A learner answers a ping with these sessions. `is_alive` says of a session that all servers know whether it lives; `is_excused` whether
    /// it is the server that does not read its client.
    pub fn touches(
        &mut self,
        server: usize,
        now_ms: i64,
        touched: &BTreeSet<SessionId>,
        is_alive: impl Fn(SessionId) -> bool,
        is_excused: impl Fn(SessionId) -> bool,
    ) -> Verdict {
        let waits_ms = self.waits_ms;
        let ears = self.ears.entry(server).or_default();
        let since_ms = std::mem::replace(&mut ears.told_ms, now_ms);
        let heard =
            |session: &SessionId| ears.clients.get(session).is_some_and(|heard_ms| *heard_ms >= since_ms - waits_ms);
        if let Some(silent) = touched.iter().find(|session| !heard(session) && !is_excused(**session)) {
            let heard_ms = ears.clients.get(silent);
            return Err(format!(
                "touches: server {} names session {silent} at {now_ms} ms, but has heard of it at {heard_ms:?} and been asked at \
                 {since_ms} before",
                server + 1
            ));
        }
        // A session that was heard of in the moment of the last answer may have been named there.
        let is_due = |session: &SessionId| ears.clients.get(session).is_some_and(|heard_ms| *heard_ms > since_ms);
        let forgotten = |session: &&SessionId| is_due(session) && !touched.contains(session) && is_alive(**session);
        if let Some(forgotten) = ears.clients.keys().find(forgotten) {
            let heard_ms = ears.clients[forgotten];
            return Err(format!(
                "touches: server {} does not name session {forgotten} at {now_ms} ms, of which it has heard at {heard_ms} ms",
                server + 1
            ));
        }
        ears.clients.retain(|_, heard_ms| *heard_ms >= since_ms);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: SessionId = SessionId(1);

    fn expiry() -> Expiry {
        let mut expiry = Expiry::new(100, 0);
        expiry.serves(0, 1000);
        expiry.granted(0, 1000, ONE, 400);
        expiry
    }

    #[test]
    fn a_session_ends_neither_early_nor_late() {
        let mut expiry = expiry();
        expiry.heard(0, 1300, ONE);
        assert!(expiry.expires(0, 1699, ONE).unwrap_err().contains("after 399 ms of its 400 ms"));
        let mut expiry = self::expiry();
        expiry.told(0, 1300, ONE);
        assert_eq!(expiry.looked(0, 1802, [ONE].into_iter()), Ok(()));
        assert!(expiry.looked(0, 1803, [ONE].into_iter()).unwrap_err().contains("keeps session"));
        assert_eq!(expiry.expires(0, 1700, ONE), Ok(()));
        assert_eq!(expiry.looked(0, 1803, [ONE].into_iter()), Ok(()), "its end is on its way");
        expiry.serves(0, 2000);
        assert!(expiry.expires(0, 2399, ONE).is_err(), "a new leader gives it its full timeout");
        assert_eq!(expiry.expires(0, 2400, ONE), Ok(()));
    }

    #[test]
    fn a_session_does_not_pay_for_the_time_in_which_its_leader_stood_still() {
        let mut expiry = expiry();
        expiry.freezes(0, 1200);
        expiry.thaws(0, 2200);
        assert_eq!(expiry.looked(0, 2602, [ONE].into_iter()), Ok(()));
        assert!(expiry.looked(0, 2703, [ONE].into_iter()).unwrap_err().contains("keeps session"));
    }

    #[test]
    fn a_learner_names_whom_it_has_heard_of_and_nobody_else() {
        let named = BTreeSet::from([ONE]);
        let verdict = |expiry: &mut Expiry, now_ms, touched: &BTreeSet<SessionId>| {
            expiry.touches(0, now_ms, touched, |_| true, |_| false)
        };
        let mut expiry = expiry();
        expiry.heard(0, 1050, ONE);
        assert!(verdict(&mut expiry, 1100, &BTreeSet::new()).unwrap_err().contains("does not name"));
        let mut expiry = self::expiry();
        assert_eq!(verdict(&mut expiry, 1100, &named), Ok(()));
        assert_eq!(verdict(&mut expiry, 1200, &BTreeSet::new()), Ok(()));
        assert!(verdict(&mut expiry, 1300, &named).unwrap_err().contains("names session"));
        assert_eq!(expiry.touches(0, 1400, &named, |_| true, |_| true), Ok(()), "the server does not read");
    }
}
