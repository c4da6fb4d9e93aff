//! Texts that are compared as a whole. With `REWRITE_GOLDEN` in the environment they are written instead, to be read in the diff.

use std::path::PathBuf;

pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/leader").join(name)
}

pub fn assert_golden(name: &str, text: &str) {
    let path = path(&format!("transcripts/{name}.txt"));
    if std::env::var_os("REWRITE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == text, "{name} is different now:\n{text}");
}
