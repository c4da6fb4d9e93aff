//! What the replica needs to know of a configuration.

use rookeeper_proto::ServerId;
use rookeeper_replica::settings::MAX_WATCHES_PER_CONNECTION;
use rookeeper_replica::{EnsembleSettings, Reaping, Settings};
use rookeeper_tree::AccessConfig;
use rookeeper_zab::Memberships;
use rookeeper_zab::leader::Rollover;

use super::{Config, Ensemble};

/// Clients refuse answers above their own `jute.maxbuffer`, which is the server's as a rule; this leaves room for those with more.
const MULTI_READ_ANSWERS: usize = 4;

impl Config {
    /// `seed` is known to nobody outside; clients may make the server hold `default_client_bytes` where nothing else is configured.
    pub(crate) fn replica_settings(&self, seed: u64, default_client_bytes: usize) -> Settings {
        Settings {
            server: self.ensemble.as_ref().map_or(ServerId(1), |ensemble| ensemble.server_id),
            tick_time_ms: i64::from(self.sessions.tick_time_ms),
            min_session_timeout_ms: i32::try_from(self.sessions.min_timeout_ms).unwrap_or(i32::MAX),
            max_session_timeout_ms: i32::try_from(self.sessions.max_timeout_ms).unwrap_or(i32::MAX),
            extended_types: self.formats.extended_types_enabled,
            enforce_quota: self.access.enforce_quota,
            eager_acl_check: self.access.enable_eager_acl_check,
            digests: self.formats.digest_enabled,
            reconfig: self.reconfig_enabled,
            seed,
            max_watches_per_connection: MAX_WATCHES_PER_CONNECTION,
            max_client_bytes: self.connections.memory_limit_bytes.unwrap_or(default_client_bytes),
            max_record_bytes: (self.requests.jute_max_buffer as usize + self.requests.extra_size as usize)
                .min(rookeeper_store::MAX_RECORD_BYTES),
            max_multi_read_bytes: MULTI_READ_ANSWERS * self.requests.jute_max_buffer as usize,
            access: AccessConfig {
                skip_acl: self.access.skip_acl,
                digest_enabled: self.access.digest_enabled,
                sasl_enabled: self.access.sasl.is_registered,
                any_sasl_user: self.access.sasl.any_user.clone(),
                ..AccessConfig::default()
            },
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

impl Ensemble {
    /// The membership in force, and the one that was proposed last, as the files have them.
    pub(crate) fn memberships(&self) -> Memberships {
        // A proposed membership that is not newer was activated, and the server ended before its file was deleted.
        let proposed = self.last_seen.as_ref().filter(|proposed| proposed.version > self.membership.version);
        Memberships::new(self.membership.clone(), proposed.unwrap_or(&self.membership).clone())
    }

    /// `config` is the whole configuration that this is a part of.
    pub fn settings(&self, config: &Config) -> EnsembleSettings {
        EnsembleSettings {
            me: self.server_id,
            memberships: self.memberships(),
            init_limit_ticks: self.init_limit_ticks,
            sync_limit_ticks: self.sync_limit_ticks,
            connect_limit_ticks: self.connect_to_learner_master_limit_ticks,
            connect_retry_ms: i64::from(self.leader_connect_delay_ms),
            notification_interval_ms: (
                i64::from(self.notification_interval_ms.0),
                i64::from(self.notification_interval_ms.1),
            ),
            observer_election_delay_ms: i64::try_from(self.observer_election_delay_ms).unwrap_or(i64::MAX),
            leader_serves: self.leader_serves,
            local_sessions: self.local_sessions_enabled,
            local_sessions_upgrading: self.local_sessions_upgrading_enabled,
            read_only_mode: config.read_only_mode_enabled,
            commit_log_count: self.commit_log_count as usize,
            force_snapshot_sync: self.force_snapshot_sync,
            max_concurrent_snap_syncs: self.max_concurrent_snap_syncs as usize,
            max_concurrent_diff_syncs: self.max_concurrent_diff_syncs as usize,
            max_time_to_wait_for_epoch_ms: self.max_time_to_wait_for_epoch_ms.map(i64::from),
            standalone_enabled: self.standalone_enabled,
            multi_address: self.multi_address_enabled,
            rollover: Rollover::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rookeeper_proto::Zxid;
    use std::path::PathBuf;

    use rookeeper_proto::ServerId;

    use super::super::{Environment, Source};
    use super::*;

    #[test]
    fn a_proposed_membership_counts_where_it_is_newer() {
        let config = |version: &str| {
            let read = |path: &std::path::Path| {
                let text = match path.to_str() {
                    Some("zoo.cfg") => {
                        "dataDir=/data\nclientPort=21\ninitLimit=10\nsyncLimit=5\ndynamicConfigFile=/zoo.cfg.dynamic.5\n\
                         fastleader.minNotificationInterval=50\nleader.maxTimeToWaitForEpoch=900\nreadonlymode.enabled=true"
                            .to_owned()
                    }
                    Some("/zoo.cfg.dynamic.5") => "server.2=a:1:2\nserver.3=b:1:2\n".to_owned(),
                    Some("zoo.cfg.dynamic.next") => format!("server.2=a:1:2\nversion={version}\n"),
                    _ => "2".to_owned(),
                };
                Ok(text.into_bytes())
            };
            let environment = Environment {
                variables: Default::default(),
                home: None,
                user_id: 1000,
                system_data_dir_writable: false,
            };
            Config::load_with(Source::File(PathBuf::from("zoo.cfg")), &environment, &read).unwrap().0
        };
        for (version, last_seen) in [("4", 5), ("5", 5), ("6", 6)] {
            let config = config(version);
            let settings = config.ensemble.as_ref().unwrap().settings(&config);
            assert_eq!(settings.memberships.committed.version, Zxid(5));
            assert_eq!(settings.memberships.last_seen.version, Zxid(last_seen));
            assert_eq!((settings.me, settings.notification_interval_ms), (ServerId(2), (50, 60_000)));
            assert_eq!((settings.max_time_to_wait_for_epoch_ms, settings.read_only_mode), (Some(900), true));
        }
    }
}
