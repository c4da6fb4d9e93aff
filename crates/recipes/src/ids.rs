//! Unique ids: numbers that are given out once, from one node that counts.
//!
//! What always holds: an id belongs to a range that a confirmed write has taken from the count, so nobody else is given it, however processes and
//! servers crash. A write whose answer was lost gives nothing out: its ids are skipped.
//!
//! Layout: the node's data is the greatest id that was given out. In Apache Curator's layout that is a number of 8 bytes, most significant first, as
//! `DistributedAtomicLong` has it; in kazoo's a decimal text, as `Counter` has it. No data is 0. Sequential nodes would do for ids too, but their numbers
//! have 32 bits and cost a node each.

use std::ops::RangeInclusive;
use std::sync::Arc;

use tokio::sync::Mutex;
use zookeeper_client::{Acls, Client, CreateMode, Error as ClientError, MultiWriteError};

use crate::drive::refused;
use crate::error::Error;
use crate::name::{Layout, parent};

/// The version of the data is a number of 32 bits, and -1 stands for any. Long before it comes there the node is made anew.
const RENEW_AT_VERSION: i32 = 1 << 30;

/// Ids from 1 on, each given out once.
///
/// | what happens | what follows |
/// | --- | --- |
/// | the connection is lost | the request is made again; the ids of a write whose answer was lost are skipped |
/// | the session expires | [`Error::SessionEnded`]; ids that were given out stay unique, for they do not depend on the session |
/// | the process dies | the rest of its batch is skipped |
/// | a future is dropped | ids that it was about to take may be skipped |
/// | the node is deleted or set back by somebody | ids come again: nobody may do that |
///
/// Ids of one value and its clones grow. Among processes they grow in the order of time with a batch of 1, the default, and not with larger ones.
///
/// ```
/// # rookeeper_acceptance::example(async |address: String| {
/// use rookeeper_recipes::Ids;
/// use zookeeper_client::Client;
///
/// let client = Client::connect(&address).await?;
/// let orders = Ids::new(&client, "/ids/orders").in_batches_of(100);
/// assert_eq!((orders.next().await?, orders.next().await?), (1, 2));
/// // Another process takes the next batch.
/// assert_eq!(Ids::new(&client, "/ids/orders").next().await?, 101);
/// # anyhow::Ok(()) });
/// ```
#[derive(Debug, Clone)]
pub struct Ids {
    client: Client,
    path: String,
    acls: Acls<'static>,
    layout: Layout,
    batch: u32,
    renew_at_version: i32,
    /// What is left of the last batch: the next id, and the last.
    stock: Arc<Mutex<(i64, i64)>>,
}

impl Ids {
    /// The ids that the node at `path` counts; it is made where it is not there. Nothing is sent yet.
    pub fn new(client: &Client, path: &str) -> Ids {
        Ids {
            client: client.clone(),
            path: path.to_owned(),
            acls: Acls::anyone_all(),
            layout: Layout::Curator,
            batch: 1,
            renew_at_version: RENEW_AT_VERSION,
            stock: Arc::new(Mutex::new((1, 0))),
        }
    }

    /// Takes so many ids with one write, and gives them out one by one. At least 1.
    pub fn in_batches_of(mut self, count: u32) -> Ids {
        self.batch = count.max(1);
        self
    }

    /// Whose layout the node has: that of Curator's `DistributedAtomicLong` if nothing is said, or of kazoo's `Counter`.
    pub fn with_layout(mut self, layout: Layout) -> Ids {
        self.layout = layout;
        self
    }

    /// Who may do what with the node; everybody everything if nothing is said.
    pub fn with_acls(mut self, acls: Acls<'static>) -> Ids {
        self.acls = acls;
        self
    }

    /// The next id.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`]; [`Error::Refused`]; [`Error::NoCount`] for a node that holds something else; [`Error::Exhausted`] after 2^63 - 1 ids.
    pub async fn next(&self) -> Result<i64, Error> {
        let mut stock = self.stock.lock().await;
        if stock.0 > stock.1 {
            let range = self.reserve(self.batch).await?;
            *stock = (*range.start(), *range.end());
        }
        let id = stock.0;
        stock.0 += 1;
        Ok(id)
    }

    /// So many ids in a row, with one write, apart from the batches of [`next`](Ids::next). At least 1.
    ///
    /// # Errors
    ///
    /// As [`next`](Ids::next).
    pub async fn reserve(&self, count: u32) -> Result<RangeInclusive<i64>, Error> {
        let count = i64::from(count.max(1));
        loop {
            let (given, version) = match self.client.get_data(&self.path).await {
                Ok((data, stat)) => (self.decode(&data)?, Some(stat.version)),
                Err(ClientError::NoNode) => (0, None),
                Err(error) => {
                    refused(&self.path, error)?;
                    continue;
                }
            };
            let last = given.checked_add(count).ok_or_else(|| Error::Exhausted { path: self.path.clone() })?;
            if self.write(last, version).await? {
                return Ok(given + 1..=last);
            }
        }
    }

    /// Whether the count was written. If it is not known, or somebody was faster, it counts as not written.
    async fn write(&self, count: i64, version: Option<i32>) -> Result<bool, Error> {
        let data = self.encode(count);
        let options = CreateMode::Persistent.with_acls(self.acls);
        let written = match version {
            None => self.client.create(&self.path, &data, &options).await.map(drop),
            // An answer to this version would be an answer to any.
            Some(-1) => return Err(Error::NoCount { path: self.path.clone(), what: "data of version -1".to_owned() }),
            Some(version) if (0..self.renew_at_version).contains(&version) => {
                self.client.set_data(&self.path, &data, Some(version)).await.map(drop)
            }
            Some(version) => {
                let mut anew = self.client.new_multi_writer();
                let added = anew.add_delete(&self.path, Some(version));
                if let Err(error) = added.and_then(|()| anew.add_create(&self.path, &data, &options)) {
                    return Err(Error::Refused { path: self.path.clone(), error });
                }
                match anew.commit().await {
                    Ok(_) => Ok(()),
                    Err(
                        MultiWriteError::RequestFailed { source } | MultiWriteError::OperationFailed { source, .. },
                    ) => Err(source),
                }
            }
        };
        match written {
            Ok(()) => return Ok(true),
            Err(ClientError::NoNode) if version.is_none() => {
                let made = self.client.mkdir(parent(&self.path), &options).await;
                made.or_else(|error| refused(&self.path, error))?;
            }
            Err(ClientError::NoNode | ClientError::NodeExists | ClientError::BadVersion) => {
                // Somebody was faster: this server may be behind.
                let synced = self.client.sync(&self.path).await;
                synced.or_else(|error| refused(&self.path, error))?;
            }
            Err(error) => refused(&self.path, error)?,
        }
        Ok(false)
    }

    fn encode(&self, count: i64) -> Vec<u8> {
        match self.layout {
            Layout::Curator => count.to_be_bytes().to_vec(),
            Layout::Kazoo => count.to_string().into_bytes(),
        }
    }

    fn decode(&self, data: &[u8]) -> Result<i64, Error> {
        let count = match self.layout {
            _ if data.is_empty() => Some(0),
            Layout::Curator => data.try_into().ok().map(i64::from_be_bytes),
            Layout::Kazoo => std::str::from_utf8(data).ok().and_then(|text| text.parse().ok()),
        };
        count.filter(|count| *count >= 0).ok_or_else(|| Error::NoCount {
            path: self.path.clone(),
            what: format!("{:?}", String::from_utf8_lossy(&data[..data.len().min(40)])),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The version of a node ends at 2^31; here the end comes sooner.
    #[test]
    fn ids_go_on_when_the_version_of_the_node_comes_to_its_end() {
        rookeeper_acceptance::example(async |address: String| {
            let client = Client::connect(&address).await?;
            let ids = Ids { renew_at_version: 3, ..Ids::new(&client, "/a/count") };
            for id in 1..=20 {
                assert_eq!(ids.next().await?, id);
                let version = client.check_stat("/a/count").await?.map(|stat| stat.version);
                assert!(version.is_some_and(|version| version <= 3), "{version:?}");
            }
            anyhow::Ok(())
        });
    }

    #[test]
    fn counts_of_both_layouts() {
        rookeeper_acceptance::example(async |address: String| {
            let client = Client::connect(&address).await?;
            let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
            let near_the_end = (i64::MAX - 2).to_be_bytes();
            client.create("/end", &near_the_end, &options).await?;
            let ids = Ids::new(&client, "/end");
            assert_eq!(ids.reserve(2).await?, i64::MAX - 1..=i64::MAX);
            assert_eq!(ids.next().await, Err(Error::Exhausted { path: "/end".to_owned() }));
            client.create("/text", b"41", &options).await?;
            assert_eq!(Ids::new(&client, "/text").with_layout(Layout::Kazoo).next().await?, 42);
            assert_eq!(client.get_data("/text").await?.0, b"42");
            let other = Ids::new(&client, "/text").next().await;
            assert!(matches!(other, Err(Error::NoCount { what, .. }) if what == "\"42\""));
            anyhow::Ok(())
        });
    }
}
