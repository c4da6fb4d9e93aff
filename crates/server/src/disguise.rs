//! What else speaks to the client port: named, because "a frame of 1195725856 bytes" helps nobody to find a probe that is aimed wrongly.

/// What the first bytes of a connection are that are no frame of a client; nothing where they may be anything.
pub(crate) fn recognized(bytes: &[u8]) -> &'static str {
    const METHODS: [&[u8]; 9] = [b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"OPTI", b"CONN", b"PATC", b"PRI "];
    if METHODS.iter().any(|method| bytes.starts_with(method)) {
        ": these bytes are HTTP, which is not spoken here; a health check can send srvr, or connect and close"
    } else if bytes.starts_with(&[0x16, 0x03]) {
        ": these bytes begin TLS, which this port does not speak; the client must connect without it"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_and_tls_are_told_from_frames() {
        assert!(recognized(b"GET / HTTP/1.1\r\n").contains("HTTP"));
        assert!(recognized(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).contains("TLS"));
        for frame in [&[0, 0, 0, 45][..], &[0x7f, 0xff, 0xff, 0xff], b"", b"GE"] {
            assert_eq!(recognized(frame), "");
        }
    }
}
