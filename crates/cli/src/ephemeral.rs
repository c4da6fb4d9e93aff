//! `rookeeper server --ephemeral`: a server that keeps nothing, for tests and for trying things.
//!
//! What always holds: its directory is in memory where the machine has a file system there, and goes with the server. What a server left behind that
//! was killed is removed by the next one.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const NAME: &str = "rookeeper-ephemeral-";

/// As every such server has it, and as the members of ensembles for tests have it (`rookeeper-testing`).
const SETTINGS: &str = include_str!("ephemeral.cfg");

/// The directory of such a server, with its configuration.
#[derive(Debug)]
pub struct Ephemeral {
    directory: PathBuf,
    /// Whether it goes with this value.
    is_ours: bool,
}

impl Ephemeral {
    /// A directory, for a server on this port of loopback; 0 lets the system choose. A directory that is given is kept.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn prepare(port: u16, given: Option<&Path>) -> io::Result<Ephemeral> {
        let in_memory = Path::new("/dev/shm");
        let parent = if in_memory.is_dir() { in_memory.to_owned() } else { env::temp_dir() };
        remove_abandoned(&parent);
        let (directory, is_ours) = match given {
            Some(directory) => (directory.to_owned(), false),
            None => (parent.join(format!("{NAME}{}", std::process::id())), true),
        };
        if is_ours {
            fs::create_dir(&directory)?;
        }
        let ephemeral = Ephemeral { directory, is_ours };
        let mut text = format!("dataDir={}\n", ephemeral.directory.join("data").display());
        let _ = write!(text, "clientPort={port}\nclientPortAddress=127.0.0.1\n{SETTINGS}");
        fs::write(ephemeral.config(), text)?;
        Ok(ephemeral)
    }

    /// The `zoo.cfg` of the server.
    pub fn config(&self) -> PathBuf {
        self.directory.join("zoo.cfg")
    }
}

impl Drop for Ephemeral {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Directories of processes that are gone. Where this is not allowed, they are somebody else's.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(NAME)).and_then(|id| id.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
