//! `rookeeper check`: what a server would find in a data directory, without starting one; and the last resort for a damaged log.

use std::path::PathBuf;

use clap::Args;
use rookeeper_store::{Directories, DirectoryLock, RealDisk, RecoveryOptions, StoreError, check, repair_log};

#[derive(Args, Debug)]
pub struct Options {
    /// The dataDir of zoo.cfg: the directory that holds version-2
    data_dir: PathBuf,
    /// The dataLogDir of zoo.cfg, where that differs
    #[arg(long)]
    log_dir: Option<PathBuf>,
    /// Accept logs without any snapshot (snapshot.trust.empty)
    #[arg(long)]
    trust_empty: bool,
    /// Cut this log after its last good record, keeping the file as it was beside it. Acknowledged transactions may be lost: restore a
    /// backup instead if there is one. The server must be stopped
    #[arg(long, value_name = "LOG_FILE")]
    cut_log: Option<PathBuf>,
}

/// Exit code 0: sound; 1: not sound; 3: the directory can't be used.
pub fn main(options: &Options) -> u8 {
    match run(options) {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(error) => {
            eprintln!("rookeeper check: {error}");
            error.exit_code()
        }
    }
}

fn run(options: &Options) -> Result<bool, StoreError> {
    let log_dir = options.log_dir.as_ref().unwrap_or(&options.data_dir);
    let directories = Directories::new(&options.data_dir, log_dir);
    let recovery = RecoveryOptions { trust_empty_snapshot: options.trust_empty, ..RecoveryOptions::default() };
    if let Some(path) = &options.cut_log {
        let _nobody_else_writes = DirectoryLock::acquire(&options.data_dir)?;
        println!("{}", repair_log(&RealDisk, path, recovery.max_record_bytes)?);
        return Ok(true);
    }
    let report = check(&RealDisk, &directories, &recovery)?;
    println!("{}", report.to_string().trim_end());
    if let Ok(found) = &report.recovery {
        found.warnings().iter().for_each(|warning| println!("warning: {warning}"));
    }
    println!("{}", if report.is_sound() { "sound" } else { "not sound" });
    Ok(report.is_sound())
}
