//! Running a server in the background by hand, without a service manager: what `bin/zkServer.sh` and `bin/zkServer-initialize.sh` run, with
//! the original's outputs and exit codes.
//!
//! Reading order:
//! - [`process`]: the process that a pid file names, and whether it is a server of ours
//! - [`start`], [`stop`], [`status`], [`init`]
//!
//! What always holds: only a process is stopped that the pid file names and that runs `rookeeper server`; nothing is removed under a server
//! that runs.

pub mod init;
pub mod process;
pub mod start;
pub mod status;
pub mod stop;

use std::path::PathBuf;

use clap::Args;

use crate::config_file::ConfigFile;

/// Which server is meant.
#[derive(Args, Debug)]
pub struct Which {
    /// The configuration of the server
    #[arg(value_name = "ZOO_CFG")]
    pub config: PathBuf,
    /// Where the id of the process stands, instead of zookeeper_server.pid in the dataDir
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
}

impl Which {
    /// The pid file, and the configuration it was found by.
    fn pid_file(&self) -> Result<PathBuf, String> {
        match &self.pid_file {
            Some(path) => Ok(path.clone()),
            None => {
                let config = ConfigFile::read(&self.config)?;
                let data_dir = config.data_dir().ok_or_else(|| {
                    format!(
                        "{} has no dataDir, where the pid file would be: set it, or give --pid-file",
                        self.config.display()
                    )
                })?;
                Ok(data_dir.join("zookeeper_server.pid"))
            }
        }
    }
}
