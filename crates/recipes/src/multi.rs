//! Several locks as one: all or none.
//!
//! Counterpart: Apache Curator's `InterProcessMultiLock`, which takes them in the order given.

use std::time::Duration;

use tokio::time::timeout;

use crate::error::Error;
use crate::guard::Guard;
use crate::lock::Mutex;

/// Several mutexes that are acquired together, in the order of their paths, whatever the order in which they were named. So two contenders
/// whose sets overlap never wait for each other.
///
/// Dropped or cancelled between two of them, those that are held already are released.
///
/// ```
/// # rookeeper_acceptance::example(async |address: String| {
/// use rookeeper_recipes::{MultiLock, Mutex};
/// use zookeeper_client::Client;
///
/// let client = Client::connect(&address).await?;
/// let both = MultiLock::new([Mutex::new(&client, "/accounts/7"), Mutex::new(&client, "/accounts/3")]);
///
/// let guards = both.acquire().await?;
/// assert!(guards[0].path().starts_with("/accounts/3/"), "the order is that of the paths");
/// # drop(guards);
/// # anyhow::Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct MultiLock {
    locks: Vec<Mutex>,
}

impl MultiLock {
    /// These locks as one. A path that is named twice counts once.
    pub fn new(locks: impl IntoIterator<Item = Mutex>) -> MultiLock {
        let mut locks: Vec<Mutex> = locks.into_iter().collect();
        locks.sort_by(|one, other| one.path().cmp(other.path()));
        locks.dedup_by(|one, other| one.path() == other.path());
        MultiLock { locks }
    }

    /// Waits for all of them. The guards stand in the order of the paths, each with its own fencing token.
    ///
    /// # Errors
    ///
    /// As [`Mutex::acquire`]; none is held then.
    pub async fn acquire(&self) -> Result<Vec<Guard>, Error> {
        let mut guards = Vec::with_capacity(self.locks.len());
        for lock in &self.locks {
            guards.push(lock.acquire().await?);
        }
        Ok(guards)
    }

    /// Waits no longer than `limit` for all of them together: then `None`, and none is held.
    ///
    /// # Errors
    ///
    /// As [`Mutex::acquire`].
    pub async fn acquire_within(&self, limit: Duration) -> Result<Option<Vec<Guard>>, Error> {
        match timeout(limit, self.acquire()).await {
            Ok(guards) => guards.map(Some),
            Err(_) => Ok(None),
        }
    }
}
