//! The command `snapshot`: takes a snapshot into the data directory, as the server itself does from time to time, and sends the file.
//!
//! What always holds here: one snapshot is taken and sent at a time; a file that is being sent is read a portion at a time, no faster than its reader takes
//! it; a snapshot that can't be taken is told of, and the server goes on.

use std::fs::File;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Frame;
use parking_lot::Mutex;
use rookeeper_store::WrittenSnapshot;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::{info, warn};

use super::{Refused, framed};
use crate::threads::snapshot_thread::{NotTaken, SnapshotRequests};

const NAME: &str = "snapshot";

/// How much is read at a time, in bytes.
const PORTION: usize = 256 << 10;

/// Portions that wait for the reader.
const WAITING: usize = 2;

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

/// Takes a snapshot, and answers with the file where that is wanted.
pub(super) async fn answer(requests: &SnapshotRequests, streams: bool, place: OwnedSemaphorePermit) -> Response {
    let failed = |why: &str| framed(StatusCode::INTERNAL_SERVER_ERROR, NAME, Some(why));
    let Ok(taken) = requests.request_now().await else { return failed("The server is stopping") };
    let written = match taken {
        Ok(written) => written,
        Err(NotTaken::GivenUp) => {
            return failed(
                "The snapshot was given up: this server does not follow or lead any more, or serves another tree",
            );
        }
        Err(NotTaken::Failed(why)) => {
            warn!("no snapshot was taken for the admin command: {why}");
            return failed("The snapshot can't be written: the log of the server says why");
        }
    };
    let opened = tokio::task::spawn_blocking(move || open(&written)).await.map_err(io::Error::other).flatten();
    let (file, length, zxid) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            warn!("a snapshot that was taken for the admin command can't be read: {error}");
            return failed("The snapshot can't be read: the log of the server says why");
        }
    };
    let mut response = match streams {
        true => ([(CONTENT_TYPE, "application/octet-stream")], Body::new(read(file, length, place))).into_response(),
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

fn open(written: &WrittenSnapshot) -> io::Result<(File, u64, i64)> {
    let file = File::open(&written.path)?;
    let length = file.metadata()?.len();
    info!("the snapshot of {} is told to whoever asked for it by the admin command: {length} bytes", written.zxid);
    Ok((file, length, written.zxid.0))
}

/// A body that is read from a file on a thread of its own.
struct FileBody {
    portions: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
}

fn read(mut file: File, length: u64, place: OwnedSemaphorePermit) -> FileBody {
    let (sender, portions) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let _place = place;
        let mut left = length;
        while left > 0 {
            let mut portion = vec![0; PORTION.min(usize::try_from(left).unwrap_or(PORTION))];
            let read = file.read_exact(&mut portion).map(|()| Bytes::from(portion));
            left -= read.as_ref().map_or(left, |portion| portion.len() as u64);
            // Nobody listens any more.
            if sender.blocking_send(read).is_err() {
                return;
            }
        }
    });
    FileBody { portions, left: length }
}

impl hyper::body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.portions.poll_recv(context).map(|portion| {
            let portion = portion?;
            if let Ok(bytes) = &portion {
                self.left -= bytes.len() as u64;
            }
            Some(portion.map(Frame::data))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_sent_as_it_is_and_its_place_is_free_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let bytes: Vec<u8> = (0..3 * PORTION + 7).map(|number| number as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let snapshots = Snapshots::new(true, 0);
        let place = snapshots.admit(Instant::now(), &AtomicU64::new(0)).unwrap();
        let body = Body::new(read(File::open(&path).unwrap(), bytes.len() as u64, place));
        assert!(axum::body::to_bytes(body, usize::MAX).await.unwrap() == bytes);
        assert!(snapshots.place.acquire().await.is_ok());
    }

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
