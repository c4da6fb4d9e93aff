//! What the registry knows, on disk, so that a restart of all servers at once forgets nothing. Off unless `registry.snapshot` names a directory.
//!
//! What always holds here: the file is replaced as a whole, after the new one is durable; a file that cannot be used is set aside and named, and the
//! registry starts without it; a disk that fails costs nothing but the snapshot.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rookeeper_registry::Snapshot;
use rookeeper_registry::encoding::{Remembered, read_snapshot};
use tokio::time::Instant;
use tracing::{info, warn};

use super::service::Service;

const NAME: &str = "registry.snapshot";
const PART: &str = "registry.snapshot.part";
const BAD: &str = "registry.snapshot.bad";

/// No honest file is longer: a registry holds less.
const MAX_BYTES: u64 = 2 << 30;

/// Instances that are remembered for longer are most likely gone.
const MAX_AGE_MS: i64 = 24 * 3600 * 1000;

/// Between the end of one writing and the next one, at least.
const EVERY: Duration = Duration::from_secs(5);

/// The disk is written to for at most so much of the time, as one part of so many.
const PART_OF_TIME: u32 = 20;

/// Reads what was known. None where nothing can be used.
pub(super) fn read(directory: &Path, service: &Service) -> Option<Remembered> {
    let path = directory.join(NAME);
    let bytes = match read_file(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            warn!("{} can't be read: {error}. The registry begins without what it knew", path.display());
            return None;
        }
    };
    let now = service.now();
    match read_snapshot(&bytes, now) {
        Ok(remembered) if now.wall_ms.saturating_sub(remembered.taken_ms) > MAX_AGE_MS => {
            info!("{} is older than a day and not used", path.display());
            None
        }
        Ok(remembered) => Some(remembered),
        Err(damaged) => {
            let aside = directory.join(BAD);
            let moved = match fs::rename(&path, &aside) {
                Ok(()) => format!("it is {} now", aside.display()),
                Err(error) => format!("it can't be set aside: {error}"),
            };
            warn!("{} is damaged: {damaged}; {moved}. The registry begins without what it knew", path.display());
            None
        }
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_BYTES {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {MAX_BYTES} bytes"))),
        false => Ok(bytes),
    }
}

/// Writes what is known whenever it has changed, for as long as the server runs.
pub(super) async fn keep(service: Arc<Service>, directory: PathBuf) {
    let (mut written, mut is_told) = (None, false);
    loop {
        let number = service.with(|registry, _| registry.is_open().then(|| registry.mark().number()));
        let begin = Instant::now();
        if number.is_some() && number != written {
            match write(&service, &directory).await {
                Ok(()) => {
                    written = number;
                    is_told = false;
                }
                Err(error) => {
                    if !is_told {
                        let path = directory.join(NAME);
                        warn!(
                            "{} can't be written: {error}. A restart of all registries would forget what changes",
                            path.display()
                        );
                    }
                    is_told = true;
                }
            }
        }
        tokio::time::sleep(EVERY.max(begin.elapsed() * PART_OF_TIME)).await;
    }
}

/// Writes what is known, durably.
pub(super) async fn write(service: &Service, directory: &Path) -> io::Result<()> {
    let mut snapshot = Snapshot::new(service.now());
    while !service.with(|registry, now| registry.snapshot(&mut snapshot, now)) {
        snapshot.write();
        if snapshot.len() as u64 > MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("there are more than {MAX_BYTES} bytes")));
        }
        tokio::task::yield_now().await;
    }
    // A writing that nobody waits for any more goes on to its end.
    let (directory, turn) = (directory.to_owned(), service.writing.clone());
    let writing = tokio::task::spawn_blocking(move || {
        let _turn = turn.lock();
        replace(&directory, &snapshot.finish())
    });
    writing.await.map_err(io::Error::other)?
}

fn replace(directory: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let part = directory.join(PART);
    let mut file = File::create(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, directory.join(NAME))?;
    File::open(directory)?.sync_all()
}
