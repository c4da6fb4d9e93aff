//! The command `restore`: the tree of a snapshot takes the place of the one that is served.
//!
//! What always holds here:
//! - nothing that is served changes before the whole snapshot is here and its checksums and its digest are right;
//! - whoever is told that it is restored finds it so after any crash; whoever is told of an error finds everything as it was;
//! - one is received at a time, into a file that is gone at the end, and no more of the disk than the server may use.
//!
//! Counterpart in the original: `Commands.RestoreCommand`, `ZooKeeperServer.restoreFromSnapshot`, which changes the memory of the server alone: the next
//! start brings back what was there before.

use std::fs::{File, OpenOptions};
use std::future::poll_fn;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::Response;
use hyper::body::Body as _;
use parking_lot::Mutex;
use rookeeper_proto::Zxid;
use rookeeper_replica::NotRestored;
use rookeeper_store::lone_snapshot::{self, NotWhole};
use rookeeper_store::{RealDisk, names};
use rookeeper_tree::Tree;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::{info, warn};

use super::{Refused, framed, json, told};
use crate::context::Context;
use crate::observe::disk;
use crate::observe::figures::Figures;
use crate::seed::secret_seed;
use crate::threads::restores::Restores;

const NAME: &str = "restore";

/// How long whoever sends a snapshot may be silent.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// Portions that wait for the disk.
const WAITING: usize = 4;

/// The room on the disk is looked at after so many bytes.
const LOOK_EVERY: u64 = 16 << 20;

/// How restores are asked for.
#[derive(Debug)]
pub(super) struct Admission {
    is_enabled: bool,
    /// Between two of them, whatever became of the first.
    interval: Duration,
    last: Mutex<Option<Instant>>,
    place: Arc<Semaphore>,
}

impl Admission {
    pub fn new(is_enabled: bool, interval_ms: u64) -> Admission {
        let interval = Duration::from_millis(interval_ms);
        Admission { is_enabled, interval, last: Mutex::new(None), place: Arc::new(Semaphore::new(1)) }
    }

    /// Whether there may be one now.
    pub fn admit(&self, now: Instant, context: &Context, figures: &Figures) -> Result<OwnedSemaphorePermit, Refused> {
        let refused = |why| Err(Refused { status: StatusCode::SERVICE_UNAVAILABLE, why });
        if !self.is_enabled {
            return refused("The command restore is disabled (admin.restore.enabled)");
        }
        if context.config.ensemble.is_some() {
            return refused(
                "This server is a member of an ensemble, and the others would have other data than this one. Stop all members, build their \
                 directories by rookeeper restore, and start them",
            );
        }
        if context.shared.room.shortage().memory {
            return refused("There is too little memory to read another tree (memory.max)");
        }
        let mut last = self.last.lock();
        let is_early = last.is_some_and(|last| now.saturating_duration_since(last) < self.interval);
        let place = self.place.clone().try_acquire_owned().ok().filter(|_| !is_early);
        let Some(place) = place else {
            figures.restores_rate_limited.fetch_add(1, Relaxed);
            return Err(Refused {
                status: StatusCode::TOO_MANY_REQUESTS,
                why: "A snapshot was just restored, or is being restored: ask again later (admin.rateLimiterIntervalInMS)",
            });
        };
        *last = Some(now);
        Ok(place)
    }
}

/// Why nothing was restored, for whoever asked.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("The snapshot did not come as a whole: {0}")]
    Cut(String),
    #[error("There is no room for the snapshot in {path}: {floor} bytes must stay free", path = path.display())]
    NoRoom { path: PathBuf, floor: u64 },
    #[error("The snapshot can't be kept in {path}: {error}", path = path.display())]
    Disk { path: PathBuf, error: std::io::Error },
    #[error("The snapshot can't be restored: {}", .0.problem())]
    NotWhole(#[from] NotWhole),
    #[error("The snapshot is not restored: {0}")]
    NotRestored(#[from] NotRestored),
    #[error("The server is stopping")]
    Stopping,
}

/// Restores what is sent, and says up to which transaction the server has come by it.
pub(super) async fn answer(
    context: &Context,
    restores: &Restores,
    figures: &Figures,
    body: Body,
    place: OwnedSemaphorePermit,
) -> Response {
    let begin = Instant::now();
    let restored = restore(context, restores, body).await;
    drop(place);
    match restored {
        Ok(Zxid(zxid)) => {
            figures.restore_time_ms.record(begin.elapsed().as_millis() as u64);
            // As in the original a number, and before the name.
            json(StatusCode::OK, told(NAME, "last_zxid", zxid), None)
        }
        Err(failed) => {
            figures.restore_errors.fetch_add(1, Relaxed);
            warn!("nothing was restored by the admin command: {failed}");
            framed(StatusCode::INTERNAL_SERVER_ERROR, NAME, Some(&failed.to_string()))
        }
    }
}

async fn restore(context: &Context, restores: &Restores, body: Body) -> Result<Zxid, Failed> {
    let file = Received(context.config.directories.snapshot_dir().join(names::received()));
    let floor = context.shared.settings.room.min_free_bytes;
    let bytes = receive(body, &file.0, floor).await?;
    let encoding = context.config.formats.ttl_encoding;
    let reading = tokio::task::spawn_blocking(move || {
        let tree = lone_snapshot::load(&RealDisk, &file.0, secret_seed(), encoding);
        // The tree is written once more, and may need the room.
        drop(file);
        tree
    });
    let tree = match reading.await {
        Ok(tree) => Box::new(tree?),
        Err(_) => return Err(Failed::Stopping),
    };
    let (nodes, last) = (tree.node_count(), Tree::last_zxid(&tree));
    info!(
        "a snapshot of {bytes} bytes with {nodes} nodes as of {last} came by the admin command, and is being restored"
    );
    Ok(restores.restore(&context.inputs, tree).await.ok_or(Failed::Stopping)??)
}

/// A file that is gone at the end.
#[derive(Debug)]
struct Received(PathBuf);

impl Drop for Received {
    fn drop(&mut self) {
        // What can't be removed now is removed at the next start, and is in nobody's way.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Writes what is sent into a file. Returns how many bytes that were.
async fn receive(mut body: Body, path: &Path, floor: u64) -> Result<u64, Failed> {
    let (portions, received) = mpsc::channel(WAITING);
    let target = path.to_owned();
    let writing = tokio::task::spawn_blocking(move || write(&target, floor, received));
    let sent = send(&mut body, portions).await;
    // What the disk says comes first: it is why nobody took the rest.
    let bytes = writing.await.map_err(|_| Failed::Stopping)??;
    sent.map(|()| bytes)
}

/// Hands on what is sent, no faster than the disk takes it, until it is over or nobody takes it.
async fn send(body: &mut Body, portions: mpsc::Sender<Bytes>) -> Result<(), Failed> {
    loop {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
        let frame = match tokio::time::timeout(SILENCE_LIMIT, frame).await {
            Err(_) => return Err(Failed::Cut(format!("nothing came for {SILENCE_LIMIT:?}"))),
            Ok(None) => return Ok(()),
            Ok(Some(frame)) => frame.map_err(|error| Failed::Cut(error.to_string()))?,
        };
        if let Ok(portion) = frame.into_data()
            && portions.send(portion).await.is_err()
        {
            return Ok(());
        }
    }
}

fn write(path: &Path, floor: u64, mut portions: mpsc::Receiver<Bytes>) -> Result<u64, Failed> {
    let failed = |error| Failed::Disk { path: path.to_owned(), error };
    // Left behind by a process that was killed in between. A new file: nobody else can lead this to another one.
    let _ = std::fs::remove_file(path);
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let (mut bytes, mut looked) = (0, None);
    while let Some(portion) = portions.blocking_recv() {
        if looked.is_none_or(|at| bytes >= at + LOOK_EVERY) {
            looked = Some(bytes);
            let is_full = |free| free < floor.saturating_add(LOOK_EVERY);
            if floor > 0 && disk::free_bytes(path).is_some_and(is_full) {
                return Err(Failed::NoRoom { path: path.to_owned(), floor });
            }
        }
        file.write_all(&portion).map_err(failed)?;
        bytes += portion.len() as u64;
    }
    Ok(bytes)
}
