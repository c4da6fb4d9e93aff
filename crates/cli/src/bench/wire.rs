//! The few requests of a load generator, as bytes: connect, create, delete, exists, getData, getChildren, setData, a multi of these,
//! ping, closeSession; and answers to them,
//! for a server that keeps no state.
//!
//! What always holds: encoding appends one whole frame to a buffer that is reused; decoding borrows from the buffer it reads and
//! trusts no length in it. Numbers are big-endian; a buffer or string is its length and its bytes.
//!
//! Counterpart in the original: `ConnectRequest`, `RequestHeader`, `ReplyHeader` and the request records of `zookeeper.jute`.

use std::fmt;
use std::io::Write as _;

/// The xid of an answer to a ping.
pub(super) const PING_XID: i32 = -2;
/// The xid of a watch event.
pub(super) const EVENT_XID: i32 = -1;

/// Far more than any answer to these requests; a longer one is no answer of a ZooKeeper server.
const FRAME_BYTES_LIMIT: usize = 16 * 1024 * 1024;

const CREATE: i32 = 1;
const DELETE: i32 = 2;
const EXISTS: i32 = 3;
const GET_DATA: i32 = 4;
const SET_DATA: i32 = 5;
const GET_CHILDREN: i32 = 8;
const PING: i32 = 11;
const MULTI: i32 = 14;
const CLOSE_SESSION: i32 = -11;

/// The facts about a node of which nothing is known.
const STAT: [u8; 68] = [0; 68];

/// How a node is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Persistent = 0,
    PersistentSequential = 2,
}

/// What a server sent that is no answer to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a frame of {0} bytes: not a ZooKeeper server, or a port for TLS, which --tls-ca FILE speaks")]
    Length(i32),
    #[error("an answer that ends too early")]
    Short,
}

pub(super) fn connect(out: &mut Vec<u8>, session_timeout_ms: i32) {
    frame(out, |out| {
        int(out, 0); // protocol version
        out.extend_from_slice(&0_i64.to_be_bytes()); // last zxid seen
        int(out, session_timeout_ms);
        out.extend_from_slice(&0_i64.to_be_bytes()); // a new session
        buffer(out, &[0; 16]); // its password
        out.push(0); // not content with a read-only server
    });
}

pub(super) fn create(out: &mut Vec<u8>, xid: i32, path: fmt::Arguments<'_>, data: &[u8], mode: Mode) {
    request(out, xid, CREATE, |out| {
        string(out, path);
        buffer(out, data);
        int(out, 1); // one ACL entry: everyone may do everything
        int(out, 31);
        buffer(out, b"world");
        buffer(out, b"anyone");
        int(out, mode as i32);
    });
}

pub(super) fn delete(out: &mut Vec<u8>, xid: i32, path: fmt::Arguments<'_>) {
    request(out, xid, DELETE, |out| {
        string(out, path);
        int(out, -1); // any version
    });
}

pub(super) fn exists(out: &mut Vec<u8>, xid: i32, path: fmt::Arguments<'_>) {
    request(out, xid, EXISTS, |out| {
        string(out, path);
        out.push(0); // no watch
    });
}

pub(super) fn get_data(out: &mut Vec<u8>, xid: i32, path: fmt::Arguments<'_>) {
    request(out, xid, GET_DATA, |out| {
        string(out, path);
        out.push(0); // no watch
    });
}

/// getData that leaves a watch.
pub(super) fn watch_data(out: &mut Vec<u8>, xid: i32, path: fmt::Arguments<'_>) {
    request(out, xid, GET_DATA, |out| {
        string(out, path);
        out.push(1);
    });
}

/// A multi that empties the nodes `{parent}/0` up to `{parent}/{keys - 1}`.
pub(super) fn set_all(out: &mut Vec<u8>, xid: i32, parent: &str, keys: u32) {
    let header = |out: &mut Vec<u8>, operation: i32, is_end: bool| {
        int(out, operation);
        out.push(is_end.into());
        int(out, -1);
    };
    request(out, xid, MULTI, |out| {
        for key in 0..keys {
            header(out, SET_DATA, false);
            string(out, format_args!("{parent}/{key}"));
            buffer(out, b"");
            int(out, -1); // any version
        }
        header(out, -1, true);
    });
}

pub(super) fn get_children(out: &mut Vec<u8>, xid: i32, path: fmt::Arguments<'_>) {
    request(out, xid, GET_CHILDREN, |out| {
        string(out, path);
        out.push(0); // no watch
    });
}

pub(super) fn set_data(out: &mut Vec<u8>, xid: i32, path: fmt::Arguments<'_>, data: &[u8]) {
    request(out, xid, SET_DATA, |out| {
        string(out, path);
        buffer(out, data);
        int(out, -1); // any version
    });
}

pub(super) fn ping(out: &mut Vec<u8>) {
    request(out, PING_XID, PING, |_| {});
}

pub(super) fn close_session(out: &mut Vec<u8>, xid: i32) {
    request(out, xid, CLOSE_SESSION, |_| {});
}

fn request(out: &mut Vec<u8>, xid: i32, operation: i32, body: impl FnOnce(&mut Vec<u8>)) {
    frame(out, |out| {
        int(out, xid);
        int(out, operation);
        body(out);
    });
}

fn frame(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = reserve_length(out);
    body(out);
    fill_length(out, start);
}

fn string(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    let start = reserve_length(out);
    out.write_fmt(text).expect("writing to a Vec cannot fail");
    fill_length(out, start);
}

fn reserve_length(out: &mut Vec<u8>) -> usize {
    int(out, 0);
    out.len()
}

fn fill_length(out: &mut [u8], start: usize) {
    let length = (out.len() - start) as i32;
    out[start - 4..start].copy_from_slice(&length.to_be_bytes());
}

fn buffer(out: &mut Vec<u8>, bytes: &[u8]) {
    int(out, bytes.len() as i32);
    out.extend_from_slice(bytes);
}

fn int(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// The first frame of `input` without its length, and how many bytes it takes with it. `None` while it is incomplete.
pub(super) fn first_frame(input: &[u8]) -> Result<Option<(&[u8], usize)>, Malformed> {
    let Some((length, rest)) = input.split_first_chunk::<4>() else { return Ok(None) };
    let declared = i32::from_be_bytes(*length);
    let length = usize::try_from(declared).map_err(|_| Malformed::Length(declared))?;
    if length > FRAME_BYTES_LIMIT {
        return Err(Malformed::Length(declared));
    }
    Ok(rest.get(..length).map(|frame| (frame, 4 + length)))
}

/// The answer to a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply<'a> {
    pub(super) xid: i32,
    /// 0, or the number of a refusal.
    pub(super) error: i32,
    pub(super) body: &'a [u8],
}

impl Reply<'_> {
    pub(super) fn parse(frame: &[u8]) -> Result<Reply<'_>, Malformed> {
        let (xid, rest) = frame.split_first_chunk::<4>().ok_or(Malformed::Short)?;
        let (_zxid, rest) = rest.split_first_chunk::<8>().ok_or(Malformed::Short)?;
        let (error, body) = rest.split_first_chunk::<4>().ok_or(Malformed::Short)?;
        Ok(Reply { xid: i32::from_be_bytes(*xid), error: i32::from_be_bytes(*error), body })
    }

    pub(super) fn is_unasked(&self) -> bool {
        self.xid == EVENT_XID
    }

    /// The path in the answer to a create.
    pub(super) fn created_path(&self) -> Result<&str, Malformed> {
        let (length, rest) = self.body.split_first_chunk::<4>().ok_or(Malformed::Short)?;
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| Malformed::Short)?;
        let path = rest.get(..length).ok_or(Malformed::Short)?;
        std::str::from_utf8(path).map_err(|_| Malformed::Short)
    }
}

/// Whether the answer to [`connect`] gives a session.
pub(super) fn is_session(frame: &[u8]) -> Result<bool, Malformed> {
    let timeout = frame.get(4..8).ok_or(Malformed::Short)?;
    let session = frame.get(8..16).ok_or(Malformed::Short)?;
    Ok(timeout.iter().any(|byte| *byte != 0) && session.iter().any(|byte| *byte != 0))
}

/// A request as a server sees it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    xid: i32,
    operation: i32,
    body: &'a [u8],
}

impl Request<'_> {
    pub(super) fn parse(frame: &[u8]) -> Result<Request<'_>, Malformed> {
        let (xid, rest) = frame.split_first_chunk::<4>().ok_or(Malformed::Short)?;
        let (operation, body) = rest.split_first_chunk::<4>().ok_or(Malformed::Short)?;
        Ok(Request { xid: i32::from_be_bytes(*xid), operation: i32::from_be_bytes(*operation), body })
    }

    pub(super) fn is_write(&self) -> bool {
        matches!(self.operation, CREATE | DELETE | SET_DATA | CLOSE_SESSION)
    }
}

/// The answer to [`connect`].
pub(super) fn grant_session(out: &mut Vec<u8>, session_timeout_ms: i32) {
    frame(out, |out| {
        int(out, 0); // protocol version
        int(out, session_timeout_ms);
        out.extend_from_slice(&1_i64.to_be_bytes());
        buffer(out, &[0; 16]); // its password
        out.push(0); // no read-only server
    });
}

/// Says that a request was done. `value` is what every node holds.
pub(super) fn answer(out: &mut Vec<u8>, request: &Request<'_>, value: &[u8]) {
    frame(out, |out| {
        int(out, request.xid);
        out.extend_from_slice(&1_i64.to_be_bytes()); // zxid
        int(out, 0); // no error
        match request.operation {
            // The path, which stands first.
            CREATE => {
                let length = request.body.first_chunk::<4>().map_or(0, |length| i32::from_be_bytes(*length));
                let path = request.body.get(4..).unwrap_or_default();
                buffer(out, path.get(..usize::try_from(length).unwrap_or(0)).unwrap_or_default());
            }
            GET_DATA => {
                buffer(out, value);
                out.extend_from_slice(&STAT);
            }
            SET_DATA | EXISTS => out.extend_from_slice(&STAT),
            _ => {}
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out);
        let (frame, length) = first_frame(&out).unwrap().expect("a whole frame");
        assert_eq!((frame.len() + 4, length), (out.len(), out.len()));
        out
    }

    #[test]
    fn requests_have_the_bytes_of_the_protocol() {
        assert_eq!(encoded(|out| connect(out, 30_000)).len(), 49);
        assert_eq!(
            encoded(|out| get_data(out, 1, format_args!("/a{}", 7))),
            b"\0\0\0\x10\0\0\0\x01\0\0\0\x04\0\0\0\x03/a7\0"
        );
        assert_eq!(
            encoded(|out| set_data(out, 2, format_args!("/a"), b"xy")),
            b"\0\0\0\x18\0\0\0\x02\0\0\0\x05\0\0\0\x02/a\0\0\0\x02xy\xff\xff\xff\xff"
        );
        assert_eq!(
            encoded(|out| create(out, 3, format_args!("/a"), b"x", Mode::PersistentSequential)),
            b"\0\0\0\x32\0\0\0\x03\0\0\0\x01\0\0\0\x02/a\0\0\0\x01x\0\0\0\x01\0\0\0\x1f\0\0\0\x05world\0\0\0\x06anyone\0\0\0\x02"
        );
        assert_eq!(
            encoded(|out| delete(out, 4, format_args!("/a"))),
            b"\0\0\0\x12\0\0\0\x04\0\0\0\x02\0\0\0\x02/a\xff\xff\xff\xff"
        );
        assert_eq!(encoded(|out| exists(out, 5, format_args!("/a"))), b"\0\0\0\x0f\0\0\0\x05\0\0\0\x03\0\0\0\x02/a\0");
        assert_eq!(encoded(ping), b"\0\0\0\x08\xff\xff\xff\xfe\0\0\0\x0b");
        assert_eq!(encoded(|out| close_session(out, 6)), b"\0\0\0\x08\0\0\0\x06\xff\xff\xff\xf5");
    }

    #[test]
    fn incomplete_frames_wait_and_impossible_ones_are_refused() {
        assert_eq!(first_frame(b"\0\0"), Ok(None));
        assert_eq!(first_frame(b"\0\0\0\x02a"), Ok(None));
        assert_eq!(first_frame(b"\0\0\0\x02abc"), Ok(Some((&b"ab"[..], 6))));
        assert_eq!(first_frame(b"HTTP"), Err(Malformed::Length(0x4854_5450)));
        assert_eq!(first_frame(b"\xff\xff\xff\xff"), Err(Malformed::Length(-1)));
    }

    #[test]
    fn replies() {
        let reply = Reply::parse(b"\0\0\0\x01\0\0\0\0\0\0\0\x02\xff\xff\xff\x9b\0\0\0\x02/a").unwrap();
        assert_eq!((reply.xid, reply.error), (1, -101));
        assert_eq!(reply.created_path(), Ok("/a"));
        assert_eq!(Reply::parse(b"\0\0\0\x01"), Err(Malformed::Short));
        assert_eq!(Reply { body: b"\0\0\0\x09/a", ..reply }.created_path(), Err(Malformed::Short));
    }

    #[test]
    fn sessions_are_told_from_refusals() {
        let mut answer = vec![0; 37];
        assert_eq!(is_session(&answer), Ok(false));
        answer[6] = 1;
        answer[15] = 1;
        assert_eq!(is_session(&answer), Ok(true));
        assert_eq!(is_session(b"\0"), Err(Malformed::Short));
    }
}
