//! Sessions: which exist, when they expire.
//!
//! Expiry goes by buckets of one tick: a session heard of at `now` with timeout `t` is due at the end of the bucket that contains
//! `now + t`, so it lives between `t` and `t` plus one tick. Requests do not come through here; they note the time at their
//! connection, and a bucket that falls due looks there before it lets a session go.
//!
//! Counterpart in the original: `SessionTrackerImpl` and `ExpiryQueue`.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use rookeeper_proto::request::WriteRequest;
use rookeeper_proto::{ErrorCode, MonotonicMs, SessionId, WallMs};
use rookeeper_tree::WatcherId;
use rookeeper_zab::LinkId;

use crate::clients::connection::Connection;

/// Through whom a session's requests come. Nothing that came through another owner may change anything: the client has left it, and may
/// have written since. A learner that connects again is another one: what it had on its way is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A connection of this server, which need not stand any more: what it asked for last is still done, until the session is resumed.
    Client(WatcherId),
    Learner(LinkId),
}

/// One session, as this server knows it.
#[derive(Debug)]
pub struct Session {
    /// As negotiated by the connection that holds it now; the stored one stays that of creation.
    pub timeout_ms: i32,
    pub connection: Option<Arc<Connection>>,
    /// None until the session is created or resumed here, or a learner of this leader asks for it first.
    pub owner: Option<Owner>,
    /// Known to this server only, and to no log.
    pub local: bool,
    /// Once closing, nothing more is accepted for it.
    pub closing: bool,
    last_heard_ms: MonotonicMs,
    bucket_ms: MonotonicMs,
}

impl Session {
    /// Whether a request that comes through `owner` is none of this session any more.
    pub(crate) fn has_left(&self, owner: Owner) -> bool {
        self.owner.is_some_and(|current| current != owner)
    }

    /// As of now where it is the server that does not listen: a slow disk must not end the sessions that wait for it.
    fn alive_ms(&self, now_ms: MonotonicMs) -> MonotonicMs {
        match &self.connection {
            Some(connection) if connection.is_held_back() => now_ms,
            _ => self.last_heard_ms(),
        }
    }

    fn last_heard_ms(&self) -> MonotonicMs {
        self.connection
            .as_ref()
            .map_or(self.last_heard_ms, |connection| connection.last_heard_ms().max(self.last_heard_ms))
    }
}

/// All sessions that this server knows, and when they expire.
#[derive(Debug)]
pub struct Sessions {
    tick_ms: i64,
    /// Sorted, so that they can be looked through in portions.
    sessions: BTreeMap<SessionId, Session>,
    /// How many of them are local.
    local_count: usize,
    /// Due time to the sessions that may expire then.
    buckets: BTreeMap<MonotonicMs, Vec<SessionId>>,
    next_id: i64,
    /// Whether global sessions expire here. Where another server decides about that, they have no due time.
    decides: bool,
    /// When this server stood still, the latest last.
    standstills: VecDeque<Standstill>,
}

/// A time in which this server read nothing.
#[derive(Debug, Clone, Copy)]
struct Standstill {
    from_ms: MonotonicMs,
    to_ms: MonotonicMs,
}

/// Sessions looked at in one call of [`Sessions::expired`]: each of those that have expired becomes a transaction.
pub(crate) const EXPIRED_AT_ONCE: usize = 1000;

/// Those before are forgotten: sessions that were silent all the time since then may go.
const MAX_STANDSTILLS: usize = 64;

impl Sessions {
    /// `first_id` is where the ids of new sessions start.
    pub fn new(tick_ms: i64, first_id: SessionId) -> Sessions {
        assert!(tick_ms > 0, "tickTime must be positive");
        Sessions {
            tick_ms,
            sessions: BTreeMap::new(),
            local_count: 0,
            buckets: BTreeMap::new(),
            next_id: first_id.0,
            decides: true,
            standstills: VecDeque::new(),
        }
    }

    /// Begins anew with these sessions, all with their full timeout ahead of them; `decides` says whether they expire here. Nobody is
    /// connected.
    pub fn restart(&mut self, decides: bool, sessions: impl Iterator<Item = (SessionId, i32)>, now_ms: MonotonicMs) {
        self.sessions.clear();
        self.local_count = 0;
        self.buckets.clear();
        self.decides = decides;
        for (id, timeout_ms) in sessions {
            self.add(id, timeout_ms, None, now_ms);
        }
    }

    /// This server read nothing from `from_ms` to `to_ms`: that time is not held against those who were not heard of since.
    pub fn stood_still(&mut self, from_ms: MonotonicMs, to_ms: MonotonicMs) {
        if self.standstills.len() == MAX_STANDSTILLS {
            self.standstills.pop_front();
        }
        self.standstills.push_back(Standstill { from_ms, to_ms });
    }

    /// How long this server has stood still since then.
    fn still_since_ms(&self, heard_ms: MonotonicMs) -> i64 {
        let since = self.standstills.iter().rev().take_while(|still| still.from_ms >= heard_ms);
        since.map(|still| still.to_ms - still.from_ms).sum()
    }

    /// An id that no living session has.
    pub(crate) fn new_id(&mut self) -> SessionId {
        loop {
            let id = SessionId(self.next_id);
            self.next_id += 1;
            // The smallest id marks containers where an owner is stored.
            if id.0 != i64::MIN && id != SessionId::NONE && !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }

    /// Adds a session, or restores one after a restart, with its full timeout ahead of it.
    pub fn add(&mut self, id: SessionId, timeout_ms: i32, connection: Option<Arc<Connection>>, now_ms: MonotonicMs) {
        self.insert(id, timeout_ms, connection, false, now_ms);
    }

    /// Adds a session that no other server hears of.
    pub fn add_local(&mut self, id: SessionId, timeout_ms: i32, connection: Arc<Connection>, now_ms: MonotonicMs) {
        self.insert(id, timeout_ms, Some(connection), true, now_ms);
    }

    fn insert(
        &mut self,
        id: SessionId,
        timeout_ms: i32,
        connection: Option<Arc<Connection>>,
        local: bool,
        now_ms: MonotonicMs,
    ) {
        let bucket_ms = self.bucket(now_ms, timeout_ms);
        let owner = connection.as_ref().map(|connection| Owner::Client(connection.id));
        let session =
            Session { timeout_ms, connection, owner, local, closing: false, last_heard_ms: now_ms, bucket_ms };
        let before = self.sessions.insert(id, session);
        self.local_count -= usize::from(before.is_some_and(|session| session.local));
        self.local_count += usize::from(local);
        if local || self.decides {
            self.buckets.entry(bucket_ms).or_default().push(id);
        }
    }

    /// A learner heard of it. Sessions that are closing or unknown can't be kept alive.
    pub fn touch(&mut self, id: SessionId, timeout_ms: i32, now_ms: MonotonicMs) {
        if let Some(session) = self.sessions.get_mut(&id).filter(|session| !session.closing) {
            session.timeout_ms = timeout_ms;
            session.last_heard_ms = now_ms;
            // Only a shorter timeout needs another bucket at once; one that falls due looks when the session was heard of.
            let bucket_ms = session.bucket_ms;
            let earlier_ms = self.bucket(now_ms, timeout_ms);
            if earlier_ms < bucket_ms {
                self.place(id, earlier_ms);
            }
        }
    }

    /// A request of the session has come through a learner, which has not told of the session yet. Whoever holds a lock counts on that: a `sync` that is
    /// answered must leave the session its whole timeout from then on. Of a learner that the session has left nothing counts.
    pub fn heard(&mut self, id: SessionId, learner: LinkId, now_ms: MonotonicMs) {
        let counts = |session: &&mut Session| !session.has_left(Owner::Learner(learner));
        if let Some(session) = self.sessions.get_mut(&id).filter(counts) {
            session.last_heard_ms = session.last_heard_ms.max(now_ms);
        }
    }

    /// Whether a session may change anything, through this owner. A request that ends it is noted.
    pub fn check(&mut self, id: SessionId, owner: Owner, request: &WriteRequest) -> Result<(), ErrorCode> {
        let Some(session) = self.sessions.get(&id).filter(|session| !session.closing) else {
            return Err(ErrorCode::SessionExpired);
        };
        // Stricter than the original, where a session may be closed from anywhere: a client that moves on has not meant that.
        if session.has_left(owner) {
            return Err(ErrorCode::SessionMoved);
        }
        self.claim(id, owner);
        if *request == WriteRequest::CloseSession {
            self.close(id);
        }
        Ok(())
    }

    /// Whoever asks first has a session that nobody has.
    pub fn claim(&mut self, id: SessionId, owner: Owner) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.owner = Some(owner);
        }
    }

    /// A learner's client has the session from now on. Returns the connection that it had here.
    #[must_use = "the client has left this connection, so nothing more may be taken from it"]
    pub fn move_to(&mut self, id: SessionId, learner: LinkId) -> Option<Arc<Connection>> {
        let session = self.sessions.get_mut(&id)?;
        session.owner = Some(Owner::Learner(learner));
        session.last_heard_ms = session.last_heard_ms();
        session.connection.take()
    }

    /// A local session becomes one that all servers know.
    pub(crate) fn globalize(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            self.local_count -= usize::from(session.local);
            session.local = false;
        }
    }

    /// Whether a client may come back to a session through a learner: that session lives, and other servers know of it.
    pub(crate) fn is_resumable(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|session| !session.closing && !session.local)
    }

    /// A session; `None` where it does not exist or has ended.
    pub fn get(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    /// Hands a living session to a new connection and returns the one it had.
    pub fn attach(
        &mut self,
        id: SessionId,
        connection: Arc<Connection>,
        timeout_ms: i32,
        now_ms: MonotonicMs,
    ) -> Option<Arc<Connection>> {
        let session = self.sessions.get_mut(&id)?;
        session.timeout_ms = timeout_ms;
        session.last_heard_ms = now_ms;
        session.owner = Some(Owner::Client(connection.id));
        let before = session.connection.replace(connection);
        // A shorter timeout may fall due before the bucket the session is in.
        let bucket_ms = self.bucket(now_ms, timeout_ms);
        self.place(id, bucket_ms);
        before
    }

    /// The connection is gone; the session lives on until its timeout.
    pub fn detach(&mut self, id: SessionId, connection: &Connection) {
        if let Some(session) = self.sessions.get_mut(&id)
            && session.connection.as_deref() == Some(connection)
        {
            session.last_heard_ms = session.last_heard_ms();
            session.connection = None;
        }
    }

    /// Whether nothing more is accepted for a session: its end is on its way, or it does not exist.
    pub fn is_closing(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_none_or(|session| session.closing)
    }

    /// From now on nothing more is accepted for a session.
    pub fn close(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.closing = true;
        }
    }

    /// Ends a session. Returns what was known of it; `None` where it did not exist.
    pub fn remove(&mut self, id: SessionId) -> Option<Session> {
        // Its entry in a bucket stays behind and is dropped when the bucket falls due.
        let removed = self.sessions.remove(&id)?;
        self.local_count -= usize::from(removed.local);
        Some(removed)
    }

    /// When [`Sessions::expired`] should be asked next.
    pub fn deadline_ms(&self) -> Option<MonotonicMs> {
        self.buckets.first_key_value().map(|(due, _)| *due)
    }

    /// Takes sessions that have expired by `now_ms` and marks them closing. Looks at [`EXPIRED_AT_ONCE`] that may have expired; where there
    /// are more, the deadline is still due and this is to be asked again.
    pub fn expired(&mut self, now_ms: MonotonicMs) -> Vec<(SessionId, i32)> {
        let mut expired = Vec::new();
        let mut left = EXPIRED_AT_ONCE;
        while left > 0
            && let Some(mut bucket) = self.buckets.first_entry()
        {
            let due_ms = *bucket.key();
            if due_ms > now_ms {
                break;
            }
            let due = bucket.get_mut();
            let portion = due.split_off(due.len().saturating_sub(left));
            left -= portion.len();
            if due.is_empty() {
                bucket.remove();
            }
            for id in portion {
                let Some(session) = self.sessions.get(&id) else { continue };
                if session.closing || session.bucket_ms != due_ms {
                    continue;
                }
                // A local session that other servers know by now has an entry from before. It is the leader who lets such a session expire.
                if !self.decides && !session.local {
                    continue;
                }
                let alive_ms = session.alive_ms(now_ms);
                let renewed_ms = self.bucket(alive_ms + self.still_since_ms(alive_ms), session.timeout_ms);
                if renewed_ms > due_ms && renewed_ms > now_ms {
                    self.place(id, renewed_ms);
                } else {
                    expired.push((id, session.timeout_ms));
                    self.close(id);
                }
            }
        }
        expired
    }

    /// Whether a client has been silent for twice the timeout of its session. Where sessions do not expire, nothing else would end its
    /// connection: it may be gone, and its session may go on at another server.
    pub(crate) fn is_abandoned(&self, session: &Session, now_ms: MonotonicMs) -> bool {
        let alive_ms = session.alive_ms(now_ms);
        now_ms > alive_ms + self.still_since_ms(alive_ms) + 2 * i64::from(session.timeout_ms)
    }

    /// All sessions in the order of their ids, or those behind one.
    pub fn behind(&self, id: Option<SessionId>) -> impl Iterator<Item = (SessionId, &Session)> {
        let begin = id.map_or(Unbounded, Excluded);
        self.sessions.range((begin, Unbounded)).map(|(id, session)| (*id, session))
    }

    /// All sessions in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.behind(None)
    }

    /// How many sessions no other server knows.
    pub fn local_count(&self) -> usize {
        self.local_count
    }

    /// When a session may expire, as far as known without asking what its connection waits for.
    pub fn due_ms(&self, session: &Session) -> MonotonicMs {
        self.bucket(session.last_heard_ms(), session.timeout_ms)
    }

    fn bucket(&self, heard_ms: MonotonicMs, timeout_ms: i32) -> MonotonicMs {
        let MonotonicMs(over_ms) = heard_ms + i64::from(timeout_ms);
        MonotonicMs((over_ms / self.tick_ms + 1) * self.tick_ms)
    }

    fn place(&mut self, id: SessionId, bucket_ms: MonotonicMs) {
        if let Some(session) = self.sessions.get_mut(&id)
            && session.bucket_ms != bucket_ms
        {
            session.bucket_ms = bucket_ms;
            if !self.decides && !session.local {
                return;
            }
            self.buckets.entry(bucket_ms).or_default().push(id);
        }
    }
}

/// Where the ids of this process begin: the server in the top byte, then 40 bits of wall-clock milliseconds, then a counter. Wall time
/// does not restart at boot, so ids do not repeat while sessions of an earlier process live.
pub(crate) fn first_session_id(server: rookeeper_proto::ServerId, wall_ms: WallMs) -> SessionId {
    SessionId((((wall_ms.0 as u64) << 24) >> 8 | (server.0 as u64) << 56) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;
    use rookeeper_tree::WatcherId;

    fn at(ms: i64) -> MonotonicMs {
        MonotonicMs(ms)
    }

    fn sessions() -> Sessions {
        Sessions::new(2000, SessionId(100))
    }

    #[test]
    fn a_session_lives_its_timeout_and_at_most_one_tick_more() {
        for start in [0, 1, 1999, 2000].map(MonotonicMs) {
            let mut sessions = sessions();
            sessions.add(SessionId(1), 4000, None, start);
            let due = sessions.deadline_ms().unwrap();
            assert!(due > start + 4000 && due <= start + 6000, "{start}: {due}");
            assert_eq!(sessions.expired(due - 1), []);
            assert_eq!(sessions.expired(due), [(SessionId(1), 4000)]);
            assert!(sessions.is_closing(SessionId(1)));
            assert_eq!(sessions.expired(due + 9000), []);
        }
    }

    #[test]
    fn many_sessions_expire_in_portions() {
        let mut sessions = sessions();
        let count = 2 * EXPIRED_AT_ONCE as i64 + 10;
        (0..count).for_each(|id| sessions.add(SessionId(id), 4000, None, at(0)));
        let mut sizes = Vec::new();
        while sessions.deadline_ms().is_some_and(|due_ms| due_ms <= at(6000)) {
            sizes.push(sessions.expired(at(6000)).len());
        }
        assert_eq!(sizes, [EXPIRED_AT_ONCE, EXPIRED_AT_ONCE, 10]);
        assert!((0..count).all(|id| sessions.is_closing(SessionId(id))));
    }

    #[test]
    fn local_sessions_are_counted_as_they_come_and_go_and_change() {
        let mut sessions = sessions();
        let connection = Arc::new(Connection::new(WatcherId(1), "127.0.0.1:1".parse().unwrap(), Time::default()));
        (1..5).for_each(|id| sessions.add_local(SessionId(id), 4000, connection.clone(), at(0)));
        sessions.add(SessionId(5), 4000, None, at(0));
        assert_eq!(sessions.local_count(), 4);
        sessions.globalize(SessionId(1));
        sessions.globalize(SessionId(1));
        sessions.remove(SessionId(1));
        sessions.remove(SessionId(2));
        sessions.remove(SessionId(5));
        sessions.add(SessionId(3), 4000, None, at(0));
        assert_eq!(sessions.local_count(), 1);
        sessions.restart(true, std::iter::empty(), at(0));
        assert_eq!(sessions.local_count(), 0);
    }

    #[test]
    fn a_local_session_that_others_know_by_now_expires_nowhere_but_at_the_leader() {
        let mut sessions = sessions();
        sessions.restart(false, std::iter::empty(), at(0));
        let connection = Arc::new(Connection::new(WatcherId(1), "127.0.0.1:1".parse().unwrap(), Time::default()));
        sessions.add_local(SessionId(1), 4000, connection.clone(), at(0));
        sessions.add_local(SessionId(2), 4000, connection.clone(), at(0));
        sessions.globalize(SessionId(1));
        sessions.detach(SessionId(1), &connection);
        sessions.detach(SessionId(2), &connection);
        assert_eq!(sessions.expired(at(20_000)), [(SessionId(2), 4000)]);
        assert!(!sessions.is_closing(SessionId(1)));
    }

    #[test]
    fn a_request_renews_without_passing_here() {
        let mut sessions = sessions();
        let connection = Arc::new(Connection::new(WatcherId(1), "127.0.0.1:1".parse().unwrap(), Time::default()));
        sessions.add(SessionId(1), 4000, Some(connection.clone()), at(0));
        connection.heard(at(5000));
        assert_eq!(sessions.expired(at(6000)), []);
        assert_eq!(sessions.deadline_ms(), Some(at(10_000)));
        sessions.detach(SessionId(1), &connection);
        assert_eq!(sessions.expired(at(10_000)), [(SessionId(1), 4000)]);
    }

    #[test]
    fn a_session_whose_requests_the_server_leaves_unread_does_not_expire() {
        let mut sessions = sessions();
        let connection = Arc::new(Connection::new(WatcherId(1), "127.0.0.1:1".parse().unwrap(), Time::default()));
        sessions.add(SessionId(1), 4000, Some(connection.clone()), at(0));
        connection.hold_back(true);
        assert_eq!(sessions.expired(at(6000)), []);
        assert_eq!(sessions.expired(at(20_000)), []);
        connection.hold_back(false);
        assert_eq!(sessions.expired(at(26_000)), [(SessionId(1), 4000)]);
    }

    #[test]
    fn the_time_in_which_the_server_stood_still_ends_no_session() {
        let mut sessions = sessions();
        let connection = Arc::new(Connection::new(WatcherId(1), "127.0.0.1:1".parse().unwrap(), Time::default()));
        sessions.add(SessionId(1), 4000, Some(connection.clone()), at(0));
        sessions.add(SessionId(2), 4000, None, at(0));
        // A learner's session, which is touched.
        sessions.add(SessionId(3), 4000, None, at(0));
        sessions.stood_still(at(1000), at(11_000));
        assert_eq!(sessions.expired(at(11_000)), []);
        // What has arrived is read now.
        connection.heard(at(12_500));
        sessions.touch(SessionId(3), 4000, at(12_500));
        assert_eq!(sessions.expired(at(15_999)), []);
        assert_eq!(sessions.expired(at(16_000)), [(SessionId(2), 4000)]);
        let mut late = sessions.expired(at(18_000));
        late.sort();
        assert_eq!(late, [(SessionId(1), 4000), (SessionId(3), 4000)]);
    }

    #[test]
    fn a_request_through_the_learner_that_has_the_session_is_a_sign_of_life_and_through_another_is_none() {
        let mut sessions = sessions();
        (1..4).for_each(|id| sessions.add(SessionId(id), 4000, None, at(0)));
        let _ = sessions.move_to(SessionId(1), LinkId(1));
        let _ = sessions.move_to(SessionId(2), LinkId(2));
        (1..4).for_each(|id| sessions.heard(SessionId(id), LinkId(1), at(3000)));
        // An older one changes nothing.
        sessions.heard(SessionId(1), LinkId(1), at(100));
        assert_eq!(sessions.expired(at(6000)), [(SessionId(2), 4000)]);
        sessions.heard(SessionId(2), LinkId(2), at(6500));
        assert!(sessions.is_closing(SessionId(2)));
        let mut late = sessions.expired(at(8000));
        late.sort();
        assert_eq!(late, [(SessionId(1), 4000), (SessionId(3), 4000)], "nobody has the third");
    }

    #[test]
    fn two_standstills_add_up_and_one_before_the_last_sign_of_life_does_not_count() {
        let mut sessions = sessions();
        sessions.stood_still(at(0), at(50_000));
        sessions.add(SessionId(1), 4000, None, at(60_000));
        sessions.stood_still(at(61_000), at(66_000));
        sessions.stood_still(at(67_000), at(72_000));
        assert_eq!(sessions.expired(at(75_999)), []);
        assert_eq!(sessions.expired(at(76_000)), [(SessionId(1), 4000)]);
    }

    #[test]
    fn a_connection_is_abandoned_after_twice_the_timeout_in_which_the_server_could_have_heard() {
        let mut sessions = sessions();
        let connection = Arc::new(Connection::new(WatcherId(1), "127.0.0.1:1".parse().unwrap(), Time::default()));
        sessions.add(SessionId(1), 4000, Some(connection.clone()), at(0));
        connection.heard(at(1000));
        sessions.stood_still(at(2000), at(7000));
        let is_abandoned = |now_ms| sessions.is_abandoned(sessions.get(SessionId(1)).unwrap(), now_ms);
        assert!(!is_abandoned(at(14_000)));
        connection.hold_back(true);
        assert!(!is_abandoned(at(99_000)), "it is the server that does not read");
        connection.hold_back(false);
        assert!(is_abandoned(at(14_001)));
    }

    #[test]
    fn a_shorter_timeout_at_reconnect_counts() {
        let mut sessions = sessions();
        sessions.add(SessionId(1), 40_000, None, at(0));
        let connection = Arc::new(Connection::new(WatcherId(1), "127.0.0.1:1".parse().unwrap(), Time::default()));
        sessions.attach(SessionId(1), connection, 4000, at(0));
        assert_eq!(sessions.expired(at(6000)), [(SessionId(1), 4000)]);
    }

    #[test]
    fn ids_carry_the_server_and_do_not_repeat_those_alive() {
        let first = first_session_id(rookeeper_proto::ServerId(1), WallMs(1_700_000_000_000));
        assert_eq!(first.0 >> 56, 1);
        assert_eq!(first.0 & 0xffff, 0);
        let mut sessions = sessions();
        sessions.add(SessionId(100), 4000, None, at(0));
        assert_eq!(sessions.new_id(), SessionId(101));
    }
}
