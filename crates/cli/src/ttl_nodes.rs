//! How commands that read a server's files take nodes of version 3.5.3 with a time to live: the key `emulate353TTLNodes` for them.
//!
//! What such a node owns has no mark but its sign. To a reader that does not know that it is an ephemeral node of a session that is not there, which goes.

use std::path::Path;

use clap::Args;
use rookeeper_proto::TtlEncoding;

use crate::config_file::ConfigFile;

/// Both keys that a server needs for it.
const KEYS: [&str; 2] = ["emulate353TTLNodes", "extendedTypesEnabled"];

/// The flag of such commands.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct TtlNodes {
    /// The server runs with emulate353TTLNodes: nodes that 3.5.3 made have a time to live. Known without this where its configuration is named, or
    /// SERVER_JVMFLAGS says so
    #[arg(long = "emulate353-ttl-nodes")]
    is_emulated: bool,
}

impl TtlNodes {
    /// Whether such nodes are known, by the flag or as a server with this configuration and these options in `SERVER_JVMFLAGS`.
    pub fn emulated(self, config: Option<&Path>) -> bool {
        let config = config.and_then(|config| ConfigFile::read(config).ok());
        let flags = std::env::var("SERVER_JVMFLAGS").unwrap_or_default();
        self.is_emulated || emulates(config.as_ref(), &flags)
    }

    /// What that comes to for whoever reads.
    pub fn encoding(self) -> TtlEncoding {
        if self.emulated(None) { TtlEncoding::Also353 } else { TtlEncoding::Current }
    }
}

fn emulates(config: Option<&ConfigFile>, flags: &str) -> bool {
    KEYS.iter().all(|key| {
        let of_flags = flags.split_whitespace().rev().find_map(|flag| {
            flag.strip_prefix("-Dzookeeper.")
                .and_then(|rest| rest.strip_prefix(key))
                .and_then(|rest| rest.strip_prefix('='))
        });
        // As with any key, the file has the last word.
        let value = config.and_then(|config| config.value(key)).or(of_flags);
        value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_keys_are_needed_wherever_they_stand() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("zoo.cfg");
        for (text, flags, expected) in [
            ("emulate353TTLNodes=true\nextendedTypesEnabled=true\n", "", true),
            ("emulate353TTLNodes=true\n", "", false),
            ("emulate353TTLNodes=true\n", "-Xmx1g -Dzookeeper.extendedTypesEnabled=true", true),
            ("", "-Dzookeeper.extendedTypesEnabled=true -Dzookeeper.emulate353TTLNodes=TRUE", true),
            (
                "emulate353TTLNodes=false\n",
                "-Dzookeeper.extendedTypesEnabled=true -Dzookeeper.emulate353TTLNodes=true",
                false,
            ),
            ("", "", false),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(emulates(Some(&ConfigFile::read(&path).unwrap()), flags), expected, "{text} {flags}");
        }
    }
}
