//! A body that is read from files while it is sent.
//!
//! What always holds here: it is read a portion at a time, no faster than its reader takes it, by a thread that ends when nobody takes it any more; it is
//! as long as was announced, or breaks off.

use std::io;
use std::pin::Pin;
use std::task::{self, Poll};

use axum::body::Bytes;
use hyper::body::{Frame, SizeHint};
use rookeeper_store::DiskFile;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// How much is read at a time, in bytes.
pub(super) const PORTION: usize = 256 << 10;

/// Portions that wait for the reader.
const WAITING: usize = 2;

/// What a body is made of.
#[derive(Debug)]
pub(super) enum Piece {
    Bytes(Vec<u8>),
    /// The bytes of a file from one offset to another.
    File {
        file: Box<dyn DiskFile>,
        from: u64,
        to: u64,
    },
}

impl Piece {
    /// In bytes.
    pub fn length(&self) -> u64 {
        match self {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::File { from, to, .. } => to - from,
        }
    }
}

pub(super) struct FileBody {
    portions: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
}

/// Begins to read. The place is given back when all is read, or nobody takes the rest.
pub(super) fn read(pieces: Vec<Piece>, place: OwnedSemaphorePermit) -> FileBody {
    let left = pieces.iter().map(Piece::length).sum();
    let (sender, portions) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let _place = place;
        // Whoever has hung up takes no more.
        let _ = pieces.into_iter().try_for_each(|piece| send(piece, &sender));
    });
    FileBody { portions, left }
}

/// Nobody takes anything any more, or there is nothing more to send.
struct Over;

fn send(piece: Piece, sender: &mpsc::Sender<io::Result<Bytes>>) -> Result<(), Over> {
    let (file, mut from, to) = match piece {
        Piece::Bytes(bytes) => return sender.blocking_send(Ok(bytes.into())).map_err(|_| Over),
        Piece::File { file, from, to } => (file, from, to),
    };
    while from < to {
        let mut portion = vec![0; usize::try_from(to - from).unwrap_or(PORTION).min(PORTION)];
        let read = match file.read_at(&mut portion, from) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                portion.truncate(count);
                from += count as u64;
                Ok(Bytes::from(portion))
            }
            Err(error) => Err(error),
        };
        let failed = read.is_err();
        sender.blocking_send(read).map_err(|_| Over)?;
        if failed {
            return Err(Over);
        }
    }
    Ok(())
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

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use rookeeper_store::{Disk as _, RealDisk};
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn pieces_are_sent_as_they_are_and_the_place_is_free_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let bytes: Vec<u8> = (0..3 * PORTION + 7).map(|number| number as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let piece = |from, to| Piece::File { file: RealDisk.open_read(&path).unwrap(), from, to };
        let all = bytes.len() as u64;
        let (places, pieces) =
            (Arc::new(Semaphore::new(1)), vec![piece(0, all), Piece::Bytes(b"between".to_vec()), piece(5, 9)]);
        let body = Body::new(read(pieces, places.clone().try_acquire_owned().unwrap()));
        let expected = [&bytes, &b"between"[..], &bytes[5..9]].concat();
        assert!(axum::body::to_bytes(body, usize::MAX).await.unwrap() == expected);
        assert!(places.acquire().await.is_ok());
        // A file that became shorter does not pass for a whole one.
        let body = Body::new(read(vec![piece(0, all + 1)], places.clone().try_acquire_owned().unwrap()));
        assert!(axum::body::to_bytes(body, usize::MAX).await.is_err());
    }
}
