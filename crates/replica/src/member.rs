//! What a member of an ensemble is in every role: its settings, its memberships, its epochs, its voice in elections, what it has asked of
//! the storage, and the handshakes that wait for a leader.
//!
//! What always holds here:
//! - `epochs` are as on disk;
//! - a membership that was proposed is known as the one to come before anything else happens with it (`membership.rs`).

use std::sync::Arc;

use rookeeper_proto::connect::ConnectRequest;
use rookeeper_proto::election::PeerState;
use rookeeper_proto::{Epoch, MonotonicMs, ServerId, Zxid};
use rookeeper_zab::election::{Candidacy, Election, ElectionSettings};
use rookeeper_zab::learner::Everything;
use rookeeper_zab::{LinkId, Memberships};

use crate::clients::arrivals::{Arrivals, WAIT_MS};
use crate::clients::connection::Connection;
use crate::contract::{Epochs, Output, Store, Stored};
use crate::core::{ClientRules, Core};
use crate::settings::{EnsembleSettings, Settings};
use crate::state::learning::masters::{Masters, mixed};
use crate::time::{Deadline, Time};

/// Votes that lead to a leader are given this long to be overtaken by better ones.
const FINALIZE_WAIT_MS: i64 = 200;

#[derive(Debug)]
pub(crate) struct Member {
    pub settings: EnsembleSettings,
    pub memberships: Arc<Memberships>,
    pub election: Election,
    /// As on disk.
    pub epochs: Epochs,
    pub yields: Yields,
    /// What the next leader is asked for, if that is the same one.
    pub everything: Option<Everything>,
    /// Raised whenever there is something new to tell about this server.
    pub stale_status: bool,
    /// What the oracle of two members said last.
    pub oracle_grants: bool,
    /// Where this server, as an observer, looks for one that feeds it.
    pub masters: Masters,
    /// Waits before connections to those that feed this server.
    reconnects: i64,
    next_link: u64,
    /// Answers of the storage that are still to come.
    storing: usize,
    /// Since when there is no leader that a quorum has acknowledged; none while there is one.
    unavailable_since_ms: Option<MonotonicMs>,
    /// Clients that wait for a leader.
    arrivals: Arrivals,
}

impl Member {
    /// `last` is the end of the log.
    pub fn new(settings: EnsembleSettings, epochs: Epochs, last: Zxid, now: Time) -> Member {
        let memberships = Arc::new(settings.memberships.clone());
        let election = Election::new(
            ElectionSettings {
                me: settings.me,
                notification_interval_ms: settings.notification_interval_ms,
                finalize_wait_ms: FINALIZE_WAIT_MS,
            },
            memberships.clone(),
            Candidacy { zxid: last.known(), epoch: epochs.current },
        );
        Member {
            settings,
            memberships,
            election,
            epochs,
            yields: Yields::default(),
            everything: None,
            stale_status: true,
            oracle_grants: false,
            masters: Masters::default(),
            reconnects: 0,
            next_link: 1,
            storing: 0,
            unavailable_since_ms: Some(now.monotonic_ms),
            arrivals: Arrivals::default(),
        }
    }

    /// What a member does for its clients by its settings.
    pub fn client_rules(settings: &Settings, ensemble: &EnsembleSettings) -> ClientRules {
        ClientRules {
            local_sessions: ensemble.local_sessions,
            upgrades_local_sessions: ensemble.local_sessions_upgrading,
            eager_acl_check: settings.eager_acl_check,
        }
    }

    /// What this server is by its memberships where another one leads.
    pub fn state_of_learner(&self) -> PeerState {
        if self.memberships.is_observer(self.settings.me) { PeerState::Observing } else { PeerState::Following }
    }

    /// Whether this server has a vote by a membership in force or to come.
    pub fn is_voter(&self) -> bool {
        self.memberships.is_voter(self.settings.me)
    }

    /// The zxid with which the epoch of the current leader begins, which is no transaction.
    pub fn epoch_begins(&self) -> Zxid {
        Zxid::new(self.epochs.current, 0)
    }

    /// How long this server, as an observer, is to wait before it connects: each time something else, and two observers different times.
    pub fn next_reconnect_delay_ms(&mut self) -> i64 {
        let longest_ms = u64::try_from(self.settings.observer_reconnect_delay_ms).unwrap_or(0);
        self.reconnects += 1;
        mixed(self.settings.me, self.reconnects).checked_rem(longest_ms).unwrap_or(0) as i64
    }

    /// A link that never was before.
    pub fn next_link(&mut self) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        link
    }

    /// Asks the storage for something that it answers.
    pub fn store(&mut self, core: &mut Core, store: Store) {
        self.storing += 1;
        core.put(Output::Store(store));
    }

    /// The storage answered. What it says is true for every role.
    pub fn note_stored(&mut self, core: &mut Core, stored: Stored) -> Done {
        assert!(self.storing > 0, "the storage answers what it was asked for");
        self.storing -= 1;
        match stored {
            Stored::AcceptedEpoch(epoch) => {
                self.epochs.accepted = epoch;
                Done::AcceptedEpoch(epoch)
            }
            Stored::CurrentEpoch(epoch) => {
                self.epochs.current = epoch;
                Done::CurrentEpoch(epoch)
            }
            Stored::MembershipRefused { epoch, why } => Done::MembershipRefused { epoch, why },
            Stored::Truncated { zxid, tree: None } => Done::Truncated(zxid),
            Stored::Truncated { zxid: _, tree: Some(tree) } => {
                core.replace_tree(*tree);
                Done::Truncated(core.history.last())
            }
            Stored::SnapshotInstalled { zxid } => Done::SnapshotInstalled(zxid),
            Stored::Restored { .. } | Stored::NotRestored { .. } => unreachable!("a member goes on from no other tree"),
        }
    }

    /// Whether a vote may be cast: it names only what is durable.
    pub fn has_all_durable(&self, core: &Core) -> bool {
        self.storing == 0 && core.history.durable() >= core.history.last()
    }

    /// Whether there is a leader that a quorum has acknowledged.
    pub fn is_available(&self) -> bool {
        self.unavailable_since_ms.is_none()
    }

    /// There is no leader that a quorum has acknowledged.
    pub fn note_unavailable(&mut self, now: Time) {
        self.unavailable_since_ms.get_or_insert(now.monotonic_ms);
    }

    /// There is one; `decides` says whether it is this server.
    pub fn note_available(&mut self, core: &Core, now: Time, decides: bool) {
        self.stale_status = true;
        let Some(since_ms) = self.unavailable_since_ms.take() else { return };
        let statistics = &core.shared.statistics.member;
        statistics.unavailable_ms.record_unless_negative(now.monotonic_ms - since_ms);
        if decides {
            statistics.unavailable_until_leading_ms.record_unless_negative(now.monotonic_ms - since_ms);
        }
    }

    /// Keeps a handshake for a moment while nobody is served, or closes its connection.
    pub fn wait_for_leader(
        &mut self,
        core: &mut Core,
        now: Time,
        connection: Arc<Connection>,
        request: ConnectRequest,
    ) {
        let is_early = self.wait_until_ms().is_some_and(|until_ms| now.monotonic_ms < until_ms);
        if is_early {
            self.wait_again(core, connection, request);
        } else {
            core.hang_up(&connection);
        }
    }

    /// For a handshake that was taken in already, while there was a leader to ask.
    pub fn wait_again(&mut self, core: &mut Core, connection: Arc<Connection>, request: ConnectRequest) {
        self.arrivals.keep(core, connection, request);
    }

    fn wait_until_ms(&self) -> Option<MonotonicMs> {
        self.unavailable_since_ms.map(|since_ms| since_ms + WAIT_MS)
    }

    /// When something becomes of the clients that wait.
    pub fn arrivals_deadline(&self, is_serving: bool) -> Deadline {
        match is_serving {
            _ if self.arrivals.is_empty() => Deadline::Never,
            true => Deadline::Now,
            false => self.wait_until_ms().into(),
        }
    }

    /// Those of them whose turn has come.
    pub fn take_arrivals(&mut self, is_serving: bool, now: Time) -> Vec<(Arc<Connection>, ConnectRequest)> {
        if self.arrivals_deadline(is_serving).is_due(now.monotonic_ms) { self.arrivals.take() } else { Vec::new() }
    }
}

/// What the storage did, for the role that asked for it.
#[derive(Debug)]
pub(crate) enum Done {
    AcceptedEpoch(Epoch),
    CurrentEpoch(Epoch),
    /// Not the epoch, because its membership could not be written.
    MembershipRefused {
        epoch: Epoch,
        why: String,
    },
    /// The log ends here now.
    Truncated(Zxid),
    SnapshotInstalled(Zxid),
}

/// Who leads next, or still, without an election, and what that makes this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Designated {
    pub leader: ServerId,
    pub state: PeerState,
}

/// When this server, established as the leader, last began another epoch for the sake of a single voter.
#[derive(Debug, Default)]
pub(crate) struct Yields {
    /// When, and the pause after it in milliseconds.
    last: Option<(MonotonicMs, i64)>,
}

/// The longest pause between two of them, and the time after which the pauses are short again.
const LONGEST_YIELD_PAUSE_MS: i64 = 3_600_000;

impl Yields {
    /// Not before this another time; at any time where there was none yet.
    pub fn not_before_ms(&self) -> Option<MonotonicMs> {
        self.last.map(|(at_ms, pause_ms)| at_ms + pause_ms)
    }

    /// It happens now. The pause after it is twice the one before, whoever asks for it: at first `pause_ms`.
    pub fn note(&mut self, now_ms: MonotonicMs, pause_ms: i64) {
        let recent = self.last.filter(|(at_ms, _)| now_ms - *at_ms < LONGEST_YIELD_PAUSE_MS);
        let pause_ms = recent.map_or(pause_ms, |(_, last_ms)| last_ms.saturating_mul(2));
        self.last = Some((now_ms, pause_ms.min(LONGEST_YIELD_PAUSE_MS)));
    }
}
