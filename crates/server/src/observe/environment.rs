//! The machine and the user under which this server runs. A value that the system does not tell is absent.

use std::path::PathBuf;

use super::process::{Memory, user_name};

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
}
