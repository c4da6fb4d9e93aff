//! What a single learner may cause by what it says of itself. Whoever reaches the port can say anything, and a member may come back with
//! the data of another time.
//!
//! What always holds here:
//! - while the epoch is being found, members raise it, and nobody by more than [`MAX_EPOCH_JUMP`] beyond what this server has accepted;
//! - an established leader does not give way to a learner that is ahead: it goes on with its quorum and turns that learner away. It may
//!   begin another epoch for the sake of one that has accepted a newer epoch and, as its vote says, has no newer history; that is this
//!   server's own decision, made rarely;
//! - the link of a server that is being brought up to date, or is, stands until it ends by itself. Another one that claims to be the same
//!   server waits for that, and is refused as soon as the older link answers a ping that was sent after it came. While one waits the older
//!   link is given half the time to be silent.
//!
//! Counterpart in the original: `Leader.getEpochToPropose`, `LearnerHandler.run`. It turns away who is ahead, for as long as the epoch
//! lasts; it believes every epoch, and lets two links of one server stand beside each other.

use std::collections::{BTreeMap, BTreeSet};

use rookeeper_proto::{Epoch, MonotonicMs, ServerId, Zxid};

use super::learner_link::{Identity, LearnerLink, Stage};
use super::{Leader, LeaderOutput, Phase};
use crate::link::{LinkId, LinkOutput};
use crate::membership::Memberships;
use crate::reasons::{DropReason, KnownOfIt, LeaderEvent, StepDownReason};

/// Each attempt to lead adds one to the epoch that a server has accepted, and servers share most of them. Half a month of failing attempts
/// alone does not get a server so far ahead of the others, and there is room for thirty thousand such jumps.
const MAX_EPOCH_JUMP: u32 = 1 << 16;

/// What is said of a server that is turned away is said again after this time.
const REPEAT_WARNING_MS: i64 = 60_000;

/// Servers whose claims are remembered. Only those of members are.
const MAX_CLAIMS: usize = 256;

/// What the leader remembers of servers that claimed something.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// The last vote of each voter that looks for a leader: the epoch of a history, and its end. Its own is no newer than that.
    votes: BTreeMap<ServerId, (Option<Epoch>, Option<Zxid>)>,
    /// When it was last said that a server is turned away, and how often it was since then.
    turned_away: BTreeMap<ServerId, (MonotonicMs, u64)>,
    /// Not before this another epoch is begun for the sake of a single voter.
    pub yields_from_ms: Option<MonotonicMs>,
    /// Whether a link may be waiting for the end of an older one.
    contested: bool,
    /// A link has ended for which another one of the same server has waited.
    pub released: bool,
}

impl Leader {
    /// A voter that looks for a leader has voted so.
    pub fn voter_said(&mut self, server: ServerId, epoch: Option<Epoch>, last: Option<Zxid>) {
        if self.is_voter(server) && self.claims.votes.len() < MAX_CLAIMS {
            self.claims.votes.insert(server, (epoch, last));
        }
    }

    /// Before this time no other epoch is begun for the sake of a single voter.
    pub fn yields_from(&mut self, at_ms: MonotonicMs) {
        self.claims.yields_from_ms = Some(at_ms);
    }

    /// Why an epoch that a learner says it has accepted is not believed, if it is not.
    pub(super) fn doubt(&self, server: ServerId, accepted: Epoch) -> Option<DropReason> {
        let base = self.start.accepted_epoch.max(self.start.history_last.epoch());
        let is_unlikely = accepted.0 > base.0.saturating_add(MAX_EPOCH_JUMP);
        is_unlikely.then_some(DropReason::UnlikelyEpoch { server, accepted, base })
    }

    /// What a learner has accepted raises the epoch that is to be found, if it is a member.
    pub(super) fn raise_epoch(&mut self, server: ServerId, accepted: Epoch) {
        let Memberships { committed, last_seen, .. } = &*self.memberships;
        if committed.members.contains_key(&server) || last_seen.members.contains_key(&server) {
            self.epoch = self.own_epoch(self.epoch.max(accepted.next()));
        }
    }

    /// A learner has accepted a newer epoch than this leader's, and can't follow it.
    pub(super) fn turn_away(&mut self, now_ms: MonotonicMs, id: LinkId, accepted: Epoch) {
        let epoch = self.epoch;
        let Some(Identity { server, .. }) = self.links.get(&id).and_then(|link| link.identity) else { return };
        let vote = self.claims.votes.get(&server).copied();
        let is_ahead = vote.map(|vote| vote > (Some(epoch), Some(self.proposals.proposed())));
        let believed = self.doubt(server, accepted).is_none() && self.registered_link_of(server).is_none();
        let since_ms = self.claims.yields_from_ms.max(Some(self.phase_began_ms + self.sync_limit_ms()));
        if self.phase == Phase::Broadcasting
            && self.voter_at(id).is_some()
            && is_ahead == Some(false)
            && believed
            && Some(now_ms) >= since_ms
        {
            self.outputs.push_back(LeaderOutput::Yielded);
            self.step_down(StepDownReason::Yields { server, accepted }, None);
            return;
        }
        let known = match is_ahead {
            _ if self.registered_link_of(server).is_some() => KnownOfIt::IsHere,
            Some(true) => KnownOfIt::IsAhead,
            Some(false) => KnownOfIt::HasNoMore,
            None => KnownOfIt::Nothing,
        };
        let why = DropReason::AcceptedNewerEpoch { accepted, epoch, known };
        self.drop_and_say_rarely(now_ms, id, server, why);
    }

    /// Ends a link with a line in the log, unless there was one about the same server just now.
    fn drop_and_say_rarely(&mut self, now_ms: MonotonicMs, id: LinkId, server: ServerId, why: DropReason) {
        let turned_away = &mut self.claims.turned_away;
        if turned_away.len() >= MAX_CLAIMS {
            turned_away.retain(|_, (said_ms, _)| now_ms - *said_ms < REPEAT_WARNING_MS);
        }
        let is_full = turned_away.len() >= MAX_CLAIMS;
        let count = match turned_away.get_mut(&server) {
            Some((said_ms, count)) if now_ms - *said_ms < REPEAT_WARNING_MS => {
                *count += 1;
                None
            }
            // There is no room to remember it, so nothing is said.
            None if is_full => None,
            _ => turned_away.insert(server, (now_ms, 0)).map(|(_, count)| count).or(Some(0)),
        };
        let Some(gone) = self.remove_link(id) else { return };
        if let Some(count) = count {
            self.log(LeaderEvent::TurningAway { learner: gone.name(), unsaid: count, why: why.clone() });
        }
        self.outputs.push_back(LeaderOutput::ToLearner(id, LinkOutput::Drop(why)));
        self.outputs.push_back(LeaderOutput::LearnerGone { link: id });
    }

    /// Takes a link out. One of the same server that waited for its end is to go on.
    pub(super) fn remove_link(&mut self, id: LinkId) -> Option<LearnerLink> {
        let gone = self.links.remove(&id)?;
        for link in self.links.values_mut() {
            if let Stage::Contested { last, older, .. } = link.stage
                && older == id
            {
                link.stage = Stage::AwaitingSync { last };
                self.claims.released = true;
            }
        }
        Some(gone)
    }

    /// The link by which a server is or is being brought up to date.
    fn registered_link_of(&self, server: ServerId) -> Option<LinkId> {
        let same = |link: &LearnerLink| {
            link.is_registered() && link.identity.is_some_and(|identity| identity.server == server)
        };
        self.links.iter().find(|(_, link)| same(link)).map(|(id, _)| *id)
    }

    /// Whether another link stands by which the same server is or is being brought up to date. Then this one waits, and the other is asked.
    pub(super) fn is_contested(&mut self, id: LinkId, last: Option<Zxid>) -> bool {
        let Some(identity) = self.links.get(&id).and_then(|link| link.identity) else { return false };
        let Some(older) = self.registered_link_of(identity.server).filter(|older| *older != id) else { return false };
        if let Some(link) = self.links.get_mut(&id) {
            link.stage = Stage::Contested { last, older, ping: None };
            self.claims.contested = true;
        }
        // One that is not up to date yet is asked when it is.
        self.ping(older);
        true
    }

    /// A counted ping went out on a link: its answer shows that the link is alive, and others that wait for its end wait in vain.
    pub(super) fn note_ping(&mut self, asked: LinkId, number: u64) {
        if !self.claims.contested {
            return;
        }
        for link in self.links.values_mut() {
            if let Stage::Contested { older, ping: ping @ None, .. } = &mut link.stage
                && *older == asked
            {
                *ping = Some(number);
            }
        }
    }

    /// Links for whose end others wait.
    pub(super) fn contested_links(&self) -> BTreeSet<LinkId> {
        let contested = |link: &LearnerLink| match link.stage {
            Stage::Contested { older, .. } => Some(older),
            _ => None,
        };
        if self.claims.contested { self.links.values().filter_map(contested).collect() } else { BTreeSet::new() }
    }

    /// A link has answered its pings up to this number.
    pub(super) fn refuse_doubles(&mut self, now_ms: MonotonicMs, answered: LinkId, number: u64) {
        if !self.claims.contested {
            return;
        }
        let refused = |link: &LearnerLink| match &link.stage {
            Stage::Contested { older, ping: Some(ping), .. } => *older == answered && *ping <= number,
            _ => false,
        };
        let doubles: Vec<LinkId> = self.links.iter().filter(|(_, link)| refused(link)).map(|(id, _)| *id).collect();
        for id in doubles {
            let Some(Identity { server, .. }) = self.links.get(&id).and_then(|link| link.identity) else { continue };
            let Some(older) = self.links.get(&answered).map(LearnerLink::name) else { continue };
            let why = DropReason::SameServer { older };
            self.drop_and_say_rarely(now_ms, id, server, why);
        }
        self.claims.contested = self.links.values().any(|link| matches!(link.stage, Stage::Contested { .. }));
    }
}
