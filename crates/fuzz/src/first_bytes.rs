//! What strangers send to a port that takes connections with TLS and without: the input are all bytes of a connection.
//!
//! What always holds: nothing that begins with another byte than a handshake is held for one; nobody comes in who has no certificate of the authority;
//! and what a stranger is answered is bounded by the certificates of this end, not by what was sent.

use std::path::Path;
use std::sync::LazyLock;

use rookeeper_server::strangers::{Beginning, Port};

/// A hello, the certificates, what proves that they are this server's, and an alert.
const MAX_ANSWER: usize = 8 << 10;

static PORT: LazyLock<Port> = LazyLock::new(|| {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/tls"));
    Port::open(&folder.join("member.pem"), &folder.join("authority.pem")).expect("stores that can be used")
});

pub fn run(bytes: &[u8]) {
    match PORT.receive(bytes) {
        Beginning::Plain => assert_ne!(bytes.first(), Some(&0x16)),
        Beginning::Handshake { answered, .. } => {
            assert_eq!(bytes.first(), Some(&0x16));
            assert!(answered <= MAX_ANSWER, "{answered} bytes are answered");
        }
        Beginning::Secure => panic!("somebody without a certificate has come in"),
    }
}
