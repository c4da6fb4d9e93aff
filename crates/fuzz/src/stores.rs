//! Key stores and trust stores, which an operator gets from somebody else: the first byte says the type, the rest is the file.

use rookeeper_server::key_stores::{self, StoreType};

/// Of all stores of the corpus.
const PASSWORD: &str = "changeit";

pub fn run(bytes: &[u8]) {
    let Some((kind, file)) = bytes.split_first() else { return };
    let kind = if kind % 2 == 0 { StoreType::Pem } else { StoreType::Java };
    // Without a password too: then no checksum keeps the rest of the reading from nonsense.
    for password in [PASSWORD, ""] {
        if let Ok((keys, certificates)) = key_stores::count(file, kind, password) {
            // Each takes some bytes of the file; a key of PEM has the chain of the whole file.
            assert!(keys <= file.len() && certificates <= (keys + 1) * file.len());
        }
    }
}
