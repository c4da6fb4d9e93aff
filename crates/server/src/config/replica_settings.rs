//! What the replica needs to know of a configuration.

use rookeeper_proto::ServerId;
use rookeeper_replica::settings::MAX_WATCHES_PER_CONNECTION;
use rookeeper_replica::{Reaping, RoomSettings, Settings};
use rookeeper_tree::AccessConfig;

use super::Config;

/// Clients refuse answers above their own `jute.maxbuffer`, which is the server's as a rule; this leaves room for those with more.
const MULTI_READ_ANSWERS: usize = 4;

impl Config {
    /// `seed` is known to nobody outside; clients may make the server hold `default_client_bytes` where nothing else is configured.
    pub(crate) fn replica_settings(&self, seed: u64, default_client_bytes: usize) -> Settings {
        Settings {
            server: self.ensemble.as_ref().map_or(ServerId(1), |ensemble| ensemble.settings.me),
            tick_time_ms: i64::from(self.sessions.tick_time_ms),
            min_session_timeout_ms: i32::try_from(self.sessions.min_timeout_ms).unwrap_or(i32::MAX),
            max_session_timeout_ms: i32::try_from(self.sessions.max_timeout_ms).unwrap_or(i32::MAX),
            extended_types: self.formats.extended_types_enabled,
            enforce_quota: self.access.enforce_quota,
            eager_acl_check: self.access.enable_eager_acl_check,
            digests: self.formats.digest_enabled,
            reconfig: self.reconfig_enabled,
            audits: self.audit.is_some(),
            seed,
            max_watches_per_connection: MAX_WATCHES_PER_CONNECTION,
            max_client_bytes: self.connections.memory_limit_bytes.unwrap_or(default_client_bytes),
            // What suits the disks and the machine is found where the server starts.
            room: RoomSettings::default(),
            throttle: self.requests.throttle,
            staleness: self.requests.staleness,
            max_record_bytes: self
                .requests
                .jute_max_buffer
                .saturating_add(self.requests.extra_size)
                .min(rookeeper_store::MAX_RECORD_BYTES),
            max_multi_read_bytes: MULTI_READ_ANSWERS * self.requests.jute_max_buffer,
            access: AccessConfig {
                skip_acl: self.access.skip_acl,
                digest_enabled: self.access.digest_enabled,
                sasl_enabled: self.access.sasl.is_registered,
                any_sasl_user: self.access.sasl.any_user.clone(),
                x509_enabled: self.access.x509_enabled,
                x509_super_user: self.access.x509_super_user.clone(),
            },
            prefix_depth: self.path_statistics.prefix_depth,
            slow_read_ns: nanoseconds(self.slow_operations.read_ms),
            slow_write_ns: nanoseconds(self.slow_operations.write_ms),
            reaping: Reaping {
                interval_ms: i64::from(self.containers.check_interval_ms),
                max_per_minute: i64::from(self.containers.max_per_minute),
                max_never_used_ms: self
                    .containers
                    .max_never_used_interval_ms
                    .map_or(0, |ms| i64::try_from(ms).unwrap_or(i64::MAX)),
            },
        }
    }
}

fn nanoseconds(ms: Option<u32>) -> u64 {
    ms.map_or(u64::MAX, |ms| u64::from(ms) * 1_000_000)
}
