//! What a holder has in its hands: the node that stands for the hold.
//!
//! What always holds: dropping a guard gives up the hold. The deletion is asked for before `drop` returns, and repeated in the background
//! until it is done or the session is over.

use zookeeper_client::{Client, Error as ClientError};

use crate::drive::{delete, in_background, refused};
use crate::error::{Error, SessionEnd};
use crate::place::Holding;

/// What Apache Curator writes into a node whose holder is asked to give way.
const REVOKED: &[u8] = b"__REVOKE__";

/// A lock, a lease or a leadership that is held. Dropped, it is released; [`release`](Guard::release) waits until that is certain.
///
/// A guard is no proof that nobody else holds: see [the map of this crate](crate#what-a-lock-does-not-give).
#[must_use = "dropping a guard releases what it holds"]
#[derive(Debug)]
pub struct Guard {
    client: Client,
    holding: Holding,
    is_released: bool,
}

/// Why a hold is over that nobody released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    #[error(transparent)]
    SessionEnded(SessionEnd),
    /// Somebody else deleted the node.
    #[error("the node was deleted by somebody else")]
    NodeDeleted,
}

impl Guard {
    pub(crate) fn new(client: &Client, holding: Holding) -> Guard {
        Guard { client: client.clone(), holding, is_released: false }
    }

    /// The fencing token: the zxid of the node's creation. Whoever holds later has a greater token. A resource that remembers the greatest
    /// token it has seen, and refuses smaller ones, is safe from holders that do not know yet that they hold no more.
    pub fn token(&self) -> i64 {
        self.holding.czxid
    }

    /// The whole path of the node.
    pub fn path(&self) -> &str {
        &self.holding.path
    }

    /// Waits until the hold is over: the session ended, or somebody deleted the node. While the connection is lost nothing is known, so
    /// this says nothing: watch the client's state as well where a doubt is reason enough to stop.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if the servers do not let the client read the node.
    pub async fn lost(&self) -> Result<Loss, Error> {
        loop {
            let watcher = match self.client.check_and_watch_stat(self.path()).await {
                Ok((Some(stat), watcher)) if stat.czxid == self.token() => watcher,
                Ok(_) => return Ok(Loss::NodeDeleted),
                Err(error) => match refused(self.path(), error) {
                    Ok(()) => continue,
                    Err(Error::SessionEnded(end)) => return Ok(Loss::SessionEnded(end)),
                    Err(error) => return Err(error),
                },
            };
            if let Some(end) = SessionEnd::of(watcher.changed().await.session_state) {
                return Ok(Loss::SessionEnded(end));
            }
        }
    }

    /// Asks the servers, behind a `sync`, whether the node still exists. `true` is the truth of a moment between question and answer.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`], and then the hold is over as well.
    pub async fn is_held(&self) -> Result<bool, Error> {
        loop {
            let stat = match self.client.sync(self.path()).await {
                Ok(()) => self.client.check_stat(self.path()).await,
                Err(error) => Err(error),
            };
            match stat {
                Ok(stat) => return Ok(stat.is_some_and(|stat| stat.czxid == self.token())),
                Err(ClientError::NoNode) => return Ok(false),
                Err(error) => refused(self.path(), error)?,
            }
        }
    }

    /// Waits until somebody asks this holder to give way ([`revoke`]). To give way, drop the guard.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`] or [`Error::Refused`]; a node that is gone counts as asked.
    pub async fn revoked(&self) -> Result<(), Error> {
        loop {
            match self.client.get_and_watch_data(self.path()).await {
                Ok((data, _, _)) if data == REVOKED => return Ok(()),
                Ok((_, _, watcher)) => {
                    if let Some(end) = SessionEnd::of(watcher.changed().await.session_state) {
                        return Err(end.into());
                    }
                }
                Err(ClientError::NoNode) => return Ok(()),
                Err(error) => refused(self.path(), error)?,
            }
        }
    }

    /// Releases, and returns when the node is gone. Cancelled, the release goes on in the background.
    ///
    /// # Errors
    ///
    /// [`Error::SessionEnded`], and then the node goes with the session; [`Error::Refused`] if the servers do not let the client delete it.
    pub async fn release(mut self) -> Result<(), Error> {
        delete(&self.client, self.path()).await?;
        self.is_released = true;
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.is_released {
            return;
        }
        // The request leaves now, also where there is no runtime to wait for its answer.
        let (client, path) = (self.client.clone(), self.holding.path.clone());
        drop(client.delete(&path, None));
        in_background(async move {
            let _ = delete(&client, &path).await;
        });
    }
}

/// Asks the holder, or a waiting contender, whose node this is to give way. Apache Curator's `Revoker` does the same, and its holders listen.
///
/// # Errors
///
/// [`Error::Refused`] with `NoNode` if the node is gone already; [`Error::SessionEnded`].
pub async fn revoke(client: &Client, path: &str) -> Result<(), Error> {
    loop {
        match client.set_data(path, REVOKED, None).await {
            Ok(_) => return Ok(()),
            Err(error) => refused(path, error)?,
        }
    }
}
