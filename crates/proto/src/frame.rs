//! Frames: a four-byte length, then that many bytes; and the headers inside.

use rookeeper_jute as jute;
use serde::{Deserialize, Serialize};

use crate::ids::Zxid;

/// `jute.maxbuffer` where nothing is configured: the largest frame accepted from a client, in bytes.
pub const DEFAULT_MAX_BUFFER_BYTES: usize = 0xf_ffff;

/// What a client puts in front of every request but the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestHeader {
    /// The client's number for the request, repeated by the reply. Negative ones have a meaning, such as [`PING_XID`].
    pub xid: i32,
    /// The number of an [`OpCode`](crate::OpCode), or no such number.
    pub op: i32,
}

impl RequestHeader {
    /// In bytes.
    pub const LENGTH: usize = 8;

    /// Splits the header from the body; `None` where the frame is too short for one.
    pub fn split(frame: &[u8]) -> Option<(RequestHeader, &[u8])> {
        let (xid, rest) = frame.split_first_chunk::<4>()?;
        let (op, body) = rest.split_first_chunk::<4>()?;
        Some((RequestHeader { xid: i32::from_be_bytes(*xid), op: i32::from_be_bytes(*op) }, body))
    }
}

/// What a server puts in front of every reply but the first, and of every notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyHeader {
    /// That of the request; -1 in front of a notification.
    pub xid: i32,
    /// Of a write, its own transaction; of a read, the last one that was applied.
    pub zxid: Zxid,
    /// 0, or the number of an [`ErrorCode`](crate::ErrorCode), without a body then.
    pub err: i32,
}

/// Requests with one of these xids do not count as outstanding.
pub const PING_XID: i32 = -2;

/// A length prefix outside what is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("packet length {length} is not within 0..={limit_bytes} (jute.maxbuffer)")]
pub struct FrameTooLarge {
    pub length: i32,
    pub limit_bytes: usize,
}

/// Finds the first frame in `bytes`: its payload and how many bytes it takes with its prefix. `None`: more bytes are needed.
pub fn split(bytes: &[u8], limit_bytes: usize) -> Result<Option<(&[u8], usize)>, FrameTooLarge> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = i32::from_be_bytes(*prefix);
    match usize::try_from(length) {
        Ok(payload_length) if payload_length <= limit_bytes => {
            Ok(rest.get(..payload_length).map(|payload| (payload, 4 + payload_length)))
        }
        _ => Err(FrameTooLarge { length, limit_bytes }),
    }
}

/// Appends a frame whose payload `write` produces.
pub fn append(output: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = output.len();
    output.extend_from_slice(&[0; 4]);
    write(output);
    let length = (output.len() - start - 4) as u32;
    output[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Appends a reply: header and, where there is one, the body.
pub fn append_reply<T: Serialize + ?Sized>(output: &mut Vec<u8>, header: ReplyHeader, body: Option<&T>) {
    append(output, |output| {
        output.extend_from_slice(&header.xid.to_be_bytes());
        output.extend_from_slice(&header.zxid.0.to_be_bytes());
        output.extend_from_slice(&header.err.to_be_bytes());
        if let Some(body) = body {
            jute::append(output, body);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_split_at_their_length() {
        assert_eq!(split(&[0, 0, 0], 9), Ok(None));
        assert_eq!(split(&[0, 0, 0, 2, 7], 9), Ok(None));
        assert_eq!(split(&[0, 0, 0, 2, 7, 8, 9], 9), Ok(Some((&[7u8, 8][..], 6))));
        assert_eq!(split(&[0, 0, 0, 10], 9), Err(FrameTooLarge { length: 10, limit_bytes: 9 }));
        assert_eq!(split(&[0xff; 4], 9), Err(FrameTooLarge { length: -1, limit_bytes: 9 }));
    }

    #[test]
    fn an_error_reply_has_no_body() {
        let mut output = Vec::new();
        append_reply::<()>(&mut output, ReplyHeader { xid: 1, zxid: Zxid(2), err: -101 }, None);
        assert_eq!(output, [0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0xff, 0xff, 0xff, 0x9b]);
    }
}
