//! The search for a leader: from [`Election::look`] to [`ElectionOutput::Elected`].
//!
//! What always holds: the proposal is the best vote heard in this round, the own one included; it is sent to every voter when it changes,
//! and again, ever more rarely, while the search lasts; the round is the highest heard. One without a vote says what it is asked for.

use std::collections::{BTreeMap, BTreeSet};

use rookeeper_proto::election::PeerState;
use rookeeper_proto::{MonotonicMs, ServerId, Zxid};

use super::received_votes::News;
use super::{Candidacy, Election, ElectionOutput, RECENT_MS, REFUSED_MS, Vote};

/// Voters without a link are tried at least this often: those who have a leader do not call us.
const UNREACHED_INTERVAL_MS: i64 = 2000;

/// Who has no vote is told of the result only if it asks.
const ASKING_INTERVAL_MS: i64 = 1000;

/// After this time the own voice counts for one who leads without a quorum, and the word of an oracle for this server.
const PATIENCE_MS: i64 = 1000;

#[derive(Debug)]
pub(super) struct Search {
    since_ms: MonotonicMs,
    /// This server led before the search, and too few followed.
    gives_way: bool,
    interval_ms: i64,
    repeat_ms: MonotonicMs,
    /// When a quorum of equal votes has waited long enough.
    finalize_ms: Option<MonotonicMs>,
    /// When each voter was told our vote.
    told_ms: BTreeMap<ServerId, MonotonicMs>,
}

impl Election {
    /// Begins a new round.
    pub fn look(&mut self, now_ms: MonotonicMs, candidacy: Candidacy) {
        self.now_ms = now_ms;
        self.candidacy = candidacy;
        self.round = self.round.saturating_add(1);
        self.pause();
        // Others may have begun before us, or found a leader. What is said of the one we just left is what we thought, too.
        let left = self.left.take();
        self.received.retain(|word| {
            let about_now = word.state == PeerState::Looking || word.vote.leader.is_none() || word.vote.leader != left;
            about_now && now_ms - word.heard_ms < RECENT_MS
        });
        let interval_ms = self.settings.notification_interval_ms.0;
        self.search = Some(Search {
            since_ms: now_ms,
            gives_way: std::mem::take(&mut self.tried_in_vain),
            interval_ms,
            repeat_ms: now_ms + interval_ms,
            finalize_ms: None,
            told_ms: BTreeMap::new(),
        });
        self.begin();
    }

    /// When something happens if nothing is heard until then.
    pub fn deadline_ms(&self) -> Option<MonotonicMs> {
        let search = self.search.as_ref()?;
        let trust = self.refusals.values().filter_map(|refusal| refusal.until_ms).filter(|until| *until > self.now_ms);
        let alone_ms = Some(search.since_ms + PATIENCE_MS).filter(|at_ms| self.oracle_grants && *at_ms > self.now_ms);
        trust.chain(search.finalize_ms).chain(alone_ms).chain([search.repeat_ms]).min()
    }

    /// Proposes the best of what is known in this round.
    pub(super) fn begin(&mut self) {
        self.vote = self.own_vote();
        let heard: Vec<Vote> = self.received.looking().cloned().collect();
        for vote in heard {
            self.weigh(&vote);
        }
        if let Some((leader, vote)) = self.established_leader() {
            return self.finish(leader, vote);
        }
        self.propose();
        self.conclude();
    }

    pub(super) fn heard_while_looking(&mut self, from: ServerId, state: PeerState, vote: &Vote, news: News) {
        if state == PeerState::Looking {
            if self.is_outsider() && self.could_follow(vote) {
                self.second(from, vote, news);
            } else if vote.election_epoch < self.round {
                self.answer(from, self.round);
            } else if self.weigh(vote) {
                self.propose();
            } else if news == News::First || (news == News::Repeated && self.was_told_long_ago(from)) {
                // It may not have been looking when it got our vote, or it waits for a vote that got lost.
                self.send_vote(from);
            }
        }
        if news != News::Repeated {
            self.expect_answers();
        }
        self.conclude();
    }

    /// Without a vote as far as this server knows, as an observer or no member at all. Those who vote may know better: a change of the
    /// members that they have and this server missed may need its voice, and without it they would never have a leader who could tell it of
    /// the change.
    fn is_outsider(&self) -> bool {
        !self.memberships.is_voter(self.settings.me) && self.candidacy.zxid.is_some()
    }

    /// Whether nothing this server has is missing where the vote's leader leads.
    fn could_follow(&self, vote: &Vote) -> bool {
        let Candidacy { zxid, epoch } = self.candidacy;
        vote.leader.is_some() && vote.zxid.is_some() && (vote.peer_epoch, vote.zxid) >= (Some(epoch), zxid)
    }

    /// Votes as the server does that asks, in its round. It counts where this server is a voter.
    fn second(&mut self, from: ServerId, vote: &Vote, news: News) {
        let other = self.vote != *vote;
        (self.vote, self.round) = (vote.clone(), vote.election_epoch);
        if other || news != News::Repeated || self.was_told_long_ago(from) {
            self.send_vote(from);
        }
    }

    /// Takes over a later round or a better vote; whether there was one.
    fn weigh(&mut self, vote: &Vote) -> bool {
        if !self.votes() || vote.zxid.is_none() || !vote.leader.is_some_and(|leader| self.memberships.is_voter(leader))
        {
            return false;
        }
        let later = vote.election_epoch > self.round;
        if later {
            self.round = vote.election_epoch;
            self.vote = self.own_vote();
        }
        let better = vote.election_epoch == self.round && self.beats(vote, &self.vote);
        if better {
            self.vote = vote.clone();
        }
        later || better
    }

    fn beats(&self, vote: &Vote, other: &Vote) -> bool {
        let rank = |vote: &Vote| (self.may_lead(vote.leader), vote.peer_epoch, vote.zxid, vote.leader);
        self.may_lead(vote.leader) && rank(vote) > rank(other)
    }

    /// Whether the server is a voter with a weight by the membership in force; a voter may have none. A server that votes only by a change to
    /// come is not elected: members that never heard of the change would not follow it, and without them the change can't be committed. Where
    /// the change is in force after all, the votes of such a server carry that membership, which is taken before the vote is weighed.
    fn may_lead(&self, server: Option<ServerId>) -> bool {
        server.is_some_and(|server| self.memberships.committed_quorum().is_voter(server))
    }

    /// Tells everybody the new proposal.
    fn propose(&mut self) {
        for voter in self.others() {
            self.send_vote(voter);
        }
        self.expect_answers();
        if let Some(search) = &mut self.search {
            search.finalize_ms = None;
        }
    }

    /// Something moved, so answers are worth waiting for at the shortest interval again. Never puts the next vote off: links that come
    /// and go would do that for ever.
    pub(super) fn expect_answers(&mut self) {
        let interval_ms = self.settings.notification_interval_ms.0;
        if let Some(search) = &mut self.search {
            search.interval_ms = interval_ms;
            search.repeat_ms = search.repeat_ms.min(self.now_ms + interval_ms);
        }
    }

    pub(super) fn send_vote(&mut self, to: ServerId) {
        self.send(to, self.round);
        if let Some(search) = &mut self.search {
            search.told_ms.insert(to, self.now_ms);
        }
    }

    fn was_told_long_ago(&self, server: ServerId) -> bool {
        let told_ms = self.search.as_ref().and_then(|search| search.told_ms.get(&server));
        told_ms.is_none_or(|told_ms| self.now_ms - *told_ms >= self.settings.notification_interval_ms.0)
    }

    fn others(&self) -> BTreeSet<ServerId> {
        let mut others = self.memberships.voters();
        others.remove(&self.settings.me);
        others
    }

    /// Sends the vote again, but not to those who shared it just now: they may be waiting for silence. Later they may have settled
    /// without a word.
    pub(super) fn repeat_vote(&mut self) {
        if self.search.as_ref().is_none_or(|search| self.now_ms < search.repeat_ms) {
            return;
        }
        let others = self.others();
        let mut longest_ms = self.settings.notification_interval_ms.1;
        if !self.votes() {
            longest_ms = longest_ms.min(ASKING_INTERVAL_MS);
        } else if others.iter().any(|voter| !self.received.is_linked(*voter)) {
            longest_ms = longest_ms.min(UNREACHED_INTERVAL_MS);
        }
        let since_ms = self.now_ms - self.settings.finalize_wait_ms.saturating_mul(2);
        for voter in others {
            if !self.received.agreed_since(since_ms, voter, &self.vote) {
                self.send_vote(voter);
            }
        }
        if let Some(search) = &mut self.search {
            search.interval_ms = search.interval_ms.saturating_mul(2).min(longest_ms);
            search.repeat_ms = self.now_ms + search.interval_ms;
        }
    }

    /// Ends the search where what was heard suffices.
    pub(super) fn conclude(&mut self) {
        let now_ms = self.now_ms;
        for refusal in self.refusals.values_mut() {
            refusal.until_ms.get_or_insert(now_ms + REFUSED_MS);
        }
        if let Some((leader, vote)) = self.established_leader() {
            return self.finish(leader, vote);
        }
        if self.may_decide_alone() && self.vote.leader != Some(self.settings.me) {
            // What a server wanted that is gone now.
            self.vote = self.own_vote();
            self.propose();
        }
        let Some(leader) = self.vote.leader.filter(|_| self.is_supported()) else {
            if let Some(search) = &mut self.search {
                search.finalize_ms = None;
            }
            return;
        };
        let claim = self.received.claim(leader).filter(|claim| claim.election_epoch == self.round).cloned();
        let wait_until_ms = now_ms + self.settings.finalize_wait_ms;
        let Some(search) = &mut self.search else { return };
        let waited = now_ms >= *search.finalize_ms.get_or_insert(wait_until_ms);
        if let Some(claim) = claim {
            self.finish(leader, claim);
        } else if waited || self.is_undisputed() {
            self.finish(leader, self.vote.clone());
        }
    }

    /// Whether a quorum votes as this server does.
    fn is_supported(&self) -> bool {
        let mut agreeing = self.received.agreeing(&self.vote);
        agreeing.insert(self.settings.me);
        let is_enough = self.memberships.is_reached_by(&agreeing)
            || (self.vote.leader == Some(self.settings.me) && self.may_decide_alone());
        self.votes() && self.may_lead(self.vote.leader) && is_enough
    }

    /// Whether the oracle lets this server go on without the other one of two members, which was given time and is silent.
    fn may_decide_alone(&self) -> bool {
        let Some(search) = &self.search else { return false };
        let is_gone = |voter| !self.received.is_linked(voter) || !self.received.was_heard_since(search.since_ms, voter);
        self.oracle_grants
            && self.now_ms - search.since_ms >= PATIENCE_MS
            && self.votes()
            && self.may_lead(Some(self.settings.me))
            && self.memberships.has_half(self.settings.me)
            && self.others().into_iter().all(is_gone)
    }

    /// Whether nobody who can be heard may have a better vote. When all that is known is an empty history, those who are just about
    /// to start are given their time: one of them may have data that the others lost.
    fn is_undisputed(&self) -> bool {
        let empty = self.vote.zxid == Some(Zxid::ZERO);
        let excused = |voter| self.received.is_down(voter) && Some(voter) != self.vote.leader && !empty;
        self.others().into_iter().all(|voter| excused(voter) || self.received.surely_agrees(voter, &self.vote))
    }

    fn established_leader(&self) -> Option<(ServerId, Vote)> {
        let search = self.search.as_ref()?;
        let patient = self.votes() && self.now_ms - search.since_ms >= PATIENCE_MS;
        let (me, nobody) = (BTreeSet::from([self.settings.me]), BTreeSet::new());
        let lets_in = |leader: ServerId, claim: &Vote| {
            self.refusals.get(&leader).is_none_or(|refusal| {
                refusal.claim.as_ref() != Some(claim) || refusal.until_ms.is_some_and(|until| self.now_ms >= until)
            })
        };
        let established = |supporters, trusted: &dyn Fn(ServerId, &Vote) -> bool| {
            self.received.established(&self.memberships, supporters, None, trusted)
        };
        established(if patient { &me } else { &nobody }, &lets_in).or_else(|| {
            let may_give_way = search.gives_way && self.votes();
            may_give_way
                .then(|| established(&me, &|leader, claim| lets_in(leader, claim) && self.could_follow(claim)))?
        })
    }

    fn finish(&mut self, leader: ServerId, vote: Vote) {
        assert!(self.search.is_some() && vote.leader == Some(leader), "a search ends once, with a vote for its leader");
        assert!(leader != self.settings.me || self.votes(), "a server without a vote does not lead");
        self.state = if leader == self.settings.me {
            PeerState::Leading
        } else if self.memberships.is_observer(self.settings.me) {
            PeerState::Observing
        } else {
            PeerState::Following
        };
        self.round = self.round.max(vote.election_epoch);
        let round = vote.election_epoch;
        self.vote = vote;
        self.search = None;
        self.refusals.clear();
        for voter in self.others() {
            // A new leader spares the others their wait. Our last vote, which the leader counts, is replaced only where it can't have
            // arrived: it would be misleading by the time it does.
            let unreached = self.state == PeerState::Following && !self.received.is_linked(voter);
            if self.state == PeerState::Leading || unreached {
                self.send(voter, round);
            }
        }
        for asker in std::mem::take(&mut self.askers) {
            self.send(asker, self.round);
        }
        self.outputs.push_back(ElectionOutput::Elected(leader));
    }
}
