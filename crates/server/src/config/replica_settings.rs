//! What the replica needs to know of a member's configuration.

use rookeeper_replica::EnsembleSettings;
use rookeeper_zab::Memberships;
use rookeeper_zab::leader::Rollover;

use super::{Config, Ensemble};

impl Ensemble {
    /// `config` is the whole configuration that this is a part of.
    pub fn settings(&self, config: &Config) -> EnsembleSettings {
        // One that is not newer was activated, and the server ended before its file was deleted.
        let proposed = self.last_seen.as_ref().filter(|proposed| proposed.version > self.membership.version);
        let last_seen = proposed.unwrap_or(&self.membership);
        EnsembleSettings {
            me: self.server_id,
            memberships: Memberships::new(self.membership.clone(), last_seen.clone()),
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
