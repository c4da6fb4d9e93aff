//! A distributed mutex: one holder at a time, in the order of arrival.
//!
//! Counterparts: Apache Curator's `InterProcessMutex` and kazoo's `Lock`.

use std::time::Duration;

use zookeeper_client::{Acls, Client};

use crate::error::Error;
use crate::guard::Guard;
use crate::line::{Contender, Kind, Line};
use crate::name::Layout;
use crate::place::Rule;

const MARKERS: &[&str] = &["lock-", "__lock__"];

/// A lock that one contender holds at a time, each in the order of arrival. A release wakes the next contender only.
///
/// | what happens | what follows |
/// | --- | --- |
/// | the connection is lost | waiting goes on, and a hold as well: the session decides |
/// | the session expires | waiting ends with [`Error::SessionEnded`], [`Guard::lost`] says so; another may hold |
/// | the answer to the create is lost | the node is found again by its id, never created twice |
/// | the process dies | its node goes when the session expires |
/// | the future of an `acquire` is dropped | its node is deleted in the background |
/// | somebody deletes the node of a waiting contender | it stands again at the end of the line |
///
/// It is not reentrant: two `acquire` of one process are two contenders.
///
/// ```
/// # rookeeper_acceptance::example(async |address: String| {
/// use rookeeper_recipes::Mutex;
/// use zookeeper_client::Client;
///
/// let client = Client::connect(&address).await?;
/// let lock = Mutex::new(&client, "/app/report");
///
/// let guard = lock.acquire().await?;
/// println!("our turn, with fencing token {}", guard.token());
/// guard.release().await?;
/// # anyhow::Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct Mutex {
    line: Line,
}

impl Mutex {
    /// The lock at `path`, an absolute path. Nothing is sent yet; the first `acquire` makes the path, of containers.
    pub fn new(client: &Client, path: &str) -> Mutex {
        Mutex { line: Line::new(client, path) }
    }

    /// Names nodes as this library does; [`Layout::Curator`] if nothing is said.
    pub fn with_layout(mut self, layout: Layout) -> Mutex {
        self.line.layout = layout;
        self
    }

    /// What the nodes of this contender say: who it is, for those who look.
    pub fn with_data(mut self, data: impl Into<Vec<u8>>) -> Mutex {
        self.line.data = data.into();
        self
    }

    /// Who may do what with the nodes; everybody everything if nothing is said.
    pub fn with_acls(mut self, acls: Acls<'static>) -> Mutex {
        self.line.acls = acls;
        self
    }

    /// The path of the lock.
    pub fn path(&self) -> &str {
        &self.line.path
    }

    fn kind(&self) -> Kind {
        let marker = match self.line.layout {
            Layout::Curator => "lock-",
            Layout::Kazoo => "__lock__",
        };
        Kind { marker, rule: Rule::NobodyBefore(MARKERS) }
    }

    /// Waits for the turn of this contender.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`]; [`Error::Refused`] for a path, permission or quota that does not allow the nodes.
    pub async fn acquire(&self) -> Result<Guard, Error> {
        self.line.take(self.kind()).await
    }

    /// Waits no longer than `limit`. `None` if the turn did not come; the node goes in the background then.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Mutex::acquire).
    pub async fn acquire_within(&self, limit: Duration) -> Result<Option<Guard>, Error> {
        self.line.take_within(self.kind(), limit).await
    }

    /// `None` if somebody else holds or waits; no node of this contender is left then. Still asks the servers, so it takes as long as they do.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Mutex::acquire).
    pub async fn try_acquire(&self) -> Result<Option<Guard>, Error> {
        self.line.try_take(self.kind()).await
    }

    /// Who stands in the line, the holder first, as the server sees it that is asked.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Mutex::acquire).
    pub async fn contenders(&self) -> Result<Vec<Contender>, Error> {
        self.line.contenders(MARKERS).await
    }
}
