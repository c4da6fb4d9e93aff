//! Jute, the data format of Apache ZooKeeper, as a serde `Serializer` and `Deserializer`.
//!
//! Everything ZooKeeper sends or stores is jute: big-endian integers, one-byte booleans, length-prefixed buffers, strings and
//! vectors (length −1 is null), records as their fields in order. There are no tags, no names and no padding, so a record is a
//! plain struct that derives `Serialize` and `Deserialize`; `Option` is the null of a buffer, string or vector.
//!
//! Reading order: [`de`] (bytes to records, borrowing), [`ser`] (records to bytes), [`types`] ([`Text`] and [`Buffer`], the two
//! field types that plain serde types cannot express), [`error`].
//!
//! What always holds: decoding never panics, never allocates more than a small multiple of the bytes it was given, and ignores
//! surplus bytes after a record, as the original does. Encoding into a `Vec` cannot fail for records built from these types.

#![warn(missing_docs)]

mod de;
mod error;
mod ser;
mod types;

pub use de::{Deserializer, from_slice, from_slice_with_rest};
pub use error::{Error, Result};
pub use ser::{Serializer, append, to_vec};
pub use types::{Buffer, ByteBuf, Text};
