//! Fast Leader Election: finds a leader whose history is no older than that of a quorum, and tells others who leads.
//!
//! What always holds here:
//! - the search ends with a quorum of equal votes in one round, or with a leader that says so and a quorum that says to follow it;
//! - a server of weight 0 is never voted for;
//! - what leaves says what this server wants or does now, also on a new connection;
//! - all memory is bounded by the membership and by constants.
//!
//! `received_votes.rs` keeps what the others said, `search.rs` looks for a leader, this file talks.
//!
//! Counterpart in the original: `FastLeaderElection`, with whose servers votes are exchanged. Different on purpose: a search ends as
//! soon as nobody who can be heard disagrees; a new leader announces itself; words of leaders and followers count at any time; votes
//! that arrive before the own search begins are remembered; and whoever may have missed our vote gets it again at once.

mod received_votes;
mod search;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rookeeper_proto::election::{Notification, PeerState};
use rookeeper_proto::{Epoch, MonotonicMs, ServerId, Zxid};

use self::received_votes::ReceivedVotes;
use self::search::Search;
use crate::membership::{Membership, Memberships, Role};

/// How long a word that arrived before a search is remembered.
const RECENT_MS: i64 = 1000;

/// How long a leader that refused is not tried again while it repeats itself. Followers of a leader that resigned take about so long to
/// notice.
const REFUSED_MS: i64 = 500;

/// Servers outside of the membership that are told who leads as soon as it is known.
const MAX_ASKERS: usize = 256;

/// A server gets at most so many answers in such a time: two that disagree about the membership would never fall silent.
const MAX_ANSWERS: u32 = 8;
const ANSWERS_WINDOW_MS: i64 = 100;

/// How elections are held.
#[derive(Debug, Clone)]
pub struct ElectionSettings {
    /// This server.
    pub me: ServerId,
    /// First and longest pause after which votes are sent again.
    pub notification_interval_ms: (i64, i64),
    /// How long a quorum of equal votes waits for a better one, while somebody who may have one was not heard.
    pub finalize_wait_ms: i64,
}

/// What this server brings along. All of it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidacy {
    /// The end of its history; `None` for a database that must not be counted.
    pub zxid: Option<Zxid>,
    /// `currentEpoch`.
    pub epoch: Epoch,
}

/// Who shall lead, or does. The fields are those of a [`Notification`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// `None` where nobody is voted for.
    pub leader: Option<ServerId>,
    /// The end of the leader's history.
    pub zxid: Option<Zxid>,
    /// The round in which this was voted, the logical clock of the voter.
    pub election_epoch: i64,
    /// The epoch of that history, `currentEpoch` of the leader.
    pub peer_epoch: Option<Epoch>,
}

/// What an election wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElectionOutput {
    /// Replaces one to the same server not sent yet.
    Send { to: ServerId, notification: Notification },
    /// The search is over: [`Election::state`] is Leading, Following or Observing now, and [`Election::vote`] says with which vote.
    Elected(ServerId),
    /// A vote carried a membership newer than the committed one while this server looks for a leader; these bytes are its text. Said
    /// once per version. To be answered with [`Election::set_memberships`], or not at all.
    NewerMembership(Vec<u8>),
}

/// One server's side of all its elections. Lives as long as the process.
#[derive(Debug)]
pub struct Election {
    settings: ElectionSettings,
    memberships: Arc<Memberships>,
    /// The text of the committed membership, which goes with every vote.
    config: Vec<u8>,
    candidacy: Candidacy,
    state: PeerState,
    /// The logical clock. Grows, but begins anew with the process and with [`Election::restart`], and is that of whoever asked last while
    /// this server is no member.
    round: i64,
    /// The proposal of this round while looking, the result afterwards.
    vote: Vote,
    /// None while idle or settled.
    search: Option<Search>,
    received: ReceivedVotes,
    refusals: BTreeMap<ServerId, Refusal>,
    /// Servers without a vote that asked during the search.
    askers: BTreeSet<ServerId>,
    /// Start of the window, and answers in it.
    answers: BTreeMap<ServerId, (MonotonicMs, u32)>,
    /// The newest version of a membership that was handed out.
    newest_version: Zxid,
    led_elsewhere: Option<ServerId>,
    /// Whether the oracle lets this server go on without the other of two; see [`Election::oracle_says`].
    oracle_grants: bool,
    /// Too few followed this server, which was elected; see [`Election::tried_in_vain`].
    tried_in_vain: bool,
    /// The leader that was lost, between [`Election::pause`] and [`Election::look`].
    left: Option<ServerId>,
    now_ms: MonotonicMs,
    outputs: VecDeque<ElectionOutput>,
}

/// A leader that did not let us in.
#[derive(Debug)]
struct Refusal {
    /// What it said of itself until then. Only something else, or time, makes it worth another try.
    claim: Option<Vote>,
    until_ms: Option<MonotonicMs>,
}

impl Election {
    /// Idle until [`Election::look`]: says nothing and answers nobody.
    pub fn new(settings: ElectionSettings, memberships: Arc<Memberships>, candidacy: Candidacy) -> Election {
        assert!(settings.notification_interval_ms.0 > 0, "votes need a pause between them");
        let mut election = Election {
            settings,
            config: memberships.committed.to_string().into_bytes(),
            memberships,
            candidacy,
            state: PeerState::Looking,
            round: 0,
            vote: Vote { leader: None, zxid: candidacy.zxid, election_epoch: 0, peer_epoch: Some(candidacy.epoch) },
            search: None,
            received: ReceivedVotes::default(),
            refusals: BTreeMap::new(),
            askers: BTreeSet::new(),
            answers: BTreeMap::new(),
            newest_version: Zxid::ZERO,
            led_elsewhere: None,
            oracle_grants: false,
            tried_in_vain: false,
            left: None,
            now_ms: MonotonicMs::ZERO,
            outputs: VecDeque::new(),
        };
        election.vote = election.own_vote();
        election
    }

    /// A vote arrived.
    pub fn receive(&mut self, now_ms: MonotonicMs, from: ServerId, notification: Notification) {
        self.now_ms = now_ms;
        if from == self.settings.me {
            return;
        }
        let newer = self.search.is_some() && self.hand_out_newer_membership(notification.config.as_deref());
        let Notification { state, leader, zxid, election_epoch, peer_epoch, config: _ } = notification;
        let vote = Vote { leader, zxid, election_epoch, peer_epoch };
        if !self.memberships.is_voter(from) {
            // Only a question is answered, or two servers that are strangers to each other would never fall silent.
            if state == PeerState::Looking {
                self.answer_stranger(from);
            }
            return;
        }
        let news = self.received.hear(now_ms, from, state, vote.clone());
        if self.search.is_some() {
            // With a newer membership the vote is weighed when that is in force, or when the next vote arrives.
            if !newer {
                self.heard_while_looking(from, state, &vote, news);
            }
        } else if self.state != PeerState::Looking {
            match state {
                PeerState::Looking => self.answer(from, self.vote.election_epoch),
                _ => self.note_other_leader(),
            }
        }
    }

    /// There is a new connection to the server: it learns what this server wants now.
    pub fn link_up(&mut self, now_ms: MonotonicMs, server: ServerId) {
        self.now_ms = now_ms;
        self.answers.remove(&server);
        if server != self.settings.me && self.memberships.is_voter(server) {
            self.received.link_up(server);
            if self.search.is_some() {
                self.send_vote(server);
                self.expect_answers();
            }
        }
    }

    /// The connection ended, or none could be made: this voter is not waited for.
    pub fn link_down(&mut self, now_ms: MonotonicMs, server: ServerId) {
        self.now_ms = now_ms;
        if self.memberships.is_voter(server) {
            self.received.link_down(server);
            self.conclude();
        }
    }

    /// Time has passed: to be called when [`Election::deadline_ms`] is due.
    pub fn tick(&mut self, now_ms: MonotonicMs) {
        self.now_ms = now_ms;
        self.repeat_vote();
        self.conclude();
    }

    /// The next effect. To be drained after every call.
    pub fn poll(&mut self) -> Option<ElectionOutput> {
        self.outputs.pop_front()
    }

    /// The leader of the current vote is established with this epoch.
    pub fn established(&mut self, epoch: Epoch) {
        self.vote.peer_epoch = Some(epoch);
        self.led_elsewhere = None;
    }

    /// The leader refused our connections. The search does not end with it again for half a second, unless it says something new about its
    /// leadership.
    pub fn refused(&mut self, leader: ServerId) {
        let claim = self.received.claim(leader).cloned();
        self.refusals.insert(leader, Refusal { claim, until_ms: None });
    }

    /// This server was elected, and gives up because too few follow. In the next search it follows a server that already says that it leads
    /// and has all that this one has, without waiting for others to follow that server as well.
    ///
    /// Two servers may each be elected with the vote of a third that follows neither. Where they take turns, each would otherwise be elected
    /// again while the other one waits for followers.
    pub fn tried_in_vain(&mut self) {
        self.tried_in_vain = true;
    }

    /// The leader is lost, and [`Election::look`] follows when everything is on disk. Until then nobody is told of that leader.
    pub fn pause(&mut self) {
        if self.state != PeerState::Looking {
            self.left = self.vote.leader;
        }
        self.state = PeerState::Looking;
        self.search = None;
        self.led_elsewhere = None;
    }

    /// Other members. A search goes on in its round, from this server's own vote.
    pub fn set_memberships(&mut self, memberships: Arc<Memberships>) {
        self.config = memberships.committed.to_string().into_bytes();
        self.received.retain_voters(&memberships);
        self.memberships = memberships;
        if self.search.is_some() {
            self.begin();
        }
    }

    /// Begins to count rounds anew, as a process that starts does. Idle until [`Election::look`].
    pub fn restart(&mut self) {
        self.pause();
        self.round = 0;
        self.received.retain(|_| false);
        self.refusals.clear();
    }

    /// A committed reconfiguration decided who leads.
    pub fn settle(&mut self, vote: Vote, state: PeerState) {
        assert!(state != PeerState::Looking, "what is decided needs no search");
        self.search = None;
        self.state = state;
        self.vote = vote;
        self.led_elsewhere = None;
    }

    /// The oracle says whether this server may go on without the other one of two members. It is asked where the other one is silent.
    pub fn oracle_says(&mut self, now_ms: MonotonicMs, grants: bool) {
        self.now_ms = now_ms;
        self.oracle_grants = grants;
        if self.search.is_some() {
            self.conclude();
        }
    }

    /// What this server does, as it tells others.
    pub fn state(&self) -> PeerState {
        self.state
    }

    /// Whether a search is under way: it began with [`Election::look`] and has not ended.
    pub fn is_searching(&self) -> bool {
        self.search.is_some()
    }

    /// The proposal of this round while looking, the result afterwards.
    pub fn vote(&self) -> &Vote {
        &self.vote
    }

    /// The logical clock.
    pub fn round(&self) -> i64 {
        self.round
    }

    /// Whether the leader of the current vote was heard to lead: otherwise it may still be waiting for votes, and refuse connections
    /// until it has them.
    pub fn leader_says_so(&self) -> bool {
        self.state == PeerState::Leading || self.own_leader_claims().is_some()
    }

    /// Another leader, if since the end of the search it and a quorum said that it leads. Who has not heard from the own leader or
    /// followers better looks again.
    pub fn led_elsewhere(&self) -> Option<ServerId> {
        self.led_elsewhere
    }

    /// What the leader of the current vote says of its own leadership.
    fn own_leader_claims(&self) -> Option<&Vote> {
        self.received.claim(self.vote.leader?)
    }

    /// Whether this server's voice counts in this search.
    fn votes(&self) -> bool {
        self.memberships.is_voter(self.settings.me) && self.candidacy.zxid.is_some()
    }

    fn own_vote(&self) -> Vote {
        let (Candidacy { zxid, epoch }, election_epoch) = (self.candidacy, self.round);
        match self.role() {
            Some(Role::Participant) => {
                Vote { leader: Some(self.settings.me), zxid, election_epoch, peer_epoch: Some(epoch) }
            }
            Some(Role::Observer) => Vote { leader: None, zxid: None, election_epoch, peer_epoch: None },
            None => Vote { leader: None, zxid, election_epoch, peer_epoch: Some(epoch) },
        }
    }

    /// Its part by the membership in force. One that votes only by a change to come does not propose itself: others that it needs may not
    /// have heard of the change, and would not follow it.
    fn role(&self) -> Option<Role> {
        self.memberships.committed.members.get(&self.settings.me).map(|member| member.role)
    }

    /// Hands out a membership that is newer than all seen so far.
    fn hand_out_newer_membership(&mut self, text: Option<&[u8]>) -> bool {
        let Some(text) = text.filter(|text| *text != self.config) else { return false };
        // One that can't be read does not make the vote worthless.
        let Ok(Membership { version, .. }) = Membership::parse_text(text, true) else { return false };
        let newer = version > self.memberships.committed.version.max(self.newest_version);
        if newer {
            self.newest_version = version;
            self.outputs.push_back(ElectionOutput::NewerMembership(text.to_vec()));
        }
        newer
    }

    /// Remembers that the others found another leader, after all.
    fn note_other_leader(&mut self) {
        let since_ms = Some(self.now_ms - RECENT_MS);
        let found = self.received.established(&self.memberships, &BTreeSet::new(), since_ms, |_, _| true);
        if let Some((leader, _)) = found.filter(|(leader, _)| Some(*leader) != self.vote.leader) {
            self.led_elsewhere = Some(leader);
        }
    }

    fn answer_stranger(&mut self, to: ServerId) {
        if self.search.is_some() {
            if self.askers.len() < MAX_ASKERS {
                self.askers.insert(to);
            }
        } else if self.state == PeerState::Looking {
            return;
        }
        self.answer(to, self.round);
    }

    /// Says what this server wants or does, unless that was just said too often.
    fn answer(&mut self, to: ServerId, election_epoch: i64) {
        if self.answers.len() >= MAX_ASKERS && !self.answers.contains_key(&to) {
            self.answers.clear();
        }
        let (since_ms, count) = self.answers.entry(to).or_insert((self.now_ms, 0));
        if self.now_ms - *since_ms >= ANSWERS_WINDOW_MS {
            (*since_ms, *count) = (self.now_ms, 0);
        }
        *count += 1;
        if *count <= MAX_ANSWERS {
            self.send(to, election_epoch);
        }
    }

    fn send(&mut self, to: ServerId, election_epoch: i64) {
        let Vote { leader, zxid, election_epoch: _, peer_epoch } = self.vote;
        let config = Some(self.config.clone());
        let notification = Notification { state: self.state, leader, zxid, election_epoch, peer_epoch, config };
        let unsent = self.outputs.iter_mut().find_map(|output| match output {
            ElectionOutput::Send { to: other, notification } if *other == to => Some(notification),
            _ => None,
        });
        match unsent {
            Some(unsent) => *unsent = notification,
            None => self.outputs.push_back(ElectionOutput::Send { to, notification }),
        }
    }
}
