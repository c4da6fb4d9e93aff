//! Why bytes are not the record they should be, or a value is not a jute record.

use std::fmt::Display;

/// A failure to decode or encode; `offset` counts from the first byte handed to the decoder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("record ends early: {needed} more bytes needed at offset {offset}")]
    UnexpectedEnd { offset: usize, needed: usize },
    #[error("length {length} at offset {offset} is neither -1 nor within 0..={limit}")]
    BadLength { offset: usize, length: i32, limit: usize },
    #[error("null at offset {offset} where a value is required")]
    UnexpectedNull { offset: usize },
    #[error("jute has no {0}")]
    Unsupported(&'static str),
    #[error("{0}")]
    Custom(String),
}

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
