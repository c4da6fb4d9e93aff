//! The original's Fast Leader Election as far as peers can see it: what it counts, what it throws away while it waits for a better
//! vote, when it sends again. Written from the description of its behaviour, to hold elections with.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rookeeper_proto::election::{Notification, PeerState};
use rookeeper_proto::{MonotonicMs, ServerId};
use rookeeper_zab::Memberships;
use rookeeper_zab::election::{Candidacy, Vote};

const FIRST_INTERVAL_MS: i64 = 200;
const LONGEST_INTERVAL_MS: i64 = 60_000;
const FINALIZE_MS: i64 = 200;

#[derive(Debug)]
struct Search {
    interval_ms: i64,
    repeat_ms: MonotonicMs,
    finalize_ms: Option<MonotonicMs>,
}

#[derive(Debug)]
pub struct Original {
    me: ServerId,
    memberships: Arc<Memberships>,
    candidacy: Candidacy,
    pub state: PeerState,
    pub round: i64,
    proposal: Vote,
    pub current: Vote,
    search: Option<Search>,
    received: BTreeMap<ServerId, (PeerState, Vote)>,
    settled: BTreeMap<ServerId, (PeerState, Vote)>,
    pub sends: VecDeque<(ServerId, Notification)>,
    pub elected: Option<Vote>,
}

impl Original {
    pub fn new(me: ServerId, memberships: Arc<Memberships>, candidacy: Candidacy) -> Original {
        let vote =
            Vote { leader: Some(me), zxid: candidacy.zxid, election_epoch: 0, peer_epoch: Some(candidacy.epoch) };
        Original {
            me,
            memberships,
            candidacy,
            state: PeerState::Looking,
            round: 0,
            proposal: vote.clone(),
            current: vote,
            search: None,
            received: BTreeMap::new(),
            settled: BTreeMap::new(),
            sends: VecDeque::new(),
            elected: None,
        }
    }

    fn own(&self) -> Vote {
        let Candidacy { zxid, epoch } = self.candidacy;
        let (leader, zxid, peer_epoch) =
            if self.memberships.is_voter(self.me) { (Some(self.me), zxid, Some(epoch)) } else { (None, None, None) };
        Vote { leader, zxid, election_epoch: self.round, peer_epoch }
    }

    pub fn look(&mut self, now_ms: MonotonicMs, candidacy: Candidacy) {
        self.candidacy = candidacy;
        self.state = PeerState::Looking;
        self.round += 1;
        self.received.clear();
        self.settled.clear();
        self.proposal = self.own();
        let interval_ms = FIRST_INTERVAL_MS;
        self.search = Some(Search { interval_ms, repeat_ms: now_ms + interval_ms, finalize_ms: None });
        self.send_all();
        self.count_own(now_ms);
    }

    fn send(&mut self, to: ServerId, state: PeerState, vote: &Vote, election_epoch: i64) {
        let Vote { leader, zxid, peer_epoch, .. } = *vote;
        let config = Some(self.memberships.committed.to_string().into_bytes());
        self.sends.push_back((to, Notification { state, leader, zxid, election_epoch, peer_epoch, config }));
    }

    fn send_all(&mut self) {
        for voter in self.memberships.voters().into_iter().filter(|voter| *voter != self.me).collect::<Vec<_>>() {
            self.send(voter, PeerState::Looking, &self.proposal.clone(), self.round);
        }
    }

    fn beats(vote: &Vote, other: &Vote) -> bool {
        let rank = |vote: &Vote| (vote.peer_epoch, vote.zxid, vote.leader);
        rank(vote) > rank(other)
    }

    pub fn receive(&mut self, now_ms: MonotonicMs, from: ServerId, notification: &Notification) {
        let Notification { state, leader, zxid, election_epoch, peer_epoch, config: _ } = *notification;
        let vote = Vote { leader, zxid, election_epoch, peer_epoch };
        let looking = self.search.is_some();
        if !self.memberships.is_voter(from) {
            self.send(from, self.state, &self.current.clone(), self.round);
        } else if looking {
            if state == PeerState::Looking && vote.election_epoch < self.round {
                self.send(from, PeerState::Looking, &self.proposal.clone(), self.round);
            }
            self.process(now_ms, from, state, vote);
        } else if state == PeerState::Looking {
            self.send(from, self.state, &self.current.clone(), self.current.election_epoch);
        }
    }

    fn process(&mut self, now_ms: MonotonicMs, from: ServerId, state: PeerState, vote: Vote) {
        let Some(search) = &mut self.search else { return };
        if let Some(finalize_ms) = &mut search.finalize_ms {
            if !Self::beats(&vote, &self.proposal) {
                *finalize_ms = now_ms + FINALIZE_MS;
                return;
            }
            search.finalize_ms = None;
        }
        search.repeat_ms = now_ms + search.interval_ms;
        if !vote.leader.is_some_and(|leader| self.memberships.is_voter(leader)) {
            return;
        }
        match state {
            PeerState::Looking => {
                if vote.election_epoch < self.round {
                    return;
                }
                if vote.election_epoch > self.round {
                    self.round = vote.election_epoch;
                    self.received.clear();
                    let own = self.own();
                    self.proposal = if Self::beats(&vote, &own) { vote.clone() } else { own };
                    self.send_all();
                } else if Self::beats(&vote, &self.proposal) {
                    self.proposal = vote.clone();
                    self.send_all();
                }
                self.received.insert(from, (state, vote));
                self.count_own(now_ms);
            }
            PeerState::Observing => {}
            PeerState::Following | PeerState::Leading => {
                if vote.election_epoch == self.round {
                    self.received.insert(from, (state, vote.clone()));
                    let matches = |(other, word): &(PeerState, Vote)| match other {
                        PeerState::Looking => *word == vote,
                        _ => word.leader == vote.leader,
                    };
                    if self.is_result(&self.received, &vote, matches) {
                        return self.finish(vote);
                    }
                }
                self.settled.insert(from, (state, vote.clone()));
                let matches =
                    |(_, word): &(PeerState, Vote)| word.leader == vote.leader && word.peer_epoch == vote.peer_epoch;
                if self.is_result(&self.settled, &vote, matches) {
                    self.round = vote.election_epoch;
                    self.finish(vote);
                }
            }
        }
    }

    fn is_result(
        &self,
        set: &BTreeMap<ServerId, (PeerState, Vote)>,
        vote: &Vote,
        matches: impl Fn(&(PeerState, Vote)) -> bool,
    ) -> bool {
        let servers: BTreeSet<_> = set.iter().filter(|(_, word)| matches(word)).map(|(server, _)| *server).collect();
        let leads = if vote.leader == Some(self.me) {
            self.round == vote.election_epoch
        } else {
            vote.leader.and_then(|leader| set.get(&leader)).is_some_and(|(state, _)| *state == PeerState::Leading)
        };
        leads && self.memberships.is_reached_by(&servers)
    }

    fn count_own(&mut self, now_ms: MonotonicMs) {
        if self.memberships.is_voter(self.me) {
            self.received.insert(self.me, (PeerState::Looking, self.proposal.clone()));
        }
        let agreeing = self.received.iter().filter(|(_, (_, vote))| *vote == self.proposal);
        let servers: BTreeSet<_> = agreeing.map(|(server, _)| *server).collect();
        if let Some(search) = &mut self.search
            && self.memberships.is_reached_by(&servers)
        {
            search.finalize_ms = Some(now_ms + FINALIZE_MS);
        }
    }

    fn finish(&mut self, vote: Vote) {
        self.search = None;
        self.state = match vote.leader == Some(self.me) {
            true => PeerState::Leading,
            false if self.memberships.is_voter(self.me) => PeerState::Following,
            false => PeerState::Observing,
        };
        self.current = vote.clone();
        self.elected = Some(vote);
    }

    pub fn deadline_ms(&self) -> Option<MonotonicMs> {
        self.search.as_ref().map(|search| search.finalize_ms.unwrap_or(search.repeat_ms))
    }

    pub fn tick(&mut self, now_ms: MonotonicMs) {
        let Some(search) = &mut self.search else { return };
        match search.finalize_ms {
            Some(finalize_ms) if now_ms >= finalize_ms => self.finish(self.proposal.clone()),
            None if now_ms >= search.repeat_ms => {
                search.interval_ms = (search.interval_ms * 2).min(LONGEST_INTERVAL_MS);
                search.repeat_ms = now_ms + search.interval_ms;
                self.send_all();
            }
            _ => {}
        }
    }
}
