//! JSON and XML, as Eureka's clients and servers write and read them.
//!
//! - `fields.rs`: which fields an instance has, in which order
//! - `json.rs`, `xml.rs`: how the fields are written
//! - `list.rs`: lists, put together from applications that were encoded before; `gzip.rs`: the same, compressed
//! - `draft.rs`: what a registration says, and when it is refused
//! - `read_json.rs`, `read_xml.rs`: how registrations are read
//! - `server.rs`: what a server says of itself
//! - `snapshot.rs`: what is kept on disk
//! - `batch.rs`: what servers send to each other
//!
//! What always holds here: an application is encoded once for each form that is asked for and shared from then on, and so is a list; reading takes memory in
//! proportion to the bytes that are read, and nests no deeper than a fixed depth.

mod batch;
mod draft;
mod fields;
mod gzip;
mod json;
mod list;
mod read_json;
mod read_xml;
mod server;
mod snapshot;
mod xml;

use std::sync::OnceLock;

pub(crate) use self::batch::write_item;
pub use self::batch::{Action, Answer, Item, PeerAnswer, read_answers, read_applications, read_batch, write_answers};
pub use self::draft::Refused;
pub use self::gzip::Deflated;
pub(crate) use self::list::Assembled;
pub use self::list::{Body, application, applications, instance, is_assembled, is_encoded};
pub use self::server::Server;
pub use self::snapshot::{Cancelled, Damaged, Remembered, SnapshotText, read_snapshot};
use crate::Now;
use crate::instance::Instance;

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    pub format: Format,
    pub detail: Detail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Xml,
}

/// How much of each instance is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    Full,
    /// What a client needs that only wants to call the instance.
    Compact,
}

impl Form {
    fn index(self) -> usize {
        self.format as usize * 2 + self.detail as usize
    }
}

/// What of an application was encoded so far.
#[derive(Debug, Default)]
pub(crate) struct Encoded([OnceLock<list::Fragment>; 4]);

/// Reads a registration. `app`: the application in the path, in upper case.
pub fn read_instance(format: Format, bytes: &[u8], app: &str, now: Now) -> Result<Instance, Refused> {
    let draft = match format {
        Format::Json => read_json::instance(bytes)?,
        Format::Xml => read_xml::instance(bytes)?,
    };
    draft.into_instance(Some(app), now)
}

/// All that a client said of an instance, statuses and times apart, as bytes that can be compared.
pub(crate) fn contents(instance: &Instance) -> Vec<u8> {
    let mut bytes = Vec::new();
    json::contents(&mut bytes, instance);
    bytes
}
