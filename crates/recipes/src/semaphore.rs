//! A semaphore: at most so many leases at a time, given out in the order of arrival.
//!
//! Counterpart: Apache Curator's `InterProcessSemaphoreV2`, with the same two lines below the path: `locks`, in which contenders wait for their
//! turn, and `leases`, which has a node for each lease. kazoo's `Semaphore` keeps its leases elsewhere, and does not share with these.

use std::time::Duration;

use tokio::time::timeout;
use zookeeper_client::{Acls, Client};

use crate::error::Error;
use crate::guard::Guard;
use crate::line::{Contender, Kind, Line};
use crate::place::Rule;

const TURN: Kind = Kind { marker: "lock-", rule: Rule::NobodyBefore(&["lock-"]) };
const LEASE: &str = "lease-";

/// At most `count` leases at a time. All processes have to agree on the count, which is stored nowhere.
///
/// The contender whose turn it is waits for a lease to be returned, and alone: the others wait for it. So a lease that is returned wakes
/// one contender. At connection loss, session expiry, a lost answer and cancellation it behaves as [`Mutex`](crate::Mutex) does, for both of
/// its nodes.
///
/// ```
/// # rookeeper_acceptance::example(async |address: String| {
/// use rookeeper_recipes::Semaphore;
/// use zookeeper_client::Client;
///
/// let client = Client::connect(&address).await?;
/// let printers = Semaphore::new(&client, "/app/printers", 2);
///
/// let one = printers.acquire().await?;
/// let two = printers.acquire().await?;
/// assert!(printers.try_acquire().await?.is_none());
/// one.release().await?;
/// let three = printers.acquire().await?;
/// # drop((two, three));
/// # anyhow::Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct Semaphore {
    turns: Line,
    leases: Line,
    count: usize,
}

impl Semaphore {
    /// The semaphore at `path` with `count` leases. Nothing is sent yet.
    pub fn new(client: &Client, path: &str, count: usize) -> Semaphore {
        let line = Line::new(client, path);
        Semaphore { turns: line.below("locks"), leases: line.below("leases"), count }
    }

    /// What the leases of this contender say.
    pub fn with_data(mut self, data: impl Into<Vec<u8>>) -> Semaphore {
        self.leases.data = data.into();
        self
    }

    /// Who may do what with the nodes; everybody everything if nothing is said.
    pub fn with_acls(mut self, acls: Acls<'static>) -> Semaphore {
        self.turns.acls = acls;
        self.leases.acls = acls;
        self
    }

    fn lease(&self) -> Kind {
        Kind { marker: LEASE, rule: Rule::AtMost(self.count) }
    }

    /// Waits for a lease.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`], [`Error::Refused`].
    pub async fn acquire(&self) -> Result<Guard, Error> {
        let turn = self.turns.take(TURN).await?;
        let lease = self.leases.take(self.lease()).await?;
        turn.release().await?;
        Ok(lease)
    }

    /// Waits no longer than `limit`: then `None`.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Semaphore::acquire).
    pub async fn acquire_within(&self, limit: Duration) -> Result<Option<Guard>, Error> {
        match timeout(limit, self.acquire()).await {
            Ok(guard) => guard.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// `None` if there is no lease, or somebody waits for one.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Semaphore::acquire).
    pub async fn try_acquire(&self) -> Result<Option<Guard>, Error> {
        let Some(turn) = self.turns.try_take(TURN).await? else { return Ok(None) };
        let lease = self.leases.try_take(self.lease()).await?;
        turn.release().await?;
        Ok(lease)
    }

    /// The leases that are given out, the oldest first. Whoever waits with its turn has a node there already, so there may be one more than
    /// the count.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Semaphore::acquire).
    pub async fn leases(&self) -> Result<Vec<Contender>, Error> {
        self.leases.contenders(&[LEASE]).await
    }
}
