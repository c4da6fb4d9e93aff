//! Why bytes are not the record they should be, or a value is not a jute record.

use std::fmt::Display;

/// A failure to decode or encode; `offset` counts from the first byte handed to the decoder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More bytes may make it a record.
    #[error("record ends early: {needed} more bytes needed at offset {offset}")]
    UnexpectedEnd {
        /// Where the record breaks off.
        offset: usize,
        /// Bytes that are missing for the next value.
        needed: usize,
    },
    /// The bytes are no record, whatever follows.
    #[error("length {length} at offset {offset} is neither -1 nor within 0..={limit}")]
    BadLength {
        /// Where the length stands.
        offset: usize,
        /// What it says.
        length: i32,
        /// The longest that is accepted, in bytes or elements.
        limit: usize,
    },
    /// A field that may not be null is.
    #[error("null at offset {offset} where a value is required")]
    UnexpectedNull {
        /// Where it stands.
        offset: usize,
    },
    /// A Rust type that jute can't express: the caller's mistake.
    #[error("jute has no {0}")]
    Unsupported(&'static str),
    /// In the words of the record's own check.
    #[error("{0}")]
    Custom(String),
}

/// What decoding and encoding return.
pub type Result<T> = std::result::Result<T, Error>;

impl serde::de::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Error::Custom(message.to_string())
    }
}

impl serde::ser::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Error::Custom(message.to_string())
    }
}
