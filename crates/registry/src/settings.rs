//! What an operator may choose. The defaults are those of Spring's server.

/// How a registry behaves. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Off: leases end however many end at once.
    pub self_preservation: bool,
    /// The part of the expected renewals that must come, and the part of the registry that one eviction leaves. Between 0 and 1.
    pub renewal_percent: f64,
    /// How often a client is expected to renew, in seconds.
    pub expected_renewal_s: u32,
    pub eviction_interval_ms: u64,
    /// How long a change stays in the delta.
    pub delta_retention_ms: u64,
    /// Off: deltas are refused, and clients fetch everything.
    pub deltas: bool,
    /// The expected number of clients before the registry has opened.
    pub clients_at_start: u64,
    /// The expected number of clients of a registry that has opened with nothing.
    pub clients_when_empty: u64,
    /// How long lists are refused after an opening with nothing, where `clients_when_empty` is 0.
    pub wait_when_empty_ms: u64,
    /// Whether a heartbeat that knows of a newer registration is answered with "register again".
    pub sync_when_timestamp_differs: bool,
    /// Whether cancelled instances are remembered, for as long as their lease would have lasted, so that a replica's late registration does not bring
    /// them back. For servers that have peers: the original has no such memory.
    pub remembers_cancelled: bool,
    /// About how many bytes of instances are held. Registrations of new instances that do not fit are refused.
    pub max_bytes: usize,
    /// Tells this process from every other: versions of what is shown carry it.
    pub identity: u64,
    /// Picks the instances of an eviction that may not take all.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            self_preservation: true,
            renewal_percent: 0.85,
            expected_renewal_s: 30,
            eviction_interval_ms: 60_000,
            delta_retention_ms: 180_000,
            deltas: true,
            clients_at_start: 1,
            clients_when_empty: 1,
            wait_when_empty_ms: 300_000,
            sync_when_timestamp_differs: true,
            remembers_cancelled: false,
            max_bytes: 1 << 30,
            identity: 0,
            seed: 0,
        }
    }
}
