//! From the files of a server to the state that it goes on from.
//!
//! What always holds here: nothing is written before the data directory is locked and there is room for the log; another start would find
//! what this one found. Work with files has threads of its own, so that whoever waits for the start can give it up.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rookeeper_proto::Zxid;
use rookeeper_replica::Epochs;
use rookeeper_storage::{Files, Secured};
use rookeeper_store::{DirectoryLock, WrittenSnapshot};
use rookeeper_tree::Tree;

use super::data_directory::{self, Opened};
use super::starting::{Starting, Step};
use super::{membership_at_start, room};
use crate::config::Config;
use crate::failure::{ExitCode, Failure};
use crate::observe::figures::Figures;

/// The state that a start found in its files.
pub(super) struct Recovered {
    /// With the members that count.
    pub config: Config,
    /// Keeps a second server out of the data directory.
    pub lock: DirectoryLock,
    pub files: Arc<Files>,
    pub tree: Tree,
    /// A member's.
    pub epochs: Option<Epochs>,
    /// How many transactions led to another tree than the log says, and the first of them.
    pub mismatches: Option<(u64, Zxid)>,
    /// Written by this start, and how long that took.
    pub first_snapshot: Option<(WrittenSnapshot, Duration)>,
    /// Transactions were replayed that a snapshot could spare the next start.
    pub wants_snapshot: bool,
    pub found: Found,
}

/// For the line that says the server is ready.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub zxid: Zxid,
    pub node_count: usize,
    pub replayed: u64,
    pub took: Duration,
}

/// Locks and reads the data directory, and makes sure that it has a snapshot.
pub(super) async fn recover(mut config: Config, figures: &Figures, starting: &Starting) -> Result<Recovered, Failure> {
    starting.at(Step::Recovering);
    let opened = {
        let config = config.clone();
        without_waiting(move || {
            let opened = data_directory::open(&config)?;
            room::check(&config.directories.log_dir(), config.log.pre_alloc_size_kib << 10)?;
            Ok(opened)
        })
        .await?
    };
    let Opened { lock, files, start, took, membership } = opened;
    let (tree, report) = (&start.recovered.tree, &start.recovered.report);
    let found = Found { zxid: tree.last_zxid(), node_count: tree.node_count(), replayed: report.replayed, took };
    let mismatches = report.first_mismatch.map(|first| (report.digest_mismatches, first));
    let load_times = start.recovered.load_times;
    starting.at(Step::FindingMembers);
    let config =
        without_waiting(move || membership_at_start::correct(&mut config, membership).map(|()| config)).await?;
    figures.recovery_time_ms.store(took.as_millis() as u64, Relaxed);
    figures.snapshot_load_time_ms.store(load_times.snapshots.as_millis() as u64, Relaxed);
    figures.log_load_time_ms.store(load_times.log.as_millis() as u64, Relaxed);
    figures.transactions_loaded.store(found.replayed, Relaxed);

    if start.needs_snapshot() {
        starting.at(Step::TakingFirstSnapshot);
    }
    let securing = Instant::now();
    let secured = without_waiting(move || Ok(start.secure()?)).await?;
    let securing = securing.elapsed();
    let (epochs, secured) = match &config.ensemble {
        None => (None, secured),
        Some(_) => {
            starting.at(Step::ReadingEpochs);
            without_waiting(move || Ok((Some(secured.epochs()?), secured))).await?
        }
    };
    let Secured { recovered, first_snapshot, wants_snapshot, .. } = secured;
    Ok(Recovered {
        config,
        lock,
        files,
        tree: recovered.tree,
        epochs,
        mismatches,
        first_snapshot: first_snapshot.map(|written| (written, securing)),
        wants_snapshot,
        found,
    })
}

/// Long work with files, on a thread of its own, so that whoever waits for the start can give it up.
async fn without_waiting<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let ended = |error| Failure::new(ExitCode::Failed, format!("the start was broken off: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(ended)?
}
