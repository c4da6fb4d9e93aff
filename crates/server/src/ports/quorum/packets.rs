//! Reading the packets of a quorum connection: only where they end matters here, the replica decodes them.
//!
//! What always holds here: memory grows with what has arrived, never with what a length promises; a batch holds whole packets; a
//! packet of type SNAP is the last of its batch, because what follows it is no packet.

use std::io;

use rookeeper_proto::Zxid;
use rookeeper_proto::jute;
use rookeeper_proto::quorum::Extent;
use rookeeper_zab::LinkEnd;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Read at once, at least and at most.
const READ_BYTES: usize = 64 << 10;
const MAX_READ_BYTES: usize = 4 << 20;

/// Whole packets in the order in which they came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub packets: Vec<u8>,
    /// The last of them is SNAP: a snapshot follows as a raw stream.
    pub snapshot: Option<Zxid>,
}

/// Why there is no next packet.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("closed by the other side")]
    Closed,
    #[error("closed by the other side within a packet")]
    ClosedWithin,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("what was sent is not a packet of this protocol: {0}")]
    NotAPacket(#[from] jute::Error),
}

impl From<ReadError> for LinkEnd {
    fn from(error: ReadError) -> LinkEnd {
        match error {
            ReadError::Closed => LinkEnd::Closed,
            ReadError::ClosedWithin => LinkEnd::ClosedWithinPacket,
            ReadError::Io(error) => LinkEnd::Io(error.to_string()),
            ReadError::NotAPacket(error) => LinkEnd::NotAPacket(error),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct PacketReader {
    bytes: Vec<u8>,
}

impl PacketReader {
    /// The next packets, as many as have arrived, at least one. `limit_bytes` bounds the data of a packet.
    pub async fn next(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        limit_bytes: usize,
    ) -> Result<Batch, ReadError> {
        loop {
            if let Some(batch) = self.take(limit_bytes)? {
                return Ok(batch);
            }
            self.read_more(stream).await?;
        }
    }

    /// Bytes that were read and are no packet: the beginning of a raw stream.
    pub fn take_raw(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Gives back the bytes that came behind the end of a raw stream.
    pub fn put_back(&mut self, rest: &[u8]) {
        debug_assert!(self.bytes.is_empty());
        self.bytes.extend_from_slice(rest);
    }

    fn take(&mut self, limit_bytes: usize) -> Result<Option<Batch>, ReadError> {
        let (mut length, mut snapshot) = (0, None);
        while snapshot.is_none() {
            match Extent::of(&self.bytes[length..], limit_bytes) {
                Ok(Some(packet)) => {
                    length += packet.length;
                    snapshot = packet.snapshot;
                }
                Ok(None) => break,
                // The packets before it are still to be looked at.
                Err(_) if length > 0 => break,
                Err(error) => return Err(error.into()),
            }
        }
        if length == 0 {
            return Ok(None);
        }
        let rest = self.bytes.split_off(length);
        Ok(Some(Batch { packets: std::mem::replace(&mut self.bytes, rest), snapshot }))
    }

    async fn read_more(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Result<(), ReadError> {
        self.bytes.reserve(self.bytes.len().clamp(READ_BYTES, MAX_READ_BYTES));
        match stream.read_buf(&mut self.bytes).await? {
            0 if self.bytes.is_empty() => Err(ReadError::Closed),
            0 => Err(ReadError::ClosedWithin),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rookeeper_proto::quorum::QuorumPacket;

    fn bytes(packets: &[QuorumPacket<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        packets.iter().for_each(|packet| packet.append(&mut bytes));
        bytes
    }

    #[tokio::test]
    async fn batches_hold_whole_packets_and_end_with_a_snapshot() {
        let before = bytes(&[QuorumPacket::UpToDate, QuorumPacket::Snap { zxid: Zxid(7) }]);
        let after = bytes(&[QuorumPacket::Commit { zxid: Zxid(8) }, QuorumPacket::Sync]);
        let all = [before.clone(), b"raw".to_vec()].concat();
        let mut reader = PacketReader::default();
        let batch = reader.next(&mut &all[..], 100).await.unwrap();
        assert_eq!(batch, Batch { packets: before, snapshot: Some(Zxid(7)) });
        assert_eq!(reader.take_raw(), b"raw");
        reader.put_back(&after[..30]);
        let mut rest = &after[30..];
        let mut packets = reader.next(&mut rest, 100).await.unwrap().packets;
        assert_eq!(packets.len() % 20, 0);
        while packets.len() < after.len() {
            packets.extend(reader.next(&mut rest, 100).await.unwrap().packets);
        }
        assert_eq!(packets, after);
        assert!(matches!(reader.next(&mut rest, 100).await, Err(ReadError::Closed)));
    }

    #[tokio::test]
    async fn what_is_no_packet_is_an_error_after_the_packets_before_it() {
        let good = bytes(&[QuorumPacket::UpToDate]);
        let huge = [&5_i32.to_be_bytes()[..], &[0; 8], &i32::MAX.to_be_bytes(), &[0; 40]].concat();
        let all = [good.clone(), huge].concat();
        let mut input = &all[..];
        let mut reader = PacketReader::default();
        assert_eq!(reader.next(&mut input, 100).await.unwrap().packets, good);
        assert!(matches!(reader.next(&mut input, 100).await, Err(ReadError::NotAPacket(_))));
        let mut reader = PacketReader::default();
        assert!(matches!(reader.next(&mut &good[..19], 100).await, Err(ReadError::ClosedWithin)));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_packets_or_an_error(bytes: Vec<u8>) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (mut reader, mut input) = (PacketReader::default(), &bytes[..]);
                while let Ok(batch) = reader.next(&mut input, 1000).await {
                    reader.take_raw();
                    assert!(!batch.packets.is_empty());
                }
            });
        }
    }
}
