//! The command `snapshot`: takes a snapshot into the data directory, as the server itself does from time to time, and sends the file.
//!
//! What always holds here: one snapshot is taken and sent at a time; a file that is being sent is read a portion at a time, no faster than its reader takes
//! it; a snapshot that can't be taken is told of, and the server goes on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use parking_lot::Mutex;
use rookeeper_store::{Disk as _, DiskFile, RealDisk, WrittenSnapshot};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{info, warn};

use super::file_body::{self, Piece};
use super::{Refused, framed};
use crate::threads::snapshot_thread::{NotTaken, SnapshotRequests, Taken};

const NAME: &str = "snapshot";

/// How snapshots are asked for.
#[derive(Debug)]
pub(super) struct Snapshots {
    is_enabled: bool,
    /// Between two of them.
    interval: Duration,
    last: Mutex<Option<Instant>>,
    place: Arc<Semaphore>,
}

impl Snapshots {
    /// As in the original, whose interval is meant in milliseconds and is taken for microseconds.
    pub fn new(is_enabled: bool, interval_ms: u64) -> Snapshots {
        let interval = Duration::from_micros(interval_ms);
        Snapshots { is_enabled, interval, last: Mutex::new(None), place: Arc::new(Semaphore::new(1)) }
    }

    /// Whether there may be one now.
    pub fn admit(&self, now: Instant, rate_limited: &AtomicU64) -> Result<OwnedSemaphorePermit, Refused> {
        if !self.is_enabled {
            return Err(refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "The command snapshot is disabled (admin.snapshot.enabled)",
            ));
        }
        let mut last = self.last.lock();
        let is_early = last.is_some_and(|last| now.saturating_duration_since(last) < self.interval);
        let place = self.place.clone().try_acquire_owned().ok().filter(|_| !is_early);
        let Some(place) = place else {
            rate_limited.fetch_add(1, Relaxed);
            return Err(refused(
                StatusCode::TOO_MANY_REQUESTS,
                "A snapshot was just taken, or is being taken or sent: ask again later",
            ));
        };
        *last = Some(now);
        Ok(place)
    }
}

fn refused(status: StatusCode, why: &'static str) -> Refused {
    Refused { status, why }
}

/// Takes a snapshot for a command, or says why there is none.
pub(super) async fn take(command: &str, requests: &SnapshotRequests) -> Result<Taken, Response> {
    let Ok(taken) = requests.request_now().await else { return Err(failed(command, "The server is stopping")) };
    taken.map_err(|why| match why {
        NotTaken::GivenUp => failed(
            command,
            "The snapshot was given up: this server does not follow or lead any more, or serves another tree",
        ),
        NotTaken::Failed(why) => {
            warn!("no snapshot was taken for the admin command {command}: {why}");
            failed(command, "The snapshot can't be written: the log of the server says why")
        }
    })
}

/// The answer to a command that came to nothing.
pub(super) fn failed(command: &str, why: &str) -> Response {
    framed(StatusCode::INTERNAL_SERVER_ERROR, command, Some(why))
}

/// Takes a snapshot, and answers with the file where that is wanted.
pub(super) async fn answer(requests: &SnapshotRequests, streams: bool, place: OwnedSemaphorePermit) -> Response {
    let written = match take(NAME, requests).await {
        Ok(taken) => taken.snapshot,
        Err(refusal) => return refusal,
    };
    let opened = tokio::task::spawn_blocking(move || open(&written)).await.map_err(io::Error::other).flatten();
    let (file, length, zxid) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            warn!("a snapshot that was taken for the admin command can't be read: {error}");
            return failed(NAME, "The snapshot can't be read: the log of the server says why");
        }
    };
    let mut response = match streams {
        true => {
            let body = file_body::read(vec![Piece::File { file, from: 0, to: length }], place);
            ([(CONTENT_TYPE, "application/octet-stream")], Body::new(body)).into_response()
        }
        false => framed(StatusCode::OK, NAME, None),
    };
    let headers = [("last_zxid", format!("0x{zxid:x}")), ("snapshot_size", length.to_string())];
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

fn open(written: &WrittenSnapshot) -> io::Result<(Box<dyn DiskFile>, u64, i64)> {
    let file = RealDisk.open_read(&written.path)?;
    let length = file.length()?;
    info!("the snapshot of {} is told to whoever asked for it by the admin command: {length} bytes", written.zxid);
    Ok((file, length, written.zxid.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_taken_one_after_the_other_and_not_too_often() {
        let (snapshots, limited, begin) = (Snapshots::new(true, 300_000), AtomicU64::new(0), Instant::now());
        let at = |ms| begin + Duration::from_millis(ms);
        let first = snapshots.admit(at(0), &limited).unwrap();
        // The first one is still being sent.
        assert_eq!(snapshots.admit(at(1000), &limited).unwrap_err().status, StatusCode::TOO_MANY_REQUESTS);
        drop(first);
        drop(snapshots.admit(at(1000), &limited).unwrap());
        assert_eq!(snapshots.admit(at(1299), &limited).unwrap_err().status, StatusCode::TOO_MANY_REQUESTS);
        assert!(snapshots.admit(at(1300), &limited).is_ok());
        assert_eq!(limited.into_inner(), 2);
        let disabled = Snapshots::new(false, 0);
        assert_eq!(disabled.admit(begin, &AtomicU64::new(0)).unwrap_err().status, StatusCode::SERVICE_UNAVAILABLE);
    }
}
