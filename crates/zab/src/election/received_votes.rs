//! The last vote of each other voter, and whether that voter can be heard.
//!
//! What always holds: at most one vote for each voter, the latest; no vote is kept of a voter whose link is known to be down.

use std::collections::{BTreeMap, BTreeSet};

use rookeeper_proto::election::PeerState;
use rookeeper_proto::{MonotonicMs, ServerId};

use super::Vote;
use crate::membership::Memberships;

/// A voter's latest vote, with what the voter does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastVote {
    pub(super) state: PeerState,
    pub(super) vote: Vote,
    pub(super) heard_ms: MonotonicMs,
    /// Whether the voter wants this now. The first vote on a connection may be an old one: the original sends again what it sent last, however long
    /// ago that was.
    fresh: bool,
}

impl LastVote {
    fn is_settled(&self) -> bool {
        matches!(self.state, PeerState::Following | PeerState::Leading)
    }
}

/// How a vote relates to the one before of the same voter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// The voter was not heard in this round and state before.
    First,
    Changed,
    Repeated,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Up { heard: bool },
    Down,
}

#[derive(Debug, Default)]
pub(super) struct ReceivedVotes {
    words: BTreeMap<ServerId, LastVote>,
    /// A voter without an entry was neither reached so far, nor found to be unreachable.
    links: BTreeMap<ServerId, Link>,
}

impl ReceivedVotes {
    pub(super) fn link_up(&mut self, voter: ServerId) {
        self.links.insert(voter, Link::Up { heard: false });
    }

    pub(super) fn link_down(&mut self, voter: ServerId) {
        self.links.insert(voter, Link::Down);
        self.words.remove(&voter);
    }

    pub(super) fn is_linked(&self, voter: ServerId) -> bool {
        matches!(self.links.get(&voter), Some(Link::Up { .. }))
    }

    pub(super) fn is_down(&self, voter: ServerId) -> bool {
        self.links.get(&voter) == Some(&Link::Down)
    }

    pub(super) fn hear(&mut self, now_ms: MonotonicMs, voter: ServerId, state: PeerState, vote: Vote) -> News {
        let fresh = self.links.insert(voter, Link::Up { heard: true }) != Some(Link::Up { heard: false });
        let news = match self.words.get(&voter) {
            Some(last) if last.state == state && last.vote == vote => News::Repeated,
            Some(last) if last.state == state && last.vote.election_epoch == vote.election_epoch => News::Changed,
            _ => News::First,
        };
        self.words.insert(voter, LastVote { state, vote, heard_ms: now_ms, fresh });
        news
    }

    /// Forgets servers that are voters no longer.
    pub(super) fn retain_voters(&mut self, memberships: &Memberships) {
        self.words.retain(|voter, _| memberships.is_voter(*voter));
        self.links.retain(|voter, _| memberships.is_voter(*voter));
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&LastVote) -> bool) {
        self.words.retain(|_, word| keep(word));
    }

    /// The votes of voters that look for a leader, in the order of their ids.
    pub(super) fn looking(&self) -> impl Iterator<Item = &Vote> {
        self.words.values().filter(|word| word.state == PeerState::Looking).map(|word| &word.vote)
    }

    /// Whether the voter's vote is exactly this one, round included, or it leads since the end of this round.
    pub(super) fn agrees(&self, voter: ServerId, vote: &Vote) -> bool {
        self.words.get(&voter).is_some_and(|word| match word.state {
            PeerState::Looking | PeerState::Following => word.vote == *vote,
            PeerState::Leading => {
                word.vote.leader == vote.leader
                    && Some(voter) == vote.leader
                    && word.vote.election_epoch == vote.election_epoch
            }
            PeerState::Observing => false,
        })
    }

    pub(super) fn agreeing(&self, vote: &Vote) -> BTreeSet<ServerId> {
        self.words.keys().copied().filter(|voter| self.agrees(*voter, vote)).collect()
    }

    pub(super) fn agreed_since(&self, since_ms: MonotonicMs, voter: ServerId, vote: &Vote) -> bool {
        self.agrees(voter, vote) && self.words.get(&voter).is_some_and(|word| word.heard_ms >= since_ms)
    }

    pub(super) fn was_heard_since(&self, since_ms: MonotonicMs, voter: ServerId) -> bool {
        self.words.get(&voter).is_some_and(|word| word.heard_ms >= since_ms)
    }

    /// Whether the voter's vote is this one, and surely what the voter wants now.
    pub(super) fn surely_agrees(&self, voter: ServerId, vote: &Vote) -> bool {
        self.agrees(voter, vote) && self.words.get(&voter).is_some_and(|word| word.fresh)
    }

    /// The vote of a server that says that it leads itself.
    pub(super) fn claim(&self, leader: ServerId) -> Option<&Vote> {
        let word = self.words.get(&leader)?;
        (word.state == PeerState::Leading && word.vote.leader == Some(leader)).then_some(&word.vote)
    }

    /// A leader that says so itself and that enough voters say to follow, `supporters` counted among them.
    ///
    /// Neither zxids nor rounds of different servers need to be equal once they left the election (ZOOKEEPER-1805, ZOOKEEPER-1818):
    /// either the epoch or the round is.
    pub(super) fn established(
        &self,
        memberships: &Memberships,
        supporters: &BTreeSet<ServerId>,
        since_ms: Option<MonotonicMs>,
        trusted: impl Fn(ServerId, &Vote) -> bool,
    ) -> Option<(ServerId, Vote)> {
        let recent = || self.words.iter().filter(|(_, word)| word.is_settled() && Some(word.heard_ms) >= since_ms);
        let claims = recent().filter_map(|(server, _)| self.claim(*server).map(|claim| (*server, claim)));
        let enough = claims.filter(|(leader, claim)| {
            let mut following = supporters.clone();
            following.extend(recent().filter_map(|(server, LastVote { vote, .. })| {
                let same_term = vote.peer_epoch == claim.peer_epoch || vote.election_epoch == claim.election_epoch;
                (vote.leader == Some(*leader) && same_term).then_some(*server)
            }));
            trusted(*leader, claim) && memberships.is_reached_by(&following)
        });
        let newest = enough.max_by_key(|(_, claim)| (claim.peer_epoch, claim.election_epoch));
        newest.map(|(leader, claim)| (leader, claim.clone()))
    }
}
