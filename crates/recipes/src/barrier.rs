//! Barriers: a door that somebody opens, a meeting of so many, and a count down to an opening.
//!
//! Counterparts: Apache Curator's `DistributedBarrier` and `DistributedDoubleBarrier`, kazoo's `Barrier` and `DoubleBarrier`, with the same nodes. The
//! latch has none there. `rendezvous.rs` and `count.rs` are the logic.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex as Turn;
use tokio::time::timeout;
use uuid::Uuid;
use zookeeper_client::{Acls, Client, CreateMode, Error as ClientError};

use crate::count::{Change, Counted, CounterLayout, Counting, OPEN};
use crate::drive::{in_background, refused};
use crate::error::Error;
use crate::name::join;
use crate::perform::Performer;
use crate::rendezvous::{Member, Passage, Watching};

/// A door that is closed as long as its node exists.
///
/// | what happens | what follows |
/// | --- | --- |
/// | the connection is lost | whoever waits goes on waiting; the door stays as it is |
/// | the session expires | [`Error::SessionEnded`] for whoever waits; the door stays as it is |
/// | the process that closed the door dies | the door stays closed: its node is no session's |
/// | an answer is lost | closing and opening are done again, which changes nothing; `true` of [`open`](Barrier::open) is not certain then |
/// | a future is dropped | nothing is left behind by `wait`; closing or opening is done, or not |
///
/// ```
/// # rookeeper_acceptance::example(async |address: String| {
/// use rookeeper_recipes::Barrier;
/// use zookeeper_client::Client;
///
/// let client = Client::connect(&address).await?;
/// let barrier = Barrier::new(&client, "/app/maintenance");
/// barrier.close().await?;
/// let waiting = tokio::spawn({
///     let barrier = barrier.clone();
///     async move { barrier.wait().await }
/// });
/// barrier.open().await?;
/// waiting.await??;
/// # anyhow::Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct Barrier {
    client: Client,
    path: String,
    acls: Acls<'static>,
}

impl Barrier {
    /// The door at `path`. Nothing is sent yet.
    pub fn new(client: &Client, path: &str) -> Barrier {
        Barrier { client: client.clone(), path: path.to_owned(), acls: Acls::anyone_all() }
    }

    /// Who may do what with the nodes; everybody everything if nothing is said.
    pub fn with_acls(mut self, acls: Acls<'static>) -> Barrier {
        self.acls = acls;
        self
    }

    /// Closes the door, if it is not closed.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`], [`Error::Refused`].
    pub async fn close(&self) -> Result<(), Error> {
        loop {
            match self.client.mkdir(&self.path, &CreateMode::Persistent.with_acls(self.acls)).await {
                Ok(()) => return Ok(()),
                Err(error) => refused(&self.path, error)?,
            }
        }
    }

    /// Opens the door, for all who wait. `false` if it was open.
    ///
    /// # Errors
    ///
    /// As [`close`](Barrier::close).
    pub async fn open(&self) -> Result<bool, Error> {
        loop {
            match self.client.delete(&self.path, None).await {
                Ok(()) => return Ok(true),
                Err(ClientError::NoNode) => return Ok(false),
                Err(error) => refused(&self.path, error)?,
            }
        }
    }

    /// Waits until the door is open. Whoever comes after it was closed does not go through because its server has not heard of that.
    ///
    /// # Errors
    ///
    /// As [`close`](Barrier::close).
    pub async fn wait(&self) -> Result<(), Error> {
        Performer::new(&self.client, self.acls).drive(&mut Watching::until_gone(&self.path)).await
    }

    /// Waits no longer than `limit`: then `false`.
    ///
    /// # Errors
    ///
    /// As [`close`](Barrier::close).
    pub async fn wait_within(&self, limit: Duration) -> Result<bool, Error> {
        timeout(limit, self.wait()).await.map_or(Ok(false), |waited| waited.map(|()| true))
    }
}

/// A meeting: `enter` returns when so many are there, `leave` when all have left.
///
/// | what happens | what follows |
/// | --- | --- |
/// | the connection is lost | waiting goes on; whoever is there stays there until its session expires |
/// | the session expires | the member is not there any more, and another is waited for; [`Error::SessionEnded`] |
/// | the answer to a create is lost | the member knows its node by its name |
/// | the process dies | as if its session expired. Who has entered already is not held back, and `leave` does not wait for it |
/// | all die after the opening | what they left behind opens for nobody, and is removed by whoever comes next |
/// | the future of `enter` is dropped | the member leaves, in the background |
/// | the future of `leave` is dropped | the member has left, or leaves in the background; it just does not wait for others |
///
/// Whoever comes when it is open already and members are still there goes through at once. So enter again only after `leave` has returned.
///
/// ```
/// # rookeeper_acceptance::example(async |address: String| {
/// use rookeeper_recipes::DoubleBarrier;
/// use zookeeper_client::Client;
///
/// let client = Client::connect(&address).await?;
/// let barrier = DoubleBarrier::new(&client, "/app/start", 2);
/// let (one, two) = tokio::join!(barrier.enter(), barrier.enter());
/// // Both are there.
/// let (one, two) = tokio::join!(one?.leave(), two?.leave());
/// (one?, two?);
/// # anyhow::Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct DoubleBarrier {
    client: Client,
    path: String,
    acls: Acls<'static>,
    data: Vec<u8>,
    count: usize,
}

impl DoubleBarrier {
    /// The meeting at `path` of `count` members. All have to agree on the count. Nothing is sent yet.
    pub fn new(client: &Client, path: &str, count: usize) -> DoubleBarrier {
        let (client, path) = (client.clone(), path.to_owned());
        DoubleBarrier { client, path, acls: Acls::anyone_all(), data: Vec::new(), count }
    }

    /// What the node of this member says.
    pub fn with_data(mut self, data: impl Into<Vec<u8>>) -> DoubleBarrier {
        self.data = data.into();
        self
    }

    /// Who may do what with the nodes; everybody everything if nothing is said.
    pub fn with_acls(mut self, acls: Acls<'static>) -> DoubleBarrier {
        self.acls = acls;
        self
    }

    /// Waits until so many members are there at once.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`], [`Error::Refused`].
    pub async fn enter(&self) -> Result<Entered, Error> {
        let member = Member::new(&self.path, &Uuid::new_v4().to_string(), self.data.clone(), self.count);
        let performer = Performer::new(&self.client, self.acls);
        // From here on the node may be there, whatever becomes of this future.
        let mut entered = Entered { client: self.client.clone(), acls: self.acls, member, performer, has_left: false };
        entered.performer.drive(&mut entered.member).await?;
        Ok(entered)
    }

    /// Waits no longer than `limit`: then `None`, and the member leaves.
    ///
    /// # Errors
    ///
    /// As [`enter`](DoubleBarrier::enter).
    pub async fn enter_within(&self, limit: Duration) -> Result<Option<Entered>, Error> {
        timeout(limit, self.enter()).await.map_or(Ok(None), |entered| entered.map(Some))
    }
}

/// A member that has entered. Dropped, it leaves, and waits for nobody.
#[must_use = "dropping it leaves"]
#[derive(Debug)]
pub struct Entered {
    client: Client,
    acls: Acls<'static>,
    member: Member,
    performer: Performer,
    has_left: bool,
}

impl Entered {
    /// The whole path of the member's node.
    pub fn path(&self) -> String {
        self.member.node()
    }

    /// Leaves, and waits until all have left.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`], and then this member has left, and nobody knows of the others; [`Error::Refused`].
    pub async fn leave(mut self) -> Result<(), Error> {
        self.out(true).await
    }

    /// Leaves, and waits for nobody.
    ///
    /// # Errors
    ///
    /// As [`leave`](Entered::leave).
    pub async fn withdraw(mut self) -> Result<(), Error> {
        self.out(false).await
    }

    async fn out(&mut self, waits: bool) -> Result<(), Error> {
        self.member.leave(waits);
        let passage = self.performer.drive(&mut self.member).await?;
        self.has_left = passage == Passage::Left;
        Ok(())
    }

    /// Asks the servers, behind a `sync`, whether the member's node still exists. `true` is the truth of a moment between question and answer.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`], and then it does not; [`Error::Refused`].
    pub async fn is_held(&self) -> Result<bool, Error> {
        let path = self.path();
        loop {
            let stat = match self.client.sync(&path).await {
                Ok(()) => self.client.check_stat(&path).await,
                Err(error) => Err(error),
            };
            match stat {
                Ok(stat) => return Ok(stat.is_some()),
                Err(error) => refused(&path, error)?,
            }
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if self.has_left {
            return;
        }
        let (mut member, mut performer) = (self.member.clone(), Performer::new(&self.client, self.acls));
        member.leave_for_certain();
        in_background(async move {
            // An error means that the session is over, which deletes the node.
            let _ = performer.drive(&mut member).await;
        });
    }
}

/// A latch that opens when it has been counted down so many times, and stays open.
///
/// | what happens | what follows |
/// | --- | --- |
/// | the connection is lost, or an answer | each count is made exactly once as long as the session lives |
/// | the session expires | [`Error::SessionEnded`]: the count under way is made, or is not and never will be; all that were made stay |
/// | the process dies | what it has counted stays counted |
/// | the future of a count is dropped | the count is made, or is not |
///
/// ```
/// # rookeeper_acceptance::example(async |address: String| {
/// use rookeeper_recipes::Latch;
/// use zookeeper_client::Client;
///
/// let client = Client::connect(&address).await?;
/// let latch = Latch::new(&client, "/app/warm", 2);
/// assert_eq!(latch.count_down().await?, 1);
/// assert_eq!(latch.count_down().await?, 0);
/// latch.wait().await?;
/// # anyhow::Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct Latch {
    client: Client,
    path: String,
    acls: Acls<'static>,
    count: u32,
    counting: Arc<Turn<Option<(Counting, Performer)>>>,
}

impl Latch {
    /// The latch at `path`, which is made with `count` where it is not there. Nothing is sent yet.
    pub fn new(client: &Client, path: &str, count: u32) -> Latch {
        let (client, path) = (client.clone(), path.to_owned());
        Latch { client, path, acls: Acls::anyone_all(), count, counting: Arc::default() }
    }

    /// Who may do what with the nodes; everybody everything if nothing is said.
    pub fn with_acls(mut self, acls: Acls<'static>) -> Latch {
        self.acls = acls;
        self.counting = Arc::default();
        self
    }

    /// Counts down by one, and says what is left. An open latch stays open.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`], and then nobody knows whether the count was made; [`Error::Refused`]; [`Error::Unsupported`] where the node is no latch.
    pub async fn count_down(&self) -> Result<u32, Error> {
        let mut counting = self.counting.lock().await;
        let (counting, performer) = counting.get_or_insert_with(|| {
            let id = Uuid::new_v4().simple().to_string();
            let counting = Counting::new(&self.path, &id, CounterLayout::Long, self.count.into());
            (counting, Performer::new(&self.client, self.acls))
        });
        counting.begin(Change::CountDown);
        match performer.drive(counting).await? {
            Counted::Done(left) => Ok(u32::try_from(left).unwrap_or(u32::MAX)),
            _ => Err(Error::Unsupported(format!("{} is no latch", self.path))),
        }
    }

    /// Waits until the latch is open.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`], [`Error::Refused`].
    pub async fn wait(&self) -> Result<(), Error> {
        if self.count == 0 {
            return Ok(());
        }
        Performer::new(&self.client, self.acls).drive(&mut Watching::until_there(&join(&self.path, OPEN))).await
    }

    /// Waits no longer than `limit`: then `false`.
    ///
    /// # Errors
    ///
    /// As [`wait`](Latch::wait).
    pub async fn wait_within(&self, limit: Duration) -> Result<bool, Error> {
        timeout(limit, self.wait()).await.map_or(Ok(false), |waited| waited.map(|()| true))
    }
}
