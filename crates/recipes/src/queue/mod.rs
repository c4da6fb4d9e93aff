//! A queue: every item is worked on by one taker at a time, and comes again until somebody acknowledges it.
//!
//! Counterparts: kazoo's `LockingQueue`, and Apache Curator's `DistributedQueue`, `DistributedPriorityQueue` and `DistributedDelayQueue` where they
//! have a lock path. [`QueueLayout`] says whose nodes a queue has.
//!
//! Reading order: `layout.rs`, how nodes are called; `push.rs`, `take.rs`, `settle.rs`, the logic without IO; this file, the queue on a client.

mod layout;
#[cfg(test)]
mod model;
mod push;
mod settle;
mod take;

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex as Turn;
use uuid::Uuid;
use zookeeper_client::{Acls, Client, Error as ClientError};

pub use layout::{DEFAULT_PRIORITY, Places, QueueLayout};
pub use push::{Pushed, Pusher};
pub use settle::{Settle, Settled};
pub use take::{Taken, Takes};

use crate::drive::{in_background, refused};
use crate::error::Error;
use crate::name::join;
use crate::perform::{Performer, now_ms};

/// Items that are pushed in one transaction, at the most.
const BATCH_ITEMS: usize = 100;
/// And their bytes: half of what a server takes in one request.
const BATCH_BYTES: usize = 512 * 1024;

/// What is pushed: bytes, and when and before whom they are taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    data: Vec<u8>,
    priority: Option<i32>,
    delay: Option<Duration>,
}

impl Entry {
    pub fn new(data: impl Into<Vec<u8>>) -> Entry {
        Entry { data: data.into(), priority: None, delay: None }
    }

    /// A smaller one is taken first; between 0 and 999, in Curator's layout any. [`DEFAULT_PRIORITY`] if nothing is said.
    pub fn with_priority(mut self, priority: i32) -> Entry {
        self.priority = Some(priority);
        self
    }

    /// Is not taken before so much time has passed, by the clocks of whoever pushes and whoever takes.
    pub fn with_delay(mut self, delay: Duration) -> Entry {
        self.delay = Some(delay);
        self
    }
}

impl From<&str> for Entry {
    fn from(data: &str) -> Entry {
        Entry::new(data)
    }
}

impl From<String> for Entry {
    fn from(data: String) -> Entry {
        Entry::new(data)
    }
}

impl From<&[u8]> for Entry {
    fn from(data: &[u8]) -> Entry {
        Entry::new(data)
    }
}

impl From<Vec<u8>> for Entry {
    fn from(data: Vec<u8>) -> Entry {
        Entry::new(data)
    }
}

/// A queue of items, each of which is taken, worked on, and acknowledged: at least once.
///
/// | what happens | what follows |
/// | --- | --- |
/// | the connection is lost | whoever pushes or takes goes on when it is back; an item stays taken |
/// | the session expires | items that were taken and not acknowledged are taken by others; [`Error::SessionEnded`] |
/// | the answer to a push is lost | the pusher's own node says whether the items are in; they are never in twice |
/// | the answer to a take is lost | the taken node says whose it is |
/// | the answer to an acknowledgement is lost | it is asked for until the answer is known; only a session that ends meanwhile leaves it open |
/// | the process dies | as if its session expired |
/// | the future of a push is dropped | the items are in, all of one batch or none |
/// | the future of a take is dropped | the next take of this [`Taker`] goes on where it was; no item is lost. A taker that is dropped gives back |
/// | an [`Item`] is dropped | it is given back, in the background |
/// | the future of an `ack` is dropped | the item is acknowledged, or given back |
///
/// ```
/// # rookeeper_acceptance::example(async |address: String| {
/// use rookeeper_recipes::Queue;
/// use zookeeper_client::Client;
///
/// let client = Client::connect(&address).await?;
/// let queue = Queue::new(&client, "/app/mails");
/// queue.push("to alice").await?;
///
/// let mut taker = queue.taker();
/// let item = taker.take().await?;
/// assert_eq!(item.data(), b"to alice");
/// item.ack().await?;
/// # anyhow::Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct Queue {
    client: Client,
    acls: Acls<'static>,
    places: Places,
    limit: Option<usize>,
    /// Made at the first push: the limit is known by then.
    pusher: Arc<Turn<Option<(Pusher, Performer)>>>,
}

impl Queue {
    /// The queue at `path`, with our own layout. Nothing is sent yet.
    pub fn new(client: &Client, path: &str) -> Queue {
        Queue {
            client: client.clone(),
            acls: Acls::anyone_all(),
            places: Places::new(path, QueueLayout::default()),
            limit: None,
            pusher: Arc::default(),
        }
    }

    /// With nodes that others know. All who use a queue have to agree on the layout.
    pub fn with_layout(mut self, layout: QueueLayout) -> Queue {
        self.places = Places::new(self.places.root(), layout);
        self.pusher = Arc::default();
        self
    }

    /// Lets no push make the queue longer than so many items, taken ones included. Holds among those who say so; nobody else is kept from pushing.
    ///
    /// Pushes of several pushers go one after the other then, and each counts the items, at the cost of a request for each thousand of them.
    pub fn with_limit(mut self, items: usize) -> Queue {
        self.limit = Some(items.max(1));
        self.pusher = Arc::default();
        self
    }

    /// Who may do what with the nodes; everybody everything if nothing is said.
    pub fn with_acls(mut self, acls: Acls<'static>) -> Queue {
        self.acls = acls;
        self.pusher = Arc::default();
        self
    }

    /// The path of the queue.
    pub fn path(&self) -> &str {
        self.places.root()
    }

    /// Puts an item in. Waits for room where there is a limit.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`], and then the item is in or is not; [`Error::Refused`]; [`Error::Unsupported`] for a priority or a delay that the layout
    /// does not know.
    pub async fn push(&self, entry: impl Into<Entry>) -> Result<(), Error> {
        self.push_batches(vec![entry.into()], true).await.map(drop)
    }

    /// The same, without waiting: `false` if there is no room.
    ///
    /// # Errors
    ///
    /// As [`push`](Queue::push).
    pub async fn try_push(&self, entry: impl Into<Entry>) -> Result<bool, Error> {
        let left = self.push_batches(vec![entry.into()], false).await?;
        Ok(left == Pushed::Done)
    }

    /// Puts items in, in this order, a hundred in one transaction: much faster than one by one.
    ///
    /// # Errors
    ///
    /// As [`push`](Queue::push). Items of earlier transactions are in then.
    pub async fn push_all<E: Into<Entry>>(&self, entries: impl IntoIterator<Item = E>) -> Result<(), Error> {
        self.push_batches(entries.into_iter().map(Into::into).collect(), true).await.map(drop)
    }

    async fn push_batches(&self, entries: Vec<Entry>, waits: bool) -> Result<Pushed, Error> {
        let now_ms = now_ms();
        let mut named = Vec::with_capacity(entries.len());
        for entry in entries {
            let due_ms = entry.delay.map(|delay| now_ms.saturating_add(delay.as_millis() as u64));
            named.push((self.places.prefix(entry.priority, due_ms)?, self.places.encode(entry.data)));
        }
        let mut pusher = self.pusher.lock().await;
        let (pusher, performer) = pusher.get_or_insert_with(|| {
            let id = Uuid::new_v4().simple().to_string();
            (Pusher::new(self.places.clone(), id, self.limit), Performer::new(&self.client, self.acls))
        });
        let most = self.limit.unwrap_or(BATCH_ITEMS).min(BATCH_ITEMS);
        let mut rest = named.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while let Some((_, data)) = rest.peek()
                && batch.len() < most
                && (batch.is_empty() || bytes + data.len() <= BATCH_BYTES)
            {
                bytes += data.len();
                batch.extend(rest.next());
            }
            pusher.begin(batch, waits);
            if performer.drive(pusher).await? == Pushed::Full {
                return Ok(Pushed::Full);
            }
        }
        Ok(Pushed::Done)
    }

    /// Takes items, one after the other.
    pub fn taker(&self) -> Taker {
        let takes = Takes::new(self.places.clone(), Uuid::new_v4().simple().to_string());
        let performer = Performer::new(&self.client, self.acls);
        Taker { client: self.client.clone(), acls: self.acls, takes, performer, settled: Arc::default() }
    }

    /// How many items there are, with those that are taken and those that are not due, as the server sees it that is asked.
    ///
    /// # Errors
    ///
    /// As [`push`](Queue::push).
    pub async fn count(&self) -> Result<usize, Error> {
        let segments = if self.places.is_segmented() {
            let names = self.children(&self.places.segments()).await?;
            names.iter().filter_map(|name| name.parse().ok()).collect()
        } else {
            vec![0]
        };
        let mut count = 0;
        for segment in segments {
            let path = self.places.entries(segment);
            count += loop {
                match self.client.check_stat(&path).await {
                    Ok(stat) => break stat.map_or(0, |stat| usize::try_from(stat.num_children).unwrap_or_default()),
                    Err(error) => refused(&path, error)?,
                }
            };
        }
        Ok(count)
    }

    async fn children(&self, path: &str) -> Result<Vec<String>, Error> {
        loop {
            match self.client.list_children(path).await {
                Ok(names) => return Ok(names),
                Err(ClientError::NoNode) => return Ok(Vec::new()),
                Err(error) => refused(path, error)?,
            }
        }
    }
}

type SettledItems = Arc<Mutex<Vec<(Taken, bool)>>>;

/// Takes items of one queue, and remembers what it has seen of it. Several of one process work side by side.
#[derive(Debug)]
pub struct Taker {
    client: Client,
    acls: Acls<'static>,
    takes: Takes,
    performer: Performer,
    settled: SettledItems,
}

impl Taker {
    /// Waits for an item that nobody has, the first by priority, then by age.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`], [`Error::Refused`].
    pub async fn take(&mut self) -> Result<Item, Error> {
        loop {
            if let Some(item) = self.next(true).await? {
                return Ok(item);
            }
        }
    }

    /// `None` if there is no item that is due and nobody has.
    ///
    /// # Errors
    ///
    /// As [`take`](Taker::take).
    pub async fn try_take(&mut self) -> Result<Option<Item>, Error> {
        self.next(false).await
    }

    /// Waits no longer than `limit`: then `None`.
    ///
    /// # Errors
    ///
    /// As [`take`](Taker::take).
    pub async fn take_within(&mut self, limit: Duration) -> Result<Option<Item>, Error> {
        match tokio::time::timeout(limit, self.take()).await {
            Ok(item) => item.map(Some),
            Err(_) => Ok(None),
        }
    }

    async fn next(&mut self, waits: bool) -> Result<Option<Item>, Error> {
        for (taken, is_acknowledged) in mem::take(&mut *lock(&self.settled)) {
            self.takes.settled(&taken, is_acknowledged);
        }
        self.takes.wait(waits);
        let Some(taken) = self.performer.drive(&mut self.takes).await? else { return Ok(None) };
        let places = self.takes.places();
        let (entries, takens) = (places.entries(taken.segment), places.taken(taken.segment));
        let (parts, client) = (places.decode(taken.data.clone()), self.client.clone());
        Ok(Some(Item {
            client,
            acls: self.acls,
            path: join(&entries, &taken.name),
            entries,
            takens,
            taken,
            parts,
            settled: self.settled.clone(),
            is_settled: false,
        }))
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        if let Some(settle) = self.takes.give_up() {
            settle_in_background(&self.client, self.acls, settle);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn settle_in_background(client: &Client, acls: Acls<'static>, mut settle: Settle) {
    let mut performer = Performer::new(client, acls);
    in_background(async move {
        // An error means that the session is over, which gives the item back.
        let _ = performer.drive(&mut settle).await;
    });
}

/// An item that nobody else is given as long as the session lives. Dropped, it is given back.
///
/// Whoever was cut off for a session timeout may work on an item that another has been given: make the work such that a second time does no harm, by
/// [`path`](Item::path), which is the item's own at every time it is given.
#[must_use = "an item that is dropped is given back"]
#[derive(Debug)]
pub struct Item {
    client: Client,
    acls: Acls<'static>,
    path: String,
    entries: String,
    takens: String,
    taken: Taken,
    parts: Vec<Vec<u8>>,
    settled: SettledItems,
    is_settled: bool,
}

impl Item {
    /// The item's bytes. Of a node with several items, as only Curator's `putMulti` makes them, the first; see [`parts`](Item::parts).
    pub fn data(&self) -> &[u8] {
        self.parts.first().map_or(&[], Vec::as_slice)
    }

    /// All items of the node: one, but for nodes of Curator's `putMulti`.
    pub fn parts(&self) -> &[Vec<u8>] {
        &self.parts
    }

    /// The whole path of the item's node: the same whenever it is given, and no other item's.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The item is done with: nobody is given it again.
    ///
    /// # Errors
    ///
    /// [`Error::NotHeld`] if somebody deleted the taken node, so that others may have been given the item; [`Error::SessionEnded`], and then the item
    /// may come again; [`Error::Refused`].
    pub async fn ack(self) -> Result<(), Error> {
        self.settle(true).await
    }

    /// Gives the item back: it is taken again, in its old place.
    ///
    /// # Errors
    ///
    /// As [`ack`](Item::ack).
    pub async fn give_back(self) -> Result<(), Error> {
        self.settle(false).await
    }

    async fn settle(mut self, acknowledges: bool) -> Result<(), Error> {
        let mut settle = self.settling(acknowledges);
        let outcome = Performer::new(&self.client, self.acls).drive(&mut settle).await?;
        self.is_settled = true;
        lock(&self.settled).push((self.taken.clone(), acknowledges && outcome == Settled::Done));
        match outcome {
            Settled::Done => Ok(()),
            Settled::NotHeld => Err(Error::NotHeld { path: self.path.clone() }),
        }
    }

    fn settling(&self, acknowledges: bool) -> Settle {
        Settle::new(&self.entries, &self.takens, &self.taken.name, &self.taken.id, acknowledges)
    }

    /// Asks the servers, behind a `sync`, whether the item is still this taker's. `true` is the truth of a moment between question and answer.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`], and then it is not; [`Error::Refused`].
    pub async fn is_held(&self) -> Result<bool, Error> {
        let path = join(&self.takens, &self.taken.name);
        loop {
            let data = match self.client.sync(&path).await {
                Ok(()) => self.client.get_data(&path).await,
                Err(error) => Err(error),
            };
            match data {
                Ok((data, _)) => return Ok(data == self.taken.id.as_bytes()),
                Err(ClientError::NoNode) => return Ok(false),
                Err(error) => refused(&path, error)?,
            }
        }
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        if !self.is_settled {
            lock(&self.settled).push((self.taken.clone(), false));
            // Perhaps an acknowledgement is under way: a look comes first.
            settle_in_background(&self.client, self.acls, self.settling(false).unsure());
        }
    }
}
