//! `rookeeper epochs`: where a stopped member stands, and the way back where somebody has used up its epochs.

use std::path::PathBuf;

use clap::Args;
use rookeeper_server::ExitCode;
use rookeeper_store::epochs::{Remedy, look, lower_accepted, renumber};
use rookeeper_store::{Directories, DirectoryLock, RealDisk, RecoveryOptions, SnapshotOptions, StoreError};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The dataDir of zoo.cfg: the directory that holds version-2
    data_dir: PathBuf,
    /// The dataLogDir of zoo.cfg, where that differs
    #[arg(long)]
    log_dir: Option<PathBuf>,
    /// Take back what this member has promised beyond what it has lived through. Every member of the ensemble must be stopped, and the
    /// same be done to each of them
    #[arg(long, conflicts_with = "renumber")]
    lower: bool,
    /// Give the whole database numbers of an early epoch. Every member of the ensemble must be stopped; this is for one of them, the one that
    /// has most, whose version-2 then replaces that of every other one
    #[arg(long)]
    renumber: bool,
}

/// Exit code 0: there is room; 1: there is not; 3 and others: the directory can't be used.
pub(crate) fn main(options: &Options) -> ExitCode {
    match run(options) {
        Ok(true) => ExitCode::Finished,
        Ok(false) => ExitCode::Failed,
        Err(error) => {
            eprintln!("rookeeper epochs: {error}");
            ExitCode::from(&error)
        }
    }
}

fn run(options: &Options) -> Result<bool, StoreError> {
    let log_dir = options.log_dir.as_ref().unwrap_or(&options.data_dir);
    let directories = Directories::new(&options.data_dir, log_dir);
    let recovery = RecoveryOptions::default();
    let _nobody_else_writes =
        (options.lower || options.renumber).then(|| DirectoryLock::acquire(&options.data_dir)).transpose()?;
    let report = if options.lower {
        lower_accepted(&RealDisk, &directories, &recovery)?
    } else if options.renumber {
        renumber(&RealDisk, &directories, &recovery, &SnapshotOptions::default())?
    } else {
        look(&RealDisk, &directories, &recovery)?
    };
    print!("{report}");
    match report.remedy() {
        Remedy::None if options.renumber => println!(
            "renumbered. Copy this version-2 to every other member in place of its own, dataLogDir included, start them all, and start all \
             clients anew: what they have seen is newer than anything now"
        ),
        Remedy::None if options.lower => {
            println!("lowered. Do the same on every other member before any of them starts")
        }
        Remedy::None => println!("there is room"),
        Remedy::Lower => println!(
            "hardly any epoch is left after acceptedEpoch. Stop every member, run this with --lower on each of them, and start them"
        ),
        Remedy::Renumber => println!(
            "hardly any epoch is left after currentEpoch. Stop every member, run this with --renumber on the one that has the highest \
             currentEpoch and among those the last transaction, and copy its version-2 to all others"
        ),
    }
    Ok(report.remedy() == Remedy::None)
}
