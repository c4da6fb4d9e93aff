//! A connection of the election port: the initial message, then frames.
//!
//! Memory is taken only for bytes that have arrived. Reading and writing may be cancelled at any await: what was read or written so
//! far is kept.

use std::io;
use std::time::Duration;

use rookeeper_proto::election::{InitialMessage, MAX_NOTIFICATION_BYTES, Notification};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::auth::between_servers::Proofs;
use crate::net::proof;
use crate::net::stream::{self, PeerStream, Reading, Writing};

/// Asked for from the socket at once.
const READ_BYTES: usize = 4 << 10;

/// Both halves of a connection after its initial message.
#[derive(Debug)]
pub(super) struct Link {
    pub reader: FrameReader,
    pub writer: FrameWriter,
}

impl Link {
    /// The connection as a whole, for its end.
    pub fn into_stream(self) -> Option<PeerStream> {
        stream::whole(self.reader.half, self.writer.half)
    }

    /// A connection on which both sides have said who they are.
    /// Demands a proof of the other end, if there is anything to demand, after its initial message.
    pub async fn demand_proof(&mut self, auth: &Proofs, limit: Duration) -> Result<Option<String>, String> {
        let FrameReader { half, buffer } = &mut self.reader;
        proof::demand(auth, limit, half, &mut self.writer.half, buffer).await
    }

    pub fn new(stream: PeerStream) -> Link {
        let (reader, writer) = stream::split(stream);
        Link {
            reader: FrameReader { half: reader, buffer: Vec::new() },
            writer: FrameWriter { half: writer, frame: Vec::new(), sent: 0, is_flushed: true },
        }
    }
}

/// The whole message in one write: the original reads it with one read.
pub(super) async fn introduce(stream: &mut PeerStream, message: &InitialMessage) -> io::Result<()> {
    let mut bytes = Vec::new();
    message.append(&mut bytes);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// The content of a frame.
#[derive(Debug)]
pub(super) enum Received {
    Notification(Notification),
    /// Passed over, as the original does.
    Unreadable(String),
}

#[derive(Debug)]
pub(super) struct FrameReader {
    half: Reading,
    buffer: Vec<u8>,
}

impl FrameReader {
    /// Reads the first message of a connection. Bytes behind it stay in the buffer.
    pub async fn initial_message(&mut self) -> io::Result<InitialMessage> {
        loop {
            let split = InitialMessage::split(&self.buffer).map_err(invalid)?;
            if let Some((message, length)) = split {
                self.buffer.drain(..length);
                return Ok(message);
            }
            self.read().await?;
        }
    }

    /// The next notification, or what stands in its place. An error where the connection ends or sends what is no frame. May be cancelled.
    pub async fn receive(&mut self) -> io::Result<Received> {
        loop {
            if let Some((length, rest)) = self.buffer.split_first_chunk::<4>() {
                let length = i32::from_be_bytes(*length);
                let length = usize::try_from(length)
                    .ok()
                    .filter(|length| (1..=MAX_NOTIFICATION_BYTES).contains(length))
                    .ok_or_else(|| invalid(format!("a frame of {length} bytes")))?;
                if let Some(payload) = rest.get(..length) {
                    let received = match Notification::decode(payload) {
                        Ok(notification) => Received::Notification(notification),
                        Err(error) => Received::Unreadable(error.to_string()),
                    };
                    self.buffer.drain(..4 + length);
                    self.buffer.shrink_to(READ_BYTES);
                    return Ok(received);
                }
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        self.buffer.reserve(READ_BYTES);
        match self.half.read_buf(&mut self.buffer).await? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the other end")),
            _ => Ok(()),
        }
    }
}

fn invalid(why: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

#[derive(Debug)]
pub(super) struct FrameWriter {
    half: Writing,
    frame: Vec<u8>,
    sent: usize,
    /// Whether what was written has left an encrypted connection, too.
    is_flushed: bool,
}

impl FrameWriter {
    /// Whether nothing is left to send.
    pub fn is_idle(&self) -> bool {
        self.sent == self.frame.len() && self.is_flushed
    }

    /// Makes this the frame to send; the one before must be out.
    pub fn begin(&mut self, notification: &Notification) {
        assert!(self.is_idle(), "a frame is cut short");
        self.frame.clear();
        self.frame.extend([0; 4]);
        notification.append(&mut self.frame);
        let length = (self.frame.len() - 4) as u32;
        self.frame[..4].copy_from_slice(&length.to_be_bytes());
        self.sent = 0;
        self.is_flushed = false;
    }

    /// Returns when the frame is handed over to the system.
    pub async fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.frame.len() {
            self.sent += self.half.write(&self.frame[self.sent..]).await?;
        }
        self.half.flush().await?;
        self.is_flushed = true;
        Ok(())
    }
}
