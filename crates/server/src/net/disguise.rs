//! What else speaks to the client port: named, because "a frame of 1195725856 bytes" helps nobody to find a probe that is aimed wrongly.

use std::fmt;

/// What the first bytes of a connection are that are no frame of a client; nothing where they may be anything.
pub(crate) fn recognized(bytes: &[u8]) -> Option<&'static str> {
    const METHODS: [&[u8]; 9] = [b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"OPTI", b"CONN", b"PATC", b"PRI "];
    if METHODS.iter().any(|method| bytes.starts_with(method)) {
        Some("it speaks HTTP, which is not spoken here; a health check can send srvr, or connect and close")
    } else if bytes.starts_with(&[0x16, 0x03]) {
        Some("it speaks TLS, which this port does not speak; the client must connect without TLS")
    } else {
        None
    }
}

/// Why a connection is closed: what was recognized, for the length of a frame that is none would lead astray.
pub(crate) fn cause(end: &dyn fmt::Display, recognized: Option<&'static str>) -> String {
    recognized.map_or_else(|| end.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_and_tls_are_told_from_frames() {
        let end = "packet length 1195725856 is not within 0..=1048575";
        assert!(cause(&end, recognized(b"GET / HTTP/1.1\r\n")).starts_with("it speaks HTTP"));
        assert!(cause(&end, recognized(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01])).starts_with("it speaks TLS"));
        for frame in [&[0, 0, 0, 45][..], &[0x7f, 0xff, 0xff, 0xff], b"", b"GE"] {
            assert_eq!(cause(&end, recognized(frame)), end);
        }
    }
}
