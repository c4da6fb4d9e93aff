//! PEM: text with certificates, keys and lists of revoked certificates between lines of dashes.
//!
//! What always holds here: the text between the parts is skipped, whatever it is; a part that was begun and not ended is an error, for half a
//! file is no file.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Problem;

/// What stands between `BEGIN` and `END`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub label: String,
    pub bytes: Vec<u8>,
}

/// All parts of the text, in their order.
pub(super) fn sections(text: &[u8]) -> Result<Vec<Section>, Problem> {
    let text = String::from_utf8_lossy(text);
    let mut sections = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let Some(label) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) else {
            continue;
        };
        let end = format!("-----END {label}-----");
        let mut encoded = String::new();
        loop {
            match lines.next() {
                None => return Err(Problem::Malformed("a part of the PEM file has no END line")),
                Some(line) if line == end => break,
                Some(line) if line.contains(':') => {
                    return Err(Problem::Unsupported(
                        "a key encrypted in the old way of OpenSSL (Proc-Type); convert it: openssl pkcs8 -topk8 -in OLD -out NEW"
                            .to_owned(),
                    ));
                }
                Some(line) => encoded.push_str(line),
            }
        }
        let bytes = STANDARD.decode(encoded).map_err(|_| Problem::Malformed("a part of the PEM file is not base64"))?;
        sections.push(Section { label: label.to_owned(), bytes });
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_among_other_text() {
        let text = b"Bag Attributes\n-----BEGIN CERTIFICATE-----\r\nAQ\r\nID\r\n-----END CERTIFICATE-----\nand\n-----BEGIN X-----\n-----END X-----";
        let section = |label: &str, bytes: &[u8]| Section { label: label.to_owned(), bytes: bytes.to_vec() };
        assert_eq!(sections(text).unwrap(), [section("CERTIFICATE", &[1, 2, 3]), section("X", &[])]);
        assert_eq!(sections(b"").unwrap(), []);
    }

    #[test]
    fn half_a_part_and_the_old_encryption_are_refused() {
        let cut = b"-----BEGIN CERTIFICATE-----\nAQID\n";
        assert_eq!(sections(cut), Err(Problem::Malformed("a part of the PEM file has no END line")));
        let wrong = b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----";
        assert_eq!(sections(wrong), Err(Problem::Malformed("a part of the PEM file is not base64")));
        let old = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAQID\n-----END RSA PRIVATE KEY-----";
        assert!(matches!(sections(old), Err(Problem::Unsupported(text)) if text.contains("pkcs8 -topk8")));
    }
}
