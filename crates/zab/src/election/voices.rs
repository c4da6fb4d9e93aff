//! What the other voters said last, and whether they can be heard.
//!
//! What always holds: one word per voter, its latest; nothing is kept of a voter whose link is known to be down; never more entries
//! than voters.

use std::collections::{BTreeMap, BTreeSet};

use rookeeper_proto::ServerId;
use rookeeper_proto::election::PeerState;

use super::Vote;
use crate::membership::Memberships;

/// A voter's latest word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) state: PeerState,
    pub(super) vote: Vote,
    pub(super) heard_ms: i64,
    /// Not the first word of a connection, which may be one that its sender kept from an election long over.
    fresh: bool,
}

impl Word {
    fn is_settled(&self) -> bool {
        matches!(self.state, PeerState::Following | PeerState::Leading)
    }
}

/// How a word relates to the one before.
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
pub(super) struct Voices {
    words: BTreeMap<ServerId, Word>,
    /// A voter that is not in here was neither reached nor missed so far.
    links: BTreeMap<ServerId, Link>,
}

impl Voices {
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

    pub(super) fn hear(&mut self, now_ms: i64, voter: ServerId, state: PeerState, vote: Vote) -> News {
        let fresh = self.links.insert(voter, Link::Up { heard: true }) != Some(Link::Up { heard: false });
        let news = match self.words.get(&voter) {
            Some(last) if last.state == state && last.vote == vote => News::Repeated,
            Some(last) if last.state == state && last.vote.election_epoch == vote.election_epoch => News::Changed,
            _ => News::First,
        };
        self.words.insert(voter, Word { state, vote, heard_ms: now_ms, fresh });
        news
    }

    /// Forgets who is no voter any more.
    pub(super) fn retain_voters(&mut self, memberships: &Memberships) {
        self.words.retain(|voter, _| memberships.is_voter(*voter));
        self.links.retain(|voter, _| memberships.is_voter(*voter));
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Word) -> bool) {
        self.words.retain(|_, word| keep(word));
    }

    /// The votes of those who look for a leader, in the order of their senders.
    pub(super) fn looking(&self) -> impl Iterator<Item = &Vote> {
        self.words.values().filter(|word| word.state == PeerState::Looking).map(|word| &word.vote)
    }

    /// Whether the voter's vote is exactly this one, round included, or it leads since the end of this round.
    pub(super) fn agrees(&self, voter: ServerId, vote: &Vote) -> bool {
        self.words.get(&voter).is_some_and(|word| match word.state {
            PeerState::Looking | PeerState::Following => word.vote == *vote,
            PeerState::Leading => {
                word.vote.leader == vote.leader
                    && voter == vote.leader
                    && word.vote.election_epoch == vote.election_epoch
            }
            PeerState::Observing => false,
        })
    }

    pub(super) fn agreeing(&self, vote: &Vote) -> BTreeSet<ServerId> {
        self.words.keys().copied().filter(|voter| self.agrees(*voter, vote)).collect()
    }

    pub(super) fn agreed_since(&self, since_ms: i64, voter: ServerId, vote: &Vote) -> bool {
        self.agrees(voter, vote) && self.words.get(&voter).is_some_and(|word| word.heard_ms >= since_ms)
    }

    /// Whether the voter's vote is this one, without a doubt that it is what the voter wants now.
    pub(super) fn surely_agrees(&self, voter: ServerId, vote: &Vote) -> bool {
        self.agrees(voter, vote) && self.words.get(&voter).is_some_and(|word| word.fresh)
    }

    /// What the server says of its own leadership, if it says that it leads.
    pub(super) fn claim(&self, leader: ServerId) -> Option<&Vote> {
        let word = self.words.get(&leader)?;
        (word.state == PeerState::Leading && word.vote.leader == leader).then_some(&word.vote)
    }

    /// A leader that says so itself and that enough voters say to follow, `supporters` counted among them.
    ///
    /// Neither zxids nor rounds of different servers need to be equal once they left the election (ZOOKEEPER-1805, ZOOKEEPER-1818):
    /// either the epoch or the round is.
    pub(super) fn established(
        &self,
        memberships: &Memberships,
        supporters: &BTreeSet<ServerId>,
        since_ms: i64,
        trusted: impl Fn(ServerId, &Vote) -> bool,
    ) -> Option<Vote> {
        let recent = || self.words.iter().filter(|(_, word)| word.is_settled() && word.heard_ms >= since_ms);
        let claims = recent().filter_map(|(server, _)| self.claim(*server).map(|claim| (*server, claim)));
        let enough = claims.filter(|(leader, claim)| {
            let mut voices = supporters.clone();
            voices.extend(recent().filter_map(|(server, Word { vote, .. })| {
                let same_term = vote.peer_epoch == claim.peer_epoch || vote.election_epoch == claim.election_epoch;
                (vote.leader == *leader && same_term).then_some(*server)
            }));
            trusted(*leader, claim) && memberships.is_reached_by(&voices)
        });
        enough.map(|(_, claim)| claim).max_by_key(|claim| (claim.peer_epoch, claim.election_epoch)).cloned()
    }
}
