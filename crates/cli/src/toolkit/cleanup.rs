//! `rookeeper cleanup`: removes snapshots and logs that no recovery needs, also beside a server that runs.
//!
//! What always holds: it is the server's own purge that decides, so that what stays is whole and leads to the newest state; snapshots that
//! can't be read don't count as kept.
//!
//! Counterpart in the original: `PurgeTxnLog`.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;
use rookeeper_store::names::Listing;
use rookeeper_store::{Directories, PurgeOptions, Purger, RealDisk};

use super::FAILED;
use crate::config_file::ConfigFile;
use crate::{java, print};

const USAGE: &str = "Usage:
PurgeTxnLog dataLogDir [snapDir] -n count
\tdataLogDir -- path to the txn log directory
\tsnapDir -- path to the snapshot directory
\tcount -- the number of old snaps/logs you want to keep, value should be greater than or equal to 3";

/// Fewer than this the original does not keep.
const FEWEST: usize = 3;

/// Runs the tool. Behind `--config ZOO_CFG` the directories are those of that file, where it is there. Exit code 0: done, also where nothing
/// was to be removed; 1: anything else.
pub fn main(arguments: &[String]) -> u8 {
    let arguments = match arguments {
        [option, config, rest @ ..] if option == "--config" => match configured(Path::new(config)) {
            Ok(mut directories) => {
                directories.extend_from_slice(rest);
                directories
            }
            Err(problem) => {
                print::complaint(&problem);
                return FAILED;
            }
        },
        _ => arguments.to_vec(),
    };
    match run(&arguments) {
        Ok(true) => 0,
        Ok(false) => FAILED,
        Err(mistake) => {
            if let Some(mistake) = mistake {
                print::complaint(&mistake);
            }
            let _ = print::result(&USAGE);
            FAILED
        }
    }
}

/// The directories of a configuration, that of the log first.
fn configured(config: &Path) -> Result<Vec<String>, String> {
    if !config.exists() {
        return Ok(Vec::new());
    }
    let config = ConfigFile::read(config)?;
    let directories = [config.value("dataLogDir"), config.value("dataDir")];
    Ok(directories.into_iter().flatten().map(str::to_owned).collect())
}

/// `Err`: a wrong invocation, with what there is to say before the usage.
fn run(arguments: &[String]) -> Result<bool, Option<String>> {
    let (log_dir, rest) = match arguments {
        [log_dir, _, _] | [log_dir, _, _, _] => (existing(log_dir)?, &arguments[1..]),
        _ => return Err(None),
    };
    let (data_dir, option, count) = match rest {
        [option, count] => (log_dir.clone(), option, count),
        [data_dir, option, count] => (existing(data_dir)?, option, count),
        _ => return Err(None),
    };
    let count = match count.parse::<i32>() {
        Ok(count) => usize::try_from(count).ok().filter(|count| *count >= FEWEST),
        Err(_) => return Err(Some(format!("'{count}' can not be parsed to integer."))),
    };
    let Some(retain_snapshots) = count else {
        return Err(Some("count should be greater than or equal to 3".to_owned()));
    };
    if option != "-n" {
        return Err(None);
    }
    Ok(purge(&data_dir, &log_dir, retain_snapshots))
}

fn existing(path: &str) -> Result<PathBuf, Option<String>> {
    let path = PathBuf::from(path);
    if path.exists() {
        return Ok(path);
    }
    let shown = std::path::absolute(&path).unwrap_or(path);
    Err(Some(format!("Path '{}' does not exist. ", shown.display())))
}

/// The purge looks itself; this is for the operator, who would see nothing go and not know why.
fn is_being_cut(directories: &Directories) -> bool {
    Listing::read(&RealDisk, &directories.snapshot_dir)
        .is_ok_and(|listing| !listing.truncations.is_empty() || !listing.installations.is_empty())
}

fn purge(data_dir: &Path, log_dir: &Path, retain_snapshots: usize) -> bool {
    let directories = Directories::new(data_dir, log_dir);
    let options = PurgeOptions { retain_snapshots, ..PurgeOptions::default() };
    let zone = TimeZone::system();
    if is_being_cut(&directories) {
        print::complaint(
            &"nothing is removed while the history is being cut or replaced: start the server, which finishes that",
        );
        return true;
    }
    let mut is_told = true;
    let mut tell = |path: &Path, modified: SystemTime| {
        let milliseconds = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        let line = format!("Removing file: {}\t{}", java::medium_date(milliseconds, &zone), path.display());
        is_told &= print::result(&line);
    };
    match Purger::new().purge_and_tell(&RealDisk, &directories, &options, SystemTime::now(), &mut tell) {
        Ok(_) => is_told,
        Err(error) => {
            print::complaint(&format_args!("rookeeper cleanup: {error}"));
            false
        }
    }
}
