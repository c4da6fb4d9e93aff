//! A number that all share.
//!
//! Counterparts: Apache Curator's `DistributedAtomicLong`, `DistributedAtomicInteger` and `SharedCount`, kazoo's `Counter`. `count.rs` is the logic.

use std::sync::Arc;

use tokio::sync::Mutex as Turn;
use uuid::Uuid;
use zookeeper_client::{Acls, Client, Error as ClientError};

use crate::count::{Change, Counted, CounterLayout, Counting};
use crate::drive::refused;
use crate::error::Error;
use crate::perform::Performer;

/// A number; where there is no node it is 0.
///
/// | what happens | what follows |
/// | --- | --- |
/// | the connection is lost, or an answer | each change is made exactly once as long as the session lives |
/// | the session expires | [`Error::SessionEnded`]: the change under way was made, or was not and never will be |
/// | the process dies | what it has changed stays changed |
/// | the future of a change is dropped | the change is made, or is not |
/// | many change at once | each is made; whoever was slower reads again, so use it for some hundred changes a second, not for thousands |
///
/// ```
/// # rookeeper_acceptance::example(async |address: String| {
/// use rookeeper_recipes::Counter;
/// use zookeeper_client::Client;
///
/// let client = Client::connect(&address).await?;
/// let counter = Counter::new(&client, "/app/runs");
/// assert_eq!(counter.add(5).await?, 5);
/// assert_eq!(counter.add(-2).await?, 3);
/// assert!(counter.compare_and_set(3, 10).await?);
/// assert_eq!(counter.get().await?, 10);
/// # anyhow::Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct Counter {
    client: Client,
    path: String,
    layout: CounterLayout,
    acls: Acls<'static>,
    counting: Arc<Turn<Option<(Counting, Performer)>>>,
}

impl Counter {
    /// The number at `path`. Nothing is sent yet.
    pub fn new(client: &Client, path: &str) -> Counter {
        let (client, path) = (client.clone(), path.to_owned());
        Counter { client, path, layout: CounterLayout::default(), acls: Acls::anyone_all(), counting: Arc::default() }
    }

    /// Written as others write it; [`CounterLayout::Long`] if nothing is said.
    pub fn with_layout(mut self, layout: CounterLayout) -> Counter {
        self.layout = layout;
        self.counting = Arc::default();
        self
    }

    /// Who may do what with the nodes; everybody everything if nothing is said.
    pub fn with_acls(mut self, acls: Acls<'static>) -> Counter {
        self.acls = acls;
        self.counting = Arc::default();
        self
    }

    /// The number, behind a `sync`: with all changes that were made before.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`], [`Error::Refused`]; [`Error::Unsupported`] where the node holds no number of this layout.
    pub async fn get(&self) -> Result<i64, Error> {
        loop {
            let data = match self.client.sync(&self.path).await {
                Ok(()) => self.client.get_data(&self.path).await,
                Err(error) => Err(error),
            };
            match data {
                Ok((data, _)) => return self.layout.read(&data).ok_or_else(|| self.no_number()),
                Err(ClientError::NoNode) => return Ok(0),
                Err(error) => refused(&self.path, error)?,
            }
        }
    }

    /// Adds to the number, and says what it is then.
    ///
    /// # Errors
    ///
    /// As [`get`](Counter::get); [`Error::SessionEnded`] says that nobody knows whether the change was made; [`Error::Unsupported`] also where the number
    /// would not fit.
    pub async fn add(&self, amount: i64) -> Result<i64, Error> {
        match self.change(Change::Add(amount)).await? {
            Counted::Done(value) | Counted::Differs(value) => Ok(value),
            outcome => Err(self.error(outcome)),
        }
    }

    /// Sets the number, whatever it was.
    ///
    /// # Errors
    ///
    /// As [`add`](Counter::add).
    pub async fn set(&self, value: i64) -> Result<(), Error> {
        match self.change(Change::Set(value)).await? {
            Counted::Done(_) | Counted::Differs(_) => Ok(()),
            outcome => Err(self.error(outcome)),
        }
    }

    /// Sets the number if it is `expected`; `false` if it is not.
    ///
    /// # Errors
    ///
    /// As [`add`](Counter::add).
    pub async fn compare_and_set(&self, expected: i64, value: i64) -> Result<bool, Error> {
        match self.change(Change::Replace(expected, value)).await? {
            Counted::Done(_) => Ok(true),
            Counted::Differs(_) => Ok(false),
            outcome => Err(self.error(outcome)),
        }
    }

    async fn change(&self, change: Change) -> Result<Counted, Error> {
        let mut counting = self.counting.lock().await;
        let (counting, performer) = counting.get_or_insert_with(|| {
            let counting = Counting::new(&self.path, &Uuid::new_v4().simple().to_string(), self.layout, 0);
            (counting, Performer::new(&self.client, self.acls))
        });
        counting.begin(change);
        performer.drive(counting).await
    }

    fn error(&self, outcome: Counted) -> Error {
        match outcome {
            Counted::TooLarge => Error::Unsupported(format!("the number at {} would not fit", self.path)),
            _ => self.no_number(),
        }
    }

    fn no_number(&self) -> Error {
        Error::Unsupported(format!("{} holds no number of the layout {:?}", self.path, self.layout))
    }
}
