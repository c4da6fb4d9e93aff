//! The answer to the four-letter word `conf`, as far as it comes from the configuration.

use std::fmt::Write as _;

use rookeeper_zab::{Membership, Role};

use super::Config;

/// What `conf` says that only the running server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfFacts<'a> {
    /// The membership in force, where this server is part of an ensemble that has a leader.
    pub membership: Option<&'a Membership>,
    /// The port that clients connect to, which is not the configured one if that was 0.
    pub client_port: u16,
    /// The same for clients that speak TLS; none where there is no such port.
    pub secure_client_port: Option<u16>,
    /// Bytes in the snapshot directory.
    pub data_dir_size: u64,
    /// Bytes in the log directory.
    pub data_log_size: u64,
}

impl Config {
    /// The lines of `conf`. Each has its newline but for the last one of a membership.
    pub fn conf(&self, facts: ConfFacts<'_>) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(text, "{key}={value}");
        };
        line("clientPort", &facts.client_port);
        line("secureClientPort", &facts.secure_client_port.map_or(-1, i32::from));
        line("dataDir", &self.directories.snapshot_dir().display());
        line("dataDirSize", &facts.data_dir_size);
        line("dataLogDir", &self.directories.log_dir().display());
        line("dataLogSize", &facts.data_log_size);
        line("tickTime", &self.sessions.tick_time_ms);
        line("maxClientCnxns", &self.connections.max_per_address_as_written);
        line("minSessionTimeout", &self.sessions.min_timeout_ms);
        line("maxSessionTimeout", &self.sessions.max_timeout_ms);
        line("clientPortListenBacklog", &self.client.backlog_as_written);
        let Some(ensemble) = &self.ensemble else {
            line("serverId", &0);
            return text;
        };
        let (ensemble, configured) = (&ensemble.settings, &ensemble.settings.memberships.committed);
        let me = facts.membership.unwrap_or(configured).members.get(&ensemble.me);
        // One that was removed is still what its configuration says.
        let me = me.or_else(|| configured.members.get(&ensemble.me));
        let address = me.and_then(|member| member.addresses.first());
        line("serverId", &ensemble.me.0);
        line("initLimit", &ensemble.init_limit_ticks);
        line("syncLimit", &ensemble.sync_limit_ticks);
        line("electionAlg", &3);
        line("electionPort", &address.map_or(0, |address| address.election_port));
        line("quorumPort", &address.map_or(0, |address| address.quorum_port));
        line("peerType", &me.map_or(0, |member| u8::from(member.role == Role::Observer)));
        if let Some(membership) = facts.membership {
            let _ = write!(text, "membership: \n{membership}");
        }
        text
    }
}
