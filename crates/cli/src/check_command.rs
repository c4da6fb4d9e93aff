//! `rookeeper check`: what a server would find in a data directory, without starting one; and the last resort for a damaged log.

use std::path::{Path, PathBuf};

use clap::Args;
use rookeeper_cli::print;
use rookeeper_cli::ttl_nodes::TtlNodes;
use rookeeper_server::ExitCode;
use rookeeper_store::{Directories, DirectoryLock, RealDisk, RecoveryOptions, StoreError, check, repair_log};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The dataDir of zoo.cfg: the directory that holds version-2
    data_dir: PathBuf,
    /// The dataLogDir of zoo.cfg, where that differs
    #[arg(long)]
    log_dir: Option<PathBuf>,
    #[command(flatten)]
    ttl_nodes: TtlNodes,
    /// Accept logs without any snapshot (snapshot.trust.empty)
    #[arg(long)]
    trust_empty: bool,
    /// Cut this log after its last good record, keeping the file as it was beside it. Acknowledged transactions may be lost: restore a
    /// backup instead if there is one. The server must be stopped
    #[arg(long, value_name = "LOG_FILE")]
    cut_log: Option<PathBuf>,
}

/// Exit code 0: sound; 1: not sound, or the answer can't be written; 3: the directory can't be used.
pub(crate) fn main(options: &Options) -> ExitCode {
    if let Some(mistake) = mistaken(options) {
        print::complaint(&format_args!("rookeeper check: {mistake}"));
        return ExitCode::DataDirectory;
    }
    match run(options) {
        Ok(true) => ExitCode::Finished,
        Ok(false) => ExitCode::Failed,
        Err(error) => {
            print::complaint(&format_args!("rookeeper check: {error}"));
            ExitCode::from(&error)
        }
    }
}

/// What is wrong with a path that is not what it is given as. Only what is there can be judged by the store.
fn mistaken(options: &Options) -> Option<String> {
    let data_dir = options.data_dir.as_path();
    let log_dir = options.log_dir.as_deref().filter(|log_dir| *log_dir != data_dir);
    let with_key = [(Some(data_dir), "dataDir"), (log_dir, "dataLogDir")];
    with_key.into_iter().find_map(|(directory, key)| no_data_directory(directory?, key)).or_else(|| {
        let log = options.cut_log.as_deref().filter(|log| !log.is_file())?;
        let found = if log.exists() { "is no file" } else { "does not exist" };
        Some(format!("{} {found}: --cut-log wants the path of a file version-2/log.N", log.display()))
    })
}

fn no_data_directory(directory: &Path, key: &str) -> Option<String> {
    let shown = directory.display();
    let wanted = format!("give the {key} of zoo.cfg, the directory that holds version-2");
    if !directory.exists() {
        Some(format!("{shown} does not exist: {wanted}"))
    } else if !directory.is_dir() {
        Some(format!("{shown} is no directory: {wanted}"))
    } else if directory.join("version-2").exists() {
        None
    } else if directory.file_name().is_some_and(|name| name == "version-2") {
        Some(format!("{shown} is the version-2 of a data directory: give the directory that holds it"))
    } else {
        Some(format!("{shown} holds no version-2: {wanted}; a server that never started has none yet"))
    }
}

fn run(options: &Options) -> Result<bool, StoreError> {
    let log_dir = options.log_dir.as_ref().unwrap_or(&options.data_dir);
    let directories = Directories::new(&options.data_dir, log_dir);
    let recovery = RecoveryOptions {
        trust_empty_snapshot: options.trust_empty,
        trust_partial_snapshot: true,
        ttl_encoding: options.ttl_nodes.encoding(),
        ..RecoveryOptions::default()
    };
    if let Some(path) = &options.cut_log {
        let _nobody_else_writes = DirectoryLock::acquire(&options.data_dir)?;
        return Ok(print::result(&repair_log(&RealDisk, path, recovery.max_record_bytes)?));
    }
    let report = check(&RealDisk, &directories, &recovery)?;
    let mut text = report.to_string().trim_end().to_owned();
    if let Ok(found) = &report.recovery {
        found.warnings().iter().for_each(|warning| text.push_str(&format!("\nwarning: {warning}")));
    }
    text.push_str(if report.is_sound() { "\nsound" } else { "\nnot sound" });
    Ok(print::result(&text) && report.is_sound())
}
