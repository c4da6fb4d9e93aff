//! One question to an admin port, and the answer as it comes: HTTP/1.0, so that the answer is one piece that ends with the connection.
//!
//! What always holds: no more is read than is asked for, and no more of a head or of a text than a limit; whoever is silent is given up.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rookeeper_store::Disk;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::dialler::{Dialler, Socket};

/// For the text of a refusal.
const TEXT_LIMIT: Duration = Duration::from_secs(10);
/// A server writes its snapshot before the first byte comes.
const SILENCE_LIMIT: Duration = Duration::from_secs(600);
/// Of the head of an answer, and of a text, in bytes.
const MAX_TEXT_BYTES: usize = 64 << 10;
const BLOCK: usize = 256 << 10;
/// A file is synced in portions of this many bytes.
const SYNC_EVERY: u64 = 8 << 20;

/// An answer whose head has come.
#[derive(Debug)]
pub struct Answer {
    /// Of HTTP; 0 where it was none.
    pub status: u16,
    head: String,
    /// Came together with the head.
    first: Vec<u8>,
    stream: Socket,
}

impl Answer {
    /// Asks what is behind a path. `authorization` is the value of that header, and one line.
    pub async fn get(dialler: &Dialler, address: &str, path: &str, authorization: Option<&str>) -> Result<Answer> {
        let mut request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n");
        if let Some(authorization) = authorization {
            request += &format!("Authorization: {authorization}\r\n");
        }
        request += "\r\n";
        let mut stream = dialler.dial(address).await?;
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            ensure!(bytes.len() < MAX_TEXT_BYTES, "the answer is not one of HTTP");
            let mut block = [0; 4096];
            let count =
                timeout(SILENCE_LIMIT, stream.read(&mut block)).await.context("no answer within ten minutes")?;
            let count = count.context("no answer; a port with TLS is named by https://")?;
            ensure!(count > 0, "the connection ended before an answer; a port with TLS is named by https://");
            bytes.extend_from_slice(&block[..count]);
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let first = bytes.split_off(end + 4);
        let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Ok(Answer { status, head, first, stream })
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let headers = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let mut values =
            headers.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
        values.next()
    }

    /// The value of a header that is a zxid in hex.
    pub fn zxid(&self, name: &str) -> Option<rookeeper_proto::Zxid> {
        let zxid = i64::from_str_radix(self.header(name)?.strip_prefix("0x")?, 16).ok()?;
        Some(rookeeper_proto::Zxid(zxid)).filter(|zxid| *zxid >= rookeeper_proto::Zxid::ZERO)
    }

    /// All that stands behind the head, in JSON; nothing where it is something else.
    pub async fn json(self) -> serde_json::Value {
        let Answer { mut first, stream, .. } = self;
        let limited = stream.take(MAX_TEXT_BYTES as u64);
        // Not every server says good-bye before it closes.
        let _ = timeout(TEXT_LIMIT, { limited }.read_to_end(&mut first)).await;
        serde_json::from_slice(&first).unwrap_or_default()
    }

    /// Reads so many bytes.
    pub async fn read_exact(&mut self, buffer: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            filled += self.read(&mut buffer[filled..]).await?;
        }
        Ok(())
    }

    /// Reads some bytes, one at least.
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if !self.first.is_empty() {
            let count = self.first.len().min(buffer.len());
            buffer[..count].copy_from_slice(&self.first[..count]);
            self.first.drain(..count);
            return Ok(count);
        }
        let count =
            timeout(SILENCE_LIMIT, self.stream.read(buffer)).await.context("nothing came for ten minutes")??;
        ensure!(count > 0, "the connection ended before everything had come");
        Ok(count)
    }

    /// Writes the next bytes into a new file, durably.
    pub async fn receive(&mut self, disk: &dyn Disk, size: u64, path: &Path) -> Result<()> {
        let failed = || format!("can't write {}", path.display());
        let mut file = disk.create(path).with_context(failed)?;
        let (mut received, mut synced, mut block) = (0, 0, vec![0; BLOCK]);
        while received < size {
            let wanted = usize::try_from(size - received).unwrap_or(BLOCK).min(BLOCK);
            let read = self.read(&mut block[..wanted]).await;
            let count = read.with_context(|| format!("after {received} of {size} bytes"))?;
            file.write_at(&block[..count], received).with_context(failed)?;
            received += count as u64;
            if received - synced >= SYNC_EVERY {
                file.sync_data().with_context(failed)?;
                synced = received;
            }
        }
        file.sync_data().with_context(failed)
    }
}
