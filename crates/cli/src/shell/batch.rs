//! Changes that go together: each batch is one transaction of the server, which does all of it or nothing.
//!
//! What always holds: no batch is larger than what a server takes by default, unless it has a single change.

use zookeeper_client::{Acls, Client, CreateMode, Error, MultiWriteError, MultiWriter};

use super::failure::{Failure, refused};
use super::walk::Node;

/// Changes and checks in one transaction.
pub(super) const OPERATIONS: u64 = 1_000;
/// Their bytes. A server takes a megabyte by default (`jute.maxbuffer`).
pub(super) const BYTES: u64 = 512 * 1024;
/// What a change takes besides its path, data and access control.
const OVERHEAD: u64 = 48;

/// What a change takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) operations: u64,
    pub(super) bytes: u64,
}

impl Cost {
    pub(super) fn of_change(path: &str) -> Cost {
        Cost { operations: 1, bytes: path.len() as u64 + OVERHEAD }
    }

    pub(super) fn of_create(path: &str, node: &Node) -> Cost {
        let acl: usize = node.acl.iter().map(|entry| entry.scheme().len() + entry.id().len() + 12).sum();
        let Cost { operations, bytes } = Cost::of_change(path);
        Cost { operations, bytes: bytes + (node.data.len() + acl) as u64 }
    }

    pub(super) fn and(self, other: Cost) -> Cost {
        Cost { operations: self.operations + other.operations, bytes: self.bytes + other.bytes }
    }

    /// Whether all of it is one transaction.
    pub(super) fn fits(self) -> bool {
        self.operations <= OPERATIONS && self.bytes <= BYTES
    }
}

/// Changes that are not sent yet.
pub(super) struct Batch<'client> {
    writer: MultiWriter<'client>,
    /// The path of each change, to name the one that was refused.
    paths: Vec<String>,
    cost: Cost,
    /// Transactions that were made.
    pub(super) committed: u64,
}

impl<'client> Batch<'client> {
    pub(super) fn new(client: &'client Client) -> Batch<'client> {
        Batch { writer: client.new_multi_writer(), paths: Vec::new(), cost: Cost::default(), committed: 0 }
    }

    /// Whether these changes go into the same transaction as those before them.
    pub(super) fn has_room(&self, cost: Cost) -> bool {
        self.paths.is_empty() || self.cost.and(cost).fits()
    }

    pub(super) fn check(&mut self, path: &str, version: i32) -> Result<(), Failure> {
        self.note(path, Cost::of_change(path));
        self.writer.add_check_version(path, version).map_err(|error| refused(&error, path))
    }

    /// A node like another one. What cannot be seen of that is not copied: a container, and a time to live.
    pub(super) fn create(&mut self, path: &str, like: &Node) -> Result<(), Failure> {
        self.note(path, Cost::of_create(path, like));
        let options = CreateMode::Persistent.with_acls(Acls::new(&like.acl));
        self.writer.add_create(path, &like.data, &options).map_err(|error| refused(&error, path))
    }

    pub(super) fn delete(&mut self, path: &str, version: i32) -> Result<(), Failure> {
        self.note(path, Cost::of_change(path));
        self.writer.add_delete(path, Some(version)).map_err(|error| refused(&error, path))
    }

    fn note(&mut self, path: &str, cost: Cost) {
        self.paths.push(path.to_owned());
        self.cost = self.cost.and(cost);
    }

    /// Makes all of it one transaction; nothing of it is done where one change is refused.
    pub(super) async fn commit(&mut self) -> Result<(), Failure> {
        let paths = std::mem::take(&mut self.paths);
        self.cost = Cost::default();
        if paths.is_empty() {
            return Ok(());
        }
        match self.writer.commit().await {
            Ok(_) => {
                self.committed += 1;
                Ok(())
            }
            Err(MultiWriteError::OperationFailed { index, source }) => {
                Err(changed(&source, paths.get(index).map_or("", String::as_str)))
            }
            Err(MultiWriteError::RequestFailed { source }) => Err(refused(&source, &paths[0])),
        }
    }
}

/// What it means that a check or a change was refused, while somebody else writes.
fn changed(error: &Error, path: &str) -> Failure {
    match error {
        Error::BadVersion => Failure::Refused(format!("{path} was changed meanwhile")),
        Error::NotEmpty => Failure::Refused(format!("{path} got another child meanwhile")),
        other => refused(other, path),
    }
}
