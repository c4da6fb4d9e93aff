//! `rookeeper init`: prepares the data directory of a new server.
//!
//! What always holds: data is removed only where that is asked for, and never under a server of ours that runs.
//!
//! Counterpart in the original: `zkServer-initialize.sh`, which does not look whether a server runs.

use std::io;
use std::path::{Path, PathBuf};

use rookeeper_store::{DirectoryLock, RealDisk, Rights, epoch_files, replace};

use crate::config_file::ConfigFile;
use crate::print;

const VERSION_DIR: &str = "version-2";

/// What was asked for.
#[derive(Debug)]
struct Asked {
    config: PathBuf,
    my_id: Option<String>,
    force: bool,
}

/// Runs the command on a configuration, with the options of the original's script; `name` is what the usage calls that. Exit code 0: done;
/// 1: anything else, the usage too.
pub fn main(name: &str, config: &Path, arguments: &[String]) -> u8 {
    let said = match parse(config, arguments) {
        Err(mistake) => {
            if let Some(mistake) = mistake {
                let _ = print::result(&mistake);
            }
            Err(usage(name, config))
        }
        Ok(asked) => initialize(&asked),
    };
    match said {
        Ok(lines) if lines.iter().all(|line| print::result(line)) => 0,
        Ok(_) => 1,
        Err(said) => {
            let _ = print::result(&said);
            1
        }
    }
}

fn usage(name: &str, config: &Path) -> String {
    let config = config.display().to_string();
    format!(
        "usage: {name} <parameters>
  Optional parameters:
     -h                                                    Display this message
     --help                                                Display this message
     --configfile={config:<40} ZooKeeper config file
     --myid=#                                              Set the myid to be used, if any (1-255)
     --force                                               Force creation of the data/txnlog dirs"
    )
}

/// `Err`: the usage is to be shown, behind what there is to say.
fn parse(config: &Path, arguments: &[String]) -> Result<Asked, Option<String>> {
    let mut asked = Asked { config: config.to_owned(), my_id: None, force: false };
    let mut arguments = arguments.iter().map(String::as_str);
    while let Some(argument) = arguments.next() {
        let unknown = || Some(format!("Unknown option: {argument}"));
        let (option, value) = match argument.split_once('=') {
            Some((_, "")) => return Err(unknown()),
            Some((option, value)) => (option, Some(value)),
            None => (argument, None),
        };
        match (option, value) {
            ("--configfile", value) => asked.config = value.or_else(|| arguments.next()).ok_or_else(unknown)?.into(),
            ("--myid", value) => asked.my_id = Some(value.or_else(|| arguments.next()).ok_or_else(unknown)?.to_owned()),
            ("--force", None) => asked.force = true,
            ("-h" | "--help", None) => return Err(None),
            _ => return Err(unknown()),
        }
    }
    Ok(asked)
}

fn initialize(asked: &Asked) -> Result<Vec<String>, String> {
    let shown = asked.config.display();
    if !asked.config.exists() {
        return Err(format!("Unable to find config file at {shown}"));
    }
    let config = ConfigFile::read(&asked.config)?;
    let Some(data_dir) = config.data_dir() else { return Err(format!("Unable to determine dataDir from {shown}")) };
    let log_dir = config.data_log_dir().filter(|log_dir| *log_dir != data_dir);
    let mut said = Vec::new();
    if asked.force {
        said.push("Force enabled, data/txnlog directories will be re-initialized".to_owned());
    } else {
        for (dir, what) in [(Some(&data_dir), "data"), (log_dir.as_ref(), "txnlog")] {
            if let Some(dir) = dir.filter(|dir| dir.join(VERSION_DIR).is_dir()) {
                return Err(format!(
                    "ZooKeeper {what} directory already exists at {} (or use --force to force re-initialization)",
                    dir.display()
                ));
            }
        }
    }
    if let Some(my_id) = &asked.my_id
        && my_id.parse::<u8>().is_err()
    {
        print::complaint(&format_args!("{my_id} is no number from 1 to 255, as myid is meant to be"));
    }
    create(&data_dir, log_dir.as_deref(), asked.my_id.as_deref())
        .map_err(|error| format!("can't initialize: {error}"))?;
    said.push(match &asked.my_id {
        Some(my_id) => format!("Using myid of {my_id}"),
        None => {
            let place = data_dir.join("myid");
            format!("No myid provided, be sure to specify it in {} if using non-standalone", place.display())
        }
    });
    Ok(said)
}

fn create(data_dir: &Path, log_dir: Option<&Path>, my_id: Option<&str>) -> io::Result<()> {
    std::fs::create_dir_all(data_dir)?;
    let _nobody_uses_them = DirectoryLock::acquire(data_dir).map_err(io::Error::other)?;
    // The file that vouches for an empty database goes first: a half that is left must not pass for a new server.
    remove(&data_dir.join(epoch_files::INITIALIZE))?;
    for dir in [Some(data_dir), log_dir].into_iter().flatten() {
        std::fs::create_dir_all(dir)?;
        remove(&dir.join("myid"))?;
        remove(&dir.join(VERSION_DIR))?;
        std::fs::create_dir(dir.join(VERSION_DIR))?;
        std::fs::File::open(dir)?.sync_all()?;
    }
    if let Some(my_id) = my_id {
        replace::replace(&RealDisk, &data_dir.join("myid"), format!("{my_id}\n").as_bytes(), Rights::Umask)?;
    }
    replace::replace(&RealDisk, &data_dir.join(epoch_files::INITIALIZE), b"", Rights::Umask)
}

/// A file, or a directory with everything in it, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
