//! Settings of the client side: the port, sessions, and how much clients may ask for.

use rookeeper_replica::{Staleness, ThrottleSettings};
use rookeeper_zab::HostPort;

use super::settings::Settings;

/// Where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientPort {
    /// Name or address to listen on; none for all addresses, IPv4 and IPv6.
    pub(crate) host: Option<String>,
    /// Port; 0 takes any free one. None for a member that clients do not connect to.
    pub(crate) port: Option<u16>,
    /// How many connections may wait to be accepted; none leaves it to the system.
    pub(crate) backlog: Option<u32>,
    /// The same as it is written, which `conf` shows.
    pub(crate) backlog_as_written: i64,
    /// Whether the system probes silent connections. Sessions have heartbeats of their own; this helps with firewalls.
    pub(crate) tcp_keep_alive: bool,
    /// A connection that has not asked for a session after this many milliseconds is closed.
    pub(crate) sessionless_connection_timeout_ms: u32,
}

impl ClientPort {
    pub(super) fn read(settings: &Settings, address: Option<&HostPort>) -> Self {
        ClientPort {
            host: address.and_then(host_of),
            port: address.map(|address| address.port),
            backlog: settings.positive("clientPortListenBacklog"),
            backlog_as_written: settings.number("clientPortListenBacklog"),
            tcp_keep_alive: settings.flag("clientTcpKeepAlive"),
            sessionless_connection_timeout_ms: settings.whole("nio.sessionlessCnxnTimeout"),
        }
    }

    /// The same somewhere else.
    pub fn at(&self, address: &HostPort) -> Self {
        ClientPort { host: host_of(address), port: Some(address.port), ..self.clone() }
    }
}

/// None for all addresses.
fn host_of(address: &HostPort) -> Option<String> {
    let everywhere = address.host.is_empty() || address.host == "0.0.0.0" || address.host == "::";
    (!everywhere).then(|| address.host.clone())
}

/// Time and sessions.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct Sessions {
    /// The unit of time in milliseconds: sessions expire with this resolution, and the bounds below derive from it.
    pub(crate) tick_time_ms: u32,
    /// No session gets a shorter timeout, in milliseconds, whatever its client asks for.
    pub(crate) min_timeout_ms: u32,
    /// No session gets a longer timeout, in milliseconds.
    pub(crate) max_timeout_ms: u32,
}

/// How many connections are accepted, and how fast.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq))]
pub struct Connections {
    /// Most connections from one address; a further one is closed at once. None for no limit.
    pub(crate) max_per_address: Option<u32>,
    /// The same as it is written, which `conf` shows.
    pub(crate) max_per_address_as_written: i64,
    /// Most connections in all. None for no limit.
    pub(crate) max_total: Option<u32>,
    /// What all clients together may make the server hold, in bytes, before the largest users are cut. None for a quarter of the memory
    /// that the process may use.
    pub(crate) memory_limit_bytes: Option<usize>,
    /// Token bucket for new sessions.
    pub(crate) throttle: ConnectionThrottle,
}

impl Connections {
    pub(super) fn read(settings: &Settings) -> Self {
        Connections {
            max_per_address: settings.positive("maxClientCnxns"),
            max_per_address_as_written: settings.number("maxClientCnxns"),
            max_total: settings.positive("maxCnxns"),
            memory_limit_bytes: settings
                .number_if_any("clientMemoryLimitInKb")
                .map(|kib| usize::try_from(kib).unwrap_or(usize::MAX).saturating_mul(1024)),
            throttle: ConnectionThrottle::read(settings),
        }
    }
}

/// A token bucket that sessions must draw from when they open or come back; an empty bucket refuses them.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq))]
pub struct ConnectionThrottle {
    /// Size of the bucket; none switches the throttle off.
    pub(crate) tokens: Option<u32>,
    /// Milliseconds between two refills.
    pub(crate) fill_time_ms: u32,
    /// Tokens added by a refill.
    pub(crate) fill_count: u32,
    /// The chance to be refused before the bucket is looked at changes no sooner than so many milliseconds after it changed. None switches
    /// that off.
    pub(crate) freeze_time_ms: Option<u32>,
    /// By so much the chance grows where the bucket is empty.
    pub(crate) drop_increase: f64,
    /// By so much it shrinks where little is missing to a full bucket.
    pub(crate) drop_decrease: f64,
    /// How little, as a part of the bucket.
    pub(crate) decrease_ratio: f64,
    /// Whether the weights below apply; otherwise every session costs one token.
    pub(crate) weight_enabled: bool,
    /// Tokens for a new global session.
    pub(crate) global_session_weight: u32,
    /// Tokens for a session that comes back.
    pub(crate) renew_session_weight: u32,
    /// Tokens for a new session where sessions are local.
    pub(crate) local_session_weight: u32,
}

impl ConnectionThrottle {
    fn read(settings: &Settings) -> Self {
        let local = settings.whole("connection_throttle_local_session_weight");
        ConnectionThrottle {
            tokens: settings.positive("connection_throttle_tokens"),
            fill_time_ms: settings.whole("connection_throttle_fill_time"),
            fill_count: settings.whole("connection_throttle_fill_count"),
            freeze_time_ms: u32::try_from(settings.number("connection_throttle_freeze_time")).ok(),
            drop_increase: settings.ratio("connection_throttle_drop_increase"),
            drop_decrease: settings.ratio("connection_throttle_drop_decrease"),
            decrease_ratio: settings.ratio("connection_throttle_decrease_ratio"),
            weight_enabled: settings.flag("connection_throttle_weight_enabled"),
            // A local session is the cheapest kind there is.
            global_session_weight: local.max(settings.whole("connection_throttle_global_session_weight")),
            renew_session_weight: local.max(settings.whole("connection_throttle_renew_session_weight")),
            local_session_weight: local,
        }
    }

    /// What a token of the configuration counts: sizes are meant for global sessions.
    pub fn unit(&self) -> u64 {
        if self.weight_enabled { u64::from(self.global_session_weight) } else { 1 }
    }
}

/// How large requests may be, and how many.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct Requests {
    /// Largest packet from a client in bytes; a larger one closes the connection. Clients have the same limit for
    /// answers.
    pub(crate) jute_max_buffer: usize,
    /// By so many bytes the record of a transaction may be longer than the largest request.
    pub(crate) extra_size: usize,
    /// When more requests than this are in process, a connection that has one among them is not read.
    pub(crate) global_outstanding_limit: u32,
    /// A longer request is a large one. None for no limit on those.
    pub(crate) large_threshold_bytes: Option<usize>,
    /// Large requests in process may have so many bytes together.
    pub(crate) large_max_bytes: usize,
    /// How many requests may be on their way, whosever they are. None for no limit.
    pub(crate) throttle: Option<ThrottleSettings>,
    /// Which requests count as those nobody waits for any more.
    pub(crate) staleness: Staleness,
    /// How long a stop lets requests have their turn, in milliseconds.
    pub(crate) throttle_stop_timeout_ms: u32,
}

impl Requests {
    pub(super) fn read(settings: &Settings) -> Self {
        let max_requests = settings.positive("request_throttle_max_requests");
        let stall_ms = settings.number("request_throttle_stall_time");
        let drops_stale = settings.flag("request_throttle_drop_stale");
        let refuse_after_ms = settings.positive("throttled_op_wait_time").map(i64::from);
        Requests {
            jute_max_buffer: settings.whole("jute.maxbuffer") as usize,
            extra_size: extra_size(settings),
            global_outstanding_limit: settings.whole("globalOutstandingLimit"),
            large_threshold_bytes: settings.positive("largeRequestThreshold").map(|bytes| bytes as usize),
            large_max_bytes: settings.whole("largeRequestMaxBytes") as usize,
            throttle: max_requests.map(|max_requests| ThrottleSettings {
                max_requests: max_requests as usize,
                stall_ms,
                drops_stale,
                refuse_after_ms,
            }),
            staleness: Staleness {
                by_connection: settings.flag("request_stale_connection_check"),
                by_latency: settings.flag("request_stale_latency_check"),
            },
            throttle_stop_timeout_ms: settings.whole("request_throttler.shutdownTimeout"),
        }
    }
}

/// As much as the largest request where nothing is set; the original allows no less than 1024 bytes.
fn extra_size(settings: &Settings) -> usize {
    let set = settings.number_if_any("jute.maxbuffer.extrasize");
    let bytes = set.unwrap_or_else(|| settings.number("jute.maxbuffer")).max(1024);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// What must stay free on the disks and in memory.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct Room {
    /// Bytes on the disks of the log and the snapshots; 0 for no floor. None for what suits the disk.
    pub(crate) min_free_bytes: Option<u64>,
    /// Bytes of memory that the process may use; 0 for no budget. None for what the control group allows.
    pub(crate) memory_bytes: Option<u64>,
}

impl Room {
    pub(super) fn read(settings: &Settings) -> Self {
        let number = |name| settings.number_if_any(name).map(i64::unsigned_abs);
        Room {
            min_free_bytes: number("disk.minFreeInMb").map(|mib| mib.saturating_mul(1 << 20)),
            memory_bytes: number("memory.max"),
        }
    }
}

/// Removal of empty containers and of TTL nodes past their time.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub struct Containers {
    /// Milliseconds between two sweeps; such nodes live up to this much longer than they should.
    pub(crate) check_interval_ms: u32,
    /// Most deletions per minute, so that a sweep does not crowd out clients.
    pub(crate) max_per_minute: u32,
    /// A container that never had a child goes after this many milliseconds; none keeps it.
    pub(crate) max_never_used_interval_ms: Option<u64>,
}

impl Containers {
    pub(super) fn read(settings: &Settings) -> Self {
        let never_used = settings.long("znode.container.maxNeverUsedIntervalMs");
        Containers {
            check_interval_ms: settings.whole("znode.container.checkIntervalMs"),
            max_per_minute: settings.whole("znode.container.maxPerMinute"),
            max_never_used_interval_ms: Some(never_used).filter(|interval| *interval > 0),
        }
    }
}
