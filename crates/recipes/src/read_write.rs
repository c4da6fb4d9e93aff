//! A read-write lock: many readers or one writer, in the order of arrival, so neither starves.
//!
//! Counterparts: Apache Curator's `InterProcessReadWriteLock` (markers `__WRIT__` and `__READ__`), kazoo's `WriteLock` and `ReadLock`
//! (`__lock__` and `__rlock__`). The two do not see each other's nodes, so a path belongs to one layout.

use std::time::Duration;

use zookeeper_client::{Acls, Client};

use crate::error::Error;
use crate::guard::Guard;
use crate::line::{Contender, Kind, Line};
use crate::name::Layout;
use crate::place::Rule;

/// A lock that readers share and that a writer has alone.
///
/// A reader waits for the nearest writer before it, a writer for whoever stands before it. So a writer that waits keeps later readers out,
/// and is not starved. A reader that wants to write has to release first: to wait for itself would be a deadlock.
///
/// At connection loss, session expiry, a lost answer and cancellation it behaves as [`Mutex`](crate::Mutex) does.
///
/// ```
/// # rookeeper_acceptance::example(async |address: String| {
/// use rookeeper_recipes::ReadWriteLock;
/// use zookeeper_client::Client;
///
/// let client = Client::connect(&address).await?;
/// let lock = ReadWriteLock::new(&client, "/app/settings");
///
/// let (one, two) = tokio::try_join!(lock.read(), lock.read())?;
/// assert!(lock.try_write().await?.is_none(), "there are readers");
/// one.release().await?;
/// two.release().await?;
/// let writer = lock.write().await?;
/// # drop(writer);
/// # anyhow::Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct ReadWriteLock {
    line: Line,
}

impl ReadWriteLock {
    /// The lock at `path`. Nothing is sent yet.
    pub fn new(client: &Client, path: &str) -> ReadWriteLock {
        ReadWriteLock { line: Line::new(client, path) }
    }

    /// Whose names the nodes get, and whose nodes are seen; [`Layout::Curator`] if nothing is said.
    pub fn with_layout(mut self, layout: Layout) -> ReadWriteLock {
        self.line.layout = layout;
        self
    }

    /// What the nodes of this contender say.
    pub fn with_data(mut self, data: impl Into<Vec<u8>>) -> ReadWriteLock {
        self.line.data = data.into();
        self
    }

    /// Who may do what with the nodes; everybody everything if nothing is said.
    pub fn with_acls(mut self, acls: Acls<'static>) -> ReadWriteLock {
        self.line.acls = acls;
        self
    }

    fn writer(&self) -> Kind {
        match self.line.layout {
            Layout::Curator => Kind { marker: "__WRIT__", rule: Rule::NobodyBefore(&["__WRIT__", "__READ__"]) },
            Layout::Kazoo => Kind { marker: "__lock__", rule: Rule::NobodyBefore(&["__lock__", "__rlock__"]) },
        }
    }

    fn reader(&self) -> Kind {
        match self.line.layout {
            Layout::Curator => Kind { marker: "__READ__", rule: Rule::NobodyBefore(&["__WRIT__"]) },
            Layout::Kazoo => Kind { marker: "__rlock__", rule: Rule::NobodyBefore(&["__lock__"]) },
        }
    }

    /// Waits until no writer stands before this reader.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`], [`Error::Refused`].
    pub async fn read(&self) -> Result<Guard, Error> {
        self.line.take(self.reader()).await
    }

    /// Waits until nobody stands before this writer.
    ///
    /// # Errors
    ///
    /// As [`read`](ReadWriteLock::read).
    pub async fn write(&self) -> Result<Guard, Error> {
        self.line.take(self.writer()).await
    }

    /// As [`read`](ReadWriteLock::read), but no longer than `limit`: then `None`.
    ///
    /// # Errors
    ///
    /// As [`read`](ReadWriteLock::read).
    pub async fn read_within(&self, limit: Duration) -> Result<Option<Guard>, Error> {
        self.line.take_within(self.reader(), limit).await
    }

    /// As [`write`](ReadWriteLock::write), but no longer than `limit`: then `None`.
    ///
    /// # Errors
    ///
    /// As [`read`](ReadWriteLock::read).
    pub async fn write_within(&self, limit: Duration) -> Result<Option<Guard>, Error> {
        self.line.take_within(self.writer(), limit).await
    }

    /// `None` if a writer holds or waits.
    ///
    /// # Errors
    ///
    /// As [`read`](ReadWriteLock::read).
    pub async fn try_read(&self) -> Result<Option<Guard>, Error> {
        self.line.try_take(self.reader()).await
    }

    /// `None` if anybody holds or waits.
    ///
    /// # Errors
    ///
    /// As [`read`](ReadWriteLock::read).
    pub async fn try_write(&self) -> Result<Option<Guard>, Error> {
        self.line.try_take(self.writer()).await
    }

    /// All readers and writers, in the order of arrival.
    ///
    /// # Errors
    ///
    /// As [`read`](ReadWriteLock::read).
    pub async fn contenders(&self) -> Result<Vec<Contender>, Error> {
        self.line.contenders(&["__WRIT__", "__READ__", "__lock__", "__rlock__"]).await
    }
}
