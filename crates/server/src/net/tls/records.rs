//! An encrypted connection of a client, on which each frame has records of its own.
//!
//! kazoo waits for its socket also where frames that have arrived wait in its TLS library: of several frames in one record it takes the first, and
//! the others only when something else arrives. The original encrypts each answer by itself, so it never meets that; here many are sent with
//! one call, each in its own record. What always holds: bytes leave in their order, and what is no frame leaves as well.

use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

#[derive(Debug)]
pub(crate) struct FrameRecords {
    stream: TlsStream<TcpStream>,
    frames: Frames,
}

/// Where in a frame the bytes are that were written last.
#[derive(Debug, Default)]
struct Frames {
    /// As far as it has been seen, the length in front of a frame.
    length: [u8; 4],
    seen: usize,
    /// What is left of the frame.
    left: usize,
}

impl Frames {
    /// How many of these bytes belong to the frame that is under way, or that they begin with.
    fn first(&self, bytes: &[u8]) -> usize {
        if self.left > 0 {
            return self.left.min(bytes.len());
        }
        let mut length = self.length;
        let more = (4 - self.seen).min(bytes.len());
        length[self.seen..self.seen + more].copy_from_slice(&bytes[..more]);
        if self.seen + more < 4 {
            return more;
        }
        more.saturating_add(u32::from_be_bytes(length) as usize).min(bytes.len())
    }

    /// Goes on by bytes of one frame.
    fn go_on(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let taken = self.left.min(bytes.len());
                self.left -= taken;
                bytes = &bytes[taken..];
                continue;
            }
            self.length[self.seen] = bytes[0];
            self.seen += 1;
            bytes = &bytes[1..];
            if self.seen == 4 {
                self.left = u32::from_be_bytes(self.length) as usize;
                self.seen = 0;
            }
        }
    }
}

impl FrameRecords {
    pub fn new(stream: TlsStream<TcpStream>) -> FrameRecords {
        FrameRecords { stream, frames: Frames::default() }
    }
}

impl AsyncRead for FrameRecords {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for FrameRecords {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let FrameRecords { stream, frames } = self.get_mut();
        let mut taken = 0;
        loop {
            let (_, connection) = stream.get_mut();
            while taken < bytes.len() {
                let rest = &bytes[taken..];
                let count = connection.writer().write(&rest[..frames.first(rest)])?;
                if count == 0 {
                    // There is no more room for what is encrypted and not sent.
                    break;
                }
                frames.go_on(&rest[..count]);
                taken += count;
            }
            let flushed = Pin::new(&mut *stream).poll_flush(context)?;
            if taken > 0 || bytes.is_empty() {
                return Poll::Ready(Ok(taken));
            }
            ready!(flushed);
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts in which bytes are written that come in pieces of this size.
    fn parts(bytes: &[u8], piece: usize) -> Vec<usize> {
        let mut frames = Frames::default();
        let mut parts = Vec::new();
        for mut rest in bytes.chunks(piece) {
            while !rest.is_empty() {
                let first = frames.first(rest);
                assert!(first > 0);
                frames.go_on(&rest[..first]);
                parts.push(first);
                rest = &rest[first..];
            }
        }
        parts
    }

    #[test]
    fn each_frame_is_a_part_of_its_own() {
        let frames = [&[0, 0, 0, 2, 1, 2][..], &[0, 0, 0, 0], &[0, 0, 0, 5, 1, 2, 3, 4, 5]].concat();
        assert_eq!(parts(&frames, frames.len()), [6, 4, 9]);
        // However they come, no part has bytes of two frames.
        for piece in 1..frames.len() {
            let mut end = 0;
            for part in parts(&frames, piece) {
                let begin = end;
                end += part;
                assert!(
                    [6, 10, 19].iter().all(|boundary| !(begin < *boundary && *boundary < end)),
                    "{piece}: {begin}..{end}"
                );
            }
            assert_eq!(end, frames.len());
        }
    }

    #[test]
    fn what_is_no_frame_leaves_as_well() {
        assert_eq!(parts(b"Zookeeper version: 3.9", 100), [22]);
        assert_eq!(parts(b"imok", 100), [4]);
        assert_eq!(parts(b"im", 100), [2]);
    }
}
