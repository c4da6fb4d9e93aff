//! What a member of an ensemble and whoever runs it say to each other, besides what a standalone server says.
//!
//! The storage, the election links, the links of the quorum port are peers that answer later. What always holds: the storage does what
//! [`Output::Append`](crate::Output::Append) and [`Store`] ask in the order in which they were polled, and answers in that order.

use rookeeper_proto::{Epoch, ServerId, Zxid};
use rookeeper_tree::Tree;
use rookeeper_zab::leader::Rollover;
use rookeeper_zab::{Membership, Memberships};

/// What the storage is asked for besides appending. Each is durable before its answer.
#[derive(Debug)]
pub enum Store {
    /// Write the file `acceptedEpoch`. Answered by [`Stored::AcceptedEpoch`].
    AcceptedEpoch(Epoch),
    /// Write the file `currentEpoch`. Everything appended before must be durable first. Answered by [`Stored::CurrentEpoch`].
    CurrentEpoch(Epoch),
    /// Cut the log behind the last record up to `zxid` and remove the snapshots that are newer; with `reload` read the database again.
    /// The next record appended follows `zxid`. Answered by [`Stored::Truncated`].
    Truncate { zxid: Zxid, reload: bool },
    /// Write the shared tree as the snapshot `zxid`, then as for `Truncate`. Nothing is applied to the tree until the answer,
    /// [`Stored::SnapshotInstalled`].
    InstallSnapshot { zxid: Zxid },
    /// Keep a membership that was proposed (`<zoo.cfg>.dynamic.next`). Not answered.
    ProposedMembership(Membership),
    /// Make a membership the one of the configuration files. Not answered.
    ActiveMembership(Membership),
}

/// The storage's answers.
#[derive(Debug)]
pub enum Stored {
    AcceptedEpoch(Epoch),
    CurrentEpoch(Epoch),
    /// `tree` where a reload was asked for.
    Truncated {
        zxid: Zxid,
        tree: Option<Box<Tree>>,
    },
    SnapshotInstalled {
        zxid: Zxid,
    },
}

/// A member's part of the settings. Times of the protocol count in ticks of [`Settings::tick_time_ms`](crate::Settings).
#[derive(Debug, Clone)]
pub struct EnsembleSettings {
    pub me: ServerId,
    pub memberships: Memberships,
    /// Ticks a learner may take to connect, to learn the epoch and to catch up.
    pub init_limit_ticks: u32,
    /// Ticks of silence after which the other side is given up.
    pub sync_limit_ticks: u32,
    /// Ticks a learner may take to connect, where that is not `init_limit_ticks`.
    pub connect_limit_ticks: Option<u32>,
    /// The pause between attempts to reach a leader.
    pub connect_retry_ms: i64,
    /// First and longest wait for votes.
    pub notification_interval_ms: (i64, i64),
    /// An observer waits up to this before it looks for a leader again.
    pub observer_election_delay_ms: i64,
    /// Whether a leader has clients of its own.
    pub leader_serves: bool,
    /// Sessions are known to their server only, until they need an ephemeral node.
    pub local_sessions: bool,
    pub local_sessions_upgrading: bool,
    /// Whether reads are served without a quorum, to those who ask for that.
    pub read_only_mode: bool,
    /// Committed transactions kept in memory for learners.
    pub commit_log_count: usize,
    /// Learners get a snapshot always.
    pub force_snapshot_sync: bool,
    pub max_concurrent_snap_syncs: usize,
    pub max_concurrent_diff_syncs: usize,
    /// Leading ends where after this time too few have acknowledged the epoch and one of the voters looks for a leader again. Half of
    /// `initLimit` where nothing is said.
    pub max_time_to_wait_for_epoch_ms: Option<i64>,
    /// Whether a reconfiguration must leave two voters.
    pub standalone_enabled: bool,
    /// Whether addresses joined by `|` are allowed in memberships from outside.
    pub multi_address: bool,
    /// Where a leader begins another epoch because the numbers of its own end.
    pub rollover: Rollover,
}

impl EnsembleSettings {
    /// With what the original does where nothing is configured; `initLimit` and `syncLimit`, which always are, as in its example.
    pub fn new(me: ServerId, memberships: Memberships) -> EnsembleSettings {
        EnsembleSettings {
            me,
            memberships,
            init_limit_ticks: 10,
            sync_limit_ticks: 5,
            connect_limit_ticks: None,
            connect_retry_ms: 100,
            notification_interval_ms: (200, 60_000),
            observer_election_delay_ms: 200,
            leader_serves: true,
            local_sessions: false,
            local_sessions_upgrading: false,
            read_only_mode: false,
            commit_log_count: 500,
            force_snapshot_sync: false,
            max_concurrent_snap_syncs: 10,
            max_concurrent_diff_syncs: 100,
            max_time_to_wait_for_epoch_ms: None,
            standalone_enabled: true,
            multi_address: false,
            rollover: Rollover::default(),
        }
    }
}

/// What the epoch files say when a member starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epochs {
    pub accepted: Epoch,
    pub current: Epoch,
}

/// How important a line of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
}
