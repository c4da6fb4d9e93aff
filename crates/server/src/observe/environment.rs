//! The machine and the user under which this server runs. A value that the system does not tell is absent.

use std::path::PathBuf;

use super::process::{Memory, user_name};
use crate::version;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Environment {
    pub host_name: String,
    pub system: String,
    /// As Rust names it.
    pub architecture: &'static str,
    pub system_release: String,
    pub user_name: Option<String>,
    pub user_home: Option<PathBuf>,
    pub working_directory: Option<PathBuf>,
    pub memory: Option<Memory>,
}

impl Environment {
    /// Asks the system.
    pub fn gather() -> Environment {
        let system = rustix::system::uname();
        Environment {
            host_name: system.nodename().to_string_lossy().into_owned(),
            system: system.sysname().to_string_lossy().into_owned(),
            architecture: std::env::consts::ARCH,
            system_release: system.release().to_string_lossy().into_owned(),
            user_name: user_name(),
            user_home: std::env::home_dir(),
            working_directory: std::env::current_dir().ok(),
            memory: Memory::of_machine(),
        }
    }

    /// By the names that the original has for it, in its order.
    pub fn by_name(self) -> Vec<(&'static str, String)> {
        // Java's words for what it does not know.
        let unknown = || "?".to_owned();
        let path = |path: Option<PathBuf>| path.map_or_else(unknown, |path| path.display().to_string());
        let mut named = vec![
            ("zookeeper.version", version::full()),
            ("host.name", self.host_name),
            ("os.name", self.system),
            ("os.arch", architecture(self.architecture).to_owned()),
            ("os.version", self.system_release),
            ("user.name", self.user_name.unwrap_or_else(unknown)),
            ("user.home", path(self.user_home)),
            ("user.dir", path(self.working_directory)),
        ];
        if let Some(memory) = self.memory {
            // The original speaks of its heap, whose limits are set by hand. Here the limit is the machine.
            let (available, total) = (megabytes(memory.available), megabytes(memory.total));
            named.extend([("os.memory.free", available), ("os.memory.max", total.clone()), ("os.memory.total", total)]);
        }
        named
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{}MB", bytes >> 20)
}

/// Java has a name of its own for this one.
fn architecture(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        other => other,
    }
}
