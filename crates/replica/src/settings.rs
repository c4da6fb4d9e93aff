//! What an operator can choose about the replica's behaviour. Each field says its consequence.

use rookeeper_proto::ServerId;
use rookeeper_proto::frame::DEFAULT_MAX_BUFFER_BYTES;
use rookeeper_tree::access::AccessConfig;
use rookeeper_zab::Memberships;
use rookeeper_zab::leader::Rollover;

use crate::clients::throttle::{Staleness, ThrottleSettings};
use crate::room::RoomSettings;
use crate::top::DEFAULT_DEPTH;

/// Far above what recipes and frameworks use.
pub const MAX_WATCHES_PER_CONNECTION: usize = 1_000_000;

/// What an operator can choose for a server, whether or not it is a member of an ensemble.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The top byte of every session id made here.
    pub server: ServerId,
    /// Sessions expire at multiples of this, so a session lives up to one tick longer than its timeout.
    pub tick_time_ms: i64,
    /// Requested session timeouts are clamped into this range.
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    /// Without it a request for a TTL node is refused as unimplemented.
    pub extended_types: bool,
    /// With it a hard quota refuses writes; without it quotas only count.
    pub enforce_quota: bool,
    /// With it a member checks a client's request against its own tree's lists before it becomes a transaction or goes to the leader.
    pub eager_acl_check: bool,
    /// With it every transaction carries the digest of the tree after it.
    pub digests: bool,
    /// Without it `reconfig` is refused as disabled.
    pub reconfig: bool,
    /// With it the fate of every request for a change is told, and each ephemeral node that goes with its session: outputs for an audit log.
    pub audits: bool,
    /// A multiRead whose answer grows beyond this is refused: a small request can name a large node many times.
    pub max_multi_read_bytes: usize,
    /// The longest record of a transaction, in bytes. The original refuses to read a longer one, from its log and from its leader: it
    /// takes `jute.maxbuffer` plus its extra size.
    pub max_record_bytes: usize,
    /// A connection that watches more paths than this is cut.
    pub max_watches_per_connection: usize,
    /// What all clients together may make this server hold. Beyond it the largest users are cut.
    pub max_client_bytes: usize,
    /// What must stay free on the disks and in memory. Whoever decides refuses what makes the data grow while it is not.
    pub room: RoomSettings,
    /// How many requests of clients may be on their way to an answer. None sets no limit.
    pub throttle: Option<ThrottleSettings>,
    /// Which requests count as those nobody waits for any more.
    pub staleness: Staleness,
    /// For the tables of watches. A server takes a secret one: paths come from clients, who could otherwise choose such that collide.
    pub seed: u64,
    /// Who may do what.
    pub access: AccessConfig,
    pub reaping: Reaping,
    /// Parts of a path that count as a prefix, in the tables of who asks for the most.
    pub prefix_depth: usize,
    /// Requests that take so many nanoseconds from their arrival to their answer are told; `u64::MAX` tells none.
    pub slow_read_ns: u64,
    pub slow_write_ns: u64,
}

/// How containers and TTL nodes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaping {
    /// How often the candidates are collected.
    pub interval_ms: i64,
    /// Removals are spaced to stay below this.
    pub max_per_minute: i64,
    /// A container that never had a child goes after this time; 0: never.
    pub max_never_used_ms: i64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            server: ServerId(1),
            tick_time_ms: 3000,
            min_session_timeout_ms: 6000,
            max_session_timeout_ms: 60_000,
            extended_types: false,
            enforce_quota: false,
            eager_acl_check: false,
            digests: true,
            reconfig: false,
            audits: false,
            max_multi_read_bytes: 4 << 20,
            max_record_bytes: 2 * DEFAULT_MAX_BUFFER_BYTES,
            max_watches_per_connection: MAX_WATCHES_PER_CONNECTION,
            max_client_bytes: usize::MAX,
            room: RoomSettings::default(),
            throttle: None,
            staleness: Staleness::default(),
            seed: 0,
            access: AccessConfig::default(),
            reaping: Reaping { interval_ms: 60_000, max_per_minute: 10_000, max_never_used_ms: 0 },
            prefix_depth: DEFAULT_DEPTH,
            slow_read_ns: u64::MAX,
            slow_write_ns: u64::MAX,
        }
    }
}

/// A member's part of the settings. Times of the protocol count in ticks of [`Settings::tick_time_ms`].
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// An observer waits up to this before it connects to the leader it has found, or begins anew with the followers that could feed it.
    pub observer_reconnect_delay_ms: i64,
    /// Where followers feed observers, and where observers look for followers that do.
    pub observer_master_port: Option<u16>,
    /// Bytes that an observer may be behind the follower that feeds it.
    pub observer_master_size_limit_bytes: usize,
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
    /// Whether somebody says by [`Input::Oracle`](crate::Input::Oracle) which of two members may go on alone. Both must have an oracle or neither.
    pub has_oracle: bool,
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
            observer_reconnect_delay_ms: 0,
            observer_master_port: None,
            observer_master_size_limit_bytes: 32 << 20,
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
            has_oracle: false,
        }
    }
}
