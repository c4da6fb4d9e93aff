//! The oracle of two members: when one of them goes on without the other.
//!
//! A majority of two is both, so an ensemble of two stops with either. Somebody outside who knows for certain that a member is down may tell
//! the other one, which decides alone then.
//!
//! What always holds here:
//! - a leader is alone only while the oracle says yes, its voice is one of two equal ones, and no follower is or is being brought up to date.
//!   From the registration of a follower on, and from the oracle's no on, both servers are needed;
//! - whoever is elected, or has lost the follower, waits for the next tick before it goes on alone;
//! - two servers with an oracle never lead the same epoch, for each takes every second number. So even two that were each let go on alone
//!   never write different transactions under one zxid.
//!
//! What only the server has that is down now is lost once the other one goes on alone. Nobody here can know that; the oracle must.
//!
//! Counterpart in the original: `QuorumOracleMaj`, `Leader.lead`. It counts on the oracle from the first moment of an election and of leading
//! on, also where the other server is about to answer, and lets both lead the same epoch.

use rookeeper_proto::{Epoch, MonotonicMs, ServerId};

use super::{Leader, Phase};
use crate::membership::Memberships;
use crate::reasons::LeaderEvent;

/// What the oracle has said, and what followed.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    grants: bool,
    /// This server's voice suffices.
    alone: bool,
    /// It sufficed for the step from a candidate to the leader.
    pub activated_alone: bool,
}

impl Leader {
    /// The oracle says whether this server may go on without the other one. A yes counts from the next tick on, a no at once.
    pub fn oracle_says(&mut self, grants: bool) {
        self.oracle.grants = grants;
        if !grants {
            self.stop_being_alone();
        }
    }

    /// Another server's voice is needed from here on.
    pub(super) fn stop_being_alone(&mut self) {
        self.oracle.alone = false;
    }

    /// This server, where its voice suffices.
    pub(super) fn lone_server(&self) -> Option<ServerId> {
        (self.oracle.alone && self.memberships.has_half(self.settings.me)).then_some(self.settings.me)
    }

    /// A tick: nobody else may be there by now.
    pub(super) fn look_at_oracle(&mut self, now_ms: MonotonicMs) {
        let me = self.settings.me;
        if self.oracle.alone || !self.oracle.grants || !self.memberships.has_half(me) || self.has_company() {
            return;
        }
        self.oracle.alone = true;
        if self.phase == Phase::Broadcasting {
            self.log(LeaderEvent::GoesOnAlone);
        }
        self.try_to_store_epoch();
        self.try_to_begin_sync(now_ms);
        self.try_to_activate();
        self.commit();
        self.finish_round();
    }

    /// Whether a follower takes part, or a voter is about to before anything is decided.
    fn has_company(&self) -> bool {
        let is_coming = |link| self.phase < Phase::Broadcasting && self.voter_at(link).is_some();
        self.links.iter().any(|(id, link)| (link.is_registered() && !link.is_observer()) || is_coming(*id))
    }

    /// The first epoch from this one on that is this server's to lead.
    pub(super) fn own_epoch(&self, epoch: Epoch) -> Epoch {
        own_epoch(self.settings.has_oracle, &self.memberships, self.settings.me, epoch)
    }
}

/// Where two servers have an oracle, the one with the smaller id leads even epochs only, the other one odd ones.
pub(super) fn own_epoch(has_oracle: bool, memberships: &Memberships, me: ServerId, epoch: Epoch) -> Epoch {
    let voters = memberships.voters();
    if !has_oracle || voters.len() != 2 {
        return epoch;
    }
    let is_even = voters.first() == Some(&me);
    if epoch.0.is_multiple_of(2) == is_even { epoch } else { epoch.next() }
}
