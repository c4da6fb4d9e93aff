//! The command `backup`: a snapshot that is taken now, and the log behind it, as one file of `tar` that unpacks into a directory `version-2`.
//!
//! A snapshot shows a part of what was changed while it was written. With the transactions of that time behind it, however many those are, every copy leads to
//! one moment.
//!
//! What always holds here: the copy has all transactions behind its snapshot up to one that is committed and durable; files that are removed or cut while they
//! are sent change nothing; the rest is as with `snapshot`, whose place it takes.

use std::io;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use rookeeper_proto::jute;
use rookeeper_proto::snapshot::FileHeader;
use rookeeper_store::log_slice::log_slices;
use rookeeper_store::{Directories, Disk as _, RealDisk, StoreError, names};
use tar::{EntryType, Header};
use tokio::sync::OwnedSemaphorePermit;
use tracing::{info, warn};

use super::file_body::{self, Piece};
use super::snapshot::{self, failed};
use crate::context::Context;
use crate::threads::snapshot_thread::{SnapshotRequests, Taken};

pub(super) const NAME: &str = "backup";

/// Where the files are in the copy.
const FOLDER: &str = "version-2";

/// Files in a `tar` begin at multiples of so many bytes.
const BLOCK: u64 = 512;

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
enum NotGathered {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Disk(#[from] io::Error),
    #[error("the thread that reads the files has ended")]
    Ended,
}

/// Takes a snapshot, and answers with it and the log behind it.
pub(super) async fn answer(context: &Context, requests: &SnapshotRequests, place: OwnedSemaphorePermit) -> Response {
    let taken = match snapshot::take(NAME, requests).await {
        Ok(taken) => taken,
        Err(refusal) => return refusal,
    };
    let places = &context.config.directories;
    let directories = Directories::new(&places.data_dir, &places.data_log_dir);
    let (zxid, logged) = (taken.snapshot.zxid, taken.logged);
    let gathering = tokio::task::spawn_blocking(move || gather(&directories, &taken));
    let pieces = match gathering.await.unwrap_or(Err(NotGathered::Ended)) {
        Ok(pieces) => pieces,
        Err(error) => {
            warn!("no copy was sent for the admin command backup, for its files can't be read: {error}");
            return failed(NAME, "The snapshot or the log behind it can't be read: the log of the server says why");
        }
    };
    let bytes: u64 = pieces.iter().map(Piece::length).sum();
    info!(
        "the snapshot of {zxid} and the log from it to {logged} are sent to whoever asked for them by the admin command backup: {bytes} bytes"
    );
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    for (name, zxid) in [("first_zxid", zxid), ("last_zxid", logged)] {
        if let Ok(value) = HeaderValue::from_str(&zxid.to_string()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    (headers, Body::new(file_body::read(pieces, place))).into_response()
}

/// The bytes of the copy. It blocks.
fn gather(directories: &Directories, taken: &Taken) -> Result<Vec<Piece>, NotGathered> {
    let mut pieces = Vec::new();
    let file = RealDisk.open_read(&taken.snapshot.path)?;
    let to = file.length()?;
    let name = taken.snapshot.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    add(&mut pieces, &name, vec![Piece::File { file, from: 0, to }])?;
    for slice in log_slices(&RealDisk, directories, taken.snapshot.zxid, taken.logged)? {
        // That of the file speaks of offsets in that file.
        let mut header = Vec::with_capacity(FileHeader::LENGTH);
        jute::append(&mut header, &FileHeader::LOG);
        let records = Piece::File { file: slice.file, from: slice.from, to: slice.to };
        add(&mut pieces, &names::log(slice.first), vec![Piece::Bytes(header), records])?;
    }
    pieces.push(Piece::Bytes(vec![0; 2 * BLOCK as usize]));
    Ok(pieces)
}

/// Adds a file.
fn add(pieces: &mut Vec<Piece>, name: &str, content: Vec<Piece>) -> io::Result<()> {
    let length: u64 = content.iter().map(Piece::length).sum();
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_path(format!("{FOLDER}/{name}"))?;
    header.set_mode(0o640);
    header.set_size(length);
    header.set_cksum();
    pieces.push(Piece::Bytes(header.as_bytes().to_vec()));
    pieces.extend(content);
    let padding = length.next_multiple_of(BLOCK) - length;
    pieces.push(Piece::Bytes(vec![0; padding as usize]));
    Ok(())
}
