//! The answer to the four-letter word `conf`, as far as it comes from the configuration.

use std::fmt::Write as _;

use super::Config;

/// What `conf` says that only the running server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfFacts {
    /// The port that clients connect to, which is not the configured one if that was 0.
    pub client_port: u16,
    /// Bytes in the snapshot directory.
    pub data_dir_size: u64,
    /// Bytes in the log directory.
    pub data_log_size: u64,
}

impl Config {
    /// The lines of `conf` for a standalone server, each with its newline.
    pub fn conf(&self, facts: ConfFacts) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(text, "{key}={value}");
        };
        line("clientPort", &facts.client_port);
        line("secureClientPort", &-1);
        line("dataDir", &self.directories.snapshot_dir().display());
        line("dataDirSize", &facts.data_dir_size);
        line("dataLogDir", &self.directories.log_dir().display());
        line("dataLogSize", &facts.data_log_size);
        line("tickTime", &self.sessions.tick_time_ms);
        line("maxClientCnxns", &self.connections.max_per_address.unwrap_or(0));
        line("minSessionTimeout", &self.sessions.min_timeout_ms);
        line("maxSessionTimeout", &self.sessions.max_timeout_ms);
        match self.client.backlog {
            Some(backlog) => line("clientPortListenBacklog", &backlog),
            None => line("clientPortListenBacklog", &-1),
        }
        line("serverId", &0);
        text
    }
}
