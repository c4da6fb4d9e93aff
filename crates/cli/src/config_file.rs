//! What a `zoo.cfg` says, as far as commands need it that start no server. Nothing is checked: that is for the start of the server.

use std::path::{Path, PathBuf};

use rookeeper_server::config::properties::{self, Property};

/// The entries of a file.
#[derive(Debug)]
pub struct ConfigFile {
    entries: Vec<Property>,
}

impl ConfigFile {
    /// Reads a file. The error says what is wrong with which file.
    pub fn read(path: &Path) -> Result<ConfigFile, String> {
        let shown = path.display();
        let bytes = std::fs::read(path).map_err(|error| format!("can't read {shown}: {error}"))?;
        ConfigFile::parse(&shown.to_string(), &bytes)
    }

    fn parse(name: &str, bytes: &[u8]) -> Result<ConfigFile, String> {
        let entries = properties::parse(name, bytes).map_err(|fault| fault.to_string())?;
        Ok(ConfigFile { entries })
    }

    /// The value of a key, as the server takes it: the last one, if it is not empty.
    pub fn value(&self, key: &str) -> Option<&str> {
        let entry = self.entries.iter().rev().find(|entry| entry.key == key)?;
        Some(entry.value.as_str()).filter(|value| !value.is_empty())
    }

    /// Where snapshots are.
    pub fn data_dir(&self) -> Option<PathBuf> {
        self.value("dataDir").map(PathBuf::from)
    }

    /// Where the log is, if that is another directory.
    pub fn data_log_dir(&self) -> Option<PathBuf> {
        self.value("dataLogDir").map(PathBuf::from)
    }

    /// The client address in a server line: what stands behind the last semicolon.
    pub fn client_address_of(&self, server: &str) -> Option<&str> {
        let (_, address) = self.value(&format!("server.{server}"))?.rsplit_once(';')?;
        Some(address).filter(|address| !address.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let text = b"# dataDir=/no\n dataDir = /a b \ndataLogDir=\nclientPort=1\nclientPort=2\nserver.3=h:1:2:observer;[::1]:2181\nserver.4=h:1:2\n";
        let config = ConfigFile::parse("zoo.cfg", text).unwrap();
        assert_eq!(config.data_dir(), Some(PathBuf::from("/a b")));
        assert_eq!((config.data_log_dir(), config.value("clientPort")), (None, Some("2")));
        assert_eq!(config.client_address_of("3"), Some("[::1]:2181"));
        assert_eq!((config.client_address_of("4"), config.client_address_of("5")), (None, None));
    }
}
